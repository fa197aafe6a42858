//! What is kept between runs; `settings_file` reads and writes it.

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

#[cfg(test)]
mod tests {
    use super::*;

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
