//! A signaling server that puts itself between the two peers of a call ([`Mitm`]).
#![allow(missing_docs)]

use std::time::{Duration, Instant};

use anyhow::ensure;
use visavis_tests::browser::{Browser, BrowserKind};
use visavis_tests::mitm::{Extras, Loot, Mitm};
use visavis_tests::program::{Server, join};

const LIMIT: Duration = Duration::from_secs(30);
const ROOM: &str = "abc-def-ghj-kmn";

/// Waits until the loot is as wanted.
fn wait_loot(mitm: &Mitm, wanted: impl Fn(&Loot) -> bool) -> anyhow::Result<()> {
    let deadline = Instant::now() + LIMIT;
    while !wanted(&mitm.loot()) {
        ensure!(Instant::now() < deadline, "only {:?} within {LIMIT:?}", mitm.loot());
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

#[test]
fn between_two_headless_peers() -> anyhow::Result<()> {
    let server = Server::start()?;
    let mitm = Mitm::start(server.address(), Extras::Pass)?;
    let flags = ["--camera", "test-pattern", "--microphone", "tone", "--size", "320x180"];
    let mut first = join("first", mitm.url(), ROOM, &flags)?;
    first.wait_event("waiting", LIMIT)?;
    let mut second = join("second", mitm.url(), ROOM, &flags)?;
    for peer in [&mut first, &mut second] {
        peer.wait_event("first-video-frame", LIMIT)?;
    }
    wait_loot(&mitm, |loot| {
        loot.connections == 2 && loot.audio_samples > 96_000 && loot.video_frames > 30
    })?;
    Ok(())
}

#[test]
fn between_a_headless_peer_and_a_page() -> anyhow::Result<()> {
    for kind in [BrowserKind::Chromium, BrowserKind::Firefox] {
        let server = Server::start()?;
        let mitm = Mitm::start(server.address(), Extras::Pass)?;
        let browser = Browser::start_kind(kind)?;
        let mut peer = join("peer", mitm.url(), ROOM, &["--size", "320x180"])?;
        peer.wait_event("waiting", LIMIT)?;
        let page = browser
            .open(&format!("{}/r/{ROOM}?camera=test-pattern&microphone=tone&auto=1", mitm.url()))?;
        page.wait_phase("connected", LIMIT)?;
        wait_loot(&mitm, |loot| loot.connections == 2 && loot.audio_samples > 96_000)?;
        page.click("#leave")?;
        peer.wait_event("summary", LIMIT)?;
    }
    Ok(())
}
