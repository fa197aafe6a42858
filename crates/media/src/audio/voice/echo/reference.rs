//! What the speaker plays, at the microphone's clock: blocks numbered one after the other, with
//! their spectra.

use super::delay::Decimator;
use super::spectrum::{BLOCK, Fourier, Spectrum};

/// Blocks that are kept: a second.
pub(super) const KEPT: usize = 100;
/// Samples of a block as the search for the delay sees it.
pub(super) const COARSE: usize = 40;

pub(super) struct Reference {
    /// What was pushed, by its number modulo the length.
    pushed: Box<[f32; HISTORY]>,
    written: u64,
    /// Where the next block is read, in samples pushed.
    position: f64,
    /// By how much faster than nominal it is read.
    rate: f64,
    kernel: Box<[[f32; TAPS]; PHASES + 1]>,
    /// The last two blocks at the microphone's clock.
    time: Box<[f32; 2 * BLOCK]>,
    spectra: Box<[Spectrum]>,
    coarse: Box<[[f32; COARSE]; KEPT]>,
    decimator: Decimator,
    made: i64,
}

impl Reference {
    pub(super) fn new() -> Self {
        Self {
            pushed: Box::new([0.0; HISTORY]),
            // Silence before the first sample, so that a kernel finds its neighbours.
            written: TAPS as u64,
            position: TAPS as f64 / 2.0,
            rate: 0.0,
            kernel: kernel(),
            time: Box::new([0.0; 2 * BLOCK]),
            spectra: vec![Spectrum::default(); KEPT].into_boxed_slice(),
            coarse: Box::new([[0.0; COARSE]; KEPT]),
            decimator: Decimator::default(),
            made: 0,
        }
    }

    /// By how much the speaker's clock is taken to be fast, as a ratio.
    pub(super) fn set_rate(&mut self, rate: f64) {
        self.rate = rate;
    }

    /// Blocks made so far.
    pub(super) fn made(&self) -> i64 {
        self.made
    }

    pub(super) fn push(&mut self, fourier: &mut Fourier, block: &[f32; BLOCK]) {
        for sample in block {
            self.pushed[(self.written % HISTORY as u64) as usize] = *sample;
            self.written += 1;
        }
        self.make_all(fourier);
    }

    fn make_all(&mut self, fourier: &mut Fourier) {
        while self.position + BLOCK as f64 * (1.0 + self.rate) + TAPS as f64 / 2.0
            <= self.written as f64
        {
            self.make(fourier);
        }
    }

    /// Reads `samples` earlier from now on, for it is heard so much later, and what was read lately again.
    /// False if that is no longer there.
    pub(super) fn slip(&mut self, fourier: &mut Fourier, samples: f32) -> bool {
        let back = KEPT as f64 * BLOCK as f64 * (1.0 + self.rate);
        let from = self.position - f64::from(samples) - back;
        if from < TAPS as f64 || self.written as f64 - from > (HISTORY - TAPS) as f64 {
            return false;
        }
        (self.position, self.made) = (from, self.made - KEPT as i64);
        self.make_all(fourier);
        true
    }

    fn make(&mut self, fourier: &mut Fourier) {
        self.time.copy_within(BLOCK.., 0);
        for n in 0..BLOCK {
            let at = self.position + n as f64 * (1.0 + self.rate);
            let phase = at.fract() * PHASES as f64;
            let (low, mix) = (phase as usize, phase.fract() as f32);
            // The sample before `at` is the kernel's middle.
            let first = at as usize + 1 - TAPS / 2;
            let (a, b) = (&self.kernel[low], &self.kernel[low + 1]);
            let mut sum = 0.0;
            for (tap, (a, b)) in a.iter().zip(b).enumerate() {
                sum += (a + (b - a) * mix) * self.pushed[(first + tap) % HISTORY];
            }
            self.time[BLOCK + n] = sum;
        }
        self.position += BLOCK as f64 * (1.0 + self.rate);
        let slot = self.made.rem_euclid(KEPT as i64) as usize;
        fourier.forward(&self.time, &mut self.spectra[slot]);
        self.decimator.process(&self.time[BLOCK..], &mut self.coarse[slot]);
        self.made += 1;
    }

    fn slot(&self, number: i64) -> Option<usize> {
        let there = number >= 0 && number < self.made && number >= self.made - KEPT as i64;
        there.then_some(number.rem_euclid(KEPT as i64) as usize)
    }

    /// The spectrum of a block and the one before.
    pub(super) fn spectrum(&self, number: i64) -> Option<&Spectrum> {
        self.slot(number).map(|slot| &self.spectra[slot])
    }

    pub(super) fn coarse(&self, number: i64) -> Option<&[f32; COARSE]> {
        self.slot(number).map(|slot| &self.coarse[slot])
    }
}

/// Samples pushed that are kept for reading: the blocks kept, and 0.3 s of slips.
const HISTORY: usize = 1 << 16;
/// Of the interpolation.
const TAPS: usize = 32;
const PHASES: usize = 128;

/// Windowed sines of x over x for each fraction of a sample.
fn kernel() -> Box<[[f32; TAPS]; PHASES + 1]> {
    let mut kernel = Box::new([[0.0; TAPS]; PHASES + 1]);
    for (phase, row) in kernel.iter_mut().enumerate() {
        let fraction = phase as f64 / PHASES as f64;
        for (tap, value) in row.iter_mut().enumerate() {
            let x = tap as f64 - (TAPS / 2 - 1) as f64 - fraction;
            let angle = std::f64::consts::PI * x;
            let sinc = if x.abs() < 1e-9 { 1.0 } else { angle.sin() / angle };
            let along = x / (TAPS as f64 / 2.0);
            let window = if along.abs() >= 1.0 {
                0.0
            } else {
                (0.5 * std::f64::consts::PI * along).cos().powi(2)
            };
            *value = (sinc * window) as f32;
        }
    }
    kernel
}
