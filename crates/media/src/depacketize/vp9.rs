//! VP9 RTP payloads (RFC 9628), flexible mode or not, back into frames.
//!
//! Temporal layers come as they are. The frames of several spatial layers become one superframe with an index, of
//! which a decoder shows the last frame.

use bytes::{BufMut, BytesMut};

use super::{CodedPicture, PayloadInfo, take_picture_id};
use crate::headers::vp9_is_keyframe;

/// As [`super::inspect`]. Only the payload that starts a picture tells whether it is a keyframe.
pub(super) fn inspect(payload: &[u8]) -> Option<PayloadInfo> {
    let part = Part::of(payload)?;
    Some(PayloadInfo::led(part.starts_picture(), part.starts_keyframe()))
}

/// As [`super::assemble`].
pub(super) fn assemble<'a>(
    payloads: impl Iterator<Item = &'a [u8]> + Clone,
    memory: &mut BytesMut,
) -> Option<CodedPicture> {
    let length: usize = payloads.clone().map(<[u8]>::len).sum();
    memory.reserve(length + MAX_INDEX_BYTES);
    let mut keyframe = false;
    let mut sizes = [0; MAX_LAYER_FRAMES];
    let (mut frames, mut frame_start) = (0, 0);
    let mut previous: Option<Part<'_>> = None;
    for payload in payloads.filter(|payload| !payload.is_empty()) {
        let part = Part::of(payload)?;
        let fits = match &previous {
            None => part.starts_picture(),
            Some(before) => {
                let next = before.ends_frame
                    && part.starts_frame
                    && part.spatial_layer > before.spatial_layer;
                let same = !before.ends_frame
                    && !part.starts_frame
                    && part.spatial_layer == before.spatial_layer;
                part.picture_id == before.picture_id && (next || same)
            }
        };
        if !fits {
            return None;
        }
        if part.starts_frame {
            frame_start = memory.len();
        }
        keyframe |= part.starts_keyframe();
        memory.extend_from_slice(part.data);
        if part.ends_frame {
            *sizes.get_mut(frames)? = memory.len() - frame_start;
            frames += 1;
        }
        previous = Some(part);
    }
    if previous.is_some_and(|last| !last.ends_frame) {
        return None;
    }
    if frames > 1 {
        append_superframe_index(&sizes[..frames], memory);
    }
    Some(CodedPicture { data: memory.split().freeze(), keyframe })
}

/// VP9 bitstream specification, Annex B. `sizes` are two to eight.
fn append_superframe_index(sizes: &[usize], memory: &mut BytesMut) {
    let largest = sizes.iter().copied().max().unwrap_or(0);
    let bytes_per_size = (usize::BITS - largest.leading_zeros()).div_ceil(8).clamp(1, 4) as u8;
    let frames = sizes.len() as u8;
    let header = SUPERFRAME_MARKER | (bytes_per_size - 1) << 3 | (frames - 1);
    memory.put_u8(header);
    for &size in sizes {
        memory.put_uint_le(size as u64, bytes_per_size.into());
    }
    memory.put_u8(header);
}

/// A payload, without what says about temporal layers and references.
struct Part<'a> {
    picture_id: Option<u16>,
    /// Depends on earlier pictures.
    is_inter: bool,
    starts_frame: bool,
    ends_frame: bool,
    /// 0 without layers.
    spatial_layer: u8,
    /// Never empty.
    data: &'a [u8],
}

impl<'a> Part<'a> {
    /// Reads the payload descriptor (RFC 9628 §4.2).
    fn of(mut payload: &'a [u8]) -> Option<Self> {
        let &flags = payload.split_off_first()?;
        let flexible = flags & FLEXIBLE_MODE != 0;
        let is_inter = flags & INTER_PICTURE != 0;
        let mut picture_id = None;
        if flags & PICTURE_ID != 0 {
            picture_id = Some(take_picture_id(&mut payload)?);
        } else if flexible {
            return None;
        }
        let mut spatial_layer = 0;
        if flags & LAYER_INDICES != 0 {
            let &layers = payload.split_off_first()?;
            spatial_layer = layers >> 1 & 7;
            if !flexible {
                // TL0PICIDX.
                payload.split_off_first()?;
            }
        }
        if flexible && is_inter {
            skip_references(&mut payload)?;
        }
        if flags & SCALABILITY_STRUCTURE != 0 {
            skip_scalability_structure(&mut payload)?;
        }
        let part = Self {
            picture_id,
            is_inter,
            starts_frame: flags & START != 0,
            ends_frame: flags & END != 0,
            spatial_layer,
            data: payload,
        };
        (!payload.is_empty()).then_some(part)
    }

    fn starts_picture(&self) -> bool {
        self.starts_frame && self.spatial_layer == 0
    }

    /// A frame without references to earlier pictures can be an intra-only frame, which does not start a stream:
    /// the frame's own header decides.
    fn starts_keyframe(&self) -> bool {
        self.starts_picture() && !self.is_inter && vp9_is_keyframe(self.data[0])
    }
}

/// P_DIFF, of which each says whether another one follows.
fn skip_references(payload: &mut &[u8]) -> Option<()> {
    for _ in 0..MAX_REFERENCES {
        if payload.split_off_first()? & ANOTHER_REFERENCE == 0 {
            return Some(());
        }
    }
    None
}

/// RFC 9628 §4.2.1. At most 1 + 32 + 1 + 255 * 4 bytes.
fn skip_scalability_structure(payload: &mut &[u8]) -> Option<()> {
    let &first = payload.split_off_first()?;
    if first & STRUCTURE_HAS_SIZES != 0 {
        let layers = usize::from(first >> 5) + 1;
        payload.split_off(..4 * layers)?;
    }
    if first & STRUCTURE_HAS_PICTURES != 0 {
        let &pictures = payload.split_off_first()?;
        for _ in 0..pictures {
            let references = usize::from(payload.split_off_first()? >> 2 & 3);
            payload.split_off(..references)?;
        }
    }
    Some(())
}

// RFC 9628 §4.2.
const PICTURE_ID: u8 = 0x80;
const INTER_PICTURE: u8 = 0x40;
const LAYER_INDICES: u8 = 0x20;
const FLEXIBLE_MODE: u8 = 0x10;
const START: u8 = 0x08;
const END: u8 = 0x04;
const SCALABILITY_STRUCTURE: u8 = 0x02;
const ANOTHER_REFERENCE: u8 = 0x01;
const MAX_REFERENCES: usize = 3;
const STRUCTURE_HAS_SIZES: u8 = 0x10;
const STRUCTURE_HAS_PICTURES: u8 = 0x08;
/// A spatial layer has three bits.
const MAX_LAYER_FRAMES: usize = 8;
/// VP9 bitstream specification, Annex B: three bits, the others zero.
const SUPERFRAME_MARKER: u8 = 0xc0;
const MAX_INDEX_BYTES: usize = 2 + 4 * MAX_LAYER_FRAMES;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::VideoCodec::Vp9;
    use crate::depacketize::tests::assembled;

    /// First bytes of a keyframe and of another frame.
    const KEY: u8 = 0x82;
    const INTER: u8 = 0x86;

    #[test]
    fn descriptors_of_every_kind_are_read() {
        let keyframes: [&[u8]; 7] = [
            &[0x08],                               // nothing but the start
            &[0x88, 0x7f],                         // 7 bits of picture ID
            &[0x88, 0xff, 0xff],                   // 15 bits
            &[0xa8, 0x80, 1, 0x00, 7],             // layers with TL0PICIDX
            &[0xb8, 0x80, 1, 0x10],                // and without, in flexible mode
            &[0x9a, 0x80, 1, 0x10, 5, 0, 2, 0xd0], // sizes of one layer
            &[0x0a, 0x38, 5, 0, 2, 0xd0, 5, 0, 2, 0xd0, 2, 0x04, 1, 0x3c, 1, 2, 3], // two, and pictures
        ];
        let inter: [&[u8]; 3] = [
            &[0x48],                            // no references told
            &[0xd8, 0x80, 1, 0x02],             // one
            &[0xd8, 0x80, 1, 0x03, 0x05, 0x06], // three
        ];
        for (descriptor, keyframe) in
            keyframes.iter().map(|d| (d, true)).chain(inter.iter().map(|d| (d, false)))
        {
            let first = if keyframe { KEY } else { INTER };
            let payload = [descriptor, &[first][..]].concat();
            assert_eq!(inspect(&payload), Some(PayloadInfo::led(true, keyframe)), "{descriptor:?}");
            for length in 0..=descriptor.len() {
                assert_eq!(inspect(&descriptor[..length]), None, "{descriptor:?} {length}");
            }
        }
        // Not at the start, of an upper layer, and intra-only.
        assert_eq!(inspect(&[0x00, KEY]), Some(PayloadInfo::led(false, false)));
        assert_eq!(inspect(&[0x28, 0x02, 0, KEY]), Some(PayloadInfo::led(false, false)));
        assert_eq!(inspect(&[0x08, INTER]), Some(PayloadInfo::led(true, false)));
    }

    #[test]
    fn malformed_descriptors_are_refused() {
        let cases: [&[u8]; 3] = [
            &[0x18, KEY],                            // flexible mode without picture ID
            &[0xd8, 0x80, 1, 3, 3, 3, 2, INTER],     // four references
            &[0x0a, 0x08, 255, 0x0c, 1, 2, 3, 0, 0], // more pictures than there are
        ];
        for case in cases {
            assert_eq!(inspect(case), None, "{case:?}");
        }
    }

    #[test]
    fn fragments_come_together_and_temporal_layers_do_not_matter() {
        // Temporal layer 2, with TL0PICIDX.
        let parts: [&[u8]; 3] =
            [&[0xe8, 5, 0x50, 1, INTER, 1], &[0xe0, 5, 0x50, 1, 2], &[0xe4, 5, 0x50, 1, 3]];
        let frame = assembled(Vp9, &parts).unwrap();
        assert_eq!(frame.data[..], [INTER, 1, 2, 3]);
        assert!(!frame.keyframe);
        let frame = assembled(Vp9, &[&[0x8c, 6, KEY, 1], &[]]).unwrap();
        assert_eq!(frame.data[..], [KEY, 1]);
        assert!(frame.keyframe);
        assert!(assembled(Vp9, &[&[]]).unwrap().data.is_empty());
    }

    #[test]
    fn spatial_layers_become_a_superframe() {
        let long = [&[0x34 | 0x80, 5, 0x05][..], &[7; 300]].concat();
        let parts: [&[u8]; 4] = [
            &[0xbc, 5, 0x00, KEY, 1], // layer 0
            &[0xb8, 5, 0x03, INTER],  // layer 1 in two, predicted from layer 0
            &[0xb4, 5, 0x03, 2],
            &[0xb8, 5, 0x05, INTER], // layer 2
        ];
        let parts: Vec<&[u8]> = parts.into_iter().chain([&long[..]]).collect();
        let frame = assembled(Vp9, &parts).unwrap();
        assert!(frame.keyframe);
        let (frames, index) = frame.data.split_at(5 + 300);
        assert_eq!(frames[..6], [KEY, 1, INTER, 2, INTER, 7]);
        assert_eq!(index, [0xca, 2, 0, 2, 0, 0x2d, 0x01, 0xca]);
    }

    #[test]
    fn fragments_that_do_not_fit_are_refused() {
        let start: &[u8] = &[0x88, 5, KEY];
        let end: &[u8] = &[0x84, 5, 1];
        assert!(assembled(Vp9, &[start, end]).is_some());
        for parts in [
            vec![end],                                                             // no start
            vec![start],                                                           // no end
            vec![start, start, end],                                               // starts twice
            vec![start, end, end],               // goes on after the end
            vec![start, end, start, end],        // two frames of one layer
            vec![start, &[0x84, 6, 1]],          // another picture's
            vec![start, &[0xa4, 5, 0x02, 0, 1]], // another layer's
            vec![&[0xac, 5, 0x02, 0, KEY]],      // begins with an upper layer
            vec![&[0xac, 5, 0, 0, KEY], &[0xac, 5, 4, 0, 1], &[0xac, 5, 2, 0, 1]], // backwards
        ] {
            assert_eq!(assembled(Vp9, &parts), None, "{parts:?}");
        }
    }
}
