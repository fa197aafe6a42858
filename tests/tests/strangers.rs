//! Calls that somebody disturbs who is in none of them: a third program sends to their sockets.
#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use visavis_tests::attack::{send_to_each, udp_sockets, volley};
use visavis_tests::program::{Program, Server, join};

const LIMIT: Duration = Duration::from_secs(30);
const ROOM: &str = "abc-def-ghj-kmn";
const FLAGS: [&str; 2] = ["--size", "640x360"];

/// Memory that an attacked program may take beyond another one.
const MAX_MORE_BYTES: f64 = 20e6;
/// Frames that are on their way when a call ends.
const UNDER_WAY: f64 = 4.0;

/// Attacks a process at all its sockets, again and again, until it is stopped.
struct Attack {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<u32>>,
}

impl Attack {
    fn start(pid: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let datagrams = volley();
            let mut rounds = 0;
            while !stopped.load(Ordering::Relaxed) {
                // All of them once in a round, whatever has new sockets meanwhile.
                for some in datagrams.chunks(500) {
                    send_to_each(&udp_sockets(pid)?, some)?;
                }
                rounds += 1;
            }
            Ok(rounds)
        });
        Self { stop, thread }
    }

    /// Waits for the end of the round.
    fn stop(self) -> anyhow::Result<u32> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// The summaries of who waited and who joined.
fn end(mut waits: Program, mut joins: Program) -> anyhow::Result<[Value; 2]> {
    joins.terminate()?;
    Ok([waits.wait_event("summary", LIMIT)?, joins.wait_event("summary", LIMIT)?])
}

fn call(server: &Server, attacked: bool) -> anyhow::Result<[Value; 2]> {
    let mut waits = join("waits", server.url(), ROOM, &FLAGS)?;
    waits.wait_event("waiting", LIMIT)?;
    if attacked {
        // While it waits, with candidates gathered.
        send_to_each(&udp_sockets(waits.id())?, &volley())?;
    }
    let first = attacked.then(|| Attack::start(waits.id()));
    let mut joins = join("joins", server.url(), ROOM, &FLAGS)?;
    let second = attacked.then(|| Attack::start(joins.id()));
    // While they connect.
    for side in [&mut waits, &mut joins] {
        side.wait_event("first-video-frame", LIMIT)?;
    }
    // And in the call.
    std::thread::sleep(Duration::from_secs(4));
    for attack in [first, second].into_iter().flatten() {
        let rounds = attack.stop()?;
        assert!(rounds > 0);
    }
    end(waits, joins)
}

fn number(summary: &Value, path: &str) -> f64 {
    path.split('.').fold(summary, |v, name| &v[name]).as_f64().unwrap_or(f64::NAN)
}

#[test]
fn a_stranger_neither_ends_nor_disturbs_a_call() -> anyhow::Result<()> {
    let server = Server::start()?;
    let [alone, alone_too] = call(&server, false)?;
    let [attacked, attacked_too] = call(&server, true)?;
    for (name, ours, other, without) in [
        ("who waited", &attacked, &attacked_too, &alone),
        ("who joined", &attacked_too, &attacked, &alone_too),
    ] {
        let figure = |path| number(ours, path);
        let sent = number(other, "video_sent.frames");
        let decoded = figure("video_received.frames_decoded");
        let more = figure("max_rss_bytes") - number(without, "max_rss_bytes");
        eprintln!(
            "{name}: {decoded} of {sent} frames, {} freezes, {:.1} MB more, setup {}",
            figure("video_received.freeze_count"),
            more / 1e6,
            ours["setup_ms"],
        );
        assert!(decoded >= sent - UNDER_WAY, "{name}: {ours:#} {other:#}");
        assert_eq!(figure("video_received.decode_errors"), 0.0, "{name}: {ours:#}");
        assert!(more < MAX_MORE_BYTES, "{name}: {more} bytes more than {without:#}");
    }
    Ok(())
}
