//! `join` and `devices`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};
use visavis_engine::{
    Bitrate, CallEndReason, CallSnapshot, Command, Engine, EngineConfig, Event, JoinOptions,
    VideoCodec, VoiceProcessing,
};

use crate::args::{Admit, DevicesArgs, JoinArgs};
use crate::summary::summary;
use crate::usage;

/// How often the state is looked at besides events.
const POLL: Duration = Duration::from_millis(200);
/// How long hanging up may take.
const HANGUP_LIMIT: Duration = Duration::from_secs(3);

pub(crate) fn run(started: Instant, args: JoinArgs) -> anyhow::Result<ExitCode> {
    // Not the secret: summaries are kept and passed on.
    let room = args.code.room.to_string();
    let addresses = args.addresses();
    let engine = Engine::start(EngineConfig {
        camera: args.camera,
        microphone: args.microphone,
        speaker: args.speaker,
        voice: VoiceProcessing {
            music: args.music,
            echo_cancellation: args.echo_cancellation,
            noise_suppression: args.noise_suppression,
            automatic_gain: args.automatic_gain,
            high_pass: args.high_pass,
        },
        display: args.display,
        display_size: args.display_size,
        size: args.size,
        max_size: args.max_size,
        fps: args.fps,
        max_bitrate: args.max_bitrate.map(Bitrate::from_bps),
        video_codecs: match args.video_codecs {
            all if all.is_empty() => VideoCodec::ALL.into(),
            some => some,
        },
        trusted_certificate: args.trust_certificate,
        seat_file: args.state,
        ..EngineConfig::default()
    })?;
    let stop = stop_flag()?;
    if args.muted {
        engine.send(Command::SetMicrophoneEnabled(false));
    }
    let before_join = started.elapsed();
    engine.send(Command::Join(JoinOptions {
        code: args.code,
        key: None,
        guesses: 0,
        server: args.server,
        display_name: args.name,
        ice_servers: args.ice_servers,
        addresses,
    }));
    if args.lock {
        engine.send(Command::SetRoomLocked(true));
    }
    let out = Out { json: args.json, started };
    let mut hangup_at = args.duration.map(|d| started + d);
    let mut leaving = None;
    let reason = loop {
        match engine.wait_event(POLL) {
            Some(Event::Ended(reason)) => break Some(reason),
            Some(event) => {
                out.event(&event, &engine.snapshot());
                if let Event::Knock(knock) = event {
                    let admitted = args.admit == Admit::All;
                    engine.send(Command::Admit { peer_id: knock.peer_id, admitted });
                }
            }
            None => {}
        }
        let now = Instant::now();
        if hangup_at.is_some_and(|at| now >= at) || stop.load(std::sync::atomic::Ordering::Relaxed)
        {
            hangup_at = None;
            if leaving.is_none() {
                leaving = Some(now);
                engine.send(Command::Leave);
            }
        }
        if leaving.is_some_and(|since| now - since > HANGUP_LIMIT) {
            break None;
        }
    };
    let snapshot = engine.snapshot();
    let line = summary(
        &room,
        started.elapsed(),
        before_join,
        reason.as_ref(),
        &snapshot,
        usage::measure(),
    );
    drop(engine);
    if args.json {
        println!("{line}");
    } else if let Some(reason) = &reason {
        println!("{reason}");
    }
    let good = matches!(reason, Some(CallEndReason::LocalHangup | CallEndReason::RemoteHangup));
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(3) })
}

struct Out {
    json: bool,
    started: Instant,
}

impl Out {
    fn event(&self, event: &Event, snapshot: &CallSnapshot) {
        let (name, detail) = match event {
            Event::PeerJoined => ("peer-joined", Value::Null),
            Event::Connected => ("connected", Value::Null),
            Event::Authenticated(authentication) => {
                ("authenticated", crate::summary::authentication(*authentication))
            }
            Event::ContinuityKey(_) | Event::Guesses(_) => return,
            Event::NoCommonVideoCodec => ("no-common-video-codec", Value::Null),
            Event::FirstVideoFrame => ("first-video-frame", Value::Null),
            Event::FirstAudio => ("first-audio", Value::Null),
            Event::DeviceProblem(text) => ("device-problem", json!(text)),
            Event::RelayProblem(text) => ("relay-problem", json!(text)),
            Event::Knocking => ("knocking", Value::Null),
            Event::Knock(knock) => ("knock", json!(knock.display_name)),
            Event::Waiting => ("waiting", json!(snapshot.room_link)),
            Event::Reconnecting => ("reconnecting", Value::Null),
            Event::SpeakingWhileMuted => ("speaking-while-muted", Value::Null),
            Event::RoomLock { locked, by_us } => (
                if *locked { "room-locked" } else { "room-opened" },
                json!(if *by_us { "by us" } else { "by the other side" }),
            ),
            Event::Ended(_) => return,
        };
        if self.json {
            let at_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
            println!("{}", json!({ "event": name, "at_ms": at_ms, "detail": detail }));
        } else {
            match detail {
                Value::String(detail) => println!("{name}: {detail}"),
                _ => println!("{name}"),
            }
        }
    }
}

/// Set by an interrupt or a request to terminate.
fn stop_flag() -> anyhow::Result<std::sync::Arc<std::sync::atomic::AtomicBool>> {
    let flag = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, flag.clone()).context("signals cannot be watched")?;
    }
    Ok(flag)
}

pub(crate) fn devices(args: &DevicesArgs) -> anyhow::Result<ExitCode> {
    let devices = visavis_engine::list_devices();
    if args.json {
        println!("{}", serde_json::to_string(&devices)?);
        return Ok(ExitCode::SUCCESS);
    }
    for (kind, list) in [
        ("camera", &devices.cameras),
        ("microphone", &devices.microphones),
        ("speaker", &devices.speakers),
    ] {
        if list.is_empty() {
            println!("{kind}: none");
        }
        for device in list {
            let default = if device.default { " (default)" } else { "" };
            println!("{kind}: {}{default}\n    device:{}", device.name, device.id.0);
        }
    }
    Ok(ExitCode::SUCCESS)
}
