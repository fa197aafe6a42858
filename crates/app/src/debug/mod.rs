//! The debug panel: what ICE, DTLS, RTP and the media pipeline are doing, from the snapshot alone.

mod diagnosis;
mod ice;
mod log;
mod media;
mod overview;
mod states;
mod table;

use egui::accesskit::Role;
use egui::{Align, Align2, FontId, Layout, Rect, Sense, Ui, WidgetInfo};

use crate::theme::{self, Tokens, icon};
use crate::view::{Action, View, within};
use crate::widgets;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Tab {
    #[default]
    Overview,
    Ice,
    Media,
    Log,
}

impl Tab {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Overview, "Overview"),
        (Self::Ice, "ICE"),
        (Self::Media, "Media"),
        (Self::Log, "Log"),
    ];
}

/// Whether it is open, and where it stands.
#[derive(Debug, Default)]
pub(crate) struct DebugPanel {
    /// Wanted open.
    pub(crate) open: bool,
    tab: Tab,
}

/// From this width on the panel stands beside the picture instead of over it, points.
const BESIDE: f32 = 900.0;

impl DebugPanel {
    /// Splits the window into the call's area and, while the panel is out, the panel's.
    pub(crate) fn split(&self, ui: &Ui, window: Rect) -> (Rect, Option<Rect>) {
        let out = ui.ctx().animate_bool(egui::Id::unique("debug panel"), self.open);
        if out <= 0.0 {
            return (window, None);
        }
        let beside = window.width() >= BESIDE;
        let width =
            if beside { (window.width() * 0.5).clamp(500.0, 760.0) } else { window.width() };
        let left = window.right() - width * out;
        let panel =
            Rect::from_min_size(egui::pos2(left, window.top()), egui::vec2(width, window.height()));
        let area = if beside { window.with_max_x(left) } else { window };
        (area, Some(panel))
    }

    /// Draws the panel into `rect`.
    pub(crate) fn show(&mut self, ui: &mut Ui, rect: Rect, view: &mut View<'_>) {
        let t = Tokens::of(ui.ctx());
        ui.painter().rect_filled(rect, 0.0, t.ink);
        ui.painter().vline(rect.left() + 0.5, rect.y_range(), egui::Stroke::new(1.0, t.line));
        // Catches what would otherwise reach the picture underneath.
        ui.interact(rect, ui.scope_id().with("debug background"), Sense::click_and_drag());
        let inner = rect.shrink2(egui::vec2(16.0, 8.0));
        within(ui, inner, Layout::top_down(Align::Min), |ui| {
            ui.set_clip_rect(rect.intersect(ui.clip_rect()));
            self.head(ui, view);
            ui.add_space(2.0);
            let snapshot = view.snapshot;
            egui::ScrollArea::vertical().id_salt(self.tab as u8).auto_shrink(false).show(
                ui,
                |ui| {
                    ui.spacing_mut().item_spacing.y = 10.0;
                    match self.tab {
                        Tab::Overview => overview::show(ui, snapshot),
                        Tab::Ice => ice::show(ui, snapshot),
                        Tab::Media => media::show(ui, snapshot),
                        Tab::Log => log::show(ui, snapshot),
                    }
                    ui.add_space(8.0);
                },
            );
        });
    }

    fn head(&mut self, ui: &mut Ui, view: &mut View<'_>) {
        ui.horizontal(|ui| {
            ui.spacing_mut().item_spacing.x = 4.0;
            for (tab, name) in Tab::ALL {
                if tab_button(ui, name, self.tab == tab) {
                    self.tab = tab;
                }
            }
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                if widgets::icon_button(ui, icon::CLOSE, "Close the debug panel (I)").clicked() {
                    view.ask(Action::ToggleDebug);
                }
            });
        });
    }
}

fn tab_button(ui: &mut Ui, name: &str, selected: bool) -> bool {
    let t = Tokens::of(ui.ctx());
    let font = FontId::new(14.0, theme::semibold());
    let galley = ui.painter().layout_no_wrap(name.to_owned(), font.clone(), t.text);
    let size = egui::vec2(galley.size().x + 20.0, 40.0);
    let (rect, response) = ui.allocate_exact_size(size, Sense::click());
    response.widget_info(|| WidgetInfo::selected(Role::Tab, true, selected, name));
    let colour = match (selected, response.hovered()) {
        (true, _) => t.accent,
        (false, true) => t.text,
        (false, false) => t.muted,
    };
    ui.painter().text(rect.center(), Align2::CENTER_CENTER, name, font, colour);
    if selected {
        let line = rect.shrink2(egui::vec2(10.0, 0.0));
        ui.painter().hline(line.x_range(), rect.bottom() - 5.0, egui::Stroke::new(2.0, t.accent));
    }
    widgets::focus_ring(ui, &response, rect.shrink(4.0), 6.0);
    response.clicked()
}
