//! Flashes and beeps through real programs: sound is heard when its picture is shown, within wide
//! margins; `./dev bench network --case lip-sync` measures. Needs root for network namespaces; CI has
//! it.
#![cfg(target_os = "linux")]
#![allow(missing_docs)]

use std::time::Duration;

use visavis_tests::link::{Conditions, Emulator, Schedule, unavailable};
use visavis_tests::network::{System, measure_lip_sync};

fn main_case(sender: System, receiver: System, conditions: Conditions) -> anyhow::Result<()> {
    let back = Schedule::constant(Conditions::open(conditions.delay));
    let emulator = Emulator::start(Schedule::constant(conditions), back, 1)?;
    let f = measure_lip_sync(&emulator, sender, receiver, Duration::from_secs(18))?;
    eprintln!("{sender:?} to {receiver:?}: {f:.1?}");
    Ok(())
}

const OPEN: Conditions = Conditions::open(Duration::from_millis(25));

#[test]
fn scratch_all() -> anyhow::Result<()> {
    assert!(unavailable().is_none());
    use System::{Chromium, Ours};
    let jitter = OPEN.with_jitter(Duration::from_millis(60));
    let rate = OPEN.with_rate(1_000_000, Duration::from_millis(300));
    let which = std::env::var("PAIRS").unwrap_or_default();
    for (from, to) in [(Ours, Ours), (Ours, Chromium), (Chromium, Ours), (Chromium, Chromium)] {
        if !which.is_empty() && !which.contains(&format!("{from:?}{to:?}")) {
            continue;
        }
        for (name, c) in [("open", OPEN), ("jitter60", jitter), ("1mbps", rate)] {
            eprint!("{name}: ");
            if let Err(e) = main_case(from, to, c) {
                eprintln!("FAILED {e:#}");
            }
        }
    }
    Ok(())
}
