//! From encoded frames to RTP: timestamps from capture time, packets made inside the driver task.
//!
//! A handle passes the whole access unit to the driver as one oversized "packet"; the
//! [`Packetizer`] interceptor, next to the application, cuts it up and numbers the packets. So a
//! picture costs one wake-up of the driver instead of one for each packet, its packets leave in
//! one batch (with UDP GSO in few system calls), and sequence numbers have no gaps of our own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rtc::interceptor::{Packet, TaggedPacket};
use rtc::rtp;
use tokio::sync::mpsc;
use visavis_media::red::{RedEncoder, Redundancy};
use visavis_media::{Bitrate, EncodedAudioFrame, EncodedVideoFrame, MediaTime, VideoCodec};

use crate::congestion::NetworkEstimate;
use crate::driver::Command;
use crate::interceptor::{Queues, Stage};
use crate::packetize::FramePacketizer;
use crate::payload_types::VideoCodecs;
use crate::rtcp_tap::ticks;
use crate::session::{RtpAnchor, Session};
use crate::types::{MediaKind, PeerEvent};

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendOutcome {
    /// Handed to the network task.
    Sent,
    /// Nobody to send to: not connected, or the remote side does not receive this kind.
    /// Encoding can be saved meanwhile.
    NotReceiving,
    /// The network task does not keep up. For video, frames are dropped until the next keyframe,
    /// which is asked for with [`PeerEvent::KeyframeRequested`].
    Dropped,
}

/// What both handles need.
struct Outlet {
    session: Arc<Session>,
    commands: mpsc::Sender<Command>,
    kind: MediaKind,
    /// Random start of the timestamps (RFC 3550 §5.1).
    timestamp_offset: u32,
}

impl Outlet {
    /// The packetizer replaces the sequence number.
    fn header(&self, payload_type: u8, timestamp: u32) -> rtp::Header {
        let ssrc = self.session.local.ssrc(self.kind);
        rtp::Header { version: 2, payload_type, timestamp, ssrc, ..Default::default() }
    }

    /// Before DTLS is up the stack passes RTP by the interceptors.
    fn is_connected(&self) -> bool {
        self.session.connected.load(Ordering::Relaxed)
    }

    fn write(&self, header: rtp::Header, payload: Bytes) -> bool {
        let packet = rtp::Packet { header, payload };
        self.commands.try_send(Command::Rtp(self.kind, packet)).is_ok()
    }
}

/// Sends video frames; clones share one stream. May be used from any thread, does not block.
///
/// At most ten frames wait for the network task.
#[derive(Clone)]
pub struct VideoSender(Arc<VideoInner>);

struct VideoInner {
    outlet: Outlet,
    /// A frame was dropped: what follows cannot be decoded before a keyframe.
    wait_for_keyframe: AtomicBool,
}

impl VideoSender {
    pub(crate) fn new(
        session: Arc<Session>,
        commands: mpsc::Sender<Command>,
        timestamp_offset: u32,
    ) -> Self {
        Self(Arc::new(VideoInner {
            outlet: Outlet { session, commands, kind: MediaKind::Video, timestamp_offset },
            wait_for_keyframe: AtomicBool::new(false),
        }))
    }

    /// Whether frames of some codec would go anywhere now.
    pub fn is_receiving(&self) -> bool {
        !self.codecs().is_empty()
    }

    /// The codecs that the remote peer takes now, in its order of preference; none while there is nobody to send
    /// to. Cheap enough to ask for each picture.
    pub fn codecs(&self) -> VideoCodecs {
        let outlet = &self.0.outlet;
        if outlet.is_connected() {
            outlet.session.video_types().codecs()
        } else {
            VideoCodecs::default()
        }
    }

    /// Whether the remote peer takes H.264 with CABAC, in Main profile.
    pub fn takes_cabac(&self) -> bool {
        self.0.outlet.session.video_types().sent(VideoCodec::H264).is_some_and(|sent| sent.cabac)
    }

    /// What is known of the path; cheap enough to ask for each picture.
    pub fn network(&self) -> NetworkEstimate {
        self.0.outlet.session.network()
    }

    /// The most that video may take from now on, headers and parity not included.
    pub fn set_max_bitrate(&self, bitrate: Bitrate) {
        self.0.outlet.session.set_max_video_bps(bitrate.as_bps());
    }

    /// Sends one coded picture. Frames are to be given in order, by one thread at a time. With a keyframe the codec
    /// may be another one than before. [`SendOutcome::NotReceiving`] if the remote peer does not take its codec.
    pub fn send(&self, frame: &EncodedVideoFrame) -> SendOutcome {
        let VideoInner { outlet, wait_for_keyframe } = &*self.0;
        let sent = outlet.session.video_types().sent(frame.codec);
        let Some(sent) = sent.filter(|_| outlet.is_connected()) else {
            return SendOutcome::NotReceiving;
        };
        if wait_for_keyframe.load(Ordering::Relaxed) && !frame.keyframe {
            return SendOutcome::Dropped;
        }
        let session = &outlet.session;
        let queued = session.frames_queued.load(Ordering::Relaxed);
        let waiting = queued.wrapping_sub(session.frames_packetized.load(Ordering::Relaxed));
        let timestamp =
            outlet.timestamp_offset.wrapping_add(ticks(since_zero(frame.time), MediaKind::Video));
        let mut header = outlet.header(sent.carrier, timestamp);
        header.sequence_number = queued.wrapping_add(1);
        if waiting >= MAX_FRAMES_IN_FLIGHT || !outlet.write(header, frame.data.clone()) {
            if !wait_for_keyframe.swap(true, Ordering::Relaxed) {
                session.emit(PeerEvent::KeyframeRequested);
            }
            return SendOutcome::Dropped;
        }
        session.frames_queued.store(queued.wrapping_add(1), Ordering::Relaxed);
        wait_for_keyframe.store(false, Ordering::Relaxed);
        session.set_anchor(MediaKind::Video, RtpAnchor { timestamp, time: frame.time });
        SendOutcome::Sent
    }
}

/// Sends Opus packets; clones share one stream. May be used from any thread, does not block.
///
/// When the network task does not keep up, packets are dropped and their time is left out.
#[derive(Clone)]
pub struct AudioSender(Arc<AudioInner>);

struct AudioInner {
    outlet: Outlet,
    timeline: Mutex<AudioTimeline>,
}

impl AudioSender {
    pub(crate) fn new(
        session: Arc<Session>,
        commands: mpsc::Sender<Command>,
        timestamp_offset: u32,
    ) -> Self {
        Self(Arc::new(AudioInner {
            outlet: Outlet { session, commands, kind: MediaKind::Audio, timestamp_offset },
            timeline: Mutex::new(AudioTimeline::new(timestamp_offset)),
        }))
    }

    /// Whether packets would go anywhere now.
    pub fn is_receiving(&self) -> bool {
        self.payload_type().is_some()
    }

    fn payload_type(&self) -> Option<u8> {
        let payload_type = self.0.outlet.session.audio_carrier.load(Ordering::Relaxed);
        (payload_type != 0 && self.0.outlet.is_connected()).then_some(payload_type)
    }

    /// What is known of the path.
    pub fn network(&self) -> NetworkEstimate {
        self.0.outlet.session.network()
    }

    /// Whether the remote side takes redundant copies (RED, RFC 2198).
    pub fn takes_redundancy(&self) -> bool {
        self.0.outlet.session.audio_types().sent.1.is_some()
    }

    /// Whether the remote side prefers stereo to mono (`stereo`, RFC 7587 §6.1).
    pub fn takes_stereo(&self) -> bool {
        self.0.outlet.session.audio_types().wishes.stereo
    }

    /// The most bits a second of Opus that the remote side wants (`maxaveragebitrate`, RFC 7587 §6.1).
    pub fn most_wanted(&self) -> Option<Bitrate> {
        self.0.outlet.session.audio_types().wishes.most
    }

    /// Which earlier packets go along with each packet from now on, if the remote side takes them.
    pub fn set_redundancy(&self, redundancy: Redundancy) {
        self.0.outlet.session.redundancy.store(redundancy.bits(), Ordering::Relaxed);
    }

    /// Sends one packet. Where discontinuous transmission left packets out, the timestamp jumps
    /// and the marker bit is set (RFC 7587 §4.1).
    pub fn send(&self, frame: &EncodedAudioFrame) -> SendOutcome {
        let AudioInner { outlet, timeline, .. } = &*self.0;
        let Some(payload_type) = self.payload_type() else { return SendOutcome::NotReceiving };
        let mut timeline = timeline.lock().unwrap_or_else(PoisonError::into_inner);
        let (timestamp, marker) = timeline.place(frame.time, frame.duration);
        drop(timeline);
        let mut header = outlet.header(payload_type, timestamp);
        header.marker = marker;
        if !outlet.write(header, frame.data.clone()) {
            return SendOutcome::Dropped;
        }
        outlet.session.set_anchor(MediaKind::Audio, RtpAnchor { timestamp, time: frame.time });
        SendOutcome::Sent
    }
}

/// Gives audio packets contiguous timestamps, whatever the jitter and drift of their capture
/// times, and makes room where packets are missing.
#[derive(Debug)]
struct AudioTimeline {
    offset: u32,
    /// The timestamp after the last packet and the capture time that belongs to it.
    next: Option<(u32, MediaTime)>,
}

impl AudioTimeline {
    fn new(offset: u32) -> Self {
        Self { offset, next: None }
    }

    /// Timestamp and marker of a packet.
    fn place(&mut self, time: MediaTime, duration: Duration) -> (u32, bool) {
        let length = ticks(duration, MediaKind::Audio);
        let (timestamp, at, marker) = match self.next {
            None => {
                (self.offset.wrapping_add(ticks(since_zero(time), MediaKind::Audio)), time, true)
            }
            Some((next, due)) => {
                let gap = time.saturating_since(due);
                // Whole packets are missing; less than three quarters of one is jitter.
                let missing =
                    (gap.as_micros() + duration.as_micros() / 4).checked_div(duration.as_micros());
                let missing = u32::try_from(missing.unwrap_or(0)).unwrap_or(u32::MAX);
                if missing > 0 {
                    (next.wrapping_add(length.wrapping_mul(missing)), time, true)
                } else if due.saturating_since(time) > MAX_AHEAD {
                    (next, time, false)
                } else {
                    // Half of the way back to the capture clock would be jitter; a 64th follows
                    // the drift of a sound card.
                    (next, nudge(due, time), false)
                }
            }
        };
        self.next = Some((timestamp.wrapping_add(length), at + duration));
        (timestamp, marker)
    }
}

/// `due` moved a 64th of the way to `time`.
fn nudge(due: MediaTime, time: MediaTime) -> MediaTime {
    let (due, time) = (due.as_micros(), time.as_micros());
    MediaTime::from_micros(if time >= due {
        due + (time - due) / 64
    } else {
        due - (due - time) / 64
    })
}

fn since_zero(time: MediaTime) -> Duration {
    time.saturating_since(MediaTime::default())
}

/// The interceptor next to the application: numbers audio packets and puts redundancy into them,
/// cuts up pictures.
pub(crate) struct Packetizer {
    session: Arc<Session>,
    next_audio: u16,
    next_video: u16,
    red: RedEncoder,
    frames: FramePacketizer,
}

impl Packetizer {
    pub(crate) fn new(session: Arc<Session>, first_audio: u16, first_video: u16) -> Self {
        Self {
            session,
            next_audio: first_audio,
            next_video: first_video,
            red: RedEncoder::default(),
            // As random as the sequence number is.
            frames: FramePacketizer::new(first_video),
        }
    }
}

impl Stage for Packetizer {
    fn on_write(&mut self, mut packet: TaggedPacket, queues: &mut Queues) {
        let Packet::Rtp(rtp) = &mut packet.message.packet else {
            queues.write.push_back(packet);
            return;
        };
        match self.session.local.kind(rtp.header.ssrc) {
            Some(MediaKind::Audio) => {
                rtp.header.sequence_number = self.next_audio;
                self.next_audio = self.next_audio.wrapping_add(1);
                let (opus, red) = self.session.audio_types().sent;
                let header = &mut rtp.header;
                // The stack's sender only takes the number of its first negotiation.
                header.payload_type = opus.unwrap_or(header.payload_type);
                let redundancy = match red {
                    None => Redundancy::NONE,
                    Some(_) => {
                        Redundancy::from_bits(self.session.redundancy.load(Ordering::Relaxed))
                    }
                };
                let (timestamp, opus) = (header.timestamp, header.payload_type);
                let payload = self.red.encode(timestamp, &rtp.payload, opus, redundancy);
                if let (Some(payload), Some(red)) = (payload, red) {
                    rtp.payload = payload;
                    rtp.header.payload_type = red;
                }
                queues.write.push_back(packet);
            }
            Some(MediaKind::Video) => {
                // The carrier's number is the frame's: see `VideoSender::send`.
                let frame = rtp.header.sequence_number;
                self.session.frames_packetized.store(frame, Ordering::Relaxed);
                let sent = self.session.video_types().sent_by_carrier(rtp.header.payload_type);
                // Queued before a description that does not have its codec any more.
                let Some(sent) = sent else { return };
                rtp.header.payload_type = sent.payload_type;
                let payloads = self.frames.payloads(sent.codec, &rtp.payload, MAX_PAYLOAD_BYTES);
                let last = payloads.len().saturating_sub(1);
                for (index, payload) in payloads.into_iter().enumerate() {
                    let mut header = rtp.header.clone();
                    header.sequence_number = self.next_video;
                    header.marker = index == last;
                    self.next_video = self.next_video.wrapping_add(1);
                    queues.write.push_back(TaggedPacket {
                        now: packet.now,
                        transport: packet.transport,
                        message: Packet::Rtp(rtp::Packet { header, payload }).into(),
                    });
                }
            }
            None => queues.write.push_back(packet),
        }
    }
}

/// Frames that may wait for the network task: a third of a second at 30 fps. More would only be
/// latency.
const MAX_FRAMES_IN_FLIGHT: u16 = 10;
/// 1200 bytes a packet (RFC 8831 and libwebrtc keep to that for any path) less RTP header, header
/// extensions, the RTX sequence number and the SRTP tag.
const MAX_PAYLOAD_BYTES: usize = 1200 - 12 - 8 - 2 - 16;
/// Capture times this far before the timeline mean that the clock was set back, not jitter.
const MAX_AHEAD: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload_types::SentType;
    use visavis_media::VideoCodec;

    const FRAME: Duration = Duration::from_millis(20);

    fn at(us: u64) -> MediaTime {
        MediaTime::from_micros(us)
    }

    /// The remote peer's numbers need not be those that the stack knows (RFC 3264 §6.1).
    #[test]
    fn packets_leave_with_the_remote_peers_number_and_follow_each_other_over_a_change_of_codec() {
        let (events, _receiver) = tokio::sync::mpsc::channel(8);
        let local = crate::session::LocalStreams { audio: 1, video: 2, rtx: 4, parity: 3 };
        let session = Arc::new(Session::new(crate::MediaClock::default(), local, events));
        let sent = |codec, carrier, payload_type| SentType {
            codec,
            carrier,
            payload_type,
            rtx: None,
            cabac: false,
        };
        let types = [sent(VideoCodec::H264, 102, 120), sent(VideoCodec::Vp8, 96, 121)];
        session.video_types().set_sent(&types);
        let mut packetizer = Packetizer::new(session, 0, 65_535);
        let mut queues = Queues::default();
        for carrier in [102, 96, 45, 102] {
            let header = rtp::Header { ssrc: 2, payload_type: carrier, ..Default::default() };
            // An inter frame of VP8, and an IDR slice.
            let payload = Bytes::from_static(match carrier {
                96 => &[1, 2, 0, 7, 7, 7, 7, 7, 7, 7],
                _ => &[0, 0, 0, 1, 0x65, 7, 7, 7, 7, 7, 7, 7],
            });
            let packet = TaggedPacket {
                now: std::time::Instant::now(),
                transport: rtc::shared::TransportContext::default(),
                message: Packet::Rtp(rtp::Packet { header, payload }).into(),
            };
            packetizer.on_write(packet, &mut queues);
        }
        let left = queues.write.iter().map(|packet| match &packet.message.packet {
            Packet::Rtp(rtp) => (rtp.header.payload_type, rtp.header.sequence_number),
            _ => (0, 0),
        });
        assert_eq!(left.collect::<Vec<_>>(), [(120, 65_535), (121, 0), (120, 1)]);
    }

    #[test]
    fn jitter_of_capture_times_leaves_timestamps_contiguous() {
        let mut timeline = AudioTimeline::new(u32::MAX - 100);
        let (first, marker) = timeline.place(at(1_000_000), FRAME);
        assert!(marker);
        for n in 1..500u32 {
            let jitter = u64::from(n % 3) * 4_000;
            let (timestamp, marker) =
                timeline.place(at(1_000_000 + u64::from(n) * 20_000 + jitter), FRAME);
            assert_eq!(timestamp.wrapping_sub(first), n * 960);
            assert!(!marker);
        }
    }

    #[test]
    fn silence_left_out_makes_the_timestamp_jump() {
        let mut timeline = AudioTimeline::new(0);
        let (first, _) = timeline.place(at(0), FRAME);
        let (second, marker) = timeline.place(at(400_300), FRAME);
        assert_eq!(second.wrapping_sub(first), 20 * 960);
        assert!(marker);
        let (third, marker) = timeline.place(at(420_300), FRAME);
        assert_eq!(third.wrapping_sub(second), 960);
        assert!(!marker);
    }

    #[test]
    fn a_slow_sound_card_does_not_make_gaps() {
        let mut timeline = AudioTimeline::new(0);
        let mut expected = 0;
        // 0.05 % slow for ten minutes: 300 ms of drift.
        for n in 0..30_000u64 {
            let (timestamp, _) = timeline.place(at(n * 20_010), FRAME);
            assert_eq!(timestamp, expected);
            expected = expected.wrapping_add(960);
        }
    }

    #[test]
    fn a_clock_set_back_keeps_the_stream_going() {
        let mut timeline = AudioTimeline::new(0);
        timeline.place(at(10_000_000), FRAME);
        let (a, _) = timeline.place(at(1_000_000), FRAME);
        let (b, marker) = timeline.place(at(1_020_000), FRAME);
        assert_eq!(b.wrapping_sub(a), 960);
        assert!(!marker);
    }
}
