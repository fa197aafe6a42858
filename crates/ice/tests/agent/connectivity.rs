//! Every two kinds of NAT, and how long it takes.

use std::time::{Duration, Instant};

use visavis_ice::{NominationReason, PathClass, RelayTransport};

use crate::sim::nat::{ALL, NatKind};
use crate::sim::{Link, MS, Ours, Place, SECOND, World};

/// What connects two kinds of NAT when both sides have a relay.
fn expected(a: NatKind, b: NatKind) -> PathClass {
    use NatKind::{NoUdp, Open, PortRestricted, Symmetric};
    match (a, b) {
        (NoUdp, _) | (_, NoUdp) => PathClass::RelayTls,
        (Symmetric, Symmetric | PortRestricted) | (PortRestricted, Symmetric) => {
            PathClass::RelayUdp
        }
        (Open, _) | (_, Open) => PathClass::DirectUdp,
        _ => PathClass::DirectUdp,
    }
}

#[test]
fn every_two_kinds_of_nat_connect_by_the_expected_path() {
    println!(
        "set-up on virtual time: one way 20 ms direct, 35 ms relayed, 30 ms of signaling; from the offer"
    );
    for a in ALL {
        for b in ALL {
            let places = [Place::new(0, a).with_relay(), Place::new(1, b).with_relay()];
            let mut world = World::pair(7, Link::default(), places);
            assert!(world.connect(5 * SECOND), "{a:?} {b:?}");
            let took = world.elapsed();
            let first = world.ours(0).first_selected().unwrap() - world.start;
            // Whatever was first, the best is found soon.
            world.run(SECOND);
            assert!(world.is_agreed(), "{a:?} {b:?}");
            let class = world.ours(0).agent.selected().unwrap().class;
            println!(
                "{a:?} - {b:?}: selected {first:?}, both agree {took:?}, in the end {class:?}"
            );
            // A peer that cannot use UDP has relays reached over TLS, and its open remote peer only its own relay
            // over UDP: either may be the better one.
            let wanted = expected(a, b);
            let best = if wanted == PathClass::RelayTls {
                class >= PathClass::RelayUdp
            } else {
                class == wanted
            };
            assert!(best, "{a:?} {b:?}: {class:?}");
            assert!(!world.ours(0).gap && !world.ours(1).gap);
        }
    }
}

#[test]
fn without_a_relay_kinds_of_nat_connect_that_can() {
    for a in ALL {
        for b in ALL {
            let mut world = World::pair(8, Link::default(), [Place::new(0, a), Place::new(1, b)]);
            let connected = world.connect(5 * SECOND);
            assert_eq!(connected, expected(a, b) == PathClass::DirectUdp, "{a:?} {b:?}");
        }
    }
}

/// When the controlling side knows the remote peer, and when it selected a pair.
fn answer_and_selection(world: &mut World) -> (Instant, Instant) {
    let started = world.snapshot(0).generations[0].started.unwrap();
    (started, world.ours(0).first_selected().unwrap())
}

#[test]
fn a_host_pair_is_selected_one_round_trip_after_both_know_each_other() {
    for one_way in [5, 50, 150] {
        let link = Link { one_way: one_way * MS, ..Link::default() };
        let places = [Place::new(0, NatKind::Open), Place::new(1, NatKind::Open)];
        let mut world = World::pair(1, link, places);
        world.run(MS);
        assert!(world.connect(2 * SECOND));
        let (known, selected) = answer_and_selection(&mut world);
        // The answer took the signaling's 30 ms; for a longer way the controlled side's own check, which left
        // with it, is still under way.
        assert_eq!(selected - known, 2 * one_way * MS);
        // The controlled side was half a round trip later.
        let followed = world.ours(1).first_selected().unwrap();
        assert!(followed <= selected + one_way * MS, "{:?}", followed - selected);
        let first = world.ours(0).events.iter().find_map(|(_, event)| match event {
            visavis_ice::Event::Selected { reason, .. } => Some(*reason),
            _ => None,
        });
        assert_eq!(first, Some(NominationReason::First));
        // Nothing more is sent than checks at ends: no second nomination for one pair.
        assert_eq!(world.ours(0).selections().len(), 1);
        world.run(200 * MS);
        let snapshot = world.snapshot(0);
        let nominations =
            snapshot.generations[0].pairs[0].checks.iter().map(|check| check.nomination);
        assert!(one_way > 5 || nominations.clone().count() <= 2);
        assert!(nominations.clone().all(|nomination| nomination == Some(1)));
    }
}

#[test]
fn restricted_nats_take_one_round_trip_as_well() {
    let places = [NatKind::PortRestricted, NatKind::AddressRestricted];
    let places = [Place::new(0, places[0]), Place::new(1, places[1])];
    let mut world = World::pair(1, Link::default(), places);
    world.run(50 * MS);
    assert!(world.connect(2 * SECOND));
    let (known, selected) = answer_and_selection(&mut world);
    // The host pairs, which lead nowhere here, are checked first.
    assert!(selected - known <= 2 * 20 * MS + 10 * MS, "{:?}", selected - known);
}

#[test]
fn a_check_is_answered_by_one_the_other_way_at_once() {
    // By the time of the answer the controlled side's own checks have become rare, and its NAT was closed to them.
    let places = [0, 1].map(|side| Place::new(side, NatKind::PortRestricted));
    let link = Link { one_way: 5 * MS, signaling: 300 * MS, ..Link::default() };
    let mut world = World::pair(1, link, places);
    world.run(50 * MS);
    assert!(world.connect(2 * SECOND));
    let selected = [0, 1].map(|side| world.ours(side).first_selected().unwrap());
    assert_eq!(selected[1] - selected[0], 5 * MS);
}

#[test]
fn loss_of_a_tenth_delays_but_does_not_hinder() {
    let mut slowest = Duration::ZERO;
    for seed in 0..60 {
        let link = Link { loss: 0.1, jitter: 10 * MS, ..Link::default() };
        let kinds = [ALL[seed as usize % 4], ALL[(seed as usize / 4) % 4]];
        let places = [Place::new(0, kinds[0]).with_relay(), Place::new(1, kinds[1]).with_relay()];
        let mut world = World::pair(seed, link, places);
        assert!(world.connect(10 * SECOND), "seed {seed} {kinds:?}");
        slowest = slowest.max(world.elapsed());
        world.run(20 * SECOND);
        assert!(!world.ours(0).gap && !world.ours(1).gap, "seed {seed}");
        assert!(world.ends.iter().all(|end| end.is_connected()), "seed {seed}");
        let class = world.ours(0).agent.selected().unwrap().class;
        assert_eq!(class, PathClass::DirectUdp, "seed {seed} {kinds:?}");
    }
    println!("10 % loss, 60 calls: the slowest agreed after {slowest:?}");
    assert!(slowest < 1500 * MS, "{slowest:?}");
}

#[test]
fn peers_in_one_network_use_it() {
    let mut places = [Place::new(0, NatKind::Symmetric), Place::new(1, NatKind::Symmetric)];
    places[1].lan = places[0].lan;
    let mut world = World::pair(3, Link::default(), places);
    assert!(world.connect(SECOND));
    let selected = world.ours(0).agent.selected().unwrap();
    assert_eq!(selected.remote, crate::sim::address("10.1.0.1:5000"));
}

#[test]
fn tcp_is_the_last_resort_and_works_where_udp_does_not() {
    let mut places = [Place::new(0, NatKind::NoUdp), Place::new(1, NatKind::Open)];
    for place in &mut places {
        place.tcp = true;
    }
    let mut world = World::pair(4, Link::default(), places.clone());
    assert!(world.connect(3 * SECOND));
    assert_eq!(world.ours(0).agent.selected().unwrap().class, PathClass::DirectTcp);
    assert!(world.elapsed() > SECOND, "{:?}", world.elapsed());

    // Where UDP works no connection is opened.
    places[0].nat = NatKind::FullCone;
    let mut world = World::pair(4, Link::default(), places);
    assert!(world.connect(3 * SECOND));
    world.run(5 * SECOND);
    let tcp = |(_, to): &&(Instant, std::net::SocketAddr)| to.port() == 5001;
    assert_eq!(world.sent[0].iter().chain(&world.sent[1]).filter(tcp).count(), 0);
}

#[test]
fn the_relay_over_udp_is_preferred_to_one_over_tls() {
    let mut places = [Place::new(0, NatKind::Symmetric), Place::new(1, NatKind::Symmetric)];
    places[0].relays = vec![RelayTransport::Tls, RelayTransport::Udp, RelayTransport::Tcp];
    let mut world = World::pair(5, Link::default(), places);
    assert!(world.connect(2 * SECOND));
    world.run(SECOND);
    assert_eq!(world.ours(0).agent.selected().unwrap().class, PathClass::RelayUdp);
    assert!(world.is_agreed());
}

#[test]
fn simulated_calls_are_quick_in_real_time() {
    #[allow(clippy::disallowed_methods)]
    let wall = Instant::now();
    let (mut calls, mut checks) = (0, 0);
    for seed in 0..100 {
        let places = [NatKind::PortRestricted, ALL[seed as usize % 6]];
        let places = [Place::new(0, places[0]).with_relay(), Place::new(1, places[1]).with_relay()];
        let mut world = World::pair(seed, Link { loss: 0.02, ..Link::default() }, places);
        assert!(world.connect(10 * SECOND), "seed {seed}");
        world.run(30 * SECOND);
        calls += 1;
        checks += world.sent[0].len() + world.sent[1].len();
    }
    println!("{calls} calls of 30 s, {checks} datagrams: {:?} of real time", wall.elapsed());
}

#[test]
fn the_second_of_many_interfaces_is_found_as_well() {
    let mut places = [Place::new(0, NatKind::Open), Place::new(1, NatKind::Open)];
    for (n, bridge) in ["172.17.0.1:1", "172.18.0.1:1", "172.19.0.1:1"].iter().enumerate() {
        places[0].hosts.insert(n, crate::sim::address(bridge));
        places[1].hosts.insert(n, crate::sim::address(&bridge.replace(".0.1:", ".0.2:")));
    }
    let mut world = World::pair(6, Link::default(), places);
    assert!(world.connect(SECOND));
    let ours: &mut Ours = world.ours(0);
    assert_eq!(ours.agent.selected().unwrap().remote, crate::sim::address("203.0.113.2:5000"));
}
