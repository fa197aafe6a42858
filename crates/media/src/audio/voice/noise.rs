//! Noise suppression, and the way back from three bands to one.

use sonora::three_band_filter_bank::ThreeBandFilterBank;
use sonora_ns::config::{NsConfig, OVERLAP_SIZE, SuppressionLevel};
use sonora_ns::noise_suppressor::NoiseSuppressor;

use super::blend::{Blend, mix};
use super::{BAND_COUNT, BAND_SAMPLES, Bands};
use crate::frame::AUDIO_FRAME_SAMPLES;

pub(super) struct NoiseStage {
    blend: Blend,
    suppressor: NoiseSuppressor,
    synthesis: ThreeBandFilterBank,
    /// What goes around the suppressor, as late as what goes through it.
    around: Box<[[f32; OVERLAP_SIZE]; BAND_COUNT]>,
    dry: Box<Bands>,
}

impl NoiseStage {
    pub(super) fn new(on: bool) -> Self {
        // 18 dB, as in libwebrtc's voice engine.
        let config = NsConfig { target_level: SuppressionLevel::K18dB };
        Self {
            blend: Blend::new(on, 2),
            suppressor: NoiseSuppressor::new_with_bands(config, BAND_COUNT),
            synthesis: ThreeBandFilterBank::new(),
            around: Box::new([[0.0; OVERLAP_SIZE]; BAND_COUNT]),
            dry: Box::new([[0.0; BAND_SAMPLES]; BAND_COUNT]),
        }
    }

    pub(super) fn set_on(&mut self, on: bool) {
        self.blend.set_on(on);
    }

    /// Learns the noise.
    pub(super) fn analyze(&mut self, bands: &Bands) {
        if self.blend.needed() {
            self.suppressor.analyze(&bands[0]);
        }
    }

    /// Takes the noise out.
    pub(super) fn process(&mut self, bands: &mut Bands) {
        for ((dry, around), band) in self.dry.iter_mut().zip(self.around.iter_mut()).zip(&*bands) {
            dry[..OVERLAP_SIZE].copy_from_slice(around);
            let (now, later) = band.split_at(BAND_SAMPLES - OVERLAP_SIZE);
            dry[OVERLAP_SIZE..].copy_from_slice(now);
            around.copy_from_slice(later);
        }
        if self.blend.needed() {
            let (low, high) = bands.split_at_mut(1);
            self.suppressor.process(&mut low[0]);
            let gain = self.suppressor.upper_band_gain();
            for (index, band) in high.iter_mut().enumerate() {
                self.suppressor.process_upper_band(band, index, gain);
            }
        }
        let shares = self.blend.step();
        for (wet, dry) in bands.iter_mut().zip(self.dry.iter()) {
            mix(wet, dry, shares);
        }
    }

    /// One band out of three.
    pub(super) fn synthesis(&mut self, bands: &Bands, frame: &mut [f32; AUDIO_FRAME_SAMPLES]) {
        self.synthesis.synthesis(bands, frame);
    }
}
