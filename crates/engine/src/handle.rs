//! What a user interface holds of the engine. All calls return at once, from any thread.

use std::sync::{Arc, Mutex};
use std::time::Duration;

pub use visavis_call::{
    Authentication, CallEndReason, ContinuityKey, EMOJI, EMOJI_SHOWN, Emoji, Knock, MAX_GUESSES,
    ProofFailure,
};
pub use visavis_media::{
    Bitrate, ColorMatrix, I420Buffer, MediaTime, Size, VideoCodec, VideoFrame,
};
pub use visavis_rtc::AddressPolicy;
pub use visavis_signaling_client::CertificateFingerprint;
pub use visavis_signaling_protocol::{Bytes32, CallCode, IceServer, PeerId, RoomCode};

/// Where pictures come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CameraSource {
    /// No picture is sent.
    None,
    /// Moving picture with the time code of the design.
    TestPattern,
    /// The same under the grain of a camera's sensor, which gives the encoder work.
    GrainyTestPattern,
    /// A YUV4MPEG2 file, looped.
    File(std::path::PathBuf),
    /// A camera, by the id of [`DeviceInfo`].
    Device(DeviceId),
    /// The first camera that works.
    Default,
}

/// Where sound comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MicrophoneSource {
    /// Digital silence (the track exists).
    Silence,
    /// A sine tone of 440 Hz.
    Tone,
    /// Two sine tones, 440 Hz on the left and 880 Hz on the right.
    StereoTone,
    /// A short tone at the beginning of each second, when synthetic pictures flash.
    Beep,
    /// A WAV file, looped.
    File(std::path::PathBuf),
    /// A microphone, by the id of [`DeviceInfo`].
    Device(DeviceId),
    /// The system's default.
    Default,
}

/// Where received sound goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpeakerSink {
    /// Decoded, measured, thrown away.
    None,
    /// A WAV file, 48 kHz mono.
    File(std::path::PathBuf),
    /// A WAV file, 48 kHz stereo.
    StereoFile(std::path::PathBuf),
    /// A speaker, by the id of [`DeviceInfo`].
    Device(DeviceId),
    /// The system's default.
    Default,
}

/// Whether a part of voice processing is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Switch {
    /// On for microphones; off for files and generated sound, which are sent as they are.
    #[default]
    Auto,
    /// On for whatever is sent.
    On,
    /// Off.
    Off,
}

/// What is done to sound from the microphone before it is sent, and as what it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VoiceProcessing {
    /// Sent for its own sake: as it is, whatever else is said here, in stereo where the source has two
    /// channels, with up to 128 kbps and without pauses.
    pub music: bool,
    /// Takes out what the speaker plays.
    pub echo_cancellation: Switch,
    /// Takes out steady noise.
    pub noise_suppression: Switch,
    /// Brings speech to the same level.
    pub automatic_gain: Switch,
    /// Takes out rumble.
    pub high_pass: Switch,
}

/// Where received pictures go, besides the slot that a window reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DisplaySink {
    /// Only the slot.
    None,
    /// A YUV4MPEG2 file.
    File(std::path::PathBuf),
}

/// Names a device of this machine; stable while it stays plugged in.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct DeviceId(pub String);

/// One device.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct DeviceInfo {
    /// For commands and settings.
    pub id: DeviceId,
    /// For people.
    pub name: String,
    /// Whether the system prefers it.
    pub default: bool,
}

/// All devices, as of the last look.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct DeviceList {
    /// Cameras that offer a capture format.
    pub cameras: Vec<DeviceInfo>,
    /// Sound inputs.
    pub microphones: Vec<DeviceInfo>,
    /// Sound outputs.
    pub speakers: Vec<DeviceInfo>,
}

/// What a call is made with. Microphone and camera state carry over from the lobby.
#[derive(Debug, Clone)]
pub struct JoinOptions {
    /// The room, and the secret that both know.
    pub code: CallCode,
    /// From an earlier call in this room, see [`Event::ContinuityKey`].
    pub key: Option<ContinuityKey>,
    /// How often the code has been guessed at in vain, see [`Event::Guesses`].
    pub guesses: u8,
    /// `http(s)://HOST[:PORT]` (a page's address) or `ws(s)://…/ws`.
    pub server: String,
    /// Shown to the other side.
    pub display_name: Option<String>,
    /// In addition to what the server offers.
    pub ice_servers: Vec<IceServer>,
    /// Which addresses of this machine are told.
    pub addresses: AddressPolicy,
}

/// What a person (or a flag) asks for.
#[derive(Debug, Clone)]
pub enum Command {
    /// Enters a room; the lobby's devices go on into the call.
    Join(JoinOptions),
    /// Hangs up, or stops trying to join. The state becomes `Ended`.
    Leave,
    /// From `Ended` to `Idle`.
    Dismiss,
    /// Changes the camera, now or for the next call.
    SetCamera(CameraSource),
    /// Changes the largest pictures that are sent, see [`EngineConfig::max_size`].
    SetMaxSize(Size),
    /// Says at which size received pictures are shown, in pixels of the screen.
    SetDisplaySize(Size),
    /// Changes the microphone.
    SetMicrophone(MicrophoneSource),
    /// Changes the speaker.
    SetSpeaker(SpeakerSink),
    /// Camera on or off: off sends nothing and releases the device.
    SetCameraEnabled(bool),
    /// Microphone on or off: off lets no sample leave the process.
    SetMicrophoneEnabled(bool),
    /// Changes what is done to the microphone's sound.
    SetVoiceProcessing(VoiceProcessing),
    /// Whether the lobby wants camera and microphone running for preview and meter.
    SetPreview(bool),
    /// Looks for devices again; the snapshot's list changes.
    RefreshDevices,
    /// Restarts ICE now.
    RestartIce,
    /// Locks the room of the call, as soon as both are in it, so that nobody else can enter even
    /// when a seat is free; or opens it again. [`Event::RoomLock`] follows.
    SetRoomLocked(bool),
    /// Answers somebody who asks to be let in; see
    /// [`CallSnapshot::knocks`](crate::CallSnapshot::knocks).
    Admit {
        /// Whose knock is answered.
        peer_id: PeerId,
        /// Whether it may come in. Whoever has vanished from the call then loses the seat.
        admitted: bool,
    },
}

/// Something that happened once. Kept until read, at most 256; the oldest is dropped.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The person inside is asked whether we may come in.
    Knocking,
    /// Somebody asks to be let in.
    Knock(Knock),
    /// Alone in the room.
    Waiting,
    /// The other side entered, or somebody who was let in has taken its place.
    PeerJoined,
    /// It is known who the remote peer is. Before that nothing of the person is sent to it.
    Authenticated(Authentication),
    /// To be kept with the room: proves this person to the same remote peer in a later call.
    ContinuityKey(ContinuityKey),
    /// To be kept with the room: how often its code has been guessed at in vain. From [`MAX_GUESSES`] on
    /// the code is spent.
    Guesses(u8),
    /// Media flows.
    Connected,
    /// Media stopped; the call is being mended.
    Reconnecting,
    /// No video goes either way: the remote peer has no video codec in common with us.
    NoCommonVideoCodec,
    /// First decoded picture of the other side.
    FirstVideoFrame,
    /// First sound of the other side.
    FirstAudio,
    /// A device did not do what was asked; a sentence for people.
    DeviceProblem(String),
    /// A relay cannot be reached or refuses: its URL, why, and the code of STUN (RFC 8489 §14.8) or
    /// 701. The call may well do without.
    RelayProblem(String),
    /// The person talks although the microphone is off. At most once in 20 s.
    SpeakingWhileMuted,
    /// The room was locked or opened.
    RoomLock {
        /// What it is now.
        locked: bool,
        /// Whether we asked for it.
        by_us: bool,
    },
    /// The call is over.
    Ended(CallEndReason),
}

/// What an engine starts with.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Camera asked for at first.
    pub camera: CameraSource,
    /// Microphone asked for at first.
    pub microphone: MicrophoneSource,
    /// Speaker asked for at first.
    pub speaker: SpeakerSink,
    /// What is done to the microphone's sound at first.
    pub voice: VoiceProcessing,
    /// File for received pictures.
    pub display: DisplaySink,
    /// Size at which received pictures are shown, which the remote peer is told, and of the frames in that file; without
    /// it nothing is told, and the first frame decides.
    pub display_size: Option<Size>,
    /// Wanted picture size.
    pub size: Size,
    /// Size of the largest pictures that are sent: beyond `size` where camera, path, processor and the remote peer's
    /// window allow it. Without it 1920x1080 if `size` is 1280x720, else `size`.
    pub max_size: Option<Size>,
    /// Wanted pictures a second.
    pub fps: u32,
    /// Ceiling of the video bitrate; without it 2.5 Mbps up to 1280x720 and 4.5 Mbps beyond.
    pub max_bitrate: Option<Bitrate>,
    /// Video codecs that may be used, both ways.
    pub video_codecs: Vec<VideoCodec>,
    /// For servers with a self-signed certificate: the one to trust, by the SHA-256 fingerprint that
    /// the server prints. `None` trusts what the system trusts.
    pub trusted_certificate: Option<CertificateFingerprint>,
    /// File that keeps, while a call is connected, what it takes to come back to it after a crash
    /// without being asked who it is; see [`SavedSeat`](crate::SavedSeat). `None` keeps nothing.
    pub seat_file: Option<std::path::PathBuf>,
    /// For tests: how much longer it takes to decode a frame of 1280x720, and others by their pixels.
    pub decode_delay: Duration,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            camera: CameraSource::Default,
            microphone: MicrophoneSource::Default,
            speaker: SpeakerSink::Default,
            voice: VoiceProcessing::default(),
            display: DisplaySink::None,
            display_size: None,
            size: Size::new(1280, 720),
            fps: 30,
            max_size: None,
            max_bitrate: None,
            video_codecs: VideoCodec::ALL.into(),
            trusted_certificate: None,
            seat_file: None,
            decode_delay: Duration::ZERO,
        }
    }
}

/// Holds the newest picture; a writer replaces, a reader takes. Older pictures are dropped.
#[derive(Clone, Default)]
pub struct VideoSlot(Arc<Mutex<SlotState>>);

#[derive(Default)]
struct SlotState {
    frame: Option<VideoFrame>,
    wake: Option<Arc<dyn Fn() + Send + Sync>>,
}

impl VideoSlot {
    /// The newest picture since the last call, if any.
    pub fn take(&self) -> Option<VideoFrame> {
        self.lock().frame.take()
    }

    /// Runs `wake` on the writer's thread after each new picture (a window asks for a repaint).
    pub fn set_wake(&self, wake: impl Fn() + Send + Sync + 'static) {
        self.lock().wake = Some(Arc::new(wake));
    }

    /// Replaces the picture; used by the engine.
    pub fn put(&self, frame: VideoFrame) {
        let wake = {
            let mut state = self.lock();
            state.frame = Some(frame);
            state.wake.clone()
        };
        if let Some(wake) = wake {
            wake();
        }
    }

    /// Forgets the picture.
    pub fn clear(&self) {
        self.lock().frame = None;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, SlotState> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Why an engine did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The operating system refused threads or sockets.
    #[error("the call engine could not start: {0}")]
    Start(#[from] std::io::Error),
}
