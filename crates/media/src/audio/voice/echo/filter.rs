//! The linear part: a partitioned-block frequency-domain adaptive filter whose step sizes are a
//! Kalman filter's.
//!
//! After G. Enzner and P. Vary, "Frequency-domain adaptive Kalman filter for acoustic echo control
//! in hands-free telephones", Signal Processing 86(6), 2006, and F. Kuech, E. Mabande and
//! G. Enzner, "State-space architecture of the partitioned-block-based acoustic echo controller",
//! ICASSP 2014. Each coefficient carries the power by which it is expected to be wrong; what the
//! near end says is the observation's noise. So the filter learns fast while it knows little, and
//! slowly, or not at all, while somebody talks.

use super::spectrum::{BINS, BLOCK, Fourier, Spectrum};

/// Partitions of one block each: the part of the room's response that is modelled, 200 ms.
pub(super) const PARTITIONS: usize = 20;

pub(super) struct KalmanFilter {
    known: Response,
    /// What was known lately, the newer first.
    kept: [Response; 2],
    /// Power of what is not echo, in the transform of the error.
    noise: Box<[f32; BINS]>,
    /// The partition whose coefficients are cut to a block's length next.
    constrained: usize,
    time: Box<[f32; 2 * BLOCK]>,
    spectrum: Box<Spectrum>,
    innovation: Box<[f32; BINS]>,
    echo_power: Box<[f32; BINS]>,
    /// Of the prior powers.
    scale: f32,
}

/// Partition by partition.
struct Response {
    /// Coefficients.
    weights: Box<[Spectrum; PARTITIONS]>,
    /// Power of their expected error.
    uncertainty: Box<[[f32; BINS]; PARTITIONS]>,
}

impl Response {
    fn new() -> Self {
        Self {
            weights: vec![Spectrum::default(); PARTITIONS]
                .try_into()
                .unwrap_or_else(|_| unreachable!()),
            uncertainty: Box::new([[0.0; BINS]; PARTITIONS]),
        }
    }

    fn copy_from(&mut self, other: &Self) {
        self.weights.clone_from(&other.weights);
        self.uncertainty.clone_from(&other.uncertainty);
    }

    /// See [`KalmanFilter::shift`].
    fn shift(&mut self, blocks: isize, scale: f32) {
        let by = blocks.unsigned_abs().min(PARTITIONS);
        let new = if blocks >= 0 {
            self.weights.rotate_right(by);
            self.uncertainty.rotate_right(by);
            0..by
        } else {
            self.weights.rotate_left(by);
            self.uncertainty.rotate_left(by);
            PARTITIONS - by..PARTITIONS
        };
        for partition in new {
            self.weights[partition] = Spectrum::default();
            self.uncertainty[partition].fill(prior(partition) * scale * 0.1);
        }
    }
}

impl KalmanFilter {
    pub(super) fn new() -> Self {
        let mut filter = Self {
            known: Response::new(),
            kept: [Response::new(), Response::new()],
            noise: Box::new([0.0; BINS]),
            constrained: 0,
            time: Box::new([0.0; 2 * BLOCK]),
            spectrum: Box::default(),
            innovation: Box::new([0.0; BINS]),
            echo_power: Box::new([0.0; BINS]),
            scale: 1.0,
        };
        filter.doubt(1.0);
        filter
    }

    /// Expects an echo of `loudness` times the power of what is played, unless most of that is known.
    pub(super) fn expect(&mut self, loudness: f32) {
        let scale = (LOUDER * loudness).min(LOUDEST);
        let power = |weights: &Spectrum| TOLD_BY.map(|k| weights.power(k)).sum::<f32>();
        let known = self.known.weights.iter().map(power).sum::<f32>() / TOLD_BY.len() as f32;
        if scale > 1.5 * self.scale && known < LITTLE_KNOWN * loudness {
            self.scale = scale;
            self.doubt(1.0);
        }
    }

    /// Expects every coefficient to be wrong by its prior power times `share` at least.
    pub(super) fn doubt(&mut self, share: f32) {
        for (partition, row) in self.known.uncertainty.iter_mut().enumerate() {
            let prior = prior(partition) * self.scale * share;
            row.iter_mut().for_each(|p| *p = p.max(prior));
        }
    }

    /// Makes the response weaker.
    pub(super) fn scale(&mut self, by: f32) {
        for weights in self.known.weights.iter_mut() {
            weights.re.iter_mut().chain(&mut weights.im).for_each(|w| *w *= by);
        }
    }

    /// Keeps what is known now, for [`Self::recall`].
    pub(super) fn keep(&mut self) {
        self.kept.swap(0, 1);
        self.kept[0].copy_from(&self.known);
    }

    /// Knows again what was kept the last time but one, and nothing of what came after.
    pub(super) fn recall(&mut self) {
        let [newer, older] = &mut self.kept;
        self.known.copy_from(older);
        newer.copy_from(older);
    }

    /// Moves the response by whole blocks: by `blocks` later for positive ones.
    pub(super) fn shift(&mut self, blocks: isize) {
        for response in self.kept.iter_mut().chain([&mut self.known]) {
            response.shift(blocks, self.scale);
        }
    }

    /// Estimates the echo in a block from the reference's blocks, the newest first.
    pub(super) fn estimate(
        &mut self,
        fourier: &mut Fourier,
        reference: &[Option<&Spectrum>; PARTITIONS],
        echo: &mut [f32; BLOCK],
    ) {
        *self.spectrum = Spectrum::default();
        for (weights, x) in self.known.weights.iter().zip(reference) {
            let Some(x) = x else { continue };
            self.spectrum.add_product(weights, x);
        }
        fourier.inverse(&self.spectrum, &mut self.time);
        echo.copy_from_slice(&self.time[BLOCK..]);
    }

    /// Learns from the `error` that the estimate left.
    pub(super) fn learn(
        &mut self,
        fourier: &mut Fourier,
        reference: &[Option<&Spectrum>; PARTITIONS],
        error: &[f32; BLOCK],
    ) {
        self.time[..BLOCK].fill(0.0);
        self.time[BLOCK..].copy_from_slice(error);
        fourier.forward(&self.time, &mut self.spectrum);
        // What the uncertainty of the coefficients explains of the error.
        self.predict(reference);
        let error = &*self.spectrum;
        for k in 0..BINS {
            let power = error.re[k] * error.re[k] + error.im[k] * error.im[k];
            self.noise[k] += NOISE_STEP * (power - self.noise[k]);
            let noise = self.noise[k].max(FLOOR);
            // Half of the transform is zeros, so is half of the noise.
            self.innovation[k] = 1.0 / (self.echo_power[k] + 2.0 * noise);
        }
        for ((weights, uncertainty), x) in
            self.known.weights.iter_mut().zip(self.known.uncertainty.iter_mut()).zip(reference)
        {
            let Some(x) = x else { continue };
            for (k, uncertain) in uncertainty.iter_mut().enumerate() {
                let step = *uncertain * self.innovation[k];
                let (xr, xi) = (x.re[k], x.im[k]);
                let (er, ei) = (error.re[k], error.im[k]);
                let (wr, wi) = (&mut weights.re[k], &mut weights.im[k]);
                *wr += step * (xr * er + xi * ei);
                *wi += step * (xr * ei - xi * er);
                let power = xr * xr + xi * xi;
                let kept = 1.0 - LEARNT * step * power;
                let size = *wr * *wr + *wi * *wi;
                *uncertain = A2 * kept * *uncertain + (1.0 - A2) * size;
            }
        }
        // One partition after the other is cut back to a block; all every time would cost more
        // than all the rest and makes next to no difference.
        for _ in 0..CONSTRAINED_AT_ONCE {
            let weights = &mut self.known.weights[self.constrained];
            fourier.inverse(weights, &mut self.time);
            self.time[BLOCK..].fill(0.0);
            fourier.forward(&self.time, weights);
            self.constrained = (self.constrained + 1) % PARTITIONS;
        }
    }

    /// Power of the echo that the estimate is expected to miss, for each bin of a transform of two
    /// blocks.
    fn predict(&mut self, reference: &[Option<&Spectrum>; PARTITIONS]) {
        self.echo_power.fill(0.0);
        for (uncertainty, x) in self.known.uncertainty.iter().zip(reference) {
            let Some(x) = x else { continue };
            for (k, uncertain) in uncertainty.iter().enumerate() {
                self.echo_power[k] += uncertain * x.power(k);
            }
        }
    }

    /// As of the last [`Self::learn`].
    pub(super) fn missed(&self) -> &[f32; BINS] {
        &self.echo_power
    }
}

/// Power of a coefficient that is not known yet: a speaker as loud in the microphone as it plays, the
/// later the quieter.
fn prior(partition: usize) -> f32 {
    0.3 * 0.7_f32.powi(i32::try_from(partition).unwrap_or(i32::MAX))
}

/// An echo that comes by one path is all in one partition; the prior powers of all sum to one.
const LOUDER: f32 = 3.0;
/// An echo 15 dB louder than what is played.
const LOUDEST: f32 = LOUDER * 30.0;
/// Share of an echo's power. While more is known doubts would only let in who talks.
const LITTLE_KNOWN: f32 = 0.25;
/// Bins of 200 Hz to 1.5 kHz, where the search for the delay listens.
const TOLD_BY: std::ops::Range<usize> = 4..30;
/// How slowly rooms change (A squared).
const A2: f32 = 0.9998;
/// Of the smoothing of the near end's power.
const NOISE_STEP: f32 = 0.3;
/// Rounding in a microphone of 16 bits, in a transform of a block.
const FLOOR: f32 = 50.0;
const CONSTRAINED_AT_ONCE: usize = 4;
/// How much of the uncertainty an observation takes away. Half would be right for a signal whose blocks
/// and bins are independent; in speech neighbours tell the same, and the filter would be sure too soon.
const LEARNT: f32 = 0.15;
