//! TURN as the stack does not do it: over TCP and TLS, and with words for what a relay refuses.
//!
//! The stack's TURN client speaks UDP only. So each `turn:` URL with `transport=tcp` and each `turns:`
//! URL becomes for the stack a UDP relay at an address that no network has, and [`crate::stream`], which
//! is between the stack and its UDP sockets, carries what goes there over a stream. Nothing else
//! differs: a TURN client's datagrams delimit themselves on a stream (RFC 8656 §3.7, §12.5).

mod permissions;
mod refusals;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use rtc::ice::url::{ProtoType, SchemeType, Url};

pub(crate) use permissions::Permissions;
pub(crate) use refusals::{
    Refusal, Refusals, attribute as stun_attribute, granted, stun_header, xor_address,
};

use crate::types::IceServer;

/// The relays that are reached over streams.
#[derive(Debug, Default)]
pub(crate) struct StreamRelays {
    relays: Vec<StreamRelay>,
    tls: Option<Arc<rustls::ClientConfig>>,
    /// Relayed addresses that were granted, with the relay's URL; the newest are kept.
    granted: Mutex<VecDeque<(SocketAddr, String)>>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StreamRelay {
    /// As the owner gave it.
    pub(crate) url: String,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: bool,
}

impl StreamRelays {
    /// Takes the stream relays out of `servers` and leaves stand-ins that the stack takes for UDP
    /// relays. `turns:` needs `tls`.
    pub(crate) fn divert(
        servers: &mut [IceServer],
        tls: Option<Arc<rustls::ClientConfig>>,
    ) -> Self {
        let mut relays = Vec::new();
        for url in servers.iter_mut().flat_map(|server| &mut server.urls) {
            if relays.len() < MAX_RELAYS
                && let Some(relay) = StreamRelay::parse(url)
            {
                *url = format!("turn:{}{DOMAIN}:{}?transport=udp", relays.len(), relay.port);
                relays.push(relay);
            }
        }
        Self { relays, tls, granted: Mutex::default() }
    }

    /// The addresses of a stand-in, one of each family, so that every socket has one; `None` if
    /// `host` (`name:port`) is none.
    pub(crate) fn resolve(&self, host: &str) -> Option<Vec<SocketAddr>> {
        let (name, _) = host.split_once(':')?;
        let index: u8 = name.strip_suffix(DOMAIN)?.parse().ok()?;
        let relay = self.relays.get(usize::from(index))?;
        let v4 = IpAddr::V4(Ipv4Addr::from_octets([192, 0, 2, index]));
        let v6 = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, index.into()));
        Some([v4, v6].map(|ip| SocketAddr::new(ip, relay.port)).to_vec())
    }

    /// The relay that an address stands for.
    pub(crate) fn at(&self, address: SocketAddr) -> Option<&StreamRelay> {
        let index = match address.ip() {
            IpAddr::V4(ip) => match ip.octets() {
                [192, 0, 2, index] => index,
                _ => return None,
            },
            IpAddr::V6(ip) => match ip.segments() {
                [0x2001, 0xdb8, 0, 0, 0, 0, 0, index] => u8::try_from(index).ok()?,
                _ => return None,
            },
        };
        self.relays.get(usize::from(index)).filter(|relay| relay.port == address.port())
    }

    /// For relays over TLS.
    pub(crate) fn tls(&self) -> Option<Arc<rustls::ClientConfig>> {
        self.tls.clone()
    }

    /// The relay at `from` granted this address.
    pub(crate) fn note_granted(&self, from: SocketAddr, relayed: SocketAddr) {
        let url = match self.at(from) {
            Some(relay) => relay.url.clone(),
            None => format!("turn:{from}?transport=udp"),
        };
        let mut granted = self.granted.lock().unwrap_or_else(PoisonError::into_inner);
        if granted.len() >= MAX_RELAYS {
            granted.pop_front();
        }
        granted.push_back((relayed, url));
    }

    /// Whether a relay over UDP granted an address.
    pub(crate) fn is_udp_granted(&self) -> bool {
        let granted = self.granted.lock().unwrap_or_else(PoisonError::into_inner);
        granted.iter().any(|(_, url)| !self.relays.iter().any(|relay| relay.url == *url))
    }

    /// A candidate line of ours as the remote peer is to know it: the stack gives all relays one priority, but
    /// one that is reached over TCP comes after those over UDP, and TLS after that, as in libwebrtc
    /// (`GetRelayPreference` in `port.cc`). Here it is the local preference (RFC 8445 §5.1.2.1).
    pub(crate) fn rank(&self, line: &str) -> String {
        let mut words: Vec<&str> = line.split(' ').collect();
        let local_preference = || {
            let [_, _, _, priority, ip, port, "typ", "relay", ..] = words[..] else { return None };
            let relayed = SocketAddr::new(ip.parse().ok()?, port.parse().ok()?);
            let url = self.url_of(relayed)?;
            let relay = self.relays.iter().find(|relay| relay.url == url)?;
            let preference = if relay.tls { TLS_PREFERENCE } else { TCP_PREFERENCE };
            Some((priority.parse::<u32>().ok()? & !0x00ff_ff00) | (preference << 8))
        };
        let Some(priority) = local_preference().map(|priority| priority.to_string()) else {
            return line.to_owned();
        };
        words[3] = &priority;
        words.join(" ")
    }

    /// The URL of the relay that granted this address, which the stack forgets.
    pub(crate) fn url_of(&self, relayed: SocketAddr) -> Option<String> {
        let granted = self.granted.lock().unwrap_or_else(PoisonError::into_inner);
        granted.iter().rev().find(|(address, _)| *address == relayed).map(|(_, url)| url.clone())
    }
}

impl StreamRelay {
    /// `None` if it is no TURN URL over a stream, or none at all.
    fn parse(url: &str) -> Option<Self> {
        let parsed = Url::parse_url(url).ok()?;
        let tls = parsed.scheme == SchemeType::Turns;
        let stream = parsed.proto == ProtoType::Tcp && (tls || parsed.scheme == SchemeType::Turn);
        stream.then(|| Self { url: url.to_owned(), host: parsed.host, port: parsed.port, tls })
    }
}

/// Everything here that reads datagrams reads this one, as an answer to itself.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_any(datagram: &[u8]) {
    let from = SocketAddr::from(([192, 0, 2, 1], 1));
    let mut permissions = Permissions::default();
    let _ = permissions.on_send(from, datagram);
    permissions.on_receive(datagram);
    let mut refusals = Refusals::default();
    refusals.on_send(datagram);
    let _ = refusals.on_receive(datagram, std::time::Duration::ZERO);
    let _ = granted(datagram);
}

/// No name ends so (RFC 6761 §6.4).
const DOMAIN: &str = ".relay.invalid";
/// As many as the documentation networks (RFC 5737, RFC 3849) have addresses to stand in.
const MAX_RELAYS: usize = 250;
/// Of relays over UDP it is 65,535.
const TCP_PREFERENCE: u32 = 32_767;
const TLS_PREFERENCE: u32 = 16_383;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn server(urls: &[&str]) -> IceServer {
        IceServer { urls: urls.iter().map(ToString::to_string).collect(), ..Default::default() }
    }

    #[test]
    fn stream_relays_get_stand_ins_and_others_stay() {
        let mut servers = [
            server(&["stun:a.example", "turn:b.example:3478?transport=udp"]),
            server(&["turn:c.example?transport=tcp", "turns:d.example:443", "turn:e.example"]),
            server(&["turns:[2001:db8:1::1]:5349?transport=tcp", "nonsense"]),
        ];
        let relays = StreamRelays::divert(&mut servers, None);
        let urls: Vec<_> = servers.iter().flat_map(|s| &s.urls).map(String::as_str).collect();
        assert_eq!(
            urls,
            [
                "stun:a.example",
                "turn:b.example:3478?transport=udp",
                "turn:0.relay.invalid:3478?transport=udp",
                "turn:1.relay.invalid:443?transport=udp",
                "turn:e.example",
                "turn:2.relay.invalid:5349?transport=udp",
                "nonsense",
            ]
        );
        assert_eq!(relays.relays[2].host, "2001:db8:1::1");
        assert!(relays.relays[1].tls && !relays.relays[0].tls);
        let addresses = relays.resolve("1.relay.invalid:443").unwrap_or_default();
        assert_eq!(addresses.len(), 2);
        for address in addresses {
            assert_eq!(relays.at(address), Some(&relays.relays[1]));
        }
        assert_eq!(relays.resolve("3.relay.invalid:443"), None);
        assert_eq!(relays.resolve("d.example:443"), None);
        let other_port = SocketAddr::from(([192, 0, 2, 1], 3478));
        assert_eq!(relays.at(other_port), None);
        let relayed = SocketAddr::from(([203, 0, 113, 1], 50000));
        assert_eq!(relays.url_of(relayed), None);
        relays.note_granted(SocketAddr::from(([192, 0, 2, 1], 443)), relayed);
        assert_eq!(relays.url_of(relayed).as_deref(), Some("turns:d.example:443"));
        assert!(!relays.is_udp_granted());
        relays.note_granted(SocketAddr::from(([198, 51, 100, 1], 3478)), relayed);
        let url = relays.url_of(relayed);
        assert_eq!(url.as_deref(), Some("turn:198.51.100.1:3478?transport=udp"));
    }

    #[test]
    fn relays_over_streams_come_after_those_over_udp_and_tls_after_tcp() {
        let urls =
            ["turn:a.example?transport=udp", "turn:a.example?transport=tcp", "turns:a.example"];
        let relays = StreamRelays::divert(&mut [server(&urls)], None);
        // The stand-ins of the two over streams.
        let servers = ["198.51.100.1:3478", "192.0.2.0:3478", "192.0.2.1:5349"];
        let priorities = [1, 2, 3].map(|port| {
            let relayed = SocketAddr::from(([203, 0, 113, 1], port));
            relays.note_granted(servers[usize::from(port) - 1].parse().unwrap(), relayed);
            let line = format!("candidate:1 1 udp 16777215 203.0.113.1 {port} typ relay");
            let ranked = relays.rank(&line);
            crate::ice::validate(&ranked).unwrap();
            ranked.split(' ').nth(3).unwrap().parse::<u32>().unwrap()
        });
        assert_eq!(priorities, [0x00ff_ffff, 0x007f_ffff, 0x003f_ffff]);
        assert!(relays.is_udp_granted());
        // Others stay as they are.
        for line in [
            "candidate:1 1 udp 16777215 203.0.113.9 1 typ relay",
            "candidate:1 1 udp 1 192.0.2.1 1 typ host",
            "",
        ] {
            assert_eq!(relays.rank(line), line);
        }
    }
}
