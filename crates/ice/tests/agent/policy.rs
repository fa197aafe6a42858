//! What is told, what is used, what is asked for; and the snapshot.

use std::time::Instant;

use visavis_ice::{
    AddressPolicy, Candidate, CandidateAddress, CandidateKind, CandidateOrigin, CheckOutcome,
    Config, Event, IceError, Input, LocalCandidate, LocalName, PairState, Path, PathClass,
    RelayTransport, State,
};

use crate::sim::nat::NatKind;
use crate::sim::{Endpoint, Link, MS, Ours, Place, SECOND, Signal, World, address};

const NAME: &str = "3c1b5ee4-e0a3-4d3e-9b43-5b7a1d5a6c11.local";

fn with_policy(policies: [AddressPolicy; 2], places: [Place; 2]) -> World {
    let ends = [0, 1].map(|end| {
        let config = Config { addresses: policies[end], ..Config::default() };
        Box::new(Ours::with(end as u64, end == 0, config)) as Box<dyn Endpoint>
    });
    World::new(1, Link::default(), places, ends)
}

fn events(ours: &Ours) -> impl Iterator<Item = &Event> {
    ours.events.iter().map(|(_, event)| event)
}

#[test]
fn relays_only_tells_uses_and_asks_for_nothing_else() {
    let open = |side| Place::new(side, NatKind::Open).with_relay();
    for policies in [
        [AddressPolicy::RelayOnly, AddressPolicy::All],
        [AddressPolicy::All, AddressPolicy::RelayOnly],
        [AddressPolicy::RelayOnly, AddressPolicy::RelayOnly],
    ] {
        let mut world = with_policy(policies, [open(0), open(1)]);
        for side in 0..2 {
            let line = format!("candidate:7 1 udp 2122252543 {NAME} 9 typ host");
            world.signal_from(side, Signal::Candidate(line));
        }
        assert!(world.connect(2 * SECOND), "{policies:?}");
        world.run(10 * SECOND);
        let class = world.ours(0).agent.selected().unwrap().class;
        assert_eq!(class, PathClass::RelayUdp, "{policies:?}");
        for side in (0..2).filter(|side| policies[*side] == AddressPolicy::RelayOnly) {
            let ours = world.ours(side);
            assert!(ours.told.iter().all(|told| told.kind == CandidateKind::Relayed));
            let zeros = |told: &Candidate| told.related.is_some_and(|r| r.ip().is_unspecified());
            assert!(ours.told.iter().all(zeros));
            assert!(!events(ours).any(|event| matches!(event, Event::ResolveName(_))));
            assert!(ours.errors.iter().any(|e| matches!(e, IceError::UnusedCandidate(_))));
            let snapshot = world.snapshot(side);
            let pairs = &snapshot.generations[0].pairs;
            assert!(pairs.iter().all(|pair| matches!(pair.path, Path::Relay { .. })));
        }
    }
}

#[test]
fn a_check_that_does_not_come_by_a_relay_is_not_answered_under_relay_only() {
    let open = |side| Place::new(side, NatKind::Open).with_relay();
    let mut world = with_policy([AddressPolicy::All, AddressPolicy::RelayOnly], [open(0), open(1)]);
    world.offer();
    world.run(50 * MS);
    // Somebody told side 0 the address.
    let line = "candidate:7 1 udp 2122252543 203.0.113.2 5000 typ host".to_owned();
    world.signal_from(1, Signal::Candidate(line));
    world.run(5 * SECOND);
    let snapshot = world.snapshot(0);
    let pairs = &snapshot.generations[0].pairs;
    let direct = pairs.iter().find(|pair| pair.remote == address("203.0.113.2:5000")).unwrap();
    assert!(direct.sent > 3 || pairs.iter().any(|pair| pair.selected));
    assert_eq!(direct.answered, 0);
}

#[test]
fn hidden_local_addresses_are_told_by_name_or_not_at_all() {
    let config = Config { addresses: AddressPolicy::HideLocal, ..Config::default() };
    let mut ours = Ours::with(1, true, config);
    let now = start();
    let name = LocalName::parse(NAME).unwrap();
    let host = |base: &str, name: Option<&LocalName>| LocalCandidate::Host {
        base: address(base),
        preference: base.len() as u16,
        name: name.cloned(),
    };
    ours.input(now, Input::LocalCandidate(host("10.0.0.1:1", Some(&name))));
    ours.input(now, Input::LocalCandidate(host("10.0.0.2:1", None)));
    ours.input(
        now,
        Input::LocalCandidate(LocalCandidate::ServerReflexive {
            base: address("10.0.0.1:1"),
            address: address("203.0.113.1:1"),
            server: address("198.51.100.1:1"),
        }),
    );
    let active = LocalCandidate::TcpActive { base: address("10.0.0.1:0"), preference: 1 };
    ours.input(now, Input::LocalCandidate(active));
    ours.drain(now);
    let told: Vec<String> = ours.told.iter().map(Candidate::to_string).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains(NAME) && !told[0].contains("10.0.0"), "{}", told[0]);
    assert!(told[1].contains("typ srflx raddr 0.0.0.0 rport 0"), "{}", told[1]);
    let snapshot = ours.agent.snapshot(now);
    assert_eq!(snapshot.local_candidates.len(), 4);
    assert_eq!(snapshot.local_candidates.iter().filter(|local| local.told).count(), 2);
}

#[test]
fn a_name_is_asked_for_once_and_makes_pairs_when_it_is_resolved() {
    let mut places =
        [Place::new(0, NatKind::PortRestricted), Place::new(1, NatKind::PortRestricted)];
    places[1].lan = places[0].lan;
    places.iter_mut().for_each(|place| place.stun = false);
    let mut world = with_policy([AddressPolicy::All, AddressPolicy::HideLocal], places);
    world.offer();
    let line = format!("candidate:7 1 udp 2122252543 {NAME} 5000 typ host");
    world.signal_from(1, Signal::Candidate(line.clone()));
    world.signal_from(1, Signal::Candidate(line));
    world.run(SECOND);
    let asked: Vec<LocalName> = events(world.ours(0))
        .filter_map(|event| match event {
            Event::ResolveName(name) => Some(name.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(asked.len(), 1);
    // The hidden side has checked already: its address is known as peer-reflexive.
    let name = asked[0].clone();
    let ip = address("10.1.0.1:1").ip();
    world.act(0, |ours, now| ours.input(now, Input::NameResolved { name, address: ip }));
    assert!(world.run_until(SECOND, |world| world.is_agreed()));
    let snapshot = world.snapshot(0);
    let generation = &snapshot.generations[0];
    assert!(generation.unresolved.is_empty());
    assert_eq!(generation.candidates.len(), 1);
    assert!(matches!(generation.candidates[0].origin, CandidateOrigin::Name(_)));
    assert_eq!(generation.candidates[0].kind, CandidateKind::Host);
}

#[test]
fn the_snapshot_tells_what_there_is_to_know() {
    let place = |side| Place::new(side, NatKind::PortRestricted).with_relay();
    let mut world = World::pair(5, Link::default(), [place(0), place(1)]);
    assert!(world.connect(2 * SECOND));
    world.run(15 * SECOND);
    let snapshot = world.snapshot(0);
    assert_eq!(snapshot.state, State::Connected);
    assert_eq!(snapshot.generations.len(), 1);
    let generation = &snapshot.generations[0];
    assert!(generation.renomination && generation.remote_ufrag.is_some());
    let selected = generation.pairs.iter().find(|pair| pair.selected).unwrap();
    assert_eq!(snapshot.selected.map(|pair| pair.id), Some(selected.id));
    assert_eq!(selected.state, PairState::Succeeded);
    let priority = selected.priority;
    let (min, max) = (u64::from(priority.g.min(priority.d)), u64::from(priority.g.max(priority.d)));
    assert_eq!(priority.value, (min << 32) + 2 * max + u64::from(priority.role_bit));
    assert_eq!(selected.local_kind, Some(CandidateKind::ServerReflexive));
    assert_eq!(selected.round_trip, Some(40 * MS));
    assert!(selected.round_trips.len() > 15 && selected.round_trips.len() <= 64);
    assert!(selected.checks.len() <= 32);
    let answered = |outcome| matches!(outcome, CheckOutcome::Answered { .. });
    assert!(selected.checks.iter().rev().skip(1).all(|check| answered(check.outcome)));
    let dead =
        generation.pairs.iter().find(|pair| pair.remote == address("10.1.0.1:5000")).unwrap();
    assert!(dead.lost > 0 && dead.answered == 0);
    assert!(dead.checks.iter().any(|check| check.outcome == CheckOutcome::Lost));
    let consent = snapshot.consent.unwrap();
    assert!(consent.expires - consent.last_answer == 28 * SECOND);
    assert_eq!(snapshot.nominations.last().map(|n| n.pair.id), Some(selected.id));
    let kinds = snapshot.local_candidates.iter().map(|local| local.candidate.kind);
    assert_eq!(
        kinds.collect::<Vec<_>>(),
        [CandidateKind::Host, CandidateKind::ServerReflexive, CandidateKind::Relayed]
    );
    let origins: Vec<_> = generation.candidates.iter().map(|c| c.origin.clone()).collect();
    assert!(origins.contains(&CandidateOrigin::Signaled), "{origins:?}");
    let fallbacks = generation.pairs.iter().filter(|pair| pair.state == PairState::Succeeded);
    assert!(fallbacks.count() > 1, "relayed pairs are kept");
}

#[test]
fn links_of_ipv6_loopback_and_global_addresses_are_kept_apart() {
    let mut ours = Ours::new(1, true);
    let now = start();
    for (n, base) in
        ["[fe80::1%2]:1", "[2001:db8::1]:1", "127.0.0.1:1", "192.0.2.1:1"].iter().enumerate()
    {
        let host = LocalCandidate::Host { base: address(base), preference: n as u16, name: None };
        ours.input(now, Input::LocalCandidate(host));
    }
    let mut credentials = Ours::new(2, false).description();
    for ip in [
        "fe80::9",
        "2001:db8::9",
        "127.0.0.1",
        "192.0.2.9",
        "::ffff:192.0.2.8",
        "0.0.0.0",
        "255.255.255.255",
    ] {
        credentials.candidates.push(format!("candidate:1 1 udp 2122252543 {ip} 9999 typ host"));
    }
    ours.signal(now, Signal::Answer(credentials));
    let drained = ours.drain(now);
    let snapshot = ours.agent.snapshot(now);
    let mut pairs: Vec<String> = snapshot.generations[0]
        .pairs
        .iter()
        .map(|pair| format!("{} {}", pair.path.base(), pair.remote))
        .collect();
    pairs.sort();
    assert_eq!(
        pairs,
        [
            "127.0.0.1:1 127.0.0.1:9999",
            "192.0.2.1:1 192.0.2.8:9999",
            "192.0.2.1:1 192.0.2.9:9999",
            "[2001:db8::1]:1 [2001:db8::9]:9999",
            "[fe80::1%2]:1 [fe80::9]:9999",
        ]
    );
    assert_eq!(ours.errors, [IceError::AddressNotDialled(address("0.0.0.0:9999"))]);
    assert_eq!(drained.transmits.len(), 1);
    // To a link the datagram says which one.
    let mut destinations = vec![drained.transmits[0].destination];
    for step in 1..20 {
        ours.timeout(now + 5 * MS * step);
        destinations.extend(ours.drain(now).transmits.iter().map(|t| t.destination));
    }
    assert!(destinations.contains(&address("[fe80::9%2]:9999")), "{destinations:?}");
}

#[test]
fn candidates_are_ordered_by_the_preference_that_was_given() {
    let mut ours = Ours::new(1, true);
    let now = start();
    for (n, base) in ["10.0.0.1:1", "172.17.0.1:1"].iter().enumerate() {
        let host =
            LocalCandidate::Host { base: address(base), preference: 100 - n as u16, name: None };
        ours.input(now, Input::LocalCandidate(host));
    }
    for (via, n) in [(RelayTransport::Udp, 1), (RelayTransport::Tcp, 2), (RelayTransport::Tls, 3)] {
        let relayed = address(&format!("198.51.100.{n}:1"));
        let (mapped, server) = (address("192.0.2.1:1"), address("198.51.100.9:1"));
        let relay = LocalCandidate::Relay { relayed, via, mapped, server, preference: 1 };
        ours.input(now, Input::LocalCandidate(relay));
    }
    ours.drain(now);
    assert!(ours.told.windows(2).all(|two| two[0].priority > two[1].priority));
    let foundations: std::collections::HashSet<_> =
        ours.told.iter().map(|c| &c.foundation).collect();
    assert_eq!(foundations.len(), 5);
    assert!(matches!(ours.told[0].address, CandidateAddress::Ip(_)));
}

fn start() -> Instant {
    World::pair(0, Link::default(), [Place::new(0, NatKind::Open), Place::new(1, NatKind::Open)])
        .now
}
