//! [`Peer`]: one connection. Its methods may be called from any task of the runtime it was made
//! on; they wait for the driver's lock only, never for the network.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use rtc::data_channel::RTCDataChannelInit;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use tokio::sync::mpsc;
use visavis_media::{Bitrate, ReceivedRtp, VideoCodec};
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::peer_connection::{PeerConnection, PeerConnectionBuilder, StatsSelector};

use crate::clock::MediaClock;
use crate::codecs;
use crate::congestion::NetworkEstimate;
use crate::disclosure::Disclosure;
use crate::error::RtcError;
use crate::ice::{self, IceGeneration, LocalAddresses};
use crate::payload_types::VideoCodecs;
use crate::receive::RtpCallback;
use crate::runtime::NetRuntime;
use crate::send::{AudioSender, VideoSender};
use crate::session::{LocalStreams, Session};
use crate::stats::{self, PeerStats};
use crate::turn::StreamRelays;
use crate::types::{AddressPolicy, Arrivals, IceServer, MediaKind, PeerEvent};

use events::{Handler, run_channel};
use negotiation::Negotiation;

mod events;
#[cfg(test)]
mod hostile_tests;
mod negotiation;

/// How TLS to relays is done and what it trusts.
pub type RelayTls = Arc<rustls::ClientConfig>;

/// How a peer is set up.
#[derive(Debug, Clone)]
pub struct PeerConfig {
    /// STUN and TURN servers.
    pub ice_servers: Vec<IceServer>,
    /// What `turns:` relays are trusted by; without it they cannot be used.
    pub relay_tls: Option<RelayTls>,
    /// Which addresses of this machine are told.
    pub addresses: AddressPolicy,
    /// The clock of arrival times, shared with capture and playout.
    pub clock: MediaClock,
    /// The video codecs that this machine encodes and decodes, at least one, the preferred first. What the remote
    /// peer prefers decides what is sent to it ([`VideoSender::codecs`]). Default: [`VideoCodec::ALL`].
    pub video_codecs: Vec<VideoCodec>,
    /// The most that video may take at first, headers and parity not included ([`VideoSender::set_max_bitrate`]).
    /// Default: 2.5 Mbps.
    pub max_bitrate: Option<Bitrate>,
    /// Tests lose packets here: called with each outgoing RTP packet's SSRC and sequence number.
    #[cfg(test)]
    pub(crate) lose: Option<crate::loss_tests::Lottery>,
}

impl Default for PeerConfig {
    fn default() -> Self {
        Self {
            ice_servers: Vec::new(),
            relay_tls: None,
            addresses: AddressPolicy::default(),
            clock: MediaClock::default(),
            video_codecs: VideoCodec::ALL.to_vec(),
            max_bitrate: None,
            #[cfg(test)]
            lose: None,
        }
    }
}

/// One connection to one other person: a sendrecv audio and a sendrecv video stream and a data
/// channel, there from the start. Dropping it closes the connection without saying goodbye;
/// [`Peer::close`] is polite.
pub struct Peer {
    pc: Arc<dyn PeerConnection>,
    session: Arc<Session>,
    relays: Arc<StreamRelays>,
    video: VideoSender,
    audio: AudioSender,
    video_track: Arc<TrackLocalStaticRTP>,
    messages: mpsc::Sender<String>,
    channel_open: Arc<AtomicBool>,
    local_ice: Arc<Mutex<IceGeneration>>,
    negotiation: tokio::sync::Mutex<Negotiation>,
    last_keyframe_request: Mutex<Option<Instant>>,
    channel_task: tokio::task::JoinHandle<()>,
    direct_task: Option<tokio::task::JoinHandle<()>>,
    disclosure: Arc<Disclosure>,
    policy: AddressPolicy,
    video_codecs: VideoCodecs,
    /// The machine's addresses when it was made.
    addresses: Vec<SocketAddr>,
}

impl Peer {
    /// Makes a connection in state `new`; nothing is sent before a description is set.
    ///
    /// `events` is bounded by its maker; when it is full events are dropped and counted
    /// ([`PeerStats::dropped_events`]). The two callbacks get every packet as it arrives, in the
    /// network task: they must return at once.
    ///
    /// # Errors
    ///
    /// [`RtcError::Stack`] if no socket can be bound or a server URL is malformed.
    pub async fn new(
        config: PeerConfig,
        events: mpsc::Sender<PeerEvent>,
        video_rtp: impl Fn(ReceivedRtp) + Send + Sync + 'static,
        audio_rtp: impl Fn(ReceivedRtp) + Send + Sync + 'static,
    ) -> Result<Self, RtcError> {
        let random = random_start()?;
        let [audio, video, rtx, parity] = random.ssrcs;
        let local = LocalStreams { audio, video, rtx, parity };
        let video_codecs = config.video_codecs.into_iter().collect::<VideoCodecs>();
        let mut ice_servers = config.ice_servers;
        let mut urls = ice_servers.iter().flat_map(|server| &server.urls);
        let uses_turn = urls.any(|url| url.starts_with("turn"));
        let relays = Arc::new(StreamRelays::divert(&mut ice_servers, config.relay_tls));
        let relay_only = config.addresses == AddressPolicy::RelayOnly;
        let session = Arc::new(Session::new(config.clock, local, events, uses_turn, relay_only));
        let disclosure = Arc::new(Disclosure::new(config.addresses, relays.clone()));
        let video_rtp: RtpCallback = Arc::new(video_rtp);
        if let Some(bitrate) = config.max_bitrate {
            session.set_max_video_bps(bitrate.as_bps());
        }
        let registry =
            codecs::interceptors(&session, video_rtp, Arc::new(audio_rtp), random.sequences);
        #[cfg(test)]
        let registry = crate::loss_tests::add_to(registry, config.lose.clone());

        let local_ice = Arc::new(Mutex::new(IceGeneration::default()));
        let handler = Handler {
            session: session.clone(),
            local_ice: local_ice.clone(),
            disclosure: disclosure.clone(),
            unasked_channels: AtomicUsize::new(0),
        };
        let pc = PeerConnectionBuilder::new()
            .with_configuration(ice::configuration(&ice_servers, config.addresses))
            .with_media_engine(codecs::media_engine(video_codecs)?)
            .with_setting_engine(ice::settings(config.addresses))
            .with_interceptor_registry(registry)
            .with_handler(Arc::new(handler))
            .with_runtime(Arc::new(NetRuntime::new(session.clone(), relays.clone())))
            .with_udp_addrs(vec![LocalAddresses])
            .with_data_channel_send_buffer_limit(CHANNEL_BUFFER_BYTES)
            .build()
            .await
            .map_err(RtcError::stack("creating the connection"))?;
        let pc: Arc<dyn PeerConnection> = Arc::new(pc);

        let add_track = async |kind| {
            let track = Arc::new(TrackLocalStaticRTP::new(codecs::local_track(kind, local)));
            pc.add_track(track.clone() as Arc<dyn TrackLocal>)
                .await
                .map_err(RtcError::stack("adding a track"))?;
            Ok::<_, RtcError>(track)
        };
        let audio_track = add_track(MediaKind::Audio).await?;
        let video_track = add_track(MediaKind::Video).await?;
        let channel_init = RTCDataChannelInit {
            ordered: true,
            negotiated: Some(CHANNEL_ID),
            ..Default::default()
        };
        let channel = pc
            .create_data_channel(CHANNEL_LABEL, Some(channel_init))
            .await
            .map_err(RtcError::stack("creating the data channel"))?;

        let (messages, outgoing) = mpsc::channel(MESSAGE_QUEUE);
        let channel_open = Arc::new(AtomicBool::new(false));
        let channel_task =
            tokio::spawn(run_channel(channel, outgoing, session.clone(), channel_open.clone()));
        let direct_task = (!relay_only).then(|| {
            let (known, tell) = (session.clone(), session.clone());
            let is_tcp = move |address| known.tcp.is_end(address);
            let moved = move |direct| tell.emit(PeerEvent::DirectPath(direct));
            tokio::spawn(session.direct.clone().run(pc.clone(), is_tcp, moved))
        });
        Ok(Self {
            video: VideoSender::new(session.clone(), video_track.clone(), random.timestamps[0]),
            audio: AudioSender::new(session.clone(), audio_track, random.timestamps[1]),
            pc,
            session,
            relays,
            video_track,
            messages,
            channel_open,
            local_ice,
            negotiation: tokio::sync::Mutex::default(),
            last_keyframe_request: Mutex::new(None),
            channel_task,
            direct_task,
            disclosure,
            policy: config.addresses,
            video_codecs,
            addresses: ice::local_addresses(),
        })
    }

    /// The handle that sends video; clones may move to the encoder's thread.
    pub fn video_sender(&self) -> VideoSender {
        self.video.clone()
    }

    /// The handle that sends audio; clones may move to the audio thread.
    pub fn audio_sender(&self) -> AudioSender {
        self.audio.clone()
    }

    /// Sends a text message on the data channel, in order with the others.
    ///
    /// # Errors
    ///
    /// [`RtcError::ChannelNotOpen`], [`RtcError::ChannelBusy`] when the queue is full, or
    /// [`RtcError::MessageTooLong`].
    pub fn send_message(&self, text: &str) -> Result<(), RtcError> {
        if text.len() > MAX_MESSAGE_BYTES {
            return Err(RtcError::MessageTooLong { bytes: text.len() });
        }
        if !self.channel_open.load(Ordering::Relaxed) {
            return Err(RtcError::ChannelNotOpen);
        }
        self.messages.try_send(text.to_owned()).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => RtcError::ChannelBusy,
            mpsc::error::TrySendError::Closed(_) => RtcError::ChannelNotOpen,
        })
    }

    /// Asks the remote side for a keyframe (PLI, RFC 4585 §6.3.1). Requests sooner than
    /// a round trip, and at least 150 ms, after the last one are left out;
    /// says whether one was sent.
    pub fn request_keyframe(&self) -> bool {
        let media_ssrc = self.session.remote_video_ssrc.load(Ordering::Relaxed);
        if media_ssrc == 0 {
            return false;
        }
        let now = Instant::now();
        let interval = self.session.rtt().unwrap_or_default().max(KEYFRAME_REQUEST_INTERVAL);
        let mut last = self.last_keyframe_request.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|last| now < last + interval) {
            return false;
        }
        let pli = PictureLossIndication { sender_ssrc: self.session.local.video, media_ssrc };
        let sent = self.video_track.write_rtcp(vec![Box::new(pli)]).now_or_never();
        let sent = matches!(sent, Some(Ok(())));
        if sent {
            *last = Some(now);
        }
        sent
    }

    /// What is known of the path to the other side.
    pub fn network(&self) -> NetworkEstimate {
        self.session.network()
    }

    /// What has come so far.
    pub fn arrivals(&self) -> Arrivals {
        let counters = self.session.counters();
        let rtp = counters.inbound.audio.packets_received + counters.inbound.video.packets_received;
        Arrivals { packets: rtp + counters.rtcp_received, feedback: counters.feedback_received }
    }

    /// A snapshot of everything known about the connection.
    pub async fn stats(&self) -> PeerStats {
        let report = self.pc.get_stats(Instant::now(), StatsSelector::None).await;
        let mut candidates = (Vec::new(), Vec::new());
        if let Some(sctp) = self.pc.sctp().await {
            let ice = sctp.transport().ice_transport();
            candidates = (
                ice.get_local_candidates().await.unwrap_or_default(),
                ice.get_remote_candidates().await.unwrap_or_default(),
            );
        }
        let mut stats = stats::gather(&report, candidates, &self.session);
        if let Some(active) = self.session.direct.active() {
            stats::steer(&mut stats, &active);
        }
        stats::name_tcp(&mut stats, |address| self.session.tcp.is_end(address));
        for candidate in stats.local_candidates.iter_mut().filter(|c| c.candidate_type == "relay") {
            let address = candidate.address.parse().map(|ip| SocketAddr::new(ip, candidate.port));
            if let Some(url) = address.ok().and_then(|address| self.relays.url_of(address)) {
                candidate.url = url;
            }
        }
        if let Some(rtt) = stats.selected_pair().and_then(|pair| pair.current_round_trip_time_s)
            && stats.outbound_video.round_trip_time_s.is_none()
            && stats.outbound_audio.round_trip_time_s.is_none()
        {
            // Who only receives has no report blocks to measure with.
            self.session.set_rtt(Duration::from_secs_f64(rtt.clamp(0.0, 60.0)));
        }
        stats
    }

    /// Closes the connection; no callback and no event comes after that.
    pub async fn close(&self) {
        self.session.closed.store(true, Ordering::Relaxed);
        if let Err(error) = self.pc.close().await {
            tracing::debug!(%error, "closing the connection");
        }
        self.stop_tasks();
    }

    fn stop_tasks(&self) {
        self.channel_task.abort();
        if let Some(task) = &self.direct_task {
            task.abort();
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.session.closed.store(true, Ordering::Relaxed);
        self.stop_tasks();
        let pc = self.pc.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { pc.close().await });
        }
    }
}

/// Random starting points (RFC 3550 §5.1, §8.1).
struct RandomStart {
    ssrcs: [u32; 4],
    timestamps: [u32; 2],
    sequences: (u16, u16),
}

fn random_start() -> Result<RandomStart, RtcError> {
    let mut bytes = [0u8; 28];
    getrandom::fill(&mut bytes)
        .map_err(|e| RtcError::Stack { operation: "random numbers", message: e.to_string() })?;
    let word =
        |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    // Zero means "none" in places, and they must differ.
    let ssrcs = [word(0) << 2 | 1, word(4) << 2 | 2, (word(24) << 2).max(4), word(20) << 2 | 3];
    // The first sequence number in the lower half, so that early packets do not wrap
    // (RFC 3711 §3.3.1: losing them across a wrap would confuse SRTP's rollover counter).
    Ok(RandomStart {
        ssrcs,
        timestamps: [word(8), word(12)],
        sequences: (half(16) & 0x7fff, half(18) & 0x7fff),
    })
}

/// The label of the data channel, negotiated as [`CHANNEL_ID`] by both sides.
const CHANNEL_LABEL: &str = "visavis";
const CHANNEL_ID: u16 = 0;
/// Messages that may wait for the channel; when full [`RtcError::ChannelBusy`].
const MESSAGE_QUEUE: usize = 64;
/// Bytes SCTP may hold unacknowledged.
const CHANNEL_BUFFER_BYTES: usize = 1 << 20;
/// What every WebRTC peer accepts (RFC 8831 §6.6).
const MAX_MESSAGE_BYTES: usize = 16 * 1024;
/// Least time between two keyframe requests: an encoder's answer takes a frame or two.
const KEYFRAME_REQUEST_INTERVAL: Duration = Duration::from_millis(150);
