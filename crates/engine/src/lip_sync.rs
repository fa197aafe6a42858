//! Lip sync of one connection and its measurement: told by both receiving threads, asked by both, by
//! the engine too. The lock is held for moments only.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use visavis_media::MediaTime;
use visavis_media::sync::{LipSync, SyncKind};
use visavis_rtc::{MediaKind, SenderReportInfo};

use crate::shared::lock;
use crate::sync_meter::SyncMeter;
use crate::{SyncFigures, TRACE};

/// Audio comes out of the codec so much later than its timestamps say (`OPUS_GET_LOOKAHEAD` of
/// libopus: 312 samples).
const OPUS_LOOK_AHEAD: Duration = Duration::from_micros(6_500);

/// See the module.
#[derive(Clone, Default)]
pub(crate) struct SharedSync(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    lips: LipSync,
    meter: SyncMeter,
}

/// Where in the stream audio comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heard {
    /// Of the first sample.
    pub(crate) rtp_timestamp: u32,
    /// How much of its delay was added for lip sync.
    pub(crate) added: Duration,
}

impl SharedSync {
    pub(crate) fn on_sender_report(&self, report: &SenderReportInfo) {
        let kind = match report.kind {
            MediaKind::Audio => SyncKind::Audio,
            MediaKind::Video => SyncKind::Video,
        };
        lock(&self.0).lips.on_sender_report(kind, report.ntp_time, report.rtp_timestamp);
    }

    /// How long frames are held back.
    pub(crate) fn video_delay(&self) -> Duration {
        lock(&self.0).lips.video_delay()
    }

    /// A frame that was held back for `added` is handed to the display; `flash` is its time code if it shows
    /// a flash.
    pub(crate) fn on_shown(
        &self,
        now: MediaTime,
        added: Duration,
        rtp_timestamp: u32,
        flash: Option<u32>,
    ) {
        let mut state = lock(&self.0);
        state.lips.on_shown(now, added, rtp_timestamp);
        let measured = state.meter.on_shown(now, flash);
        state.note(measured, now);
    }

    /// `samples` are handed to the speaker, which plays them after `latency`; `heard` is `None` while nothing of the
    /// stream is played. Returns the delay that is to be added from now on, if it is another.
    pub(crate) fn on_heard(
        &self,
        now: MediaTime,
        latency: Duration,
        heard: Option<Heard>,
        samples: &[f32],
    ) -> Option<Duration> {
        let mut state = lock(&self.0);
        if let Some(Heard { rtp_timestamp, added }) = heard {
            state.lips.on_heard(now + latency + OPUS_LOOK_AHEAD, added, rtp_timestamp);
        }
        let delay = state.lips.step(now).then(|| state.lips.audio_delay());
        let measured = state.meter.on_heard(now + latency, samples);
        state.note(measured, now);
        delay
    }

    /// How much later audio is heard than its frame is shown.
    pub(crate) fn offset_ms(&self, now: MediaTime) -> Option<f32> {
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        lock(&self.0).lips.offset_us(now).map(|us| us as f32 / 1000.0)
    }

    /// The same measured, where the remote peer flashes and beeps.
    pub(crate) fn figures(&self) -> Option<SyncFigures> {
        lock(&self.0).meter.figures()
    }
}

impl State {
    /// A flash and its beep, if this is when both are known.
    fn note(&self, offset_us: Option<i64>, now: MediaTime) {
        let Some(offset_us) = offset_us else { return };
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let ms = |us: i64| us as f64 / 1000.0;
        let account_ms = self.lips.offset_us(now).map(ms);
        tracing::trace!(target: TRACE, offset_ms = ms(offset_us), account_ms, "flash-and-beep");
    }
}
