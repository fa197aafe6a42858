//! Two connections with real ICE, DTLS, SRTP, SCTP and RTP on virtual time: no socket and no sleep. Between them are a
//! link that delays and loses, NATs, a STUN server and signaling that takes its time, all from one seed.
#![allow(clippy::unwrap_used)]

mod calls;
mod random_networks;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Mutex;

use bytes::Bytes;
use rtc::stun::message::{BINDING_REQUEST, BINDING_SUCCESS, Message};
use rtc::stun::xoraddr::XorMappedAddress;
use tokio::sync::mpsc;
use visavis_media::{
    EncodedAudioFrame, EncodedVideoFrame, MediaTime, ReceivedRtp, Size, VideoCodec,
};

use super::*;
use crate::clock::MediaClock;
use crate::driver::Command;
use crate::send::{AudioSender, SendOutcome, VideoSender};
use crate::session::LocalStreams;
use crate::types::{Description, IceServer, SdpKind};

/// A seeded generator (splitmix64): the same network for the same seed.
#[derive(Debug, Clone)]
struct Seeded(u64);

impl Seeded {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of `from..to`.
    fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.next() % (to - from)
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }
}

/// The way between the two, each way alike.
#[derive(Debug, Clone, Default)]
struct Link {
    one_way: Duration,
    /// Up to so much more for a packet, which may overtake others so.
    jitter: Duration,
    loss_percent: u64,
    /// Nothing gets through from the first to the second, since the start.
    outage: Option<(Duration, Duration)>,
}

/// What stands before a side (RFC 4787): ports are mapped for the socket or for each destination, and filtered by
/// address and port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NatKind {
    EndpointIndependent,
    AddressAndPortDependent,
}

#[derive(Debug)]
struct Nat {
    kind: NatKind,
    public: IpAddr,
    /// External ports, by the socket and, if they differ, the destination.
    ports: HashMap<(SocketAddr, Option<SocketAddr>), u16>,
    opened: HashSet<(u16, SocketAddr)>,
}

impl Nat {
    fn outbound(&mut self, base: SocketAddr, destination: SocketAddr) -> SocketAddr {
        let of = (self.kind == NatKind::AddressAndPortDependent).then_some(destination);
        let next = 20_000 + u16::try_from(self.ports.len()).unwrap();
        let port = *self.ports.entry((base, of)).or_insert(next);
        self.opened.insert((port, destination));
        SocketAddr::new(self.public, port)
    }

    fn inbound(&self, port: u16, source: SocketAddr) -> Option<SocketAddr> {
        let mapped = self.ports.iter().find(|(_, known)| **known == port);
        let ((base, _), _) = mapped.filter(|_| self.opened.contains(&(port, source)))?;
        Some(*base)
    }
}

enum Delivery {
    Datagram { endpoint: Endpoint, source: SocketAddr, bytes: Vec<u8> },
    Description(Description),
    Candidate(Candidate),
}

/// Ordered by when it is due, then by when it was sent.
struct Due(Instant, u64, usize, Delivery);

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

struct Side {
    connection: Connection,
    events: mpsc::Receiver<PeerEvent>,
    told: Vec<(Duration, PeerEvent)>,
    commands: mpsc::Receiver<Command>,
    video: VideoSender,
    audio: AudioSender,
    bases: Vec<SocketAddr>,
    nat: Option<Nat>,
    received: Arc<Mutex<Vec<ReceivedRtp>>>,
    /// When audio arrived.
    heard: Arc<Mutex<Vec<MediaTime>>>,
    deadline: Option<Instant>,
}

impl Side {
    fn new(start: Instant, number: u8, seed: u64) -> Self {
        let clock = MediaClock::new(start);
        let (events_tx, events) = mpsc::channel(1024);
        let (commands_tx, commands) = mpsc::channel(64);
        let ssrc = u32::from(number) * 16;
        let local =
            LocalStreams { audio: ssrc + 1, video: ssrc + 2, rtx: ssrc + 4, parity: ssrc + 3 };
        let session = Arc::new(Session::new(clock, local, events_tx));
        let received: Arc<Mutex<Vec<ReceivedRtp>>> = Arc::default();
        let heard: Arc<Mutex<Vec<MediaTime>>> = Arc::default();
        let (take, hear) = (received.clone(), heard.clone());
        let seeds = Mutex::new(Seeded(seed ^ u64::from(number)));
        let random = move || -> Random {
            let mut source = Seeded(seeds.lock().unwrap().next());
            Box::new(move |bytes| bytes.fill_with(|| source.next().to_le_bytes()[0]))
        };
        let stun = IceServer { urls: vec![format!("stun:{STUN_SERVER}")], ..IceServer::default() };
        let config = ConnectionConfig {
            policy: AddressPolicy::All,
            servers: Server::parse_all(&[stun], AddressPolicy::All).unwrap(),
            video_codecs: VideoCodec::ALL.into_iter().collect(),
            video_rtp: Arc::new(move |rtp| take.lock().unwrap().push(rtp)),
            audio_rtp: Arc::new(move |rtp| hear.lock().unwrap().push(rtp.arrival)),
            sequences: (1, 1),
            random: Arc::new(random),
            lose: None,
        };
        let connection = Connection::new(start, config, session.clone()).unwrap();
        Self {
            connection,
            events,
            told: Vec::new(),
            commands,
            video: VideoSender::new(session.clone(), commands_tx.clone(), 0),
            audio: AudioSender::new(session, commands_tx, 0),
            bases: vec![SocketAddr::from(([10, 0, number, 1], 4000))],
            nat: None,
            received,
            heard,
            deadline: None,
        }
    }

    fn state_at(&self, wanted: &PeerEvent) -> Option<Duration> {
        self.told.iter().find(|(_, event)| event == wanted).map(|(at, _)| *at)
    }

    fn connected_at(&self) -> Option<Duration> {
        self.state_at(&PeerEvent::PeerConnectionState(PeerConnectionState::Connected))
    }
}

struct World {
    start: Instant,
    now: Instant,
    sides: [Side; 2],
    link: Link,
    signaling: Duration,
    random: Seeded,
    queue: BinaryHeap<Reverse<Due>>,
    sent: u64,
}

impl World {
    fn new(link: Link, seed: u64) -> Self {
        let start = Instant::now();
        Self {
            start,
            now: start,
            sides: [Side::new(start, 1, seed), Side::new(start, 2, seed)],
            signaling: link.one_way,
            link,
            random: Seeded(seed),
            queue: BinaryHeap::new(),
            sent: 0,
        }
    }

    fn put_behind(&mut self, side: usize, kind: NatKind) {
        let public = IpAddr::from([203, 0, 113, u8::try_from(side).unwrap() + 1]);
        let (ports, opened) = (HashMap::new(), HashSet::new());
        self.sides[side].nat = Some(Nat { kind, public, ports, opened });
    }

    fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    fn post(&mut self, to: usize, after: Duration, delivery: Delivery) {
        self.sent += 1;
        self.queue.push(Reverse(Due(self.now + after, self.sent, to, delivery)));
    }

    fn offer(&mut self, from: usize, restart: bool) {
        let offer = self.sides[from].connection.create_offer(self.now, restart).unwrap();
        self.post(1 - from, self.signaling, Delivery::Description(offer));
    }

    /// Whatever both want now.
    fn drain(&mut self) {
        for at in [0, 1] {
            let mut out = Vec::new();
            let side = &mut self.sides[at];
            while let Ok(command) = side.commands.try_recv() {
                if let Command::Rtp(kind, packet) = command {
                    side.connection.write_rtp(self.now, kind, packet);
                }
            }
            loop {
                match side.connection.poll_output(self.now) {
                    Output::Transmit(transmit) => out.push(transmit),
                    Output::Gather => {
                        side.connection.paths.start_gathering(None);
                        for base in side.bases.clone() {
                            side.connection.paths.add_base(self.now, base, 65_535, None);
                        }
                        side.connection.paths.addresses_complete();
                        let stun = STUN_SERVER.parse().unwrap();
                        side.connection.paths.server_addresses(self.now, 0, vec![stun]);
                    }
                    Output::Deadline(deadline) => {
                        side.deadline = deadline;
                        break;
                    }
                    Output::AcceptTcp
                    | Output::OpenRelay(_)
                    | Output::CloseRelay(_)
                    | Output::ResolveName(_) => {}
                }
            }
            let mut candidates = Vec::new();
            while let Ok(event) = side.events.try_recv() {
                if let PeerEvent::LocalCandidate(candidate) = &event {
                    candidates.push(candidate.clone());
                }
                side.told.push((self.now - self.start, event));
            }
            for candidate in candidates {
                self.post(1 - at, self.signaling, Delivery::Candidate(candidate));
            }
            for transmit in out {
                self.transmit(at, transmit);
            }
        }
    }

    fn transmit(&mut self, from: usize, transmit: Transmit) {
        let Transmit { endpoint: Endpoint::Udp(base), destination, bytes } = transmit else {
            return;
        };
        if !self.sides[from].bases.contains(&base) || self.random.chance(self.link.loss_percent) {
            return;
        }
        if self.link.outage.is_some_and(|(a, b)| (a..b).contains(&self.elapsed())) {
            return;
        }
        let source = match &mut self.sides[from].nat {
            Some(nat) => nat.outbound(base, destination),
            None => base,
        };
        let jitter = u64::try_from(self.link.jitter.as_micros()).unwrap() + 1;
        let delay = self.link.one_way + Duration::from_micros(self.random.between(0, jitter));
        if destination.to_string() == STUN_SERVER {
            let endpoint = Endpoint::Udp(base);
            if let Some(bytes) = stun_answer(&bytes, source) {
                let answer = Delivery::Datagram { endpoint, source: destination, bytes };
                self.post(from, delay, answer);
            }
            return;
        }
        let other = &self.sides[1 - from];
        let to = match &other.nat {
            Some(nat) if nat.public == destination.ip() => nat.inbound(destination.port(), source),
            Some(_) => None,
            None => Some(destination).filter(|to| other.bases.contains(to)),
        };
        if let Some(to) = to {
            let datagram = Delivery::Datagram { endpoint: Endpoint::Udp(to), source, bytes };
            self.post(1 - from, delay, datagram);
        }
    }

    /// Until `done`, or for so long. False if it took too long.
    fn run(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + limit;
        loop {
            self.drain();
            if done(self) {
                return true;
            }
            let due = self.queue.peek().map(|Reverse(due)| due.0);
            let deadlines = self.sides.each_ref().map(|side| side.deadline);
            let next = deadlines.into_iter().chain([due]).flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else {
                self.now = end;
                return false;
            };
            self.now = self.now.max(next);
            while self.queue.peek().is_some_and(|Reverse(due)| due.0 <= self.now) {
                let Some(Reverse(Due(_, _, to, delivery))) = self.queue.pop() else { break };
                self.deliver(to, delivery);
            }
            for side in &mut self.sides {
                if side.deadline.is_some_and(|at| at <= self.now) {
                    side.connection.handle_timeout(self.now);
                }
            }
        }
    }

    fn deliver(&mut self, to: usize, delivery: Delivery) {
        let (now, connection) = (self.now, &mut self.sides[to].connection);
        match delivery {
            Delivery::Datagram { endpoint, source, bytes } => {
                connection.receive(now, endpoint, source, BytesMut::from(&bytes[..]));
            }
            Delivery::Candidate(candidate) => connection.add_candidate(now, candidate).unwrap(),
            Delivery::Description(description) => {
                let kind = description.kind;
                connection.set_remote(now, description).unwrap();
                if kind == SdpKind::Offer {
                    let answer = connection.create_answer(now).unwrap();
                    self.post(1 - to, self.signaling, Delivery::Description(answer));
                }
            }
        }
    }

    fn are_connected(&self) -> bool {
        self.sides.iter().all(|side| side.connection.state == PeerConnectionState::Connected)
    }

    fn time(&self) -> MediaTime {
        MediaTime::from_micros(u64::try_from(self.elapsed().as_micros()).unwrap())
    }

    /// Sends a frame of video from `from`.
    fn send_frame(&mut self, from: usize, keyframe: bool, bytes: usize) -> SendOutcome {
        let mut data = Vec::new();
        if keyframe {
            data.extend([0, 0, 0, 1, 0x67, 0x42, 0xe0, 0x1f, 0, 0, 0, 1, 0x68, 0xce]);
        }
        data.extend([0, 0, 0, 1, if keyframe { 0x65 } else { 0x41 }]);
        data.resize(data.len() + bytes, 7);
        let frame = EncodedVideoFrame {
            codec: VideoCodec::H264,
            data: Bytes::from(data),
            keyframe,
            time: self.time(),
            size: Size::new(1280, 720),
        };
        self.sides[from].video.send(&frame)
    }

    /// Sends 20 ms of audio from `from`.
    fn send_audio(&mut self, from: usize) -> SendOutcome {
        let frame = EncodedAudioFrame {
            data: Bytes::from_static(&[7; 80]),
            time: self.time(),
            duration: Duration::from_millis(20),
        };
        self.sides[from].audio.send(&frame)
    }
}

/// What the STUN server says to a Binding request.
fn stun_answer(request: &[u8], source: SocketAddr) -> Option<Vec<u8>> {
    let mut asked = Message { raw: request.to_vec(), ..Message::default() };
    asked.decode().ok().filter(|()| asked.typ == BINDING_REQUEST)?;
    let mapped = XorMappedAddress { ip: source.ip(), port: source.port() };
    let mut answer = Message::new();
    answer
        .build(&[Box::new(BINDING_SUCCESS), Box::new(asked.transaction_id), Box::new(mapped)])
        .ok()?;
    Some(answer.raw)
}

const STUN_SERVER: &str = "198.51.100.1:3478";
