//! The last line of `join --json`. Absent parts are null, never invented.

use std::time::Duration;

use serde_json::{Value, json};
use visavis_engine::{Authentication, CallEndReason, CallSnapshot, CandidateInfo, EMOJI};

use crate::usage::Usage;

/// The summary of a call that began `before_join` after the process.
pub(crate) fn summary(
    room: &str,
    duration: Duration,
    before_join: Duration,
    reason: Option<&CallEndReason>,
    snapshot: &CallSnapshot,
    usage: Usage,
) -> Value {
    let setup = |time: Option<Duration>| time.map(|t| ms(t + before_join));
    let s = &snapshot.setup;
    let (sent, received, audio) =
        (&snapshot.video_sent, &snapshot.video_received, &snapshot.audio_received);
    let pair = snapshot.pairs.iter().find(|p| p.selected).map(|pair| {
        json!({
            "local": candidate(&pair.local),
            "remote": candidate(&pair.remote),
            "rtt_ms": pair.rtt.map(ms),
        })
    });
    json!({
        "event": "summary",
        "room": room,
        "duration_ms": ms(duration),
        "end_reason": reason.map(CallEndReason::code),
        "setup_ms": {
            "joined": setup(s.joined),
            "remote_peer": setup(s.remote_peer),
            "authenticated": setup(s.authenticated),
            "negotiated": setup(s.negotiated),
            "ice_connected": setup(s.ice_connected),
            "dtls_connected": setup(s.dtls_connected),
            "first_audio": setup(s.first_audio),
            "first_video_frame": setup(s.first_video_frame),
        },
        "authentication": snapshot.authentication.map(authentication),
        "candidate_pair": pair,
        "refused_datagrams": snapshot.refused_datagrams,
        "video_sent": (sent.frames > 0).then(|| json!({
            "codec": sent.codec,
            "coding": sent.coding,
            "codec_reason": sent.codec_reason,
            "width": sent.width_px,
            "height": sent.height_px,
            "frames": sent.frames,
            "bytes": sent.bytes,
            "keyframes": sent.keyframes,
            "retransmitted_packets": sent.retransmitted_packets,
            "target_bitrate_bps": sent.target_bitrate_bps,
        })),
        "video_received": (received.frames_decoded > 0).then(|| json!({
            "codec": received.codec,
            "width": received.width_px,
            "height": received.height_px,
            "frames_decoded": received.frames_decoded,
            "decode_errors": received.decode_errors,
            "bytes": received.bytes,
            "fps": mean_fps(snapshot),
            "freeze_count": received.freeze_count,
            "freeze_ms": ms(received.freeze_time),
            "latency_ms": received.latency.map(|l| json!({
                "p50": ms(l.p50), "p95": ms(l.p95), "max": ms(l.max),
            })),
            "packets_lost": received.packets_lost,
            "nacks": received.nacks,
            "plis": received.plis,
        })),
        "audio_sent": (snapshot.audio_sent.packets > 0).then(|| json!({
            "packets": snapshot.audio_sent.packets,
            "bytes": snapshot.audio_sent.bytes,
            "bitrate_bps": snapshot.audio_sent.bitrate_bps,
            "target_bitrate_bps": snapshot.audio_sent.target_bitrate_bps,
            "channels": snapshot.audio_sent.channels,
            "music": snapshot.local.voice.music,
        })),
        "audio_received": (audio.packets > 0).then(|| json!({
            "packets": audio.packets,
            "lost": audio.lost,
            "concealed_ratio": audio.concealed_ratio,
            "jitter_buffer_ms": ms(audio.jitter_buffer),
            "red_copies": audio.red_copies,
            "red_recovered": audio.red_recovered,
            "av_offset_ms": audio.av_offset_ms,
            "flash_and_beep": audio.flash_and_beep.map(|f| json!({
                "count": f.count,
                "offset_ms": { "p50": f.p50_ms, "min": f.min_ms, "max": f.max_ms },
            })),
            "level_dbfs": audio.level_dbfs,
            "tone_hz": audio.tone_hz,
            "bitrate_bps": audio.bitrate_bps,
            "channels": audio.channels,
        })),
        "voice_processing": voice_processing(snapshot),
        "cpu_seconds": usage.cpu_s,
        "max_rss_bytes": usage.max_rss_bytes,
    })
}

/// What is known of who the remote peer is.
pub(crate) fn authentication(of: Authentication) -> Value {
    json!({
        "proven": of.is_proven,
        "emoji": of.emoji.map(|all| all.map(|number| EMOJI[usize::from(number) % EMOJI.len()].name)),
        "remote_is_page": of.remote_is_page,
    })
}

/// What was done to the microphone's sound at the end; null for sound that was sent as it is.
fn voice_processing(snapshot: &CallSnapshot) -> Option<Value> {
    let voice = snapshot.local.voice;
    voice.running.then(|| {
        json!({
            "echo_cancellation": voice.echo_cancellation,
            "noise_suppression": voice.noise_suppression,
            "automatic_gain": voice.automatic_gain,
            "high_pass": voice.high_pass,
            "echo_return_loss_db": voice.echo_return_loss_db,
            "echo_return_loss_enhancement_db": voice.echo_return_loss_enhancement_db,
            "device_delay_ms": voice.device_delay.map(ms),
            "echo_delay_ms": voice.echo_delay.map(ms),
            "gain_db": voice.gain_db,
        })
    })
}

/// Pictures decoded a second, between the first picture and the end of the call.
#[expect(clippy::cast_precision_loss, reason = "a count of pictures")]
fn mean_fps(snapshot: &CallSnapshot) -> Option<f64> {
    let span = snapshot.video_received.span?;
    let frames = snapshot.video_received.frames_decoded.checked_sub(1)?;
    (!span.is_zero()).then(|| frames as f64 / span.as_secs_f64())
}

fn candidate(candidate: &CandidateInfo) -> Value {
    json!({
        "type": candidate.kind,
        "protocol": candidate.protocol,
        "address": candidate.address,
        "relay_protocol": candidate.relay_protocol,
    })
}

fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
