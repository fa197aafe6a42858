//! Who waits for a seat, and who gives way.

use super::*;

#[test]
fn nobody_is_locked_out_by_a_lost_websocket() {
    let mut bench = Bench::new();
    let (a, b) = bench.pair();
    bench.disconnect(b.connection);
    let (c, outputs) = bench.join(join("c", None));
    assert_eq!(told(&outputs, &a), ["peer-left Timeout", "peer-joined c"]);
    assert_ne!(c.polite, a.polite);
    // The ghost's token is dead, and the room is full of the living.
    let late = bench.connect();
    let outputs = bench.say(late, join("b", Some(&b.token)));
    assert_eq!(told(&outputs, &a), ["probe"]);
    bench.handle(Input::Heard { connection: a.connection });
    let outputs = bench.handle(Input::Heard { connection: c.connection });
    assert_eq!(refused(&outputs, late), (vec!["room-full"], true));
}

#[test]
fn nobody_is_locked_out_by_a_websocket_that_only_looks_alive() {
    let mut bench = Bench::new();
    let (a, b) = bench.pair();
    let late = bench.connect();
    let outputs = bench.say(late, join("c", None));
    assert_eq!(told(&outputs, &a), ["probe"]);
    assert_eq!(told(&outputs, &b), ["probe"]);
    // Waiting, it may ping, but nothing else.
    assert_eq!(bench.ping(late, None).len(), 1);
    assert_eq!(bench.handle(Input::Heard { connection: a.connection }), []);
    assert_eq!(bench.pass(Duration::from_millis(1750)), []);
    let outputs = bench.pass(Duration::from_millis(250));
    assert_eq!(told(&outputs, &b), ["idle-timeout", "close"]);
    assert_eq!(told(&outputs, &a), ["peer-left Timeout", "peer-joined c"]);
    let c = outputs
        .into_iter()
        .find(|o| matches!(o, Output::Send { message: ServerMessage::Joined { .. }, .. }))
        .map(seated)
        .unwrap();
    assert_eq!(c.connection, late);
    assert_ne!(c.polite, a.polite);
}

#[test]
fn who_waits_is_let_in_when_somebody_leaves() {
    let mut bench = Bench::new();
    let (a, b) = bench.pair();
    let late = bench.connect();
    bench.say(late, join("c", None));
    let outputs = bench.say(b.connection, LEAVE);
    assert_eq!(told(&outputs, &a), ["peer-left Left", "peer-joined c"]);
}

#[test]
fn who_waits_may_go_away() {
    let mut bench = Bench::new();
    let (a, b) = bench.pair();
    let late = bench.connect();
    bench.say(late, join("c", None));
    assert_eq!(bench.disconnect(late), []);
    bench.handle(Input::Heard { connection: a.connection });
    assert_eq!(bench.handle(Input::Heard { connection: b.connection }), []);
    bench.say(a.connection, LEAVE);
    bench.say(b.connection, LEAVE);
    assert_eq!(bench.rooms.room_count(), 0);
}

#[test]
fn of_two_ghosts_the_older_gives_way() {
    let mut bench = Bench::new();
    let (a, b) = bench.pair();
    bench.disconnect(a.connection);
    bench.pass(Duration::from_secs(1));
    bench.ping(b.connection, None);
    bench.disconnect(b.connection);
    let (c, _) = bench.join(join("c", None));
    assert_eq!(c.peers[0].peer_id, b.peer_id);
    let (again, outputs) = bench.join(join("b", Some(&b.token)));
    assert!(again.resumed);
    assert_eq!(told(&outputs, &again), ["peer-left Timeout", "peer-joined c"]);
}
