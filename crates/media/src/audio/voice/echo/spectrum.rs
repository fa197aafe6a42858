//! Spectra of two blocks, in the layout that vectorizes: real and imaginary parts apart.

use std::sync::Arc;

use realfft::num_complex::Complex32;
use realfft::{ComplexToReal, RealFftPlanner, RealToComplex};

use crate::frame::AUDIO_FRAME_SAMPLES;

/// Samples of a block: 10 ms.
pub(super) const BLOCK: usize = AUDIO_FRAME_SAMPLES;
/// Bins of the transform of two blocks, 50 Hz apart.
pub(super) const BINS: usize = BLOCK + 1;

#[derive(Debug, Clone)]
pub(super) struct Spectrum {
    pub(super) re: [f32; BINS],
    pub(super) im: [f32; BINS],
}

impl Default for Spectrum {
    fn default() -> Self {
        Self { re: [0.0; BINS], im: [0.0; BINS] }
    }
}

impl Spectrum {
    pub(super) fn add_product(&mut self, a: &Self, b: &Self) {
        for k in 0..BINS {
            self.re[k] += a.re[k] * b.re[k] - a.im[k] * b.im[k];
            self.im[k] += a.re[k] * b.im[k] + a.im[k] * b.re[k];
        }
    }

    /// Energy of each of the two blocks, were they alike.
    pub(super) fn block_energy(&self) -> f32 {
        (0..BINS).map(|k| self.power(k)).sum::<f32>() / (2 * BLOCK) as f32
    }

    pub(super) fn power(&self, k: usize) -> f32 {
        self.re[k] * self.re[k] + self.im[k] * self.im[k]
    }
}

/// Transforms of two blocks, without allocation once made.
pub(super) struct Fourier {
    forward: Arc<dyn RealToComplex<f32>>,
    inverse: Arc<dyn ComplexToReal<f32>>,
    time: Box<[f32; 2 * BLOCK]>,
    bins: Box<[Complex32; BINS]>,
    scratch: Vec<Complex32>,
}

impl Fourier {
    pub(super) fn new() -> Self {
        let mut planner = RealFftPlanner::new();
        let forward = planner.plan_fft_forward(2 * BLOCK);
        let inverse = planner.plan_fft_inverse(2 * BLOCK);
        let scratch = forward.get_scratch_len().max(inverse.get_scratch_len());
        Self {
            forward,
            inverse,
            time: Box::new([0.0; 2 * BLOCK]),
            bins: Box::new([Complex32::default(); BINS]),
            scratch: vec![Complex32::default(); scratch],
        }
    }

    pub(super) fn forward(&mut self, time: &[f32; 2 * BLOCK], spectrum: &mut Spectrum) {
        self.time.copy_from_slice(time);
        let scratch = &mut self.scratch[..self.forward.get_scratch_len()];
        // Only wrong lengths fail, and all come from the plan.
        let _ = self.forward.process_with_scratch(&mut self.time[..], &mut self.bins[..], scratch);
        for (k, bin) in self.bins.iter().enumerate() {
            (spectrum.re[k], spectrum.im[k]) = (bin.re, bin.im);
        }
    }

    /// Scaled so that it undoes [`Self::forward`].
    pub(super) fn inverse(&mut self, spectrum: &Spectrum, time: &mut [f32; 2 * BLOCK]) {
        const SCALE: f32 = 1.0 / (2 * BLOCK) as f32;
        for (k, bin) in self.bins.iter_mut().enumerate() {
            *bin = Complex32::new(spectrum.re[k] * SCALE, spectrum.im[k] * SCALE);
        }
        self.bins[0].im = 0.0;
        self.bins[BINS - 1].im = 0.0;
        let scratch = &mut self.scratch[..self.inverse.get_scratch_len()];
        let _ = self.inverse.process_with_scratch(&mut self.bins[..], time, scratch);
    }
}
