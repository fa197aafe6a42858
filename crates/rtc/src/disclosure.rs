//! What the other side, and whoever carries signaling, is told of this machine's addresses.

use std::net::IpAddr;
use std::sync::Arc;

use crate::local_names::LocalNames;
use crate::turn::StreamRelays;
use crate::types::AddressPolicy;

/// Writes candidates anew before they are told.
#[derive(Debug)]
pub(crate) struct Disclosure {
    pub(crate) policy: AddressPolicy,
    names: LocalNames,
    relays: Arc<StreamRelays>,
}

impl Disclosure {
    pub(crate) fn new(policy: AddressPolicy, relays: Arc<StreamRelays>) -> Self {
        Self { policy, names: LocalNames::default(), relays }
    }

    /// A candidate line as it is told, if it is. RFC 8839 §5.1 wants a related address; browsers that hide theirs
    /// give zeros.
    pub(crate) fn candidate(&self, line: &str) -> Option<String> {
        let line = &self.relays.rank(line);
        let mut words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, _, _, _, address, _, "typ", kind, ..] = words[..] else { return None };
        let name;
        match (self.policy, kind) {
            (AddressPolicy::All, _) => {
                return (!is_redundant(&words)).then(|| line.to_owned());
            }
            (AddressPolicy::HideLocal, "host") => match address.parse().ok()? {
                IpAddr::V4(ip) if !ip.is_loopback() => {
                    name = self.names.of(ip)?;
                    words[4] = &name;
                }
                ip => return ip.is_loopback().then(|| line.to_owned()),
            },
            (AddressPolicy::HideLocal, _) | (AddressPolicy::RelayOnly, "relay") => {}
            (AddressPolicy::RelayOnly, _) => return None,
        }
        let zero = if address.contains(':') { "::" } else { "0.0.0.0" };
        for at in 8..words.len() {
            match words[at - 1] {
                "raddr" => words[at] = zero,
                "rport" => words[at] = "0",
                _ => {}
            }
        }
        Some(words.join(" "))
    }

    /// A description with its candidates as they are told.
    pub(crate) fn description(&self, sdp: &str) -> String {
        let line = |line: &str| match line.strip_prefix("a=") {
            Some(candidate) if candidate.starts_with("candidate:") => self
                .candidate(candidate.trim_end())
                .map(|told| format!("a={told}\r\n"))
                .unwrap_or_default(),
            _ => line.to_owned(),
        };
        sdp.split_inclusive('\n').map(line).collect()
    }
}

/// Whether it is a reflexive candidate that is a host's too, for there is no NAT (RFC 8445 §5.1.3).
fn is_redundant(words: &[&str]) -> bool {
    matches!(words[..], [_, _, _, _, ip, port, "typ", "srflx", "raddr", base_ip, "rport", base_port, ..]
        if (ip, port) == (base_ip, base_port))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::ice::validate;

    const HOST: &str = "candidate:1 1 udp 2122260223 192.0.2.1 50000 typ host ufrag abcd";
    const HOST6: &str = "candidate:1 1 udp 2122260223 2001:db8::1 50000 typ host";
    const REFLEXIVE: &str =
        "candidate:1 1 udp 1 203.0.113.1 5 typ srflx raddr 192.168.1.7 rport 50000";
    const RELAYED: &str = "candidate:3 1 udp 1677721855 198.51.100.7 49160 typ relay raddr 192.168.1.7 \
                           rport 50000 ufrag abcd";

    fn told(policy: AddressPolicy, line: &str) -> Option<String> {
        let told = Disclosure::new(policy, Arc::default()).candidate(line);
        if let Some(told) = &told {
            validate(told).unwrap();
        }
        told
    }

    #[test]
    fn who_uses_relays_only_tells_of_nothing_else() {
        let policy = AddressPolicy::RelayOnly;
        let relay = told(policy, RELAYED).unwrap();
        assert!(!relay.contains("192.168.1.7") && !relay.contains("50000"), "{relay}");
        assert!(relay.contains("raddr 0.0.0.0 rport 0 ufrag abcd"), "{relay}");
        assert_eq!([HOST, HOST6, REFLEXIVE].map(|line| told(policy, line)), [None, None, None]);
        let sdp = format!("v=0\r\na=mid:0\r\na={RELAYED}\r\na={HOST}\r\na={REFLEXIVE}\r\n");
        let wanted = format!("v=0\r\na=mid:0\r\na={relay}\r\n");
        assert_eq!(Disclosure::new(policy, Arc::default()).description(&sdp), wanted);
    }

    #[tokio::test]
    async fn who_hides_its_network_tells_names_and_what_others_see_of_it() {
        let policy = AddressPolicy::HideLocal;
        assert_eq!(told(policy, HOST6), None);
        for line in [REFLEXIVE, RELAYED] {
            let line = told(policy, line).unwrap();
            assert!(line.contains("raddr 0.0.0.0 rport 0"), "{line}");
        }
        let base = "candidate:2 1 udp 1 2001:db8::1 5 typ srflx raddr 2001:db8::1 rport 5";
        assert!(told(policy, base).unwrap().contains(" 2001:db8::1 5 typ srflx raddr :: rport 0"));
        // Tells nothing.
        let loopback = HOST.replace("192.0.2.1", "127.0.0.1");
        assert_eq!(told(policy, &loopback), Some(loopback));
    }

    #[test]
    fn who_hides_nothing_leaves_out_what_is_told_already() {
        let policy = AddressPolicy::All;
        for line in [HOST, HOST6, REFLEXIVE, RELAYED] {
            assert_eq!(told(policy, line).as_deref(), Some(line));
        }
        let line = |ip, port| {
            format!("candidate:2 1 udp 1694498815 {ip} {port} typ srflx raddr 192.0.2.1 rport 5000")
        };
        assert_eq!(told(policy, &line("192.0.2.1", 5000)), None);
        for other in [line("192.0.2.1", 5001), line("203.0.113.1", 5000)] {
            assert_eq!(told(policy, &other), Some(other));
        }
    }
}
