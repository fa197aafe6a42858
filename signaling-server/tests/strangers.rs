//! What somebody who knows nothing may take from the server, and for how long.
#![allow(clippy::unwrap_used)]

mod support;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::SinkExt;
use serde_json::{Value, json};
use support::{
    Client, DEADLINE, ROOM, Running, UPGRADE, connect_from, http, http_from, metric, read_to_end,
    serve, server,
};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use visavis_signaling::{Limits, MetricsAt, ServerConfig, Tls};

const SHORT: Duration = Duration::from_millis(300);
const ONE: &str = "127.0.0.1";
const OTHER: &str = "127.0.0.2";

/// Waits for a figure of `/metrics`.
async fn until(server: SocketAddr, name: &str, is: impl Fn(u64) -> bool) {
    let begin = Instant::now();
    while !is(metric(server, name).await) {
        assert!(begin.elapsed() < DEADLINE, "{name}: {}", metric(server, name).await);
    }
}

fn join(room: &str) -> Value {
    json!({"type": "join", "protocolVersion": 2, "room": room})
}

#[tokio::test]
async fn tcp_connections_are_shared_out_by_address() {
    let server = server(Limits { tcp_connections_per_address: 3, ..Limits::default() });
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(Client::open(server.address).await);
    }
    let (head, body) = http(server.address, "/", "").await;
    assert!(head.starts_with("http/1.1 429") && head.contains("retry-after"), "{head}");
    assert!(body.contains("this address"), "{body}");
    let (head, _) = http_from(OTHER, server.address, "/", "").await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    held.pop();
    let begin = Instant::now();
    while !http(server.address, "/", "").await.0.starts_with("http/1.1 200") {
        assert!(begin.elapsed() < DEADLINE, "what is closed is given back");
    }
}

#[tokio::test]
async fn tcp_connections_are_limited_in_all() {
    let server = server(Limits { tcp_connections: 2, ..Limits::default() });
    let _held = [Client::open(server.address).await, Client::open(server.address).await];
    let (head, _) = http_from(OTHER, server.address, "/", "").await;
    assert!(head.starts_with("http/1.1 503"), "{head}");
}

#[tokio::test]
async fn new_connections_a_second_are_limited_by_address() {
    let server = server(Limits { tcp_connections_per_second: 1, ..Limits::default() });
    let mut heads = Vec::new();
    for _ in 0..30 {
        heads.push(http(server.address, "/healthz", "").await.0);
    }
    let served = heads.iter().filter(|head| head.starts_with("http/1.1 200")).count();
    let refused = heads.iter().filter(|head| head.starts_with("http/1.1 429")).count();
    assert!((20..25).contains(&served) && served + refused == 30, "{served} {refused}");
    let (head, _) = http_from(OTHER, server.address, "/", "").await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
}

#[tokio::test]
async fn requests_a_second_are_limited_by_address() {
    let server = server(Limits { requests_per_second: 1, ..Limits::default() });
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {}\r\n\r\n", server.address);
    stream.write_all(request.repeat(30).as_bytes()).await.unwrap();
    let answers = read_to_end(&mut stream).await;
    let served = answers.matches("HTTP/1.1 200").count();
    assert!((20..25).contains(&served), "{served}");
    assert_eq!(answers.matches("HTTP/1.1 429").count(), 1, "and no more of that connection");
    let (head, _) = http_from(OTHER, server.address, "/healthz", "").await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
}

#[tokio::test]
async fn websockets_are_shared_out_by_address() {
    let server = server(Limits { websockets_per_address: 2, ..Limits::default() });
    let first = Client::open(server.address).await;
    let _second = Client::open(server.address).await;
    let (head, _) = http(server.address, "/ws", UPGRADE).await;
    assert!(head.starts_with("http/1.1 429"), "{head}");
    let _other = Client::open_from(OTHER, server.address).await;
    drop(first);
    let begin = Instant::now();
    while !http(server.address, "/ws", UPGRADE).await.0.starts_with("http/1.1 101") {
        assert!(begin.elapsed() < DEADLINE, "what is closed is given back");
    }
}

#[tokio::test]
async fn bytes_of_messages_are_shared_out_by_address() {
    let limits = Limits { bytes_per_second_per_address: 65_536, ..Limits::default() };
    let server = server(limits);
    // Each within its own rate, all together beyond the half megabyte that may come at once.
    let mut pongs = 0;
    'clients: for _ in 0..8 {
        let mut client = Client::open(server.address).await;
        for _ in 0..100 {
            client.send(json!({"type": "ping"})).await;
            let answer = client.next().await;
            if answer["type"] != "pong" {
                assert_eq!(answer["code"], "rate-limited");
                break 'clients;
            }
            pongs += 1;
        }
    }
    assert!((512..700).contains(&pongs), "{pongs}");
    let mut other = Client::open_from(OTHER, server.address).await;
    other.send(join(ROOM)).await;
    assert_eq!(other.next().await["type"], "joined");
}

#[tokio::test]
async fn control_frames_count_as_messages() {
    let server = server(Limits { messages_per_second: 1, message_burst: 10, ..Limits::default() });
    let mut client = Client::open(server.address).await;
    // All at once, however busy the machine is.
    for _ in 0..40 {
        client.0.feed(Message::Ping("x".into())).await.unwrap();
    }
    client.0.flush().await.unwrap();
    client.refused("rate-limited").await;
}

/// Seats whose WebSockets are gone, each with as much for it as may be kept.
#[tokio::test]
async fn what_is_kept_for_all_stays_within_its_budget() {
    const BUDGET: u64 = 2 * 1024 * 1024;
    let server = server(Limits {
        kept_bytes: BUDGET as usize,
        messages_per_second: 1_000_000,
        message_burst: 1_000_000,
        bytes_per_second_per_address: u32::MAX,
        ..Limits::default()
    });
    // Somebody whose WebSocket is away for a moment, and who is sent little.
    let (mut friend, joined) = Client::join(server.address, ROOM).await;
    let mut away = Client::open_from(OTHER, server.address).await;
    let mut back = join(ROOM);
    back["session"] = json!("s");
    back["received"] = json!(0);
    away.send(back.clone()).await;
    let away_joined = away.next().await;
    assert_eq!(joined["peers"], json!([]));
    assert_eq!(friend.next().await["type"], "peer-joined");
    drop(away);
    until(server.address, "connections", |count| count == 1).await;
    let candidate = json!({"candidate": "candidate:1"});
    let signal = json!({"type": "signal", "to": away_joined["peerId"], "candidate": candidate});
    friend.send(signal).await;

    let offer = json!({"type": "offer", "sdp": "x".repeat(60_000)});
    let mut most = 0;
    let mut held = Vec::new();
    for n in 0..10_u8 {
        let room = format!("xyz-ab{}", char::from(b'a' + n));
        let (mut sender, _) = Client::join(server.address, &room).await;
        let (receiver, joined) = Client::join(server.address, &room).await;
        assert_eq!(sender.next().await["type"], "peer-joined");
        drop(receiver);
        until(server.address, "connections", |count| count == 2 + u64::from(n)).await;
        for _ in 0..8 {
            sender
                .send(json!({"type": "signal", "to": joined["peerId"], "description": offer}))
                .await;
        }
        sender.send(json!({"type": "ping"})).await;
        assert_eq!(sender.next().await["type"], "pong");
        let kept = metric(server.address, "kept_bytes").await;
        assert!(kept <= BUDGET, "{kept}");
        most = most.max(kept);
        held.push(sender);
    }
    assert!(most > BUDGET / 2, "{most}");
    assert!(metric(server.address, "gave_way_total").await > 0);
    // The largest gave way, not this one.
    back["resumeToken"] = away_joined["resumeToken"].clone();
    let mut again = Client::open_from(OTHER, server.address).await;
    again.send(back).await;
    assert_eq!(again.next().await["resumed"], true);
    assert_eq!(again.next().await["candidate"], candidate);
}

#[tokio::test]
async fn slow_heads_are_not_waited_for() {
    let server = server(Limits { head: SHORT, ..Limits::default() });
    // Nothing at all, and what may still become HTTP/2.
    for begin in ["", "PRI * HTTP/2.0\r\n\r\n", "P"] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(begin.as_bytes()).await.unwrap();
        read_to_end(&mut stream).await;
    }
    // A letter now and then.
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let slow = async {
        for letter in "GET / HTTP/1.1\r\nX-Slow: ".bytes().chain(std::iter::repeat(b'x')) {
            if writer.write_all(&[letter]).await.is_err() {
                break;
            }
            tokio::time::sleep(SHORT / 10).await;
        }
    };
    let begin = Instant::now();
    tokio::select! {
        _ = read_to_end(&mut reader) => {}
        () = slow => {}
    }
    assert!(begin.elapsed() < 10 * SHORT, "{:?}", begin.elapsed());
    // Nothing after a first request.
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert!(read_to_end(&mut stream).await.ends_with("ok\n"));
}

#[tokio::test]
async fn who_does_not_read_an_answer_is_disconnected() {
    let server = server(Limits { write: SHORT, ..Limits::default() });
    let mut stream = connect_from(ONE, server.address).await;
    let request = format!("GET /main.js HTTP/1.1\r\nHost: {}\r\n\r\n", server.address);
    let requests = request.repeat(100);
    // Until the server answers no more, since nothing is read.
    let begin = Instant::now();
    while begin.elapsed() < DEADLINE {
        match timeout(SHORT / 3, stream.write_all(requests.as_bytes())).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => break,
        }
    }
    // The figures come by a connection of their own.
    until(server.address, "tcp_connections", |count| count == 1).await;
}

#[tokio::test]
async fn heads_are_no_longer_than_browsers_make_them() {
    let server = server(Limits::default());
    let lines = |count: usize| "X-A: b\r\n".repeat(count);
    let (head, _) = http(server.address, "/healthz", &lines(60)).await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    let (head, _) = http(server.address, "/healthz", &lines(80)).await;
    assert!(head.starts_with("http/1.1 431"), "{head}");
    let long = format!("X-A: {}\r\n", "b".repeat(20_000));
    let (head, _) = http(server.address, "/healthz", &long).await;
    assert!(head.starts_with("http/1.1 431"), "{head}");
}

#[tokio::test]
async fn bodies_are_not_waited_for() {
    let server = server(Limits { head: SHORT, ..Limits::default() });
    for framing in ["Content-Length: 1000000000", "Transfer-Encoding: chunked"] {
        let mut stream = connect_from(ONE, server.address).await;
        let request = format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = read_to_end(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 405"), "{framing}: {answer}");
    }
}

#[tokio::test]
async fn websockets_are_not_compressed() {
    let server = server(Limits::default());
    let extension = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    let (head, _) = http(server.address, "/ws", &format!("{UPGRADE}{extension}")).await;
    assert!(head.starts_with("http/1.1 101"), "{head}");
    assert!(!head.contains("extensions"), "{head}");
}

#[tokio::test]
async fn every_answer_has_its_headers() {
    let server = server(Limits::default());
    let foreign = format!("{UPGRADE}Origin: https://example.com\r\n");
    for (path, headers) in
        [("/healthz", ""), ("/ws", ""), ("/ws", &foreign), ("/nothing", ""), ("/", "")]
    {
        let (head, _) = http(server.address, path, headers).await;
        for line in [
            "x-content-type-options: nosniff",
            "x-frame-options: deny",
            "referrer-policy: no-referrer",
            "frame-ancestors 'none'",
        ] {
            assert_eq!(head.matches(line).count(), 1, "{path}: {line} in {head}");
        }
        assert!(!head.contains("strict-transport-security"), "plain http: {head}");
    }
    // A name with other characters is quoted nowhere.
    let mut stream = connect_from(ONE, server.address).await;
    let request = "GET / HTTP/1.1\r\nHost: a;script-src *\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let answer = read_to_end(&mut stream).await;
    assert!(!answer.contains("script-src *"), "{answer}");
}

#[tokio::test]
async fn browsers_are_told_to_stay_with_https_where_they_trust_the_certificate() {
    let folder = std::env::temp_dir().join(format!("visavis-hsts-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let files = Tls::Files { certificate, key };
    for (tls, hsts, told) in
        [(files.clone(), true, true), (files, false, false), (Tls::SelfSigned, true, false)]
    {
        let server = serve(ServerConfig { tls: Some(tls), hsts, ..ServerConfig::default() });
        let head = https_head(server.address).await;
        assert!(head.starts_with("http/1.1 200"), "{head}");
        assert_eq!(head.contains("strict-transport-security: max-age="), told, "{head}");
        assert!(!head.contains("includesubdomains"), "{head}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Of the page, from a client that trusts anything.
async fn https_head(server: SocketAddr) -> String {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(std::sync::Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(std::sync::Arc::new(Anything(provider)))
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let stream = TcpStream::connect(server).await.unwrap();
    let name = "localhost".try_into().unwrap();
    let mut stream = timeout(DEADLINE, connector.connect(name, stream)).await.unwrap().unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    let answer = read_to_end(&mut stream).await;
    answer.split_once("\r\n\r\n").unwrap().0.to_lowercase()
}

#[derive(Debug)]
struct Anything(std::sync::Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[tokio::test]
async fn figures_have_an_address_of_their_own() {
    let any = "127.0.0.1:0".parse().unwrap();
    let config = ServerConfig { metrics: MetricsAt::Address(any), ..ServerConfig::default() };
    let listen = vec!["127.0.0.1:0".parse().unwrap()];
    let server = visavis_signaling::Server::bind(ServerConfig { listen, ..config }).unwrap();
    let (page, figures) = (server.address(), server.metrics_address().unwrap());
    let (stop, asked) = tokio::sync::oneshot::channel::<()>();
    let task = tokio::spawn(server.run(async {
        let _ = asked.await;
    }));
    let (head, _) = http(page, "/metrics", "").await;
    assert!(head.starts_with("http/1.1 404"), "{head}");
    let (head, body) = http(figures, "/metrics", "").await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(body.contains("visavis_signaling_tcp_connections 0"), "its own do not count: {body}");
    let (head, _) = http(figures, "/", "").await;
    assert!(head.starts_with("http/1.1 404"), "{head}");
    // Nobody asked for them.
    assert_eq!(ServerConfig::default().metrics, MetricsAt::Nowhere);
    drop(stop);
    timeout(DEADLINE, task).await.unwrap().unwrap().unwrap();
}

/// Joins behind a proxy at `proxy`, which says it serves `forwarded`.
async fn joins_behind(server: &Running, proxy: &str, header: &str) -> Value {
    let stream = connect_from(proxy, server.address).await;
    let mut request =
        tokio_tungstenite::tungstenite::client::IntoClientRequest::into_client_request(format!(
            "ws://{}/ws",
            server.address
        ))
        .unwrap();
    let (name, value) = header.split_once(": ").unwrap();
    let name = tokio_tungstenite::tungstenite::http::HeaderName::try_from(name).unwrap();
    request.headers_mut().insert(name, value.parse().unwrap());
    let (socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    let mut client = Client(socket);
    client.send(join(ROOM)).await;
    let answer = client.next().await;
    client.send(json!({"type": "leave"})).await;
    answer
}

#[tokio::test]
async fn only_proxies_that_are_named_are_believed() {
    let limits = Limits { joins_per_minute: 1, ..Limits::default() };
    let trusted_proxies = vec!["127.0.0.2".parse().unwrap(), "127.0.1.0/24".parse().unwrap()];
    let server = serve(ServerConfig { limits, trusted_proxies, ..ServerConfig::default() });
    let joined = async |proxy: &str, header: &str| {
        joins_behind(&server, proxy, header).await["type"] == "joined"
    };
    assert!(joined("127.0.0.2", "X-Forwarded-For: 192.0.2.1").await);
    assert!(joined("127.0.0.2", "X-Forwarded-For: 192.0.2.2").await);
    assert!(!joined("127.0.0.2", "X-Forwarded-For: 192.0.2.1").await, "had its join");
    // What the client itself said stands to the left.
    assert!(!joined("127.0.0.2", "X-Forwarded-For: 198.51.100.9, 192.0.2.1").await);
    assert!(joined("127.0.1.7", "X-Forwarded-For: 192.0.2.3, 127.0.0.2").await);
    assert!(!joined("127.0.0.2", "Forwarded: for=192.0.2.3").await);
    assert!(joined("127.0.0.2", "Forwarded: for=\"[2001:db8::1]:80\"").await);
    assert!(!joined("127.0.0.2", "Forwarded: for=\"[2001:db8::2]\"").await, "of the same /64");
    // Nobody else is believed.
    assert!(joined("127.0.0.3", "X-Forwarded-For: 192.0.2.4").await);
    assert!(!joined("127.0.0.3", "X-Forwarded-For: 192.0.2.5").await);
}
