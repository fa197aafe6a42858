//! How fast we may send: an estimate of the bandwidth from transport-wide feedback. Sans-IO, on the
//! time that is passed in.
//!
//! Three signals go in, all from when packets left and arrived:
//! - **queuing delay**: the least one-way delay of the last moments over the least of the last ten
//!   seconds. The least, because the last packet of every picture waits for the others of it, and
//!   because jitter only adds.
//! - **delivery rate**: what arrives while there is a queue is what the path carries.
//! - **dispersion**: how far apart the packets of one burst arrive. A burst that arrives as it was
//!   sent says that the path carries more, without sending more than the pictures themselves.
//!
//! A queue beyond the threshold is drained at once, by sending less than what the path delivers,
//! and then the rate goes back to just below that. Without a queue the rate grows: fast where
//! bursts show room, slowly where they do not. Loss alone only lowers the rate if that also lowers
//! the loss: this is tried out, so that a path that loses at any rate stays usable. The choice
//! and its figures stand in `docs/decisions/0006-congestion-control.md`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::history::PacketResult;
use super::loss::LossController;
use super::windows::{BaseDelay, Bursts, Delivery, Newest, RecentDelay};

/// Bounds of the estimate, bits a second on the wire.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Limits {
    pub(crate) min_bps: f64,
    pub(crate) start_bps: f64,
    pub(crate) max_bps: f64,
}

/// What the estimator is doing; shown in the debug panel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BandwidthState {
    /// Doubling until the path's limit shows.
    #[default]
    Startup,
    /// Growing, or holding just below the limit.
    Cruise,
    /// Sending less than the path carries until its queue is empty.
    Drain,
}

impl BandwidthState {
    /// A word for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Startup => "start-up",
            Self::Cruise => "cruise",
            Self::Drain => "drain",
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Estimator {
    limits: Limits,
    state: BandwidthState,
    /// What may be sent when no queue is to be drained.
    target_bps: f64,
    /// What the path was seen to carry when it was full.
    capacity_bps: Option<f64>,
    /// Sending times are counted from here.
    epoch: Option<Instant>,
    base: BaseDelay,
    recent: RecentDelay,
    newest: Newest,
    delivery: Delivery,
    bursts: Bursts,
    loss: LossController,
    queue_ms: f64,
    /// Smoothed queue and its deviation while the path is not congested: what jitter does.
    quiet_queue_ms: f64,
    noise_ms: f64,
    /// The longest that the newest packets were delayed in the last seconds, and what of the last
    /// moments is not yet counted as usual.
    peak_ms: f64,
    peaks: VecDeque<(Instant, f64)>,
    /// The last report shows a queue that comes out more slowly than usual.
    backlogged: bool,
    /// What the path carries after a slump that this report shows, bits a second.
    slump_bps: Option<f64>,
    over_since: Option<Instant>,
    drain: Option<Drain>,
    last_feedback: Option<Instant>,
    last_growth: Option<Instant>,
    last_startup_step: Option<Instant>,
    rtt: Duration,
    app_limited_since: Option<Instant>,
    last_probe: Option<Instant>,
    /// Reports about packets from before an outage say nothing of the path now.
    ignore_before: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Drain {
    since: Instant,
    /// Share of the capacity to go back to.
    resume: f64,
    least_queue_ms: f64,
    least_at: Instant,
}

impl Estimator {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            state: BandwidthState::Startup,
            target_bps: limits.start_bps,
            capacity_bps: None,
            epoch: None,
            base: BaseDelay::default(),
            recent: RecentDelay::default(),
            newest: Newest::default(),
            delivery: Delivery::default(),
            bursts: Bursts::default(),
            loss: LossController::default(),
            queue_ms: 0.0,
            quiet_queue_ms: 0.0,
            noise_ms: 0.0,
            peak_ms: 0.0,
            peaks: VecDeque::new(),
            backlogged: false,
            slump_bps: None,
            over_since: None,
            drain: None,
            last_feedback: None,
            last_growth: None,
            last_startup_step: None,
            rtt: DEFAULT_RTT,
            app_limited_since: None,
            last_probe: None,
            ignore_before: None,
        }
    }

    pub(crate) fn set_max(&mut self, max_bps: f64) {
        self.limits.max_bps = max_bps.max(self.limits.min_bps);
        self.target_bps = self.target_bps.min(self.limits.max_bps);
    }

    pub(crate) fn state(&self) -> BandwidthState {
        self.state
    }

    /// What may be sent now, bits a second on the wire.
    pub(crate) fn target_bps(&self) -> f64 {
        let target = match (self.drain, self.capacity_bps) {
            (Some(_), Some(capacity)) => {
                let share = 1.0 - self.queue_ms / DRAIN_WITHIN_MS;
                capacity * share.clamp(LEAST_DRAIN_SHARE, MOST_DRAIN_SHARE)
            }
            _ => self.target_bps * self.loss.factor(),
        };
        target.clamp(self.limits.min_bps, self.limits.max_bps)
    }

    /// How fast packets may leave, bits a second: pictures are not spread further than needed, but
    /// a queue on the path is not made longer by a burst.
    pub(crate) fn pacing_bps(&self) -> f64 {
        if self.drain.is_some() {
            return self.target_bps() * DRAIN_PACING;
        }
        let rate = match self.bursts.typical() {
            // The path spreads pictures anyway: in the pacer they let sound pass, in a queue of the
            // path they do not.
            Some(burst) if burst.spread => {
                (self.target_bps() * SPREAD_PACING).max(burst.bps * BURST_PACING)
            }
            // What came as it was sent may be sent a little closer together next time.
            burst => {
                let room = burst.map_or(0.0, |burst| burst.bps * BURST_PACING);
                let rate = (self.target_bps() * PACING_FACTOR).max(room);
                // Small frames of few packets tell nothing of bursts; the large one after them should not wait
                // where the path carries all that is asked of it.
                if self.is_at_ceiling() { rate.max(CEILING_PACING_BPS) } else { rate }
            }
        };
        rate.min(MAX_PACING_BPS.max(self.target_bps() * SPREAD_PACING))
    }

    /// Whether the path carries as much as may be sent, without a queue.
    fn is_at_ceiling(&self) -> bool {
        self.target_bps >= self.limits.max_bps * 0.98 && self.queue_ms < 0.5 * self.threshold_ms()
    }

    /// Queuing delay on the path, milliseconds.
    pub(crate) fn queue_ms(&self) -> f64 {
        self.queue_ms
    }

    /// Share of packets lost in the last second, 0 to 1.
    pub(crate) fn loss_ratio(&self) -> f64 {
        self.loss.recent()
    }

    /// Share of packets that follow a lost one and are lost too, relative to independent loss:
    /// the mean length of a burst of losses.
    pub(crate) fn loss_burst(&self) -> f64 {
        self.loss.burst_length()
    }

    /// What is delivered, bits a second over the last half second.
    pub(crate) fn delivered_bps(&self) -> Option<f64> {
        self.delivery.rate_bps(Duration::from_millis(500))
    }

    /// Round trip as far as feedback tells, its interval included.
    pub(crate) fn set_rtt(&mut self, rtt: Duration) {
        self.rtt = rtt.clamp(Duration::from_millis(1), Duration::from_secs(3));
    }

    /// How long nothing has been reported.
    pub(crate) fn feedback_age(&self, now: Instant) -> Option<Duration> {
        self.last_feedback.map(|at| now.saturating_duration_since(at))
    }

    /// `sent_bps` is what has left in the last half second: growth needs it to be near the target.
    pub(crate) fn on_sent_rate(&mut self, now: Instant, sent_bps: f64) {
        // In a drain it is the drain that limits, and the path is known to be full.
        if self.drain.is_none() && sent_bps < APP_LIMITED_SHARE * self.target_bps {
            self.app_limited_since.get_or_insert(now);
        } else {
            self.app_limited_since = None;
        }
    }

    /// A burst of padding to send now: its size in bytes and its rate in bits a second. The path is
    /// asked whether it carries more when what is sent does not ask it.
    pub(crate) fn poll_probe(&mut self, now: Instant) -> Option<(u32, f64)> {
        let idle = self.app_limited_since.is_some_and(|at| now >= at + PROBE_AFTER);
        let due = self.last_probe.is_none_or(|at| now >= at + PROBE_INTERVAL);
        let wanted = self.target_bps < self.limits.max_bps * 0.98;
        let clear = self.drain.is_none() && self.queue_ms < 0.5 * self.threshold_ms();
        if !(idle && due && wanted && clear) || self.last_feedback.is_none() {
            return None;
        }
        self.last_probe = Some(now);
        let rate = (2.0 * self.target_bps).min(1.1 * self.limits.max_bps);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some kB")]
        let bytes = (rate * PROBE_LENGTH.as_secs_f64() / 8.0).max(PROBE_LEAST_BYTES) as u32;
        Some((bytes, rate))
    }

    /// Takes in what one report says. `results` is in the order of sending.
    pub(crate) fn on_feedback(&mut self, now: Instant, results: &[PacketResult]) {
        let since = self.last_feedback.map(|at| now.saturating_duration_since(at));
        self.last_feedback = Some(now);
        if since.is_some_and(|s| s > OUTAGE.max(4 * self.rtt)) {
            self.after_outage(now);
        }
        let fresh = |r: &&PacketResult| self.ignore_before.is_none_or(|at| r.sent >= at);
        let results: Vec<PacketResult> = results.iter().filter(fresh).copied().collect();
        if results.is_empty() {
            return;
        }
        for result in &results {
            if let Some(arrival_us) = result.arrival_us {
                let delay_us = self.delay_us(result.sent, arrival_us);
                self.base.add(now, delay_us);
                self.recent.add(result.sent, delay_us);
                self.newest.add(arrival_us, delay_us, result.bytes);
                self.delivery.add(arrival_us, result.bytes);
                self.bursts.add(result.sent, arrival_us, result.bytes);
            }
        }
        self.update_queue(now, since.unwrap_or_default());
        let delivered = self.delivery.rate_bps(CAPACITY_WINDOW).unwrap_or(0.0);
        let delivered = self.slump_bps.map_or(delivered, |slump| slump.min(delivered));
        let verdict = self.loss.on_feedback(now, &results, self.rtt);
        if verdict.congested && self.drain.is_none() {
            // The queue is too short to show in the delay, but less rate meant less loss.
            self.capacity_bps = Some(verdict.sustainable(self.target_bps));
            self.target_bps = verdict.sustainable(self.target_bps);
            self.state = BandwidthState::Cruise;
        }
        if let Some(drain) = self.drain {
            self.drain_step(now, drain, delivered);
        } else if self.backlogged || self.is_overused(now) {
            self.begin_drain(now, delivered);
        } else {
            self.grow(now);
        }
        self.target_bps = self.target_bps.clamp(self.limits.min_bps, self.limits.max_bps);
    }

    /// One-way delay plus a constant.
    fn delay_us(&mut self, sent: Instant, arrival_us: i64) -> i64 {
        let epoch = *self.epoch.get_or_insert(sent);
        let us = |d: Duration| i64::try_from(d.as_micros()).unwrap_or(i64::MAX / 4);
        let after = us(sent.saturating_duration_since(epoch));
        arrival_us - (after - us(epoch.saturating_duration_since(sent)))
    }

    fn after_outage(&mut self, now: Instant) {
        self.recent = RecentDelay::default();
        self.newest = Newest::default();
        self.delivery = Delivery::default();
        self.bursts = Bursts::default();
        self.loss = LossController::default();
        self.ignore_before = Some(now.checked_sub(self.rtt).unwrap_or(now));
        self.over_since = None;
        self.drain = None;
        if self.state == BandwidthState::Drain {
            self.state = BandwidthState::Cruise;
        }
    }

    fn update_queue(&mut self, now: Instant, since: Duration) {
        let window = if self.noise_ms > QUIET_NOISE_MS { LONG_WINDOW } else { SHORT_WINDOW };
        let (Some(recent), Some(newest), Some(base)) =
            (self.recent.least_us(window), self.recent.newest_us(), self.base.least_us())
        else {
            return;
        };
        self.slump_bps = self.slump(now, newest, base, since);
        if self.slump_bps.is_some() {
            // Older packets say nothing any more.
            self.recent.keep_newest();
        }
        let recent = if self.slump_bps.is_some() { newest } else { recent };
        self.queue_ms = us_to_ms(recent - base).max(0.0);
        if self.drain.is_none() {
            // Congestion must not pass for jitter: what it adds is cut off.
            let weight = (since.as_secs_f64() / NOISE_TIME_S).min(1.0);
            let cut = self.queue_ms.min(1.5 * self.threshold_ms());
            self.quiet_queue_ms += weight * (cut - self.quiet_queue_ms);
            self.noise_ms += weight * ((cut - self.quiet_queue_ms).abs() - self.noise_ms);
        }
    }

    /// What the path carries now, if that is much less than a moment ago: even the quickest of the
    /// newest packets was later than any of the last seconds, and less arrives, or what arrives out
    /// of that queue comes more slowly.
    fn slump(&mut self, now: Instant, newest: i64, base: i64, since: Duration) -> Option<f64> {
        let newest_ms = us_to_ms(newest - base);
        self.backlogged = false;
        self.peak_ms *= (-since.as_secs_f64() / PEAK_TIME_S).exp();
        while let Some((at, peak)) = self.peaks.front().copied()
            && now >= at + PEAK_COUNTS_AFTER
        {
            self.peaks.pop_front();
            self.peak_ms = self.peak_ms.max(peak.min(self.peak_ms + SUDDEN_RISE_MS));
        }
        self.peaks.push_back((now, newest_ms.min(MAX_PEAK_MS)));
        let usual = self.delivery.rate_bps(USUAL_WINDOW)?;
        if self.noise_ms < SLUMP_NOISE_MS {
            #[expect(clippy::cast_possible_truncation, reason = "some milliseconds")]
            let queued_us = base + (self.threshold_ms() * 1000.0) as i64;
            let carried = self.newest.backlog_bps(queued_us);
            self.backlogged = carried.is_some_and(|carried| carried < SLUMP * usual);
            if self.backlogged {
                return carried;
            }
        }
        let arrives = self.delivery.rate_bps(CAPACITY_WINDOW)?;
        (newest_ms > self.peak_ms + SUDDEN_RISE_MS && arrives < SLUMP * usual).then_some(arrives)
    }

    /// Queuing delay that means congestion.
    fn threshold_ms(&self) -> f64 {
        (THRESHOLD_MS + 0.3 * self.quiet_queue_ms + 2.0 * self.noise_ms).min(MAX_THRESHOLD_MS)
    }

    fn is_overused(&mut self, now: Instant) -> bool {
        let threshold = self.threshold_ms();
        if self.queue_ms <= threshold {
            self.over_since = None;
            return false;
        }
        let since = *self.over_since.get_or_insert(now);
        self.queue_ms > SUDDEN_QUEUE * threshold
            || now.saturating_duration_since(since) >= OVERUSE_TIME
    }

    fn begin_drain(&mut self, now: Instant, delivered: f64) {
        // A queue that our own slow growth explains needs little room afterwards; one that came
        // suddenly is somebody else's, or a smaller path: leave room (and let flows converge).
        let expected = self.capacity_bps.unwrap_or(0.0);
        let explained = delivered > 0.9 * expected && self.state == BandwidthState::Cruise;
        let resume = if explained { RESUME_SHARE } else { RESUME_SHARE_SURPRISED };
        // Behind a long queue all that arrives is what the path carries. Behind a short one, what
        // arrived before may have left it room: one surprise does not take more than half.
        let long = self.slump_bps.is_some() || self.queue_ms > LONG_QUEUE * self.threshold_ms();
        let before = self.delivery.rate_bps(LONGER_WINDOW).unwrap_or(0.0);
        let (arrived, least) = if long { (delivered, 0.3) } else { (delivered.max(before), 0.5) };
        let sustained = self.loss.without_loss(arrived);
        let capacity = sustained.clamp(least * self.target_bps, self.target_bps);
        self.capacity_bps = Some(capacity);
        self.state = BandwidthState::Drain;
        self.drain =
            Some(Drain { since: now, resume, least_queue_ms: self.queue_ms, least_at: now });
    }

    fn drain_step(&mut self, now: Instant, mut drain: Drain, delivered: f64) {
        let quiet = (0.35 * self.threshold_ms()).max(self.quiet_queue_ms);
        let full = now.saturating_duration_since(drain.since) >= CAPACITY_WINDOW + self.rtt / 2;
        if self.slump_bps.is_some() && delivered > 0.0 {
            let sustained = self.loss.without_loss(delivered);
            self.capacity_bps = self.capacity_bps.map(|capacity| capacity.min(sustained));
        } else if full && self.queue_ms > self.threshold_ms() && delivered > 0.0 {
            // The path is full: what arrives is what it carries. A drop shows within the window.
            let delivered = self.loss.without_loss(delivered);
            let capacity = self.capacity_bps.unwrap_or(delivered);
            // Later measurements come from our own smaller rate if the queue is short.
            let capacity = if delivered < capacity || self.queue_ms > 1.5 * self.threshold_ms() {
                0.5 * capacity + 0.5 * delivered
            } else {
                capacity
            };
            self.capacity_bps = Some(capacity);
        }
        if self.queue_ms < drain.least_queue_ms - 1.0 {
            drain.least_queue_ms = self.queue_ms;
            drain.least_at = now;
        }
        let stuck = now.saturating_duration_since(drain.least_at) > STUCK_AFTER + 2 * self.rtt;
        if stuck && now.saturating_duration_since(drain.since) > STUCK_AFTER + 2 * self.rtt {
            // Sending less does not help: the delay is the path's own now, or the queue is filled
            // by somebody who does not mind it.
            self.base.rebase(now, self.recent.least_us(SHORT_WINDOW));
            self.queue_ms = 0.0;
        }
        if self.queue_ms <= quiet || stuck {
            self.target_bps = self.capacity_bps.unwrap_or(self.target_bps) * drain.resume;
            self.drain = None;
            self.over_since = None;
            self.state = BandwidthState::Cruise;
            self.last_growth = Some(now);
            self.bursts.clear();
        } else {
            self.drain = Some(drain);
        }
    }

    fn grow(&mut self, now: Instant) {
        let dt = self.last_growth.map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64());
        self.last_growth = Some(now);
        let burst = self.bursts.typical();
        if self.queue_ms > 0.5 * self.threshold_ms() || self.loss.is_testing() {
            if self.state == BandwidthState::Startup && self.queue_ms > 0.5 * self.threshold_ms() {
                self.state = BandwidthState::Cruise;
            }
            return;
        }
        if self.state == BandwidthState::Startup {
            let step = self.rtt.max(STARTUP_STEP);
            if self.last_startup_step.is_some_and(|at| now < at + step) {
                return;
            }
            self.last_startup_step = Some(now);
            self.bursts.clear();
            match burst {
                Some(burst) if burst.spread && BURST_TRUST * burst.bps < 2.0 * self.target_bps => {
                    self.target_bps = self.target_bps.max(BURST_TRUST * burst.bps);
                    self.state = BandwidthState::Cruise;
                }
                Some(_) => self.target_bps *= 2.0,
                // Jitter hides what bursts would say.
                None => self.target_bps *= STARTUP_BLIND,
            }
            return;
        }
        let limited = self.app_limited_since.is_some();
        let probed = self
            .last_probe
            .is_some_and(|at| now.saturating_duration_since(at) < PROBE_ANSWER + self.rtt);
        if limited && !probed {
            return;
        }
        let headroom = burst.map_or(UNKNOWN_HEADROOM, |b| b.bps / self.target_bps);
        let rate = ((headroom - LEAST_HEADROOM) * GROWTH_PER_HEADROOM).clamp(0.0, FAST_GROWTH);
        if probed && headroom > 1.5 {
            self.target_bps = self.target_bps.max(BURST_TRUST * burst.map_or(0.0, |b| b.bps));
            self.last_probe = Some(now.checked_sub(PROBE_ANSWER + self.rtt).unwrap_or(now));
            return;
        }
        // Slow growth goes with the root of the rate, so that of two flows the smaller gains.
        let slow = SLOW_GROWTH_BPS * (self.target_bps / 1e6).sqrt() * dt;
        self.target_bps += slow + self.target_bps * ((rate * dt).exp() - 1.0);
    }
}

#[expect(clippy::cast_precision_loss, reason = "microseconds of delay")]
fn us_to_ms(us: i64) -> f64 {
    us as f64 / 1000.0
}

/// Round trip assumed until one is known.
const DEFAULT_RTT: Duration = Duration::from_millis(100);
/// A standing queue of this length is congestion on a path without jitter. Pictures at a rate just
/// below the path's already make half of it.
const THRESHOLD_MS: f64 = 10.0;
const MAX_THRESHOLD_MS: f64 = 80.0;
/// How long the queue has to be beyond the threshold, unless it is far beyond.
const OVERUSE_TIME: Duration = Duration::from_millis(70);
/// Times the threshold.
const SUDDEN_QUEUE: f64 = 2.5;
const LONG_QUEUE: f64 = 4.0;
/// More than this is jitter: the least delay needs more packets.
const QUIET_NOISE_MS: f64 = 5.0;
/// Two pictures at 30 fps and one report.
const SHORT_WINDOW: Duration = Duration::from_millis(80);
/// With jitter the least delay needs more packets.
const LONG_WINDOW: Duration = Duration::from_millis(200);
/// Long enough for a few pictures, short enough to see a drop at once.
const CAPACITY_WINDOW: Duration = Duration::from_millis(130);
const LONGER_WINDOW: Duration = Duration::from_millis(300);
const USUAL_WINDOW: Duration = Duration::from_millis(500);
/// Less than this share of the usual arrives.
const SLUMP: f64 = 0.75;
/// With more jitter four packets say too little.
const SLUMP_NOISE_MS: f64 = 12.0;
const SUDDEN_RISE_MS: f64 = 20.0;
const PEAK_TIME_S: f64 = 5.0;
/// What is new is not usual yet.
const PEAK_COUNTS_AFTER: Duration = Duration::from_millis(150);
const MAX_PEAK_MS: f64 = 200.0;
const NOISE_TIME_S: f64 = 3.0;
/// A drain aims to be over in this time.
const DRAIN_WITHIN_MS: f64 = 350.0;
const LEAST_DRAIN_SHARE: f64 = 0.35;
const MOST_DRAIN_SHARE: f64 = 0.88;
const DRAIN_PACING: f64 = 1.15;
/// Back to this share of the path after a drain.
const RESUME_SHARE: f64 = 0.955;
const RESUME_SHARE_SURPRISED: f64 = 0.88;
/// A drain that does not shorten the queue for this long is given up.
const STUCK_AFTER: Duration = Duration::from_millis(1200);
/// A picture leaves in less than half of its time (libwebrtc `pacing_controller.h`,
/// `kDefaultPaceMultiplier`).
const PACING_FACTOR: f64 = 2.5;
/// Times what bursts are known to get through with.
const BURST_PACING: f64 = 1.5;
/// Enough for a picture to leave before the next one.
const SPREAD_PACING: f64 = 1.2;
const MAX_PACING_BPS: f64 = 25e6;
/// A frame of 40 kB, a page of text, leaves within 80 ms. A slower path shows by how the burst arrives.
const CEILING_PACING_BPS: f64 = 4e6;
/// Share of a burst's rate that is believed to last.
const BURST_TRUST: f64 = 0.85;
/// Growth a second, as an exponent, by how much more than the target bursts get through with.
const GROWTH_PER_HEADROOM: f64 = 0.8;
const LEAST_HEADROOM: f64 = 1.08;
const FAST_GROWTH: f64 = 0.8;
/// Where jitter hides what bursts would say.
const UNKNOWN_HEADROOM: f64 = 1.5;
/// Growth a second at 1 Mbps where there is no headroom.
const SLOW_GROWTH_BPS: f64 = 20_000.0;
const STARTUP_BLIND: f64 = 1.3;
const STARTUP_STEP: Duration = Duration::from_millis(90);
/// Less than this share of the target sent, and the target is not tested by it.
const APP_LIMITED_SHARE: f64 = 0.7;
const PROBE_AFTER: Duration = Duration::from_millis(500);
const PROBE_INTERVAL: Duration = Duration::from_secs(3);
const PROBE_LENGTH: Duration = Duration::from_millis(20);
const PROBE_LEAST_BYTES: f64 = 6_000.0;
const PROBE_ANSWER: Duration = Duration::from_millis(300);
/// No report for this long is an outage.
const OUTAGE: Duration = Duration::from_millis(400);
