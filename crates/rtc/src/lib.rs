//! WebRTC behind one type: [`Peer`] is one connection to one other person.
//!
//! The `rtc` crate does DTLS, SRTP, SCTP and SDP, `visavis-ice` ICE. This crate puts them together: `connection` is
//! one connection as a state machine without I/O, with interceptors of our own between SRTP and the application (`send`,
//! `receive`, `nack`, `rtcp_tap`, `congestion`, `parity`); `driver` gives it sockets and the time.
//!
//! Threads: everything runs in one task for each peer, on the tokio runtime that called [`Peer::new`]; interceptors and
//! with them the packet callbacks run inside it and must not wait. Sending handles ([`VideoSender`], [`AudioSender`])
//! may be used from any thread.

mod answer;
mod clock;
mod codecs;
mod congestion;
mod connection;
mod driver;
mod error;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod guard;
mod interceptor;
mod nack;
mod packetize;
mod parity;
mod payload_types;
mod peer;
mod receive;
mod rtcp_tap;
mod sdp;
mod sections;
mod send;
mod session;
mod stats;
mod stream_stats;
mod types;

#[cfg(test)]
mod loss_tests;

pub use clock::MediaClock;
pub use congestion::{BandwidthState, NetworkEstimate};
pub use error::RtcError;
pub use payload_types::VideoCodecs;
pub use peer::{Peer, PeerConfig, RelayTls};
pub use receive::RtpCallback;
pub use send::{AudioSender, SendOutcome, VideoSender};
pub use stats::{
    CandidatePairState, CandidatePairStats, CandidateStats, NominationStats, PeerStats,
    TransportStats,
};
pub use stream_stats::{InboundStats, OutboundStats};
pub use types::{
    AddressPolicy, Arrivals, Candidate, Description, DtlsState, IceConnectionState,
    IceGatheringState, IceServer, MediaKind, PeerConnectionState, PeerEvent, RelayError, SdpKind,
    SenderReportInfo, SignalingState,
};
