#![allow(clippy::unwrap_used)]

use super::*;

const MS: Duration = Duration::from_millis(1);

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn gatherer() -> Gatherer {
    let mut state = 1_u64;
    let random = move |bytes: &mut [u8]| {
        for byte in bytes {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = (state >> 33) as u8;
        }
    };
    Gatherer::new(GathererConfig::default(), random)
}

/// Time, base, server and transaction.
type Sent = (Instant, SocketAddr, SocketAddr, u128);

/// Everything sent within `span`, and what was told.
fn run(
    gatherer: &mut Gatherer,
    now: &mut Instant,
    span: Duration,
) -> (Vec<Sent>, Vec<GatherEvent>) {
    let end = *now + span;
    let (mut sent, mut events) = (Vec::new(), Vec::new());
    loop {
        match gatherer.poll_output() {
            GatherOutput::Transmit(transmit) => {
                let parsed = Parsed::read(&transmit.bytes).unwrap();
                assert_eq!(parsed.kind(), Kind::Request);
                let base = transmit.path.base();
                sent.push((*now, base, transmit.destination, parsed.transaction()));
            }
            GatherOutput::Event(event) => events.push(event),
            GatherOutput::Deadline(Some(at)) if at <= end => {
                assert!(at > *now, "a deadline that is over");
                *now = at;
                gatherer.handle_timeout(*now);
            }
            GatherOutput::Deadline(_) => {
                *now = end;
                return (sent, events);
            }
        }
    }
}

const BASE: &str = "10.0.0.1:4000";
const SERVER: &str = "198.51.100.1:3478";

fn asked_once() -> (Gatherer, Instant, u128) {
    let mut now = crate::test_time();
    let mut gatherer = gatherer();
    gatherer.add_base(now, address(BASE)).unwrap();
    gatherer.add_server(now, StunServer { addresses: vec![address(SERVER)] }).unwrap();
    let (sent, _) = run(&mut gatherer, &mut now, 20 * MS);
    assert_eq!(sent.len(), 1);
    (gatherer, now, sent[0].3)
}

#[test]
fn an_answer_gives_a_candidate_and_later_ones_keep_the_binding() {
    let (mut gatherer, mut now, transaction) = asked_once();
    let mapped = address("203.0.113.5:6000");
    let answer = stun::server_success(transaction, mapped);
    // From elsewhere, or for another socket, it is nobody's.
    assert!(!gatherer.receive(now, address(BASE), address("198.51.100.9:3478"), &answer));
    assert!(!gatherer.receive(now, address("10.0.0.1:1"), address(SERVER), &answer));
    assert!(gatherer.receive(now, address(BASE), address(SERVER), &answer));
    let candidate = LocalCandidate::ServerReflexive {
        base: address(BASE),
        address: mapped,
        server: address(SERVER),
    };
    let found = GatherEvent::Candidate { candidate, round_trip: 20 * MS };
    let (sent, events) = run(&mut gatherer, &mut now, Duration::from_secs(31));
    assert_eq!(events, [found, GatherEvent::Done]);
    assert_eq!(sent.len(), 2, "one request each 15 s");
    // The same mapping is nothing new, another one is.
    let known = stun::server_success(sent[1].3, mapped);
    assert!(gatherer.receive(now, address(BASE), address(SERVER), &known));
    let other = stun::server_success(sent[1].3, address("203.0.113.5:6001"));
    assert!(gatherer.receive(now, address(BASE), address(SERVER), &other));
    let (_, events) = run(&mut gatherer, &mut now, MS);
    assert!(matches!(events[..], [GatherEvent::Candidate { .. }]), "{events:?}");
    gatherer.keep_alive(now, false);
    let (sent, _) = run(&mut gatherer, &mut now, Duration::from_secs(60));
    assert!(sent.is_empty());
}

#[test]
fn a_silent_server_is_asked_at_growing_intervals_and_then_given_up() {
    let mut now = crate::test_time();
    let start = now;
    let mut gatherer = gatherer();
    gatherer.add_base(now, address(BASE)).unwrap();
    gatherer.add_server(now, StunServer { addresses: vec![address(SERVER)] }).unwrap();
    let (sent, events) = run(&mut gatherer, &mut now, Duration::from_secs(60));
    let times: Vec<u128> = sent.iter().map(|s| (s.0 - start).as_millis()).collect();
    assert_eq!(times, [0, 250, 750, 1750, 3750, 7750]);
    assert!(sent.iter().all(|s| s.3 == sent[0].3), "one transaction");
    let (base, server) = (address(BASE), address(SERVER));
    let failed = GatherEvent::Failed { base, server, reason: GatherFailure::Timeout };
    assert_eq!(events, [failed, GatherEvent::Done]);
}

#[test]
fn families_and_addresses_are_tried_side_by_side() {
    let mut now = crate::test_time();
    let start = now;
    let mut gatherer = gatherer();
    for base in ["10.0.0.1:1", "[2001:db8::1]:1", "127.0.0.1:1", "[fe80::1]:1"] {
        gatherer.add_base(now, address(base)).unwrap();
    }
    let addresses = ["198.51.100.1:1", "198.51.100.2:1", "[2001:db8:1::1]:1", "224.0.0.1:1"];
    let addresses = addresses.iter().map(|text| address(text)).collect();
    gatherer.add_server(now, StunServer { addresses }).unwrap();
    let (sent, _) = run(&mut gatherer, &mut now, 249 * MS);
    let order: Vec<_> = sent.iter().map(|s| (s.2, (s.0 - start).as_millis())).collect();
    assert_eq!(order, [(address("[2001:db8:1::1]:1"), 0), (address("198.51.100.1:1"), 5)]);
    let (sent, _) = run(&mut gatherer, &mut now, 20 * MS);
    assert!(sent.iter().any(|s| s.2 == address("198.51.100.2:1")), "{sent:?}");
}

#[test]
fn many_requests_are_paced_and_bounded() {
    let mut now = crate::test_time();
    let mut gatherer = gatherer();
    for n in 0..MAX_SERVERS as u8 {
        let addresses = (0..10).map(|k| SocketAddr::from(([198, 51, n, k + 1], 3478))).collect();
        gatherer.add_server(now, StunServer { addresses }).unwrap();
    }
    assert!(gatherer.add_server(now, StunServer { addresses: vec![address(SERVER)] }).is_err());
    for n in 0..MAX_BASES as u8 {
        gatherer.add_base(now, SocketAddr::from(([10, 0, 0, n], 4000))).unwrap();
    }
    assert!(gatherer.add_base(now, address("10.0.1.1:1")).is_err());
    let (sent, _) = run(&mut gatherer, &mut now, Duration::from_secs(1));
    assert!(sent.windows(2).all(|two| two[1].0 >= two[0].0 + 5 * MS));
    assert!(sent.len() <= 201);
}
