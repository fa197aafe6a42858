//! When packets may leave: audio at once, repairs before new pictures, padding last. Sans-IO.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How urgent a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Priority {
    /// Audio and RTCP: never wait.
    Immediate,
    /// Something that was lost.
    Repair,
    /// Pictures and their parity.
    Media,
    /// Probes.
    Padding,
}

/// A leaky bucket over three queues. `T` is a packet.
#[derive(Debug)]
pub(crate) struct Pacer<T> {
    repair: VecDeque<(u32, T)>,
    media: VecDeque<(u32, T)>,
    padding: VecDeque<(u32, T)>,
    media_bytes: u64,
    repair_bytes: u64,
    rate_bps: f64,
    /// When all that has left would have left at the rate exactly.
    paid_until: Option<Instant>,
}

impl<T> Pacer<T> {
    pub(crate) fn new(rate_bps: f64) -> Self {
        Self {
            repair: VecDeque::new(),
            media: VecDeque::new(),
            padding: VecDeque::new(),
            media_bytes: 0,
            repair_bytes: 0,
            rate_bps,
            paid_until: None,
        }
    }

    pub(crate) fn set_rate(&mut self, rate_bps: f64) {
        self.rate_bps = rate_bps.max(MIN_RATE_BPS);
    }

    /// Takes a packet; gives it back if it need not wait. A queue that holds more than two seconds
    /// of packets drops its oldest.
    pub(crate) fn push(
        &mut self,
        now: Instant,
        priority: Priority,
        bytes: u32,
        packet: T,
    ) -> Option<T> {
        match priority {
            Priority::Immediate => {
                // It uses the path all the same.
                self.pay(now, bytes);
                return Some(packet);
            }
            Priority::Repair => {
                self.repair.push_back((bytes, packet));
                self.repair_bytes += u64::from(bytes);
            }
            Priority::Media => {
                self.media.push_back((bytes, packet));
                self.media_bytes += u64::from(bytes);
            }
            Priority::Padding => self.padding.push_back((bytes, packet)),
        }
        if self.repair.len() > MAX_PACKETS
            && let Some((bytes, _)) = self.repair.pop_front()
        {
            self.repair_bytes -= u64::from(bytes);
        }
        if self.media.len() > MAX_PACKETS
            && let Some((bytes, _)) = self.media.pop_front()
        {
            self.media_bytes -= u64::from(bytes);
        }
        if self.padding.len() > MAX_PACKETS {
            self.padding.pop_front();
        }
        None
    }

    /// The next packet that may leave now.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<T> {
        if self.deadline()? > now {
            return None;
        }
        let (bytes, packet) = if let Some(packet) = self.repair.pop_front() {
            self.repair_bytes -= u64::from(packet.0);
            packet
        } else if let Some(packet) = self.media.pop_front() {
            self.media_bytes -= u64::from(packet.0);
            packet
        } else {
            self.padding.pop_front()?
        };
        self.pay(now, bytes);
        Some(packet)
    }

    /// When [`Self::pop`] has something to give; `None` while nothing waits.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        if self.repair.is_empty() && self.media.is_empty() && self.padding.is_empty() {
            return None;
        }
        let paid = self.paid_until?;
        Some(paid.checked_sub(BURST).unwrap_or(paid))
    }

    /// How long what waits will take to leave, padding aside.
    pub(crate) fn queue_time(&self) -> Duration {
        #[expect(clippy::cast_precision_loss, reason = "some kB")]
        let bits = (self.media_bytes + self.repair_bytes) as f64 * 8.0;
        Duration::try_from_secs_f64(bits / self.rate_bps).unwrap_or(Duration::MAX)
    }

    /// For a queue that was never used: the first packet may leave at once.
    pub(crate) fn start(&mut self, now: Instant) {
        self.paid_until.get_or_insert(now);
    }

    fn pay(&mut self, now: Instant, bytes: u32) {
        let start = self.paid_until.map_or(now, |paid| paid.max(now));
        // Never more in debt than a second, whatever the rate was.
        let cost =
            Duration::try_from_secs_f64(f64::from(bytes) * 8.0 / self.rate_bps).unwrap_or_default();
        self.paid_until = Some((start + cost).min(now + MAX_DEBT));
    }
}

/// Packets leave this much early, so that the timer need not fire for each (libwebrtc
/// `pacing_controller.h`, 5 ms to 40 ms).
const BURST: Duration = Duration::from_millis(3);
const MAX_DEBT: Duration = Duration::from_secs(1);
const MIN_RATE_BPS: f64 = 10_000.0;
const MAX_PACKETS: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_leave_at_the_rate_and_audio_does_not_wait() {
        let start = Instant::now();
        let mut pacer = Pacer::new(1_000_000.0);
        pacer.start(start);
        for n in 0..100 {
            assert_eq!(pacer.push(start, Priority::Media, 1250, n), None);
        }
        assert_eq!(pacer.push(start, Priority::Immediate, 100, 999), Some(999));
        // 10 ms a packet.
        let mut left = Vec::new();
        let mut now = start;
        while let Some(at) = pacer.deadline() {
            now = now.max(at);
            if let Some(n) = pacer.pop(now) {
                left.push(n);
            }
        }
        assert_eq!(left, (0..100).collect::<Vec<_>>());
        let took = now - start;
        assert!((980..=1000).contains(&took.as_millis()), "{took:?}");
    }

    #[test]
    fn repairs_overtake_pictures_and_padding_comes_last() {
        let start = Instant::now();
        let mut pacer = Pacer::new(1_000_000.0);
        pacer.start(start);
        pacer.push(start, Priority::Padding, 1000, "padding");
        pacer.push(start, Priority::Media, 1000, "media");
        pacer.push(start, Priority::Repair, 1000, "repair");
        let later = start + Duration::from_secs(1);
        let order: Vec<_> =
            std::iter::from_fn(|| pacer.pop(pacer.deadline()?.max(later) + Duration::from_secs(1)))
                .collect();
        assert_eq!(order, ["repair", "media", "padding"]);
    }
}
