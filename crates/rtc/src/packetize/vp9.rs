//! VP9 frames to RTP payloads (RFC 9628): flexible mode, no layers. Every inter picture is said to refer to the one
//! right before it; should it refer to older ones too, it still can be decoded whenever that one can.

use bytes::Bytes;
use visavis_media::Size;
use visavis_media::headers::{FrameKind, vp9_frame};

use super::{LONG_PICTURE_ID, fragments, payload};

/// Splits a frame or superframe. None if it has no VP9 header.
pub(super) fn payloads(frame: &[u8], picture_id: u16, max_len: usize) -> Vec<Bytes> {
    let Some((flags, reference, structure)) = vp9_frame(frame).and_then(describe) else {
        return Vec::new();
    };
    let [id_high, id_low] = (LONG_PICTURE_ID | picture_id).to_be_bytes();
    let common = 3 + reference.len();
    fragments(frame, max_len - common, structure.len())
        .map(|fragment| {
            let (mut flags, mut first_only) = (PICTURE_ID | FLEXIBLE_MODE | flags, &[][..]);
            if fragment.is_first {
                flags |= START;
                first_only = &structure;
                if !structure.is_empty() {
                    flags |= SCALABILITY_STRUCTURE;
                }
            }
            if fragment.is_last {
                flags |= END;
            }
            let header = [&[flags, id_high, id_low], reference, first_only].concat();
            payload(&header, fragment.data)
        })
        .collect()
}

/// Flags and reference of every payload, and the scalability structure of the first one. `None`: a size that cannot
/// be said.
fn describe(kind: FrameKind) -> Option<(u8, &'static [u8], Vec<u8>)> {
    match kind {
        FrameKind::Inter => Some((INTER_PICTURE, &PREVIOUS_PICTURE, Vec::new())),
        FrameKind::Keyframe(Size { width_px, height_px }) => {
            let [w1, w2] = u16::try_from(width_px).ok()?.to_be_bytes();
            let [h1, h2] = u16::try_from(height_px).ok()?.to_be_bytes();
            Some((0, &[], vec![ONE_LAYER_WITH_SIZE, w1, w2, h1, h2]))
        }
    }
}

// RFC 9628 §4.2.
const PICTURE_ID: u8 = 0x80;
const INTER_PICTURE: u8 = 0x40;
const FLEXIBLE_MODE: u8 = 0x10;
const START: u8 = 0x08;
const END: u8 = 0x04;
const SCALABILITY_STRUCTURE: u8 = 0x02;
/// P_DIFF 1, and none after it.
const PREVIOUS_PICTURE: [u8; 1] = [1 << 1];
/// RFC 9628 §4.2.1: N_S 0, Y 1, G 0.
const ONE_LAYER_WITH_SIZE: u8 = 0x10;
