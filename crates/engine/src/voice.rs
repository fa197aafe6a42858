//! Voice processing on the way from the microphone to the encoder, on the thread of the source.

use std::sync::Arc;
use std::time::Duration;

use visavis_media::audio::voice::{
    RenderReference, SpeechWhileMuted, VoiceProcessor, VoiceSettings,
};
use visavis_media::codec::opus::AudioContent;
use visavis_media::{AudioFrame, MediaTime};

use crate::{Switch, VoiceProcessing, VoiceState};

/// Processes what the source delivers as it is asked to: not at all where nothing is wanted, so
/// that files and generated sound stay what they are.
pub(crate) struct VoiceSend {
    wanted: VoiceProcessing,
    /// Whether the source is a microphone.
    device: bool,
    reference: Arc<RenderReference>,
    processor: Option<VoiceProcessor>,
    /// What was processed last; its allocation is used again.
    processed: AudioFrame,
    render_latency: Option<Duration>,
    delay: Option<Duration>,
    muted_speech: SpeechWhileMuted,
    /// Not yet reported.
    spoke_while_muted: bool,
}

impl VoiceSend {
    pub(crate) fn new(reference: Arc<RenderReference>) -> Self {
        Self {
            wanted: VoiceProcessing::default(),
            device: false,
            reference,
            processor: None,
            processed: AudioFrame { samples: Vec::new(), time: MediaTime::default() },
            render_latency: None,
            delay: None,
            muted_speech: SpeechWhileMuted::default(),
            spoke_while_muted: false,
        }
    }

    pub(crate) fn set_wanted(&mut self, wanted: VoiceProcessing) {
        self.wanted = wanted;
        if wanted.music {
            // Nothing is delayed for a fade.
            self.processor = None;
            self.reference.set_listening(false);
            (self.render_latency, self.delay) = (None, None);
        }
    }

    /// What is sent.
    pub(crate) fn content(&self) -> AudioContent {
        if self.wanted.music { AudioContent::Music } else { AudioContent::Voice }
    }

    /// Another source: what was learnt of the last one's room is forgotten.
    pub(crate) fn source_opened(&mut self, device: bool) {
        self.source_ended();
        self.device = device;
    }

    pub(crate) fn source_ended(&mut self) {
        self.processor = None;
        self.reference.set_listening(false);
        (self.render_latency, self.delay) = (None, None);
    }

    /// Whether somebody talked while muted since the last call.
    pub(crate) fn take_spoke_while_muted(&mut self) -> bool {
        std::mem::take(&mut self.spoke_while_muted)
    }

    /// What becomes of `frame` at `now`. A muted microphone is processed too: the echo canceller
    /// stays ready, the meter moves, and speech is noticed.
    pub(crate) fn process<'a>(
        &'a mut self,
        frame: &'a AudioFrame,
        muted: bool,
        now: MediaTime,
    ) -> &'a AudioFrame {
        let settings = self.settings();
        let watch = muted && self.device;
        if self.processor.is_none() && settings == VoiceSettings::OFF && !watch {
            return frame;
        }
        // Voices are mono. Every source delivers whole frames.
        let Some(samples) = frame.mono() else { return frame };
        let processor = self.processor.get_or_insert_with(|| VoiceProcessor::new(settings));
        if processor.settings() != settings {
            processor.set_settings(settings);
        }
        processor.set_detect_speech(watch);
        self.reference.set_listening(settings.echo_cancellation || watch);
        self.render_latency = self.reference.hand_to(processor).or(self.render_latency);
        let capture_latency = now.saturating_since(frame.time);
        self.delay = self.render_latency.map(|render| render + capture_latency);
        self.processed.samples.clear();
        self.processed.samples.extend_from_slice(&samples);
        let Some(chunk) = self.processed.samples.first_chunk_mut() else { return frame };
        let heard = processor.process(chunk, self.delay);
        let late_us = u64::try_from(VoiceProcessor::DELAY.as_micros()).unwrap_or(0);
        self.processed.time =
            MediaTime::from_micros(frame.time.as_micros().saturating_sub(late_us));
        if watch {
            self.spoke_while_muted |=
                self.muted_speech.update(&heard, settings.echo_cancellation, now);
        } else {
            self.muted_speech.unmuted();
        }
        &self.processed
    }

    pub(crate) fn state(&self) -> VoiceState {
        let settings = self.settings();
        let stats = self.processor.as_ref().map(VoiceProcessor::stats).unwrap_or_default();
        VoiceState {
            running: self.processor.is_some(),
            echo_cancellation: settings.echo_cancellation,
            noise_suppression: settings.noise_suppression,
            automatic_gain: settings.automatic_gain,
            high_pass: settings.high_pass,
            music: self.wanted.music,
            echo_return_loss_db: stats.echo_return_loss_db,
            echo_return_loss_enhancement_db: stats.echo_return_loss_enhancement_db,
            device_delay: stats.echo_delay.and(self.delay),
            echo_delay: stats.echo_delay,
            gain_db: stats.gain_db,
        }
    }

    fn settings(&self) -> VoiceSettings {
        let on = |switch| match switch {
            _ if self.wanted.music => false,
            Switch::Auto => self.device,
            Switch::On => true,
            Switch::Off => false,
        };
        VoiceSettings {
            high_pass: on(self.wanted.high_pass),
            echo_cancellation: on(self.wanted.echo_cancellation),
            noise_suppression: on(self.wanted.noise_suppression),
            automatic_gain: on(self.wanted.automatic_gain),
        }
    }
}

#[cfg(test)]
mod tests {
    use visavis_media::AUDIO_FRAME_SAMPLES;
    use visavis_media::synthetic::{StereoTone, Tone};
    use visavis_media_testing::speech::Talker;

    use super::*;

    fn time(n: u64) -> MediaTime {
        MediaTime::from_micros(1_000_000 + n * 10_000)
    }

    #[test]
    fn generated_sound_is_sent_as_it_is_unless_processing_is_forced() {
        let mut voice = VoiceSend::new(Arc::default());
        voice.source_opened(false);
        let mut tone = Tone::default();
        for n in 0..20 {
            let frame = tone.next_frame(time(n));
            let sent = voice.process(&frame, false, time(n));
            assert_eq!((&sent.samples, sent.time), (&frame.samples, frame.time));
        }
        assert!(!voice.state().running);
        voice.set_wanted(VoiceProcessing { noise_suppression: Switch::On, ..Default::default() });
        let frame = tone.next_frame(time(20));
        assert_ne!(voice.process(&frame, false, time(20)).samples, frame.samples);
        assert!(voice.state().running && !voice.state().echo_cancellation);
    }

    #[test]
    fn music_is_sent_as_it_is_with_both_channels() {
        let mut voice = VoiceSend::new(Arc::default());
        voice.source_opened(true);
        let mut tone = StereoTone::default();
        let frame = tone.next_frame(time(0));
        assert!(!voice.process(&frame, false, time(0)).is_stereo());
        assert!(voice.state().running);
        voice.set_wanted(VoiceProcessing {
            music: true,
            echo_cancellation: Switch::On,
            ..Default::default()
        });
        for n in 1..20 {
            let frame = tone.next_frame(time(n));
            let sent = voice.process(&frame, false, time(n));
            assert_eq!((&sent.samples, sent.time), (&frame.samples, frame.time));
        }
        assert!(!voice.state().running && !voice.state().echo_cancellation);
        assert_eq!(voice.content(), AudioContent::Music);
    }

    #[test]
    fn talking_into_a_muted_microphone_is_noticed_once_and_unmuted_talk_is_not() {
        let mut voice = VoiceSend::new(Arc::default());
        voice.source_opened(true);
        let talk = Talker::new(5, 120.0).take(30.0);
        let mut told = Vec::new();
        for (n, samples) in (0..).zip(talk.chunks_exact(AUDIO_FRAME_SAMPLES)) {
            let frame = AudioFrame { samples: samples.to_vec(), time: time(n) };
            // Unmuted for the first five seconds.
            voice.process(&frame, n >= 500, time(n));
            if voice.take_spoke_while_muted() {
                told.push(n);
            }
        }
        assert_eq!(told.len(), 2, "{told:?}");
        assert!((540..800).contains(&told[0]), "{told:?}");
        assert!(told[1] - told[0] >= 2000, "{told:?}");
    }
}
