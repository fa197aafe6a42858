//! [`Peer`]: one connection. Its methods may be called from any task of the runtime it was made
//! on; they wait for the driver's lock only, never for the network.

use std::future::Future;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use rtc::data_channel::RTCDataChannelInit;
use rtc::peer_connection::configuration::RTCOfferOptions;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtp_transceiver::RTCRtpTransceiverDirection;
use rtc::rtp_transceiver::rtp_sender::{RTCRtpCodecParameters, RtpCodecKind};
use tokio::sync::mpsc;
use visavis_media::{Bitrate, ReceivedRtp};
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionBuilder, RTCIceCandidateInit, RTCSdpType, RTCSessionDescription,
    StatsSelector,
};

use crate::answer::{self, Role};
use crate::clock::MediaClock;
use crate::codecs;
use crate::congestion::NetworkEstimate;
use crate::disclosure::Disclosure;
use crate::error::RtcError;
use crate::ice::{self, IceGeneration, LocalAddresses};
use crate::parity;
use crate::receive::RtpCallback;
use crate::runtime::NetRuntime;
use crate::send::{AudioSender, VideoSender};
use crate::session::{LocalStreams, Session};
use crate::stats::{self, PeerStats};
use crate::tcp;
use crate::turn::StreamRelays;
use crate::types::{
    AddressPolicy, Arrivals, Candidate, Description, IceServer, MediaKind, PeerEvent, SdpKind,
};

use events::{Handler, run_channel};

mod events;

/// How TLS to relays is done and what it trusts.
pub type RelayTls = Arc<rustls::ClientConfig>;

/// How a peer is set up.
#[derive(Debug, Clone, Default)]
pub struct PeerConfig {
    /// STUN and TURN servers.
    pub ice_servers: Vec<IceServer>,
    /// What `turns:` relays are trusted by; without it they cannot be used.
    pub relay_tls: Option<RelayTls>,
    /// Which addresses of this machine are told.
    pub addresses: AddressPolicy,
    /// The clock of arrival times, shared with capture and playout.
    pub clock: MediaClock,
    /// The most that video may take, headers and parity not included. Default: 2.5 Mbps.
    pub max_bitrate: Option<Bitrate>,
    /// Tests lose packets here: called with each outgoing RTP packet's SSRC and sequence number.
    #[cfg(test)]
    pub(crate) lose: Option<crate::loss_tests::Lottery>,
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
    /// The machine's addresses when it was made.
    addresses: Vec<SocketAddr>,
}

/// What belongs to the exchange of descriptions.
#[derive(Debug, Default)]
struct Negotiation {
    /// The remote generation; `None` before the first remote description.
    remote: Option<IceGeneration>,
    /// What `remote` was before the pending remote offer.
    before_offer: Option<Option<IceGeneration>>,
    /// Candidates that came before the description they belong to.
    early: Vec<Candidate>,
    /// An own offer to restart ICE that is applied with its answer.
    held_offer: Option<RTCSessionDescription>,
    /// Ours in DTLS, once it is settled.
    role: Option<Role>,
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
        let [audio, video, parity] = random.ssrcs;
        let local = LocalStreams { audio, video, parity };
        let mut ice_servers = config.ice_servers;
        let mut urls = ice_servers.iter().flat_map(|server| &server.urls);
        let uses_turn = urls.any(|url| url.starts_with("turn"));
        let relays = Arc::new(StreamRelays::divert(&mut ice_servers, config.relay_tls));
        let relay_only = config.addresses == AddressPolicy::RelayOnly;
        let session = Arc::new(Session::new(config.clock, local, events, uses_turn, relay_only));
        let disclosure = Arc::new(Disclosure::new(config.addresses));
        let video_rtp: RtpCallback = Arc::new(video_rtp);
        let max_bitrate = config.max_bitrate.unwrap_or(DEFAULT_MAX_BITRATE);
        #[expect(clippy::cast_precision_loss, reason = "a bitrate")]
        let max_video_bps = max_bitrate.as_bps() as f64;
        let registry = codecs::interceptors(
            &session,
            video_rtp,
            Arc::new(audio_rtp),
            random.sequences,
            max_video_bps,
        );
        #[cfg(test)]
        let registry = crate::loss_tests::add_to(registry, config.lose.clone());

        let local_ice = Arc::new(Mutex::new(IceGeneration::default()));
        let handler = Handler {
            session: session.clone(),
            local_ice: local_ice.clone(),
            disclosure: disclosure.clone(),
        };
        let pc = PeerConnectionBuilder::new()
            .with_configuration(ice::configuration(&ice_servers, config.addresses))
            .with_media_engine(codecs::media_engine()?)
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

        let add_track = async |kind, ssrc| {
            let track = Arc::new(TrackLocalStaticRTP::new(codecs::local_track(kind, ssrc)));
            pc.add_track(track.clone() as Arc<dyn TrackLocal>)
                .await
                .map_err(RtcError::stack("adding a track"))?;
            Ok::<_, RtcError>(track)
        };
        let audio_track = add_track(MediaKind::Audio, local.audio).await?;
        let video_track = add_track(MediaKind::Video, local.video).await?;
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
            let tell = session.clone();
            let moved = move |direct| tell.emit(PeerEvent::DirectPath(direct));
            tokio::spawn(session.direct.clone().run(pc.clone(), moved))
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
            addresses: ice::local_addresses(),
        })
    }

    /// Makes an offer and sets it as the local description (W3C `setLocalDescription()`).
    /// With `ice_restart` new sockets are bound and new candidates gathered at once, so media
    /// pauses until the answer: restart when the path is broken, not to be safe.
    ///
    /// # Errors
    ///
    /// [`RtcError::Stack`] in any signaling state but `stable`.
    pub async fn create_offer(&self, ice_restart: bool) -> Result<Description, RtcError> {
        let mut negotiation = self.negotiation.lock().await;
        // The stack has taken up that one's credentials and would apply them without saying so.
        let ice_restart = negotiation.held_offer.take().is_some() || ice_restart;
        let options = RTCOfferOptions { ice_restart };
        let offer = guarded("creating an offer", self.pc.create_offer(Some(options))).await?;
        self.apply_local(offer, SdpKind::Offer).await
    }

    /// As [`Peer::create_offer`], before anybody is there to tell it to: candidates are gathered, and what NATs
    /// have opened for them is kept open until the other side is described.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn offer_ahead(&self) -> Result<Description, RtcError> {
        let offer = self.create_offer(false).await?;
        tokio::spawn(self.session.direct.clone().keep_open());
        Ok(offer)
    }

    /// Whether the machine has the addresses that candidates were gathered for.
    pub fn has_current_addresses(&self) -> bool {
        ice::local_addresses() == self.addresses
    }

    /// Makes an offer with an ICE restart that is applied only by [`Peer::set_remote`] with its
    /// answer: until then media goes on by the old pair, if that pair comes back. Candidates
    /// are gathered then, too. Another offer, ours or theirs, or [`Peer::rollback`] drops it.
    ///
    /// # Errors
    ///
    /// [`RtcError::Stack`] if the stack makes none.
    pub async fn offer_restart(&self) -> Result<Description, RtcError> {
        let mut negotiation = self.negotiation.lock().await;
        let options = RTCOfferOptions { ice_restart: true };
        let offer = guarded("creating an offer", self.pc.create_offer(Some(options))).await?;
        let told = self.told(SdpKind::Offer, &offer.sdp);
        negotiation.held_offer = Some(offer);
        Ok(told)
    }

    /// Makes the answer to the remote offer and sets it as the local description.
    ///
    /// # Errors
    ///
    /// [`RtcError::Stack`] in any signaling state but `have-remote-offer`.
    pub async fn create_answer(&self) -> Result<Description, RtcError> {
        let mut negotiation = self.negotiation.lock().await;
        let made = guarded("creating an answer", self.pc.create_answer(None)).await?;
        let mut description = self.apply_local(made, SdpKind::Answer).await?;
        description.sdp = answer::with_one_of_each(&description.sdp);
        match negotiation.role {
            Some(role) => description.sdp = role.put_into(&description.sdp),
            None => negotiation.role = Role::of(&description.sdp),
        }
        negotiation.before_offer = None;
        self.refresh_senders().await;
        self.await_connection();
        Ok(description)
    }

    /// Sets the remote description and then adds the candidates that came before it.
    ///
    /// # Errors
    ///
    /// [`RtcError::InvalidDescription`] if it cannot be parsed, [`RtcError::Stack`] if it does not
    /// fit: an offer while ours is pending wants [`Peer::rollback`] first. [`RtcError::Broken`]
    /// means that the connection is to be given up.
    pub async fn set_remote(&self, description: Description) -> Result<(), RtcError> {
        if description.sdp.len() > MAX_SDP_BYTES {
            return Err(RtcError::InvalidDescription("too long".into()));
        }
        let mut negotiation = self.negotiation.lock().await;
        if let Some(offer) = negotiation.held_offer.take()
            && description.kind == SdpKind::Answer
        {
            self.apply_local(offer, SdpKind::Offer).await?;
        }
        let generation = IceGeneration::of(&description.sdp);
        let parity = parity::is_announced(&description.sdp);
        let kind = description.kind;
        let was_connected = self.session.direct.is_selected();
        if negotiation.remote.as_ref() != Some(&generation) {
            self.session.restart_ice();
        }
        let (sdp, over_tcp) = tcp::take_out(&description.sdp);
        self.session.direct.remote_description(&sdp);
        let applied = guarded("applying the remote description", async {
            let parsed = match kind {
                SdpKind::Offer => RTCSessionDescription::offer(sdp),
                SdpKind::Answer => RTCSessionDescription::answer(sdp),
            };
            match parsed {
                Ok(parsed) => self.pc.set_remote_description(parsed).await.map(Ok),
                Err(e) => Ok(Err(RtcError::InvalidDescription(e.to_string()))),
            }
        })
        .await
        .and_then(|result| result);
        if applied.is_err() && was_connected {
            // Nothing began anew.
            self.session.direct.connected();
        }
        applied?;
        self.session.direct.described();
        self.session.parity.store(parity, Ordering::Relaxed);
        let previous = negotiation.remote.replace(generation);
        negotiation.before_offer = (kind == SdpKind::Offer).then_some(previous);
        let first_mid = negotiation.remote.as_ref().and_then(|remote| remote.first_mid.clone());
        let over_tcp = over_tcp.into_iter().filter(|line| ice::validate(line).is_ok());
        let over_tcp = over_tcp.map(|candidate| Candidate {
            candidate,
            sdp_mid: first_mid.clone(),
            ..Candidate::default()
        });
        let early = std::mem::take(&mut negotiation.early);
        for candidate in over_tcp.chain(early) {
            if let Err(error) = self.add_to_stack(&negotiation, candidate).await {
                tracing::warn!(%error, "early candidate refused");
            }
        }
        if kind == SdpKind::Answer {
            negotiation.role = negotiation.role.or(Role::of(&description.sdp).map(Role::other));
            self.refresh_senders().await;
            self.await_connection();
        }
        Ok(())
    }

    /// Takes back the pending offer, ours or theirs (W3C rollback).
    ///
    /// # Errors
    ///
    /// [`RtcError::NothingPending`] if there is none.
    pub async fn rollback(&self) -> Result<(), RtcError> {
        let mut negotiation = self.negotiation.lock().await;
        if negotiation.held_offer.take().is_some() {
            return Ok(());
        }
        let mut rollback = RTCSessionDescription::default();
        rollback.sdp_type = RTCSdpType::Rollback;
        if self.pc.pending_local_description().await.is_some() {
            guarded("rolling back", self.pc.set_local_description(rollback)).await?;
            self.remember_local().await;
        } else if self.pc.pending_remote_description().await.is_some() {
            guarded("rolling back", self.pc.set_remote_description(rollback)).await?;
            if let Some(previous) = negotiation.before_offer.take() {
                negotiation.remote = previous;
            }
        } else {
            return Err(RtcError::NothingPending);
        }
        self.refresh_senders().await;
        Ok(())
    }

    /// Adds a remote candidate, or keeps it until there is a remote description. Candidates of an
    /// older ICE generation, those of TCP (RFC 6544) and the end-of-candidates mark are accepted and ignored.
    ///
    /// # Errors
    ///
    /// [`RtcError::InvalidCandidate`] if it cannot be used, [`RtcError::TooManyCandidates`] if too
    /// many wait already.
    pub async fn add_candidate(&self, candidate: Candidate) -> Result<(), RtcError> {
        if candidate.candidate.is_empty() {
            return Ok(());
        }
        ice::validate(&candidate.candidate)?;
        let mut negotiation = self.negotiation.lock().await;
        if negotiation.remote.is_some() {
            return self.add_to_stack(&negotiation, candidate).await;
        }
        if negotiation.early.len() >= MAX_EARLY_CANDIDATES {
            return Err(RtcError::TooManyCandidates);
        }
        negotiation.early.push(candidate);
        Ok(())
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

    async fn apply_local(
        &self,
        description: RTCSessionDescription,
        kind: SdpKind,
    ) -> Result<Description, RtcError> {
        let sdp = description.sdp.clone();
        // Before it is set: candidates are gathered at once and carry its user name fragment.
        self.set_local_ice(IceGeneration::of(&sdp));
        guarded("applying the local description", self.pc.set_local_description(description))
            .await?;
        Ok(self.told(kind, &sdp))
    }

    /// A description as the other side gets it.
    fn told(&self, kind: SdpKind, sdp: &str) -> Description {
        let told = self.disclosure.description(sdp);
        Description { kind, sdp: parity::announce(&codecs::prefer_red(&told)) }
    }

    async fn remember_local(&self) {
        if let Some(current) = self.pc.current_local_description().await {
            self.set_local_ice(IceGeneration::of(&current.sdp));
        }
    }

    fn set_local_ice(&self, generation: IceGeneration) {
        let mut local = self.local_ice.lock().unwrap_or_else(PoisonError::into_inner);
        if *local != generation {
            self.session.restart_ice();
            self.session.direct.local_description(generation.ufrag().unwrap_or_default());
            *local = generation;
        }
    }

    async fn add_to_stack(
        &self,
        negotiation: &Negotiation,
        candidate: Candidate,
    ) -> Result<(), RtcError> {
        if !negotiation.remote.as_ref().is_some_and(|remote| remote.includes(&candidate)) {
            tracing::debug!("candidate of another ICE generation ignored");
            return Ok(());
        }
        let Some(candidate) = self.session.tcp.filter(candidate) else { return Ok(()) };
        self.session.direct.remote_candidate(&candidate.candidate);
        tell_stack(self.pc.as_ref(), candidate).await
    }

    /// Both sides are described: if nothing connects, the stack hears of candidates of TCP.
    fn await_connection(&self) {
        let (session, pc) = (self.session.clone(), self.pc.clone());
        tokio::spawn(async move {
            for candidate in session.tcp.needed(|| session.direct.is_selected()).await {
                tracing::debug!(candidate.candidate, "nothing else connects");
                if let Err(error) = tell_stack(pc.as_ref(), candidate).await {
                    tracing::warn!(%error, "candidate of TCP refused");
                }
            }
        });
    }

    /// Tells the sending handles what was negotiated.
    async fn refresh_senders(&self) {
        let (mut audio, mut video, mut red) = (None, None, None);
        for transceiver in self.pc.get_transceivers().await {
            let Ok(Some(sender)) = transceiver.sender().await else { continue };
            let direction = transceiver.current_direction().await.unwrap_or_default();
            let sends = matches!(
                direction,
                RTCRtpTransceiverDirection::Sendrecv | RTCRtpTransceiverDirection::Sendonly
            );
            if !sends {
                continue;
            }
            let Ok(parameters) = sender.get_parameters().await else { continue };
            let codec = |c: &RTCRtpCodecParameters, subtype: &str| {
                let (_, theirs) = c.rtp_codec.mime_type.split_once('/').unwrap_or_default();
                theirs.eq_ignore_ascii_case(subtype)
            };
            let codecs = &parameters.rtp_parameters.codecs;
            let find = |subtype| codecs.iter().find(|c| codec(c, subtype)).map(|c| c.payload_type);
            match sender.track().kind().await {
                RtpCodecKind::Audio => {
                    audio = find("opus");
                    // Around the same Opus only; more levels than we know are the sender's matter.
                    let inner = audio.map(|opus| format!("{opus}/"));
                    red = codecs
                        .iter()
                        .find(|c| codec(c, "red"))
                        .filter(|c| {
                            inner.is_some_and(|i| c.rtp_codec.sdp_fmtp_line.starts_with(&i))
                        })
                        .map(|c| c.payload_type);
                }
                RtpCodecKind::Video => video = find("h264"),
                _ => {}
            }
        }
        self.session.opus_payload_type.store(audio.unwrap_or(0), Ordering::Relaxed);
        self.session.red_payload_type.store(red.unwrap_or(0), Ordering::Relaxed);
        self.audio.set_payload_type(audio);
        self.video.set_payload_type(video);
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

/// Gives the stack a candidate of the other side.
async fn tell_stack(pc: &dyn PeerConnection, candidate: Candidate) -> Result<(), RtcError> {
    let init = RTCIceCandidateInit {
        candidate: candidate.candidate,
        sdp_mid: candidate.sdp_mid,
        sdp_mline_index: candidate.sdp_m_line_index,
        username_fragment: candidate.username_fragment,
        url: None,
    };
    guarded("adding a candidate", pc.add_ice_candidate(init)).await.map_err(|e| match e {
        RtcError::Stack { message, .. } => RtcError::InvalidCandidate(message),
        other => other,
    })
}

/// Runs an operation of the stack; a panic on the remote side's input becomes an error.
async fn guarded<T>(
    operation: &'static str,
    run: impl Future<Output = Result<T, webrtc::error::Error>>,
) -> Result<T, RtcError> {
    // The stack's locks are not poisoned by a panic; after one the connection is given up.
    match AssertUnwindSafe(run).catch_unwind().await {
        Ok(result) => result.map_err(RtcError::stack(operation)),
        Err(_) => Err(RtcError::Broken { operation }),
    }
}

/// Random starting points (RFC 3550 §5.1, §8.1).
struct RandomStart {
    ssrcs: [u32; 3],
    timestamps: [u32; 2],
    sequences: (u16, u16),
}

fn random_start() -> Result<RandomStart, RtcError> {
    let mut bytes = [0u8; 24];
    getrandom::fill(&mut bytes)
        .map_err(|e| RtcError::Stack { operation: "random numbers", message: e.to_string() })?;
    let word =
        |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    // Zero means "none" in places, and they must differ.
    let ssrcs = [word(0) << 2 | 1, word(4) << 2 | 2, word(20) << 2 | 3];
    // The first sequence number in the lower half, so that early packets do not wrap
    // (RFC 3711 §3.3.1: losing them across a wrap would confuse SRTP's rollover counter).
    Ok(RandomStart {
        ssrcs,
        timestamps: [word(8), word(12)],
        sequences: (half(16) & 0x7fff, half(18) & 0x7fff),
    })
}

const DEFAULT_MAX_BITRATE: Bitrate = Bitrate::from_kbps(2_500);
/// The label of the data channel, negotiated as [`CHANNEL_ID`] by both sides.
const CHANNEL_LABEL: &str = "visavis";
const CHANNEL_ID: u16 = 0;
/// Messages that may wait for the channel; when full [`RtcError::ChannelBusy`].
const MESSAGE_QUEUE: usize = 64;
/// Bytes SCTP may hold unacknowledged.
const CHANNEL_BUFFER_BYTES: usize = 1 << 20;
/// What every WebRTC peer accepts (RFC 8831 §6.6).
const MAX_MESSAGE_BYTES: usize = 16 * 1024;
/// Chromium's offers with all codecs take about 10 kB.
const MAX_SDP_BYTES: usize = 128 * 1024;
/// Candidates that may come before the first description.
const MAX_EARLY_CANDIDATES: usize = 64;
/// Least time between two keyframe requests: an encoder's answer takes a frame or two.
const KEYFRAME_REQUEST_INTERVAL: Duration = Duration::from_millis(150);
