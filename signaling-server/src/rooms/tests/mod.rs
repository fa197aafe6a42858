//! The rooms on virtual time.
#![allow(clippy::unwrap_used)]

mod full;
mod knocks;
mod limits;
mod locks;
mod meeting;
mod resuming;

use std::time::Duration;

use visavis_signaling_protocol::limits::{BACKLOG_MESSAGES, ROOM_SEATS, SILENCE_LIMIT};
use visavis_signaling_protocol::{IceCandidateInit, PROTOCOL_VERSION};

use super::*;

const LEAVE: ClientMessage = ClientMessage::Leave { may_return: false, gave_up: false };
const LEAVE_FOR_NOW: ClientMessage = ClientMessage::Leave { may_return: true, gave_up: false };

/// A server on a clock that the test moves.
struct Bench {
    rooms: Rooms,
    now: Instant,
    opened: u64,
}

/// What a client was told when it joined.
#[derive(Debug, Clone)]
struct Seated {
    connection: ConnectionId,
    peer_id: PeerId,
    peers: Vec<PeerInfo>,
    polite: bool,
    token: ResumeToken,
    resumed: bool,
    received: u64,
    locked: bool,
}

impl Bench {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        let now = Instant::now();
        Self { rooms: Rooms::new(now, limits, Box::new(|_, _| Vec::new())), now, opened: 0 }
    }

    /// Moves the clock in steps of a tick.
    fn pass(&mut self, time: Duration) -> Vec<Output> {
        let end = self.now + time;
        let mut outputs = Vec::new();
        while self.now < end {
            self.now = end.min(self.now + crate::hub::TICK);
            outputs.extend(self.handle(Input::Tick));
        }
        outputs
    }

    fn handle(&mut self, input: Input) -> Vec<Output> {
        self.rooms.handle(self.now, input);
        std::iter::from_fn(|| self.rooms.poll_output()).collect()
    }

    fn connect(&mut self) -> ConnectionId {
        self.connect_from("192.0.2.1")
    }

    fn connect_from(&mut self, address: &str) -> ConnectionId {
        let connection = ConnectionId(self.opened);
        self.opened += 1;
        let address = address.parse().unwrap();
        assert_eq!(self.handle(Input::Connected { connection, address, host: None }), []);
        connection
    }

    fn say(&mut self, connection: ConnectionId, message: ClientMessage) -> Vec<Output> {
        self.handle(Input::Message { connection, message: Ok(message), bytes: 100 })
    }

    fn ping(&mut self, connection: ConnectionId, received: Option<u64>) -> Vec<Output> {
        self.say(connection, ClientMessage::Ping { received })
    }

    fn disconnect(&mut self, connection: ConnectionId) -> Vec<Output> {
        self.handle(Input::Disconnected { connection })
    }

    /// Joins on a new connection; the outputs besides `joined`.
    fn join(&mut self, join: ClientMessage) -> (Seated, Vec<Output>) {
        let connection = self.connect();
        let mut outputs = self.say(connection, join);
        let at = outputs.iter().position(
            |o| matches!(o, Output::Send { message: ServerMessage::Joined { .. }, connection: c, .. } if *c == connection),
        );
        let joined = outputs.remove(at.unwrap_or_else(|| panic!("not joined: {outputs:?}")));
        (seated(joined), outputs)
    }

    /// Two peers of the room "abc-def", each with its session.
    fn pair(&mut self) -> (Seated, Seated) {
        let (a, _) = self.join(join("a", None));
        let (b, _) = self.join(join("b", None));
        (a, b)
    }
}

fn seated(output: Output) -> Seated {
    match output {
        Output::Send {
            connection,
            message:
                ServerMessage::Joined {
                    peer_id,
                    peers,
                    polite,
                    resume_token,
                    resumed,
                    received,
                    locked,
                    ..
                },
            ..
        } => Seated {
            connection,
            peer_id,
            peers,
            polite,
            token: resume_token,
            resumed,
            received: received.unwrap(),
            locked,
        },
        other => panic!("not `joined`: {other:?}"),
    }
}

fn session(name: &str) -> SessionId {
    SessionId::try_from(name.to_owned()).unwrap()
}

fn join_room(
    room: &str,
    name: &str,
    token: Option<&ResumeToken>,
    received: Option<u64>,
) -> ClientMessage {
    ClientMessage::Join {
        protocol_version: PROTOCOL_VERSION,
        room: room.parse().unwrap(),
        display_name: None,
        resume_token: token.cloned(),
        session: Some(session(name)),
        received,
    }
}

fn join(name: &str, token: Option<&ResumeToken>) -> ClientMessage {
    join_room("abc-def", name, token, None)
}

fn payload(text: &str) -> SignalPayload {
    SignalPayload::Candidate(IceCandidateInit {
        candidate: text.to_owned(),
        sdp_mid: None,
        sdp_m_line_index: None,
        username_fragment: None,
    })
}

fn signal(to: &Seated, text: &str) -> ClientMessage {
    ClientMessage::Signal { to: to.peer_id.clone(), session: None, payload: payload(text) }
}

/// What `to` hears, in short.
fn told(outputs: &[Output], to: &Seated) -> Vec<String> {
    outputs
        .iter()
        .filter_map(|output| match output {
            Output::Send { connection, message, .. } if *connection == to.connection => {
                Some(match message {
                    ServerMessage::Joined { .. } => "joined".into(),
                    ServerMessage::PeerJoined { peer } => {
                        format!("peer-joined {}", peer.session.as_str())
                    }
                    ServerMessage::PeerLeft { reason, .. } => format!("peer-left {reason:?}"),
                    ServerMessage::Signal { payload: SignalPayload::Candidate(c), .. } => {
                        c.candidate.clone()
                    }
                    ServerMessage::Signal { .. } => "description".into(),
                    ServerMessage::Error { code, .. } => code.as_str().into(),
                    ServerMessage::Lock { locked: true, .. } => "locked".into(),
                    ServerMessage::Lock { .. } => "open".into(),
                    ServerMessage::Knocking => "knocking".into(),
                    ServerMessage::Knock { display_name, .. } => {
                        format!("knock {}", display_name.as_deref().unwrap_or("?"))
                    }
                    ServerMessage::KnockGone { .. } => "knock-gone".into(),
                    ServerMessage::Pong { .. } => "pong".into(),
                })
            }
            Output::Probe { connection } if *connection == to.connection => Some("probe".into()),
            Output::Close { connection, .. } if *connection == to.connection => {
                Some("close".into())
            }
            _ => None,
        })
        .collect()
}

/// The codes of the errors that a connection was told, and whether it was closed.
fn refused(outputs: &[Output], connection: ConnectionId) -> (Vec<&'static str>, bool) {
    let codes = outputs.iter().filter_map(|output| match output {
        Output::Send { connection: c, message: ServerMessage::Error { code, .. }, .. }
            if *c == connection =>
        {
            Some(code.as_str())
        }
        _ => None,
    });
    let closed = outputs
        .iter()
        .any(|o| matches!(o, Output::Close { connection: c, .. } if *c == connection));
    (codes.collect(), closed)
}
