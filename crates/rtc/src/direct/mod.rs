//! From a detour (a relayed pair, or one over TCP) to a direct pair, and back when it breaks, without a gap
//! and below the stack.
//!
//! The stack's agent keeps the pair that it nominated first: when that is a detour, it stays so
//! until ICE restarts, and a restart is silent for three round trips. So while the selected pair
//! is one, [`Checks`] goes on checking the pairs of UDP without a relay from the same sockets and with the
//! same credentials, which both sides do and so open their NATs to each other. Once such a pair
//! answers, [`SteeredSocket`] sends the stack's media and DTLS over it; the stack goes on
//! believing in its detour, and keeps it alive with its own checks, to return to within
//! [`checks::SILENCE`].
//!
//! As in ICE, the controlling side decides, and the controlled one follows when media comes that
//! way (RFC 8445 §8.1.1; renegotiated nomination as browsers do it). What is answered is
//! authenticated consent (RFC 7675), asked for again all the time.
//!
//! Before a pair is selected, [`prompt::Prompt`] saves the round trip of a nomination, and DTLS that
//! comes early waits here instead of being lost; so do checks that overtake the description by which they
//! can be answered. [`flights::Flights`] repeats what of DTLS's handshake may be lost.
//!
//! Threads: one task for each peer sends the checks; sockets are polled in the driver.

mod checks;
mod flights;
pub(crate) mod frames;
mod prompt;
mod socket;
pub(crate) mod stun;

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use rtc::peer_connection::transport::RTCIceRole;
use tokio::sync::Notify;
use webrtc::peer_connection::{PeerConnection, RTCIceCandidate, RTCIceCandidateType};
use webrtc::runtime::AsyncUdpSocket;

pub(crate) use socket::SteeredSocket;

use checks::{Checks, Generation, Remote, Situation};
use flights::Flights;
use prompt::{Fate, Prompt};

use crate::guard::{Guard, HandshakePhase};
use socket::Inbox;

/// A way without a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Pair {
    /// The socket's own address.
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
}

/// The pair that carries media instead of the stack's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ActivePair {
    pub(crate) pair: Pair,
    pub(crate) round_trip: Option<Duration>,
    pub(crate) checks_sent: u64,
    pub(crate) checks_answered: u64,
    /// Media and DTLS over it since it became active.
    pub(crate) bytes_sent: u64,
    pub(crate) bytes_received: u64,
}

/// What the sockets of a peer and its task share.
#[derive(Debug, Default)]
pub(crate) struct DirectPath {
    /// What comes from outside passes it first.
    pub(crate) guard: Guard,
    checks: Mutex<Checks>,
    /// Whether there is an active pair; read for each packet.
    steering: AtomicBool,
    /// Whether checks of ours are under way.
    checking: AtomicBool,
    sockets: Mutex<Vec<(SocketAddr, Weak<dyn AsyncUdpSocket>)>>,
    /// The same for what we send by ourselves: an asynchronous socket wakes only who asked it last, and
    /// that has to be the driver.
    senders: Mutex<Vec<(SocketAddr, Weak<UdpSocket>)>>,
    prompt: Mutex<Prompt>,
    flights: Mutex<Flights>,
    /// Whether both sides are through DTLS's handshake; read for each packet.
    settled: AtomicBool,
    /// Whether the stack is.
    has_keys: AtomicBool,
    /// Our user name fragment; the stack tells that of an offer that is not applied yet.
    local_ufrag: Mutex<String>,
    /// Whether the stack has had a description of the other side.
    described: AtomicBool,
    /// Whether the stack has a pair for its data.
    selected: AtomicBool,
    inboxes: Mutex<Vec<Weak<Inbox>>>,
    /// STUN and TURN servers that candidates came from, and by which sockets.
    servers: Mutex<HashSet<Pair>>,
    bytes_sent: AtomicU64,
    bytes_received: AtomicU64,
    wake: Notify,
}

impl DirectPath {
    /// The stack selected a pair, or may have.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// ICE starts anew: what was known is of older credentials.
    pub(crate) fn reset(&self) {
        self.selected.store(false, Ordering::Relaxed);
        self.prompt().restart();
        *self.checks() = Checks::default();
        self.publish(None);
        self.checking.store(false, Ordering::Relaxed);
    }

    /// The stack has the keys of DTLS.
    pub(crate) fn has_keys(&self) {
        self.has_keys.store(true, Ordering::Relaxed);
    }

    fn phase(&self) -> HandshakePhase {
        match (self.has_keys.load(Ordering::Relaxed), self.is_settled()) {
            (false, _) => HandshakePhase::UnderWay,
            (true, false) => HandshakePhase::LocallyComplete,
            (true, true) => HandshakePhase::Complete,
        }
    }

    /// Our own description was applied.
    pub(crate) fn local_description(&self, ufrag: &str) {
        ufrag.clone_into(&mut self.local_ufrag.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn local_ufrag(&self) -> String {
        self.local_ufrag.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the other side's description says: its credentials and first candidates. To be told
    /// before the stack begins its checks.
    pub(crate) fn remote_description(&self, sdp: &str) {
        self.guard.remote_description(sdp);
        if let Some(password) = crate::ice::bundled(sdp, "a=ice-pwd:") {
            self.guard.remote_password(password);
            self.prompt().start(password.to_owned());
        }
        sdp.lines()
            .filter(|line| line.starts_with("a=candidate:"))
            .for_each(|line| self.remote_candidate(line));
    }

    /// The stack took the description: checks that came before can be answered.
    pub(crate) fn described(&self) {
        if !self.described.swap(true, Ordering::Relaxed) {
            self.each_inbox(Inbox::release_checks);
        }
    }

    /// A candidate of the other side.
    pub(crate) fn remote_candidate(&self, line: &str) {
        let words: Vec<&str> = line.split_ascii_whitespace().take(8).collect();
        if let [_, _, _, _, ip, port, "typ", "relay"] = words[..]
            && let (Ok(ip), Ok(port)) = (ip.parse::<IpAddr>(), port.parse())
        {
            self.prompt().add_relay(SocketAddr::new(ip, port));
        }
    }

    /// The stack sends this to that server over UDP.
    pub(crate) fn note_server(&self, pair: Pair, datagram: &[u8]) {
        let asks = frames::is_request(datagram) || frames::is_allocate(datagram);
        if asks && !self.is_described() {
            let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
            if servers.len() < MAX_PAIRS {
                servers.insert(pair);
            }
        }
    }

    /// Until the other side is described, sends to the servers what keeps NATs open for their candidates:
    /// the stack does so only for its pairs.
    pub(crate) async fn keep_open(self: Arc<Self>) {
        let path = Arc::downgrade(&self);
        drop(self);
        while let Some(path) = path.upgrade().filter(|path| !path.is_described()) {
            path.touch_servers();
            drop(path);
            tokio::time::sleep(KEEP_OPEN).await;
        }
    }

    fn touch_servers(&self) {
        let servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        let indication = stun::indication();
        for pair in servers.iter() {
            self.send(*pair, &indication);
        }
    }

    /// The stack selected a pair: what came too early for it is delivered.
    pub(crate) fn connected(&self) {
        if !self.selected.swap(true, Ordering::Relaxed) {
            self.each_inbox(Inbox::release);
        }
        self.wake();
    }

    fn each_inbox(&self, act: impl Fn(&Inbox)) {
        let inboxes = self.inboxes.lock().unwrap_or_else(PoisonError::into_inner);
        inboxes.iter().filter_map(Weak::upgrade).for_each(|inbox| act(&inbox));
    }

    fn is_described(&self) -> bool {
        self.described.load(Ordering::Relaxed)
    }

    pub(crate) fn is_selected(&self) -> bool {
        self.selected.load(Ordering::Relaxed)
    }

    fn prompt(&self) -> MutexGuard<'_, Prompt> {
        self.prompt.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Relaxed)
    }

    fn flights(&self) -> MutexGuard<'_, Flights> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stack sends this, of a handshake perhaps. True if a flight begins.
    fn sends_flight(&self, pair: Pair, datagram: &[u8]) -> bool {
        let Some(payload) = frames::payload(datagram) else { return false };
        let round_trip = self.prompt().round_trip();
        let mut flights = self.flights();
        let to = (pair.remote, datagram);
        let begins = flights.on_send(Instant::now(), pair.local, to, payload, round_trip);
        self.settled.store(flights.is_settled(), Ordering::Relaxed);
        begins
    }

    /// The other side sent this, of a handshake perhaps.
    fn receives_flight(&self, datagram: &[u8]) {
        let Some(payload) = frames::payload(datagram) else { return };
        let mut flights = self.flights();
        flights.on_receive(payload);
        self.settled.store(flights.is_settled(), Ordering::Relaxed);
    }

    /// What becomes of a datagram of the stack while no pair is selected.
    fn before_selection(&self, pair: Pair, datagram: &[u8]) -> Fate {
        self.prompt().on_send(Instant::now(), pair, datagram)
    }

    pub(crate) fn active(&self) -> Option<ActivePair> {
        if !self.steering.load(Ordering::Relaxed) {
            return None;
        }
        let mut active = self.checks().active_pair()?;
        active.bytes_sent = self.bytes_sent.load(Ordering::Relaxed);
        active.bytes_received = self.bytes_received.load(Ordering::Relaxed);
        Some(active)
    }

    fn checks(&self) -> MutexGuard<'_, Checks> {
        self.checks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sockets(&self) -> MutexGuard<'_, Vec<(SocketAddr, Weak<dyn AsyncUdpSocket>)>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A socket that media may leave from, and checks by `sender`, another handle of it.
    fn add_socket(
        &self,
        socket: &Arc<dyn AsyncUdpSocket>,
        sender: &Arc<UdpSocket>,
        inbox: &Arc<Inbox>,
    ) {
        let Ok(address) = socket.local_addr() else { return };
        let mut inboxes = self.inboxes.lock().unwrap_or_else(PoisonError::into_inner);
        inboxes.retain(|inbox| inbox.strong_count() > 0);
        inboxes.push(Arc::downgrade(inbox));
        drop(inboxes);
        let mut sockets = self.sockets();
        sockets.retain(|(_, socket)| socket.strong_count() > 0);
        // A socket for multicast DNS has no address of its own.
        if !address.ip().is_unspecified() && !address.ip().is_multicast() {
            sockets.push((address, Arc::downgrade(socket)));
            drop(sockets);
            let mut senders = self.senders.lock().unwrap_or_else(PoisonError::into_inner);
            senders.retain(|(_, sender)| sender.strong_count() > 0);
            senders.push((address, Arc::downgrade(sender)));
        }
    }

    fn socket(&self, local: SocketAddr) -> Option<Arc<dyn AsyncUdpSocket>> {
        let sockets = self.sockets();
        sockets.iter().rev().find(|(address, _)| *address == local)?.1.upgrade()
    }

    /// What does not fit into the socket's buffer is lost like on the way.
    fn send(&self, pair: Pair, contents: &[u8]) {
        let senders = self.senders.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = senders.iter().rev().find(|(address, _)| *address == pair.local);
        if let Some(sender) = sender.and_then(|(_, sender)| sender.upgrade()) {
            let _ = sender.send_to(contents, pair.remote);
        }
    }

    fn publish(&self, active: Option<Pair>) {
        if active.is_some() != self.steering.swap(active.is_some(), Ordering::Relaxed) {
            self.bytes_sent.store(0, Ordering::Relaxed);
            self.bytes_received.store(0, Ordering::Relaxed);
        }
    }

    /// Sends the checks that are due, and decides. True if the answer to "direct?" changed.
    fn tick(&self, now: Instant, situation: &Situation) -> bool {
        let before = self.steering.load(Ordering::Relaxed);
        let (due, active) = {
            let mut checks = self.checks();
            let due = checks.tick(now, situation);
            (due, checks.active())
        };
        self.checking.store(situation.detour, Ordering::Relaxed);
        self.publish(active);
        for check in due {
            self.send(check.pair, &check.request);
        }
        before != active.is_some()
    }

    /// A datagram came. True if it is the answer to a check of ours, and nobody else's.
    fn on_datagram(&self, pair: Pair, datagram: &[u8]) -> bool {
        if !self.is_selected() && datagram.first() == Some(&1) {
            self.prompt().on_response(Instant::now(), pair, datagram);
        }
        match datagram.first() {
            // Responses of the class that answers a Binding request (RFC 8489 §5).
            Some(1) if self.checking.load(Ordering::Relaxed) => {
                let mut checks = self.checks();
                let ours = checks.on_response(Instant::now(), pair, datagram);
                let active = checks.active();
                drop(checks);
                if ours && active.is_some() != self.steering.load(Ordering::Relaxed) {
                    self.publish(active);
                    self.wake();
                }
                ours
            }
            Some(first) if frames::is_payload(*first) && self.checking.load(Ordering::Relaxed) => {
                self.on_media(pair, datagram.len());
                false
            }
            _ => false,
        }
    }

    fn on_media(&self, pair: Pair, bytes: usize) {
        let mut checks = self.checks();
        let counts = checks.on_media(Instant::now(), pair);
        let active = checks.active();
        drop(checks);
        if active.is_some() != self.steering.load(Ordering::Relaxed) {
            self.publish(active);
            self.wake();
        }
        if counts {
            self.bytes_received.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    /// Where media goes now, if not where the stack sends it.
    fn steer(&self) -> Option<(Pair, Arc<dyn AsyncUdpSocket>)> {
        if !self.steering.load(Ordering::Relaxed) {
            return None;
        }
        let pair = self.checks().active()?;
        Some((pair, self.socket(pair.local)?))
    }

    /// Works until it is aborted; `moved` is told each time media changes between the detour and a
    /// direct pair. What is sent to an address for which `is_tcp` is true goes over TCP.
    pub(crate) async fn run(
        self: Arc<Self>,
        pc: Arc<dyn PeerConnection>,
        is_tcp: impl Fn(SocketAddr) -> bool,
        moved: impl Fn(bool),
    ) {
        let mut told = false;
        loop {
            let situation = self.look(pc.as_ref(), &is_tcp).await;
            let detour = situation.as_ref().is_some_and(|s| s.detour);
            if let Some(situation) = &situation {
                self.tick(Instant::now(), situation);
            }
            let direct = self.steering.load(Ordering::Relaxed);
            if direct != told {
                told = direct;
                moved(direct);
            }
            if detour {
                let _ = tokio::time::timeout(TICK, self.wake.notified()).await;
            } else {
                self.wake.notified().await;
            }
        }
    }

    async fn look(
        &self,
        pc: &dyn PeerConnection,
        is_tcp: &impl Fn(SocketAddr) -> bool,
    ) -> Option<Situation> {
        let ice = pc.sctp().await?.transport().ice_transport();
        let selected = ice.get_selected_candidate_pair().await.ok()?;
        let remotes = ice.get_remote_candidates().await.ok()?;
        let relays: Vec<SocketAddr> = remotes
            .iter()
            .filter(|c| c.typ == RTCIceCandidateType::Relay)
            .filter_map(address)
            .collect();
        let by_detour = |remote: &SocketAddr| relays.contains(remote) || is_tcp(*remote);
        let detour = selected.as_ref().is_some_and(|pair| {
            pair.local().typ == RTCIceCandidateType::Relay
                || pair.remote().typ == RTCIceCandidateType::Relay
                || address(pair.remote()).as_ref().is_some_and(by_detour)
        });
        if !detour {
            return Some(Situation::default());
        }
        let remote = ice.get_remote_parameters().await.ok()??;
        let local_ufrag = self.local_ufrag();
        let remotes = remotes
            .iter()
            .filter(|c| c.typ != RTCIceCandidateType::Relay)
            .filter_map(|c| Some(Remote { address: address(c)?, priority: c.priority }))
            // A relay's address may come as a peer-reflexive one, too.
            .filter(|c| !by_detour(&c.address))
            .collect();
        Some(Situation {
            detour: true,
            controlling: ice.role().await.ok()? == RTCIceRole::Controlling,
            generation: Generation {
                local_ufrag,
                remote_ufrag: remote.username_fragment,
                remote_password: remote.password,
            },
            locals: self.sockets().iter().map(|(address, _)| *address).collect(),
            remotes,
        })
    }
}

/// Where a candidate of UDP is reached; `None` while its name is not resolved.
fn address(candidate: &RTCIceCandidate) -> Option<SocketAddr> {
    if candidate.protocol.to_string() != "udp" || candidate.port == 0 {
        return None;
    }
    let ip: IpAddr = candidate.address.parse().ok()?;
    Some(SocketAddr::new(ip, candidate.port))
}

/// Everything here that reads datagrams reads this one.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_any(datagram: &[u8]) {
    let address = SocketAddr::from(([192, 0, 2, 1], 1));
    let pair = Pair { local: address, remote: address };
    let path = DirectPath::default();
    path.remote_description("a=ice-pwd:password\r\n");
    path.note_server(pair, datagram);
    path.checking.store(true, Ordering::Relaxed);
    let _ = path.on_datagram(pair, datagram);
    path.sends_flight(pair, datagram);
    path.receives_flight(datagram);
    let _ = path.before_selection(pair, datagram);
    let _ = (frames::payload(datagram), frames::check(datagram));
    let _ = (stun::transaction(datagram), stun::has_use_candidate(datagram));
    let _ = stun::with_use_candidate(datagram, "password");
    let _ = stun::is_success(datagram, "password");
}

/// NATs forget UDP after 30 s at the earliest; libwebrtc asks its STUN servers every 10 s, too.
const KEEP_OPEN: Duration = Duration::from_secs(10);
/// Servers times sockets.
const MAX_PAIRS: usize = 64;
/// How often the task looks while the stack's pair is a detour.
const TICK: Duration = Duration::from_millis(200);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use webrtc::runtime::{Runtime, TokioRuntime};

    use super::*;

    #[tokio::test]
    async fn servers_hear_of_us_again_until_the_other_side_is_described() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let own = Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
        let socket = TokioRuntime.wrap_udp_socket(own.try_clone().unwrap()).unwrap();
        let path = DirectPath::default();
        path.add_socket(&socket, &own, &Arc::default());
        let pair = Pair { local: own.local_addr().unwrap(), remote: server.local_addr().unwrap() };
        path.note_server(pair, &[0, 3, 0, 0]);
        path.touch_servers();
        let mut heard = [0; 64];
        let length = server.recv(&mut heard).unwrap();
        assert_eq!(&heard[..8], [0, 0x11, 0, 0, 0x21, 0x12, 0xa4, 0x42]);
        assert_eq!(length, 20);

        path.described();
        let other = Pair { remote: SocketAddr::from(([127, 0, 0, 1], 9)), ..pair };
        path.note_server(other, &[0, 1, 0, 0]);
        assert_eq!(path.servers.lock().unwrap().len(), 1);
        // Nothing is to be kept open then.
        Arc::new(path).keep_open().await;
    }
}
