//! The embedded relay: STUN (RFC 8489) and TURN (RFC 8656) over UDP, and over TCP and TLS on the
//! server's own port. Runs on the server's tokio runtime.
//!
//! `core` and `requests` hold the state machine and know neither socket nor clock; `net` moves
//! bytes; `demux` tells TURN from HTTP on a shared port. Messages are read and written by the
//! crates `stun-types` and `turn-types` (docs/decisions/0011-relay.md).

mod allocation;
mod auth;
mod core;
mod demux;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod net;
mod policy;
mod refusal;
mod requests;
#[cfg(test)]
mod tests;
mod wire;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime};

use axum::http::uri::Authority;
use visavis_signaling_protocol::{IceServer, PeerId};

use crate::ServerError;
use crate::ice::TurnSecret;
use crate::tls::machine_addresses;
use auth::Auth;
use policy::PeerPolicy;

pub(crate) use demux::{BeforeTls, InsideTls};
pub(crate) use net::Relay;

/// How the relay is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayConfig {
    /// Address and port for UDP, TCP and, if the server has a certificate, TLS. `None`: those of
    /// the server, whose TCP port then carries page, WebSocket and TURN.
    pub listen: Option<SocketAddr>,
    /// Host name or address for the URLs that peers are told. `None`: the one in each client's
    /// request.
    pub host: Option<String>,
    /// Public addresses, at most one of each family, of a machine behind 1:1 NAT. Without them the
    /// relayed addresses are this machine's.
    pub external: Vec<IpAddr>,
    /// Ports of relayed addresses (RFC 8656 §7.2 suggests 49152–65535).
    pub ports: RangeInclusive<u16>,
    /// Whether peers may be in loopback, link-local, private and other special ranges.
    pub allow_private: bool,
    /// How long a credential is good for at most. It ends with its seat, and what was opened with
    /// it ends with it.
    pub lifetime: Duration,
    /// What is allowed.
    pub limits: RelayLimits,
}

impl RelayConfig {
    /// How long credentials live at most unless told otherwise: longer than calls do, since a
    /// relayed call ends with them.
    pub const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
}

impl Default for RelayConfig {
    fn default() -> Self {
        Self {
            listen: None,
            host: None,
            external: Vec::new(),
            ports: 49152..=65535,
            allow_private: false,
            lifetime: Self::LIFETIME,
            limits: RelayLimits::default(),
        }
    }
}

/// Limits of one relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayLimits {
    /// Allocations in all, each a socket; beyond it 508 (Insufficient Capacity).
    pub allocations: usize,
    /// Allocations of one client address (IPv6: of one /64); beyond it 486.
    pub allocations_per_address: usize,
    /// Allocations of one peer; beyond it 486 (Allocation Quota Reached). A browser makes one for
    /// each URL and network interface.
    pub allocations_per_user: usize,
    /// Bytes of data a second, each way, of one allocation; what exceeds them is dropped.
    pub bytes_per_second: u64,
    /// STUN and TURN requests a second from one address, five times as many at once; what exceeds
    /// them is not answered.
    pub requests_per_second: u32,
    /// TCP and TLS connections in all; beyond it they are closed at once.
    pub connections: usize,
    /// TCP and TLS connections from one address; beyond it they are closed at once.
    pub connections_per_address: usize,
    /// Time that such a connection may stay without an authentic request.
    pub first_request: Duration,
    /// Time that such a connection may stay without an allocation.
    pub idle: Duration,
}

impl Default for RelayLimits {
    fn default() -> Self {
        Self {
            allocations: 4000,
            // Ten each for a hundred people behind one NAT: browsers make one for each URL and network.
            allocations_per_address: 1000,
            allocations_per_user: 24,
            bytes_per_second: 2_000_000,
            requests_per_second: 200,
            connections: 4000,
            connections_per_address: 600,
            first_request: Duration::from_secs(10),
            idle: Duration::from_secs(30),
        }
    }
}

/// How long allocations are kept up, and may be refreshed, after nothing was heard of their client
/// for so long that its seat was freed. Media may flow all the while; a client tries to come back at
/// least every four seconds, and the longest of its attempts lasts ten. With the token of that seat
/// it then gets another one, which stands for the old credentials too.
pub(crate) const SEAT_GRACE: Duration = Duration::from_secs(120);

/// A relay that has its UDP port, but does not serve yet.
pub(crate) struct Bound {
    pub(crate) config: RelayConfig,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// What relayed addresses are bound to, and what clients are told in place of it.
    pub(crate) relayed: Vec<Relayed>,
    socket: UdpSocket,
    auth: Auth,
}

/// The relayed address of one family, without its port.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Relayed {
    bind: IpAddr,
    pub(crate) public: IpAddr,
}

impl Bound {
    /// Takes the UDP port of `address`. Needs no runtime.
    pub(crate) fn new(config: RelayConfig, address: SocketAddr) -> Result<Self, ServerError> {
        let socket = UdpSocket::bind(address)
            .map_err(|source| ServerError::ListenUdp { address, source })?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        let relayed = relayed_addresses(&config.external, address.ip());
        Ok(Self { relayed, config, address, socket, auth: Auth::new()? })
    }

    /// What peers are told. `scheme_port` is that of a page whose address names none.
    pub(crate) fn urls(&self, scheme_port: u16, tls: bool) -> Urls {
        let public = self.relayed.first().map_or(self.address.ip(), |relayed| relayed.public);
        Urls {
            host: self.config.host.clone(),
            port: self.config.listen.map(|_| self.address.port()),
            address: SocketAddr::new(public, self.address.port()),
            scheme_port,
            tls,
            turn: TurnSecret {
                urls: Vec::new(),
                secret: self.auth.secret().to_owned(),
                lifetime: self.config.lifetime,
            },
        }
    }

    fn policy(&self) -> PeerPolicy {
        let public = self.public_addresses();
        PeerPolicy { allow_private: self.config.allow_private, own: own_addresses(&public) }
    }

    /// Addresses under which this machine is reached that it may not have itself.
    fn public_addresses(&self) -> Vec<IpAddr> {
        let relayed = self.relayed.iter().map(|relayed| relayed.public);
        self.config.external.iter().copied().chain(relayed).chain([self.address.ip()]).collect()
    }
}

/// Where packets would come back to this machine.
fn own_addresses(public: &[IpAddr]) -> Vec<IpAddr> {
    machine_addresses().into_iter().chain(public.iter().copied()).collect()
}

/// What one peer is told about this relay.
pub(crate) struct Urls {
    /// As configured.
    pub(crate) host: Option<String>,
    /// `None`: the port of the page.
    pub(crate) port: Option<u16>,
    /// In place of what a request does not say.
    pub(crate) address: SocketAddr,
    /// The port of a page whose address names none.
    pub(crate) scheme_port: u16,
    /// Whether `turns:` is offered.
    pub(crate) tls: bool,
    /// The secret of this relay; its URLs are made for each peer.
    pub(crate) turn: TurnSecret,
}

impl Urls {
    /// STUN and TURN for `peer`, whose request named `authority` (its `Host` header).
    pub(crate) fn ice_servers(
        &self,
        peer: &PeerId,
        authority: Option<&Authority>,
        now: SystemTime,
    ) -> [IceServer; 2] {
        let host = match (&self.host, authority) {
            (Some(host), _) => host.clone(),
            (None, Some(authority)) => authority.host().to_owned(),
            (None, None) => host_of(self.address.ip()),
        };
        let port = self.port.unwrap_or_else(|| match authority {
            Some(authority) => authority.port_u16().unwrap_or(self.scheme_port),
            None => self.address.port(),
        });
        let mut urls = vec![
            format!("turn:{host}:{port}?transport=udp"),
            format!("turn:{host}:{port}?transport=tcp"),
        ];
        if self.tls {
            urls.push(format!("turns:{host}:{port}?transport=tcp"));
        }
        let turn = TurnSecret { urls, ..self.turn.clone() };
        let stun = IceServer {
            urls: vec![format!("stun:{host}:{port}")],
            username: None,
            credential: None,
        };
        [stun, turn.mint(peer, now)]
    }
}

/// An address as it stands in a URL.
pub(crate) fn host_of(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    }
}

/// Where relayed addresses are, for a relay that listens on `listen`.
fn relayed_addresses(external: &[IpAddr], listen: IpAddr) -> Vec<Relayed> {
    let families = match listen {
        _ if !listen.is_unspecified() => vec![listen],
        IpAddr::V4(_) => vec![listen],
        IpAddr::V6(_) => vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED), listen],
    };
    let mut relayed = Vec::new();
    for bind in families {
        let same_family = |ip: &&IpAddr| ip.is_ipv4() == bind.is_ipv4();
        let public = match external.iter().find(same_family) {
            Some(external) => Some(*external),
            None if bind.is_unspecified() => route_address(bind.is_ipv6()),
            None => Some(bind),
        };
        relayed.extend(public.map(|public| Relayed { bind, public }));
    }
    relayed
}

/// The address from which this machine reaches the internet. Connecting a UDP socket only looks up
/// the route; nothing is sent (the destinations are those of RFC 5737 and RFC 3849).
fn route_address(v6: bool) -> Option<IpAddr> {
    let (any, target): (IpAddr, IpAddr) = if v6 {
        (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into())
    } else {
        (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into())
    };
    let routed = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((target, 9))?;
        Ok(socket.local_addr()?.ip())
    });
    let usable = |ip: &IpAddr| !ip.is_unspecified() && ip.is_ipv6() == v6;
    routed.ok().filter(usable).or_else(|| machine_addresses().into_iter().find(usable))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod policy_tests {
    use super::*;

    #[test]
    fn the_public_address_behind_nat_is_not_relayed_to() {
        let external = vec!["1.2.3.4".parse().unwrap(), "2606:4700::1".parse().unwrap()];
        let config = RelayConfig { external, ..RelayConfig::default() };
        let bound = Bound::new(config, "127.0.0.1:0".parse().unwrap()).unwrap();
        let policy = bound.policy();
        for own in ["1.2.3.4", "::ffff:1.2.3.4", "64:ff9b::1.2.3.4", "2606:4700::1"] {
            assert!(!policy.allows(own.parse().unwrap()), "{own}");
        }
        assert!(policy.allows("1.2.3.5".parse().unwrap()));
        for own in machine_addresses() {
            assert!(!policy.allows(own), "{own}");
        }
    }
}
