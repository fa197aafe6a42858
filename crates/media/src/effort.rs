//! Whether a codec is to take more time for fewer bits: AV1 by how long coding takes, H.264 by how scarce bits are. Sans-IO.

use std::time::Duration;

use crate::codec::VideoCodec;
use crate::frame::{Bitrate, MediaTime, Size};

/// What is known before a frame is coded.
#[derive(Debug, Clone, Copy)]
pub struct EffortConditions {
    /// What is sent with.
    pub codec: VideoCodec,
    /// Mean time to code a frame as it is done now; zero while unknown.
    pub encode_time: Duration,
    /// Frames a second.
    pub frame_rate: f32,
    /// Whether the machine is on mains and the path has room: on a narrow one a frame should be out soon.
    pub allowed: bool,
}

/// Decides for a call.
#[derive(Debug, Default)]
pub struct Effort {
    codec: Option<VideoCodec>,
    thorough: bool,
    quick_since: Option<MediaTime>,
    slow_since: Option<MediaTime>,
    /// Not tried again before.
    blocked: Option<MediaTime>,
}

impl Effort {
    /// Whether the frame captured at `now` is to be coded thoroughly.
    pub fn plan(&mut self, now: MediaTime, conditions: &EffortConditions) -> bool {
        // Of the others no setting is worth its time (docs/decisions/0018-video-codecs.md).
        let able = conditions.codec == VideoCodec::Av1 && conditions.allowed;
        if !able || self.codec != Some(conditions.codec) {
            let blocked = self.blocked;
            *self = Self { codec: Some(conditions.codec), blocked, ..Self::default() };
            return false;
        }
        let load = conditions.encode_time.as_secs_f32() * conditions.frame_rate.max(1.0);
        if self.thorough {
            if load < TOO_MUCH {
                self.slow_since = None;
            } else if now.saturating_since(*self.slow_since.get_or_insert(now)) >= SLOW_TIME {
                self.thorough = false;
                (self.quick_since, self.slow_since) = (None, None);
                self.blocked = Some(now + BLOCKED);
            }
        } else if load == 0.0
            || load * COST > AFFORDABLE
            || self.blocked.is_some_and(|until| now < until)
        {
            self.quick_since = None;
        } else if now.saturating_since(*self.quick_since.get_or_insert(now)) >= QUICK_TIME {
            self.thorough = true;
        }
        self.thorough
    }
}

/// Whether H.264 is coded with CABAC: it saves a tenth of the bits, and above 1 Mbps costs a millisecond more to decode.
/// A change begins with a keyframe, so it waits.
#[derive(Debug, Default)]
pub struct CabacChoice {
    on: bool,
    other_since: Option<MediaTime>,
}

impl CabacChoice {
    /// For the frame of that size captured at `now`, of a video of that bitrate; `taken` if the remote peer decodes it.
    pub fn plan(&mut self, now: MediaTime, taken: bool, bitrate: Bitrate, source: Size) -> bool {
        if !taken {
            *self = Self::default();
            return false;
        }
        let most = source.pixels() * CABAC_MILLIBITS / 1000 * if self.on { 5 } else { 4 } / 4;
        if (bitrate.as_bps() < most) == self.on {
            self.other_since = None;
        } else if now.saturating_since(*self.other_since.get_or_insert(now)) >= CABAC_PATIENCE {
            self.on = !self.on;
            self.other_since = None;
        }
        self.on
    }
}

/// Bits a second for each thousand pixels below which CABAC adds 0.005 SSIM or more: 1.3 Mbps at 1280x720, a quarter
/// more where it is in use (`examples/codec_quality.rs`).
const CABAC_MILLIBITS: u64 = 1_410;
/// Longer than it takes to choose another codec, which saves more.
const CABAC_PATIENCE: Duration = Duration::from_secs(5);
/// Times of coding thoroughly and not (`examples/codec_quality.rs`).
const COST: f32 = 1.45;
/// Share of a frame's time that coding may be expected to take, and that it may turn out to take: the machine has
/// decoding, sound and drawing to do besides.
const AFFORDABLE: f32 = 0.42;
const TOO_MUCH: f32 = 0.5;
const QUICK_TIME: Duration = Duration::from_secs(2);
const SLOW_TIME: Duration = Duration::from_secs(1);
const BLOCKED: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    struct Call {
        effort: Effort,
        now_ms: u64,
        allowed: bool,
        codec: VideoCodec,
    }

    impl Call {
        /// Frames that were coded thoroughly in so many seconds, where coding takes `ms`, or half as long again.
        fn run(&mut self, seconds: u64, ms: f32) -> usize {
            let (mut count, mut thorough) = (0, self.effort.thorough);
            for _ in 0..seconds * 30 {
                let factor = if thorough { 1.5 } else { 1.0 };
                let conditions = EffortConditions {
                    codec: self.codec,
                    encode_time: Duration::from_secs_f32(ms * factor / 1000.0),
                    frame_rate: 30.0,
                    allowed: self.allowed,
                };
                thorough =
                    self.effort.plan(MediaTime::from_micros(self.now_ms * 1000), &conditions);
                count += usize::from(thorough);
                self.now_ms += 33;
            }
            count
        }
    }

    fn call(codec: VideoCodec) -> Call {
        Call { effort: Effort::default(), now_ms: 0, allowed: true, codec }
    }

    #[test]
    fn a_quick_machine_codes_av1_thoroughly_and_a_slow_one_does_not() {
        assert!(call(VideoCodec::Av1).run(10, 6.0) > 200);
        assert_eq!(call(VideoCodec::Av1).run(10, 12.0), 0);
        assert_eq!(call(VideoCodec::Vp9).run(10, 3.0), 0);
        assert_eq!(call(VideoCodec::Av1).run(10, 0.0), 0);
    }

    #[test]
    fn what_turns_out_to_take_too_long_is_left_for_a_minute() {
        let mut call = call(VideoCodec::Av1);
        call.run(10, 6.0);
        assert!(call.run(5, 12.0) < 35);
        assert_eq!(call.run(50, 6.0), 0);
        assert!(call.run(20, 6.0) > 100);
    }

    #[test]
    fn cabac_is_for_narrow_paths_that_stay_so() {
        let mut choice = CabacChoice::default();
        let mut now_ms = 0;
        let mut run = |taken: bool, seconds: u64, kbps: u64| {
            let frames = (0..seconds * 30).filter(|_| {
                now_ms += 33;
                let now = MediaTime::from_micros(now_ms * 1000);
                choice.plan(now, taken, Bitrate::from_kbps(kbps), Size::new(1280, 720))
            });
            frames.count()
        };
        assert_eq!(run(true, 10, 2_500), 0);
        assert_eq!(run(true, 4, 800), 0);
        assert_eq!(run(true, 1, 2_500), 0);
        assert!((145..155).contains(&run(true, 10, 800)));
        assert_eq!(run(true, 10, 1_500), 300);
        assert!((145..155).contains(&run(true, 10, 1_700)));
        assert_eq!(run(false, 10, 800), 0);
    }

    #[test]
    fn a_battery_is_not_drained_for_it() {
        let mut call = call(VideoCodec::Av1);
        call.run(10, 6.0);
        call.allowed = false;
        assert_eq!(call.run(5, 6.0), 0);
    }
}
