//! A snapshot of a connection for the debug panel, recovery and adaptation, with the names of W3C
//! webrtc-stats. What the stack leaves at zero comes from the RTCP tap.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use serde::Serialize;
use webrtc::peer_connection::{RTCIceCandidate, RTCStatsReport, RTCStatsReportEntry};

use crate::congestion::NetworkEstimate;
use crate::direct::ActivePair;
use crate::session::Session;
use crate::stream_stats::{InboundStats, OutboundStats};

/// Everything known about a connection at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PeerStats {
    /// The transport all streams share (BUNDLE).
    pub transport: TransportStats,
    /// Candidates of this side.
    pub local_candidates: Vec<CandidateStats>,
    /// Candidates of the remote side.
    pub remote_candidates: Vec<CandidateStats>,
    /// Pairs that carried media, now or before; the stack tells of no others.
    pub candidate_pairs: Vec<CandidatePairStats>,
    /// Codecs negotiated, as MIME types.
    pub codecs: Vec<String>,
    /// Our video.
    pub outbound_video: OutboundStats,
    /// Our audio.
    pub outbound_audio: OutboundStats,
    /// The remote video.
    pub inbound_video: InboundStats,
    /// The remote audio.
    pub inbound_audio: InboundStats,
    /// What is known of the path.
    #[serde(skip)]
    pub network: NetworkEstimate,
    /// Events the owner did not take in time.
    pub dropped_events: u64,
    /// Datagrams that did not reach the stack: strangers', forged ones, parts of a DTLS handshake out of order.
    pub refused_datagrams: u64,
}

impl PeerStats {
    /// The pair that carries the media, once there is one.
    pub fn selected_pair(&self) -> Option<&CandidatePairStats> {
        self.candidate_pairs.iter().find(|pair| pair.selected)
    }

    /// The candidate with this id.
    pub fn candidate(&self, id: &str) -> Option<&CandidateStats> {
        self.local_candidates.iter().chain(&self.remote_candidates).find(|c| c.id == id)
    }
}

/// `RTCTransportStats`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TransportStats {
    /// Datagrams' payload bytes sent.
    pub bytes_sent: u64,
    /// Datagrams' payload bytes received.
    pub bytes_received: u64,
    /// Datagrams sent.
    pub packets_sent: u64,
    /// Datagrams received.
    pub packets_received: u64,
    /// "controlling" or "controlled".
    pub ice_role: String,
    /// State of the ICE transport.
    pub ice_state: String,
    /// State of the DTLS transport.
    pub dtls_state: String,
    /// "client" or "server".
    pub dtls_role: String,
    /// DTLS version in words; empty before the handshake.
    pub tls_version: String,
    /// DTLS cipher suite; empty before the handshake.
    pub dtls_cipher: String,
    /// SRTP protection profile; empty before the handshake.
    pub srtp_cipher: String,
    /// Changes of the selected pair.
    pub selected_candidate_pair_changes: u32,
}

/// `RTCIceCandidateStats`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CandidateStats {
    /// Id that pairs refer to.
    pub id: String,
    /// IP address, or the `.local` name while it is not resolved.
    pub address: String,
    /// Port.
    pub port: u16,
    /// "udp" or "tcp".
    pub protocol: String,
    /// "host", "srflx", "prflx" or "relay".
    pub candidate_type: String,
    /// The server it was gathered from; empty for host candidates.
    pub url: String,
}

/// State of a candidate pair (RFC 8445 §6.1.2.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the words are the RFC's")]
pub enum CandidatePairState {
    #[default]
    Frozen,
    Waiting,
    InProgress,
    Failed,
    Succeeded,
}

/// `RTCIceCandidatePairStats`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CandidatePairStats {
    /// Id of the local candidate.
    pub local_candidate_id: String,
    /// Id of the remote candidate.
    pub remote_candidate_id: String,
    /// Where its checks are.
    pub state: CandidatePairState,
    /// Whether it was nominated.
    pub nominated: bool,
    /// Whether media goes over it now.
    pub selected: bool,
    /// Last round trip of a check, seconds.
    pub current_round_trip_time_s: Option<f64>,
    /// Checks sent.
    pub requests_sent: u64,
    /// Checks received.
    pub requests_received: u64,
    /// Answers to checks sent.
    pub responses_sent: u64,
    /// Answers to checks received.
    pub responses_received: u64,
    /// Bytes sent over it.
    pub bytes_sent: u64,
    /// Bytes received over it.
    pub bytes_received: u64,
}

/// The ICE agent's candidates, local and remote; unlike the report's they include peer-reflexive
/// ones and resolved `.local` names.
pub(crate) type AgentCandidates = (Vec<RTCIceCandidate>, Vec<RTCIceCandidate>);

/// Puts the stack's report, the agent's candidates and the tap's counters together.
pub(crate) fn gather(
    report: &RTCStatsReport,
    (local, remote): AgentCandidates,
    session: &Session,
) -> PeerStats {
    let mut stats = PeerStats {
        local_candidates: local.iter().map(candidate).collect(),
        remote_candidates: remote.iter().map(candidate).collect(),
        ..Default::default()
    };
    let mut selected = String::new();
    for entry in report.iter() {
        match entry {
            RTCStatsReportEntry::Transport(t) => {
                selected.clone_from(&t.selected_candidate_pair_id);
                stats.transport = TransportStats {
                    bytes_sent: t.bytes_sent,
                    bytes_received: t.bytes_received,
                    packets_sent: t.packets_sent,
                    packets_received: t.packets_received,
                    ice_role: t.ice_role.to_string(),
                    ice_state: t.ice_state.to_string(),
                    dtls_state: t.dtls_state.to_string(),
                    dtls_role: t.dtls_role.to_string(),
                    tls_version: t.tls_version.clone(),
                    dtls_cipher: t.dtls_cipher.clone(),
                    srtp_cipher: t.srtp_cipher.clone(),
                    selected_candidate_pair_changes: t.selected_candidate_pair_changes,
                };
            }
            RTCStatsReportEntry::IceCandidatePair(p) => stats.candidate_pairs.push(pair(p)),
            RTCStatsReportEntry::Codec(c) if !stats.codecs.contains(&c.mime_type) => {
                stats.codecs.push(c.mime_type.clone());
            }
            _ => {}
        }
    }
    for (entry, pair) in report
        .iter()
        .filter(|entry| matches!(entry, RTCStatsReportEntry::IceCandidatePair(_)))
        .zip(&mut stats.candidate_pairs)
    {
        pair.selected = !selected.is_empty() && entry.id() == selected;
    }
    merge_peer_reflexive(&mut stats);
    let counters = session.counters();
    stats.outbound_video = counters.outbound.video.clone();
    stats.outbound_audio = counters.outbound.audio.clone();
    stats.inbound_video = counters.inbound.video.clone();
    stats.inbound_audio = counters.inbound.audio.clone();
    // The stack names the codec of a stream's first packet only.
    for codec in [stats.outbound_video.codec, stats.inbound_video.codec].into_iter().flatten() {
        if !stats.codecs.iter().any(|known| known.eq_ignore_ascii_case(codec)) {
            stats.codecs.push(codec.to_owned());
        }
    }
    stats.codecs.sort_unstable();
    stats.network = session.network();
    stats.dropped_events = session.dropped_events.load(Ordering::Relaxed);
    stats.refused_datagrams = session.direct.guard.refused();
    stats
}

/// Calls TCP what goes over streams and the stack takes for UDP: those remote candidates and, apart from
/// themselves over UDP, their local ones.
pub(crate) fn name_tcp(stats: &mut PeerStats, is_end: impl Fn(SocketAddr) -> bool) {
    let mut ends = Vec::new();
    for candidate in &mut stats.remote_candidates {
        let ip = candidate.address.parse();
        if ip.is_ok_and(|ip| is_end(SocketAddr::new(ip, candidate.port))) {
            TCP.clone_into(&mut candidate.protocol);
            ends.push(candidate.id.clone());
        }
    }
    for pair in &mut stats.candidate_pairs {
        let mut locals = stats.local_candidates.iter();
        if ends.contains(&pair.remote_candidate_id)
            && let Some(local) = locals.find(|c| c.id == pair.local_candidate_id)
        {
            let local = CandidateStats {
                id: format!("{}-tcp", local.id),
                protocol: TCP.into(),
                ..local.clone()
            };
            pair.local_candidate_id.clone_from(&local.id);
            if !stats.local_candidates.iter().any(|c| c.id == local.id) {
                stats.local_candidates.push(local);
            }
        }
    }
}

/// Makes the direct pair the selected one: the stack counts what goes over it for its relayed pair.
pub(crate) fn steer(stats: &mut PeerStats, active: &ActivePair) {
    let at = |candidates: &[CandidateStats], address: SocketAddr| {
        let ip = address.ip().to_string();
        let same = |c: &&CandidateStats| {
            c.address == ip && c.port == address.port() && c.candidate_type != RELAY
        };
        candidates.iter().find(same).map(|c| c.id.clone())
    };
    let Some(local) = at(&stats.local_candidates, active.pair.local) else { return };
    let Some(remote) = at(&stats.remote_candidates, active.pair.remote) else { return };
    for pair in &mut stats.candidate_pairs {
        if std::mem::take(&mut pair.selected) {
            pair.bytes_sent = pair.bytes_sent.saturating_sub(active.bytes_sent);
            pair.bytes_received = pair.bytes_received.saturating_sub(active.bytes_received);
        }
    }
    stats
        .candidate_pairs
        .retain(|p| p.local_candidate_id != local || p.remote_candidate_id != remote);
    stats.candidate_pairs.push(CandidatePairStats {
        local_candidate_id: local,
        remote_candidate_id: remote,
        state: CandidatePairState::Succeeded,
        nominated: true,
        selected: true,
        current_round_trip_time_s: active.round_trip.map(|rtt| rtt.as_secs_f64()),
        requests_sent: active.checks_sent,
        responses_received: active.checks_answered,
        bytes_sent: active.bytes_sent,
        bytes_received: active.bytes_received,
        ..CandidatePairStats::default()
    });
}

/// A check that overtakes its candidate in signaling makes a peer-reflexive one of it. When the
/// candidate comes after all, it is the same address and has the better name (RFC 8445 §7.3.1.3);
/// the agent keeps both.
fn merge_peer_reflexive(stats: &mut PeerStats) {
    let known = stats.remote_candidates.clone();
    let twin = |c: &CandidateStats| {
        let same = |k: &&CandidateStats| {
            k.candidate_type != PRFLX
                && (&k.address, k.port, &k.protocol) == (&c.address, c.port, &c.protocol)
        };
        known.iter().find(same).cloned()
    };
    let mut aliases: Vec<(String, String)> = Vec::new();
    stats.remote_candidates.retain(|c| match twin(c) {
        Some(twin) if c.candidate_type == PRFLX => {
            aliases.push((c.id.clone(), twin.id));
            false
        }
        _ => true,
    });
    for pair in &mut stats.candidate_pairs {
        if let Some((_, twin)) = aliases.iter().find(|(id, _)| *id == pair.remote_candidate_id) {
            pair.remote_candidate_id.clone_from(twin);
        }
    }
}

const PRFLX: &str = "prflx";
const TCP: &str = "tcp";
const RELAY: &str = "relay";

fn candidate(c: &RTCIceCandidate) -> CandidateStats {
    CandidateStats {
        id: c.id.clone(),
        address: c.address.clone(),
        port: c.port,
        protocol: c.protocol.to_string(),
        candidate_type: c.typ.to_string(),
        url: c.url.clone().unwrap_or_default(),
    }
}

fn pair(
    p: &rtc::statistics::stats::ice_candidate_pair::RTCIceCandidatePairStats,
) -> CandidatePairStats {
    use rtc::statistics::stats::ice_candidate_pair::RTCStatsIceCandidatePairState as Theirs;
    CandidatePairStats {
        local_candidate_id: p.local_candidate_id.clone(),
        remote_candidate_id: p.remote_candidate_id.clone(),
        state: match p.state {
            Theirs::Waiting => CandidatePairState::Waiting,
            Theirs::InProgress => CandidatePairState::InProgress,
            Theirs::Failed => CandidatePairState::Failed,
            Theirs::Succeeded => CandidatePairState::Succeeded,
            _ => CandidatePairState::Frozen,
        },
        nominated: p.nominated,
        selected: false,
        current_round_trip_time_s: (p.responses_received > 0).then_some(p.current_round_trip_time),
        requests_sent: p.requests_sent,
        requests_received: p.requests_received,
        responses_sent: p.responses_sent,
        responses_received: p.responses_received,
        bytes_sent: p.bytes_sent,
        bytes_received: p.bytes_received,
    }
}
