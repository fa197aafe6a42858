//! The V4L2 calls that capturing needs, each safe to call: nodes, formats, mapped buffers.
//!
//! Structures and numbers are those of `linux/videodev2.h`.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::ptr::NonNull;
use std::time::Duration;

use visavis_media::Size;

use super::videodev2::{self as sys, Plain as _};

const CAPTURE: u32 = sys::V4L2_BUF_TYPE_VIDEO_CAPTURE;
const MMAP: u32 = sys::V4L2_MEMORY_MMAP;
/// One being filled, one waiting, one being converted, one spare. Not more: waiting pictures age.
const BUFFERS: u32 = 4;
/// More entries in a driver's list than this are not read.
const MAX_ENTRIES: u32 = 256;

/// An open `/dev/videoN`.
pub(super) struct Node(OwnedFd);

/// Who the node is.
pub(super) struct Capability {
    pub(super) captures_video: bool,
    /// Name for people.
    pub(super) card: String,
    /// Where it is plugged in.
    pub(super) bus: String,
}

/// What the driver made of a wanted format.
pub(super) struct Set {
    pub(super) code: u32,
    pub(super) size: Size,
    /// Bytes a line, 0 for compressed formats.
    pub(super) stride: usize,
}

impl Node {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::OpenOptionsExt;
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(path)?;
        Ok(Self(file.into()))
    }

    /// One request, again if a signal interrupted it.
    ///
    /// # Safety
    ///
    /// `argument` is the structure that `request` is defined with.
    unsafe fn ioctl<T>(&self, request: libc::Ioctl, argument: &mut T) -> io::Result<()> {
        loop {
            // SAFETY: the pointer is valid for the call; the caller vouches for its type.
            let result =
                unsafe { libc::ioctl(self.0.as_raw_fd(), request, std::ptr::from_mut(argument)) };
            if result != -1 {
                return Ok(());
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }

    pub(super) fn capability(&self) -> io::Result<Capability> {
        let mut caps = sys::v4l2_capability::zeroed();
        // SAFETY: QUERYCAP takes a v4l2_capability.
        unsafe { self.ioctl(sys::VIDIOC_QUERYCAP, &mut caps)? };
        // `capabilities` is of the whole device, `device_caps` of this node.
        let own = if caps.capabilities & sys::V4L2_CAP_DEVICE_CAPS != 0 {
            caps.device_caps
        } else {
            caps.capabilities
        };
        let needed = sys::V4L2_CAP_VIDEO_CAPTURE | sys::V4L2_CAP_STREAMING;
        Ok(Capability {
            captures_video: own & needed == needed,
            card: text(&caps.card),
            bus: text(&caps.bus_info),
        })
    }

    /// Whether pictures can be captured in this format.
    pub(super) fn offers(&self, code: u32) -> bool {
        (0..MAX_ENTRIES)
            .map_while(|index| {
                let mut entry = sys::v4l2_fmtdesc::zeroed();
                entry.index = index;
                entry.type_ = CAPTURE;
                // SAFETY: ENUM_FMT takes a v4l2_fmtdesc.
                unsafe { self.ioctl(sys::VIDIOC_ENUM_FMT, &mut entry) }.ok()?;
                Some(entry.pixelformat)
            })
            .any(|offered| offered == code)
    }

    /// Sizes in this format; of a range, the one nearest to `wanted`.
    pub(super) fn sizes(&self, code: u32, wanted: Size) -> Vec<Size> {
        (0..MAX_ENTRIES)
            .map_while(|index| {
                let mut entry = sys::v4l2_frmsizeenum::zeroed();
                entry.index = index;
                entry.pixel_format = code;
                // SAFETY: ENUM_FRAMESIZES takes a v4l2_frmsizeenum.
                unsafe { self.ioctl(sys::VIDIOC_ENUM_FRAMESIZES, &mut entry) }.ok()?;
                if entry.type_ == sys::V4L2_FRMSIZE_TYPE_DISCRETE {
                    // SAFETY: the type says which member is set; any bits are valid integers.
                    let d = unsafe { entry.size.discrete };
                    return Some(Size::new(d.width, d.height));
                }
                // SAFETY: as above.
                let s = unsafe { entry.size.stepwise };
                Some(Size::new(
                    in_steps(wanted.width_px, s.min_width, s.max_width, s.step_width),
                    in_steps(wanted.height_px, s.min_height, s.max_height, s.step_height),
                ))
            })
            .collect()
    }

    /// Frames a second in this format and size; of a range, the one nearest to `wanted`.
    pub(super) fn rates(&self, code: u32, size: Size, wanted: f64) -> Vec<f64> {
        (0..MAX_ENTRIES)
            .map_while(|index| {
                let mut entry = sys::v4l2_frmivalenum::zeroed();
                entry.index = index;
                entry.pixel_format = code;
                entry.width = size.width_px;
                entry.height = size.height_px;
                // SAFETY: ENUM_FRAMEINTERVALS takes a v4l2_frmivalenum.
                unsafe { self.ioctl(sys::VIDIOC_ENUM_FRAMEINTERVALS, &mut entry) }.ok()?;
                if entry.type_ == sys::V4L2_FRMIVAL_TYPE_DISCRETE {
                    // SAFETY: the type says which member is set; any bits are valid integers.
                    return Some(rate(unsafe { entry.interval.discrete }));
                }
                // SAFETY: as above.
                let s = unsafe { entry.interval.stepwise };
                // The shortest interval is the highest rate.
                Some(wanted.min(rate(s.min)).max(rate(s.max)))
            })
            .collect()
    }

    pub(super) fn set_format(&self, code: u32, size: Size) -> io::Result<Set> {
        let mut format = sys::v4l2_format::zeroed();
        format.type_ = CAPTURE;
        format.fmt.pix.width = size.width_px;
        format.fmt.pix.height = size.height_px;
        format.fmt.pix.pixelformat = code;
        format.fmt.pix.field = sys::V4L2_FIELD_NONE;
        // SAFETY: S_FMT takes a v4l2_format.
        unsafe { self.ioctl(sys::VIDIOC_S_FMT, &mut format)? };
        // SAFETY: for this type of buffer the driver fills `pix`; any bits are valid integers.
        let pix = unsafe { format.fmt.pix };
        Ok(Set {
            code: pix.pixelformat,
            size: Size::new(pix.width, pix.height),
            stride: pix.bytesperline as usize,
        })
    }

    /// Asks for a rate and returns the one set.
    pub(super) fn set_rate(&self, fps: f64) -> io::Result<f64> {
        let mut parameters = sys::v4l2_streamparm::zeroed();
        parameters.type_ = CAPTURE;
        parameters.parm.capture.timeperframe = interval(fps);
        // SAFETY: S_PARM takes a v4l2_streamparm.
        unsafe { self.ioctl(sys::VIDIOC_S_PARM, &mut parameters)? };
        // SAFETY: for this type of buffer the driver fills `capture`; any bits are valid integers.
        let set = rate(unsafe { parameters.parm.capture.timeperframe });
        if set > 0.0 { Ok(set) } else { Err(io::ErrorKind::Unsupported.into()) }
    }
}

/// The driver's memory with one picture in it.
struct Mapping {
    address: NonNull<u8>,
    length: usize,
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly what mmap returned, once; slices of it never outlive `&self`.
        let _ = unsafe { libc::munmap(self.address.as_ptr().cast(), self.length) };
    }
}

// SAFETY: the mapping is owned memory, bound to no thread.
unsafe impl Send for Mapping {}

/// A node that captures; dropping it stops the capture and frees the buffers.
pub(super) struct Stream {
    // Before the node: buffers are unmapped before it is closed, which frees them.
    mappings: Vec<Mapping>,
    node: Node,
}

impl Stream {
    pub(super) fn start(node: Node) -> io::Result<Self> {
        let mut request = sys::v4l2_requestbuffers::zeroed();
        request.count = BUFFERS;
        request.type_ = CAPTURE;
        request.memory = MMAP;
        // SAFETY: REQBUFS takes a v4l2_requestbuffers.
        unsafe { node.ioctl(sys::VIDIOC_REQBUFS, &mut request)? };
        let mut stream = Self { mappings: Vec::new(), node };
        for index in 0..request.count {
            let mut buffer = descriptor(index);
            // SAFETY: QUERYBUF takes a v4l2_buffer.
            unsafe { stream.node.ioctl(sys::VIDIOC_QUERYBUF, &mut buffer)? };
            let length = buffer.length as usize;
            // SAFETY: a fresh mapping at an address of the kernel's choice; for this kind of
            // memory the driver fills `offset`.
            let address = unsafe {
                libc::mmap(
                    std::ptr::null_mut(),
                    length,
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_SHARED,
                    stream.node.0.as_raw_fd(),
                    libc::off_t::from(buffer.m.offset),
                )
            };
            if address == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            let address = NonNull::new(address.cast())
                .ok_or_else(|| io::Error::other("a buffer at address zero"))?;
            stream.mappings.push(Mapping { address, length });
            stream.queue(index)?;
        }
        let mut kind = CAPTURE as libc::c_int;
        // SAFETY: STREAMON takes an int.
        unsafe { stream.node.ioctl(sys::VIDIOC_STREAMON, &mut kind)? };
        Ok(stream)
    }

    /// Gives a buffer back to the driver.
    fn queue(&self, index: u32) -> io::Result<()> {
        // SAFETY: QBUF takes a v4l2_buffer.
        unsafe { self.node.ioctl(sys::VIDIOC_QBUF, &mut descriptor(index)) }
    }

    /// Waits up to `wait` for a picture, and hands out its bytes and its age; whether one came.
    pub(super) fn next(
        &mut self,
        wait: Duration,
        deliver: impl FnOnce(&[u8], Duration),
    ) -> io::Result<bool> {
        let mut poll =
            libc::pollfd { fd: self.node.0.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let wait_ms = libc::c_int::try_from(wait.as_millis()).unwrap_or(libc::c_int::MAX);
        // SAFETY: one valid pollfd.
        match unsafe { libc::poll(&mut poll, 1, wait_ms) } {
            0 => return Ok(false),
            n if n < 0 => {
                let error = io::Error::last_os_error();
                return if error.kind() == io::ErrorKind::Interrupted {
                    Ok(false)
                } else {
                    Err(error)
                };
            }
            _ => {}
        }
        let Some(buffer) = self.dequeue_newest(poll.revents & libc::POLLHUP != 0)? else {
            return Ok(false);
        };
        let Some(mapping) = self.mappings.get(buffer.index as usize) else {
            return Err(io::Error::other("the driver named a buffer that does not exist"));
        };
        let whole = buffer.flags & sys::V4L2_BUF_FLAG_ERROR == 0 && buffer.bytesused > 0;
        if whole {
            let used = (buffer.bytesused as usize).min(mapping.length);
            // SAFETY: mapped for at least `used` bytes; the driver does not write to a buffer
            // between DQBUF and QBUF.
            let data = unsafe { std::slice::from_raw_parts(mapping.address.as_ptr(), used) };
            deliver(data, age(&buffer));
        }
        self.queue(buffer.index)?;
        Ok(whole)
    }

    /// The last of the filled buffers: older ones that waited while a picture took long to be
    /// used go back to the driver unseen.
    fn dequeue_newest(&self, hung_up: bool) -> io::Result<Option<sys::v4l2_buffer>> {
        let mut newest: Option<sys::v4l2_buffer> = None;
        loop {
            let mut buffer = descriptor(0);
            // SAFETY: DQBUF takes a v4l2_buffer.
            match unsafe { self.node.ioctl(sys::VIDIOC_DQBUF, &mut buffer) } {
                Ok(()) => {
                    if let Some(older) = newest.replace(buffer) {
                        self.queue(older.index)?;
                    }
                }
                Err(_) if newest.is_some() => return Ok(newest),
                // Whatever the call says, the device is gone.
                Err(_) if hung_up => return Err(io::Error::from_raw_os_error(libc::ENODEV)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(e) => return Err(e),
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut kind = CAPTURE as libc::c_int;
        // Fails if the device is gone; then there is nothing to stop.
        // SAFETY: STREAMOFF takes an int.
        let _ = unsafe { self.node.ioctl(sys::VIDIOC_STREAMOFF, &mut kind) };
    }
}

fn descriptor(index: u32) -> sys::v4l2_buffer {
    let mut buffer = sys::v4l2_buffer::zeroed();
    buffer.index = index;
    buffer.type_ = CAPTURE;
    buffer.memory = MMAP;
    buffer
}

/// Time since the picture was captured; zero if the driver does not tell it.
fn age(buffer: &sys::v4l2_buffer) -> Duration {
    let clock = buffer.flags & sys::V4L2_BUF_FLAG_TIMESTAMP_MASK;
    if clock != sys::V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC {
        return Duration::ZERO;
    }
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec.
    if unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) } != 0 {
        return Duration::ZERO;
    }
    #[allow(clippy::useless_conversion)] // i32 on 32-bit systems.
    let now_us = i64::from(now.tv_sec) * 1_000_000 + i64::from(now.tv_nsec) / 1000;
    #[allow(clippy::useless_conversion)]
    let captured_us =
        i64::from(buffer.timestamp.tv_sec) * 1_000_000 + i64::from(buffer.timestamp.tv_usec);
    let age = Duration::from_micros(u64::try_from(now_us - captured_us).unwrap_or(0));
    // A driver whose clock is that far off is not believed.
    if age > MAX_AGE { Duration::ZERO } else { age }
}

/// Four buffers at one frame a second are the oldest picture there can be.
const MAX_AGE: Duration = Duration::from_secs(5);

/// A fixed-size text field of the driver's; not always ended, not always UTF-8.
fn text(field: &[u8]) -> String {
    let end = field.iter().position(|&b| b == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).trim().to_owned()
}

/// The value nearest to `wanted` that a driver's range allows.
fn in_steps(wanted: u32, min: u32, max: u32, step: u32) -> u32 {
    let clamped = wanted.clamp(min, max.max(min));
    clamped - (clamped - min) % step.max(1)
}

/// Frames a second of an interval; 0 for a nonsensical one.
fn rate(interval: sys::v4l2_fract) -> f64 {
    if interval.numerator == 0 {
        return 0.0;
    }
    f64::from(interval.denominator) / f64::from(interval.numerator)
}

/// The interval of a rate, exact for whole rates and for those of television (30000/1001).
fn interval(fps: f64) -> sys::v4l2_fract {
    let fraction = |numerator, denominator| sys::v4l2_fract { numerator, denominator };
    if (fps - fps.round()).abs() < 1e-3 {
        fraction(1, fps.round() as u32)
    } else if (fps * 1.001 - (fps * 1.001).round()).abs() < 1e-3 {
        fraction(1001, (fps * 1.001).round() as u32 * 1000)
    } else {
        fraction(1_000_000, (fps * 1e6) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_clamped_to_their_steps() {
        assert_eq!(in_steps(640, 320, 1920, 16), 640);
        assert_eq!(in_steps(645, 320, 1920, 16), 640);
        assert_eq!(in_steps(100, 320, 1920, 16), 320);
        assert_eq!(in_steps(4000, 320, 1920, 16), 1920);
        assert_eq!(in_steps(500, 320, 1920, 0), 500);
        assert_eq!(in_steps(500, 600, 200, 1), 600);
    }

    #[test]
    fn rates_survive_the_way_to_the_driver_and_back() {
        for fps in [1.0, 7.5, 15.0, 24.0, 30.0, 60.0, 30_000.0 / 1001.0] {
            assert!((rate(interval(fps)) - fps).abs() < 1e-4, "{fps}");
        }
        assert_eq!(rate(sys::v4l2_fract { numerator: 0, denominator: 30 }), 0.0);
        let tv = interval(30_000.0 / 1001.0);
        assert_eq!((tv.numerator, tv.denominator), (1001, 30_000));
    }

    #[test]
    fn names_without_an_end_or_with_odd_bytes_are_read() {
        assert_eq!(text(b"HD Camera\0garbage"), "HD Camera");
        assert_eq!(text(b"full "), "full");
        assert_eq!(text(b"Cam\xe9ra\0"), "Cam\u{fffd}ra");
    }
}
