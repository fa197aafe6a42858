//! How loud it is.

/// The level of a stretch of sound, in dBFS: 0 is full scale (a square wave has RMS 0, a sine -3).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Level {
    /// Highest sample.
    pub peak_dbfs: f32,
    /// Root mean square.
    pub rms_dbfs: f32,
}

impl Level {
    /// What is shown for silence: far below the quietest 16-bit sample (-90 dBFS).
    pub const SILENCE: Self = Self { peak_dbfs: FLOOR_DBFS, rms_dbfs: FLOOR_DBFS };

    /// Level of `samples`; [`Self::SILENCE`] for none.
    pub fn of(samples: &[f32]) -> Self {
        let mut meter = LevelMeter::default();
        meter.push(samples);
        meter.take()
    }
}

/// Gathers samples until the level is asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct LevelMeter {
    peak: f32,
    energy: f64,
    samples: usize,
}

impl LevelMeter {
    /// Takes samples; no allocation.
    pub fn push(&mut self, samples: &[f32]) {
        for &sample in samples {
            self.peak = self.peak.max(sample.abs());
            self.energy += f64::from(sample) * f64::from(sample);
        }
        self.samples += samples.len();
    }

    /// Level since the last call.
    pub fn take(&mut self) -> Level {
        let this = std::mem::take(self);
        if this.samples == 0 {
            return Level::SILENCE;
        }
        let rms = (this.energy / this.samples as f64).sqrt() as f32;
        Level { peak_dbfs: dbfs(this.peak), rms_dbfs: dbfs(rms) }
    }
}

/// An amplitude in dBFS, no lower than the floor of [`Level::SILENCE`].
pub fn dbfs(amplitude: f32) -> f32 {
    (20.0 * amplitude.log10()).max(FLOOR_DBFS)
}

const FLOOR_DBFS: f32 = -120.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::MediaTime;
    use crate::synthetic::Tone;

    #[test]
    fn a_sine_at_minus_12_has_its_peak_there_and_its_rms_3_below() {
        let mut tone = Tone::default();
        let mut meter = LevelMeter::default();
        for _ in 0..20 {
            meter.push(&tone.next_frame(MediaTime::default()).samples);
        }
        let level = meter.take();
        assert!((level.peak_dbfs + 12.0).abs() < 0.05, "{level:?}");
        assert!((level.rms_dbfs + 15.01).abs() < 0.05, "{level:?}");
        assert_eq!(meter.take(), Level::SILENCE);
    }

    #[test]
    fn silence_has_a_floor_and_not_minus_infinity() {
        assert_eq!(Level::of(&[0.0; 480]), Level::SILENCE);
        assert_eq!(Level::of(&[1.0, -1.0]), Level { peak_dbfs: 0.0, rms_dbfs: 0.0 });
    }
}
