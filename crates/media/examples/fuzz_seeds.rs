//! Seeds for the fuzz targets of the video decoders: a few coded pictures each, with a keyframe in between and a change of
//! size.
//!
//! `cargo run -p visavis-media --example fuzz_seeds -- fuzz/seeds`

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use visavis_media::adaptation::Content;
use visavis_media::codec::{VideoCodec, VideoEncoderConfig, video_encoder};
use visavis_media::synthetic::TestPattern;
use visavis_media::{Bitrate, MediaTime, Size, VideoFrame};

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(std::env::args().nth(1).ok_or("name a directory")?);
    for (codec, target) in
        [(VideoCodec::Vp8, "vp8"), (VideoCodec::Vp9, "vp9"), (VideoCodec::Av1, "av1")]
    {
        for (content, name) in [(Content::Camera, "camera"), (Content::Screen, "screen")] {
            let bitrate = Bitrate::from_kbps(60);
            let config = VideoEncoderConfig { bitrate, content, ..Default::default() };
            let mut encoder = video_encoder(codec, &config);
            let mut seed = Vec::new();
            for n in 0..8 {
                let size = if n < 6 { Size::new(160, 96) } else { Size::new(96, 130) };
                if n == 4 {
                    encoder.request_keyframe();
                }
                let elapsed = Duration::from_millis(33 * n);
                let frame = VideoFrame {
                    buffer: TestPattern::new(size).frame(elapsed, 1 + n as u32),
                    time: MediaTime::default() + elapsed,
                    rtp_timestamp: 0,
                };
                if let Some(coded) = encoder.encode(&frame)? {
                    seed.extend(u16::try_from(coded.data.len())?.to_be_bytes());
                    seed.extend_from_slice(&coded.data);
                }
            }
            let directory = root.join(target);
            std::fs::create_dir_all(&directory)?;
            println!("{target}/{name}: {} bytes", seed.len());
            std::fs::write(directory.join(name), seed)?;
        }
    }
    Ok(())
}
