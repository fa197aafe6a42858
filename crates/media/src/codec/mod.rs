//! Codecs. Each encoder or decoder belongs to one thread at a time and is moved there whole.

pub mod h264;
pub mod opus;
pub mod sps;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::error::MediaError;
use crate::frame::{Bitrate, EncodedVideoFrame, I420Buffer, VideoFrame};

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
}

/// Turns coded pictures into pictures.
pub trait VideoDecoder: Send {
    /// Decodes one whole access unit (Annex B) and hands out its picture at once. `None`: the unit
    /// held no picture (parameter sets alone).
    ///
    /// # Errors
    /// The unit is broken, or depends on a picture that never came. The caller asks the sender for
    /// a keyframe; until one comes, every call returns [`MediaError::AwaitingKeyframe`] cheaply.
    fn decode(&mut self, access_unit: &[u8]) -> Result<Option<Arc<I420Buffer>>, MediaError>;
}
