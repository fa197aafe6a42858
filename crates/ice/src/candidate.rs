//! Candidates, their priorities and foundations. The candidate line of SDP is in `line`.

mod line;

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::error::IceError;
use crate::io::RelayTransport;

/// What kind of candidate (RFC 8445 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CandidateKind {
    /// An address of the machine itself.
    Host,
    /// The address that a STUN server sees.
    ServerReflexive,
    /// An address that a connectivity check showed.
    PeerReflexive,
    /// An address on a TURN server.
    Relayed,
}

/// The transport of a candidate; for TCP with its direction (RFC 6544 §4.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// UDP.
    Udp,
    /// TCP, which opens connections.
    TcpActive,
    /// TCP, which listens.
    TcpPassive,
    /// TCP by simultaneous open, of which this agent makes no use.
    TcpSimultaneousOpen,
}

impl Transport {
    /// Whether it is one of TCP.
    #[must_use]
    pub fn is_tcp(self) -> bool {
        self != Self::Udp
    }
}

/// A name that multicast DNS resolves, `<UUID>.local` (draft-ietf-mmusic-mdns-ice-candidates §3.1.1). Other
/// names are refused: a question for them would tell the local network what the remote peer chose.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LocalName(String);

impl LocalName {
    /// Checks the form of the name.
    ///
    /// # Errors
    ///
    /// [`IceError::InvalidCandidate`].
    pub fn parse(name: &str) -> Result<Self, IceError> {
        let is_uuid = |label: &str| {
            label.len() == 36
                && label.bytes().enumerate().all(|(at, byte)| match at {
                    8 | 13 | 18 | 23 => byte == b'-',
                    _ => byte.is_ascii_hexdigit(),
                })
        };
        match name.strip_suffix(".local") {
            Some(label) if is_uuid(label) => Ok(Self(name.to_owned())),
            _ => Err(IceError::InvalidCandidate("address")),
        }
    }

    /// The name with its suffix.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Where a candidate is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CandidateAddress {
    /// An address.
    Ip(IpAddr),
    /// A name that stands for an address of the peer's local network.
    Name(LocalName),
}

/// A candidate as RFC 8839 §5.1 writes it. [`Candidate::parse`] reads a line, `Display` writes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// 1 to 32 characters of the ICE alphabet.
    pub foundation: String,
    /// 1 to 256.
    pub component: u16,
    /// UDP, or TCP with its direction.
    pub transport: Transport,
    /// 1 to 2^31 - 1.
    pub priority: u32,
    /// An IP address or a name.
    pub address: CandidateAddress,
    /// 9 for active TCP candidates (RFC 6544 §4.5).
    pub port: u16,
    /// What kind.
    pub kind: CandidateKind,
    /// `raddr` and `rport`.
    pub related: Option<SocketAddr>,
    /// What follows, names with their values, in order.
    pub extensions: Vec<(String, String)>,
}

impl Candidate {
    /// The value of the first extension with this name.
    #[must_use]
    pub fn extension(&self, name: &str) -> Option<&str> {
        self.extensions.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The address with its port, unless it is a name.
    #[must_use]
    pub fn socket_address(&self) -> Option<SocketAddr> {
        match &self.address {
            CandidateAddress::Ip(ip) => Some(SocketAddr::new(*ip, self.port)),
            CandidateAddress::Name(_) => None,
        }
    }
}

/// Type preferences (RFC 8445 §5.1.2.2). The values for reflexive candidates are those that the RFC
/// recommends; relays and TCP as in libwebrtc (`p2p/base/p2p_constants.h`, `ICE_TYPE_PREFERENCE_*`), where
/// relays rank by how they are reached.
pub(crate) fn type_preference(
    kind: CandidateKind,
    transport: Transport,
    via: Option<RelayTransport>,
) -> u32 {
    match (kind, transport.is_tcp(), via) {
        (CandidateKind::Relayed, _, Some(RelayTransport::Tcp)) => RELAY_TCP,
        (CandidateKind::Relayed, _, Some(RelayTransport::Tls)) => RELAY_TLS,
        (CandidateKind::Relayed, _, _) => RELAY_UDP,
        (CandidateKind::Host, false, _) => 126,
        (CandidateKind::PeerReflexive, false, _) => 110,
        (CandidateKind::ServerReflexive, false, _) => 100,
        (CandidateKind::Host, true, _) => 90,
        (CandidateKind::PeerReflexive, true, _) => 80,
        (CandidateKind::ServerReflexive, true, _) => 70,
    }
}

/// How a relay whose candidate has this priority is reached, where it follows [`type_preference`].
pub(crate) fn relay_transport(priority: u32) -> RelayTransport {
    match priority >> 24 {
        RELAY_TLS => RelayTransport::Tls,
        RELAY_TCP => RelayTransport::Tcp,
        _ => RelayTransport::Udp,
    }
}

/// The highest priority that a relayed candidate has.
pub(crate) const MAX_RELAY_PRIORITY: u32 = (RELAY_UDP << 24) | 0x00ff_ffff;

const RELAY_UDP: u32 = 2;
const RELAY_TCP: u32 = 1;
const RELAY_TLS: u32 = 0;

/// RFC 8445 §5.1.2.1, for component 1. `preference` orders the addresses of one kind.
pub(crate) fn candidate_priority(
    type_preference: u32,
    transport: Transport,
    preference: u16,
) -> u32 {
    // RFC 6544 §4.2: the direction takes the three highest bits; for hosts active is preferred.
    let local = match transport {
        Transport::Udp => u32::from(preference),
        Transport::TcpActive => (6 << 13) | u32::from(preference >> 3),
        Transport::TcpPassive => (4 << 13) | u32::from(preference >> 3),
        Transport::TcpSimultaneousOpen => (2 << 13) | u32::from(preference >> 3),
    };
    (type_preference << 24) | (local << 8) | (256 - u32::from(COMPONENT))
}

/// RFC 8445 §5.1.1.3: the same for candidates of one kind, base address, server and transport. A number, so
/// that nothing of the address is told.
pub(crate) fn foundation(
    kind: CandidateKind,
    transport: Transport,
    base: IpAddr,
    server: Option<SocketAddr>,
) -> String {
    // FNV-1a with 32 bits; equal foundations by chance only lose a hint.
    let mut hash: u32 = 0x811c_9dc5;
    let mut add = |byte: u8| hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    add(kind as u8);
    add(u8::from(transport.is_tcp()));
    for ip in [Some(base), server.map(|server| server.ip())].into_iter().flatten() {
        match ip {
            IpAddr::V4(v4) => v4.octets().into_iter().for_each(&mut add),
            IpAddr::V6(v6) => v6.octets().into_iter().for_each(&mut add),
        }
    }
    hash.to_string()
}

/// The only component: RTCP travels with RTP (RFC 5761), and everything in one bundle (RFC 8843).
pub(crate) const COMPONENT: u16 = 1;
/// RFC 8445 §5.1.2.
pub(crate) const MAX_PRIORITY: u32 = (1 << 31) - 1;
/// The port in an active TCP candidate (RFC 6544 §4.5).
pub(crate) const DISCARD_PORT: u16 = 9;

impl fmt::Display for CandidateKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "host",
            Self::ServerReflexive => "srflx",
            Self::PeerReflexive => "prflx",
            Self::Relayed => "relay",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_follow_the_formula_of_the_rfc() {
        let of = |kind, transport, via, preference| {
            candidate_priority(type_preference(kind, transport, via), transport, preference)
        };
        let (host, relay) = (CandidateKind::Host, CandidateKind::Relayed);
        assert_eq!(of(host, Transport::Udp, None, 65535), 2_130_706_431);
        assert!(of(host, Transport::Udp, None, 0) > of(host, Transport::TcpActive, None, 65535));
        for via in [RelayTransport::Udp, RelayTransport::Tcp, RelayTransport::Tls] {
            let priority = of(relay, Transport::Udp, Some(via), 7);
            assert_eq!(relay_transport(priority), via);
            assert!((1..=MAX_RELAY_PRIORITY).contains(&priority));
        }
        assert!(
            of(CandidateKind::ServerReflexive, Transport::TcpPassive, None, 0) > MAX_RELAY_PRIORITY
        );
    }
}
