//! Two namespaces joined by two TUN devices; one thread carries the packets between them through a
//! [`Link`] each way.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use serde::Serialize;

use super::classify::{Class, classify};
use super::model::{Link, Schedule, StreamKind};
use super::namespace::{Namespace, hurry};
use super::record::{Flow, Record, Tag};

/// A way over the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the left namespace to the right one.
    LeftToRight,
    /// And back.
    RightToLeft,
}

/// A running link between two namespaces. TCP is only delayed (and stopped by a blackout), so that
/// signaling is not what is measured; every UDP packet takes part. The schedule of both directions
/// begins with the first RTP packet of either (set-up sees the first delay alone), or by
/// [`Emulator::begin`].
///
/// Everything ends when this is dropped.
pub struct Emulator {
    left: Namespace,
    right: Namespace,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    begin: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    begun: Option<(Instant, f64)>,
    /// Copies of the links' records, refreshed now and then.
    records: [Record; 2],
    names: [Vec<FlowName>; 2],
    payload_bytes: [Vec<u64>; 2],
}

/// What a flow is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct FlowName {
    /// What its packets are.
    pub kind: StreamKind,
    /// UDP ports of sender and receiver.
    pub ports: (u16, u16),
}

/// What one direction did, with the names of its flows.
#[derive(Debug, Clone, Serialize)]
pub struct Recording {
    /// The figures.
    #[serde(flatten)]
    pub record: Record,
    /// By tag.
    pub names: Vec<FlowName>,
    /// By tag: RTP payload offered, without headers and tags; with retransmissions, redundancy and
    /// padding, which cannot be told apart from outside.
    pub payload_bytes: Vec<u64>,
}

impl Recording {
    /// The flows of a kind.
    pub fn flows(&self, kind: StreamKind) -> impl Iterator<Item = (&FlowName, &Flow)> {
        let flows = self.names.iter().zip(&self.record.flows);
        flows.filter(move |(name, _)| name.kind == kind)
    }

    /// Bits a second offered by all flows of a kind.
    pub fn offered_bps(&self, kind: StreamKind, from: Duration, to: Duration) -> f64 {
        self.flows(kind).map(|(_, flow)| flow.offered_bps(from, to)).sum()
    }

    /// RTP payload of a kind that was offered.
    pub fn payload_bytes(&self, kind: StreamKind) -> u64 {
        let flows = self.names.iter().zip(&self.payload_bytes);
        flows.filter(|(name, _)| name.kind == kind).map(|(_, bytes)| bytes).sum()
    }

    /// Packets of a kind that did not come out.
    pub fn dropped_packets(&self, kind: StreamKind) -> u64 {
        self.flows(kind).map(|(_, flow)| flow.dropped_packets).sum()
    }
}

impl Emulator {
    /// The address of the left side's TUN device.
    pub const LEFT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
    /// The address of the right side's TUN device.
    pub const RIGHT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

    /// Makes the namespaces and starts the link; each direction has its own dice.
    ///
    /// # Errors
    ///
    /// Not root, or `/dev/net/tun` or the program `ip` is missing: see [`super::unavailable`].
    pub fn start(to_right: Schedule, to_left: Schedule, seed: u64) -> anyhow::Result<Self> {
        let (left, right) = (Namespace::new()?, Namespace::new()?);
        let tuns = [left.tun(Self::LEFT)?, right.tun(Self::RIGHT)?];
        let shared = Arc::new(Shared::default());
        let runner = Runner {
            tuns,
            links: [Link::new(to_right, seed), Link::new(to_left, !seed)],
            names: [Vec::new(), Vec::new()],
            payload_bytes: [Vec::new(), Vec::new()],
            origin: Instant::now(),
            begun: false,
            shared: shared.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("link".into())
            .spawn(move || runner.run())
            .context("no thread")?;
        Ok(Self { left, right, shared, thread: Some(thread) })
    }

    /// Where whatever is left of the link runs.
    pub fn left(&self) -> &Namespace {
        &self.left
    }

    /// Where whatever is right of the link runs.
    pub fn right(&self) -> &Namespace {
        &self.right
    }

    /// Starts the schedule now, if no RTP packet has.
    pub fn begin(&self) {
        self.shared.begin.store(true, Ordering::Relaxed);
    }

    /// When the schedule began, in this process's time and in Unix milliseconds.
    pub fn begun(&self) -> Option<(Instant, f64)> {
        lock(&self.shared.state).begun
    }

    /// Waits for the schedule to begin.
    ///
    /// # Errors
    ///
    /// It does not within `limit`.
    pub fn wait_begun(&self, limit: Duration) -> anyhow::Result<(Instant, f64)> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(begun) = self.begun() {
                return Ok(begun);
            }
            anyhow::ensure!(Instant::now() < deadline, "no RTP packet within {limit:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What a direction has done so far, to a tenth of a second.
    pub fn recording(&self, direction: Direction) -> Recording {
        let state = lock(&self.shared.state);
        let i = direction as usize;
        Recording {
            record: state.records[i].clone(),
            names: state.names[i].clone(),
            payload_bytes: state.payload_bytes[i].clone(),
        }
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Runner {
    tuns: [File; 2],
    links: [Link<Vec<u8>>; 2],
    names: [Vec<FlowName>; 2],
    payload_bytes: [Vec<u64>; 2],
    origin: Instant,
    begun: bool,
    shared: Arc<Shared>,
}

impl Runner {
    /// At most so many packets are read before others are written.
    const BATCH: usize = 64;
    /// Longest sleep, for the flags; also how old a [`Recording`] may be.
    const TICK: Duration = Duration::from_millis(100);

    fn run(mut self) {
        hurry();
        let mut buffer = vec![0; 65_536];
        let mut published = Duration::ZERO;
        while !self.shared.stop.load(Ordering::Relaxed) {
            self.sleep();
            if self.shared.begin.load(Ordering::Relaxed) {
                self.begin();
            }
            for side in 0..2 {
                self.read(side, &mut buffer);
            }
            for side in 0..2 {
                self.deliver(side);
            }
            let now = self.now();
            if now - published >= Self::TICK {
                published = now;
                self.publish();
            }
        }
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    fn sleep(&self) {
        let now = self.now();
        let wait = self
            .links
            .iter()
            .filter_map(Link::next_deadline)
            .map(|at| at.saturating_sub(now))
            .fold(Self::TICK, Duration::min);
        let mut polled =
            self.tuns.each_ref().map(|tun| PollFd::new(tun.as_fd(), PollFlags::POLLIN));
        // An interruption is as good as a packet.
        let _ = ppoll(&mut polled, Some(TimeSpec::from_duration(wait)), None);
    }

    fn begin(&mut self) {
        if self.begun {
            return;
        }
        self.begun = true;
        let now = Instant::now();
        for link in &mut self.links {
            link.begin(now - self.origin);
        }
        let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        lock(&self.shared.state).begun = Some((now, unix_ms.as_secs_f64() * 1e3));
    }

    fn read(&mut self, side: usize, buffer: &mut [u8]) {
        for _ in 0..Self::BATCH {
            let length = match (&self.tuns[side]).read(buffer) {
                Ok(length) if length > 0 => length,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // Empty for now.
                _ => return,
            };
            let packet = &buffer[..length];
            let Class { kind, ports, payload_bytes } = classify(packet);
            if matches!(kind, StreamKind::Video | StreamKind::Audio) {
                self.begin();
            }
            let now = self.now();
            if kind == StreamKind::Exempt {
                self.links[side].push_exempt(now, length, packet.to_vec());
            } else {
                let tag = self.tag(side, FlowName { kind, ports });
                self.payload_bytes[side][tag] += payload_bytes as u64;
                self.links[side].push(now, tag, kind, length, packet.to_vec());
            }
        }
    }

    /// The number of a flow, a new one for a new flow.
    fn tag(&mut self, side: usize, name: FlowName) -> Tag {
        let names = &mut self.names[side];
        names.iter().position(|n| *n == name).unwrap_or_else(|| {
            if names.len() < Record::MAX_FLOWS {
                names.push(name);
                self.payload_bytes[side].push(0);
            }
            names.len() - 1
        })
    }

    fn deliver(&mut self, side: usize) {
        while let Some(packet) = self.links[side].pop(self.origin.elapsed()) {
            // What the other side's kernel refuses is lost; it hardly can.
            let _ = (&self.tuns[1 - side]).write(&packet);
        }
    }

    fn publish(&self) {
        let records = self.links.each_ref().map(|link| link.record().clone());
        let mut state = lock(&self.shared.state);
        state.records = records;
        state.names.clone_from(&self.names);
        state.payload_bytes.clone_from(&self.payload_bytes);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
