//! Small meters: what happened within the last second, percentiles of a whole call.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::LatencyStats;

const WINDOW: Duration = Duration::from_secs(1);

/// Peak amplitude (1 is full scale) as dBFS, not below -100.
pub(crate) fn level_dbfs(amplitude: f32) -> f32 {
    (20.0 * amplitude.max(1e-5).log10()).clamp(-100.0, 0.0)
}

/// Sums amounts over the last second.
#[derive(Debug, Default)]
pub(crate) struct RateMeter {
    entries: VecDeque<(Instant, u64)>,
    sum: u64,
}

impl RateMeter {
    pub(crate) fn add(&mut self, now: Instant, amount: u64) {
        self.entries.push_back((now, amount));
        self.sum += amount;
        self.expire(now);
    }

    /// The sum of the last second.
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    pub(crate) fn per_second(&mut self, now: Instant) -> f32 {
        self.expire(now);
        self.sum as f32
    }

    fn expire(&mut self, now: Instant) {
        while let Some((at, amount)) = self.entries.front()
            && now.saturating_duration_since(*at) >= WINDOW
        {
            self.sum -= amount;
            self.entries.pop_front();
        }
    }
}

/// Mean of the durations of the last second.
#[derive(Debug, Default)]
pub(crate) struct MeanTime(VecDeque<(Instant, Duration)>);

impl MeanTime {
    pub(crate) fn add(&mut self, now: Instant, took: Duration) {
        self.0.push_back((now, took));
        while self.0.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) >= WINDOW) {
            self.0.pop_front();
        }
    }

    /// Forgets what was measured.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn mean(&self) -> Duration {
        let count = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0
            .iter()
            .map(|(_, took)| *took)
            .sum::<Duration>()
            .checked_div(count)
            .unwrap_or_default()
    }
}

/// Whether a thread has so much to do that it cannot keep up.
#[derive(Debug, Default)]
pub(crate) struct BusyMeter {
    /// When the second that is counted began, and how much of it was work.
    since: Option<Instant>,
    busy: Duration,
    /// Seconds in a row that were nearly all work.
    full: u32,
    news: bool,
}

impl BusyMeter {
    /// Share of a second that is nearly all of it.
    const FULL: f32 = 0.85;
    /// One such second happens when a machine does something else.
    const IN_A_ROW: u32 = 2;

    /// Work that has just ended at `now`.
    pub(crate) fn add(&mut self, now: Instant, took: Duration) {
        let since = *self.since.get_or_insert(now);
        self.busy += took;
        let elapsed = now.saturating_duration_since(since);
        if elapsed < WINDOW {
            return;
        }
        let share = self.busy.as_secs_f32() / elapsed.as_secs_f32();
        self.full = if share > Self::FULL { self.full.saturating_add(1) } else { 0 };
        self.news = self.full >= Self::IN_A_ROW;
        (self.since, self.busy) = (Some(now), Duration::ZERO);
    }

    /// Whether another second in which the thread does not keep up is over since this was last asked.
    pub(crate) fn take_overload(&mut self) -> bool {
        std::mem::take(&mut self.news)
    }

    /// Begins anew.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Latencies of a call, a millisecond each; what is beyond the last counts as the last.
#[derive(Debug)]
pub(crate) struct LatencyHistogram {
    buckets: Box<[u32; Self::BUCKETS]>,
    count: u64,
    max: Duration,
}

impl LatencyHistogram {
    const BUCKETS: usize = 10_000;

    pub(crate) fn new() -> Self {
        Self { buckets: Box::new([0; Self::BUCKETS]), count: 0, max: Duration::ZERO }
    }

    pub(crate) fn add(&mut self, latency: Duration) {
        let ms = usize::try_from(latency.as_millis()).unwrap_or(usize::MAX);
        self.buckets[ms.min(Self::BUCKETS - 1)] += 1;
        self.count += 1;
        self.max = self.max.max(latency);
    }

    pub(crate) fn stats(&self) -> Option<LatencyStats> {
        (self.count > 0).then(|| LatencyStats {
            p50: self.percentile(50),
            p95: self.percentile(95),
            max: self.max,
        })
    }

    fn percentile(&self, percent: u64) -> Duration {
        let rank = (self.count * percent).div_ceil(100);
        let mut seen = 0;
        for (ms, n) in self.buckets.iter().enumerate() {
            seen += u64::from(*n);
            if seen >= rank {
                return Duration::from_millis(ms as u64);
            }
        }
        self.max
    }
}

/// Freezes as of webrtc-stats `freezeCount`: a gap of at least `max(3 * mean, mean + 150 ms)`,
/// where the mean is that of the last 30 gaps.
#[derive(Debug, Default)]
pub(crate) struct FreezeMeter {
    last: Option<Instant>,
    gaps: VecDeque<Duration>,
    pub(crate) count: u64,
    pub(crate) total: Duration,
}

impl FreezeMeter {
    const GAPS: usize = 30;

    pub(crate) fn frame(&mut self, now: Instant) {
        let Some(last) = self.last.replace(now) else { return };
        let gap = now.saturating_duration_since(last);
        if self.gaps.len() == Self::GAPS {
            #[expect(clippy::cast_possible_truncation, reason = "30")]
            let mean = self.gaps.iter().sum::<Duration>() / Self::GAPS as u32;
            if gap >= (3 * mean).max(mean + Duration::from_millis(150)) {
                self.count += 1;
                self.total += gap;
            }
            self.gaps.pop_front();
        }
        self.gaps.push_back(gap);
    }

    /// The sender paused on purpose: the next gap is none.
    pub(crate) fn pause(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_overloaded_after_two_full_seconds_and_says_so_once_a_second() {
        let run = |work_ms: u64, seconds: u64| {
            let (mut meter, start, mut news) = (BusyMeter::default(), Instant::now(), Vec::new());
            for n in 0..seconds * 20 {
                let now = start + Duration::from_millis(50 * n);
                meter.add(now, Duration::from_millis(work_ms));
                if meter.take_overload() {
                    news.push(n / 20);
                }
            }
            news
        };
        assert_eq!(run(49, 6), [2, 3, 4, 5]);
        assert_eq!(run(40, 6), [0; 0]);
    }

    #[test]
    fn freeze_is_a_gap_far_beyond_the_mean() {
        let mut meter = FreezeMeter::default();
        let mut now = Instant::now();
        for _ in 0..40 {
            now += Duration::from_millis(33);
            meter.frame(now);
        }
        assert_eq!(meter.count, 0);
        now += Duration::from_millis(400);
        meter.frame(now);
        assert_eq!((meter.count, meter.total), (1, Duration::from_millis(400)));
        meter.pause();
        now += Duration::from_secs(9);
        meter.frame(now);
        assert_eq!(meter.count, 1);
    }

    #[test]
    fn percentiles_of_latency() {
        let mut histogram = LatencyHistogram::new();
        assert_eq!(histogram.stats(), None);
        for ms in 1..=100 {
            histogram.add(Duration::from_millis(ms));
        }
        let stats =
            histogram.stats().map(|s| (s.p50.as_millis(), s.p95.as_millis(), s.max.as_millis()));
        assert_eq!(stats, Some((50, 95, 100)));
    }

    #[test]
    fn rate_forgets_what_is_older_than_a_second() {
        let mut meter = RateMeter::default();
        let start = Instant::now();
        for i in 0..20 {
            meter.add(start + Duration::from_millis(100 * i), 5);
        }
        assert!((meter.per_second(start + Duration::from_millis(1900)) - 50.0).abs() < 0.1);
        assert!(meter.per_second(start + Duration::from_secs(9)).abs() < 0.1);
    }
}
