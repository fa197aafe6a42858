//! A room with a speaker and a microphone in it, for tests and benchmarks of echo cancellation.

use std::time::Duration;

use visavis_media::AUDIO_RATE_HZ;
use visavis_media::audio::level::Level;

use crate::speech::Random;

/// How sound from the speaker reaches the microphone.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// Seed of the reflections.
    pub seed: u64,
    /// From the sample being handed to the speaker to it being heard: buffers and air.
    pub delay: Duration,
    /// Level of the echo against what was played, dB.
    pub echo_db: f32,
    /// How long reverberation takes to fall by 60 dB.
    pub reverberation: Duration,
    /// By how much the speaker's clock is fast against the microphone's, parts per million.
    pub drift_ppm: f64,
}

impl Room {
    /// What the microphone hears of `played` (48 kHz mono), of the same length.
    pub fn echo(&self, played: &[f32]) -> Vec<f32> {
        let response = self.response();
        let delay = self.delay.as_secs_f64() * f64::from(AUDIO_RATE_HZ);
        // The speaker's samples at the microphone's times.
        let heard: Vec<f32> = (0..played.len())
            .map(|n| {
                let at = (n as f64 - delay) * (1.0 + self.drift_ppm * 1e-6);
                if at < 1.0 { 0.0 } else { interpolate(played, at) }
            })
            .collect();
        let mut low = 0.0;
        let mut echo: Vec<f32> = (0..heard.len())
            .map(|n| {
                let arrived = response.iter().take_while(|tap| tap.0 <= n);
                let sum: f32 = arrived.map(|(late, strength)| heard[n - late] * strength).sum();
                // Small speakers and plaster take the treble.
                low += 0.5 * (sum - low);
                low
            })
            .collect();
        let gain_db = Level::of(played).rms_dbfs + self.echo_db - Level::of(&echo).rms_dbfs;
        let gain = 10_f32.powf(gain_db / 20.0);
        echo.iter_mut().for_each(|s| *s *= gain);
        echo
    }

    /// Direct sound, then reflections that decay: lateness in samples, strength.
    fn response(&self) -> Vec<(usize, f32)> {
        let mut random = Random::new(self.seed);
        let decay = self.reverberation.as_secs_f32() * AUDIO_RATE_HZ as f32;
        let mut response = vec![(0, 1.0)];
        // To 30 dB down, which is where a room's noise begins.
        response.extend((1..(decay / 2.0) as usize).filter_map(|late| {
            let there = random.noise() > REFLECTIONS;
            let strength = random.noise() * 0.4 * 10_f32.powf(-3.0 * late as f32 / decay);
            there.then_some((late, strength))
        }));
        response
    }
}

/// Three of a hundred samples are reflections.
const REFLECTIONS: f32 = 0.94;

/// Steady noise at an RMS of `level_dbfs`, darker than white as that of fans is.
pub fn noise(seed: u64, level_dbfs: f32, samples: usize) -> Vec<f32> {
    let mut random = Random::new(seed);
    let mut low = 0.0;
    let mut noise: Vec<f32> = (0..samples)
        .map(|_| {
            low += 0.15 * (random.noise() - low);
            low
        })
        .collect();
    let gain = 10_f32.powf((level_dbfs - Level::of(&noise).rms_dbfs) / 20.0);
    noise.iter_mut().for_each(|s| *s *= gain);
    noise
}

/// Cubic (Catmull-Rom) between samples; silence outside.
fn interpolate(samples: &[f32], at: f64) -> f32 {
    let base = at.floor();
    let x = (at - base) as f32;
    let get = |offset: isize| {
        (base as isize + offset).try_into().ok().and_then(|i: usize| samples.get(i)).copied()
    };
    let [a, b, c, d] = [-1, 0, 1, 2].map(|offset| get(offset).unwrap_or(0.0));
    let quad = 2.0 * a - 5.0 * b + 4.0 * c - d;
    let cube = 3.0 * (b - c) + d - a;
    b + 0.5 * x * ((c - a) + x * (quad + x * cube))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_echo_comes_late_quieter_and_drifts() {
        let mut played = vec![0.0; 96_000];
        for at in [1_000, 91_000] {
            played[at] = 1.0;
        }
        let mut room = Room {
            seed: 1,
            delay: Duration::from_millis(100),
            echo_db: -10.0,
            reverberation: Duration::from_millis(200),
            drift_ppm: 0.0,
        };
        let loudest = |echo: &[f32], range: std::ops::Range<usize>| {
            let start = range.start;
            let strongest = echo[range].iter().map(|s| s.abs()).enumerate();
            start + strongest.max_by(|a, b| a.1.total_cmp(&b.1)).map_or(0, |(n, _)| n)
        };
        let echo = room.echo(&played);
        assert!((5_800..5_803).contains(&loudest(&echo, 0..90_000)));
        assert!((95_800..95_803).contains(&loudest(&echo, 90_000..96_000)));
        let level = Level::of(&echo).rms_dbfs - Level::of(&played).rms_dbfs;
        assert!((level + 10.0).abs() < 0.01, "{level}");
        room.drift_ppm = 200.0;
        // Fast by 200 ppm for 1.9 s: 18 samples early.
        let early = 95_801_i64 - loudest(&room.echo(&played), 90_000..96_000) as i64;
        assert!((16..=20).contains(&early), "{early}");
    }
}
