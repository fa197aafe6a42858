//! Between the lobby and the call: reaching the server, alone in the room, connecting.

use egui::{Align, FontId, Layout, Rect, RichText, TextureHandle, TextureOptions, Ui};
use visavis_engine::{CallSnapshot, DtlsState, Phase, SignalingLink};

use crate::call_view;
use crate::knock_card;
use crate::theme::{self, Tokens, icon};
use crate::video::Fit;
use crate::view::{Action, ServerStatus, View, within};
use crate::widgets::{self, Emphasis, Level};

const PADDING: f32 = 24.0;

/// What the view keeps between passes: the code of the room's link as a picture.
#[derive(Default)]
pub(crate) struct Waiting {
    qr: Option<(String, TextureHandle)>,
    /// Height of the card's content in the last pass, points.
    content: f32,
}

impl Waiting {
    /// Draws into `area`, the window without the debug panel.
    pub(crate) fn show(&mut self, ui: &mut Ui, area: Rect, debug_open: bool, view: &mut View<'_>) {
        let t = Tokens::of(ui.ctx());
        if view.settings.camera_on && view.local.paint(ui, area, Fit::Cover, true, 0.0).is_some() {
            ui.painter().rect_filled(area, 0.0, t.ink.gamma_multiply(0.72));
        }
        let room = Rect::from_min_max(area.min, area.max - egui::vec2(0.0, 116.0));
        let wide = room.width() > 620.0 && view.snapshot.phase == Phase::Waiting;
        let size = egui::vec2(
            (room.width() - 32.0).min(if wide { 660.0 } else { 420.0 }),
            (room.height() - 16.0).min(self.content.max(96.0) + 2.0 * PADDING),
        );
        let card = Rect::from_center_size(room.center(), size);
        ui.painter().rect(
            card,
            egui::CornerRadius::same(theme::RADIUS_PICTURE),
            t.surface,
            egui::Stroke::new(1.0, t.line),
            egui::StrokeKind::Inside,
        );
        let content = within(ui, card.shrink(PADDING), Layout::top_down(Align::Min), |ui| {
            let scroll = egui::ScrollArea::vertical().auto_shrink(false);
            scroll.show(ui, |ui| match view.snapshot.phase {
                Phase::Waiting => self.alone(ui, wide, view),
                Phase::Connecting => connecting(ui, view.snapshot),
                Phase::Knocking => knocking(ui, view),
                _ => joining(ui, view),
            })
        })
        .content_size
        .y;
        if (content - self.content).abs() > 0.5 {
            self.content = content;
            ui.ctx().request_discard("the card fits its content");
        }
        call_view::controls(ui, area, debug_open, 1.0, view);
        knock_card::show(ui, area, area.top() + 16.0, view);
    }

    fn alone(&mut self, ui: &mut Ui, wide: bool, view: &mut View<'_>) {
        let t = Tokens::of(ui.ctx());
        let Some(code) = view.snapshot.code.as_ref().map(ToString::to_string) else { return };
        let link = view.snapshot.room_link.clone();
        let words = |ui: &mut Ui, view: &mut View<'_>| {
            ui.label(theme::title("Waiting for the other side"));
            ui.add(
                egui::Label::new(
                    theme::body(
                        "Share the code or the link. It opens here or in a browser; the call \
                         starts by itself.",
                    )
                    .color(t.muted),
                )
                .wrap(),
            );
            ui.add_space(8.0);
            let large = RichText::new(&code)
                .font(FontId::monospace(30.0))
                .line_height(Some(44.0))
                .color(t.text);
            ui.add(egui::Label::new(large).selectable(true));
            ui.add_space(4.0);
            ui.horizontal_wrapped(|ui| {
                if let Some(link) = &link {
                    let b = widgets::button(ui, Emphasis::Primary, icon::LINK, "Copy link", 0.0);
                    if b.clicked() {
                        view.ask(Action::Copy(link.clone(), "Link copied"));
                    }
                }
                if widgets::button(ui, Emphasis::Secondary, icon::COPY, "Copy code", 0.0).clicked()
                {
                    view.ask(Action::Copy(code.clone(), "Code copied"));
                }
            });
            if let Some(link) = &link {
                ui.label(theme::mono(link).color(t.muted));
            }
        };
        if wide {
            ui.horizontal_top(|ui| {
                ui.allocate_ui(egui::vec2(ui.available_width() - 208.0, 0.0), |ui| {
                    ui.vertical(|ui| words(ui, view));
                });
                ui.with_layout(Layout::right_to_left(Align::Min), |ui| {
                    self.qr(ui, link.as_deref())
                });
            });
        } else {
            words(ui, view);
            self.qr(ui, link.as_deref());
        }
        if view.snapshot.room_locked {
            ui.add_space(8.0);
            widgets::notice(
                ui,
                Level::Warn,
                "The room is locked.",
                "Only who was in it can come back. Unlock it (K) to let others in.",
            );
        }
        if let Some(note) = only_here(view) {
            ui.add_space(8.0);
            widgets::notice(ui, Level::Info, "", note);
        }
        if view.snapshot.states.signaling_link == SignalingLink::Reconnecting {
            ui.add_space(8.0);
            widgets::notice(
                ui,
                Level::Warn,
                "The server does not answer.",
                "The room is kept; trying again.",
            );
        }
    }

    /// The link for a phone's camera.
    fn qr(&mut self, ui: &mut Ui, link: Option<&str>) {
        let Some(link) = link else { return };
        if self.qr.as_ref().is_none_or(|(of, _)| of != link) {
            let Ok(code) = qrcode::QrCode::new(link) else { return };
            let side = code.width();
            let quiet = 3;
            let whole = side + 2 * quiet;
            let mut image = egui::ColorImage::filled([whole, whole], egui::Color32::WHITE);
            for (i, c) in code.to_colors().into_iter().enumerate() {
                if c == qrcode::Color::Dark {
                    image[(i % side + quiet, i / side + quiet)] = egui::Color32::BLACK;
                }
            }
            let texture = ui.ctx().load_texture("room link", image, TextureOptions::NEAREST);
            self.qr = Some((link.to_owned(), texture));
        }
        if let Some((_, texture)) = &self.qr {
            let image = egui::Image::new((texture.id(), egui::Vec2::splat(188.0)))
                .corner_radius(10)
                .alt_text("QR code of the room's link");
            ui.add(image);
        }
    }
}

/// A warning about a link that others cannot open.
fn only_here(view: &View<'_>) -> Option<&'static str> {
    let local =
        matches!(view.server, ServerStatus::Running { open_to_network: false, .. })
            && view.elsewhere().is_none()
            && view.snapshot.room_link.as_deref().is_some_and(|l| {
                ["//127.", "//localhost", "//[::1]"].iter().any(|h| l.contains(h))
            });
    local.then_some(
        "This link works on this computer only. To let others in, open the server to the network \
         in the lobby, or use a server on the internet.",
    )
}

fn joining(ui: &mut Ui, view: &mut View<'_>) {
    let t = Tokens::of(ui.ctx());
    ui.label(theme::title("Reaching the server…"));
    let server = view.elsewhere().unwrap_or("the one on this computer");
    let words = match view.snapshot.states.signaling_link {
        SignalingLink::Reconnecting => "It does not answer yet. Trying again by itself.".to_owned(),
        _ => format!("Server: {server}"),
    };
    ui.add(egui::Label::new(theme::body(words).color(t.muted)).wrap());
    ui.add_space(8.0);
    if widgets::button(ui, Emphasis::Secondary, "", "Cancel", 0.0).clicked() {
        view.ask(Action::Leave);
    }
}

fn knocking(ui: &mut Ui, view: &mut View<'_>) {
    let t = Tokens::of(ui.ctx());
    ui.label(theme::title("Waiting to be let in…"));
    let words = "Two people have been connected in this room. Whoever is inside sees that you want \
                 to come in, and decides. They can neither see nor hear you yet.";
    ui.add(egui::Label::new(theme::body(words).color(t.muted)).wrap());
    ui.add_space(8.0);
    if widgets::button(ui, Emphasis::Secondary, "", "Give up", 0.0).clicked() {
        view.ask(Action::Leave);
    }
}

fn connecting(ui: &mut Ui, s: &CallSnapshot) {
    let who = s.remote.display_name.as_deref().unwrap_or("The other side");
    ui.label(theme::title(format!("{who} is here. Connecting…")));
    ui.add_space(4.0);
    let has_secret = s.code.as_ref().is_some_and(|code| code.secret.is_some());
    let steps = [
        ("In the room together", s.remote.present),
        ("Agreed on sound and picture", s.setup.negotiated.is_some()),
        (
            if has_secret { "Proved to know the code" } else { "Exchanged pictures to compare" },
            s.authentication.is_some(),
        ),
        (
            "Found a path between the two",
            s.states.is_ice_connected() || s.setup.ice_connected.is_some(),
        ),
        ("Encryption keys exchanged", s.states.dtls == Some(DtlsState::Connected)),
        ("First sound or picture", s.setup.first_audio.or(s.setup.first_video_frame).is_some()),
    ];
    let mut current = true;
    for (words, done) in steps {
        step(ui, words, done, current && !done);
        current &= done;
    }
}

fn step(ui: &mut Ui, words: &str, done: bool, current: bool) {
    let t = Tokens::of(ui.ctx());
    let colour = match (done, current) {
        (true, _) => t.accent,
        (false, true) => t.info,
        (false, false) => t.muted,
    };
    ui.horizontal(|ui| {
        ui.spacing_mut().interact_size.y = 22.0;
        let (dot, _) = ui.allocate_exact_size(egui::Vec2::splat(18.0), egui::Sense::hover());
        if done {
            ui.painter().text(
                dot.center(),
                egui::Align2::CENTER_CENTER,
                icon::CHECK,
                FontId::proportional(16.0),
                colour,
            );
        } else {
            ui.painter().circle_stroke(dot.center(), 5.0, egui::Stroke::new(2.0, colour));
        }
        let words = if current { format!("{words} …") } else { words.to_owned() };
        ui.label(theme::body(words).color(if done || current { t.text } else { t.muted }));
    });
}
