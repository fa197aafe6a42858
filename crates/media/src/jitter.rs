//! Adaptive audio playout: Opus packets in whenever they come, 10 ms of sound out whenever the
//! speaker asks. Sans-IO; it lives on the audio thread.
//!
//! Every packet's transit (arrival minus RTP time) is remembered. The fastest of the last seconds
//! is the base: a packet that was as fast has delay 0. The target delay covers nearly all packets
//! of that window, and what is played now has a delay that can be measured the same way, so
//! playout is steered by two numbers: too late, and a pitch period is left out; too early, and
//! one is repeated. A lost packet is recovered from the next one's in-band FEC, else concealed;
//! when nothing is there, concealment goes on without moving in the stream, so that a packet that
//! was only late is still played.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use crate::audio::stretch;
use crate::codec::opus::{OpusDecoder, has_fec, is_dtx, packet_samples};
use crate::error::MediaError;
use crate::frame::{AUDIO_FRAME_SAMPLES, AUDIO_RATE_HZ, MediaTime, ReceivedRtp};

/// 10 ms for the speaker.
#[derive(Debug, Clone, PartialEq)]
pub struct PlayoutFrame {
    /// Exactly [`AUDIO_FRAME_SAMPLES`].
    pub samples: Vec<f32>,
    /// Made up, because nothing came.
    pub concealed: bool,
    /// Recovered from the next packet's in-band FEC.
    pub fec: bool,
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
    /// Packets recovered by FEC.
    pub fec_recovered_packets: u64,
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
    decoder: OpusDecoder,
    packets: BTreeMap<u64, Packet>,
    /// Decoded and not yet handed out.
    decoded: Vec<f32>,
    /// Where the stream is decoded up to; `None` before the first packet is played.
    position: Option<Position>,
    /// Samples made up since the last packet without moving `position`.
    stalled: u64,
    /// How much of `stalled` was counted as concealed.
    stall_concealed: u64,
    /// Concealed without a break, for the fade-out.
    concealed_run: usize,
    last_kind: Kind,
    /// The last packet said that silence follows.
    dtx: bool,
    highest: Option<(u64, u64)>,
    /// Sequence numbers seen lately, at their remainder, to tell late ones from copies.
    seen: Box<[u64; SEEN_PACKETS]>,
    stray: Option<u16>,
    first_sequence: u64,
    timing: Timing,
    /// Smoothed delay of what is played, microseconds.
    delay_us: Option<f64>,
    since_stretch: u32,
    stats: PlayoutStats,
}

#[derive(Debug, Clone, Copy)]
struct Position {
    /// Extended sequence number of the packet to decode next.
    sequence: u64,
    /// Extended RTP timestamp of the sample to decode next.
    timestamp: u64,
}

#[derive(Debug)]
struct Packet {
    timestamp: u64,
    samples: usize,
    payload: Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Played,
    Silence,
    Concealed,
    Fec,
}

impl JitterBuffer {
    /// An empty buffer.
    ///
    /// # Errors
    /// libopus refused a decoder.
    pub fn new() -> Result<Self, MediaError> {
        Ok(Self {
            decoder: OpusDecoder::new()?,
            packets: BTreeMap::new(),
            decoded: Vec::with_capacity(4 * AUDIO_FRAME_SAMPLES),
            position: None,
            stalled: 0,
            stall_concealed: 0,
            concealed_run: 0,
            last_kind: Kind::Silence,
            dtx: false,
            highest: None,
            seen: Box::new([0; SEEN_PACKETS]),
            stray: None,
            first_sequence: 0,
            timing: Timing::default(),
            delay_us: None,
            since_stretch: 0,
            stats: PlayoutStats::default(),
        })
    }

    /// Takes an Opus packet in any order.
    pub fn push(&mut self, packet: &ReceivedRtp) {
        // Nothing to hear in an empty packet (a probe, or padding).
        if packet.payload.is_empty() {
            return;
        }
        let Some(samples) = packet_samples(&packet.payload) else {
            self.stats.packets_discarded += 1;
            return;
        };
        let Some((sequence, timestamp)) = self.extend(packet) else { return };
        let seen = &mut self.seen[(sequence % SEEN_PACKETS as u64) as usize];
        if std::mem::replace(seen, sequence) == sequence {
            self.stats.duplicates += 1;
            return;
        }
        self.stats.packets_received += 1;
        // A late one, too, says how late packets come.
        self.timing.push(packet.arrival, timestamp);
        self.packets
            .insert(sequence, Packet { timestamp, samples, payload: packet.payload.clone() });
        while self.packets.len() > MAX_PACKETS {
            self.packets.pop_first();
            self.stats.packets_discarded += 1;
        }
    }

    /// The next 10 ms. Silence before the first packet. Call it every 10 ms; several calls at once
    /// (a device with larger blocks) are taken into account by a longer delay.
    pub fn pull_10ms(&mut self, now: MediaTime) -> PlayoutFrame {
        if !self.start(now) {
            return PlayoutFrame {
                samples: vec![0.0; AUDIO_FRAME_SAMPLES],
                concealed: false,
                fec: false,
            };
        }
        self.measure_delay(now);
        self.drop_backlog();
        while self.decoded.len() < AUDIO_FRAME_SAMPLES {
            let kind = self.produce(now);
            if kind == Kind::Concealed && self.last_kind != Kind::Concealed {
                self.stats.concealment_events += 1;
            }
            self.last_kind = kind;
        }
        self.stats.total_samples_received += AUDIO_FRAME_SAMPLES as u64;
        PlayoutFrame {
            samples: self.decoded.drain(..AUDIO_FRAME_SAMPLES).collect(),
            concealed: self.last_kind == Kind::Concealed,
            fec: self.last_kind == Kind::Fec,
        }
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
        let Some((&sequence, first)) = self.packets.first_key_value() else { return false };
        if self.timing.delay_us(now, first.timestamp) < self.timing.target_us() {
            return false;
        }
        self.position = Some(Position { sequence, timestamp: first.timestamp });
        true
    }

    fn measure_delay(&mut self, now: MediaTime) {
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
        let mut excess = delay - self.timing.target_us() as f64 - MAX_EXCESS_US;
        if excess <= 0.0 {
            return;
        }
        excess += MAX_EXCESS_US;
        while excess > 0.0 && self.packets.len() > 1 {
            let Some((sequence, packet)) = self.packets.pop_first() else { break };
            if sequence >= position.sequence {
                let end = packet.timestamp + packet.samples as u64;
                let skipped = end.saturating_sub(position.timestamp);
                excess -= samples_to_us(skipped) as f64;
                self.stats.removed_samples_for_acceleration += skipped;
                *position =
                    Position { sequence: sequence + 1, timestamp: end.max(position.timestamp) };
            }
        }
        self.delay_us = None;
    }

    /// Appends at least 2.5 ms to `decoded`.
    fn produce(&mut self, now: MediaTime) -> Kind {
        let Some(position) = self.position else { return self.stall() };
        let Some((&sequence, packet)) = self.packets.first_key_value() else { return self.stall() };
        let gap = packet.timestamp.saturating_sub(position.timestamp);
        if sequence > position.sequence
            && !self.dtx
            && self.stalled < gap
            && gap < MAX_CONCEALED_GAP
        {
            return self.bridge(gap - self.stalled);
        }
        if gap > 0 && (sequence == position.sequence || self.dtx) {
            // Nothing was lost: the sender was silent. What was made up meanwhile was no concealment.
            self.stats.concealed_samples -= std::mem::take(&mut self.stall_concealed);
            if self.timing.delay_us(now, packet.timestamp) < self.timing.target_us() {
                self.dtx = true;
                return self.stall();
            }
        }
        self.play_first()
    }

    /// Decodes the first packet and moves behind it.
    fn play_first(&mut self) -> Kind {
        let Some((sequence, packet)) = self.packets.pop_first() else { return self.stall() };
        let before = self.decoded.len();
        let missing = self.position.map_or(0, |p| sequence.saturating_sub(p.sequence));
        for _ in 0..missing.min(MAX_COUNTED_LOSSES) {
            self.timing.played(true);
        }
        self.timing.played(false);
        let result = self.decoder.decode(&packet.payload, &mut self.decoded);
        self.position = Some(Position {
            sequence: sequence + 1,
            timestamp: packet.timestamp + packet.samples as u64,
        });
        (self.stalled, self.stall_concealed) = (0, 0);
        self.dtx = is_dtx(&packet.payload);
        if result.is_err() || self.decoded.len() == before {
            self.stats.packets_discarded += 1;
            return self.conceal(packet.samples, true);
        }
        self.concealed_run = 0;
        if self.dtx {
            return Kind::Silence;
        }
        self.steer(before);
        Kind::Played
    }

    /// Fills `missing` samples before the first packet: by its FEC if that reaches, else made up.
    fn bridge(&mut self, missing: u64) -> Kind {
        let Some((&next, packet)) = self.packets.first_key_value() else { return self.stall() };
        let (payload, reach, next_timestamp) =
            (packet.payload.clone(), packet.samples as u64, packet.timestamp);
        let whole = missing - missing % SMALLEST_STEP;
        let sequence = self.position.map_or(next, |p| p.sequence);
        let move_to = |this: &mut Self, timestamp: u64| {
            this.position = Some(Position { sequence, timestamp });
            (this.stalled, this.stall_concealed) = (0, 0);
        };
        if whole == 0 {
            move_to(self, next_timestamp);
            return self.play_first();
        }
        if missing <= reach && has_fec(&payload) {
            move_to(self, next_timestamp);
            if self.decoder.decode_fec(&payload, whole as usize, &mut self.decoded).is_ok() {
                self.stats.fec_recovered_packets += 1;
                self.concealed_run = 0;
                return Kind::Fec;
            }
            return self.conceal(whole as usize, true);
        }
        // Leave the last packet's worth to FEC, if there is any.
        let chunk = whole.min(AUDIO_FRAME_SAMPLES as u64);
        move_to(self, next_timestamp - (missing - chunk));
        self.conceal(chunk as usize, true)
    }

    /// Nothing to play: makes up 10 ms without moving in the stream.
    fn stall(&mut self) -> Kind {
        let counted = !self.dtx;
        self.stalled += AUDIO_FRAME_SAMPLES as u64;
        if counted {
            self.stall_concealed += AUDIO_FRAME_SAMPLES as u64;
        }
        self.conceal(AUDIO_FRAME_SAMPLES, counted)
    }

    fn conceal(&mut self, samples: usize, counted: bool) -> Kind {
        let start = self.decoded.len();
        if self.decoder.conceal(samples, &mut self.decoded).is_err() || self.decoded.len() == start
        {
            self.decoded.resize(start + samples, 0.0);
        }
        if !counted {
            return Kind::Silence;
        }
        for sample in &mut self.decoded[start..] {
            let faded = self.concealed_run.saturating_sub(FADE_START) as f32 / FADE_SAMPLES as f32;
            *sample *= (1.0 - faded).max(0.0);
            self.concealed_run += 1;
        }
        self.stats.concealed_samples += samples as u64;
        Kind::Concealed
    }

    /// Shortens or lengthens what was decoded from `from` on, if the delay is off.
    fn steer(&mut self, from: usize) {
        self.since_stretch += 1;
        let Some(delay) = self.delay_us else { return };
        let off = delay - self.timing.target_us() as f64;
        let due = self.since_stretch >= if off > FAR_OFF_US { 1 } else { STRETCH_INTERVAL };
        if !due || (-EARLY_US..=LATE_US).contains(&off) {
            return;
        }
        let mut tail = self.decoded.split_off(from);
        let changed_us = if off > 0.0 {
            let removed = stretch::shorten(&mut tail);
            self.stats.removed_samples_for_acceleration += removed as u64;
            -(samples_to_us(removed as u64) as f64)
        } else {
            let inserted = stretch::lengthen(&mut tail);
            self.stats.inserted_samples_for_deceleration += inserted as u64;
            samples_to_us(inserted as u64) as f64
        };
        self.decoded.append(&mut tail);
        if changed_us != 0.0 {
            self.since_stretch = 0;
            self.delay_us = Some(delay + changed_us);
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
        self.timing = Timing::default();
        self.delay_us = None;
        self.dtx = false;
        self.highest = None;
        (self.stalled, self.stall_concealed) = (0, 0);
        let extended = self.extend(packet)?;
        // Keep the counts of the stream before.
        self.first_sequence = extended.0.saturating_sub(self.stats.packets_received + lost);
        Some(extended)
    }
}

/// Transits of the last packets.
#[derive(Debug, Default)]
struct Timing {
    transits_us: VecDeque<i64>,
    base_us: i64,
    spread_us: i64,
    last_transit_us: Option<i64>,
    jitter_us: f64,
    /// Share of packets that did not come in time for being played, over about the last 256.
    loss: f64,
    /// Wait one packet longer, so that the one after a lost one is there with its FEC.
    wait_for_fec: bool,
}

impl Timing {
    fn push(&mut self, arrival: MediaTime, timestamp: u64) {
        let transit =
            i64::try_from(arrival.as_micros()).unwrap_or(i64::MAX / 2) - samples_to_us(timestamp);
        if let Some(last) = self.last_transit_us.replace(transit) {
            let step = (transit - last).unsigned_abs();
            // RFC 3550 §6.4.1.
            self.jitter_us += (step as f64 - self.jitter_us) / 16.0;
            if step > TRANSIT_JUMP_US {
                self.transits_us.clear();
            }
        }
        if self.transits_us.len() == WINDOW_PACKETS {
            self.transits_us.pop_front();
        }
        self.transits_us.push_back(transit);
        let mut sorted: Vec<i64> = self.transits_us.iter().copied().collect();
        let rank = (sorted.len() - 1) * COVERED_PERCENT / 100;
        let (faster, &mut covered, _) = sorted.select_nth_unstable(rank);
        self.base_us = faster.iter().copied().min().unwrap_or(covered);
        self.spread_us = covered - self.base_us;
    }

    /// A packet was played, or given up as lost.
    fn played(&mut self, lost: bool) {
        self.loss += (f64::from(u8::from(lost)) - self.loss) / 256.0;
        self.wait_for_fec =
            self.loss > if self.wait_for_fec { LOSS_TO_FORGET } else { LOSS_TO_WAIT };
    }

    /// How late something of `timestamp` is at `now`, if the fastest packet is in time.
    fn delay_us(&self, now: MediaTime, timestamp: u64) -> i64 {
        i64::try_from(now.as_micros()).unwrap_or(i64::MAX / 2)
            - samples_to_us(timestamp)
            - self.base_us
    }

    fn target_us(&self) -> i64 {
        let fec_us = if self.wait_for_fec { PACKET_US } else { 0 };
        (self.spread_us + MARGIN_US + fec_us).clamp(MIN_TARGET_US, MAX_TARGET_US)
    }
}

fn samples_to_us(samples: u64) -> i64 {
    i64::try_from(samples.saturating_mul(1000) / u64::from(AUDIO_RATE_HZ / 1000))
        .unwrap_or(i64::MAX / 4)
}

/// About 8 s of 20 ms packets.
const WINDOW_PACKETS: usize = 400;
/// Share of the packets that the target delay lets be in time; the rest is concealed.
const COVERED_PERCENT: usize = 99;
/// For the speaker's own 10 ms rhythm.
const MARGIN_US: i64 = 10_000;
/// One packet.
const MIN_TARGET_US: i64 = 20_000;
/// The usual packet.
const PACKET_US: i64 = 20_000;
/// Loss from which waiting for FEC is worth its delay, and below which it no longer is.
const LOSS_TO_WAIT: f64 = 0.01;
const LOSS_TO_FORGET: f64 = 0.004;
/// Beyond, a conversation is easier with gaps.
const MAX_TARGET_US: i64 = 400_000;
/// Pulls that the measured delay is averaged over.
const DELAY_SMOOTHING: f64 = 16.0;
/// A long outage says nothing about single losses.
const MAX_COUNTED_LOSSES: u64 = 5;
/// Off by less than this is left alone.
const EARLY_US: f64 = 8_000.0;
const LATE_US: f64 = 12_000.0;
/// Off by more than this is corrected with every packet.
const FAR_OFF_US: f64 = 40_000.0;
/// Packets between corrections.
const STRETCH_INTERVAL: u32 = 5;
/// Later than this is skipped.
const MAX_EXCESS_US: f64 = 250_000.0;
/// A packet so far off is on another clock or path: the old transits say nothing.
const TRANSIT_JUMP_US: u64 = 2_000_000;
/// Concealment fades out after 100 ms, over 100 ms.
const FADE_START: usize = 4800;
const FADE_SAMPLES: usize = 4800;
/// Opus' smallest duration, 2.5 ms.
const SMALLEST_STEP: u64 = 120;
/// A second; more is not made up one by one.
const MAX_CONCEALED_GAP: u64 = 48_000;
/// More than [`MAX_PACKETS`], so that two packets in the buffer never share a place.
const SEEN_PACKETS: usize = 512;
/// 4 s of 20 ms packets.
const MAX_PACKETS: usize = 200;
const MAX_JUMP_PACKETS: u64 = 3000;
/// Ten minutes.
const MAX_JUMP_TICKS: u64 = 600 * 48_000;
/// So that unwrapping below the first number stays positive.
const EXTENDED_ORIGIN: u64 = 1 << 33;

#[cfg(test)]
mod tests;
