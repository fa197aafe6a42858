//! The server and the signaling clients: seats, resuming, and counting, so that a WebSocket that
//! breaks loses nothing (docs/protocol.md, "Seats, sessions and resuming").

use std::collections::VecDeque;
use std::time::Duration;

use visavis_call::{CallState, Input, Knock};
use visavis_signaling_protocol::{
    ErrorCode, LeaveReason, PeerId, PeerInfo, SessionId, SignalPayload,
};

use super::{Event, WIRE_DELAY, World, ms};

/// One client's WebSocket, and what it counts.
#[derive(Debug, Default)]
pub(crate) struct Link {
    /// Counts WebSockets; what a former one carried is lost.
    number: u32,
    /// Whether it was opened, and whether `joined` came over it.
    asked: bool,
    joined: bool,
    /// Whether `joined` was had in this session.
    known: bool,
    /// No WebSocket can be opened until then.
    down_until: Duration,
    /// The seat last had.
    seat: Option<u32>,
    received: u64,
    /// Signals that the server has not had, with the number of the first; the last `unsent` of them
    /// were never on the wire.
    outbox: VecDeque<(PeerId, SessionId, SignalPayload)>,
    first: u64,
    unsent: usize,
    left: bool,
}

#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "most of them are signals")]
pub(crate) enum ToServer {
    Join { seat: Option<u32>, session: SessionId, received: u64 },
    Signal { number: u64, to: PeerId, session: SessionId, payload: SignalPayload },
    Lock(bool),
    Connected(SessionId),
    Admit(PeerId, bool),
    Leave { gave_up: bool },
}

#[derive(Debug, Clone)]
pub(crate) enum ToClient {
    Joined {
        seat: u32,
        peers: Vec<PeerInfo>,
        polite: bool,
        resumed: bool,
        received: u64,
        locked: bool,
    },
    Numbered {
        number: u64,
        message: Input,
    },
    /// What is not numbered.
    Told(Input),
}

#[derive(Debug, Default)]
pub(crate) struct Server {
    down_until: Duration,
    seats: Vec<Seat>,
    locked: bool,
    /// Media has flowed: nobody new comes in unasked.
    established: bool,
    /// Seats that fell silent while the room was locked or established, and the session that takes
    /// them like the token.
    away: Vec<(u32, Option<SessionId>)>,
    knockers: Vec<Knocker>,
    /// The seats that strangers would have had.
    pub(crate) strangers: Vec<PeerId>,
}

/// Who waits to be let in.
#[derive(Debug)]
pub(crate) struct Knocker {
    pub(crate) number: u32,
    /// `None`: a stranger.
    side: Option<(usize, u32)>,
    session: SessionId,
}

fn seat_id(number: u32) -> PeerId {
    PeerId::try_from(format!("seat-{number}")).unwrap()
}

/// Whether that is a stranger's session.
pub(crate) fn is_stranger(session: &SessionId) -> bool {
    session.as_str() == "stranger"
}

#[derive(Debug)]
struct Seat {
    /// Names the seat; also its token.
    number: u32,
    side: usize,
    session: SessionId,
    polite: bool,
    /// The WebSocket.
    link: Option<u32>,
    /// When it joined, and whether it has said something since.
    since: Duration,
    confirmed: bool,
    /// Since when nothing was heard.
    silent_since: Option<Duration>,
    /// Signals had in this session.
    received: u64,
    /// Messages sent in this session and not known to have arrived, with the number of the first.
    backlog: VecDeque<Input>,
    first: u64,
}

impl Seat {
    fn id(&self) -> PeerId {
        seat_id(self.number)
    }

    fn info(&self) -> PeerInfo {
        PeerInfo { peer_id: self.id(), session: self.session.clone(), display_name: None }
    }
}

impl Server {
    pub(crate) fn peer_id(&self, side: usize) -> Option<PeerId> {
        self.seats.iter().find(|seat| seat.side == side).map(Seat::id)
    }
}

/// Silence after which a seat is free.
const SILENCE: Duration = Duration::from_secs(12);
/// A client says `ping` so often.
const PING: Duration = Duration::from_secs(4);
/// Between two attempts at a WebSocket.
const RETRY: Duration = Duration::from_millis(700);

impl World {
    fn open(&self, side: usize) -> bool {
        let link = &self.sides[side].link;
        self.now >= link.down_until && self.now >= self.server.down_until && !link.left
    }

    pub(crate) fn connect(&mut self, side: usize, number: u32) {
        if self.sides[side].link.number != number || self.sides[side].link.left {
            return;
        }
        if !self.open(side) {
            return self.at(self.now + RETRY, Event::Connect(side, number));
        }
        self.sides[side].link.asked = true;
        let own = &self.sides[side];
        let join = ToServer::Join {
            seat: own.link.seat,
            session: own.session.session_id().clone(),
            received: own.link.received,
        };
        self.at(self.now + WIRE_DELAY, Event::ToServer(side, number, join));
    }

    /// The WebSocket is gone; another one follows.
    fn lose_link(&mut self, side: usize) {
        let link = &mut self.sides[side].link;
        link.number += 1;
        (link.asked, link.joined) = (false, false);
        let number = link.number;
        self.falls_silent(side, true);
        self.stop_knocking(|knocker| knocker.side.is_some_and(|(of, _)| of == side));
        let jitter = ms(self.random(200));
        self.at(self.now + jitter, Event::Connect(side, number));
    }

    pub(crate) fn break_link(&mut self, side: usize, time: Duration) {
        let until = self.now + time;
        let link = &mut self.sides[side].link;
        link.down_until = link.down_until.max(until);
        self.lose_link(side);
    }

    pub(crate) fn restart_server(&mut self, time: Duration) {
        self.server.down_until = self.server.down_until.max(self.now + time);
        self.server.seats.clear();
        self.empty_room();
        self.lose_link(0);
        self.lose_link(1);
    }

    /// The server hears nothing of a side: its WebSocket is `gone`, or it sleeps.
    pub(crate) fn falls_silent(&mut self, side: usize, gone: bool) {
        let Some(seat) = self.server.seats.iter_mut().find(|s| s.side == side) else { return };
        if gone {
            seat.link = None;
        }
        if seat.silent_since.is_none() {
            seat.silent_since = Some(self.now);
            let seat = seat.number;
            self.at(self.now + SILENCE, Event::Silence(side, seat));
        }
    }

    pub(crate) fn wakes(&mut self, side: usize) {
        let link = &self.sides[side].link;
        let (number, asked) = (link.number, link.asked);
        let seat = self.server.seats.iter_mut().find(|s| s.side == side && s.link == Some(number));
        match seat {
            Some(seat) => seat.silent_since = None,
            None if asked => self.lose_link(side),
            None => {}
        }
    }

    /// Another life, with the token of the old one.
    pub(crate) fn renews(&mut self, side: usize) {
        let link = &mut self.sides[side].link;
        (link.received, link.first, link.unsent) = (0, 0, 0);
        link.known = false;
        link.outbox.clear();
        self.lose_link(side);
    }

    pub(crate) fn silence(&mut self, side: usize, number: u32) {
        let Some(seat) = self.server.seats.iter().find(|s| s.number == number) else { return };
        let Some(since) = seat.silent_since else { return };
        if self.now >= since + SILENCE {
            self.free(number, LeaveReason::Timeout);
        } else {
            self.at(since + SILENCE, Event::Silence(side, number));
        }
    }

    fn free(&mut self, number: u32, reason: LeaveReason) {
        let Some(index) = self.server.seats.iter().position(|s| s.number == number) else { return };
        let seat = self.server.seats.remove(index);
        if (self.server.locked || self.server.established) && reason == LeaveReason::Timeout {
            self.server.away.push((number, None));
        }
        if self.server.seats.is_empty() {
            self.empty_room();
        }
        self.tell_others(number, &Input::PeerLeft { peer_id: seat.id(), reason });
    }

    /// Whoever knocks then enters as into a new room.
    fn empty_room(&mut self) {
        self.server.locked = false;
        self.server.established = false;
        self.server.away.clear();
        for Knocker { number, side, session } in std::mem::take(&mut self.server.knockers) {
            if let Some((side, link)) = side {
                self.sit(side, link, number, session);
            }
        }
    }

    fn sit(&mut self, side: usize, link: u32, number: u32, session: SessionId) {
        let polite = self.server.seats.first().is_some_and(|other| !other.polite);
        self.server.seats.push(Seat {
            number,
            side,
            session,
            polite,
            link: Some(link),
            since: self.now,
            confirmed: false,
            silent_since: None,
            received: 0,
            backlog: VecDeque::new(),
            first: 0,
        });
        self.tell_joined(self.server.seats.len() - 1, link, false, true);
    }

    /// Says something that is not numbered to all seats.
    fn tell_seats(&mut self, message: &Input) {
        let links: Vec<_> =
            self.server.seats.iter().filter_map(|s| Some((s.side, s.link?))).collect();
        for (side, link) in links {
            let told = ToClient::Told(message.clone());
            self.at(self.now + WIRE_DELAY, Event::ToClient(side, link, told));
        }
    }

    pub(crate) fn stop_knocking(&mut self, who: impl Fn(&Knocker) -> bool) {
        let gone: Vec<_> =
            self.server.knockers.iter().filter(|k| who(k)).map(|k| seat_id(k.number)).collect();
        self.server.knockers.retain(|knocker| !who(knocker));
        for peer_id in gone {
            self.tell_seats(&Input::KnockGone { peer_id });
        }
    }

    fn knock(&mut self, side: Option<(usize, u32)>, session: SessionId) -> u32 {
        let number = self.unique();
        self.server.knockers.push(Knocker { number, side, session });
        if let Some((side, link)) = side {
            let told = ToClient::Told(Input::Knocking);
            self.at(self.now + WIRE_DELAY, Event::ToClient(side, link, told));
        }
        self.tell_seats(&Input::Knock(Knock { peer_id: seat_id(number), display_name: None }));
        number
    }

    /// Before media flows, and into a server that was just started anew, a stranger comes in like
    /// anybody else; that is not what is looked at here.
    pub(crate) fn stranger(&mut self, time: Duration) {
        let missing = self.server.seats.len() < 2
            || self.server.seats.iter().any(|s| s.link.is_none() || s.silent_since.is_some());
        let is_up = self.now >= self.server.down_until;
        if is_up && self.server.established && missing && !self.server.locked {
            let number = self.knock(None, SessionId::try_from("stranger".to_owned()).unwrap());
            self.server.strangers.push(seat_id(number));
            self.at(self.now + time, Event::StrangerGoes(number));
        }
    }

    fn tell_others(&mut self, about: u32, message: &Input) {
        let others: Vec<u32> =
            self.server.seats.iter().map(|s| s.number).filter(|n| *n != about).collect();
        for other in others {
            self.deliver(other, message.clone());
        }
    }

    fn deliver(&mut self, seat: u32, message: Input) {
        let Some(seat) = self.server.seats.iter_mut().find(|s| s.number == seat) else { return };
        seat.backlog.push_back(message.clone());
        let number = seat.first + seat.backlog.len() as u64 - 1;
        if let Some(link) = seat.link {
            let side = seat.side;
            let message = ToClient::Numbered { number, message };
            self.at(self.now + WIRE_DELAY, Event::ToClient(side, link, message));
        }
    }

    pub(crate) fn send(
        &mut self,
        side: usize,
        to: PeerId,
        session: SessionId,
        payload: SignalPayload,
    ) {
        let link = &mut self.sides[side].link;
        link.outbox.push_back((to, session, payload));
        link.unsent += 1;
        if link.joined {
            self.transmit(side);
        }
    }

    fn transmit(&mut self, side: usize) {
        let link = &mut self.sides[side].link;
        let from = link.outbox.len() - std::mem::take(&mut link.unsent);
        let (first, socket) = (link.first + from as u64, link.number);
        let signals: Vec<_> = link.outbox.iter().skip(from).cloned().collect();
        for (number, (to, session, payload)) in (first..).zip(signals) {
            let signal = ToServer::Signal { number, to, session, payload };
            self.at(self.now + WIRE_DELAY, Event::ToServer(side, socket, signal));
        }
    }

    /// What is lost with its WebSocket.
    pub(crate) fn tell_server(&mut self, side: usize, message: ToServer) {
        let link = &self.sides[side].link;
        if link.joined {
            let number = link.number;
            self.at(self.now + WIRE_DELAY, Event::ToServer(side, number, message));
        }
    }

    pub(crate) fn leave_room(&mut self, side: usize, gave_up: bool) {
        let link = self.sides[side].link.number;
        let reaches = self.open(side);
        self.sides[side].link.left = true;
        if !reaches {
            return;
        }
        self.at(self.now + WIRE_DELAY, Event::ToServer(side, link, ToServer::Leave { gave_up }));
    }

    pub(crate) fn arrives_at_server(&mut self, side: usize, link: u32, message: ToServer) {
        if self.now < self.server.down_until || self.sides[side].link.number != link {
            return;
        }
        let seat = self.server.seats.iter_mut().find(|s| s.side == side && s.link == Some(link));
        if let Some(seat) = seat {
            seat.confirmed = true;
        }
        match message {
            ToServer::Join { seat, session, received } => {
                self.join(side, link, seat, session, received);
            }
            ToServer::Leave { gave_up } => {
                let reason = if gave_up { LeaveReason::GaveUp } else { LeaveReason::Left };
                self.stop_knocking(|knocker| knocker.side == Some((side, link)));
                if let Some(seat) = self.server.seats.iter().find(|s| s.side == side) {
                    self.free(seat.number, reason);
                }
            }
            ToServer::Lock(locked) => {
                if !self.server.seats.iter().any(|s| s.link == Some(link) && s.side == side) {
                    return;
                }
                self.server.locked = locked;
                if !self.server.established {
                    self.server.away.clear();
                }
                self.tell_seats(&Input::Locked(locked));
            }
            ToServer::Connected(session) => {
                let seats = &self.server.seats;
                if !seats.iter().any(|s| s.link == Some(link) && s.side == side) {
                    return;
                }
                match seats.iter().find(|s| s.side != side) {
                    Some(other) if other.session != session => return,
                    Some(_) => {}
                    None if self.server.away.is_empty() => {
                        let number = self.unique();
                        self.server.away.push((number, Some(session)));
                    }
                    None => {}
                }
                self.server.established = true;
            }
            ToServer::Admit(peer_id, admitted) => {
                let at = self.server.knockers.iter().position(|k| seat_id(k.number) == peer_id);
                let own = self.server.seats.iter().any(|s| s.link == Some(link) && s.side == side);
                let Some(at) = at.filter(|_| own) else { return };
                let Knocker { number, side: whose, session } = self.server.knockers.remove(at);
                self.tell_seats(&Input::KnockGone { peer_id });
                let Some((other, link)) = whose.filter(|_| admitted) else { return };
                while let Some(seat) = self.server.seats.iter().find(|s| s.side != side) {
                    self.free(seat.number, LeaveReason::Timeout);
                }
                self.server.away.clear();
                self.sit(other, link, number, session);
            }
            ToServer::Signal { number, to, session, payload } => {
                let Some(seat) =
                    self.server.seats.iter_mut().find(|s| s.link == Some(link) && s.side == side)
                else {
                    return;
                };
                if number != seat.received {
                    return;
                }
                seat.received += 1;
                let (from, own) = (seat.id(), seat.session.clone());
                let receiver = self.server.seats.iter().find(|s| s.id() == to && s.side != side);
                let Some(receiver) = receiver else { return };
                if session != receiver.session {
                    return;
                }
                let receiver = receiver.number;
                let message = Input::Signal { from, session: Some(own), payload };
                for delay in self.arrivals() {
                    if delay == WIRE_DELAY {
                        self.deliver(receiver, message.clone());
                    } else {
                        // Out of its order: as if it had no number.
                        let late =
                            ToClient::Numbered { number: u64::MAX, message: message.clone() };
                        let link = self.sides[1 - side].link.number;
                        self.at(self.now + delay, Event::ToClient(1 - side, link, late));
                    }
                }
            }
        }
    }

    fn join(
        &mut self,
        side: usize,
        link: u32,
        token: Option<u32>,
        session: SessionId,
        received: u64,
    ) {
        let now = self.now;
        let own = self.server.seats.iter().position(|s| {
            let pinged = s.silent_since.unwrap_or(now).saturating_sub(s.since) >= PING;
            token == Some(s.number) || (!s.confirmed && !pinged && s.session == session)
        });
        let mut news = true;
        let (index, resumed) = match own {
            Some(index) => {
                let seat = &mut self.server.seats[index];
                seat.link = Some(link);
                seat.silent_since = None;
                let resumed = seat.session == session && token == Some(seat.number);
                if resumed {
                    while seat.first < received && seat.backlog.pop_front().is_some() {
                        seat.first += 1;
                    }
                } else {
                    news = seat.session != session;
                    seat.session = session;
                    (seat.since, seat.confirmed) = (now, false);
                    seat.backlog.clear();
                    (seat.first, seat.received) = (0, 0);
                }
                (index, resumed)
            }
            None => {
                let is_own = |(number, name): &&(u32, Option<SessionId>)| {
                    Some(*number) == token || name.as_ref() == Some(&session)
                };
                let away = self.server.away.iter().find(is_own).map(|(number, _)| *number);
                self.server.away.retain(|(number, _)| Some(*number) != away);
                if away.is_none() && self.server.locked {
                    let told = ToClient::Told(Input::Refused(ErrorCode::RoomLocked));
                    self.at(self.now + WIRE_DELAY, Event::ToClient(side, link, told));
                    return;
                }
                if away.is_none() && self.server.established {
                    self.knock(Some((side, link)), session);
                    return;
                }
                // A ghost of this side, if there is one, is in the way.
                while let Some(ghost) = self.server.seats.iter().find(|s| s.side == side) {
                    self.free(ghost.number, LeaveReason::Timeout);
                }
                let number = away.unwrap_or_else(|| self.unique());
                self.sit(side, link, number, session);
                return self.stop_strangers();
            }
        };
        self.tell_joined(index, link, resumed, news);
        self.stop_strangers();
    }

    /// Both are there: strangers find the room full.
    fn stop_strangers(&mut self) {
        if self.server.seats.len() == 2 && self.server.seats.iter().all(|s| s.link.is_some()) {
            self.stop_knocking(|knocker| knocker.side.is_none());
        }
    }

    fn tell_joined(&mut self, index: usize, link: u32, resumed: bool, news: bool) {
        let side = self.server.seats[index].side;
        let locked = self.server.locked;
        let seat = &self.server.seats[index];
        let (number, polite, info) = (seat.number, seat.polite, seat.info());
        let peers = self.server.seats.iter().filter(|s| s.side != side).map(Seat::info).collect();
        let joined = ToClient::Joined {
            seat: number,
            peers,
            polite,
            resumed,
            received: seat.received,
            locked,
        };
        let (first, replay) = (seat.first, seat.backlog.clone());
        let at = self.now + WIRE_DELAY;
        self.at(at, Event::ToClient(side, link, joined));
        let knockers: Vec<_> = self.server.knockers.iter().map(|k| seat_id(k.number)).collect();
        for peer_id in knockers {
            let knock = Input::Knock(Knock { peer_id, display_name: None });
            self.at(at, Event::ToClient(side, link, ToClient::Told(knock)));
        }
        if resumed {
            for (number, message) in (first..).zip(replay) {
                self.at(at, Event::ToClient(side, link, ToClient::Numbered { number, message }));
            }
        } else if news {
            self.tell_others(number, &Input::PeerJoined(info));
        }
    }

    pub(crate) fn arrives_at_client(&mut self, side: usize, link: u32, message: ToClient) {
        let own = &mut self.sides[side].link;
        if own.number != link || own.left {
            return;
        }
        match message {
            ToClient::Joined { seat, peers, polite, resumed, received, locked } => {
                own.joined = true;
                own.seat = Some(seat);
                if resumed {
                    while own.first < received && own.outbox.pop_front().is_some() {
                        own.first += 1;
                    }
                    own.unsent = own.unsent.min(own.outbox.len());
                } else {
                    (own.received, own.first) = (0, 0);
                    let sent = own.outbox.len() - own.unsent;
                    own.outbox.drain(..sent);
                }
                own.unsent = own.outbox.len();
                let resumed = std::mem::replace(&mut own.known, true) && resumed;
                self.transmit(side);
                self.input(side, Input::Joined { peers, polite, resumed, locked });
            }
            ToClient::Told(message) => self.input(side, message),
            ToClient::Numbered { number, message } => {
                if number == own.received {
                    own.received += 1;
                } else if number != u64::MAX {
                    return;
                }
                if !matches!(self.sides[side].session.state(), CallState::Ended(_)) {
                    self.input(side, message);
                }
            }
        }
    }
}
