//! Noticing that someone talks into a muted microphone.

use std::time::Duration;

use super::Heard;
use crate::frame::MediaTime;

/// Says when a person should be told that they are muted.
///
/// Steady noise is no speech to the voice activity detector, and what the far end says is not the
/// person's: while something is played, only sound counts that the echo canceller lets through.
#[derive(Debug, Clone, Copy, Default)]
pub struct SpeechWhileMuted {
    /// 10 ms stretches of speech lately; decays in pauses.
    speech: f32,
    told: Option<MediaTime>,
}

/// 10 ms stretches of speech after which it is meant to be heard: no cough, no single word to
/// someone in the room.
const ENOUGH: f32 = 50.0;
/// By how much a stretch without speech counts against it.
const DECAY: f32 = 0.5;
/// How sure the detector must be.
const PROBABILITY: f32 = 0.9;
/// Quieter speech is someone else's, further away.
const MIN_LEVEL_DBFS: f32 = -50.0;
/// Echo loses more than this in the canceller, near-end speech less.
const MAX_LOSS_DB: f32 = 6.0;
/// The hint is not repeated sooner.
const AT_MOST_EVERY: Duration = Duration::from_secs(20);

impl SpeechWhileMuted {
    /// Takes what was heard at `now` while muted. Returns whether to tell the person now.
    /// `echo_cancelled`: whether the echo canceller is on; without it sound from the speaker cannot
    /// be told from the person's.
    pub fn update(&mut self, heard: &Heard, echo_cancelled: bool, now: MediaTime) -> bool {
        let own = !heard.far_end_active
            || (echo_cancelled && heard.clean_dbfs > heard.input_dbfs - MAX_LOSS_DB);
        let speech = own
            && heard.speech_probability.is_some_and(|p| p > PROBABILITY)
            && heard.clean_dbfs > MIN_LEVEL_DBFS;
        self.speech = if speech { self.speech + 1.0 } else { (self.speech - DECAY).max(0.0) };
        if self.speech < ENOUGH {
            return false;
        }
        self.speech = ENOUGH;
        let due = self.told.is_none_or(|told| now.saturating_since(told) >= AT_MOST_EVERY);
        if due {
            self.told = Some(now);
            self.speech = 0.0;
        }
        due
    }

    /// The microphone is not muted (any more): what was said was heard.
    pub fn unmuted(&mut self) {
        *self = Self::default();
    }
}
