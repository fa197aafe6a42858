//! Which pairs without a relay are checked when, and which of them carries media. Sans-IO.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::stun::{self, Transaction};
use super::{ActivePair, Pair};

/// What the stack's agent knows.
#[derive(Debug, Clone, Default)]
pub(super) struct Situation {
    /// Whether the pair that it selected goes over a relay or TCP. Without that nothing is checked.
    pub(super) detour: bool,
    pub(super) controlling: bool,
    pub(super) generation: Generation,
    /// Our sockets.
    pub(super) locals: Vec<SocketAddr>,
    /// Candidates of the other side, relays and those of TCP left out.
    pub(super) remotes: Vec<Remote>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Remote {
    pub(super) address: SocketAddr,
    pub(super) priority: u32,
}

/// The credentials of one lifetime of ICE.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Generation {
    pub(crate) local_ufrag: String,
    pub(crate) remote_ufrag: String,
    pub(crate) remote_password: String,
}

/// A check to be sent.
#[derive(Debug)]
pub(super) struct Check {
    pub(super) pair: Pair,
    pub(super) request: Vec<u8>,
}

/// All pairs and the active one.
#[derive(Debug, Default)]
pub(super) struct Checks {
    generation: Generation,
    controlling: bool,
    since: Option<Instant>,
    paths: HashMap<Pair, Path>,
    active: Option<Pair>,
}

#[derive(Debug)]
struct Path {
    priority: u32,
    next_check: Instant,
    unanswered: VecDeque<(Transaction, Instant)>,
    sent: u64,
    answers: u64,
    last_answer: Option<Instant>,
    round_trip: Option<Duration>,
    last_media: Option<Instant>,
    /// Not to be used before: it broke.
    held_until: Option<Instant>,
    breaks: u32,
}

impl Checks {
    pub(super) fn active(&self) -> Option<Pair> {
        self.active
    }

    pub(super) fn active_pair(&self) -> Option<ActivePair> {
        let pair = self.active?;
        let path = self.paths.get(&pair)?;
        Some(ActivePair {
            pair,
            round_trip: path.round_trip,
            checks_sent: path.sent,
            checks_answered: path.answers,
            bytes_sent: 0,
            bytes_received: 0,
        })
    }

    /// Gives the checks that are due, and leaves an active pair that has fallen silent.
    pub(super) fn tick(&mut self, now: Instant, situation: &Situation) -> Vec<Check> {
        if !situation.detour || situation.generation != self.generation {
            *self = Self { generation: situation.generation.clone(), ..Self::default() };
        }
        if !situation.detour {
            return Vec::new();
        }
        self.controlling = situation.controlling;
        let since = *self.since.get_or_insert(now);
        self.pair_up(now, situation);
        if let Some(path) = self.active.and_then(|pair| self.paths.get_mut(&pair))
            && !path.is_alive(now)
        {
            path.last_answer = None;
            path.held_until = Some(now + FIRST_HOLD * 2u32.pow(path.breaks.min(4)));
            path.breaks += 1;
            self.active = None;
        }
        self.decide(now);
        let idle = if now < since + EAGER { INTERVAL } else { LATE_INTERVAL };
        let mut due = Vec::new();
        for (pair, path) in &mut self.paths {
            if now < path.next_check {
                continue;
            }
            let active = self.active == Some(*pair);
            path.next_check = now + if active { ACTIVE_INTERVAL } else { idle };
            // Every second check of the pair in use nominates it. Not each: our own agent leaves a
            // nomination unanswered while its own check of the pair has no answer.
            let nominate = active && path.sent % 2 == 0;
            let tie_breaker = u64::from(pair.local.port()) << 32 | u64::from(pair.remote.port());
            let made = stun::request(&self.generation, self.controlling, nominate, tie_breaker);
            let Some((transaction, request)) = made else { continue };
            if path.unanswered.len() >= MAX_UNANSWERED {
                path.unanswered.pop_front();
            }
            path.unanswered.push_back((transaction, now));
            path.sent += 1;
            due.push((path.priority, Check { pair: *pair, request }));
        }
        // The first answer decides, so the best is asked first.
        due.sort_by_key(|(priority, _)| std::cmp::Reverse(*priority));
        due.into_iter().map(|(_, check)| check).collect()
    }

    /// True if this answers a check of ours, rightly or not.
    pub(super) fn on_response(&mut self, now: Instant, pair: Pair, datagram: &[u8]) -> bool {
        let Some(transaction) = stun::transaction(datagram) else { return false };
        let of_this = |(t, _): &(Transaction, Instant)| *t == transaction;
        let Some(path) = self.paths.get_mut(&pair) else {
            // From another address than it was sent to: not symmetric (RFC 8445 §7.2.5.2.1).
            return self.paths.values().any(|path| path.unanswered.iter().any(of_this));
        };
        let Some(at) = path.unanswered.iter().position(of_this) else { return false };
        if stun::is_success(datagram, &self.generation.remote_password)
            && let Some((_, sent)) = path.unanswered.remove(at)
        {
            path.last_answer = Some(now);
            path.answers += 1;
            path.round_trip = Some(now.saturating_duration_since(sent));
            self.decide(now);
        }
        true
    }

    /// Media came this way. True if it is the active pair's.
    pub(super) fn on_media(&mut self, now: Instant, pair: Pair) -> bool {
        let Some(path) = self.paths.get_mut(&pair) else { return false };
        path.last_media = Some(now);
        if self.active.is_none() {
            self.decide(now);
        }
        self.active == Some(pair)
    }

    fn pair_up(&mut self, now: Instant, situation: &Situation) {
        let mut remotes = situation.remotes.clone();
        remotes.sort_by_key(|remote| std::cmp::Reverse(remote.priority));
        let mut wanted: Vec<(Pair, u32)> = Vec::new();
        for remote in &remotes {
            for local in &situation.locals {
                let (a, b) = (local.ip(), remote.address.ip());
                let pair = Pair { local: *local, remote: remote.address };
                if a.is_ipv4() == b.is_ipv4()
                    && a.is_loopback() == b.is_loopback()
                    && wanted.len() < MAX_PAIRS
                    && !wanted.iter().any(|(known, _)| *known == pair)
                {
                    wanted.push((pair, remote.priority));
                }
            }
        }
        let active = self.active;
        self.paths.retain(|pair, _| {
            active == Some(*pair) || wanted.iter().any(|(wanted, _)| wanted == pair)
        });
        for (pair, priority) in wanted {
            self.paths.entry(pair).or_insert(Path::new(now)).priority = priority;
        }
    }

    fn decide(&mut self, now: Instant) {
        if self.active.is_some() {
            return;
        }
        let usable = self.paths.iter().filter(|(_, path)| {
            let followed = path.last_media.is_some_and(|at| now < at + FOLLOW);
            path.is_alive(now)
                && path.held_until.is_none_or(|until| until <= now)
                && (self.controlling || followed)
        });
        let best = usable.max_by_key(|(_, path)| {
            (path.priority, std::cmp::Reverse(path.round_trip.unwrap_or(Duration::MAX)))
        });
        self.active = best.map(|(pair, _)| *pair);
        if let Some(path) = self.active.and_then(|pair| self.paths.get_mut(&pair)) {
            path.next_check = now;
        }
    }
}

impl Path {
    fn new(now: Instant) -> Self {
        Self {
            priority: 0,
            next_check: now,
            unanswered: VecDeque::new(),
            sent: 0,
            answers: 0,
            last_answer: None,
            round_trip: None,
            last_media: None,
            held_until: None,
            breaks: 0,
        }
    }

    fn is_alive(&self, now: Instant) -> bool {
        self.last_answer.is_some_and(|at| now < at + SILENCE)
    }
}

/// Between two checks of a pair that is not in use: a block that is lifted is noticed within this,
/// and NATs keep what the checks opened (RFC 4787 §4.3 wants two minutes, some have 30 s).
const INTERVAL: Duration = Duration::from_secs(1);
/// So long; after it every [`LATE_INTERVAL`].
const EAGER: Duration = Duration::from_secs(60);
const LATE_INTERVAL: Duration = Duration::from_secs(2);
/// Between two checks of the pair in use.
const ACTIVE_INTERVAL: Duration = Duration::from_millis(400);
/// Without an answer for so long the pair in use is left for the detour: three checks and a long
/// round trip.
pub(super) const SILENCE: Duration = Duration::from_millis(1600);
/// A pair that broke rests for so long, twice as long each time up to 32 s.
const FIRST_HOLD: Duration = Duration::from_secs(2);
/// The controlled side follows media that came within this.
const FOLLOW: Duration = Duration::from_secs(1);
/// Four addresses of each side and family, and some reflexive ones.
const MAX_PAIRS: usize = 40;
/// Answers later than so many checks are too late.
const MAX_UNANSWERED: usize = 8;

#[cfg(test)]
#[path = "checks_tests.rs"]
mod tests;
