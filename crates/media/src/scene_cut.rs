//! Finds where a frame has nothing to do with the one before: another camera, another slide, a cut in a film. Sans-IO.

use std::time::Duration;

use crate::frame::{I420Buffer, MediaTime, Size};

/// Compares each frame with the one before.
#[derive(Debug, Default)]
pub struct SceneCuts {
    size: Option<Size>,
    /// Samples of the last frame's luma.
    last: Vec<u8>,
    /// Mean absolute difference of the samples of two frames, smoothed.
    usual: f32,
    last_cut: Option<MediaTime>,
}

impl SceneCuts {
    /// Whether this frame, captured at `now`, is the first of a new scene. Never for the first frame and the first of
    /// another size, with which encoders begin anyway, nor soon after the last cut.
    pub fn is_cut(&mut self, now: MediaTime, frame: &I420Buffer) -> bool {
        let [luma, ..] = frame.planes();
        let (size, stride) = (frame.size(), frame.luma_stride());
        let (width, height) = (size.width_px as usize, size.height_px as usize);
        let rows = luma.chunks(stride).take(height).step_by(SPACING_PX);
        let samples = rows.flat_map(|row| row.iter().take(width).step_by(SPACING_PX));
        if self.size != Some(size) {
            self.size = Some(size);
            self.last.clear();
            self.last.extend(samples);
            self.usual = 0.0;
            return false;
        }
        let mut sum = 0u32;
        for (last, sample) in self.last.iter_mut().zip(samples) {
            sum += u32::from(last.abs_diff(*sample));
            *last = *sample;
        }
        #[expect(clippy::cast_precision_loss, reason = "a mean of bytes")]
        let difference = sum as f32 / self.last.len().max(1) as f32;
        if difference < LEAST_DIFFERENCE || difference < TIMES_USUAL * self.usual {
            self.usual += (difference - self.usual) * SMOOTHING;
            return false;
        }
        let soon = self.last_cut.is_some_and(|at| now.saturating_since(at) < LEAST_SCENE);
        if !soon {
            self.last_cut = Some(now);
        }
        !soon
    }
}

/// Distance of the samples in both directions: 14,400 of 1280x720.
const SPACING_PX: usize = 8;
/// Of 219 steps of luma. A hand that moves before the camera makes up to 10.
const LEAST_DIFFERENCE: f32 = 12.0;
const TIMES_USUAL: f32 = 4.0;
const SMOOTHING: f32 = 0.1;
/// A keyframe takes the bits of ten frames or more.
const LEAST_SCENE: Duration = Duration::from_secs(2);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A picture that is `shift` pixels further to the left, of scene 0 or 1.
    fn frame(scene: u32, shift: u32) -> I420Buffer {
        let mut picture = I420Buffer::black(Size::new(640, 360));
        let stride = picture.luma_stride();
        let [luma, ..] = picture.planes_mut();
        for (at, sample) in luma.iter_mut().enumerate() {
            let (x, y) = (at % stride, at / stride);
            let wave = (x as f32 + shift as f32) / 40.0 + y as f32 / 25.0 * (scene as f32 + 0.3);
            *sample = (126.0 + 80.0 * wave.sin()) as u8;
        }
        picture
    }

    fn at(n: u64) -> MediaTime {
        MediaTime::from_micros(n * 33_333)
    }

    #[test]
    fn another_scene_is_a_cut_and_motion_is_none() {
        let mut cuts = SceneCuts::default();
        let found: Vec<u64> = (0..200)
            .filter(|n| cuts.is_cut(at(*n), &frame((*n >= 100).into(), *n as u32 * 4)))
            .collect();
        assert_eq!(found, [100]);
    }

    #[test]
    fn scenes_that_follow_each_other_quickly_are_one_cut() {
        let mut cuts = SceneCuts::default();
        let flicker = |n: u64| frame(u32::from(n.is_multiple_of(2)), 0);
        let found = (0..50).filter(|n| cuts.is_cut(at(*n), &flicker(*n))).count();
        assert_eq!(found, 1);
    }

    #[test]
    fn another_size_is_no_cut() {
        let mut cuts = SceneCuts::default();
        assert!(!cuts.is_cut(at(0), &frame(0, 0)));
        assert!(!cuts.is_cut(at(1), &I420Buffer::black(Size::new(2, 2))));
        assert!(!cuts.is_cut(at(2), &frame(1, 0)));
        assert!(cuts.is_cut(at(3), &frame(0, 0)));
    }
}
