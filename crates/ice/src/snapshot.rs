//! Everything that an agent knows, as data. All of it is bounded: 64 local candidates, two generations of at
//! most 32 remote candidates and 100 pairs, 32 checks and 64 round trips of each pair, 32 nominations.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::candidate::{Candidate, CandidateKind, LocalName, Transport};
use crate::io::{
    NominationReason, PairId, Path, PathClass, RelayTransport, Role, SelectedPair, State,
};

/// What an agent knows at one moment.
#[derive(Debug, Clone)]
pub struct IceSnapshot {
    /// The moment.
    pub at: Instant,
    /// The state.
    pub state: State,
    /// Our role.
    pub role: Role,
    /// For role conflicts.
    pub tie_breaker: u64,
    /// Where data goes.
    pub selected: Option<SelectedPair>,
    /// Consent for that pair.
    pub consent: Option<ConsentSnapshot>,
    /// Our candidates.
    pub local_candidates: Vec<LocalCandidateSnapshot>,
    /// The current generation, and the one before it while it is still used.
    pub generations: Vec<GenerationSnapshot>,
    /// Each selection so far, the oldest first.
    pub nominations: Vec<NominationRecord>,
    /// What was not used.
    pub dropped: DropCounts,
    /// Checks sent, over all pairs.
    pub checks_sent: u64,
}

/// Consent to send over the selected pair (RFC 7675).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsentSnapshot {
    /// When the last check was answered.
    pub last_answer: Instant,
    /// When consent ends if none is answered.
    pub expires: Instant,
    /// Checks since then.
    pub unanswered: u32,
}

/// A local candidate.
#[derive(Debug, Clone)]
pub struct LocalCandidateSnapshot {
    /// As it is, which may be more than was signaled.
    pub candidate: Candidate,
    /// What it sends by.
    pub path: Path,
    /// The STUN or TURN server that it is from.
    pub server: Option<SocketAddr>,
    /// How the relay is reached.
    pub via: Option<RelayTransport>,
    /// Whether it was signaled to the remote peer.
    pub told: bool,
}

/// Where a remote candidate is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CandidateOrigin {
    /// Signaling.
    Signaled,
    /// Signaling, as a name that was resolved.
    Name(LocalName),
    /// A signed check from that address: peer-reflexive.
    Request,
}

/// A remote candidate.
#[derive(Debug, Clone)]
pub struct RemoteCandidateSnapshot {
    /// Where it is.
    pub address: SocketAddr,
    /// UDP or TCP.
    pub transport: Transport,
    /// What kind.
    pub kind: CandidateKind,
    /// Its priority.
    pub priority: u32,
    /// Where it is from.
    pub origin: CandidateOrigin,
    /// Since when it is known.
    pub since: Instant,
}

/// One lifetime of credentials.
#[derive(Debug, Clone)]
pub struct GenerationSnapshot {
    /// Counts restarts.
    pub number: u32,
    /// Our user name fragment.
    pub local_ufrag: String,
    /// The remote peer's, once its description came.
    pub remote_ufrag: Option<String>,
    /// Whether the remote peer is lite.
    pub remote_lite: bool,
    /// Whether nominations are numbered.
    pub renomination: bool,
    /// The number of our last nomination, if we are controlling.
    pub nomination: u32,
    /// When the remote description came.
    pub started: Option<Instant>,
    /// Whether the remote peer said that it has no more candidates.
    pub remote_ended: bool,
    /// The remote peer's candidates.
    pub candidates: Vec<RemoteCandidateSnapshot>,
    /// Names that are asked for.
    pub unresolved: Vec<LocalName>,
    /// The pairs.
    pub pairs: Vec<PairSnapshot>,
    /// Pairs that were left out as there were too many.
    pub pairs_left_out: u64,
}

/// The state of a pair (RFC 8445 §6.1.2.6, without `Frozen`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PairState {
    /// No check was sent yet.
    Waiting,
    /// No check was answered yet.
    InProgress,
    /// A check was answered.
    Succeeded,
    /// No check was answered for too long, or consent ended.
    Failed,
}

/// What became of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckOutcome {
    /// It may still be answered.
    Pending,
    /// It was.
    Answered {
        /// After so long.
        round_trip: Duration,
    },
    /// It was not, for 3 s.
    Lost,
    /// The remote peer has our role, too (487).
    RoleConflict,
    /// The remote peer refused it.
    Rejected {
        /// The STUN error code; 0 for an answer without an address.
        code: u16,
    },
    /// The answer came from another address than the check went to (RFC 8445 §7.2.5.2.1).
    NotSymmetric,
}

/// One check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckRecord {
    /// When it was sent.
    pub at: Instant,
    /// Our role in it.
    pub role: Role,
    /// The number of the nomination in it; `Some(0)` for one without a number.
    pub nomination: Option<u32>,
    /// What became of it.
    pub outcome: CheckOutcome,
}

/// A pair priority with its parts (RFC 8445 §6.1.2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PairPriority {
    /// The whole: 2^32 · min(G, D) + 2 · max(G, D) + `role_bit`.
    pub value: u64,
    /// The priority of the controlling side's candidate.
    pub g: u32,
    /// The priority of the controlled side's candidate.
    pub d: u32,
    /// 1 if G > D.
    pub role_bit: u8,
}

/// A pair.
#[derive(Debug, Clone)]
pub struct PairSnapshot {
    /// Which.
    pub id: PairId,
    /// The local end.
    pub path: Path,
    /// What kind of candidate the remote peer sees there, once it has said so.
    pub local_kind: Option<CandidateKind>,
    /// The remote end.
    pub remote: SocketAddr,
    /// What kind of candidate that is.
    pub remote_kind: CandidateKind,
    /// What kind of way it is.
    pub class: PathClass,
    /// The state.
    pub state: PairState,
    /// Whether data goes by it.
    pub selected: bool,
    /// The priority.
    pub priority: PairPriority,
    /// Our address as the remote peer sees it.
    pub mapped: Option<SocketAddr>,
    /// Checks sent.
    pub sent: u64,
    /// Of them, answered.
    pub answered: u64,
    /// Of them, not answered for 3 s.
    pub lost: u64,
    /// Of them, refused with 487.
    pub role_conflicts: u64,
    /// Of them, refused otherwise.
    pub rejected: u64,
    /// Of them, answered from elsewhere.
    pub not_symmetric: u64,
    /// Signed checks of the remote peer.
    pub requests_received: u64,
    /// The last checks, the oldest first.
    pub checks: Vec<CheckRecord>,
    /// Smoothed.
    pub round_trip: Option<Duration>,
    /// The last measurements, the oldest first.
    pub round_trips: Vec<(Instant, Duration)>,
    /// When other data last came.
    pub last_data: Option<Instant>,
    /// When the next check is due, but for pacing.
    pub next_check: Option<Instant>,
    /// The highest nomination that the remote peer sent for it; 0 for one without a number.
    pub remote_nomination: Option<u32>,
    /// How often it was left because it had died.
    pub breaks: u32,
    /// It is not returned to before, for it had died.
    pub held_until: Option<Instant>,
}

/// A selection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NominationRecord {
    /// When.
    pub at: Instant,
    /// The pair.
    pub pair: SelectedPair,
    /// The pair before it.
    pub previous: Option<SelectedPair>,
    /// Why.
    pub reason: NominationReason,
}

/// What was not used, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DropCounts {
    /// STUN messages that were malformed, unsigned, or answers that nobody asked for.
    pub unauthenticated: u64,
    /// Signed checks beyond the rate at which they are answered.
    pub over_budget: u64,
    /// Remote candidates that were refused.
    pub candidates: u64,
    /// Checks that could not be written.
    pub unencodable: u64,
}
