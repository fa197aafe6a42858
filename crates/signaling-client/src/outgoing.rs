//! Signals on their way: kept until the server says that it has them, so that a resume can send
//! again what a dying WebSocket swallowed.

use std::collections::VecDeque;

use visavis_signaling_protocol::ClientMessage;

/// Signals kept at most; until some have arrived no more are sent. Together with
/// [`QUEUED_SIGNALS`] below [`MESSAGE_BURST`](visavis_signaling_protocol::limits::MESSAGE_BURST),
/// so that a resume is never taken for a flood.
pub(crate) const UNCONFIRMED_SIGNALS: usize = 64;
/// Signals that wait for the WebSocket at most.
pub(crate) const QUEUED_SIGNALS: usize = 128;
/// After so many signals a `ping` asks what has arrived.
const ASK_EVERY: u64 = 16;

/// Signals sent and not yet confirmed.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    unconfirmed: VecDeque<ClientMessage>,
    /// Signals of this session that the server has.
    confirmed: u64,
}

impl Outgoing {
    /// Whether another may be sent.
    pub(crate) fn has_room(&self) -> bool {
        self.unconfirmed.len() < UNCONFIRMED_SIGNALS
    }

    /// A signal is being sent. True if it is time to ask what has arrived.
    pub(crate) fn sent(&mut self, signal: ClientMessage) -> bool {
        self.unconfirmed.push_back(signal);
        (self.confirmed + self.unconfirmed.len() as u64).is_multiple_of(ASK_EVERY)
    }

    /// The server has had `received` signals from this session.
    pub(crate) fn confirm(&mut self, received: u64) {
        while self.confirmed < received && self.unconfirmed.pop_front().is_some() {
            self.confirmed += 1;
        }
    }

    /// What is to be sent again after a resume. A server that does not count is trusted to have
    /// everything.
    pub(crate) fn resume(&mut self, received: Option<u64>) -> Vec<ClientMessage> {
        match received {
            Some(received) => self.confirm(received),
            None => self.restart(),
        }
        self.unconfirmed.iter().cloned().collect()
    }

    /// A new session, or a server that knows nothing of the old one.
    pub(crate) fn restart(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use visavis_signaling_protocol::{IceCandidateInit, PeerId, SignalPayload};

    use super::*;

    fn signal(number: usize) -> ClientMessage {
        ClientMessage::Signal {
            to: PeerId::try_from("a".to_owned()).unwrap(),
            session: None,
            payload: SignalPayload::Candidate(IceCandidateInit {
                candidate: number.to_string(),
                sdp_mid: None,
                sdp_m_line_index: None,
                username_fragment: None,
            }),
        }
    }

    #[test]
    fn what_is_not_confirmed_is_sent_again() {
        let mut outgoing = Outgoing::default();
        for number in 0..5 {
            outgoing.sent(signal(number));
        }
        outgoing.confirm(2);
        assert_eq!(outgoing.resume(Some(3)), [signal(3), signal(4)]);
        assert_eq!(outgoing.resume(None), []);
    }

    #[test]
    fn room_is_limited_and_asked_for_in_time() {
        let mut outgoing = Outgoing::default();
        let asks = (0..UNCONFIRMED_SIGNALS).filter(|n| outgoing.sent(signal(*n))).count();
        assert_eq!(asks, 4);
        assert!(!outgoing.has_room());
        outgoing.confirm(u64::MAX);
        assert!(outgoing.has_room());
    }
}
