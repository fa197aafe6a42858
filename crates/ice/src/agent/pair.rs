//! One candidate pair: state, history and priority.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::candidate::{CandidateKind, MAX_RELAY_PRIORITY, relay_transport};
use crate::io::{PairId, Path, PathClass, RelayTransport, Role, SelectedPair};
use crate::snapshot::{CheckOutcome, PairState};

/// A local path with a remote candidate.
///
/// The local end is a path and not a candidate: a reflexive candidate sends from its base, so its pairs are
/// those of the base (RFC 8445 §6.1.2.4).
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) id: PairId,
    pub(crate) path: Path,
    pub(crate) local_priority: u32,
    /// Canonical.
    pub(crate) remote: SocketAddr,
    pub(crate) remote_kind: CandidateKind,
    pub(crate) remote_priority: u32,
    pub(crate) state: PairState,
    /// When the next check is due; set by the plan.
    pub(crate) next_check: Option<Instant>,
    pub(crate) first_check: Option<Instant>,
    pub(crate) last_check: Option<Instant>,
    /// Checks since the last answer, and when the first of them was sent.
    pub(crate) unanswered: u32,
    pub(crate) silent_since: Option<Instant>,
    /// When an answer of the remote peer last came, a signed check, other data.
    pub(crate) last_answer: Option<Instant>,
    pub(crate) last_request: Option<Instant>,
    pub(crate) last_data: Option<Instant>,
    /// Part of the interval between checks, in thousandths, new with each answer (RFC 7675 §5.1).
    pub(crate) jitter: u32,
    /// We sent a check that nominates it.
    pub(crate) nominated: bool,
    /// Our nomination of this number, 0 without numbers, was answered.
    pub(crate) acknowledged: Option<u32>,
    /// The highest nomination that the remote peer sent for it, 0 without a number.
    pub(crate) remote_nomination: Option<u32>,
    /// How often it was left because it had died, and how long it is not to be returned to.
    pub(crate) breaks: u32,
    pub(crate) held_until: Option<Instant>,
    /// Our address as the remote peer sees it.
    pub(crate) mapped: Option<SocketAddr>,
    pub(crate) round_trip: Option<Duration>,
    pub(crate) samples: u64,
    pub(crate) round_trips: VecDeque<(Instant, Duration)>,
    pub(crate) checks: VecDeque<SentCheck>,
    pub(crate) sent: u64,
    pub(crate) answered: u64,
    pub(crate) lost: u64,
    pub(crate) rejected: u64,
    pub(crate) not_symmetric: u64,
    pub(crate) role_conflicts: u64,
    pub(crate) requests_received: u64,
}

/// A check that was sent.
#[derive(Debug, Clone)]
pub(crate) struct SentCheck {
    pub(crate) transaction: u128,
    pub(crate) at: Instant,
    pub(crate) role: Role,
    /// The number of the nomination in it, 0 without numbers.
    pub(crate) nomination: Option<u32>,
    pub(crate) outcome: CheckOutcome,
}

impl Pair {
    pub(crate) fn new(
        id: PairId,
        (path, local_priority): (Path, u32),
        (remote, remote_kind, remote_priority): (SocketAddr, CandidateKind, u32),
    ) -> Self {
        Self {
            id,
            path,
            local_priority,
            remote,
            remote_kind,
            remote_priority,
            state: PairState::Waiting,
            next_check: None,
            first_check: None,
            last_check: None,
            unanswered: 0,
            silent_since: None,
            last_answer: None,
            last_request: None,
            last_data: None,
            jitter: 1000,
            nominated: false,
            acknowledged: None,
            remote_nomination: None,
            breaks: 0,
            held_until: None,
            mapped: None,
            round_trip: None,
            samples: 0,
            round_trips: VecDeque::new(),
            checks: VecDeque::new(),
            sent: 0,
            answered: 0,
            lost: 0,
            rejected: 0,
            not_symmetric: 0,
            role_conflicts: 0,
            requests_received: 0,
        }
    }

    /// RFC 8445 §6.1.2.3.
    pub(crate) fn priority(&self, role: Role) -> u64 {
        pair_priority(self.priorities(role))
    }

    /// G, the priority of the controlling side's candidate, and D, that of the controlled side's.
    pub(crate) fn priorities(&self, role: Role) -> (u32, u32) {
        match role {
            Role::Controlling => (self.local_priority, self.remote_priority),
            Role::Controlled => (self.remote_priority, self.local_priority),
        }
    }

    /// What kind of way it is: the worse of what its two ends say.
    pub(crate) fn class(&self) -> PathClass {
        let of_relay = |via| match via {
            RelayTransport::Udp => PathClass::RelayUdp,
            RelayTransport::Tcp => PathClass::RelayTcp,
            RelayTransport::Tls => PathClass::RelayTls,
        };
        let local = match self.path {
            Path::Udp { .. } => PathClass::DirectUdp,
            Path::TcpActive { .. } | Path::TcpPassive { .. } => PathClass::DirectTcp,
            Path::Relay { via, .. } => of_relay(via),
        };
        // A check from a relay whose candidate is still in signaling has a relay's priority from our own
        // kind of agent.
        let relayed = self.remote_kind == CandidateKind::Relayed
            || (self.remote_kind == CandidateKind::PeerReflexive
                && self.remote_priority <= MAX_RELAY_PRIORITY);
        if relayed { local.max(of_relay(relay_transport(self.remote_priority))) } else { local }
    }

    /// Whether its last checks were answered, or may still be, and consent is there for a while.
    pub(crate) fn answers(&self, now: Instant) -> bool {
        self.unanswered < 3 && self.last_answer.is_some_and(|last| now < last + FRESH)
    }

    /// From a relay to an address that is only reached within a local network.
    pub(crate) fn is_unlikely(&self) -> bool {
        let Path::Relay { relayed, .. } = self.path else { return false };
        is_local(self.remote.ip()) && !is_local(relayed.ip())
    }

    /// When something last came by it: an answer, a check, or data. Consent needs answers alone (RFC 7675), but where
    /// many packets are lost several checks in a row may be.
    pub(crate) fn last_heard(&self) -> Option<Instant> {
        self.last_answer.max(self.last_request).max(self.last_data)
    }

    pub(crate) fn is_proven(&self) -> bool {
        self.state == PairState::Succeeded
    }

    /// The order of preference among proven pairs: the smallest is the best.
    pub(crate) fn rank(&self, role: Role) -> (PathClass, Duration, std::cmp::Reverse<u64>) {
        let round_trip = self.round_trip.unwrap_or(Duration::MAX);
        (self.class(), round_trip, std::cmp::Reverse(self.priority(role)))
    }

    pub(crate) fn is_held(&self, now: Instant) -> bool {
        self.held_until.is_some_and(|until| now < until)
    }

    /// Whether answers are missing for so long that other pairs are to be looked at, and when that is so.
    pub(crate) fn suspect_at(&self) -> Option<Instant> {
        let patience = SUSPECT_AFTER.max(self.round_trip.unwrap_or_default() * 3);
        self.silent_since.filter(|_| self.unanswered >= 2).map(|since| since + patience)
    }

    /// When it is to be left for another pair, if no answer comes.
    pub(crate) fn dead_at(&self, switch_after: Duration) -> Option<Instant> {
        let patience = switch_after.max(self.round_trip.unwrap_or_default() * 4);
        self.silent_since.filter(|_| self.unanswered >= 3).map(|since| since + patience)
    }

    pub(crate) fn on_check_sent(&mut self, check: SentCheck) {
        let now = check.at;
        if self.state == PairState::Waiting {
            self.state = PairState::InProgress;
        }
        self.first_check.get_or_insert(now);
        self.last_check = Some(now);
        self.silent_since.get_or_insert(now);
        self.unanswered = self.unanswered.saturating_add(1);
        self.sent += 1;
        self.nominated |= check.nomination.is_some();
        for old in &mut self.checks {
            if old.outcome == CheckOutcome::Pending && old.at + LOST_AFTER <= now {
                old.outcome = CheckOutcome::Lost;
                self.lost += 1;
            }
        }
        if self.checks.len() >= MAX_CHECKS
            && self.checks.pop_front().is_some_and(|old| old.outcome == CheckOutcome::Pending)
        {
            self.lost += 1;
        }
        self.checks.push_back(check);
    }

    /// The check was answered with success.
    pub(crate) fn on_answer(&mut self, now: Instant, at: usize, mapped: SocketAddr, jitter: u32) {
        let Some(check) = self.checks.get_mut(at) else { return };
        let round_trip = now.saturating_duration_since(check.at);
        if check.outcome == CheckOutcome::Lost {
            self.lost = self.lost.saturating_sub(1);
        }
        check.outcome = CheckOutcome::Answered { round_trip };
        if check.nomination.is_some() {
            self.acknowledged = self.acknowledged.max(check.nomination);
        }
        self.state = PairState::Succeeded;
        self.last_answer = Some(now);
        self.unanswered = 0;
        self.silent_since = None;
        self.answered += 1;
        self.mapped = Some(mapped);
        self.jitter = jitter;
        self.samples += 1;
        // The weight of RFC 6298 §2.3.
        self.round_trip =
            Some(self.round_trip.map_or(round_trip, |smoothed| (smoothed * 7 + round_trip) / 8));
        if self.round_trips.len() >= MAX_ROUND_TRIPS {
            self.round_trips.pop_front();
        }
        self.round_trips.push_back((now, round_trip));
    }

    pub(crate) fn selected(&self) -> SelectedPair {
        SelectedPair { id: self.id, path: self.path, remote: self.remote, class: self.class() }
    }
}

/// RFC 1918, RFC 3927 and RFC 4193.
fn is_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unique_local(),
    }
}

/// RFC 8445 §6.1.2.3, of G and D.
pub(crate) fn pair_priority((g, d): (u32, u32)) -> u64 {
    (u64::from(g.min(d)) << 32) + 2 * u64::from(g.max(d)) + u64::from(g > d)
}

/// Half of what consent lasts. Fallbacks are checked each 5 s; others have to be proven anew before they are used.
const FRESH: Duration = Duration::from_secs(15);
/// Two checks and a round trip that has grown.
const SUSPECT_AFTER: Duration = Duration::from_millis(300);
/// A check that was not answered by then is counted as lost; its answer is still taken while it is
/// remembered.
pub(crate) const LOST_AFTER: Duration = Duration::from_secs(3);
/// Checks of a pair that are remembered: at the fastest repetition some 5 s.
const MAX_CHECKS: usize = 32;
/// Round trips of a pair that are remembered: half a minute of the selected pair.
const MAX_ROUND_TRIPS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pair_priority_is_that_of_the_rfc() {
        assert_eq!(pair_priority((1, 2)), (1 << 32) + 4);
        assert_eq!(pair_priority((2, 1)), (1 << 32) + 5);
        assert_eq!(pair_priority((7, 7)), (7 << 32) + 14);
        let max = (1 << 31) - 1;
        assert_eq!(pair_priority((max, max)), (u64::from(max) << 32) + 2 * u64::from(max));
    }
}
