//! What relays refuse: the errors in their answers to Allocate requests, which the stack keeps to
//! itself (W3C `icecandidateerror`). Sans-IO.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// Allocate requests under way.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    requests: VecDeque<Request>,
}

#[derive(Debug)]
struct Request {
    transaction: [u8; 12],
    /// Whether it says who asks; the first one never does.
    signed: bool,
    /// Until when its user name says that it counts, Unix seconds.
    expiry: Option<u64>,
}

/// Why a relay gives no address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// STUN error code.
    pub(crate) code: u16,
    /// For people.
    pub(crate) reason: String,
}

impl Refusals {
    /// A datagram is sent.
    pub(crate) fn on_send(&mut self, datagram: &[u8]) {
        let Some((ALLOCATE_REQUEST, transaction)) = stun_header(datagram) else { return };
        if self.requests.len() >= MAX_REQUESTS {
            self.requests.pop_front();
        }
        let signed = attribute(datagram, MESSAGE_INTEGRITY).is_some();
        let expiry = attribute(datagram, USERNAME).and_then(expiry);
        self.requests.push_back(Request { transaction, signed, expiry });
    }

    /// A datagram came. Gives what it refuses for good: asking who we are, or for the current nonce,
    /// is part of the protocol. `unix_now` is the time since 1970.
    pub(crate) fn on_receive(&mut self, datagram: &[u8], unix_now: Duration) -> Option<Refusal> {
        let (kind, transaction) = stun_header(datagram)?;
        if !matches!(kind, ALLOCATE_SUCCESS | ALLOCATE_ERROR) {
            return None;
        }
        let at = self.requests.iter().position(|r| r.transaction == transaction)?;
        let request = self.requests.remove(at)?;
        if kind == ALLOCATE_SUCCESS {
            return None;
        }
        let (code, words) = error_code(attribute(datagram, ERROR_CODE)?)?;
        let reason = match code {
            401 if !request.signed => return None,
            438 => return None,
            // Relays answer both alike.
            401 if request.expiry.is_some_and(|expiry| expiry < unix_now.as_secs()) => {
                "the relay does not accept the credentials any more: their time is over".to_owned()
            }
            401 => {
                "the relay does not accept the user name and password: they are wrong".to_owned()
            }
            403 => "the relay forbids it".to_owned(),
            // Our own last allocation from this address is not over yet.
            437 => "the relay still holds an earlier allocation of this address".to_owned(),
            486 => "this user has as many allocations as the relay allows".to_owned(),
            508 => "the relay is full".to_owned(),
            _ => format!("the relay refuses ({words})"),
        };
        Some(Refusal { code, reason })
    }
}

/// The relayed address in the answer to an Allocate request that was granted.
pub(crate) fn granted(datagram: &[u8]) -> Option<SocketAddr> {
    let (ALLOCATE_SUCCESS, _) = stun_header(datagram)? else { return None };
    xor_address(datagram, XOR_RELAYED_ADDRESS)
}

/// Type and transaction of a STUN message (RFC 8489 §5).
pub(crate) fn stun_header(datagram: &[u8]) -> Option<(u16, [u8; 12])> {
    let (header, _) = datagram.split_first_chunk::<20>()?;
    let [a, b, _, _, cookie @ .., _, _, _, _, _, _, _, _, _, _, _, _] = header;
    if *cookie != MAGIC_COOKIE {
        return None;
    }
    Some((u16::from_be_bytes([*a, *b]), header[8..].try_into().ok()?))
}

/// The value of the first attribute of this type.
pub(crate) fn attribute(datagram: &[u8], wanted: u16) -> Option<&[u8]> {
    let mut rest = datagram.get(20..)?;
    loop {
        let ([a, b, c, d], after) = rest.split_first_chunk::<4>()?;
        let length = usize::from(u16::from_be_bytes([*c, *d]));
        if u16::from_be_bytes([*a, *b]) == wanted {
            return after.get(..length);
        }
        rest = after.get(length.next_multiple_of(4)..)?;
    }
}

/// The address in an attribute that hides it from NATs (RFC 8489 §14.2): behind the magic cookie, for IPv6
/// also behind the transaction.
pub(crate) fn xor_address(datagram: &[u8], wanted: u16) -> Option<SocketAddr> {
    let ([_, _, p0, p1], ip) = attribute(datagram, wanted)?.split_first_chunk::<4>()?;
    let mask = datagram.get(4..20)?;
    let port = u16::from_be_bytes([p0 ^ mask[0], p1 ^ mask[1]]);
    let plain: Vec<u8> = ip.iter().zip(mask).map(|(a, b)| a ^ b).collect();
    let ip: IpAddr = match plain.as_slice() {
        [a, b, c, d] => Ipv4Addr::new(*a, *b, *c, *d).into(),
        sixteen => <[u8; 16]>::try_from(sixteen).map(Ipv6Addr::from).ok()?.into(),
    };
    Some(SocketAddr::new(ip, port))
}

/// When a minted user name, `EXPIRY` or `EXPIRY:ANYTHING` (draft-uberti-behave-turn-rest-00 §2.2),
/// ceases to count; other names count for ever.
fn expiry(username: &[u8]) -> Option<u64> {
    let digits = username.split(|byte| *byte == b':').next()?;
    // A shorter number is somebody's name: it would be a time before 2001.
    let number = (10..=12).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| number)?.parse().ok()
}

/// RFC 8489 §14.8.
pub(crate) fn error_code(value: &[u8]) -> Option<(u16, String)> {
    let ([_, _, class, number], words) = value.split_first_chunk::<4>()?;
    let code = u16::from(class & 7) * 100 + u16::from(*number);
    let words: String =
        String::from_utf8_lossy(words).chars().filter(|c| !c.is_control()).take(120).collect();
    Some((code, format!("{code} {words}").trim_end().to_owned()))
}

const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
/// RFC 8656 §17.
const ALLOCATE_REQUEST: u16 = 0x0003;
const ALLOCATE_SUCCESS: u16 = 0x0103;
const ALLOCATE_ERROR: u16 = 0x0113;
/// RFC 8489 §14.
const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
/// RFC 8656 §18.
const XOR_RELAYED_ADDRESS: u16 = 0x0016;
const MAX_REQUESTS: usize = 64;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Duration = Duration::from_secs(1_800_000_000);

    fn message(kind: u16, transaction: u8, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = Vec::new();
        for (kind, value) in attributes {
            body.extend(kind.to_be_bytes());
            body.extend((value.len() as u16).to_be_bytes());
            body.extend(*value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        let mut message = kind.to_be_bytes().to_vec();
        message.extend((body.len() as u16).to_be_bytes());
        message.extend(MAGIC_COOKIE);
        message.extend([transaction; 12]);
        message.extend(body);
        message
    }

    fn answer(transaction: u8, code: u16, words: &str) -> Vec<u8> {
        let value = [&[0, 0, (code / 100) as u8, (code % 100) as u8], words.as_bytes()].concat();
        message(ALLOCATE_ERROR, transaction, &[(0x0014, b"realm"), (ERROR_CODE, &value)])
    }

    #[test]
    fn a_challenge_is_no_refusal_and_the_second_one_is() {
        let mut refusals = Refusals::default();
        refusals.on_send(&message(ALLOCATE_REQUEST, 1, &[]));
        assert_eq!(refusals.on_receive(&answer(1, 401, "Unauthorized"), NOW), None);
        refusals.on_send(&message(ALLOCATE_REQUEST, 2, &[(MESSAGE_INTEGRITY, &[0; 20])]));
        let refusal = refusals.on_receive(&answer(2, 401, "Unauthorized"), NOW).unwrap();
        assert_eq!(refusal.code, 401);
        assert!(refusal.reason.contains("password"), "{}", refusal.reason);
        // Said once.
        assert_eq!(refusals.on_receive(&answer(2, 401, "Unauthorized"), NOW), None);
        // Nobody asked.
        assert_eq!(refusals.on_receive(&answer(9, 508, ""), NOW), None);
    }

    #[test]
    fn the_granted_address_is_read() {
        // RFC 5769 §2.2 and §2.3 have these addresses xored, for their transaction.
        let transaction = [0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae];
        let v4 = [0, 1, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43];
        let v6 = [
            0, 2, 0xa1, 0x47, 0x01, 0x13, 0xa9, 0xfa, 0xa5, 0xd3, 0xf1, 0x79, 0xbc, 0x25, 0xf4,
            0xb5, 0xbe, 0xd2, 0xb9, 0xd9,
        ];
        for (value, wanted) in
            [(&v4[..], "192.0.2.1:32853"), (&v6, "[2001:db8:1234:5678:11:2233:4455:6677]:32853")]
        {
            let mut answer = message(ALLOCATE_SUCCESS, 0, &[(XOR_RELAYED_ADDRESS, value)]);
            answer[8..20].copy_from_slice(&transaction);
            assert_eq!(granted(&answer), Some(wanted.parse().unwrap()));
            answer[0] = 0;
            assert_eq!(granted(&answer), None);
        }
    }

    #[test]
    fn credentials_that_are_over_and_wrong_ones_are_told_apart() {
        let mut refusals = Refusals::default();
        for (username, over) in [
            ("1799999999:peer", true),
            ("1799999999", true),
            ("1800000001:peer", false),
            ("visavis", false),
            ("12345", false),
            ("1799999999x:peer", false),
            ("", false),
        ] {
            let attributes = [(USERNAME, username.as_bytes()), (MESSAGE_INTEGRITY, &[0; 20])];
            refusals.on_send(&message(ALLOCATE_REQUEST, 4, &attributes));
            let refusal = refusals.on_receive(&answer(4, 401, "Unauthorized"), NOW).unwrap();
            let words = if over { "time is over" } else { "wrong" };
            assert!(refusal.reason.contains(words), "{username}: {}", refusal.reason);
        }
    }

    #[test]
    fn other_codes_have_their_words() {
        let mut refusals = Refusals::default();
        for (code, words) in [(486, "allocations"), (508, "full"), (300, "300 Try Alternate")] {
            refusals.on_send(&message(ALLOCATE_REQUEST, 3, &[(MESSAGE_INTEGRITY, &[0; 20])]));
            let refusal = refusals.on_receive(&answer(3, code, "Try Alternate"), NOW).unwrap();
            assert_eq!(refusal.code, code);
            assert!(refusal.reason.contains(words), "{}", refusal.reason);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(mut bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let mut refusals = Refusals::default();
            refusals.on_send(&message(ALLOCATE_REQUEST, 0, &[]));
            refusals.on_receive(&bytes, NOW);
            let kind = if bytes.len() % 2 == 0 { ALLOCATE_ERROR } else { ALLOCATE_SUCCESS };
            bytes.splice(0..0, message(kind, 0, &[]));
            let _ = granted(&bytes);
            refusals.on_receive(&bytes, NOW);
            refusals.on_send(&bytes);
        }
    }
}
