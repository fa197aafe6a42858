//! Adaptive playout: Opus packets in whenever they come, 10 ms of sound out whenever the
//! speaker asks. Sans-IO; it lives on the audio thread.
//!
//! Frames are kept by RTP time, whichever packet brought them: their own or a later one that carries
//! a redundant copy (RED). What is played has a delay against the fastest frame of the last seconds,
//! and so has what should be played (`timing`); playout is steered by the two: too late, and a pitch
//! period is left out; too early, and one is repeated. A lost frame is recovered from a copy or from
//! the next packet's in-band FEC, else concealed; when nothing is there, concealment goes on without
//! moving in the stream, so that a packet that was only late is still played.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use crate::audio::stretch::Likeness;
use crate::codec::opus::{has_fec, is_dtx, packet_samples};
use crate::error::MediaError;
use crate::frame::{AUDIO_FRAME_SAMPLES, AUDIO_RATE_HZ, MediaTime, PlayoutBlock, ReceivedRtp};
use decoded::Decoded;
use timing::Timing;

mod decoded;
mod timing;

/// Where 10 ms of sound came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlayoutKind {
    /// Packets, or redundant copies of them.
    Played,
    /// Silence: nothing came yet, or the sender is silent (comfort noise).
    Silence,
    /// Made up, because nothing came.
    Concealed,
    /// The next packet's in-band FEC.
    Fec,
}

/// Counters since the start; names as in [webrtc-stats] where it has them.
///
/// [webrtc-stats]: https://www.w3.org/TR/webrtc-stats/#inboundrtpstats-dict*
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PlayoutStats {
    /// Packets taken, without duplicates.
    pub packets_received: u64,
    /// Packets that never came, or not yet.
    pub packets_lost: u64,
    /// Packets that came too late to be played, and malformed ones.
    pub packets_discarded: u64,
    /// Packets that came more than once.
    pub duplicates: u64,
    /// Samples handed out since the first packet.
    pub total_samples_received: u64,
    /// Samples made up for missing ones; DTX silence is not among them.
    pub concealed_samples: u64,
    /// Runs of concealed samples.
    pub concealment_events: u64,
    /// Frames recovered by in-band FEC.
    pub fec_recovered_packets: u64,
    /// Redundant copies (RED) received, wanted or not.
    pub red_copies_received: u64,
    /// Frames recovered from redundant copies (RED), as far as their own packet had not come when
    /// they were played.
    pub red_recovered_packets: u64,
    /// Samples inserted to play later.
    pub inserted_samples_for_deceleration: u64,
    /// Samples left out to play sooner.
    pub removed_samples_for_acceleration: u64,
    /// How much later than the fastest packet's arrival its sound is handed out.
    pub current_delay: Duration,
    /// What that is steered to.
    pub target_delay: Duration,
    /// Interarrival jitter (RFC 3550 §6.4.1).
    pub jitter: Duration,
}

/// See the module.
#[derive(Debug)]
pub struct JitterBuffer {
    /// By extended RTP timestamp.
    packets: BTreeMap<u64, Packet>,
    /// The decoder, and what is decoded and not yet handed out.
    decoded: Decoded,
    /// Where the stream is decoded up to; `None` before the first packet is played.
    position: Option<Position>,
    /// Samples made up since the last packet without moving `position`.
    stalled: u64,
    /// How much of `stalled` was counted as concealed.
    stall_concealed: u64,
    /// Concealed without a break, for the fade-out.
    concealed_run: usize,
    last_kind: PlayoutKind,
    /// The last packet said that silence follows.
    dtx: bool,
    highest: Option<(u64, u64)>,
    /// Sequence numbers seen lately, at their remainder, to tell late ones from copies.
    seen: Box<[u64; SEEN_PACKETS]>,
    /// Timestamps of frames that came in some way, at their remainder in steps of 2.5 ms.
    frames: Box<[u64; SEEN_FRAMES]>,
    stray: Option<u16>,
    first_sequence: u64,
    timing: Timing,
    /// Smoothed delay of what is played, microseconds.
    delay_us: Option<f64>,
    since_stretch: u32,
    /// Packets in a row that came at the last moment.
    starving: u32,
    /// The extra delay before it was lowered, and for how many pulls more that is remembered.
    giving_back: (i64, u32),
    stats: PlayoutStats,
}

#[derive(Debug, Clone, Copy)]
struct Position {
    /// Extended sequence number of the packet to decode next; `None` after a copy, which does not
    /// say its number.
    sequence: Option<u64>,
    /// Extended RTP timestamp of the sample to decode next.
    timestamp: u64,
}

#[derive(Debug)]
struct Packet {
    /// `None` for a redundant copy.
    sequence: Option<u64>,
    samples: usize,
    payload: Bytes,
    arrival: MediaTime,
}

impl JitterBuffer {
    /// An empty buffer.
    ///
    /// # Errors
    /// libopus refused a decoder.
    pub fn new() -> Result<Self, MediaError> {
        Ok(Self {
            packets: BTreeMap::new(),
            decoded: Decoded::new()?,
            position: None,
            stalled: 0,
            stall_concealed: 0,
            concealed_run: 0,
            last_kind: PlayoutKind::Silence,
            dtx: false,
            highest: None,
            seen: Box::new([0; SEEN_PACKETS]),
            frames: Box::new([0; SEEN_FRAMES]),
            stray: None,
            first_sequence: 0,
            timing: Timing::new(),
            delay_us: None,
            since_stretch: 0,
            starving: 0,
            giving_back: (0, 0),
            stats: PlayoutStats::default(),
        })
    }

    /// Takes an Opus packet in any order, or (`retransmitted`) a redundant copy out of a later one.
    pub fn push(&mut self, packet: &ReceivedRtp) {
        // Nothing to hear in an empty packet (a probe, or padding).
        if packet.payload.is_empty() {
            return;
        }
        let Some(samples) = packet_samples(&packet.payload) else {
            self.stats.packets_discarded += u64::from(!packet.retransmitted);
            return;
        };
        if packet.retransmitted {
            self.push_copy(packet, samples);
            return;
        }
        let Some((sequence, timestamp)) = self.extend(packet) else { return };
        let seen = &mut self.seen[(sequence % SEEN_PACKETS as u64) as usize];
        if std::mem::replace(seen, sequence) == sequence {
            self.stats.duplicates += 1;
            return;
        }
        self.stats.packets_received += 1;
        self.timing.packet(packet.arrival, timestamp);
        let copied = self.packets.get(&timestamp).is_some_and(|p| p.sequence.is_none());
        // A late one, too, says how late frames come.
        let new = self.frame_came(packet.arrival, timestamp);
        if new && has_fec(&packet.payload) {
            // With its FEC the frame before it has come as well, if it had not.
            self.frame_came(packet.arrival, timestamp - samples as u64);
        }
        if self.position.is_some_and(|p| timestamp < p.timestamp) {
            // A frame that was played from a copy is not missed.
            self.stats.packets_discarded += u64::from(new);
            return;
        }
        let arrival = match self.packets.get(&timestamp) {
            Some(copy) if copied => copy.arrival,
            _ => packet.arrival,
        };
        self.insert(
            timestamp,
            Packet { sequence: Some(sequence), samples, payload: packet.payload.clone(), arrival },
        );
    }

    /// A copy of an earlier frame.
    fn push_copy(&mut self, packet: &ReceivedRtp, samples: usize) {
        self.stats.red_copies_received += 1;
        // What came before the first packet would only delay the start.
        let Some((_, highest)) = self.highest else { return };
        let ticks = i64::from(packet.timestamp.wrapping_sub(highest as u32) as i32);
        if ticks.abs() > MAX_COPY_TICKS {
            return;
        }
        let Some(timestamp) = highest.checked_add_signed(ticks) else { return };
        if !self.frame_came(packet.arrival, timestamp) {
            return;
        }
        // After an outage, too, sound goes on with what is new.
        let outage = self.stalled > OUTAGE_SAMPLES;
        let Some(position) = self.position else { return };
        if outage || timestamp < position.timestamp || self.packets.contains_key(&timestamp) {
            return;
        }
        self.insert(
            timestamp,
            Packet {
                sequence: None,
                samples,
                payload: packet.payload.clone(),
                arrival: packet.arrival,
            },
        );
    }

    /// Notes the frame; whether it is new.
    fn frame_came(&mut self, arrival: MediaTime, timestamp: u64) -> bool {
        let place = (timestamp / SMALLEST_STEP % SEEN_FRAMES as u64) as usize;
        if std::mem::replace(&mut self.frames[place], timestamp) == timestamp {
            return false;
        }
        self.timing.frame(arrival, timestamp);
        true
    }

    fn insert(&mut self, timestamp: u64, packet: Packet) {
        self.packets.insert(timestamp, packet);
        while self.packets.len() > MAX_PACKETS {
            self.packets.pop_first();
            self.stats.packets_discarded += 1;
        }
    }

    /// Adds to the target delay, for lip sync; it is gone to by time-stretching. The whole stays
    /// below 400 ms.
    pub fn set_extra_delay(&mut self, delay: Duration) {
        let extra_us = i64::try_from(delay.as_micros()).unwrap_or(0).min(MAX_EXTRA_US);
        if extra_us < self.timing.extra_us {
            // What is no longer wanted is still there for a while.
            self.giving_back = (self.timing.extra_us, GIVING_BACK_PULLS);
        }
        self.timing.extra_us = extra_us;
    }

    /// How much of the extra delay what is played now has.
    pub fn extra_delay(&self) -> Duration {
        let (before, pulls) = self.giving_back;
        let most = if pulls > 0 { before } else { 0 }.max(self.timing.extra_us);
        let own = self.timing.target_us() - self.timing.extra_us;
        let added = self.delay_us.map_or(0, |delay| delay as i64 - own).clamp(0, most.max(0));
        Duration::from_micros(added.unsigned_abs())
    }

    /// RTP timestamp of the sample that the next pull begins with; `None` while nothing is played.
    pub fn next_timestamp(&self) -> Option<u32> {
        let position = self.position.filter(|_| !self.dtx && self.stalled == 0)?;
        Some(position.timestamp.wrapping_sub(self.decoded.len() as u64) as u32)
    }

    /// The next 10 ms. Silence before the first packet. Call it every 10 ms; several calls at once
    /// (a device with larger blocks) are taken into account by a longer delay.
    pub fn pull_into(&mut self, now: MediaTime, out: &mut PlayoutBlock) -> PlayoutKind {
        if !self.start(now) {
            *out = PlayoutBlock::SILENCE;
            return PlayoutKind::Silence;
        }
        self.measure_delay(now);
        self.drop_backlog();
        while self.decoded.len() < AUDIO_FRAME_SAMPLES {
            let kind = self.produce(now);
            if kind == PlayoutKind::Concealed && self.last_kind != PlayoutKind::Concealed {
                self.stats.concealment_events += 1;
            }
            self.last_kind = kind;
        }
        self.stats.total_samples_received += AUDIO_FRAME_SAMPLES as u64;
        self.decoded.take(out);
        self.last_kind
    }

    /// Counters and the delay now.
    pub fn stats(&self) -> PlayoutStats {
        let expected = self.highest.map_or(0, |(highest, _)| highest - self.first_sequence + 1);
        PlayoutStats {
            packets_lost: expected.saturating_sub(self.stats.packets_received),
            current_delay: Duration::from_micros(self.delay_us.unwrap_or(0.0).max(0.0) as u64),
            target_delay: Duration::from_micros(self.timing.target_us().max(0).unsigned_abs()),
            jitter: Duration::from_micros(self.timing.jitter_us as u64),
            ..self.stats
        }
    }

    /// Begins to play once the first packet is as old as the target delay.
    fn start(&mut self, now: MediaTime) -> bool {
        if self.position.is_some() {
            return true;
        }
        let Some((&timestamp, first)) = self.packets.first_key_value() else { return false };
        if self.timing.delay_us(now, timestamp) < self.timing.target_us() {
            return false;
        }
        self.position = Some(Position { sequence: first.sequence, timestamp });
        true
    }

    fn measure_delay(&mut self, now: MediaTime) {
        self.giving_back.1 = self.giving_back.1.saturating_sub(1);
        let Some(position) = self.position else { return };
        if self.dtx || self.stalled > 0 {
            return;
        }
        let playing = position.timestamp.saturating_sub(self.decoded.len() as u64);
        let delay = self.timing.delay_us(now, playing) as f64;
        let smoothed = self.delay_us.get_or_insert(delay);
        *smoothed += (delay - *smoothed) / DELAY_SMOOTHING;
    }

    /// After an outage: skips what would take seconds to catch up with by leaving out periods.
    fn drop_backlog(&mut self) {
        let (Some(delay), Some(position)) = (self.delay_us, &mut self.position) else { return };
        // A queue that built up by and by is still there, and has to be followed.
        let wanted = self.timing.target_us().max(self.timing.recent_us());
        let mut excess = delay - wanted as f64 - MAX_EXCESS_US;
        if excess <= 0.0 {
            return;
        }
        excess += MAX_EXCESS_US;
        while excess > 0.0 && self.packets.len() > 1 {
            let Some((timestamp, packet)) = self.packets.pop_first() else { break };
            let end = timestamp + packet.samples as u64;
            excess -= samples_to_us(end.saturating_sub(position.timestamp)) as f64;
            self.stats.packets_discarded += 1;
            *position = Position {
                sequence: packet.sequence.map(|s| s + 1),
                timestamp: end.max(position.timestamp),
            };
        }
        self.delay_us = None;
    }

    /// Appends at least 2.5 ms to `decoded`.
    fn produce(&mut self, now: MediaTime) -> PlayoutKind {
        let Some(position) = self.position else { return self.stall() };
        let Some((&timestamp, packet)) = self.packets.first_key_value() else {
            return self.stall();
        };
        let gap = timestamp.saturating_sub(position.timestamp);
        if gap == 0 {
            return self.play_first(now);
        }
        if self.dtx || (packet.sequence.is_some() && packet.sequence == position.sequence) {
            // Nothing was lost: the sender was silent. What was made up meanwhile was no concealment.
            self.stats.concealed_samples -= std::mem::take(&mut self.stall_concealed);
            if self.timing.delay_us(now, timestamp) < self.timing.target_us() {
                self.dtx = true;
                return self.stall();
            }
        }
        if let (Some(due), Some(sequence)) = (position.sequence, packet.sequence) {
            // Only so much can have been lost; the rest was silence whose beginning was lost.
            let lost = sequence.saturating_sub(due).saturating_mul(packet.samples as u64);
            let silence = self.stall_concealed.saturating_sub(lost);
            self.stall_concealed -= silence;
            self.stats.concealed_samples -= silence;
        }
        if !self.dtx && self.stalled < gap && gap < MAX_CONCEALED_GAP {
            return self.bridge(gap - self.stalled);
        }
        self.play_first(now)
    }

    /// Decodes the first packet and moves behind it.
    fn play_first(&mut self, now: MediaTime) -> PlayoutKind {
        let Some((timestamp, packet)) = self.packets.pop_first() else { return self.stall() };
        let before = self.decoded.len();
        // It was not lost, but came after its time.
        let late = self.stalled > 0 && self.position.is_some_and(|p| p.timestamp == timestamp);
        let result = self.decoded.decode(&packet.payload);
        let known = self.position.filter(|p| p.timestamp == timestamp).and_then(|p| p.sequence);
        self.position = Some(Position {
            sequence: packet.sequence.or(known).map(|s| s + 1),
            timestamp: timestamp + packet.samples as u64,
        });
        (self.stalled, self.stall_concealed) = (0, 0);
        self.dtx = is_dtx(&packet.payload);
        if result.is_err() || self.decoded.len() == before {
            self.stats.packets_discarded += 1;
            return self.conceal(packet.samples, true);
        }
        self.stats.red_recovered_packets += u64::from(packet.sequence.is_none());
        if std::mem::take(&mut self.concealed_run) > FADE_START {
            // Concealment had gone down to silence.
            self.decoded.scale(before, |n| (n as f32 / FADE_IN_SAMPLES as f32).min(1.0));
        }
        if self.dtx {
            return PlayoutKind::Silence;
        }
        let slack_us = now.saturating_since(packet.arrival).as_micros() as f64
            + samples_to_us(before as u64) as f64;
        self.steer(before, if late { 0.0 } else { slack_us });
        PlayoutKind::Played
    }

    /// Fills `missing` samples before the first packet: by its FEC if that reaches, else made up.
    fn bridge(&mut self, missing: u64) -> PlayoutKind {
        let Some((&next_timestamp, packet)) = self.packets.first_key_value() else {
            return self.stall();
        };
        let (payload, reach) = (packet.payload.clone(), packet.samples as u64);
        let sequence = packet.sequence;
        let whole = missing - missing % SMALLEST_STEP;
        let move_to = |this: &mut Self, timestamp: u64| {
            this.position = Some(Position {
                sequence: sequence.filter(|_| timestamp == next_timestamp),
                timestamp,
            });
            (this.stalled, this.stall_concealed) = (0, 0);
        };
        if whole > 0 && missing <= reach && has_fec(&payload) {
            move_to(self, next_timestamp);
            if self.decoded.decode_fec(&payload, whole as usize).is_ok() {
                self.stats.fec_recovered_packets += 1;
                self.concealed_run = 0;
                return PlayoutKind::Fec;
            }
            return self.conceal(whole as usize, true);
        }
        // Leave the last packet's worth to FEC, if there is any.
        let chunk = whole.clamp(SMALLEST_STEP, AUDIO_FRAME_SAMPLES as u64);
        move_to(self, next_timestamp - missing.saturating_sub(chunk));
        self.conceal(chunk as usize, true)
    }

    /// Nothing to play: makes up 10 ms without moving in the stream.
    fn stall(&mut self) -> PlayoutKind {
        let counted = !self.dtx;
        self.stalled += AUDIO_FRAME_SAMPLES as u64;
        if counted {
            self.stall_concealed += AUDIO_FRAME_SAMPLES as u64;
        }
        self.conceal(AUDIO_FRAME_SAMPLES, counted)
    }

    fn conceal(&mut self, samples: usize, counted: bool) -> PlayoutKind {
        let start = self.decoded.len();
        self.decoded.conceal(samples);
        if !counted {
            return PlayoutKind::Silence;
        }
        let run = self.concealed_run;
        self.decoded.scale(start, |n| {
            let faded = (run + n).saturating_sub(FADE_START) as f32 / FADE_SAMPLES as f32;
            (1.0 - faded).max(0.0)
        });
        self.concealed_run += self.decoded.len() - start;
        self.stats.concealed_samples += samples as u64;
        PlayoutKind::Concealed
    }

    /// Shortens or lengthens what was decoded from `from` on, if the delay is off. `slack_us` is how
    /// long before its time the packet came.
    fn steer(&mut self, from: usize, slack_us: f64) {
        self.since_stretch += 1;
        // Packets of 10 ms are too short by themselves.
        let from = from.min(self.decoded.len().saturating_sub(2 * AUDIO_FRAME_SAMPLES));
        let queued: usize = self.packets.values().map(|packet| packet.samples).sum();
        let in_hand = slack_us + samples_to_us(queued as u64) as f64;
        if in_hand < if self.starving == 0 { STARVING_US } else { FED_US } {
            // A queue builds up: each packet takes longer than the one before. Sound that is drawn
            // out covers it better than gaps do.
            self.starving += 1;
            let packet = self.decoded.len() - from;
            let wanted = packet * if self.starving > 1 { 5 } else { 3 } / 2;
            for repeat in 0..MAX_REPEATS {
                let before = self.decoded.len();
                self.lengthen(from, Likeness::FAST);
                if repeat == 0 && self.decoded.len() == before {
                    // Of noise a repeat is not heard, but more of them are.
                    self.lengthen(from, Likeness::ANY);
                    break;
                }
                if self.decoded.len() >= from + wanted {
                    break;
                }
            }
            return;
        }
        self.starving = 0;
        let Some(delay) = self.delay_us else { return };
        let target = self.timing.target_us();
        let late = delay - target.max(self.timing.recent_us()) as f64;
        let early = target as f64 - delay;
        let (interval, likeness) = match late.max(early) {
            off if off > VERY_FAR_OFF_US => (1, Likeness::ANY),
            off if off > FAR_OFF_US => (1, Likeness::FAST),
            _ => (STRETCH_INTERVAL, Likeness::UNHEARD),
        };
        if self.since_stretch < interval {
        } else if late > LATE_US {
            let removed = self.decoded.shorten(from, likeness);
            self.stats.removed_samples_for_acceleration += removed as u64;
            self.stretched(delay, -samples_to_us(removed as u64));
        } else if early > EARLY_US {
            self.lengthen(from, likeness);
        }
    }

    fn lengthen(&mut self, from: usize, likeness: Likeness) {
        let inserted = self.decoded.lengthen(from, likeness);
        self.stats.inserted_samples_for_deceleration += inserted as u64;
        if let Some(delay) = self.delay_us {
            self.stretched(delay, samples_to_us(inserted as u64));
        }
    }

    fn stretched(&mut self, delay: f64, by_us: i64) {
        if by_us != 0 {
            self.since_stretch = 0;
            self.delay_us = Some(delay + by_us as f64);
        }
    }

    /// Unwraps sequence number and timestamp around the highest seen; two packets in a row far off
    /// mean that the sender began anew (RFC 3550 §A.1).
    fn extend(&mut self, packet: &ReceivedRtp) -> Option<(u64, u64)> {
        let Some((sequence, timestamp)) = self.highest else {
            let origin = (
                EXTENDED_ORIGIN + u64::from(packet.sequence),
                EXTENDED_ORIGIN + u64::from(packet.timestamp),
            );
            self.highest = Some(origin);
            self.first_sequence = origin.0;
            return Some(origin);
        };
        let step = i64::from(packet.sequence.wrapping_sub(sequence as u16) as i16);
        let ticks = i64::from(packet.timestamp.wrapping_sub(timestamp as u32) as i32);
        // Sequence and time run the same way; silence lets time run ahead of the sequence.
        let plausible = step.unsigned_abs() <= MAX_JUMP_PACKETS
            && ticks.unsigned_abs() <= MAX_JUMP_TICKS
            && (step == 0 || ticks == 0 || (step > 0) == (ticks > 0));
        if plausible {
            self.stray = None;
            let extended =
                (sequence.checked_add_signed(step)?, timestamp.checked_add_signed(ticks)?);
            if step > 0 {
                self.highest = Some(extended);
            } else {
                self.first_sequence = self.first_sequence.min(extended.0);
            }
            return Some(extended);
        }
        if self.stray.replace(packet.sequence) != Some(packet.sequence.wrapping_sub(1)) {
            self.stats.packets_discarded += 1;
            return None;
        }
        let lost = self.stats().packets_lost;
        self.packets.clear();
        self.position = None;
        self.timing.reset();
        self.delay_us = None;
        self.dtx = false;
        self.starving = 0;
        self.highest = None;
        (self.stalled, self.stall_concealed) = (0, 0);
        let extended = self.extend(packet)?;
        // Keep the counts of the stream before.
        self.first_sequence = extended.0.saturating_sub(self.stats.packets_received + lost);
        Some(extended)
    }
}

fn samples_to_us(samples: u64) -> i64 {
    i64::try_from(samples.saturating_mul(1000) / u64::from(AUDIO_RATE_HZ / 1000))
        .unwrap_or(i64::MAX / 4)
}

/// Pulls that the measured delay is averaged over.
const DELAY_SMOOTHING: f64 = 16.0;
/// A second: sound is shortened by 80 ms and more in it.
const GIVING_BACK_PULLS: u32 = 100;
/// As much as lip sync ever asks for.
const MAX_EXTRA_US: i64 = 200_000;
/// Off by less than this is left alone.
const EARLY_US: f64 = 8_000.0;
const LATE_US: f64 = 12_000.0;
/// Off by more than this is corrected with every packet, even if it can be heard a little.
const FAR_OFF_US: f64 = 40_000.0;
/// Off by more than this is corrected in any sound.
const VERY_FAR_OFF_US: f64 = 100_000.0;
/// Packets between corrections.
const STRETCH_INTERVAL: u32 = 5;
/// Later than this is skipped.
const MAX_EXCESS_US: f64 = 250_000.0;
/// A packet that came so shortly before its time may not be followed in time.
const STARVING_US: f64 = 5_000.0;
/// Once it was so, sound is drawn out until so much of it is in hand.
const FED_US: f64 = 60_000.0;
/// Periods repeated in a packet at most when sound runs out; 2.5 times as long is the slowest in any case.
const MAX_REPEATS: u32 = 12;
/// 100 ms without sound: then what is new is more important than what was lost.
const OUTAGE_SAMPLES: u64 = 4800;
/// A copy is at most 14 bits of ticks older than its carrier (RFC 2198 §3), which may itself be out of
/// order.
const MAX_COPY_TICKS: i64 = 2 << 14;
/// Concealment fades out after 100 ms, over 100 ms.
const FADE_START: usize = 4800;
const FADE_SAMPLES: usize = 4800;
/// 5 ms.
const FADE_IN_SAMPLES: usize = 240;
/// Opus' smallest duration, 2.5 ms.
const SMALLEST_STEP: u64 = 120;
/// A second; more is not made up one by one.
const MAX_CONCEALED_GAP: u64 = 48_000;
/// More than [`MAX_PACKETS`], so that two packets in the buffer never share a place.
const SEEN_PACKETS: usize = 512;
/// 10 s in steps of 2.5 ms.
const SEEN_FRAMES: usize = 4096;
/// 4 s of 20 ms packets.
const MAX_PACKETS: usize = 200;
const MAX_JUMP_PACKETS: u64 = 3000;
/// Ten minutes.
const MAX_JUMP_TICKS: u64 = 600 * 48_000;
/// So that unwrapping below the first number stays positive.
const EXTENDED_ORIGIN: u64 = 1 << 33;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
