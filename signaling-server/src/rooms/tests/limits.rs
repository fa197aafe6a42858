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
