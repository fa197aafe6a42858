//! When the other side hears what has arrived from it: transport-wide feedback, which the stack
//! writes and [`FeedbackTiming`] times. Often while pictures come, seldom while only sound does,
//! and at once when the path turns slow. Runs in the driver task; the timing is sans-IO.

use std::time::{Duration, Instant};

use rtc::interceptor::{
    Interceptor, Packet, StreamInfo, TaggedPacket, TwccReceiverBuilder, TwccReceiverInterceptor,
};
use rtc::sansio::Protocol;

use crate::interceptor::{Queues, Stage};
use crate::receive::RemoteStreams;
use crate::session::PerKind;
use crate::types::MediaKind;

/// When to report next.
#[derive(Debug, Default)]
pub(crate) struct FeedbackTiming {
    last: Option<Instant>,
    /// Arrived since the last report, on the wire.
    bytes: u32,
    lateness: PerKind<Lateness>,
    hurry: bool,
}

impl FeedbackTiming {
    /// A packet that is to be reported came.
    pub(crate) fn on_packet(&mut self, now: Instant, wire_bytes: u32) {
        self.last.get_or_insert(now);
        self.bytes = self.bytes.saturating_add(wire_bytes);
    }

    /// It was the first of its kind with this number: its timestamp says how long it took.
    pub(crate) fn on_media(&mut self, now: Instant, kind: MediaKind, timestamp: u32) {
        let ticks_per_ms = i64::from(kind.clock_rate_hz() / 1000);
        self.hurry |= self.lateness.get_mut(kind).is_unusual(now, timestamp, ticks_per_ms);
    }

    /// When the next report is to leave; `None` while there is nothing to report.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let interval = match self.bytes {
            0 => return None,
            _ if self.hurry => HURRIED_INTERVAL,
            bytes if bytes >= WORTH_A_REPORT_BYTES => INTERVAL,
            _ => IDLE_INTERVAL,
        };
        Some(self.last? + interval)
    }

    /// A report left.
    pub(crate) fn on_report(&mut self, now: Instant) {
        self.last = Some(now);
        self.bytes = 0;
        self.hurry = false;
    }
}

/// How much later than the quickest the packets of a stream come, and whether that is more than
/// usual. The last packets of a picture always are later than its first, which is usual.
#[derive(Debug, Default)]
struct Lateness {
    /// Arrival and timestamp of the packet that the others are measured by.
    origin: Option<(Instant, u32)>,
    least_us: i64,
    /// The latest of the last seconds over the least.
    peak_us: i64,
    last: Option<Instant>,
}

impl Lateness {
    fn is_unusual(&mut self, now: Instant, timestamp: u32, ticks_per_ms: i64) -> bool {
        let (origin, first) = *self.origin.get_or_insert((now, timestamp));
        let since = now.saturating_duration_since(self.last.replace(now).unwrap_or(now));
        let elapsed =
            i64::try_from(now.saturating_duration_since(origin).as_micros()).unwrap_or(i64::MAX);
        #[expect(clippy::cast_possible_wrap, reason = "nearer than half of the range")]
        let ticks = i64::from(timestamp.wrapping_sub(first) as i32);
        let transit = elapsed - ticks * 1000 / ticks_per_ms;
        if (transit - self.least_us).abs() > JUMP_US || ticks > RENEW_TICKS {
            // Another stream, or near the end of the range.
            *self = Self { origin: Some((now, timestamp)), last: Some(now), ..Self::default() };
            return false;
        }
        let us = i64::try_from(since.as_micros()).unwrap_or(i64::MAX);
        // The least creeps up, so that clocks that drift apart are followed.
        self.least_us = transit.min(self.least_us + us / CREEP);
        let late = transit - self.least_us;
        let most = self.peak_us + UNUSUAL_US;
        self.peak_us -= (self.peak_us * us / FADE_US).min(self.peak_us);
        self.peak_us = self.peak_us.max(late.min(most));
        late > most
    }
}

/// The interceptor.
pub(crate) struct Feedback {
    /// Reports whenever its time is told.
    writer: TwccReceiverInterceptor,
    streams: RemoteStreams,
    timing: FeedbackTiming,
}

impl Feedback {
    pub(crate) fn new() -> Self {
        Self {
            writer: TwccReceiverBuilder::new().with_interval(Duration::ZERO).build(),
            streams: RemoteStreams::default(),
            timing: FeedbackTiming::default(),
        }
    }

    fn report_if_due(&mut self, now: Instant, queues: &mut Queues) {
        if self.timing.deadline().is_some_and(|at| at <= now) {
            self.timing.on_report(now);
            // It never fails.
            let _ = self.writer.handle_timeout(now);
            queues.write.extend(std::iter::from_fn(|| self.writer.poll_write()));
        }
    }
}

impl Stage for Feedback {
    fn on_read(&mut self, packet: TaggedPacket, queues: &mut Queues) {
        let now = packet.now;
        if let Packet::Rtp(rtp) = &packet.message.packet {
            self.timing.on_packet(now, super::stage::wire_bytes(rtp));
            if let Some(stream) = self.streams.get(rtp.header.ssrc).filter(|s| !s.rtx) {
                self.timing.on_media(now, stream.kind, rtp.header.timestamp);
            }
        }
        // It never fails.
        let _ = self.writer.handle_read(packet);
        queues.read.extend(std::iter::from_fn(|| self.writer.poll_read()));
        self.report_if_due(now, queues);
    }

    fn on_timeout(&mut self, now: Instant, queues: &mut Queues) {
        self.report_if_due(now, queues);
    }

    fn deadline(&self) -> Option<Instant> {
        self.timing.deadline()
    }

    fn bind_remote(&mut self, info: &StreamInfo) {
        self.streams.bind(info);
        self.writer.bind_remote_stream(info);
    }
}

/// Often enough to see a queue grow.
const INTERVAL: Duration = Duration::from_millis(40);
/// A report takes about 80 bytes on the wire. Less than this in [`INTERVAL`] is sound alone.
const WORTH_A_REPORT_BYTES: u32 = 700;
/// For sound alone. libwebrtc keeps to 5 % of the bandwidth and 50 to 250 ms.
const IDLE_INTERVAL: Duration = Duration::from_millis(100);
/// Once the path turns slow, the sooner the other side hears of it the shorter its queue.
const HURRIED_INTERVAL: Duration = Duration::from_millis(8);
/// Later by this than any of the last seconds.
const UNUSUAL_US: i64 = 15_000;
const FADE_US: i64 = 5_000_000;
/// A millisecond a second.
const CREEP: i64 = 1_000;
const JUMP_US: i64 = 2_000_000;
/// Half of what an `i32` holds.
const RENEW_TICKS: i64 = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// Plays packets (bytes, and the timestamp of sound) into the timing; when reports left.
    fn reports(packets: impl Iterator<Item = (u64, u32, Option<u32>)>, until: u64) -> Vec<u64> {
        let start = Instant::now();
        let mut timing = FeedbackTiming::default();
        let mut packets = packets.peekable();
        let mut left = Vec::new();
        for now in 0..until {
            while let Some((_, bytes, sound)) = packets.next_if(|(at, ..)| *at <= now) {
                timing.on_packet(start + ms(now), bytes);
                if let Some(timestamp) = sound {
                    timing.on_media(start + ms(now), MediaKind::Audio, timestamp);
                }
            }
            if timing.deadline().is_some_and(|at| at <= start + ms(now)) {
                timing.on_report(start + ms(now));
                left.push(now);
            }
        }
        left
    }

    /// Sound every 20 ms from the beginning of the range on, `late` ms late.
    fn sound(n: u64, late: u64) -> (u64, u32, Option<u32>) {
        let timestamp = u32::MAX.wrapping_sub(48_000).wrapping_add(n as u32 * 960);
        (n * 20 + late, 144, Some(timestamp))
    }

    #[test]
    fn pictures_are_reported_on_often_and_sound_alone_seldom() {
        let few = reports((0..500).map(|n| sound(n, 0)), 10_000).len();
        assert!((95..=105).contains(&few), "{few}");
        let pictures = (0..900).map(|n| (n * 11, 1_000, None));
        assert!((240..=250).contains(&reports(pictures, 9_900).len()));
        let few = reports((0..100).map(|n| (n * 99, 900, None)), 9_900).len();
        assert!((90..=100).contains(&few), "{few}");
        assert!(reports(std::iter::empty(), 1_000).is_empty());
    }

    #[test]
    fn a_path_that_turns_slow_is_told_at_once() {
        // From the second second on each packet takes 28 ms more than the one before.
        let late = |n: u64| n.saturating_sub(50) * 28;
        let left = reports((0..60).map(|n| sound(n, late(n))), 1_400);
        let slow: Vec<u64> = (51..60).map(|n| n * 20 + late(n)).filter(|at| *at < 1_400).collect();
        assert!(slow.len() > 5 && slow.iter().all(|at| left.contains(at)), "{left:?} {slow:?}");
    }

    #[test]
    fn usual_jitter_is_no_reason_to_hurry() {
        let jitter = |n: u64| n * 7_919 % 61;
        let mut packets: Vec<_> = (0..500).map(|n| sound(n, jitter(n))).collect();
        packets.sort_unstable();
        let left = reports(packets.into_iter(), 10_000).len();
        assert!(left <= 115, "{left}");
    }

    #[test]
    fn any_timestamps_are_survived() {
        let mut timing = FeedbackTiming::default();
        let start = Instant::now();
        for (n, timestamp) in [0, u32::MAX, 1 << 31, 5, 1 << 30, 0].into_iter().enumerate() {
            timing.on_packet(start, u32::MAX);
            timing.on_media(start + ms(n as u64 * 10_000_000), MediaKind::Video, timestamp);
        }
        assert!(timing.deadline().is_some());
    }
}
