//! `./dev bench browsers`: one call with each browser for each video codec that it has, whoever waits for the other. Each call is measured
//! both ways, by the time code in the picture.

use std::time::Duration;

use anyhow::Context;
use visavis_media::VideoCodec;
use visavis_tests::browser::{Browser, BrowserKind};
use visavis_tests::program::{Server, join};

const LIMIT: Duration = Duration::from_secs(30);
const CODE: &str = "abc-dew-ghj-kmn";
const LINK: &str = "abc-dew?camera=test-pattern&microphone=tone&auto=1#ghj-kmn";
const SETTLE: Duration = Duration::from_secs(5);
const MEASURED_S: f64 = 10.0;

fn main() -> anyhow::Result<()> {
    println!(
        "| browser | codec | first in the room | ours shown there: size, fps, latency p50/p95 ms | \
         theirs shown here: size, fps, latency p50/p95 ms, freezes, decode errors |"
    );
    println!("| --- | --- | --- | --- | --- |");
    let mut failed = false;
    for kind in [BrowserKind::Chromium, BrowserKind::Firefox] {
        for codec in VideoCodec::ALL {
            // Debian's Firefox has none.
            if kind == BrowserKind::Firefox && codec == VideoCodec::H264 {
                continue;
            }
            for page_waits in [false, true] {
                let first = if page_waits { "the page" } else { "ours" };
                let row = call(kind, codec, page_waits).unwrap_or_else(|error| {
                    failed = true;
                    format!("{error:#} | –")
                });
                println!("| {kind:?} | {codec} | {first} | {row} |");
            }
        }
    }
    anyhow::ensure!(!failed, "not every call came about");
    Ok(())
}

fn call(kind: BrowserKind, codec: VideoCodec, page_waits: bool) -> anyhow::Result<String> {
    let server = Server::start()?;
    let browser = Browser::start_kind(kind)?;
    let flags = ["--video-codecs", &codec.to_string().to_lowercase()];
    let url = format!("{}/r/{LINK}", server.url());
    let (page, mut peer) = if page_waits {
        let page = browser.open(&url)?;
        page.wait_phase("waiting", LIMIT)?;
        (page, join("peer", server.url(), CODE, &flags)?)
    } else {
        let mut peer = join("peer", server.url(), CODE, &flags)?;
        peer.wait_event("waiting", LIMIT)?;
        (browser.open(&url)?, peer)
    };
    page.wait_for_peer(LIMIT)?;
    std::thread::sleep(SETTLE);
    let seen = page.run_async(&format!("visavis.watchTimeCode({MEASURED_S})"))?;
    let size = page.run("['videoWidth', 'videoHeight'].map((side) => document.getElementById('remote')[side]).join('x')")?;
    page.click("#leave")?;
    let summary = peer.wait_event("summary", LIMIT)?;
    let (sent, received) = (&summary["video_sent"], &summary["video_received"]);
    for way in [sent, received] {
        anyhow::ensure!(way["codec"] == codec.to_string(), "{} instead of {codec}", way["codec"]);
    }
    let fps = seen["frames"].as_f64().context("no frames")? / MEASURED_S;
    let ms = |of: &serde_json::Value| {
        let at = |part: &str| of[part].as_f64().map_or("–".into(), |ms| format!("{ms:.0}"));
        format!("{}/{}", at("p50"), at("p95"))
    };
    Ok(format!(
        "{}, {fps:.1}, {} | {}x{}, {:.1}, {}, {}, {}",
        size.as_str().unwrap_or_default(),
        ms(&seen["latencyMs"]),
        received["width"],
        received["height"],
        received["fps"].as_f64().unwrap_or_default(),
        ms(&received["latency_ms"]),
        received["freeze_count"],
        received["decode_errors"],
    ))
}
