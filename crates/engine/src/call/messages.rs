//! Messages on the data channel: what is on, how frames are shown and decoded, the other clock.

use std::time::{Duration, Instant};

use visavis_media::Size;
use visavis_signaling_protocol::ControlMessage;

use super::Call;
use crate::receive::unix_ms;

/// Least time between two sizes that the remote peer is told.
const DISPLAY_SIZE_INTERVAL: Duration = Duration::from_secs(1);

/// Which of our media the remote peer receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MediaState {
    pub(crate) microphone_on: bool,
    pub(crate) camera_on: bool,
}

/// The size of display that the remote peer was told last.
#[derive(Debug, Clone, Copy)]
pub(super) struct ToldDisplay {
    size: Size,
    at: Instant,
}

impl Call {
    pub(super) fn message(&mut self, text: &str) {
        let arrived = unix_ms();
        if self.session.authentication().is_none() {
            // It is said again to whoever is first heard.
            return;
        }
        // The stack of the other side may have lost what we said before its channel was open, which it is now.
        if !std::mem::replace(&mut self.channel_heard, true) {
            self.say_media_state();
            self.told_display = None;
        }
        let Ok(message) = serde_json::from_str(text) else {
            tracing::debug!("a message of an unknown kind was ignored");
            return;
        };
        match message {
            ControlMessage::MediaState { microphone, camera } => {
                self.remote.microphone_on = Some(microphone);
                if self.remote.camera_on.replace(camera) != Some(camera)
                    && let Some(connection) = self.connection()
                {
                    connection.video.paused();
                    if !camera {
                        self.context.shared.remote_video.clear();
                    }
                }
            }
            ControlMessage::DisplaySize { width, height } => {
                self.context.video_send.recipient().set_display(width, height);
            }
            ControlMessage::DecoderOverloaded { codec } => {
                self.context.video_send.recipient().set_overloaded(&codec, Instant::now());
            }
            ControlMessage::ClockPing { t0 } => {
                self.say(&ControlMessage::ClockPong { t0, t1: arrived, t2: unix_ms() });
            }
            ControlMessage::ClockPong { t0, t1, t2 } => {
                let offset = self.clock_sync.pong(t0, t1, t2, arrived);
                if let Some(connection) = self.connection() {
                    connection.video.set_clock_offset_ms(offset);
                }
            }
        }
    }

    /// What we send; the other side is told when it changes.
    pub(crate) fn set_media_state(&mut self, state: MediaState) {
        if self.media_state != state {
            self.media_state = state;
            self.say_media_state();
        }
    }

    pub(super) fn say_media_state(&self) {
        let MediaState { microphone_on, camera_on } = self.media_state;
        self.say(&ControlMessage::MediaState { microphone: microphone_on, camera: camera_on });
    }

    /// At which size received pictures are shown; the other side is told when it changes, soon.
    pub(crate) fn set_display_size(&mut self, size: Option<Size>) {
        self.display = size;
    }

    /// What the other side is told of how its pictures fare here.
    pub(super) fn say_reception(&mut self, now: Instant) {
        if !self.channel_open || self.session.authentication().is_none() {
            return;
        }
        let may_tell =
            |told: ToldDisplay, size| told.size != size && now >= told.at + DISPLAY_SIZE_INTERVAL;
        if let Some(size) = self.display
            && self.told_display.is_none_or(|told| may_tell(told, size))
        {
            self.told_display = Some(ToldDisplay { size, at: now });
            let (width, height) = (size.width_px, size.height_px);
            self.say(&ControlMessage::DisplaySize { width, height });
        }
        if let Some(codec) = self.connection().and_then(|it| it.video.take_overload()) {
            self.say(&ControlMessage::DecoderOverloaded { codec: codec.to_string() });
        }
    }

    pub(super) fn say(&self, message: &ControlMessage) {
        let may_speak = self.channel_open && self.session.authentication().is_some();
        if let Some(connection) = self.connection().filter(|_| may_speak)
            && let Ok(text) = serde_json::to_string(message)
            && let Err(error) = connection.peer.send_message(&text)
        {
            tracing::debug!(%error, "a message was not sent");
        }
    }
}
