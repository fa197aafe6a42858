//! The messages. Field names on the wire are camelCase; absent optional fields are left out.

use serde::{Deserialize, Deserializer, Serialize};

use crate::limits::MAX_DISPLAY_NAME_CHARS;
use crate::name::clean_name;
use crate::{PeerId, ProofMessage, ResumeToken, RoomCode, SessionId};

/// Client to server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum ClientMessage {
    /// Enters a room. First message of a connection.
    Join {
        /// [`crate::PROTOCOL_VERSION`].
        protocol_version: u32,
        /// The room.
        room: RoomCode,
        /// What the other side may show; cut by [`clean_display_name`](ServerMessage::clean_display_name).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        display_name: Option<String>,
        /// Takes an own seat back. An unknown token is no error: it joins as new.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resume_token: Option<ResumeToken>,
        /// This life of the client; the server makes one up where it is absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session: Option<SessionId>,
        /// How many numbered messages (`signal`, `peer-joined`, `peer-left`) this session has had
        /// from the server; present (0 at first) if the client counts. On a resume the server goes
        /// on after that one, so that nothing sent into a dying WebSocket is lost.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        received: Option<u64>,
    },
    /// Passes a payload to the other peer of the room.
    Signal {
        /// The receiver, a peer of the same room.
        to: PeerId,
        /// The life of the receiver that it is meant for; another one does not get it. It reaches
        /// whatever life there is if this is absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session: Option<SessionId>,
        /// What is passed.
        #[serde(flatten)]
        payload: SignalPayload,
    },
    /// Leaves the room on purpose; the seat is free at once.
    Leave {
        /// Nobody knows whether this is for good (a page that is closed or loaded anew): the seat
        /// waits for [`crate::limits::RETURN_LIMIT`] first.
        #[serde(default, skip_serializing_if = "is_false")]
        may_return: bool,
        /// Not a person's wish: there is no path to the other side, or none any more.
        #[serde(default, skip_serializing_if = "is_false")]
        gave_up: bool,
    },
    /// Locks the room, so that only who has a seat may come back, or opens it again.
    Lock {
        /// What it is to be.
        locked: bool,
    },
    /// Media flows between the two: from now on whoever has no token for this room has to knock.
    /// Said when the call connects, and again after each `joined` of a call that was connected.
    Connected {
        /// The remote peer's session. A server that was started anew keeps the seat for it.
        session: SessionId,
    },
    /// Answers a `knock`.
    Admit {
        /// Who knocked.
        peer_id: PeerId,
        /// Whether it may come in.
        admitted: bool,
    },
    /// Sent every [`crate::limits::PING_INTERVAL`]; answered by `pong`.
    Ping {
        /// As in `join`; lets the server forget what has arrived.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        received: Option<u64>,
    },
}

/// Server to client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum ServerMessage {
    /// The seat is taken.
    Joined {
        /// The client's own id.
        peer_id: PeerId,
        /// The others in the room (none or one).
        peers: Vec<PeerInfo>,
        /// Role in perfect negotiation (W3C WebRTC 1.0 §10.7).
        polite: bool,
        /// What to put into the peer connection's configuration; a client reads the
        /// [usable](IceServer::usable) ones.
        #[serde(deserialize_with = "crate::ice::usable")]
        ice_servers: Vec<IceServer>,
        /// For taking this seat back.
        resume_token: ResumeToken,
        /// Whether an own seat was taken back by the same session; what it missed follows.
        resumed: bool,
        /// How many `signal` messages the server has had from this session.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        received: Option<u64>,
        /// Whether the room is locked.
        #[serde(default, skip_serializing_if = "is_false")]
        locked: bool,
    },
    /// Somebody entered, or came back as another session.
    PeerJoined {
        /// Who.
        #[serde(flatten)]
        peer: PeerInfo,
    },
    /// Somebody's seat is free.
    PeerLeft {
        /// Who.
        peer_id: PeerId,
        /// Why.
        reason: LeaveReason,
    },
    /// A payload from the other peer.
    Signal {
        /// The sender.
        from: PeerId,
        /// The life of the sender that said it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session: Option<SessionId>,
        /// What is passed.
        #[serde(flatten)]
        payload: SignalPayload,
    },
    /// The room was locked or opened; also answers `lock`. Not numbered: after a resume `joined`
    /// says how it stands.
    Lock {
        /// What it is now.
        locked: bool,
        /// By whom.
        by: PeerId,
    },
    /// Answers the `join` of somebody who has to be let in by those inside; `joined` follows, or an
    /// error.
    Knocking,
    /// Somebody asks to be let in, to be answered by `admit`. Not numbered: after each `joined` the
    /// server tells all who knock at that time.
    Knock {
        /// Its seat, if it is let in.
        peer_id: PeerId,
        /// Its name, cleaned by the server.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        display_name: Option<String>,
    },
    /// Who knocked needs no answer any more: it went away, or somebody has answered.
    KnockGone {
        /// Who knocked.
        peer_id: PeerId,
    },
    /// Something was refused. Codes marked fatal are followed by the end of the connection.
    Error {
        /// Stable name of the fault.
        code: ErrorCode,
        /// For people who debug; English.
        message: String,
    },
    /// Answer to `ping`.
    Pong {
        /// As in `joined`; lets the client forget what has arrived.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        received: Option<u64>,
    },
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

impl ServerMessage {
    /// A name fit to be shown: [`clean_name`] with at most [`MAX_DISPLAY_NAME_CHARS`].
    pub fn clean_display_name(name: &str) -> Option<String> {
        clean_name(name, MAX_DISPLAY_NAME_CHARS)
    }
}

/// For every `display_name` that comes from a server: it is cleaned on receipt too.
fn cleaned<'de, D: Deserializer<'de>>(input: D) -> Result<Option<String>, D::Error> {
    let name = Option::<String>::deserialize(input)?;
    Ok(name.and_then(|name| ServerMessage::clean_display_name(&name)))
}

/// Another peer of the room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerInfo {
    /// Its seat.
    pub peer_id: PeerId,
    /// Its life; see [`SessionId`].
    pub session: SessionId,
    /// Its name, cleaned by the server and again when it is read.
    #[serde(default, deserialize_with = "cleaned", skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
}

/// What `signal` carries: one of the W3C dictionaries, or a proof alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "PayloadFields", into = "PayloadFields")]
pub enum SignalPayload {
    /// `RTCSessionDescriptionInit`, and the sender's proof beside it.
    Description(SessionDescription, Option<ProofMessage>),
    /// `RTCIceCandidateInit`.
    Candidate(IceCandidateInit),
    /// A proof without a description.
    Proof(ProofMessage),
}

/// [`SignalPayload`] as it stands on the wire.
#[derive(Serialize, Deserialize)]
struct PayloadFields {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    description: Option<SessionDescription>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    candidate: Option<IceCandidateInit>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    proof: Option<ProofMessage>,
}

impl TryFrom<PayloadFields> for SignalPayload {
    type Error = &'static str;

    fn try_from(fields: PayloadFields) -> Result<Self, Self::Error> {
        match fields {
            PayloadFields { description: Some(description), candidate: None, proof } => {
                Ok(Self::Description(description, proof))
            }
            PayloadFields { description: None, candidate: Some(candidate), proof: None } => {
                Ok(Self::Candidate(candidate))
            }
            PayloadFields { description: None, candidate: None, proof: Some(proof) } => {
                Ok(Self::Proof(proof))
            }
            _ => Err("a signal carries a description, a candidate or a proof"),
        }
    }
}

impl From<SignalPayload> for PayloadFields {
    fn from(payload: SignalPayload) -> Self {
        let (mut description, mut candidate, mut proof) = (None, None, None);
        match payload {
            SignalPayload::Description(of, beside) => (description, proof) = (Some(of), beside),
            SignalPayload::Candidate(of) => candidate = Some(of),
            SignalPayload::Proof(of) => proof = Some(of),
        }
        Self { description, candidate, proof }
    }
}

/// `RTCSessionDescriptionInit` (W3C WebRTC 1.0 §4.7.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionDescription {
    /// Offer or answer; rollback and pranswer are never sent.
    #[serde(rename = "type")]
    pub kind: SdpType,
    /// The SDP.
    pub sdp: String,
}

/// `RTCSdpType`, as far as it travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SdpType {
    /// An offer.
    Offer,
    /// An answer.
    Answer,
}

/// `RTCIceCandidateInit` (W3C WebRTC 1.0 §4.8.1). An empty `candidate` marks the end of candidates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IceCandidateInit {
    /// `candidate:…`, or empty.
    pub candidate: String,
    /// The m-line's `a=mid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sdp_mid: Option<String>,
    /// The m-line's index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sdp_m_line_index: Option<u16>,
    /// The ICE generation it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username_fragment: Option<String>,
}

/// `RTCIceServer` (W3C WebRTC 1.0 §4.2.2).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IceServer {
    /// `stun:`, `turn:` or `turns:` URLs.
    pub urls: Vec<String>,
    /// TURN user name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// TURN password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
}

/// Never shows the credential.
impl std::fmt::Debug for IceServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IceServer").field("urls", &self.urls).finish_non_exhaustive()
    }
}

/// Why a seat became free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeaveReason {
    /// The peer said `leave`: it hung up.
    Left,
    /// The peer said `leave` because it has no path to the other side.
    GaveUp,
    /// Nothing was heard from it for [`crate::limits::SILENCE_LIMIT`], or it did not come back.
    Timeout,
}

/// Stable names of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCode {
    /// Not JSON, or not a text frame. Fatal.
    BadJson,
    /// JSON, but no message of this protocol (unknown type, missing or wrong field). Fatal.
    BadMessage,
    /// Beyond [`crate::limits::MAX_MESSAGE_BYTES`]. Fatal.
    TooLarge,
    /// Too many messages a second. Fatal.
    RateLimited,
    /// Too many joins a minute, or too many seats, from this address. Fatal.
    TooManyJoins,
    /// `protocolVersion` is not spoken here. Fatal.
    UnsupportedVersion,
    /// `room` is not a room code. Fatal.
    BadRoomCode,
    /// Both seats are taken by living peers. Fatal.
    RoomFull,
    /// The people inside have locked the room. Fatal.
    RoomLocked,
    /// Those inside did not let this client in, or nobody answered. Fatal.
    RefusedEntry,
    /// The server holds as many rooms as it may, in all or from this address. Fatal.
    TooManyRooms,
    /// A message other than `join` or `ping` came first. Fatal.
    NotJoined,
    /// A second `join` on one connection. Fatal.
    AlreadyJoined,
    /// `to` is nobody in this room. Not fatal: the peer may just have left.
    NoSuchPeer,
    /// No `join` in time, or silence. Fatal.
    IdleTimeout,
    /// The same seat was taken back by a newer connection. Fatal; do not reconnect.
    Replaced,
    /// The server is going down; reconnect. Fatal.
    ServerShutdown,
}

impl ErrorCode {
    /// Every code.
    pub const ALL: [Self; 17] = [
        Self::BadJson,
        Self::BadMessage,
        Self::TooLarge,
        Self::RateLimited,
        Self::TooManyJoins,
        Self::UnsupportedVersion,
        Self::BadRoomCode,
        Self::RoomFull,
        Self::RoomLocked,
        Self::RefusedEntry,
        Self::TooManyRooms,
        Self::NotJoined,
        Self::AlreadyJoined,
        Self::NoSuchPeer,
        Self::IdleTimeout,
        Self::Replaced,
        Self::ServerShutdown,
    ];

    /// The code as it stands on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadJson => "bad-json",
            Self::BadMessage => "bad-message",
            Self::TooLarge => "too-large",
            Self::RateLimited => "rate-limited",
            Self::TooManyJoins => "too-many-joins",
            Self::UnsupportedVersion => "unsupported-version",
            Self::BadRoomCode => "bad-room-code",
            Self::RoomFull => "room-full",
            Self::RoomLocked => "room-locked",
            Self::RefusedEntry => "refused-entry",
            Self::TooManyRooms => "too-many-rooms",
            Self::NotJoined => "not-joined",
            Self::AlreadyJoined => "already-joined",
            Self::NoSuchPeer => "no-such-peer",
            Self::IdleTimeout => "idle-timeout",
            Self::Replaced => "replaced",
            Self::ServerShutdown => "server-shutdown",
        }
    }

    /// Whether the connection ends after it.
    pub fn is_fatal(self) -> bool {
        self != Self::NoSuchPeer
    }

    /// Whether a client should connect again after it.
    pub fn is_transient(self) -> bool {
        matches!(self, Self::IdleTimeout | Self::ServerShutdown | Self::RateLimited)
    }

    /// Whether a client that had a seat in the room before should connect again after it: the server
    /// is too busy, as when all who sit behind one address come back after its restart, and
    /// media may flow meanwhile.
    pub fn is_transient_for_members(self) -> bool {
        self.is_transient() || matches!(self, Self::TooManyJoins | Self::TooManyRooms)
    }
}
