//! Calls between all kinds of networks: peers behind NATs made of nftables, each in namespaces of its
//! own, and in the middle a machine with the signaling server, whose relay keeps to its rules: all
//! addresses but those behind NATs look public.
//!
//! ```text
//! peer ─ NAT ─┐ 10 ms          10 ms ┌─ NAT ─ peer
//!             └────── Internet ──────┘
//!                        │ 0 ms
//!               server, relay, all on 443
//! ```
//!
//! Peers are 20 ms from each other and 10 ms from the server, each way.

mod access;
mod authority;
mod call;
pub mod coturn;
mod internet;
pub mod report;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Command;
use std::time::Duration;

use crate::link::Namespace;
use crate::program::{Program, binary};

pub use access::Kind;
pub use authority::Authority;
pub use call::{Cell, ROOM, Side, System, enter, hold};
pub use internet::{Access, Internet};

/// From a peer to the middle.
pub const ACCESS_DELAY: Duration = Duration::from_millis(10);
/// Where the server is.
pub const SERVER: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(20, 0, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2a20, 0, 0, 0, 0, 0, 0, 1)),
];

/// Two peers' networks and the one in the middle.
pub struct Network {
    /// The machines that the peers run on.
    pub peers: [Namespace; 2],
    /// The machine in the middle.
    pub middle: Namespace,
    /// What kinds the peers' networks are of.
    pub kinds: [Kind; 2],
    /// The NATs, of those networks that have one.
    pub nats: Vec<Namespace>,
    _internet: Internet,
}

impl Network {
    /// Joins a left network of the first kind and a right one of the second.
    ///
    /// # Errors
    ///
    /// Not root, or `ip`, `nft` or `/dev/net/tun` is missing: see [`crate::link::unavailable`].
    pub fn new(kinds: [Kind; 2]) -> anyhow::Result<Self> {
        let middle = Namespace::new()?;
        let mut accesses = vec![Access::new(&middle, &SERVER, Duration::ZERO)?];
        let peers = [Namespace::new()?, Namespace::new()?];
        let mut nats = Vec::new();
        for ((kind, peer), number) in kinds.into_iter().zip(&peers).zip(1..) {
            let public = kind.public(number);
            if kind.is_nat() {
                let nat = Namespace::new()?;
                accesses.push(Access::new(&nat, &public, ACCESS_DELAY)?);
                peer.cable(
                    ("eth", &format!("{}/24", access::PEER)),
                    &nat,
                    (access::INSIDE, "192.168.1.1/24"),
                )?;
                peer.ip("route add default via 192.168.1.1")?;
                nat.set("ipv4/ip_forward", "1")?;
                nat.nft(&kind.rules())?;
                nats.push(nat);
            } else {
                accesses.push(Access::new(peer, &public, ACCESS_DELAY)?);
                peer.nft(&kind.rules())?;
            }
        }
        let internet = Internet::start(accesses)?;
        Ok(Self { peers, middle, kinds, nats, _internet: internet })
    }

    /// Starts the signaling server in the middle, on port 443 with a certificate, and with more
    /// flags.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub fn serve(&self, authority: &Authority, flags: &[&str]) -> anyhow::Result<Program> {
        let mut command = Command::new(binary("visavis-signaling")?);
        command.args(["--listen", "[::]:443", "--tls-cert"]).arg(authority.certificate());
        command.arg("--tls-key").arg(authority.key()).args(flags);
        let mut server =
            self.middle.within(|| Program::start("visavis-signaling", &mut command))??;
        server.wait_line(Duration::from_secs(10), |line| {
            line.starts_with("Visavis signaling server on").then_some(())
        })?;
        Ok(server)
    }

    /// Where the peer on a side (0 or 1) finds the server.
    pub fn url(&self, side: usize) -> String {
        url(&SERVER[usize::from(self.kinds[side] == Kind::Ipv6)])
    }
}

fn url(server: &IpAddr) -> String {
    match server {
        IpAddr::V4(v4) => format!("https://{v4}"),
        IpAddr::V6(v6) => format!("https://[{v6}]"),
    }
}
