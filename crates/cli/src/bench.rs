//! `bench loopback`: calls between two headless peers in processes of their own, on a signaling
//! server in a third, so that time and memory are each peer's alone.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use crate::args::{BenchArgs, BenchKind, LoopbackArgs};

/// How long the second peer waits for the first one's seat.
const JOIN_LEAD: Duration = Duration::from_millis(500);

pub(crate) fn run(args: &BenchArgs) -> anyhow::Result<ExitCode> {
    match &args.kind {
        BenchKind::Loopback(args) => loopback(args),
    }
}

fn loopback(args: &LoopbackArgs) -> anyhow::Result<ExitCode> {
    let server = Server::start()?;
    let runs =
        (0..args.runs).map(|_| measure(&server.url, args)).collect::<anyhow::Result<Vec<_>>>()?;
    let median = |name: &str| {
        let mut values: Vec<f64> = runs.iter().filter_map(|run| run[name].as_f64()).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    };
    let names = [
        ("setup_ms", "peer known -> first picture, ms", 200.0),
        ("latency_p50_ms", "capture -> display, p50, ms", 20.0),
        ("latency_p95_ms", "capture -> display, p95, ms", 30.0),
        ("fps", "pictures a second, slower side", 29.0),
        ("freezes", "freezes, both sides", 0.0),
        ("cpu_cores", "CPU of both peers, cores", 0.60),
        ("max_rss_mb", "memory of the larger peer, MB", 120.0),
        ("concealed", "concealed audio, worse side", 0.0),
    ];
    let medians: serde_json::Map<String, Value> =
        names.iter().map(|(name, ..)| ((*name).to_owned(), json!(median(name)))).collect();
    if args.json {
        println!("{}", json!({ "bench": "loopback", "median": medians, "runs": runs }));
    } else {
        println!(
            "two headless peers, 1280x720 at 30 fps and Opus both ways, median of {}",
            runs.len()
        );
        for (name, title, goal) in names {
            let value = median(name).map_or_else(|| "-".to_owned(), |v| format!("{v:.2}"));
            println!("{title:<36} {value:>9}   goal {goal}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// One call; the figures of the side that is worse off, or of both together.
fn measure(url: &str, args: &LoopbackArgs) -> anyhow::Result<Value> {
    let room = visavis_engine::CallCode::random().to_string();
    let stay = args.duration + 2 * JOIN_LEAD;
    let first = Peer::start(&room, url, stay + JOIN_LEAD, &args.peer_flags)?;
    std::thread::sleep(JOIN_LEAD);
    let second = Peer::start(&room, url, stay, &args.peer_flags)?;
    let sides = [second.summary()?, first.summary()?];
    let number = |side: &Value, path: &str| path.split('.').fold(side, |v, n| &v[n]).as_f64();
    let worst = |path: &str, pick: fn(f64, f64) -> f64| {
        sides.iter().map(|s| number(s, path)).collect::<Option<Vec<_>>>()?.into_iter().reduce(pick)
    };
    let setup = sides
        .iter()
        .filter_map(|s| {
            Some(number(s, "setup_ms.first_video_frame")? - number(s, "setup_ms.remote_peer")?)
        })
        .reduce(f64::max);
    // CPU time over the time in which both were in the call.
    let in_call = number(&sides[0], "duration_ms").map(|ms| ms / 1000.0);
    let cpu = worst("cpu_seconds", |a, b| a + b).zip(in_call).map(|(cpu, time)| cpu / time);
    Ok(json!({
        "setup_ms": setup,
        "latency_p50_ms": worst("video_received.latency_ms.p50", f64::max),
        "latency_p95_ms": worst("video_received.latency_ms.p95", f64::max),
        "fps": worst("video_received.fps", f64::min),
        "freezes": worst("video_received.freeze_count", |a, b| a + b),
        "cpu_cores": cpu,
        "max_rss_mb": worst("max_rss_bytes", f64::max).map(|bytes| bytes / 1e6),
        "concealed": worst("audio_received.concealed_ratio", f64::max),
    }))
}

struct Peer(Child);

impl Peer {
    fn start(room: &str, url: &str, duration: Duration, flags: &[String]) -> anyhow::Result<Self> {
        let duration = format!("{}ms", duration.as_millis());
        let child = Command::new(std::env::current_exe()?)
            .args(["join", room, "--server", url, "--duration", &duration, "--json"])
            .args(["--max-size", "1280x720"])
            .args(flags)
            .stdout(Stdio::piped())
            .spawn()
            .context("a peer does not start")?;
        Ok(Self(child))
    }

    fn summary(mut self) -> anyhow::Result<Value> {
        let stdout = self.0.stdout.take().context("no standard output")?;
        let last = BufReader::new(stdout).lines().map_while(Result::ok).last();
        let summary: Value = serde_json::from_str(&last.context("a peer said nothing")?)?;
        if summary["video_received"].is_null() {
            bail!("no call came about: {summary}");
        }
        Ok(summary)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `visavis-signaling` from the same build.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start() -> anyhow::Result<Self> {
        let path: PathBuf = std::env::current_exe()?
            .with_file_name("visavis-signaling")
            .with_extension(std::env::consts::EXE_EXTENSION);
        let mut child = Command::new(&path)
            .args(["--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{} does not start: build the workspace", path.display()))?;
        let stdout = child.stdout.take().context("no standard output")?;
        let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
        let url = lines
            .find_map(|line| {
                let at = line.find("http://")?;
                Some(line[at..].split_whitespace().next()?.trim_end_matches('/').to_owned())
            })
            .context("the server did not say where it listens")?;
        Ok(Self { child, url })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
