//! A TURN client for one allocation (RFC 8656), over UDP or over a stream.
//!
//! What the agent sends over [`Path::Relay`](crate::Path::Relay) goes through [`TurnClient::send`], which asks for
//! a permission first where there is none, and through [`TurnClient::wrap`] once the peer has a channel. What comes
//! from the relay goes through [`TurnClient::receive`]. A stream's bytes are to be cut into messages before.
//!
//! It is written on `turn-types` and not on `turn-client-proto` 0.7, which does not pad ChannelData on a stream as
//! RFC 8656 §12.5 demands, and draws transaction identifiers from the system.
//!
//! Refusals are told in words ([`TurnEvent::Refused`]): servers say them, and their users can do something about
//! most of them.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::address::{canonical, may_be_dialled};
use crate::error::IceError;
use crate::io::{LocalCandidate, RelayTransport};
use crate::random::{Random, RandomSource};
use crate::stun::turn::{self, Answer, Ask, Auth, Granted, Said};

/// Whom to ask for an allocation.
#[derive(Clone)]
pub struct TurnConfig {
    /// The relay.
    pub server: SocketAddr,
    /// How it is reached.
    pub via: RelayTransport,
    /// Its user name.
    pub username: String,
    /// And password.
    pub password: String,
    /// Whether the relayed address is to be one of IPv6.
    pub ipv6: bool,
    /// For [`LocalCandidate::Relay`]; higher is better.
    pub preference: u16,
    /// The time since 1970, to tell user names whose time is over (draft-uberti-behave-turn-rest-00 §2.2) from wrong
    /// ones.
    pub unix_time: Option<Duration>,
}

impl std::fmt::Debug for TurnConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TurnConfig")
            .field("server", &self.server)
            .field("via", &self.via)
            .finish_non_exhaustive()
    }
}

/// What a [`TurnClient`] wants. To be drained after each input until there is a deadline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TurnOutput {
    /// Bytes for the relay.
    Transmit(Vec<u8>),
    /// Something to be told.
    Event(TurnEvent),
    /// Nothing more now: [`TurnClient::handle_timeout`] is due by then.
    Deadline(Option<Instant>),
}

/// Something to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TurnEvent {
    /// The relay gives an address, for [`Input::LocalCandidate`](crate::Input::LocalCandidate).
    Allocated(LocalCandidate),
    /// The relay gives no address, or not any more (W3C `icecandidateerror`). Nothing more comes.
    Refused {
        /// STUN error code; 701 if there was no answer, as W3C has it.
        code: u16,
        /// For people.
        reason: String,
    },
    /// The relay does not forward to this peer.
    PeerRefused {
        /// The peer.
        peer: SocketAddr,
        /// STUN error code.
        code: u16,
    },
}

/// What came from the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TurnReceived<'a> {
    /// A datagram of a peer.
    Data {
        /// The peer.
        peer: SocketAddr,
        /// What it sent.
        payload: &'a [u8],
    },
    /// An answer to a request of this client, or nothing of use.
    Control,
}

/// A client with one allocation.
#[derive(Debug)]
pub struct TurnClient {
    config: TurnConfig,
    random: Random,
    auth: Option<Auth>,
    state: AllocationState,
    requests: Vec<Request>,
    permissions: Vec<Permission>,
    channels: Vec<Channel>,
    next_channel: u16,
    outputs: VecDeque<TurnOutput>,
    started: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AllocationState {
    Allocating,
    Allocated { ipv6: bool, refresh_at: Instant },
    Ended,
}

/// A request that is not answered yet.
#[derive(Debug)]
struct Request {
    ask: Ask,
    transaction: u128,
    bytes: Vec<u8>,
    signed: bool,
    /// Times that it was sent again with another nonce.
    attempts: u32,
    rto: Duration,
    /// Over UDP, when to send it again.
    again_at: Option<Instant>,
    ends_at: Instant,
}

#[derive(Debug)]
struct Permission {
    peer: SocketAddr,
    refresh_at: Option<Instant>,
    last_used: Instant,
}

#[derive(Debug)]
struct Channel {
    number: u16,
    peer: SocketAddr,
    /// The relay has confirmed it.
    bound: bool,
    refresh_at: Option<Instant>,
}

impl TurnClient {
    /// Asks for an allocation.
    #[must_use]
    pub fn new(now: Instant, config: TurnConfig, random: impl RandomSource + 'static) -> Self {
        let mut client = Self {
            config,
            random: Random(Box::new(random)),
            auth: None,
            state: AllocationState::Allocating,
            requests: Vec::new(),
            permissions: Vec::new(),
            channels: Vec::new(),
            next_channel: FIRST_CHANNEL,
            outputs: VecDeque::new(),
            started: now,
        };
        let ask = Ask::Allocate { ipv6: client.config.ipv6 };
        client.ask(now, ask, 0);
        client
    }

    /// A datagram for a peer. The permission for its address is asked for before, in the same order, so that the
    /// relay has it by then unless a datagram is lost or overtaken.
    ///
    /// # Errors
    ///
    /// [`IceError::UnknownPath`] without an allocation of the peer's family, [`IceError::AddressNotDialled`].
    pub fn send(&mut self, now: Instant, peer: SocketAddr, payload: &[u8]) -> Result<(), IceError> {
        let peer = canonical(peer);
        self.check_peer(peer)?;
        let mut bytes = Vec::new();
        if !self.wrap(peer, payload, &mut bytes) {
            self.permit(now, peer);
            bytes = turn::send(self.random.transaction(), peer, payload)?;
        }
        self.outputs.push_back(TurnOutput::Transmit(bytes));
        Ok(())
    }

    /// Writes a datagram for a peer that has a channel, into a buffer that may be used again. False, and nothing
    /// written, if there is none: then it is for [`TurnClient::send`].
    pub fn wrap(&self, peer: SocketAddr, payload: &[u8], to: &mut Vec<u8>) -> bool {
        let peer = canonical(peer);
        let channel = self.channels.iter().find(|channel| channel.peer == peer && channel.bound);
        let (Some(channel), Ok(length)) = (channel, u16::try_from(payload.len())) else {
            return false;
        };
        to.clear();
        // ChannelData (RFC 8656 §12.4); padded on a stream (§12.5).
        to.extend(channel.number.to_be_bytes());
        to.extend(length.to_be_bytes());
        to.extend(payload);
        if self.is_stream() {
            to.resize(to.len().next_multiple_of(4), 0);
        }
        true
    }

    /// Gives a peer a channel, which saves 32 bytes of each datagram. For the selected pair.
    ///
    /// # Errors
    ///
    /// As [`TurnClient::send`].
    pub fn bind_channel(&mut self, now: Instant, peer: SocketAddr) -> Result<(), IceError> {
        let peer = canonical(peer);
        self.check_peer(peer)?;
        if self.channels.iter().any(|channel| channel.peer == peer) {
            return Ok(());
        }
        if self.channels.len() >= MAX_CHANNELS || self.next_channel > LAST_CHANNEL {
            return Ok(());
        }
        let number = self.next_channel;
        self.next_channel += 1;
        self.channels.push(Channel { number, peer, bound: false, refresh_at: None });
        self.ask(now, Ask::Channel { number, peer }, 0);
        Ok(())
    }

    /// A datagram, or a message of the stream, came from the relay. Who else may have sent it is for the caller to
    /// look at: it is taken only from the relay's address.
    pub fn receive<'a>(&mut self, now: Instant, bytes: &'a [u8]) -> TurnReceived<'a> {
        if let [64..=79, ..] = *bytes {
            return self.channel_data(bytes).unwrap_or(TurnReceived::Control);
        }
        let key = self.auth.as_ref().map(|auth| &auth.key);
        match turn::read(bytes, key) {
            Some(Said::Data { peer, payload }) => {
                let peer = canonical(peer);
                let known = self.permissions.iter().any(|known| known.peer.ip() == peer.ip())
                    || self.channels.iter().any(|channel| channel.peer.ip() == peer.ip());
                if known { TurnReceived::Data { peer, payload } } else { TurnReceived::Control }
            }
            Some(Said::Answer { transaction, answer }) => {
                self.on_answer(now, transaction, answer);
                TurnReceived::Control
            }
            None => TurnReceived::Control,
        }
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        for request in &mut self.requests {
            if request.again_at.is_some_and(|at| at <= now) && now < request.ends_at {
                request.rto *= 2;
                request.again_at = Some(now + request.rto);
                self.outputs.push_back(TurnOutput::Transmit(request.bytes.clone()));
            }
        }
        let over = |request: &mut Request| request.ends_at <= now;
        for request in self.requests.extract_if(.., over).collect::<Vec<_>>() {
            self.on_refusal(request.ask, 701, "the relay does not answer".to_owned());
        }
        if let AllocationState::Allocated { ipv6, refresh_at } = self.state
            && refresh_at <= now
        {
            // Until the answer says when the next one is due.
            self.state = AllocationState::Allocated { ipv6, refresh_at: now + TIMEOUT * 2 };
            self.ask(now, Ask::Refresh { lifetime: LIFETIME }, 0);
        }
        self.permissions.retain(|permission| now < permission.last_used + PERMISSION_LIFETIME);
        let mut due: Vec<Ask> = Vec::new();
        for permission in &mut self.permissions {
            if permission.refresh_at.take_if(|at| *at <= now).is_some() {
                due.push(Ask::Permission { peer: permission.peer });
            }
        }
        for channel in &mut self.channels {
            if channel.refresh_at.take_if(|at| *at <= now).is_some() {
                due.push(Ask::Channel { number: channel.number, peer: channel.peer });
            }
        }
        due.into_iter().for_each(|ask| self.ask(now, ask, 0));
    }

    /// Gives the allocation back. The request is sent once; a lost one lets the allocation time out.
    pub fn close(&mut self, now: Instant) {
        if let AllocationState::Allocated { .. } = self.state {
            self.ask(now, Ask::Refresh { lifetime: Duration::ZERO }, 0);
        }
        self.end();
    }

    /// What the client wants, one at a time; to be called until it gives a deadline.
    pub fn poll_output(&mut self) -> TurnOutput {
        self.outputs.pop_front().unwrap_or_else(|| TurnOutput::Deadline(self.deadline()))
    }

    /// Addresses that the relay lets through, or was asked to.
    pub fn permitted(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.permissions.iter().map(|permission| permission.peer.ip())
    }

    fn deadline(&self) -> Option<Instant> {
        let requests = self.requests.iter().flat_map(|r| [r.again_at, Some(r.ends_at)]);
        let permissions = self
            .permissions
            .iter()
            .flat_map(|p| [p.refresh_at, Some(p.last_used + PERMISSION_LIFETIME)]);
        let channels = self.channels.iter().map(|channel| channel.refresh_at);
        let refresh = match self.state {
            AllocationState::Allocated { refresh_at, .. } => Some(refresh_at),
            _ => None,
        };
        requests.chain(permissions).chain(channels).chain([refresh]).flatten().min()
    }

    fn is_stream(&self) -> bool {
        self.config.via != RelayTransport::Udp
    }

    fn check_peer(&self, peer: SocketAddr) -> Result<(), IceError> {
        match self.state {
            AllocationState::Allocated { ipv6, .. } if ipv6 == peer.is_ipv6() => {}
            _ => return Err(IceError::UnknownPath),
        }
        if may_be_dialled(peer, false) { Ok(()) } else { Err(IceError::AddressNotDialled(peer)) }
    }

    /// Permissions are for addresses, whatever the port (RFC 8656 §9).
    fn permit(&mut self, now: Instant, peer: SocketAddr) {
        let known = self.permissions.iter_mut().find(|known| known.peer.ip() == peer.ip());
        if let Some(permission) = known {
            permission.last_used = now;
            return;
        }
        if self.permissions.len() >= MAX_PERMISSIONS {
            let oldest =
                self.permissions.iter().enumerate().min_by_key(|(_, known)| known.last_used);
            if let Some((at, _)) = oldest {
                self.permissions.swap_remove(at);
            }
        }
        self.permissions.push(Permission { peer, refresh_at: None, last_used: now });
        self.ask(now, Ask::Permission { peer }, 0);
    }

    fn channel_data<'a>(&self, bytes: &'a [u8]) -> Option<TurnReceived<'a>> {
        let ([n0, n1, l0, l1], data) = bytes.split_first_chunk::<4>()?;
        let number = u16::from_be_bytes([*n0, *n1]);
        let payload = data.get(..usize::from(u16::from_be_bytes([*l0, *l1])))?;
        let channel = self.channels.iter().find(|channel| channel.number == number)?;
        Some(TurnReceived::Data { peer: channel.peer, payload })
    }

    fn ask(&mut self, now: Instant, ask: Ask, attempts: u32) {
        let transaction = self.random.transaction();
        // A user name that cannot be written is refused by nobody else.
        let Ok(bytes) = turn::request(ask, transaction, self.auth.as_ref()) else {
            let reason = "the relay's user name, realm or nonce cannot be written".to_owned();
            return self.on_refusal(ask, 400, reason);
        };
        let rto = INITIAL_RTO;
        self.requests.push(Request {
            ask,
            transaction,
            bytes: bytes.clone(),
            signed: self.auth.is_some(),
            attempts,
            rto,
            again_at: (!self.is_stream()).then_some(now + rto),
            ends_at: now + TIMEOUT,
        });
        self.outputs.push_back(TurnOutput::Transmit(bytes));
    }

    fn on_answer(&mut self, now: Instant, transaction: u128, answer: Answer) {
        let of_it = |request: &Request| request.transaction == transaction;
        let Some(at) = self.requests.iter().position(of_it) else { return };
        // What was asked for with a signature is granted with one (RFC 8489 §9.2.5).
        if answer.result.is_ok() && self.requests[at].signed && !answer.signed {
            return;
        }
        let request = self.requests.swap_remove(at);
        match answer.result {
            Ok(granted) => self.on_granted(now, request.ask, granted),
            Err((code, words)) => {
                let challenge = code == STALE_NONCE || (code == UNAUTHORIZED && !request.signed);
                let realm =
                    answer.realm.or_else(|| self.auth.as_ref().map(|auth| auth.realm.clone()));
                if challenge
                    && request.attempts < MAX_ATTEMPTS
                    && let (Some(realm), Some(nonce)) = (realm, answer.nonce)
                {
                    let TurnConfig { username, password, .. } = &self.config;
                    self.auth = Some(Auth::new(username, password, realm, nonce));
                    return self.ask(now, request.ask, request.attempts + 1);
                }
                let reason = self.in_words(now, code, &words);
                self.on_refusal(request.ask, code, reason);
            }
        }
    }

    fn on_granted(&mut self, now: Instant, ask: Ask, granted: Granted) {
        let lifetime = granted.lifetime.unwrap_or(LIFETIME).clamp(MIN_LIFETIME, MAX_LIFETIME);
        // A minute before the end, or half of a short life.
        let refresh_at = now + lifetime.saturating_sub(REFRESH_BEFORE).max(lifetime / 2);
        match ask {
            Ask::Allocate { .. } => {
                let (Some(relayed), Some(mapped)) = (granted.relayed, granted.mapped) else {
                    let reason = "the relay's answer has no address".to_owned();
                    return self.on_refusal(ask, 400, reason);
                };
                let (relayed, mapped) = (canonical(relayed), canonical(mapped));
                self.state = AllocationState::Allocated { ipv6: relayed.is_ipv6(), refresh_at };
                let TurnConfig { via, server, preference, .. } = self.config;
                let candidate = LocalCandidate::Relay { relayed, via, mapped, server, preference };
                self.outputs.push_back(TurnOutput::Event(TurnEvent::Allocated(candidate)));
            }
            Ask::Refresh { .. } => {
                if let AllocationState::Allocated { ipv6, .. } = self.state {
                    self.state = AllocationState::Allocated { ipv6, refresh_at };
                }
            }
            Ask::Permission { peer } => {
                let known = self.permissions.iter_mut().find(|known| known.peer == peer);
                if let Some(permission) = known {
                    permission.refresh_at = Some(now + BINDING_REFRESH);
                }
            }
            Ask::Channel { number, .. } => {
                if let Some(channel) = self.channels.iter_mut().find(|c| c.number == number) {
                    channel.bound = true;
                    channel.refresh_at = Some(now + BINDING_REFRESH);
                }
            }
        }
    }

    fn on_refusal(&mut self, ask: Ask, code: u16, reason: String) {
        match ask {
            Ask::Allocate { .. } | Ask::Refresh { .. } => {
                if self.state != AllocationState::Ended {
                    self.end();
                    self.outputs.push_back(TurnOutput::Event(TurnEvent::Refused { code, reason }));
                }
            }
            // Another datagram to the peer asks again.
            Ask::Permission { peer } => {
                self.permissions.retain(|known| known.peer != peer);
                self.outputs.push_back(TurnOutput::Event(TurnEvent::PeerRefused { peer, code }));
            }
            Ask::Channel { number, .. } => self.channels.retain(|c| c.number != number),
        }
    }

    fn end(&mut self) {
        self.state = AllocationState::Ended;
        self.requests.clear();
        self.permissions.clear();
        self.channels.clear();
    }

    fn in_words(&self, now: Instant, code: u16, words: &str) -> String {
        let unix = self.config.unix_time.map(|at| at + now.saturating_duration_since(self.started));
        let is_over = expiry(&self.config.username)
            .is_some_and(|expiry| unix.is_some_and(|unix| expiry < unix.as_secs()));
        match code {
            // Relays answer both alike.
            UNAUTHORIZED if is_over => {
                "the relay does not accept the credentials any more: their time is over".to_owned()
            }
            UNAUTHORIZED => {
                "the relay does not accept the user name and password: they are wrong".to_owned()
            }
            403 => "the relay forbids it".to_owned(),
            // Our own last allocation from this address is not over yet, or it has forgotten this one.
            437 => "the relay still holds an earlier allocation of this address".to_owned(),
            486 => "this user has as many allocations as the relay allows".to_owned(),
            508 => "the relay is full".to_owned(),
            _ => format!("the relay refuses ({})", format!("{code} {words}").trim_end()),
        }
    }
}

/// When a minted user name, `EXPIRY` or `EXPIRY:ANYTHING` (draft-uberti-behave-turn-rest-00 §2.2), ceases to
/// count; other names count for ever.
fn expiry(username: &str) -> Option<u64> {
    let digits = username.split(':').next()?;
    // A shorter number is somebody's name: it would be a time before 2001.
    let number = (10..=12).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|_| number)
}

/// RFC 8489 §14.8.
const UNAUTHORIZED: u16 = 401;
const STALE_NONCE: u16 = 438;
/// A relay that goes on asking for other nonces refuses.
const MAX_ATTEMPTS: u32 = 3;
/// As [`GathererConfig::initial_rto`](crate::GathererConfig::initial_rto).
const INITIAL_RTO: Duration = Duration::from_millis(250);
const TIMEOUT: Duration = Duration::from_secs(10);
/// RFC 8656 §7.2: ten minutes where nothing else is said, at most an hour.
const LIFETIME: Duration = Duration::from_secs(600);
const MAX_LIFETIME: Duration = Duration::from_secs(3600);
/// What a relay may say without making its client busy.
const MIN_LIFETIME: Duration = Duration::from_secs(30);
const REFRESH_BEFORE: Duration = Duration::from_secs(60);
/// RFC 8656 §9: permissions live for five minutes, channels (§12) for ten; a channel keeps its permission, so
/// both are refreshed a minute before a permission ends.
const PERMISSION_LIFETIME: Duration = Duration::from_secs(300);
const BINDING_REFRESH: Duration = Duration::from_secs(240);
/// RFC 8656 §12.
const FIRST_CHANNEL: u16 = 0x4000;
const LAST_CHANNEL: u16 = 0x4fff;
/// One for each pair that was selected lately.
const MAX_CHANNELS: usize = 16;
/// As remote candidates.
const MAX_PERMISSIONS: usize = crate::config::MAX_REMOTE_CANDIDATES;

#[cfg(test)]
mod tests;
