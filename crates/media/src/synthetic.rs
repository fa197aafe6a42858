//! Made-up media for tests, benchmarks and calls without devices: a moving picture that carries the
//! sender's clock in its pixels and flashes with each of its seconds, a tone, and a beep with each
//! flash.

use std::sync::Arc;
use std::time::Duration;

use crate::frame::{AUDIO_FRAME_SAMPLES, AUDIO_RATE_HZ, AudioFrame, I420Buffer, MediaTime, Size};
use crate::pool::BufferPool;

/// Colour bars, a scrolling ramp and two bouncing balls, with the time code in the top strip, and in
/// the lowest quarter (or all over) the grain of a camera's sensor: flat colours alone leave an
/// encoder without work and never fill the bitrate.
#[derive(Debug)]
pub struct TestPattern {
    background: I420Buffer,
    /// One period of the scrolling ramp, twice, so that any offset is one slice.
    ramp: Vec<u8>,
    /// Noise to cut a new piece from for each row.
    grain: Vec<i8>,
    grainy_rows: std::ops::Range<usize>,
    cuts: u32,
    pool: BufferPool,
}

impl TestPattern {
    /// A pattern of `size`. It needs at least 40x20 pixels for a readable time code.
    pub fn new(size: Size) -> Self {
        let mut background = I420Buffer::black(size);
        paint_bars(&mut background);
        let width = size.width_px as usize;
        let ramp = (0..2 * width)
            .map(|x| {
                let phase = (x % width.max(1)) * 2 * RAMP_SPAN / width.max(1);
                let level = if phase < RAMP_SPAN { phase } else { 2 * RAMP_SPAN - phase };
                u8::try_from(20 + level).unwrap_or(235)
            })
            .collect();
        let rows = size.height_px as usize;
        Self {
            background,
            ramp,
            grain: grain(width),
            grainy_rows: rows - rows / 4..rows,
            cuts: 0,
            pool: BufferPool::new(),
        }
    }

    /// The same under grain all over, as from a camera in poor light.
    pub fn with_grain(size: Size) -> Self {
        Self { grainy_rows: 0..size.height_px as usize, ..Self::new(size) }
    }

    /// The picture `elapsed` after the start, with `unix_ms` (the sender's Unix time in
    /// milliseconds, modulo 2^32) in its strip.
    pub fn frame(&mut self, elapsed: Duration, unix_ms: u32) -> Arc<I420Buffer> {
        let size = self.background.size();
        let (background, ramp, grain) = (&self.background, &self.ramp, &self.grain);
        let rows = self.grainy_rows.clone();
        let cuts = &mut self.cuts;
        let filled: Result<_, std::convert::Infallible> = self.pool.fill(size, |out| {
            for (to, from) in out.planes_mut().into_iter().zip(background.planes()) {
                to.copy_from_slice(from);
            }
            scroll_ramp(out, ramp, elapsed);
            for ball in &BALLS {
                ball.draw(out, elapsed);
            }
            add_grain(out, grain, rows, cuts);
            write_time_code(out, unix_ms);
            Ok(())
        });
        match filled {
            Ok(buffer) => buffer,
            Err(never) => match never {},
        }
    }
}

/// Luma noise with a standard deviation of 4 of 255.
fn grain(width: usize) -> Vec<i8> {
    let mut state = 0x2545_f491u32;
    let mut uniform = || {
        // xorshift32 (Marsaglia, 2003): the same noise everywhere.
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 24) as i32 - 128
    };
    // The sum of four uniform numbers is nearly normal; theirs has a deviation of 148.
    (0..GRAIN_TILE + width).map(|_| ((0..4).map(|_| uniform()).sum::<i32>() / 37) as i8).collect()
}

/// Lays another piece of the noise over each of `rows`.
fn add_grain(out: &mut I420Buffer, grain: &[i8], rows: std::ops::Range<usize>, cuts: &mut u32) {
    let (width, stride) = (out.size().width_px as usize, out.luma_stride());
    let [luma, ..] = out.planes_mut();
    for row in luma.chunks_exact_mut(stride).take(rows.end).skip(rows.start) {
        // Knuth's multiplicative hash: the pieces seem unrelated.
        *cuts = cuts.wrapping_add(1);
        let from = (cuts.wrapping_mul(2_654_435_769) >> 16) as usize % GRAIN_TILE;
        for (pixel, noise) in row[..width].iter_mut().zip(&grain[from..]) {
            *pixel = pixel.saturating_add_signed(*noise);
        }
    }
}

/// Writes the 32 blocks of the time code into the top strip: block `b`, counted from the left edge
/// and 1/40 of the width square, is white (luma 185 to 235) if bit `b` of `unix_ms` is set, else black (16).
/// The strip's right end, six blocks wide, is the flash: white while [`is_flash`].
pub fn write_time_code(picture: &mut I420Buffer, unix_ms: u32) {
    let size = picture.size();
    let (width, height) = (size.width_px as usize, size.height_px as usize);
    let strip = (width / BLOCKS_ACROSS).min(height);
    let chroma_stride = picture.chroma_stride();
    let [y, u, v] = picture.planes_mut();
    for row in y.chunks_exact_mut(width.max(1)).take(strip) {
        row.fill(BLACK);
        for bit in 0..BITS {
            if unix_ms >> bit & 1 == 1 {
                row[bit * width / BLOCKS_ACROSS..(bit + 1) * width / BLOCKS_ACROSS]
                    .fill(WHITES[bit % WHITES.len()]);
            }
        }
        if is_flash(unix_ms) {
            row[FLASH_BLOCK * width / BLOCKS_ACROSS..].fill(WHITE);
        }
    }
    for plane in [u, v] {
        for row in plane.chunks_exact_mut(chroma_stride.max(1)).take(strip.div_ceil(2)) {
            row.fill(128);
        }
    }
}

/// Reads the time code. `None` if any block is neither clearly white nor clearly black, or all are
/// the same (a blank picture, and a clock reading that comes once in 49 days).
pub fn read_time_code(picture: &I420Buffer) -> Option<u32> {
    let size = picture.size();
    let (width, height) = (size.width_px as usize, size.height_px as usize);
    let side = width / BLOCKS_ACROSS;
    if side == 0 || side > height {
        return None;
    }
    let mut code = 0u32;
    for bit in 0..BITS {
        match block_luma(picture, bit) {
            0..=MAX_BLACK => {}
            MIN_WHITE.. => code |= 1 << bit,
            _ => return None,
        }
    }
    (code != 0 && code != u32::MAX).then_some(code)
}

/// Whether there is a flash at this time code: in the first tenth of each second of it.
pub fn is_flash(unix_ms: u32) -> bool {
    unix_ms % BEAT_MS < FLASH_MS
}

/// Time since the flash began, for the time code of a picture that shows one.
pub fn since_flash(unix_ms: u32) -> Duration {
    Duration::from_millis((unix_ms % BEAT_MS).into())
}

/// Whether the flash's place is white, the time code beside it legible or not.
pub fn shows_flash(picture: &I420Buffer) -> bool {
    let size = picture.size();
    let side = size.width_px as usize / BLOCKS_ACROSS;
    side > 0
        && side <= size.height_px as usize
        && (FLASH_BLOCK..BLOCKS_ACROSS).all(|block| block_luma(picture, block) >= MIN_WHITE)
}

/// Mean luma of the middle half of a block both ways, for coding and scaling blur its edges. The
/// strip has to fit into the picture.
fn block_luma(picture: &I420Buffer, block: usize) -> usize {
    let width = picture.size().width_px as usize;
    let side = width / BLOCKS_ACROSS;
    let left = (4 * block + 1) * width / (4 * BLOCKS_ACROSS);
    let right = ((4 * block + 3) * width).div_ceil(4 * BLOCKS_ACROSS);
    let (top, bottom) = (side / 4, (3 * side).div_ceil(4));
    let rows = picture.planes()[0].chunks_exact(width).take(bottom).skip(top);
    let sum: usize =
        rows.map(|row| row[left..right].iter().map(|&p| usize::from(p)).sum::<usize>()).sum();
    sum / ((right - left) * (bottom - top))
}

/// A sine without a break in its phase.
#[derive(Debug, Clone)]
pub struct Tone {
    step: f64,
    phase: f64,
    amplitude: f64,
}

impl Tone {
    /// A tone of `frequency_hz` with its peaks at `level_dbfs` (0 is full scale).
    pub fn new(frequency_hz: f64, level_dbfs: f64) -> Self {
        Self {
            step: std::f64::consts::TAU * frequency_hz / f64::from(AUDIO_RATE_HZ),
            phase: 0.0,
            amplitude: 10f64.powf(level_dbfs / 20.0),
        }
    }

    /// The next 10 ms, stamped `time`.
    pub fn next_frame(&mut self, time: MediaTime) -> AudioFrame {
        let samples = (0..AUDIO_FRAME_SAMPLES)
            .map(|_| {
                let sample = self.amplitude * self.phase.sin();
                self.phase = (self.phase + self.step) % std::f64::consts::TAU;
                sample as f32
            })
            .collect();
        AudioFrame { samples, time }
    }
}

impl Default for Tone {
    /// 440 Hz at -12 dBFS.
    fn default() -> Self {
        Self::new(440.0, -12.0)
    }
}

/// A tone on the left and another one on the right.
#[derive(Debug, Clone)]
pub struct StereoTone(Tone, Tone);

impl StereoTone {
    /// The next 10 ms, stamped `time`.
    pub fn next_frame(&mut self, time: MediaTime) -> AudioFrame {
        let (left, right) = (self.0.next_frame(time).samples, self.1.next_frame(time).samples);
        let samples = left.into_iter().zip(right).flat_map(|(left, right)| [left, right]).collect();
        AudioFrame { samples, time }
    }
}

impl Default for StereoTone {
    /// 440 Hz on the left, 880 Hz on the right, both at -12 dBFS.
    fn default() -> Self {
        Self(Tone::new(440.0, -12.0), Tone::new(880.0, -12.0))
    }
}

/// A tone of 1 kHz, -12 dBFS, while there is a flash ([`is_flash`]) and silence between.
#[derive(Debug, Clone)]
pub struct Beep(Tone);

impl Beep {
    /// The next 10 ms, stamped `time`; `unix_us` is the sender's Unix time at its first sample,
    /// microseconds.
    pub fn next_frame(&mut self, time: MediaTime, unix_us: u64) -> AudioFrame {
        let mut frame = self.0.next_frame(time);
        for (sample, n) in frame.samples.iter_mut().zip(0u64..) {
            let unix_ms = (unix_us + n * 1_000_000 / u64::from(AUDIO_RATE_HZ)) / 1000;
            #[expect(clippy::cast_possible_truncation, reason = "a time code is modulo 2^32")]
            if !is_flash(unix_ms as u32) {
                *sample = 0.0;
            }
        }
        frame
    }
}

impl Default for Beep {
    fn default() -> Self {
        Self(Tone::new(1000.0, -12.0))
    }
}

struct Ball {
    color: [u8; 3],
    /// Diameter in parts of the picture's height.
    diameter: f64,
    /// Crossings of the picture a second, across and down.
    speed: (f64, f64),
}

impl Ball {
    fn draw(&self, out: &mut I420Buffer, elapsed: Duration) {
        let (width, height) = (f64::from(out.size().width_px), f64::from(out.size().height_px));
        let radius = self.diameter * height / 2.0;
        let top = width / BLOCKS_ACROSS as f64;
        if top + 2.0 * radius > height || 2.0 * radius > width {
            return;
        }
        let t = elapsed.as_secs_f64();
        let x = radius + bounce(t * self.speed.0) * (width - 2.0 * radius);
        let y = top + radius + bounce(t * self.speed.1) * (height - top - 2.0 * radius);
        let strides = [out.luma_stride(), out.chroma_stride(), out.chroma_stride()];
        for (index, plane) in out.planes_mut().into_iter().enumerate() {
            let scale = if index == 0 { 1.0 } else { 0.5 };
            let (cx, cy, r) = (x * scale, y * scale, radius * scale);
            for (row_index, row) in
                plane.chunks_exact_mut(strides[index]).enumerate().skip((cy - r).max(0.0) as usize)
            {
                let dy = row_index as f64 + 0.5 - cy;
                if dy > r {
                    break;
                }
                let half = (r * r - dy * dy).max(0.0).sqrt();
                let (from, to) =
                    (((cx - half) as usize).min(row.len()), ((cx + half) as usize).min(row.len()));
                row[from..to].fill(self.color[index]);
            }
        }
    }
}

/// 0 to 1 and back, linear, period 2.
fn bounce(phase: f64) -> f64 {
    let phase = phase.rem_euclid(2.0);
    if phase < 1.0 { phase } else { 2.0 - phase }
}

fn paint_bars(out: &mut I420Buffer) {
    let strides = [out.luma_stride(), out.chroma_stride(), out.chroma_stride()];
    for (index, plane) in out.planes_mut().into_iter().enumerate() {
        let stride = strides[index].max(1);
        for row in plane.chunks_exact_mut(stride) {
            for (x, pixel) in row.iter_mut().enumerate() {
                *pixel = BARS[x * BARS.len() / stride][index];
            }
        }
    }
}

/// The lower fifth: a grey ramp that runs across the picture in four seconds.
fn scroll_ramp(out: &mut I420Buffer, ramp: &[u8], elapsed: Duration) {
    let (width, height) = (out.size().width_px as usize, out.size().height_px as usize);
    if width == 0 {
        return;
    }
    let offset = (elapsed.as_secs_f64() / 4.0 * width as f64) as usize % width;
    let first = height - height / 5;
    let chroma_stride = out.chroma_stride();
    let [y, u, v] = out.planes_mut();
    for row in y.chunks_exact_mut(width).skip(first) {
        row.copy_from_slice(&ramp[offset..offset + width]);
    }
    for plane in [u, v] {
        for row in plane.chunks_exact_mut(chroma_stride).skip(first / 2) {
            row.fill(128);
        }
    }
}

/// Blocks that would fill the strip from edge to edge.
const BLOCKS_ACROSS: usize = 40;
/// Blocks used.
const BITS: usize = 32;
/// The flash begins here and goes on to the right edge.
const FLASH_BLOCK: usize = 34;
/// From flash to flash.
const BEAT_MS: u32 = 1000;
const FLASH_MS: u32 = 100;
const WHITE: u8 = 235;
/// White of neighbouring blocks, each its own. libvpx (1.12) and libaom (3.11) take a change of flat areas within 64x64 pixels
/// for none if it is zero on the whole (`set_early_term_based_on_uv_plane`: `sse == var`), as when two equally white blocks
/// change places.
const WHITES: [u8; 8] = [235, 225, 210, 190, 230, 220, 205, 185];
const BLACK: u8 = 16;
/// Mean luma that still counts as black, and that already counts as white.
const MAX_BLACK: usize = 85;
const MIN_WHITE: usize = 165;
/// Noise beyond one row, bytes.
const GRAIN_TILE: usize = 60_000;
/// Luma steps of the ramp.
const RAMP_SPAN: usize = 200;
/// 75 % colour bars in BT.601 limited range (white, yellow, cyan, green, magenta, red, blue).
const BARS: [[u8; 3]; 7] = [
    [180, 128, 128],
    [162, 44, 142],
    [131, 156, 44],
    [112, 72, 58],
    [84, 184, 198],
    [65, 100, 212],
    [35, 212, 114],
];
const BALLS: [Ball; 2] = [
    Ball { color: [210, 110, 140], diameter: 0.28, speed: (0.45, 0.71) },
    Ball { color: [45, 150, 110], diameter: 0.16, speed: (0.83, 0.37) },
];

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn time_code_survives_write_and_read_at_every_usual_size() {
        for (w, h) in
            [(1920, 1080), (1280, 720), (960, 540), (640, 480), (641, 361), (320, 180), (160, 120)]
        {
            let mut pattern = TestPattern::new(Size::new(w, h));
            for code in [1, 0x8000_0000, 0xdead_beef, 0x5555_5555, 1_760_000_000] {
                let frame = pattern.frame(Duration::from_millis(1234), code);
                assert_eq!(read_time_code(&frame), Some(code), "{w}x{h}");
            }
        }
    }

    #[test]
    fn grain_is_new_in_each_picture_and_leaves_the_time_code() {
        let size = Size::new(640, 360);
        let mut pattern = TestPattern::with_grain(size);
        let first = pattern.frame(Duration::ZERO, 77);
        let second = pattern.frame(Duration::ZERO, 77);
        let plain = TestPattern::new(size).frame(Duration::ZERO, 77);
        for picture in [&first, &second] {
            assert_eq!(read_time_code(picture), Some(77));
        }
        // The same moment: only the noise differs, by its deviation of 4 (times the root of 2).
        let spread = |a: &I420Buffer, b: &I420Buffer| {
            let pairs = a.planes()[0].iter().zip(b.planes()[0]);
            let squares: f64 = pairs.map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
            (squares / a.planes()[0].len() as f64).sqrt()
        };
        let (from_plain, from_each_other) = (spread(&first, &plain), spread(&first, &second));
        assert!((3.0..5.0).contains(&from_plain), "{from_plain}");
        assert!((4.5..7.0).contains(&from_each_other), "{from_each_other}");
    }

    #[test]
    fn blank_and_grey_pictures_have_no_time_code() {
        let size = Size::new(640, 360);
        let mut picture = I420Buffer::black(size);
        assert_eq!(read_time_code(&picture), None);
        picture.planes_mut()[0].fill(235);
        assert_eq!(read_time_code(&picture), None);
        write_time_code(&mut picture, 0x1234_5678);
        picture.planes_mut()[0][..640 * 9].fill(128);
        assert_eq!(read_time_code(&picture), None);
        assert_eq!(read_time_code(&I420Buffer::black(Size::new(2, 2))), None);
    }

    #[test]
    fn flash_and_beep_begin_with_the_second() {
        let mut pattern = TestPattern::new(Size::new(320, 180));
        for (code, flash) in [(7_000, true), (7_099, true), (7_100, false), (7_999, false)] {
            let picture = pattern.frame(Duration::ZERO, code);
            assert_eq!((shows_flash(&picture), read_time_code(&picture)), (flash, Some(code)));
        }
        assert!(!shows_flash(&I420Buffer::black(Size::new(2, 2))));
        let frame = Beep::default().next_frame(MediaTime::default(), 6_995_000);
        assert!(frame.samples[..240].iter().all(|s| *s == 0.0));
        assert!(frame.samples[240..].iter().any(|s| *s > 0.2));
    }

    #[test]
    fn pattern_moves_and_copes_with_tiny_sizes() {
        let mut pattern = TestPattern::new(Size::new(320, 180));
        let a = pattern.frame(Duration::ZERO, 5);
        let b = pattern.frame(Duration::from_millis(33), 5);
        let changed = a.as_packed().iter().zip(b.as_packed()).filter(|(a, b)| a != b).count();
        assert!(changed > 1000, "{changed} bytes changed");
        for (w, h) in [(1, 1), (2, 2), (17, 3), (3, 40)] {
            TestPattern::new(Size::new(w, h)).frame(Duration::from_secs(1), 7);
        }
    }

    #[test]
    fn tone_is_continuous_over_frames_and_has_its_level() {
        let mut tone = Tone::default();
        let samples: Vec<f32> =
            (0..10).flat_map(|_| tone.next_frame(MediaTime::default()).samples).collect();
        let peak = samples.iter().fold(0f32, |m, s| m.max(s.abs()));
        assert!((peak - 0.251).abs() < 0.002, "{peak}");
        let step = samples.windows(2).fold(0f32, |m, w| m.max((w[1] - w[0]).abs()));
        assert!(step < 0.251 * 0.058, "{step}");
    }
}
