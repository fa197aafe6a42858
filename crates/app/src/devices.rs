//! The three device pickers under the preview, with the microphone's live meter.

use egui::accesskit::Role;
use egui::{Align2, FontId, Popup, Rect, Response, Sense, Ui, WidgetInfo};
use visavis_engine::{CallSnapshot, Command, DeviceId, DeviceInfo};

use crate::settings::LargestPicture;
use crate::theme::{self, RADIUS_CONTROL, Tokens, icon};
use crate::view::{Action, View};
use crate::widgets;

const HEIGHT: f32 = 48.0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Camera,
    Microphone,
    Speaker,
}

impl Kind {
    fn icon(self) -> &'static str {
        match self {
            Self::Camera => icon::CAMERA,
            Self::Microphone => icon::MICROPHONE,
            Self::Speaker => icon::SPEAKER,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Camera => "Camera",
            Self::Microphone => "Microphone",
            Self::Speaker => "Speaker",
        }
    }

    fn devices(self, s: &CallSnapshot) -> &[DeviceInfo] {
        match self {
            Self::Camera => &s.devices.cameras,
            Self::Microphone => &s.devices.microphones,
            Self::Speaker => &s.devices.speakers,
        }
    }

    fn in_use(self, s: &CallSnapshot) -> Option<&str> {
        match self {
            Self::Camera => s.local.camera_name.as_deref(),
            Self::Microphone => s.local.microphone_name.as_deref(),
            Self::Speaker => s.local.speaker_name.as_deref(),
        }
    }

    fn problem(self, s: &CallSnapshot) -> Option<&str> {
        match self {
            Self::Camera => s.local.camera_problem.as_deref(),
            Self::Microphone => s.local.microphone_problem.as_deref(),
            Self::Speaker => s.local.speaker_problem.as_deref(),
        }
    }
}

/// Camera, microphone, speaker side by side; one below the other where there is little room.
pub(crate) fn pickers(ui: &mut Ui, view: &mut View<'_>) {
    let gap = 12.0;
    let room = ui.available_width();
    let stacked = room < 460.0;
    let width = if stacked { room } else { ((room - 2.0 * gap) / 3.0).floor() };
    let add = |ui: &mut Ui| {
        ui.spacing_mut().item_spacing.x = gap;
        for kind in [Kind::Camera, Kind::Microphone, Kind::Speaker] {
            picker(ui, kind, width, view);
        }
    };
    if stacked {
        ui.vertical(add);
    } else {
        ui.horizontal(add);
    }
}

fn picker(ui: &mut Ui, kind: Kind, width: f32, view: &mut View<'_>) {
    let t = Tokens::of(ui.ctx());
    let snapshot = view.snapshot;
    let problem = kind.problem(snapshot);
    let idle = kind.in_use(snapshot).is_none();
    let none = idle && kind.devices(snapshot).is_empty() && problem.is_some();
    let words = match kind.in_use(snapshot) {
        Some(name) => name.to_owned(),
        None if none => format!("No {} found", kind.name().to_lowercase()),
        None => kind.name().to_owned(),
    };
    let (rect, response) = ui.allocate_exact_size(egui::vec2(width, HEIGHT), Sense::click());
    response.widget_info(|| {
        WidgetInfo::labeled(Role::ComboBox, true, format!("{}: {words}", kind.name()))
    });
    frame(ui, rect, &response);
    let p = ui.painter();
    let colour = if problem.is_some() || none { t.warn } else { t.muted };
    p.text(
        egui::pos2(rect.left() + 22.0, rect.center().y),
        Align2::CENTER_CENTER,
        kind.icon(),
        FontId::proportional(18.0),
        colour,
    );
    p.text(
        egui::pos2(rect.right() - 18.0, rect.center().y),
        Align2::CENTER_CENTER,
        icon::CARET_DOWN,
        FontId::proportional(14.0),
        t.muted,
    );
    let meter = kind == Kind::Microphone && problem.is_none() && !idle;
    let right = rect.right() - if meter { 92.0 } else { 34.0 };
    let text = Rect::from_min_max(
        egui::pos2(rect.left() + 40.0, rect.top()),
        egui::pos2(right, rect.bottom()),
    );
    let mut job = egui::text::LayoutJob::simple_singleline(
        words.clone(),
        FontId::proportional(14.0),
        if idle { t.muted } else { t.text },
    );
    job.wrap = egui::text::TextWrapping::truncate_at_width(text.width());
    let galley = p.layout_job(job);
    let elided = galley.elided;
    p.galley(egui::pos2(text.left(), text.center().y - galley.size().y / 2.0), galley, t.text);
    if meter {
        let bar = Rect::from_center_size(
            egui::pos2(rect.right() - 60.0, rect.center().y),
            egui::vec2(48.0, 6.0),
        );
        let level = snapshot.local.microphone_level_dbfs;
        widgets::meter(ui, bar, level, view.settings.microphone_on);
    }
    let response = match problem {
        Some(problem) => response.on_hover_text(theme::small(problem)),
        None if elided => response.on_hover_text(theme::small(&words)),
        None => response,
    };
    if response.clicked() {
        view.ask(Action::Send(Command::RefreshDevices));
    }
    // What closes the menu says so itself: a switch does not.
    let stay = egui::PopupCloseBehavior::CloseOnClickOutside;
    popup(&response).close_behavior(stay).width(width.max(240.0)).show(|ui| {
        ui.set_max_width(420.0);
        menu(ui, kind, view);
    });
}

fn frame(ui: &Ui, rect: Rect, response: &Response) {
    let t = Tokens::of(ui.ctx());
    ui.painter().rect(
        rect,
        egui::CornerRadius::same(RADIUS_CONTROL),
        widgets::lift(t.raised, t.text, response.hovered()),
        egui::Stroke::new(1.0, t.line),
        egui::StrokeKind::Inside,
    );
    widgets::focus_ring(ui, response, rect, RADIUS_CONTROL.into());
}

fn menu(ui: &mut Ui, kind: Kind, view: &mut View<'_>) {
    let t = Tokens::of(ui.ctx());
    let picked = match kind {
        Kind::Camera => view.settings.camera.clone(),
        Kind::Microphone => view.settings.microphone.clone(),
        Kind::Speaker => view.settings.speaker.clone(),
    };
    let devices = kind.devices(view.snapshot).to_vec();
    if devices.is_empty() {
        let words =
            format!("No {} found. Plug one in; it appears here.", kind.name().to_lowercase());
        egui::Frame::new().inner_margin(8).show(ui, |ui| {
            ui.add(egui::Label::new(theme::body(words).color(t.muted)).wrap());
        });
        return;
    }
    let automatic = match kind {
        Kind::Camera => "First that works",
        _ => "As the system",
    };
    if item(ui, automatic, picked.is_none()) {
        pick(kind, None, view);
    }
    for device in devices {
        if item(ui, &device.name, picked.as_ref() == Some(&device.id)) {
            pick(kind, Some(device.id), view);
        }
    }
    if kind == Kind::Camera {
        ui.separator();
        largest_picture(ui, view);
    }
    if kind == Kind::Microphone {
        ui.separator();
        voice_switches(ui, view);
    }
}

/// Size of the largest frames that are sent.
fn largest_picture(ui: &mut Ui, view: &mut View<'_>) {
    heading(ui, "Largest picture");
    for (words, largest) in [
        ("1080p, where camera and line allow it", LargestPicture::FullHd),
        ("720p", LargestPicture::Hd),
    ] {
        if item(ui, words, view.settings.largest_picture == largest) {
            view.settings.largest_picture = largest;
            view.ask(Action::Send(Command::SetMaxSize(largest.size())));
        }
    }
}

/// What is done to the microphone's sound; the menu stays open, for one may want to compare.
fn voice_switches(ui: &mut Ui, view: &mut View<'_>) {
    let s = &mut *view.settings;
    let mut changed = switch(
        ui,
        &mut s.music,
        "Music",
        "Sends sound as it is: in stereo, with all its bandwidth, and without the voice processing below.",
    );
    for (on, words, explain) in [
        (
            &mut s.echo_cancellation,
            "Echo cancellation",
            "Takes out what your speaker plays, so that the other side does not hear itself.",
        ),
        (
            &mut s.noise_suppression,
            "Noise suppression",
            "Takes out steady noise such as that of a fan.",
        ),
        (&mut s.automatic_gain, "Automatic gain", "Makes you equally loud wherever you sit."),
        (&mut s.high_pass, "High-pass filter", "Takes out rumble below 100 Hz."),
    ] {
        changed |= switch(ui, on, words, explain);
    }
    if changed {
        let command = Command::SetVoiceProcessing(s.voice_processing());
        view.ask(Action::Send(command));
    }
}

/// A menu under (or over) `button`, with the usual look of controls in it.
pub(crate) fn popup<'a>(button: &Response) -> Popup<'a> {
    Popup::menu(button).gap(6.0).style(egui::style::StyleModifier::new(|_| {}))
}

/// The small words over a group of a menu's lines, in line with theirs.
pub(crate) fn heading(ui: &mut Ui, words: &str) {
    let muted = Tokens::of(ui.ctx()).muted;
    egui::Frame::new()
        .inner_margin(egui::Margin { left: 12, top: 8, ..Default::default() })
        .show(ui, |ui| ui.label(theme::small(words).color(muted)));
}

/// One line of a menu that is on or off; whether it was switched. The menu stays open if its popup
/// lets it.
pub(crate) fn switch(ui: &mut Ui, on: &mut bool, words: &str, explain: &str) -> bool {
    let response = line(ui, Role::MenuItemCheckBox, words, *on);
    let switched = response.clicked();
    *on ^= switched;
    response.on_hover_text(theme::small(explain));
    switched
}

/// One line of a menu with a check mark; a click closes the menu.
pub(crate) fn item(ui: &mut Ui, words: &str, checked: bool) -> bool {
    let clicked = line(ui, Role::MenuItemRadio, words, checked).clicked();
    if clicked {
        ui.close();
    }
    clicked
}

fn line(ui: &mut Ui, role: Role, words: &str, checked: bool) -> Response {
    let t = Tokens::of(ui.ctx());
    let (rect, response) =
        ui.allocate_exact_size(egui::vec2(ui.available_width(), 40.0), Sense::click());
    response.widget_info(|| WidgetInfo::selected(role, true, checked, words));
    let p = ui.painter();
    if response.hovered() || response.has_focus() {
        p.rect_filled(rect, egui::CornerRadius::same(6), theme::blend(t.surface, t.text, 0.08));
    }
    if checked {
        p.text(
            egui::pos2(rect.left() + 18.0, rect.center().y),
            Align2::CENTER_CENTER,
            icon::CHECK,
            FontId::proportional(16.0),
            t.accent,
        );
    }
    let mut job = egui::text::LayoutJob::simple_singleline(
        words.to_owned(),
        FontId::proportional(14.0),
        t.text,
    );
    job.wrap = egui::text::TextWrapping::truncate_at_width(rect.width() - 44.0);
    let galley = p.layout_job(job);
    p.galley(
        egui::pos2(rect.left() + 36.0, rect.center().y - galley.size().y / 2.0),
        galley,
        t.text,
    );
    response
}

fn pick(kind: Kind, device: Option<DeviceId>, view: &mut View<'_>) {
    let s = &mut *view.settings;
    let command = match kind {
        Kind::Camera => {
            s.camera = device;
            Command::SetCamera(s.camera_source())
        }
        Kind::Microphone => {
            s.microphone = device;
            Command::SetMicrophone(s.microphone_source())
        }
        Kind::Speaker => {
            s.speaker = device;
            Command::SetSpeaker(s.speaker_sink())
        }
    };
    view.ask(Action::Send(command));
}
