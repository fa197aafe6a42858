//! The lobby's last line: which server introduces the two sides, and the settings beside it.

use egui::accesskit::Role;
use egui::{Align2, FontId, PopupCloseBehavior, Response, Sense, TextEdit, Ui, WidgetInfo};
use visavis_engine::AddressPolicy;

use crate::devices::{heading, item, popup, switch};
use crate::theme::{self, ThemeChoice, Tokens, icon};
use crate::view::{Action, ServerStatus, View};
use crate::widgets::{self, Emphasis};

/// The server's address while it is edited.
#[derive(Debug, Default)]
pub(crate) struct Editor {
    text: Option<String>,
    error: bool,
}

impl Editor {
    /// The line, a button that opens the editor.
    pub(crate) fn line(&mut self, ui: &mut Ui, view: &mut View<'_>) {
        let t = Tokens::of(ui.ctx());
        let (colour, words) = status(&t, view);
        let mut job = egui::text::LayoutJob::simple_singleline(
            words.clone(),
            FontId::proportional(12.0),
            t.muted,
        );
        job.wrap = egui::text::TextWrapping::truncate_at_width(ui.available_width() - 56.0);
        let galley = ui.painter().layout_job(job);
        let size = egui::vec2(galley.size().x + 52.0, 40.0);
        let (rect, response) = ui.allocate_exact_size(size, Sense::click());
        response.widget_info(|| {
            WidgetInfo::labeled(
                Role::Button,
                true,
                format!("{words}. Change the server or what is told of your addresses"),
            )
        });
        let p = ui.painter();
        if response.hovered() {
            p.rect_filled(rect, egui::CornerRadius::same(10), t.raised);
        }
        p.circle_filled(egui::pos2(rect.left() + 12.0, rect.center().y), 4.0, colour);
        let at = egui::pos2(rect.left() + 26.0, rect.center().y - galley.size().y / 2.0);
        p.galley(at, galley, t.muted);
        p.text(
            egui::pos2(rect.right() - 14.0, rect.center().y),
            Align2::CENTER_CENTER,
            icon::EDIT,
            FontId::proportional(14.0),
            t.muted,
        );
        widgets::focus_ring(ui, &response, rect, 10.0);
        let mut hover = "Click to change the server and what is told of your addresses.".to_owned();
        if let (None, ServerStatus::Running { url, open_to_network: false }) =
            (view.elsewhere(), view.server)
        {
            hover = format!("{url}, reached from this computer only.\n{hover}");
        }
        let response = response.on_hover_text(theme::small(hover));
        let shown = popup(&response)
            .width(380.0)
            .close_behavior(PopupCloseBehavior::CloseOnClickOutside)
            .show(|ui| {
                // Menus stretch their lines; this is text.
                ui.with_layout(egui::Layout::top_down(egui::Align::Min), |ui| self.edit(ui, view));
            });
        if shown.is_none() {
            self.text = None;
        }
    }

    fn edit(&mut self, ui: &mut Ui, view: &mut View<'_>) {
        let t = Tokens::of(ui.ctx());
        ui.spacing_mut().item_spacing.y = 8.0;
        egui::Frame::new().inner_margin(egui::Margin::same(8)).show(ui, |ui| {
            ui.label(theme::strong("Signaling server"));
            ui.add(
                egui::Label::new(
                    theme::small(
                        "It only introduces the two sides; sound and picture do not pass through it. \
                         Both need the same server.",
                    )
                    .color(t.muted),
                )
                .wrap(),
            );
            if item(ui, "This computer", view.settings.server.is_none()) {
                view.settings.server = None;
            }
            let before = view.settings.open_to_network;
            if view.settings.server.is_none() {
                let words = "Other computers on the network may use it";
                ui.checkbox(&mut view.settings.open_to_network, theme::body(words));
                if view.settings.open_to_network != before {
                    view.ask(Action::RestartServer);
                }
                if let ServerStatus::Running { url, open_to_network: true } = view.server {
                    let note = format!(
                        "{url}\nBrowsers on other computers give camera and microphone to https \
                         pages only; desktop apps need no https."
                    );
                    ui.add(egui::Label::new(theme::small(note).color(t.muted)).wrap());
                }
            }
            ui.add_space(4.0);
            let text = self
                .text
                .get_or_insert_with(|| view.settings.server.clone().unwrap_or_default());
            ui.label(theme::small("Another server").color(t.muted));
            ui.horizontal(|ui| {
                let field = TextEdit::singleline(text)
                    .hint_text("https://example.org")
                    .desired_width(250.0)
                    .align(egui::Align2::LEFT_CENTER)
                    .min_size(egui::vec2(0.0, 40.0))
                    .show(ui)
                    .response
                    .response;
                ui.ctx()
                    .accesskit_node_builder(field.id, |n| n.set_label("Address of another server"));
                let enter = field.lost_focus() && ui.input(|i| i.key_pressed(egui::Key::Enter));
                if widgets::button(ui, Emphasis::Secondary, "", "Use", 0.0).clicked() || enter {
                    let address = text.trim().trim_end_matches('/').to_owned();
                    let known = ["http://", "https://", "ws://", "wss://"];
                    self.error = !known
                        .iter()
                        .any(|s| address.strip_prefix(s).is_some_and(|host| !host.is_empty()));
                    if !self.error {
                        view.settings.server = Some(address);
                        ui.close();
                    }
                }
            });
            if self.error {
                ui.label(
                    theme::small("An address starts with https:// or http://, then the host.")
                        .color(t.danger),
                );
            }
            ui.add_space(4.0);
            ui.separator();
            ui.label(theme::strong("Your addresses"));
            ui.add(
                egui::Label::new(
                    theme::small("A direct call tells the other side where you are on the internet.")
                        .color(t.muted),
                )
                .wrap(),
            );
            for (policy, words) in [
                (AddressPolicy::All, "Tell them: quickest to connect"),
                (AddressPolicy::HideLocal, "Hide those inside your network"),
                (AddressPolicy::RelayOnly, "Hide them all: relayed calls only"),
            ] {
                if item(ui, words, view.settings.addresses == policy) {
                    view.settings.addresses = policy;
                }
            }
        });
    }
}

/// Colour of the dot, and what is known without asking the server anything.
fn status(t: &Tokens, view: &View<'_>) -> (egui::Color32, String) {
    let relay_only = view.settings.addresses == AddressPolicy::RelayOnly;
    if let Some(server) = view.elsewhere() {
        let when = if relay_only { "relayed calls only" } else { "contacted when you join" };
        return (t.info, format!("Server {server} · {when}"));
    }
    match view.server {
        ServerStatus::Starting => (t.muted, "Server on this computer · starting".into()),
        ServerStatus::Failed(why) => (t.danger, why.clone()),
        ServerStatus::Running { .. } if relay_only => {
            (t.warn, "Relayed calls only, but this computer has no relay".into())
        }
        ServerStatus::Running { url, open_to_network } => {
            let place = url.split("//").nth(1).unwrap_or(url);
            let words = if *open_to_network {
                format!("Server {place} · open to the network · no relay")
            } else {
                "Server on this computer · direct calls, no relay".to_owned()
            };
            (t.accent, words)
        }
    }
}

/// Theme and motion.
pub(crate) fn appearance_popup(button: &Response, view: &mut View<'_>) {
    let stay = egui::PopupCloseBehavior::CloseOnClickOutside;
    popup(button).close_behavior(stay).width(240.0).show(|ui| {
        heading(ui, "Appearance");
        for (choice, name) in ThemeChoice::ALL {
            if item(ui, name, view.settings.theme == choice) {
                view.settings.theme = choice;
                view.ask(Action::ApplyTheme);
            }
        }
        ui.separator();
        let explain = "Controls appear and go at once.";
        if switch(ui, &mut view.settings.reduce_motion, "Less motion", explain) {
            view.ask(Action::ApplyTheme);
        }
    });
}
