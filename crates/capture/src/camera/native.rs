//! Cameras of macOS and Windows, through `nokhwa`.
//!
//! `nokhwa` waits for a picture without limit, so a camera that delivers nothing holds its thread
//! until it delivers again; its owner does not wait for that.

use std::sync::mpsc::sync_channel;
use std::time::Duration;

use nokhwa::NokhwaError;
use nokhwa::utils::{
    ApiBackend, CameraFormat as NativeFormat, CameraIndex, FrameFormat, RequestedFormat,
    RequestedFormatType, Resolution,
};
use visavis_media::Size;
use visavis_media::convert::CameraFormat;

use super::format::{Mode, Wanted, choose, larger};
use super::{CameraFormatInfo, RawFrame};
use crate::device::number_equal_names;
use crate::{CaptureError, DeviceId, DeviceInfo, DeviceKind};

const FORMATS: [(CameraFormat, FrameFormat); 3] = [
    (CameraFormat::Yuyv, FrameFormat::YUYV),
    (CameraFormat::Nv12, FrameFormat::NV12),
    (CameraFormat::Mjpeg, FrameFormat::MJPEG),
];

/// Less than opening may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(4);
const ADVICE: &str = "allow camera access for this program in the system's privacy settings";

/// See [`crate::list_cameras`].
pub(crate) fn list() -> Vec<DeviceInfo> {
    let mut devices: Vec<DeviceInfo> = Vec::new();
    for info in nokhwa::query(ApiBackend::Auto).unwrap_or_default() {
        let id = id_of(&info);
        if devices.iter().all(|d| d.id != id) {
            devices.push(DeviceInfo { id, name: info.human_name(), default: devices.is_empty() });
        }
    }
    number_equal_names(&mut devices);
    devices
}

/// The system's unique id (it is in the field `misc`), or else the number.
fn id_of(info: &nokhwa::utils::CameraInfo) -> DeviceId {
    let unique = info.misc();
    DeviceId::new(if unique.is_empty() { info.index().to_string() } else { unique })
}

/// An open, streaming camera.
pub(super) struct Device {
    info: CameraFormatInfo,
    camera: nokhwa::Camera,
}

impl Device {
    pub(super) fn open(id: Option<&DeviceId>, wanted: Wanted) -> Result<Self, CaptureError> {
        let (index, name) = locate(id)?;
        permission(&name)?;
        let failed = |error: NokhwaError| failure(&name, &error);
        let usable = FORMATS.map(|(_, native)| native);
        let any = RequestedFormat::with_formats(RequestedFormatType::None, &usable);
        let mut camera =
            nokhwa::Camera::with_backend(index, any, ApiBackend::Auto).map_err(failed)?;
        let modes: Vec<Mode> = camera
            .compatible_camera_formats()
            .map_err(failed)?
            .into_iter()
            .filter_map(|native| {
                let (format, _) = FORMATS.iter().find(|(_, f)| *f == native.format())?;
                let size = Size::new(native.width(), native.height());
                Some(Mode { format: *format, size, fps: f64::from(native.frame_rate()) })
            })
            .collect();
        let mode = choose(&modes, wanted)
            .ok_or_else(|| CaptureError::NoUsableFormat { device: name.clone() })?;
        let larger = larger(wanted, |_| modes);
        let native = native_format(mode)
            .ok_or_else(|| CaptureError::NoUsableFormat { device: name.clone() })?;
        let only = [native.format()];
        let exact = RequestedFormat::with_formats(RequestedFormatType::Exact(native), &only);
        camera.set_camera_requset(exact).map_err(failed)?;
        camera.open_stream().map_err(failed)?;
        Ok(Self {
            info: CameraFormatInfo {
                name,
                size: mode.size,
                fps: mode.fps,
                format: mode.format,
                larger,
            },
            camera,
        })
    }

    pub(super) fn info(&self) -> &CameraFormatInfo {
        &self.info
    }

    /// Waits for a picture, longer than `_wait` if the camera delivers none.
    pub(super) fn next(
        &mut self,
        _wait: Duration,
        deliver: &mut dyn FnMut(RawFrame<'_>),
    ) -> Result<bool, CaptureError> {
        let picture = self.camera.frame().map_err(|e| failure(&self.info.name, &e))?;
        deliver(RawFrame { data: picture.buffer(), stride_bytes: None, age: Duration::ZERO });
        Ok(true)
    }
}

/// Asks the person once, where the system wants that (macOS). Who answers late opens again.
fn permission(device: &str) -> Result<(), CaptureError> {
    if nokhwa::nokhwa_check() {
        return Ok(());
    }
    let (tx, answer) = sync_channel(1);
    nokhwa::nokhwa_initialize(move |granted| {
        let _ = tx.try_send(granted);
    });
    match answer.recv_timeout(ANSWER_TIMEOUT) {
        Ok(true) => Ok(()),
        _ => Err(CaptureError::PermissionDenied { device: device.to_owned(), advice: ADVICE }),
    }
}

/// What `nokhwa` opens the camera by, and its name.
fn locate(id: Option<&DeviceId>) -> Result<(CameraIndex, String), CaptureError> {
    let mut cameras = nokhwa::query(ApiBackend::Auto).unwrap_or_default().into_iter();
    let info = match id {
        Some(id) => cameras
            .find(|info| id_of(info) == *id)
            .ok_or_else(|| CaptureError::Gone { device: id.to_string() })?,
        None => cameras.next().ok_or(CaptureError::NoDevice(DeviceKind::Camera))?,
    };
    Ok((info.index().clone(), info.human_name()))
}

fn native_format(mode: Mode) -> Option<NativeFormat> {
    let (_, format) = FORMATS.iter().find(|(f, _)| *f == mode.format)?;
    let resolution = Resolution::new(mode.size.width_px, mode.size.height_px);
    Some(NativeFormat::new(resolution, *format, mode.fps as u32))
}

/// `nokhwa` has only words for errors; the ones known are sorted by them.
fn failure(device: &str, error: &NokhwaError) -> CaptureError {
    let detail = error.to_string();
    let device = device.to_owned();
    let lower = detail.to_lowercase();
    if lower.contains("in use") || lower.contains("busy") || lower.contains("lock") {
        CaptureError::Busy { device }
    } else if lower.contains("denied") || lower.contains("authoriz") || lower.contains("permission")
    {
        CaptureError::PermissionDenied { device, advice: ADVICE }
    } else {
        CaptureError::Failed { device, detail }
    }
}
