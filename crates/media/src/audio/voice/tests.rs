#![allow(clippy::unwrap_used)]

use std::f32::consts::TAU;
use std::time::Duration;

use visavis_media_testing::room::{Room, noise};
use visavis_media_testing::speech::Talker;
use visavis_media_testing::stoi::stoi;

use super::*;
use crate::audio::level::Level;
use crate::frame::MediaTime;

const RATE: usize = 48_000;
const OFF: VoiceSettings = VoiceSettings::OFF;
const NO_GAIN: VoiceSettings = VoiceSettings { automatic_gain: false, ..VoiceSettings::ON };

/// Plays `far`, hears `microphone`; what comes out, moved back by the processor's delay.
/// `before` is called with each frame's number.
fn run(
    processor: &mut VoiceProcessor,
    far: &[f32],
    microphone: &[f32],
    delay: Option<Duration>,
    mut before: impl FnMut(&mut VoiceProcessor, usize),
) -> Vec<f32> {
    let played = far.as_chunks().0;
    let mut out = Vec::with_capacity(microphone.len());
    for (n, frame) in microphone.as_chunks::<AUDIO_FRAME_SAMPLES>().0.iter().enumerate() {
        before(processor, n);
        if let Some(block) = played.get(n) {
            processor.render(block);
        }
        let mut frame = *frame;
        processor.process(&mut frame, delay);
        out.extend_from_slice(&frame);
    }
    out.rotate_left(DELAY_SAMPLES as usize);
    out
}

fn rms(samples: &[f32]) -> f32 {
    Level::of(samples).rms_dbfs
}

fn sum(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

fn room(delay_ms: u64, echo_db: f32, drift_ppm: f64) -> Room {
    Room {
        seed: 7,
        delay: Duration::from_millis(delay_ms),
        echo_db,
        reverberation: Duration::from_millis(250),
        drift_ppm,
    }
}

#[test]
fn echo_of_the_far_end_is_40_db_down_once_the_room_is_known() {
    let far = Talker::new(1, 110.0).take(14.0);
    let hiss = noise(9, -80.0, far.len());
    for (delay_ms, echo_db, drift_ppm) in [
        (40, -6.0, 0.0),
        (200, -8.0, 0.0),
        (200, -8.0, -50.0),
        (150, -6.0, 200.0),
        (100, -6.0, -200.0),
    ] {
        let room = room(delay_ms, echo_db, drift_ppm);
        let heard = room.echo(&far);
        let mut processor = VoiceProcessor::new(NO_GAIN);
        let out = run(&mut processor, &far, &sum(&heard, &hiss), Some(room.delay), |_, _| {});
        let down = rms(&heard[5 * RATE..]) - rms(&out[5 * RATE..]);
        eprintln!("{room:?}: {down:.1} dB down, {:?}", processor.stats());
        assert!(down >= 45.0, "{room:?}: {down} dB");
        // No stretch leaks, from the first word on.
        for start in (RATE / 2..far.len() - RATE).step_by(RATE / 2) {
            let stretch = start..start + RATE / 2;
            let left = rms(&out[stretch.clone()]);
            let (at, was) = (start as f32 / RATE as f32, rms(&heard[stretch]));
            assert!(left < -60.0, "{room:?}, {at} s: {left} dBFS of {was}");
        }
        // Found to a few blocks of 4 ms.
        let found = processor.stats().echo_delay.unwrap();
        assert!(found.abs_diff(room.delay) <= Duration::from_millis(16), "{found:?}");
    }
}

/// What a microphone hears that is its speaker's monitor: one path, and no noise but rounding.
fn monitor(far: &[f32], delay_ms: usize, gain: f32) -> Vec<f32> {
    let mut monitor = vec![0.0; 48 * delay_ms];
    let played = &far[..far.len() - monitor.len()];
    monitor.extend(played.iter().map(|s| (s * gain * SCALE).round() / SCALE));
    monitor
}

#[test]
fn what_is_left_of_the_echo_is_neither_raised_nor_taken_for_somebody_who_talks() {
    let far: Vec<f32> = Talker::new(2, 150.0).take(14.0).iter().map(|s| s * 0.4).collect();
    let noisy = sum(&room(40, -6.0, 0.0).echo(&far), &noise(9, -80.0, far.len()));
    for (name, heard, least) in [
        ("monitor", monitor(&far, 30, 1.0), 65.0),
        ("monitor, later than told", monitor(&far, 60, 1.0), 65.0),
        ("monitor, earlier than told", monitor(&far, 15, 1.0), 65.0),
        ("monitor 10 dB louder, later than told", monitor(&far, 70, 3.16), 65.0),
        ("noisy", noisy, 45.0),
    ] {
        let mut processor = VoiceProcessor::new(VoiceSettings::ON);
        let mut least_gain = f32::INFINITY;
        let told = Some(Duration::from_millis(30));
        let out = run(&mut processor, &far, &heard, told, |processor, _| {
            least_gain = least_gain.min(processor.stats().gain_db.unwrap_or(f32::INFINITY));
        });
        assert!(least_gain < 1.0, "{name}: the gain that is told is never held back");
        let down = rms(&heard[4 * RATE..]) - rms(&out[4 * RATE..]);
        eprintln!("{name}: {down:.1} dB down, {:?}", processor.stats());
        assert!(down >= least, "{name}: {down} dB");
    }
}

#[test]
fn who_talks_from_the_first_word_on_is_kept_over_an_echo_as_loud() {
    for seed in [1, 2] {
        let far = Talker::new(seed, 110.0 + 10.0 * seed as f32).take(14.0);
        let near = Talker::new(seed + 7, 200.0).take(14.0);
        let microphone = sum(&monitor(&far, 50, 1.0), &near);
        let mut processor = VoiceProcessor::new(VoiceSettings::ON);
        let told = Some(Duration::from_millis(30));
        let out = run(&mut processor, &far, &microphone, told, |_, _| {});
        let score = |out: &[f32]| stoi(&near[3 * RATE..], &out[3 * RATE..], 48_000);
        eprintln!("STOI {:.3} -> {:.3}", score(&microphone), score(&out));
        assert!(score(&out) > 0.92, "{}", score(&out));
    }
}

#[test]
fn the_echo_is_found_without_a_word_from_the_devices_and_after_it_moved() {
    let far = Talker::new(1, 110.0).take(20.0);
    let hiss = noise(9, -80.0, far.len());
    let (near, away) = (room(60, -8.0, 0.0).echo(&far), room(180, -8.0, 0.0).echo(&far));
    // Half-way the sound system buffers more.
    let half = far.len() / 2;
    let heard = [&near[..half], &away[half..]].concat();
    let mut processor = VoiceProcessor::new(NO_GAIN);
    let out = run(&mut processor, &far, &sum(&heard, &hiss), None, |_, _| {});
    for (range, least) in [(5 * RATE..half, 40.0), (half + 2 * RATE..far.len(), 40.0)] {
        let down = rms(&heard[range.clone()]) - rms(&out[range.clone()]);
        eprintln!("{range:?}: {down:.1} dB down");
        assert!(down >= least, "{range:?}: {down} dB");
    }
    let found = processor.stats().echo_delay.unwrap();
    assert!(found.abs_diff(Duration::from_millis(180)) <= Duration::from_millis(16), "{found:?}");
}

#[test]
fn near_end_speech_is_kept_while_the_far_end_talks() {
    let far = Talker::new(1, 110.0).take(20.0);
    let mut near = Talker::new(2, 210.0).take(20.0);
    let talk = 6 * RATE;
    near[..talk].fill(0.0);
    let hiss = noise(9, -65.0, far.len());
    for (delay_ms, echo_db, drift_ppm) in
        [(40, -6.0, 0.0), (100, 0.0, 0.0), (200, -10.0, -50.0), (100, -8.0, 200.0)]
    {
        let room = room(delay_ms, echo_db, drift_ppm);
        let microphone = sum(&sum(&room.echo(&far), &hiss), &near);
        let mut processor = VoiceProcessor::new(NO_GAIN);
        let out = run(&mut processor, &far, &microphone, Some(room.delay), |_, _| {});
        let score = stoi(&near[talk..], &out[talk..], 48_000);
        let lost = rms(&near[talk..]) - rms(&out[talk..]);
        eprintln!("{room:?}: STOI {score:.3}, {lost:.1} dB quieter");
        assert!(score >= DOUBLE_TALK_STOI, "{room:?}: {score}");
        assert!(lost < 2.0, "{room:?}: {lost} dB");
    }
}

#[test]
fn near_end_speech_is_kept_though_nothing_of_the_far_end_is_heard_or_the_room_changes() {
    let far = Talker::new(1, 110.0).take(20.0);
    let near = Talker::new(2, 210.0).take(20.0);
    let hiss = noise(9, -65.0, far.len());
    let here = room(100, -8.0, 0.0).echo(&far);
    // Somebody moves the laptop: another room from the half on.
    let half = far.len() / 2;
    let there = Room { seed: 8, ..room(105, -8.0, 0.0) }.echo(&far);
    let moved = [&here[..half], &there[half..]].concat();
    for (name, echo, least) in [
        ("headphones", vec![0.0; far.len()], 0.96),
        ("both from the begin", here, 0.93),
        ("moved", moved, 0.87),
    ] {
        let microphone = sum(&sum(&echo, &hiss), &near);
        let mut processor = VoiceProcessor::new(NO_GAIN);
        let out = run(&mut processor, &far, &microphone, None, |_, _| {});
        let score = stoi(&near[RATE..], &out[RATE..], 48_000);
        eprintln!("{name}: STOI {score:.3}");
        assert!(score >= least, "{name}: {score}");
    }
}

/// From second `at` on it is later by `slip` samples: a sound system that ran dry, or that skips.
fn slipped(echo: &[f32], at: usize, slip: isize) -> Vec<f32> {
    let later = |n: usize| if n < at * RATE { Some(n) } else { n.checked_add_signed(-slip) };
    (0..echo.len()).map(|n| later(n).and_then(|n| echo.get(n)).copied().unwrap_or(0.0)).collect()
}

#[test]
fn an_echo_that_slips_is_followed_at_once_though_both_talk() {
    let far = Talker::new(1, 110.0).take(16.0);
    let near = Talker::new(8, 200.0).take(16.0);
    let hiss = noise(9, -80.0, far.len());
    let reverberant = room(60, -8.0, 0.0).echo(&far);
    for (name, echo) in [("monitor", monitor(&far, 60, 1.0)), ("room", reverberant)] {
        for slip in [-23, 110, 186, -480, 1500] {
            let heard = sum(&slipped(&echo, 8, slip), &hiss);
            let run = |microphone: &[f32]| {
                let mut processor = VoiceProcessor::new(NO_GAIN);
                let told = Some(Duration::from_millis(40));
                run(&mut processor, &far, microphone, told, |_, _| {})
            };
            let out = run(&sum(&heard, &near));
            let both = stoi(&near[8 * RATE..], &out[8 * RATE..], 48_000);
            let alone = run(&heard);
            let left = rms(&alone[8 * RATE + RATE / 2..10 * RATE]);
            eprintln!("{name} {slip}: STOI {both:.3}; far end alone {left:.1} dBFS");
            // 0.82 to 0.92 if the canceller has to learn it.
            assert!(both > 0.95, "{name} {slip}: {both}");
            assert!(left < -70.0, "{name} {slip}: {left} dBFS");
        }
    }
}

#[test]
fn a_moved_microphone_leaks_for_less_than_a_second() {
    let far = Talker::new(1, 110.0).take(16.0);
    let hiss = noise(9, -70.0, far.len());
    let here = room(100, -8.0, 0.0).echo(&far);
    let half = far.len() / 2;
    for (delay_ms, seed) in [(100, 8), (101, 7), (110, 7)] {
        let there = Room { seed, ..room(delay_ms, -8.0, 0.0) }.echo(&far);
        let heard = [&here[..half], &there[half..]].concat();
        let mut processor = VoiceProcessor::new(NO_GAIN);
        let out = run(&mut processor, &far, &sum(&heard, &hiss), None, |_, _| {});
        let left = rms(&out[half + RATE..]);
        eprintln!("{delay_ms} ms, room {seed}: {left:.1} dBFS left");
        assert!(left < -62.0, "{delay_ms} ms, room {seed}: {left} dBFS left");
    }
}

#[test]
fn a_speaker_that_distorts_or_takes_its_blocks_in_bursts_leaks_no_more() {
    let far = Talker::new(1, 110.0).take(14.0);
    let hiss = noise(9, -70.0, far.len());
    let room = room(100, -8.0, 0.0);
    let bent: Vec<f32> = far.iter().map(|s| (s * 3.0).tanh() / 3.0).collect();
    for (name, played, burst) in [("distorts", &bent, 1), ("bursts", &far, 4)] {
        let heard = room.echo(played);
        let microphone = sum(&heard, &hiss);
        let mut processor = VoiceProcessor::new(NO_GAIN);
        let mut out = Vec::new();
        for (n, frame) in microphone.as_chunks::<AUDIO_FRAME_SAMPLES>().0.iter().enumerate() {
            if n.is_multiple_of(burst) {
                far.as_chunks().0.iter().skip(n).take(burst).for_each(|b| processor.render(b));
            }
            let mut frame = *frame;
            processor.process(&mut frame, Some(room.delay));
            out.extend_from_slice(&frame);
        }
        let down = rms(&heard[5 * RATE..]) - rms(&out[5 * RATE..]);
        eprintln!("{name}: {down:.1} dB down");
        assert!(down >= 40.0, "{name}: {down} dB");
    }
}

/// See docs/decisions/0008-voice-processing.md.
const DOUBLE_TALK_STOI: f64 = 0.91;

#[test]
fn steady_noise_goes_and_speech_stays() {
    let near = Talker::new(3, 130.0).take(12.0);
    let hiss = noise(4, -45.0, near.len());
    let settings = VoiceSettings { noise_suppression: true, ..OFF };
    let mut processor = VoiceProcessor::new(settings);
    let alone = run(&mut processor, &[], &hiss, None, |_, _| {});
    let down = rms(&hiss[4 * RATE..]) - rms(&alone[4 * RATE..]);
    assert!((12.0..25.0).contains(&down), "{down} dB");
    let mut processor = VoiceProcessor::new(settings);
    let out = run(&mut processor, &[], &sum(&near, &hiss), None, |_, _| {});
    let score = stoi(&near[4 * RATE..], &out[4 * RATE..], 48_000);
    assert!(score > 0.88, "{score}");
}

#[test]
fn quiet_and_loud_talkers_come_out_alike_and_unclipped() {
    let talk = Talker::new(3, 130.0).take(16.0);
    for gain_db in [-18.0_f32, 0.0] {
        let gain = 10_f32.powf(gain_db / 20.0);
        let spoken: Vec<f32> = talk.iter().map(|s| s * gain).collect();
        let mut processor = VoiceProcessor::new(VoiceSettings { automatic_gain: true, ..OFF });
        let out = run(&mut processor, &[], &spoken, None, |_, _| {});
        let level = Level::of(&out[8 * RATE..15 * RATE]);
        assert!((-30.0..-18.0).contains(&level.rms_dbfs), "{gain_db} dB: {level:?}");
        assert!(level.peak_dbfs <= 0.0, "{level:?}");
        // What it says it applies is what it applies.
        let gain_db = processor.stats().gain_db.unwrap();
        let applied = rms(&out[14 * RATE..]) - rms(&spoken[14 * RATE..]);
        assert!((gain_db - applied).abs() < 3.0, "{gain_db} said, {applied} applied");
    }
}

#[test]
fn with_everything_off_sound_comes_out_as_it_was_later() {
    let talk = Talker::new(3, 130.0).take(2.0);
    let mut processor = VoiceProcessor::new(OFF);
    let out = run(&mut processor, &talk, &talk, None, |_, _| {});
    assert!(stoi(&talk[..RATE], &out[..RATE], 48_000) > 0.99);
    let lost = rms(&talk[..RATE]) - rms(&out[..RATE]);
    assert!(lost.abs() < 0.5, "{lost} dB");
    assert_eq!(processor.stats(), VoiceStats::default());
}

#[test]
fn switching_a_part_neither_clicks_nor_makes_the_others_forget() {
    // A steady tone shows the smallest click: outside its own band nothing may appear.
    let tone: Vec<f32> =
        (0..8 * RATE).map(|n| 0.2 * (n as f32 * 440.0 * TAU / RATE as f32).sin()).collect();
    let rough = |out: &[f32]| {
        // Second difference: for the tone at most a (w^2) of 0.00066.
        out.windows(3).map(|w| (w[0] - 2.0 * w[1] + w[2]).abs()).fold(0.0, f32::max)
    };
    for part in 0..3 {
        let mut processor = VoiceProcessor::new(OFF);
        let silence = vec![0.0; tone.len()];
        let out = run(&mut processor, &silence, &tone, None, |p, n| {
            if n >= 100 && n.is_multiple_of(50) {
                let on = n.is_multiple_of(100);
                p.set_settings(VoiceSettings {
                    high_pass: on && part == 0,
                    echo_cancellation: on && part == 1,
                    noise_suppression: on && part == 2,
                    automatic_gain: false,
                });
            }
        });
        let worst = rough(&out[RATE / 2..7 * RATE]);
        assert!(worst < 0.005, "part {part}: {worst}");
    }
    // The canceller goes on as well after the suppressor was switched.
    let far = Talker::new(1, 110.0).take(12.0);
    let hiss = noise(9, -80.0, far.len());
    let room = room(80, -8.0, 0.0);
    let heard = room.echo(&far);
    let mut processor = VoiceProcessor::new(NO_GAIN);
    let out = run(&mut processor, &far, &sum(&heard, &hiss), Some(room.delay), |p, n| {
        if n == 800 {
            p.set_settings(VoiceSettings { echo_cancellation: true, ..OFF });
        }
    });
    let down = rms(&heard[9 * RATE..11 * RATE]) - rms(&out[9 * RATE..11 * RATE]);
    assert!(down > 30.0, "{down} dB");
}

#[test]
fn far_end_echo_and_noise_are_not_taken_for_the_muted_person() {
    let far = Talker::new(1, 110.0).take(20.0);
    let room = room(120, -6.0, 0.0);
    let hiss = noise(9, -45.0, far.len());
    let microphone = sum(&room.echo(&far), &hiss);
    let mut near = Talker::new(2, 210.0).take(20.0);
    near[..RATE].fill(0.0);
    for (echo_cancellation, near, expected) in
        [(true, None, false), (false, None, false), (true, Some(&near), true)]
    {
        let microphone = near.map_or_else(|| microphone.clone(), |near| sum(&microphone, near));
        let mut processor = VoiceProcessor::new(VoiceSettings { echo_cancellation, ..NO_GAIN });
        processor.set_detect_speech(true);
        let mut muted = SpeechWhileMuted::default();
        let mut told = false;
        for (n, frame) in microphone.as_chunks::<AUDIO_FRAME_SAMPLES>().0.iter().enumerate() {
            let mut frame = *frame;
            processor.render(&far.as_chunks().0[n]);
            let heard = processor.process(&mut frame, Some(room.delay));
            let now = MediaTime::from_micros(n as u64 * 10_000);
            told |= muted.update(&heard, echo_cancellation, now);
        }
        assert_eq!(told, expected, "cancelled {echo_cancellation}, near {}", near.is_some());
    }
}

#[test]
fn the_canceller_rests_without_a_speaker_and_broken_samples_do_no_harm() {
    let talk = Talker::new(3, 130.0).take(3.0);
    let mut processor = VoiceProcessor::new(NO_GAIN);
    run(&mut processor, &talk[..RATE], &talk, None, |_, _| {});
    assert_eq!(processor.stats().echo_delay, None, "a second after the speaker closed");
    let mut frame = [f32::NAN; AUDIO_FRAME_SAMPLES];
    processor.process(&mut frame, None);
    let mut frame = [f32::INFINITY; AUDIO_FRAME_SAMPLES];
    processor.process(&mut frame, None);
    let out = run(&mut processor, &[], &talk, None, |_, _| {});
    assert!(out.iter().all(|s| s.is_finite() && s.abs() <= 1.0));
    assert!(rms(&out[RATE..]) > -40.0);
}
