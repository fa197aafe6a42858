//! The codecs against themselves, on synthetic pictures and sound.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::h264::{H264Decoder, H264Encoder, H264EncoderConfig};
use super::limits::MAX_SIZE_CHANGES;
use super::opus::{
    OpusDecoder, OpusEncoder, OpusEncoderConfig, PACKET_SAMPLES, has_fec, is_dtx, packet_samples,
};
use super::sps::{NAL_IDR, NAL_PPS, NAL_SPS, nal_units, parse_sps};
use super::{VideoDecoder, VideoEncoder};
use crate::error::MediaError;
use crate::frame::{AudioFrame, Bitrate, EncodedVideoFrame, MediaTime, Size, VideoFrame};
use crate::synthetic::{TestPattern, Tone, read_time_code};

const HD: Size = Size::new(1280, 720);
/// When everything is decoded, unless a test says otherwise.
const NOW: MediaTime = MediaTime::from_micros(0);

struct Source {
    pattern: TestPattern,
    frames: u64,
}

impl Source {
    fn new(size: Size) -> Self {
        Self { pattern: TestPattern::new(size), frames: 0 }
    }

    fn next(&mut self) -> VideoFrame {
        let elapsed = Duration::from_millis(self.frames * 1000 / 30);
        self.frames += 1;
        let time = MediaTime::default() + elapsed;
        VideoFrame {
            buffer: self.pattern.frame(elapsed, code(self.frames)),
            time,
            rtp_timestamp: 0,
        }
    }
}

fn code(frame: u64) -> u32 {
    0x4000_0000 + u32::try_from(frame).unwrap() * 33
}

fn encode(encoder: &mut H264Encoder, source: &mut Source, count: usize) -> Vec<EncodedVideoFrame> {
    (0..count).map(|_| encoder.encode(&source.next()).unwrap().unwrap()).collect()
}

fn nal_types(data: &[u8]) -> Vec<u8> {
    nal_units(data).map(|n| n[0] & 0x1f).collect()
}

/// By `ffmpeg -f lavfi -i testsrc=size=96x64 -frames:v 6 -c:v libx264 -profile:v PROFILE -bf 0 -tune zerolatency`.
#[test]
fn main_and_high_profile_show_each_picture_at_once() {
    for (name, stream) in [
        ("main", &include_bytes!("testdata/main.h264")[..]),
        ("high", &include_bytes!("testdata/high.h264")[..]),
    ] {
        let mut units: Vec<Vec<u8>> = Vec::new();
        let mut has_slice = true;
        for nal in nal_units(stream) {
            let is_slice = matches!(nal[0] & 0x1f, 1 | 5);
            // `first_mb_in_slice` is 0, or parameter sets follow a slice.
            if has_slice && (!is_slice || nal[1] & 0x80 != 0) {
                units.push(Vec::new());
                has_slice = false;
            }
            has_slice |= is_slice;
            let unit = units.last_mut().unwrap();
            unit.extend([0, 0, 0, 1]);
            unit.extend(nal);
        }
        assert_eq!(units.len(), 6);
        let mut decoder = H264Decoder::new();
        for (n, unit) in units.iter().enumerate() {
            let picture = decoder
                .decode(unit, NOW)
                .unwrap()
                .unwrap_or_else(|| panic!("{name}: none for {n}"));
            assert_eq!(picture.size(), Size::new(96, 64));
        }
    }
}

#[test]
fn a_decoder_that_was_warmed_up_is_as_good_as_new() {
    let mut source = Source::new(HD);
    let mut encoder = H264Encoder::new(H264EncoderConfig::default());
    let units = encode(&mut encoder, &mut source, 3);
    let (mut fresh, mut warm) = (H264Decoder::new(), H264Decoder::new());
    warm.warm_up(HD);
    // What it made itself is no reference.
    assert!(matches!(warm.decode(&units[1].data, NOW), Err(MediaError::AwaitingKeyframe(_))));
    for unit in &units {
        let [a, b] = [&mut fresh, &mut warm].map(|d| d.decode(&unit.data, NOW).unwrap().unwrap());
        assert_eq!(a.as_packed(), b.as_packed());
    }
    // Nor is another size than it was warmed up for a problem.
    let mut other = H264Decoder::new();
    other.warm_up(Size::new(640, 360));
    assert_eq!(other.decode(&units[0].data, NOW).unwrap().unwrap().size(), HD);
}

#[test]
fn every_picture_comes_out_of_the_decoder_at_once_with_its_time_code() {
    for size in [HD, Size::new(640, 480), Size::new(320, 180)] {
        let config = H264EncoderConfig { bitrate: Bitrate::from_kbps(300), ..Default::default() };
        let (mut encoder, mut decoder) = (H264Encoder::new(config), H264Decoder::new());
        let mut source = Source::new(size);
        for n in 1..=45 {
            let coded = encoder.encode(&source.next()).unwrap().unwrap();
            let picture = decoder.decode(&coded.data, NOW).unwrap().unwrap();
            assert_eq!(picture.size(), size);
            assert_eq!(read_time_code(&picture), Some(code(n)), "{size:?}");
        }
    }
}

#[test]
fn main_profile_takes_fewer_bits_and_says_that_it_is_one() {
    let bits = |cabac| {
        let config =
            H264EncoderConfig { bitrate: Bitrate::from_kbps(300), cabac, ..Default::default() };
        let (mut encoder, mut decoder) = (H264Encoder::new(config), H264Decoder::new());
        let mut source = Source::new(Size::new(640, 360));
        let coded = encode(&mut encoder, &mut source, 1);
        let sps = parse_sps(nal_units(&coded[0].data).next().unwrap()).unwrap();
        let first = decoder.decode(&coded[0].data, NOW).unwrap().unwrap();
        assert_eq!(read_time_code(&first), Some(code(1)));
        for n in 2..=30 {
            let coded = encoder.encode(&source.next()).unwrap().unwrap();
            let picture = decoder.decode(&coded.data, NOW).unwrap().unwrap();
            assert_eq!(read_time_code(&picture), Some(code(n)));
        }
        (sps.profile_idc, coded[0].data.len())
    };
    let ((baseline, plain), (main, arithmetic)) = (bits(false), bits(true));
    assert_eq!((baseline, main), (66, 77));
    assert!(arithmetic * 20 < plain * 19, "{arithmetic} {plain}");
}

#[test]
fn keyframes_come_first_and_on_request_only_with_parameter_sets() {
    let mut encoder = H264Encoder::new(H264EncoderConfig::default());
    let mut source = Source::new(Size::new(640, 360));
    let mut coded = encode(&mut encoder, &mut source, 40);
    encoder.request_keyframe();
    coded.extend(encode(&mut encoder, &mut source, 20));
    // Another picture altogether is no reason for a keyframe.
    let mut black = source.next();
    black.buffer = Arc::new(crate::I420Buffer::black(Size::new(640, 360)));
    coded.push(encoder.encode(&black).unwrap().unwrap());
    let keyframes: Vec<usize> = (0..coded.len()).filter(|&i| coded[i].keyframe).collect();
    assert_eq!(keyframes, [0, 40]);
    for frame in &coded {
        let expected = if frame.keyframe { vec![NAL_SPS, NAL_PPS, NAL_IDR] } else { vec![1] };
        assert_eq!(nal_types(&frame.data), expected);
    }
}

#[test]
fn parameter_set_is_constrained_baseline_at_level_3_1_for_720p() {
    let mut encoder = H264Encoder::new(H264EncoderConfig::default());
    let coded = encode(&mut encoder, &mut Source::new(HD), 1);
    let sps = parse_sps(nal_units(&coded[0].data).next().unwrap()).unwrap();
    assert_eq!((sps.profile_idc, sps.level_idc), (66, 31));
    assert_eq!(sps.constraints & 0x40, 0x40, "constraint_set1_flag says constrained baseline");
    assert_eq!(sps.coded_size, HD);
}

#[test]
fn size_changes_mid_stream_start_with_a_keyframe_and_decode() {
    let (mut encoder, mut decoder) =
        (H264Encoder::new(H264EncoderConfig::default()), H264Decoder::new());
    for (w, h) in [(1280, 720), (640, 360), (321, 241), (1920, 1080), (16, 16)] {
        let mut source = Source::new(Size::new(w, h));
        for n in 0..5 {
            let coded = encoder.encode(&source.next()).unwrap().unwrap();
            assert_eq!(coded.keyframe, n == 0, "{w}x{h}");
            assert_eq!(coded.size, Size::new(w & !1, h & !1));
            assert_eq!(decoder.decode(&coded.data, NOW).unwrap().unwrap().size(), coded.size);
        }
    }
    for (w, h) in [(8, 8), (0, 0), (5000, 100), (3840, 3840)] {
        let frame = VideoFrame {
            buffer: Arc::new(crate::I420Buffer::black(Size::new(w, h))),
            time: MediaTime::default(),
            rtp_timestamp: 0,
        };
        assert!(encoder.encode(&frame).is_err(), "{w}x{h}");
    }
}

#[test]
fn bitrate_follows_the_target_both_ways() {
    let config = H264EncoderConfig { bitrate: Bitrate::from_kbps(800), ..Default::default() };
    let mut encoder = H264Encoder::new(config);
    let mut source = Source::new(HD);
    for target_kbps in [800, 300, 2000, 10_000] {
        encoder.set_bitrate(Bitrate::from_kbps(target_kbps));
        assert!(encoder.bitrate() <= config.max_bitrate);
        encode(&mut encoder, &mut source, 30);
        let bytes: usize = encode(&mut encoder, &mut source, 60).iter().map(|f| f.data.len()).sum();
        let kbps = bytes as u64 * 8 / 2 / 1000;
        let target = target_kbps.min(2500);
        assert!(kbps <= target * 115 / 100, "{kbps} kbps for a target of {target}");
    }
}

#[test]
fn a_missing_picture_is_an_error_until_the_next_keyframe() {
    let (mut encoder, mut decoder) =
        (H264Encoder::new(H264EncoderConfig::default()), H264Decoder::new());
    let mut source = Source::new(Size::new(640, 360));
    let coded = encode(&mut encoder, &mut source, 10);
    assert!(matches!(decoder.decode(&coded[1].data, NOW), Err(MediaError::AwaitingKeyframe(_))));
    for frame in &coded[..5] {
        decoder.decode(&frame.data, NOW).unwrap().unwrap();
    }
    assert!(decoder.decode(&coded[6].data, NOW).is_err(), "picture 5 is missing");
    assert!(matches!(decoder.decode(&coded[7].data, NOW), Err(MediaError::AwaitingKeyframe(_))));
    encoder.request_keyframe();
    for frame in encode(&mut encoder, &mut source, 3) {
        decoder.decode(&frame.data, NOW).unwrap().unwrap();
    }
}

#[test]
fn a_cut_picture_is_an_error_and_not_shown() {
    let mut encoder = H264Encoder::new(H264EncoderConfig::default());
    let coded = encode(&mut encoder, &mut Source::new(Size::new(640, 360)), 3);
    let mut decoder = H264Decoder::new();
    decoder.decode(&coded[0].data, NOW).unwrap().unwrap();
    let cut = &coded[1].data[..coded[1].data.len() / 2];
    assert!(!matches!(decoder.decode(cut, NOW), Ok(Some(_))));
    assert!(!matches!(decoder.decode(&coded[2].data, NOW), Ok(Some(_))));
}

/// A baseline sequence parameter set of so many macroblocks and reference frames.
fn sps(id: u32, width_mbs: u32, height_mbs: u32, references: u32) -> Vec<u8> {
    let golomb = |value: u32| {
        let bits = format!("{:b}", value + 1);
        format!("{}{bits}", "0".repeat(bits.len() - 1))
    };
    let bits = [
        golomb(id),
        golomb(0), // log2_max_frame_num_minus4
        golomb(2), // pic_order_cnt_type
        golomb(references),
        "0".into(), // gaps_in_frame_num_value_allowed_flag
        golomb(width_mbs - 1),
        golomb(height_mbs - 1),
        "11001".into(), // frame_mbs_only, direct_8x8_inference, no cropping, no VUI, stop bit
    ]
    .concat();
    let mut nal = vec![0x60 | NAL_SPS, 66, 0xc0, 31];
    nal.extend(bits.as_bytes().chunks(8).map(|c| {
        let text = format!("{:0<8}", std::str::from_utf8(c).unwrap());
        u8::from_str_radix(&text, 2).unwrap()
    }));
    nal
}

fn annex_b<'a>(nals: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    nals.into_iter().flat_map(|nal| [&[0, 0, 0, 1], nal].concat()).collect()
}

/// A keyframe of the encoder's with another sequence parameter set.
fn with_sps(sps: &[u8]) -> Vec<u8> {
    let mut encoder = H264Encoder::new(H264EncoderConfig::default());
    let coded = encode(&mut encoder, &mut Source::new(Size::new(320, 192)), 1);
    annex_b(nal_units(&coded[0].data).map(|n| if n[0] & 0x1f == NAL_SPS { sps } else { n }))
}

#[test]
fn oversized_parameter_sets_and_access_units_are_refused() {
    let mut decoder = H264Decoder::new();
    for (width_mbs, height_mbs) in [(512, 512), (256, 256), (128, 65), (257, 1), (1, 257)] {
        let size = Size::new(16 * width_mbs, 16 * height_mbs);
        let result = decoder.decode(&with_sps(&sps(0, width_mbs, height_mbs, 1)), NOW);
        assert!(
            matches!(result, Err(MediaError::UnsupportedSize(s)) if s == size),
            "{size:?} {result:?}"
        );
    }
    assert!(decoder.decode(&vec![1; 5 << 20], NOW).is_err());
    assert!(decoder.decode(&[], NOW).is_err());
}

#[test]
fn reference_frames_are_bounded_by_their_area() {
    let refused = |width_mbs, height_mbs, references| {
        let result =
            H264Decoder::new().decode(&with_sps(&sps(0, width_mbs, height_mbs, references)), NOW);
        matches!(result, Err(MediaError::VideoDecode { message, .. }) if message.contains("reference frames"))
    };
    assert!(refused(120, 68, 5) && refused(80, 45, 10) && refused(64, 64, 16));
    // Portrait, and what hardware encoders say although they use one.
    for (width_mbs, height_mbs, references) in
        [(120, 68, 4), (68, 120, 4), (80, 45, 9), (45, 80, 4), (40, 30, 16), (20, 12, 0)]
    {
        assert!(!refused(width_mbs, height_mbs, references), "{width_mbs}x{height_mbs}");
    }
}

#[test]
fn the_size_changes_only_so_often() {
    let sizes = [(320, 180), (180, 320)].map(|(w, h)| Size::new(w, h));
    let keyframes = sizes.map(|size| {
        encode(&mut H264Encoder::new(H264EncoderConfig::default()), &mut Source::new(size), 1)
            .remove(0)
            .data
    });
    let at = |ms: u64| NOW + Duration::from_millis(ms);
    let mut decoder = H264Decoder::new();
    // At most eight in 4 s, whatever is in between.
    let mut decoded = 0;
    for n in 0..200_usize {
        match decoder.decode(&keyframes[n % 2], at(10 * n as u64)) {
            Ok(picture) => {
                assert_eq!(picture.unwrap().size(), sizes[n % 2]);
                decoded += 1;
            }
            // Those of the size that the decoder has memory for are welcome.
            Err(error) => {
                assert!(matches!(error, MediaError::TooManySizeChanges(_)), "{error}");
                assert!(decoder.decode(&keyframes[1], at(10 * n as u64)).unwrap().is_some());
            }
        }
    }
    assert_eq!(decoded, 8 + 96, "the first eight, and then each that is no change");
    // Every half second for ever, as no browser does.
    for n in 0..40 {
        let picture = decoder.decode(&keyframes[n % 2], at(10_000 + 500 * n as u64)).unwrap();
        assert_eq!(picture.unwrap().size(), sizes[n % 2]);
    }
}

#[test]
fn parameter_sets_that_were_sent_before_count_as_size_changes_too() {
    // The first bits after `bytes` whole bytes, which are `from`, become `to`.
    let with_id = |nal: &[u8], bytes: usize, from: &str, to: &str| -> Vec<u8> {
        let bits: String = nal[bytes..].iter().map(|byte| format!("{byte:08b}")).collect();
        let bits = bits.trim_end_matches('0').strip_prefix(from).unwrap();
        let mut out = nal[..bytes].to_vec();
        out.extend(format!("{to}{bits}").as_bytes().chunks(8).map(|c| {
            u8::from_str_radix(&format!("{:0<8}", std::str::from_utf8(c).unwrap()), 2).unwrap()
        }));
        out
    };
    let sizes = [Size::new(320, 192), Size::new(192, 320)];
    let [first, second] = sizes.map(|size| {
        let mut encoder = H264Encoder::new(H264EncoderConfig::default());
        let coded = encode(&mut encoder, &mut Source::new(size), 1).remove(0);
        nal_units(&coded.data).map(<[u8]>::to_vec).collect::<Vec<_>>()
    });
    // The second sequence parameter set has the id 1 (`010`), and a picture parameter set 0 that names it.
    let second_sps = with_id(&second[0], 4, "1", "010");
    let second_pps = with_id(&second[1], 1, "11", "1010");
    let both = annex_b([&first[0][..], &second_sps[..]]);
    let mut decoder = H264Decoder::new();
    for n in 0..=MAX_SIZE_CHANGES {
        let (pps, slice) =
            if n % 2 == 0 { (&first[1], &first[2]) } else { (&second_pps, &second[2]) };
        let picture = annex_b([&pps[..], &slice[..]]);
        let unit = if n == 0 { [&both[..], &picture[..]].concat() } else { picture };
        let result = decoder.decode(&unit, NOW);
        if n == MAX_SIZE_CHANGES {
            assert!(matches!(result, Err(MediaError::TooManySizeChanges(_))), "{result:?}");
        } else {
            assert_eq!(result.unwrap().unwrap().size(), sizes[n % 2]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn broken_bytes_never_crash_the_decoder(
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut encoder = H264Encoder::new(H264EncoderConfig::default());
        let coded = encode(&mut encoder, &mut Source::new(Size::new(160, 96)), 4);
        let mut decoder = H264Decoder::new();
        for frame in &coded {
            let mut data = frame.data.to_vec();
            for (index, value) in &flips {
                let at = index.index(data.len());
                data[at] = *value;
            }
            let _ = decoder.decode(&data, NOW);
            let _ = decoder.decode(&data[..cut.index(data.len())], NOW);
            let _ = decoder.decode(&frame.data, NOW);
        }
    }

    #[test]
    fn arbitrary_bytes_never_crash_the_audio_decoder(data in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut decoder = OpusDecoder::new().unwrap();
        let mut out = Vec::new();
        let _ = (packet_samples(&data), has_fec(&data));
        let _ = decoder.decode(&data, &mut out);
        let _ = decoder.decode_fec(&data, PACKET_SAMPLES, &mut out);
        decoder.conceal(PACKET_SAMPLES, &mut out).unwrap();
    }
}

fn rms(samples: &[f32]) -> f32 {
    (samples.iter().map(|s| s * s).sum::<f32>() / samples.len() as f32).sqrt()
}

fn tone_packets(count: usize) -> Vec<bytes::Bytes> {
    let mut encoder = OpusEncoder::new(OpusEncoderConfig::default()).unwrap();
    let mut tone = Tone::default();
    (0..2 * count)
        .filter_map(|_| encoder.encode(&tone.next_frame(MediaTime::default())).unwrap())
        .map(|p| p.data)
        .collect()
}

#[test]
fn tone_goes_through_opus_with_its_level() {
    let packets = tone_packets(50);
    assert_eq!(packets.len(), 50);
    let mut decoder = OpusDecoder::new().unwrap();
    let mut out = Vec::new();
    for packet in &packets {
        assert_eq!(packet_samples(packet), Some(PACKET_SAMPLES));
        assert_eq!(decoder.decode(packet, &mut out).unwrap(), PACKET_SAMPLES);
    }
    let level = rms(&out[24_000..]);
    assert!((0.16..0.195).contains(&level), "{level}");
}

#[test]
fn lost_packet_is_recovered_from_the_next_ones_fec_or_concealed() {
    // Harmonics of 140 Hz in syllables: only what sounds like speech gets FEC.
    let mut encoder = OpusEncoder::new(OpusEncoderConfig::default()).unwrap();
    let samples: Vec<f32> = (0..48_000)
        .map(|n| {
            let t = n as f32 / 48_000.0;
            let syllable = 0.5 - 0.5 * (std::f32::consts::TAU * 4.0 * t).cos();
            let sum: f32 = (1..12)
                .map(|h| (std::f32::consts::TAU * 140.0 * h as f32 * t).sin() / h as f32)
                .sum();
            0.15 * syllable * sum
        })
        .collect();
    let packets: Vec<bytes::Bytes> = samples
        .chunks(480)
        .filter_map(|c| {
            encoder.encode(&AudioFrame { samples: c.to_vec(), time: MediaTime::default() }).unwrap()
        })
        .map(|p| p.data)
        .collect();
    let with_fec =
        (20..49).find(|&i| has_fec(&packets[i + 1]) && i % 12 == 6).expect("a packet with FEC");
    let mut decoder = OpusDecoder::new().unwrap();
    let mut whole = Vec::new();
    packets.iter().for_each(|p| assert!(decoder.decode(p, &mut whole).is_ok()));
    let original = &whole[with_fec * PACKET_SAMPLES..(with_fec + 1) * PACKET_SAMPLES];
    for fec in [true, false] {
        let mut decoder = OpusDecoder::new().unwrap();
        let mut out = Vec::new();
        for packet in &packets[..with_fec] {
            decoder.decode(packet, &mut out).unwrap();
        }
        let lost_from = out.len();
        if fec {
            decoder.decode_fec(&packets[with_fec + 1], PACKET_SAMPLES, &mut out).unwrap();
        } else {
            decoder.conceal(PACKET_SAMPLES, &mut out).unwrap();
        }
        assert_eq!(out.len() - lost_from, PACKET_SAMPLES);
        let ratio = rms(&out[lost_from..]) / rms(original);
        assert!((0.5..1.5).contains(&ratio), "fec {fec}: level off by a factor {ratio}");
    }
}

#[test]
fn silence_is_sent_as_nearly_nothing() {
    let mut encoder = OpusEncoder::new(OpusEncoderConfig::default()).unwrap();
    let packets: Vec<_> = (0..600)
        .filter_map(|n| {
            let time = MediaTime::from_micros(n * 10_000);
            encoder.encode(&AudioFrame { samples: vec![0.0; 480], time }).unwrap()
        })
        .collect();
    assert!(packets.len() < 80, "{} of 300 packets", packets.len());
    assert!(packets.iter().any(|p| is_dtx(&p.data)));
    assert!(
        packets.last().unwrap().time > MediaTime::from_micros(5_000_000),
        "refreshed now and then"
    );
}

#[test]
fn frames_and_durations_of_wrong_length_are_errors() {
    let mut encoder = OpusEncoder::new(OpusEncoderConfig::default()).unwrap();
    assert!(
        encoder
            .encode(&AudioFrame { samples: vec![0.0; 479], time: MediaTime::default() })
            .is_err()
    );
    let mut decoder = OpusDecoder::new().unwrap();
    let mut out = Vec::new();
    for samples in [0, 1, 100, 6000] {
        assert!(decoder.conceal(samples, &mut out).is_err());
    }
    assert!(decoder.decode(&[], &mut out).is_err());
    assert!(out.is_empty());
}

#[test]
fn colours_are_said_in_the_parameter_set_and_read_from_it() {
    use crate::codec::sps::{nal_units, parse_sps};
    let mut encoder = H264Encoder::new(H264EncoderConfig::default());
    let frame = VideoFrame {
        buffer: TestPattern::new(Size::new(320, 180)).frame(Duration::ZERO, 1),
        time: MediaTime::default(),
        rtp_timestamp: 0,
    };
    let coded = encoder.encode(&frame).unwrap().unwrap();
    let sps = nal_units(&coded.data).find_map(parse_sps).unwrap();
    assert_eq!(sps.matrix_coefficients, Some(6), "BT.601");
    let picture = H264Decoder::new().decode(&coded.data, NOW).unwrap().unwrap();
    assert_eq!(picture.matrix(), crate::ColorMatrix::Bt601);
}
