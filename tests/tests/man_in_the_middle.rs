//! A signaling server that puts itself between the two peers of a call ([`Mitm`]) gets nothing if they have a
//! secret that it does not know, and is found out by comparing the emoji if they have none.
#![allow(missing_docs)]

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::Value;
use visavis_tests::browser::{Browser, BrowserKind, Page};
use visavis_tests::mitm::{Loot, Mitm, Proofs};
use visavis_tests::program::{Program, Server, binary, join, scratch};
use visavis_tests::screen::Screen;

const LIMIT: Duration = Duration::from_secs(30);
const CODE: &str = "abc-def-ghj-kmn";
/// The same without its secret.
const ROOM: &str = "abc-def";
const FLAGS: &[&str] = &["--camera", "test-pattern", "--microphone", "tone", "--size", "320x180"];

/// Waits until the loot is as wanted.
fn wait_loot(mitm: &Mitm, wanted: impl Fn(&Loot) -> bool) -> anyhow::Result<()> {
    let deadline = Instant::now() + LIMIT;
    while !wanted(&mitm.loot()) {
        ensure!(Instant::now() < deadline, "only {:?} within {LIMIT:?}", mitm.loot());
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// No sample, no picture, no message.
fn expect_nothing(mitm: &Mitm) {
    let Loot { connections: _, audio_samples, video_frames, messages } = mitm.loot();
    assert_eq!((audio_samples, video_frames, messages), (0, 0, 0));
}

fn open<'b>(browser: &'b Browser, mitm: &Mitm, code: &str) -> anyhow::Result<Page<'b>> {
    let (room, secret) = code.split_at(ROOM.len());
    let fragment = secret.strip_prefix('-').map(|secret| format!("#{secret}")).unwrap_or_default();
    browser.open(&format!(
        "{}/r/{room}?camera=test-pattern&microphone=tone&auto=1{fragment}",
        mitm.url()
    ))
}

fn expect_not_proven(peer: &mut Program) -> anyhow::Result<()> {
    expect_end(peer, &["not-proven"])
}

/// As the one that offers ends. If proofs are taken out, the word of a failed one does not reach it either: all
/// that it learns is that the other gave up.
fn expect_offerer_not_proven(peer: &mut Program, proofs: Proofs) -> anyhow::Result<()> {
    match proofs {
        Proofs::Drop => expect_end(peer, &["not-proven", "connection-failed"]),
        Proofs::Pass | Proofs::Guess => expect_not_proven(peer),
    }
    .with_context(|| format!("{proofs:?}"))
}

fn expect_end(peer: &mut Program, reasons: &[&str]) -> anyhow::Result<()> {
    let summary = peer.wait_event("summary", LIMIT)?;
    let reason = summary["end_reason"].as_str().unwrap_or_default();
    ensure!(reasons.contains(&reason), "{summary:#}");
    ensure!(summary["video_received"].is_null() && summary["video_sent"].is_null(), "{summary:#}");
    Ok(())
}

const ATTACKS: [Proofs; 3] = [Proofs::Pass, Proofs::Drop, Proofs::Guess];

#[test]
fn gets_nothing_between_two_headless_peers() -> anyhow::Result<()> {
    for proofs in ATTACKS {
        let server = Server::start()?;
        let mitm = Mitm::start(server.address(), proofs)?;
        let mut first = join("first", mitm.url(), CODE, FLAGS)?;
        first.wait_event("waiting", LIMIT)?;
        let mut second = join("second", mitm.url(), CODE, FLAGS)?;
        expect_not_proven(&mut second).with_context(|| format!("{proofs:?}"))?;
        expect_offerer_not_proven(&mut first, proofs)?;
        expect_nothing(&mitm);
    }
    Ok(())
}

/// Both windows are a warning then.
#[test]
fn gets_nothing_between_two_windows_of_the_app() -> anyhow::Result<()> {
    let server = Server::start()?;
    let mitm = Mitm::start(server.address(), Proofs::Guess)?;
    let mut windows = Vec::new();
    for name in ["first-window", "second-window"] {
        let folder = scratch(name)?;
        let screen = Screen::start(&folder)?;
        let mut command = screen.command(&binary("visavis")?);
        command.args([CODE, "--server", mitm.url(), "--join"]);
        command.args(["--camera", "test-pattern", "--microphone", "tone", "--speaker", "none"]);
        let app = Program::start(name, &mut command)?;
        windows.push((folder, screen, app));
    }
    for (folder, screen, app) in &mut windows {
        screen.wait_text(LIMIT, |text| text.contains("Not the person with your code"))?;
        app.kill()?;
        std::fs::remove_dir_all(folder)?;
    }
    expect_nothing(&mitm);
    Ok(())
}

fn gets_nothing_with_a_page(kind: BrowserKind) -> anyhow::Result<()> {
    for proofs in ATTACKS {
        let server = Server::start()?;
        let mitm = Mitm::start(server.address(), proofs)?;
        let browser = Browser::start_kind(kind)?;
        let mut peer = join("peer", mitm.url(), CODE, FLAGS)?;
        peer.wait_event("waiting", LIMIT)?;
        let page = open(&browser, &mitm, CODE)?;
        page.wait_phase("ended", LIMIT)?;
        assert_eq!(page.run("visavis.state().endReason")?, "not-proven", "{proofs:?}");
        expect_offerer_not_proven(&mut peer, proofs)?;
        expect_nothing(&mitm);
    }
    Ok(())
}

#[test]
fn gets_nothing_between_a_headless_peer_and_chromium() -> anyhow::Result<()> {
    gets_nothing_with_a_page(BrowserKind::Chromium)
}

#[test]
fn gets_nothing_between_a_headless_peer_and_firefox() -> anyhow::Result<()> {
    gets_nothing_with_a_page(BrowserKind::Firefox)
}

/// That the attack is one: without it the tests above would prove nothing.
#[test]
fn hears_and_sees_everything_of_two_without_a_secret() -> anyhow::Result<()> {
    let server = Server::start()?;
    let mitm = Mitm::start(server.address(), Proofs::Drop)?;
    let mut first = join("first", mitm.url(), ROOM, FLAGS)?;
    first.wait_event("waiting", LIMIT)?;
    let mut second = join("second", mitm.url(), ROOM, FLAGS)?;
    for peer in [&mut first, &mut second] {
        peer.wait_event("first-video-frame", LIMIT)?;
    }
    wait_loot(&mitm, |loot| {
        let Loot { connections, audio_samples, video_frames, messages } = *loot;
        connections == 2 && audio_samples > 96_000 && video_frames > 30 && messages > 0
    })
}

/// It has to choose its numbers before it knows the others': each of the two sees other emoji.
#[test]
fn cannot_make_the_emoji_of_two_without_a_secret_equal() -> anyhow::Result<()> {
    for kind in [None, Some(BrowserKind::Chromium), Some(BrowserKind::Firefox)] {
        let server = Server::start()?;
        let mitm = Mitm::start(server.address(), Proofs::Guess)?;
        let mut first = join("first", mitm.url(), ROOM, FLAGS)?;
        first.wait_event("waiting", LIMIT)?;
        let seen: Value = match kind {
            None => {
                let mut second = join("second", mitm.url(), ROOM, FLAGS)?;
                wait_loot(&mitm, |loot| loot.audio_samples > 48_000)?;
                second.terminate()?;
                second.wait_event("summary", LIMIT)?["authentication"]["emoji"].take()
            }
            Some(kind) => {
                let browser = Browser::start_kind(kind)?;
                let page = open(&browser, &mitm, ROOM)?;
                page.wait_phase("connected", LIMIT)?;
                wait_loot(&mitm, |loot| loot.audio_samples > 48_000)?;
                let seen = page.run("visavis.state().authentication.emoji")?;
                page.click("#leave")?;
                seen
            }
        };
        let other = first.wait_event("summary", LIMIT)?["authentication"]["emoji"].take();
        let count = |emoji: &Value| emoji.as_array().map(Vec::len);
        assert_eq!((count(&seen), count(&other)), (Some(7), Some(7)), "{kind:?}");
        assert_ne!(seen, other, "{kind:?}");
    }
    Ok(())
}
