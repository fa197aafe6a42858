//! NATs by their mapping and filtering (RFC 4787 §4, §5).

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum NatKind {
    /// None.
    Open,
    /// One mapping for all, from which anybody is let in.
    FullCone,
    /// Let in is who was sent to, by address.
    AddressRestricted,
    /// Let in is who was sent to, by address and port.
    PortRestricted,
    /// A mapping for each destination.
    Symmetric,
    /// No UDP passes.
    NoUdp,
}

pub(crate) const ALL: [NatKind; 6] = [
    NatKind::Open,
    NatKind::FullCone,
    NatKind::AddressRestricted,
    NatKind::PortRestricted,
    NatKind::Symmetric,
    NatKind::NoUdp,
];

#[derive(Debug)]
pub(crate) struct Nat {
    kind: NatKind,
    public: IpAddr,
    next_port: u16,
    /// Inside address, and the destination where that matters, to the outside port.
    mappings: HashMap<(SocketAddr, Option<SocketAddr>), u16>,
    inside: HashMap<u16, SocketAddr>,
    contacted: HashSet<(u16, SocketAddr)>,
}

impl Nat {
    pub(crate) fn new(kind: NatKind, public: IpAddr) -> Self {
        Self {
            kind,
            public,
            next_port: 30_000,
            mappings: HashMap::new(),
            inside: HashMap::new(),
            contacted: HashSet::new(),
        }
    }

    /// The source of a packet as it is outside; `None` if it does not get out.
    pub(crate) fn outward(&mut self, inside: SocketAddr, to: SocketAddr) -> Option<SocketAddr> {
        let key = match self.kind {
            NatKind::Open => return Some(inside),
            NatKind::NoUdp => return None,
            NatKind::Symmetric => (inside, Some(to)),
            _ => (inside, None),
        };
        let port = *self.mappings.entry(key).or_insert_with(|| {
            self.next_port += 1;
            self.next_port
        });
        self.inside.insert(port, inside);
        self.contacted.insert((port, to));
        Some(SocketAddr::new(self.public, port))
    }

    /// The NAT forgets everything and uses other ports from now on.
    pub(crate) fn forget(&mut self) {
        self.mappings.clear();
        self.inside.clear();
        self.contacted.clear();
    }

    /// Where a packet from outside goes to; `None` if it is not let in.
    pub(crate) fn inward(&self, to: SocketAddr, from: SocketAddr) -> Option<SocketAddr> {
        if to.ip() != self.public || matches!(self.kind, NatKind::Open | NatKind::NoUdp) {
            return None;
        }
        let inside = *self.inside.get(&to.port())?;
        let mut contacted = self.contacted.iter().filter(|(port, _)| *port == to.port());
        let lets_in = match self.kind {
            NatKind::FullCone => true,
            NatKind::AddressRestricted => contacted.any(|(_, known)| known.ip() == from.ip()),
            _ => contacted.any(|(_, known)| *known == from),
        };
        lets_in.then_some(inside)
    }
}
