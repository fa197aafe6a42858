//! Video from its source to the peer connection: source thread -> [`FrameSlot`] -> thread `video-encode` -> `rtc`. Nothing
//! is encoded while nobody receives.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use visavis_media::adaptation::{
    Adaptation, AdaptationLimits, Conditions, Content, Decision, Plan, VideoTarget, is_large,
};
use visavis_media::codec::{Latitude, VideoEncoder, VideoEncoderConfig, video_encoder};
use visavis_media::codec_choice::{CodecCause, CodecChoice, CodecConditions};
use visavis_media::content::ContentDetector;
use visavis_media::effort::{CabacChoice, Effort, EffortConditions};
use visavis_media::large_pictures::{LargeConditions, LargePictures};
use visavis_media::scale::{Fit, Scaler};
use visavis_media::scene_cut::SceneCuts;
use visavis_media::{Bitrate, Size, VideoCodec, VideoFrame};
use visavis_rtc::{SendOutcome, VideoSender};

use crate::meter::{MeanTime, RateMeter};
use crate::power::Power;
use crate::recipient::Recipient;
use crate::shared::{FrameSlot, Taken, lock};

/// Counts of the video that was sent.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct VideoSendCounts {
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
    pub(crate) keyframes: u64,
    /// What the last frame was coded with.
    pub(crate) codec: Option<VideoCodec>,
    pub(crate) size: Option<Size>,
    pub(crate) fps: f32,
    pub(crate) bitrate_bps: u64,
    pub(crate) encode_time: Duration,
    pub(crate) target_bps: u64,
    /// Pictures left out because others waited to leave.
    pub(crate) skipped: u64,
    /// The last change of size or frame rate.
    pub(crate) decision: Option<Decision>,
    /// What of the codec is used beyond the usual.
    pub(crate) coding: Option<&'static str>,
    /// Why it is that codec.
    pub(crate) codec_cause: Option<CodecCause>,
    /// The last change of codec.
    pub(crate) codec_change: Option<(VideoCodec, CodecCause)>,
    /// Why the pictures are smaller or fewer than the source's.
    pub(crate) limited_by: Option<visavis_media::adaptation::Cause>,
}

#[derive(Default)]
struct VideoMeters {
    counts: VideoSendCounts,
    frames: RateMeter,
    bytes: RateMeter,
    encode: MeanTime,
}

/// The encoder thread and its controls. Lives as long as the engine.
pub(crate) struct VideoSend {
    slot: Arc<FrameSlot>,
    target: Arc<Mutex<Option<VideoSender>>>,
    keyframe: Arc<AtomicBool>,
    meters: Arc<Mutex<VideoMeters>>,
    recipient: Arc<Mutex<Recipient>>,
    large: Arc<AtomicBool>,
    renewed: Arc<AtomicBool>,
    max_bitrate: Bitrate,
    codecs: Vec<VideoCodec>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl VideoSend {
    /// `size` is that of ordinary pictures.
    pub(crate) fn start(
        max_bitrate: Option<Bitrate>,
        size: Size,
        fps: u32,
        codecs: Vec<VideoCodec>,
    ) -> std::io::Result<Self> {
        let slot = Arc::new(FrameSlot::default());
        let target = Arc::new(Mutex::new(None));
        let keyframe = Arc::new(AtomicBool::new(false));
        let meters = Arc::new(Mutex::new(VideoMeters::default()));
        let recipient = Arc::new(Mutex::new(Recipient::default()));
        let (large, renewed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let worker = VideoEncode {
            slot: slot.clone(),
            target: target.clone(),
            keyframe: keyframe.clone(),
            meters: meters.clone(),
            recipient: recipient.clone(),
            large: large.clone(),
            renewed: renewed.clone(),
            limit: size,
            max_bitrate,
            fps,
            codecs: codecs.clone(),
            power: Power::default(),
        };
        let thread =
            std::thread::Builder::new().name("video-encode".into()).spawn(move || worker.run())?;
        Ok(Self {
            slot,
            target,
            keyframe,
            meters,
            recipient,
            large,
            renewed,
            max_bitrate: ceiling(max_bitrate, size),
            codecs,
            thread: Some(thread),
        })
    }

    /// The most that is asked of the encoder at first.
    pub(crate) fn max_bitrate(&self) -> Bitrate {
        self.max_bitrate
    }

    /// The codecs that may be used, in the order in which they are offered: a browser sends with the first one that it
    /// has. H.264 takes the least time of it, VP9 and AV1 look best on narrow lines.
    pub(crate) fn codecs(&self) -> Vec<VideoCodec> {
        let order = [VideoCodec::H264, VideoCodec::Vp9, VideoCodec::Av1, VideoCodec::Vp8];
        order.into_iter().filter(|codec| self.codecs.contains(codec)).collect()
    }

    /// Where sources put their pictures.
    pub(crate) fn slot(&self) -> Arc<FrameSlot> {
        self.slot.clone()
    }

    /// The peer to send to; pictures are encoded once it receives, from a keyframe on.
    pub(crate) fn set_target(&self, sender: Option<VideoSender>) {
        if sender.is_none() {
            // Nothing that was learnt holds for the next one.
            lock(&self.recipient).forget();
            self.renewed.store(true, Ordering::Relaxed);
            self.large.store(false, Ordering::Relaxed);
        }
        *lock(&self.target) = sender;
    }

    /// What is known of who receives, and of the source.
    pub(crate) fn recipient(&self) -> MutexGuard<'_, Recipient> {
        lock(&self.recipient)
    }

    /// Whether the source is to deliver the large pictures that it offers.
    pub(crate) fn wants_large(&self) -> bool {
        self.large.load(Ordering::Relaxed)
    }

    /// The next picture will be a keyframe.
    pub(crate) fn request_keyframe(&self) {
        self.keyframe.store(true, Ordering::Relaxed);
    }

    pub(crate) fn counts(&self, now: Instant) -> VideoSendCounts {
        let mut meters = lock(&self.meters);
        let mut counts = meters.counts;
        counts.fps = meters.frames.per_second(now);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a bitrate")]
        {
            counts.bitrate_bps = (meters.bytes.per_second(now) * 8.0) as u64;
        }
        counts.encode_time = meters.encode.mean();
        counts
    }

    /// The last change of codec, once.
    pub(crate) fn take_codec_change(&self) -> Option<(VideoCodec, CodecCause)> {
        lock(&self.meters).counts.codec_change.take()
    }

    /// The last change of size or frame rate, once.
    pub(crate) fn take_decision(&self) -> Option<Decision> {
        lock(&self.meters).counts.decision.take()
    }

    /// For a new call.
    pub(crate) fn reset_counts(&self) {
        *lock(&self.meters) = VideoMeters::default();
    }
}

impl Drop for VideoSend {
    fn drop(&mut self) {
        self.slot.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What an encoder was made for: its codec and ceiling, whether with CABAC, and what the frames show. Any
/// change takes another encoder.
type EncoderKind = (VideoCodec, Bitrate, bool, Content);

struct VideoEncode {
    slot: Arc<FrameSlot>,
    target: Arc<Mutex<Option<VideoSender>>>,
    keyframe: Arc<AtomicBool>,
    meters: Arc<Mutex<VideoMeters>>,
    recipient: Arc<Mutex<Recipient>>,
    /// Whether large pictures are wanted.
    large: Arc<AtomicBool>,
    /// Whether there is to be another remote peer.
    renewed: Arc<AtomicBool>,
    /// Pictures larger than this are scaled down, unless large ones are wanted.
    limit: Size,
    /// Of the video, if it was given.
    max_bitrate: Option<Bitrate>,
    fps: u32,
    /// Those that may be sent with.
    codecs: Vec<VideoCodec>,
    power: Power,
}

impl VideoEncode {
    fn run(mut self) {
        #[expect(clippy::cast_precision_loss, reason = "a frame rate is small")]
        let mut config = VideoEncoderConfig {
            max_bitrate: ceiling(self.max_bitrate, self.limit),
            bitrate: ceiling(self.max_bitrate, self.limit),
            frame_rate: self.fps as f32,
            content: Content::Camera,
            cabac: false,
        };
        let mut choice = CodecChoice::default();
        // The codec of the last frame with its encoder.
        let mut encoder: Option<(EncoderKind, Box<dyn VideoEncoder>)> = None;
        let mut scaler = Scaler::new();
        let (mut cuts, mut effort) = (SceneCuts::default(), Effort::default());
        let (mut cabac, mut content) = (CabacChoice::default(), ContentDetector::default());
        // What was last logged of how it is coded.
        let mut coding_told = None;
        let mut adaptation = Adaptation::new(AdaptationLimits {
            bitrate: config.max_bitrate,
            frame_rate: self.fps as f32,
            content: Content::Camera,
        });
        let mut large = LargePictures::default();
        let mut usable = Vec::with_capacity(VideoCodec::ALL.len());
        let mut last_keyframe: Option<Instant> = None;
        let mut last_target: Option<VideoTarget> = None;
        // Whether the path carried more than the last frame's bitrate.
        let mut roomy = false;
        // The newest picture while a connection is coming about, for the moment at which it is
        // there: the next one may be a frame's length away.
        let mut held: Option<(VideoFrame, Instant)> = None;
        loop {
            match self.slot.take(held.is_some().then_some(CONNECTED_POLL)) {
                Taken::Frame(frame) => held = Some((frame, Instant::now())),
                Taken::Nothing => {}
                Taken::Closed => return,
            }
            if self.renewed.swap(false, Ordering::Relaxed) {
                (choice, large, last_target) = Default::default();
                adaptation.forget_decoder();
                self.large.store(false, Ordering::Relaxed);
            }
            let target = lock(&self.target).clone();
            let connecting = target.is_some();
            let Some(sender) = target.filter(VideoSender::is_receiving) else {
                self.keyframe.store(true, Ordering::Relaxed);
                // A camera that was switched off shows nothing afterwards.
                held = held.filter(|(_, at)| connecting && at.elapsed() < MAX_HELD);
                continue;
            };
            let Some((frame, _)) = held.take() else { continue };
            let network = sender.network();
            let recipient = *lock(&self.recipient);
            let limit = match recipient.offered {
                Some(offered) if self.large.load(Ordering::Relaxed) => offered,
                _ => self.limit,
            };
            let source = fit_within(frame.buffer.size(), limit);
            config.max_bitrate = ceiling(self.max_bitrate, source);
            adaptation.set_max_bitrate(config.max_bitrate);
            let now = Instant::now();
            let overloaded = |codec| recipient.is_overloaded(codec, now);
            let encode_time = lock(&self.meters).encode.mean();
            usable.clear();
            usable.extend(sender.codecs().iter().filter(|codec| self.codecs.contains(codec)));
            let codec_conditions = CodecConditions {
                usable: &usable,
                bitrate: last_target.map_or(network.target, |target| target.bitrate),
                source,
                frame_rate: last_target.map_or(config.frame_rate, |target| target.frame_rate),
                encode_time,
                decoder_overloaded: choice.current().is_some_and(overloaded),
                on_battery: self.power.on_battery(),
                quality_first: roomy && config.max_bitrate > ceiling(None, source),
            };
            if let Some(change) = choice.plan(frame.time, &codec_conditions) {
                self.note_codec(change, codec_conditions.bitrate);
            }
            let Some(codec) = choice.current() else { continue };
            let decoder_overloaded = overloaded(codec);
            let conditions = Conditions {
                network: Some(network.target),
                audio: network.audio,
                repair: network.repair,
                parity: network.parity,
                pacer_queue: network.pacer_queue,
                silent: network.silent.unwrap_or_default(),
                rtt: network.rtt.unwrap_or_default(),
                encode_time,
                source,
                codec,
                // Another codec comes before another size.
                decoder_overloaded: decoder_overloaded && !choice.has_cheaper(&usable),
            };
            if let Some(target) = last_target {
                let conditions = LargeConditions {
                    offered: recipient.offered,
                    direct: recipient.direct,
                    display: recipient.display(),
                    bitrate: adaptation.left_for_video(&conditions).unwrap_or_default(),
                    ceiling: config.max_bitrate,
                    codec,
                    sent: target.size,
                    frame_rate: target.frame_rate,
                    encode_time,
                    decoder_overloaded,
                    on_battery: codec_conditions.on_battery,
                };
                let wanted = large.plan(frame.time, &conditions);
                if self.large.swap(wanted, Ordering::Relaxed) != wanted {
                    tracing::info!(wanted, "pictures larger than usual");
                }
            }
            let most = if large.wants_bitrate() { recipient.offered } else { None };
            sender.set_max_bitrate(ceiling(self.max_bitrate, most.unwrap_or(source)));
            let plan = adaptation.plan(frame.time, &conditions);
            self.note(&mut adaptation, &plan);
            let target = match plan {
                Plan::Skip => continue,
                Plan::Encode(target) | Plan::Keyframe(target) => target,
            };
            last_target = Some(target);
            roomy = adaptation.has_room(&conditions);
            let taken = codec == VideoCodec::H264 && sender.takes_cabac();
            config.cabac = cabac.plan(frame.time, taken, target.bitrate, source);
            // Only AV1 has tools for it that are worth it.
            let content = content.plan(frame.time, &frame.buffer, roomy);
            config.content = if codec == VideoCodec::Av1 { content } else { Content::Camera };
            let kind = (codec, config.max_bitrate, config.cabac, config.content);
            let encoder = match &mut encoder {
                Some((present, encoder)) if *present == kind => encoder,
                other => &mut other.insert((kind, video_encoder(codec, &config))).1,
            };
            if matches!(plan, Plan::Keyframe(_)) {
                encoder.request_keyframe();
            }
            let begun = Instant::now();
            // Several requests within a round trip are answered by one keyframe.
            let spacing =
                network.rtt.unwrap_or_default().clamp(MIN_KEYFRAME_SPACING, MAX_KEYFRAME_SPACING);
            let spaced = last_keyframe.is_none_or(|at| begun >= at + spacing);
            if spaced && self.keyframe.swap(false, Ordering::Relaxed) {
                encoder.request_keyframe();
            }
            let thorough = effort.plan(
                frame.time,
                &EffortConditions {
                    codec,
                    encode_time,
                    frame_rate: target.frame_rate,
                    allowed: roomy && !codec_conditions.on_battery,
                },
            );
            let coding = match (config.cabac, config.content, thorough) {
                (true, ..) => Some("CABAC"),
                (_, Content::Screen, false) => Some("screen"),
                (_, Content::Screen, true) => Some("screen, thorough"),
                (_, Content::Camera, true) => Some("thorough"),
                (_, Content::Camera, false) => None,
            };
            if coding != coding_told {
                coding_told = coding;
                tracing::info!(%codec, coding = coding.unwrap_or("as usual"), ?encode_time, "coding");
            }
            encoder.set_latitude(Latitude { uneven: roomy, thorough });
            // A frame that is blurred for half a second is worse than a burst where the path has room for one.
            if cuts.is_cut(frame.time, &frame.buffer) && roomy {
                encoder.begin_scene();
            }
            encoder.set_bitrate(target.bitrate);
            encoder.set_frame_rate(target.frame_rate);
            let result = fit(&mut scaler, frame, target.size).and_then(|f| encoder.encode(&f));
            match result {
                Ok(Some(encoded)) => {
                    let done = Instant::now();
                    if encoded.keyframe {
                        last_keyframe = Some(done);
                    }
                    let mut meters = lock(&self.meters);
                    meters.frames.add(done, 1);
                    meters.bytes.add(done, encoded.data.len() as u64);
                    meters.encode.add(done, done - begun);
                    meters.counts.frames += 1;
                    meters.counts.bytes += encoded.data.len() as u64;
                    meters.counts.keyframes += u64::from(encoded.keyframe);
                    meters.counts.codec = Some(encoded.codec);
                    meters.counts.coding = coding;
                    meters.counts.size = Some(encoded.size);
                    meters.counts.target_bps = target.bitrate.as_bps();
                    drop(meters);
                    if sender.send(&encoded) != SendOutcome::Sent {
                        // The rest of the sequence would refer to a picture that never left.
                        self.keyframe.store(true, Ordering::Relaxed);
                        last_keyframe = None;
                    }
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, "a picture could not be encoded");
                    self.keyframe.store(true, Ordering::Relaxed);
                }
            }
        }
    }

    /// Logs a change of codec and keeps it for the snapshot.
    fn note_codec(&self, change: (VideoCodec, CodecCause), bitrate: Bitrate) {
        let (codec, cause) = change;
        let mut meters = lock(&self.meters);
        // What was measured says nothing about the new codec.
        meters.encode.clear();
        meters.counts.codec_change = Some(change);
        meters.counts.codec_cause = Some(cause);
        drop(meters);
        let bitrate_kbps = bitrate.as_bps() / 1000;
        tracing::info!(%codec, %cause, bitrate_kbps, "video codec changed");
    }

    /// Logs what was decided and keeps it for the snapshot.
    fn note(&self, adaptation: &mut Adaptation, plan: &Plan) {
        let decision = adaptation.take_decision();
        if decision.is_none() && *plan != Plan::Skip {
            return;
        }
        let mut meters = lock(&self.meters);
        meters.counts.skipped += u64::from(*plan == Plan::Skip);
        if let Some(decision) = decision {
            meters.counts.decision = Some(decision);
            meters.counts.limited_by = adaptation.limited_by();
            drop(meters);
            let target = decision.target;
            tracing::info!(
                size = %target.size,
                frame_rate = target.frame_rate,
                bitrate_kbps = target.bitrate.as_bps() / 1000,
                cause = %decision.cause,
                "video adapted"
            );
        }
    }
}

fn fit(
    scaler: &mut Scaler,
    frame: VideoFrame,
    size: Size,
) -> Result<VideoFrame, visavis_media::MediaError> {
    if frame.buffer.size() == size {
        return Ok(frame);
    }
    Ok(VideoFrame { buffer: scaler.scale(&frame.buffer, size, Fit::Stretch)?, ..frame })
}

/// How soon it is noticed that media may be sent.
const CONNECTED_POLL: Duration = Duration::from_millis(1);
/// How long a picture may wait for that.
const MAX_HELD: Duration = Duration::from_millis(50);
/// Least time between keyframes on request, whatever the round trip.
const MIN_KEYFRAME_SPACING: Duration = Duration::from_millis(150);
const MAX_KEYFRAME_SPACING: Duration = Duration::from_millis(500);

/// The ceiling of the video bitrate for a source of that size. What is given holds at any size.
fn ceiling(given: Option<Bitrate>, source: Size) -> Bitrate {
    given.unwrap_or(if is_large(source) { LARGE_MAX_BITRATE } else { MAX_BITRATE })
}

/// Ceilings of the video bitrate up to 1280x720 and beyond.
const MAX_BITRATE: Bitrate = Bitrate::from_kbps(2_500);
const LARGE_MAX_BITRATE: Bitrate = Bitrate::from_kbps(4_500);

/// The largest even size of the same aspect that `limit` (in either orientation) holds.
fn fit_within(size: Size, limit: Size) -> Size {
    let (long, short) = (limit.width_px.max(limit.height_px), limit.width_px.min(limit.height_px));
    let (max_w, max_h) =
        if size.width_px >= size.height_px { (long, short) } else { (short, long) };
    if size.width_px <= max_w && size.height_px <= max_h {
        return size;
    }
    let (w, h) = (u64::from(size.width_px), u64::from(size.height_px));
    let by_width = u64::from(max_w) * h <= u64::from(max_h) * w;
    let (w, h) = if by_width {
        (u64::from(max_w), u64::from(max_w) * h / w)
    } else {
        (u64::from(max_h) * w / h, u64::from(max_h))
    };
    #[expect(clippy::cast_possible_truncation, reason = "no larger than the limit")]
    Size::new((w as u32 & !1).max(2), (h as u32 & !1).max(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_scaled_down_never_up_and_keep_their_aspect() {
        let limit = Size::new(1280, 720);
        for (size, fitted) in [
            ((1920, 1080), (1280, 720)),
            ((640, 480), (640, 480)),
            ((1600, 1200), (960, 720)),
            ((1080, 1920), (720, 1280)),
            ((4000, 100), (1280, 32)),
        ] {
            assert_eq!(fit_within(Size::new(size.0, size.1), limit), Size::new(fitted.0, fitted.1));
        }
    }
}
