//! Two Chromium pages over the link.

use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};

use super::{Case, Extra, Outcome, Picture, Sound};
use crate::browser::{Browser, KEEP_CONNECTIONS, Page};
use crate::link::{Direction, Emulator, Recording};
use crate::program::Server;

const LIMIT: Duration = Duration::from_secs(30);
const ROOM: &str = "abc-dep-ghj-kmn";

/// Candidates are addresses, as with ours: no mDNS.
pub(super) const FLAGS: &[&str] = &["--disable-features=WebRtcHideLocalIpsWithMdns"];

/// Notes every picture shown, and (as `SOUND` follows) how loud it is.
const WATCH: &str = "(() => {
  const seen = window.benchSeen = { pictures: [], sounds: [] };
  const video = document.getElementById('remote');
  const onFrame = (_, { width, height }) => {
    const now = Date.now(), code = visavis.readTimeCode();
    seen.pictures.push([now, code === null ? null : ((now % 2 ** 32) - code) | 0, height]);
    video.requestVideoFrameCallback(onFrame);
  };
  video.requestVideoFrameCallback(onFrame);
  return true;
})()";
const WATCH_SOUND: &str =
    "setInterval(() => benchSeen.sounds.push([Date.now(), visavis.remoteLevel()]), 10)";

/// All statistics, flat.
pub(super) const STATS: &str =
    "Promise.all(benchConnections.map((c) => c.getStats())).then((all) =>
  all.flatMap((report) => [...report.values()])
    .filter((s) => ['inbound-rtp', 'outbound-rtp', 'candidate-pair'].includes(s.type)))";

/// The page asks for copies of sound (RED), which Chromium does not do by itself.
const WITHOUT_COPIES: &str = "{
  const capabilities = RTCRtpReceiver.getCapabilities.bind(RTCRtpReceiver);
  RTCRtpReceiver.getCapabilities = (kind) => {
    const all = capabilities(kind);
    return { ...all, codecs: all.codecs.filter((c) => c.mimeType !== 'audio/red') };
  };
}";

/// Holds the call of a case; also what the impaired direction did meanwhile.
///
/// # Errors
///
/// Chromium is missing, or no call comes about.
pub fn measure(case: &Case, emulator: &Emulator) -> anyhow::Result<(Vec<Outcome>, Recording)> {
    let (left, right) = (emulator.left(), emulator.right());
    let listen = format!("{}:0", Emulator::LEFT);
    let server = left.within(|| Server::listen(&listen))??;
    let secure = format!("--unsafely-treat-insecure-origin-as-secure={}", server.url());
    let flags = [FLAGS, &[secure.as_str()]].concat();
    // All talk with a browser is in its own namespace, for its driver listens there.
    let sender_browser = left.within(|| Browser::start(&flags))??;
    let receiver_browser = right.within(|| Browser::start(&flags))??;
    let url = |camera| format!("{}/r/{ROOM}?camera={camera}&microphone=tone&auto=1", server.url());
    let receiver: Page = right.within(|| -> anyhow::Result<_> {
        receiver_browser.before_pages(KEEP_CONNECTIONS)?;
        receiver_browser.before_pages(WITHOUT_COPIES)?;
        let page = receiver_browser.open(&url("none"))?;
        page.wait_phase("waiting", LIMIT)?;
        page.run(WATCH)?;
        if matches!(case.extra, Extra::Blackout { .. }) {
            page.run(WATCH_SOUND)?;
        }
        Ok(page)
    })??;
    let sender: Page = left.within(|| -> anyhow::Result<_> {
        sender_browser.before_pages(KEEP_CONNECTIONS)?;
        let page = sender_browser.open(&url("grainy-test-pattern"))?;
        Ok(page)
    })??;
    let cpu = || -> anyhow::Result<f64> { Ok(sender_browser.cpu_s()? + receiver_browser.cpu_s()?) };
    let (begun, begun_ms) = emulator.wait_begun(LIMIT)?;
    let cpu_before = cpu()?;
    std::thread::sleep((begun + case.duration).saturating_duration_since(Instant::now()));
    let recording = emulator.recording(Direction::LeftToRight);
    let received = right.within(|| receiver.run_async(STATS))??;
    let sent = left.within(|| sender.run_async(STATS))??;
    let cpu_s = cpu()? - cpu_before;
    let seen = right.within(|| receiver.run("benchSeen"))??;
    let until_ms = begun_ms + case.duration.as_secs_f64() * 1e3;
    let list = |name: &str| seen[name].as_array().cloned().unwrap_or_default();
    let pictures = list("pictures")
        .iter()
        .filter_map(|p| {
            Some(Picture {
                unix_ms: p[0].as_f64()?,
                latency_ms: p[1].as_f64(),
                height_px: u32::try_from(p[2].as_u64()?).ok()?,
            })
        })
        .filter(|p| p.unix_ms <= until_ms)
        .collect();
    let sounds = list("sounds")
        .iter()
        .filter_map(|s| {
            let (unix_ms, level_dbfs) = (s[0].as_f64()?, s[1].as_f64()?);
            Some(Sound { unix_ms, level_dbfs, made_up: false })
        })
        .filter(|s| s.unix_ms >= begun_ms && s.unix_ms <= until_ms)
        .collect();
    let video_in = stream(&received, "inbound-rtp", "video")
        .with_context(|| format!("no video came: {received}; sent: {sent}"))?;
    let video_out = stream(&sent, "outbound-rtp", "video");
    let concealed = concealed_of(&received).map(|[made_up, _, all]| made_up / all.max(1.0));
    let outcome = Outcome {
        fps: video_in["framesDecoded"].as_f64().map(|n| n / case.duration.as_secs_f64()),
        frozen_s: video_in["totalFreezesDuration"].as_f64(),
        concealed,
        retransmitted_packets: video_out.and_then(|v| v["retransmittedPacketsSent"].as_f64()),
        cpu_s: Some(cpu_s),
        stoi: None,
        pictures,
        sounds,
        raw: json!({ "sender": sent, "receiver": received }),
    };
    Ok((vec![outcome], recording))
}

/// Samples that the page of these [`STATS`] made up, those of them that are silence, and all that it played.
pub(super) fn concealed_of(stats: &Value) -> Option<[f64; 3]> {
    let audio = stream(stats, "inbound-rtp", "audio")?;
    let samples = |name: &str| audio[name].as_f64();
    Some([
        samples("concealedSamples")?,
        samples("silentConcealedSamples")?,
        samples("totalSamplesReceived")?,
    ])
}

/// `totalAudioEnergy` of what a page received.
pub(super) fn energy_of(stats: &Value) -> Option<f64> {
    stream(stats, "inbound-rtp", "audio")?["totalAudioEnergy"].as_f64()
}

fn stream<'v>(stats: &'v Value, kind: &str, media: &str) -> Option<&'v Value> {
    stats.as_array()?.iter().find(|s| s["type"] == kind && s["kind"] == media)
}
