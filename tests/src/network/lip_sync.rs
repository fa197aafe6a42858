//! Flashes and beeps from either system to either: how much later the sound is heard.
//!
//! The headless peer measures when it hands pictures and sound over, the page when a picture is
//! expected to be displayed and when sound is handed to the audio device. Neither has a device whose
//! delay would come on top.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::Value;

use super::System;
use super::chromium::{FLAGS, STATS, concealed_of, energy_of};
use super::figures::Figures;
use crate::browser::{Browser, KEEP_CONNECTIONS, Page};
use crate::link::{Emulator, Namespace};
use crate::program::{Program, Server, join, scratch};

const LIMIT: Duration = Duration::from_secs(30);
const ROOM: &str = "abc-dem-ghj-kmn";
const WATCH: &str = include_str!("lip_sync.js");
/// Playout settles in the first seconds.
const SETTLING: Duration = Duration::from_secs(5);

/// Holds a call of `duration`. By how many milliseconds sound was late: `p50_ms`, `min_ms`, `max_ms` of
/// `count` beeps. For a headless receiver also `account_ms`, what it said itself at the same times; for a
/// page that sends `source_ms`, which is subtracted from the others: by how much sound is late as its
/// WebRTC stack gets it, for its canvas and its audio context have delays of their own. For a page that
/// receives `concealed_percent`, the share of the sound that it made up once playout had settled, and
/// `concealed_p50_percent`, the median of its seconds; the silence between beeps, of which hardly a packet
/// tells, is not counted. `energy` is that of the sound (W3C `totalAudioEnergy`) in that time.
///
/// Where no beep came with a flash, a busy page's pictures may be too small to tell, what is said of beeps is
/// missing.
///
/// # Errors
///
/// No call comes about, or it has no sound.
pub fn measure(
    emulator: &Emulator,
    sender: System,
    receiver: System,
    duration: Duration,
) -> anyhow::Result<Figures> {
    let (left, right) = (emulator.left(), emulator.right());
    let listen = format!("{}:0", Emulator::LEFT);
    let server = left.within(|| Server::listen(&listen))??;
    static FOLDERS: AtomicUsize = AtomicUsize::new(0);
    let folder = scratch(&format!("lip-sync-{}", FOLDERS.fetch_add(1, Ordering::Relaxed)))?;
    let trace = folder.join("trace.jsonl");

    // All talk with a browser is in its own namespace, for its driver listens there.
    let receiver_browser = browser(receiver, right, server.url())?;
    let sender_browser = browser(sender, left, server.url())?;
    let receiver_page =
        enter(&receiver_browser, right, server.url(), "camera=none&microphone=none")?;
    let _receiver_peer: Option<Program> = match &receiver_page {
        Some(page) => {
            right.within(|| page.run("watchReceived()"))??;
            None
        }
        None => {
            let trace = trace.display().to_string();
            let flags = ["--camera", "none", "--trace", &trace];
            let mut peer = right.within(|| join("receiver", server.url(), ROOM, &flags))??;
            peer.wait_event("waiting", LIMIT)?;
            Some(peer)
        }
    };
    let query = "camera=grainy-test-pattern&microphone=beep";
    let sender_page = enter(&sender_browser, left, server.url(), query)?;
    let flags = ["--camera", "grainy-test-pattern", "--microphone", "beep"];
    let _sender_peer: Option<Program> = match sender {
        System::Ours => Some(left.within(|| join("sender", server.url(), ROOM, &flags))??),
        System::Chromium => None,
    };

    let (begun, _) = emulator.wait_begun(LIMIT)?;
    if let Some(page) = &sender_page {
        left.within(|| page.run("watchSent()"))??;
    }
    // Samples that were made up so far, all that were played, and their energy.
    let sound = |page: &Page<'_>| -> anyhow::Result<[f64; 3]> {
        let stats = right.within(|| page.run_async(STATS))??;
        let all = concealed_of(&stats).zip(energy_of(&stats));
        let ([made_up, silent, all], energy) = all.context("the page has no sound")?;
        Ok([made_up - silent, all, energy])
    };
    let sleep_until =
        |at: Duration| std::thread::sleep((begun + at).saturating_duration_since(Instant::now()));
    sleep_until(SETTLING.min(duration));
    let mut played = Vec::new();
    if let Some(page) = &receiver_page {
        for second in 0..=duration.saturating_sub(SETTLING).as_secs() {
            sleep_until(SETTLING + Duration::from_secs(second));
            played.push(sound(page)?);
        }
    }
    sleep_until(duration);
    let offsets = |page: &Page<'_>, side: &Namespace, list: &str| -> anyhow::Result<Vec<_>> {
        let list = side.within(|| page.run(list))??;
        let pair = |p: &Value| Some((p[0].as_f64()?, p[1].as_f64()?));
        Ok(steady(list.as_array().into_iter().flatten().filter_map(pair)))
    };
    let mut figures = Figures::new();
    let mut received = match &receiver_page {
        Some(page) => {
            let percent = |from: &[f64; 3], to: &[f64; 3]| {
                100.0 * (to[0] - from[0]) / (to[1] - from[1]).max(1.0)
            };
            if let Some((first, last)) = played.first().zip(played.last()) {
                figures.insert("concealed_percent".to_owned(), percent(first, last));
                figures.insert("energy".to_owned(), last[2] - first[2]);
            }
            let seconds = played.windows(2).map(|pair| percent(&pair[0], &pair[1])).collect();
            let middle = median(seconds).map(|p| ("concealed_p50_percent".to_owned(), p));
            figures.extend(middle);
            offsets(page, right, "benchReceived")?
        }
        None => {
            let account = traced(&trace, "account_ms")?;
            figures.extend(median(account).map(|ms| ("account_ms".to_owned(), ms)));
            traced(&trace, "offset_ms")?
        }
    };
    if let Some(page) = &sender_page {
        match median(offsets(page, left, "benchSent")?) {
            Some(source) => {
                received.iter_mut().for_each(|ms| *ms -= source);
                figures.insert("source_ms".to_owned(), source);
            }
            None => received.clear(),
        }
    }
    received.sort_by(f64::total_cmp);
    #[expect(clippy::cast_precision_loss, reason = "a count of seconds")]
    let count = received.len() as f64;
    figures.insert("count".to_owned(), count);
    if let Some((first, last)) = received.first().zip(received.last()) {
        for (name, value) in [("min_ms", *first), ("max_ms", *last)] {
            figures.insert(name.to_owned(), value);
        }
    }
    figures.extend(median(received).map(|ms| ("p50_ms".to_owned(), ms)));
    let _ = std::fs::remove_dir_all(folder);
    Ok(figures)
}

fn browser(system: System, side: &Namespace, url: &str) -> anyhow::Result<Option<Browser>> {
    if system == System::Ours {
        return Ok(None);
    }
    let secure = format!("--unsafely-treat-insecure-origin-as-secure={url}");
    side.within(|| -> anyhow::Result<_> {
        let browser = Browser::start(&[FLAGS, &[secure.as_str()]].concat())?;
        browser.before_pages(KEEP_CONNECTIONS)?;
        browser.before_pages(WATCH)?;
        Ok(Some(browser))
    })?
}

/// The page in the room, if there is a browser.
fn enter<'b>(
    browser: &'b Option<Browser>,
    side: &Namespace,
    url: &str,
    query: &str,
) -> anyhow::Result<Option<Page<'b>>> {
    let open = |browser: &'b Browser| -> anyhow::Result<_> {
        let page = browser.open(&format!("{url}/r/{ROOM}?{query}&auto=1"))?;
        page.wait_for("['waiting', 'connected'].includes(visavis.state().phase)", LIMIT)?;
        Ok(page)
    };
    browser.as_ref().map(|browser| side.within(|| open(browser))?).transpose()
}

/// What a headless peer wrote of each flash and beep.
fn traced(trace: &Path, field: &str) -> anyhow::Result<Vec<f64>> {
    let text = std::fs::read_to_string(trace)?;
    // The last line may be half written.
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let pairs = lines.filter(|line| line["event"] == "flash-and-beep");
    Ok(steady(pairs.filter_map(|line| Some((line["unix_ms"].as_f64()?, line[field].as_f64()?)))))
}

/// Without the first seconds of `(Unix ms, value)`.
fn steady(pairs: impl Iterator<Item = (f64, f64)>) -> Vec<f64> {
    let mut begun = None;
    let mut settled = |at: f64| at >= *begun.get_or_insert(at) + SETTLING.as_secs_f64() * 1e3;
    pairs.filter(|(at, _)| settled(*at)).map(|(_, value)| value).collect()
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
