//! Camera formats to I420 and back to RGB, with SIMD. Runs on the camera's thread.
//!
//! Everything inside is BT.601 limited range, which is what cameras' YUV formats and video calls
//! use; JPEG is full range (JFIF) and RGB has no range, so both are brought into it.

use yuv::{
    BufferStoreMut, YuvConversionMode, YuvError, YuvPackedImage, YuvPlanarImage, YuvPlanarImageMut,
    YuvRange, YuvStandardMatrix,
};
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use crate::error::MediaError;
use crate::frame::{ColorMatrix, I420Buffer, Size};

/// How a camera lays out its pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CameraFormat {
    /// Packed 4:2:2, Y U Y V (YUY2). Even widths.
    Yuyv,
    /// Packed 4:2:2, U Y V Y. Even widths.
    Uyvy,
    /// A Y plane, then U and V interleaved at half size. Even sizes.
    Nv12,
    /// Y, U and V planes (YU12).
    I420,
    /// Three bytes a pixel, red first.
    Rgb24,
    /// Three bytes a pixel, blue first.
    Bgr24,
    /// Luma alone.
    Gray8,
    /// One JPEG picture each.
    Mjpeg,
}

/// One picture as a camera delivers it.
#[derive(Debug, Clone, Copy)]
pub struct CameraPicture<'a> {
    /// Layout.
    pub format: CameraFormat,
    /// Size the camera was set to.
    pub size: Size,
    /// Bytes from one row of the first plane to the next; `None`: rows are packed. Chroma planes
    /// follow with the same stride (NV12) or half of it (I420). Ignored for MJPEG.
    pub stride_bytes: Option<usize>,
    /// The bytes.
    pub data: &'a [u8],
}

/// Converts pictures; keeps its working memory.
#[derive(Debug, Default)]
pub struct Converter {
    rgb: Vec<u8>,
    /// A picture with its last row filled up.
    padded: Vec<u8>,
}

impl Converter {
    /// A converter.
    pub fn new() -> Self {
        Self::default()
    }

    /// Converts `picture` into `out`, which must have its size.
    ///
    /// # Errors
    /// Sizes that do not fit each other or the format, data that is too short, a broken JPEG.
    /// `out` then holds anything.
    pub fn to_i420(
        &mut self,
        picture: &CameraPicture<'_>,
        out: &mut I420Buffer,
    ) -> Result<(), MediaError> {
        let CameraPicture { format, size, data, .. } = *picture;
        if out.size() != size
            || size.width_px == 0
            || size.height_px == 0
            || size.width_px.max(size.height_px) > MAX_DIMENSION_PX
        {
            return Err(MediaError::UnsupportedSize(size));
        }
        let odd = |px: u32| !px.is_multiple_of(2);
        let (width, height) = (size.width_px as usize, size.height_px as usize);
        let row_bytes = match format {
            CameraFormat::Yuyv | CameraFormat::Uyvy if odd(size.width_px) => {
                return Err(MediaError::UnsupportedSize(size));
            }
            CameraFormat::Nv12 if odd(size.width_px) || odd(size.height_px) => {
                return Err(MediaError::UnsupportedSize(size));
            }
            CameraFormat::Yuyv | CameraFormat::Uyvy => 2 * width,
            CameraFormat::Nv12 | CameraFormat::I420 | CameraFormat::Gray8 => width,
            CameraFormat::Rgb24 | CameraFormat::Bgr24 => 3 * width,
            CameraFormat::Mjpeg => return self.jpeg_to_i420(size, data, out),
        };
        let stride = picture.stride_bytes.unwrap_or(row_bytes);
        if stride < row_bytes || stride > MAX_STRIDE_BYTES {
            return Err(MediaError::ShortBuffer {
                expected_bytes: row_bytes,
                actual_bytes: stride,
            });
        }
        let chroma_rows = height.div_ceil(2);
        let chroma_stride = stride.div_ceil(2);
        // The last row need not be padded.
        let expected = match format {
            CameraFormat::Nv12 => stride * (height + chroma_rows - 1) + width,
            CameraFormat::I420 => {
                stride * height + chroma_stride * (2 * chroma_rows - 1) + width.div_ceil(2)
            }
            _ => stride * (height - 1) + row_bytes,
        };
        if data.len() < expected {
            return Err(MediaError::ShortBuffer {
                expected_bytes: expected,
                actual_bytes: data.len(),
            });
        }
        // The SIMD routines want every row whole, the unpadded last one too, and nothing behind it.
        let padded_end = stride * height;
        let one_plane = !matches!(format, CameraFormat::Nv12 | CameraFormat::I420);
        let data = if !one_plane {
            data
        } else if let Some(exact) = data.get(..padded_end) {
            exact
        } else {
            self.padded.clear();
            self.padded.extend_from_slice(data);
            self.padded.resize(padded_end, 0);
            &self.padded
        };
        let stride_u32 = u32::try_from(stride).unwrap_or(u32::MAX);
        match format {
            CameraFormat::Yuyv | CameraFormat::Uyvy => {
                let packed = YuvPackedImage {
                    yuy: data,
                    yuy_stride: stride_u32,
                    width: size.width_px,
                    height: size.height_px,
                };
                let convert = if format == CameraFormat::Yuyv {
                    yuv::yuyv422_to_yuv420
                } else {
                    yuv::uyvy422_to_yuv420
                };
                convert(&mut planar_mut(out), &packed).map_err(convert_error)
            }
            CameraFormat::Rgb24 | CameraFormat::Bgr24 => {
                let convert = if format == CameraFormat::Rgb24 {
                    yuv::rgb_to_yuv420
                } else {
                    yuv::bgr_to_yuv420
                };
                convert(
                    &mut planar_mut(out),
                    data,
                    stride_u32,
                    YuvRange::Limited,
                    YuvStandardMatrix::Bt601,
                    YuvConversionMode::Balanced,
                )
                .map_err(convert_error)
            }
            CameraFormat::Nv12 => {
                let [y, u, v] = out.planes_mut();
                copy_rows(data, stride, y, width);
                let interleaved = &data[stride * height..];
                for ((row, u), v) in interleaved
                    .chunks(stride)
                    .zip(u.chunks_exact_mut(width / 2))
                    .zip(v.chunks_exact_mut(width / 2))
                {
                    for ((pair, u), v) in row.as_chunks::<2>().0.iter().zip(u).zip(v) {
                        [*u, *v] = *pair;
                    }
                }
                Ok(())
            }
            CameraFormat::I420 => {
                let chroma_width = out.chroma_stride();
                let [y, u, v] = out.planes_mut();
                copy_rows(data, stride, y, width);
                let data = &data[stride * height..];
                copy_rows(data, chroma_stride, u, chroma_width);
                copy_rows(&data[chroma_stride * chroma_rows..], chroma_stride, v, chroma_width);
                Ok(())
            }
            CameraFormat::Gray8 => {
                let [y, u, v] = out.planes_mut();
                copy_rows(data, stride, y, width);
                u.fill(128);
                v.fill(128);
                Ok(())
            }
            // Returned above.
            CameraFormat::Mjpeg => Err(MediaError::UnsupportedSize(size)),
        }
    }

    fn jpeg_to_i420(
        &mut self,
        size: Size,
        data: &[u8],
        out: &mut I420Buffer,
    ) -> Result<(), MediaError> {
        let options = DecoderOptions::default()
            .set_max_width(size.width_px as usize)
            .set_max_height(size.height_px as usize)
            .set_strict_mode(false)
            .jpeg_set_out_colorspace(ColorSpace::RGB);
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(data), options);
        let failed = |e: zune_jpeg::errors::DecodeErrors| MediaError::Jpeg(e.to_string());
        decoder.decode_headers().map_err(failed)?;
        let info = decoder.info().ok_or_else(|| MediaError::Jpeg("no header".into()))?;
        let actual = Size::new(info.width.into(), info.height.into());
        if actual != size {
            return Err(MediaError::UnsupportedSize(actual));
        }
        let rgb_bytes = 3 * size.width_px as usize * size.height_px as usize;
        if decoder.output_buffer_size() != Some(rgb_bytes) {
            return Err(MediaError::Jpeg("not a colour picture".into()));
        }
        self.rgb.resize(rgb_bytes, 0);
        decoder.decode_into(&mut self.rgb).map_err(failed)?;
        yuv::rgb_to_yuv420(
            &mut planar_mut(out),
            &self.rgb,
            3 * size.width_px,
            YuvRange::Limited,
            YuvStandardMatrix::Bt601,
            YuvConversionMode::Balanced,
        )
        .map_err(convert_error)
    }
}

/// RGBA pixels, packed, for screenshots and tests; the app converts on the GPU.
///
/// # Errors
/// The picture has no pixels.
pub fn to_rgba(picture: &I420Buffer) -> Result<Vec<u8>, MediaError> {
    let size = picture.size();
    if size.width_px == 0 || size.height_px == 0 {
        return Err(MediaError::UnsupportedSize(size));
    }
    let mut rgba = vec![0; 4 * size.width_px as usize * size.height_px as usize];
    yuv::yuv420_to_rgba(
        &planar(picture),
        &mut rgba,
        4 * size.width_px,
        YuvRange::Limited,
        match picture.matrix() {
            ColorMatrix::Bt601 => YuvStandardMatrix::Bt601,
            ColorMatrix::Bt709 => YuvStandardMatrix::Bt709,
        },
    )
    .map_err(convert_error)?;
    Ok(rgba)
}

fn copy_rows(from: &[u8], stride: usize, to: &mut [u8], width: usize) {
    for (from, to) in from.chunks(stride.max(1)).zip(to.chunks_exact_mut(width.max(1))) {
        to.copy_from_slice(&from[..width]);
    }
}

fn planar(picture: &I420Buffer) -> YuvPlanarImage<'_, u8> {
    let [y_plane, u_plane, v_plane] = picture.planes();
    let size = picture.size();
    let chroma = size.width_px.div_ceil(2);
    YuvPlanarImage {
        y_plane,
        y_stride: size.width_px,
        u_plane,
        u_stride: chroma,
        v_plane,
        v_stride: chroma,
        width: size.width_px,
        height: size.height_px,
    }
}

fn planar_mut(picture: &mut I420Buffer) -> YuvPlanarImageMut<'_, u8> {
    let size = picture.size();
    let chroma = size.width_px.div_ceil(2);
    let [y, u, v] = picture.planes_mut();
    YuvPlanarImageMut {
        y_plane: BufferStoreMut::Borrowed(y),
        y_stride: size.width_px,
        u_plane: BufferStoreMut::Borrowed(u),
        u_stride: chroma,
        v_plane: BufferStoreMut::Borrowed(v),
        v_stride: chroma,
        width: size.width_px,
        height: size.height_px,
    }
}

fn convert_error(error: YuvError) -> MediaError {
    MediaError::Convert(error.to_string())
}

/// Larger than any camera.
const MAX_DIMENSION_PX: u32 = 8192;
const MAX_STRIDE_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests;
