//! What browsers and monitors are served.
#![allow(clippy::unwrap_used)]

mod support;

use support::{http, serve, server};
use visavis_signaling::{Limits, Server, ServerConfig, ServerError, Tls};

#[tokio::test]
async fn the_page_is_served_at_every_room_link() {
    let server = server(Limits::default());
    let (head, page) = http(server.address, "/", "").await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(head.contains("content-type: text/html; charset=utf-8"), "{head}");
    assert!(page.to_lowercase().contains("<!doctype html>"));
    for path in ["/r/abc-def", "/r/nonsense", "/r/", "/r/a/b"] {
        let (head, body) = http(server.address, path, "").await;
        assert!(head.starts_with("http/1.1 200"), "{path}: {head}");
        assert_eq!(body, page, "{path}");
    }
}

#[tokio::test]
async fn everything_is_served_with_strict_headers() {
    let server = server(Limits::default());
    let (head, _) = http(server.address, "/", "").await;
    let policy = head.lines().find(|l| l.starts_with("content-security-policy:")).unwrap();
    for part in [
        "default-src 'none'",
        "script-src 'self';",
        "style-src 'self';",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        &format!("connect-src 'self' ws://{0} wss://{0};", server.address),
    ] {
        assert!(policy.contains(part), "{part} in {policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    for line in [
        "x-content-type-options: nosniff",
        "referrer-policy: no-referrer",
        "permissions-policy: camera=(self), microphone=(self), display-capture=(self)",
        "cache-control: no-cache",
    ] {
        assert!(head.contains(line), "{line} in {head}");
    }
    let (head, _) = http(server.address, "/no-such-file.js", "").await;
    assert!(head.starts_with("http/1.1 404") && head.contains("nosniff"), "{head}");
    for path in ["/../Cargo.toml", "/%2e%2e/Cargo.toml", "/..%2fCargo.toml"] {
        let (head, _) = http(server.address, path, "").await;
        assert!(head.starts_with("http/1.1 404"), "{path}: {head}");
    }
}

#[tokio::test]
async fn what_a_browser_has_is_not_sent_again() {
    let server = server(Limits::default());
    let (head, _) = http(server.address, "/", "").await;
    let tag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
    let (head, body) = http(server.address, "/", &format!("If-None-Match: W/{tag}\r\n")).await;
    assert!(head.starts_with("http/1.1 304") && body.is_empty(), "{head}");
    let (head, _) = http(server.address, "/", "If-None-Match: \"other\"\r\n").await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
}

#[tokio::test]
async fn monitors_are_answered() {
    let server = server(Limits::default());
    let (head, body) = http(server.address, "/healthz", "").await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert_eq!(body, "ok\n");
    let (head, body) = http(server.address, "/metrics", "").await;
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    for name in ["rooms", "seats", "connections", "joins_total", "messages_total", "errors_total"] {
        assert!(body.contains(&format!("# TYPE visavis_signaling_{name} ")), "{name} in\n{body}");
    }
    // Every line is a comment or a name and a number.
    for line in body.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.split_once(' ').unwrap();
        assert!(name.starts_with("visavis_signaling_") && value.parse::<u64>().is_ok(), "{line}");
    }
}

#[tokio::test]
async fn a_taken_port_is_passed_over() {
    let first = serve(ServerConfig::default());
    let any = "127.0.0.1:0".parse().unwrap();
    let config = ServerConfig { listen: vec![first.address, any], ..ServerConfig::default() };
    let second = Server::bind(config).unwrap();
    assert_ne!(second.address(), first.address);
    let config = ServerConfig { listen: vec![first.address], ..ServerConfig::default() };
    assert!(matches!(Server::bind(config), Err(ServerError::Listen { .. })));
    let config = ServerConfig { listen: Vec::new(), ..ServerConfig::default() };
    assert!(matches!(Server::bind(config), Err(ServerError::NoAddress)));
}

#[test]
fn missing_certificates_are_named() {
    let tls =
        Tls::Files { certificate: "/nowhere/cert.pem".into(), key: "/nowhere/key.pem".into() };
    let listen = vec!["127.0.0.1:0".parse().unwrap()];
    let config = ServerConfig { listen, tls: Some(tls), ..ServerConfig::default() };
    let error = Server::bind(config).unwrap_err().to_string();
    assert!(error.contains("/nowhere/cert.pem"), "{error}");
}

#[test]
fn an_embedded_server_ends_with_its_handle() {
    let server = visavis_signaling::EmbeddedServer::start(ServerConfig {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        ..ServerConfig::default()
    })
    .unwrap();
    let address = server.address();
    assert_eq!(server.url(), format!("http://{address}"));
    assert!(std::net::TcpStream::connect(address).is_ok());
    drop(server);
    assert!(std::net::TcpStream::connect(address).is_err());
}
