//! Flashes and beeps through real programs: sound is heard when its picture is shown, within wide
//! margins; `./dev bench network --case lip-sync` measures. Needs root for network namespaces; CI has
//! it.
#![cfg(target_os = "linux")]
#![allow(missing_docs)]

use std::time::Duration;

use visavis_tests::link::{Conditions, Emulator, Schedule, StreamKind, cannot_test};
use visavis_tests::network::{System, measure_lip_sync};

/// Twice the goal: the machine has other things to do.
const MARGIN_MS: f64 = 80.0;
/// A third of the beeps that the call has once playout has settled.
const MIN_BEEPS: f64 = 4.0;
const OPEN: Conditions = Conditions::open(Duration::from_millis(25));

fn expect_in_step(sender: System, receiver: System, conditions: Conditions) -> anyhow::Result<()> {
    if cannot_test() {
        return Ok(());
    }
    let (seed, back) = (1, Schedule::constant(OPEN));
    let emulator = Emulator::start(Schedule::constant(conditions), back, seed)?;
    let f = measure_lip_sync(&emulator, sender, receiver, Duration::from_secs(18))?;
    eprintln!("{sender:?} to {receiver:?}, seed {seed}: {f:.1?}");
    assert!(f["count"] >= MIN_BEEPS, "{f:?}");
    assert!(f["p50_ms"].abs() <= MARGIN_MS, "{f:?}");
    Ok(())
}

#[test]
fn headless_peers_are_in_step_under_jitter() -> anyhow::Result<()> {
    let jitter = OPEN.with_jitter(Duration::from_millis(60));
    expect_in_step(System::Ours, System::Ours, jitter)
}

#[test]
fn headless_peers_come_into_step_where_sound_takes_longer() -> anyhow::Result<()> {
    let detour = OPEN.with_detour(StreamKind::Audio, Duration::from_millis(100));
    expect_in_step(System::Ours, System::Ours, detour)
}

#[test]
fn headless_peers_come_into_step_where_pictures_take_longer() -> anyhow::Result<()> {
    let detour = OPEN.with_detour(StreamKind::Video, Duration::from_millis(150));
    expect_in_step(System::Ours, System::Ours, detour)
}

#[test]
fn page_is_in_step_with_a_headless_peer() -> anyhow::Result<()> {
    expect_in_step(System::Ours, System::Chromium, OPEN)
}

#[test]
fn headless_peer_is_in_step_with_a_page() -> anyhow::Result<()> {
    expect_in_step(System::Chromium, System::Ours, OPEN)
}
