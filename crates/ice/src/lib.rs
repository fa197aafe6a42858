//! Interactive Connectivity Establishment (RFC 8445) without I/O.
//!
//! [`Agent`] takes candidates, descriptions, datagrams and the time, and gives datagrams, events and a deadline.
//! [`Gatherer`] asks STUN servers for reflexive candidates in the same way, [`TurnClient`] a relay. None has a socket, a clock or a
//! random source of its own, so a whole call runs on virtual time in a test.
//!
//! Everything that the agent knows, each check and each decision with its reason, is readable as
//! [`IceSnapshot`].
//!
//! ```
//! use visavis_ice::{Agent, Config, Input, LocalCandidate, Output, Path, RemoteDescription, Role, State};
//!
//! # let mut now = std::time::Instant::now();
//! # let random = |seed: u8| { let mut n = seed; move |bytes: &mut [u8]| for b in bytes { n = n.wrapping_mul(31).wrapping_add(7); *b = n; } };
//! let bases = ["192.0.2.1:4000".parse().unwrap(), "192.0.2.2:4000".parse().unwrap()];
//! let mut agents = [
//!     Agent::new(Config::default(), Role::Controlling, random(1)),
//!     Agent::new(Config::default(), Role::Controlled, random(2)),
//! ];
//! // Credentials travel by signaling, and candidates; one of them is enough, as a check shows the other one.
//! let candidate = "candidate:1 1 udp 2130706431 192.0.2.1 4000 typ host".parse().unwrap();
//! let candidates = [Vec::new(), vec![candidate]];
//! for (side, candidates) in candidates.into_iter().enumerate() {
//!     let host = LocalCandidate::Host { base: bases[side], preference: 65_535, name: None };
//!     agents[side].handle_input(now, Input::LocalCandidate(host)).unwrap();
//!     let credentials = agents[1 - side].local_credentials().clone();
//!     let description = RemoteDescription { credentials, lite: false, renomination: true, candidates };
//!     agents[side].handle_input(now, Input::RemoteDescription(description)).unwrap();
//! }
//! while agents.iter().any(|agent| agent.state() != State::Connected) {
//!     for side in [0, 1] {
//!         // One input, then everything that follows from it.
//!         loop {
//!             match agents[side].poll_output() {
//!                 Output::Transmit(datagram) => {
//!                     let path = Path::Udp { base: datagram.destination };
//!                     agents[1 - side].receive(now, path, bases[side], &datagram.bytes);
//!                 }
//!                 Output::Event(event) => println!("{event:?}"),
//!                 Output::Deadline(_) => break,
//!             }
//!         }
//!     }
//!     now += std::time::Duration::from_millis(5);
//!     for agent in &mut agents {
//!         agent.handle_input(now, Input::Timeout).unwrap();
//!     }
//! }
//! assert_eq!(agents[0].selected().unwrap().remote, bases[1]);
//! ```

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
pub use turn::{TurnClient, TurnConfig, TurnEvent, TurnOutput, TurnReceived};

/// Some moment, to count virtual time from.
#[cfg(test)]
#[allow(clippy::disallowed_methods)]
pub(crate) fn test_time() -> std::time::Instant {
    std::time::Instant::now()
}
