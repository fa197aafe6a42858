//! What the sound system complains of while a stream runs: counted, borne, or the device's end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::Thread;
use std::time::{Duration, Instant};

use cpal::ErrorKind;

use super::Counters;

/// How long a stream may stand still after an error that need not be its end.
///
/// ALSA's way to PulseAudio fails with `EIO` when it is asked for the delay before the server has
/// told it (`pulse_delay` compares the error's sign wrongly); a moment later all is well.
const GRACE: Duration = Duration::from_millis(500);

/// A stream's errors, on the device's thread.
pub(super) struct Complaints {
    errors: Receiver<cpal::Error>,
    counters: Arc<Counters>,
    doubt: Option<Doubt>,
}

/// An error that may pass.
struct Doubt {
    error: cpal::Error,
    since: Instant,
    /// How many blocks had been moved by then.
    blocks: u64,
}

impl Complaints {
    /// These, and what the stream is to call with each error: it wakes the device's thread if it
    /// has to look.
    pub(super) fn new(
        counters: Arc<Counters>,
        thread: Thread,
    ) -> (Self, impl FnMut(cpal::Error) + Send + Clone + 'static) {
        // One error is enough to look; further ones say nothing new.
        let (tx, errors) = sync_channel(1);
        let counts = counters.clone();
        let callback = move |error: cpal::Error| match error.kind() {
            ErrorKind::Xrun => {
                counts.xruns.fetch_add(1, Ordering::Relaxed);
            }
            ErrorKind::DeviceChanged | ErrorKind::RealtimeDenied => {}
            _ => {
                let _ = tx.try_send(error);
                thread.unpark();
            }
        };
        (Self { errors, counters, doubt: None }, callback)
    }

    /// The error that ends the device, once there is one. To be asked again and again.
    pub(super) fn fatal(&mut self, now: Instant) -> Option<cpal::Error> {
        let blocks = self.counters.blocks.load(Ordering::Relaxed);
        if let Ok(error) = self.errors.try_recv() {
            if !may_pass(error.kind()) {
                return Some(error);
            }
            self.doubt.get_or_insert(Doubt { error, since: now, blocks });
        }
        let doubt = self.doubt.take()?;
        if blocks > doubt.blocks {
            tracing::debug!(error = %doubt.error, "the sound goes on after an error");
        } else if now.saturating_duration_since(doubt.since) < GRACE {
            self.doubt = Some(doubt);
        } else {
            return Some(doubt.error);
        }
        None
    }
}

/// Whether the stream may go on after an error of this kind: the sound system itself did not say
/// that it is over.
fn may_pass(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::BackendError | ErrorKind::DeviceBusy)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Watches errors, and the time of its beginning.
    fn watched() -> (Complaints, impl FnMut(cpal::Error), Arc<Counters>, Instant) {
        let counters = Arc::new(Counters::default());
        let (complaints, on_error) = Complaints::new(counters.clone(), std::thread::current());
        (complaints, on_error, counters, Instant::now())
    }

    fn io_error() -> cpal::Error {
        cpal::Error::with_message(ErrorKind::BackendError, "I/O error")
    }

    #[test]
    fn a_stream_that_goes_on_after_an_error_is_kept() {
        let (mut complaints, mut on_error, counters, start) = watched();
        for block in 0..10_u32 {
            on_error(io_error());
            let at = start + block * GRACE;
            assert!(complaints.fatal(at).is_none());
            counters.blocks.fetch_add(1, Ordering::Relaxed);
            assert!(complaints.fatal(at + GRACE).is_none());
        }
        assert!(complaints.fatal(start + 100 * GRACE).is_none());
    }

    #[test]
    fn a_stream_that_stands_still_after_an_error_is_over() {
        let (mut complaints, mut on_error, _, start) = watched();
        on_error(io_error());
        assert!(complaints.fatal(start).is_none());
        on_error(io_error());
        assert!(complaints.fatal(start + GRACE / 2).is_none());
        let error = complaints.fatal(start + GRACE);
        assert_eq!(error.map(|e| e.kind()), Some(ErrorKind::BackendError));
    }

    #[test]
    fn a_device_that_is_gone_is_so_at_once_and_what_is_only_counted_ends_nothing() {
        let (mut complaints, mut on_error, counters, start) = watched();
        on_error(cpal::Error::from(ErrorKind::Xrun));
        on_error(cpal::Error::from(ErrorKind::DeviceChanged));
        assert!(complaints.fatal(start + 2 * GRACE).is_none());
        assert_eq!(counters.read().xruns, 1);
        on_error(cpal::Error::from(ErrorKind::DeviceNotAvailable));
        let error = complaints.fatal(start);
        assert_eq!(error.map(|e| e.kind()), Some(ErrorKind::DeviceNotAvailable));
    }
}
