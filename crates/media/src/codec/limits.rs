//! What the video codecs share: which sizes are coded and decoded, how often they may change, and copying of planes.

use std::collections::VecDeque;
use std::time::Duration;

use super::VideoCodec;
use crate::error::MediaError;
use crate::frame::{Bitrate, I420Buffer, MediaTime, Size};

/// `size` without its last column or row if odd, which is what is coded of a picture.
///
/// # Errors
/// No encoder takes it.
pub(super) fn encoded_size(size: Size) -> Result<Size, MediaError> {
    let in_range = |px: u32| (MIN_DIMENSION_PX..=MAX_ENCODED_DIMENSION_PX).contains(&px);
    let even = Size::new(size.width_px & !1, size.height_px & !1);
    if in_range(even.width_px) && in_range(even.height_px) {
        Ok(even)
    } else {
        Err(MediaError::UnsupportedSize(size))
    }
}

/// Refuses pictures from the network that are larger than any sender needs.
pub(super) fn check_decoded_size(size: Size) -> Result<(), MediaError> {
    let macroblocks =
        u64::from(size.width_px.div_ceil(16)) * u64::from(size.height_px.div_ceil(16));
    let in_range = |px: u32| (1..=MAX_DECODED_DIMENSION_PX).contains(&px);
    if in_range(size.width_px) && in_range(size.height_px) && macroblocks <= MAX_FRAME_MACROBLOCKS {
        Ok(())
    } else {
        Err(MediaError::UnsupportedSize(size))
    }
}

/// Refuses coded pictures from the network that no sender makes.
pub(super) fn check_coded_bytes(codec: VideoCodec, coded: &[u8]) -> Result<(), MediaError> {
    if coded.len() > MAX_CODED_BYTES {
        let message = format!("coded picture of {} bytes", coded.len());
        return Err(MediaError::VideoDecode { codec, message });
    }
    Ok(())
}

/// `frames_per_second` as encoders take it.
pub(super) fn usable_frame_rate(frames_per_second: f32) -> f32 {
    if frames_per_second.is_finite() { frames_per_second.clamp(1.0, 60.0) } else { 30.0 }
}

/// When a codec last got memory for another size, or anew after an error; oldest first.
#[derive(Debug, Default)]
pub(super) struct SizeChanges(VecDeque<MediaTime>);

impl SizeChanges {
    /// Whether it may at `now`; counts it if so.
    pub(super) fn allow(&mut self, now: MediaTime) -> bool {
        while let Some(oldest) = self.0.front()
            && now.saturating_since(*oldest) >= SIZE_CHANGES_PERIOD
        {
            self.0.pop_front();
        }
        let allowed = self.0.len() < MAX_SIZE_CHANGES;
        if allowed {
            self.0.push_back(now);
        }
        allowed
    }
}

/// Copies a plane whose rows are `from_stride` apart. Whether all rows were there.
pub(super) fn copy_plane(from: &[u8], from_stride: usize, to: &mut [u8], to_stride: usize) -> bool {
    let rows = to.len() / to_stride;
    if from_stride < to_stride || rows == 0 || from.len() < (rows - 1) * from_stride + to_stride {
        return false;
    }
    for (from, to) in from.chunks(from_stride).zip(to.chunks_exact_mut(to_stride)) {
        to.copy_from_slice(&from[..to_stride]);
    }
    true
}

/// From full range, 0 to 255, to limited range, 16 to 235 (luma) and 16 to 240 (chroma) (ITU-T H.264 §E.2.1).
pub(super) fn limit_range(buffer: &mut I420Buffer) {
    /// `zero` is black or no colour in full range, `limited_zero` in limited range.
    const fn table(span: i32, zero: i32, limited_zero: i32) -> [u8; 256] {
        let mut table = [0; 256];
        let mut value = 0;
        while value < 256 {
            let scaled = (value - zero) * span;
            let half = if scaled < 0 { -127 } else { 127 };
            table[value as usize] = (limited_zero + (scaled + half) / 255) as u8;
            value += 1;
        }
        table
    }
    const LUMA: [u8; 256] = table(219, 0, 16);
    const CHROMA: [u8; 256] = table(224, 128, 128);
    for (plane, table) in buffer.planes_mut().into_iter().zip([&LUMA, &CHROMA, &CHROMA]) {
        for value in plane {
            *value = table[usize::from(*value)];
        }
    }
}

/// Below this openh264 rejects the rate against the frame rate, and no picture is worth seeing.
pub(super) const MIN_BITRATE: Bitrate = Bitrate::from_kbps(30);
/// Several pictures at usual bitrates. `BytesMut` never takes a smaller piece later than its first,
/// nor remembers one beyond 64 KiB.
pub(super) const OUTPUT_BYTES: usize = 64 << 10;
/// `matrix_coefficients` 1, 5 and 6 of ITU-T H.264 Table E-5 and of the AV1 specification §6.4.2; the latter two both
/// are BT.601's.
pub(super) const BT709: u8 = 1;
pub(super) const BT470BG: u8 = 5;
pub(super) const SMPTE170M: u8 = 6;
/// One macroblock.
const MIN_DIMENSION_PX: u32 = 16;
/// openh264 takes no more than 3840x2160 or 2160x3840; it says so itself beyond that area.
const MAX_ENCODED_DIMENSION_PX: u32 = 3840;
/// Macroblocks in a picture from the network: `MaxFS` of level 4 (ITU-T H.264 Table A-1), 1920x1080. What is offered for
/// H.264 is level 3.1, 1280x720, but software encoders of browsers do not look at the level when somebody's camera, or the
/// screen shared in its place, is larger.
pub(super) const MAX_FRAME_MACROBLOCKS: u64 = 8_192;
/// Longest side of a picture from the network: `Sqrt(MaxFS * 8)` macroblocks (ITU-T H.264 §A.3.1 g).
pub(super) const MAX_DECODED_DIMENSION_PX: u32 = 4096;
/// Size changes in [`SIZE_CHANGES_PERIOD`] at most. A browser's steps down and up on a bad network, or a
/// phone that is turned, are seconds apart; another size means some 10 ms and up to 30 MB of fresh memory.
pub(super) const MAX_SIZE_CHANGES: usize = 8;
const SIZE_CHANGES_PERIOD: Duration = Duration::from_secs(4);
/// Largest coded picture taken from the network: more than level 5.1 of H.264 allows for one.
const MAX_CODED_BYTES: usize = 4 << 20;
