//! What can go wrong with a device, in words a person can act on.

use std::time::Duration;

use crate::DeviceKind;

/// Why a device could not be opened, or why its capture or playback ended by itself.
///
/// The texts are fit to be shown: they say what happened and what to do. `device` is the device's
/// name where it is known, else its id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// The machine has no device of this kind.
    #[error("no {0} was found: connect one, or carry on without it")]
    NoDevice(DeviceKind),
    /// Another program has the device.
    #[error("{device} is used by another program: close it there and try again")]
    Busy {
        /// Which device.
        device: String,
    },
    /// The operating system refuses access.
    #[error("access to {device} was refused: {advice}")]
    PermissionDenied {
        /// Which device.
        device: String,
        /// What a person can do about it on this system.
        advice: &'static str,
    },
    /// The device does not exist, or was unplugged.
    #[error("{device} is not connected any more: plug it in again or choose another")]
    Gone {
        /// Which device.
        device: String,
    },
    /// The device offers nothing that can be used.
    #[error("{device} offers no usable format: choose another device")]
    NoUsableFormat {
        /// Which device.
        device: String,
    },
    /// The device did not answer in time.
    #[error("{device} does not respond (waited {waited:?}): unplug it and plug it in again")]
    Unresponsive {
        /// Which device.
        device: String,
        /// How long it had.
        waited: Duration,
    },
    /// Anything else that the operating system reports.
    #[error("{device} failed: {detail}")]
    Failed {
        /// Which device.
        device: String,
        /// The system's own words.
        detail: String,
    },
}

impl CaptureError {
    /// Sorts an error of the operating system by its kind.
    #[cfg(target_os = "linux")]
    pub(crate) fn from_io(device: &str, doing: &str, error: &std::io::Error) -> Self {
        let device = device.to_owned();
        match error.raw_os_error() {
            Some(libc::EBUSY) => Self::Busy { device },
            Some(libc::EACCES | libc::EPERM) => Self::PermissionDenied {
                device,
                advice: "add yourself to the group \"video\" and log in again",
            },
            Some(libc::ENODEV | libc::ENOENT | libc::ENXIO) => Self::Gone { device },
            _ => Self::Failed { device, detail: format!("{doing}: {error}") },
        }
    }
}
