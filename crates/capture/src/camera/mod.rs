//! Cameras. Thread "camera", one for each open camera: driver, conversion, callback.

mod format;
#[cfg(not(target_os = "linux"))]
mod native;
#[cfg(target_os = "linux")]
mod v4l2;

use std::time::{Duration, Instant};

use visavis_media::convert::{CameraFormat, CameraPicture, Converter};
use visavis_media::pool::BufferPool;
use visavis_media::{MediaTime, Size, VideoFrame};

use self::format::Wanted;
#[cfg(not(target_os = "linux"))]
use self::native as backend;
#[cfg(target_os = "linux")]
use self::v4l2 as backend;
use crate::worker::{Stop, Worker};
use crate::{CaptureError, Clock, DeviceId, OnEnd};

pub(crate) use backend::list;

/// How long one wait for a picture takes at most, and so how late a stop is noticed.
const POLL: Duration = Duration::from_millis(50);
/// A camera that delivers nothing for so long has failed. The slowest modes have 1 frame a second,
/// and some cameras need seconds for their first.
const SILENCE_LIMIT: Duration = Duration::from_secs(10);

/// What is wanted of a camera. What it delivers is in [`Camera::format`].
#[derive(Debug, Clone)]
pub struct CameraRequest {
    /// Which one; `None` for the default.
    pub id: Option<DeviceId>,
    /// The picture's size. The exact one is preferred, then larger, then smaller ones.
    pub size: Size,
    /// A size that it may be asked for later: [`CameraFormatInfo::larger`] says whether it has it.
    pub larger: Option<Size>,
    /// Frames a second, at least 1.
    pub fps: u32,
    /// Nothing but this pixel format, if given; otherwise the cheapest that keeps the rate.
    pub format: Option<CameraFormat>,
}

/// What an open camera delivers.
#[derive(Debug, Clone, PartialEq)]
pub struct CameraFormatInfo {
    /// The camera's name.
    pub name: String,
    /// The picture's size.
    pub size: Size,
    /// Nominal frames a second; many cameras deliver fewer in the dark.
    pub fps: f64,
    /// Pixel format between camera and computer.
    pub format: CameraFormat,
    /// What [`CameraRequest::larger`] asks about, if the camera delivers exactly that size at 24 frames a second or at the
    /// wanted rate.
    pub larger: Option<Size>,
}

/// One picture as the driver hands it out.
struct RawFrame<'a> {
    data: &'a [u8],
    /// Bytes from one line to the next, if they are padded.
    stride_bytes: Option<usize>,
    /// How long ago it was captured.
    age: Duration,
}

/// An open camera; pictures come until it is dropped or [`OnEnd`] is called.
///
/// Dropping it stops the thread and releases the device within 100 ms, also while the camera
/// delivers nothing (outside Linux a picture is waited for, but no longer than half a second).
#[derive(Debug)]
pub struct Camera {
    format: CameraFormatInfo,
    _worker: Worker,
}

impl Camera {
    /// Opens a camera and starts it. Blocks until it runs, 5 s at most.
    ///
    /// `sink` is called for each picture on the camera's thread and should return within a frame's
    /// time: pictures that come meanwhile are dropped by the driver. `clock` gives the time that
    /// frames are stamped on: of the capture where the driver knows it, else of the arrival.
    ///
    /// # Errors
    ///
    /// Every [`CaptureError`]; each says what to do.
    pub fn open(
        request: CameraRequest,
        clock: Clock,
        mut sink: impl FnMut(VideoFrame) + Send + 'static,
        on_end: OnEnd,
    ) -> Result<Self, CaptureError> {
        let device =
            request.id.as_ref().map_or_else(|| "the camera".to_owned(), ToString::to_string);
        let wanted = Wanted {
            size: request.size,
            larger: request.larger,
            fps: request.fps.max(1),
            format: request.format,
        };
        let (format, worker) = Worker::start(
            "camera",
            &device,
            move || {
                let device = backend::Device::open(request.id.as_ref(), wanted)?;
                let info = device.info().clone();
                Ok((device, info))
            },
            move |device, stop| {
                if let Err(error) = run(device, stop, &clock, &mut sink) {
                    tracing::warn!(%error, "the camera ended");
                    on_end(error);
                }
            },
        )?;
        tracing::info!(?format, "camera opened");
        Ok(Self { format, _worker: worker })
    }

    /// What it delivers.
    pub fn format(&self) -> &CameraFormatInfo {
        &self.format
    }
}

/// Hands out pictures until told to stop.
fn run(
    mut device: backend::Device,
    stop: &Stop,
    clock: &Clock,
    sink: &mut (impl FnMut(VideoFrame) + Send),
) -> Result<(), CaptureError> {
    let CameraFormatInfo { name, size, format, .. } = device.info().clone();
    let mut last_picture = Instant::now();
    let mut broken = 0_u64;
    let mut pool = BufferPool::new();
    let mut converter = Converter::new();
    while !stop.requested() {
        let mut deliver = |raw: RawFrame<'_>| {
            let now = clock().as_micros();
            let age_us = u64::try_from(raw.age.as_micros()).unwrap_or(0);
            // A truncated picture is usual on a bad USB cable: the next one will be whole.
            let RawFrame { data, stride_bytes, .. } = raw;
            let picture = CameraPicture { format, size, stride_bytes, data };
            match pool.fill(size, |buffer| converter.to_i420(&picture, buffer)) {
                Ok(buffer) => sink(VideoFrame {
                    buffer,
                    time: MediaTime::from_micros(now.saturating_sub(age_us)),
                    rtp_timestamp: 0,
                }),
                Err(error) => {
                    broken += 1;
                    tracing::debug!(%error, broken, "the camera sent a broken picture");
                }
            }
        };
        if device.next(POLL, &mut deliver)? {
            last_picture = Instant::now();
        } else if last_picture.elapsed() > SILENCE_LIMIT {
            return Err(CaptureError::Unresponsive { device: name, waited: SILENCE_LIMIT });
        }
    }
    Ok(())
}
