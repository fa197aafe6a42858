//! How late frames come, and how long to wait for them.
//!
//! Every frame's transit (arrival of the first packet with a copy of it, minus its RTP time) is
//! remembered for some seconds. The fastest is the base; what a frame has beyond it is its relative
//! delay, which jitter, a queue, or the wait for a redundant copy makes. So one histogram knows both
//! how jittery the network is and what waiting for redundancy brings. The target delay is where
//! waiting longer costs more than the sound it would save: NetEq takes a fixed quantile instead
//! (0.95 to 0.97), which cannot tell a heavy tail from a few stragglers.

use std::collections::VecDeque;
use std::time::Duration;

use super::samples_to_us;
use crate::frame::MediaTime;

#[derive(Debug)]
pub(super) struct Timing {
    transits_us: VecDeque<i64>,
    base_us: i64,
    /// From the histogram, above the base.
    wait_us: i64,
    /// Of one block.
    histogram: [u16; BUCKETS],
    /// Frames of all blocks that would come too late for each wait.
    late: [u16; BUCKETS],
    last_transit_us: Option<i64>,
    last_arrival: Option<MediaTime>,
    /// A stall ended then: what had waited behind it says nothing about the usual delay.
    stall_ended: Option<MediaTime>,
    pub(super) jitter_us: f64,
    /// Added to the target from outside (lip sync).
    pub(super) extra_us: i64,
}

impl Timing {
    pub(super) fn new() -> Self {
        Self {
            transits_us: VecDeque::with_capacity(WINDOW_FRAMES),
            base_us: 0,
            wait_us: 0,
            histogram: [0; BUCKETS],
            late: [0; BUCKETS],
            last_transit_us: None,
            last_arrival: None,
            stall_ended: None,
            jitter_us: 0.0,
            extra_us: 0,
        }
    }

    /// Forgets the stream, as when the sender begins anew.
    pub(super) fn reset(&mut self) {
        *self = Self { extra_us: self.extra_us, jitter_us: self.jitter_us, ..Self::new() };
    }

    /// A packet arrived, whatever it carries: for the jitter and to notice stalls.
    pub(super) fn packet(&mut self, arrival: MediaTime, timestamp: u64) {
        let transit = transit_us(arrival, timestamp);
        if let Some(last) = self.last_transit_us.replace(transit) {
            let step = (transit - last).unsigned_abs();
            // RFC 3550 §6.4.1.
            self.jitter_us += (step as f64 - self.jitter_us) / 16.0;
            if step > TRANSIT_JUMP_US {
                self.transits_us.clear();
            }
        }
        if let Some(last) = self.last_arrival
            && arrival.saturating_since(last) > STALL
        {
            self.stall_ended = Some(arrival);
        }
        self.last_arrival = self.last_arrival.max(Some(arrival));
        if let Some(ended) = self.stall_ended
            && (transit - self.base_us < STALL_OVER_US || arrival > ended + STALL_FORGIVEN)
        {
            self.stall_ended = None;
        }
    }

    /// The first copy of a frame arrived.
    pub(super) fn frame(&mut self, arrival: MediaTime, timestamp: u64) {
        let transit = transit_us(arrival, timestamp);
        if self.stall_ended.is_some() && transit - self.base_us >= STALL_OVER_US {
            return;
        }
        if self.transits_us.len() == WINDOW_FRAMES {
            self.transits_us.pop_front();
        }
        self.transits_us.push_back(transit);
        self.base_us = self.transits_us.iter().copied().min().unwrap_or(transit);
        self.wait_us = self.best_wait_us();
    }

    /// Where the sum of delay and of the sound that comes too late is smallest.
    fn best_wait_us(&mut self) -> i64 {
        self.late.fill(0);
        let (front, back) = self.transits_us.as_slices();
        let mut transits = front.iter().chain(back).copied();
        for _ in 0..WINDOW_FRAMES.div_ceil(BLOCK_FRAMES) {
            self.histogram.fill(0);
            let mut late = 0;
            for transit in transits.by_ref().take(BLOCK_FRAMES) {
                let bucket = (transit - self.base_us + BUCKET_US - 1) / BUCKET_US;
                let bucket = usize::try_from(bucket).unwrap_or(0).min(BUCKETS - 1);
                self.histogram[bucket] += 1;
                late += 1;
            }
            for (sum, &count) in self.late.iter_mut().zip(self.histogram.iter()) {
                late -= count;
                *sum += late.min(MAX_LATE_IN_BLOCK);
            }
        }
        let frames = self.transits_us.len().max(MIN_FRAMES) as i64;
        let costs = (0i64..).zip(self.late.iter()).map(|(bucket, &late)| {
            let wait = bucket * BUCKET_US;
            (wait + i64::from(late) * WORTH_US / frames, wait)
        });
        costs.min().map_or(0, |(_, wait)| wait)
    }

    /// How late something of `timestamp` is at `now`, if the fastest packet is in time.
    pub(super) fn delay_us(&self, now: MediaTime, timestamp: u64) -> i64 {
        transit_us(now, timestamp) - self.base_us
    }

    /// The delay to play at.
    pub(super) fn target_us(&self) -> i64 {
        let own = (self.wait_us + MARGIN_US).max(MIN_TARGET_US);
        (own + self.extra_us).min(MAX_TARGET_US)
    }

    /// The delay that the last frames need: sooner they would not be there. Unlike the target it
    /// follows a queue that builds up at once, and forgets a spike as fast.
    pub(super) fn recent_us(&self) -> i64 {
        let slowest = self.transits_us.iter().rev().take(RECENT_FRAMES).max();
        let recent = slowest.map_or(0, |slowest| slowest - self.base_us + MARGIN_US);
        recent.min(MAX_TARGET_US)
    }
}

fn transit_us(at: MediaTime, timestamp: u64) -> i64 {
    i64::try_from(at.as_micros()).unwrap_or(i64::MAX / 2) - samples_to_us(timestamp)
}

/// 8 s of 20 ms frames.
const WINDOW_FRAMES: usize = 400;
/// While there are fewer, one late frame is no share of a hundredth.
const MIN_FRAMES: usize = 100;
/// What all sound is worth in delay: 1 % of concealed sound is as bad as 50 ms. One late frame in 8 s is
/// so worth 12.5 ms. In the E-model (ITU-T G.107) 1 % of loss costs a wideband codec with concealment
/// about as much as 50 to 100 ms do where delay begins to disturb; the tests of `simulation.rs` hold
/// the resulting figures.
const WORTH_US: i64 = 5_000_000;
/// Half a second. Within a block late frames are one event: a queue that comes and goes makes all
/// frames of a second late, and says little about the seconds after.
const BLOCK_FRAMES: usize = 25;
/// So many late frames of a block count: 12 % are as bad as a block can be.
const MAX_LATE_IN_BLOCK: u16 = 3;
const BUCKET_US: i64 = 5_000;
/// Up to [`MAX_TARGET_US`].
const BUCKETS: usize = 81;
/// For the speaker's own 10 ms rhythm.
const MARGIN_US: i64 = 10_000;
/// One packet.
const MIN_TARGET_US: i64 = 20_000;
/// Beyond, a conversation is easier with gaps.
const MAX_TARGET_US: i64 = 400_000;
/// Half a second of 20 ms frames.
const RECENT_FRAMES: usize = 25;
/// No packet for so long is an outage, not jitter.
const STALL: Duration = Duration::from_millis(250);
/// A frame so close to the base did not wait behind the stall.
const STALL_OVER_US: i64 = 60_000;
/// After so long the delay is the path's new one.
const STALL_FORGIVEN: Duration = Duration::from_millis(1000);
/// A packet so far off is on another clock or path: the old transits say nothing.
const TRANSIT_JUMP_US: u64 = 2_000_000;
