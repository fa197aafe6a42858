//! Video in: `rtc` callback -> bounded queue -> thread `video-decode` (assemble, decode, read the
//! time code) -> [`VideoSlot`].

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use visavis_media::assembler::{AssembledFrame, AssemblerOutput, FrameAssembler};
use visavis_media::codec::{VideoCodec, VideoDecoder, video_decoder};
use visavis_media::files::Y4mWriter;
use visavis_media::synthetic::{read_time_code, shows_flash};
use visavis_media::{MediaTime, ReceivedRtp, Size, VideoFrame};
use visavis_rtc::MediaClock;

use crate::error::DeviceError;
use crate::lip_sync::SharedSync;
use crate::meter::{BusyMeter, FreezeMeter, LatencyHistogram, MeanTime, RateMeter};
use crate::shared::lock;
use crate::{LatencyStats, TRACE, VideoSlot};

/// Packets between socket and decoder: half a second at 2.5 Mbps with 1200-byte packets is 130. A
/// packet that finds it full is dropped and counts as lost; retransmission may bring it again.
const PACKET_QUEUE: usize = 1024;
/// A keyframe in place of what is missing costs a round trip too, and a large picture: waiting is
/// cheaper for as long as retransmissions may come.
const GAP_ROUND_TRIPS: u32 = 6;
/// For jitter and for the time that the other side takes to send again.
const GAP_MARGIN: Duration = Duration::from_millis(60);
/// A time code this old, or from the future, is a picture that only looks like one.
const MAX_LATENCY_MS: i64 = 60_000;

/// Pictures held back for lip sync at most; the slot would take the newest anyway.
const MAX_HELD_FRAMES: usize = 8;

/// What the receiving threads tell the engine.
pub(crate) trait ReceiveEvents: Send + Sync + 'static {
    /// The decoder needs a keyframe.
    fn keyframe_needed(&self);
    /// The first picture was decoded.
    fn first_video_frame(&self);
    /// The file for received pictures could not be written.
    fn sink_failed(&self, error: DeviceError);
}

/// Counts of the video that was received.
#[derive(Debug, Clone, Default)]
pub(crate) struct VideoReceiveCounts {
    pub(crate) frames_decoded: u64,
    pub(crate) decode_errors: u64,
    pub(crate) bytes: u64,
    /// What the last frame was coded with.
    pub(crate) codec: Option<VideoCodec>,
    pub(crate) size: Option<Size>,
    pub(crate) fps: f32,
    pub(crate) bitrate_bps: u64,
    pub(crate) freeze_count: u64,
    pub(crate) freeze_time: Duration,
    pub(crate) latency: Option<LatencyStats>,
    pub(crate) decode_time: Duration,
    pub(crate) keyframe_requests: u64,
    first_frame: Option<Instant>,
    /// From the first decoded picture to the last.
    pub(crate) span: Option<Duration>,
}

struct VideoMeters {
    counts: VideoReceiveCounts,
    frames: RateMeter,
    bytes: RateMeter,
    decode: MeanTime,
    busy: BusyMeter,
    freezes: FreezeMeter,
    latency: LatencyHistogram,
    /// How far the other side's Unix clock is ahead of ours, ms.
    clock_offset_ms: f64,
    round_trip: Option<Duration>,
}

/// Decodes the video of one peer connection; its thread ends when this is dropped.
pub(crate) struct VideoReceive {
    packets: SyncSender<ReceivedRtp>,
    overflow: Arc<AtomicU64>,
    meters: Arc<Mutex<VideoMeters>>,
}

impl VideoReceive {
    pub(crate) fn start(
        clock: MediaClock,
        slot: VideoSlot,
        file: Option<Arc<Mutex<Y4mWriter>>>,
        events: Arc<dyn ReceiveEvents>,
        sync: SharedSync,
        delay: Duration,
    ) -> std::io::Result<Self> {
        let (packets, queue) = sync_channel(PACKET_QUEUE);
        let meters = Arc::new(Mutex::new(VideoMeters {
            counts: VideoReceiveCounts::default(),
            frames: RateMeter::default(),
            bytes: RateMeter::default(),
            decode: MeanTime::default(),
            busy: BusyMeter::default(),
            freezes: FreezeMeter::default(),
            latency: LatencyHistogram::new(),
            clock_offset_ms: 0.0,
            round_trip: None,
        }));
        let worker = VideoDecode {
            clock,
            slot,
            file,
            events,
            meters: meters.clone(),
            assembler: FrameAssembler::new(),
            decoder: CurrentDecoder::new(VideoCodec::H264),
            sync,
            delay,
            held: VecDeque::with_capacity(MAX_HELD_FRAMES),
        };
        std::thread::Builder::new()
            .name("video-decode".into())
            .spawn(move || worker.run(&queue))?;
        Ok(Self { packets, overflow: Arc::default(), meters })
    }

    /// The callback for `rtc`: never waits.
    pub(crate) fn sink(&self) -> impl Fn(ReceivedRtp) + Send + Sync + 'static {
        let (packets, overflow) = (self.packets.clone(), self.overflow.clone());
        move |packet| {
            if packets.try_send(packet).is_err() {
                overflow.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// The other side switched its camera off or on: the gap is no freeze.
    pub(crate) fn paused(&self) {
        lock(&self.meters).freezes.pause();
    }

    pub(crate) fn set_clock_offset_ms(&self, offset: f64) {
        lock(&self.meters).clock_offset_ms = offset;
    }

    /// How long a retransmission takes.
    pub(crate) fn set_round_trip(&self, round_trip: Duration) {
        lock(&self.meters).round_trip = Some(round_trip);
    }

    /// Another second has passed in which decoding took all of the time: what it is coded with.
    pub(crate) fn take_overload(&self) -> Option<VideoCodec> {
        let mut meters = lock(&self.meters);
        let codec = meters.counts.codec?;
        meters.busy.take_overload().then_some(codec)
    }

    pub(crate) fn counts(&self, now: Instant) -> VideoReceiveCounts {
        let mut m = lock(&self.meters);
        let mut counts = m.counts.clone();
        counts.fps = m.frames.per_second(now);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a bitrate")]
        {
            counts.bitrate_bps = (m.bytes.per_second(now) * 8.0) as u64;
        }
        counts.freeze_count = m.freezes.count;
        counts.freeze_time = m.freezes.total;
        counts.latency = m.latency.stats();
        counts.decode_time = m.decode.mean();
        counts
    }
}

/// The decoder of the last frame's codec.
struct CurrentDecoder {
    codec: VideoCodec,
    decoder: Box<dyn VideoDecoder>,
}

impl CurrentDecoder {
    fn new(codec: VideoCodec) -> Self {
        Self { codec, decoder: video_decoder(codec) }
    }
}

struct VideoDecode {
    clock: MediaClock,
    slot: VideoSlot,
    file: Option<Arc<Mutex<Y4mWriter>>>,
    events: Arc<dyn ReceiveEvents>,
    meters: Arc<Mutex<VideoMeters>>,
    assembler: FrameAssembler,
    decoder: CurrentDecoder,
    sync: SharedSync,
    /// How much longer a frame of 1280x720 takes, for tests.
    delay: Duration,
    /// Decoded pictures with the time to show them; empty unless sound is far behind.
    held: VecDeque<(MediaTime, VideoFrame)>,
}

impl VideoDecode {
    fn run(mut self, queue: &Receiver<ReceivedRtp>) {
        // While the connection comes about. A call begins with this codec where both have it.
        self.decoder.decoder.warm_up(USUAL_SIZE);
        loop {
            self.show_due();
            let due = self.held.front().map(|(due, _)| *due);
            let packet = match self.assembler.next_deadline().into_iter().chain(due).min() {
                None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => queue.recv_timeout(at.saturating_since(self.clock.now())),
            };
            match packet {
                Ok(packet) => {
                    let round_trip = {
                        let mut meters = lock(&self.meters);
                        let bytes = packet.payload.len() as u64;
                        meters.counts.bytes += bytes;
                        meters.bytes.add(Instant::now(), bytes);
                        meters.round_trip.take()
                    };
                    if let Some(round_trip) = round_trip {
                        // A retransmission may itself be lost, more than once.
                        self.assembler.set_gap_deadline(GAP_ROUND_TRIPS * round_trip + GAP_MARGIN);
                    }
                    self.assembler.push(packet, self.clock.now());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while let Some(output) = self.assembler.poll(self.clock.now()) {
                match output {
                    AssemblerOutput::Frame(frame) => self.decode(&frame),
                    AssemblerOutput::NeedKeyframe => self.need_keyframe(),
                }
            }
        }
    }

    fn need_keyframe(&self) {
        lock(&self.meters).counts.keyframe_requests += 1;
        self.events.keyframe_needed();
    }

    fn decode(&mut self, coded: &AssembledFrame) {
        let begun = Instant::now();
        if self.decoder.codec != coded.codec {
            tracing::info!(codec = %coded.codec, "the remote peer's video codec changed");
            self.decoder = CurrentDecoder::new(coded.codec);
            lock(&self.meters).busy.clear();
        }
        let buffer = match self.decoder.decoder.decode(&coded.data, self.clock.now()) {
            Ok(Some(buffer)) => buffer,
            Ok(None) => return,
            Err(error) => {
                tracing::debug!(%error, "a coded picture could not be decoded");
                lock(&self.meters).counts.decode_errors += 1;
                self.assembler.wait_for_keyframe(self.clock.now());
                return;
            }
        };
        if !self.delay.is_zero() {
            let share = buffer.size().pixels() as f32 / USUAL_SIZE.pixels() as f32;
            std::thread::sleep(self.delay.mul_f32(share));
        }
        let now = Instant::now();
        let first = {
            let mut m = lock(&self.meters);
            m.decode.add(now, now - begun);
            m.busy.add(now, now - begun);
            m.frames.add(now, 1);
            m.freezes.frame(now);
            m.counts.frames_decoded += 1;
            m.counts.codec = Some(coded.codec);
            m.counts.size = Some(buffer.size());
            m.counts.span = Some(now - *m.counts.first_frame.get_or_insert(now));
            m.counts.frames_decoded == 1
        };
        let frame =
            VideoFrame { buffer, time: self.clock.now(), rtp_timestamp: coded.rtp_timestamp };
        let written = self.file.as_ref().map_or(Ok(()), |file| lock(file).write(&frame.buffer));
        if let Err(error) = written {
            self.file = None;
            self.events.sink_failed(DeviceError::DisplayFileNotWritten(error));
        }
        self.hold(frame);
        if first {
            self.events.first_video_frame();
        }
    }

    /// Shows a picture, now or when the sound that belongs to it is nearly due.
    fn hold(&mut self, frame: VideoFrame) {
        let delay = self.sync.video_delay();
        if delay.is_zero() && self.held.is_empty() {
            return self.show(frame);
        }
        if self.held.len() == MAX_HELD_FRAMES
            && let Some((_, oldest)) = self.held.pop_front()
        {
            self.show(oldest);
        }
        self.held.push_back((self.clock.now() + delay, frame));
    }

    fn show_due(&mut self) {
        while let Some((due, _)) = self.held.front()
            && *due <= self.clock.now()
            && let Some((_, frame)) = self.held.pop_front()
        {
            self.show(frame);
        }
    }

    fn show(&self, frame: VideoFrame) {
        let (now, size) = (self.clock.now(), frame.buffer.size());
        let code = read_time_code(&frame.buffer);
        let latency = code.and_then(|code| {
            let mut m = lock(&self.meters);
            let latency = latency(code, unix_ms(), m.clock_offset_ms)?;
            m.latency.add(latency);
            Some(latency)
        });
        tracing::trace!(
            target: TRACE,
            latency_ms = latency.map(|l| l.as_secs_f64() * 1e3),
            width = size.width_px,
            height = size.height_px,
            "picture"
        );
        let flash = code.filter(|_| shows_flash(&frame.buffer));
        self.sync.on_shown(now, now.saturating_since(frame.time), frame.rtp_timestamp, flash);
        self.slot.put(frame);
    }
}

/// What most cameras and browsers send at first.
const USUAL_SIZE: Size = Size::new(1280, 720);

/// Our Unix time, milliseconds.
pub(crate) fn unix_ms() -> f64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
        * 1000.0
}

/// Time since the other side wrote `code` (its Unix ms modulo 2^32).
fn latency(code: u32, now_unix_ms: f64, clock_offset_ms: f64) -> Option<Duration> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_possible_wrap,
        reason = "modulo 2^32 is the point"
    )]
    let age_ms =
        i64::from(((now_unix_ms + clock_offset_ms) as u64 as u32).wrapping_sub(code) as i32);
    // A fresh code may look a little ahead of the estimate of a foreign clock.
    (-50..MAX_LATENCY_MS)
        .contains(&age_ms)
        .then(|| Duration::from_millis(u64::try_from(age_ms).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_is_read_across_the_wrap_of_the_time_code() {
        let now = 4_294_967_296.0 * 400.0 + 10.0;
        assert_eq!(latency(u32::MAX - 9, now, 0.0), Some(Duration::from_millis(20)));
        assert_eq!(latency(0, now, 5.0), Some(Duration::from_millis(15)));
        assert_eq!(latency(12, now, 0.0), Some(Duration::ZERO));
        assert_eq!(latency(500_000, now, 0.0), None);
    }
}
