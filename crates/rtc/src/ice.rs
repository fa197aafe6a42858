//! ICE: timing, the local addresses to gather from, and the care that remote candidates need.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::time::Duration;
use std::vec;

use rtc::ice::mdns::MulticastDnsMode;
use rtc::mdns::MulticastSocket;
use rtc::shared::ifaces::ifaces;
use webrtc::peer_connection::{
    RTCConfiguration, RTCConfigurationBuilder, RTCIceServer, RTCIceTransportPolicy, SettingEngine,
    SettingEngineBuilder,
};

use crate::error::RtcError;
use crate::guard::may_be_dialled;
use crate::sdp;
use crate::types::{AddressPolicy, Candidate, IceServer};

/// Servers and policy for the stack.
pub(crate) fn configuration(servers: &[IceServer], addresses: AddressPolicy) -> RTCConfiguration {
    let servers = servers
        .iter()
        .map(|server| RTCIceServer {
            urls: server.urls.clone(),
            username: server.username.clone().unwrap_or_default(),
            credential: server.credential.clone().unwrap_or_default(),
        })
        .collect();
    let policy = match addresses {
        AddressPolicy::RelayOnly => RTCIceTransportPolicy::Relay,
        AddressPolicy::All | AddressPolicy::HideLocal => RTCIceTransportPolicy::All,
    };
    RTCConfigurationBuilder::default()
        .with_ice_servers(servers)
        .with_ice_transport_policy(policy)
        .build()
}

/// Timing and behaviour of the ICE agent.
pub(crate) fn settings(addresses: AddressPolicy) -> SettingEngine {
    // Without multicast the stack would refuse to start; then `.local` candidates cannot be
    // resolved, but others work.
    let mdns = match MulticastSocket::new().into_std() {
        Ok(_) => MulticastDnsMode::QueryOnly,
        Err(e) => {
            tracing::info!("no multicast DNS here, .local candidates are ignored: {e}");
            MulticastDnsMode::Disabled
        }
    };
    // Nothing better will come if only relays are allowed.
    let relay_wait =
        if addresses == AddressPolicy::RelayOnly { Duration::ZERO } else { RELAY_WAIT };
    SettingEngineBuilder::new()
        .with_ice_connection_attempts(Some(CHECK_INTERVAL), Some(MAX_BINDING_REQUESTS))
        .with_ice_timeouts(Some(DISCONNECTED_AFTER), Some(FAILED_AFTER), Some(KEEPALIVE_INTERVAL))
        .with_host_acceptance_min_wait(Some(Duration::ZERO))
        .with_prflx_acceptance_min_wait(Some(PRFLX_WAIT))
        .with_srflx_acceptance_min_wait(Some(SRFLX_WAIT))
        .with_relay_acceptance_min_wait(Some(relay_wait))
        .with_multicast_dns_mode(mdns)
        .with_include_loopback_candidate(true)
        // An ICE restart binds new sockets on the interfaces there are by then, which is what a
        // restart is for: the network changed.
        .with_discard_local_candidates_during_ice_restart(true)
        .build()
}

/// The addresses to bind, found anew each time the stack binds: one of each interface and family,
/// loopback only where there is nothing else.
#[derive(Debug)]
pub(crate) struct LocalAddresses;

impl ToSocketAddrs for LocalAddresses {
    type Iter = vec::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        let all = ifaces()?.into_iter().filter_map(|interface| interface.addr);
        Ok(usable_addresses(all.map(|addr| addr.ip())).into_iter())
    }
}

/// What [`LocalAddresses`] would be now, for comparison; empty if the system does not say.
pub(crate) fn local_addresses() -> Vec<SocketAddr> {
    LocalAddresses.to_socket_addrs().map(Iterator::collect).unwrap_or_default()
}

fn usable_addresses(all: impl Iterator<Item = IpAddr>) -> Vec<SocketAddr> {
    let mut chosen: Vec<IpAddr> = Vec::new();
    let (mut v4, mut v6) = (0, 0);
    for ip in all {
        let usable = match ip {
            IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_unspecified() && !ip.is_link_local(),
            IpAddr::V6(ip) => {
                !ip.is_loopback() && !ip.is_unspecified() && !ip.is_unicast_link_local()
            }
        };
        let count = if ip.is_ipv4() { &mut v4 } else { &mut v6 };
        if usable && *count < MAX_ADDRESSES_PER_FAMILY && !chosen.contains(&ip) {
            *count += 1;
            chosen.push(ip);
        }
    }
    if chosen.is_empty() {
        chosen = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    }
    chosen.into_iter().map(|ip| SocketAddr::new(ip, 0)).collect()
}

/// A lifetime of ICE credentials as a description names them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct IceGeneration {
    ufrag: Option<String>,
    /// `a=mid` of the first m-section, to which bundled candidates belong.
    pub(crate) first_mid: Option<String>,
}

impl IceGeneration {
    pub(crate) fn of(sdp: &str) -> Self {
        let value = |name| bundled(sdp, name).map(str::to_owned);
        Self { ufrag: value("a=ice-ufrag:"), first_mid: value("a=mid:") }
    }

    pub(crate) fn ufrag(&self) -> Option<&str> {
        self.ufrag.as_deref()
    }

    /// Whether a candidate belongs here. One that names no generation does.
    pub(crate) fn includes(&self, candidate: &Candidate) -> bool {
        let named = match &candidate.username_fragment {
            Some(ufrag) => Some(ufrag.as_str()),
            None => extension(&candidate.candidate, "ufrag"),
        };
        named.is_none_or(|named| self.ufrag.as_deref() == Some(named))
    }
}

/// The value of the first line that begins with `name` outside of rejected sections, which is the bundle's.
pub(crate) fn bundled<'a>(sdp: &'a str, name: &str) -> Option<&'a str> {
    let (session, sections) = sdp::split(sdp);
    let used = sections.into_iter().filter(|section| !section.is_rejected());
    let mut texts = [session].into_iter().chain(used.map(|section| section.text));
    texts.find_map(|text| text.lines().find_map(|line| line.strip_prefix(name))).map(str::trim)
}

/// The value after `name` in the extensions of a candidate line.
fn extension<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let mut words = line.split_ascii_whitespace().skip(8);
    words.by_ref().find(|word| *word == name)?;
    words.next()
}

/// Checks a remote candidate line against RFC 8839 §5.1 before the stack sees it.
///
/// # Errors
///
/// [`RtcError::InvalidCandidate`] says what is wrong.
pub(crate) fn validate(candidate: &str) -> Result<(), RtcError> {
    let bad = |what: &str| Err(RtcError::InvalidCandidate(what.into()));
    if candidate.len() > MAX_CANDIDATE_BYTES {
        return bad("too long");
    }
    if candidate.bytes().any(|b| !(b' '..=b'~').contains(&b)) {
        return bad("not printable ASCII");
    }
    let line = candidate.strip_prefix("a=").unwrap_or(candidate);
    let line = line.strip_prefix("candidate:").unwrap_or(line);
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let [foundation, component, protocol, priority, address, port, typ_word, typ, rest @ ..] =
        words.as_slice()
    else {
        return bad("fields missing");
    };
    if foundation.len() > 32 {
        return bad("foundation");
    }
    if !matches!(component.parse::<u16>(), Ok(1..=256)) {
        return bad("component");
    }
    if !["udp", "tcp"].iter().any(|known| protocol.eq_ignore_ascii_case(known)) {
        return bad("transport");
    }
    if priority.parse::<u32>().is_err() {
        return bad("priority");
    }
    if address.parse::<IpAddr>().is_err() && !is_mdns_name(address) {
        return bad("address");
    }
    if port.parse::<u16>().is_err() {
        return bad("port");
    }
    if *typ_word != "typ" || !["host", "srflx", "prflx", "relay"].contains(typ) {
        return bad("type");
    }
    for pair in rest.chunks(2) {
        match pair {
            ["raddr", address] if address.parse::<IpAddr>().is_err() => return bad("raddr"),
            ["rport", port] if port.parse::<u16>().is_err() => return bad("rport"),
            [_, _] => {}
            _ => return bad("an extension without a value"),
        }
    }
    Ok(())
}

/// The candidates of the remote peer that are used in one lifetime of its ICE credentials, the first
/// [`MAX_REMOTE_CANDIDATES`] different ones: each is checked at an address that the remote peer chose.
#[derive(Debug, Default)]
pub(crate) struct RemoteCandidates(HashSet<String>);

impl RemoteCandidates {
    /// Whether a candidate line is used.
    ///
    /// # Errors
    ///
    /// [`RtcError::InvalidCandidate`] says what is wrong, [`RtcError::TooManyCandidates`] that it is one too many.
    pub(crate) fn admit(&mut self, line: &str, policy: AddressPolicy) -> Result<(), RtcError> {
        validate(line)?;
        let words: Vec<&str> = line.split_ascii_whitespace().skip(2).take(4).collect();
        let [protocol, _, address, port] = words[..] else {
            return Err(RtcError::InvalidCandidate("fields missing".into()));
        };
        match address.parse::<IpAddr>() {
            // What connects by TCP is looked at where a connection is made.
            Ok(ip) if protocol.eq_ignore_ascii_case("udp") => {
                if !may_be_dialled(ip, port.parse().unwrap_or_default(), false) {
                    return Err(RtcError::InvalidCandidate("no host's address".into()));
                }
            }
            Ok(_) => {}
            // The question alone would tell the local network of the call.
            Err(_) if policy == AddressPolicy::RelayOnly => {
                return Err(RtcError::InvalidCandidate("a name, and only relays are used".into()));
            }
            Err(_) => {}
        }
        let key = format!("{} {address} {port}", protocol.to_ascii_lowercase());
        if !self.0.contains(&key) {
            if self.0.len() >= MAX_REMOTE_CANDIDATES {
                return Err(RtcError::TooManyCandidates);
            }
            self.0.insert(key);
        }
        Ok(())
    }

    /// A description without the candidates that are not used: one of them is no reason to refuse it.
    pub(crate) fn strip(&mut self, sdp: &str, policy: AddressPolicy) -> String {
        let used = |line: &&str| match line.strip_prefix("a=candidate:") {
            Some(_) => {
                let admitted = self.admit(line.trim_end().trim_start_matches("a="), policy);
                if let Err(error) = &admitted {
                    tracing::debug!(%error, "a candidate in a description is left out");
                }
                admitted.is_ok()
            }
            None => true,
        };
        sdp.split_inclusive('\n').filter(used).collect()
    }
}

/// `<uuid>.local` (draft-ietf-mmusic-mdns-ice-candidates §3.1.1).
fn is_mdns_name(name: &str) -> bool {
    name.strip_suffix(".local")
        .is_some_and(|label| label.len() == 36 && uuid::Uuid::try_parse(label).is_ok())
}

/// The agent's tick: what happened is followed up this much later. The stack's 200 ms make 400 ms of
/// connecting. Checks themselves are spaced wider ([`crate::direct`]).
const CHECK_INTERVAL: Duration = Duration::from_millis(5);
/// At [`CHECK_INTERVAL`] a pair is tried for 10 s, longer than a person takes to trickle a relay
/// candidate over a slow signaling path.
const MAX_BINDING_REQUESTS: u16 = 2000;
/// Consent is refreshed this often (RFC 7675 §5.1 asks for every 5 s at least).
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
/// Silence after which the pair counts as disconnected; libwebrtc calls it after 2.5 s
/// (`p2p_constants.h`, `WEAK_CONNECTION_RECEIVE_TIMEOUT`).
const DISCONNECTED_AFTER: Duration = Duration::from_secs(3);
/// Silence after disconnection until it counts as failed.
const FAILED_AFTER: Duration = Duration::from_secs(25);
/// How long nomination waits for something better than a pair of these types. Host pairs wait for
/// nothing. A peer-reflexive pair is often a host pair whose candidate is still in signaling.
const PRFLX_WAIT: Duration = Duration::ZERO;
const SRFLX_WAIT: Duration = Duration::from_millis(100);
const RELAY_WAIT: Duration = Duration::from_millis(300);
/// The agent checks every pair at every tick: machines with many virtual interfaces would make
/// hundreds of pairs and flood the path.
const MAX_ADDRESSES_PER_FAMILY: usize = 4;
/// A browser on a machine with four networks, both families, UDP and TCP, reflexive and relayed, has some twenty.
const MAX_REMOTE_CANDIDATES: usize = 32;
/// Twice what a browser's longest line takes.
const MAX_CANDIDATE_BYTES: usize = 512;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;

    const HOST: &str =
        "candidate:1 1 udp 2122260223 192.0.2.1 50000 typ host generation 0 ufrag abcd";

    #[test]
    fn candidates_of_browsers_are_accepted() {
        for line in [
            HOST,
            "candidate:842163049 1 udp 1677729535 198.51.100.4 61011 typ srflx raddr 0.0.0.0 rport 0 \
             generation 0 ufrag EsAw network-cost 999",
            "candidate:1 1 UDP 2122252543 3c1b5ee4-e0a3-4d3e-9b43-5b7a1d5a6c11.local 9 typ host",
            "candidate:0 1 TCP 2105524479 2001:db8::1 9 typ host tcptype active",
        ] {
            validate(line).unwrap_or_else(|e| panic!("{line}: {e}"));
        }
    }

    #[test]
    fn malformed_candidates_are_refused() {
        for line in [
            "candidate:",
            "hello",
            "candidate:1 1 udp 1 192.0.2.1 99999 typ host",
            "candidate:1 1 udp 1 192.0.2.1 1 typ guest",
            "candidate:1 1 udp 1 example.com 1 typ host",
            "candidate:1 1 udp 1 192.0.2.1 1 typ srflx raddr x rport 1",
            "candidate:1 1 udp 1 192.0.2.1 1 typ host lonely",
            "candidate:1 1 udp 1 ..local 1 typ host",
            "candidate:1 1 udp 1 printer.local 1 typ host",
            "candidate:9 1 udp 2122260223 host.example.com 50000 typ host",
        ] {
            assert!(validate(line).is_err(), "{line}");
        }
    }

    const NAME: &str = "candidate:1 1 UDP 1 3c1b5ee4-e0a3-4d3e-9b43-5b7a1d5a6c11.local 9 typ host";

    fn host(number: u16) -> String {
        format!("candidate:1 1 udp 1 192.0.2.1 {number} typ host")
    }

    #[test]
    fn only_so_many_candidates_of_one_generation_are_used() {
        let mut candidates = RemoteCandidates::default();
        for number in 1..=32 {
            candidates.admit(&host(number), AddressPolicy::All).unwrap();
        }
        let more = candidates.admit(&host(33), AddressPolicy::All);
        assert!(matches!(more, Err(RtcError::TooManyCandidates)), "{more:?}");
        // An offer that is sent again names them all once more.
        candidates.admit(&host(7), AddressPolicy::All).unwrap();
    }

    #[test]
    fn a_candidate_that_is_not_used_does_not_spoil_its_description() {
        let odd = "a=candidate:9 1 udp 2122260223 host.example.com 50000 typ host\r\n";
        let broadcast = "a=candidate:9 1 udp 1 255.255.255.255 50000 typ host\r\n";
        let good = format!("a={HOST}\r\n");
        let sdp = format!("v=0\r\nm=audio 9\r\n{odd}{good}{broadcast}a=end-of-candidates\r\n");
        let stripped = RemoteCandidates::default().strip(&sdp, AddressPolicy::All);
        assert_eq!(stripped, format!("v=0\r\nm=audio 9\r\n{good}a=end-of-candidates\r\n"));
        let many: String = (1..=1200).map(|number| format!("a={}\r\n", host(number))).collect();
        let stripped = RemoteCandidates::default().strip(&many, AddressPolicy::All);
        assert_eq!(stripped.lines().count(), 32);
    }

    #[test]
    fn who_uses_relays_only_asks_nobody_for_a_name() {
        let mut candidates = RemoteCandidates::default();
        assert!(candidates.admit(NAME, AddressPolicy::RelayOnly).is_err());
        candidates.admit(NAME, AddressPolicy::All).unwrap();
        candidates.admit(HOST, AddressPolicy::RelayOnly).unwrap();
    }

    #[test]
    fn candidates_of_another_generation_are_told_apart() {
        let rejected = "m=video 0 X 0\r\na=mid:y\r\na=ice-ufrag:efgh\r\n";
        let used = "m=audio 9 X 0\r\na=mid:x\r\na=ice-ufrag:abcd\r\n";
        let sdp = format!("v=0\r\n{rejected}{used}{rejected}");
        let generation = IceGeneration::of(&sdp);
        assert_eq!(generation.first_mid.as_deref(), Some("x"));
        let mut candidate = Candidate { candidate: HOST.into(), ..Default::default() };
        assert!(generation.includes(&candidate));
        candidate.username_fragment = Some("efgh".into());
        assert!(!generation.includes(&candidate));
        candidate.username_fragment = None;
        candidate.candidate = HOST.replace("abcd", "efgh");
        assert!(!generation.includes(&candidate));
    }

    #[test]
    fn loopback_is_used_only_without_anything_else() {
        let ip = |s: &str| s.parse::<IpAddr>().unwrap();
        let all = ["127.0.0.1", "::1", "fe80::1", "192.0.2.1", "2001:db8::1", "169.254.1.1"];
        let chosen = usable_addresses(all.iter().map(|s| ip(s)));
        assert_eq!(
            chosen.iter().map(SocketAddr::ip).collect::<Vec<_>>(),
            vec![ip("192.0.2.1"), ip("2001:db8::1")]
        );
        let alone = usable_addresses(["127.0.0.1"].iter().map(|s| ip(s)));
        assert!(alone.iter().all(|a| a.ip().is_loopback()) && alone.len() == 2);
    }

    proptest! {
        #[test]
        fn any_line_is_survived(line in "\\PC{0,200}") {
            let _ = validate(&line);
            let _ = IceGeneration::of(&line).includes(&Candidate { candidate: line, ..Default::default() });
        }

        #[test]
        fn what_is_let_through_does_not_break_the_stack(
            words in prop::collection::vec(prop::sample::select(vec![
                "1", "udp", "tcp", "192.0.2.1", "::1", "0", "65535", "typ", "host", "srflx", "relay",
                "prflx", "raddr", "rport", "3c1b5ee4-e0a3-4d3e-9b43-5b7a1d5a6c11.local", "tcptype", "passive", "generation", "4294967295",
            ]), 0..16),
        ) {
            let line = format!("candidate:{}", words.join(" "));
            if validate(&line).is_ok() {
                let _ = rtc::ice::candidate::unmarshal_candidate(line.trim_start_matches("candidate:"));
            }
        }
    }
}
