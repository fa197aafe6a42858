//! Entering, passing signals, leaving.

use super::*;

#[test]
fn two_meet_and_pass_signals() {
    let mut bench = Bench::new();
    let (a, outputs) = bench.join(join("a", None));
    assert_eq!(outputs, []);
    assert!(a.peers.is_empty() && !a.polite && !a.resumed);
    let (b, outputs) = bench.join(join("b", None));
    assert_eq!(told(&outputs, &a), ["peer-joined b"]);
    assert_eq!(
        b.peers,
        [PeerInfo { peer_id: a.peer_id.clone(), session: session("a"), display_name: None }]
    );
    assert!(b.polite);
    assert_ne!(a.peer_id, b.peer_id);
    let outputs = bench.say(a.connection, signal(&b, "1"));
    assert_eq!(told(&outputs, &b), ["1"]);
    assert_eq!(outputs.len(), 1);
    assert_eq!(bench.rooms.counters().signals_relayed, 1);
}

#[test]
fn rooms_do_not_hear_each_other() {
    let mut bench = Bench::new();
    let (a, _) = bench.join(join("a", None));
    let (other, outputs) = bench.join(join_room("xyz-xyz", "o", None, None));
    assert_eq!(outputs, []);
    let outputs = bench.say(other.connection, signal(&a, "1"));
    assert_eq!(refused(&outputs, other.connection), (vec!["no-such-peer"], false));
    assert_eq!(outputs.len(), 1);
    // Nor does anybody hear himself.
    let outputs = bench.say(a.connection, signal(&a, "1"));
    assert_eq!(refused(&outputs, a.connection), (vec!["no-such-peer"], false));
}

#[test]
fn roles_always_differ() {
    let mut bench = Bench::new();
    let (a, b) = bench.pair();
    assert_ne!(a.polite, b.polite);
    let outputs = bench.say(a.connection, LEAVE);
    assert_eq!(told(&outputs, &b), ["peer-left Left"]);
    assert_eq!(told(&outputs, &a), ["close"]);
    let (c, _) = bench.join(join("c", None));
    assert_ne!(c.polite, b.polite);
    bench.say(b.connection, LEAVE);
    let (d, _) = bench.join(join("d", None));
    assert_ne!(c.polite, d.polite);
}

#[test]
fn an_empty_room_is_gone() {
    let mut bench = Bench::new();
    let (a, b) = bench.pair();
    bench.say(a.connection, LEAVE);
    assert_eq!(bench.rooms.room_count(), 1);
    bench.say(b.connection, LEAVE);
    assert_eq!((bench.rooms.room_count(), bench.rooms.connection_count()), (0, 0));
}

#[test]
fn a_closed_page_is_gone_soon_and_a_reloaded_one_comes_back() {
    let mut bench = Bench::new();
    let (a, b) = bench.pair();
    let outputs = bench.say(b.connection, LEAVE_FOR_NOW);
    assert_eq!(told(&outputs, &b), ["close"]);
    assert_eq!(told(&outputs, &a), Vec::<String>::new());
    bench.pass(Duration::from_secs(2));
    let (b, outputs) = bench.join(join("b2", Some(&b.token)));
    assert_eq!(told(&outputs, &a), ["peer-joined b2"]);
    bench.pass(Duration::from_secs(8));
    assert_eq!(bench.rooms.seat_count(), 2);
    bench.ping(a.connection, None);
    bench.say(b.connection, LEAVE_FOR_NOW);
    assert_eq!(told(&bench.pass(Duration::from_millis(4500)), &a), Vec::<String>::new());
    assert_eq!(told(&bench.pass(Duration::from_secs(1)), &a), ["peer-left Left"]);
}

#[test]
fn who_gives_up_says_so() {
    let mut bench = Bench::new();
    let (a, b) = bench.pair();
    let outputs =
        bench.say(b.connection, ClientMessage::Leave { may_return: false, gave_up: true });
    assert_eq!(told(&outputs, &a), ["peer-left GaveUp"]);
}

#[test]
fn signals_for_another_life_are_not_passed_on() {
    let mut bench = Bench::new();
    let (a, b) = bench.pair();
    let to = |life: &str| ClientMessage::Signal {
        to: b.peer_id.clone(),
        session: Some(session(life)),
        payload: payload("1"),
    };
    assert_eq!(told(&bench.say(a.connection, to("b")), &b), ["1"]);
    let (again, _) = bench.join(join("b2", Some(&b.token)));
    let outputs = bench.say(a.connection, to("b"));
    assert_eq!(refused(&outputs, a.connection), (vec!["no-such-peer"], false));
    assert_eq!(told(&outputs, &again), Vec::<String>::new());
    let outputs = bench.say(a.connection, to("b2"));
    assert!(
        outputs.iter().any(|o| matches!(o, Output::Send {
        message: ServerMessage::Signal { session: Some(from), .. }, .. } if *from == session("a")))
    );
}

#[test]
fn shutdown_tells_everybody() {
    let mut bench = Bench::new();
    let (a, b) = bench.pair();
    let fresh = bench.connect();
    let outputs = bench.handle(Input::Shutdown);
    for connection in [a.connection, b.connection, fresh] {
        assert_eq!(refused(&outputs, connection), (vec!["server-shutdown"], true));
    }
    assert_eq!(bench.rooms.connection_count(), 0);
}

#[test]
fn names_are_cleaned() {
    let mut bench = Bench::new();
    let ClientMessage::Join { room, session, .. } = join("a", None) else { unreachable!() };
    bench.join(ClientMessage::Join {
        protocol_version: PROTOCOL_VERSION,
        room,
        display_name: Some(" A\u{7}da\n".into()),
        resume_token: None,
        session,
        received: None,
    });
    let (b, _) = bench.join(join("b", None));
    assert_eq!(b.peers[0].display_name.as_deref(), Some("Ada"));
}

/// Any order of events: two seats at most, roles that differ, and every output for an open
/// connection.
#[test]
fn no_order_of_events_breaks_the_rules() {
    let mut bench = Bench::with(Limits { joins_per_minute: 100_000, ..Limits::default() });
    // xorshift64, seed fixed so that a failure comes again.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let mut open: Vec<ConnectionId> = Vec::new();
    let mut tokens: Vec<ResumeToken> = Vec::new();
    let mut peers: Vec<PeerId> = Vec::new();
    for _ in 0..20_000 {
        let some = |open: &[ConnectionId], random: &mut dyn FnMut(u64) -> u64| {
            open.get(random(open.len().max(1) as u64) as usize).copied()
        };
        let outputs = match random(10) {
            0 | 1 => {
                let connection = bench.connect();
                open.push(connection);
                Vec::new()
            }
            2 | 3 => {
                let token = tokens.get(random(8) as usize).cloned();
                let room = ["abc-def", "xyz-xyz"][random(2) as usize];
                let name = ["a", "b", "c"][random(3) as usize];
                let received = (random(2) == 0).then(|| random(50));
                let Some(c) = some(&open, &mut random) else { continue };
                bench.say(c, join_room(room, name, token.as_ref(), received))
            }
            4 | 5 => {
                let to = peers.get(random(8) as usize).cloned().unwrap_or_else(PeerId::random);
                let Some(c) = some(&open, &mut random) else { continue };
                bench.say(c, ClientMessage::Signal { to, session: None, payload: payload("x") })
            }
            6 => {
                let received = (random(2) == 0).then(|| random(50));
                let Some(c) = some(&open, &mut random) else { continue };
                match random(5) {
                    0 => bench.handle(Input::Heard { connection: c }),
                    1 => bench.say(c, LEAVE),
                    2 => bench.say(c, LEAVE_FOR_NOW),
                    3 => bench.say(c, ClientMessage::Lock { locked: random(2) == 0 }),
                    _ => bench.ping(c, received),
                }
            }
            7 => {
                let Some(c) = some(&open, &mut random) else { continue };
                open.retain(|o| *o != c);
                bench.disconnect(c)
            }
            _ => bench.pass(Duration::from_millis(random(1500))),
        };
        for output in outputs {
            match output {
                Output::Send { connection, message, .. } => {
                    assert!(open.contains(&connection), "{message:?} for a closed connection");
                    if let ServerMessage::Joined { peer_id, resume_token, .. } = message {
                        tokens.insert(0, resume_token);
                        tokens.truncate(6);
                        peers.insert(0, peer_id);
                        peers.truncate(6);
                    }
                }
                Output::Probe { connection } => assert!(open.contains(&connection)),
                Output::Close { connection, .. } => open.retain(|o| *o != connection),
            }
        }
        assert_eq!(bench.rooms.connection_count(), open.len());
        for room in bench.rooms.rooms.values() {
            assert!((1..=ROOM_SEATS).contains(&room.seats.len()), "{} seats", room.seats.len());
            if let [a, b] = &room.seats[..] {
                assert_ne!(a.polite, b.polite);
                assert_ne!(a.peer_id, b.peer_id);
            }
            assert!(room.seats.len() + room.away.len() <= ROOM_SEATS);
            assert!(room.locked || room.away.is_empty());
            assert!(room.waiting.is_empty() || room.seats.iter().any(|s| s.probed.is_some()));
        }
    }
    assert!(bench.rooms.counters().resumes > 100 && bench.rooms.counters().joins > 100);
}
