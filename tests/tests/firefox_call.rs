//! A headless peer in calls with the real page in real Firefox. Debian's has no H.264: pictures go by the other codecs.
#![allow(missing_docs)]

use std::time::Duration;

use anyhow::Context;
use visavis_tests::browser::{Browser, BrowserKind, KEEP_CONNECTIONS, Page};
use visavis_tests::program::{Server, expect_within, join};

const LIMIT: Duration = Duration::from_secs(30);
const CODE: &str = "abc-def-ghj-kmn";
const LINK: &str = "abc-def?camera=test-pattern&microphone=tone&auto=1#ghj-kmn";
const SIZE: [&str; 2] = ["--size", "640x360"];
/// Frames that the page has sent.
const SENT: &str = "benchConnections.at(-1).getStats().then((report) =>
    [...report.values()].find((s) => s.type === 'outbound-rtp' && s.kind === 'video')?.framesEncoded ?? 0)";

fn firefox() -> anyhow::Result<Browser> {
    let browser = Browser::start_kind(BrowserKind::Firefox)?;
    browser.before_pages(KEEP_CONNECTIONS)?;
    Ok(browser)
}

/// Pictures and sound of the peer are there and move, and the page's own leave.
fn expect_call_on(page: &Page<'_>) -> anyhow::Result<()> {
    page.wait_for_peer(LIMIT)?;
    let sent = page.run_async(SENT)?.as_u64().unwrap_or_default();
    let deadline = std::time::Instant::now() + LIMIT;
    while page.run_async(SENT)?.as_u64().unwrap_or_default() < sent + 10 {
        anyhow::ensure!(std::time::Instant::now() < deadline, "the page sends no pictures");
    }
    Ok(())
}

#[test]
fn firefox_comes_second_and_the_call_goes_through_all_that_calls_go_through() -> anyhow::Result<()>
{
    let mut server = Server::start()?;
    let browser = firefox()?;
    let mut peer = join("peer", server.url(), CODE, &SIZE)?;
    peer.wait_event("waiting", LIMIT)?;
    let page = browser.open(&format!("{}/r/{LINK}", server.url()))?;
    page.wait_phase("connected", LIMIT)?;
    assert_eq!(page.run("visavis.state().authentication.isProven")?, true);
    peer.wait_event("first-video-frame", LIMIT)?;
    expect_call_on(&page)?;
    for (key, pill) in [('v', "state-camera"), ('m', "state-microphone")] {
        let is_on = format!("document.getElementById('{pill}').hidden");
        page.press(key)?;
        page.wait_for(&format!("!({is_on})"), LIMIT)?;
        page.press(key)?;
        page.wait_for(&is_on, LIMIT)?;
    }
    expect_call_on(&page)?;
    page.click("#lock")?;
    peer.wait_event("room-locked", LIMIT)?;
    page.run("benchConnections.at(-1).restartIce()")?;
    page.wait_for("benchConnections.at(-1).signalingState === 'stable'", LIMIT)?;
    expect_call_on(&page)?;
    server.restart()?;
    expect_call_on(&page)?;
    page.reload()?;
    peer.wait_event("reconnecting", LIMIT)?;
    peer.wait_event("connected", LIMIT)?;
    page.wait_phase("connected", LIMIT)?;
    expect_call_on(&page)?;
    page.click("#leave")?;
    let summary = peer.wait_event("summary", LIMIT)?;
    assert_eq!(summary["end_reason"], "remote-hangup");
    assert_eq!(summary["video_received"]["codec"], "VP9");
    // A frame on its way when the page was reloaded may be cut.
    expect_within(&summary, "video_received.decode_errors", 0.0..=1.0)?;
    expect_within(&summary, "video_received.latency_ms.p50", 0.0..=1000.0)?;
    // The tone itself takes longer to measure than the call may go on after the reload.
    expect_within(&summary, "audio_received.packets", 1.0..=1e6)?;
    let errors: Vec<_> =
        browser.console()?.into_iter().filter(|line| line.starts_with("SEVERE")).collect();
    assert!(errors.is_empty(), "{errors:?}");
    Ok(())
}

#[test]
fn firefox_that_waits_is_called_with_each_codec_that_it_has() -> anyhow::Result<()> {
    let server = Server::start()?;
    let browser = firefox()?;
    for codec in ["vp8", "vp9", "av1"] {
        let page = browser.open(&format!("{}/r/{LINK}", server.url()))?;
        page.wait_phase("waiting", LIMIT)?;
        let flags = [&SIZE[..], &["--video-codecs", codec]].concat();
        let mut peer = join("peer", server.url(), CODE, &flags)?;
        peer.wait_event("first-video-frame", LIMIT)?;
        expect_call_on(&page).with_context(|| codec.to_owned())?;
        peer.terminate()?;
        let summary = peer.wait_event("summary", LIMIT)?;
        for way in ["video_sent", "video_received"] {
            assert_eq!(summary[way]["codec"], codec.to_uppercase(), "{way}");
        }
        expect_within(&summary, "video_received.decode_errors", 0.0..=0.0)?;
        page.wait_phase("ended", LIMIT)?;
    }
    Ok(())
}

/// Firefox is told to use nothing else, as where its network lets nothing else through.
#[test]
fn firefox_that_reaches_the_relay_alone_is_in_the_call() -> anyhow::Result<()> {
    const RELAY_ONLY: &str = "
        window.RTCPeerConnection = class extends RTCPeerConnection {
            constructor(configuration) { super({ ...configuration, iceTransportPolicy: 'relay' }); }
            setConfiguration(configuration) {
                super.setConfiguration({ ...configuration, iceTransportPolicy: 'relay' });
            }
        };";
    let server = Server::listen_with("127.0.0.1:0", &["--relay-listen", "127.0.0.1:0"])?;
    let browser = firefox()?;
    browser.before_pages(RELAY_ONLY)?;
    let mut peer = join("peer", server.url(), CODE, &SIZE)?;
    peer.wait_event("waiting", LIMIT)?;
    let page = browser.open(&format!("{}/r/{LINK}", server.url()))?;
    page.wait_phase("connected", LIMIT)?;
    peer.wait_event("first-video-frame", LIMIT)?;
    expect_call_on(&page)?;
    page.wait_for("visavis.state().stats.route === 'relayed'", LIMIT)?;
    page.click("#leave")?;
    let summary = peer.wait_event("summary", LIMIT)?;
    assert_eq!(summary["candidate_pair"]["remote"]["type"], "relay", "{summary}");
    expect_within(&summary, "video_received.decode_errors", 0.0..=0.0)?;
    expect_within(&summary, "audio_received.packets", 1.0..=1e6)?;
    Ok(())
}

#[test]
fn without_a_codec_in_common_there_is_sound_and_both_say_why_there_is_no_picture()
-> anyhow::Result<()> {
    let server = Server::start()?;
    let browser = firefox()?;
    for page_waits in [true, false] {
        let flags = [&SIZE[..], &["--video-codecs", "h264"]].concat();
        let url = format!("{}/r/{LINK}", server.url());
        let (mut peer, page) = if page_waits {
            let page = browser.open(&url)?;
            page.wait_phase("waiting", LIMIT)?;
            (join("peer", server.url(), CODE, &flags)?, page)
        } else {
            let mut peer = join("peer", server.url(), CODE, &flags)?;
            peer.wait_event("waiting", LIMIT)?;
            (peer, browser.open(&url)?)
        };
        page.wait_phase("connected", LIMIT)?;
        page.wait_for("Math.abs((visavis.remoteTone() ?? 0) - 440) < 5", LIMIT)
            .context("no tone")?;
        page.wait_for("document.body.innerText.includes('no video format in common')", LIMIT)?;
        peer.wait_event("no-common-video-codec", LIMIT)?;
        peer.wait_event("first-audio", LIMIT)?;
        page.click("#leave")?;
        let summary = peer.wait_event("summary", LIMIT)?;
        assert_eq!(summary["end_reason"], "remote-hangup");
        expect_within(&summary, "audio_received.packets", 1.0..=1e6)?;
        assert!(summary["video_received"].is_null(), "{summary}");
    }
    Ok(())
}
