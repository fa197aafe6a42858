//! Server-reflexive candidates: Binding requests to STUN servers (RFC 8489, RFC 8445 §5.1.1.2).
//!
//! For each base and server there is one task. A server has several addresses: those of the base's family are
//! tried in turn, each [`GathererConfig::attempt_delay`] after the one before without waiting for its end, and
//! the first that answers ends the others (RFC 8305 §5). Both families are asked, as both give candidates of
//! their own; IPv6 goes first. All requests together are paced (RFC 8445 §14).
//!
//! A server that has answered is asked again now and then: that keeps the NAT's binding for as long as the
//! candidate is not in use, and tells of a new mapping.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::address::{canonical, is_link_local, may_be_dialled};
use crate::error::IceError;
use crate::io::{LocalCandidate, Path, Transmit};
use crate::random::{Random, RandomSource};
use crate::stun::{self, Kind, Parsed};

/// Times of a [`Gatherer`].
#[derive(Debug, Clone)]
pub struct GathererConfig {
    /// Until the first retransmission; each takes twice as long. RFC 8489 §6.2.1 has 500 ms where nothing is
    /// known of the round trip; libwebrtc begins with 250 ms (`stun_request.cc`, `STUN_INITIAL_RTO`).
    pub initial_rto: Duration,
    /// A server that has not answered by then has failed.
    pub timeout: Duration,
    /// Between the first requests to two addresses of one server: RFC 8305 §8.
    pub attempt_delay: Duration,
    /// Between two requests that keep a binding: NATs forget after 30 s at the earliest (RFC 4787 §4.3 asks
    /// for two minutes; RFC 8445 §11 has 15 s).
    pub keepalive_interval: Duration,
    /// Ta (RFC 8445 §14.2).
    pub pacing: Duration,
}

impl Default for GathererConfig {
    fn default() -> Self {
        Self {
            initial_rto: Duration::from_millis(250),
            timeout: Duration::from_secs(10),
            attempt_delay: Duration::from_millis(250),
            keepalive_interval: Duration::from_secs(15),
            pacing: Duration::from_millis(5),
        }
    }
}

/// A STUN server with what its name resolved to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StunServer {
    /// Its addresses in the order of preference; the first four of each family are used.
    pub addresses: Vec<SocketAddr>,
}

/// What a [`Gatherer`] found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GatherEvent {
    /// A server-reflexive candidate, for [`Input::LocalCandidate`](crate::Input::LocalCandidate).
    Candidate {
        /// The candidate.
        candidate: LocalCandidate,
        /// From the last request to its answer.
        round_trip: Duration,
    },
    /// A server gives no candidate for this base.
    Failed {
        /// The base.
        base: SocketAddr,
        /// The address that was asked last.
        server: SocketAddr,
        /// Why.
        reason: GatherFailure,
    },
    /// Every server was asked from every base.
    Done,
}

/// Why a server gives no candidate (W3C `icecandidateerror`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GatherFailure {
    /// No answer.
    #[error("the server does not answer")]
    Timeout,
    /// An error.
    #[error("the server refuses with code {code}")]
    Refused {
        /// The STUN error code.
        code: u16,
    },
    /// A success without an address.
    #[error("the server's answer has no address")]
    NoAddress,
}

/// What a [`Gatherer`] wants. To be drained after each input until there is a deadline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GatherOutput {
    /// A datagram to be sent.
    Transmit(Transmit),
    /// Something to be told.
    Event(GatherEvent),
    /// Nothing more now: [`Gatherer::handle_timeout`] is due by then.
    Deadline(Option<Instant>),
}

/// Asks STUN servers.
#[derive(Debug)]
pub struct Gatherer {
    config: GathererConfig,
    random: Random,
    bases: Vec<SocketAddr>,
    servers: Vec<StunServer>,
    tasks: Vec<Task>,
    outputs: VecDeque<GatherOutput>,
    pace: Option<Instant>,
    /// Whether [`GatherEvent::Done`] was told since the last task began.
    done: bool,
    keeps_alive: bool,
}

/// One server from one base.
#[derive(Debug)]
struct Task {
    base: SocketAddr,
    /// Not asked yet.
    untried: VecDeque<SocketAddr>,
    next_attempt: Option<Instant>,
    started: Instant,
    attempts: Vec<Attempt>,
    state: TaskState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TaskState {
    Asking,
    Failed,
    Mapped { server: SocketAddr, address: SocketAddr },
}

#[derive(Debug)]
struct Attempt {
    server: SocketAddr,
    transaction: u128,
    last: Instant,
    rto: Duration,
    /// When to ask again; `None` once it was refused.
    next: Option<Instant>,
}

impl Gatherer {
    /// A gatherer without bases and servers.
    #[must_use]
    pub fn new(config: GathererConfig, random: impl RandomSource + 'static) -> Self {
        Self {
            config,
            random: Random(Box::new(random)),
            bases: Vec::new(),
            servers: Vec::new(),
            tasks: Vec::new(),
            outputs: VecDeque::new(),
            pace: None,
            done: false,
            keeps_alive: true,
        }
    }

    /// A bound UDP socket. Of loopback and link-local addresses no server is asked: none is reached from there.
    ///
    /// # Errors
    ///
    /// [`IceError::TooManyLocalCandidates`].
    pub fn add_base(&mut self, now: Instant, base: SocketAddr) -> Result<(), IceError> {
        let useful = !base.ip().is_loopback() && !is_link_local(base.ip().to_canonical());
        if !self.bases.contains(&base) && useful {
            if self.bases.len() >= MAX_BASES {
                return Err(IceError::TooManyLocalCandidates { limit: MAX_BASES });
            }
            self.bases.push(base);
            for server in self.servers.clone() {
                self.start(now, base, &server);
            }
        }
        self.advance(now);
        Ok(())
    }

    /// A server. The first eight are used; their addresses come from signaling.
    ///
    /// # Errors
    ///
    /// [`IceError::UnusedCandidate`] beyond that.
    pub fn add_server(&mut self, now: Instant, server: StunServer) -> Result<(), IceError> {
        if !self.servers.contains(&server) {
            if self.servers.len() >= MAX_SERVERS {
                return Err(IceError::UnusedCandidate("too many STUN servers"));
            }
            for base in self.bases.clone() {
                self.start(now, base, &server);
            }
            self.servers.push(server);
        }
        self.advance(now);
        Ok(())
    }

    /// A socket is gone.
    pub fn remove_base(&mut self, now: Instant, base: SocketAddr) {
        self.bases.retain(|known| *known != base);
        self.tasks.retain(|task| task.base != base);
        self.advance(now);
    }

    /// Whether bindings are kept. They need not be once a pair is selected that does not use them.
    pub fn keep_alive(&mut self, now: Instant, keeps_alive: bool) {
        self.keeps_alive = keeps_alive;
        self.advance(now);
    }

    /// A datagram came to a base. True if it was an answer to a request of this gatherer.
    pub fn receive(
        &mut self,
        now: Instant,
        base: SocketAddr,
        source: SocketAddr,
        bytes: &[u8],
    ) -> bool {
        let Some(message) = Parsed::read(bytes) else { return false };
        let answer = match message.kind() {
            Kind::Success(Some(mapped)) => Ok(canonical(mapped)),
            Kind::Success(None) => Err(GatherFailure::NoAddress),
            Kind::Error(code) => Err(GatherFailure::Refused { code }),
            Kind::Request | Kind::Indication => return false,
        };
        let source = canonical(source);
        for task in self.tasks.iter_mut().filter(|task| task.base == base) {
            let is_asked = |attempt: &Attempt| {
                attempt.transaction == message.transaction() && attempt.server == source
            };
            let Some(at) = task.attempts.iter().position(is_asked) else { continue };
            let event = task.on_answer(now, at, answer, self.config.keepalive_interval);
            self.outputs.extend(event.map(GatherOutput::Event));
            self.advance(now);
            return true;
        }
        false
    }

    /// Whether a server may still give a candidate.
    #[must_use]
    pub fn is_asking(&self) -> bool {
        self.tasks.iter().any(|task| task.state == TaskState::Asking)
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.advance(now);
    }

    /// What the gatherer wants, one at a time; to be called until it gives a deadline.
    pub fn poll_output(&mut self) -> GatherOutput {
        self.outputs.pop_front().unwrap_or_else(|| GatherOutput::Deadline(self.deadline()))
    }

    fn start(&mut self, now: Instant, base: SocketAddr, server: &StunServer) {
        let family: VecDeque<SocketAddr> = server
            .addresses
            .iter()
            .map(|address| canonical(*address))
            .filter(|address| address.is_ipv4() == canonical(base).is_ipv4())
            .filter(|address| may_be_dialled(*address, false))
            .take(MAX_ADDRESSES)
            .collect();
        if family.is_empty() {
            return;
        }
        self.done = false;
        let task = Task {
            base,
            untried: family,
            next_attempt: Some(now),
            started: now,
            attempts: Vec::new(),
            state: TaskState::Asking,
        };
        // Stable, so that the order of bases is kept within a family.
        let at = self.tasks.partition_point(|other| other.base.is_ipv6() >= base.is_ipv6());
        self.tasks.insert(at, task);
    }

    fn advance(&mut self, now: Instant) {
        for task in &mut self.tasks {
            let over = task.started + self.config.timeout <= now;
            if task.state == TaskState::Asking && over {
                let failed = task.fail(GatherFailure::Timeout);
                self.outputs.extend(failed.map(GatherOutput::Event));
            }
        }
        if self.pace.is_none_or(|at| at <= now) {
            let keeps_alive = self.keeps_alive;
            let due = self
                .tasks
                .iter()
                .enumerate()
                .filter_map(|(at, task)| Some((task.next(keeps_alive)?, at)))
                .filter(|(due, _)| *due <= now)
                .min();
            if let Some((_, at)) = due {
                self.send(now, at);
            }
        }
        if !self.done && !self.is_asking() && !self.tasks.is_empty() {
            self.done = true;
            self.outputs.push_back(GatherOutput::Event(GatherEvent::Done));
        }
    }

    fn send(&mut self, now: Instant, at: usize) {
        let task = &mut self.tasks[at];
        let transaction = self.random.transaction();
        let Some((server, transaction)) = task.on_send(now, transaction, &self.config) else {
            return;
        };
        let Ok(bytes) = stun::server_request(transaction) else { return };
        let path = Path::Udp { base: task.base };
        self.pace = Some(now + self.config.pacing);
        self.outputs.push_back(GatherOutput::Transmit(Transmit {
            path,
            destination: server,
            bytes,
        }));
    }

    fn deadline(&self) -> Option<Instant> {
        let next = self.tasks.iter().filter_map(|task| task.next(self.keeps_alive)).min();
        let next = next.map(|at| self.pace.map_or(at, |pace| at.max(pace)));
        let asking = self.tasks.iter().filter(|task| task.state == TaskState::Asking);
        let ends = asking.map(|task| task.started + self.config.timeout).min();
        [next, ends].into_iter().flatten().min()
    }
}

impl Task {
    /// When to send something.
    fn next(&self, keeps_alive: bool) -> Option<Instant> {
        match self.state {
            TaskState::Failed => None,
            TaskState::Mapped { .. } if !keeps_alive => None,
            TaskState::Mapped { .. } => self.attempts.first().and_then(|attempt| attempt.next),
            TaskState::Asking => {
                let again = self.attempts.iter().filter_map(|attempt| attempt.next).min();
                [self.next_attempt.filter(|_| !self.untried.is_empty()), again]
                    .into_iter()
                    .flatten()
                    .min()
            }
        }
    }

    /// Whom to send what is due.
    fn on_send(
        &mut self,
        now: Instant,
        transaction: u128,
        config: &GathererConfig,
    ) -> Option<(SocketAddr, u128)> {
        if let TaskState::Mapped { server, .. } = self.state {
            let attempt = self.attempts.first_mut()?;
            attempt.transaction = transaction;
            attempt.last = now;
            attempt.next = Some(now + config.keepalive_interval);
            return Some((server, transaction));
        }
        if self.next_attempt.is_some_and(|at| at <= now)
            && let Some(server) = self.untried.pop_front()
        {
            self.next_attempt = Some(now + config.attempt_delay);
            let (rto, next) = (config.initial_rto, Some(now + config.initial_rto));
            self.attempts.push(Attempt { server, transaction, last: now, rto, next });
            return Some((server, transaction));
        }
        let attempts = self.attempts.iter_mut().filter(|attempt| attempt.next.is_some());
        let attempt = attempts.min_by_key(|attempt| attempt.next)?;
        attempt.rto *= 2;
        attempt.last = now;
        attempt.next = Some(now + attempt.rto);
        Some((attempt.server, attempt.transaction))
    }

    fn on_answer(
        &mut self,
        now: Instant,
        at: usize,
        answer: Result<SocketAddr, GatherFailure>,
        keepalive_interval: Duration,
    ) -> Option<GatherEvent> {
        let server = self.attempts[at].server;
        let address = match answer {
            Ok(address) => address,
            // The other addresses go on; a mapping that was had is not lost by one refusal.
            Err(reason) => {
                if self.state != TaskState::Asking {
                    return None;
                }
                self.attempts[at].next = None;
                let hopeless = self.untried.is_empty()
                    && self.attempts.iter().all(|attempt| attempt.next.is_none());
                return if hopeless { self.fail(reason) } else { None };
            }
        };
        let round_trip = now.saturating_duration_since(self.attempts[at].last);
        let mut attempt = self.attempts.swap_remove(at);
        attempt.next = Some(attempt.last + keepalive_interval);
        self.attempts = vec![attempt];
        let mapped = TaskState::Mapped { server, address };
        let known = std::mem::replace(&mut self.state, mapped) == mapped;
        let candidate = LocalCandidate::ServerReflexive { base: self.base, address, server };
        (!known).then_some(GatherEvent::Candidate { candidate, round_trip })
    }

    fn fail(&mut self, reason: GatherFailure) -> Option<GatherEvent> {
        self.state = TaskState::Failed;
        let server = self.attempts.last().map(|attempt| attempt.server)?;
        Some(GatherEvent::Failed { base: self.base, server, reason })
    }
}

/// As many as addresses that an agent binds in both families.
const MAX_BASES: usize = 32;
/// ICE servers come from signaling, and no more than this many are used.
const MAX_SERVERS: usize = 8;
/// Addresses of one family of one server.
const MAX_ADDRESSES: usize = 4;

#[cfg(test)]
mod tests;
