//! [`Peer`]: one connection, as its owner sees it. Its methods may be called from any task of the runtime it was made
//! on; they wait for the connection's task, never for the network.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use tokio::sync::{mpsc, oneshot};
use visavis_media::{Bitrate, ReceivedRtp, VideoCodec};

use crate::clock::MediaClock;
use crate::congestion::NetworkEstimate;
use crate::connection::{Connection, ConnectionConfig, Server};
use crate::driver::{Command, Driver, interfaces};
use crate::error::RtcError;
use crate::send::{AudioSender, VideoSender};
use crate::session::{LocalStreams, Session};
use crate::stats::PeerStats;
use crate::types::{AddressPolicy, Arrivals, Candidate, Description, IceServer, PeerEvent};

#[cfg(test)]
mod hostile_tests;

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

/// One connection to one remote peer: a sendrecv audio and a sendrecv video stream and a data channel, there from the
/// start. Dropping it closes the connection; [`Peer::close`] also waits until that is done.
pub struct Peer {
    session: Arc<Session>,
    commands: mpsc::Sender<Command>,
    video: VideoSender,
    audio: AudioSender,
    last_keyframe_request: Mutex<Option<Instant>>,
    /// The machine's addresses when it was made.
    addresses: Vec<SocketAddr>,
    /// Its end tells the connection's task that the owner is gone.
    _owner: oneshot::Sender<()>,
}

impl Peer {
    /// Makes a connection in state `new`; nothing is sent before a description is set. To be called on a tokio
    /// runtime, which runs the connection's task.
    ///
    /// `events` is bounded by its maker; when it is full events are dropped and counted
    /// ([`PeerStats::dropped_events`]). The two callbacks get every packet as it arrives, in the connection's task: they
    /// must return at once.
    ///
    /// # Errors
    ///
    /// [`RtcError::Stack`] if a server URL is malformed or there are no random numbers.
    pub fn new(
        config: PeerConfig,
        events: mpsc::Sender<PeerEvent>,
        video_rtp: impl Fn(ReceivedRtp) + Send + Sync + 'static,
        audio_rtp: impl Fn(ReceivedRtp) + Send + Sync + 'static,
    ) -> Result<Self, RtcError> {
        let random = random_start()?;
        let [audio, video, rtx, parity] = random.ssrcs;
        let local = LocalStreams { audio, video, rtx, parity };
        let session = Arc::new(Session::new(config.clock, local, events));
        if let Some(bitrate) = config.max_bitrate {
            session.set_max_video_bps(bitrate.as_bps());
        }
        let setup = ConnectionConfig {
            policy: config.addresses,
            servers: Server::parse_all(&config.ice_servers, config.addresses)?,
            video_codecs: config.video_codecs.into_iter().collect(),
            video_rtp: Arc::new(video_rtp),
            audio_rtp: Arc::new(audio_rtp),
            sequences: random.sequences,
            random: Arc::new(|| Box::new(system_random)),
            #[cfg(test)]
            lose: config.lose,
        };
        let connection = Connection::new(Instant::now(), setup, session.clone())?;
        let (commands, queue) = mpsc::channel(COMMANDS);
        let (owner, gone) = oneshot::channel();
        let driver = Driver::new(connection, config.addresses, config.relay_tls, queue, gone);
        tokio::spawn(driver.run(session.clone()));
        let [video_timestamp, audio_timestamp] = random.timestamps;
        Ok(Self {
            video: VideoSender::new(session.clone(), commands.clone(), video_timestamp),
            audio: AudioSender::new(session.clone(), commands.clone(), audio_timestamp),
            session,
            commands,
            last_keyframe_request: Mutex::new(None),
            addresses: interfaces::local_addresses(),
            _owner: owner,
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

    /// Makes an offer and sets it as the local description (W3C `setLocalDescription()`). With `ice_restart` media
    /// goes on by the old pair until a new one is selected.
    ///
    /// # Errors
    ///
    /// [`RtcError::Stack`] in any signaling state but `stable`.
    pub async fn create_offer(&self, ice_restart: bool) -> Result<Description, RtcError> {
        self.run("creating an offer", move |connection, now| {
            connection.create_offer(now, ice_restart)
        })
        .await
    }

    /// Makes an offer with an ICE restart that is applied only by [`Peer::set_remote`] with its answer. Another offer,
    /// ours or theirs, or [`Peer::rollback`] drops it.
    ///
    /// # Errors
    ///
    /// [`RtcError::Stack`] if the stack makes none.
    pub async fn offer_restart(&self) -> Result<Description, RtcError> {
        self.run("creating an offer", Connection::offer_restart).await
    }

    /// Makes the answer to the remote offer and sets it as the local description.
    ///
    /// # Errors
    ///
    /// [`RtcError::Stack`] in any signaling state but `have-remote-offer`.
    pub async fn create_answer(&self) -> Result<Description, RtcError> {
        self.run("creating an answer", Connection::create_answer).await
    }

    /// Sets the remote description and then adds the candidates that came before it.
    ///
    /// # Errors
    ///
    /// [`RtcError::InvalidDescription`] if it cannot be parsed, [`RtcError::Stack`] if it does not fit: an offer while
    /// ours is pending wants [`Peer::rollback`] first. [`RtcError::Broken`] means that the connection is to be given
    /// up.
    pub async fn set_remote(&self, description: Description) -> Result<(), RtcError> {
        self.run("applying the remote description", move |connection, now| {
            connection.set_remote(now, description)
        })
        .await
    }

    /// Takes back the pending offer, ours or theirs (W3C rollback).
    ///
    /// # Errors
    ///
    /// [`RtcError::NothingPending`] if there is none.
    pub async fn rollback(&self) -> Result<(), RtcError> {
        self.run("rolling back", Connection::rollback).await
    }

    /// Adds a remote candidate, or keeps it until there is a remote description. Candidates of an older ICE generation,
    /// those that are of no use and the end-of-candidates mark are accepted and ignored.
    ///
    /// # Errors
    ///
    /// [`RtcError::InvalidCandidate`] if it is malformed, [`RtcError::TooManyCandidates`] if there are too many.
    pub async fn add_candidate(&self, candidate: Candidate) -> Result<(), RtcError> {
        self.run("adding a candidate", move |connection, now| {
            connection.add_candidate(now, candidate)
        })
        .await
    }

    /// Whether the machine has the addresses that candidates were gathered for.
    pub fn has_current_addresses(&self) -> bool {
        interfaces::local_addresses() == self.addresses
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
        if !self.session.channel_open.load(Ordering::Relaxed) {
            return Err(RtcError::ChannelNotOpen);
        }
        self.commands.try_send(Command::Message(text.to_owned())).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => RtcError::ChannelBusy,
            mpsc::error::TrySendError::Closed(_) => RtcError::ChannelNotOpen,
        })
    }

    /// Asks the remote peer for a keyframe (PLI, RFC 4585 §6.3.1). Requests sooner than a round trip, and at least
    /// 150 ms, after the last one are left out; says whether one was sent.
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
        let sent = self.commands.try_send(Command::Rtcp(Box::new(pli))).is_ok();
        if sent {
            *last = Some(now);
        }
        sent
    }

    /// What is known of the path to the remote peer.
    pub fn network(&self) -> NetworkEstimate {
        self.session.network()
    }

    /// What has come so far.
    pub fn arrivals(&self) -> Arrivals {
        let counters = self.session.counters();
        let rtp = counters.inbound.audio.packets_received + counters.inbound.video.packets_received;
        Arrivals { packets: rtp + counters.rtcp_received, feedback: counters.feedback_received }
    }

    /// A snapshot of everything known about the connection; empty once it is closed.
    pub async fn stats(&self) -> PeerStats {
        let stats = self.run("statistics", |connection, now| Ok(connection.stats(now)));
        stats.await.unwrap_or_default()
    }

    /// Closes the connection; no callback and no event comes after that.
    pub async fn close(&self) {
        self.session.closed.store(true, Ordering::Relaxed);
        let (done, closed) = oneshot::channel();
        if self.commands.send(Command::Close(done)).await.is_ok() {
            // Without an answer it has ended by itself.
            let _ = closed.await;
        }
    }

    /// Has the connection's task do something. If it broke on what the remote peer sent, [`RtcError::Broken`].
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&mut Connection, Instant) -> Result<T, RtcError> + Send + 'static,
    ) -> Result<T, RtcError> {
        let (answer, answered) = oneshot::channel();
        let work = move |connection: &mut Connection, now| {
            // Who asked may be gone.
            let _ = answer.send(work(connection, now));
        };
        let broken = RtcError::Broken { operation };
        match self.commands.send(Command::Run(Box::new(work))).await {
            Ok(()) => answered.await.unwrap_or(Err(broken)),
            Err(_) => Err(broken),
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.session.closed.store(true, Ordering::Relaxed);
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
    getrandom::fill(&mut bytes).map_err(RtcError::stack("random numbers"))?;
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

/// The system's random numbers. It has given some before ([`random_start`]); where it gives no more, the connection
/// ends.
fn system_random(bytes: &mut [u8]) {
    #[expect(clippy::expect_used, reason = "nothing predictable may stand in")]
    getrandom::fill(bytes).expect("the system gives random numbers");
}

/// What may wait for the connection's task: some ten frames, and the owner's operations.
const COMMANDS: usize = 256;
/// What every WebRTC peer accepts (RFC 8831 §6.6).
const MAX_MESSAGE_BYTES: usize = 16 * 1024;
/// Least time between two keyframe requests: an encoder's answer takes a frame or two.
const KEYFRAME_REQUEST_INTERVAL: Duration = Duration::from_millis(150);
