//! Datagrams: checks of the remote peer, answers to ours, and what is neither.

use std::net::SocketAddr;
use std::time::Instant;

use super::Agent;
use super::generation::{EarlyRequest, Generation};
use super::pair::Pair;
use super::shared::Shared;
use crate::address::canonical;
use crate::io::{Event, Path, Received, Role};
use crate::snapshot::CheckOutcome;
use crate::stun::{
    self, BAD_REQUEST, Key, Kind, Parsed, ROLE_CONFLICT, Request, UNKNOWN_ATTRIBUTE,
};

impl Agent {
    /// A datagram came. What is not STUN is only classified, without an allocation; after anything else
    /// [`Agent::poll_output`] is to be drained.
    pub fn receive(
        &mut self,
        now: Instant,
        path: Path,
        source: SocketAddr,
        bytes: &[u8],
    ) -> Received {
        let source = canonical(source);
        if !stun::is_stun(bytes) {
            return self.classify(now, path, source);
        }
        self.shared.dropped.unauthenticated += u64::from(!self.on_stun(now, path, source, bytes));
        Received::Stun
    }

    fn classify(&mut self, now: Instant, path: Path, source: SocketAddr) -> Received {
        let generations = [Some(&mut self.current), self.previous.as_mut()];
        for generation in generations.into_iter().flatten() {
            // Mostly it is the pair by which data came before.
            let is_it = |pair: &Pair| pair.path == path && pair.remote == source;
            let hint = Some(generation.data_hint)
                .filter(|at| generation.pairs.get(*at).is_some_and(is_it));
            if let Some(at) = hint.or_else(|| generation.find(path, source)) {
                generation.data_hint = at;
                let pair = &mut generation.pairs[at];
                // A signed answer or a signed check showed that the remote peer is there.
                if pair.last_answer.is_some() || pair.last_request.is_some() {
                    pair.last_data = Some(now);
                    return Received::Data(pair.id);
                }
            }
        }
        Received::Unproven
    }

    /// False if it was dropped unbelieved.
    fn on_stun(&mut self, now: Instant, path: Path, source: SocketAddr, bytes: &[u8]) -> bool {
        let Some(message) = Parsed::read(bytes) else { return false };
        if self.shared.path(path).is_none() || !self.shared.allows(path) {
            return false;
        }
        let believed = match message.kind() {
            Kind::Request => self.on_request(now, path, source, &message),
            // Keepalives (RFC 8445 §11) say nothing.
            Kind::Indication => return true,
            Kind::Success(mapped) => {
                self.on_answer(now, path, source, &message, Ok(mapped.map(canonical)))
            }
            Kind::Error(code) => self.on_answer(now, path, source, &message, Err(code)),
        };
        if believed {
            self.advance(now);
        }
        believed
    }

    fn on_request(
        &mut self,
        now: Instant,
        path: Path,
        source: SocketAddr,
        message: &Parsed<'_>,
    ) -> bool {
        let Some((ours, theirs)) = message.username() else { return false };
        let Some(key) = self.local_key(&ours) else { return false };
        // Nothing of it is believed before (RFC 8445 §7.3).
        if !message.is_signed_by(&key) {
            return false;
        }
        let shared = &mut self.shared;
        if !shared.may_answer(now) {
            return true;
        }
        let transaction = message.transaction();
        let unknown = message.unknown_attributes();
        let refuse = |shared: &mut Shared, code, unknown: &[u16]| {
            if let Ok(bytes) = stun::error(transaction, code, unknown, &key) {
                shared.transmit(path, source, bytes);
            }
        };
        if !unknown.is_empty() {
            refuse(shared, UNKNOWN_ATTRIBUTE, &unknown);
            return true;
        }
        let Some(request) = message.request() else {
            refuse(shared, BAD_REQUEST, &[]);
            return true;
        };
        // RFC 8445 §7.3.1.1.
        let mut switches = false;
        if let Some((role, tie_breaker)) = request.role
            && role == shared.role
        {
            let ours_is_larger = shared.tie_breaker >= tie_breaker;
            switches = ours_is_larger == (role == Role::Controlled);
            if !switches {
                refuse(shared, ROLE_CONFLICT, &[]);
                return true;
            }
        }
        if let Ok(bytes) = stun::success(transaction, source, &key) {
            shared.transmit(path, source, bytes);
        }
        if switches {
            self.switch_role();
        }
        self.on_believed_request(now, &ours, EarlyRequest { path, source, theirs, request });
        true
    }

    /// The key of the generation with this user name fragment.
    fn local_key(&self, ours: &str) -> Option<Key> {
        let generations = [Some(&self.current), self.previous.as_ref()];
        let generation = generations.into_iter().flatten().find(|g| g.local.ufrag() == ours)?;
        Some(generation.local_key.clone())
    }

    /// A request of the generation with this user name fragment was signed and answered.
    fn on_believed_request(&mut self, now: Instant, ours: &str, early: EarlyRequest) {
        let Self { shared, current, previous, .. } = self;
        let mut generations = [Some(current), previous.as_mut()].into_iter().flatten();
        if let Some(generation) = generations.find(|known| known.local.ufrag() == ours) {
            match &generation.remote {
                // The description is still in signaling.
                None => {
                    let EarlyRequest { path, source, .. } = &early;
                    generation.early.retain(|old| (old.path, old.source) != (*path, *source));
                    if generation.early.len() >= MAX_EARLY {
                        generation.early.pop_front();
                    }
                    generation.early.push_back(early);
                }
                // Of another generation of theirs, whose description is still in signaling.
                Some(remote) if remote.credentials.ufrag() != early.theirs => {}
                Some(_) => {
                    generation.on_request(shared, now, early.path, early.source, &early.request);
                }
            }
        }
    }

    pub(super) fn switch_role(&mut self) {
        self.shared.role = self.shared.role.other();
        self.current.on_role_change();
        if let Some(previous) = &mut self.previous {
            previous.on_role_change();
        }
        self.shared.event(Event::RoleChanged(self.shared.role));
    }

    /// An answer, with the mapped address or an error code. False if nobody asked for it or it is unsigned.
    fn on_answer(
        &mut self,
        now: Instant,
        path: Path,
        source: SocketAddr,
        message: &Parsed<'_>,
        answer: Result<Option<SocketAddr>, u16>,
    ) -> bool {
        let transaction = message.transaction();
        let jitter = self.shared.jitter();
        let mut believed = false;
        let mut switches = false;
        let Self { shared, current, previous, .. } = self;
        for generation in [Some(current), previous.as_mut()].into_iter().flatten() {
            let Some((at, check)) = generation.find_check(path, source, transaction) else {
                continue;
            };
            let signed =
                generation.remote.as_ref().is_some_and(|remote| message.is_signed_by(&remote.key));
            if !signed {
                break;
            }
            believed = true;
            let pair = &mut generation.pairs[at];
            let sent = &mut pair.checks[check];
            match answer {
                _ if !matches!(sent.outcome, CheckOutcome::Pending | CheckOutcome::Lost) => {}
                // RFC 8445 §7.2.5.2.1: it has to come back the way that the check went.
                _ if (pair.path, pair.remote) != (path, source) => {
                    sent.outcome = CheckOutcome::NotSymmetric;
                    pair.not_symmetric += 1;
                }
                Ok(Some(mapped)) => {
                    pair.on_answer(now, check, mapped, jitter);
                }
                Err(ROLE_CONFLICT) => {
                    sent.outcome = CheckOutcome::RoleConflict;
                    let (role, id) = (sent.role, pair.id);
                    pair.role_conflicts += 1;
                    // Unless it was switched since that check (RFC 8445 §7.2.5.1).
                    switches = role == shared.role;
                    generation.trigger(id);
                }
                // A success without an address proves nothing.
                Ok(None) | Err(_) => {
                    sent.outcome = CheckOutcome::Rejected { code: answer.err().unwrap_or(0) };
                    pair.rejected += 1;
                }
            }
            break;
        }
        if switches {
            self.switch_role();
        }
        believed
    }

    /// The checks that came before the remote description did.
    pub(super) fn replay_early(&mut self, now: Instant) {
        let early = std::mem::take(&mut self.current.early);
        let ours = self.current.local.ufrag().to_owned();
        for request in early {
            self.on_believed_request(now, &ours, request);
        }
    }
}

impl Generation {
    /// The check with this transaction: that of the pair it should belong to, or of any other.
    fn find_check(
        &self,
        path: Path,
        source: SocketAddr,
        transaction: u128,
    ) -> Option<(usize, usize)> {
        let in_pair = |at: usize| {
            let checks = &self.pairs[at].checks;
            checks.iter().rposition(|c| c.transaction == transaction).map(|check| (at, check))
        };
        let likely = self.find(path, source).and_then(in_pair);
        likely.or_else(|| (0..self.pairs.len()).find_map(in_pair))
    }

    fn on_request(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        path: Path,
        source: SocketAddr,
        request: &Request,
    ) {
        if self.drained_at.is_some() {
            return;
        }
        let Some(at) = self.pair_of_request(shared, now, path, source, request.priority) else {
            return;
        };
        let pair = &mut self.pairs[at];
        pair.last_request = Some(now);
        pair.requests_received += 1;
        if request.use_candidate && shared.role == Role::Controlled {
            let number = request.nomination.unwrap_or(0);
            pair.remote_nomination = pair.remote_nomination.max(Some(number));
        }
        // A check that left a moment ago finds the remote peer's NAT as open as another one would.
        let just_sent = pair.last_check.is_some_and(|at| now < at + JUST_SENT);
        let needed = !pair.is_proven() || pair.unanswered >= 2;
        let id = pair.id;
        if needed && !just_sent {
            self.trigger(id);
        }
    }
}

/// Checks that overtake the description are those of one remote peer's pairs with us.
const MAX_EARLY: usize = 16;
/// Ta, twice.
const JUST_SENT: std::time::Duration = std::time::Duration::from_millis(10);
