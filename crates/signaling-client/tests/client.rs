//! The client against the real server, through a network that breaks.
#![allow(clippy::unwrap_used)]

mod support;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use support::{DEADLINE, Network, Peer, Proxy, config, payload, server, server_with, session_id};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;
use visavis_signaling::{EmbeddedServer, Limits, ServerConfig, Tls};
use visavis_signaling_client::{ClientConfig, SignalingClient, SignalingEvent};
use visavis_signaling_protocol::{ErrorCode, LeaveReason, RoomCode};

/// Two peers in a fresh room, the first through a proxy.
async fn pair(server: &EmbeddedServer) -> (Peer, Peer, Proxy) {
    let room = RoomCode::random();
    let proxy = Proxy::start(server.address()).await;
    let (mut a, peers) = Peer::join(config(proxy.address, &room, "a")).await;
    assert!(peers.is_empty());
    let (b, peers) = Peer::join(config(server.address(), &room, "b")).await;
    assert_eq!(peers[0].peer_id, a.id);
    assert_eq!(a.peer_joined().await.peer_id, b.id);
    assert_ne!(a.polite, b.polite);
    (a, b, proxy)
}

/// The last event of a client that cannot or may not enter.
async fn outcome(config: ClientConfig) -> SignalingEvent {
    let (sender, mut events) = mpsc::channel(64);
    let _client = SignalingClient::connect(config, sender);
    let mut last = None;
    while let Some(event) = timeout(DEADLINE, events.recv()).await.expect("an end in time") {
        last = Some(event);
    }
    last.unwrap()
}

#[tokio::test]
async fn signals_pass_in_order() {
    let server = server();
    let (mut a, mut b, _) = pair(&server).await;
    let texts: Vec<_> = (0..100).map(|n| n.to_string()).collect();
    let texts: Vec<_> = texts.iter().map(String::as_str).collect();
    for text in &texts {
        a.send(&b, text);
    }
    b.hears(&texts).await;
    b.send(&a, "back");
    a.hears(&["back"]).await;
}

#[tokio::test]
async fn leaving_is_told_at_once() {
    let server = server();
    let (mut a, b, _) = pair(&server).await;
    let id = b.id.clone();
    b.send(&a, "last words");
    timeout(Duration::from_secs(1), b.client.leave(visavis_signaling_client::Farewell::HangUp))
        .await
        .unwrap();
    a.hears(&["last words"]).await;
    let left = SignalingEvent::PeerLeft { peer_id: id, reason: LeaveReason::Left };
    assert_eq!(a.next().await, left);
}

#[tokio::test]
async fn leaving_is_told_although_the_websocket_is_down() {
    let server = server();
    let (mut a, mut b, proxy) = pair(&server).await;
    proxy.set(Network::Cut);
    a.lost().await;
    proxy.set(Network::Fine);
    let id = a.id.clone();
    timeout(Duration::from_secs(2), a.client.leave(visavis_signaling_client::Farewell::HangUp))
        .await
        .unwrap();
    let left = SignalingEvent::PeerLeft { peer_id: id, reason: LeaveReason::Left };
    assert_eq!(b.next().await, left);
}

#[tokio::test]
async fn a_dropped_client_times_out() {
    let silence = Duration::from_millis(4500);
    let server = server_with(ServerConfig {
        limits: Limits { silence, ..Limits::default() },
        ..ServerConfig::default()
    });
    let (mut a, b, _) = pair(&server).await;
    let id = b.id.clone();
    drop(b);
    let left = SignalingEvent::PeerLeft { peer_id: id, reason: LeaveReason::Timeout };
    assert_eq!(a.next().await, left);
}

#[tokio::test]
async fn a_cut_websocket_is_resumed_with_what_was_missed() {
    let server = server();
    let (mut a, mut b, proxy) = pair(&server).await;
    proxy.set(Network::Cut);
    let begin = Instant::now();
    a.lost().await;
    a.send(&b, "x");
    a.send(&b, "y");
    b.send(&a, "1");
    b.send(&a, "2");
    proxy.set(Network::Fine);
    let id = a.id.clone();
    let (_, resumed) = a.joined().await;
    assert!(resumed);
    assert_eq!(a.id, id);
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    a.hears(&["1", "2"]).await;
    b.hears(&["x", "y"]).await;
}

#[tokio::test]
async fn what_a_dying_websocket_swallowed_comes_again_once() {
    let server = server();
    let (mut a, mut b, proxy) = pair(&server).await;
    a.send(&b, "x1");
    b.hears(&["x1"]).await;
    b.send(&a, "y1");
    a.hears(&["y1"]).await;
    proxy.set(Network::BlackHole);
    a.send(&b, "x2");
    b.send(&a, "y2");
    proxy.swallowed_both_ways().await;
    proxy.set(Network::Cut);
    a.lost().await;
    proxy.set(Network::Fine);
    assert!(a.joined().await.1);
    a.send(&b, "x3");
    b.send(&a, "y3");
    a.hears(&["y2", "y3"]).await;
    b.hears(&["x2", "x3"]).await;
}

#[tokio::test]
async fn another_session_is_a_new_life_of_the_same_peer() {
    let server = server();
    let (mut a, mut b, _) = pair(&server).await;
    let id = a.id.clone();
    a.client.set_session(session_id("a2"));
    let (peers, resumed) = a.joined().await;
    assert!(!resumed);
    assert_eq!((&a.id, &peers[0].peer_id), (&id, &b.id));
    let told = b.peer_joined().await;
    assert_eq!((&told.peer_id, told.session), (&id, session_id("a2")));
    a.send(&b, "new");
    b.hears(&["new"]).await;
}

#[tokio::test]
async fn both_come_back_after_a_restart_of_the_server() {
    let first = server();
    let address = first.address();
    let (mut a, mut b, _) = pair(&first).await;
    let (old_a, old_b) = (a.id.clone(), b.id.clone());
    drop(std::sync::Arc::into_inner(first).unwrap());
    a.lost().await;
    b.lost().await;
    a.send(&b, "for somebody who will never be");
    let again =
        || EmbeddedServer::start(ServerConfig { listen: vec![address], ..ServerConfig::default() });
    let _second = again().unwrap();
    let (_, resumed) = a.joined().await;
    assert!(!resumed);
    let (_, resumed) = b.joined().await;
    assert!(!resumed);
    assert!(a.id != old_a && b.id != old_b && a.polite != b.polite);
    // Whoever came first hears of the other; the session tells that it is the same.
    let (first, second, session) =
        if a.polite { (&mut b, &mut a, "a") } else { (&mut a, &mut b, "b") };
    assert_eq!(first.peer_joined().await.session, session_id(session));
    first.send(second, "new");
    second.hears(&["new"]).await;
}

#[tokio::test]
async fn a_full_room_is_refused_for_good() {
    let server = server();
    let room = RoomCode::random();
    let (_a, _) = Peer::join(config(server.address(), &room, "a")).await;
    let (_b, _) = Peer::join(config(server.address(), &room, "b")).await;
    let refused = outcome(config(server.address(), &room, "c")).await;
    assert!(
        matches!(refused, SignalingEvent::Refused { code: ErrorCode::RoomFull, .. }),
        "{refused:?}"
    );
}

#[tokio::test]
async fn nobody_home_is_said_in_words() {
    let nobody: SocketAddr = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let begin = Instant::now();
    let event = outcome(config(nobody, &RoomCode::random(), "a")).await;
    let SignalingEvent::Unreachable(why) = event else { panic!("{event:?}") };
    assert!(why.contains("nothing listens at") && why.contains(&nobody.to_string()), "{why}");
    assert!(begin.elapsed() < Duration::from_secs(6), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn another_kind_of_server_is_said_in_words() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
            let _ = stream.write_all(answer).await;
        }
    });
    let event = outcome(config(address, &RoomCode::random(), "a")).await;
    let SignalingEvent::Unreachable(why) = event else { panic!("{event:?}") };
    assert!(why.contains("HTTP 404"), "{why}");
}

#[tokio::test]
async fn a_server_with_too_many_connections_is_said_to_be_busy() {
    let limits = Limits { websockets_per_address: 1, ..Limits::default() };
    let server = server_with(ServerConfig { limits, ..ServerConfig::default() });
    let (_a, _) = Peer::join(config(server.address(), &RoomCode::random(), "a")).await;
    let event = outcome(config(server.address(), &RoomCode::random(), "b")).await;
    let SignalingEvent::Unreachable(why) = event else { panic!("{event:?}") };
    assert!(why.contains("too many connections"), "{why}");
}

/// Their tokens are unknown to it, and behind one address there are more of them than may join.
#[tokio::test]
async fn all_behind_one_address_come_back_after_a_restart_of_the_server() {
    let first = server();
    let address = first.address();
    let room = RoomCode::random();
    let mut peers = vec![
        Peer::join(config(address, &room, "a")).await.0,
        Peer::join(config(address, &room, "b")).await.0,
        Peer::join(config(address, &RoomCode::random(), "c")).await.0,
    ];
    peers[0].peer_joined().await;
    drop(std::sync::Arc::into_inner(first).unwrap());
    for peer in &mut peers {
        peer.lost().await;
    }
    let limits = Limits { joins_per_minute: 2, ..Limits::default() };
    let listen = vec![address];
    let _second =
        EmbeddedServer::start(ServerConfig { listen, limits, ..ServerConfig::default() }).unwrap();
    // Somebody else from there is quicker, and takes all joins.
    for name in ["x", "y"] {
        Peer::join(config(address, &RoomCode::random(), name)).await;
    }
    for peer in &mut peers {
        let (_, resumed) = peer.joined().await;
        assert!(!resumed);
    }
    let refused = outcome(config(address, &RoomCode::random(), "z")).await;
    let SignalingEvent::Refused { code, .. } = refused else { panic!("{refused:?}") };
    assert_eq!(code, ErrorCode::TooManyJoins);
}

#[tokio::test]
async fn a_name_that_is_none_is_said_in_words() {
    let mut config = config("127.0.0.1:1".parse().unwrap(), &RoomCode::random(), "a");
    // A label of more than 63 letters is no name anywhere, so that no network is asked.
    let name = "a".repeat(64);
    config.server = format!("http://{name}.invalid").parse().unwrap();
    let event = outcome(config).await;
    let SignalingEvent::Unreachable(why) = event else { panic!("{event:?}") };
    assert!(why.contains(&format!("{name}.invalid cannot be looked up")), "{why}");
}

#[tokio::test]
async fn a_self_signed_server_is_trusted_by_its_fingerprint_alone() {
    let config = ServerConfig { tls: Some(Tls::SelfSigned), ..ServerConfig::default() };
    let server = server_with(config);
    assert!(server.url().starts_with("https://127.0.0.1:"));
    let client = |trusted: Option<&str>| ClientConfig {
        server: server.url().parse().unwrap(),
        trusted_certificate: trusted.map(|text| text.parse().unwrap()),
        ..support::config(server.address(), &RoomCode::random(), "a")
    };
    let begin = Instant::now();
    for (trusted, words) in
        [(None, "is not trusted"), (Some("AB".repeat(32)), "is not the one you chose")]
    {
        let event = outcome(client(trusted.as_deref())).await;
        let SignalingEvent::Unreachable(why) = event else { panic!("{event:?}") };
        assert!(why.contains(words), "{why}");
    }
    assert!(begin.elapsed() < Duration::from_secs(3), "nothing to wait for: {:?}", begin.elapsed());
    let (peer, _) = Peer::join(client(server.fingerprint())).await;
    peer.client.leave(visavis_signaling_client::Farewell::HangUp).await;
    // Plain HTTP to a server that speaks TLS.
    let plain = support::config(server.address(), &RoomCode::random(), "a");
    let event = outcome(plain).await;
    let SignalingEvent::Unreachable(why) = event else { panic!("{event:?}") };
    assert!(why.contains("https://"), "{why}");
}

#[tokio::test]
async fn the_queue_is_bounded() {
    let server = server();
    let (mut a, b, proxy) = pair(&server).await;
    proxy.set(Network::Cut);
    a.lost().await;
    let sent = (0..1000).take_while(|_| a.client.send(b.id.clone(), None, payload("x"))).count();
    assert_eq!(sent, 128);
}
