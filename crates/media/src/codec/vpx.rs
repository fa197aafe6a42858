//! VP8 and VP9 over libvpx: real time, one layer, no hidden frames, no delay.
//!
//! libvpx is reached through `native/vpx.c`; why each setting is as it is stands in `docs/decisions/0018-video-codecs.md`.

use std::ffi::c_int;
use std::ptr::{NonNull, null};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::limits::{
    MIN_BITRATE, OUTPUT_BYTES, SizeChanges, check_coded_bytes, check_decoded_size, copy_plane,
    encoded_size, limit_range, usable_frame_rate,
};
use super::vpx_header::{Vp9References, parse_vp8, vp9_frames};
use super::{VideoCodec, VideoDecoder, VideoEncoder, VideoEncoderConfig};
use crate::adaptation::Content;
use crate::error::MediaError;
use crate::frame::{
    Bitrate, ColorMatrix, EncodedVideoFrame, I420Buffer, MediaTime, Size, VideoFrame,
};
use crate::pool::BufferPool;

/// VP8 or VP9 encoder.
///
/// Keyframes come first, on request and after a size change, never by themselves. Odd widths and heights lose their last
/// column or row.
#[derive(Debug)]
pub struct VpxEncoder {
    codec: VideoCodec,
    config: VideoEncoderConfig,
    raw: Option<(Size, RawEncoder)>,
    keyframe_requested: bool,
    /// Where coded pictures are put, one behind the other; its memory comes back once they are sent.
    output: BytesMut,
}

impl VpxEncoder {
    /// A VP8 encoder; the codec itself starts with the first picture.
    pub fn vp8(config: &VideoEncoderConfig) -> Self {
        Self::new(VideoCodec::Vp8, config)
    }

    /// A VP9 encoder; the codec itself starts with the first picture.
    pub fn vp9(config: &VideoEncoderConfig) -> Self {
        Self::new(VideoCodec::Vp9, config)
    }

    fn new(codec: VideoCodec, config: &VideoEncoderConfig) -> Self {
        let bitrate = config.bitrate.min(config.max_bitrate).max(MIN_BITRATE);
        let frame_rate = usable_frame_rate(config.frame_rate);
        Self {
            codec,
            config: VideoEncoderConfig { bitrate, frame_rate, ..*config },
            raw: None,
            keyframe_requested: false,
            output: BytesMut::with_capacity(OUTPUT_BYTES),
        }
    }

    fn update_rate(&mut self) {
        if let Some((_, raw)) = &mut self.raw
            && let Err(error) = raw.set_rate(&self.config)
        {
            tracing::warn!(%error, "rate not taken, starting the encoder anew");
            self.raw = None;
        }
    }
}

impl VideoEncoder for VpxEncoder {
    fn encode(&mut self, frame: &VideoFrame) -> Result<Option<EncodedVideoFrame>, MediaError> {
        let size = encoded_size(frame.buffer.size())?;
        if self.raw.as_ref().is_some_and(|(s, _)| *s != size) {
            self.raw = None;
        }
        let raw = match &mut self.raw {
            Some((_, raw)) => raw,
            none => &mut none.insert((size, RawEncoder::new(self.codec, size, &self.config)?)).1,
        };
        let coded = raw
            .encode(
                &frame.buffer,
                size,
                self.config.frame_rate,
                self.keyframe_requested,
                &mut self.output,
            )
            .inspect_err(|_| self.raw = None)?;
        let Some((data, keyframe)) = coded else { return Ok(None) };
        if keyframe {
            self.keyframe_requested = false;
        }
        Ok(Some(EncodedVideoFrame { codec: self.codec, data, keyframe, time: frame.time, size }))
    }

    fn set_bitrate(&mut self, bitrate: Bitrate) {
        let bitrate = bitrate.min(self.config.max_bitrate).max(MIN_BITRATE);
        if bitrate != self.config.bitrate {
            self.config.bitrate = bitrate;
            self.update_rate();
        }
    }

    fn set_frame_rate(&mut self, frames_per_second: f32) {
        let rate = usable_frame_rate(frames_per_second);
        if (rate - self.config.frame_rate).abs() >= 0.1 {
            self.config.frame_rate = rate;
            self.update_rate();
        }
    }

    fn request_keyframe(&mut self) {
        self.keyframe_requested = true;
    }
}

/// The shim's encoder, initialised.
#[derive(Debug)]
struct RawEncoder {
    codec: VideoCodec,
    encoder: NonNull<sys::Encoder>,
    /// Presentation time of the next picture. Not the capture time, which may stand still: libvpx takes the frame rate
    /// from the distance of the times.
    next_at: i64,
}

// SAFETY: the encoder has no thread affinity; `&mut self` on every call keeps it to one at a time.
unsafe impl Send for RawEncoder {}

impl RawEncoder {
    fn new(codec: VideoCodec, size: Size, config: &VideoEncoderConfig) -> Result<Self, MediaError> {
        let settings = settings(codec, size, config);
        let mut code = 0;
        // SAFETY: complete settings, which are copied, and a valid out pointer.
        let encoder = unsafe { sys::visavis_vpx_encoder_new(&raw const settings, &raw mut code) };
        let encoder = NonNull::new(encoder).ok_or(MediaError::VideoEncode {
            codec,
            operation: "initialize",
            code,
        })?;
        Ok(Self { codec, encoder, next_at: 0 })
    }

    fn set_rate(&mut self, config: &VideoEncoderConfig) -> Result<(), MediaError> {
        // SAFETY: live encoder.
        let code = unsafe {
            sys::visavis_vpx_encoder_set_rate(
                self.encoder.as_ptr(),
                kbps(config.bitrate),
                max_intra_pct(config.frame_rate),
            )
        };
        self.check("set rate", code)
    }

    fn encode(
        &mut self,
        buffer: &I420Buffer,
        size: Size,
        frame_rate: f32,
        keyframe: bool,
        output: &mut BytesMut,
    ) -> Result<Option<(Bytes, bool)>, MediaError> {
        let stride = |bytes: usize| c_int::try_from(bytes).unwrap_or(c_int::MAX);
        let (luma, chroma) = (stride(buffer.luma_stride()), stride(buffer.chroma_stride()));
        let picture = sys::Picture {
            planes: buffer.planes().map(<[u8]>::as_ptr),
            strides: [luma, chroma, chroma],
            width: size.width_px,
            height: size.height_px,
            color_space: 0,
            full_range: 0,
        };
        let duration = (TIMEBASE_HZ as f32 / frame_rate) as i64;
        let at = self.next_at;
        self.next_at += duration;
        // SAFETY: live encoder; the planes hold `size` at those strides (`size` is at most the buffer's) and outlive the
        // call.
        let code = unsafe {
            sys::visavis_vpx_encoder_encode(
                self.encoder.as_ptr(),
                &raw const picture,
                at,
                duration.unsigned_abs(),
                keyframe.into(),
            )
        };
        self.check("encode", code)?;
        let (mut data, mut length, mut is_keyframe, mut any_keyframe) = (null(), 0, 0, false);
        // SAFETY: live encoder and valid out pointers. A packet is `length` bytes at `data`, which stay until the next call.
        unsafe {
            while sys::visavis_vpx_encoder_packet(
                self.encoder.as_ptr(),
                &raw mut data,
                &raw mut length,
                &raw mut is_keyframe,
            ) == 1
            {
                output.extend_from_slice(std::slice::from_raw_parts(data, length));
                any_keyframe |= is_keyframe != 0;
            }
        }
        let data = output.split().freeze();
        Ok((!data.is_empty()).then_some((data, any_keyframe)))
    }

    fn check(&self, operation: &'static str, code: i32) -> Result<(), MediaError> {
        if code == 0 {
            Ok(())
        } else {
            Err(MediaError::VideoEncode { codec: self.codec, operation, code })
        }
    }
}

impl Drop for RawEncoder {
    fn drop(&mut self) {
        // SAFETY: made by the shim, freed once.
        unsafe { sys::visavis_vpx_encoder_free(self.encoder.as_ptr()) }
    }
}

/// As libwebrtc's `libvpx_vp8_encoder.cc` and `libvpx_vp9_encoder.cc`, but for the coarsest quantizer: that low targets are
/// met without leaving out pictures.
fn settings(codec: VideoCodec, size: Size, config: &VideoEncoderConfig) -> sys::Settings {
    let pixels = size.width_px * size.height_px;
    let (vp9, screen) = (codec == VideoCodec::Vp9, config.content == Content::Screen);
    // Below, what two cost each other is more than they save.
    let threads = if vp9 && pixels >= HD_PIXELS { 2 } else { 1 };
    let cpu_used = match (vp9, pixels) {
        (false, 0..CIF_PIXELS) => -4,
        (false, _) => -6,
        (true, 0..CIF_PIXELS) => 5,
        (true, 0..HD_PIXELS) => 7,
        (true, _) => 8,
    };
    sys::Settings {
        vp9: vp9.into(),
        width: size.width_px,
        height: size.height_px,
        threads,
        timebase_hz: TIMEBASE_HZ,
        kbps: kbps(config.bitrate),
        min_quantizer: match (vp9, screen) {
            (false, false) | (true, false) => 2,
            (false, true) => 12,
            (true, true) => 8,
        },
        max_quantizer: 63,
        undershoot_pct: if vp9 { 50 } else { 100 },
        overshoot_pct: if vp9 { 50 } else { 15 },
        buffer_ms: 1000,
        buffer_initial_ms: 500,
        buffer_optimal_ms: BUFFER_OPTIMAL_MS,
        max_intra_pct: max_intra_pct(config.frame_rate),
        cpu_used,
        static_threshold: if screen && !vp9 { 100 } else { 1 },
        screen: screen.into(),
        tile_columns_log2: threads >> 1,
    }
}

/// Most bits of a keyframe, in percent of what each picture has: half of the buffer, as libwebrtc has it.
fn max_intra_pct(frame_rate: f32) -> u32 {
    ((BUFFER_OPTIMAL_MS as f32 * 0.5 * frame_rate / 10.0) as u32).max(300)
}

fn kbps(bitrate: Bitrate) -> u32 {
    u32::try_from(bitrate.as_bps() / 1000).unwrap_or(u32::MAX)
}

/// VP8 or VP9 decoder that never shows a broken picture: concealment is off.
///
/// What a sender can make it allocate is bounded by the size of pictures, and by how often it may change
/// ([`MediaError::TooManySizeChanges`]).
#[derive(Debug)]
pub struct VpxDecoder {
    codec: VideoCodec,
    raw: Option<RawDecoder>,
    pool: BufferPool,
    awaiting_keyframe: bool,
    references: Vp9References,
    /// Size that the codec holds memory for.
    coded_size: Option<Size>,
    size_changes: SizeChanges,
    /// A VP9 frame with an index of its own.
    indexed: Vec<u8>,
}

impl VpxDecoder {
    /// A VP8 decoder; the codec itself starts with the first keyframe.
    pub fn vp8() -> Self {
        Self::new(VideoCodec::Vp8)
    }

    /// A VP9 decoder; the codec itself starts with the first keyframe.
    pub fn vp9() -> Self {
        Self::new(VideoCodec::Vp9)
    }

    fn new(codec: VideoCodec) -> Self {
        Self {
            codec,
            raw: None,
            pool: BufferPool::new(),
            awaiting_keyframe: true,
            references: Vp9References::default(),
            coded_size: None,
            size_changes: SizeChanges::default(),
            indexed: Vec::new(),
        }
    }

    /// Checks what the codec may see. Returns whether a picture is to be shown.
    fn inspect(&mut self, coded: &[u8], now: MediaTime) -> Result<bool, MediaError> {
        check_coded_bytes(self.codec, coded)?;
        let (mut keyframe, mut shown, mut size) = (false, false, self.coded_size);
        let mut references = self.references;
        if self.codec == VideoCodec::Vp8 {
            let header = parse_vp8(coded).ok_or_else(|| self.broken("unreadable frame tag"))?;
            keyframe = header.size.is_some();
            shown = header.shown;
            size = header.size.or(size);
        } else {
            let frames = vp9_frames(coded).ok_or_else(|| self.broken("broken superframe index"))?;
            for (n, frame) in frames.enumerate() {
                let unknown = references == Vp9References::default();
                let Some(header) = references.parse(frame) else {
                    // Without references nothing can be said about a frame that depends on them.
                    if self.awaiting_keyframe && unknown {
                        return Err(MediaError::AwaitingKeyframe(self.codec));
                    }
                    return Err(self.broken("unreadable uncompressed header"));
                };
                check_decoded_size(header.size)?;
                keyframe |= n == 0 && header.keyframe;
                shown |= header.shown;
                // A superframe may have its picture in several sizes. libvpx keeps memory for the largest.
                size = Some(header.size);
            }
        }
        if self.awaiting_keyframe && !keyframe {
            return Err(MediaError::AwaitingKeyframe(self.codec));
        }
        if let Some(size) = size
            && self.coded_size != Some(size)
        {
            check_decoded_size(size)?;
            if !self.size_changes.allow(now) {
                return Err(MediaError::TooManySizeChanges(self.codec));
            }
            self.coded_size = Some(size);
        }
        self.references = references;
        Ok(shown)
    }

    fn decode_inspected(&mut self, coded: &[u8]) -> Result<Option<Arc<I420Buffer>>, MediaError> {
        let raw = match &mut self.raw {
            Some(raw) => raw,
            none => none.insert(RawDecoder::new(self.codec)?),
        };
        if self.codec == VideoCodec::Vp8 {
            return raw.decode(coded, &mut self.pool);
        }
        let mut shown = None;
        for frame in vp9_frames(coded).into_iter().flatten() {
            // libvpx would take what follows a frame for another one, which nobody has checked, unless an index says where
            // it ends.
            let Ok(length) = u32::try_from(frame.len()) else { continue };
            self.indexed.clear();
            self.indexed.extend_from_slice(frame);
            self.indexed.push(INDEX_OF_ONE);
            self.indexed.extend_from_slice(&length.to_le_bytes());
            self.indexed.push(INDEX_OF_ONE);
            shown = raw.decode(&self.indexed, &mut self.pool)?.or(shown);
        }
        Ok(shown)
    }

    fn broken(&self, message: &str) -> MediaError {
        MediaError::VideoDecode { codec: self.codec, message: message.into() }
    }
}

impl VideoDecoder for VpxDecoder {
    fn decode(
        &mut self,
        coded: &[u8],
        now: MediaTime,
    ) -> Result<Option<Arc<I420Buffer>>, MediaError> {
        let inspected = self.inspect(coded, now).inspect_err(|_| {
            // The codec has not seen it, so what it knows is as good as before.
            self.awaiting_keyframe = true;
        })?;
        let shown = self.decode_inspected(coded).and_then(|picture| {
            // Whoever decodes what is to be shown and shows nothing has lost something.
            if inspected && picture.is_none() {
                Err(self.broken("no picture came out"))
            } else {
                Ok(picture)
            }
        });
        match &shown {
            Ok(_) => self.awaiting_keyframe = false,
            Err(_) => {
                // Whatever it half knows would be shown as a broken picture: begin anew.
                self.raw = None;
                self.references = Vp9References::default();
                self.coded_size = None;
                self.awaiting_keyframe = true;
            }
        }
        shown
    }
}

/// libvpx's decoder, initialised.
#[derive(Debug)]
struct RawDecoder {
    codec: VideoCodec,
    decoder: NonNull<sys::Decoder>,
}

// SAFETY: the decoder has no thread affinity; `&mut self` on every call keeps it to one at a time.
unsafe impl Send for RawDecoder {}

impl RawDecoder {
    fn new(codec: VideoCodec) -> Result<Self, MediaError> {
        let mut code = 0;
        // SAFETY: a valid out pointer.
        let decoder = unsafe {
            sys::visavis_vpx_decoder_new(
                (codec == VideoCodec::Vp9).into(),
                DECODER_THREADS,
                &raw mut code,
            )
        };
        let message = || format!("initialize failed with code {code}");
        let decoder = NonNull::new(decoder)
            .ok_or_else(|| MediaError::VideoDecode { codec, message: message() })?;
        Ok(Self { codec, decoder })
    }

    fn decode(
        &mut self,
        frame: &[u8],
        pool: &mut BufferPool,
    ) -> Result<Option<Arc<I420Buffer>>, MediaError> {
        let codec = self.codec;
        let broken = |message: String| MediaError::VideoDecode { codec, message };
        let mut picture = sys::Picture::default();
        let length = u32::try_from(frame.len()).map_err(|_| broken("too long".into()))?;
        // SAFETY: live decoder, `length` bytes at the pointer, and a valid struct to fill.
        let code = unsafe {
            sys::visavis_vpx_decoder_decode(
                self.decoder.as_ptr(),
                frame.as_ptr(),
                length,
                &raw mut picture,
            )
        };
        if code != 0 {
            return Err(broken(format!("libvpx's error {code}")));
        }
        if picture.planes[0].is_null() {
            return Ok(None);
        }
        let size = Size::new(picture.width, picture.height);
        check_decoded_size(size)?;
        pool.fill(size, |buffer| {
            buffer.set_matrix(match (codec, picture.color_space) {
                // What browsers leave unsaid they mean as BT.709, see H.264. VP8 has no other (RFC 6386 §9.2).
                (VideoCodec::Vp8, _) | (_, CS_BT_601 | CS_SMPTE_170) => ColorMatrix::Bt601,
                _ => ColorMatrix::Bt709,
            });
            let strides = [buffer.luma_stride(), buffer.chroma_stride(), buffer.chroma_stride()];
            for (plane, to) in buffer.planes_mut().into_iter().enumerate() {
                let rows = to.len() / strides[plane];
                let (from, from_stride) = (picture.planes[plane], picture.strides[plane]);
                let from_stride = usize::try_from(from_stride).unwrap_or(0);
                if from.is_null() || from_stride < strides[plane] {
                    return Err(broken("planes cut short".into()));
                }
                // SAFETY: libvpx's picture has `rows` rows of so many bytes until the next call.
                let from = unsafe {
                    std::slice::from_raw_parts(from, (rows - 1) * from_stride + strides[plane])
                };
                copy_plane(from, from_stride, to, strides[plane]);
            }
            if picture.full_range != 0 {
                limit_range(buffer);
            }
            Ok(())
        })
        .map(Some)
    }
}

impl Drop for RawDecoder {
    fn drop(&mut self) {
        // SAFETY: made by the shim, freed once.
        unsafe { sys::visavis_vpx_decoder_free(self.decoder.as_ptr()) }
    }
}

/// `native/vpx.c`.
mod sys {
    use std::ptr::null;

    #[repr(C)]
    #[derive(Debug)]
    pub(super) struct Settings {
        pub(super) vp9: i32,
        pub(super) width: u32,
        pub(super) height: u32,
        pub(super) threads: u32,
        pub(super) timebase_hz: u32,
        pub(super) kbps: u32,
        pub(super) min_quantizer: u32,
        pub(super) max_quantizer: u32,
        pub(super) undershoot_pct: u32,
        pub(super) overshoot_pct: u32,
        pub(super) buffer_ms: u32,
        pub(super) buffer_initial_ms: u32,
        pub(super) buffer_optimal_ms: u32,
        pub(super) max_intra_pct: u32,
        pub(super) cpu_used: i32,
        pub(super) static_threshold: u32,
        pub(super) screen: u32,
        pub(super) tile_columns_log2: u32,
    }

    #[repr(C)]
    #[derive(Debug)]
    pub(super) struct Picture {
        pub(super) planes: [*const u8; 3],
        pub(super) strides: [i32; 3],
        pub(super) width: u32,
        pub(super) height: u32,
        pub(super) color_space: i32,
        pub(super) full_range: i32,
    }

    impl Default for Picture {
        fn default() -> Self {
            let (planes, strides) = ([null(); 3], [0; 3]);
            Self { planes, strides, width: 0, height: 0, color_space: 0, full_range: 0 }
        }
    }

    #[repr(C)]
    pub(super) struct Encoder([u8; 0]);

    #[repr(C)]
    pub(super) struct Decoder([u8; 0]);

    unsafe extern "C" {
        pub(super) fn visavis_vpx_encoder_new(
            settings: *const Settings,
            code: *mut i32,
        ) -> *mut Encoder;
        pub(super) fn visavis_vpx_encoder_free(encoder: *mut Encoder);
        pub(super) fn visavis_vpx_encoder_set_rate(
            encoder: *mut Encoder,
            kbps: u32,
            max_intra_pct: u32,
        ) -> i32;
        pub(super) fn visavis_vpx_encoder_encode(
            encoder: *mut Encoder,
            picture: *const Picture,
            at: i64,
            duration: u64,
            keyframe: i32,
        ) -> i32;
        pub(super) fn visavis_vpx_encoder_packet(
            encoder: *mut Encoder,
            data: *mut *const u8,
            length: *mut usize,
            keyframe: *mut i32,
        ) -> i32;
        pub(super) fn visavis_vpx_decoder_new(
            vp9: i32,
            threads: u32,
            code: *mut i32,
        ) -> *mut Decoder;
        pub(super) fn visavis_vpx_decoder_free(decoder: *mut Decoder);
        pub(super) fn visavis_vpx_decoder_decode(
            decoder: *mut Decoder,
            data: *const u8,
            length: u32,
            picture: *mut Picture,
        ) -> i32;
    }
}

/// Of presentation times.
const TIMEBASE_HZ: u32 = 90_000;
/// The rate control holds so much of a full second's buffer ready for what is hard to code.
const BUFFER_OPTIMAL_MS: u32 = 600;
const CIF_PIXELS: u32 = 352 * 288;
const HD_PIXELS: u32 = 1280 * 720;
const DECODER_THREADS: u32 = 1;
/// A superframe index of one frame with a length of four bytes.
const INDEX_OF_ONE: u8 = 0xd8;
/// `color_space` of VP9 (VP9 bitstream specification §7.2.2).
const CS_BT_601: i32 = 1;
const CS_SMPTE_170: i32 = 3;
