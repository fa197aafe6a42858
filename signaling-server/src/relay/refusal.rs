//! Answers that say no, each with its reason (RFC 8656 §19, RFC 8489 §14.8).

use turn_types::stun::attribute::{AttributeType, ErrorCode};
use turn_types::stun::message::IntegrityKey;

/// A request that is not granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// STUN error code.
    pub(crate) code: u16,
    /// For people who debug, in the answer and in the log.
    pub(crate) reason: &'static str,
    /// Whether the answer carries realm and nonce.
    pub(crate) challenges: bool,
    /// Whether the answer ends in MESSAGE-INTEGRITY; set when the request was authentic.
    pub(crate) key: Option<IntegrityKey>,
    /// What was not understood (420).
    pub(crate) unknown: Vec<AttributeType>,
}

impl Refusal {
    pub(crate) fn new(code: u16, reason: &'static str) -> Self {
        Self { code, reason, challenges: false, key: None, unknown: Vec::new() }
    }

    pub(crate) fn bad_request(reason: &'static str) -> Self {
        Self::new(ErrorCode::BAD_REQUEST, reason)
    }

    /// 401, with what a client needs in order to ask again.
    pub(crate) fn challenge(reason: &'static str) -> Self {
        Self { challenges: true, ..Self::new(ErrorCode::UNAUTHORIZED, reason) }
    }

    /// 438, likewise.
    pub(crate) fn stale_nonce() -> Self {
        Self { challenges: true, ..Self::new(ErrorCode::STALE_NONCE, "the nonce is stale") }
    }

    /// Signed, unless it asks for credentials.
    pub(crate) fn signed(mut self, key: &IntegrityKey) -> Self {
        if !self.challenges {
            self.key = Some(key.clone());
        }
        self
    }
}
