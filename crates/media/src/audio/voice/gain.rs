//! Automatic gain: AGC2's adaptive digital controller and its limiter, put together as in
//! libwebrtc's `gain_controller2.cc`.

use sonora_agc2::adaptive_digital_gain_controller::{AdaptiveDigitalGainController, FrameInfo};
use sonora_agc2::common::{
    ADJACENT_SPEECH_FRAMES_THRESHOLD, SATURATION_PROTECTOR_INITIAL_HEADROOM_DB, float_s16_to_dbfs,
};
use sonora_agc2::limiter::Limiter;
use sonora_agc2::noise_level_estimator::NoiseLevelEstimator;
use sonora_agc2::saturation_protector::SaturationProtector;
use sonora_agc2::speech_level_estimator::{AdaptiveDigitalConfig, SpeechLevelEstimator};

use super::blend::{Blend, mix};
use crate::frame::AUDIO_FRAME_SAMPLES;

pub(super) struct GainStage {
    blend: Blend,
    noise_level: NoiseLevelEstimator,
    speech_level: SpeechLevelEstimator,
    saturation: SaturationProtector,
    controller: AdaptiveDigitalGainController,
    limiter: Limiter,
    dry: Box<[f32; AUDIO_FRAME_SAMPLES]>,
    /// A second channel of ones: what becomes of it is the gain.
    probe: Box<[f32; AUDIO_FRAME_SAMPLES]>,
    gain_db: f32,
    /// Of the frame before.
    near_share: f32,
}

impl GainStage {
    pub(super) fn new(on: bool) -> Self {
        // Its defaults are libwebrtc's: headroom 5 dB, at first 15 dB, at most 50 dB, 6 dB a
        // second, noise never above -50 dBFS.
        let config = AdaptiveDigitalConfig::default();
        let adjacent = ADJACENT_SPEECH_FRAMES_THRESHOLD;
        Self {
            blend: Blend::new(on, 0),
            noise_level: NoiseLevelEstimator::default(),
            speech_level: SpeechLevelEstimator::new(&config, adjacent),
            saturation: SaturationProtector::new(
                SATURATION_PROTECTOR_INITIAL_HEADROOM_DB,
                adjacent,
            ),
            controller: AdaptiveDigitalGainController::new(config, adjacent),
            limiter: Limiter::new(AUDIO_FRAME_SAMPLES),
            dry: Box::new([0.0; AUDIO_FRAME_SAMPLES]),
            probe: Box::new([1.0; AUDIO_FRAME_SAMPLES]),
            gain_db: config.initial_gain_db,
            near_share: 1.0,
        }
    }

    pub(super) fn set_on(&mut self, on: bool) {
        self.blend.set_on(on);
    }

    /// Whether it must be told the probability of speech.
    pub(super) fn is_wanted(&self) -> bool {
        self.blend.needed()
    }

    pub(super) fn gain_db(&self) -> Option<f32> {
        self.blend.needed().then_some(self.gain_db)
    }

    /// `near_share`: of the gain (in dB, and of what there is to learn from), 1 unless what is left of an
    /// echo is all there is; it must not be raised.
    pub(super) fn process(
        &mut self,
        frame: &mut [f32; AUDIO_FRAME_SAMPLES],
        speech_probability: f32,
        near_share: f32,
    ) {
        if !self.blend.needed() {
            return;
        }
        self.dry.copy_from_slice(frame);
        let speech_probability = speech_probability * near_share;
        let peak = frame.iter().fold(0.0_f32, |peak, s| peak.max(s.abs()));
        let energy: f32 = frame.iter().map(|s| s * s).sum();
        let rms = (energy / AUDIO_FRAME_SAMPLES as f32).sqrt();
        let noise_rms_dbfs = self.noise_level.analyze(&[&frame[..]]);
        self.speech_level.update(float_s16_to_dbfs(rms), speech_probability);
        let speech_level_dbfs = self.speech_level.level_dbfs();
        self.saturation.analyze(speech_probability, float_s16_to_dbfs(peak), speech_level_dbfs);
        let info = FrameInfo {
            speech_probability,
            speech_level_dbfs,
            speech_level_reliable: self.speech_level.is_confident(),
            noise_rms_dbfs,
            headroom_db: self.saturation.headroom_db(),
            limiter_envelope_dbfs: float_s16_to_dbfs(self.limiter.last_audio_level()),
        };
        self.probe.fill(1.0);
        self.controller.process(&info, &mut [&mut frame[..], &mut self.probe[..]]);
        // What raises is held back where there is nothing but the rest of an echo.
        let last = AUDIO_FRAME_SAMPLES - 1;
        let held = |gain: f32, near_share: f32| gain.max(1.0).powf(near_share - 1.0);
        let from = held(self.probe[0], self.near_share);
        let to = held(self.probe[last], near_share);
        self.near_share = near_share;
        if from.min(to) < 1.0 {
            for (n, sample) in frame.iter_mut().enumerate() {
                *sample *= from + (to - from) * (n + 1) as f32 / AUDIO_FRAME_SAMPLES as f32;
            }
        }
        self.gain_db = 20.0 * (self.probe[last] * to).max(f32::MIN_POSITIVE).log10();
        self.limiter.process(&mut [&mut frame[..]]);
        mix(frame, &self.dry[..], self.blend.step());
    }
}
