#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use stun_types::attribute::{
    AttributeStaticType, ErrorCode, MessageIntegrity, Nonce, Realm, XorMappedAddress,
};
use stun_types::message::{
    IntegrityAlgorithm, LongTermCredentials, Message, MessageClass, MessageType, MessageWrite,
    MessageWriteExt, MessageWriteVec, Method,
};
use turn_types::attribute::{ChannelNumber, Data, Lifetime, XorPeerAddress, XorRelayedAddress};
use turn_types::message::{ALLOCATE, CHANNEL_BIND, CREATE_PERMISSION, DATA, REFRESH, SEND};

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const SERVER: &str = "198.51.100.1:3478";
const RELAYED: &str = "198.51.100.1:50000";
const MAPPED: &str = "203.0.113.1:6000";
const PEER: &str = "203.0.113.9:7000";

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn config() -> TurnConfig {
    TurnConfig {
        server: address(SERVER),
        via: RelayTransport::Udp,
        username: "1800000100:peer".into(),
        password: "secret".into(),
        ipv6: false,
        preference: 7,
        unix_time: Some(Duration::from_secs(1_800_000_000)),
    }
}

fn random() -> impl RandomSource {
    let mut state = 1_u64;
    move |bytes: &mut [u8]| {
        for byte in bytes {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = (state >> 33) as u8;
        }
    }
}

/// A relay in few words.
struct Relay {
    nonce: String,
    password: String,
    lifetime: u32,
    /// What is refused, and with which code.
    refuses: Option<(Method, u16)>,
    permitted: Vec<SocketAddr>,
    channels: Vec<(u16, SocketAddr)>,
    /// What came for peers.
    forwarded: Vec<(SocketAddr, Vec<u8>)>,
    requests: Vec<Method>,
}

impl Relay {
    fn new() -> Self {
        Self {
            nonce: "first".into(),
            password: "secret".into(),
            lifetime: 600,
            refuses: None,
            permitted: Vec::new(),
            channels: Vec::new(),
            forwarded: Vec::new(),
            requests: Vec::new(),
        }
    }

    fn key(&self) -> stun_types::message::IntegrityKey {
        let credentials = LongTermCredentials::new("1800000100:peer".into(), self.password.clone());
        credentials.to_key("realm".into()).make_key(IntegrityAlgorithm::Sha1)
    }

    fn receive(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        if let [64..=79, ..] = bytes {
            let (number, data) = bytes.split_at(4);
            let number = u16::from_be_bytes([number[0], number[1]]);
            let (_, peer) = self.channels.iter().find(|(known, _)| *known == number)?;
            self.forwarded.push((*peer, data.to_vec()));
            return None;
        }
        let message = Message::from_bytes(bytes).unwrap();
        let (method, id) = (message.method(), message.transaction_id());
        let peer = message.attribute::<XorPeerAddress>().ok().map(|peer| peer.addr(id));
        if method == SEND {
            let peer = peer.unwrap();
            if self.permitted.iter().any(|known| known.ip() == peer.ip()) {
                let data = message.attribute::<Data<'_>>().unwrap().data().to_vec();
                self.forwarded.push((peer, data));
            }
            return None;
        }
        self.requests.push(method);
        let nonce = message.attribute::<Nonce>().map(|nonce| nonce.nonce().to_owned());
        let signed = message.has_attribute(MessageIntegrity::TYPE);
        let error = if !signed || message.validate_integrity_with_key(&self.key()).is_err() {
            Some(401)
        } else if nonce.ok().as_ref() != Some(&self.nonce) {
            Some(438)
        } else {
            self.refuses.filter(|(refused, _)| *refused == method).map(|(_, code)| code)
        };
        if let Some(code) = error {
            let mut answer = builder(MessageClass::Error, method, id);
            answer.add_attribute(&ErrorCode::new(code, "No").unwrap()).unwrap();
            answer.add_attribute(&Realm::new("realm").unwrap()).unwrap();
            answer.add_attribute(&Nonce::new(&self.nonce).unwrap()).unwrap();
            return Some(answer.finish());
        }
        let mut answer = builder(MessageClass::Success, method, id);
        let lifetime = Lifetime::new(self.lifetime);
        match method {
            ALLOCATE => {
                answer.add_attribute(&XorRelayedAddress::new(address(RELAYED), id)).unwrap();
                answer.add_attribute(&XorMappedAddress::new(address(MAPPED), id)).unwrap();
                answer.add_attribute(&lifetime).unwrap();
            }
            REFRESH => answer.add_attribute(&lifetime).unwrap(),
            CREATE_PERMISSION => self.permitted.push(peer.unwrap()),
            CHANNEL_BIND => {
                let number = message.attribute::<ChannelNumber>().unwrap().channel();
                self.channels.push((number, peer.unwrap()));
            }
            other => panic!("{other}"),
        }
        answer.add_message_integrity_with_key(&self.key(), IntegrityAlgorithm::Sha1).unwrap();
        Some(answer.finish())
    }
}

fn builder(
    class: MessageClass,
    method: Method,
    id: stun_types::message::TransactionId,
) -> MessageWriteVec {
    Message::builder(MessageType::from_class_method(class, method), id, MessageWriteVec::new())
}

fn data_indication(peer: &str, payload: &[u8]) -> Vec<u8> {
    let mut message = builder(MessageClass::Indication, DATA, 5.into());
    message.add_attribute(&XorPeerAddress::new(address(peer), 5.into())).unwrap();
    message.add_attribute(&Data::new(payload)).unwrap();
    message.finish()
}

/// Lets the two talk until `end`; the events.
fn run(
    client: &mut TurnClient,
    relay: &mut Relay,
    now: &mut Instant,
    span: Duration,
) -> Vec<TurnEvent> {
    let end = *now + span;
    let mut events = Vec::new();
    loop {
        match client.poll_output() {
            TurnOutput::Transmit(bytes) => {
                if let Some(answer) = relay.receive(&bytes) {
                    client.receive(*now, &answer);
                }
            }
            TurnOutput::Event(event) => events.push(event),
            TurnOutput::Deadline(Some(at)) if at <= end => {
                assert!(at > *now, "a deadline that is over");
                *now = at;
                client.handle_timeout(*now);
            }
            TurnOutput::Deadline(_) => {
                *now = end;
                return events;
            }
        }
    }
}

fn allocated(via: RelayTransport) -> (TurnClient, Relay, Instant) {
    let mut now = crate::test_time();
    let (mut client, mut relay) =
        (TurnClient::new(now, TurnConfig { via, ..config() }, random()), Relay::new());
    let events = run(&mut client, &mut relay, &mut now, SECOND);
    let candidate = LocalCandidate::Relay {
        relayed: address(RELAYED),
        via,
        mapped: address(MAPPED),
        server: address(SERVER),
        preference: 7,
    };
    assert_eq!(events, [TurnEvent::Allocated(candidate)]);
    assert_eq!(relay.requests, [ALLOCATE, ALLOCATE]);
    relay.requests.clear();
    (client, relay, now)
}

#[test]
fn a_datagram_takes_its_permission_with_it_and_the_peer_s_come_back() {
    let (mut client, mut relay, mut now) = allocated(RelayTransport::Udp);
    client.send(now, address(PEER), b"check").unwrap();
    client.send(now, address(PEER), b"again").unwrap();
    run(&mut client, &mut relay, &mut now, SECOND);
    assert_eq!(relay.requests, [CREATE_PERMISSION]);
    let forwarded: Vec<_> = relay.forwarded.iter().map(|(_, data)| data.as_slice()).collect();
    assert_eq!(forwarded, [b"check", b"again"]);
    let indication = data_indication(PEER, b"payload");
    let received = TurnReceived::Data { peer: address(PEER), payload: &b"payload"[..] };
    assert_eq!(client.receive(now, &indication), received);
    // Whom nothing was sent to is nobody's peer.
    let other = data_indication("203.0.113.10:1", b"payload");
    assert_eq!(client.receive(now, &other), TurnReceived::Control);
}

#[test]
fn a_channel_saves_the_header_and_both_are_kept() {
    for via in [RelayTransport::Udp, RelayTransport::Tls] {
        let (mut client, mut relay, mut now) = allocated(via);
        let peer = address(PEER);
        let mut buffer = Vec::new();
        assert!(!client.wrap(peer, b"data", &mut buffer));
        client.send(now, peer, b"check").unwrap();
        client.bind_channel(now, peer).unwrap();
        client.bind_channel(now, peer).unwrap();
        run(&mut client, &mut relay, &mut now, SECOND);
        assert!(client.wrap(peer, b"dat", &mut buffer));
        let padded: &[u8] = if via == RelayTransport::Udp { b"dat" } else { b"dat\0" };
        assert_eq!(buffer, [b"\x40\0\0\x03", padded].concat());
        let received = TurnReceived::Data { peer, payload: &b"dat"[..] };
        assert_eq!(client.receive(now, &buffer), received);
        assert_eq!(client.receive(now, b"\x40\x01\0\x03dat"), TurnReceived::Control);
        assert_eq!(client.receive(now, b"\x40\0\0\x09dat"), TurnReceived::Control);
        relay.requests.clear();
        // Half an hour: the allocation each nine minutes, the channel each four, the permission while it is used.
        run(&mut client, &mut relay, &mut now, SECOND * 1800);
        let count = |method| relay.requests.iter().filter(|known| **known == method).count();
        assert_eq!((count(REFRESH), count(CHANNEL_BIND), count(CREATE_PERMISSION)), (3, 7, 1));
        assert_eq!(client.permitted().count(), 0);
        client.close(now);
        assert!(matches!(client.poll_output(), TurnOutput::Transmit(_)));
        assert_eq!(client.poll_output(), TurnOutput::Deadline(None));
        assert!(client.send(now, peer, b"x").is_err());
    }
}

#[test]
fn another_nonce_is_taken_and_a_short_life_is_refreshed_in_time() {
    let (mut client, mut relay, mut now) = allocated(RelayTransport::Udp);
    relay.nonce = "second".into();
    relay.lifetime = 40;
    let events = run(&mut client, &mut relay, &mut now, SECOND * 600);
    assert_eq!(events, []);
    assert_eq!(relay.requests[..2], [REFRESH, REFRESH]);
    relay.requests.clear();
    run(&mut client, &mut relay, &mut now, SECOND * 100);
    assert_eq!(relay.requests, [REFRESH; 5]);
}

#[test]
fn refusals_are_told_in_words() {
    for (relay, username, words) in [
        (Relay { refuses: Some((ALLOCATE, 486)), ..Relay::new() }, None, "allocations"),
        (Relay { refuses: Some((ALLOCATE, 508)), ..Relay::new() }, None, "full"),
        (Relay { refuses: Some((ALLOCATE, 403)), ..Relay::new() }, None, "forbids"),
        (Relay { refuses: Some((ALLOCATE, 300)), ..Relay::new() }, None, "300 No"),
        (Relay { password: "other".into(), ..Relay::new() }, None, "wrong"),
        (Relay::new(), Some("1799999999:peer"), "time is over"),
    ] {
        let (mut now, mut relay) = (crate::test_time(), relay);
        let username = username.unwrap_or("1800000100:peer").to_owned();
        let mut client = TurnClient::new(now, TurnConfig { username, ..config() }, random());
        let events = run(&mut client, &mut relay, &mut now, SECOND * 60);
        let [TurnEvent::Refused { reason, .. }] = &events[..] else { panic!("{events:?}") };
        assert!(reason.contains(words), "{reason}");
    }
}

#[test]
fn a_relay_that_does_not_answer_is_asked_again_over_udp_and_then_given_up() {
    for (via, times) in [(RelayTransport::Udp, 6), (RelayTransport::Tcp, 1)] {
        let start = crate::test_time();
        let mut client = TurnClient::new(start, TurnConfig { via, ..config() }, random());
        let (mut sent, mut events) = (0, Vec::new());
        loop {
            match client.poll_output() {
                TurnOutput::Transmit(_) => sent += 1,
                TurnOutput::Event(event) => events.push(event),
                TurnOutput::Deadline(Some(at)) => client.handle_timeout(at),
                TurnOutput::Deadline(None) => break,
            }
        }
        assert_eq!(sent, times);
        assert!(matches!(events[..], [TurnEvent::Refused { code: 701, .. }]), "{events:?}");
    }
}

#[test]
fn a_relay_that_always_asks_for_another_nonce_is_given_up() {
    let mut now = crate::test_time();
    let mut client = TurnClient::new(now, config(), random());
    let mut relay = Relay { refuses: Some((ALLOCATE, 438)), ..Relay::new() };
    let events = run(&mut client, &mut relay, &mut now, SECOND * 60);
    assert!(matches!(events[..], [TurnEvent::Refused { code: 438, .. }]), "{events:?}");
    assert_eq!(relay.requests.len(), 4);
}

#[test]
fn answers_without_the_relay_s_signature_grant_nothing() {
    let now = crate::test_time();
    let mut client = TurnClient::new(now, config(), random());
    let mut relay = Relay::new();
    let TurnOutput::Transmit(first) = client.poll_output() else { panic!() };
    client.receive(now, &relay.receive(&first).unwrap());
    let TurnOutput::Transmit(second) = client.poll_output() else { panic!() };
    let mut answer = relay.receive(&second).unwrap();
    let id = Message::from_bytes(&answer).unwrap().transaction_id();
    let mut unsigned = builder(MessageClass::Success, ALLOCATE, id);
    unsigned.add_attribute(&XorRelayedAddress::new(address("192.0.2.66:6"), id)).unwrap();
    unsigned.add_attribute(&XorMappedAddress::new(address(MAPPED), id)).unwrap();
    client.receive(now, &unsigned.finish());
    let last = answer.len() - 1;
    answer[last] ^= 1;
    client.receive(now, &answer);
    assert!(matches!(client.poll_output(), TurnOutput::Deadline(Some(_))));
    answer[last] ^= 1;
    client.receive(now, &answer);
    assert!(matches!(client.poll_output(), TurnOutput::Event(TurnEvent::Allocated(_))));
}

#[test]
fn peers_are_limited_and_only_such_as_may_be_sent_to() {
    let (mut client, mut relay, mut now) = allocated(RelayTransport::Udp);
    for n in 0..100 {
        client.send(now, SocketAddr::from(([203, 0, 113, n], 1000)), b"x").unwrap();
        run(&mut client, &mut relay, &mut now, Duration::from_millis(1));
    }
    assert_eq!(client.permitted().count(), MAX_PERMISSIONS);
    for refused in ["0.0.0.0:1", "224.0.0.1:1", "[2001:db8::1]:1", "203.0.113.1:0"] {
        assert!(client.send(now, address(refused), b"x").is_err(), "{refused}");
    }
    relay.refuses = Some((CREATE_PERMISSION, 403));
    client.send(now, address("192.0.2.200:1"), b"x").unwrap();
    let events = run(&mut client, &mut relay, &mut now, SECOND);
    let peer = address("192.0.2.200:1");
    assert_eq!(events, [TurnEvent::PeerRefused { peer, code: 403 }]);
}

proptest! {
    #[test]
    fn any_datagram_is_survived(
        bytes in prop::collection::vec(any::<u8>(), 0..200), class in 0..4u8,
    ) {
        let (mut client, _, now) = allocated(RelayTransport::Udp);
        let mut message = bytes;
        if message.len() >= 20 {
            let length = (message.len() - 20) as u16;
            message[0] = class;
            message[2..4].copy_from_slice(&length.to_be_bytes());
            message[4..8].copy_from_slice(&[0x21, 0x12, 0xa4, 0x42]);
        }
        client.receive(now, &message);
    }
}
