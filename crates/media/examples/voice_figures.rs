//! Figures of voice processing: echo, double talk, noise, gain, delay, cost.
//! `cargo run -p visavis-media --example voice_figures`

use std::time::{Duration, Instant};

use visavis_media::AUDIO_FRAME_SAMPLES;
use visavis_media::audio::level::Level;
use visavis_media::audio::room::{Room, noise};
use visavis_media::audio::speech::Talker;
use visavis_media::audio::stoi::stoi;
use visavis_media::audio::voice::{VoiceProcessor, VoiceSettings, VoiceStats};

const RATE: usize = 48_000;

struct Run {
    out: Vec<f32>,
    stats: VoiceStats,
    cost: Duration,
}

/// Plays `far` and hears `microphone`; the output is moved back by the processor's delay.
fn run(
    settings: VoiceSettings,
    far: Option<&[f32]>,
    microphone: &[f32],
    delay: Option<Duration>,
) -> Run {
    let mut processor = VoiceProcessor::new(settings);
    let mut out = Vec::with_capacity(microphone.len());
    let mut cost = Duration::ZERO;
    for (n, frame) in microphone.as_chunks::<AUDIO_FRAME_SAMPLES>().0.iter().enumerate() {
        let mut frame = *frame;
        let begun = Instant::now();
        if let Some(far) = far {
            processor.render(&far.as_chunks().0[n]);
        }
        processor.process(&mut frame, delay);
        cost += begun.elapsed();
        out.extend_from_slice(&frame);
    }
    let late = (VoiceProcessor::DELAY.as_secs_f32() * RATE as f32).round() as usize;
    out.rotate_left(late);
    let frames = (microphone.len() / AUDIO_FRAME_SAMPLES) as u32;
    Run { out, stats: processor.stats(), cost: cost / frames }
}

fn rms(samples: &[f32]) -> f32 {
    Level::of(samples).rms_dbfs
}

fn add(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

const NO_GAIN: VoiceSettings = VoiceSettings { automatic_gain: false, ..VoiceSettings::ON };
const ECHO_ONLY: VoiceSettings = VoiceSettings { echo_cancellation: true, ..VoiceSettings::OFF };

fn main() {
    echo();
    if std::env::args().len() > 1 {
        return;
    }
    noise_and_gain();
    cost();
}

fn echo() {
    println!(
        "delay ms, echo dB, drift ppm, noise dBFS | echo down dB after 5 s (all but gain; AEC only; all), 1st s | delay found, ERLE | double talk STOI raw -> AEC, all but gain, all | near-end level change dB"
    );
    let seconds = 20;
    let far = Talker::new(1, 110.0).take(seconds as f32);
    let near = Talker::new(2, 210.0).take(seconds as f32);
    for (delay_ms, echo_db, drift_ppm, noise_dbfs) in [
        (40, -6.0, 0.0, -80.0),
        (40, -10.0, 0.0, -80.0),
        (100, -8.0, 0.0, -80.0),
        (200, -6.0, 0.0, -80.0),
        (200, -10.0, 0.0, -80.0),
        (100, -8.0, 50.0, -80.0),
        (100, -8.0, 200.0, -80.0),
        (100, -8.0, -200.0, -80.0),
        (100, -8.0, 0.0, -60.0),
        (40, -6.0, 0.0, -65.0),
        (200, -10.0, 0.0, -65.0),
    ] {
        let delay = Duration::from_millis(delay_ms);
        let reverberation = Duration::from_millis(250);
        let room = Room { seed: 7, delay, echo_db, reverberation, drift_ppm };
        let heard = room.echo(&far);
        let hiss = noise(9, noise_dbfs, heard.len());
        let single = add(&heard, &hiss);
        let from = 5 * RATE;
        let down = |run: &Run| rms(&heard[from..]) - rms(&run.out[from..]);
        let both = run(NO_GAIN, Some(&far), &single, Some(delay));
        let aec = run(ECHO_ONLY, Some(&far), &single, Some(delay));
        let all = run(VoiceSettings::ON, Some(&far), &single, Some(delay));
        let hint = run(NO_GAIN, Some(&far), &single, None);
        // The near end talks only from 6 s on.
        let mut talk = near.clone();
        talk[..6 * RATE].fill(0.0);
        let double = add(&single, &talk);
        let score = |out: &[f32]| stoi(&talk[6 * RATE..], &out[6 * RATE..], 48_000);
        let runs = [ECHO_ONLY, NO_GAIN, VoiceSettings::ON]
            .map(|settings| run(settings, Some(&far), &double, Some(delay)));
        let scores = runs.each_ref().map(|r| score(&r.out));
        println!(
            "{delay_ms:4} {echo_db:4} {drift_ppm:5} {noise_dbfs:4} | {:5.1} {:5.1} {:5.1}; {:5.1} (no hint {:5.1}, 1st s {:5.1}) | {:?} {:.0} dB | {:.3} -> {:.3} {:.3} {:.3} | {:.1}",
            down(&both),
            down(&aec),
            down(&all),
            rms(&heard[RATE / 2..RATE * 3 / 2]) - rms(&both.out[RATE / 2..RATE * 3 / 2]),
            down(&hint),
            rms(&heard[RATE / 2..RATE * 3 / 2]) - rms(&hint.out[RATE / 2..RATE * 3 / 2]),
            both.stats.echo_delay,
            both.stats.echo_return_loss_enhancement_db.unwrap_or(0.0),
            score(&double),
            scores[0],
            scores[1],
            scores[2],
            rms(&runs[0].out[6 * RATE..]) - rms(&talk[6 * RATE..]),
        );
    }
}

fn noise_and_gain() {
    let near = Talker::new(3, 130.0).take(20.0);
    for noise_dbfs in [-60.0, -50.0, -40.0] {
        let hiss = noise(4, noise_dbfs, near.len());
        let settings = VoiceSettings { noise_suppression: true, ..VoiceSettings::OFF };
        let alone = run(settings, None, &hiss, None);
        let from = 5 * RATE;
        let noisy = add(&near, &hiss);
        let clean = run(settings, None, &noisy, None);
        // Power in the pauses of speech.
        let pauses: Vec<usize> = (from..near.len() - 4800)
            .step_by(4800)
            .filter(|n| rms(&near[*n..*n + 4800]) < -75.0)
            .collect();
        let pause = |s: &[f32]| {
            let all: Vec<f32> =
                pauses.iter().flat_map(|n| s[*n..*n + 4800].iter().copied()).collect();
            rms(&all)
        };
        println!(
            "noise {noise_dbfs} dBFS: alone {:.1} dB down, in pauses {:.1} dB down ({}), STOI {:.3} -> {:.3}",
            noise_dbfs - rms(&alone.out[from..]),
            pause(&noisy) - pause(&clean.out),
            pauses.len(),
            stoi(&near[from..], &noisy[from..], 48_000),
            stoi(&near[from..], &clean.out[from..], 48_000),
        );
    }
    for level_db in [-20.0_f32, 0.0, 10.0] {
        let gain = 10_f32.powf(level_db / 20.0);
        let talk: Vec<f32> = near.iter().map(|s| (s * gain).clamp(-1.0, 1.0)).collect();
        let out =
            run(VoiceSettings { automatic_gain: true, ..VoiceSettings::OFF }, None, &talk, None);
        let windows: Vec<String> = [0, 2, 4, 8, 14]
            .iter()
            .map(|s| format!("{:.1}", rms(&out.out[s * RATE..(s + 4) * RATE])))
            .collect();
        println!(
            "AGC: input {:.1} dBFS RMS -> {} dBFS (4 s from 0, 2, 4, 8, 14 s), gain at the end {:?} dB",
            rms(&talk),
            windows.join(", "),
            out.stats.gain_db,
        );
    }
}

fn cost() {
    let far = Talker::new(1, 110.0).take(10.0);
    let near = Talker::new(2, 210.0).take(10.0);
    for (name, settings, far) in [
        ("all, speaker playing", VoiceSettings::ON, Some(&far[..])),
        ("all, no speaker", VoiceSettings::ON, None),
        ("echo only", ECHO_ONLY, Some(&far[..])),
        ("noise only", VoiceSettings { noise_suppression: true, ..VoiceSettings::OFF }, None),
        ("gain only", VoiceSettings { automatic_gain: true, ..VoiceSettings::OFF }, None),
        ("all off", VoiceSettings::OFF, None),
    ] {
        println!("{name}: {:?} per 10 ms", run(settings, far, &near, None).cost);
    }
    // Where an impulse comes out with everything off.
    let mut impulse = vec![0.0; 48_000];
    impulse[24_000] = 0.5;
    let mut processor = VoiceProcessor::new(VoiceSettings::OFF);
    let mut out = Vec::new();
    for frame in impulse.as_chunks::<AUDIO_FRAME_SAMPLES>().0 {
        let mut frame = *frame;
        processor.process(&mut frame, None);
        out.extend_from_slice(&frame);
    }
    let at = out.iter().enumerate().max_by(|a, b| a.1.abs().total_cmp(&b.1.abs()));
    println!("delay: {:?} samples", at.map(|(n, s)| (n - 24_000, *s)));
}
