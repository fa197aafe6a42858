//! Puts the counters of `rtc` and of the media threads into the snapshot.

use std::collections::HashMap;
use std::time::Duration;

use visavis_media::codec_choice::CodecCause;
use visavis_rtc::{CandidatePairState, CandidateStats, NominationStats, PeerStats};

use crate::audio_receive::AudioReceiveCounts;
use crate::audio_send::AudioSendCounts;
use crate::receive::VideoReceiveCounts;
use crate::send::VideoSendCounts;
use crate::{
    CallSnapshot, CandidateInfo, CandidateProtocol, CandidateType, NetworkStats, NominationInfo,
    PairInfo, RelayProtocol,
};

/// Candidates remembered; a remote side cannot fill our memory with them.
const MAX_PRIORITIES: usize = 256;

/// Priorities of signaled candidates, which the stack's statistics leave out.
#[derive(Debug, Default)]
pub(crate) struct Priorities(HashMap<String, u32>);

impl Priorities {
    /// Reads `candidate:FOUNDATION COMPONENT TRANSPORT PRIORITY ADDRESS PORT …` (RFC 8839 §5.1), with
    /// or without `a=`; other lines are passed over.
    pub(crate) fn note(&mut self, line: &str) {
        let Some(candidate) = line.trim_start_matches("a=").strip_prefix("candidate:") else {
            return;
        };
        let fields: Vec<&str> = candidate.split_ascii_whitespace().take(6).collect();
        if let [_, _, _, priority, address, port] = fields[..]
            && let Ok(priority) = priority.parse()
            && self.0.len() < MAX_PRIORITIES
        {
            self.0.insert(format!("{address}:{port}"), priority);
        }
    }

    /// `None` if its type or protocol is none of RFC 8445 and RFC 6544.
    fn candidate(&self, stats: &CandidateStats) -> Option<CandidateInfo> {
        let host = if stats.address.is_empty() { "(unresolved)" } else { &stats.address };
        let priority = self.0.get(&format!("{host}:{}", stats.port)).copied();
        let address = if host.contains(':') {
            format!("[{host}]:{}", stats.port)
        } else {
            format!("{host}:{}", stats.port)
        };
        let kind = CandidateType::from_word(&stats.candidate_type)?;
        let relay_protocol = (kind == CandidateType::Relay && !stats.url.is_empty())
            .then(|| relay_protocol(&stats.url));
        Some(CandidateInfo {
            kind,
            protocol: CandidateProtocol::from_word(&stats.protocol)?,
            address,
            priority,
            relay_protocol,
        })
    }
}

/// Whether media goes neither by a relay nor over TCP.
pub(crate) fn is_direct(stats: &PeerStats) -> bool {
    stats.selected_pair().is_some_and(|pair| {
        [&pair.local_candidate_id, &pair.remote_candidate_id].into_iter().all(|id| {
            stats.candidate(id).is_some_and(|c| {
                c.candidate_type != CandidateType::Relay.as_str()
                    && c.protocol == CandidateProtocol::Udp.as_str()
            })
        })
    })
}

/// From the relay's URL (RFC 7065 §3.1).
fn relay_protocol(url: &str) -> RelayProtocol {
    match url {
        url if url.starts_with("turns:") => RelayProtocol::Tls,
        url if url.ends_with("?transport=tcp") => RelayProtocol::Tcp,
        _ => RelayProtocol::Udp,
    }
}

/// ICE, DTLS and RTCP.
pub(crate) fn fill_from_peer(snapshot: &mut CallSnapshot, stats: &PeerStats, known: &Priorities) {
    let infos = |list: &[CandidateStats]| list.iter().filter_map(|c| known.candidate(c)).collect();
    snapshot.local_candidates = infos(&stats.local_candidates);
    snapshot.remote_candidates = infos(&stats.remote_candidates);
    snapshot.pairs = stats
        .candidate_pairs
        .iter()
        .filter_map(|pair| {
            Some(PairInfo {
                local: known.candidate(stats.candidate(&pair.local_candidate_id)?)?,
                remote: known.candidate(stats.candidate(&pair.remote_candidate_id)?)?,
                state: pair.state,
                nominated: pair.nominated,
                selected: pair.selected,
                path: pair.path,
                priority: pair.priority,
                controlling_priority: pair.controlling_priority,
                controlled_priority: pair.controlled_priority,
                requests_lost: pair.requests_lost,
                last_failure: pair.last_failure.clone(),
                rtt: pair.current_round_trip_time_s.map(seconds),
                requests_sent: pair.requests_sent,
                responses_received: pair.responses_received,
                bytes_sent: pair.bytes_sent,
                bytes_received: pair.bytes_received,
            })
        })
        .collect();
    let nomination = |nomination: &NominationStats| NominationInfo {
        age: seconds(nomination.age_s),
        local: nomination.local.clone(),
        remote: nomination.remote.clone(),
        path: nomination.path,
        reason: nomination.reason.clone(),
    };
    snapshot.nominations = stats.nominations.iter().map(nomination).collect();
    snapshot.consent_age = stats.consent_age_s.map(seconds);
    // What works first, then by what was tried.
    let succeeded = CandidatePairState::Succeeded;
    snapshot.pairs.sort_by_key(|p| (!p.selected, !p.nominated, p.state != succeeded));

    let known = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    snapshot.refused_datagrams = stats.refused_datagrams;
    snapshot.dtls_version = known(&stats.transport.tls_version);
    snapshot.srtp_cipher = known(&stats.transport.srtp_cipher);
    let codec = |kind: &str| {
        let mime = stats.codecs.iter().find(|c| c.to_ascii_lowercase().starts_with(kind))?;
        mime.split_once('/').map(|(_, name)| name.to_owned())
    };
    let audio = codec("audio/");
    #[expect(clippy::cast_possible_truncation, reason = "a share between 0 and 1")]
    let share = |fraction: Option<f64>| fraction.map(|f| f as f32);

    let (sent, out) = (&mut snapshot.video_sent, &stats.outbound_video);
    sent.packets = out.packets_sent;
    sent.retransmitted_packets = out.retransmitted_packets_sent;
    sent.nacks = out.nack_count;
    sent.plis = out.pli_count + out.fir_count;
    sent.remote_fraction_lost = share(out.remote_fraction_lost);

    let (received, inbound) = (&mut snapshot.video_received, &stats.inbound_video);
    received.packets = inbound.packets_received;
    received.packets_lost = inbound.packets_lost;
    received.nacks = inbound.nack_count;
    received.plis = inbound.pli_count;
    received.jitter = seconds(inbound.jitter_s);
    received.packets_repaired = inbound.repaired_packets;

    let path = &stats.network;
    #[expect(clippy::cast_possible_truncation, reason = "shares and packet counts for people")]
    let small = |x: f64| x as f32;
    snapshot.network = NetworkStats {
        available_outgoing_bps: path.target.as_bps(),
        delivered_bps: path.delivered.map(visavis_media::Bitrate::as_bps),
        queue: path.queue,
        pacer_queue: path.pacer_queue,
        loss: small(path.loss),
        loss_burst: small(path.loss_burst),
        rtt: path.rtt,
        state: path.state.as_str(),
        parity: small(path.parity),
        repair_bps: path.repair.as_bps(),
    };

    let (sent, out) = (&mut snapshot.audio_sent, &stats.outbound_audio);
    sent.codec.clone_from(&audio);
    sent.packets = out.packets_sent;
    sent.bytes = out.bytes_sent;
    sent.remote_fraction_lost = share(out.remote_fraction_lost);
    snapshot.audio_received.codec = audio;
}

/// The encoder's counters.
pub(crate) fn fill_sent(
    snapshot: &mut CallSnapshot,
    video: &VideoSendCounts,
    audio: &AudioSendCounts,
) {
    let sent = &mut snapshot.video_sent;
    sent.codec = video.codec.map(|codec| codec.to_string());
    sent.coding = video.coding;
    sent.codec_reason = video.codec_cause.map(CodecCause::as_str);
    if let Some(size) = video.size {
        (sent.width_px, sent.height_px) = (size.width_px, size.height_px);
    }
    sent.fps = video.fps;
    sent.frames = video.frames;
    sent.bytes = video.bytes;
    sent.keyframes = video.keyframes;
    sent.target_bitrate_bps = video.target_bps;
    sent.bitrate_bps = video.bitrate_bps;
    sent.encode_time = video.encode_time;
    sent.skipped = video.skipped;
    sent.limited_by = video.limited_by.map(visavis_media::adaptation::Cause::resource);
    let sent = &mut snapshot.audio_sent;
    sent.bitrate_bps = audio.bitrate_bps;
    sent.channels = audio.channels;
    sent.redundancy_depth = audio.protection.redundancy.depth();
    sent.redundancy_reach = audio.protection.redundancy.reach();
    sent.target_bitrate_bps = audio.protection.bitrate.as_bps();
}

/// The decoder's and the jitter buffer's counters.
pub(crate) fn fill_received(
    snapshot: &mut CallSnapshot,
    video: &VideoReceiveCounts,
    audio: &AudioReceiveCounts,
) {
    let received = &mut snapshot.video_received;
    received.codec = video.codec.map(|codec| codec.to_string());
    if let Some(size) = video.size {
        (received.width_px, received.height_px) = (size.width_px, size.height_px);
    }
    received.fps = video.fps;
    received.frames_decoded = video.frames_decoded;
    received.span = video.span;
    received.decode_errors = video.decode_errors;
    received.bytes = video.bytes;
    received.bitrate_bps = video.bitrate_bps;
    received.freeze_count = video.freeze_count;
    received.freeze_time = video.freeze_time;
    received.latency = video.latency;
    received.decode_time = video.decode_time;

    let received = &mut snapshot.audio_received;
    received.packets = audio.packets;
    received.lost = audio.lost;
    received.concealed_ratio = audio.concealed_ratio;
    received.jitter_buffer = audio.delay;
    received.bitrate_bps = audio.bitrate_bps;
    received.level_dbfs = audio.level_dbfs;
    received.tone_hz = audio.tone_hz;
    received.channels = (audio.packets > 0).then_some(audio.channels);
    received.jitter = audio.jitter;
    received.red_copies = audio.red_copies;
    received.red_recovered = audio.red_recovered;
    received.av_offset_ms = audio.av_offset_ms;
    received.flash_and_beep = audio.flash_and_beep;
}

fn seconds(s: f64) -> Duration {
    Duration::try_from_secs_f64(s).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priority_is_read_from_signaled_candidates() {
        let mut known = Priorities::default();
        known.note("candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host");
        known.note("a=candidate:2 1 udp 5 fd00::1 5001 typ host generation 0");
        known.note("candidate:broken");
        known.note("m=audio 9 UDP/TLS/RTP/SAVPF 111");
        assert_eq!(known.0.len(), 2);
        assert_eq!(known.0.get("192.0.2.1:5000"), Some(&2_130_706_431));
        assert_eq!(known.0.get("fd00::1:5001"), Some(&5));
    }
}
