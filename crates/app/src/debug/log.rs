//! The event log, newest at the bottom.

use egui::Ui;
use visavis_engine::{CallSnapshot, LogEntry};

use crate::theme::{self, Tokens, icon};
use crate::widgets::{self, Emphasis};

/// Draws the tab.
pub(super) fn show(ui: &mut Ui, s: &CallSnapshot) {
    let t = Tokens::of(ui.ctx());
    if s.log.is_empty() {
        ui.label(theme::body("Nothing has happened yet.").color(t.muted));
        return;
    }
    if widgets::button(ui, Emphasis::Secondary, icon::COPY, "Copy the log", 0.0).clicked() {
        let all: Vec<_> = s.log.iter().map(line).collect();
        ui.ctx().copy_text(all.join("\n"));
        widgets::say(ui.ctx(), "Log copied");
    }
    widgets::card(ui, "", |ui| {
        ui.spacing_mut().item_spacing.y = 2.0;
        for entry in s.log.iter() {
            ui.horizontal_top(|ui| {
                ui.spacing_mut().interact_size.y = 18.0;
                ui.label(theme::mono(format!("{:>9.3} s", entry.at.as_secs_f64())).color(t.muted));
                let colour = match entry.topic {
                    "ice" => t.info,
                    "dtls" => t.accent,
                    "device" => t.warn,
                    _ => t.muted,
                };
                ui.label(theme::mono(format!("{:<9}", entry.topic)).color(colour));
                ui.add(egui::Label::new(theme::mono(&entry.text)).wrap().selectable(true));
            });
        }
    });
}

fn line(entry: &LogEntry) -> String {
    format!("{:>9.3} {:<9} {}", entry.at.as_secs_f64(), entry.topic, entry.text)
}
