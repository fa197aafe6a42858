//! Whether the echo has slipped: a sound system that ran dry plays on a little later, with the same room around it.
//! Then what the filter knows is right at another time, and is found again by where its estimate is in what is heard.

use std::sync::Arc;

use realfft::num_complex::Complex32;
use realfft::{ComplexToReal, RealFftPlanner, RealToComplex};

use super::spectrum::BLOCK;

pub(super) struct SlipFinder {
    heard: Box<[f32; LENGTH]>,
    echo: Box<[f32; LENGTH]>,
    count: usize,
    forward: Arc<dyn RealToComplex<f32>>,
    inverse: Arc<dyn ComplexToReal<f32>>,
    time: Vec<f32>,
    heard_bins: Vec<Complex32>,
    echo_bins: Vec<Complex32>,
    cross: Vec<Complex32>,
    scratch: Vec<Complex32>,
    /// Where it seemed to be lately, and at which block.
    seen: Option<(f32, usize)>,
}

impl SlipFinder {
    pub(super) fn new() -> Self {
        let mut planner = RealFftPlanner::new();
        let forward = planner.plan_fft_forward(LENGTH);
        let inverse = planner.plan_fft_inverse(LENGTH);
        let scratch = forward.get_scratch_len().max(inverse.get_scratch_len());
        let bins = || vec![Complex32::default(); LENGTH / 2 + 1];
        Self {
            heard: Box::new([0.0; LENGTH]),
            echo: Box::new([0.0; LENGTH]),
            count: 0,
            forward,
            inverse,
            time: vec![0.0; LENGTH],
            heard_bins: bins(),
            echo_bins: bins(),
            cross: bins(),
            scratch: vec![Complex32::default(); scratch],
            seen: None,
        }
    }

    /// Takes a block from the microphone and the filter's estimate of the echo in it. Once in a while it says
    /// by how many samples the echo is later than the filter has it.
    pub(super) fn process(&mut self, heard: &[f32; BLOCK], echo: &[f32; BLOCK]) -> Option<f32> {
        for (line, block) in [(&mut self.heard, heard), (&mut self.echo, echo)] {
            line.copy_within(BLOCK.., 0);
            line[LENGTH - BLOCK..].copy_from_slice(block);
        }
        self.count += 1;
        if !self.count.is_multiple_of(LOOK_EVERY) {
            return None;
        }
        let samples = self.look()?;
        // Twice alike, or it is chance.
        let seen = self.seen.replace((samples, self.count));
        seen.filter(|(seen, at)| (seen - samples).abs() < 1.5 && self.count - at <= REMEMBERED)?;
        self.seen = None;
        self.cross.fill(Complex32::default());
        // Of before.
        self.echo.fill(0.0);
        Some(samples)
    }

    fn look(&mut self) -> Option<f32> {
        let (mut echo, mut error) = (0.0, 0.0);
        for (d, y) in self.heard.iter().zip(self.echo.iter()) {
            echo += y * y;
            error += (d - y) * (d - y);
        }
        if echo < LENGTH as f32 * AUDIBLE || error < RIGHT * echo {
            return None;
        }
        for (line, bins) in [(&self.heard, &mut self.heard_bins), (&self.echo, &mut self.echo_bins)]
        {
            self.time.copy_from_slice(&line[..]);
            let scratch = &mut self.scratch[..self.forward.get_scratch_len()];
            let _ = self.forward.process_with_scratch(&mut self.time, bins, scratch);
        }
        for k in TOLD_BY {
            let product = self.echo_bins[k].conj() * self.heard_bins[k];
            // Bins count by how far the echo stands out of the near end around them.
            let power = |bins: &[Complex32]| {
                bins[k - AROUND..=k + AROUND].iter().map(Complex32::norm_sqr).sum::<f32>()
            };
            let (echo, heard) = (power(&self.echo_bins), power(&self.heard_bins));
            let weight = (echo / (heard + 1.0)).min(1.0) / (product.norm().powf(WHITENING) + 1.0);
            self.cross[k] = self.cross[k] * KEEP + product * weight;
        }
        self.echo_bins.copy_from_slice(&self.cross);
        let scratch = &mut self.scratch[..self.inverse.get_scratch_len()];
        let _ = self.inverse.process_with_scratch(&mut self.echo_bins, &mut self.time, scratch);
        let at = |lag: isize| self.time[lag.rem_euclid(LENGTH as isize) as usize];
        let (mut best, mut peak, mut sum) = (0, 0.0, 0.0);
        for lag in -FARTHEST..=FARTHEST {
            let value = at(lag);
            sum += value * value;
            if value > peak {
                (best, peak) = (lag, value);
            }
        }
        let rms = (sum / (2 * FARTHEST + 1) as f32).sqrt();
        if best.abs() < LEAST || peak < CLEAR * rms || peak < CLEARER * at(0) {
            return None;
        }
        // The peak of a parabola through its neighbours.
        let (before, after) = (at(best - 1), at(best + 1));
        let bend = before - 2.0 * peak + after;
        let beside = if bend < 0.0 { 0.5 * (before - after) / bend } else { 0.0 };
        Some(best as f32 + beside)
    }
}

/// Samples that are compared, 171 ms, and how far the echo may have slipped, 43 ms.
const LENGTH: usize = 8192;
const FARTHEST: isize = 2048;
/// Blocks.
const LOOK_EVERY: usize = 10;
/// Blocks.
const REMEMBERED: usize = 30;
/// What is kept of earlier looks.
const KEEP: f32 = 0.5;
/// 1 is the phase transform, which weighs all frequencies alike.
const WHITENING: f32 = 0.85;
/// Bins on either side.
const AROUND: usize = 8;
/// Bins of 100 Hz to 8 kHz.
const TOLD_BY: std::ops::Range<usize> = 17..1366;
/// A smaller slip is the alignment's.
const LEAST: isize = 10;
/// Share of the estimate that the error is while the estimate is right and nobody else talks.
const RIGHT: f32 = 0.1;
/// A peak against the rest.
const CLEAR: f32 = 9.0;
/// And against the estimate as it is, which may have learnt of the slip already.
const CLEARER: f32 = 1.15;
/// Power of an estimate that can be found, in squares of 16-bit samples: -60 dBFS.
const AUDIBLE: f32 = 1000.0;
