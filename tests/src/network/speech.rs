//! How intelligible speech is after a call: STOI of what was heard against the recording that was sent.

use std::path::Path;

use visavis_media::files::{WavReader, WavWriter};
use visavis_media::{AUDIO_FRAME_SAMPLES, AUDIO_RATE_HZ, MediaTime};
use visavis_media_testing::speech::Talker;
use visavis_media_testing::stoi::stoi;

const RATE: usize = AUDIO_RATE_HZ as usize;
/// Blocks of the loudness by which a recording is found again.
const BLOCK: usize = RATE / 100;
/// Playout moves, so stretches are aligned one by one; STOI needs some speech in each.
const STRETCH: usize = 2 * RATE;
/// How far playout moves around the middle.
const AROUND: usize = RATE * 3 / 10;

/// A minute of a voice, 48 kHz mono.
pub fn recording(seed: u64) -> Vec<f32> {
    Talker::new(seed, 120.0).take(60.0)
}

/// Writes it where `--microphone file:` reads it.
///
/// # Errors
///
/// The file cannot be written.
pub fn write(samples: &[f32], path: &Path) -> anyhow::Result<()> {
    let mut writer = WavWriter::create(path)?;
    writer.write(samples)?;
    Ok(writer.finish()?)
}

/// Reads what `--speaker file:` wrote.
///
/// # Errors
///
/// There is no such file, or it holds no sound.
pub fn read(path: &Path) -> anyhow::Result<Vec<f32>> {
    // The reader begins anew at the end.
    let samples = std::fs::metadata(path)?.len() / 2;
    let blocks = usize::try_from(samples)? / AUDIO_FRAME_SAMPLES;
    let mut reader = WavReader::open(path)?;
    let mut all = Vec::with_capacity(blocks * AUDIO_FRAME_SAMPLES);
    for _ in 0..blocks {
        all.extend(reader.next_frame(MediaTime::default())?.samples);
    }
    Ok(all)
}

/// STOI (Taal et al., 2011), the mean over stretches of two seconds, 0 to 1; `None` if `heard`
/// holds no two seconds of `sent`.
#[expect(clippy::cast_precision_loss, reason = "a count of stretches")]
pub fn intelligibility(sent: &[f32], heard: &[f32]) -> Option<f64> {
    let scores = intelligibility_of_stretches(sent, heard);
    (!scores.is_empty()).then(|| scores.iter().sum::<f64>() / scores.len() as f64)
}

/// STOI of each stretch of two seconds in which something is said, each at the delay where it fits
/// best.
pub fn intelligibility_of_stretches(sent: &[f32], heard: &[f32]) -> Vec<f64> {
    let mut scores = Vec::new();
    let Some(lag) = delay_by_loudness(sent, heard) else { return scores };
    for (n, reference) in sent.chunks_exact(STRETCH).enumerate() {
        let place = (n * STRETCH) as i64 + lag;
        let Ok(place) = usize::try_from(place) else { continue };
        if place < AROUND || place + STRETCH + AROUND > heard.len() {
            continue;
        }
        // Pauses say nothing.
        if stoi(reference, reference, AUDIO_RATE_HZ) < 0.5 {
            continue;
        }
        let fit = |at: usize| -> f64 {
            let pairs = reference.iter().zip(&heard[at..at + STRETCH]).step_by(4);
            pairs.map(|(a, b)| f64::from(a * b)).sum()
        };
        let best = |places: &mut dyn Iterator<Item = usize>| {
            places.max_by(|a, b| fit(*a).total_cmp(&fit(*b))).unwrap_or(place)
        };
        let coarse = best(&mut (place - AROUND..=place + AROUND).step_by(16));
        let fine = best(&mut (coarse.saturating_sub(16)..(coarse + 16).min(heard.len() - STRETCH)));
        scores.push(stoi(reference, &heard[fine..fine + STRETCH], AUDIO_RATE_HZ));
    }
    scores
}

/// Where in `heard` the beginning of `sent` is (before its own beginning if negative), samples.
fn delay_by_loudness(sent: &[f32], heard: &[f32]) -> Option<i64> {
    let loudness = |samples: &[f32]| -> Vec<f32> {
        let power = |block: &[f32]| block.iter().map(|s| s * s).sum::<f32>() / BLOCK as f32;
        let all: Vec<f32> =
            samples.chunks_exact(BLOCK).map(|b| (power(b) + 1e-6).log10()).collect();
        let mean = all.iter().sum::<f32>() / all.len().max(1) as f32;
        all.iter().map(|l| l - mean).collect()
    };
    let (sent, heard) = (loudness(sent), loudness(heard));
    let (sent_blocks, heard_blocks) =
        (i64::try_from(sent.len()).ok()?, i64::try_from(heard.len()).ok()?);
    let likeness = |lag: i64| -> f32 {
        let from = (-lag).max(0);
        let until = sent_blocks.min(heard_blocks - lag);
        (from..until).map(|n| sent[n as usize] * heard[(n + lag) as usize]).sum()
    };
    let lag = (-sent_blocks + 200..heard_blocks - 200)
        .max_by(|a, b| likeness(*a).total_cmp(&likeness(*b)))?;
    Some(lag * i64::try_from(BLOCK).ok()?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// The recording from its eighth second on, after 1.3 s of silence.
    fn heard(sent: &[f32]) -> Vec<f32> {
        let mut heard = vec![0.0; RATE * 13 / 10];
        heard.extend_from_slice(&sent[8 * RATE + 77..30 * RATE]);
        heard
    }

    #[test]
    fn speech_is_found_again_wherever_it_begins() {
        let sent = recording(3);
        let score = intelligibility(&sent, &heard(&sent)).unwrap();
        assert!(score > 0.98, "{score}");
        assert_eq!(intelligibility(&sent, &[0.0; 1000]), None);
    }

    #[test]
    fn playout_that_moves_is_followed_and_gaps_cost_intelligibility() {
        let sent = recording(3);
        let mut moved = heard(&sent);
        // 100 ms are drawn in, once.
        moved.splice(6 * RATE..6 * RATE, vec![0.0; RATE / 10]);
        let score = intelligibility(&sent, &moved).unwrap();
        assert!(score > 0.95, "{score}");
        for packet in moved.chunks_mut(RATE / 50).step_by(3) {
            packet.fill(0.0);
        }
        let broken = intelligibility(&sent, &moved).unwrap();
        assert!(broken < 0.8, "{broken}");
    }
}
