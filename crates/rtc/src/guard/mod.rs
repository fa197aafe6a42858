//! What of the remote peer's packets reaches the stack, which believes more of them than it may. That they are the
//! remote peer's at all, the ICE agent has seen to: data is taken from addresses that a signed check came from.
//!
//! - DTLS records are checked, bounded and put together again ([`records`]).
//! - Media is of a bounded number of sources ([`ssrcs`]).

mod records;
mod ssrcs;

pub(crate) use records::{HandshakePhase, Records};
pub(crate) use ssrcs::Ssrcs;

/// Whether this is DTLS (RFC 7983 §7).
pub(crate) fn is_dtls(datagram: &[u8]) -> bool {
    matches!(datagram.first(), Some(20..=63))
}

/// Whether this is SRTP or SRTCP (RFC 7983 §7).
pub(crate) fn is_media(datagram: &[u8]) -> bool {
    matches!(datagram.first(), Some(128..=191))
}
