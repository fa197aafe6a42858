//! Names of devices, and the lists of them. Any thread; listing blocks for as long as it says.

use std::fmt;
use std::time::Duration;

use crate::worker::list_within;

/// How long a list may take before it is given up and comes back empty.
const LIST_TIMEOUT: Duration = Duration::from_secs(10);

/// A device's identity: stays the same when the program or the machine starts again, and when the
/// device is plugged into the same socket again. Opaque, made by this crate, fit for a
/// configuration file or a command line.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceId(String);

impl DeviceId {
    /// From the text of an id that a list gave out earlier. Whether such a device is there is
    /// known when it is opened.
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Cameras, microphones and speakers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeviceKind {
    /// Delivers pictures.
    Camera,
    /// Delivers sound.
    Microphone,
    /// Plays sound.
    Speaker,
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Camera => "camera",
            Self::Microphone => "microphone",
            Self::Speaker => "speaker",
        })
    }
}

/// One line of a device list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// What to open it by.
    pub id: DeviceId,
    /// What to call it before people.
    pub name: String,
    /// Whether it is the one that opening without an id takes. At most one in a list.
    pub default: bool,
}

/// Cameras that can be captured from: no metadata or output nodes, none twice.
///
/// Blocks for some 10 ms, with sleeping USB cameras for a second, never for more than ten:
/// not for the thread that draws. Never panics; a machine without cameras has an empty list.
pub fn list_cameras() -> Vec<DeviceInfo> {
    list_within(LIST_TIMEOUT, crate::camera::list)
}

/// Microphones: what the sound server offers, or else the cards. Blocks like [`list_cameras`].
pub fn list_microphones() -> Vec<DeviceInfo> {
    list_within(LIST_TIMEOUT, || crate::audio::list(DeviceKind::Microphone))
}

/// Speakers: what the sound server offers, or else the cards. Blocks like [`list_cameras`].
pub fn list_speakers() -> Vec<DeviceInfo> {
    list_within(LIST_TIMEOUT, || crate::audio::list(DeviceKind::Speaker))
}

/// Names of one list that occur twice get a number, so that a person can tell them apart.
pub(crate) fn number_equal_names(devices: &mut [DeviceInfo]) {
    for i in 0..devices.len() {
        let name = devices[i].name.clone();
        let mut count = 1;
        for other in &mut devices[i + 1..] {
            if other.name == name {
                count += 1;
                other.name = format!("{name} ({count})");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_do_not_panic_without_devices() {
        for list in [list_cameras(), list_microphones(), list_speakers()] {
            assert!(list.iter().filter(|d| d.default).count() <= 1);
            let mut ids: Vec<_> = list.iter().map(|d| &d.id).collect();
            ids.sort();
            ids.dedup();
            assert_eq!(ids.len(), list.len(), "an id occurs twice: {list:?}");
        }
    }

    #[test]
    fn equal_names_are_numbered() {
        let device = |id: &str| DeviceInfo {
            id: DeviceId::new(id),
            name: "HD Camera".to_owned(),
            default: false,
        };
        let mut list = [device("a"), device("b"), device("c")];
        number_equal_names(&mut list);
        let names: Vec<_> = list.iter().map(|d| d.name.as_str()).collect();
        assert_eq!(names, ["HD Camera", "HD Camera (2)", "HD Camera (3)"]);
    }
}
