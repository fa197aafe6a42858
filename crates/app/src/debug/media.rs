//! Every number of what is sent and received, with its unit and its name in webrtc-stats.

use egui::Ui;
use visavis_engine::CallSnapshot;

use super::table::{fact, halves};
use crate::format::{self, UNKNOWN};
use crate::widgets;

/// A name, a value, an explanation.
type Fact = (&'static str, String, &'static str);

/// Draws the tab.
pub(super) fn show(ui: &mut Ui, s: &CallSnapshot) {
    halves(
        ui,
        |ui| facts(ui, "VIDEO SENT", &video_sent(s)),
        |ui| facts(ui, "VIDEO RECEIVED", &video_received(s)),
    );
    halves(
        ui,
        |ui| facts(ui, "AUDIO SENT", &audio_sent(s)),
        |ui| facts(ui, "AUDIO RECEIVED", &audio_received(s)),
    );
    halves(
        ui,
        |ui| facts(ui, "NETWORK", &network(s)),
        |ui| {
            facts(ui, "DEVICES", &devices(s));
            facts(ui, "VOICE PROCESSING", &voice(s));
        },
    );
}

fn facts(ui: &mut Ui, title: &str, list: &[Fact]) {
    widgets::card(ui, title, |ui| {
        for (name, value, explain) in list {
            fact(ui, name, value, None, explain);
        }
    });
}

fn or_unknown<T>(value: Option<T>, show: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| UNKNOWN.into(), show)
}

fn video_sent(s: &CallSnapshot) -> Vec<Fact> {
    let v = &s.video_sent;
    vec![
        (
            "Codec",
            or_unknown(v.codec.clone(), |c| match v.coding {
                Some(coding) => format!("{c}, {coding}"),
                None => c,
            }),
            v.codec_reason.unwrap_or("Of the last frame; may change at any keyframe."),
        ),
        ("Resolution", format::size(v.width_px, v.height_px), "frameWidth × frameHeight"),
        ("Frame rate", format!("{:.1} fps", v.fps), "framesPerSecond, over the last second."),
        ("Bitrate", format::bitrate(v.bitrate_bps), "Payload bits of the last second."),
        ("Target bitrate", format::bitrate(v.target_bitrate_bps), "targetBitrate of the encoder."),
        ("Frames encoded", v.frames.to_string(), "framesEncoded"),
        ("Keyframes", v.keyframes.to_string(), "keyFramesEncoded: decodable without others."),
        ("Encode time", format::ms(v.encode_time), "Mean of one picture over the last second."),
        ("Packets", v.packets.to_string(), "packetsSent"),
        ("Bytes", format::bytes(v.bytes), "bytesSent, payload only."),
        (
            "Sent again",
            format!("{} packets", v.retransmitted_packets),
            "retransmittedPacketsSent, RFC 4588.",
        ),
        (
            "NACKs received",
            v.nacks.to_string(),
            "nackCount: requests for packets, RFC 4585 §6.2.1.",
        ),
        (
            "PLIs received",
            v.plis.to_string(),
            "pliCount with FIR: requests for a keyframe, RFC 4585 §6.3.1, RFC 5104.",
        ),
        (
            "Lost on the way",
            or_unknown(v.remote_fraction_lost, format::percent),
            "fractionLost of the newest report, RFC 3550 §6.4.1.",
        ),
    ]
}

fn video_received(s: &CallSnapshot) -> Vec<Fact> {
    let v = &s.video_received;
    let latency = or_unknown(v.latency, |l| {
        let ms = |d: std::time::Duration| d.as_secs_f64() * 1e3;
        format!("{:.0} / {:.0} / {:.0} ms", ms(l.p50), ms(l.p95), ms(l.max))
    });
    vec![
        ("Codec", or_unknown(v.codec.clone(), |c| c), "Of the last frame."),
        ("Resolution", format::size(v.width_px, v.height_px), "frameWidth × frameHeight"),
        ("Frame rate", format!("{:.1} fps", v.fps), "framesPerSecond, over the last second."),
        ("Bitrate", format::bitrate(v.bitrate_bps), "Payload bits of the last second."),
        (
            "Latency p50/p95/max",
            latency,
            "Capture to display, where the picture carries a time code.",
        ),
        ("Frames decoded", v.frames_decoded.to_string(), "framesDecoded"),
        ("Decode errors", v.decode_errors.to_string(), "Pictures that the decoder refused."),
        ("Decode time", format::ms(v.decode_time), "Mean of one picture over the last second."),
        ("Packets", v.packets.to_string(), "packetsReceived"),
        ("Lost", format!("{} packets", v.packets_lost), "packetsLost, before repairs."),
        ("Bytes", format::bytes(v.bytes), "bytesReceived, payload only."),
        (
            "Repaired",
            format!("{} packets", v.packets_repaired),
            "Brought back by parity, without asking for them again.",
        ),
        ("Jitter", format::ms(v.jitter), "Interarrival jitter, RFC 3550 §6.4.1."),
        ("NACKs sent", v.nacks.to_string(), "nackCount, RFC 4585 §6.2.1."),
        ("PLIs sent", v.plis.to_string(), "pliCount, RFC 4585 §6.3.1."),
        (
            "Freezes",
            format!("{} · {}", v.freeze_count, format::ms(v.freeze_time)),
            "freezeCount and totalFreezesDuration",
        ),
    ]
}

fn channels(count: u8) -> String {
    if count == 2 { "stereo" } else { "mono" }.to_owned()
}

fn audio_sent(s: &CallSnapshot) -> Vec<Fact> {
    let a = &s.audio_sent;
    vec![
        ("Codec", or_unknown(a.codec.clone(), |c| c), "As negotiated."),
        ("Bitrate", format::bitrate(a.bitrate_bps), "Payload bits of the last second."),
        ("Packets", a.packets.to_string(), "packetsSent"),
        ("Bytes", format::bytes(a.bytes), "bytesSent, payload only."),
        (
            "Lost on the way",
            or_unknown(a.remote_fraction_lost, format::percent),
            "fractionLost of the newest report, RFC 3550 §6.4.1.",
        ),
        (
            "Redundancy",
            match a.redundancy_depth {
                0 => "none".to_owned(),
                depth => format!("{depth} copies, up to {} packets back", a.redundancy_reach),
            },
            "Copies of earlier packets in each packet (RED, RFC 2198), by the reported loss.",
        ),
        ("Target", format::bitrate(a.target_bitrate_bps), "Opus' target bitrate."),
        ("Channels", or_unknown(a.channels, channels), "Stereo is sent as music only."),
        (
            "Microphone level",
            format!("{:.0} dBFS", s.local.microphone_level_dbfs),
            "Peak of the last 100 ms after voice processing; 0 is the loudest, also while muted.",
        ),
    ]
}

fn audio_received(s: &CallSnapshot) -> Vec<Fact> {
    let a = &s.audio_received;
    vec![
        ("Codec", or_unknown(a.codec.clone(), |c| c), "As negotiated."),
        ("Bitrate", format::bitrate(a.bitrate_bps), "Payload bits of the last second."),
        ("Packets", a.packets.to_string(), "packetsReceived"),
        ("Lost", format!("{} packets", a.lost), "packetsLost"),
        (
            "Concealed",
            format::percent(a.concealed_ratio),
            "concealedSamples to totalSamplesReceived.",
        ),
        (
            "Recovered",
            format!("{} of {} copies", a.red_recovered, a.red_copies),
            "Packets recovered from redundant copies (RED, RFC 2198).",
        ),
        (
            "Lip sync",
            or_unknown(a.av_offset_ms, |ms| format!("{ms:+.0} ms")),
            "How much later sound is heard than its picture is shown.",
        ),
        ("Jitter buffer", format::ms(a.jitter_buffer), "Delay that the playout adds."),
        ("Jitter", format::ms(a.jitter), "Interarrival jitter, RFC 3550 §6.4.1."),
        ("Level", or_unknown(a.level_dbfs, |l| format!("{l:.0} dBFS")), "RMS of the last second."),
        ("Channels", or_unknown(a.channels, channels), "Of what was played last."),
        (
            "Tone",
            or_unknown(a.tone_hz, |f| format!("{f:.0} Hz")),
            "Strongest tone of the last second, where one stands out.",
        ),
    ]
}

fn network(s: &CallSnapshot) -> Vec<Fact> {
    let n = &s.network;
    let limit = s.video_sent.limited_by.unwrap_or("nothing");
    vec![
        (
            "May be sent",
            format::bitrate(n.available_outgoing_bps),
            "availableOutgoingBitrate: sound, pictures, repairs and headers together.",
        ),
        (
            "Delivered",
            or_unknown(n.delivered_bps, format::bitrate),
            "What arrived in the last half second, by the other side's reports.",
        ),
        (
            "Estimator",
            or_unknown((!n.state.is_empty()).then_some(n.state), str::to_owned),
            "Start-up doubles the rate, drain empties a queue on the path.",
        ),
        (
            "Queue on the path",
            format::ms(n.queue),
            "Delay beyond the least of the last ten seconds.",
        ),
        ("Queue here", format::ms(n.pacer_queue), "Until all that waits in the pacer has left."),
        ("Round trip", format::ms_or_unknown(n.rtt), "By RTCP reports."),
        (
            "Loss",
            format!("{}, runs {:.1}", format::percent(n.loss), n.loss_burst),
            "Of the last second, before any repair; how many packets in a row on average.",
        ),
        (
            "Parity",
            format::percent(n.parity),
            "Sent on top of the video, so that losses need no retransmission.",
        ),
        ("Repairs", format::bitrate(n.repair_bps), "Retransmissions and probes."),
        (
            "Video limited by",
            limit.to_owned(),
            "Why pictures are smaller or fewer than the camera's; changes are in the log.",
        ),
        (
            "Pictures left out",
            s.video_sent.skipped.to_string(),
            "Because others still waited to leave.",
        ),
    ]
}

fn devices(s: &CallSnapshot) -> Vec<Fact> {
    let l = &s.local;
    let shown = |name: &Option<String>, problem: &Option<String>| {
        problem.clone().or_else(|| name.clone()).unwrap_or_else(|| UNKNOWN.into())
    };
    vec![
        ("Camera", shown(&l.camera_name, &l.camera_problem), "In use, or why not."),
        (
            "Camera format",
            l.camera_format.clone().unwrap_or_else(|| UNKNOWN.into()),
            "What the camera delivers.",
        ),
        ("Microphone", shown(&l.microphone_name, &l.microphone_problem), "In use, or why not."),
        ("Speaker", shown(&l.speaker_name, &l.speaker_problem), "In use, or why not."),
    ]
}

fn voice(s: &CallSnapshot) -> Vec<Fact> {
    let v = &s.local.voice;
    let state = |on: bool| if on { "on" } else { "off" }.to_owned();
    let db = |value: Option<f32>| or_unknown(value, |db| format!("{db:.1} dB"));
    vec![
        ("Echo cancellation", state(v.echo_cancellation), "Takes out what the speaker plays."),
        ("Echo return loss", db(v.echo_return_loss_db), "echoReturnLoss: played to heard."),
        (
            "Loss enhancement",
            db(v.echo_return_loss_enhancement_db),
            "echoReturnLossEnhancement: what the linear filter takes off, before suppression.",
        ),
        (
            "Echo delay",
            or_unknown(v.echo_delay, format::ms),
            "From handing sound to the speaker to its echo, as the canceller found it.",
        ),
        ("Device delay", or_unknown(v.device_delay, format::ms), "The same as the devices say."),
        ("Noise suppression", state(v.noise_suppression), "Takes out steady noise."),
        ("Automatic gain", state(v.automatic_gain), "Brings speech to the same level (AGC2)."),
        ("Gain", db(v.gain_db), "Applied now."),
        ("High-pass filter", state(v.high_pass), "Takes out rumble below 100 Hz."),
    ]
}
