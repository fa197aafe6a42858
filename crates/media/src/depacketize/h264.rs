//! H.264 RTP payloads (RFC 6184, packetization modes 0 and 1) back into NAL units.

use bytes::BytesMut;

use super::{CodedPicture, PayloadInfo};
use crate::codec::sps::{NAL_AUD, NAL_IDR, NAL_PPS, NAL_SLICE, NAL_SPS};

/// As [`super::inspect`]; STAP-B, MTAP and FU-B are not negotiated.
pub(super) fn inspect(payload: &[u8]) -> Option<PayloadInfo> {
    let &header = payload.first()?;
    if header & FORBIDDEN_BIT != 0 {
        return None;
    }
    let mut info = PayloadInfo::default();
    let mut see = |unit_type: u8, first: bool| {
        info.keyframe |= matches!(unit_type, NAL_IDR | NAL_SPS);
        info.idr |= unit_type == NAL_IDR;
        if first {
            info.leads_picture = matches!(unit_type, NAL_AUD | NAL_SPS);
        }
    };
    match header & TYPE_MASK {
        unit_type @ 1..=23 => see(unit_type, true),
        STAP_A => {
            let mut rest = &payload[1..];
            let mut first = true;
            while !rest.is_empty() {
                let (unit, after) = next_aggregated(rest)?;
                see(unit[0] & TYPE_MASK, first);
                first = false;
                rest = after;
            }
            if first {
                return None;
            }
        }
        FU_A => {
            let &fu = payload.get(1)?;
            let (start, end) = (fu & FU_START != 0, fu & FU_END != 0);
            // RFC 6184 §5.8: start and end never in one fragment; an empty fragment is useless.
            if (start && end) || payload.len() < 3 || !(1..=23).contains(&(fu & TYPE_MASK)) {
                return None;
            }
            see(fu & TYPE_MASK, start);
        }
        _ => return None,
    }
    Some(info)
}

/// As [`super::assemble`], into an Annex B access unit. NAL units that a decoder has no use for are left out.
pub(super) fn assemble<'a>(
    payloads: impl Iterator<Item = &'a [u8]> + Clone,
    memory: &mut BytesMut,
) -> Option<CodedPicture> {
    memory.reserve(payloads.clone().map(|p| p.len() + START_CODE.len()).sum());
    let mut unit = Unit { data: memory, keyframe: false };
    // Type of the fragmented unit under way.
    let mut open: Option<u8> = None;
    for payload in payloads {
        let Some(&header) = payload.first() else { continue };
        let unit_type = header & TYPE_MASK;
        if open.is_some() != (unit_type == FU_A && payload.get(1)? & FU_START == 0) {
            return None;
        }
        match unit_type {
            1..=23 => unit.append(payload),
            STAP_A => {
                let mut rest = &payload[1..];
                while !rest.is_empty() {
                    let (nal, after) = next_aggregated(rest)?;
                    unit.append(nal);
                    rest = after;
                }
            }
            FU_A => {
                let &fu = payload.get(1)?;
                let fragment = payload.get(2..)?;
                let fragment_type = fu & TYPE_MASK;
                match open {
                    None => {
                        unit.append(&[header & !TYPE_MASK | fragment_type]);
                        open = Some(fragment_type);
                    }
                    Some(t) if t == fragment_type => {}
                    Some(_) => return None,
                }
                if is_wanted(fragment_type) {
                    unit.data.extend_from_slice(fragment);
                }
                if fu & FU_END != 0 {
                    open = None;
                }
            }
            _ => return None,
        }
    }
    let Unit { data, keyframe } = unit;
    open.is_none().then(|| CodedPicture { data: data.split().freeze(), keyframe })
}

/// One under way.
struct Unit<'m> {
    data: &'m mut BytesMut,
    keyframe: bool,
}

impl Unit<'_> {
    fn append(&mut self, nal: &[u8]) {
        let unit_type = nal[0] & TYPE_MASK;
        if is_wanted(unit_type) {
            self.keyframe |= unit_type == NAL_IDR;
            self.data.extend_from_slice(&START_CODE);
            self.data.extend_from_slice(nal);
        }
    }
}

/// Slices and parameter sets; delimiters and SEI say nothing that is used here.
fn is_wanted(unit_type: u8) -> bool {
    matches!(unit_type, NAL_SLICE | NAL_IDR | NAL_SPS | NAL_PPS)
}

/// The first NAL unit of a STAP-A body and what comes after it (RFC 6184 §5.7.1).
fn next_aggregated(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let (size, rest) = body.split_first_chunk::<2>()?;
    let size = usize::from(u16::from_be_bytes(*size));
    let (unit, rest) = rest.split_at_checked(size)?;
    let &header = unit.first()?;
    (header & FORBIDDEN_BIT == 0 && (1..=23).contains(&(header & TYPE_MASK)))
        .then_some((unit, rest))
}

const START_CODE: [u8; 4] = [0, 0, 0, 1];
const FORBIDDEN_BIT: u8 = 0x80;
const TYPE_MASK: u8 = 0x1f;
/// RFC 6184 Table 1.
const STAP_A: u8 = 24;
const FU_A: u8 = 28;
/// RFC 6184 §5.8.
const FU_START: u8 = 0x80;
const FU_END: u8 = 0x40;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn assembled(parts: &[&[u8]]) -> Option<CodedPicture> {
        assemble(parts.iter().copied(), &mut BytesMut::new())
    }

    #[test]
    fn single_aggregated_and_fragmented_units_come_together() {
        let stap = [24, 0, 2, 0x67, 1, 0, 2, 0x68, 2];
        let parts: [&[u8]; 4] =
            [&stap, &[28 | 0x60, 0x85, 10, 11], &[28 | 0x60, 0x05, 12], &[28 | 0x60, 0x45, 13]];
        let unit = assembled(&parts).unwrap();
        assert!(unit.keyframe);
        assert_eq!(
            unit.data[..],
            [0, 0, 0, 1, 0x67, 1, 0, 0, 0, 1, 0x68, 2, 0, 0, 0, 1, 0x65, 10, 11, 12, 13]
        );
        assert_eq!(
            inspect(&stap),
            Some(PayloadInfo { leads_picture: true, keyframe: true, idr: false, empty: false })
        );
        assert!(super::super::inspect(crate::VideoCodec::H264, &[]).unwrap().empty);
    }

    #[test]
    fn malformed_payloads_are_refused() {
        let cases: [&[u8]; 11] = [
            &[24],                // STAP-A with nothing
            &[24, 0],             // half a length
            &[24, 0, 5, 1, 2],    // longer than the payload
            &[24, 0, 0],          // empty unit
            &[24, 0, 1, 28],      // a fragment inside
            &[28],                // no FU header
            &[28, 0x85],          // no fragment
            &[28, 0xc5, 1],       // start and end
            &[25, 0, 0, 0, 1, 1], // STAP-B
            &[0x80 | 1, 1],       // forbidden bit
            &[31, 1],
        ];
        for case in cases {
            assert_eq!(inspect(case), None, "{case:?}");
        }
    }

    #[test]
    fn fragments_that_do_not_fit_are_refused() {
        let start: &[u8] = &[28, 0x81, 1];
        let end: &[u8] = &[28, 0x41, 2];
        let single: &[u8] = &[1, 9];
        assert!(assembled(&[start, end, single]).is_some());
        for parts in [
            vec![end],
            vec![start],
            vec![start, single],
            vec![start, start, end],
            vec![start, &[28, 0x45, 2]],
        ] {
            assert_eq!(assembled(&parts), None);
        }
    }

    proptest! {
        #[test]
        fn arbitrary_payloads_never_panic(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..6),
        ) {
            for payload in &payloads {
                let _ = inspect(payload);
            }
            let _ = assemble(payloads.iter().map(Vec::as_slice), &mut BytesMut::new());
        }

        #[test]
        fn what_inspects_well_is_assembled_without_panic(
            kinds in proptest::collection::vec((prop_oneof![Just(24u8), Just(28u8), 1u8..24], proptest::collection::vec(any::<u8>(), 0..8)), 0..6),
        ) {
            let payloads: Vec<Vec<u8>> = kinds.into_iter().map(|(k, mut rest)| { rest.insert(0, k); rest }).collect();
            let sound = payloads.iter().map(Vec::as_slice).filter(|p| inspect(p).is_some());
            let _ = assemble(sound, &mut BytesMut::new());
        }
    }
}
