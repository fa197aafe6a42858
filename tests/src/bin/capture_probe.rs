//! Uses cameras, microphones and speakers and says what it saw, as JSON lines.
//!
//! The device tests run it where the devices are: in a virtual machine with a camera, or beside a
//! private sound server. Without arguments it says what it can do.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};
use visavis_capture::{
    Camera, CameraRequest, CaptureError, Clock, DeviceId, DeviceInfo, DeviceWatcher, Microphone,
    OnEnd, Speaker, list_cameras, list_microphones, list_speakers,
};
use visavis_media::convert::CameraFormat;
use visavis_media::{AUDIO_FRAME_SAMPLES, AUDIO_RATE_HZ, MediaTime, Size};
use visavis_tests::bars::bars;
use visavis_tests::sound::{listen, median};

const USAGE: &str = "\
capture_probe list
capture_probe camera [id ID] [size WxH] [fps N] [format yuyv|nv12|mjpeg] [frames N]
capture_probe microphone [id ID] [seconds S]
capture_probe speaker [id ID] [seconds S] [tone HZ]
capture_probe roundtrip [microphone ID] [speaker ID]
capture_probe watch [seconds S]";

fn main() {
    if let Err(error) = run() {
        println!("{}", json!({ "error": format!("{error:#}") }));
        std::process::exit(1);
    }
}

fn run() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let command = words.next().unwrap_or_default();
    let words: Vec<String> = words.collect();
    let options = Options(words);
    let line = match command.as_str() {
        "list" => list(),
        "camera" => camera(&options)?,
        "microphone" => microphone(&options)?,
        "speaker" => speaker(&options)?,
        "roundtrip" => roundtrip(&options)?,
        "watch" => watch(&options)?,
        _ => bail!("usage:\n{USAGE}"),
    };
    println!("{line}");
    Ok(())
}

/// Pairs of name and value.
struct Options(Vec<String>);

impl Options {
    fn text(&self, name: &str) -> Option<&str> {
        self.0.chunks_exact(2).find(|pair| pair[0] == name).map(|pair| pair[1].as_str())
    }

    fn number(&self, name: &str, otherwise: f64) -> Result<f64> {
        self.text(name).map_or(Ok(otherwise), |t| t.parse().with_context(|| format!("{name} {t}")))
    }

    fn id(&self, name: &str) -> Option<DeviceId> {
        self.text(name).map(DeviceId::new)
    }
}

fn clock() -> Clock {
    let origin = Instant::now();
    // Not from zero: what was captured before the start has a time too.
    Arc::new(move || MediaTime::from_micros(10_000_000 + origin.elapsed().as_micros() as u64))
}

/// Prints why a device ended by itself, and tells the waiting main thread.
fn end_channel() -> (OnEnd, Receiver<CaptureError>) {
    let (tx, rx) = sync_channel(1);
    (Box::new(move |error| drop(tx.try_send(error))), rx)
}

fn list() -> Value {
    let describe = |devices: Vec<DeviceInfo>| -> Vec<Value> {
        devices
            .into_iter()
            .map(|d| json!({ "id": d.id.as_str(), "name": d.name, "default": d.default }))
            .collect()
    };
    json!({
        "cameras": describe(list_cameras()),
        "microphones": describe(list_microphones()),
        "speakers": describe(list_speakers()),
    })
}

fn camera(options: &Options) -> Result<Value> {
    let (width, height) =
        options.text("size").unwrap_or("640x360").split_once('x').context("size is WxH")?;
    let format = options.text("format").map(format_named).transpose()?;
    let request = CameraRequest {
        id: options.id("id"),
        size: Size::new(width.parse()?, height.parse()?),
        larger: None,
        fps: options.number("fps", 30.0)? as u32,
        format,
    };
    let wanted_frames = options.number("frames", 10.0)? as usize;
    let (on_end, ended) = end_channel();
    let clock = clock();
    let (tx, frames) = sync_channel(wanted_frames + 1);
    let opening = Instant::now();
    let arrivals = clock.clone();
    let camera =
        Camera::open(request, clock, move |frame| drop(tx.try_send((arrivals(), frame))), on_end)?;
    let open_ms = opening.elapsed().as_millis() as u64;
    println!("{}", json!({ "event": "open", "name": camera.format().name }));
    let mut times = Vec::new();
    let mut ages_ms = Vec::new();
    let mut last = None;
    while times.len() < wanted_frames {
        match frames.recv_timeout(Duration::from_secs(15)) {
            Ok((arrival, frame)) => {
                times.push(frame.time);
                ages_ms.push(arrival.saturating_since(frame.time).as_secs_f64() * 1000.0);
                last = Some(frame.buffer);
            }
            Err(_) => {
                let reason = ended.try_recv().map_or_else(|_| "no frame".into(), |e| e.to_string());
                bail!("{reason} after {} frames", times.len());
            }
        }
    }
    let info = camera.format().clone();
    let closing = Instant::now();
    drop(camera);
    let close_ms = closing.elapsed().as_millis() as u64;
    let picture = last.ok_or_else(|| anyhow!("no frames asked for"))?;
    let mut intervals_ms: Vec<f64> = times
        .windows(2)
        .map(|pair| pair[1].saturating_since(pair[0]).as_secs_f64() * 1000.0)
        .collect();
    Ok(json!({
        "name": info.name,
        "width": picture.size().width_px,
        "height": picture.size().height_px,
        "fps": info.fps,
        "format": format!("{:?}", info.format).to_lowercase(),
        "frames": times.len(),
        "interval_ms": median(&mut intervals_ms),
        "age_ms": median(&mut ages_ms),
        "open_ms": open_ms,
        "close_ms": close_ms,
        "bars": bars(&picture),
    }))
}

fn format_named(name: &str) -> Result<CameraFormat> {
    Ok(match name {
        "yuyv" => CameraFormat::Yuyv,
        "nv12" => CameraFormat::Nv12,
        "mjpeg" => CameraFormat::Mjpeg,
        other => bail!("unknown format {other}"),
    })
}

fn microphone(options: &Options) -> Result<Value> {
    let seconds = options.number("seconds", 1.0)?;
    let wanted = (seconds * f64::from(AUDIO_RATE_HZ)) as usize;
    let (on_end, ended) = end_channel();
    let (tx, frames) = sync_channel(256);
    let opening = Instant::now();
    let microphone = Microphone::open(
        options.id("id"),
        false,
        clock(),
        move |frame| drop(tx.try_send(frame)),
        on_end,
    )?;
    let open_ms = opening.elapsed().as_millis() as u64;
    // For whoever waits to make a sound.
    println!("{}", json!({ "event": "open", "name": microphone.format().name }));
    let mut samples: Vec<f32> = Vec::new();
    let mut times = Vec::new();
    while samples.len() < wanted {
        match frames.recv_timeout(Duration::from_secs(5)) {
            Ok(frame) => {
                times.push(frame.time);
                samples.extend_from_slice(&frame.samples);
            }
            Err(_) => {
                let reason = ended.try_recv().map_or_else(|_| "no sound".into(), |e| e.to_string());
                bail!("{reason} after {} samples", samples.len());
            }
        }
    }
    let mut steps_ms: Vec<f64> = times
        .windows(2)
        .map(|pair| pair[1].saturating_since(pair[0]).as_secs_f64() * 1000.0)
        .collect();
    let stats = microphone.stats();
    let format = microphone.format().clone();
    let closing = Instant::now();
    drop(microphone);
    // What was there when the stream began is no part of the sound.
    let heard = listen(&samples[samples.len() / 3..]);
    Ok(json!({
        "name": format.name,
        "device_rate_hz": format.rate_hz,
        "device_channels": format.channels,
        "device_block_frames": format.block_frames,
        "step_ms": median(&mut steps_ms),
        "level_dbfs": heard.map(|h| h.level_dbfs),
        "tone_hz": heard.map(|h| h.tone_hz),
        "tone_share": heard.map(|h| h.share),
        "xruns": stats.xruns,
        "gaps": stats.gaps,
        "open_ms": open_ms,
        "close_ms": closing.elapsed().as_millis() as u64,
    }))
}

fn speaker(options: &Options) -> Result<Value> {
    let seconds = options.number("seconds", 2.0)?;
    let tone_hz = options.number("tone", 1000.0)?;
    let (on_end, ended) = end_channel();
    let (tx, pulls) = sync_channel(4096);
    let mut phase = 0.0_f64;
    let opening = Instant::now();
    let speaker = Speaker::open(
        options.id("id"),
        move |frame, _| {
            for sample in frame.left.iter_mut() {
                *sample = (0.25 * (phase * std::f64::consts::TAU).sin()) as f32;
                phase = (phase + tone_hz / f64::from(AUDIO_RATE_HZ)).fract();
            }
            frame.right = frame.left;
            let _ = tx.try_send(Instant::now());
        },
        on_end,
    )?;
    let open_ms = opening.elapsed().as_millis() as u64;
    println!("{}", json!({ "event": "open", "name": speaker.format().name }));
    let until = Instant::now() + Duration::from_secs_f64(seconds);
    let (mut first, mut last, mut pulled) = (None, None, 0_u64);
    while Instant::now() < until {
        let Ok(at) = pulls.recv_timeout(Duration::from_secs(5)) else {
            let reason = ended.try_recv().map_or_else(|_| "no pull".into(), |e| e.to_string());
            bail!("{reason} after {pulled} frames");
        };
        pulled += 1;
        first = first.or(Some(at));
        last = Some(at);
    }
    let span = first.zip(last).map(|(a, b)| b - a).unwrap_or_default();
    let latency_ms = speaker.latency().as_secs_f64() * 1000.0;
    let stats = speaker.stats();
    let format = speaker.format().clone();
    let closing = Instant::now();
    drop(speaker);
    Ok(json!({
        "name": format.name,
        "device_rate_hz": format.rate_hz,
        "device_channels": format.channels,
        "device_block_frames": format.block_frames,
        "pulled_frames": pulled,
        "pulls_per_s": pulled as f64 / span.as_secs_f64().max(1e-3),
        "latency_ms": latency_ms,
        "xruns": stats.xruns,
        "gaps": stats.gaps,
        "open_ms": open_ms,
        "close_ms": closing.elapsed().as_millis() as u64,
    }))
}

/// Clicks into the speaker, and the time until the microphone hears each.
fn roundtrip(options: &Options) -> Result<Value> {
    const CLICKS: usize = 8;
    /// From one click to the next, in frames of 10 ms.
    const SPACING: u64 = 40;
    let (mic_end, _mic_ended) = end_channel();
    let (speaker_end, _speaker_ended) = end_channel();
    let (click_tx, clicks) = sync_channel::<Instant>(CLICKS * 4);
    let (heard_tx, heard) = sync_channel::<Instant>(CLICKS * 4);
    let mut quiet_frames = 100_u32;
    let microphone = Microphone::open(
        options.id("microphone"),
        false,
        clock(),
        move |frame| {
            let loud = frame.samples.iter().any(|s| s.abs() > 0.1);
            if loud && quiet_frames > 10 {
                let _ = heard_tx.try_send(Instant::now());
            }
            quiet_frames = if loud { 0 } else { quiet_frames + 1 };
        },
        mic_end,
    )?;
    let mut count = 0_u64;
    let speaker = Speaker::open(
        options.id("speaker"),
        move |frame, _| {
            count += 1;
            if count.is_multiple_of(SPACING) {
                for (n, sample) in frame.left.iter_mut().enumerate() {
                    *sample = if (n * 1000 / AUDIO_RATE_HZ as usize).is_multiple_of(2) {
                        0.5
                    } else {
                        -0.5
                    };
                }
                frame.right = frame.left;
                let _ = click_tx.try_send(Instant::now());
            }
        },
        speaker_end,
    )?;
    let mut delays_ms = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut sent = Vec::new();
    while delays_ms.len() < CLICKS {
        if Instant::now() > deadline {
            bail!("heard {} of {CLICKS} clicks", delays_ms.len());
        }
        if let Ok(at) = heard.recv_timeout(Duration::from_millis(500)) {
            sent.extend(clicks.try_iter());
            if let Some(click) = sent.iter().rev().find(|&&sent_at| sent_at < at) {
                delays_ms.push((at - *click).as_secs_f64() * 1000.0);
            }
        }
    }
    let latency_ms = speaker.latency().as_secs_f64() * 1000.0;
    let (mic_stats, speaker_stats) = (microphone.stats(), speaker.stats());
    Ok(json!({
        "frame_samples": AUDIO_FRAME_SAMPLES,
        "delay_ms": median(&mut delays_ms),
        "max_delay_ms": delays_ms.last(),
        "speaker_latency_ms": latency_ms,
        "microphone_gaps": mic_stats.gaps,
        "speaker_gaps": speaker_stats.gaps,
    }))
}

/// Waits for one change of the devices.
fn watch(options: &Options) -> Result<Value> {
    let (tx, changes) = sync_channel(1);
    let _watcher = DeviceWatcher::start(move || {
        let _ = tx.try_send(());
    })?;
    println!("{}", json!({ "event": "open" }));
    let seconds = options.number("seconds", 10.0)?;
    let changed = changes.recv_timeout(Duration::from_secs_f64(seconds)).is_ok();
    Ok(json!({ "changed": changed, "cameras": list_cameras().len() }))
}
