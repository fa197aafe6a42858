//! Cameras of Linux: which nodes are cameras, what they offer, and opening them.
//!
//! Directly on V4L2 rather than through `nokhwa`, whose Linux part waits for a picture without
//! limit, refuses rates such as 30000/1001, and loses the driver's error numbers and time stamps
//! (`docs/decisions/0004-devices.md`).

mod io;
mod videodev2;

use std::path::{Path, PathBuf};
use std::time::Duration;

use visavis_media::convert::CameraFormat;

use self::io::{Node, Stream};
use super::format::{Mode, Wanted, choose, larger};
use super::{CameraFormatInfo, RawFrame};
use crate::device::number_equal_names;
use crate::{CaptureError, DeviceId, DeviceInfo, DeviceKind};

/// Formats that are understood, with their V4L2 codes.
///
/// Of equal modes the earlier is taken: the one that moves fewer bytes.
const FORMATS: [(CameraFormat, u32); 5] = [
    (CameraFormat::I420, u32::from_le_bytes(*b"YU12")),
    (CameraFormat::Nv12, u32::from_le_bytes(*b"NV12")),
    (CameraFormat::Yuyv, u32::from_le_bytes(*b"YUYV")),
    (CameraFormat::Uyvy, u32::from_le_bytes(*b"UYVY")),
    (CameraFormat::Mjpeg, u32::from_le_bytes(*b"MJPG")),
];

/// A node that is a camera.
struct Found {
    path: PathBuf,
    id: DeviceId,
    name: String,
}

/// See [`crate::list_cameras`].
pub(crate) fn list() -> Vec<DeviceInfo> {
    let mut devices: Vec<_> = find()
        .into_iter()
        .enumerate()
        .map(|(i, found)| DeviceInfo { id: found.id, name: found.name, default: i == 0 })
        .collect();
    number_equal_names(&mut devices);
    devices
}

/// All cameras in the order of their numbers.
fn find() -> Vec<Found> {
    let Ok(entries) = std::fs::read_dir("/dev") else { return Vec::new() };
    let mut nodes: Vec<(u32, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.strip_prefix("video")?.parse().ok()?;
            Some((number, entry.path()))
        })
        .collect();
    nodes.sort();
    let mut found: Vec<Found> = Vec::new();
    for (number, path) in nodes {
        let Some(camera) = probe(number, path) else { continue };
        // A second node of the same id would be the same camera once more.
        if found.iter().all(|f| f.id != camera.id) {
            found.push(camera);
        }
    }
    found
}

/// What the node is, or `None` if it is no camera.
fn probe(number: u32, path: PathBuf) -> Option<Found> {
    let sysfs = Path::new("/sys/class/video4linux").join(format!("video{number}"));
    let attribute =
        |name: &str| std::fs::read_to_string(sysfs.join(name)).ok().map(|s| s.trim().to_owned());
    // Position among the nodes of one piece of hardware; pictures are usually on the first.
    let index: u32 = attribute("index").and_then(|s| s.parse().ok()).unwrap_or(0);
    let id = |bus: &str| {
        DeviceId::new(if index == 0 { bus.to_owned() } else { format!("{bus}#{index}") })
    };
    match Node::open(&path) {
        Ok(node) => {
            let capability = node.capability().ok()?;
            if !capability.captures_video || FORMATS.iter().all(|&(_, code)| !node.offers(code)) {
                return None;
            }
            Some(Found { path, id: id(&capability.bus), name: capability.card })
        }
        // It cannot be asked what it is. If it looks like a camera, show it: opening then says
        // why it does not work, where an empty list would leave a person guessing.
        Err(error)
            if index == 0
                && matches!(
                    error.raw_os_error(),
                    Some(libc::EACCES | libc::EPERM | libc::EBUSY)
                ) =>
        {
            let name = attribute("name").unwrap_or_else(|| path.display().to_string());
            Some(Found { id: id(&path.display().to_string()), path, name })
        }
        Err(_) => None,
    }
}

/// An open, streaming camera.
pub(super) struct Device {
    info: CameraFormatInfo,
    stream: Stream,
    stride_bytes: Option<usize>,
}

impl Device {
    /// Opens the camera with this id (or this path of a node), or the first one.
    pub(super) fn open(id: Option<&DeviceId>, wanted: Wanted) -> Result<Self, CaptureError> {
        let (path, name) = locate(id)?;
        let failed = |doing: &'static str| {
            let name = name.clone();
            move |e: std::io::Error| CaptureError::from_io(&name, doing, &e)
        };
        let node = Node::open(&path).map_err(failed("opening it"))?;
        let mode = choose(&modes(&node, wanted), wanted)
            .ok_or_else(|| CaptureError::NoUsableFormat { device: name.clone() })?;
        let larger = larger(wanted, |later| modes(&node, later));
        let code = code_of(mode.format);
        let set = node.set_format(code, mode.size).map_err(failed("setting the format"))?;
        if set.code != code || set.size.width_px < 2 || set.size.height_px < 2 {
            return Err(CaptureError::NoUsableFormat { device: name });
        }
        // Some drivers have but one rate and no such call.
        let fps = node.set_rate(mode.fps).unwrap_or(mode.fps);
        let stream = Stream::start(node).map_err(failed("starting it"))?;
        // Compressed formats have no lines.
        let stride_bytes =
            (mode.format != CameraFormat::Mjpeg && set.stride > 0).then_some(set.stride);
        Ok(Self {
            info: CameraFormatInfo { name, size: set.size, fps, format: mode.format, larger },
            stream,
            stride_bytes,
        })
    }

    pub(super) fn info(&self) -> &CameraFormatInfo {
        &self.info
    }

    /// Waits up to `wait` for a picture and hands it to `deliver`; whether one came.
    pub(super) fn next(
        &mut self,
        wait: Duration,
        deliver: &mut dyn FnMut(RawFrame<'_>),
    ) -> Result<bool, CaptureError> {
        let stride_bytes = self.stride_bytes;
        self.stream
            .next(wait, |data, age| deliver(RawFrame { data, stride_bytes, age }))
            .map_err(|e| CaptureError::from_io(&self.info.name, "waiting for a picture", &e))
    }
}

/// Path and name of the camera with this id.
fn locate(id: Option<&DeviceId>) -> Result<(PathBuf, String), CaptureError> {
    // A path says exactly which node is meant.
    if let Some(id) = id
        && id.as_str().starts_with("/dev/")
    {
        return Ok((PathBuf::from(id.as_str()), id.as_str().to_owned()));
    }
    let mut cameras = find().into_iter();
    let found = match id {
        Some(id) => cameras
            .find(|c| c.id == *id)
            .ok_or_else(|| CaptureError::Gone { device: id.to_string() })?,
        None => cameras.next().ok_or(CaptureError::NoDevice(DeviceKind::Camera))?,
    };
    Ok((found.path, found.name))
}

fn code_of(format: CameraFormat) -> u32 {
    FORMATS.iter().find(|(f, _)| *f == format).map_or(0, |(_, code)| *code)
}

/// All modes worth choosing from.
fn modes(node: &Node, wanted: Wanted) -> Vec<Mode> {
    let mut modes = Vec::new();
    for (format, code) in FORMATS {
        if !node.offers(code) {
            continue;
        }
        let mut sizes = node.sizes(code, wanted.size);
        if sizes.is_empty() {
            // Old drivers cannot list; they adjust what they are asked for.
            sizes.push(wanted.size);
        }
        for size in sizes {
            let mut rates = node.rates(code, size, f64::from(wanted.fps));
            if rates.is_empty() {
                rates.push(f64::from(wanted.fps));
            }
            modes.extend(rates.into_iter().map(|fps| Mode { format, size, fps }));
        }
    }
    modes
}

#[cfg(test)]
mod tests {
    use visavis_media::Size;

    use super::*;

    #[test]
    fn an_unknown_camera_is_gone_and_a_missing_node_too() {
        let wanted = Wanted { size: Size::new(640, 360), larger: None, fps: 30, format: None };
        for id in ["no-such-bus", "/dev/video-none"] {
            let error = Device::open(Some(&DeviceId::new(id)), wanted).err();
            assert_eq!(error, Some(CaptureError::Gone { device: id.to_owned() }));
        }
    }
}
