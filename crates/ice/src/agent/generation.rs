//! One lifetime of credentials: remote candidates and the pairs made of them.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::pair::Pair;
use super::shared::{LocalPath, Shared};
use crate::address::{can_reach, canonical, may_be_dialled};
use crate::candidate::{
    COMPONENT, Candidate, CandidateAddress, CandidateKind, LocalName, Transport,
};
use crate::config::{AddressPolicy, MAX_PAIRS, MAX_REMOTE_CANDIDATES};
use crate::credentials::Credentials;
use crate::error::IceError;
use crate::io::{Event, PairId, Path, PathClass, Role};
use crate::snapshot::CandidateOrigin;
use crate::stun::{Key, Request};

#[derive(Debug)]
pub(crate) struct Generation {
    pub(crate) number: u32,
    pub(crate) local: Credentials,
    pub(crate) local_key: Key,
    pub(crate) remote: Option<RemotePeer>,
    pub(crate) candidates: Vec<RemoteCandidate>,
    /// Candidates whose name is asked for.
    pub(crate) unresolved: Vec<(LocalName, Candidate)>,
    pub(crate) pairs: Vec<Pair>,
    /// RFC 8445 §6.1.4.1.
    pub(crate) triggered: VecDeque<PairId>,
    /// Checks that overtook the remote description.
    pub(crate) early: VecDeque<EarlyRequest>,
    pub(crate) selected: Option<PairId>,
    /// The number of our last nomination.
    pub(crate) nomination: u32,
    /// When the remote description came.
    pub(crate) started: Option<Instant>,
    pub(crate) last_switch: Option<Instant>,
    pub(crate) remote_ended: bool,
    /// Another generation has a selected pair; until then checks are still answered and data is taken.
    pub(crate) drained_at: Option<Instant>,
    /// The selected pair went with its path.
    pub(crate) lost_path: bool,
    /// Where among the pairs the one is by which data came last.
    pub(crate) data_hint: usize,
    pub(crate) first_checks: u32,
    pub(crate) pairs_left_out: u64,
}

#[derive(Debug)]
pub(crate) struct RemotePeer {
    pub(crate) credentials: Credentials,
    pub(crate) key: Key,
    pub(crate) lite: bool,
    /// Whether both sides number their nominations.
    pub(crate) renomination: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct RemoteCandidate {
    pub(crate) address: SocketAddr,
    pub(crate) transport: Transport,
    pub(crate) kind: CandidateKind,
    pub(crate) priority: u32,
    pub(crate) origin: CandidateOrigin,
    pub(crate) since: Instant,
}

#[derive(Debug)]
pub(crate) struct EarlyRequest {
    pub(crate) path: Path,
    pub(crate) source: SocketAddr,
    pub(crate) theirs: String,
    pub(crate) request: Request,
}

impl Generation {
    pub(crate) fn new(number: u32, local: Credentials) -> Self {
        Self {
            number,
            local_key: Key::new(local.password()),
            local,
            remote: None,
            candidates: Vec::new(),
            unresolved: Vec::new(),
            pairs: Vec::new(),
            triggered: VecDeque::new(),
            early: VecDeque::new(),
            selected: None,
            nomination: 1,
            started: None,
            last_switch: None,
            remote_ended: false,
            drained_at: None,
            lost_path: false,
            data_hint: 0,
            first_checks: 0,
            pairs_left_out: 0,
        }
    }

    /// Whether nominations are numbered.
    pub(crate) fn renominates(&self) -> bool {
        self.remote.as_ref().is_some_and(|remote| remote.renomination)
    }

    pub(crate) fn index(&self, id: PairId) -> Option<usize> {
        self.pairs.iter().position(|pair| pair.id == id)
    }

    pub(crate) fn selected_pair(&self) -> Option<&Pair> {
        let id = self.selected?;
        self.pairs.iter().find(|pair| pair.id == id)
    }

    pub(crate) fn find(&self, path: Path, remote: SocketAddr) -> Option<usize> {
        self.pairs.iter().position(|pair| pair.path == path && pair.remote == remote)
    }

    /// A candidate that the remote peer signaled.
    ///
    /// # Errors
    ///
    /// Says why it is not used.
    pub(crate) fn add_signaled(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        candidate: Candidate,
    ) -> Result<(), IceError> {
        if candidate.component != COMPONENT {
            return Err(IceError::UnusedCandidate("RTCP is multiplexed, there is one component"));
        }
        match (candidate.extension("ufrag"), &self.remote) {
            (Some(ufrag), Some(remote)) if ufrag != remote.credentials.ufrag() => {
                return Err(IceError::UnknownGeneration);
            }
            _ => {}
        }
        match candidate.transport {
            Transport::TcpSimultaneousOpen => {
                return Err(IceError::UnusedCandidate("simultaneous open"));
            }
            // Whoever is active connects to us; its address is seen then (RFC 6544 §6.2).
            Transport::TcpActive => return Ok(()),
            Transport::Udp | Transport::TcpPassive => {}
        }
        match &candidate.address {
            CandidateAddress::Ip(ip) => {
                let ip = *ip;
                self.add_address(shared, now, &candidate, ip, CandidateOrigin::Signaled)
            }
            CandidateAddress::Name(_) if shared.config.addresses == AddressPolicy::RelayOnly => {
                Err(IceError::UnusedCandidate("a name, and only relays are used"))
            }
            CandidateAddress::Name(_) if candidate.transport.is_tcp() => {
                Err(IceError::UnusedCandidate("a name, over TCP"))
            }
            CandidateAddress::Name(name) => {
                let name = name.clone();
                self.add_name(shared, name, candidate)
            }
        }
    }

    fn add_name(
        &mut self,
        shared: &mut Shared,
        name: LocalName,
        candidate: Candidate,
    ) -> Result<(), IceError> {
        let known =
            self.unresolved.iter().any(|(other, old)| *other == name && old.port == candidate.port);
        if known {
            return Ok(());
        }
        if self.candidates.len() + self.unresolved.len() >= MAX_REMOTE_CANDIDATES {
            return Err(IceError::TooManyCandidates { limit: MAX_REMOTE_CANDIDATES });
        }
        if !self.unresolved.iter().any(|(other, _)| *other == name) {
            shared.event(Event::ResolveName(name.clone()));
        }
        self.unresolved.push((name, candidate));
        Ok(())
    }

    /// A name has this address.
    pub(crate) fn resolved(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        name: &LocalName,
        ip: IpAddr,
    ) -> Result<(), IceError> {
        let (resolved, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.unresolved).into_iter().partition(|(known, _)| known == name);
        self.unresolved = rest;
        let mut result = Ok(());
        for (name, candidate) in resolved {
            let origin = CandidateOrigin::Name(name);
            result = result.and(self.add_address(shared, now, &candidate, ip, origin));
        }
        result
    }

    fn add_address(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        candidate: &Candidate,
        ip: IpAddr,
        origin: CandidateOrigin,
    ) -> Result<(), IceError> {
        let address = canonical(SocketAddr::new(ip, candidate.port));
        if !may_be_dialled(address, candidate.transport.is_tcp()) {
            return Err(IceError::AddressNotDialled(address));
        }
        let new = RemoteCandidate {
            address,
            transport: candidate.transport,
            kind: candidate.kind,
            priority: candidate.priority,
            origin,
            since: now,
        };
        let same = |old: &&mut RemoteCandidate| {
            old.address == address && old.transport.is_tcp() == new.transport.is_tcp()
        };
        if let Some(old) = self.candidates.iter_mut().find(same) {
            // A check told of it before signaling did; what was signaled counts (RFC 8445 §7.3.1.3).
            if matches!(old.origin, CandidateOrigin::Request) {
                *old = new.clone();
                for pair in self.pairs.iter_mut().filter(|pair| {
                    pair.remote == address && pair.path.is_tcp() == new.transport.is_tcp()
                }) {
                    pair.remote_kind = new.kind;
                    pair.remote_priority = new.priority;
                }
                self.pair_remote(shared, &new);
            }
            return Ok(());
        }
        if self.candidates.len() + self.unresolved.len() >= MAX_REMOTE_CANDIDATES {
            return Err(IceError::TooManyCandidates { limit: MAX_REMOTE_CANDIDATES });
        }
        self.candidates.push(new.clone());
        self.pair_remote(shared, &new);
        Ok(())
    }

    /// A peer-reflexive candidate (RFC 8445 §7.3.1.3); `None` if there is no room for it.
    pub(crate) fn add_reflexive(
        &mut self,
        now: Instant,
        address: SocketAddr,
        transport: Transport,
        priority: u32,
    ) -> Option<RemoteCandidate> {
        let is_it = |old: &&RemoteCandidate| {
            old.address == address && old.transport.is_tcp() == transport.is_tcp()
        };
        if let Some(known) = self.candidates.iter().find(is_it) {
            return Some(known.clone());
        }
        if self.candidates.len() + self.unresolved.len() >= MAX_REMOTE_CANDIDATES {
            // A check shows that this one exists; one that never answered makes room.
            let is_proven = |candidate: &RemoteCandidate| {
                self.pairs.iter().any(|pair| {
                    pair.remote == candidate.address
                        && (pair.is_proven() || pair.last_request.is_some())
                })
            };
            let unproven = self.candidates.iter().enumerate().filter(|(_, c)| !is_proven(c));
            let (at, lowest) = unproven.min_by_key(|(_, candidate)| candidate.priority)?;
            let gone = lowest.address;
            self.candidates.remove(at);
            self.pairs.retain(|pair| pair.remote != gone);
        }
        let new = RemoteCandidate {
            address,
            transport,
            kind: CandidateKind::PeerReflexive,
            // What a peer writes there is not to sort before all that were signaled properly.
            priority: priority.clamp(1, crate::candidate::MAX_PRIORITY),
            origin: CandidateOrigin::Request,
            since: now,
        };
        self.candidates.push(new.clone());
        Some(new)
    }

    fn pair_remote(&mut self, shared: &mut Shared, remote: &RemoteCandidate) {
        for path in shared.paths.clone() {
            self.pair(shared, path, remote);
        }
    }

    /// A local path is new.
    pub(crate) fn pair_path(&mut self, shared: &mut Shared, path: LocalPath) {
        for remote in self.candidates.clone() {
            self.pair(shared, path, &remote);
        }
    }

    /// The pair of the two, made if it can be.
    ///
    /// There is no Frozen state (RFC 8445 §6.1.2.6): foundations thaw pairs of other components and other
    /// streams once a similar one has worked, and here is one component of one stream. What is left of the
    /// rule, that a check of each kind is sent early, is in the order of first checks.
    fn pair(
        &mut self,
        shared: &mut Shared,
        local: LocalPath,
        remote: &RemoteCandidate,
    ) -> Option<usize> {
        if let Some(known) = self.find(local.path, remote.address) {
            return Some(known);
        }
        let fits = match local.path {
            Path::Udp { base } => {
                remote.transport == Transport::Udp && can_reach(base.ip(), remote.address.ip())
            }
            // A relay does not reach its own loopback or link for us (RFC 8656 §5).
            Path::Relay { relayed, .. } => {
                let (from, to) = (relayed.ip(), remote.address.ip());
                remote.transport == Transport::Udp
                    && from.is_ipv4() == to.is_ipv4()
                    && (can_reach(from, to) || from.is_loopback())
            }
            Path::TcpActive { base } => {
                remote.transport == Transport::TcpPassive
                    && can_reach(base.ip(), remote.address.ip())
            }
            // Only who connected.
            Path::TcpPassive { .. } => remote.transport == Transport::TcpActive,
        };
        if !fits || !shared.allows(local.path) || self.drained_at.is_some() {
            return None;
        }
        let pair = Pair::new(
            shared.pair_id(),
            (local.path, local.priority),
            (remote.address, remote.kind, remote.priority),
        );
        if self.pairs.len() >= MAX_PAIRS && !self.make_room(shared.role, &pair) {
            return None;
        }
        self.pairs.push(pair);
        Some(self.pairs.len() - 1)
    }

    /// Takes a pair out for a better one.
    ///
    /// RFC 8445 §6.1.2.5 leaves out those of lowest priority. These are the relayed ones, without which the many
    /// addresses of a machine with virtual bridges may lead nowhere, so each of the two kinds has its share. What
    /// has proven itself stays.
    fn make_room(&mut self, role: Role, new: &Pair) -> bool {
        self.pairs_left_out += 1;
        let is_direct = |pair: &Pair| pair.class() == PathClass::DirectUdp;
        let direct = self.pairs.iter().filter(|pair| is_direct(pair)).count();
        let of_direct = direct + usize::from(is_direct(new)) > DIRECT_PAIRS;
        let worth = |pair: &Pair| (!pair.is_unlikely(), pair.priority(role));
        let idle = self.pairs.iter().enumerate().filter(|(_, old)| {
            is_direct(old) == of_direct
                && !old.is_proven()
                && old.last_request.is_none()
                && self.selected != Some(old.id)
        });
        let lowest = idle.map(|(at, old)| (worth(old), at)).min();
        let Some((lowest, at)) = lowest else { return false };
        let makes_room = is_direct(new) != of_direct || lowest < worth(new);
        if makes_room {
            self.pairs.remove(at);
        }
        makes_room
    }

    /// The pair by which a signed check came, made if there is room.
    pub(crate) fn pair_of_request(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        path: Path,
        source: SocketAddr,
        priority: u32,
    ) -> Option<usize> {
        if let Some(known) = self.find(path, source) {
            return Some(known);
        }
        let transport = match path {
            Path::Udp { .. } | Path::Relay { .. } => Transport::Udp,
            Path::TcpActive { .. } => Transport::TcpPassive,
            Path::TcpPassive { .. } => Transport::TcpActive,
        };
        // Over a listener's stream the answer goes back by the stream, nothing is dialled.
        if transport == Transport::Udp && !may_be_dialled(source, false) {
            return None;
        }
        let local = *shared.path(path)?;
        let remote = self.add_reflexive(now, source, transport, priority)?;
        self.pair(shared, local, &remote)
    }

    /// A local path is gone. True if the selected pair went with it.
    pub(crate) fn remove_path(&mut self, path: Path) -> bool {
        self.pairs.retain(|pair| pair.path != path);
        self.early.retain(|early| early.path != path);
        let lost = self.selected.is_some_and(|id| self.index(id).is_none());
        if lost {
            self.selected = None;
            self.lost_path = true;
            self.forget_nominations();
        }
        lost
    }
}

/// Of [`MAX_PAIRS`], for UDP without a relay; the rest is for relays and TCP. Where one kind needs less, the other
/// one has more.
const DIRECT_PAIRS: usize = 64;
