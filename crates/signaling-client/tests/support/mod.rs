//! A TCP proxy whose network the test breaks, and clients with a deadline on everything.
#![allow(dead_code, clippy::unwrap_used, missing_docs, unreachable_pub)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use visavis_signaling::{EmbeddedServer, ServerConfig};
use visavis_signaling_client::{ClientConfig, SignalingClient, SignalingEvent};
use visavis_signaling_protocol::{
    IceCandidateInit, PeerId, PeerInfo, RoomCode, SessionId, SignalPayload,
};

pub const DEADLINE: Duration = Duration::from_secs(15);

/// What the network does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// Passes everything.
    Fine,
    /// Takes everything and passes nothing.
    BlackHole,
    /// Cuts every connection, old and new.
    Cut,
}

/// Between a client and a server.
pub struct Proxy {
    pub address: SocketAddr,
    network: watch::Sender<Network>,
    /// Bytes taken and not passed: from the client, from the server.
    swallowed: watch::Sender<(usize, usize)>,
}

impl Proxy {
    pub async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (network, _) = watch::channel(Network::Fine);
        let (swallowed, _) = watch::channel((0, 0));
        let proxy = Self { address, network, swallowed };
        let (network, swallowed) = (proxy.network.clone(), proxy.swallowed.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let mut cut = network.subscribe();
                if *cut.borrow() == Network::Cut {
                    continue;
                }
                let (up, down) = (network.subscribe(), network.subscribe());
                let swallowed = swallowed.clone();
                tokio::spawn(async move {
                    let server = TcpStream::connect(server).await.unwrap();
                    let (client_read, client_write) = client.into_split();
                    let (server_read, server_write) = server.into_split();
                    let swallowed_up = |n| swallowed.send_modify(|s| s.0 += n);
                    let swallowed_down = |n| swallowed.send_modify(|s| s.1 += n);
                    tokio::select! {
                        () = copy(client_read, server_write, up, swallowed_up) => {}
                        () = copy(server_read, client_write, down, swallowed_down) => {}
                        _ = cut.wait_for(|n| *n == Network::Cut) => {}
                    }
                });
            }
        });
        proxy
    }

    pub fn set(&self, network: Network) {
        self.network.send_replace(network);
    }

    /// Waits until a black hole has taken something in both directions.
    pub async fn swallowed_both_ways(&self) {
        let mut swallowed = self.swallowed.subscribe();
        let both = swallowed.wait_for(|(up, down)| *up > 0 && *down > 0);
        timeout(DEADLINE, both).await.unwrap().unwrap();
    }
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    network: watch::Receiver<Network>,
    swallowed: impl Fn(usize),
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(n) if *network.borrow() == Network::BlackHole => swallowed(n),
            Ok(n) => {
                if to.write_all(&buffer[..n]).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// A client and what it has told.
pub struct Peer {
    pub client: SignalingClient,
    pub events: mpsc::Receiver<SignalingEvent>,
    pub id: PeerId,
    pub polite: bool,
}

pub fn server() -> Arc<EmbeddedServer> {
    server_with(ServerConfig::default())
}

pub fn server_with(config: ServerConfig) -> Arc<EmbeddedServer> {
    let listen = vec!["127.0.0.1:0".parse().unwrap()];
    Arc::new(EmbeddedServer::start(ServerConfig { listen, ..config }).unwrap())
}

pub fn config(address: SocketAddr, room: &RoomCode, session: &str) -> ClientConfig {
    ClientConfig {
        server: format!("http://{address}").parse().unwrap(),
        room: room.clone(),
        display_name: None,
        session: session_id(session),
        resume_token: None,
        trusted_certificate: None,
    }
}

pub fn session_id(name: &str) -> SessionId {
    SessionId::try_from(name.to_owned()).unwrap()
}

impl Peer {
    /// Connects and joins; with those who are there.
    pub async fn join(config: ClientConfig) -> (Self, Vec<PeerInfo>) {
        let (sender, events) = mpsc::channel(64);
        let client = SignalingClient::connect(config, sender);
        let id = PeerId::try_from("none".to_owned()).unwrap();
        let mut peer = Self { client, events, id, polite: false };
        assert_eq!(peer.next().await, SignalingEvent::Connecting { attempt: 1 });
        assert_eq!(peer.next().await, SignalingEvent::Opened);
        let (peers, resumed) = peer.joined().await;
        assert!(!resumed);
        (peer, peers)
    }

    pub async fn next(&mut self) -> SignalingEvent {
        timeout(DEADLINE, self.events.recv()).await.expect("an event in time").expect("not the end")
    }

    /// Skips `Connecting`, `Opened` and `Lost` up to `Joined`: those who are there and whether
    /// the seat was resumed.
    pub async fn joined(&mut self) -> (Vec<PeerInfo>, bool) {
        loop {
            match self.next().await {
                SignalingEvent::Joined { peer_id, peers, polite, resumed, .. } => {
                    (self.id, self.polite) = (peer_id, polite);
                    return (peers, resumed);
                }
                SignalingEvent::Connecting { .. }
                | SignalingEvent::Opened
                | SignalingEvent::Lost { .. } => {}
                other => panic!("not joined: {other:?}"),
            }
        }
    }

    pub async fn lost(&mut self) -> String {
        match self.next().await {
            SignalingEvent::Lost { why, .. } => why,
            other => panic!("not lost: {other:?}"),
        }
    }

    /// The next event must be the arrival of a peer.
    pub async fn peer_joined(&mut self) -> PeerInfo {
        match self.next().await {
            SignalingEvent::PeerJoined(peer) => peer,
            other => panic!("nobody joined: {other:?}"),
        }
    }

    pub fn send(&self, to: &Peer, text: &str) {
        assert!(self.client.send(to.id.clone(), None, payload(text)));
    }

    /// The next events must be these signals.
    pub async fn hears(&mut self, texts: &[&str]) {
        for text in texts {
            match self.next().await {
                SignalingEvent::Signal { payload: got, .. } => assert_eq!(got, payload(text)),
                other => panic!("not the signal {text}: {other:?}"),
            }
        }
    }
}

pub fn payload(text: &str) -> SignalPayload {
    SignalPayload::Candidate(IceCandidateInit {
        candidate: text.to_owned(),
        sdp_mid: Some("0".into()),
        sdp_m_line_index: Some(0),
        username_fragment: None,
    })
}
