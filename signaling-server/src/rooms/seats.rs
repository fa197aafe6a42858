//! Who takes a seat, takes it back, waits for one and loses it.

use visavis_signaling_protocol::limits::{MAX_KNOCKS, ROOM_SEATS};
use visavis_signaling_protocol::{
    ErrorCode, LeaveReason, PeerId, ResumeToken, RoomCode, ServerMessage,
};

use super::backlog::Backlog;
use super::{Away, ConnectionId, FormerSeat, Join, Output, Place, Room, Rooms, Seat, Waiting};

/// Who may use the relay from now on, or no longer. Names are those of
/// [`MintIceServers`](super::MintIceServers).
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SeatChange {
    /// There is a seat behind this name.
    Taken(PeerId),
    /// There is none any more.
    Freed {
        /// The name.
        user: PeerId,
        /// Whether its client may still be in the call, and come back.
        may_return: bool,
    },
}

impl Rooms {
    pub(super) fn join(&mut self, id: ConnectionId, code: RoomCode, join: Join) {
        let now = self.now;
        let Some(address) = self.connections.get(&id).map(|c| c.address) else { return };
        let token = join.resume_token.as_ref();
        // Before all limits: whoever takes an own seat back takes nothing from anybody.
        if let Some(room) = self.rooms.get(&code) {
            if let Some(own) = room.seats.iter().position(|seat| token == Some(&seat.token)) {
                let resumes = room.seats[own].session == join.session;
                return self.take_back(id, &code, own, join, resumes);
            }
            // Whose `joined` was lost has no token. Who else knows the session has the seat beside it.
            let lost = |seat: &Seat| !seat.confirmed && seat.session == join.session;
            if let Some(own) = room.seats.iter().position(lost) {
                return self.take_back(id, &code, own, join, false);
            }
        }
        let own = |away: &Away| {
            token == Some(&away.token) || away.session.as_ref() == Some(&join.session)
        };
        let is_away = self.rooms.get(&code).is_some_and(|room| room.away.iter().any(own));
        let returns = is_away || token.is_some_and(|token| self.former.contains_key(token));
        if !returns && !self.joins.take(now, address, token.is_some()) {
            let text = "too many joins a minute from this address";
            return self.fault(id, ErrorCode::TooManyJoins, text);
        }
        if !self.seat_shares.has_room(address, self.limits.seats_per_address) {
            let text = "too many seats are taken from this address";
            return self.fault(id, ErrorCode::TooManyJoins, text);
        }
        if !self.rooms.contains_key(&code) {
            if self.rooms.len() >= self.limits.rooms {
                let text = "the server holds as many rooms as it may";
                return self.fault(id, ErrorCode::TooManyRooms, text);
            }
            if !self.room_shares.take(address, self.limits.rooms_per_address) {
                let text = "too many rooms were opened from this address";
                return self.fault(id, ErrorCode::TooManyRooms, text);
            }
        }
        let room = self
            .rooms
            .entry(code.clone())
            .or_insert_with(|| Room { opened_from: Some(address), ..Room::default() });
        if let Some(own) = room.away.iter().position(own) {
            let Away { peer_id, token, .. } = room.away.swap_remove(own);
            self.sit(id, &code, join, peer_id, token);
            return self.admit_waiting(&code);
        }
        if room.locked {
            let text = "the people inside have locked the room";
            return self.fault(id, ErrorCode::RoomLocked, text);
        }
        let held = |seat: &Seat| seat.connection.is_some();
        let is_full = room.seats.len() >= ROOM_SEATS;
        if !room.established && (!is_full || !room.seats.iter().all(held)) {
            return self.sit(id, &code, join, PeerId::random(), ResumeToken::random());
        }
        if room.established && room.waiting.len() >= MAX_KNOCKS {
            return self.fault(id, ErrorCode::RoomFull, "too many wait to be let in");
        }
        for seat in room.seats.iter_mut().filter(|seat| is_full && seat.probed.is_none()) {
            if let Some(connection) = seat.connection {
                seat.probed = Some(now);
                self.outputs.push_back(Output::Probe { connection });
            }
        }
        let peer_id = PeerId::random();
        room.waiting.push(Waiting { connection: id, join, peer_id, knocked: None });
        self.set_place(id, Place::Waiting(code.clone()));
        self.admit_waiting(&code);
    }

    /// Takes a free seat, or that of a ghost. The room exists and has one or the other.
    pub(super) fn sit(
        &mut self,
        id: ConnectionId,
        code: &RoomCode,
        join: Join,
        peer_id: PeerId,
        token: ResumeToken,
    ) {
        let Some(address) = self.connections.get(&id).map(|c| c.address) else { return };
        // Who waited in a full room may find that others from there were quicker.
        if !self.seat_shares.has_room(address, self.limits.seats_per_address) {
            let text = "too many seats are taken from this address";
            return self.fault(id, ErrorCode::TooManyJoins, text);
        }
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
        self.seat_shares.take(address, usize::MAX);
        let former = join.resume_token.as_ref().and_then(|token| self.former.remove(token));
        let mut relay_users = vec![peer_id.clone()];
        relay_users.extend(former.into_iter().flat_map(|former| former.relay_users));
        relay_users.dedup();
        relay_users.truncate(RELAY_USERS_MAX);
        self.seat_changes.extend(relay_users.iter().cloned().map(SeatChange::Taken));
        let seat = Seat {
            peer_id,
            taken_from: address,
            relay_users,
            token,
            session: join.session,
            display_name: join.display_name,
            // The roles of two must differ, whoever of them came first.
            polite: room.seats.first().is_some_and(|other| !other.polite),
            connection: Some(id),
            last_heard: self.now,
            probed: None,
            backlog: Backlog::counted_in(&self.kept),
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
        seat.probed = None;
        seat.display_name = join.display_name;
        seat.counts = join.received.is_some();
        if resumes {
            seat.backlog.resume(join.received);
        } else {
            seat.session = join.session;
            seat.confirmed = false;
            seat.backlog = Backlog::counted_in(&self.kept);
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
        self.admit_waiting(code);
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
        let knocks: Vec<_> = room.waiting.iter().filter_map(Waiting::knock).collect();
        self.send(connection, message);
        for knock in knocks {
            self.send(connection, knock);
        }
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

    pub(super) fn leave(&mut self, id: ConnectionId, reason: LeaveReason) {
        if matches!(self.connections.get(&id), Some(c) if matches!(c.place, Place::Waiting(_))) {
            self.outputs.push_back(Output::Close { connection: id, code: None });
            return self.drop_connection(id);
        }
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
    pub(super) fn leave_for_now(&mut self, id: ConnectionId) {
        let now = self.now;
        let Some(seat) = self.seat_mut(id) else {
            return self.fault(id, ErrorCode::NotJoined, "`join` comes first");
        };
        seat.left_at = Some(now);
        self.outputs.push_back(Output::Close { connection: id, code: None });
        self.drop_connection(id);
    }

    pub(super) fn lock(&mut self, id: ConnectionId, locked: bool) {
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
        if !room.established {
            room.away.clear();
        }
        let waiting: Vec<_> =
            room.waiting.iter().filter(|_| locked).map(|w| w.connection).collect();
        let seated: Vec<_> = room.seats.iter().filter_map(|seat| seat.connection).collect();
        for connection in seated {
            self.send(connection, message.clone());
        }
        for id in waiting {
            self.fault(id, ErrorCode::RoomLocked, "the people inside have locked the room");
        }
    }

    /// Removes a seat and tells the others; the room goes with its last seat.
    pub(super) fn free(&mut self, code: &RoomCode, peer_id: &PeerId, reason: LeaveReason) {
        let Some(room) = self.rooms.get_mut(code) else { return };
        let Some(seat) = room.seats.iter().position(|seat| seat.peer_id == *peer_id) else {
            return;
        };
        let seat = room.seats.remove(seat);
        self.seat_shares.give_back(seat.taken_from);
        let may_return = reason == LeaveReason::Timeout;
        self.seat_changes.extend(
            seat.relay_users.iter().cloned().map(|user| SeatChange::Freed { user, may_return }),
        );
        if may_return {
            let former = FormerSeat { relay_users: seat.relay_users, freed: self.now };
            self.former.insert(seat.token.clone(), former);
        }
        if (room.locked || room.established) && reason == LeaveReason::Timeout {
            room.away.push(Away { peer_id: seat.peer_id, token: seat.token, session: None });
        }
        if room.seats.is_empty() {
            // Whoever waits enters a new room.
            let waiting = std::mem::take(&mut room.waiting);
            *room = Room { waiting, opened_from: room.opened_from, ..Room::default() };
        }
        let left = ServerMessage::PeerLeft { peer_id: peer_id.clone(), reason };
        self.tell_others(code, peer_id, &left);
        self.drop_empty_room(code);
    }

    pub(super) fn drop_empty_room(&mut self, code: &RoomCode) {
        let empty = |room: &Room| room.seats.is_empty() && room.waiting.is_empty();
        if self.rooms.get(code).is_some_and(empty)
            && let Some(room) = self.rooms.remove(code)
            && let Some(address) = room.opened_from
        {
            self.room_shares.give_back(address);
        }
    }

    /// Seats whoever waits and now finds a free seat or a ghost; refuses the rest once every
    /// holder has answered. In an established room they knock instead.
    pub(super) fn admit_waiting(&mut self, code: &RoomCode) {
        while let Some(room) = self.rooms.get_mut(code)
            && !room.waiting.is_empty()
        {
            if room.established {
                return self.settle_knocks(code);
            }
            let held = room.seats.iter().filter(|seat| seat.connection.is_some()).count();
            if held < ROOM_SEATS {
                let Waiting { connection, join, peer_id, .. } = room.waiting.remove(0);
                self.sit(connection, code, join, peer_id, ResumeToken::random());
            } else if room.seats.iter().all(|seat| seat.probed.is_none()) {
                let id = room.waiting[0].connection;
                self.fault(id, ErrorCode::RoomFull, "both seats are taken");
            } else {
                return;
            }
        }
    }
}

/// Names under which one client may have relay credentials, the newest first. The oldest may be the
/// one that its call is relayed by; a call does not lose its signaling for so long so often.
const RELAY_USERS_MAX: usize = 64;
