//! Connectivity checks (RFC 8445 §7), written and read.

use std::net::SocketAddr;

use rtc::crypto::{RTCCryptoProvider, default_provider};
use rtc::ice::attributes::control::{AttrControlled, AttrControlling};
use rtc::ice::attributes::priority::PriorityAttr;
use rtc::ice::attributes::use_candidate::UseCandidateAttr;
use rtc::stun::attributes::{
    ATTR_FINGERPRINT, ATTR_ICE_CONTROLLING, ATTR_MESSAGE_INTEGRITY, ATTR_USE_CANDIDATE,
    ATTR_USERNAME,
};
use rtc::stun::fingerprint::FINGERPRINT;
use rtc::stun::integrity::MessageIntegrity;
use rtc::stun::message::{
    BINDING_REQUEST, BINDING_SUCCESS, CLASS_REQUEST, CLASS_SUCCESS_RESPONSE, METHOD_BINDING,
    Message, MessageClass, Setter, TransactionId,
};
use rtc::stun::textattrs::Username;
use rtc::stun::xoraddr::XorMappedAddress;

pub(crate) use super::checks::Generation;
use crate::turn::stun_attribute;

/// Number of a check, as its answer repeats it.
pub(crate) type Transaction = [u8; 12];

/// A Binding request of `generation`; `None` if the machine has no random numbers or cryptography.
pub(crate) fn request(
    generation: &Generation,
    controlling: bool,
    nominate: bool,
    tie_breaker: u64,
) -> Option<(Transaction, Vec<u8>)> {
    let crypto = default_provider().ok()?;
    let transaction = TransactionId::new();
    let username = format!("{}:{}", generation.remote_ufrag, generation.local_ufrag);
    let mut attributes: Vec<Box<dyn Setter + '_>> = vec![
        Box::new(BINDING_REQUEST),
        Box::new(transaction),
        Box::new(Username::new(ATTR_USERNAME, username)),
    ];
    if controlling {
        attributes.push(Box::new(AttrControlling(tie_breaker)));
        if nominate {
            attributes.push(Box::<UseCandidateAttr>::default());
        }
    } else {
        attributes.push(Box::new(AttrControlled(tie_breaker)));
    }
    attributes.push(Box::new(PriorityAttr(PEER_REFLEXIVE_PRIORITY)));
    let mut message = Message::new();
    message.build(&attributes).ok()?;
    sign(&mut message, &generation.remote_password, crypto.as_ref())?;
    Some((transaction.0, message.raw))
}

/// A Binding indication, which nobody answers (RFC 8489 §6.3.2).
pub(super) fn indication() -> [u8; 20] {
    let mut message = [0; 20];
    message[..8].copy_from_slice(&[0, 0x11, 0, 0, 0x21, 0x12, 0xa4, 0x42]);
    message[8..].copy_from_slice(&TransactionId::new().0);
    message
}

/// The same check with USE-CANDIDATE, if it is of the controlling side; signed anew.
pub(super) fn with_use_candidate(check: &[u8], password: &str) -> Option<Vec<u8>> {
    let crypto = default_provider().ok()?;
    let mut message = Message { raw: check.to_vec(), ..Message::default() };
    message.decode().ok()?;
    if !message.contains(ATTR_ICE_CONTROLLING) {
        return None;
    }
    let mut copy = Message::new();
    copy.build(&[Box::new(message.typ), Box::new(message.transaction_id)]).ok()?;
    for attribute in &message.attributes.0 {
        if attribute.typ != ATTR_MESSAGE_INTEGRITY && attribute.typ != ATTR_FINGERPRINT {
            copy.add(attribute.typ, &attribute.value);
        }
    }
    UseCandidateAttr.add_to(&mut copy).ok()?;
    sign(&mut copy, password, crypto.as_ref())?;
    Some(copy.raw)
}

/// Whether a check nominates.
pub(super) fn has_use_candidate(check: &[u8]) -> bool {
    stun_attribute(check, ATTR_USE_CANDIDATE.0).is_some()
}

/// The answer to a check, as the holder of `password` writes it.
pub(crate) fn success(
    transaction: Transaction,
    mapped: SocketAddr,
    password: &str,
) -> Option<Vec<u8>> {
    let crypto = default_provider().ok()?;
    let mut message = Message::new();
    message
        .build(&[
            Box::new(BINDING_SUCCESS),
            Box::new(TransactionId(transaction)),
            Box::new(XorMappedAddress { ip: mapped.ip(), port: mapped.port() }),
        ])
        .ok()?;
    sign(&mut message, password, crypto.as_ref())?;
    Some(message.raw)
}

fn sign(message: &mut Message, password: &str, crypto: &dyn RTCCryptoProvider) -> Option<()> {
    let password = password.to_owned();
    MessageIntegrity::new_short_term_integrity_with_provider(password, crypto.crypto())
        .add_to(message)
        .ok()?;
    FINGERPRINT.add_to(message).ok()
}

/// The transaction that a STUN message belongs to.
pub(super) fn transaction(datagram: &[u8]) -> Option<Transaction> {
    let (header, _) = datagram.split_first_chunk::<20>()?;
    (header[4..8] == [0x21, 0x12, 0xa4, 0x42]).then(|| header[8..].try_into().ok())?
}

/// Whether this is a success that only the holder of `password` can have written.
pub(crate) fn is_success(datagram: &[u8], password: &str) -> bool {
    is_signed(datagram, CLASS_SUCCESS_RESPONSE, password)
}

fn is_signed(datagram: &[u8], class: MessageClass, password: &str) -> bool {
    let Ok(crypto) = default_provider() else { return false };
    let mut message = Message { raw: datagram.to_vec(), ..Message::default() };
    message.decode().is_ok()
        && message.typ.method == METHOD_BINDING
        && message.typ.class == class
        && MessageIntegrity::check(&mut message, password.as_bytes(), crypto.crypto()).is_ok()
}

/// Whether this is a check that only somebody who knows `password` can have written.
pub(crate) fn is_signed_request(datagram: &[u8], password: &str) -> bool {
    is_signed(datagram, CLASS_REQUEST, password)
}

/// Of a peer-reflexive candidate with the highest local preference (RFC 8445 §5.1.2.1, §7.1.1).
const PEER_REFLEXIVE_PRIORITY: u32 = (110 << 24) | (65_535 << 8) | 255;
