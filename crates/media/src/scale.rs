//! Scaling of I420 pictures with SIMD.

use std::borrow::Cow;
use std::sync::Arc;

use pic_scale::{
    BufferStore, ImageSize, ImageStore, ImageStoreMut, PicScaleError, Resampling,
    ResamplingFunction,
};

use crate::error::MediaError;
use crate::frame::{I420Buffer, Size};
use crate::pool::BufferPool;

/// What happens when the shapes differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fit {
    /// Keep the aspect, cut off what sticks out, evenly on both sides.
    #[default]
    Crop,
    /// Keep the aspect, black bars.
    Letterbox,
    /// Fill the target whatever comes of the aspect.
    Stretch,
}

/// Scales pictures; keeps its working memory and its pictures for reuse. One thread at a time.
#[derive(Debug, Default)]
pub struct Scaler {
    planes: PlaneScaler,
    pool: BufferPool,
}

impl Scaler {
    /// A scaler.
    pub fn new() -> Self {
        Self::default()
    }

    /// `picture` at `size`; the same picture, not copied, if it has that size already.
    ///
    /// # Errors
    /// One of the sizes has no pixels.
    pub fn scale(
        &mut self,
        picture: &Arc<I420Buffer>,
        size: Size,
        fit: Fit,
    ) -> Result<Arc<I420Buffer>, MediaError> {
        let from = picture.size();
        if from == size {
            return Ok(Arc::clone(picture));
        }
        for s in [from, size] {
            if s.width_px == 0 || s.height_px == 0 {
                return Err(MediaError::UnsupportedSize(s));
            }
        }
        let source_crop = match fit {
            Fit::Crop => inscribed(from, size),
            Fit::Letterbox | Fit::Stretch => Rectangle::whole(from),
        };
        let target = match fit {
            Fit::Letterbox => inscribed(size, from),
            Fit::Crop | Fit::Stretch => Rectangle::whole(size),
        };
        let planes = &mut self.planes;
        self.pool.fill(size, |out| {
            if target != Rectangle::whole(size) {
                let [y, u, v] = out.planes_mut();
                y.fill(16);
                u.fill(128);
                v.fill(128);
            }
            for index in 0..3 {
                let chroma = index > 0;
                let source = Plane {
                    size: plane_size(from, chroma),
                    area: source_crop.of_plane(from, chroma),
                };
                let to =
                    Plane { size: plane_size(size, chroma), area: target.of_plane(size, chroma) };
                planes.scale(picture.planes()[index], source, out.planes_mut()[index], to)?;
            }
            Ok(())
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rectangle {
    left: u32,
    top: u32,
    size: Size,
}

impl Rectangle {
    fn whole(size: Size) -> Self {
        Self { left: 0, top: 0, size }
    }

    /// The same area in a plane of a picture of size `whole`. Rectangles have even corners.
    fn of_plane(self, whole: Size, chroma: bool) -> Self {
        if !chroma {
            return self;
        }
        let limit = plane_size(whole, true);
        let (left, top) = (self.left / 2, self.top / 2);
        let size = Size::new(
            self.size.width_px.div_ceil(2).min(limit.width_px - left),
            self.size.height_px.div_ceil(2).min(limit.height_px - top),
        );
        Self { left, top, size }
    }
}

#[derive(Clone, Copy)]
struct Plane {
    size: Size,
    area: Rectangle,
}

impl Plane {
    /// Where its area begins.
    fn offset(self) -> usize {
        self.area.top as usize * self.size.width_px as usize + self.area.left as usize
    }
}

fn plane_size(size: Size, chroma: bool) -> Size {
    if chroma { Size::new(size.width_px.div_ceil(2), size.height_px.div_ceil(2)) } else { size }
}

/// The largest centred area of `outer` with the aspect of `shape`, on even pixels.
fn inscribed(outer: Size, shape: Size) -> Rectangle {
    let (ow, oh) = (u64::from(outer.width_px), u64::from(outer.height_px));
    let (sw, sh) = (u64::from(shape.width_px), u64::from(shape.height_px));
    let even =
        |px: u64, limit: u64| if px + 1 >= limit { limit } else { (px & !1).max(2).min(limit) };
    let (w, h) = if ow * sh > oh * sw {
        (even((oh * sw + sh / 2) / sh, ow), oh)
    } else {
        (ow, even((ow * sh + sw / 2) / sw, oh))
    };
    // Both are at most `outer`'s, which are u32.
    let size = Size::new(w as u32, h as u32);
    let middle = |whole: u32, part: u32| ((whole - part) / 2) & !1;
    Rectangle {
        left: middle(outer.width_px, size.width_px),
        top: middle(outer.height_px, size.height_px),
        size,
    }
}

/// How planes of one size become planes of another: the weights of all their pixels.
struct Plan {
    from: Size,
    to: Size,
    resampling: Arc<Resampling<u8, 1>>,
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Plan({} to {})", self.from, self.to)
    }
}

/// Scales planes; keeps the weights, thousands of small numbers, for the next picture.
#[derive(Debug, Default)]
struct PlaneScaler {
    /// The oldest first.
    plans: Vec<Plan>,
    scratch: Vec<u8>,
}

impl PlaneScaler {
    fn scale(
        &mut self,
        source: &[u8],
        from: Plane,
        target: &mut [u8],
        to: Plane,
    ) -> Result<(), MediaError> {
        let failed = |e: PicScaleError| MediaError::Convert(e.to_string());
        let plan = self.plan(from.area.size, to.area.size).map_err(failed)?;
        if self.scratch.len() < plan.scratch_size() {
            self.scratch.resize(plan.scratch_size(), 0);
        }
        let (size, stride) = (dimensions(from.area.size), from.size.width_px as usize);
        let source = ImageStore {
            buffer: Cow::Borrowed(&source[from.offset()..]),
            channels: 1,
            width: size.width,
            height: size.height,
            stride,
            bit_depth: 8,
        };
        let (size, stride) = (dimensions(to.area.size), to.size.width_px as usize);
        let mut target = ImageStoreMut {
            buffer: BufferStore::Borrowed(&mut target[to.offset()..]),
            channels: 1,
            width: size.width,
            height: size.height,
            stride,
            bit_depth: 8,
        };
        plan.resample_with_scratch(&source, &mut target, &mut self.scratch).map_err(failed)
    }

    fn plan(&mut self, from: Size, to: Size) -> Result<Arc<Resampling<u8, 1>>, PicScaleError> {
        if let Some(plan) = self.plans.iter().find(|p| (p.from, p.to) == (from, to)) {
            return Ok(Arc::clone(&plan.resampling));
        }
        let resampling = pic_scale::Scaler::new(ResamplingFunction::Bilinear)
            .plan_planar_resampling(dimensions(from), dimensions(to))?;
        if self.plans.len() == MAX_PLANS {
            self.plans.remove(0);
        }
        self.plans.push(Plan { from, to, resampling: Arc::clone(&resampling) });
        Ok(resampling)
    }
}

fn dimensions(size: Size) -> ImageSize {
    ImageSize::new(size.width_px as usize, size.height_px as usize)
}

/// Luma and chroma of the size in use and of the one before.
const MAX_PLANS: usize = 4;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::synthetic::{TestPattern, read_time_code};
    use proptest::prelude::*;
    use std::time::Duration;

    fn pattern(width: u32, height: u32) -> Arc<I420Buffer> {
        TestPattern::new(Size::new(width, height)).frame(Duration::from_secs(1), 0x1357_9bdf)
    }

    #[test]
    fn time_code_survives_every_usual_scaling() {
        let mut scaler = Scaler::new();
        for from in [(1280, 720), (640, 360), (1920, 1080)] {
            let source = pattern(from.0, from.1);
            for to in [(1280, 720), (960, 540), (640, 360), (320, 180), (854, 480)] {
                let scaled = scaler.scale(&source, Size::new(to.0, to.1), Fit::Stretch).unwrap();
                assert_eq!(read_time_code(&scaled), Some(0x1357_9bdf), "{from:?} to {to:?}");
            }
        }
    }

    #[test]
    fn same_size_is_free() {
        let source = pattern(640, 360);
        let same = Scaler::new().scale(&source, source.size(), Fit::Crop).unwrap();
        assert!(Arc::ptr_eq(&source, &same));
    }

    #[test]
    fn a_circle_stays_round_in_crop_and_letterbox() {
        // A white square in the middle of a wide picture.
        let mut source = I420Buffer::black(Size::new(400, 200));
        for row in source.planes_mut()[0].chunks_exact_mut(400).skip(50).take(100) {
            row[150..250].fill(235);
        }
        let source = Arc::new(source);
        for (fit, side, size) in
            [(Fit::Crop, 100, Size::new(200, 200)), (Fit::Letterbox, 50, Size::new(200, 200))]
        {
            let out = Scaler::new().scale(&source, size, fit).unwrap();
            let luma = out.planes()[0];
            let middle_row = luma[100 * 200..101 * 200].iter().filter(|&&p| p > 128).count();
            let middle_column = luma.chunks_exact(200).filter(|row| row[100] > 128).count();
            assert_eq!((middle_row, middle_column), (side, side), "{fit:?}");
        }
    }

    #[test]
    fn letterbox_bars_are_black_even_in_a_reused_picture() {
        let mut scaler = Scaler::new();
        let white = {
            let mut b = I420Buffer::black(Size::new(100, 100));
            b.planes_mut()[0].fill(235);
            Arc::new(b)
        };
        drop(scaler.scale(&white, Size::new(200, 100), Fit::Stretch).unwrap());
        let out = scaler.scale(&white, Size::new(200, 100), Fit::Letterbox).unwrap();
        assert_eq!((out.planes()[0][0], out.planes()[0][100], out.planes()[0][199]), (16, 235, 16));
    }

    proptest! {
        #[test]
        fn any_sizes_scale_without_panic(
            from in (1u32..300, 1u32..300),
            to in (1u32..300, 1u32..300),
            fit in prop_oneof![Just(Fit::Crop), Just(Fit::Letterbox), Just(Fit::Stretch)],
        ) {
            let source = Arc::new(I420Buffer::black(Size::new(from.0, from.1)));
            let out = Scaler::new().scale(&source, Size::new(to.0, to.1), fit).unwrap();
            prop_assert_eq!(out.size(), Size::new(to.0, to.1));
            prop_assert!(out.planes()[0].iter().all(|&p| p == 16));
        }
    }
}
