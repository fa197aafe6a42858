//! The call: the other side's picture fills the window, everything else floats over it, appears on
//! movement and fades. States that matter (muted, camera off, reconnecting) never fade.

use egui::accesskit::Role;
use egui::{Align2, FontId, Rect, Sense, Ui, WidgetInfo};
use visavis_engine::{CallSnapshot, Command, Phase, SignalingLink, Size};

use crate::proof_card;

use crate::format;
use crate::knock_card;
use crate::theme::{self, DARK, icon};
use crate::video::Fit;
use crate::view::{Action, View, clock};
use crate::widgets::{self, Mark, Tone};

/// Seconds without movement until the controls fade.
const FADE_AFTER: f64 = 2.5;
const MARGIN: f32 = 16.0;
const PILL: f32 = 28.0;

/// Where the own picture rests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Corner {
    TopLeft,
    TopRight,
    BottomLeft,
    #[default]
    BottomRight,
}

/// What the view keeps between passes.
#[derive(Debug, Default)]
pub(crate) struct CallView {
    corner: Corner,
    dragged_to: Option<egui::Pos2>,
    /// Whether the card behind the lock is open.
    proof_open: bool,
    moved_at: Option<f64>,
    /// Size at which the remote video was last shown, pixels.
    shown: Option<Size>,
}

impl CallView {
    /// Closes the card behind the lock; whether it was open.
    pub(crate) fn close_proof(&mut self) -> bool {
        std::mem::take(&mut self.proof_open)
    }

    /// Draws into `area`, the window without the debug panel.
    pub(crate) fn show(&mut self, ui: &mut Ui, area: Rect, debug_open: bool, view: &mut View<'_>) {
        if let Some(at) = remote(ui, area, view) {
            let px = at.size() * ui.pixels_per_point();
            let shown = Size::new(px.x.round() as u32, px.y.round() as u32);
            if self.shown.replace(shown) != Some(shown) {
                view.ask(Action::Send(Command::SetDisplaySize(shown)));
            }
        }
        let opacity = self.opacity(ui, area, view.snapshot);
        self.inset(ui, area, view);
        self.top_pills(ui, area, opacity, view);
        // The hint over the microphone's button says it louder, and may need the room.
        let silent = !view.settings.microphone_on && !view.snapshot.local.speaking_while_muted;
        let local = [
            (silent, icon::MICROPHONE_OFF, "Microphone off"),
            (!view.settings.camera_on, icon::CAMERA_OFF, "Camera off"),
        ];
        let name = view.snapshot.remote.display_name.as_deref().unwrap_or("The other side");
        let remote = &view.snapshot.remote;
        let muted = format!("{name} is muted");
        let dark = format!("{name} has the camera off");
        let other = [
            (remote.microphone_on == Some(false), icon::MICROPHONE_OFF, muted.as_str()),
            (remote.camera_on == Some(false), icon::CAMERA_OFF, dark.as_str()),
        ];
        let mut y = area.bottom() - MARGIN - PILL;
        if self.corner == Corner::BottomLeft {
            y -= self.inset_rect(area, view).height() + 8.0;
        } else if area.width() < 720.0 {
            y -= theme::CALL_CONTROL + 48.0;
        }
        for (_, glyph, words) in local.iter().chain(&other).filter(|(shown, ..)| *shown) {
            let at = egui::pos2(area.left() + MARGIN, y);
            widgets::pill(ui, at, Mark::Icon(glyph, DARK.danger), words, 1.0);
            y -= PILL + 8.0;
        }
        let mut free_from = area.top() + MARGIN + PILL + 16.0;
        if view.snapshot.phase == Phase::Reconnecting {
            free_from = banner(
                ui,
                area,
                "Reconnecting…",
                "The picture stands still until the connection is back. The call goes on by itself.",
            );
        } else if view.snapshot.states.signaling_link == SignalingLink::Reconnecting {
            free_from = banner(
                ui,
                area,
                "The server is not reached.",
                "Sound and picture go on; trying the server again.",
            );
        }
        full_screen_button(ui, area, opacity, view);
        controls(ui, area, debug_open, opacity, view);
        knock_card::show(ui, area, free_from, view);
    }

    /// 1 while something moves, 0 when the picture is to be alone.
    fn opacity(&mut self, ui: &Ui, area: Rect, s: &CallSnapshot) -> f32 {
        let (now, moved, pressed) = ui.input(|i| {
            let moved = i.pointer.delta() != egui::Vec2::ZERO || i.pointer.any_down();
            (i.time, moved, i.events.iter().any(|e| matches!(e, egui::Event::Key { .. })))
        });
        if moved || pressed || self.moved_at.is_none() {
            self.moved_at = Some(now);
        }
        let focus = ui.memory(|m| m.focused().is_some());
        let since = now - self.moved_at.unwrap_or(now);
        let bar =
            Rect::from_min_max(egui::pos2(area.left(), area.bottom() - 120.0), area.right_bottom());
        let over_bar = ui
            .input(|i| i.pointer.hover_pos())
            .is_some_and(|p| bar.contains(p) && (p.x - bar.center().x).abs() < 260.0);
        let stay = since < FADE_AFTER
            || focus
            || over_bar
            || s.local.speaking_while_muted
            || !s.knocks.is_empty()
            || s.phase != Phase::Connected;
        if stay && s.phase == Phase::Connected {
            ui.ctx().request_repaint_after_secs((FADE_AFTER - since).max(0.05) as f32);
        } else if !stay && ui.rect_contains_pointer(area) {
            ui.ctx().set_cursor_icon(egui::CursorIcon::None);
        }
        ui.ctx().animate_bool(egui::Id::unique("call controls"), stay)
    }

    fn inset_rect(&self, area: Rect, view: &View<'_>) -> Rect {
        let aspect = view
            .local
            .size()
            .map_or(16.0 / 9.0, |s| s.width_px.max(1) as f32 / s.height_px.max(1) as f32);
        let width = (area.width() * 0.18).clamp(132.0, 256.0);
        let size = egui::vec2(width, width / aspect.clamp(0.5, 2.4));
        // Narrow windows keep the middle of the bottom for the controls.
        let low = if area.width() < 860.0 { theme::CALL_CONTROL + 56.0 } else { MARGIN };
        let (left, right) = (area.left() + MARGIN, area.right() - MARGIN - size.x);
        let (top, bottom) = (area.top() + MARGIN + PILL + 8.0, area.bottom() - low - size.y);
        let min = match self.corner {
            Corner::TopLeft => egui::pos2(left, top),
            Corner::TopRight => egui::pos2(right, top + 8.0),
            Corner::BottomLeft => egui::pos2(left, bottom),
            Corner::BottomRight => egui::pos2(right, bottom),
        };
        Rect::from_min_size(min, size)
    }

    /// The own picture, mirrored; dragged to any corner.
    fn inset(&mut self, ui: &mut Ui, area: Rect, view: &mut View<'_>) {
        let rest = self.inset_rect(area, view);
        let id = ui.scope_id().with("own picture");
        let at = match self.dragged_to {
            Some(at) => at,
            None => {
                let time = ui.style().animation_time;
                egui::pos2(
                    ui.ctx().animate_value_with_time(id.with("x"), rest.min.x, time),
                    ui.ctx().animate_value_with_time(id.with("y"), rest.min.y, time),
                )
            }
        };
        let rect = Rect::from_min_size(at, rest.size());
        let response = ui.interact(rect, id, Sense::drag());
        response.widget_info(|| {
            WidgetInfo::labeled(Role::Image, true, "Your own picture, drag it to another corner")
        });
        if response.dragged() {
            self.dragged_to = Some(at + response.drag_delta());
        } else if self.dragged_to.take().is_some() {
            let c = rect.center();
            self.corner = match (c.x < area.center().x, c.y < area.center().y) {
                (true, true) => Corner::TopLeft,
                (false, true) => Corner::TopRight,
                (true, false) => Corner::BottomLeft,
                (false, false) => Corner::BottomRight,
            };
            // The slide to the corner starts where it was let go.
            ui.ctx().animate_value_with_time(id.with("x"), rect.min.x, 0.0);
            ui.ctx().animate_value_with_time(id.with("y"), rect.min.y, 0.0);
            ui.ctx().request_repaint();
        }
        let radius = egui::CornerRadius::same(theme::RADIUS_PICTURE);
        ui.painter().rect_filled(rect, radius, DARK.raised);
        let shown = view.settings.camera_on
            && view
                .local
                .paint(ui, rect, Fit::Cover, true, f32::from(theme::RADIUS_PICTURE))
                .is_some();
        if !shown {
            ui.painter().text(
                rect.center(),
                Align2::CENTER_CENTER,
                icon::CAMERA_OFF,
                FontId::proportional(28.0),
                DARK.muted,
            );
        }
        ui.painter().rect_stroke(
            rect,
            radius,
            egui::Stroke::new(1.0, DARK.line),
            egui::StrokeKind::Inside,
        );
        let problem = view.snapshot.local.camera_problem.as_deref();
        let words = if view.settings.camera_on && problem.is_some() { "No camera" } else { "You" };
        let at = egui::pos2(rect.left() + 8.0, rect.bottom() - PILL - 8.0);
        widgets::pill(ui, at, Mark::None, words, 1.0);
        if let Some(problem) = problem {
            response.on_hover_text(theme::small(problem));
        }
    }

    /// Quality, encryption, time; the first stays readable when it is not good, the second when it is
    /// not known who is at the other end.
    fn top_pills(&mut self, ui: &mut Ui, area: Rect, opacity: f32, view: &View<'_>) {
        let s = view.snapshot;
        let (level, words) = format::quality(s);
        let (colour, _) = level.look(&DARK);
        let stays = matches!(level, widgets::Level::Warn | widgets::Level::Bad);
        let mut at = area.min + egui::vec2(MARGIN, MARGIN);
        let quality = if stays { 1.0 } else { opacity };
        let shown = widgets::pill(ui, at, Mark::Dot(colour), &words, quality);
        let hover = match format::selected(s) {
            Some(pair) => {
                format!("{} → {}", format::candidate(&pair.local), format::candidate(&pair.remote))
            }
            None => "No candidate pair is selected yet.".into(),
        };
        at.x = shown.rect.right() + 8.0;
        shown.on_hover_text(theme::mono(hover));
        at.x = proof_card::show(ui, area, at, opacity, &mut self.proof_open, view) + 8.0;
        let shown = widgets::pill(ui, at, Mark::None, &clock(s.connected_for), opacity);
        if s.room_locked {
            at.x = shown.rect.right() + 8.0;
            widgets::pill(ui, at, Mark::Icon(icon::KEY, DARK.accent), "Room locked", 1.0)
                .on_hover_text(theme::small("Nobody else can enter, even when a seat is free."));
        }
    }
}

/// The remote video, or who the remote peer is without it. Returns where the video lies.
fn remote(ui: &mut Ui, area: Rect, view: &View<'_>) -> Option<Rect> {
    let s = view.snapshot;
    let on = s.remote.camera_on != Some(false);
    if on && let Some(at) = view.remote.paint(ui, area, Fit::Contain, false, 0.0) {
        let picture = ui.interact(at, ui.scope_id().with("remote picture"), Sense::hover());
        picture.widget_info(|| WidgetInfo::labeled(Role::Image, true, "Picture of the other side"));
        return Some(at);
    }
    ui.painter().rect_filled(area, 0.0, DARK.ink);
    let name = s.remote.display_name.as_deref().unwrap_or("The other side");
    let initial = name.chars().next().unwrap_or('?').to_uppercase().to_string();
    let centre = area.center() - egui::vec2(0.0, 36.0);
    let p = ui.painter();
    p.circle_filled(centre, 56.0, DARK.raised);
    p.text(
        centre,
        Align2::CENTER_CENTER,
        initial,
        FontId::new(40.0, theme::semibold()),
        DARK.accent,
    );
    p.text(
        centre + egui::vec2(0.0, 84.0),
        Align2::CENTER_CENTER,
        name,
        FontId::new(20.0, theme::semibold()),
        DARK.text,
    );
    let words = if s.remote.lacks_video_codec {
        "Sound only: you two have no video format in common."
    } else if on {
        "Sound only so far; no picture has come."
    } else {
        "Camera off"
    };
    p.text(
        centre + egui::vec2(0.0, 112.0),
        Align2::CENTER_CENTER,
        words,
        FontId::proportional(14.0),
        DARK.muted,
    );
    None
}

fn full_screen_button(ui: &mut Ui, area: Rect, opacity: f32, view: &mut View<'_>) {
    let full = ui.input(|i| i.viewport().fullscreen).unwrap_or(false);
    let (glyph, label) = if full {
        (icon::LEAVE_FULL_SCREEN, "Leave full screen (F)")
    } else {
        (icon::FULL_SCREEN, "Full screen (F)")
    };
    let rect = Rect::from_min_size(
        egui::pos2(area.right() - MARGIN - 40.0, area.top() + MARGIN - 6.0),
        egui::Vec2::splat(40.0),
    );
    let response = ui.interact(rect, ui.scope_id().with("full screen"), Sense::click());
    response.widget_info(|| WidgetInfo::labeled(Role::Button, true, label));
    ui.painter().circle_filled(rect.center(), 20.0, widgets::scrim(0.6 * opacity));
    ui.painter().text(
        rect.center(),
        Align2::CENTER_CENTER,
        glyph,
        FontId::proportional(20.0),
        DARK.text.gamma_multiply(opacity),
    );
    widgets::focus_ring(ui, &response, rect, 20.0);
    if response.on_hover_text(theme::small(label)).clicked() {
        view.ask(Action::ToggleFullScreen);
    }
}

/// The round controls, bottom centre. Also under the waiting and connecting views.
pub(crate) fn controls(
    ui: &mut Ui,
    area: Rect,
    debug_open: bool,
    opacity: f32,
    view: &mut View<'_>,
) {
    let microphone = view.settings.microphone_on;
    let camera = view.settings.camera_on;
    let link = view.snapshot.room_link.clone();
    let count = 4.0 + f32::from(u8::from(link.is_some())) + f32::from(u8::from(view.can_lock()));
    let step = ((area.width() - 110.0) / (count - 1.0)).clamp(56.0, 84.0);
    let y = area.bottom() - 34.0 - theme::CALL_CONTROL / 2.0;
    let mut x = area.center().x - step * (count - 1.0) / 2.0;
    let first = egui::pos2(x, y);
    let mut next = || {
        let at = egui::pos2(x, y);
        x += step;
        at
    };
    if view.snapshot.local.speaking_while_muted && !microphone {
        muted_hint(ui, area, first);
    }
    let (glyph, label, words, tone) = match microphone {
        true => (icon::MICROPHONE, "Mute the microphone (M)", "Mute · M", Tone::Plain),
        false => {
            let hold = "Unmute the microphone (M, or hold Space to talk)";
            (icon::MICROPHONE_OFF, hold, "Unmute · M", Tone::Off)
        }
    };
    if widgets::round_control(ui, next(), glyph, label, words, tone, opacity)
        .on_hover_text(theme::small(label))
        .clicked()
    {
        view.ask(Action::SetMicrophone(!microphone));
    }
    let (glyph, label, words, tone) = match camera {
        true => (icon::CAMERA, "Switch the camera off (V)", "Camera · V", Tone::Plain),
        false => (icon::CAMERA_OFF, "Switch the camera on (V)", "Camera off · V", Tone::Off),
    };
    if widgets::round_control(ui, next(), glyph, label, words, tone, opacity)
        .on_hover_text(theme::small(label))
        .clicked()
    {
        view.ask(Action::SetCamera(!camera));
    }
    if let Some(link) = link {
        let label = "Copy the room's link (L)";
        if widgets::round_control(
            ui,
            next(),
            icon::LINK,
            label,
            "Copy link · L",
            Tone::Plain,
            opacity,
        )
        .on_hover_text(theme::small(label))
        .clicked()
        {
            view.ask(Action::Copy(link, "Link copied"));
        }
    }
    if view.can_lock() {
        let (glyph, label, words, tone) = match view.snapshot.room_locked {
            true => (icon::LOCK, "Unlock the room (K)", "Unlock · K", Tone::Open),
            false => {
                let label = "Lock the room, so that nobody else can enter (K)";
                (icon::LOCK_OPEN, label, "Lock · K", Tone::Plain)
            }
        };
        if widgets::round_control(ui, next(), glyph, label, words, tone, opacity)
            .on_hover_text(theme::small(label))
            .clicked()
        {
            view.ask_lock();
        }
    }
    let (label, tone) = match debug_open {
        true => ("Close the debug panel (I)", Tone::Open),
        false => ("Open the debug panel (I)", Tone::Plain),
    };
    if widgets::round_control(ui, next(), icon::PULSE, label, "Debug · I", tone, opacity)
        .on_hover_text(theme::small(label))
        .clicked()
    {
        view.ask(Action::ToggleDebug);
    }
    let at = next() + egui::vec2(6.0, 0.0);
    if widgets::round_control(
        ui,
        at,
        icon::HANG_UP,
        "Leave the call",
        "Leave",
        Tone::Leave,
        opacity,
    )
    .clicked()
    {
        view.ask(Action::Leave);
    }
}

/// Over the microphone's button, when somebody talks into it in vain.
fn muted_hint(ui: &Ui, area: Rect, button: egui::Pos2) {
    let words = "You are muted. Press M to be heard.";
    let p = ui.painter();
    let galley =
        p.layout_no_wrap(words.to_owned(), FontId::new(14.0, theme::semibold()), DARK.text);
    let size = galley.size() + egui::vec2(28.0, 18.0);
    let low = button.y - theme::CALL_CONTROL / 2.0 - 14.0;
    // Within the window, its tip over the button.
    let left = (button.x - size.x / 2.0)
        .clamp(area.left() + MARGIN, (area.right() - MARGIN - size.x).max(area.left() + MARGIN));
    let rect = Rect::from_min_size(egui::pos2(left, low - size.y), size);
    let fill = widgets::scrim(0.92);
    let tip = [(-8.0, 0.0), (8.0, 0.0), (0.0, 8.0)]
        .map(|(x, y)| egui::pos2(button.x + x, low + y))
        .to_vec();
    p.rect(
        rect,
        egui::CornerRadius::same(theme::RADIUS_CONTROL),
        fill,
        egui::Stroke::new(1.0, DARK.danger),
        egui::StrokeKind::Inside,
    );
    p.add(egui::Shape::convex_polygon(tip, DARK.danger, egui::Stroke::NONE));
    p.galley(rect.min + egui::vec2(14.0, 9.0), galley, DARK.text);
    let response = ui.interact(rect, ui.scope_id().with("muted hint"), Sense::hover());
    response.widget_info(|| WidgetInfo::labeled(Role::Alert, true, words));
}

/// A sentence over the video, top centre; where the room below it begins.
fn banner(ui: &mut Ui, area: Rect, headline: &str, detail: &str) -> f32 {
    let p = ui.painter();
    let width = (area.width() - 2.0 * MARGIN).min(460.0);
    let head =
        p.layout_no_wrap(headline.to_owned(), FontId::new(16.0, theme::semibold()), DARK.text);
    let text = p.layout(detail.to_owned(), FontId::proportional(14.0), DARK.text, width - 80.0);
    let size = egui::vec2(width, head.size().y + text.size().y + 30.0);
    let rect = Rect::from_min_size(
        egui::pos2(area.center().x - width / 2.0, area.top() + MARGIN + PILL + 16.0),
        size,
    );
    let radius = egui::CornerRadius::same(theme::RADIUS_PICTURE);
    p.rect(
        rect,
        radius,
        widgets::scrim(0.92),
        egui::Stroke::new(1.0, DARK.warn),
        egui::StrokeKind::Inside,
    );
    p.text(
        egui::pos2(rect.left() + 34.0, rect.center().y),
        Align2::CENTER_CENTER,
        icon::WARNING,
        FontId::new(24.0, theme::filled()),
        DARK.warn,
    );
    let at = rect.min + egui::vec2(64.0, 12.0);
    let below = at + egui::vec2(0.0, head.size().y + 4.0);
    p.galley(at, head, DARK.text);
    p.galley(below, text, DARK.text);
    let id = ui.scope_id().with("banner");
    let response = ui.interact(rect, id, Sense::hover());
    response.widget_info(|| WidgetInfo::labeled(Role::Alert, true, format!("{headline} {detail}")));
    rect.bottom() + 12.0
}
