//! The two clocks of a connection: the media clock inside, NTP time in RTCP.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use visavis_media::MediaTime;

/// Turns [`Instant`]s into [`MediaTime`]; whoever builds capture, playout and peer gives all of
/// them the same one. Cheap to copy.
#[derive(Debug, Clone, Copy)]
pub struct MediaClock {
    origin: Instant,
    /// Unix time at `origin`. Read once: steps of the system clock during a call do not reach
    /// sender reports (RFC 3550 §4 asks for a clock that does not jump).
    unix_at_origin: Duration,
}

impl MediaClock {
    /// A clock whose zero is `origin`.
    pub fn new(origin: Instant) -> Self {
        let now = Instant::now();
        let unix_now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unix_at_origin = (unix_now + origin.saturating_duration_since(now))
            .saturating_sub(now.saturating_duration_since(origin));
        Self { origin, unix_at_origin }
    }

    /// The media time of `instant`; zero for instants before the origin.
    pub fn at(&self, instant: Instant) -> MediaTime {
        let us = instant.saturating_duration_since(self.origin).as_micros();
        MediaTime::from_micros(u64::try_from(us).unwrap_or(u64::MAX))
    }

    /// The media time now.
    pub fn now(&self) -> MediaTime {
        self.at(Instant::now())
    }

    /// `instant` as a 64-bit NTP timestamp: seconds since 1900 in 32.32 fixed point
    /// (RFC 3550 §4).
    pub(crate) fn ntp(&self, instant: Instant) -> u64 {
        let unix = self.unix_at_origin + instant.saturating_duration_since(self.origin);
        let seconds = unix.as_secs().wrapping_add(NTP_UNIX_OFFSET_S);
        (seconds << 32) | ((u64::from(unix.subsec_nanos()) << 32) / 1_000_000_000)
    }
}

impl Default for MediaClock {
    fn default() -> Self {
        Self::new(Instant::now())
    }
}

/// The middle 32 bits of an NTP timestamp, 16.16 seconds: what report blocks carry.
pub(crate) fn ntp_middle(ntp: u64) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "the middle 32 bits are what is asked for")]
    {
        (ntp >> 16) as u32
    }
}

/// A 16.16 interval as a [`Duration`].
pub(crate) fn from_ntp_short(interval: u32) -> Duration {
    Duration::from_nanos(u64::from(interval) * 1_000_000_000 / 65_536)
}

/// A [`Duration`] in 16.16 seconds, saturating.
pub(crate) fn to_ntp_short(interval: Duration) -> u32 {
    u32::try_from(interval.as_micros() * 65_536 / 1_000_000).unwrap_or(u32::MAX)
}

/// Seconds from 1900-01-01 to 1970-01-01 (RFC 868).
const NTP_UNIX_OFFSET_S: u64 = 2_208_988_800;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ntp_time_advances_with_the_instant() {
        let origin = Instant::now();
        let clock = MediaClock::new(origin);
        let a = clock.ntp(origin);
        let b = clock.ntp(origin + Duration::from_millis(1500));
        let millis = (u128::from(b - a) * 1000) >> 32;
        assert!((1499..=1500).contains(&millis), "{millis}");
        assert!(from_ntp_short(ntp_middle(b) - ntp_middle(a)).as_millis().abs_diff(1500) <= 1);
    }

    #[test]
    fn short_intervals_survive_the_round_trip() {
        for ms in [0, 1, 20, 1000, 60_000] {
            let back = from_ntp_short(to_ntp_short(Duration::from_millis(ms)));
            assert!(back.as_millis().abs_diff(u128::from(ms)) <= 1, "{ms} became {back:?}");
        }
    }
}
