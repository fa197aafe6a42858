//! Two real sessions, joined by models of the server, of the signaling clients and of two peer
//! connections, on virtual time. One seed and one script make one run, the same each time.
//!
//! The models do what the real parts promise: docs/protocol.md for seats, counting and resuming,
//! JSEP for descriptions and rollback, RFC 8445 for credentials, candidates and restarts.
#![allow(clippy::unwrap_used)]

mod peer;
mod server;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt::Write as _;
use std::time::Duration;

use visavis_call::{
    CallSession, CallState, ContinuityKey, Epoch, Input, Output, ProofConfig, TransportState,
};
use visavis_signaling_protocol::{
    Bytes32, IceCandidateInit, PeerId, ProofMessage, SdpType, SessionDescription, SignalPayload,
};

use peer::Pc;
use server::{Link, Server, ToClient};

/// One disturbance.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    /// Signals are lost, doubled and late by so many per cent each.
    Wire {
        lost: u8,
        doubled: u8,
        late: u8,
    },
    /// The WebSocket of a side breaks, and no other can be opened for so long.
    SignalingDown(usize, Duration),
    /// The server forgets everything and is gone for so long.
    ServerRestart(Duration),
    /// No media passes for so long.
    MediaDown(Duration),
    /// A side has another address, and perhaps notices.
    NetworkChange(usize, bool),
    /// The person asks for an ICE restart.
    RestartIce(usize),
    /// The program sleeps for so long.
    Sleep(usize, Duration),
    /// The page is loaded anew.
    Reload(usize),
    Hangup(usize),
    Lock(usize, bool),
    /// Somebody else joins with the room's code, and goes after so long.
    Stranger(Duration),
    /// Something that no honest peer says, in the name of the other side or of a stranger.
    Hostile(usize, Hostile),
    /// Whatever a peer connection said, said again for an older one.
    Stale(usize),
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Hostile {
    Offer,
    Answer,
    Candidate,
    Stranger,
    /// A proof that is wrong.
    Proof,
}

/// What happens at a time of the queue.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// A report of the peer connection with this number.
    Report(usize, u32, Input),
    /// The operation under way at the peer connection with this number is done.
    Operated(usize, u32),
    /// What comes, as the engine tells it: of a peer connection and the number of that flow.
    Media(usize, (u32, u32), bool, bool),
    /// A peer connection looks at its path; with the number of the look.
    Look(usize, u32, u32),
    /// Over the WebSocket with this number.
    ToClient(usize, u32, ToClient),
    ToServer(usize, u32, server::ToServer),
    /// A try to open a WebSocket.
    Connect(usize, u32),
    /// The seat of a side may be free by now.
    Silence(usize, u32),
    /// A side wakes up.
    Wake(usize),
    /// The person at a side answers those who ask to be let in.
    Answer(usize),
    /// The stranger with this seat goes.
    StrangerGoes(u32),
    /// Media may pass again.
    MediaUp,
}

pub(crate) struct Side {
    pub(crate) session: CallSession,
    /// Counts the programs or pages of this side.
    life: u32,
    /// What outlives them.
    key: Option<ContinuityKey>,
    guesses: u8,
    deadline: Option<Duration>,
    pub(crate) asleep_until: Duration,
    /// The person is about to answer a knock.
    answering: bool,
    pub(crate) pc: Option<Pc>,
    pub(crate) link: Link,
    /// Counts changes of the network.
    pub(crate) address: u32,
    last_report: Option<Input>,
    ended: Option<CallState>,
    /// All states so far.
    pub(crate) states: Vec<CallState>,
}

pub(crate) struct World {
    pub(crate) now: Duration,
    pub(crate) sides: [Side; 2],
    pub(crate) server: Server,
    queue: BinaryHeap<Reverse<(Duration, u64, Entry)>>,
    sequence: u64,
    random: u64,
    counter: u32,
    wire: (u8, u8, u8),
    pub(crate) media_down_until: Duration,
    /// What happened, for whoever looks into a failure.
    pub(crate) log: String,
}

/// Ordered by nothing: time and sequence come first.
#[derive(Debug)]
struct Entry(Event);

impl PartialEq for Entry {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

pub(crate) const WIRE_DELAY: Duration = Duration::from_millis(15);

pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Both know the whole code.
fn config(side: usize, life: u32, key: Option<ContinuityKey>, guesses: u8) -> ProofConfig {
    let mut seed = [side as u8; 32];
    seed[..4].copy_from_slice(&life.to_le_bytes());
    ProofConfig { code: "abc-def-ghj-kmn".parse().unwrap(), key, guesses, seed }
}

impl World {
    /// Both enter, `gap` apart.
    pub(crate) fn new(seed: u64, gap: Duration) -> Self {
        let side = |side| Side {
            session: CallSession::new(config(side, 0, None, 0)),
            life: 0,
            key: None,
            guesses: 0,
            deadline: None,
            asleep_until: Duration::ZERO,
            answering: false,
            pc: None,
            link: Link::default(),
            address: 0,
            last_report: None,
            ended: None,
            states: Vec::new(),
        };
        let mut world = Self {
            now: Duration::ZERO,
            sides: [side(0), side(1)],
            server: Server::default(),
            queue: BinaryHeap::new(),
            sequence: 0,
            random: seed | 1,
            counter: 0,
            wire: (0, 0, 0),
            media_down_until: Duration::ZERO,
            log: String::new(),
        };
        world.at(Duration::ZERO, Event::Connect(0, 0));
        world.at(gap, Event::Connect(1, 0));
        world
    }

    /// xorshift64*: the same on every machine.
    pub(crate) fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % below
    }

    pub(crate) fn unique(&mut self) -> u32 {
        self.counter += 1;
        self.counter
    }

    pub(crate) fn at(&mut self, at: Duration, event: Event) {
        self.sequence += 1;
        self.queue.push(Reverse((at.max(self.now), self.sequence, Entry(event))));
    }

    pub(crate) fn note(&mut self, text: std::fmt::Arguments<'_>) {
        let _ = writeln!(self.log, "{:9.3} {text}", self.now.as_secs_f64());
    }

    /// Runs until nothing is left to happen before `until`.
    pub(crate) fn run_until(&mut self, until: Duration) {
        loop {
            let event = self.queue.peek().map(|Reverse((at, ..))| *at);
            // A side that sleeps has no timers; they are late when it wakes.
            let timer = (0..2)
                .filter_map(|i| Some((self.sides[i].deadline?.max(self.sides[i].asleep_until), i)))
                .min();
            match (event, timer) {
                (Some(at), timer) if at <= until && timer.is_none_or(|(due, _)| at <= due) => {
                    let Reverse((at, sequence, Entry(event))) = self.queue.pop().unwrap();
                    self.now = at;
                    self.happen(sequence, event);
                }
                (_, Some((due, side))) if due <= until => {
                    assert!(due >= self.now || self.sides[side].asleep_until <= self.now);
                    self.now = self.now.max(due);
                    self.input(side, Input::Tick);
                    let next = self.sides[side].deadline;
                    assert!(next.is_none_or(|next| next > self.now), "a timer that fires for ever");
                }
                _ => break,
            }
        }
        self.now = until;
    }

    fn happen(&mut self, sequence: u64, event: Event) {
        let side = match event {
            Event::Report(side, ..)
            | Event::Operated(side, _)
            | Event::Media(side, ..)
            | Event::Look(side, ..)
            | Event::ToClient(side, ..)
            | Event::Connect(side, _)
            | Event::Answer(side)
            | Event::Wake(side) => Some(side),
            Event::ToServer(..) | Event::Silence(..) | Event::StrangerGoes(_) | Event::MediaUp => {
                None
            }
        };
        // Whoever sleeps finds it all on waking, in the same order.
        if let Some(asleep) = side.map(|side| self.sides[side].asleep_until)
            && asleep > self.now
        {
            return self.queue.push(Reverse((asleep, sequence, Entry(event))));
        }
        match event {
            Event::Report(side, pc, input) => {
                if self.sides[side].pc.as_ref().is_some_and(|own| own.number == pc) {
                    self.sides[side].last_report = Some(input.clone());
                    self.input(side, input);
                }
            }
            Event::Operated(side, pc) => self.operated(side, pc),
            Event::Media(side, of, receiving, heard) => self.media(side, of, receiving, heard),
            Event::Look(side, pc, look) => self.look(side, pc, look),
            Event::ToClient(side, link, message) => self.arrives_at_client(side, link, message),
            Event::ToServer(side, link, message) => self.arrives_at_server(side, link, message),
            Event::Connect(side, link) => self.connect(side, link),
            Event::Silence(side, seat) => self.silence(side, seat),
            Event::Wake(side) => self.woke(side),
            Event::Answer(side) => self.answer(side),
            Event::StrangerGoes(seat) => self.stop_knocking(|knocker| knocker.number == seat),
            Event::MediaUp => self.path_changed(),
        }
    }

    /// Feeds a session and does what it says, to the end.
    pub(crate) fn input(&mut self, side: usize, input: Input) {
        if input != Input::Tick {
            self.note(format_args!("{side} ◄ {input:?}"));
        }
        self.sides[side].session.handle_input(self.now, input);
        let mut outputs = 0;
        loop {
            let output = self.sides[side].session.poll_output();
            let Output::Wait(deadline) = output else {
                outputs += 1;
                assert!(outputs < 30, "one input has a bounded effect");
                assert!(
                    self.sides[side].ended.is_none() || matches!(output, Output::Log(_)),
                    "{output:?} after the end"
                );
                self.note(format_args!("{side} ► {output:?}"));
                self.output(side, output);
                continue;
            };
            self.sides[side].deadline = deadline;
            break;
        }
        if !self.sides[side].session.knocks().is_empty() && !self.sides[side].answering {
            self.sides[side].answering = true;
            let time = ms(300 + self.random(3000));
            self.at(self.now + time, Event::Answer(side));
        }
        let state = self.sides[side].session.state().clone();
        match &state {
            CallState::Connecting | CallState::Reconnecting => {
                assert!(self.sides[side].deadline.is_some(), "{state:?} without a timer");
            }
            CallState::Connected => {
                let authentication = self.sides[side].session.authentication();
                assert!(authentication.is_some_and(|a| a.is_proven), "connected without a proof");
            }
            CallState::Ended(_) => {
                assert_eq!(self.sides[side].deadline, None, "an ended call waits for nothing");
                let ended = self.sides[side].ended.get_or_insert(state.clone());
                assert_eq!(*ended, state, "the end is final");
            }
            _ => {}
        }
        if self.sides[side].states.last() != Some(&state) {
            self.sides[side].states.push(state);
        }
    }

    fn output(&mut self, side: usize, output: Output) {
        match output {
            Output::CreatePeer(epoch) => self.create_pc(side, epoch),
            Output::ClosePeer => {
                self.sides[side].pc = None;
                self.path_changed();
            }
            Output::NewSession(session) => {
                assert_eq!(session, *self.sides[side].session.session_id());
                self.renews(side);
            }
            Output::Authenticated(authentication) => {
                assert!(authentication.is_proven, "both know the code");
            }
            Output::Key(key) => self.sides[side].key = Some(key),
            Output::Guesses(guesses) => self.sides[side].guesses = guesses,
            Output::Run { epoch, operation } => self.operate(side, epoch, operation),
            Output::Send { to, session, payload } => {
                assert!(!server::is_stranger(&session), "nobody let the stranger in");
                self.send(side, to, session, payload);
            }
            Output::Connected { session } => {
                self.tell_server(side, server::ToServer::Connected(session));
            }
            Output::Admit { peer_id, admitted } => {
                self.tell_server(side, server::ToServer::Admit(peer_id, admitted));
            }
            Output::LeaveRoom { gave_up } => self.leave_room(side, gave_up),
            Output::SetLocked(locked) => self.tell_server(side, server::ToServer::Lock(locked)),
            Output::State(_) | Output::Log(_) | Output::Wait(_) => {}
        }
    }

    /// What the wire does to a signal: how often and when it arrives.
    pub(crate) fn arrivals(&mut self) -> Vec<Duration> {
        let (lost, doubled, late) = self.wire;
        let mut arrivals = Vec::new();
        if self.random(100) >= u64::from(lost) {
            let delay = if self.random(100) < u64::from(late) { self.random(1500) } else { 0 };
            arrivals.push(WIRE_DELAY + ms(delay));
        }
        if self.random(100) < u64::from(doubled) {
            arrivals.push(WIRE_DELAY + ms(self.random(6000)));
        }
        arrivals
    }

    pub(crate) fn step(&mut self, step: Step) {
        self.note(format_args!("— {step:?}"));
        match step {
            Step::Wire { lost, doubled, late } => self.wire = (lost, doubled, late),
            Step::SignalingDown(side, time) => self.break_link(side, time),
            Step::ServerRestart(time) => self.restart_server(time),
            Step::MediaDown(time) => {
                self.media_down_until = self.media_down_until.max(self.now + time);
                self.path_changed();
                self.at(self.media_down_until, Event::MediaUp);
            }
            Step::NetworkChange(side, noticed) => {
                self.sides[side].address += 1;
                self.path_changed();
                self.break_link(side, Duration::ZERO);
                if noticed && self.sides[side].asleep_until <= self.now {
                    self.input(side, Input::RestartIce);
                }
            }
            Step::RestartIce(side) => self.awake_input(side, Input::RestartIce),
            Step::Sleep(side, time) => {
                let until = self.now + time;
                self.sides[side].asleep_until = self.sides[side].asleep_until.max(until);
                self.falls_silent(side, false);
                self.path_changed();
                self.at(until, Event::Wake(side));
            }
            Step::Reload(side) => self.reload(side),
            Step::Lock(side, locked) => self.awake_input(side, Input::SetLocked(locked)),
            Step::Stranger(time) => self.stranger(time),
            Step::Hangup(side) => self.awake_input(side, Input::Hangup),
            Step::Hostile(side, hostile) => self.hostile(side, hostile),
            Step::Stale(side) => {
                if let Some(report) = self.sides[side].last_report.clone() {
                    self.awake_input(side, older(report));
                }
            }
        }
    }

    /// A person knows the voice of the other one.
    fn answer(&mut self, side: usize) {
        self.sides[side].answering = false;
        for knock in self.sides[side].session.knocks().to_vec() {
            let admitted = !self.server.strangers.contains(&knock.peer_id);
            self.input(side, Input::Admit { peer_id: knock.peer_id, admitted });
        }
    }

    fn awake_input(&mut self, side: usize, input: Input) {
        if self.sides[side].asleep_until <= self.now {
            self.input(side, input);
        }
    }

    fn woke(&mut self, side: usize) {
        self.path_changed();
        self.wakes(side);
    }

    fn reload(&mut self, side: usize) {
        if self.sides[side].ended.is_some() || self.sides[side].asleep_until > self.now {
            return;
        }
        let own = &mut self.sides[side];
        own.life += 1;
        own.session = CallSession::new(config(side, own.life, own.key.clone(), own.guesses));
        own.deadline = None;
        own.pc = None;
        own.last_report = None;
        self.path_changed();
        self.renews(side);
    }

    fn hostile(&mut self, side: usize, hostile: Hostile) {
        let stranger = PeerId::try_from("nobody".to_owned()).unwrap();
        let other = self.server.peer_id(1 - side);
        let (from, session) = match hostile {
            Hostile::Stranger => (stranger, None),
            _ => {
                let session = self.sides[1 - side].session.session_id().clone();
                (other.unwrap_or(stranger), Some(session))
            }
        };
        let describe = |kind| {
            let description = SessionDescription { kind, sdp: "v=0 nonsense".into() };
            SignalPayload::Description(description, None)
        };
        let payload = match hostile {
            Hostile::Offer => describe(SdpType::Offer),
            Hostile::Answer | Hostile::Stranger => describe(SdpType::Answer),
            Hostile::Proof => SignalPayload::Proof(ProofMessage {
                code: Some(Bytes32([9; 32])),
                confirm: Some(Bytes32([1; 32])),
                ..ProofMessage::default()
            }),
            Hostile::Candidate => SignalPayload::Candidate(IceCandidateInit {
                candidate: "nonsense".into(),
                sdp_mid: None,
                sdp_m_line_index: None,
                username_fragment: None,
            }),
        };
        self.awake_input(side, Input::Signal { from, session, payload });
    }

    /// Nothing disturbs any more.
    pub(crate) fn calm(&mut self) {
        self.note(format_args!("— calm"));
        self.wire = (0, 0, 0);
        self.media_down_until = self.media_down_until.min(self.now);
        self.path_changed();
    }

    /// The ICE generations in use.
    pub(crate) fn generations(&self) -> [Option<u32>; 2] {
        [0, 1].map(|side| self.sides[side].pc.as_ref().and_then(peer::Pc::generation))
    }

    /// Whether media really passes.
    pub(crate) fn path(&self) -> bool {
        self.works()
    }
}

/// The same report of a peer connection before.
fn older(report: Input) -> Input {
    let old = |Epoch(epoch)| Epoch(epoch.wrapping_sub(1));
    match report {
        Input::OfferCreated { epoch, description } => {
            Input::OfferCreated { epoch: old(epoch), description }
        }
        Input::AnswerCreated { epoch, description } => {
            Input::AnswerCreated { epoch: old(epoch), description }
        }
        Input::AnswerAccepted { epoch } => Input::AnswerAccepted { epoch: old(epoch) },
        Input::LocalCandidate { epoch, candidate } => {
            Input::LocalCandidate { epoch: old(epoch), candidate }
        }
        Input::Media { epoch, .. } => {
            Input::Media { epoch: old(epoch), receiving: false, heard: false }
        }
        Input::Transport { epoch, .. } => {
            Input::Transport { epoch: old(epoch), state: TransportState::Failed }
        }
        other => other,
    }
}
