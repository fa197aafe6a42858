//! Random names that stand for addresses and that only the local network resolves, by multicast DNS
//! (draft-ietf-mmusic-mdns-ice-candidates-03): ours are answered for, the remote peer's are asked for.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use rtc::mdns::{MDNS_PORT, Mdns, MdnsConfig, MdnsEvent, MulticastSocket};
use rtc::sansio::Protocol;
use rtc::shared::{TaggedBytesMut, TransportContext, TransportProtocol};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use uuid::Uuid;
use visavis_ice::LocalName;

/// One connection's names. They are answered for until this is dropped.
#[derive(Default)]
pub(super) struct LocalNames {
    of: HashMap<Ipv4Addr, LocalName>,
    answering: JoinSet<()>,
}

impl LocalNames {
    /// The name of an address of this machine; `None` where there is no multicast, and for IPv6.
    pub(super) fn of(&mut self, ip: IpAddr) -> Option<LocalName> {
        let IpAddr::V4(ip) = ip else { return None };
        if ip.is_loopback() {
            return None;
        }
        if let Some(name) = self.of.get(&ip) {
            return Some(name.clone());
        }
        let text = format!("{}.local", Uuid::new_v4());
        let name = LocalName::parse(&text).ok()?;
        match listen(ip) {
            Ok(socket) => {
                let config = MdnsConfig::new().with_local_names(vec![text]);
                let mdns = Mdns::new(Instant::now(), config.with_local_ip(ip.into()));
                self.answering.spawn(answer(socket, mdns));
            }
            Err(error) => {
                tracing::info!(%error, "no multicast DNS, so a local address is told by no name");
                return None;
            }
        }
        self.of.insert(ip, name.clone());
        Some(name)
    }
}

/// A socket for the questions of one network, with others of this machine beside it.
fn listen(interface: Ipv4Addr) -> io::Result<UdpSocket> {
    let socket = MulticastSocket::new().with_interface(interface).into_std()?;
    let options = socket2::SockRef::from(&socket);
    options.set_multicast_if_v4(&interface)?;
    #[cfg(target_os = "linux")]
    options.set_multicast_all_v4(false)?;
    UdpSocket::from_std(socket)
}

async fn answer(socket: UdpSocket, mut mdns: Mdns) {
    let mut buffer = [0; MAX_MESSAGE_BYTES];
    while let Ok((length, source)) = socket.recv_from(&mut buffer).await {
        if mdns.handle_read(received(source, &buffer[..length])).is_err() {
            return;
        }
        send(&socket, &mut mdns).await;
    }
}

/// The address of a name of the remote peer, if somebody answers for it in time.
pub(super) async fn resolve(name: &LocalName) -> io::Result<IpAddr> {
    let socket = UdpSocket::from_std(MulticastSocket::new().into_std()?)?;
    let mut mdns = Mdns::new(Instant::now(), MdnsConfig::new());
    mdns.query_now(Instant::now(), name.as_str());
    let mut buffer = [0; MAX_MESSAGE_BYTES];
    let asking = async {
        loop {
            send(&socket, &mut mdns).await;
            while let Some(event) = mdns.poll_event() {
                if let MdnsEvent::QueryAnswered(_, ip) = event {
                    return Ok(ip);
                }
            }
            let wait = mdns.poll_timeout().unwrap_or_else(|| Instant::now() + ASK_AGAIN);
            tokio::select! {
                came = socket.recv_from(&mut buffer) => {
                    let (length, source) = came?;
                    // Answers come from the port and have the number 0 (RFC 6762 §6, §18.1).
                    if source.port() == MDNS_PORT && buffer.starts_with(&[0, 0]) {
                        let _ = mdns.handle_read(received(source, &buffer[..length]));
                    }
                }
                () = tokio::time::sleep_until(wait.into()) => {
                    let _ = mdns.handle_timeout(Instant::now());
                }
            }
        }
    };
    tokio::time::timeout(RESOLVE_LIMIT, asking).await?
}

async fn send(socket: &UdpSocket, mdns: &mut Mdns) {
    while let Some(message) = mdns.poll_write() {
        let _ = socket.send_to(&message.message, message.transport.peer_addr).await;
    }
}

fn received(peer_addr: SocketAddr, bytes: &[u8]) -> TaggedBytesMut {
    let transport = TransportContext {
        local_addr: SocketAddr::from((Ipv4Addr::UNSPECIFIED, MDNS_PORT)),
        peer_addr,
        transport_protocol: TransportProtocol::UDP,
        ecn: None,
    };
    TaggedBytesMut { now: Instant::now(), transport, message: bytes.into() }
}

/// RFC 6762 §17.
const MAX_MESSAGE_BYTES: usize = 9000;
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Longer than anybody waits for a call.
const RESOLVE_LIMIT: Duration = Duration::from_secs(15);
