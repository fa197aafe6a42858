//! Two endpoints in a network with NATs, relays, latency and loss, on virtual time. Everything random comes from
//! one seed.

pub(crate) mod nat;
pub(crate) mod ours;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use nat::{Nat, NatKind};
pub(crate) use ours::Ours;
use visavis_ice::{LocalCandidate, Path, RelayTransport, Transmit};

pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn address(text: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// SplitMix64.
#[derive(Debug, Clone)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn chance(&mut self, part: f64) -> bool {
        ((self.next() >> 11) as f64) < part * (1_u64 << 53) as f64
    }

    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        bytes.chunks_mut(8).for_each(|c| c.copy_from_slice(&self.next().to_le_bytes()[..c.len()]));
    }
}

/// What travels by signaling.
#[derive(Debug, Clone)]
pub(crate) enum Signal {
    Offer(Description),
    Answer(Description),
    Candidate(String),
}

#[derive(Debug, Clone)]
pub(crate) struct Description {
    pub(crate) ufrag: String,
    pub(crate) password: String,
    pub(crate) renomination: bool,
    pub(crate) candidates: Vec<String>,
}

/// One end of a call: our agent or somebody else's.
pub(crate) trait Endpoint {
    fn receive(&mut self, now: Instant, path: Path, source: SocketAddr, bytes: &[u8]);
    fn timeout(&mut self, now: Instant);
    fn local_candidate(&mut self, now: Instant, candidate: LocalCandidate);
    fn signal(&mut self, now: Instant, signal: Signal);
    fn drain(&mut self, now: Instant) -> Drained;
    fn selected(&self) -> Option<(Path, SocketAddr)>;
    fn is_connected(&self) -> bool;
    /// For [`World::ours`].
    fn as_ours(&mut self) -> Option<&mut Ours> {
        None
    }
}

#[derive(Debug, Default)]
pub(crate) struct Drained {
    pub(crate) transmits: Vec<Transmit>,
    pub(crate) signals: Vec<Signal>,
    pub(crate) deadline: Option<Instant>,
}

/// Where one end is.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) hosts: Vec<SocketAddr>,
    pub(crate) nat: NatKind,
    pub(crate) public: IpAddr,
    /// Machines with the same number reach each other without a NAT.
    pub(crate) lan: u32,
    /// How a relay is reached, if there is one.
    pub(crate) relays: Vec<RelayTransport>,
    pub(crate) tcp: bool,
    /// Whether host candidates are hidden, so that only reflexive ones are told.
    pub(crate) stun: bool,
}

impl Place {
    pub(crate) fn new(side: usize, nat: NatKind) -> Self {
        let open = nat == NatKind::Open;
        let host = if open {
            format!("203.0.113.{}:5000", side + 1)
        } else {
            format!("10.{side}.0.1:5000")
        };
        Self {
            hosts: vec![address(&host)],
            nat,
            public: format!("203.0.113.{}", side + 1).parse().unwrap(),
            lan: side as u32,
            relays: Vec::new(),
            tcp: false,
            stun: true,
        }
    }

    pub(crate) fn with_relay(mut self) -> Self {
        let via =
            if self.nat == NatKind::NoUdp { RelayTransport::Tls } else { RelayTransport::Udp };
        self.relays = vec![via];
        self
    }
}

/// The network.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(crate) one_way: Duration,
    /// One way by a relay.
    pub(crate) relayed: Duration,
    pub(crate) jitter: Duration,
    pub(crate) loss: f64,
    pub(crate) signaling: Duration,
    /// UDP between the peers does not pass.
    pub(crate) direct_blocked: bool,
    /// Nothing passes by a relay.
    pub(crate) relay_blocked: bool,
    /// Nothing comes to this side without a relay.
    pub(crate) deaf: Option<usize>,
    /// What comes to this socket takes longer.
    pub(crate) detour: Option<(SocketAddr, Duration)>,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            one_way: 20 * MS,
            relayed: 35 * MS,
            jitter: Duration::ZERO,
            loss: 0.0,
            signaling: 30 * MS,
            direct_blocked: false,
            relay_blocked: false,
            deaf: None,
            detour: None,
        }
    }
}

enum Happening {
    Datagram { to: usize, path: Path, source: SocketAddr, bytes: Vec<u8> },
    Signal { to: usize, signal: Signal },
    Gathered { at: usize, candidate: LocalCandidate },
}

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) start: Instant,
    pub(crate) link: Link,
    pub(crate) ends: [Box<dyn Endpoint>; 2],
    places: [Place; 2],
    pub(crate) nats: [Nat; 2],
    /// Relayed address to owner and path.
    relays: HashMap<SocketAddr, (usize, Path)>,
    permissions: HashSet<(SocketAddr, IpAddr)>,
    /// Connected streams: the active side's outside address to its path.
    streams: HashMap<SocketAddr, (usize, Path)>,
    queue: BinaryHeap<Reverse<(Instant, u64)>>,
    happenings: HashMap<u64, Happening>,
    next: u64,
    rng: Rng,
    deadlines: [Option<Instant>; 2],
    /// Datagrams that the ends sent, by side.
    pub(crate) sent: [Vec<(Instant, SocketAddr)>; 2],
    /// Data that arrived, by side.
    pub(crate) data: [Vec<(Instant, Path, SocketAddr)>; 2],
}

/// Some moment to count from.
#[allow(clippy::disallowed_methods)]
fn origin() -> Instant {
    Instant::now()
}

impl World {
    pub(crate) fn new(
        seed: u64,
        link: Link,
        places: [Place; 2],
        ends: [Box<dyn Endpoint>; 2],
    ) -> Self {
        let start = origin();
        let nats = [0, 1].map(|side| Nat::new(places[side].nat, places[side].public));
        let mut world = Self {
            now: start,
            start,
            link,
            ends,
            places,
            nats,
            relays: HashMap::new(),
            permissions: HashSet::new(),
            streams: HashMap::new(),
            queue: BinaryHeap::new(),
            happenings: HashMap::new(),
            next: 0,
            rng: Rng(seed),
            deadlines: [None; 2],
            sent: Default::default(),
            data: Default::default(),
        };
        (0..2).for_each(|side| world.gather(side));
        world
    }

    /// Two of our agents.
    pub(crate) fn pair(seed: u64, link: Link, places: [Place; 2]) -> Self {
        let ends = [
            Box::new(Ours::new(seed, true)) as Box<dyn Endpoint>,
            Box::new(Ours::new(seed.wrapping_add(1), false)),
        ];
        Self::new(seed, link, places, ends)
    }

    pub(crate) fn ours(&mut self, side: usize) -> &mut Ours {
        self.ends[side].as_ours().unwrap()
    }

    /// A socket on another network.
    pub(crate) fn add_host(&mut self, side: usize, base: SocketAddr) {
        self.places[side].hosts.push(base);
    }

    pub(crate) fn snapshot(&mut self, side: usize) -> visavis_ice::IceSnapshot {
        let now = self.now;
        self.ours(side).agent.snapshot(now)
    }

    fn gather(&mut self, at: usize) {
        let place = self.places[at].clone();
        let mut preference = 65_535;
        for base in place.hosts.iter().copied() {
            let host = LocalCandidate::Host { base, preference, name: None };
            self.happen(self.now, Happening::Gathered { at, candidate: host });
            let server = address("198.51.100.1:3478");
            if place.stun
                && place.nat != NatKind::Open
                && base.is_ipv4()
                && let Some(mapped) = self.nats[at].outward(base, server)
            {
                let candidate = LocalCandidate::ServerReflexive { base, address: mapped, server };
                self.happen(self.now + 20 * MS, Happening::Gathered { at, candidate });
            }
            if place.tcp {
                let base = SocketAddr::new(base.ip(), 5001);
                let active = LocalCandidate::TcpActive { base, preference };
                let passive = LocalCandidate::TcpPassive { base, preference };
                self.happen(self.now, Happening::Gathered { at, candidate: active });
                self.happen(self.now, Happening::Gathered { at, candidate: passive });
            }
            preference -= 1000;
        }
        for (n, via) in place.relays.iter().copied().enumerate() {
            let relayed = address(&format!("198.51.100.{}:{}", 10 + at, 40_000 + n));
            self.relays.insert(relayed, (at, Path::Relay { relayed, via }));
            let mapped = SocketAddr::new(place.public, 1);
            let server = address("198.51.100.9:3478");
            let candidate = LocalCandidate::Relay { relayed, via, mapped, server, preference: 9 };
            self.happen(self.now + 40 * MS, Happening::Gathered { at, candidate });
        }
    }

    fn happen(&mut self, at: Instant, happening: Happening) {
        self.queue.push(Reverse((at, self.next)));
        self.happenings.insert(self.next, happening);
        self.next += 1;
    }

    /// Something of the caller's, with what follows from it.
    pub(crate) fn act(&mut self, side: usize, act: impl FnOnce(&mut Ours, Instant)) {
        let now = self.now;
        act(self.ours(side), now);
        self.drain(side);
    }

    /// Side 0 offers.
    pub(crate) fn offer(&mut self) {
        self.offer_from(0);
    }

    pub(crate) fn offer_from(&mut self, side: usize) {
        let offer = self.ours(side).description();
        self.signal_from(side, Signal::Offer(offer));
    }

    pub(crate) fn signal_from(&mut self, side: usize, signal: Signal) {
        let at = self.now + self.link.signaling;
        self.happen(at, Happening::Signal { to: 1 - side, signal });
    }

    fn drain(&mut self, side: usize) {
        let drained = self.ends[side].drain(self.now);
        for transmit in drained.transmits {
            self.sent[side].push((self.now, transmit.destination));
            self.send(side, transmit);
        }
        drained.signals.into_iter().for_each(|signal| self.signal_from(side, signal));
        self.deadlines[side] = drained.deadline;
    }

    /// Lets time pass until `done` or for `span`. True if it was done.
    pub(crate) fn run_until(&mut self, span: Duration, done: impl Fn(&mut Self) -> bool) -> bool {
        let end = self.now + span;
        (0..2).for_each(|side| self.drain(side));
        loop {
            if done(self) {
                return true;
            }
            let deadlines = self.deadlines;
            let queued = self.queue.peek().map(|Reverse((at, _))| *at);
            let next = deadlines.into_iter().flatten().chain(queued).min();
            let Some(next) = next.filter(|at| *at <= end) else {
                self.now = end;
                return false;
            };
            // Foreign agents are given a millisecond, in case their deadlines are over.
            let at_least =
                if queued.is_some_and(|at| at <= self.now) { self.now } else { self.now + MS / 10 };
            self.now = next.max(at_least);
            while let Some(Reverse((at, id))) = self.queue.peek().copied() {
                if at > self.now {
                    break;
                }
                self.queue.pop();
                let happening = self.happenings.remove(&id).unwrap();
                self.deliver(happening);
            }
            for (side, deadline) in deadlines.into_iter().enumerate() {
                if deadline.is_some_and(|at| at <= self.now) {
                    self.ends[side].timeout(self.now);
                    self.drain(side);
                    // One that stays in the past would be a loop without end in a real program.
                    let is_over = self.deadlines[side].is_some_and(|at| at <= self.now);
                    assert!(
                        !is_over || self.ends[side].as_ours().is_none(),
                        "a deadline that is over"
                    );
                }
            }
        }
    }

    pub(crate) fn run(&mut self, span: Duration) {
        self.run_until(span, |_| false);
    }

    fn deliver(&mut self, happening: Happening) {
        let now = self.now;
        let side = match happening {
            Happening::Datagram { to, path, source, bytes } => {
                self.ends[to].receive(now, path, source, &bytes);
                if bytes == b"\x80data" {
                    self.data[to].push((now, path, source));
                }
                to
            }
            Happening::Signal { to, signal } => {
                self.ends[to].signal(now, signal);
                to
            }
            Happening::Gathered { at, candidate } => {
                self.ends[at].local_candidate(now, candidate);
                at
            }
        };
        self.drain(side);
    }

    pub(crate) fn send(&mut self, side: usize, transmit: Transmit) {
        let Transmit { path, destination, bytes } = transmit;
        if self.link.loss > 0.0 && self.rng.chance(self.link.loss) {
            return;
        }
        let place = &self.places[side];
        match path {
            Path::Udp { base } => {
                assert!(place.hosts.contains(&base), "{base} is no socket");
                let other = &self.places[1 - side];
                if place.lan == other.lan && other.hosts.contains(&destination) {
                    return self.arrive(1 - side, Path::Udp { base: destination }, base, bytes);
                }
                let Some(outside) = self.nats[side].outward(base, destination) else { return };
                self.route(side, outside, destination, bytes, false);
            }
            Path::Relay { relayed, .. } => {
                assert_eq!(self.relays.get(&relayed), Some(&(side, path)));
                self.permissions.insert((relayed, destination.ip()));
                self.route(side, relayed, destination, bytes, true);
            }
            Path::TcpActive { base } => {
                let other = &self.places[1 - side];
                let listener = other
                    .hosts
                    .iter()
                    .map(|host| SocketAddr::new(host.ip(), 5001))
                    .find(|l| *l == destination);
                let reachable = other.nat == NatKind::Open || other.lan == place.lan;
                if let Some(listener) = listener.filter(|_| reachable) {
                    let outside = SocketAddr::new(place.public, 20_000 + base.port());
                    self.streams.insert(outside, (side, path));
                    self.arrive(1 - side, Path::TcpPassive { base: listener }, outside, bytes);
                }
            }
            Path::TcpPassive { base } => {
                if let Some((owner, path)) = self.streams.get(&destination).copied() {
                    self.arrive(owner, path, base, bytes);
                }
            }
        }
    }

    /// From an outside address to another.
    fn route(
        &mut self,
        from: usize,
        source: SocketAddr,
        to: SocketAddr,
        bytes: Vec<u8>,
        relayed: bool,
    ) {
        if let Some((owner, path)) = self.relays.get(&to).copied() {
            if self.permissions.contains(&(to, source.ip())) {
                self.arrive_late(owner, path, source, bytes, true);
            }
            return;
        }
        for side in 0..2 {
            // A NAT that turns packets of its own machines around (hairpinning) is not assumed.
            if side == from && !relayed {
                continue;
            }
            if let Some(base) = self.nats[side].inward(to, source) {
                return self.arrive_late(side, Path::Udp { base }, source, bytes, relayed);
            }
            let public = matches!(to.ip(), IpAddr::V4(ip) if !ip.is_private());
            if public
                && self.places[side].nat == NatKind::Open
                && self.places[side].hosts.contains(&to)
            {
                return self.arrive_late(side, Path::Udp { base: to }, source, bytes, relayed);
            }
        }
    }

    fn arrive(&mut self, to: usize, path: Path, source: SocketAddr, bytes: Vec<u8>) {
        self.arrive_late(to, path, source, bytes, false);
    }

    fn arrive_late(
        &mut self,
        to: usize,
        path: Path,
        source: SocketAddr,
        bytes: Vec<u8>,
        relayed: bool,
    ) {
        let blocked = if relayed {
            self.link.relay_blocked
        } else {
            (self.link.direct_blocked || self.link.deaf == Some(to)) && !path.is_tcp()
        };
        if blocked {
            return;
        }
        let delay = if relayed { self.link.relayed } else { self.link.one_way };
        let jitter = match self.link.jitter.as_micros() as u64 {
            0 => Duration::ZERO,
            jitter => Duration::from_micros(self.rng.below(jitter)),
        };
        let detour = match self.link.detour {
            Some((base, detour)) if path == (Path::Udp { base }) => detour,
            _ => Duration::ZERO,
        };
        let at = self.now + delay + jitter + detour;
        self.happen(at, Happening::Datagram { to, path, source, bytes });
    }

    /// Both sides have selected a pair, and what each sends comes by the pair that the other one selected.
    pub(crate) fn is_agreed(&mut self) -> bool {
        let both = (self.ends[0].selected(), self.ends[1].selected());
        let (Some(a), Some(b)) = both else { return false };
        let saved = (self.link.clone(), self.rng.clone());
        self.link.loss = 0.0;
        let mut agreed = true;
        for (from, sends, expects) in [(0, a, b), (1, b, a)] {
            let before = self.next;
            let transmit =
                Transmit { path: sends.0, destination: sends.1, bytes: b"\x80probe".to_vec() };
            self.send(from, transmit);
            match self.happenings.remove(&before) {
                Some(Happening::Datagram { path, source, .. }) => {
                    agreed &= (path, source) == expects
                }
                _ => agreed = false,
            }
            self.queue.retain(|Reverse((_, id))| *id != before);
        }
        (self.link, self.rng) = saved;
        agreed
    }

    /// Data over what a side has selected.
    pub(crate) fn send_data(&mut self, side: usize) -> bool {
        let Some((path, destination)) = self.ends[side].selected() else { return false };
        self.send(side, Transmit { path, destination, bytes: b"\x80data".to_vec() });
        true
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    pub(crate) fn connect(&mut self, within: Duration) -> bool {
        self.offer();
        self.run_until(within, |world| {
            world.ends.iter().all(|end| end.is_connected()) && world.is_agreed()
        })
    }
}
