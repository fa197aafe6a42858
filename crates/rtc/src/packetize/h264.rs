//! H.264 access units to RTP payloads: single NAL units, FU-A and one STAP-A for the parameter
//! sets (RFC 6184, packetization-mode 1). Pure.

use bytes::{BufMut, Bytes, BytesMut};

use super::{fragments, payload};

/// Splits an Annex B access unit into payloads of at most `max_len` bytes. Access unit delimiters
/// and filler are left out. Parameter sets go in front of the next picture NAL unit in one STAP-A,
/// so that losing them costs one packet to ask for again.
pub(super) fn payloads(access_unit: &Bytes, max_len: usize) -> Vec<Bytes> {
    let mut payloads = Vec::with_capacity(access_unit.len() / max_len + 2);
    let mut parameter_sets: Vec<Bytes> = Vec::new();
    for nal in nal_units(access_unit) {
        match nal.first().map(|header| header & TYPE_MASK) {
            None | Some(AUD | FILLER) => {}
            Some(SPS | PPS) => parameter_sets.push(nal),
            Some(_) => {
                flush_parameter_sets(&mut parameter_sets, max_len, &mut payloads);
                push_nal(nal, max_len, &mut payloads);
            }
        }
    }
    flush_parameter_sets(&mut parameter_sets, max_len, &mut payloads);
    payloads
}

/// The NAL units between start codes (ITU-T H.264 Annex B), without trailing zeros.
fn nal_units(stream: &Bytes) -> Vec<Bytes> {
    let mut units = Vec::new();
    let mut start = None;
    let mut at = 0;
    // Every start code contains 00 00 01; look at the third byte first, as most are above 1.
    while at + 2 < stream.len() {
        if stream[at + 2] > 1 {
            at += 3;
        } else if stream[at] == 0 && stream[at + 1] == 0 && stream[at + 2] == 1 {
            if let Some(start) = start {
                push_trimmed(stream, start, at, &mut units);
            }
            at += 3;
            start = Some(at);
        } else {
            at += 1;
        }
    }
    if let Some(start) = start {
        push_trimmed(stream, start, stream.len(), &mut units);
    }
    units
}

fn push_trimmed(stream: &Bytes, start: usize, mut end: usize, units: &mut Vec<Bytes>) {
    while end > start && stream[end - 1] == 0 {
        end -= 1;
    }
    if end > start {
        units.push(stream.slice(start..end));
    }
}

fn flush_parameter_sets(sets: &mut Vec<Bytes>, max_len: usize, payloads: &mut Vec<Bytes>) {
    let aggregate_len = 1 + sets.iter().map(|set| 2 + set.len()).sum::<usize>();
    if sets.len() > 1 && aggregate_len <= max_len {
        let mut aggregate = BytesMut::with_capacity(aggregate_len);
        let nri = sets.iter().map(|set| set[0] & NRI_MASK).max().unwrap_or(NRI_MASK);
        aggregate.put_u8(nri | STAP_A);
        for set in sets.drain(..) {
            // Bounded by `max_len`, which is far below 64 KiB.
            aggregate.put_u16(u16::try_from(set.len()).unwrap_or(u16::MAX));
            aggregate.put_slice(&set);
        }
        payloads.push(aggregate.freeze());
    } else {
        for set in sets.drain(..) {
            push_nal(set, max_len, payloads);
        }
    }
}

fn push_nal(nal: Bytes, max_len: usize, payloads: &mut Vec<Bytes>) {
    if nal.len() <= max_len {
        payloads.push(nal);
        return;
    }
    let indicator = (nal[0] & NRI_MASK) | FU_A;
    let kind = nal[0] & TYPE_MASK;
    for fragment in fragments(&nal[1..], max_len - 2, 0) {
        let start = if fragment.is_first { FU_START } else { 0 };
        let end = if fragment.is_last { FU_END } else { 0 };
        payloads.push(payload(&[indicator, start | end | kind], fragment.data));
    }
}

// RFC 6184 §5.2 and ITU-T H.264 table 7-1.
const TYPE_MASK: u8 = 0x1f;
const NRI_MASK: u8 = 0x60;
const SPS: u8 = 7;
const PPS: u8 = 8;
const AUD: u8 = 9;
const FILLER: u8 = 12;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;
const FU_START: u8 = 0x80;
const FU_END: u8 = 0x40;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;

    /// The receiving half, as RFC 6184 describes it.
    fn reassemble(payloads: &[Bytes]) -> Vec<Vec<u8>> {
        let mut nals: Vec<Vec<u8>> = Vec::new();
        for payload in payloads {
            match payload[0] & TYPE_MASK {
                STAP_A => {
                    let mut rest = &payload[1..];
                    while !rest.is_empty() {
                        let len = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
                        nals.push(rest[2..2 + len].to_vec());
                        rest = &rest[2 + len..];
                    }
                }
                FU_A => {
                    if payload[1] & FU_START != 0 {
                        nals.push(vec![(payload[0] & NRI_MASK) | (payload[1] & TYPE_MASK)]);
                    }
                    nals.last_mut().unwrap().extend_from_slice(&payload[2..]);
                }
                _ => nals.push(payload.to_vec()),
            }
        }
        nals
    }

    fn annex_b(nals: &[Vec<u8>]) -> Bytes {
        let mut stream = Vec::new();
        for (index, nal) in nals.iter().enumerate() {
            let long = index == 0 || nal[0] & TYPE_MASK == PPS;
            stream.extend_from_slice(if long { &[0, 0, 0, 1][..] } else { &[0, 0, 1][..] });
            stream.extend_from_slice(nal);
        }
        stream.into()
    }

    #[test]
    fn parameter_sets_travel_together_in_front_of_the_picture() {
        let nals = vec![vec![0x67, 1, 2, 3], vec![0x68, 4], vec![0x65; 3000]];
        let payloads = super::payloads(&annex_b(&nals), 1150);
        assert_eq!(payloads.len(), 4);
        assert_eq!(payloads[0][0], 0x60 | STAP_A);
        assert_eq!(reassemble(&payloads), nals);
        assert_eq!(payloads[1].len(), payloads[2].len(), "equal fragments");
    }

    #[test]
    fn delimiters_and_nothing_at_all_give_no_packets() {
        assert!(payloads(&Bytes::from_static(&[0, 0, 0, 1, 9, 0xf0]), 1150).is_empty());
        assert!(payloads(&Bytes::new(), 1150).is_empty());
        assert!(payloads(&Bytes::from_static(&[1, 2, 3, 4]), 1150).is_empty());
    }

    proptest! {
        #[test]
        fn what_is_split_can_be_put_together_again(
            nals in prop::collection::vec(
                (prop::sample::select(vec![0x65u8, 0x41, 0x67, 0x68, 0x06]),
                 prop::collection::vec(2u8.., 1..4000)), 1..6),
            max_len in 16usize..1300,
        ) {
            let nals: Vec<Vec<u8>> = nals.into_iter()
                .map(|(kind, mut body)| { body.insert(0, kind); body }).collect();
            let payloads = super::payloads(&annex_b(&nals), max_len);
            prop_assert!(payloads.iter().all(|p| p.len() <= max_len));
            prop_assert_eq!(reassemble(&payloads), nals);
        }

        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>, max_len: usize) {
            let _ = payloads(&bytes.into(), max_len.max(16));
        }
    }
}
