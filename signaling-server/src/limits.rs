//! What one deployment allows, and what counts it: token buckets and shares for each address. No
//! clock of its own.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use visavis_signaling_protocol::limits;

/// Limits of one server. The defaults are those of the protocol.
///
/// "One address" is an IPv4 address or an IPv6 /64, and is meant to be a hundred people behind one
/// NAT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Largest message, bytes; beyond it `too-large`.
    pub message_bytes: usize,
    /// Sustained messages a second from one connection; beyond it `rate-limited`.
    pub messages_per_second: u32,
    /// Messages that may come at once before the sustained rate counts.
    pub message_burst: u32,
    /// Joins a minute from one address; beyond it `too-many-joins`. Resuming a seat is no join.
    /// Who brings a token that is not known, as after a restart of the server, has a share of its
    /// own, twice as large.
    pub joins_per_minute: u32,
    /// Joins a minute from one IPv6 /48; beyond it `too-many-joins`.
    pub joins_per_minute_per_site: u32,
    /// Rooms in all; beyond it `too-many-rooms`.
    pub rooms: usize,
    /// Rooms opened from one address; beyond it `too-many-rooms`.
    pub rooms_per_address: usize,
    /// Seats taken from one address; beyond it `too-many-joins`.
    pub seats_per_address: usize,
    /// WebSockets in all; beyond it the upgrade is answered with HTTP 503.
    pub connections: usize,
    /// WebSockets from one address; beyond it the upgrade is answered with HTTP 429.
    pub websockets_per_address: usize,
    /// Bytes of messages a second from one address, each message counted as at least
    /// [`MESSAGE_COST_BYTES`], eight times as many at once; beyond it `rate-limited`.
    pub bytes_per_second_per_address: u32,
    /// TCP connections in all, whatever they are for; beyond it HTTP 503, or the end of the
    /// connection where TLS would come first.
    pub tcp_connections: usize,
    /// TCP connections from one address; beyond it HTTP 429, or the end of the connection.
    pub tcp_connections_per_address: usize,
    /// TCP connections a second from one address, twenty times as many at once; beyond it HTTP 429,
    /// or the end of the connection.
    pub tcp_connections_per_second: u32,
    /// HTTP requests a second from one address, twenty times as many at once; beyond it HTTP 429.
    pub requests_per_second: u32,
    /// Bytes of messages kept for all clients, whether for seats whose WebSocket is gone or for
    /// WebSockets that are slow; beyond it the largest of them give way.
    pub kept_bytes: usize,
    /// Time that a client may take to read any of what is written to it.
    pub write: Duration,
    /// Time for a request's headers to arrive, counted from the connection or the request before.
    pub head: Duration,
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
            joins_per_minute_per_site: limits::JOINS_PER_MINUTE_PER_SITE,
            rooms: limits::MAX_ROOMS,
            rooms_per_address: limits::MAX_ROOMS_PER_ADDRESS,
            seats_per_address: limits::MAX_SEATS_PER_ADDRESS,
            connections: 3 * limits::MAX_ROOMS,
            websockets_per_address: limits::MAX_WEBSOCKETS_PER_ADDRESS,
            bytes_per_second_per_address: limits::BYTES_PER_SECOND_PER_ADDRESS,
            // As many again as WebSockets: pages that are being loaded, and the relay's streams.
            tcp_connections: 6 * limits::MAX_ROOMS,
            // A browser has up to six for a page, and keeps the WebSocket.
            tcp_connections_per_address: 1000,
            tcp_connections_per_second: 50,
            // A page is some thirty files.
            requests_per_second: 200,
            kept_bytes: 256 * 1024 * 1024,
            write: Duration::from_secs(10),
            head: Duration::from_secs(10),
            silence: limits::SILENCE_LIMIT,
            join_deadline: limits::JOIN_DEADLINE,
            return_wait: limits::RETURN_LIMIT,
            probe: Duration::from_secs(2),
        }
    }
}

/// What a message counts at least in [`Limits::bytes_per_second_per_address`].
pub const MESSAGE_COST_BYTES: usize = 1024;

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

/// The IPv6 /48 of an address: a customer may have all of it, and a hosting provider gives it away.
fn site_key(address: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(v6) = address.to_canonical() else { return None };
    Some(IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !(u128::MAX >> 48))))
}

/// Why there is nothing left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// Of what the server has in all.
    Server,
    /// Of what one address may have.
    Address,
}

/// How many of something each address holds.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    held: HashMap<IpAddr, usize>,
    total: usize,
}

impl Shares {
    /// Counts one more for `address`, unless it has its share already.
    pub(crate) fn take(&mut self, address: IpAddr, share: usize) -> bool {
        let held = self.held.entry(address_key(address)).or_default();
        let free = *held < share;
        if free {
            *held += 1;
            self.total += 1;
        } else if *held == 0 {
            self.held.remove(&address_key(address));
        }
        free
    }

    /// Whether `address` has less than its share.
    pub(crate) fn has_room(&self, address: IpAddr, share: usize) -> bool {
        self.held.get(&address_key(address)).copied().unwrap_or(0) < share
    }

    /// Counts one less for `address`.
    pub(crate) fn give_back(&mut self, address: IpAddr) {
        let key = address_key(address);
        if let Some(held) = self.held.get_mut(&key) {
            *held -= 1;
            self.total -= 1;
            if *held == 0 {
                self.held.remove(&key);
            }
        }
    }

    /// What all addresses hold.
    pub(crate) fn total(&self) -> usize {
        self.total
    }

    /// Forgets what everybody holds.
    pub(crate) fn clear(&mut self) {
        self.held.clear();
        self.total = 0;
    }
}

/// One token bucket for each address that has used any of it lately.
#[derive(Debug)]
pub(crate) struct Rates {
    buckets: HashMap<IpAddr, Bucket>,
    capacity: f64,
    per_second: f64,
}

impl Rates {
    /// `capacity` at once, `per_second` sustained.
    pub(crate) fn new(capacity: f64, per_second: f64) -> Self {
        Self { buckets: HashMap::new(), capacity, per_second }
    }

    /// Takes `count` tokens of `address` if there are as many.
    pub(crate) fn take(&mut self, now: Instant, address: IpAddr, count: f64) -> bool {
        self.take_of_key(now, address_key(address), count)
    }

    fn take_of_key(&mut self, now: Instant, key: IpAddr, count: f64) -> bool {
        let full = || Bucket::new(now, self.capacity, self.per_second);
        self.buckets.entry(key).or_insert_with(full).take_many(now, count)
    }

    /// Forgets the addresses that have used nothing for so long that they have all of it again.
    pub(crate) fn forget_full(&mut self, now: Instant) {
        self.buckets.retain(|_, bucket| !bucket.is_full(now));
    }
}

/// Joins of addresses and of the networks around them.
#[derive(Debug)]
pub(crate) struct Joins {
    addresses: Rates,
    sites: Rates,
    returning: Rates,
}

impl Joins {
    /// None yet.
    pub(crate) fn new(limits: &Limits) -> Self {
        let per_minute = |count: u32| Rates::new(f64::from(count), f64::from(count) / 60.0);
        Self {
            addresses: per_minute(limits.joins_per_minute),
            sites: per_minute(limits.joins_per_minute_per_site),
            returning: per_minute(limits.joins_per_minute.saturating_mul(2)),
        }
    }

    /// Whether one more is allowed. `returning`: it brings a token, which is not known.
    pub(crate) fn take(&mut self, now: Instant, address: IpAddr, returning: bool) -> bool {
        let rates = if returning { &mut self.returning } else { &mut self.addresses };
        rates.take(now, address, 1.0)
            && site_key(address).is_none_or(|site| self.sites.take_of_key(now, site, 1.0))
    }

    /// Forgets who has not joined for a while.
    pub(crate) fn forget_full(&mut self, now: Instant) {
        for rates in [&mut self.addresses, &mut self.sites, &mut self.returning] {
            rates.forget_full(now);
        }
    }

    /// Whether nobody is remembered.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        let all = [&self.addresses, &self.sites, &self.returning];
        all.iter().all(|rates| rates.buckets.is_empty())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_counted_by_network_and_given_back() {
        let mut shares = Shares::default();
        let [a, same, other] =
            ["2001:db8:1:2::1", "2001:db8:1:2::2", "2001:db8:1:3::1"].map(|t| t.parse().unwrap());
        assert!(shares.take(a, 2) && shares.take(same, 2));
        assert!(!shares.take(a, 2) && !shares.has_room(same, 2));
        assert!(shares.take(other, 2) && shares.has_room(other, 2));
        assert_eq!(shares.total(), 3);
        shares.give_back(same);
        assert!(shares.take(a, 2));
        for address in [a, a, other, other] {
            shares.give_back(address);
        }
        assert_eq!((shares.total(), shares.held.len()), (0, 0));
        assert!(!shares.take(a, 0) && shares.held.is_empty());
        assert!(shares.take("::ffff:192.0.2.1".parse().unwrap(), 1));
        assert!(!shares.take("192.0.2.1".parse().unwrap(), 1), "an IPv4 address in disguise");
    }

    #[test]
    fn joins_of_a_whole_site_are_limited_too() {
        let limits =
            Limits { joins_per_minute: 2, joins_per_minute_per_site: 3, ..Limits::default() };
        let (mut joins, now) = (Joins::new(&limits), Instant::now());
        let from = |n: u16| IpAddr::from([0x2001, 0xdb8, 1, n, 0, 0, 0, 1]);
        let taken = (0..100).filter(|n| joins.take(now, from(*n), false)).count();
        assert_eq!(taken, 3);
        assert!(joins.take(now, IpAddr::from([0x2001, 0xdb8, 2, 0, 0, 0, 0, 1]), false));
        let v4 = |n: u8| IpAddr::from([192, 0, 2, n]);
        let taken = (0..100).filter(|n| joins.take(now, v4(*n), false)).count();
        assert_eq!(taken, 100, "IPv4 addresses have nothing in common");
        let later = now + Duration::from_secs(61);
        joins.forget_full(later);
        assert!(joins.is_empty());
    }

    #[test]
    fn who_brings_a_token_has_another_share() {
        let mut joins = Joins::new(&Limits { joins_per_minute: 2, ..Limits::default() });
        let (now, address) = (Instant::now(), IpAddr::from([192, 0, 2, 1]));
        assert!((0..2).all(|_| joins.take(now, address, false)));
        assert!(!joins.take(now, address, false));
        assert!((0..4).all(|_| joins.take(now, address, true)));
        assert!(!joins.take(now, address, true));
    }

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
