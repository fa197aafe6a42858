//! Rooms of two: who sits where, who hears what, and when a seat becomes free. Sans-IO: `now` and
//! every event come in by [`Rooms::handle`], what is to be done comes out of
//! [`Rooms::poll_output`]; no socket, no clock, no thread.
//!
//! ```text
//! connection:  fresh ──join──► seated ──leave, fault, silence──► gone
//!                │  └─full room─► waiting (the holders are probed) ─► seated or gone
//!                └─no join in time─► gone
//! seat:        held ──WebSocket gone──► ghost ──resume──► held
//!                └──leave, silence──► free ◄──silence, or somebody else wants the seat──┘
//! ```
//!
//! A locked room takes in nobody but those who had a seat when it was locked, or since.

mod backlog;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Instant;

use axum::http::uri::Authority;
use visavis_signaling_protocol::limits::ROOM_SEATS;
use visavis_signaling_protocol::{
    ClientMessage, ErrorCode, IceServer, LeaveReason, ParseError, PeerId, PeerInfo, ResumeToken,
    RoomCode, ServerMessage, SessionId, SignalPayload,
};

use crate::limits::{Bucket, Limits, address_key};
use backlog::Backlog;

/// Names one WebSocket for as long as the server runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ConnectionId(pub(crate) u64);

/// What happened.
#[derive(Debug)]
pub(crate) enum Input {
    /// A WebSocket is open.
    Connected { connection: ConnectionId, address: IpAddr, host: Option<Authority> },
    /// A text frame of `bytes` bytes arrived.
    Message { connection: ConnectionId, message: Result<ClientMessage, ParseError>, bytes: usize },
    /// A WebSocket ping or pong arrived.
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
    joins: HashMap<IpAddr, Bucket>,
    outputs: VecDeque<Output>,
    counters: Counters,
}

#[derive(Default)]
struct Room {
    /// At most [`ROOM_SEATS`].
    seats: Vec<Seat>,
    /// Connections that wait for the holders to answer.
    waiting: Vec<(ConnectionId, Join)>,
    locked: bool,
    /// Tokens of seats that fell silent while the room was locked: they may come back. Together
    /// with the seats at most [`ROOM_SEATS`], since nobody else is let in.
    away: Vec<ResumeToken>,
}

struct Seat {
    peer_id: PeerId,
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
            limits,
            mint,
            rooms: HashMap::new(),
            connections: HashMap::new(),
            joins: HashMap::new(),
            outputs: VecDeque::new(),
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
            Input::Heard { connection } => self.heard(connection),
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
        }
    }

    /// The seat that a connection holds.
    fn seat_mut(&mut self, id: ConnectionId) -> Option<&mut Seat> {
        let Place::Seated(room) = &self.connections.get(&id)?.place else { return None };
        self.rooms.get_mut(room)?.seats.iter_mut().find(|seat| seat.connection == Some(id))
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

    fn join(&mut self, id: ConnectionId, code: RoomCode, join: Join) {
        let now = self.now;
        let Some(connection) = self.connections.get(&id) else { return };
        let per_minute = f64::from(self.limits.joins_per_minute);
        let joins = self
            .joins
            .entry(address_key(connection.address))
            .or_insert_with(|| Bucket::new(now, per_minute, per_minute / 60.0));
        if !joins.take(now) {
            let text = "too many joins a minute from this address";
            return self.fault(id, ErrorCode::TooManyJoins, text);
        }
        if !self.rooms.contains_key(&code) && self.rooms.len() >= self.limits.rooms {
            let text = "the server holds as many rooms as it may";
            return self.fault(id, ErrorCode::TooManyRooms, text);
        }
        let room = self.rooms.entry(code.clone()).or_default();
        let token = join.resume_token.as_ref();
        if let Some(own) = room.seats.iter().position(|seat| token == Some(&seat.token)) {
            let resumes = room.seats[own].session == join.session;
            return self.take_back(id, &code, own, join, resumes);
        }
        // Whose `joined` was lost has no token. Who else knows the session has the seat beside it.
        let lost = |seat: &Seat| !seat.confirmed && seat.session == join.session;
        if let Some(own) = room.seats.iter().position(lost) {
            return self.take_back(id, &code, own, join, false);
        }
        if room.locked {
            let away = join
                .resume_token
                .as_ref()
                .and_then(|token| room.away.iter().position(|away| away == token));
            let Some(away) = away else {
                let text = "the people inside have locked the room";
                return self.fault(id, ErrorCode::RoomLocked, text);
            };
            room.away.swap_remove(away);
            return self.sit(id, &code, join);
        }
        let held = |seat: &Seat| seat.connection.is_some();
        if room.seats.len() < ROOM_SEATS || !room.seats.iter().all(held) {
            return self.sit(id, &code, join);
        }
        for seat in room.seats.iter_mut().filter(|seat| seat.probed.is_none()) {
            seat.probed = Some(now);
            if let Some(connection) = seat.connection {
                self.outputs.push_back(Output::Probe { connection });
            }
        }
        room.waiting.push((id, join));
        self.set_place(id, Place::Waiting(code));
    }

    /// Takes a free seat, or that of a ghost. The room exists and has one or the other.
    fn sit(&mut self, id: ConnectionId, code: &RoomCode, join: Join) {
        let Some(room) = self.rooms.get_mut(code) else { return };
        if room.seats.len() >= ROOM_SEATS {
            let ghost = room
                .seats
                .iter()
                .filter(|seat| seat.connection.is_none())
                .min_by_key(|seat| seat.last_heard)
                .map(|seat| (seat.peer_id.clone(), seat.reason_if_freed()));
            let Some((ghost, reason)) = ghost else { return };
            self.free(code, &ghost, reason);
        }
        let Some(room) = self.rooms.get_mut(code) else { return };
        let seat = Seat {
            peer_id: PeerId::random(),
            token: ResumeToken::random(),
            session: join.session,
            display_name: join.display_name,
            // The roles of two must differ, whoever of them came first.
            polite: room.seats.first().is_some_and(|other| !other.polite),
            connection: Some(id),
            last_heard: self.now,
            probed: None,
            backlog: Backlog::default(),
            counts: join.received.is_some(),
            received: 0,
            confirmed: false,
            left_at: None,
        };
        let (peer_id, info) = (seat.peer_id.clone(), seat.info());
        room.seats.push(seat);
        self.counters.joins += 1;
        self.set_place(id, Place::Seated(code.clone()));
        self.send_joined(code, &peer_id, false);
        self.tell_others(code, &peer_id, &ServerMessage::PeerJoined { peer: info });
    }

    /// The own seat number `own` of the room is taken back: by the same session, which `resumes`
    /// where it was, or by another (a reloaded page), which starts afresh, as does one whose
    /// `joined` was lost.
    fn take_back(
        &mut self,
        id: ConnectionId,
        code: &RoomCode,
        own: usize,
        join: Join,
        resumes: bool,
    ) {
        let now = self.now;
        let Some(seat) = self.rooms.get_mut(code).and_then(|room| room.seats.get_mut(own)) else {
            return;
        };
        let old = seat.connection.replace(id);
        let same_session = seat.session == join.session;
        seat.last_heard = now;
        seat.left_at = None;
        let was_probed = seat.probed.take().is_some();
        seat.display_name = join.display_name;
        seat.counts = join.received.is_some();
        if resumes {
            seat.backlog.resume(join.received);
        } else {
            seat.session = join.session;
            seat.confirmed = false;
            seat.backlog = Backlog::default();
            seat.received = 0;
        }
        let (peer_id, info) = (seat.peer_id.clone(), seat.info());
        if let Some(old) = old {
            let text = "the seat was taken back by a newer connection";
            // The seat is no longer the old connection's, so that this frees nothing.
            self.fault(old, ErrorCode::Replaced, text);
        }
        self.counters.resumes += 1;
        self.set_place(id, Place::Seated(code.clone()));
        self.send_joined(code, &peer_id, resumes);
        if resumes {
            self.replay(code, &peer_id);
        } else if !same_session {
            self.tell_others(code, &peer_id, &ServerMessage::PeerJoined { peer: info });
        }
        if was_probed {
            self.admit_waiting(code);
        }
    }

    fn send_joined(&mut self, code: &RoomCode, peer_id: &PeerId, resumed: bool) {
        let Some(room) = self.rooms.get(code) else { return };
        let Some(seat) = room.seats.iter().find(|seat| seat.peer_id == *peer_id) else { return };
        let Some(connection) = seat.connection else { return };
        let host = self.connections.get(&connection).and_then(|c| c.host.as_ref());
        let ice_servers = (self.mint)(peer_id, host);
        let message = ServerMessage::Joined {
            peer_id: peer_id.clone(),
            peers: room.seats.iter().filter(|s| s.peer_id != *peer_id).map(Seat::info).collect(),
            polite: seat.polite,
            ice_servers,
            resume_token: seat.token.clone(),
            resumed,
            received: Some(seat.received),
            locked: room.locked,
        };
        self.send(connection, message);
    }

    fn replay(&mut self, code: &RoomCode, peer_id: &PeerId) {
        let Some(seat) = self
            .rooms
            .get_mut(code)
            .and_then(|room| room.seats.iter_mut().find(|seat| seat.peer_id == *peer_id))
        else {
            return;
        };
        let Some(connection) = seat.connection else { return };
        for (message, bytes) in seat.backlog.replay() {
            let (message, bytes) = (message.clone(), *bytes);
            self.outputs.push_back(Output::Send { connection, message, bytes });
        }
        if !seat.counts {
            seat.backlog.forget_handed();
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

    fn leave(&mut self, id: ConnectionId, reason: LeaveReason) {
        let Some(seat) = self.seat_mut(id) else {
            return self.fault(id, ErrorCode::NotJoined, "`join` comes first");
        };
        let peer_id = seat.peer_id.clone();
        let Some(connection) = self.connections.remove(&id) else { return };
        self.outputs.push_back(Output::Close { connection: id, code: None });
        if let Place::Seated(code) = connection.place {
            self.free(&code, &peer_id, reason);
            self.admit_waiting(&code);
        }
    }

    /// The seat becomes a ghost's, with less time to come back and another reason if it does not.
    fn leave_for_now(&mut self, id: ConnectionId) {
        let now = self.now;
        let Some(seat) = self.seat_mut(id) else {
            return self.fault(id, ErrorCode::NotJoined, "`join` comes first");
        };
        seat.left_at = Some(now);
        self.outputs.push_back(Output::Close { connection: id, code: None });
        self.drop_connection(id);
    }

    fn lock(&mut self, id: ConnectionId, locked: bool) {
        let Some(seat) = self.seat_mut(id) else {
            return self.fault(id, ErrorCode::NotJoined, "`join` comes first");
        };
        let by = seat.peer_id.clone();
        let Some(Place::Seated(code)) = self.connections.get(&id).map(|c| &c.place) else { return };
        let Some(room) = self.rooms.get_mut(code) else { return };
        let message = ServerMessage::Lock { locked, by };
        if std::mem::replace(&mut room.locked, locked) == locked {
            return self.send(id, message);
        }
        room.away.clear();
        let waiting = if locked { std::mem::take(&mut room.waiting) } else { Vec::new() };
        let seated: Vec<_> = room.seats.iter().filter_map(|seat| seat.connection).collect();
        for connection in seated {
            self.send(connection, message.clone());
        }
        for (id, _) in waiting {
            self.set_place(id, Place::Fresh);
            let text = "the people inside have locked the room";
            self.fault(id, ErrorCode::RoomLocked, text);
        }
    }

    /// Removes a seat and tells the others; the room goes with its last seat.
    fn free(&mut self, code: &RoomCode, peer_id: &PeerId, reason: LeaveReason) {
        let Some(room) = self.rooms.get_mut(code) else { return };
        let Some(seat) = room.seats.iter().position(|seat| seat.peer_id == *peer_id) else {
            return;
        };
        let seat = room.seats.remove(seat);
        if room.locked && reason == LeaveReason::Timeout {
            room.away.push(seat.token);
        }
        let left = ServerMessage::PeerLeft { peer_id: peer_id.clone(), reason };
        self.tell_others(code, peer_id, &left);
        self.drop_empty_room(code);
    }

    fn drop_empty_room(&mut self, code: &RoomCode) {
        let empty = |room: &Room| room.seats.is_empty() && room.waiting.is_empty();
        if self.rooms.get(code).is_some_and(empty) {
            self.rooms.remove(code);
        }
    }

    fn tell_others(&mut self, code: &RoomCode, about: &PeerId, message: &ServerMessage) {
        let Some(room) = self.rooms.get_mut(code) else { return };
        for seat in room.seats.iter_mut().filter(|seat| seat.peer_id != *about) {
            deliver(&mut self.outputs, seat, message.clone(), SMALL_MESSAGE_BYTES);
        }
    }

    /// Seats whoever waits and now finds a free seat or a ghost; refuses the rest once every
    /// holder has answered.
    fn admit_waiting(&mut self, code: &RoomCode) {
        while let Some(room) = self.rooms.get_mut(code)
            && !room.waiting.is_empty()
        {
            let held = room.seats.iter().filter(|seat| seat.connection.is_some()).count();
            if held < ROOM_SEATS {
                let (id, join) = room.waiting.remove(0);
                self.sit(id, code, join);
            } else if room.seats.iter().all(|seat| seat.probed.is_none()) {
                let (id, _) = room.waiting.remove(0);
                self.set_place(id, Place::Fresh);
                self.fault(id, ErrorCode::RoomFull, "both seats are taken");
            } else {
                return;
            }
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
                if past(seat.last_heard, limits.silence)
                    || seat.probed.is_some_and(|since| past(since, limits.probe))
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
        self.joins.retain(|_, bucket| !bucket.is_full(now));
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
                if let Some(room) = self.rooms.get_mut(&code) {
                    room.waiting.retain(|(waiting, _)| *waiting != id);
                }
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

/// What a message without SDP or candidate is taken to weigh, bytes.
const SMALL_MESSAGE_BYTES: usize = 256;
