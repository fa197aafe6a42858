//! Reads what `visavis-cli join --trace` writes.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

/// Now, as traces say it.
///
/// # Panics
///
/// The clock stands before 1970.
pub fn unix_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs_f64() * 1e3
}

/// The times of events after `from_ms`, in order.
pub fn times(trace: &str, from_ms: f64, wanted: impl Fn(&Value) -> bool) -> Vec<f64> {
    let mut times: Vec<f64> = trace
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| wanted(line))
        .filter_map(|line| line["unix_ms"].as_f64())
        .filter(|at| *at > from_ms)
        .collect();
    times.sort_by(f64::total_cmp);
    times
}

/// Waits until `count` events came after `from_ms`; their times, in order.
///
/// # Errors
///
/// There is no such file, or they do not come within `limit`.
pub fn wait_times(
    trace: &Path,
    from_ms: f64,
    count: usize,
    limit: Duration,
    wanted: impl Fn(&Value) -> bool,
) -> anyhow::Result<Vec<f64>> {
    let deadline = Instant::now() + limit;
    loop {
        let found = times(&std::fs::read_to_string(trace)?, from_ms, &wanted);
        if found.len() >= count {
            return Ok(found);
        }
        anyhow::ensure!(
            Instant::now() < deadline,
            "{found:?} in {} within {limit:?}",
            trace.display()
        );
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

/// The longest time without such an event after half a second before `from_ms`, seconds, and how many came.
pub fn longest_gap(trace: &str, from_ms: f64, wanted: impl Fn(&Value) -> bool) -> (f64, usize) {
    let times = times(trace, from_ms - 500.0, wanted);
    let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
    (gaps.fold(0.0, f64::max) / 1e3, times.len())
}

/// Whether this is a frame that was received.
pub fn is_picture(line: &Value) -> bool {
    line["event"] == "picture"
}

/// Whether this is sound that was not silence.
pub fn is_heard(line: &Value) -> bool {
    line["event"] == "sound" && line["level_dbfs"].as_f64() > Some(-50.0)
}
