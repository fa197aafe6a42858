//! From what the network and the processor allow to what the encoder is asked for: bitrate, size,
//! frame rate, and whether this picture is coded at all. Sans-IO: the time is passed in, every
//! decision comes with its cause.
//!
//! Camera pictures keep their motion and lose size; screen pictures keep their size and lose
//! motion. Steps down are quick, steps up wait, and one that had to be taken back waits longer.

use std::fmt;
use std::time::Duration;

use crate::codec::VideoCodec;
use crate::frame::{Bitrate, MediaTime, Size};

/// What the pictures show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Content {
    /// People: motion matters more than detail.
    #[default]
    Camera,
    /// Text: detail matters more than motion.
    Screen,
}

/// What may be used at most.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdaptationLimits {
    /// Ceiling of the video bitrate.
    pub bitrate: Bitrate,
    /// Pictures a second of the source.
    pub frame_rate: f32,
    /// Kind of pictures.
    pub content: Content,
}

/// What is known before a picture is coded.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Conditions {
    /// What may be sent on the wire in all; `None` before anything is known.
    pub network: Option<Bitrate>,
    /// What sound takes of it, headers included.
    pub audio: Bitrate,
    /// What repairs of lost packets take.
    pub repair: Bitrate,
    /// Parity sent for each byte of video, 0 to 1.
    pub parity: f64,
    /// How long what waits in the pacer will take to leave.
    pub pacer_queue: Duration,
    /// How long the other side has reported nothing.
    pub silent: Duration,
    /// Round trip.
    pub rtt: Duration,
    /// Mean time to code a picture, scaling included.
    pub encode_time: Duration,
    /// Size of the source's pictures.
    pub source: Size,
    /// What they are coded with.
    pub codec: VideoCodec,
    /// Whether the remote peer says that it cannot decode them in time, and that another codec would not help.
    pub decoder_overloaded: bool,
}

/// What the encoder is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VideoTarget {
    /// Bits a second of coded video.
    pub bitrate: Bitrate,
    /// Size to code, never larger than the source.
    pub size: Size,
    /// Pictures a second.
    pub frame_rate: f32,
}

/// What to do with one picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Plan {
    /// Leave it out: what is under way has to leave first, or its turn has not come.
    Skip,
    /// Code it.
    Encode(VideoTarget),
    /// Code it as a keyframe: the other side may have seen nothing for a while.
    Keyframe(VideoTarget),
}

/// Why size or frame rate changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The bitrate is too small for the size.
    Bitrate,
    /// The bitrate allows more again.
    BitrateRecovered,
    /// Coding takes too long.
    Processor,
    /// Coding is quick enough again.
    ProcessorRecovered,
    /// The remote peer cannot decode in time.
    Decoder,
    /// It has not said so for a while.
    DecoderRecovered,
}

impl Cause {
    /// In words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bitrate => "the network allows less",
            Self::BitrateRecovered => "the network allows more",
            Self::Processor => "the processor does not keep up",
            Self::ProcessorRecovered => "the processor keeps up again",
            Self::Decoder => "the remote peer does not decode in time",
            Self::DecoderRecovered => "the remote peer may decode more",
        }
    }

    /// What there was too little of.
    pub const fn resource(self) -> &'static str {
        match self {
            Self::Bitrate | Self::BitrateRecovered => "network",
            Self::Processor | Self::ProcessorRecovered => "processor",
            Self::Decoder | Self::DecoderRecovered => "decoder",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A change of size or frame rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decision {
    /// When.
    pub time: MediaTime,
    /// What is asked for now.
    pub target: VideoTarget,
    /// Why.
    pub cause: Cause,
}

/// See the module.
#[derive(Debug)]
pub struct Adaptation {
    limits: AdaptationLimits,
    codec: VideoCodec,
    /// The step of the source's own size: the first for large pictures, else the one behind the steps for those.
    top: usize,
    /// Size of the source's pictures; `None` before the first.
    source: Option<Size>,
    /// Steps down by bitrate, by processor, and by the remote peer's decoder.
    network_step: usize,
    processor_step: usize,
    decoder_step: usize,
    low_since: Option<MediaTime>,
    high_since: Option<MediaTime>,
    slow_since: Option<MediaTime>,
    quick_since: Option<MediaTime>,
    late_since: Option<MediaTime>,
    in_time_since: Option<MediaTime>,
    /// How long the remote peer's decoder is left alone; doubled by each step down.
    decoder_patience: Duration,
    /// How long a step up waits; doubled when one had to be taken back.
    patience: Duration,
    stepped_up: Option<MediaTime>,
    last_frame: Option<MediaTime>,
    /// When the next picture is due at a lowered frame rate.
    next_due: Option<MediaTime>,
    decision: Option<Decision>,
}

impl Adaptation {
    /// Full size and frame rate to begin with.
    pub fn new(limits: AdaptationLimits) -> Self {
        Self {
            limits,
            codec: VideoCodec::default(),
            top: 0,
            source: None,
            network_step: 0,
            processor_step: 0,
            decoder_step: 0,
            low_since: None,
            high_since: None,
            slow_since: None,
            quick_since: None,
            late_since: None,
            in_time_since: None,
            decoder_patience: DECODER_PATIENCE,
            patience: PATIENCE,
            stepped_up: None,
            last_frame: None,
            next_due: None,
            decision: None,
        }
    }

    /// The last change since this was asked, if any.
    pub fn take_decision(&mut self) -> Option<Decision> {
        self.decision.take()
    }

    /// Whether the size or rate is below what the source gives, and why.
    pub fn limited_by(&self) -> Option<Cause> {
        let step = self.step();
        if step <= self.top {
            None
        } else if self.network_step == step {
            Some(Cause::Bitrate)
        } else if self.processor_step == step {
            Some(Cause::Processor)
        } else {
            Some(Cause::Decoder)
        }
    }

    /// Another remote peer is to receive, whose decoder is another one.
    pub fn forget_decoder(&mut self) {
        (self.late_since, self.in_time_since) = (None, None);
        self.decoder_step = self.top;
        self.decoder_patience = DECODER_PATIENCE;
    }

    /// The ceiling of the video bitrate from now on.
    pub fn set_max_bitrate(&mut self, bitrate: Bitrate) {
        self.limits.bitrate = bitrate;
    }

    /// What pictures of 1920x1080 need to look better than smaller ones, with room to spare.
    pub fn bitrate_for_full_hd(codec: VideoCodec) -> Bitrate {
        Bitrate::from_kbps(camera_ladder(codec)[0].least_kbps * HEADROOM_TENTHS / 10)
    }

    /// Decides about the picture captured at `now`.
    pub fn plan(&mut self, now: MediaTime, conditions: &Conditions) -> Plan {
        let bitrate = self.video_bitrate(conditions);
        self.note_source(conditions, bitrate);
        if conditions.codec != self.codec {
            self.codec = conditions.codec;
            // It begins with a keyframe anyway, so its size is the right one at once.
            self.network_step = self.best_step(bitrate, conditions.source, 10);
            (self.low_since, self.high_since) = (None, None);
        }
        let before = self.step();
        let cause = self
            .follow_network(now, bitrate, conditions.source)
            .or_else(|| self.follow_processor(now, conditions))
            .or_else(|| self.follow_decoder(now, conditions.decoder_overloaded));
        let target = self.target(bitrate, conditions.source);
        if let Some(cause) = cause.filter(|_| before != self.step()) {
            self.decision = Some(Decision { time: now, target, cause });
        }
        let outage = conditions.silent > OUTAGE.max(4 * conditions.rtt);
        let interval = Duration::from_secs_f32(1.0 / target.frame_rate.max(1.0));
        if outage {
            // Nobody may be there. What does get through should be a picture that needs no other.
            // Small, so that it is there soon.
            let due = self.last_frame.is_none_or(|at| now.saturating_since(at) >= OUTAGE_INTERVAL);
            if !due || conditions.pacer_queue > interval {
                return Plan::Skip;
            }
            self.last_frame = Some(now);
            let bitrate = Bitrate::from_bps(target.bitrate.as_bps() / OUTAGE_DIVISOR);
            return Plan::Keyframe(VideoTarget { bitrate, ..target });
        }
        if conditions.pacer_queue > MAX_PACER_QUEUE.max(interval) {
            return Plan::Skip;
        }
        if target.frame_rate < 0.9 * self.limits.frame_rate {
            let due = self.next_due.unwrap_or(now);
            // Early by half a picture of the source is on time.
            let slack = Duration::from_secs_f32(0.5 / self.limits.frame_rate.max(1.0));
            if now + slack < due {
                return Plan::Skip;
            }
            let late = now.saturating_since(due) > interval;
            self.next_due = Some(if late { now } else { due } + interval);
        }
        self.last_frame = Some(now);
        Plan::Encode(target)
    }

    /// What is asked of the encoder.
    fn video_bitrate(&self, conditions: &Conditions) -> Bitrate {
        let left = self.left_for_video(conditions);
        left.map_or(self.limits.bitrate, |left| left.min(self.limits.bitrate))
    }

    /// What is left for coded video after sound, repairs, parity and headers, whatever the ceiling; `None` before anything
    /// is known.
    pub fn left_for_video(&self, conditions: &Conditions) -> Option<Bitrate> {
        let network = conditions.network?;
        let taken = conditions.audio.as_bps() + conditions.repair.as_bps();
        #[expect(clippy::cast_precision_loss, reason = "bitrates")]
        let left = network.as_bps().saturating_sub(taken) as f64 / (1.0 + conditions.parity);
        // Whole packets: a picture of 1.2 packets has the headers of two.
        let frame_bytes = left / 8.0 / f64::from(self.limits.frame_rate);
        let packets = (frame_bytes / FULL_PACKET_BYTES).ceil().max(1.0);
        let headers = packets * HEADER_BYTES * 8.0 * f64::from(self.limits.frame_rate);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a bitrate")]
        let video = (left - headers).max(MIN_VIDEO_BPS) as u64;
        Some(Bitrate::from_bps(video))
    }

    /// Whether the path carries the ceiling of the bitrate, so probably more.
    pub fn has_room(&self, conditions: &Conditions) -> bool {
        let left = self.left_for_video(conditions);
        left.is_none_or(|left| left.as_bps() * 50 >= self.limits.bitrate.as_bps() * 49)
    }

    fn follow_network(&mut self, now: MediaTime, bitrate: Bitrate, source: Size) -> Option<Cause> {
        let ladder = self.ladder();
        let bps = bitrate.as_bps();
        let floor = self.least_bps(&ladder[self.network_step], source);
        if bps < floor && self.network_step + 1 < ladder.len() {
            self.high_since = None;
            let since = *self.low_since.get_or_insert(now);
            let wait = if bps * 2 < floor { QUICK_DOWN } else { SLOW_DOWN };
            if now.saturating_since(since) < wait {
                return None;
            }
            self.low_since = None;
            self.network_step += 1;
            if self.stepped_up.is_some_and(|at| now.saturating_since(at) < 2 * self.patience) {
                self.patience = (2 * self.patience).min(MAX_PATIENCE);
            }
            return Some(Cause::Bitrate);
        }
        self.low_since = None;
        let enough =
            |step: usize| bps * 10 >= self.least_bps(&ladder[step], source) * HEADROOM_TENTHS;
        if self.network_step <= self.top || !enough(self.network_step - 1) {
            self.high_since = None;
            return None;
        }
        let since = *self.high_since.get_or_insert(now);
        if now.saturating_since(since) < self.patience {
            return None;
        }
        self.high_since = None;
        self.network_step -= 1;
        if self.network_step == self.top {
            self.patience = PATIENCE;
        }
        self.stepped_up = Some(now);
        Some(Cause::BitrateRecovered)
    }

    fn follow_processor(&mut self, now: MediaTime, conditions: &Conditions) -> Option<Cause> {
        let interval = 1.0 / self.limits.frame_rate.max(1.0);
        let load = conditions.encode_time.as_secs_f32() / interval;
        if load > OVERLOAD && self.processor_step + 1 < self.ladder().len() {
            self.quick_since = None;
            let since = *self.slow_since.get_or_insert(now);
            if now.saturating_since(since) < OVERLOAD_TIME {
                return None;
            }
            self.slow_since = None;
            self.processor_step += 1;
            return Some(Cause::Processor);
        }
        self.slow_since = None;
        if self.processor_step <= self.top || load > UNDERLOAD {
            self.quick_since = None;
            return None;
        }
        let since = *self.quick_since.get_or_insert(now);
        if now.saturating_since(since) < UNDERLOAD_TIME {
            return None;
        }
        self.quick_since = None;
        self.processor_step -= 1;
        Some(Cause::ProcessorRecovered)
    }

    /// The remote peer says that it does not decode in time, each second that it is so. What it could decode is not
    /// known, so steps up are tries, and each one that fails makes the next one later.
    fn follow_decoder(&mut self, now: MediaTime, overloaded: bool) -> Option<Cause> {
        if overloaded {
            self.in_time_since = None;
            let since = *self.late_since.get_or_insert(now);
            if now.saturating_since(since) < DECODER_LATE_TIME
                || self.decoder_step + 1 >= self.ladder().len()
            {
                return None;
            }
            self.late_since = Some(now + DECODER_SETTLE);
            // Below what is sent now, whatever that is limited by.
            self.decoder_step = (self.step() + 1).min(self.ladder().len() - 1);
            self.decoder_patience = (2 * self.decoder_patience).min(MAX_DECODER_PATIENCE);
            return Some(Cause::Decoder);
        }
        self.late_since = None;
        if self.decoder_step <= self.top {
            self.in_time_since = None;
            return None;
        }
        let since = *self.in_time_since.get_or_insert(now);
        if now.saturating_since(since) < self.decoder_patience {
            return None;
        }
        self.in_time_since = None;
        self.decoder_step -= 1;
        Some(Cause::DecoderRecovered)
    }

    /// Takes note of what the source delivers now.
    fn note_source(&mut self, conditions: &Conditions, bitrate: Bitrate) {
        let before = self.source.replace(conditions.source);
        if before == self.source {
            return;
        }
        let large = self.is_large(conditions.source);
        let top = if large || self.limits.content == Content::Screen { 0 } else { LARGE_STEPS };
        let grown = large && before.is_some_and(|before| !self.is_large(before));
        self.top = top;
        self.processor_step = self.processor_step.max(top);
        self.decoder_step = self.decoder_step.max(top);
        self.network_step = if grown {
            // Another size begins with a keyframe anyway, so it is the right one at once.
            self.best_step(bitrate, conditions.source, HEADROOM_TENTHS)
        } else {
            self.network_step.max(top)
        };
        if grown {
            // What was measured of smaller ones says little.
            (self.processor_step, self.decoder_step) = (top, top);
            (self.low_since, self.high_since) = (None, None);
        }
    }

    /// The first step that `bitrate` is enough for, `tenths` tenths of what it needs.
    fn best_step(&self, bitrate: Bitrate, source: Size, tenths: u64) -> usize {
        let ladder = self.ladder();
        (self.top..ladder.len())
            .find(|n| bitrate.as_bps() * 10 >= self.least_bps(&ladder[*n], source) * tenths)
            .unwrap_or(ladder.len() - 1)
    }

    fn step(&self) -> usize {
        self.network_step.max(self.processor_step).max(self.decoder_step)
    }

    /// Whether the ladder begins with the steps for large pictures.
    fn is_large(&self, source: Size) -> bool {
        self.limits.content == Content::Camera && is_large(source)
    }

    /// Bits a second below which the next step looks better, for a source of that size.
    fn least_bps(&self, step: &Step, source: Size) -> u64 {
        let measured = if self.is_large(source) { FULL_HD } else { HD };
        step.least_kbps * 1000 * source.pixels() / measured.pixels()
    }

    fn ladder(&self) -> &'static [Step] {
        match self.limits.content {
            Content::Screen => &SCREEN_LADDER,
            Content::Camera => camera_ladder(self.codec),
        }
    }

    fn target(&self, bitrate: Bitrate, source: Size) -> VideoTarget {
        let step = self.ladder()[self.step()];
        let whole = if self.is_large(source) { LARGE_EIGHTHS } else { 8 };
        let scale = |px: u32| (px * step.eighths / whole).max(2) & !1;
        let size = if step.eighths >= whole {
            source
        } else {
            Size::new(scale(source.width_px), scale(source.height_px))
        };
        let frame_rate = self.limits.frame_rate.min(step.frame_rate);
        VideoTarget { bitrate, size, frame_rate }
    }
}

/// One step of quality.
#[derive(Debug, Clone, Copy)]
struct Step {
    /// Width and height in eighths of the source; of two thirds of the source, if that is large.
    eighths: u32,
    frame_rate: f32,
    /// Below this the next step looks better, for a source of 1280x720, or of 1920x1080 if that is large.
    least_kbps: u64,
}

impl Step {
    const fn full_rate(eighths: u32, least_kbps: u64) -> Self {
        Self { eighths, frame_rate: f32::INFINITY, least_kbps }
    }
}

/// Whether pictures of that size are larger than the 1280x720 of an ordinary call, with a margin for other shapes.
pub fn is_large(size: Size) -> bool {
    size.pixels() > HD.pixels() * 5 / 4
}

fn camera_ladder(codec: VideoCodec) -> &'static [Step] {
    match codec {
        VideoCodec::H264 => &H264_LADDER,
        VideoCodec::Vp8 => &VP8_LADDER,
        VideoCodec::Vp9 => &VP9_LADDER,
        VideoCodec::Av1 => &AV1_LADDER,
    }
}

const HD: Size = Size::new(1280, 720);
const FULL_HD: Size = Size::new(1920, 1080);
/// How many steps of a ladder are for large pictures only, and the eighths of the first of them. 1600x900 is none: with no
/// codec and at no bitrate does it look better than both of its neighbours.
const LARGE_STEPS: usize = 1;
const LARGE_EIGHTHS: u32 = 12;
/// Tenths of what a step needs at least from which a step up is taken.
const HEADROOM_TENTHS: u64 = 13;

/// Where one size begins to look better than the next in mean SSIM of a film of 1280x720, as a window shows it
/// (`examples/codec_quality.rs`; the figures are in docs/decisions/0018-video-codecs.md).
const H264_LADDER: [Step; 7] = [
    Step::full_rate(12, 2_200),
    Step::full_rate(8, 650),
    Step::full_rate(6, 480),
    Step::full_rate(5, 340),
    Step::full_rate(4, 160),
    Step::full_rate(3, 60),
    Step { eighths: 3, frame_rate: 15.0, least_kbps: 0 },
];
/// Libvpx does not get below 350 kbps at 1280x720 there.
const VP8_LADDER: [Step; 6] = [
    Step::full_rate(12, 1_900),
    Step::full_rate(8, 400),
    Step::full_rate(6, 280),
    Step::full_rate(4, 120),
    Step::full_rate(3, 60),
    Step { eighths: 3, frame_rate: 15.0, least_kbps: 0 },
];
const VP9_LADDER: [Step; 7] = [
    Step::full_rate(12, 1_200),
    Step::full_rate(8, 320),
    Step::full_rate(6, 230),
    Step::full_rate(5, 180),
    Step::full_rate(4, 90),
    Step::full_rate(3, 50),
    Step { eighths: 3, frame_rate: 15.0, least_kbps: 0 },
];
const AV1_LADDER: [Step; 6] = [
    Step::full_rate(12, 500),
    Step::full_rate(8, 150),
    Step::full_rate(6, 100),
    Step::full_rate(4, 60),
    Step::full_rate(3, 40),
    Step { eighths: 3, frame_rate: 15.0, least_kbps: 0 },
];
const SCREEN_LADDER: [Step; 5] = [
    Step { eighths: 8, frame_rate: f32::INFINITY, least_kbps: 600 },
    Step { eighths: 8, frame_rate: 15.0, least_kbps: 350 },
    Step { eighths: 8, frame_rate: 10.0, least_kbps: 200 },
    Step { eighths: 8, frame_rate: 5.0, least_kbps: 80 },
    Step { eighths: 6, frame_rate: 3.0, least_kbps: 0 },
];

/// Payload of a full RTP packet, and what goes around one: RTP, header extension, SRTP, UDP, IPv4.
const FULL_PACKET_BYTES: f64 = 1150.0;
const HEADER_BYTES: f64 = 12.0 + 8.0 + 16.0 + 28.0;
const MIN_VIDEO_BPS: f64 = 40_000.0;
/// How long the bitrate has to be too small.
const SLOW_DOWN: Duration = Duration::from_millis(1500);
const QUICK_DOWN: Duration = Duration::from_millis(400);
/// How long it has to allow more.
const PATIENCE: Duration = Duration::from_secs(3);
const MAX_PATIENCE: Duration = Duration::from_secs(30);
/// Share of a picture's time that coding may take.
const OVERLOAD: f32 = 0.85;
const OVERLOAD_TIME: Duration = Duration::from_secs(1);
/// With it, one step more would still be below [`OVERLOAD`].
const UNDERLOAD: f32 = 0.4;
const UNDERLOAD_TIME: Duration = Duration::from_secs(8);
/// How long the remote peer has to say that it does not decode in time, between steps too.
const DECODER_LATE_TIME: Duration = Duration::from_millis(1500);
/// What waits for its decoder has to be decoded first before a step shows.
const DECODER_SETTLE: Duration = Duration::from_secs(3);
/// How long it has to say nothing of it, half of that after the first time.
const DECODER_PATIENCE: Duration = Duration::from_secs(15);
const MAX_DECODER_PATIENCE: Duration = Duration::from_secs(960);
/// More waiting than this and the next picture would only wait behind it.
const MAX_PACER_QUEUE: Duration = Duration::from_millis(40);
/// Reports come every 40 to 250 ms.
const OUTAGE: Duration = Duration::from_millis(500);
/// While nobody answers, a keyframe this often: the first that gets through is a picture.
const OUTAGE_INTERVAL: Duration = Duration::from_millis(60);
const OUTAGE_DIVISOR: u64 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: Size = Size::new(1280, 720);

    fn adaptation(content: Content) -> Adaptation {
        let bitrate = Bitrate::from_kbps(2_500);
        Adaptation::new(AdaptationLimits { bitrate, frame_rate: 30.0, content })
    }

    fn conditions(kbps: u64) -> Conditions {
        Conditions {
            network: Some(Bitrate::from_kbps(kbps)),
            audio: Bitrate::from_kbps(60),
            encode_time: Duration::from_millis(3),
            source: SOURCE,
            rtt: Duration::from_millis(50),
            ..Conditions::default()
        }
    }

    /// Plans at 30 fps for `seconds`; pictures coded and the last target.
    fn run(a: &mut Adaptation, from_s: u64, seconds: u64, c: &Conditions) -> (u32, VideoTarget) {
        let (mut coded, mut last) = (0, None);
        for n in 0..seconds * 30 {
            let now = MediaTime::from_micros((from_s * 30 + n) * 33_333);
            match a.plan(now, c) {
                Plan::Skip => {}
                Plan::Encode(target) | Plan::Keyframe(target) => {
                    coded += 1;
                    last = Some(target);
                }
            }
        }
        (coded, last.expect("a picture"))
    }

    #[test]
    fn sound_repairs_parity_and_headers_come_first() {
        let mut a = adaptation(Content::Camera);
        let (_, target) = run(&mut a, 0, 1, &conditions(1_000));
        // 940 kbps less 4 packets' headers a picture.
        assert!((860..=890).contains(&(target.bitrate.as_bps() / 1000)), "{target:?}");
        let c = Conditions { parity: 0.25, repair: Bitrate::from_kbps(100), ..conditions(1_000) };
        let (_, target) = run(&mut a, 1, 1, &c);
        assert!((590..=640).contains(&(target.bitrate.as_bps() / 1000)), "{target:?}");
        let (_, target) = run(&mut a, 2, 1, &conditions(9_000));
        assert_eq!(target.bitrate, Bitrate::from_kbps(2_500));
        assert_eq!(a.take_decision(), None);
    }

    #[test]
    fn camera_pictures_lose_size_and_get_it_back_with_patience() {
        let mut a = adaptation(Content::Camera);
        let (coded, target) = run(&mut a, 0, 4, &conditions(650));
        assert_eq!((coded, target.size, target.frame_rate), (120, Size::new(960, 540), 30.0));
        assert_eq!(a.take_decision().map(|d| d.cause), Some(Cause::Bitrate));
        assert_eq!(a.limited_by(), Some(Cause::Bitrate));
        let (_, target) = run(&mut a, 4, 2, &conditions(1_200));
        assert_eq!(target.size, Size::new(960, 540), "not at once");
        let (_, target) = run(&mut a, 6, 3, &conditions(1_200));
        assert_eq!(target.size, SOURCE);
        assert_eq!(a.take_decision().map(|d| d.cause), Some(Cause::BitrateRecovered));
    }

    #[test]
    fn another_codec_has_its_own_size_at_once() {
        let mut a = adaptation(Content::Camera);
        let (_, target) = run(&mut a, 0, 9, &conditions(350));
        assert_eq!(target.size, Size::new(640, 360));
        let av1 = Conditions { codec: VideoCodec::Av1, ..conditions(350) };
        let (_, target) = run(&mut a, 9, 1, &av1);
        assert_eq!(target.size, SOURCE);
        // A source of a quarter of the pixels needs a quarter of the bitrate.
        let small = Conditions { source: Size::new(640, 360), ..conditions(350) };
        let (_, target) = run(&mut a, 10, 1, &small);
        assert_eq!(target.size, small.source);
    }

    fn plan_large(kbps: u64) -> Conditions {
        Conditions { source: Size::new(1920, 1080), ..conditions(kbps) }
    }

    #[test]
    fn large_pictures_have_a_step_above_the_ordinary_ones() {
        let mut a = adaptation(Content::Camera);
        a.set_max_bitrate(Bitrate::from_kbps(4_500));
        let (_, target) = run(&mut a, 0, 1, &plan_large(9_000));
        assert_eq!((target.size, target.bitrate.as_bps()), (Size::new(1920, 1080), 4_500_000));
        let (_, target) = run(&mut a, 1, 4, &plan_large(2_000));
        assert_eq!(target.size, SOURCE, "the same pictures as of an ordinary source");
        assert_eq!(a.limited_by(), Some(Cause::Bitrate));
        let (_, target) = run(&mut a, 5, 8, &plan_large(2_700));
        assert_eq!(target.size, SOURCE, "a third more than is needed comes first");
        let (_, target) = run(&mut a, 13, 5, &plan_large(4_500));
        assert_eq!((target.size, a.limited_by()), (Size::new(1920, 1080), None));
        let slow = Conditions { encode_time: Duration::from_millis(31), ..plan_large(9_000) };
        let (_, target) = run(&mut a, 18, 2, &slow);
        assert_eq!(target.size, SOURCE);
    }

    #[test]
    fn a_source_that_becomes_large_is_sent_in_the_right_size_at_once_and_back() {
        for (kbps, size) in [(4_500, Size::new(1920, 1080)), (2_700, SOURCE)] {
            let mut a = adaptation(Content::Camera);
            run(&mut a, 0, 2, &conditions(kbps));
            assert_eq!(a.limited_by(), None);
            a.set_max_bitrate(Bitrate::from_kbps(4_500));
            let Plan::Encode(target) = a.plan(MediaTime::from_micros(2_000_000), &plan_large(kbps))
            else {
                panic!("left out");
            };
            assert_eq!(target.size, size);
            let (_, target) = run(&mut a, 3, 1, &conditions(kbps));
            assert_eq!((target.size, a.limited_by()), (SOURCE, None));
        }
    }

    #[test]
    fn what_is_not_decoded_in_time_gets_smaller_and_later_and_later_larger() {
        let mut a = adaptation(Content::Camera);
        let late = Conditions { decoder_overloaded: true, ..conditions(9_000) };
        let (_, target) = run(&mut a, 0, 1, &late);
        assert_eq!(target.size, SOURCE, "not at the first word");
        let (_, target) = run(&mut a, 1, 1, &late);
        assert_eq!(target.size, Size::new(960, 540));
        assert_eq!(a.take_decision().map(|d| d.cause), Some(Cause::Decoder));
        assert_eq!(a.limited_by(), Some(Cause::Decoder));
        let (_, target) = run(&mut a, 2, 28, &conditions(9_000));
        assert_eq!(target.size, Size::new(960, 540));
        let (_, target) = run(&mut a, 30, 4, &conditions(9_000));
        assert_eq!((target.size, a.limited_by()), (SOURCE, None));
        run(&mut a, 34, 2, &late);
        let (_, target) = run(&mut a, 36, 56, &conditions(9_000));
        assert_eq!(target.size, Size::new(960, 540), "twice as long");
        // However often it is said, there is a smallest size.
        let (coded, target) = run(&mut a, 92, 60, &late);
        assert_eq!((target.size, target.frame_rate), (Size::new(480, 270), 15.0));
        assert!(coded > 800);
    }

    #[test]
    fn a_rate_at_the_edge_does_not_make_it_swing() {
        let mut a = adaptation(Content::Camera);
        let mut changes = 0;
        for second in 0..60 {
            run(&mut a, second, 1, &conditions(if second % 4 < 2 { 740 } else { 820 }));
            changes += u32::from(a.take_decision().is_some());
        }
        assert!(changes <= 2, "{changes} changes");
    }

    #[test]
    fn screen_pictures_keep_their_size_and_lose_motion() {
        let mut a = adaptation(Content::Screen);
        let (_, target) = run(&mut a, 0, 6, &conditions(330));
        assert_eq!((target.size, target.frame_rate), (SOURCE, 10.0));
        let (coded, _) = run(&mut a, 6, 3, &conditions(330));
        assert!((29..=31).contains(&coded), "{coded} in 3 s");
    }

    #[test]
    fn an_overloaded_encoder_steps_down_before_pictures_wait() {
        let mut a = adaptation(Content::Camera);
        let slow = Conditions { encode_time: Duration::from_millis(31), ..conditions(9_000) };
        let (_, target) = run(&mut a, 0, 2, &slow);
        assert_eq!(target.size, Size::new(960, 540));
        assert_eq!(a.take_decision().map(|d| d.cause), Some(Cause::Processor));
        let (_, target) = run(&mut a, 2, 9, &conditions(9_000));
        assert_eq!(target.size, SOURCE);
    }

    #[test]
    fn pictures_are_left_out_while_others_wait_to_leave() {
        let mut a = adaptation(Content::Camera);
        let c = Conditions { pacer_queue: Duration::from_millis(90), ..conditions(500) };
        assert_eq!(a.plan(MediaTime::from_micros(0), &c), Plan::Skip);
    }

    #[test]
    fn when_nobody_answers_each_picture_stands_alone() {
        let mut a = adaptation(Content::Camera);
        let c = Conditions { silent: Duration::from_millis(700), ..conditions(2_000) };
        let mut keyframes = 0;
        for n in 0..30 {
            match a.plan(MediaTime::from_micros(n * 33_333), &c) {
                Plan::Keyframe(_) => keyframes += 1,
                Plan::Skip => {}
                Plan::Encode(target) => panic!("{target:?}"),
            }
        }
        assert!((13..=16).contains(&keyframes), "{keyframes}");
    }
}
