//! The few controls that all views share, drawn by the design's tokens. UI thread only.
//!
//! Every control has a spoken label (AccessKit), a hit target of at least 40 points, and a focus
//! ring that the keyboard shows.

use egui::accesskit::Role;
use egui::{
    Align2, Color32, CornerRadius, FontFamily, FontId, Id, Rect, Response, Sense, Stroke,
    StrokeKind, Ui, Vec2, WidgetInfo,
};

use crate::theme::{self, CONTROL_HEIGHT, RADIUS_CONTROL, RADIUS_PICTURE, Tokens};

/// How much a button asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Emphasis {
    /// The one thing to do next.
    Primary,
    /// Everything else.
    Secondary,
}

/// A button as wide as `width`, or as its words if that is zero.
pub(crate) fn button(
    ui: &mut Ui,
    emphasis: Emphasis,
    icon: &str,
    text: &str,
    width: f32,
) -> Response {
    let t = Tokens::of(ui.ctx());
    let enabled = ui.is_enabled();
    let colour = if emphasis == Emphasis::Primary { t.on_accent } else { t.text };
    let colour = if enabled { colour } else { t.muted };
    let p = ui.painter();
    let galley = p.layout_no_wrap(text.to_owned(), FontId::new(14.0, theme::semibold()), colour);
    let glyph = p.layout_no_wrap(icon.to_owned(), FontId::proportional(18.0), colour);
    let lead = if icon.is_empty() { 0.0 } else { glyph.size().x + 8.0 };
    let content = egui::vec2(lead + galley.size().x, galley.size().y);
    let wanted = if width > 0.0 { width } else { content.x + 32.0 };
    let height = if width > 0.0 { CONTROL_HEIGHT } else { 40.0 };
    let (rect, response) = ui.allocate_exact_size(egui::vec2(wanted, height), Sense::click());
    response.widget_info(|| WidgetInfo::labeled(Role::Button, enabled, text));
    let lit = response.hovered() || response.is_pointer_button_down_on();
    let (fill, stroke) = match emphasis {
        Emphasis::Primary if !enabled => (t.raised, Stroke::new(1.0, t.line)),
        Emphasis::Primary => (lift(t.accent, t.text, lit), Stroke::NONE),
        Emphasis::Secondary => (lift(t.raised, t.text, lit), Stroke::new(1.0, t.line)),
    };
    let radius = CornerRadius::same(RADIUS_CONTROL);
    ui.painter().rect(rect, radius, fill, stroke, StrokeKind::Inside);
    let left = rect.center() - content / 2.0;
    let glyph_at = egui::pos2(left.x, rect.center().y - glyph.size().y / 2.0);
    ui.painter().galley(glyph_at, glyph, colour);
    ui.painter().galley(left + egui::vec2(lead, 0.0), galley, colour);
    focus_ring(ui, &response, rect, RADIUS_CONTROL.into());
    response
}

/// A square button that is only an icon; `label` is spoken and shown on hover.
pub(crate) fn icon_button(ui: &mut Ui, icon: &str, label: &str) -> Response {
    let t = Tokens::of(ui.ctx());
    let (rect, response) = ui.allocate_exact_size(Vec2::splat(40.0), Sense::click());
    response.widget_info(|| WidgetInfo::labeled(Role::Button, true, label));
    if response.hovered() {
        ui.painter().rect_filled(rect, CornerRadius::same(RADIUS_CONTROL), t.raised);
    }
    let colour = if response.hovered() { t.text } else { t.muted };
    ui.painter().text(
        rect.center(),
        Align2::CENTER_CENTER,
        icon,
        FontId::proportional(20.0),
        colour,
    );
    focus_ring(ui, &response, rect, RADIUS_CONTROL.into());
    response.on_hover_text(theme::small(label))
}

/// What a round control says by its colour, besides its words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// On, or without a state.
    Plain,
    /// Switched off: red on dark red.
    Off,
    /// Panel open: accent.
    Open,
    /// Hangs up.
    Leave,
}

/// A round control over video, always in the dark palette; `words` below it are its name and key.
/// States that matter are said elsewhere too, so all of it may fade with `opacity`.
pub(crate) fn round_control(
    ui: &mut Ui,
    centre: egui::Pos2,
    icon: &str,
    label: &str,
    words: &str,
    tone: Tone,
    opacity: f32,
) -> Response {
    let t =
        if Tokens::of(ui.ctx()).ink == Color32::BLACK { Tokens::of(ui.ctx()) } else { theme::DARK };
    let d = theme::CALL_CONTROL;
    let size = if tone == Tone::Leave { egui::vec2(d * 1.42, d) } else { Vec2::splat(d) };
    let rect = Rect::from_center_size(centre, size);
    let id = ui.scope_id().with(("control", label_key(words)));
    let response = ui.interact(rect, id, Sense::click());
    response.widget_info(|| WidgetInfo::labeled(Role::Button, ui.is_enabled(), label));
    let lit = response.hovered() || response.is_pointer_button_down_on();
    let (fill, ink) = match tone {
        Tone::Plain => (Color32::from_rgb(0x1B, 0x21, 0x29), t.text),
        Tone::Off => (Color32::from_rgb(0x45, 0x16, 0x1A), t.danger),
        Tone::Open => (t.raised, t.accent),
        Tone::Leave => (t.danger, Color32::WHITE),
    };
    let p = ui.painter();
    let fill = lift(fill, t.text, lit).gamma_multiply(opacity * 0.94);
    p.rect_filled(rect, CornerRadius::same((d / 2.0) as u8), fill);
    // These two are unreadable as filled shapes.
    let outlined = [theme::icon::LINK, theme::icon::PULSE].contains(&icon);
    let family = if outlined { FontFamily::Proportional } else { theme::filled() };
    p.text(
        centre,
        Align2::CENTER_CENTER,
        icon,
        FontId::new(22.0, family),
        ink.gamma_multiply(opacity),
    );
    if !words.is_empty() {
        let galley = p.layout_no_wrap(words.to_owned(), FontId::proportional(12.0), t.text);
        let at = egui::pos2(centre.x - galley.size().x / 2.0, rect.bottom() + 6.0);
        let back = Rect::from_min_size(at, galley.size()).expand2(egui::vec2(6.0, 2.0));
        p.rect_filled(back, CornerRadius::same(9), scrim(opacity * 0.75));
        p.galley_with_override_text_color(at, galley, t.text.gamma_multiply(opacity));
    }
    focus_ring(ui, &response, rect, d / 2.0);
    response
}

/// The part of the words that does not change with the state, so that focus stays on the control.
fn label_key(words: &str) -> &str {
    words.rsplit('·').next().unwrap_or(words)
}

/// Black under text that lies on video.
pub(crate) fn scrim(opacity: f32) -> Color32 {
    Color32::from_rgb(0x0E, 0x11, 0x16).gamma_multiply(opacity)
}

/// A rounded label on video: optional coloured dot or icon, then words. Returns its rectangle.
pub(crate) fn pill(
    ui: &Ui,
    left_top: egui::Pos2,
    mark: Mark<'_>,
    words: &str,
    opacity: f32,
) -> Response {
    let t = theme::DARK;
    let galley = ui.painter().layout_no_wrap(words.to_owned(), FontId::proportional(12.0), t.text);
    let lead = if matches!(mark, Mark::None) { 0.0 } else { 18.0 };
    let size = egui::vec2(galley.size().x + lead + 24.0, 28.0);
    let rect = Rect::from_min_size(left_top, size);
    let response = ui.interact(rect, ui.scope_id().with(("pill", words)), Sense::hover());
    response.widget_info(|| WidgetInfo::labeled(Role::Label, true, words));
    let p = ui.painter();
    p.rect_filled(rect, CornerRadius::same(14), scrim(0.82 * opacity));
    let at = egui::pos2(rect.left() + 18.0, rect.center().y);
    match mark {
        Mark::None => {}
        Mark::Dot(c) => {
            p.circle_filled(at, 4.0, c.gamma_multiply(opacity));
        }
        Mark::Icon(icon, c) => {
            p.text(
                at,
                Align2::CENTER_CENTER,
                icon,
                FontId::new(15.0, theme::filled()),
                c.gamma_multiply(opacity),
            );
        }
    }
    let text = egui::pos2(rect.left() + 12.0 + lead, rect.center().y - galley.size().y / 2.0);
    p.galley_with_override_text_color(text, galley, t.text.gamma_multiply(opacity));
    response
}

/// What stands before the words of a [`pill`].
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mark<'a> {
    /// Nothing.
    None,
    /// A coloured dot.
    Dot(Color32),
    /// A filled icon.
    Icon(&'a str, Color32),
}

/// How serious a notice is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// All is well.
    Good,
    /// For information.
    Info,
    /// Degraded.
    Warn,
    /// It does not work.
    Bad,
}

impl Level {
    /// Colour and filled icon.
    pub(crate) fn look(self, t: &Tokens) -> (Color32, &'static str) {
        match self {
            Self::Good => (t.accent, theme::icon::GOOD),
            Self::Info => (t.info, theme::icon::INFO),
            Self::Warn => (t.warn, theme::icon::WARNING),
            Self::Bad => (t.danger, theme::icon::WARNING),
        }
    }
}

/// A sentence in a frame: what happened, what it means, what to do.
pub(crate) fn notice(ui: &mut Ui, level: Level, headline: &str, detail: &str) -> Response {
    let t = Tokens::of(ui.ctx());
    let (colour, icon) = level.look(&t);
    egui::Frame::new()
        .fill(theme::blend(t.surface, colour, 0.08))
        .stroke(Stroke::new(1.0, theme::blend(t.surface, colour, 0.45)))
        .corner_radius(CornerRadius::same(RADIUS_CONTROL))
        .inner_margin(egui::Margin::symmetric(14, 12))
        .show(ui, |ui| {
            ui.set_width(ui.available_width());
            ui.horizontal_top(|ui| {
                ui.label(
                    egui::RichText::new(icon)
                        .size(18.0)
                        .line_height(Some(20.0))
                        .family(theme::filled())
                        .color(colour),
                );
                ui.vertical(|ui| {
                    ui.spacing_mut().item_spacing.y = 2.0;
                    if !headline.is_empty() {
                        ui.add(egui::Label::new(theme::strong(headline)).wrap());
                    }
                    if !detail.is_empty() {
                        ui.add(egui::Label::new(theme::body(detail).color(t.muted)).wrap());
                    }
                });
            });
        })
        .response
}

/// A titled card of the debug panel.
pub(crate) fn card<R>(ui: &mut Ui, title: &str, add: impl FnOnce(&mut Ui) -> R) -> R {
    let t = Tokens::of(ui.ctx());
    egui::Frame::new()
        .fill(t.surface)
        .stroke(Stroke::new(1.0, t.line))
        .corner_radius(CornerRadius::same(RADIUS_CONTROL))
        .inner_margin(egui::Margin::symmetric(14, 12))
        .show(ui, |ui| {
            ui.set_width(ui.available_width());
            ui.spacing_mut().item_spacing.y = 6.0;
            if !title.is_empty() {
                ui.label(theme::small(title).family(theme::semibold()).color(t.muted));
            }
            add(ui)
        })
        .inner
}

/// The lobby's microphone meter: `level_dbfs` from -60 (empty) to 0 (full).
pub(crate) fn meter(ui: &Ui, rect: Rect, level_dbfs: f32, on: bool) {
    let t = Tokens::of(ui.ctx());
    let share = ((level_dbfs + 60.0) / 60.0).clamp(0.0, 1.0);
    let p = ui.painter();
    let radius = CornerRadius::same((rect.height() / 2.0) as u8);
    p.rect_filled(rect, radius, theme::blend(t.surface, t.line, 0.9));
    let colour = match () {
        () if !on => t.muted,
        () if level_dbfs > -3.0 => t.danger,
        () => t.accent,
    };
    let filled = Rect::from_min_size(rect.min, egui::vec2(rect.width() * share, rect.height()));
    if filled.width() >= 1.0 {
        p.rect_filled(filled, radius, colour);
    }
}

/// The mark: two facing arcs with round caps, accent and info.
pub(crate) fn mark(ui: &Ui, centre: egui::Pos2, radius: f32) {
    let t = Tokens::of(ui.ctx());
    let width = radius * 0.36;
    for (side, colour) in [(-1.0_f32, t.accent), (1.0, t.info)] {
        let points: Vec<_> = (-12..=12)
            .map(|i| {
                let a = f32::from(i as i16) / 12.0 * 1.05;
                centre + egui::vec2(side * (radius * a.cos()), radius * a.sin())
            })
            .collect();
        for end in [points[0], points[points.len() - 1]] {
            ui.painter().circle_filled(end, width / 2.0, colour);
        }
        ui.painter().add(egui::Shape::line(points, Stroke::new(width, colour)));
    }
}

/// A ring of 2 points around what the keyboard is on.
pub(crate) fn focus_ring(ui: &Ui, response: &Response, rect: Rect, radius: f32) {
    if response.has_focus() {
        let t = Tokens::of(ui.ctx());
        ui.painter().rect_stroke(
            rect.expand(3.0),
            CornerRadius::same((radius + 3.0).min(255.0) as u8),
            Stroke::new(2.0, t.accent),
            StrokeKind::Middle,
        );
    }
}

/// `colour`, a little towards `to` while `lit`.
pub(crate) fn lift(colour: Color32, to: Color32, lit: bool) -> Color32 {
    if lit { theme::blend(colour, to, 0.10) } else { colour }
}

/// A cell of the debug panel: monospace, copied by a click, explained on hover.
pub(crate) fn copyable(ui: &mut Ui, text: &str, colour: Color32, explain: &str) -> Response {
    let label = egui::Label::new(theme::mono(text).color(colour)).sense(Sense::click());
    let response = ui.add(label.truncate());
    if response.clicked() {
        ui.ctx().copy_text(text.to_owned());
        say_copied(ui.ctx());
    }
    if explain.is_empty() {
        response.on_hover_text(theme::small("Click to copy"))
    } else {
        response.on_hover_text(theme::small(format!("{explain}\nClick to copy")))
    }
}

/// Shows `words` for a moment at the bottom of the window.
pub(crate) fn say(ctx: &egui::Context, words: &str) {
    let until = ctx.input(|i| i.time) + TOAST_SECONDS;
    ctx.data_mut(|d| d.insert_temp(toast_id(), (words.to_owned(), until)));
    ctx.request_repaint_after_secs(TOAST_SECONDS as f32);
}

fn say_copied(ctx: &egui::Context) {
    say(ctx, "Copied");
}

/// Paints what [`say`] left, until its time is over.
pub(crate) fn toast(ui: &Ui) {
    let Some((words, until)) = ui.data(|d| d.get_temp::<(String, f64)>(toast_id())) else {
        return;
    };
    if ui.input(|i| i.time) >= until {
        ui.data_mut(|d| d.remove::<(String, f64)>(toast_id()));
        return;
    }
    let layer = egui::LayerId::new(egui::Order::Tooltip, toast_id());
    let p = ui.ctx().layer_painter(layer);
    let t = Tokens::of(ui.ctx());
    let galley = p.layout_no_wrap(words, FontId::new(14.0, theme::semibold()), t.ink);
    let window = ui.ctx().content_rect();
    let centre = egui::pos2(window.center().x, window.bottom() - 140.0);
    let rect = Rect::from_center_size(centre, galley.size() + egui::vec2(32.0, 18.0));
    p.rect_filled(rect, CornerRadius::same(18), t.text);
    p.galley(centre - galley.size() / 2.0, galley, t.ink);
}

fn toast_id() -> Id {
    Id::unique("toast")
}

const TOAST_SECONDS: f64 = 2.0;

/// Rounded card behind large content.
pub(crate) fn picture_background(ui: &Ui, rect: Rect) {
    let t = Tokens::of(ui.ctx());
    ui.painter().rect(
        rect,
        CornerRadius::same(RADIUS_PICTURE),
        t.surface,
        Stroke::new(1.0, t.line),
        StrokeKind::Inside,
    );
}
