//! Lost WebSockets, reloaded pages, silence.

use super::*;

#[test]
fn the_same_session_resumes_in_silence_with_its_backlog() {
    let mut bench = Bench::new();
    let (a, b) = bench.pair();
    assert_eq!(bench.disconnect(b.connection), []);
    assert_eq!(bench.say(a.connection, signal(&b, "1")), []);
    assert_eq!(bench.say(a.connection, signal(&b, "2")), []);
    bench.pass(Duration::from_secs(5));
    let (again, outputs) = bench.join(join("b", Some(&b.token)));
    assert!(again.resumed);
    assert_eq!((&again.peer_id, again.polite), (&b.peer_id, b.polite));
    assert_eq!(again.token, b.token);
    assert_eq!(told(&outputs, &again), ["1", "2"]);
    assert!(told(&outputs, &a).is_empty());
    // And once only.
    bench.disconnect(again.connection);
    let (_, outputs) = bench.join(join("b", Some(&b.token)));
    assert_eq!(outputs, []);
}

#[test]
fn what_a_dying_websocket_swallowed_comes_again_to_who_counts() {
    let mut bench = Bench::new();
    let (a, _) = bench.join(join("a", None));
    let (b, _) = bench.join(join_room("abc-def", "b", None, Some(0)));
    for text in ["1", "2", "3"] {
        assert_eq!(told(&bench.say(a.connection, signal(&b, text)), &b), [text]);
    }
    bench.ping(b.connection, Some(1));
    // "2" and "3" were sent, but only "2" arrived; the socket looks alive.
    let (again, outputs) = bench.join(join_room("abc-def", "b", Some(&b.token), Some(2)));
    assert_eq!(told(&outputs, &b), ["replaced", "close"]);
    assert_eq!(told(&outputs, &again), ["3"]);
    assert!(told(&outputs, &a).is_empty());
}

#[test]
fn the_server_counts_what_it_has_had() {
    let mut bench = Bench::new();
    let (a, b) = bench.pair();
    bench.say(a.connection, signal(&b, "1"));
    bench.say(a.connection, signal(&a, "to nobody"));
    let pong = bench.ping(a.connection, None);
    assert_eq!(
        pong,
        [Output::Send {
            connection: a.connection,
            message: ServerMessage::Pong { received: Some(2) },
            bytes: SMALL_MESSAGE_BYTES
        }]
    );
    bench.disconnect(a.connection);
    assert_eq!(bench.join(join("a", Some(&a.token))).0.received, 2);
    assert_eq!(bench.join(join("another", Some(&a.token))).0.received, 0);
}

#[test]
fn whose_joined_was_lost_gets_its_seat_by_its_session() {
    let mut bench = Bench::new();
    let (a, b) = bench.pair();
    bench.say(a.connection, ClientMessage::Lock { locked: true });
    // Nothing of B's `joined` has arrived.
    bench.disconnect(b.connection);
    let (again, outputs) = bench.join(join_room("abc-def", "b", None, Some(7)));
    assert_eq!((&again.peer_id, &again.token), (&b.peer_id, &b.token));
    assert!(!again.resumed && again.peers.len() == 1);
    assert!(told(&outputs, &a).is_empty());
    // Once it has spoken, the session alone is nothing.
    bench.ping(again.connection, None);
    bench.disconnect(again.connection);
    let late = bench.connect();
    let outputs = bench.say(late, join("b", None));
    assert_eq!(refused(&outputs, late), (vec!["room-locked"], true));
}

#[test]
fn a_reloaded_page_takes_its_seat_and_the_other_is_told() {
    let mut bench = Bench::new();
    let (a, b) = bench.pair();
    bench.disconnect(b.connection);
    bench.say(a.connection, signal(&b, "old"));
    let (again, outputs) = bench.join(join("b2", Some(&b.token)));
    assert!(!again.resumed);
    assert_eq!((&again.peer_id, again.polite), (&b.peer_id, b.polite));
    assert_eq!(again.peers.len(), 1);
    assert_eq!(told(&outputs, &a), ["peer-joined b2"]);
    assert!(told(&outputs, &again).is_empty());
}

#[test]
fn a_reload_is_faster_than_the_loss_of_the_old_websocket() {
    let mut bench = Bench::new();
    let (a, b) = bench.pair();
    let (again, outputs) = bench.join(join("b2", Some(&b.token)));
    assert_eq!(told(&outputs, &b), ["replaced", "close"]);
    // The late end of the old one changes nothing.
    assert_eq!(bench.disconnect(b.connection), []);
    assert_eq!(told(&bench.say(a.connection, signal(&again, "1")), &again), ["1"]);
}

#[test]
fn an_unknown_token_joins_anew() {
    let mut bench = Bench::new();
    let (a, _) = bench.join(join("a", Some(&ResumeToken::random())));
    assert!(!a.resumed);
    // A token of another room is unknown here.
    let (other, _) = bench.join(join_room("xyz-xyz", "a", Some(&a.token), None));
    assert!(!other.resumed);
    assert_ne!(other.peer_id, a.peer_id);
    assert_eq!(bench.rooms.seat_count(), 2);
}

#[test]
fn silence_frees_the_seat() {
    let mut bench = Bench::new();
    let (a, b) = bench.pair();
    let mut heard = Vec::new();
    for _ in 0..3 {
        heard.extend(bench.pass(Duration::from_millis(3900)));
        bench.ping(a.connection, None);
    }
    assert_eq!(heard, []);
    let outputs = bench.pass(Duration::from_secs(1));
    assert_eq!(told(&outputs, &b), ["idle-timeout", "close"]);
    assert_eq!(told(&outputs, &a), ["peer-left Timeout"]);
}

#[test]
fn a_lost_websocket_keeps_its_seat_for_a_while_only() {
    let mut bench = Bench::new();
    let (a, b) = bench.pair();
    bench.pass(Duration::from_secs(4));
    bench.ping(a.connection, None);
    bench.disconnect(b.connection);
    bench.pass(Duration::from_secs(4));
    bench.ping(a.connection, None);
    let outputs = bench.pass(SILENCE_LIMIT - Duration::from_secs(8));
    assert_eq!(told(&outputs, &a), ["peer-left Timeout"]);
    let (again, _) = bench.join(join("b", Some(&b.token)));
    assert!(!again.resumed);
}

#[test]
fn changes_are_told_after_a_resume() {
    let mut bench = Bench::new();
    let (a, b) = bench.pair();
    bench.disconnect(a.connection);
    bench.say(b.connection, LEAVE);
    let (c, _) = bench.join(join("c", None));
    bench.say(c.connection, signal(&a, "1"));
    let (again, outputs) = bench.join(join("a", Some(&a.token)));
    assert_eq!(told(&outputs, &again), ["peer-left Left", "peer-joined c", "1"]);
    assert_eq!(again.peers[0].peer_id, c.peer_id);
    assert_ne!(again.polite, c.polite);
}

#[test]
fn the_backlog_is_bounded() {
    let mut bench = Bench::new();
    let (a, b) = bench.pair();
    bench.disconnect(b.connection);
    for number in 0..BACKLOG_MESSAGES + 5 {
        bench.now += Duration::from_millis(20);
        bench.say(a.connection, signal(&b, &number.to_string()));
    }
    let (again, outputs) = bench.join(join("b", Some(&b.token)));
    let told = told(&outputs, &again);
    assert_eq!((told.len(), told[0].as_str()), (BACKLOG_MESSAGES, "5"));
}
