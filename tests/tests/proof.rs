//! Who is at the other end, with the real programs: proven by the code, not proven, and refused.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};
use visavis_tests::browser::{Browser, Page};
use visavis_tests::program::{Server, join};

const LIMIT: Duration = Duration::from_secs(30);
const CODE: &str = "abc-def-ghj-kmn";
const QUERY: &str = "camera=test-pattern&microphone=tone&auto=1";
const AUTHENTICATION: &str = "visavis.state().authentication";

fn url(server: &Server, fragment: &str) -> String {
    format!("{}/r/abc-def?{QUERY}{fragment}", server.url())
}

/// Keeps everything that the page sends over its WebSocket in `sent`; `CHANGE` may make another text of it.
const WATCH: &str = "
  window.sent = [];
  const send = WebSocket.prototype.send;
  WebSocket.prototype.send = function (text) {
    text = (CHANGE)(text);
    window.sent.push(text);
    return send.call(this, text);
  };";

fn watch(browser: &Browser, change: &str) -> anyhow::Result<()> {
    browser.before_pages(&WATCH.replace("CHANGE", change))
}

fn expect_not_proven(page: &Page<'_>, detail: &str) -> anyhow::Result<()> {
    page.wait_phase("ended", LIMIT)?;
    let end = page.run("[visavis.state().endReason, visavis.state().endDetail]")?;
    assert_eq!(end, json!(["not-proven", detail]));
    // One way out, and the whole window says so.
    assert_eq!(page.run("document.getElementById('call-again').hidden")?, json!(true));
    assert_eq!(
        page.run("document.getElementById('ended').classList.contains('warning')")?,
        json!(true)
    );
    assert_eq!(page.run("document.getElementById('remote').srcObject")?, Value::Null);
    Ok(())
}

#[test]
fn two_pages_are_proven_by_the_code_which_stays_between_them() -> anyhow::Result<()> {
    let server = Server::start()?;
    let browser = Browser::start(&[])?;
    watch(&browser, "(text) => text")?;
    let first = browser.open(&url(&server, "#ghj-kmn"))?;
    first.wait_phase("waiting", LIMIT)?;
    // Typed in one piece into the address bar, it is put right.
    let second = browser.open(&format!("{}/r/ABC-DEF-GHJ-KMN?{QUERY}", server.url()))?;
    let mut seen = Vec::new();
    for page in [&first, &second] {
        page.wait_phase("connected", LIMIT)?;
        assert_eq!(page.run(&format!("{AUTHENTICATION}.isProven"))?, json!(true));
        assert_eq!(page.run(&format!("{AUTHENTICATION}.remoteIsPage"))?, json!(true));
        seen.push(page.run(&format!("{AUTHENTICATION}.emoji"))?);
        page.wait_for("visavis.readTimeCode()", LIMIT)?;
        let address = page.run("location.pathname + location.search + location.hash")?;
        assert_eq!(address, json!(format!("/r/abc-def?{QUERY}#ghj-kmn")));
    }
    let sent = first.run("sent.join(' ').toLowerCase()")?;
    let sent = sent.as_str().context("text")?;
    assert!(sent.contains("abc-def") && sent.contains("\"confirm\""));
    assert!(!sent.contains("ghj-kmn") && !sent.contains("ghjkmn"), "the secret was sent");
    assert_eq!(seen[0], seen[1]);
    // The word at the lock, and the card under it.
    assert_eq!(
        first.run("document.getElementById('encrypted').innerText.trim()")?,
        "Proven by the code"
    );
    first.click("#encrypted")?;
    let shown = first.run(
        "[...document.querySelectorAll('#proof-emoji li')].map((li) => li.lastChild.textContent)",
    )?;
    assert_eq!(shown, seen[0]);
    assert_eq!(first.run("document.getElementById('proof').hidden")?, json!(false));
    // The font of the pictures is there, and the page may load it.
    assert_eq!(
        first.run_async(
            "document.fonts.load('28px \"Visavis Emoji\"', '🐶').then((f) => f.length)"
        )?,
        json!(1)
    );

    // Loaded anew it is proven by the key, which is no guess.
    first.reload()?;
    for page in [&first, &second] {
        page.wait_for(
            &format!("visavis.state().phase === 'connected' && {AUTHENTICATION}?.isProven"),
            LIMIT,
        )?;
    }
    first.wait_for("visavis.readTimeCode()", LIMIT)?;
    let keys = first.run("sent.filter((text) => text.includes('\"key\"')).length")?;
    assert!(keys.as_u64() > Some(0), "the key was not offered");
    assert_eq!(first.run("localStorage.getItem('visavis.guesses') ?? '{}'")?, "{}");
    Ok(())
}

#[test]
fn a_page_and_the_headless_peer_prove_themselves_to_each_other() -> anyhow::Result<()> {
    let server = Server::start()?;
    let browser = Browser::start(&[])?;
    for page_waits in [true, false] {
        let open = || browser.open(&url(&server, "#ghj-kmn"));
        let start = || join("peer", server.url(), CODE, &["--size", "320x180"]);
        let (mut peer, page) = if page_waits {
            let page = open()?;
            page.wait_phase("waiting", LIMIT)?;
            (start()?, page)
        } else {
            let mut peer = start()?;
            peer.wait_event("waiting", LIMIT)?;
            (peer, open()?)
        };
        let told = peer.wait_event("authenticated", LIMIT)?;
        assert_eq!(told["detail"]["proven"], true);
        assert_eq!(told["detail"]["remote_is_page"], true);
        peer.wait_event("first-video-frame", LIMIT)?;
        page.wait_for("visavis.readTimeCode()", LIMIT)?;
        assert_eq!(page.run(&format!("{AUTHENTICATION}.remoteIsPage"))?, json!(false));
        assert_eq!(page.run(&format!("{AUTHENTICATION}.emoji"))?, told["detail"]["emoji"]);
        page.click("#leave")?;
        let summary = peer.wait_event("summary", LIMIT)?;
        assert_eq!(summary["authentication"]["proven"], true);
        assert_eq!(summary["room"], "abc-def", "no secret in a summary");
    }
    Ok(())
}

#[test]
fn whoever_has_another_secret_or_none_gets_nothing() -> anyhow::Result<()> {
    let server = Server::start()?;
    let browser = Browser::start(&[])?;
    for (fragment, code, detail) in [
        ("#ghj-kmn", "abc-def-ghj-kmp", "mismatch"),
        ("#ghj-kmn", "abc-def", "no-secret"),
        ("", CODE, "no-secret"),
    ] {
        let page = browser.open(&url(&server, fragment))?;
        page.wait_phase("waiting", LIMIT)?;
        let mut peer = join("peer", server.url(), code, &["--size", "320x180"])?;
        let summary = peer.wait_event("summary", LIMIT)?;
        assert_eq!(summary["end_reason"], "not-proven", "{code}");
        for media in ["video_sent", "video_received", "audio_received", "authentication"] {
            assert_eq!(summary[media], Value::Null, "{media}");
        }
        expect_not_proven(&page, detail)?;
        let guesses = page.run("localStorage.getItem('visavis.guesses') ?? '{}'")?;
        assert_eq!(guesses, if detail == "mismatch" { r#"{"abc-def":1}"# } else { "{}" });
        page.run("localStorage.clear()")?;
    }
    Ok(())
}

#[test]
fn a_page_whose_fingerprint_is_exchanged_on_the_way_is_not_talked_to() -> anyhow::Result<()> {
    let server = Server::start()?;
    let browser = Browser::start(&[])?;
    // As a server would that has a DTLS session with each.
    watch(
        &browser,
        "(text) => text.replace(/(fingerprint:sha-256 )(..:){4}/gi, '$1AA:BB:CC:DD:')",
    )?;
    let page = browser.open(&url(&server, "#ghj-kmn"))?;
    page.wait_phase("waiting", LIMIT)?;
    let mut peer = join("peer", server.url(), CODE, &["--size", "320x180"])?;
    let summary = peer.wait_event("summary", LIMIT)?;
    assert_eq!(summary["end_reason"], "not-proven");
    assert_eq!([&summary["video_sent"], &summary["video_received"]], [&Value::Null; 2]);
    expect_not_proven(&page, "mismatch")
}

#[test]
fn with_the_first_half_alone_two_pages_see_the_same_pictures_and_are_not_proven()
-> anyhow::Result<()> {
    let server = Server::start()?;
    let browser = Browser::start(&[])?;
    let first = browser.open(&url(&server, ""))?;
    first.wait_phase("waiting", LIMIT)?;
    let second = browser.open(&url(&server, ""))?;
    let mut seen = Vec::new();
    for page in [&first, &second] {
        page.wait_phase("connected", LIMIT)?;
        assert_eq!(page.run(&format!("{AUTHENTICATION}.isProven"))?, json!(false));
        seen.push(page.run(&format!("{AUTHENTICATION}.emoji"))?);
        assert_eq!(
            page.run("document.getElementById('encrypted').innerText.trim()")?,
            "Not proven"
        );
        page.wait_for("visavis.readTimeCode()", LIMIT)?;
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0].as_array().map(Vec::len), Some(7));
    Ok(())
}

/// Five failures are enough, and the count outlives the page.
#[test]
fn a_code_that_was_tried_five_times_is_spent() -> anyhow::Result<()> {
    let server = Server::start()?;
    let browser = Browser::start(&[])?;
    let page = browser.open(server.url())?;
    page.run("localStorage.setItem('visavis.guesses', JSON.stringify({ 'abc-def': 5 }))")?;
    page.goto(&url(&server, "#ghj-kmn"))?;
    expect_not_proven(&page, "spent")
}
