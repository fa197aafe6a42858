//! The engine of a call: the only place where signaling, session logic, WebRTC, codecs and devices meet.
//!
//! A user interface holds an [`Engine`]: it sends [`Command`]s, reads one [`CallSnapshot`] and
//! [`Event`]s, and takes the newest pictures from [`VideoSlot`]s. None of these calls wait.

mod audio_receive;
mod audio_send;
mod call;
mod cli_syntax;
mod clock_sync;
mod devices;
mod diagnostics;
mod error;
mod handle;
mod lip_sync;
mod media_watch;
mod meter;
mod network_watch;
mod paced;
mod peer_task;
mod power;
mod prepared_peer;
mod receive;
mod recipient;
mod route_events;
mod run_loop;
mod seat_file;
mod send;
mod shared;
mod snapshot;
mod stats;
mod sync_meter;
mod voice;

pub use cli_syntax::{CliSyntaxError, parse_size};
pub use handle::*;
pub use seat_file::SavedSeat;
pub use snapshot::*;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::run_loop::{REPORTS, RunLoop};
use crate::shared::Shared;

/// Target of the `tracing` events (level trace) that follow the media one by one, for diagnosis and
/// benchmarks: `picture` (decoded; `latency_ms` where a time code was read, `width`, `height`) and
/// `sound` (10 ms played; `level_dbfs`, RMS). They cost nothing while nobody subscribes.
pub const TRACE: &str = "visavis::trace";

/// Commands that wait for the loop; more are refused.
const COMMANDS: usize = 64;

/// A running engine. Dropping it hangs up, releases devices and ends its threads, which takes at
/// most about a second.
pub struct Engine {
    shared: Arc<Shared>,
    commands: Option<mpsc::Sender<Command>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Engine {
    /// Starts the engine's threads. Devices are opened when they are needed.
    ///
    /// # Errors
    ///
    /// The operating system refuses threads, or the display file cannot be written.
    pub fn start(config: EngineConfig) -> Result<Self, EngineError> {
        let shared = Arc::new(Shared::default());
        let (commands, command_queue) = mpsc::channel(COMMANDS);
        let (reports, report_queue) = mpsc::channel(REPORTS);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("network")
            .enable_all()
            .build()?;
        let run_loop = RunLoop::new(config, shared.clone(), reports)?;
        let thread = std::thread::Builder::new().name("engine".into()).spawn(move || {
            runtime.block_on(run_loop.run(command_queue, report_queue));
            // A device that hangs must not keep the program from ending.
            runtime.shutdown_timeout(Duration::from_millis(500));
        })?;
        Ok(Self { shared, commands: Some(commands), thread: Some(thread) })
    }

    /// Asks for something; `false` if the engine is too busy to take it (64 commands wait) or gone.
    pub fn send(&self, command: Command) -> bool {
        self.commands.as_ref().is_some_and(|commands| commands.try_send(command).is_ok())
    }

    /// The newest snapshot.
    pub fn snapshot(&self) -> Arc<CallSnapshot> {
        self.shared.snapshot()
    }

    /// The next unread event.
    pub fn poll_event(&self) -> Option<Event> {
        self.shared.poll_event()
    }

    /// Waits for an event, at most `timeout`; for programs without a window.
    pub fn wait_event(&self, timeout: Duration) -> Option<Event> {
        self.shared.wait_event(timeout)
    }

    /// Runs `wake` whenever the snapshot changed or an event is there (a window asks for a repaint).
    pub fn set_wake(&self, wake: impl Fn() + Send + Sync + 'static) {
        self.shared.set_wake(wake);
    }

    /// Newest picture of the other side.
    pub fn remote_video(&self) -> VideoSlot {
        self.shared.remote_video.clone()
    }

    /// Newest picture of the own camera (not mirrored).
    pub fn local_video(&self) -> VideoSlot {
        self.shared.local_video.clone()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Looks for all devices now; blocks for some tenths of a second. [`Command::RefreshDevices`] does
/// not.
pub fn list_devices() -> DeviceList {
    devices::list()
}
