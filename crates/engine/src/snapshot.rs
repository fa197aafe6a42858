//! What is continuous about a call, for windows, panels and the headless peer's summary.
//! Statistics bear the names of <https://www.w3.org/TR/webrtc-stats/> where it has one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde::{Serialize, Serializer};
pub use visavis_rtc::{
    CandidatePairState, DtlsState, IceConnectionState, IceGatheringState, PeerConnectionState,
    SignalingState,
};

use crate::handle::{Authentication, CallCode, CallEndReason, DeviceList, Knock};

/// Where the call stands, in the words of the user interface.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Phase {
    /// In the lobby.
    #[default]
    Idle,
    /// Reaching the server.
    Joining,
    /// The person inside is asked whether we may come in.
    Knocking,
    /// Alone in the room.
    Waiting,
    /// The other side is there; media is not.
    Connecting,
    /// Media flows.
    Connected,
    /// Media flowed and does not now; ICE is being restarted, or the other side is being waited for.
    Reconnecting,
    /// Over, and why.
    Ended(CallEndReason),
}

/// The state of the WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SignalingLink {
    /// Not wanted.
    #[default]
    Closed,
    /// First attempt under way.
    Connecting,
    /// Open and joined.
    Open,
    /// Lost; trying again.
    Reconnecting,
}

/// One consistent picture of the engine, replaced as a whole at most every 100 ms (at once on a
/// change of phase). Cheap to clone (behind an `Arc`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CallSnapshot {
    /// Where the call stands.
    pub phase: Phase,
    /// The code of the current or last call.
    pub code: Option<CallCode>,
    /// What is known of who the remote peer is; `None` before the proof, when no media goes either way.
    pub authentication: Option<Authentication>,
    /// Link for a browser, `http(s)://SERVER/r/ROOM#SECRET`.
    pub room_link: Option<String>,
    /// Whether the room is locked: nobody else can enter.
    pub room_locked: bool,
    /// Those who ask to be let in, the first who came first; at most four.
    pub knocks: Vec<Knock>,
    /// How long media has flowed (stops counting when ended).
    pub connected_for: Duration,
    /// What the other side said of itself.
    pub remote: RemoteParty,
    /// Own devices.
    pub local: LocalMedia,
    /// All devices.
    pub devices: DeviceList,
    /// States as of W3C, and the WebSocket's.
    pub states: States,
    /// Local candidates of this ICE generation.
    pub local_candidates: Vec<CandidateInfo>,
    /// Remote candidates.
    pub remote_candidates: Vec<CandidateInfo>,
    /// Candidate pairs.
    pub pairs: Vec<PairInfo>,
    /// Which pairs were selected and why, the oldest first.
    pub nominations: Vec<NominationInfo>,
    /// Since the last answer to a check on the selected pair (RFC 7675).
    pub consent_age: Option<Duration>,
    /// The video that is sent.
    pub video_sent: VideoSentStats,
    /// The video that is received.
    pub video_received: VideoReceivedStats,
    /// The audio that is sent.
    pub audio_sent: AudioSentStats,
    /// The audio that is received.
    pub audio_received: AudioReceivedStats,
    /// The path to the other side.
    pub network: NetworkStats,
    /// Time from the join command to each step.
    pub setup: SetupTimes,
    /// DTLS version and SRTP cipher, once known.
    pub dtls_version: Option<String>,
    /// Datagrams from strangers, and forged ones, that were kept from the WebRTC stack.
    pub refused_datagrams: u64,
    /// SRTP protection profile.
    pub srtp_cipher: Option<String>,
    /// One point a second, newest last, at most 120.
    pub history: VecDeque<HistoryPoint>,
    /// Newest last, at most 500. The same allocation from snapshot to snapshot until another entry comes.
    pub log: Arc<VecDeque<LogEntry>>,
}

/// The other side.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RemoteParty {
    /// Whether somebody is in the room with us.
    pub present: bool,
    /// Its name.
    pub display_name: Option<String>,
    /// What it says of its microphone; `None` until it says.
    pub microphone_on: Option<bool>,
    /// What it says of its camera.
    pub camera_on: Option<bool>,
    /// Whether no video goes either way because it has no video codec in common with us.
    pub lacks_video_codec: bool,
}

/// Own devices, with the problem a person should read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LocalMedia {
    /// Wanted on.
    pub camera_on: bool,
    /// Wanted on.
    pub microphone_on: bool,
    /// The device in use, or `None`.
    pub camera_name: Option<String>,
    /// Size and rate that the camera delivers, such as `1280×720 · 30 fps`.
    pub camera_format: Option<String>,
    /// The device in use.
    pub microphone_name: Option<String>,
    /// The device in use.
    pub speaker_name: Option<String>,
    /// Why there is no picture.
    pub camera_problem: Option<String>,
    /// Why there is no sound in.
    pub microphone_problem: Option<String>,
    /// Why there is no sound out.
    pub speaker_problem: Option<String>,
    /// Peak of the last 100 ms of the microphone, dBFS (-100 to 0), also while muted: of what is, or
    /// would be, sent, after voice processing.
    pub microphone_level_dbfs: f32,
    /// What is done to the microphone's sound.
    pub voice: VoiceState,
    /// The person has just talked although the microphone is off; true for some seconds.
    pub speaking_while_muted: bool,
}

/// Voice processing. Figures are absent while their part is off or has nothing to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "one a part")]
pub struct VoiceState {
    /// Whether sound goes through it at all.
    pub running: bool,
    /// What the speaker plays is taken out.
    pub echo_cancellation: bool,
    /// Steady noise is taken out.
    pub noise_suppression: bool,
    /// Speech is brought to the same level.
    pub automatic_gain: bool,
    /// Rumble is taken out.
    pub high_pass: bool,
    /// It is sent as music, with none of these.
    pub music: bool,
    /// `echoReturnLoss`, dB.
    pub echo_return_loss_db: Option<f32>,
    /// `echoReturnLossEnhancement`, dB.
    pub echo_return_loss_enhancement_db: Option<f32>,
    /// From handing sound to the speaker to its echo, as the devices say.
    pub device_delay: Option<Duration>,
    /// The same as the echo canceller has found it.
    pub echo_delay: Option<Duration>,
    /// Gain that is applied now.
    pub gain_db: Option<f32>,
}

/// State machines, in the words of W3C WebRTC 1.0; `None` before the first peer connection tells.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct States {
    /// The WebSocket.
    pub signaling_link: SignalingLink,
    /// `RTCSignalingState`.
    #[serde(serialize_with = "as_word")]
    pub signaling: Option<SignalingState>,
    /// `RTCIceGatheringState`.
    #[serde(serialize_with = "as_word")]
    pub ice_gathering: Option<IceGatheringState>,
    /// `RTCIceConnectionState`.
    #[serde(serialize_with = "as_word")]
    pub ice_connection: Option<IceConnectionState>,
    /// `RTCDtlsTransportState`.
    #[serde(serialize_with = "as_word")]
    pub dtls: Option<DtlsState>,
    /// `RTCPeerConnectionState`.
    #[serde(serialize_with = "as_word")]
    pub peer_connection: Option<PeerConnectionState>,
    /// Our role in perfect negotiation, once known.
    pub polite: Option<bool>,
}

impl States {
    /// Whether ICE has a path now.
    pub fn is_ice_connected(&self) -> bool {
        matches!(
            self.ice_connection,
            Some(IceConnectionState::Connected | IceConnectionState::Completed)
        )
    }
}

/// The W3C's word for a state.
fn as_word<T: std::fmt::Display, S: Serializer>(
    state: &Option<T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match state {
        Some(state) => serializer.collect_str(state),
        None => serializer.serialize_none(),
    }
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant),+
        }

        impl $name {
            /// The word that statistics use.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }

            /// What that word stands for.
            pub fn from_word(word: &str) -> Option<Self> {
                match word {
                    $($word => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    };
}

words! {
    /// `RTCIceCandidateType`, RFC 8445 §4.
    CandidateType {
        /// An address of the machine itself.
        Host = "host",
        /// As a STUN server sees it.
        Srflx = "srflx",
        /// Learned from a check.
        Prflx = "prflx",
        /// Of a TURN server.
        Relay = "relay",
    }
}

words! {
    /// `RTCIceProtocol`.
    CandidateProtocol {
        /// RFC 8445.
        Udp = "udp",
        /// RFC 6544.
        Tcp = "tcp",
    }
}

words! {
    /// `RTCIceServerTransportProtocol`.
    RelayProtocol {
        /// TURN over UDP.
        Udp = "udp",
        /// TURN over TCP.
        Tcp = "tcp",
        /// TURN over TLS.
        Tls = "tls",
    }
}

/// `RTCIceCandidateStats`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CandidateInfo {
    /// `candidateType`.
    #[serde(rename = "type")]
    pub kind: CandidateType,
    /// `protocol`.
    pub protocol: CandidateProtocol,
    /// `ADDRESS:PORT`.
    pub address: String,
    /// RFC 8445 §5.1.2, where it was signaled.
    pub priority: Option<u32>,
    /// `relayProtocol`: how we reach the relay of a relayed candidate of ours.
    pub relay_protocol: Option<RelayProtocol>,
}

/// `RTCIceCandidatePairStats`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PairInfo {
    /// Ours.
    pub local: CandidateInfo,
    /// Theirs.
    pub remote: CandidateInfo,
    /// State of the connectivity check, RFC 8445 §6.1.2.6.
    pub state: CandidatePairState,
    /// Whether it was nominated.
    pub nominated: bool,
    /// Whether media runs over it.
    pub selected: bool,
    /// What kind of way it is, in words: `direct UDP`, `relay over TLS`.
    pub path: &'static str,
    /// RFC 8445 §6.1.2.3, of the two below.
    pub priority: u64,
    /// Priority of the controlling side's candidate.
    pub controlling_priority: u32,
    /// Priority of the controlled side's candidate.
    pub controlled_priority: u32,
    /// Checks that were not answered within 3 s.
    pub requests_lost: u64,
    /// What the last check that failed otherwise met, in words.
    pub last_failure: Option<String>,
    /// `currentRoundTripTime`.
    pub rtt: Option<Duration>,
    /// `requestsSent`.
    pub requests_sent: u64,
    /// `responsesReceived`.
    pub responses_received: u64,
    /// `bytesSent`.
    pub bytes_sent: u64,
    /// `bytesReceived`.
    pub bytes_received: u64,
}

/// A selection of a candidate pair.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NominationInfo {
    /// How long ago.
    pub age: Duration,
    /// Our end.
    pub local: String,
    /// The remote peer's end.
    pub remote: String,
    /// What kind of way it is, in words.
    pub path: &'static str,
    /// Why, in words.
    pub reason: String,
}

/// `RTCOutboundRtpStreamStats` of the video.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct VideoSentStats {
    /// Of the last frame: `AV1`, `VP9`, `H264` or `VP8`.
    pub codec: Option<String>,
    /// `CABAC` (H.264 in Main profile), `thorough` (AV1 with more time for fewer bits), `screen` (AV1 with its tools for
    /// text) or the latter two; `None` as usual.
    pub coding: Option<&'static str>,
    /// Why it was chosen, in words.
    pub codec_reason: Option<&'static str>,
    /// `frameWidth`.
    pub width_px: u32,
    /// `frameHeight`.
    pub height_px: u32,
    /// `framesPerSecond`, over the last second.
    pub fps: f32,
    /// `framesEncoded`.
    pub frames: u64,
    /// `bytesSent` (payload).
    pub bytes: u64,
    /// `packetsSent`.
    pub packets: u64,
    /// `keyFramesEncoded`.
    pub keyframes: u64,
    /// `retransmittedPacketsSent`.
    pub retransmitted_packets: u64,
    /// `targetBitrate`.
    pub target_bitrate_bps: u64,
    /// Payload bits of the last second.
    pub bitrate_bps: u64,
    /// `nackCount` received.
    pub nacks: u64,
    /// `pliCount` received (with FIR).
    pub plis: u64,
    /// `fractionLost` of the newest report, 0 to 1.
    pub remote_fraction_lost: Option<f32>,
    /// Mean time to encode one picture over the last second.
    pub encode_time: Duration,
    /// Pictures left out because others waited to leave.
    pub skipped: u64,
    /// `qualityLimitationReason`, in words; `None` while size and rate are the source's.
    pub limited_by: Option<&'static str>,
}

/// What congestion control knows of the path.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct NetworkStats {
    /// `availableOutgoingBitrate`: all that may be sent on the wire.
    pub available_outgoing_bps: u64,
    /// What arrived in the last half second.
    pub delivered_bps: Option<u64>,
    /// Queuing delay on the path.
    pub queue: Duration,
    /// How long what waits for its turn here will take to leave.
    pub pacer_queue: Duration,
    /// Share of packets lost in the last second.
    pub loss: f32,
    /// Mean number of packets lost in a row.
    pub loss_burst: f32,
    /// Round trip.
    pub rtt: Option<Duration>,
    /// `start-up`, `cruise` or `drain`.
    pub state: &'static str,
    /// Parity sent for each byte of video, 0 to 1 and more.
    pub parity: f32,
    /// Retransmissions and probes.
    pub repair_bps: u64,
}

/// `RTCInboundRtpStreamStats` of the video.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct VideoReceivedStats {
    /// Of the last frame: `AV1`, `VP9`, `H264` or `VP8`.
    pub codec: Option<String>,
    /// `frameWidth`.
    pub width_px: u32,
    /// `frameHeight`.
    pub height_px: u32,
    /// `framesPerSecond`, over the last second.
    pub fps: f32,
    /// `framesDecoded`.
    pub frames_decoded: u64,
    /// From the first decoded picture to the last.
    pub span: Option<Duration>,
    /// Access units that the decoder refused.
    pub decode_errors: u64,
    /// `packetsReceived`.
    pub packets: u64,
    /// `packetsLost`, before retransmission.
    pub packets_lost: i64,
    /// Packets that parity brought back.
    pub packets_repaired: u64,
    /// `bytesReceived` (payload).
    pub bytes: u64,
    /// Payload bits of the last second.
    pub bitrate_bps: u64,
    /// `nackCount` sent.
    pub nacks: u64,
    /// `pliCount` sent.
    pub plis: u64,
    /// `freezeCount`.
    pub freeze_count: u64,
    /// `totalFreezesDuration`.
    pub freeze_time: Duration,
    /// Interarrival jitter (RFC 3550 §6.4.1).
    pub jitter: Duration,
    /// Capture to display of the last second's pictures, where a time code was read.
    pub latency: Option<LatencyStats>,
    /// Mean time to decode one picture over the last second.
    pub decode_time: Duration,
}

/// Percentiles of capture-to-display latency over the whole call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct LatencyStats {
    /// Median.
    pub p50: Duration,
    /// 95th percentile.
    pub p95: Duration,
    /// Largest.
    pub max: Duration,
}

/// `RTCOutboundRtpStreamStats` of the audio.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct AudioSentStats {
    /// `opus`, once negotiated.
    pub codec: Option<String>,
    /// `packetsSent`.
    pub packets: u64,
    /// `bytesSent` (payload).
    pub bytes: u64,
    /// Payload bits of the last second.
    pub bitrate_bps: u64,
    /// `fractionLost` of the newest report, 0 to 1.
    pub remote_fraction_lost: Option<f32>,
    /// Copies of earlier packets in each packet (RED), the farthest's distance in packets, and
    /// Opus' target bitrate: how sound is protected against loss now.
    pub redundancy_depth: usize,
    /// See `redundancy_depth`.
    pub redundancy_reach: usize,
    /// See `redundancy_depth`.
    pub target_bitrate_bps: u64,
    /// Channels of the last packet; `None` before the first.
    pub channels: Option<u8>,
}

/// `RTCInboundRtpStreamStats` of the audio.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct AudioReceivedStats {
    /// The codec.
    pub codec: Option<String>,
    /// `packetsReceived`.
    pub packets: u64,
    /// `packetsLost`.
    pub lost: u64,
    /// `concealedSamples` to `totalSamplesReceived`, 0 to 1.
    pub concealed_ratio: f32,
    /// Delay that the playout adds.
    pub jitter_buffer: Duration,
    /// Payload bits of the last second.
    pub bitrate_bps: u64,
    /// RMS of the last second, dBFS.
    pub level_dbfs: Option<f32>,
    /// Strongest tone of the last second, Hz, where one stands out.
    pub tone_hz: Option<f32>,
    /// Channels of what was played last; `None` before anything was.
    pub channels: Option<u8>,
    /// Interarrival jitter.
    pub jitter: Duration,
    /// Redundant copies (RED) received.
    pub red_copies: u64,
    /// Packets recovered from them.
    pub red_recovered: u64,
    /// How much later sound is heard than its picture is shown, milliseconds; negative if it is
    /// early. `None` without both, or without the sender's reports.
    pub av_offset_ms: Option<f32>,
    /// The same measured in pixels and samples, where the other side's picture flashes and its
    /// sound beeps (synthetic sources); `None` elsewhere, and in the first seconds.
    pub flash_and_beep: Option<SyncFigures>,
}

/// How much later beeps were heard than their flashes were shown, milliseconds; negative if earlier.
/// Of the last two minutes, without the first five seconds, in which playout settles.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SyncFigures {
    /// Flashes with their beep.
    pub count: usize,
    /// Median.
    pub p50_ms: f32,
    /// Where sound was earliest.
    pub min_ms: f32,
    /// Where sound was latest.
    pub max_ms: f32,
}

/// From the join command (or, for `first_frame_after_peer`, from the peer's arrival) to each step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct SetupTimes {
    /// The WebSocket is open.
    pub websocket: Option<Duration>,
    /// The seat is taken.
    pub joined: Option<Duration>,
    /// The other side is known.
    pub remote_peer: Option<Duration>,
    /// It is known who the remote peer is.
    pub authenticated: Option<Duration>,
    /// Offer and answer are both set.
    pub negotiated: Option<Duration>,
    /// ICE is connected.
    pub ice_connected: Option<Duration>,
    /// DTLS is connected.
    pub dtls_connected: Option<Duration>,
    /// First sound.
    pub first_audio: Option<Duration>,
    /// First decoded picture.
    pub first_video_frame: Option<Duration>,
}

/// One second of the call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct HistoryPoint {
    /// Seconds since the join command.
    pub at_s: f32,
    /// Video payload bits sent in this second.
    pub video_sent_bps: u64,
    /// Video target of this second.
    pub video_target_bps: u64,
    /// Video payload bits received in this second.
    pub video_received_bps: u64,
    /// RTT of the selected pair, ms.
    pub rtt_ms: Option<f32>,
    /// Pictures decoded in this second.
    pub fps_received: f32,
}

/// One line of the event log.
// `Eq` lets an `Arc` of them compare by address first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogEntry {
    /// Since the join command (or the engine's start).
    pub at: Duration,
    /// Which part speaks: `signaling`, `call`, `ice`, `dtls`, `media`, `device`.
    pub topic: &'static str,
    /// What happened.
    pub text: String,
}
