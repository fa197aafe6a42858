//! Which sources and sinks are wanted, and opening them without ever making the engine wait.
//!
//! Opening and closing happen on short-lived threads named `open-…`; the engine's loop hears of the
//! result. One kind has at most one such thread, so a device is closed before the next is opened.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use visavis_capture as capture;
use visavis_media::audio::voice::RenderReference;
use visavis_media::files::{WavReader, WavWriter, Y4mReader};
use visavis_media::synthetic::{Beep, StereoTone, TestPattern, Tone};
use visavis_media::{
    AUDIO_FRAME, AUDIO_FRAME_SAMPLES, AudioFrame, MediaError, PlayoutBlock, Size, VideoFrame,
};
use visavis_rtc::MediaClock;
use visavis_signaling_protocol::clean_name;

use crate::audio_receive::AudioReceive;
use crate::audio_send::AudioSend;
use crate::error::DeviceError;
use crate::paced::Paced;
use crate::receive::unix_ms;
use crate::run_loop::Internal;
use crate::shared::FrameSlot;
use crate::{
    CameraSource, DeviceId, DeviceInfo, DeviceList, MicrophoneSource, SpeakerSink, VideoSlot,
};

/// The three kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Camera,
    Microphone,
    Speaker,
}

/// An open source or sink; closed by dropping.
pub(crate) struct Open {
    _guard: Box<dyn Send>,
    /// For people; `None` for what is no device.
    pub(crate) name: Option<String>,
    /// For people: size and rate.
    pub(crate) format: Option<String>,
    /// Of a source of pictures: whether it can deliver them in that size.
    offers: Option<Box<dyn Fn(Size) -> bool + Send>>,
}

impl Open {
    fn new(guard: impl Send + 'static, name: impl Into<Option<String>>) -> Self {
        Self { _guard: Box::new(guard), name: name.into(), format: None, offers: None }
    }
}

/// What a thread `open-…` reports.
pub(crate) type Opened = Result<Option<Open>, DeviceError>;

/// One kind's wish and reality.
pub(crate) struct Slot<S> {
    kind: Kind,
    opener: Opener<S>,
    wanted: Option<S>,
    /// What `open` (or the thread under way) is for.
    current: Option<S>,
    open: Option<Open>,
    busy: bool,
    /// Why there is nothing, for people.
    pub(crate) problem: Option<String>,
}

impl<S: Clone + PartialEq + Send + 'static> Slot<S> {
    pub(crate) fn new(kind: Kind, opener: Opener<S>) -> Self {
        Self { kind, opener, wanted: None, current: None, open: None, busy: false, problem: None }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    pub(crate) fn name(&self) -> Option<String> {
        self.open.as_ref()?.name.clone()
    }

    pub(crate) fn format(&self) -> Option<String> {
        self.open.as_ref()?.format.clone()
    }

    /// Whether what is open can deliver pictures of that size.
    pub(crate) fn offers(&self, size: Size) -> bool {
        self.open.as_ref().and_then(|open| open.offers.as_ref()).is_some_and(|offers| offers(size))
    }

    /// Wants `source` open, or nothing.
    pub(crate) fn want(&mut self, source: Option<S>) {
        self.wanted = source;
        self.step();
    }

    /// The thread is done. Returns the problem, if a new one.
    pub(crate) fn opened(&mut self, result: Opened) -> Option<String> {
        self.busy = false;
        let problem = match result {
            Ok(open) => {
                self.open = open;
                None
            }
            Err(error) => Some(error.to_string()),
        };
        self.problem.clone_from(&problem);
        self.step();
        problem
    }

    /// The device ended by itself; it is opened again when the set of devices changes.
    pub(crate) fn ended(&mut self, problem: String) {
        if let Some(open) = self.open.take() {
            // Closing may wait for the driver.
            let _ = std::thread::Builder::new().name("close".into()).spawn(move || drop(open));
        }
        self.problem = Some(problem);
    }

    /// Tries again what failed.
    pub(crate) fn retry(&mut self) {
        if self.problem.is_some() && !self.busy {
            self.current = None;
            self.step();
        }
    }

    fn step(&mut self) {
        if self.busy || self.current == self.wanted {
            return;
        }
        self.current = self.wanted.clone();
        let (kind, source, old) = (self.kind, self.wanted.clone(), self.open.take());
        let (open, reports) = (self.opener.open.clone(), self.opener.reports.clone());
        let thread = std::thread::Builder::new().name(format!("open-{kind:?}")).spawn(move || {
            drop(old);
            let result = source.map(|s| open(s)).transpose();
            // The engine is gone if this fails, and the device with it.
            let _ = reports.blocking_send(Internal::Opened(kind, result));
        });
        match thread {
            Ok(_) => self.busy = true,
            Err(error) => self.problem = Some(DeviceError::Thread(error).to_string()),
        }
    }
}

/// How one kind is opened.
pub(crate) struct Opener<S> {
    pub(crate) open: Arc<dyn Fn(S) -> Result<Open, DeviceError> + Send + Sync>,
    pub(crate) reports: mpsc::Sender<Internal>,
}

/// What all openers need.
#[derive(Clone)]
pub(crate) struct DeviceContext {
    pub(crate) clock: MediaClock,
    pub(crate) reports: mpsc::Sender<Internal>,
}

impl DeviceContext {
    fn capture_clock(&self) -> capture::Clock {
        let clock = self.clock;
        Arc::new(move || clock.now())
    }

    fn on_end(&self, kind: Kind) -> capture::OnEnd {
        let reports = self.reports.clone();
        Box::new(move |error| {
            let _ = reports.blocking_send(Internal::DeviceEnded(kind, error.into()));
        })
    }

    fn end(&self, kind: Kind, error: DeviceError) {
        let _ = self.reports.blocking_send(Internal::DeviceEnded(kind, error));
    }
}

/// Which source of pictures is wanted, and in what size.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CameraWish {
    pub(crate) source: CameraSource,
    pub(crate) size: Size,
    /// What it may be asked for later.
    pub(crate) inquired: Size,
}

/// How cameras are opened.
pub(crate) fn camera_opener(
    context: DeviceContext,
    fps: u32,
    encode: Arc<FrameSlot>,
    preview: VideoSlot,
) -> Opener<CameraWish> {
    let reports = context.reports.clone();
    let fps = fps.clamp(1, 120);
    let open = move |wish: CameraWish| {
        let CameraWish { source, size, inquired } = wish;
        let (encode, preview, clock) = (encode.clone(), preview.clone(), context.clock);
        let sink = move |frame: VideoFrame| {
            preview.put(frame.clone());
            encode.put(frame);
        };
        match source {
            CameraSource::None => Ok(Open::new((), None)),
            CameraSource::TestPattern | CameraSource::GrainyTestPattern => {
                let mut pattern = match source {
                    CameraSource::GrainyTestPattern => TestPattern::with_grain(size),
                    _ => TestPattern::new(size),
                };
                let start = clock.now();
                let step = move || {
                    let time = clock.now();
                    #[expect(
                        clippy::cast_possible_truncation,
                        clippy::cast_sign_loss,
                        reason = "the time code is modulo 2^32"
                    )]
                    let code = unix_ms() as u64 as u32;
                    let buffer = pattern.frame(time.saturating_since(start), code);
                    sink(VideoFrame { buffer, time, rtp_timestamp: 0 });
                    true
                };
                let paced = Paced::start("test-pattern", Duration::from_secs(1) / fps, step)
                    .map_err(DeviceError::Thread)?;
                let mut open = Open::new(paced, Some("Test pattern".to_owned()));
                open.format = Some(format_words(size, fps.into()));
                open.offers = Some(Box::new(|_| true));
                Ok(open)
            }
            CameraSource::File(path) => {
                let mut reader = Y4mReader::open(&path).map_err(in_file(&path))?;
                let (size, rate) = (reader.size(), reader.frame_rate());
                let context = context.clone();
                let step = move || match reader.next_frame() {
                    Ok(buffer) => {
                        sink(VideoFrame { buffer, time: clock.now(), rtp_timestamp: 0 });
                        true
                    }
                    Err(error) => {
                        context.end(Kind::Camera, DeviceError::PictureFileEnded(error));
                        false
                    }
                };
                let interval = Duration::from_secs_f64(1.0 / rate.clamp(0.1, 240.0));
                let paced =
                    Paced::start("picture-file", interval, step).map_err(DeviceError::Thread)?;
                let mut open = Open::new(paced, Some(file_name(&path)));
                open.format = Some(format_words(size, rate));
                // They are scaled down from what the file has.
                open.offers = Some(Box::new(move |wanted| size == wanted));
                Ok(open)
            }
            CameraSource::Device(_) | CameraSource::Default => {
                let id = match source {
                    CameraSource::Device(id) => Some(capture::DeviceId::new(id.0)),
                    _ => None,
                };
                let request =
                    capture::CameraRequest { id, size, larger: Some(inquired), fps, format: None };
                let camera = capture::Camera::open(
                    request,
                    context.capture_clock(),
                    sink,
                    context.on_end(Kind::Camera),
                )?;
                let format = camera.format().clone();
                let mut open = Open::new(camera, device_name(&format.name));
                open.format = Some(format_words(format.size, format.fps));
                open.offers = Some(Box::new(move |wanted| format.larger == Some(wanted)));
                Ok(open)
            }
        }
    };
    Opener { open: Arc::new(open), reports }
}

/// A source of sound, and whether it is to have two channels if it can; files and generated sound have as
/// many as they have.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MicrophoneWish {
    source: MicrophoneSource,
    stereo: bool,
}

impl MicrophoneWish {
    pub(crate) fn new(source: MicrophoneSource, music: bool) -> Self {
        let stereo = music && is_device(&source);
        Self { source, stereo }
    }
}

fn is_device(source: &MicrophoneSource) -> bool {
    matches!(source, MicrophoneSource::Device(_) | MicrophoneSource::Default)
}

/// How microphones are opened.
pub(crate) fn microphone_opener(
    context: DeviceContext,
    send: Arc<AudioSend>,
) -> Opener<MicrophoneWish> {
    let reports = context.reports.clone();
    let open = move |MicrophoneWish { source, stereo }: MicrophoneWish| {
        let (send, clock) = (send.clone(), context.clock);
        send.voice().source_opened(is_device(&source));
        let paced = |name, mut next: Box<dyn FnMut() -> Option<AudioFrame> + Send>| {
            let send = send.clone();
            let step = move || {
                let frame = next();
                if let Some(frame) = &frame {
                    send.push(frame);
                }
                frame.is_some()
            };
            Paced::start(name, AUDIO_FRAME, step).map_err(DeviceError::Thread)
        };
        // Sound from a file or a generator is stamped without the jitter of its thread, but when
        // that left steps out, so do the stamps: else sound would fall behind the picture for good.
        let mut time = clock.now();
        let mut next_time = move || {
            let now = clock.now();
            if now > time + Paced::MAX_LATE_STEPS * AUDIO_FRAME {
                time = now;
            }
            let stamp = time;
            time = time + AUDIO_FRAME;
            stamp
        };
        match source {
            MicrophoneSource::Silence => {
                let next = move || {
                    Some(AudioFrame { samples: vec![0.0; AUDIO_FRAME_SAMPLES], time: next_time() })
                };
                Ok(Open::new(paced("silence", Box::new(next))?, Some("Silence".to_owned())))
            }
            MicrophoneSource::Tone => {
                let mut tone = Tone::default();
                let next = move || Some(tone.next_frame(next_time()));
                Ok(Open::new(paced("tone", Box::new(next))?, Some("Tone, 440 Hz".to_owned())))
            }
            MicrophoneSource::StereoTone => {
                let mut tone = StereoTone::default();
                let next = move || Some(tone.next_frame(next_time()));
                let name = "Tones, 440 Hz left and 880 Hz right".to_owned();
                Ok(Open::new(paced("tones", Box::new(next))?, Some(name)))
            }
            MicrophoneSource::Beep => {
                let mut beep = Beep::default();
                let next = move || {
                    let time = next_time();
                    let age = clock.now().saturating_since(time);
                    #[expect(
                        clippy::cast_possible_truncation,
                        clippy::cast_sign_loss,
                        reason = "years in microseconds"
                    )]
                    let unix_us = (unix_ms() * 1e3) as u64;
                    let age_us = u64::try_from(age.as_micros()).unwrap_or(0);
                    Some(beep.next_frame(time, unix_us.saturating_sub(age_us)))
                };
                Ok(Open::new(paced("beep", Box::new(next))?, Some("Beep, 1 kHz".to_owned())))
            }
            MicrophoneSource::File(path) => {
                let mut reader = WavReader::open(&path).map_err(in_file(&path))?;
                let context = context.clone();
                let next = move || match reader.next_frame(next_time()) {
                    Ok(frame) => Some(frame),
                    Err(error) => {
                        context.end(Kind::Microphone, DeviceError::SoundFileEnded(error));
                        None
                    }
                };
                Ok(Open::new(paced("sound-file", Box::new(next))?, Some(file_name(&path))))
            }
            MicrophoneSource::Device(_) | MicrophoneSource::Default => {
                let id = match source {
                    MicrophoneSource::Device(id) => Some(capture::DeviceId::new(id.0)),
                    _ => None,
                };
                let ended = SourceEnded(send.clone());
                let microphone = capture::Microphone::open(
                    id,
                    stereo,
                    context.capture_clock(),
                    move |frame: AudioFrame| ended.0.push(&frame),
                    context.on_end(Kind::Microphone),
                )?;
                let name = device_name(&microphone.format().name);
                Ok(Open::new(microphone, name))
            }
        }
    };
    Opener { open: Arc::new(open), reports }
}

/// Lets the level meter fall when a microphone goes.
struct SourceEnded(Arc<AudioSend>);

impl Drop for SourceEnded {
    fn drop(&mut self) {
        self.0.source_ended();
    }
}

/// How speakers are opened.
///
/// What a device plays, and only that, can be heard by a microphone: `reference` gets it.
pub(crate) fn speaker_opener(
    context: DeviceContext,
    receive: Arc<AudioReceive>,
    reference: Arc<RenderReference>,
) -> Opener<SpeakerSink> {
    let reports = context.reports.clone();
    let open = move |sink: SpeakerSink| {
        let (receive, reference) = (receive.clone(), reference.clone());
        receive.set_speaker_latency(None);
        match sink {
            SpeakerSink::None => {
                let step = move || {
                    receive.pull(&mut PlayoutBlock::SILENCE.clone());
                    true
                };
                let paced =
                    Paced::start("speaker-none", AUDIO_FRAME, step).map_err(DeviceError::Thread)?;
                Ok(Open::new(paced, None))
            }
            SpeakerSink::File(ref path) | SpeakerSink::StereoFile(ref path) => {
                let stereo = matches!(sink, SpeakerSink::StereoFile(_));
                let create = if stereo { WavWriter::create_stereo } else { WavWriter::create };
                let mut writer = create(path).map_err(in_file(path))?;
                let context = context.clone();
                let step = move || {
                    let mut block = PlayoutBlock::SILENCE;
                    receive.pull(&mut block);
                    let written = if stereo {
                        let pairs = block.left.iter().zip(block.right);
                        let pairs: Vec<f32> = pairs.flat_map(|(l, r)| [*l, r]).collect();
                        writer.write(&pairs)
                    } else {
                        writer.write(&block.mono())
                    };
                    match written {
                        Ok(()) => true,
                        Err(error) => {
                            context.end(Kind::Speaker, DeviceError::SoundFileNotWritten(error));
                            false
                        }
                    }
                };
                let paced =
                    Paced::start("speaker-file", AUDIO_FRAME, step).map_err(DeviceError::Thread)?;
                Ok(Open::new(paced, Some(file_name(path))))
            }
            SpeakerSink::Device(_) | SpeakerSink::Default => {
                let id = match sink {
                    SpeakerSink::Device(id) => Some(capture::DeviceId::new(id.0)),
                    _ => None,
                };
                let heard = receive.clone();
                let speaker = capture::Speaker::open(
                    id,
                    move |block: &mut PlayoutBlock, latency| {
                        receive.pull(block);
                        // One canceller for both channels: a loudspeaker mixes them on the way.
                        reference.push(&block.mono(), latency);
                    },
                    context.on_end(Kind::Speaker),
                )?;
                let name = device_name(&speaker.format().name);
                heard.set_speaker_latency(Some(Box::new(speaker.latency_reader())));
                Ok(Open::new(speaker, name))
            }
        }
    };
    Opener { open: Arc::new(open), reports }
}

/// Looks for all devices; blocks.
pub(crate) fn list() -> DeviceList {
    let convert = |devices: Vec<capture::DeviceInfo>| {
        devices
            .into_iter()
            .map(|d| DeviceInfo {
                id: DeviceId(d.id.as_str().to_owned()),
                name: device_name(&d.name).unwrap_or_else(|| "Unnamed device".into()),
                default: d.default,
            })
            .collect()
    };
    DeviceList {
        cameras: convert(capture::list_cameras()),
        microphones: convert(capture::list_microphones()),
        speakers: convert(capture::list_speakers()),
    }
}

/// What a device calls itself, fit to be shown: whoever makes a USB device chooses it.
fn device_name(name: &str) -> Option<String> {
    clean_name(name, MAX_DEVICE_NAME_CHARS)
}

/// Longer than those of sound cards with several outputs.
const MAX_DEVICE_NAME_CHARS: usize = 128;

fn format_words(size: Size, fps: f64) -> String {
    format!("{}×{} · {fps:.0} fps", size.width_px, size.height_px)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

fn in_file(path: &Path) -> impl FnOnce(MediaError) -> DeviceError {
    move |source| DeviceError::File { path: path.to_owned(), source }
}
