//! WebRTC behind one type: [`Peer`] is one connection to one other person.
//!
//! The `webrtc` and `rtc` crates do ICE, DTLS, SRTP and SCTP. This crate decides how they are set
//! up (`codecs`, `ice`), puts its own interceptors between SRTP and the application
//! (`send`, `receive`, `nack`, `rtcp_tap`) and gathers what they know (`stats`).
//!
//! Threads: everything runs on the tokio runtime that called [`Peer::new`]. One task, the driver
//! of the `webrtc` crate, owns sockets and timers; interceptors and with them the packet callbacks
//! run inside it and must not wait. Sending handles ([`VideoSender`], [`AudioSender`]) may be used
//! from any thread.

pub mod answer;
mod clock;
mod codecs;
mod congestion;
mod direct;
mod disclosure;
mod error;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod guard;
mod ice;
mod interceptor;
mod local_names;
mod nack;
mod packetize;
mod parity;
mod payload_types;
mod peer;
mod receive;
mod rtcp_tap;
mod runtime;
mod sdp;
mod sections;
mod send;
mod session;
mod stats;
mod stream;
mod stream_stats;
mod tcp;
mod turn;
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
    CandidatePairState, CandidatePairStats, CandidateStats, PeerStats, TransportStats,
};
pub use stream_stats::{InboundStats, OutboundStats};
pub use types::{
    AddressPolicy, Arrivals, Candidate, Description, DtlsState, IceConnectionState,
    IceGatheringState, IceServer, MediaKind, PeerConnectionState, PeerEvent, RelayError, SdpKind,
    SenderReportInfo, SignalingState,
};
