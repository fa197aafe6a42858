//! Audio in: `rtc` callback -> [`AudioQueue`] -> the speaker's thread, which owns the jitter buffer,
//! decodes and measures (never an audio callback). The network task and the engine's loop wait for
//! neither.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use visavis_media::audio::tone_meter::ToneMeter;
use visavis_media::jitter::{JitterBuffer, PlayoutKind, PlayoutStats};
use visavis_media::{AUDIO_FRAME_SAMPLES, PlayoutBlock, ReceivedRtp};
use visavis_rtc::MediaClock;

use crate::lip_sync::{Heard, SharedSync};
use crate::meter::{RateMeter, level_dbfs};
use crate::shared::lock;
use crate::{SyncFigures, TRACE};

/// Packets between network and speaker: a second and a half of 20 ms each with four copies of earlier ones. The
/// speaker takes all of them every 10 ms; without one the oldest are dropped.
const QUEUE_PACKETS: usize = 384;
/// Blocks of 10 ms over which the level is taken.
const LEVEL_BLOCKS: u32 = 100;
/// Blocks between two looks for a tone, each of which reads a second of audio.
const TONE_BLOCKS: u32 = 25;

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
    /// How much later audio is heard than its frame is shown.
    pub(crate) av_offset_ms: Option<f32>,
    /// The same measured, where the remote peer flashes and beeps.
    pub(crate) flash_and_beep: Option<SyncFigures>,
}

/// Packets of one peer connection on their way to the speaker's thread.
#[derive(Debug, Default)]
pub(crate) struct AudioQueue {
    packets: Mutex<VecDeque<ReceivedRtp>>,
    /// Payload bytes of all that came.
    bytes: AtomicU64,
    /// Packets dropped because no speaker took them.
    untaken: AtomicU64,
    heard: AtomicBool,
}

impl AudioQueue {
    /// For the callback of `rtc`: never waits for more than another push or [`Self::take`]. Returns whether it was the
    /// first packet.
    pub(crate) fn push(&self, packet: ReceivedRtp) -> bool {
        self.bytes.fetch_add(packet.payload.len() as u64, Ordering::Relaxed);
        let mut packets = lock(&self.packets);
        if packets.len() == QUEUE_PACKETS
            && let Some(oldest) = packets.pop_front()
            && !oldest.retransmitted
        {
            self.untaken.fetch_add(1, Ordering::Relaxed);
        }
        packets.push_back(packet);
        drop(packets);
        !self.heard.swap(true, Ordering::Relaxed)
    }

    /// Moves all of them into `empty`.
    fn take(&self, empty: &mut VecDeque<ReceivedRtp>) {
        std::mem::swap(&mut *lock(&self.packets), empty);
    }

    fn is_heard(&self) -> bool {
        self.heard.load(Ordering::Relaxed)
    }
}

type LatencyOf = Box<dyn Fn() -> Duration + Send>;

/// What the engine, the network task and the speaker's thread share of received audio.
pub(crate) struct AudioReceive {
    clock: MediaClock,
    /// The engine's.
    connection: Mutex<Option<Connection>>,
    /// The connection that the speaker's thread plays from its next block on; the inner `None` is none.
    next: Mutex<Option<Option<Playing>>>,
    /// The speaker's thread's, which holds the lock while it decodes; nobody else takes it.
    playout: Mutex<Playout>,
    figures: Mutex<PlayoutFigures>,
    /// From handing out to the ear.
    speaker_latency: Mutex<Option<LatencyOf>>,
}

struct Connection {
    queue: Arc<AudioQueue>,
    sync: SharedSync,
    rate: RateMeter,
    /// Bytes that are in `rate`.
    counted_bytes: u64,
}

/// A connection as the speaker's thread has it.
struct Playing {
    queue: Arc<AudioQueue>,
    sync: SharedSync,
    jitter: JitterBuffer,
}

/// What the speaker's thread last measured.
#[derive(Debug, Clone, Copy, Default)]
struct PlayoutFigures {
    stats: PlayoutStats,
    level_dbfs: Option<f32>,
    tone_hz: Option<f32>,
    stereo: bool,
}

impl AudioReceive {
    pub(crate) fn new(clock: MediaClock) -> Self {
        Self {
            clock,
            connection: Mutex::default(),
            next: Mutex::default(),
            playout: Mutex::new(Playout::new()),
            figures: Mutex::default(),
            speaker_latency: Mutex::default(),
        }
    }

    /// Plays a new peer connection.
    pub(crate) fn begin(&self, queue: Arc<AudioQueue>, sync: SharedSync, jitter: JitterBuffer) {
        *lock(&self.connection) = Some(Connection {
            queue: queue.clone(),
            sync: sync.clone(),
            rate: RateMeter::default(),
            counted_bytes: 0,
        });
        *lock(&self.figures) = PlayoutFigures::default();
        *lock(&self.next) = Some(Some(Playing { queue, sync, jitter }));
    }

    /// The peer connection is over.
    pub(crate) fn end(&self) {
        *lock(&self.connection) = None;
        *lock(&self.next) = Some(None);
    }

    /// Asked for the delay of the speaker in use; `None`: it has none.
    pub(crate) fn set_speaker_latency(&self, latency: Option<LatencyOf>) {
        *lock(&self.speaker_latency) = latency;
    }

    /// The next 10 ms for the speaker; silence while there is nothing to play.
    pub(crate) fn pull(&self, out: &mut PlayoutBlock) {
        let mut playout = lock(&self.playout);
        if let Some(next) = lock(&self.next).take() {
            playout.playing = next;
        }
        let latency = lock(&self.speaker_latency).as_ref().map_or(Duration::ZERO, |of| of());
        playout.pull(self.clock, latency, out);
        *lock(&self.figures) = playout.figures;
    }

    pub(crate) fn counts(&self, now: Instant) -> AudioReceiveCounts {
        let mut connection = lock(&self.connection);
        let Some(connection) = &mut *connection else { return AudioReceiveCounts::default() };
        let bytes = connection.queue.bytes.load(Ordering::Relaxed);
        let before = std::mem::replace(&mut connection.counted_bytes, bytes);
        connection.rate.add(now, bytes.saturating_sub(before));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a bitrate")]
        let bitrate_bps = (connection.rate.per_second(now) * 8.0) as u64;
        let PlayoutFigures { stats, level_dbfs, tone_hz, stereo } = *lock(&self.figures);
        #[expect(clippy::cast_precision_loss, reason = "a share for people")]
        let concealed_ratio =
            stats.concealed_samples as f32 / stats.total_samples_received.max(1) as f32;
        AudioReceiveCounts {
            packets: stats.packets_received + connection.queue.untaken.load(Ordering::Relaxed),
            lost: stats.packets_lost,
            concealed_ratio,
            delay: stats.current_delay,
            jitter: stats.jitter,
            bitrate_bps,
            level_dbfs,
            tone_hz,
            channels: if stereo { 2 } else { 1 },
            red_copies: stats.red_copies_received,
            red_recovered: stats.red_recovered_packets,
            av_offset_ms: connection.sync.offset_ms(self.clock.now()),
            flash_and_beep: connection.sync.figures(),
        }
    }
}

/// The jitter buffer and the meters behind it.
struct Playout {
    playing: Option<Playing>,
    /// Empty between two blocks; keeps its memory.
    taken: VecDeque<ReceivedRtp>,
    tone: ToneMeter,
    squares: f32,
    blocks: u32,
    figures: PlayoutFigures,
}

impl Playout {
    fn new() -> Self {
        Self {
            playing: None,
            taken: VecDeque::new(),
            tone: ToneMeter::new(),
            squares: 0.0,
            blocks: 0,
            figures: PlayoutFigures::default(),
        }
    }

    fn pull(&mut self, clock: MediaClock, latency: Duration, out: &mut PlayoutBlock) {
        let mut made_up = false;
        match &mut self.playing {
            Some(Playing { queue, sync, jitter }) => {
                queue.take(&mut self.taken);
                self.taken.drain(..).for_each(|packet| jitter.push(&packet));
                let now = clock.now();
                let heard = jitter
                    .next_timestamp()
                    .map(|rtp_timestamp| Heard { rtp_timestamp, added: jitter.extra_delay() });
                made_up = jitter.pull_into(now, out) == PlayoutKind::Concealed;
                if let Some(delay) = sync.on_heard(now, latency, heard, &out.mono()) {
                    jitter.set_extra_delay(delay);
                }
                self.figures.stats = jitter.stats();
            }
            None => {
                *out = PlayoutBlock::SILENCE;
                self.figures.stats = PlayoutStats::default();
            }
        }
        self.figures.stereo = out.stereo;
        self.measure(&out.mono(), made_up);
    }

    fn measure(&mut self, mono: &[f32], made_up: bool) {
        let squares = mono.iter().map(|s| s * s).sum::<f32>();
        #[expect(clippy::cast_precision_loss, reason = "480")]
        let rms = || (squares / AUDIO_FRAME_SAMPLES as f32).sqrt();
        tracing::trace!(target: TRACE, level_dbfs = level_dbfs(rms()), made_up, "sound");
        self.tone.push(mono);
        self.squares += squares;
        self.blocks += 1;
        if self.blocks.is_multiple_of(TONE_BLOCKS) {
            self.figures.tone_hz = self.tone.tone_hz();
        }
        if self.blocks == LEVEL_BLOCKS {
            let is_heard = self.playing.as_ref().is_some_and(|playing| playing.queue.is_heard());
            #[expect(clippy::cast_precision_loss, reason = "48000")]
            let mean = self.squares / (LEVEL_BLOCKS as usize * AUDIO_FRAME_SAMPLES) as f32;
            self.figures.level_dbfs = is_heard.then(|| level_dbfs(mean.sqrt()));
            (self.squares, self.blocks) = (0.0, 0);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use visavis_media::MediaTime;
    use visavis_media::codec::opus::{OpusEncoder, OpusEncoderConfig};
    use visavis_media::synthetic::Tone;

    use super::*;

    /// Packets of a tone, 20 ms each, that arrive in time from now on.
    fn packets(clock: MediaClock, count: u16) -> Vec<ReceivedRtp> {
        let mut encoder = OpusEncoder::new(OpusEncoderConfig::default()).unwrap();
        let (mut tone, begin) = (Tone::default(), clock.now());
        let frames = (0..2 * u64::from(count)).filter_map(|n| {
            encoder.encode(&tone.next_frame(MediaTime::from_micros(n * 10_000))).unwrap()
        });
        (0..count)
            .zip(frames)
            .map(|(sequence, packet)| ReceivedRtp {
                codec: None,
                sequence,
                timestamp: u32::from(sequence) * 960,
                marker: false,
                payload: packet.data,
                arrival: begin + Duration::from_millis(20) * u32::from(sequence),
                retransmitted: false,
            })
            .collect()
    }

    #[test]
    fn packets_are_counted_when_they_are_pulled_and_forgotten_with_their_connection() {
        let clock = MediaClock::default();
        let audio = AudioReceive::new(clock);
        let queue = Arc::new(AudioQueue::default());
        audio.begin(queue.clone(), SharedSync::default(), JitterBuffer::new().unwrap());
        let firsts = packets(clock, 10).into_iter().map(|packet| queue.push(packet));
        assert_eq!(firsts.filter(|first| *first).count(), 1);
        let mut block = PlayoutBlock::SILENCE;
        audio.pull(&mut block);
        let counts = audio.counts(Instant::now());
        assert_eq!(counts.packets, 10);
        assert!(counts.bitrate_bps > 0);

        audio.end();
        audio.pull(&mut block);
        assert_eq!(block, PlayoutBlock::SILENCE);
        assert_eq!(audio.counts(Instant::now()).packets, 0);
        // The next one begins anew, whatever the old one still gets.
        queue.push(packets(clock, 1).remove(0));
        let fresh = Arc::new(AudioQueue::default());
        audio.begin(fresh, SharedSync::default(), JitterBuffer::new().unwrap());
        audio.pull(&mut block);
        assert_eq!(audio.counts(Instant::now()).packets, 0);
    }

    #[test]
    fn without_a_speaker_the_newest_packets_are_kept_and_all_are_counted() {
        let clock = MediaClock::default();
        let audio = AudioReceive::new(clock);
        let queue = Arc::new(AudioQueue::default());
        audio.begin(queue.clone(), SharedSync::default(), JitterBuffer::new().unwrap());
        for packet in packets(clock, 500) {
            queue.push(packet);
        }
        let mut kept = VecDeque::new();
        queue.take(&mut kept);
        assert_eq!((kept.len(), kept[0].sequence), (QUEUE_PACKETS, 500 - QUEUE_PACKETS as u16));
        assert_eq!(audio.counts(Instant::now()).packets, 500 - QUEUE_PACKETS as u64);
    }
}
