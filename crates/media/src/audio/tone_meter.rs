//! Whether a tone is heard, and which: for tests and the headless peer's report.

use crate::frame::AUDIO_RATE_HZ;

/// Finds the tone in the last second of 48 kHz sound.
#[derive(Debug, Clone, Default)]
pub struct ToneMeter {
    /// The last second at [`WORK_RATE_HZ`], and up to another before it.
    history: Vec<f32>,
    decimated: f32,
    phase: usize,
}

impl ToneMeter {
    /// Nothing heard yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes samples at [`AUDIO_RATE_HZ`].
    pub fn push(&mut self, samples: &[f32]) {
        for &sample in samples {
            // The mean of a few samples is filter enough: what it lets through of the band above
            // is no sine below.
            self.decimated += sample;
            self.phase += 1;
            if self.phase == DECIMATION {
                self.history.push(self.decimated / DECIMATION as f32);
                (self.phase, self.decimated) = (0, 0.0);
            }
        }
        // Once a second, so that not all of it is moved with every push.
        if self.history.len() >= 2 * SECOND {
            self.history.drain(..self.history.len() - SECOND);
        }
    }

    /// What [`dominant_frequency`] looks at: the last second, at the rate that is returned.
    pub fn last_second(&self) -> (&[f32], u32) {
        (&self.history[self.history.len().saturating_sub(SECOND)..], WORK_RATE_HZ)
    }

    /// Frequency of the tone in the last second, Hz, between 60 and 4000; `None` if none stands out
    /// of the rest or too little was heard.
    pub fn tone_hz(&self) -> Option<f32> {
        let (samples, rate_hz) = self.last_second();
        dominant_frequency(samples, rate_hz)
    }
}

/// Frequency, Hz, of the sine that makes up most of `samples`; `None` if none does. At least 100 ms
/// are needed.
pub fn dominant_frequency(samples: &[f32], rate_hz: u32) -> Option<f32> {
    if samples.len() < rate_hz as usize / 10 {
        return None;
    }
    let mean = samples.iter().sum::<f32>() / samples.len() as f32;
    let energy: f32 = samples.iter().map(|s| (s - mean) * (s - mean)).sum();
    if energy / (samples.len() as f32) < MIN_POWER {
        return None;
    }
    // Rising zero crossings, interpolated; a sine has them at equal distances.
    let crossings: Vec<f32> = samples
        .windows(2)
        .enumerate()
        .filter(|(_, w)| w[0] < mean && w[1] >= mean)
        .map(|(i, w)| i as f32 + (mean - w[0]) / (w[1] - w[0]))
        .collect();
    let (&first, &last) = (crossings.first()?, crossings.last()?);
    let mut periods: Vec<f32> = crossings.windows(2).map(|w| w[1] - w[0]).collect();
    if last <= first || periods.len() < 4 {
        return None;
    }
    // The median is not moved by a click or a concealed packet; the mean around it is exact.
    periods.sort_unstable_by(f32::total_cmp);
    let median = periods[periods.len() / 2];
    let regular: Vec<f32> =
        periods.iter().copied().filter(|p| (p - median).abs() < 0.1 * median).collect();
    let coarse = rate_hz as f32 / (regular.iter().sum::<f32>() / regular.len() as f32);
    if !(MIN_TONE_HZ..=MAX_TONE_HZ).contains(&coarse) {
        return None;
    }
    // Purity: the share of the energy at that frequency, over pieces short enough for their phases
    // to differ and for the frequency to be a little off.
    let piece = (rate_hz as usize / 20).min(samples.len());
    let at_tone: f32 = samples
        .chunks_exact(piece)
        .map(|chunk| goertzel(chunk, mean, coarse / rate_hz as f32))
        .sum();
    let covered = (samples.len() / piece * piece) as f32 / samples.len() as f32;
    (at_tone > MIN_PURITY * energy * covered).then_some(coarse)
}

/// Energy of the sine of `frequency` (parts of the sample rate) in `samples`.
fn goertzel(samples: &[f32], mean: f32, frequency: f32) -> f32 {
    let omega = std::f64::consts::TAU * f64::from(frequency);
    let coefficient = 2.0 * omega.cos();
    let (mut previous, mut before) = (0.0f64, 0.0f64);
    for &sample in samples {
        let next = f64::from(sample - mean) + coefficient * previous - before;
        (before, previous) = (previous, next);
    }
    let power = previous * previous + before * before - coefficient * previous * before;
    (2.0 * power / samples.len() as f64) as f32
}

/// Samples made into one.
const DECIMATION: usize = 3;
const WORK_RATE_HZ: u32 = AUDIO_RATE_HZ / DECIMATION as u32;
const SECOND: usize = WORK_RATE_HZ as usize;
const MIN_TONE_HZ: f32 = 60.0;
const MAX_TONE_HZ: f32 = 4000.0;
/// Share of the energy that a tone must have.
const MIN_PURITY: f32 = 0.7;
/// -70 dBFS: below, there is nothing to name.
const MIN_POWER: f32 = 1e-7;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::frame::MediaTime;
    use crate::synthetic::Tone;

    fn noise(count: usize) -> Vec<f32> {
        let mut state = 0x1234_5678u32;
        (0..count)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect()
    }

    fn heard(samples: &[f32]) -> Option<f32> {
        let mut meter = ToneMeter::new();
        samples.chunks(479).for_each(|c| meter.push(c));
        meter.tone_hz()
    }

    fn tone(frequency: f64) -> Vec<f32> {
        let mut tone = Tone::new(frequency, -20.0);
        (0..150).flat_map(|_| tone.next_frame(MediaTime::default()).samples).collect()
    }

    #[test]
    fn tones_are_named_within_a_hertz() {
        for frequency in [80.0, 440.0, 445.3, 1000.0, 3500.0] {
            let found = heard(&tone(frequency)).unwrap();
            assert!(
                (f64::from(found) - frequency).abs() < frequency * 0.002 + 0.5,
                "{found} for {frequency}"
            );
        }
    }

    #[test]
    fn a_tone_in_light_noise_or_with_a_dropout_is_still_found() {
        let mut samples: Vec<f32> =
            tone(440.0).iter().zip(noise(72_000)).map(|(t, n)| t + 0.01 * n).collect();
        samples[40_000..41_000].fill(0.0);
        let found = heard(&samples).unwrap();
        assert!((found - 440.0).abs() < 3.0, "{found}");
    }

    #[test]
    fn noise_silence_and_two_tones_have_no_tone() {
        assert_eq!(heard(&noise(72_000)), None);
        assert_eq!(heard(&vec![0.0; 72_000]), None);
        assert_eq!(heard(&[]), None);
        let two: Vec<f32> = tone(440.0).iter().zip(tone(730.0)).map(|(a, b)| a + b).collect();
        assert_eq!(heard(&two), None);
    }
}
