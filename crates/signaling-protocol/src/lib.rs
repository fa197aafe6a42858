//! Wire vocabulary of the Visavis signaling channel: messages, room codes, peer ids and limits.
//!
//! One JSON object per WebSocket text frame; `"type"` names it. `docs/protocol.md` specifies the
//! exchange, `fixtures/` holds one golden file per message, checked here and against the page's
//! JavaScript. Plain data: no thread, no clock, no socket.

mod control;
mod ice;
mod id;
pub mod limits;
mod message;
mod name;
mod parse;
mod proof;
mod room;

pub use control::ControlMessage;
pub use id::{IdError, PeerId, ResumeToken, SessionId};
pub use message::{
    ClientMessage, ErrorCode, IceCandidateInit, IceServer, LeaveReason, PeerInfo, SdpType,
    ServerMessage, SessionDescription, SignalPayload,
};
pub use name::clean_name;
pub use parse::ParseError;
pub use proof::{Bytes32, Bytes32Error, KeyShare, ProofFailure, ProofMessage};
pub use room::{CallCode, CallCodeError, RoomCode, RoomCodeError, Secret};

/// Version of the protocol spoken by this crate, sent in `join`.
pub const PROTOCOL_VERSION: u32 = 2;
