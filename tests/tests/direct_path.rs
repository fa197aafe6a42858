//! A relayed call becomes direct once it can, and goes back when it must. Needs root for network
//! namespaces; CI has it.
#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::unwrap_used)]

use std::io::Write;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;
use visavis_tests::link::{Namespace, unavailable};
use visavis_tests::program::{Server, join, scratch};
use visavis_tests::trace::{is_heard, longest_gap, times, unix_ms};

const LIMIT: Duration = Duration::from_secs(20);
/// The goal, and the time between two looks of ours.
const DIRECT_WITHIN: Duration = Duration::from_secs(5);
const BLOCK: &str = "table inet block {\n  chain forward {\n    type filter hook forward priority 0; \
                     policy drop;\n  }\n}\n";

fn nft(rules: &str) -> anyhow::Result<()> {
    let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn()?;
    nft.stdin.take().unwrap().write_all(rules.as_bytes())?;
    anyhow::ensure!(nft.wait()?.success(), "nft refuses the rules");
    Ok(())
}

fn moves(trace: &str, from_ms: f64, direct: bool) -> Option<f64> {
    times(trace, from_ms, |line| line["event"] == "path" && line["direct"] == direct)
        .first()
        .map(|at| (at - from_ms) / 1e3)
}

#[test]
fn a_relayed_call_becomes_direct_when_it_can_and_relayed_when_it_must() -> anyhow::Result<()> {
    if let Some(why) = unavailable() {
        assert!(std::env::var_os("CI").is_none(), "CI has to have namespaces: {why}");
        eprintln!("NOT TESTED, there can be no network namespaces here: {why}");
        return Ok(());
    }
    let (left, middle, right) = (Namespace::new()?, Namespace::new()?, Namespace::new()?);
    left.cable(("eth", "10.83.1.2/24"), &middle, ("m1", "10.83.1.1/24"))?;
    right.cable(("eth", "10.83.2.2/24"), &middle, ("m2", "10.83.2.1/24"))?;
    left.ip("route add default via 10.83.1.1")?;
    right.ip("route add default via 10.83.2.1")?;
    middle.within(|| {
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
        nft(BLOCK)
    })??;
    let server = middle.within(|| Server::listen("0.0.0.0:0"))??;
    let port = server.address().rsplit_once(':').unwrap().1.to_owned();
    let [left_url, right_url] =
        ["10.83.1.1", "10.83.2.1"].map(|host| format!("http://{host}:{port}"));

    let folder = scratch("direct-path")?;
    let traces = ["left.jsonl", "right.jsonl"].map(|name| folder.join(name));
    let flags = traces.each_ref().map(|trace| ["--trace", trace.to_str().unwrap()]);
    let room = "abc-defg-hij";
    let mut there = right.within(|| join("right", &right_url, room, &flags[1]))??;
    there.wait_event("waiting", LIMIT)?;
    let mut here = left.within(|| join("left", &left_url, room, &flags[0]))??;
    here.wait_event("first-video-frame", LIMIT)?;
    there.wait_event("first-video-frame", LIMIT)?;
    sleep(Duration::from_secs(3));

    let lifted = unix_ms();
    middle.within(|| nft("delete table inet block"))??;
    sleep(DIRECT_WITHIN);
    let blocked = unix_ms();
    middle.within(|| nft(BLOCK))??;
    sleep(Duration::from_secs(4));
    let lifted_again = unix_ms();
    middle.within(|| nft("delete table inet block"))??;
    sleep(DIRECT_WITHIN);

    here.terminate()?;
    let summary = here.wait_event("summary", LIMIT)?;
    there.wait_event("summary", LIMIT)?;
    let pair = &summary["candidate_pair"];
    eprintln!("in the end: {pair}");
    let is_picture = |line: &Value| line["event"] == "picture";
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
