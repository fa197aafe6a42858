//! The state machine on virtual time. `tests/relay.rs` has the sockets.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use turn_types::attribute::{
    ChannelNumber, Data, DontFragment, EvenPort, Lifetime, RequestedTransport, XorPeerAddress,
    XorRelayedAddress,
};
use turn_types::message::{ALLOCATE, CHANNEL_BIND, CREATE_PERMISSION, REFRESH, SEND};
use turn_types::stun::attribute::{
    AttributeWrite, ErrorCode, Nonce, Realm, Username, XorMappedAddress,
};
use turn_types::stun::message::{
    BINDING, IntegrityAlgorithm, LongTermKeyCredentials, Message, MessageWriteVec, Method,
};
use turn_types::stun::prelude::{MessageWrite, MessageWriteExt};

use visavis_signaling_protocol::PeerId;

use super::auth::{Auth, REALM};
use super::core::{Action, Client, ClientId, Core, Now, StreamStage};
use super::policy::PeerPolicy;
use super::wire;
use super::{RelayLimits, SEAT_GRACE};
use crate::ice;
use crate::rooms::SeatChange;

const RELAY: [u8; 4] = [192, 0, 2, 100];
const PEER: &str = "1.1.1.1:4000";

fn peer(name: &str) -> PeerId {
    PeerId::try_from(name.to_owned()).unwrap()
}

struct Bench {
    core: Core<u16>,
    now: Now,
    next_port: u16,
    user: String,
    password: String,
}

fn udp(port: u16) -> Client {
    let address = SocketAddr::from(([198, 51, 100, 1], port));
    Client { id: ClientId::Datagrams(address), address }
}

impl Bench {
    fn new() -> Self {
        Self::with(RelayLimits::default())
    }

    fn with(limits: RelayLimits) -> Self {
        let now = Now { instant: Instant::now(), wall: Duration::from_secs(1_767_222_000) };
        let auth = Auth::new().unwrap();
        let user = format!("{}:ada", now.wall.as_secs() + 3600);
        let password = ice::password(auth.secret(), &user);
        let policy = PeerPolicy { allow_private: false, own: vec![RELAY.into()] };
        let mut core = Core::new(now.instant, auth, limits, policy, vec![RELAY.into()]);
        for name in ["ada", "grace"] {
            core.seat_changed(now.instant, SeatChange::Taken(peer(name)));
        }
        Self { core, now, next_port: 50000, user, password }
    }

    fn pass(&mut self, seconds: u64) {
        let time = Duration::from_secs(seconds);
        self.now = Now { instant: self.now.instant + time, wall: self.now.wall + time };
        self.core.tick(self.now.instant);
    }

    fn take(&mut self, client: Client, bytes: &[u8]) -> Action<u16> {
        let next_port = &mut self.next_port;
        self.core.client_sent(self.now, client, bytes, &mut |_| {
            *next_port += 1;
            Some((*next_port, SocketAddr::from((RELAY, *next_port))))
        })
    }

    /// An authenticated request, with XOR-PEER-ADDRESS if there is a peer.
    fn message(
        &self,
        client: Client,
        method: Method,
        peer: Option<&str>,
        attributes: &[&dyn AttributeWrite],
    ) -> Vec<u8> {
        let mut message = Message::builder_request(method, MessageWriteVec::new());
        if let Some(peer) = peer {
            let peer = XorPeerAddress::new(peer.parse().unwrap(), message.transaction_id());
            message.add_attribute(&peer).unwrap();
        }
        for attribute in attributes {
            message.add_attribute(*attribute).unwrap();
        }
        let nonce = self.core.auth.nonce(client.address, self.now.wall);
        message.add_attribute(&Username::new(&self.user).unwrap()).unwrap();
        message.add_attribute(&Realm::new(REALM).unwrap()).unwrap();
        message.add_attribute(&Nonce::new(&nonce).unwrap()).unwrap();
        let (user, password) = (self.user.clone(), self.password.clone());
        let key = LongTermKeyCredentials::new(user, password, REALM.to_owned());
        message.add_message_integrity(&key.into(), IntegrityAlgorithm::Sha1).unwrap();
        message.finish()
    }

    /// Error code (0: granted) and answer.
    fn ask(
        &mut self,
        client: Client,
        method: Method,
        attributes: &[&dyn AttributeWrite],
    ) -> (u16, Vec<u8>) {
        let message = self.message(client, method, None, attributes);
        answer(self.take(client, &message))
    }

    fn allocate(&mut self, client: Client) -> u16 {
        self.ask(client, ALLOCATE, &[&RequestedTransport::new(RequestedTransport::UDP)]).0
    }

    fn bind(&mut self, client: Client, number: u16, peer: &str) -> u16 {
        let number = ChannelNumber::new(number);
        let message = self.message(client, CHANNEL_BIND, Some(peer), &[&number]);
        answer(self.take(client, &message)).0
    }

    fn permit(&mut self, client: Client, peer: &str) -> u16 {
        let message = self.message(client, CREATE_PERMISSION, Some(peer), &[]);
        answer(self.take(client, &message)).0
    }
}

fn answer(action: Action<u16>) -> (u16, Vec<u8>) {
    let Action::Answer(bytes) = action else { panic!("no answer: {action:?}") };
    let message = Message::from_bytes(&bytes).unwrap();
    let code = message.attribute::<ErrorCode>().map_or(0, |code| code.code());
    assert_eq!(code == 0, message.has_class(turn_types::stun::message::MessageClass::Success));
    (code, bytes)
}

fn send_indication(peer: &str, data: &[u8]) -> Vec<u8> {
    let mut message = Message::builder_indication(SEND, MessageWriteVec::new());
    let peer = XorPeerAddress::new(peer.parse().unwrap(), message.transaction_id());
    message.add_attribute(&peer).unwrap();
    message.add_attribute(&Data::new(data)).unwrap();
    message.finish()
}

#[test]
fn anybody_learns_their_address() {
    let mut bench = Bench::new();
    let request = Message::builder_request(BINDING, MessageWriteVec::new()).finish();
    let (code, bytes) = answer(bench.take(udp(7), &request));
    let message = Message::from_bytes(&bytes).unwrap();
    let mapped = message.attribute::<XorMappedAddress>().unwrap();
    assert_eq!((code, mapped.addr(message.transaction_id())), (0, udp(7).address));
}

#[test]
fn an_allocation_is_challenged_granted_and_repeated() {
    let mut bench = Bench::new();
    let bare = Message::builder_request(ALLOCATE, MessageWriteVec::new()).finish();
    let (code, bytes) = answer(bench.take(udp(7), &bare));
    let challenge = Message::from_bytes(&bytes).unwrap();
    assert_eq!(code, 401);
    assert!(challenge.attribute::<Nonce>().is_ok() && challenge.attribute::<Realm>().is_ok());

    let transport = RequestedTransport::new(RequestedTransport::UDP);
    let request = bench.message(udp(7), ALLOCATE, None, &[&transport]);
    let (code, first) = answer(bench.take(udp(7), &request));
    let granted = Message::from_bytes(&first).unwrap();
    let relayed = granted.attribute::<XorRelayedAddress>().unwrap();
    let expected = SocketAddr::from((RELAY, 50001));
    assert_eq!((code, relayed.addr(granted.transaction_id())), (0, expected));
    assert_eq!(granted.attribute::<Lifetime>().unwrap().seconds(), 600);
    // The answer was lost: the same request gets it again, another one does not.
    assert_eq!(answer(bench.take(udp(7), &request)), (0, first));
    assert_eq!(bench.allocate(udp(7)), 437);
    assert_eq!(bench.core.allocation_count(), 1);
}

#[test]
fn strangers_get_nothing() {
    let mut bench = Bench::new();
    bench.password.push('x');
    assert_eq!(bench.allocate(udp(7)), 401);
    bench.user = "ada".into();
    assert_eq!(bench.allocate(udp(7)), 401);
    assert_eq!(bench.core.allocation_count(), 0);
    assert_eq!(bench.core.counters().refusals[&401], 2);
}

#[test]
fn a_nonce_grows_stale() {
    let mut bench = Bench::new();
    let transport = RequestedTransport::new(RequestedTransport::UDP);
    let request = bench.message(udp(7), ALLOCATE, None, &[&transport]);
    assert_eq!(answer(bench.take(udp(8), &request)).0, 438, "another client's nonce");
    bench.pass(3600);
    assert_eq!(answer(bench.take(udp(7), &request)).0, 438);
}

#[test]
fn nothing_outlives_its_credentials() {
    let mut bench = Bench::new();
    assert_eq!(bench.allocate(udp(7)), 0);
    // They are good for an hour.
    bench.pass(300);
    let (code, bytes) = bench.ask(udp(7), REFRESH, &[&Lifetime::new(3600)]);
    let granted = Message::from_bytes(&bytes).unwrap().attribute::<Lifetime>().unwrap().seconds();
    assert_eq!((code, granted), (0, 3300));
    bench.pass(3299);
    let transport = RequestedTransport::new(RequestedTransport::UDP);
    let (code, bytes) = bench.ask(udp(8), ALLOCATE, &[&transport]);
    let granted = Message::from_bytes(&bytes).unwrap().attribute::<Lifetime>().unwrap().seconds();
    assert_eq!((code, granted), (0, 1));
    assert_eq!(bench.core.allocation_count(), 2);
    bench.pass(1);
    assert_eq!(bench.core.allocation_count(), 0);
    let (code, bytes) = bench.ask(udp(9), ALLOCATE, &[&transport]);
    let message = Message::from_bytes(&bytes).unwrap();
    let error = message.attribute::<ErrorCode>().unwrap();
    assert_eq!(code, 401);
    assert!(error.reason().contains("expired"), "{}", error.reason());
    assert_eq!(bench.ask(udp(7), REFRESH, &[]).0, 401);
}

fn freed(name: &str, may_return: bool) -> SeatChange {
    SeatChange::Freed { user: peer(name), may_return }
}

#[test]
fn credentials_end_with_the_seat() {
    let mut bench = Bench::new();
    assert_eq!(bench.allocate(udp(7)), 0);
    assert_eq!(bench.bind(udp(7), 0x4000, PEER), 0);
    bench.core.seat_changed(bench.now.instant, freed("ada", false));
    assert_eq!(bench.ask(udp(7), REFRESH, &[]).0, 401);
    assert_eq!(bench.bind(udp(7), 0x4000, PEER), 401);
    assert_eq!(bench.allocate(udp(8)), 401);
    // The last words still get through.
    let data = wire::channel_data(0x4000, b"bye", false);
    assert!(matches!(bench.take(udp(7), &data), Action::ToPeer { .. }));
    bench.pass(5);
    assert_eq!(bench.core.allocation_count(), 0);
    assert_eq!(bench.allocate(udp(8)), 401);
    assert!(bench.core.seats.len() == 1, "who is gone is forgotten");
}

#[test]
fn a_call_outlives_a_seat_whose_client_may_return() {
    let mut bench = Bench::new();
    assert_eq!(bench.allocate(udp(7)), 0);
    bench.core.seat_changed(bench.now.instant, freed("ada", true));
    bench.pass(SEAT_GRACE.as_secs() - 1);
    assert_eq!(bench.ask(udp(7), REFRESH, &[]).0, 0);
    assert_eq!(bench.bind(udp(7), 0x4000, PEER), 0);
    assert_eq!(bench.allocate(udp(8)), 401, "but opens nothing more");
    // It came back, in another seat.
    bench.core.seat_changed(bench.now.instant, SeatChange::Taken(peer("ada")));
    bench.pass(60);
    assert_eq!(bench.ask(udp(7), REFRESH, &[]).0, 0);
    bench.core.seat_changed(bench.now.instant, freed("ada", true));
    bench.pass(SEAT_GRACE.as_secs());
    assert_eq!(bench.core.allocation_count(), 0);
    assert_eq!(bench.ask(udp(7), REFRESH, &[]).0, 401);
}

#[test]
fn allocations_of_one_address_are_limited() {
    let limits = RelayLimits { allocations_per_address: 2, ..RelayLimits::default() };
    let mut bench = Bench::with(limits);
    assert_eq!((bench.allocate(udp(1)), bench.allocate(udp(2))), (0, 0));
    assert_eq!(bench.allocate(udp(3)), 486);
    let address: SocketAddr = "198.51.100.2:1".parse().unwrap();
    let elsewhere = Client { id: ClientId::Datagrams(address), address };
    assert_eq!(bench.allocate(elsewhere), 0);
    assert_eq!(bench.ask(udp(1), REFRESH, &[&Lifetime::new(0)]).0, 0);
    assert_eq!(bench.allocate(udp(3)), 0, "given back");
    bench.pass(600);
    assert_eq!(bench.core.allocation_count(), 0);
    assert_eq!((bench.allocate(udp(1)), bench.allocate(udp(2))), (0, 0), "given back");
}

#[test]
fn a_stream_is_unknown_until_it_shows_credentials() {
    let mut bench = Bench::new();
    let client = Client { id: ClientId::Stream(3), ..udp(7) };
    let bare = Message::builder_request(ALLOCATE, MessageWriteVec::new()).finish();
    assert_eq!(answer(bench.take(client, &bare)).0, 401);
    let binding = Message::builder_request(BINDING, MessageWriteVec::new()).finish();
    assert_eq!(answer(bench.take(client, &binding)).0, 0);
    assert_eq!(bench.core.stage(3), StreamStage::Unknown);
    assert_eq!(bench.ask(client, REFRESH, &[]).0, 437);
    assert_eq!(bench.core.stage(3), StreamStage::Authentic);
    assert_eq!(bench.allocate(client), 0);
    assert_eq!(bench.core.stage(3), StreamStage::Allocated);
    bench.core.close_stream(3);
    assert_eq!(bench.core.stage(3), StreamStage::Unknown);
    assert_eq!(bench.core.allocation_count(), 0);
}

/// Whoever forges an address makes the relay send little more to it than was sent.
#[test]
fn answers_to_strangers_are_small() {
    let mut bench = Bench::new();
    let transport = RequestedTransport::new(RequestedTransport::UDP);
    let attributes: [&[&dyn AttributeWrite]; 2] = [&[], &[&transport]];
    for method in [BINDING, ALLOCATE, REFRESH, CREATE_PERMISSION, CHANNEL_BIND] {
        for attributes in attributes {
            let mut message = Message::builder_request(method, MessageWriteVec::new());
            for attribute in attributes {
                message.add_attribute(*attribute).unwrap();
            }
            let request = message.finish();
            for address in ["198.51.100.1:7", "[2001:db8::1]:7"] {
                let address = address.parse().unwrap();
                let client = Client { id: ClientId::Datagrams(address), address };
                let (_, bytes) = answer(bench.take(client, &request));
                // With the headers of UDP and IPv4.
                let (sent, asked) = (bytes.len() + 28, request.len() + 28);
                assert!(sent * 2 <= asked * 5, "{method}: {asked} bytes, {sent} in answer");
            }
        }
    }
}

#[test]
fn quotas_hold_for_one_user_and_for_all() {
    let limits = RelayLimits { allocations: 3, allocations_per_user: 2, ..RelayLimits::default() };
    let mut bench = Bench::with(limits);
    assert_eq!((bench.allocate(udp(1)), bench.allocate(udp(2))), (0, 0));
    assert_eq!(bench.allocate(udp(3)), 486);
    let ada = bench.user.clone();
    let become_user = |bench: &mut Bench, name: String| {
        bench.password = ice::password(bench.core.auth.secret(), &name);
        bench.user = name;
    };
    // The same peer with a newer credential.
    let newer = format!("{}:ada", bench.now.wall.as_secs() + 7200);
    become_user(&mut bench, newer);
    assert_eq!(bench.allocate(udp(3)), 486);
    let grace = format!("{}:grace", bench.now.wall.as_secs() + 3600);
    become_user(&mut bench, grace);
    assert_eq!(bench.ask(udp(1), REFRESH, &[]).0, 441, "another user's allocation");
    assert_eq!((bench.allocate(udp(3)), bench.allocate(udp(4))), (0, 508));
    become_user(&mut bench, ada);
    assert_eq!(bench.ask(udp(1), REFRESH, &[&Lifetime::new(0)]).0, 0);
    assert_eq!(bench.allocate(udp(4)), 0);
}

#[test]
fn what_is_not_offered_is_refused() {
    let mut bench = Bench::new();
    let transport = RequestedTransport::new(RequestedTransport::UDP);
    let tcp = RequestedTransport::new(RequestedTransport::TCP);
    assert_eq!(bench.ask(udp(1), ALLOCATE, &[]).0, 400);
    assert_eq!(bench.ask(udp(1), ALLOCATE, &[&tcp]).0, 442);
    assert_eq!(bench.ask(udp(1), ALLOCATE, &[&transport, &EvenPort::new(true)]).0, 508);
    assert_eq!(bench.ask(udp(1), ALLOCATE, &[&transport, &DontFragment::new()]).0, 420);
    let v6 = turn_types::attribute::RequestedAddressFamily::new(turn_types::AddressFamily::IPV6);
    assert_eq!(bench.ask(udp(1), ALLOCATE, &[&transport, &v6]).0, 440);
    assert_eq!(bench.ask(udp(1), REFRESH, &[]).0, 437);
    assert_eq!(bench.permit(udp(1), PEER), 437);
}

#[test]
fn data_flows_both_ways_with_permission_only() {
    let mut bench = Bench::new();
    let (client, peer) = (udp(7), PEER.parse().unwrap());
    let relayed = SocketAddr::from((RELAY, 50001));
    assert_eq!(bench.allocate(client), 0);
    let indication = send_indication(PEER, b"hello");
    assert_eq!(bench.take(client, &indication), Action::Nothing);
    assert_eq!(bench.core.peer_sent(bench.now, relayed, peer, b"early"), Action::Nothing);
    assert_eq!(bench.permit(client, PEER), 0);
    let Action::ToPeer { link: 50001, peer: to, data } = bench.take(client, &indication) else {
        panic!("not relayed")
    };
    assert_eq!((to, &indication[data]), (peer, &b"hello"[..]));
    let Action::ToClient { message, .. } = bench.core.peer_sent(bench.now, relayed, peer, b"hi")
    else {
        panic!("not relayed")
    };
    let parsed = Message::from_bytes(&message).unwrap();
    assert_eq!(parsed.attribute::<Data>().unwrap().data(), b"hi");

    assert_eq!(bench.bind(client, 0x4001, PEER), 0);
    let channel = wire::channel_data(0x4001, b"hello", false);
    let Action::ToPeer { data, .. } = bench.take(client, &channel) else { panic!("not relayed") };
    assert_eq!(&channel[data], b"hello");
    let back = bench.core.peer_sent(bench.now, relayed, peer, b"hi");
    let message = wire::channel_data(0x4001, b"hi", false);
    assert_eq!(back, Action::ToClient { link: 50001, message });
    bench.pass(301);
    assert_eq!(bench.core.peer_sent(bench.now, relayed, peer, b"late"), Action::Nothing);
    bench.pass(300);
    assert_eq!(bench.core.allocation_count(), 0, "expired");
    assert_eq!(bench.take(client, &channel), Action::Nothing);
}

#[test]
fn special_peers_are_forbidden() {
    let mut bench = Bench::new();
    assert_eq!(bench.allocate(udp(7)), 0);
    for peer in ["10.0.0.1:1", "127.0.0.1:80", "169.254.169.254:80", "[::ffff:10.0.0.1]:1"] {
        assert_eq!(bench.permit(udp(7), peer), 403, "{peer}");
        assert_eq!(bench.bind(udp(7), 0x4000, peer), 403, "{peer}");
    }
    assert_eq!(bench.permit(udp(7), "[2606:4700::1111]:1"), 443, "of the other family");
    assert_eq!(bench.core.counters().refusals[&403], 8);
}

#[test]
fn two_allocations_meet_inside_but_the_relay_itself_is_no_peer() {
    let mut bench = Bench::new();
    let (a, b) = (udp(1), udp(2));
    assert_eq!((bench.allocate(a), bench.allocate(b)), (0, 0));
    assert_eq!(bench.bind(a, 0x4000, "192.0.2.100:50002"), 0);
    assert_eq!(bench.permit(b, "192.0.2.100:1"), 0);
    let data = wire::channel_data(0x4000, b"hello", false);
    let Action::ToClient { link: 50002, message } = bench.take(a, &data) else {
        panic!("not delivered")
    };
    let parsed = Message::from_bytes(&message).unwrap();
    let from = parsed.attribute::<XorPeerAddress>().unwrap().addr(parsed.transaction_id());
    assert_eq!(from, SocketAddr::from((RELAY, 50001)));
    assert_eq!(bench.bind(a, 0x4001, "192.0.2.100:22"), 0);
    let data = wire::channel_data(0x4001, b"hello", false);
    assert_eq!(bench.take(a, &data), Action::Nothing);
}

#[test]
fn an_allocation_keeps_to_its_rate() {
    let mut bench = Bench::with(RelayLimits { bytes_per_second: 1000, ..RelayLimits::default() });
    assert_eq!(bench.allocate(udp(7)), 0);
    assert_eq!(bench.bind(udp(7), 0x4000, PEER), 0);
    let data = wire::channel_data(0x4000, &[0; 100], false);
    let sent = (0..20).filter(|_| bench.take(udp(7), &data) != Action::Nothing).count();
    assert_eq!(sent, 10);
    bench.pass(1);
    assert!(matches!(bench.take(udp(7), &data), Action::ToPeer { .. }));
    assert_eq!(bench.core.counters().over_rate, 10);
}

#[test]
fn a_flood_of_requests_is_not_answered() {
    let mut bench = Bench::with(RelayLimits { requests_per_second: 20, ..RelayLimits::default() });
    let bare = Message::builder_request(ALLOCATE, MessageWriteVec::new()).finish();
    let answers = (0..1000).filter(|_| bench.take(udp(7), &bare) != Action::Nothing).count();
    assert_eq!(answers, 100);
    // Authentic ones cost more to check, and are counted too.
    let message = bench.message(udp(7), REFRESH, None, &[]);
    assert_eq!(bench.take(udp(7), &message), Action::Nothing);
    assert_eq!(bench.core.counters().unanswered, 901);
    bench.pass(1);
    let answers = (0..1000).filter(|_| bench.take(udp(7), &bare) != Action::Nothing).count();
    assert_eq!(answers, 20);
}

proptest! {
    /// Whatever is sent, nothing panics, and no allocation comes of it.
    #[test]
    fn remote_bytes_do_no_harm(
        at in 0usize..200,
        with in prop::collection::vec(any::<u8>(), 0..40),
        cut in 0usize..200,
        method in 0usize..5,
    ) {
        let mut bench = Bench::new();
        bench.allocate(udp(7));
        let method = [ALLOCATE, REFRESH, CREATE_PERMISSION, CHANNEL_BIND, SEND][method];
        let mut bytes = bench.message(udp(7), method, Some(PEER), &[&ChannelNumber::new(0x4000)]);
        let at = at.min(bytes.len());
        let end = (at + with.len()).min(bytes.len());
        bytes.splice(at..end, with);
        bytes.truncate(bytes.len().saturating_sub(cut));
        bench.take(udp(7), &bytes);
        bench.take(udp(8), &bytes);
        let _ = wire::frame_bytes(&bytes);
        bench.core.peer_sent(bench.now, SocketAddr::from((RELAY, 50001)), udp(1).address, &bytes);
        prop_assert!(bench.core.allocation_count() <= 1);
    }
}
