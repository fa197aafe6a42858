//! Two headless peers in a call on one machine.
#![allow(missing_docs, clippy::unwrap_used)]

use std::time::Duration;

use visavis_media::files::Y4mReader;
use visavis_media::synthetic::read_time_code;
use visavis_tests::program::{Program, Server, binary, expect_within, join, scratch};

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn pictures_and_tone_flow_both_ways_and_hangup_has_its_reasons() -> anyhow::Result<()> {
    let server = Server::start()?;
    let folder = scratch("loopback")?;
    let (video, sound) = (folder.join("seen.y4m"), folder.join("heard.wav"));
    let room = "abc-def-ghj-kmn";
    let mut a = join(
        "first",
        server.url(),
        room,
        &[
            "--display",
            &format!("file:{}", video.display()),
            "--speaker",
            &format!("file:{}", sound.display()),
            "--size",
            "640x360",
        ],
    )?;
    a.wait_event("waiting", LIMIT)?;
    // The other comes with capitals and without dashes, and hangs up after a while.
    let mut b =
        join("second", server.url(), "ABCDEFGHJKMN", &["--duration", "6s", "--size", "640x360"])?;
    a.wait_event("first-video-frame", LIMIT)?;
    b.wait_event("first-video-frame", LIMIT)?;
    let (left, stayed) = (b.wait_event("summary", LIMIT)?, a.wait_event("summary", LIMIT)?);
    assert_eq!(left["end_reason"], "local-hangup");
    assert_eq!(stayed["end_reason"], "remote-hangup");
    assert!(a.wait_end(LIMIT)? && b.wait_end(LIMIT)?);
    for summary in [&left, &stayed] {
        assert_eq!(summary["video_received"]["codec"], "H264");
        assert_eq!(summary["video_received"]["width"], 640);
        expect_within(summary, "video_received.frames_decoded", 60.0..=400.0)?;
        expect_within(summary, "video_received.fps", 20.0..=31.5)?;
        expect_within(summary, "video_received.decode_errors", 0.0..=0.0)?;
        // From the pixels of the decoded pictures: both run on one clock.
        expect_within(summary, "video_received.latency_ms.p50", 0.0..=100.0)?;
        expect_within(summary, "audio_received.tone_hz", 430.0..=450.0)?;
        expect_within(summary, "audio_received.level_dbfs", -20.0..=-10.0)?;
        expect_within(summary, "audio_received.concealed_ratio", 0.0..=0.1)?;
        expect_within(summary, "setup_ms.first_video_frame", 0.0..=20_000.0)?;
        expect_within(summary, "cpu_seconds", 0.01..=20.0)?;
        assert!(summary["candidate_pair"]["local"]["type"].is_string(), "{summary:#}");
    }

    // What was written can be read again: moving pictures with rising time codes, and sound.
    let mut reader = Y4mReader::open(&video)?;
    let codes: Vec<u32> = (0..40)
        .map_while(|_| reader.next_frame().ok())
        .filter_map(|picture| read_time_code(&picture))
        .collect();
    assert!(codes.len() >= 38, "{} of 40 time codes are legible", codes.len());
    assert!(codes.windows(2).all(|w| (1..1000).contains(&w[1].wrapping_sub(w[0]))), "{codes:?}");
    assert!(sound.metadata()?.len() > 100_000);
    std::fs::remove_dir_all(folder)?;
    Ok(())
}

#[test]
fn beep_is_heard_with_its_flash() -> anyhow::Result<()> {
    let server = Server::start()?;
    let (room, size) = ("abc-def-ghj-kmn", ["--size", "640x360"]);
    let mut a = join("first", server.url(), room, &[&["--camera", "none"][..], &size].concat())?;
    a.wait_event("waiting", LIMIT)?;
    let flags = ["--microphone", "beep", "--duration", "12s"];
    let mut b = join("second", server.url(), room, &[&flags[..], &size].concat())?;
    b.wait_event("summary", LIMIT)?;
    let summary = a.wait_event("summary", LIMIT)?;
    // Twice the goal, for other tests run meanwhile.
    expect_within(&summary, "audio_received.flash_and_beep.offset_ms.p50", -80.0..=80.0)?;
    expect_within(&summary, "audio_received.flash_and_beep.count", 2.0..=7.0)?;
    Ok(())
}

#[test]
fn one_without_camera_and_microphone_still_has_a_call() -> anyhow::Result<()> {
    let server = Server::start()?;
    let mut a = join(
        "bare",
        server.url(),
        "abc-def-ghj-kmn",
        &["--camera", "none", "--microphone", "silence"],
    )?;
    a.wait_event("waiting", LIMIT)?;
    let mut b = join(
        "equipped",
        server.url(),
        "abc-def-ghj-kmn",
        &["--duration", "4s", "--size", "320x180"],
    )?;
    a.wait_event("first-video-frame", LIMIT)?;
    let (b, a) = (b.wait_event("summary", LIMIT)?, a.wait_event("summary", LIMIT)?);
    expect_within(&a, "audio_received.tone_hz", 430.0..=450.0)?;
    assert!(b["video_received"].is_null() && a["video_sent"].is_null(), "{a:#} {b:#}");
    Ok(())
}

#[test]
fn a_third_is_told_that_the_room_is_full() -> anyhow::Result<()> {
    let server = Server::start()?;
    let room = "abc-def-ghj-kmn";
    let quiet = ["--camera", "none", "--microphone", "silence"];
    let mut a = join("first", server.url(), room, &quiet)?;
    a.wait_event("waiting", LIMIT)?;
    let mut b = join("second", server.url(), room, &quiet)?;
    b.wait_event("connected", LIMIT)?;
    let mut c = join("third", server.url(), room, &quiet)?;
    assert_eq!(c.wait_event("summary", LIMIT)?["end_reason"], "room-full");
    // Nothing happened to the two inside.
    b.terminate()?;
    assert_eq!(b.wait_event("summary", LIMIT)?["end_reason"], "local-hangup");
    assert_eq!(a.wait_event("summary", LIMIT)?["end_reason"], "remote-hangup");
    Ok(())
}

#[test]
fn call_survives_server_restart() -> anyhow::Result<()> {
    let mut server = Server::start()?;
    let room = "abc-def-ghj-kmn";
    let mut a = join("first", server.url(), room, &["--size", "320x180"])?;
    a.wait_event("waiting", LIMIT)?;
    let mut b = join("second", server.url(), room, &["--size", "320x180", "--duration", "14s"])?;
    b.wait_event("first-video-frame", LIMIT)?;
    server.restart()?;
    let (b, a) = (b.wait_event("summary", LIMIT)?, a.wait_event("summary", LIMIT)?);
    // The hang-up went through the new server; no picture was missed meanwhile.
    assert_eq!(
        (&a["end_reason"], &b["end_reason"]),
        (&"remote-hangup".into(), &"local-hangup".into())
    );
    for summary in [&a, &b] {
        expect_within(summary, "video_received.freeze_count", 0.0..=0.0)?;
        expect_within(summary, "video_received.frames_decoded", 200.0..=500.0)?;
    }
    Ok(())
}

/// Four clients behind one address, whose tokens a restarted server does not know; it lets two of them
/// back in at once, and nobody who is new.
#[test]
fn calls_go_on_while_a_restarted_server_is_too_busy_for_them() -> anyhow::Result<()> {
    let mut server = Server::start()?;
    let mut peers = Vec::new();
    for room in ["abc-dej-ghj-kmn", "abc-dek-ghj-kmn"] {
        let flags = ["--camera", "none", "--duration", "14s"];
        for name in ["first", "second"] {
            peers.push(join(name, server.url(), room, &flags)?);
        }
    }
    for peer in &mut peers {
        peer.wait_event("connected", LIMIT)?;
    }
    server.restart_with(&["--max-joins-per-minute", "1"])?;
    let mut third = join("third", server.url(), "abc-del-ghj-kmn", &["--camera", "none"])?;
    third.wait_event("waiting", LIMIT)?;
    let mut fourth = join("fourth", server.url(), "abc-dem-ghj-kmn", &["--camera", "none"])?;
    assert_eq!(fourth.wait_event("summary", LIMIT)?["end_reason"], "too-many-joins");
    for peer in &mut peers {
        let summary = peer.wait_event("summary", LIMIT)?;
        let reason = summary["end_reason"].as_str();
        assert!(reason.is_some_and(|reason| reason.ends_with("hangup")), "{summary:#}");
        // Of about 14 s, fifty a second.
        expect_within(&summary, "audio_received.packets", 500.0..=800.0)?;
    }
    Ok(())
}

#[test]
fn unreachable_server_is_a_readable_end() -> anyhow::Result<()> {
    let mut peer = join("alone", "http://127.0.0.1:9", "abc-def-ghj-kmn", &[])?;
    let summary = peer.wait_event("summary", LIMIT)?;
    assert_eq!(summary["end_reason"], "server-unreachable");
    assert!(summary["video_received"].is_null() && summary["candidate_pair"].is_null());
    assert!(!peer.wait_end(LIMIT)?);
    Ok(())
}

#[test]
fn self_signed_server_is_trusted_by_its_fingerprint_only() -> anyhow::Result<()> {
    let mut command = std::process::Command::new(binary("visavis-signaling")?);
    command.args(["--listen", "127.0.0.1:0", "--tls-self-signed"]);
    let mut server = Program::start("visavis-signaling", &mut command)?;
    let url = server.wait_line(LIMIT, |line| {
        Some(line[line.find("https://")?..].split_whitespace().next()?.to_owned())
    })?;
    let fingerprint = server.wait_line(LIMIT, |line| {
        // 32 bytes, two digits and a colon each.
        line.split_whitespace().find(|word| word.matches(':').count() == 31).map(str::to_owned)
    })?;
    let mut stranger = join("stranger", &url, "abc-def-ghj-kmn", &[])?;
    assert_eq!(stranger.wait_event("summary", LIMIT)?["end_reason"], "server-unreachable");
    let mut friend =
        join("friend", &url, "abc-def-ghj-kmn", &["--trust-certificate", &fingerprint])?;
    friend.wait_event("waiting", LIMIT)?;
    Ok(())
}
