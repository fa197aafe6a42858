//! VP8 RTP payloads (RFC 7741) back into frames.

use bytes::BytesMut;

use super::{CodedPicture, PayloadInfo, take_picture_id};
use crate::headers::vp8_is_keyframe;

/// As [`super::inspect`]. Only the payload that starts a frame tells whether it is a keyframe.
pub(super) fn inspect(payload: &[u8]) -> Option<PayloadInfo> {
    let part = Part::of(payload)?;
    let leads_picture = part.starts_frame();
    let keyframe = leads_picture && vp8_is_keyframe(part.data[0]);
    Some(PayloadInfo::led(leads_picture, keyframe))
}

/// As [`super::assemble`]. The partitions of a frame come one after the other, each started once.
pub(super) fn assemble<'a>(
    payloads: impl Iterator<Item = &'a [u8]> + Clone,
    memory: &mut BytesMut,
) -> Option<CodedPicture> {
    memory.reserve(payloads.clone().map(<[u8]>::len).sum());
    let mut previous: Option<Part<'_>> = None;
    for payload in payloads.filter(|payload| !payload.is_empty()) {
        let part = Part::of(payload)?;
        let fits = match &previous {
            None => part.starts_frame(),
            Some(before) => {
                let next = part.partition > before.partition;
                let same = part.partition == before.partition && !part.starts_partition;
                part.picture_id == before.picture_id && (next || same)
            }
        };
        if !fits {
            return None;
        }
        memory.extend_from_slice(part.data);
        previous = Some(part);
    }
    let keyframe = memory.first().is_some_and(|&first| vp8_is_keyframe(first));
    Some(CodedPicture { data: memory.split().freeze(), keyframe })
}

/// A payload, without what says about layers.
struct Part<'a> {
    starts_partition: bool,
    partition: u8,
    picture_id: Option<u16>,
    /// Never empty.
    data: &'a [u8],
}

impl<'a> Part<'a> {
    /// Reads the payload descriptor (RFC 7741 §4.2).
    fn of(mut payload: &'a [u8]) -> Option<Self> {
        let &first = payload.split_off_first()?;
        let mut picture_id = None;
        if first & EXTENDED != 0 {
            let &present = payload.split_off_first()?;
            if present & PICTURE_ID != 0 {
                picture_id = Some(take_picture_id(&mut payload)?);
            }
            if present & TL0PICIDX != 0 {
                payload.split_off_first()?;
            }
            if present & (TID | KEYIDX) != 0 {
                payload.split_off_first()?;
            }
        }
        let starts_partition = first & START != 0;
        let partition = first & PARTITION_MASK;
        let part = Self { starts_partition, partition, picture_id, data: payload };
        (!payload.is_empty()).then_some(part)
    }

    fn starts_frame(&self) -> bool {
        self.starts_partition && self.partition == 0
    }
}

// RFC 7741 §4.2, figure 2.
const EXTENDED: u8 = 0x80;
const START: u8 = 0x10;
const PARTITION_MASK: u8 = 0x07;
const PICTURE_ID: u8 = 0x80;
const TL0PICIDX: u8 = 0x40;
const TID: u8 = 0x20;
const KEYIDX: u8 = 0x10;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::VideoCodec::Vp8;
    use crate::depacketize::tests::assembled;

    #[test]
    fn descriptors_of_every_length_are_read() {
        // Each is followed by the first byte of a frame that is none or one (a keyframe).
        let descriptors: [&[u8]; 8] = [
            &[0x10],
            &[0x90, 0x00],
            &[0x90, 0x80, 0x7f],
            &[0x90, 0x80, 0xff, 0xff],
            &[0x90, 0x40, 1],
            &[0x90, 0x20, 1],
            &[0x90, 0x10, 1],
            &[0xf8, 0xff, 0x80, 1, 2, 3],
        ];
        for descriptor in descriptors {
            let starts = |first: u8| inspect(&[descriptor, &[first]].concat());
            assert_eq!(starts(0x50), Some(PayloadInfo::led(true, true)), "{descriptor:?}");
            assert_eq!(starts(0x51), Some(PayloadInfo::led(true, false)), "{descriptor:?}");
            for length in 0..=descriptor.len() {
                assert_eq!(inspect(&descriptor[..length]), None, "{descriptor:?} {length}");
            }
        }
        // Later in the frame, or at a later partition.
        assert_eq!(inspect(&[0x00, 0x50]), Some(PayloadInfo::led(false, false)));
        assert_eq!(inspect(&[0x11, 0x50]), Some(PayloadInfo::led(false, false)));
    }

    #[test]
    fn partitions_and_their_fragments_come_together() {
        let parts: [&[u8]; 5] = [
            &[0x90, 0x80, 9, 0x50, 1],
            &[0x80, 0x80, 9, 2],
            &[0x91, 0x80, 9, 3],
            &[0x81, 0x80, 9, 4],
            // The end of one partition and the beginning of the next are in one packet before this.
            &[0x83, 0x80, 9, 5],
        ];
        let frame = assembled(Vp8, &parts).unwrap();
        assert_eq!(frame.data[..], [0x50, 1, 2, 3, 4, 5]);
        assert!(frame.keyframe);
        // All in partition 0, as libwebrtc sends it, with padding.
        let frame = assembled(Vp8, &[&[0x10, 0x51, 1], &[], &[0x00, 2]]).unwrap();
        assert_eq!(frame.data[..], [0x51, 1, 2]);
        assert!(!frame.keyframe);
        assert!(assembled(Vp8, &[&[], &[]]).unwrap().data.is_empty());
    }

    #[test]
    fn fragments_that_do_not_fit_are_refused() {
        let start: &[u8] = &[0x90, 0x80, 9, 0x50];
        for parts in [
            vec![&[0x80, 0x80, 9, 1][..]],                         // no start
            vec![&[0x91, 0x80, 9, 1][..]],                         // starts with another partition
            vec![start, start],                                    // starts twice
            vec![start, &[0x80, 0x80, 10, 1]],                     // another frame's
            vec![start, &[0x00, 1]],                               // says not whose it is
            vec![start, &[0x82, 0x80, 9, 1], &[0x81, 0x80, 9, 1]], // backwards
            vec![start, &[0x91, 0x80, 9, 1], &[0x91, 0x80, 9, 1]], // a partition starts twice
            vec![start, &[0x80, 0x80, 9]],                         // nothing in it
        ] {
            assert_eq!(assembled(Vp8, &parts), None, "{parts:?}");
        }
    }
}
