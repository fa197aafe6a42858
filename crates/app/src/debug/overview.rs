//! First look: a sentence, the set-up as a waterfall, states, the pair, rates, pictures.

use std::time::Duration;

use egui::{Align2, Color32, FontId, Rect, Sense, Stroke, Ui};
use visavis_engine::{CallSnapshot, SetupTimes};

use super::states::Shown;
use super::table::{fact, halves};
use super::{diagnosis, ice};
use crate::format::{self, UNKNOWN};
use crate::theme::{self, Tokens};
use crate::widgets;

/// Draws the tab.
pub(super) fn show(ui: &mut Ui, s: &CallSnapshot) {
    let (level, headline, detail) = diagnosis::diagnose(s);
    widgets::notice(ui, level, &headline, &detail);
    waterfall(ui, &s.setup);
    halves(ui, |ui| ice::selected_pair(ui, s), |ui| graph(ui, s));
    halves(ui, |ui| states(ui, s), |ui| pictures(ui, s));
}

fn states(ui: &mut Ui, s: &CallSnapshot) {
    let t = Tokens::of(ui.ctx());
    widgets::card(ui, "STATES", |ui| {
        let st = &s.states;
        for (name, state, explain) in [
            (
                "Signaling link",
                Some(st.signaling_link.into()),
                "The WebSocket to the server. Media does not need it.",
            ),
            (
                "Signaling",
                st.signaling.map(Shown::from),
                "Where offer and answer stand: RTCSignalingState, W3C WebRTC 1.0 §4.3.1.",
            ),
            (
                "Gathering",
                st.ice_gathering.map(Shown::from),
                "Whether all own addresses are known: RTCIceGatheringState, W3C WebRTC 1.0 §5.6.3.",
            ),
            (
                "ICE",
                st.ice_connection.map(Shown::from),
                "Whether a path is found and answers: RTCIceConnectionState; RFC 8445, RFC 7675.",
            ),
            (
                "DTLS",
                st.dtls.map(Shown::from),
                "The handshake that makes the keys: RTCDtlsTransportState; RFC 5764.",
            ),
            (
                "Peer connection",
                st.peer_connection.map(Shown::from),
                "ICE and DTLS together: RTCPeerConnectionState, W3C WebRTC 1.0 §4.3.3.",
            ),
        ] {
            let word = state.map_or(UNKNOWN, |shown: Shown| shown.word);
            fact(ui, name, word, Some(state.map_or(t.text, |shown| shown.colour(&t))), explain);
        }
        let role = match st.polite {
            Some(true) => "polite",
            Some(false) => "impolite",
            None => UNKNOWN,
        };
        fact(
            ui,
            "Negotiation role",
            role,
            None,
            "Who gives way when both offer at once: perfect negotiation, W3C WebRTC 1.0 §10.7.",
        );
        let (room, colour) =
            if s.room_locked { ("locked", Some(t.warn)) } else { ("open to others", None) };
        let explain =
            "Whether the server lets in others: only who had a seat returns to a locked room.";
        fact(ui, "Room", room, colour, explain);
        let explain = "Version of the handshake's protocol: RFC 6347 (1.2), RFC 9147 (1.3).";
        fact(ui, "DTLS version", s.dtls_version.as_deref().unwrap_or(UNKNOWN), None, explain);
        let explain = "How each media packet is encrypted: RFC 3711, RFC 7714.";
        let cipher = s.srtp_cipher.as_deref().unwrap_or(UNKNOWN);
        let cipher = cipher.strip_prefix("SRTP_").unwrap_or(cipher);
        fact(ui, "SRTP cipher", cipher, None, explain);
        let explain = "Datagrams of strangers and forged ones, which the WebRTC stack never sees.";
        fact(ui, "Refused datagrams", &s.refused_datagrams.to_string(), None, explain);
    });
}

fn pictures(ui: &mut Ui, s: &CallSnapshot) {
    let (tx, rx) = (&s.video_sent, &s.video_received);
    widgets::card(ui, "PICTURE AND SOUND", |ui| {
        let codec = |c: &Option<String>| c.clone().unwrap_or_else(|| UNKNOWN.into());
        let resolution = "frameWidth × frameHeight of webrtc-stats.";
        let fps = "framesPerSecond, over the last second.";
        fact(
            ui,
            "Sent",
            &format!("{} {}", codec(&tx.codec), format::size(tx.width_px, tx.height_px)),
            None,
            resolution,
        );
        fact(ui, "Sent rate", &format!("{:.1} fps", tx.fps), None, fps);
        fact(
            ui,
            "Sent bitrate",
            &format::bitrate(tx.bitrate_bps),
            None,
            "Payload bits of the last second.",
        );
        fact(
            ui,
            "Lost on the way there",
            &tx.remote_fraction_lost.map_or_else(|| UNKNOWN.into(), format::percent),
            None,
            "fractionLost of the other side's newest report, RFC 3550 §6.4.1.",
        );
        fact(
            ui,
            "Received",
            &format!("{} {}", codec(&rx.codec), format::size(rx.width_px, rx.height_px)),
            None,
            resolution,
        );
        fact(ui, "Received rate", &format!("{:.1} fps", rx.fps), None, fps);
        fact(
            ui,
            "Received bitrate",
            &format::bitrate(rx.bitrate_bps),
            None,
            "Payload bits of the last second.",
        );
        fact(
            ui,
            "Lost on the way here",
            &format::percent(format::received_loss(s)),
            None,
            "packetsLost to all video packets, after retransmission, since the start.",
        );
        fact(
            ui,
            "Sound concealed",
            &format::percent(s.audio_received.concealed_ratio),
            None,
            "concealedSamples to totalSamplesReceived: sound made up where packets were late.",
        );
    });
}

/// One bar of the waterfall.
struct Step {
    name: &'static str,
    from: Duration,
    to: Duration,
    explain: &'static str,
}

/// The steps that are over. Their clock leaves out the time alone in the room, which is nobody's
/// delay: what came after the other side's arrival is moved to the end of joining.
fn steps(setup: &SetupTimes) -> Vec<Step> {
    let zero = Duration::ZERO;
    let joined = setup.joined.unwrap_or(zero);
    let alone = setup.remote_peer.unwrap_or(joined).saturating_sub(joined);
    let at = |d: Option<Duration>| {
        d.map(|d| if d > joined { d.saturating_sub(alone).max(joined) } else { d })
    };
    let negotiated = at(setup.negotiated).unwrap_or(joined);
    let ice = at(setup.ice_connected).unwrap_or(negotiated);
    let dtls = at(setup.dtls_connected).unwrap_or(ice);
    let ws = setup.websocket.unwrap_or(zero);
    [
        (
            "WebSocket",
            zero,
            at(setup.websocket),
            "Name lookup, TCP, TLS if any, and the upgrade, RFC 6455.",
        ),
        (
            "Room",
            ws,
            at(setup.joined),
            "From the open WebSocket to the server's word that the seat is ours.",
        ),
        (
            "Offer / answer",
            joined,
            at(setup.negotiated),
            "From the other side's arrival until both descriptions are set, RFC 8829.",
        ),
        (
            "Proof",
            joined,
            at(setup.authenticated),
            "From the other side's arrival until it is known who it is; beside the steps below.",
        ),
        (
            "ICE checks",
            negotiated,
            at(setup.ice_connected),
            "Until a pair of addresses answered and was nominated, RFC 8445 §7.",
        ),
        ("DTLS", ice, at(setup.dtls_connected), "The handshake that makes the keys, RFC 5764."),
        ("First sound", dtls, at(setup.first_audio), "Until the first sound was played."),
        (
            "First picture",
            dtls,
            at(setup.first_video_frame),
            "Until the first picture was decoded.",
        ),
    ]
    .into_iter()
    .filter_map(|(name, from, to, explain)| {
        let to = to?;
        Some(Step { name, from: from.min(to), to, explain })
    })
    .collect()
}

fn waterfall(ui: &mut Ui, setup: &SetupTimes) {
    let t = Tokens::of(ui.ctx());
    let title = match (setup.remote_peer, setup.first_video_frame) {
        (Some(peer), Some(picture)) => {
            let took = format::ms(picture.saturating_sub(peer)).to_uppercase();
            format!("SET-UP · {took} FROM THE OTHER SIDE'S ARRIVAL TO ITS PICTURE")
        }
        _ => "SET-UP".into(),
    };
    widgets::card(ui, &title, |ui| {
        let steps = steps(setup);
        let end = steps.iter().map(|s| s.to).max().unwrap_or_default();
        if end.is_zero() {
            ui.label(theme::small("Nothing has been reached yet.").color(t.muted));
            return;
        }
        let longest = steps.iter().map(|s| s.to - s.from).max().unwrap_or_default();
        ui.spacing_mut().item_spacing.y = 2.0;
        for step in &steps {
            let took = step.to - step.from;
            let size = egui::vec2(ui.available_width(), 18.0);
            let (rect, response) = ui.allocate_exact_size(size, Sense::hover());
            let words = format!("{}: {}", step.name, format::ms(took));
            response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Label, true, &words));
            let p = ui.painter();
            let y = rect.center().y;
            let left = egui::pos2(rect.left(), y);
            p.text(left, Align2::LEFT_CENTER, step.name, FontId::proportional(12.0), t.muted);
            let track =
                Rect::from_x_y_ranges(rect.left() + 110.0..=rect.right() - 76.0, y - 4.0..=y + 4.0);
            let x =
                |d: Duration| track.left() + track.width() * (d.as_secs_f32() / end.as_secs_f32());
            let bar = Rect::from_x_y_ranges(
                x(step.from)..=x(step.to).max(x(step.from) + 2.0),
                track.y_range(),
            );
            let colour = match step.name {
                _ if took == longest => t.warn,
                "First picture" | "First sound" => t.accent,
                _ => t.info,
            };
            p.rect_filled(track, 4.0, theme::blend(t.surface, t.line, 0.35));
            p.rect_filled(bar, 4.0, colour);
            p.text(
                egui::pos2(rect.right(), y),
                Align2::RIGHT_CENTER,
                format::ms(took),
                FontId::monospace(12.0),
                if took == longest { t.warn } else { t.text },
            );
            response.on_hover_text(theme::small(step.explain));
        }
        if let (Some(joined), Some(peer)) = (setup.joined, setup.remote_peer) {
            let alone = peer.saturating_sub(joined);
            if alone > Duration::from_millis(100) {
                let words = format!("Alone in the room for {}, left out above.", format::ms(alone));
                ui.label(theme::small(words).color(t.muted));
            }
        }
    });
}

/// Sent, target and received bitrate of the last two minutes.
fn graph(ui: &mut Ui, s: &CallSnapshot) {
    let t = Tokens::of(ui.ctx());
    widgets::card(ui, "VIDEO BITRATE, 2 MINUTES", |ui| {
        let size = egui::vec2(ui.available_width(), 84.0);
        let (rect, response) = ui.allocate_exact_size(size, Sense::hover());
        let latest = s.history.back();
        let sent = latest.map_or(0, |h| h.video_sent_bps);
        let received = latest.map_or(0, |h| h.video_received_bps);
        response.widget_info(|| {
            let words = format!(
                "Video bitrate: {} sent, {} received",
                format::bitrate(sent),
                format::bitrate(received)
            );
            egui::WidgetInfo::labeled(egui::Role::Image, true, words)
        });
        let top = s
            .history
            .iter()
            .flat_map(|h| [h.video_sent_bps, h.video_target_bps, h.video_received_bps])
            .max()
            .unwrap_or(0);
        let top = ceiling(top);
        let plot = rect.with_min_x(rect.left() + 68.0);
        let p = ui.painter();
        for i in 0..=2u64 {
            let y = plot.bottom() - plot.height() * i as f32 / 2.0;
            let y = y.clamp(plot.top() + 6.0, plot.bottom() - 6.0);
            let faint = Stroke::new(1.0, theme::blend(t.surface, t.line, 0.6));
            p.hline(plot.x_range(), y, faint);
            p.text(
                egui::pos2(plot.left() - 8.0, y),
                Align2::RIGHT_CENTER,
                format::bitrate(top * i / 2),
                FontId::monospace(11.0),
                t.muted,
            );
        }
        let count = s.history.len();
        let series = |f: fn(&visavis_engine::HistoryPoint) -> u64| -> Vec<egui::Pos2> {
            s.history
                .iter()
                .enumerate()
                .map(|(i, h)| {
                    let age = (count - 1 - i) as f32;
                    let x = plot.right() - plot.width() * age / (HISTORY_SECONDS - 1.0);
                    let share = f(h) as f32 / top.max(1) as f32;
                    egui::pos2(x, plot.bottom() - 6.0 - (plot.height() - 12.0) * share)
                })
                .collect()
        };
        let target = series(|h| h.video_target_bps);
        for dash in egui::Shape::dashed_line(&target, Stroke::new(1.5, t.muted), 4.0, 4.0) {
            p.add(dash);
        }
        p.line(series(|h| h.video_received_bps), Stroke::new(2.0, t.info));
        p.line(series(|h| h.video_sent_bps), Stroke::new(2.0, t.accent));
        ui.horizontal(|ui| {
            ui.spacing_mut().interact_size.y = 16.0;
            legend(ui, "sent", t.accent);
            legend(ui, "target", t.muted);
            legend(ui, "received", t.info);
        });
    });
}

const HISTORY_SECONDS: f32 = 120.0;

fn legend(ui: &mut Ui, name: &str, colour: Color32) {
    let (dot, _) = ui.allocate_exact_size(egui::vec2(14.0, 16.0), Sense::hover());
    ui.painter().hline(dot.x_range(), dot.center().y, Stroke::new(2.0, colour));
    ui.label(theme::small(name).color(Tokens::of(ui.ctx()).muted));
}

/// The next of 1, 2, 5 · 10ⁿ above, at least 100 kbps, so that the scale seldom moves.
fn ceiling(bps: u64) -> u64 {
    let mut step = 100_000;
    loop {
        for nice in [step, step * 2, step * 5] {
            if bps <= nice {
                return nice;
            }
        }
        step *= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_alone_in_the_room_is_left_out() {
        let ms = |n| Some(Duration::from_millis(n));
        let steps = steps(&SetupTimes {
            websocket: ms(10),
            joined: ms(14),
            remote_peer: ms(60_014),
            authenticated: ms(60_039),
            negotiated: ms(60_034),
            ice_connected: ms(60_084),
            dtls_connected: ms(60_104),
            first_audio: None,
            first_video_frame: ms(60_204),
        });
        let took: Vec<_> = steps.iter().map(|s| (s.name, (s.to - s.from).as_millis())).collect();
        assert_eq!(
            took,
            [
                ("WebSocket", 10),
                ("Room", 4),
                ("Offer / answer", 20),
                ("Proof", 25),
                ("ICE checks", 50),
                ("DTLS", 20),
                ("First picture", 100)
            ]
        );
        assert_eq!(steps.last().map(|s| s.to), ms(204));
    }

    #[test]
    fn scale_of_the_graph_is_round() {
        assert_eq!(ceiling(0), 100_000);
        assert_eq!(ceiling(2_400_000), 5_000_000);
        assert_eq!(ceiling(5_000_000), 5_000_000);
    }
}
