//! The high-pass filter of libwebrtc, on the whole band.

use sonora::high_pass_filter::HighPassFilter;

use super::blend::{Blend, mix};
use crate::frame::{AUDIO_FRAME_SAMPLES, AUDIO_RATE_HZ};

pub(super) struct HighPassStage {
    filter: HighPassFilter,
    wet: [Vec<f32>; 1],
    blend: Blend,
}

impl HighPassStage {
    pub(super) fn new(on: bool) -> Self {
        let rate_hz = i32::try_from(AUDIO_RATE_HZ).unwrap_or(i32::MAX);
        Self {
            filter: HighPassFilter::new(rate_hz, 1),
            wet: [vec![0.0; AUDIO_FRAME_SAMPLES]],
            blend: Blend::new(on, 0),
        }
    }

    pub(super) fn set_on(&mut self, on: bool) {
        self.blend.set_on(on);
    }

    /// The filter always runs, for it costs next to nothing and is then ready when it is wanted.
    pub(super) fn process(&mut self, frame: &mut [f32; AUDIO_FRAME_SAMPLES]) {
        self.wet[0].copy_from_slice(frame);
        self.filter.process_channels(&mut self.wet);
        mix(&mut self.wet[0], frame, self.blend.step());
        frame.copy_from_slice(&self.wet[0]);
    }
}
