//! What the targets share.

use std::backtrace::Backtrace;
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::sync::Mutex;

/// For parsers of the stack inside of DTLS: a panic there ends the connection of the one who caused it, because
/// the program's network task is guarded (`visavis_rtc`, `runtime`). It is told, once for each place, and
/// fuzzing goes on. To be called before anything else.
pub fn tell_panics() {
    static TOLD: Mutex<Option<HashSet<String>>> = Mutex::new(None);
    set_hook(Box::new(|panic| {
        let Some(location) = panic.location() else { std::process::abort() };
        let trace = Backtrace::force_capture().to_string();
        // The innermost function of the stack: the panic itself may be in a library beneath.
        let place = trace.lines().find(|line| line.contains("/rtc-")).map(str::trim);
        let place = place.unwrap_or_default();
        let mut told = TOLD.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if told.get_or_insert_default().insert(format!("{location} {place}")) {
            eprintln!("CONTAINED PANIC {location} {place}");
        }
        // Ours are none of the stack's.
        if place.is_empty() {
            std::process::abort();
        }
    }));
}

/// Runs a target whose panics are told.
pub fn contained(target: fn(&[u8]), input: &[u8]) {
    let _ = catch_unwind(AssertUnwindSafe(|| target(input)));
}
