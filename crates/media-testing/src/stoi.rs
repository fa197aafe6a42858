//! How intelligible processed speech still is: STOI, the short-time objective intelligibility
//! measure of C. H. Taal, R. C. Hendriks, R. Heusdens and J. Jensen, "An Algorithm for
//! Intelligibility Prediction of Time-Frequency Weighted Noisy Speech", IEEE Transactions on Audio,
//! Speech, and Language Processing 19(7), 2011. Section and equation numbers below are that paper's.
//!
//! A meter for tests and benchmarks: it allocates as it likes and wants whole recordings.

use std::f64::consts::PI;

use realfft::num_complex::Complex;
use realfft::{RealFftPlanner, RealToComplex};

/// STOI of `degraded` against the clean `reference`, both mono at `rate_hz`: 1 for the same
/// speech, about 0 for something else. It is monotonic in intelligibility; above 0.9 nothing is
/// lost to a listener, at 0.75 most sentences are still understood.
///
/// The two must be aligned in time to a few milliseconds (the caller removes the delay); the longer
/// is cut to the other. Level does not matter. Silence of the reference (40 dB below its loudest)
/// is left out. Speech of less than 0.4 s cannot be judged and gives 0.
///
/// Agrees with the authors' MATLAB code and with `pystoi` to four digits.
pub fn stoi(reference: &[f32], degraded: &[f32], rate_hz: u32) -> f64 {
    let length = reference.len().min(degraded.len());
    if length == 0 || rate_hz == 0 {
        return 0.0;
    }
    let clean = to_rate(&reference[..length], rate_hz);
    let processed = to_rate(&degraded[..length], rate_hz);
    let (clean, processed) = without_silence(&clean, &processed);
    let (x, y) = (Bands::of(&clean), Bands::of(&processed));
    let segments = (x.frames + 1).saturating_sub(SEGMENT);
    if segments == 0 {
        return 0.0;
    }
    let mut sum = 0.0;
    for band in 0..BANDS {
        let (x, y) = (x.band(band), y.band(band));
        for start in 0..segments {
            sum += correlation(&x[start..start + SEGMENT], &y[start..start + SEGMENT]);
        }
    }
    // Equation 6.
    sum / (BANDS * segments) as f64
}

/// Rate at which the measure is defined, Hz (section II).
const RATE_HZ: u32 = 10_000;
/// Samples of a frame, half of them shared with the next; zero-padded to `FFT`.
const FRAME: usize = 256;
const HOP: usize = FRAME / 2;
const FFT: usize = 512;
/// One-third octave bands, the lowest centred at `LOWEST_HZ`.
const BANDS: usize = 15;
const LOWEST_HZ: f64 = 150.0;
/// Frames of a segment: 384 ms.
const SEGMENT: usize = 30;
/// Frames that are this much quieter than the loudest are silence.
const DYNAMIC_RANGE_DB: f64 = 40.0;
/// Lower bound of the signal-to-distortion ratio (beta of equation 3).
const MIN_SDR_DB: f64 = -15.0;

/// Intermediate intelligibility of one band and segment: the envelopes' correlation (equation 5),
/// after making them equally loud and clipping the processed one (equations 3 and 4).
fn correlation(x: &[f64], y: &[f64]) -> f64 {
    let energy = |v: &[f64]| v.iter().map(|a| a * a).sum::<f64>().sqrt();
    let scale = energy(x) / (energy(y) + f64::EPSILON);
    let limit = 1.0 + 10_f64.powf(-MIN_SDR_DB / 20.0);
    let clipped = |(x, y): (&f64, &f64)| (y * scale).min(x * limit);
    let count = x.len() as f64;
    let mean_x = x.iter().sum::<f64>() / count;
    let mean_y = x.iter().zip(y).map(clipped).sum::<f64>() / count;
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for pair in x.iter().zip(y) {
        let (a, b) = (pair.0 - mean_x, clipped(pair) - mean_y);
        xx += a * a;
        yy += b * b;
        xy += a * b;
    }
    xy / ((xx.sqrt() + f64::EPSILON) * (yy.sqrt() + f64::EPSILON))
}

/// Envelopes: the magnitude in each one-third octave band and frame (equation 1).
struct Bands {
    frames: usize,
    /// Band after band.
    values: Vec<f64>,
}

impl Bands {
    fn of(signal: &[f64]) -> Self {
        let window = window();
        let fft: std::sync::Arc<dyn RealToComplex<f64>> =
            RealFftPlanner::new().plan_fft_forward(FFT);
        let edges: Vec<_> = (0..BANDS).map(edges).collect();
        let frames = signal.len().saturating_sub(FRAME).div_ceil(HOP);
        let mut values = vec![0.0; BANDS * frames];
        let mut input = fft.make_input_vec();
        let mut spectrum = fft.make_output_vec();
        for frame in 0..frames {
            let samples = &signal[frame * HOP..frame * HOP + FRAME];
            input.fill(0.0);
            for ((slot, sample), weight) in input.iter_mut().zip(samples).zip(&window) {
                *slot = sample * weight;
            }
            if fft.process(&mut input, &mut spectrum).is_err() {
                // Only wrong lengths fail, and both come from the plan itself.
                return Self { frames: 0, values: Vec::new() };
            }
            for (band, edges) in edges.iter().enumerate() {
                let energy: f64 = spectrum[edges.clone()].iter().map(Complex::norm_sqr).sum();
                values[band * frames + frame] = energy.sqrt();
            }
        }
        Self { frames, values }
    }

    fn band(&self, band: usize) -> &[f64] {
        &self.values[band * self.frames..(band + 1) * self.frames]
    }
}

/// Bins of a band: its edges lie a sixth of an octave from its centre, at the nearest bins.
fn edges(band: usize) -> std::ops::Range<usize> {
    let bin = |sixths: f64| {
        let hz = LOWEST_HZ * 2_f64.powf(sixths / 6.0);
        (hz * FFT as f64 / f64::from(RATE_HZ)).round() as usize
    };
    let centre = 2.0 * band as f64;
    bin(centre - 1.0)..bin(centre + 1.0)
}

/// Hann window without its zeros at the ends.
fn window() -> [f64; FRAME] {
    std::array::from_fn(|n| 0.5 - 0.5 * (2.0 * PI * (n + 1) as f64 / (FRAME + 1) as f64).cos())
}

/// Both signals without the frames in which the first is silent, overlapped and added.
fn without_silence(clean: &[f64], processed: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let window = window();
    let starts: Vec<usize> = (0..clean.len().saturating_sub(FRAME)).step_by(HOP).collect();
    let level = |start: usize| {
        let energy: f64 = clean[start..start + FRAME]
            .iter()
            .zip(&window)
            .map(|(sample, weight)| (sample * weight).powi(2))
            .sum();
        20.0 * (energy.sqrt() + f64::EPSILON).log10()
    };
    let levels: Vec<f64> = starts.iter().map(|&start| level(start)).collect();
    let loudest = levels.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let spoken: Vec<usize> = starts
        .into_iter()
        .zip(levels)
        .filter(|(_, level)| loudest - DYNAMIC_RANGE_DB < *level)
        .map(|(start, _)| start)
        .collect();
    let join = |signal: &[f64]| {
        let length = spoken.len().checked_sub(1).map_or(0, |last| last * HOP + FRAME);
        let mut joined = vec![0.0; length];
        for (index, &start) in spoken.iter().enumerate() {
            let out = joined[index * HOP..].iter_mut();
            let samples = signal[start..start + FRAME].iter().zip(&window);
            for (out, (sample, weight)) in out.zip(samples) {
                *out += sample * weight;
            }
        }
        joined
    };
    (join(clean), join(processed))
}

/// The signal at [`RATE_HZ`]: a polyphase low-pass filter with a Kaiser window, 60 dB down at the
/// lower of the two Nyquist frequencies and a tenth of it wide, without delay.
fn to_rate(signal: &[f32], rate_hz: u32) -> Vec<f64> {
    if rate_hz == RATE_HZ {
        return signal.iter().map(|&s| f64::from(s)).collect();
    }
    let divisor = gcd(rate_hz, RATE_HZ);
    let up = (RATE_HZ / divisor) as usize;
    let down = (rate_hz / divisor) as usize;
    let cutoff = 0.5 / up.max(down) as f64;
    // Kaiser's formulas for length and shape.
    let half = ((REJECTION_DB - 8.0) / (28.714 * cutoff / 10.0)).ceil() as usize;
    let beta = 0.1102 * (REJECTION_DB - 8.7);
    let mut taps: Vec<f64> = (0..=2 * half)
        .map(|n| {
            let t = n as f64 - half as f64;
            let angle = 2.0 * PI * cutoff * t;
            let sinc = if n == half { 1.0 } else { angle.sin() / angle };
            sinc * bessel_i0(beta * (1.0 - (t / half as f64).powi(2)).max(0.0).sqrt())
        })
        .collect();
    let gain = up as f64 / taps.iter().sum::<f64>();
    taps.iter_mut().for_each(|tap| *tap *= gain);
    let count = (signal.len() * up).div_ceil(down);
    (0..count)
        .map(|out| {
            // Input sample k lies at k * up on the fine grid, this output at out * down.
            let centre = out * down + half;
            let newest = (centre / up).min(signal.len() - 1);
            let oldest = (out * down).saturating_sub(half).div_ceil(up);
            (oldest..=newest).map(|k| f64::from(signal[k]) * taps[centre - k * up]).sum()
        })
        .collect()
}

const REJECTION_DB: f64 = 60.0;

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Modified Bessel function of the first kind, order zero.
fn bessel_i0(x: f64) -> f64 {
    let quarter = x * x / 4.0;
    let (mut term, mut sum) = (1.0, 1.0);
    for n in 1..50 {
        term *= quarter / f64::from(n * n);
        sum += term;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two seconds of a buzz whose pitch, formants and loudness move like those of speech.
    fn speechlike(rate_hz: u32) -> Vec<f32> {
        let rate = f64::from(rate_hz);
        (0..2 * rate_hz)
            .map(|n| {
                let t = f64::from(n) / rate;
                let voice: f64 = (1..=20)
                    .map(|k| {
                        let k = f64::from(k);
                        let formant = 600.0 + 300.0 * (2.0 * PI * 1.7 * t).sin();
                        let weight = (-((k * 130.0 - formant) / 500.0).powi(2)).exp() + 0.1 / k;
                        weight * (2.0 * PI * 130.0 * k * t + k * (2.0 * PI * 3.0 * t).sin()).sin()
                    })
                    .sum();
                let loudness = (2.0 * PI * 2.0 * t).sin().max(0.0).powi(2);
                (0.1 * voice * loudness) as f32
            })
            .collect()
    }

    /// Repeatable noise of the same kind anywhere: a linear congruential generator.
    fn noise(count: usize, amplitude: f64) -> Vec<f32> {
        let mut state = 1_u64;
        (0..count)
            .map(|_| {
                state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
                ((state as f64 / 1_073_741_824.0 - 1.0) * amplitude) as f32
            })
            .collect()
    }

    fn sum(a: &[f32], b: &[f32]) -> Vec<f32> {
        a.iter().zip(b).map(|(a, b)| a + b).collect()
    }

    #[test]
    fn the_same_speech_scores_one_at_any_level_and_rate() {
        for rate in [10_000, 16_000, 44_100, 48_000] {
            let speech = speechlike(rate);
            let quiet: Vec<f32> = speech.iter().map(|s| s * 0.1).collect();
            assert!((stoi(&speech, &speech, rate) - 1.0).abs() < 1e-6);
            assert!((stoi(&speech, &quiet, rate) - 1.0).abs() < 1e-6);
        }
    }

    /// The expected values are those of `pystoi` 0.4.1 for the very same signals.
    #[test]
    fn noise_costs_what_the_reference_implementation_says() {
        for (rate, amplitude, expected) in PYSTOI {
            let speech = speechlike(rate);
            let noisy = sum(&speech, &noise(speech.len(), amplitude));
            let score = stoi(&speech, &noisy, rate);
            assert!((score - expected).abs() < 1e-4, "{rate} Hz, {amplitude}: {score}");
        }
    }

    const PYSTOI: [(u32, f64, f64); 4] = [
        (10_000, 0.05, 0.819_432),
        (16_000, 0.05, 0.855_503),
        (48_000, 0.05, 0.848_551),
        (48_000, 0.5, 0.667_859),
    ];

    #[test]
    fn other_sound_and_too_little_sound_score_nothing() {
        let speech = speechlike(48_000);
        assert!(stoi(&speech, &noise(speech.len(), 0.5), 48_000) < 0.4);
        assert!(stoi(&speech[..9_600], &speech[..9_600], 48_000).abs() < 1e-9);
        assert!(stoi(&[], &[], 48_000).abs() < 1e-9);
        assert!(stoi(&[0.0; 48_000], &[0.0; 48_000], 48_000).abs() < 1e-9);
    }
}
