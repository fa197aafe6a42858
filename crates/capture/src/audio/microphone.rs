//! Microphones. Thread "microphone": takes what the audio callback left in the ring, resamples it
//! to 48 kHz and cuts it into frames.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::Thread;
use std::time::{Duration, Instant};

use cpal::traits::{DeviceTrait, StreamTrait};
use visavis_media::audio::resample::Resampler;
use visavis_media::{
    AUDIO_FRAME, AUDIO_FRAME_SAMPLES, AUDIO_RATE_HZ, AudioFrame, MediaError, MediaTime,
};

use super::complaints::Complaints;
use super::{
    AudioDeviceFormat, AudioStats, Counters, STREAM_TIMEOUT, convert, failure, find, format_of,
    name_of, with_small_blocks,
};
use crate::worker::{Stop, Worker};
use crate::{CaptureError, Clock, DeviceId, DeviceKind, OnEnd};

/// What fits between callback and thread; only a thread that is kept from running needs so much.
const RING: Duration = Duration::from_millis(500);
/// Callbacks whose times are not yet read.
const MAX_MARKS: usize = 256;
/// How late the thread looks if nobody wakes it.
const IDLE: Duration = Duration::from_millis(100);

/// An open microphone; frames come until it is dropped or [`OnEnd`] is called.
#[derive(Debug)]
pub struct Microphone {
    format: AudioDeviceFormat,
    counters: Arc<Counters>,
    _worker: Worker,
}

impl Microphone {
    /// Opens a microphone (`None`: the default) and starts it. Blocks until it runs, 5 s at most.
    ///
    /// With `stereo` frames have two channels if the device has two, else they are mono.
    ///
    /// `sink` gets each 10 ms on the microphone's thread and may take as long as that on average.
    /// Frames carry the time of their first sample on `clock`, smoothed over the callbacks'
    /// jitter.
    ///
    /// # Errors
    ///
    /// Every [`CaptureError`]; each says what to do.
    pub fn open(
        id: Option<DeviceId>,
        stereo: bool,
        clock: Clock,
        mut sink: impl FnMut(AudioFrame) + Send + 'static,
        on_end: OnEnd,
    ) -> Result<Self, CaptureError> {
        let device = id.as_ref().map_or_else(|| "the microphone".to_owned(), ToString::to_string);
        let counters = Arc::new(Counters::default());
        let counted = counters.clone();
        let (format, worker) = Worker::start(
            "microphone",
            &device,
            move || {
                let input = Input::open(id.as_ref(), stereo, counted)?;
                let format = input.format.clone();
                Ok((input, format))
            },
            move |input, stop| {
                if let Err(error) = input.run(stop, &clock, &mut sink) {
                    tracing::warn!(%error, "the microphone ended");
                    on_end(error);
                }
            },
        )?;
        tracing::info!(?format, "microphone opened");
        Ok(Self { format, counters, _worker: worker })
    }

    /// What the device delivers, before it is made 48 kHz.
    pub fn format(&self) -> &AudioDeviceFormat {
        &self.format
    }

    /// What was lost so far.
    pub fn stats(&self) -> AudioStats {
        self.counters.read()
    }
}

/// When a sample was captured.
#[derive(Debug, Clone, Copy)]
struct Mark {
    /// Frames that went into the ring before this one.
    position: u64,
    at: Instant,
}

/// The callback's side.
struct Intake {
    channels: usize,
    /// Channels of what is in the ring.
    kept: usize,
    samples: rtrb::Producer<f32>,
    marks: rtrb::Producer<Mark>,
    written: u64,
    counters: Arc<Counters>,
    thread: Thread,
}

impl Intake {
    fn take(&mut self, data: &cpal::Data, info: &cpal::InputCallbackInfo) {
        self.counters.blocks.fetch_add(1, Ordering::Relaxed);
        let stamp = info.timestamp();
        let age = stamp.callback.saturating_duration_since(stamp.capture).min(RING);
        let now = Instant::now();
        let taken = match self.kept {
            2 => convert::read_stereo(data, &mut self.samples),
            _ => convert::read_mono(data, self.channels, &mut self.samples),
        };
        if taken {
            // One mark less is no harm: the next is as good.
            let at = now.checked_sub(age).unwrap_or(now);
            let _ = self.marks.push(Mark { position: self.written, at });
            self.written += (data.len() / self.channels) as u64;
        } else {
            self.counters.gaps.fetch_add(1, Ordering::Relaxed);
        }
        self.thread.unpark();
    }
}

/// The thread's side.
struct Input {
    format: AudioDeviceFormat,
    /// Channels of `samples`.
    kept: usize,
    samples: rtrb::Consumer<f32>,
    marks: rtrb::Consumer<Mark>,
    complaints: Complaints,
    _stream: cpal::Stream,
}

impl Input {
    /// Runs on the microphone's thread, which the callbacks wake from then on.
    fn open(
        id: Option<&DeviceId>,
        stereo: bool,
        counters: Arc<Counters>,
    ) -> Result<Self, CaptureError> {
        let kind = DeviceKind::Microphone;
        let wanted = if stereo { 2 } else { 1 };
        let device = find(kind, id)?;
        let name = name_of(&device);
        let failed = |e: cpal::Error| match failure(kind, &name, &e) {
            // ALSA has a default even on a machine without any sound.
            CaptureError::Gone { .. } if id.is_none() => CaptureError::NoDevice(kind),
            other => other,
        };
        let format = format_of(kind, wanted, &device).map_err(|error| match error {
            CaptureError::Gone { .. } if id.is_none() => CaptureError::NoDevice(kind),
            other => other,
        })?;
        let (rate, channels) = (format.config.sample_rate, format.config.channels);
        let kept = convert::kept_channels(channels, stereo);
        let capacity = kept * rate as usize * RING.as_millis() as usize / 1000;
        let thread = std::thread::current();
        let (complaints, on_error) = Complaints::new(counters.clone(), thread.clone());
        let mut ends = None;
        let stream = with_small_blocks(format, |config| {
            let (samples, samples_out) = rtrb::RingBuffer::new(capacity);
            let (marks, marks_out) = rtrb::RingBuffer::new(MAX_MARKS);
            ends = Some((samples_out, marks_out));
            let mut intake = Intake {
                channels: usize::from(channels),
                kept,
                samples,
                marks,
                written: 0,
                counters: counters.clone(),
                thread: thread.clone(),
            };
            device.build_input_stream_raw(
                config,
                format.samples,
                move |data, info| intake.take(data, info),
                on_error.clone(),
                Some(STREAM_TIMEOUT),
            )
        })
        .map_err(failed)?;
        stream.play().map_err(failed)?;
        let Some((samples, marks)) = ends else {
            return Err(CaptureError::NoUsableFormat { device: name });
        };
        let format = AudioDeviceFormat {
            name,
            rate_hz: rate,
            channels,
            block_frames: stream.buffer_size().ok(),
        };
        Ok(Self { format, kept, samples, marks, complaints, _stream: stream })
    }

    /// Hands out frames until told to stop.
    fn run(
        mut self,
        stop: &Stop,
        clock: &Clock,
        sink: &mut impl FnMut(AudioFrame),
    ) -> Result<(), CaptureError> {
        let broken = |e: MediaError| CaptureError::Failed {
            device: self.format.name.clone(),
            detail: e.to_string(),
        };
        let kept = self.kept;
        let mut resampler =
            Resampler::with_channels(self.format.rate_hz, AUDIO_RATE_HZ, kept).map_err(broken)?;
        let mut timeline = Timeline::new(self.format.rate_hz);
        let mut raw: Vec<f32> = Vec::new();
        let mut pending: Vec<f32> = Vec::new();
        while !stop.requested() {
            if let Some(error) = self.complaints.fatal(Instant::now()) {
                return Err(failure(DeviceKind::Microphone, &self.format.name, &error));
            }
            raw.clear();
            if let Ok(chunk) = self.samples.read_chunk(self.samples.slots()) {
                let (first, second) = chunk.as_slices();
                raw.extend_from_slice(first);
                raw.extend_from_slice(second);
                chunk.commit_all();
            }
            if raw.is_empty() {
                std::thread::park_timeout(IDLE);
                continue;
            }
            while let Ok(mark) = self.marks.pop() {
                timeline.mark = Some(mark);
            }
            resampler.process(&raw, &mut pending).map_err(broken)?;
            timeline.read += (raw.len() / kept) as u64;
            let (now, media_now) = (Instant::now(), clock());
            let mut start = 0;
            let frame = kept * AUDIO_FRAME_SAMPLES;
            while pending.len() - start >= frame {
                let age = timeline.next_frame(now, (pending.len() - start) / kept);
                let age_us = u64::try_from(age.as_micros()).unwrap_or(0);
                let time = MediaTime::from_micros(media_now.as_micros().saturating_sub(age_us));
                let samples = pending[start..start + frame].to_vec();
                start += frame;
                sink(AudioFrame { samples, time });
            }
            pending.drain(..start);
        }
        Ok(())
    }
}

/// Capture times of frames: one after the other at the rate of the samples, held to what the
/// callbacks say, so that neither jitter nor drift shows.
struct Timeline {
    rate_hz: u32,
    /// Frames taken out of the ring so far.
    read: u64,
    mark: Option<Mark>,
    /// When the next frame's first sample is expected to have been captured.
    next: Option<Instant>,
}

/// How much of the difference is corrected with each frame.
const PULL: f64 = 0.02;
/// A difference like this is no jitter: sound was lost, or the machine slept.
const JUMP: Duration = Duration::from_millis(60);

impl Timeline {
    fn new(rate_hz: u32) -> Self {
        Self { rate_hz, read: 0, mark: None, next: None }
    }

    /// Age at `now` of a frame that is followed by the rest of `pending` samples at 48 kHz.
    fn next_frame(&mut self, now: Instant, pending: usize) -> Duration {
        let measured = self.measure(now, pending);
        let at = match self.next {
            Some(expected) => {
                let late = measured.saturating_duration_since(expected);
                let early = expected.saturating_duration_since(measured);
                if late.max(early) > JUMP {
                    measured
                } else {
                    let up = expected + late.mul_f64(PULL);
                    up.checked_sub(early.mul_f64(PULL)).unwrap_or(up)
                }
            }
            None => measured,
        };
        self.next = Some(at + AUDIO_FRAME);
        now.saturating_duration_since(at)
    }

    fn measure(&self, now: Instant, pending: usize) -> Instant {
        let end = match self.mark {
            Some(mark) => {
                let since = self.read.saturating_sub(mark.position);
                mark.at + Duration::from_secs_f64(since as f64 / f64::from(self.rate_hz))
            }
            None => now,
        };
        let buffered = Duration::from_secs_f64(pending as f64 / f64::from(AUDIO_RATE_HZ));
        end.checked_sub(buffered).unwrap_or(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds blocks of 10 ms whose callbacks come `jitter(n)` late; returns the frames' times.
    fn times(rate_hz: u32, jitter: impl Fn(u32) -> Duration) -> Vec<Duration> {
        let origin = Instant::now();
        let mut timeline = Timeline::new(rate_hz);
        (0..500)
            .map(|n| {
                let at = origin + AUDIO_FRAME * n + jitter(n);
                timeline.mark = Some(Mark { position: timeline.read, at });
                timeline.read += u64::from(rate_hz) / 100;
                let now = at + AUDIO_FRAME;
                let age = timeline.next_frame(now, AUDIO_FRAME_SAMPLES);
                (now - age) - origin
            })
            .collect()
    }

    #[test]
    fn steady_blocks_give_exact_times() {
        for (n, time) in (0..).zip(times(44_100, |_| Duration::ZERO)) {
            let expected = AUDIO_FRAME * n;
            assert!(time.abs_diff(expected) < Duration::from_micros(50), "{n}: {time:?}");
        }
    }

    #[test]
    fn callback_jitter_is_smoothed() {
        let late = |n| Duration::from_millis(if n % 2 == 0 { 0 } else { 8 });
        let times = times(48_000, late);
        for pair in times[400..].windows(2) {
            let step = pair[1] - pair[0];
            assert!(step.abs_diff(AUDIO_FRAME) < Duration::from_micros(200), "{step:?}");
        }
    }

    #[test]
    fn lost_time_is_taken_over_at_once() {
        let times =
            times(48_000, |n| if n < 250 { Duration::ZERO } else { Duration::from_secs(1) });
        assert!(times[250].abs_diff(Duration::from_millis(3500)) < Duration::from_millis(1));
    }
}
