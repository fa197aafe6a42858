//! A short look at real calls over a bad link, with wide margins: `./dev bench network` measures.
//! Needs root for network namespaces; CI has it.
#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::unwrap_used)]

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use visavis_tests::link::{
    Conditions, Direction, Emulator, Namespace, Schedule, StreamKind, cannot_test,
};
use visavis_tests::network::figures::{Figures, figures};
use visavis_tests::network::{Case, Extra, System, measure_lip_sync, measure_ours};
use visavis_tests::program::{Server, join};

const LIMIT: Duration = Duration::from_secs(30);
const ROOM: &str = "abc-dem-ghj-kmn";
const DELAY: Duration = Duration::from_millis(25);
const OPEN: Conditions = Conditions::open(DELAY);

/// What each call has to reach at least. Wide: the machine has other things to do.
mod bounds {
    pub(super) const LOSS_10_MIN_FPS: f64 = 15.0;
    pub(super) const LOSS_10_MAX_FROZEN_S: f64 = 3.0;
    pub(super) const LOSS_10_MAX_CONCEALED_PERCENT: f64 = 15.0;
    pub(super) const LOSS_10_MAX_RESENT_TO_LOST: f64 = 3.0;
    pub(super) const RATE_1_MBPS_MIN_FPS: f64 = 15.0;
    pub(super) const RATE_1_MBPS_MIN_USED_KBPS: f64 = 400.0;
    /// The queue would hold 300 ms: a sender that ignores it stays there.
    pub(super) const RATE_1_MBPS_MAX_LATENCY_P50_MS: f64 = 250.0;
}

fn call(conditions: Conditions, seconds: u64) -> anyhow::Result<Figures> {
    let case = Case {
        name: "test",
        title: "",
        goal: "",
        duration: Duration::from_secs(seconds),
        forward: Schedule::constant(conditions),
        back: Schedule::constant(OPEN),
        extra: Extra::None,
        calls: 1,
        for_chromium: false,
    };
    let seed = 1;
    let emulator = Emulator::start(case.forward.clone(), case.back.clone(), seed)?;
    let (outcomes, recording) = measure_ours(&case, &emulator, &[])?;
    let (_, begun_ms) = emulator.begun().unwrap();
    let figures = figures(&case, &outcomes, &recording, begun_ms);
    eprintln!("seed {seed}: {figures:.1?}");
    Ok(figures)
}

#[test]
fn call_goes_on_at_ten_percent_loss() -> anyhow::Result<()> {
    if cannot_test() {
        return Ok(());
    }
    let f = call(OPEN.with_loss(0.1, 1.0), 10)?;
    assert!(f["lost"] > 50.0, "the link lost nothing: {f:?}");
    assert!(f["fps"] >= bounds::LOSS_10_MIN_FPS, "{f:?}");
    assert!(f["frozen_s"] <= bounds::LOSS_10_MAX_FROZEN_S, "{f:?}");
    assert!(f["concealed_percent"] <= bounds::LOSS_10_MAX_CONCEALED_PERCENT, "{f:?}");
    assert!(f["retransmitted"] > 0.0, "nothing was sent again: {f:?}");
    assert!(f["retransmitted"] <= bounds::LOSS_10_MAX_RESENT_TO_LOST * f["lost"], "{f:?}");
    Ok(())
}

/// Without copies of earlier packets it is 6 % from a page; from us 2 %, for then our packets carry FEC.
#[test]
fn page_hears_sound_through_ten_percent_loss() -> anyhow::Result<()> {
    if cannot_test() {
        return Ok(());
    }
    for sender in [System::Ours, System::Chromium] {
        let lossy = Schedule::constant(OPEN.with_loss(0.1, 1.0));
        let emulator = Emulator::start(lossy, Schedule::constant(OPEN), 1)?;
        let length = Duration::from_secs(20);
        let f = measure_lip_sync(&emulator, sender, System::Chromium, length)?;
        eprintln!("{sender:?}: {f:.1?}");
        // Beeps of a tenth of a second.
        assert!(f["energy"] > 0.01, "{f:?}");
        // Of most seconds: work beside the test can stop a second's sound, whatever is copied.
        assert!(f["concealed_p50_percent"] <= 3.0, "{f:?}");
    }
    Ok(())
}

/// The stack alone gives up when the DTLS client's last flight is lost.
#[test]
fn calls_come_about_though_every_third_packet_is_lost() -> anyhow::Result<()> {
    if cannot_test() {
        return Ok(());
    }
    let lossy = || Schedule::constant(OPEN.with_loss(0.33, 1.0));
    let emulator = Emulator::start(lossy(), lossy(), 1)?;
    emulator.begin();
    let server = emulator.left().within(|| Server::listen(&format!("{}:0", Emulator::LEFT)))??;
    for call in 0..6 {
        let enter = |side: &Namespace| side.within(|| join("peer", server.url(), ROOM, &[]))?;
        let mut waits = enter(emulator.right())?;
        waits.wait_event("waiting", LIMIT)?;
        let mut comes = enter(emulator.left())?;
        for side in [&mut comes, &mut waits] {
            side.wait_event("first-video-frame", LIMIT)?;
        }
        comes.terminate()?;
        let setup = comes.wait_event("summary", LIMIT)?["setup_ms"].take();
        eprintln!("call {call}: {setup}");
        waits.wait_end(LIMIT)?;
    }
    Ok(())
}

#[test]
fn call_goes_on_at_one_megabit() -> anyhow::Result<()> {
    if cannot_test() {
        return Ok(());
    }
    let f = call(OPEN.with_rate(1_000_000, Duration::from_millis(300)), 12)?;
    assert!(f["fps"] >= bounds::RATE_1_MBPS_MIN_FPS, "{f:?}");
    assert!(f["sent_kbps"] >= bounds::RATE_1_MBPS_MIN_USED_KBPS, "{f:?}");
    assert!(f["latency_p50_ms"] <= bounds::RATE_1_MBPS_MAX_LATENCY_P50_MS, "{f:?}");
    Ok(())
}

#[test]
fn datagrams_are_delayed_and_a_blackout_swallows_them() -> anyhow::Result<()> {
    if cannot_test() {
        return Ok(());
    }
    let back = Schedule::constant(Conditions::open(Duration::from_millis(5)));
    let emulator = Emulator::start(Schedule::constant(OPEN).then(DELAY, OPEN.dead()), back, 1)?;
    let left = emulator.left().within(|| UdpSocket::bind((Emulator::LEFT, 0)))??;
    let right = emulator.right().within(|| UdpSocket::bind((Emulator::RIGHT, 0)))??;
    left.set_read_timeout(Some(Duration::from_secs(5)))?;
    right.set_read_timeout(Some(Duration::from_secs(5)))?;
    let to = right.local_addr()?;
    let mut buffer = [0; 64];

    // Before the beginning the delays hold, and nothing else.
    let mut trips = Vec::new();
    for _ in 0..20 {
        let sent = Instant::now();
        left.send_to(b"there", to)?;
        let (_, from) = right.recv_from(&mut buffer)?;
        right.send_to(b"and back", from)?;
        left.recv_from(&mut buffer)?;
        trips.push(sent.elapsed());
    }
    assert_eq!(&buffer[..8], b"and back");
    trips.sort();
    assert!(trips[0] >= Duration::from_millis(30), "{trips:?}");
    assert!(trips[10] < Duration::from_millis(60), "{trips:?}");

    emulator.begin();
    let (begun, _) = emulator.wait_begun(Duration::from_secs(5))?;
    while begun.elapsed() < 2 * DELAY {
        std::thread::yield_now();
    }
    left.send_to(b"into the void", to)?;
    right.set_read_timeout(Some(Duration::from_millis(300)))?;
    assert!(right.recv_from(&mut buffer).is_err(), "a dead link delivered");
    let recording = emulator.recording(Direction::LeftToRight);
    assert_eq!(recording.dropped_packets(StreamKind::OtherUdp), 1);
    Ok(())
}
