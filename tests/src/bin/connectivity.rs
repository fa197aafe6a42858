//! `./dev bench connectivity`: a call between every two kinds of networks.

use std::process::ExitCode;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("connectivity: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn run() -> anyhow::Result<ExitCode> {
    anyhow::bail!("it needs Linux (network namespaces, nftables and TUN devices)")
}

#[cfg(target_os = "linux")]
use linux::run;

#[cfg(target_os = "linux")]
mod linux {
    use std::path::{Path, PathBuf};
    use std::process::ExitCode;

    use anyhow::{Context, bail};
    use visavis_tests::link::unavailable;
    use visavis_tests::nat::report::{Results, from_json, markdown, rewrite, to_json};
    use visavis_tests::nat::{Authority, Cell, Kind, Network, SERVER, System, hold};

    const USAGE: &str = "\
usage: ./dev bench connectivity [FLAGS]
  --only WHICH       ours or chromium: what is on the right; on the left it is ours
  --left KIND        only this kind of network on the left; repeatable; so is --right
  --with FILE        what is not measured now comes from this earlier --json; repeatable
  --json FILE        write everything that was measured
  --table FILE       the document whose tables are replaced (docs/connectivity.md where all cells are
                     there, otherwise none)
kinds: open, cone, port-restricted, symmetric, no-udp, only-443, ipv6";

    struct Args {
        systems: Vec<System>,
        lefts: Vec<Kind>,
        rights: Vec<Kind>,
        with: Vec<PathBuf>,
        json: Option<PathBuf>,
        table: Option<PathBuf>,
    }

    fn parse() -> anyhow::Result<Args> {
        let mut args = Args {
            systems: vec![System::Ours, System::Chromium],
            lefts: Vec::new(),
            rights: Vec::new(),
            with: Vec::new(),
            json: None,
            table: None,
        };
        let mut given = std::env::args().skip(1);
        while let Some(flag) = given.next() {
            if flag == "--help" {
                bail!("{USAGE}");
            }
            let value = given.next().with_context(|| format!("{flag}: no value\n{USAGE}"))?;
            match (flag.as_str(), value.as_str()) {
                ("--only", "ours") => args.systems = vec![System::Ours],
                ("--only", "chromium") => args.systems = vec![System::Chromium],
                ("--left", kind) => args.lefts.push(kind.parse()?),
                ("--right", kind) => args.rights.push(kind.parse()?),
                ("--with", _) => args.with.push(value.into()),
                ("--json", _) => args.json = Some(value.into()),
                ("--table", _) => args.table = Some(value.into()),
                _ => bail!("{flag} {value} is not understood\n{USAGE}"),
            }
        }
        for kinds in [&mut args.lefts, &mut args.rights] {
            if kinds.is_empty() {
                kinds.extend(Kind::ALL);
            }
        }
        Ok(args)
    }

    pub(super) fn run() -> anyhow::Result<ExitCode> {
        let args = parse()?;
        if let Some(why) = unavailable() {
            bail!("there can be no network namespaces here: {why}");
        }
        let mut results = Results::new();
        for path in &args.with {
            let text = std::fs::read(path)
                .with_context(|| format!("{} cannot be read", path.display()))?;
            results.extend(from_json(&serde_json::from_slice(&text)?)?);
        }
        let mut failed = 0;
        for &system in &args.systems {
            for &left in &args.lefts {
                for &right in &args.rights {
                    let cell = cell(system, left, right).map_err(|error| format!("{error:#}"));
                    match &cell {
                        Ok(cell) => println!(
                            "{system:?} {left} {right}: {}",
                            serde_json::to_string(&cell.sides)?
                        ),
                        Err(error) => {
                            failed += 1;
                            println!("{system:?} {left} {right}: {error}");
                        }
                    }
                    results.insert((system, left, right), cell);
                    // What is known by now is not lost with what is still to come.
                    if let Some(path) = &args.json {
                        std::fs::write(path, serde_json::to_vec_pretty(&to_json(&results))?)?;
                    }
                }
            }
        }
        let complete = results.len() == 2 * Kind::ALL.len().pow(2);
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/connectivity.md");
        if let Some(document) = args.table.or(complete.then_some(own)) {
            rewrite(&document, &markdown(&results))?;
        }
        Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn cell(system: System, left: Kind, right: Kind) -> anyhow::Result<Cell> {
        let authority = Authority::new(&[], &SERVER)?;
        let network = Network::new([left, right])?;
        let _server = network.serve(&authority, &[])?;
        hold(&network, &authority, system, &[])
    }
}
