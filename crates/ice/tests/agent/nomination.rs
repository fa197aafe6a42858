//! Which pair is selected, when it changes, and when it is lost.

use std::time::Instant;

use visavis_ice::{Config, Event, Input, NominationReason, PathClass, RelayTransport, Role, State};

use crate::sim::nat::NatKind;
use crate::sim::{Endpoint, Link, MS, Ours, Place, SECOND, World, address};

fn relayed_places() -> [Place; 2] {
    let place = |side| Place::new(side, NatKind::PortRestricted).with_relay();
    [place(0), place(1)]
}

fn reasons(world: &mut World, side: usize) -> Vec<NominationReason> {
    let events = world.ours(side).events.iter();
    let reasons = events.filter_map(|(_, event)| match event {
        Event::Selected { reason, .. } => Some(*reason),
        _ => None,
    });
    reasons.collect()
}

/// Sends data both ways every 10 ms for `span`, and gives the longest time without data on either side.
fn longest_silence(world: &mut World, span: std::time::Duration) -> std::time::Duration {
    let end = world.now + span;
    let start = world.now;
    world.data = Default::default();
    while world.now < end {
        assert!(world.send_data(0) && world.send_data(1));
        world.run(10 * MS);
    }
    let silence = |arrivals: &Vec<(Instant, _, _)>| {
        let mut times = vec![start];
        times.extend(arrivals.iter().map(|(at, ..)| *at));
        times.push(end);
        times.windows(2).map(|two| two[1] - two[0]).max().unwrap()
    };
    silence(&world.data[0]).max(silence(&world.data[1]))
}

#[test]
fn from_relay_to_direct_without_a_gap() {
    let link = Link { direct_blocked: true, ..Link::default() };
    let mut world = World::pair(1, link, relayed_places());
    assert!(world.connect(2 * SECOND));
    assert_eq!(world.ours(0).agent.selected().unwrap().class, PathClass::RelayUdp);
    world.run(20 * SECOND);
    world.link.direct_blocked = false;
    let silence = longest_silence(&mut world, 5 * SECOND);
    let (a, b) = (PathClass::RelayUdp, PathClass::DirectUdp);
    assert_eq!(
        reasons(&mut world, 0),
        [NominationReason::First, NominationReason::BetterClass { from: a, to: b }]
    );
    assert!(world.is_agreed() && !world.ours(0).gap && !world.ours(1).gap);
    // The first datagrams have a way of 35 ms before them.
    assert!(silence <= 45 * MS, "{silence:?}");
    let followed = reasons(&mut world, 1);
    assert!(matches!(
        followed.last(),
        Some(NominationReason::RemoteNominated { nomination: Some(_) })
    ));
}

#[test]
fn from_direct_to_relay_when_direct_dies_and_back() {
    let mut world = World::pair(2, Link::default(), relayed_places());
    assert!(world.connect(2 * SECOND));
    world.run(10 * SECOND);
    assert_eq!(world.ours(0).agent.selected().unwrap().class, PathClass::DirectUdp);
    world.link.direct_blocked = true;
    let silence = longest_silence(&mut world, 10 * SECOND);
    println!("direct died: {silence:?} without data");
    assert!(silence < 2500 * MS, "{silence:?}");
    assert_eq!(world.ours(0).agent.selected().unwrap().class, PathClass::RelayUdp);
    assert!(world.is_agreed());
    assert!(reasons(&mut world, 0).contains(&NominationReason::PreviousDied));
    world.link.direct_blocked = false;
    let silence = longest_silence(&mut world, 10 * SECOND);
    assert!(silence < 60 * MS, "{silence:?}");
    assert_eq!(world.ours(0).agent.selected().unwrap().class, PathClass::DirectUdp);
    assert!(world.is_agreed() && !world.ours(0).gap && !world.ours(1).gap);
}

#[test]
fn a_path_that_comes_and_goes_is_left_alone_for_longer_each_time() {
    let mut world = World::pair(3, Link::default(), relayed_places());
    assert!(world.connect(2 * SECOND));
    for _ in 0..30 {
        world.link.direct_blocked = !world.link.direct_blocked;
        world.run(4 * SECOND);
    }
    let changes = world.ours(0).selections().len();
    assert!(changes <= 14, "{changes} changes in two minutes");
    assert!(!world.ours(0).gap && !world.ours(1).gap);
}

#[test]
fn a_much_shorter_round_trip_is_changed_to_and_jitter_is_not() {
    let mut places = [Place::new(0, NatKind::Open), Place::new(1, NatKind::Open)];
    places[0].hosts.push(address("203.0.113.11:5000"));
    let link = Link { jitter: 15 * MS, ..Link::default() };
    let mut world = World::pair(4, link, places);
    assert!(world.connect(SECOND));
    world.run(120 * SECOND);
    assert_eq!(reasons(&mut world, 0), [NominationReason::First]);
    let base = world.ours(0).agent.selected().unwrap().path.base();
    world.link.detour = Some((base, 100 * MS));
    world.run(60 * SECOND);
    let reasons = reasons(&mut world, 0);
    assert!(matches!(reasons[..], [_, NominationReason::ShorterRoundTrip { .. }]), "{reasons:?}");
    assert_ne!(world.ours(0).agent.selected().unwrap().path.base(), base);
    assert!(world.is_agreed());
}

#[test]
fn one_role_is_given_up_when_both_have_it() {
    for controlling in [true, false] {
        for seed in 0..10 {
            let ends = [
                Box::new(Ours::new(seed, controlling)) as Box<dyn Endpoint>,
                Box::new(Ours::new(seed + 100, controlling)),
            ];
            let mut world = World::new(seed, Link::default(), relayed_places(), ends);
            assert!(world.connect(2 * SECOND), "{controlling} seed {seed}");
            world.run(2 * SECOND);
            let roles = [world.ours(0).agent.role(), world.ours(1).agent.role()];
            assert_ne!(roles[0], roles[1], "{controlling} seed {seed}");
            assert!(world.is_agreed());
            let changes = (0..2).flat_map(|side| world.ours(side).events.clone());
            let changes =
                changes.filter(|(_, event)| matches!(event, Event::RoleChanged(_))).count();
            assert_eq!(changes, 1, "seed {seed}");
        }
    }
}

#[test]
fn consent_ends_and_nothing_is_sent_any_more() {
    let places = [Place::new(0, NatKind::Open), Place::new(1, NatKind::Open)];
    let mut world = World::pair(5, Link::default(), places);
    assert!(world.connect(SECOND));
    world.run(10 * SECOND);
    world.link.direct_blocked = true;
    let cut = world.now;
    assert!(world.run_until(5 * SECOND, |w| w.ours(0).agent.state() == State::Disconnected));
    let disconnected = world.now - cut;
    assert!((2 * SECOND..=3100 * MS).contains(&disconnected), "{disconnected:?}");
    assert!(world.run_until(40 * SECOND, |w| w.ours(0).agent.state() == State::Failed));
    let failed = world.now - cut;
    assert!((27 * SECOND..=29 * SECOND).contains(&failed), "{failed:?}");
    assert!(world.ours(0).events.iter().any(|(_, e)| matches!(e, Event::ConsentLost { .. })));
    assert_eq!(world.ours(0).agent.selected(), None);
    world.run(2 * SECOND);
    world.sent = Default::default();
    world.link.direct_blocked = false;
    world.run(60 * SECOND);
    assert!(world.sent.iter().all(Vec::is_empty), "only a restart helps");
}

#[test]
fn a_short_break_is_survived() {
    let places = [Place::new(0, NatKind::Open), Place::new(1, NatKind::Open)];
    let mut world = World::pair(6, Link::default(), places);
    assert!(world.connect(SECOND));
    world.link.direct_blocked = true;
    world.run(10 * SECOND);
    assert_eq!(world.ours(0).agent.state(), State::Disconnected);
    world.link.direct_blocked = false;
    world.run(SECOND);
    assert!(world.ends.iter().all(|end| end.is_connected()) && world.is_agreed());
    assert!(!world.ours(0).gap && !world.ours(1).gap);
}

fn without_renomination(seed: u64, link: Link, places: [Place; 2], side: usize) -> World {
    let ends = [0, 1].map(|end| {
        let config = Config { renomination: end != side, ..Config::default() };
        Box::new(Ours::with(seed + end as u64, end == 0, config)) as Box<dyn Endpoint>
    });
    World::new(seed, link, places, ends)
}

#[test]
fn a_peer_without_renomination_follows_to_higher_priorities() {
    for side in [0, 1] {
        let mut world = without_renomination(7, Link::default(), relayed_places(), side);
        assert!(world.connect(2 * SECOND));
        let sent_numbers = world.snapshot(0).generations[0].renomination;
        assert!(!sent_numbers);
        assert_eq!(world.ours(0).agent.selected().unwrap().class, PathClass::DirectUdp);

        let link = Link { direct_blocked: true, ..Link::default() };
        let mut world = without_renomination(8, link, relayed_places(), side);
        assert!(world.connect(2 * SECOND));
        let first = world.ours(0).first_selected().unwrap() - world.start;
        assert!(first > 300 * MS, "relays wait: {first:?}");
        world.link.direct_blocked = false;
        world.run(5 * SECOND);
        assert_eq!(world.ours(0).agent.selected().unwrap().class, PathClass::DirectUdp);
        assert!(world.is_agreed() && !world.ours(0).gap && !world.ours(1).gap);
        assert_eq!(reasons(&mut world, 0).last(), Some(&NominationReason::HigherPriority));
        // And when the direct path dies, both leave it.
        world.link.direct_blocked = true;
        world.run(6 * SECOND);
        assert!(world.is_agreed(), "side {side}");
    }
}

#[test]
fn the_path_that_is_removed_is_left_at_once() {
    for side in [0, 1] {
        let mut places = relayed_places();
        places[side].relays.push(RelayTransport::Tcp);
        let mut world = World::pair(9, Link::default(), places);
        assert!(world.connect(2 * SECOND));
        world.run(2 * SECOND);
        let gone = world.ours(side).agent.selected().unwrap().path;
        world.act(side, |ours, now| ours.input(now, Input::PathRemoved(gone)));
        let next = world.ours(side).agent.selected().unwrap();
        assert_ne!(next.path, gone);
        assert!(reasons(&mut world, side).contains(&NominationReason::PathRemoved));
        assert!(!world.ours(side).gap);
        // The remote peer finds out by itself.
        world.run(4 * SECOND);
        assert!(world.is_agreed(), "side {side}");
        world.act(side, |ours, now| {
            assert!(ours.agent.handle_input(now, Input::PathRemoved(gone)).is_err());
        });
    }
}

#[test]
fn the_only_path_removed_and_another_one_found() {
    let mut places = [Place::new(0, NatKind::Open), Place::new(1, NatKind::Open)];
    places[0].hosts.push(address("203.0.113.77:5000"));
    let mut world = World::pair(10, Link::default(), places);
    assert!(world.connect(SECOND));
    world.run(SECOND);
    for base in ["203.0.113.1:5000", "203.0.113.77:5000"] {
        let path = visavis_ice::Path::Udp { base: address(base) };
        world.act(0, |ours, now| ours.input(now, Input::PathRemoved(path)));
    }
    assert_eq!(world.ours(0).agent.selected(), None);
    assert_eq!(world.ours(0).agent.state(), State::Disconnected);
    let host = visavis_ice::LocalCandidate::Host {
        base: address("203.0.113.77:5000"),
        preference: 1,
        name: None,
    };
    world.act(0, |ours, now| ours.input(now, Input::LocalCandidate(host)));
    assert!(world.run_until(SECOND, |world| world.is_agreed()));
    assert_eq!(world.ours(0).agent.state(), State::Connected);
}

#[test]
fn a_lite_peer_is_controlled_and_told_of_the_selected_pair_alone() {
    let mut ours = Ours::new(11, false);
    let now = World::pair(0, Link::default(), relayed_places()).now;
    let host = |text: &str| visavis_ice::LocalCandidate::Host {
        base: address(text),
        preference: 1,
        name: None,
    };
    ours.input(now, Input::LocalCandidate(host("192.0.2.1:1")));
    let description = visavis_ice::RemoteDescription {
        credentials: visavis_ice::Credentials::new("lite", &"p".repeat(22)).unwrap(),
        lite: true,
        renomination: false,
        candidates: vec![
            visavis_ice::Candidate::parse("candidate:1 1 udp 2122260223 192.0.2.2 5000 typ host")
                .unwrap(),
        ],
    };
    ours.input(now, Input::RemoteDescription(description));
    assert_eq!(ours.agent.role(), Role::Controlling);
    let snapshot = ours.agent.snapshot(now);
    assert_eq!(snapshot.generations[0].pairs[0].checks[0].nomination, None);
}

#[test]
fn nothing_that_connects_is_called_failed() {
    // No candidate in common and both said all: failed before the long time is over.
    let mut world =
        World::pair(12, Link::default(), [0, 1].map(|side| Place::new(side, NatKind::NoUdp)));
    world.offer();
    world.run(SECOND);
    for side in 0..2 {
        world.act(side, |ours, now| ours.input(now, Input::EndOfLocalCandidates));
        world.act(side, |ours, now| ours.input(now, Input::EndOfRemoteCandidates));
    }
    assert_eq!(world.ours(0).agent.state(), State::Checking);
    world.run(12 * SECOND);
    assert_eq!(world.ours(0).agent.state(), State::Failed);

    // Without that it takes the time that was given.
    let mut world =
        World::pair(13, Link::default(), [0, 1].map(|side| Place::new(side, NatKind::NoUdp)));
    world.offer();
    world.run(29 * SECOND);
    assert_eq!(world.ours(0).agent.state(), State::Checking);
    world.run(2 * SECOND);
    assert_eq!(world.ours(0).agent.state(), State::Failed);
}

#[test]
fn a_nat_that_maps_anew_is_followed_by_either_role() {
    for side in [0, 1] {
        for other in [NatKind::Open, NatKind::PortRestricted, NatKind::FullCone] {
            let mut places =
                [Place::new(0, NatKind::PortRestricted), Place::new(1, NatKind::PortRestricted)];
            places[1 - side] = Place::new(1 - side, other);
            let mut world = World::pair(14, Link::default(), places);
            assert!(world.connect(SECOND));
            world.run(5 * SECOND);
            world.nats[side].forget();
            let forgot = world.now;
            let agreed = world.run_until(8 * SECOND, |world| world.is_agreed());
            // A port-restricted NAT of the remote peer lets in nobody from a new port, whom nothing was sent to.
            assert_eq!(agreed, other != NatKind::PortRestricted, "{side} {other:?}");
            if agreed {
                println!(
                    "side {side}, {other:?} on the other: {:?} after the NAT forgot",
                    world.now - forgot
                );
                assert!(!world.ours(0).gap && !world.ours(1).gap);
                let bound = if side == 0 { 900 * MS } else { 2 * SECOND };
                assert!(world.now - forgot < bound);
            }
        }
    }
}

#[test]
fn a_break_of_everything_is_no_reason_to_change() {
    let mut world = World::pair(15, Link::default(), relayed_places());
    assert!(world.connect(SECOND));
    world.run(5 * SECOND);
    let before = world.ours(0).selections().len();
    (world.link.direct_blocked, world.link.relay_blocked) = (true, true);
    world.run(6 * SECOND);
    (world.link.direct_blocked, world.link.relay_blocked) = (false, false);
    world.run(6 * SECOND);
    let after = world.ours(0).selections();
    assert!(after.len() <= before + 2, "{after:?}");
    assert_eq!(world.ours(0).agent.selected().unwrap().class, PathClass::DirectUdp);
    // While nothing answered, nothing was changed.
    let during =
        |(at, _): &&(Instant, _)| *at + 12 * SECOND > world.now && *at + 6 * SECOND < world.now;
    assert_eq!(after.iter().filter(during).count(), 0);
}

#[test]
fn a_path_that_has_died_in_one_direction_is_left() {
    for deaf in [0, 1] {
        let mut world = World::pair(16, Link::default(), relayed_places());
        assert!(world.connect(SECOND));
        world.run(5 * SECOND);
        world.link.deaf = Some(deaf);
        let silence = longest_silence(&mut world, 8 * SECOND);
        assert!(silence < 2500 * MS, "{silence:?}");
        assert_eq!(world.ours(0).agent.selected().unwrap().class, PathClass::RelayUdp);
        assert!(world.is_agreed(), "deaf {deaf}");
    }
}

#[test]
fn changes_for_a_shorter_round_trip_are_some_time_apart() {
    let mut places = [Place::new(0, NatKind::Open), Place::new(1, NatKind::Open)];
    places[0].hosts.push(address("203.0.113.11:5000"));
    let mut world = World::pair(17, Link::default(), places);
    assert!(world.connect(SECOND));
    for _ in 0..30 {
        let base = world.ours(0).agent.selected().unwrap().path.base();
        world.link.detour = Some((base, 300 * MS));
        world.run(4 * SECOND);
    }
    let times: Vec<Instant> = world.ours(0).selections().iter().map(|(at, _)| *at).collect();
    assert!(times.len() > 3);
    assert!(times.windows(2).all(|two| two[1] - two[0] >= 10 * SECOND), "{times:?}");
}

#[test]
fn the_relay_does_not_wait_for_all_pairs_of_many_interfaces() {
    let mut places = relayed_places();
    for (side, place) in places.iter_mut().enumerate() {
        for n in 0..12 {
            place.hosts.push(address(&format!("172.{}.0.{}:1", 17 + n, side + 1)));
        }
    }
    let link = Link { direct_blocked: true, ..Link::default() };
    let mut world = World::pair(18, link, places);
    world.run(100 * MS);
    assert!(world.connect(2 * SECOND));
    let snapshot = world.snapshot(0);
    let took = world.ours(0).first_selected().unwrap() - snapshot.generations[0].started.unwrap();
    assert!(took < 130 * MS, "{took:?}");
    let pairs = &snapshot.generations[0].pairs;
    let relayed = pairs.iter().filter(|pair| pair.class != PathClass::DirectUdp).count();
    assert_eq!((pairs.len() - relayed, relayed), (64, 36));
}

#[test]
fn a_relay_that_was_not_signaled_is_not_taken_for_a_direct_path() {
    let places = [NatKind::Open, NatKind::PortRestricted];
    let places = [Place::new(0, places[0]), Place::new(1, places[1]).with_relay()];
    let link = Link { direct_blocked: true, ..Link::default() };
    let mut world = World::pair(19, link, places);
    world.ours(1).trickles = false;
    world.offer();
    world.run(2 * SECOND);
    let snapshot = world.snapshot(0);
    let relay = address("198.51.100.11:40000");
    let pairs = &snapshot.generations[0].pairs;
    let reflexive: Vec<_> = pairs.iter().filter(|pair| pair.remote == relay).collect();
    assert!(!reflexive.is_empty());
    for pair in reflexive {
        assert_eq!(pair.remote_kind, visavis_ice::CandidateKind::PeerReflexive);
        assert_eq!(pair.class, PathClass::RelayUdp);
    }
}

#[test]
fn a_pair_that_is_nominated_again_after_a_long_silence_has_to_answer_first() {
    // The direct pair was the first one, was dead for longer than consent lasts, and is nominated again.
    for seed in 0..20 {
        let mut world = World::pair(seed, Link { loss: 0.3, ..Link::default() }, relayed_places());
        assert!(world.connect(5 * SECOND));
        world.run(3 * SECOND);
        world.link.direct_blocked = true;
        world.run(40 * SECOND);
        world.link.direct_blocked = false;
        world.run(2 * SECOND);
        world.link.loss = 0.0;
        world.run(8 * SECOND);
        assert!(world.is_agreed(), "seed {seed}");
        assert!(!world.ours(0).gap && !world.ours(1).gap, "seed {seed}");
        for side in 0..2 {
            let lost =
                world.ours(side).events.iter().any(|(_, e)| matches!(e, Event::ConsentLost { .. }));
            assert!(!lost, "seed {seed}");
        }
    }
}

#[test]
fn a_fallback_that_was_not_kept_alive_is_proven_anew_before_it_is_used() {
    // Three ways by one socket, of which one fallback is kept; and both fall away by their addresses.
    let mut places = [Place::new(0, NatKind::Open), Place::new(1, NatKind::Open)];
    places[1].hosts.push(address("203.0.113.12:5000"));
    places[1].hosts.push(address("203.0.113.13:5000"));
    let mut world = World::pair(20, Link::default(), places);
    assert!(world.connect(SECOND));
    world.run(60 * SECOND);
    for _ in 0..2 {
        let gone = world.ours(1).agent.selected().unwrap().path;
        world.act(1, |ours, now| ours.input(now, Input::PathRemoved(gone)));
        assert!(world.run_until(5 * SECOND, |world| world.is_agreed()));
        let lost = |(_, event): &(Instant, Event)| matches!(event, Event::ConsentLost { .. });
        assert!(!world.ours(1).events.iter().any(lost));
    }
}
