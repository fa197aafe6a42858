//! After a call: why it ended, how long it was, and what one can do.

use egui::{Align, Align2, FontId, Layout, Rect, Ui};
use visavis_engine::{CallCode, CallEndReason, ProofFailure};

use crate::theme::{self, Tokens, icon};
use crate::view::{Action, View, clock, within};
use crate::widgets::{self, Emphasis};

/// Draws into `area`.
pub(crate) fn show(ui: &mut Ui, area: Rect, reason: &CallEndReason, view: &mut View<'_>) {
    if let CallEndReason::NotProven(failure) = reason {
        return not_proven(ui, area, *failure, reason, view);
    }
    let t = Tokens::of(ui.ctx());
    let size = egui::vec2((area.width() - 48.0).min(440.0), 300.0);
    let column = Rect::from_center_size(area.center(), size);
    within(ui, column, Layout::top_down(Align::Center), |ui| {
        let ordinary = matches!(reason, CallEndReason::LocalHangup | CallEndReason::RemoteHangup);
        let (dot, _) = ui.allocate_exact_size(egui::Vec2::splat(56.0), egui::Sense::hover());
        let colour = if ordinary { t.muted } else { t.warn };
        let glyph = if ordinary { icon::HANG_UP } else { icon::WARNING };
        ui.painter().circle_filled(dot.center(), 28.0, theme::blend(t.ink, colour, 0.16));
        ui.painter().text(
            dot.center(),
            Align2::CENTER_CENTER,
            glyph,
            FontId::new(26.0, theme::filled()),
            colour,
        );
        ui.add_space(4.0);
        let lasted = view.snapshot.connected_for;
        let title = if lasted.is_zero() { "No call" } else { "Call ended" };
        ui.label(theme::display(title));
        ui.add(egui::Label::new(theme::body(reason.to_string()).color(t.text)).wrap());
        let how_long = if lasted.is_zero() {
            "The two sides were not connected.".to_owned()
        } else {
            format!("It lasted {}.", clock(lasted))
        };
        ui.label(theme::body(how_long).color(t.muted));
        ui.add_space(12.0);
        let width = ui.available_width().min(320.0);
        if view.snapshot.code.is_some()
            && widgets::button(ui, Emphasis::Primary, icon::PHONE, "Call again", width).clicked()
        {
            view.ask(Action::JoinAgain);
        }
        if widgets::button(ui, Emphasis::Secondary, icon::BACK, "Back", width).clicked() {
            view.ask(Action::BackToLobby);
        }
    });
}

/// A warning over the whole window that nobody takes for the end of a call, with one way out.
fn not_proven(
    ui: &mut Ui,
    area: Rect,
    failure: ProofFailure,
    reason: &CallEndReason,
    view: &mut View<'_>,
) {
    let t = Tokens::of(ui.ctx());
    let danger = theme::blend(t.ink, t.danger, 0.22);
    ui.painter().rect_filled(area, 0.0, danger);
    let size = egui::vec2((area.width() - 48.0).min(520.0), 380.0);
    let column = Rect::from_center_size(area.center(), size);
    within(ui, column, Layout::top_down(Align::Center), |ui| {
        let (dot, _) = ui.allocate_exact_size(egui::Vec2::splat(72.0), egui::Sense::hover());
        ui.painter().circle_filled(dot.center(), 36.0, t.danger);
        ui.painter().text(
            dot.center(),
            Align2::CENTER_CENTER,
            icon::WARNING,
            FontId::new(36.0, theme::filled()),
            egui::Color32::WHITE,
        );
        ui.add_space(8.0);
        let title = match failure {
            ProofFailure::Mismatch => "Not the person with your code",
            ProofFailure::NoSecret => "Half of the code is missing",
            ProofFailure::Spent => "This code is spent",
            ProofFailure::Silence => "No proof arrived",
        };
        ui.label(theme::display(title).color(t.text));
        ui.add_space(4.0);
        let words = egui::RichText::new(reason.to_string()).size(16.0).line_height(Some(24.0));
        ui.add(egui::Label::new(words.color(t.text)).wrap().halign(Align::Center));
        ui.add_space(16.0);
        let width = ui.available_width().min(320.0);
        if failure == ProofFailure::Spent {
            if widgets::button(ui, Emphasis::Primary, icon::PLUS, "New room", width).clicked() {
                view.ask(Action::BackToLobby);
                view.ask(Action::Join { code: CallCode::random(), server: None });
            }
        } else if widgets::button(ui, Emphasis::Primary, icon::BACK, "Back", width).clicked() {
            view.ask(Action::BackToLobby);
        }
    });
}
