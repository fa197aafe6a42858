//! Speech that needs no recording: a formant synthesizer that babbles, for tests and benchmarks of
//! what only speech can judge (echo cancellation, intelligibility, voice activity).
//!
//! Glottal pulses and noise through a cascade of resonators, after D. H. Klatt, "Software for a
//! cascade/parallel formant synthesizer", JASA 67(3), 1980; vowels as measured by G. E. Peterson
//! and H. L. Barney, JASA 24(2), 1952. The same seed gives the same samples everywhere.

use std::f32::consts::TAU;

use visavis_media::AUDIO_RATE_HZ;

/// An endless talker, mono at 48 kHz: phrases of a few syllables with pauses between them, peaks
/// near -6 dBFS, about -25 dBFS RMS. No allocation; one thread at a time.
#[derive(Debug, Clone)]
pub struct Talker {
    random: Random,
    pitch_hz: f32,
    /// Length of the vocal tract against that of the measured men: higher for shorter ones.
    tract: f32,
    syllables_left: u32,
    sound: Sound,
    /// Samples of `sound` left, and its whole length.
    left: u32,
    length: u32,
    /// Where the formants come from and go to, Hz.
    from: [f32; 3],
    to: [f32; 3],
    resonators: [Resonator; 4],
    fricative: Resonator,
    /// Position within the glottal period, 0 to 1, and this period's pitch.
    phase: f32,
    period_hz: f32,
    previous_flow: f32,
    /// Time into the phrase, samples.
    spoken: u32,
    voicing: f32,
}

/// What is being said.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Sound {
    Pause,
    /// Closure of a stop: nearly silent.
    Closure,
    /// Noise at a frequency, Hz.
    Fricative(f32),
    Vowel,
}

/// First three formants of ten vowels of men, Hz (Peterson and Barney, table II).
const VOWELS: [[f32; 3]; 10] = [
    [270.0, 2290.0, 3010.0],
    [390.0, 1990.0, 2550.0],
    [530.0, 1840.0, 2480.0],
    [660.0, 1720.0, 2410.0],
    [730.0, 1090.0, 2440.0],
    [570.0, 840.0, 2410.0],
    [440.0, 1020.0, 2240.0],
    [300.0, 870.0, 2240.0],
    [640.0, 1190.0, 2390.0],
    [490.0, 1350.0, 1690.0],
];
const BANDWIDTHS_HZ: [f32; 4] = [60.0, 90.0, 150.0, 250.0];
const FOURTH_HZ: f32 = 3500.0;
const RATE: f32 = AUDIO_RATE_HZ as f32;

impl Talker {
    /// A talker with a voice of about `pitch_hz` (men 110, women 210).
    pub fn new(seed: u64, pitch_hz: f32) -> Self {
        let tract = if pitch_hz > 160.0 { 1.17 } else { 1.0 };
        Self {
            random: Random(seed.wrapping_mul(2).wrapping_add(1)),
            pitch_hz,
            tract,
            syllables_left: 0,
            sound: Sound::Pause,
            left: 0,
            length: 1,
            from: VOWELS[8],
            to: VOWELS[8],
            resonators: [Resonator::default(); 4],
            fricative: Resonator::default(),
            phase: 0.0,
            period_hz: pitch_hz,
            previous_flow: 0.0,
            spoken: 0,
            voicing: 0.0,
        }
    }

    /// Fills `out` with what is said next.
    pub fn speak(&mut self, out: &mut [f32]) {
        for sample in out {
            *sample = self.next_sample();
        }
    }

    /// The next `seconds` of talk.
    pub fn take(&mut self, seconds: f32) -> Vec<f32> {
        let mut samples = vec![0.0; (seconds * RATE) as usize];
        self.speak(&mut samples);
        samples
    }

    fn next_sample(&mut self) -> f32 {
        if self.left == 0 {
            self.next_sound();
        }
        let along = 1.0 - self.left as f32 / self.length as f32;
        self.left -= 1;
        self.spoken += 1;
        // Coefficients follow the gliding formants every 2 ms.
        if self.left.is_multiple_of(96) {
            self.tune(along);
        }
        let target = if self.sound == Sound::Vowel { 1.0 } else { 0.0 };
        self.voicing += (target - self.voicing) * 0.004;
        let flow = self.glottis();
        // Radiation at the lips differentiates.
        let mut voice = flow - self.previous_flow;
        self.previous_flow = flow;
        let breath = self.random.noise();
        voice = voice * 8.0 + breath * 0.002;
        for resonator in &mut self.resonators {
            voice = resonator.next(voice);
        }
        let hiss = match self.sound {
            Sound::Fricative(_) => {
                // Rises and falls.
                let edge = (along * 4.0).min((1.0 - along) * 4.0).min(1.0);
                self.fricative.next(breath * edge) * 0.35
            }
            _ => self.fricative.next(0.0) * 0.35,
        };
        (0.4 * voice * self.voicing + 0.45 * hiss).clamp(-0.9, 0.9)
    }

    fn next_sound(&mut self) {
        let ms = |random: &mut Random, low: f32, high: f32| {
            (random.between(low, high) * RATE / 1000.0) as u32
        };
        let (sound, length) = match self.sound {
            Sound::Pause | Sound::Vowel
                if self.syllables_left == 0 && self.sound != Sound::Pause =>
            {
                (Sound::Pause, ms(&mut self.random, 250.0, 700.0))
            }
            Sound::Pause | Sound::Vowel => {
                if self.sound == Sound::Pause {
                    self.syllables_left = 4 + (self.random.between(0.0, 7.0) as u32);
                    self.spoken = 0;
                }
                match self.random.between(0.0, 3.0) as u32 {
                    0 => (Sound::Closure, ms(&mut self.random, 35.0, 70.0)),
                    1 => {
                        let hz = self.random.between(2200.0, 6500.0);
                        (Sound::Fricative(hz), ms(&mut self.random, 60.0, 120.0))
                    }
                    _ => self.vowel(),
                }
            }
            Sound::Closure | Sound::Fricative(_) => self.vowel(),
        };
        if let Sound::Fricative(hz) = sound {
            self.fricative.set(hz, 900.0);
        }
        (self.sound, self.left, self.length) = (sound, length.max(1), length.max(1));
        self.tune(0.0);
    }

    fn vowel(&mut self) -> (Sound, u32) {
        self.syllables_left = self.syllables_left.saturating_sub(1);
        self.from = self.to;
        let choice = self.random.between(0.0, VOWELS.len() as f32) as usize;
        self.to = VOWELS[choice.min(VOWELS.len() - 1)].map(|f| f * self.tract);
        let length = self.random.between(90.0, 220.0) * RATE / 1000.0;
        (Sound::Vowel, length as u32)
    }

    fn tune(&mut self, along: f32) {
        // The glide takes the first third.
        let mix = (along * 3.0).min(1.0);
        for (index, resonator) in self.resonators.iter_mut().enumerate() {
            let hz = match self.from.get(index).zip(self.to.get(index)) {
                Some((from, to)) => from + (to - from) * mix,
                None => FOURTH_HZ * self.tract,
            };
            resonator.set(hz, BANDWIDTHS_HZ[index]);
        }
    }

    /// Flow through the glottis: Rosenberg's pulse, open for 60 % of the period.
    fn glottis(&mut self) -> f32 {
        self.phase += self.period_hz / RATE;
        if self.phase >= 1.0 {
            self.phase -= 1.0;
            // Pitch falls over a phrase, moves with the syllables, and jitters.
            let seconds = self.spoken as f32 / RATE;
            let melody = 1.1 - 0.12 * seconds.min(2.0) + 0.08 * (TAU * 2.3 * seconds).sin();
            self.period_hz = self.pitch_hz * melody * (1.0 + 0.01 * self.random.noise());
        }
        match self.phase {
            p if p < 0.4 => 0.5 - 0.5 * (p / 0.4 * TAU / 2.0).cos(),
            p if p < 0.6 => ((p - 0.4) / 0.2 * TAU / 4.0).cos(),
            _ => 0.0,
        }
    }
}

/// Two-pole resonator with unity gain at 0 Hz (Klatt's equation 1).
#[derive(Debug, Clone, Copy, Default)]
struct Resonator {
    a: f32,
    b: f32,
    c: f32,
    y1: f32,
    y2: f32,
}

impl Resonator {
    fn set(&mut self, hz: f32, bandwidth_hz: f32) {
        let r = (-TAU / 2.0 * bandwidth_hz / RATE).exp();
        self.c = -r * r;
        self.b = 2.0 * r * (TAU * hz / RATE).cos();
        self.a = 1.0 - self.b - self.c;
    }

    fn next(&mut self, x: f32) -> f32 {
        let y = self.a * x + self.b * self.y1 + self.c * self.y2;
        (self.y2, self.y1) = (self.y1, y);
        y
    }
}

/// A repeatable source of chance: xorshift64*.
#[derive(Debug, Clone, Copy)]
pub struct Random(u64);

impl Random {
    /// The same numbers for the same seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(2).wrapping_add(1))
    }

    /// Uniform from -1 to 1.
    pub fn noise(&mut self) -> f32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 40;
        bits as f32 / (1 << 23) as f32 - 1.0
    }

    fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * (0.5 + 0.5 * self.noise()).clamp(0.0, 0.999_999)
    }
}

#[cfg(test)]
mod tests {
    use visavis_media::audio::level::Level;

    use super::*;

    #[test]
    fn talk_is_loud_enough_has_pauses_and_is_the_same_each_time() {
        let talk = Talker::new(1, 120.0).take(10.0);
        assert_eq!(talk, Talker::new(1, 120.0).take(10.0));
        assert_ne!(talk, Talker::new(2, 120.0).take(10.0));
        let levels: Vec<f32> = talk.chunks(4800).map(|c| Level::of(c).rms_dbfs).collect();
        let loud = levels.iter().filter(|l| **l > -35.0).count();
        let quiet = levels.iter().filter(|l| **l < -50.0).count();
        assert!((50..95).contains(&loud), "{loud} of 100 stretches are loud");
        assert!(quiet > 4, "{quiet} of 100 stretches are quiet");
        let level = Level::of(&talk);
        assert!((-29.0..-19.0).contains(&level.rms_dbfs), "{level:?}");
        assert!((-12.0..-0.9).contains(&level.peak_dbfs), "{level:?}");
    }
}
