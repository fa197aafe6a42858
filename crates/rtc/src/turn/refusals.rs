//! What relays refuse: the errors in their answers to Allocate requests, which the stack keeps to
//! itself (W3C `icecandidateerror`). Sans-IO.

use std::collections::VecDeque;

/// Allocate requests under way.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    requests: VecDeque<Request>,
}

#[derive(Debug)]
struct Request {
    transaction: [u8; 12],
    /// Whether it says who asks; the first one never does.
    signed: bool,
}

/// Why a relay gives no address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// STUN error code.
    pub(super) code: u16,
    /// For people.
    pub(super) reason: String,
}

impl Refusals {
    /// A datagram is sent.
    pub(super) fn on_send(&mut self, datagram: &[u8]) {
        let Some((ALLOCATE_REQUEST, transaction)) = stun_header(datagram) else { return };
        if self.requests.len() >= MAX_REQUESTS {
            self.requests.pop_front();
        }
        let signed = attribute(datagram, MESSAGE_INTEGRITY).is_some();
        self.requests.push_back(Request { transaction, signed });
    }

    /// A datagram came. Gives what it refuses for good: asking who we are, or for the current nonce,
    /// is part of the protocol.
    pub(super) fn on_receive(&mut self, datagram: &[u8]) -> Option<Refusal> {
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
            401 => "the relay does not accept the user name and password: they are wrong, or \
                    their time is over"
                .to_owned(),
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

/// Type and transaction of a STUN message (RFC 8489 §5).
fn stun_header(datagram: &[u8]) -> Option<(u16, [u8; 12])> {
    let (header, _) = datagram.split_first_chunk::<20>()?;
    let [a, b, _, _, cookie @ .., _, _, _, _, _, _, _, _, _, _, _, _] = header;
    if *cookie != MAGIC_COOKIE {
        return None;
    }
    Some((u16::from_be_bytes([*a, *b]), header[8..].try_into().ok()?))
}

/// The value of the first attribute of this type.
fn attribute(datagram: &[u8], wanted: u16) -> Option<&[u8]> {
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

/// RFC 8489 §14.8.
fn error_code(value: &[u8]) -> Option<(u16, String)> {
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
const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
const MAX_REQUESTS: usize = 64;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
        assert_eq!(refusals.on_receive(&answer(1, 401, "Unauthorized")), None);
        refusals.on_send(&message(ALLOCATE_REQUEST, 2, &[(MESSAGE_INTEGRITY, &[0; 20])]));
        let refusal = refusals.on_receive(&answer(2, 401, "Unauthorized")).unwrap();
        assert_eq!(refusal.code, 401);
        assert!(refusal.reason.contains("password"), "{}", refusal.reason);
        // Said once.
        assert_eq!(refusals.on_receive(&answer(2, 401, "Unauthorized")), None);
        // Nobody asked.
        assert_eq!(refusals.on_receive(&answer(9, 508, "")), None);
    }

    #[test]
    fn other_codes_have_their_words() {
        let mut refusals = Refusals::default();
        for (code, words) in [(486, "allocations"), (508, "full"), (300, "300 Try Alternate")] {
            refusals.on_send(&message(ALLOCATE_REQUEST, 3, &[(MESSAGE_INTEGRITY, &[0; 20])]));
            let refusal = refusals.on_receive(&answer(3, code, "Try Alternate")).unwrap();
            assert_eq!(refusal.code, code);
            assert!(refusal.reason.contains(words), "{}", refusal.reason);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(mut bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let mut refusals = Refusals::default();
            refusals.on_send(&message(ALLOCATE_REQUEST, 0, &[]));
            refusals.on_receive(&bytes);
            let header = message(ALLOCATE_ERROR, 0, &[]);
            bytes.splice(0..0, header);
            refusals.on_receive(&bytes);
            refusals.on_send(&bytes);
        }
    }
}
