//! Known colours through every codec, in limited and in full range.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use super::av1_header::{obus, parse_sequence_header};
use super::sps::{NAL_SPS, nal_units, parse_sps};
use super::{VideoCodec, VideoEncoderConfig, video_decoder, video_encoder};
use crate::convert::to_rgba;
use crate::frame::{Bitrate, ColorMatrix, I420Buffer, MediaTime, Size, VideoFrame};
use crate::obu;

const SIZE: Size = Size::new(64, 64);

/// White, black, grey and red: BT.601 in full range, in limited range, and RGB.
const COLOURS: [([u8; 3], [u8; 3], [u8; 3]); 4] = [
    ([255, 128, 128], [235, 128, 128], [255, 255, 255]),
    ([0, 128, 128], [16, 128, 128], [0, 0, 0]),
    ([128, 128, 128], [126, 128, 128], [128, 128, 128]),
    ([76, 85, 255], [81, 90, 240], [254, 0, 0]),
];

/// A coded keyframe of one colour.
fn coded(codec: VideoCodec, colour: [u8; 3]) -> Vec<u8> {
    let mut buffer = I420Buffer::black(SIZE);
    for (plane, value) in buffer.planes_mut().into_iter().zip(colour) {
        plane.fill(value);
    }
    let bitrate = Bitrate::from_kbps(2_000);
    let config = VideoEncoderConfig { bitrate, ..Default::default() };
    let frame =
        VideoFrame { buffer: Arc::new(buffer), time: MediaTime::default(), rtp_timestamp: 0 };
    video_encoder(codec, &config).encode(&frame).unwrap().unwrap().data.to_vec()
}

/// Decoded planes and the RGB that is shown.
fn shown(codec: VideoCodec, coded: &[u8]) -> ([u8; 3], [u8; 3]) {
    let picture = video_decoder(codec).decode(coded, MediaTime::default()).unwrap().unwrap();
    assert_eq!(picture.matrix(), ColorMatrix::Bt601, "{codec}");
    let rgba = to_rgba(&picture).unwrap();
    let middle = |plane: &[u8]| plane[plane.len() / 2 + 8];
    (picture.planes().map(middle), [rgba[0], rgba[1], rgba[2]])
}

fn close(is: [u8; 3], expected: [u8; 3], tolerance: u8, what: &str) {
    let close = is.iter().zip(expected).all(|(is, expected)| is.abs_diff(expected) <= tolerance);
    assert!(close, "{what}: {is:?} instead of {expected:?}");
}

/// Whether a coded keyframe says that its range is full; `None` if it cannot be read.
fn says_full_range(codec: VideoCodec, coded: &[u8]) -> Option<bool> {
    match codec {
        VideoCodec::H264 => nal_units(coded).find_map(parse_sps).map(|sps| sps.full_range),
        VideoCodec::Vp9 => Some(coded[VP9_RANGE.0] & VP9_RANGE.1 != 0),
        VideoCodec::Av1 => obus(coded)
            .flatten()
            .find(|(kind, _)| *kind == obu::SEQUENCE_HEADER)
            .and_then(|(_, payload)| parse_sequence_header(payload))
            .map(|header| header.full_range),
        VideoCodec::Vp8 => Some(false),
    }
}

/// `color_range` of a keyframe of profile 0 (VP9 bitstream specification §6.2): byte and bit.
const VP9_RANGE: (usize, u8) = (4, 0x10);

/// The same stream, but it says that its range is full: the one bit that says so is set.
fn in_full_range(codec: VideoCodec, coded: &[u8]) -> Vec<u8> {
    let headers = coded.len().min(64);
    for bit in 0..headers * 8 {
        let mut changed = coded.to_vec();
        changed[bit / 8] ^= 0x80 >> (bit % 8);
        if codec == VideoCodec::H264 {
            let sps = |stream: &[u8]| {
                let nal = nal_units(stream).find(|nal| nal[0] & 0x1f == NAL_SPS)?.to_vec();
                parse_sps(&nal)
            };
            let (Some(before), Some(after)) = (sps(coded), sps(&changed)) else { continue };
            let mut expected = before;
            expected.full_range = true;
            if after == expected {
                return changed;
            }
        } else if says_full_range(codec, &changed) == Some(true)
            && video_decoder(codec)
                .decode(&changed, MediaTime::default())
                .is_ok_and(|picture| picture.is_some_and(|p| p.matrix() == ColorMatrix::Bt601))
        {
            return changed;
        }
    }
    panic!("{codec}: no bit for the range");
}

#[test]
fn limited_range_is_shown_as_it_is() {
    for codec in VideoCodec::ALL {
        for (_, limited, rgb) in COLOURS {
            let stream = coded(codec, limited);
            assert_eq!(says_full_range(codec, &stream), Some(false), "{codec}");
            let (planes, seen) = shown(codec, &stream);
            close(planes, limited, 1, codec.as_str());
            close(seen, rgb, 3, codec.as_str());
        }
    }
}

#[test]
fn full_range_is_brought_into_limited_range() {
    for codec in [VideoCodec::H264, VideoCodec::Vp9, VideoCodec::Av1] {
        for (full, limited, rgb) in COLOURS {
            let stream = in_full_range(codec, &coded(codec, full));
            let (planes, seen) = shown(codec, &stream);
            close(planes, limited, 1, codec.as_str());
            close(seen, rgb, 3, codec.as_str());
        }
    }
}

#[test]
fn full_range_values_become_these_limited_ones() {
    for (full, limited, _) in COLOURS {
        let mut buffer = I420Buffer::black(SIZE);
        for (plane, value) in buffer.planes_mut().into_iter().zip(full) {
            plane.fill(value);
        }
        super::limits::limit_range(&mut buffer);
        assert_eq!(buffer.planes().map(|plane| plane[0]), limited);
    }
}
