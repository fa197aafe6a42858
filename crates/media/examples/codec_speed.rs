//! What coding costs: CPU milliseconds per picture and per 10 ms of sound, the bitrate that came out of the one asked for,
//! and how alike the pictures are.
//!
//! `cargo run -p visavis-media --example codec_speed` for all; with `-- codecs` the video codecs beside each other; with
//! `-- AV1` one of them.
#![allow(clippy::disallowed_methods, reason = "it measures time")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use visavis_media::adaptation::Content;
use visavis_media::codec::h264::{Complexity, H264Decoder, H264Encoder, H264EncoderConfig};
use visavis_media::codec::opus::{OpusDecoder, OpusEncoder, OpusEncoderConfig};
use visavis_media::codec::{
    VideoCodec, VideoDecoder, VideoEncoder, VideoEncoderConfig, video_decoder, video_encoder,
};
use visavis_media::convert::{CameraFormat, CameraPicture, Converter};
use visavis_media::scale::{Fit, Scaler};
use visavis_media::synthetic::{TestPattern, Tone};
use visavis_media::{Bitrate, I420Buffer, MediaError, MediaTime, Size, VideoFrame};

#[cfg(not(unix))]
fn main() {
    println!("CPU time per thread is read on Unix only");
}

#[cfg(unix)]
fn main() -> Result<(), MediaError> {
    let argument = std::env::args().nth(1);
    if let Some(argument) = argument {
        let only = VideoCodec::from_name(&argument);
        return compare(&only.map_or(VideoCodec::ALL.to_vec(), |codec| vec![codec]));
    }
    let size = Size::new(1280, 720);
    let start = thread_cpu_ms();
    let mut pattern = TestPattern::new(size);
    for n in 0..FRAMES {
        std::hint::black_box(pattern.frame(Duration::from_millis(n * 33), n as u32));
    }
    println!(
        "test pattern                      {:6.3} ms",
        (thread_cpu_ms() - start) / FRAMES as f64
    );
    others(size)?;

    for (name, pictures) in
        [("test pattern", pattern_pictures(size)), ("head and noise", camera_pictures(size))]
    {
        for complexity in [Complexity::Low, Complexity::Medium, Complexity::High] {
            for slices in [1, 2] {
                run(name, &pictures, H264EncoderConfig { complexity, slices, ..BASE })?;
            }
        }
        for kbps in [300, 2500] {
            let config = H264EncoderConfig { bitrate: Bitrate::from_kbps(kbps), ..BASE };
            run(name, &pictures, config)?;
        }
        run(
            name,
            &pictures,
            H264EncoderConfig { frame_skip: true, bitrate: Bitrate::from_kbps(300), ..BASE },
        )?;
    }
    for complexity in [5, 7, 9, 10] {
        opus(complexity)?;
    }
    compare(&VideoCodec::ALL)
}

const FRAMES: u64 = 240;
const BASE: H264EncoderConfig = H264EncoderConfig {
    max_bitrate: Bitrate::from_kbps(2500),
    bitrate: Bitrate::from_kbps(1500),
    frame_rate: 30.0,
    frame_skip: false,
    complexity: Complexity::Low,
    slices: 1,
    cabac: false,
};

/// Each codec at each size and bitrate, on what a camera sees.
fn compare(codecs: &[VideoCodec]) -> Result<(), MediaError> {
    for (size, kbps) in [
        ((640, 360), 400),
        ((640, 360), 800),
        ((960, 540), 800),
        ((1280, 720), 800),
        ((1280, 720), 2000),
    ]
    .map(|((w, h), kbps)| (Size::new(w, h), kbps))
    {
        let pictures = camera_pictures(size);
        for &codec in codecs {
            let row = measure(codec, &pictures, Content::Camera, kbps)?;
            println!("{size} {kbps:>4} kbps {:5} {row}", codec.as_str());
        }
    }
    let size = Size::new(1280, 720);
    for &codec in codecs {
        let row = measure(codec, &screen_pictures(size), Content::Screen, 800)?;
        println!("{size}  800 kbps {:5} {row}, screen", codec.as_str());
    }
    Ok(())
}

fn measure(
    codec: VideoCodec,
    pictures: &[Arc<I420Buffer>],
    content: Content,
    kbps: u64,
) -> Result<String, MediaError> {
    let bitrate = Bitrate::from_kbps(kbps);
    let mut encoder =
        video_encoder(codec, &VideoEncoderConfig { bitrate, content, ..Default::default() });
    let mut decoder = video_decoder(codec);
    let (mut encode, mut decode, mut encode_cpu, mut decode_cpu) = (vec![], vec![], 0.0, 0.0);
    let (mut bytes, mut keyframe_bytes, mut largest) = (0, 0, 0);
    let (mut squared_error, mut similarity, mut compared) = (0.0, 0.0, 0u32);
    for (n, picture) in (0u64..).zip(pictures.iter().cycle()).take(FRAMES as usize) {
        let time = MediaTime::from_micros(n * 33_333);
        let frame = VideoFrame { buffer: Arc::clone(picture), time, rtp_timestamp: 0 };
        let (start, cpu) = (Instant::now(), process_cpu_ms());
        let coded = encoder.encode(&frame)?;
        let Some(coded) = coded else { continue };
        encode.push(start.elapsed().as_secs_f64() * 1e3);
        encode_cpu += process_cpu_ms() - cpu;
        if n == 0 {
            keyframe_bytes = coded.data.len();
        } else {
            bytes += coded.data.len();
            largest = largest.max(coded.data.len());
        }
        let (start, cpu) = (Instant::now(), process_cpu_ms());
        let decoded = decoder.decode(&coded.data, time)?;
        decode.push(start.elapsed().as_secs_f64() * 1e3);
        decode_cpu += process_cpu_ms() - cpu;
        if let Some(decoded) = decoded
            && n % 10 == 9
        {
            squared_error += mean_squared_error(picture, &decoded);
            similarity += structural_similarity(picture, &decoded);
            compared += 1;
        }
    }
    let psnr = 10.0 * (255.0 * 255.0 / (squared_error / f64::from(compared))).log10();
    let first = (encode[0], decode[0]);
    let frames = encode.len() as f64;
    let median = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    Ok(format!(
        "encode {:5.2} ms ({:5.2} CPU, first {:5.1}), decode {:5.2} ms ({:5.2} CPU, first {:5.1}), {:>4} kbps, keyframe {:>3} kB, \
         largest {:>3} kB, {psnr:.1} dB, SSIM {:.4}",
        median(&mut encode),
        encode_cpu / frames,
        first.0,
        median(&mut decode),
        decode_cpu / frames,
        first.1,
        bytes as u64 * 8 * 30 / (FRAMES - 1) / 1000,
        keyframe_bytes / 1000,
        largest / 1000,
        similarity / f64::from(compared),
    ))
}

/// Mean SSIM of luma over blocks of 8x8 (Wang et al., 2004, without the Gaussian window).
fn structural_similarity(a: &I420Buffer, b: &I420Buffer) -> f64 {
    let (stride, height) = (a.luma_stride(), a.size().height_px as usize);
    let (a, b) = (a.planes()[0], b.planes()[0]);
    let (mut sum, mut blocks) = (0.0, 0.0);
    for y in (0..height - 7).step_by(8) {
        for x in (0..stride - 7).step_by(8) {
            let [mut sa, mut sb, mut saa, mut sbb, mut sab] = [0.0; 5];
            for row in y..y + 8 {
                for at in row * stride + x..row * stride + x + 8 {
                    let (a, b) = (f64::from(a[at]), f64::from(b[at]));
                    sa += a;
                    sb += b;
                    saa += a * a;
                    sbb += b * b;
                    sab += a * b;
                }
            }
            let (ma, mb) = (sa / 64.0, sb / 64.0);
            let (va, vb, vab) = (saa / 64.0 - ma * ma, sbb / 64.0 - mb * mb, sab / 64.0 - ma * mb);
            let (c1, c2) = (6.5025, 58.5225);
            sum += (2.0 * ma * mb + c1) * (2.0 * vab + c2)
                / ((ma * ma + mb * mb + c1) * (va + vb + c2));
            blocks += 1.0;
        }
    }
    sum / blocks
}

/// Lines of letters on a light ground, which scroll by a line twice a second.
fn screen_pictures(size: Size) -> Vec<Arc<I420Buffer>> {
    let width = size.width_px as usize;
    (0..60usize)
        .map(|n| {
            let mut picture = I420Buffer::black(size);
            for (row, line) in picture.planes_mut()[0].chunks_exact_mut(width).enumerate() {
                let (text_line, y) = ((row + n / 15 * 20) / 20, (row + n / 15 * 20) % 20);
                for (column, pixel) in line.iter_mut().enumerate() {
                    let (letter, x) = (column / 9, column % 9);
                    let glyph = (letter * 31 + text_line * 57 + letter * text_line) % 23;
                    // Three by five cells of two by two pixels, and some space between words and behind lines.
                    let ink = glyph > 3
                        && letter < 40 + text_line * 37 % 60
                        && x < 6
                        && (4..14).contains(&y)
                        && (0x5b6f_75d3_1ce9_7a2b_u64 >> (glyph * 2)) >> ((y - 4) / 2 * 3 + x / 2)
                            & 1
                            == 1;
                    *pixel = if ink { 40 } else { 225 };
                }
            }
            Arc::new(picture)
        })
        .collect()
}

fn run(
    name: &str,
    pictures: &[Arc<I420Buffer>],
    config: H264EncoderConfig,
) -> Result<(), MediaError> {
    let (mut encoder, mut decoder) = (H264Encoder::new(config), H264Decoder::new());
    let (mut encode_ms, mut decode_ms, mut bytes, mut skipped, mut largest) = (0.0, 0.0, 0, 0, 0);
    let cpu_before = process_cpu_ms();
    let (mut squared_error, mut compared) = (0.0, 0u32);
    for (n, picture) in (0u64..).zip(pictures.iter().cycle()).take(FRAMES as usize) {
        let time = MediaTime::from_micros(n * 33_333);
        let frame = VideoFrame { buffer: Arc::clone(picture), time, rtp_timestamp: 0 };
        let start = thread_cpu_ms();
        let coded = encoder.encode(&frame)?;
        encode_ms += thread_cpu_ms() - start;
        let Some(coded) = coded else {
            skipped += 1;
            continue;
        };
        bytes += coded.data.len();
        if n > 0 {
            largest = largest.max(coded.data.len());
        }
        let start = thread_cpu_ms();
        let decoded = decoder.decode(&coded.data, time)?;
        decode_ms += thread_cpu_ms() - start;
        if let Some(decoded) = decoded
            && n % 30 == 29
        {
            squared_error += mean_squared_error(picture, &decoded);
            compared += 1;
        }
    }
    let cpu_ms = (process_cpu_ms() - cpu_before) / FRAMES as f64;
    let psnr = 10.0 * (255.0 * 255.0 / (squared_error / f64::from(compared))).log10();
    println!(
        "{name:14} {:>6?} {} slice(s) {:>5} kbps: encode {:5.2} ms, decode {:5.2} ms, all threads {cpu_ms:5.2} ms, {:>5} kbps, \
         largest {:>3} kB, {psnr:.1} dB, {skipped} skipped",
        config.complexity,
        config.slices,
        config.bitrate.as_bps() / 1000,
        encode_ms / FRAMES as f64,
        decode_ms / FRAMES as f64,
        bytes as u64 * 8 * 30 / FRAMES / 1000,
        largest / 1000,
    );
    Ok(())
}

fn others(size: Size) -> Result<(), MediaError> {
    let (width, height) = (size.width_px as usize, size.height_px as usize);
    let mut converter = Converter::new();
    let mut out = I420Buffer::black(size);
    let data: Vec<u8> = (0..width * height * 3).map(|i| (i * 7 / 5) as u8).collect();
    for format in [CameraFormat::Yuyv, CameraFormat::Nv12, CameraFormat::Rgb24] {
        let picture = CameraPicture { format, size, stride_bytes: None, data: &data };
        let start = thread_cpu_ms();
        for _ in 0..100 {
            converter.to_i420(&picture, &mut out)?;
        }
        println!(
            "{format:?} to I420                      {:6.3} ms",
            (thread_cpu_ms() - start) / 100.0
        );
    }
    let mut scaler = Scaler::new();
    let source = Arc::new(out);
    for to in [Size::new(960, 540), Size::new(640, 360), Size::new(1920, 1080)] {
        let start = thread_cpu_ms();
        for _ in 0..50 {
            std::hint::black_box(scaler.scale(&source, to, Fit::Crop)?);
        }
        println!(
            "scale 720p to {:>4}x{:<4}             {:6.3} ms",
            to.width_px,
            to.height_px,
            (thread_cpu_ms() - start) / 50.0
        );
    }
    Ok(())
}

fn opus(complexity: u8) -> Result<(), MediaError> {
    let mut encoder = OpusEncoder::new(OpusEncoderConfig { complexity, ..Default::default() })?;
    let mut decoder = OpusDecoder::new()?;
    let (mut tone, mut out) = (Tone::default(), Vec::new());
    let (mut encode_ms, mut decode_ms, mut bytes) = (0.0, 0.0, 0);
    for n in 0..1000 {
        let mut frame = tone.next_frame(MediaTime::from_micros(n * 10_000));
        for (i, sample) in frame.samples.iter_mut().enumerate() {
            *sample *= 0.5 + 0.5 * ((n * 480 + i as u64) as f32 / 1900.0).sin();
        }
        let start = thread_cpu_ms();
        let packet = encoder.encode(&frame)?;
        encode_ms += thread_cpu_ms() - start;
        if let Some(packet) = packet {
            bytes += packet.data.len();
            out.clear();
            let start = thread_cpu_ms();
            decoder.decode(&packet.data, &mut out)?;
            decode_ms += thread_cpu_ms() - start;
        }
    }
    println!(
        "opus complexity {complexity:2}: encode {:.3} ms, decode {:.3} ms per 10 ms, {} kbps",
        encode_ms / 1000.0,
        decode_ms / 1000.0,
        bytes * 8 / 10_000
    );
    Ok(())
}

fn pattern_pictures(size: Size) -> Vec<Arc<I420Buffer>> {
    (0..60)
        .map(|n| TestPattern::new(size).frame(Duration::from_millis(n * 33), n as u32 * 33 + 1))
        .collect()
}

/// What a camera sees: a still, textured room with sensor noise, and someone moving in front.
fn camera_pictures(size: Size) -> Vec<Arc<I420Buffer>> {
    let (width, height) = (size.width_px as usize, size.height_px as usize);
    let mut state = 7u32;
    let mut random = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 24
    };
    (0..60)
        .map(|n| {
            let mut picture = I420Buffer::black(size);
            let sway = (f64::from(n) / 60.0 * std::f64::consts::TAU).sin();
            let (cx, cy) = (
                width as f64 * (0.5 + 0.06 * sway),
                height as f64 * (0.55 + 0.02 * (2.0 * sway).cos()),
            );
            let (rx, ry) = (width as f64 * 0.16, height as f64 * 0.4);
            let chroma_stride = picture.chroma_stride();
            let [y, u, v] = picture.planes_mut();
            for (row, line) in y.chunks_exact_mut(width).enumerate() {
                for (column, pixel) in line.iter_mut().enumerate() {
                    let (dx, dy) = ((column as f64 - cx) / rx, (row as f64 - cy) / ry);
                    let inside = dx * dx + dy * dy < 1.0;
                    let texture = if inside {
                        150.0 - 40.0 * dx + 12.0 * (12.0 * dx).sin() * (9.0 * dy).cos()
                    } else {
                        let shelf = if row / 90 % 2 == 0 { 20.0 } else { 0.0 };
                        90.0 + shelf
                            + 18.0 * (column as f64 / 23.0).sin()
                            + 14.0 * (row as f64 / 17.0 + column as f64 / 51.0).cos()
                    };
                    *pixel = (texture + f64::from(random() % 5)) as u8;
                }
            }
            for (plane, (skin, wall)) in [(u, (112, 124)), (v, (150, 132))] {
                for (row, line) in plane.chunks_exact_mut(chroma_stride).enumerate() {
                    for (column, pixel) in line.iter_mut().enumerate() {
                        let (dx, dy) =
                            ((2.0 * column as f64 - cx) / rx, (2.0 * row as f64 - cy) / ry);
                        *pixel = if dx * dx + dy * dy < 1.0 { skin } else { wall };
                    }
                }
            }
            Arc::new(picture)
        })
        .collect()
}

fn mean_squared_error(a: &I420Buffer, b: &I420Buffer) -> f64 {
    let (a, b) = (a.planes()[0], b.planes()[0]);
    let sum: u64 = a.iter().zip(b).map(|(&a, &b)| u64::from(a.abs_diff(b)).pow(2)).sum();
    sum as f64 / a.len() as f64
}

/// CPU time of this thread so far: a busy machine does not falsify it, and the encoder's slice
/// threads are not in it.
fn thread_cpu_ms() -> f64 {
    clock_ms(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// CPU time of all threads so far.
fn process_cpu_ms() -> f64 {
    clock_ms(libc::CLOCK_PROCESS_CPUTIME_ID)
}

fn clock_ms(clock: libc::clockid_t) -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid clock and a struct to fill.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}
