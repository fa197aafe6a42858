//! Random names that stand for our addresses and that only the local network resolves, by multicast DNS
//! (draft-ietf-mmusic-mdns-ice-candidates-03 §3.1).

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;
use std::{fmt, io};

use rtc::mdns::{MDNS_PORT, Mdns, MdnsConfig, MulticastSocket};
use rtc::sansio::Protocol;
use rtc::shared::{TaggedBytesMut, TransportContext, TransportProtocol};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use uuid::Uuid;

/// One connection's names. They are answered for until this is dropped.
#[derive(Default)]
pub(crate) struct LocalNames(Mutex<Names>);

#[derive(Default)]
struct Names {
    of: HashMap<Ipv4Addr, String>,
    answering: JoinSet<()>,
}

impl LocalNames {
    /// The name of an address of this machine; `None` where there is no multicast. Called on the runtime.
    pub(crate) fn of(&self, ip: Ipv4Addr) -> Option<String> {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = names.of.get(&ip) {
            return Some(name.clone());
        }
        let name = format!("{}.local", Uuid::new_v4());
        match listen(ip) {
            Ok(socket) => {
                let config = MdnsConfig::new().with_local_names(vec![name.clone()]);
                let mdns = Mdns::new(Instant::now(), config.with_local_ip(ip.into()));
                names.answering.spawn(answer(socket, mdns));
            }
            Err(error) => {
                tracing::info!(%error, "no multicast DNS, so a local address is told by no name");
                return None;
            }
        }
        names.of.insert(ip, name.clone());
        Some(name)
    }
}

impl fmt::Debug for LocalNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalNames").finish_non_exhaustive()
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
    while let Ok((length, peer_addr)) = socket.recv_from(&mut buffer).await {
        let transport = TransportContext {
            local_addr: SocketAddr::from((Ipv4Addr::UNSPECIFIED, MDNS_PORT)),
            peer_addr,
            transport_protocol: TransportProtocol::UDP,
            ecn: None,
        };
        let message = buffer[..length].into();
        let question = TaggedBytesMut { now: Instant::now(), transport, message };
        if mdns.handle_read(question).is_err() {
            return;
        }
        while let Some(answer) = mdns.poll_write() {
            let _ = socket.send_to(&answer.message, answer.transport.peer_addr).await;
        }
    }
}

/// RFC 6762 §17.
const MAX_MESSAGE_BYTES: usize = 9000;
