//! VP8 frames to RTP payloads (RFC 7741): no layers, partitions not told apart.

use bytes::Bytes;
use visavis_media::headers::vp8_frame;

use super::{LONG_PICTURE_ID, fragments, payload};

/// Splits a frame. None if it has no VP8 header.
pub(super) fn payloads(frame: &[u8], picture_id: u16, max_len: usize) -> Vec<Bytes> {
    if vp8_frame(frame).is_none() {
        return Vec::new();
    }
    let [id_high, id_low] = (LONG_PICTURE_ID | picture_id).to_be_bytes();
    fragments(frame, max_len - DESCRIPTOR_LEN, 0)
        .map(|fragment| {
            let start = if fragment.is_first { START } else { 0 };
            payload(&[EXTENDED | start, PICTURE_ID, id_high, id_low], fragment.data)
        })
        .collect()
}

// RFC 7741 §4.2, figure 2.
const EXTENDED: u8 = 0x80;
const START: u8 = 0x10;
const PICTURE_ID: u8 = 0x80;
const DESCRIPTOR_LEN: usize = 4;
