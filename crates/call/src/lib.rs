//! Session logic of a call, sans-IO: no tokio, no media, no clock of its own.
//!
//! The owner feeds [`Input`]s with the time they arrived and drains [`Output`]s after each, until
//! [`Output::Wait`] tells when to call again at the latest. Times are durations since any fixed
//! origin, so tests run on virtual time.

mod io;
mod negotiation;
mod proof;
mod recovery;
mod session;
mod stall;
mod state;

pub use io::{Epoch, Input, Knock, Operation, Output, TransportState};
pub use proof::{Authentication, ProofConfig};
pub use recovery::Timer;
pub use session::CallSession;
pub use state::{CallEndReason, CallState};
pub use visavis_proof::{ContinuityKey, EMOJI, EMOJI_SHOWN, Emoji, MAX_GUESSES};
pub use visavis_signaling_protocol::ProofFailure;
