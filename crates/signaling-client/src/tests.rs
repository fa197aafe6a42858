//! The client with shortened times, against servers that misbehave.
#![allow(clippy::unwrap_used)]

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpListener;
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::Message;
use visavis_signaling_protocol::{PeerId, ResumeToken, RoomCode, ServerMessage, SessionId};

use super::*;

const DEADLINE: Duration = Duration::from_secs(10);

fn quick() -> Timing {
    Timing {
        ping: Duration::from_millis(50),
        silence: Duration::from_millis(300),
        connect: Duration::from_millis(300),
        patience: Duration::from_millis(300),
        ..Timing::default()
    }
}

async fn listen() -> (TcpListener, ClientConfig) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = ClientConfig {
        server: format!("http://{}", listener.local_addr().unwrap()).parse().unwrap(),
        room: RoomCode::random(),
        display_name: None,
        session: SessionId::random(),
        resume_token: None,
        trusted_certificate: None,
    };
    (listener, config)
}

fn joined() -> String {
    serde_json::to_string(&ServerMessage::Joined {
        peer_id: PeerId::random(),
        peers: Vec::new(),
        polite: false,
        ice_servers: Vec::new(),
        resume_token: ResumeToken::random(),
        resumed: false,
        received: None,
        locked: false,
    })
    .unwrap()
}

async fn next(events: &mut mpsc::Receiver<SignalingEvent>) -> SignalingEvent {
    timeout(DEADLINE, events.recv()).await.expect("an event in time").expect("not the end")
}

#[tokio::test]
async fn a_server_that_falls_silent_is_left() {
    let (listener, config) = listen().await;
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            let mut socket = accept_async(stream).await.unwrap();
            socket.send(Message::text(joined())).await.unwrap();
            held.push(socket);
        }
    });
    let (sender, mut events) = mpsc::channel(16);
    let _client = SignalingClient::connect_with(config, sender, quick());
    for _ in 0..2 {
        assert!(matches!(next(&mut events).await, SignalingEvent::Connecting { attempt: 1 }));
        assert!(matches!(next(&mut events).await, SignalingEvent::Opened));
        assert!(matches!(next(&mut events).await, SignalingEvent::Joined { .. }));
        let SignalingEvent::Lost { why, .. } = next(&mut events).await else { panic!("not lost") };
        assert!(why.contains("silent"), "{why}");
    }
}

#[tokio::test]
async fn a_server_that_takes_connections_and_says_nothing_is_unreachable() {
    let (listener, config) = listen().await;
    let hold = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    let (sender, mut events) = mpsc::channel(16);
    let _client = SignalingClient::connect_with(config, sender, quick());
    loop {
        match next(&mut events).await {
            SignalingEvent::Connecting { .. } | SignalingEvent::Lost { .. } => {}
            SignalingEvent::Unreachable(why) => {
                assert!(why.contains("does not answer"), "{why}");
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    hold.abort();
}

#[tokio::test]
async fn the_first_wait_is_short() {
    let (listener, config) = listen().await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut socket = accept_async(stream).await.unwrap();
            socket.send(Message::text(joined())).await.unwrap();
        }
    });
    let (sender, mut events) = mpsc::channel(16);
    let _client = SignalingClient::connect_with(config, sender, quick());
    let mut waits = Vec::new();
    while waits.len() < 3 {
        if let SignalingEvent::Lost { retry_in, .. } = next(&mut events).await {
            waits.push(retry_in.as_millis());
        }
    }
    // They grow although the server lets in every time: it does not keep the client.
    assert!(waits[0] <= 100 && (187..=250).contains(&waits[1]), "{waits:?}");
    assert!((375..=500).contains(&waits[2]), "{waits:?}");
}

#[tokio::test]
async fn unreadable_messages_are_ignored() {
    let (listener, config) = listen().await;
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut socket = accept_async(stream).await.unwrap();
        for text in ["", "{", "[]", "{\"type\":\"joined\"}", "{\"type\":\"knock\"}"] {
            socket.send(Message::text(text)).await.unwrap();
        }
        socket.send(Message::binary(&[0xff_u8; 3][..])).await.unwrap();
        socket.send(Message::text(joined())).await.unwrap();
        while socket.next().await.is_some() {}
    });
    let (sender, mut events) = mpsc::channel(16);
    let client = SignalingClient::connect_with(config, sender, quick());
    assert!(matches!(next(&mut events).await, SignalingEvent::Connecting { .. }));
    assert!(matches!(next(&mut events).await, SignalingEvent::Opened));
    assert!(matches!(next(&mut events).await, SignalingEvent::Joined { .. }));
    client.leave(Farewell::HangUp).await;
}

#[tokio::test]
async fn leaving_ends_although_nobody_listens_to_events() {
    let (listener, config) = listen().await;
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut socket = accept_async(stream).await.unwrap();
        for _ in 0..20 {
            socket.send(Message::text(joined())).await.unwrap();
        }
        while socket.next().await.is_some() {}
    });
    let (sender, _events) = mpsc::channel(1);
    let client = SignalingClient::connect_with(config, sender, quick());
    timeout(Duration::from_secs(2), client.leave(Farewell::HangUp)).await.unwrap();
}

/// Behind one address others may have used up the joins that a restarted server allows.
#[tokio::test]
async fn a_busy_server_ends_no_call_but_refuses_a_newcomer() {
    for code in [ErrorCode::TooManyJoins, ErrorCode::TooManyRooms] {
        let (listener, config) = listen().await;
        tokio::spawn(async move {
            for number in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let mut socket = accept_async(stream).await.unwrap();
                let busy = ServerMessage::Error { code, message: "busy".to_owned() };
                let busy = serde_json::to_string(&busy).unwrap();
                // Lets in the first, refuses its return twice, and the last, which is another client.
                let answer = if [1, 2, 4].contains(&number) { busy } else { joined() };
                socket.send(Message::text(answer)).await.unwrap();
            }
        });
        let again = config.clone();
        let (sender, mut events) = mpsc::channel(16);
        let client = SignalingClient::connect_with(config, sender, quick());
        let (mut times_joined, mut times_lost) = (0, 0);
        while times_joined < 2 {
            match next(&mut events).await {
                SignalingEvent::Joined { .. } => times_joined += 1,
                SignalingEvent::Lost { .. } => times_lost += 1,
                SignalingEvent::Connecting { .. } | SignalingEvent::Opened => {}
                other => panic!("{other:?}"),
            }
        }
        assert!(times_lost >= 3, "{times_lost}");
        drop(client);
        let (sender, mut events) = mpsc::channel(16);
        let _client = SignalingClient::connect_with(again, sender, quick());
        loop {
            match next(&mut events).await {
                SignalingEvent::Connecting { .. } | SignalingEvent::Opened => {}
                SignalingEvent::Refused { code: refused, .. } => break assert_eq!(refused, code),
                other => panic!("{other:?}"),
            }
        }
    }
}
