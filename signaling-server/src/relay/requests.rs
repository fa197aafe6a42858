//! The four requests that need credentials: Allocate, Refresh, CreatePermission, ChannelBind.

use std::net::SocketAddr;
use std::time::Duration;

use turn_types::AddressFamily;
use turn_types::attribute::{
    ChannelNumber, EvenPort, Lifetime, RequestedAddressFamily, RequestedTransport,
    ReservationToken, XorPeerAddress, XorRelayedAddress,
};
use turn_types::message::{ALLOCATE, CREATE_PERMISSION, REFRESH};
use turn_types::stun::attribute::{
    AttributeType, ErrorCode, Fingerprint, MessageIntegrity, Nonce, Realm, Username,
    XorMappedAddress,
};
use turn_types::stun::message::Message;
use turn_types::stun::prelude::{Attribute, AttributeFromRaw, AttributeStaticType};

use super::allocation::{Allocation, NotBound, granted_lifetime, owner_of};
use super::auth::User;
use super::core::{Client, ClientId, Core, Now, Open, Standing, success};
use super::refusal::Refusal;

/// Attributes that are understood; others that must be are answered with 420 (RFC 8489 §6.3.1).
const KNOWN: [AttributeType; 12] = [
    Username::TYPE,
    Realm::TYPE,
    Nonce::TYPE,
    MessageIntegrity::TYPE,
    Fingerprint::TYPE,
    RequestedTransport::TYPE,
    RequestedAddressFamily::TYPE,
    EvenPort::TYPE,
    ReservationToken::TYPE,
    Lifetime::TYPE,
    XorPeerAddress::TYPE,
    ChannelNumber::TYPE,
];
/// Unknown ones that are named in the answer.
const UNKNOWN_MAX: usize = 8;

impl<L: Clone> Core<L> {
    /// The answer to an authentic request that is granted.
    pub(super) fn request(
        &mut self,
        now: Now,
        client: Client,
        message: &Message<'_>,
        open: Open<'_, L>,
    ) -> Result<Vec<u8>, Refusal> {
        let user = self.auth.check(message, client.address, now.wall)?;
        if let ClientId::Stream(number) = client.id {
            self.authentic_streams.insert(number);
        }
        self.check_seat(now, message, &user)?;
        let outcome = match message.method() {
            _ if has_unknown(message) => Err(unknown(message)),
            ALLOCATE => self.allocate(now, client, message, &user, open),
            REFRESH => self.refresh(now, client, message, &user),
            CREATE_PERMISSION => self.create_permission(now, client, message, &user),
            _ => self.channel_bind(now, client, message, &user),
        };
        outcome.map_err(|refusal| refusal.signed(&user.key))
    }

    /// Credentials end with their own time, and with the seat that they were made for.
    fn check_seat(&self, now: Now, message: &Message<'_>, user: &User) -> Result<(), Refusal> {
        if now.wall >= user.expires {
            return Err(Refusal::challenge("the credentials have expired; join again"));
        }
        match self.seats.get(owner_of(&user.name)) {
            Some(Standing::Seated) => Ok(()),
            Some(Standing::Away(until)) if now.instant < *until && message.method() != ALLOCATE => {
                Ok(())
            }
            _ => Err(Refusal::challenge("the credentials have ended with the seat; join again")),
        }
    }

    /// RFC 8656 §7.2.
    fn allocate(
        &mut self,
        now: Now,
        client: Client,
        message: &Message<'_>,
        user: &User,
        open: Open<'_, L>,
    ) -> Result<Vec<u8>, Refusal> {
        if let Some(allocation) = self.allocations.get(&client.id) {
            if allocation.transaction == message.transaction_id() && allocation.user == user.name {
                return Ok(allocated(now, client, message, user, allocation));
            }
            return Err(Refusal::new(ErrorCode::ALLOCATION_MISMATCH, "there is one already"));
        }
        match message.attribute::<RequestedTransport>().map(|transport| transport.protocol()) {
            Ok(RequestedTransport::UDP) => {}
            Ok(_) => {
                let code = ErrorCode::UNSUPPORTED_TRANSPORT_PROTOCOL;
                return Err(Refusal::new(code, "only UDP is relayed"));
            }
            Err(_) => return Err(Refusal::bad_request("the transport is missing")),
        }
        if message.has_attribute(EvenPort::TYPE) || message.has_attribute(ReservationToken::TYPE) {
            return Err(full("ports are not reserved here"));
        }
        let v6 = requested_family(message)? == Some(AddressFamily::IPV6);
        if !self.relays(v6) {
            let code = ErrorCode::ADDRESS_FAMILY_NOT_SUPPORTED;
            return Err(Refusal::new(code, "no relayed address of that family"));
        }
        let owner = owner_of(&user.name);
        let owned = self.allocations.values().filter(|other| other.owner() == owner).count();
        if owned >= self.limits.allocations_per_user {
            let code = ErrorCode::ALLOCATION_QUOTA_REACHED;
            return Err(Refusal::new(code, "too many allocations of one user"));
        }
        if self.allocations.len() >= self.limits.allocations {
            return Err(full("too many allocations in all"));
        }
        let address = client.address.ip();
        if !self.shares.has_room(address, self.limits.allocations_per_address) {
            let code = ErrorCode::ALLOCATION_QUOTA_REACHED;
            return Err(Refusal::new(code, "too many allocations of one address"));
        }
        let Some(socket) = open(v6) else { return Err(full("no port is free")) };
        self.shares.take(address, usize::MAX);
        self.counters.allocations += 1;
        let relayed = socket.1;
        let asked = message.attribute::<Lifetime>().ok().map(|lifetime| lifetime.seconds());
        let allocation = Allocation::new(
            now.instant,
            socket,
            (self.counters.allocations, user.name.clone(), address),
            (message.transaction_id(), granted_lifetime(asked).min(user.left(now.wall))),
            self.limits.bytes_per_second,
        );
        tracing::info!(allocation = allocation.number, "relay: allocation opened");
        let answer = allocated(now, client, message, user, &allocation);
        self.by_relayed.insert(relayed, client.id);
        self.allocations.insert(client.id, allocation);
        Ok(answer)
    }

    /// RFC 8656 §8.2.
    fn refresh(
        &mut self,
        now: Now,
        client: Client,
        message: &Message<'_>,
        user: &User,
    ) -> Result<Vec<u8>, Refusal> {
        let allocation = self.own_allocation(now, client, user)?;
        if let Some(family) = requested_family(message)?
            && (family == AddressFamily::IPV6) != allocation.relayed.is_ipv6()
        {
            return Err(wrong_family());
        }
        let asked = message.attribute::<Lifetime>().ok().map(|lifetime| lifetime.seconds());
        let granted = if asked == Some(0) {
            self.close(client.id);
            Duration::ZERO
        } else {
            let granted = granted_lifetime(asked).min(user.left(now.wall));
            allocation.expires = now.instant + granted;
            granted
        };
        Ok(success(message, Some(&user.key), &[&lifetime(granted)]))
    }

    /// RFC 8656 §10.2. Nothing is installed if one peer is refused.
    fn create_permission(
        &mut self,
        now: Now,
        client: Client,
        message: &Message<'_>,
        user: &User,
    ) -> Result<Vec<u8>, Refusal> {
        let v6 = self.own_allocation(now, client, user)?.relayed.is_ipv6();
        let mut peers = Vec::new();
        for (_, raw) in message.iter_attributes() {
            if raw.get_type() == XorPeerAddress::TYPE {
                let peer = XorPeerAddress::from_raw(raw)
                    .map_err(|_| Refusal::bad_request("a peer's address is malformed"))?;
                peers.push(self.reachable(peer.addr(message.transaction_id()), v6)?);
            }
        }
        if peers.is_empty() {
            return Err(Refusal::bad_request("the peer's address is missing"));
        }
        let allocation = self.own_allocation(now, client, user)?;
        for peer in peers {
            allocation.permit(now.instant, peer.ip()).map_err(not_bound)?;
        }
        Ok(success(message, Some(&user.key), &[]))
    }

    /// RFC 8656 §12.2.
    fn channel_bind(
        &mut self,
        now: Now,
        client: Client,
        message: &Message<'_>,
        user: &User,
    ) -> Result<Vec<u8>, Refusal> {
        let v6 = self.own_allocation(now, client, user)?.relayed.is_ipv6();
        let (Ok(number), Ok(peer)) =
            (message.attribute::<ChannelNumber>(), message.attribute::<XorPeerAddress>())
        else {
            return Err(Refusal::bad_request("channel number or peer's address is missing"));
        };
        let peer = self.reachable(peer.addr(message.transaction_id()), v6)?;
        let allocation = self.own_allocation(now, client, user)?;
        allocation.bind(now.instant, number.channel(), peer).map_err(not_bound)?;
        Ok(success(message, Some(&user.key), &[]))
    }

    /// The client's allocation, which only its own user may change (RFC 8656 §5).
    fn own_allocation(
        &mut self,
        now: Now,
        client: Client,
        user: &User,
    ) -> Result<&mut Allocation<L>, Refusal> {
        let allocation = self.allocations.get_mut(&client.id);
        let Some(allocation) = allocation.filter(|a| now.instant < a.expires) else {
            return Err(Refusal::new(ErrorCode::ALLOCATION_MISMATCH, "there is no allocation"));
        };
        if allocation.user != user.name {
            let code = ErrorCode::WRONG_CREDENTIALS;
            return Err(Refusal::new(code, "another user's allocation"));
        }
        Ok(allocation)
    }

    fn reachable(&self, peer: SocketAddr, v6: bool) -> Result<SocketAddr, Refusal> {
        if !self.may_reach(peer.ip()) {
            let reason = "peers in private and other special ranges are not relayed to";
            return Err(Refusal::new(ErrorCode::FORBIDDEN, reason));
        }
        // A mapped IPv4 address is one in disguise.
        if peer.ip().to_canonical().is_ipv6() != v6 {
            return Err(wrong_family());
        }
        Ok(peer)
    }
}

fn allocated<L>(
    now: Now,
    client: Client,
    message: &Message<'_>,
    user: &User,
    allocation: &Allocation<L>,
) -> Vec<u8> {
    let id = message.transaction_id();
    let left = allocation.expires.saturating_duration_since(now.instant);
    let relayed = XorRelayedAddress::new(allocation.relayed, id);
    let mapped = XorMappedAddress::new(client.address, id);
    success(message, Some(&user.key), &[&relayed, &lifetime(left), &mapped])
}

fn lifetime(duration: Duration) -> Lifetime {
    Lifetime::new(u32::try_from(duration.as_secs()).unwrap_or(u32::MAX))
}

fn requested_family(message: &Message<'_>) -> Result<Option<AddressFamily>, Refusal> {
    let Some(raw) = message.raw_attribute(RequestedAddressFamily::TYPE) else { return Ok(None) };
    let family = RequestedAddressFamily::from_raw(raw).map(|attribute| attribute.family());
    let code = ErrorCode::ADDRESS_FAMILY_NOT_SUPPORTED;
    family.map(Some).map_err(|_| Refusal::new(code, "an address family that is not known"))
}

fn unknown_types<'a>(message: &'a Message<'_>) -> impl Iterator<Item = AttributeType> + 'a {
    let types = message.iter_attributes().map(|(_, raw)| raw.get_type());
    types.filter(|kind| kind.comprehension_required() && !KNOWN.contains(kind))
}

fn has_unknown(message: &Message<'_>) -> bool {
    unknown_types(message).next().is_some()
}

fn unknown(message: &Message<'_>) -> Refusal {
    let mut refusal = Refusal::new(ErrorCode::UNKNOWN_ATTRIBUTE, "an attribute is not known");
    refusal.unknown = unknown_types(message).take(UNKNOWN_MAX).collect();
    refusal
}

fn full(reason: &'static str) -> Refusal {
    Refusal::new(ErrorCode::INSUFFICIENT_CAPACITY, reason)
}

fn wrong_family() -> Refusal {
    let code = ErrorCode::PEER_ADDRESS_FAMILY_MISMATCH;
    Refusal::new(code, "the address families differ")
}

fn not_bound(error: NotBound) -> Refusal {
    match error {
        NotBound::Mismatch => Refusal::bad_request("number or peer are bound otherwise"),
        NotBound::Full => full("too many peers of one allocation"),
    }
}
