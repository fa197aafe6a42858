//! What leaves a microphone: nothing while it is muted, and not what its own speaker plays.
#![allow(missing_docs, clippy::unwrap_used)]

use std::process::Command;
use std::time::Duration;

use visavis_media::AUDIO_RATE_HZ;
use visavis_media::audio::level::Level;
use visavis_media_testing::speech::Talker;
use visavis_tests::network::speech;
use visavis_tests::program::{Program, Server, binary, expect_within, join, scratch};
use visavis_tests::pulse::PulseServer;
use visavis_tests::sound::median;

const LIMIT: Duration = Duration::from_secs(30);
/// STOI, the median of a call. Without echo cancellation it is 0.69, with it 0.95.
const WELL_UNDERSTOOD: f64 = 0.78;

#[test]
fn no_packet_of_a_muted_microphone_reaches_the_other_side() -> anyhow::Result<()> {
    let server = Server::start()?;
    let room = "abc-def-ghj-kmn";
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

/// What a talker hears of a call whose other side has its microphone right at its speaker, where
/// somebody may say something too.
fn heard_by_a_talker(
    echo_cancellation: &str,
    said_there: Option<&[f32]>,
    length: Duration,
) -> Vec<f32> {
    let folder = scratch(&format!("echo-{echo_cancellation}")).unwrap();
    let (spoken, heard) = (folder.join("spoken.wav"), folder.join("heard.wav"));
    speech::write(&speech::recording(5), &spoken).unwrap();
    let sound = PulseServer::start("echo", &[("room", 48_000)]).unwrap();
    let server = Server::start().unwrap();
    let join = |name: &str, microphone: &str, speaker: &str, extra: &[&str]| {
        let mut command = Command::new(binary("visavis-cli").unwrap());
        sound
            .environment(&mut command, "room", "room_mic")
            .args([
                "join",
                "abc-def-ghj-kmn",
                "--server",
                server.url(),
                "--json",
                "--camera",
                "none",
            ])
            .args(["--microphone", microphone, "--speaker", speaker])
            .args(extra);
        Program::start(name, &mut command).unwrap()
    };
    let extra = ["--echo-cancellation", echo_cancellation];
    let devices = ("device:pulseaudio:room_mic", "device:pulseaudio:room");
    let mut room = join("room", devices.0, devices.1, &extra);
    room.wait_event("waiting", LIMIT).unwrap();
    let _somebody = said_there.map(|said| sound.play("room", said).unwrap());
    let files = [spoken, heard.clone()].map(|file| format!("file:{}", file.display()));
    let length = format!("{}s", length.as_secs());
    let mut talker = join("talker", &files[0], &files[1], &["--duration", &length]);
    talker.wait_event("summary", LIMIT).unwrap();
    talker.wait_end(LIMIT).unwrap();
    let heard = speech::read(&heard).unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    heard
}

#[test]
fn what_the_speaker_plays_does_not_come_back_through_the_microphone() {
    // From the fourth second on: the room is learnt by then. Of most half seconds: where the sound system
    // runs dry the echo is back for a part of one.
    let level = |heard: Vec<f32>| {
        let pieces = heard[4 * AUDIO_RATE_HZ as usize..].chunks_exact(AUDIO_RATE_HZ as usize / 2);
        let mut levels: Vec<f64> = pieces.map(|p| Level::of(p).rms_dbfs.into()).collect();
        median(&mut levels).unwrap()
    };
    let [off, on] =
        ["off", "auto"].map(|mode| level(heard_by_a_talker(mode, None, Duration::from_secs(12))));
    eprintln!("own voice {off:.1} dBFS without, {on:.1} dBFS with echo cancellation");
    assert!(off > -30.0, "nothing came back: {off} dBFS");
    assert!(on < off - 30.0, "{on} dBFS of {off} dBFS");
}

#[test]
fn who_talks_while_the_speaker_plays_is_understood() {
    // Quiet beside what the speaker plays.
    let said: Vec<f32> = Talker::new(8, 200.0).take(30.0).iter().map(|s| 0.5 * s).collect();
    let heard = heard_by_a_talker("auto", Some(&said), Duration::from_secs(24));
    let heard = &heard[3 * AUDIO_RATE_HZ as usize..];
    let mut stretches = speech::intelligibility_of_stretches(&said, heard);
    eprintln!("STOI {stretches:.2?}");
    assert!(stretches.len() > 5, "{stretches:?}");
    // On a busy machine the sound system runs dry now and then, which cuts the voice itself.
    assert!(median(&mut stretches).unwrap() > WELL_UNDERSTOOD, "{stretches:?}");
}
