//! What a hostile sender's parameter sets make the decoder allocate. A test of its own, for the peak
//! is that of the whole process.
#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::unwrap_used)]

use std::time::Duration;

use visavis_media::codec::h264::{H264Decoder, H264Encoder, H264EncoderConfig};
use visavis_media::codec::sps::{NAL_SPS, nal_units};
use visavis_media::codec::{VideoDecoder, VideoEncoder};
use visavis_media::synthetic::TestPattern;
use visavis_media::{MediaTime, Size, VideoFrame};

/// Most memory that this process ever had, bytes.
fn peak_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

/// Baseline, so many macroblocks and reference frames.
fn sps(width_mbs: u32, height_mbs: u32, references: u32) -> Vec<u8> {
    let golomb = |value: u32| {
        let bits = format!("{:b}", value + 1);
        format!("{}{bits}", "0".repeat(bits.len() - 1))
    };
    let (width, height) = (golomb(width_mbs - 1), golomb(height_mbs - 1));
    let bits = format!("11011{}0{width}{height}11001", golomb(references));
    let mut nal = vec![0x67, 66, 0xc0, 51];
    nal.extend(bits.as_bytes().chunks(8).map(|c| {
        let text = format!("{:0<8}", std::str::from_utf8(c).unwrap());
        u8::from_str_radix(&text, 2).unwrap()
    }));
    nal
}

#[test]
fn parameter_sets_do_not_make_the_decoder_take_more_than_it_needs() {
    let mut encoder = H264Encoder::new(H264EncoderConfig::default());
    let frame = VideoFrame {
        buffer: TestPattern::new(Size::new(1920, 1080)).frame(Duration::ZERO, 1),
        time: MediaTime::default(),
        rtp_timestamp: 0,
    };
    let keyframe = encoder.encode(&frame).unwrap().unwrap().data;
    drop(encoder);
    let with = |sps: &[u8]| -> Vec<u8> {
        nal_units(&keyframe)
            .map(|nal| if nal[0] & 0x1f == NAL_SPS { sps } else { nal })
            .flat_map(|nal| [&[0, 0, 0, 1], nal].concat())
            .collect()
    };
    let before = peak_bytes();
    // The largest that is taken, then what says that it is much larger, again and again, and sizes in turn.
    let (mut decoder, mut now) = (H264Decoder::new(), MediaTime::default());
    assert_eq!(decoder.decode(&keyframe, now).unwrap().unwrap().size(), Size::new(1920, 1080));
    for _ in 0..20 {
        for (width_mbs, height_mbs, references) in
            [(256, 256, 16), (256, 32, 16), (120, 68, 4), (68, 120, 4), (20, 12, 16), (128, 64, 4)]
        {
            let _ = decoder.decode(&with(&sps(width_mbs, height_mbs, references)), now);
            let _ = decoder.decode(&keyframe, now);
            now = now + PERIOD;
        }
    }
    let grown = peak_bytes() - before;
    println!("{grown} bytes");
    assert!(grown < MOST_BYTES, "{grown} bytes");
}

/// Some of the changes of size are allowed, some are not.
const PERIOD: Duration = Duration::from_millis(250);
/// Pictures of 1920x1080: four references, the one being decoded and one that openh264 adds, with 3 bytes for two
/// pixels and some for motion, at both the old and the new size; and the pictures handed out.
const MOST_BYTES: usize = 60 << 20;
