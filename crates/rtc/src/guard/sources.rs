//! From where DTLS and media are taken, and which connectivity checks are believed. Sans-IO.
//!
//! The stack takes DTLS and media from any address once it has a pair, and follows the role of a Binding
//! request before it looks at its integrity. [`Sources`] keeps the addresses that a message with valid integrity came
//! from (RFC 8445 §7.2.2, §7.3): only somebody who knows the ICE password of one of the two sides can have sent it.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use crate::direct::stun;
use crate::turn::{stun_attribute, stun_header, xor_address};

/// Where a datagram came from: an address, or one behind a relay of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) relay: Option<SocketAddr>,
    pub(crate) peer: SocketAddr,
}

/// A datagram without the header by which a relay passed it on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unwrapped<'a> {
    pub(crate) source: Source,
    pub(crate) payload: &'a [u8],
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Credentials {
    ufrag: String,
    password: String,
}

/// What is known of the addresses of one connection. Everything is bounded; the oldest goes first.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    /// Ours, the newest last.
    local: VecDeque<Credentials>,
    /// Passwords of the remote peer, the newest last.
    remote: VecDeque<String>,
    proven: VecDeque<Source>,
    /// Relays that were asked for an address.
    relays: VecDeque<SocketAddr>,
    /// Channels that were bound (RFC 8656 §12): relay, number, peer.
    channels: VecDeque<(SocketAddr, u16, SocketAddr)>,
}

impl Sources {
    /// Our ICE credentials from now on. Those before them are still believed: checks may be on their way.
    pub(crate) fn local_credentials(&mut self, ufrag: &str, password: &str) {
        let new = Credentials { ufrag: ufrag.to_owned(), password: password.to_owned() };
        if !self.local.contains(&new) {
            keep(&mut self.local, new, MAX_GENERATIONS);
        }
    }

    /// The remote peer's ICE password from now on.
    pub(crate) fn remote_password(&mut self, password: &str) {
        if !self.remote.iter().any(|known| known == password) {
            keep(&mut self.remote, password.to_owned(), MAX_GENERATIONS);
        }
    }

    /// The stack sends `datagram` to `to`: what concerns relays is remembered.
    pub(crate) fn on_send(&mut self, to: SocketAddr, datagram: &[u8]) {
        match stun_header(datagram) {
            Some((ALLOCATE, _)) if !self.relays.contains(&to) => {
                keep(&mut self.relays, to, MAX_RELAYS);
            }
            Some((CHANNEL_BIND, _)) => {
                let number = stun_attribute(datagram, CHANNEL_NUMBER).and_then(<[u8]>::first_chunk);
                if let (Some(number), Some(peer)) =
                    (number, xor_address(datagram, XOR_PEER_ADDRESS))
                {
                    let channel = (to, u16::from_be_bytes(*number), peer);
                    if !self.channels.contains(&channel) {
                        keep(&mut self.channels, channel, MAX_CHANNELS);
                    }
                }
            }
            _ => {}
        }
    }

    /// What a datagram from `from` holds; `None` if it says that a relay passed it on, and it is no relay of ours or
    /// names no peer.
    pub(crate) fn unwrap<'a>(&self, from: SocketAddr, datagram: &'a [u8]) -> Option<Unwrapped<'a>> {
        let relayed = |peer, payload| {
            let source = Source { relay: Some(from), peer };
            self.relays.contains(&from).then_some(Unwrapped { source, payload })
        };
        match *datagram {
            // ChannelData (RFC 8656 §12.4): number, length, data, perhaps padding.
            [64..=79, ..] => {
                let ([n0, n1, l0, l1], data) = datagram.split_first_chunk::<4>()?;
                let number = u16::from_be_bytes([*n0, *n1]);
                let payload = data.get(..usize::from(u16::from_be_bytes([*l0, *l1])))?;
                let bound = |channel: &&(SocketAddr, u16, SocketAddr)| {
                    channel.0 == from && channel.1 == number
                };
                let (_, _, peer) = self.channels.iter().rev().find(bound)?;
                relayed(*peer, payload)
            }
            [0, DATA_INDICATION, ..] => {
                relayed(xor_address(datagram, XOR_PEER_ADDRESS)?, stun_attribute(datagram, DATA)?)
            }
            _ => Some(Unwrapped { source: Source { relay: None, peer: from }, payload: datagram }),
        }
    }

    /// Whether DTLS and media are taken from there.
    pub(crate) fn is_proven(&self, source: Source) -> bool {
        self.proven.contains(&source)
    }

    /// Whether a Binding request has the integrity that only the remote peer can give it; its source is proven then.
    pub(crate) fn believes_request(&mut self, source: Source, request: &[u8]) -> bool {
        let username = stun_attribute(request, USERNAME).unwrap_or_default();
        let ours = username.split(|byte| *byte == b':').next().unwrap_or_default();
        let mut generations = self.local.iter().filter(|local| local.ufrag.as_bytes() == ours);
        let believed = generations.any(|local| stun::is_signed_request(request, &local.password));
        if believed {
            self.prove(source);
        }
        believed
    }

    /// An answer to a check: its source is proven if the remote peer signed it.
    pub(crate) fn on_response(&mut self, source: Source, response: &[u8]) {
        if !self.is_proven(source)
            && stun_attribute(response, MESSAGE_INTEGRITY).is_some()
            && self.remote.iter().any(|password| stun::is_success(response, password))
        {
            self.prove(source);
        }
    }

    fn prove(&mut self, source: Source) {
        // In the order of the last proof, so that the addresses in use stay.
        self.proven.retain(|known| *known != source);
        keep(&mut self.proven, source, MAX_PROVEN);
    }
}

fn keep<T>(queue: &mut VecDeque<T>, value: T, limit: usize) {
    if queue.len() >= limit {
        queue.pop_front();
    }
    queue.push_back(value);
}

/// Whether anything is ever sent to an address that the other person's side named: not to those that are no
/// single host's, and over TCP, where a connection itself may do harm, not to services of this machine or
/// well-known ones (RFC 6335 §6). An IPv4 address in an IPv6 one is looked at as what it is.
pub(crate) fn may_be_dialled(ip: IpAddr, port: u16, over_tcp: bool) -> bool {
    let ip = ip.to_canonical();
    let (broadcast, zero) = match ip {
        // 0.0.0.0/8 is this machine on many systems (RFC 1122 §3.2.1.3); 240.0.0.0/4 is reserved.
        IpAddr::V4(v4) => (v4.octets()[0] >= 240, v4.octets()[0] == 0),
        // The deprecated IPv4-compatible addresses ::/96 (RFC 4291 §2.5.5.1), but for ::1.
        IpAddr::V6(v6) => (false, v6.octets()[..12] == [0; 12] && !v6.is_loopback()),
    };
    let no_host = ip.is_unspecified() || ip.is_multicast() || broadcast || zero || port == 0;
    !no_host && !(over_tcp && (ip.is_loopback() || port < FIRST_USER_PORT))
}

/// RFC 8656 §17, §18; RFC 8489 §14.
const ALLOCATE: u16 = 0x0003;
const CHANNEL_BIND: u16 = 0x0009;
const DATA_INDICATION: u8 = 0x17;
const CHANNEL_NUMBER: u16 = 0x000c;
const XOR_PEER_ADDRESS: u16 = 0x0012;
const DATA: u16 = 0x0013;
const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const FIRST_USER_PORT: u16 = 1024;
/// ICE generations that may overlap: the applied one, a pending offer, one taken back, the next.
const MAX_GENERATIONS: usize = 4;
/// Twice the pairs that one generation has at most with one of our addresses.
const MAX_PROVEN: usize = 64;
const MAX_RELAYS: usize = 64;
/// Relays times remote candidates, twice.
const MAX_CHANNELS: usize = 128;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::direct::stun::Generation;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn direct(peer: &str) -> Source {
        Source { relay: None, peer: address(peer) }
    }

    fn check(local_ufrag: &str, password: &str) -> Vec<u8> {
        let generation = Generation {
            local_ufrag: "theirs".into(),
            remote_ufrag: local_ufrag.into(),
            remote_password: password.into(),
        };
        stun::request(&generation, true, false, 7).unwrap().1
    }

    fn sources() -> Sources {
        let mut sources = Sources::default();
        sources.local_credentials("ours", "our password");
        sources
    }

    #[test]
    fn an_address_is_proven_by_a_signed_check_or_answer_alone() {
        let mut sources = sources();
        let (peer, stranger) = (direct("192.0.2.1:1000"), direct("192.0.2.1:1001"));
        for forged in [check("ours", "guess"), check("other", "our password"), vec![0, 1, 0, 0]] {
            assert!(!sources.believes_request(stranger, &forged));
        }
        assert!(sources.believes_request(peer, &check("ours", "our password")));
        assert!(sources.is_proven(peer) && !sources.is_proven(stranger));

        let other = direct("192.0.2.2:1000");
        let answer = stun::success([7; 12], address("192.0.2.9:1"), "their password").unwrap();
        sources.on_response(other, &answer);
        assert!(!sources.is_proven(other));
        sources.remote_password("their password");
        sources.on_response(other, &answer);
        assert!(sources.is_proven(other));
    }

    #[test]
    fn checks_of_the_generation_before_are_still_believed() {
        let mut sources = sources();
        sources.local_credentials("next", "next password");
        assert!(sources.believes_request(direct("192.0.2.1:1"), &check("ours", "our password")));
        assert!(sources.believes_request(direct("192.0.2.1:1"), &check("next", "next password")));
        for n in 0..MAX_GENERATIONS {
            sources.local_credentials(&format!("{n}"), "password");
        }
        assert!(!sources.believes_request(direct("192.0.2.1:1"), &check("ours", "our password")));
    }

    #[test]
    fn the_address_in_use_outlives_many_others() {
        let mut sources = sources();
        let used = direct("192.0.2.1:1");
        for port in 1000..2000 {
            sources.believes_request(used, &check("ours", "our password"));
            let other = direct(&format!("192.0.2.2:{port}"));
            sources.believes_request(other, &check("ours", "our password"));
        }
        assert!(sources.is_proven(used) && sources.proven.len() == MAX_PROVEN);
    }

    fn xor_peer(kind: u16, peer: [u8; 4], port: u16, more: &[u8]) -> Vec<u8> {
        let mut message = kind.to_be_bytes().to_vec();
        message.extend(((12 + more.len()) as u16).to_be_bytes());
        message.extend([0x21, 0x12, 0xa4, 0x42]);
        message.extend([7; 12]);
        message.extend([0, 0x12, 0, 8, 0, 1]);
        message.extend((port ^ 0x2112).to_be_bytes());
        message.extend(peer.iter().zip([0x21, 0x12, 0xa4, 0x42]).map(|(a, b)| a ^ b));
        message.extend(more);
        message
    }

    #[test]
    fn what_a_relay_passes_on_is_the_peers_that_it_names() {
        let relay = address("198.51.100.1:3478");
        let indication = xor_peer(0x0017, [192, 0, 2, 1], 1000, &[0, 0x13, 0, 3, 128, 1, 2, 0]);
        let channel = [0x40, 0, 0, 3, 128, 1, 2, 0];
        let mut sources = sources();
        assert_eq!(sources.unwrap(relay, &indication), None);
        assert_eq!(sources.unwrap(relay, &channel), None);
        let mut allocate = vec![0, 3, 0, 0, 0x21, 0x12, 0xa4, 0x42];
        allocate.extend([7; 12]);
        sources.on_send(relay, &allocate);
        let source = Source { relay: Some(relay), peer: address("192.0.2.1:1000") };
        let unwrapped = Some(Unwrapped { source, payload: &[128, 1, 2] });
        assert_eq!(sources.unwrap(relay, &indication), unwrapped);
        assert_eq!(sources.unwrap(relay, &channel), None);
        let bind = xor_peer(0x0009, [192, 0, 2, 1], 1000, &[0, 0xc, 0, 4, 0x40, 0, 0, 0]);
        sources.on_send(relay, &bind);
        assert_eq!(sources.unwrap(relay, &channel), unwrapped);
        // Somebody who is no relay of ours says that it is.
        let stranger = address("203.0.113.1:3478");
        assert_eq!(sources.unwrap(stranger, &channel), None);
        assert_eq!(sources.unwrap(stranger, &indication), None);
        // Behind the relay the peer is another source than without it.
        sources.believes_request(source, &check("ours", "our password"));
        assert!(sources.is_proven(source) && !sources.is_proven(direct("192.0.2.1:1000")));
    }

    #[test]
    fn addresses_that_are_no_hosts_and_services_of_this_machine_are_not_dialled() {
        let dialled = |text: &str, port, tcp| may_be_dialled(text.parse().unwrap(), port, tcp);
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
            assert!(!dialled(no_host, 4000, false), "{no_host}");
            assert!(!dialled(no_host, 4000, true), "{no_host}");
        }
        for service in ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"] {
            assert!(dialled(service, 4000, false) && !dialled(service, 4000, true), "{service}");
        }
        assert!(!dialled("192.0.2.1", 25, true) && !dialled("192.0.2.1", 0, false));
        for host in ["192.0.2.1", "10.0.0.1", "fe80::1", "2001:db8::1", "::ffff:192.0.2.1"] {
            assert!(dialled(host, 4000, false) && dialled(host, 4000, true), "{host}");
        }
    }
}
