//! Where one sound is in another: their cross spectrum over a while, whitened.

use std::ops::Range;
use std::sync::Arc;

use realfft::num_complex::Complex32;
use realfft::{ComplexToReal, RealFftPlanner, RealToComplex};

/// Correlates lines of one length, round and round; nothing is allocated once it is made.
pub(super) struct Correlator {
    forward: Arc<dyn RealToComplex<f32>>,
    inverse: Arc<dyn ComplexToReal<f32>>,
    time: Vec<f32>,
    played: Vec<Complex32>,
    heard: Vec<Complex32>,
    cross: Vec<Complex32>,
    scratch: Vec<Complex32>,
}

impl Correlator {
    pub(super) fn new(length: usize) -> Self {
        let mut planner = RealFftPlanner::new();
        let forward = planner.plan_fft_forward(length);
        let inverse = planner.plan_fft_inverse(length);
        let scratch = forward.get_scratch_len().max(inverse.get_scratch_len());
        let bins = || vec![Complex32::default(); length / 2 + 1];
        Self {
            forward,
            inverse,
            time: vec![0.0; length],
            played: bins(),
            heard: bins(),
            cross: bins(),
            scratch: vec![Complex32::default(); scratch],
        }
    }

    pub(super) fn forget(&mut self) {
        self.cross.fill(Complex32::default());
    }

    /// Adds two lines to `keep` of what was there. Only `bins` count, each by what `weight` says of it and of both
    /// spectra.
    pub(super) fn add(
        &mut self,
        played: &[f32],
        heard: &[f32],
        keep: f32,
        bins: Range<usize>,
        weight: impl Fn(usize, &[Complex32], &[Complex32]) -> f32,
    ) {
        let scratch = &mut self.scratch[..self.forward.get_scratch_len()];
        for (line, spectrum) in [(played, &mut self.played), (heard, &mut self.heard)] {
            self.time.copy_from_slice(line);
            let _ = self.forward.process_with_scratch(&mut self.time, spectrum, scratch);
        }
        for k in bins {
            let product = self.played[k].conj() * self.heard[k];
            let weight = weight(k, &self.played, &self.heard);
            let whitened = product * weight / (product.norm().powf(WHITENING) + 1e-3);
            self.cross[k] = self.cross[k] * keep + whitened;
        }
    }

    /// How alike they are where `heard` is later by each number of samples; negative ones are at the end.
    pub(super) fn lags(&mut self) -> &[f32] {
        self.heard.copy_from_slice(&self.cross);
        let scratch = &mut self.scratch[..self.inverse.get_scratch_len()];
        let _ = self.inverse.process_with_scratch(&mut self.heard, &mut self.time, scratch);
        &self.time
    }
}

/// 1 is the phase transform, which weighs all frequencies alike.
const WHITENING: f32 = 0.85;
