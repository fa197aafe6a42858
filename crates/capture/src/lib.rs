//! Cameras, microphones and speakers of the machine, and nothing above them.
//!
//! Each open device has one named thread, which opens it, uses it, calls back with its data and
//! closes it: callers neither wait for a driver nor are harmed by one that hangs. Pictures leave as
//! I420, sound as 10 ms blocks of 48 kHz mono; both carry the time of their capture on a clock that
//! the caller gives.
//!
//! On Linux cameras are V4L2 and sound is PulseAudio (or PipeWire, which speaks its protocol) or
//! ALSA; elsewhere the system's own interfaces, through `nokhwa` and `cpal`.

mod audio;
mod camera;
mod device;
mod error;
mod watch;
mod worker;

use visavis_media::MediaTime;

pub use audio::{AudioDeviceFormat, AudioStats, Microphone, Speaker};
pub use camera::{Camera, CameraFormatInfo, CameraRequest};
pub use device::{DeviceId, DeviceInfo, DeviceKind, list_cameras, list_microphones, list_speakers};
pub use error::CaptureError;
pub use watch::DeviceWatcher;

/// The clock that captured pictures and sound are stamped on; called from device threads.
pub type Clock = std::sync::Arc<dyn Fn() -> MediaTime + Send + Sync>;

/// What is called, at most once and from the device's thread, when an open device ends by itself:
/// unplugged, taken away, failed. Not called when the owner drops it. It may drop the device.
pub type OnEnd = Box<dyn FnOnce(CaptureError) + Send>;
