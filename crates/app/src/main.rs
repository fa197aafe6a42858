//! The `visavis` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    visavis::run()
}
