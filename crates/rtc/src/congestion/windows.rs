//! What the estimator remembers of packets: delays, deliveries, bursts. Sans-IO.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The least one-way delay of the last ten seconds: the path without a queue. Delays have an
/// unknown offset, as the clocks of the two sides differ; only differences mean anything.
#[derive(Debug, Default)]
pub(crate) struct BaseDelay {
    /// Least delay of each second.
    seconds: VecDeque<(Instant, i64)>,
}

impl BaseDelay {
    pub(crate) fn add(&mut self, now: Instant, delay_us: i64) {
        match self.seconds.back_mut() {
            Some((at, least)) if now.saturating_duration_since(*at) < SECOND => {
                *least = delay_us.min(*least);
            }
            _ => self.seconds.push_back((now, delay_us)),
        }
        while self.seconds.len() > SECONDS {
            self.seconds.pop_front();
        }
    }

    pub(crate) fn least_us(&self) -> Option<i64> {
        self.seconds.iter().map(|(_, least)| *least).min()
    }

    /// The path is longer now: forget what was.
    pub(crate) fn rebase(&mut self, now: Instant, recent: Option<i64>) {
        if let Some(recent) = recent {
            self.seconds.clear();
            self.seconds.push_back((now, recent));
        }
    }
}

/// The delays of the last moments.
#[derive(Debug, Default)]
pub(crate) struct RecentDelay {
    /// Sending time and delay.
    packets: VecDeque<(Instant, i64)>,
}

impl RecentDelay {
    pub(crate) fn add(&mut self, sent: Instant, delay_us: i64) {
        self.packets.push_back((sent, delay_us));
        while self.packets.len() > MAX_PACKETS {
            self.packets.pop_front();
        }
    }

    /// The least delay of packets sent within `window` of the newest.
    pub(crate) fn least_us(&self, window: Duration) -> Option<i64> {
        let newest = self.packets.iter().map(|(sent, _)| *sent).max()?;
        let recent =
            |(sent, _): &&(Instant, i64)| newest.saturating_duration_since(*sent) <= window;
        self.packets.iter().filter(recent).map(|(_, delay)| *delay).min()
    }

    /// The least delay of the newest few packets, of those of one picture at most.
    pub(crate) fn newest_us(&self) -> Option<i64> {
        let (newest, _) = self.packets.back()?;
        let recent =
            |(sent, _): &&(Instant, i64)| newest.saturating_duration_since(*sent) <= PICTURE;
        self.packets.iter().rev().take(NEWEST).filter(recent).map(|(_, delay)| *delay).min()
    }

    /// Forgets all but the newest few.
    pub(crate) fn keep_newest(&mut self) {
        let old = self.packets.len().saturating_sub(NEWEST);
        self.packets.drain(..old);
    }
}

/// The newest packets, to tell what a path carries as soon as its queue is longer than usual.
#[derive(Debug, Default)]
pub(crate) struct Newest {
    /// Arrival, delay, bytes.
    packets: VecDeque<(i64, i64, u32)>,
}

impl Newest {
    pub(crate) fn add(&mut self, arrival_us: i64, delay_us: i64, bytes: u32) {
        self.packets.push_back((arrival_us, delay_us, bytes));
        if self.packets.len() > MAX_BACKLOG {
            self.packets.pop_front();
        }
    }

    /// How fast the last packets came, all of them later than `delay_us` and so from a queue: bits a
    /// second. `None` before there are enough, if they came in no such order (a queue lets go one after
    /// the other, each as long after the one before as it takes to send it), or as slowly as they left.
    #[expect(clippy::cast_precision_loss, reason = "some kB within seconds")]
    pub(crate) fn backlog_bps(&self, delay_us: i64) -> Option<f64> {
        let run = || self.packets.iter().rev().take_while(|(_, delay, _)| *delay > delay_us);
        let (last, first) = (run().next()?, run().last()?);
        let span_us = last.0 - first.0;
        let slowed = (last.1 - first.1) as f64 >= LEAST_RISE * span_us as f64;
        if run().count() < NEWEST || span_us < MIN_BACKLOG_US || !slowed {
            return None;
        }
        // The first of them says when the others began.
        let bytes: u64 = run().map(|p| u64::from(p.2)).sum::<u64>() - u64::from(first.2);
        let bps = bytes as f64 * 8e6 / span_us as f64;
        let even = run().zip(run().skip(1)).all(|((arrival, _, bytes), (before, ..))| {
            (arrival - before) as f64 >= EVEN * f64::from(*bytes) * 8e6 / bps
        });
        even.then_some(bps)
    }
}

/// What arrived when.
#[derive(Debug, Default)]
pub(crate) struct Delivery {
    packets: VecDeque<(i64, u32)>,
    newest_us: i64,
}

impl Delivery {
    pub(crate) fn add(&mut self, arrival_us: i64, bytes: u32) {
        self.newest_us = self.newest_us.max(arrival_us);
        self.packets.push_back((arrival_us, bytes));
        let oldest = self.newest_us - KEEP_US;
        while self.packets.front().is_some_and(|(at, _)| *at < oldest) {
            self.packets.pop_front();
        }
    }

    /// Bits a second over `window` up to the newest arrival; `None` before there is that much.
    #[expect(clippy::cast_precision_loss, reason = "bytes of a second")]
    pub(crate) fn rate_bps(&self, window: Duration) -> Option<f64> {
        let window_us = i64::try_from(window.as_micros()).unwrap_or(KEEP_US).min(KEEP_US);
        let from = self.newest_us - window_us;
        if self.packets.front()?.0 > from + window_us / 2 {
            return None;
        }
        let bytes: u64 =
            self.packets.iter().filter(|(at, _)| *at > from).map(|(_, b)| u64::from(*b)).sum();
        Some(bytes as f64 * 8e6 / window_us as f64)
    }
}

/// How packets that left together arrive: what the narrowest link on the path does to a burst.
#[derive(Debug, Default)]
pub(crate) struct Bursts {
    current: Option<Burst>,
    /// What recent bursts arrived with, bits a second; `None` if jitter had put the packets out of
    /// order.
    rates: VecDeque<Option<BurstRate>>,
}

/// How fast a burst went through.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct BurstRate {
    pub(crate) bps: f64,
    /// It arrived more slowly than it was sent: this is what the path carries. Otherwise the path
    /// carries at least this.
    pub(crate) spread: bool,
}

#[derive(Debug, Clone, Copy)]
struct Burst {
    first_sent: Instant,
    last_sent: Instant,
    first_arrival_us: i64,
    last_arrival_us: i64,
    /// Bytes after the first packet.
    bytes: u32,
    packets: u32,
    in_order: bool,
}

impl Bursts {
    pub(crate) fn add(&mut self, sent: Instant, arrival_us: i64, bytes: u32) {
        if bytes < SMALL_PACKET_BYTES {
            // Audio goes between the packets of a picture and belongs to no burst.
            return;
        }
        match &mut self.current {
            Some(burst)
                if sent >= burst.last_sent
                    && sent.saturating_duration_since(burst.last_sent) <= BURST_GAP
                    && sent.saturating_duration_since(burst.first_sent) <= BURST_LENGTH =>
            {
                burst.in_order &= arrival_us >= burst.last_arrival_us;
                burst.last_sent = sent;
                burst.last_arrival_us = burst.last_arrival_us.max(arrival_us);
                burst.bytes += bytes;
                burst.packets += 1;
            }
            _ => {
                self.finish();
                self.current = Some(Burst {
                    first_sent: sent,
                    last_sent: sent,
                    first_arrival_us: arrival_us,
                    last_arrival_us: arrival_us,
                    bytes: 0,
                    packets: 1,
                    in_order: true,
                });
            }
        }
    }

    fn finish(&mut self) {
        let Some(burst) = self.current.take() else { return };
        if burst.packets < MIN_BURST_PACKETS {
            return;
        }
        let arrived_us = (burst.last_arrival_us - burst.first_arrival_us).max(MIN_SPREAD_US);
        let sent_us = burst.last_sent.saturating_duration_since(burst.first_sent).as_micros();
        #[expect(clippy::cast_precision_loss, reason = "a few milliseconds")]
        let rate = BurstRate {
            bps: f64::from(burst.bytes) * 8e6 / arrived_us as f64,
            spread: arrived_us as f64 > 1.15 * sent_us as f64 + SPREAD_SLACK_US,
        };
        self.rates.push_back(burst.in_order.then_some(rate));
        if self.rates.len() > BURSTS {
            self.rates.pop_front();
        }
    }

    /// The rate that half of the recent bursts got through with; `None` if that says nothing.
    pub(crate) fn typical(&self) -> Option<BurstRate> {
        let mut rates: Vec<BurstRate> = self.rates.iter().flatten().copied().collect();
        if rates.is_empty() || 3 * rates.len() < 2 * self.rates.len() {
            return None;
        }
        rates.sort_by(|a, b| a.bps.total_cmp(&b.bps));
        Some(rates[(rates.len() - 1) / 2])
    }

    pub(crate) fn clear(&mut self) {
        self.rates.clear();
        self.current = None;
    }
}

const SECOND: Duration = Duration::from_secs(1);
/// How long a base lasts: clocks that differ by 100 ppm move it by a millisecond meanwhile.
const SECONDS: usize = 10;
const MAX_PACKETS: usize = 400;
const MAX_BACKLOG: usize = 32;
/// Arrivals are stamped when the socket is read.
const MIN_BACKLOG_US: i64 = 25_000;
/// Share of the time that a packet takes by the rate of all, before which none comes.
const EVEN: f64 = 0.5;
/// How much the delay grows while they come, each millisecond.
const LEAST_RISE: f64 = 0.25;
/// Enough that one late packet does not matter.
const NEWEST: usize = 4;
/// At 30 fps, and a little more.
const PICTURE: Duration = Duration::from_millis(40);
const KEEP_US: i64 = 1_000_000;
const SMALL_PACKET_BYTES: u32 = 300;
/// Packets of one burst leave this close to each other at 2.5 times any rate we send video with.
const BURST_GAP: Duration = Duration::from_millis(8);
const BURST_LENGTH: Duration = Duration::from_millis(30);
const MIN_BURST_PACKETS: u32 = 2;
/// Arrivals are stamped when the socket is read, a few packets at once.
const MIN_SPREAD_US: i64 = 250;
const SPREAD_SLACK_US: f64 = 700.0;
const BURSTS: usize = 9;

#[cfg(test)]
mod tests {
    use super::*;

    /// What the path carries by eight packets of 1200 bytes, each (arrival, delay) in ms.
    fn carried(packet: impl Fn(i64) -> (i64, i64)) -> Option<f64> {
        let mut newest = Newest::default();
        (0..8).for_each(|n| newest.add(packet(n).0 * 1000, packet(n).1 * 1000, 1200));
        newest.backlog_bps(10_000)
    }

    #[test]
    fn packets_that_queue_up_say_what_the_path_carries() {
        // Sent every 4 ms, let through every 16.
        assert_eq!(carried(|n| (n * 16, 12 + n * 12)), Some(600_000.0));
        assert_eq!(carried(|n| (n * 16, n * 3)), None, "too few of them late");
    }

    #[test]
    fn packets_that_left_slowly_or_came_in_a_heap_say_nothing_of_it() {
        assert_eq!(carried(|n| (n * 16, 40)), None, "as slowly as they left");
        let heap = |n: i64| if n < 4 { n } else { 60 + n };
        assert_eq!(carried(|n| (heap(n), 12 + heap(n))), None, "held up once");
    }
}
