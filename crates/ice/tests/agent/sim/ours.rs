//! Our agent as an endpoint.

use std::net::SocketAddr;
use std::time::Instant;

use visavis_ice::{
    Agent, Candidate, Config, Credentials, Event, IceError, Input, LocalCandidate, Output, Path,
    Received, RemoteDescription, Role, SelectedPair, State,
};

use super::{Description, Drained, Endpoint, Rng, Signal};

pub(crate) struct Ours {
    pub(crate) agent: Agent,
    pub(crate) events: Vec<(Instant, Event)>,
    pub(crate) errors: Vec<IceError>,
    pub(crate) received: Vec<Received>,
    /// Local candidates that were told, to be part of the next description.
    pub(crate) told: Vec<Candidate>,
    /// Whether candidates are signaled when they are found, or by description alone.
    pub(crate) trickles: bool,
    pub(crate) renomination: bool,
    described: bool,
    /// There was a moment without a selected pair after the first one.
    pub(crate) gap: bool,
    had_selected: bool,
    restarted: bool,
}

impl Ours {
    pub(crate) fn new(seed: u64, controlling: bool) -> Self {
        Self::with(seed, controlling, Config::default())
    }

    pub(crate) fn with(seed: u64, controlling: bool, config: Config) -> Self {
        let mut rng = Rng(seed ^ 0x5eed);
        let role = if controlling { Role::Controlling } else { Role::Controlled };
        let renomination = config.renomination;
        Self {
            agent: Agent::new(config, role, move |bytes: &mut [u8]| rng.fill(bytes)),
            events: Vec::new(),
            errors: Vec::new(),
            received: Vec::new(),
            told: Vec::new(),
            trickles: true,
            renomination,
            described: false,
            gap: false,
            had_selected: false,
            restarted: false,
        }
    }

    pub(crate) fn input(&mut self, now: Instant, input: Input) {
        if let Err(error) = self.agent.handle_input(now, input) {
            self.errors.push(error);
        }
    }

    /// To be signaled.
    pub(crate) fn description(&mut self) -> Description {
        self.described = true;
        let credentials = self.agent.local_credentials();
        Description {
            ufrag: credentials.ufrag().to_owned(),
            password: credentials.password().to_owned(),
            renomination: self.renomination,
            candidates: self.told.iter().map(Candidate::to_string).collect(),
        }
    }

    pub(crate) fn selections(&self) -> Vec<(Instant, SelectedPair)> {
        let selected = self.events.iter().filter_map(|(at, event)| match event {
            Event::Selected { pair, .. } => Some((*at, *pair)),
            _ => None,
        });
        selected.collect()
    }

    pub(crate) fn first_selected(&self) -> Option<Instant> {
        self.selections().first().map(|(at, _)| *at)
    }

    fn describe(&mut self, now: Instant, description: Description) {
        let candidates =
            description.candidates.iter().filter_map(|line| Candidate::parse(line).ok());
        let description = RemoteDescription {
            credentials: Credentials::new(&description.ufrag, &description.password).unwrap(),
            lite: false,
            renomination: description.renomination,
            candidates: candidates.collect(),
        };
        self.input(now, Input::RemoteDescription(description));
    }
}

impl Endpoint for Ours {
    fn receive(&mut self, now: Instant, path: Path, source: SocketAddr, bytes: &[u8]) {
        let received = self.agent.receive(now, path, source, bytes);
        if received != Received::Stun {
            self.received.push(received);
        }
    }

    fn timeout(&mut self, now: Instant) {
        self.input(now, Input::Timeout);
    }

    fn local_candidate(&mut self, now: Instant, candidate: LocalCandidate) {
        self.input(now, Input::LocalCandidate(candidate));
    }

    fn signal(&mut self, now: Instant, signal: Signal) {
        match signal {
            Signal::Offer(description) => {
                self.describe(now, description);
                self.restarted = true;
            }
            Signal::Answer(description) => self.describe(now, description),
            Signal::Candidate(line) => {
                if let Ok(candidate) = Candidate::parse(&line) {
                    self.input(now, Input::RemoteCandidate(candidate));
                }
            }
        }
    }

    fn drain(&mut self, now: Instant) -> Drained {
        let mut drained = Drained::default();
        loop {
            match self.agent.poll_output() {
                Output::Transmit(transmit) => drained.transmits.push(transmit),
                Output::Event(event) => {
                    if let Event::LocalCandidate(candidate) = &event {
                        self.told.push(candidate.clone());
                        if self.described && self.trickles {
                            drained.signals.push(Signal::Candidate(candidate.to_string()));
                        }
                    }
                    self.events.push((now, event));
                }
                Output::Deadline(deadline) => {
                    drained.deadline = deadline;
                    break;
                }
            }
        }
        // An offer is answered at once.
        if std::mem::take(&mut self.restarted) {
            drained.signals.insert(0, Signal::Answer(self.description()));
        }
        let selected = self.agent.selected().is_some();
        self.gap |= self.had_selected && !selected;
        self.had_selected |= selected;
        drained
    }

    fn selected(&self) -> Option<(Path, SocketAddr)> {
        self.agent.selected().map(|pair| (pair.path, pair.remote))
    }

    fn is_connected(&self) -> bool {
        self.agent.state() == State::Connected
    }

    fn as_ours(&mut self) -> Option<&mut Ours> {
        Some(self)
    }
}
