//! What is negotiated while a call goes on, and what is never answered.
#![allow(missing_docs, clippy::unwrap_used)]

use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};
use visavis_engine::{
    CallSnapshot, CameraSource, Command, Engine, EngineConfig, MicrophoneSource, Phase,
    SignalingLink, Size, SpeakerSink,
};
use visavis_tests::browser::Browser;
use visavis_tests::engine::{self, wait};
use visavis_tests::program::{Server, join};

const LIMIT: Duration = Duration::from_secs(20);
const ROOM: &str = "abc-def";

/// A peer as the window runs it, with a test pattern and a tone.
fn enter(server: &Server) -> Engine {
    let config = EngineConfig {
        camera: CameraSource::TestPattern,
        microphone: MicrophoneSource::Tone,
        speaker: SpeakerSink::None,
        size: Size::new(320, 180),
        ..EngineConfig::default()
    };
    engine::enter(server, &ROOM.parse().unwrap(), config).unwrap()
}

/// Waits for another second of pictures.
fn wait_pictures(engine: &Engine) {
    let seen = engine.snapshot().video_received.frames_decoded;
    wait(engine, "pictures", |now| now.video_received.frames_decoded >= seen + 20);
}

/// Two in a call that see each other; the first waited for the second.
fn call(server: &Server) -> (Engine, Engine) {
    let first = enter(server);
    wait(&first, "alone in the room", |now| now.phase == Phase::Waiting);
    let second = enter(server);
    for peer in [&first, &second] {
        wait(peer, "connected", |now| now.phase == Phase::Connected);
        wait_pictures(peer);
    }
    (first, second)
}

#[test]
fn a_camera_goes_off_and_on_again_in_a_call() {
    let server = Server::start().unwrap();
    let (first, second) = call(&server);
    for (own, other) in [(&first, &second), (&second, &first)] {
        wait(other, "a camera that is on", |now| now.remote.camera_on == Some(true));
        own.send(Command::SetCameraEnabled(false));
        let told = wait(other, "a camera that is off", |now| now.remote.camera_on == Some(false));
        // What was under way may still come; then nothing does while the other direction goes on.
        wait_pictures(own);
        let last = other.snapshot().video_received.frames_decoded;
        assert!(last <= told.video_received.frames_decoded + 15, "{told:#?}");
        wait_pictures(own);
        let after = other.snapshot();
        assert_eq!(after.video_received.frames_decoded, last);
        assert_eq!(after.remote.microphone_on, Some(true));
        assert!(after.audio_received.level_dbfs > Some(-25.0), "{:?}", after.audio_received);

        own.send(Command::SetCameraEnabled(true));
        wait(other, "a camera that is on again", |now| now.remote.camera_on == Some(true));
        wait_pictures(other);
        assert_eq!(other.snapshot().phase, Phase::Connected);
    }
}

#[test]
fn ice_restarts_while_the_signaling_server_does() {
    let mut server = Server::start().unwrap();
    let (first, second) = call(&server);
    // Asked for while the server is gone, and just before it goes.
    for (own, other, gone_first) in [(&first, &second, true), (&second, &first, false)] {
        let before = [own.snapshot(), other.snapshot()];
        if gone_first {
            server.kill().unwrap();
            let gone =
                |now: &CallSnapshot| now.states.signaling_link == SignalingLink::Reconnecting;
            wait(own, "a lost server", gone);
            own.send(Command::RestartIce);
        } else {
            own.send(Command::RestartIce);
            server.kill().unwrap();
        }
        server.start_again().unwrap();
        for (peer, before) in [own, other].into_iter().zip(&before) {
            // Of the new generation.
            wait(peer, "another pair", |now| {
                now.nominations.len() > before.nominations.len()
                    && now.states.signaling_link == SignalingLink::Open
                    && now.phase == Phase::Connected
            });
            wait_pictures(peer);
        }
    }
    // Signaling is whole: the hang-up comes.
    first.send(Command::Leave);
    let end = wait(&second, "the end", |now| matches!(now.phase, Phase::Ended(_)));
    assert_eq!(end.phase, Phase::Ended(visavis_engine::CallEndReason::RemoteHangup));
}

/// A client that speaks the protocol by hand.
struct ByHand(WebSocket<TcpStream>);

impl ByHand {
    fn enter(server: &Server) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(server.address())?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        let (socket, _) = tungstenite::client(format!("ws://{}/ws", server.address()), stream)?;
        let mut client = Self(socket);
        client.say(&json!({ "type": "join", "protocolVersion": 2, "room": ROOM }))?;
        Ok(client)
    }

    fn say(&mut self, message: &Value) -> anyhow::Result<()> {
        Ok(self.0.send(Message::text(message.to_string()))?)
    }

    /// What comes within a second, if anything.
    fn hear(&mut self) -> anyhow::Result<Option<Value>> {
        match self.0.read() {
            Ok(Message::Text(text)) => Ok(Some(serde_json::from_str(&text)?)),
            Ok(_) => Ok(None),
            Err(tungstenite::Error::Io(error))
                if error.kind() == std::io::ErrorKind::WouldBlock =>
            {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}

#[test]
fn an_offer_that_is_never_answered_is_repeated_and_given_up_with_a_reason() -> anyhow::Result<()> {
    let server = Server::start()?;
    // Whoever waits makes the first offer.
    let mut peer = join("peer", server.url(), ROOM, &["--camera", "none"])?;
    peer.wait_event("waiting", LIMIT)?;
    let mut silent = ByHand::enter(&server)?;
    let begin = Instant::now();
    let (mut offers, mut pinged) = (Vec::new(), begin);
    let left = loop {
        if pinged.elapsed() > Duration::from_secs(4) {
            silent.say(&json!({ "type": "ping" }))?;
            pinged = Instant::now();
        }
        if let Some(message) = silent.hear()? {
            if message["description"]["type"] == "offer" {
                offers.push((begin.elapsed(), message["description"]["sdp"].clone()));
            }
            if message["type"] == "peer-left" {
                break message;
            }
        }
        anyhow::ensure!(begin.elapsed() < Duration::from_secs(60), "it never gives up");
    };
    assert_eq!(left["reason"], "gave-up");
    let given_up = begin.elapsed();
    assert!((38..48).contains(&given_up.as_secs()), "given up after {given_up:?}");
    // One each 4 s.
    assert!((6..=11).contains(&offers.len()), "{} offers", offers.len());
    assert!(offers.windows(2).all(|two| two[1].0 - two[0].0 > Duration::from_secs(3)));
    let summary = peer.wait_event("summary", LIMIT)?;
    assert_eq!(summary["end_reason"], "connection-failed");
    assert!(!peer.wait_end(LIMIT)?);
    Ok(())
}

#[test]
fn a_page_too_repeats_an_offer_that_is_not_answered() -> anyhow::Result<()> {
    let server = Server::start()?;
    let browser = Browser::start(&[])?;
    let link = format!("{}/r/{ROOM}?camera=test-pattern&microphone=tone&auto=1", server.url());
    let page = browser.open(&link)?;
    page.wait_phase("waiting", LIMIT)?;
    let mut silent = ByHand::enter(&server)?;
    let mut offers = Vec::new();
    let begin = Instant::now();
    while offers.len() < 3 {
        if let Some(message) = silent.hear()?
            && message["description"]["type"] == "offer"
        {
            offers.push(begin.elapsed());
            silent.say(&json!({ "type": "ping" }))?;
        }
        assert!(begin.elapsed() < LIMIT, "{offers:?}");
    }
    assert!(offers[0] < Duration::from_secs(2), "{offers:?}");
    assert!(offers.windows(2).all(|two| two[1] - two[0] > Duration::from_secs(3)), "{offers:?}");
    Ok(())
}
