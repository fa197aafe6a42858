//! Before a call: preview and devices on the left, name and room on the right, the server below.

use egui::accesskit::Role;
use egui::{Align, Align2, FontId, Layout, Rect, RichText, Sense, TextEdit, Ui, Vec2, WidgetInfo};
use visavis_engine::CallCode;

use crate::devices;
use crate::room_entry::{self, Entry};
use crate::server_settings;
use crate::theme::{self, Tokens, icon};
use crate::video::Fit;
use crate::view::{Action, View, within};
use crate::widgets::{self, Emphasis, Level, Mark, Tone};

/// Longest name, as the server takes it.
const NAME_CHARS: usize = 64;
/// Below this width the columns stack, points.
const NARROW: f32 = 800.0;
const GAP: f32 = 12.0;

/// What the lobby keeps between passes.
#[derive(Debug, Default)]
pub(crate) struct Lobby {
    /// The code field.
    pub(crate) entry: String,
    /// Join was pressed with an unfinished code: say what is missing.
    complain: bool,
    /// The field has had its first focus.
    focused: bool,
    /// The server's address while it is edited.
    pub(crate) server: server_settings::Editor,
}

impl Lobby {
    /// Draws the lobby into all of `ui`.
    pub(crate) fn show(&mut self, ui: &mut Ui, view: &mut View<'_>) {
        let window = ui.max_rect();
        if window.width() < NARROW {
            egui::ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
                egui::Frame::new().inner_margin(egui::Margin::symmetric(24, 20)).show(ui, |ui| {
                    brand(ui);
                    ui.add_space(GAP);
                    let width = ui.available_width();
                    let height = (width * 9.0 / 16.0).min((window.height() * 0.36).max(180.0));
                    let (rect, _) =
                        ui.allocate_exact_size(egui::vec2(width, height), Sense::hover());
                    preview(ui, rect, view);
                    devices::pickers(ui, view);
                    ui.add_space(GAP);
                    self.entrance(ui, true, view);
                    ui.add_space(GAP);
                    self.status(ui, view);
                });
            });
            return;
        }
        let margin = if window.width() < 1100.0 { 32.0 } else { 48.0 };
        let content = Rect::from_center_size(
            window.center(),
            egui::vec2((window.width() - 2.0 * margin).min(1480.0), window.height() - 2.0 * 32.0),
        );
        let right_width = (content.width() * 0.38).clamp(300.0, 480.0);
        let gap = if window.width() < 1100.0 { 32.0 } else { 48.0 };
        let left_width = content.width() - right_width - gap;
        let controls = 52.0 + GAP;
        let height = (left_width * 9.0 / 16.0).min(content.height() - controls - 56.0);
        let top = content.center().y - (height + controls) / 2.0 - 12.0;
        let picture = Rect::from_min_size(
            egui::pos2(content.left(), top.max(content.top())),
            egui::vec2(left_width, height),
        );
        let below = Rect::from_min_size(
            egui::pos2(content.left(), picture.bottom() + GAP),
            egui::vec2(left_width, 52.0),
        );
        let right = Rect::from_min_max(
            egui::pos2(content.right() - right_width, content.top()),
            egui::pos2(content.right(), content.bottom() - 48.0),
        );
        let bottom = Rect::from_min_max(
            egui::pos2(right.left(), content.bottom() - 40.0),
            content.right_bottom(),
        );
        // The order of drawing is the order of the Tab key: what one came for first.
        let start = (picture.top() - 8.0).min(content.center().y - 250.0).max(content.top());
        let column = right.with_min_y(start);
        within(ui, column, Layout::top_down(Align::Min), |ui| {
            egui::ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
                // Room for the focus ring inside the scroll area's clip.
                egui::Frame::new().inner_margin(egui::Margin::symmetric(4, 4)).show(ui, |ui| {
                    brand(ui);
                    ui.add_space(GAP);
                    self.entrance(ui, false, view);
                });
            });
        });
        preview(ui, picture, view);
        within(ui, below, Layout::top_down(Align::Min), |ui| devices::pickers(ui, view));
        within(ui, bottom, Layout::top_down(Align::Min), |ui| self.status(ui, view));
    }

    /// Name, code and the two buttons.
    fn entrance(&mut self, ui: &mut Ui, stacked: bool, view: &mut View<'_>) {
        let t = Tokens::of(ui.ctx());
        if stacked {
            ui.label(theme::title("Face to face, nothing in between."));
        } else {
            ui.label(theme::display("Face to face,\nnothing in between."));
        }
        ui.add_space(-2.0);
        ui.add(
            egui::Label::new(
                theme::body("Enter the code that you were given, or make a room and share it.")
                    .color(t.muted),
            )
            .wrap(),
        );
        ui.add_space(6.0);
        ui.spacing_mut().item_spacing.y = GAP;
        let width = ui.available_width();
        let hint = RichText::new("Your name").color(t.muted);
        let name = field(ui, width, icon::PERSON, "Your name", |ui, w| {
            TextEdit::singleline(&mut view.settings.name)
                .id_salt("name")
                .hint_text(hint)
                .char_limit(NAME_CHARS)
                .desired_width(w)
                .align(Align2::LEFT_CENTER)
                .font(FontId::proportional(14.0))
                .frame(egui::Frame::new())
                .show(ui)
                .response
                .response
        });
        let code = self.code_field(ui, width);
        let entered = [&name, &code].iter().any(|r| r.lost_focus())
            && ui.input(|i| i.key_pressed(egui::Key::Enter));
        let entry = room_entry::read(&self.entry);
        if let Entry::Incomplete(what) = &entry
            && self.complain
        {
            ui.label(theme::small(format!("{}  {what}", icon::WARNING)).color(t.warn));
        }
        if let Entry::Code(code, _) = &entry
            && code.secret.is_none()
        {
            let words = "This is the first half of a code. With it alone the call is encrypted, but \
                         not proven.";
            ui.add(egui::Label::new(theme::small(words).color(t.muted)).wrap());
        }
        // Without a code the next thing to do is a new room; with one it is to join.
        let (join, new) = match entry {
            Entry::Empty if view.rejoin.is_some() => (Emphasis::Secondary, Emphasis::Secondary),
            Entry::Empty => (Emphasis::Secondary, Emphasis::Primary),
            _ => (Emphasis::Primary, Emphasis::Secondary),
        };
        if widgets::button(ui, join, "", "Join", width).clicked() || entered {
            match entry {
                Entry::Code(code, server) => {
                    self.complain = false;
                    view.ask(Action::Join { code, server });
                }
                Entry::Incomplete(_) => self.complain = true,
                Entry::Empty => code.request_focus(),
            }
        }
        if widgets::button(ui, new, icon::PLUS, "New room", width).clicked() {
            view.ask(Action::Join { code: CallCode::random(), server: None });
        }
        if let Some((room, server)) = view.rejoin {
            let (code, server) = (view.settings.code_of(room), server.to_owned());
            let words =
                format!("The call in {room} was interrupted. Your place is kept for some minutes.");
            ui.add(egui::Label::new(theme::small(words).color(t.muted)).wrap());
            if widgets::button(ui, Emphasis::Primary, icon::PHONE, "Rejoin", width).clicked() {
                view.ask(Action::Join { code, server: Some(server) });
            }
        }
        recent(ui, view);
        if let Some(problem) = view.problem {
            ui.add_space(4.0);
            widgets::notice(ui, Level::Bad, "", problem);
        }
    }

    fn code_field(&mut self, ui: &mut Ui, width: f32) -> egui::Response {
        let t = Tokens::of(ui.ctx());
        let before = self.entry.clone();
        let hint = RichText::new("Code or link").size(14.0).color(t.muted);
        let mut output = None;
        let entry = &mut self.entry;
        let response = field(ui, width, icon::KEY, "Code or link", |ui, w| {
            let shown = TextEdit::singleline(entry)
                .id_salt("room code")
                .hint_text(hint)
                .char_limit(400)
                .desired_width(w)
                .align(Align2::LEFT_CENTER)
                .font(FontId::monospace(18.0))
                .frame(egui::Frame::new())
                .show(ui);
            let response = shown.response.response.clone();
            output = Some((shown.state, shown.cursor_range));
            response
        });
        if !self.focused {
            self.focused = true;
            response.request_focus();
        }
        if self.entry != before
            && let Some((mut state, range)) = output
        {
            let caret = range.map_or(usize::MAX, |r| usize::from(r.primary.index));
            let (text, caret) = room_entry::format(&self.entry, caret);
            self.entry = text;
            let caret = egui::text::CCursor::new(caret);
            state.cursor.set_char_range(Some(egui::text::CCursorRange::one(caret)));
            state.store(ui.ctx(), response.id);
            if matches!(room_entry::read(&self.entry), Entry::Code(..)) {
                self.complain = false;
            }
        }
        response
    }

    /// The server in a sentence, and the settings.
    fn status(&mut self, ui: &mut Ui, view: &mut View<'_>) {
        ui.allocate_ui_with_layout(
            egui::vec2(ui.available_width(), 40.0),
            Layout::right_to_left(Align::Center),
            |ui| {
                let settings = widgets::icon_button(ui, icon::SETTINGS, "Settings");
                server_settings::appearance_popup(&settings, view);
                ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
                    self.server.line(ui, view);
                });
            },
        );
    }
}

fn brand(ui: &mut Ui) {
    let t = Tokens::of(ui.ctx());
    let (rect, _) = ui.allocate_exact_size(egui::vec2(ui.available_width(), 28.0), Sense::hover());
    widgets::mark(ui, egui::pos2(rect.left() + 12.0, rect.center().y), 11.0);
    ui.painter().text(
        egui::pos2(rect.left() + 36.0, rect.center().y),
        Align2::LEFT_CENTER,
        "Visavis",
        FontId::new(18.0, theme::semibold()),
        t.accent,
    );
}

/// A text field with an icon before it; the frame shows the focus.
fn field(
    ui: &mut Ui,
    width: f32,
    icon: &str,
    label: &str,
    add: impl FnOnce(&mut Ui, f32) -> egui::Response,
) -> egui::Response {
    let t = Tokens::of(ui.ctx());
    let (rect, _) =
        ui.allocate_exact_size(egui::vec2(width, theme::CONTROL_HEIGHT), Sense::hover());
    let frame = ui.painter().add(egui::Shape::Noop);
    ui.painter().text(
        egui::pos2(rect.left() + 24.0, rect.center().y),
        Align2::CENTER_CENTER,
        icon,
        FontId::proportional(18.0),
        t.muted,
    );
    let inner = Rect::from_min_max(
        egui::pos2(rect.left() + 44.0, rect.top() + 4.0),
        egui::pos2(rect.right() - 12.0, rect.bottom() - 4.0),
    );
    let response =
        within(ui, inner, Layout::left_to_right(Align::Center), |ui| add(ui, inner.width()));
    ui.ctx().accesskit_node_builder(response.id, |node| node.set_label(label));
    let stroke = if response.has_focus() {
        egui::Stroke::new(2.0, t.accent)
    } else {
        egui::Stroke::new(
            1.0,
            if t.line == t.text { t.line } else { theme::blend(t.line, t.muted, 0.35) },
        )
    };
    ui.painter().set(
        frame,
        egui::epaint::RectShape::new(
            rect,
            egui::CornerRadius::same(theme::RADIUS_CONTROL),
            t.surface,
            stroke,
            egui::StrokeKind::Inside,
        ),
    );
    response
}

fn recent(ui: &mut Ui, view: &mut View<'_>) {
    if view.settings.recent_rooms.is_empty() {
        return;
    }
    let t = Tokens::of(ui.ctx());
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing = egui::vec2(4.0, 0.0);
        ui.label(theme::small(format!("{}  Recent", icon::RECENT)).color(t.muted));
        ui.add_space(4.0);
        for recent in view.settings.recent_rooms.clone() {
            let code = recent.to_string();
            let galley = ui.painter().layout_no_wrap(code.clone(), FontId::monospace(13.0), t.text);
            let size = egui::vec2(galley.size().x + 16.0, 40.0);
            let (rect, link) = ui.allocate_exact_size(size, Sense::click());
            link.widget_info(|| {
                WidgetInfo::labeled(Role::Button, true, format!("Join {code} again"))
            });
            let text = Rect::from_center_size(rect.center(), galley.size());
            let line = if link.hovered() { t.accent } else { t.line };
            ui.painter().hline(text.x_range(), text.bottom() + 2.0, egui::Stroke::new(1.0, line));
            ui.painter().galley(text.min, galley, t.text);
            widgets::focus_ring(ui, &link, rect.shrink2(egui::vec2(2.0, 6.0)), 6.0);
            if link.clicked() {
                view.ask(Action::Join { code: recent, server: None });
            }
        }
    });
}

/// The own picture as the other side would get it, but mirrored; or why there is none.
fn preview(ui: &mut Ui, rect: Rect, view: &mut View<'_>) {
    let t = Tokens::of(ui.ctx());
    let local = &view.snapshot.local;
    let camera_on = view.settings.camera_on;
    let microphone_on = view.settings.microphone_on;
    let shown = camera_on
        && local.camera_problem.is_none()
        && view.local.paint(ui, rect, Fit::Cover, true, f32::from(theme::RADIUS_PICTURE)).is_some();
    if shown {
        if let Some(format) = &local.camera_format {
            let at = rect.min + Vec2::splat(12.0);
            widgets::pill(ui, at, Mark::Icon(icon::CAMERA, theme::DARK.text), format, 1.0);
        }
    } else {
        widgets::picture_background(ui, rect);
        let (headline, detail) = no_picture(view);
        let centre = rect.center() - egui::vec2(0.0, 24.0);
        ui.painter().text(
            centre - egui::vec2(0.0, 44.0),
            Align2::CENTER_CENTER,
            icon::CAMERA_OFF,
            FontId::proportional(40.0),
            t.muted,
        );
        let room = Rect::from_center_size(
            centre + egui::vec2(0.0, 40.0),
            egui::vec2((rect.width() - 48.0).min(440.0), 120.0),
        );
        within(ui, room, Layout::top_down(Align::Center), |ui| {
            ui.spacing_mut().item_spacing.y = 4.0;
            ui.label(theme::strong(headline));
            ui.add(egui::Label::new(theme::body(detail).color(t.muted)).wrap());
        });
    }
    let y = rect.bottom() - 16.0 - theme::CALL_CONTROL / 2.0;
    let x = rect.center().x;
    let toggles = [
        (-34.0, microphone_on, icon::MICROPHONE, icon::MICROPHONE_OFF, "microphone", "M"),
        (34.0, camera_on, icon::CAMERA, icon::CAMERA_OFF, "camera", "V"),
    ];
    for (dx, on, glyph_on, glyph_off, what, key) in toggles {
        let label = format!("Switch the {what} {}", if on { "off" } else { "on" });
        let (glyph, tone) = if on { (glyph_on, Tone::Plain) } else { (glyph_off, Tone::Off) };
        let id_ui = &mut ui.new_child(egui::UiBuilder::new().id_salt(what));
        let button =
            widgets::round_control(id_ui, egui::pos2(x + dx, y), glyph, &label, "", tone, 1.0);
        if button.on_hover_text(theme::small(format!("{label} ({key})"))).clicked() {
            view.ask(match what {
                "camera" => Action::SetCamera(!on),
                _ => Action::SetMicrophone(!on),
            });
        }
    }
}

/// Why the preview is empty, and what that means for the call.
fn no_picture(view: &View<'_>) -> (String, String) {
    let local = &view.snapshot.local;
    if !view.settings.camera_on {
        return ("Camera off".into(), "The other side will not see you.".into());
    }
    if let Some(problem) = &local.camera_problem {
        let rest = match &local.microphone_problem {
            None => "You can still call: the other side hears you.".to_owned(),
            Some(m) => format!("{m} You can still call, to see and hear the other side."),
        };
        return (problem.clone(), rest);
    }
    if local.camera_name.is_some() {
        return ("Starting the camera…".into(), String::new());
    }
    // Nothing is known before the engine's first words.
    if local.microphone_name.is_some() || !view.snapshot.devices.cameras.is_empty() {
        return ("No camera in use".into(), "The other side will not see you.".into());
    }
    (String::new(), String::new())
}
