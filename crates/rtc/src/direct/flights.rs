//! DTLS flights that may be lost are sent again sooner than the stack does it. Sans-IO.
//!
//! The stack repeats a flight after a second (RFC 6347 §4.2.4.1), a long time in a set-up of half a second. And
//! rtc-dtls 0.21.1 never repeats its client's last flight once the server has repeated its own: each server's
//! repetition stops the client's timer, and without that flight the handshake fails. Here the datagrams of a flight go
//! again, as they were, until the other side has taken the next step. A record that did arrive is known by its sequence
//! number and dropped (RFC 6347 §4.1.2.6), so one too many does no harm.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// What a datagram is to a handshake, by its first record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Handshake,
    /// Nobody sends that before its own handshake is over: SRTP, SRTCP or application data.
    Data,
    Other,
}

/// The flight under way, ours.
#[derive(Debug, Default)]
pub(super) struct Flights {
    datagrams: Vec<(SocketAddr, Vec<u8>)>,
    /// The socket that it left.
    local: Option<SocketAddr>,
    /// Whether we are the DTLS client, once that shows.
    client: Option<bool>,
    last_sent: Option<Instant>,
    next: Option<Instant>,
    interval: Duration,
    repeats: u32,
    /// Whether part of a handshake came since it began.
    answered: bool,
    settled: bool,
}

impl Flights {
    /// Whether both sides are known to be through.
    pub(super) fn is_settled(&self) -> bool {
        self.settled
    }

    /// The stack sends `datagram`, which holds `payload`. True if a flight begins.
    pub(super) fn on_send(
        &mut self,
        now: Instant,
        local: SocketAddr,
        (destination, datagram): (SocketAddr, &[u8]),
        payload: &[u8],
        round_trip: Option<Duration>,
    ) -> bool {
        match kind(payload) {
            // The client is through when the server's last flight has come.
            Kind::Data if self.answered && self.client == Some(true) => self.settle(),
            Kind::Handshake if !self.settled => {
                self.client.get_or_insert(payload.get(HANDSHAKE_TYPE) == Some(&CLIENT_HELLO));
                let begins = self.answered
                    || self.local != Some(local)
                    || self.last_sent.is_none_or(|at| now > at + BURST);
                if begins {
                    let wait = round_trip.map_or(UNKNOWN, |round_trip| round_trip * 3 / 2);
                    self.interval = wait.clamp(SHORTEST, LONGEST);
                    self.next = Some(now + self.interval);
                    self.datagrams.clear();
                    (self.answered, self.repeats, self.local) = (false, 0, Some(local));
                }
                self.last_sent = Some(now);
                if self.datagrams.len() < MAX_DATAGRAMS {
                    self.datagrams.push((destination, datagram.to_vec()));
                }
                return begins;
            }
            _ => {}
        }
        false
    }

    /// The other side sent this.
    pub(super) fn on_receive(&mut self, payload: &[u8]) {
        match kind(payload) {
            Kind::Handshake => self.answered = true,
            Kind::Data => self.settle(),
            Kind::Other => {}
        }
    }

    /// What is to be sent again by this socket, and when to ask the next time.
    pub(super) fn due(
        &mut self,
        now: Instant,
        local: SocketAddr,
    ) -> (Vec<(SocketAddr, Vec<u8>)>, Option<Instant>) {
        if self.local != Some(local) {
            return (Vec::new(), None);
        }
        let Some(_) = self.next.filter(|at| *at <= now) else { return (Vec::new(), self.next) };
        self.repeats += 1;
        self.interval = (2 * self.interval).min(LONGEST);
        self.next = (self.repeats < MAX_REPEATS).then_some(now + self.interval);
        (self.datagrams.clone(), self.next)
    }

    fn settle(&mut self) {
        *self = Self { settled: true, ..Self::default() };
    }
}

fn kind(payload: &[u8]) -> Kind {
    match payload.first() {
        // change_cipher_spec, handshake; application_data (RFC 5246 §6.2.1).
        Some(20 | 22) => Kind::Handshake,
        Some(23 | 128..=191) => Kind::Data,
        _ => Kind::Other,
    }
}

/// Where a record's handshake message has its type, behind the record's header (RFC 6347 §4.1, §4.2.2).
const HANDSHAKE_TYPE: usize = 13;
const CLIENT_HELLO: u8 = 1;
/// One and a half round trips, within these. libwebrtc waits two (`kMinDtlsHandshakeTimeoutMs` is the lower one), but
/// makes its records anew.
const SHORTEST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(1);
/// Where no check of ours was answered.
const UNKNOWN: Duration = Duration::from_millis(200);
/// Datagrams of a flight follow each other at once; the stack's own repetition comes a second later.
const BURST: Duration = Duration::from_millis(500);
/// Over more than the 8 s after which the stack gives up.
const MAX_REPEATS: u32 = 10;
const MAX_DATAGRAMS: usize = 16;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(100);
    const CLIENT_HELLO_RECORD: [u8; 14] = [22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1];
    const SERVER_HELLO_RECORD: [u8; 14] = [22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2];
    const CHANGE_CIPHER_SPEC: [u8; 14] = [20, 254, 253, 0, 0, 0, 0, 0, 0, 0, 3, 0, 1, 1];
    const APPLICATION_DATA: [u8; 3] = [23, 254, 253];
    const SRTP: [u8; 2] = [128, 96];

    fn local() -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], 1000))
    }

    fn send(flights: &mut Flights, now: Instant, datagram: &[u8]) -> bool {
        let to = SocketAddr::from(([192, 0, 2, 2], 2000));
        flights.on_send(now, local(), (to, datagram), datagram, Some(RTT))
    }

    /// When what is sent again within ten seconds, ms after `start`.
    fn repeats(flights: &mut Flights, start: Instant) -> Vec<(u128, usize)> {
        let mut all = Vec::new();
        for ms in 0..10_000 {
            let now = start + Duration::from_millis(ms);
            let (due, _) = flights.due(now, local());
            if !due.is_empty() {
                all.push(((now - start).as_millis(), due.len()));
            }
        }
        all
    }

    #[test]
    fn a_flight_goes_again_after_one_and_a_half_round_trips_and_ever_later() {
        let (mut flights, start) = (Flights::default(), Instant::now());
        assert!(send(&mut flights, start, &CLIENT_HELLO_RECORD));
        assert!(!send(&mut flights, start, &CHANGE_CIPHER_SPEC));
        assert_eq!(flights.due(start, local()).1, Some(start + 3 * RTT / 2));
        let times = [150, 450, 1050, 2050, 3050, 4050, 5050, 6050, 7050, 8050];
        assert_eq!(repeats(&mut flights, start), times.map(|at| (at, 2)));
        // The stack's own repetition counts as a flight.
        assert!(send(&mut flights, start + 10 * RTT, &CLIENT_HELLO_RECORD));
        assert_eq!(flights.due(start + 12 * RTT, local()).0.len(), 1);
    }

    #[test]
    fn an_answer_in_part_does_not_stop_it_but_the_next_flight_does() {
        let (mut flights, start) = (Flights::default(), Instant::now());
        send(&mut flights, start, &CLIENT_HELLO_RECORD);
        flights.on_receive(&SERVER_HELLO_RECORD);
        assert_eq!(flights.due(start + 2 * RTT, local()).0.len(), 1);
        assert!(send(&mut flights, start + 3 * RTT, &CHANGE_CIPHER_SPEC));
        let (due, _) = flights.due(start + 5 * RTT, local());
        assert_eq!(due[0].1, CHANGE_CIPHER_SPEC);
    }

    #[test]
    fn the_client_is_through_when_it_sends_data_and_the_server_when_data_comes() {
        let start = Instant::now();
        let mut client = Flights::default();
        send(&mut client, start, &CLIENT_HELLO_RECORD);
        // Not by data that is nobody's answer.
        send(&mut client, start, &SRTP);
        assert!(!client.is_settled());
        client.on_receive(&CHANGE_CIPHER_SPEC);
        send(&mut client, start, &APPLICATION_DATA);
        assert!(client.is_settled() && repeats(&mut client, start).is_empty());

        let mut server = Flights::default();
        send(&mut server, start, &SERVER_HELLO_RECORD);
        server.on_receive(&CHANGE_CIPHER_SPEC);
        send(&mut server, start, &CHANGE_CIPHER_SPEC);
        // The client's flight once more, so ours may be lost.
        server.on_receive(&CHANGE_CIPHER_SPEC);
        send(&mut server, start, &SRTP);
        assert_eq!(server.due(start + 2 * RTT, local()).0.len(), 1);
        server.on_receive(&SRTP);
        assert!(server.is_settled());
        assert!(!send(&mut server, start, &SERVER_HELLO_RECORD));
    }

    #[test]
    fn only_the_socket_that_sent_it_repeats_it() {
        let (mut flights, start) = (Flights::default(), Instant::now());
        send(&mut flights, start, &CLIENT_HELLO_RECORD);
        let other = SocketAddr::from(([192, 0, 2, 9], 1000));
        assert_eq!(flights.due(start + 10 * RTT, other), (Vec::new(), None));
    }
}
