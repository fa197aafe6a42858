//! What the handle and the engine's threads share. Locks are held for moments only.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use visavis_media::VideoFrame;

use crate::{CallSnapshot, Event, VideoSlot};

/// Unread events kept; the oldest is dropped beyond that.
const MAX_EVENTS: usize = 256;

type Wake = Arc<dyn Fn() + Send + Sync>;

/// Locks even if another thread panicked while holding it: all states are valid at any time.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// State that a user interface reads.
#[derive(Default)]
pub(crate) struct Shared {
    snapshot: Mutex<Arc<CallSnapshot>>,
    events: Mutex<VecDeque<Event>>,
    event_ready: Condvar,
    wake: Mutex<Option<Wake>>,
    pub(crate) remote_video: VideoSlot,
    pub(crate) local_video: VideoSlot,
}

impl Shared {
    pub(crate) fn snapshot(&self) -> Arc<CallSnapshot> {
        lock(&self.snapshot).clone()
    }

    /// Wakes nobody for what is known already.
    pub(crate) fn publish(&self, snapshot: &CallSnapshot) {
        {
            let mut published = lock(&self.snapshot);
            if **published == *snapshot {
                return;
            }
            *published = Arc::new(snapshot.clone());
        }
        self.wake();
    }

    pub(crate) fn push_event(&self, event: Event) {
        {
            let mut events = lock(&self.events);
            if events.len() == MAX_EVENTS {
                events.pop_front();
            }
            events.push_back(event);
        }
        self.event_ready.notify_all();
        self.wake();
    }

    pub(crate) fn poll_event(&self) -> Option<Event> {
        lock(&self.events).pop_front()
    }

    pub(crate) fn wait_event(&self, timeout: Duration) -> Option<Event> {
        let deadline = Instant::now() + timeout;
        let mut events = lock(&self.events);
        loop {
            if let Some(event) = events.pop_front() {
                return Some(event);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            events = self
                .event_ready
                .wait_timeout(events, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    pub(crate) fn set_wake(&self, wake: impl Fn() + Send + Sync + 'static) {
        *lock(&self.wake) = Some(Arc::new(wake));
    }

    fn wake(&self) {
        let wake = lock(&self.wake).clone();
        if let Some(wake) = wake {
            wake();
        }
    }
}

/// The newest picture on its way to the encoder; an older one is dropped (and counted) when a
/// newer arrives first.
#[derive(Default)]
pub(crate) struct FrameSlot {
    state: Mutex<FrameSlotState>,
    ready: Condvar,
}

#[derive(Default)]
struct FrameSlotState {
    frame: Option<VideoFrame>,
    closed: bool,
    dropped: u64,
}

/// What waiting for a picture gave.
pub(crate) enum Taken {
    Frame(VideoFrame),
    /// None came in time.
    Nothing,
    /// None will come.
    Closed,
}

impl FrameSlot {
    pub(crate) fn put(&self, frame: VideoFrame) {
        let mut state = lock(&self.state);
        if state.frame.replace(frame).is_some() {
            state.dropped += 1;
        }
        self.ready.notify_one();
    }

    /// Waits for a picture, no longer than `limit` if there is one.
    pub(crate) fn take(&self, limit: Option<Duration>) -> Taken {
        let mut state = lock(&self.state);
        loop {
            if state.closed {
                return Taken::Closed;
            }
            if let Some(frame) = state.frame.take() {
                return Taken::Frame(frame);
            }
            state = match limit {
                None => self.ready.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(limit) => {
                    let waited = self.ready.wait_timeout(state, limit);
                    let (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                    if timeout.timed_out() && state.frame.is_none() && !state.closed {
                        return Taken::Nothing;
                    }
                    state
                }
            };
        }
    }

    pub(crate) fn close(&self) {
        lock(&self.state).closed = true;
        self.ready.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::Phase;

    #[test]
    fn what_is_known_already_wakes_nobody() {
        let (shared, wakes) = (Shared::default(), Arc::new(AtomicU32::new(0)));
        let counted = wakes.clone();
        shared.set_wake(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        shared.publish(&CallSnapshot::default());
        assert_eq!(wakes.load(Ordering::Relaxed), 0);
        let news = CallSnapshot { phase: Phase::Joining, ..Default::default() };
        for _ in 0..2 {
            shared.publish(&news);
            assert_eq!(wakes.load(Ordering::Relaxed), 1);
        }
        assert_eq!(shared.snapshot().phase, Phase::Joining);
    }
}
