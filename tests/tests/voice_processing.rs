//! What leaves a microphone: nothing while it is muted, and not the other side's voice.
#![allow(missing_docs, clippy::unwrap_used)]

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use visavis_media::audio::level::LevelMeter;
use visavis_media::audio::speech::Talker;
use visavis_media::files::{WavReader, WavWriter};
use visavis_media::{AUDIO_FRAME_SAMPLES, MediaTime};
use visavis_tests::program::{Program, Server, binary, expect_within, join, scratch};
use visavis_tests::pulse::PulseServer;
use visavis_tests::sound::median;

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn no_packet_of_a_muted_microphone_reaches_the_other_side() -> anyhow::Result<()> {
    let server = Server::start()?;
    let room = "abc-defg-hij";
    let mut listener = join("listener", server.url(), room, &["--size", "320x180"])?;
    listener.wait_event("waiting", LIMIT)?;
    let muted = ["--muted", "--microphone", "tone", "--size", "320x180", "--duration", "6s"];
    let mut muted = join("muted", server.url(), room, &muted)?;
    let (muted, listener) =
        (muted.wait_event("summary", LIMIT)?, listener.wait_event("summary", LIMIT)?);
    // The call was there: its pictures came, and the other direction's sound.
    expect_within(&listener, "video_received.frames_decoded", 30.0..=400.0)?;
    expect_within(&muted, "audio_received.packets", 50.0..=1000.0)?;
    assert!(listener["audio_received"].is_null(), "{listener:#}");
    Ok(())
}

/// A far end talks; the near end's speaker stands before its microphone. Returns how loud the far
/// end hears itself, dBFS, and the near end's summary.
fn echo(sound: &PulseServer, folder: &std::path::Path, canceller: &str) -> (f64, Value) {
    let signaling = Server::start().unwrap();
    let talk = folder.join("talk.wav");
    let heard = folder.join(format!("heard-{canceller}.wav"));
    let mut file = WavWriter::create(&talk).unwrap();
    for block in Talker::new(1, 120.0).take(30.0).as_chunks::<AUDIO_FRAME_SAMPLES>().0 {
        file.write(block).unwrap();
    }
    drop(file);
    let join = |name: &str, microphone: &str, speaker: &str, seconds: &str| {
        let mut command = Command::new(binary("visavis-cli").unwrap());
        sound
            .environment(&mut command, "room", "room_mic")
            .args(["join", "abc-defg-hij", "--server", signaling.url(), "--json"])
            .args(["--camera", "none", "--microphone", microphone, "--speaker", speaker])
            .args(["--echo-cancellation", canceller, "--automatic-gain", "off"])
            .args(["--duration", seconds]);
        Program::start(name, &mut command).unwrap()
    };
    let (microphone, speaker) = ("device:pulseaudio:room_mic", "device:pulseaudio:room");
    let mut near = join("near", microphone, speaker, "60s");
    near.wait_event("waiting", LIMIT).unwrap();
    let microphone = format!("file:{}", talk.display());
    let mut far = join("far", &microphone, &format!("file:{}", heard.display()), "18s");
    far.wait_event("summary", LIMIT).unwrap();
    let summary = near.wait_event("summary", LIMIT).unwrap();
    let mut reader = WavReader::open(&heard).unwrap();
    let mut levels = Vec::new();
    // From 5 s on, when the canceller knows the room; the median, for busy machines interrupt the
    // sound, and then it must find the echo again.
    for n in 0..15 {
        let mut meter = LevelMeter::default();
        for _ in 0..100 {
            let frame = reader.next_frame(MediaTime::default()).unwrap();
            meter.push(&frame.samples);
        }
        if n >= 5 {
            levels.push(f64::from(meter.take().rms_dbfs));
        }
    }
    (median(&mut levels).unwrap(), summary)
}

#[test]
fn the_far_end_does_not_hear_itself_through_speaker_and_microphone() {
    let sound = PulseServer::start("echo", &[("room", 48_000)]).unwrap();
    let folder = scratch("echo").unwrap();
    let (with_echo, plain) = echo(&sound, &folder, "off");
    let (without, cancelled) = echo(&sound, &folder, "auto");
    eprintln!("echo {with_echo:.1} dBFS; cancelled {without:.1} dBFS; {plain:#}; {cancelled:#}");
    assert!(with_echo > -45.0, "no echo to cancel: {with_echo} dBFS");
    assert!(without < with_echo - 25.0, "{without} dBFS after {with_echo} dBFS");
    assert!(cancelled["voice_processing"]["echo_delay_ms"].is_number(), "{cancelled:#}");
    std::fs::remove_dir_all(folder).unwrap();
}
