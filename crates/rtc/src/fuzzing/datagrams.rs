//! Protocols with state: two ends of our stack talk to each other, and the input disturbs them.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rtc::crypto::{RTCCryptoProvider, default_provider};
use rtc::datachannel::data_channel::{DataChannel, DataChannelConfig, DataChannelMessage};
use rtc::dtls as rtc_dtls;
use rtc::dtls::config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig};
use rtc::dtls::crypto::Certificate;
use rtc::dtls::endpoint::EndpointEvent;
use rtc::dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc::sansio::Protocol;
use rtc::sctp::{self, PayloadProtocolIdentifier};
use rtc::shared::TransportProtocol;
use rtc::stun::fingerprint::FINGERPRINT;
use rtc::stun::integrity::MessageIntegrity;
use rtc::stun::message::{Message, Setter};

use visavis_ice::{
    Agent, Candidate, Config, Credentials, Input, LocalCandidate, Output, Path, RelayTransport,
    RemoteDescription, Role, TurnClient, TurnConfig, TurnEvent, TurnOutput,
};

use super::{LOCAL, REMOTE, STRANGER, Step, pause, steps};
use crate::guard::{HandshakePhase, Records, is_dtls};

fn crypto() -> Option<Arc<dyn RTCCryptoProvider>> {
    default_provider().ok()
}

/// Two ends that exchange datagrams; the first connects.
trait Pair {
    /// A datagram reaches an end.
    fn deliver(&mut self, now: Instant, to: usize, datagram: &[u8]);
    /// What an end sends.
    fn collect(&mut self, now: Instant, from: usize) -> Vec<Bytes>;
    /// Time passed.
    fn timeout(&mut self, now: Instant);
    /// A datagram of the input, made fit for the end that is to read it.
    fn forge(&self, to: usize, bytes: &[u8]) -> Vec<u8>;
}

/// Plays an input on two ends: datagrams are delivered, lost, doubled, changed or made up.
fn play(pair: &mut impl Pair, input: &[u8]) {
    let mut now = Instant::now();
    let mut wire: VecDeque<(usize, Bytes)> = VecDeque::new();
    let mut budget = MAX_DATAGRAMS;
    for step in steps(input) {
        let to = usize::from(step.action >> 7);
        gather(pair, now, &mut wire);
        match step.action & 7 {
            0 => pair.deliver(now, to, &pair.forge(to, step.bytes)),
            1 => pair.deliver(now, to, step.bytes),
            2 => {
                if let Some((to, datagram)) = wire.pop_front() {
                    pair.deliver(now, to, &datagram);
                }
            }
            // The next datagram with some of its bytes changed.
            3 => {
                if let Some((to, datagram)) = wire.pop_front() {
                    pair.deliver(now, to, &changed(&datagram, step.bytes));
                }
            }
            4 => drop(wire.pop_front()),
            5 => {
                if let Some((to, datagram)) = wire.front().cloned() {
                    pair.deliver(now, to, &datagram);
                }
            }
            6 => {
                now += pause(step, Duration::from_millis(50));
                pair.timeout(now);
            }
            // Undisturbed until both are silent.
            _ => {
                while let Some((to, datagram)) = wire.pop_front().filter(|_| budget > 0) {
                    budget -= 1;
                    pair.deliver(now, to, &datagram);
                    gather(pair, now, &mut wire);
                }
            }
        }
    }
}

fn gather(pair: &mut impl Pair, now: Instant, wire: &mut VecDeque<(usize, Bytes)>) {
    for from in 0..2 {
        for datagram in pair.collect(now, from) {
            if wire.len() < MAX_DATAGRAMS {
                wire.push_back((1 - from, datagram));
            }
        }
    }
}

/// `change` is where to begin (16 bits) and what to change the bytes there by.
fn changed(datagram: &[u8], change: &[u8]) -> Vec<u8> {
    let mut datagram = datagram.to_vec();
    if let Some(([high, low], change)) = change.split_first_chunk() {
        let at = usize::from(u16::from_be_bytes([*high, *low])) % datagram.len().max(1);
        datagram[at..].iter_mut().zip(change).for_each(|(byte, change)| *byte ^= change);
    }
    datagram
}

const MAX_DATAGRAMS: usize = 256;

struct Dtls {
    ends: [rtc_dtls::endpoint::Endpoint; 2],
    /// Handshake fragments forged at once.
    most_fragments: u16,
}

/// Set up as the stack does it for a call.
fn dtls_config(client: bool) -> Option<Arc<HandshakeConfig>> {
    let provider = crypto()?;
    let certificate =
        Certificate::generate_self_signed(vec!["peer".into()], provider.crypto()).ok()?;
    let config = ConfigBuilder::default()
        .with_crypto_provider(provider)
        .with_certificates(vec![certificate])
        .with_srtp_protection_profiles(vec![SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm])
        .with_client_auth(ClientAuthType::RequireAnyClientCert)
        .with_insecure_skip_verify(true)
        .with_verify_peer_certificate(Some(Arc::new(|_, _| Ok(()))))
        .with_extended_master_secret(ExtendedMasterSecretType::Require)
        .build(client, None);
    config.ok().map(Arc::new)
}

impl Pair for Dtls {
    fn deliver(&mut self, now: Instant, to: usize, datagram: &[u8]) {
        let from = [REMOTE, LOCAL][to];
        let _ = self.ends[to].read(now, from.into(), None, datagram.into());
    }

    fn collect(&mut self, _now: Instant, from: usize) -> Vec<Bytes> {
        let end = &mut self.ends[from];
        std::iter::from_fn(|| end.poll_transmit()).map(|sent| sent.message.freeze()).collect()
    }

    fn timeout(&mut self, now: Instant) {
        let _ = self.ends[0].handle_timeout(REMOTE.into(), now);
        let _ = self.ends[1].handle_timeout(LOCAL.into(), now);
    }

    /// As many handshake fragments as the input says, by arithmetic: reassembly is to be tried with more
    /// of them than an input has bytes for. Type, length (24 bits), message sequence, first offset
    /// (16 bits), step of the offset (signed), length of each, how many (16 bits).
    fn forge(&self, _to: usize, bytes: &[u8]) -> Vec<u8> {
        let Some(([kind, l1, l2, l3, sequence, o1, o2, step, each, c1, c2], _)) =
            bytes.split_first_chunk()
        else {
            return bytes.to_vec();
        };
        let count = u16::from_be_bytes([*c1, *c2]).min(self.most_fragments);
        // Headers alone, for a message that says it is empty.
        let data = if (*l1, *l2, *l3) == (0, 0, 0) { 0 } else { usize::from(*each) };
        let mut offset = u32::from(u16::from_be_bytes([*o1, *o2]));
        let mut datagram = Vec::new();
        for record in 0..count.div_ceil(100) {
            let mut fragments = Vec::new();
            for _ in 0..(count - record * 100).min(100) {
                let [_, f1, f2, f3] = offset.to_be_bytes();
                fragments.extend([*kind, *l1, *l2, *l3, 0, *sequence, f1, f2, f3, 0, 0, *each]);
                fragments.resize(fragments.len() + data, 0);
                offset = offset.wrapping_add_signed(i32::from(step.cast_signed())) & 0x00ff_ffff;
            }
            let [r1, r2] = record.to_be_bytes();
            let [n1, n2] = u16::try_from(fragments.len()).unwrap_or(u16::MAX).to_be_bytes();
            // Epoch 0 and numbers that a handshake has not reached.
            datagram.extend([22, 254, 253, 0, 0, 0, 0, 0, 1, r1, r2, n1, n2]);
            datagram.extend(fragments);
        }
        datagram
    }
}

/// A client that has begun, and a server.
fn dtls_pair(most_fragments: u16) -> Option<Dtls> {
    static CONFIG: LazyLock<Option<[Arc<HandshakeConfig>; 2]>> =
        LazyLock::new(|| Some([dtls_config(true)?, dtls_config(false)?]));
    let [client, server] = CONFIG.clone()?;
    let end = |address: ([u8; 4], u16), server| {
        rtc_dtls::endpoint::Endpoint::new(address.into(), TransportProtocol::UDP, server)
    };
    let ends = [end(LOCAL, None), end(REMOTE, Some(server))];
    let mut pair = Dtls { ends, most_fragments };
    pair.ends[0].connect(Instant::now(), REMOTE.into(), client, None).ok()?;
    Some(pair)
}

/// A DTLS handshake as in a call, and what follows it. With more fragments the stack alone overflows its thread's stack
/// (C1 of docs/security.md), which [`dtls_guarded`] shows to be held off.
pub fn dtls(input: &[u8]) {
    if let Some(mut pair) = dtls_pair(64) {
        play(&mut pair, input);
    }
}

/// The same behind the filter that stands in front of the stack.
struct Guarded {
    pair: Dtls,
    records: [Records; 2],
    phases: [HandshakePhase; 2],
    received: [usize; 2],
}

impl Guarded {
    fn check(&mut self, now: Instant, to: usize, datagram: &[u8]) {
        // Other data is not DTLS's.
        if !is_dtls(datagram) {
            return;
        }
        if Records::passes_untouched(self.phases[to], datagram) {
            return self.read(now, to, datagram);
        }
        for passed in self.records[to].filter(now, self.phases[to], datagram) {
            self.read(now, to, &passed);
        }
    }

    fn read(&mut self, now: Instant, to: usize, datagram: &[u8]) {
        let from = [REMOTE, LOCAL][to].into();
        for event in self.pair.ends[to].read(now, from, None, datagram.into()).unwrap_or_default() {
            match event {
                EndpointEvent::HandshakeComplete => {
                    self.phases[to] = HandshakePhase::LocallyComplete;
                }
                EndpointEvent::ApplicationData(_) => {
                    self.phases[to] = HandshakePhase::Complete;
                    self.received[to] += 1;
                }
                _ => {}
            }
        }
    }
}

impl Pair for Guarded {
    fn deliver(&mut self, now: Instant, to: usize, datagram: &[u8]) {
        self.check(now, to, datagram);
    }

    fn collect(&mut self, now: Instant, from: usize) -> Vec<Bytes> {
        self.pair.collect(now, from)
    }

    fn timeout(&mut self, now: Instant) {
        self.pair.timeout(now);
    }

    fn forge(&self, to: usize, bytes: &[u8]) -> Vec<u8> {
        self.pair.forge(to, bytes)
    }
}

/// A DTLS handshake through the filter, with somebody in between who forges what both send. What is established stays
/// so: data still goes both ways at the end.
pub fn dtls_guarded(input: &[u8]) {
    let Some(pair) = dtls_pair(8192) else { return };
    let mut now = Instant::now();
    let records = [Records::new(now), Records::new(now)];
    let phases = [HandshakePhase::UnderWay; 2];
    let mut pair = Guarded { pair, records, phases, received: [0; 2] };
    play(&mut pair, input);
    if pair.phases.contains(&HandshakePhase::UnderWay) {
        return;
    }
    // What was used up of the budgets by then comes back with time.
    now += Duration::from_secs(3600);
    for from in 0..2 {
        let to = 1 - from;
        let before = pair.received[to];
        let sent = pair.pair.ends[from].write(now, [REMOTE, LOCAL][from].into(), b"data");
        assert!(sent.is_ok(), "an association is gone");
        for datagram in pair.collect(now, from) {
            pair.check(now, to, &datagram);
        }
        assert!(pair.received[to] > before, "data does not arrive");
    }
}

struct Sctp {
    endpoints: [sctp::Endpoint; 2],
    associations: [Option<(sctp::AssociationHandle, sctp::Association)>; 2],
    /// The last header that each end sent: ports and the tag of the other end.
    headers: [[u8; 8]; 2],
    /// The first transmission sequence number of each end.
    first_tsns: [u32; 2],
}

impl Sctp {
    /// Reads what came, as the stack's handler does it.
    fn read(&mut self, end: usize) {
        let Some((handle, association)) = &mut self.associations[end] else { return };
        while association.poll().is_some() {}
        while association.accept_stream().is_some() {}
        for id in association.stream_ids() {
            let Ok(mut stream) = association.stream(id) else { continue };
            while let Ok(Some(chunks)) = stream.read() {
                let _ = chunks.to_payload(MAX_MESSAGE_BYTES as usize);
            }
        }
        let mut drained = false;
        while let Some(event) = association.poll_endpoint_event() {
            self.endpoints[end].handle_event(*handle, event);
            drained = true;
        }
        if drained {
            self.associations[end] = None;
        }
    }
}

/// The receive limit that the stack sets.
const MAX_MESSAGE_BYTES: u32 = 64 * 1024;

impl Pair for Sctp {
    fn deliver(&mut self, now: Instant, to: usize, datagram: &[u8]) {
        let from = [REMOTE, LOCAL][to];
        let datagram = Bytes::copy_from_slice(datagram);
        match self.endpoints[to].handle(now, from.into(), None, datagram) {
            Some((handle, sctp::DatagramEvent::NewAssociation(association))) => {
                self.associations[to] = Some((handle, association));
            }
            Some((_, sctp::DatagramEvent::AssociationEvent(event))) => {
                if let Some((_, association)) = &mut self.associations[to] {
                    association.handle_event(event);
                }
            }
            _ => {}
        }
        self.read(to);
    }

    fn collect(&mut self, now: Instant, from: usize) -> Vec<Bytes> {
        let Some((_, association)) = &mut self.associations[from] else { return Vec::new() };
        let mut sent = Vec::new();
        while let Some(transmit) = association.poll_transmit(now).filter(|_| sent.len() < 64) {
            if let sctp::Payload::RawEncode(packets) = transmit.message {
                sent.extend(packets);
            }
        }
        if let Some(header) = sent.last().and_then(|packet| packet.first_chunk()) {
            self.headers[from] = *header;
        }
        for packet in &sent {
            // INIT and INIT ACK (RFC 9260 §3.3.2) stand alone.
            if let (Some(1 | 2), Some(tsn)) = (packet.get(12), number_at(packet, 28)) {
                self.first_tsns[from] = tsn;
            }
        }
        sent
    }

    fn timeout(&mut self, now: Instant) {
        for end in 0..2 {
            if let Some((_, association)) = &mut self.associations[end] {
                association.handle_timeout(now);
            }
            self.read(end);
        }
    }

    /// Chunks behind the header that the end expects, with their checksum. Transmission sequence numbers count
    /// from the first, of which an input knows nothing.
    fn forge(&self, to: usize, bytes: &[u8]) -> Vec<u8> {
        let mut packet = [&self.headers[1 - to][..], &[0; 4], bytes].concat();
        let mut at = 12;
        while let Some([kind, _, high, low]) = packet.get(at..at + 4) {
            let length = usize::from(u16::from_be_bytes([*high, *low])).max(4);
            let (first, within) = match kind {
                // DATA and FORWARD TSN. rtc-sctp 0.21.1 walks to the number that the latter names one by
                // one, so one far ahead takes seconds (docs/security.md, "Faults in dependencies").
                0 | 192 => (self.first_tsns[1 - to], 4),
                // INIT and INIT ACK, from whose number it would be walked as well.
                1 | 2 => (self.first_tsns[1 - to], 16),
                // SACK and SHUTDOWN.
                3 | 7 => (self.first_tsns[to], 4),
                _ => (0, usize::MAX),
            };
            let number = at.checked_add(within).and_then(|at| Some((at, number_at(&packet, at)?)));
            if let Some((at, tsn)) = number {
                let tsn = first.wrapping_add(tsn & 0xffff).wrapping_sub(16);
                packet[at..at + 4].copy_from_slice(&tsn.to_be_bytes());
            }
            at += length.next_multiple_of(4);
        }
        let checksum = crc32c(&packet).to_le_bytes();
        packet[8..12].copy_from_slice(&checksum);
        packet
    }
}

fn number_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_be_bytes)
}

/// RFC 9260 appendix A.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 * (crc & 1)))
    })
}

/// An SCTP association with a stream that sends.
pub fn sctp(input: &[u8]) {
    let now = Instant::now();
    let transport = || sctp::TransportConfig::default().with_max_message_size(MAX_MESSAGE_BYTES);
    let server = Arc::new(sctp::ServerConfig::new(transport()));
    let end = |address: ([u8; 4], u16), server| {
        sctp::Endpoint::new(address.into(), TransportProtocol::UDP, Arc::default(), server)
    };
    let mut endpoints = [end(LOCAL, None), end(REMOTE, Some(server))];
    let client = sctp::ClientConfig::new(transport());
    let Ok((handle, mut association)) = endpoints[0].connect(now, client, REMOTE.into()) else {
        return;
    };
    if let Ok(mut stream) = association.open_stream(0, PayloadProtocolIdentifier::String) {
        let _ = stream.write(now, b"hello");
    }
    let associations = [Some((handle, association)), None];
    let mut pair = Sctp { endpoints, associations, headers: [[0; 8]; 2], first_tsns: [0; 2] };
    play(&mut pair, input);
}

/// A data channel that is dialled and one that the other side opens, each with whatever comes.
pub fn data_channel(input: &[u8]) {
    let config = DataChannelConfig { label: "visavis".into(), ..Default::default() };
    let Ok(mut dialled) = DataChannel::dial(config.clone(), 0, 0) else { return };
    for Step { action, bytes } in steps(input) {
        let ppi = match action & 7 {
            0..=3 => PayloadProtocolIdentifier::Dcep,
            4 => PayloadProtocolIdentifier::String,
            5 => PayloadProtocolIdentifier::StringEmpty,
            6 => PayloadProtocolIdentifier::BinaryEmpty,
            _ => PayloadProtocolIdentifier::Binary,
        };
        if let Ok(mut accepted) = DataChannel::accept(config.clone(), 0, 1, ppi, bytes) {
            while accepted.poll_write().is_some() {}
        }
        let _ = dialled.handle_read(DataChannelMessage {
            association_handle: 0,
            stream_id: 0,
            ppi,
            payload: BytesMut::from(bytes),
            negotiated: false,
        });
        while dialled.poll_read().is_some() {}
        while dialled.poll_write().is_some() {}
    }
}

/// A signed STUN message whose transaction is one that was sent, made of an input's bytes: which of the last
/// transactions, type (16 bits), attributes as they are on the wire.
fn signed(bytes: &[u8], transactions: &[[u8; 12]], password: &str) -> Option<Vec<u8>> {
    let ([which, t1, t2], attributes) = bytes.split_first_chunk()?;
    let length = u16::try_from(attributes.len()).ok()?.to_be_bytes();
    let mut raw = [&[*t1, *t2][..], &length, &[0x21, 0x12, 0xa4, 0x42]].concat();
    let transaction = transactions.iter().rev().nth(usize::from(*which & 3));
    raw.extend(transaction.copied().unwrap_or([*which; 12]));
    raw.extend(attributes);
    let mut message = Message { raw, ..Message::default() };
    message.decode().ok()?;
    MessageIntegrity::new_short_term_integrity_with_provider(
        password.to_owned(),
        crypto()?.crypto(),
    )
    .add_to(&mut message)
    .ok()?;
    FINGERPRINT.add_to(&mut message).ok()?;
    Some(message.raw)
}

/// Remembers the transactions of what is sent.
fn note(transactions: &mut Vec<[u8; 12]>, datagram: &[u8]) {
    if let Some(transaction) = datagram.get(8..20).and_then(|t| t.try_into().ok()) {
        transactions.push(transaction);
    }
}

/// Predictable, so that an input always does the same.
fn random() -> impl FnMut(&mut [u8]) + Send {
    let mut next = 7_u8;
    move |bytes: &mut [u8]| {
        for byte in bytes {
            next = next.wrapping_mul(31).wrapping_add(11);
            *byte = next;
        }
    }
}

/// Our ICE agent while it checks pairs and after that, with strangers and with a peer that knows the password.
pub fn ice_agent(input: &[u8]) {
    let mut now = Instant::now();
    let controlling = input.first().is_some_and(|first| first & 0x40 != 0);
    let role = if controlling { Role::Controlling } else { Role::Controlled };
    let mut agent = Agent::new(Config::default(), role, random());
    let base = LOCAL.into();
    let host = LocalCandidate::Host { base, preference: 1, name: None };
    let _ = agent.handle_input(now, Input::LocalCandidate(host));
    let relay = LocalCandidate::Relay {
        relayed: STRANGER.into(),
        via: RelayTransport::Tcp,
        mapped: LOCAL.into(),
        server: STRANGER.into(),
        preference: 1,
    };
    let _ = agent.handle_input(now, Input::LocalCandidate(relay));
    let (Ok(credentials), Ok(candidate)) = (
        Credentials::new("farside", REMOTE_PASSWORD),
        Candidate::parse("candidate:2 1 udp 2130706431 192.0.2.2 2000 typ host"),
    ) else {
        return;
    };
    let description = RemoteDescription {
        credentials,
        lite: false,
        renomination: true,
        candidates: vec![candidate],
    };
    let local = agent.local_credentials().password().to_owned();
    let _ = agent.handle_input(now, Input::RemoteDescription(description.clone()));
    let mut transactions = Vec::new();
    for step in steps(input) {
        loop {
            match agent.poll_output() {
                Output::Transmit(sent) => note(&mut transactions, &sent.bytes),
                Output::Event(_) => {}
                Output::Deadline(_) => break,
            }
        }
        let from: SocketAddr = if step.action & 0x80 == 0 { REMOTE } else { STRANGER }.into();
        let path = if step.action & 0x20 == 0 {
            Path::Udp { base }
        } else {
            Path::Relay { relayed: STRANGER.into(), via: RelayTransport::Tcp }
        };
        let datagram = match step.action & 7 {
            0 => step.bytes.to_vec(),
            1 | 5 => signed(step.bytes, &transactions, &local).unwrap_or_default(),
            2 => signed(step.bytes, &transactions, REMOTE_PASSWORD).unwrap_or_default(),
            4 => {
                if let Ok(line) = std::str::from_utf8(step.bytes)
                    && let Ok(candidate) = Candidate::parse(line)
                {
                    let _ = agent.handle_input(now, Input::RemoteCandidate(candidate));
                }
                continue;
            }
            6 => {
                let restart = [Input::Restart, Input::CancelRestart];
                let [restart, cancel] = restart;
                let input = if step.action & 0x10 == 0 { restart } else { cancel };
                let _ = agent.handle_input(now, input);
                continue;
            }
            _ => {
                now += pause(step, Duration::from_millis(20));
                let _ = agent.handle_input(now, Input::Timeout);
                continue;
            }
        };
        agent.receive(now, path, from, &datagram);
    }
    let snapshot = agent.snapshot(now);
    for generation in &snapshot.generations {
        assert!(generation.candidates.len() <= visavis_ice::MAX_REMOTE_CANDIDATES);
        assert!(generation.pairs.len() <= visavis_ice::MAX_PAIRS);
    }
}

const LOCAL_PASSWORD: &str = "passwordofthenearside00";
const REMOTE_PASSWORD: &str = "passwordofthefarside000";

/// Our TURN client that asks for an allocation, and for a permission once it has one.
pub fn turn_client(input: &[u8]) {
    let mut now = Instant::now();
    let stream = input.first().is_some_and(|first| first & 0x40 != 0);
    let config = TurnConfig {
        server: REMOTE.into(),
        via: if stream { RelayTransport::Tcp } else { RelayTransport::Udp },
        username: "name".into(),
        password: LOCAL_PASSWORD.into(),
        ipv6: false,
        preference: 1,
        unix_time: Some(Duration::from_secs(1_800_000_000)),
    };
    let mut client = TurnClient::new(now, config, random());
    let mut transactions = Vec::new();
    for step in steps(input) {
        loop {
            match client.poll_output() {
                TurnOutput::Transmit(sent) => note(&mut transactions, &sent),
                TurnOutput::Event(TurnEvent::Allocated(_)) => {
                    let _ = client.send(now, STRANGER.into(), b"data");
                    let _ = client.bind_channel(now, STRANGER.into());
                }
                TurnOutput::Event(_) => {}
                TurnOutput::Deadline(_) => break,
            }
        }
        match step.action & 3 {
            0 => drop(client.receive(now, step.bytes)),
            1 | 2 => {
                let answer = signed(step.bytes, &transactions, LOCAL_PASSWORD);
                let _ = client.receive(now, &answer.unwrap_or_default());
            }
            _ => {
                now += pause(step, Duration::from_millis(500));
                client.handle_timeout(now);
            }
        }
    }
}
