//! Two connections with real ICE, DTLS, SRTP, SCTP and RTP on virtual time: no socket and no sleep.
#![allow(clippy::unwrap_used)]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Mutex;

use bytes::Bytes;
use tokio::sync::mpsc;
use visavis_ice::LocalCandidate;
use visavis_media::{EncodedVideoFrame, MediaTime, ReceivedRtp, Size, VideoCodec};

use super::*;
use crate::clock::MediaClock;
use crate::driver::Command;
use crate::send::{SendOutcome, VideoSender};
use crate::session::LocalStreams;
use crate::types::Description;

/// A seeded generator (splitmix64): the same network for the same seed.
#[derive(Clone)]
struct Seeded(u64);

impl Seeded {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }
}

/// The path between the two.
#[derive(Debug, Clone, Copy)]
struct Link {
    one_way: Duration,
    loss_percent: u64,
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
    sender: VideoSender,
    bases: Vec<SocketAddr>,
    received: Arc<Mutex<Vec<ReceivedRtp>>>,
    deadline: Option<Instant>,
}

impl Side {
    fn new(start: Instant, number: u8) -> Self {
        let clock = MediaClock::new(start);
        let (events_tx, events) = mpsc::channel(1024);
        let (commands_tx, commands) = mpsc::channel(64);
        let ssrc = u32::from(number) * 16;
        let local =
            LocalStreams { audio: ssrc + 1, video: ssrc + 2, rtx: ssrc + 4, parity: ssrc + 3 };
        let session = Arc::new(Session::new(clock, local, events_tx));
        let received: Arc<Mutex<Vec<ReceivedRtp>>> = Arc::default();
        let take = received.clone();
        let config = ConnectionConfig {
            policy: AddressPolicy::All,
            servers: Vec::new(),
            video_codecs: VideoCodec::ALL.into_iter().collect(),
            video_rtp: Arc::new(move |rtp| take.lock().unwrap().push(rtp)),
            audio_rtp: Arc::new(|_| {}),
            sequences: (1, 1),
            random: || Box::new(|bytes| getrandom::fill(bytes).unwrap()),
            lose: None,
        };
        let connection = Connection::new(start, config, session.clone()).unwrap();
        Self {
            connection,
            events,
            told: Vec::new(),
            commands,
            sender: VideoSender::new(session, commands_tx, 0),
            bases: vec![SocketAddr::from(([10, 0, 0, number], 4000))],
            received,
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
            sides: [Side::new(start, 1), Side::new(start, 2)],
            link,
            signaling: link.one_way,
            random: Seeded(seed),
            queue: BinaryHeap::new(),
            sent: 0,
        }
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
                let Endpoint::Udp(source) = transmit.endpoint else { continue };
                let known = self.sides[1 - at].bases.contains(&transmit.destination)
                    && self.sides[at].bases.contains(&source);
                if known && !self.random.chance(self.link.loss_percent) {
                    let endpoint = Endpoint::Udp(transmit.destination);
                    let bytes = transmit.bytes;
                    let datagram = Delivery::Datagram { endpoint, source, bytes };
                    self.post(1 - at, self.link.one_way, datagram);
                }
            }
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
                if kind == crate::types::SdpKind::Offer {
                    let answer = connection.create_answer(now).unwrap();
                    self.post(1 - to, self.signaling, Delivery::Description(answer));
                }
            }
        }
    }

    fn are_connected(&self) -> bool {
        self.sides.iter().all(|side| side.connection.state == PeerConnectionState::Connected)
    }

    /// Sends a frame of video from `from`.
    fn send_frame(&mut self, from: usize, keyframe: bool, bytes: usize) {
        let mut data = Vec::new();
        if keyframe {
            data.extend([0, 0, 0, 1, 0x67, 0x42, 0xe0, 0x1f, 0, 0, 0, 1, 0x68, 0xce]);
        }
        data.extend([0, 0, 0, 1, if keyframe { 0x65 } else { 0x41 }]);
        data.resize(data.len() + bytes, 7);
        let us = u64::try_from((self.now - self.start).as_micros()).unwrap();
        let frame = EncodedVideoFrame {
            codec: VideoCodec::H264,
            data: Bytes::from(data),
            keyframe,
            time: MediaTime::from_micros(us),
            size: Size::new(1280, 720),
        };
        assert_eq!(self.sides[from].sender.send(&frame), SendOutcome::Sent);
    }
}

const ROUND_TRIP_100: Link = Link { one_way: Duration::from_millis(50), loss_percent: 0 };

#[test]
fn two_connections_connect_talk_and_restart_on_virtual_time() {
    let mut world = World::new(ROUND_TRIP_100, 1);
    world.offer(0, false);
    assert!(world.run(Duration::from_secs(5), World::are_connected), "{:?}", world.sides[0].told);
    let connected = world.sides.each_ref().map(|side| side.connected_at().unwrap());
    // Offer and answer with a ClientHello, and two round trips of DTLS; the checks go along with its first.
    assert!(connected.iter().all(|at| *at <= Duration::from_millis(360)), "{connected:?}");

    // What comes before its own side of the channel is open, the stack drops.
    let open = |world: &World| world.sides.iter().all(|side| side.connection.channel_open);
    assert!(world.run(Duration::from_secs(1), open));
    assert!(world.sides[0].connection.send_message(world.now, "hello".into()));
    let heard = PeerEvent::Message("hello".into());
    assert!(world.run(Duration::from_secs(1), |w| w.sides[1].state_at(&heard).is_some()));

    // Either side restarts while frames flow: none is late or lost.
    for restarts in [0, 1] {
        let before = world.sides[1].connection.selections;
        for frame in 0..60 {
            if frame == 10 {
                world.offer(restarts, true);
            }
            world.send_frame(0, frame == 0, 2000);
            world.run(Duration::from_millis(33), |_| false);
        }
        assert!(world.sides[1].connection.selections > before, "it did not restart");
    }
    world.run(Duration::from_millis(200), |_| false);
    let received = world.sides[1].received.lock().unwrap();
    assert_eq!(received.iter().filter(|packet| packet.marker).count(), 120);
    assert!(received.iter().all(|packet| !packet.retransmitted));
    drop(received);
    let stats = world.sides[0].connection.stats(world.now);
    assert!(stats.selected_pair().is_some_and(|pair| pair.bytes_sent > 60_000), "{stats:?}");
    assert_eq!(stats.transport.dtls_state, "connected");
}

#[test]
fn connections_come_about_through_every_third_packet_lost() {
    for seed in 0..30 {
        let mut world = World::new(Link { loss_percent: 33, ..ROUND_TRIP_100 }, seed);
        world.offer(0, false);
        let connected = world.run(Duration::from_secs(8), World::are_connected);
        assert!(connected, "seed {seed}: {:?}", world.sides[0].told);
    }
}

/// The Wi-Fi goes, another network is there.
#[test]
fn media_goes_on_by_another_address_when_one_is_gone() {
    let mut world = World::new(ROUND_TRIP_100, 2);
    world.offer(0, false);
    assert!(world.run(Duration::from_secs(5), World::are_connected));
    let (old, new) = (world.sides[0].bases[0], SocketAddr::from(([10, 0, 1, 1], 5000)));
    world.sides[0].bases = vec![new];
    let now = world.now;
    world.sides[0].connection.paths.remove_base(now, old);
    world.sides[0].connection.paths.add_base(now, new, 65_535, None);
    let selected = |world: &World, side: usize| world.sides[side].connection.selected;
    let moved = |world: &World| {
        selected(world, 0).is_some_and(|pair| pair.path == visavis_ice::Path::Udp { base: new })
            && selected(world, 1).is_some_and(|pair| pair.remote == new)
    };
    assert!(world.run(Duration::from_secs(2), moved));
    assert!(world.now - now < Duration::from_millis(700), "{:?}", world.now - now);
}

/// Somebody who knows both addresses and nothing else.
#[test]
fn what_a_stranger_sends_reaches_nothing() {
    let mut world = World::new(ROUND_TRIP_100, 3);
    world.offer(0, false);
    assert!(world.run(Duration::from_secs(5), World::are_connected));
    let base = world.sides[0].bases[0];
    let stranger = SocketAddr::from(([10, 0, 0, 9], 4000));
    let now = world.now;
    let connection = &mut world.sides[0].connection;
    let before = connection.stats(now).refused_datagrams;
    for bytes in [&[22, 254, 253, 0][..], &[128, 96, 0, 1], &[0, 1, 0, 0], &[64, 0, 0, 1], &[]] {
        connection.receive(now, Endpoint::Udp(base), stranger, BytesMut::from(bytes));
    }
    assert!(connection.stats(now).refused_datagrams >= before + 4);
    assert_eq!(connection.state, PeerConnectionState::Connected);
    let tcp = LocalCandidate::TcpActive { base, preference: 1 };
    connection.paths.add_local(now, tcp);
    assert!(world.run(Duration::from_secs(1), |_| false) || world.are_connected());
}
