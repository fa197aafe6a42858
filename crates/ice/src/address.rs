//! Addresses: one form for each, and those to which nothing is ever sent.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

/// Whether anything is ever sent to an address that the remote peer named.
///
/// Not to what is no single host's address, and over TCP, where a connection itself may do harm, not to
/// services of this machine or well-known ones (RFC 6335 §6). An IPv4 address in an IPv6 one is looked at as
/// what it is.
#[must_use]
pub fn may_be_dialled(address: SocketAddr, over_tcp: bool) -> bool {
    let ip = address.ip().to_canonical();
    let reserved = match ip {
        // 0.0.0.0/8 is this machine on many systems (RFC 1122 §3.2.1.3); 240.0.0.0/4 is reserved, with
        // the broadcast address in it.
        IpAddr::V4(v4) => v4.octets()[0] == 0 || v4.octets()[0] >= 240,
        // The deprecated IPv4-compatible addresses ::/96 (RFC 4291 §2.5.5.1), but for ::1.
        IpAddr::V6(v6) => v6.octets()[..12] == [0; 12] && !v6.is_loopback(),
    };
    let no_host = ip.is_unspecified() || ip.is_multicast() || reserved || address.port() == 0;
    !no_host && !(over_tcp && (ip.is_loopback() || address.port() < FIRST_USER_PORT))
}

/// The form in which addresses are compared: IPv4 in IPv6 as IPv4, without flow and scope. A scope says
/// which interface an address is reached through, and that is what a path says.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The address to send to from `base`: a link-local destination is on the link of its base.
pub(crate) fn scoped(destination: SocketAddr, base: SocketAddr) -> SocketAddr {
    match (destination, base) {
        (SocketAddr::V6(to), SocketAddr::V6(from)) if is_link_local(to.ip().to_owned().into()) => {
            SocketAddrV6::new(*to.ip(), to.port(), 0, from.scope_id()).into()
        }
        _ => destination,
    }
}

/// Whether the address is one of fe80::/10 (RFC 4291 §2.5.6).
pub(crate) fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// Whether packets between the two can exist at all.
pub(crate) fn can_reach(from: IpAddr, to: IpAddr) -> bool {
    from.is_ipv4() == to.is_ipv4()
        && from.is_loopback() == to.is_loopback()
        && is_link_local(from) == is_link_local(to)
}

const FIRST_USER_PORT: u16 = 1024;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn addresses_that_are_no_hosts_and_services_of_this_machine_are_not_dialled() {
        let dialled =
            |ip: &str, port, tcp| may_be_dialled(SocketAddr::new(ip.parse().unwrap(), port), tcp);
        for no_host in [
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
            "240.0.0.1",
            "::ffff:0.0.0.0",
            "::ffff:224.0.0.1",
            "::127.0.0.1",
        ] {
            assert!(!dialled(no_host, 4000, false) && !dialled(no_host, 4000, true), "{no_host}");
        }
        for service in ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"] {
            assert!(dialled(service, 4000, false) && !dialled(service, 4000, true), "{service}");
        }
        assert!(!dialled("192.0.2.1", 25, true) && dialled("192.0.2.1", 25, false));
        assert!(!dialled("192.0.2.1", 0, false));
        for host in ["192.0.2.1", "10.0.0.1", "fe80::1", "2001:db8::1", "::ffff:192.0.2.1"] {
            assert!(dialled(host, 4000, false) && dialled(host, 4000, true), "{host}");
        }
    }

    #[test]
    fn a_link_local_destination_takes_the_scope_of_its_base() {
        let base: SocketAddr = "[fe80::1%3]:1".parse().unwrap();
        let to: SocketAddr = "[fe80::2]:2".parse().unwrap();
        assert_eq!(scoped(to, base), "[fe80::2%3]:2".parse().unwrap());
        let global: SocketAddr = "[2001:db8::2]:2".parse().unwrap();
        assert_eq!(scoped(global, base), global);
        assert_eq!(canonical(base), "[fe80::1]:1".parse().unwrap());
        assert_eq!(
            canonical("[::ffff:192.0.2.1]:5".parse().unwrap()),
            "192.0.2.1:5".parse().unwrap()
        );
    }
}
