//! Tells pictures of a screen (text, slides, drawings) from those of a camera. Sans-IO.
//!
//! Neighbouring pixels of a screen are mostly equal; a camera's have noise, and a film's are smooth at best.

use std::time::Duration;

use crate::adaptation::Content;
use crate::frame::{I420Buffer, MediaTime};

/// Looks at each frame.
#[derive(Debug, Default)]
pub struct ContentDetector {
    content: Content,
    other_since: Option<MediaTime>,
}

impl ContentDetector {
    /// What the frame captured at `now` shows, and those before it. A change takes bits: it becomes a screen only where the
    /// path has room (`roomy`).
    pub fn plan(&mut self, now: MediaTime, frame: &I420Buffer, roomy: bool) -> Content {
        let share = equal_neighbours(frame);
        let other = match self.content {
            Content::Camera if roomy && share >= SCREEN_SHARE => Content::Screen,
            Content::Screen if share < CAMERA_SHARE => Content::Camera,
            content => content,
        };
        if other == self.content {
            self.other_since = None;
        } else if now.saturating_since(*self.other_since.get_or_insert(now)) >= PATIENCE {
            self.content = other;
            self.other_since = None;
        }
        self.content
    }
}

/// Share of the sampled pixels whose right neighbour has the same luma, 0 to 1.
fn equal_neighbours(frame: &I420Buffer) -> f32 {
    let [luma, ..] = frame.planes();
    let (width, height) = (frame.size().width_px as usize, frame.size().height_px as usize);
    let (mut count, mut equal) = (0u32, 0u32);
    for row in luma.chunks(frame.luma_stride()).take(height).step_by(SPACING_PX) {
        let row = &row[..width.min(row.len())];
        for pair in row.chunks(SPACING_PX).filter(|chunk| chunk.len() > 1) {
            count += 1;
            equal += u32::from(pair[0] == pair[1]);
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "counts of samples")]
    let share = equal as f32 / count.max(1) as f32;
    share
}

/// Distance of the samples in both directions: 14,400 of 1280x720.
const SPACING_PX: usize = 8;
/// A page of text has 0.87 to 0.89, Big Buck Bunny 0.22 to 0.28, a coarse film at night 0.7.
const SCREEN_SHARE: f32 = 0.82;
const CAMERA_SHARE: f32 = 0.75;
/// A change begins with a keyframe.
const PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Size;

    /// Every `n`th pixel differs from its left neighbour.
    fn frame(n: usize) -> I420Buffer {
        let mut picture = I420Buffer::black(Size::new(640, 360));
        let stride = picture.luma_stride();
        for row in picture.planes_mut()[0].chunks_mut(stride) {
            for (x, sample) in row.iter_mut().enumerate() {
                *sample = 60 + (x / n % 2) as u8 * 100;
            }
        }
        picture
    }

    #[test]
    fn text_is_a_screen_and_what_changes_at_each_pixel_is_none() {
        let mut detector = ContentDetector::default();
        let mut seconds = |from: u64, n| {
            let frames = (0..150).map(|k| MediaTime::from_micros((from * 30 + k) * 33_333));
            frames
                .map(|now| detector.plan(now, &frame(n), true))
                .filter(|c| *c == Content::Screen)
                .count()
        };
        assert_eq!(seconds(0, 1), 0);
        // Two seconds pass before.
        assert!((85..95).contains(&seconds(5, 64)));
        assert_eq!(seconds(10, 64), 150);
        assert!((55..65).contains(&seconds(15, 1)));
        let now = MediaTime::from_micros(60_000_000);
        let narrow = (0..9).map(|second| now + Duration::from_secs(second));
        assert!(
            narrow.map(|now| detector.plan(now, &frame(64), false)).all(|c| c == Content::Camera)
        );
    }
}
