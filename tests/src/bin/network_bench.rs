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
  --only WHICH       ours or chromium; of lip sync it is the receiving side, both send
  --codec NAME       ours sends with this video codec alone (h264, vp8, vp9, av1), instead of what it chooses
  --duration S       seconds of every case instead of its own
  --jobs N           so many of our calls at once (1): a call of ours takes a quarter of a core
  --with FILE        what is not measured now comes from this earlier --json; repeatable
  --json FILE        write everything that was measured
  --keep FILE        the figures of all runs that share this file: each call is added as it ends, in
                     place of an earlier one of the same case, system and seed, and the table is
                     made of all. With --seeds 0 nothing is measured
  --table FILE       the document whose table is replaced (docs/benchmarks.md where all cases are
                     there for both systems, otherwise none)";

struct Args {
    seeds: u64,
    first_seed: u64,
    cases: Vec<String>,
    only: Option<String>,
    codec: Option<String>,
    duration_s: Option<f64>,
    jobs: usize,
    with: Vec<PathBuf>,
    json: Option<PathBuf>,
    keep: Option<PathBuf>,
    table: Option<PathBuf>,
}

fn parse() -> anyhow::Result<Args> {
    use anyhow::{Context, bail};
    let mut args = Args {
        seeds: 3,
        first_seed: 1,
        cases: Vec::new(),
        only: None,
        codec: None,
        duration_s: None,
        jobs: 1,
        with: Vec::new(),
        json: None,
        keep: None,
        table: None,
    };
    let mut given = std::env::args().skip(1);
    while let Some(flag) = given.next() {
        if flag == "--help" {
            bail!("{USAGE}");
        }
        let value = given.next().with_context(|| format!("{flag}: no value\n{USAGE}"))?;
        match flag.as_str() {
            "--seeds" => args.seeds = value.parse()?,
            "--first-seed" => args.first_seed = value.parse()?,
            "--case" => args.cases.push(value),
            "--only" if ["ours", "chromium"].contains(&value.as_str()) => args.only = Some(value),
            "--codec" => args.codec = Some(value),
            "--duration" => args.duration_s = Some(value.trim_end_matches('s').parse()?),
            "--jobs" => args.jobs = value.parse::<usize>()?.clamp(1, 16),
            "--with" => args.with.push(value.into()),
            "--json" => args.json = Some(value.into()),
            "--keep" => args.keep = Some(value.into()),
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
    linux::run(parse()?)
}

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::BTreeMap;
    use std::path::{Path, PathBuf};
    use std::sync::{Mutex, PoisonError};
    use std::time::Duration;

    use anyhow::{Context, bail};
    use serde_json::{Value, json};
    use visavis_tests::link::{Emulator, unavailable};
    use visavis_tests::network::figures::{Figures, figures, medians};
    use visavis_tests::network::report::{Row, markdown, plain, rewrite};
    use visavis_tests::network::{
        Case, Extra, System, measure_chromium, measure_lip_sync, measure_ours,
    };

    use super::{Args, document};

    /// One call to hold.
    struct Task<'c> {
        case: &'c Case,
        system: System,
        seed: u64,
        /// More flags of our sender.
        flags: &'c [&'c str],
    }

    type Results = BTreeMap<(&'static str, System), Vec<anyhow::Result<Figures>>>;

    pub(super) fn run(args: Args) -> anyhow::Result<()> {
        if let Some(why) = unavailable() {
            bail!("there is no link to measure over: {why}");
        }
        let cases = cases(&args)?;
        if args.keep.is_some() && (args.duration_s.is_some() || args.codec.is_some()) {
            bail!("only calls of their own length and codec belong into what is kept");
        }
        let mut earlier = Vec::new();
        for path in &args.with {
            let file: Value = serde_json::from_slice(&std::fs::read(path)?)
                .with_context(|| format!("{} is not from --json", path.display()))?;
            earlier.extend(file["runs"].as_array().cloned().unwrap_or_default());
        }
        let flags = args.codec.as_deref().map(|codec| ["--video-codecs", codec]);
        let flags = flags.as_ref().map_or(&[][..], |flags| flags);
        let wanted = |system: &str| args.only.as_deref().is_none_or(|only| only == system);
        let tasks = |system| {
            cases.iter().filter(move |case| system == System::Ours || case.for_chromium).flat_map(
                move |case| {
                    (args.first_seed..args.first_seed + args.seeds).map(move |seed| Task {
                        case,
                        system,
                        seed,
                        flags,
                    })
                },
            )
        };
        let found = Mutex::new(Found {
            results: Results::new(),
            raw: Vec::new(),
            kept: args.keep.as_deref().map(Kept::open).transpose()?,
        });
        if wanted("ours") {
            work(tasks(System::Ours).collect(), args.jobs, &found);
        }
        if wanted("chromium") {
            // Two of them would share the cores.
            work(tasks(System::Chromium).collect(), 1, &found);
        }
        let Found { results, raw, kept } =
            found.into_inner().unwrap_or_else(PoisonError::into_inner);
        let column = |case: &Case, system| -> Option<Figures> {
            if let Some(kept) = kept.as_ref().and_then(|k| of_earlier(&k.runs, case.name, system)) {
                return Some(kept);
            }
            match results.get(&(case.name, system)) {
                // A call that failed leaves a hole in the table.
                Some(seeds) => {
                    let all: Option<Vec<_>> =
                        seeds.iter().map(|seed| seed.as_ref().ok().cloned()).collect();
                    all.map(|all| medians(&all))
                }
                None => of_earlier(&earlier, case.name, system),
            }
        };
        // What other runs have kept belongs to the table, too.
        let shown = if kept.is_some() { Case::all() } else { cases };
        let rows: Vec<Row<'_>> = shown
            .iter()
            .map(|case| Row {
                case,
                ours: column(case, System::Ours),
                chromium: column(case, System::Chromium),
            })
            .collect();
        println!("{}", plain(&rows));
        if let Some(path) = &args.json {
            let medians: Vec<_> = rows
                .iter()
                .map(|r| json!({ "case": r.case.name, "ours": r.ours, "chromium": r.chromium }))
                .collect();
            let everything = json!({ "bench": "network", "medians": medians, "runs": raw });
            std::fs::write(path, serde_json::to_string(&everything)?)?;
        }
        let complete = (args.cases.is_empty() || kept.is_some())
            && args.duration_s.is_none()
            && args.codec.is_none()
            && rows
                .iter()
                .all(|r| r.ours.is_some() && (r.chromium.is_some() || !r.case.for_chromium));
        if let Some(table) = args.table.or_else(|| complete.then(document)) {
            rewrite(&table, &markdown(&rows))?;
        }
        let failed = results.values().flatten().filter(|result| result.is_err()).count();
        anyhow::ensure!(failed == 0, "{failed} calls did not come about");
        Ok(())
    }

    fn cases(args: &Args) -> anyhow::Result<Vec<Case>> {
        let mut cases = Case::all();
        let names: Vec<&str> = cases.iter().map(|c| c.name).collect();
        if let Some(name) = args.cases.iter().find(|name| !names.contains(&name.as_str())) {
            bail!("there is no case {name}; there are {}", names.join(", "));
        }
        if !args.cases.is_empty() {
            cases.retain(|case| args.cases.iter().any(|name| name == case.name));
        }
        if let Some(seconds) = args.duration_s {
            for case in &mut cases {
                case.duration = Duration::try_from_secs_f64(seconds)?;
            }
        }
        Ok(cases)
    }

    /// Medians of the earlier calls of a case.
    fn of_earlier(runs: &[Value], case: &str, system: System) -> Option<Figures> {
        let system = serde_json::to_value(system).ok()?;
        let seeds: Vec<Figures> = runs
            .iter()
            .filter(|run| run["case"] == case && run["system"] == system)
            .filter_map(|run| serde_json::from_value(run["figures"].clone()).ok())
            .collect();
        (!seeds.is_empty()).then(|| medians(&seeds))
    }

    /// All that is known so far.
    struct Found {
        results: Results,
        raw: Vec<Value>,
        kept: Option<Kept>,
    }

    /// Figures of several runs of this program, in a file.
    struct Kept {
        path: PathBuf,
        runs: Vec<Value>,
    }

    impl Kept {
        fn open(path: &Path) -> anyhow::Result<Self> {
            let runs = match std::fs::read(path) {
                Ok(text) => serde_json::from_slice::<Value>(&text)
                    .ok()
                    .and_then(|file| file["runs"].as_array().cloned())
                    .with_context(|| format!("{} is not from --keep", path.display()))?,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
                Err(error) => return Err(error.into()),
            };
            Ok(Self { path: path.to_owned(), runs })
        }

        /// Adds a call, in place of the one before it of the same dice.
        fn add(&mut self, run: &Value) -> anyhow::Result<()> {
            let key = |run: &Value| ["case", "system", "seed"].map(|name| run[name].clone());
            self.runs.retain(|old| key(old) != key(run));
            let [case, system, seed] = key(run);
            let figures = &run["figures"];
            self.runs
                .push(json!({ "case": case, "system": system, "seed": seed, "figures": figures }));
            let file = json!({ "bench": "network", "runs": self.runs });
            std::fs::write(&self.path, serde_json::to_string_pretty(&file)?)?;
            Ok(())
        }
    }

    fn work(tasks: Vec<Task<'_>>, jobs: usize, found: &Mutex<Found>) {
        let queue = Mutex::new(tasks.into_iter());
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        let worker = || {
            while let Some(task) = next() {
                let Task { case, system, seed, .. } = task;
                let measured = one(&task);
                let name = case.name;
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                let result = match measured {
                    Ok((figures, everything)) => {
                        eprintln!("{name} {system:?} seed {seed}: {figures:.1?}");
                        if let Some(Err(error)) = found.kept.as_mut().map(|k| k.add(&everything)) {
                            eprintln!("what was measured cannot be kept: {error:#}");
                        }
                        found.raw.push(everything);
                        Ok(figures)
                    }
                    Err(error) => {
                        eprintln!("{name} {system:?} seed {seed}: FAILED: {error:#}");
                        Err(error)
                    }
                };
                found.results.entry((name, system)).or_default().push(result);
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..jobs {
                scope.spawn(worker);
            }
        });
    }

    /// A run in which threads waited for a core for more of the time than this is not worth much.
    const TOO_BUSY: f64 = 0.33;

    /// How long some thread of the machine has waited for a core so far, where the kernel tells.
    fn cpu_wait() -> Option<Duration> {
        let text = std::fs::read_to_string("/proc/pressure/cpu").ok()?;
        let some = text.lines().find(|line| line.starts_with("some"))?;
        let us = some.split_whitespace().find_map(|word| word.strip_prefix("total="))?;
        us.parse().ok().map(Duration::from_micros)
    }

    /// Calls from both systems to the one measured.
    fn lip_sync(task: &Task<'_>) -> anyhow::Result<(Figures, Value)> {
        let Task { case, system, seed, .. } = *task;
        let mut figures = Figures::new();
        for (name, sender) in [("ours", System::Ours), ("chromium", System::Chromium)] {
            let emulator = Emulator::start(case.forward.clone(), case.back.clone(), seed)?;
            let call = measure_lip_sync(&emulator, sender, system, case.duration)?;
            figures.extend(call.into_iter().map(|(k, v)| (format!("from_{name}_{k}"), v)));
        }
        Ok((figures, json!({})))
    }

    /// Its figures, and what else the JSON file has of it.
    fn one(task: &Task<'_>) -> anyhow::Result<(Figures, Value)> {
        let Task { case, system, seed, .. } = *task;
        let before = (std::time::Instant::now(), cpu_wait());
        let (mut figures, mut everything) = match case.extra {
            Extra::LipSync => lip_sync(task)?,
            _ => whole_call(task)?,
        };
        if let Some((then, now)) = before.1.zip(cpu_wait()) {
            let share = now.saturating_sub(then).as_secs_f64() / before.0.elapsed().as_secs_f64();
            if share > TOO_BUSY {
                eprintln!(
                    "{} {system:?} seed {seed}: threads waited for a core {:.0} % of the time: \
                     this measures the machine",
                    case.name,
                    share * 100.0
                );
            }
            figures.insert("cpu_wait_percent".to_owned(), share * 100.0);
        }
        everything["case"] = json!(case.name);
        everything["system"] = json!(system);
        everything["seed"] = json!(seed);
        everything["figures"] = json!(figures);
        Ok((figures, everything))
    }

    fn whole_call(task: &Task<'_>) -> anyhow::Result<(Figures, Value)> {
        let Task { case, system, seed, flags } = *task;
        let emulator = Emulator::start(case.forward.clone(), case.back.clone(), seed)?;
        let (outcomes, recording) = match system {
            System::Ours => measure_ours(case, &emulator, flags)?,
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
        let made_up: Vec<Vec<_>> = outcomes
            .iter()
            .map(|o| o.sounds.iter().filter(|s| s.made_up).map(|s| s.unix_ms - begun_ms).collect())
            .collect();
        let raw: Vec<_> = outcomes.into_iter().map(|o| o.raw).collect();
        let everything = json!({
            "link": recording, "pictures_ms": pictures, "concealed_at_ms": made_up, "peers": raw,
        });
        Ok((figures, everything))
    }
}
