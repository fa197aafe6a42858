//! STUN messages: the only place that writes or reads them. Encoding and integrity are those of `stun-types`.

mod attributes;
pub(crate) mod turn;

use std::net::SocketAddr;

use stun_types::attribute::{
    AttributeStaticType, ErrorCode, MessageIntegritySha256, UnknownAttributes, Username,
    XorMappedAddress,
};
use stun_types::message::{
    BINDING, IntegrityAlgorithm, IntegrityKey, Message, MessageClass, MessageType, MessageWrite,
    MessageWriteExt, MessageWriteVec, ShortTermCredentials, StunWriteError, TransactionId,
};
use stun_types::prelude::*;

use crate::error::IceError;
use crate::io::Role;
use attributes::{IceControlled, IceControlling, Nomination, Priority, UseCandidate};

/// The key of a password. Without `Debug` of its contents.
#[derive(Clone)]
pub(crate) struct Key(IntegrityKey);

impl Key {
    pub(crate) fn new(password: &str) -> Self {
        Self(ShortTermCredentials::new(password.to_owned()).make_key())
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

/// What a connectivity check says (RFC 8445 §7.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) transaction: u128,
    /// `<ufrag of the receiver>:<ufrag of the sender>`.
    pub(crate) username: String,
    pub(crate) priority: u32,
    /// The sender's role with its tie-breaker; `None` from an implementation older than RFC 5245.
    pub(crate) role: Option<(Role, u64)>,
    pub(crate) use_candidate: bool,
    pub(crate) nomination: Option<u32>,
}

/// A Binding message that was well-formed. Nothing in it is to be believed before [`Parsed::is_signed_by`].
#[derive(Debug)]
pub(crate) struct Parsed<'a> {
    message: Message<'a>,
}

/// The class of a message with what is read of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Request,
    Indication,
    /// With the mapped address.
    Success(Option<SocketAddr>),
    /// With the code.
    Error(u16),
}

/// Whether a datagram is STUN among what shares its path (RFC 7983 §7, RFC 8489 §5).
pub(crate) fn is_stun(bytes: &[u8]) -> bool {
    matches!(bytes, [0..=3, _, _, _, 0x21, 0x12, 0xa4, 0x42, ..]) && bytes.len() >= HEADER_BYTES
}

impl<'a> Parsed<'a> {
    /// Reads a Binding message; `None` for anything else, or if its fingerprint is wrong.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        if bytes.len() > MAX_MESSAGE_BYTES {
            return None;
        }
        Self::read_any(bytes).filter(|parsed| parsed.message.method() == BINDING)
    }

    /// Reads a message of any method.
    fn read_any(bytes: &'a [u8]) -> Option<Self> {
        // Lengths are looked at first: `stun-types` takes trailing bytes for attributes and logs a line for
        // each message that is too short.
        let length = usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]));
        let whole = bytes.len() == HEADER_BYTES + length && length.is_multiple_of(4);
        if !is_stun(bytes) || !whole {
            return None;
        }
        let message = Message::from_bytes(bytes).ok()?;
        Some(Self { message })
    }

    pub(crate) fn transaction(&self) -> u128 {
        self.message.transaction_id().into()
    }

    pub(crate) fn kind(&self) -> Kind {
        match self.message.class() {
            MessageClass::Request => Kind::Request,
            MessageClass::Indication => Kind::Indication,
            MessageClass::Success => {
                let mapped = self.message.attribute::<XorMappedAddress>().ok();
                Kind::Success(mapped.map(|m| m.addr(self.message.transaction_id())))
            }
            MessageClass::Error => {
                Kind::Error(self.message.attribute::<ErrorCode>().map_or(0, |error| error.code()))
            }
        }
    }

    /// Whether MESSAGE-INTEGRITY is there and right. What follows it is not read by anything here.
    pub(crate) fn is_signed_by(&self, key: &Key) -> bool {
        // ICE has no use for MESSAGE-INTEGRITY-SHA256, which may be shortened.
        self.message.raw_attribute(MessageIntegritySha256::TYPE).is_none()
            && self.message.validate_integrity_with_key(&key.0).is_ok()
    }

    /// USERNAME as `(ours, theirs)`, if it has that form.
    pub(crate) fn username(&self) -> Option<(String, String)> {
        let username = self.message.attribute::<Username>().ok()?;
        let (ours, theirs) = username.username().split_once(':')?;
        Some((ours.to_owned(), theirs.to_owned()))
    }

    /// What the check says, after its integrity was verified. `None` if a part of it is malformed or missing.
    pub(crate) fn request(&self) -> Option<Request> {
        let message = &self.message;
        let has = |kind| message.raw_attribute(kind).is_some();
        let role = if has(IceControlling::TYPE) {
            Some((Role::Controlling, message.attribute::<IceControlling>().ok()?.0))
        } else if has(IceControlled::TYPE) {
            Some((Role::Controlled, message.attribute::<IceControlled>().ok()?.0))
        } else {
            None
        };
        Some(Request {
            transaction: self.transaction(),
            username: message.attribute::<Username>().ok()?.username().to_owned(),
            priority: message.attribute::<Priority>().ok()?.0,
            role,
            use_candidate: has(UseCandidate::TYPE),
            nomination: message.attribute::<Nomination>().ok().map(|nomination| nomination.0),
        })
    }

    /// Attributes of a request that have to be understood and are not (RFC 8489 §6.3.1), some of them.
    pub(crate) fn unknown_attributes(&self) -> Vec<u16> {
        let unknown = |kind: u16| kind < FIRST_OPTIONAL && !UNDERSTOOD.contains(&kind);
        let kinds = self.message.iter_attributes().map(|(_, raw)| raw.get_type().value());
        kinds.filter(|kind| unknown(*kind)).take(MAX_UNKNOWN).collect()
    }
}

/// A signed check.
pub(crate) fn request(request: &Request, key: &Key) -> Result<Vec<u8>, IceError> {
    let mut message = builder(MessageClass::Request, request.transaction);
    let username = Username::new(&request.username).map_err(encoding)?;
    message.add_attribute(&username).map_err(encoding)?;
    message.add_attribute(&Priority(request.priority)).map_err(encoding)?;
    match request.role {
        Some((Role::Controlling, tie_breaker)) => {
            message.add_attribute(&IceControlling(tie_breaker)).map_err(encoding)?;
        }
        Some((Role::Controlled, tie_breaker)) => {
            message.add_attribute(&IceControlled(tie_breaker)).map_err(encoding)?;
        }
        None => {}
    }
    if request.use_candidate {
        message.add_attribute(&UseCandidate).map_err(encoding)?;
    }
    if let Some(nomination) = request.nomination {
        message.add_attribute(&Nomination(nomination)).map_err(encoding)?;
    }
    sign(message, key)
}

/// The signed answer to a check.
pub(crate) fn success(
    transaction: u128,
    mapped: SocketAddr,
    key: &Key,
) -> Result<Vec<u8>, IceError> {
    let mut message = builder(MessageClass::Success, transaction);
    let mapped = XorMappedAddress::new(mapped, transaction.into());
    message.add_attribute(&mapped).map_err(encoding)?;
    sign(message, key)
}

/// A signed refusal of a check.
pub(crate) fn error(
    transaction: u128,
    code: u16,
    unknown: &[u16],
    key: &Key,
) -> Result<Vec<u8>, IceError> {
    let mut message = builder(MessageClass::Error, transaction);
    let reason = match code {
        ROLE_CONFLICT => "Role Conflict",
        UNKNOWN_ATTRIBUTE => "Unknown Attribute",
        _ => "Bad Request",
    };
    message.add_attribute(&ErrorCode::new(code, reason).map_err(encoding)?).map_err(encoding)?;
    if !unknown.is_empty() {
        let unknown: Vec<_> = unknown.iter().map(|kind| (*kind).into()).collect();
        message.add_attribute(&UnknownAttributes::new(&unknown)).map_err(encoding)?;
    }
    sign(message, key)
}

/// A Binding request to a STUN server, without credentials (RFC 8489 §2).
pub(crate) fn server_request(transaction: u128) -> Result<Vec<u8>, IceError> {
    let mut message = builder(MessageClass::Request, transaction);
    message.add_fingerprint().map_err(encoding)?;
    Ok(message.finish())
}

/// The answer of a STUN server.
#[cfg(test)]
pub(crate) fn server_success(transaction: u128, mapped: SocketAddr) -> Vec<u8> {
    let mut message = builder(MessageClass::Success, transaction);
    let _ = message.add_attribute(&XorMappedAddress::new(mapped, transaction.into()));
    message.finish()
}

fn builder(class: MessageClass, transaction: u128) -> MessageWriteVec {
    let kind = MessageType::from_class_method(class, BINDING);
    Message::builder(kind, TransactionId::from(transaction), MessageWriteVec::with_capacity(160))
}

fn sign(mut message: MessageWriteVec, key: &Key) -> Result<Vec<u8>, IceError> {
    message
        .add_message_integrity_with_key(&key.0, IntegrityAlgorithm::Sha1)
        .and_then(|()| message.add_fingerprint())
        .map_err(encoding)?;
    Ok(message.finish())
}

fn encoding(error: StunWriteError) -> IceError {
    IceError::StunEncoding(match error {
        StunWriteError::AttributeExists(_) => "attribute twice",
        StunWriteError::TooLarge { .. } => "too large",
        _ => "attribute after integrity, or value out of range",
    })
}

/// RFC 8445 §7.3.1.1, and in general RFC 8489 §14.8.
pub(crate) const ROLE_CONFLICT: u16 = 487;
pub(crate) const UNKNOWN_ATTRIBUTE: u16 = 420;
pub(crate) const BAD_REQUEST: u16 = 400;
/// RFC 8489 §5.
const HEADER_BYTES: usize = 20;
/// Above the path MTU of everything that carries STUN; messages of browsers have some 120 bytes.
const MAX_MESSAGE_BYTES: usize = 1500;
/// Attributes from here on may be ignored (RFC 8489 §14).
const FIRST_OPTIONAL: u16 = 0x8000;
/// MAPPED-ADDRESS, USERNAME, MESSAGE-INTEGRITY, ERROR-CODE, UNKNOWN-ATTRIBUTES, REALM, NONCE,
/// MESSAGE-INTEGRITY-SHA256, XOR-MAPPED-ADDRESS (RFC 8489 §18.3), PRIORITY, USE-CANDIDATE (RFC 8445 §16.1).
const UNDERSTOOD: [u16; 11] =
    [0x0001, 0x0006, 0x0008, 0x0009, 0x000a, 0x0014, 0x0015, 0x001c, 0x0020, 0x0024, 0x0025];
/// As many as fit into an answer no larger than what asked for it.
const MAX_UNKNOWN: usize = 4;

#[cfg(test)]
mod tests;
