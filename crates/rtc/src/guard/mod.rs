//! What of the packets that come from outside reaches the stack. Whoever knows an address of ours can send to it;
//! the stack believes more of that than it may.
//!
//! - DTLS and media are taken from addresses that proved by a signed connectivity check that they are the remote peer's
//!   ([`sources`]), also behind a relay.
//! - Connectivity checks are authenticated before the stack reads anything of them.
//! - DTLS records are checked, bounded and put together again ([`records`]).
//! - Media is of a bounded number of sources ([`ssrcs`]).
//! - Multicast DNS is read from its own port on its own socket alone.
//!
//! Threads: [`Guard`] is shared by the sockets of one connection; its lock is held for each packet, for less than a
//! microsecond, or as long as one HMAC or one handshake message takes.

mod records;
mod sources;
mod ssrcs;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

pub(crate) use records::{HandshakePhase, Records};
pub(crate) use sources::may_be_dialled;

use sources::{Source, Sources};
use ssrcs::Ssrcs;

use crate::direct::frames;

/// What becomes of a datagram from outside.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The stack gets it as it is.
    Pass,
    /// The stack gets these instead, as if they came from this address.
    Replace(SocketAddr, Vec<Vec<u8>>),
    /// The stack gets nothing.
    Drop,
}

/// The filter in front of the stack, of one connection.
#[derive(Debug, Default)]
pub(crate) struct Guard {
    state: Mutex<State>,
    /// Datagrams that were dropped so far.
    refused: AtomicU64,
    /// Whether the remote peer did what no honest one does.
    shut: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    sources: Sources,
    records: Option<Records>,
    ssrcs: Ssrcs,
}

impl Guard {
    /// Our ICE credentials from now on, before they are told to anybody.
    pub(crate) fn local_credentials(&self, ufrag: &str, password: &str) {
        self.state().sources.local_credentials(ufrag, password);
    }

    /// The remote peer's ICE password from now on.
    pub(crate) fn remote_password(&self, password: &str) {
        self.state().sources.remote_password(password);
    }

    /// A description of the remote peer.
    pub(crate) fn remote_description(&self, sdp: &str) {
        self.state().ssrcs.announce(sdp);
    }

    /// Datagrams that were dropped so far.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Takes nothing any more from anybody: the remote peer broke the rules.
    pub(crate) fn shut(&self, why: &str) {
        if !self.shut.swap(true, Ordering::Relaxed) {
            tracing::warn!(why, "the remote peer is not listened to any more");
        }
    }

    /// The stack sends this.
    pub(crate) fn on_send(&self, to: SocketAddr, datagram: &[u8]) {
        // Requests to relays alone: media is most of what is sent.
        if matches!(datagram, [0, 3 | 9, ..]) {
            self.state().sources.on_send(to, datagram);
        }
    }

    /// A datagram came from outside on a socket that is not for multicast DNS.
    pub(crate) fn check(
        &self,
        now: Instant,
        from: SocketAddr,
        datagram: &[u8],
        phase: HandshakePhase,
    ) -> Verdict {
        let verdict = self.judge(now, from, datagram, phase);
        if verdict == Verdict::Drop {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        verdict
    }

    /// A datagram came on the socket for multicast DNS. The stack tells DNS from other traffic by its port, but looks for
    /// DTLS and media first (RFC 6762 §6, §18.1: answers come from port 5353 with the number 0).
    pub(crate) fn check_multicast(&self, from: SocketAddr, datagram: &[u8]) -> Verdict {
        if from.port() == MDNS_PORT && datagram.starts_with(&[0, 0]) {
            Verdict::Pass
        } else {
            Verdict::Drop
        }
    }

    fn judge(
        &self,
        now: Instant,
        from: SocketAddr,
        datagram: &[u8],
        phase: HandshakePhase,
    ) -> Verdict {
        // The stack takes what comes from that port for multicast DNS.
        if self.shut.load(Ordering::Relaxed) || from.port() == MDNS_PORT {
            return Verdict::Drop;
        }
        let mut state = self.state();
        let Some(unwrapped) = state.sources.unwrap(from, datagram) else { return Verdict::Drop };
        let (source, payload) = (unwrapped.source, unwrapped.payload);
        match payload {
            // Connectivity checks, and indications of the same method (RFC 8489 §5).
            [0, 1, ..] if state.sources.believes_request(source, payload) => Verdict::Pass,
            [0, 1, ..] => Verdict::Drop,
            [0, 0x11, ..] if state.sources.is_proven(source) => Verdict::Pass,
            [0, 0x11, ..] => Verdict::Drop,
            [1, 1, ..] => {
                state.sources.on_response(source, payload);
                Verdict::Pass
            }
            // Other answers, which the stack knows by their transactions.
            [0..=3, ..] => Verdict::Pass,
            [first, ..] if frames::is_payload(*first) && state.sources.is_proven(source) => {
                if frames::is_dtls(payload) {
                    state.dtls(now, source, payload, phase)
                } else if state.ssrcs.admit(payload) {
                    Verdict::Pass
                } else {
                    Verdict::Drop
                }
            }
            _ => Verdict::Drop,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn dtls(
        &mut self,
        now: Instant,
        source: Source,
        payload: &[u8],
        phase: HandshakePhase,
    ) -> Verdict {
        if Records::passes_untouched(phase, payload) {
            return Verdict::Pass;
        }
        let records = self.records.get_or_insert_with(|| Records::new(now));
        let passed = records.filter(now, phase, payload);
        // DTLS is bound to no address in the stack, so the peer's stands for its relay's, too.
        if passed.is_empty() { Verdict::Drop } else { Verdict::Replace(source.peer, passed) }
    }
}

const MDNS_PORT: u16 = 5353;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::direct::stun::{self, Generation};

    const CLIENT_HELLO: [u8; 26] =
        [22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 9, 0, 13, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 5];

    fn check(password: &str) -> Vec<u8> {
        let generation = Generation {
            local_ufrag: "theirs".into(),
            remote_ufrag: "ours".into(),
            remote_password: password.into(),
        };
        stun::request(&generation, true, true, 1).unwrap().1
    }

    #[test]
    fn strangers_reach_nothing_and_the_remote_peer_does() {
        let guard = Guard::default();
        guard.local_credentials("ours", "password");
        let now = Instant::now();
        let peer = SocketAddr::from(([192, 0, 2, 1], 1000));
        let stranger = SocketAddr::from(([192, 0, 2, 1], 1001));
        let judge =
            |from, datagram: &[u8]| guard.check(now, from, datagram, HandshakePhase::UnderWay);
        assert_eq!(judge(peer, &check("password")), Verdict::Pass);
        // M3: the stack would follow its role before it looks at the password.
        assert_eq!(judge(stranger, &check("guess")), Verdict::Drop);
        let media = [128, 96, 0, 0];
        for datagram in
            [&CLIENT_HELLO[..], &media, &[0, 0x11, 0, 0], &[64, 0, 0, 1, 128], &[10], &[]]
        {
            assert_eq!(judge(stranger, datagram), Verdict::Drop, "{datagram:?}");
        }
        assert_eq!(guard.refused(), 7);
        assert_eq!(judge(peer, &media), Verdict::Pass);
        let Verdict::Replace(from, records) = judge(peer, &CLIENT_HELLO) else { panic!() };
        assert_eq!((from, records.len()), (peer, 1));
        // Whole, but with a number of our own.
        assert_eq!(records[0][11..], CLIENT_HELLO[11..]);
        assert_eq!(records[0][5..11], [0; 6]);
        guard.shut("a test");
        assert_eq!(judge(peer, &media), Verdict::Drop);
    }

    #[test]
    fn multicast_dns_comes_from_its_port_on_its_socket_alone() {
        let guard = Guard::default();
        let responder = SocketAddr::from(([192, 0, 2, 1], MDNS_PORT));
        let other = SocketAddr::from(([192, 0, 2, 1], 1000));
        let answer = [0, 0, 0x84, 0];
        assert_eq!(guard.check_multicast(responder, &answer), Verdict::Pass);
        assert_eq!(guard.check_multicast(other, &answer), Verdict::Drop);
        assert_eq!(guard.check_multicast(responder, &CLIENT_HELLO), Verdict::Drop);
        let judged = guard.check(Instant::now(), responder, &answer, HandshakePhase::UnderWay);
        assert_eq!(judged, Verdict::Drop);
    }
}
