//! What can go wrong with a peer connection.

/// Errors of this crate. None of them ends the call by itself; the owner decides.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RtcError {
    /// The stack refused an operation: a state it does not allow, an address it cannot bind.
    #[error("{operation} failed: {source}")]
    Stack {
        /// What was asked for.
        operation: &'static str,
        /// What the stack says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The remote description is not usable SDP.
    #[error("invalid session description: {0}")]
    InvalidDescription(String),
    /// The remote candidate is not a usable candidate line.
    #[error("invalid ICE candidate: {0}")]
    InvalidCandidate(String),
    /// Something the remote side sent made the stack panic; the connection should be given up.
    #[error("{operation} broke on the remote side's input")]
    Broken {
        /// What was asked for.
        operation: &'static str,
    },
    /// A message was given before the data channel opened or after it closed.
    #[error("the data channel is not open")]
    ChannelNotOpen,
    /// The message queue is full; try again later.
    #[error("the data channel is busy")]
    ChannelBusy,
    /// The message is longer than a peer has to accept (RFC 8841 §6).
    #[error("a message of {bytes} bytes is too long")]
    MessageTooLong {
        /// Its length.
        bytes: usize,
    },
    /// There is nothing to roll back.
    #[error("no offer is pending")]
    NothingPending,
    /// Too many candidates wait for a remote description.
    #[error("too many early ICE candidates")]
    TooManyCandidates,
}

impl RtcError {
    pub(crate) fn stack<E: std::error::Error + Send + Sync + 'static>(
        operation: &'static str,
    ) -> impl FnOnce(E) -> Self {
        move |error| Self::Stack { operation, source: error.into() }
    }
}
