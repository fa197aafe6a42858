//! Makes a stretch of sound shorter or longer by one pitch period without changing its pitch.
//!
//! Both channels of stereo sound are changed alike. The period is the lag at which the sound is most like itself; it is merged with, or repeated by,
//! overlap-add (the idea of WSOLA, as in libwebrtc's NetEq `Accelerate` and `PreemptiveExpand`).

/// How periodic a sound has to be for a period to be left out or repeated: normalised correlation
/// of two neighbours.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Likeness(f32);

impl Likeness {
    /// It is not heard (NetEq: 0.9 in 14 bits).
    pub const UNHEARD: Self = Self(0.85);
    /// It may be heard, but is better than a gap or a long delay (NetEq halves its threshold in fast
    /// mode).
    pub const FAST: Self = Self(0.5);
    /// Always.
    pub const ANY: Self = Self(-1.0);
}

/// Takes one period out of `channels` (48 kHz, equally long) right after `from`. Returns how many
/// samples of each went; 0 if the sound is not periodic enough, or there are less than 20 ms.
pub fn shorten(channels: &mut [Vec<f32>], from: usize, likeness: Likeness) -> usize {
    let Some(lag) = period(channels, from, likeness) else { return 0 };
    for samples in channels {
        for i in from..from + lag {
            let weight = ((i - from) as f32 + 0.5) / lag as f32;
            samples[i] = samples[i] * (1.0 - weight) + samples[i + lag] * weight;
        }
        samples.drain(from + lag..from + 2 * lag);
    }
    lag
}

/// Repeats one period of `channels` right after `from`. Returns how many samples of each came; 0 as
/// in [`shorten`].
pub fn lengthen(channels: &mut [Vec<f32>], from: usize, likeness: Likeness) -> usize {
    let Some(lag) = period(channels, from, likeness) else { return 0 };
    for samples in channels {
        let length = samples.len();
        samples.resize(length + lag, 0.0);
        samples.copy_within(from + lag..length, from + 2 * lag);
        // What followed the first period, fading back into its beginning.
        for i in 0..lag {
            let weight = (i as f32 + 0.5) / lag as f32;
            samples[from + lag + i] =
                samples[from + 2 * lag + i] * (1.0 - weight) + samples[from + i] * weight;
        }
    }
    lag
}

/// The best lag of all channels together after `from`, in samples.
fn period(channels: &[Vec<f32>], from: usize, wanted: Likeness) -> Option<usize> {
    let long_enough = channels.iter().all(|samples| samples.len() >= from + 2 * MAX_LAG);
    if channels.is_empty() || !long_enough {
        return None;
    }
    let channels = || channels.iter().map(|samples| &samples[from..from + 2 * MAX_LAG]);
    let energy: f32 = channels().flatten().map(|s| s * s).sum();
    if energy < QUIET_POWER * (2 * MAX_LAG * channels().len()) as f32 {
        return Some(MAX_LAG);
    }
    let likeness = |lag: usize| {
        let (mut cross, mut a_energy, mut b_energy) = (0.0f32, 1e-9f32, 1e-9f32);
        for samples in channels() {
            // The whole overlap, every second sample: enough for speech, half the work.
            for (a, b) in samples[..lag].iter().zip(&samples[lag..2 * lag]).step_by(2) {
                cross += a * b;
                a_energy += a * a;
                b_energy += b * b;
            }
        }
        cross / (a_energy * b_energy).sqrt()
    };
    let best = |lags: &mut dyn Iterator<Item = usize>| {
        lags.map(|lag| (lag, likeness(lag))).max_by(|a, b| a.1.total_cmp(&b.1))
    };
    let (coarse, _) = best(&mut (MIN_LAG..=MAX_LAG).step_by(4))?;
    let (lag, likeness) =
        best(&mut (coarse.saturating_sub(3).max(MIN_LAG)..=(coarse + 3).min(MAX_LAG)))?;
    (likeness > wanted.0).then_some(lag)
}

/// 2.5 ms: a pitch of 400 Hz.
const MIN_LAG: usize = 120;
/// 10 ms: a pitch of 100 Hz; lower voices merge two half-waves or wait for a quiet moment.
const MAX_LAG: usize = 480;
/// -54 dBFS: below, any lag will do.
const QUIET_POWER: f32 = 4e-6;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::tone_meter::dominant_frequency;
    use crate::frame::MediaTime;
    use crate::synthetic::Tone;

    #[test]
    fn a_tone_stays_itself_without_a_click() {
        for operation in [shorten as fn(&mut [Vec<f32>], usize, Likeness) -> usize, lengthen] {
            let mut tone = Tone::new(230.0, -12.0);
            let mut out = Vec::new();
            let mut changed = 0;
            for _ in 0..50 {
                let block: Vec<f32> =
                    (0..2).flat_map(|_| tone.next_frame(MediaTime::default()).samples).collect();
                let mut block = [block];
                changed += operation(&mut block, 0, Likeness::UNHEARD);
                let [block] = block;
                out.extend(block);
            }
            assert!(changed > 50 * MIN_LAG, "{changed}");
            assert_eq!(out.len().abs_diff(48_000), changed);
            let pitch = dominant_frequency(&out, 48_000).unwrap_or(0.0);
            assert!((pitch - 230.0).abs() < 3.0, "{pitch}");
            let step = out.windows(2).fold(0f32, |m, w| m.max((w[1] - w[0]).abs()));
            assert!(step < 0.012, "{step}");
        }
    }

    #[test]
    fn noise_and_short_blocks_are_left_alone_and_silence_is_not() {
        let mut state = 1u32;
        let noise: Vec<f32> = (0..960)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 24) as f32 - 0.5
            })
            .collect();
        let mut noise = [noise];
        assert_eq!(shorten(&mut noise, 0, Likeness::UNHEARD), 0);
        assert_eq!(noise[0].len(), 960);
        assert!(shorten(&mut noise, 0, Likeness::ANY) > 0);
        assert_eq!(lengthen(&mut [vec![0.0; 959]], 0, Likeness::ANY), 0);
        assert_eq!(shorten(&mut [vec![0.0; 1000]], 40, Likeness::UNHEARD), 480);
        assert_eq!(lengthen(&mut [vec![0.0; 1000]], 41, Likeness::UNHEARD), 0);
        assert_eq!(lengthen(&mut [vec![0.0; 960], vec![0.0; 959]], 0, Likeness::ANY), 0);
    }

    #[test]
    fn the_channels_of_stereo_sound_stay_together() {
        // One is silent, or the opposite of the other: each would find another period by itself.
        for (left_gain, right_gain) in [(1.0f32, 0.0f32), (0.0, 1.0), (1.0, -1.0)] {
            for operation in [shorten as fn(&mut [Vec<f32>], usize, Likeness) -> usize, lengthen] {
                let mut tone = Tone::new(330.0, -12.0);
                let tone: Vec<f32> =
                    (0..2).flat_map(|_| tone.next_frame(MediaTime::default()).samples).collect();
                let scaled = |gain: f32| tone.iter().map(|s| s * gain).collect::<Vec<f32>>();
                let mut stereo = [scaled(left_gain), scaled(right_gain)];
                let mut mono = [tone.clone()];
                let changed = operation(&mut mono, 0, Likeness::UNHEARD);
                assert!(changed > 0);
                assert_eq!(operation(&mut stereo, 0, Likeness::UNHEARD), changed);
                for (channel, gain) in stereo.iter().zip([left_gain, right_gain]) {
                    assert_eq!(channel.len(), mono[0].len());
                    assert!(channel.iter().zip(&mono[0]).all(|(c, m)| (c - m * gain).abs() < 1e-6));
                }
            }
        }
    }
}
