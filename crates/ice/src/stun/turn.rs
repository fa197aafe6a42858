//! Messages of TURN (RFC 8656): what a client writes and reads.

use std::net::SocketAddr;
use std::time::Duration;

use stun_types::attribute::{ErrorCode, Nonce, RawAttribute, Realm, Username, XorMappedAddress};
use stun_types::message::{
    IntegrityAlgorithm, LongTermKeyCredentials, Message, MessageClass, MessageType, MessageWrite,
    MessageWriteExt, MessageWriteVec, Method, TransactionId,
};
use stun_types::prelude::*;
use turn_types::AddressFamily;
use turn_types::attribute::{
    ChannelNumber, Data, Lifetime, RequestedAddressFamily, RequestedTransport, XorPeerAddress,
    XorRelayedAddress,
};
use turn_types::message::{ALLOCATE, CHANNEL_BIND, CREATE_PERMISSION, DATA, REFRESH, SEND};

use super::{Key, Parsed, encoding, sign};
use crate::error::IceError;

/// What a relay asks for in each request after the first (RFC 8489 §9.2).
#[derive(Debug, Clone)]
pub(crate) struct Auth {
    pub(crate) username: String,
    pub(crate) realm: String,
    pub(crate) nonce: String,
    pub(crate) key: Key,
}

impl Auth {
    pub(crate) fn new(username: &str, password: &str, realm: String, nonce: String) -> Self {
        let credentials =
            LongTermKeyCredentials::new(username.to_owned(), password.to_owned(), realm.clone());
        let key = Key(credentials.make_key(IntegrityAlgorithm::Sha1));
        Self { username: username.to_owned(), realm, nonce, key }
    }
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    Allocate { ipv6: bool },
    Refresh { lifetime: Duration },
    Permission { peer: SocketAddr },
    Channel { number: u16, peer: SocketAddr },
}

impl Ask {
    fn method(self) -> Method {
        match self {
            Self::Allocate { .. } => ALLOCATE,
            Self::Refresh { .. } => REFRESH,
            Self::Permission { .. } => CREATE_PERMISSION,
            Self::Channel { .. } => CHANNEL_BIND,
        }
    }
}

/// A request, signed if the relay has said by what.
pub(crate) fn request(
    ask: Ask,
    transaction: u128,
    auth: Option<&Auth>,
) -> Result<Vec<u8>, IceError> {
    let id = TransactionId::from(transaction);
    let mut message = builder(MessageClass::Request, ask.method(), id);
    match ask {
        Ask::Allocate { ipv6 } => {
            let udp = RequestedTransport::new(RequestedTransport::UDP);
            message.add_attribute(&udp).map_err(encoding)?;
            if ipv6 {
                let family = RequestedAddressFamily::new(AddressFamily::IPV6);
                message.add_attribute(&family).map_err(encoding)?;
            }
        }
        Ask::Refresh { lifetime } => {
            let seconds = u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX);
            message.add_attribute(&Lifetime::new(seconds)).map_err(encoding)?;
        }
        Ask::Permission { peer } => {
            message.add_attribute(&XorPeerAddress::new(peer, id)).map_err(encoding)?;
        }
        Ask::Channel { number, peer } => {
            message.add_attribute(&ChannelNumber::new(number)).map_err(encoding)?;
            message.add_attribute(&XorPeerAddress::new(peer, id)).map_err(encoding)?;
        }
    }
    match auth {
        Some(auth) => {
            let username = Username::new(&auth.username).map_err(encoding)?;
            message.add_attribute(&username).map_err(encoding)?;
            let realm = Realm::new(&auth.realm).map_err(encoding)?;
            message.add_attribute(&realm).map_err(encoding)?;
            let nonce = Nonce::new(&auth.nonce).map_err(encoding)?;
            message.add_attribute(&nonce).map_err(encoding)?;
            sign(message, &auth.key)
        }
        None => {
            message.add_fingerprint().map_err(encoding)?;
            Ok(message.finish())
        }
    }
}

/// A Send indication (RFC 8656 §11.1).
pub(crate) fn send(
    transaction: u128,
    peer: SocketAddr,
    payload: &[u8],
) -> Result<Vec<u8>, IceError> {
    let id = TransactionId::from(transaction);
    let mut message = builder(MessageClass::Indication, SEND, id);
    message.add_attribute(&XorPeerAddress::new(peer, id)).map_err(encoding)?;
    message.add_attribute(&Data::new(payload)).map_err(encoding)?;
    Ok(message.finish())
}

/// What a relay said.
#[derive(Debug)]
pub(crate) enum Said<'a> {
    /// A Data indication (RFC 8656 §11.3).
    Data { peer: SocketAddr, payload: &'a [u8] },
    /// The answer to a request with this transaction.
    Answer { transaction: u128, answer: Answer },
}

/// The answer to a request.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) result: Result<Granted, (u16, String)>,
    pub(crate) realm: Option<String>,
    pub(crate) nonce: Option<String>,
    /// Whether the answer's integrity is right, by the key that it is asked about.
    pub(crate) signed: bool,
}

/// The attributes of a success.
#[derive(Debug, Default)]
pub(crate) struct Granted {
    pub(crate) relayed: Option<SocketAddr>,
    pub(crate) mapped: Option<SocketAddr>,
    pub(crate) lifetime: Option<Duration>,
}

/// Reads a message of a relay; `None` for what is none.
pub(crate) fn read<'a>(bytes: &'a [u8], key: Option<&Key>) -> Option<Said<'a>> {
    let parsed = Parsed::read_any(bytes)?;
    let message = &parsed.message;
    let transaction = message.transaction_id();
    match message.class() {
        MessageClass::Indication if message.method() == DATA => {
            let peer = message.attribute::<XorPeerAddress>().ok()?.addr(transaction);
            let payload = data_of(bytes, message)?;
            Some(Said::Data { peer, payload })
        }
        MessageClass::Success | MessageClass::Error => {
            let result = if message.has_class(MessageClass::Success) {
                let relayed = message.attribute::<XorRelayedAddress>().ok();
                let mapped = message.attribute::<XorMappedAddress>().ok();
                let lifetime = message.attribute::<Lifetime>().ok();
                Ok(Granted {
                    relayed: relayed.map(|relayed| relayed.addr(transaction)),
                    mapped: mapped.map(|mapped| mapped.addr(transaction)),
                    lifetime: lifetime.map(|l| Duration::from_secs(l.seconds().into())),
                })
            } else {
                let error = message.attribute::<ErrorCode>().ok()?;
                let visible = error.reason().chars().filter(|c| !c.is_control());
                Err((error.code(), visible.take(MAX_REASON_CHARS).collect()))
            };
            let realm = message.attribute::<Realm>().ok().map(|realm| realm.realm().to_owned());
            let nonce = message.attribute::<Nonce>().ok().map(|nonce| nonce.nonce().to_owned());
            let signed = key.is_some_and(|key| parsed.is_signed_by(key));
            let answer = Answer { result, realm, nonce, signed };
            Some(Said::Answer { transaction: transaction.into(), answer })
        }
        _ => None,
    }
}

/// The bytes of the DATA attribute, borrowed from the datagram itself.
fn data_of<'a>(bytes: &'a [u8], message: &Message<'_>) -> Option<&'a [u8]> {
    let (offset, attribute): (usize, RawAttribute<'_>) =
        message.raw_attribute_and_offset(Data::TYPE)?;
    bytes.get(offset + 4..offset + 4 + usize::from(attribute.length()))
}

fn builder(class: MessageClass, method: Method, id: TransactionId) -> MessageWriteVec {
    let kind = MessageType::from_class_method(class, method);
    Message::builder(kind, id, MessageWriteVec::with_capacity(256))
}

/// What a person is shown of a relay's own words.
const MAX_REASON_CHARS: usize = 120;
