//! What can go wrong in this crate.

use crate::codec::VideoCodec;
use crate::frame::Size;

/// Every failure of media processing. None of them is fatal to a call: a bad picture or packet is
/// dropped by the caller and counted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MediaError {
    /// The buffer is not as long as its format and size ask.
    #[error("the picture data is {actual_bytes} bytes, {expected_bytes} are needed")]
    ShortBuffer {
        /// Bytes the format and size ask for.
        expected_bytes: usize,
        /// Bytes that came.
        actual_bytes: usize,
    },
    /// A size that this operation cannot handle.
    #[error("{}x{} pixels are not supported here", .0.width_px, .0.height_px)]
    UnsupportedSize(Size),
    /// Pixel conversion or scaling failed.
    #[error("picture conversion failed: {0}")]
    Convert(String),
    /// A JPEG picture could not be decoded.
    #[error("broken JPEG picture: {0}")]
    Jpeg(String),
    /// A video encoder refused a call.
    #[error("{codec} encoder: {operation} failed with code {code}")]
    VideoEncode {
        /// Which one.
        codec: VideoCodec,
        /// What was asked of it.
        operation: &'static str,
        /// Its return code: `CM_RETURN` of openh264's `codec_app_def.h`, `vpx_codec_err_t`, `aom_codec_err_t`.
        code: i32,
    },
    /// A coded picture that cannot be decoded; ask for a keyframe.
    #[error("{codec} decoder: {message}")]
    VideoDecode {
        /// What it is coded with.
        codec: VideoCodec,
        /// What is wrong with it.
        message: String,
    },
    /// A picture that depends on one that was lost or broken; ask for a keyframe.
    #[error("{0} decoder waits for a keyframe")]
    AwaitingKeyframe(VideoCodec),
    /// The size of coded pictures changes more often than any honest sender needs; ask for a
    /// keyframe, which is decoded when some seconds have passed.
    #[error("{0} decoder: the picture size changes too often")]
    TooManySizeChanges(VideoCodec),
    /// An Opus call failed.
    #[error("Opus: {0}")]
    Opus(#[from] opus::Error),
    /// Sound in blocks, rates or channel counts that cannot be processed.
    #[error("audio: {0}")]
    Audio(String),
    /// A file could not be read or written.
    #[error("media file: {0}")]
    Io(#[from] std::io::Error),
    /// A file is not what it should be.
    #[error("media file: {0}")]
    BadFile(String),
}
