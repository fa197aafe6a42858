//! The receiving side: RTP to pictures and sound.
//!
//! Pictures: `rtc` callback -> bounded queue -> thread `video-decode` (assemble, decode, read the
//! time code) -> [`VideoSlot`]. Sound: `rtc` callback -> jitter buffer; the speaker's thread pulls.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use visavis_media::assembler::{AssembledFrame, AssemblerOutput, FrameAssembler};
use visavis_media::audio::tone_meter::ToneMeter;
use visavis_media::codec::{VideoCodec, VideoDecoder, video_decoder};
use visavis_media::files::Y4mWriter;
use visavis_media::jitter::{JitterBuffer, PlayoutKind};
use visavis_media::sync::{LipSync, SyncKind};
use visavis_media::synthetic::{read_time_code, shows_flash};
use visavis_media::{AUDIO_FRAME_SAMPLES, MediaTime, PlayoutBlock, ReceivedRtp, Size, VideoFrame};
use visavis_rtc::{MediaClock, MediaKind, SenderReportInfo};

use crate::error::DeviceError;
use crate::meter::{BusyMeter, FreezeMeter, LatencyHistogram, MeanTime, RateMeter, level_dbfs};
use crate::shared::lock;
use crate::sync_meter::SyncMeter;
use crate::{LatencyStats, SyncFigures, TRACE, VideoSlot};

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

/// Sound comes out of the codec so much later than its timestamps say (`OPUS_GET_LOOKAHEAD` of
/// libopus: 312 samples).
const OPUS_LOOK_AHEAD: Duration = Duration::from_micros(6_500);

/// Pictures held back for lip sync at most; the slot would take the newest anyway.
const MAX_HELD_FRAMES: usize = 8;

/// The lip sync of one connection and its measurement: told by both receiving threads, asked by
/// both.
#[derive(Clone, Default)]
pub(crate) struct SharedSync(Arc<Mutex<SyncState>>);

#[derive(Default)]
struct SyncState {
    lips: LipSync,
    meter: SyncMeter,
}

impl SyncState {
    /// A flash and its beep, if this is when both are known.
    fn note(&self, offset_us: Option<i64>, now: MediaTime) {
        let Some(offset_us) = offset_us else { return };
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let ms = |us: i64| us as f64 / 1000.0;
        let account_ms = self.lips.offset_us(now).map(ms);
        tracing::trace!(target: TRACE, offset_ms = ms(offset_us), account_ms, "flash-and-beep");
    }
}

impl SharedSync {
    pub(crate) fn on_sender_report(&self, report: &SenderReportInfo) {
        let kind = match report.kind {
            MediaKind::Audio => SyncKind::Audio,
            MediaKind::Video => SyncKind::Video,
        };
        lock(&self.0).lips.on_sender_report(kind, report.ntp_time, report.rtp_timestamp);
    }

    fn offset_ms(&self, now: MediaTime) -> Option<f32> {
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        lock(&self.0).lips.offset_us(now).map(|us| us as f32 / 1000.0)
    }
}

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
        let delay = lock(&self.sync.0).lips.video_delay();
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
        let mut sync = lock(&self.sync.0);
        sync.lips.on_shown(now, now.saturating_since(frame.time), frame.rtp_timestamp);
        let measured = sync.meter.on_shown(now, flash);
        sync.note(measured, now);
        drop(sync);
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

/// Counts of the audio that was received.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct AudioReceiveCounts {
    pub(crate) packets: u64,
    pub(crate) lost: u64,
    pub(crate) concealed_ratio: f32,
    pub(crate) delay: Duration,
    pub(crate) jitter: Duration,
    pub(crate) bitrate_bps: u64,
    pub(crate) level_dbfs: Option<f32>,
    pub(crate) tone_hz: Option<f32>,
    /// Of what was played last.
    pub(crate) channels: u8,
    pub(crate) red_copies: u64,
    pub(crate) red_recovered: u64,
    /// How much later sound is heard than its picture is shown.
    pub(crate) av_offset_ms: Option<f32>,
    /// The same measured, where the other side flashes and beeps.
    pub(crate) flash_and_beep: Option<SyncFigures>,
}

type LatencyOf = Box<dyn Fn() -> Duration + Send>;

/// The jitter buffer of the current peer and the meters behind it. Pushed by `rtc`, pulled by the
/// speaker's thread (never by an audio callback).
pub(crate) struct AudioReceive {
    clock: MediaClock,
    state: Mutex<AudioState>,
}

struct AudioState {
    jitter: Option<JitterBuffer>,
    sync: SharedSync,
    /// From handing out to the ear.
    speaker_latency: Option<LatencyOf>,
    bytes: RateMeter,
    tone: ToneMeter,
    squares: f32,
    blocks: u32,
    level_dbfs: Option<f32>,
    heard: bool,
    /// Whether what was played last has two channels.
    stereo: bool,
}

impl AudioReceive {
    pub(crate) fn new(clock: MediaClock) -> Self {
        Self {
            clock,
            state: Mutex::new(AudioState {
                jitter: None,
                sync: SharedSync::default(),
                speaker_latency: None,
                bytes: RateMeter::default(),
                tone: ToneMeter::new(),
                squares: 0.0,
                blocks: 0,
                level_dbfs: None,
                heard: false,
                stereo: false,
            }),
        }
    }

    /// For a new peer connection, or (`None`) after one.
    pub(crate) fn set_jitter(&self, jitter: Option<(JitterBuffer, SharedSync)>) {
        let mut state = lock(&self.state);
        let (jitter, sync) = jitter.unzip();
        state.jitter = jitter;
        state.sync = sync.unwrap_or_default();
        state.heard = false;
    }

    /// Asked for the delay of the speaker in use; `None`: it has none.
    pub(crate) fn set_speaker_latency(&self, latency: Option<LatencyOf>) {
        lock(&self.state).speaker_latency = latency;
    }

    /// The callback for `rtc`; returns whether it was the first packet.
    pub(crate) fn push(&self, packet: ReceivedRtp) -> bool {
        let mut state = lock(&self.state);
        state.bytes.add(Instant::now(), packet.payload.len() as u64);
        let first = !state.heard;
        state.heard = true;
        if let Some(jitter) = &mut state.jitter {
            jitter.push(&packet);
        }
        first
    }

    /// The next 10 ms for the speaker; silence while there is nothing to play.
    pub(crate) fn pull(&self, out: &mut PlayoutBlock) {
        let mut state = lock(&self.state);
        let state = &mut *state;
        let mut made_up = false;
        match &mut state.jitter {
            Some(jitter) => {
                let now = self.clock.now();
                let latency = state.speaker_latency.as_ref().map_or(Duration::ZERO, |of| of());
                let (timestamp, added) = (jitter.next_timestamp(), jitter.extra_delay());
                made_up = jitter.pull_into(now, out) == PlayoutKind::Concealed;
                let mut sync = lock(&state.sync.0);
                if let Some(timestamp) = timestamp {
                    sync.lips.on_heard(now + latency + OPUS_LOOK_AHEAD, added, timestamp);
                }
                if sync.lips.step(now) {
                    jitter.set_extra_delay(sync.lips.audio_delay());
                }
                let measured = sync.meter.on_heard(now + latency, &out.mono());
                sync.note(measured, now);
            }
            None => *out = PlayoutBlock::SILENCE,
        }
        let mono = out.mono();
        state.stereo = out.stereo;
        state.tone.push(&mono);
        let squares = mono.iter().map(|s| s * s).sum::<f32>();
        #[expect(clippy::cast_precision_loss, reason = "480")]
        let rms = || (squares / AUDIO_FRAME_SAMPLES as f32).sqrt();
        tracing::trace!(target: TRACE, level_dbfs = level_dbfs(rms()), made_up, "sound");
        state.squares += squares;
        state.blocks += 1;
        if state.blocks == 100 {
            #[expect(clippy::cast_precision_loss, reason = "48000")]
            let mean = state.squares / (100 * AUDIO_FRAME_SAMPLES) as f32;
            state.level_dbfs = state.heard.then(|| level_dbfs(mean.sqrt()));
            (state.squares, state.blocks) = (0.0, 0);
        }
    }

    pub(crate) fn counts(&self, now: Instant) -> AudioReceiveCounts {
        let mut state = lock(&self.state);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a bitrate")]
        let bitrate_bps = (state.bytes.per_second(now) * 8.0) as u64;
        let (level_dbfs, tone_hz) = (state.level_dbfs, state.tone.tone_hz());
        let Some(jitter) = &state.jitter else { return AudioReceiveCounts::default() };
        let stats = jitter.stats();
        #[expect(clippy::cast_precision_loss, reason = "a share for people")]
        let concealed_ratio =
            stats.concealed_samples as f32 / stats.total_samples_received.max(1) as f32;
        AudioReceiveCounts {
            packets: stats.packets_received,
            lost: stats.packets_lost,
            concealed_ratio,
            delay: stats.current_delay,
            jitter: stats.jitter,
            bitrate_bps,
            level_dbfs,
            tone_hz,
            channels: if state.stereo { 2 } else { 1 },
            red_copies: stats.red_copies_received,
            red_recovered: stats.red_recovered_packets,
            av_offset_ms: state.sync.offset_ms(self.clock.now()),
            flash_and_beep: lock(&state.sync.0).meter.figures(),
        }
    }
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
