//! Stereo and music in calls of real programs.
#![allow(missing_docs)]

use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use serde_json::Value;
use visavis_media::files::WavReader;
use visavis_media::{AUDIO_RATE_HZ, MediaTime};
use visavis_tests::browser::Browser;
use visavis_tests::program::{Server, expect_within, join, scratch};

const LIMIT: Duration = Duration::from_secs(30);
const ROOM: &str = "abc-dek-ghj-kmn";

/// What is sent into the call by `sender`, and what the other one hears in a stereo file; both summaries.
fn hear(test: &str, sender: &[&str]) -> anyhow::Result<([Vec<f32>; 2], Value, Value)> {
    let server = Server::start()?;
    let file = scratch(test)?.join("heard.wav");
    let speaker = format!("stereo-file:{}", file.display());
    let mut hearer =
        join("hearer", server.url(), ROOM, &["--camera", "none", "--speaker", &speaker])?;
    hearer.wait_event("waiting", LIMIT)?;
    let flags = [sender, &["--camera", "none", "--duration", "5s"]].concat();
    let mut sender = join("sender", server.url(), ROOM, &flags)?;
    let sent = sender.wait_event("summary", LIMIT)?;
    let heard = hearer.wait_event("summary", LIMIT)?;
    ensure!(hearer.wait_end(LIMIT)? && sender.wait_end(LIMIT)?, "no proper end");
    Ok((last_two_seconds(&file)?, sent, heard))
}

/// Left and right; the last half second, in which the call ended, is left out.
fn last_two_seconds(file: &Path) -> anyhow::Result<[Vec<f32>; 2]> {
    const BLOCKS: usize = 200;
    let blocks = usize::try_from(std::fs::metadata(file)?.len())? / (4 * 480);
    ensure!(blocks > BLOCKS + 50, "{blocks} blocks");
    let mut reader = WavReader::open(file)?;
    let mut channels = [Vec::new(), Vec::new()];
    for block in 0..blocks - 50 {
        let frame = reader.next_frame(MediaTime::default())?;
        if block >= blocks - 50 - BLOCKS {
            for [left, right] in frame.samples.as_chunks::<2>().0 {
                channels[0].push(*left);
                channels[1].push(*right);
            }
        }
    }
    Ok(channels)
}

/// Power of a tone, dB; in pieces, for playout may be stretched between them.
fn tone_db(samples: &[f32], hz: f64) -> f64 {
    let piece = AUDIO_RATE_HZ as usize / 20;
    let powers = samples.chunks_exact(piece).map(|samples| {
        let (mut re, mut im) = (0.0, 0.0);
        for (n, sample) in samples.iter().enumerate() {
            let turn = n as f64 / piece as f64;
            let window = 0.5 - 0.5 * (std::f64::consts::TAU * turn).cos();
            let angle = std::f64::consts::TAU * hz * n as f64 / f64::from(AUDIO_RATE_HZ);
            re += window * f64::from(*sample) * angle.cos();
            im += window * f64::from(*sample) * angle.sin();
        }
        (re * re + im * im) / (piece * piece) as f64
    });
    10.0 * (powers.sum::<f64>() / (samples.len() / piece) as f64).max(1e-20).log10()
}

fn expect_sides([left, right]: &[Vec<f32>; 2]) -> anyhow::Result<()> {
    for (side, samples, own, other) in
        [("left", left, 440.0, 880.0), ("right", right, 880.0, 440.0)]
    {
        let difference = tone_db(samples, own) - tone_db(samples, other);
        println!("{side}: {own} Hz is {difference:.1} dB above {other} Hz");
        ensure!(difference > 20.0, "{side}: {own} Hz is {difference:.1} dB above {other} Hz");
        ensure!(tone_db(samples, own) > -40.0, "{side}: {own} Hz is not heard");
    }
    Ok(())
}

#[test]
fn music_is_heard_on_its_sides_with_128_kbps() -> anyhow::Result<()> {
    let (channels, sent, heard) = hear("music", &["--music", "--microphone", "stereo-tone"])?;
    expect_sides(&channels)?;
    assert_eq!(sent["audio_sent"]["channels"], 2, "{sent:#}");
    assert_eq!(sent["audio_sent"]["target_bitrate_bps"], 128_000, "{sent:#}");
    assert_eq!(sent["audio_sent"]["music"], true);
    assert!(sent["voice_processing"].is_null(), "{sent:#}");
    assert_eq!(heard["audio_received"]["channels"], 2, "{heard:#}");
    // Of two tones VBR takes less than its target, which is that of usual music.
    expect_within(&heard, "audio_received.bitrate_bps", 60_000.0..=180_000.0)?;
    // The other one did not ask for music, and is mono.
    assert_eq!(sent["audio_received"]["channels"], 1, "{sent:#}");
    assert_eq!(heard["audio_sent"]["channels"], 1, "{heard:#}");
    expect_within(&heard, "audio_sent.target_bitrate_bps", 12_000.0..=32_000.0)?;
    Ok(())
}

#[test]
fn a_voice_stays_mono_and_small_whatever_the_source_has() -> anyhow::Result<()> {
    let (channels, sent, heard) = hear("voice", &["--microphone", "stereo-tone"])?;
    assert_eq!(channels[0], channels[1]);
    assert_eq!(sent["audio_sent"]["channels"], 1, "{sent:#}");
    assert_eq!(heard["audio_received"]["channels"], 1, "{heard:#}");
    expect_within(&heard, "audio_received.bitrate_bps", 5_000.0..=60_000.0)?;
    Ok(())
}

#[test]
fn a_page_hears_music_on_its_sides_and_sends_it() -> anyhow::Result<()> {
    let server = Server::start()?;
    let browser = Browser::start(&[])?;
    let file = scratch("music-page")?.join("heard.wav");
    let speaker = format!("stereo-file:{}", file.display());
    let flags =
        ["--camera", "none", "--music", "--microphone", "stereo-tone", "--speaker", &speaker];
    let mut peer = join("peer", server.url(), ROOM, &flags)?;
    peer.wait_event("waiting", LIMIT)?;
    let page = browser.open(&format!(
        "{}/r/{ROOM}?camera=none&microphone=stereo-tone&music=1&auto=1",
        server.url()
    ))?;
    page.wait_phase("connected", LIMIT)?;
    page.run(LISTEN)?;
    page.wait_for("window.sides() > 20", LIMIT)?;
    // Enough of it for the file.
    page.wait_for("performance.now() - window.listeningSince > 3500", LIMIT)?;
    page.click("#leave")?;
    let summary = peer.wait_event("summary", LIMIT)?;
    assert!(peer.wait_end(LIMIT)?);
    assert_eq!(summary["audio_sent"]["channels"], 2, "{summary:#}");
    assert_eq!(summary["audio_received"]["channels"], 2, "{summary:#}");
    expect_within(&summary, "audio_received.bitrate_bps", 60_000.0..=180_000.0)?;
    expect_sides(&last_two_seconds(&file)?)
}

/// Defines `sides()`: by how many dB each side's own tone is above the other one, the lesser of the two.
const LISTEN: &str = "(() => {
    const context = new AudioContext();
    const stream = document.getElementById('remote').srcObject;
    const source = context.createMediaStreamSource(stream);
    const splitter = new ChannelSplitterNode(context, { numberOfOutputs: 2 });
    source.connect(splitter);
    const analysers = [0, 1].map((channel) => {
        const analyser = new AnalyserNode(context, { fftSize: 8192, smoothingTimeConstant: 0 });
        splitter.connect(analyser, channel);
        return analyser;
    });
    const level = (analyser, hz) => {
        const spectrum = new Float32Array(analyser.frequencyBinCount);
        analyser.getFloatFrequencyData(spectrum);
        const bin = Math.round(hz / (context.sampleRate / 8192));
        return Math.max(...spectrum.subarray(bin - 2, bin + 3));
    };
    window.listeningSince = performance.now();
    window.sides = () => {
        const [left, right] = analysers;
        if (level(left, 440) < -60) return 0;
        return Math.min(level(left, 440) - level(left, 880), level(right, 880) - level(right, 440));
    };
    return true;
})()";
