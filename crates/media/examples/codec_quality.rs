//! How coded pictures look for each codec, bitrate and size: mean luma SSIM against the clip, at the clip's size as a
//! window shows them, with the bitrate that came out and the time to code a frame. The ladder of sizes
//! (`adaptation.rs`) is chosen by it.
//!
//! `cargo run -p visavis-media --example codec_quality -- CLIP.y4m [CODEC,...] [KBPS,...] [WIDTH,...] [FRAMES]`
#![allow(clippy::disallowed_methods, reason = "it measures time")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use visavis_media::codec::{VideoEncoderConfig, video_decoder, video_encoder};
use visavis_media::files::Y4mReader;
use visavis_media::scale::{Fit, Scaler};
use visavis_media::{Bitrate, I420Buffer, MediaError, MediaTime, Size, VideoCodec, VideoFrame};
use visavis_media_testing::ssim::ssim;

fn main() -> Result<(), MediaError> {
    let arguments: Vec<String> = std::env::args().collect();
    let Some(clip) = arguments.get(1) else {
        println!("CLIP.y4m [CODEC,...] [KBPS,...] [WIDTH,...] [FRAMES]");
        return Ok(());
    };
    let list = |at: usize| arguments.get(at).map(|text| text.split(','));
    let numbers = |at, otherwise: &[u32]| -> Vec<u32> {
        list(at).map_or(otherwise.into(), |all| all.filter_map(|n| n.parse().ok()).collect())
    };
    let codecs: Vec<VideoCodec> = list(2)
        .map_or(VideoCodec::ALL.into(), |names| names.filter_map(VideoCodec::from_name).collect());
    let mut reader = Y4mReader::open(Path::new(clip))?;
    #[expect(clippy::cast_possible_truncation, reason = "a frame rate")]
    let frame_rate = reader.frame_rate() as f32;
    let count = numbers(5, &[FRAMES]).first().copied().unwrap_or(FRAMES);
    let frames: Vec<_> = (0..count).map(|_| reader.next_frame()).collect::<Result<_, _>>()?;
    println!("codec  kbps  size       SSIM   sent kbps  encode ms  decode ms");
    for codec in codecs {
        for kbps in numbers(3, &[250, 400, 800, 1500, 3000]) {
            let full = reader.size().width_px;
            for width in numbers(4, &[full, full * 6 / 8, full * 4 / 8, full * 3 / 8]) {
                run(codec, kbps, width, frame_rate, &frames)?;
            }
        }
    }
    Ok(())
}

fn run(
    codec: VideoCodec,
    kbps: u32,
    width: u32,
    frame_rate: f32,
    clip: &[Arc<I420Buffer>],
) -> Result<(), MediaError> {
    let full = clip[0].size();
    let size = Size::new(width & !1, (width * full.height_px / full.width_px) & !1);
    let bitrate = Bitrate::from_kbps(kbps.into());
    let config =
        VideoEncoderConfig { max_bitrate: bitrate, bitrate, frame_rate, ..Default::default() };
    let (mut encoder, mut decoder) = (video_encoder(codec, &config), video_decoder(codec));
    let (mut down, mut up) = (Scaler::new(), Scaler::new());
    let (mut bytes, mut alike, mut shown) = (0, 0.0, 0);
    let (mut encode, mut decode) = (Duration::ZERO, Duration::ZERO);
    for (n, picture) in clip.iter().enumerate() {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time")]
        let time = MediaTime::from_micros((n as f64 * 1e6 / f64::from(frame_rate)) as u64);
        let begun = Instant::now();
        let buffer = down.scale(picture, size, Fit::Stretch)?;
        let coded = encoder.encode(&VideoFrame { buffer, time, rtp_timestamp: 0 })?;
        encode += begun.elapsed();
        let Some(coded) = coded else { continue };
        bytes += coded.data.len();
        let begun = Instant::now();
        let decoded = decoder.decode(&coded.data, time)?;
        decode += begun.elapsed();
        // The first second is the rate control's.
        if let Some(decoded) = decoded
            && n >= clip.len() / 10
        {
            let shown_size = up.scale(&decoded, full, Fit::Stretch)?;
            alike += ssim(picture, &shown_size)?;
            shown += 1;
        }
    }
    let seconds = clip.len() as f32 / frame_rate;
    let ms = |time: Duration| time.as_secs_f64() * 1e3 / clip.len() as f64;
    println!(
        "{codec:5} {kbps:5}  {:4}x{:<4} {:6.4}  {:9.0}  {:9.2}  {:9.2}",
        size.width_px,
        size.height_px,
        alike / f64::from(shown.max(1)),
        bytes as f32 * 8.0 / 1000.0 / seconds,
        ms(encode),
        ms(decode),
    );
    Ok(())
}

/// Ten seconds at 30 a second.
const FRAMES: u32 = 300;
