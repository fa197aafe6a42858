//! The first flight of a DTLS client in its answer: an offerer of ours has it as soon as it has the answer, half a round
//! trip before it could come over a path that is checked only then. Session-level attributes, which others ignore
//! (RFC 8866 §5.13); docs/protocol.md specifies them.
//!
//! It is looked at like a datagram of the network: whoever carries signaling could as well leave the answer out.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::BytesMut;

use crate::sdp;

/// An offer with the attribute that says that a flight is taken from the answer.
pub(super) fn announce(offer: &str) -> String {
    insert(offer, &format!("a={ATTRIBUTE}:{VERSION}\r\n"))
}

/// Whether an offer has it.
pub(super) fn is_taken(offer: &str) -> bool {
    values(offer).any(|value| value == VERSION)
}

/// An answer with the datagrams of a flight.
pub(super) fn put_into(answer: &str, flight: &[Vec<u8>]) -> String {
    let lines = flight.iter().take(MAX_DATAGRAMS).map(|datagram| {
        format!("a={ATTRIBUTE}:{VERSION} {}\r\n", STANDARD_NO_PAD.encode(datagram))
    });
    insert(answer, &lines.collect::<String>())
}

/// The datagrams in an answer.
pub(super) fn of(answer: &str) -> impl Iterator<Item = BytesMut> + '_ {
    values(answer)
        .filter_map(|value| value.strip_prefix(VERSION)?.strip_prefix(' '))
        .filter_map(|encoded| STANDARD_NO_PAD.decode(encoded).ok())
        .filter(|datagram| datagram.len() <= MAX_BYTES)
        .map(|datagram| BytesMut::from(&datagram[..]))
        .take(MAX_DATAGRAMS)
}

fn values(description: &str) -> impl Iterator<Item = &str> {
    let (session, _) = sdp::split(description);
    session.lines().filter_map(|line| {
        line.strip_prefix("a=")?.strip_prefix(ATTRIBUTE)?.strip_prefix(':').map(str::trim_end)
    })
}

fn insert(description: &str, lines: &str) -> String {
    let (session, _) = sdp::split(description);
    let (session, sections) = description.split_at(session.len());
    [session, lines, sections].concat()
}

const ATTRIBUTE: &str = "x-visavis-dtls";
const VERSION: &str = "1";
/// A ClientHello is one of some 150 bytes.
const MAX_DATAGRAMS: usize = 4;
const MAX_BYTES: usize = 1500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flight_goes_through_an_answer() {
        let sdp = "v=0\r\na=group:BUNDLE 0\r\nm=audio 9 X 0\r\na=mid:0\r\n";
        let offer = announce(sdp);
        assert!(is_taken(&offer) && !is_taken(sdp));
        assert_eq!(of(&offer).count(), 0);
        let flight = [vec![22, 254, 253, 0, 1], vec![7; 200]];
        let answer = put_into(sdp, &flight);
        assert_eq!(of(&answer).map(|d| d.to_vec()).collect::<Vec<_>>(), flight);
        assert!(!is_taken(&answer) && answer.ends_with("\r\nm=audio 9 X 0\r\na=mid:0\r\n"));
        for odd in ["a=x-visavis-dtls:1 %%%", "a=x-visavis-dtls:2 AAAA", "a=x-visavis-dtls:1"] {
            assert_eq!(of(&format!("v=0\r\n{odd}\r\n")).count(), 0, "{odd}");
        }
    }
}
