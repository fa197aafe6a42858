//! The numbered messages of one seat: kept until they are known to have arrived, so that a resume
//! goes on exactly where the old WebSocket stopped.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use visavis_signaling_protocol::ServerMessage;
use visavis_signaling_protocol::limits::{BACKLOG_BYTES, BACKLOG_MESSAGES};

/// Bounded by [`BACKLOG_MESSAGES`] and [`BACKLOG_BYTES`]; the oldest message is dropped beyond that.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    queue: VecDeque<(ServerMessage, usize)>,
    bytes: usize,
    /// Number of the first message of the queue; the session's first message has number 0.
    first: u64,
    /// Messages below this number were handed to a WebSocket.
    handed: u64,
    /// What all backlogs and outboxes of the server keep, this one's part included.
    kept: Arc<AtomicUsize>,
}

impl Drop for Backlog {
    fn drop(&mut self) {
        self.kept.fetch_sub(self.weight(), Ordering::Relaxed);
    }
}

/// What a message takes in memory besides its own bytes, at most.
pub(crate) const MESSAGE_OVERHEAD_BYTES: usize = 512;

impl Backlog {
    /// An empty one that counts in `kept`.
    pub(super) fn counted_in(kept: &Arc<AtomicUsize>) -> Self {
        let kept = Arc::clone(kept);
        Self { queue: VecDeque::new(), bytes: 0, first: 0, handed: 0, kept }
    }

    /// Bytes of memory, about.
    pub(super) fn weight(&self) -> usize {
        self.bytes + self.queue.len() * MESSAGE_OVERHEAD_BYTES
    }

    /// Forgets everything, for want of memory.
    pub(super) fn clear(&mut self) {
        while !self.queue.is_empty() {
            self.pop();
        }
    }

    /// Number of the next message.
    fn next(&self) -> u64 {
        self.first + self.queue.len() as u64
    }

    /// Keeps `message` of about `bytes` bytes; `handed` if it is sent at the same time.
    pub(super) fn push(&mut self, message: ServerMessage, bytes: usize, handed: bool) {
        self.queue.push_back((message, bytes));
        self.bytes += bytes;
        self.kept.fetch_add(bytes + MESSAGE_OVERHEAD_BYTES, Ordering::Relaxed);
        if handed {
            self.handed = self.next();
        }
        while self.queue.len() > BACKLOG_MESSAGES || self.bytes > BACKLOG_BYTES {
            self.pop();
        }
    }

    /// Forgets the first `received` messages of the session: they have arrived.
    pub(super) fn forget(&mut self, received: u64) {
        while self.first < received && !self.queue.is_empty() {
            self.pop();
        }
    }

    /// Forgets what was handed to a WebSocket, for a client that does not count.
    pub(super) fn forget_handed(&mut self) {
        self.forget(self.handed);
    }

    /// The session is back, having `received` so many messages, or not counting them. Where
    /// messages were dropped for want of room, those left are numbered as its client will count them.
    pub(super) fn resume(&mut self, received: Option<u64>) {
        match received {
            Some(received) => {
                self.forget(received);
                self.first = self.first.min(received);
            }
            None => self.forget_handed(),
        }
    }

    /// All that is kept, now handed to a WebSocket.
    pub(super) fn replay(&mut self) -> impl Iterator<Item = &(ServerMessage, usize)> {
        self.handed = self.next();
        self.queue.iter()
    }

    fn pop(&mut self) {
        if let Some((_, bytes)) = self.queue.pop_front() {
            self.bytes -= bytes;
            self.kept.fetch_sub(bytes + MESSAGE_OVERHEAD_BYTES, Ordering::Relaxed);
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(number: usize) -> ServerMessage {
        ServerMessage::Error {
            code: visavis_signaling_protocol::ErrorCode::NoSuchPeer,
            message: number.to_string(),
        }
    }

    fn kept_messages(backlog: &mut Backlog) -> Vec<String> {
        backlog
            .replay()
            .map(|(message, _)| match message {
                ServerMessage::Error { message, .. } => message.clone(),
                other => format!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn what_has_arrived_is_forgotten_and_the_rest_is_replayed() {
        let mut backlog = Backlog::default();
        for number in 0..5 {
            backlog.push(message(number), 10, number < 3);
        }
        backlog.forget(2);
        assert_eq!(kept_messages(&mut backlog), ["2", "3", "4"]);
        backlog.forget(u64::MAX);
        assert!(kept_messages(&mut backlog).is_empty());
        backlog.push(message(5), 10, true);
        backlog.forget(5);
        assert_eq!(kept_messages(&mut backlog), ["5"]);
    }

    #[test]
    fn a_client_that_does_not_count_gets_what_was_never_sent() {
        let mut backlog = Backlog::default();
        backlog.push(message(0), 10, true);
        backlog.push(message(1), 10, false);
        backlog.forget_handed();
        assert_eq!(kept_messages(&mut backlog), ["1"]);
    }

    #[test]
    fn numbers_fit_the_clients_count_after_a_gap() {
        let mut backlog = Backlog::default();
        for number in 0..BACKLOG_MESSAGES + 10 {
            backlog.push(message(number), 1, false);
        }
        // It had 4; 4 to 9 are lost; it counts 10 as its fifth.
        backlog.resume(Some(4));
        assert_eq!(kept_messages(&mut backlog).first().map(String::as_str), Some("10"));
        backlog.forget(5);
        assert_eq!(kept_messages(&mut backlog).first().map(String::as_str), Some("11"));
    }

    #[test]
    fn what_is_kept_is_counted_until_it_is_gone() {
        let kept = Arc::new(AtomicUsize::new(0));
        let mut backlog = Backlog::counted_in(&kept);
        for number in 0..BACKLOG_MESSAGES + 3 {
            backlog.push(message(number), 1000, false);
        }
        let full = BACKLOG_MESSAGES * (1000 + MESSAGE_OVERHEAD_BYTES);
        assert_eq!(kept.load(Ordering::Relaxed), full);
        backlog.forget(100);
        assert_eq!(kept.load(Ordering::Relaxed), backlog.weight());
        backlog.clear();
        assert_eq!(kept.load(Ordering::Relaxed), 0);
        // As if they had been dropped for want of room in the backlog itself.
        backlog.push(message(7), 1, false);
        backlog.resume(Some(4));
        assert_eq!(kept_messages(&mut backlog), ["7"]);
        drop(backlog);
        assert_eq!(kept.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn the_oldest_goes_when_there_are_too_many_or_they_are_too_large() {
        let mut backlog = Backlog::default();
        for number in 0..BACKLOG_MESSAGES + 3 {
            backlog.push(message(number), 1, false);
        }
        assert_eq!(kept_messages(&mut backlog).first().map(String::as_str), Some("3"));
        assert_eq!(kept_messages(&mut backlog).len(), BACKLOG_MESSAGES);
        backlog.push(message(9), BACKLOG_BYTES, false);
        assert_eq!(kept_messages(&mut backlog), ["9"]);
    }
}
