//! The program itself: flags, what it prints and logs, signals.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod support;

use std::net::SocketAddr;
use std::process::{Command as StdCommand, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use support::{Client, DEADLINE, http};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

const PROGRAM: &str = env!("CARGO_BIN_EXE_visavis-signaling");

/// Starts it on a free port, with what it prints after its address.
async fn start(flags: &[&str]) -> (Child, SocketAddr, Lines<BufReader<ChildStdout>>) {
    let mut child = Command::new(PROGRAM)
        .args(if flags.contains(&"--listen") { &[][..] } else { &["--listen", "127.0.0.1:0"] })
        .args(flags)
        .env_remove("RUST_LOG")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = timeout(DEADLINE, lines.next_line()).await.unwrap().unwrap().unwrap();
    let address = first.rsplit(' ').next().unwrap().parse().unwrap();
    (child, address, lines)
}

fn signal(child: &Child, name: &str) {
    let id = child.id().unwrap().to_string();
    assert!(StdCommand::new("kill").args([name, &id]).status().unwrap().success());
}

#[tokio::test]
async fn logs_hold_nothing_private() {
    let (mut child, address, _out) = start(&[]).await;
    let join = json!({"type": "join", "protocolVersion": 2, "room": "qzx-qzx",
        "displayName": "Hypatia"});
    let mut a = Client::open_from("127.0.0.77", address).await;
    a.send(join.clone()).await;
    let joined = a.next().await;
    let mut b = Client::open_from("127.0.0.78", address).await;
    b.send(join.clone()).await;
    b.next().await;
    let offer = json!({"type": "offer", "sdp": "v=0 SECRETSDP 192.0.2.99"});
    b.send(json!({"type": "signal", "to": joined["peerId"], "description": offer})).await;
    assert_eq!(a.next().await["type"], "peer-joined");
    assert_eq!(a.next().await["type"], "signal");
    b.send_text("{\"type\":\"qzx-qzx SECRETSDP 192.0.2.99\"}").await;
    b.refused("bad-message").await;
    signal(&child, "-TERM");
    a.refused("server-shutdown").await;
    let mut log = String::new();
    let mut stderr = child.stderr.take().unwrap();
    timeout(DEADLINE, stderr.read_to_string(&mut log)).await.unwrap().unwrap();
    assert!(log.contains("INFO"), "there is a log at all: {log}");
    let log = log.to_lowercase();
    let (peer, token) =
        (joined["peerId"].as_str().unwrap(), joined["resumeToken"].as_str().unwrap());
    for secret in
        ["qzx", "secretsdp", "192.0.2.99", "127.0.0.77", "127.0.0.78", "hypatia", peer, token]
    {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
}

#[tokio::test]
async fn signals_end_it_within_two_seconds() {
    for name in ["-TERM", "-INT"] {
        let (mut child, address, _out) = start(&[]).await;
        let (mut client, _) = Client::join(address, support::ROOM).await;
        let begin = Instant::now();
        signal(&child, name);
        client.refused("server-shutdown").await;
        let status = timeout(DEADLINE, child.wait()).await.unwrap().unwrap();
        assert!(status.success(), "{status}");
        assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    }
}

#[tokio::test]
async fn a_self_signed_server_prints_its_links_and_fingerprint() {
    let (_child, address, mut out) = start(&["--tls-self-signed"]).await;
    let mut text = String::new();
    while !text.contains("SHA-256") {
        text += &timeout(DEADLINE, out.next_line()).await.unwrap().unwrap().unwrap();
    }
    assert!(text.contains(&format!("https://{address}")), "{text}");
    let fingerprint = text.rsplit(' ').next().unwrap();
    assert_eq!(fingerprint.split(':').count(), 32, "{fingerprint}");
}

#[tokio::test]
async fn turn_credentials_are_minted_on_every_join() {
    let flags = [
        "--turn-url",
        "turn:turn.example.org:3478?transport=udp",
        "--turn-secret",
        "north",
        "--ice-server",
        "stun:stun.example.org",
    ];
    let (_child, address, _out) = start(&flags).await;
    let (_client, joined) = Client::join(address, support::ROOM).await;
    assert_eq!(joined["iceServers"][0], json!({"urls": ["stun:stun.example.org"]}));
    let turn = &joined["iceServers"][1];
    assert_eq!(turn["urls"], json!(["turn:turn.example.org:3478?transport=udp"]));
    let (expiry, peer) = turn["username"].as_str().unwrap().split_once(':').unwrap();
    assert_eq!(peer, joined["peerId"]);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let left = expiry.parse::<u64>().unwrap() - now;
    assert!((21_500..=21_600).contains(&left), "{left}");
    assert_eq!(turn["credential"].as_str().unwrap().len(), 28);
}

#[tokio::test]
async fn the_relay_is_there_unless_only_this_machine_reaches_the_server_or_another_does_it() {
    let own = "stun:127.0.0.1:";
    let turn = ["--turn-url", "turn:turn.example.org", "--turn-secret", "north"];
    let listen = ["--relay-listen", "127.0.0.1:0"];
    let everywhere = ["--listen", "0.0.0.0:0"];
    for (flags, url) in [
        (vec![], None),
        (listen.to_vec(), Some(own)),
        (everywhere.to_vec(), Some(own)),
        ([&everywhere[..], &["--no-relay"]].concat(), None),
        ([&everywhere[..], &["--trust-proxy", "127.0.0.1"]].concat(), None),
        ([&everywhere[..], &turn].concat(), Some("turn:turn.example.org")),
    ] {
        let (_child, address, _out) = start(&flags).await;
        let local = SocketAddr::from(([127, 0, 0, 1], address.port()));
        let (_client, joined) = Client::join(local, support::ROOM).await;
        let first = joined["iceServers"][0]["urls"][0].as_str();
        assert_eq!(first.is_some(), url.is_some(), "{flags:?}: {first:?}");
        assert!(first.unwrap_or_default().starts_with(url.unwrap_or_default()), "{flags:?}");
        let count = joined["iceServers"].as_array().unwrap().len();
        assert_eq!(count, if url == Some(own) { 2 } else { url.iter().len() }, "{flags:?}");
    }
}

#[test]
fn wrong_flags_are_explained() {
    for (flags, word) in [
        (vec!["--listen", "8080"], "--listen"),
        (vec!["--ice-server", "http://example.org"], "stun:"),
        (vec!["--ice-server", "turn:example.org"], "USER,CREDENTIAL"),
        (vec!["--turn-url", "turn:example.org"], "--turn-secret"),
        (vec!["--turn-secret", "x"], "--turn-url"),
        (vec!["--turn-secret-file", "/nowhere"], "/nowhere"),
        (vec!["--tls-cert", "x.pem"], "--tls-key"),
        (vec!["--tls-self-signed", "--tls-cert", "x", "--tls-key", "y"], "--tls-cert"),
        (vec!["--max-rooms", "0"], "--max-rooms"),
        (vec!["--relay-port-range", "60000-50000"], "FIRST-LAST"),
        (vec!["--relay-listen", "0.0.0.0:3478", "--no-relay"], "--no-relay"),
        (vec!["--relay-host", "a b"], "host name"),
        (vec!["--messages-per-second", "many"], "--messages-per-second"),
        (vec!["--trust-proxy", "proxy.example.org"], "ADDRESS[/PREFIX]"),
        (vec!["--trust-proxy", "10.0.0.0/33"], "ADDRESS[/PREFIX]"),
        (vec!["--metrics-listen", "9464"], "ADDRESS:PORT"),
        (vec!["--max-seats-per-address", "0"], "--max-seats-per-address"),
        (vec!["--trust-forwarded-for"], "--trust-forwarded-for"),
        (vec!["--shout"], "--shout"),
    ] {
        let output = StdCommand::new(PROGRAM).args(&flags).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {text}");
        assert!(text.contains(word), "{flags:?}: {text}");
    }
}

#[tokio::test]
async fn figures_are_where_they_are_said_to_be() {
    // Taken, by this test or by another server.
    let _taken = std::net::TcpListener::bind("127.0.0.1:9464");
    for (flags, on_page) in [
        (vec![], false),
        (vec!["--metrics-listen", "off"], false),
        (vec!["--metrics-listen", "page"], true),
        (vec!["--metrics-listen", "127.0.0.1:0"], false),
    ] {
        let (_child, address, mut out) = start(&flags).await;
        let (head, _) = http(address, "/metrics", "").await;
        let status = if on_page { "http/1.1 200" } else { "http/1.1 404" };
        assert!(head.starts_with(status), "{flags:?}: {head}");
        if flags.last() == Some(&"127.0.0.1:0") {
            let figures = loop {
                let line = timeout(DEADLINE, out.next_line()).await.unwrap().unwrap().unwrap();
                if let Some((_, rest)) = line.split_once("metrics at http://") {
                    break rest.trim_end_matches("/metrics").parse().unwrap();
                }
            };
            let (head, _) = http(figures, "/metrics", "").await;
            assert!(head.starts_with("http/1.1 200"), "{head}");
        }
    }
    // Where somebody asked for it, it is an error.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let flags = ["--listen", "127.0.0.1:0", "--metrics-listen", &address];
    let output = StdCommand::new(PROGRAM).args(flags).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains(&address));
}

#[test]
fn a_taken_port_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = StdCommand::new(PROGRAM).args(["--listen", &address]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains(&address));
}
