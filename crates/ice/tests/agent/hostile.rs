//! What strangers and a malicious remote peer send.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Instant;

use proptest::prelude::*;
use stun_types::attribute::{AttributeType, RawAttribute, Username};
use stun_types::message::{
    BINDING, IntegrityAlgorithm, Message, MessageClass, MessageType, MessageWrite, MessageWriteExt,
    MessageWriteVec, ShortTermCredentials,
};
use visavis_ice::{
    DropCounts, Event, IceSnapshot, Input, LocalCandidate, MAX_PAIRS, MAX_REMOTE_CANDIDATES,
    Output, Path, Received, State, Transmit,
};

use crate::sim::nat::NatKind;
use crate::sim::{Endpoint, Link, MS, Ours, Place, SECOND, Signal, World, address};

fn connected(seed: u64) -> World {
    let places = [Place::new(0, NatKind::Open), Place::new(1, NatKind::Open)];
    let mut world = World::pair(seed, Link::default(), places);
    assert!(world.connect(SECOND));
    world.run(SECOND);
    world
}

const BASE: &str = "203.0.113.1:5000";

fn base() -> Path {
    Path::Udp { base: address(BASE) }
}

/// A message with attributes, and a signature if there is a password.
fn message(
    class: MessageClass,
    transaction: u128,
    username: Option<&str>,
    attributes: &[(u16, &[u8])],
    password: Option<&str>,
) -> Vec<u8> {
    let kind = MessageType::from_class_method(class, BINDING);
    let mut message = Message::builder(kind, transaction.into(), MessageWriteVec::new());
    if let Some(username) = username {
        message.add_attribute(&Username::new(username).unwrap()).unwrap();
    }
    for (kind, value) in attributes {
        message.add_attribute(&RawAttribute::new(AttributeType::new(*kind), value)).unwrap();
    }
    if let Some(password) = password {
        let key = ShortTermCredentials::new(password.to_owned()).make_key();
        message.add_message_integrity_with_key(&key, IntegrityAlgorithm::Sha1).unwrap();
    }
    message.add_fingerprint().unwrap();
    message.finish()
}

const PRIORITY: (u16, &[u8]) = (0x0024, &[0x6e, 0, 1, 255]);
const USE_CANDIDATE: (u16, &[u8]) = (0x0025, &[]);
const CONTROLLED: u16 = 0x8029;
const CONTROLLING: u16 = 0x802a;
const NOMINATION: u16 = 0xc001;

/// All that is known but for what was dropped.
fn known(world: &mut World, side: usize) -> String {
    let snapshot = world.snapshot(side);
    format!("{:?}", IceSnapshot { dropped: DropCounts::default(), ..snapshot })
}

#[test]
fn what_is_not_signed_rightly_changes_nothing() {
    let mut world = connected(1);
    let names = |side: usize, world: &mut World| {
        world.ours(side).agent.local_credentials().ufrag().to_owned()
    };
    let (ours, theirs) = (names(0, &mut world), names(1, &mut world));
    let right = format!("{ours}:{theirs}");
    let before = known(&mut world, 0);
    let stranger = address("198.51.100.66:6666");
    let peer = address("203.0.113.2:5000");
    let last = world.snapshot(0);
    let mut dropped = last.dropped.unauthenticated;
    for source in [stranger, peer] {
        for username in [Some(right.as_str()), Some("who:ever"), Some(&ours), None] {
            for password in [None, Some("a guess"), Some("")] {
                for role in [CONTROLLING, CONTROLLED] {
                    for tie_breaker in [[0; 8], [255; 8]] {
                        let attributes = [
                            PRIORITY,
                            USE_CANDIDATE,
                            (role, &tie_breaker),
                            (NOMINATION, &[255; 4]),
                        ];
                        for class in
                            [MessageClass::Request, MessageClass::Success, MessageClass::Error]
                        {
                            let bytes = message(class, 7, username, &attributes, password);
                            let now = world.now;
                            let ours = world.ours(0);
                            assert_eq!(
                                ours.agent.receive(now, base(), source, &bytes),
                                Received::Stun
                            );
                            dropped += 1;
                            let drained = ours.drain(now);
                            assert!(drained.transmits.is_empty() && drained.signals.is_empty());
                        }
                    }
                }
            }
        }
    }
    assert_eq!(known(&mut world, 0), before);
    let last = world.snapshot(0);
    assert_eq!(last.dropped.unauthenticated, dropped);
}

#[test]
fn an_unsigned_answer_to_a_check_of_ours_changes_nothing() {
    let mut ours = Ours::new(1, true);
    let now = start();
    let host = LocalCandidate::Host { base: address(BASE), preference: 1, name: None };
    ours.input(now, Input::LocalCandidate(host));
    let mut description = Ours::new(2, false).description();
    description.candidates.push("candidate:1 1 udp 2122252543 203.0.113.2 5000 typ host".into());
    let password = description.password.clone();
    ours.signal(now, Signal::Answer(description));
    let check = ours.drain(now).transmits.remove(0);
    let transaction =
        u128::from_be_bytes([&[0; 4], &check.bytes[8..20]].concat().try_into().unwrap());
    let mapped: &[u8] = &[0, 1, 0x32, 0x9a, 0xea, 0x12, 0xd5, 0x43];
    let conflict: &[u8] = &[0, 0, 4, 87];
    let peer = check.destination;
    for password in [None, Some("a guess")] {
        let success =
            message(MessageClass::Success, transaction, None, &[(0x0020, mapped)], password);
        let error =
            message(MessageClass::Error, transaction, None, &[(0x0009, conflict)], password);
        ours.agent.receive(now, base(), peer, &success);
        ours.agent.receive(now, base(), peer, &error);
    }
    assert_eq!(ours.agent.selected(), None);
    assert_eq!(ours.agent.role(), visavis_ice::Role::Controlling);
    // Signed, but from elsewhere, it proves nothing either.
    let success =
        message(MessageClass::Success, transaction, None, &[(0x0020, mapped)], Some(&password));
    ours.agent.receive(now + MS, base(), address("203.0.113.3:5000"), &success);
    assert_eq!(ours.agent.selected(), None);
    let pairs = &ours.agent.snapshot(now).generations[0].pairs;
    assert_eq!((pairs[0].not_symmetric, pairs[0].answered), (1, 0));
    // A signed answer without an address neither.
    ours.input(now + 60 * MS, Input::Timeout);
    let check: Transmit = ours.drain(now).transmits.remove(0);
    let transaction =
        u128::from_be_bytes([&[0; 4], &check.bytes[8..20]].concat().try_into().unwrap());
    let empty = message(MessageClass::Success, transaction, None, &[], Some(&password));
    ours.agent.receive(now + 70 * MS, base(), peer, &empty);
    let pairs = &ours.agent.snapshot(now).generations[0].pairs;
    assert_eq!((pairs[0].rejected, pairs[0].answered), (1, 0));
}

#[test]
fn data_counts_only_from_addresses_that_are_proven() {
    let mut world = connected(2);
    let now = world.now;
    let agent = &mut world.ours(0).agent;
    for bytes in [&b"\x16\xfe\xff"[..], b"\x80data", b"", b"\x00"] {
        let stranger = address("203.0.113.2:5001");
        assert_eq!(agent.receive(now, base(), stranger, bytes), Received::Unproven);
        let peer = address("203.0.113.2:5000");
        assert!(matches!(agent.receive(now, base(), peer, bytes), Received::Data(_)));
        let elsewhere = Path::Udp { base: address("203.0.113.1:1") };
        assert_eq!(agent.receive(now, elsewhere, peer, bytes), Received::Unproven);
    }
    assert!(matches!(agent.poll_output(), Output::Deadline(_)));
}

#[test]
fn data_from_a_signaled_address_does_not_count_before_a_check_has_proven_it() {
    let places = [Place::new(0, NatKind::Open), Place::new(1, NatKind::Open)];
    let link = Link { one_way: 100 * MS, ..Link::default() };
    let mut world = World::pair(12, link, places);
    world.run(MS);
    world.offer();
    world.run(61 * MS);
    let peer = address("203.0.113.2:5000");
    assert!(
        world.snapshot(0).generations[0]
            .pairs
            .iter()
            .any(|pair| pair.remote == peer && pair.sent > 0)
    );
    let now = world.now;
    assert_eq!(world.ours(0).agent.receive(now, base(), peer, b"\x16\xfe\xff"), Received::Unproven);
    world.run(120 * MS);
    let now = world.now;
    assert!(matches!(world.ours(0).agent.receive(now, base(), peer, b"\x16"), Received::Data(_)));
}

#[test]
fn a_check_that_names_another_generation_of_the_sender_makes_no_pair() {
    let mut world = connected(13);
    let ours = world.ours(0).agent.local_credentials().clone();
    let username = format!("{}:other", ours.ufrag());
    let attributes = [PRIORITY, USE_CANDIDATE, (CONTROLLED, &[9; 8][..])];
    let bytes =
        message(MessageClass::Request, 3, Some(&username), &attributes, Some(ours.password()));
    let now = world.now;
    let source = address("203.0.113.99:9");
    world.ours(0).agent.receive(now, base(), source, &bytes);
    let answered = world.ours(0).drain(now).transmits;
    assert_eq!(answered.len(), 1, "it may be a restart whose description is under way");
    assert_eq!(world.snapshot(0).generations[0].pairs.len(), 1);
}

#[test]
fn data_is_classified_in_little_time() {
    #[allow(clippy::disallowed_methods)]
    let wall = Instant::now();
    let mut world = connected(14);
    let now = world.now;
    let peer = address("203.0.113.2:5000");
    let agent = &mut world.ours(0).agent;
    let count = 1_000_000;
    for _ in 0..count {
        assert!(matches!(agent.receive(now, base(), peer, b"\x80data"), Received::Data(_)));
    }
    println!("{count} datagrams of data classified in {:?}", wall.elapsed());
}

fn many_candidates(count: usize) -> Vec<String> {
    let line = |n: usize| {
        format!(
            "candidate:{n} 1 udp {} 203.0.113.{} {} typ host",
            2_000_000_000 - n,
            n % 200 + 3,
            1000 + n
        )
    };
    (0..count).map(line).collect()
}

#[test]
fn twelve_hundred_candidates_are_bounded_and_paced() {
    let mut ours = Ours::new(3, true);
    let start = start();
    for n in 0..16 {
        let host = LocalCandidate::Host {
            base: SocketAddr::from(([192, 0, 2, n + 1], 5000)),
            preference: 1000 - u16::from(n),
            name: None,
        };
        ours.input(start, Input::LocalCandidate(host));
    }
    let mut description = Ours::new(4, false).description();
    description.candidates = many_candidates(1200);
    ours.signal(start, Signal::Answer(description));
    for line in many_candidates(1300).split_off(1200) {
        ours.signal(start, Signal::Candidate(line));
    }
    let mut now = start;
    let mut sent: Vec<(Instant, SocketAddr)> = Vec::new();
    loop {
        let drained = ours.drain(now);
        sent.extend(drained.transmits.iter().map(|transmit| (now, transmit.destination)));
        match drained.deadline.filter(|at| *at <= start + 40 * SECOND) {
            Some(at) => {
                assert!(at > now);
                now = at;
                ours.timeout(now);
            }
            None => break,
        }
    }
    let snapshot = ours.agent.snapshot(now);
    assert_eq!(snapshot.generations[0].candidates.len(), MAX_REMOTE_CANDIDATES);
    assert_eq!(snapshot.generations[0].pairs.len(), MAX_PAIRS);
    assert_eq!(snapshot.dropped.candidates, 1300 - 32);
    let destinations: HashSet<_> = sent.iter().map(|(_, to)| *to).collect();
    assert!(destinations.len() <= MAX_REMOTE_CANDIDATES);
    assert!(sent.windows(2).all(|two| two[1].0 - two[0].0 >= 5 * MS));
    let first_second = sent.iter().filter(|(at, _)| *at < start + SECOND).count();
    println!("1200 candidates: {first_second} checks in the first second, {} in all", sent.len());
    assert!((150..=200).contains(&first_second));
    assert_eq!(ours.agent.state(), State::Failed);
    // All pairs had their turn at the beginning.
    assert!(snapshot.generations[0].pairs.iter().all(|pair| pair.sent > 10));
}

#[test]
fn a_flood_of_signed_checks_is_bounded_and_the_path_stays() {
    flood(connected(5));
    // A relay's candidate has the lowest priority and makes no room for others while it is in use.
    let places = [Place::new(0, NatKind::Open), Place::new(1, NatKind::Open).with_relay()];
    let link = Link { direct_blocked: true, ..Link::default() };
    let mut world = World::pair(5, link, places);
    assert!(world.connect(SECOND));
    world.run(SECOND);
    flood(world);
}

fn flood(mut world: World) {
    let ours = world.ours(0).agent.local_credentials().clone();
    let theirs = world.ours(1).agent.local_credentials().ufrag().to_owned();
    let username = format!("{}:{theirs}", ours.ufrag());
    let selected = world.ours(0).agent.selected();
    let (mut answers, mut checks) = (0, 0);
    for n in 0..20_000_u16 {
        let attributes = [PRIORITY, USE_CANDIDATE, (CONTROLLED, &[9; 8]), (NOMINATION, &[255; 4])];
        let bytes = message(
            MessageClass::Request,
            u128::from(n),
            Some(&username),
            &attributes,
            Some(ours.password()),
        );
        let now = world.now;
        let agent = world.ours(0);
        agent.agent.receive(now, base(), SocketAddr::from(([203, 0, 113, 99], 1024 + n)), &bytes);
        for transmit in agent.drain(now).transmits {
            if transmit.bytes[0] == 1 { answers += 1 } else { checks += 1 }
        }
        if n % 100 == 0 {
            world.run(5 * MS);
        }
    }
    // One second: 500 of them and the 200 that are answered at once.
    assert!((600..=720).contains(&answers), "{answers}");
    assert!(checks <= 205, "{checks}");
    let snapshot = world.snapshot(0);
    let generation = &snapshot.generations[0];
    assert!(generation.candidates.len() <= MAX_REMOTE_CANDIDATES);
    assert!(generation.pairs.len() <= MAX_PAIRS);
    assert!(snapshot.dropped.over_budget > 19_000);
    assert_eq!(world.ours(0).agent.selected(), selected);
    world.run(5 * SECOND);
    assert!(world.is_agreed() && world.ends.iter().all(|end| end.is_connected()));
}

#[test]
fn unknown_attributes_and_missing_ones_are_refused_and_not_followed() {
    let mut world = connected(6);
    let ours = world.ours(0).agent.local_credentials().clone();
    let theirs = world.ours(1).agent.local_credentials().ufrag().to_owned();
    let username = format!("{}:{theirs}", ours.ufrag());
    let other = address("203.0.113.9:9999");
    for (attributes, code) in [
        (vec![PRIORITY, (0x7abc, &[1, 2, 3, 4][..])], 420),
        (vec![(CONTROLLED, &[1; 8][..])], 400),
        (vec![PRIORITY, (CONTROLLED, &[1; 4][..])], 400),
        (vec![PRIORITY, (CONTROLLING, &[0; 8][..])], 487),
    ] {
        let request =
            message(MessageClass::Request, 9, Some(&username), &attributes, Some(ours.password()));
        let now = world.now;
        let agent = world.ours(0);
        agent.agent.receive(now, base(), other, &request);
        let answer =
            agent.drain(now).transmits.into_iter().find(|t| t.destination == other).unwrap();
        assert!(answer.bytes.len() <= request.len() + 40);
        let parsed = Message::from_bytes(&answer.bytes).unwrap();
        let error = parsed.attribute::<stun_types::attribute::ErrorCode>().unwrap();
        assert_eq!(error.code(), code);
    }
    let snapshot = world.snapshot(0);
    assert_eq!(snapshot.generations[0].pairs.len(), 1);
}

#[test]
fn a_candidate_of_another_generation_is_not_used() {
    let mut world = connected(7);
    let line = "candidate:1 1 udp 2122252543 203.0.113.50 5000 typ host ufrag other";
    world.signal_from(1, Signal::Candidate(line.into()));
    world.run(SECOND);
    assert_eq!(world.ours(0).errors, [visavis_ice::IceError::UnknownGeneration]);
    assert!(!world.ours(0).events.iter().any(|(_, e)| matches!(e, Event::RemoteRestarted { .. })));
}

#[test]
fn services_are_not_dialled_over_tcp() {
    let mut ours = Ours::new(8, true);
    let start = start();
    for ip in ["192.0.2.1", "127.0.0.1"] {
        let base = address(&format!("{ip}:0"));
        ours.input(start, Input::LocalCandidate(LocalCandidate::TcpActive { base, preference: 1 }));
    }
    let mut description = Ours::new(9, false).description();
    for (ip, port) in [
        ("127.0.0.1", 4000),
        ("::ffff:127.0.0.1", 4000),
        ("0.0.0.0", 4000),
        ("192.0.2.9", 25),
        ("192.0.2.9", 5000),
    ] {
        let line = format!("candidate:1 1 tcp 1518280447 {ip} {port} typ host tcptype passive");
        description.candidates.push(line);
    }
    ours.signal(start, Signal::Answer(description));
    let mut dialled = HashSet::new();
    for step in 0..400 {
        let now = start + 10 * MS * step;
        ours.timeout(now);
        dialled.extend(ours.drain(now).transmits.into_iter().map(|transmit| transmit.destination));
    }
    assert_eq!(dialled, HashSet::from([address("192.0.2.9:5000")]));
}

fn start() -> Instant {
    World::pair(0, Link::default(), [Place::new(0, NatKind::Open), Place::new(1, NatKind::Open)])
        .now
}

/// A signed message with attributes at random is the worst that a malicious peer can send.
fn any_signed() -> impl Strategy<Value = (u8, Vec<(u16, Vec<u8>)>, u16)> {
    let kinds = prop::sample::select(vec![
        0x0001_u16, 0x0006, 0x0009, 0x000a, 0x0020, 0x0024, 0x0025, 0x8022, 0x8029, 0x802a, 0xc001,
        0x7000,
    ]);
    let attribute = (kinds, prop::collection::vec(any::<u8>(), 0..12));
    (0..4_u8, prop::collection::vec(attribute, 0..6), any::<u16>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_are_survived(datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..120), 0..40)) {
        let mut world = connected(10);
        let before = known(&mut world, 0);
        for mut bytes in datagrams {
            if bytes.len() > 8 {
                bytes[0] &= 3;
                bytes[4..8].copy_from_slice(&[0x21, 0x12, 0xa4, 0x42]);
            }
            let now = world.now;
            world.ours(0).agent.receive(now, base(), address("203.0.113.2:5000"), &bytes);
        }
        prop_assert_eq!(world.ours(0).agent.selected().is_some(), true);
        let after = known(&mut world, 0);
        // Other data is noted; nothing else.
        let without = |text: &str| text.split("last_data").next().map(str::to_owned);
        prop_assert_eq!(without(&after), without(&before));
    }

    #[test]
    fn any_signed_messages_are_survived(messages in prop::collection::vec(any_signed(), 1..60)) {
        let mut world = connected(11);
        let ours = world.ours(0).agent.local_credentials().clone();
        let theirs = world.ours(1).agent.local_credentials().clone();
        let username = format!("{}:{}", ours.ufrag(), theirs.ufrag());
        for (class, attributes, port) in messages {
            let (class, password, username) = match class {
                0 | 1 => (MessageClass::Request, ours.password(), Some(username.as_str())),
                2 => (MessageClass::Success, theirs.password(), None),
                _ => (MessageClass::Error, theirs.password(), None),
            };
            let attributes: Vec<(u16, &[u8])> =
                attributes.iter().map(|(kind, value)| (*kind, value.as_slice())).collect();
            let bytes = message(class, u128::from(port), username, &attributes, Some(password));
            let now = world.now;
            let source = SocketAddr::from(([203, 0, 113, 2], port));
            world.ours(0).agent.receive(now, base(), source, &bytes);
            world.run(20 * MS);
        }
        world.run(8 * SECOND);
        let connected = world.ends.iter().all(|end| end.is_connected());
        prop_assert!(connected);
    }
}
