//! Rows of fixed columns, so that nothing jumps while numbers change.

use egui::{Align, Color32, Layout, Ui};

use crate::theme::{self, Tokens};
use crate::widgets;

/// One column.
pub(super) struct Column {
    /// Heading.
    pub(super) title: &'static str,
    /// Share of what the fixed columns leave, or its own width in points.
    pub(super) width: Width,
    /// What the heading means, shown on hover.
    pub(super) explain: &'static str,
}

/// How wide a column is.
#[derive(Clone, Copy)]
pub(super) enum Width {
    /// Points; figures, so aligned right.
    Figures(f32),
    /// Points; words, aligned left.
    Words(f32),
    /// An equal share of the rest, aligned left.
    Rest,
}

/// One cell: text, of which each line is copied by itself, and colour (`None`: the usual).
pub(super) type Cell = (String, Option<Color32>);

/// Draws headings and rows. Cells are copied by a click; cut text is whole on hover.
pub(super) fn table(ui: &mut Ui, columns: &[Column], rows: &[Vec<Cell>]) {
    let t = Tokens::of(ui.ctx());
    let gap = 10.0;
    let fixed: f32 = columns
        .iter()
        .map(|c| match c.width {
            Width::Figures(w) | Width::Words(w) => w + gap,
            Width::Rest => gap,
        })
        .sum();
    let shares = columns.iter().filter(|c| matches!(c.width, Width::Rest)).count().max(1) as f32;
    let rest = ((ui.available_width() - fixed + gap) / shares).max(60.0).floor();
    let width = |c: &Column| match c.width {
        Width::Figures(w) | Width::Words(w) => w,
        Width::Rest => rest,
    };
    let layout = |c: &Column| match c.width {
        Width::Figures(_) => Layout::right_to_left(Align::Center),
        _ => Layout::left_to_right(Align::Center),
    };
    ui.spacing_mut().item_spacing.x = gap;
    ui.spacing_mut().interact_size.y = 18.0;
    ui.horizontal(|ui| {
        for column in columns {
            ui.allocate_ui_with_layout(egui::vec2(width(column), 16.0), layout(column), |ui| {
                ui.set_min_size(egui::vec2(width(column), 16.0));
                let label =
                    ui.add(egui::Label::new(theme::small(column.title).color(t.muted)).truncate());
                if !column.explain.is_empty() {
                    label.on_hover_text(theme::small(column.explain));
                }
            });
        }
    });
    for row in rows {
        let top = ui.cursor().top() - 3.0;
        ui.painter().hline(
            ui.max_rect().x_range(),
            top,
            egui::Stroke::new(1.0, theme::blend(t.surface, t.line, 0.6)),
        );
        let height = 18.0 * row.iter().map(|(t, _)| t.lines().count()).max().unwrap_or(1) as f32;
        ui.horizontal(|ui| {
            for (column, (text, colour)) in columns.iter().zip(row) {
                let size = egui::vec2(width(column), height);
                let lines = text.lines().count();
                ui.allocate_ui_with_layout(size, layout(column), |ui| {
                    ui.set_min_size(size);
                    if lines == 0 {
                    } else if lines == 1 {
                        widgets::copyable(ui, text, colour.unwrap_or(t.text), "");
                    } else {
                        ui.vertical(|ui| {
                            ui.spacing_mut().item_spacing.y = 0.0;
                            for line in text.lines() {
                                widgets::copyable(ui, line, colour.unwrap_or(t.text), "");
                            }
                        });
                    }
                });
            }
        });
    }
}

/// A name and its value in two aligned columns; the name is explained on hover.
pub(super) fn fact(ui: &mut Ui, name: &str, value: &str, colour: Option<Color32>, explain: &str) {
    let name_width = (ui.available_width() * 0.48).min(170.0).floor();
    fact_at(ui, name_width, name, value, colour, explain);
}

/// [`fact`] with the first column's width, points.
pub(super) fn fact_at(
    ui: &mut Ui,
    name_width: f32,
    name: &str,
    value: &str,
    colour: Option<Color32>,
    explain: &str,
) {
    let t = Tokens::of(ui.ctx());
    ui.spacing_mut().item_spacing.y = 3.0;
    ui.spacing_mut().interact_size.y = 18.0;
    ui.horizontal(|ui| {
        ui.allocate_ui_with_layout(
            egui::vec2(name_width, 18.0),
            Layout::left_to_right(Align::Center),
            |ui| {
                ui.set_min_size(egui::vec2(name_width, 18.0));
                let label = ui.add(egui::Label::new(theme::small(name).color(t.muted)).truncate());
                if !explain.is_empty() {
                    label.on_hover_text(theme::small(explain));
                }
            },
        );
        widgets::copyable(ui, value, colour.unwrap_or(t.text), explain);
    });
}

/// Two halves side by side where there is room, one below the other where not.
pub(super) fn halves(ui: &mut Ui, left: impl FnOnce(&mut Ui), right: impl FnOnce(&mut Ui)) {
    if ui.available_width() < 440.0 {
        left(ui);
        right(ui);
        return;
    }
    ui.columns_const(|[a, b]| {
        left(a);
        right(b);
    });
}
