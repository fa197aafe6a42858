//! What a hostile sender makes the decoders of VP8, VP9 and AV1 allocate. A test of its own, for the peak is that of the
//! whole process.
#![cfg(all(target_os = "linux", target_env = "gnu"))]
#![allow(missing_docs, clippy::unwrap_used)]

use std::time::Duration;

use visavis_media::codec::{VideoEncoderConfig, video_decoder, video_encoder};
use visavis_media::synthetic::TestPattern;
use visavis_media::{MediaTime, Size, VideoCodec, VideoFrame};

fn status_bytes(field: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

/// A keyframe and a picture that depends on it.
fn pictures(codec: VideoCodec, width: u32, height: u32) -> [Vec<u8>; 2] {
    let mut encoder = video_encoder(codec, &VideoEncoderConfig::default());
    let mut pattern = TestPattern::new(Size::new(width, height));
    [0, 33].map(|ms| {
        let buffer = pattern.frame(Duration::from_millis(ms), 1);
        let frame = VideoFrame { buffer, time: MediaTime::default(), rtp_timestamp: 0 };
        encoder.encode(&frame).unwrap().unwrap().data.to_vec()
    })
}

#[test]
fn sizes_in_turn_do_not_make_a_decoder_take_more_than_it_needs() {
    for codec in [VideoCodec::Vp8, VideoCodec::Vp9, VideoCodec::Av1] {
        let sizes = [(1920, 1080), (1080, 1920), (3840, 16), (3840, 2160), (320, 192)];
        let coded = sizes.map(|(width, height)| pictures(codec, width, height));
        // Neither the peak of what coding needed is looked at, nor is what the allocator kept of it used.
        // SAFETY: gives free memory back, and has no other effect.
        unsafe { libc::malloc_trim(0) };
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
        let before = status_bytes("VmRSS:");
        let mut decoder = video_decoder(codec);
        let (mut decoded, mut now) = (0, MediaTime::default());
        for _ in 0..8 {
            for picture in coded.iter().flatten() {
                decoded += u32::from(matches!(decoder.decode(picture, now), Ok(Some(_))));
                now = now + PERIOD;
            }
        }
        let grown = status_bytes("VmHWM:").saturating_sub(before);
        println!("{codec}: {decoded} pictures, {grown} bytes");
        assert!(decoded > 4, "{codec}: {decoded} pictures");
        assert!(grown < MOST_BYTES, "{codec}: {grown} bytes");
    }
}

/// Some of the changes of size are allowed, some are not.
const PERIOD: Duration = Duration::from_millis(250);
/// Pictures of 1920x1080 with borders of 160 or more on each side are some 4.5 MB: eight references of VP9 and AV1, the one
/// being decoded and those that wait to be freed, with what is noted of each block; and the pictures handed out.
const MOST_BYTES: usize = 80 << 20;
