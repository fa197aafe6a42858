//! The relay over real sockets, on ports of its own and on the page's.
#![allow(clippy::unwrap_used)]

mod support;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::turn::{Turn, channel_data};
use support::{Client, DEADLINE, ROOM, Running, connect_from, http, metric, read_to_end, serve_on};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use visavis_signaling::{Limits, RelayConfig, RelayLimits, ServerConfig, Tls};

/// Peers on this machine are what the tests have.
fn open() -> RelayConfig {
    RelayConfig { allow_private: true, ..RelayConfig::default() }
}

fn relay(config: RelayConfig) -> Running {
    relay_on("127.0.0.1:0", config)
}

fn relay_on(address: &str, config: RelayConfig) -> Running {
    serve_on(address, ServerConfig { relay: Some(config), ..ServerConfig::default() })
}

async fn ice_servers(server: SocketAddr) -> Value {
    let (_client, joined) = Client::join(server, ROOM).await;
    joined["iceServers"].clone()
}

/// A peer that is not behind the relay.
async fn peer(address: &str) -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind(address).await.unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

async fn next_datagram(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 65536];
    let (bytes, from) = timeout(DEADLINE, socket.recv_from(&mut buffer)).await.unwrap().unwrap();
    buffer.truncate(bytes);
    (buffer, from)
}

/// To the peer and back.
async fn exchange(turn: &mut Turn, relayed: SocketAddr, peer: &UdpSocket, number: u16) {
    for data in [&b""[..], b"a", b"hello", &[7; 1200], &[9; 1201]] {
        turn.send_on(number, data).await;
        assert_eq!(next_datagram(peer).await, (data.to_vec(), relayed));
        peer.send_to(data, relayed).await.unwrap();
        assert_eq!(turn.receive().await.unwrap(), channel_data(number, data, false));
    }
}

#[tokio::test]
async fn a_peer_is_told_of_the_relay_and_uses_it_over_udp() {
    let server = relay(open());
    let ice = ice_servers(server.address).await;
    let address = server.address;
    assert_eq!(ice[0], json!({"urls": [format!("stun:{address}")]}));
    let urls = [format!("turn:{address}?transport=udp"), format!("turn:{address}?transport=tcp")];
    assert_eq!(ice[1]["urls"], json!(urls));
    let mut turn = Turn::udp(address, &ice).await;
    let relayed = turn.allocate(false).await.unwrap();
    assert_eq!(relayed.ip(), address.ip());
    assert!(relayed.port() >= 49152);
    let (peer, peer_address) = peer("127.0.0.1:0").await;
    turn.bind(0x4000, peer_address).await.unwrap();
    exchange(&mut turn, relayed, &peer, 0x4000).await;
    assert_eq!(metric(address, "relay_allocations").await, 1);
    assert_eq!(metric(address, "relay_sent_bytes_total").await, 2407);
    assert_eq!(metric(address, "relay_received_bytes_total").await, 2407);
    assert_eq!(metric(address, "relay_dropped_total").await, 0);
    server.stop().await;
}

#[tokio::test]
async fn the_page_and_turn_share_a_tcp_port() {
    let server = relay(open());
    let ice = ice_servers(server.address).await;
    let mut turn = Turn::tcp(server.address, &ice).await;
    let relayed = turn.allocate(false).await.unwrap();
    let (peer, peer_address) = peer("127.0.0.1:0").await;
    turn.bind(0x4001, peer_address).await.unwrap();
    exchange(&mut turn, relayed, &peer, 0x4001).await;
    // Several messages in one segment, and one in two.
    let bytes = [b"one", b"two", b"six"].map(|data| channel_data(0x4001, data, true)).concat();
    turn.send(&bytes[..10]).await;
    turn.send(&bytes[10..]).await;
    for data in [b"one", b"two", b"six"] {
        assert_eq!(next_datagram(&peer).await.0, data);
    }
    let (head, _) = http(server.address, "/", "").await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert_eq!(metric(server.address, "relay_streams").await, 1);
    // The allocation ends with the stream.
    drop(turn);
    let begin = Instant::now();
    while metric(server.address, "relay_allocations").await > 0 {
        assert!(begin.elapsed() < DEADLINE);
    }
    server.stop().await;
}

#[tokio::test]
async fn page_websocket_and_turn_share_a_tls_port() {
    let directory = std::env::temp_dir().join(format!("visavis-relay-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let (tls, connector) = certificate(&directory);
    let config = ServerConfig { tls: Some(tls), relay: Some(open()), ..ServerConfig::default() };
    let server = serve_on("127.0.0.1:0", config);
    std::fs::remove_dir_all(&directory).unwrap();
    let connect = async || tls_stream(server.address, &connector).await;

    let url = format!("wss://localhost:{}/ws", server.address.port());
    let (socket, _) = tokio_tungstenite::client_async(url, connect().await).await.unwrap();
    let mut client = Client(socket);
    client.send(json!({"type": "join", "protocolVersion": 2, "room": ROOM})).await;
    let joined = client.next().await;
    let ice = &joined["iceServers"];
    let turns = format!("turns:localhost:{}?transport=tcp", server.address.port());
    assert_eq!(ice[1]["urls"][2], json!(turns), "{ice}");

    let (peer, peer_address) = peer("127.0.0.1:0").await;
    let mut inside_tls = Turn::stream(connect().await, ice);
    let mut plain = Turn::tcp(server.address, ice).await;
    for turn in [&mut inside_tls, &mut plain] {
        let relayed = turn.allocate(false).await.unwrap();
        turn.bind(0x4002, peer_address).await.unwrap();
        exchange(turn, relayed, &peer, 0x4002).await;
    }

    let mut page = connect().await;
    page.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    timeout(DEADLINE, page.read_to_end(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"));
    server.stop().await;
}

/// A certificate in files, and a client that trusts it.
fn certificate(directory: &std::path::Path) -> (Tls, TlsConnector) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let file = |name: &str, text: String| -> PathBuf {
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let tls = Tls::Files {
        certificate: file("cert.pem", made.cert.pem()),
        key: file("key.pem", made.signing_key.serialize_pem()),
    };
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (tls, Arc::new(config).into())
}

async fn tls_stream(server: SocketAddr, connector: &TlsConnector) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(server).await.unwrap();
    let name = "localhost".try_into().unwrap();
    timeout(DEADLINE, connector.connect(name, stream)).await.unwrap().unwrap()
}

#[tokio::test]
async fn ipv6_is_relayed() {
    let server = relay_on("[::1]:0", open());
    let mut ice = ice_servers(server.address).await;
    assert_eq!(ice[0]["urls"][0], json!(format!("stun:{}", server.address)));
    let mut turn = Turn::udp(server.address, &ice).await;
    let (peer, peer_address) = peer("[::1]:0").await;
    assert_eq!(turn.allocate(false).await.unwrap_err().0, 440);
    let relayed = turn.allocate(true).await.unwrap();
    assert!(relayed.is_ipv6());
    turn.bind(0x4000, peer_address).await.unwrap();
    exchange(&mut turn, relayed, &peer, 0x4000).await;
    ice[1]["credential"] = json!("wrong");
    let mut turn = Turn::udp(server.address, &ice).await;
    assert_eq!(turn.allocate(true).await.unwrap_err().0, 401);
}

#[tokio::test]
async fn both_families_are_relayed_from_the_wildcard() {
    let server = relay_on("[::]:0", open());
    let local = SocketAddr::from(([127, 0, 0, 1], server.address.port()));
    let ice = ice_servers(local).await;
    let mut turn = Turn::udp(local, &ice).await;
    let relayed = turn.allocate(false).await.unwrap();
    assert!(relayed.is_ipv4() && !relayed.ip().is_unspecified(), "{relayed}");
    let (peer, peer_address) = peer("127.0.0.1:0").await;
    turn.bind(0x4000, peer_address).await.unwrap();
    turn.send_on(0x4000, b"hello").await;
    let (data, from) = next_datagram(&peer).await;
    assert_eq!((&data[..], from.port()), (&b"hello"[..], relayed.port()));
}

#[tokio::test]
async fn expired_credentials_are_refused_with_the_reason() {
    let server = relay(RelayConfig { lifetime: Duration::ZERO, ..open() });
    let ice = ice_servers(server.address).await;
    let mut turn = Turn::udp(server.address, &ice).await;
    let (code, reason) = turn.allocate(false).await.unwrap_err();
    assert_eq!(code, 401);
    assert!(reason.contains("expired"), "{reason}");
}

#[tokio::test]
async fn private_peers_are_forbidden_unless_they_are_relayed_too() {
    let server = relay(RelayConfig::default());
    let ice = ice_servers(server.address).await;
    let mut a = Turn::udp(server.address, &ice).await;
    let mut b = Turn::tcp(server.address, &ice).await;
    let (at_a, at_b) = (a.allocate(false).await.unwrap(), b.allocate(false).await.unwrap());
    let private = "10.1.2.3:4000".parse().unwrap();
    assert_eq!(a.bind(0x4000, private).await.unwrap_err().0, 403);
    a.bind(0x4000, at_b).await.unwrap();
    b.bind(0x4001, at_a).await.unwrap();
    a.send_on(0x4000, b"hello").await;
    assert_eq!(b.receive().await.unwrap(), channel_data(0x4001, b"hello", false));
    b.send_on(0x4001, b"hi").await;
    assert_eq!(a.receive().await.unwrap(), channel_data(0x4000, b"hi", false));
}

#[tokio::test]
async fn credentials_of_another_server_open_nothing() {
    let (server, other) = (relay(open()), relay(open()));
    let foreign = ice_servers(other.address).await;
    let refused = async |mut turn: Turn| turn.allocate(false).await.unwrap_err().0;
    assert_eq!(refused(Turn::udp(server.address, &foreign).await).await, 401);
    assert_eq!(refused(Turn::tcp(server.address, &foreign).await).await, 401);
    // Nor do they open what somebody else's opened.
    let mut turn = Turn::udp(server.address, &ice_servers(server.address).await).await;
    turn.allocate(false).await.unwrap();
    let (_, peer_address) = peer("127.0.0.1:0").await;
    let own = (turn.user.clone(), turn.password.clone());
    let credential = |name: &str| foreign[1][name].as_str().unwrap().to_owned();
    (turn.user, turn.password) = (credential("username"), credential("credential"));
    assert_eq!(turn.bind(0x4000, peer_address).await.unwrap_err().0, 401);
    (turn.user, turn.password) = own;
    turn.bind(0x4000, peer_address).await.unwrap();
    assert_eq!(metric(server.address, "relay_allocations").await, 1);
}

#[tokio::test]
async fn what_exceeds_the_rate_is_dropped_and_counted() {
    let limits = RelayLimits { bytes_per_second: 20_000, ..RelayLimits::default() };
    let server = relay(RelayConfig { limits, ..open() });
    let ice = ice_servers(server.address).await;
    let mut turn = Turn::udp(server.address, &ice).await;
    turn.allocate(false).await.unwrap();
    let (peer, peer_address) = peer("127.0.0.1:0").await;
    turn.bind(0x4000, peer_address).await.unwrap();
    // Three seconds' worth (more would overflow the socket), and then an answer: all has been read.
    for _ in 0..60 {
        turn.send_on(0x4000, &[7; 1000]).await;
    }
    turn.bind(0x4000, peer_address).await.unwrap();
    let sent = metric(server.address, "relay_sent_bytes_total").await;
    let dropped = metric(server.address, "relay_dropped_total").await;
    assert!(sent > 0 && sent < 50_000, "{sent} bytes");
    assert!(dropped > 10 && sent / 1000 + dropped == 60, "{dropped} datagrams, {sent} bytes");
    // Nobody else pays for it.
    let mut other = Turn::udp(server.address, &ice).await;
    let relayed = other.allocate(false).await.unwrap();
    other.bind(0x4000, peer_address).await.unwrap();
    other.send_on(0x4000, b"hello").await;
    while next_datagram(&peer).await != (b"hello".to_vec(), relayed) {}
}

#[tokio::test]
async fn quotas_are_kept() {
    let limits = RelayLimits { allocations: 3, allocations_per_user: 2, ..RelayLimits::default() };
    let server = relay(RelayConfig { limits, ..open() });
    let ice = ice_servers(server.address).await;
    let mut held = Vec::new();
    for expected in [None, None, Some(486)] {
        let mut turn = Turn::udp(server.address, &ice).await;
        assert_eq!(turn.allocate(false).await.err().map(|(code, _)| code), expected);
        held.push(turn);
    }
    let ice = ice_servers(server.address).await;
    for expected in [None, Some(508)] {
        let mut turn = Turn::udp(server.address, &ice).await;
        assert_eq!(turn.allocate(false).await.err().map(|(code, _)| code), expected);
        held.push(turn);
    }
}

#[tokio::test]
async fn ports_stay_within_their_range() {
    let free = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let server = relay(RelayConfig { ports: free..=free, ..open() });
    let ice = ice_servers(server.address).await;
    let mut a = Turn::udp(server.address, &ice).await;
    assert_eq!(a.allocate(false).await.unwrap().port(), free);
    let mut b = Turn::udp(server.address, &ice).await;
    assert_eq!(b.allocate(false).await.unwrap_err().0, 508);
}

#[tokio::test]
async fn streams_that_are_idle_or_no_turn_are_closed() {
    let limits = RelayLimits { idle: Duration::from_millis(100), ..RelayLimits::default() };
    let server = relay(RelayConfig { limits, ..open() });
    let ice = ice_servers(server.address).await;
    let mut used = Turn::tcp(server.address, &ice).await;
    used.allocate(false).await.unwrap();
    let mut idle = Turn::tcp(server.address, &ice).await;
    idle.send(&[0, 1, 0]).await;
    assert_eq!(idle.receive().await, None);
    let mut nonsense = Turn::tcp(server.address, &ice).await;
    nonsense.send(&[0; 64]).await;
    assert_eq!(nonsense.receive().await, None);
    let mut endless = Turn::tcp(server.address, &ice).await;
    endless.send(&[0, 1, 0xff, 0xfc, 0x21, 0x12, 0xa4, 0x42]).await;
    assert_eq!(endless.receive().await, None);
    assert_eq!(metric(server.address, "relay_allocations").await, 1);
}

#[tokio::test]
async fn the_relay_may_listen_elsewhere_and_serves_no_page_there() {
    let elsewhere = Some("127.0.0.1:0".parse().unwrap());
    let host = Some("turn.example.org".to_owned());
    let server = relay(RelayConfig { listen: elsewhere, host, ..open() });
    let ice = ice_servers(server.address).await;
    let url = ice[0]["urls"][0].as_str().unwrap();
    let port = url.strip_prefix("stun:turn.example.org:").unwrap().parse().unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    assert_ne!(address, server.address);
    for mut turn in [Turn::udp(address, &ice).await, Turn::tcp(address, &ice).await] {
        turn.allocate(false).await.unwrap();
    }
    let (head, _) = http(address, "/", "").await;
    assert!(head.starts_with("http/1.1 404"), "{head}");
}

/// Waits until `relay_streams` is what it should be.
async fn streams(server: SocketAddr, count: u64) {
    let begin = Instant::now();
    while metric(server, "relay_streams").await != count {
        assert!(begin.elapsed() < DEADLINE, "{}", metric(server, "relay_streams").await);
    }
}

#[tokio::test]
async fn streams_of_one_byte_hold_no_more_than_a_share_and_not_for_long() {
    let limits = RelayLimits {
        connections: 8,
        connections_per_address: 4,
        first_request: Duration::from_millis(1500),
        ..RelayLimits::default()
    };
    let server = relay(RelayConfig { limits, ..open() });
    let ice = ice_servers(server.address).await;
    let begin = Instant::now();
    let mut held = Vec::new();
    for _ in 0..8 {
        let mut stream = connect_from("127.0.0.2", server.address).await;
        stream.write_all(&[0]).await.unwrap();
        held.push(stream);
    }
    streams(server.address, 4).await;
    // Somebody else gets in, and stays.
    let mut turn = Turn::tcp(server.address, &ice).await;
    turn.allocate(false).await.unwrap();
    // A bare question proves nothing.
    let mut asks = Turn::tcp(server.address, &ice).await;
    asks.password = "wrong".into();
    assert_eq!(asks.allocate(false).await.unwrap_err().0, 401);
    for stream in &mut held {
        read_to_end(stream).await;
    }
    assert_eq!(asks.receive().await, None);
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    streams(server.address, 1).await;
    let (_, peer_address) = peer("127.0.0.1:0").await;
    turn.bind(0x4000, peer_address).await.unwrap();
}

#[tokio::test]
async fn credentials_end_when_their_client_hangs_up() {
    let server = relay(open());
    let (mut client, joined) = Client::join(server.address, ROOM).await;
    let (_other, _) = Client::join(server.address, ROOM).await;
    let ice = joined["iceServers"].clone();
    let mut turn = Turn::udp(server.address, &ice).await;
    turn.allocate(false).await.unwrap();
    let (_, peer_address) = peer("127.0.0.1:0").await;
    turn.bind(0x4000, peer_address).await.unwrap();
    // While its WebSocket is away it goes on.
    drop(client);
    turn.bind(0x4000, peer_address).await.unwrap();
    client = Client::open(server.address).await;
    let token = joined["resumeToken"].clone();
    client
        .send(json!({"type": "join", "protocolVersion": 2, "room": ROOM, "resumeToken": token}))
        .await;
    assert_eq!(client.next().await["peerId"], joined["peerId"]);
    turn.bind(0x4000, peer_address).await.unwrap();

    client.send(json!({"type": "leave"})).await;
    client.closed(CloseCode::Normal).await;
    let (code, reason) = turn.bind(0x4000, peer_address).await.unwrap_err();
    assert_eq!(code, 401);
    assert!(reason.contains("ended with the seat"), "{reason}");
    let mut fresh = Turn::udp(server.address, &ice).await;
    assert_eq!(fresh.allocate(false).await.unwrap_err().0, 401);
    let begin = Instant::now();
    while metric(server.address, "relay_allocations").await > 0 {
        assert!(begin.elapsed() < DEADLINE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Its seat is freed for silence; it comes back with its token, and its call never noticed.
#[tokio::test]
async fn a_relayed_call_outlives_the_loss_of_its_websocket() {
    let limits = Limits { silence: Duration::from_secs(2), ..Limits::default() };
    let config = ServerConfig { relay: Some(open()), limits, ..ServerConfig::default() };
    let server = serve_on("127.0.0.1:0", config);
    let (client, joined) = Client::join(server.address, ROOM).await;
    let ice = joined["iceServers"].clone();
    let mut turn = Turn::udp(server.address, &ice).await;
    let relayed = turn.allocate(false).await.unwrap();
    let (peer, peer_address) = peer("127.0.0.1:0").await;
    turn.bind(0x4000, peer_address).await.unwrap();
    drop(client);
    let begin = Instant::now();
    while metric(server.address, "seats").await > 0 {
        assert!(begin.elapsed() < DEADLINE);
    }
    exchange(&mut turn, relayed, &peer, 0x4000).await;
    turn.bind(0x4000, peer_address).await.unwrap();
    let mut fresh = Turn::udp(server.address, &ice).await;
    assert_eq!(fresh.allocate(false).await.unwrap_err().0, 401);

    let mut client = Client::open(server.address).await;
    let token = joined["resumeToken"].clone();
    client
        .send(json!({"type": "join", "protocolVersion": 2, "room": ROOM, "resumeToken": token}))
        .await;
    assert_ne!(client.next().await["peerId"], joined["peerId"], "another seat");
    fresh.allocate(false).await.unwrap();
    exchange(&mut turn, relayed, &peer, 0x4000).await;
    client.send(json!({"type": "leave"})).await;
    client.closed(CloseCode::Normal).await;
    assert_eq!(turn.bind(0x4000, peer_address).await.unwrap_err().0, 401);
}
