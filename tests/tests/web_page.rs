//! The real page in real Chromium, at the real server: two pages call each other.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use visavis_tests::browser::{Browser, Key, Page};
use visavis_tests::program::{Server, join};
use visavis_tests::proxy::Proxy;

const LIMIT: Duration = Duration::from_secs(30);
const ROOM: &str = "abc-dek-ghj-kmn";
/// What the pages send, and no question asked.
const DIAGNOSTIC: &str = "camera=test-pattern&microphone=tone&auto=1";

fn room_url(server: &Server, query: &str) -> String {
    format!("{}/r/{ROOM}?{query}", server.url())
}

/// Two pages in a call with each other.
fn call<'b>(browser: &'b Browser, server: &Server) -> anyhow::Result<(Page<'b>, Page<'b>)> {
    let first = browser.open(&room_url(server, DIAGNOSTIC))?;
    first.wait_phase("waiting", LIMIT)?;
    let second = browser.open(&room_url(server, DIAGNOSTIC))?;
    for page in [&first, &second] {
        page.wait_phase("connected", LIMIT)?;
    }
    Ok((first, second))
}

/// The other side's clock moves in the picture, and its tone is heard.
fn expect_media(page: &Page<'_>) -> anyhow::Result<()> {
    let first = page.wait_for("visavis.readTimeCode()", LIMIT).context("no time code")?;
    page.wait_for(&format!("((visavis.readTimeCode() ?? {first}) - {first} | 0) > 300"), LIMIT)
        .context("the picture stands still")?;
    // The reader of one machine's two pages has the same clock.
    page.wait_for("Math.abs((Date.now() - (visavis.readTimeCode() ?? 0)) | 0) < 2000", LIMIT)?;
    page.wait_for("Math.abs((visavis.remoteTone() ?? 0) - 440) < 5", LIMIT).context("no tone")?;
    page.wait_for("visavis.remoteLevel() > -40", LIMIT)?;
    Ok(())
}

/// There is nothing to scroll to.
fn expect_no_scrollbar(page: &Page<'_>) -> anyhow::Result<()> {
    let root = "document.documentElement";
    let heights = page.run(&format!("[{root}.scrollHeight, {root}.clientHeight]"))?;
    ensure!(heights[0] == heights[1], "of {} px {} are seen", heights[0], heights[1]);
    ensure!(page.run(&format!("{root}.clientWidth === innerWidth"))? == json!(true));
    Ok(())
}

/// Nothing was blocked by the Content-Security-Policy, nothing was thrown.
fn expect_clean_console(browser: &Browser) -> anyhow::Result<()> {
    let severe: Vec<_> =
        browser.console()?.into_iter().filter(|line| line.starts_with("SEVERE")).collect();
    ensure!(severe.is_empty(), "console: {severe:#?}");
    Ok(())
}

/// The guard of the other tests is awake.
#[test]
fn errors_and_policy_violations_on_the_page_are_seen() -> anyhow::Result<()> {
    let server = Server::start()?;
    let browser = Browser::start(&[])?;
    let page = browser.open(server.url())?;
    page.wait_for("window.visavis", LIMIT)?;
    expect_clean_console(&browser)?;
    page.run("document.body.setAttribute('style', 'color: red')")?;
    assert!(expect_clean_console(&browser).is_err(), "an inline style was allowed");
    page.run_async(
        "new Promise((done) => setTimeout(() => { setTimeout(done); throw new Error('on purpose'); }))",
    )?;
    assert!(expect_clean_console(&browser).is_err(), "an uncaught error was not seen");
    Ok(())
}

#[test]
fn two_pages_see_and_hear_each_other_and_hang_up() -> anyhow::Result<()> {
    let server = Server::start()?;
    let browser = Browser::start(&[])?;
    let (first, second) = call(&browser, &server)?;
    expect_media(&first)?;
    expect_media(&second)?;
    assert_eq!(first.run("visavis.state().stats.videoReceived.codec")?, json!("H264"));

    // What one switches off, the other one reads in words; the camera's picture goes.
    second.press('m')?;
    second.press('v')?;
    first.wait_for(
        "document.getElementById('state-remote-muted').innerText.includes('is muted')",
        LIMIT,
    )?;
    first.wait_for(
        "document.getElementById('remote-off').innerText.includes('camera is off')",
        LIMIT,
    )?;
    first.wait_for("visavis.remoteLevel() < -70", LIMIT)?;
    second.press('m')?;
    second.press('v')?;
    first.wait_for("document.getElementById('remote-off').hidden", LIMIT)?;
    expect_media(&first)?;

    second.click("#leave")?;
    first.wait_phase("ended", LIMIT)?;
    assert_eq!(first.run("visavis.state().endReason")?, json!("remote-hangup"));
    assert_eq!(second.run("visavis.state().endReason")?, json!("local-hangup"));
    let text = first.run("document.getElementById('ended').innerText")?;
    assert!(text.as_str().is_some_and(|t| t.contains("The other side hung up.")), "{text}");

    // The way back into the same room.
    first.click("#call-again")?;
    second.click("#call-again")?;
    first.wait_phase("connected", LIMIT)?;
    expect_media(&second)?;
    expect_clean_console(&browser)
}

#[test]
fn reloaded_page_is_back_in_its_call() -> anyhow::Result<()> {
    let server = Server::start()?;
    let browser = Browser::start(&[])?;
    // Without `auto`: after a reload the page must find its seat by itself.
    let query = "camera=test-pattern&microphone=tone";
    let first = browser.open(&room_url(&server, query))?;
    first.click("#join")?;
    first.wait_phase("waiting", LIMIT)?;
    let second = browser.open(&room_url(&server, query))?;
    second.click("#join")?;
    expect_media(&first)?;
    let seat = first.run("visavis.state().peer.peerId")?;

    second.reload()?;
    second.wait_phase("connected", LIMIT)?;
    first.wait_for("visavis.state().peerConnections === 2", LIMIT)?;
    first.wait_phase("connected", LIMIT)?;
    expect_media(&first)?;
    expect_media(&second)?;
    assert_eq!(first.run("visavis.state().peer.peerId")?, seat, "another seat");
    expect_clean_console(&browser)
}

#[test]
fn call_survives_server_restart() -> anyhow::Result<()> {
    let mut server = Server::start()?;
    let browser = Browser::start(&[])?;
    let (first, second) = call(&browser, &server)?;
    expect_media(&first)?;

    server.restart()?;
    for page in [&first, &second] {
        page.wait_for("visavis.state().states.signalingLink === 'open'", LIMIT)?;
        page.wait_for("visavis.state().isPeerGone === false", LIMIT)?;
    }
    for page in [&first, &second] {
        expect_media(page)?;
        let state = page.run("visavis.state()")?;
        assert_eq!(state["phase"], "connected", "{state:#}");
        // The very same connection, which was never even restarted.
        assert_eq!((&state["peerConnections"], &state["iceRestarts"]), (&json!(1), &json!(0)));
    }
    // The new server carries signals between the two again.
    second.click("#leave")?;
    first.wait_phase("ended", LIMIT)?;
    assert_eq!(first.run("visavis.state().endReason")?, json!("remote-hangup"));
    Ok(())
}

#[test]
fn lost_websocket_is_resumed_in_silence() -> anyhow::Result<()> {
    let server = Server::start()?;
    let browser = Browser::start(&[])?;
    // Keeps hold of the page's WebSockets, to cut them as a network does: without a word.
    let first = browser.open(server.url())?;
    first.run_async(
        "(() => {
           const Real = WebSocket;
           globalThis.sockets = [];
           globalThis.WebSocket = class extends Real {
             constructor(url) { super(url); globalThis.sockets.push(this); }
           };
         })()",
    )?;
    first.click("#code")?;
    first.type_text("ABCDEKGHJKMN")?;
    first.press(Key::Enter)?;
    first.wait_phase("waiting", LIMIT)?;
    first.run("sockets[0].close()")?;
    first.wait_for("sockets.length === 2", LIMIT)?;
    first.wait_for("visavis.state().states.signalingLink === 'open'", LIMIT)?;

    // Somebody comes while the WebSocket is gone: nothing is missed.
    first.run("sockets[1].close()")?;
    let second = browser.open(&room_url(&server, DIAGNOSTIC))?;
    second.wait_phase("connected", LIMIT)?;
    first.wait_phase("connected", LIMIT)?;
    first.run("sockets.at(-1).close()")?;
    first.wait_for("visavis.state().states.signalingLink === 'open'", LIMIT)?;
    expect_media(&first)?;
    assert_eq!(first.run("visavis.state().peerConnections")?, json!(1));
    assert_eq!(second.run("visavis.state().peerConnections")?, json!(1));
    Ok(())
}

#[test]
fn third_page_reads_that_the_room_is_full() -> anyhow::Result<()> {
    let server = Server::start()?;
    let browser = Browser::start(&[])?;
    let (first, _second) = call(&browser, &server)?;
    let third = browser.open(&room_url(&server, DIAGNOSTIC))?;
    third.wait_phase("ended", LIMIT)?;
    assert_eq!(third.run("visavis.state().endReason")?, json!("room-full"));
    let text = third.run("document.getElementById('ended').innerText")?;
    assert!(text.as_str().is_some_and(|t| t.contains("The room is full")), "{text}");
    expect_no_scrollbar(&third)?;
    assert_eq!(first.run("visavis.state().phase")?, json!("connected"));
    Ok(())
}

#[test]
fn room_is_locked_and_opened_from_the_page() -> anyhow::Result<()> {
    let server = Server::start()?;
    let browser = Browser::start(&[])?;
    let (first, second) = call(&browser, &server)?;
    first.press('k')?;
    for page in [&first, &second] {
        page.wait_for("visavis.state().isLocked", LIMIT)?;
        page.wait_for("document.getElementById('locked').checkVisibility()", LIMIT)?;
    }
    let third = browser.open(&room_url(&server, DIAGNOSTIC))?;
    third.wait_phase("ended", LIMIT)?;
    assert_eq!(third.run("visavis.state().endReason")?, json!("room-locked"));
    let text = third.run("document.getElementById('ended').innerText")?;
    assert!(text.as_str().is_some_and(|t| t.contains("The room is locked")), "{text}");

    // Who is inside comes back to it.
    second.reload()?;
    second.wait_phase("connected", LIMIT)?;
    second.wait_for("visavis.state().isLocked", LIMIT)?;
    second.click("#lock")?;
    first.wait_for("!visavis.state().isLocked", LIMIT)?;
    assert_eq!(first.run("document.getElementById('locked').hidden")?, json!(true));
    third.click("#call-again")?;
    third.wait_for("visavis.state().endReason === 'room-full'", LIMIT)?;
    expect_clean_console(&browser)
}

#[test]
fn page_that_is_closed_is_gone_soon() -> anyhow::Result<()> {
    let server = Server::start()?;
    let browser = Browser::start(&[])?;
    let (first, second) = call(&browser, &server)?;
    let closed = Instant::now();
    second.goto("about:blank")?;
    first.wait_phase("ended", LIMIT)?;
    assert_eq!(first.run("visavis.state().endReason")?, json!("remote-hangup"));
    // A seat that only fell silent would have been kept for 12 s.
    assert!(closed.elapsed() < Duration::from_secs(10), "{:?}", closed.elapsed());
    Ok(())
}

#[test]
fn refused_camera_is_said_and_the_call_still_works() -> anyhow::Result<()> {
    let server = Server::start()?;
    let denying = Browser::start(&["--use-fake-ui-for-media-stream=deny"])?;
    let first = denying.open(&room_url(&server, ""))?;
    let said = "document.getElementById('device-problems').innerText";
    first.wait_for(
        &format!("{said}.includes('The camera and microphone are blocked for this page.')"),
        LIMIT,
    )?;
    first.click("#join")?;
    first.wait_phase("waiting", LIMIT)?;

    let browser = Browser::start(&[])?;
    let second = browser.open(&room_url(&server, DIAGNOSTIC))?;
    second.wait_phase("connected", LIMIT)?;
    first.wait_phase("connected", LIMIT)?;
    // It sees and hears; the other side reads why it does not.
    expect_media(&first)?;
    second.wait_for(
        "document.getElementById('remote-off').innerText.includes('camera is off')",
        LIMIT,
    )?;
    assert_eq!(
        second.run("visavis.state().remoteMedia")?,
        json!({ "camera": false, "microphone": false })
    );
    expect_clean_console(&denying)
}

/// A link must not show a person's camera to whoever made it.
#[test]
fn a_browser_without_webrtc_is_told_so() -> anyhow::Result<()> {
    let server = Server::start()?;
    let browser = Browser::start(&[])?;
    browser.before_pages(
        "{ delete window.RTCPeerConnection; delete window.webkitRTCPeerConnection; }",
    )?;
    let page = browser.open(&room_url(&server, DIAGNOSTIC))?;
    page.wait_phase("ended", LIMIT)?;
    page.wait_for("document.body.innerText.includes('This browser cannot make calls')", LIMIT)?;
    expect_clean_console(&browser)
}

#[test]
fn a_link_alone_joins_with_no_real_device() -> anyhow::Result<()> {
    let server = Server::start()?;
    let browser = Browser::start(&[])?;
    for query in ["auto=1", "auto=1&camera=test-pattern", "auto=1&microphone=tone&camera=default"] {
        // Longer than an automatic call waits for its devices.
        let page = browser.open(&room_url(&server, query))?;
        page.wait_for("visavis.state().media.camera && performance.now() > 2500", LIMIT)?;
        assert_eq!(page.run("visavis.state().phase")?, json!("lobby"), "{query}");
    }
    let page = browser.open(&room_url(&server, "auto=1"))?;
    page.wait_for("visavis.state().media.camera", LIMIT)?;
    page.click("#join")?;
    page.wait_phase("waiting", LIMIT)
}

#[test]
fn whoever_knocks_is_shown_and_let_in_or_refused() -> anyhow::Result<()> {
    let server = Server::start()?;
    let proxy = Proxy::start(server.address())?;
    let browser = Browser::start(&[])?;
    let inside = browser.open(&room_url(&server, DIAGNOSTIC))?;
    inside.wait_phase("waiting", LIMIT)?;
    let mut cut_off = join("cut off", &proxy.url(), ROOM, &["--size", "320x180"])?;
    inside.wait_phase("connected", LIMIT)?;
    // A page that is loaded anew is not asked who it is.
    inside.run("location.reload()")?;
    inside.wait_phase("connected", LIMIT)?;
    proxy.cut();
    inside.run("localStorage.setItem('visavis.name', JSON.stringify('Edsger'))")?;
    let outside = browser.open(&room_url(&server, DIAGNOSTIC))?;
    outside.wait_phase("knocking", LIMIT)?;
    let card = "document.getElementById('knock')";
    inside.wait_for(&format!("!{card}.hidden"), LIMIT)?;
    let words = inside.run(&format!("{card}.innerText"))?;
    ensure!(words.as_str().unwrap_or_default().contains("Edsger wants to come in"), "{words}");
    // Who gives up is asked for no more.
    outside.click("#give-up")?;
    inside.wait_for(&format!("{card}.hidden"), LIMIT)?;
    assert_eq!(inside.run("visavis.state().peerConnections")?, json!(1));
    // By keyboard: the card comes before the controls.
    outside.click("#call-again")?;
    inside.wait_for(&format!("!{card}.hidden"), LIMIT)?;
    tab_through(&inside, "Let in")?;
    inside.press(Key::Enter)?;
    for page in [&outside, &inside] {
        page.wait_phase("connected", LIMIT)?;
        expect_media(page)?;
    }
    assert_eq!(inside.run("visavis.state().peerConnections")?, json!(2));
    proxy.mend();
    assert_eq!(cut_off.wait_event("summary", LIMIT)?["end_reason"], "room-full");
    expect_clean_console(&browser)
}

#[test]
fn server_that_is_gone_is_said_and_tried_again() -> anyhow::Result<()> {
    let mut server = Server::start()?;
    let browser = Browser::start(&[])?;
    let page = browser.open(&room_url(&server, "camera=none&microphone=none"))?;
    page.run_async(
        "(() => { globalThis.WebSocket = class extends WebSocket {
           constructor(url) { super(url.replace(/:\\d+/, ':9')); }
         }; })()",
    )?;
    page.click("#join")?;
    page.wait_phase("ended", LIMIT)?;
    assert_eq!(page.run("visavis.state().endReason")?, json!("server-unreachable"));

    // Whoever waits in a room goes on waiting while the server is down.
    let page = browser.open(&room_url(&server, "camera=none&microphone=none&auto=1"))?;
    page.wait_phase("waiting", LIMIT)?;
    server.restart()?;
    page.wait_for("visavis.state().states.signalingLink === 'open'", LIMIT)?;
    assert_eq!(page.run("visavis.state().phase")?, json!("waiting"));
    Ok(())
}

#[test]
fn a_call_can_be_held_by_keyboard_alone() -> anyhow::Result<()> {
    let server = Server::start()?;
    let browser = Browser::start(&[])?;
    let page = browser.open(server.url())?;
    page.wait_for("visavis.state().media.camera", LIMIT)?;
    // The code has the focus; it groups itself while it is typed.
    page.type_text("abcdekghjkmn")?;
    assert_eq!(page.run("document.activeElement.value")?, json!(ROOM));
    page.press(Key::Enter)?;
    page.wait_phase("waiting", LIMIT)?;
    assert_eq!(page.run("document.activeElement.id")?, json!("waiting-title"));

    let other = browser.open(&room_url(&server, DIAGNOSTIC))?;
    other.wait_phase("connected", LIMIT)?;
    page.wait_phase("connected", LIMIT)?;
    page.press('m')?;
    page.wait_for("!visavis.state().media.microphone", LIMIT)?;
    let announced = page.run("document.getElementById('announcer').textContent")?;
    assert_eq!(announced, json!("Your microphone is off."));

    // Every control can be reached by Tab, has a name, and shows that it has the focus.
    let names = tab_through(&page, "Leave")?;
    for expected in
        ["Unmute", "Stop camera", "Devices", "Copy link", "Lock", "Full screen", "Leave"]
    {
        assert!(names.iter().any(|name| name.starts_with(expected)), "{expected}: {names:?}");
    }
    let outline = page.run("getComputedStyle(document.activeElement).outlineStyle")?;
    assert_eq!(outline, json!("solid"));
    page.press(Key::Enter)?;
    page.wait_phase("ended", LIMIT)?;
    assert_eq!(page.run("document.activeElement.id")?, json!("ended-title"));
    other.wait_phase("ended", LIMIT)
}

/// Presses Tab until an element whose text begins so has the focus; the texts on the way.
fn tab_through(page: &Page<'_>, last: &str) -> anyhow::Result<Vec<String>> {
    let deadline = Instant::now() + LIMIT;
    let mut names = Vec::new();
    while Instant::now() < deadline {
        page.press(Key::Tab)?;
        if let Value::String(name) = page.run("document.activeElement.innerText.trim()")? {
            let found = name.starts_with(last);
            names.push(name);
            if found {
                return Ok(names);
            }
        }
    }
    anyhow::bail!("{last} is not reached by Tab: {names:?}")
}
