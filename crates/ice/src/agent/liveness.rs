//! Consent, the state of the agent, and when it has to be looked at again.

use std::time::{Duration, Instant};

use super::Agent;
use super::generation::Generation;
use crate::config::CONSENT_EXPIRY;
use crate::io::{Event, Role, State};
use crate::snapshot::PairState;

impl Agent {
    /// Does what is to be done by now: gives up what is over, selects, sends a check if one is due.
    pub(super) fn advance(&mut self, now: Instant) {
        if self.previous.as_ref().and_then(|p| p.drained_at).is_some_and(|at| at <= now) {
            self.previous = None;
        }
        if self.state != State::Failed {
            self.end_consent(now);
            self.evaluate(now);
            self.send_check(now);
        }
        self.update_state(now);
        self.deadline = self.next_deadline(now);
    }

    fn evaluate(&mut self, now: Instant) {
        let Self { shared, current, previous, .. } = self;
        for generation in [previous.as_mut(), Some(current)].into_iter().flatten() {
            generation.pairs.iter_mut().for_each(|pair| pair.expire(now));
            generation.evaluate(shared, now);
        }
        if self.shared.selected.is_some() {
            self.lost_at = None;
        }
        // The new generation has a pair: the one before it is over.
        if self.current.selected.is_some()
            && let Some(previous) = &mut self.previous
            && previous.drained_at.is_none()
        {
            previous.drained_at = Some(now + DRAIN);
            previous.selected = None;
        }
    }

    fn send_check(&mut self, now: Instant) {
        let Self { shared, current, previous, .. } = self;
        current.plan(shared, now);
        if let Some(previous) = previous.as_mut() {
            previous.plan(shared, now);
        }
        if shared.may_check(now) {
            // The pair that carries data, then what may become that.
            let carries = |generation: &Generation| {
                let pair = generation.selected_pair()?;
                pair.next_check.filter(|at| *at <= now)
            };
            let previous_first = previous.as_ref().and_then(carries).is_some();
            let mut order = [Some(current), previous.as_mut()];
            if previous_first {
                order.reverse();
            }
            for generation in order.into_iter().flatten() {
                if let Some(at) = generation.due(shared, now) {
                    if generation.send_check(shared, now, at).is_err() {
                        shared.dropped.unencodable += 1;
                    }
                    generation.plan(shared, now);
                    break;
                }
            }
        }
    }

    /// RFC 7675 §5.1: nothing is sent any more by a selected pair that has not answered for so long.
    fn end_consent(&mut self, now: Instant) {
        let expiry = self.failed_after();
        let Self { shared, current, previous, .. } = self;
        for generation in [previous.as_mut(), Some(current)].into_iter().flatten() {
            let Some(at) = generation.selected.and_then(|id| generation.index(id)) else {
                continue;
            };
            let pair = &mut generation.pairs[at];
            let Some(last) = pair.last_answer.filter(|last| *last + expiry <= now) else {
                continue;
            };
            pair.state = PairState::Failed;
            let lost = pair.selected();
            generation.selected = None;
            generation.forget_nominations();
            if shared.selected.is_some_and(|selected| selected.id == lost.id) {
                shared.selected = None;
                self.lost_at = Some(last);
            }
            shared.event(Event::ConsentLost { pair: lost });
        }
    }

    fn failed_after(&self) -> Duration {
        self.shared.config.failed_after.min(CONSENT_EXPIRY)
    }

    pub(super) fn update_state(&mut self, now: Instant) {
        let state = self.state_at(now);
        if state != self.state {
            let from = std::mem::replace(&mut self.state, state);
            self.shared.event(Event::StateChanged { from, to: state });
        }
    }

    fn state_at(&self, now: Instant) -> State {
        let config = &self.shared.config;
        if let Some(pair) = self.data_pair() {
            let silent = pair.last_heard().is_none_or(|at| at + config.disconnected_after <= now);
            return if silent { State::Disconnected } else { State::Connected };
        }
        if self.state == State::Failed {
            return State::Failed;
        }
        let current = &self.current;
        if current.last_switch.is_none() {
            let over = |started: Instant| {
                started + config.connect_timeout <= now
                    || (started + HOPELESS_AFTER <= now && self.is_hopeless())
            };
            return match current.started {
                Some(started) if over(started) => State::Failed,
                None if current.number == 0 => State::New,
                _ if self.lost_at.is_some() => State::Disconnected,
                _ => State::Checking,
            };
        }
        let over = self.lost_at.is_none_or(|at| at + self.failed_after() <= now);
        if over { State::Failed } else { State::Disconnected }
    }

    /// All pairs have failed and there will be no more candidates.
    fn is_hopeless(&self) -> bool {
        let failed = self.current.pairs.iter().all(|pair| pair.state == PairState::Failed);
        failed
            && self.current.remote_ended
            && self.local_ended
            && self.current.unresolved.is_empty()
    }

    fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let mut times: Vec<Option<Instant>> =
            vec![self.previous.as_ref().and_then(|previous| previous.drained_at)];
        if self.state != State::Failed {
            let config = &self.shared.config;
            let generations = [Some(&self.current), self.previous.as_ref()];
            for generation in generations.into_iter().flatten() {
                let next = generation.next_check(now);
                let paced = next.map(|at| at.max(self.shared.pace.unwrap_or(at)).max(now));
                times.push(paced);
                if let Some(pair) = generation.selected_pair() {
                    times.push(pair.suspect_at().filter(|at| *at > now));
                    times.push(pair.dead_at(config.switch_after).filter(|at| *at > now));
                    let silent = pair.last_heard().map(|at| at + config.disconnected_after);
                    let over = pair.last_answer.map(|at| at + self.failed_after());
                    times.extend([silent, over].map(|at| at.filter(|at| *at > now)));
                    let held = generation.pairs.iter().filter(|pair| pair.is_proven());
                    times.push(held.filter_map(|p| p.held_until).filter(|at| *at > now).min());
                } else if self.shared.role == Role::Controlling {
                    times.push(generation.relay_time(&self.shared).filter(|at| *at > now));
                }
            }
            if self.current.last_switch.is_none() {
                for after in [config.connect_timeout, HOPELESS_AFTER] {
                    let at = self.current.started.map(|started| started + after);
                    times.push(at.filter(|at| *at > now));
                }
            }
            times.push(self.lost_at.map(|at| at + self.failed_after()).filter(|at| *at > now));
        }
        times.into_iter().flatten().min()
    }
}

/// For so long the generation before is answered after its end: a round trip of the remote peer's change, and
/// what is late.
const DRAIN: Duration = Duration::from_secs(3);
/// Candidates of both sides were told and nothing of them has answered for so long.
const HOPELESS_AFTER: Duration = Duration::from_secs(10);
