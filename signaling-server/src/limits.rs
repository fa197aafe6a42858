//! What one deployment allows, and the token bucket that counts it. No clock of its own.

use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use visavis_signaling_protocol::limits;

/// Limits of one server. The defaults are those of the protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Largest message, bytes; beyond it `too-large`.
    pub message_bytes: usize,
    /// Sustained messages a second from one connection; beyond it `rate-limited`.
    pub messages_per_second: u32,
    /// Messages that may come at once before the sustained rate counts.
    pub message_burst: u32,
    /// Joins a minute from one address (IPv6: from one /64); beyond it `too-many-joins`.
    pub joins_per_minute: u32,
    /// Rooms in all; beyond it `too-many-rooms`.
    pub rooms: usize,
    /// WebSockets in all; beyond it the upgrade is answered with HTTP 503.
    pub connections: usize,
    /// Silence after which a seat is freed.
    pub silence: Duration,
    /// Time that a connection may stay without a `join`.
    pub join_deadline: Duration,
    /// How long a seat waits for a client that left and may return.
    pub return_wait: Duration,
    /// Time within which the holders of a full room's seats answer for themselves when somebody
    /// else wants to enter.
    pub probe: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: limits::MAX_MESSAGE_BYTES,
            messages_per_second: limits::MESSAGES_PER_SECOND,
            message_burst: limits::MESSAGE_BURST,
            joins_per_minute: limits::JOINS_PER_MINUTE,
            rooms: limits::MAX_ROOMS,
            connections: 3 * limits::MAX_ROOMS,
            silence: limits::SILENCE_LIMIT,
            join_deadline: limits::JOIN_DEADLINE,
            return_wait: limits::RETURN_LIMIT,
            probe: Duration::from_secs(2),
        }
    }
}

/// A token bucket: `capacity` at once, `per_second` sustained.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    tokens: f64,
    capacity: f64,
    per_second: f64,
    filled: Instant,
}

impl Bucket {
    /// A full one.
    pub(crate) fn new(now: Instant, capacity: f64, per_second: f64) -> Self {
        Self { tokens: capacity, capacity, per_second, filled: now }
    }

    /// Takes one token if there is one.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        self.take_many(now, 1.0)
    }

    /// Takes `count` tokens if there are as many.
    pub(crate) fn take_many(&mut self, now: Instant, count: f64) -> bool {
        self.fill(now);
        let enough = self.tokens >= count;
        if enough {
            self.tokens -= count;
        }
        enough
    }

    /// Takes all that is in it.
    pub(crate) fn drain(&mut self, now: Instant) {
        self.fill(now);
        self.tokens = 0.0;
    }

    /// Whether nothing was taken for so long that it need not be remembered.
    pub(crate) fn is_full(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.tokens >= self.capacity
    }

    fn fill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + elapsed * self.per_second).min(self.capacity);
        self.filled = now;
    }
}

/// Whom a limit "from one address" counts: an IPv6 customer has a whole /64.
pub(crate) fn address_key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn bucket_gives_its_burst_and_then_its_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start, 3.0, 2.0);
        assert!((0..3).all(|_| bucket.take(start)));
        assert!(!bucket.take(start));
        assert!(!bucket.take(start + Duration::from_millis(499)));
        assert!(bucket.take(start + Duration::from_millis(500)));
        assert!(!bucket.is_full(start + Duration::from_secs(1)));
        assert!(bucket.is_full(start + Duration::from_secs(3)));
    }

    #[test]
    fn bucket_bears_a_clock_that_stands_still() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start + Duration::from_secs(5), 1.0, 1.0);
        assert!(bucket.take(start));
        assert!(!bucket.take(start));
    }

    #[test]
    fn one_network_counts_as_one_address() {
        let key = |text: &str| address_key(text.parse().unwrap());
        assert_eq!(key("2001:db8:1:2:3:4:5:6"), key("2001:db8:1:2::1"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
    }
}
