//! What is refused.

use super::*;

#[test]
fn order_of_messages_is_enforced() {
    let mut bench = Bench::new();
    let (a, b) = bench.pair();
    for message in [LEAVE, signal(&a, "1")] {
        let early = bench.connect();
        assert_eq!(bench.ping(early, None).len(), 1);
        let outputs = bench.say(early, message);
        assert_eq!(refused(&outputs, early), (vec!["not-joined"], true));
    }
    let outputs = bench.say(b.connection, join("b", None));
    assert_eq!(refused(&outputs, b.connection), (vec!["already-joined"], true));
    // Its seat waits for it all the same.
    assert!(bench.join(join("b", Some(&b.token))).0.resumed);
}

#[test]
fn bad_messages_are_answered_with_their_code() {
    let mut bench = Bench::new();
    let connection = bench.connect();
    let message = ClientMessage::parse("{");
    let outputs = bench.handle(Input::Message { connection, message, bytes: 1 });
    assert_eq!(refused(&outputs, connection), (vec!["bad-json"], true));
    // After its end a connection is nobody.
    assert_eq!(bench.say(connection, join("a", None)), []);
    assert_eq!(bench.rooms.counters().errors.get("bad-json"), Some(&1));
}

#[test]
fn a_connection_that_does_not_join_is_closed() {
    let mut bench = Bench::new();
    let idle = bench.connect();
    bench.pass(Duration::from_secs(9));
    bench.ping(idle, None);
    let outputs = bench.pass(Duration::from_secs(1));
    assert_eq!(refused(&outputs, idle), (vec!["idle-timeout"], true));
}

#[test]
fn messages_a_second_are_limited() {
    let mut bench =
        Bench::with(Limits { messages_per_second: 10, message_burst: 20, ..Limits::default() });
    let (a, b) = bench.pair();
    let mut sent = 0;
    while told(&bench.say(a.connection, signal(&b, "1")), &a).is_empty() {
        sent += 1;
    }
    assert_eq!(sent, 19, "the join counts as well");
    let outputs = bench.say(a.connection, LEAVE);
    assert_eq!(outputs, []);
}

#[test]
fn joins_a_minute_are_limited_by_address() {
    let mut bench = Bench::with(Limits { joins_per_minute: 3, ..Limits::default() });
    let attempt = |bench: &mut Bench, address| {
        let connection = bench.connect_from(address);
        let outputs = bench.say(connection, join("a", None));
        bench.say(connection, LEAVE);
        refused(&outputs, connection).0
    };
    for _ in 0..3 {
        assert!(attempt(&mut bench, "192.0.2.1").is_empty());
    }
    assert_eq!(attempt(&mut bench, "192.0.2.1"), ["too-many-joins"]);
    assert!(attempt(&mut bench, "192.0.2.2").is_empty());
    bench.pass(Duration::from_secs(21));
    assert!(attempt(&mut bench, "192.0.2.1").is_empty());
    assert_eq!(attempt(&mut bench, "192.0.2.1"), ["too-many-joins"]);
    bench.pass(Duration::from_secs(60));
    assert!(bench.rooms.joins.is_empty(), "addresses are forgotten");
}

#[test]
fn rooms_in_all_are_limited() {
    let mut bench = Bench::with(Limits { rooms: 1, ..Limits::default() });
    bench.join(join("a", None));
    let connection = bench.connect();
    let outputs = bench.say(connection, join_room("xyz-xyz", "b", None, None));
    assert_eq!(refused(&outputs, connection), (vec!["too-many-rooms"], true));
    // A room that is there may be entered.
    bench.join(join("b", None));
}

#[test]
fn rooms_of_one_address_are_limited() {
    let mut bench = Bench::with(Limits { rooms_per_address: 1, ..Limits::default() });
    let (a, _) = bench.join(join("a", None));
    let attempt = |bench: &mut Bench, address| {
        let connection = bench.connect_from(address);
        let outputs = bench.say(connection, join_room("xyz-xyz", "b", None, None));
        let refused = refused(&outputs, connection).0;
        bench.say(connection, LEAVE);
        refused
    };
    assert_eq!(attempt(&mut bench, "192.0.2.1"), ["too-many-rooms"]);
    assert!(attempt(&mut bench, "192.0.2.2").is_empty());
    // A room that is there may be entered, and one that is gone is given back.
    bench.join(join("b", None));
    bench.say(a.connection, LEAVE);
    assert_eq!(attempt(&mut bench, "192.0.2.1"), ["too-many-rooms"], "somebody is in it still");
    bench.pass(SILENCE_LIMIT + Duration::from_secs(1));
    assert!(attempt(&mut bench, "192.0.2.1").is_empty());
}

#[test]
fn seats_of_one_address_are_limited() {
    let mut bench = Bench::with(Limits { seats_per_address: 2, ..Limits::default() });
    let (a, b) = bench.pair();
    let attempt = |bench: &mut Bench, address| {
        let connection = bench.connect_from(address);
        let outputs = bench.say(connection, join_room("xyz-xyz", "c", None, None));
        let refused = refused(&outputs, connection).0;
        bench.say(connection, LEAVE);
        refused
    };
    assert_eq!(attempt(&mut bench, "192.0.2.1"), ["too-many-joins"]);
    assert_eq!(bench.rooms.room_count(), 1, "no room is left behind");
    assert!(attempt(&mut bench, "192.0.2.2").is_empty());
    // Taking an own seat back takes none; a ghost's counts.
    bench.disconnect(a.connection);
    assert!(bench.join(join("a", Some(&a.token))).0.resumed);
    bench.disconnect(b.connection);
    assert_eq!(attempt(&mut bench, "192.0.2.1"), ["too-many-joins"]);
    bench.pass(SILENCE_LIMIT);
    assert!(attempt(&mut bench, "192.0.2.1").is_empty());
}

#[test]
fn resuming_is_no_join() {
    let mut bench = Bench::with(Limits { joins_per_minute: 2, ..Limits::default() });
    let (mut a, _) = bench.pair();
    for _ in 0..10 {
        bench.disconnect(a.connection);
        a = bench.join(join("a", Some(&a.token))).0;
        assert!(a.resumed);
    }
    let newcomer = bench.connect();
    let outputs = bench.say(newcomer, join_room("xyz-xyz", "c", None, None));
    assert_eq!(refused(&outputs, newcomer), (vec!["too-many-joins"], true));
}

#[test]
fn the_way_back_after_a_long_silence_is_no_join_either() {
    let mut bench = Bench::with(Limits { joins_per_minute: 1, ..Limits::default() });
    let (mut a, _) = bench.join(join("a", None));
    for _ in 0..5 {
        bench.disconnect(a.connection);
        bench.pass(SILENCE_LIMIT);
        assert_eq!(bench.rooms.seat_count(), 0);
        let (again, _) = bench.join(join("a", Some(&a.token)));
        assert_ne!(again.peer_id, a.peer_id);
        a = again;
    }
}

#[test]
fn who_had_a_seat_before_a_restart_has_a_share_apart_from_newcomers() {
    let mut bench = Bench::with(Limits { joins_per_minute: 2, ..Limits::default() });
    bench.pair();
    let unknown = ResumeToken::random();
    for (room, name) in [("xyz-xya", "c"), ("xyz-xyb", "d"), ("xyz-xyc", "e")] {
        bench.join(join_room(room, name, Some(&unknown), None));
    }
    let newcomer = bench.connect();
    let outputs = bench.say(newcomer, join_room("xyz-xyd", "f", None, None));
    assert_eq!(refused(&outputs, newcomer), (vec!["too-many-joins"], true));
}

#[test]
fn control_frames_are_limited_like_messages() {
    let mut bench =
        Bench::with(Limits { messages_per_second: 1, message_burst: 20, ..Limits::default() });
    let connection = bench.connect();
    for _ in 0..20 {
        assert_eq!(bench.handle(Input::Heard { connection }), []);
    }
    let outputs = bench.handle(Input::Heard { connection });
    assert_eq!(refused(&outputs, connection), (vec!["rate-limited"], true));
}

/// What the relay is told of who has a seat.
fn seat_changes(bench: &mut Bench) -> Vec<SeatChange> {
    std::iter::from_fn(|| bench.rooms.poll_seat_change()).collect()
}

#[test]
fn the_relay_hears_of_every_seat() {
    let mut bench = Bench::new();
    let taken = |seated: &Seated| SeatChange::Taken(seated.peer_id.clone());
    let freed = |seated: &Seated, may_return| SeatChange::Freed {
        user: seated.peer_id.clone(),
        may_return,
    };
    let (a, b) = bench.pair();
    assert_eq!(seat_changes(&mut bench), [taken(&a), taken(&b)]);
    bench.disconnect(b.connection);
    bench.pass(SILENCE_LIMIT - Duration::from_secs(1));
    bench.ping(a.connection, None);
    assert_eq!(seat_changes(&mut bench), []);
    bench.pass(Duration::from_secs(1));
    assert_eq!(seat_changes(&mut bench), [freed(&b, true)]);
    // It is back in another seat, which stands for what the old one opened.
    let (again, _) = bench.join(join("b", Some(&b.token)));
    assert_ne!(again.peer_id, b.peer_id);
    assert_eq!(seat_changes(&mut bench), [taken(&again), taken(&b)]);
    bench.say(again.connection, LEAVE);
    assert_eq!(seat_changes(&mut bench), [freed(&again, false), freed(&b, false)]);
    // With any other token it does not, nor too late.
    bench.pass(SILENCE_LIMIT);
    assert_eq!(seat_changes(&mut bench), [freed(&a, true)]);
    bench.pass(crate::relay::SEAT_GRACE);
    let (late, _) = bench.join(join("a", Some(&a.token)));
    assert_eq!(seat_changes(&mut bench), [taken(&late)]);
}
