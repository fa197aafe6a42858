//! Text to messages. The server's side tells apart what is wrong, for every fault has its own code.

use serde_json::Value;

use crate::{ClientMessage, ErrorCode, PROTOCOL_VERSION, RoomCode, ServerMessage};

/// What is wrong with a message from a client. The text names fields, never their content, so that
/// it may be logged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", code.as_str())]
#[non_exhaustive]
pub struct ParseError {
    /// What the client is told.
    pub code: ErrorCode,
    /// The same in words.
    pub message: String,
}

impl ParseError {
    fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    fn bad_message(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::BadMessage, message)
    }
}

impl ClientMessage {
    /// Reads one text frame.
    ///
    /// The version of a `join` is looked at before anything else in it, so that a client of
    /// another version, whose `join` may look otherwise, learns that it is the version.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let value: Value = serde_json::from_str(text)
            .map_err(|_| ParseError::new(ErrorCode::BadJson, "not a JSON text"))?;
        let kind = value
            .as_object()
            .ok_or_else(|| ParseError::bad_message("not a JSON object"))?
            .get("type")
            .and_then(Value::as_str)
            .ok_or_else(|| ParseError::bad_message("`type` is not a string"))?;
        match kind {
            "join" => check_join(&value)?,
            // Serde would take the first it finds.
            "signal" if value.get("description").is_some() && value.get("candidate").is_some() => {
                return Err(ParseError::bad_message("both `description` and `candidate`"));
            }
            "signal" | "leave" | "lock" | "connected" | "admit" | "ping" => {}
            _ => return Err(ParseError::bad_message("unknown `type`")),
        }
        let kind = kind.to_owned();
        // Serde's text may quote the offending value, hence a text of our own.
        serde_json::from_value(value).map_err(|_| {
            ParseError::bad_message(format!("a field of `{kind}` is missing or wrong"))
        })
    }
}

fn check_join(value: &Value) -> Result<(), ParseError> {
    match value.get("protocolVersion") {
        Some(Value::Number(version)) if version.as_u64() == Some(PROTOCOL_VERSION.into()) => {}
        Some(Value::Number(_)) => {
            return Err(ParseError::new(
                ErrorCode::UnsupportedVersion,
                format!("this server speaks version {PROTOCOL_VERSION}"),
            ));
        }
        _ => return Err(ParseError::bad_message("`protocolVersion` is not a number")),
    }
    match value.get("room") {
        Some(Value::String(room)) => match room.parse::<RoomCode>() {
            Ok(_) => Ok(()),
            Err(error) => Err(ParseError::new(ErrorCode::BadRoomCode, error.to_string())),
        },
        _ => Err(ParseError::bad_message("`room` is not a string")),
    }
}

impl ServerMessage {
    /// Reads one text frame. A client ignores what it cannot read (and logs it): a newer server
    /// may say more than an older client knows.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }
}
