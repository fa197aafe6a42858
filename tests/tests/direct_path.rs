//! A relayed call becomes direct once it can, and goes back when it must. Needs root for network
//! namespaces; CI has it.
#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::unwrap_used)]

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use visavis_tests::browser::{Browser, KEEP_CONNECTIONS};
use visavis_tests::link::{Namespace, cannot_test};
use visavis_tests::program::{Server, join, scratch};
use visavis_tests::trace::{is_heard, is_picture, longest_gap, times, unix_ms, wait_times};

const LIMIT: Duration = Duration::from_secs(20);
/// The goal, and the time between two looks of ours.
const DIRECT_WITHIN: Duration = Duration::from_secs(5);
const BLOCK: &str = "table inet block {\n  chain forward {\n    type filter hook forward priority 0; \
                     policy drop;\n  }\n}\n";

fn is_move(line: &Value, direct: bool) -> bool {
    line["event"] == "path" && line["direct"] == direct
}

fn moves(trace: &str, from_ms: f64, direct: bool) -> Option<f64> {
    times(trace, from_ms, |line| is_move(line, direct)).first().map(|at| (at - from_ms) / 1e3)
}

/// Two sides, a machine between them with the server and its relay, and nothing passes straight from one
/// to the other.
struct Blocked {
    sides: [Namespace; 2],
    middle: Namespace,
    _server: Server,
    urls: [String; 2],
}

/// `None` where there can be no namespaces; in CI that is a failure.
fn blocked() -> anyhow::Result<Option<Blocked>> {
    if cannot_test() {
        return Ok(None);
    }
    let (left, middle, right) = (Namespace::new()?, Namespace::new()?, Namespace::new()?);
    left.cable(("eth", "10.83.1.2/24"), &middle, ("m1", "10.83.1.1/24"))?;
    right.cable(("eth", "10.83.2.2/24"), &middle, ("m2", "10.83.2.1/24"))?;
    left.ip("route add default via 10.83.1.1")?;
    right.ip("route add default via 10.83.2.1")?;
    middle.set("ipv4/ip_forward", "1")?;
    middle.nft(BLOCK)?;
    let server = middle.within(|| Server::listen("0.0.0.0:0"))??;
    let port = server.address().rsplit_once(':').unwrap().1.to_owned();
    let urls = ["10.83.1.1", "10.83.2.1"].map(|host| format!("http://{host}:{port}"));
    Ok(Some(Blocked { sides: [left, right], middle, _server: server, urls }))
}

#[test]
fn a_relayed_call_becomes_direct_when_it_can_and_relayed_when_it_must() -> anyhow::Result<()> {
    let Some(Blocked { sides: [left, right], middle, urls: [left_url, right_url], .. }) =
        &blocked()?
    else {
        return Ok(());
    };
    let folder = scratch("direct-path")?;
    let traces = ["left.jsonl", "right.jsonl"].map(|name| folder.join(name));
    let flags = traces.each_ref().map(|trace| ["--trace", trace.to_str().unwrap()]);
    let room = "abc-def-ghj-kmn";
    let mut there = right.within(|| join("right", right_url, room, &flags[1]))??;
    there.wait_event("waiting", LIMIT)?;
    let mut here = left.within(|| join("left", left_url, room, &flags[0]))??;
    here.wait_event("first-video-frame", LIMIT)?;
    there.wait_event("first-video-frame", LIMIT)?;
    let in_both = |from_ms, count, wanted: fn(&Value) -> bool| {
        traces
            .iter()
            .try_for_each(|trace| wait_times(trace, from_ms, count, LIMIT, wanted).map(drop))
    };
    let (is_direct, is_relayed) =
        (|line: &Value| is_move(line, true), |line: &Value| is_move(line, false));
    in_both(unix_ms(), 75, is_picture)?;

    let lifted = unix_ms();
    middle.nft("delete table inet block")?;
    in_both(lifted, 1, is_direct)?;
    // Gaps are looked for behind the move, too.
    in_both(unix_ms(), 300, is_heard)?;
    in_both(lifted, 75, is_picture)?;
    let blocked = unix_ms();
    middle.nft(BLOCK)?;
    in_both(blocked, 1, is_relayed)?;
    in_both(unix_ms(), 30, is_picture)?;
    let lifted_again = unix_ms();
    middle.nft("delete table inet block")?;
    in_both(lifted_again, 1, is_direct)?;
    // Statistics name the pair within half a second.
    in_both(unix_ms(), 30, is_picture)?;

    here.terminate()?;
    let summary = here.wait_event("summary", LIMIT)?;
    there.wait_event("summary", LIMIT)?;
    let pair = &summary["candidate_pair"];
    eprintln!("in the end: {pair}");
    for trace in &traces {
        let name = trace.display();
        let text = std::fs::read_to_string(trace)?;
        let until_blocked: String = text
            .lines()
            .filter(|line| {
                let line: Value = serde_json::from_str(line).unwrap_or_default();
                line["unix_ms"].as_f64() < Some(blocked)
            })
            .flat_map(|line| [line, "\n"])
            .collect();
        let to_direct = moves(&text, lifted, true);
        let to_relay = moves(&text, blocked, false);
        let back = moves(&text, lifted_again, true);
        let (sound, sounds) = longest_gap(&until_blocked, lifted, is_heard);
        let (picture, pictures) = longest_gap(&until_blocked, lifted, is_picture);
        let (broken_sound, _) = longest_gap(&text, blocked, is_heard);
        let (broken_picture, _) = longest_gap(&text, blocked, is_picture);
        eprintln!(
            "{name}: direct after {to_direct:?} s, gaps of {sound:.3} s of sound and {picture:.3} s of \
             pictures; relayed {to_relay:?} s after the block, gaps {broken_sound:.2} and \
             {broken_picture:.2} s; direct again after {back:?} s"
        );
        assert!(to_direct.is_some_and(|s| s < 5.0), "{name}: {to_direct:?}");
        assert!(sounds > 250 && pictures > 60, "{name}: {sounds} sounds, {pictures} pictures");
        assert!(sound < 0.3 && picture < 0.5, "{name}: {sound} s, {picture} s");
        assert!(to_relay.is_some_and(|s| s < 4.0), "{name}: {to_relay:?}");
        assert!(
            broken_sound < 3.0 && broken_picture < 4.0,
            "{name}: {broken_sound}, {broken_picture}"
        );
        assert!(back.is_some_and(|s| s < 5.0), "{name}: {back:?}");
    }
    assert_eq!(pair["local"]["type"], "host", "{summary}");
    assert_ne!(pair["remote"]["type"], "relay", "{summary}");
    Ok(())
}

/// What the ends of the selected pair are: `host host`.
const PAIR: &str = "(async () => {
  const report = await benchConnections.at(-1).getStats();
  const transport = [...report.values()].find((s) => s.type === 'transport');
  const pair = report.get(transport.selectedCandidatePairId);
  const [a, b] = [pair.localCandidateId, pair.remoteCandidateId];
  return report.get(a).candidateType + ' ' + report.get(b).candidateType;
})()";

/// Whoever waits offers and is the controlling side of ICE.
fn with_a_page(page_waits: bool) -> anyhow::Result<()> {
    let Some(Blocked { sides: [ours, theirs], middle, urls, .. }) = &blocked()? else {
        return Ok(());
    };
    let folder = scratch(&format!("direct-path-page-{page_waits}"))?;
    let trace = folder.join("trace.jsonl");
    let room = "abc-def-ghj-kmn";
    let start = || {
        let flags = ["--trace", trace.to_str().unwrap()];
        ours.within(|| join("peer", &urls[0], room, &flags))?
    };
    let trusted = format!("--unsafely-treat-insecure-origin-as-secure={}", urls[1]);
    let browser = theirs.within(|| Browser::start(&[&trusted]))??;
    browser.before_pages(KEEP_CONNECTIONS)?;
    let link = format!("{}/r/{room}?camera=test-pattern&microphone=tone&auto=1", urls[1]);
    let (mut peer, page);
    if page_waits {
        page = browser.open(&link)?;
        page.wait_phase("waiting", LIMIT)?;
        peer = start()?;
    } else {
        peer = start()?;
        peer.wait_event("waiting", LIMIT)?;
        page = browser.open(&link)?;
    }
    page.wait_phase("connected", LIMIT)?;
    peer.wait_event("first-video-frame", LIMIT)?;
    wait_times(&trace, unix_ms(), 75, LIMIT, is_picture)?;
    let before = page.run_async(PAIR)?;
    assert!(before.as_str().is_some_and(|pair| pair.contains("relay")), "{before}");

    let (lifted, begun) = (unix_ms(), Instant::now());
    middle.nft("delete table inet block")?;
    let mut theirs_s = None;
    while begun.elapsed() < DIRECT_WITHIN + Duration::from_secs(3) {
        let pair = page.run_async(PAIR)?;
        if pair.as_str().is_some_and(|pair| !pair.contains("relay")) && theirs_s.is_none() {
            theirs_s = Some(begun.elapsed().as_secs_f64());
        }
        sleep(Duration::from_millis(100));
    }
    let after = page.run_async(PAIR)?;
    peer.terminate()?;
    let summary = peer.wait_event("summary", LIMIT)?;
    let text = std::fs::read_to_string(&trace)?;
    let ours_s = moves(&text, lifted, true);
    let (sound, sounds) = longest_gap(&text, lifted, is_heard);
    let (picture, pictures) = longest_gap(&text, lifted, is_picture);
    let pair = &summary["candidate_pair"];
    eprintln!(
        "page waits: {page_waits}; ours direct after {ours_s:?} s, the page {theirs_s:?} s ({before} to \
         {after}), gaps of {sound:.3} s of sound and {picture:.3} s of pictures; {pair}"
    );
    assert!(theirs_s.is_some_and(|s| s < 5.0), "the page: {theirs_s:?}, {after}");
    assert!(ours_s.is_some_and(|s| s < 5.0), "ours: {ours_s:?}");
    assert!(sounds > 250 && pictures > 60, "{sounds} sounds, {pictures} pictures");
    assert!(sound < 0.5 && picture < 0.8, "{sound} s, {picture} s");
    assert_ne!(pair["local"]["type"], "relay", "{summary}");
    assert_ne!(pair["remote"]["type"], "relay", "{summary}");
    Ok(())
}

#[test]
fn a_relayed_call_with_a_page_becomes_direct_when_we_decide() -> anyhow::Result<()> {
    with_a_page(false)
}

#[test]
fn a_relayed_call_with_a_page_becomes_direct_when_the_page_decides() -> anyhow::Result<()> {
    with_a_page(true)
}
