//! Lip sync: how much later sound is heard than the picture that belongs to it is shown, and what to
//! do about it. Sans-IO.
//!
//! A sender report says where on the sender's wall clock an RTP timestamp of its stream is (RFC 3550
//! §6.4.1). So everything heard and shown has a capture time on one clock, and what the two take from
//! there to the ear and the eye can be compared, whatever that clock's offset from ours.
//!
//! Sound that is late disturbs less than sound that is early: people notice 125 ms and 45 ms (ITU-R
//! BT.1359-1). The cheaper remedy comes first: delay that was added before is taken back; sound that
//! is early waits (time-stretched by the jitter buffer); only then are pictures held back, by as
//! little as brings sound within the dead zone.
//!
//! What has been ordered takes its time to come about, and to show in a smoothed measurement. So each
//! stream is measured without what was added to it, and what was ordered is added up on top: a
//! correction counts from the moment it is ordered, and is not ordered twice. libwebrtc's
//! `StreamSynchronization` corrects what it measures by at most 80 ms a second instead.

use std::time::Duration;

use crate::frame::MediaTime;

/// Audio or video.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncKind {
    /// 48 kHz.
    Audio,
    /// 90 kHz.
    Video,
}

/// See the module. One for each connection.
#[derive(Debug, Default)]
pub struct LipSync {
    audio: Stream,
    video: Stream,
    audio_delay_us: i64,
    video_delay_us: i64,
    next_step: Option<MediaTime>,
}

/// What is known of one stream.
#[derive(Debug, Default)]
struct Stream {
    /// Wall clock of the sender in microseconds, and the RTP timestamp there. A browser takes the time
    /// at which sound leaves, which is a little late now and then: of a while's reports, the one that
    /// puts the stream earliest.
    report: Option<(i64, u32)>,
    /// From the sender's wall clock to presentation on ours, without what was added here, smoothed;
    /// its zero is arbitrary but the same for both streams.
    own_us: Option<f64>,
    /// What was added here, smoothed alike.
    added_us: f64,
    presented: Option<MediaTime>,
}

impl Stream {
    fn report(&mut self, wall_us: i64, rtp_timestamp: u32, ticks_per_ms: i64) {
        if let Some((wall, timestamp)) = self.report {
            let ticks = i64::from(rtp_timestamp.wrapping_sub(timestamp) as i32);
            let elapsed = wall_us - wall;
            let later = elapsed - ticks * 1000 / ticks_per_ms;
            if (0..REPORT_HOLDS_US).contains(&elapsed) && (0..JUMP_US as i64).contains(&later) {
                return;
            }
        }
        self.report = Some((wall_us, rtp_timestamp));
    }

    fn presented(
        &mut self,
        at: MediaTime,
        added: Duration,
        rtp_timestamp: u32,
        ticks_per_ms: i64,
        weight: f64,
    ) {
        let Some((wall_us, report_timestamp)) = self.report else { return };
        let ticks = i64::from(rtp_timestamp.wrapping_sub(report_timestamp) as i32);
        let captured_us = wall_us + ticks * 1000 / ticks_per_ms;
        let latency = (i64::try_from(at.as_micros()).unwrap_or(i64::MAX / 4) - captured_us) as f64;
        let added = added.as_secs_f64().min(1.0) * 1e6;
        let own = latency - added;
        self.presented = Some(at);
        match &mut self.own_us {
            Some(smoothed) if (own - *smoothed).abs() < JUMP_US => {
                // What a queue does that comes and goes is not followed, a detour is.
                let step = own - *smoothed;
                let weight = weight * (step.abs() / DETOUR_US).clamp(LEAST_WEIGHT, 1.0);
                *smoothed += step * weight;
                self.added_us += (added - self.added_us) * weight;
            }
            other => (*other, self.added_us) = (Some(own), added),
        }
    }

    fn is_live(&self, now: MediaTime) -> bool {
        self.presented.is_some_and(|at| now.saturating_since(at) < STALE)
    }
}

impl LipSync {
    /// A sender report came. `ntp_time` is 32.32 seconds.
    pub fn on_sender_report(&mut self, kind: SyncKind, ntp_time: u64, rtp_timestamp: u32) {
        let seconds = i64::try_from(ntp_time >> 32).unwrap_or(0);
        let micros = i64::try_from(((ntp_time & 0xffff_ffff) * 1_000_000) >> 32).unwrap_or(0);
        let wall_us = seconds * 1_000_000 + micros;
        match kind {
            SyncKind::Audio => self.audio.report(wall_us, rtp_timestamp, 48),
            SyncKind::Video => self.video.report(wall_us, rtp_timestamp, 90),
        }
    }

    /// The sample of this timestamp leaves the speaker at `at`: hand-out time and the device's
    /// latency together. `added` of it is owed to [`Self::audio_delay`] so far.
    pub fn on_heard(&mut self, at: MediaTime, added: Duration, rtp_timestamp: u32) {
        self.audio.presented(at, added, rtp_timestamp, 48, 0.02);
    }

    /// The picture of this timestamp is handed to the display at `at`, after it was held back for
    /// `added`.
    pub fn on_shown(&mut self, at: MediaTime, added: Duration, rtp_timestamp: u32) {
        self.video.presented(at, added, rtp_timestamp, 90, 0.1);
    }

    /// How much later sound is heard than its picture is shown, microseconds; negative if it is
    /// early. `None` while one of the two is not known or has stopped.
    pub fn offset_us(&self, now: MediaTime) -> Option<i64> {
        let added = self.audio.added_us - self.video.added_us;
        Some(self.own_offset_us(now)? + added as i64)
    }

    /// The same without what is added here.
    fn own_offset_us(&self, now: MediaTime) -> Option<i64> {
        if !self.audio.is_live(now) || !self.video.is_live(now) {
            return None;
        }
        Some((self.audio.own_us? - self.video.own_us?) as i64)
    }

    /// What to add to the jitter buffer's own target delay.
    pub fn audio_delay(&self) -> Duration {
        Duration::from_micros(self.audio_delay_us.max(0).unsigned_abs())
    }

    /// How long to hold a decoded picture back.
    pub fn video_delay(&self) -> Duration {
        Duration::from_micros(self.video_delay_us.max(0).unsigned_abs())
    }

    /// Moves the delays; call it now and then, it acts twice a second. Says whether it did.
    pub fn step(&mut self, now: MediaTime) -> bool {
        if self.next_step.is_some_and(|at| now < at) {
            return false;
        }
        self.next_step = Some(now + STEP_INTERVAL);
        let before = (self.audio_delay_us, self.video_delay_us);
        // What the offset will be when all that was ordered has come about.
        let ordered = self.audio_delay_us - self.video_delay_us;
        match self.own_offset_us(now).map(|own| own.saturating_add(ordered)) {
            // Nothing to keep in step with.
            None => {
                self.audio_delay_us = (self.audio_delay_us - MAX_STEP_US).max(0);
                self.video_delay_us = (self.video_delay_us - MAX_STEP_US).max(0);
            }
            Some(offset) if offset < -DEAD_ZONE_US => {
                let mut early = offset.saturating_neg().saturating_sub(AIM_US).min(MAX_STEP_US);
                let back = early.min(self.video_delay_us);
                self.video_delay_us -= back;
                early -= back;
                self.audio_delay_us = (self.audio_delay_us + early).min(MAX_AUDIO_DELAY_US);
            }
            Some(offset) if offset > DEAD_ZONE_US => {
                let mut late = (offset - AIM_US).min(MAX_STEP_US);
                let back = late.min(self.audio_delay_us);
                self.audio_delay_us -= back;
                late -= back;
                self.video_delay_us = (self.video_delay_us + late).min(MAX_VIDEO_DELAY_US);
            }
            // In step: give back what is no longer needed.
            Some(offset) => {
                let spare = (offset + RELAX_US).clamp(0, RELAX_STEP_US);
                self.audio_delay_us = (self.audio_delay_us - spare).max(0);
                let spare = (RELAX_US - offset).clamp(0, RELAX_STEP_US);
                self.video_delay_us = (self.video_delay_us - spare).max(0);
            }
        }
        before != (self.audio_delay_us, self.video_delay_us)
    }
}

/// Left alone: less than anybody notices, and than the goal of 40 ms by what the account is off.
const DEAD_ZONE_US: i64 = 37_000;
/// What a correction aims at, on the side where it costs the least delay.
const AIM_US: i64 = 35_000;
/// Delay is given back up to this offset.
const RELAX_US: i64 = 25_000;
/// At most so much at once: less than half of what a picture lasts, a period of a low voice.
const RELAX_STEP_US: i64 = 15_000;
const STEP_INTERVAL: Duration = Duration::from_millis(500);
/// Pictures are not held up by more at once than two of them last.
const MAX_STEP_US: i64 = 60_000;
const MAX_AUDIO_DELAY_US: i64 = 200_000;
/// Less than libwebrtc allows, for late pictures make a conversation harder. Sound that is 150 ms late
/// by itself is brought into step, beyond that into what is hardly noticed.
const MAX_VIDEO_DELAY_US: i64 = 120_000;
/// A latency this far off is not smoothed: a stream began anew, or a clock was set.
const JUMP_US: f64 = 500_000.0;
/// Off by so much the smoothed latency follows at once, off by less in proportion more slowly.
const DETOUR_US: f64 = 40_000.0;
const LEAST_WEIGHT: f64 = 0.2;
/// Clocks drift apart by 2 ms meanwhile, if they are bad (100 ppm).
const REPORT_HOLDS_US: i64 = 20_000_000;
/// A stream that has stood still for so long is not to be kept in step with.
const STALE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    /// A call of `seconds` on virtual time: sound takes `audio_ms` and pictures `video_ms` by
    /// themselves. The offset at the end, and the delays added.
    fn call(
        seconds: u64,
        audio_ms: impl Fn(u64) -> i64,
        video_ms: impl Fn(u64) -> i64,
    ) -> (i64, LipSync) {
        let (_, offset, sync) = long_call(seconds, audio_ms, video_ms);
        (offset, sync)
    }

    /// Also the offset in ms each 100 ms.
    fn long_call(
        seconds: u64,
        audio_ms: impl Fn(u64) -> i64,
        video_ms: impl Fn(u64) -> i64,
    ) -> (Vec<i64>, i64, LipSync) {
        let mut sync = LipSync::default();
        let mut offsets = Vec::new();
        // The sender's clock is years ahead of ours, its RTP clocks begin anywhere.
        let ntp = |ms: u64| ((3_900_000_000 + ms / 1000) << 32) | (((ms % 1000) << 32) / 1000);
        let audio_rtp = |ms: u64| 0xffff_0000u32.wrapping_add((ms * 48) as u32);
        let video_rtp = |ms: u64| 0x7fff_0000u32.wrapping_add((ms * 90) as u32);
        let origin = 10_000;
        let mut pulled_extra = 0i64;
        for ms in 0..seconds * 1000 {
            let at = |delay_ms: i64| {
                MediaTime::from_micros(((origin + ms) as i64 + delay_ms) as u64 * 1000)
            };
            if ms % 1000 == 100 {
                sync.on_sender_report(SyncKind::Audio, ntp(ms), audio_rtp(ms));
                sync.on_sender_report(SyncKind::Video, ntp(ms + 7), video_rtp(ms + 7));
            }
            if ms % 10 == 0 {
                // The jitter buffer follows by at most 20 ms in 100 ms.
                let wanted = sync.audio_delay().as_millis() as i64;
                pulled_extra += (wanted - pulled_extra).clamp(-2, 2);
                let added = Duration::from_millis(pulled_extra as u64);
                sync.on_heard(at(audio_ms(ms) + pulled_extra), added, audio_rtp(ms));
            }
            if ms % 33 == 0 {
                let held = sync.video_delay();
                sync.on_shown(at(video_ms(ms) + held.as_millis() as i64), held, video_rtp(ms));
            }
            sync.step(at(0));
            if ms % 100 == 0 {
                // As it is, not as it is measured.
                let held = sync.video_delay().as_millis() as i64;
                offsets.push(audio_ms(ms) + pulled_extra - video_ms(ms) - held);
            }
        }
        let now = MediaTime::from_micros((origin + seconds * 1000) * 1000);
        (offsets, sync.offset_us(now).unwrap_or(i64::MAX), sync)
    }

    #[test]
    fn a_detour_of_either_is_settled_within_three_seconds_and_without_overshoot() {
        for (audio_ms, video_ms) in [(80, 230), (80, 280), (175, 60), (80, 150)] {
            for late in [0, 10_000] {
                let detour = |own: i64, usual: i64| {
                    move |ms: u64| {
                        // And 10 ms of jitter.
                        let jitter = (ms * 7_919 % 21) as i64 - 10;
                        if ms < late { usual } else { own + jitter }
                    }
                };
                let (offsets, ..) = long_call(25, detour(audio_ms, 80), detour(video_ms, 70));
                let settled = &offsets[(late / 100) as usize + 30..];
                // The jitter is not corrected.
                let worst = settled.iter().map(|o| o.abs()).max().unwrap_or(i64::MAX);
                assert!(worst <= 37 + 21, "{audio_ms} {video_ms} {late}: {offsets:?}");
                let mean = settled.iter().sum::<i64>() / settled.len() as i64;
                assert!(mean.abs() <= 38, "{audio_ms} {video_ms} {late}: {mean}");
                // Never on the other side.
                let sign = (audio_ms - video_ms).signum();
                assert!(
                    offsets.iter().all(|o| o * sign >= -21),
                    "{audio_ms} {video_ms}: {offsets:?}"
                );
            }
        }
    }

    #[test]
    fn what_is_nearly_in_step_is_left_alone() {
        for video_ms in [48, 75, 100] {
            let (offset, sync) = call(20, |_| 75, |_| video_ms);
            assert!((offset / 1000 - (75 - video_ms)).abs() <= 1, "{offset}");
            assert_eq!((sync.audio_delay(), sync.video_delay()), Default::default());
        }
    }

    #[test]
    fn a_queue_that_comes_and_goes_holds_no_picture_back() {
        // As at 1 Mbps: within five seconds pictures take 65 to 100 ms, sound waits for the longest.
        let video_ms = |ms: u64| 65 + (ms % 5000) as i64 * 35 / 5000;
        for seconds in 5..40 {
            let (offset, sync) = call(seconds, |_| 108, video_ms);
            assert_eq!(sync.video_delay(), Duration::ZERO, "{seconds} s, {offset}");
        }
    }

    #[test]
    fn early_sound_waits_and_no_picture_does() {
        let (offset, sync) = call(20, |_| 80, |_| 230);
        assert!((-38_000..=0).contains(&offset), "{offset}");
        assert!(sync.audio_delay() >= Duration::from_millis(100));
        assert_eq!(sync.video_delay(), Duration::ZERO);
    }

    #[test]
    fn late_sound_holds_pictures_back_a_little_only() {
        let (offset, sync) = call(20, |_| 120, |_| 50);
        assert!((0..=38_000).contains(&offset), "{offset}");
        assert!(sync.video_delay() <= Duration::from_millis(45), "{:?}", sync.video_delay());
        let (_, sync) = call(20, |_| 500, |_| 50);
        assert_eq!(sync.video_delay(), Duration::from_micros(MAX_VIDEO_DELAY_US as u64));
    }

    #[test]
    fn what_was_added_is_given_back() {
        // Pictures are late for 20 s, then not.
        let (offset, sync) = call(28, |_| 80, |ms| if ms < 20_000 { 230 } else { 60 });
        assert_eq!((sync.audio_delay(), sync.video_delay()), Default::default());
        assert!(offset.abs() <= 38_000, "{offset}");
        let (offset, sync) = call(26, |ms| if ms < 20_000 { 150 } else { 70 }, |_| 60);
        let delays = (sync.audio_delay(), sync.video_delay());
        assert_eq!(delays, Default::default(), "{offset}");
    }

    #[test]
    fn without_reports_or_pictures_nothing_is_known_or_done() {
        let mut sync = LipSync::default();
        sync.on_heard(MediaTime::from_micros(5), Duration::ZERO, 7);
        sync.on_shown(MediaTime::from_micros(9), Duration::ZERO, 7);
        assert_eq!(sync.offset_us(MediaTime::from_micros(10)), None);
        assert!(!sync.step(MediaTime::from_micros(10)));
        let (_, mut sync) = call(5, |_| 80, |_| 230);
        let later = MediaTime::from_micros(60_000_000);
        assert_eq!(sync.offset_us(later), None);
        (0..10).for_each(|n| {
            sync.step(later + Duration::from_secs(n));
        });
        assert_eq!(sync.audio_delay(), Duration::ZERO);
    }

    #[test]
    fn reports_that_put_sound_late_are_not_believed() {
        let mut sync = LipSync::default();
        let ntp = |ms: u64| ((3_900_000_000 + ms / 1000) << 32) | (((ms % 1000) << 32) / 1000);
        for second in 0..15u64 {
            let ms = second * 1000;
            // Of three packets one left in time, the others 20 and 40 ms late.
            let late = [20, 0, 40][second as usize % 3];
            sync.on_sender_report(SyncKind::Audio, ntp(ms + late), (ms * 48) as u32);
            sync.on_sender_report(SyncKind::Video, ntp(ms), (ms * 90) as u32);
            let at = MediaTime::from_micros((ms + 90) * 1000);
            (0..100).for_each(|_| sync.on_heard(at, Duration::ZERO, (ms * 48) as u32));
            (0..30).for_each(|_| sync.on_shown(at, Duration::ZERO, (ms * 90) as u32));
            if second > 3 {
                let offset = sync.offset_us(at).unwrap_or(i64::MAX);
                assert!(offset.abs() < 4_000, "{second}: {offset}");
            }
        }
    }

    #[test]
    fn any_report_is_survived() {
        let mut sync = LipSync::default();
        for ntp in [0, 1, u64::MAX, 1 << 63] {
            for rtp in [0, 1, u32::MAX, 1 << 31] {
                sync.on_sender_report(SyncKind::Audio, ntp, rtp);
                sync.on_sender_report(SyncKind::Video, !ntp, !rtp);
                sync.on_heard(MediaTime::from_micros(1000), Duration::MAX, 5);
                sync.on_shown(MediaTime::from_micros(1000), Duration::ZERO, 5);
                sync.step(MediaTime::from_micros(1000));
                assert!(sync.video_delay() <= Duration::from_micros(MAX_VIDEO_DELAY_US as u64));
            }
        }
    }
}
