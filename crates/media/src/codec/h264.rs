//! H.264 over openh264: constrained baseline, or Main with CABAC; one reference, no reordering, no delay.
//!
//! The encoder drives the C interface itself. The `openh264` crate's wrapper initialises at the
//! first picture (options set before are lost) and takes the first bitrate as the ceiling; why each
//! setting is as it is stands in `docs/decisions/0002-h264-settings.md`.

use std::ffi::{c_int, c_void};
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use openh264::OpenH264API;
use openh264::decoder::{DecodeOptions, Decoder, DecoderConfig, Flush};
use openh264::formats::YUVSource;
use openh264_sys2 as sys;
use sys::API;

use super::limits::{
    BT470BG, BT709, MAX_DECODED_DIMENSION_PX, MAX_FRAME_MACROBLOCKS, MIN_BITRATE, OUTPUT_BYTES,
    SMPTE170M, SizeChanges, check_coded_bytes, copy_plane, encoded_size, limit_range,
    usable_frame_rate,
};
use super::sps::{
    MAX_SPS_ID, NAL_AUD, NAL_IDR, NAL_PPS, NAL_SEI, NAL_SLICE, NAL_SPS, SpsInfo, nal_units,
    parse_pps_ids, parse_slice_pps_id, parse_sps,
};
use super::{VideoCodec, VideoDecoder, VideoEncoder};
use crate::error::MediaError;
use crate::frame::{
    Bitrate, ColorMatrix, EncodedVideoFrame, I420Buffer, MediaTime, Size, VideoFrame,
};
use crate::pool::BufferPool;

/// How much work the encoder puts into motion search.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Complexity {
    /// Fastest.
    #[default]
    Low,
    /// A few percent fewer bits for a few percent more time.
    Medium,
    /// Finest motion search.
    High,
}

/// How an [`H264Encoder`] is made.
#[derive(Debug, Clone, Copy)]
pub struct H264EncoderConfig {
    /// Ceiling that [`VideoEncoder::set_bitrate`] is clamped to.
    pub max_bitrate: Bitrate,
    /// Target to begin with.
    pub bitrate: Bitrate,
    /// Pictures a second to begin with.
    pub frame_rate: f32,
    /// Whether pictures may be left out to keep the bitrate.
    pub frame_skip: bool,
    /// Effort.
    pub complexity: Complexity,
    /// Slices a picture, each coded by its own thread.
    pub slices: u16,
    /// Main profile with CABAC instead of constrained baseline: a tenth fewer bits.
    pub cabac: bool,
}

impl Default for H264EncoderConfig {
    fn default() -> Self {
        Self {
            max_bitrate: Bitrate::from_kbps(2_500),
            bitrate: Bitrate::from_kbps(1_500),
            frame_rate: 30.0,
            frame_skip: false,
            complexity: Complexity::Low,
            slices: 1,
            cabac: false,
        }
    }
}

/// H.264 encoder for `profile-level-id=42e01f` or `4d001f`, `packetization-mode=1`.
///
/// Keyframes come first, on request and after a size change, never by themselves; each carries SPS
/// and PPS. Odd widths and heights lose their last column or row.
#[derive(Debug)]
pub struct H264Encoder {
    config: H264EncoderConfig,
    raw: Option<(Size, RawEncoder)>,
    keyframe_requested: bool,
    /// Where coded pictures are put, one behind the other; its memory comes back once they are sent.
    output: BytesMut,
}

impl H264Encoder {
    /// An encoder; the codec itself starts with the first picture.
    pub fn new(config: H264EncoderConfig) -> Self {
        Self {
            config,
            raw: None,
            keyframe_requested: false,
            output: BytesMut::with_capacity(OUTPUT_BYTES),
        }
    }

    /// Bitrate asked of the codec now.
    pub fn bitrate(&self) -> Bitrate {
        self.config.bitrate
    }

    fn encode_with(
        raw: &mut RawEncoder,
        frame: &VideoFrame,
        size: Size,
        keyframe: bool,
        output: &mut BytesMut,
    ) -> Result<Option<EncodedVideoFrame>, MediaError> {
        if keyframe {
            raw.force_keyframe()?;
        }
        let timestamp_ms = i64::try_from(frame.time.as_micros() / 1000).unwrap_or(i64::MAX);
        let encoded = raw.encode(&frame.buffer, size, timestamp_ms, output)?;
        Ok(encoded.map(|(data, keyframe)| EncodedVideoFrame {
            codec: VideoCodec::H264,
            data,
            keyframe,
            time: frame.time,
            size,
        }))
    }
}

impl VideoEncoder for H264Encoder {
    fn encode(&mut self, frame: &VideoFrame) -> Result<Option<EncodedVideoFrame>, MediaError> {
        let size = encoded_size(frame.buffer.size())?;
        if self.raw.as_ref().is_some_and(|(s, _)| *s != size) {
            self.raw = None;
        }
        let raw = match &mut self.raw {
            Some((_, raw)) => raw,
            none => &mut none.insert((size, RawEncoder::new(size, &self.config)?)).1,
        };
        let result = Self::encode_with(raw, frame, size, self.keyframe_requested, &mut self.output);
        match &result {
            Ok(Some(encoded)) if encoded.keyframe => self.keyframe_requested = false,
            Ok(_) => {}
            Err(_) => self.raw = None,
        }
        result
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

    fn set_frame_rate(&mut self, frames_per_second: f32) {
        let rate = usable_frame_rate(frames_per_second);
        if (rate - self.config.frame_rate).abs() < 0.1 {
            return;
        }
        self.config.frame_rate = rate;
        if let Some((_, raw)) = &mut self.raw
            && let Err(error) = raw.set_frame_rate(rate)
        {
            tracing::warn!(%error, "frame rate not taken, starting the encoder anew");
            self.raw = None;
        }
    }

    fn request_keyframe(&mut self) {
        self.keyframe_requested = true;
    }
}

/// openh264's `ISVCEncoder`, initialised.
#[derive(Debug)]
struct RawEncoder {
    encoder: NonNull<sys::ISVCEncoder>,
    vtable: sys::ISVCEncoderVtbl,
}

// SAFETY: the encoder has no thread affinity; `&mut self` on every call keeps it to one at a time.
unsafe impl Send for RawEncoder {}

impl RawEncoder {
    fn new(size: Size, config: &H264EncoderConfig) -> Result<Self, MediaError> {
        let mut encoder: *mut sys::ISVCEncoder = null_mut();
        // SAFETY: the out pointer is valid; on success it is a live encoder whose first field is
        // its vtable, which is copied.
        let this = unsafe {
            check("create", OpenH264API::from_source().WelsCreateSVCEncoder(&raw mut encoder))?;
            let Some(encoder) = NonNull::new(encoder) else {
                return Err(encode_error("create", 0));
            };
            Self { vtable: **encoder.as_ref(), encoder }
        };
        this.set_option(sys::ENCODER_OPTION_TRACE_LEVEL, "trace level", &mut {
            sys::WELS_LOG_QUIET as c_int
        })?;

        let mut params = sys::SEncParamExt::default();
        // SAFETY: live encoder and a valid struct to fill.
        let code = this
            .vtable
            .GetDefaultParams
            .map(|f| unsafe { f(this.encoder.as_ptr(), &raw mut params) });
        check("default parameters", code.unwrap_or(MISSING))?;
        fill_params(&mut params, size, config);
        // SAFETY: live encoder and complete parameters, which it copies.
        let code = this
            .vtable
            .InitializeExt
            .map(|f| unsafe { f(this.encoder.as_ptr(), &raw const params) });
        check("initialize", code.unwrap_or(MISSING))?;
        Ok(this)
    }

    fn encode(
        &mut self,
        buffer: &I420Buffer,
        size: Size,
        timestamp_ms: i64,
        output: &mut BytesMut,
    ) -> Result<Option<(Bytes, bool)>, MediaError> {
        let [y, u, v] = buffer.planes();
        let (luma, chroma) = (dimension(buffer.luma_stride()), dimension(buffer.chroma_stride()));
        let source = sys::SSourcePicture {
            iColorFormat: sys::videoFormatI420,
            iStride: [luma, chroma, chroma, 0],
            // The encoder only reads them; its interface knows no const.
            pData: [
                y.as_ptr().cast_mut(),
                u.as_ptr().cast_mut(),
                v.as_ptr().cast_mut(),
                null_mut(),
            ],
            iPicWidth: dimension(size.width_px as usize),
            iPicHeight: dimension(size.height_px as usize),
            uiTimeStamp: timestamp_ms,
            ..Default::default()
        };
        let mut info = sys::SFrameBSInfo::default();
        // SAFETY: the planes hold `size` at those strides (`size` is at most the buffer's) and
        // outlive the call; `info` is filled by it.
        let code = self
            .vtable
            .EncodeFrame
            .map(|f| unsafe { f(self.encoder.as_ptr(), &raw const source, &raw mut info) });
        check("encode", code.unwrap_or(MISSING))?;
        if info.eFrameType == sys::videoFrameTypeSkip {
            return Ok(None);
        }

        output.reserve(usize::try_from(info.iFrameSizeInBytes).unwrap_or(0));
        let layers = usize::try_from(info.iLayerNum).unwrap_or(0).min(info.sLayerInfo.len());
        for layer in &info.sLayerInfo[..layers] {
            if layer.pBsBuf.is_null() || layer.pNalLengthInByte.is_null() {
                continue;
            }
            // SAFETY: the encoder says that it wrote `iNalCount` lengths there, and that many NAL
            // units one after another at `pBsBuf`; both stay valid until the next call.
            unsafe {
                let count = usize::try_from(layer.iNalCount).unwrap_or(0);
                let lengths = std::slice::from_raw_parts(layer.pNalLengthInByte, count);
                let total = lengths.iter().map(|&l| usize::try_from(l).unwrap_or(0)).sum();
                output.extend_from_slice(std::slice::from_raw_parts(layer.pBsBuf, total));
            }
        }
        let data = output.split().freeze();
        Ok((!data.is_empty()).then_some((data, info.eFrameType == sys::videoFrameTypeIDR)))
    }

    fn force_keyframe(&mut self) -> Result<(), MediaError> {
        // SAFETY: live, initialised encoder.
        let code = self.vtable.ForceIntraFrame.map(|f| unsafe { f(self.encoder.as_ptr(), true) });
        check("force keyframe", code.unwrap_or(MISSING))
    }

    fn set_bitrate(&mut self, bitrate: Bitrate) -> Result<(), MediaError> {
        let mut info = sys::SBitrateInfo { iLayer: sys::SPATIAL_LAYER_ALL, iBitrate: bps(bitrate) };
        self.set_option(sys::ENCODER_OPTION_BITRATE, "set bitrate", &mut info)
    }

    fn set_frame_rate(&mut self, mut frames_per_second: f32) -> Result<(), MediaError> {
        self.set_option(sys::ENCODER_OPTION_FRAME_RATE, "set frame rate", &mut frames_per_second)
    }

    /// `T` must be what openh264 expects for `option`.
    fn set_option<T>(
        &self,
        option: sys::ENCODER_OPTION,
        operation: &'static str,
        value: &mut T,
    ) -> Result<(), MediaError> {
        let value: *mut c_void = std::ptr::from_mut(value).cast();
        // SAFETY: live encoder; the value is of the option's type and is copied.
        let code =
            self.vtable.SetOption.map(|f| unsafe { f(self.encoder.as_ptr(), option, value) });
        check(operation, code.unwrap_or(MISSING))
    }
}

impl Drop for RawEncoder {
    fn drop(&mut self) {
        // SAFETY: made by `WelsCreateSVCEncoder`, destroyed once; `Uninitialize` is allowed in any
        // state.
        unsafe {
            if let Some(uninitialize) = self.vtable.Uninitialize {
                uninitialize(self.encoder.as_ptr());
            }
            OpenH264API::from_source().WelsDestroySVCEncoder(self.encoder.as_ptr());
        }
    }
}

fn fill_params(params: &mut sys::SEncParamExt, size: Size, config: &H264EncoderConfig) {
    let (width, height) = (dimension(size.width_px as usize), dimension(size.height_px as usize));
    params.iUsageType = sys::CAMERA_VIDEO_REAL_TIME;
    params.iPicWidth = width;
    params.iPicHeight = height;
    params.fMaxFrameRate = config.frame_rate;
    params.iRCMode = sys::RC_BITRATE_MODE;
    params.iTargetBitrate = bps(config.bitrate);
    // The ceiling, not the target: openh264 refuses a later target above it.
    params.iMaxBitrate = bps(config.max_bitrate);
    params.bEnableFrameSkip = config.frame_skip;
    // Up to 51 the rate control can follow the target on hard pictures without skipping any.
    params.iMinQp = MIN_QP;
    params.iMaxQp = MAX_QP;
    params.iComplexityMode = match config.complexity {
        Complexity::Low => sys::LOW_COMPLEXITY,
        Complexity::Medium => sys::MEDIUM_COMPLEXITY,
        Complexity::High => sys::HIGH_COMPLEXITY,
    };
    params.iMultipleThreadIdc = config.slices.max(1);
    params.uiIntraPeriod = 0;
    params.iNumRefFrame = 1;
    params.eSpsPpsIdStrategy = sys::CONSTANT_ID;
    params.iEntropyCodingModeFlag = config.cabac.into();
    params.bEnableSceneChangeDetect = false;
    params.bEnableBackgroundDetection = true;
    params.bEnableAdaptiveQuant = false;
    params.bEnableLongTermReference = false;
    params.bEnableDenoise = false;
    params.iTemporalLayerNum = 1;
    params.iSpatialLayerNum = 1;
    let layer = &mut params.sSpatialLayers[0];
    layer.iVideoWidth = width;
    layer.iVideoHeight = height;
    layer.fFrameRate = config.frame_rate;
    layer.iSpatialBitrate = bps(config.bitrate);
    layer.iMaxSpatialBitrate = bps(config.max_bitrate);
    layer.uiProfileIdc = if config.cabac { sys::PRO_MAIN } else { sys::PRO_BASELINE };
    // Without a word of it browsers take BT.709 for granted (ITU-T H.264 Tables E-2 to E-5).
    layer.bVideoSignalTypePresent = true;
    layer.uiVideoFormat = VIDEO_FORMAT_UNSPECIFIED;
    layer.bFullRange = false;
    layer.bColorDescriptionPresent = true;
    layer.uiColorPrimaries = BT709;
    layer.uiTransferCharacteristics = BT709;
    layer.uiColorMatrix = SMPTE170M;
    // The level is left to openh264: the lowest that holds size, rate and ceiling.
    if config.slices > 1 {
        layer.sSliceArgument.uiSliceMode = sys::SM_FIXEDSLCNUM_SLICE;
        layer.sSliceArgument.uiSliceNum = config.slices.into();
    }
}

fn check(operation: &'static str, code: c_int) -> Result<(), MediaError> {
    if code == sys::cmResultSuccess as c_int { Ok(()) } else { Err(encode_error(operation, code)) }
}

fn encode_error(operation: &'static str, code: c_int) -> MediaError {
    MediaError::VideoEncode { codec: VideoCodec::H264, operation, code }
}

fn dimension(px: usize) -> c_int {
    c_int::try_from(px).unwrap_or(c_int::MAX)
}

fn bps(bitrate: Bitrate) -> c_int {
    c_int::try_from(bitrate.as_bps()).unwrap_or(c_int::MAX)
}

/// H.264 decoder that never shows a broken picture: concealment is off.
///
/// What a sender can make it allocate is bounded: by the size of pictures and the number of
/// reference frames, and by how often the size may change ([`MediaError::TooManySizeChanges`]).
pub struct H264Decoder {
    decoder: Option<Decoder>,
    pool: BufferPool,
    awaiting_keyframe: bool,
    matrix: ColorMatrix,
    full_range: bool,
    /// Whether the stream is of another profile than baseline.
    may_reorder: bool,
    parameter_sets: ParameterSets,
    /// Size that the codec holds memory for.
    coded_size: Option<Size>,
    size_changes: SizeChanges,
}

impl std::fmt::Debug for H264Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("H264Decoder")
            .field("awaiting_keyframe", &self.awaiting_keyframe)
            .finish_non_exhaustive()
    }
}

impl Default for H264Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl H264Decoder {
    /// A decoder; the codec itself starts with the first keyframe, or with [`Self::warm_up`].
    pub fn new() -> Self {
        Self {
            decoder: None,
            pool: BufferPool::new(),
            awaiting_keyframe: true,
            matrix: ColorMatrix::default(),
            full_range: false,
            may_reorder: false,
            parameter_sets: ParameterSets::default(),
            coded_size: None,
            size_changes: SizeChanges::default(),
        }
    }

    /// Checks what the codec may see. Returns whether it is a keyframe.
    fn inspect(&mut self, access_unit: &[u8], now: MediaTime) -> Result<bool, MediaError> {
        check_coded_bytes(VideoCodec::H264, access_unit)?;
        let (mut units, mut keyframe) = (0, false);
        for nal in nal_units(access_unit) {
            units += 1;
            match nal[0] & 0x1f {
                NAL_SPS => {
                    let sps = parse_sps(nal).ok_or_else(|| broken("unreadable SPS"))?;
                    check_memory(&sps)?;
                    // Browsers take BT.709 for granted where nothing is said (docs/decisions/0018-video-codecs.md).
                    self.matrix = match sps.matrix_coefficients {
                        Some(BT470BG | SMPTE170M) => ColorMatrix::Bt601,
                        _ => ColorMatrix::Bt709,
                    };
                    self.full_range = sps.full_range;
                    self.parameter_sets.sizes[usize::from(sps.id)] = Some(sps.coded_size);
                    self.may_reorder = sps.profile_idc != BASELINE;
                }
                NAL_PPS => {
                    let (id, sps) = parse_pps_ids(nal).ok_or_else(|| broken("unreadable PPS"))?;
                    self.parameter_sets.sps_of_pps[usize::from(id)] = Some(sps);
                }
                NAL_IDR => {
                    keyframe = true;
                    let size = parse_slice_pps_id(nal)
                        .and_then(|pps| self.parameter_sets.size(pps))
                        .ok_or_else(|| broken("slice without parameter sets"))?;
                    if self.coded_size != Some(size) {
                        if !self.size_changes.allow(now) {
                            return Err(MediaError::TooManySizeChanges(VideoCodec::H264));
                        }
                        self.coded_size = Some(size);
                    }
                }
                NAL_SLICE | NAL_SEI | NAL_AUD => {}
                other => return Err(broken(format!("NAL unit of type {other}"))),
            }
        }
        if units == 0 { Err(broken("no NAL unit")) } else { Ok(keyframe) }
    }

    fn decode_inspected(
        &mut self,
        access_unit: &[u8],
        keyframe: bool,
    ) -> Result<Option<Arc<I420Buffer>>, MediaError> {
        let decoder = match &mut self.decoder {
            Some(decoder) => decoder,
            none => {
                let config = DecoderConfig::new().flush_after_decode(Flush::NoFlush);
                none.insert(
                    Decoder::with_api_config(OpenH264API::from_source(), config)
                        .map_err(decode_error)?,
                )
            }
        };
        // Outside of the baseline profile openh264 holds pictures back, as they might be shown in another order. Calls
        // have no B pictures.
        let flush = if self.may_reorder { Flush::Flush } else { Flush::NoFlush };
        let options = DecodeOptions::new().flush_after_decode(flush);
        let picture = decoder.decode_with_options(access_unit, options).map_err(decode_error)?;
        let Some(picture) = picture else {
            return if keyframe { Err(broken("no picture came out")) } else { Ok(None) };
        };
        let (width, height) = picture.dimensions();
        let size = Size::new(u32::try_from(width).unwrap_or(0), u32::try_from(height).unwrap_or(0));
        if !(1..=MAX_DECODED_DIMENSION_PX).contains(&size.width_px)
            || !(1..=MAX_DECODED_DIMENSION_PX).contains(&size.height_px)
        {
            return Err(MediaError::UnsupportedSize(size));
        }
        let strides = picture.strides();
        let (matrix, full_range) = (self.matrix, self.full_range);
        let buffer = self.pool.fill(size, |buffer| {
            buffer.set_matrix(matrix);
            let (luma, chroma) = (buffer.luma_stride(), buffer.chroma_stride());
            let rows_ok = [
                copy_plane(picture.y(), strides.0, buffer.planes_mut()[0], luma),
                copy_plane(picture.u(), strides.1, buffer.planes_mut()[1], chroma),
                copy_plane(picture.v(), strides.2, buffer.planes_mut()[2], chroma),
            ];
            if rows_ok != [true; 3] {
                return Err(broken("planes cut short"));
            }
            if full_range {
                limit_range(buffer);
            }
            Ok(())
        })?;
        self.awaiting_keyframe = false;
        Ok(Some(buffer))
    }
}

impl VideoDecoder for H264Decoder {
    fn decode(
        &mut self,
        access_unit: &[u8],
        now: MediaTime,
    ) -> Result<Option<Arc<I420Buffer>>, MediaError> {
        let keyframe = self.inspect(access_unit, now).inspect_err(|_| {
            // The codec has not seen it, so what it knows is as good as before.
            self.awaiting_keyframe = true;
        })?;
        if self.awaiting_keyframe && !keyframe {
            return Err(MediaError::AwaitingKeyframe(VideoCodec::H264));
        }
        self.decode_inspected(access_unit, keyframe).inspect_err(|_| {
            // Whatever it half knows would be shown as a broken picture: begin anew.
            self.decoder = None;
            self.parameter_sets = ParameterSets::default();
            self.coded_size = None;
            self.awaiting_keyframe = true;
        })
    }

    /// By a keyframe that it makes itself. Without, the first one takes some 12 ms more at 1280x720; this takes about twice
    /// that time.
    fn warm_up(&mut self, size: Size) {
        let mut encoder = H264Encoder::new(H264EncoderConfig::default());
        let black = VideoFrame {
            buffer: Arc::new(I420Buffer::black(size)),
            time: MediaTime::default(),
            rtp_timestamp: 0,
        };
        // Whatever goes wrong here does so again, where somebody is told.
        if let Ok(Some(picture)) = encoder.encode(&black) {
            // The first real keyframe comes later, so that what this one counts as does not matter.
            let _ = self.decode(&picture.data, MediaTime::default());
        }
        self.awaiting_keyframe = true;
    }
}

/// The parameter sets that the codec has been given, as far as they say a picture's size.
#[derive(Debug)]
struct ParameterSets {
    /// Coded size, by the id of the sequence parameter set.
    sizes: [Option<Size>; MAX_SPS_ID as usize + 1],
    /// Id of the sequence parameter set, by the id of the picture parameter set.
    sps_of_pps: [Option<u8>; u8::MAX as usize + 1],
}

impl Default for ParameterSets {
    fn default() -> Self {
        Self { sizes: [None; _], sps_of_pps: [None; _] }
    }
}

impl ParameterSets {
    /// Coded size of pictures that use the picture parameter set `pps`.
    fn size(&self, pps: u8) -> Option<Size> {
        self.sizes[usize::from(self.sps_of_pps[usize::from(pps)]?)]
    }
}

/// Refuses pictures larger than any sender needs, and more references than fit into the memory of
/// the highest level that is taken (§A.3.1 f and h).
fn check_memory(sps: &SpsInfo) -> Result<(), MediaError> {
    let size = sps.coded_size;
    // `parse_sps` has multiplied both by 16 without overflow.
    let macroblocks = u64::from(size.width_px / 16) * u64::from(size.height_px / 16);
    if size.width_px > MAX_DECODED_DIMENSION_PX
        || size.height_px > MAX_DECODED_DIMENSION_PX
        || macroblocks > MAX_FRAME_MACROBLOCKS
    {
        return Err(MediaError::UnsupportedSize(size));
    }
    if macroblocks * u64::from(sps.max_num_ref_frames) > MAX_REFERENCE_MACROBLOCKS {
        return Err(broken(format!(
            "{} reference frames of {}x{} pixels",
            sps.max_num_ref_frames, size.width_px, size.height_px
        )));
    }
    Ok(())
}

const VIDEO_FORMAT_UNSPECIFIED: u8 = 5;

fn broken(message: impl Into<String>) -> MediaError {
    MediaError::VideoDecode { codec: VideoCodec::H264, message: message.into() }
}

fn decode_error(error: openh264::Error) -> MediaError {
    broken(error.to_string())
}

/// Stands for a function that the codec's table lacks.
const MISSING: c_int = -1;
/// openh264's own floor in camera mode (`GOM_MIN_QP_MODE`).
const MIN_QP: c_int = 12;
/// H.264's coarsest step; openh264's default of 42 overshoots low targets.
const MAX_QP: c_int = 51;
/// `profile_idc` of the (constrained) baseline profile (§A.2.1).
const BASELINE: u8 = 66;
/// Macroblocks in all reference frames of a picture from the network: `MaxDpbMbs` of level 4 (Table A-1), 1920x1080 with
/// four. What is offered is level 3.1, 1280x720 with five.
const MAX_REFERENCE_MACROBLOCKS: u64 = 32_768;
