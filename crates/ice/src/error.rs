//! What can be wrong with what the agent is given.

use std::net::SocketAddr;

/// Errors of this crate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IceError {
    /// A candidate line that breaks the grammar of RFC 8839 §5.1.
    #[error("invalid candidate: {0}")]
    InvalidCandidate(&'static str),
    /// A candidate that is well-formed, but that this agent makes no use of.
    #[error("unused candidate: {0}")]
    UnusedCandidate(&'static str),
    /// A user name fragment or password outside of RFC 8839 §5.4.
    #[error("invalid ICE credentials: {0}")]
    InvalidCredentials(&'static str),
    /// The remote peer named more candidates in one generation than are used.
    #[error("more than {limit} remote candidates in one generation")]
    TooManyCandidates {
        /// How many are used.
        limit: usize,
    },
    /// The caller gave more local candidates than are used.
    #[error("more than {limit} local candidates")]
    TooManyLocalCandidates {
        /// How many are used.
        limit: usize,
    },
    /// An address to which nothing is ever sent.
    #[error("{0} is not the address of a single host that may be contacted")]
    AddressNotDialled(SocketAddr),
    /// A candidate that names credentials which are not the remote peer's current ones.
    #[error("candidate of another generation of ICE credentials")]
    UnknownGeneration,
    /// A path that was never given to the agent, or was removed.
    #[error("unknown local path")]
    UnknownPath,
    /// A STUN message could not be written.
    #[error("STUN message cannot be encoded: {0}")]
    StunEncoding(&'static str),
}
