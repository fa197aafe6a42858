//! The addresses of this machine that are used, the best first.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use rtc::shared::ifaces::ifaces;

/// One address of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    /// With the scope of a link-local one, and port 0.
    address: SocketAddr,
    interface: String,
}

/// The addresses that are bound: of each family, that of the default route first and virtual bridges last. Link-local
/// addresses only where the family has nothing else, loopback where there is nothing else at all. Empty if the system
/// does not say.
pub(crate) fn local_addresses() -> Vec<SocketAddr> {
    let all = ifaces().unwrap_or_default().into_iter().filter_map(|interface| {
        let mut address = interface.addr?;
        address.set_port(0);
        Some(Found { address, interface: interface.name })
    });
    let routed = [
        // Of documentation (RFC 5737, RFC 3849): nothing is sent.
        routed_by(SocketAddr::from(([192, 0, 2, 1], 9))),
        routed_by(SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 9))),
    ];
    choose(all.collect(), &routed.into_iter().flatten().collect::<Vec<_>>())
}

/// The address that the default route of this family has.
fn routed_by(destination: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = match destination {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(destination).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}

fn choose(all: Vec<Found>, routed: &[IpAddr]) -> Vec<SocketAddr> {
    let is_link_local = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    let usable = |found: &&Found| {
        let ip = found.address.ip();
        !ip.is_loopback() && !ip.is_unspecified() && !ip.is_multicast()
    };
    let mut chosen: Vec<SocketAddr> = Vec::new();
    for is_ipv6 in [false, true] {
        let family = || all.iter().filter(usable).filter(|f| f.address.is_ipv6() == is_ipv6);
        let has_other = family().any(|found| !is_link_local(found.address.ip()));
        let mut of_family: Vec<&Found> =
            family().filter(|found| !has_other || !is_link_local(found.address.ip())).collect();
        of_family.sort_by_key(|found| {
            (!routed.contains(&found.address.ip()), is_virtual(&found.interface))
        });
        let mut count = 0;
        for found in of_family {
            if count < MAX_ADDRESSES_PER_FAMILY && !chosen.contains(&found.address) {
                chosen.push(found.address);
                count += 1;
            }
        }
    }
    if chosen.is_empty() && !all.is_empty() {
        chosen = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
            .map(|ip: IpAddr| SocketAddr::new(ip, 0))
            .to_vec();
    }
    chosen
}

/// Whether an interface leads to containers and virtual machines of this one, by how such are named.
fn is_virtual(interface: &str) -> bool {
    let names =
        ["docker", "br-", "virbr", "veth", "vmnet", "vboxnet", "cni", "flannel", "lxc", "podman"];
    names.iter().any(|name| interface.starts_with(name))
}

/// Each has a socket and makes pairs with every remote candidate of its family.
const MAX_ADDRESSES_PER_FAMILY: usize = 12;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn chosen(all: &[(&str, &str)], routed: &[&str]) -> Vec<String> {
        let found = all.iter().map(|(interface, ip)| Found {
            address: SocketAddr::new(ip.parse().unwrap(), 0),
            interface: (*interface).to_owned(),
        });
        let routed: Vec<IpAddr> = routed.iter().map(|ip| ip.parse().unwrap()).collect();
        choose(found.collect(), &routed).iter().map(|a| a.ip().to_string()).collect()
    }

    /// Case 2 of what was seen in the field: five bridges before the card.
    #[test]
    fn the_default_route_comes_first_and_bridges_last_and_none_is_left_out() {
        let all = [
            ("lo", "127.0.0.1"),
            ("docker0", "172.17.0.1"),
            ("br-1", "172.18.0.1"),
            ("br-2", "172.19.0.1"),
            ("br-3", "172.20.0.1"),
            ("br-4", "172.21.0.1"),
            ("wlan0", "10.1.0.2"),
            ("eth0", "10.0.0.2"),
            ("eth0", "fe80::2"),
            ("eth0", "2001:db8::2"),
        ];
        let chosen = chosen(&all, &["10.0.0.2", "2001:db8::2"]);
        assert_eq!(chosen[..3], ["10.0.0.2", "10.1.0.2", "172.17.0.1"]);
        assert_eq!(chosen.len(), 8);
        assert_eq!(chosen[7], "2001:db8::2");
    }

    #[test]
    fn link_local_and_loopback_are_used_only_without_anything_else() {
        let local = [("lo", "127.0.0.1"), ("eth0", "169.254.1.1"), ("eth0", "fe80::1")];
        assert_eq!(chosen(&local, &[]), ["169.254.1.1", "fe80::1"]);
        assert_eq!(chosen(&local[..1], &[]), ["127.0.0.1", "::1"]);
        let routed = [("eth0", "192.0.2.1"), ("eth0", "169.254.1.1"), ("eth0", "fe80::1")];
        assert_eq!(chosen(&routed, &[]), ["192.0.2.1", "fe80::1"]);
        assert!(chosen(&[], &[]).is_empty());
    }
}
