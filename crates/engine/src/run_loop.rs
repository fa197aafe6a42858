//! The owner loop: one task takes commands and reports, drives the call's session, and publishes
//! snapshots. Nobody else changes the state of a call.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use visavis_call::{CallState, Epoch, Input};
use visavis_media::Size;
use visavis_media::adaptation::is_large;
use visavis_media::audio::voice::RenderReference;
use visavis_media::files::Y4mWriter;
use visavis_rtc::{MediaClock, PeerEvent, PeerStats};
use visavis_signaling_client::SignalingEvent;

use crate::audio_receive::AudioReceive;
use crate::audio_send::AudioSend;
use crate::call::{Call, CallContext, Closing, MediaState};
use crate::devices::{
    CameraWish, DeviceContext, Kind, MicrophoneWish, Opened, Slot, camera_opener,
    microphone_opener, speaker_opener,
};
use crate::diagnostics::Log;
use crate::error::{DeviceError, PeerError};
use crate::peer_task::MadePeer;
use crate::seat_file::SeatFile;
use crate::send::VideoSend;
use crate::shared::Shared;
use crate::{
    CallEndReason, CallSnapshot, CameraSource, Command, DeviceList, DisplaySink, EngineConfig,
    Event, MicrophoneSource, Phase, SpeakerSink,
};

/// Reports waiting for the loop; tasks wait for room, device threads too, packet callbacks drop.
pub(crate) const REPORTS: usize = 512;
/// Shortest time between two snapshots that nobody waits for.
const SNAPSHOT_INTERVAL: Duration = Duration::from_millis(100);

/// How long a person is told that nobody hears what they say.
const MUTED_HINT: Duration = Duration::from_secs(5);

/// Names a peer connection of a call, so that what an old one says is not taken for a new one's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tag {
    pub(crate) call: u32,
    pub(crate) epoch: Epoch,
}

/// What tasks and threads tell the loop.
pub(crate) enum Internal {
    Signaling(u32, SignalingEvent),
    Call(u32, Input),
    PeerMade(Tag, Box<MadePeer>),
    PeerFailed(Tag, PeerError),
    /// No connection could be prepared for a call that waits.
    NotPrepared(u32, PeerError),
    Peer(Tag, PeerEvent),
    Stats(Tag, Box<PeerStats>),
    FirstVideoFrame(Tag),
    FirstAudio(Tag),
    KeyframeNeeded(Tag),
    SinkFailed(DeviceError),
    Opened(Kind, Opened),
    DeviceEnded(Kind, DeviceError),
    Devices(DeviceList),
    DevicesChanged,
}

/// What the person chose, whether it is open or not.
#[derive(Clone)]
struct Chosen {
    camera: CameraSource,
    microphone: MicrophoneSource,
    speaker: SpeakerSink,
}

/// Sizes that the source of pictures is asked for.
#[derive(Clone, Copy)]
struct FrameSizes {
    usual: Size,
    /// Where camera, path, processor and the remote peer's window allow it.
    largest: Size,
    /// Which size beyond the usual one a camera is asked about when it is opened.
    inquired: Size,
}

/// Everything the loop owns.
pub(crate) struct RunLoop {
    shared: Arc<Shared>,
    context: CallContext,
    reports: mpsc::Sender<Internal>,
    camera: Slot<CameraWish>,
    microphone: Slot<MicrophoneWish>,
    speaker: Slot<SpeakerSink>,
    chosen: Chosen,
    sizes: FrameSizes,
    /// Whether the source is asked for the largest ones, and whether this one failed to deliver them.
    large: bool,
    large_failed: bool,
    display_size: Option<Size>,
    camera_on: bool,
    microphone_on: bool,
    /// Sound is sent as music.
    music: bool,
    preview: bool,
    listing: bool,
    devices: DeviceList,
    calls: u32,
    call: Option<Call>,
    snapshot: CallSnapshot,
    log: Log,
    urgent: bool,
    dirty: bool,
    published: Instant,
    /// When somebody last talked into the muted microphone.
    spoke_while_muted: Option<Instant>,
    _watcher: Option<visavis_capture::DeviceWatcher>,
}

impl RunLoop {
    pub(crate) fn new(
        config: EngineConfig,
        shared: Arc<Shared>,
        reports: mpsc::Sender<Internal>,
    ) -> std::io::Result<Self> {
        let clock = MediaClock::default();
        let largest = max_size(config.size, config.max_size);
        let video_send = Arc::new(VideoSend::start(
            config.max_bitrate,
            config.size,
            config.fps,
            config.video_codecs.clone(),
        )?);
        let reference = Arc::new(RenderReference::default());
        let audio_send = Arc::new(AudioSend::new(clock, reference.clone()));
        audio_send.voice().set_wanted(config.voice);
        let audio_receive = Arc::new(AudioReceive::new(clock));
        let context = DeviceContext { clock, reports: reports.clone() };
        let camera = camera_opener(
            context.clone(),
            config.fps,
            video_send.slot(),
            shared.local_video.clone(),
        );
        let microphone = microphone_opener(context.clone(), audio_send.clone());
        let speaker = speaker_opener(context, audio_receive.clone(), reference);
        let mut log = Log::default();
        let display_file = match &config.display {
            DisplaySink::None => None,
            DisplaySink::File(path) => Some(Arc::new(Mutex::new(
                Y4mWriter::create(path, config.fps, config.display_size)
                    .map_err(std::io::Error::other)?,
            ))),
        };
        let watcher = {
            let reports = reports.clone();
            visavis_capture::DeviceWatcher::start(move || {
                let _ = reports.try_send(Internal::DevicesChanged);
            })
            .inspect_err(|error| log.add("device", format!("devices are not watched: {error}")))
            .ok()
        };
        Ok(Self {
            context: CallContext {
                shared: shared.clone(),
                clock,
                reports: reports.clone(),
                video_send,
                audio_send,
                audio_receive,
                display_file,
                closing: Closing::default(),
                trusted_certificate: config.trusted_certificate,
                seat_file: Arc::new(SeatFile::new(config.seat_file)?),
                decode_delay: config.decode_delay,
            },
            shared,
            reports,
            camera: Slot::new(Kind::Camera, camera),
            microphone: Slot::new(Kind::Microphone, microphone),
            speaker: Slot::new(Kind::Speaker, speaker),
            chosen: Chosen {
                camera: config.camera,
                microphone: config.microphone,
                speaker: config.speaker,
            },
            sizes: FrameSizes {
                usual: config.size,
                largest,
                inquired: if is_large(largest) { largest } else { FULL_HD },
            },
            large: false,
            large_failed: false,
            display_size: config.display_size,
            camera_on: true,
            microphone_on: true,
            music: config.voice.music,
            preview: false,
            listing: false,
            devices: DeviceList::default(),
            calls: 0,
            call: None,
            snapshot: CallSnapshot::default(),
            log,
            urgent: true,
            dirty: true,
            published: Instant::now(),
            spoke_while_muted: None,
            _watcher: watcher,
        })
    }

    /// Runs until the handle is dropped; then hangs up.
    pub(crate) async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut reports: mpsc::Receiver<Internal>,
    ) {
        loop {
            let wake = self.wake_at();
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => break,
                },
                Some(report) = reports.recv() => self.report(report),
                () = sleep_until(wake) => self.tick(),
            }
            self.publish_if_due();
        }
        if let Some(call) = self.call.take() {
            call.close();
        }
        self.context.closing.wait().await;
    }

    fn is_live(&self) -> bool {
        self.call.is_some() || self.preview
    }

    /// Whether there are figures that change by themselves: those of a call, or a level.
    fn is_metering(&self) -> bool {
        self.call.is_some() || self.microphone.is_open()
    }

    fn wake_at(&self) -> Option<Instant> {
        let session = self.call.as_ref().and_then(Call::deadline);
        let snapshot =
            (self.dirty || self.is_metering()).then_some(self.published + SNAPSHOT_INTERVAL);
        [session, snapshot].into_iter().flatten().min()
    }

    fn tick(&mut self) {
        self.dirty |= self.is_metering();
        let large = self.context.video_send.wants_large();
        if std::mem::replace(&mut self.large, large) != large {
            self.want_devices();
        }
        if let Some(call) = &mut self.call
            && let Some(input) = call.tick(Instant::now(), &mut self.log)
        {
            self.drive(input);
        }
        self.drive(Input::Tick);
    }

    fn command(&mut self, command: Command) {
        self.urgent = true;
        match command {
            Command::Join(options) => {
                if self.call.is_some() {
                    self.log.add("call", "a call is on already".into());
                    return;
                }
                self.calls += 1;
                self.log = Log::default();
                self.snapshot = CallSnapshot::default();
                self.shared.remote_video.clear();
                self.context.video_send.reset_counts();
                match Call::start(self.calls, options, self.context.clone(), &mut self.log) {
                    Ok(mut call) => {
                        call.set_display_size(self.display_size);
                        self.snapshot.phase = Phase::Joining;
                        self.call = Some(call);
                        self.say_media_state();
                    }
                    Err(reason) => self.ended(reason),
                }
                self.want_devices();
            }
            Command::Leave => self.drive(Input::Hangup),
            Command::RestartIce => self.drive(Input::RestartIce),
            Command::SetRoomLocked(locked) => self.drive(Input::SetLocked(locked)),
            Command::Admit { peer_id, admitted } => {
                self.drive(Input::Admit { peer_id, admitted });
            }
            Command::Dismiss => {
                if matches!(self.snapshot.phase, Phase::Ended(_)) {
                    self.snapshot = CallSnapshot::default();
                    self.shared.remote_video.clear();
                }
            }
            Command::SetCamera(source) => {
                self.large_failed &= self.chosen.camera == source;
                self.chosen.camera = source;
                self.want_devices();
            }
            Command::SetMaxSize(size) => {
                self.sizes.largest = max_size(self.sizes.usual, Some(size));
                self.offer_large();
            }
            Command::SetDisplaySize(size) => {
                self.display_size = Some(size);
                if let Some(call) = &mut self.call {
                    call.set_display_size(self.display_size);
                }
            }
            Command::SetMicrophone(source) => {
                self.chosen.microphone = source;
                self.want_devices();
            }
            Command::SetSpeaker(sink) => {
                self.chosen.speaker = sink;
                self.want_devices();
            }
            Command::SetCameraEnabled(on) => {
                self.camera_on = on;
                self.want_devices();
            }
            Command::SetMicrophoneEnabled(on) => {
                self.microphone_on = on;
                self.context.audio_send.set_enabled(on);
                self.say_media_state();
            }
            Command::SetVoiceProcessing(wanted) => {
                self.context.audio_send.voice().set_wanted(wanted);
                self.music = wanted.music;
                self.want_devices();
            }
            Command::SetPreview(on) => {
                self.preview = on;
                self.want_devices();
            }
            Command::RefreshDevices => self.list_devices(),
        }
    }

    fn report(&mut self, report: Internal) {
        self.dirty = true;
        match report {
            Internal::Signaling(call, event) => {
                let Some(current) = self.call.as_mut().filter(|c| c.id() == call) else { return };
                if let Some(input) = current.signaling(event, &mut self.log) {
                    self.drive(input);
                }
            }
            Internal::Call(call, input) => {
                if self.call.as_ref().is_some_and(|c| c.id() == call) {
                    self.drive(input);
                }
            }
            Internal::PeerMade(tag, made) => {
                match self.call.as_mut().filter(|call| call.is_current(tag)) {
                    Some(call) => call.peer_made(*made),
                    // It is not wanted any more.
                    None => self
                        .context
                        .closing
                        .spawn(async move { made.connection.peer.close().await }),
                }
            }
            Internal::PeerFailed(tag, error) => {
                if let Some(call) = self.call.as_ref().filter(|call| call.is_current(tag))
                    && let Some(input) = call.peer_failed(&error, &mut self.log)
                {
                    self.drive(input);
                }
            }
            Internal::NotPrepared(call, error) => {
                if self.call.as_ref().is_some_and(|current| current.id() == call) {
                    self.log.add("ice", format!("no candidates yet: {error}"));
                }
            }
            Internal::Peer(tag, event) => {
                let Some(call) = self.call.as_mut().filter(|c| c.is_current(tag)) else { return };
                if let Some(input) = call.peer_event(event, &mut self.log) {
                    self.drive(input);
                }
                self.urgent = true;
            }
            Internal::Stats(tag, stats) => {
                if let Some(call) = self.call.as_mut().filter(|c| c.is_current(tag)) {
                    call.stats(*stats);
                }
            }
            Internal::FirstVideoFrame(tag) => self.first(tag, Event::FirstVideoFrame),
            Internal::FirstAudio(tag) => self.first(tag, Event::FirstAudio),
            Internal::KeyframeNeeded(tag) => {
                if let Some(call) = self.call.as_ref().filter(|c| c.is_current(tag)) {
                    call.request_keyframe();
                }
            }
            Internal::SinkFailed(error) => self.device_problem(error.to_string()),
            Internal::Opened(kind, result) => {
                self.urgent = true;
                if kind == Kind::Camera && self.large && !self.large_failed && result.is_err() {
                    // It does what it did before.
                    self.large_failed = true;
                    self.log.add("device", "the camera has no larger pictures after all".into());
                    self.want_devices();
                    self.camera.opened(Ok(None));
                    self.offer_large();
                    return;
                }
                let problem = match kind {
                    Kind::Camera => self.camera.opened(result),
                    Kind::Microphone => self.microphone.opened(result),
                    Kind::Speaker => self.speaker.opened(result),
                };
                if let Some(problem) = problem {
                    self.device_problem(problem);
                }
                if kind == Kind::Camera {
                    self.offer_large();
                }
                self.say_media_state();
            }
            Internal::DeviceEnded(kind, error) => {
                let why = error.to_string();
                match kind {
                    Kind::Camera => self.camera.ended(why.clone()),
                    Kind::Microphone => self.microphone.ended(why.clone()),
                    Kind::Speaker => self.speaker.ended(why.clone()),
                }
                self.device_problem(why);
                self.say_media_state();
            }
            Internal::Devices(devices) => {
                self.listing = false;
                self.devices = devices;
            }
            Internal::DevicesChanged => {
                self.log.add("device", "the set of devices changed".into());
                self.camera.retry();
                self.microphone.retry();
                self.speaker.retry();
                self.list_devices();
            }
        }
    }

    fn first(&mut self, tag: Tag, event: Event) {
        if let Some(call) = self.call.as_mut().filter(|c| c.is_current(tag))
            && call.first(&event)
        {
            self.shared.push_event(event);
        }
    }

    fn device_problem(&mut self, problem: String) {
        self.log.add("device", problem.clone());
        self.shared.push_event(Event::DeviceProblem(problem));
        self.urgent = true;
    }

    /// Feeds the session and does what it says.
    fn drive(&mut self, input: Input) {
        let Some(call) = &mut self.call else { return };
        let state = call.drive(input, &mut self.log);
        if let Some(lock) = call.take_lock_change() {
            self.urgent = true;
            self.shared.push_event(lock);
        }
        let (replaced, knocks) = (call.take_replaced(), call.take_new_knocks());
        if replaced {
            self.shared.push_event(Event::PeerJoined);
        }
        for knock in knocks {
            self.publish();
            self.shared.push_event(Event::Knock(knock));
        }
        let Some(state) = state else { return };
        self.urgent = true;
        let (phase, event) = match state {
            CallState::Joining => (Phase::Joining, None),
            CallState::Knocking => (Phase::Knocking, Some(Event::Knocking)),
            CallState::Waiting => (Phase::Waiting, Some(Event::Waiting)),
            CallState::Connecting => (Phase::Connecting, Some(Event::PeerJoined)),
            CallState::Connected => (Phase::Connected, Some(Event::Connected)),
            CallState::Reconnecting => (Phase::Reconnecting, Some(Event::Reconnecting)),
            CallState::Ended(reason) => {
                self.fill_snapshot();
                if let Some(call) = self.call.take() {
                    call.close();
                }
                self.ended(reason);
                self.want_devices();
                return;
            }
        };
        self.snapshot.phase = phase;
        // Whoever hears of it finds it in the snapshot.
        self.publish();
        if let Some(event) = event {
            self.shared.push_event(event);
        }
    }

    fn ended(&mut self, reason: CallEndReason) {
        self.snapshot.phase = Phase::Ended(reason.clone());
        // Whoever hears of the end finds everything about the call in the snapshot.
        self.publish();
        self.shared.push_event(Event::Ended(reason));
    }

    fn want_devices(&mut self) {
        let (in_call, live) = (self.call.is_some(), self.is_live());
        let Chosen { camera, microphone, speaker } = self.chosen.clone();
        let camera_wanted = live && self.camera_on && camera != CameraSource::None;
        if !camera_wanted {
            self.shared.local_video.clear();
        }
        let FrameSizes { usual, largest, inquired } = self.sizes;
        // What is in a file stays as it is.
        let file = matches!(camera, CameraSource::File(_));
        let large = self.large && !self.large_failed && !file;
        let size = if large { largest } else { usual };
        let wish = CameraWish { source: camera, size, inquired };
        self.camera.want(camera_wanted.then_some(wish));
        let microphone = MicrophoneWish::new(microphone, self.music);
        self.microphone.want(live.then_some(microphone));
        self.speaker.want(in_call.then_some(speaker));
        self.say_media_state();
    }

    /// Says which large pictures the open source could deliver.
    fn offer_large(&self) {
        let FrameSizes { usual, largest, .. } = self.sizes;
        let offers = !self.large_failed
            && is_large(largest)
            && largest.pixels() > usual.pixels()
            && self.camera.offers(largest);
        self.context.video_send.recipient().offered = offers.then_some(largest);
    }

    /// Tells the other side what it will see and hear.
    fn say_media_state(&mut self) {
        let state = MediaState {
            microphone_on: self.microphone_on && self.microphone.problem.is_none(),
            camera_on: self.camera_on
                && self.chosen.camera != CameraSource::None
                && self.camera.problem.is_none(),
        };
        if let Some(call) = &mut self.call {
            call.set_media_state(state);
        }
    }

    fn list_devices(&mut self) {
        if std::mem::replace(&mut self.listing, true) {
            return;
        }
        let reports = self.reports.clone();
        tokio::task::spawn_blocking(move || {
            let _ = reports.blocking_send(Internal::Devices(crate::devices::list()));
        });
    }

    fn publish_if_due(&mut self) {
        if self.urgent || (self.dirty && self.published.elapsed() >= SNAPSHOT_INTERVAL) {
            self.publish();
        }
    }

    fn publish(&mut self) {
        self.notice_muted_speech();
        self.fill_snapshot();
        (self.urgent, self.dirty, self.published) = (false, false, Instant::now());
        self.shared.publish(&self.snapshot);
    }

    /// Only a call has somebody who does not hear it.
    fn notice_muted_speech(&mut self) {
        let spoke = self.context.audio_send.voice().take_spoke_while_muted();
        if spoke && self.call.is_some() && !self.microphone_on {
            self.spoke_while_muted = Some(Instant::now());
            self.shared.push_event(Event::SpeakingWhileMuted);
        }
    }

    fn fill_snapshot(&mut self) {
        if let Some(call) = &mut self.call {
            call.fill(&mut self.snapshot);
        }
        let local = &mut self.snapshot.local;
        local.camera_on = self.camera_on && self.chosen.camera != CameraSource::None;
        local.microphone_on = self.microphone_on;
        local.camera_name = self.camera.name();
        local.camera_format = self.camera.format();
        local.microphone_name = self.microphone.name();
        local.speaker_name = self.speaker.name();
        local.camera_problem = self.camera.problem.clone();
        local.microphone_problem = self.microphone.problem.clone();
        local.speaker_problem = self.speaker.problem.clone();
        local.microphone_level_dbfs = self.context.audio_send.counts(Instant::now()).level_dbfs;
        local.voice = self.context.audio_send.voice().state();
        local.speaking_while_muted = !self.microphone_on
            && self.spoke_while_muted.is_some_and(|at| at.elapsed() < MUTED_HINT);
        self.snapshot.devices = self.devices.clone();
        self.snapshot.log = self.log.entries();
    }
}

/// What cameras are asked about unless another size is given.
const FULL_HD: Size = Size::new(1920, 1080);

/// Of the largest pictures; none are smaller than ordinary ones.
fn max_size(size: Size, given: Option<Size>) -> Size {
    match given {
        Some(given) if given.pixels() > size.pixels() => given,
        None if size == Size::new(1280, 720) => FULL_HD,
        _ => size,
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
