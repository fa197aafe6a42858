//! One call, from joining a room to its end: `Input` in, `Output` out.

use std::collections::VecDeque;
use std::time::Duration;

use visavis_signaling_protocol::limits::{KNOCK_LIMIT, MAX_KNOCKS};
use visavis_signaling_protocol::{
    LeaveReason, PeerId, PeerInfo, ProofFailure, ProofMessage, SdpType, SessionDescription,
    SessionId, SignalPayload,
};

use crate::io::{Epoch, Input, Knock, Operation, Output, TransportState};
use crate::negotiation::{Negotiation, Verdict};
use crate::proof::{Authentication, Identity, Proof, ProofConfig};
use crate::recovery::{
    ANSWER_TIMEOUT, CONNECT_LIMIT, DISCONNECTED_GRACE, POLITE_DELAY, POLITE_STALL_DELAY,
    PROOF_TIMEOUT, RECONNECT_LIMIT, REMOTE_RETURN_LIMIT, RESTART_INTERVAL, STALL_OVER, Timer,
    Timers,
};
use crate::stall;
use crate::state::{CallEndReason, CallState};

#[derive(Debug)]
struct Remote {
    /// `None` while the server does not know it (it restarted), though media may flow.
    peer_id: Option<PeerId>,
    /// The last one that the server knew it by.
    seat: PeerId,
    session: SessionId,
    display_name: Option<String>,
}

/// The state machine of one call. See the crate's page for how to drive it.
#[derive(Debug)]
pub struct CallSession {
    state: CallState,
    polite: bool,
    remote: Option<Remote>,
    epoch: Epoch,
    negotiation: Negotiation,
    transport: TransportState,
    was_connected: bool,
    /// As [`Input::Media`] had it last.
    receiving: bool,
    heard: bool,
    identity: Identity,
    /// Of the present peer connection.
    proof: Proof,
    /// As [`Output::Guesses`] had it last.
    told_guesses: u8,
    timers: Timers,
    lock: Lock,
    /// Those who ask to be let in; at most [`MAX_KNOCKS`].
    knocks: Vec<Knock>,
    /// How many remote peers there have been.
    remotes: u32,
    /// Who was let in last.
    admitted: Option<PeerId>,
    /// Somebody who is in the room without having been let in, as after a restart of the server.
    unasked: Option<PeerInfo>,
    outputs: VecDeque<Output>,
}

/// Whether the room is locked.
#[derive(Debug, Default)]
struct Lock {
    /// As the server has it.
    now: bool,
    /// As the call has it: a server that was started anew has forgotten.
    wanted: bool,
    /// What the person asked for and the server has not confirmed.
    asked: Option<bool>,
}

impl Lock {
    /// A seat was taken in a room that is `locked` or not. The server remembers if somebody is
    /// there; otherwise it may have been started anew.
    fn joined(&mut self, locked: bool, remembers: bool) {
        self.now = locked;
        let known = if remembers { locked } else { locked || self.wanted };
        self.wanted = self.asked.unwrap_or(known);
    }
}

impl CallSession {
    /// A call that is joining.
    pub fn new(config: ProofConfig) -> Self {
        Self {
            told_guesses: config.guesses,
            identity: Identity::new(config),
            proof: Proof::default(),
            state: CallState::Joining,
            polite: false,
            remote: None,
            epoch: Epoch(0),
            negotiation: Negotiation::new(false),
            transport: TransportState::Connecting,
            was_connected: false,
            receiving: true,
            heard: false,
            timers: Timers::default(),
            lock: Lock::default(),
            knocks: Vec::new(),
            remotes: 0,
            admitted: None,
            unasked: None,
            outputs: VecDeque::new(),
        }
    }

    /// Where the call stands.
    pub fn state(&self) -> &CallState {
        &self.state
    }

    /// Our role in perfect negotiation.
    pub fn is_polite(&self) -> bool {
        self.polite
    }

    /// Our session in signaling, until [`Output::NewSession`] names another.
    pub fn session_id(&self) -> &SessionId {
        self.identity.session()
    }

    /// What is known of who the present remote peer is.
    pub fn authentication(&self) -> Option<Authentication> {
        self.proof.result()
    }

    /// Whether the room is locked, as far as the server said.
    pub fn is_locked(&self) -> bool {
        self.lock.now
    }

    /// Those who ask to be let in, the first who came first.
    pub fn knocks(&self) -> &[Knock] {
        &self.knocks
    }

    /// How many different remote peers there have been so far; one that comes back to its seat is
    /// the same.
    pub fn remotes(&self) -> u32 {
        self.remotes
    }

    /// The name of the remote peer, if there is one and it has one.
    pub fn remote_name(&self) -> Option<Option<&str>> {
        self.remote.as_ref().map(|remote| remote.display_name.as_deref())
    }

    /// Takes in what happened at `now`; drain [`Self::poll_output`] afterwards.
    pub fn handle_input(&mut self, now: Duration, input: Input) {
        if self.is_over() {
            return;
        }
        match input {
            Input::Hangup => self.end(CallEndReason::LocalHangup),
            Input::RestartIce => self.restart_ice(now, "asked for"),
            Input::Joined { peers, polite, resumed, locked } => {
                self.lock.joined(locked, resumed || !peers.is_empty());
                // The server tells again who knocks, and who is in the room.
                self.unasked = self.unasked.take().filter(|_| resumed);
                let unasked = self.unasked.as_ref().map(|peer| &peer.peer_id);
                self.knocks.retain(|knock| Some(&knock.peer_id) == unasked);
                self.joined(now, peers, polite, resumed);
                self.say_connected();
                self.settle_lock();
            }
            Input::PeerJoined(peer) => {
                self.peer_joined(now, peer);
                self.settle_lock();
            }
            Input::SetLocked(locked) => {
                self.lock.asked = Some(locked);
                self.lock.wanted = locked;
                self.settle_lock();
            }
            Input::Locked(locked) => {
                self.lock = Lock { now: locked, wanted: locked, asked: None };
            }
            Input::PeerLeft { peer_id, reason } => self.peer_left(now, &peer_id, reason),
            Input::Signal { from, session, payload } => {
                self.signal(now, &from, session.as_ref(), payload);
            }
            Input::Knocking if self.remote.is_none() => self.set_state(CallState::Knocking),
            Input::Knocking => {}
            Input::Knock(knock) => self.knock(now, knock),
            Input::KnockGone { peer_id } => self.knocks.retain(|k| k.peer_id != peer_id),
            Input::Admit { peer_id, admitted } => self.admit(now, &peer_id, admitted),
            Input::Refused(code) => self.end(CallEndReason::Refused(code)),
            Input::Unreachable(why) => self.end(CallEndReason::ServerUnreachable(why)),
            Input::OfferCreated { epoch, description } if epoch == self.epoch => {
                if let Some(offer) = self.negotiation.offer_created(description) {
                    self.timers.set(Timer::Answer, now + ANSWER_TIMEOUT);
                    self.describe(now, offer);
                }
            }
            Input::AnswerCreated { epoch, description } if epoch == self.epoch => {
                self.describe(now, description);
                self.settled();
            }
            Input::AnswerAccepted { epoch } if epoch == self.epoch => self.settled(),
            Input::OperationFailed { epoch, why, remote_fault } if epoch == self.epoch => {
                self.operation_failed(now, why, remote_fault);
            }
            Input::LocalCandidate { epoch, candidate } if epoch == self.epoch => {
                self.send(SignalPayload::Candidate(candidate));
            }
            Input::Transport { epoch, state } if epoch == self.epoch => self.transport(now, state),
            Input::Media { epoch, receiving, heard } if epoch == self.epoch => {
                self.media(now, receiving, heard);
            }
            Input::OfferCreated { .. }
            | Input::AnswerCreated { .. }
            | Input::AnswerAccepted { .. }
            | Input::OperationFailed { .. }
            | Input::LocalCandidate { .. }
            | Input::Transport { .. }
            | Input::Media { .. }
            | Input::Tick => {}
        }
        while let Some(timer) = self.timers.take_due(now) {
            self.timer(now, timer);
        }
    }

    /// The next thing to do; ends with [`Output::Wait`].
    pub fn poll_output(&mut self) -> Output {
        self.outputs.pop_front().unwrap_or_else(|| Output::Wait(self.timers.next()))
    }

    fn joined(&mut self, now: Duration, peers: Vec<PeerInfo>, polite: bool, resumed: bool) {
        if self.identity.is_spent() && self.proof.result().is_none() {
            return self.end(CallEndReason::NotProven(ProofFailure::Spent));
        }
        self.polite = polite;
        self.negotiation.set_polite(polite);
        if resumed {
            // What has happened to the other side meanwhile follows, in its order.
            return;
        }
        if let Some(peer) = peers.into_iter().next() {
            self.peer_joined(now, peer);
            return;
        }
        if self.was_connected {
            self.remote_vanished(now);
        } else {
            self.forget_remote();
            self.set_state(CallState::Waiting);
        }
    }

    fn peer_joined(&mut self, now: Duration, peer: PeerInfo) {
        if let Some(remote) = &mut self.remote
            && remote.session == peer.session
        {
            let moved = remote.peer_id.as_ref() != Some(&peer.peer_id);
            remote.seat = peer.peer_id.clone();
            remote.peer_id = Some(peer.peer_id);
            remote.display_name = peer.display_name;
            // Whatever was on the way when the server went down is lost: only a fresh offer helps.
            if self.transport == TransportState::Connected {
                if self.proof.result().is_some() {
                    self.timers.clear(Timer::GiveUp);
                }
            } else if moved {
                self.timers.set(Timer::GiveUp, now + self.patience());
                if let Some(offer) = self.negotiation.pending_offer().cloned() {
                    self.send(SignalPayload::Description(offer, self.proof.message()));
                }
                if !self.polite {
                    self.restart_ice(now, "the other side returned");
                }
            }
            return;
        }
        // The server vouches for the seat. Whoever has another one replaces nobody unasked.
        let is_known = |remote: &Remote| {
            remote.seat == peer.peer_id || self.admitted.as_ref() == Some(&peer.peer_id)
        };
        if self.was_connected && !self.remote.as_ref().is_some_and(is_known) {
            let (peer_id, display_name) = (peer.peer_id.clone(), peer.display_name.clone());
            self.unasked = Some(peer);
            self.knock(now, Knock { peer_id, display_name });
            return;
        }
        self.begin(now, peer);
    }

    /// A peer connection with somebody new, in place of any older one.
    fn begin(&mut self, now: Duration, peer: PeerInfo) {
        let PeerInfo { peer_id, session, display_name } = peer;
        self.unasked = None;
        self.epoch.0 += 1;
        let seat = peer_id.clone();
        if self.remote.as_ref().is_none_or(|remote| remote.seat != seat) {
            self.remotes += 1;
        }
        self.remote = Some(Remote { peer_id: Some(peer_id), seat, session, display_name });
        self.negotiation = Negotiation::new(self.polite);
        self.proof = Proof::default();
        self.transport = TransportState::Connecting;
        (self.receiving, self.heard) = (true, false);
        self.timers.clear_all();
        self.timers.set(Timer::GiveUp, now + self.patience());
        self.outputs.push_back(Output::CreatePeer(self.epoch));
        self.set_state(if self.was_connected {
            CallState::Reconnecting
        } else {
            CallState::Connecting
        });
        // One side starts, so that the usual call has no collision at all.
        if !self.polite {
            self.offer(false);
        }
    }

    fn knock(&mut self, now: Duration, knock: Knock) {
        self.knocks.retain(|known| known.peer_id != knock.peer_id);
        if self.knocks.len() < MAX_KNOCKS {
            self.log("somebody asks to be let in".into());
            self.knocks.push(knock);
            // It may be the one that is waited for, so that the answer is.
            self.timers.put_off(Timer::GiveUp, now + KNOCK_LIMIT);
        }
    }

    fn admit(&mut self, now: Duration, peer_id: &PeerId, admitted: bool) {
        let Some(at) = self.knocks.iter().position(|knock| knock.peer_id == *peer_id) else {
            return;
        };
        self.knocks.remove(at);
        match self.unasked.take_if(|peer| peer.peer_id == *peer_id) {
            Some(peer) if admitted => self.begin(now, peer),
            // It stays in the room, and is nobody to us.
            Some(_) => {}
            None => {
                if admitted {
                    self.admitted = Some(peer_id.clone());
                }
                self.outputs.push_back(Output::Admit { peer_id: peer_id.clone(), admitted });
            }
        }
    }

    fn peer_left(&mut self, now: Duration, peer_id: &PeerId, reason: LeaveReason) {
        if self.unasked.take_if(|peer| peer.peer_id == *peer_id).is_some() {
            self.knocks.retain(|knock| knock.peer_id != *peer_id);
        }
        if self.remote.as_ref().and_then(|r| r.peer_id.as_ref()) != Some(peer_id) {
            return;
        }
        match reason {
            LeaveReason::Left => self.end(CallEndReason::RemoteHangup),
            LeaveReason::GaveUp => self.end(self.no_path()),
            LeaveReason::Timeout if self.was_connected => self.remote_vanished(now),
            LeaveReason::Timeout => {
                self.forget_remote();
                self.set_state(CallState::Waiting);
            }
        }
    }

    /// The server does not know the other side any more. Media decides whether the call goes on.
    fn remote_vanished(&mut self, now: Duration) {
        if let Some(remote) = &mut self.remote {
            remote.peer_id = None;
        }
        if self.transport != TransportState::Connected {
            self.timers.set(Timer::GiveUp, now + REMOTE_RETURN_LIMIT);
            self.set_state(CallState::Reconnecting);
        }
    }

    fn forget_remote(&mut self) {
        if self.remote.take().is_some() {
            self.epoch.0 += 1;
            self.proof = Proof::default();
            self.timers.clear_all();
            self.outputs.push_back(Output::ClosePeer);
            let session = self.identity.renew_session();
            self.outputs.push_back(Output::NewSession(session));
        }
    }

    fn signal(
        &mut self,
        now: Duration,
        from: &PeerId,
        session: Option<&SessionId>,
        payload: SignalPayload,
    ) {
        let expected = self.remote.as_ref().is_some_and(|remote| {
            remote.peer_id.as_ref() == Some(from) && session.is_none_or(|s| *s == remote.session)
        });
        if !expected {
            self.log(format!("a signal from {from:?}, who is not in this call, was ignored"));
            return;
        }
        match payload {
            SignalPayload::Description(description, _)
                if self.heard && stall::is_marked(&description) =>
            {
                self.log("an offer for a path that was dead and is not was ignored".into());
            }
            SignalPayload::Description(description, message) => {
                self.remote_description(now, description, message);
            }
            SignalPayload::Proof(message) => {
                let was_confirmed = self.is_confirmed();
                match self.proof.receive(&mut self.identity, message) {
                    Ok(again) => {
                        self.proof_moved(now);
                        if again || was_confirmed != self.is_confirmed() {
                            self.send_proof(false);
                        }
                    }
                    Err(failure) => self.not_proven(failure),
                }
            }
            SignalPayload::Candidate(candidate) if self.negotiation.takes_candidates() => {
                self.run(Operation::AddCandidate { candidate });
            }
            SignalPayload::Candidate(_) => {}
        }
    }

    fn remote_description(
        &mut self,
        now: Duration,
        description: SessionDescription,
        message: Option<ProofMessage>,
    ) {
        let kind = description.kind;
        let fingerprints = match self.proof.check(&description, message.as_ref()) {
            Ok(fingerprints) => fingerprints,
            Err(refusal) => return self.log(format!("remote {kind:?} refused: {refusal:?}")),
        };
        let operation = match self.negotiation.remote_description(description) {
            Verdict::Run(operation) => operation,
            Verdict::Ignore => {
                return self.log(format!("remote {kind:?} ignored: it collided or came late"));
            }
        };
        self.timers.clear(Timer::Answer);
        let was_confirmed = self.is_confirmed();
        if let Err(failure) = self.proof.described(&mut self.identity, fingerprints, message) {
            return self.not_proven(failure);
        }
        self.run(operation);
        self.proof_moved(now);
        // With an offer the confirmation goes along with the answer.
        if kind == SdpType::Answer && was_confirmed != self.is_confirmed() {
            self.send_proof(false);
        }
    }

    /// Sends an own description with our part of the proof.
    fn describe(&mut self, now: Duration, description: SessionDescription) {
        let Some(Remote { session, .. }) = &self.remote else { return };
        match self.proof.describe(&mut self.identity, session, &description.sdp) {
            Ok(message) => {
                self.send(SignalPayload::Description(description, message));
                self.proof_moved(now);
            }
            Err(failure) => self.not_proven(failure),
        }
    }

    fn is_over(&self) -> bool {
        matches!(self.state, CallState::Ended(_))
    }

    /// Whether our part of the proof has its confirmation.
    fn is_confirmed(&self) -> bool {
        self.proof.message().is_some_and(|message| message.confirm.is_some())
    }

    fn send_proof(&mut self, again: bool) {
        if let Some(message) = self.proof.message() {
            self.send(SignalPayload::Proof(ProofMessage { again, ..message }));
        }
    }

    /// Tells what came of a step of the proof.
    fn proof_moved(&mut self, now: Duration) {
        self.tell_guesses();
        if self.proof.lacks_confirmation() && !self.timers.is_set(Timer::Proof) {
            self.timers.set(Timer::Proof, now + PROOF_TIMEOUT);
        }
        let Some(authentication) = self.proof.take_result() else { return };
        self.timers.clear(Timer::Proof);
        if let Some(key) = self.identity.key().filter(|_| authentication.is_proven).cloned() {
            self.outputs.push_back(Output::Key(key));
        }
        self.outputs.push_back(Output::Authenticated(authentication));
        if self.transport == TransportState::Connected {
            self.connected();
        }
    }

    fn tell_guesses(&mut self) {
        let guesses = self.identity.guesses();
        if std::mem::replace(&mut self.told_guesses, guesses) != guesses {
            self.outputs.push_back(Output::Guesses(guesses));
        }
    }

    fn not_proven(&mut self, failure: ProofFailure) {
        self.tell_guesses();
        self.log(format!("the remote peer is not proven: {failure:?}"));
        let failed = Some(failure);
        self.send(SignalPayload::Proof(ProofMessage { failed, ..ProofMessage::default() }));
        self.end(CallEndReason::NotProven(failure));
    }

    /// There is a path, and it is known who is at its other end.
    fn connected(&mut self) {
        self.was_connected = true;
        self.timers.clear(Timer::IceRestart);
        self.timers.clear(Timer::GiveUp);
        self.set_state(CallState::Connected);
        self.say_connected();
    }

    fn settled(&mut self) {
        if self.is_over() {
            return;
        }
        if let Some(operation) = self.negotiation.settled() {
            self.run(operation);
        }
    }

    fn operation_failed(&mut self, now: Duration, why: String, remote_fault: bool) {
        self.negotiation.failed();
        self.timers.clear(Timer::Answer);
        self.log(format!("negotiation failed: {why}"));
        match (self.was_connected, remote_fault) {
            (false, true) => self.end(CallEndReason::Incompatible(why)),
            (false, false) => self.end(CallEndReason::Internal(why)),
            (true, _) => self.timers.set(Timer::IceRestart, now + RESTART_INTERVAL),
        }
    }

    fn transport(&mut self, now: Duration, state: TransportState) {
        self.transport = state;
        match state {
            TransportState::Connecting if self.was_connected => {
                // A restart, ours or theirs.
                self.arm_give_up(now);
                if !self.timers.is_set(Timer::IceRestart) {
                    self.timers.set(Timer::IceRestart, now + RESTART_INTERVAL + self.delay());
                }
                if !self.receiving {
                    self.set_state_if_connected();
                }
            }
            TransportState::Connecting => {}
            TransportState::Connected if self.proof.result().is_some() => self.connected(),
            TransportState::Connected => self.timers.clear(Timer::IceRestart),
            TransportState::Disconnected => {
                self.set_state_if_connected();
                self.arm_give_up(now);
                if !self.timers.is_set(Timer::IceRestart) {
                    self.timers.set(Timer::IceRestart, now + DISCONNECTED_GRACE + self.delay());
                }
            }
            TransportState::Failed => {
                self.set_state_if_connected();
                self.arm_give_up(now);
                self.timers.set(Timer::IceRestart, now + self.delay());
            }
        }
    }

    /// Bytes are missed long before checks are, and a restart that is held until it is answered
    /// spoils nothing if they come back.
    fn media(&mut self, now: Duration, receiving: bool, heard: bool) {
        self.heard = heard;
        if std::mem::replace(&mut self.receiving, receiving) == receiving {
            return;
        }
        if self.transport != TransportState::Connected {
            if !receiving && self.timers.is_set(Timer::GiveUp) {
                self.set_state_if_connected();
            }
        } else if receiving {
            self.timers.clear(Timer::IceRestart);
            if self.negotiation.holds_offer() && self.timers.is_set(Timer::Answer) {
                self.timers.set(Timer::Answer, now + STALL_OVER);
            }
        } else {
            let delay = if self.polite { POLITE_STALL_DELAY } else { Duration::ZERO };
            self.timers.set(Timer::IceRestart, now + delay);
        }
    }

    fn delay(&self) -> Duration {
        if self.polite { POLITE_DELAY } else { Duration::ZERO }
    }

    fn set_state_if_connected(&mut self) {
        if self.was_connected {
            self.set_state(CallState::Reconnecting);
        }
    }

    fn arm_give_up(&mut self, now: Duration) {
        if !self.timers.is_set(Timer::GiveUp) {
            let known = self.remote.as_ref().is_some_and(|r| r.peer_id.is_some());
            let limit = if known { RECONNECT_LIMIT } else { REMOTE_RETURN_LIMIT };
            self.timers.set(Timer::GiveUp, now + limit);
        }
    }

    fn timer(&mut self, now: Duration, timer: Timer) {
        match timer {
            Timer::Answer if self.receiving && self.negotiation.holds_offer() => {
                self.log("media is back: the ICE restart is not needed".into());
                if let Some(operation) = self.negotiation.withdraw() {
                    self.run(operation);
                }
            }
            Timer::Answer => {
                if let Some(offer) = self.negotiation.pending_offer().cloned() {
                    self.log("no answer yet: the offer is sent again".into());
                    self.timers.set(Timer::Answer, now + ANSWER_TIMEOUT);
                    self.send(SignalPayload::Description(offer, self.proof.message()));
                }
            }
            Timer::IceRestart if self.transport == TransportState::Connected && !self.receiving => {
                self.timers.set(Timer::IceRestart, now + RESTART_INTERVAL + self.delay());
                if let Some(operation) = self.negotiation.want_held_restart() {
                    self.log("ICE restart: nothing comes any more".into());
                    self.run(operation);
                }
            }
            Timer::IceRestart => self.restart_ice(now, "no connection"),
            Timer::Proof => {
                if self.proof.lacks_confirmation() {
                    self.timers.set(Timer::Proof, now + PROOF_TIMEOUT);
                    self.send_proof(true);
                }
            }
            Timer::GiveUp
                if self.transport == TransportState::Connected && self.proof.result().is_none() =>
            {
                self.not_proven(ProofFailure::Silence);
            }
            Timer::GiveUp => {
                let known = self.remote.as_ref().is_some_and(|r| r.peer_id.is_some());
                self.end(if known { self.no_path() } else { CallEndReason::RemoteLost });
            }
        }
    }

    /// How long a path is looked for.
    fn patience(&self) -> Duration {
        if self.was_connected { RECONNECT_LIMIT } else { CONNECT_LIMIT }
    }

    fn no_path(&self) -> CallEndReason {
        if self.was_connected {
            CallEndReason::ConnectionLost
        } else {
            CallEndReason::ConnectionFailed
        }
    }

    /// Tells the server what the room is to be. A room is locked once both are in it: whoever
    /// lost the seat would not get in again.
    fn settle_lock(&mut self) {
        if self.is_over() {
            return;
        }
        let wanted = self.lock.wanted;
        let together = self.remote.as_ref().is_some_and(|remote| remote.peer_id.is_some());
        if wanted != self.lock.now && (together || !wanted) {
            self.outputs.push_back(Output::SetLocked(wanted));
        }
    }

    /// Repeated after each `joined`, for the server may have been started anew, or the WebSocket may
    /// have died with it.
    fn say_connected(&mut self) {
        if let Some(remote) = self.remote.as_ref().filter(|_| self.was_connected) {
            self.outputs.push_back(Output::Connected { session: remote.session.clone() });
        }
    }

    fn restart_ice(&mut self, now: Duration, why: &str) {
        if self.remote.is_none() {
            return;
        }
        self.log(format!("ICE restart: {why}"));
        if self.transport != TransportState::Connected {
            self.timers.set(Timer::IceRestart, now + RESTART_INTERVAL + self.delay());
        }
        self.offer(true);
    }

    fn offer(&mut self, ice_restart: bool) {
        if let Some(operation) = self.negotiation.want_offer(ice_restart) {
            self.run(operation);
        }
    }

    fn run(&mut self, operation: Operation) {
        self.outputs.push_back(Output::Run { epoch: self.epoch, operation });
    }

    fn send(&mut self, payload: SignalPayload) {
        if let Some(Remote { peer_id: Some(to), session, .. }) = &self.remote {
            let (to, session) = (to.clone(), session.clone());
            self.outputs.push_back(Output::Send { to, session, payload });
        }
    }

    fn log(&mut self, text: String) {
        self.outputs.push_back(Output::Log(text));
    }

    fn set_state(&mut self, state: CallState) {
        if self.state != state {
            self.state = state.clone();
            self.outputs.push_back(Output::State(state));
        }
    }

    fn end(&mut self, reason: CallEndReason) {
        self.timers.clear_all();
        self.knocks.clear();
        let gave_up = !matches!(
            reason,
            CallEndReason::LocalHangup | CallEndReason::RemoteHangup | CallEndReason::Refused(_)
        );
        self.outputs.push_back(Output::LeaveRoom { gave_up });
        self.outputs.push_back(Output::ClosePeer);
        self.set_state(CallState::Ended(reason));
    }
}
