//! Interactive Connectivity Establishment (RFC 8445) without I/O.
//!
//! [`Agent`] takes candidates, descriptions, datagrams and the time, and gives datagrams, events and a deadline.
//! [`Gatherer`] asks STUN servers for reflexive candidates in the same way, [`TurnClient`] a relay. None has a socket, a clock or a
//! random source of its own, so a whole call runs on virtual time in a test.
//!
//! Everything that the agent knows, each check and each decision with its reason, is readable as
//! [`IceSnapshot`].

mod address;
mod agent;
mod candidate;
mod config;
mod credentials;
mod error;
mod gather;
mod io;
mod random;
mod snapshot;
mod stun;
mod turn;

pub use address::may_be_dialled;
pub use agent::Agent;
pub use candidate::{Candidate, CandidateAddress, CandidateKind, LocalName, Transport};
pub use config::{AddressPolicy, Config, MAX_LOCAL_CANDIDATES, MAX_PAIRS, MAX_REMOTE_CANDIDATES};
pub use credentials::Credentials;
pub use error::IceError;
pub use gather::{GatherEvent, GatherFailure, GatherOutput, Gatherer, GathererConfig, StunServer};
pub use io::{
    Event, Input, LocalCandidate, NominationReason, Output, PairId, Path, PathClass, Received,
    RelayTransport, RemoteDescription, Role, SelectedPair, State, Transmit,
};
pub use random::RandomSource;
pub use snapshot::{
    CandidateOrigin, CheckOutcome, CheckRecord, ConsentSnapshot, DropCounts, GenerationSnapshot,
    IceSnapshot, LocalCandidateSnapshot, NominationRecord, PairPriority, PairSnapshot, PairState,
    RemoteCandidateSnapshot,
};
pub use turn::{TurnClient, TurnConfig, TurnEvent, TurnFramer, TurnOutput, TurnReceived};

/// Some moment, to count virtual time from.
#[cfg(test)]
#[allow(clippy::disallowed_methods)]
pub(crate) fn test_time() -> std::time::Instant {
    std::time::Instant::now()
}
