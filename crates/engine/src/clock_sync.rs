//! How far the other side's clock is ahead of ours, from pings over the data channel (RFC 5905 §8).

use std::time::{Duration, Instant};

/// Often at first, for a good sample soon.
const FIRST_INTERVAL: Duration = Duration::from_secs(1);
const LATER_INTERVAL: Duration = Duration::from_secs(10);
const FIRST_PINGS: u32 = 5;

#[derive(Debug, Default)]
pub(crate) struct ClockSync {
    next: Option<Instant>,
    pings: u32,
    /// Round trip and offset of the quickest exchange, ms.
    best: Option<(f64, f64)>,
}

impl ClockSync {
    /// Whether to ping now.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        if self.next.is_some_and(|next| now < next) {
            return false;
        }
        self.pings += 1;
        self.next =
            Some(now + if self.pings < FIRST_PINGS { FIRST_INTERVAL } else { LATER_INTERVAL });
        true
    }

    /// Takes an answer in; the offset in ms by what is known so far. Zero while the error of the
    /// measurement could explain the whole offset, as between two programs on one machine.
    pub(crate) fn pong(&mut self, t0: f64, t1: f64, t2: f64, t3: f64) -> f64 {
        let round_trip = (t3 - t0) - (t2 - t1);
        let offset = f64::midpoint(t1 - t0, t2 - t3);
        if (0.0..10_000.0).contains(&round_trip)
            && offset.is_finite()
            && self.best.is_none_or(|(best, _)| round_trip <= best)
        {
            self.best = Some((round_trip, offset));
        }
        match self.best {
            Some((round_trip, offset)) if offset.abs() > round_trip / 2.0 => offset,
            _ => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quickest_exchange_counts() {
        let mut sync = ClockSync::default();
        // The other clock is 1000 ms ahead; 10 ms each way, then a slow way back.
        assert!((sync.pong(0.0, 1010.0, 1011.0, 21.0) - 1000.0).abs() < 1e-9);
        assert!((sync.pong(100.0, 1110.0, 1110.0, 320.0) - 1000.0).abs() < 1e-9);
        assert!((sync.pong(f64::NAN, 1.0, 1.0, 1.0) - 1000.0).abs() < 1e-9);
    }

    #[test]
    fn no_offset_within_the_error_of_measurement() {
        assert!(ClockSync::default().pong(0.0, 3.0, 3.0, 8.0).abs() < 1e-9);
    }
}
