//! Which video codec a call sends with. Sans-IO: the time is passed in, every change comes with its cause.
//!
//! A call begins with the codec that shows the first picture soonest. One that codes better at the same bitrate takes
//! over where the bitrate is too small for that codec and coding takes little enough of a picture's time, as
//! measured; where it turns out to take too much, a cheaper one follows and the other is not tried again for a while.

use std::fmt;
use std::time::Duration;

use crate::adaptation::is_large;
use crate::codec::VideoCodec;
use crate::frame::{Bitrate, MediaTime, Size};

/// What is known before a picture is coded.
#[derive(Debug, Clone, Copy)]
pub struct CodecConditions<'a> {
    /// What the remote peer takes and we may send. Not empty, or nothing is chosen.
    pub usable: &'a [VideoCodec],
    /// What is left for coded video.
    pub bitrate: Bitrate,
    /// Size of the source's pictures.
    pub source: Size,
    /// Pictures a second.
    pub frame_rate: f32,
    /// Mean time to code a picture with the codec in use, scaling included; zero while unknown.
    pub encode_time: Duration,
    /// Whether the remote peer says that it does not decode in time what is sent with the codec in use.
    pub decoder_overloaded: bool,
    /// Whether the machine runs on its battery.
    pub on_battery: bool,
    /// Whether quality counts more than work: somebody raised the ceiling of the bitrate beyond the usual one, and the path
    /// carries it.
    pub quality_first: bool,
}

/// Why a codec was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodecCause {
    /// Its first picture is there soonest.
    FirstPicture,
    /// The one before is not taken any more.
    NotTaken,
    /// It looks better at this bitrate.
    Bitrate,
    /// The bitrate is enough for a codec that takes less work.
    BitrateRecovered,
    /// The one before took too much of the processor.
    Processor,
    /// The remote peer did not decode the one before in time.
    Decoder,
    /// The machine runs on its battery.
    Battery,
}

impl CodecCause {
    /// In words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FirstPicture => "the first picture is there soonest",
            Self::NotTaken => "the remote peer does not take the one before",
            Self::Bitrate => "it looks better at this bitrate",
            Self::BitrateRecovered => "the bitrate is enough for it",
            Self::Processor => "the processor does not keep up with the one before",
            Self::Decoder => "the remote peer does not decode the one before in time",
            Self::Battery => "the machine runs on its battery",
        }
    }
}

impl fmt::Display for CodecCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct CodecChoice {
    current: Option<VideoCodec>,
    /// When the codec in use was chosen.
    since: MediaTime,
    /// Since when another one is wanted, and which.
    wanted: Option<(VideoCodec, MediaTime)>,
    slow_since: Option<MediaTime>,
    /// Codecs that took too much of the processor: until when they are not tried, and for how long that was.
    blocked: Vec<(VideoCodec, MediaTime, Duration)>,
}

impl CodecChoice {
    /// The codec in use.
    pub fn current(&self) -> Option<VideoCodec> {
        self.current
    }

    /// Decides about the picture captured at `now`: the codec to use from it on, if that is another one.
    pub fn plan(
        &mut self,
        now: MediaTime,
        conditions: &CodecConditions<'_>,
    ) -> Option<(VideoCodec, CodecCause)> {
        let usable = conditions.usable;
        let first = FIRST_PICTURE.into_iter().find(|codec| usable.contains(codec))?;
        let Some(current) = self.current else {
            return Some(self.switch(now, first, CodecCause::FirstPicture));
        };
        if !usable.contains(&current) {
            return Some(self.switch(now, first, CodecCause::NotTaken));
        }
        if let Some((cheaper, cause)) = self.overloaded(now, current, conditions) {
            return Some(self.switch(now, cheaper, cause));
        }
        let (wanted, cause) = self.wanted(now, current, conditions);
        if wanted == current {
            self.wanted = None;
            return None;
        }
        let since = match self.wanted {
            Some((codec, since)) if codec == wanted => since,
            _ => self.wanted.insert((wanted, now)).1,
        };
        let waited = now.saturating_since(since.max(self.since)) >= PATIENCE;
        waited.then(|| self.switch(now, wanted, cause))
    }

    /// Whether one of the usable codecs takes less work than the one in use.
    pub fn has_cheaper(&self, usable: &[VideoCodec]) -> bool {
        self.current.is_some_and(|current| cheaper(usable, current).is_some())
    }

    fn switch(
        &mut self,
        now: MediaTime,
        codec: VideoCodec,
        cause: CodecCause,
    ) -> (VideoCodec, CodecCause) {
        self.current = Some(codec);
        self.since = now;
        self.wanted = None;
        self.slow_since = None;
        (codec, cause)
    }

    /// The codec to leave the present one for because coding, or decoding over there, takes too long.
    fn overloaded(
        &mut self,
        now: MediaTime,
        current: VideoCodec,
        conditions: &CodecConditions<'_>,
    ) -> Option<(VideoCodec, CodecCause)> {
        let cause = if load(conditions.encode_time, conditions.frame_rate) > OVERLOAD {
            CodecCause::Processor
        } else if conditions.decoder_overloaded {
            CodecCause::Decoder
        } else {
            self.slow_since = None;
            return None;
        };
        let cheaper = cheaper(conditions.usable, current)?;
        let since = *self.slow_since.get_or_insert(now);
        if now.saturating_since(since) < OVERLOAD_TIME {
            return None;
        }
        let before = self.blocked.iter().position(|(codec, ..)| *codec == current);
        let period = match before.map(|at| self.blocked.swap_remove(at)) {
            Some((_, _, period)) => (2 * period).min(MAX_BLOCKED),
            None => MIN_BLOCKED,
        };
        self.blocked.push((current, now + period, period));
        Some((cheaper, cause))
    }

    /// The codec that suits the conditions, whether or not its time has come.
    fn wanted(
        &self,
        now: MediaTime,
        current: VideoCodec,
        conditions: &CodecConditions<'_>,
    ) -> (VideoCodec, CodecCause) {
        let cheapest = by_quality(conditions.usable).min_by(|a, b| cost(*a).total_cmp(&cost(*b)));
        if conditions.on_battery {
            return (cheapest.unwrap_or(current), CodecCause::Battery);
        }
        let large = is_large(conditions.source);
        let millibits = if large { H264_ENOUGH_LARGE_MILLIBITS } else { H264_ENOUGH_MILLIBITS };
        let enough = conditions.source.pixels() * millibits / 1000;
        let bps = conditions.bitrate.as_bps();
        let plenty = bps > enough;
        // Another codec still looks a little better there.
        let nothing_gained =
            !conditions.quality_first || large || bps > enough * QUALITY_FIRST_TENTHS / 10;
        if plenty && nothing_gained && conditions.usable.contains(&VideoCodec::H264) {
            // Between the two bounds whatever is in use stays.
            let codec = if bps > enough * 9 / 8 { VideoCodec::H264 } else { current };
            return (codec, CodecCause::BitrateRecovered);
        }
        let affordable = if plenty { AFFORDABLE_WITH_PLENTY } else { AFFORDABLE };
        let fits = |codec: VideoCodec| {
            if codec == current {
                return true;
            }
            let blocked = self.blocked.iter().any(|(c, until, _)| *c == codec && now < *until);
            let expected = conditions.encode_time.mul_f32(cost(codec) / cost(current));
            !blocked && !expected.is_zero() && load(expected, conditions.frame_rate) < affordable
        };
        let best = by_quality(conditions.usable).find(|codec| fits(*codec));
        (best.unwrap_or(current), CodecCause::Bitrate)
    }
}

/// Share of a picture's time that coding takes.
fn load(encode_time: Duration, frame_rate: f32) -> f32 {
    encode_time.as_secs_f32() * frame_rate.max(1.0)
}

/// The usable ones, the best at equal bitrates first.
fn by_quality(usable: &[VideoCodec]) -> impl Iterator<Item = VideoCodec> {
    VideoCodec::ALL.into_iter().filter(|codec| usable.contains(codec))
}

/// The best of the usable ones that takes less work than `current`.
fn cheaper(usable: &[VideoCodec], current: VideoCodec) -> Option<VideoCodec> {
    by_quality(usable).find(|codec| cost(*codec) < cost(current))
}

/// Time to code a picture beside that of H.264 (`examples/codec_quality.rs` at 1280x720, two threads): only a guess at
/// what is not in use, which is measured once it is. Decoding has the same order.
const fn cost(codec: VideoCodec) -> f32 {
    match codec {
        VideoCodec::H264 => 1.0,
        VideoCodec::Vp8 => 1.1,
        VideoCodec::Vp9 => 1.3,
        VideoCodec::Av1 => 1.6,
    }
}

/// By the time that starting encoder and decoder and coding the first keyframe takes.
const FIRST_PICTURE: [VideoCodec; 4] =
    [VideoCodec::H264, VideoCodec::Vp8, VideoCodec::Vp9, VideoCodec::Av1];
/// Bits a second for each thousand pixels from which another codec adds less than 0.01 SSIM to H.264: 2.2 Mbps at
/// 1280x720 (`examples/codec_quality.rs`).
const H264_ENOUGH_MILLIBITS: u64 = 2_390;
/// The same for large pictures: 3.9 Mbps at 1920x1080.
const H264_ENOUGH_LARGE_MILLIBITS: u64 = 1_880;
/// Up to how many tenths of that another codec is used where quality comes first: 3.75 Mbps at 1280x720.
const QUALITY_FIRST_TENTHS: u64 = 17;
/// How long another codec has to be wanted, and the present one to have been in use.
const PATIENCE: Duration = Duration::from_secs(3);
/// Share of a picture's time that coding may take, and that it may be expected to take before it is tried.
const OVERLOAD: f32 = 0.7;
const AFFORDABLE: f32 = 0.5;
/// The same where H.264 would be good enough.
const AFFORDABLE_WITH_PLENTY: f32 = 0.3;
const OVERLOAD_TIME: Duration = Duration::from_secs(1);
/// How long a codec that was too slow is not tried again.
const MIN_BLOCKED: Duration = Duration::from_secs(60);
const MAX_BLOCKED: Duration = Duration::from_secs(960);

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME_MS: u64 = 33;

    struct Call {
        choice: CodecChoice,
        usable: Vec<VideoCodec>,
        now_ms: u64,
        on_battery: bool,
        decoder_overloaded: bool,
        quality_first: bool,
        /// Milliseconds to code a picture.
        encode_ms: fn(VideoCodec) -> u64,
    }

    fn quick(codec: VideoCodec) -> u64 {
        match codec {
            VideoCodec::H264 | VideoCodec::Vp8 => 4,
            VideoCodec::Vp9 => 8,
            VideoCodec::Av1 => 12,
        }
    }

    impl Call {
        fn new(usable: &[VideoCodec]) -> Self {
            let choice = CodecChoice::default();
            Self {
                choice,
                usable: usable.into(),
                now_ms: 0,
                on_battery: false,
                decoder_overloaded: false,
                quality_first: false,
                encode_ms: quick,
            }
        }

        /// Changes within `seconds` at `kbps`.
        fn run(&mut self, seconds: u64, kbps: u64) -> Vec<(VideoCodec, CodecCause)> {
            let mut changes = Vec::new();
            let end = self.now_ms + seconds * 1000;
            while self.now_ms < end {
                let ms = self.choice.current().map_or(0, self.encode_ms);
                let conditions = CodecConditions {
                    usable: &self.usable,
                    bitrate: Bitrate::from_kbps(kbps),
                    source: Size::new(1280, 720),
                    frame_rate: 30.0,
                    encode_time: Duration::from_millis(ms),
                    decoder_overloaded: self.decoder_overloaded,
                    on_battery: self.on_battery,
                    quality_first: self.quality_first,
                };
                let now = MediaTime::from_micros(self.now_ms * 1000);
                changes.extend(self.choice.plan(now, &conditions));
                self.now_ms += FRAME_MS;
            }
            changes
        }
    }

    #[test]
    fn a_narrow_line_gets_the_best_codec_and_a_wide_one_the_cheapest() {
        let mut call = Call::new(&VideoCodec::ALL);
        let first = [(VideoCodec::H264, CodecCause::FirstPicture)];
        assert_eq!(call.run(2, 600), first);
        assert_eq!(call.run(10, 600), [(VideoCodec::Av1, CodecCause::Bitrate)]);
        // Between the bounds nothing changes.
        assert_eq!(call.run(20, 2_300), []);
        assert_eq!(call.run(20, 2_500), [(VideoCodec::H264, CodecCause::BitrateRecovered)]);
        assert_eq!(call.run(20, 2_300), []);
    }

    #[test]
    fn where_quality_comes_first_a_quick_machine_goes_on_with_the_best_codec() {
        let mut call = Call::new(&VideoCodec::ALL);
        call.quality_first = true;
        assert_eq!(call.run(1, 3_000).len(), 1);
        assert_eq!(call.run(10, 3_000), [(VideoCodec::Av1, CodecCause::Bitrate)]);
        assert_eq!(call.run(10, 5_000), [(VideoCodec::H264, CodecCause::BitrateRecovered)]);
        assert_eq!(call.run(10, 3_000), [(VideoCodec::Av1, CodecCause::Bitrate)]);
        call.quality_first = false;
        assert_eq!(call.run(10, 3_000), [(VideoCodec::H264, CodecCause::BitrateRecovered)]);
        // 7 ms of 33 are expected to become 11, which a narrow line is worth, but not one with room.
        let mut slower = Call::new(&VideoCodec::ALL);
        (slower.quality_first, slower.encode_ms) = (true, |codec| 7 * quick(codec) / 4);
        slower.usable.retain(|codec| *codec != VideoCodec::Vp9);
        assert_eq!(slower.run(10, 3_000).len(), 1);
        assert_eq!(slower.run(10, 2_000), [(VideoCodec::Av1, CodecCause::Bitrate)]);
    }

    #[test]
    fn a_rate_that_swings_changes_nothing() {
        let mut call = Call::new(&VideoCodec::ALL);
        call.run(1, 2_500);
        for _ in 0..20 {
            assert_eq!(call.run(2, 600), []);
            assert_eq!(call.run(1, 2_500), []);
        }
    }

    #[test]
    fn what_the_processor_cannot_do_is_left_and_not_tried_again_at_once() {
        let mut call = Call::new(&VideoCodec::ALL);
        // Slower than could be expected from H.264.
        call.encode_ms = |codec| if codec == VideoCodec::Av1 { 30 } else { quick(codec) };
        let changes = call.run(8, 600);
        let codecs: Vec<_> = changes.iter().map(|(codec, _)| *codec).collect();
        assert_eq!(codecs, [VideoCodec::H264, VideoCodec::Av1, VideoCodec::Vp9]);
        assert_eq!(changes[2].1, CodecCause::Processor);
        assert_eq!(call.run(50, 600), []);
        // Once more after a minute, and then not for two.
        assert_eq!(call.run(20, 600).len(), 2);
        assert_eq!(call.run(100, 600), []);
    }

    #[test]
    fn what_the_remote_peer_cannot_decode_in_time_is_left_for_a_cheaper_one() {
        let mut call = Call::new(&[VideoCodec::H264, VideoCodec::Av1]);
        call.run(10, 600);
        assert_eq!(call.choice.current(), Some(VideoCodec::Av1));
        assert!(call.choice.has_cheaper(&call.usable));
        call.decoder_overloaded = true;
        assert_eq!(call.run(2, 600), [(VideoCodec::H264, CodecCause::Decoder)]);
        // There is none that takes less work, and the other one is not tried again for a minute.
        assert_eq!(call.run(10, 600), []);
        assert!(!call.choice.has_cheaper(&call.usable));
        call.decoder_overloaded = false;
        assert_eq!(call.run(45, 600), []);
        assert_eq!(call.run(10, 600), [(VideoCodec::Av1, CodecCause::Bitrate)]);
    }

    #[test]
    fn what_is_expected_to_take_too_long_is_not_tried() {
        let mut call = Call::new(&VideoCodec::ALL);
        call.encode_ms = |_| 20;
        assert_eq!(call.run(30, 600), [(VideoCodec::H264, CodecCause::FirstPicture)]);
    }

    #[test]
    fn without_h264_the_best_that_is_affordable_is_used_at_any_rate() {
        let mut call = Call::new(&[VideoCodec::Vp8, VideoCodec::Vp9]);
        let expected =
            [(VideoCodec::Vp8, CodecCause::FirstPicture), (VideoCodec::Vp9, CodecCause::Bitrate)];
        assert_eq!(call.run(30, 2_500), expected);
    }

    #[test]
    fn on_battery_the_cheapest_is_used() {
        let mut call = Call::new(&VideoCodec::ALL);
        call.run(10, 600);
        assert_eq!(call.choice.current(), Some(VideoCodec::Av1));
        call.on_battery = true;
        assert_eq!(call.run(10, 600), [(VideoCodec::H264, CodecCause::Battery)]);
    }

    #[test]
    fn a_codec_that_is_not_taken_any_more_is_left_at_once() {
        let mut call = Call::new(&VideoCodec::ALL);
        call.run(10, 600);
        call.usable = vec![VideoCodec::Vp8];
        assert_eq!(call.run(1, 600), [(VideoCodec::Vp8, CodecCause::NotTaken)]);
        call.usable.clear();
        assert_eq!(call.run(1, 600), []);
    }
}
