//! Speakers. Thread "speaker": keeps a small ring filled for the audio callback, which is woken
//! by that callback, so that the device's clock sets the pace and nothing drifts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::Thread;
use std::time::{Duration, Instant};

use cpal::traits::{DeviceTrait, StreamTrait};
use visavis_media::audio::resample::Resampler;
use visavis_media::{AUDIO_RATE_HZ, MediaError, PlayoutBlock};

use super::complaints::Complaints;
use super::{
    AudioDeviceFormat, AudioStats, Counters, STREAM_TIMEOUT, convert, failure, find, format_of,
    name_of, with_small_blocks,
};
use crate::worker::{Stop, Worker};
use crate::{CaptureError, DeviceId, DeviceKind, OnEnd};

/// What the ring can hold; far more than is ever kept in it.
const RING: Duration = Duration::from_millis(500);
/// What is kept in the ring beyond the callback's block: how long the feeding thread may be late.
/// Every millisecond of it is heard as delay, so it begins small and grows where it is needed.
const MIN_RESERVE: Duration = Duration::from_millis(10);
/// A machine that needs more is too busy for a call.
const MAX_RESERVE: Duration = Duration::from_millis(50);
/// By how much the reserve grows after a gap, and shrinks after a while without one.
const RESERVE_STEP: Duration = Duration::from_millis(10);
const CALM: Duration = Duration::from_secs(30);
/// No device asks for more at once than a person would bear as delay.
const MAX_BLOCK: Duration = Duration::from_millis(200);
/// How late the thread looks if nobody wakes it.
const IDLE: Duration = Duration::from_millis(100);

/// An open speaker; sound is pulled until it is dropped or [`OnEnd`] is called.
#[derive(Debug)]
pub struct Speaker {
    format: AudioDeviceFormat,
    shared: Arc<Shared>,
    _worker: Worker,
}

impl Speaker {
    /// Opens a speaker (`None`: the default) and starts it. Blocks until it runs, 5 s at most.
    ///
    /// `source` fills 10 ms of 48 kHz (given as silence) whenever the device needs more: on
    /// average 100 times a second of the device's clock, on the speaker's thread. It must not
    /// block; the callback plays silence if it takes longer than the sound in reserve. It is told
    /// how long it will be until the first of these samples is heard, as far as that is known:
    /// what waits before it, and what the sound system says that it holds.
    ///
    /// # Errors
    ///
    /// Every [`CaptureError`]; each says what to do.
    pub fn open(
        id: Option<DeviceId>,
        mut source: impl FnMut(&mut PlayoutBlock, Duration) + Send + 'static,
        on_end: OnEnd,
    ) -> Result<Self, CaptureError> {
        let device = id.as_ref().map_or_else(|| "the speaker".to_owned(), ToString::to_string);
        let shared = Arc::new(Shared::default());
        let share = shared.clone();
        let (format, worker) = Worker::start(
            "speaker",
            &device,
            move || {
                let output = Output::open(id.as_ref(), share)?;
                let format = output.format.clone();
                Ok((output, format))
            },
            move |output, stop| {
                if let Err(error) = output.run(stop, &mut source) {
                    tracing::warn!(%error, "the speaker ended");
                    on_end(error);
                }
            },
        )?;
        tracing::info!(?format, "speaker opened");
        Ok(Self { format, shared, _worker: worker })
    }

    /// What the device plays.
    pub fn format(&self) -> &AudioDeviceFormat {
        &self.format
    }

    /// What was lost so far.
    pub fn stats(&self) -> AudioStats {
        self.shared.counters.read()
    }

    /// Estimated time from `source` to the ear: what waits here, and what the sound system says
    /// that it holds. Zero until the first block has played.
    pub fn latency(&self) -> Duration {
        Duration::from_micros(self.shared.latency_us.load(Ordering::Relaxed))
    }

    /// [`Self::latency`] for another thread to ask; after the speaker is closed, its last value.
    pub fn latency_reader(&self) -> impl Fn() -> Duration + Send + 'static {
        let shared = self.shared.clone();
        move || Duration::from_micros(shared.latency_us.load(Ordering::Relaxed))
    }
}

/// What callback, thread and owner all see.
#[derive(Debug, Default)]
struct Shared {
    counters: Arc<Counters>,
    latency_us: AtomicU64,
    /// The sound system's part of it.
    device_us: AtomicU64,
    /// The largest block the callback has lately asked for, frames.
    recent_block: AtomicU64,
}

/// The callback's side.
struct Outlet {
    channels: usize,
    rate_hz: u32,
    samples: rtrb::Consumer<[f32; 2]>,
    shared: Arc<Shared>,
    thread: Thread,
}

impl Outlet {
    fn give(&mut self, data: &mut cpal::Data, info: &cpal::OutputCallbackInfo) {
        let frames = (data.len() / self.channels) as u64;
        self.shared.counters.blocks.fetch_add(1, Ordering::Relaxed);
        // A large block (the first one always is) is forgotten within half a second.
        let before = self.shared.recent_block.load(Ordering::Relaxed);
        self.shared.recent_block.store(frames.max(before - before / 16), Ordering::Relaxed);
        let stamp = info.timestamp();
        let device = stamp.playback.saturating_duration_since(stamp.callback);
        let waiting_us = self.samples.slots() as u64 * 1_000_000 / u64::from(self.rate_hz);
        let device_us = u64::try_from(device.as_micros()).unwrap_or(0);
        self.shared.latency_us.store(waiting_us + device_us, Ordering::Relaxed);
        self.shared.device_us.store(device_us, Ordering::Relaxed);
        if convert::write(data, self.channels, &mut self.samples) > 0 {
            self.shared.counters.gaps.fetch_add(1, Ordering::Relaxed);
        }
        self.thread.unpark();
    }
}

/// The thread's side.
struct Output {
    format: AudioDeviceFormat,
    feed: Feed,
    shared: Arc<Shared>,
    complaints: Complaints,
    stream: cpal::Stream,
}

impl Output {
    /// Runs on the speaker's thread, which the callbacks wake from then on.
    fn open(id: Option<&DeviceId>, shared: Arc<Shared>) -> Result<Self, CaptureError> {
        let kind = DeviceKind::Speaker;
        let device = find(kind, id)?;
        let name = name_of(&device);
        // ALSA has a default even on a machine without any sound.
        let missing = |error| match error {
            CaptureError::Gone { .. } if id.is_none() => CaptureError::NoDevice(kind),
            other => other,
        };
        let failed = |e: cpal::Error| missing(failure(kind, &name, &e));
        let format = format_of(kind, 2, &device).map_err(missing)?;
        let (rate, channels) = (format.config.sample_rate, format.config.channels);
        let thread = std::thread::current();
        let (complaints, on_error) = Complaints::new(shared.counters.clone(), thread.clone());
        let mut ring = None;
        let stream = with_small_blocks(format, |config| {
            let (samples_in, samples) = rtrb::RingBuffer::new(frames(RING, rate));
            ring = Some(samples_in);
            let mut outlet = Outlet {
                channels: usize::from(channels),
                rate_hz: rate,
                samples,
                shared: shared.clone(),
                thread: thread.clone(),
            };
            device.build_output_stream_raw(
                config,
                format.samples,
                move |data, info| outlet.give(data, info),
                on_error.clone(),
                Some(STREAM_TIMEOUT),
            )
        })
        .map_err(failed)?;
        let Some(ring) = ring else {
            return Err(CaptureError::NoUsableFormat { device: name });
        };
        let block_frames = stream.buffer_size().ok();
        // At first it fills both of its halves.
        let first_block = 2 * u64::from(block_frames.unwrap_or(rate / 100));
        shared.recent_block.store(first_block, Ordering::Relaxed);
        let format = AudioDeviceFormat { name, rate_hz: rate, channels, block_frames };
        let feed = Feed::new(rate, ring).map_err(|e| broken(&format.name, &e))?;
        Ok(Self { format, feed, shared, complaints, stream })
    }

    /// Feeds the ring until told to stop.
    fn run(
        mut self,
        stop: &Stop,
        source: &mut impl FnMut(&mut PlayoutBlock, Duration),
    ) -> Result<(), CaptureError> {
        let failed = |e: &cpal::Error| failure(DeviceKind::Speaker, &self.format.name, e);
        let shared = self.shared.clone();
        let mut reserve = Reserve::new(Instant::now());
        let mut fill = |feed: &mut Feed| {
            let reserve = reserve.update(shared.counters.read().gaps, Instant::now());
            let device = Duration::from_micros(shared.device_us.load(Ordering::Relaxed));
            feed.fill(shared.recent_block.load(Ordering::Relaxed), reserve, device, source)
                .map_err(|e| broken(&self.format.name, &e))
        };
        // The first block is there before it is asked for.
        fill(&mut self.feed)?;
        self.stream.play().map_err(|e| failed(&e))?;
        while !stop.requested() {
            if let Some(error) = self.complaints.fatal(Instant::now()) {
                return Err(failed(&error));
            }
            fill(&mut self.feed)?;
            std::thread::park_timeout(IDLE);
        }
        Ok(())
    }
}

/// How much is kept in reserve on this machine at this time.
struct Reserve {
    length: Duration,
    gaps: u64,
    since: Instant,
}

impl Reserve {
    fn new(now: Instant) -> Self {
        Self { length: MIN_RESERVE, gaps: 0, since: now }
    }

    /// The reserve, given how many gaps there were so far.
    fn update(&mut self, gaps: u64, now: Instant) -> Duration {
        if gaps > self.gaps {
            self.length = (self.length + RESERVE_STEP).min(MAX_RESERVE);
            (self.gaps, self.since) = (gaps, now);
        } else if self.length > MIN_RESERVE && now.saturating_duration_since(self.since) > CALM {
            self.length -= RESERVE_STEP;
            self.since = now;
        }
        self.length
    }
}

/// Pulls frames from the source, resamples them and puts them into the ring.
struct Feed {
    rate_hz: u32,
    ring: rtrb::Producer<[f32; 2]>,
    resampler: Resampler,
    /// Whether the resampler has two channels: from the first stereo block on.
    stereo: bool,
    /// Left and right in turn.
    interleaved: Vec<f32>,
    resampled: Vec<f32>,
}

impl Feed {
    fn new(rate_hz: u32, ring: rtrb::Producer<[f32; 2]>) -> Result<Self, MediaError> {
        let resampler = Resampler::new(AUDIO_RATE_HZ, rate_hz)?;
        let (interleaved, resampled) = (Vec::new(), Vec::new());
        Ok(Self { rate_hz, ring, resampler, stereo: false, interleaved, resampled })
    }

    /// Puts a block into the ring. All of it fits: the ring holds more than the largest target and a
    /// block.
    fn put(&mut self, block: &PlayoutBlock) -> Result<(), MediaError> {
        if block.stereo && !self.stereo {
            self.resampler = Resampler::with_channels(AUDIO_RATE_HZ, self.rate_hz, 2)?;
            self.stereo = true;
        }
        self.resampled.clear();
        if self.stereo {
            self.interleaved.clear();
            let pairs = block.left.iter().zip(&block.right);
            self.interleaved.extend(pairs.flat_map(|(&left, &right)| [left, right]));
            self.resampler.process(&self.interleaved, &mut self.resampled)?;
            let _ = self.ring.push_partial_slice(self.resampled.as_chunks::<2>().0);
        } else {
            self.resampler.process(&block.left, &mut self.resampled)?;
            let room = self.ring.slots().min(self.resampled.len());
            if let Ok(chunk) = self.ring.write_chunk_uninit(room) {
                chunk.fill_from_iter(self.resampled.iter().map(|&sample| [sample; 2]));
            }
        }
        Ok(())
    }

    /// Until there is enough for one block of `block` frames and the reserve.
    fn fill(
        &mut self,
        block: u64,
        reserve: Duration,
        device: Duration,
        source: &mut impl FnMut(&mut PlayoutBlock, Duration),
    ) -> Result<(), MediaError> {
        let block = usize::try_from(block).unwrap_or(0).min(frames(MAX_BLOCK, self.rate_hz));
        let target = block + frames(reserve, self.rate_hz);
        loop {
            let waiting = self.ring.buffer().capacity() - self.ring.slots();
            if waiting >= target {
                return Ok(());
            }
            let mut block = PlayoutBlock::SILENCE;
            let before = Duration::from_secs(waiting as u64) / self.rate_hz;
            source(&mut block, before + device);
            self.put(&block)?;
        }
    }
}

/// The resampler's complaint, as the device's.
fn broken(device: &str, error: &MediaError) -> CaptureError {
    CaptureError::Failed { device: device.to_owned(), detail: error.to_string() }
}

/// Frames in a time.
fn frames(time: Duration, rate_hz: u32) -> usize {
    (time.as_micros() * u128::from(rate_hz) / 1_000_000) as usize
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::BLOCK;
    use super::*;

    #[test]
    fn the_feed_keeps_a_block_and_the_reserve_and_no_more_than_a_frame_beyond() {
        for rate_hz in [16_000, 44_100, 48_000, 96_000] {
            let (producer, mut consumer) = rtrb::RingBuffer::new(frames(RING, rate_hz));
            let mut feed = Feed::new(rate_hz, producer).unwrap();
            let mut pulled = 0_u32;
            let block = frames(Duration::from_millis(10), rate_hz);
            let device = Duration::from_millis(7);
            let mut longest = Duration::ZERO;
            let mut source = |block: &mut PlayoutBlock, latency: Duration| {
                pulled += 1;
                longest = longest.max(latency);
                // Mono at first.
                block.left.fill(0.25);
                block.right.fill(if pulled > 50 { -0.5 } else { 0.25 });
                block.stereo = pulled > 50;
            };
            feed.fill(block as u64, MIN_RESERVE, device, &mut source).unwrap();
            let target = block + frames(MIN_RESERVE, rate_hz);
            for _ in 0..100 {
                let waiting = consumer.slots();
                assert!(waiting >= target, "{rate_hz}: {waiting}");
                assert!(waiting <= target + 2 * block, "{rate_hz}: {waiting}");
                consumer.read_chunk(block).unwrap().commit_all();
                feed.fill(block as u64, MIN_RESERVE, device, &mut source).unwrap();
            }
            // The device's clock decides: 100 blocks taken, 100 pulled and the standing reserve.
            assert!((102..=106).contains(&pulled), "{rate_hz}: {pulled}");
            // At most the reserve and a block wait before a frame, and then the device.
            let most = device + MIN_RESERVE + BLOCK;
            assert!((device + MIN_RESERVE..=most).contains(&longest), "{rate_hz}: {longest:?}");
            let last: Vec<[f32; 2]> = consumer.read_chunk(10).unwrap().into_iter().collect();
            assert!(last.iter().all(|[l, r]| (l - 0.25).abs() < 0.01 && (r + 0.5).abs() < 0.01));
        }
    }

    #[test]
    fn the_reserve_grows_with_gaps_and_shrinks_in_the_calm() {
        let start = Instant::now();
        let mut reserve = Reserve::new(start);
        assert_eq!(reserve.update(0, start), MIN_RESERVE);
        assert_eq!(reserve.update(1, start), MIN_RESERVE + RESERVE_STEP);
        assert_eq!(reserve.update(1, start + CALM / 2), MIN_RESERVE + RESERVE_STEP);
        for gaps in 2..20 {
            reserve.update(gaps, start);
        }
        assert_eq!(reserve.update(20, start), MAX_RESERVE);
        let mut now = start;
        for _ in 0..20 {
            now += CALM + BLOCK;
            reserve.update(20, now);
        }
        assert_eq!(reserve.update(20, now), MIN_RESERVE);
    }

    #[test]
    fn an_absurd_block_does_not_overfill_the_ring() {
        let (producer, consumer) = rtrb::RingBuffer::new(frames(RING, 48_000));
        let mut feed = Feed::new(48_000, producer).unwrap();
        feed.fill(u64::MAX, MAX_RESERVE, Duration::ZERO, &mut |_, _| {}).unwrap();
        assert!(consumer.slots() <= frames(MAX_BLOCK + MAX_RESERVE + BLOCK, 48_000));
    }
}
