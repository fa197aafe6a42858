//! Established rooms: who comes in without being asked for, and who knocks.

use super::*;
use visavis_signaling_protocol::limits::{KNOCK_BURST, KNOCK_LIMIT, MAX_KNOCKS};

impl Bench {
    /// Two whose call is connected.
    fn established(&mut self) -> (Seated, Seated) {
        let (a, b) = self.pair();
        self.connected(&a, "b");
        (a, b)
    }

    fn connected(&mut self, by: &Seated, remote: &str) -> Vec<Output> {
        self.say(by.connection, ClientMessage::Connected { session: session(remote) })
    }

    /// A stranger tries to enter.
    fn stranger(&mut self, address: &str) -> (Seated, Vec<Output>) {
        let connection = self.connect_from(address);
        let mut join = join("stranger", None);
        if let ClientMessage::Join { display_name, .. } = &mut join {
            *display_name = Some(" Ed\u{7}sger ".into());
        }
        let outputs = self.say(connection, join);
        let nobody = Seated {
            connection,
            peer_id: PeerId::random(),
            peers: Vec::new(),
            polite: false,
            token: ResumeToken::random(),
            resumed: false,
            received: 0,
            locked: false,
        };
        (nobody, outputs)
    }

    fn admit(&mut self, by: &Seated, who: &PeerId, admitted: bool) -> Vec<Output> {
        self.say(by.connection, ClientMessage::Admit { peer_id: who.clone(), admitted })
    }
}

/// Who knocks, as somebody was told.
fn knocker(outputs: &[Output]) -> PeerId {
    let knock = |output: &Output| match output {
        Output::Send { message: ServerMessage::Knock { peer_id, .. }, .. } => Some(peer_id.clone()),
        _ => None,
    };
    outputs.iter().find_map(knock).unwrap_or_else(|| panic!("no knock: {outputs:?}"))
}

#[test]
fn a_stranger_does_not_get_the_seat_of_a_lost_websocket() {
    let mut bench = Bench::new();
    let (a, b) = bench.established();
    bench.disconnect(b.connection);
    let (stranger, outputs) = bench.stranger("198.51.100.7");
    assert_eq!(told(&outputs, &stranger), ["knocking"]);
    assert_eq!(told(&outputs, &a), ["probe", "knock Edsger"]);
    // Its owner comes back with its token and is not asked.
    let (again, _) = bench.join(join("b", Some(&b.token)));
    assert!(again.resumed);
}

#[test]
fn who_knocks_finds_the_room_full_once_the_owner_is_back() {
    let mut bench = Bench::new();
    let (a, b) = bench.established();
    bench.disconnect(b.connection);
    let (stranger, _) = bench.stranger("198.51.100.7");
    bench.handle(Input::Heard { connection: a.connection });
    let connection = bench.connect();
    let outputs = bench.say(connection, join("b", Some(&b.token)));
    assert_eq!(refused(&outputs, stranger.connection), (vec!["room-full"], true));
    assert_eq!(told(&outputs, &a), ["knock-gone"]);
}

#[test]
fn the_seat_waits_for_its_token_as_long_as_the_room_exists() {
    let mut bench = Bench::new();
    let (a, b) = bench.established();
    bench.disconnect(b.connection);
    for _ in 0..60 {
        bench.ping(a.connection, None);
        bench.pass(Duration::from_secs(10));
    }
    assert_eq!(bench.rooms.seat_count(), 1);
    let (_, outputs) = bench.stranger("198.51.100.7");
    assert_eq!(told(&outputs, &a), ["knock Edsger"]);
    // The program was started anew: another session, the same seat.
    let (b2, outputs) = bench.join(join("b2", Some(&b.token)));
    assert_eq!(b2.peer_id, b.peer_id);
    assert_ne!(b2.polite, a.polite);
    assert_eq!(told(&outputs, &a), ["peer-joined b2", "knock-gone"]);
}

#[test]
fn who_hung_up_is_a_stranger() {
    let mut bench = Bench::new();
    let (a, b) = bench.established();
    bench.say(b.connection, LEAVE);
    let connection = bench.connect();
    let outputs = bench.say(connection, join("b", Some(&b.token)));
    assert_eq!(told(&outputs, &a), ["knock ?"]);
    // Nobody inside any more: the room is as new.
    let outputs = bench.say(a.connection, LEAVE);
    assert!(outputs.iter().any(|o| matches!(o,
        Output::Send { connection: c, message: ServerMessage::Joined { .. }, .. } if *c == connection)));
    let (_, outputs) = bench.join(join("c", None));
    assert!(!outputs.is_empty());
}

#[test]
fn the_living_are_not_disturbed() {
    let mut bench = Bench::new();
    let (a, b) = bench.established();
    let (stranger, outputs) = bench.stranger("198.51.100.7");
    assert_eq!(
        (told(&outputs, &a), told(&outputs, &b)),
        (vec!["probe".into()], vec!["probe".into()])
    );
    bench.handle(Input::Heard { connection: a.connection });
    let outputs = bench.handle(Input::Heard { connection: b.connection });
    assert_eq!(refused(&outputs, stranger.connection), (vec!["room-full"], true));
    assert_eq!((told(&outputs, &a), told(&outputs, &b)), (vec![], vec![]));
}

#[test]
fn a_websocket_that_only_looks_alive_keeps_its_seat() {
    let mut bench = Bench::new();
    let (a, b) = bench.established();
    let (stranger, _) = bench.stranger("198.51.100.7");
    bench.handle(Input::Heard { connection: a.connection });
    let outputs = bench.pass(Duration::from_secs(2));
    assert_eq!(told(&outputs, &stranger), ["knocking"]);
    assert_eq!(told(&outputs, &a), ["knock Edsger"]);
    assert_eq!(told(&outputs, &b), ["knock Edsger"], "its WebSocket is left alone");
    // It was only late.
    let outputs = bench.handle(Input::Heard { connection: b.connection });
    assert_eq!(refused(&outputs, stranger.connection), (vec!["room-full"], true));
    assert_eq!(told(&outputs, &a), ["knock-gone"]);
    assert_eq!(bench.say(b.connection, signal(&a, "1")).len(), 1);
}

#[test]
fn who_is_let_in_takes_the_seat_and_the_former_owner_is_a_stranger() {
    for silent in [false, true] {
        let mut bench = Bench::new();
        let (a, b) = bench.established();
        if !silent {
            bench.disconnect(b.connection);
        }
        let (stranger, mut outputs) = bench.stranger("198.51.100.7");
        bench.handle(Input::Heard { connection: a.connection });
        outputs.extend(bench.pass(Duration::from_secs(2)));
        let who = knocker(&outputs);
        let outputs = bench.admit(&a, &who, true);
        assert_eq!(told(&outputs, &stranger), ["joined"]);
        assert_eq!(told(&outputs, &a), ["knock-gone", "peer-left Timeout", "peer-joined stranger"]);
        if silent {
            assert_eq!(refused(&outputs, b.connection), (vec!["idle-timeout"], true));
        }
        // Both seats are taken by the living.
        let connection = bench.connect();
        bench.say(connection, join("b", Some(&b.token)));
        bench.handle(Input::Heard { connection: a.connection });
        let outputs = bench.handle(Input::Heard { connection: stranger.connection });
        assert_eq!(refused(&outputs, connection), (vec!["room-full"], true));
        // A second answer to the same knock finds nobody.
        let outputs = bench.admit(&a, &who, true);
        assert_eq!(refused(&outputs, a.connection), (vec!["no-such-peer"], false));
    }
}

#[test]
fn who_is_refused_may_not_knock_again_at_once() {
    let mut bench = Bench::new();
    let (a, b) = bench.established();
    bench.disconnect(b.connection);
    let (stranger, outputs) = bench.stranger("198.51.100.7");
    let outputs = bench.admit(&a, &knocker(&outputs), false);
    assert_eq!(refused(&outputs, stranger.connection), (vec!["refused-entry"], true));
    assert_eq!(told(&outputs, &a), ["knock-gone"]);
    let (again, outputs) = bench.stranger("198.51.100.7");
    assert_eq!(refused(&outputs, again.connection), (vec!["refused-entry"], true));
    assert!(told(&outputs, &a).iter().all(|text| text == "probe"), "nobody is disturbed");
    // From elsewhere somebody else may; and from there later.
    let (_, outputs) = bench.stranger("198.51.100.8");
    assert!(told(&outputs, &a).contains(&"knock Edsger".into()));
    for _ in 0..4 {
        bench.ping(a.connection, None);
        bench.pass(Duration::from_secs(8));
    }
    let (_, outputs) = bench.stranger("198.51.100.7");
    assert!(told(&outputs, &a).contains(&"knock Edsger".into()));
}

#[test]
fn coming_and_going_is_limited() {
    let mut bench = Bench::new();
    let (a, b) = bench.established();
    bench.disconnect(b.connection);
    for _ in 0..KNOCK_BURST {
        let (stranger, outputs) = bench.stranger("198.51.100.7");
        assert!(told(&outputs, &a).contains(&"knock Edsger".into()));
        let outputs = if bench.opened.is_multiple_of(2) {
            bench.say(stranger.connection, LEAVE)
        } else {
            bench.disconnect(stranger.connection)
        };
        assert_eq!(told(&outputs, &a), ["knock-gone"]);
    }
    let (stranger, outputs) = bench.stranger("198.51.100.7");
    assert_eq!(refused(&outputs, stranger.connection), (vec!["refused-entry"], true));
}

#[test]
fn only_so_many_knock_at_a_time_and_not_for_ever() {
    let mut bench = Bench::new();
    let (a, b) = bench.established();
    bench.disconnect(b.connection);
    let strangers: Vec<_> =
        (0..MAX_KNOCKS).map(|n| bench.stranger(&format!("198.51.100.{n}")).0).collect();
    let (late, outputs) = bench.stranger("198.51.100.99");
    assert_eq!(refused(&outputs, late.connection), (vec!["room-full"], true));
    // Whoever comes back inside is told of all that wait.
    let (again, _) = bench.join(join("a", Some(&a.token)));
    assert!(again.resumed);
    let mut outputs = Vec::new();
    for _ in 0..KNOCK_LIMIT.as_secs() / 10 {
        bench.ping(again.connection, None);
        outputs.extend(bench.pass(Duration::from_secs(10)));
    }
    for stranger in strangers {
        assert_eq!(refused(&outputs, stranger.connection), (vec!["refused-entry"], true));
    }
}

#[test]
fn whoever_returns_inside_is_told_who_knocks() {
    let mut bench = Bench::new();
    let (a, b) = bench.established();
    bench.disconnect(b.connection);
    bench.disconnect(a.connection);
    let (_, outputs) = bench.stranger("198.51.100.7");
    assert_eq!(told(&outputs, &a), Vec::<String>::new());
    let connection = bench.connect();
    let outputs = bench.say(connection, join("a", Some(&a.token)));
    let a = Seated { connection, ..a };
    assert_eq!(told(&outputs, &a), ["joined", "knock Edsger"]);
}

#[test]
fn a_server_that_was_started_anew_keeps_the_seat_for_the_session_that_is_named() {
    let mut bench = Bench::new();
    let (a, _) = bench.join(join("a", None));
    bench.connected(&a, "b");
    let (stranger, outputs) = bench.stranger("198.51.100.7");
    assert_eq!(told(&outputs, &stranger), ["knocking"]);
    let (b, outputs) = bench.join(join("b", Some(&ResumeToken::random())));
    assert!(told(&outputs, &a).contains(&"peer-joined b".into()));
    assert_ne!(b.polite, a.polite);
    // Only then, and only if nobody else is there.
    let mut bench = Bench::new();
    let (a, b) = bench.pair();
    bench.connected(&a, "somebody");
    bench.disconnect(b.connection);
    let (_, outputs) = bench.join(join("c", None));
    assert_eq!(told(&outputs, &a), ["peer-left Timeout", "peer-joined c"]);
}

#[test]
fn a_locked_room_refuses_those_who_knock() {
    let mut bench = Bench::new();
    let (a, b) = bench.established();
    bench.disconnect(b.connection);
    let (stranger, _) = bench.stranger("198.51.100.7");
    let outputs = bench.say(a.connection, ClientMessage::Lock { locked: true });
    assert_eq!(refused(&outputs, stranger.connection), (vec!["room-locked"], true));
    assert_eq!(told(&outputs, &a), ["locked", "knock-gone"]);
    let (stranger, outputs) = bench.stranger("198.51.100.8");
    assert_eq!(refused(&outputs, stranger.connection), (vec!["room-locked"], true));
    assert!(bench.join(join("b", Some(&b.token))).0.resumed);
}

#[test]
fn only_who_has_a_seat_has_a_say() {
    let mut bench = Bench::new();
    let (a, b) = bench.established();
    bench.disconnect(b.connection);
    let (stranger, outputs) = bench.stranger("198.51.100.7");
    let who = knocker(&outputs);
    let outputs = bench.admit(&stranger, &who, true);
    assert_eq!(refused(&outputs, stranger.connection), (vec!["not-joined"], true));
    assert_eq!(told(&outputs, &a), ["knock-gone"]);
    let fresh = bench.connect();
    let outputs = bench.say(fresh, ClientMessage::Connected { session: session("a") });
    assert_eq!(refused(&outputs, fresh), (vec!["not-joined"], true));
}
