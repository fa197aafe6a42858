//! RTP payloads back into coded pictures, for each codec.
//!
//! Every length is checked here: these bytes come from the network.

mod av1;
mod h264;
mod vp8;
mod vp9;

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

impl PayloadInfo {
    /// As VP8, VP9 and AV1 have it: the payload that leads a keyframe alone tells that it is one.
    fn led(leads_picture: bool, keyframe: bool) -> Self {
        Self { leads_picture, keyframe, idr: keyframe, empty: false }
    }
}

/// Reads a payload's structure. `None` if it is malformed or of a kind that was not negotiated.
pub fn inspect(codec: VideoCodec, payload: &[u8]) -> Option<PayloadInfo> {
    if payload.is_empty() {
        return Some(PayloadInfo { empty: true, ..Default::default() });
    }
    match codec {
        VideoCodec::Av1 => av1::inspect(payload),
        VideoCodec::Vp9 => vp9::inspect(payload),
        VideoCodec::H264 => h264::inspect(payload),
        VideoCodec::Vp8 => vp8::inspect(payload),
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
        VideoCodec::Av1 => av1::assemble(payloads, memory),
        VideoCodec::Vp9 => vp9::assemble(payloads, memory),
        VideoCodec::H264 => h264::assemble(payloads, memory),
        VideoCodec::Vp8 => vp8::assemble(payloads, memory),
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

/// Takes a PictureID of 7 or 15 bits off the front, as VP8 and VP9 have it (RFC 7741 §4.2, RFC 9628 §4.2); the
/// result says in its upper bit which of them it was.
fn take_picture_id(payload: &mut &[u8]) -> Option<u16> {
    let &first = payload.split_off_first()?;
    let is_long = first & 0x80 != 0;
    if is_long {
        Some(u16::from_be_bytes([first, *payload.split_off_first()?]))
    } else {
        Some(first.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(super) fn assembled(codec: VideoCodec, parts: &[&[u8]]) -> Option<CodedPicture> {
        assemble(codec, parts.iter().copied(), &mut BytesMut::new())
    }

    proptest! {
        #[test]
        fn arbitrary_payloads_never_panic(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..6),
        ) {
            for codec in VideoCodec::ALL {
                for payload in &payloads {
                    let _ = inspect(codec, payload);
                }
                let payloads = payloads.iter().map(Vec::as_slice);
                let sound = payloads.clone().filter(|p| inspect(codec, p).is_some());
                let given: usize = payloads.clone().map(<[u8]>::len).sum();
                for picture in [
                    assemble(codec, payloads, &mut BytesMut::new()),
                    assemble(codec, sound, &mut BytesMut::new()),
                ].into_iter().flatten() {
                    prop_assert!(picture.data.len() <= 4 * given + 64);
                }
            }
        }

        #[test]
        fn what_assembles_was_led_by_a_payload_that_says_so(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..8), 1..3),
        ) {
            for codec in VideoCodec::ALL {
                let sound = payloads.iter().map(Vec::as_slice).filter(|p| inspect(codec, p).is_some());
                let Some(picture) = assemble(codec, sound.clone(), &mut BytesMut::new()) else {
                    continue;
                };
                let told = sound.filter_map(|p| inspect(codec, p)).any(|info| info.idr);
                prop_assert!(!picture.keyframe || told);
            }
        }
    }
}
