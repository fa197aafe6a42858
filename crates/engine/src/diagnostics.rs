//! What an engineer may want to read afterwards: the event log and one point a second.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::{HistoryPoint, LogEntry};

const MAX_LOG: usize = 500;
const MAX_HISTORY: usize = 120;

/// The event log of one call (or of the lobby).
pub(crate) struct Log {
    start: Instant,
    entries: VecDeque<LogEntry>,
}

impl Default for Log {
    fn default() -> Self {
        Self { start: Instant::now(), entries: VecDeque::new() }
    }
}

impl Log {
    pub(crate) fn add(&mut self, topic: &'static str, text: String) {
        tracing::debug!(topic, text);
        if self.entries.len() == MAX_LOG {
            self.entries.pop_front();
        }
        self.entries.push_back(LogEntry { at: self.start.elapsed(), topic, text });
    }

    pub(crate) fn entries(&self) -> VecDeque<LogEntry> {
        self.entries.clone()
    }
}

/// A point a second.
pub(crate) struct History {
    next: Instant,
    points: VecDeque<HistoryPoint>,
}

impl History {
    pub(crate) fn new(start: Instant) -> Self {
        Self { next: start + Duration::from_secs(1), points: VecDeque::new() }
    }

    /// Whether a second has passed.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        let due = now >= self.next;
        if due {
            self.next = now.max(self.next + Duration::from_secs(1));
        }
        due
    }

    pub(crate) fn add(&mut self, point: HistoryPoint) {
        if self.points.len() == MAX_HISTORY {
            self.points.pop_front();
        }
        self.points.push_back(point);
    }

    pub(crate) fn points(&self) -> VecDeque<HistoryPoint> {
        self.points.clone()
    }
}
