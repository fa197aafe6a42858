//! Coded pictures to RTP payloads, for each codec. Pure.

mod av1;
mod h264;
#[cfg(test)]
mod tests;
mod vp8;
mod vp9;

use bytes::{BufMut, Bytes, BytesMut};
use visavis_media::VideoCodec;

/// Cuts up the pictures of one stream, whatever codec each is coded with.
#[derive(Debug)]
pub(crate) struct FramePacketizer {
    vp8_picture_id: u16,
    vp9_picture_id: u16,
}

impl FramePacketizer {
    /// With the PictureID that VP8 and VP9 begin with, random (RFC 7741 §4.2, RFC 9628 §4.2); its upper bit is
    /// not used.
    pub(crate) fn new(first_picture_id: u16) -> Self {
        let first = first_picture_id & MAX_PICTURE_ID;
        Self { vp8_picture_id: first, vp9_picture_id: first }
    }

    /// Splits a picture, as in `EncodedVideoFrame::data`, into payloads of at most `max_len` bytes (but 16 at
    /// least); each picture that is given counts as sent. None if it cannot be read.
    pub(crate) fn payloads(
        &mut self,
        codec: VideoCodec,
        frame: &Bytes,
        max_len: usize,
    ) -> Vec<Bytes> {
        let max_len = max_len.max(MIN_PAYLOAD);
        match codec {
            VideoCodec::H264 => h264::payloads(frame, max_len),
            VideoCodec::Av1 => av1::payloads(frame, max_len),
            VideoCodec::Vp8 => {
                numbered(&mut self.vp8_picture_id, |id| vp8::payloads(frame, id, max_len))
            }
            VideoCodec::Vp9 => {
                numbered(&mut self.vp9_picture_id, |id| vp9::payloads(frame, id, max_len))
            }
        }
    }
}

/// Counts a picture unless there is nothing to send of it.
fn numbered(picture_id: &mut u16, payloads: impl FnOnce(u16) -> Vec<Bytes>) -> Vec<Bytes> {
    let payloads = payloads(*picture_id);
    if !payloads.is_empty() {
        *picture_id = (*picture_id + 1) & MAX_PICTURE_ID;
    }
    payloads
}

/// A piece of what does not fit into one payload.
#[derive(Debug, Clone, Copy)]
struct Fragment<'a> {
    data: &'a [u8],
    is_first: bool,
    is_last: bool,
}

/// Cuts `data` for payloads that have room for `max_len` bytes of it, the first one for `first_extra` fewer. The
/// payloads are equally long but for the last: the kernel can then send them in one call (GSO).
fn fragments(
    data: &[u8],
    max_len: usize,
    first_extra: usize,
) -> impl Iterator<Item = Fragment<'_>> {
    let size = equal_size(data.len() + first_extra, max_len);
    let (first, rest) = data.split_at(size.saturating_sub(first_extra).min(data.len()));
    let more = rest.len().div_ceil(size);
    let first = Fragment { data: first, is_first: true, is_last: more == 0 };
    std::iter::once(first).chain(rest.chunks(size).enumerate().map(move |(index, data)| Fragment {
        data,
        is_first: false,
        is_last: index + 1 == more,
    }))
}

/// The size of as few pieces of `len` bytes as can be, none above `max_len`, all equal but for the last.
fn equal_size(len: usize, max_len: usize) -> usize {
    let pieces = len.div_ceil(max_len).max(1);
    len.div_ceil(pieces).max(1)
}

/// One payload.
fn payload(header: &[u8], data: &[u8]) -> Bytes {
    let mut payload = BytesMut::with_capacity(header.len() + data.len());
    payload.put_slice(header);
    payload.put_slice(data);
    payload.freeze()
}

/// 15 bits.
const MAX_PICTURE_ID: u16 = 0x7fff;
/// The bit that says that a PictureID has 15 bits (RFC 7741 §4.2, RFC 9628 §4.2).
const LONG_PICTURE_ID: u16 = 0x8000;
/// Below this a payload cannot carry a fragment.
const MIN_PAYLOAD: usize = 16;
