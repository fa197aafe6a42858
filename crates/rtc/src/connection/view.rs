//! What a connection knows, as [`PeerStats`].

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rtc::statistics::StatsSelector;
use rtc::statistics::report::RTCStatsReportEntry;
use visavis_ice::{
    CandidateAddress, CandidateKind, CheckOutcome, CheckRecord, IceSnapshot,
    LocalCandidateSnapshot, NominationReason, NominationRecord, PairSnapshot, PairState, Path,
    PathClass, RemoteCandidateSnapshot, Role,
};

use super::Connection;
use crate::stats::{
    CandidatePairState, CandidatePairStats, CandidateStats, NominationStats, PeerStats,
    TransportStats,
};

impl Connection {
    /// Everything that is known at `now`.
    pub(crate) fn stats(&mut self, now: Instant) -> PeerStats {
        let ice = self.paths.agent.snapshot(now);
        let mut stats = PeerStats {
            local_candidates: ice.local_candidates.iter().map(|c| self.local(c)).collect(),
            ..PeerStats::default()
        };
        for generation in &ice.generations {
            for candidate in generation.candidates.iter().map(remote) {
                if !stats.remote_candidates.iter().any(|known| known.id == candidate.id) {
                    stats.remote_candidates.push(candidate);
                }
            }
            for name in &generation.unresolved {
                stats.remote_candidates.push(CandidateStats {
                    id: format!("remote {}", name.as_str()),
                    address: name.as_str().to_owned(),
                    protocol: "udp".into(),
                    candidate_type: CandidateKind::Host.to_string(),
                    ..CandidateStats::default()
                });
            }
            for pair in &generation.pairs {
                self.pair(&mut stats, &ice, pair);
            }
        }
        let age = |at: Instant| now.saturating_duration_since(at).as_secs_f64();
        let nomination = |record: &NominationRecord| NominationStats {
            age_s: age(record.at),
            local: record.pair.path.base().to_string(),
            remote: record.pair.remote.to_string(),
            path: path_in_words(record.pair.class),
            reason: reason_in_words(record.reason),
        };
        stats.nominations = ice.nominations.iter().map(nomination).collect();
        stats.consent_age_s = ice.consent.map(|consent| age(consent.last_answer));
        self.transport(now, &ice, &mut stats);
        let counters = self.session.counters();
        stats.outbound_video = counters.outbound.video.clone();
        stats.outbound_audio = counters.outbound.audio.clone();
        stats.inbound_video = counters.inbound.video.clone();
        stats.inbound_audio = counters.inbound.audio.clone();
        drop(counters);
        // The stack names the codec of a stream's first packet only.
        for codec in [stats.outbound_video.codec, stats.inbound_video.codec].into_iter().flatten() {
            if !stats.codecs.iter().any(|known| known.eq_ignore_ascii_case(codec)) {
                stats.codecs.push(codec.to_owned());
            }
        }
        stats.codecs.sort_unstable();
        stats.network = self.session.network();
        stats.dropped_events = self.session.dropped_events.load(Ordering::Relaxed);
        stats.refused_datagrams = self.stats.refused + ice.dropped.unauthenticated;
        if let Some(round_trip) = self.paths.agent.round_trip()
            && stats.outbound_video.round_trip_time_s.is_none()
            && stats.outbound_audio.round_trip_time_s.is_none()
        {
            // Who only receives has no report blocks to measure with.
            self.session.set_rtt(round_trip);
        }
        stats
    }

    fn transport(&mut self, now: Instant, ice: &IceSnapshot, stats: &mut PeerStats) {
        for entry in self.stack.pc.get_stats(now, StatsSelector::None).iter() {
            match entry {
                RTCStatsReportEntry::Transport(transport) => {
                    stats.transport = TransportStats {
                        dtls_role: transport.dtls_role.to_string(),
                        tls_version: transport.tls_version.clone(),
                        dtls_cipher: transport.dtls_cipher.clone(),
                        srtp_cipher: transport.srtp_cipher.clone(),
                        ..TransportStats::default()
                    };
                }
                RTCStatsReportEntry::Codec(codec) if !stats.codecs.contains(&codec.mime_type) => {
                    stats.codecs.push(codec.mime_type.clone());
                }
                _ => {}
            }
        }
        let role = match ice.role {
            Role::Controlling => "controlling",
            Role::Controlled => "controlled",
        };
        role.clone_into(&mut stats.transport.ice_role);
        self.ice_state.as_str().clone_into(&mut stats.transport.ice_state);
        self.dtls.as_str().clone_into(&mut stats.transport.dtls_state);
        stats.transport.bytes_sent = self.stats.bytes_sent;
        stats.transport.bytes_received = self.stats.bytes_received;
        stats.transport.packets_sent = self.stats.packets_sent;
        stats.transport.packets_received = self.stats.packets_received;
        stats.transport.selected_candidate_pair_changes = self.selections;
    }

    fn local(&self, candidate: &LocalCandidateSnapshot) -> CandidateStats {
        let server = match (candidate.candidate.kind, candidate.server) {
            (CandidateKind::Relayed, _) => self.paths.url_of(candidate.path),
            (_, Some(server)) => self.paths.stun_url(server),
            _ => None,
        };
        let address = match &candidate.candidate.address {
            CandidateAddress::Ip(ip) => ip.to_string(),
            CandidateAddress::Name(name) => name.as_str().to_owned(),
        };
        let port = candidate.candidate.port;
        let is_tcp = candidate.candidate.transport.is_tcp();
        CandidateStats {
            id: local_id(candidate.path, candidate.candidate.kind),
            address,
            port,
            protocol: protocol(is_tcp),
            candidate_type: candidate.candidate.kind.to_string(),
            url: server.unwrap_or_default().to_owned(),
        }
    }

    fn pair(&self, stats: &mut PeerStats, ice: &IceSnapshot, pair: &PairSnapshot) {
        let kind = match pair.path {
            Path::Relay { .. } => CandidateKind::Relayed,
            _ => pair.local_kind.unwrap_or(CandidateKind::Host),
        };
        let local_candidate_id = local_id(pair.path, kind);
        if !stats.local_candidates.iter().any(|known| known.id == local_candidate_id) {
            // Peer-reflexive: only a check has shown it.
            let address = pair.mapped.unwrap_or(pair.path.base());
            stats.local_candidates.push(CandidateStats {
                id: local_candidate_id.clone(),
                address: address.ip().to_string(),
                port: address.port(),
                protocol: protocol(pair.path.is_tcp()),
                candidate_type: kind.to_string(),
                url: String::new(),
            });
        }
        let counted = self.paths.counted(pair.id);
        stats.candidate_pairs.push(CandidatePairStats {
            local_candidate_id,
            remote_candidate_id: remote_id(pair.remote, pair.path.is_tcp()),
            state: match pair.state {
                PairState::Waiting => CandidatePairState::Waiting,
                PairState::InProgress => CandidatePairState::InProgress,
                PairState::Succeeded => CandidatePairState::Succeeded,
                PairState::Failed => CandidatePairState::Failed,
            },
            nominated: pair.selected
                || ice.nominations.iter().any(|nomination| nomination.pair.id == pair.id),
            path: path_in_words(pair.class),
            priority: pair.priority.value,
            controlling_priority: pair.priority.g,
            controlled_priority: pair.priority.d,
            requests_lost: pair.lost,
            last_failure: pair.checks.iter().rev().find_map(failure_in_words),
            round_trips_s: pair.round_trips.iter().map(|(_, rtt)| rtt.as_secs_f64()).collect(),
            selected: pair.selected && ice.selected.is_some_and(|selected| selected.id == pair.id),
            current_round_trip_time_s: pair.round_trip.map(|rtt: Duration| rtt.as_secs_f64()),
            requests_sent: pair.sent,
            requests_received: pair.requests_received,
            responses_sent: pair.requests_received,
            responses_received: pair.answered,
            bytes_sent: counted.sent,
            bytes_received: counted.received,
        });
    }
}

fn remote(candidate: &RemoteCandidateSnapshot) -> CandidateStats {
    let is_tcp = candidate.transport.is_tcp();
    CandidateStats {
        id: remote_id(candidate.address, is_tcp),
        address: candidate.address.ip().to_string(),
        port: candidate.address.port(),
        protocol: protocol(is_tcp),
        candidate_type: candidate.kind.to_string(),
        url: String::new(),
    }
}

fn path_in_words(class: PathClass) -> &'static str {
    match class {
        PathClass::DirectUdp => "direct UDP",
        PathClass::RelayUdp => "relay over UDP",
        PathClass::DirectTcp => "direct TCP",
        PathClass::RelayTcp => "relay over TCP",
        PathClass::RelayTls => "relay over TLS",
    }
}

fn reason_in_words(reason: NominationReason) -> String {
    let ms = |rtt: Duration| format!("{:.0} ms", rtt.as_secs_f64() * 1000.0);
    match reason {
        NominationReason::First => "the first that answered".into(),
        NominationReason::BetterClass { from, to } => {
            format!("{} instead of {}", path_in_words(to), path_in_words(from))
        }
        NominationReason::ShorterRoundTrip { from, to } => {
            format!("round trip {} instead of {}", ms(to), ms(from))
        }
        NominationReason::HigherPriority => "a higher pair priority".into(),
        NominationReason::PreviousDied => "the pair before it did not answer any more".into(),
        NominationReason::PathRemoved => "the address of the pair before it is gone".into(),
        NominationReason::RemoteNominated { nomination: None } => {
            "the remote peer nominated it".into()
        }
        NominationReason::RemoteNominated { nomination: Some(number) } => {
            format!("the remote peer nominated it (number {number})")
        }
    }
}

/// What a check met that was neither answered nor merely lost.
fn failure_in_words(check: &CheckRecord) -> Option<String> {
    match check.outcome {
        CheckOutcome::Pending | CheckOutcome::Answered { .. } | CheckOutcome::Lost => None,
        CheckOutcome::RoleConflict => Some("role conflict (487)".into()),
        CheckOutcome::Rejected { code } => Some(format!("refused with code {code}")),
        CheckOutcome::NotSymmetric => Some("answered from another address".into()),
    }
}

fn protocol(is_tcp: bool) -> String {
    if is_tcp { "tcp" } else { "udp" }.to_owned()
}

fn local_id(path: Path, kind: CandidateKind) -> String {
    match path {
        Path::Relay { relayed, via } => format!("local relay {relayed} {via:?}"),
        path => format!("local {kind} {} {}", protocol(path.is_tcp()), path.base()),
    }
}

fn remote_id(address: SocketAddr, is_tcp: bool) -> String {
    format!("remote {} {address}", protocol(is_tcp))
}
