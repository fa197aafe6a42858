//! `./dev bench network`: calls over the emulated link, ours and Chromium's, side by side.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("network_bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

const USAGE: &str = "\
usage: ./dev bench network [FLAGS]
  --seeds N          calls for each case and system (3); figures are their medians
  --first-seed N     the first of the seeds (1)
  --case NAME        only this case; repeatable; `--case list` names them
  --only WHICH       ours or chromium
  --duration S       seconds of every case instead of its own
  --json FILE        write everything that was measured
  --table FILE       the document whose table is replaced (docs/benchmarks.md where all cases were
                     measured for both systems, otherwise none)";

struct Args {
    seeds: u64,
    first_seed: u64,
    cases: Vec<String>,
    only: Option<String>,
    duration_s: Option<f64>,
    json: Option<PathBuf>,
    table: Option<PathBuf>,
}

fn parse() -> anyhow::Result<Args> {
    use anyhow::{Context, bail};
    let mut args = Args {
        seeds: 3,
        first_seed: 1,
        cases: Vec::new(),
        only: None,
        duration_s: None,
        json: None,
        table: None,
    };
    let mut given = std::env::args().skip(1);
    while let Some(flag) = given.next() {
        if flag == "--help" {
            bail!("{USAGE}");
        }
        let value = given.next().with_context(|| format!("{flag}: no value\n{USAGE}"))?;
        match flag.as_str() {
            "--seeds" => args.seeds = value.parse::<u64>()?.max(1),
            "--first-seed" => args.first_seed = value.parse()?,
            "--case" => args.cases.push(value),
            "--only" if ["ours", "chromium"].contains(&value.as_str()) => args.only = Some(value),
            "--duration" => args.duration_s = Some(value.trim_end_matches('s').parse()?),
            "--json" => args.json = Some(value.into()),
            "--table" => args.table = Some(value.into()),
            _ => bail!("{flag} {value} is not understood\n{USAGE}"),
        }
    }
    Ok(args)
}

/// Where the table is, from wherever this runs within the repository.
fn document() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/benchmarks.md")
}

#[cfg(not(target_os = "linux"))]
fn run() -> anyhow::Result<()> {
    let _ = (parse()?, document());
    anyhow::bail!("the link emulator needs Linux (network namespaces and TUN devices)")
}

#[cfg(target_os = "linux")]
fn run() -> anyhow::Result<()> {
    use std::time::Duration;

    use anyhow::bail;
    use serde_json::json;
    use visavis_tests::link::unavailable;
    use visavis_tests::network::figures::{Figures, medians};
    use visavis_tests::network::report::{Row, markdown, plain, rewrite};
    use visavis_tests::network::{Case, System};

    let args = parse()?;
    let mut cases = Case::all();
    let all = cases.len();
    if !args.cases.is_empty() {
        let names: Vec<&str> = cases.iter().map(|c| c.name).collect();
        if let Some(name) = args.cases.iter().find(|name| !names.contains(&name.as_str())) {
            bail!("there is no case {name}; there are {}", names.join(", "));
        }
        cases.retain(|case| args.cases.iter().any(|name| name == case.name));
    }
    if let Some(seconds) = args.duration_s {
        for case in &mut cases {
            case.duration = Duration::try_from_secs_f64(seconds)?;
        }
    }
    if let Some(why) = unavailable() {
        bail!("there is no link to measure over: {why}");
    }
    let wanted = |system: &str| args.only.as_deref().is_none_or(|only| only == system);
    let (mut rows, mut raw) = (Vec::new(), Vec::new());
    for case in &cases {
        let mut measure = |system| -> Option<Figures> {
            let mut seeds = Vec::new();
            for seed in args.first_seed..args.first_seed + args.seeds {
                match one(case, system, seed) {
                    Ok((figures, everything)) => {
                        eprintln!("{} {system:?} seed {seed}: {figures:.1?}", case.name);
                        seeds.push(figures);
                        raw.push(everything);
                    }
                    // The other cases are still worth having; this one is missing in the table.
                    Err(error) => {
                        eprintln!("{} {system:?} seed {seed}: FAILED: {error:#}", case.name);
                        return None;
                    }
                }
            }
            Some(medians(&seeds))
        };
        let ours = if wanted("ours") { measure(System::Ours) } else { None };
        // The second call of two of ours; Chromium's pair is no goal.
        let chromium =
            if wanted("chromium") && case.calls == 1 { measure(System::Chromium) } else { None };
        rows.push(Row { case, ours, chromium });
    }
    println!("{}", plain(&rows));
    if let Some(path) = &args.json {
        let medians: Vec<_> = rows
            .iter()
            .map(|r| json!({ "case": r.case.name, "ours": r.ours, "chromium": r.chromium }))
            .collect();
        let everything = json!({ "bench": "network", "medians": medians, "runs": raw });
        std::fs::write(path, serde_json::to_string(&everything)?)?;
    }
    let complete = rows.len() == all && args.only.is_none() && args.duration_s.is_none();
    let table = args.table.or_else(|| complete.then(document));
    if let Some(table) = table {
        rewrite(&table, &markdown(&rows, usize::try_from(args.seeds)?))?;
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn one(
    case: &visavis_tests::network::Case,
    system: visavis_tests::network::System,
    seed: u64,
) -> anyhow::Result<(visavis_tests::network::figures::Figures, serde_json::Value)> {
    use anyhow::Context;
    use serde_json::json;
    use visavis_tests::link::Emulator;
    use visavis_tests::network::figures::figures;
    use visavis_tests::network::{System, measure_chromium, measure_ours};

    let emulator = Emulator::start(case.forward.clone(), case.back.clone(), seed)?;
    let (outcomes, recording) = match system {
        System::Ours => measure_ours(case, &emulator)?,
        System::Chromium => measure_chromium(case, &emulator)?,
    };
    let (_, begun_ms) = emulator.begun().context("the link never began")?;
    let figures = figures(case, &outcomes, &recording, begun_ms);
    let pictures: Vec<_> = outcomes
        .iter()
        .map(|o| {
            let series = o.pictures.iter().map(|p| {
                let at = ((p.unix_ms - begun_ms) * 10.0).round() / 10.0;
                json!([at, p.latency_ms, p.height_px])
            });
            series.collect::<Vec<_>>()
        })
        .collect();
    let raw: Vec<_> = outcomes.into_iter().map(|o| o.raw).collect();
    let everything = json!({
        "case": case.name,
        "system": system,
        "seed": seed,
        "figures": figures,
        "link": recording,
        "pictures_ms": pictures,
        "peers": raw,
    });
    Ok((figures, everything))
}
