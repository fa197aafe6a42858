//! What all generations share: role, local paths, pacing, outputs.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::candidate::Candidate;
use crate::config::{AddressPolicy, Config, MIN_CHECK_INTERVAL};
use crate::io::{
    Event, NominationReason, Output, PairId, Path, RelayTransport, Role, SelectedPair, Transmit,
};
use crate::random::Random;
use crate::snapshot::{DropCounts, NominationRecord};

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) role: Role,
    pub(crate) tie_breaker: u64,
    pub(crate) random: Random,
    pub(crate) paths: Vec<LocalPath>,
    pub(crate) candidates: Vec<LocalRecord>,
    pub(crate) outputs: VecDeque<Output>,
    /// Where data goes.
    pub(crate) selected: Option<SelectedPair>,
    /// Newest last.
    pub(crate) nominations: VecDeque<NominationRecord>,
    pub(crate) dropped: DropCounts,
    next_pair: u32,
    /// No check before this (RFC 8445 §14).
    pub(crate) pace: Option<Instant>,
    pub(crate) checks_sent: u64,
    answers: AnswerBudget,
}

/// A path that makes pairs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LocalPath {
    pub(crate) path: Path,
    /// Of its host or relayed candidate.
    pub(crate) priority: u32,
    /// What a peer-reflexive candidate of this path has (RFC 8445 §7.1.1).
    pub(crate) reflexive_priority: u32,
}

/// A local candidate with where it came from.
#[derive(Debug, Clone)]
pub(crate) struct LocalRecord {
    /// As it is, not as it is told.
    pub(crate) candidate: Candidate,
    pub(crate) address: SocketAddr,
    pub(crate) path: Path,
    pub(crate) server: Option<SocketAddr>,
    pub(crate) via: Option<RelayTransport>,
    /// As it was signaled, if it was.
    pub(crate) signaled: Option<Candidate>,
}

impl Shared {
    pub(crate) fn new(config: Config, role: Role, mut random: Random) -> Self {
        let tie_breaker = random.u64();
        Self {
            config,
            role,
            tie_breaker,
            random,
            paths: Vec::new(),
            candidates: Vec::new(),
            outputs: VecDeque::new(),
            selected: None,
            nominations: VecDeque::new(),
            dropped: DropCounts::default(),
            next_pair: 0,
            pace: None,
            checks_sent: 0,
            answers: AnswerBudget::default(),
        }
    }

    pub(crate) fn path(&self, path: Path) -> Option<&LocalPath> {
        self.paths.iter().find(|known| known.path == path)
    }

    /// Whether the policy lets this path make pairs and answer checks.
    pub(crate) fn allows(&self, path: Path) -> bool {
        self.config.addresses != AddressPolicy::RelayOnly || matches!(path, Path::Relay { .. })
    }

    pub(crate) fn pair_id(&mut self) -> PairId {
        let id = self.next_pair;
        self.next_pair = self.next_pair.wrapping_add(1);
        PairId(id)
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    pub(crate) fn transmit(&mut self, path: Path, destination: SocketAddr, bytes: Vec<u8>) {
        let destination = crate::address::scoped(destination, path.base());
        self.outputs.push_back(Output::Transmit(Transmit { path, destination, bytes }));
    }

    pub(crate) fn may_check(&self, now: Instant) -> bool {
        self.pace.is_none_or(|at| at <= now)
    }

    pub(crate) fn check_was_sent(&mut self, now: Instant) {
        self.pace = Some(now + self.config.check_interval.max(MIN_CHECK_INTERVAL));
        self.checks_sent += 1;
    }

    pub(crate) fn may_answer(&mut self, now: Instant) -> bool {
        let may = self.answers.take(now);
        self.dropped.over_budget += u64::from(!may);
        may
    }

    /// Data goes over this pair from now on.
    pub(crate) fn select(&mut self, now: Instant, pair: SelectedPair, reason: NominationReason) {
        let previous = self.selected.replace(pair);
        if self.nominations.len() >= MAX_NOMINATIONS {
            self.nominations.pop_front();
        }
        self.nominations.push_back(NominationRecord { at: now, pair, previous, reason });
        self.event(Event::Selected { pair, previous, reason });
    }

    /// A random part of an interval, 0.8 to 1.2 of it in thousandths (RFC 7675 §5.1).
    pub(crate) fn jitter(&mut self) -> u32 {
        800 + (self.random.u64() % 401) as u32
    }
}

/// Answers to signed checks: a bucket that refills by the time. A check is answered by no more bytes than it
/// had, to where it came from, but that address may be forged by whoever has the credentials.
#[derive(Debug, Default)]
struct AnswerBudget {
    used: u32,
    since: Option<Instant>,
}

impl AnswerBudget {
    fn take(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        let elapsed = now.saturating_duration_since(since).as_nanos();
        let refilled = u32::try_from(elapsed / ANSWER_INTERVAL.as_nanos()).unwrap_or(u32::MAX);
        if refilled >= MAX_ANSWERS {
            *self = Self { used: 0, since: Some(now) };
        } else if refilled > 0 {
            self.used = self.used.saturating_sub(refilled);
            self.since = Some(since + ANSWER_INTERVAL * refilled);
        }
        let may = self.used < MAX_ANSWERS;
        self.used += u32::from(may);
        may
    }
}

/// 500 answers a second for long, and for a while more: 100 pairs that a peer checks all at once are answered.
const ANSWER_INTERVAL: Duration = Duration::from_millis(2);
const MAX_ANSWERS: u32 = 200;
/// Selections that are remembered.
const MAX_NOMINATIONS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_bounded_for_a_moment_and_for_long() {
        let start = crate::test_time();
        let mut budget = AnswerBudget::default();
        let in_burst = (0..1000).filter(|_| budget.take(start)).count();
        assert_eq!(in_burst, 200);
        let in_a_second =
            (0..10_000).filter(|n| budget.take(start + Duration::from_micros(100 * n))).count();
        assert!((490..=510).contains(&in_a_second), "{in_a_second}");
    }
}
