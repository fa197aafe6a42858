//! What a link did, over time: the same figures for whatever runs over it.

use std::time::Duration;

use serde::Serialize;

/// Which flow of the link a packet belongs to; small numbers, chosen by the caller.
pub type Tag = usize;

/// What one direction did, from the beginning of its schedule.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Record {
    /// One for each [`Record::BIN`], without gaps. Sizes are those of IP packets.
    pub bins: Vec<Bin>,
    /// By [`Tag`].
    pub flows: Vec<Flow>,
}

/// One slice of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Bin {
    /// Pushed into the link.
    pub offered_bytes: u64,
    /// Come out of the link (duplicates count again).
    pub delivered_bytes: u64,
    /// Refused by the full queue, packets.
    pub dropped_by_queue: u64,
    /// Lost on the way, packets.
    pub dropped_by_loss: u64,
    /// Swallowed by a blackout, packets.
    pub dropped_by_blackout: u64,
    /// Longest that a packet pushed in this time will have waited in the queue, microseconds.
    pub queue_delay_max_us: u64,
}

/// The packets of one tag.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Flow {
    /// Pushed.
    pub offered_packets: u64,
    /// Pushed.
    pub offered_bytes: u64,
    /// Delivered, packets.
    pub delivered_packets: u64,
    /// Delivered.
    pub delivered_bytes: u64,
    /// Dropped for any reason, packets.
    pub dropped_packets: u64,
    /// Bytes pushed, for each [`Record::BIN`].
    pub offered_bins: Vec<u64>,
    /// Bytes delivered, for each [`Record::BIN`].
    pub delivered_bins: Vec<u64>,
}

/// Why a packet was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drop {
    Queue,
    Loss,
    Blackout,
}

impl Record {
    /// The length of a [`Bin`].
    pub const BIN: Duration = Duration::from_millis(100);
    /// A day; what comes later counts as then.
    const MAX_BINS: usize = 864_000;
    /// Tags beyond share the last flow.
    pub const MAX_FLOWS: usize = 64;

    fn index(at: Duration) -> usize {
        let bin = at.as_millis() / Self::BIN.as_millis();
        usize::try_from(bin).unwrap_or(usize::MAX).min(Self::MAX_BINS - 1)
    }

    fn bin(&mut self, at: Duration) -> &mut Bin {
        let index = Self::index(at);
        if self.bins.len() <= index {
            self.bins.resize(index + 1, Bin::default());
        }
        &mut self.bins[index]
    }

    fn flow(&mut self, tag: Tag) -> &mut Flow {
        let tag = tag.min(Self::MAX_FLOWS - 1);
        if self.flows.len() <= tag {
            self.flows.resize(tag + 1, Flow::default());
        }
        &mut self.flows[tag]
    }

    pub(crate) fn offered(&mut self, at: Duration, tag: Tag, bytes: usize) {
        self.bin(at).offered_bytes += bytes as u64;
        let flow = self.flow(tag);
        flow.offered_packets += 1;
        flow.offered_bytes += bytes as u64;
        add(&mut flow.offered_bins, at, bytes);
    }

    pub(crate) fn delivered(&mut self, at: Duration, tag: Tag, bytes: usize) {
        self.bin(at).delivered_bytes += bytes as u64;
        let flow = self.flow(tag);
        flow.delivered_packets += 1;
        flow.delivered_bytes += bytes as u64;
        add(&mut flow.delivered_bins, at, bytes);
    }

    pub(crate) fn dropped(&mut self, at: Duration, tag: Tag, why: Drop) {
        self.flow(tag).dropped_packets += 1;
        let bin = self.bin(at);
        match why {
            Drop::Queue => bin.dropped_by_queue += 1,
            Drop::Loss => bin.dropped_by_loss += 1,
            Drop::Blackout => bin.dropped_by_blackout += 1,
        }
    }

    pub(crate) fn queue_delay(&mut self, at: Duration, delay: Duration) {
        let us = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        let bin = self.bin(at);
        bin.queue_delay_max_us = bin.queue_delay_max_us.max(us);
    }

    /// Bits a second that came out between two times.
    pub fn delivered_bps(&self, from: Duration, to: Duration) -> f64 {
        rate(from, to, self.bins.iter().map(|bin| bin.delivered_bytes))
    }

    /// Packets that did not come out.
    pub fn dropped_packets(&self) -> u64 {
        self.flows.iter().map(|flow| flow.dropped_packets).sum()
    }

    /// From `from` until the first time after which the queue delay stays below `limit` for
    /// `hold`; `None` if that never was.
    pub fn settled_after(
        &self,
        from: Duration,
        limit: Duration,
        hold: Duration,
    ) -> Option<Duration> {
        let (start, hold) = (Self::index(from), Self::index(hold).max(1));
        let us = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX);
        let calm = |bin: &Bin| bin.queue_delay_max_us < us;
        let after = self.bins.get(start..)?.windows(hold).position(|w| w.iter().all(calm))?;
        Some(Self::BIN * u32::try_from(after).ok()?)
    }

    /// From `from` until the first second in which at least `bps` were delivered has ended.
    pub fn rate_reached_after(&self, from: Duration, bps: f64) -> Option<Duration> {
        let window = 10;
        let bins = self.bins.get(Self::index(from)..)?;
        #[expect(clippy::cast_precision_loss, reason = "bits of a second")]
        let reached =
            |w: &[Bin]| w.iter().map(|b| b.delivered_bytes * 8).sum::<u64>() as f64 >= bps;
        let at = bins.windows(window).position(reached)? + window;
        Some(Self::BIN * u32::try_from(at).ok()?)
    }
}

impl Flow {
    /// Bits a second that were pushed between two times.
    pub fn offered_bps(&self, from: Duration, to: Duration) -> f64 {
        rate(from, to, self.offered_bins.iter().copied())
    }
}

fn add(bins: &mut Vec<u64>, at: Duration, bytes: usize) {
    let index = Record::index(at);
    if bins.len() <= index {
        bins.resize(index + 1, 0);
    }
    bins[index] += bytes as u64;
}

#[expect(clippy::cast_precision_loss, reason = "bytes of a call")]
fn rate(from: Duration, to: Duration, bins: impl Iterator<Item = u64>) -> f64 {
    let (first, last) = (Record::index(from), Record::index(to));
    let bytes: u64 = bins.skip(first).take(last.saturating_sub(first)).sum();
    let seconds = to.saturating_sub(from).as_secs_f64();
    if seconds > 0.0 { bytes as f64 * 8.0 / seconds } else { 0.0 }
}
