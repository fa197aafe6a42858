//! What leaves a microphone: nothing while it is muted, and not the other side's voice.
#![allow(missing_docs, clippy::unwrap_used)]

use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use visavis_media::AUDIO_FRAME_SAMPLES;
use visavis_media::audio::level::Level;
use visavis_media::audio::speech::Talker;
use visavis_media::files::WavWriter;
use visavis_tests::program::{Program, Server, binary, expect_within, join};
use visavis_tests::pulse::PulseServer;

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
fn echo(sound: &PulseServer, folder: &std::path::Path, canceller: &str) -> (f32, Value) {
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
    let mut reader = visavis_media::files::WavReader::open(&heard).unwrap();
    let mut samples = Vec::new();
    // From 8 s on: by then the canceller knows the room.
    for n in 0..1500 {
        let frame = reader.next_frame(visavis_media::MediaTime::default()).unwrap();
        if n >= 800 {
            samples.extend(frame.samples);
        }
    }
    (Level::of(&samples).rms_dbfs, summary)
}

#[test]
fn the_far_end_does_not_hear_itself_through_speaker_and_microphone() {
    let sound = PulseServer::start("echo", &[("room", 48_000)]).unwrap();
    let folder = visavis_tests::program::scratch("echo").unwrap();
    let (with_echo, plain) = echo(&sound, &folder, "off");
    let (without, cancelled) = echo(&sound, &folder, "auto");
    eprintln!("echo {with_echo:.1} dBFS; cancelled {without:.1} dBFS; {plain:#}; {cancelled:#}");
    assert!(with_echo > -45.0, "no echo to cancel: {with_echo} dBFS");
    // Busy machines interrupt the sound, which the canceller cannot foresee.
    assert!(without < with_echo - 20.0, "{without} dBFS after {with_echo} dBFS");
    assert!(cancelled["voice_processing"]["echo_delay_ms"].is_number(), "{cancelled:#}");
    std::fs::remove_dir_all(folder).unwrap();
}
