//! Figures of voice processing: echo, double talk, noise, gain, delay, cost.
//! `cargo run -p visavis-media --example voice_figures`
//!
//! With two recordings (48 kHz, mono, 16 bits, at least 20 s) as arguments, far end and near end, only
//! the figures of echo and double talk, for these voices instead of synthetic ones.
#![allow(clippy::disallowed_methods, reason = "it measures time")]

use std::time::{Duration, Instant};

use visavis_media::AUDIO_FRAME_SAMPLES;
use visavis_media::audio::level::Level;
use visavis_media::audio::voice::{VoiceProcessor, VoiceSettings, VoiceStats};
use visavis_media_testing::room::{Room, noise};
use visavis_media_testing::speech::Talker;
use visavis_media_testing::stoi::stoi;

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
    let files: Vec<String> = std::env::args().skip(1).collect();
    if let [far, near] = &files[..] {
        match (recording(far), recording(near)) {
            (Ok(far), Ok(near)) => echo(&far, &near),
            (Err(e), _) | (_, Err(e)) => eprintln!("{e}"),
        }
        return;
    }
    echo(&Talker::new(1, 110.0).take(SECONDS), &Talker::new(2, 210.0).take(SECONDS));
    noise_and_gain();
    cost();
}

const SECONDS: f32 = 20.0;

/// The first of a recording, as loud as the synthetic talker.
fn recording(path: &str) -> Result<Vec<f32>, hound::Error> {
    let reader = hound::WavReader::open(path)?;
    let samples = (SECONDS * RATE as f32) as usize;
    let samples: Result<Vec<f32>, _> = reader
        .into_samples::<i16>()
        .take(samples)
        .map(|s| s.map(|s| f32::from(s) / 32_768.0))
        .collect();
    let mut samples = samples?;
    let gain = 10_f32.powf((-25.0 - rms(&samples)) / 20.0);
    samples.iter_mut().for_each(|s| *s = (*s * gain).clamp(-0.95, 0.95));
    Ok(samples)
}

/// One row of figures.
#[derive(Clone, Copy)]
struct Case {
    delay_ms: u64,
    /// What the devices say of the delay, too much by so many ms; nothing if absent.
    told_off_ms: Option<i64>,
    echo_db: f32,
    reverberation_ms: u64,
    drift_ppm: f64,
    noise_dbfs: f32,
    /// How far the speaker is driven into its limits; 0 is not at all.
    clip: f32,
    /// At 11 s the microphone stands in a room of another seed, so many ms further away.
    moved: Option<(u64, u64)>,
    near_from: usize,
    /// Of the near end, against the far end as played.
    near_db: f32,
}

const PLAIN: Case = Case {
    delay_ms: 100,
    told_off_ms: Some(0),
    echo_db: -8.0,
    reverberation_ms: 250,
    drift_ppm: 0.0,
    noise_dbfs: -70.0,
    clip: 0.0,
    moved: None,
    near_from: 6,
    near_db: 0.0,
};

const CASES: [(&str, Case); 22] = [
    ("near", Case { delay_ms: 40, echo_db: -6.0, noise_dbfs: -80.0, ..PLAIN }),
    ("plain", PLAIN),
    ("-50 ppm", Case { delay_ms: 200, drift_ppm: -50.0, noise_dbfs: -80.0, ..PLAIN }),
    ("200 ppm", Case { drift_ppm: 200.0, noise_dbfs: -80.0, ..PLAIN }),
    ("-200 ppm", Case { drift_ppm: -200.0, noise_dbfs: -65.0, ..PLAIN }),
    ("50 ppm, 400 ms reverberation", Case { drift_ppm: 50.0, reverberation_ms: 400, ..PLAIN }),
    ("600 ms reverberation", Case { delay_ms: 60, echo_db: -12.0, reverberation_ms: 600, ..PLAIN }),
    ("200 ms, not told", Case { delay_ms: 200, told_off_ms: None, echo_db: -6.0, ..PLAIN }),
    ("told 80 ms too much", Case { told_off_ms: Some(80), ..PLAIN }),
    ("told 60 ms too little", Case { told_off_ms: Some(-60), ..PLAIN }),
    ("as loud as played", Case { echo_db: 0.0, noise_dbfs: -65.0, ..PLAIN }),
    ("quiet echo", Case { echo_db: -30.0, noise_dbfs: -65.0, ..PLAIN }),
    ("headphones", Case { echo_db: -60.0, noise_dbfs: -65.0, ..PLAIN }),
    ("noise -50 dBFS", Case { noise_dbfs: -50.0, ..PLAIN }),
    ("speaker distorts", Case { clip: 3.0, ..PLAIN }),
    ("speaker distorts badly", Case { clip: 12.0, ..PLAIN }),
    ("near end 5 dB under the echo", Case { near_db: -13.0, ..PLAIN }),
    ("near end 10 dB under the echo", Case { near_db: -18.0, noise_dbfs: -80.0, ..PLAIN }),
    ("both from the begin", Case { near_from: 0, ..PLAIN }),
    ("both from the begin, 100 ppm", Case { near_from: 0, drift_ppm: 100.0, ..PLAIN }),
    ("moved by 34 cm", Case { moved: Some((1, 0)), ..PLAIN }),
    ("another room, 100 ms later", Case { told_off_ms: None, moved: Some((100, 1)), ..PLAIN }),
];
/// Second at which the microphone moves.
const MOVES: usize = 11;

fn echo(far: &[f32], near: &[f32]) {
    println!(
        "case | echo down dB from 5 s: AEC, all but gain, all (down to the noise); worst second of AEC; 1st s | STOI raw -> AEC, all but gain, all (without any echo: AEC, all but gain) | dB quieter | cost of AEC"
    );
    for (name, case) in CASES {
        let room = |later: u64, seed: u64| Room {
            seed: 7 + seed,
            delay: Duration::from_millis(case.delay_ms + later),
            echo_db: case.echo_db,
            reverberation: Duration::from_millis(case.reverberation_ms),
            drift_ppm: case.drift_ppm,
        };
        let bent: Vec<f32> = if case.clip > 0.0 {
            far.iter().map(|s| (s * case.clip).tanh() / case.clip).collect()
        } else {
            far.to_vec()
        };
        let mut heard = room(0, 0).echo(&bent);
        if let Some((later, seed)) = case.moved {
            let other = room(later, seed).echo(&bent);
            heard[MOVES * RATE..].copy_from_slice(&other[MOVES * RATE..]);
        }
        let told = case
            .told_off_ms
            .map(|off| Duration::from_millis(case.delay_ms.saturating_add_signed(off)));
        let hiss = noise(9, case.noise_dbfs, heard.len());
        let single = add(&heard, &hiss);
        let loudness = 10_f32.powf(case.near_db / 20.0);
        let mut talk: Vec<f32> = near.iter().map(|s| s * loudness).collect();
        talk[..case.near_from * RATE].fill(0.0);
        let double = add(&single, &talk);
        let both = [ECHO_ONLY, NO_GAIN, VoiceSettings::ON]
            .map(|settings| [&single, &double].map(|mic| run(settings, Some(far), mic, told)));
        // What the chain makes of the near end alone.
        let silence = vec![0.0; far.len()];
        let clean = add(&talk, &hiss);
        let bound = [ECHO_ONLY, NO_GAIN].map(|s| run(s, Some(&silence), &clean, told));
        let down = |run: &Run, from: usize, to: usize| {
            rms(&heard[from * RATE..to * RATE]) - rms(&run.out[from * RATE..to * RATE])
        };
        // A moved microphone has a second to settle.
        let stretches = match case.moved {
            Some(_) => vec![(5, MOVES), (MOVES + 1, 20)],
            None => vec![(5, 20)],
        };
        let least = |run: &Run| {
            stretches.iter().map(|(a, b)| down(run, *a, *b)).fold(f32::INFINITY, f32::min)
        };
        let worst = stretches
            .iter()
            .flat_map(|(a, b)| *a..*b)
            .filter(|s| rms(&heard[s * RATE..(s + 1) * RATE]) > rms(&heard) - 10.0)
            .map(|s| down(&both[0][0], s, s + 1))
            .fold(f32::INFINITY, f32::min);
        let from = case.near_from.max(1) * RATE;
        let score = |out: &[f32]| stoi(&talk[from..], &out[from..], 48_000);
        println!(
            "{name} | {:.1} {:.1} {:.1} ({:.1}); {worst:.1}; {:.1} | {:.3} -> {:.3} {:.3} {:.3} ({:.3} {:.3}) | {:.1} | {:?}",
            least(&both[0][0]),
            least(&both[1][0]),
            least(&both[2][0]),
            rms(&heard[5 * RATE..]) - case.noise_dbfs,
            down(&both[0][0], 0, 1),
            score(&double),
            score(&both[0][1].out),
            score(&both[1][1].out),
            score(&both[2][1].out),
            score(&bound[0].out),
            score(&bound[1].out),
            rms(&talk[from..]) - rms(&both[0][1].out[from..]),
            both[0][0].cost,
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
