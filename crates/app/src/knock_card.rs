//! Who asks to be let in, over whatever else is shown, with the two answers.

use egui::accesskit::Role;
use egui::{Align, Layout, Rect, Ui};
use visavis_engine::Command;

use crate::theme::{self, Tokens};
use crate::view::{Action, View, within};
use crate::widgets::{self, Emphasis};

const WIDTH: f32 = 460.0;
const PADDING: f32 = 16.0;

/// Draws at the top of `area`, from `top` on, as long as somebody asks.
pub(crate) fn show(ui: &mut Ui, area: Rect, top: f32, view: &mut View<'_>) {
    let Some(knock) = view.snapshot.knocks.first().cloned() else { return };
    let others = view.snapshot.knocks.len() - 1;
    let t = Tokens::of(ui.ctx());
    let name = knock.display_name.as_deref().unwrap_or("Somebody without a name");
    let headline = format!("{name} wants to come in");
    let more = match others {
        0 => String::new(),
        1 => " One more person is waiting.".to_owned(),
        n => format!(" {n} more people are waiting."),
    };
    let detail = format!(
        "If you let them in, the person who is missing loses the place in this call.{more}"
    );
    let width = WIDTH.min(area.width() - 32.0);
    let space = Rect::from_min_size(
        egui::pos2(area.center().x - width / 2.0, top),
        egui::vec2(width, (area.bottom() - top).max(0.0)),
    );
    let frame = ui.painter().add(egui::Shape::Noop);
    let mut answer = None;
    let inner = space.shrink(PADDING);
    let bottom = within(ui, inner, Layout::top_down(Align::Min), |ui| {
        ui.spacing_mut().item_spacing.y = 4.0;
        let said = ui.add(egui::Label::new(theme::strong(headline.clone())).wrap());
        ui.ctx().accesskit_node_builder(said.id, |node| {
            node.set_role(Role::Alert);
            node.set_label(format!("{headline}. {detail}"));
        });
        ui.add(egui::Label::new(theme::body(detail.clone()).color(t.muted)).wrap());
        ui.add_space(6.0);
        ui.horizontal(|ui| {
            for (emphasis, words, admitted) in
                [(Emphasis::Primary, "Let in", true), (Emphasis::Secondary, "Refuse", false)]
            {
                if widgets::button(ui, emphasis, "", words, 0.0).clicked() {
                    answer = Some(admitted);
                }
            }
        });
        ui.min_rect().bottom()
    });
    let card = space.with_max_y(bottom + PADDING);
    ui.painter().set(
        frame,
        egui::epaint::RectShape::new(
            card,
            egui::CornerRadius::same(theme::RADIUS_PICTURE),
            t.surface,
            egui::Stroke::new(1.0, t.line),
            egui::StrokeKind::Inside,
        ),
    );
    if let Some(admitted) = answer {
        view.ask(Action::Send(Command::Admit { peer_id: knock.peer_id, admitted }));
    }
}
