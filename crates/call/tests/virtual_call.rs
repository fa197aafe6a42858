//! Two sessions, a server and a network on virtual time.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::VecDeque;
use std::time::Duration;

use proptest::prelude::*;
use visavis_call::{
    CallEndReason, CallSession, CallState, Epoch, Input, Knock, Operation, Output, ProofConfig,
    TransportState,
};
use visavis_signaling_protocol::{
    ErrorCode, IceCandidateInit, LeaveReason, PeerId, PeerInfo, SdpType, SessionDescription,
    SessionId, SignalPayload,
};

/// A call without a secret; proofs have tests of their own.
fn nameless(seed: u8) -> ProofConfig {
    ProofConfig { code: "abc-def".parse().unwrap(), key: None, guesses: 0, seed: [seed; 32] }
}

const DELAY: Duration = Duration::from_millis(20);

fn peer_id(name: &str) -> PeerId {
    PeerId::try_from(name.to_owned()).unwrap()
}

fn info(name: &str, session: &str) -> PeerInfo {
    PeerInfo {
        peer_id: peer_id(name),
        session: SessionId::try_from(session.to_owned()).unwrap(),
        display_name: None,
    }
}

fn description(kind: SdpType, sdp: &str) -> SessionDescription {
    SessionDescription { kind, sdp: sdp.to_owned() }
}

/// A side and the model of its peer connection: connected once it has a local and a remote
/// description of the same exchange.
struct Side {
    name: &'static str,
    session: CallSession,
    epoch: Epoch,
    local: Option<String>,
    offers: u32,
    connected: bool,
    signaling_down: bool,
}

struct World {
    now: Duration,
    sides: [Side; 2],
    wire: VecDeque<(Duration, usize, Input)>,
    /// Answers to knocks, as the server was told them.
    admitted: Vec<(PeerId, bool)>,
    drop_next: u32,
}

impl World {
    fn new() -> Self {
        let side = |name| Side {
            name,
            session: CallSession::new(nameless(1)),
            epoch: Epoch(0),
            local: None,
            offers: 0,
            connected: false,
            signaling_down: false,
        };
        Self {
            now: Duration::ZERO,
            sides: [side("a"), side("b")],
            wire: VecDeque::new(),
            drop_next: 0,
            admitted: Vec::new(),
        }
    }

    fn input(&mut self, at: usize, input: Input) {
        self.sides[at].session.handle_input(self.now, input);
        loop {
            match self.sides[at].session.poll_output() {
                Output::Wait(_) => break,
                Output::CreatePeer(epoch) => {
                    let side = &mut self.sides[at];
                    (side.epoch, side.local, side.connected) = (epoch, None, false);
                }
                Output::Run { epoch, operation } => self.operate(at, epoch, operation),
                Output::Admit { peer_id, admitted } => self.admitted.push((peer_id, admitted)),
                Output::Send { payload, .. } => {
                    if self.drop_next > 0 {
                        self.drop_next -= 1;
                        continue;
                    }
                    if self.sides[1 - at].signaling_down {
                        continue;
                    }
                    let from = peer_id(self.sides[at].name);
                    self.wire.push_back((
                        self.now + DELAY,
                        1 - at,
                        Input::Signal { from, session: None, payload },
                    ));
                }
                Output::ClosePeer
                | Output::LeaveRoom { .. }
                | Output::NewSession(_)
                | Output::Authenticated(_)
                | Output::Key(_)
                | Output::Guesses(_)
                | Output::SetLocked(_)
                | Output::Connected { .. }
                | Output::State(_)
                | Output::Log(_) => {}
            }
        }
    }

    /// Reports go through the queue, so that inputs may come between an operation and its end.
    fn operate(&mut self, at: usize, epoch: Epoch, operation: Operation) {
        let side = &mut self.sides[at];
        let report = match operation {
            Operation::CreateOffer { .. } => {
                side.offers += 1;
                let sdp = format!("{}{}\r\n", side.name, side.offers);
                side.local = Some(sdp.clone());
                Input::OfferCreated { epoch, description: description(SdpType::Offer, &sdp) }
            }
            Operation::OfferRestart => {
                side.offers += 1;
                let sdp = format!("{}{}\r\n", side.name, side.offers);
                side.local = Some(sdp.clone());
                Input::OfferCreated { epoch, description: description(SdpType::Offer, &sdp) }
            }
            Operation::AcceptOffer { description: offer, rollback } => {
                assert!(side.local.is_none() || rollback, "an own offer must be rolled back first");
                side.local = None;
                side.connected = true;
                Input::AnswerCreated {
                    epoch,
                    description: description(SdpType::Answer, &offer.sdp),
                }
            }
            Operation::AcceptAnswer { description: answer } => {
                let offer = side.local.take().unwrap();
                assert!(answer.sdp.starts_with(&offer), "the answer fits the offer");
                side.connected = true;
                Input::AnswerAccepted { epoch }
            }
            Operation::AddCandidate { .. } => return,
        };
        self.wire.push_back((self.now, at, report));
    }

    fn run_until(&mut self, until: Duration) {
        while self.now < until {
            // Earliest first; equal times in order of their sending.
            let next = (0..self.wire.len()).min_by_key(|i| self.wire[*i].0);
            match next {
                Some(i) if self.wire[i].0 <= self.now => {
                    let (_, at, input) = self.wire.remove(i).unwrap();
                    self.input(at, input);
                    self.connect_transport();
                }
                _ => {
                    self.now += Duration::from_millis(5);
                    self.input(0, Input::Tick);
                    self.input(1, Input::Tick);
                }
            }
        }
    }

    fn connect_transport(&mut self) {
        if self.sides.iter().all(|s| s.connected) {
            for at in 0..2 {
                if *self.sides[at].session.state() != CallState::Connected {
                    let epoch = self.sides[at].epoch;
                    self.input(at, Input::Transport { epoch, state: TransportState::Connected });
                }
            }
        }
    }

    fn enter_both(&mut self) {
        self.input(
            0,
            Input::Joined { peers: vec![], polite: false, resumed: false, locked: false },
        );
        self.input(
            1,
            Input::Joined {
                peers: vec![info("a", "sa")],
                polite: true,
                resumed: false,
                locked: false,
            },
        );
        self.input(0, Input::PeerJoined(info("b", "sb")));
    }

    fn states(&self) -> [&CallState; 2] {
        [self.sides[0].session.state(), self.sides[1].session.state()]
    }
}

#[test]
fn two_who_enter_one_after_the_other_are_connected_by_one_offer() {
    let mut w = World::new();
    w.enter_both();
    w.run_until(Duration::from_secs(1));
    assert_eq!(w.states(), [&CallState::Connected; 2]);
    assert_eq!((w.sides[0].offers, w.sides[1].offers), (1, 0));
}

#[test]
fn glare_is_resolved() {
    let mut w = World::new();
    w.enter_both();
    w.run_until(Duration::from_secs(1));
    for at in 0..2 {
        w.sides[at].connected = false;
        w.input(at, Input::RestartIce);
    }
    w.run_until(Duration::from_secs(2));
    assert!(w.sides.iter().all(|s| s.connected && s.local.is_none()));
}

#[test]
fn lost_offer_is_sent_again() {
    let mut w = World::new();
    w.drop_next = 1;
    w.enter_both();
    w.run_until(Duration::from_secs(3));
    assert_eq!(w.states(), [&CallState::Connecting; 2]);
    w.run_until(Duration::from_secs(6));
    assert_eq!(w.states(), [&CallState::Connected; 2]);
}

#[test]
fn reload_of_the_other_side_makes_a_new_peer_connection() {
    let mut w = World::new();
    w.enter_both();
    w.run_until(Duration::from_secs(1));
    let old = w.sides[0].epoch;
    w.sides[1].session = CallSession::new(nameless(2));
    w.input(
        1,
        Input::Joined { peers: vec![info("a", "sa")], polite: true, resumed: false, locked: false },
    );
    w.input(0, Input::PeerJoined(info("b", "reloaded")));
    assert_eq!(w.states(), [&CallState::Reconnecting, &CallState::Connecting]);
    w.run_until(Duration::from_secs(2));
    assert_eq!(w.states(), [&CallState::Connected; 2]);
    assert!(w.sides[0].epoch > old);
}

#[test]
fn call_survives_server_restart_with_new_peer_ids() {
    let mut w = World::new();
    w.enter_both();
    w.run_until(Duration::from_secs(1));
    let epochs = [w.sides[0].epoch, w.sides[1].epoch];
    // The other one returns first, so the roles are swapped.
    w.input(1, Input::Joined { peers: vec![], polite: false, resumed: false, locked: false });
    w.input(
        0,
        Input::Joined {
            peers: vec![info("b2", "sb")],
            polite: true,
            resumed: false,
            locked: false,
        },
    );
    w.input(1, Input::PeerJoined(info("a2", "sa")));
    w.run_until(Duration::from_secs(2));
    assert_eq!(w.states(), [&CallState::Connected; 2]);
    assert_eq!(epochs, [w.sides[0].epoch, w.sides[1].epoch]);
    assert_eq!(w.sides.iter().map(|s| s.offers).sum::<u32>(), 1);
}

#[test]
fn hangup_of_the_other_side_ends_the_call_with_its_reason() {
    let mut w = World::new();
    w.enter_both();
    w.run_until(Duration::from_secs(1));
    w.input(1, Input::Hangup);
    w.input(0, Input::PeerLeft { peer_id: peer_id("b"), reason: LeaveReason::Left });
    assert_eq!(
        w.states(),
        [
            &CallState::Ended(CallEndReason::RemoteHangup),
            &CallState::Ended(CallEndReason::LocalHangup)
        ]
    );
}

#[test]
fn media_outlives_a_seat_and_its_loss_ends_the_call() {
    let mut w = World::new();
    w.enter_both();
    w.run_until(Duration::from_secs(1));
    w.input(0, Input::PeerLeft { peer_id: peer_id("b"), reason: LeaveReason::Timeout });
    w.run_until(Duration::from_secs(120));
    assert_eq!(w.states()[0], &CallState::Connected);
    let epoch = w.sides[0].epoch;
    w.sides[1].connected = false;
    w.input(0, Input::Transport { epoch, state: TransportState::Disconnected });
    assert_eq!(w.states()[0], &CallState::Reconnecting);
    w.run_until(Duration::from_secs(170));
    assert_eq!(w.states()[0], &CallState::Ended(CallEndReason::RemoteLost));
}

#[test]
fn a_resumed_seat_says_nothing_of_the_other_side() {
    let mut w = World::new();
    w.enter_both();
    w.run_until(Duration::from_secs(1));
    let epoch = w.sides[0].epoch;
    // The other side is another already, but signals of its old life may follow first.
    let peers = vec![info("b", "reloaded")];
    w.input(0, Input::Joined { peers, polite: false, resumed: true, locked: false });
    assert_eq!((w.sides[0].epoch, w.states()[0]), (epoch, &CallState::Connected));
    w.input(0, Input::PeerJoined(info("b", "reloaded")));
    assert!(w.sides[0].epoch > epoch);
}

#[test]
fn signals_of_another_life_are_ignored() {
    let mut w = World::new();
    w.enter_both();
    w.run_until(Duration::from_secs(1));
    let offer = |life: &str| Input::Signal {
        from: peer_id("a"),
        session: Some(SessionId::try_from(life.to_owned()).unwrap()),
        payload: SignalPayload::Description(description(SdpType::Offer, "x"), None),
    };
    w.input(1, offer("former"));
    assert!(w.wire.is_empty(), "it was answered");
    w.input(1, offer("sa"));
    assert!(!w.wire.is_empty());
}

#[test]
fn whoever_returns_is_not_given_up_by_the_old_deadline() {
    let mut w = World::new();
    w.enter_both();
    w.run_until(Duration::from_secs(1));
    let epoch = w.sides[0].epoch;
    (w.sides[1].signaling_down, w.sides[1].connected) = (true, false);
    w.input(0, Input::Transport { epoch, state: TransportState::Disconnected });
    w.input(0, Input::PeerLeft { peer_id: peer_id("b"), reason: LeaveReason::Timeout });
    w.run_until(Duration::from_secs(40));
    w.input(0, Input::PeerJoined(info("b2", "sb")));
    w.run_until(Duration::from_secs(70));
    assert_eq!(w.states()[0], &CallState::Reconnecting);
}

#[test]
fn disconnected_path_restarts_ice_after_its_grace() {
    let mut w = World::new();
    w.enter_both();
    w.run_until(Duration::from_secs(1));
    let epoch = w.sides[0].epoch;
    w.sides[0].connected = false;
    w.input(0, Input::Transport { epoch, state: TransportState::Disconnected });
    w.run_until(w.now + Duration::from_millis(900));
    assert_eq!(w.sides[0].offers, 1);
    w.run_until(w.now + Duration::from_millis(300));
    assert_eq!(w.sides[0].offers, 2);
    assert_eq!(w.states()[0], &CallState::Connected);
}

fn media(w: &mut World, at: usize, receiving: bool, heard: bool) {
    let epoch = w.sides[at].epoch;
    w.input(at, Input::Media { epoch, receiving, heard });
}

#[test]
fn media_that_stops_restarts_ice_and_the_polite_side_waits_a_little() {
    for (at, wait) in [(0, 0), (1, 250)] {
        let mut w = World::new();
        w.enter_both();
        w.run_until(Duration::from_secs(1));
        let before = w.sides[at].offers;
        media(&mut w, at, false, false);
        if wait > 0 {
            w.run_until(w.now + Duration::from_millis(wait - 10));
            assert_eq!(w.sides[at].offers, before);
        }
        w.run_until(w.now + Duration::from_millis(20));
        assert_eq!(w.sides[at].offers, before + 1, "side {at}");
        w.run_until(w.now + Duration::from_millis(200));
        assert_eq!(w.sides[at].local, None, "it was answered");
    }
}

#[test]
fn an_offer_for_want_of_media_is_ignored_by_who_has_been_heard_and_taken_back() {
    let mut w = World::new();
    w.enter_both();
    w.run_until(Duration::from_secs(1));
    media(&mut w, 1, true, true);
    media(&mut w, 0, false, false);
    w.run_until(w.now + Duration::from_millis(100));
    assert!(w.sides[0].local.is_some(), "it was answered");
    media(&mut w, 0, true, true);
    w.run_until(w.now + Duration::from_secs(2));
    // Nothing waits any more: another one goes out at once, and is not ignored.
    let before = w.sides[0].offers;
    w.sides[0].local = None;
    w.input(0, Input::RestartIce);
    w.run_until(w.now + Duration::from_millis(200));
    assert_eq!((w.sides[0].offers, w.sides[0].local.as_ref()), (before + 1, None));
}

#[test]
fn an_offer_for_want_of_media_is_repeated_while_nothing_comes() {
    let mut w = World::new();
    w.enter_both();
    w.run_until(Duration::from_secs(1));
    w.drop_next = 1;
    media(&mut w, 0, false, false);
    w.run_until(w.now + Duration::from_millis(200));
    assert!(w.sides[0].local.is_some());
    w.run_until(w.now + Duration::from_secs(4));
    assert_eq!(w.sides[0].local, None, "it was answered");
}

#[test]
fn a_path_that_is_never_found_ends_the_call() {
    let mut w = World::new();
    w.sides[1].signaling_down = true;
    w.enter_both();
    w.run_until(Duration::from_secs(60));
    assert_eq!(w.states()[0], &CallState::Ended(CallEndReason::ConnectionFailed));
}

#[test]
fn nobody_replaces_a_peer_that_was_connected_without_being_let_in() {
    for media_flows in [true, false] {
        let mut w = World::new();
        w.enter_both();
        w.run_until(Duration::from_secs(1));
        let epoch = w.sides[0].epoch;
        if !media_flows {
            w.input(0, Input::Transport { epoch, state: TransportState::Disconnected });
        }
        // The server was started anew, and somebody else was quicker.
        let peers = vec![info("c", "sc")];
        w.input(0, Input::Joined { peers, polite: true, resumed: false, locked: false });
        w.input(0, Input::PeerJoined(info("c", "sc")));
        assert_eq!(w.sides[0].epoch, epoch);
        let knocks = w.sides[0].session.knocks().to_vec();
        assert_eq!(knocks.iter().map(|k| k.peer_id.clone()).collect::<Vec<_>>(), [peer_id("c")]);
        // Refused, it is nobody, and its going ends nothing.
        let refuse = Input::Admit { peer_id: peer_id("c"), admitted: false };
        w.input(0, refuse);
        w.input(0, Input::PeerLeft { peer_id: peer_id("c"), reason: LeaveReason::Left });
        assert_eq!(w.sides[0].epoch, epoch);
        assert!(!matches!(w.states()[0], CallState::Ended(_)));
        // Let in, it has the call.
        w.input(0, Input::PeerJoined(info("d", "sd")));
        w.input(0, Input::Admit { peer_id: peer_id("d"), admitted: true });
        assert_eq!(w.sides[0].epoch, Epoch(epoch.0 + 1));
        assert_eq!(w.sides[0].session.remotes(), 2);
        assert_eq!(w.states()[0], &CallState::Reconnecting);
        assert!(w.admitted.is_empty() && w.sides[0].session.knocks().is_empty());
    }
}

#[test]
fn whoever_is_let_in_takes_the_place_of_the_one_who_vanished() {
    let mut w = World::new();
    w.enter_both();
    w.run_until(Duration::from_secs(1));
    let epoch = w.sides[0].epoch;
    let knock = |name| Input::Knock(Knock { peer_id: peer_id(name), display_name: None });
    w.input(0, knock("c"));
    w.input(0, knock("d"));
    w.input(0, Input::KnockGone { peer_id: peer_id("c") });
    w.input(0, Input::Admit { peer_id: peer_id("c"), admitted: true });
    assert_eq!(w.admitted, [], "who is gone is not let in");
    w.input(0, Input::Admit { peer_id: peer_id("d"), admitted: true });
    assert_eq!(w.admitted, [(peer_id("d"), true)]);
    w.input(0, Input::PeerLeft { peer_id: peer_id("b"), reason: LeaveReason::Timeout });
    assert_eq!((w.states()[0], w.sides[0].epoch), (&CallState::Connected, epoch));
    w.input(0, Input::PeerJoined(info("d", "sd")));
    assert_eq!(w.sides[0].epoch, Epoch(epoch.0 + 1));
}

#[test]
fn a_knock_lets_a_lost_call_wait_for_its_answer() {
    let mut w = World::new();
    w.enter_both();
    w.run_until(Duration::from_secs(1));
    let epoch = w.sides[0].epoch;
    (w.sides[1].signaling_down, w.sides[1].connected) = (true, false);
    w.input(0, Input::PeerLeft { peer_id: peer_id("b"), reason: LeaveReason::Timeout });
    w.input(0, Input::Transport { epoch, state: TransportState::Failed });
    w.run_until(Duration::from_secs(40));
    w.input(0, Input::Knock(Knock { peer_id: peer_id("c"), display_name: None }));
    w.run_until(Duration::from_secs(99));
    assert_eq!(w.states()[0], &CallState::Reconnecting);
    w.run_until(Duration::from_secs(101));
    assert_eq!(w.states()[0], &CallState::Ended(CallEndReason::RemoteLost));
}

#[test]
fn whoever_has_to_knock_waits_until_the_server_answers() {
    let mut session = CallSession::new(nameless(1));
    session.handle_input(Duration::ZERO, Input::Knocking);
    assert_eq!(session.state(), &CallState::Knocking);
    session.handle_input(Duration::from_secs(50), Input::Refused(ErrorCode::RefusedEntry));
    let refused = CallEndReason::Refused(ErrorCode::RefusedEntry);
    assert_eq!(refused.code(), "refused-entry");
    assert_eq!(session.state(), &CallState::Ended(refused));
}

fn any_input() -> impl Strategy<Value = Input> {
    let epoch = (0u32..4).prop_map(Epoch);
    let id = prop_oneof![Just("a"), Just("b"), Just("c")];
    let sdp = prop_oneof![Just(SdpType::Offer), Just(SdpType::Answer)];
    let transport = prop_oneof![
        Just(TransportState::Connecting),
        Just(TransportState::Connected),
        Just(TransportState::Disconnected),
        Just(TransportState::Failed)
    ];
    let candidate = IceCandidateInit {
        candidate: "candidate:1".into(),
        sdp_mid: None,
        sdp_m_line_index: None,
        username_fragment: None,
    };
    prop_oneof![
        2 => Just(Input::RestartIce),
        1 => Just(Input::Knocking),
        1 => id.clone().prop_map(|p| Input::Knock(Knock { peer_id: peer_id(p), display_name: None })),
        1 => id.clone().prop_map(|p| Input::KnockGone { peer_id: peer_id(p) }),
        2 => (id.clone(), any::<bool>()).prop_map(|(p, admitted)| Input::Admit {
            peer_id: peer_id(p), admitted }),
        4 => (proptest::option::of((id.clone(), id.clone())), any::<bool>(), any::<bool>()).prop_map(
            |(peer, polite, resumed)| Input::Joined {
                peers: peer.map(|(p, s)| info(p, s)).into_iter().collect(), polite, resumed, locked: false }),
        4 => (id.clone(), id.clone()).prop_map(|(p, s)| Input::PeerJoined(info(p, s))),
        1 => id.clone().prop_map(|p| Input::PeerLeft { peer_id: peer_id(p), reason: LeaveReason::Timeout }),
        8 => (id.clone(), sdp).prop_map(|(p, kind)| Input::Signal {
            from: peer_id(p), session: None, payload: SignalPayload::Description(description(kind, "x"), None) }),
        4 => id.prop_map(move |p| Input::Signal {
            from: peer_id(p), session: None, payload: SignalPayload::Candidate(candidate.clone()) }),
        4 => epoch.clone().prop_map(|epoch| Input::OfferCreated { epoch, description: description(SdpType::Offer, "x") }),
        4 => epoch.clone().prop_map(|epoch| Input::AnswerCreated { epoch, description: description(SdpType::Answer, "x") }),
        4 => epoch.clone().prop_map(|epoch| Input::AnswerAccepted { epoch }),
        2 => (epoch.clone(), any::<bool>()).prop_map(|(epoch, remote_fault)| Input::OperationFailed {
            epoch, why: "x".into(), remote_fault }),
        3 => (epoch.clone(), any::<bool>(), any::<bool>()).prop_map(|(epoch, receiving, heard)| Input::Media {
            epoch, receiving, heard }),
        6 => (epoch, transport).prop_map(|(epoch, state)| Input::Transport { epoch, state }),
        4 => Just(Input::Tick),
    ]
}

proptest! {
    #[test]
    fn no_sequence_of_inputs_panics_or_hangs(inputs in proptest::collection::vec((any_input(), 0u64..5000), 1..80)) {
        let mut session = CallSession::new(nameless(1));
        let mut now = Duration::ZERO;
        for (input, ms) in inputs {
            now += Duration::from_millis(ms);
            session.handle_input(now, input);
            let mut outputs = 0;
            let deadline = loop {
                match session.poll_output() {
                    Output::Wait(deadline) => break deadline,
                    _ => outputs += 1,
                }
                prop_assert!(outputs < 50, "one input has a bounded effect");
            };
            // A call that is neither up nor over must have something that moves it on.
            if matches!(session.state(), CallState::Connecting | CallState::Reconnecting) {
                prop_assert!(deadline.is_some(), "{:?} hangs", session.state());
            }
        }
    }
}
