//! One direction of a link, sans-IO and on virtual time: times are since any origin that the caller
//! likes, and go forwards only.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::Serialize;

use super::random::Random;
use super::record::{Drop, Record, Tag};

/// What a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StreamKind {
    /// RTP of another payload type than the audio ones: video, its retransmissions and padding.
    Video,
    /// RTP of one of the payload types of sound.
    Audio,
    /// SRTCP.
    Rtcp,
    /// Any other UDP: STUN, DTLS, data channels.
    OtherUdp,
    /// TCP, ICMP and whatever else: not impaired.
    Exempt,
}

/// How a link treats what is pushed into it. [`Conditions::open`] with fields changed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Conditions {
    /// Propagation, one way.
    pub delay: Duration,
    /// Added to `delay` for each packet by itself, uniform between zero and this.
    pub jitter: Duration,
    /// Whether a packet may overtake another because its jitter was less. If not (the usual case on
    /// the Internet, where a queue makes the jitter), it waits for the one before it.
    pub jitter_reorders: bool,
    /// Random loss.
    pub loss: Loss,
    /// Serialization; `None` takes no time.
    pub rate: Option<Rate>,
    /// Some packets take longer than those behind them.
    pub reordering: Reordering,
    /// Probability that a packet comes out twice in a row.
    pub duplication: f64,
    /// Nothing gets in and nothing comes out: what is pushed, and what would have come out, is gone.
    pub blackout: bool,
    /// Packets of one kind take a way that is so much longer.
    pub detour: Option<(StreamKind, Duration)>,
}

/// Random loss as of Gilbert: all is lost in the bad state, nothing in the good one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Loss {
    /// Share of packets lost in the long run, 0 to 1.
    pub mean: f64,
    /// Mean length of a run of lost packets. 1 (and everything up to the `1 / (1 - mean)` of a coin)
    /// means that each packet is lost or not regardless of the others.
    pub burst: f64,
}

/// A bottleneck with a drop-tail queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Bits of IP packets a second.
    pub bps: u64,
    /// What would have to wait longer than this at the present rate is dropped.
    pub queue: Duration,
}

/// Packets that are overtaken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reordering {
    /// Probability for each packet.
    pub probability: f64,
    /// How much longer it takes.
    pub extra: Duration,
}

impl Conditions {
    /// Only a delay.
    pub const fn open(delay: Duration) -> Self {
        Self {
            delay,
            jitter: Duration::ZERO,
            jitter_reorders: false,
            loss: Loss { mean: 0.0, burst: 1.0 },
            rate: None,
            reordering: Reordering { probability: 0.0, extra: Duration::ZERO },
            duplication: 0.0,
            blackout: false,
            detour: None,
        }
    }

    /// With a rate and a queue.
    #[must_use]
    pub const fn with_rate(self, bps: u64, queue: Duration) -> Self {
        Self { rate: Some(Rate { bps, queue }), ..self }
    }

    /// With loss.
    #[must_use]
    pub const fn with_loss(self, mean: f64, burst: f64) -> Self {
        Self { loss: Loss { mean, burst }, ..self }
    }

    /// With jitter that keeps the order.
    #[must_use]
    pub const fn with_jitter(self, jitter: Duration) -> Self {
        Self { jitter, ..self }
    }

    /// With a longer way for packets of one kind.
    #[must_use]
    pub const fn with_detour(self, kind: StreamKind, extra: Duration) -> Self {
        Self { detour: Some((kind, extra)), ..self }
    }

    /// Dead.
    #[must_use]
    pub const fn dead(self) -> Self {
        Self { blackout: true, ..self }
    }
}

/// Conditions over time, from [`Link::begin`] on.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    first: Conditions,
    /// In order of time.
    changes: Vec<(Duration, Conditions)>,
}

impl Schedule {
    /// The same for ever.
    pub const fn constant(conditions: Conditions) -> Self {
        Self { first: conditions, changes: Vec::new() }
    }

    /// And from `at` on, something else. Calls in order of time.
    #[must_use]
    pub fn then(mut self, at: Duration, conditions: Conditions) -> Self {
        debug_assert!(self.changes.last().is_none_or(|(last, _)| *last <= at));
        self.changes.push((at, conditions));
        self
    }

    fn at(&self, since_begin: Duration) -> &Conditions {
        let later = self.changes.partition_point(|(at, _)| *at <= since_begin);
        later.checked_sub(1).map_or(&self.first, |i| &self.changes[i].1)
    }

    fn next_change(&self, since_begin: Duration) -> Option<Duration> {
        let later = self.changes.partition_point(|(at, _)| *at <= since_begin);
        self.changes.get(later).map(|(at, _)| *at)
    }
}

struct Packet<T> {
    content: T,
    bytes: usize,
    tag: Tag,
    kind: StreamKind,
    /// Not recorded: pushed before the beginning, or exempt.
    silent: bool,
}

struct Waiting<T> {
    packet: Packet<T>,
    /// Still to be serialized.
    bits: f64,
}

/// One direction. Until [`Link::begin`] it only delays, by the schedule's first delay.
pub struct Link<T> {
    schedule: Schedule,
    begun: Option<Duration>,
    now: Duration,
    /// Before the bottleneck; the front is being serialized.
    queue: VecDeque<Waiting<T>>,
    queued_bits: f64,
    /// Behind the bottleneck, by arrival; the number keeps equal times in order.
    flying: BTreeMap<(Duration, u64), Packet<T>>,
    number: u64,
    /// No packet that keeps the order arrives before this.
    in_order: Duration,
    bad: bool,
    dice: Dice,
    record: Record,
}

struct Dice {
    loss: Random,
    jitter: Random,
    reordering: Random,
    duplication: Random,
}

impl<T: Clone> Link<T> {
    /// One that rolls its dice by `seed`.
    pub fn new(schedule: Schedule, seed: u64) -> Self {
        Self {
            schedule,
            begun: None,
            now: Duration::ZERO,
            queue: VecDeque::new(),
            queued_bits: 0.0,
            flying: BTreeMap::new(),
            number: 0,
            in_order: Duration::ZERO,
            bad: false,
            dice: Dice {
                loss: Random::new(seed, 1),
                jitter: Random::new(seed, 2),
                reordering: Random::new(seed, 3),
                duplication: Random::new(seed, 4),
            },
            record: Record::default(),
        }
    }

    /// Starts the schedule and the record; further calls change nothing.
    pub fn begin(&mut self, now: Duration) {
        self.advance(now);
        self.begun.get_or_insert(now);
    }

    /// Takes a packet of so many bytes. A link that has not begun only delays it.
    pub fn push(&mut self, now: Duration, tag: Tag, kind: StreamKind, bytes: usize, content: T) {
        self.advance(now);
        let Some(since) = self.since_begin(now) else {
            self.push_exempt(now, bytes, content);
            return;
        };
        self.record.offered(since, tag, bytes);
        let conditions = *self.schedule.at(since);
        if conditions.blackout {
            self.record.dropped(since, tag, Drop::Blackout);
            return;
        }
        let packet = Packet { content, bytes, tag, kind, silent: false };
        let Some(rate) = conditions.rate else {
            // What an earlier rate still holds back goes first.
            if self.queue.is_empty() {
                self.launch(now, packet);
            } else {
                self.enqueue(packet);
            }
            return;
        };
        let wait = seconds(self.queued_bits / bps(rate));
        if wait > rate.queue {
            self.record.dropped(since, tag, Drop::Queue);
            return;
        }
        self.record.queue_delay(since, wait);
        self.enqueue(packet);
    }

    /// Takes a packet that is only delayed (and stopped by a blackout), and not recorded.
    pub fn push_exempt(&mut self, now: Duration, bytes: usize, content: T) {
        self.advance(now);
        let conditions = *self.conditions(now);
        if !conditions.blackout {
            let kind = StreamKind::Exempt;
            let packet = Packet { content, bytes, tag: 0, kind, silent: true };
            self.fly(now + conditions.delay, packet);
        }
    }

    /// The next packet that has arrived by `now`.
    pub fn pop(&mut self, now: Duration) -> Option<T> {
        self.advance(now);
        loop {
            let entry = self.flying.first_entry()?;
            let at = entry.key().0;
            if at > now {
                return None;
            }
            let packet = entry.remove();
            let since = self.since_begin(at);
            if self.conditions(at).blackout {
                if let Some(since) = since.filter(|_| !packet.silent) {
                    self.record.dropped(since, packet.tag, Drop::Blackout);
                }
                continue;
            }
            if let Some(since) = since.filter(|_| !packet.silent) {
                self.record.delivered(since, packet.tag, packet.bytes);
            }
            return Some(packet.content);
        }
    }

    /// When [`Link::pop`] is worth a call: the next arrival, or the next step of the queue.
    pub fn next_deadline(&self) -> Option<Duration> {
        let arrival = self.flying.first_key_value().map(|((at, _), _)| *at);
        let step = self.next_departure().map(|(at, _)| at);
        arrival.into_iter().chain(step).min()
    }

    /// What it did since it began.
    pub fn record(&self) -> &Record {
        &self.record
    }

    fn since_begin(&self, now: Duration) -> Option<Duration> {
        self.begun.and_then(|begun| now.checked_sub(begun))
    }

    fn conditions(&self, now: Duration) -> &Conditions {
        self.since_begin(now).map_or(&self.schedule.first, |since| self.schedule.at(since))
    }

    fn enqueue(&mut self, packet: Packet<T>) {
        #[expect(clippy::cast_precision_loss, reason = "bits of a packet")]
        let bits = packet.bytes as f64 * 8.0;
        self.queued_bits += bits;
        self.queue.push_back(Waiting { packet, bits });
    }

    /// When the front of the queue has been serialized (true), or the conditions change before (false).
    fn next_departure(&self) -> Option<(Duration, bool)> {
        let front = self.queue.front()?;
        let done = match self.conditions(self.now).rate {
            Some(rate) => self.now + seconds(front.bits / bps(rate)),
            None => self.now,
        };
        let begun = self.begun.unwrap_or_default();
        let change = self
            .since_begin(self.now)
            .and_then(|since| self.schedule.next_change(since))
            .map(|at| begun + at);
        match change {
            Some(change) if change < done => Some((change, false)),
            _ => Some((done, true)),
        }
    }

    /// Serializes until `now`.
    fn advance(&mut self, now: Duration) {
        while let Some((at, done)) = self.next_departure().filter(|(at, _)| *at <= now) {
            self.serialize(at);
            if done && let Some(front) = self.queue.pop_front() {
                // Whatever rounding left over.
                self.queued_bits = (self.queued_bits - front.bits).max(0.0);
                self.launch(at, front.packet);
            }
            if self.queue.is_empty() {
                self.queued_bits = 0.0;
            }
        }
        self.serialize(now);
    }

    /// Moves the clock within constant conditions.
    fn serialize(&mut self, now: Duration) {
        let elapsed = now.saturating_sub(self.now).as_secs_f64();
        let rate = self.conditions(self.now).rate;
        if let (Some(front), Some(rate)) = (self.queue.front_mut(), rate) {
            let sent = (elapsed * bps(rate)).min(front.bits);
            front.bits -= sent;
            self.queued_bits = (self.queued_bits - sent).max(0.0);
        }
        self.now = self.now.max(now);
    }

    /// Sends a packet on its way after the bottleneck.
    fn launch(&mut self, now: Duration, packet: Packet<T>) {
        let conditions = *self.conditions(now);
        if self.is_lost(conditions.loss) {
            if let Some(since) = self.since_begin(now) {
                self.record.dropped(since, packet.tag, Drop::Loss);
            }
            return;
        }
        let mut arrival = now + conditions.delay;
        if !conditions.jitter.is_zero() {
            arrival += self.dice.jitter.below(conditions.jitter);
        }
        let reordering = conditions.reordering;
        if reordering.probability > 0.0 && self.dice.reordering.chance(reordering.probability) {
            arrival += reordering.extra;
        } else if !conditions.jitter_reorders {
            arrival = arrival.max(self.in_order);
            self.in_order = arrival;
        }
        // Behind what keeps the order: nothing waits for what is under way there.
        if let Some((_, extra)) = conditions.detour.filter(|(kind, _)| *kind == packet.kind) {
            arrival += extra;
        }
        if conditions.duplication > 0.0 && self.dice.duplication.chance(conditions.duplication) {
            let Packet { bytes, tag, kind, silent, .. } = packet;
            let content = packet.content.clone();
            self.fly(arrival, Packet { content, bytes, tag, kind, silent });
        }
        self.fly(arrival, packet);
    }

    fn fly(&mut self, arrival: Duration, packet: Packet<T>) {
        self.number += 1;
        self.flying.insert((arrival, self.number), packet);
    }

    fn is_lost(&mut self, loss: Loss) -> bool {
        if loss.mean <= 0.0 {
            self.bad = false;
            return false;
        }
        let mean = loss.mean.min(1.0);
        if mean >= 1.0 || loss.burst * (1.0 - mean) <= 1.0 {
            return self.dice.loss.chance(mean);
        }
        // Stationary probability of the bad state: enter / (enter + leave) = mean.
        let leave = 1.0 / loss.burst;
        let enter = leave * mean / (1.0 - mean);
        self.bad = self.dice.loss.chance(if self.bad { 1.0 - leave } else { enter });
        self.bad
    }
}

fn seconds(seconds: f64) -> Duration {
    // Rounded up, so that a deadline never lies before its event.
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX / 4) + Duration::from_nanos(1)
}

#[expect(clippy::cast_precision_loss, reason = "a rate")]
fn bps(rate: Rate) -> f64 {
    rate.bps.max(1) as f64
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;
