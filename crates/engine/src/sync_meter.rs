//! Lip sync measured in pixels and samples: when a flash is shown and when its beep is heard, whatever
//! timestamps and sender reports say. Sans-IO.
//!
//! Synthetic pictures flash and [`Beep`](visavis_media::synthetic::Beep) sounds in the first tenth of each
//! second of the sender's clock. A picture may come up to a frame after the second's beginning, or be
//! left out; its time code says by how much the first one that is white came late at the sender, so
//! the frame rate does not limit the measurement.

use std::collections::VecDeque;
use std::time::Duration;

use visavis_media::synthetic::{is_flash, since_flash};
use visavis_media::{AUDIO_RATE_HZ, MediaTime};

use crate::SyncFigures;

/// See the module. One for each connection.
#[derive(Debug, Default)]
pub(crate) struct SyncMeter {
    white: bool,
    /// Samples since the last loud one.
    quiet: u64,
    /// Not yet paired: when the picture of the beat was shown, and when its sound was heard.
    flash_us: Option<i64>,
    beep_us: Option<i64>,
    /// When the first pair was complete.
    begun: Option<MediaTime>,
    offsets_us: VecDeque<i64>,
}

impl SyncMeter {
    /// A picture is handed to the display at `at`; `flash` is its time code if it shows a flash.
    /// Returns the offset in microseconds if that completes a flash and a beep.
    pub(crate) fn on_shown(&mut self, at: MediaTime, flash: Option<u32>) -> Option<i64> {
        if std::mem::replace(&mut self.white, flash.is_some()) {
            return None;
        }
        let code = flash.filter(|code| is_flash(*code))?;
        self.flash_us = Some(micros(at) - micros_of(since_flash(code)));
        self.pair(at)
    }

    /// `samples` (48 kHz) leave the speaker from `at` on. Returns as [`Self::on_shown`].
    pub(crate) fn on_heard(&mut self, at: MediaTime, samples: &[f32]) -> Option<i64> {
        for (sample, n) in samples.iter().zip(0i64..) {
            if sample.abs() < LOUD {
                self.quiet += 1;
            } else if std::mem::take(&mut self.quiet) > MIN_QUIET {
                self.beep_us = Some(micros(at) + n * 1_000_000 / i64::from(AUDIO_RATE_HZ));
            }
        }
        self.pair(at)
    }

    fn pair(&mut self, now: MediaTime) -> Option<i64> {
        let offset = self.beep_us? - self.flash_us?;
        // Of two seconds, else.
        if offset.abs() >= MAX_OFFSET_US {
            return None;
        }
        (self.beep_us, self.flash_us) = (None, None);
        if now.saturating_since(*self.begun.get_or_insert(now)) >= SETTLING {
            if self.offsets_us.len() == MAX_COUNT {
                self.offsets_us.pop_front();
            }
            self.offsets_us.push_back(offset);
        }
        Some(offset)
    }

    /// What was measured so far.
    pub(crate) fn figures(&self) -> Option<SyncFigures> {
        let mut sorted: Vec<i64> = self.offsets_us.iter().copied().collect();
        sorted.sort_unstable();
        #[expect(clippy::cast_precision_loss, reason = "figures for people")]
        let ms = |us: &i64| *us as f32 / 1000.0;
        Some(SyncFigures {
            count: sorted.len(),
            p50_ms: ms(sorted.get(sorted.len() / 2)?),
            min_ms: ms(sorted.first()?),
            max_ms: ms(sorted.last()?),
        })
    }
}

fn micros(at: MediaTime) -> i64 {
    i64::try_from(at.as_micros()).unwrap_or(i64::MAX / 4)
}

fn micros_of(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(0)
}

/// 12 dB below the beep's peaks.
const LOUD: f32 = 0.06;
/// 0.3 s of silence before a beep: it is no other sound.
const MIN_QUIET: u64 = AUDIO_RATE_HZ as u64 * 3 / 10;
/// Half of what lies between two beeps.
const MAX_OFFSET_US: i64 = 500_000;
/// Playout settles meanwhile.
const SETTLING: Duration = Duration::from_secs(5);
/// Offsets kept: two minutes.
const MAX_COUNT: usize = 120;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use visavis_media::synthetic::Beep;

    /// Twelve seconds in which pictures take `picture_ms` and sound `sound_ms`.
    fn measure(picture_ms: u64, sound_ms: u64) -> Option<SyncFigures> {
        let (mut meter, mut beep) = (SyncMeter::default(), Beep::default());
        // The sender's clock is far from ours, and its pictures fall anywhere in a second.
        let start_ms = 1_700_000_000_123u64;
        for ms in 0..12_000u64 {
            let at = |delay_ms: u64| MediaTime::from_micros((ms + delay_ms) * 1000);
            if ms % 10 == 0 {
                let frame = beep.next_frame(at(0), (start_ms + ms) * 1000);
                meter.on_heard(at(sound_ms), &frame.samples);
            }
            // One picture in six is left out.
            if ms % 33 == 0 && ms % 198 != 0 {
                #[expect(clippy::cast_possible_truncation, reason = "modulo 2^32")]
                let code = (start_ms + ms) as u32;
                meter.on_shown(at(picture_ms), Some(code).filter(|code| is_flash(*code)));
            }
        }
        meter.figures()
    }

    #[test]
    fn offset_is_measured_to_the_millisecond_either_way() {
        for (picture_ms, sound_ms) in [(40u16, 40u16), (40, 115), (200, 60)] {
            let figures = measure(picture_ms.into(), sound_ms.into()).unwrap();
            let expected = f32::from(sound_ms) - f32::from(picture_ms);
            for found in [figures.p50_ms, figures.min_ms, figures.max_ms] {
                assert!((found - expected).abs() <= 1.5, "{figures:?}, expected {expected}");
            }
            assert!((5..=7).contains(&figures.count), "{figures:?}");
        }
    }

    #[test]
    fn other_sounds_are_not_measured() {
        let mut meter = SyncMeter::default();
        for n in 0..3000u64 {
            let at = MediaTime::from_micros(n * 10_000);
            assert_eq!(meter.on_heard(at, &[if n % 20 < 10 { 0.5 } else { 0.0 }; 480]), None);
            meter.on_shown(at, (n % 100 < 10).then_some(4_000));
        }
        assert_eq!(meter.figures(), None);
    }
}
