//! The headless peer: `join` takes part in a call without a window, `devices` lists devices,
//! `bench` measures calls between processes of its own.

mod args;
mod bench;
mod join;
mod summary;
mod usage;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Command};

fn main() -> ExitCode {
    let started = std::time::Instant::now();
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(
            |_| {
                tracing_subscriber::EnvFilter::new(
                    "error,pulseaudio=off,rtc=off,rtc_dtls=off,rtc_ice=off",
                )
            },
        ))
        .with_writer(std::io::stderr)
        .init();
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
