//! How alike two pictures look: structural similarity (Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment:
//! from error visibility to structural similarity", 2004) of the luma, over windows of 8x8 pixels that overlap by half, as
//! x264 and FFmpeg compute it. For tests and benchmarks.

use visavis_media::{I420Buffer, MediaError};

/// 1 for equal pictures, near 0 for unrelated ones.
///
/// # Errors
/// The sizes differ, or are below 8x8.
pub fn ssim(a: &I420Buffer, b: &I420Buffer) -> Result<f64, MediaError> {
    let size = a.size();
    if b.size() != size || size.width_px < 8 || size.height_px < 8 {
        return Err(MediaError::UnsupportedSize(b.size()));
    }
    let (a, b, stride) = (a.planes()[0], b.planes()[0], a.luma_stride());
    let (columns, rows) = (size.width_px as usize / 4, size.height_px as usize / 4);
    // Sums over blocks of 4x4; a window is four of them.
    let blocks = |row: usize| -> Vec<Sums> {
        let block = |column: usize| {
            let mut sums = Sums::default();
            for y in row * 4..row * 4 + 4 {
                let at = y * stride + column * 4;
                for (a, b) in a[at..at + 4].iter().zip(&b[at..at + 4]) {
                    sums.add(u32::from(*a), u32::from(*b));
                }
            }
            sums
        };
        (0..columns).map(block).collect()
    };
    let (mut total, mut windows) = (0.0, 0.0);
    let mut above = blocks(0);
    for row in 1..rows {
        let below = blocks(row);
        for (above, below) in above.windows(2).zip(below.windows(2)) {
            total += Sums::of([above[0], above[1], below[0], below[1]]).ssim();
            windows += 1.0;
        }
        above = below;
    }
    Ok(total / windows)
}

/// Of the pixels of a window in both pictures.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    a: u32,
    b: u32,
    squares: u32,
    products: u32,
}

impl Sums {
    fn add(&mut self, a: u32, b: u32) {
        self.a += a;
        self.b += b;
        self.squares += a * a + b * b;
        self.products += a * b;
    }

    fn of(parts: [Self; 4]) -> Self {
        parts.into_iter().fold(Self::default(), |sum, part| Self {
            a: sum.a + part.a,
            b: sum.b + part.b,
            squares: sum.squares + part.squares,
            products: sum.products + part.products,
        })
    }

    fn ssim(self) -> f64 {
        let [a, b, squares, products] =
            [self.a, self.b, self.squares, self.products].map(f64::from);
        let (mean_a, mean_b) = (a / PIXELS, b / PIXELS);
        let variances = squares / PIXELS - mean_a * mean_a - mean_b * mean_b;
        let covariance = products / PIXELS - mean_a * mean_b;
        (2.0 * mean_a * mean_b + C1) * (2.0 * covariance + C2)
            / ((mean_a * mean_a + mean_b * mean_b + C1) * (variances + C2))
    }
}

const PIXELS: f64 = 64.0;
/// (0.01 * 255)^2 and (0.03 * 255)^2, by the paper.
const C1: f64 = 6.5025;
const C2: f64 = 58.5225;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use visavis_media::Size;
    use visavis_media::synthetic::TestPattern;

    use super::*;

    #[test]
    fn equal_pictures_are_alike_and_noise_makes_them_less_so() {
        let picture = TestPattern::new(Size::new(320, 180)).frame(Duration::ZERO, 1);
        assert!((ssim(&picture, &picture).unwrap() - 1.0).abs() < 1e-9);
        let noisy = |strength: u8| {
            let mut noisy = (*picture).clone();
            for (n, pixel) in noisy.planes_mut()[0].iter_mut().enumerate() {
                *pixel = pixel.saturating_add((n as u8).wrapping_mul(167) % strength);
            }
            ssim(&picture, &noisy).unwrap()
        };
        let (slight, strong) = (noisy(8), noisy(64));
        assert!(slight < 1.0 && strong < slight && strong > 0.0, "{slight} {strong}");
        assert!(ssim(&picture, &I420Buffer::black(Size::new(8, 8))).is_err());
    }
}
