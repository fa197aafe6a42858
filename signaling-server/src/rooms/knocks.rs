//! Established rooms: who knocks, who is told of it, and what becomes of the answer.

use visavis_signaling_protocol::limits::{KNOCK_BURST, KNOCK_INTERVAL, KNOCK_LIMIT, ROOM_SEATS};
use visavis_signaling_protocol::{
    ErrorCode, LeaveReason, PeerId, ResumeToken, RoomCode, ServerMessage, SessionId,
};

use super::{Away, ConnectionId, Place, Room, Rooms, Seat, Waiting};
use crate::limits::{Bucket, address_key};

/// Addresses whose knocks one room remembers; while there are more, nobody else may knock.
pub(super) const MAX_ADDRESSES: usize = 64;

impl Waiting {
    /// What those inside are told, if they are.
    pub(super) fn knock(&self) -> Option<ServerMessage> {
        self.knocked.map(|_| ServerMessage::Knock {
            peer_id: self.peer_id.clone(),
            display_name: self.join.display_name.clone(),
        })
    }
}

impl Rooms {
    /// A peer says that media flows between it and the remote peer of that session.
    pub(super) fn establish(&mut self, id: ConnectionId, session: &SessionId) {
        let Some((code, own)) = self.place_of(id) else {
            return self.fault(id, ErrorCode::NotJoined, "`join` comes first");
        };
        let Some(room) = self.rooms.get_mut(&code) else { return };
        match room.seats.iter().find(|seat| seat.peer_id != own) {
            // Of a session that is over.
            Some(other) if other.session != *session => return,
            Some(_) => {}
            None if room.seats.len() + room.away.len() < ROOM_SEATS => room.away.push(Away {
                peer_id: PeerId::random(),
                token: ResumeToken::random(),
                session: Some(session.clone()),
            }),
            None => {}
        }
        room.established = true;
        self.admit_waiting(&code);
    }

    /// Somebody inside answers a knock.
    pub(super) fn admit(&mut self, id: ConnectionId, who: &PeerId, admitted: bool) {
        let Some((code, own)) = self.place_of(id) else {
            return self.fault(id, ErrorCode::NotJoined, "`join` comes first");
        };
        let knocker = self.rooms.get(&code).and_then(|room| {
            room.waiting.iter().find(|w| w.peer_id == *who && w.knocked.is_some())
        });
        let Some(knocker) = knocker.map(|waiting| waiting.connection) else {
            return self.error(id, ErrorCode::NoSuchPeer, "nobody of that id knocks");
        };
        if !admitted {
            let now = self.now;
            if let Some(bucket) = self.knocks_of(&code, knocker) {
                bucket.drain(now);
            }
            return self.fault(knocker, ErrorCode::RefusedEntry, "you were not let in");
        }
        let Some(Waiting { join, peer_id, .. }) = self.stop_waiting(&code, knocker) else { return };
        // As somebody could knock, the other seat is free, or its holder is gone or silent.
        let other = self.rooms.get(&code).and_then(|room| {
            let other = room.seats.iter().find(|seat| seat.peer_id != own)?;
            Some((other.peer_id.clone(), other.connection))
        });
        if let Some((other, connection)) = other {
            self.free(&code, &other, LeaveReason::Timeout);
            if let Some(connection) = connection {
                self.fault(connection, ErrorCode::IdleTimeout, "nothing was heard in time");
            }
        }
        if let Some(room) = self.rooms.get_mut(&code) {
            room.away.clear();
        }
        self.sit(knocker, &code, join, peer_id, ResumeToken::random());
        self.admit_waiting(&code);
    }

    /// Those who wait for a room that is established: they knock once somebody is missing in it, and
    /// find it full when nobody is.
    pub(super) fn settle_knocks(&mut self, code: &RoomCode) {
        let (now, limit) = (self.now, self.limits.probe);
        let Some(room) = self.rooms.get(code) else { return };
        let silent = |seat: &Seat| {
            let since = |since| now.saturating_duration_since(since) >= limit;
            seat.connection.is_none() || seat.probed.is_some_and(since)
        };
        let is_full = room.seats.len() >= ROOM_SEATS && !room.seats.iter().any(silent);
        if is_full && room.seats.iter().any(|seat| seat.probed.is_some()) {
            return;
        }
        let waiting: Vec<_> = room
            .waiting
            .iter()
            .filter(|waiting| is_full || waiting.knocked.is_none())
            .map(|waiting| waiting.connection)
            .collect();
        for connection in waiting {
            if is_full {
                self.fault(connection, ErrorCode::RoomFull, "both seats are taken");
            } else {
                self.knock(code, connection);
            }
        }
    }

    fn knock(&mut self, code: &RoomCode, id: ConnectionId) {
        let now = self.now;
        if !self.knocks_of(code, id).is_some_and(|knocks| knocks.take(now)) {
            return self.fault(id, ErrorCode::RefusedEntry, "too many knocks from this address");
        }
        let Some(room) = self.rooms.get_mut(code) else { return };
        let waiting = room.waiting.iter_mut().find(|waiting| waiting.connection == id);
        let Some(waiting) = waiting else { return };
        waiting.knocked = Some(now);
        let knock = waiting.knock();
        self.send(id, ServerMessage::Knocking);
        if let Some(knock) = knock {
            self.tell_held(code, &knock);
        }
    }

    /// How often somebody at the address of a connection may knock; `None` if too many addresses do.
    fn knocks_of(&mut self, code: &RoomCode, id: ConnectionId) -> Option<&mut Bucket> {
        let now = self.now;
        let address = address_key(self.connections.get(&id)?.address);
        let knocks = &mut self.rooms.get_mut(code)?.knocks;
        if knocks.len() >= MAX_ADDRESSES && !knocks.contains_key(&address) {
            return None;
        }
        let new = || Bucket::new(now, KNOCK_BURST.into(), KNOCK_INTERVAL.as_secs_f64().recip());
        Some(knocks.entry(address).or_insert_with(new))
    }

    /// Takes somebody off the list of those who wait, and tells those inside.
    pub(super) fn stop_waiting(&mut self, code: &RoomCode, id: ConnectionId) -> Option<Waiting> {
        let room = self.rooms.get_mut(code)?;
        let at = room.waiting.iter().position(|waiting| waiting.connection == id)?;
        let waiting = room.waiting.remove(at);
        if waiting.knocked.is_some() {
            self.tell_held(code, &ServerMessage::KnockGone { peer_id: waiting.peer_id.clone() });
        }
        Some(waiting)
    }

    pub(super) fn tick_knocks(&mut self) {
        let now = self.now;
        let mut late = Vec::new();
        let mut waited_for = Vec::new();
        for (code, room) in self.rooms.iter_mut().filter(|(_, room)| room.established) {
            room.knocks.retain(|_, bucket| !bucket.is_full(now));
            let past = |since| now.saturating_duration_since(since) >= KNOCK_LIMIT;
            let unanswered = |waiting: &&Waiting| waiting.knocked.is_some_and(past);
            late.extend(room.waiting.iter().filter(unanswered).map(|waiting| waiting.connection));
            if !room.waiting.is_empty() {
                waited_for.push(code.clone());
            }
        }
        for id in late {
            self.fault(id, ErrorCode::RefusedEntry, "nobody answered in time");
        }
        for code in waited_for {
            self.admit_waiting(&code);
        }
    }

    /// Says something that is not numbered to every seat that has a WebSocket.
    fn tell_held(&mut self, code: &RoomCode, message: &ServerMessage) {
        let seats = self.rooms.get(code).map(|room: &Room| &room.seats);
        let held: Vec<_> = seats.into_iter().flatten().filter_map(|seat| seat.connection).collect();
        for connection in held {
            self.send(connection, message.clone());
        }
    }

    /// The room of a connection that holds a seat, and the seat.
    fn place_of(&mut self, id: ConnectionId) -> Option<(RoomCode, PeerId)> {
        let own = self.seat_mut(id)?.peer_id.clone();
        let Place::Seated(code) = &self.connections.get(&id)?.place else { return None };
        Some((code.clone(), own))
    }
}
