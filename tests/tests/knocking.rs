//! Once two are connected nobody else comes in unasked, and nobody loses the seat to a hiccup or a crash.
#![allow(missing_docs, clippy::unwrap_used)]

use std::time::{Duration, Instant};

use visavis_tests::program::{Program, Server, join, scratch};
use visavis_tests::proxy::Proxy;
use visavis_tests::trace::{times, unix_ms};

const LIMIT: Duration = Duration::from_secs(20);
const ROOM: &str = "abc-def-ghj-kmn";
const SMALL: [&str; 2] = ["--size", "320x180"];

/// Two in a call, the second one's WebSocket through a proxy.
fn call(server: &Server, flags: &[&str]) -> anyhow::Result<(Program, Program, Proxy)> {
    let proxy = Proxy::start(server.address())?;
    let mut a = join("inside", server.url(), ROOM, &[&SMALL[..], flags].concat())?;
    a.wait_event("waiting", LIMIT)?;
    let mut b = join("cut off", &proxy.url(), ROOM, &SMALL)?;
    for peer in [&mut a, &mut b] {
        peer.wait_event("first-video-frame", LIMIT)?;
    }
    Ok((a, b, proxy))
}

#[test]
fn a_stranger_does_not_get_the_seat_of_whose_websocket_is_cut() -> anyhow::Result<()> {
    let server = Server::start()?;
    let trace = scratch("stranger")?.join("trace.jsonl");
    let (mut a, mut b, proxy) = call(&server, &["--trace", trace.to_str().unwrap()])?;
    let before = unix_ms();
    proxy.cut();
    let stranger = [&SMALL[..], &["--name", "Edsger"]].concat();
    let mut c = join("stranger", server.url(), ROOM, &stranger)?;
    c.wait_event("knocking", LIMIT)?;
    assert_eq!(a.wait_event("knock", LIMIT)?["detail"], "Edsger");
    let summary = c.wait_event("summary", LIMIT)?;
    assert_eq!(summary["end_reason"], "refused-entry");
    assert!(summary["video_received"].is_null() && summary["audio_received"].is_null());
    assert!(summary["video_sent"].is_null(), "{summary:#}");
    // Longer than the server keeps a silent seat; media goes on, and its owner comes back unasked.
    let cut = Instant::now();
    while cut.elapsed() < Duration::from_secs(14) {
        let picture = unix_ms();
        wait_picture(&trace, picture)?;
    }
    proxy.mend();
    let mended = unix_ms();
    wait_picture(&trace, mended)?;
    b.terminate()?;
    let (a, b) = (a.wait_event("summary", LIMIT)?, b.wait_event("summary", LIMIT)?);
    // The hang-up came over the server: its owner was back in the seat.
    assert_eq!(
        (&a["end_reason"], &b["end_reason"]),
        (&"remote-hangup".into(), &"local-hangup".into())
    );
    let text = std::fs::read_to_string(&trace)?;
    let pictures = times(&text, before, |line| line["event"] == "picture");
    let longest = pictures.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max);
    assert!(longest < 700.0, "{longest} ms without a picture");
    std::fs::remove_dir_all(trace.parent().unwrap())?;
    Ok(())
}

#[test]
fn whoever_is_let_in_takes_the_place_of_the_one_who_vanished() -> anyhow::Result<()> {
    let server = Server::start()?;
    let (mut a, mut b, proxy) = call(&server, &["--admit", "all"])?;
    // While both are there, nobody is asked.
    let mut early = join("third", server.url(), ROOM, &SMALL)?;
    assert_eq!(early.wait_event("summary", LIMIT)?["end_reason"], "room-full");
    // Its media still comes when the newcomer is let in.
    proxy.cut();
    let mut c = join("newcomer", server.url(), ROOM, &SMALL)?;
    c.wait_event("knocking", LIMIT)?;
    c.wait_event("first-video-frame", LIMIT)?;
    a.wait_event("connected", LIMIT)?;
    // The former owner finds the room full.
    proxy.mend();
    assert_eq!(b.wait_event("summary", LIMIT)?["end_reason"], "room-full");
    c.terminate()?;
    assert_eq!(a.wait_event("summary", LIMIT)?["end_reason"], "remote-hangup");
    Ok(())
}

#[test]
fn a_peer_that_was_killed_comes_back_without_knocking() -> anyhow::Result<()> {
    let server = Server::start()?;
    let folder = scratch("killed")?;
    let state = folder.join("seat.json");
    let flags = [&SMALL[..], &["--state", state.to_str().unwrap()]].concat();
    let mut a = join("inside", server.url(), ROOM, &SMALL)?;
    a.wait_event("waiting", LIMIT)?;
    // At once, and after the server has freed the silent seat.
    for wait in [0, 14] {
        let mut b = join("killed", server.url(), ROOM, &flags)?;
        for peer in [&mut a, &mut b] {
            peer.wait_event("connected", LIMIT)?;
        }
        wait_file(&state)?;
        b.kill()?;
        std::thread::sleep(Duration::from_secs(wait));
    }
    let mut b = join("back", server.url(), ROOM, &flags)?;
    b.wait_event("connected", LIMIT)?;
    a.wait_event("connected", LIMIT)?;
    // Without what it kept it is a stranger, and so is whoever hung up.
    b.kill()?;
    let mut stranger = join("stranger", server.url(), ROOM, &SMALL)?;
    stranger.wait_event("knocking", LIMIT)?;
    assert_eq!(stranger.wait_event("summary", LIMIT)?["end_reason"], "refused-entry");
    let mut b = join("back again", server.url(), ROOM, &flags)?;
    b.wait_event("connected", LIMIT)?;
    b.terminate()?;
    assert_eq!(b.wait_event("summary", LIMIT)?["end_reason"], "local-hangup");
    b.wait_end(LIMIT)?;
    assert!(!state.exists(), "who hangs up keeps nothing");
    std::fs::remove_dir_all(folder)?;
    Ok(())
}

/// Waits until a picture has come after that time.
fn wait_picture(trace: &std::path::Path, after_ms: f64) -> anyhow::Result<()> {
    wait(|| {
        let text = std::fs::read_to_string(trace).unwrap_or_default();
        !times(&text, after_ms, |line| line["event"] == "picture").is_empty()
    })
}

fn wait_file(path: &std::path::Path) -> anyhow::Result<()> {
    wait(|| path.exists())
}

fn wait(good: impl Fn() -> bool) -> anyhow::Result<()> {
    let deadline = Instant::now() + LIMIT;
    while !good() {
        anyhow::ensure!(Instant::now() < deadline, "not within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
