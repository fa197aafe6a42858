//! Hot-plug: notices that devices came or went. Thread "device watch".

use std::time::Duration;

use crate::CaptureError;
use crate::worker::Worker;

/// Often enough that a person who plugs a camera in does not start to look for a button.
const INTERVAL: Duration = Duration::from_secs(1);

/// Calls back when the set of devices may have changed; ends when dropped.
///
/// Cheap: on Linux it reads the names of the device nodes and sound cards and the age of the sound
/// server, and opens nothing. A headset over Bluetooth, which the sound server alone knows of, is
/// therefore not noticed. What has changed is for the lists to say ([`crate::list_cameras`]).
#[derive(Debug)]
pub struct DeviceWatcher {
    _worker: Worker,
}

impl DeviceWatcher {
    /// Starts to watch. `changed` is called on the watcher's thread.
    ///
    /// # Errors
    ///
    /// [`CaptureError::Failed`] if there can be no more threads.
    pub fn start(changed: impl FnMut() + Send + 'static) -> Result<Self, CaptureError> {
        Self::with(INTERVAL, fingerprint, changed)
    }

    fn with<F: PartialEq + 'static>(
        interval: Duration,
        fingerprint: impl Fn() -> F + Send + 'static,
        mut changed: impl FnMut() + Send + 'static,
    ) -> Result<Self, CaptureError> {
        let ((), worker) = Worker::start(
            "device watch",
            "the device watcher",
            || Ok(((), ())),
            move |(), stop| {
                let mut last = fingerprint();
                loop {
                    std::thread::park_timeout(interval);
                    if stop.requested() {
                        return;
                    }
                    let now = fingerprint();
                    if now != last {
                        last = now;
                        changed();
                    }
                }
            },
        )?;
        Ok(Self { _worker: worker })
    }
}

/// Something that differs when devices differ.
#[cfg(target_os = "linux")]
fn fingerprint() -> (Vec<std::ffi::OsString>, String, Option<std::time::SystemTime>) {
    let mut nodes: Vec<_> = std::fs::read_dir("/dev")
        .map(|entries| {
            entries
                .flatten()
                .map(|entry| entry.file_name())
                .filter(|name| name.as_encoded_bytes().starts_with(b"video"))
                .collect()
        })
        .unwrap_or_default();
    nodes.sort();
    let cards = std::fs::read_to_string("/proc/asound/cards").unwrap_or_default();
    // A sound server that starts makes its socket anew.
    let server = std::env::var_os("XDG_RUNTIME_DIR")
        .map(|folder| std::path::Path::new(&folder).join("pulse/native"))
        .and_then(|socket| socket.metadata().ok()?.modified().ok());
    (nodes, cards, server)
}

/// Something that differs when devices differ.
#[cfg(not(target_os = "linux"))]
fn fingerprint() -> Vec<crate::DeviceId> {
    [crate::list_cameras(), crate::list_microphones(), crate::list_speakers()]
        .into_iter()
        .flatten()
        .map(|device| device.id)
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::mpsc::sync_channel;

    use super::*;

    #[test]
    fn a_change_is_reported_once() {
        let devices = Arc::new(AtomicU32::new(1));
        let (tx, rx) = sync_channel(8);
        let (asked_tx, asked) = sync_channel(0);
        let seen = devices.clone();
        let watcher = DeviceWatcher::with(
            Duration::from_millis(1),
            move || {
                let now = seen.load(Ordering::SeqCst);
                let _ = asked_tx.send(());
                now
            },
            move || {
                let _ = tx.send(());
            },
        )
        .unwrap();
        asked.recv().unwrap();
        devices.store(2, Ordering::SeqCst);
        // The value may be read just before or just after the change; two more looks see it.
        for _ in 0..3 {
            asked.recv().unwrap();
        }
        rx.recv_timeout(Duration::from_secs(5)).unwrap();
        asked.recv().unwrap();
        assert!(rx.try_recv().is_err());
        drop(asked);
        drop(watcher);
    }

    #[test]
    fn the_machine_can_be_watched() {
        assert!(fingerprint() == fingerprint());
        drop(DeviceWatcher::start(|| {}).unwrap());
    }
}
