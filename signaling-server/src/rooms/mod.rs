//! Rooms of two: who sits where, who hears what, and when a seat becomes free. Sans-IO: `now` and
//! every event come in by [`Rooms::handle`], what is to be done comes out of
//! [`Rooms::poll_output`]; no socket, no clock, no thread.
//!
//! ```text
//! connection:  fresh ──join──► seated ──leave, fault, silence──► gone
//!                │  └─full room─► waiting (the holders are probed) ─► seated or gone
//!                ├─established room─► knocking ─admitted─► seated, or ─refused─► gone
//!                └─no join in time─► gone
//! seat:        held ──WebSocket gone──► ghost ──resume──► held
//!                └──leave, silence──► free ◄──silence, or somebody else wants the seat──┘
//! ```
//!
//! A room is *established* once media flows between the two in it, until it is empty: whoever is
//! new then knocks and is let in by those inside, and a seat that fell silent waits for its token.
//! A locked room takes in nobody but those who had a seat when it was locked, or since.

mod backlog;
mod knocks;
mod seats;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use axum::http::uri::Authority;
use visavis_signaling_protocol::{
    ClientMessage, ErrorCode, IceServer, LeaveReason, ParseError, PeerId, PeerInfo, ResumeToken,
    RoomCode, ServerMessage, SessionId, SignalPayload,
};

use crate::limits::{Bucket, Joins, Limits, Shares};
use backlog::Backlog;

pub(crate) use backlog::MESSAGE_OVERHEAD_BYTES;
pub(crate) use seats::SeatChange;

/// Names one WebSocket for as long as the server runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ConnectionId(pub(crate) u64);

/// What happened.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all of them are messages")]
pub(crate) enum Input {
    /// A WebSocket is open.
    Connected { connection: ConnectionId, address: IpAddr, host: Option<Authority> },
    /// A text frame of `bytes` bytes arrived.
    Message { connection: ConnectionId, message: Result<ClientMessage, ParseError>, bytes: usize },
    /// A WebSocket ping or pong arrived, which counts as a message for the rate.
    Heard { connection: ConnectionId },
    /// A frame arrived that is no message at all.
    Fault { connection: ConnectionId, code: ErrorCode, message: &'static str },
    /// The WebSocket is gone.
    Disconnected { connection: ConnectionId },
    /// Time has passed. Expected every [`crate::hub::TICK`]; deadlines are kept to that precision.
    Tick,
    /// The server goes down.
    Shutdown,
}

/// What is to be done, in this order.
#[derive(Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "nearly all of them are messages")]
pub(crate) enum Output {
    /// Send a message of about `bytes` bytes.
    Send { connection: ConnectionId, message: ServerMessage, bytes: usize },
    /// Send a WebSocket ping, to see whether somebody is there.
    Probe { connection: ConnectionId },
    /// Close the WebSocket; nothing more comes for it. With the error that was sent, if any.
    Close { connection: ConnectionId, code: Option<ErrorCode> },
}

/// Sums since the start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) connections: u64,
    pub(crate) joins: u64,
    pub(crate) resumes: u64,
    pub(crate) messages_received: u64,
    pub(crate) bytes_received: u64,
    pub(crate) signals_relayed: u64,
    pub(crate) errors: BTreeMap<&'static str, u64>,
}

/// Makes the `iceServers` of one peer, which reached the server under the name given.
pub(crate) type MintIceServers = Box<dyn Fn(&PeerId, Option<&Authority>) -> Vec<IceServer> + Send>;

/// All rooms of a server.
pub(crate) struct Rooms {
    /// Time of the event being handled.
    now: Instant,
    limits: Limits,
    mint: MintIceServers,
    rooms: HashMap<RoomCode, Room>,
    connections: HashMap<ConnectionId, Connection>,
    joins: Joins,
    /// Rooms by the address that opened them, seats by the one that took them.
    room_shares: Shares,
    seat_shares: Shares,
    /// Seats that fell silent not long ago, by their tokens.
    former: HashMap<ResumeToken, FormerSeat>,
    /// Bytes kept for clients, here and in their outboxes.
    kept: Arc<AtomicUsize>,
    outputs: VecDeque<Output>,
    seat_changes: VecDeque<SeatChange>,
    counters: Counters,
}

/// A seat that was freed because nothing was heard of its client, whose media may flow all the same.
struct FormerSeat {
    relay_users: Vec<PeerId>,
    freed: Instant,
}

#[derive(Default)]
struct Room {
    /// Who opened it: whose share it is.
    opened_from: Option<IpAddr>,
    /// At most [`ROOM_SEATS`](visavis_signaling_protocol::limits::ROOM_SEATS).
    seats: Vec<Seat>,
    /// Connections that wait for the holders to answer, or to be let in.
    waiting: Vec<Waiting>,
    locked: bool,
    /// Media has flowed between the two: nobody new enters unasked.
    established: bool,
    /// Seats that fell silent while the room was locked or established: their owners may come
    /// back. Together with the seats at most `ROOM_SEATS`, since nobody else enters unasked.
    away: Vec<Away>,
    /// Knocks by address ([`address_key`](crate::limits::address_key)); at most
    /// [`knocks::MAX_ADDRESSES`].
    knocks: HashMap<IpAddr, Bucket>,
}

/// Who wants to enter a room.
struct Waiting {
    connection: ConnectionId,
    join: Join,
    /// Of the seat that it will have.
    peer_id: PeerId,
    /// When those inside were asked. `None`: the holders of the seats are probed first.
    knocked: Option<Instant>,
}

/// A seat without its holder.
struct Away {
    peer_id: PeerId,
    token: ResumeToken,
    /// Takes the seat like the token: this server was started anew and the other peer named it.
    session: Option<SessionId>,
}

struct Seat {
    peer_id: PeerId,
    /// From where it was taken: whose share it is.
    taken_from: IpAddr,
    /// Under which names its client has had relay credentials: its own `peer_id`, and those of seats
    /// that it had before and came back from.
    relay_users: Vec<PeerId>,
    token: ResumeToken,
    session: SessionId,
    display_name: Option<String>,
    polite: bool,
    /// `None`: a ghost, whose WebSocket is gone.
    connection: Option<ConnectionId>,
    last_heard: Instant,
    /// When it was asked for a sign of life that has not come yet.
    probed: Option<Instant>,
    backlog: Backlog,
    /// Whether the client counts what it receives.
    counts: bool,
    /// `signal` messages had from this session.
    received: u64,
    /// Whether the client has said something since: then it has had its `joined`, and the token.
    confirmed: bool,
    /// The client left and may return: when it has not by then, it hung up.
    left_at: Option<Instant>,
}

struct Connection {
    address: IpAddr,
    /// The `Host` of its request.
    host: Option<Authority>,
    opened: Instant,
    messages: Bucket,
    place: Place,
}

enum Place {
    Fresh,
    Waiting(RoomCode),
    Seated(RoomCode),
}

struct Join {
    display_name: Option<String>,
    resume_token: Option<ResumeToken>,
    session: SessionId,
    received: Option<u64>,
}

impl Seat {
    fn info(&self) -> PeerInfo {
        PeerInfo {
            peer_id: self.peer_id.clone(),
            session: self.session.clone(),
            display_name: self.display_name.clone(),
        }
    }

    /// Why the seat is free, if it is taken away now.
    fn reason_if_freed(&self) -> LeaveReason {
        if self.left_at.is_some() { LeaveReason::Left } else { LeaveReason::Timeout }
    }
}

impl Rooms {
    /// No rooms yet.
    pub(crate) fn new(now: Instant, limits: Limits, mint: MintIceServers) -> Self {
        Self {
            now,
            joins: Joins::new(&limits),
            limits,
            mint,
            rooms: HashMap::new(),
            connections: HashMap::new(),
            room_shares: Shares::default(),
            seat_shares: Shares::default(),
            former: HashMap::new(),
            kept: Arc::default(),
            outputs: VecDeque::new(),
            seat_changes: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// Sums since the start.
    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Rooms with somebody in them.
    pub(crate) fn room_count(&self) -> usize {
        self.rooms.len()
    }

    /// Open WebSockets.
    pub(crate) fn connection_count(&self) -> usize {
        self.connections.len()
    }

    /// Taken seats, ghosts included.
    pub(crate) fn seat_count(&self) -> usize {
        self.rooms.values().map(|room| room.seats.len()).sum()
    }

    /// Counts the bytes that are kept for clients, here and by the caller.
    pub(crate) fn kept(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.kept)
    }

    /// What is kept for each seat, bytes.
    pub(crate) fn backlogs(&self) -> impl Iterator<Item = (usize, RoomCode, PeerId)> {
        self.rooms.iter().flat_map(|(code, room)| {
            room.seats
                .iter()
                .map(|seat| (seat.backlog.weight(), code.clone(), seat.peer_id.clone()))
        })
    }

    /// Forgets what is kept for a seat, for want of memory. Its client, if it comes back, goes on
    /// as if the oldest messages had been dropped.
    pub(crate) fn drop_backlog(&mut self, code: &RoomCode, peer_id: &PeerId) {
        let seats = self.rooms.get_mut(code).map(|room| &mut room.seats);
        if let Some(seat) =
            seats.and_then(|seats| seats.iter_mut().find(|seat| seat.peer_id == *peer_id))
        {
            seat.backlog.clear();
        }
    }

    /// The next change of who may use the relay.
    pub(crate) fn poll_seat_change(&mut self) -> Option<SeatChange> {
        self.seat_changes.pop_front()
    }

    /// The next thing to do.
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Takes one event; drain [`Self::poll_output`] after it.
    pub(crate) fn handle(&mut self, now: Instant, input: Input) {
        self.now = now;
        match input {
            Input::Connected { connection, address, host } => {
                self.connected(connection, address, host);
            }
            Input::Message { connection, message, bytes } => {
                self.message(connection, message, bytes);
            }
            Input::Heard { connection } => self.heard_control_frame(connection),
            Input::Fault { connection, code, message } => self.fault(connection, code, message),
            Input::Disconnected { connection } => self.drop_connection(connection),
            Input::Tick => self.tick(),
            Input::Shutdown => {
                let mut all: Vec<_> = self.connections.keys().copied().collect();
                all.sort_unstable();
                for connection in all {
                    self.fault(connection, ErrorCode::ServerShutdown, "the server is going down");
                }
            }
        }
    }

    fn connected(&mut self, connection: ConnectionId, address: IpAddr, host: Option<Authority>) {
        let now = self.now;
        self.counters.connections += 1;
        let burst = f64::from(self.limits.message_burst);
        let rate = f64::from(self.limits.messages_per_second);
        self.connections.insert(
            connection,
            Connection {
                address,
                host,
                opened: now,
                messages: Bucket::new(now, burst, rate),
                place: Place::Fresh,
            },
        );
    }

    fn message(
        &mut self,
        id: ConnectionId,
        message: Result<ClientMessage, ParseError>,
        bytes: usize,
    ) {
        let now = self.now;
        let Some(connection) = self.connections.get_mut(&id) else { return };
        self.counters.messages_received += 1;
        self.counters.bytes_received += bytes as u64;
        if !connection.messages.take(now) {
            return self.fault(id, ErrorCode::RateLimited, "too many messages a second");
        }
        let message = match message {
            Ok(message) => message,
            Err(error) => return self.fault(id, error.code, &error.message),
        };
        let fresh = matches!(connection.place, Place::Fresh);
        self.heard(id);
        if let Some(seat) = self.seat_mut(id) {
            seat.confirmed = true;
        }
        match message {
            ClientMessage::Join { room, display_name, resume_token, session, received, .. } => {
                if !fresh {
                    let text = "this connection has joined already";
                    return self.fault(id, ErrorCode::AlreadyJoined, text);
                }
                let join = Join {
                    display_name: display_name
                        .and_then(|name| ServerMessage::clean_display_name(&name)),
                    resume_token,
                    session: session.unwrap_or_else(SessionId::random),
                    received,
                };
                self.join(id, room, join);
            }
            ClientMessage::Ping { received } => {
                let received = self.seat_mut(id).map(|seat| {
                    if let Some(received) = received {
                        seat.backlog.forget(received);
                    }
                    seat.received
                });
                self.send(id, ServerMessage::Pong { received });
            }
            ClientMessage::Signal { to, session, payload } => {
                self.signal(id, &to, session.as_ref(), payload, bytes);
            }
            ClientMessage::Leave { may_return: true, .. } => self.leave_for_now(id),
            ClientMessage::Leave { gave_up, .. } => {
                self.leave(id, if gave_up { LeaveReason::GaveUp } else { LeaveReason::Left });
            }
            ClientMessage::Lock { locked } => self.lock(id, locked),
            ClientMessage::Connected { session } => self.establish(id, &session),
            ClientMessage::Admit { peer_id, admitted } => self.admit(id, &peer_id, admitted),
        }
    }

    /// The seat that a connection holds.
    fn seat_mut(&mut self, id: ConnectionId) -> Option<&mut Seat> {
        let Place::Seated(room) = &self.connections.get(&id)?.place else { return None };
        self.rooms.get_mut(room)?.seats.iter_mut().find(|seat| seat.connection == Some(id))
    }

    /// A WebSocket ping or pong, with which nobody may keep the server busy either.
    fn heard_control_frame(&mut self, id: ConnectionId) {
        let now = self.now;
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.messages.take(now) {
            self.heard(id);
        } else {
            self.fault(id, ErrorCode::RateLimited, "too many messages a second");
        }
    }

    /// Any sign of life counts.
    fn heard(&mut self, id: ConnectionId) {
        let now = self.now;
        let Some(seat) = self.seat_mut(id) else { return };
        seat.last_heard = now;
        if seat.probed.take().is_some()
            && let Some(Place::Seated(room)) = self.connections.get(&id).map(|c| &c.place)
        {
            let room = room.clone();
            self.admit_waiting(&room);
        }
    }

    fn signal(
        &mut self,
        id: ConnectionId,
        to: &PeerId,
        session: Option<&SessionId>,
        payload: SignalPayload,
        bytes: usize,
    ) {
        let Some(seat) = self.seat_mut(id) else {
            return self.fault(id, ErrorCode::NotJoined, "`join` comes first");
        };
        seat.received += 1;
        let (from, life) = (seat.peer_id.clone(), seat.session.clone());
        let Some(Place::Seated(code)) = self.connections.get(&id).map(|c| &c.place) else { return };
        let receiver = self
            .rooms
            .get_mut(code)
            .and_then(|room| room.seats.iter_mut().find(|seat| seat.peer_id == *to))
            .filter(|receiver| receiver.peer_id != from)
            .filter(|receiver| session.is_none_or(|session| *session == receiver.session));
        match receiver {
            Some(receiver) => {
                self.counters.signals_relayed += 1;
                let message = ServerMessage::Signal { from, session: Some(life), payload };
                deliver(&mut self.outputs, receiver, message, bytes);
            }
            None => {
                self.error(
                    id,
                    ErrorCode::NoSuchPeer,
                    "nobody of that id and session is in this room",
                );
            }
        }
    }

    fn tell_others(&mut self, code: &RoomCode, about: &PeerId, message: &ServerMessage) {
        let Some(room) = self.rooms.get_mut(code) else { return };
        for seat in room.seats.iter_mut().filter(|seat| seat.peer_id != *about) {
            deliver(&mut self.outputs, seat, message.clone(), SMALL_MESSAGE_BYTES);
        }
    }

    fn tick(&mut self) {
        let now = self.now;
        let past = |since: Instant, limit| now.saturating_duration_since(since) >= limit;
        let limits = self.limits.clone();
        let late: Vec<_> = self
            .connections
            .iter()
            .filter(|(_, c)| {
                matches!(c.place, Place::Fresh) && past(c.opened, limits.join_deadline)
            })
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            self.fault(id, ErrorCode::IdleTimeout, "no `join` in time");
        }
        let mut silent = Vec::new();
        for (code, room) in &self.rooms {
            for seat in &room.seats {
                // In an established room nobody takes the seat for want of an answer to a probe.
                let gives_way = !room.established;
                if past(seat.last_heard, limits.silence)
                    || (gives_way && seat.probed.is_some_and(|since| past(since, limits.probe)))
                    || seat.left_at.is_some_and(|since| past(since, limits.return_wait))
                {
                    let reason = seat.reason_if_freed();
                    silent.push((code.clone(), seat.peer_id.clone(), seat.connection, reason));
                }
            }
        }
        for (code, peer_id, connection, reason) in silent {
            self.free(&code, &peer_id, reason);
            if let Some(id) = connection {
                self.fault(id, ErrorCode::IdleTimeout, "nothing was heard in time");
            }
            self.admit_waiting(&code);
        }
        self.tick_knocks();
        self.joins.forget_full(now);
        self.former.retain(|_, seat| !past(seat.freed, FORMER_SEAT_LIFETIME));
    }

    /// Says why and ends the connection. Its seat, if it holds one, becomes a ghost's.
    fn fault(&mut self, id: ConnectionId, code: ErrorCode, message: &str) {
        if self.connections.contains_key(&id) {
            self.error(id, code, message);
            self.outputs.push_back(Output::Close { connection: id, code: Some(code) });
            self.drop_connection(id);
        }
    }

    fn error(&mut self, id: ConnectionId, code: ErrorCode, message: &str) {
        *self.counters.errors.entry(code.as_str()).or_default() += 1;
        self.send(id, ServerMessage::Error { code, message: message.to_owned() });
    }

    fn send(&mut self, connection: ConnectionId, message: ServerMessage) {
        let bytes = SMALL_MESSAGE_BYTES;
        self.outputs.push_back(Output::Send { connection, message, bytes });
    }

    fn set_place(&mut self, id: ConnectionId, place: Place) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.place = place;
        }
    }

    /// Forgets a connection; its seat, if it holds one, becomes a ghost's, which whoever waits may
    /// have.
    fn drop_connection(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.remove(&id) else { return };
        match connection.place {
            Place::Fresh => {}
            Place::Waiting(code) => {
                self.stop_waiting(&code, id);
                self.drop_empty_room(&code);
            }
            Place::Seated(code) => {
                let seats = self.rooms.get_mut(&code).map(|room| &mut room.seats);
                if let Some(seat) =
                    seats.and_then(|seats| seats.iter_mut().find(|s| s.connection == Some(id)))
                {
                    seat.connection = None;
                    seat.probed = None;
                    self.admit_waiting(&code);
                }
            }
        }
    }
}

/// Hands a numbered message to a seat: to its WebSocket if it has one, and to its backlog.
fn deliver(outputs: &mut VecDeque<Output>, seat: &mut Seat, message: ServerMessage, bytes: usize) {
    if let Some(connection) = seat.connection {
        outputs.push_back(Output::Send { connection, message: message.clone(), bytes });
    }
    seat.backlog.push(message, bytes, seat.connection.is_some());
    if !seat.counts {
        seat.backlog.forget_handed();
    }
}

/// How long the token of a seat that fell silent is remembered: as long as the relay keeps up what
/// was opened with its credentials.
const FORMER_SEAT_LIFETIME: Duration = crate::relay::SEAT_GRACE;
/// What a message without SDP or candidate is taken to weigh, bytes.
const SMALL_MESSAGE_BYTES: usize = 256;
