//! What this process has used so far.

/// CPU time in user and system mode, seconds, and the largest resident set, bytes.
#[cfg(unix)]
pub(crate) fn measure() -> (Option<f64>, Option<u64>) {
    use nix::sys::resource::{UsageWho, getrusage};
    use nix::sys::time::TimeValLike;

    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return (None, None) };
    #[expect(clippy::cast_precision_loss, reason = "microseconds of a process")]
    let cpu = (usage.user_time() + usage.system_time()).num_microseconds() as f64 / 1e6;
    // Kilobytes on Linux, bytes on macOS.
    let unit = if cfg!(target_vendor = "apple") { 1 } else { 1024 };
    (Some(cpu), u64::try_from(usage.max_rss()).ok().map(|rss| rss * unit))
}

/// Not known here.
#[cfg(not(unix))]
pub(crate) fn measure() -> (Option<f64>, Option<u64>) {
    (None, None)
}
