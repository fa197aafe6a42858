//! The headers of VP8 and VP9, read before libvpx sees them: what is decoded, what memory that takes, and where frames end.

use super::sps::Bits;
use crate::frame::Size;

/// What the frame tag of VP8 says, and behind it the size of a keyframe (RFC 6386 §9.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Vp8Header {
    /// Of a keyframe.
    pub(super) size: Option<Size>,
    pub(super) shown: bool,
}

/// `None`: not VP8.
pub(super) fn parse_vp8(frame: &[u8]) -> Option<Vp8Header> {
    let [a, b, c, rest @ ..] = frame else { return None };
    let tag = u32::from_le_bytes([*a, *b, *c, 0]);
    let (version, shown) = (tag >> 1 & 7, tag >> 4 & 1 == 1);
    let first_partition_bytes = usize::try_from(tag >> 5).ok()?;
    if version > MAX_VP8_VERSION {
        return None;
    }
    let (size, rest) = if tag & 1 == 0 {
        let [0x9d, 0x01, 0x2a, w0, w1, h0, h1, rest @ ..] = rest else { return None };
        // 14 bits each, with the scaling, which is for the display, above them.
        let side = |low: u8, high: u8| u32::from(u16::from_le_bytes([low, high]) & 0x3fff);
        (Some(Size::new(side(*w0, *w1), side(*h0, *h1))), rest)
    } else {
        (None, rest)
    };
    (first_partition_bytes > 0 && first_partition_bytes <= rest.len())
        .then_some(Vp8Header { size, shown })
}

/// The frames of a VP9 superframe, or the one frame that `coded` is (VP9 bitstream specification, Annex B). `None`: its
/// index is broken.
pub(super) fn vp9_frames(coded: &[u8]) -> Option<impl Iterator<Item = &[u8]>> {
    let marker = *coded.last()?;
    let (mut frames, mut length_bytes, mut index): (usize, usize, &[u8]) = (1, 0, &[]);
    let mut data = coded;
    if marker & 0xe0 == 0xc0 {
        frames = usize::from(marker & 7) + 1;
        length_bytes = usize::from(marker >> 3 & 3) + 1;
        let split = coded.len().checked_sub(2 + length_bytes * frames)?;
        (data, index) = coded.split_at(split);
        if *index.first()? != marker {
            return None;
        }
        index = &index[1..index.len() - 1];
        let lengths = index.chunks_exact(length_bytes).map(little_endian);
        if lengths.clone().any(|length| length == 0) || lengths.sum::<usize>() > data.len() {
            return None;
        }
    }
    Some((0..frames).map(move |n| {
        if length_bytes == 0 {
            return data;
        }
        let length = little_endian(&index[n * length_bytes..(n + 1) * length_bytes]);
        let (frame, rest) = data.split_at(length);
        data = rest;
        frame
    }))
}

fn little_endian(bytes: &[u8]) -> usize {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | usize::from(*byte))
}

/// What the uncompressed header of a VP9 frame says (VP9 bitstream specification §6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Vp9Header {
    pub(super) keyframe: bool,
    pub(super) shown: bool,
    pub(super) size: Size,
    /// The references that it becomes, a bit for each.
    refreshed: u8,
}

/// The sizes of the eight references of a VP9 decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Vp9References([Option<Size>; 8]);

impl Vp9References {
    /// The header of the next frame, which then is a reference itself if it says so. `None`: not VP9, not profile 0, or
    /// of a size that depends on a frame that never came.
    pub(super) fn parse(&mut self, frame: &[u8]) -> Option<Vp9Header> {
        let header = self.header(&mut Bits::new(frame))?;
        for (n, reference) in self.0.iter_mut().enumerate() {
            if header.refreshed >> n & 1 == 1 {
                *reference = Some(header.size);
            }
        }
        Some(header)
    }

    fn header(&self, bits: &mut Bits<'_>) -> Option<Vp9Header> {
        if bits.bits(2)? != VP9_FRAME_MARKER || bits.bits(2)? != 0 {
            return None;
        }
        if bits.bit()? {
            let size = self.reference(bits)?;
            return Some(Vp9Header { keyframe: false, shown: true, size, refreshed: 0 });
        }
        let keyframe = !bits.bit()?;
        let (shown, error_resilient) = (bits.bit()?, bits.bit()?);
        if keyframe {
            sync_code(bits)?;
            if bits.bits(3)? == VP9_CS_RGB {
                return None;
            }
            let _full_range = bits.bit()?;
            return Some(Vp9Header { keyframe, shown, size: frame_size(bits)?, refreshed: 0xff });
        }
        let intra_only = !shown && bits.bit()?;
        if !error_resilient {
            let _reset_frame_context = bits.bits(2)?;
        }
        if intra_only {
            sync_code(bits)?;
        }
        let refreshed = u8::try_from(bits.bits(8)?).ok()?;
        let size = if intra_only { frame_size(bits)? } else { self.size_with_references(bits)? };
        Some(Vp9Header { keyframe, shown, size, refreshed })
    }

    fn reference(&self, bits: &mut Bits<'_>) -> Option<Size> {
        self.0[bits.bits(3)? as usize]
    }

    /// `frame_size_with_refs`.
    fn size_with_references(&self, bits: &mut Bits<'_>) -> Option<Size> {
        let mut sizes = [Size::default(); 3];
        for size in &mut sizes {
            *size = self.reference(bits)?;
            let _sign_bias = bits.bit()?;
        }
        for size in sizes {
            if bits.bit()? {
                return Some(size);
            }
        }
        frame_size(bits)
    }
}

fn sync_code(bits: &mut Bits<'_>) -> Option<()> {
    (bits.bits(24)? == VP9_SYNC_CODE).then_some(())
}

fn frame_size(bits: &mut Bits<'_>) -> Option<Size> {
    let (width, height) = (bits.bits(16)?, bits.bits(16)?);
    Some(Size::new(width + 1, height + 1))
}

const MAX_VP8_VERSION: u32 = 3;
const VP9_FRAME_MARKER: u32 = 2;
const VP9_SYNC_CODE: u32 = 0x49_83_42;
const VP9_CS_RGB: u32 = 7;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn vp8_frame_tags_are_read_and_checked() {
        let key = [0x10, 0x00, 0x00, 0x9d, 0x01, 0x2a, 0x80, 0x42, 0xe0, 0x81];
        let with = |first_partition: u8, tail: usize| {
            let mut frame = key.to_vec();
            frame[0] |= first_partition << 5;
            frame.resize(key.len() + tail, 0);
            parse_vp8(&frame)
        };
        let header = Vp8Header { size: Some(Size::new(640, 480)), shown: true };
        assert_eq!(with(3, 3), Some(header));
        assert_eq!(with(3, 2), None, "the first partition is cut");
        assert_eq!(with(0, 9), None);
        assert_eq!(parse_vp8(&[0x31, 0, 0, 0]), Some(Vp8Header { size: None, shown: true }));
        assert_eq!(parse_vp8(&[0x39, 0, 0, 0]), None, "version 4");
        assert_eq!(parse_vp8(&[0x31, 0]), None);
    }

    #[test]
    fn vp9_superframes_are_cut_into_their_frames() {
        let frames = |coded: &'static [u8]| vp9_frames(coded).map(Iterator::collect::<Vec<_>>);
        assert_eq!(frames(&[0x82, 1, 2]), Some(vec![&[0x82, 1, 2][..]]));
        // Two frames with lengths of a byte.
        assert_eq!(frames(&[1, 2, 3, 0xc1, 2, 1, 0xc1]), Some(vec![&[1, 2][..], &[3]]));
        assert_eq!(frames(&[1, 2, 3, 0xc1, 2, 2, 0xc1]), None, "longer than all");
        assert_eq!(frames(&[1, 2, 3, 0xc1, 3, 0, 0xc1]), None, "of no length");
        assert_eq!(frames(&[1, 2, 3, 0xc0, 2, 1, 0xc1]), None, "begins otherwise");
        assert_eq!(frames(&[0xc1]), None);
        assert_eq!(frames(&[]), None);
    }
}
