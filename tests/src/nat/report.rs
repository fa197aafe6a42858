//! The tables of `docs/connectivity.md`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};

use super::{Cell, Kind, System};

/// Between these lines of the document the tables are replaced.
const BEGIN: &str = "<!-- tables: written by ./dev bench connectivity -->";
const END: &str = "<!-- end of the tables -->";

/// What was measured, by system, left and right; an error's words where no call came about.
pub type Results = BTreeMap<(System, Kind, Kind), Result<Cell, String>>;

/// One system's matrix as Markdown: left down, right across.
fn matrix(results: &Results, system: System) -> String {
    let mut text = "| left ╲ right |".to_owned();
    for right in Kind::ALL {
        let _ = write!(text, " {} |", right.title());
    }
    text += "\n|---|";
    text += &"---|".repeat(Kind::ALL.len());
    text.push('\n');
    for left in Kind::ALL {
        let _ = write!(text, "| {} |", left.title());
        for right in Kind::ALL {
            let words = match results.get(&(system, left, right)) {
                None => "–".to_owned(),
                Some(Err(_)) => "**none**".to_owned(),
                Some(Ok(cell)) => words(cell),
            };
            let _ = write!(text, " {words} |");
        }
        text.push('\n');
    }
    text
}

fn words(cell: &Cell) -> String {
    let [left, right] = cell.ends();
    let family = if cell.sides[0].ipv6 { " (IPv6)" } else { "" };
    format!("{left} – {right}{family}<br>{:.0}, {:.0} ms", cell.connected_ms(), cell.picture_ms())
}

/// A line over each matrix: how many connected, and the times.
fn totals(results: &Results, system: System) -> String {
    let cells: Vec<_> = results.iter().filter(|((s, ..), _)| *s == system).collect();
    let connected: Vec<&Cell> = cells.iter().filter_map(|(_, cell)| cell.as_ref().ok()).collect();
    let mut times: Vec<f64> = connected.iter().map(|cell| cell.connected_ms()).collect();
    times.sort_by(f64::total_cmp);
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    let longest = times.last().copied().unwrap_or_default();
    let relayed = connected.iter().filter(|cell| cell.is_relayed()).count();
    format!(
        "{} of {} calls connected, {relayed} of them by a relay; median {median:.0} ms, longest \
         {longest:.0} ms.",
        connected.len(),
        cells.len()
    )
}

/// Both tables.
pub fn markdown(results: &Results) -> String {
    let mut text = String::new();
    for (system, title) in [
        (System::Ours, "Our peer on both sides"),
        (System::Chromium, "Our peer on the left, Chromium on the right"),
    ] {
        let _ = writeln!(
            text,
            "## {title}\n\n{}\n\n{}",
            totals(results, system),
            matrix(results, system)
        );
    }
    text.trim_end().to_owned()
}

/// For `--json` and `--with`.
pub fn to_json(results: &Results) -> Value {
    let cells = results.iter().map(|((system, left, right), cell)| {
        json!({
            "system": system,
            "left": left.name(),
            "right": right.name(),
            "sides": cell.as_ref().ok().map(|cell| &cell.sides),
            "error": cell.as_ref().err(),
        })
    });
    json!({ "cells": cells.collect::<Vec<_>>() })
}

/// What [`to_json`] wrote.
///
/// # Errors
///
/// It is something else.
pub fn from_json(value: &Value) -> anyhow::Result<Results> {
    let mut results = Results::new();
    for cell in value["cells"].as_array().context("no cells")? {
        let kind = |name: &str| cell[name].as_str().unwrap_or_default().parse::<Kind>();
        let system = serde_json::from_value(cell["system"].clone())?;
        let outcome = match cell["error"].as_str() {
            Some(error) => Err(error.to_owned()),
            None => Ok(Cell { sides: serde_json::from_value(cell["sides"].clone())? }),
        };
        results.insert((system, kind("left")?, kind("right")?), outcome);
    }
    Ok(results)
}

/// Replaces the tables in the document.
///
/// # Errors
///
/// There is no such document, or no place for tables in it.
pub fn rewrite(document: &Path, tables: &str) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(document)
        .with_context(|| format!("{} cannot be read", document.display()))?;
    let replaced = replace(&text, tables)
        .with_context(|| format!("{} has no place for the tables", document.display()))?;
    std::fs::write(document, replaced)?;
    Ok(())
}

fn replace(text: &str, tables: &str) -> Option<String> {
    let begin = text.find(BEGIN)? + BEGIN.len();
    let end = begin + text[begin..].find(END)?;
    Some(format!("{}\n\n{tables}\n\n{}", &text[..begin], &text[end..]))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::nat::Side;

    fn results() -> Results {
        let side = |local: &str, remote: &str, connected_ms| Side {
            local: local.into(),
            remote: remote.into(),
            ipv6: false,
            connected_ms,
            picture_ms: 300.0,
        };
        let cell =
            Cell { sides: [side("relay/tls", "prflx", 180.0), side("host", "relay", 120.0)] };
        Results::from([
            ((System::Ours, Kind::Only443, Kind::Open), Ok(cell)),
            ((System::Ours, Kind::Open, Kind::Open), Err("nothing".into())),
        ])
    }

    #[test]
    fn results_come_back_from_their_file() {
        assert_eq!(from_json(&to_json(&results())).unwrap(), results());
    }

    #[test]
    fn the_table_says_path_and_times_and_what_failed() {
        let table = markdown(&results());
        assert!(table.contains("1 of 2 calls connected, 1 of them by a relay"), "{table}");
        assert!(
            table.contains("| only TCP 443 | relay/tls – prflx<br>180, 300 ms | – |"),
            "{table}"
        );
        assert!(table.contains("| open | **none** | – |"), "{table}");
    }

    #[test]
    fn only_the_tables_are_replaced() {
        let text = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let once = replace(&text, "new").unwrap();
        assert_eq!(once, format!("before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"));
        assert_eq!(replace(&once, "new").unwrap(), once);
    }
}
