//! What is kept between runs: one small JSON file in the user's configuration directory.
//! UI thread; the file is read once at start and written when something changed. Nobody but the user may
//! read it: the code of a room is all one needs to enter.

use etcetera::BaseStrategy as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use visavis_engine::{
    AddressPolicy, Bytes32, CallCode, CameraSource, ContinuityKey, DeviceId, MicrophoneSource,
    RoomCode, Size, SpeakerSink, Switch, VoiceProcessing,
};

use crate::theme::ThemeChoice;

/// Rooms that the lobby remembers.
pub(crate) const RECENT_ROOMS: usize = 4;
/// Rooms whose proofs are kept; the oldest is forgotten.
const KEPT_PROOFS: usize = 64;

/// The file's content. Unknown fields are ignored, missing ones take their default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(crate) struct Settings {
    /// Shown to the other side.
    pub(crate) name: String,
    /// Camera picked, or the first that works.
    pub(crate) camera: Option<DeviceId>,
    /// Microphone picked, or the system's.
    pub(crate) microphone: Option<DeviceId>,
    /// Speaker picked, or the system's.
    pub(crate) speaker: Option<DeviceId>,
    /// Whether the camera was on.
    pub(crate) camera_on: bool,
    /// Whether the microphone was on.
    pub(crate) microphone_on: bool,
    /// Size of the largest frames that are sent.
    pub(crate) largest_picture: LargestPicture,
    /// What the speaker plays is taken out of the microphone's sound.
    pub(crate) echo_cancellation: bool,
    /// Steady noise is taken out.
    pub(crate) noise_suppression: bool,
    /// Speech is brought to the same level.
    pub(crate) automatic_gain: bool,
    /// Rumble is taken out.
    pub(crate) high_pass: bool,
    /// Audio is sent as music, with none of these.
    pub(crate) music: bool,
    /// Address of the signaling server; `None` is the one inside this program.
    pub(crate) server: Option<String>,
    /// Whether the server inside listens to the whole network.
    pub(crate) open_to_network: bool,
    /// What the other side learns of where this machine is.
    pub(crate) addresses: AddressPolicy,
    /// Newest first.
    #[serde(deserialize_with = "readable_codes")]
    pub(crate) recent_rooms: Vec<CallCode>,
    /// What is left of proofs, newest first.
    pub(crate) proofs: Vec<KeptProof>,
    /// Colours.
    pub(crate) theme: ThemeChoice,
    /// No transitions.
    pub(crate) reduce_motion: bool,
}

/// The largest pictures that are sent, where camera, line and processor allow them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) enum LargestPicture {
    /// 1280x720.
    #[serde(rename = "720p")]
    Hd,
    /// 1920x1080.
    #[default]
    #[serde(rename = "1080p")]
    FullHd,
}

impl LargestPicture {
    pub(crate) fn size(self) -> Size {
        match self {
            Self::Hd => Size::new(1280, 720),
            Self::FullHd => Size::new(1920, 1080),
        }
    }
}

/// What is left of the proofs in one room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeptProof {
    room: RoomCode,
    /// How often the code was guessed at in vain.
    #[serde(default)]
    guesses: u8,
    /// For the next call with the same remote peer.
    #[serde(default)]
    key: Option<Bytes32>,
}

/// The codes that can be read; those of older versions have another form.
fn readable_codes<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<CallCode>, D::Error> {
    let texts = Vec::<String>::deserialize(from)?;
    Ok(texts.iter().filter_map(|text| text.parse().ok()).collect())
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            name: String::new(),
            camera: None,
            microphone: None,
            speaker: None,
            camera_on: true,
            microphone_on: true,
            largest_picture: LargestPicture::default(),
            echo_cancellation: true,
            noise_suppression: true,
            automatic_gain: true,
            high_pass: true,
            music: false,
            server: None,
            open_to_network: false,
            addresses: AddressPolicy::All,
            recent_rooms: Vec::new(),
            proofs: Vec::new(),
            theme: ThemeChoice::System,
            reduce_motion: false,
        }
    }
}

impl Settings {
    /// The camera to ask the engine for.
    pub(crate) fn camera_source(&self) -> CameraSource {
        self.camera.clone().map_or(CameraSource::Default, CameraSource::Device)
    }

    /// The microphone to ask the engine for.
    pub(crate) fn microphone_source(&self) -> MicrophoneSource {
        self.microphone.clone().map_or(MicrophoneSource::Default, MicrophoneSource::Device)
    }

    /// The speaker to ask the engine for.
    pub(crate) fn speaker_sink(&self) -> SpeakerSink {
        self.speaker.clone().map_or(SpeakerSink::Default, SpeakerSink::Device)
    }

    /// What to do to the microphone's sound.
    pub(crate) fn voice_processing(&self) -> VoiceProcessing {
        let switch = |on| if on { Switch::Auto } else { Switch::Off };
        VoiceProcessing {
            music: self.music,
            echo_cancellation: switch(self.echo_cancellation),
            noise_suppression: switch(self.noise_suppression),
            automatic_gain: switch(self.automatic_gain),
            high_pass: switch(self.high_pass),
        }
    }

    /// Puts `room` first among the recent ones.
    pub(crate) fn remember_room(&mut self, code: &CallCode) {
        self.recent_rooms.retain(|r| r.room != code.room);
        self.recent_rooms.insert(0, code.clone());
        self.recent_rooms.truncate(RECENT_ROOMS);
    }

    /// The code of a room, with its secret if it was joined lately.
    pub(crate) fn code_of(&self, room: &RoomCode) -> CallCode {
        let known = self.recent_rooms.iter().find(|code| code.room == *room);
        known.cloned().unwrap_or_else(|| CallCode { room: room.clone(), secret: None })
    }

    /// What earlier calls in a room left: the key, and how often its code was guessed at in vain.
    pub(crate) fn proof(&self, room: &RoomCode) -> (Option<ContinuityKey>, u8) {
        let kept = self.proofs.iter().find(|kept| kept.room == *room);
        let key = kept.and_then(|kept| kept.key).map(|key| ContinuityKey::from_bytes(key.0));
        (key, kept.map_or(0, |kept| kept.guesses))
    }

    /// Keeps how often a room's code was guessed at.
    pub(crate) fn keep_guesses(&mut self, room: &RoomCode, guesses: u8) {
        self.kept(room).guesses = guesses;
    }

    /// Keeps the key of a room.
    pub(crate) fn keep_key(&mut self, room: &RoomCode, key: &ContinuityKey) {
        self.kept(room).key = Some(Bytes32(*key.bytes()));
    }

    /// The entry of a room, moved to the front.
    fn kept(&mut self, room: &RoomCode) -> &mut KeptProof {
        let at = self.proofs.iter().position(|kept| kept.room == *room);
        let kept = match at {
            Some(at) => self.proofs.remove(at),
            None => KeptProof { room: room.clone(), guesses: 0, key: None },
        };
        self.proofs.truncate(KEPT_PROOFS - 1);
        self.proofs.insert(0, kept);
        &mut self.proofs[0]
    }
}

/// Where settings live, and what was last written there.
pub(crate) struct Store {
    path: Option<PathBuf>,
    saved: Settings,
}

impl Store {
    /// Reads the user's file. The second value are the settings, the third a sentence if the file
    /// could not be used; it is kept aside then, and defaults apply.
    pub(crate) fn load() -> (Self, Settings, Option<String>) {
        let path = etcetera::choose_base_strategy()
            .ok()
            .map(|folders| folders.config_dir().join("visavis").join("settings.json"));
        Self::load_from(path)
    }

    fn load_from(path: Option<PathBuf>) -> (Self, Settings, Option<String>) {
        // Earlier versions left the file as readable as others are.
        if let Some(path) = path.as_deref() {
            for path in path.parent().into_iter().chain([path]) {
                if let Err(error) = keep_private(path)
                    && error.kind() != std::io::ErrorKind::NotFound
                {
                    tracing::warn!(%error, path = %path.display(), "others may read the settings");
                }
            }
        }
        let (settings, problem) = match path.as_deref().map(std::fs::read) {
            None => (Settings::default(), None),
            Some(Err(e)) if e.kind() == std::io::ErrorKind::NotFound => (Settings::default(), None),
            Some(Err(e)) => (
                Settings::default(),
                Some(format!("The settings could not be read ({e}); the defaults are used.")),
            ),
            Some(Ok(bytes)) => match serde_json::from_slice(&bytes) {
                Ok(settings) => (settings, None),
                Err(_) => (Settings::default(), path.as_deref().map(set_aside)),
            },
        };
        (Self { path, saved: settings.clone() }, settings, problem)
    }

    /// Beside the settings: what it takes to come back to a call after a crash.
    pub(crate) fn seat_file(&self) -> Option<PathBuf> {
        Some(self.path.as_deref()?.with_file_name("seat.json"))
    }

    /// What is in the file.
    pub(crate) fn saved(&self) -> &Settings {
        &self.saved
    }

    /// Writes the file if `settings` differ from what is in it: first beside it, then renamed, so
    /// that a crash leaves the old file or the new one. `Some` is a sentence why it failed.
    pub(crate) fn save(&mut self, settings: &Settings) -> Option<String> {
        let path = self.path.as_deref()?;
        if self.saved == *settings {
            return None;
        }
        // Not again at every pass if the disk refuses.
        self.saved = settings.clone();
        write(path, settings).err().map(|e| format!("The settings could not be saved: {e}."))
    }
}

fn set_aside(path: &Path) -> String {
    let backup = path.with_extension("json.broken");
    match std::fs::rename(path, &backup) {
        Ok(()) => format!(
            "The settings file was damaged. It is kept as {}; the defaults are used.",
            backup.display()
        ),
        Err(e) => format!("The settings file is damaged and could not be moved ({e})."),
    }
}

fn write(path: &Path, settings: &Settings) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    keep_private(folder)?;
    let beside = path.with_extension("json.new");
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&beside)?;
    // One that a crash left there keeps the mode that it has.
    keep_private(&beside)?;
    serde_json::to_writer_pretty(&mut file, settings)?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    std::fs::rename(&beside, path)
}

/// Takes group's and others' permissions from a file or folder. Elsewhere than on Unix the user's
/// configuration folder is private by inheritance.
fn keep_private(path: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(path)?.permissions().mode();
        if mode & 0o077 != 0 {
            std::fs::set_permissions(path, PermissionsExt::from_mode(mode & 0o700))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("visavis-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn settings_come_back_as_they_were_saved() {
        let path = folder("roundtrip").join("deep").join("settings.json");
        let (mut store, mut settings, problem) = Store::load_from(Some(path.clone()));
        assert_eq!((settings.clone(), problem), (Settings::default(), None));
        settings.name = "Ada".into();
        settings.remember_room(&"abc-def-ghj-kmn".parse().unwrap());
        settings.theme = ThemeChoice::HighContrast;
        assert_eq!(store.save(&settings), None);
        let (_, read, problem) = Store::load_from(Some(path));
        assert_eq!((read, problem), (settings, None));
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_may_read_the_settings() {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let set = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        let folder = folder("private").join("visavis");
        let path = folder.join("settings.json");
        let (mut store, mut settings, _) = Store::load_from(Some(path.clone()));
        settings.name = "Ada".into();
        assert_eq!(store.save(&settings), None);
        assert_eq!((mode(&folder), mode(&path)), (0o700, 0o600));

        // As an earlier version left them, and one that it left beside when it crashed.
        let beside = path.with_extension("json.new");
        std::fs::write(&beside, "{").unwrap();
        for (path, mode) in [(&folder, 0o755), (&path, 0o644), (&beside, 0o644)] {
            set(path, mode);
        }
        let (mut store, mut settings, problem) = Store::load_from(Some(path.clone()));
        assert_eq!((settings.name.as_str(), problem), ("Ada", None));
        assert_eq!((mode(&folder), mode(&path)), (0o700, 0o600));
        settings.name = "Grace".into();
        assert_eq!(store.save(&settings), None);
        assert_eq!((mode(&folder), mode(&path)), (0o700, 0o600));
    }

    #[cfg(unix)]
    #[test]
    fn settings_are_for_their_owner_and_codes_of_older_versions_are_left_out() {
        use std::os::unix::fs::PermissionsExt as _;
        let path = folder("owner").join("settings.json");
        std::fs::write(&path, r#"{"recent-rooms": ["abc-defg-hij", "abc-def-ghj-kmn"]}"#).unwrap();
        let (mut store, mut settings, problem) = Store::load_from(Some(path.clone()));
        assert_eq!((settings.recent_rooms.len(), problem), (1, None));
        let room = settings.recent_rooms[0].room.clone();
        let key = ContinuityKey::from_bytes([7; 32]);
        settings.keep_key(&room, &key);
        settings.keep_guesses(&room, 3);
        assert_eq!(store.save(&settings), None);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let (_, read, _) = Store::load_from(Some(path));
        assert_eq!(read.proof(&room), (Some(key), 3));
    }

    #[test]
    fn damaged_file_is_kept_aside_and_said() {
        let path = folder("damaged").join("settings.json");
        std::fs::write(&path, "{\"name\": 12").unwrap();
        let (_, settings, problem) = Store::load_from(Some(path.clone()));
        assert_eq!(settings, Settings::default());
        assert!(problem.unwrap().contains("settings.json.broken"));
        let kept = std::fs::read_to_string(path.with_extension("json.broken")).unwrap();
        assert_eq!(kept, "{\"name\": 12");
    }

    #[test]
    fn a_room_is_remembered_once_and_the_newest_first() {
        let mut settings = Settings::default();
        let rooms: Vec<CallCode> = (0..6).map(|_| CallCode::random()).collect();
        for room in &rooms {
            settings.remember_room(room);
        }
        settings.remember_room(&rooms[4]);
        assert_eq!(settings.recent_rooms.len(), RECENT_ROOMS);
        assert_eq!(settings.recent_rooms[..2], [rooms[4].clone(), rooms[5].clone()]);
    }
}
