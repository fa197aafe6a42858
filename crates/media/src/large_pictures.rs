//! When a call sends pictures larger than 1280x720. Sans-IO: the time is passed in.
//!
//! A call begins with ordinary pictures. Only where everything allows more for several seconds is the source asked for
//! large ones, because a camera shows nothing while it is opened anew. They are given up at once where somebody or
//! something forbids them, and after a while where they have been sent small all the same; the next try then waits
//! longer.

use std::time::Duration;

use crate::adaptation::{Adaptation, is_large};
use crate::codec::VideoCodec;
use crate::frame::{Bitrate, MediaTime, Size};

/// What is known before a picture is coded.
#[derive(Debug, Clone, Copy)]
pub struct LargeConditions {
    /// The large pictures that the source could deliver; `None` if it has none or nobody wants them.
    pub offered: Option<Size>,
    /// Whether the path is neither relayed nor over TCP.
    pub direct: bool,
    /// Size at which the remote peer shows pictures; `None` if it does not say.
    pub display: Option<Size>,
    /// What is left for coded video, whatever its ceiling.
    pub bitrate: Bitrate,
    /// The ceiling for pictures of the size that is sent.
    pub ceiling: Bitrate,
    /// What is sent with.
    pub codec: VideoCodec,
    /// Size that is sent.
    pub sent: Size,
    /// Frames a second that are sent.
    pub frame_rate: f32,
    /// Mean time to code a frame of that size, scaling included; zero while unknown.
    pub encode_time: Duration,
    /// Whether the remote peer says that it does not decode in time.
    pub decoder_overloaded: bool,
    /// Whether the machine runs on its battery.
    pub on_battery: bool,
}

/// See the module.
#[derive(Debug)]
pub struct LargePictures {
    wanted: bool,
    wants_bitrate: bool,
    /// Since when everything allows them, and since when they have been wanted.
    allowed_since: Option<MediaTime>,
    wanted_since: MediaTime,
    /// Since when something forbids them, or they are not sent large.
    forbidden_since: Option<MediaTime>,
    small_since: Option<MediaTime>,
    /// Until when they are not tried again, and how long that will be the next time.
    blocked_until: MediaTime,
    period: Duration,
}

impl Default for LargePictures {
    fn default() -> Self {
        Self {
            wanted: false,
            wants_bitrate: false,
            allowed_since: None,
            wanted_since: MediaTime::default(),
            forbidden_since: None,
            small_since: None,
            blocked_until: MediaTime::default(),
            period: MIN_BLOCKED,
        }
    }
}

impl LargePictures {
    /// Whether the source is to deliver large pictures, decided for the picture captured at `now`.
    pub fn plan(&mut self, now: MediaTime, conditions: &LargeConditions) -> bool {
        if self.wanted {
            self.stay(now, conditions);
        } else {
            self.begin(now, conditions);
        }
        self.wanted
    }

    /// Whether more may be sent than ordinary pictures take: large ones are, or it should be found out if the path takes
    /// them.
    pub fn wants_bitrate(&self) -> bool {
        self.wanted || self.wants_bitrate
    }

    fn begin(&mut self, now: MediaTime, conditions: &LargeConditions) {
        let affordable = conditions.offered.is_some_and(|large| {
            let growth = large.pixels() as f32 / conditions.sent.pixels().max(1) as f32;
            let load = conditions.encode_time.as_secs_f32() * growth * conditions.frame_rate;
            !conditions.encode_time.is_zero() && load < AFFORDABLE
        });
        let (bps, ceiling) = (conditions.bitrate.as_bps(), conditions.ceiling.as_bps());
        self.wants_bitrate = affordable
            && permitted(conditions)
            && !conditions.decoder_overloaded
            && now >= self.blocked_until
            && bps * 20 >= ceiling * 19;
        let least = Adaptation::bitrate_for_full_hd(conditions.codec).as_bps();
        let large = conditions.offered.unwrap_or_default();
        if !self.wants_bitrate || bps < least * large.pixels() / FULL_HD_PIXELS {
            self.allowed_since = None;
            return;
        }
        let since = *self.allowed_since.get_or_insert(now);
        if now.saturating_since(since) >= PATIENCE {
            *self = Self {
                wanted: true,
                wanted_since: now,
                blocked_until: self.blocked_until,
                period: self.period,
                ..Self::default()
            };
        }
    }

    fn stay(&mut self, now: MediaTime, conditions: &LargeConditions) {
        if conditions.offered.is_none() {
            // The source is another one, or the setting.
            self.wanted = false;
        } else if permitted(conditions) {
            self.forbidden_since = None;
        } else {
            let since = *self.forbidden_since.get_or_insert(now);
            self.wanted &= now.saturating_since(since) < FORBIDDEN_TIME;
        }
        if is_large(conditions.sent) {
            self.small_since = None;
        } else {
            let since = *self.small_since.get_or_insert(now);
            if now.saturating_since(since) >= SMALL_TIME {
                self.wanted = false;
                if now.saturating_since(self.wanted_since) > LONG {
                    self.period = MIN_BLOCKED;
                }
                self.blocked_until = now + self.period;
                self.period = (2 * self.period).min(MAX_BLOCKED);
            }
        }
        if !self.wanted {
            (self.allowed_since, self.forbidden_since, self.small_since) = (None, None, None);
            self.blocked_until = self.blocked_until.max(now + PAUSE);
        }
    }
}

/// What does not depend on how it goes.
fn permitted(conditions: &LargeConditions) -> bool {
    // A window a little larger than ordinary pictures shows no more of large ones.
    let shown = conditions.display.is_none_or(is_large);
    conditions.direct && shown && !conditions.on_battery
}

const FULL_HD_PIXELS: u64 = 1920 * 1080;
/// How long everything has to allow large pictures.
const PATIENCE: Duration = Duration::from_secs(5);
/// Share of a frame's time that coding large pictures may be expected to take.
const AFFORDABLE: f32 = 0.5;
/// How long something has to forbid them: a window that is resized passes through every size.
const FORBIDDEN_TIME: Duration = Duration::from_secs(2);
/// How long the ladder has to stay below them.
const SMALL_TIME: Duration = Duration::from_secs(10);
/// How long they are not tried again in any case: opening a camera anew takes its picture away for a moment.
const PAUSE: Duration = Duration::from_secs(15);
/// How long they are not tried again if they were sent small, unless they went well for [`LONG`].
const MIN_BLOCKED: Duration = Duration::from_secs(60);
const MAX_BLOCKED: Duration = Duration::from_secs(960);
const LONG: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use super::*;

    const HD: Size = Size::new(1280, 720);
    const FULL_HD: Size = Size::new(1920, 1080);

    fn good() -> LargeConditions {
        LargeConditions {
            offered: Some(FULL_HD),
            direct: true,
            display: None,
            bitrate: Bitrate::from_kbps(4_000),
            ceiling: Bitrate::from_kbps(2_500),
            codec: VideoCodec::H264,
            sent: HD,
            frame_rate: 30.0,
            encode_time: Duration::from_millis(4),
            decoder_overloaded: false,
            on_battery: false,
        }
    }

    struct Call {
        large: LargePictures,
        now_ms: u64,
    }

    impl Call {
        fn new() -> Self {
            Self { large: LargePictures::default(), now_ms: 0 }
        }

        /// Whether large pictures are wanted after `seconds` of these conditions.
        fn run(&mut self, seconds: u64, conditions: &LargeConditions) -> bool {
            let mut wanted = false;
            for _ in 0..seconds * 30 {
                wanted = self.large.plan(MediaTime::from_micros(self.now_ms * 1000), conditions);
                self.now_ms += 33;
            }
            wanted
        }
    }

    #[test]
    fn they_begin_after_some_seconds_in_which_everything_allows_them() {
        let mut call = Call::new();
        assert!(!call.run(4, &good()));
        assert!(call.run(2, &good()));
    }

    #[test]
    fn each_condition_alone_keeps_them_away() {
        for (what, conditions) in [
            ("source", LargeConditions { offered: None, ..good() }),
            ("relay", LargeConditions { direct: false, ..good() }),
            ("window", LargeConditions { display: Some(HD), ..good() }),
            ("bitrate", LargeConditions { bitrate: Bitrate::from_kbps(1_500), ..good() }),
            ("processor", LargeConditions { encode_time: Duration::from_millis(9), ..good() }),
            ("unknown", LargeConditions { encode_time: Duration::ZERO, ..good() }),
            ("decoder", LargeConditions { decoder_overloaded: true, ..good() }),
            ("battery", LargeConditions { on_battery: true, ..good() }),
        ] {
            assert!(!Call::new().run(60, &conditions), "{what}");
        }
        // A better codec needs less.
        let narrow = LargeConditions { bitrate: Bitrate::from_kbps(2_500), ..good() };
        assert!(!Call::new().run(60, &narrow));
        assert!(Call::new().run(10, &LargeConditions { codec: VideoCodec::Av1, ..narrow }));
        assert!(Call::new().run(10, &LargeConditions { display: Some(FULL_HD), ..good() }));
    }

    #[test]
    fn the_path_is_tried_out_only_where_all_else_allows_them() {
        let mut call = Call::new();
        let ceiling = LargeConditions { bitrate: Bitrate::from_kbps(2_450), ..good() };
        assert!(!call.run(60, &ceiling) && call.large.wants_bitrate());
        for conditions in [
            LargeConditions { offered: None, ..ceiling },
            LargeConditions { direct: false, ..ceiling },
            LargeConditions { bitrate: Bitrate::from_kbps(2_000), ..ceiling },
        ] {
            assert!(!call.run(1, &conditions) && !call.large.wants_bitrate());
        }
    }

    #[test]
    fn a_moment_without_room_begins_the_wait_anew() {
        let mut call = Call::new();
        let narrow = LargeConditions { bitrate: Bitrate::from_kbps(1_500), ..good() };
        for _ in 0..5 {
            assert!(!call.run(4, &good()));
            assert!(!call.run(1, &narrow));
        }
    }

    #[test]
    fn a_relay_and_a_small_window_end_them_for_a_while() {
        let mut call = Call::new();
        assert!(call.run(10, &good()));
        let large = LargeConditions { sent: FULL_HD, ..good() };
        let relayed = LargeConditions { direct: false, ..large };
        assert!(call.run(1, &relayed));
        assert!(!call.run(2, &relayed));
        assert!(!call.run(12, &good()));
        assert!(call.run(8, &good()));
        assert!(!call.run(4, &LargeConditions { display: Some(HD), ..large }));
        assert!(!call.run(1, &LargeConditions { offered: None, ..large }));
    }

    #[test]
    fn what_went_badly_is_tried_later_and_later() {
        let mut call = Call::new();
        let mut waits = Vec::new();
        for _ in 0..4 {
            let begun = call.now_ms;
            while !call.run(1, &good()) {}
            waits.push((call.now_ms - begun) / 1000);
            // They are asked for, but the bitrate or the processor keeps what is sent at 1280x720.
            assert!(call.run(9, &good()));
            assert!(!call.run(2, &good()));
        }
        assert!((5..=7).contains(&waits[0]), "{waits:?}");
        assert!(waits[1] >= 60 && waits[2] >= 120 && waits[3] >= 240, "{waits:?}");
    }
}
