//! What the error says about the filter as a whole: that it runs after a clock, or that its room is
//! gone.

use std::f32::consts::PI;

use super::spectrum::{BINS, BLOCK, Spectrum};

pub(super) struct Alignment {
    /// By how much the speaker's clock is fast, as a ratio.
    rate: f64,
    /// The most that a block has told about the clock lately.
    telling: f32,
    error_mean: Box<[f32; BINS]>,
    echo_mean: Box<[f32; BINS]>,
    /// A path that is gone shows at once, one that is partly the same only in time.
    lately: Likeness,
    for_long: Likeness,
    /// The filter has been right since the last change.
    was_right: bool,
}

impl Alignment {
    pub(super) fn new() -> Self {
        Self {
            rate: 0.0,
            telling: 0.0,
            error_mean: Box::new([0.0; BINS]),
            echo_mean: Box::new([0.0; BINS]),
            lately: Likeness::default(),
            for_long: Likeness::default(),
            was_right: false,
        }
    }

    /// By how much the speaker's clock is fast, as a ratio.
    pub(super) fn rate(&self) -> f64 {
        self.rate
    }

    /// Takes the spectra of what the filter left and of what it took for echo. If the echo's path has
    /// changed it returns by how much the old response is still worth having, from 0 to 1.
    pub(super) fn update(&mut self, error: &Spectrum, echo: &Spectrum) -> Option<f32> {
        let (mut late, mut told) = (0.0, 0.0);
        let (mut alike, mut compared) = (0.0, 0.0);
        for k in TOLD_BY {
            let (error_power, echo_power) = (error.power(k), echo.power(k));
            self.error_mean[k] += 0.1 * (error_power - self.error_mean[k]);
            self.echo_mean[k] += 0.01 * (echo_power - self.echo_mean[k]);
            // An echo that moved by t leaves -t times its derivative. Bins count by how far the
            // echo stands out of the near end.
            let certainty = 1.0 / (self.error_mean[k] + error_power + FLOOR);
            let w = 2.0 * PI * k as f32 / (2 * BLOCK) as f32;
            late -= certainty * w * (error.im[k] * echo.re[k] - error.re[k] * echo.im[k]);
            told += certainty * w * w * echo_power;
            // An echo that is gone leaves the estimate upside down. Each bin counts once at most, and
            // less while the echo is weaker than usual: reverberation is known less well.
            let usual = USUAL * self.echo_mean[k];
            let weight = 1.0 / (self.error_mean[k] + echo_power + usual + FLOOR);
            alike += weight * (error.re[k] * echo.re[k] + error.im[k] * echo.im[k]);
            compared += weight * echo_power;
        }
        self.follow(late, told);
        self.notice(alike, compared)
    }

    /// A loop of second order: the filter follows the echo, the rate follows the filter's lag until
    /// there is none.
    fn follow(&mut self, late: f32, told: f32) {
        self.telling = (self.telling * TELLING_KEPT).max(told);
        let samples = late / (told + TRUSTED_SHARE * self.telling + TRUSTED_LEAST);
        let samples = f64::from(samples.clamp(-MOST_LATE, MOST_LATE));
        self.rate = (self.rate - FOLLOW * samples / BLOCK as f64).clamp(-MAX_DRIFT, MAX_DRIFT);
    }

    fn notice(&mut self, alike: f32, compared: f32) -> Option<f32> {
        self.lately.update(0.1, alike, compared);
        self.for_long.update(0.03, alike, compared);
        self.was_right |= self.lately.compared > RIGHT;
        if !self.was_right {
            return None;
        }
        let gone = self.lately.share().filter(|share| *share < -GONE);
        let gone = gone.or(self.for_long.share().filter(|share| *share < -PARTLY_GONE))?;
        (self.lately, self.for_long) = (Likeness::default(), Likeness::default());
        self.was_right = false;
        Some((1.0 + gone).clamp(0.0, 1.0))
    }
}

/// How alike error and estimate are: means over a while.
#[derive(Debug, Clone, Copy, Default)]
struct Likeness {
    alike: f32,
    /// Bins that told.
    compared: f32,
}

impl Likeness {
    fn update(&mut self, step: f32, alike: f32, compared: f32) {
        self.alike += step * (alike - self.alike);
        self.compared += step * (compared - self.compared);
    }

    /// Share of the estimate that the error has; minus one for an estimate of nothing that is there.
    fn share(&self) -> Option<f32> {
        (self.compared >= ENOUGH).then(|| self.alike / self.compared)
    }
}

/// 200 Hz to 6 kHz.
const TOLD_BY: std::ops::Range<usize> = 4..120;
/// Power of a bin that rounding and the quietest microphone have.
const FLOOR: f32 = 100.0;
/// Of the rate, a block, for a lag of a sample in each. Faster would oscillate with the filter.
const FOLLOW: f64 = 1.5e-3;
/// The most that a block may claim, samples.
const MOST_LATE: f32 = 4.0;
/// More than any two sound cards in order are apart.
const MAX_DRIFT: f64 = 400e-6;
/// Blocks that tell little against those that told much lately, in double talk above all, move the rate
/// little.
const TELLING_KEPT: f32 = 0.9995;
const TRUSTED_SHARE: f32 = 0.1;
const TRUSTED_LEAST: f32 = 2.0;
const USUAL: f32 = 0.2;
/// Bins, of those in `TOLD_BY`: so many stand out when the filter is right, and so many are needed to
/// say that it no longer is.
const RIGHT: f32 = 40.0;
const ENOUGH: f32 = 12.0;
/// Share of the estimate that must be missing in what was heard: over 100 ms, over 300 ms.
const GONE: f32 = 0.6;
const PARTLY_GONE: f32 = 0.25;
