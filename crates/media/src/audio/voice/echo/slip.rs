//! Whether the echo has slipped: a sound system that ran dry plays on a little later, with the same room around it.
//! Then what the filter knows is right at another time, and is found again by where its estimate is in what is heard.

use realfft::num_complex::Complex32;

use super::correlator::Correlator;
use super::spectrum::BLOCK;

pub(super) struct SlipFinder {
    heard: Box<[f32; LENGTH]>,
    echo: Box<[f32; LENGTH]>,
    count: usize,
    correlator: Correlator,
    /// Where it seemed to be lately, and at which block.
    seen: Option<(f32, usize)>,
}

impl SlipFinder {
    pub(super) fn new() -> Self {
        Self {
            heard: Box::new([0.0; LENGTH]),
            echo: Box::new([0.0; LENGTH]),
            count: 0,
            correlator: Correlator::new(LENGTH),
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
        self.correlator.forget();
        // It was estimated by what was read before.
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
        // Bins count by how far the echo stands out of the near end around them.
        let weight = |k: usize, echo: &[Complex32], heard: &[Complex32]| {
            let power = |bins: &[Complex32]| {
                bins[k - AROUND..=k + AROUND].iter().map(Complex32::norm_sqr).sum::<f32>()
            };
            (power(echo) / (power(heard) + 1.0)).min(1.0)
        };
        self.correlator.add(&self.echo[..], &self.heard[..], KEEP, TOLD_BY, weight);
        let lags = self.correlator.lags();
        let at = |lag: isize| lags[lag.rem_euclid(LENGTH as isize) as usize];
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
/// Blocks between looks, and for how many a look is remembered.
const LOOK_EVERY: usize = 10;
const REMEMBERED: usize = 30;
/// What is kept of earlier looks.
const KEEP: f32 = 0.5;
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
