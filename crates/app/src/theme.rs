//! Colours, type and icons of the design, as egui styles. UI thread only.
//!
//! The same values are CSS variables on the browser's page; change both together.

use std::collections::BTreeMap;
use std::sync::Arc;

use egui::{
    Color32, Context, CornerRadius, FontData, FontDefinitions, FontFamily, FontId, Id, Margin,
    RichText, Shadow, Stroke, TextStyle, Theme, ThemePreference, Visuals,
};
use serde::{Deserialize, Serialize};

/// What a person picks in the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ThemeChoice {
    /// As the desktop says, dark if it says nothing.
    #[default]
    System,
    /// Light text on dark.
    Dark,
    /// Dark text on light.
    Light,
    /// White on black, at least 7:1.
    HighContrast,
}

impl ThemeChoice {
    /// All, in the order of the menu, with their names.
    pub(crate) const ALL: [(Self, &'static str); 4] = [
        (Self::System, "As the system"),
        (Self::Dark, "Dark"),
        (Self::Light, "Light"),
        (Self::HighContrast, "High contrast"),
    ];
}

/// Colours by their role.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Tokens {
    /// The window.
    pub(crate) ink: Color32,
    /// Cards.
    pub(crate) surface: Color32,
    /// Controls.
    pub(crate) raised: Color32,
    /// Borders.
    pub(crate) line: Color32,
    /// Text.
    pub(crate) text: Color32,
    /// Less important text, still readable.
    pub(crate) muted: Color32,
    /// The one thing to do next.
    pub(crate) accent: Color32,
    /// Text on the accent.
    pub(crate) on_accent: Color32,
    /// Off, leave, failed.
    pub(crate) danger: Color32,
    /// Degraded.
    pub(crate) warn: Color32,
    /// Neutral information.
    pub(crate) info: Color32,
}

/// Also the colours over video, whatever the theme: the picture is dark or light by itself.
pub(crate) const DARK: Tokens = Tokens {
    ink: rgb(0x0E1116),
    surface: rgb(0x161B22),
    raised: rgb(0x1E2530),
    line: rgb(0x2C3440),
    text: rgb(0xE9EDF2),
    muted: rgb(0x98A3B3),
    accent: rgb(0x3DD6B0),
    on_accent: rgb(0x06241C),
    danger: rgb(0xF2555A),
    warn: rgb(0xF5B84B),
    info: rgb(0x6AA8FF),
};

const LIGHT: Tokens = Tokens {
    ink: rgb(0xF6F8FA),
    surface: rgb(0xFFFFFF),
    raised: rgb(0xFFFFFF),
    line: rgb(0xDDE3EA),
    text: rgb(0x14181F),
    muted: rgb(0x55606E),
    accent: rgb(0x0B8F70),
    on_accent: rgb(0xFFFFFF),
    danger: rgb(0xC9252D),
    warn: rgb(0x9A6200),
    info: rgb(0x1F6FD6),
};

const HIGH_CONTRAST: Tokens = Tokens {
    ink: rgb(0x000000),
    surface: rgb(0x000000),
    raised: rgb(0x101010),
    line: rgb(0xFFFFFF),
    text: rgb(0xFFFFFF),
    muted: rgb(0xE6E6E6),
    accent: rgb(0x4DFFD2),
    on_accent: rgb(0x000000),
    danger: rgb(0xFF6B70),
    warn: rgb(0xFFD166),
    info: rgb(0x8FC1FF),
};

const fn rgb(hex: u32) -> Color32 {
    Color32::from_rgb((hex >> 16) as u8, (hex >> 8) as u8, hex as u8)
}

impl Tokens {
    /// The colours of the theme in force.
    pub(crate) fn of(ctx: &Context) -> Self {
        if ctx.data(|d| d.get_temp(contrast_id())).unwrap_or(false) {
            HIGH_CONTRAST
        } else if ctx.theme() == Theme::Dark {
            DARK
        } else {
            LIGHT
        }
    }
}

fn contrast_id() -> Id {
    Id::unique("high contrast")
}

/// Corner radius of controls, points.
pub(crate) const RADIUS_CONTROL: u8 = 10;
/// Corner radius of pictures and cards, points.
pub(crate) const RADIUS_PICTURE: u8 = 14;
/// Least height of what is clicked in the lobby, points.
pub(crate) const CONTROL_HEIGHT: f32 = 48.0;
/// Diameter of the controls of a call, points.
pub(crate) const CALL_CONTROL: f32 = 52.0;

/// Installs fonts and the styles of both themes. Call once, before the first pass.
pub(crate) fn install(ctx: &Context) {
    ctx.set_fonts(fonts());
    apply(ctx, ThemeChoice::System, false);
}

/// Puts a choice in force.
pub(crate) fn apply(ctx: &Context, choice: ThemeChoice, reduce_motion: bool) {
    let high = choice == ThemeChoice::HighContrast;
    ctx.data_mut(|d| d.insert_temp(contrast_id(), high));
    ctx.options_mut(|o| o.fallback_theme = Theme::Dark);
    ctx.set_theme(match choice {
        ThemeChoice::System => ThemePreference::System,
        ThemeChoice::Dark | ThemeChoice::HighContrast => ThemePreference::Dark,
        ThemeChoice::Light => ThemePreference::Light,
    });
    let dark = if high { HIGH_CONTRAST } else { DARK };
    for (theme, tokens) in [(Theme::Dark, dark), (Theme::Light, LIGHT)] {
        ctx.set_style_of(theme, style(theme, &tokens, reduce_motion));
    }
}

fn style(theme: Theme, t: &Tokens, reduce_motion: bool) -> egui::Style {
    let mut style = egui::Style { visuals: visuals(theme, t), ..Default::default() };
    style.text_styles = BTreeMap::from([
        (TextStyle::Small, FontId::proportional(12.0)),
        (TextStyle::Body, FontId::proportional(14.0)),
        (TextStyle::Button, FontId::proportional(14.0)),
        (TextStyle::Heading, FontId::new(20.0, semibold())),
        (TextStyle::Monospace, FontId::monospace(12.0)),
    ]);
    style.spacing.item_spacing = egui::vec2(8.0, 8.0);
    style.spacing.button_padding = egui::vec2(12.0, 8.0);
    style.spacing.interact_size = egui::vec2(40.0, 40.0);
    style.spacing.menu_margin = Margin::same(6);
    style.spacing.tooltip_width = 320.0;
    style.spacing.scroll = egui::style::ScrollStyle::thin();
    style.animation_time = if reduce_motion { 0.0 } else { 0.15 };
    style.interaction.tooltip_delay = 0.4;
    // Text is selected where it is meant to be copied; elsewhere it would catch clicks.
    style.interaction.selectable_labels = false;
    style
}

fn visuals(theme: Theme, t: &Tokens) -> Visuals {
    let mut v = if theme == Theme::Dark { Visuals::dark() } else { Visuals::light() };
    v.override_text_color = None;
    v.weak_text_color = Some(t.muted);
    v.panel_fill = t.ink;
    v.window_fill = t.surface;
    v.window_stroke = Stroke::new(1.0, t.line);
    v.window_corner_radius = CornerRadius::same(RADIUS_PICTURE);
    v.menu_corner_radius = CornerRadius::same(RADIUS_CONTROL);
    v.faint_bg_color = t.raised;
    v.extreme_bg_color = t.surface;
    v.text_edit_bg_color = Some(t.surface);
    v.code_bg_color = t.raised;
    v.hyperlink_color = t.info;
    v.warn_fg_color = t.warn;
    v.error_fg_color = t.danger;
    v.selection.bg_fill = t.accent.gamma_multiply(0.35);
    v.selection.stroke = Stroke::new(2.0, t.accent);
    v.popup_shadow =
        Shadow { offset: [0, 8], blur: 24, spread: 0, color: Color32::from_black_alpha(90) };
    v.window_shadow = v.popup_shadow;
    // A steady caret: a blinking one repaints an idle window twice a second.
    v.text_cursor.blink = false;
    v.text_cursor.stroke = Stroke::new(2.0, t.accent);
    v.interact_cursor = Some(egui::CursorIcon::PointingHand);
    let radius = CornerRadius::same(RADIUS_CONTROL);
    let hover = blend(t.raised, t.text, 0.06);
    for (w, fill, stroke, text) in [
        (&mut v.widgets.noninteractive, t.surface, Stroke::new(1.0, t.line), t.text),
        (&mut v.widgets.inactive, t.raised, Stroke::new(1.0, t.line), t.text),
        (&mut v.widgets.hovered, hover, Stroke::new(1.0, t.line), t.text),
        (&mut v.widgets.active, hover, Stroke::new(2.0, t.accent), t.text),
        (&mut v.widgets.open, t.raised, Stroke::new(1.0, t.accent), t.text),
    ] {
        w.bg_fill = fill;
        w.weak_bg_fill = fill;
        w.bg_stroke = stroke;
        w.fg_stroke = Stroke::new(1.0, text);
        w.corner_radius = radius;
        w.expansion = 0.0;
    }
    v
}

/// `a` with a share of `b`, in gamma space.
pub(crate) fn blend(a: Color32, b: Color32, share: f32) -> Color32 {
    let mix = |x: u8, y: u8| (f32::from(x) + (f32::from(y) - f32::from(x)) * share).round() as u8;
    Color32::from_rgb(mix(a.r(), b.r()), mix(a.g(), b.g()), mix(a.b(), b.b()))
}

fn fonts() -> FontDefinitions {
    let mut f = FontDefinitions::empty();
    for (name, bytes) in [
        ("inter", include_bytes!("../../../assets/fonts/Inter-Regular.otf").as_slice()),
        ("inter-semibold", include_bytes!("../../../assets/fonts/Inter-SemiBold.otf")),
        ("mono", include_bytes!("../../../assets/fonts/JetBrainsMono-Regular.ttf")),
        ("icons", include_bytes!("../../../assets/fonts/Phosphor-Regular.ttf")),
        ("icons-fill", include_bytes!("../../../assets/fonts/Phosphor-Fill.ttf")),
        ("emoji", include_bytes!("../../../assets/fonts/NotoEmoji-64.ttf")),
    ] {
        f.font_data.insert(name.into(), Arc::new(FontData::from_static(bytes)));
    }
    for (family, names) in [
        (FontFamily::Proportional, ["inter", "icons"]),
        (FontFamily::Monospace, ["mono", "inter"]),
        (semibold(), ["inter-semibold", "icons"]),
        (filled(), ["icons-fill", "inter"]),
        (emoji(), ["emoji", "inter"]),
    ] {
        f.families.insert(family, names.map(String::from).to_vec());
    }
    f
}

/// Inter SemiBold.
pub(crate) fn semibold() -> FontFamily {
    FontFamily::Name("semibold".into())
}

/// Filled icons, for states.
pub(crate) fn filled() -> FontFamily {
    FontFamily::Name("filled".into())
}

/// The emoji of the proof.
pub(crate) fn emoji() -> FontFamily {
    FontFamily::Name("emoji".into())
}

/// 12/16.
pub(crate) fn small(text: impl Into<String>) -> RichText {
    RichText::new(text).size(12.0).line_height(Some(16.0))
}

/// 14/20.
pub(crate) fn body(text: impl Into<String>) -> RichText {
    RichText::new(text).size(14.0).line_height(Some(20.0))
}

/// 14/20, semibold.
pub(crate) fn strong(text: impl Into<String>) -> RichText {
    body(text).family(semibold())
}

/// 20/28.
pub(crate) fn title(text: impl Into<String>) -> RichText {
    RichText::new(text).size(20.0).line_height(Some(28.0)).family(semibold())
}

/// 28/34.
pub(crate) fn display(text: impl Into<String>) -> RichText {
    RichText::new(text).size(28.0).line_height(Some(34.0)).family(semibold())
}

/// Figures and addresses, 12/18.
pub(crate) fn mono(text: impl Into<String>) -> RichText {
    RichText::new(text).size(12.0).line_height(Some(18.0)).family(FontFamily::Monospace)
}

/// Code points of the icons in the Phosphor subsets.
pub(crate) mod icon {
    pub(crate) const MICROPHONE: &str = "\u{E326}";
    pub(crate) const MICROPHONE_OFF: &str = "\u{E328}";
    pub(crate) const CAMERA: &str = "\u{E4DA}";
    pub(crate) const CAMERA_OFF: &str = "\u{E4DC}";
    pub(crate) const HANG_UP: &str = "\u{E3BC}";
    pub(crate) const PHONE: &str = "\u{E3B8}";
    pub(crate) const LINK: &str = "\u{E2E2}";
    pub(crate) const COPY: &str = "\u{E1CA}";
    pub(crate) const PLUS: &str = "\u{E3D4}";
    pub(crate) const CARET_DOWN: &str = "\u{E136}";
    pub(crate) const RECENT: &str = "\u{E1A0}";
    pub(crate) const PERSON: &str = "\u{E4C2}";
    pub(crate) const KEY: &str = "\u{E2D6}";
    pub(crate) const SPEAKER: &str = "\u{E44A}";
    pub(crate) const PULSE: &str = "\u{E000}";
    pub(crate) const LOCK: &str = "\u{E308}";
    pub(crate) const LOCK_OPEN: &str = "\u{E30A}";
    pub(crate) const WARNING: &str = "\u{E4E0}";
    pub(crate) const INFO: &str = "\u{E2CE}";
    pub(crate) const CLOSE: &str = "\u{E4F6}";
    pub(crate) const CHECK: &str = "\u{E182}";
    pub(crate) const SETTINGS: &str = "\u{E272}";
    pub(crate) const FULL_SCREEN: &str = "\u{E1D0}";
    pub(crate) const LEAVE_FULL_SCREEN: &str = "\u{E1CE}";
    pub(crate) const BACK: &str = "\u{E058}";
    pub(crate) const GOOD: &str = "\u{E184}";
    pub(crate) const EDIT: &str = "\u{E3B4}";
}

#[cfg(test)]
mod tests {
    use super::*;

    /// WCAG 2.2 contrast ratio.
    fn contrast(a: Color32, b: Color32) -> f32 {
        let luminance = |c: Color32| {
            let [r, g, b, _] = egui::Rgba::from(c).to_array();
            0.2126 * r + 0.7152 * g + 0.0722 * b
        };
        let (x, y) = (luminance(a), luminance(b));
        (x.max(y) + 0.05) / (x.min(y) + 0.05)
    }

    #[test]
    fn text_is_readable_in_every_theme() {
        for (name, t, least) in
            [("dark", DARK, 4.5), ("light", LIGHT, 4.5), ("high contrast", HIGH_CONTRAST, 7.0)]
        {
            for on in [t.ink, t.surface, t.raised] {
                for (role, c) in [("text", t.text), ("muted", t.muted), ("warn", t.warn)] {
                    let ratio = contrast(c, on);
                    assert!(ratio >= least, "{name}: {role} has {ratio:.2}:1");
                }
            }
        }
    }
}
