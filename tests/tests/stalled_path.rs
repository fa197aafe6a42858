//! A path that dies, in one direction alone, while another is there and signaling lives: ICE restarts after a
//! second, not after its own time-outs. Needs root for network namespaces; CI has it.
#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::unwrap_used)]

use std::time::Duration;

use visavis_tests::link::{Namespace, cannot_test};
use visavis_tests::program::{Server, join, scratch};
use visavis_tests::trace::{is_heard, is_picture, longest_gap, times, unix_ms, wait_times};

const LIMIT: Duration = Duration::from_secs(20);
/// The goal is a second; the polite side waits a quarter of one longer.
const OFFER_WITHIN_S: f64 = 1.8;
const SOUND_BACK_S: f64 = 3.0;
const PICTURE_BACK_S: f64 = 3.5;

/// UDP that comes in at one of two interfaces is dropped.
fn block(at: &str) -> String {
    format!(
        "table inet block\ndelete table inet block\ntable inet block {{\n chain input {{\n  type filter \
         hook input priority 0;\n  iifname \"{at}\" meta l4proto udp drop\n }}\n}}\n"
    )
}

/// What comes to the side that waits (0), or that joins (1), stops.
fn the_way_to(deaf: usize) -> anyhow::Result<()> {
    if cannot_test() {
        return Ok(());
    }
    let sides = [Namespace::new()?, Namespace::new()?];
    sides[0].cable(("first", "10.84.1.1/24"), &sides[1], ("first", "10.84.1.2/24"))?;
    sides[0].cable(("second", "10.84.2.1/24"), &sides[1], ("second", "10.84.2.2/24"))?;
    for side in &sides {
        side.nft(&block("second"))?;
    }
    let server = sides[0].within(|| Server::listen("0.0.0.0:0"))??;
    let port = server.address().rsplit_once(':').unwrap().1.to_owned();
    let url = format!("http://10.84.1.1:{port}");
    let folder = scratch(&format!("stalled-path-{deaf}"))?;
    let traces = ["waits.jsonl", "joins.jsonl"].map(|name| folder.join(name));
    let start = |side: usize| {
        let flags = ["--trace", traces[side].to_str().unwrap()];
        sides[side].within(|| join(["waits", "joins"][side], &url, "abc-def-ghj-kmn", &flags))?
    };
    let mut waits = start(0)?;
    waits.wait_event("waiting", LIMIT)?;
    let mut joins = start(1)?;
    joins.wait_event("first-video-frame", LIMIT)?;
    waits.wait_event("first-video-frame", LIMIT)?;
    // Sound has to have come for a while to be missed.
    for trace in &traces {
        wait_times(trace, unix_ms(), 300, LIMIT, is_heard)?;
    }

    sides[1 - deaf].nft("delete table inet block\n")?;
    let cut_ms = unix_ms();
    sides[deaf].nft(&block("first"))?;
    wait_times(&traces[deaf], cut_ms, 350, LIMIT, is_heard)?;
    wait_times(&traces[deaf], cut_ms, 90, LIMIT, is_picture)?;
    joins.terminate()?;
    let summary = waits.wait_event("summary", LIMIT)?;
    joins.wait_event("summary", LIMIT)?;

    let offers = traces.each_ref().map(|trace| {
        let text = std::fs::read_to_string(trace).unwrap();
        times(&text, cut_ms, |line| line["event"] == "offer").first().map(|at| (at - cut_ms) / 1e3)
    });
    let text = std::fs::read_to_string(&traces[deaf])?;
    let (sound_s, sounds) = longest_gap(&text, cut_ms, is_heard);
    let (picture_s, pictures) = longest_gap(&text, cut_ms, is_picture);
    eprintln!("offers after {offers:?} s; gaps: sound {sound_s:.2} s, picture {picture_s:.2} s");
    assert!(sounds > 100 && pictures > 50, "{sounds} sounds, {pictures} pictures");
    let offer_s = offers[deaf].unwrap_or(f64::MAX);
    assert!((0.8..OFFER_WITHIN_S).contains(&offer_s), "{offers:?}");
    assert_eq!(offers[1 - deaf], None, "the other side hears, and has nothing to mend");
    assert!(sound_s < SOUND_BACK_S, "{sound_s} s without sound");
    assert!(picture_s < PICTURE_BACK_S, "{picture_s} s without pictures");
    // The end of whoever heard nothing; the other one may be either, for a machine takes what comes in
    // for its other address.
    let pair = &summary["candidate_pair"];
    let end = &pair[["local", "remote"][deaf]];
    assert!(end["address"].as_str().unwrap().starts_with("10.84.2."), "{pair}");
    Ok(())
}

#[test]
fn the_side_that_waited_restarts_ice_when_nothing_comes_any_more() -> anyhow::Result<()> {
    the_way_to(0)
}

#[test]
fn the_side_that_came_restarts_ice_when_nothing_comes_any_more() -> anyhow::Result<()> {
    the_way_to(1)
}
