//! What is going on, in a sentence, by rules over the snapshot. It says only what the numbers show.

use std::time::Duration;

use visavis_engine::{
    CallEndReason, CallSnapshot, CandidatePairState, PairInfo, Phase, SignalingLink,
};

use crate::format;
use crate::widgets::Level;

/// Level, headline, detail. The first rule that applies wins; the gravest come first.
pub(super) fn diagnose(s: &CallSnapshot) -> (Level, String, String) {
    match &s.phase {
        Phase::Idle => say(Level::Info, "Not in a call.", String::new()),
        Phase::Joining => joining(s),
        Phase::Knocking => say(
            Level::Info,
            "Waiting to be let in: the server is reached, the person inside is asked.",
            "Two people have been connected in this room, and this computer is not one of theirs."
                .into(),
        ),
        Phase::Waiting => say(
            Level::Info,
            "Waiting: the server is reached, the other side is not in the room.",
            "Nothing can be measured until somebody enters.".into(),
        ),
        Phase::Connecting => connecting(s),
        Phase::Reconnecting => reconnecting(s),
        Phase::Connected => connected(s),
        Phase::Ended(CallEndReason::ConnectionFailed) => {
            say(Level::Bad, "No path between the two was found.", failed_pairs(s))
        }
        Phase::Ended(reason) => say(Level::Info, "The call is over.", reason.to_string()),
    }
}

fn say(level: Level, headline: impl Into<String>, detail: String) -> (Level, String, String) {
    (level, headline.into(), detail)
}

fn joining(s: &CallSnapshot) -> (Level, String, String) {
    match s.states.signaling_link {
        SignalingLink::Reconnecting => say(
            Level::Warn,
            "The server does not answer.",
            "The WebSocket was refused or timed out; trying again.".into(),
        ),
        _ => say(Level::Info, "Reaching the server.", "The WebSocket is being opened.".into()),
    }
}

fn connecting(s: &CallSnapshot) -> (Level, String, String) {
    let (local, remote) = (s.local_candidates.len(), s.remote_candidates.len());
    let ice = s.states.ice_connection.unwrap_or_default();
    if s.states.is_ice_connected() {
        return say(
            Level::Info,
            "A path is found; keys are being exchanged.",
            format!("ICE is {ice}, DTLS is {}.", s.states.dtls.unwrap_or_default()),
        );
    }
    if s.setup.negotiated.is_none() {
        return say(
            Level::Info,
            "Offer and answer are under way.",
            format!("The signaling state is {}.", s.states.signaling.unwrap_or_default()),
        );
    }
    if remote == 0 {
        return say(
            Level::Info,
            "The other side has sent no candidates yet.",
            format!("{local} of ours are known."),
        );
    }
    say(
        Level::Info,
        "Looking for a path.",
        format!("{local} candidates here, {remote} there. {}", failed_pairs(s)),
    )
}

fn reconnecting(s: &CallSnapshot) -> (Level, String, String) {
    let server = match s.states.signaling_link {
        SignalingLink::Open => "The server is reached, so ICE can be restarted.",
        _ => "The server is not reached either, so the network here is the likely cause.",
    };
    let ice = s.states.ice_connection.unwrap_or_default();
    say(Level::Bad, "Media stopped arriving.", format!("ICE is {ice}. {server}"))
}

fn connected(s: &CallSnapshot) -> (Level, String, String) {
    if s.states.signaling_link == SignalingLink::Reconnecting {
        return say(
            Level::Warn,
            "The call runs, but the server is lost.",
            "Media does not need it. A network change now could not be mended until it is back."
                .into(),
        );
    }
    let sent_loss = s
        .video_sent
        .remote_fraction_lost
        .unwrap_or(0.0)
        .max(s.audio_sent.remote_fraction_lost.unwrap_or(0.0));
    if sent_loss > 0.02 {
        return say(
            if sent_loss > 0.08 { Level::Bad } else { Level::Warn },
            format!("The other side loses {} of what we send.", format::percent(sent_loss)),
            format!(
                "Its newest report says so; {} packets were sent again, the video target is {}.",
                s.video_sent.retransmitted_packets,
                format::bitrate(s.video_sent.target_bitrate_bps)
            ),
        );
    }
    let loss = format::received_loss(s);
    if loss > 0.02 {
        return say(
            if loss > 0.08 { Level::Bad } else { Level::Warn },
            format!("{} of the other side's video packets never came.", format::percent(loss)),
            format!(
                "{} lost since the start, after retransmission; we asked for {} again.",
                s.video_received.packets_lost, s.video_received.nacks
            ),
        );
    }
    let Some(pair) = format::selected(s) else {
        return say(
            Level::Info,
            "Media flows; the pair is not known yet.",
            "The next statistics name it.".into(),
        );
    };
    let rtt = pair.rtt.unwrap_or_default();
    if format::is_relayed(pair) {
        return say(
            Level::Warn,
            format!(
                "Relayed: media takes the way over a TURN server, {} there and back.",
                format::ms(rtt)
            ),
            failed_pairs(s),
        );
    }
    if rtt > Duration::from_millis(300) {
        return say(
            Level::Warn,
            format!("The way is long: {} there and back.", format::ms(rtt)),
            "People begin to talk over each other from about 300 ms.".into(),
        );
    }
    let video = &s.video_received;
    let wanted = s.remote.camera_on != Some(false) && s.connected_for > Duration::from_secs(3);
    if wanted && video.frames_decoded == 0 {
        return say(
            Level::Warn,
            "Connected, but no picture has come.",
            format!("{} video packets arrived.", video.packets),
        );
    }
    if wanted && video.fps < 15.0 {
        return say(
            Level::Warn,
            format!("The other side's picture is slow: {:.0} fps.", video.fps),
            format!("{} arrive, nothing to speak of is lost.", format::bitrate(video.bitrate_bps)),
        );
    }
    say(
        Level::Good,
        format!(
            "Good: direct over {}, {} there and back.",
            pair.local.protocol.as_str().to_uppercase(),
            format::ms(rtt)
        ),
        format!(
            "{} to {}. No loss worth naming in either direction.",
            format::candidate(&pair.local),
            format::candidate(&pair.remote)
        ),
    )
}

/// How the pairs' checks went, as counts.
fn failed_pairs(s: &CallSnapshot) -> String {
    let direct = |p: &&PairInfo| !format::is_relayed(p);
    let all = s.pairs.iter().filter(direct).count();
    let failed = |p: &&PairInfo| p.state == CandidatePairState::Failed;
    let failed = s.pairs.iter().filter(direct).filter(failed).count();
    match (all, failed) {
        (0, _) => "No direct pair was formed.".into(),
        (all, failed) if failed == all => format!("All {all} direct pairs failed their checks."),
        (all, 0) => format!("Of {all} direct pairs none has failed."),
        (all, failed) => format!("Of {all} direct pairs {failed} failed."),
    }
}

#[cfg(test)]
mod tests {
    use visavis_engine::CandidateType;

    use super::*;
    use crate::tests::snapshots;

    #[test]
    fn good_call_names_its_path() {
        let (level, headline, _) = diagnose(&snapshots::connected());
        assert_eq!(level, Level::Good);
        assert_eq!(headline, "Good: direct over UDP, 18 ms there and back.");
    }

    #[test]
    fn relay_is_said_with_the_failed_pairs() {
        let mut s = snapshots::connected();
        s.pairs[0].local.kind = CandidateType::Relay;
        s.pairs[1].state = CandidatePairState::Failed;
        let (level, headline, detail) = diagnose(&s);
        assert_eq!(level, Level::Warn);
        assert!(headline.starts_with("Relayed"), "{headline}");
        assert_eq!(detail, "All 1 direct pairs failed their checks.");
    }

    #[test]
    fn loss_comes_before_the_path() {
        let mut s = snapshots::connected();
        s.video_sent.remote_fraction_lost = Some(0.1);
        let (level, headline, _) = diagnose(&s);
        assert_eq!(
            (level, headline.as_str()),
            (Level::Bad, "The other side loses 10.0 % of what we send.")
        );
    }

    #[test]
    fn every_phase_has_a_sentence() {
        for phase in [
            Phase::Idle,
            Phase::Joining,
            Phase::Knocking,
            Phase::Waiting,
            Phase::Connecting,
            Phase::Connected,
            Phase::Reconnecting,
            Phase::Ended(CallEndReason::ConnectionFailed),
            Phase::Ended(CallEndReason::RemoteHangup),
        ] {
            let s = CallSnapshot { phase, ..Default::default() };
            assert!(diagnose(&s).1.ends_with('.'));
        }
    }
}
