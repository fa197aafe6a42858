//! The little of H.264 syntax that has to be read before a decoder may see it: NAL unit
//! boundaries, the picture size and the number of reference frames in the sequence parameter set
//! (ITU-T H.264 §7.3.2.1.1, Annex B), and which parameter sets a slice uses.

use crate::frame::Size;

/// NAL unit types (H.264 Table 7-1).
pub const NAL_SLICE: u8 = 1;
/// Coded slice of an IDR picture.
pub const NAL_IDR: u8 = 5;
/// Supplemental enhancement information.
pub const NAL_SEI: u8 = 6;
/// Sequence parameter set.
pub const NAL_SPS: u8 = 7;
/// Picture parameter set.
pub const NAL_PPS: u8 = 8;
/// Access unit delimiter.
pub const NAL_AUD: u8 = 9;

/// The NAL units of an Annex B byte stream, without start codes; empty ones are left out.
pub fn nal_units(stream: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = match find_start_code(stream) {
        Some((_, after)) => &stream[after..],
        None => &[],
    };
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let (end, next) = find_start_code(rest).unwrap_or((rest.len(), rest.len()));
            let nal = &rest[..end];
            rest = &rest[next..];
            if !nal.is_empty() {
                return Some(nal);
            }
        }
        None
    })
}

/// Start of the next `00 00 01` (with any zero bytes before it) and the index after it.
fn find_start_code(data: &[u8]) -> Option<(usize, usize)> {
    let mut from = 0;
    // The third byte decides: only a 1 can end a start code, so look for ones.
    while let Some(found) = data.get(from..)?.iter().position(|&b| b == 1) {
        let one = from + found;
        if one >= 2 && data[one - 1] == 0 && data[one - 2] == 0 {
            let mut start = one - 2;
            while start > 0 && data[start - 1] == 0 {
                start -= 1;
            }
            return Some((start, one + 1));
        }
        from = one + 1;
    }
    None
}

/// What a sequence parameter set says about its pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpsInfo {
    /// `seq_parameter_set_id`, 0 to 31.
    pub id: u8,
    /// `profile_idc`.
    pub profile_idc: u8,
    /// Constraint flags and reserved bits, the second byte of `profile-level-id` (RFC 6184 §8.1).
    pub constraints: u8,
    /// `level_idc`.
    pub level_idc: u8,
    /// Coded size in whole macroblocks, before cropping.
    pub coded_size: Size,
    /// `max_num_ref_frames`, 0 to 16: how many decoded pictures the decoder has to keep.
    pub max_num_ref_frames: u8,
    /// `matrix_coefficients` (Table E-5), where the parameter set has them.
    pub matrix_coefficients: Option<u8>,
    /// `video_full_range_flag` (§E.2.1): 0 where the parameter set has none.
    pub full_range: bool,
}

/// Reads a sequence parameter set NAL unit (header byte included). `None` if it is cut short,
/// malformed, or larger than any level allows.
pub fn parse_sps(nal: &[u8]) -> Option<SpsInfo> {
    if nal.first()? & 0x1f != NAL_SPS {
        return None;
    }
    let rbsp = unescape(&nal[1..]);
    let [profile_idc, constraints, level_idc] = *rbsp.first_chunk::<3>()?;
    let mut bits = Bits::new(&rbsp[3..]);
    let id = bits.exp_golomb_up_to(MAX_SPS_ID)?;
    if matches!(
        profile_idc,
        100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135
    ) {
        if bits.exp_golomb()? == 3 {
            bits.bit()?; // separate_colour_plane_flag
        }
        bits.exp_golomb()?; // bit_depth_luma_minus8
        bits.exp_golomb()?; // bit_depth_chroma_minus8
        bits.bit()?; // qpprime_y_zero_transform_bypass_flag
        if bits.bit()? {
            return None; // Scaling matrices: not in any profile offered here.
        }
    }
    bits.exp_golomb()?; // log2_max_frame_num_minus4
    match bits.exp_golomb()? {
        0 => {
            bits.exp_golomb()?; // log2_max_pic_order_cnt_lsb_minus4
        }
        1 => {
            bits.bit()?;
            bits.exp_golomb()?;
            bits.exp_golomb()?;
            let cycle = bits.exp_golomb()?;
            if cycle > 255 {
                return None;
            }
            for _ in 0..cycle {
                bits.exp_golomb()?;
            }
        }
        2 => {}
        _ => return None,
    }
    let max_num_ref_frames = bits.exp_golomb_up_to(16)?;
    bits.bit()?; // gaps_in_frame_num_value_allowed_flag
    let width_mbs = bits.exp_golomb()?.checked_add(1)?;
    let height_map_units = bits.exp_golomb()?.checked_add(1)?;
    let frame_mbs_only = bits.bit()?;
    let height_mbs = height_map_units.checked_mul(if frame_mbs_only { 1 } else { 2 })?;
    let coded_size = Size::new(width_mbs.checked_mul(16)?, height_mbs.checked_mul(16)?);
    let mut colours = Colours::default();
    // What was read before it ends is used.
    let _ = colours.read(&mut bits, frame_mbs_only);
    Some(SpsInfo {
        id,
        profile_idc,
        constraints,
        level_idc,
        coded_size,
        max_num_ref_frames,
        matrix_coefficients: colours.matrix_coefficients,
        full_range: colours.full_range,
    })
}

/// Ids of a picture parameter set NAL unit (§7.3.2.2): its own and that of its sequence parameter
/// set. `None` if it is cut short or an id is out of range.
pub fn parse_pps_ids(nal: &[u8]) -> Option<(u8, u8)> {
    let rbsp = beginning(nal);
    let mut bits = Bits::new(&rbsp);
    Some((bits.exp_golomb_up_to(u8::MAX)?, bits.exp_golomb_up_to(MAX_SPS_ID)?))
}

/// Id of the picture parameter set that a slice NAL unit uses (§7.3.3). `None` if it is cut short or
/// the id is out of range.
pub fn parse_slice_pps_id(nal: &[u8]) -> Option<u8> {
    let rbsp = beginning(nal);
    let mut bits = Bits::new(&rbsp);
    bits.exp_golomb()?; // first_mb_in_slice
    bits.exp_golomb()?; // slice_type
    bits.exp_golomb_up_to(u8::MAX)
}

/// What follows the NAL unit's header, as far as the longest three Exp-Golomb codes go: slices are
/// large, and nobody wants them copied.
fn beginning(nal: &[u8]) -> Vec<u8> {
    let end = nal.len().min(1 + 3 * 8 * 3 / 2);
    unescape(nal.get(1..end).unwrap_or_default())
}

/// Largest `seq_parameter_set_id` (§7.4.2.1.1).
pub const MAX_SPS_ID: u8 = 31;

/// What the VUI says of colours.
#[derive(Default)]
struct Colours {
    matrix_coefficients: Option<u8>,
    full_range: bool,
}

impl Colours {
    /// Reads on from after `frame_mbs_only_flag` into the VUI (§E.1.1). `None`: it ends before.
    fn read(&mut self, bits: &mut Bits<'_>, frame_mbs_only: bool) -> Option<()> {
        if !frame_mbs_only {
            bits.bit()?; // mb_adaptive_frame_field_flag
        }
        bits.bit()?; // direct_8x8_inference_flag
        if bits.bit()? {
            for _ in 0..4 {
                bits.exp_golomb()?; // frame_crop_*_offset
            }
        }
        if !bits.bit()? {
            return Some(()); // vui_parameters_present_flag
        }
        if bits.bit()? && bits.byte()? == EXTENDED_SAR {
            for _ in 0..4 {
                bits.byte()?; // sar_width, sar_height
            }
        }
        if bits.bit()? {
            bits.bit()?; // overscan_appropriate_flag
        }
        if !bits.bit()? {
            return Some(()); // video_signal_type_present_flag
        }
        bits.bits(3)?; // video_format
        self.full_range = bits.bit()?;
        if bits.bit()? {
            bits.byte()?; // colour_primaries
            bits.byte()?; // transfer_characteristics
            self.matrix_coefficients = Some(bits.byte()?);
        }
        Some(())
    }
}

/// `aspect_ratio_idc` for a ratio of its own (Table E-1).
const EXTENDED_SAR: u8 = 255;

/// Takes out emulation prevention bytes (§7.4.1).
fn unescape(nal: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(nal.len());
    let mut zeros = 0;
    for &byte in nal {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
    out
}

pub(super) struct Bits<'a> {
    data: &'a [u8],
    position: usize,
}

impl<'a> Bits<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self { data, position: 0 }
    }

    pub(super) fn bit(&mut self) -> Option<bool> {
        let byte = *self.data.get(self.position / 8)?;
        let bit = byte >> (7 - self.position % 8) & 1;
        self.position += 1;
        Some(bit == 1)
    }

    /// The next `count` bits, at most 32, as a number.
    pub(super) fn bits(&mut self, count: u32) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            value = value << 1 | u32::from(self.bit()?);
        }
        Some(value)
    }

    fn byte(&mut self) -> Option<u8> {
        self.bits(8).and_then(|value| u8::try_from(value).ok())
    }

    /// `ue(v)` (§9.1); signed values are read the same way where only their length matters.
    fn exp_golomb(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.bit()? {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        let mut value: u32 = 1;
        for _ in 0..zeros {
            value = value << 1 | u32::from(self.bit()?);
        }
        Some(value - 1)
    }

    /// The same where a larger value is malformed.
    fn exp_golomb_up_to(&mut self, max: u8) -> Option<u8> {
        u8::try_from(self.exp_golomb()?).ok().filter(|value| *value <= max)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nal_units_are_found_behind_three_and_four_byte_start_codes() {
        let stream = [9, 0, 0, 0, 1, 7, 1, 2, 0, 0, 1, 8, 3, 0, 0, 1, 0, 0, 1, 5, 0, 4];
        let nals: Vec<&[u8]> = nal_units(&stream).collect();
        assert_eq!(nals, [&[7, 1, 2][..], &[8, 3], &[5, 0, 4]]);
        assert_eq!(nal_units(&[1, 2, 3]).count(), 0);
        assert_eq!(nal_units(&[0, 0, 1]).count(), 0);
    }

    #[test]
    fn size_is_read_from_a_browsers_parameter_set() {
        // Chromium's openh264, 640x480.
        let sps =
            [0x67, 0x42, 0xc0, 0x1f, 0x8c, 0x8d, 0x40, 0x50, 0x1e, 0x90, 0x0f, 0x08, 0x84, 0x6a];
        let info = parse_sps(&sps).unwrap();
        assert_eq!(info.coded_size, Size::new(640, 480));
        assert_eq!((info.profile_idc, info.level_idc), (66, 31));
        assert_eq!(info.matrix_coefficients, None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            let total: usize = nal_units(&data).map(<[u8]>::len).sum();
            prop_assert!(total <= data.len());
            for nal in nal_units(&data) {
                let _ = (parse_sps(nal), parse_pps_ids(nal), parse_slice_pps_id(nal));
            }
            let mut sps = vec![0x67];
            sps.extend_from_slice(&data);
            let _ = parse_sps(&sps);
        }
    }
}
