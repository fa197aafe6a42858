//! The headless peer: `join` takes part in a call without a window, `devices` lists devices,
//! `bench` measures calls between processes of its own.

mod args;
mod bench;
mod join;
mod summary;
mod trace;
mod usage;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Command};

fn main() -> ExitCode {
    let started = std::time::Instant::now();
    let cli = Cli::parse();
    let trace = match &cli.command {
        Command::Join(args) => args.trace.as_deref(),
        _ => None,
    };
    if let Err(error) = trace::init(trace) {
        eprintln!("visavis-cli: the trace cannot be written: {error}");
        return ExitCode::FAILURE;
    }
    let result = match cli.command {
        Command::Join(args) => join::run(started, *args),
        Command::Devices(args) => join::devices(&args),
        Command::Bench(args) => bench::run(&args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("visavis-cli: {error:#}");
            ExitCode::FAILURE
        }
    }
}
