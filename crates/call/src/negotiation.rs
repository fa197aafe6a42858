//! Perfect negotiation (W3C WebRTC 1.0 §10.7) for a stack without implicit rollback.
//!
//! Operations on the peer connection run one at a time, in the order they were asked for; each
//! reports back. The negotiator therefore knows the signaling state from its own orders and never
//! asks the stack. Pure: it returns what to do and keeps no queue.

use std::collections::VecDeque;

use visavis_signaling_protocol::{SdpType, SessionDescription};

use crate::io::Operation;
use crate::stall;

/// `RTCSignalingState`, as far as it can be reached, with operations under way counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signaling {
    Stable,
    /// `create_offer` was ordered and did not report yet (W3C: `makingOffer`).
    MakingOffer,
    HaveLocalOffer,
    /// An offer was handed over and the answer did not report yet.
    Answering,
    /// An answer was handed over and did not report yet.
    AcceptingAnswer,
}

/// An operation that was ordered and did not report yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ordered {
    CreateOffer {
        /// Rolled back by what was ordered after it: its report is to be dropped.
        stale: bool,
    },
    AcceptOffer,
    AcceptAnswer,
}

/// What became of a remote description.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    /// Run this operation.
    Run(Operation),
    /// Nothing to do: a collision that we win, or an answer to an offer of the past.
    Ignore,
}

/// Operations under way at once; who floods us with offers is not heard until some are done.
const MAX_ORDERED: usize = 16;

/// Negotiation of one peer connection.
#[derive(Debug)]
pub(crate) struct Negotiation {
    polite: bool,
    /// As it will be when all that was ordered is done.
    signaling: Signaling,
    /// In the order in which they will report.
    ordered: VecDeque<Ordered>,
    /// The offer on the wire, for sending again.
    local_offer: Option<SessionDescription>,
    /// Whether the own offer, made or being made, is one of [`Operation::OfferRestart`].
    held: bool,
    /// Offer as soon as the state is stable again; `Some(true)` with an ICE restart.
    wanted_offer: Option<bool>,
    /// The last remote offer lost a collision: its candidates are of no use either.
    ignore_offer: bool,
}

impl Negotiation {
    pub(crate) fn new(polite: bool) -> Self {
        Self {
            polite,
            signaling: Signaling::Stable,
            ordered: VecDeque::new(),
            local_offer: None,
            held: false,
            wanted_offer: None,
            ignore_offer: false,
        }
    }

    pub(crate) fn set_polite(&mut self, polite: bool) {
        self.polite = polite;
    }

    #[cfg(test)]
    pub(crate) fn is_stable(&self) -> bool {
        self.signaling == Signaling::Stable
    }

    /// Whether an own offer waits for its answer.
    pub(crate) fn awaits_answer(&self) -> bool {
        self.signaling == Signaling::HaveLocalOffer
    }

    /// The offer that waits for its answer.
    pub(crate) fn pending_offer(&self) -> Option<&SessionDescription> {
        self.awaits_answer().then_some(self.local_offer.as_ref()).flatten()
    }

    /// Whether remote candidates belong to a description that we use.
    pub(crate) fn takes_candidates(&self) -> bool {
        !self.ignore_offer
    }

    /// Offers now, or once the state is stable.
    pub(crate) fn want_offer(&mut self, ice_restart: bool) -> Option<Operation> {
        if self.signaling == Signaling::Stable {
            self.signaling = Signaling::MakingOffer;
            self.ordered.push_back(Ordered::CreateOffer { stale: false });
            self.wanted_offer = None;
            self.held = false;
            return Some(Operation::CreateOffer { ice_restart });
        }
        // An offer that is being made anyway serves, unless a restart is wanted.
        if ice_restart
            || !matches!(self.signaling, Signaling::MakingOffer | Signaling::HaveLocalOffer)
        {
            self.wanted_offer = Some(ice_restart || self.wanted_offer == Some(true));
        }
        None
    }

    /// Offers a restart that is applied with its answer, unless something is under way that may
    /// help as well.
    pub(crate) fn want_held_restart(&mut self) -> Option<Operation> {
        if self.signaling != Signaling::Stable {
            return None;
        }
        self.want_offer(true)?;
        self.held = true;
        Some(Operation::OfferRestart)
    }

    /// Whether such an offer waits for its answer.
    pub(crate) fn holds_offer(&self) -> bool {
        self.held && self.awaits_answer()
    }

    /// Takes such an offer back, which nobody knows of but the other side; the next operation.
    pub(crate) fn withdraw(&mut self) -> Option<Operation> {
        if !self.holds_offer() {
            return None;
        }
        self.signaling = Signaling::Stable;
        self.local_offer = None;
        self.wanted_offer.take().and_then(|ice_restart| self.want_offer(ice_restart))
    }

    /// A description from the other side.
    pub(crate) fn remote_description(&mut self, description: SessionDescription) -> Verdict {
        match description.kind {
            SdpType::Offer => {
                let own_offer =
                    matches!(self.signaling, Signaling::MakingOffer | Signaling::HaveLocalOffer);
                // An answer being applied is as good as applied (W3C: isSettingRemoteAnswerPending).
                self.ignore_offer =
                    (own_offer && !self.polite) || self.ordered.len() >= MAX_ORDERED;
                if self.ignore_offer {
                    return Verdict::Ignore;
                }
                for ordered in &mut self.ordered {
                    if let Ordered::CreateOffer { stale } = ordered {
                        *stale = true;
                    }
                }
                self.local_offer = None;
                self.signaling = Signaling::Answering;
                self.ordered.push_back(Ordered::AcceptOffer);
                Verdict::Run(Operation::AcceptOffer { description, rollback: own_offer })
            }
            SdpType::Answer if self.signaling == Signaling::HaveLocalOffer => {
                self.signaling = Signaling::AcceptingAnswer;
                self.ordered.push_back(Ordered::AcceptAnswer);
                self.ignore_offer = false;
                if self.held {
                    // It is applied now, which is as good as a restart asked for meanwhile.
                    self.wanted_offer = None;
                }
                Verdict::Run(Operation::AcceptAnswer { description })
            }
            SdpType::Answer => Verdict::Ignore,
        }
    }

    /// `CreateOffer` reported; what to send, if the offer still stands.
    pub(crate) fn offer_created(
        &mut self,
        offer: SessionDescription,
    ) -> Option<SessionDescription> {
        let Some(Ordered::CreateOffer { stale }) = self.ordered.front().copied() else {
            return None;
        };
        self.ordered.pop_front();
        if stale {
            return None;
        }
        let offer = if self.held { stall::mark(offer) } else { offer };
        self.signaling = Signaling::HaveLocalOffer;
        self.local_offer = Some(offer.clone());
        Some(offer)
    }

    /// `AcceptOffer` (its answer is on the wire) or `AcceptAnswer` reported; the next operation.
    pub(crate) fn settled(&mut self) -> Option<Operation> {
        if !matches!(self.ordered.front(), Some(Ordered::AcceptOffer | Ordered::AcceptAnswer)) {
            return None;
        }
        self.ordered.pop_front();
        if !self.ordered.is_empty() {
            return None;
        }
        self.signaling = Signaling::Stable;
        self.local_offer = None;
        self.wanted_offer.take().and_then(|ice_restart| self.want_offer(ice_restart))
    }

    /// An operation failed and left the peer connection stable (a failed offer is rolled back).
    /// What was ordered after it goes on from there.
    pub(crate) fn failed(&mut self) {
        if self.ordered.pop_front().is_some() && self.ordered.is_empty() {
            self.signaling = Signaling::Stable;
            self.local_offer = None;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn offer(sdp: &str) -> SessionDescription {
        SessionDescription { kind: SdpType::Offer, sdp: sdp.into() }
    }

    fn answer(sdp: &str) -> SessionDescription {
        SessionDescription { kind: SdpType::Answer, sdp: sdp.into() }
    }

    #[test]
    fn impolite_side_ignores_a_colliding_offer_and_its_candidates() {
        let mut n = Negotiation::new(false);
        assert_eq!(n.want_offer(false), Some(Operation::CreateOffer { ice_restart: false }));
        assert_eq!(n.remote_description(offer("theirs")), Verdict::Ignore);
        assert!(!n.takes_candidates());
        assert_eq!(n.offer_created(offer("ours")), Some(offer("ours")));
        assert!(matches!(n.remote_description(answer("a")), Verdict::Run(_)));
        assert!(n.takes_candidates());
        assert_eq!(n.settled(), None);
        assert!(n.is_stable());
    }

    #[test]
    fn polite_side_rolls_back_and_drops_the_offer_under_way() {
        let mut n = Negotiation::new(true);
        n.want_offer(false).unwrap();
        let Verdict::Run(Operation::AcceptOffer { rollback, .. }) =
            n.remote_description(offer("theirs"))
        else {
            panic!("a polite peer accepts")
        };
        assert!(rollback);
        assert_eq!(n.offer_created(offer("ours")), None);
        assert_eq!(n.settled(), None);
        assert!(n.is_stable());
    }

    #[test]
    fn restart_wanted_meanwhile_follows_once_stable() {
        let mut n = Negotiation::new(true);
        assert!(matches!(n.remote_description(offer("theirs")), Verdict::Run(_)));
        assert_eq!(n.want_offer(true), None);
        assert_eq!(n.settled(), Some(Operation::CreateOffer { ice_restart: true }));
    }

    #[test]
    fn a_second_offer_that_fails_leaves_the_own_one_alone() {
        let mut n = Negotiation::new(true);
        assert!(matches!(n.remote_description(offer("1")), Verdict::Run(_)));
        assert!(matches!(n.remote_description(offer("2")), Verdict::Run(_)));
        assert_eq!(n.want_offer(false), None);
        assert_eq!(n.settled(), None, "another one is under way");
        n.failed();
        assert!(n.is_stable());
        assert!(n.want_offer(false).is_some());
        n.failed();
        assert!(n.is_stable());
    }

    #[test]
    fn answer_without_an_offer_is_ignored() {
        let mut n = Negotiation::new(false);
        assert_eq!(n.remote_description(answer("late")), Verdict::Ignore);
        assert!(n.is_stable());
    }
}
