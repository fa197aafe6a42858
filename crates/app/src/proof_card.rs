//! What is known of who the other person is: a word at the lock, the rest in a card under it.

use egui::accesskit::Role;
use egui::{
    Align, Align2, CornerRadius, FontId, Layout, Pos2, Rect, Sense, Stroke, StrokeKind, Ui,
};
use egui::{RichText, WidgetInfo};
use visavis_engine::{Authentication, CallSnapshot, EMOJI, EMOJI_SHOWN, Emoji, Phase};

use crate::theme::{self, DARK, icon};
use crate::view::{View, within};
use crate::widgets;

const HEIGHT: f32 = 28.0;
const WIDTH: f32 = 476.0;
const PADDING: f32 = 18.0;

/// Draws the word with its upper left corner at `at`, and the card in `area` if it is `open`. Returns
/// where the word ends.
pub(crate) fn show(
    ui: &mut Ui,
    area: Rect,
    at: Pos2,
    opacity: f32,
    open: &mut bool,
    view: &View<'_>,
) -> f32 {
    let Some(authentication) = view.snapshot.authentication else {
        *open = false;
        return at.x - 8.0;
    };
    // What a person has to know or answer now stands in the same place.
    *open &= view.snapshot.phase != Phase::Reconnecting && view.snapshot.knocks.is_empty();
    let words = Words::new(authentication, view.snapshot);
    let proven = authentication.is_proven;
    // What is not proven never fades.
    let opacity = if proven && !*open { opacity } else { 1.0 };
    let (glyph, fill, ink, mark) = match proven {
        true => (icon::LOCK, widgets::scrim(0.82 * opacity), DARK.text, DARK.accent),
        false => (icon::WARNING, DARK.warn, DARK.ink, DARK.ink),
    };
    let galley = ui.painter().layout_no_wrap(words.short.clone(), FontId::proportional(12.0), ink);
    let rect = Rect::from_min_size(at, egui::vec2(galley.size().x + 42.0, HEIGHT));
    // The hit target is larger than what is seen.
    let target = rect.expand2(egui::vec2(0.0, 6.0));
    let response = ui.interact(target, ui.scope_id().with("proof"), Sense::click());
    let label = format!("{}: who the other person is", words.short);
    response.widget_info(|| WidgetInfo::selected(Role::Button, true, *open, label.clone()));
    if response.clicked() {
        *open = !*open;
    }
    let p = ui.painter();
    p.rect_filled(rect, CornerRadius::same(14), fill);
    if response.hovered() || *open {
        let edge = Stroke::new(1.0, mark.gamma_multiply(opacity));
        p.rect_stroke(rect, CornerRadius::same(14), edge, StrokeKind::Inside);
    }
    p.text(
        egui::pos2(rect.left() + 18.0, rect.center().y),
        Align2::CENTER_CENTER,
        glyph,
        FontId::new(15.0, theme::filled()),
        mark.gamma_multiply(opacity),
    );
    let text = egui::pos2(rect.left() + 30.0, rect.center().y - galley.size().y / 2.0);
    p.galley_with_override_text_color(text, galley, ink.gamma_multiply(opacity));
    widgets::focus_ring(ui, &response, rect, 14.0);
    let end = rect.right();
    if *open {
        card(ui, area, rect, &words, authentication, view.snapshot);
    }
    end
}

struct Words {
    short: String,
    title: &'static str,
    text: String,
}

impl Words {
    fn new(of: Authentication, s: &CallSnapshot) -> Self {
        match (of.is_proven, of.remote_is_page) {
            (true, false) => Self {
                short: "Proven by the code".into(),
                title: "Encrypted, proven by the code",
                text:
                    "The other person knows your code, and nobody in between can listen, not even \
                       the server. Both of you see the same pictures:"
                        .into(),
            },
            (true, true) => {
                let host = host(s);
                Self {
                    short: format!("Proven, if you trust {host}'s page"),
                    title: "Encrypted, proven by the code",
                    text: format!(
                        "Whoever uses the page of {host} knows your code. The page itself comes from \
                         that server, so this is worth what the server is worth. Both of you see the \
                         same pictures:"
                    ),
                }
            }
            (false, _) if of.emoji.is_some() => Self {
                short: "Not proven".into(),
                title: "Encrypted, not proven",
                text:
                    "Without the second half of the code nobody has shown who is at the other end. \
                       Read these to each other: if they are the same, nobody is in between."
                        .into(),
            },
            (false, _) => Self {
                short: "Not proven".into(),
                title: "Encrypted, not proven",
                text:
                    "The other program cannot prove who is at the other end. Somebody in between \
                       could listen."
                        .into(),
            },
        }
    }
}

/// The server's name, for the page is from there.
fn host(s: &CallSnapshot) -> &str {
    let link = s.room_link.as_deref().unwrap_or_default();
    let host = link.split_once("://").map_or(link, |(_, rest)| rest).split('/').next();
    host.filter(|host| !host.is_empty()).unwrap_or("the server")
}

fn emoji(numbers: [u8; EMOJI_SHOWN]) -> [Emoji; EMOJI_SHOWN] {
    numbers.map(|number| EMOJI[usize::from(number) % EMOJI.len()])
}

fn card(
    ui: &mut Ui,
    area: Rect,
    button: Rect,
    words: &Words,
    of: Authentication,
    s: &CallSnapshot,
) {
    let width = WIDTH.min(area.width() - 32.0);
    let text = RichText::new(&words.text).size(14.0).line_height(Some(20.0)).color(DARK.text);
    let p = ui.painter();
    let lines =
        p.layout(words.text.clone(), FontId::proportional(14.0), DARK.text, width - 2.0 * PADDING);
    let details = format!(
        "{}, {}",
        s.dtls_version.as_deref().unwrap_or("DTLS"),
        s.srtp_cipher.as_deref().unwrap_or("SRTP")
    );
    let rows = lines.rows.len() as f32 * 20.0;
    let pictures = if of.emoji.is_some() { 76.0 } else { 0.0 };
    let size = egui::vec2(width, 24.0 + 6.0 + rows + pictures + 28.0 + 2.0 * PADDING);
    let left = button.left().min(area.right() - 16.0 - width).max(area.left() + 16.0);
    let rect = Rect::from_min_size(egui::pos2(left, button.bottom() + 8.0), size);
    // Nothing under it takes the pointer.
    ui.interact(rect, ui.scope_id().with("proof card"), Sense::click());
    let edge = Stroke::new(1.0, if of.is_proven { DARK.line } else { DARK.warn });
    let radius = CornerRadius::same(theme::RADIUS_PICTURE);
    ui.painter().rect(rect, radius, DARK.surface, edge, StrokeKind::Inside);
    within(ui, rect.shrink(PADDING), Layout::top_down(Align::Min), |ui| {
        ui.spacing_mut().item_spacing.y = 6.0;
        ui.label(theme::strong(words.title).size(16.0).line_height(Some(24.0)).color(DARK.text));
        ui.add(egui::Label::new(text).wrap());
        if let Some(numbers) = of.emoji {
            pictures_row(ui, emoji(numbers));
        }
        ui.label(theme::small(details).color(DARK.muted));
    });
}

/// Seven pictures in a row, each with its name, and all of them as one sentence for screen readers.
fn pictures_row(ui: &mut Ui, all: [Emoji; EMOJI_SHOWN]) {
    let size = egui::vec2(ui.available_width(), 64.0);
    let (row, response) = ui.allocate_exact_size(size, Sense::hover());
    let spoken = format!("In order: {}", all.map(|emoji| emoji.name).join(", "));
    response.widget_info(|| WidgetInfo::labeled(Role::Label, true, spoken.clone()));
    let step = row.width() / EMOJI_SHOWN as f32;
    let p = ui.painter();
    for (i, emoji) in all.into_iter().enumerate() {
        let x = row.left() + step * (i as f32 + 0.5);
        p.text(
            egui::pos2(x, row.top() + 24.0),
            Align2::CENTER_CENTER,
            emoji.symbol,
            FontId::new(28.0, theme::emoji()),
            DARK.text,
        );
        p.text(
            egui::pos2(x, row.bottom() - 8.0),
            Align2::CENTER_CENTER,
            emoji.name,
            FontId::proportional(11.0),
            DARK.text,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_font_has_all_emoji() {
        let ctx = egui::Context::default();
        theme::install(&ctx);
        let mut output = ctx.run_ui(egui::RawInput::default(), |_| {});
        output.textures_delta.clear();
        let font = FontId::new(28.0, theme::emoji());
        for emoji in EMOJI {
            let has = ctx.fonts_mut(|fonts| fonts.has_glyph(&font, emoji.symbol));
            assert!(has, "{} {}", emoji.symbol, emoji.name);
        }
    }
}
