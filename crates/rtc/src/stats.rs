//! A snapshot of a connection for the debug panel, recovery and adaptation, with the names of W3C
//! webrtc-stats. What the stack leaves at zero comes from the RTCP tap.

use serde::Serialize;

use crate::congestion::NetworkEstimate;
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
    /// Pairs, of the current ICE generation and of the one before while it is in use.
    pub candidate_pairs: Vec<CandidatePairStats>,
    /// Which pairs were selected and why, the oldest first; at most 32.
    pub nominations: Vec<NominationStats>,
    /// Since the last answer to a check on the selected pair, seconds; after 28 s nothing may be sent any more
    /// (RFC 7675 §5.1).
    pub consent_age_s: Option<f64>,
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

/// One selection of a candidate pair.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct NominationStats {
    /// How long ago it was, seconds.
    pub age_s: f64,
    /// Our end: `ADDRESS:PORT`.
    pub local: String,
    /// The remote peer's end: `ADDRESS:PORT`.
    pub remote: String,
    /// As [`CandidatePairStats::path`].
    pub path: &'static str,
    /// Why, in words.
    pub reason: String,
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
    /// What kind of way it is: `direct UDP`, `relay over UDP`, `direct TCP`, `relay over TCP` or `relay over TLS`.
    pub path: &'static str,
    /// RFC 8445 §6.1.2.3, of the two below.
    pub priority: u64,
    /// Priority of the controlling side's candidate.
    pub controlling_priority: u32,
    /// Priority of the controlled side's candidate.
    pub controlled_priority: u32,
    /// Checks that were not answered within 3 s.
    pub requests_lost: u64,
    /// What the last check that failed otherwise met, in words.
    pub last_failure: Option<String>,
    /// The last round trips of checks, the oldest first, seconds; at most 64.
    pub round_trips_s: Vec<f64>,
    /// Smoothed round trip of checks, seconds.
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
