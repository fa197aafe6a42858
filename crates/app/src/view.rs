//! What every view gets and gives: a snapshot in, actions out. Views never touch the engine.

use std::time::Duration;

use egui::{Rect, Ui};
use visavis_engine::{CallCode, CallSnapshot, Command, Phase, RoomCode};

use crate::settings::Settings;
use crate::video::VideoView;

/// What a view asks the program to do.
#[derive(Debug, Clone)]
pub(crate) enum Action {
    /// For the engine, as it is.
    Send(Command),
    /// Enters a room. `server` is set when a link named one; otherwise the settings' applies.
    Join {
        /// The room and the secret.
        code: CallCode,
        /// A link's server.
        server: Option<String>,
    },
    /// Enters the last room again.
    JoinAgain,
    /// Hangs up, or stops joining.
    Leave,
    /// From the end of a call to the lobby.
    BackToLobby,
    /// Microphone on or off, kept in the settings.
    SetMicrophone(bool),
    /// Camera on or off, kept in the settings.
    SetCamera(bool),
    /// Puts a text on the clipboard and says so with the second words.
    Copy(String, &'static str),
    /// Opens or closes the debug panel.
    ToggleDebug,
    /// Full screen or back.
    ToggleFullScreen,
    /// Listens on the network, or on this computer only.
    RestartServer,
    /// Theme or motion changed in the settings.
    ApplyTheme,
}

/// State of the server inside this program, as the lobby says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ServerStatus {
    /// Coming up.
    Starting,
    /// Reached at this address.
    Running {
        /// `http://HOST:PORT`, as others are told it.
        url: String,
        /// Whether other computers reach it.
        open_to_network: bool,
    },
    /// A sentence.
    Failed(String),
}

/// One pass of a view.
pub(crate) struct View<'a> {
    /// The engine's newest snapshot.
    pub(crate) snapshot: &'a CallSnapshot,
    /// Kept between runs; views change it freely, the program saves it.
    pub(crate) settings: &'a mut Settings,
    /// Own picture.
    pub(crate) local: &'a VideoView,
    /// The other side's picture.
    pub(crate) remote: &'a VideoView,
    /// The server inside.
    pub(crate) server: &'a ServerStatus,
    /// The server of `--server`, which is stronger than the settings'.
    pub(crate) server_flag: Option<&'a str>,
    /// A sentence about something of the program itself that went wrong.
    pub(crate) problem: Option<&'a str>,
    /// Room and server of a call of some minutes ago that did not end properly.
    pub(crate) rejoin: Option<(&'a RoomCode, &'a str)>,
    /// Collects what is to be done.
    pub(crate) actions: &'a mut Vec<Action>,
}

impl View<'_> {
    /// The server elsewhere that a join goes to, or `None` for the one inside.
    pub(crate) fn elsewhere(&self) -> Option<&str> {
        self.server_flag.or(self.settings.server.as_deref())
    }

    /// Whether the room can be locked or opened now: two are in it, or it is locked.
    pub(crate) fn can_lock(&self) -> bool {
        let together = matches!(self.snapshot.phase, Phase::Connected | Phase::Reconnecting);
        let over = matches!(self.snapshot.phase, Phase::Idle | Phase::Ended(_));
        together || (self.snapshot.room_locked && !over)
    }

    /// Locks the room, or opens it.
    pub(crate) fn ask_lock(&mut self) {
        let locked = self.snapshot.room_locked;
        self.ask(Action::Send(Command::SetRoomLocked(!locked)));
    }

    /// Adds an action.
    pub(crate) fn ask(&mut self, action: Action) {
        self.actions.push(action);
    }
}

/// Everything below a rectangle, as a child of `ui` that does not move its cursor.
pub(crate) fn within<R>(
    ui: &mut Ui,
    rect: Rect,
    layout: egui::Layout,
    add: impl FnOnce(&mut Ui) -> R,
) -> R {
    let mut child = ui.new_child(egui::UiBuilder::new().max_rect(rect).layout(layout));
    add(&mut child)
}

/// `04:12`, or `1:04:12` from an hour on.
pub(crate) fn clock(d: Duration) -> String {
    let s = d.as_secs();
    if s >= 3600 {
        format!("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
    } else {
        format!("{:02}:{:02}", s / 60, s % 60)
    }
}
