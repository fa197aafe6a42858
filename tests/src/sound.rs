//! Listening to sound that may have gaps: machines that test are busy.

use visavis_media::AUDIO_RATE_HZ;
use visavis_media::audio::level::Level;
use visavis_media::audio::tone_meter::dominant_frequency;

/// A tone in a recording.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Heard {
    /// Its pitch (median).
    pub tone_hz: f64,
    /// Root mean square where it sounds (median), dB below a full-scale square wave.
    pub level_dbfs: f64,
    /// Share of the recording in which it sounds undisturbed, 0 to 1.
    pub share: f64,
}

/// Finds the tone in 48 kHz mono sound, a tenth of a second at a time; `None` if there is none.
pub fn listen(samples: &[f32]) -> Option<Heard> {
    let pieces: Vec<&[f32]> = samples.chunks_exact(AUDIO_RATE_HZ as usize / 10).collect();
    let (mut tones, mut levels): (Vec<f64>, Vec<f64>) = pieces
        .iter()
        .filter_map(|piece| {
            let hz = dominant_frequency(piece, AUDIO_RATE_HZ)?;
            Some((f64::from(hz), f64::from(Level::of(piece).rms_dbfs)))
        })
        .unzip();
    let share = tones.len() as f64 / pieces.len().max(1) as f64;
    Some(Heard { tone_hz: median(&mut tones)?, level_dbfs: median(&mut levels)?, share })
}

/// The middle value.
pub fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn sine(length: usize) -> Vec<f32> {
        let step = std::f64::consts::TAU * 700.0 / f64::from(AUDIO_RATE_HZ);
        (0..length).map(|n| (0.25 * (step * n as f64).sin()) as f32).collect()
    }

    #[test]
    fn a_tone_with_gaps_keeps_its_pitch_and_level() {
        let mut samples = sine(48_000);
        samples[10_000..14_000].fill(0.0);
        samples[40_000..48_000].fill(0.0);
        let heard = listen(&samples).unwrap();
        assert!((heard.tone_hz - 700.0).abs() < 1.0, "{heard:?}");
        assert!((heard.level_dbfs + 15.05).abs() < 0.2, "{heard:?}");
        assert!((0.5..=0.9).contains(&heard.share), "{heard:?}");
    }

    #[test]
    fn silence_has_no_tone() {
        assert_eq!(listen(&[0.0; 48_000]), None);
        assert_eq!(listen(&[]), None);
    }
}
