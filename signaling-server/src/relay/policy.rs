//! Whom the relay sends to. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What peers an allocation may name: a client must not reach through the relay what only the
/// relay can reach (RFC 8656 §21.2).
#[derive(Debug, Clone)]
pub(crate) struct PeerPolicy {
    /// Whether loopback, link-local, private and other special ranges are open, and this machine.
    pub(crate) allow_private: bool,
    /// This machine's addresses, and those under which the world reaches it.
    pub(crate) own: Vec<IpAddr>,
}

impl PeerPolicy {
    /// Whether datagrams may be sent there.
    pub(crate) fn allows(&self, peer: IpAddr) -> bool {
        let peer = match peer {
            IpAddr::V4(v4) => IpAddr::V4(v4),
            IpAddr::V6(v6) => embedded_v4(v6).map_or(peer, IpAddr::V4),
        };
        if never(peer) {
            return false;
        }
        let is_own = |peer| self.own.iter().any(|own| own.to_canonical() == peer);
        let own = is_own(peer) || behind_6to4(peer).is_some_and(|v4| is_own(v4.into()));
        self.allow_private || !(is_special(peer) || own)
    }
}

/// No host: unspecified, multicast, broadcast.
fn never(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.octets()[0] == 0 || v4.octets()[0] >= 224,
        IpAddr::V6(v6) => v6.is_unspecified() || v6.is_multicast(),
    }
}

/// Not globally reachable: the IANA special-purpose registries (RFC 6890), and what is deprecated.
pub(crate) fn is_special(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_special_v4(v4),
        IpAddr::V6(v6) => is_special_v6(v6),
    }
}

fn is_special_v4(v4: Ipv4Addr) -> bool {
    let [a, b, c, _] = v4.octets();
    v4.is_loopback()
        || v4.is_private()
        || v4.is_link_local()
        || v4.is_documentation()
        // RFC 6598 (carriers' NAT), RFC 6890 (protocol assignments), RFC 7526, RFC 2544.
        || (a == 100 && b & 0xc0 == 64)
        || (a, b, c) == (192, 0, 0)
        || (a, b, c) == (192, 88, 99)
        || (a == 198 && b & 0xfe == 18)
}

fn is_special_v6(v6: Ipv6Addr) -> bool {
    let [a, b, ..] = v6.segments();
    // Global unicast is 2000::/3 alone (RFC 4291 §2.4); loopback, link-local, site-local, unique
    // local, discard and local NAT64 (64:ff9b:1::/48, RFC 8215) lie outside it.
    a & 0xe000 != 0x2000
        // RFC 6890 (protocol assignments, among them Teredo), RFC 3849, RFC 9637.
        || (a == 0x2001 && b < 0x0200)
        || (a == 0x2001 && b == 0x0db8)
        || (a == 0x3fff && b < 0x1000)
        // Whose IPv4 address is special, or none of use.
        || behind_6to4(IpAddr::V6(v6)).is_some_and(is_special_v4)
}

/// The IPv4 address of a 6to4 router (RFC 3056), to which packets for the network behind it go.
fn behind_6to4(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(v6) = address else { return None };
    let [a, b, c, ..] = v6.segments();
    (a == 0x2002).then(|| Ipv4Addr::from_bits(u32::from(b) << 16 | u32::from(c)))
}

/// The IPv4 address that a mapped (`::ffff:0:0/96`), compatible (`::/96`, RFC 4291 §2.5.5) or NAT64
/// (`64:ff9b::/96`, RFC 6052) address leads to.
fn embedded_v4(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let segments = v6.segments();
    let low = u32::from(segments[6]) << 16 | u32::from(segments[7]);
    match segments[..6] {
        [0, 0, 0, 0, 0, 0xffff] | [0x64, 0xff9b, 0, 0, 0, 0] => Some(Ipv4Addr::from_bits(low)),
        // `::` and `::1` are addresses of their own.
        [0, 0, 0, 0, 0, 0] if low > 1 => Some(Ipv4Addr::from_bits(low)),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const SPECIAL: &[&str] = &[
        "10.0.0.1",
        "10.255.255.255",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "127.9.9.9",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.8",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "::1",
        "::ffff:10.0.0.1",
        "::ffff:127.0.0.1",
        "::127.0.0.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:2::1",
        "2001:db8::1",
        "2002:0a00:0001::1",
        "2002:7f00:0001::1",
        "3fff::1",
        "fc00::1",
        "fd12:3456::1",
        "fe80::1",
        "fec0::1",
        "4000::1",
    ];
    const NEVER: &[&str] = &[
        "0.0.0.0",
        "0.1.2.3",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "ff02::1",
        "::ffff:224.0.0.1",
        "::ffff:0.0.0.0",
        "64:ff9b::255.255.255.255",
    ];
    const GLOBAL: &[&str] = &[
        "1.1.1.1",
        "9.255.255.255",
        "11.0.0.1",
        "100.63.255.255",
        "100.128.0.1",
        "172.15.0.1",
        "172.32.0.1",
        "198.17.0.1",
        "198.20.0.1",
        "2001:4860:4860::8888",
        "2606:4700::1111",
        "::ffff:1.1.1.1",
        "64:ff9b::1.1.1.1",
        "2002:0101:0101::1",
    ];

    fn refused(policy: &PeerPolicy, list: &[&str]) -> Vec<String> {
        let refused = list.iter().filter(|text| !policy.allows(text.parse().unwrap()));
        refused.map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn only_global_addresses_are_relayed_to() {
        let policy = PeerPolicy { allow_private: false, own: vec!["8.8.4.4".parse().unwrap()] };
        assert_eq!(refused(&policy, SPECIAL), SPECIAL);
        assert_eq!(refused(&policy, NEVER), NEVER);
        assert_eq!(refused(&policy, GLOBAL), [""; 0]);
        assert!(!policy.allows("8.8.4.4".parse().unwrap()), "this machine");
        for disguise in ["::ffff:8.8.4.4", "64:ff9b::8.8.4.4", "2002:0808:0404::1"] {
            assert!(!policy.allows(disguise.parse().unwrap()), "this machine: {disguise}");
        }
    }

    #[test]
    fn private_addresses_are_relayed_to_when_told_so_but_groups_never() {
        let policy = PeerPolicy { allow_private: true, own: vec!["8.8.4.4".parse().unwrap()] };
        assert_eq!(refused(&policy, SPECIAL), [""; 0]);
        assert_eq!(refused(&policy, NEVER), NEVER);
        assert!(policy.allows("8.8.4.4".parse().unwrap()));
    }
}
