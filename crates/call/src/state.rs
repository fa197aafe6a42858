//! Where a call stands, and why calls end.

use visavis_signaling_protocol::{ErrorCode, ProofFailure};

/// Where a call stands.
///
/// ```text
///    ┌──► Knocking ──► (let in: joined; refused: Ended)
///    │       joined, alone            somebody enters
/// Joining ────────────────► Waiting ───────────────────┐
///    │                        ▲                        ▼
///    │ joined, somebody there │ the other left    Connecting
///    └────────────────────────┼──────────────────────► │
///                             └────────────────────────┤ path, keys, proof
///                                                      ▼
///                     Reconnecting ◄───────────── Connected
///                          └───────────────────────────►
/// any state ──► Ended
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallState {
    /// Reaching the server. Next: `Knocking`, `Waiting`, `Connecting`, `Ended`.
    Joining,
    /// Those inside are asked whether we may come in. Next: `Waiting`, `Connecting`, `Ended`.
    Knocking,
    /// Alone in the room. Next: `Connecting`, `Ended`.
    Waiting,
    /// Both are in the room; there is no path yet, or no proof of who the remote peer is. Next: `Connected`, `Waiting`, `Ended`.
    Connecting,
    /// Media flows. Next: `Reconnecting`, `Ended`.
    Connected,
    /// Media flowed and stopped, or the other side returned as another session. Next: `Connected`,
    /// `Ended`.
    Reconnecting,
    /// Over. Final.
    Ended(CallEndReason),
}

/// Why a call ended. `code()` is stable; [`std::fmt::Display`] is a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallEndReason {
    /// We hung up.
    LocalHangup,
    /// The other side hung up.
    RemoteHangup,
    /// The other side vanished and did not come back in time.
    RemoteLost,
    /// The server refused us.
    Refused(ErrorCode),
    /// The server could not be reached.
    ServerUnreachable(String),
    /// No path between the two was found.
    ConnectionFailed,
    /// The path was lost, and no other was found.
    ConnectionLost,
    /// The other side's descriptions could not be used.
    Incompatible(String),
    /// It was not shown that the remote peer knows our secret and that nobody sits in between. No audio,
    /// video or text left this side.
    NotProven(ProofFailure),
    /// A fault of our own.
    Internal(String),
}

impl CallEndReason {
    /// Stable name, as in the headless peer's `end_reason`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::LocalHangup => "local-hangup",
            Self::RemoteHangup => "remote-hangup",
            Self::RemoteLost => "remote-lost",
            Self::Refused(ErrorCode::RoomFull) => "room-full",
            Self::Refused(ErrorCode::RoomLocked) => "room-locked",
            Self::Refused(ErrorCode::RefusedEntry) => "refused-entry",
            Self::Refused(ErrorCode::UnsupportedVersion) => "unsupported-version",
            Self::Refused(ErrorCode::Replaced) => "replaced",
            Self::Refused(ErrorCode::TooManyJoins) => "too-many-joins",
            Self::Refused(ErrorCode::TooManyRooms) => "too-many-rooms",
            Self::Refused(_) => "refused",
            Self::ServerUnreachable(_) => "server-unreachable",
            Self::ConnectionFailed => "connection-failed",
            Self::ConnectionLost => "connection-lost",
            Self::Incompatible(_) => "incompatible",
            Self::NotProven(_) => "not-proven",
            Self::Internal(_) => "internal",
        }
    }
}

impl std::fmt::Display for CallEndReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::LocalHangup => f.write_str("You left the call."),
            Self::RemoteHangup => f.write_str("The other side hung up."),
            Self::RemoteLost => f.write_str(
                "The other side lost its connection and did not come back. Call again in a moment.",
            ),
            Self::Refused(ErrorCode::RoomFull) => f.write_str(
                "The room is full: two people are in it already. Check the code, or make a new room.",
            ),
            Self::Refused(ErrorCode::RoomLocked) => {
                f.write_str("The room is locked by the people inside. Ask them to open it.")
            }
            Self::Refused(ErrorCode::RefusedEntry) => {
                f.write_str("The person inside did not let you in.")
            }
            Self::Refused(ErrorCode::UnsupportedVersion) => f.write_str(
                "The server speaks another version of the protocol. Update the older of the two.",
            ),
            Self::Refused(ErrorCode::Replaced) => {
                f.write_str("The call goes on in another window of yours.")
            }
            Self::Refused(ErrorCode::TooManyJoins | ErrorCode::RateLimited) => f.write_str(
                "The server has had too many requests from this address. Wait a minute, then call again.",
            ),
            Self::Refused(ErrorCode::TooManyRooms) => {
                f.write_str("The server holds as many rooms as it can. Try again later.")
            }
            Self::Refused(code) => write!(f, "The server ended the call ({code:?})."),
            Self::ServerUnreachable(why) => write!(
                f,
                "The server could not be reached: {why}. Check its address and your network."
            ),
            Self::ConnectionFailed => f.write_str(
                "No path to the other side was found. A relay (TURN server) may be needed.",
            ),
            Self::ConnectionLost => f.write_str(
                "The connection to the other side was lost and could not be restored. Check your network, then call again.",
            ),
            Self::Incompatible(why) => write!(f, "The two sides could not agree: {why}."),
            Self::NotProven(ProofFailure::Mismatch) => f.write_str(
                "The other person did not prove to know your code. Its last six letters may have been \
                 mistyped, or somebody tried to get in between the two of you. Nothing of you was sent. \
                 Compare the code with each other by another way, then try again.",
            ),
            Self::NotProven(ProofFailure::NoSecret) => f.write_str(
                "One of you may have entered only the first half of the code, or somebody tried to get in \
                 between the two of you. Nothing of you was sent. Both need the whole code or the whole link.",
            ),
            Self::NotProven(ProofFailure::Spent) => f.write_str(
                "This code was tried in vain five times, so it is not safe any more. Make a new room and \
                 share its code.",
            ),
            Self::NotProven(ProofFailure::Silence) => f.write_str(
                "The proof that it is the other person did not arrive. Nothing of you was sent. Call again \
                 in a moment.",
            ),
            Self::Internal(why) => write!(f, "Something went wrong in this program: {why}."),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn end_codes_are_those_of_the_fixture() {
        let rules: Value = serde_json::from_str(include_str!("../fixtures/rules.json")).unwrap();
        let refusals = rules["endOfRefusal"].as_object().unwrap();
        assert_eq!(refusals.len(), ErrorCode::ALL.len());
        for code in ErrorCode::ALL {
            assert_eq!(CallEndReason::Refused(code).code(), refusals[code.as_str()], "{code:?}");
        }
        let others = [
            CallEndReason::LocalHangup,
            CallEndReason::RemoteHangup,
            CallEndReason::RemoteLost,
            CallEndReason::ServerUnreachable(String::new()),
            CallEndReason::ConnectionFailed,
            CallEndReason::ConnectionLost,
            CallEndReason::Incompatible(String::new()),
            CallEndReason::NotProven(ProofFailure::Silence),
        ];
        assert_eq!(json!(others.map(|reason| reason.code())), rules["endCodes"]);
    }
}
