//! What is used of `linux/videodev2.h`: structures and constants, under the names that they have there.
//!
//! <https://docs.kernel.org/userspace-api/media/v4l/videodev.html>. Layouts and request numbers are the
//! kernel's interface to programs and never change; the test holds some that were printed by C.
#![allow(non_camel_case_types)]

use libc::{_IOR, _IOW, _IOWR, Ioctl, c_int, c_ulong, timeval};

pub(super) const V4L2_BUF_TYPE_VIDEO_CAPTURE: u32 = 1;
pub(super) const V4L2_MEMORY_MMAP: u32 = 1;
pub(super) const V4L2_FIELD_NONE: u32 = 1;
pub(super) const V4L2_CAP_VIDEO_CAPTURE: u32 = 0x0000_0001;
pub(super) const V4L2_CAP_STREAMING: u32 = 0x0400_0000;
pub(super) const V4L2_CAP_DEVICE_CAPS: u32 = 0x8000_0000;
pub(super) const V4L2_FRMSIZE_TYPE_DISCRETE: u32 = 1;
pub(super) const V4L2_FRMIVAL_TYPE_DISCRETE: u32 = 1;
pub(super) const V4L2_BUF_FLAG_ERROR: u32 = 0x0000_0040;
pub(super) const V4L2_BUF_FLAG_TIMESTAMP_MASK: u32 = 0x0000_e000;
pub(super) const V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC: u32 = 0x0000_2000;

pub(super) const VIDIOC_QUERYCAP: Ioctl = _IOR::<v4l2_capability>(V, 0);
pub(super) const VIDIOC_ENUM_FMT: Ioctl = _IOWR::<v4l2_fmtdesc>(V, 2);
pub(super) const VIDIOC_S_FMT: Ioctl = _IOWR::<v4l2_format>(V, 5);
pub(super) const VIDIOC_REQBUFS: Ioctl = _IOWR::<v4l2_requestbuffers>(V, 8);
pub(super) const VIDIOC_QUERYBUF: Ioctl = _IOWR::<v4l2_buffer>(V, 9);
pub(super) const VIDIOC_QBUF: Ioctl = _IOWR::<v4l2_buffer>(V, 15);
pub(super) const VIDIOC_DQBUF: Ioctl = _IOWR::<v4l2_buffer>(V, 17);
pub(super) const VIDIOC_STREAMON: Ioctl = _IOW::<c_int>(V, 18);
pub(super) const VIDIOC_STREAMOFF: Ioctl = _IOW::<c_int>(V, 19);
pub(super) const VIDIOC_S_PARM: Ioctl = _IOWR::<v4l2_streamparm>(V, 22);
pub(super) const VIDIOC_ENUM_FRAMESIZES: Ioctl = _IOWR::<v4l2_frmsizeenum>(V, 74);
pub(super) const VIDIOC_ENUM_FRAMEINTERVALS: Ioctl = _IOWR::<v4l2_frmivalenum>(V, 75);

/// The letter of video devices' requests.
const V: u32 = b'V' as u32;

/// A structure of this file, for which all zeros is a valid value.
///
/// # Safety
///
/// The type holds integers, arrays of them and unions of such.
pub(super) unsafe trait Plain: Sized {
    fn zeroed() -> Self {
        // SAFETY: the trait's condition.
        unsafe { std::mem::zeroed() }
    }
}

macro_rules! structures {
    ($($(#[$attribute:meta])* $name:ident { $($field:ident: $type:ty),+ $(,)? })+) => {
        $(
            $(#[$attribute])*
            #[repr(C)]
            #[derive(Clone, Copy)]
            pub(super) struct $name {
                $(pub(super) $field: $type),+
            }

            // SAFETY: integers, arrays of them and unions of such.
            unsafe impl Plain for $name {}
        )+
    };
}

macro_rules! unions {
    ($($(#[$attribute:meta])* $name:ident { $($field:ident: $type:ty),+ $(,)? })+) => {
        $(
            $(#[$attribute])*
            #[repr(C)]
            #[derive(Clone, Copy)]
            pub(super) union $name {
                $(pub(super) $field: $type),+
            }
        )+
    };
}

structures! {
    /// `VIDIOC_QUERYCAP`.
    v4l2_capability {
        driver: [u8; 16],
        card: [u8; 32],
        bus_info: [u8; 32],
        version: u32,
        capabilities: u32,
        device_caps: u32,
        reserved: [u32; 3],
    }

    /// `VIDIOC_ENUM_FMT`.
    v4l2_fmtdesc {
        index: u32,
        type_: u32,
        flags: u32,
        description: [u8; 32],
        pixelformat: u32,
        mbus_code: u32,
        reserved: [u32; 3],
    }

    v4l2_frmsize_discrete { width: u32, height: u32 }

    v4l2_frmsize_stepwise {
        min_width: u32,
        max_width: u32,
        step_width: u32,
        min_height: u32,
        max_height: u32,
        step_height: u32,
    }

    /// `VIDIOC_ENUM_FRAMESIZES`.
    v4l2_frmsizeenum {
        index: u32,
        pixel_format: u32,
        type_: u32,
        size: frmsize,
        reserved: [u32; 2],
    }

    /// Seconds.
    v4l2_fract { numerator: u32, denominator: u32 }

    v4l2_frmival_stepwise { min: v4l2_fract, max: v4l2_fract, step: v4l2_fract }

    /// `VIDIOC_ENUM_FRAMEINTERVALS`.
    v4l2_frmivalenum {
        index: u32,
        pixel_format: u32,
        width: u32,
        height: u32,
        type_: u32,
        interval: frmival,
        reserved: [u32; 2],
    }

    v4l2_pix_format {
        width: u32,
        height: u32,
        pixelformat: u32,
        field: u32,
        bytesperline: u32,
        sizeimage: u32,
        colorspace: u32,
        priv_: u32,
        flags: u32,
        ycbcr_enc: u32,
        quantization: u32,
        xfer_func: u32,
    }

    /// `VIDIOC_S_FMT`.
    v4l2_format { type_: u32, fmt: format_of_type }

    v4l2_captureparm {
        capability: u32,
        capturemode: u32,
        timeperframe: v4l2_fract,
        extendedmode: u32,
        readbuffers: u32,
        reserved: [u32; 4],
    }

    /// `VIDIOC_S_PARM`.
    v4l2_streamparm { type_: u32, parm: parameters_of_type }

    /// `VIDIOC_REQBUFS`.
    v4l2_requestbuffers {
        count: u32,
        type_: u32,
        memory: u32,
        capabilities: u32,
        flags: u8,
        reserved: [u8; 3],
    }

    v4l2_timecode {
        type_: u32,
        flags: u32,
        frames: u8,
        seconds: u8,
        minutes: u8,
        hours: u8,
        userbits: [u8; 4],
    }

    /// `VIDIOC_QUERYBUF`, `VIDIOC_QBUF`, `VIDIOC_DQBUF`.
    v4l2_buffer {
        index: u32,
        type_: u32,
        bytesused: u32,
        flags: u32,
        field: u32,
        timestamp: timeval,
        timecode: v4l2_timecode,
        sequence: u32,
        memory: u32,
        m: place,
        length: u32,
        reserved2: u32,
        request_fd: c_int,
    }
}

unions! {
    /// Of [`v4l2_frmsizeenum`], by its type.
    frmsize { discrete: v4l2_frmsize_discrete, stepwise: v4l2_frmsize_stepwise }

    /// Of [`v4l2_frmivalenum`], by its type.
    frmival { discrete: v4l2_fract, stepwise: v4l2_frmival_stepwise }

    /// Of [`v4l2_format`]. One that is not used here, `v4l2_window`, holds pointers and aligns all.
    format_of_type { pix: v4l2_pix_format, raw_data: [u8; 200], alignment: usize }

    /// Of [`v4l2_streamparm`].
    parameters_of_type { capture: v4l2_captureparm, raw_data: [u8; 200] }

    /// Of [`v4l2_buffer`], by its kind of memory.
    place { offset: u32, userptr: c_ulong }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size of the structure is part of each number.
    #[cfg(all(target_arch = "x86_64", target_pointer_width = "64"))]
    #[test]
    fn request_numbers_are_those_of_the_header() {
        assert_eq!(
            [
                VIDIOC_QUERYCAP,
                VIDIOC_ENUM_FMT,
                VIDIOC_S_FMT,
                VIDIOC_REQBUFS,
                VIDIOC_QUERYBUF,
                VIDIOC_QBUF,
                VIDIOC_DQBUF,
                VIDIOC_STREAMON,
                VIDIOC_STREAMOFF,
                VIDIOC_S_PARM,
                VIDIOC_ENUM_FRAMESIZES,
                VIDIOC_ENUM_FRAMEINTERVALS,
            ],
            [
                0x8068_5600,
                0xc040_5602,
                0xc0d0_5605,
                0xc014_5608,
                0xc058_5609,
                0xc058_560f,
                0xc058_5611,
                0x4004_5612,
                0x4004_5613,
                0xc0cc_5616,
                0xc02c_564a,
                0xc034_564b,
            ]
        );
    }

    #[cfg(target_pointer_width = "64")]
    #[test]
    fn fields_are_where_the_kernel_looks_for_them() {
        use std::mem::offset_of;

        assert_eq!(offset_of!(v4l2_format, fmt), 8);
        assert_eq!(offset_of!(v4l2_streamparm, parm), 4);
        assert_eq!(offset_of!(v4l2_buffer, timestamp), 24);
        assert_eq!(offset_of!(v4l2_buffer, m), 64);
        assert_eq!(offset_of!(v4l2_buffer, length), 72);
        assert_eq!(size_of::<v4l2_pix_format>(), 48);
        assert_eq!(size_of::<v4l2_captureparm>(), 40);
    }
}
