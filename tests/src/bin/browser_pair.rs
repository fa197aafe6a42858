//! The same call between two Chromium pages, for the column beside `visavis-cli bench loopback`:
//! 1280x720 at 30 fps of H.264 and Opus both ways, latency read from the same time code.

use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};
use visavis_tests::browser::Browser;
use visavis_tests::program::Server;

const LIMIT: Duration = Duration::from_secs(30);
const ROOM: &str = "abc-dek-ghj-kmn";
/// Chromium's estimate of the bandwidth needs this long to reach 720p.
const WARM_UP: &str = "visavis.watchTimeCode(10)";
const MEASURE: &str = "visavis.watchTimeCode(10)";
const MEASURED_S: f64 = 10.0;

fn main() -> anyhow::Result<()> {
    let server = Server::start()?;
    let (one, two) = (Browser::start(&[])?, Browser::start(&[])?);
    let url = |auto| format!("{}/r/{ROOM}?camera=test-pattern&microphone=tone{auto}", server.url());
    let first = one.open(&url("&auto=1"))?;
    first.wait_phase("waiting", LIMIT)?;
    let second = two.open(&url(""))?;
    second.wait_for("window.visavis", LIMIT)?;
    let setup_ms = second
        .run_async(
            "new Promise((done) => {
               let known = null;
               const look = () => {
                 const now = performance.now();
                 if (known === null && visavis.state().peer) known = now;
                 if (known !== null && visavis.readTimeCode() !== null) done(now - known);
                 else setTimeout(look, 4);
               };
               document.getElementById('join').click();
               look();
             })",
        )
        .context("no first picture")?;
    for page in [&first, &second] {
        page.wait_phase("connected", LIMIT)?;
    }
    second.run_async(WARM_UP)?;
    let (cpu, begun) = (chromium_cpu_s()?, Instant::now());
    let seen = second.run_async(MEASURE)?;
    let cores = (chromium_cpu_s()? - cpu) / begun.elapsed().as_secs_f64();
    let size = second.run("[document.getElementById('remote').videoWidth, document.getElementById('remote').videoHeight]")?;
    let fps = seen["frames"].as_f64().map(|frames| frames / MEASURED_S);
    let figures = json!({
        "bench": "chromium-pair",
        "setup_ms": setup_ms,
        "latency_p50_ms": seen["latencyMs"]["p50"],
        "latency_p95_ms": seen["latencyMs"]["p95"],
        "fps": fps,
        "size": size,
        "cpu_cores": cores,
    });
    if std::env::args().any(|a| a == "--json") {
        println!("{figures}");
    } else {
        println!("two Chromium pages, the same call (H.264, received size {size})");
        for (name, title) in [
            ("setup_ms", "peer known -> first picture, ms"),
            ("latency_p50_ms", "capture -> display, p50, ms"),
            ("latency_p95_ms", "capture -> display, p95, ms"),
            ("fps", "pictures a second"),
            ("cpu_cores", "CPU of both browsers, cores"),
        ] {
            let value = match &figures[name] {
                Value::Number(n) => format!("{:.2}", n.as_f64().unwrap_or_default()),
                _ => "-".to_owned(),
            };
            println!("{title:<36} {value:>9}");
        }
    }
    Ok(())
}

/// CPU time of all Chromium processes so far, seconds (proc(5): fields 14 and 15, 100 a second).
fn chromium_cpu_s() -> anyhow::Result<f64> {
    let mut ticks = 0u64;
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((head, tail)) = stat.rsplit_once(')') else { continue };
        if head.ends_with("(chromium") {
            ticks += tail
                .split_whitespace()
                .skip(11)
                .take(2)
                .filter_map(|field| field.parse::<u64>().ok())
                .sum::<u64>();
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "seconds of a benchmark")]
    Ok(ticks as f64 / 100.0)
}
