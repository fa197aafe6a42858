//! One thread for one open device.
//!
//! A device is opened, used and closed on a thread of its own, so that a driver that blocks harms
//! nobody: opening has a deadline, and closing waits only a moment before it lets the thread go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::CaptureError;

/// How long opening a device may take. Some USB cameras need two seconds to wake.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long closing waits for the thread. Well-behaved devices are closed within 100 ms.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// The thread's view: whether it shall end.
#[derive(Clone)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub(crate) fn requested(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// A running device thread; dropping it stops the thread.
#[derive(Debug)]
pub(crate) struct Worker {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// Disconnects when the thread has released everything it held.
    ended: Receiver<()>,
}

impl Worker {
    /// Starts thread `name`, which runs `open` and, if that succeeds, `run` until `Stop` says so.
    ///
    /// Returns what `open` reports of the device.
    ///
    /// # Errors
    ///
    /// What `open` says; [`CaptureError::Unresponsive`] if it takes too long (the thread then ends
    /// by itself as soon as the driver lets it).
    pub(crate) fn start<D, I: Send + 'static>(
        name: &str,
        device: &str,
        open: impl FnOnce() -> Result<(D, I), CaptureError> + Send + 'static,
        run: impl FnOnce(D, &Stop) + Send + 'static,
    ) -> Result<(I, Self), CaptureError> {
        let stop = Arc::new(AtomicBool::new(false));
        let (opened_tx, opened) = sync_channel(1);
        let (ended_tx, ended) = sync_channel::<()>(1);
        let stop_view = Stop(stop.clone());
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                // Declared first, so dropped last: after the device.
                let _ended: SyncSender<()> = ended_tx;
                match open() {
                    Ok((device, info)) => {
                        // Nobody waits any more: close the device again.
                        if opened_tx.send(Ok(info)).is_ok() {
                            run(device, &stop_view);
                        }
                    }
                    Err(error) => {
                        // Whoever stopped waiting has had an error already.
                        let _ = opened_tx.send(Err(error));
                    }
                }
            })
            .map_err(|e| CaptureError::Failed {
                device: device.to_owned(),
                detail: format!("cannot start a thread: {e}"),
            })?;
        let worker = Self { stop, thread: Some(thread), ended };
        match opened.recv_timeout(OPEN_TIMEOUT) {
            Ok(Ok(info)) => Ok((info, worker)),
            Ok(Err(error)) => Err(error),
            Err(RecvTimeoutError::Timeout) => {
                Err(CaptureError::Unresponsive { device: device.to_owned(), waited: OPEN_TIMEOUT })
            }
            Err(RecvTimeoutError::Disconnected) => Err(CaptureError::Failed {
                device: device.to_owned(),
                detail: "its driver interface panicked".to_owned(),
            }),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let Some(thread) = self.thread.take() else { return };
        thread.thread().unpark();
        // Dropped by its own callback: it cannot wait for itself, and ends right after.
        if thread.thread().id() == std::thread::current().id() {
            return;
        }
        match self.ended.recv_timeout(CLOSE_TIMEOUT) {
            Err(RecvTimeoutError::Timeout) => {
                tracing::warn!(
                    thread = thread.thread().name(),
                    "a device does not close; left to itself"
                );
            }
            _ => {
                if thread.join().is_err() {
                    tracing::error!("a device thread panicked");
                }
            }
        }
    }
}

/// Runs `list` on a thread of its own and gives up on it after `limit`: a driver that hangs while
/// it is asked must not hang the program.
pub(crate) fn list_within<T: Send + 'static>(
    limit: Duration,
    list: impl FnOnce() -> Vec<T> + Send + 'static,
) -> Vec<T> {
    let (tx, rx) = sync_channel(1);
    let spawned = std::thread::Builder::new().name("list devices".to_owned()).spawn(move || {
        // The receiver is gone if the limit has passed.
        let _ = tx.send(list());
    });
    if let Err(error) = spawned {
        tracing::warn!(%error, "cannot start a thread to list devices");
        return Vec::new();
    }
    rx.recv_timeout(limit).unwrap_or_else(|error| {
        tracing::warn!(%error, "listing devices took too long or failed");
        Vec::new()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Instant;

    use super::*;

    #[test]
    fn dropping_ends_the_thread_and_releases_the_device() {
        let device = Arc::new(());
        let held = device.clone();
        let ((), worker) = Worker::start(
            "test device",
            "test",
            move || Ok((held, ())),
            |_device, stop| {
                while !stop.requested() {
                    std::thread::park_timeout(Duration::from_secs(10));
                }
            },
        )
        .unwrap();
        let before = Instant::now();
        drop(worker);
        assert_eq!(Arc::strong_count(&device), 1);
        assert!(before.elapsed() < Duration::from_millis(200));
    }

    #[test]
    fn a_failed_open_reports_its_error() {
        let error = CaptureError::Gone { device: "x".to_owned() };
        let expected = error.clone();
        let result = Worker::start::<(), ()>("test device", "x", || Err(error), |(), _| {});
        assert_eq!(result.err(), Some(expected));
    }

    #[test]
    fn a_device_that_never_closes_does_not_block_the_caller() {
        let (_keep, never) = sync_channel::<()>(1);
        let ((), worker) = Worker::start(
            "test device",
            "x",
            || Ok(((), ())),
            move |(), _| {
                let _ = never.recv();
            },
        )
        .unwrap();
        let before = Instant::now();
        drop(worker);
        assert!(before.elapsed() < CLOSE_TIMEOUT + Duration::from_millis(500));
    }

    #[test]
    fn a_list_that_hangs_is_given_up() {
        let (_keep, never) = sync_channel::<()>(1);
        let listed = list_within(Duration::from_millis(20), move || {
            let _ = never.recv();
            vec![1]
        });
        assert!(listed.is_empty());
    }
}
