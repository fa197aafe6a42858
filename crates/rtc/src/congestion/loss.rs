//! Is loss congestion? A path that loses packets at any rate must stay usable, and a path whose
//! queue is too short to show in the delay must not be flooded. The two differ in what happens
//! when less is sent, so that is tried out. Sans-IO.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::history::PacketResult;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct LossController {
    /// When each packet of the last second left, and whether it was lost.
    packets: VecDeque<(Instant, bool)>,
    /// Loss that does not depend on our rate.
    inherent: f64,
    trial: Option<Trial>,
    /// Packets sent after this tell of the current rate.
    since: Option<Instant>,
    /// Losses, and losses right after a loss.
    losses: f64,
    runs: f64,
    after_loss: bool,
}

#[derive(Debug, Clone, Copy)]
struct Trial {
    since: Instant,
    loss_before: f64,
    sent: u32,
    lost: u32,
}

/// What a report means.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Verdict {
    /// Sending less lost less.
    pub(crate) congested: bool,
    loss_before: f64,
    inherent: f64,
}

impl Verdict {
    /// The part of `rate_bps` that got through when it was too much.
    pub(crate) fn sustainable(&self, rate_bps: f64) -> f64 {
        let through = (1.0 - self.loss_before) / (1.0 - self.inherent).max(0.1);
        rate_bps * through.clamp(0.5, 1.0) * 0.97
    }
}

impl LossController {
    /// What the rate is multiplied with now.
    pub(crate) fn factor(&self) -> f64 {
        if self.trial.is_some() { TRIAL_FACTOR } else { 1.0 }
    }

    pub(crate) fn is_testing(&self) -> bool {
        self.trial.is_some()
    }

    /// Share of packets of the last second that were lost.
    #[expect(clippy::cast_precision_loss, reason = "packets of a second")]
    pub(crate) fn recent(&self) -> f64 {
        let lost = self.packets.iter().filter(|(_, lost)| *lost).count();
        lost as f64 / self.packets.len().max(LEAST_PACKETS) as f64
    }

    /// Mean number of packets lost in a row.
    pub(crate) fn burst_length(&self) -> f64 {
        if self.runs < 2.0 { 1.0 } else { (self.losses / self.runs).max(1.0) }
    }

    /// What must have been sent for `delivered_bps` to arrive.
    pub(crate) fn without_loss(&self, delivered_bps: f64) -> f64 {
        delivered_bps / (1.0 - self.inherent.min(0.7))
    }

    pub(crate) fn on_feedback(
        &mut self,
        now: Instant,
        results: &[PacketResult],
        rtt: Duration,
    ) -> Verdict {
        for result in results {
            let lost = result.arrival_us.is_none();
            if result.was_missing {
                self.take_back(result.sent);
                continue;
            }
            self.packets.push_back((result.sent, lost));
            if lost {
                self.losses += 1.0;
                self.runs += f64::from(u8::from(!self.after_loss));
            }
            self.after_loss = lost;
            if let Some(trial) = &mut self.trial
                && result.sent >= trial.since + SETTLING
            {
                trial.sent += 1;
                trial.lost += u32::from(lost);
            }
        }
        if self.losses > 64.0 {
            self.losses /= 2.0;
            self.runs /= 2.0;
        }
        let newest = self.packets.back().map_or(now, |(sent, _)| *sent);
        while self
            .packets
            .front()
            .is_some_and(|(sent, _)| newest.saturating_duration_since(*sent) > WINDOW)
        {
            self.packets.pop_front();
        }
        let recent = self.recent();
        self.inherent = self.inherent.min(self.inherent * 0.98 + recent * 0.02);
        match self.trial {
            Some(trial) => self.conclude(now, trial, rtt),
            None => {
                self.consider(now, recent);
                Verdict::default()
            }
        }
    }

    /// A packet that was called lost has come after all.
    fn take_back(&mut self, sent: Instant) {
        if let Some(packet) = self.packets.iter_mut().rev().find(|(at, lost)| *at == sent && *lost)
        {
            packet.1 = false;
            self.losses = (self.losses - 1.0).max(0.0);
            if let Some(trial) = self.trial.as_mut().filter(|t| sent >= t.since + SETTLING) {
                trial.lost = trial.lost.saturating_sub(1);
            }
        }
    }

    fn consider(&mut self, now: Instant, recent: f64) {
        let settled = self.since.is_none_or(|at| now >= at + WINDOW);
        if self.packets.len() < LEAST_PACKETS || !settled {
            return;
        }
        // Two standard deviations of what the inherent loss does by chance; bursts make it vary
        // more than independent losses.
        #[expect(clippy::cast_precision_loss, reason = "packets of a second")]
        let n = self.packets.len() as f64;
        let spread = (self.inherent * (1.0 - self.inherent) * self.burst_length() / n).sqrt();
        if recent > self.inherent + LEAST_EXCESS + 2.0 * spread {
            self.trial = Some(Trial { since: now, loss_before: recent, sent: 0, lost: 0 });
        }
    }

    fn conclude(&mut self, now: Instant, trial: Trial, rtt: Duration) -> Verdict {
        let long_enough = now >= trial.since + SETTLING + rtt + TRIAL_LENGTH;
        let given_up = now >= trial.since + TRIAL_LIMIT;
        if !(long_enough && trial.sent >= TRIAL_PACKETS || given_up) {
            return Verdict::default();
        }
        let during = f64::from(trial.lost) / f64::from(trial.sent.max(1));
        self.trial = None;
        self.since = Some(now);
        let excess = |loss: f64| (loss - self.inherent).max(0.0);
        if excess(during) < 0.4 * excess(trial.loss_before) {
            let inherent = self.inherent.max(during);
            return Verdict { congested: true, loss_before: trial.loss_before, inherent };
        }
        // The loss stayed: it is the path's own.
        self.inherent = f64::midpoint(during, trial.loss_before);
        Verdict::default()
    }
}

/// Loss is looked at over this time of sending.
const WINDOW: Duration = Duration::from_secs(1);
/// Fewer packets say nothing.
const LEAST_PACKETS: usize = 40;
/// More loss than is inherent by this much makes a trial.
const LEAST_EXCESS: f64 = 0.025;
/// How much less is sent in a trial: a path that is full by any of it loses nothing then.
const TRIAL_FACTOR: f64 = 0.8;
/// Until the encoder follows.
const SETTLING: Duration = Duration::from_millis(120);
const TRIAL_LENGTH: Duration = Duration::from_millis(400);
const TRIAL_PACKETS: u32 = 60;
const TRIAL_LIMIT: Duration = Duration::from_secs(3);
