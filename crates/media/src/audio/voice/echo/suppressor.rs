//! What the linear filter leaves of the echo is taken out by gains, and the room's noise put in its
//! place.

use std::f32::consts::PI;

use super::spectrum::{BINS, BLOCK, Fourier, Spectrum};
use crate::random::SplitMix64;

/// How likely it is that a bin is echo is judged against what the filter took, the filter's own doubts,
/// and the room's noise. Two answers are mixed by the presence of the near end: hard gains that leave
/// nothing, and gentle ones that hardly touch.
pub(super) struct Suppressor {
    window: Box<[f32; 2 * BLOCK]>,
    /// The last two blocks of what the linear filter left, and of what it took for echo.
    error: Box<[f32; 2 * BLOCK]>,
    echo: Box<[f32; 2 * BLOCK]>,
    error_spectrum: Box<Spectrum>,
    echo_spectrum: Box<Spectrum>,
    /// The echo's power with a short memory: reverberation.
    echo_power: Box<[f32; BINS]>,
    /// Share of the echo's power that is left, per band.
    leak: [f32; BANDS],
    /// Share of the echo that the linear filter may miss by its own account that is really there.
    truth: [f32; BANDS],
    residual: Box<[f32; BINS]>,
    noise: Noise,
    /// Of the near end, 0 to 1.
    presence: f32,
    /// Of an echo that would be heard beside the noise, 0 to 1.
    audible: f32,
    gains: Box<[f32; BINS]>,
    /// The gains as filters: these, and those before.
    filter: Box<Spectrum>,
    before: Box<Spectrum>,
    input: Box<Spectrum>,
    random: SplitMix64,
    /// The second half of the comfort noise made last.
    comfort: Box<[f32; BLOCK]>,
    edges: [usize; BANDS + 1],
    work: Box<Spectrum>,
    time: Box<[f32; 2 * BLOCK]>,
}

impl Suppressor {
    pub(super) fn new() -> Self {
        let open = Spectrum { re: [1.0; BINS], im: [0.0; BINS] };
        Self {
            window: Box::new(std::array::from_fn(|n| {
                0.5 - 0.5 * (PI * (n as f32 + 0.5) / BLOCK as f32).cos()
            })),
            error: Box::new([0.0; 2 * BLOCK]),
            echo: Box::new([0.0; 2 * BLOCK]),
            error_spectrum: Box::default(),
            echo_spectrum: Box::default(),
            echo_power: Box::new([0.0; BINS]),
            leak: [1.0; BANDS],
            truth: [1.0; BANDS],
            residual: Box::new([0.0; BINS]),
            noise: Noise::new(),
            presence: 0.0,
            audible: 0.0,
            gains: Box::new([1.0; BINS]),
            filter: Box::new(open.clone()),
            before: Box::new(open),
            input: Box::default(),
            random: SplitMix64::new(3),
            comfort: Box::new([0.0; BLOCK]),
            edges: edges(),
            work: Box::default(),
            time: Box::new([0.0; 2 * BLOCK]),
        }
    }

    /// Transforms what the linear filter made of a block.
    pub(super) fn analyze(
        &mut self,
        fourier: &mut Fourier,
        error: &[f32; BLOCK],
        echo: &[f32; BLOCK],
    ) {
        for (line, block) in [(&mut self.error, error), (&mut self.echo, echo)] {
            line.copy_within(BLOCK.., 0);
            line[BLOCK..].copy_from_slice(block);
        }
        for (line, spectrum) in
            [(&self.error, &mut self.error_spectrum), (&self.echo, &mut self.echo_spectrum)]
        {
            for ((slot, sample), weight) in
                self.time.iter_mut().zip(line.iter()).zip(self.window.iter())
            {
                *slot = sample * weight;
            }
            fourier.forward(&self.time, spectrum);
        }
    }

    /// Spectra of what was analyzed last: what the linear filter left, what it took for echo.
    pub(super) fn error(&self) -> &Spectrum {
        &self.error_spectrum
    }

    /// See [`Self::error`].
    pub(super) fn echo(&self) -> &Spectrum {
        &self.echo_spectrum
    }

    /// Decides on the gains for the block that was analyzed. `missed`: power of the echo that the
    /// linear filter expects to miss, in a transform of two blocks.
    pub(super) fn decide(&mut self, missed: &[f32; BINS]) {
        self.noise.update(&self.error_spectrum);
        for k in 0..BINS {
            let power = self.echo_spectrum.power(k);
            self.echo_power[k] = power.max(self.echo_power[k] * ECHO_DECAY);
        }
        let evidence = self.estimate(missed);
        self.presence = evidence.max(self.presence * PRESENCE_DECAY);
        let near = self.presence;
        self.audible *= PRESENCE_DECAY;
        for k in 0..BINS {
            let around = k.saturating_sub(1)..(k + 2).min(BINS);
            let (mut error, mut residual) = (1.0, 0.0);
            for k in around {
                error += self.error_spectrum.power(k);
                residual += self.residual[k];
            }
            let gentle = (1.0 - GENTLE * residual / error).max(GENTLE_FLOOR);
            // Whether what was there to be taken would be heard beside the noise.
            let heard = (self.echo_power[k] + self.residual[k]) / (self.noise.floor[k] + 1.0);
            let audible = (heard - 0.25).clamp(0.0, 1.0);
            self.audible = self.audible.max(audible);
            let hard = (1.0 - HARD * residual / error).max(0.0) * (1.0 - audible);
            let hard = hard.max(HARD_FLOOR);
            self.gains[k] = (hard.ln() * (1.0 - near) + gentle.ln() * near).exp();
        }
    }

    /// See [`super::EchoStage::near_share`].
    pub(super) fn near_share(&self) -> f32 {
        1.0 - self.audible * (1.0 - self.presence)
    }

    /// Estimates what is left of the echo in each bin; returns how plain it is, from 0 to 1, that
    /// somebody talks.
    fn estimate(&mut self, missed: &[f32; BINS]) -> f32 {
        let mut evidence = 0.0;
        let speech = self.edges[SPEECH_BANDS.start]..self.edges[SPEECH_BANDS.end];
        let echo: f32 = self.echo_power[speech.clone()].iter().sum();
        let spilt = SPILT * echo / speech.len() as f32;
        for band in 0..BANDS {
            let bins = self.edges[band]..self.edges[band + 1];
            let (mut error, mut echo, mut unknown) = (0.0, 0.0, 0.0);
            let mut noise = QUIET * bins.len() as f32;
            for k in bins.clone() {
                error += self.error_spectrum.power(k);
                echo += self.echo_power[k];
                noise += self.noise.floor[k];
                unknown += WINDOW_POWER * missed[k];
            }
            // Learnt where there is echo to speak of. The near end only ever adds, and it leaves
            // gaps: what is seldom undercut is the echo's own share.
            if echo > 4.0 * noise {
                learn(&mut self.leak[band], error / echo, 4.0);
            }
            if unknown > 0.5 * noise {
                learn(&mut self.truth[band], error / unknown, 1.0);
            }
            let leak = USUALLY_ABOVE * self.leak[band];
            let truth = (USUALLY_ABOVE * self.truth[band]).min(1.0);
            for k in bins.clone() {
                self.residual[k] = leak * self.echo_power[k] + truth * WINDOW_POWER * missed[k];
            }
            if SPEECH_BANDS.contains(&band) {
                let residual = leak * echo + truth * unknown + spilt * bins.len() as f32;
                let over = error / (residual + 2.0 * noise);
                // From 6 to 15 dB over what can be explained.
                evidence += ((over.log2() - 2.0) / 3.0).clamp(0.0, 1.0);
            }
        }
        let share = evidence / SPEECH_BANDS.len() as f32;
        ((share - SOME_BANDS) / (ENOUGH_BANDS - SOME_BANDS)).clamp(0.0, 1.0)
    }

    /// The room is another one: nothing is known of what the linear filter leaves.
    pub(super) fn doubt(&mut self) {
        self.leak = [1.0; BANDS];
        self.truth = [1.0; BANDS];
        self.presence = 0.0;
    }

    /// Applies the gains to the second block of `input`, which ends a little before what was
    /// analyzed does. As a filter of minimum phase they cost no delay.
    pub(super) fn apply(
        &mut self,
        fourier: &mut Fourier,
        input: &[f32; 2 * BLOCK],
        out: &mut [f32; BLOCK],
    ) {
        std::mem::swap(&mut self.filter, &mut self.before);
        // The cepstrum of the gains made causal.
        for k in 0..BINS {
            self.work.re[k] = self.gains[k].ln();
            self.work.im[k] = 0.0;
        }
        fourier.inverse(&self.work, &mut self.time);
        for n in 1..BLOCK {
            self.time[n] *= 2.0;
        }
        self.time[BLOCK + 1..].fill(0.0);
        fourier.forward(&self.time, &mut self.work);
        for k in 0..BINS {
            let size = self.work.re[k].exp();
            let (sin, cos) = self.work.im[k].sin_cos();
            (self.work.re[k], self.work.im[k]) = (size * cos, size * sin);
        }
        fourier.inverse(&self.work, &mut self.time);
        self.time[BLOCK..].fill(0.0);
        fourier.forward(&self.time, &mut self.filter);
        // Overlap-save, from the gains before to the new ones.
        fourier.forward(input, &mut self.input);
        *self.work = Spectrum::default();
        self.work.add_product(&self.input, &self.before);
        fourier.inverse(&self.work, &mut self.time);
        out.copy_from_slice(&self.time[BLOCK..]);
        *self.work = Spectrum::default();
        self.work.add_product(&self.input, &self.filter);
        fourier.inverse(&self.work, &mut self.time);
        for (n, (out, new)) in out.iter_mut().zip(&self.time[BLOCK..]).enumerate() {
            let share = ((n + 1) as f32 / FADE as f32).min(1.0);
            *out += (new - *out) * share;
        }
        self.add_comfort(fourier, out);
    }

    /// What the gains take of the room's noise is put back, so that the far end does not hear it
    /// breathe.
    fn add_comfort(&mut self, fourier: &mut Fourier, out: &mut [f32; BLOCK]) {
        for k in 0..BINS {
            let angle = PI * (2.0 * self.random.unit() - 1.0) as f32;
            let gain = self.gains[k].min(1.0);
            let size = (self.noise.floor[k] * (1.0 - gain * gain) / WINDOW_POWER).sqrt();
            let (sin, cos) = angle.sin_cos();
            (self.work.re[k], self.work.im[k]) = (size * cos, size * sin);
        }
        fourier.inverse(&self.work, &mut self.time);
        for (n, out) in out.iter_mut().enumerate() {
            let (rise, fall) = (self.window[n].sqrt(), self.window[BLOCK + n].sqrt());
            *out += self.time[n] * rise + self.comfort[n];
            self.comfort[n] = self.time[BLOCK + n] * fall;
        }
    }
}

/// The room's noise: the least of the smoothed power over a while.
struct Noise {
    smooth: Box<[f32; BINS]>,
    /// The least of this stretch and of the ones before.
    least: Box<[[f32; BINS]; STRETCHES]>,
    floor: Box<[f32; BINS]>,
    frames: u32,
}

impl Noise {
    fn new() -> Self {
        Self {
            smooth: Box::new([0.0; BINS]),
            least: Box::new([[f32::MAX; BINS]; STRETCHES]),
            floor: Box::new([0.0; BINS]),
            frames: 0,
        }
    }

    fn update(&mut self, spectrum: &Spectrum) {
        self.frames += 1;
        if self.frames.is_multiple_of(STRETCH) {
            self.least.rotate_right(1);
            self.least[0] = *self.smooth;
        }
        for k in 0..BINS {
            self.smooth[k] += 0.15 * (spectrum.power(k) - self.smooth[k]);
            self.least[0][k] = self.least[0][k].min(self.smooth[k]);
            let least = self.least.iter().fold(f32::MAX, |least, row| least.min(row[k]));
            self.floor[k] = NOISE_BIAS * least;
        }
    }
}

/// Moves a share slowly up and quickly down towards what was seen.
fn learn(share: &mut f32, seen: f32, most: f32) {
    let step = if seen > *share { UP } else { DOWN };
    *share = (*share * step).clamp(1e-5, most);
}

/// First bins of the bands: 100 Hz wide at first, then wider and wider.
fn edges() -> [usize; BANDS + 1] {
    let mut edges = [0; BANDS + 1];
    for (n, edge) in edges.iter_mut().enumerate() {
        let hz = 600.0 * ((n as f32 * 0.128).exp() - 1.0);
        *edge = ((hz / 50.0).round() as usize).max(n * 2).min(BINS);
    }
    edges[BANDS] = BINS;
    edges
}

const BANDS: usize = 29;
/// 200 Hz to 6 kHz.
const SPEECH_BANDS: std::ops::Range<usize> = 2..19;
/// Mean square of the window.
const WINDOW_POWER: f32 = 0.375;
/// A block.
const ECHO_DECAY: f32 = 0.6;
/// A block: what a seventh of the blocks undercut is in balance.
const UP: f32 = 1.02;
const DOWN: f32 = 0.9;
/// What is left of the echo, against what it seldom undercuts.
const USUALLY_ABOVE: f32 = 4.0;
/// Of the echo's mean power, 40 dB: what the filter leaves in the bins where the echo is loud spills over
/// into all others, and where those are silent it would look like somebody talking.
const SPILT: f32 = 1e-4;
/// Power of a bin of noise at -66 dBFS, which every room is taken to have at least: what lies below says
/// nothing about what is left of the echo, nor is it anybody talking.
const QUIET: f32 = 1e5;
/// Share of the speech bands that must stand out before somebody may be talking, and surely is.
const SOME_BANDS: f32 = 0.06;
const ENOUGH_BANDS: f32 = 0.26;
/// A block: a third of a second, for the ends of words.
const PRESENCE_DECAY: f32 = 0.97;
const GENTLE: f32 = 0.25;
const GENTLE_FLOOR: f32 = 0.1;
const HARD: f32 = 8.0;
/// 50 dB.
const HARD_FLOOR: f32 = 0.003;
/// Samples over which gains change.
const FADE: usize = 240;
/// Frames of a stretch in which the least is sought, and how many of them.
const STRETCH: u32 = 150;
const STRETCHES: usize = 4;
/// Of the mean over the least.
const NOISE_BIAS: f32 = 2.5;
