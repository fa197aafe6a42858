//! The engine of a call: the only place where signaling, session logic, WebRTC, codecs and devices meet.
//!
//! A user interface holds an [`Engine`]: it sends [`Command`]s, reads one [`CallSnapshot`] and
//! [`Event`]s, and takes the newest pictures from [`VideoSlot`]s. None of these calls wait.

mod handle;
mod snapshot;

pub use handle::*;
pub use snapshot::*;

use std::sync::Arc;
use std::time::Duration;

/// A running engine. Dropping it hangs up, releases devices and ends its threads.
pub struct Engine {}

impl Engine {
    /// Starts the engine's threads.
    pub fn start(config: EngineConfig) -> Result<Self, EngineError> {
        let _ = config;
        Ok(Self {})
    }

    /// Asks for something; `false` if the engine is too busy to take it (64 commands wait) or gone.
    pub fn send(&self, command: Command) -> bool {
        let _ = command;
        false
    }

    /// The newest snapshot.
    pub fn snapshot(&self) -> Arc<CallSnapshot> {
        Arc::default()
    }

    /// The next unread event.
    pub fn poll_event(&self) -> Option<Event> {
        None
    }

    /// Waits for an event, at most `timeout`; for programs without a window.
    pub fn wait_event(&self, timeout: Duration) -> Option<Event> {
        let _ = timeout;
        None
    }

    /// Runs `wake` whenever the snapshot changed or an event is there (a window asks for a repaint).
    pub fn set_wake(&self, wake: impl Fn() + Send + Sync + 'static) {
        let _ = wake;
    }

    /// Newest picture of the other side.
    pub fn remote_video(&self) -> VideoSlot {
        VideoSlot::default()
    }

    /// Newest picture of the own camera (not mirrored).
    pub fn local_video(&self) -> VideoSlot {
        VideoSlot::default()
    }
}
