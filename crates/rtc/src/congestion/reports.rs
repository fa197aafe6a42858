//! How fast we may send to a remote peer without transport-wide feedback (aiortc, say): by its receiver reports
//! (RFC 3550 §6.4.2), which come about once a second, below the bitrate that it names in REMB
//! (draft-alvestrand-rmcat-remb-03). Sans-IO, on the time that is passed in.
//!
//! The rate grows while reports show neither loss nor a longer round trip, fast until the path's limit was found once.
//! It is found where the round trip grows, or where packets are lost and fewer are once less is sent; loss that stays
//! is the path's own.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::estimator::Limits;

/// What a report block says of our video.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Report {
    /// Share of packets lost since the block before, 0 to 1.
    pub(crate) loss: f64,
    pub(crate) rtt: Option<Duration>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct ReportEstimator {
    limits: Limits,
    target_bps: f64,
    /// REMB, the last.
    ceiling_bps: Option<f64>,
    /// Round trips of the last reports.
    rtts: VecDeque<(Instant, Duration)>,
    last_report: Option<Instant>,
    loss: f64,
    /// Loss that does not depend on our rate.
    inherent: f64,
    /// Less is sent because of loss.
    trial: Option<Trial>,
    found_limit: bool,
}

#[derive(Debug, Clone, Copy)]
struct Trial {
    since: Instant,
    loss_before: f64,
    /// Whether it is the second in a row: what the path carries is overrated while its queue fills.
    again: bool,
}

impl ReportEstimator {
    /// Begins with `target_bps`.
    pub(crate) fn new(limits: Limits, target_bps: f64) -> Self {
        Self {
            limits,
            target_bps,
            ceiling_bps: None,
            rtts: VecDeque::new(),
            last_report: None,
            loss: 0.0,
            inherent: 0.0,
            trial: None,
            found_limit: false,
        }
    }

    pub(crate) fn set_max(&mut self, max_bps: f64) {
        self.limits.max_bps = max_bps.max(self.limits.min_bps);
    }

    /// What may be sent now, bits a second on the wire.
    pub(crate) fn target_bps(&self) -> f64 {
        let target = self.ceiling_bps.map_or(self.target_bps, |most| most.min(self.target_bps));
        target.clamp(self.limits.min_bps, self.limits.max_bps)
    }

    /// How fast packets may leave, bits a second.
    pub(crate) fn pacing_bps(&self) -> f64 {
        self.target_bps() * PACING_FACTOR
    }

    /// Share of packets lost by the last report.
    pub(crate) fn loss_ratio(&self) -> f64 {
        self.loss
    }

    /// Queuing delay by the last report.
    pub(crate) fn queue(&self) -> Duration {
        let least = self.rtts.iter().map(|(_, rtt)| *rtt).min();
        let last = self.rtts.back().map(|(_, rtt)| *rtt);
        last.zip(least).map_or(Duration::ZERO, |(last, least)| last - least)
    }

    pub(crate) fn on_remb(&mut self, bps: f64) {
        // It comes as a float, which need not be a number.
        if bps.is_finite() && bps >= 0.0 {
            self.ceiling_bps = Some(bps);
        }
    }

    /// A report came; `sent_bps` left in the last moments.
    pub(crate) fn on_report(&mut self, now: Instant, report: Report, sent_bps: f64) {
        let since = self.last_report.map_or(FIRST_INTERVAL, |at| now.saturating_duration_since(at));
        if since < LEAST_INTERVAL {
            return;
        }
        self.last_report = Some(now);
        self.loss = report.loss;
        let since_s = since.min(MOST_INTERVAL).as_secs_f64();
        let before = self.queue();
        if let Some(rtt) = report.rtt {
            self.rtts.push_back((now, rtt));
        }
        while self.rtts.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) > MEMORY) {
            self.rtts.pop_front();
        }
        let queue = self.queue();
        self.inherent = self.inherent.min(0.9 * self.inherent + 0.1 * report.loss);
        let excess = (report.loss - self.inherent).max(0.0);
        // What was sent between the reports took this much longer to get through.
        let grown_s = queue.saturating_sub(before).as_secs_f64();
        let carried = sent_bps * (1.0 - excess) * since_s / (since_s + grown_s);
        let mut again = false;
        if let Some(trial) = self.trial
            && now >= trial.since + SETTLING
        {
            self.trial = None;
            // Less was sent and as much lost.
            let stays = report.loss > STAYS * trial.loss_before;
            if stays && trial.again {
                self.inherent = report.loss;
                self.found_limit = false;
                return;
            }
            again = stays;
        }
        if queue > LONG_QUEUE || excess > LITTLE_LOSS && queue > LONG_QUEUE / 2 {
            self.reduce(carried);
        } else if excess > MUCH_LOSS {
            if self.trial.is_none() {
                self.trial = Some(Trial { since: now, loss_before: report.loss, again });
                self.reduce(carried);
            }
        } else if excess < LITTLE_LOSS
            && queue < LONG_QUEUE / 2
            && self.trial.is_none()
            && sent_bps >= APP_LIMITED_SHARE * self.target_bps()
        {
            let growth = if self.found_limit { SLOW_GROWTH } else { FAST_GROWTH };
            let most = self.ceiling_bps.unwrap_or(self.limits.max_bps).min(self.limits.max_bps);
            let grown = self.target_bps * (1.0 + growth * since_s);
            self.target_bps = grown.min(most.max(self.target_bps));
        }
    }

    fn reduce(&mut self, carried_bps: f64) {
        self.found_limit = true;
        let target = self.target_bps();
        let carried = carried_bps.clamp(MOST_REDUCTION * target, target);
        self.target_bps = (RESUME_SHARE * carried).max(self.limits.min_bps);
    }
}

/// Of the first report, about which nothing else is known.
const FIRST_INTERVAL: Duration = Duration::from_millis(500);
/// Reports sooner than this say too little.
const LEAST_INTERVAL: Duration = Duration::from_millis(150);
const MOST_INTERVAL: Duration = Duration::from_secs(2);
/// The least round trip of this time is that of an empty path.
const MEMORY: Duration = Duration::from_secs(30);
/// More than what jitter adds to a single measurement.
const LONG_QUEUE: Duration = Duration::from_millis(100);
/// libwebrtc `send_side_bandwidth_estimation.cc`: below 2 % the rate grows, by 8 % a second. There it sinks above 10 %
/// only, as no trial tells the path's own loss.
const LITTLE_LOSS: f64 = 0.02;
const MUCH_LOSS: f64 = 0.04;
const SLOW_GROWTH: f64 = 0.08;
/// Until the limit was found: three times as much in three seconds.
const FAST_GROWTH: f64 = 0.5;
/// Until the encoder has followed and its packets are reported on.
const SETTLING: Duration = Duration::from_millis(600);
/// Loss that is this share of what it was did not come from our rate.
const STAYS: f64 = 0.7;
/// The target is at most reduced to this share at once.
const MOST_REDUCTION: f64 = 0.3;
/// Of what the path was seen to carry, so that its queue gets shorter.
const RESUME_SHARE: f64 = 0.85;
const PACING_FACTOR: f64 = 1.5;
/// Less than this share of the target sent, and the target is not tested by it.
const APP_LIMITED_SHARE: f64 = 0.7;

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { min_bps: 80_000.0, start_bps: 800_000.0, max_bps: 2_790_000.0 };

    struct Path {
        rate_bps: f64,
        queue_ms: f64,
        loss: f64,
        /// Every so often, ms.
        reports: u64,
        /// What the remote peer's own estimate comes to.
        remb_bps: Option<f64>,
    }

    /// A flow at its target over a drop-tail link with 50 ms of round trip; targets by second.
    fn simulate(path: &Path, seconds: u64) -> Vec<f64> {
        let start = Instant::now();
        let mut estimator = ReportEstimator::new(LIMITS, LIMITS.start_bps);
        let (mut backlog, mut sent, mut lost) = (0.0f64, 0.0, 0.0);
        let mut targets = Vec::new();
        for ms in 1..=seconds * 1000 {
            let now = start + Duration::from_millis(ms);
            let bits = estimator.target_bps() / 1000.0;
            let arriving = bits * (1.0 - path.loss);
            backlog = (backlog - path.rate_bps / 1000.0).max(0.0) + arriving;
            let dropped = (backlog - path.rate_bps * path.queue_ms / 1000.0).max(0.0);
            backlog -= dropped;
            sent += bits;
            lost += bits - arriving + dropped;
            if ms % path.reports == 0 {
                let queue = Duration::from_secs_f64(backlog / path.rate_bps);
                let rtt = Some(Duration::from_millis(50) + queue);
                estimator.on_report(now, Report { loss: lost / sent, rtt }, estimator.target_bps());
                (sent, lost) = (0.0, 0.0);
                if let Some(remb) = path.remb_bps {
                    estimator.on_remb(remb);
                }
            }
            if ms % 1000 == 0 {
                targets.push(estimator.target_bps());
            }
        }
        println!("{:?}", targets.iter().map(|t| (t / 1000.0).round()).collect::<Vec<_>>());
        targets
    }

    fn free() -> Path {
        Path { rate_bps: 100e6, queue_ms: 300.0, loss: 0.0, reports: 1000, remb_bps: None }
    }

    #[test]
    fn a_free_link_is_used_to_the_ceiling() {
        for reports in [300, 1000, 2000] {
            let targets = simulate(&Path { reports, ..free() }, 12);
            assert!(targets[11] >= 0.99 * LIMITS.max_bps, "{targets:?}");
        }
    }

    #[test]
    fn a_narrow_link_is_not_flooded() {
        for (queue_ms, reports) in
            [(100.0, 1000), (300.0, 1000), (300.0, 400), (2000.0, 1000), (30.0, 500)]
        {
            let targets = simulate(&Path { rate_bps: 300_000.0, queue_ms, reports, ..free() }, 60);
            assert!(targets[4] <= 330_000.0, "{targets:?}");
            let mean = targets[10..].iter().sum::<f64>() / 50.0;
            assert!((200_000.0..=310_000.0).contains(&mean), "{mean}");
            assert!(targets[10..].iter().all(|target| *target <= 400_000.0), "{targets:?}");
        }
    }

    #[test]
    fn remb_is_a_ceiling() {
        let targets = simulate(&Path { remb_bps: Some(1.2e6), ..free() }, 12);
        assert!(targets[11] >= 1.19e6 && targets.iter().all(|t| *t <= 1.2e6), "{targets:?}");
        let mut estimator = ReportEstimator::new(LIMITS, 1e6);
        for (remb, target) in
            [(3e5, 3e5), (0.0, 8e4), (5e6, 1e6), (f64::NAN, 1e6), (f64::INFINITY, 1e6)]
        {
            estimator.on_remb(remb);
            assert!((estimator.target_bps() - target).abs() < 1.0, "{remb}");
        }
    }

    #[test]
    fn loss_of_the_path_itself_does_not_keep_the_rate_down() {
        let targets = simulate(&Path { loss: 0.15, ..free() }, 20);
        assert!(targets[19] >= 0.9 * LIMITS.max_bps, "{targets:?}");
    }

    #[test]
    fn what_is_not_sent_tests_no_higher_rate() {
        let start = Instant::now();
        let mut estimator = ReportEstimator::new(LIMITS, 800_000.0);
        for n in 0..60 {
            let rtt = Some(Duration::from_millis(50));
            estimator.on_report(
                start + n * Duration::from_secs(1),
                Report { loss: 0.0, rtt },
                200_000.0,
            );
        }
        assert!((estimator.target_bps() - 800_000.0).abs() < 1.0);
    }
}
