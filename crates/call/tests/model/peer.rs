//! Peer connections: descriptions, ICE credentials, candidates, and the path that comes of them.

use std::collections::VecDeque;

use visavis_call::{Epoch, Input, Operation, TransportState};
use visavis_signaling_protocol::{IceCandidateInit, SdpType, SessionDescription};

use super::{Event, World, ms};

/// One side of ICE as a description tells it: whose it is, and of which generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ice {
    /// Names the peer connection, like a DTLS fingerprint.
    identity: u32,
    ufrag: u32,
    /// Where it gathered.
    address: u32,
}

#[derive(Debug)]
pub(crate) struct Pc {
    pub(crate) number: u32,
    epoch: Epoch,
    local: Option<Ice>,
    remote: Option<Ice>,
    /// An own offer waits for its answer; with what stood before it.
    offered: Option<Option<Ice>>,
    /// Of an own offer that is applied with its answer.
    held: Option<Ice>,
    /// Whether a candidate of `remote` is known.
    has_candidate: bool,
    early: Vec<u32>,
    operations: VecDeque<Operation>,
    busy: bool,
    state: TransportState,
    looks: u32,
    /// Since when `look` has nothing else to say.
    worked: bool,
    /// Whether media came when it was last looked at, and how often that changed.
    flowed: bool,
    flows: u32,
}

impl Ice {
    fn name(self) -> (u32, u32) {
        (self.identity, self.ufrag)
    }
}

impl Pc {
    /// Which generation of ICE is in use.
    pub(crate) fn generation(&self) -> Option<u32> {
        self.local.map(|ice| ice.ufrag)
    }

    fn candidate_arrived(&mut self, ufrag: u32) {
        match &self.remote {
            Some(remote) if remote.ufrag == ufrag => self.has_candidate = true,
            Some(_) => {}
            None => self.early.push(ufrag),
        }
    }

    fn set_remote(&mut self, remote: Ice) {
        if self.remote != Some(remote) {
            self.has_candidate = false;
        }
        self.remote = Some(remote);
        for ufrag in std::mem::take(&mut self.early) {
            self.candidate_arrived(ufrag);
        }
    }
}

fn describe(kind: SdpType, ice: Ice) -> SessionDescription {
    let Ice { identity, ufrag, address } = ice;
    let [a, b, c, d] = identity.to_be_bytes();
    let fingerprint = format!("{FINGERPRINT}{a:02x}:{b:02x}:{c:02x}:{d:02x}");
    let sdp = format!("v=0\r\n{fingerprint}\r\na=ice-ufrag:{ufrag}\r\na=addr:{address}\r\n");
    SessionDescription { kind, sdp }
}

const FINGERPRINT: &str = "a=fingerprint:sha-256 ";

fn parse(sdp: &str) -> Option<Ice> {
    let value = |name: &str| sdp.lines().find_map(|l| l.strip_prefix(name))?.parse().ok();
    Some(Ice {
        identity: sdp
            .lines()
            .find_map(|l| l.strip_prefix(FINGERPRINT))
            .and_then(|bytes| u32::from_str_radix(&bytes.replace(':', ""), 16).ok())?,
        ufrag: value("a=ice-ufrag:")?,
        address: value("a=addr:")?,
    })
}

impl World {
    pub(crate) fn create_pc(&mut self, side: usize, epoch: Epoch) {
        let number = self.unique();
        self.sides[side].pc = Some(Pc {
            number,
            epoch,
            local: None,
            remote: None,
            offered: None,
            held: None,
            has_candidate: false,
            early: Vec::new(),
            operations: VecDeque::new(),
            busy: false,
            state: TransportState::Connecting,
            looks: 0,
            worked: false,
            flowed: false,
            flows: 0,
        });
        self.path_changed();
    }

    pub(crate) fn operate(&mut self, side: usize, epoch: Epoch, operation: Operation) {
        let Some(pc) = self.sides[side].pc.as_mut().filter(|pc| pc.epoch == epoch) else { return };
        pc.operations.push_back(operation);
        if !std::mem::replace(&mut pc.busy, true) {
            let number = pc.number;
            let time = ms(1 + self.random(30));
            self.at(self.now + time, Event::Operated(side, number));
        }
    }

    pub(crate) fn operated(&mut self, side: usize, number: u32) {
        let (fresh, address) = (self.unique(), self.sides[side].address);
        let Some(pc) = self.sides[side].pc.as_mut().filter(|pc| pc.number == number) else {
            return;
        };
        let Some(operation) = pc.operations.pop_front() else { return };
        let epoch = pc.epoch;
        let before = pc.local;
        let new_ice = Ice { identity: pc.number, ufrag: fresh, address };
        let failed = |why: &str, remote_fault| {
            Some(Input::OperationFailed { epoch, why: why.into(), remote_fault })
        };
        let mut applied = false;
        let report = match operation {
            Operation::OfferRestart => {
                assert!(pc.offered.is_none(), "an offer on top of an offer");
                pc.held = Some(new_ice);
                Some(Input::OfferCreated { epoch, description: describe(SdpType::Offer, new_ice) })
            }
            Operation::CreateOffer { ice_restart } => {
                assert!(pc.offered.is_none(), "an offer on top of an offer");
                let ice_restart = pc.held.take().is_some() || ice_restart;
                pc.offered = Some(pc.local);
                if ice_restart || pc.local.is_none() {
                    pc.local = Some(new_ice);
                }
                let description = describe(SdpType::Offer, pc.local.unwrap());
                Some(Input::OfferCreated { epoch, description })
            }
            Operation::AcceptOffer { description, rollback } => {
                // One that was held and taken back needs none.
                let held = pc.held.take().is_some();
                assert!(
                    rollback == pc.offered.is_some() || (rollback && held),
                    "rolled back when, and only when, needed"
                );
                if let Some(former) = pc.offered.take() {
                    pc.local = former;
                }
                match parse(&description.sdp) {
                    None => failed("no offer", true),
                    // DTLS does not change hands.
                    Some(ice) if pc.remote.is_some_and(|r| r.identity != ice.identity) => {
                        failed("another fingerprint", true)
                    }
                    Some(ice) => {
                        let restarts = pc.remote.is_none_or(|remote| remote.ufrag != ice.ufrag);
                        pc.set_remote(ice);
                        if restarts || pc.local.is_none() {
                            pc.local = Some(new_ice);
                        }
                        let description = describe(SdpType::Answer, pc.local.unwrap());
                        Some(Input::AnswerCreated { epoch, description })
                    }
                }
            }
            Operation::AcceptAnswer { description } => {
                let held = pc.held.take();
                assert!(pc.offered.is_some() || held.is_some(), "an answer to nothing");
                if let Some(ice) = held {
                    pc.offered = Some(pc.local.replace(Ice { address, ..ice }));
                    applied = true;
                }
                match parse(&description.sdp) {
                    Some(ice) if pc.remote.is_none_or(|r| r.identity == ice.identity) => {
                        pc.offered = None;
                        pc.set_remote(ice);
                        Some(Input::AnswerAccepted { epoch })
                    }
                    _ => {
                        pc.local = pc.offered.take().flatten();
                        failed("not an answer", true)
                    }
                }
            }
            Operation::AddCandidate { candidate } => {
                if let Some(ufrag) = candidate.username_fragment.and_then(|u| u.parse().ok()) {
                    pc.candidate_arrived(ufrag);
                }
                None
            }
        };
        let gathered =
            pc.local.filter(|local| before != Some(*local) && (local.ufrag == fresh || applied));
        let restarted = gathered.is_some() && pc.state != TransportState::Connecting;
        pc.busy = !pc.operations.is_empty();
        if pc.busy {
            let time = ms(1 + self.random(30));
            self.at(self.now + time, Event::Operated(side, number));
        }
        if let Some(report) = report {
            self.at(self.now, Event::Report(side, number, report));
        }
        if let Some(local) = gathered {
            for _ in 0..2 {
                let candidate = IceCandidateInit {
                    candidate: "candidate".into(),
                    sdp_mid: None,
                    sdp_m_line_index: None,
                    username_fragment: Some(local.ufrag.to_string()),
                };
                let time = ms(self.random(60));
                let report = Input::LocalCandidate { epoch, candidate };
                self.at(self.now + time, Event::Report(side, number, report));
            }
        }
        // RFC 8445 §9: a restart goes through checking; some stacks say so, some stay silent.
        if restarted && self.random(2) == 0 {
            self.transport(side, TransportState::Connecting);
        }
        self.path_changed();
    }

    /// Whether checks succeed: credentials fit both ways, somebody knows where to send, and both
    /// still are where they gathered.
    pub(crate) fn works(&self) -> bool {
        let [a, b] = [&self.sides[0], &self.sides[1]];
        let (Some(pc_a), Some(pc_b)) = (&a.pc, &b.pc) else { return false };
        let fit = pc_a.local.is_some()
            && pc_b.local.is_some()
            && pc_a.remote.map(Ice::name) == pc_b.local.map(Ice::name)
            && pc_b.remote.map(Ice::name) == pc_a.local.map(Ice::name);
        let gathered = |pc: &Pc, address| pc.local.is_some_and(|ice| ice.address == address);
        fit && (pc_a.has_candidate || pc_b.has_candidate)
            && gathered(pc_a, a.address)
            && gathered(pc_b, b.address)
            && self.now >= self.media_down_until
            && self.now >= a.asleep_until
            && self.now >= b.asleep_until
    }

    /// Looks again wherever a report may be due.
    pub(crate) fn path_changed(&mut self) {
        let works = self.works();
        for side in 0..2 {
            let Some(pc) = &mut self.sides[side].pc else { continue };
            let changed = std::mem::replace(&mut pc.worked, works) != works;
            if works != pc.flowed {
                pc.flowed = works;
                pc.flows += 1;
                let (number, flows) = (pc.number, pc.flows);
                // As the engine tells them: half a second without feedback, one without anything.
                let told = if works {
                    vec![(ms(100), true, true)]
                } else {
                    vec![(ms(500), true, false), (ms(1000), false, false)]
                };
                for (after, receiving, heard) in told {
                    let media = Event::Media(side, (number, flows), receiving, heard);
                    self.at(self.now + after, media);
                }
            }
            let Some(pc) = &mut self.sides[side].pc else { continue };
            let after = match (works, pc.state) {
                (true, TransportState::Connected) => continue,
                (true, _) => ms(30),
                (false, TransportState::Connected) if changed => ms(3000),
                (false, TransportState::Connecting) if changed || pc.looks == 0 => ms(28_000),
                (false, _) => continue,
            };
            self.look_at(side, self.now + after);
        }
    }

    pub(crate) fn media(&mut self, side: usize, of: (u32, u32), receiving: bool, heard: bool) {
        let Some(pc) = self.sides[side].pc.as_ref().filter(|pc| (pc.number, pc.flows) == of) else {
            return;
        };
        let media = Input::Media { epoch: pc.epoch, receiving, heard };
        self.at(self.now, Event::Report(side, of.0, media));
    }

    fn look_at(&mut self, side: usize, at: std::time::Duration) {
        let Some(pc) = &mut self.sides[side].pc else { return };
        pc.looks += 1;
        let (number, looks) = (pc.number, pc.looks);
        self.at(at, Event::Look(side, number, looks));
    }

    pub(crate) fn look(&mut self, side: usize, number: u32, look: u32) {
        let works = self.works();
        let Some(pc) = self.sides[side].pc.as_mut().filter(|pc| pc.number == number) else {
            return;
        };
        if pc.looks != look {
            return;
        }
        match (works, pc.state) {
            (true, TransportState::Connected) => {}
            (true, _) => self.transport(side, TransportState::Connected),
            (false, TransportState::Connected) => {
                self.transport(side, TransportState::Disconnected);
                self.look_at(side, self.now + ms(25_000));
            }
            (false, TransportState::Failed) => {}
            (false, _) => self.transport(side, TransportState::Failed),
        }
    }

    fn transport(&mut self, side: usize, state: TransportState) {
        let Some(pc) = &mut self.sides[side].pc else { return };
        if std::mem::replace(&mut pc.state, state) == state {
            return;
        }
        let (number, epoch) = (pc.number, pc.epoch);
        if state == TransportState::Connecting {
            self.look_at(side, self.now + ms(28_000));
        }
        self.at(self.now, Event::Report(side, number, Input::Transport { epoch, state }));
    }
}
