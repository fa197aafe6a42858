//! AV1 over libaom: real time, one layer, no hidden frames, no delay.
//!
//! Why each setting is as it is stands in `docs/decisions/0018-video-codecs.md`.

use std::ffi::{c_int, c_uint};
use std::mem::MaybeUninit;
use std::ptr::{null, null_mut};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use libaom_sys as aom;

use super::av1_header::{is_keyframe, obus, parse_sequence_header};
use super::limits::{
    BT470BG, MIN_BITRATE, OUTPUT_BYTES, SMPTE170M, SizeChanges, check_coded_bytes,
    check_decoded_size, copy_plane, encoded_size, limit_range, usable_frame_rate,
};
use super::{Latitude, VideoCodec, VideoDecoder, VideoEncoder, VideoEncoderConfig};
use crate::adaptation::Content;
use crate::error::MediaError;
use crate::frame::{
    Bitrate, ColorMatrix, EncodedVideoFrame, I420Buffer, MediaTime, Size, VideoFrame,
};
use crate::obu;
use crate::pool::BufferPool;

/// AV1 encoder, main profile.
///
/// Keyframes come first, on request and after a size change, never by themselves; each carries the sequence header. Odd
/// widths and heights lose their last column or row.
#[derive(Debug)]
pub struct Av1Encoder {
    config: VideoEncoderConfig,
    raw: Option<(Size, RawEncoder)>,
    keyframe_requested: bool,
    latitude: Latitude,
    /// Where coded pictures are put, one behind the other; its memory comes back once they are sent.
    output: BytesMut,
}

impl Av1Encoder {
    /// An encoder; the codec itself starts with the first picture.
    pub fn new(config: &VideoEncoderConfig) -> Self {
        let bitrate = config.bitrate.min(config.max_bitrate).max(MIN_BITRATE);
        let frame_rate = usable_frame_rate(config.frame_rate);
        Self {
            config: VideoEncoderConfig { bitrate, frame_rate, ..*config },
            raw: None,
            keyframe_requested: false,
            latitude: Latitude::default(),
            output: BytesMut::with_capacity(OUTPUT_BYTES),
        }
    }
}

impl VideoEncoder for Av1Encoder {
    fn encode(&mut self, frame: &VideoFrame) -> Result<Option<EncodedVideoFrame>, MediaError> {
        let size = encoded_size(frame.buffer.size())?;
        if self.raw.as_ref().is_some_and(|(s, _)| *s != size) {
            self.raw = None;
        }
        let raw = match &mut self.raw {
            Some((_, raw)) => raw,
            none => &mut none.insert((size, RawEncoder::new(size, &self.config)?)).1,
        };
        let (rate, keyframe) = (self.config.frame_rate, self.keyframe_requested);
        let coded = raw
            .set_latitude(size, self.latitude, self.config.content)
            .and_then(|()| raw.encode(&frame.buffer, size, rate, keyframe, &mut self.output))
            .inspect_err(|_| self.raw = None)?;
        let Some((data, keyframe)) = coded else { return Ok(None) };
        if keyframe {
            self.keyframe_requested = false;
        }
        let codec = VideoCodec::Av1;
        Ok(Some(EncodedVideoFrame { codec, data, keyframe, time: frame.time, size }))
    }

    fn set_bitrate(&mut self, bitrate: Bitrate) {
        let bitrate = bitrate.min(self.config.max_bitrate).max(MIN_BITRATE);
        if bitrate == self.config.bitrate {
            return;
        }
        self.config.bitrate = bitrate;
        if let Some((_, raw)) = &mut self.raw
            && let Err(error) = raw.set_bitrate(bitrate)
        {
            tracing::warn!(%error, "bitrate not taken, starting the encoder anew");
            self.raw = None;
        }
    }

    /// The distance of presentation times says it to libaom.
    fn set_frame_rate(&mut self, frames_per_second: f32) {
        self.config.frame_rate = usable_frame_rate(frames_per_second);
    }

    fn request_keyframe(&mut self) {
        self.keyframe_requested = true;
    }

    fn set_latitude(&mut self, latitude: Latitude) {
        self.latitude = latitude;
    }

    /// libaom takes half a second over a new scene unless it is a keyframe, for which it has other bounds.
    fn begin_scene(&mut self) {
        self.keyframe_requested = true;
    }
}

/// libaom's encoder, initialised.
struct RawEncoder {
    /// In a place of its own, which libaom may point to.
    context: Box<aom::aom_codec_ctx_t>,
    config: Box<aom::aom_codec_enc_cfg_t>,
    latitude: Latitude,
    /// Presentation time of the next picture. Not the capture time, which may stand still: libaom takes the frame rate from
    /// the distance of the times.
    next_at: i64,
}

// SAFETY: the encoder has no thread affinity; `&mut self` on every call keeps it to one at a time.
unsafe impl Send for RawEncoder {}

impl std::fmt::Debug for RawEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawEncoder").field("next_at", &self.next_at).finish_non_exhaustive()
    }
}

impl RawEncoder {
    fn new(size: Size, settings: &VideoEncoderConfig) -> Result<Self, MediaError> {
        let mut config = MaybeUninit::<aom::aom_codec_enc_cfg_t>::zeroed();
        // SAFETY: the interface is static; the configuration, of integers alone, is valid zeroed and is filled. Its layout is
        // that of the libaom that the crate of the bindings builds.
        let (interface, code, mut config) = unsafe {
            let interface = aom::aom_codec_av1_cx();
            let code = aom::aom_codec_enc_config_default(
                interface,
                config.as_mut_ptr(),
                aom::AOM_USAGE_REALTIME,
            );
            (interface, code, Box::new(config.assume_init()))
        };
        check("default parameters", code)?;
        fill_config(&mut config, size, settings);
        let mut context = Box::new(MaybeUninit::<aom::aom_codec_ctx_t>::zeroed());
        // SAFETY: a context to fill, which is valid zeroed and is told to be uninitialised on failure, and a complete
        // configuration.
        let (code, context) = unsafe {
            let code = aom::aom_codec_enc_init_ver(
                context.as_mut_ptr(),
                interface,
                &raw const *config,
                0,
                ABI_VERSION,
            );
            (code, context.assume_init())
        };
        check("initialize", code)?;
        let latitude = Latitude::default();
        let mut this = Self { context, config, latitude, next_at: 0 };
        let adapted = adapted_controls(size, latitude, settings.content);
        for (name, control, value) in controls(size, settings).into_iter().chain(adapted) {
            this.set(name, control, value)?;
        }
        Ok(this)
    }

    fn set(
        &mut self,
        name: &'static str,
        control: aom::aome_enc_control_id,
        value: c_int,
    ) -> Result<(), MediaError> {
        // SAFETY: live encoder; each control takes one integer of this width.
        let code =
            unsafe { aom::aom_codec_control(&raw mut *self.context, control as c_int, value) };
        check(name, code)
    }

    fn set_latitude(
        &mut self,
        size: Size,
        latitude: Latitude,
        content: Content,
    ) -> Result<(), MediaError> {
        if latitude == self.latitude {
            return Ok(());
        }
        self.latitude = latitude;
        for (name, control, value) in adapted_controls(size, latitude, content) {
            self.set(name, control, value)?;
        }
        set_buffer(&mut self.config, latitude);
        self.apply_config("set buffer")
    }

    fn set_bitrate(&mut self, bitrate: Bitrate) -> Result<(), MediaError> {
        self.config.rc_target_bitrate = kbps(bitrate);
        self.apply_config("set bitrate")
    }

    fn apply_config(&mut self, operation: &'static str) -> Result<(), MediaError> {
        // SAFETY: live encoder and complete configuration, which it copies.
        let code = unsafe {
            aom::aom_codec_enc_config_set(&raw mut *self.context, &raw const *self.config)
        };
        check(operation, code)
    }

    fn encode(
        &mut self,
        buffer: &I420Buffer,
        size: Size,
        frame_rate: f32,
        keyframe: bool,
        output: &mut BytesMut,
    ) -> Result<Option<(Bytes, bool)>, MediaError> {
        let [y, u, v] = buffer.planes();
        let mut image = MaybeUninit::<aom::aom_image_t>::zeroed();
        // SAFETY: an image to fill, valid zeroed, and memory of the caller's, which is only read: libaom's interface knows no
        // const.
        let image = unsafe {
            let wrapped = aom::aom_img_wrap(
                image.as_mut_ptr(),
                aom::AOM_IMG_FMT_I420,
                size.width_px,
                size.height_px,
                1,
                y.as_ptr().cast_mut(),
            );
            if wrapped.is_null() {
                return Err(MediaError::UnsupportedSize(size));
            }
            image.assume_init_mut()
        };
        image.planes = [y, u, v].map(|plane| plane.as_ptr().cast_mut());
        let stride = |bytes: usize| c_int::try_from(bytes).unwrap_or(c_int::MAX);
        let (luma, chroma) = (stride(buffer.luma_stride()), stride(buffer.chroma_stride()));
        image.stride = [luma, chroma, chroma];
        image.mc = aom::AOM_CICP_MC_BT_601;
        image.range = aom::AOM_CR_STUDIO_RANGE;

        let duration = (TIMEBASE_HZ as f32 / frame_rate) as u32;
        let at = self.next_at;
        self.next_at += i64::from(duration);
        let flags = if keyframe { i64::from(aom::AOM_EFLAG_FORCE_KF) } else { 0 };
        // SAFETY: live encoder; the planes hold `size` at those strides (`size` is at most the buffer's) and outlive the
        // call.
        let code = unsafe {
            aom::aom_codec_encode(
                &raw mut *self.context,
                &raw const *image,
                at,
                duration.into(),
                flags as aom::aom_enc_frame_flags_t,
            )
        };
        check("encode", code)?;
        let (mut packets, mut any_keyframe) = (null(), false);
        // SAFETY: live encoder, and the iterator that its first call starts. A packet is valid until the next call, and one of
        // this kind holds `sz` bytes at `buf`.
        unsafe {
            while let Some(packet) =
                aom::aom_codec_get_cx_data(&raw mut *self.context, &raw mut packets).as_ref()
            {
                if packet.kind == aom::AOM_CODEC_CX_FRAME_PKT {
                    let frame = packet.data.frame;
                    let data = std::slice::from_raw_parts(frame.buf.cast::<u8>(), frame.sz);
                    output.extend_from_slice(data);
                    any_keyframe |= frame.flags & aom::AOM_FRAME_IS_KEY != 0;
                }
            }
        }
        let data = output.split().freeze();
        Ok((!data.is_empty()).then_some((data, any_keyframe)))
    }
}

impl Drop for RawEncoder {
    fn drop(&mut self) {
        // SAFETY: initialised, and destroyed once.
        unsafe { aom::aom_codec_destroy(&raw mut *self.context) };
    }
}

/// As libwebrtc's `libaom_av1_encoder.cc`.
fn fill_config(config: &mut aom::aom_codec_enc_cfg_t, size: Size, settings: &VideoEncoderConfig) {
    config.g_w = size.width_px;
    config.g_h = size.height_px;
    config.g_threads = threads(size);
    config.g_timebase = aom::aom_rational { num: 1, den: TIMEBASE_HZ as c_int };
    config.g_input_bit_depth = 8;
    config.g_pass = aom::AOM_RC_ONE_PASS;
    config.g_lag_in_frames = 0;
    config.g_error_resilient = 0;
    config.kf_mode = aom::AOM_KF_DISABLED;
    config.rc_end_usage = aom::AOM_CBR;
    config.rc_target_bitrate = kbps(settings.bitrate);
    config.rc_dropframe_thresh = 0;
    config.rc_min_quantizer = 10;
    config.rc_max_quantizer = 63;
    config.rc_undershoot_pct = 50;
    config.rc_overshoot_pct = 50;
    set_buffer(config, Latitude::default());
}

/// Milliseconds of the bitrate that the rate control takes for the path's buffer; libwebrtc has 1000, 600, 600.
fn set_buffer(config: &mut aom::aom_codec_enc_cfg_t, latitude: Latitude) {
    let (all, optimal) = if latitude.uneven { (1000, 600) } else { (600, 300) };
    config.rc_buf_sz = all;
    config.rc_buf_initial_sz = optimal;
    config.rc_buf_optimal_sz = optimal;
}

type Control = (&'static str, aom::aome_enc_control_id, c_int);

/// What may change while the encoder works.
fn adapted_controls(size: Size, latitude: Latitude, content: Content) -> [Control; 2] {
    let pixels = size.width_px * size.height_px;
    let usual = if pixels <= QUARTER_CIF_PIXELS {
        8
    } else if pixels <= HD_PIXELS {
        // Not 10: it now and then misses that small flat areas change.
        9
    } else {
        10
    };
    let cpu_used = if latitude.thorough { usual - 2 } else { usual };
    // Refreshing a part of each frame makes sizes uneven (p95 1.8 times the mean, without 1.15), which costs 20 ms on
    // a narrow line; text on a screen overshoots without.
    let refresh = latitude.uneven || content == Content::Screen;
    [
        ("cpu-used", aom::AOME_SET_CPUUSED, cpu_used),
        ("adaptive quantization", aom::AV1E_SET_AQ_MODE, if refresh { 3 } else { 0 }),
    ]
}

/// As libwebrtc's `libaom_av1_encoder.cc`: which speed, and no tool that costs more time than it saves bits there.
fn controls(size: Size, settings: &VideoEncoderConfig) -> Vec<Control> {
    let screen = settings.content == Content::Screen;
    let tile_columns_log2 = if threads(size) > 1 { 1 } else { 0 };
    vec![
        ("max intra bitrate", aom::AOME_SET_MAX_INTRA_BITRATE_PCT, 300),
        ("content", aom::AV1E_SET_TUNE_CONTENT, screen.into()),
        ("palette", aom::AV1E_SET_ENABLE_PALETTE, screen.into()),
        ("intra block copy", aom::AV1E_SET_ENABLE_INTRABC, 0),
        ("delta quantizers", aom::AV1E_SET_DELTAQ_MODE, 0),
        ("noise sensitivity", aom::AV1E_SET_NOISE_SENSITIVITY, 0),
        ("tile columns", aom::AV1E_SET_TILE_COLUMNS, tile_columns_log2),
        ("rows in threads", aom::AV1E_SET_ROW_MT, 1),
        ("CDEF", aom::AV1E_SET_ENABLE_CDEF, 1),
        ("loop restoration", aom::AV1E_SET_ENABLE_RESTORATION, 0),
        ("temporal dependency model", aom::AV1E_SET_ENABLE_TPL_MODEL, 0),
        ("order hint", aom::AV1E_SET_ENABLE_ORDER_HINT, 0),
        ("coefficient costs", aom::AV1E_SET_COEFF_COST_UPD_FREQ, 3),
        ("mode costs", aom::AV1E_SET_MODE_COST_UPD_FREQ, 3),
        ("motion vector costs", aom::AV1E_SET_MV_COST_UPD_FREQ, 3),
        ("OBMC", aom::AV1E_SET_ENABLE_OBMC, 0),
        ("warped motion", aom::AV1E_SET_ENABLE_WARPED_MOTION, 0),
        ("global motion", aom::AV1E_SET_ENABLE_GLOBAL_MOTION, 0),
        ("reference motion vectors", aom::AV1E_SET_ENABLE_REF_FRAME_MVS, 0),
        ("chroma from luma", aom::AV1E_SET_ENABLE_CFL_INTRA, 0),
        ("smooth intra", aom::AV1E_SET_ENABLE_SMOOTH_INTRA, 0),
        ("angle delta", aom::AV1E_SET_ENABLE_ANGLE_DELTA, 0),
        ("filter intra", aom::AV1E_SET_ENABLE_FILTER_INTRA, 0),
        ("intra transforms", aom::AV1E_SET_INTRA_DEFAULT_TX_ONLY, 1),
        ("trellis", aom::AV1E_SET_DISABLE_TRELLIS_QUANT, 1),
        ("distance weights", aom::AV1E_SET_ENABLE_DIST_WTD_COMP, 0),
        ("difference weights", aom::AV1E_SET_ENABLE_DIFF_WTD_COMP, 0),
        ("dual filter", aom::AV1E_SET_ENABLE_DUAL_FILTER, 0),
        ("inter-intra", aom::AV1E_SET_ENABLE_INTERINTRA_COMP, 0),
        ("inter-intra wedge", aom::AV1E_SET_ENABLE_INTERINTRA_WEDGE, 0),
        ("smooth inter-intra", aom::AV1E_SET_ENABLE_SMOOTH_INTERINTRA, 0),
        ("intra edge filter", aom::AV1E_SET_ENABLE_INTRA_EDGE_FILTER, 0),
        ("masked compound", aom::AV1E_SET_ENABLE_MASKED_COMP, 0),
        ("Paeth intra", aom::AV1E_SET_ENABLE_PAETH_INTRA, 0),
        ("quantizer matrices", aom::AV1E_SET_ENABLE_QM, 0),
        ("rectangular partitions", aom::AV1E_SET_ENABLE_RECT_PARTITIONS, 0),
        ("transforms of 64", aom::AV1E_SET_ENABLE_TX64, 0),
        ("references", aom::AV1E_SET_MAX_REFERENCE_FRAMES, 3),
        (
            "superblock size",
            aom::AV1E_SET_SUPERBLOCK_SIZE,
            aom::AOM_SUPERBLOCK_SIZE_DYNAMIC as c_int,
        ),
        ("colour primaries", aom::AV1E_SET_COLOR_PRIMARIES, aom::AOM_CICP_CP_BT_709 as c_int),
        ("transfer", aom::AV1E_SET_TRANSFER_CHARACTERISTICS, aom::AOM_CICP_TC_BT_709 as c_int),
        ("matrix", aom::AV1E_SET_MATRIX_COEFFICIENTS, aom::AOM_CICP_MC_BT_601 as c_int),
        ("range", aom::AV1E_SET_COLOR_RANGE, aom::AOM_CR_STUDIO_RANGE as c_int),
    ]
}

/// Two from 1280x720 on: below, what they cost each other is more than they save.
fn threads(size: Size) -> c_uint {
    if size.width_px * size.height_px >= HD_PIXELS { 2 } else { 1 }
}

fn check(operation: &'static str, code: aom::aom_codec_err_t) -> Result<(), MediaError> {
    if code == 0 {
        Ok(())
    } else {
        let code = i32::try_from(code).unwrap_or(i32::MAX);
        Err(MediaError::VideoEncode { codec: VideoCodec::Av1, operation, code })
    }
}

fn kbps(bitrate: Bitrate) -> c_uint {
    c_uint::try_from(bitrate.as_bps() / 1000).unwrap_or(c_uint::MAX)
}

/// AV1 decoder: main profile, 8 bits, 4:2:0. It never shows a broken picture.
///
/// What a sender can make it allocate is bounded by the size of pictures, and by how often it may change
/// ([`MediaError::TooManySizeChanges`]).
#[derive(Debug)]
pub struct Av1Decoder {
    raw: Option<RawDecoder>,
    pool: BufferPool,
    awaiting_keyframe: bool,
    matrix: ColorMatrix,
    full_range: bool,
    /// Size of the last sequence header, and of the last picture.
    sizes: [Option<Size>; 2],
    size_changes: SizeChanges,
}

impl Default for Av1Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Av1Decoder {
    /// A decoder; the codec itself starts with the first keyframe.
    pub fn new() -> Self {
        Self {
            raw: None,
            pool: BufferPool::new(),
            awaiting_keyframe: true,
            matrix: ColorMatrix::default(),
            full_range: false,
            sizes: [None; 2],
            size_changes: SizeChanges::default(),
        }
    }

    /// Checks what the codec may see. Returns whether it is a keyframe.
    fn inspect(&mut self, temporal_unit: &[u8], now: MediaTime) -> Result<bool, MediaError> {
        check_coded_bytes(VideoCodec::Av1, temporal_unit)?;
        let (mut sequence, mut first_frame) = (None, None);
        for obu in obus(temporal_unit) {
            let (obu_type, payload) = obu.ok_or_else(|| broken("unreadable OBU"))?;
            match obu_type {
                obu::SEQUENCE_HEADER => {
                    let header = parse_sequence_header(payload)
                        .ok_or_else(|| broken("unreadable sequence header"))?;
                    if header.profile != 0 || header.high_bit_depth || header.monochrome {
                        return Err(broken("only 8 bits of 4:2:0 are decoded"));
                    }
                    if header.still {
                        return Err(broken("a still picture"));
                    }
                    check_decoded_size(header.max_size)?;
                    if sequence.is_some_and(|earlier| earlier != header) {
                        return Err(broken("sequence headers that differ"));
                    }
                    sequence = Some(header);
                }
                obu::FRAME | obu::FRAME_HEADER => {
                    first_frame.get_or_insert(payload);
                }
                obu::TEMPORAL_DELIMITER
                | obu::TILE_GROUP
                | obu::METADATA
                | obu::PADDING
                | obu::REDUNDANT_FRAME_HEADER => {}
                other => return Err(broken(format!("OBU of type {other}"))),
            }
        }
        let keyframe = sequence.is_some() && first_frame.is_some_and(is_keyframe);
        if self.awaiting_keyframe && !keyframe {
            return Err(MediaError::AwaitingKeyframe(VideoCodec::Av1));
        }
        if first_frame.is_none() && sequence.is_none() {
            return Err(broken("no frame"));
        }
        if let Some(header) = sequence {
            if self.sizes[0] != Some(header.max_size) {
                if !self.size_changes.allow(now) {
                    return Err(MediaError::TooManySizeChanges(VideoCodec::Av1));
                }
                self.sizes = [Some(header.max_size); 2];
            }
            // What browsers leave unsaid they mean as BT.709, see H.264.
            self.matrix = match u8::try_from(header.matrix_coefficients) {
                Ok(BT470BG | SMPTE170M) => ColorMatrix::Bt601,
                _ => ColorMatrix::Bt709,
            };
            self.full_range = header.full_range;
        }
        Ok(keyframe)
    }

    fn decode_inspected(
        &mut self,
        temporal_unit: &[u8],
        now: MediaTime,
    ) -> Result<Option<Arc<I420Buffer>>, MediaError> {
        let raw = match &mut self.raw {
            Some(raw) => raw,
            none => none.insert(RawDecoder::new()?),
        };
        let Some(picture) = raw.decode(temporal_unit)? else { return Ok(None) };
        if picture.fmt != aom::AOM_IMG_FMT_I420 || picture.bit_depth != 8 || picture.monochrome != 0
        {
            return Err(broken("only 8 bits of 4:2:0 are decoded"));
        }
        let size = Size::new(picture.d_w, picture.d_h);
        check_decoded_size(size)?;
        if self.sizes[1] != Some(size) {
            // The first picture of a sequence mostly is as large as its header says, which has been counted.
            if self.sizes[0] != Some(size) && !self.size_changes.allow(now) {
                return Err(MediaError::TooManySizeChanges(VideoCodec::Av1));
            }
            self.sizes[1] = Some(size);
        }
        let (matrix, full_range) = (self.matrix, self.full_range);
        self.pool
            .fill(size, |buffer| {
                buffer.set_matrix(matrix);
                copy_picture(picture, buffer)?;
                if full_range {
                    limit_range(buffer);
                }
                Ok(())
            })
            .map(Some)
    }
}

impl VideoDecoder for Av1Decoder {
    fn decode(
        &mut self,
        temporal_unit: &[u8],
        now: MediaTime,
    ) -> Result<Option<Arc<I420Buffer>>, MediaError> {
        let keyframe = self.inspect(temporal_unit, now).inspect_err(|_| {
            // The codec has not seen it, so what it knows is as good as before.
            self.awaiting_keyframe = true;
        })?;
        let shown = self.decode_inspected(temporal_unit, now).and_then(|picture| {
            if keyframe && picture.is_none() {
                Err(broken("no picture came out"))
            } else {
                Ok(picture)
            }
        });
        match &shown {
            Ok(_) => self.awaiting_keyframe = false,
            Err(_) => {
                // Whatever it half knows would be shown as a broken picture: begin anew.
                self.raw = None;
                self.sizes = [None; 2];
                self.awaiting_keyframe = true;
            }
        }
        shown
    }
}

/// libaom's decoder, initialised, in a place of its own, which libaom may point to.
struct RawDecoder(Box<aom::aom_codec_ctx_t>);

// SAFETY: the decoder has no thread affinity; `&mut self` on every call keeps it to one at a time.
unsafe impl Send for RawDecoder {}

impl std::fmt::Debug for RawDecoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RawDecoder")
    }
}

impl RawDecoder {
    fn new() -> Result<Self, MediaError> {
        let config =
            aom::aom_codec_dec_cfg { threads: DECODER_THREADS, w: 0, h: 0, allow_lowbitdepth: 1 };
        let mut context = Box::new(MaybeUninit::<aom::aom_codec_ctx_t>::zeroed());
        // SAFETY: a context to fill, which is valid zeroed and is told to be uninitialised on failure, and a complete
        // configuration, which is copied.
        let (code, context) = unsafe {
            let code = aom::aom_codec_dec_init_ver(
                context.as_mut_ptr(),
                aom::aom_codec_av1_dx(),
                &raw const config,
                0,
                aom::AOM_DECODER_ABI_VERSION as c_int,
            );
            (code, context.assume_init())
        };
        if code == 0 {
            Ok(Self(context))
        } else {
            Err(broken(format!("initialize failed with code {code}")))
        }
    }

    /// The last picture of the temporal unit, valid until the next call.
    fn decode(&mut self, temporal_unit: &[u8]) -> Result<Option<&aom::aom_image_t>, MediaError> {
        let mut damaged: c_int = 0;
        // SAFETY: live decoder, so many bytes at the pointer, and the integer that the control writes.
        let code = unsafe {
            match aom::aom_codec_decode(
                &raw mut *self.0,
                temporal_unit.as_ptr(),
                temporal_unit.len(),
                null_mut(),
            ) {
                0 => aom::aom_codec_control(
                    &raw mut *self.0,
                    aom::AOMD_GET_FRAME_CORRUPTED as c_int,
                    &raw mut damaged,
                ),
                code => code,
            }
        };
        if code != 0 {
            return Err(broken(format!("libaom's error {code}")));
        }
        if damaged != 0 {
            return Err(broken("a damaged picture"));
        }
        let (mut pictures, mut last) = (null(), None);
        // SAFETY: live decoder, and the iterator that its first call starts. Pictures are valid until the next one is decoded.
        unsafe {
            while let Some(picture) =
                aom::aom_codec_get_frame(&raw mut *self.0, &raw mut pictures).as_ref()
            {
                last = Some(picture);
            }
        }
        Ok(last)
    }
}

impl Drop for RawDecoder {
    fn drop(&mut self) {
        // SAFETY: initialised, and destroyed once.
        unsafe { aom::aom_codec_destroy(&raw mut *self.0) };
    }
}

/// `buffer` is of the picture's size.
fn copy_picture(picture: &aom::aom_image_t, buffer: &mut I420Buffer) -> Result<(), MediaError> {
    let strides = [buffer.luma_stride(), buffer.chroma_stride(), buffer.chroma_stride()];
    for (plane, to) in buffer.planes_mut().into_iter().enumerate() {
        let rows = to.len() / strides[plane];
        let from = picture.planes[plane];
        let from_stride = usize::try_from(picture.stride[plane]).unwrap_or(0);
        if from.is_null() || from_stride < strides[plane] {
            return Err(broken("planes cut short"));
        }
        // SAFETY: the picture has `rows` rows of so many bytes.
        let from =
            unsafe { std::slice::from_raw_parts(from, (rows - 1) * from_stride + strides[plane]) };
        copy_plane(from, from_stride, to, strides[plane]);
    }
    Ok(())
}

fn broken(message: impl Into<String>) -> MediaError {
    MediaError::VideoDecode { codec: VideoCodec::Av1, message: message.into() }
}

const ABI_VERSION: c_int = aom::AOM_ENCODER_ABI_VERSION as c_int;
/// Of presentation times.
const TIMEBASE_HZ: u32 = 90_000;
const QUARTER_CIF_PIXELS: u32 = 320 * 180;
const HD_PIXELS: u32 = 1280 * 720;
const DECODER_THREADS: c_uint = 1;
