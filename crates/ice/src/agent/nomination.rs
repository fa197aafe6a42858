//! Which pair is selected.
//!
//! The controlling side selects a pair as soon as a check has proven it. Its checks nominate at once as long
//! as nothing is selected (aggressive nomination, RFC 5245 §8.1.1.2), so no round trip is added; RFC 8445
//! dropped this because two sides may end on different pairs when several are nominated. What is done
//! against that depends on the remote peer:
//!
//! - *With renomination* (draft-thatcher-ice-renomination) each nomination has a number and the highest
//!   wins. Where several pairs were nominated first, the one that was selected is nominated again with the
//!   next number, while data flows already. Later changes do the same. Relayed pairs wait for nothing, as they
//!   are left when a direct one is proven.
//! - *Without* it the pair of highest priority among the nominated ones wins, as RFC 5245 has it and browsers
//!   do, so the only change that such a peer follows is to a higher priority. Relayed pairs are nominated
//!   after [`Config::relay_delay`](crate::Config::relay_delay).
//! - *A lite peer* gets nominations of the selected pair only (RFC 8445 §8.1.1).
//!
//! A selected pair that dies is left by the controlling side in any case. The controlled side follows
//! nominations, once its own check has proven the pair.

use std::time::{Duration, Instant};

use super::generation::Generation;
use super::pair::Pair;
use super::shared::Shared;
use crate::io::{NominationReason, PathClass, Role};

impl Generation {
    /// Whether a check of this pair, by the controlling side, nominates it.
    pub(crate) fn nominates(&self, shared: &Shared, now: Instant, at: usize) -> bool {
        let pair = &self.pairs[at];
        if let Some(selected) = self.selected {
            // Without numbers once is enough; rtc-ice leaves a nomination unanswered that it cannot follow.
            return selected == pair.id && (self.renominates() || pair.acknowledged.is_none());
        }
        let Some(remote) = &self.remote else { return false };
        !remote.lite && (remote.renomination || self.is_relay_time(shared, now) || is_direct(pair))
    }

    fn is_relay_time(&self, shared: &Shared, now: Instant) -> bool {
        self.relay_time(shared).is_some_and(|at| at <= now)
    }

    /// From when on relayed pairs are nominated by a side whose nominations cannot be taken back.
    pub(crate) fn relay_time(&self, shared: &Shared) -> Option<Instant> {
        self.started.map(|started| started + shared.config.relay_delay)
    }

    /// Selects what is to be selected by now.
    pub(crate) fn evaluate(&mut self, shared: &mut Shared, now: Instant) {
        if self.remote.is_none() || self.drained_at.is_some() {
            return;
        }
        let choice = match shared.role {
            Role::Controlling => self.choose(shared, now),
            Role::Controlled => self.follow(shared, now),
        };
        if let Some((at, reason)) = choice {
            self.select(shared, now, at, reason);
        }
    }

    fn choose(&self, shared: &Shared, now: Instant) -> Option<(usize, NominationReason)> {
        let proven = || self.pairs.iter().enumerate().filter(|(_, pair)| pair.is_proven());
        let rank = |(_, pair): &(usize, &Pair)| pair.rank(shared.role);
        let Some(selected) = self.selected_pair() else {
            let usable = |pair: &Pair| {
                self.renominates()
                    || is_direct(pair)
                    || self.last_switch.is_some()
                    || self.is_relay_time(shared, now)
            };
            let usable = proven().filter(|(_, pair)| pair.answers(now) && usable(pair));
            return usable.min_by_key(rank).map(|(at, _)| (at, self.first_reason()));
        };
        let others = || proven().filter(|(_, pair)| pair.id != selected.id);
        if selected.dead_at(shared.config.switch_after).is_some_and(|at| at <= now) {
            // Only what has answered since the selected pair fell silent: otherwise both died of one cause.
            let alive = others().filter(|(_, pair)| pair.last_answer > selected.silent_since);
            if let Some((at, _)) = alive.min_by_key(rank) {
                return Some((at, NominationReason::PreviousDied));
            }
        }
        let alive = |pair: &Pair| pair.answers(now) && !pair.is_held(now);
        let better = others().filter(|(_, pair)| alive(pair)).filter_map(|(at, pair)| {
            self.is_better(shared, now, pair, selected).map(|reason| (at, pair, reason))
        });
        let (at, _, reason) = better.min_by_key(|(_, pair, _)| pair.rank(shared.role))?;
        Some((at, reason))
    }

    fn is_better(
        &self,
        shared: &Shared,
        now: Instant,
        pair: &Pair,
        selected: &Pair,
    ) -> Option<NominationReason> {
        let (from, to) = (selected.class(), pair.class());
        if !self.renominates() {
            // A lite peer, too, is told of a better kind of way only.
            let lite = self.remote.as_ref().is_some_and(|remote| remote.lite);
            let higher = pair.priority(shared.role) > selected.priority(shared.role);
            return (higher && (!lite || to < from)).then_some(NominationReason::HigherPriority);
        }
        if to < from {
            return Some(NominationReason::BetterClass { from, to });
        }
        let (old, new) = (selected.round_trip?, pair.round_trip?);
        let settled = self.last_switch.is_none_or(|at| at + SETTLED_AFTER <= now);
        let measured = selected.samples >= MIN_SAMPLES && pair.samples >= MIN_SAMPLES;
        let shorter = new + MIN_GAIN < old * 3 / 4;
        (to == from && settled && measured && shorter)
            .then_some(NominationReason::ShorterRoundTrip { from: old, to: new })
    }

    fn follow(&self, shared: &Shared, now: Instant) -> Option<(usize, NominationReason)> {
        // One number for two pairs is mostly one pair behind a NAT that has forgotten it and maps it anew: then
        // the one that answers is taken early. Without numbers the remote peer may have left neither.
        let renominates = self.renominates();
        let dead = |pair: &Pair| {
            let at = if renominates {
                pair.suspect_at()
            } else {
                pair.dead_at(shared.config.switch_after)
            };
            at.is_some_and(|at| at <= now)
        };
        // One that fell silent since it was proven has to answer again first: its consent may be over.
        let usable =
            |pair: &Pair| self.selected == Some(pair.id) || (pair.is_proven() && pair.answers(now));
        let nominated = self.pairs.iter().enumerate().filter(|(_, pair)| usable(pair));
        let nominated = nominated.filter_map(|(at, pair)| {
            let nomination = pair.remote_nomination?;
            // Of nominations with one number, or none, the highest priority counts among those that answer.
            Some(((nomination, !dead(pair), pair.priority(shared.role)), at, pair))
        });
        if let Some(((nomination, ..), at, pair)) = nominated.max_by_key(|(order, ..)| *order) {
            let nomination = Some(nomination).filter(|number| *number > 0);
            let reason = NominationReason::RemoteNominated { nomination };
            return (self.selected != Some(pair.id)).then_some((at, reason));
        }
        if self.selected.is_some() || self.last_switch.is_none() {
            return None;
        }
        // Until the remote peer nominates another pair, data goes by what answers.
        let proven = self.pairs.iter().enumerate().filter(|(_, p)| p.is_proven() && p.answers(now));
        let (at, _) = proven.min_by_key(|(_, pair)| pair.rank(shared.role))?;
        Some((at, self.first_reason()))
    }

    fn first_reason(&self) -> NominationReason {
        match self.last_switch {
            None => NominationReason::First,
            Some(_) if self.lost_path => NominationReason::PathRemoved,
            Some(_) => NominationReason::PreviousDied,
        }
    }

    fn select(&mut self, shared: &mut Shared, now: Instant, at: usize, reason: NominationReason) {
        if reason == NominationReason::PreviousDied
            && let Some(old) = self.selected.and_then(|id| self.index(id))
        {
            let old = &mut self.pairs[old];
            old.held_until = Some(now + FIRST_HOLD * 2_u32.pow(old.breaks.min(MAX_BREAKS)));
            old.breaks = old.breaks.saturating_add(1);
        }
        let is_first = self.last_switch.is_none();
        let id = self.pairs[at].id;
        self.selected = Some(id);
        self.last_switch = Some(now);
        self.lost_path = false;
        if shared.role == Role::Controlling {
            let others_nominated = self.pairs.iter().any(|p| p.id != id && p.nominated);
            if !is_first || others_nominated {
                self.nomination = self.nomination.saturating_add(1);
                self.pairs[at].acknowledged = None;
            }
            let number = if self.renominates() { self.nomination } else { 0 };
            if self.pairs[at].acknowledged != Some(number) {
                self.trigger(id);
            }
        }
        let pair = self.pairs[at].selected();
        shared.select(now, pair, reason);
    }

    /// The selected pair is gone. Nominations with numbers were overruled by the one of that pair, which the
    /// remote peer repeats with each check as long as it means it.
    pub(crate) fn forget_nominations(&mut self) {
        if self.renominates() {
            self.pairs.iter_mut().for_each(|pair| pair.remote_nomination = None);
        }
    }

    /// From now on we are the controlling side: our numbers go on after those of the other.
    pub(crate) fn on_role_change(&mut self) {
        let highest = self.pairs.iter().filter_map(|pair| pair.remote_nomination).max();
        self.nomination = self.nomination.max(highest.unwrap_or(0).saturating_add(1));
        for pair in &mut self.pairs {
            pair.remote_nomination = None;
            pair.acknowledged = None;
        }
    }
}

fn is_direct(pair: &Pair) -> bool {
    pair.class() == PathClass::DirectUdp
}

/// Between two changes for a shorter round trip, which has to be shorter by a quarter and this much, as
/// measured this often on both pairs.
const SETTLED_AFTER: Duration = Duration::from_secs(10);
const MIN_GAIN: Duration = Duration::from_millis(10);
const MIN_SAMPLES: u64 = 3;
/// A pair that died is not returned to for so long, twice as long each time, up to 32 s.
const FIRST_HOLD: Duration = Duration::from_secs(2);
const MAX_BREAKS: u32 = 4;
