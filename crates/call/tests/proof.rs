//! Two sessions and their proof, with a server in between that may lie.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::VecDeque;
use std::time::Duration;

use visavis_call::{
    Authentication, CallEndReason, CallSession, CallState, ContinuityKey, Epoch, Input,
    MAX_GUESSES, Operation, Output, ProofConfig, ProofFailure, TransportState,
};
use visavis_signaling_protocol::{
    Bytes32, PeerId, PeerInfo, ProofMessage, SdpType, SessionDescription, SessionId, SignalPayload,
};

const WHOLE: &str = "abc-def-ghj-kmn";

fn config(code: &str, seed: u8) -> ProofConfig {
    ProofConfig { code: code.parse().unwrap(), key: None, guesses: 0, seed: [seed; 32] }
}

fn peer_id(side: usize) -> PeerId {
    PeerId::try_from(format!("peer{side}")).unwrap()
}

/// What the server makes of a signal of a side; `None`: it is lost.
type Server = fn(usize, SignalPayload) -> Option<SignalPayload>;

struct Side {
    session: CallSession,
    epoch: Epoch,
    /// Names the certificate.
    certificate: String,
    key: Option<ContinuityKey>,
    guesses: u8,
    authenticated: Vec<Authentication>,
}

impl Side {
    fn new(config: ProofConfig, certificate: &str) -> Self {
        Self {
            key: config.key.clone(),
            guesses: config.guesses,
            session: CallSession::new(config),
            epoch: Epoch(0),
            certificate: certificate.into(),
            authenticated: Vec::new(),
        }
    }
}

struct World {
    now: Duration,
    sides: [Side; 2],
    wire: VecDeque<(usize, Input)>,
    server: Server,
    /// Everything that was sent.
    sent: Vec<(usize, SignalPayload)>,
}

impl World {
    fn new(codes: [&str; 2], server: Server) -> Self {
        let sides = [Side::new(config(codes[0], 1), "AA"), Side::new(config(codes[1], 2), "BB")];
        Self { now: Duration::ZERO, sides, wire: VecDeque::new(), server, sent: Vec::new() }
    }

    fn info(&self, side: usize) -> PeerInfo {
        let session = self.sides[side].session.session_id().clone();
        PeerInfo { peer_id: peer_id(side), session, display_name: None }
    }

    /// The first side waits, the second comes; runs until nothing is under way.
    fn meet(&mut self) {
        let joined = |peers, polite| Input::Joined { peers, polite, resumed: false, locked: false };
        self.input(0, joined(Vec::new(), false));
        let first = self.info(0);
        self.input(1, joined(vec![first], true));
        let second = self.info(1);
        self.input(0, Input::PeerJoined(second));
        self.run();
    }

    fn run(&mut self) {
        let mut steps = 0;
        while let Some((side, input)) = self.wire.pop_front() {
            self.input(side, input);
            steps += 1;
            assert!(steps < 100, "signals for ever");
        }
    }

    fn input(&mut self, side: usize, input: Input) {
        self.sides[side].session.handle_input(self.now, input);
        loop {
            match self.sides[side].session.poll_output() {
                Output::Wait(_) => return,
                Output::CreatePeer(epoch) => self.sides[side].epoch = epoch,
                Output::Run { epoch, operation } => self.operate(side, epoch, operation),
                Output::Send { payload, .. } => {
                    self.sent.push((side, payload.clone()));
                    let Some(payload) = (self.server)(side, payload) else { continue };
                    let from = peer_id(side);
                    let session = Some(self.sides[side].session.session_id().clone());
                    self.wire.push_back((1 - side, Input::Signal { from, session, payload }));
                }
                Output::Authenticated(authentication) => {
                    self.sides[side].authenticated.push(authentication);
                }
                Output::Key(key) => self.sides[side].key = Some(key),
                Output::Guesses(guesses) => self.sides[side].guesses = guesses,
                _ => {}
            }
        }
    }

    fn operate(&mut self, side: usize, epoch: Epoch, operation: Operation) {
        let describe = |kind| {
            let certificate = &self.sides[side].certificate;
            SessionDescription {
                kind,
                sdp: format!("v=0\r\na=fingerprint:sha-256 {certificate}\r\n"),
            }
        };
        let mut connected = Vec::new();
        let report = match operation {
            Operation::CreateOffer { .. } | Operation::OfferRestart => {
                Input::OfferCreated { epoch, description: describe(SdpType::Offer) }
            }
            Operation::AcceptOffer { .. } => {
                Input::AnswerCreated { epoch, description: describe(SdpType::Answer) }
            }
            Operation::AcceptAnswer { .. } => {
                connected = vec![side, 1 - side];
                Input::AnswerAccepted { epoch }
            }
            Operation::AddCandidate { .. } => return,
        };
        self.wire.push_back((side, report));
        for side in connected {
            let (epoch, state) = (self.sides[side].epoch, TransportState::Connected);
            self.wire.push_back((side, Input::Transport { epoch, state }));
        }
    }

    /// A side comes back as another program with what it kept.
    fn reload(&mut self, side: usize, seed: u8) {
        let Side { key, guesses, certificate, .. } = &self.sides[side];
        let config = ProofConfig { key: key.clone(), guesses: *guesses, ..config(WHOLE, seed) };
        self.sides[side] = Side::new(config, &certificate.clone());
        let other = self.info(1 - side);
        let polite = !self.sides[1 - side].session.is_polite();
        let joined = Input::Joined { peers: vec![other], polite, resumed: false, locked: false };
        self.input(side, joined);
        let own = self.info(side);
        self.input(1 - side, Input::PeerJoined(own));
        self.run();
    }

    fn states(&self) -> [CallState; 2] {
        [0, 1].map(|side| self.sides[side].session.state().clone())
    }

    fn authentication(&self, side: usize) -> Authentication {
        self.sides[side].session.authentication().unwrap()
    }
}

fn honest(_: usize, payload: SignalPayload) -> Option<SignalPayload> {
    Some(payload)
}

fn ended(failure: ProofFailure) -> CallState {
    CallState::Ended(CallEndReason::NotProven(failure))
}

fn with_certificate(payload: SignalPayload, certificate: &str) -> SignalPayload {
    match payload {
        SignalPayload::Description(SessionDescription { kind, .. }, proof) => {
            let sdp = format!("v=0\r\na=fingerprint:sha-256 {certificate}\r\n");
            SignalPayload::Description(SessionDescription { kind, sdp }, proof)
        }
        other => other,
    }
}

#[test]
fn two_with_the_same_code_are_proven_by_the_offer_the_answer_and_one_signal_more() {
    let mut w = World::new([WHOLE, WHOLE], honest);
    w.meet();
    assert_eq!(w.states(), [CallState::Connected, CallState::Connected]);
    let [a, b] = [w.authentication(0), w.authentication(1)];
    assert!(a.is_proven && b.is_proven && a.emoji.is_some());
    assert_eq!(a.emoji, b.emoji);
    assert_eq!(w.sent.len(), 3, "{:?}", w.sent);
    assert!(matches!(w.sent[2], (0, SignalPayload::Proof(_))));
    assert_eq!([w.sides[0].guesses, w.sides[1].guesses], [0, 0]);
    assert_eq!(w.sides[0].key, w.sides[1].key);
    assert!(w.sides[0].key.is_some());
}

#[test]
fn a_server_that_swaps_fingerprints_gets_nothing() {
    for both in [false, true] {
        let swap: Server = if both {
            |_, payload| Some(with_certificate(payload, "CC"))
        } else {
            |side, payload| Some(if side == 1 { with_certificate(payload, "CC") } else { payload })
        };
        let mut w = World::new([WHOLE, WHOLE], swap);
        w.meet();
        assert_eq!(w.states(), [ended(ProofFailure::Mismatch), ended(ProofFailure::Mismatch)]);
        assert!(w.sides.iter().all(|side| side.authenticated.is_empty() && side.key.is_none()));
        assert_eq!([w.sides[0].guesses, w.sides[1].guesses], [1, 1]);
    }
}

#[test]
fn another_secret_and_a_missing_one_end_the_call_on_both_sides() {
    for (codes, failure) in [
        ([WHOLE, "abc-def-ghj-kmp"], ProofFailure::Mismatch),
        ([WHOLE, "abc-def"], ProofFailure::NoSecret),
        (["abc-def", WHOLE], ProofFailure::NoSecret),
    ] {
        let mut w = World::new(codes, honest);
        w.meet();
        assert_eq!(w.states(), [ended(failure), ended(failure)], "{codes:?}");
        assert!(w.sides.iter().all(|side| side.authenticated.is_empty()));
    }
}

#[test]
fn proofs_that_the_server_takes_out_are_missed() {
    let strip: Server = |_, payload| match payload {
        SignalPayload::Description(description, _) => {
            Some(SignalPayload::Description(description, None))
        }
        _ => None,
    };
    let mut w = World::new([WHOLE, WHOLE], strip);
    w.meet();
    assert_eq!(w.states()[1], ended(ProofFailure::NoSecret));
    assert!(w.sides.iter().all(|side| side.authenticated.is_empty()));
    // Who has no secret talks to whoever is there, and is told that nothing is proven.
    let mut w = World::new(["abc-def", "abc-def"], strip);
    w.meet();
    assert_eq!(w.states(), [CallState::Connected, CallState::Connected]);
    let expected = Authentication { is_proven: false, emoji: None, remote_is_page: false };
    assert_eq!([w.authentication(0), w.authentication(1)], [expected, expected]);
}

#[test]
fn without_a_secret_both_see_the_same_emoji_unless_somebody_is_in_between() {
    let mut w = World::new(["abc-def", "abc-def"], honest);
    w.meet();
    let [a, b] = [w.authentication(0), w.authentication(1)];
    assert_eq!(a, b);
    assert!(!a.is_proven && a.emoji.is_some());
    assert_eq!(w.sides[0].key, None);
    // The server cannot keep its own nonce open until it knows ours.
    let forge: Server = |_, payload| match payload {
        SignalPayload::Proof(proof) => {
            let confirm = Some(Bytes32([7; 32]));
            Some(SignalPayload::Proof(ProofMessage { confirm, ..proof }))
        }
        other => Some(other),
    };
    let mut w = World::new(["abc-def", "abc-def"], forge);
    w.meet();
    assert_eq!(w.states()[1], ended(ProofFailure::Mismatch));
}

#[test]
fn a_reload_is_proven_by_the_key_and_costs_no_guess() {
    let mut w = World::new([WHOLE, WHOLE], honest);
    w.meet();
    // Even a code that is spent for guessing does.
    w.sides[1].guesses = MAX_GUESSES;
    w.sent.clear();
    w.reload(1, 3);
    assert_eq!(w.states(), [CallState::Connected, CallState::Connected]);
    assert!(w.authentication(0).is_proven && w.authentication(1).is_proven);
    assert_eq!(w.sides[1].guesses, MAX_GUESSES);
    // Who has lost it proves itself by the code.
    w.sides[1].key = None;
    w.sides[1].guesses = 0;
    w.reload(1, 4);
    assert_eq!(w.states(), [CallState::Connected, CallState::Connected]);
    assert_eq!(w.sides[0].key, w.sides[1].key);
}

#[test]
fn a_confirmation_that_is_lost_is_asked_for() {
    let lose: Server = |_, payload| match payload {
        SignalPayload::Proof(ProofMessage { again: false, .. }) => None,
        other => Some(other),
    };
    let mut w = World::new([WHOLE, WHOLE], lose);
    w.meet();
    assert_eq!(w.states(), [CallState::Connected, CallState::Connecting]);
    assert_eq!(w.sides[1].guesses, 1, "it counts until it is proven");
    w.server = honest;
    w.now += Duration::from_secs(3);
    w.input(1, Input::Tick);
    w.run();
    assert_eq!(w.states(), [CallState::Connected, CallState::Connected]);
    assert_eq!(w.sides[1].guesses, 0);
}

#[test]
fn a_confirmation_that_never_comes_ends_the_call() {
    let lose: Server = |_, payload| match payload {
        SignalPayload::Proof(_) => None,
        other => Some(other),
    };
    let mut w = World::new([WHOLE, WHOLE], lose);
    w.meet();
    for _ in 0..30 {
        w.now += Duration::from_secs(2);
        w.input(1, Input::Tick);
        w.run();
    }
    assert_eq!(w.states()[1], ended(ProofFailure::Silence));
    assert_eq!(w.sides[1].guesses, 1);
}

/// Somebody who guesses, looks whether the answer fits, and is gone before it counts as a failure.
#[test]
fn guesses_without_a_confirmation_are_counted_and_the_code_is_spent() {
    let mut w = World::new([WHOLE, WHOLE], honest);
    let joined = |peers| Input::Joined { peers, polite: true, resumed: false, locked: false };
    w.input(0, joined(Vec::new()));
    for guess in 0..=MAX_GUESSES {
        let session = SessionId::try_from(format!("guess{guess}")).unwrap();
        let stranger = PeerInfo { peer_id: peer_id(1), session, display_name: None };
        w.input(0, Input::PeerJoined(stranger));
        let sdp = "v=0\r\na=fingerprint:sha-256 CC\r\n".to_owned();
        let offer = SessionDescription { kind: SdpType::Offer, sdp };
        let proof = ProofMessage { code: Some(Bytes32([9; 32])), ..ProofMessage::default() };
        let payload = SignalPayload::Description(offer, Some(proof));
        w.input(0, Input::Signal { from: peer_id(1), session: None, payload });
        w.run();
        assert_eq!(w.sides[0].guesses, (guess + 1).min(MAX_GUESSES));
    }
    assert_eq!(w.states()[0], ended(ProofFailure::Spent));
    let answered = w.sent.iter().filter(|(_, payload)| {
        matches!(payload, SignalPayload::Description(_, Some(proof)) if proof.confirm.is_some())
    });
    assert_eq!(answered.count(), usize::from(MAX_GUESSES));
    // A spent code is not even waited with.
    let spent = ProofConfig { guesses: MAX_GUESSES, ..config(WHOLE, 9) };
    w.sides[0] = Side::new(spent, "AA");
    w.input(0, joined(Vec::new()));
    assert_eq!(w.states()[0], ended(ProofFailure::Spent));
}

#[test]
fn another_fingerprint_is_refused_for_as_long_as_the_connection_lasts() {
    let mut w = World::new([WHOLE, WHOLE], honest);
    w.meet();
    w.sent.clear();
    let sdp = "v=0\r\na=fingerprint:sha-256 CC\r\n".to_owned();
    for kind in [SdpType::Offer, SdpType::Answer] {
        let payload =
            SignalPayload::Description(SessionDescription { kind, sdp: sdp.clone() }, None);
        for side in 0..2 {
            let payload = payload.clone();
            w.input(side, Input::Signal { from: peer_id(1 - side), session: None, payload });
        }
    }
    w.run();
    assert!(w.sent.is_empty(), "{:?}", w.sent);
    assert_eq!(w.states(), [CallState::Connected, CallState::Connected]);
    // What is said of proofs later changes nothing either.
    for proof in [
        ProofMessage { failed: Some(ProofFailure::Mismatch), ..ProofMessage::default() },
        ProofMessage { confirm: Some(Bytes32([0; 32])), ..ProofMessage::default() },
    ] {
        let payload = SignalPayload::Proof(proof);
        w.input(0, Input::Signal { from: peer_id(1), session: None, payload });
    }
    w.run();
    assert_eq!(w.states(), [CallState::Connected, CallState::Connected]);
}

#[test]
fn a_restart_needs_no_other_proof_and_offers_that_collide_do_no_harm() {
    let mut w = World::new([WHOLE, WHOLE], honest);
    w.meet();
    let before = [w.sides[0].authenticated.len(), w.sides[1].authenticated.len()];
    w.input(0, Input::RestartIce);
    w.input(1, Input::RestartIce);
    w.run();
    assert_eq!(w.states(), [CallState::Connected, CallState::Connected]);
    assert_eq!([w.sides[0].authenticated.len(), w.sides[1].authenticated.len()], before);
    // Both offer before either is proven.
    let mut w = World::new([WHOLE, WHOLE], honest);
    let joined = |peers, polite| Input::Joined { peers, polite, resumed: false, locked: false };
    let infos = [w.info(0), w.info(1)];
    w.input(0, joined(vec![infos[1].clone()], false));
    w.input(1, joined(vec![infos[0].clone()], true));
    w.input(1, Input::RestartIce);
    w.run();
    assert_eq!(w.states(), [CallState::Connected, CallState::Connected]);
    assert!(w.authentication(0).is_proven && w.authentication(1).is_proven);
}
