//! RTP payloads back into coded pictures, for each codec.
//!
//! Every length is checked here: these bytes come from the network.

mod h264;

use bytes::{Bytes, BytesMut};

use crate::codec::VideoCodec;

/// What one RTP payload holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PayloadInfo {
    /// Certainly the first payload of its picture. (H.264 and AV1 do not always tell; then it is false.)
    pub leads_picture: bool,
    /// May belong to a keyframe.
    pub keyframe: bool,
    /// Belongs to a picture that can be decoded without others: one of its payloads has to say so.
    pub idr: bool,
    /// Padding: nothing in it.
    pub empty: bool,
}

/// Reads a payload's structure. `None` if it is malformed or of a kind that was not negotiated.
pub fn inspect(codec: VideoCodec, payload: &[u8]) -> Option<PayloadInfo> {
    if payload.is_empty() {
        return Some(PayloadInfo { empty: true, ..Default::default() });
    }
    match codec {
        VideoCodec::H264 => h264::inspect(payload),
        _ => None,
    }
}

/// Puts the payloads of one picture, in sequence order, together into what a decoder takes, cut off `memory`,
/// which grows as needed and is used again once earlier pictures are dropped. `None` if they do not fit
/// together. What a decoder has no use for is left out, so the result can be empty.
pub fn assemble<'a>(
    codec: VideoCodec,
    payloads: impl Iterator<Item = &'a [u8]> + Clone,
    memory: &mut BytesMut,
) -> Option<CodedPicture> {
    memory.clear();
    match codec {
        VideoCodec::H264 => h264::assemble(payloads, memory),
        _ => None,
    }
}

/// One assembled picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodedPicture {
    /// As in [`EncodedVideoFrame::data`](crate::EncodedVideoFrame::data).
    pub data: Bytes,
    /// Whether it can be decoded without others.
    pub keyframe: bool,
}
