//! Which view is on screen, the debug panel beside it, and the keys. Draws from a snapshot and
//! returns what is to be done, so that tests need neither engine nor server.

use egui::{Key, Modifiers, Ui};
use visavis_engine::{Command, Phase};

use crate::call_view::CallView;
use crate::debug::DebugPanel;
use crate::ended;
use crate::lobby::Lobby;
use crate::view::{Action, View};
use crate::waiting::Waiting;
use crate::widgets;

/// All views' state.
#[derive(Default)]
pub(crate) struct Screens {
    /// Before a call.
    pub(crate) lobby: Lobby,
    waiting: Waiting,
    call: CallView,
    /// Beside all but the lobby.
    pub(crate) debug: DebugPanel,
    /// Space is held down and opened the microphone.
    talking: bool,
}

impl Screens {
    /// What the window is cleared to, so that no view paints all of it again.
    pub(crate) fn background(phase: &Phase, ink: egui::Color32) -> egui::Color32 {
        match phase {
            Phase::Connected | Phase::Reconnecting => egui::Color32::BLACK,
            _ => ink,
        }
    }

    /// One pass over the whole window.
    pub(crate) fn show(&mut self, ui: &mut Ui, view: &mut View<'_>) {
        let window = ui.max_rect();
        self.keys(ui, view);
        let phase = &view.snapshot.phase;
        if *phase == Phase::Idle {
            self.lobby.show(ui, view);
        } else {
            let (area, panel) = self.debug.split(ui, window);
            let open = self.debug.open;
            match phase {
                Phase::Joining | Phase::Knocking | Phase::Waiting | Phase::Connecting => {
                    self.waiting.show(ui, area, open, view);
                }
                Phase::Ended(reason) => {
                    let reason = reason.clone();
                    ended::show(ui, area, &reason, view);
                }
                _ => self.call.show(ui, area, open, view),
            }
            if let Some(rect) = panel {
                self.debug.show(ui, rect, view);
            }
        }
        widgets::toast(ui);
    }

    fn keys(&mut self, ui: &Ui, view: &mut View<'_>) {
        let in_call = !matches!(view.snapshot.phase, Phase::Idle | Phase::Ended(_));
        // Meet's pair works while typing too: a letter with Ctrl is no text.
        let ctrl = |key| ui.input_mut(|i| i.consume_key(Modifiers::COMMAND, key));
        let mut microphone = ctrl(Key::D);
        let mut camera = ctrl(Key::E);
        if !ui.ctx().egui_wants_keyboard_input() {
            let plain = |key| ui.input_mut(|i| i.consume_key(Modifiers::NONE, key));
            microphone |= plain(Key::M);
            camera |= plain(Key::V);
            if view.snapshot.phase != Phase::Idle && plain(Key::I) {
                view.ask(Action::ToggleDebug);
            }
            if plain(Key::F) {
                view.ask(Action::ToggleFullScreen);
            }
            if in_call
                && plain(Key::L)
                && let Some(link) = view.snapshot.room_link.clone()
            {
                view.ask(Action::Copy(link, "Link copied"));
            }
            if view.can_lock() && plain(Key::K) {
                view.ask_lock();
            }
        }
        if plain_escape(ui) && !self.call.close_proof() {
            if ui.input(|i| i.viewport().fullscreen).unwrap_or(false) {
                view.ask(Action::ToggleFullScreen);
            } else if self.debug.open && view.snapshot.phase != Phase::Idle {
                view.ask(Action::ToggleDebug);
            }
        }
        if microphone {
            view.ask(Action::SetMicrophone(!view.settings.microphone_on));
        }
        if camera {
            view.ask(Action::SetCamera(!view.settings.camera_on));
        }
        if in_call {
            self.push_to_talk(ui, view);
        }
    }

    /// Space opens a muted microphone for as long as it is held. It does not while a control has
    /// the keyboard's focus, for there Space presses the control.
    fn push_to_talk(&mut self, ui: &Ui, view: &mut View<'_>) {
        let free = ui.memory(|m| m.focused().is_none());
        let (down, focused) = ui.input(|i| (i.key_down(Key::Space), i.focused));
        let wanted = down && focused && free && !view.settings.microphone_on;
        if wanted != self.talking {
            self.talking = wanted;
            let on = wanted || view.settings.microphone_on;
            view.ask(Action::Send(Command::SetMicrophoneEnabled(on)));
            widgets::say(ui.ctx(), if wanted { "Talking" } else { "Muted again" });
        }
    }
}

fn plain_escape(ui: &Ui) -> bool {
    !egui::Popup::is_any_open(ui.ctx())
        && ui.input_mut(|i| i.consume_key(Modifiers::NONE, Key::Escape))
}
