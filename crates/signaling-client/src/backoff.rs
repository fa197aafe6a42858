//! How long to wait before connecting again. Plain arithmetic; the caller brings randomness.

use std::time::Duration;

/// The wait after `failures` connections lost or refused in a row (the first is number 1), shortened by up to
/// a quarter so that the clients of a restarted server do not all come at once. `random` is
/// uniform over its range.
pub(crate) fn delay(failures: u32, random: u32) -> Duration {
    let longest = match failures {
        0 | 1 => FIRST,
        n => SECOND.saturating_mul(1 << (n - 2).min(8)).min(LONGEST),
    };
    longest - longest.mul_f64(f64::from(random) / f64::from(u32::MAX) / 4.0)
}

const FIRST: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(4);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_four_seconds_and_are_spread() {
        let longest: Vec<_> = (1..=8).map(|n| delay(n, 0).as_millis()).collect();
        assert_eq!(longest, [100, 250, 500, 1000, 2000, 4000, 4000, 4000]);
        assert_eq!(delay(6, u32::MAX), Duration::from_secs(3));
        assert_eq!(delay(u32::MAX, 0), Duration::from_secs(4));
    }
}
