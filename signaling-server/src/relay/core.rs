//! STUN and TURN (RFC 8489, RFC 8656) without sockets and without a clock: messages in, what to
//! send out. One of them serves every transport; the caller holds the lock.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::{Duration, Instant};

use turn_types::attribute::Data as DataAttribute;
use turn_types::attribute::XorPeerAddress;
use turn_types::message::{ALLOCATE, CHANNEL_BIND, CREATE_PERMISSION, REFRESH, SEND};
use turn_types::stun::attribute::{
    AttributeWrite, ErrorCode, Fingerprint, Nonce, Realm, UnknownAttributes, XorMappedAddress,
};
use turn_types::stun::message::{
    BINDING, IntegrityAlgorithm, IntegrityKey, Message, MessageClass, MessageWriteVec,
};
use turn_types::stun::prelude::{AttributeStaticType, MessageWrite, MessageWriteExt};

use super::allocation::Allocation;
use super::auth::{Auth, REALM};
use super::policy::PeerPolicy;
use super::refusal::Refusal;
use super::wire::{self, CHANNEL_HEADER_BYTES};
use super::{RelayLimits, SEAT_GRACE};
use crate::limits::{Bucket, Shares, address_key};
use crate::rooms::SeatChange;

/// Seconds' worth of requests that one address may send at once.
const REQUESTS_BURST_SECONDS: f64 = 5.0;
/// Addresses share this many buckets, so that their memory is bounded whoever asks.
const REQUEST_BUCKETS: usize = 4096;
/// How long allocations of a seat live after its client hung up: what it still sends gets through.
const HANG_UP_GRACE: Duration = Duration::from_secs(5);

/// Both clocks: the one that only goes on, and the time since the Unix epoch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    pub(crate) instant: Instant,
    pub(crate) wall: Duration,
}

/// Where a client's messages come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ClientId {
    /// Datagrams from this address.
    Datagrams(SocketAddr),
    /// A TCP or TLS stream, numbered by the caller.
    Stream(u64),
}

/// Who sends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client {
    pub(crate) id: ClientId,
    pub(crate) address: SocketAddr,
}

/// What to send. `L` leads to the allocation's sockets.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action<L> {
    /// Nothing.
    Nothing,
    /// To the client that asked.
    Answer(Vec<u8>),
    /// That part of the client's message, to a peer.
    ToPeer {
        /// From this allocation.
        link: L,
        /// Where to.
        peer: SocketAddr,
        /// Which bytes.
        data: Range<usize>,
    },
    /// To the allocation's client.
    ToClient {
        /// Of this allocation.
        link: L,
        /// A whole message.
        message: Vec<u8>,
    },
}

/// Sums since the start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) allocations: u64,
    pub(crate) bytes_to_peers: u64,
    pub(crate) bytes_to_clients: u64,
    /// Datagrams beyond an allocation's rate.
    pub(crate) over_rate: u64,
    /// Requests beyond an address's rate, which are not answered.
    pub(crate) unanswered: u64,
    /// Refused requests by error code; first challenges are among the 401s.
    pub(crate) refusals: BTreeMap<u16, u64>,
}

/// What a user's credentials are good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Everything: there is a seat.
    Seated,
    /// Keeping up what is open until then: nothing is heard of the client on its WebSocket, but
    /// media may flow.
    Away(Instant),
    /// Nothing; what is open ends then.
    Gone(Instant),
}

/// How far a stream has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamStage {
    /// It has sent nothing authentic.
    Unknown,
    /// It has credentials.
    Authentic,
    /// It has an allocation.
    Allocated,
}

/// All allocations of one relay.
pub(crate) struct Core<L> {
    pub(super) auth: Auth,
    pub(super) limits: RelayLimits,
    pub(super) policy: PeerPolicy,
    /// The IP addresses of relayed addresses. Peers there are other allocations.
    relayed_ips: Vec<IpAddr>,
    pub(super) allocations: HashMap<ClientId, Allocation<L>>,
    pub(super) by_relayed: HashMap<SocketAddr, ClientId>,
    /// Allocations of each client's address.
    pub(super) shares: Shares,
    /// By the peer id inside user names; who is not here has no seat.
    pub(super) seats: HashMap<String, Standing>,
    /// Streams that have sent something authentic.
    pub(super) authentic_streams: HashSet<u64>,
    requests: Vec<Bucket>,
    hasher: RandomState,
    pub(super) counters: Counters,
}

/// Opens a socket for an allocation, IPv6 or IPv4: how to reach it, and the relayed address.
pub(crate) type Open<'a, L> = &'a mut dyn FnMut(bool) -> Option<(L, SocketAddr)>;

impl<L: Clone> Core<L> {
    /// Without allocations.
    pub(crate) fn new(
        now: Instant,
        auth: Auth,
        limits: RelayLimits,
        policy: PeerPolicy,
        relayed_ips: Vec<IpAddr>,
    ) -> Self {
        let rate = f64::from(limits.requests_per_second);
        let requests = Bucket::new(now, rate * REQUESTS_BURST_SECONDS, rate);
        Self {
            auth,
            limits,
            policy,
            relayed_ips,
            allocations: HashMap::new(),
            by_relayed: HashMap::new(),
            shares: Shares::default(),
            seats: HashMap::new(),
            authentic_streams: HashSet::new(),
            requests: vec![requests; REQUEST_BUCKETS],
            hasher: RandomState::new(),
            counters: Counters::default(),
        }
    }

    /// Sums since the start.
    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// How many there are.
    pub(crate) fn allocation_count(&self) -> usize {
        self.allocations.len()
    }

    /// How far a client's stream has come.
    pub(crate) fn stage(&self, stream: u64) -> StreamStage {
        if self.allocations.contains_key(&ClientId::Stream(stream)) {
            StreamStage::Allocated
        } else if self.authentic_streams.contains(&stream) {
            StreamStage::Authentic
        } else {
            StreamStage::Unknown
        }
    }

    /// Whose credentials are good is decided by who has a seat.
    pub(crate) fn seat_changed(&mut self, now: Instant, change: SeatChange) {
        let (user, standing) = match change {
            SeatChange::Taken(user) => (user, Standing::Seated),
            SeatChange::Freed { user, may_return: true } => {
                (user, Standing::Away(now + SEAT_GRACE))
            }
            SeatChange::Freed { user, may_return: false } => {
                (user, Standing::Gone(now + HANG_UP_GRACE))
            }
        };
        self.seats.insert(user.into(), standing);
    }

    /// The machine's addresses, which may change.
    pub(crate) fn set_own_addresses(&mut self, own: Vec<IpAddr>) {
        self.policy.own = own;
    }

    /// Whether there is an address of that family to relay from.
    pub(super) fn relays(&self, v6: bool) -> bool {
        self.relayed_ips.iter().any(|ip| ip.is_ipv6() == v6)
    }

    /// Whether a client may name that peer: another allocation, or somebody in the world.
    pub(super) fn may_reach(&self, peer: IpAddr) -> bool {
        self.relayed_ips.contains(&peer) || self.policy.allows(peer)
    }

    /// Takes one message of a client, whole and with its padding.
    pub(crate) fn client_sent(
        &mut self,
        now: Now,
        client: Client,
        bytes: &[u8],
        open: Open<'_, L>,
    ) -> Action<L> {
        match bytes.first().map(|first| first >> 6) {
            Some(1) => {
                let Some((number, data)) = wire::parse_channel_data(bytes) else {
                    return Action::Nothing;
                };
                let allocation = self.allocations.get(&client.id);
                match allocation.and_then(|allocation| allocation.peer_of(now.instant, number)) {
                    Some(peer) => {
                        let end = CHANNEL_HEADER_BYTES + data.len();
                        self.send_on(now, client.id, peer, bytes, CHANNEL_HEADER_BYTES..end)
                    }
                    None => Action::Nothing,
                }
            }
            Some(0) => match Message::from_bytes(bytes) {
                Ok(message) => self.stun(now, client, &message, open),
                Err(_) => Action::Nothing,
            },
            _ => Action::Nothing,
        }
    }

    /// Takes a datagram that arrived at a relayed address.
    pub(crate) fn peer_sent(
        &mut self,
        now: Now,
        relayed: SocketAddr,
        peer: SocketAddr,
        data: &[u8],
    ) -> Action<L> {
        let now = now.instant;
        let Some(id) = self.by_relayed.get(&relayed) else { return Action::Nothing };
        let Some(allocation) = self.allocations.get_mut(id) else { return Action::Nothing };
        if now >= allocation.expires || !allocation.permits(now, peer.ip()) {
            return Action::Nothing;
        }
        #[expect(clippy::cast_precision_loss, reason = "at most a few kilobytes")]
        if !allocation.downward.take_many(now, data.len() as f64) {
            self.counters.over_rate += 1;
            return Action::Nothing;
        }
        self.counters.bytes_to_clients += data.len() as u64;
        let message = match allocation.channel_of(now, peer) {
            Some(number) => wire::channel_data(number, data, matches!(id, ClientId::Stream(_))),
            None => wire::data_indication(peer, data),
        };
        Action::ToClient { link: allocation.link.clone(), message }
    }

    /// Forgets what has expired.
    pub(crate) fn tick(&mut self, now: Instant) {
        self.seats.retain(|_, standing| match standing {
            Standing::Seated => true,
            Standing::Away(until) | Standing::Gone(until) => now < *until,
        });
        self.allocations.retain(|_, allocation| {
            allocation.tick(now);
            let lives = now < allocation.expires && self.seats.contains_key(allocation.owner());
            if !lives {
                self.by_relayed.remove(&allocation.relayed);
                self.shares.give_back(allocation.address);
                tracing::info!(allocation = allocation.number, "relay: allocation expired");
            }
            lives
        });
    }

    /// Ends a client's allocation, if it has one.
    pub(crate) fn close(&mut self, client: ClientId) {
        if let Some(allocation) = self.allocations.remove(&client) {
            self.by_relayed.remove(&allocation.relayed);
            self.shares.give_back(allocation.address);
            tracing::info!(allocation = allocation.number, "relay: allocation closed");
        }
    }

    /// Ends a stream's allocation, if it has one, and forgets the stream.
    pub(crate) fn close_stream(&mut self, stream: u64) {
        self.close(ClientId::Stream(stream));
        self.authentic_streams.remove(&stream);
    }

    /// Ends every allocation.
    pub(crate) fn close_all(&mut self) {
        self.allocations.clear();
        self.by_relayed.clear();
        self.shares.clear();
    }

    /// Sends a client's data on: over the network, or straight to another allocation.
    fn send_on(
        &mut self,
        now: Now,
        client: ClientId,
        peer: SocketAddr,
        bytes: &[u8],
        data: Range<usize>,
    ) -> Action<L> {
        let Some(allocation) = self.allocations.get_mut(&client) else { return Action::Nothing };
        if now.instant >= allocation.expires {
            return Action::Nothing;
        }
        #[expect(clippy::cast_precision_loss, reason = "at most a few kilobytes")]
        if !allocation.upward.take_many(now.instant, data.len() as f64) {
            self.counters.over_rate += 1;
            return Action::Nothing;
        }
        let (link, relayed) = (allocation.link.clone(), allocation.relayed);
        if self.by_relayed.contains_key(&peer) {
            self.counters.bytes_to_peers += data.len() as u64;
            return self.peer_sent(now, peer, relayed, &bytes[data]);
        }
        // At the relay's own address only other allocations are peers.
        if !self.policy.allows(peer.ip()) {
            return Action::Nothing;
        }
        self.counters.bytes_to_peers += data.len() as u64;
        Action::ToPeer { link, peer, data }
    }

    fn stun(
        &mut self,
        now: Now,
        client: Client,
        message: &Message<'_>,
        open: Open<'_, L>,
    ) -> Action<L> {
        let method = message.method();
        // Before anything is computed for it. Spoofed requests make no more of the relay than this.
        if message.has_class(MessageClass::Request) && !self.may_ask(now, client) {
            self.counters.unanswered += 1;
            return Action::Nothing;
        }
        match message.class() {
            MessageClass::Request if method == BINDING => {
                let mapped = XorMappedAddress::new(client.address, message.transaction_id());
                Action::Answer(success(message, None, &[&mapped]))
            }
            MessageClass::Request
                if [ALLOCATE, REFRESH, CREATE_PERMISSION, CHANNEL_BIND].contains(&method) =>
            {
                match self.request(now, client, message, open) {
                    Ok(answer) => Action::Answer(answer),
                    Err(refusal) => self.refuse(now, client, message, &refusal),
                }
            }
            MessageClass::Indication if method == SEND => self.send(now, client, message),
            _ => Action::Nothing,
        }
    }

    /// RFC 8656 §11.2.
    fn send(&mut self, now: Now, client: Client, message: &Message<'_>) -> Action<L> {
        let peer = message.attribute::<XorPeerAddress>().map(|a| a.addr(message.transaction_id()));
        let raw = message.raw_attribute_and_offset(DataAttribute::TYPE);
        let (Ok(peer), Some((offset, data))) = (peer, raw) else { return Action::Nothing };
        let permitted = self
            .allocations
            .get(&client.id)
            .is_some_and(|allocation| allocation.permits(now.instant, peer.ip()));
        // Type and length come before the value (RFC 8489 §14).
        let start = offset + 4;
        let data = start..start + data.value.len();
        let bytes = message.as_bytes();
        if !permitted || data.end > bytes.len() {
            return Action::Nothing;
        }
        self.send_on(now, client.id, peer, bytes, data)
    }

    fn may_ask(&mut self, now: Now, client: Client) -> bool {
        let hash = self.hasher.hash_one(address_key(client.address.ip()));
        let index = (hash % REQUEST_BUCKETS as u64) as usize;
        self.requests[index].take(now.instant)
    }

    fn refuse(
        &mut self,
        now: Now,
        client: Client,
        request: &Message<'_>,
        refusal: &Refusal,
    ) -> Action<L> {
        *self.counters.refusals.entry(refusal.code).or_default() += 1;
        // Not a line for people: strangers, and ICE checks of private addresses, would fill the log.
        tracing::debug!(code = refusal.code, reason = refusal.reason, "relay: refused");
        let mut answer = Message::builder_error(request, MessageWriteVec::with_capacity(160));
        // Cannot fail: the reasons are short, everything is there once.
        if let Ok(code) = ErrorCode::new(refusal.code, refusal.reason) {
            let _ = answer.add_attribute(&code);
        }
        if refusal.challenges {
            if let Ok(realm) = Realm::new(REALM) {
                let _ = answer.add_attribute(&realm);
            }
            if let Ok(nonce) = Nonce::new(&self.auth.nonce(client.address, now.wall)) {
                let _ = answer.add_attribute(&nonce);
            }
        }
        if !refusal.unknown.is_empty() {
            let _ = answer.add_attribute(&UnknownAttributes::new(&refusal.unknown));
        }
        Action::Answer(finish(request, answer, refusal.key.as_ref()))
    }
}

/// A success response.
pub(super) fn success(
    request: &Message<'_>,
    key: Option<&IntegrityKey>,
    attributes: &[&dyn AttributeWrite],
) -> Vec<u8> {
    let mut answer = Message::builder_success(request, MessageWriteVec::with_capacity(128));
    for attribute in attributes {
        // Cannot fail: each is small and there once.
        let _ = answer.add_attribute(*attribute);
    }
    finish(request, answer, key)
}

fn finish(
    request: &Message<'_>,
    mut answer: MessageWriteVec,
    key: Option<&IntegrityKey>,
) -> Vec<u8> {
    if let Some(key) = key {
        let _ = answer.add_message_integrity_with_key(key, IntegrityAlgorithm::Sha1);
    }
    // Nobody is answered with more than needs be: the address may be forged.
    if request.has_attribute(Fingerprint::TYPE) {
        let _ = answer.add_fingerprint();
    }
    answer.finish()
}
