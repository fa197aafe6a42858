//! Which DTLS records the stack is given, and how. Sans-IO.
//!
//! rtc-dtls 0.21.1 puts the fragments of a handshake message together by recursion, one level a fragment, keeps
//! fragments and records of the next epoch without a bound, moves its replay window for any unauthenticated sequence
//! number, and ends the handshake on any plaintext alert or unknown record. So plaintext records are not passed on
//! as they are: [`Records`] puts handshake messages together itself, refuses what contradicts itself, and passes
//! whole messages with sequence numbers of its own. What is encrypted is bounded in number until the
//! handshake is over, and after that holds application data and alerts only.
//!
//! A browser's handshake has at most eight messages a side, some of which are repeated when packets are lost
//! (RFC 6347 §4.2.4).

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::time::{Duration, Instant};

/// How far the handshake is, as the stack and the packets so far tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HandshakePhase {
    /// The stack has no keys yet.
    UnderWay,
    /// The stack has its keys; the remote peer may still miss our last flight and repeat its own.
    LocallyComplete,
    /// Both sides have their keys.
    Complete,
}

/// The filter of one DTLS association.
#[derive(Debug)]
pub(crate) struct Records {
    /// Plaintext records, and encrypted ones before the handshake is over.
    budget: Budget,
    /// Plaintext records that came already: a datagram that the network doubled is no repetition.
    seen: VecDeque<u64>,
    /// Sequence number of the next plaintext record that the stack is given.
    next_sequence: u64,
    /// Type and length of each message, as its first fragment had it.
    announced: BTreeMap<u16, (u8, usize)>,
    partial: BTreeMap<u16, Partial>,
}

/// A handshake message of which fragments came.
#[derive(Debug)]
struct Partial {
    body: Vec<u8>,
    missing: Vec<Range<usize>>,
}

/// One record of a datagram.
#[derive(Debug, Clone, Copy)]
struct Record<'a> {
    content_type: u8,
    version: [u8; 2],
    epoch: u16,
    whole: &'a [u8],
    body: &'a [u8],
}

/// A fragment of a handshake message (RFC 6347 §4.2.2).
#[derive(Debug, Clone, Copy)]
struct Fragment<'a> {
    message_type: u8,
    length: usize,
    message_sequence: u16,
    offset: usize,
    data: &'a [u8],
}

impl Records {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            budget: Budget::new(now),
            seen: VecDeque::new(),
            next_sequence: 0,
            announced: BTreeMap::new(),
            partial: BTreeMap::new(),
        }
    }

    /// Whether the stack may have this datagram as it is, without [`Self::filter`]: encrypted application data and alerts
    /// after the handshake.
    pub(crate) fn passes_untouched(phase: HandshakePhase, datagram: &[u8]) -> bool {
        phase != HandshakePhase::UnderWay
            && split(datagram).is_some_and(|records| {
                records.iter().all(|record| {
                    record.epoch == 1
                        && matches!(record.content_type, ALERT | APPLICATION_DATA)
                        && is_version(record.version)
                })
            })
    }

    /// The datagrams that the stack is to have instead of this one.
    pub(crate) fn filter(
        &mut self,
        now: Instant,
        phase: HandshakePhase,
        datagram: &[u8],
    ) -> Vec<Vec<u8>> {
        let mut passed = Vec::new();
        // The stack takes a datagram whole or not at all.
        for record in split(datagram).unwrap_or_default() {
            if !is_version(record.version) {
                continue;
            }
            match (record.epoch, record.content_type) {
                (0, HANDSHAKE | CHANGE_CIPHER_SPEC)
                    if phase != HandshakePhase::Complete
                        && !self.is_repeated_by_the_network(record.whole)
                        && self.budget.take(now, record.whole.len()) =>
                {
                    self.plaintext(record, &mut passed);
                }
                (1, HANDSHAKE) if phase != HandshakePhase::Complete => {
                    let fits = record.whole.len() <= MAX_FINISHED_BYTES;
                    if fits && self.budget.take(now, record.whole.len()) {
                        passed.push(record.whole.to_vec());
                    }
                }
                (1, ALERT | APPLICATION_DATA) => {
                    let over = phase != HandshakePhase::UnderWay;
                    if over || self.budget.take(now, record.whole.len()) {
                        passed.push(record.whole.to_vec());
                    }
                }
                _ => {}
            }
        }
        passed
    }

    fn is_repeated_by_the_network(&mut self, record: &[u8]) -> bool {
        let mut hasher = DefaultHasher::new();
        record.hash(&mut hasher);
        let hash = hasher.finish();
        if self.seen.contains(&hash) {
            return true;
        }
        if self.seen.len() >= MAX_SEEN {
            self.seen.pop_front();
        }
        self.seen.push_back(hash);
        false
    }

    fn plaintext(&mut self, record: Record<'_>, passed: &mut Vec<Vec<u8>>) {
        if record.content_type == CHANGE_CIPHER_SPEC {
            if record.body == [1] {
                passed.push(self.plaintext_record(record, &[1]));
            }
            return;
        }
        let Some(fragments) = fragments(record.body) else { return };
        for fragment in fragments {
            let Some(body) = self.take_fragment(fragment) else { continue };
            // In pieces that fit the stack's buffers, which hold no more than a datagram.
            let mut offset = 0;
            loop {
                let end = (offset + MAX_PIECE_BYTES).min(body.len());
                let mut message = vec![fragment.message_type];
                message.extend(u24(body.len()));
                message.extend(fragment.message_sequence.to_be_bytes());
                message.extend(u24(offset));
                message.extend(u24(end - offset));
                message.extend_from_slice(&body[offset..end]);
                passed.push(self.plaintext_record(record, &message));
                offset = end;
                if offset == body.len() {
                    break;
                }
            }
        }
    }

    /// The message's body, if this completes it.
    fn take_fragment(&mut self, fragment: Fragment<'_>) -> Option<Vec<u8>> {
        let Fragment { message_type, length, message_sequence, offset, data } = fragment;
        let announced = self.announced.entry(message_sequence).or_insert((message_type, length));
        if *announced != (message_type, length) {
            return None;
        }
        if data.len() == length {
            self.partial.remove(&message_sequence);
            return Some(data.to_vec());
        }
        let partial = self.partial.entry(message_sequence).or_insert_with(|| Partial {
            body: vec![0; length],
            missing: std::iter::once(0..length).collect(),
        });
        if !partial.add(offset, data) {
            return None;
        }
        self.partial.remove(&message_sequence).map(|partial| partial.body)
    }

    fn plaintext_record(&mut self, like: Record<'_>, body: &[u8]) -> Vec<u8> {
        let mut record = vec![like.content_type];
        record.extend(like.version);
        // Epoch 0 and 48 bits of sequence number.
        record.extend([0, 0]);
        record.extend_from_slice(&self.next_sequence.to_be_bytes()[2..]);
        self.next_sequence += 1;
        let length = u16::try_from(body.len()).unwrap_or(u16::MAX);
        record.extend(length.to_be_bytes());
        record.extend_from_slice(body);
        record
    }
}

impl Partial {
    /// True if nothing is missing any more. Bytes that contradict earlier ones are refused.
    fn add(&mut self, offset: usize, data: &[u8]) -> bool {
        let end = offset + data.len();
        let mut merged = self.body[offset..end].to_vec();
        let mut still_missing = Vec::new();
        for gap in &self.missing {
            let (from, to) = (gap.start.clamp(offset, end), gap.end.clamp(offset, end));
            merged[from - offset..to - offset].copy_from_slice(&data[from - offset..to - offset]);
            for left in [gap.start..gap.end.min(offset), gap.start.max(end)..gap.end] {
                if !left.is_empty() {
                    still_missing.push(left);
                }
            }
        }
        if merged != data || still_missing.len() > MAX_GAPS {
            return false;
        }
        self.body[offset..end].copy_from_slice(data);
        self.missing = still_missing;
        self.missing.is_empty()
    }
}

/// The records of a datagram; `None` if they do not end where it ends.
fn split(mut datagram: &[u8]) -> Option<Vec<Record<'_>>> {
    let mut records = Vec::new();
    while !datagram.is_empty() {
        // Type, version, epoch, sequence number, length (RFC 6347 §4.1).
        let ([content_type, major, minor, e0, e1, _, _, _, _, _, _, l0, l1], after) =
            datagram.split_first_chunk::<HEADER_BYTES>()?;
        let length = usize::from(u16::from_be_bytes([*l0, *l1]));
        let body = after.get(..length).filter(|body| !body.is_empty())?;
        let (whole, rest) = datagram.split_at(HEADER_BYTES + length);
        records.push(Record {
            content_type: *content_type,
            version: [*major, *minor],
            epoch: u16::from_be_bytes([*e0, *e1]),
            whole,
            body,
        });
        datagram = rest;
    }
    Some(records)
}

/// The fragments in a plaintext handshake record; `None` if one of them is not what a handshake can hold.
fn fragments(mut body: &[u8]) -> Option<Vec<Fragment<'_>>> {
    let mut all = Vec::new();
    while !body.is_empty() {
        let ([kind, l0, l1, l2, s0, s1, o0, o1, o2, f0, f1, f2], after) =
            body.split_first_chunk::<12>()?;
        let number =
            |a: &u8, b: &u8, c: &u8| usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        let (length, offset) = (number(l0, l1, l2), number(o0, o1, o2));
        let data = after.get(..number(f0, f1, f2))?;
        let message_sequence = u16::from_be_bytes([*s0, *s1]);
        let plausible = length <= MAX_MESSAGE_BYTES
            && message_sequence < MAX_MESSAGES
            && offset + data.len() <= length
            && (!data.is_empty() || length == 0);
        if !plausible {
            return None;
        }
        all.push(Fragment { message_type: *kind, length, message_sequence, offset, data });
        body = &after[data.len()..];
    }
    Some(all)
}

/// DTLS 1.2, or 1.0 as a ClientHello's record may say (RFC 6347 §4.1).
fn is_version(version: [u8; 2]) -> bool {
    matches!(version, [0xfe, 0xfd | 0xff])
}

fn u24(number: usize) -> [u8; 3] {
    let [.., a, b, c] = number.to_be_bytes();
    [a, b, c]
}

/// Records and bytes that are still let through; both come back with time.
#[derive(Debug)]
struct Budget {
    records: f64,
    bytes: f64,
    at: Instant,
}

impl Budget {
    fn new(now: Instant) -> Self {
        Self { records: BURST_RECORDS, bytes: BURST_BYTES, at: now }
    }

    fn take(&mut self, now: Instant, bytes: usize) -> bool {
        let passed = now.saturating_duration_since(self.at).min(LONGEST_REFILL).as_secs_f64();
        self.at = self.at.max(now);
        self.records = (self.records + passed * RECORDS_PER_SECOND).min(BURST_RECORDS);
        self.bytes = (self.bytes + passed * BYTES_PER_SECOND).min(BURST_BYTES);
        #[expect(clippy::cast_precision_loss, reason = "below the size of a datagram")]
        let bytes = bytes as f64;
        if self.records < 1.0 || self.bytes < bytes {
            return false;
        }
        self.records -= 1.0;
        self.bytes -= bytes;
        true
    }
}

/// Content types (RFC 5246 §6.2.1).
const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
const HEADER_BYTES: usize = 13;
/// A Finished message has 24 bytes, AES-GCM adds 24 and the header 13; some cipher suites add more.
const MAX_FINISHED_BYTES: usize = 128;
/// Certificates of browsers take 300 to 1,000 bytes; four with RSA keys of 4096 bits would still fit.
const MAX_MESSAGE_BYTES: usize = 16 * 1024;
/// Four times what a handshake with a cookie and a session ticket has.
const MAX_MESSAGES: u16 = 32;
/// Fragments of one message that came out of order.
const MAX_GAPS: usize = 32;
/// With both headers below the smallest buffer of the stack (2,000 bytes); a certificate of usual size is one piece.
const MAX_PIECE_BYTES: usize = 1200;
/// Of some six records to a flight, the last ten flights.
const MAX_SEEN: usize = 64;
/// A flight has at most eight records; at 33 % loss both sides together repeat about four flights a second at first.
const BURST_RECORDS: f64 = 128.0;
const RECORDS_PER_SECOND: f64 = 64.0;
const BURST_BYTES: f64 = 128.0 * 1024.0;
const BYTES_PER_SECOND: f64 = 64.0 * 1024.0;
const LONGEST_REFILL: Duration = Duration::from_secs(10);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UNDER_WAY: HandshakePhase = HandshakePhase::UnderWay;
    const CERTIFICATE: u8 = 11;

    fn record(content_type: u8, epoch: u16, sequence: u64, body: &[u8]) -> Vec<u8> {
        let mut record = vec![content_type, 0xfe, 0xfd];
        record.extend(epoch.to_be_bytes());
        record.extend_from_slice(&sequence.to_be_bytes()[2..]);
        record.extend((body.len() as u16).to_be_bytes());
        record.extend_from_slice(body);
        record
    }

    fn fragment(message: u16, length: usize, offset: usize, data: &[u8]) -> Vec<u8> {
        let mut fragment = vec![CERTIFICATE];
        fragment.extend(u24(length));
        fragment.extend(message.to_be_bytes());
        fragment.extend(u24(offset));
        fragment.extend(u24(data.len()));
        fragment.extend_from_slice(data);
        fragment
    }

    fn whole(message: u16, body: &[u8]) -> Vec<u8> {
        fragment(message, body.len(), 0, body)
    }

    fn records() -> (Records, Instant) {
        let now = Instant::now();
        (Records::new(now), now)
    }

    #[test]
    fn fragments_in_any_order_become_one_message() {
        let body: Vec<u8> = (0..100).collect();
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]] {
            let (mut records, now) = records();
            let mut passed = Vec::new();
            for (sequence, part) in order.into_iter().enumerate() {
                let at = part * 25;
                // Each reaches into the next, as a sender that fragments anew may do.
                let data = &body[at..(at + 30).min(100)];
                let datagram = record(HANDSHAKE, 0, sequence as u64, &fragment(1, 100, at, data));
                passed.extend(records.filter(now, UNDER_WAY, &datagram));
            }
            assert_eq!(passed, [record(HANDSHAKE, 0, 0, &whole(1, &body))]);
        }
    }

    #[test]
    fn a_long_message_is_passed_in_a_few_pieces() {
        let body = vec![7; MAX_MESSAGE_BYTES];
        let (mut records, now) = records();
        let mut passed = Vec::new();
        for at in (0..body.len()).step_by(1000) {
            let data = &body[at..(at + 1000).min(body.len())];
            let part = fragment(2, body.len(), at, data);
            passed.extend(records.filter(now, UNDER_WAY, &record(HANDSHAKE, 0, at as u64, &part)));
        }
        assert_eq!(passed.len(), body.len().div_ceil(MAX_PIECE_BYTES));
        assert!(passed.iter().all(|datagram| datagram.len() < 2000));
        let fragments: Vec<Vec<u8>> = passed
            .iter()
            .flat_map(|d| fragments(&d[13..]).unwrap())
            .map(|f| f.data.to_vec())
            .collect();
        assert_eq!(fragments.concat(), body);
    }

    /// C1 of the list of threats: 60,000 fragments of one byte, the first one last.
    #[test]
    fn sixty_thousand_fragments_pass_nothing_and_take_no_memory() {
        let (mut records, start) = records();
        let mut passed = 0;
        for (sequence, offsets) in
            (0..=60_000usize).rev().collect::<Vec<_>>().chunks(100).enumerate()
        {
            let mut body = Vec::new();
            for offset in offsets {
                let mut empty = fragment(0, 0, 0, &[]);
                empty[6..9].copy_from_slice(&u24(*offset));
                empty[9..12].copy_from_slice(&u24(1));
                body.extend(empty);
            }
            let now = start + Duration::from_millis(sequence as u64);
            passed +=
                records.filter(now, UNDER_WAY, &record(HANDSHAKE, 0, sequence as u64, &body)).len();
        }
        assert_eq!(passed, 0);
        // With a length that fits, each byte is a fragment of its own.
        for offset in (0..MAX_MESSAGE_BYTES).step_by(2) {
            let part = fragment(3, MAX_MESSAGE_BYTES, offset, &[1]);
            passed += records
                .filter(start, UNDER_WAY, &record(HANDSHAKE, 0, 70_000 + offset as u64, &part))
                .len();
        }
        assert_eq!(passed, 0);
        assert!(records.partial[&3].missing.len() <= MAX_GAPS);
    }

    #[test]
    fn contradicting_fragments_are_refused() {
        let (mut records, now) = records();
        let mut filter = |sequence, part: &[u8]| {
            records.filter(now, UNDER_WAY, &record(HANDSHAKE, 0, sequence, part))
        };
        assert!(filter(1, &fragment(0, 4, 0, &[1, 2])).is_empty());
        // Another length, another type, other bytes where some are known, more than the message has.
        assert!(filter(2, &fragment(0, 3, 0, &[1, 2, 3])).is_empty());
        let mut other = fragment(0, 4, 2, &[3, 4]);
        other[0] = 12;
        assert!(filter(3, &other).is_empty());
        assert!(filter(4, &fragment(0, 4, 1, &[9, 3, 4])).is_empty());
        assert!(filter(5, &fragment(0, 4, 2, &[3, 4, 5])).is_empty());
        assert_eq!(filter(6, &fragment(0, 4, 1, &[2, 3, 4])).len(), 1);
        // A message that nothing follows, as ServerHelloDone, is empty.
        assert_eq!(filter(7, &whole(1, &[])).len(), 1);
        assert!(filter(8, &fragment(2, 4, 0, &[])).is_empty());
        assert!(filter(9, &whole(MAX_MESSAGES, &[1])).is_empty());
    }

    /// M4: the stack's replay window follows any number in plaintext.
    #[test]
    fn a_forged_sequence_number_reaches_nobody() {
        let (mut records, now) = records();
        let mut sequences = Vec::new();
        for (sequence, message) in [(0, 0), (0xffff_ffff_ffff, 1), (1, 2)] {
            let datagram = record(HANDSHAKE, 0, sequence, &whole(message, &[message as u8]));
            for passed in records.filter(now, UNDER_WAY, &datagram) {
                sequences.push(passed[5..11].to_vec());
            }
        }
        assert_eq!(sequences, [[0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 2]]);
    }

    /// M4: the stack queues these without a bound.
    #[test]
    fn records_of_the_next_epoch_are_bounded_until_the_handshake_is_over() {
        let (mut records, now) = records();
        let count = |records: &mut Records, phase| -> usize {
            (0..10_000)
                .map(|n| {
                    records.filter(now, phase, &record(APPLICATION_DATA, 1, n, &[0; 40])).len()
                })
                .sum()
        };
        assert_eq!(count(&mut records, UNDER_WAY), BURST_RECORDS as usize);
        assert_eq!(count(&mut records, HandshakePhase::LocallyComplete), 10_000);
        let data = record(APPLICATION_DATA, 1, 1, &[0; 40]);
        assert!(!Records::passes_untouched(UNDER_WAY, &data));
        assert!(Records::passes_untouched(HandshakePhase::Complete, &data));
    }

    #[test]
    fn after_the_handshake_nothing_of_a_handshake_passes() {
        let (mut records, now) = records();
        let last_flight = [
            record(HANDSHAKE, 0, 5, &whole(5, &[1; 70])),
            record(CHANGE_CIPHER_SPEC, 0, 6, &[1]),
            record(HANDSHAKE, 1, 0, &[0; 48]),
        ]
        .concat();
        // The remote peer may have missed ours.
        assert!(!Records::passes_untouched(HandshakePhase::LocallyComplete, &last_flight));
        assert_eq!(records.filter(now, HandshakePhase::LocallyComplete, &last_flight).len(), 3);
        assert!(!Records::passes_untouched(HandshakePhase::Complete, &last_flight));
        assert!(records.filter(now, HandshakePhase::Complete, &last_flight).is_empty());
    }

    #[test]
    fn plaintext_that_ends_the_handshake_is_dropped() {
        let (mut records, now) = records();
        for datagram in [
            record(ALERT, 0, 0, &[2, 40]),
            record(APPLICATION_DATA, 0, 0, &[1]),
            record(CHANGE_CIPHER_SPEC, 0, 0, &[2]),
            record(24, 0, 0, &[1]),
            record(HANDSHAKE, 2, 0, &[1]),
            record(HANDSHAKE, 1, 0, &[0; 2000]),
            record(HANDSHAKE, 0, 0, &[1; 11]),
            // A record that is cut off, and an empty one.
            record(HANDSHAKE, 0, 0, &whole(0, &[1]))[..25].to_vec(),
            record(HANDSHAKE, 0, 0, &[]),
        ] {
            assert!(records.filter(now, UNDER_WAY, &datagram).is_empty(), "{datagram:?}");
        }
        let mut other_version = record(HANDSHAKE, 0, 0, &whole(0, &[1]));
        other_version[1] = 3;
        assert!(records.filter(now, UNDER_WAY, &other_version).is_empty());
    }

    #[test]
    fn a_doubled_datagram_passes_once_and_a_repeated_flight_again() {
        let (mut records, now) = records();
        let message = whole(0, &[1, 2, 3]);
        let first = record(HANDSHAKE, 0, 0, &message);
        assert_eq!(records.filter(now, UNDER_WAY, &first).len(), 1);
        assert!(records.filter(now, UNDER_WAY, &first).is_empty());
        let repeated = record(HANDSHAKE, 0, 1, &message);
        assert_eq!(records.filter(now, UNDER_WAY, &repeated).len(), 1);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(datagrams in prop::collection::vec(
            prop::collection::vec(any::<u8>(), 0..120), 1..8,
        )) {
            let (mut records, now) = records();
            for bytes in datagrams {
                records.filter(now, UNDER_WAY, &bytes);
                records.filter(now, UNDER_WAY, &record(HANDSHAKE, 0, 0, &bytes));
                let part = [&[11, 0, 0, 90, 0, 0, 0, 0][..], &bytes].concat();
                for passed in records.filter(now, UNDER_WAY, &record(HANDSHAKE, 0, 1, &part)) {
                    prop_assert!(split(&passed).is_some());
                }
            }
        }
    }
}
