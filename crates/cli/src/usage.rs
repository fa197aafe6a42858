//! What this process has used so far.

/// `None` where the system does not tell.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// CPU time in user and system mode, seconds.
    pub(crate) cpu_s: Option<f64>,
    /// The largest resident set.
    pub(crate) max_rss_bytes: Option<u64>,
}

#[cfg(unix)]
pub(crate) fn measure() -> Usage {
    use nix::sys::resource::{UsageWho, getrusage};
    use nix::sys::time::TimeValLike;

    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return Usage::default() };
    #[expect(clippy::cast_precision_loss, reason = "microseconds of a process")]
    let cpu_s = (usage.user_time() + usage.system_time()).num_microseconds() as f64 / 1e6;
    // Kilobytes on Linux, bytes on macOS.
    let unit = if cfg!(target_vendor = "apple") { 1 } else { 1024 };
    let max_rss_bytes = u64::try_from(usage.max_rss()).ok().map(|rss| rss * unit);
    Usage { cpu_s: Some(cpu_s), max_rss_bytes }
}

/// Not known here.
#[cfg(not(unix))]
pub(crate) fn measure() -> Usage {
    Usage::default()
}
