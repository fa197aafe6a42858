//! Voice processing of what a microphone hears: high-pass filter, echo cancellation, noise
//! suppression, automatic gain.
//!
//! The echo canceller is our own. The other parts are libwebrtc's audio processing module in its Rust
//! port `sonora`, put together here rather than by its `AudioProcessing`: that one starts all over when
//! a single part is switched, and does not say what gain it applies. Order and settings are libwebrtc's
//! (`modules/audio_processing/audio_processing_impl.cc`, `media/engine/webrtc_voice_engine.cc`).
//!
//! [`VoiceProcessor`] belongs to the microphone's thread. [`RenderReference`] carries what the
//! speaker plays from its thread to the microphone's; neither waits for the other.

mod blend;
mod echo;
mod gain;
mod high_pass;
mod muted_speech;
mod noise;
mod reference;
#[cfg(test)]
mod tests;

use std::time::Duration;

use sonora::three_band_filter_bank::ThreeBandFilterBank;
use sonora_agc2::vad_wrapper::VoiceActivityDetectorWrapper;

use self::echo::EchoStage;
use self::gain::GainStage;
use self::high_pass::HighPassStage;
pub use self::muted_speech::SpeechWhileMuted;
use self::noise::NoiseStage;
pub use self::reference::RenderReference;
use crate::audio::level::dbfs;
use crate::frame::{AUDIO_FRAME_SAMPLES, AUDIO_RATE_HZ};

/// Which parts are on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "four switches")]
pub struct VoiceSettings {
    /// Takes out rumble below 100 Hz.
    pub high_pass: bool,
    /// Takes out what the speaker plays.
    pub echo_cancellation: bool,
    /// Takes out steady noise, by 18 dB at most.
    pub noise_suppression: bool,
    /// Brings speech to the same level and keeps it from clipping (AGC2, adaptive digital).
    pub automatic_gain: bool,
}

impl VoiceSettings {
    /// Everything on.
    pub const ON: Self = Self {
        high_pass: true,
        echo_cancellation: true,
        noise_suppression: true,
        automatic_gain: true,
    };
    /// Everything off.
    pub const OFF: Self = Self {
        high_pass: false,
        echo_cancellation: false,
        noise_suppression: false,
        automatic_gain: false,
    };
}

impl Default for VoiceSettings {
    fn default() -> Self {
        Self::ON
    }
}

/// What the parts are doing. Absent figures are of parts that are off or idle.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct VoiceStats {
    /// `echoReturnLoss` of
    /// [webrtc-stats](https://www.w3.org/TR/webrtc-stats/#dom-rtcaudiosourcestats-echoreturnloss),
    /// dB: how much quieter the echo is than what was played.
    pub echo_return_loss_db: Option<f32>,
    /// `echoReturnLossEnhancement` of
    /// [webrtc-stats](https://www.w3.org/TR/webrtc-stats/#dom-rtcaudiosourcestats-echoreturnlossenhancement),
    /// dB: what the linear filter takes off, before the suppressor; near-end speech counts against it.
    pub echo_return_loss_enhancement_db: Option<f32>,
    /// By how much the canceller has found the echo to be delayed.
    pub echo_delay: Option<Duration>,
    /// Gain that is applied now, dB.
    pub gain_db: Option<f32>,
    /// How likely the last 10 ms were speech, 0 to 1.
    pub speech_probability: Option<f32>,
}

/// What [`VoiceProcessor::process`] noticed about 10 ms of sound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Heard {
    /// How likely it is speech, 0 to 1; absent if nothing asked for it.
    pub speech_probability: Option<f32>,
    /// RMS of what came in and of what goes out before the gain, dBFS.
    pub input_dbfs: f32,
    /// See `input_dbfs`.
    pub clean_dbfs: f32,
    /// Whether the speaker plays something that could be heard as echo.
    pub far_end_active: bool,
}

/// Three bands of 16 kHz each, 10 ms, in the scale of 16-bit samples.
type Bands = [[f32; BAND_SAMPLES]; BAND_COUNT];
const BAND_COUNT: usize = 3;
const BAND_SAMPLES: usize = AUDIO_FRAME_SAMPLES / BAND_COUNT;
/// libwebrtc's floating-point samples have the range of 16-bit ones.
const SCALE: f32 = 32_768.0;

/// The chain of all parts for one microphone: 48 kHz mono in frames of 10 ms.
///
/// What goes in comes out [`VoiceProcessor::DELAY`] later whatever is on, so that switching a part
/// neither clicks nor moves the sound; each fades over 10 ms, and the others keep what they know.
pub struct VoiceProcessor {
    settings: VoiceSettings,
    high_pass: HighPassStage,
    analysis: ThreeBandFilterBank,
    bands: Box<Bands>,
    echo: EchoStage,
    noise: NoiseStage,
    gain: GainStage,
    voice_activity: VoiceActivityDetectorWrapper,
    detect_speech: bool,
    frame: Box<[f32; AUDIO_FRAME_SAMPLES]>,
    /// Frames since the speaker played something.
    far_end_silence: u32,
    stats: VoiceStats,
}

impl std::fmt::Debug for VoiceProcessor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VoiceProcessor")
            .field("settings", &self.settings)
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

impl VoiceProcessor {
    /// By how much the processor delays: the echo canceller's look ahead 2 ms, band filters 1 ms,
    /// window of the noise suppressor 6 ms.
    pub const DELAY: Duration = Duration::from_micros(DELAY_SAMPLES * 1_000_000 / 48_000);

    /// A processor that knows nothing yet of its room.
    pub fn new(settings: VoiceSettings) -> Self {
        let rate_hz = i32::try_from(AUDIO_RATE_HZ).unwrap_or(i32::MAX);
        Self {
            settings,
            high_pass: HighPassStage::new(settings.high_pass),
            analysis: ThreeBandFilterBank::new(),
            bands: Box::new([[0.0; BAND_SAMPLES]; BAND_COUNT]),
            echo: EchoStage::new(settings.echo_cancellation),
            noise: NoiseStage::new(settings.noise_suppression),
            gain: GainStage::new(settings.automatic_gain),
            voice_activity: VoiceActivityDetectorWrapper::new(
                sonora_simd::detect_backend(),
                rate_hz,
            ),
            detect_speech: false,
            frame: Box::new([0.0; AUDIO_FRAME_SAMPLES]),
            far_end_silence: u32::MAX,
            stats: VoiceStats::default(),
        }
    }

    /// What is on.
    pub fn settings(&self) -> VoiceSettings {
        self.settings
    }

    /// Switches parts on or off, from the next frame on.
    pub fn set_settings(&mut self, settings: VoiceSettings) {
        self.settings = settings;
        self.high_pass.set_on(settings.high_pass);
        self.echo.set_on(settings.echo_cancellation);
        self.noise.set_on(settings.noise_suppression);
        self.gain.set_on(settings.automatic_gain);
    }

    /// Whether [`Heard::speech_probability`] is wanted even without automatic gain.
    pub fn set_detect_speech(&mut self, on: bool) {
        self.detect_speech = on;
    }

    /// Takes 10 ms of what the speaker is about to play. Call it for every block, in order, before
    /// [`Self::process`] gets the sound in which it may be heard.
    pub fn render(&mut self, block: &[f32; AUDIO_FRAME_SAMPLES]) {
        let audible = block.iter().any(|s| s.abs() > FAR_END_AUDIBLE);
        self.far_end_silence = if audible { 0 } else { self.far_end_silence.saturating_add(1) };
        self.echo.render(block);
    }

    /// Processes 10 ms from the microphone in place.
    ///
    /// `delay` is the time from [`Self::render`] of a block to [`Self::process`] of the sound in
    /// which it is heard, as far as the devices say: the speaker's latency and the microphone's. It
    /// is where the search for the echo begins.
    pub fn process(
        &mut self,
        samples: &mut [f32; AUDIO_FRAME_SAMPLES],
        delay: Option<Duration>,
    ) -> Heard {
        let mut saturated = false;
        let mut energy = 0.0;
        for (scaled, sample) in self.frame.iter_mut().zip(samples.iter()) {
            // Whatever a driver delivers, no filter is fed infinities.
            let sample = if sample.is_finite() { sample.clamp(-2.0, 2.0) } else { 0.0 };
            *scaled = sample * SCALE;
            saturated |= scaled.abs() >= SATURATION;
            energy += sample * sample;
        }
        self.echo.process(&mut self.frame, saturated, delay);
        // After the canceller, whose room would be another one each time the filter is switched.
        self.high_pass.process(&mut self.frame);
        self.analysis.analysis(&self.frame, &mut self.bands);
        // Without the echo, which would count as speech and let noise through; libwebrtc looks
        // before the canceller unless told otherwise.
        self.noise.analyze(&self.bands);
        self.noise.process(&mut self.bands);
        self.noise.synthesis(&self.bands, &mut self.frame);
        let clean = self.frame.iter().map(|s| s * s).sum::<f32>() / (SCALE * SCALE);
        let speech_probability = (self.gain.is_wanted() || self.detect_speech)
            .then(|| self.voice_activity.analyze(&self.frame[..]));
        self.gain.process(
            &mut self.frame,
            speech_probability.unwrap_or(0.0),
            self.echo.near_share(),
        );
        for (sample, scaled) in samples.iter_mut().zip(self.frame.iter()) {
            *sample = (scaled / SCALE).clamp(-1.0, 1.0);
        }
        self.stats = self.echo.stats();
        self.stats.gain_db = self.gain.gain_db();
        self.stats.speech_probability = speech_probability;
        let rms = |energy: f32| dbfs((energy / AUDIO_FRAME_SAMPLES as f32).sqrt());
        Heard {
            speech_probability,
            input_dbfs: rms(energy),
            clean_dbfs: rms(clean),
            far_end_active: self.far_end_silence < FAR_END_HANGOVER,
        }
    }

    /// What the parts did to the last frame.
    pub fn stats(&self) -> VoiceStats {
        self.stats
    }
}

/// See [`VoiceProcessor::DELAY`].
const DELAY_SAMPLES: u64 = 430;
/// A microphone at its limit, in 16-bit samples (`DetectSaturation` in libwebrtc's
/// `echo_canceller3.cc`).
const SATURATION: f32 = 32_700.0;
/// What a speaker plays more quietly than this (-60 dBFS) is not heard in the microphone.
const FAR_END_AUDIBLE: f32 = 0.001;
/// Frames for which it may still be heard: delay and reverberation.
const FAR_END_HANGOVER: u32 = 40;
