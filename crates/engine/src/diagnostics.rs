//! What an engineer may want to read afterwards: the event log and one point a second.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::{HistoryPoint, LogEntry};

const MAX_LOG: usize = 500;
const MAX_HISTORY: usize = 120;

/// The event log of one call (or of the lobby).
pub(crate) struct Log {
    start: Instant,
    /// Snapshots share them until another is added.
    entries: Arc<VecDeque<LogEntry>>,
}

impl Default for Log {
    fn default() -> Self {
        Self { start: Instant::now(), entries: Arc::default() }
    }
}

impl Log {
    pub(crate) fn add(&mut self, topic: &'static str, text: String) {
        tracing::debug!(topic, text);
        let entries = Arc::make_mut(&mut self.entries);
        if entries.len() == MAX_LOG {
            entries.pop_front();
        }
        entries.push_back(LogEntry { at: self.start.elapsed(), topic, text });
    }

    pub(crate) fn entries(&self) -> Arc<VecDeque<LogEntry>> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_is_shared_until_something_is_added_and_keeps_the_newest() {
        let mut log = Log::default();
        log.add("call", "0".into());
        let (first, second) = (log.entries(), log.entries());
        assert!(Arc::ptr_eq(&first, &second));
        for n in 1..=MAX_LOG {
            log.add("call", n.to_string());
        }
        assert_eq!((first.len(), log.entries().len()), (1, MAX_LOG));
        assert_eq!(log.entries().back().map(|e| e.text.clone()), Some(MAX_LOG.to_string()));
        assert_eq!(log.entries().front().map(|e| e.text.clone()), Some("1".into()));
    }
}
