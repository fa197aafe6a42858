//! Ways to the remote peer: the ICE agent, the STUN gatherer and the clients of relays as one. Sans-IO.
//!
//! A datagram that comes goes through [`Paths::receive`], which says whether it is data of the remote peer. Data goes
//! out by [`Paths::send`] over the selected pair.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use visavis_ice::{
    Agent, Config, Event, GatherEvent, GatherOutput, Gatherer, GathererConfig, Input,
    LocalCandidate, LocalName, Output, PairId, Path, Received, RelayTransport, SelectedPair,
    StunServer, Transmit as PathTransmit, TurnClient, TurnConfig, TurnEvent, TurnOutput,
    TurnReceived,
};

use super::servers::{ATTEMPT_DELAY, Server};
use crate::types::RelayError;
use relays::{Relay, RelayState};

mod relays;

/// What the driver has a socket or a stream for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Endpoint {
    /// The UDP socket bound to this address.
    Udp(SocketAddr),
    /// Streams that are opened from this address to candidates of TCP. RFC 4571 frames.
    TcpActive(SocketAddr),
    /// Streams that were opened to the listener at this address. RFC 4571 frames.
    TcpPassive(SocketAddr),
    /// The stream to a relay. Messages of TURN, padded.
    Relay(RelayId),
}

/// A stream to a relay; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct RelayId(u32);

/// A datagram to be sent, or a message of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Transmit {
    pub(crate) endpoint: Endpoint,
    pub(crate) destination: SocketAddr,
    pub(crate) bytes: Vec<u8>,
}

/// A stream to be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OpenRelay {
    pub(crate) id: RelayId,
    /// The address to open it from.
    pub(crate) from: IpAddr,
    pub(crate) address: SocketAddr,
    /// The name that its certificate has to have, if it is one of TLS.
    pub(crate) tls_name: Option<String>,
}

/// What is wanted of the driver and the connection.
#[derive(Debug)]
pub(super) enum PathsOutput {
    Transmit(Transmit),
    OpenRelay(OpenRelay),
    CloseRelay(RelayId),
    Event(Event),
    RelayError(RelayError),
}

/// What a datagram was.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Incoming {
    /// Data of the remote peer, in this part of it.
    Data(Range<usize>),
    /// STUN, or something of a relay.
    Taken,
    /// Something of somebody who has not proven to be the remote peer.
    Unproven,
}

/// Random bytes, for whoever asks.
pub(crate) type Random = Box<dyn FnMut(&mut [u8]) + Send>;
/// Makes a source for each agent and client.
pub(crate) type RandomFactory = Arc<dyn Fn() -> Random + Send + Sync>;

/// Bytes sent and received over a pair.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PairBytes {
    pub(super) sent: u64,
    pub(super) received: u64,
}

pub(crate) struct Paths {
    pub(crate) agent: Agent,
    gatherer: Gatherer,
    random: RandomFactory,
    servers: Vec<Server>,
    /// What their names resolved to; `None` while that is asked for.
    addresses: Vec<Option<Vec<SocketAddr>>>,
    bases: Vec<SocketAddr>,
    relays: Vec<Relay>,
    next_relay: u32,
    /// Errors of relays that were told in this round of gathering.
    told: Vec<RelayError>,
    bytes: HashMap<PairId, PairBytes>,
    outputs: VecDeque<PathsOutput>,
    /// Whether the driver has given all local addresses.
    addresses_complete: bool,
    /// For relays, to tell credentials whose time is over.
    unix_time: Option<Duration>,
}

impl Paths {
    pub(super) fn new(config: Config, servers: Vec<Server>, random: RandomFactory) -> Self {
        Self {
            agent: Agent::new(config, visavis_ice::Role::Controlling, random()),
            gatherer: Gatherer::new(GathererConfig::default(), random()),
            random,
            addresses: vec![None; servers.len()],
            servers,
            bases: Vec::new(),
            relays: Vec::new(),
            next_relay: 0,
            told: Vec::new(),
            bytes: HashMap::new(),
            outputs: VecDeque::new(),
            addresses_complete: false,
            unix_time: None,
        }
    }

    pub(super) fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// Gathering begins, perhaps anew: what ended is tried once more.
    pub(crate) fn start_gathering(&mut self, unix_time: Option<Duration>) {
        self.unix_time = unix_time;
        self.addresses_complete = false;
        self.told.clear();
        self.relays.retain(|relay| !matches!(relay.state, RelayState::Ended));
    }

    /// A UDP socket was bound.
    pub(crate) fn add_base(
        &mut self,
        now: Instant,
        base: SocketAddr,
        preference: u16,
        name: Option<LocalName>,
    ) {
        if self.bases.contains(&base) {
            return;
        }
        self.bases.push(base);
        self.add_local(now, LocalCandidate::Host { base, preference, name });
        if let Err(error) = self.gatherer.add_base(now, base) {
            tracing::debug!(%error, "no reflexive candidate");
        }
        self.start_relays(now);
    }

    /// A local candidate that has no more to it.
    pub(crate) fn add_local(&mut self, now: Instant, candidate: LocalCandidate) {
        if let Err(error) = self.agent.handle_input(now, Input::LocalCandidate(candidate)) {
            tracing::debug!(%error, "a local candidate is not used");
        }
    }

    /// A socket is gone.
    pub(crate) fn remove_base(&mut self, now: Instant, base: SocketAddr) {
        self.bases.retain(|known| *known != base);
        self.gatherer.remove_base(now, base);
        self.remove_path(now, Path::Udp { base });
        let gone = |relay: &mut Relay| relay.base == base;
        for relay in self.relays.extract_if(.., gone).collect::<Vec<_>>() {
            if let RelayState::Allocated(_, path) = relay.state {
                self.remove_path(now, path);
            }
            if relay.via != RelayTransport::Udp {
                self.outputs.push_back(PathsOutput::CloseRelay(relay.id));
            }
        }
    }

    pub(crate) fn remove_path(&mut self, now: Instant, path: Path) {
        if let Err(error) = self.agent.handle_input(now, Input::PathRemoved(path)) {
            tracing::debug!(%error, ?path, "removed a path");
        }
    }

    /// What the name of a server resolved to; nothing if it has no address.
    pub(crate) fn server_addresses(
        &mut self,
        now: Instant,
        server: usize,
        addresses: Vec<SocketAddr>,
    ) {
        let Some(slot) = self.addresses.get_mut(server) else { return };
        let known = slot.replace(addresses.clone());
        match self.servers[server].relay {
            None if known.as_ref() != Some(&addresses) => {
                if let Err(error) = self.gatherer.add_server(now, StunServer { addresses }) {
                    tracing::debug!(%error, "a STUN server is not used");
                }
            }
            None => {}
            Some(_) => {
                if addresses.is_empty() {
                    let reason = "its name has no address".to_owned();
                    self.tell(server, UNREACHABLE, reason);
                }
                self.start_relays(now);
            }
        }
    }

    /// All local addresses were given.
    pub(crate) fn addresses_complete(&mut self) {
        self.addresses_complete = true;
    }

    /// Whether nothing more is to be expected.
    pub(super) fn is_gathered(&self) -> bool {
        let pending = |relay: &Relay| {
            matches!(
                relay.state,
                RelayState::Waiting(_) | RelayState::Opening | RelayState::Asking(_)
            )
        };
        self.addresses_complete
            && self.addresses.iter().all(Option::is_some)
            && !self.gatherer.is_asking()
            && !self.relays.iter().any(pending)
    }

    /// A datagram, or a message of a stream, came.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        endpoint: Endpoint,
        source: SocketAddr,
        bytes: &[u8],
    ) -> Incoming {
        let is_stun = bytes.first().is_some_and(|first| *first < 4);
        let path = match endpoint {
            Endpoint::Udp(base) => {
                if is_stun && self.gatherer.receive(now, base, source, bytes) {
                    return Incoming::Taken;
                }
                let of_relay = is_stun || matches!(bytes.first(), Some(64..=79));
                let is_it = |relay: &Relay| {
                    relay.via == RelayTransport::Udp
                        && (relay.base, relay.address) == (base, source)
                };
                if of_relay && let Some(at) = self.relays.iter().position(is_it) {
                    return self.receive_relayed(now, at, bytes);
                }
                Path::Udp { base }
            }
            Endpoint::TcpActive(base) => Path::TcpActive { base },
            Endpoint::TcpPassive(base) => Path::TcpPassive { base },
            Endpoint::Relay(id) => {
                return match self.relays.iter().position(|relay| relay.id == id) {
                    Some(at) => self.receive_relayed(now, at, bytes),
                    None => Incoming::Taken,
                };
            }
        };
        self.receive_over(now, path, source, bytes, 0..bytes.len())
    }

    fn receive_over(
        &mut self,
        now: Instant,
        path: Path,
        source: SocketAddr,
        bytes: &[u8],
        part: Range<usize>,
    ) -> Incoming {
        let payload = &bytes[part.clone()];
        match self.agent.receive(now, path, source, payload) {
            Received::Stun => Incoming::Taken,
            Received::Unproven => Incoming::Unproven,
            Received::Data(pair) => {
                let bytes = self.bytes_of(pair);
                bytes.received += payload.len() as u64;
                Incoming::Data(part)
            }
        }
    }

    fn bytes_of(&mut self, pair: PairId) -> &mut PairBytes {
        if self.bytes.len() > MAX_COUNTED_PAIRS {
            self.bytes.clear();
        }
        self.bytes.entry(pair).or_default()
    }

    pub(super) fn counted(&self, pair: PairId) -> PairBytes {
        self.bytes.get(&pair).copied().unwrap_or_default()
    }

    /// The selected pair, or before one is selected what is proven already.
    fn path(&self) -> Option<SelectedPair> {
        self.agent.selected().or_else(|| self.agent.unselected_path())
    }

    /// Whether data can be sent.
    pub(super) fn is_open(&self) -> bool {
        self.path().is_some()
    }

    /// Sends data; false if there is no path.
    pub(super) fn send(&mut self, now: Instant, bytes: Vec<u8>) -> bool {
        let Some(selected) = self.path() else { return false };
        self.bytes_of(selected.id).sent += bytes.len() as u64;
        self.transmit(
            now,
            PathTransmit { path: selected.path, destination: selected.remote, bytes },
        );
        true
    }

    fn transmit(&mut self, now: Instant, transmit: PathTransmit) {
        let PathTransmit { path, destination, bytes } = transmit;
        let endpoint = match path {
            Path::Udp { base } => Endpoint::Udp(base),
            Path::TcpActive { base } => Endpoint::TcpActive(base),
            Path::TcpPassive { base } => Endpoint::TcpPassive(base),
            Path::Relay { .. } => return self.send_relayed(now, path, destination, &bytes),
        };
        self.outputs.push_back(PathsOutput::Transmit(Transmit { endpoint, destination, bytes }));
    }

    /// A pair was selected: a relay gives it a channel, and STUN servers need not keep its NAT open.
    pub(super) fn on_selected(&mut self, now: Instant, pair: SelectedPair) {
        self.gatherer.keep_alive(now, false);
        for relay in &mut self.relays {
            if let RelayState::Allocated(client, path) = &mut relay.state
                && *path == pair.path
                && let Err(error) = client.bind_channel(now, pair.remote)
            {
                tracing::debug!(%error, "no channel");
            }
        }
    }

    /// Gives allocations back.
    pub(super) fn close(&mut self, now: Instant) {
        for relay in &mut self.relays {
            if let RelayState::Allocated(client, _) | RelayState::Asking(client) = &mut relay.state
            {
                client.close(now);
            }
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.begin_relays(now);
        for relay in &mut self.relays {
            if let RelayState::Allocated(client, _) | RelayState::Asking(client) = &mut relay.state
            {
                client.handle_timeout(now);
            }
        }
        self.gatherer.handle_timeout(now);
        // Its errors are of candidates and descriptions.
        let _ = self.agent.handle_input(now, Input::Timeout);
    }

    /// What is wanted; to be called until there is nothing more.
    pub(super) fn poll_output(&mut self, now: Instant) -> Option<PathsOutput> {
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return Some(output);
            }
            if !(self.poll_agent(now) || self.poll_gatherer(now) || self.poll_relays(now)) {
                return None;
            }
        }
    }

    fn poll_agent(&mut self, now: Instant) -> bool {
        match self.agent.poll_output() {
            Output::Transmit(transmit) => self.transmit(now, transmit),
            Output::Event(event) => self.outputs.push_back(PathsOutput::Event(event)),
            Output::Deadline(_) => return false,
        }
        true
    }

    fn poll_gatherer(&mut self, now: Instant) -> bool {
        match self.gatherer.poll_output() {
            GatherOutput::Transmit(transmit) => self.transmit(now, transmit),
            GatherOutput::Event(GatherEvent::Candidate { candidate, .. }) => {
                self.add_local(now, candidate);
            }
            GatherOutput::Event(GatherEvent::Failed { base, server, reason }) => {
                tracing::info!(%base, %server, %reason, "no reflexive candidate");
            }
            GatherOutput::Event(GatherEvent::Done) => {}
            GatherOutput::Deadline(_) => return false,
        }
        true
    }

    /// The STUN server at this address.
    pub(super) fn stun_url(&self, address: SocketAddr) -> Option<&str> {
        let is_it = |server: usize| {
            self.servers[server].relay.is_none()
                && self.addresses[server].as_ref().is_some_and(|known| known.contains(&address))
        };
        (0..self.servers.len())
            .find(|server| is_it(*server))
            .map(|at| self.servers[at].url.as_str())
    }

    pub(super) fn deadline(&mut self) -> Option<Instant> {
        // All three have been drained, so that each gives its deadline.
        let mut next = Vec::with_capacity(2 + self.relays.len());
        if let Output::Deadline(at) = self.agent.poll_output() {
            next.push(at);
        }
        if let GatherOutput::Deadline(at) = self.gatherer.poll_output() {
            next.push(at);
        }
        for relay in &mut self.relays {
            match &mut relay.state {
                RelayState::Waiting(at) => next.push(Some(*at)),
                RelayState::Allocated(client, _) | RelayState::Asking(client) => {
                    if let TurnOutput::Deadline(at) = client.poll_output() {
                        next.push(at);
                    }
                }
                RelayState::Opening | RelayState::Ended => {}
            }
        }
        next.into_iter().flatten().min()
    }
}

/// Where `part` is in `whole`, which it is a slice of.
fn part_of(whole: &[u8], part: &[u8]) -> Option<Range<usize>> {
    let start = (part.as_ptr() as usize).checked_sub(whole.as_ptr() as usize)?;
    (start + part.len() <= whole.len()).then(|| start..start + part.len())
}

/// W3C `RTCPeerConnectionIceErrorEvent.errorCode` for a server that cannot be reached.
const UNREACHABLE: u16 = 701;
/// Twice what the agent keeps.
const MAX_COUNTED_PAIRS: usize = 400;
