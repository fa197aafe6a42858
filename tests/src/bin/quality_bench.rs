//! `./dev bench quality`: how a clip looks at the other end of a call for each bitrate and codec, ours and Chromium's.
//!
//! A headless peer receives in every call and writes what it decodes, at the clip's size; each frame carries its number as a
//! time code, by which it is compared to the clip's own. The strip with the code is left out of the comparison.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use visavis_media::I420Buffer;
use visavis_media::files::{Y4mReader, Y4mWriter};
use visavis_media::synthetic::{read_time_code, write_time_code};
use visavis_media::{Size, VideoCodec};
use visavis_media_testing::ssim::ssim;
use visavis_tests::browser::{Browser, KEEP_CONNECTIONS};
use visavis_tests::program::{Server, join, scratch};

const LIMIT: Duration = Duration::from_secs(30);
const CODE: &str = "abc-det-ghj-kmn";
const USAGE: &str = "\
usage: ./dev bench quality [FLAGS]
  --clip FILE.y4m    what is filmed; may be given again
  --rates KBPS,...   ceilings of the video bitrate (250,400,800,1500,3000)
  --systems NAME,... ours and chromium, which choose, ours-CODEC and chromium-CODEC with av1, vp9, h264, vp8
  --seconds N        that are compared of each call, after ten that are not (15)
  --vmaf FFMPEG      an ffmpeg with libvmaf, for another measure";
const SYSTEMS: &str =
    "ours,ours-h264,chromium,chromium-h264,chromium-vp8,chromium-vp9,chromium-av1";
/// Until congestion control, codec and size have settled.
const SETTLE: Duration = Duration::from_secs(10);

/// The page sends at most so much.
const LIMITED: &str = "{
  const set = RTCRtpSender.prototype.setParameters;
  RTCRtpSender.prototype.setParameters = function (parameters) {
    // The page limits the rate of pictures only.
    if (parameters.encodings[0]?.maxFramerate) parameters.encodings[0].maxBitrate = BPS;
    return set.call(this, parameters);
  };
}";

struct Options {
    clips: Vec<PathBuf>,
    rates_kbps: Vec<u64>,
    systems: Vec<String>,
    seconds: u64,
    vmaf: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let options = options()?;
    let folder = scratch("quality")?;
    for clip in &options.clips {
        let name = clip.file_stem().unwrap_or_default().to_string_lossy();
        let numbered = folder.join("clip.y4m");
        let frames = number(clip, &numbered)?;
        println!(
            "{name}, {} frames of {}; {} s of each call",
            frames.len(),
            frames[0].size(),
            options.seconds
        );
        println!("| kbps | system | codec | size | SSIM | VMAF | fps | freezes | sent kbps |");
        println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
        for &kbps in &options.rates_kbps {
            for system in &options.systems {
                let row = call(system, kbps, &numbered, &frames, &options, &folder)
                    .with_context(|| format!("{system} at {kbps} kbps"))?;
                println!("| {kbps} | {system} | {row} |");
            }
        }
    }
    Ok(())
}

fn options() -> anyhow::Result<Options> {
    let list = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
    let mut options = Options {
        clips: Vec::new(),
        rates_kbps: vec![250, 400, 800, 1500, 3000],
        systems: list(SYSTEMS),
        seconds: 15,
        vmaf: None,
    };
    let mut given = std::env::args().skip(1);
    while let Some(flag) = given.next() {
        let value = given.next().context(USAGE)?;
        match flag.as_str() {
            "--clip" => options.clips.push(value.into()),
            "--rates" => {
                options.rates_kbps =
                    list(&value).iter().map(|n| n.parse()).collect::<Result<_, _>>()?;
            }
            "--systems" => options.systems = list(&value),
            "--seconds" => options.seconds = value.parse()?,
            "--vmaf" => options.vmaf = Some(value.into()),
            _ => bail!("{USAGE}"),
        }
    }
    ensure!(!options.clips.is_empty(), "no clip\n{USAGE}");
    Ok(options)
}

/// Writes the clip with a number on each frame. The frames as they are then.
fn number(clip: &Path, to: &Path) -> anyhow::Result<Vec<Arc<I420Buffer>>> {
    let mut reader = Y4mReader::open(clip)?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a frame rate")]
    let frame_rate = reader.frame_rate().round() as u32;
    let mut writer = Y4mWriter::create(to, frame_rate, None)?;
    let mut frames = Vec::new();
    let first = reader.next_frame()?;
    let mut frame = first.clone();
    while frames.len() < MAX_FRAMES {
        let mut numbered = (*frame).clone();
        write_time_code(&mut numbered, u32::try_from(frames.len())? + FIRST_CODE);
        frames.push(Arc::new(numbered));
        writer.write(&frames[frames.len() - 1])?;
        frame = reader.next_frame()?;
        // It begins again after its end.
        if frame.as_packed() == first.as_packed() {
            break;
        }
    }
    writer.finish()?;
    Ok(frames)
}

/// Holds one call and says what came of it, as cells of the table.
fn call(
    system: &str,
    kbps: u64,
    clip: &Path,
    frames: &[Arc<I420Buffer>],
    options: &Options,
    folder: &Path,
) -> anyhow::Result<String> {
    let (ours, codec) = match system.split_once('-') {
        None if system == "ours" => (true, None),
        None if system == "chromium" => (false, None),
        Some(("ours", codec)) => (true, Some(codec)),
        Some(("chromium", codec)) => (false, Some(codec)),
        _ => bail!("{system} is no system\n{USAGE}"),
    };
    if let Some(codec) = codec {
        VideoCodec::from_name(codec).with_context(|| format!("{codec} is no codec"))?;
    }
    let server = Server::start()?;
    let shown = folder.join("shown.y4m");
    let size = frames[0].size();
    let to_file = format!("file:{}", shown.display());
    let display_size = format!("{}x{}", size.width_px, size.height_px);
    let mut flags =
        vec!["--camera", "none", "--display", &to_file, "--display-size", &display_size];
    if let Some(codec) = codec {
        flags.extend(["--video-codecs", codec]);
    }
    let mut receiver = join("receiver", server.url(), CODE, &flags)?;
    receiver.wait_event("waiting", LIMIT)?;
    let camera = format!("file:{}", clip.display());
    let length = SETTLE + Duration::from_secs(options.seconds);
    if ours {
        let bps = (kbps * 1000).to_string();
        let mut flags = vec!["--camera", &camera, "--max-bitrate", &bps];
        if let Some(codec) = codec {
            flags.extend(["--video-codecs", codec]);
        }
        let mut sender = join("sender", server.url(), CODE, &flags)?;
        receiver.wait_event("connected", LIMIT)?;
        std::thread::sleep(length);
        sender.terminate()?;
        sender.wait_event("summary", LIMIT)?;
    } else {
        let capture = format!("--use-file-for-fake-video-capture={}", clip.display());
        let browser = Browser::start(&[&capture])?;
        let script = LIMITED.replace("BPS", &(kbps * 1000).to_string());
        browser.before_pages(KEEP_CONNECTIONS)?;
        browser.before_pages(&script)?;
        let page = browser.open(&format!("{}/r/abc-det?microphone=tone#ghj-kmn", server.url()))?;
        page.wait_for("!document.getElementById('join').disabled", LIMIT)?;
        page.click("#join")?;
        page.wait_phase("connected", LIMIT)?;
        std::thread::sleep(length);
        page.click("#leave")?;
    }
    let summary = receiver.wait_event("summary", LIMIT)?;
    let row = figures(&summary, &shown, frames, options, folder)?;
    std::fs::remove_file(&shown)?;
    Ok(row)
}

fn figures(
    summary: &Value,
    shown: &Path,
    frames: &[Arc<I420Buffer>],
    options: &Options,
    folder: &Path,
) -> anyhow::Result<String> {
    let received = &summary["video_received"];
    let total = received["frames_decoded"].as_u64().context("no frame came")?;
    let kept = total.min(options.seconds * FRAME_RATE);
    let below_code = |frame: &I420Buffer| below_code(frame);
    let (mut reader, mut alike, mut compared) = (Y4mReader::open(shown)?, 0.0, 0u32);
    let (mut numbers, mut pairs) = (HashMap::<u32, u32>::new(), None);
    if options.vmaf.is_some() {
        let file = |name: &str| Y4mWriter::create(&folder.join(name), 30, None);
        pairs = Some((file("reference.y4m")?, file("distorted.y4m")?));
    }
    for n in 0..total {
        let frame = reader.next_frame()?;
        let Some(code) = read_time_code(&frame).filter(|_| n >= total - kept) else { continue };
        let Some(original) = frames.get(code.wrapping_sub(FIRST_CODE) as usize) else { continue };
        *numbers.entry(code).or_default() += 1;
        let (original, frame) = (below_code(original), below_code(&frame));
        alike += ssim(&original, &frame)?;
        compared += 1;
        if let Some((reference, distorted)) = &mut pairs {
            reference.write(&Arc::new(original))?;
            distorted.write(&Arc::new(frame))?;
        }
    }
    ensure!(compared > 0, "no frame could be matched");
    let vmaf = match (&options.vmaf, pairs) {
        (Some(ffmpeg), Some((reference, distorted))) => {
            reference.finish()?;
            distorted.finish()?;
            format!("{:.1}", vmaf(ffmpeg, folder)?)
        }
        _ => "–".into(),
    };
    Ok(format!(
        "{} | {}x{} | {:.4} | {vmaf} | {:.1} | {} | {:.0}",
        received["codec"].as_str().unwrap_or_default(),
        received["width"],
        received["height"],
        alike / f64::from(compared),
        received["fps"].as_f64().unwrap_or_default(),
        received["freeze_count"],
        // Frames are as far apart as the clip's.
        received["bytes"].as_f64().unwrap_or_default() * 8e-3 * FRAME_RATE as f64 / total as f64,
    ))
}

/// The picture without the strip of the time code.
fn below_code(frame: &I420Buffer) -> I420Buffer {
    let size = frame.size();
    let strip = (size.width_px / 40).next_multiple_of(2).min(size.height_px);
    let mut rest = I420Buffer::black(Size::new(size.width_px, size.height_px - strip));
    for (index, (to, from)) in rest.planes_mut().into_iter().zip(frame.planes()).enumerate() {
        let skipped = if index == 0 {
            frame.luma_stride() * strip as usize
        } else {
            frame.chroma_stride() * strip as usize / 2
        };
        let length = to.len();
        to.copy_from_slice(&from[skipped..skipped + length]);
    }
    rest
}

/// The mean over all frames, 0 to 100.
fn vmaf(ffmpeg: &Path, folder: &Path) -> anyhow::Result<f64> {
    let output = Command::new(ffmpeg)
        .current_dir(folder)
        .args(["-hide_banner", "-i", "distorted.y4m", "-i", "reference.y4m"])
        .args(["-lavfi", "libvmaf=n_threads=2", "-f", "null", "-"])
        .output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    let score = text.split("VMAF score: ").nth(1).and_then(|rest| rest.split_whitespace().next());
    score.with_context(|| format!("no score: {text}"))?.parse().context("an odd score")
}

const MAX_FRAMES: usize = 600;
const FRAME_RATE: u64 = 30;
/// Zero would be taken for a black picture.
const FIRST_CODE: u32 = 1;
