//! The kinds of network that a peer may be in, by their names in RFC 4787, as nftables makes them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::link::Namespace;

/// A peer's network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Public addresses of both families, no firewall.
    Open,
    /// A NAT with endpoint-independent mapping and filtering ("full cone"): whoever knows the
    /// mapped port gets in.
    Cone,
    /// Endpoint-independent mapping, address- and port-dependent filtering ("port-restricted
    /// cone"): in gets only what was sent to before.
    PortRestricted,
    /// Address- and port-dependent mapping and filtering ("symmetric"): a random port for each
    /// destination.
    Symmetric,
    /// A NAT that lets TCP out and drops all UDP.
    NoUdp,
    /// A NAT that lets only TCP to port 443 out.
    Only443,
    /// An IPv6 address behind a firewall that lets in what was asked for; no IPv4.
    Ipv6,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Open,
        Self::Cone,
        Self::PortRestricted,
        Self::Symmetric,
        Self::NoUdp,
        Self::Only443,
        Self::Ipv6,
    ];

    /// On the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Cone => "cone",
            Self::PortRestricted => "port-restricted",
            Self::Symmetric => "symmetric",
            Self::NoUdp => "no-udp",
            Self::Only443 => "only-443",
            Self::Ipv6 => "ipv6",
        }
    }

    /// In the table.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Cone => "cone",
            Self::PortRestricted => "port-restricted",
            Self::Symmetric => "symmetric",
            Self::NoUdp => "UDP blocked",
            Self::Only443 => "only TCP 443",
            Self::Ipv6 => "IPv6 only",
        }
    }

    /// Whether UDP gets out.
    pub const fn has_udp(self) -> bool {
        !matches!(self, Self::NoUdp | Self::Only443)
    }

    /// Whether two peers find a way to each other without a relay.
    pub const fn direct_with(self, other: Self) -> bool {
        use Kind::{Cone, Ipv6, Open, PortRestricted, Symmetric};
        match (self, other) {
            (Open, other) | (other, Open) => other.has_udp(),
            (Ipv6, Ipv6) => true,
            (Cone, Cone | PortRestricted | Symmetric) => true,
            (PortRestricted | Symmetric, Cone) => true,
            (PortRestricted, PortRestricted) => true,
            // The port that one side would have to send to is known to nobody.
            _ => false,
        }
    }

    /// Whether there is a machine between the peer and the middle.
    pub(super) const fn is_nat(self) -> bool {
        !matches!(self, Self::Open | Self::Ipv6)
    }

    /// What the middle knows side `number` (1 or 2) by.
    pub(super) fn public(self, number: u8) -> Vec<IpAddr> {
        let v4 = IpAddr::V4(Ipv4Addr::new(20, number, 0, 1));
        let v6 = IpAddr::V6(Ipv6Addr::new(0x2a20, number.into(), 0, 0, 0, 0, 0, 1));
        match self {
            Self::Open => vec![v4, v6],
            Self::Ipv6 => vec![v6],
            _ => vec![v4],
        }
    }

    /// The rules of the machine that holds the public address.
    pub(super) fn rules(self) -> String {
        // Unknown packets must not reach the machine itself: it would answer that nobody listens,
        // and take the port as used, so that it maps the next packet out of it to another.
        let firewall = |forward: &str| {
            format!(
                "table inet filter {{
                   chain input {{
                     type filter hook input priority filter; policy accept;
                     iifname \"{DEVICE}\" ct state established,related accept
                     iifname \"{DEVICE}\" drop
                   }}
                   chain forward {{
                     type filter hook forward priority filter; policy drop;
                     ct state established,related accept
                     {forward}
                   }}
                 }}\n"
            )
        };
        // Linux keeps the port where it is free, and with one machine behind it, it is: the mapping
        // does not depend on the destination.
        let masquerade = |how: &str| {
            format!(
                "table ip nat {{
                   chain postrouting {{
                     type nat hook postrouting priority srcnat;
                     oifname \"{DEVICE}\" masquerade {how}
                   }}
                 }}\n"
            )
        };
        let out = format!("iifname \"{INSIDE}\" accept");
        match self {
            Self::Open => String::new(),
            Self::Ipv6 => format!(
                "table inet filter {{
                   chain input {{
                     type filter hook input priority filter; policy accept;
                     iifname \"{DEVICE}\" ct state established,related accept
                     iifname \"{DEVICE}\" meta l4proto ipv6-icmp accept
                     iifname \"{DEVICE}\" drop
                   }}
                 }}\n"
            ),
            Self::Cone => {
                // Ports that were sent from are open to everybody.
                let open = format!(
                    "table ip cone {{
                       set mapped {{
                         type inet_service; flags dynamic, timeout; timeout 5m; size 65535;
                       }}
                       chain learn {{
                         type filter hook forward priority filter - 1;
                         iifname \"{INSIDE}\" meta l4proto udp update @mapped {{ udp sport }}
                       }}
                       chain prerouting {{
                         type nat hook prerouting priority dstnat;
                         iifname \"{DEVICE}\" udp dport @mapped dnat to {PEER}
                       }}
                     }}\n"
                );
                masquerade("") + &open + &firewall(&format!("{out}; ct status dnat accept"))
            }
            Self::PortRestricted => masquerade("") + &firewall(&out),
            Self::Symmetric => masquerade("fully-random") + &firewall(&out),
            Self::NoUdp => {
                let tcp = format!("iifname \"{INSIDE}\" meta l4proto tcp accept");
                masquerade("") + &firewall(&tcp)
            }
            Self::Only443 => {
                masquerade("") + &firewall(&format!("iifname \"{INSIDE}\" tcp dport 443 accept"))
            }
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Kind {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == text);
        let names = Self::ALL.map(Self::name).join(", ");
        found.ok_or_else(|| anyhow::anyhow!("{text} is none of {names}"))
    }
}

/// Where the NAT's packets of the peer come in.
pub(super) const INSIDE: &str = "inside";
/// The peer's own address behind any NAT: on both sides the same, as at home.
pub(super) const PEER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 2);
const DEVICE: &str = Namespace::DEVICE;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whether_there_is_a_direct_way_does_not_depend_on_the_side() {
        for a in Kind::ALL {
            for b in Kind::ALL {
                assert_eq!(a.direct_with(b), b.direct_with(a), "{a}, {b}");
            }
            assert_eq!(a.name().parse::<Kind>().ok(), Some(a));
        }
        assert!(!Kind::Symmetric.direct_with(Kind::Symmetric));
        assert!(!Kind::Symmetric.direct_with(Kind::PortRestricted));
        assert!(!Kind::NoUdp.direct_with(Kind::Open));
    }
}
