//! Local candidates: the paths that they make, and what is told of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Agent;
use super::shared::{LocalPath, LocalRecord};
use crate::address::canonical;
use crate::candidate::{
    COMPONENT, Candidate, CandidateAddress, CandidateKind, DISCARD_PORT, LocalName, Transport,
    candidate_priority, foundation, type_preference,
};
use crate::config::{AddressPolicy, MAX_LOCAL_CANDIDATES};
use crate::error::IceError;
use crate::io::{Event, LocalCandidate, Path, RelayTransport};

/// A local candidate taken apart.
struct Found {
    path: Path,
    kind: CandidateKind,
    transport: Transport,
    address: SocketAddr,
    related: Option<SocketAddr>,
    server: Option<SocketAddr>,
    via: Option<RelayTransport>,
    preference: u16,
    name: Option<LocalName>,
}

impl Agent {
    pub(super) fn add_local(&mut self, candidate: LocalCandidate) -> Result<(), IceError> {
        let found = self.take_apart(candidate)?;
        let same = |old: &LocalRecord| {
            old.path == found.path
                && old.address == found.address
                && old.candidate.kind == found.kind
        };
        if self.shared.candidates.iter().any(same) {
            return Ok(());
        }
        if self.shared.candidates.len() >= MAX_LOCAL_CANDIDATES {
            return Err(IceError::TooManyLocalCandidates { limit: MAX_LOCAL_CANDIDATES });
        }
        let preference = |kind| type_preference(kind, found.transport, found.via);
        let priority =
            candidate_priority(preference(found.kind), found.transport, found.preference);
        let base = match found.path {
            Path::Relay { .. } => found.address.ip(),
            path => path.base().ip(),
        };
        let candidate = Candidate {
            foundation: foundation(found.kind, found.transport, base, found.server),
            component: COMPONENT,
            transport: found.transport,
            priority,
            address: CandidateAddress::Ip(found.address.ip()),
            port: found.address.port(),
            kind: found.kind,
            related: found.related,
            extensions: Vec::new(),
        };
        let signaled = self.signaled(&candidate, found.name);
        self.shared.candidates.push(LocalRecord {
            candidate,
            address: found.address,
            path: found.path,
            server: found.server,
            via: found.via,
            signaled: signaled.clone(),
        });
        if let Some(signaled) = signaled {
            self.shared.event(Event::LocalCandidate(signaled));
        }
        if found.kind != CandidateKind::ServerReflexive {
            // RFC 8445 §7.1.1 asks for the priority of a peer-reflexive candidate. A relay keeps its own:
            // a check from one that is still in signaling is not to look like a direct path.
            let reflexive = match found.kind {
                CandidateKind::Relayed => preference(CandidateKind::Relayed),
                _ => preference(CandidateKind::PeerReflexive),
            };
            let path = LocalPath {
                path: found.path,
                priority,
                reflexive_priority: candidate_priority(
                    reflexive,
                    found.transport,
                    found.preference,
                ),
            };
            self.shared.paths.push(path);
            self.current.pair_path(&mut self.shared, path);
            if let Some(previous) = &mut self.previous {
                previous.pair_path(&mut self.shared, path);
            }
        }
        Ok(())
    }

    fn take_apart(&self, candidate: LocalCandidate) -> Result<Found, IceError> {
        let host = |path: Path, transport, address, preference, name| Found {
            path,
            kind: CandidateKind::Host,
            transport,
            address,
            related: None,
            server: None,
            via: None,
            preference,
            name,
        };
        let found = match candidate {
            LocalCandidate::Host { base, preference, name } => {
                host(Path::Udp { base }, Transport::Udp, canonical(base), preference, name)
            }
            LocalCandidate::TcpActive { base, preference } => {
                let told = SocketAddr::new(canonical(base).ip(), DISCARD_PORT);
                host(Path::TcpActive { base }, Transport::TcpActive, told, preference, None)
            }
            LocalCandidate::TcpPassive { base, preference } => {
                let path = Path::TcpPassive { base };
                host(path, Transport::TcpPassive, canonical(base), preference, None)
            }
            LocalCandidate::ServerReflexive { base, address, server } => {
                let path = Path::Udp { base };
                if self.shared.path(path).is_none() {
                    return Err(IceError::UnknownPath);
                }
                // RFC 8445 §5.1.3: where there is no NAT, it is the host candidate.
                if canonical(address) == canonical(base) {
                    return Err(IceError::UnusedCandidate("reflexive, and the same as its base"));
                }
                let bases = self.shared.candidates.iter();
                let preference = bases
                    .filter(|known| {
                        known.path == path && known.candidate.kind == CandidateKind::Host
                    })
                    .map(|known| (known.candidate.priority >> 8) as u16)
                    .next();
                Found {
                    kind: CandidateKind::ServerReflexive,
                    related: Some(canonical(base)),
                    server: Some(server),
                    ..host(path, Transport::Udp, canonical(address), preference.unwrap_or(0), None)
                }
            }
            LocalCandidate::Relay { relayed, via, mapped, server, preference } => Found {
                path: Path::Relay { relayed, via },
                kind: CandidateKind::Relayed,
                transport: Transport::Udp,
                address: canonical(relayed),
                related: Some(canonical(mapped)),
                server: Some(server),
                via: Some(via),
                preference,
                name: None,
            },
        };
        Ok(found)
    }

    /// A candidate as it is signaled, if it is.
    fn signaled(&self, candidate: &Candidate, name: Option<LocalName>) -> Option<Candidate> {
        let mut told = candidate.clone();
        match (self.shared.config.addresses, candidate.kind) {
            (AddressPolicy::All, _) => {
                // Who gives a name for an address wants it to be used.
                if let Some(name) = name {
                    told.address = CandidateAddress::Name(name);
                }
                return Some(told);
            }
            (AddressPolicy::HideLocal, CandidateKind::Host) => match (name, &candidate.address) {
                (Some(name), _) => told.address = CandidateAddress::Name(name),
                (None, CandidateAddress::Ip(ip)) if ip.is_loopback() => {}
                (None, _) => return None,
            },
            (AddressPolicy::HideLocal, _) | (AddressPolicy::RelayOnly, CandidateKind::Relayed) => {}
            (AddressPolicy::RelayOnly, _) => return None,
        }
        // RFC 8839 §5.1 wants a related address; browsers that hide theirs give zeros.
        told.related = told.related.map(|related| {
            let zero = match related.ip() {
                IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            };
            SocketAddr::new(zero, 0)
        });
        Some(told)
    }
}
