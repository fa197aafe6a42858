//! `./dev bench setup`: how long a call takes to come about over a link, ours and Chromium's: from the
//! moment at which a side knows of the other to its first picture.

use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;
use visavis_tests::browser::Browser;
use visavis_tests::link::{Conditions, Emulator, Schedule};
use visavis_tests::program::{Server, join};

const LIMIT: Duration = Duration::from_secs(30);
const ROOM: &str = "abc-dem-ghj-kmn";
const USAGE: &str = "\
usage: ./dev bench setup [FLAGS]
  --runs N           calls for each system (20)
  --round-trip MS    of the link (100)
  --loss PERCENT     of its packets, either way (0)
  --only WHICH       ours or chromium";
/// The stages of a side of ours, in order; each is said as milliseconds after `remote_peer`.
const STAGES: [&str; 5] =
    ["negotiated", "ice_connected", "dtls_connected", "first_audio", "first_video_frame"];

/// Watches a page: `setupMs` is set when the first picture is there.
const WATCH: &str = "(() => {
  let known = null;
  window.setupMs = null;
  const look = () => {
    const now = performance.now();
    if (known === null && visavis.state().peer) known = now;
    if (known !== null && visavis.readTimeCode() !== null) window.setupMs = now - known;
    else setTimeout(look, 4);
  };
  look();
  return true;
})()";

fn main() -> anyhow::Result<()> {
    let (mut runs, mut round_trip_ms, mut loss, mut only) = (20usize, 100u64, 0.0, None);
    let mut given = std::env::args().skip(1);
    while let Some(flag) = given.next() {
        let value = given.next().context(USAGE)?;
        match flag.as_str() {
            "--runs" => runs = value.parse()?,
            "--round-trip" => round_trip_ms = value.parse()?,
            "--loss" => loss = value.parse::<f64>()? / 100.0,
            "--only" => only = Some(value),
            _ => bail!("{USAGE}"),
        }
    }
    let wanted = |system: &str| only.as_deref().is_none_or(|only| only == system);
    let open = Conditions::open(Duration::from_millis(round_trip_ms) / 2);
    let way = || Schedule::constant(if loss > 0.0 { open.with_loss(loss, 1.0) } else { open });
    let emulator = Emulator::start(way(), way(), 1)?;
    emulator.begin();
    println!(
        "| round trip {round_trip_ms} ms, {:.0} % lost, {runs} runs; ms | median | p95 |\n\
         | --- | --- | --- |",
        100.0 * loss
    );
    if wanted("ours") {
        ours(runs, &emulator)?;
    }
    if wanted("chromium") {
        chromium(runs, &emulator)?;
    }
    Ok(())
}

fn ours(runs: usize, emulator: &Emulator) -> anyhow::Result<()> {
    let (left, right) = (emulator.left(), emulator.right());
    let server = left.within(|| Server::listen(&format!("{}:0", Emulator::LEFT)))??;
    let mut all: [[Vec<f64>; STAGES.len()]; 2] = Default::default();
    for _ in 0..runs {
        let mut first = right.within(|| join("right", server.url(), ROOM, &[]))??;
        first.wait_event("waiting", LIMIT)?;
        let mut second = left.within(|| join("left", server.url(), ROOM, &[]))??;
        second.wait_event("first-video-frame", LIMIT)?;
        first.wait_event("first-video-frame", LIMIT)?;
        second.terminate()?;
        let summaries = [second.wait_event("summary", LIMIT)?, first.wait_event("summary", LIMIT)?];
        for (summary, side) in summaries.iter().zip(&mut all) {
            let setup = &summary["setup_ms"];
            let known = setup["remote_peer"].as_f64().context("no other side")?;
            for (stage, times) in STAGES.iter().zip(side) {
                times.extend(setup[stage].as_f64().map(|at| at - known));
            }
        }
    }
    for (side, stages) in ["who joins", "who waits"].iter().zip(&mut all) {
        for (stage, times) in STAGES.iter().zip(stages) {
            row(&format!("ours, {side}: {}", stage.replace('_', " ")), times);
        }
    }
    Ok(())
}

fn chromium(runs: usize, emulator: &Emulator) -> anyhow::Result<()> {
    let (left, right) = (emulator.left(), emulator.right());
    let server = left.within(|| Server::listen(&format!("{}:0", Emulator::LEFT)))??;
    let secure = format!("--unsafely-treat-insecure-origin-as-secure={}", server.url());
    let flags = ["--disable-features=WebRtcHideLocalIpsWithMdns", secure.as_str()];
    let browsers =
        [left.within(|| Browser::start(&flags))??, right.within(|| Browser::start(&flags))??];
    let mut all: [Vec<f64>; 2] = Default::default();
    for run in 0..runs {
        let room = ["abc-dem-ghj-kmn", "abc-den-ghj-kmn"][run % 2];
        let url =
            |auto| format!("{}/r/{room}?camera=test-pattern&microphone=tone{auto}", server.url());
        let first = right.within(|| -> anyhow::Result<_> {
            let page = browsers[1].open(&url("&auto=1"))?;
            page.wait_phase("waiting", LIMIT)?;
            page.run(WATCH)?;
            Ok(page)
        })??;
        let second = left.within(|| -> anyhow::Result<_> {
            let page = browsers[0].open(&url(""))?;
            page.wait_for("window.visavis", LIMIT)?;
            page.run(WATCH)?;
            page.run("document.getElementById('join').click()")?;
            Ok(page)
        })??;
        for ((namespace, page), times) in [(left, &second), (right, &first)].iter().zip(&mut all) {
            let ms: Value = namespace.within(|| -> anyhow::Result<_> {
                page.wait_for("window.setupMs", LIMIT)?;
                page.run("window.setupMs")
            })??;
            times.extend(ms.as_f64());
        }
        for (namespace, page) in [(left, &second), (right, &first)] {
            namespace.within(|| page.run("location.href = 'about:blank'"))??;
        }
    }
    for (side, times) in ["who joins", "who waits"].iter().zip(&mut all) {
        row(&format!("Chromium, {side}: first video frame"), times);
    }
    Ok(())
}

fn row(title: &str, times: &mut [f64]) {
    times.sort_by(f64::total_cmp);
    let at = |permille: usize| {
        let index = (times.len() * permille).div_ceil(1000).saturating_sub(1);
        times.get(index).map_or("-".to_owned(), |ms| format!("{ms:.0}"))
    };
    println!("| {title} | {} | {} |", at(500), at(950));
}
