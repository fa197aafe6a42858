//! The ICE agent (RFC 8445): a state machine without sockets, clock or random source of its own.
//!
//! One loop owns it. Each input is followed by draining [`Agent::poll_output`] until it gives a deadline.
//!
//! - `generation` holds what belongs to one lifetime of credentials: remote candidates and pairs.
//! - `checks` says which pair is checked when, `inbound` takes datagrams, `nomination` selects,
//!   `liveness` ends what is over.

mod checks;
mod generation;
mod inbound;
mod liveness;
mod local;
mod nomination;
pub(crate) mod pair;
mod shared;
mod view;

use std::time::Instant;

use crate::candidate::Candidate;
use crate::config::Config;
use crate::credentials::Credentials;
use crate::error::IceError;
use crate::io::{Event, Input, Output, Path, RemoteDescription, Role, SelectedPair, State};
use crate::random::{Random, RandomSource};
use crate::stun::Key;
use generation::{Generation, RemotePeer};
use pair::Pair;
use shared::Shared;

/// An ICE agent for one component.
#[derive(Debug)]
pub struct Agent {
    shared: Shared,
    current: Generation,
    /// The generation before a restart, until the current one has a selected pair, and a little longer.
    previous: Option<Generation>,
    state: State,
    /// When the last answer came on a selected pair that is no more.
    lost_at: Option<Instant>,
    local_ended: bool,
    deadline: Option<Instant>,
}

impl Agent {
    /// An agent with new credentials. Who offers is controlling (RFC 8445 §6.1.1).
    #[must_use]
    pub fn new(config: Config, role: Role, random: impl RandomSource + 'static) -> Self {
        let mut random = Random(Box::new(random));
        let credentials = Credentials::generate(&mut random);
        Self {
            shared: Shared::new(config, role, random),
            current: Generation::new(0, credentials),
            previous: None,
            state: State::New,
            lost_at: None,
            local_ended: false,
            deadline: None,
        }
    }

    /// Something happened.
    ///
    /// # Errors
    ///
    /// Says what of the input is not used. The agent stays as it was but for the parts of a description that
    /// are; nothing of a remote peer is a reason to end a call.
    pub fn handle_input(&mut self, now: Instant, input: Input) -> Result<(), IceError> {
        let result = match input {
            Input::LocalCandidate(candidate) => self.add_local(candidate),
            Input::EndOfLocalCandidates => {
                self.local_ended = true;
                Ok(())
            }
            Input::PathRemoved(path) => self.remove_path(now, path),
            Input::RemoteDescription(description) => self.set_remote(now, description),
            Input::RemoteCandidate(candidate) => self.add_remote(now, candidate),
            Input::EndOfRemoteCandidates => {
                self.current.remote_ended = true;
                Ok(())
            }
            Input::NameResolved { name, address } => {
                self.current.resolved(&mut self.shared, now, &name, address)
            }
            Input::Restart => {
                self.restart();
                Ok(())
            }
            Input::CancelRestart => {
                self.cancel_restart();
                Ok(())
            }
            Input::Timeout => Ok(()),
        };
        self.advance(now);
        result
    }

    /// What the agent wants, one at a time; to be called until it gives a deadline.
    pub fn poll_output(&mut self) -> Output {
        self.shared.outputs.pop_front().unwrap_or(Output::Deadline(self.deadline))
    }

    /// Our credentials, to be signaled: those of the newest generation.
    #[must_use]
    pub fn local_credentials(&self) -> &Credentials {
        &self.current.local
    }

    /// The local candidates as they are signaled, for a description. After a restart they are the same, with other
    /// credentials.
    pub fn local_candidates(&self) -> impl Iterator<Item = &Candidate> {
        self.shared.candidates.iter().filter_map(|record| record.signaled.as_ref())
    }

    /// Sets the role, which is known from the first description: who offers is controlling (RFC 8445 §6.1.1).
    /// Without effect once the remote peer is described.
    pub fn set_role(&mut self, role: Role) {
        if self.current.remote.is_none() && self.previous.is_none() {
            self.shared.role = role;
        }
    }

    /// The state.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// The role.
    #[must_use]
    pub fn role(&self) -> Role {
        self.shared.role
    }

    /// Where data goes; `None` before a pair is selected and after consent was lost.
    #[must_use]
    pub fn selected(&self) -> Option<SelectedPair> {
        self.data_pair().map(Pair::selected)
    }

    /// Where data can go before a pair is selected (RFC 8445 §12.1): the best pair that has answered, or else by which the
    /// remote peer has signed something. `None` once a pair was selected.
    #[must_use]
    pub fn unselected_path(&self) -> Option<SelectedPair> {
        let proven = |pair: &&Pair| pair.last_request.is_some() || pair.last_answer.is_some();
        let role = self.shared.role;
        let worth = |pair: &&Pair| (pair.last_answer.is_some(), pair.priority(role));
        let best = self.current.pairs.iter().filter(proven).max_by_key(worth)?;
        self.shared.nominations.is_empty().then(|| best.selected())
    }

    /// The smoothed round trip of the selected pair.
    #[must_use]
    pub fn round_trip(&self) -> Option<std::time::Duration> {
        self.data_pair()?.round_trip
    }

    /// The pair that carries data.
    fn data_pair(&self) -> Option<&Pair> {
        let id = self.shared.selected?.id;
        let generations = [Some(&self.current), self.previous.as_ref()];
        generations.into_iter().flatten().flat_map(|g| &g.pairs).find(|pair| pair.id == id)
    }

    fn set_remote(&mut self, now: Instant, description: RemoteDescription) -> Result<(), IceError> {
        let RemoteDescription { credentials, lite, renomination, candidates } = description;
        let is_of = |generation: &Generation| {
            generation.remote.as_ref().is_some_and(|remote| remote.credentials == credentials)
        };
        let of_previous = self.current.remote.is_none()
            && self.previous.as_ref().is_some_and(|p| p.drained_at.is_none() && is_of(p));
        if of_previous {
            // It does not answer our restart, which goes on waiting or is taken back.
            return self.add_all(now, candidates, true);
        }
        if self.current.remote.is_some() && !is_of(&self.current) {
            self.restart();
            let local = self.current.local.clone();
            self.shared.event(Event::RemoteRestarted { local });
        }
        if self.current.remote.is_none() {
            let key = Key::new(credentials.password());
            let renomination = renomination && self.shared.config.renomination;
            self.current.remote = Some(RemotePeer { credentials, key, lite, renomination });
            self.current.started = Some(now);
            // RFC 8445 §6.1.1: a full agent controls a lite one.
            if lite && self.shared.role == Role::Controlled {
                self.switch_role();
            }
        }
        let result = self.add_all(now, candidates, false);
        self.replay_early(now);
        result
    }

    /// Uses what it can of the candidates in a description, and says what was wrong first.
    fn add_all(
        &mut self,
        now: Instant,
        candidates: Vec<Candidate>,
        to_previous: bool,
    ) -> Result<(), IceError> {
        let mut result = Ok(());
        for candidate in candidates {
            let generation = match &mut self.previous {
                Some(previous) if to_previous => previous,
                _ => &mut self.current,
            };
            let added = generation.add_signaled(&mut self.shared, now, candidate);
            self.shared.dropped.candidates += u64::from(added.is_err());
            result = result.and(added);
        }
        result
    }

    fn add_remote(&mut self, now: Instant, candidate: Candidate) -> Result<(), IceError> {
        let named = candidate.extension("ufrag");
        let is_previous = |generation: &Generation| {
            let remote = generation.remote.as_ref();
            generation.drained_at.is_none()
                && named.is_some()
                && remote.map(|remote| remote.credentials.ufrag()) == named
        };
        let to_previous = self.previous.as_ref().is_some_and(is_previous);
        self.add_all(now, vec![candidate], to_previous)
    }

    fn restart(&mut self) {
        let local = Credentials::generate(&mut self.shared.random);
        let next = Generation::new(self.current.number + 1, local);
        let old = std::mem::replace(&mut self.current, next);
        // What has worked goes on working or looking for another way, also below an unfinished restart. After
        // failure nothing is left of it.
        if self.state == State::Failed {
            self.previous = None;
        } else if old.last_switch.is_some() {
            self.previous = Some(old);
        } else if self.previous.as_ref().is_some_and(|previous| previous.drained_at.is_some()) {
            self.previous = None;
        }
        if self.state == State::Failed {
            self.lost_at = None;
            self.state = State::Checking;
            let to = State::Checking;
            self.shared.event(Event::StateChanged { from: State::Failed, to });
        }
    }

    fn cancel_restart(&mut self) {
        if self.current.remote.is_none()
            && let Some(previous) = self.previous.take_if(|p| p.drained_at.is_none())
        {
            self.current = previous;
        }
    }

    fn remove_path(&mut self, now: Instant, path: Path) -> Result<(), IceError> {
        if self.shared.path(path).is_none() {
            return Err(IceError::UnknownPath);
        }
        self.shared.paths.retain(|known| known.path != path);
        self.shared.candidates.retain(|known| known.path != path);
        self.current.remove_path(path);
        if let Some(previous) = &mut self.previous {
            previous.remove_path(path);
        }
        if self.shared.selected.take_if(|selected| selected.path == path).is_some() {
            self.lost_at = Some(now);
        }
        Ok(())
    }
}
