//! Between a device's sample rate and the 48 kHz inside.

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{
    Async, FixedAsync, Resampler as _, SincInterpolationParameters, SincInterpolationType,
    WindowFunction,
};

use crate::error::MediaError;

/// Streaming resampler that takes blocks of any length; of several channels the samples in turn.
///
/// It works in chunks of 2.5 ms and delays by half its filter, together at most 3.5 ms. Equal rates
/// are passed through as they are.
pub struct Resampler {
    inner: Option<Inner>,
}

struct Inner {
    channels: usize,
    resampler: Async<f32>,
    pending: Vec<f32>,
    output: Vec<f32>,
}

impl std::fmt::Debug for Resampler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resampler").field("identity", &self.inner.is_none()).finish_non_exhaustive()
    }
}

impl Resampler {
    /// A mono resampler from one rate to another, Hz.
    ///
    /// # Errors
    /// A rate outside 4 kHz to 768 kHz.
    pub fn new(from_hz: u32, to_hz: u32) -> Result<Self, MediaError> {
        Self::with_channels(from_hz, to_hz, 1)
    }

    /// As [`Self::new`], for stereo or mono.
    ///
    /// # Errors
    /// A rate outside 4 kHz to 768 kHz, or neither one channel nor two.
    pub fn with_channels(from_hz: u32, to_hz: u32, channels: usize) -> Result<Self, MediaError> {
        if !(1..=2).contains(&channels) {
            return Err(MediaError::Audio(format!("cannot resample {channels} channels")));
        }
        if !RATES_HZ.contains(&from_hz) || !RATES_HZ.contains(&to_hz) {
            return Err(MediaError::Audio(format!("cannot resample {from_hz} Hz to {to_hz} Hz")));
        }
        if from_hz == to_hz {
            return Ok(Self { inner: None });
        }
        let parameters = SincInterpolationParameters::new(SINC_LENGTH, WindowFunction::Hann2)
            .interpolation(SincInterpolationType::Quadratic);
        let ratio = f64::from(to_hz) / f64::from(from_hz);
        let chunk = from_hz as usize / CHUNKS_A_SECOND;
        let resampler =
            Async::new_sinc(ratio, 1.01, &parameters, chunk, channels, FixedAsync::Input)
                .map_err(|e| MediaError::Audio(e.to_string()))?;
        let output = vec![0.0; channels * resampler.output_frames_max()];
        Ok(Self {
            inner: Some(Inner {
                channels,
                resampler,
                pending: Vec::with_capacity(4 * chunk * channels),
                output,
            }),
        })
    }

    /// Resamples a block of any length (whole frames of all channels) and appends what is ready to `out`. Allocates only if `out`
    /// or a longer block than before makes it.
    ///
    /// # Errors
    /// None in practice; the resampler's own checks.
    pub fn process(&mut self, samples: &[f32], out: &mut Vec<f32>) -> Result<(), MediaError> {
        let Some(inner) = &mut self.inner else {
            out.extend_from_slice(samples);
            return Ok(());
        };
        inner.pending.extend_from_slice(samples);
        let mut used = 0;
        loop {
            let channels = inner.channels;
            let needed = inner.resampler.input_frames_next();
            let Some(chunk) = inner.pending.get(used..used + needed * channels) else { break };
            let capacity = inner.output.len() / channels;
            let failed = |e: &dyn std::fmt::Display| MediaError::Audio(e.to_string());
            let input = InterleavedSlice::new(chunk, channels, needed).map_err(|e| failed(&e))?;
            let mut output = InterleavedSlice::new_mut(&mut inner.output, channels, capacity)
                .map_err(|e| failed(&e))?;
            let (_, made) = inner
                .resampler
                .process_into_buffer(&input, &mut output, None)
                .map_err(|e| failed(&e))?;
            out.extend_from_slice(&inner.output[..made * channels]);
            used += needed * channels;
        }
        inner.pending.drain(..used);
        Ok(())
    }
}

/// Rates that sound devices and files have.
const RATES_HZ: std::ops::RangeInclusive<u32> = 4_000..=768_000;
/// Taps at the input rate: at 48 kHz the pass band ends near 20 kHz and the delay is 0.7 ms.
const SINC_LENGTH: usize = 64;
/// 2.5 ms a chunk.
const CHUNKS_A_SECOND: usize = 400;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::audio::level::Level;
    use crate::audio::tone_meter::dominant_frequency;

    fn sine(rate_hz: u32, frequency_hz: f32, count: usize) -> Vec<f32> {
        (0..count)
            .map(|n| 0.5 * (std::f32::consts::TAU * frequency_hz * n as f32 / rate_hz as f32).sin())
            .collect()
    }

    #[test]
    fn a_tone_keeps_pitch_level_and_length_through_odd_block_sizes() {
        for rate in [8_000, 16_000, 44_100, 48_000, 96_000, 192_000] {
            let input = sine(rate, 1000.0, rate as usize);
            for (from, to) in [(rate, 48_000), (48_000, rate)] {
                let input =
                    if from == rate { input.clone() } else { sine(from, 1000.0, from as usize) };
                let mut resampler = Resampler::new(from, to).unwrap();
                let mut out = Vec::new();
                let mut rest = &input[..];
                for size in [1, 7, 441, 1024, 333, 48, 5000].into_iter().cycle() {
                    let (block, after) = rest.split_at(size.min(rest.len()));
                    resampler.process(block, &mut out).unwrap();
                    rest = after;
                    if rest.is_empty() {
                        break;
                    }
                }
                let missing = to as usize - out.len();
                assert!(missing <= to as usize / 200, "{from} -> {to}: {missing} samples missing");
                let middle = &out[out.len() / 4..];
                let level = Level::of(middle);
                assert!((level.rms_dbfs + 9.03).abs() < 0.1, "{from} -> {to}: {level:?}");
                let pitch = dominant_frequency(middle, to).unwrap();
                assert!((pitch - 1000.0).abs() < 2.0, "{from} -> {to}: {pitch} Hz");
            }
        }
    }

    #[test]
    fn frequencies_above_the_target_band_are_taken_out() {
        let mut resampler = Resampler::new(48_000, 16_000).unwrap();
        let mut out = Vec::new();
        resampler.process(&sine(48_000, 12_000.0, 48_000), &mut out).unwrap();
        assert!(Level::of(&out[1000..]).rms_dbfs < -60.0);
    }

    #[test]
    fn the_channels_of_stereo_sound_are_resampled_alike_and_stay_apart() {
        let mono = sine(44_100, 1000.0, 44_100);
        let stereo: Vec<f32> = mono.iter().flat_map(|&s| [s, -0.5 * s]).collect();
        let (mut one, mut two) = (Vec::new(), Vec::new());
        Resampler::new(44_100, 48_000).unwrap().process(&mono, &mut one).unwrap();
        let mut resampler = Resampler::with_channels(44_100, 48_000, 2).unwrap();
        stereo.chunks(882).for_each(|block| resampler.process(block, &mut two).unwrap());
        assert_eq!(two.len(), 2 * one.len());
        for (pair, mono) in two.as_chunks::<2>().0.iter().zip(one) {
            assert!((pair[0] - mono).abs() < 1e-5 && (pair[1] + 0.5 * mono).abs() < 1e-5);
        }
    }

    #[test]
    fn impossible_rates_are_an_error() {
        assert!(Resampler::with_channels(44_100, 48_000, 3).is_err());
        assert!(Resampler::new(0, 48_000).is_err());
        assert!(Resampler::new(48_000, 1_000_000).is_err());
    }
}
