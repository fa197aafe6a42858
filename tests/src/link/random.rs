//! A small seeded generator: the same seed gives the same link on every machine.

use std::time::Duration;

use visavis_media::random::SplitMix64;

#[derive(Debug, Clone)]
pub(crate) struct Random(SplitMix64);

impl Random {
    /// One stream of numbers for each pair of `seed` and `purpose`, so that switching one
    /// impairment on does not shift the dice of another.
    pub(crate) fn new(seed: u64, purpose: u64) -> Self {
        let mut mixed = SplitMix64::new(seed ^ purpose.wrapping_mul(0xd6e8_feb8_6659_fd93));
        // Neighbouring seeds part at once.
        Self(SplitMix64::new(mixed.bits()))
    }

    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.0.unit() < probability
    }

    /// Uniform in `0..limit`.
    pub(crate) fn below(&mut self, limit: Duration) -> Duration {
        limit.mul_f64(self.0.unit())
    }
}
