//! Which pair is checked when, and the sending of checks.
//!
//! Checks are not retransmitted: each is a transaction of its own, so that an answer says which check it
//! belongs to and how long it took. How soon a pair is checked again follows from its state alone, so the plan
//! is made anew after each input; pacing (RFC 8445 §14) then lets one check out at a time, whatever the plan.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use super::generation::Generation;
use super::pair::{Pair, SentCheck};
use super::shared::Shared;
use crate::error::IceError;
use crate::io::{PairId, Path, PathClass, Role};
use crate::snapshot::{CheckOutcome, PairState};
use crate::stun;

impl Generation {
    /// Whether checks are sent at all.
    fn is_active(&self) -> bool {
        self.remote.is_some() && self.drained_at.is_none()
    }

    /// Says of each pair when its next check is due.
    pub(crate) fn plan(&mut self, shared: &Shared, now: Instant) {
        if !self.is_active() {
            return;
        }
        let plan = Plan::of(self, shared, now);
        for pair in &mut self.pairs {
            let interval = plan.interval(pair, now);
            pair.next_check = interval.map(|interval| match pair.last_check {
                Some(last) => last + interval,
                None => plan.first_check(pair, now),
            });
        }
        self.triggered.retain(|id| self.pairs.iter().any(|pair| pair.id == *id));
    }

    /// When the next check is due, without regard to pacing.
    pub(crate) fn next_check(&self, now: Instant) -> Option<Instant> {
        if !self.is_active() {
            return None;
        }
        if !self.triggered.is_empty() {
            return Some(now);
        }
        self.pairs.iter().filter_map(|pair| pair.next_check).min()
    }

    /// The pair that a check is sent for now.
    pub(crate) fn due(&mut self, shared: &Shared, now: Instant) -> Option<usize> {
        if !self.is_active() {
            return None;
        }
        let is_due = |pair: &Pair| pair.next_check.is_some_and(|at| at <= now);
        if let Some(at) = self.selected.and_then(|id| self.index(id))
            && (is_due(&self.pairs[at]) || self.triggered.contains(&self.pairs[at].id))
        {
            return Some(at);
        }
        while let Some(id) = self.triggered.pop_front() {
            if let Some(at) = self.index(id) {
                return Some(at);
            }
        }
        let due = || self.pairs.iter().enumerate().filter(|(_, pair)| is_due(pair));
        // First checks before repetitions, by priority. One in four goes to what is not direct UDP, so that many
        // interfaces do not keep relays waiting; of these in turn to pairs with a relay of ours and with one
        // of theirs, as either may be the one that works.
        let first = || due().filter(|(_, pair)| pair.first_check.is_none());
        let worth = |pair: &Pair| (!pair.is_unlikely(), pair.priority(shared.role));
        let is_other = |pair: &Pair| pair.class() != PathClass::DirectUdp;
        let by_own_relay = |pair: &Pair| matches!(pair.path, Path::Relay { .. });
        let tried = |by_own: bool| {
            let tried =
                self.pairs.iter().filter(|pair| is_other(pair) && pair.first_check.is_some());
            tried.filter(|pair| by_own_relay(pair) == by_own).count()
        };
        let chosen = if self.first_checks % 4 == 3 {
            let tried = [tried(false), tried(true)];
            let other = first().filter(|(_, pair)| is_other(pair));
            other.max_by_key(|(_, pair)| {
                (worth(pair).0, Reverse(tried[usize::from(by_own_relay(pair))]), worth(pair).1)
            })
        } else {
            None
        };
        let chosen = chosen.or_else(|| first().max_by_key(|(_, pair)| worth(pair)));
        if let Some((at, _)) = chosen {
            self.first_checks = self.first_checks.wrapping_add(1);
            return Some(at);
        }
        due().min_by_key(|(_, pair)| pair.next_check).map(|(at, _)| at)
    }

    /// Enqueues a triggered check (RFC 8445 §7.3.1.4).
    pub(crate) fn trigger(&mut self, id: PairId) {
        if !self.triggered.contains(&id) {
            self.triggered.push_back(id);
        }
    }

    /// Sends a check.
    ///
    /// # Errors
    ///
    /// [`IceError::StunEncoding`]; with checked credentials there is none.
    pub(crate) fn send_check(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        at: usize,
    ) -> Result<(), IceError> {
        let Some(remote) = &self.remote else { return Ok(()) };
        let nominates = shared.role == Role::Controlling && self.nominates(shared, now, at);
        let nomination =
            if remote.renomination { Some(self.nomination).filter(|_| nominates) } else { None };
        let pair = &mut self.pairs[at];
        let Some(local) = shared.path(pair.path).copied() else { return Ok(()) };
        let transaction = shared.random.transaction();
        let request = stun::Request {
            transaction,
            username: format!("{}:{}", remote.credentials.ufrag(), self.local.ufrag()),
            priority: local.reflexive_priority,
            role: Some((shared.role, shared.tie_breaker)),
            use_candidate: nominates,
            nomination,
        };
        let bytes = stun::request(&request, &remote.key)?;
        pair.on_check_sent(SentCheck {
            transaction,
            at: now,
            role: shared.role,
            nomination: nominates.then_some(nomination.unwrap_or(0)),
            outcome: CheckOutcome::Pending,
        });
        let (id, path, destination) = (pair.id, pair.path, pair.remote);
        self.triggered.retain(|other| *other != id);
        shared.check_was_sent(now);
        shared.transmit(path, destination, bytes);
        Ok(())
    }
}

/// What the interval of a pair depends on beside the pair.
struct Plan {
    selected: Option<PairId>,
    /// Of the selected pair.
    class: Option<PathClass>,
    /// The selected pair does not answer, or there is none any more.
    searching: bool,
    /// Pairs that are kept alive.
    kept: Vec<PairId>,
    consent_interval: Duration,
    keepalive_interval: Duration,
    tcp_opens: Option<Instant>,
}

impl Plan {
    fn of(generation: &Generation, shared: &Shared, now: Instant) -> Self {
        let selected = generation.selected_pair();
        // One fallback for each local path, as what breaks is mostly a path.
        let mut fallbacks: Vec<&Pair> = generation
            .pairs
            .iter()
            .filter(|pair| pair.is_proven() && generation.selected != Some(pair.id))
            .collect();
        fallbacks.sort_by_key(|pair| pair.rank(shared.role));
        let mut kept: Vec<&Pair> = Vec::new();
        for pair in fallbacks {
            if kept.len() < MAX_KEPT && !kept.iter().any(|other| other.path == pair.path) {
                kept.push(pair);
            }
        }
        let suspect = |pair: &Pair| pair.suspect_at().is_some_and(|at| at <= now);
        Self {
            selected: generation.selected,
            class: selected.map(Pair::class),
            searching: selected.is_none_or(suspect),
            kept: kept.into_iter().map(|pair| pair.id).collect(),
            consent_interval: shared.config.consent_interval,
            keepalive_interval: shared.config.keepalive_interval,
            tcp_opens: generation.started.map(|at| at + shared.config.tcp_delay),
        }
    }

    fn first_check(&self, pair: &Pair, now: Instant) -> Instant {
        match (pair.path, self.tcp_opens) {
            (Path::TcpActive { .. }, Some(at)) => at.max(now),
            _ => now,
        }
    }

    /// From one check to the next; `None` for a pair that is let go.
    fn interval(&self, pair: &Pair, now: Instant) -> Option<Duration> {
        let round_trip = pair.round_trip.unwrap_or_default();
        if self.selected == Some(pair.id) {
            return Some(if pair.unanswered == 0 {
                self.consent_interval * pair.jitter / 1000
            } else {
                (round_trip * 2).clamp(MIN_REPETITION, MAX_REPETITION)
            });
        }
        if pair.is_proven() {
            return if self.searching {
                Some((round_trip * 2).clamp(SEARCH_INTERVAL, MAX_REPETITION))
            } else if self.class.is_some_and(|class| pair.class() < class) {
                Some(UPGRADE_INTERVAL)
            } else if self.kept.contains(&pair.id) {
                Some(self.keepalive_interval)
            } else {
                None
            };
        }
        let age =
            pair.first_check.map_or(Duration::ZERO, |first| now.saturating_duration_since(first));
        let backoff = BACKOFF_MS[(pair.unanswered.max(1) as usize - 1).min(BACKOFF_MS.len() - 1)];
        let backoff = Duration::from_millis(backoff);
        match self.class {
            None if age < GIVE_UP_AFTER => Some(backoff),
            // The remote peer may open its NAT, or be told of us, later still.
            None => Some(UPGRADE_INTERVAL),
            Some(class) if pair.class() < class => Some(if age < EAGER {
                backoff
            } else if age < PATIENT {
                UPGRADE_INTERVAL
            } else {
                LATE_UPGRADE_INTERVAL
            }),
            Some(_) if self.searching => Some(UPGRADE_INTERVAL),
            // A stream is not opened for a fallback.
            Some(_) if matches!(pair.path, Path::TcpActive { .. }) => None,
            Some(_) if age < EAGER => Some(backoff.max(FALLBACK_INTERVAL)),
            Some(_) => None,
        }
    }
}

impl Pair {
    /// Gives up on a pair that has never answered; it is still checked now and then where it would be of use.
    pub(crate) fn expire(&mut self, now: Instant) {
        let over = self.first_check.is_some_and(|first| first + GIVE_UP_AFTER <= now);
        if over && self.state == PairState::InProgress && self.unanswered > 1 {
            self.state = PairState::Failed;
        }
    }
}

/// From one check of a pair that has not answered yet to the next: a quarter longer each time, up to the RTO
/// of RFC 8445 §14.3. Dense at first, as the first checks are often lost for a reason that passes: the
/// remote peer does not know our credentials yet, or its NAT waits for its own first check.
const BACKOFF_MS: [u64; 12] = [50, 62, 78, 97, 122, 152, 190, 238, 298, 372, 465, 500];
/// A pair that has not answered by then is called failed; longer than a person takes to trickle a relay
/// candidate over a slow signaling path.
const GIVE_UP_AFTER: Duration = Duration::from_secs(10);
/// A better pair is looked for eagerly, then patiently, then for good: a block that is lifted is noticed.
const EAGER: Duration = Duration::from_secs(5);
const PATIENT: Duration = Duration::from_secs(60);
const UPGRADE_INTERVAL: Duration = Duration::from_secs(1);
const LATE_UPGRADE_INTERVAL: Duration = Duration::from_secs(2);
/// While a pair is selected that is no worse.
const FALLBACK_INTERVAL: Duration = Duration::from_millis(250);
/// The selected pair, while it does not answer: twice the round trip within these.
const MIN_REPETITION: Duration = Duration::from_millis(100);
const MAX_REPETITION: Duration = Duration::from_millis(500);
/// Other pairs that have worked, meanwhile.
const SEARCH_INTERVAL: Duration = Duration::from_millis(200);
/// Fallbacks that are kept alive: two interfaces in both families and two relays.
const MAX_KEPT: usize = 6;
