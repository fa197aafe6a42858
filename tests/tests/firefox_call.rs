//! A headless peer in a call with the real page in real Firefox. Debian's has no H.264, so there is sound only.
#![allow(missing_docs)]

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use visavis_tests::browser::{Browser, BrowserKind, KEEP_CONNECTIONS};
use visavis_tests::program::{Server, expect_within, join};

const LIMIT: Duration = Duration::from_secs(30);
const ROOM: &str = "abc-def-ghj-kmn";

/// Packets of sound that the page has sent.
const SENT_AUDIO: &str = "benchConnections.at(-1).getStats().then((report) =>
    [...report.values()].find((s) => s.type === 'outbound-rtp' && s.kind === 'audio')?.packetsSent ?? 0)";

#[test]
fn firefox_comes_second_and_both_hear_each_other() -> anyhow::Result<()> {
    let server = Server::start()?;
    let browser = Browser::start_kind(BrowserKind::Firefox)?;
    browser.before_pages(KEEP_CONNECTIONS)?;
    let mut peer = join("peer", server.url(), ROOM, &["--size", "320x180"])?;
    peer.wait_event("waiting", LIMIT)?;
    let page = browser
        .open(&format!("{}/r/{ROOM}?camera=test-pattern&microphone=tone&auto=1", server.url()))?;
    page.wait_phase("connected", LIMIT)?;
    page.wait_for("Math.abs((visavis.remoteTone() ?? 0) - 440) < 5", LIMIT).context("no tone")?;
    // Three seconds of its own.
    let deadline = Instant::now() + LIMIT;
    while page.run_async(SENT_AUDIO)?.as_u64() < Some(150) {
        ensure!(Instant::now() < deadline, "the page sends nothing");
    }
    page.click("#leave")?;
    let summary = peer.wait_event("summary", LIMIT)?;
    assert_eq!(summary["end_reason"], "remote-hangup");
    expect_within(&summary, "audio_received.tone_hz", 435.0..=445.0)?;
    let errors: Vec<_> =
        browser.console()?.into_iter().filter(|line| line.starts_with("SEVERE")).collect();
    assert!(errors.is_empty(), "{errors:?}");
    Ok(())
}
