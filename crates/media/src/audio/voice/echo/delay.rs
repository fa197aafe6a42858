//! Where in the reference the echo is: a search over half a second.

use std::f32::consts::PI;

use super::correlator::Correlator;
use super::reference::{COARSE, Reference};
use super::spectrum::BLOCK;

/// Every twelfth sample after a low-pass filter: 4 kHz.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Decimator {
    sections: [[f32; 2]; 2],
}

impl Decimator {
    pub(super) fn process(&mut self, block: &[f32], out: &mut [f32; COARSE]) {
        // Butterworth of fourth order at 1.5 kHz.
        let w = 2.0 * PI * 1500.0 / 48_000.0;
        let (sin, cos) = w.sin_cos();
        let coefficients = [0.541_196_1, 1.306_563].map(|q| {
            let alpha = sin / (2.0 * q);
            let a0 = 1.0 + alpha;
            let b = (1.0 - cos) / 2.0 / a0;
            [b, -2.0 * cos / a0, (1.0 - alpha) / a0]
        });
        let step = BLOCK / COARSE;
        for (n, sample) in block.iter().enumerate() {
            let mut x = *sample;
            for ([b, a1, a2], state) in coefficients.iter().zip(&mut self.sections) {
                let y = b * x + state[0];
                state[0] = 2.0 * b * x - a1 * y + state[1];
                state[1] = b * x - a2 * y;
                x = y;
            }
            if n.is_multiple_of(step)
                && let Some(slot) = out.get_mut(n / step)
            {
                *slot = x;
            }
        }
    }
}

/// Where the echo is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    /// Blocks by which it is later than what is played.
    pub(super) delay: f32,
    /// Its power as a share of what is played; absent unless most of what is heard is that echo, and
    /// that by one path.
    pub(super) loudness: Option<f32>,
}

pub(super) struct DelayFinder {
    decimator: Decimator,
    /// Silence, then the microphone's last half a second.
    heard: Box<[f32; LENGTH]>,
    /// The reference's last second.
    played: Box<[f32; LENGTH]>,
    count: usize,
    correlator: Correlator,
    found: Option<f32>,
}

impl DelayFinder {
    pub(super) fn new() -> Self {
        Self {
            decimator: Decimator::default(),
            heard: Box::new([0.0; LENGTH]),
            played: Box::new([0.0; LENGTH]),
            count: 0,
            correlator: Correlator::new(LENGTH),
            found: None,
        }
    }

    /// Takes a block from the microphone. Once in a while it says where the echo is, against the
    /// reference's block `newest`.
    pub(super) fn process(
        &mut self,
        block: &[f32; BLOCK],
        reference: &Reference,
        newest: i64,
    ) -> Option<Found> {
        self.heard.copy_within(SEGMENT + COARSE.., SEGMENT);
        let mut coarse = [0.0; COARSE];
        self.decimator.process(block, &mut coarse);
        self.heard[LENGTH - COARSE..].copy_from_slice(&coarse);
        self.count += 1;
        if !self.count.is_multiple_of(LOOK_EVERY) {
            return None;
        }
        self.look(reference, newest)
    }

    /// The reference is another one.
    pub(super) fn forget(&mut self) {
        self.correlator.forget();
        self.found = None;
    }

    fn look(&mut self, reference: &Reference, newest: i64) -> Option<Found> {
        self.read(reference, newest);
        let energy: f32 = self.played.iter().map(|s| s * s).sum();
        if energy < LENGTH as f32 * AUDIBLE {
            return None;
        }
        let bins = 1..LENGTH / 2;
        self.correlator.add(&self.played[..], &self.heard[..], KEEP, bins, |_, _, _| 1.0);
        let lags = &self.correlator.lags()[..SEGMENT];
        let (mut best, mut peak, mut sum) = (0, 0.0, 0.0);
        for (lag, value) in lags.iter().enumerate() {
            sum += value * value;
            if value.abs() > peak {
                (best, peak) = (lag, value.abs());
            }
        }
        let rms = (sum / SEGMENT as f32).sqrt();
        if peak < CLEAR * rms {
            return None;
        }
        let delay = best as f32 / COARSE as f32;
        // Twice alike, or it is chance.
        let sure = self.found.is_some_and(|found| (found - delay).abs() < 0.5);
        self.found = Some(delay);
        sure.then(|| {
            let played = &self.played[LENGTH - SEGMENT - best..];
            let loudness = loudness(played, &self.heard[LENGTH - SEGMENT..]);
            Found { delay, loudness }
        })
    }

    /// The reference's last second, up to its block `newest`.
    fn read(&mut self, reference: &Reference, newest: i64) {
        self.played.fill(0.0);
        for age in 0..LENGTH / COARSE {
            if let Some(coarse) = reference.coarse(newest - age as i64) {
                let end = LENGTH - age * COARSE;
                self.played[end - COARSE..end].copy_from_slice(coarse);
            }
        }
    }
}

/// See [`Found::loudness`]: the projection of what is heard on what was played at that time.
fn loudness(played: &[f32], heard: &[f32]) -> Option<f32> {
    let (mut both, mut x, mut d) = (0.0, 0.0, 0.0);
    for (played, heard) in played.iter().zip(heard) {
        both += played * heard;
        x += played * played;
        d += heard * heard;
    }
    let plain = x > heard.len() as f32 * AUDIBLE && both * both > ONE_PATH * x * d;
    plain.then(|| both * both / (x * x))
}

/// Samples at 4 kHz: half a second of the microphone against a second of the speaker.
const SEGMENT: usize = 2048;
const LENGTH: usize = 2 * SEGMENT;
/// Blocks.
const LOOK_EVERY: usize = 20;
/// What is kept of earlier looks.
const KEEP: f32 = 0.6;
/// A peak against the rest.
const CLEAR: f32 = 7.0;
/// Share of what is heard that the echo must be, as it comes by one path.
const ONE_PATH: f32 = 0.5;
/// Power of a reference that can be found, in squares of 16-bit samples: -60 dBFS.
const AUDIBLE: f32 = 1000.0;
