//! The vocabulary of a peer: descriptions, candidates, states, events.

use std::fmt;

use serde::{Deserialize, Serialize};
use visavis_media::MediaTime;

use crate::payload_types::VideoCodecs;

/// Which of this machine's addresses are told (RFC 8828 §5.2 has browsers' choices).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AddressPolicy {
    /// Those of its interfaces, and as STUN servers and relays see it: connects soonest.
    #[default]
    All,
    /// As STUN servers and relays see it. Of its interfaces, only random names for IPv4 addresses, which the local
    /// network alone resolves (draft-ietf-mmusic-mdns-ice-candidates).
    HideLocal,
    /// Addresses at relays only, and all media goes over them.
    RelayOnly,
}

/// Type of a session description (W3C `RTCSdpType`, without `pranswer` and `rollback`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SdpKind {
    /// An offer.
    Offer,
    /// A final answer.
    Answer,
}

/// A session description (W3C `RTCSessionDescriptionInit`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Offer or answer.
    pub kind: SdpKind,
    /// The SDP.
    pub sdp: String,
}

/// An ICE candidate (W3C `RTCIceCandidateInit`). An empty `candidate` says that no more follow.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Candidate {
    /// The candidate line, with or without `candidate:` in front (RFC 8839 §5.1).
    pub candidate: String,
    /// The m-section it belongs to.
    pub sdp_mid: Option<String>,
    /// That section's index.
    pub sdp_m_line_index: Option<u16>,
    /// The ICE generation it belongs to.
    pub username_fragment: Option<String>,
}

/// A STUN or TURN server (W3C `RTCIceServer`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IceServer {
    /// `stun:`, `turn:` (over UDP or TCP) and `turns:` (over TLS) URLs.
    pub urls: Vec<String>,
    /// TURN user name.
    pub username: Option<String>,
    /// TURN password.
    pub credential: Option<String>,
}

/// What has come over a connection so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Arrivals {
    /// RTP packets of media and RTCP packets, authenticated.
    pub packets: u64,
    /// Transport-wide feedback among them, which the other side sends about what has reached it.
    pub feedback: u64,
}

/// Audio or video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MediaKind {
    /// Opus.
    Audio,
    /// In one of several codecs.
    Video,
}

impl MediaKind {
    /// The RTP clock rate, Hz.
    pub const fn clock_rate_hz(self) -> u32 {
        match self {
            Self::Audio => 48_000,
            Self::Video => 90_000,
        }
    }
}

/// What a remote sender report says: its clock and its stream at one moment. Two of them, one for
/// each kind, line up sound and picture (RFC 3550 §6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderReportInfo {
    /// The stream.
    pub kind: MediaKind,
    /// The sender's wall clock, 32.32 seconds since 1900, when what has that timestamp was captured.
    /// A browser's report on sound is corrected: it gives the time when the packet left.
    pub ntp_time: u64,
    /// The stream's RTP timestamp at that moment.
    pub rtp_timestamp: u32,
    /// When the report arrived.
    pub arrival: MediaTime,
}

/// What a peer tells its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerEvent {
    /// A local candidate to signal; an empty one ends the list.
    LocalCandidate(Candidate),
    /// W3C `signalingState` changed.
    SignalingState(SignalingState),
    /// W3C `iceGatheringState` changed.
    IceGatheringState(IceGatheringState),
    /// W3C `iceConnectionState` changed.
    IceConnectionState(IceConnectionState),
    /// W3C `connectionState` changed.
    PeerConnectionState(PeerConnectionState),
    /// The state of the DTLS transport changed, as far as the other states tell.
    DtlsState(DtlsState),
    /// Media goes by a direct pair of UDP now instead of a relayed one or one over TCP, or (false) the other way.
    DirectPath(bool),
    /// A negotiation is complete: the video codecs that both have, in the remote peer's order of preference. None if
    /// there is none in common or the remote peer rejected video: no picture goes either way. Told once and when it
    /// changes; whether the remote peer wants pictures now is another matter
    /// ([`VideoSender::codecs`](crate::VideoSender::codecs)).
    VideoCodecs(VideoCodecs),
    /// The remote side wants a keyframe of our video (PLI or FIR).
    KeyframeRequested,
    /// A remote sender report arrived.
    SenderReport(SenderReportInfo),
    /// The data channel opened.
    DataChannelOpen,
    /// The data channel closed.
    DataChannelClosed,
    /// A text message on the data channel.
    Message(String),
    /// A relay could not be reached, or refused (W3C `icecandidateerror`). Others may still do.
    RelayError(RelayError),
}

/// Why a relay gives no address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayError {
    /// Its URL.
    pub relay: String,
    /// STUN error code (RFC 8656 §19); 701 if it cannot be reached.
    pub code: u16,
    /// In words.
    pub reason: String,
}

macro_rules! states {
    ($(#[$doc:meta])* $name:ident from $theirs:ty { $($variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
        #[allow(missing_docs, reason = "the words are the W3C's")]
        pub enum $name {
            #[default]
            $($variant),+
        }

        impl $name {
            /// The W3C word.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl From<$theirs> for $name {
            fn from(state: $theirs) -> Self {
                #[allow(unreachable_patterns, reason = "the other side may grow variants")]
                match state {
                    $(<$theirs>::$variant => Self::$variant,)+
                    // "Unspecified" is what the stack says before the first real state.
                    _ => Self::default(),
                }
            }
        }
    };
}

states! {
    /// W3C `RTCSignalingState`.
    SignalingState from rtc::peer_connection::state::RTCSignalingState {
        Stable = "stable",
        HaveLocalOffer = "have-local-offer",
        HaveRemoteOffer = "have-remote-offer",
        HaveLocalPranswer = "have-local-pranswer",
        HaveRemotePranswer = "have-remote-pranswer",
        Closed = "closed",
    }
}

states! {
    /// W3C `RTCIceGatheringState`.
    IceGatheringState from rtc::peer_connection::state::RTCIceGatheringState {
        New = "new",
        Gathering = "gathering",
        Complete = "complete",
    }
}

states! {
    /// W3C `RTCIceConnectionState`.
    IceConnectionState from rtc::peer_connection::state::RTCIceConnectionState {
        New = "new",
        Checking = "checking",
        Connected = "connected",
        Completed = "completed",
        Disconnected = "disconnected",
        Failed = "failed",
        Closed = "closed",
    }
}

states! {
    /// W3C `RTCPeerConnectionState`.
    PeerConnectionState from rtc::peer_connection::state::RTCPeerConnectionState {
        New = "new",
        Connecting = "connecting",
        Connected = "connected",
        Disconnected = "disconnected",
        Failed = "failed",
        Closed = "closed",
    }
}

states! {
    /// W3C `RTCDtlsTransportState`.
    DtlsState from rtc::peer_connection::transport::RTCDtlsTransportState {
        New = "new",
        Connecting = "connecting",
        Connected = "connected",
        Closed = "closed",
        Failed = "failed",
    }
}
