//! A pair is nominated by the check that proves it, not by another round trip. Sans-IO.
//!
//! The stack's controlling agent nominates regularly (RFC 8445 §8.1.1): it checks, and when a pair
//! has answered it sends a second check with USE-CANDIDATE; only when that is answered, too, may data
//! leave. [`Prompt`] stands between agent and sockets. It puts USE-CANDIDATE into the first
//! checks already, as RFC 5245 §8.1.1.2 has it and browsers do, and answers the agent's own nomination
//! of a pair that was proven so. Relayed pairs are left out: they shall wait for better ones.
//!
//! It also spaces checks: the agent's clock ticks fast, so that what happened is followed up at once,
//! but sends a check for every pair at each tick.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::stun::{self, Transaction};
use super::{Pair, frames};

/// What becomes of a datagram of the stack.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It goes out as it is.
    Pass,
    /// Too soon after the last one.
    Drop,
    /// This goes out instead.
    Replace(Vec<u8>),
    /// Nothing goes out; this is the other side's answer.
    Answer(Vec<u8>),
}

#[derive(Debug, Default)]
pub(super) struct Prompt {
    /// The other side's password; nothing is done without it.
    password: Option<String>,
    /// Addresses of its relays.
    relays: Vec<SocketAddr>,
    /// Checks that are not answered yet.
    asked: HashMap<Transaction, Asked>,
    /// The shortest of a check.
    round_trip: Option<Duration>,
    proven: Vec<Pair>,
    spacing: HashMap<Destination, (u32, Instant)>,
}

/// A check without a relay that went out.
#[derive(Debug)]
struct Asked {
    pair: Pair,
    at: Instant,
    /// With USE-CANDIDATE.
    nominating: bool,
}

/// Who gets a check: an address, and behind a relay's the peer as the frame's header names it.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Destination(Pair, Vec<u8>);

impl Prompt {
    /// ICE starts anew. The password stays until there is another one: who answers learns it
    /// before its own credentials change.
    pub(super) fn restart(&mut self) {
        *self = Self { password: self.password.take(), ..Self::default() };
    }

    /// The other side's password for what follows.
    pub(super) fn start(&mut self, password: String) {
        self.password = Some(password);
    }

    /// A relay's address of the other side.
    pub(super) fn add_relay(&mut self, address: SocketAddr) {
        if self.relays.len() < MAX_KNOWN {
            self.relays.push(address);
        }
    }

    /// The stack sends this, before it has selected a pair.
    pub(super) fn on_send(&mut self, now: Instant, pair: Pair, datagram: &[u8]) -> Fate {
        let Some((peer, check)) = frames::check(datagram) else { return Fate::Pass };
        let nominates = stun::has_use_candidate(check);
        let bare = peer.is_empty();
        if bare && nominates && self.proven.contains(&pair) {
            let answer = self.password.as_ref().and_then(|password| {
                stun::success(stun::transaction(check)?, pair.local, password)
            });
            return answer.map_or(Fate::Pass, Fate::Answer);
        }
        if self.is_too_soon(now, Destination(pair, peer.to_vec()), nominates) {
            return Fate::Drop;
        }
        if !bare || nominates || self.relays.contains(&pair.remote) {
            return Fate::Pass;
        }
        let nominating =
            self.password.as_ref().and_then(|password| stun::with_use_candidate(check, password));
        if let Some(transaction) = stun::transaction(check)
            && self.asked.len() < MAX_KNOWN
        {
            let nominating = nominating.is_some();
            self.asked.insert(transaction, Asked { pair, at: now, nominating });
        }
        nominating.map_or(Fate::Pass, Fate::Replace)
    }

    /// An answer came, which the stack gets in any case.
    pub(super) fn on_response(&mut self, now: Instant, pair: Pair, datagram: &[u8]) {
        let Some(transaction) = stun::transaction(datagram) else { return };
        if self.asked.get(&transaction).is_some_and(|asked| asked.pair == pair)
            && self.password.as_ref().is_some_and(|p| stun::is_success(datagram, p))
            && let Some(asked) = self.asked.remove(&transaction)
        {
            let round_trip = now.saturating_duration_since(asked.at);
            self.round_trip = Some(self.round_trip.map_or(round_trip, |r| r.min(round_trip)));
            if asked.nominating && !self.proven.contains(&pair) {
                self.proven.push(pair);
            }
        }
    }

    /// The shortest that an answered check took; none where all pairs are relayed.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    fn is_too_soon(&mut self, now: Instant, to: Destination, nominates: bool) -> bool {
        if self.spacing.len() >= MAX_DESTINATIONS && !self.spacing.contains_key(&to) {
            return true;
        }
        // All together: with many pairs each is checked less often (RFC 8445 §14.3).
        let together = PACE * u32::try_from(self.spacing.len()).unwrap_or(u32::MAX);
        let (count, last) = self.spacing.entry(to).or_insert((0, now));
        let spacing = match *count {
            0 => Duration::ZERO,
            1..PROMPT_CHECKS if nominates => Duration::ZERO,
            1..PROMPT_CHECKS => SAME_TICK.max(together),
            PROMPT_CHECKS..EARLY_CHECKS => EARLY_SPACING.max(together),
            _ => SPACING.max(together),
        };
        if now < *last + spacing {
            return true;
        }
        *count += 1;
        *last = now;
        false
    }
}

/// The first checks of a pair follow the agent's tick: the other side may not have our candidates
/// for the first of them, and not its own answer for the second.
const PROMPT_CHECKS: u32 = 4;
/// Pairs that differ in a reflexive address alone are one pair to the network: one check a tick is enough.
const SAME_TICK: Duration = Duration::from_millis(2);
/// Dense for a long round trip: the controlled side leaves a nomination unanswered until its own
/// check of the pair is answered.
const EARLY_CHECKS: u32 = 40;
/// Every second tick, some of which are a little early.
const EARLY_SPACING: Duration = Duration::from_millis(9);
/// RFC 8445 §14.2.
const SPACING: Duration = Duration::from_millis(50);
/// Between any two checks on average, but for the first one of each pair: at most a thousand a second, 100 kB.
const PACE: Duration = Duration::from_millis(1);
/// RFC 8445 §6.1.2.5 asks for a bound on pairs and names 100; what comes beyond it is never checked.
const MAX_DESTINATIONS: usize = 100;
const MAX_KNOWN: usize = 1024;

#[cfg(test)]
#[path = "prompt_tests.rs"]
mod tests;
