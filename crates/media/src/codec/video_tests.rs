//! All video codecs against themselves, on the test pattern.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::av1::Av1Decoder;
use super::limits::MAX_SIZE_CHANGES;
use super::vpx::VpxDecoder;
use super::{
    Latitude, VideoCodec, VideoDecoder, VideoEncoder, VideoEncoderConfig, video_decoder,
    video_encoder,
};
use crate::adaptation::Content;
use crate::error::MediaError;
use crate::frame::{
    Bitrate, ColorMatrix, EncodedVideoFrame, I420Buffer, MediaTime, Size, VideoFrame,
};
use crate::synthetic::{TestPattern, read_time_code};

const NHD: Size = Size::new(640, 360);
/// When everything is decoded, unless a test says otherwise.
const NOW: MediaTime = MediaTime::from_micros(0);
/// Those that this file is about; H.264 has tests of its own, and takes part where it is the same.
const NEW: [VideoCodec; 3] = [VideoCodec::Vp8, VideoCodec::Vp9, VideoCodec::Av1];

struct Source {
    pattern: TestPattern,
    frames: u64,
}

impl Source {
    fn new(size: Size) -> Self {
        Self { pattern: TestPattern::new(size), frames: 0 }
    }

    fn with_grain(size: Size) -> Self {
        Self { pattern: TestPattern::with_grain(size), frames: 0 }
    }

    fn next(&mut self) -> VideoFrame {
        let elapsed = Duration::from_millis(self.frames * 1000 / 30);
        self.frames += 1;
        let buffer = self.pattern.frame(elapsed, code(self.frames));
        VideoFrame { buffer, time: MediaTime::default() + elapsed, rtp_timestamp: 0 }
    }
}

fn code(frame: u64) -> u32 {
    0x4000_0000 + u32::try_from(frame).unwrap() * 33
}

fn encoder(codec: VideoCodec, kbps: u64) -> Box<dyn VideoEncoder> {
    let bitrate = Bitrate::from_kbps(kbps);
    video_encoder(codec, &VideoEncoderConfig { bitrate, ..Default::default() })
}

fn encode(
    encoder: &mut dyn VideoEncoder,
    source: &mut Source,
    count: usize,
) -> Vec<EncodedVideoFrame> {
    (0..count).map(|_| encoder.encode(&source.next()).unwrap().unwrap()).collect()
}

/// Of all planes together, dB.
fn psnr(a: &I420Buffer, b: &I420Buffer) -> f64 {
    let (a, b) = (a.as_packed(), b.as_packed());
    let sum: u64 = a.iter().zip(b).map(|(&a, &b)| u64::from(a.abs_diff(b)).pow(2)).sum();
    10.0 * (255.0 * 255.0 * a.len() as f64 / sum.max(1) as f64).log10()
}

#[test]
fn every_picture_comes_out_of_the_decoder_at_once_and_looks_alike() {
    for codec in NEW {
        for (size, kbps) in [(Size::new(1280, 720), 1500), (NHD, 600), (Size::new(320, 180), 300)] {
            for content in [Content::Camera, Content::Screen] {
                let config = VideoEncoderConfig {
                    bitrate: Bitrate::from_kbps(kbps),
                    content,
                    ..Default::default()
                };
                let (mut encoder, mut decoder) =
                    (video_encoder(codec, &config), video_decoder(codec));
                let mut source = Source::new(size);
                let mut worst = f64::MAX;
                for n in 1..=90 {
                    let frame = source.next();
                    let coded = encoder.encode(&frame).unwrap().unwrap();
                    assert_eq!((coded.codec, coded.size, coded.time), (codec, size, frame.time));
                    let picture = decoder.decode(&coded.data, NOW).unwrap().unwrap();
                    assert_eq!(picture.size(), size);
                    assert_eq!(picture.matrix(), ColorMatrix::Bt601);
                    assert_eq!(
                        read_time_code(&picture),
                        Some(code(n)),
                        "{codec} {size} {content:?}"
                    );
                    worst = worst.min(psnr(&frame.buffer, &picture));
                }
                println!("{codec} {size} {content:?}: {worst:.1} dB at worst");
                assert!(worst > 27.0, "{codec} {size} {content:?}: {worst} dB");
            }
        }
    }
}

#[test]
fn bitrate_is_met_and_every_picture_coded() {
    for codec in NEW {
        for target in [200, 800, 2000] {
            let mut encoder = encoder(codec, target);
            let mut source = Source::with_grain(NHD);
            // The first keyframe may take from the seconds after it.
            encode(&mut *encoder, &mut source, 30);
            let bytes: usize =
                encode(&mut *encoder, &mut source, 90).iter().map(|f| f.data.len()).sum();
            let kbps = bytes as u64 * 8 / 3 / 1000;
            println!("{codec}: {kbps} kbps for {target}");
            let range = target * 85 / 100..=target * 115 / 100;
            assert!(range.contains(&kbps), "{codec}: {kbps} kbps for a target of {target}");
        }
    }
}

#[test]
fn bitrate_and_frame_rate_change_without_a_keyframe() {
    for codec in NEW {
        let mut encoder = encoder(codec, 800);
        let mut source = Source::with_grain(NHD);
        encode(&mut *encoder, &mut source, 30);
        // The ceiling is 2500 kbps.
        for (target, expected, frame_rate) in
            [(300, 300, 30), (1500, 1500, 30), (10_000, 2500, 30), (300, 300, 30), (300, 300, 10)]
        {
            encoder.set_bitrate(Bitrate::from_kbps(target));
            encoder.set_frame_rate(frame_rate as f32);
            let settle = encode(&mut *encoder, &mut source, 30);
            let coded = encode(&mut *encoder, &mut source, 60);
            assert!(settle.iter().chain(&coded).all(|frame| !frame.keyframe), "{codec} {target}");
            let bytes: usize = coded.iter().map(|f| f.data.len()).sum();
            let kbps = bytes as u64 * 8 * frame_rate / 60 / 1000;
            println!("{codec}: {kbps} kbps for {expected} at {frame_rate} Hz");
            let range = expected * 80 / 100..=expected * 120 / 100;
            assert!(range.contains(&kbps), "{codec}: {kbps} kbps for a target of {expected}");
        }
    }
}

#[test]
fn latitude_changes_between_pictures_without_a_keyframe() {
    for codec in VideoCodec::ALL {
        let mut encoder = encoder(codec, 600);
        let (mut source, mut decoder) =
            (Source::with_grain(Size::new(640, 360)), video_decoder(codec));
        for n in 0..24 {
            let (uneven, thorough) = (n / 6 % 2 == 1, n / 3 % 2 == 1);
            encoder.set_latitude(Latitude { uneven, thorough });
            let frame = source.next();
            let coded = encoder.encode(&frame).unwrap().unwrap();
            assert_eq!(coded.keyframe, n == 0, "{codec} {n}");
            let shown = decoder.decode(&coded.data, NOW).unwrap().unwrap();
            assert!(psnr(&shown, &frame.buffer) > 25.0, "{codec} {n}");
        }
    }
}

#[test]
fn keyframes_come_first_and_on_request_only() {
    for codec in NEW {
        let mut encoder = encoder(codec, 800);
        let mut source = Source::new(NHD);
        let mut coded = encode(&mut *encoder, &mut source, 40);
        encoder.request_keyframe();
        coded.extend(encode(&mut *encoder, &mut source, 260));
        // Another picture altogether is no reason for a keyframe.
        let mut black = source.next();
        black.buffer = Arc::new(I420Buffer::black(NHD));
        coded.push(encoder.encode(&black).unwrap().unwrap());
        let keyframes: Vec<usize> = (0..coded.len()).filter(|&i| coded[i].keyframe).collect();
        assert_eq!(keyframes, [0, 40], "{codec}");
        // What says that it is one is taken by a decoder that has seen nothing.
        for frame in &coded {
            let decoded = video_decoder(codec).decode(&frame.data, NOW);
            assert_eq!(matches!(decoded, Ok(Some(_))), frame.keyframe, "{codec}");
        }
    }
}

#[test]
fn a_clock_that_stands_still_stops_nothing() {
    for codec in NEW {
        let (mut encoder, mut decoder) = (encoder(codec, 800), video_decoder(codec));
        let mut source = Source::new(NHD);
        for _ in 0..20 {
            let mut frame = source.next();
            frame.time = MediaTime::from_micros(77);
            let coded = encoder.encode(&frame).unwrap().unwrap();
            assert!(decoder.decode(&coded.data, NOW).unwrap().is_some());
        }
    }
}

#[test]
fn size_changes_mid_stream_start_with_a_keyframe_and_decode() {
    for codec in NEW {
        let (mut encoder, mut decoder) = (encoder(codec, 800), video_decoder(codec));
        for (w, h) in [(1280, 720), (640, 360), (321, 241), (1920, 1080), (16, 16), (130, 98)] {
            let mut source = Source::new(Size::new(w, h));
            for n in 0..4 {
                let coded = encoder.encode(&source.next()).unwrap().unwrap();
                assert_eq!(coded.keyframe, n == 0, "{codec} {w}x{h}");
                assert_eq!(coded.size, Size::new(w & !1, h & !1));
                assert_eq!(decoder.decode(&coded.data, NOW).unwrap().unwrap().size(), coded.size);
            }
        }
        for (w, h) in [(8, 8), (0, 0), (5000, 100), (17, 15)] {
            let buffer = Arc::new(I420Buffer::black(Size::new(w, h)));
            let frame = VideoFrame { buffer, time: MediaTime::default(), rtp_timestamp: 0 };
            assert!(encoder.encode(&frame).is_err(), "{codec} {w}x{h}");
        }
    }
}

#[test]
fn a_decoder_waits_for_a_keyframe_at_first_and_after_an_error() {
    for codec in NEW {
        let (mut encoder, mut decoder) = (encoder(codec, 800), video_decoder(codec));
        let mut source = Source::new(NHD);
        let coded = encode(&mut *encoder, &mut source, 10);
        let awaits = |result| matches!(result, Err(MediaError::AwaitingKeyframe(c)) if c == codec);
        assert!(awaits(decoder.decode(&coded[1].data, NOW)), "{codec}");
        for frame in &coded[..5] {
            decoder.decode(&frame.data, NOW).unwrap().unwrap();
        }
        // Half of a picture is none.
        let cut = &coded[5].data[..coded[5].data.len() / 2];
        assert!(decoder.decode(cut, NOW).is_err(), "{codec}");
        assert!(awaits(decoder.decode(&coded[6].data, NOW)), "{codec}");
        encoder.request_keyframe();
        for frame in encode(&mut *encoder, &mut source, 3) {
            decoder.decode(&frame.data, NOW).unwrap().unwrap();
        }
        for nothing in [&[][..], &[0], &[0xff; 100], &vec![0x12; 5 << 20]] {
            assert!(video_decoder(codec).decode(nothing, NOW).is_err(), "{codec}");
        }
    }
}

/// A keyframe of `codec` that says another size, in a header that is otherwise as it was.
fn resized(codec: VideoCodec, to: Size) -> Vec<u8> {
    let mut data = encode(&mut *encoder(codec, 800), &mut Source::new(NHD), 1)[0].data.to_vec();
    match codec {
        VideoCodec::Vp8 => {
            data[6..8].copy_from_slice(&u16::try_from(to.width_px).unwrap().to_le_bytes());
            data[8..10].copy_from_slice(&u16::try_from(to.height_px).unwrap().to_le_bytes());
        }
        // The 16 bits each of the size less one follow 36 others.
        VideoCodec::Vp9 => {
            let field = u64::from(to.width_px - 1) << 16 | u64::from(to.height_px - 1);
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&data[4..12]);
            let word = u64::from_be_bytes(bytes);
            // `data[4]` has the last four bits before it.
            let word = word & !(0xffff_ffff << 28) | field << 28;
            data[4..12].copy_from_slice(&word.to_be_bytes());
        }
        _ => unreachable!("not here"),
    }
    data
}

#[test]
fn too_large_sizes_are_refused_before_the_codec_sees_them() {
    for codec in [VideoCodec::Vp8, VideoCodec::Vp9] {
        // The test changes what it means to.
        assert!(
            video_decoder(codec).decode(&resized(codec, NHD), NOW).unwrap().is_some(),
            "{codec}"
        );
        for (w, h) in [(4096, 4096), (2048, 1025), (4097, 16), (16, 4097), (16_383, 16_383)] {
            let result = video_decoder(codec).decode(&resized(codec, Size::new(w, h)), NOW);
            assert!(
                matches!(result, Err(MediaError::UnsupportedSize(size)) if size == Size::new(w, h)),
                "{codec} {w}x{h} {result:?}"
            );
        }
    }
    // What our encoder codes and no decoder of ours takes.
    let large = Source::new(Size::new(3840, 2160)).next();
    for codec in NEW {
        let coded = encoder(codec, 2000).encode(&large).unwrap().unwrap();
        let result = video_decoder(codec).decode(&coded.data, NOW);
        assert!(matches!(result, Err(MediaError::UnsupportedSize(_))), "{codec} {result:?}");
    }
}

#[test]
fn the_size_changes_only_so_often() {
    let sizes = [(320, 180), (180, 320)].map(|(w, h)| Size::new(w, h));
    for codec in NEW {
        let keyframes = sizes.map(|size| {
            encode(&mut *encoder(codec, 300), &mut Source::new(size), 1).remove(0).data
        });
        let (mut vp8, mut vp9, mut av1) = (VpxDecoder::vp8(), VpxDecoder::vp9(), Av1Decoder::new());
        let mut decode = |data: &[u8], ms: u64| {
            let now = NOW + Duration::from_millis(ms);
            match codec {
                VideoCodec::Vp8 => vp8.decode(data, now),
                VideoCodec::Vp9 => vp9.decode(data, now),
                _ => av1.decode(data, now),
            }
        };
        for n in 0..MAX_SIZE_CHANGES {
            assert_eq!(decode(&keyframes[n % 2], 0).unwrap().unwrap().size(), sizes[n % 2]);
        }
        for _ in 0..20 {
            let result = decode(&keyframes[0], 10);
            assert!(matches!(result, Err(MediaError::TooManySizeChanges(_))), "{codec} {result:?}");
            // That of the size that the decoder has memory for is welcome.
            assert!(decode(&keyframes[1], 10).unwrap().is_some());
        }
        for n in 0..20 {
            assert!(decode(&keyframes[n % 2], 10_000 + 500 * n as u64).unwrap().is_some());
        }
    }
}

#[test]
fn a_vp9_superframe_is_taken_apart_and_nothing_hides_behind_a_frame() {
    let mut encoder = encoder(VideoCodec::Vp9, 800);
    let coded = encode(&mut *encoder, &mut Source::new(NHD), 3);
    let superframe = |frames: &[&[u8]]| {
        let marker = 0xd8 | u8::try_from(frames.len() - 1).unwrap();
        let mut data = frames.concat();
        data.push(marker);
        for frame in frames {
            data.extend(u32::try_from(frame.len()).unwrap().to_le_bytes());
        }
        data.push(marker);
        data
    };
    // Two pictures in one: the later one is shown, and what follows decodes.
    let mut decoder = VpxDecoder::vp9();
    let both = superframe(&[&coded[0].data, &coded[1].data]);
    let picture = decoder.decode(&both, NOW).unwrap().unwrap();
    assert_eq!(read_time_code(&picture), Some(code(2)));
    assert_eq!(
        read_time_code(&decoder.decode(&coded[2].data, NOW).unwrap().unwrap()),
        Some(code(3))
    );
    // Without an index the second frame is not looked at: what comes out is the first one, or nothing.
    let mut decoder = VpxDecoder::vp9();
    let hidden =
        [&coded[0].data[..], &resized(VideoCodec::Vp9, Size::new(16_384, 16_384))].concat();
    if let Ok(picture) = decoder.decode(&hidden, NOW) {
        assert_eq!(picture.map(|picture| picture.size()), Some(NHD));
    }
}

#[test]
fn the_seeds_of_the_fuzz_targets_decode() {
    for codec in NEW {
        let name = codec.as_str().to_lowercase();
        let seeds = format!("{}/../../fuzz/seeds/{name}", env!("CARGO_MANIFEST_DIR"));
        for seed in std::fs::read_dir(seeds).unwrap() {
            let data = std::fs::read(seed.unwrap().path()).unwrap();
            let (mut rest, mut shown) = (&data[..], 0);
            let mut decoder = video_decoder(codec);
            while let [high, low, tail @ ..] = rest {
                let length = usize::from(u16::from_be_bytes([*high, *low])).min(tail.len());
                let (coded, next) = tail.split_at(length);
                shown += u32::from(matches!(decoder.decode(coded, NOW), Ok(Some(_))));
                rest = next;
            }
            assert_eq!(shown, 8, "{codec}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn broken_bytes_never_crash_a_decoder(
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40),
        cut in any::<prop::sample::Index>(),
        garbage in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        for codec in NEW {
            let coded = encode(&mut *encoder(codec, 300), &mut Source::new(Size::new(160, 96)), 4);
            let mut decoder = video_decoder(codec);
            for frame in &coded {
                let mut data = frame.data.to_vec();
                for (index, value) in &flips {
                    let at = index.index(data.len());
                    data[at] = *value;
                }
                let _ = decoder.decode(&data, NOW);
                let _ = decoder.decode(&frame.data, NOW);
                let _ = decoder.decode(&data[..cut.index(data.len())], NOW);
                // Behind a header as it should be.
                let whole = coded[0].data.iter().take(24 + cut.index(40)).chain(&garbage);
                let _ = decoder.decode(&whole.copied().collect::<Vec<u8>>(), NOW);
                let _ = decoder.decode(&garbage, NOW);
                // Each time that the codec begins anew counts as a change of size.
                let whole = decoder.decode(&coded[0].data, NOW);
                prop_assert!(matches!(whole, Ok(Some(_)) | Err(MediaError::TooManySizeChanges(_))));
            }
        }
    }
}
