//! One peer connection and the task that makes it and works for it; the engine's loop waits for neither.
//!
//! Operations run one at a time in order. Events of the connection wait meanwhile, so that an offer
//! is always reported before the candidates that belong to it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::sync::{OnceCell, mpsc};
use visavis_call::{Epoch, Input, Operation};
use visavis_media::files::Y4mWriter;
use visavis_media::jitter::JitterBuffer;
use visavis_media::{Bitrate, VideoCodec};
use visavis_rtc as rtc;
use visavis_rtc::{AddressPolicy, MediaClock, Peer, PeerConfig, PeerEvent, RelayTls};
use visavis_signaling_client::CertificateFingerprint;
use visavis_signaling_protocol::{IceCandidateInit, IceServer, SdpType, SessionDescription};

use crate::VideoSlot;
use crate::audio_receive::AudioQueue;
use crate::error::{DeviceError, PeerError};
use crate::lip_sync::SharedSync;
use crate::prepared_peer::PreparedPeer;
use crate::receive::{ReceiveEvents, VideoReceive};
use crate::run_loop::{Internal, Tag};

/// Operations waiting; a remote side that floods us with candidates loses those beyond.
const OPERATIONS: usize = 256;
/// Events waiting while an operation runs.
const EVENTS: usize = 256;

/// What a peer connection is made from.
#[derive(Clone)]
pub(crate) struct PeerParts {
    pub(crate) clock: MediaClock,
    pub(crate) reports: mpsc::Sender<Internal>,
    pub(crate) ice_servers: Vec<IceServer>,
    pub(crate) relay_tls: Arc<RelayCertificates>,
    pub(crate) addresses: AddressPolicy,
    pub(crate) max_bitrate: Bitrate,
    pub(crate) video_codecs: Vec<VideoCodec>,
    pub(crate) slot: VideoSlot,
    pub(crate) display_file: Option<Arc<Mutex<Y4mWriter>>>,
    pub(crate) decode_delay: Duration,
}

/// Which certificates relays are believed by. The system's are read once, and only if a relay needs them.
pub(crate) struct RelayCertificates {
    trusted_certificate: Option<CertificateFingerprint>,
    read: OnceCell<RelayTls>,
}

impl RelayCertificates {
    pub(crate) fn new(trusted_certificate: Option<CertificateFingerprint>) -> Self {
        Self { trusted_certificate, read: OnceCell::new() }
    }

    /// `None` if none of the servers needs them, or if they cannot be read.
    async fn for_servers(&self, servers: &[IceServer]) -> Option<RelayTls> {
        let mut urls = servers.iter().flat_map(|server| &server.urls);
        if !urls.any(|url| url.starts_with("turns:")) {
            return None;
        }
        let trusted = self.trusted_certificate;
        let read = || async move {
            // Some tens of milliseconds of file system and parsing.
            let load = move || visavis_signaling_client::relay_tls(trusted);
            match tokio::task::spawn_blocking(load).await {
                Ok(Ok(tls)) => Ok(tls),
                Ok(Err(error)) => {
                    tracing::warn!(%error, "no TLS to relays");
                    Err(())
                }
                // A panic was told by its hook; else the program ends.
                Err(_) => Err(()),
            }
        };
        self.read.get_or_try_init(read).await.ok().cloned()
    }
}

/// A peer connection as the engine's loop has it.
pub(crate) struct PeerHandle {
    pub(crate) epoch: Epoch,
    /// `None` while it is being made; operations wait for it.
    pub(crate) connection: Option<PeerConnection>,
    operations: mpsc::Sender<Operation>,
}

/// The running connection; its owner closes `peer`.
pub(crate) struct PeerConnection {
    pub(crate) peer: Arc<Peer>,
    pub(crate) video: VideoReceive,
    pub(crate) sync: SharedSync,
    pub(crate) gate: Arc<Gate>,
}

/// A connection that its task has just made, for its owner.
pub(crate) struct MadePeer {
    pub(crate) connection: PeerConnection,
    pub(crate) audio: Arc<AudioQueue>,
    pub(crate) jitter: JitterBuffer,
}

/// Keeps what the remote peer sends from decoders until it is known who it is.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    is_open: AtomicBool,
    has_dropped: AtomicBool,
}

impl Gate {
    /// Lets packets pass from now on; whether some were dropped before.
    pub(crate) fn open(&self) -> bool {
        self.is_open.store(true, Ordering::Release);
        self.has_dropped.load(Ordering::Acquire)
    }

    fn passes(&self) -> bool {
        let passes = self.is_open.load(Ordering::Acquire);
        if !passes {
            self.has_dropped.store(true, Ordering::Release);
        }
        passes
    }
}

/// A connection that nobody works for yet.
pub(crate) struct IdlePeer {
    peer: Arc<Peer>,
    video: VideoReceive,
    sync: SharedSync,
    jitter: JitterBuffer,
    audio: Arc<AudioQueue>,
    reporter: Arc<Reporter>,
    events: mpsc::Receiver<PeerEvent>,
    gate: Arc<Gate>,
    /// Made before anybody came, and set locally.
    offer: Option<rtc::Description>,
}

impl IdlePeer {
    pub(crate) async fn new(parts: PeerParts) -> Result<Self, PeerError> {
        let (events_in, events) = mpsc::channel(EVENTS);
        let PeerParts {
            clock,
            reports,
            ice_servers,
            relay_tls,
            addresses,
            max_bitrate,
            video_codecs,
            slot,
            display_file,
            decode_delay,
        } = parts;
        let relay_tls = relay_tls.for_servers(&ice_servers).await;
        let reporter = Arc::new(Reporter { tag: OnceLock::new(), reports });
        let sync = SharedSync::default();
        let events_to = reporter.clone();
        let video =
            VideoReceive::start(clock, slot, display_file, events_to, sync.clone(), decode_delay)
                .map_err(PeerError::Thread)?;
        let jitter = JitterBuffer::new().map_err(PeerError::JitterBuffer)?;
        let config = PeerConfig {
            ice_servers: ice_servers.into_iter().map(to_rtc_server).collect(),
            relay_tls,
            addresses,
            clock,
            video_codecs,
            max_bitrate: Some(max_bitrate),
        };
        let gate = Arc::new(Gate::default());
        let audio = Arc::new(AudioQueue::default());
        let (queue, first, open) = (audio.clone(), reporter.clone(), gate.clone());
        let audio_sink = move |packet| {
            if open.passes() && queue.push(packet) {
                first.report(Internal::FirstAudio);
            }
        };
        let (decode, open) = (video.sink(), gate.clone());
        let video_sink = move |packet| {
            if open.passes() {
                decode(packet);
            }
        };
        let peer = Peer::new(config, events_in, video_sink, audio_sink)?;
        let peer = Arc::new(peer);
        Ok(Self { peer, video, sync, jitter, audio, reporter, events, gate, offer: None })
    }

    /// Makes the first offer, so that candidates are gathered; it is told when it is asked for.
    pub(crate) async fn offer_ahead(&mut self) -> Result<(), PeerError> {
        self.offer = Some(self.peer.create_offer(false).await?);
        Ok(())
    }

    pub(crate) fn peer(&self) -> Arc<Peer> {
        self.peer.clone()
    }

    /// Whether it is as one made now would be.
    pub(crate) fn is_fresh(&self) -> bool {
        self.peer.has_current_addresses()
    }

    pub(crate) async fn close(self) {
        self.peer.close().await;
    }
}

impl PeerHandle {
    /// Takes a peer connection that was prepared, or makes one. [`Internal::PeerMade`] or [`Internal::PeerFailed`]
    /// follows, before anything else of it.
    pub(crate) fn start(tag: Tag, parts: PeerParts, prepared: Option<PreparedPeer>) -> Self {
        let (operations, queue) = mpsc::channel(OPERATIONS);
        tokio::spawn(make_and_work(tag, parts, prepared, queue));
        Self { epoch: tag.epoch, connection: None, operations }
    }

    pub(crate) fn run(&self, operation: Operation) {
        if self.operations.try_send(operation).is_err() {
            tracing::warn!("too much work for the peer connection: dropped");
        }
    }
}

/// Carries what threads have to say into the engine's loop, without waiting.
struct Reporter {
    /// Once somebody works for the connection; before that nothing comes.
    tag: OnceLock<Tag>,
    reports: mpsc::Sender<Internal>,
}

impl Reporter {
    fn report(&self, internal: impl FnOnce(Tag) -> Internal) {
        let Some(tag) = self.tag.get() else { return };
        if self.reports.try_send(internal(*tag)).is_err() {
            tracing::debug!("the engine is busy or gone: a report was dropped");
        }
    }
}

impl ReceiveEvents for Reporter {
    fn keyframe_needed(&self) {
        self.report(Internal::KeyframeNeeded);
    }

    fn first_video_frame(&self) {
        self.report(Internal::FirstVideoFrame);
    }

    fn sink_failed(&self, error: DeviceError) {
        self.report(|_| Internal::SinkFailed(error));
    }
}

async fn make_and_work(
    tag: Tag,
    parts: PeerParts,
    prepared: Option<PreparedPeer>,
    operations: mpsc::Receiver<Operation>,
) {
    let reports = parts.reports.clone();
    let prepared = match prepared {
        Some(prepared) => prepared.take().await,
        None => None,
    };
    let made = match prepared {
        Some(idle) => Ok(idle),
        None => IdlePeer::new(parts).await,
    };
    let idle = match made {
        Ok(idle) => idle,
        Err(error) => {
            // Nobody is there to be told once the engine is gone.
            let _ = reports.send(Internal::PeerFailed(tag, error)).await;
            return;
        }
    };
    let IdlePeer { peer, video, sync, jitter, audio, reporter, events, gate, offer } = idle;
    let _ = reporter.tag.set(tag);
    let connection = PeerConnection { peer: peer.clone(), video, sync, gate };
    let made = Box::new(MadePeer { connection, audio, jitter });
    if reports.send(Internal::PeerMade(tag, made)).await.is_err() {
        peer.close().await;
        return;
    }
    work(tag, peer, offer, operations, events, reports).await;
}

/// `prepared` is an offer that is set and not told.
async fn work(
    tag: Tag,
    peer: Arc<Peer>,
    mut prepared: Option<rtc::Description>,
    mut operations: mpsc::Receiver<Operation>,
    mut events: mpsc::Receiver<PeerEvent>,
    reports: mpsc::Sender<Internal>,
) {
    loop {
        let report = tokio::select! {
            biased;
            operation = operations.recv() => match operation {
                Some(operation) => match operate(&peer, tag.epoch, operation, prepared.take()).await {
                    Some(input) => Internal::Call(tag.call, input),
                    None => continue,
                },
                None => return,
            },
            event = events.recv(), if prepared.is_none() => match event {
                Some(event) => Internal::Peer(tag, event),
                None => return,
            },
        };
        if reports.send(report).await.is_err() {
            return;
        }
    }
}

/// `prepared` is an offer that is set and not told.
async fn operate(
    peer: &Peer,
    epoch: Epoch,
    operation: Operation,
    prepared: Option<rtc::Description>,
) -> Option<Input> {
    let failed = |error: rtc::RtcError, remote_fault| {
        Some(Input::OperationFailed { epoch, why: error.to_string(), remote_fault })
    };
    let offered = |offer: Result<rtc::Description, rtc::RtcError>| match offer {
        Ok(offer) => Some(Input::OfferCreated { epoch, description: from_rtc(offer) }),
        Err(error) => failed(error, false),
    };
    if let Some(offer) = prepared {
        if operation == (Operation::CreateOffer { ice_restart: false }) {
            return offered(Ok(offer));
        }
        // It makes no other kind of first step than the one it was made for.
        let _ = peer.rollback().await;
    }
    match operation {
        Operation::CreateOffer { ice_restart } => offered(peer.create_offer(ice_restart).await),
        Operation::OfferRestart => offered(peer.offer_restart().await),
        Operation::AcceptOffer { description, rollback } => {
            // There is none if making it failed.
            match if rollback { peer.rollback().await } else { Ok(()) } {
                Ok(()) | Err(rtc::RtcError::NothingPending) => {}
                Err(error) => return failed(error, false),
            }
            if let Err(error) = peer.set_remote(to_rtc(description)).await {
                return failed(error, true);
            }
            match peer.create_answer().await {
                Ok(answer) => Some(Input::AnswerCreated { epoch, description: from_rtc(answer) }),
                Err(error) => failed(error, true),
            }
        }
        Operation::AcceptAnswer { description } => {
            match peer.set_remote(to_rtc(description)).await {
                Ok(()) => Some(Input::AnswerAccepted { epoch }),
                Err(error) => {
                    // Back to stable, as the session expects of a failed operation.
                    let _ = peer.rollback().await;
                    failed(error, true)
                }
            }
        }
        Operation::AddCandidate { candidate } => {
            if let Err(error) = peer.add_candidate(to_rtc_candidate(candidate)).await {
                tracing::debug!(%error, "a remote candidate was not usable");
            }
            None
        }
    }
}

fn to_rtc(description: SessionDescription) -> rtc::Description {
    let kind = match description.kind {
        SdpType::Offer => rtc::SdpKind::Offer,
        SdpType::Answer => rtc::SdpKind::Answer,
    };
    rtc::Description { kind, sdp: description.sdp }
}

fn from_rtc(description: rtc::Description) -> SessionDescription {
    let kind = match description.kind {
        rtc::SdpKind::Offer => SdpType::Offer,
        rtc::SdpKind::Answer => SdpType::Answer,
    };
    SessionDescription { kind, sdp: description.sdp }
}

fn to_rtc_candidate(candidate: IceCandidateInit) -> rtc::Candidate {
    rtc::Candidate {
        candidate: candidate.candidate,
        sdp_mid: candidate.sdp_mid,
        sdp_m_line_index: candidate.sdp_m_line_index,
        username_fragment: candidate.username_fragment,
    }
}

pub(crate) fn from_rtc_candidate(candidate: rtc::Candidate) -> IceCandidateInit {
    IceCandidateInit {
        candidate: candidate.candidate,
        sdp_mid: candidate.sdp_mid,
        sdp_m_line_index: candidate.sdp_m_line_index,
        username_fragment: candidate.username_fragment,
    }
}

fn to_rtc_server(server: IceServer) -> rtc::IceServer {
    rtc::IceServer { urls: server.urls, username: server.username, credential: server.credential }
}
