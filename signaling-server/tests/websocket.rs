//! What clients meet at `/ws`, over real sockets.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use support::{Client, DEADLINE, ROOM, UPGRADE, http, metric, server};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};
use visavis_signaling::Limits;

const SHORT: Duration = Duration::from_millis(400);

#[tokio::test]
async fn two_meet_exchange_and_part() {
    let server = server(Limits::default());
    let (mut a, joined_a) = Client::join(server.address, ROOM).await;
    assert_eq!(joined_a["polite"], false);
    assert_eq!(joined_a["peers"], json!([]));
    let mut b = Client::open(server.address).await;
    b.send(json!({"type": "join", "protocolVersion": 2, "room": "ABCDEF", "displayName": "Grace",
        "session": "b1"}))
        .await;
    let joined_b = b.next().await;
    assert_eq!(joined_b["polite"], true);
    assert_eq!(joined_b["peers"][0]["peerId"], joined_a["peerId"]);
    assert_eq!(
        a.next().await,
        json!({"type": "peer-joined", "peerId": joined_b["peerId"], "session": "b1",
            "displayName": "Grace"})
    );
    let offer = json!({"type": "offer", "sdp": "v=0\r\n"});
    let session = &joined_b["peers"][0]["session"];
    a.send(json!({"type": "signal", "to": joined_b["peerId"], "description": offer})).await;
    assert_eq!(
        b.next().await,
        json!({"type": "signal", "from": joined_a["peerId"], "session": session, "description": offer})
    );
    b.send(json!({"type": "ping"})).await;
    assert_eq!(b.next().await, json!({"type": "pong", "received": 0}));
    b.send(json!({"type": "leave"})).await;
    b.closed(CloseCode::Normal).await;
    assert_eq!(
        a.next().await,
        json!({"type": "peer-left", "peerId": joined_b["peerId"], "reason": "left"})
    );
    assert_eq!(metric(server.address, "joins_total").await, 2);
    assert_eq!(metric(server.address, "relayed_signals_total").await, 1);
    server.stop().await;
}

#[tokio::test]
async fn bad_input_is_refused_with_its_code() {
    let server = server(Limits::default());
    for (text, code) in [
        ("{", "bad-json"),
        ("[]", "bad-message"),
        (r#"{"type":"shout"}"#, "bad-message"),
        (r#"{"type":"join","protocolVersion":2,"room":5}"#, "bad-message"),
        (r#"{"type":"join","protocolVersion":1,"space":"x"}"#, "unsupported-version"),
        (r#"{"type":"join","protocolVersion":2,"room":"abc"}"#, "bad-room-code"),
        (r#"{"type":"leave"}"#, "not-joined"),
        (r#"{"type":"signal","to":"a","candidate":{"candidate":""}}"#, "not-joined"),
    ] {
        let mut client = Client::open(server.address).await;
        client.send_text(text).await;
        client.refused(code).await;
    }
    let mut client = Client::open(server.address).await;
    client.send_frame(Message::binary(&b"{\"type\":\"ping\"}"[..])).await;
    client.refused("bad-json").await;
    // A text frame that is no text.
    let mut client = Client::open(server.address).await;
    let frame = Frame::message(&b"\xff\xfe"[..], OpCode::Data(Data::Text), true);
    client.send_frame(Message::Frame(frame)).await;
    client.refused("bad-json").await;
    let (mut client, _) = Client::join(server.address, ROOM).await;
    client.send(json!({"type": "join", "protocolVersion": 2, "room": ROOM})).await;
    client.refused("already-joined").await;
}

#[tokio::test]
async fn signals_stay_in_their_room() {
    let server = server(Limits::default());
    let (_a, joined_a) = Client::join(server.address, ROOM).await;
    let (mut other, _) = Client::join(server.address, "xyz-xyz").await;
    let candidate = json!({"candidate": ""});
    other.send(json!({"type": "signal", "to": joined_a["peerId"], "candidate": candidate})).await;
    let error = other.next().await;
    assert_eq!(error["code"], "no-such-peer");
    // Not fatal.
    other.send(json!({"type": "ping"})).await;
    assert_eq!(other.next().await["type"], "pong");
}

#[tokio::test]
async fn messages_beyond_the_size_are_refused() {
    let server = server(Limits::default());
    let text = |bytes: usize| format!(r#"{{"type":"ping","x":"{}"}}"#, "x".repeat(bytes - 22));
    let mut client = Client::open(server.address).await;
    client.send_text(&text(64 * 1024)).await;
    assert_eq!(client.next().await["type"], "pong");
    client.send_text(&text(64 * 1024 + 1)).await;
    client.refused("too-large").await;
    // In pieces, none of which is too large.
    let mut client = Client::open(server.address).await;
    let piece = "x".repeat(40_000);
    for (number, last) in [(0, false), (1, true)] {
        let data = if number == 0 { Data::Text } else { Data::Continue };
        let frame = Frame::message(piece.clone(), OpCode::Data(data), last);
        client.send_frame(Message::Frame(frame)).await;
    }
    client.refused("too-large").await;
    // Only announced: the header alone is enough to be refused, nothing is buffered for it.
    let mut client = Client::open(server.address).await;
    let mut header = Vec::new();
    let mask = Some([0; 4]);
    FrameHeader { opcode: OpCode::Data(Data::Text), mask, ..FrameHeader::default() }
        .format(1 << 40, &mut header)
        .unwrap();
    tokio::io::AsyncWriteExt::write_all(client.0.get_mut(), &header).await.unwrap();
    client.refused("too-large").await;
}

#[tokio::test]
async fn floods_are_refused() {
    let limits = Limits { messages_per_second: 1, message_burst: 10, ..Limits::default() };
    let server = server(limits);
    let mut client = Client::open(server.address).await;
    for _ in 0..11 {
        client.send(json!({"type": "ping"})).await;
    }
    for _ in 0..10 {
        assert_eq!(client.next().await["type"], "pong");
    }
    client.refused("rate-limited").await;
}

#[tokio::test]
async fn joins_are_limited_by_address() {
    let server = server(Limits { joins_per_minute: 2, ..Limits::default() });
    for _ in 0..2 {
        Client::join(server.address, ROOM).await;
    }
    let join = json!({"type": "join", "protocolVersion": 2, "room": ROOM});
    let mut client = Client::open(server.address).await;
    client.send(join.clone()).await;
    client.refused("too-many-joins").await;
    let mut client = Client::open_from("127.0.0.9", server.address).await;
    client.send(join).await;
    assert_eq!(client.next().await["type"], "joined");
}

#[tokio::test]
async fn rooms_are_limited() {
    let server = server(Limits { rooms: 1, ..Limits::default() });
    let (_a, _) = Client::join(server.address, ROOM).await;
    let mut client = Client::open(server.address).await;
    client.send(json!({"type": "join", "protocolVersion": 2, "room": "xyz-xyz"})).await;
    client.refused("too-many-rooms").await;
}

#[tokio::test]
async fn connections_are_limited() {
    let server = server(Limits { connections: 1, ..Limits::default() });
    let _first = Client::open(server.address).await;
    let (head, _) = http(server.address, "/ws", UPGRADE).await;
    assert!(head.starts_with("http/1.1 503"), "{head}");
}

#[tokio::test]
async fn idle_connections_are_closed() {
    let server = server(Limits { join_deadline: SHORT, ..Limits::default() });
    let mut client = Client::open(server.address).await;
    client.refused("idle-timeout").await;
}

#[tokio::test]
async fn silent_seats_are_freed() {
    let server = server(Limits { silence: SHORT, ..Limits::default() });
    let (mut a, _) = Client::join(server.address, ROOM).await;
    let (mut b, _) = Client::join(server.address, ROOM).await;
    assert_eq!(a.next().await["type"], "peer-joined");
    // `b` keeps talking, `a` does not.
    let left = timeout(DEADLINE, async {
        loop {
            b.send(json!({"type": "ping"})).await;
            let message = b.next().await;
            if message["type"] != "pong" {
                return message;
            }
            tokio::time::sleep(SHORT / 8).await;
        }
    });
    let left = left.await.unwrap();
    assert_eq!((&left["type"], &left["reason"]), (&json!("peer-left"), &json!("timeout")));
    a.refused("idle-timeout").await;
}

#[tokio::test]
async fn a_full_room_of_the_living_is_full() {
    let server = server(Limits::default());
    let (mut a, _) = Client::join(server.address, ROOM).await;
    let (mut b, _) = Client::join(server.address, ROOM).await;
    let mut c = Client::open(server.address).await;
    c.send(json!({"type": "join", "protocolVersion": 2, "room": ROOM})).await;
    // Reading answers the server's pings.
    let living = async {
        tokio::join!(async { while a.0.next().await.is_some() {} }, async {
            while b.0.next().await.is_some() {}
        });
    };
    tokio::select! {
        () = c.refused("room-full") => {}
        () = living => panic!("the living were disconnected"),
    }
}

#[tokio::test]
async fn a_room_full_of_the_dead_has_room() {
    let server = server(Limits { probe: SHORT, ..Limits::default() });
    let (mut a, _) = Client::join(server.address, ROOM).await;
    let (b, _) = Client::join(server.address, ROOM).await;
    let mut c = Client::open(server.address).await;
    c.send(json!({"type": "join", "protocolVersion": 2, "room": ROOM})).await;
    let living = async { while a.0.next().await.is_some() {} };
    let joined = tokio::select! {
        joined = c.next() => joined,
        () = living => panic!("the living was disconnected"),
    };
    assert_eq!(joined["type"], "joined");
    assert_eq!(joined["peers"].as_array().map(Vec::len), Some(1));
    drop(b);
}

#[tokio::test]
async fn a_seat_is_taken_back_by_its_token() {
    let server = server(Limits::default());
    let (mut a, joined_a) = Client::join(server.address, ROOM).await;
    let mut b = Client::open(server.address).await;
    let mut join = json!({"type": "join", "protocolVersion": 2, "room": ROOM, "session": "b1"});
    b.send(join.clone()).await;
    let joined_b = b.next().await;
    assert_eq!(a.next().await["type"], "peer-joined");
    join["resumeToken"] = joined_b["resumeToken"].clone();
    // While the old WebSocket is open.
    let mut again = Client::open(server.address).await;
    again.send(join.clone()).await;
    b.refused("replaced").await;
    let joined_again = again.next().await;
    assert_eq!(joined_again["resumed"], true);
    assert_eq!(joined_again["peerId"], joined_b["peerId"]);
    // After the WebSocket is gone, with a backlog.
    drop(again);
    while metric(server.address, "connections").await > 1 {}
    let candidate = json!({"candidate": "candidate:1"});
    a.send(json!({"type": "signal", "to": joined_b["peerId"], "candidate": candidate})).await;
    a.send(json!({"type": "ping"})).await;
    assert_eq!(a.next().await, json!({"type": "pong", "received": 1}));
    let mut again = Client::open(server.address).await;
    again.send(join.clone()).await;
    assert_eq!(again.next().await["resumed"], true);
    assert_eq!(
        again.next().await,
        json!({"type": "signal", "from": joined_a["peerId"], "session": joined_b["peers"][0]["session"], "candidate": candidate})
    );
    // Another session: a reloaded page.
    join["session"] = json!("b2");
    let mut reloaded = Client::open(server.address).await;
    reloaded.send(join).await;
    let joined = reloaded.next().await;
    assert_eq!((&joined["resumed"], &joined["peerId"]), (&json!(false), &joined_b["peerId"]));
    let told = a.next().await;
    assert_eq!((&told["type"], &told["session"]), (&json!("peer-joined"), &json!("b2")));
}

#[tokio::test]
async fn who_reads_too_slowly_is_disconnected() {
    let limits =
        Limits { messages_per_second: 1_000_000, message_burst: 1_000_000, ..Limits::default() };
    let server = server(limits);
    let (mut a, _) = Client::join(server.address, ROOM).await;
    let (_slow, joined_slow) = Client::join(server.address, ROOM).await;
    assert_eq!(a.next().await["type"], "peer-joined");
    let offer = json!({"type": "offer", "sdp": "x".repeat(60_000)});
    let signal = json!({"type": "signal", "to": joined_slow["peerId"], "description": offer});
    let flood = async {
        while metric(server.address, "connections").await == 2 {
            for _ in 0..20 {
                a.0.feed(Message::text(signal.to_string())).await.unwrap();
            }
            a.0.flush().await.unwrap();
        }
    };
    timeout(DEADLINE, flood).await.unwrap();
}

#[tokio::test]
async fn shutdown_tells_every_client_and_is_quick() {
    let server = server(Limits::default());
    let (mut a, _) = Client::join(server.address, ROOM).await;
    let mut fresh = Client::open(server.address).await;
    let begin = std::time::Instant::now();
    let stop = tokio::spawn(server.stop());
    a.refused("server-shutdown").await;
    fresh.refused("server-shutdown").await;
    // `a` answers the close, the other never reads again.
    assert!(a.0.next().await.is_none());
    timeout(DEADLINE, stop).await.unwrap().unwrap();
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn websockets_of_foreign_pages_are_refused() {
    let server = server(Limits::default());
    let headers = |origin: &str| format!("{UPGRADE}Origin: {origin}\r\n");
    let (head, _) = http(server.address, "/ws", &headers("https://example.com")).await;
    assert!(head.starts_with("http/1.1 403"), "{head}");
    let (head, _) = http(server.address, "/ws", "").await;
    assert!(head.starts_with("http/1.1 4"), "not a WebSocket request: {head}");
    // The own page may.
    let own = headers(&format!("http://{}", server.address));
    let (head, _) = http(server.address, "/ws", &own).await;
    assert!(head.starts_with("http/1.1 101"), "{head}");
}
