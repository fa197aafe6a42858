//! The DTLS handshake from outside of the stack. Sans-IO.
//!
//! DTLS flights that may be lost are sent again sooner than the stack does it: it repeats a flight after a second
//! (RFC 6347 §4.2.4.1), a long time in a set-up of half a second. And rtc-dtls 0.21.1 never repeats its client's last
//! flight once the server has repeated its own: each server's repetition stops the client's timer, and without that
//! flight the handshake fails. Here the datagrams of a flight go twice, and again, as they were, until the remote peer has taken
//! the next step. A record that did arrive is known by its sequence number and dropped (RFC 6347 §4.1.2.6), so one
//! too many does no harm.

use std::time::{Duration, Instant};

/// What a datagram is to a handshake, by its first record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Handshake,
    /// Nobody sends that before its own handshake is over: SRTP, SRTCP or application data.
    Data,
    Other,
}

/// Our flight under way, and how far the handshake is.
#[derive(Debug, Default)]
pub(super) struct DtlsRetransmission {
    flight: Vec<Vec<u8>>,
    /// Of the flight, sent.
    sent: usize,
    /// Whether we are the DTLS client, once that shows.
    client: Option<bool>,
    last_sent: Option<Instant>,
    next: Option<Instant>,
    interval: Duration,
    repeats: u32,
    /// Whether part of a handshake came since the flight began.
    answered: bool,
    complete: bool,
}

impl DtlsRetransmission {
    /// Whether both sides are known to have their keys.
    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    /// The stack sends a datagram. True if it is of a flight, and to be taken from [`Self::unsent`] once there is a
    /// path.
    pub(super) fn on_send(&mut self, now: Instant, datagram: &[u8]) -> bool {
        match kind(datagram) {
            // The client is through when the server's last flight has come.
            Kind::Data if self.answered && self.client == Some(true) => self.finish(),
            Kind::Handshake if !self.complete => {
                self.client.get_or_insert(datagram.get(HANDSHAKE_TYPE) == Some(&CLIENT_HELLO));
                let begins = self.answered || self.last_sent.is_none_or(|at| now > at + BURST);
                if begins {
                    self.flight.clear();
                    (self.answered, self.sent, self.next) = (false, 0, None);
                }
                self.last_sent = Some(now);
                if self.flight.len() < MAX_DATAGRAMS {
                    self.flight.push(datagram.to_vec());
                    return true;
                }
            }
            _ => {}
        }
        false
    }

    /// Whether something of the flight was not sent yet.
    pub(super) fn has_unsent(&self) -> bool {
        self.sent < self.flight.len()
    }

    /// What of the flight was not sent yet, which it counts as from now on.
    pub(super) fn unsent(&mut self, now: Instant, round_trip: Option<Duration>) -> Vec<Vec<u8>> {
        let wait = round_trip.map_or(UNKNOWN, |round_trip| round_trip * 5 / 4);
        self.interval = wait.clamp(SHORTEST, LONGEST);
        self.next = Some(now + COPY_AFTER);
        self.repeats = 0;
        let unsent = self.flight[self.sent..].to_vec();
        self.sent = self.flight.len();
        unsent
    }

    /// The remote peer sent this.
    pub(super) fn on_receive(&mut self, datagram: &[u8]) {
        match kind(datagram) {
            Kind::Handshake => self.answered = true,
            Kind::Data => self.finish(),
            Kind::Other => {}
        }
    }

    /// What is to be sent again; to be asked for only while there is a path.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Vec<u8>> {
        if self.next.is_none_or(|at| at > now) {
            return Vec::new();
        }
        self.repeats += 1;
        self.next = (self.repeats < MAX_REPEATS).then_some(now + self.interval);
        // The first one is the copy.
        if self.repeats > 1 {
            self.interval = (self.interval * 3 / 2).min(LONGEST);
        }
        self.sent = self.flight.len();
        self.flight.clone()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.next
    }

    fn finish(&mut self) {
        *self = Self { complete: true, ..Self::default() };
    }
}

fn kind(datagram: &[u8]) -> Kind {
    match datagram.first() {
        // change_cipher_spec, handshake; application_data (RFC 5246 §6.2.1).
        Some(20 | 22) => Kind::Handshake,
        Some(23 | 128..=191) => Kind::Data,
        _ => Kind::Other,
    }
}

/// Where a record's handshake message has its type, behind the record's header (RFC 6347 §4.1, §4.2.2).
const HANDSHAKE_TYPE: usize = 13;
const CLIENT_HELLO: u8 = 1;
/// A copy of each flight: a second or so of waiting for two kilobytes. Who has both drops one.
const COPY_AFTER: Duration = Duration::from_millis(15);
/// One and a quarter round trips, within these. libwebrtc waits two (`kMinDtlsHandshakeTimeoutMs` is the lower one), but
/// makes its records anew.
const SHORTEST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(1);
/// Where no check of ours was answered.
const UNKNOWN: Duration = Duration::from_millis(200);
/// Datagrams of a flight follow each other at once; the stack's own repetition comes a second later.
const BURST: Duration = Duration::from_millis(500);
/// Over more than the 8 s after which the stack gives up.
const MAX_REPEATS: u32 = 16;
const MAX_DATAGRAMS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(100);
    const CLIENT_HELLO_RECORD: [u8; 14] = [22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1];
    const SERVER_HELLO_RECORD: [u8; 14] = [22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2];
    const CHANGE_CIPHER_SPEC: [u8; 14] = [20, 254, 253, 0, 0, 0, 0, 0, 0, 0, 3, 0, 1, 1];
    const APPLICATION_DATA: [u8; 3] = [23, 254, 253];
    const SRTP: [u8; 2] = [128, 96];

    #[allow(clippy::disallowed_methods, reason = "some moment to count from")]
    fn start() -> Instant {
        Instant::now()
    }

    fn send(handshake: &mut DtlsRetransmission, now: Instant, datagram: &[u8]) {
        if handshake.on_send(now, datagram) {
            handshake.unsent(now, Some(RTT));
        }
    }

    /// When what is sent again within ten seconds, ms after `start`.
    fn repeats(handshake: &mut DtlsRetransmission, start: Instant) -> Vec<(u128, usize)> {
        let mut all = Vec::new();
        for ms in 0..10_000 {
            let now = start + Duration::from_millis(ms);
            let due = handshake.due(now);
            if !due.is_empty() {
                all.push(((now - start).as_millis(), due.len()));
            }
        }
        all
    }

    #[test]
    fn a_flight_goes_twice_and_again_after_a_round_trip_and_ever_later() {
        let (mut handshake, start) = (DtlsRetransmission::default(), start());
        send(&mut handshake, start, &CLIENT_HELLO_RECORD);
        send(&mut handshake, start, &CHANGE_CIPHER_SPEC);
        assert_eq!(handshake.deadline(), Some(start + COPY_AFTER));
        let all = repeats(&mut handshake, start);
        assert_eq!(all[..4], [(15, 2), (140, 2), (265, 2), (453, 2)]);
        assert!(all.last().is_some_and(|last| last.0 > 8000), "{all:?}");
        // The stack's own repetition counts as a flight.
        send(&mut handshake, start + 10 * RTT, &CLIENT_HELLO_RECORD);
        assert_eq!(handshake.due(start + 12 * RTT).len(), 1);
    }

    #[test]
    fn an_answer_in_part_does_not_stop_it_but_the_next_flight_does() {
        let (mut handshake, start) = (DtlsRetransmission::default(), start());
        send(&mut handshake, start, &CLIENT_HELLO_RECORD);
        assert_eq!(handshake.due(start + COPY_AFTER).len(), 1);
        handshake.on_receive(&SERVER_HELLO_RECORD);
        assert_eq!(handshake.due(start + 2 * RTT).len(), 1);
        send(&mut handshake, start + 3 * RTT, &CHANGE_CIPHER_SPEC);
        assert_eq!(handshake.due(start + 5 * RTT), [CHANGE_CIPHER_SPEC.to_vec()]);
    }

    #[test]
    fn the_client_is_through_when_it_sends_data_and_the_server_when_data_comes() {
        let start = start();
        let mut client = DtlsRetransmission::default();
        send(&mut client, start, &CLIENT_HELLO_RECORD);
        // Not by data that is nobody's answer.
        send(&mut client, start, &SRTP);
        assert!(!client.is_complete());
        client.on_receive(&CHANGE_CIPHER_SPEC);
        send(&mut client, start, &APPLICATION_DATA);
        assert!(client.is_complete() && repeats(&mut client, start).is_empty());

        let mut server = DtlsRetransmission::default();
        send(&mut server, start, &SERVER_HELLO_RECORD);
        server.on_receive(&CHANGE_CIPHER_SPEC);
        send(&mut server, start, &CHANGE_CIPHER_SPEC);
        // The client's flight once more, so ours may be lost.
        server.on_receive(&CHANGE_CIPHER_SPEC);
        send(&mut server, start, &SRTP);
        assert_eq!(server.due(start + 2 * RTT).len(), 1);
        server.on_receive(&SRTP);
        assert!(server.is_complete());
        send(&mut server, start, &SERVER_HELLO_RECORD);
        assert_eq!(server.deadline(), None);
    }
}
