//! What the way of a picture costs the heap, from the camera's bytes to the decoder's picture. A
//! fresh megabyte means page faults for every picture; small pieces (packets) are another matter.
#![allow(missing_docs, clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use visavis_media::assembler::{AssemblerOutput, FrameAssembler};
use visavis_media::codec::h264::{H264Decoder, H264Encoder, H264EncoderConfig};
use visavis_media::codec::{
    VideoDecoder, VideoEncoder, VideoEncoderConfig, video_decoder, video_encoder,
};
use visavis_media::convert::{CameraFormat, CameraPicture, Converter};
use visavis_media::pool::BufferPool;
use visavis_media::scale::{Fit, Scaler};
use visavis_media::synthetic::TestPattern;
use visavis_media::{MediaTime, ReceivedRtp, Size, VideoCodec, VideoFrame};

/// Counts what this thread asks for; passes everything on to the system.
struct Counting;

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    all: u32,
    bytes: usize,
    large: u32,
}

thread_local! {
    static COUNTS: Cell<Counts> = const { Cell::new(Counts { all: 0, bytes: 0, large: 0 }) };
}

fn count(size: usize) {
    let Counts { all, bytes, large } = COUNTS.get();
    let large = large + u32::from(size > LARGE_BYTES);
    COUNTS.set(Counts { all: all + 1, bytes: bytes + size, large });
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Each step of a picture's way with what it costs.
const STEPS: [&str; 5] = ["convert", "scale", "encode", "assemble", "decode"];

/// Runs `step` and adds what it asked for to `sum`.
fn counted<T>(sum: &mut Counts, step: impl FnOnce() -> T) -> T {
    COUNTS.set(Counts::default());
    let result = step();
    let Counts { all, bytes, large } = COUNTS.get();
    *sum = Counts { all: sum.all + all, bytes: sum.bytes + bytes, large: sum.large + large };
    result
}

/// One fragmented NAL unit (RFC 6184 §5.8) or several whole ones, in packets of their own memory as
/// from a socket.
fn packets(access_unit: &[u8]) -> Vec<Bytes> {
    let mut packets = Vec::new();
    for nal in visavis_media::codec::sps::nal_units(access_unit) {
        if nal.len() <= PACKET_BYTES {
            packets.push(Bytes::copy_from_slice(nal));
            continue;
        }
        let pieces: Vec<&[u8]> = nal[1..].chunks(PACKET_BYTES).collect();
        for (n, piece) in pieces.iter().enumerate() {
            let start = if n == 0 { 0x80 } else { 0 };
            let end = if n + 1 == pieces.len() { 0x40 } else { 0 };
            let mut packet = BytesMut::with_capacity(piece.len() + 2);
            packet.put_slice(&[nal[0] & 0x60 | 28, start | end | nal[0] & 0x1f]);
            packet.put_slice(piece);
            packets.push(packet.freeze());
        }
    }
    packets
}

/// Counts a picture, on average after the first second.
fn steady(format: CameraFormat) -> [Counts; STEPS.len()] {
    let (camera, sent) = (Size::new(1280, 720), Size::new(960, 540));
    let mut pattern = TestPattern::with_grain(camera);
    let (mut converter, mut pool) = (Converter::new(), BufferPool::new());
    let (mut scaler, mut encoder) = (Scaler::new(), H264Encoder::new(H264EncoderConfig::default()));
    let (mut assembler, mut decoder) = (FrameAssembler::new(), H264Decoder::new());
    let mut sequence = 0u16;
    let mut sums = [Counts::default(); STEPS.len()];
    // Held as a preview and a window hold them.
    let (mut preview, mut window) = (None, None);
    for n in 0..WARM_UP + PICTURES {
        if n == WARM_UP {
            sums = Default::default();
        }
        let [convert, scale, encode, assemble, decode] = &mut sums;
        let time = MediaTime::from_micros(u64::from(n) * 33_333);
        let picture = pattern.frame(Duration::from_millis(u64::from(n) * 33), n);
        let data = camera_bytes(format, &picture);
        let captured = counted(convert, || {
            let picture = CameraPicture { format, size: camera, stride_bytes: None, data: &data };
            pool.fill(camera, |out| converter.to_i420(&picture, out)).unwrap()
        });
        let buffer = counted(scale, || scaler.scale(&captured, sent, Fit::Stretch).unwrap());
        preview = Some(captured).or(preview);
        let frame = VideoFrame { buffer, time, rtp_timestamp: 0 };
        let encoded = counted(encode, || encoder.encode(&frame).unwrap().unwrap());
        let packets = packets(&encoded.data);
        drop(encoded);
        let last = packets.len() - 1;
        for (index, payload) in packets.into_iter().enumerate() {
            let packet = ReceivedRtp {
                codec: Some(VideoCodec::H264),
                sequence,
                timestamp: n * 3000,
                marker: index == last,
                payload,
                arrival: time,
                retransmitted: false,
            };
            sequence = sequence.wrapping_add(1);
            counted(assemble, || assembler.push(packet, time));
        }
        let Some(AssemblerOutput::Frame(unit)) = counted(assemble, || assembler.poll(time)) else {
            // Before the first one it may wait for packets that came earlier.
            assert!(n < WARM_UP);
            continue;
        };
        let shown = counted(decode, || decoder.decode(&unit.data, time).unwrap());
        window = shown.or(window);
    }
    assert!(preview.is_some() && window.is_some());
    sums
}

/// What a camera of that format would deliver.
fn camera_bytes(format: CameraFormat, picture: &visavis_media::I420Buffer) -> Vec<u8> {
    match format {
        CameraFormat::I420 => picture.as_packed().to_vec(),
        // The colours do not matter here, only the way.
        CameraFormat::Yuyv => picture.planes()[0].iter().flat_map(|&luma| [luma, 128]).collect(),
        other => panic!("{other:?} is not made here"),
    }
}

#[test]
fn a_picture_on_its_way_takes_its_large_memory_from_pools() {
    for format in [CameraFormat::I420, CameraFormat::Yuyv] {
        let sums = steady(format);
        let each = |n: f64| n / f64::from(PICTURES);
        let mut large = 0;
        for (step, counts) in STEPS.iter().zip(sums) {
            large += counts.large;
            println!(
                "{format:?} {step:9}{:6.1} allocations, {:6.2} of them large, {:9.0} bytes a picture",
                each(counts.all.into()),
                each(counts.large.into()),
                each(counts.bytes as f64),
            );
        }
        assert!(large <= PICTURES / 10, "{large} large allocations for {PICTURES} pictures");
    }
}

/// Of the codecs behind the traits, what is Rust's alone is counted: the pictures.
#[test]
fn every_codec_takes_its_pictures_from_pools() {
    for codec in VideoCodec::ALL {
        let mut encoder = video_encoder(codec, &VideoEncoderConfig::default());
        let mut decoder = video_decoder(codec);
        let mut pattern = TestPattern::new(Size::new(640, 360));
        let (mut sum, mut window) = (Counts::default(), None);
        for n in 0..WARM_UP + PICTURES {
            if n == WARM_UP {
                sum = Counts::default();
            }
            let elapsed = Duration::from_millis(u64::from(n) * 33);
            let time = MediaTime::default() + elapsed;
            let frame = VideoFrame { buffer: pattern.frame(elapsed, n), time, rtp_timestamp: 0 };
            let coded = counted(&mut sum, || encoder.encode(&frame).unwrap().unwrap());
            window = counted(&mut sum, || decoder.decode(&coded.data, time).unwrap()).or(window);
        }
        assert!(window.is_some());
        println!("{codec}: {} large allocations of {}", sum.large, sum.all);
        assert!(sum.large <= PICTURES / 10, "{codec}: {} large allocations", sum.large);
    }
}

/// More than a packet or a node of a tree.
const LARGE_BYTES: usize = 4096;
const PACKET_BYTES: usize = 1160;
const WARM_UP: u32 = 30;
const PICTURES: u32 = 120;
