//! Audio from its source to the peer connection: source thread -> [`AudioSend::push`] -> `rtc`. Nothing is encoded while
//! nobody receives.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use visavis_media::audio::protection::{AudioProtection, ProtectionControl};
use visavis_media::audio::voice::RenderReference;
use visavis_media::codec::opus::{AudioContent, OpusEncoder, OpusEncoderConfig};
use visavis_media::{AudioFrame, Bitrate};
use visavis_rtc::{AudioSender, MediaClock};

use crate::meter::{RateMeter, level_dbfs};
use crate::shared::lock;
use crate::voice::VoiceSend;

/// Counts of the audio that was sent.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct AudioSendCounts {
    pub(crate) bitrate_bps: u64,
    pub(crate) level_dbfs: f32,
    /// What the network takes from us now.
    pub(crate) protection: AudioProtection,
    /// Channels of the last packet; `None` before the first.
    pub(crate) channels: Option<u8>,
}

/// Processes, encodes and sends audio on the thread of its source. Muted, no sample goes further
/// than voice processing and the level meter.
pub(crate) struct AudioSend {
    enabled: AtomicBool,
    clock: MediaClock,
    voice: Mutex<VoiceSend>,
    target: Mutex<Option<AudioSender>>,
    state: Mutex<AudioState>,
}

struct AudioState {
    encoder: Option<OpusEncoder>,
    control: ProtectionControl,
    protection: AudioProtection,
    /// Of the last packet.
    channels: Option<u8>,
    bytes: RateMeter,
    peak: f32,
    peak_since: Option<Instant>,
    level_dbfs: f32,
}

/// Audio with its copies takes a quarter of the network at most, down to speech that can be followed.
const AUDIO_SHARE: u64 = 4;
/// How long the microphone's peak is held.
const LEVEL_WINDOW: Duration = Duration::from_millis(100);

impl AudioSend {
    pub(crate) fn new(clock: MediaClock, reference: Arc<RenderReference>) -> Self {
        Self {
            enabled: AtomicBool::new(true),
            clock,
            voice: Mutex::new(VoiceSend::new(reference)),
            target: Mutex::new(None),
            state: Mutex::new(AudioState {
                encoder: None,
                control: ProtectionControl::default(),
                protection: AudioProtection::default(),
                channels: None,
                bytes: RateMeter::default(),
                peak: 0.0,
                peak_since: None,
                level_dbfs: -100.0,
            }),
        }
    }

    pub(crate) fn set_enabled(&self, enabled: bool) {
        self.enabled.store(enabled, Ordering::Relaxed);
    }

    /// The peer to send to.
    pub(crate) fn set_target(&self, sender: Option<AudioSender>) {
        let mut state = lock(&self.state);
        state.control = ProtectionControl::default();
        if sender.is_some() {
            state.channels = None;
        }
        drop(state);
        *lock(&self.target) = sender;
    }

    /// A receiver report came: the share of packets lost since the one before, 0 to 1.
    pub(crate) fn on_report(&self, fraction_lost: f64) {
        lock(&self.state).control.on_report(fraction_lost);
    }

    /// Takes 10 ms of audio.
    pub(crate) fn push(&self, frame: &AudioFrame) {
        let now = Instant::now();
        let enabled = self.enabled.load(Ordering::Relaxed);
        let mut voice = lock(&self.voice);
        let content = voice.content();
        let frame = voice.process(frame, !enabled, self.clock.now());
        let mut state = lock(&self.state);
        state.meter(now, frame);
        if !enabled {
            // A fresh encoder later: nothing said before the mute lives on in its state.
            state.encoder = None;
            return;
        }
        let sender = lock(&self.target).clone().filter(AudioSender::is_receiving);
        let Some(sender) = sender else {
            state.encoder = None;
            return;
        };
        // Copies that leave no room for frames help nobody.
        let share = sender.network().target.as_bps() / AUDIO_SHARE;
        state.control.set_budget(Some(Bitrate::from_bps(share)));
        state.control.set_content(content);
        state.control.set_most(sender.most_wanted());
        state.protection = state.control.protection(sender.takes_redundancy());
        sender.set_redundancy(state.protection.redundancy);
        match state.encode(frame, content, sender.takes_stereo()) {
            Ok(Some(packet)) => {
                state.bytes.add(now, packet.data.len() as u64);
                let stereo = state.encoder.as_ref().is_some_and(OpusEncoder::is_stereo);
                state.channels = Some(if stereo { 2 } else { 1 });
                drop(state);
                // Lost on the way out is lost like on the wire: the remote peer conceals it.
                let _ = sender.send(&packet);
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, "sound could not be encoded");
                state.encoder = None;
            }
        }
    }

    /// Voice processing and its state.
    pub(crate) fn voice(&self) -> MutexGuard<'_, VoiceSend> {
        lock(&self.voice)
    }

    /// The source is gone: the level falls to silence.
    pub(crate) fn source_ended(&self) {
        lock(&self.voice).source_ended();
        let mut state = lock(&self.state);
        state.level_dbfs = -100.0;
        state.peak_since = None;
        state.peak = 0.0;
    }

    pub(crate) fn counts(&self, now: Instant) -> AudioSendCounts {
        let mut state = lock(&self.state);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a bitrate")]
        AudioSendCounts {
            bitrate_bps: (state.bytes.per_second(now) * 8.0) as u64,
            level_dbfs: state.level_dbfs,
            protection: state.protection,
            channels: state.channels,
        }
    }
}

impl AudioState {
    fn encode(
        &mut self,
        frame: &AudioFrame,
        content: AudioContent,
        takes_stereo: bool,
    ) -> Result<Option<visavis_media::EncodedAudioFrame>, visavis_media::MediaError> {
        let stereo = content == AudioContent::Music && takes_stereo && frame.is_stereo();
        if self.encoder.as_ref().is_none_or(|e| (e.content(), e.is_stereo()) != (content, stereo)) {
            let config = match content {
                AudioContent::Voice => OpusEncoderConfig::default(),
                AudioContent::Music => OpusEncoderConfig::music(stereo),
            };
            self.encoder = Some(OpusEncoder::new(config)?);
        }
        match &mut self.encoder {
            Some(encoder) => {
                encoder.set_bitrate(self.protection.bitrate)?;
                encoder.set_expected_loss(self.protection.expected_loss_percent)?;
                encoder.set_silence_packets(self.protection.silence_packets());
                encoder.encode(frame)
            }
            None => Ok(None),
        }
    }

    fn meter(&mut self, now: Instant, frame: &AudioFrame) {
        let since = *self.peak_since.get_or_insert(now);
        self.peak = frame.samples.iter().fold(self.peak, |peak, s| peak.max(s.abs()));
        if now - since >= LEVEL_WINDOW {
            self.level_dbfs = level_dbfs(self.peak);
            self.peak = 0.0;
            self.peak_since = Some(now);
        }
    }
}
