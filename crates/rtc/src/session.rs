//! What the interceptors, the sending handles and the peer share. Locks are held for a few
//! instructions only; nothing here waits.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use visavis_media::MediaTime;

use crate::clock::MediaClock;
use crate::congestion::NetworkEstimate;
use crate::payload_types::{SentType, VideoTypes};
use crate::sdp::OpusWishes;
use crate::stream_stats::{InboundStats, OutboundStats};
use crate::types::{MediaKind, PeerEvent};

/// The SSRCs we send with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LocalStreams {
    pub(crate) audio: u32,
    pub(crate) video: u32,
    /// Retransmissions of the video.
    pub(crate) rtx: u32,
    /// Parity of the video; not part of any description.
    pub(crate) parity: u32,
}

impl LocalStreams {
    pub(crate) fn kind(&self, ssrc: u32) -> Option<MediaKind> {
        if ssrc == self.video {
            Some(MediaKind::Video)
        } else if ssrc == self.audio {
            Some(MediaKind::Audio)
        } else {
            None
        }
    }

    pub(crate) fn ssrc(&self, kind: MediaKind) -> u32 {
        match kind {
            MediaKind::Audio => self.audio,
            MediaKind::Video => self.video,
        }
    }
}

/// A pair of things, one for each kind.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PerKind<T> {
    pub(crate) audio: T,
    pub(crate) video: T,
}

impl<T> PerKind<T> {
    pub(crate) fn get(&self, kind: MediaKind) -> &T {
        match kind {
            MediaKind::Audio => &self.audio,
            MediaKind::Video => &self.video,
        }
    }

    pub(crate) fn get_mut(&mut self, kind: MediaKind) -> &mut T {
        match kind {
            MediaKind::Audio => &mut self.audio,
            MediaKind::Video => &mut self.video,
        }
    }
}

/// Negotiated payload types of Opus and of RED around it: the remote peer's for what is sent, ours for what is received.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct AudioTypes {
    pub(crate) sent: (Option<u8>, Option<u8>),
    pub(crate) received: (Option<u8>, Option<u8>),
    /// What the remote peer wants to be sent.
    pub(crate) wishes: OpusWishes,
}

/// Where a stream of ours is in RTP time: the timestamp that a capture time got.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RtpAnchor {
    pub(crate) timestamp: u32,
    pub(crate) time: MediaTime,
}

/// Counters that the RTCP tap writes and `stats()` reads.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) outbound: PerKind<OutboundStats>,
    pub(crate) inbound: PerKind<InboundStats>,
    /// RTCP packets that came, and transport-wide feedback among them.
    pub(crate) rtcp_received: u64,
    pub(crate) feedback_received: u64,
}

/// The most that video may take unless somebody says otherwise.
pub(crate) const DEFAULT_MAX_VIDEO_BPS: u64 = 2_500_000;

/// One connection's shared state.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) clock: MediaClock,
    pub(crate) local: LocalStreams,
    events: mpsc::Sender<PeerEvent>,
    pub(crate) dropped_events: AtomicU64,
    counters: Mutex<Counters>,
    anchors: Mutex<PerKind<Option<RtpAnchor>>>,
    network: Mutex<NetworkEstimate>,
    pacer_queue_us: AtomicU64,
    /// The most that video may take, headers and parity not included.
    max_video_bps: AtomicU64,
    /// Parity sent for each byte of video, thousandths.
    parity_permille: AtomicU32,
    /// Whether the other side repairs by parity.
    pub(crate) parity: AtomicBool,
    /// Round trip from report blocks or ICE checks, microseconds; 0 while unknown.
    rtt_us: AtomicU64,
    /// The remote video stream; 0 while unknown.
    pub(crate) remote_video_ssrc: AtomicU32,
    /// Number of the last video frame handed to the stack, and of the last one that the packetizer
    /// took up; their difference is what waits.
    pub(crate) frames_queued: AtomicU16,
    pub(crate) frames_packetized: AtomicU16,
    audio_types: Mutex<AudioTypes>,
    /// Payload types of video.
    video_types: Mutex<VideoTypes>,
    /// Negotiated id of the header extension with transport-wide sequence numbers; 0 without.
    pub(crate) transport_cc: AtomicU8,
    /// Copies of earlier packets in each audio packet ([`visavis_media::red::Redundancy`]).
    pub(crate) redundancy: AtomicU16,
    /// Negotiated payload type of audio that is sent; 0 while it is not to be sent.
    pub(crate) audio_carrier: AtomicU8,
    /// Whether the data channel is open.
    pub(crate) channel_open: AtomicBool,
    /// Whether DTLS is up; it stays so until the end.
    pub(crate) connected: AtomicBool,
    /// Set when the owner closes the connection: nothing is told after that.
    pub(crate) closed: AtomicBool,
}

impl Session {
    pub(crate) fn new(
        clock: MediaClock,
        local: LocalStreams,
        events: mpsc::Sender<PeerEvent>,
    ) -> Self {
        Self {
            clock,
            local,
            events,
            dropped_events: AtomicU64::new(0),
            counters: Mutex::default(),
            anchors: Mutex::default(),
            network: Mutex::default(),
            pacer_queue_us: AtomicU64::new(0),
            max_video_bps: AtomicU64::new(DEFAULT_MAX_VIDEO_BPS),
            parity_permille: AtomicU32::new(0),
            parity: AtomicBool::new(false),
            rtt_us: AtomicU64::new(0),
            remote_video_ssrc: AtomicU32::new(0),
            frames_queued: AtomicU16::new(0),
            frames_packetized: AtomicU16::new(0),
            audio_types: Mutex::default(),
            video_types: Mutex::default(),
            transport_cc: AtomicU8::new(0),
            redundancy: AtomicU16::new(0),
            audio_carrier: AtomicU8::new(0),
            channel_open: AtomicBool::new(false),
            connected: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        }
    }

    /// Tells the owner. When its queue is full the event is dropped and counted, because the
    /// network task must not wait.
    pub(crate) fn emit(&self, event: PeerEvent) {
        if self.closed.load(Ordering::Relaxed) {
            return;
        }
        if let Err(mpsc::error::TrySendError::Full(event)) = self.events.try_send(event) {
            let dropped = self.dropped_events.fetch_add(1, Ordering::Relaxed) + 1;
            tracing::warn!(?event, dropped, "peer event dropped: the owner does not keep up");
        }
    }

    pub(crate) fn audio_types(&self) -> AudioTypes {
        *self.audio_types.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Without audio nothing of it is sent or received.
    pub(crate) fn set_audio_types(&self, types: Option<AudioTypes>) {
        *self.audio_types.lock().unwrap_or_else(PoisonError::into_inner) =
            types.unwrap_or_default();
    }

    /// Payload type of what is sent of audio from now on; `None`: nothing.
    pub(crate) fn set_audio_carrier(&self, payload_type: Option<u8>) {
        self.audio_carrier.store(payload_type.unwrap_or(0), Ordering::Relaxed);
    }

    /// What is sent of video from now on.
    pub(crate) fn set_sent_video(&self, types: &[SentType]) {
        // Frames that a renegotiation swallowed must not count for ever.
        let queued = self.frames_queued.load(Ordering::Relaxed);
        self.frames_packetized.store(queued, Ordering::Relaxed);
        self.video_types().set_sent(types);
    }

    pub(crate) fn counters(&self) -> MutexGuard<'_, Counters> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn anchor(&self, kind: MediaKind) -> Option<RtpAnchor> {
        *self.anchors.lock().unwrap_or_else(PoisonError::into_inner).get(kind)
    }

    pub(crate) fn set_anchor(&self, kind: MediaKind, anchor: RtpAnchor) {
        *self.anchors.lock().unwrap_or_else(PoisonError::into_inner).get_mut(kind) = Some(anchor);
    }

    pub(crate) fn video_types(&self) -> MutexGuard<'_, VideoTypes> {
        self.video_types.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of the path, with the pacer's queue of this moment.
    pub(crate) fn network(&self) -> NetworkEstimate {
        let estimate = *self.network.lock().unwrap_or_else(PoisonError::into_inner);
        let pacer_queue = Duration::from_micros(self.pacer_queue_us.load(Ordering::Relaxed));
        NetworkEstimate { pacer_queue, ..estimate }
    }

    pub(crate) fn set_network(&self, estimate: NetworkEstimate) {
        *self.network.lock().unwrap_or_else(PoisonError::into_inner) = estimate;
        self.set_pacer_queue(estimate.pacer_queue);
    }

    pub(crate) fn set_pacer_queue(&self, queue: Duration) {
        let us = u64::try_from(queue.as_micros()).unwrap_or(u64::MAX);
        self.pacer_queue_us.store(us, Ordering::Relaxed);
    }

    /// The most that video may take, bits a second.
    pub(crate) fn max_video_bps(&self) -> u64 {
        self.max_video_bps.load(Ordering::Relaxed)
    }

    pub(crate) fn set_max_video_bps(&self, bps: u64) {
        self.max_video_bps.store(bps, Ordering::Relaxed);
    }

    /// Parity sent for each byte of video.
    pub(crate) fn parity_share(&self) -> f64 {
        f64::from(self.parity_permille.load(Ordering::Relaxed)) / 1000.0
    }

    pub(crate) fn set_parity_share(&self, share: f64) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1000s")]
        self.parity_permille.store((share.clamp(0.0, 4.0) * 1000.0) as u32, Ordering::Relaxed);
    }

    pub(crate) fn rtt(&self) -> Option<Duration> {
        match self.rtt_us.load(Ordering::Relaxed) {
            0 => None,
            us => Some(Duration::from_micros(us)),
        }
    }

    pub(crate) fn set_rtt(&self, rtt: Duration) {
        let us = u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX).max(1);
        self.rtt_us.store(us, Ordering::Relaxed);
    }
}
