//! ICE-TCP (RFC 6544) beneath the stack, where nothing else connects: we listen (passive host candidates)
//! and connect to candidates that listen (active).
//!
//! The stack's own ICE-TCP sends a check for every pair at each tick of 5 ms, writes to the stream within its
//! network task and limits nobody who connects. So for the stack a candidate of TCP is one of UDP at the
//! same address, and [`crate::stream`] carries what goes there over a stream.
//!
//! Sound and pictures over TCP wait for what is lost, so this is for when UDP does not get through and no
//! relay is there: neither are candidates of TCP told to the stack nor connections taken before
//! [`LAST_RESORT`] has passed without a selected pair. A browser that has connected by then waits in
//! the system's queue.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::guard::may_be_dialled;
use crate::types::Candidate;

/// What the sockets of a peer and its negotiation share.
#[derive(Debug)]
pub(crate) struct TcpCandidates {
    /// Who uses relays only neither listens nor connects.
    enabled: bool,
    /// Where we listen on each address of ours.
    listeners: Mutex<HashMap<IpAddr, u16>>,
    /// Other ends of streams, as the stack knows them; the newest are kept.
    ends: Mutex<VecDeque<SocketAddr>>,
    /// Whether there are any; read for each packet.
    any: AtomicBool,
    /// Of the other side, until they are needed.
    pending: Mutex<Vec<Candidate>>,
    gate: watch::Sender<Gate>,
}

/// Whether TCP is needed in this lifetime of ICE credentials.
#[derive(Debug, Clone, Copy, Default)]
struct Gate {
    generation: u64,
    open: bool,
}

impl TcpCandidates {
    pub(crate) fn new(enabled: bool) -> Self {
        Self {
            enabled,
            listeners: Mutex::default(),
            ends: Mutex::default(),
            any: AtomicBool::new(false),
            pending: Mutex::default(),
            gate: watch::Sender::default(),
        }
    }

    pub(crate) fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// ICE starts anew; streams that are there live on with their sockets.
    pub(crate) fn reset(&self) {
        lock(&self.pending).clear();
        self.gate.send_modify(|gate| *gate = Gate { generation: gate.generation + 1, open: false });
    }

    /// Both sides are described. After [`LAST_RESORT`], unless there is a `selected` pair by then or ICE
    /// started anew: the candidates that the stack is to know from now on.
    pub(crate) async fn needed(&self, selected: impl Fn() -> bool) -> Vec<Candidate> {
        let generation = self.gate.borrow().generation;
        tokio::time::sleep(LAST_RESORT).await;
        if selected() { Vec::new() } else { self.open(generation) }
    }

    fn open(&self, generation: u64) -> Vec<Candidate> {
        let opened = self.gate.send_if_modified(|gate| {
            let opens = gate.generation == generation && !gate.open;
            gate.open |= opens;
            opens
        });
        if opened { std::mem::take(&mut lock(&self.pending)) } else { Vec::new() }
    }

    /// Returns once connections are to be taken.
    pub(crate) async fn opened(&self) {
        // The other end of the channel is `self`.
        let _ = self.gate.subscribe().wait_for(|gate| gate.open).await;
    }

    /// We listen there.
    pub(crate) fn listening(&self, at: SocketAddr) {
        lock(&self.listeners).insert(at.ip(), at.port());
    }

    /// The candidate of TCP beside one of UDP that the stack found, if it is a host's and we listen there.
    pub(crate) fn beside(&self, udp: &str) -> Option<String> {
        let words: Vec<&str> = udp.split_ascii_whitespace().collect();
        let [foundation, component, _, priority, ip, _, "typ", "host", rest @ ..] = &words[..]
        else {
            return None;
        };
        let port = *lock(&self.listeners).get(&ip.parse().ok()?)?;
        // RFC 6544 §4.2: direction preference 4, and what told the addresses apart.
        let local = (4 << 13) | ((priority.parse::<u32>().ok()? >> 8) & 0x1fff);
        let priority = (TYPE_PREFERENCE << 24) | (local << 8) | 255;
        let rest: String = rest.iter().flat_map(|word| [" ", *word]).collect();
        Some(format!(
            "{foundation}T {component} tcp {priority} {ip} {port} typ host tcptype passive{rest}"
        ))
    }

    /// A candidate of the other side that was validated, as the stack may know it now. One of TCP is kept
    /// for later if it is of use, for we connect to nothing that does not listen.
    pub(crate) fn filter(&self, candidate: Candidate) -> Option<Candidate> {
        let line = candidate.candidate.as_str();
        let mut words: Vec<&str> = line.split_ascii_whitespace().collect();
        if words.get(2).is_some_and(|transport| transport.eq_ignore_ascii_case("udp")) {
            return Some(candidate);
        }
        let kind = words.iter().position(|word| *word == "tcptype");
        let at = kind.filter(|at| words.get(at + 1) == Some(&"passive"))?;
        let end = SocketAddr::new(words.get(4)?.parse().ok()?, words.get(5)?.parse().ok()?);
        if !self.enabled || !may_be_dialled(end.ip(), end.port(), true) {
            return None;
        }
        self.add_end(end);
        words.drain(at..at + 2);
        words[2] = "udp";
        let candidate = Candidate { candidate: words.join(" "), ..candidate };
        let mut pending = lock(&self.pending);
        if self.gate.borrow().open {
            return Some(candidate);
        }
        pending.push(candidate);
        None
    }

    /// What goes there goes over a stream.
    pub(crate) fn add_end(&self, end: SocketAddr) {
        let mut ends = lock(&self.ends);
        if !ends.contains(&end) {
            if ends.len() >= MAX_ENDS {
                ends.pop_front();
            }
            ends.push_back(end);
        }
        self.any.store(true, Ordering::Relaxed);
    }

    /// Nothing is to be connected to where a stream came from.
    pub(crate) fn remove_end(&self, end: SocketAddr) {
        lock(&self.ends).retain(|known| *known != end);
    }

    pub(crate) fn is_end(&self, address: SocketAddr) -> bool {
        self.any.load(Ordering::Relaxed) && lock(&self.ends).contains(&address)
    }
}

/// A description without candidates of TCP, which the stack would connect to, and those.
pub(crate) fn take_out(sdp: &str) -> (String, Vec<String>) {
    let is_tcp = |line: &str| {
        line.starts_with("a=candidate:")
            && line.split_ascii_whitespace().nth(2).is_none_or(|t| !t.eq_ignore_ascii_case("udp"))
    };
    let (taken, left): (Vec<&str>, Vec<&str>) = sdp.split_inclusive('\n').partition(|l| is_tcp(l));
    let bare = |line: &&str| line.trim_end().trim_start_matches("a=").to_owned();
    (left.concat(), taken.iter().map(bare).collect())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A relay is found within 0.6 s on a round trip of 100 ms.
const LAST_RESORT: Duration = Duration::from_secs(1);
/// As libwebrtc's `ICE_TYPE_PREFERENCE_HOST_TCP`: below all of UDP but relays.
const TYPE_PREFERENCE: u32 = 90;
/// Of a few restarts.
const MAX_ENDS: usize = 32;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const UDP: &str = "candidate:1 1 udp 2130706431 192.0.2.1 50000 typ host ufrag abcd";
    const PASSIVE: &str =
        "candidate:1T 1 tcp 1518280447 192.0.2.2 4000 typ host tcptype passive ufrag efgh";

    fn candidate(line: &str) -> Candidate {
        Candidate { candidate: line.into(), ..Default::default() }
    }

    #[test]
    fn a_listener_is_told_beside_its_host_candidate() {
        let tcp = TcpCandidates::new(true);
        assert_eq!(tcp.beside(UDP), None);
        tcp.listening("192.0.2.1:4000".parse().unwrap());
        let told = tcp.beside(UDP).unwrap();
        crate::ice::validate(&told).unwrap();
        assert_eq!(
            told,
            "candidate:1T 1 tcp 1520435199 192.0.2.1 4000 typ host tcptype passive ufrag abcd"
        );
        assert_eq!(tcp.beside(&UDP.replace("typ host", "typ srflx")), None);
    }

    #[test]
    fn the_stack_hears_of_tcp_only_when_nothing_else_connects() {
        let tcp = TcpCandidates::new(true);
        let told = |c: Option<Candidate>| c.map(|c| c.candidate);
        assert_eq!(told(tcp.filter(candidate(UDP))).as_deref(), Some(UDP));
        for none in ["tcptype active", "tcptype so", ""] {
            let line = PASSIVE.replace("tcptype passive", none);
            assert_eq!(told(tcp.filter(candidate(&line))), None);
        }
        for other in ["a.local 4000", "::ffff:127.0.0.1 4000", "0.0.0.0 4000", "192.0.2.2 25"] {
            let line = PASSIVE.replace("192.0.2.2 4000", other);
            assert_eq!(told(tcp.filter(candidate(&line))), None);
        }
        assert_eq!(told(tcp.filter(candidate(PASSIVE))), None);
        let needed = tcp.open(0);
        let as_udp =
            PASSIVE.replace("tcp 1518280447", "udp 1518280447").replace(" tcptype passive", "");
        let lines: Vec<&str> = needed.iter().map(|c| c.candidate.as_str()).collect();
        assert_eq!(lines, [as_udp.as_str()]);
        assert!(tcp.is_end("192.0.2.2:4000".parse().unwrap()));
        // From then on at once.
        assert_eq!(told(tcp.filter(candidate(PASSIVE))), Some(as_udp));
        // And not after a restart, nor what was waited for before it.
        tcp.reset();
        assert!(tcp.filter(candidate(PASSIVE)).is_none());
        assert!(tcp.open(0).is_empty() && !tcp.gate.borrow().open);
    }

    #[test]
    fn who_uses_relays_only_connects_to_nothing() {
        let tcp = TcpCandidates::new(false);
        assert!(tcp.filter(candidate(PASSIVE)).is_none());
        assert!(lock(&tcp.pending).is_empty());
    }

    #[test]
    fn ends_are_limited() {
        let tcp = TcpCandidates::new(true);
        let end = |port| SocketAddr::from(([192, 0, 2, 1], port));
        (1000..1100).for_each(|port| tcp.add_end(end(port)));
        assert_eq!(lock(&tcp.ends).len(), MAX_ENDS);
        assert!(tcp.is_end(end(1099)) && !tcp.is_end(end(1000)));
    }

    #[test]
    fn candidates_of_tcp_are_taken_out_of_a_description() {
        let sdp = format!("v=0\r\na=mid:0\r\na={UDP}\r\na={PASSIVE}\r\na=candidate:\r\na=end\r\n");
        let (left, taken) = take_out(&sdp);
        assert_eq!(left, format!("v=0\r\na=mid:0\r\na={UDP}\r\na=end\r\n"));
        assert_eq!(taken, [PASSIVE, "candidate:"]);
    }
}
