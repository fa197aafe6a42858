//! The table: on the terminal and in `docs/benchmarks.md`.

use std::fmt::Write;
use std::path::Path;

use anyhow::Context;

use super::figures::Figures;
use super::{Case, Extra};

/// Between these lines of the document the table is replaced.
const BEGIN: &str = "<!-- network table: written by ./dev bench network -->";
const END: &str = "<!-- end of the network table -->";

/// One line of the table.
pub struct Row<'c> {
    /// What was measured.
    pub case: &'c Case,
    /// Medians of our calls, if there were any.
    pub ours: Option<Figures>,
    /// Medians of Chromium's.
    pub chromium: Option<Figures>,
}

/// The common figures in the words of the table's head:
/// `fps; latency p50/p95 ms; frozen s; concealed audio %; sent kbps`, then what else there is.
fn cell(case: &Case, figures: Option<&Figures>) -> String {
    let Some(f) = figures else { return "–".to_owned() };
    let n = |name: &str, digits: usize| {
        f.get(name).map_or_else(|| "–".to_owned(), |v| format!("{v:.digits$}"))
    };
    if case.extra == Extra::LipSync {
        let from = |sender: &str| {
            let n = |name: &str| {
                f.get(&format!("from_{sender}_{name}_ms"))
                    .map_or_else(|| "–".to_owned(), |ms| format!("{ms:+.0}"))
            };
            format!("from {sender} {} ms ({} … {})", n("p50"), n("min"), n("max"))
        };
        return format!("{}; {}", from("ours"), from("chromium"));
    }
    let mut text = format!(
        "{}; {}/{}; {}; {} %; {}",
        n("fps", 1),
        n("latency_p50_ms", 0),
        n("latency_p95_ms", 0),
        n("frozen_s", 1),
        n("concealed_percent", 1),
        n("sent_kbps", 0),
    );
    let resent = || format!("resent {} of {} lost", n("retransmitted", 0), n("lost", 0));
    let more = match case.extra {
        Extra::None if f.get("lost").is_some_and(|lost| *lost > 0.0) => resent(),
        Extra::None => String::new(),
        Extra::Speech if f.contains_key("stoi") => format!("{}; STOI {}", resent(), n("stoi", 2)),
        Extra::Speech => resent(),
        Extra::Steps { .. } => {
            format!("rate back {} s, settled {} s", n("rate_back_s", 1), n("settled_s", 1))
        }
        Extra::Blackout { .. } => format!(
            "picture back {} ms, sound {} ms, latency normal {} ms",
            n("picture_back_ms", 0),
            n("sound_back_ms", 0),
            n("latency_normal_ms", 0)
        ),
        Extra::StartUp => format!(
            "kbps by second: {}, {}, {}",
            n("first_second_kbps", 0),
            n("second_second_kbps", 0),
            n("third_second_kbps", 0)
        ),
        Extra::LipSync => String::new(),
        Extra::Fairness => format!("smaller share {} %", n("smaller_share_percent", 0)),
    };
    if !more.is_empty() {
        let _ = write!(text, "; {more}");
    }
    let _ = write!(text, "; {}p; CPU {} s", n("height_px", 0), n("cpu_s", 1));
    text
}

/// The table as Markdown.
pub fn markdown(rows: &[Row<'_>]) -> String {
    let seeds = |pick: for<'r> fn(&'r Row<'_>) -> Option<&'r Figures>| {
        let all = rows.iter().filter_map(pick).filter_map(|f| f.get("seeds"));
        all.copied().reduce(f64::min).map_or_else(|| "no".to_owned(), |n| format!("{n:.0}"))
    };
    let mut text = format!(
        "Medians of {} calls of ours and {} of Chromium's.\n\n\
         | case | goal | ours | Chromium |\n|---|---|---|---|\n",
        seeds(|row| row.ours.as_ref()),
        seeds(|row| row.chromium.as_ref()),
    );
    for row in rows {
        let _ = writeln!(
            text,
            "| {} (`{}`) | {} | {} | {} |",
            row.case.title,
            row.case.name,
            row.case.goal,
            cell(row.case, row.ours.as_ref()),
            cell(row.case, row.chromium.as_ref()),
        );
    }
    text
}

/// The table for a terminal: three lines a case.
pub fn plain(rows: &[Row<'_>]) -> String {
    let mut text = "fps; latency p50/p95 ms; frozen s; concealed audio; sent kbps\n".to_owned();
    for row in rows.iter().filter(|row| row.ours.is_some() || row.chromium.is_some()) {
        let _ = writeln!(text, "\n{} ({})", row.case.title, row.case.name);
        if !row.case.goal.is_empty() {
            let _ = writeln!(text, "  goal      {}", row.case.goal);
        }
        for (name, figures) in [("ours", &row.ours), ("Chromium", &row.chromium)] {
            if figures.is_some() {
                let _ = writeln!(text, "  {name:<9} {}", cell(row.case, figures.as_ref()));
            }
        }
    }
    text
}

/// Replaces the table in the document.
///
/// # Errors
///
/// There is no such document, or no place for a table in it.
pub fn rewrite(document: &Path, table: &str) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(document)
        .with_context(|| format!("{} cannot be read", document.display()))?;
    let replaced = replace(&text, table)
        .with_context(|| format!("{} has no place for the table", document.display()))?;
    std::fs::write(document, replaced)?;
    Ok(())
}

fn replace(text: &str, table: &str) -> Option<String> {
    let begin = text.find(BEGIN)? + BEGIN.len();
    let end = begin + text[begin..].find(END)?;
    Some(format!("{}\n\n{}\n{}", &text[..begin], table, &text[end..]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn only_the_table_is_replaced() {
        let text = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let once = replace(&text, "| new |\n").unwrap();
        assert_eq!(once, format!("before\n{BEGIN}\n\n| new |\n\n{END}\nafter\n"));
        assert_eq!(replace(&once, "| new |\n").unwrap(), once);
        assert_eq!(replace("nothing", "x"), None);
    }

    #[test]
    fn what_was_not_measured_is_a_dash() {
        let cases = Case::all();
        let ours = Some(Figures::from([("fps".to_owned(), 29.96), ("seeds".to_owned(), 3.0)]));
        let rows = [Row { case: &cases[0], ours, chromium: None }];
        let table = markdown(&rows);
        assert!(table.starts_with("Medians of 3 calls of ours and no of Chromium's."), "{table}");
        assert!(table.contains("| 30.0; –/–; –; – %; –; rate back – s"), "{table}");
        assert!(table.trim_end().ends_with("| – |"), "{table}");
    }
}
