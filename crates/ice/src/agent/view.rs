//! The snapshot of an agent.

use std::time::Instant;

use super::Agent;
use super::generation::{Generation, RemotePeer};
use super::pair::{LOST_AFTER, Pair, pair_priority};
use super::shared::Shared;
use crate::address::canonical;
use crate::candidate::CandidateKind;
use crate::config::CONSENT_EXPIRY;
use crate::io::Path;
use crate::snapshot::{
    CheckOutcome, CheckRecord, ConsentSnapshot, GenerationSnapshot, IceSnapshot,
    LocalCandidateSnapshot, PairPriority, PairSnapshot, RemoteCandidateSnapshot,
};

impl Agent {
    /// Everything that the agent knows.
    #[must_use]
    pub fn snapshot(&self, now: Instant) -> IceSnapshot {
        let shared = &self.shared;
        let expiry = shared.config.failed_after.min(CONSENT_EXPIRY);
        let consent = self.data_pair().and_then(|pair| {
            let last_answer = pair.last_answer?;
            let expires = last_answer + expiry;
            Some(ConsentSnapshot { last_answer, expires, unanswered: pair.unanswered })
        });
        let generations = [Some(&self.current), self.previous.as_ref()];
        IceSnapshot {
            at: now,
            state: self.state,
            role: shared.role,
            tie_breaker: shared.tie_breaker,
            selected: shared.selected,
            consent,
            local_candidates: shared
                .candidates
                .iter()
                .map(|record| LocalCandidateSnapshot {
                    candidate: record.candidate.clone(),
                    path: record.path,
                    server: record.server,
                    via: record.via,
                    told: record.signaled.is_some(),
                })
                .collect(),
            generations: generations.into_iter().flatten().map(|g| g.view(shared, now)).collect(),
            nominations: shared.nominations.iter().copied().collect(),
            dropped: shared.dropped,
            checks_sent: shared.checks_sent,
        }
    }
}

impl Generation {
    fn view(&self, shared: &Shared, now: Instant) -> GenerationSnapshot {
        let remote = self.remote.as_ref();
        GenerationSnapshot {
            number: self.number,
            local_ufrag: self.local.ufrag().to_owned(),
            remote_ufrag: remote.map(|remote| remote.credentials.ufrag().to_owned()),
            remote_lite: remote.is_some_and(|remote: &RemotePeer| remote.lite),
            renomination: self.renominates(),
            nomination: self.nomination,
            started: self.started,
            remote_ended: self.remote_ended,
            candidates: self
                .candidates
                .iter()
                .map(|candidate| RemoteCandidateSnapshot {
                    address: candidate.address,
                    transport: candidate.transport,
                    kind: candidate.kind,
                    priority: candidate.priority,
                    origin: candidate.origin.clone(),
                    since: candidate.since,
                })
                .collect(),
            unresolved: self.unresolved.iter().map(|(name, _)| name.clone()).collect(),
            pairs: self.pairs.iter().map(|pair| pair.view(shared, now)).collect(),
            pairs_left_out: self.pairs_left_out,
        }
    }
}

impl Pair {
    fn view(&self, shared: &Shared, now: Instant) -> PairSnapshot {
        let (g, d) = self.priorities(shared.role);
        // Checks are marked as lost when the next one is sent; a reader is not to wait for that.
        let is_lost = |outcome: CheckOutcome, at: Instant| {
            outcome == CheckOutcome::Pending && at + LOST_AFTER <= now
        };
        let checks: Vec<CheckRecord> = self
            .checks
            .iter()
            .map(|check| CheckRecord {
                at: check.at,
                role: check.role,
                nomination: check.nomination,
                outcome: if is_lost(check.outcome, check.at) {
                    CheckOutcome::Lost
                } else {
                    check.outcome
                },
            })
            .collect();
        let unmarked = self.checks.iter().filter(|check| is_lost(check.outcome, check.at)).count();
        PairSnapshot {
            id: self.id,
            path: self.path,
            local_kind: self.local_kind(shared),
            remote: self.remote,
            remote_kind: self.remote_kind,
            class: self.class(),
            state: self.state,
            selected: shared.selected.is_some_and(|selected| selected.id == self.id),
            priority: PairPriority {
                value: pair_priority((g, d)),
                g,
                d,
                role_bit: u8::from(g > d),
            },
            mapped: self.mapped,
            sent: self.sent,
            answered: self.answered,
            lost: self.lost + unmarked as u64,
            role_conflicts: self.role_conflicts,
            rejected: self.rejected,
            not_symmetric: self.not_symmetric,
            requests_received: self.requests_received,
            checks,
            round_trip: self.round_trip,
            round_trips: self.round_trips.iter().copied().collect(),
            last_data: self.last_data,
            next_check: self.next_check,
            remote_nomination: self.remote_nomination,
            breaks: self.breaks,
            held_until: self.held_until,
        }
    }

    /// What the mapped address is to us (RFC 8445 §7.2.5.3.1).
    fn local_kind(&self, shared: &Shared) -> Option<CandidateKind> {
        let mapped = self.mapped?;
        Some(match self.path {
            Path::Relay { .. } => CandidateKind::Relayed,
            path if mapped == canonical(path.base()) => CandidateKind::Host,
            path if shared.candidates.iter().any(|c| c.path == path && c.address == mapped) => {
                CandidateKind::ServerReflexive
            }
            _ => CandidateKind::PeerReflexive,
        })
    }
}
