//! A small seeded generator: the same seed gives the same link on every machine.

use std::time::Duration;

/// SplitMix64 (Steele, Lea and Flood, 2014): full period, passes `BigCrush`, one word of state.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// One stream of numbers for each pair of `seed` and `purpose`, so that switching one
    /// impairment on does not shift the dice of another.
    pub(crate) fn new(seed: u64, purpose: u64) -> Self {
        let mut mixed = Self(seed ^ purpose.wrapping_mul(0xd6e8_feb8_6659_fd93));
        // Neighbouring seeds part at once.
        Self(mixed.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `0.0..1.0`.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Uniform in `0..limit`.
    pub(crate) fn below(&mut self, limit: Duration) -> Duration {
        limit.mul_f64(self.unit())
    }
}
