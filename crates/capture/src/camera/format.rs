//! Which of a camera's modes suits best. Pure.

use visavis_media::Size;
use visavis_media::convert::CameraFormat;

/// One thing a camera can deliver.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Mode {
    pub(crate) format: CameraFormat,
    pub(crate) size: Size,
    /// Frames a second.
    pub(crate) fps: f64,
}

/// What is wanted of a camera.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) size: Size,
    /// What it may be asked for later.
    pub(crate) larger: Option<Size>,
    pub(crate) fps: u32,
    /// Only this one, if given.
    pub(crate) format: Option<CameraFormat>,
}

/// Larger than any camera; a driver that says more is not believed.
const MAX_SIDE_PX: u32 = 8192;

/// The best mode, or `None` if none is usable.
///
/// The wanted size at the wanted rate or more wins; raw formats win over MJPEG, which costs a
/// decoder, as long as they deliver the rate (over USB 2, 1280x720 YUYV comes at 10 a second). After that a
/// larger picture is better than a smaller one, and half the rate is about as bad as half the
/// pixels.
pub(crate) fn choose(modes: &[Mode], wanted: Wanted) -> Option<Mode> {
    modes
        .iter()
        .filter(|m| {
            let Size { width_px, height_px } = m.size;
            (2..=MAX_SIDE_PX).contains(&width_px)
                && (2..=MAX_SIDE_PX).contains(&height_px)
                && (m.format == CameraFormat::Mjpeg || (width_px % 2 == 0 && height_px % 2 == 0))
                && m.fps > 0.0
                && wanted.format.is_none_or(|f| f == m.format)
        })
        .min_by(|a, b| cost(a, wanted).total_cmp(&cost(b, wanted)))
        .copied()
}

/// What is wanted later, if the camera has it at a rate that is good enough. `modes` gives what it offers around a size.
pub(crate) fn larger(wanted: Wanted, modes: impl FnOnce(Wanted) -> Vec<Mode>) -> Option<Size> {
    let size = wanted.larger?;
    let later = Wanted { size, ..wanted };
    let mode = choose(&modes(later), later)?;
    let least = GOOD_FPS.min(f64::from(wanted.fps));
    (mode.size == size && mode.fps + 0.5 >= least).then_some(size)
}

/// What films have.
const GOOD_FPS: f64 = 24.0;

/// Zero for the ideal mode; the unit is about one halving of what is delivered.
fn cost(mode: &Mode, wanted: Wanted) -> f64 {
    let area = |s: Size| f64::from(s.width_px) * f64::from(s.height_px);
    let aspect = |s: Size| f64::from(s.width_px) / f64::from(s.height_px);
    let size = (area(mode.size) / area(wanted.size)).log2();
    // A camera that says 29.97 delivers 30 as far as anybody can see.
    let rate = ((mode.fps + 0.5) / f64::from(wanted.fps)).log2();

    let mut cost = if size < 0.0 { -size } else { 0.3 * size };
    cost += if rate < 0.0 { -1.2 * rate } else { 0.05 * rate };
    if mode.size != wanted.size {
        cost += 0.2;
    }
    if (aspect(mode.size) / aspect(wanted.size) - 1.0).abs() > 0.02 {
        cost += 0.2;
    }
    if mode.format == CameraFormat::Mjpeg {
        cost += 0.15;
    }
    cost
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(format: CameraFormat, width: u32, height: u32, fps: f64) -> Mode {
        Mode { format, size: Size::new(width, height), fps }
    }

    fn wanted(width: u32, height: u32, fps: u32) -> Wanted {
        Wanted { size: Size::new(width, height), larger: None, fps, format: None }
    }

    /// What a usual USB 2 webcam offers.
    fn webcam() -> Vec<Mode> {
        use CameraFormat::{Mjpeg, Yuyv};
        vec![
            mode(Yuyv, 640, 480, 30.0),
            mode(Yuyv, 640, 480, 15.0),
            mode(Yuyv, 640, 360, 30.0),
            mode(Yuyv, 1280, 720, 10.0),
            mode(Yuyv, 1920, 1080, 5.0),
            mode(Mjpeg, 640, 480, 30.0),
            mode(Mjpeg, 640, 360, 30.0),
            mode(Mjpeg, 1280, 720, 30.0),
            mode(Mjpeg, 1280, 720, 15.0),
            mode(Mjpeg, 1920, 1080, 30.0),
        ]
    }

    #[test]
    fn exact_size_and_rate_is_taken_raw_where_raw_delivers_it() {
        let best = choose(&webcam(), wanted(640, 360, 30));
        assert_eq!(best, Some(mode(CameraFormat::Yuyv, 640, 360, 30.0)));
    }

    #[test]
    fn mjpeg_is_taken_where_raw_is_too_slow() {
        let best = choose(&webcam(), wanted(1280, 720, 30));
        assert_eq!(best, Some(mode(CameraFormat::Mjpeg, 1280, 720, 30.0)));
    }

    #[test]
    fn a_slow_wish_is_met_raw() {
        let best = choose(&webcam(), wanted(1280, 720, 10));
        assert_eq!(best, Some(mode(CameraFormat::Yuyv, 1280, 720, 10.0)));
    }

    #[test]
    fn next_larger_size_of_the_same_shape_replaces_a_missing_one() {
        let best = choose(&webcam(), wanted(960, 540, 30));
        assert_eq!(best, Some(mode(CameraFormat::Mjpeg, 1280, 720, 30.0)));
    }

    #[test]
    fn nearest_smaller_size_is_taken_where_none_is_larger() {
        let modes =
            [mode(CameraFormat::Yuyv, 320, 240, 30.0), mode(CameraFormat::Yuyv, 640, 480, 30.0)];
        assert_eq!(choose(&modes, wanted(1280, 720, 30)), Some(modes[1]));
    }

    #[test]
    fn a_slightly_slow_camera_keeps_its_size() {
        let modes =
            [mode(CameraFormat::Nv12, 160, 120, 30.0), mode(CameraFormat::Nv12, 1280, 720, 25.0)];
        assert_eq!(choose(&modes, wanted(1280, 720, 30)), Some(modes[1]));
    }

    #[test]
    fn fractional_rates_count_as_whole_ones() {
        let modes = [
            mode(CameraFormat::Yuyv, 1280, 720, 29.97),
            mode(CameraFormat::Mjpeg, 1280, 720, 30.0),
        ];
        assert_eq!(choose(&modes, wanted(1280, 720, 30)), Some(modes[0]));
    }

    #[test]
    fn a_demanded_format_excludes_the_others() {
        let best =
            choose(&webcam(), Wanted { format: Some(CameraFormat::Mjpeg), ..wanted(640, 360, 30) });
        assert_eq!(best, Some(mode(CameraFormat::Mjpeg, 640, 360, 30.0)));
        let none =
            choose(&webcam(), Wanted { format: Some(CameraFormat::Nv12), ..wanted(1, 1, 1) });
        assert_eq!(none, None);
    }

    #[test]
    fn a_larger_size_is_offered_only_if_it_is_exact_and_quick_enough() {
        let full_hd = Size::new(1920, 1080);
        let asked = |modes: Vec<Mode>, fps| {
            let wanted = Wanted { larger: Some(full_hd), ..wanted(1280, 720, fps) };
            larger(wanted, |later| {
                assert_eq!(later.size, full_hd);
                modes
            })
        };
        assert_eq!(asked(webcam(), 30), Some(full_hd));
        let mut slow = webcam();
        slow.retain(|m| m.format == CameraFormat::Yuyv);
        assert_eq!(asked(slow.clone(), 30), None, "5 frames a second");
        assert_eq!(asked(slow, 5), Some(full_hd));
        assert_eq!(asked(vec![mode(CameraFormat::Mjpeg, 2560, 1440, 30.0)], 30), None);
        assert_eq!(asked(Vec::new(), 30), None);
        assert_eq!(larger(wanted(1280, 720, 30), |_| webcam()), None, "nobody asks");
    }

    #[test]
    fn impossible_modes_are_ignored() {
        let modes = [
            mode(CameraFormat::Yuyv, 0, 480, 30.0),
            mode(CameraFormat::Yuyv, 640, u32::MAX, 30.0),
            mode(CameraFormat::Yuyv, 640, 480, 0.0),
            mode(CameraFormat::Yuyv, 640, 480, f64::NAN),
            mode(CameraFormat::Nv12, 641, 481, 30.0),
        ];
        assert_eq!(choose(&modes, wanted(640, 480, 30)), None);
    }
}
