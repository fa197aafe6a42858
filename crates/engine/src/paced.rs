//! A named thread that does something at a fixed rate: the clock of files, test patterns and
//! sinks that have no device behind them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Runs until dropped; dropping waits for the step under way.
pub(crate) struct Paced {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Paced {
    /// So many missed steps are made up for.
    pub(crate) const MAX_LATE_STEPS: u32 = 5;

    /// Calls `step` every `interval` on a thread of its own, without drift. `step` returns whether
    /// to go on. Steps missed by more than [`Self::MAX_LATE_STEPS`] (a suspended machine) are left
    /// out.
    pub(crate) fn start(
        name: &str,
        interval: Duration,
        mut step: impl FnMut() -> bool + Send + 'static,
    ) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let mut next = Instant::now();
            while !stopped.load(Ordering::Relaxed) {
                if !step() {
                    break;
                }
                next += interval;
                let now = Instant::now();
                if now > next + Self::MAX_LATE_STEPS * interval {
                    next = now;
                }
                std::thread::sleep(next.saturating_duration_since(now));
            }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Paced {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A step that panicked has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}
