//! The little of VP8 and VP9 syntax that is read without a decoder: which frames are keyframes, and their size.

use crate::frame::Size;

/// What the beginning of a frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// Decodable without others, of this size.
    Keyframe(Size),
    /// Anything else.
    Inter,
}

/// Reads the header of a whole VP8 frame (RFC 6386 §9.1). `None` if there is none.
pub fn vp8_frame(frame: &[u8]) -> Option<FrameKind> {
    let ([tag, _, _], rest) = frame.split_first_chunk()?;
    if !vp8_is_keyframe(*tag) {
        return Some(FrameKind::Inter);
    }
    let ([a, b, c, width_low, width_high, height_low, height_high], _) =
        rest.split_first_chunk()?;
    // The two upper bits of each say how it is scaled for display.
    let dimension = |low, high| u32::from(u16::from_le_bytes([low, high]) & 0x3fff);
    let size = Size::new(dimension(*width_low, *width_high), dimension(*height_low, *height_high));
    let valid = [*a, *b, *c] == VP8_START_CODE && size.width_px > 0 && size.height_px > 0;
    valid.then_some(FrameKind::Keyframe(size))
}

/// Whether a VP8 frame that begins with this byte is a keyframe (RFC 6386 §9.1: bit 0 is 0).
pub fn vp8_is_keyframe(first: u8) -> bool {
    first & 1 == 0
}

/// Reads the uncompressed header of a whole VP9 frame, or of the first one of a superframe (VP9 bitstream
/// specification §6.2). `None` if there is none.
pub fn vp9_frame(frame: &[u8]) -> Option<FrameKind> {
    let &first = frame.first()?;
    let mut bits = Bits { bytes: frame, at: 0 };
    let marker = bits.take(2)?;
    let profile = bits.take(1)? | bits.take(1)? << 1;
    if marker != VP9_FRAME_MARKER || (profile == 3 && bits.take(1)? != 0) {
        return None;
    }
    if !vp9_is_keyframe(first) {
        return Some(FrameKind::Inter);
    }
    // show_existing_frame, frame_type, show_frame, error_resilient_mode.
    bits.take(4)?;
    if bits.take(24)? != VP9_SYNC_CODE {
        return None;
    }
    // color_config().
    if profile >= 2 {
        bits.take(1)?;
    }
    let odd_profile = profile & 1 != 0;
    if bits.take(3)? != VP9_RGB {
        bits.take(if odd_profile { 4 } else { 1 })?;
    } else if odd_profile {
        bits.take(1)?;
    } else {
        return None;
    }
    let (width_px, height_px) = (bits.take(16)? + 1, bits.take(16)? + 1);
    Some(FrameKind::Keyframe(Size { width_px, height_px }))
}

/// Whether a VP9 frame that begins with this byte is a keyframe (VP9 bitstream specification §6.2).
pub fn vp9_is_keyframe(first: u8) -> bool {
    let reserved_bit = first & 0x30 == 0x30;
    // show_existing_frame and frame_type are both 0.
    let kind = if reserved_bit { first & 0x06 } else { first & 0x0c };
    u32::from(first >> 6) == VP9_FRAME_MARKER && kind == 0
}

/// Most significant bit first.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    /// The next `count`, at most 32.
    fn take(&mut self, count: usize) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            let byte = self.bytes.get(self.at / 8)?;
            value = value << 1 | u32::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Some(value)
    }
}

/// RFC 6386 §9.1.
const VP8_START_CODE: [u8; 3] = [0x9d, 0x01, 0x2a];
/// VP9 bitstream specification §7.2.
const VP9_FRAME_MARKER: u32 = 2;
const VP9_SYNC_CODE: u32 = 0x49_83_42;
const VP9_RGB: u32 = 7;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn vp8_headers_are_read() {
        let key = [0x50, 1, 2, 0x9d, 0x01, 0x2a, 0x80, 0x42, 0x68, 0x01, 9];
        assert_eq!(vp8_frame(&key), Some(FrameKind::Keyframe(Size::new(640, 360))));
        assert_eq!(vp8_frame(&key[..9]), None);
        assert_eq!(vp8_frame(&[0x50, 1, 2, 0x9d, 0x01, 0x2b, 0x80, 2, 0x68, 1]), None);
        assert_eq!(vp8_frame(&[0x51, 1, 2]), Some(FrameKind::Inter));
        assert_eq!(vp8_frame(&[0x51, 1]), None);
    }

    #[test]
    fn vp9_headers_are_read() {
        // Profile 0, shown; color space 2, limited range; 640x360 less one each, four bits into a byte.
        let key = [0x82, 0x49, 0x83, 0x42, 0x40, 0x27, 0xf0, 0x16, 0x70];
        assert_eq!(vp9_frame(&key), Some(FrameKind::Keyframe(Size::new(640, 360))));
        assert_eq!(vp9_frame(&key[..8]), None);
        // Profile 1 has three bits more before the size.
        let key = [0xa2, 0x49, 0x83, 0x42, 0x40, 0x04, 0xfe, 0x02, 0xce, 0];
        assert_eq!(vp9_frame(&key), Some(FrameKind::Keyframe(Size::new(640, 360))));
        assert_eq!(vp9_frame(&[0x86]), Some(FrameKind::Inter));
        assert_eq!(vp9_frame(&[0x88]), Some(FrameKind::Inter), "shows an earlier frame");
        assert_eq!(vp9_frame(&[0x02]), None);
        assert_eq!(vp9_frame(&[0x82, 0x49, 0x83, 0x43, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(vp9_frame(&[]), None);
        // Profile 3 has one bit more before the kind.
        assert!(vp9_is_keyframe(0xb0) && !vp9_is_keyframe(0xb2) && !vp9_is_keyframe(0xb4));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
            let _ = (vp8_frame(&bytes), vp9_frame(&bytes));
        }
    }
}
