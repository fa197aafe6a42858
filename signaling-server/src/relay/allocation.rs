//! One allocation: to whom it may send, over which channels, how much, how long. Pure.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use turn_types::stun::message::TransactionId;

use crate::limits::Bucket;

/// RFC 8656 §3.2: how long an allocation lives after Allocate and Refresh unless more is asked for.
pub(crate) const LIFETIME: Duration = Duration::from_secs(600);
/// RFC 8656 §7.2: the most that may be asked for.
pub(crate) const LIFETIME_MAX: Duration = Duration::from_secs(3600);
/// RFC 8656 §9.
const PERMISSION_LIFETIME: Duration = Duration::from_secs(300);
/// RFC 8656 §12.
const CHANNEL_LIFETIME: Duration = Duration::from_secs(600);
/// Permissions, and likewise channels, of one allocation. ICE needs one for each remote candidate.
const PEERS_MAX: usize = 128;
/// RFC 8656 §12.
const CHANNEL_NUMBERS: std::ops::RangeInclusive<u16> = 0x4000..=0x4fff;

/// A relayed transport address in use.
pub(crate) struct Allocation<L> {
    /// How its sockets are reached; opaque here.
    pub(crate) link: L,
    /// For the log.
    pub(crate) number: u64,
    /// `UNIX-EXPIRY:PEER`.
    pub(crate) user: String,
    /// Of the client that asked for it: whose share it is.
    pub(crate) address: IpAddr,
    /// As told to the client.
    pub(crate) relayed: SocketAddr,
    pub(crate) expires: Instant,
    /// Of the Allocate request, which may be repeated.
    pub(crate) transaction: TransactionId,
    permissions: HashMap<IpAddr, Instant>,
    channels: HashMap<u16, Channel>,
    numbers: HashMap<SocketAddr, u16>,
    /// Bytes that the client may still send.
    pub(crate) upward: Bucket,
    /// Bytes that it may still be sent.
    pub(crate) downward: Bucket,
}

struct Channel {
    peer: SocketAddr,
    expires: Instant,
}

/// Why a permission or channel is not installed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NotBound {
    /// The number is out of range, or number or peer are bound otherwise.
    Mismatch,
    /// There are too many.
    Full,
}

impl<L> Allocation<L> {
    /// A fresh one. `bytes_per_second` may be sent each way, a second's worth at once.
    pub(crate) fn new(
        now: Instant,
        (link, relayed): (L, SocketAddr),
        (number, user, address): (u64, String, IpAddr),
        (transaction, lifetime): (TransactionId, Duration),
        bytes_per_second: u64,
    ) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let rate = bytes_per_second as f64;
        Self {
            link,
            number,
            user,
            address,
            relayed,
            expires: now + lifetime,
            transaction,
            permissions: HashMap::new(),
            channels: HashMap::new(),
            numbers: HashMap::new(),
            upward: Bucket::new(now, rate, rate),
            downward: Bucket::new(now, rate, rate),
        }
    }

    /// The peer id inside the user name: whom quotas count.
    pub(crate) fn owner(&self) -> &str {
        owner_of(&self.user)
    }

    /// Whether datagrams may be exchanged with `peer` just now.
    pub(crate) fn permits(&self, now: Instant, peer: IpAddr) -> bool {
        self.permissions.get(&peer).is_some_and(|expires| now < *expires)
    }

    /// Installs or renews a permission.
    pub(crate) fn permit(&mut self, now: Instant, peer: IpAddr) -> Result<(), NotBound> {
        if self.permissions.len() >= PEERS_MAX && !self.permissions.contains_key(&peer) {
            return Err(NotBound::Full);
        }
        self.permissions.insert(peer, now + PERMISSION_LIFETIME);
        Ok(())
    }

    /// Installs or renews a channel, and the permission that comes with it (RFC 8656 §12.2).
    pub(crate) fn bind(
        &mut self,
        now: Instant,
        number: u16,
        peer: SocketAddr,
    ) -> Result<(), NotBound> {
        self.drop_expired_channels(now);
        let other_peer = self.channels.get(&number).is_some_and(|channel| channel.peer != peer);
        let other_number = self.numbers.get(&peer).is_some_and(|bound| *bound != number);
        if !CHANNEL_NUMBERS.contains(&number) || other_peer || other_number {
            return Err(NotBound::Mismatch);
        }
        if self.channels.len() >= PEERS_MAX && !self.channels.contains_key(&number) {
            return Err(NotBound::Full);
        }
        self.permit(now, peer.ip())?;
        self.channels.insert(number, Channel { peer, expires: now + CHANNEL_LIFETIME });
        self.numbers.insert(peer, number);
        Ok(())
    }

    /// The peer bound to a channel.
    pub(crate) fn peer_of(&self, now: Instant, number: u16) -> Option<SocketAddr> {
        self.channels.get(&number).filter(|channel| now < channel.expires).map(|c| c.peer)
    }

    /// The channel bound to a peer.
    pub(crate) fn channel_of(&self, now: Instant, peer: SocketAddr) -> Option<u16> {
        self.numbers.get(&peer).copied().filter(|number| self.peer_of(now, *number).is_some())
    }

    /// Forgets what has expired.
    pub(crate) fn tick(&mut self, now: Instant) {
        self.permissions.retain(|_, expires| now < *expires);
        self.drop_expired_channels(now);
    }

    fn drop_expired_channels(&mut self, now: Instant) {
        self.channels.retain(|_, channel| now < channel.expires);
        self.numbers.retain(|_, number| self.channels.contains_key(number));
    }
}

/// The lifetime that is granted: within [`LIFETIME`] and [`LIFETIME_MAX`] (RFC 8656 §7.2).
pub(crate) fn granted_lifetime(asked: Option<u32>) -> Duration {
    let asked = asked.map_or(LIFETIME, |seconds| Duration::from_secs(u64::from(seconds)));
    asked.clamp(LIFETIME, LIFETIME_MAX)
}

/// The peer id inside a user name.
pub(crate) fn owner_of(user: &str) -> &str {
    user.split_once(':').map_or(user, |(_, owner)| owner)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn allocation(now: Instant) -> Allocation<()> {
        let relayed = "192.0.2.1:50000".parse().unwrap();
        let user = (1, "1:ada".to_owned(), [198, 51, 100, 1].into());
        Allocation::new(now, ((), relayed), user, (1.into(), LIFETIME), 1000)
    }

    #[test]
    fn a_channel_belongs_to_one_peer_and_a_peer_to_one_channel() {
        let now = Instant::now();
        let mut allocation = allocation(now);
        let [a, b] = ["192.0.2.7:1000", "192.0.2.7:1001"].map(|text| text.parse().unwrap());
        assert_eq!(allocation.bind(now, 0x4000, a), Ok(()));
        assert_eq!(allocation.bind(now, 0x4000, a), Ok(()), "renewed");
        assert_eq!(allocation.bind(now, 0x4000, b), Err(NotBound::Mismatch));
        assert_eq!(allocation.bind(now, 0x4001, a), Err(NotBound::Mismatch));
        assert_eq!(allocation.bind(now, 0x3fff, b), Err(NotBound::Mismatch));
        assert_eq!(allocation.bind(now, 0x5000, b), Err(NotBound::Mismatch));
        assert_eq!(allocation.bind(now, 0x4fff, b), Ok(()));
        assert_eq!(allocation.peer_of(now, 0x4000), Some(a));
        assert_eq!(allocation.channel_of(now, b), Some(0x4fff));
        let later = now + CHANNEL_LIFETIME;
        assert_eq!(allocation.peer_of(later, 0x4000), None);
        assert_eq!(allocation.channel_of(later, b), None);
        assert_eq!(allocation.bind(later, 0x4001, a), Ok(()), "free again");
    }

    #[test]
    fn permissions_expire_and_are_limited() {
        let now = Instant::now();
        let mut allocation = allocation(now);
        for n in 0..PEERS_MAX as u8 {
            allocation.permit(now, [192, 0, 2, n].into()).unwrap();
        }
        assert_eq!(allocation.permit(now, [198, 51, 100, 1].into()), Err(NotBound::Full));
        assert_eq!(allocation.permit(now, [192, 0, 2, 0].into()), Ok(()));
        assert!(allocation.permits(now + Duration::from_secs(299), [192, 0, 2, 0].into()));
        let later = now + PERMISSION_LIFETIME;
        assert!(!allocation.permits(later, [192, 0, 2, 0].into()));
        allocation.tick(later);
        assert_eq!(allocation.permit(later, [198, 51, 100, 1].into()), Ok(()));
    }

    #[test]
    fn lifetimes_stay_within_bounds() {
        let granted = |asked| granted_lifetime(asked).as_secs();
        assert_eq!(granted(None), 600);
        assert_eq!(granted(Some(1)), 600);
        assert_eq!(granted(Some(1800)), 1800);
        assert_eq!(granted(Some(u32::MAX)), 3600);
    }
}
