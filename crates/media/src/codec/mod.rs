//! Codecs. Each encoder or decoder belongs to one thread at a time and is moved there whole.

pub mod av1;
mod av1_header;
#[cfg(test)]
mod colour_tests;
pub mod h264;
mod limits;
pub mod opus;
pub mod sps;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod video_tests;
pub mod vpx;
mod vpx_header;

use std::fmt;
use std::sync::Arc;

use crate::adaptation::Content;
use crate::error::MediaError;
use crate::frame::{Bitrate, EncodedVideoFrame, I420Buffer, MediaTime, Size, VideoFrame};

/// A video codec that is coded, decoded and negotiated here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum VideoCodec {
    /// AV1, main profile.
    Av1,
    /// VP9, profile 0.
    Vp9,
    /// H.264, constrained baseline or Main when sent.
    #[default]
    H264,
    /// VP8.
    Vp8,
}

impl VideoCodec {
    /// All of them, by picture quality at equal bitrates.
    pub const ALL: [Self; 4] = [Self::Av1, Self::Vp9, Self::H264, Self::Vp8];

    /// The media subtype of its RTP payload format (RFC 6184, RFC 7741, RFC 9628, and the AV1 RTP
    /// specification).
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Av1 => "AV1",
            Self::Vp9 => "VP9",
            Self::H264 => "H264",
            Self::Vp8 => "VP8",
        }
    }

    /// By that name, in capitals or not.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.as_str().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for VideoCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a video encoder is made.
#[derive(Debug, Clone, Copy)]
pub struct VideoEncoderConfig {
    /// Ceiling that [`VideoEncoder::set_bitrate`] is clamped to.
    pub max_bitrate: Bitrate,
    /// Target to begin with.
    pub bitrate: Bitrate,
    /// Pictures a second to begin with.
    pub frame_rate: f32,
    /// What the pictures show.
    pub content: Content,
    /// Whether H.264 may be coded with CABAC, in Main profile.
    pub cabac: bool,
}

impl Default for VideoEncoderConfig {
    fn default() -> Self {
        Self {
            max_bitrate: Bitrate::from_kbps(2_500),
            bitrate: Bitrate::from_kbps(1_500),
            frame_rate: 30.0,
            content: Content::Camera,
            cabac: false,
        }
    }
}

/// An encoder of `codec`; the codec itself starts with the first picture.
pub fn video_encoder(codec: VideoCodec, config: &VideoEncoderConfig) -> Box<dyn VideoEncoder> {
    match codec {
        VideoCodec::H264 => Box::new(h264::H264Encoder::new(h264::H264EncoderConfig {
            max_bitrate: config.max_bitrate,
            bitrate: config.bitrate,
            frame_rate: config.frame_rate,
            cabac: config.cabac,
            ..h264::H264EncoderConfig::default()
        })),
        VideoCodec::Vp8 => Box::new(vpx::VpxEncoder::vp8(config)),
        VideoCodec::Vp9 => Box::new(vpx::VpxEncoder::vp9(config)),
        VideoCodec::Av1 => Box::new(av1::Av1Encoder::new(config)),
    }
}

/// A decoder of `codec`; the codec itself starts with the first keyframe.
pub fn video_decoder(codec: VideoCodec) -> Box<dyn VideoDecoder> {
    match codec {
        VideoCodec::H264 => Box::new(h264::H264Decoder::new()),
        VideoCodec::Vp8 => Box::new(vpx::VpxDecoder::vp8()),
        VideoCodec::Vp9 => Box::new(vpx::VpxDecoder::vp9()),
        VideoCodec::Av1 => Box::new(av1::Av1Decoder::new()),
    }
}

/// Turns pictures into coded pictures.
pub trait VideoEncoder: Send {
    /// Codes one picture. `None`: the encoder skipped it to keep the bitrate (only if frame skipping
    /// was asked for). A picture of another size than the last one starts a new sequence with a
    /// keyframe.
    ///
    /// # Errors
    /// The picture's size is not supported, or the codec failed; the next call starts it anew.
    fn encode(&mut self, frame: &VideoFrame) -> Result<Option<EncodedVideoFrame>, MediaError>;

    /// Sets the target bitrate from the next picture on, clamped to the ceiling that the encoder
    /// was made with.
    fn set_bitrate(&mut self, bitrate: Bitrate);

    /// Sets the pictures a second that the bitrate is spread over.
    fn set_frame_rate(&mut self, frames_per_second: f32);

    /// Makes the next picture a keyframe.
    fn request_keyframe(&mut self);

    /// What the encoder may take beyond its bitrate, from the next picture on. Does nothing where that changes nothing.
    fn set_latitude(&mut self, _latitude: Latitude) {}

    /// The next picture has nothing to do with the last one, and may take many times the usual bits. Does nothing where
    /// the rate control lets such a picture be large by itself.
    fn begin_scene(&mut self) {}
}

/// See [`VideoEncoder::set_latitude`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Latitude {
    /// Coded pictures may differ in size more than is good for a path that carries no more than the bitrate.
    pub uneven: bool,
    /// Coding may take half as long again.
    pub thorough: bool,
}

/// Turns coded pictures into pictures.
pub trait VideoDecoder: Send {
    /// Decodes one whole coded picture, as in [`EncodedVideoFrame::data`], and hands out its picture
    /// at once. `None`: there was no picture in it (parameter sets alone). `now` bounds how often the size may change.
    ///
    /// # Errors
    /// The coded picture is broken, or depends on one that never came. The caller asks the sender for
    /// a keyframe; until one comes, every call returns [`MediaError::AwaitingKeyframe`] cheaply.
    fn decode(
        &mut self,
        coded: &[u8],
        now: MediaTime,
    ) -> Result<Option<Arc<I420Buffer>>, MediaError>;

    /// Starts the codec and has it get its memory for pictures of `size`, so that the first keyframe is decoded
    /// as quickly as others. It has to be a keyframe all the same. Does nothing where that saves nothing.
    fn warm_up(&mut self, _size: Size) {}
}
