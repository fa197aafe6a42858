//! Real sound devices, as far as a program can tell: a private PulseAudio server's.
#![allow(missing_docs, clippy::unwrap_used)]

use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use visavis_tests::program::{Program, Server, binary, expect_within};
use visavis_tests::pulse::PulseServer;
use visavis_tests::sound::listen;

const LIMIT: Duration = Duration::from_secs(30);

/// Starts the probe beside the server, with these defaults.
fn probe(server: &PulseServer, devices: (&str, &str), arguments: &[&str]) -> Program {
    let mut command = Command::new(env!("CARGO_BIN_EXE_capture_probe"));
    server.environment(&mut command, devices.0, devices.1).args(arguments);
    Program::start("capture_probe", &mut command).unwrap()
}

/// The line that is no event.
fn result(program: &mut Program) -> Value {
    let result = program
        .wait_line(LIMIT, |line| {
            let value: Value = serde_json::from_str(line).ok()?;
            value["event"].is_null().then_some(value)
        })
        .unwrap();
    assert!(result["error"].is_null(), "{result}");
    result
}

/// Gaps are no fault here: what runs beside the tests takes the processor from the sound server too.
fn assert_tone(samples: &[f32], hz: f64, level_dbfs: std::ops::RangeInclusive<f64>) {
    let heard = listen(samples).expect("no tone");
    assert!((heard.tone_hz - hz).abs() < 0.01 * hz, "{heard:?}");
    assert!(level_dbfs.contains(&heard.level_dbfs), "{heard:?}");
    assert!(heard.share > 0.5, "{heard:?}");
}

#[test]
fn microphones_and_speakers_are_listed_by_name_and_monitors_are_not() {
    let server = PulseServer::start("list", &[("left", 48_000), ("right", 44_100)]).unwrap();
    server.set_defaults("right", "left_mic").unwrap();
    let list = result(&mut probe(&server, ("", ""), &["list"]));
    let entry = |kind: &str, id: &str| {
        let all = list[kind].as_array().unwrap();
        assert_eq!(all.len(), 2, "{list}");
        let id = format!("pulseaudio:{id}");
        let found = all.iter().find(|d| d["id"] == id.as_str());
        found.unwrap_or_else(|| panic!("no {id} in {list}")).clone()
    };
    assert_eq!(entry("microphones", "left_mic")["name"], "left_mic");
    assert_eq!(entry("microphones", "left_mic")["default"], true);
    assert_eq!(entry("microphones", "right_mic")["default"], false);
    assert_eq!(entry("speakers", "right")["default"], true);
    assert_eq!(entry("speakers", "left")["default"], false);
}

#[test]
fn a_tone_into_the_microphone_is_heard_with_its_pitch_and_level() {
    let cables = [("cable", 48_000), ("slow", 44_100)];
    let server = PulseServer::start("microphone", &cables).unwrap();
    for (id, cable) in [
        (Some("pulseaudio:cable_mic"), "cable"),
        (Some("pulseaudio:slow_mic"), "slow"),
        (Some("alsa:default"), "cable"),
        (None, "slow"),
    ] {
        let source = format!("{cable}_mic");
        server.set_defaults(cable, &source).unwrap();
        let _player = server.play_tone(cable, 700.0, -12.0).unwrap();
        let mut arguments = vec!["microphone", "seconds", "2"];
        if let Some(id) = id {
            arguments.extend(["id", id]);
        }
        let heard = result(&mut probe(&server, (cable, &source), &arguments));
        expect_within(&heard, "tone_hz", 693.0..=707.0).unwrap();
        // A sine's rms is 3 dB below its peak.
        expect_within(&heard, "level_dbfs", -16.5..=-13.5).unwrap();
        expect_within(&heard, "step_ms", 9.5..=10.5).unwrap();
        expect_within(&heard, "tone_share", 0.5..=1.0).unwrap();
        expect_within(&heard, "close_ms", 0.0..=400.0).unwrap();
        eprintln!("microphone {id:?}: {heard}");
    }
}

#[test]
fn a_tone_from_the_speaker_comes_out_with_its_pitch_and_level() {
    let cables = [("cable", 48_000), ("slow", 44_100)];
    let server = PulseServer::start("speaker", &cables).unwrap();
    for (id, cable) in [
        (Some("pulseaudio:cable"), "cable"),
        (Some("pulseaudio:slow"), "slow"),
        (Some("alsa:default"), "slow"),
        (None, "cable"),
    ] {
        let source = format!("{cable}_mic");
        server.set_defaults(cable, &source).unwrap();
        // Longer than the recording by far: the recorder may be slow to hear it.
        let mut arguments = vec!["speaker", "seconds", "6", "tone", "1200"];
        if let Some(id) = id {
            arguments.extend(["id", id]);
        }
        // The recorder is there first and waits for the tone, however long the device takes.
        let (sound, mut program) = std::thread::scope(|scope| {
            let recording = scope.spawn(|| {
                let begun = |sound: &[f32]| listen(sound).is_some();
                server.record_from(cable, begun, Duration::from_secs(1), LIMIT)
            });
            let program = probe(&server, (cable, &source), &arguments);
            (recording.join().unwrap(), program)
        });
        let played = result(&mut program);
        // The probe's amplitude of 0.25 is a sine of -15 dBFS.
        assert_tone(&sound.unwrap(), 1200.0, -16.5..=-13.5);
        // The device's clock paces: as many frames as it plays, and a few in reserve.
        expect_within(&played, "pulls_per_s", 80.0..=104.0).unwrap();
        expect_within(&played, "latency_ms", 1.0..=150.0).unwrap();
        eprintln!("speaker {id:?}: {played}");
        expect_within(&played, "close_ms", 0.0..=400.0).unwrap();
    }
}

#[test]
fn sound_goes_round_from_speaker_to_microphone_quickly() {
    let server = PulseServer::start("roundtrip", &[("cable", 48_000)]).unwrap();
    let arguments =
        ["roundtrip", "speaker", "pulseaudio:cable", "microphone", "pulseaudio:cable_mic"];
    let measured = result(&mut probe(&server, ("cable", "cable_mic"), &arguments));
    eprintln!("round trip: {measured}");
    expect_within(&measured, "delay_ms", 1.0..=200.0).unwrap();
}

#[test]
fn what_is_said_into_one_sides_microphone_comes_out_of_the_others_speaker() {
    let signaling = Server::start().unwrap();
    let cables = [("voice", 48_000), ("room", 44_100), ("unused", 48_000)];
    let sound = PulseServer::start("call", &cables).unwrap();
    let join = |name: &str, microphone: &str, speaker: &str| {
        let mut command = Command::new(binary("visavis-cli").unwrap());
        sound
            .environment(&mut command, "unused", "unused_mic")
            .args(["join", "abc-def-ghj-kmn", "--server", signaling.url(), "--json"])
            .args(["--camera", "none", "--microphone", microphone, "--speaker", speaker])
            .args(["--noise-suppression", "off", "--automatic-gain", "off"])
            .args(["--duration", "30s"]);
        Program::start(name, &mut command).unwrap()
    };
    let _voice = sound.play_tone("voice", 700.0, -12.0).unwrap();
    let mut a = join("speaking", "device:pulseaudio:voice_mic", "device:pulseaudio:unused");
    a.wait_event("waiting", LIMIT).unwrap();
    let mut b = join("listening", "silence", "device:pulseaudio:room");
    b.wait_event("first-audio", LIMIT).unwrap();
    let heard = sound.record("room", Duration::from_secs(4)).unwrap();
    // A steady tone is noise to the suppressor, which is therefore off.
    assert_tone(&heard[heard.len() / 2..], 700.0, -35.0..=-6.0);
    for side in [&mut a, &mut b] {
        side.terminate().unwrap();
        side.wait_end(LIMIT).unwrap();
    }
}

#[test]
fn a_sound_server_that_dies_ends_the_device_with_a_reason() {
    for (command, id, words) in [
        ("microphone", "pulseaudio:cable_mic", "not connected any more"),
        ("speaker", "pulseaudio:cable", "not connected any more"),
        ("microphone", "alsa:default", "System default failed"),
        ("speaker", "alsa:default", "System default failed"),
    ] {
        let mut server = PulseServer::start("death", &[("cable", 48_000)]).unwrap();
        let mut program =
            probe(&server, ("cable", "cable_mic"), &[command, "id", id, "seconds", "60"]);
        program.wait_event("open", LIMIT).unwrap();
        server.kill().unwrap();
        let error = program
            .wait_line(LIMIT, |line| {
                let value: Value = serde_json::from_str(line).ok()?;
                value["error"].as_str().map(str::to_owned)
            })
            .unwrap();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn without_a_sound_server_or_card_opening_says_that_there_is_none() {
    let server = PulseServer::start("none", &[]).unwrap();
    for (command, words) in [("microphone", "no microphone"), ("speaker", "no speaker")] {
        let mut program = probe(&server, ("", ""), &[command]);
        let error = program
            .wait_line(LIMIT, |line| {
                let value: Value = serde_json::from_str(line).ok()?;
                value["error"].as_str().map(str::to_owned)
            })
            .unwrap();
        assert!(error.contains(words), "{error}");
    }
}
