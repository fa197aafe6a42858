//! Pictures grow where everything allows it, and shrink where the remote peer cannot take them.
#![allow(missing_docs, clippy::unwrap_used)]

use std::time::{Duration, Instant};

use visavis_engine::{
    CallCode, CallSnapshot, CameraSource, Command, Engine, EngineConfig, MicrophoneSource, Size,
    SpeakerSink, VideoCodec,
};
use visavis_tests::engine::{self, wait};
use visavis_tests::program::Server;

fn enter(server: &Server, code: &CallCode, config: EngineConfig) -> Engine {
    let config = EngineConfig {
        microphone: MicrophoneSource::Silence,
        speaker: SpeakerSink::None,
        video_codecs: vec![VideoCodec::H264],
        ..config
    };
    engine::enter(server, code, config).unwrap()
}

/// Who sends, and who receives only.
fn call(server: &Server, sends: EngineConfig, receives: EngineConfig) -> (Engine, Engine) {
    let code = CallCode::random();
    let sender = enter(server, &code, EngineConfig { camera: CameraSource::TestPattern, ..sends });
    let receiver = enter(server, &code, EngineConfig { camera: CameraSource::None, ..receives });
    wait(&receiver, "a picture", |now| now.video_received.frames_decoded > 0);
    (sender, receiver)
}

fn size(snapshot: &CallSnapshot) -> Size {
    Size::new(snapshot.video_received.width_px, snapshot.video_received.height_px)
}

#[test]
fn a_call_begins_at_720p_grows_to_1080p_and_follows_the_remote_window() {
    let server = Server::start().unwrap();
    let (sender, receiver) = call(&server, EngineConfig::default(), EngineConfig::default());
    let (usual, large) = (Size::new(1280, 720), Size::new(1920, 1080));
    assert_eq!(size(&receiver.snapshot()), usual);
    let begun = Instant::now();
    let grown = wait(&receiver, "1920x1080", |now| size(now) == large);
    println!("1920x1080 after {:.1?}", begun.elapsed());
    assert!(begun.elapsed() > Duration::from_secs(4), "not at once");
    assert_eq!(grown.video_received.decode_errors, 0);
    receiver.send(Command::SetDisplaySize(Size::new(960, 540)));
    wait(&receiver, "1280x720 for a small window", |now| size(now) == usual);
    let usual =
        |now: &CallSnapshot| now.local.camera_format.as_deref() == Some("1280×720 · 30 fps");
    wait(&sender, "the source itself is asked for 1280x720", usual);
}

#[test]
fn who_decodes_too_slowly_is_sent_smaller_pictures() {
    let server = Server::start().unwrap();
    let small = Size::new(640, 360);
    // 37 ms for a frame of this size, 21 ms for the next smaller one.
    let slow = EngineConfig { decode_delay: Duration::from_millis(150), ..EngineConfig::default() };
    let (sender, receiver) =
        call(&server, EngineConfig { size: small, ..EngineConfig::default() }, slow);
    assert_eq!(size(&receiver.snapshot()), small);
    let smaller = Size::new(480, 270);
    wait(&receiver, "480x270", |now| size(now) == smaller);
    let sent = wait(&sender, "the cause", |now| now.video_sent.limited_by.is_some());
    assert_eq!(sent.video_sent.limited_by, Some("decoder"));
    // Which it keeps up with: that is where it stays.
    let seen = receiver.snapshot().video_received.frames_decoded;
    let later = wait(&receiver, "more", |now| now.video_received.frames_decoded > seen + 60);
    assert_eq!(size(&later), smaller);
}
