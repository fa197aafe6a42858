//! AV1 RTP payloads (AV1 RTP specification §4) back into temporal units.

use bytes::BytesMut;

use super::{CodedPicture, PayloadInfo};
use crate::obu::{self, Obu, is_wanted, leb128, leb128_len, read_leb128};

/// As [`super::inspect`]. Only the payload that starts a coded video sequence tells that it leads its picture.
pub(super) fn inspect(payload: &[u8]) -> Option<PayloadInfo> {
    let aggregation = Aggregation::of(payload)?;
    let mut sequence_header = false;
    for element in aggregation.elements {
        let Element { bytes, starts, ends } = element?;
        if starts && ends {
            Obu::whole(bytes)?;
        }
        sequence_header |= starts && obu::kind(bytes[0])? == obu::SEQUENCE_HEADER;
    }
    let keyframe = aggregation.starts_sequence && sequence_header;
    Some(PayloadInfo::led(aggregation.starts_sequence, keyframe))
}

/// As [`super::assemble`].
pub(super) fn assemble<'a>(
    payloads: impl Iterator<Item = &'a [u8]> + Clone,
    memory: &mut BytesMut,
) -> Option<CodedPicture> {
    // A size behind the header takes no more than the element's own size, but for the last element of a packet.
    memory.reserve(payloads.clone().map(|payload| payload.len() + MAX_SIZE_BYTES).sum());
    let mut starts_sequence = None;
    let mut sequence_header = false;
    // Where the OBU under way starts.
    let mut start = 0;
    let mut open = false;
    for payload in payloads.filter(|payload| !payload.is_empty()) {
        let aggregation = Aggregation::of(payload)?;
        let is_first = starts_sequence.is_none();
        if aggregation.continues != open || (aggregation.starts_sequence && !is_first) {
            return None;
        }
        starts_sequence.get_or_insert(aggregation.starts_sequence);
        for element in aggregation.elements {
            let Element { bytes, starts, ends } = element?;
            if starts {
                start = memory.len();
            }
            memory.extend_from_slice(bytes);
            if ends {
                sequence_header |= finish_obu(memory, start)? == obu::SEQUENCE_HEADER;
            }
            open = !ends;
        }
    }
    let keyframe = starts_sequence == Some(true) && sequence_header;
    (!open).then(|| CodedPicture { data: memory.split().freeze(), keyframe })
}

/// Brings the OBU that was written from `start` on into the low-overhead format (AV1 specification §5.2), or takes
/// it out again. Its type.
fn finish_obu(memory: &mut BytesMut, start: usize) -> Option<u8> {
    let Obu { kind, header, has_size, payload } = Obu::whole(&memory[start..])?;
    let (header_len, payload_len) = (header.len(), payload.len());
    if !is_wanted(kind) {
        memory.truncate(start);
    } else if !has_size {
        let (from, end) = (start + header_len, memory.len());
        let size_len = leb128_len(payload_len);
        memory.resize(end + size_len, 0);
        memory.copy_within(from..end, from + size_len);
        for (byte, value) in memory[from..].iter_mut().zip(leb128(payload_len)) {
            *byte = value;
        }
        memory[start] |= obu::HAS_SIZE_FIELD;
    }
    Some(kind)
}

/// A payload by its aggregation header (AV1 RTP specification §4.4).
struct Aggregation<'a> {
    /// The first element continues the last one of the packet before.
    continues: bool,
    /// The first packet of a coded video sequence.
    starts_sequence: bool,
    elements: Elements<'a>,
}

impl<'a> Aggregation<'a> {
    fn of(payload: &'a [u8]) -> Option<Self> {
        let (&header, rest) = payload.split_first()?;
        let continues = header & CONTINUES != 0;
        let starts_sequence = header & STARTS_SEQUENCE != 0;
        if rest.is_empty() || (continues && starts_sequence) {
            return None;
        }
        let count = header >> 4 & 3;
        let elements = Elements {
            rest,
            left: (count > 0).then_some(count),
            continues,
            goes_on: header & GOES_ON != 0,
        };
        Some(Self { continues, starts_sequence, elements })
    }
}

/// An OBU or a fragment of one.
struct Element<'a> {
    /// Never empty.
    bytes: &'a [u8],
    starts: bool,
    ends: bool,
}

/// The elements of a payload; `None` in place of one that is malformed, and then no more.
struct Elements<'a> {
    rest: &'a [u8],
    /// How many come, if that is told: the last one is then without size.
    left: Option<u8>,
    /// Whether the next element continues the last one of the packet before.
    continues: bool,
    /// Whether the last element goes on in the next packet.
    goes_on: bool,
}

impl<'a> Iterator for Elements<'a> {
    type Item = Option<Element<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = match self.left {
            Some(0) => return None,
            None if self.rest.is_empty() => return None,
            Some(1) => Some(std::mem::take(&mut self.rest)),
            _ => read_leb128(&mut self.rest).and_then(|size| self.rest.split_off(..size)),
        };
        self.left = self.left.map(|left| left - 1);
        let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) else {
            self.left = Some(0);
            return Some(None);
        };
        let is_last = self.left.map_or(self.rest.is_empty(), |left| left == 0);
        let starts = !std::mem::replace(&mut self.continues, false);
        Some(Some(Element { bytes, starts, ends: !(is_last && self.goes_on) }))
    }
}

// AV1 RTP specification §4.4.
const CONTINUES: u8 = 0x80;
const GOES_ON: u8 = 0x40;
const STARTS_SEQUENCE: u8 = 0x08;
/// Of a number below 2^32 (AV1 specification §4.10.5).
const MAX_SIZE_BYTES: usize = 5;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::VideoCodec::Av1;
    use crate::depacketize::tests::assembled;

    #[test]
    fn elements_with_and_without_sizes_come_together() {
        // Sequence header and frame: counted, the last without size.
        let counted: &[u8] = &[0x28, 2, 0x08, 1, 0x30, 2, 3];
        // The same with a size each, in the OBUs too.
        let sized: &[u8] = &[0x08, 3, 0x0a, 1, 1, 4, 0x32, 2, 2, 3];
        for payload in [counted, sized] {
            assert_eq!(inspect(payload), Some(PayloadInfo::led(true, true)));
            let unit = assembled(Av1, &[payload]).unwrap();
            assert_eq!(unit.data[..], [0x0a, 1, 1, 0x32, 2, 2, 3]);
            assert!(unit.keyframe);
        }
        let three: &[u8] = &[0x30, 1, 0x08, 1, 0x28, 0x30, 1];
        assert_eq!(assembled(Av1, &[three]).unwrap().data[..], [0x0a, 0, 0x2a, 0, 0x32, 1, 1]);
        // Without N it does not start a sequence; with N alone it is no keyframe.
        assert_eq!(inspect(&[0x20, 2, 0x08, 1, 0x30, 2, 3]), Some(PayloadInfo::led(false, false)));
        assert_eq!(inspect(&[0x18, 0x30, 2, 3]), Some(PayloadInfo::led(true, false)));
        assert!(!assembled(Av1, &[&[0x18, 0x30, 2, 3]]).unwrap().keyframe);
    }

    #[test]
    fn fragments_come_together_over_several_packets() {
        let parts: [&[u8]; 5] = [
            &[0x68, 2, 0x08, 1, 0x34], // a frame begins with half its header
            &[0xd0, 0x48, 7],          // the other half
            &[],                       // padding
            &[0xd0, 8],
            &[0xa0, 1, 9, 0x30, 4], // its end, and another one whole
        ];
        for (index, part) in parts.iter().enumerate().filter(|(_, part)| !part.is_empty()) {
            assert_eq!(inspect(part), Some(PayloadInfo::led(index == 0, index == 0)), "{index}");
        }
        let unit = assembled(Av1, &parts).unwrap();
        assert_eq!(unit.data[..], [0x0a, 1, 1, 0x36, 0x48, 3, 7, 8, 9, 0x32, 1, 4]);
        assert!(unit.keyframe);
        // A long one, whose size takes two bytes.
        let long = [&[0x10, 0x30][..], &[5; 200]].concat();
        let unit = assembled(Av1, &[&long]).unwrap();
        assert_eq!(unit.data[..], [&[0x32, 200, 1][..], &[5; 200]].concat());
    }

    #[test]
    fn what_a_decoder_does_not_use_is_left_out() {
        // Temporal delimiter, tile list, padding and a reserved type around a frame.
        let payload = [0x00, 1, 0x10, 2, 0x40, 1, 2, 0x78, 1, 2, 0x48, 1, 2, 0x30, 6];
        assert_eq!(assembled(Av1, &[&payload]).unwrap().data[..], [0x32, 1, 6]);
        assert!(assembled(Av1, &[&[0x10, 0x10]]).unwrap().data.is_empty());
        assert!(assembled(Av1, &[&[]]).unwrap().data.is_empty());
    }

    #[test]
    fn malformed_payloads_are_refused() {
        let cases: [&[u8]; 12] = [
            &[0x10], // no element
            &[0x00],
            &[0x98, 0x30],             // continues and starts a sequence
            &[0x00, 0],                // an empty element
            &[0x00, 1, 0x30, 0],       // another one
            &[0x00, 2, 0x30],          // longer than the payload
            &[0x00, 0x80],             // half a size
            &[0x20, 1, 0x30],          // one element of two
            &[0x30, 1, 0x30, 1, 0x30], // two of three
            &[0x10, 0xb0],             // forbidden bit
            &[0x10, 0x32, 5, 1],       // an OBU longer than its element
            &[0x10, 0x32, 1, 1, 1],    // and one that is shorter
        ];
        for case in cases {
            assert_eq!(inspect(case), None, "{case:?}");
            assert_eq!(assembled(Av1, &[case]), None, "{case:?}");
        }
    }

    #[test]
    fn fragments_that_do_not_fit_are_refused() {
        let start: &[u8] = &[0x50, 0x30, 1];
        let end: &[u8] = &[0x90, 2];
        let whole: &[u8] = &[0x10, 0x30, 3];
        assert!(assembled(Av1, &[start, end, whole]).is_some());
        for parts in [
            vec![end],
            vec![start],
            vec![start, whole],
            vec![start, start, end],
            vec![whole, end],
            vec![whole, &[0x18, 0x08, 1]], // a sequence starts within
            vec![&[0x50, 0x32, 9], end],   // another size than it says
            vec![&[0x50, 0xb0, 9], end],   // forbidden bit
        ] {
            assert_eq!(assembled(Av1, &parts), None, "{parts:?}");
        }
    }
}
