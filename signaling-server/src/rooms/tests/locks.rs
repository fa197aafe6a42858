//! Locked rooms.

use super::*;

#[test]
fn a_locked_room_takes_in_nobody_new() {
    let mut bench = Bench::new();
    let (a, b) = bench.pair();
    let late = bench.connect();
    bench.say(late, join("c", None));
    let outputs = bench.say(a.connection, ClientMessage::Lock { locked: true });
    assert_eq!(
        (told(&outputs, &a), told(&outputs, &b)),
        (vec!["locked".into()], vec!["locked".into()])
    );
    assert_eq!(refused(&outputs, late), (vec!["room-locked"], true), "who waited is told");
    // Again: only who asked is answered.
    let outputs = bench.say(b.connection, ClientMessage::Lock { locked: true });
    assert_eq!((told(&outputs, &a), told(&outputs, &b)), (vec![], vec!["locked".to_owned()]));
    // Not even into the seat of a ghost, or a free one.
    bench.disconnect(b.connection);
    for _ in 0..2 {
        let late = bench.connect();
        let outputs = bench.say(late, join("c", Some(&ResumeToken::random())));
        assert_eq!(refused(&outputs, late), (vec!["room-locked"], true));
        assert!(told(&outputs, &a).is_empty(), "nobody is disturbed");
        bench.ping(a.connection, None);
        bench.pass(Duration::from_secs(8));
        bench.ping(a.connection, None);
        bench.pass(Duration::from_secs(6));
    }
}

#[test]
fn whoever_has_a_seat_returns_to_a_locked_room() {
    let mut bench = Bench::new();
    let (a, b) = bench.pair();
    bench.say(a.connection, ClientMessage::Lock { locked: true });
    bench.disconnect(b.connection);
    let (b, _) = bench.join(join("b", Some(&b.token)));
    assert!(b.resumed && b.locked);
    // Reloaded, and then away for so long that the seat is gone.
    let (b, _) = bench.join(join("b2", Some(&b.token)));
    assert!(!b.resumed && b.locked);
    bench.disconnect(b.connection);
    for _ in 0..2 {
        bench.ping(a.connection, None);
        bench.pass(Duration::from_secs(8));
    }
    assert_eq!(bench.rooms.seat_count(), 1);
    let token = b.token.clone();
    let (b, outputs) = bench.join(join("b2", Some(&token)));
    assert!(!b.resumed && b.locked);
    assert_eq!(told(&outputs, &a), ["peer-joined b2"]);
    // As often as it likes.
    assert!(bench.join(join("b2", Some(&token))).0.locked);
}

#[test]
fn who_hung_up_is_a_stranger_to_a_locked_room() {
    let mut bench = Bench::new();
    let (a, b) = bench.pair();
    bench.say(a.connection, ClientMessage::Lock { locked: true });
    bench.say(b.connection, LEAVE);
    let late = bench.connect();
    let outputs = bench.say(late, join("b", Some(&b.token)));
    assert_eq!(refused(&outputs, late), (vec!["room-locked"], true));
}

#[test]
fn a_room_is_opened_again_by_a_word_or_when_all_are_gone() {
    let mut bench = Bench::new();
    let (a, b) = bench.pair();
    bench.say(a.connection, ClientMessage::Lock { locked: true });
    let outputs = bench.say(b.connection, ClientMessage::Lock { locked: false });
    assert_eq!(
        (told(&outputs, &a), told(&outputs, &b)),
        (vec!["open".into()], vec!["open".into()])
    );
    bench.say(b.connection, LEAVE);
    let (c, _) = bench.join(join("c", None));
    assert!(!c.locked);
    bench.say(c.connection, ClientMessage::Lock { locked: true });
    bench.say(c.connection, LEAVE);
    bench.say(a.connection, LEAVE);
    assert!(!bench.join(join("d", None)).0.locked);
}
