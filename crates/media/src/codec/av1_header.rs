//! AV1's open bitstream units (AV1 specification §5.3 to §5.5), read before the decoder sees them: where they end, and what
//! pictures of what size their sequence header announces.

use super::sps::Bits;
use crate::frame::Size;
use crate::obu::Obu;

/// Type and payload of each OBU of a temporal unit in the low-overhead format. `None` in the place of one that is
/// malformed, has no size or is cut, and nothing after it.
pub(super) fn obus(temporal_unit: &[u8]) -> impl Iterator<Item = Option<(u8, &[u8])>> {
    let mut rest = Some(temporal_unit);
    std::iter::from_fn(move || {
        let mut data = rest.take().filter(|data| !data.is_empty())?;
        Some(Obu::take(&mut data).map(|obu| {
            rest = Some(data);
            (obu.kind, obu.payload)
        }))
    })
}

/// Whether a frame, or its header, is that of a keyframe which is shown as it is (§5.9.2).
pub(super) fn is_keyframe(frame_header: &[u8]) -> bool {
    // `show_existing_frame`, `frame_type`, `show_frame`.
    frame_header.first().is_some_and(|byte| byte >> 4 == 0b0001)
}

/// What a sequence header says (§5.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SequenceHeader {
    pub(super) profile: u32,
    pub(super) still: bool,
    pub(super) high_bit_depth: bool,
    pub(super) monochrome: bool,
    /// Largest size of its pictures.
    pub(super) max_size: Size,
    /// `matrix_coefficients`; 2, unspecified, if it says nothing.
    pub(super) matrix_coefficients: u32,
    pub(super) full_range: bool,
}

/// `None`: cut, or RGB.
pub(super) fn parse_sequence_header(payload: &[u8]) -> Option<SequenceHeader> {
    let mut bits = Bits::new(payload);
    let bits = &mut bits;
    let profile = bits.bits(3)?;
    let (still, reduced) = (bits.bit()?, bits.bit()?);
    if reduced {
        let _level = bits.bits(5)?;
    } else {
        operating_points(bits)?;
    }
    let (width_bits, height_bits) = (bits.bits(4)? + 1, bits.bits(4)? + 1);
    let max_size = Size::new(bits.bits(width_bits)? + 1, bits.bits(height_bits)? + 1);
    if !reduced && bits.bit()? {
        let _frame_id_lengths = bits.bits(4 + 3)?;
    }
    // `use_128x128_superblock`, `enable_filter_intra`, `enable_intra_edge_filter`.
    bits.bits(3)?;
    if !reduced {
        tools(bits)?;
    }
    // `enable_superres`, `enable_cdef`, `enable_restoration`.
    bits.bits(3)?;
    let high_bit_depth = bits.bit()?;
    let twelve_bit = profile == 2 && high_bit_depth && bits.bit()?;
    let monochrome = profile != 1 && bits.bit()?;
    let (mut primaries, mut transfer, mut matrix_coefficients) = (2, 2, 2);
    if bits.bit()? {
        (primaries, transfer, matrix_coefficients) = (bits.bits(8)?, bits.bits(8)?, bits.bits(8)?);
    }
    if !monochrome && (primaries, transfer, matrix_coefficients) == SRGB {
        return None;
    }
    let full_range = bits.bit()?;
    Some(SequenceHeader {
        profile,
        still: still || reduced,
        high_bit_depth: high_bit_depth || twelve_bit,
        monochrome,
        max_size,
        matrix_coefficients,
        full_range,
    })
}

/// Timing, decoder model and operating points of `sequence_header_obu`.
fn operating_points(bits: &mut Bits<'_>) -> Option<()> {
    let (mut decoder_model, mut delay_bits) = (false, 0);
    if bits.bit()? {
        bits.bits(32)?;
        bits.bits(32)?;
        if bits.bit()? {
            uvlc(bits)?;
        }
        decoder_model = bits.bit()?;
        if decoder_model {
            delay_bits = bits.bits(5)? + 1;
            bits.bits(32)?;
            bits.bits(5 + 5)?;
        }
    }
    let display_delay = bits.bit()?;
    for _ in 0..=bits.bits(5)? {
        let _idc = bits.bits(12)?;
        if bits.bits(5)? > 7 {
            let _tier = bits.bit()?;
        }
        if decoder_model && bits.bit()? {
            bits.bits(delay_bits)?;
            bits.bits(delay_bits)?;
            let _low_delay = bits.bit()?;
        }
        if display_delay && bits.bit()? {
            bits.bits(4)?;
        }
    }
    Some(())
}

/// From `enable_interintra_compound` to `order_hint_bits_minus_1`.
fn tools(bits: &mut Bits<'_>) -> Option<()> {
    bits.bits(4)?;
    let order_hint = bits.bit()?;
    if order_hint {
        bits.bits(2)?;
    }
    // `seq_choose_screen_content_tools`, or whether there are any.
    let screen_content = bits.bit()? || bits.bit()?;
    if screen_content && !bits.bit()? {
        let _force_integer_mv = bits.bit()?;
    }
    if order_hint {
        bits.bits(3)?;
    }
    Some(())
}

/// `uvlc()` (§4.10.3); its value matters to nobody here.
fn uvlc(bits: &mut Bits<'_>) -> Option<()> {
    let mut zeros = 0;
    while !bits.bit()? {
        zeros += 1;
    }
    if zeros < 32 {
        bits.bits(zeros)?;
    }
    Some(())
}

/// `CP_BT_709`, `TC_SRGB` and `MC_IDENTITY`, which are 4:4:4.
const SRGB: (u32, u32, u32) = (1, 13, 0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_end_where_their_sizes_say() {
        let of = |data: &'static [u8]| obus(data).collect::<Vec<_>>();
        assert_eq!(of(&[0x12, 0, 0x32, 2, 7, 8]), [Some((2, &[][..])), Some((6, &[7, 8][..]))]);
        // With an extension, and with a size of two bytes.
        assert_eq!(of(&[0x36, 0x20, 0x81, 0, 9]), [Some((6, &[9][..]))]);
        assert_eq!(of(&[0x12, 0, 0x32, 3, 7, 8]), [Some((2, &[][..])), None], "cut");
        assert_eq!(of(&[0x30, 7, 8]), [None], "no size");
        assert_eq!(of(&[0x92, 0]), [None], "forbidden bit");
        assert_eq!(of(&[0x32, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0]), [None]);
        assert_eq!(of(&[0x32, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]), [None]);
        assert_eq!(of(&[]), []);
    }
}
