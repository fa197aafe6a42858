//! A server under test and raw WebSocket clients for it. Everything has a deadline.
#![allow(dead_code, clippy::unwrap_used, missing_docs, unreachable_pub)]

pub mod turn;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::{WebSocketStream, client_async};
use visavis_signaling::{Limits, MetricsAt, Server, ServerConfig, ServerError};

pub const DEADLINE: Duration = Duration::from_secs(10);
pub const ROOM: &str = "abc-def";

pub struct Running {
    pub address: SocketAddr,
    shutdown: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), ServerError>>,
}

impl Running {
    pub async fn stop(mut self) {
        self.shutdown.take();
        timeout(DEADLINE, &mut self.task).await.unwrap().unwrap().unwrap();
    }
}

/// A server on a free port.
pub fn server(limits: Limits) -> Running {
    serve(ServerConfig { limits, ..ServerConfig::default() })
}

pub fn serve(config: ServerConfig) -> Running {
    serve_on("127.0.0.1:0", config)
}

pub fn serve_on(address: &str, mut config: ServerConfig) -> Running {
    config.listen = vec![address.parse().unwrap()];
    if config.metrics == MetricsAt::Nowhere {
        config.metrics = MetricsAt::Page;
    }
    let server = Server::bind(config).unwrap();
    let address = server.address();
    let (shutdown, asked) = oneshot::channel::<()>();
    let task = tokio::spawn(server.run(async {
        let _ = asked.await;
    }));
    Running { address, shutdown: Some(shutdown), task }
}

/// A WebSocket that speaks raw JSON.
pub struct Client<S = TcpStream>(pub WebSocketStream<S>);

impl Client {
    pub async fn open(server: SocketAddr) -> Self {
        Self::open_from(if server.is_ipv4() { "127.0.0.1" } else { "::1" }, server).await
    }

    /// From another of the loopback addresses.
    pub async fn open_from(own: &str, server: SocketAddr) -> Self {
        let stream = connect_from(own, server).await;
        let url = format!("ws://{server}/ws");
        Self(timeout(DEADLINE, client_async(url, stream)).await.unwrap().unwrap().0)
    }

    /// Opens and joins; with the `joined` that came.
    pub async fn join(server: SocketAddr, room: &str) -> (Self, Value) {
        let mut client = Self::open(server).await;
        client.send(json!({"type": "join", "protocolVersion": 2, "room": room})).await;
        let joined = client.next().await;
        assert_eq!(joined["type"], "joined", "{joined}");
        (client, joined)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub async fn send(&mut self, message: Value) {
        self.send_text(&message.to_string()).await;
    }

    pub async fn send_text(&mut self, text: &str) {
        self.send_frame(Message::text(text)).await;
    }

    pub async fn send_frame(&mut self, frame: Message) {
        timeout(DEADLINE, self.0.send(frame)).await.unwrap().unwrap();
    }

    /// The next message; pings are answered by the way.
    pub async fn next(&mut self) -> Value {
        loop {
            match timeout(DEADLINE, self.0.next()).await.unwrap().unwrap().unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("not a message: {other:?}"),
            }
        }
    }

    /// Expects a fatal error of that code and the end of the connection.
    pub async fn refused(&mut self, code: &str) {
        let error = self.next().await;
        assert_eq!((&error["type"], &error["code"]), (&json!("error"), &json!(code)), "{error}");
        let expected = match code {
            "server-shutdown" => CloseCode::Away,
            "too-large" => CloseCode::Size,
            _ => CloseCode::Policy,
        };
        self.closed(expected).await;
    }

    pub async fn closed(&mut self, expected: CloseCode) {
        match timeout(DEADLINE, self.0.next()).await.unwrap().unwrap().unwrap() {
            Message::Close(Some(frame)) => assert_eq!(frame.code, expected),
            other => panic!("not a close frame: {other:?}"),
        }
    }
}

/// A TCP connection from one of the loopback addresses.
pub async fn connect_from(own: &str, server: SocketAddr) -> TcpStream {
    let own = SocketAddr::new(own.parse().unwrap(), 0);
    let socket = if own.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.unwrap();
    socket.bind(own).unwrap();
    timeout(DEADLINE, socket.connect(server)).await.unwrap().unwrap()
}

/// Everything until the other side closes, or breaks the connection off.
pub async fn read_to_end(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut answer = Vec::new();
    let _ = timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("an end in time");
    String::from_utf8_lossy(&answer).into_owned()
}

/// What asks for a WebSocket.
pub const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";

/// One HTTP/1.1 exchange on a connection of its own: status line and headers in lower case, body.
pub async fn http(server: SocketAddr, path: &str, headers: &str) -> (String, String) {
    let own = if server.is_ipv4() { "127.0.0.1" } else { "::1" };
    http_from(own, server, path, headers).await
}

/// The same from one of the loopback addresses.
pub async fn http_from(
    own: &str,
    server: SocketAddr,
    path: &str,
    headers: &str,
) -> (String, String) {
    let mut stream = connect_from(own, server).await;
    let close = if headers.contains("Upgrade") { "" } else { "Connection: close\r\n" };
    let request = format!("GET {path} HTTP/1.1\r\nHost: {server}\r\n{close}{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    // What was asked to upgrade and is refused stays open for another request.
    stream.shutdown().await.unwrap();
    let answer = read_to_end(&mut stream).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_lowercase(), body.to_owned())
}

/// A figure of `/metrics`.
pub async fn metric(server: SocketAddr, name: &str) -> u64 {
    // From ever another address, none of which is one that a test lets use up its share.
    static ASKED: AtomicU16 = AtomicU16::new(0);
    let [high, low] = ASKED.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let own = if server.is_ipv4() { format!("127.9.{high}.{low}") } else { "::1".to_owned() };
    let (_, body) = http_from(&own, server, "/metrics", "").await;
    let line = body.lines().find(|line| line.starts_with(&format!("visavis_signaling_{name} ")));
    line.unwrap_or_else(|| panic!("no {name} in\n{body}"))
        .rsplit(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap()
}
