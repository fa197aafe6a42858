//! Known colours through every format.
#![allow(clippy::unwrap_used)]

use super::*;
use proptest::prelude::*;

/// Red, green, blue, white, black and grey in RGB and in BT.601 limited range.
const COLORS: [([u8; 3], [u8; 3]); 6] = [
    ([255, 0, 0], [81, 90, 240]),
    ([0, 255, 0], [145, 54, 34]),
    ([0, 0, 255], [41, 240, 110]),
    ([255, 255, 255], [235, 128, 128]),
    ([0, 0, 0], [16, 128, 128]),
    ([128, 128, 128], [126, 128, 128]),
];

fn close(buffer: &I420Buffer, expected: [u8; 3], tolerance: u8, what: &str) {
    for (plane, expected) in buffer.planes().into_iter().zip(expected) {
        let off = plane.iter().map(|p| p.abs_diff(expected)).max().unwrap();
        assert!(off <= tolerance, "{what}: off by {off}, {:?} for {expected}", &plane[..4]);
    }
}

/// One colour in `format`, with `padding` bytes behind each row of the first plane.
fn encode(
    format: CameraFormat,
    size: Size,
    rgb: [u8; 3],
    [y, u, v]: [u8; 3],
    padding: usize,
) -> Vec<u8> {
    let (width, height) = (size.width_px as usize, size.height_px as usize);
    let rows = |pixels: &[u8], per_row: usize, count: usize, padding: usize| {
        let row = [pixels.repeat(per_row), vec![77; padding]].concat();
        row.repeat(count)
    };
    match format {
        CameraFormat::Yuyv => rows(&[y, u, y, v], width / 2, height, padding),
        CameraFormat::Uyvy => rows(&[u, y, v, y], width / 2, height, padding),
        CameraFormat::Nv12 => {
            [rows(&[y], width, height, padding), rows(&[u, v], width / 2, height / 2, padding)]
                .concat()
        }
        CameraFormat::I420 => [
            rows(&[y], width, height, padding),
            rows(&[u], width.div_ceil(2), height.div_ceil(2), padding / 2),
            rows(&[v], width.div_ceil(2), height.div_ceil(2), padding / 2),
        ]
        .concat(),
        CameraFormat::Rgb24 => rows(&rgb, width, height, padding),
        CameraFormat::Bgr24 => rows(&[rgb[2], rgb[1], rgb[0]], width, height, padding),
        CameraFormat::Gray8 => rows(&[y], width, height, padding),
        CameraFormat::Mjpeg => unreachable!("see the JPEG test"),
    }
}

const RAW_FORMATS: [CameraFormat; 7] = [
    CameraFormat::Yuyv,
    CameraFormat::Uyvy,
    CameraFormat::Nv12,
    CameraFormat::I420,
    CameraFormat::Rgb24,
    CameraFormat::Bgr24,
    CameraFormat::Gray8,
];

#[test]
fn colours_are_right_in_every_format_with_and_without_padding() {
    let mut converter = Converter::new();
    for size in [Size::new(640, 480), Size::new(70, 34)] {
        for format in RAW_FORMATS {
            for (rgb, yuv) in COLORS {
                for padding in [0, 64] {
                    let data = encode(format, size, rgb, yuv, padding);
                    let row = size.width_px as usize
                        * match format {
                            CameraFormat::Yuyv | CameraFormat::Uyvy => 2,
                            CameraFormat::Rgb24 | CameraFormat::Bgr24 => 3,
                            _ => 1,
                        };
                    // The last row comes without its padding.
                    let data = &data[..data.len()
                        - if format == CameraFormat::I420 { padding / 2 } else { padding }];
                    let picture = CameraPicture {
                        format,
                        size,
                        stride_bytes: (padding > 0).then_some(row + padding),
                        data,
                    };
                    let mut out = I420Buffer::black(size);
                    converter.to_i420(&picture, &mut out).unwrap();
                    let expected =
                        if format == CameraFormat::Gray8 { [yuv[0], 128, 128] } else { yuv };
                    close(&out, expected, 2, &format!("{format:?} {rgb:?} padding {padding}"));
                }
            }
        }
    }
}

#[test]
fn luma_keeps_its_place() {
    // A horizontal ramp in YUYV.
    let size = Size::new(64, 4);
    let data: Vec<u8> = (0..4).flat_map(|_| (0..64u8).flat_map(|x| [2 * x + 16, 128])).collect();
    let mut out = I420Buffer::black(size);
    let picture =
        CameraPicture { format: CameraFormat::Yuyv, size, stride_bytes: None, data: &data };
    Converter::new().to_i420(&picture, &mut out).unwrap();
    assert!(out.planes()[0].iter().enumerate().all(|(i, &y)| usize::from(y) == 2 * (i % 64) + 16));
}

/// 16x16 pictures of one colour, made by ImageMagick: 4:2:0 red, 4:2:2 blue, grey.
const JPEGS: [(&[u8], Option<[u8; 3]>); 3] = [
    (include_bytes!("testdata/red-420.jpg"), Some([81, 90, 240])),
    (include_bytes!("testdata/blue-422.jpg"), Some([41, 240, 110])),
    (include_bytes!("testdata/gray.jpg"), Some([126, 128, 128])),
];

#[test]
fn jpeg_is_brought_from_full_into_limited_range() {
    for (data, expected) in JPEGS {
        let size = Size::new(16, 16);
        let mut out = I420Buffer::black(size);
        let picture = CameraPicture { format: CameraFormat::Mjpeg, size, stride_bytes: None, data };
        Converter::new().to_i420(&picture, &mut out).unwrap();
        close(&out, expected.unwrap(), 1, "jpeg");
    }
}

#[test]
fn wrong_sizes_and_short_data_are_errors() {
    let mut converter = Converter::new();
    let mut check = |format, size: Size, bytes: usize, stride_bytes, out_size| {
        let data = vec![0; bytes];
        let mut out = I420Buffer::black(out_size);
        converter.to_i420(&CameraPicture { format, size, stride_bytes, data: &data }, &mut out)
    };
    let vga = Size::new(640, 480);
    assert!(matches!(
        check(CameraFormat::Yuyv, vga, 640 * 480 * 2 - 1, None, vga),
        Err(MediaError::ShortBuffer { .. })
    ));
    assert!(matches!(
        check(CameraFormat::Nv12, vga, 640 * 480, None, vga),
        Err(MediaError::ShortBuffer { .. })
    ));
    assert!(check(CameraFormat::Yuyv, vga, 1 << 20, Some(1279), vga).is_err());
    assert!(check(CameraFormat::Yuyv, vga, 1 << 20, None, Size::new(640, 360)).is_err());
    let odd = Size::new(641, 481);
    assert!(check(CameraFormat::Yuyv, odd, 1 << 20, None, odd).is_err());
    assert!(check(CameraFormat::Nv12, odd, 1 << 20, None, odd).is_err());
    assert!(check(CameraFormat::Rgb24, odd, 1 << 20, None, odd).is_ok());
    assert!(check(CameraFormat::I420, odd, 1 << 20, None, odd).is_ok());
    let none = Size::new(0, 0);
    assert!(check(CameraFormat::Gray8, none, 100, None, none).is_err());
    assert!(check(CameraFormat::Mjpeg, vga, 100, None, vga).is_err());
}

#[test]
fn a_jpeg_of_another_size_is_an_error() {
    let size = Size::new(32, 16);
    let picture =
        CameraPicture { format: CameraFormat::Mjpeg, size, stride_bytes: None, data: JPEGS[0].0 };
    let result = Converter::new().to_i420(&picture, &mut I420Buffer::black(size));
    assert!(matches!(result, Err(MediaError::UnsupportedSize(s)) if s == Size::new(16, 16)));
}

#[test]
fn rgba_shows_the_colours_again() {
    for (rgb, yuv) in COLORS {
        let mut picture = I420Buffer::black(Size::new(31, 17));
        for (plane, value) in picture.planes_mut().into_iter().zip(yuv) {
            plane.fill(value);
        }
        let rgba = to_rgba(&picture).unwrap();
        assert_eq!(rgba.len(), 4 * 31 * 17);
        for pixel in rgba.chunks_exact(4) {
            for (got, want) in pixel.iter().zip([rgb[0], rgb[1], rgb[2], 255]) {
                assert!(got.abs_diff(want) <= 3, "{pixel:?} for {rgb:?}");
            }
        }
    }
    assert!(to_rgba(&I420Buffer::black(Size::new(0, 5))).is_err());
}

proptest! {
    #[test]
    fn broken_jpegs_and_odd_buffers_never_panic(
        which in 0usize..3,
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..30),
        cut in any::<prop::sample::Index>(),
        size in (1u32..40, 1u32..40),
        format in prop::sample::select(&RAW_FORMATS[..]),
        stride in proptest::option::of(0usize..300),
        bytes in 0usize..5000,
    ) {
        let mut data = JPEGS[which].0.to_vec();
        for (index, value) in flips {
            let at = index.index(data.len());
            data[at] = value;
        }
        data.truncate(cut.index(data.len()) + 1);
        let jpeg_size = Size::new(16, 16);
        let mut converter = Converter::new();
        let picture = CameraPicture { format: CameraFormat::Mjpeg, size: jpeg_size, stride_bytes: None, data: &data };
        let _ = converter.to_i420(&picture, &mut I420Buffer::black(jpeg_size));
        let size = Size::new(size.0, size.1);
        let raw = vec![100; bytes];
        let picture = CameraPicture { format, size, stride_bytes: stride, data: &raw };
        let _ = converter.to_i420(&picture, &mut I420Buffer::black(size));
    }
}
