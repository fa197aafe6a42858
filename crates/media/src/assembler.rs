//! RTP packets of one video stream into whole pictures, as early as possible. Sans-IO: packets and
//! the time go in, pictures and keyframe requests come out; it lives on the receiving video thread.
//!
//! A picture goes out the moment its last packet is there; nothing waits for the next picture. When
//! packets are missing, retransmissions get `gap_deadline` to fill the gap; after that everything up
//! to the next keyframe is given up and a keyframe is asked for.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::codec::VideoCodec;
use crate::depacketize::{PayloadInfo, assemble, inspect};
use crate::frame::{MediaTime, ReceivedRtp};

/// A whole picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssembledFrame {
    /// What it is coded with.
    pub codec: VideoCodec,
    /// As in [`EncodedVideoFrame::data`](crate::EncodedVideoFrame::data).
    pub data: Bytes,
    /// Whether it can be decoded without others.
    pub keyframe: bool,
    /// RTP timestamp, 90 kHz.
    pub rtp_timestamp: u32,
    /// Arrival of its earliest packet.
    pub first_arrival: MediaTime,
    /// Arrival of its latest packet.
    pub last_arrival: MediaTime,
    /// Sequence number of its first packet.
    pub first_sequence: u16,
    /// Sequence number of its last packet.
    pub last_sequence: u16,
}

/// What [`FrameAssembler::poll`] says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AssemblerOutput {
    /// The next picture in order.
    Frame(AssembledFrame),
    /// Nothing can be shown until a keyframe comes: send a PLI. Repeated while none comes.
    NeedKeyframe,
}

/// Counters since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AssemblerStats {
    /// Packets taken.
    pub packets: u64,
    /// Packets that were there already.
    pub duplicates: u64,
    /// Packets that came after their place had been passed.
    pub late: u64,
    /// Packets dropped as malformed.
    pub malformed: u64,
    /// Pictures handed out.
    pub frames: u64,
    /// Keyframes among them.
    pub keyframes: u64,
    /// Gaps given up.
    pub gaps_given_up: u64,
    /// Keyframe requests.
    pub keyframe_requests: u64,
    /// Sequence number jumps taken for a new stream.
    pub restarts: u64,
}

/// See the module.
#[derive(Debug)]
pub struct FrameAssembler {
    gap_deadline: Duration,
    packets: BTreeMap<u64, Packet>,
    /// Payload bytes in `packets`.
    buffered_bytes: usize,
    /// Packets of keyframes in `packets`.
    keyframe_packets: usize,
    /// Highest extended sequence number seen.
    highest: Option<u64>,
    /// First of the picture to come; everything below is passed.
    next: u64,
    /// Whether a picture is known to start at `next`.
    next_starts_picture: bool,
    /// A lone packet far away from `highest`; a second one beside it means a new stream.
    stray: Option<u16>,
    /// What pictures are put together in; its memory comes back once they are decoded.
    unit: BytesMut,
    state: State,
    stats: AssemblerStats,
}

/// ```text
/// Start --packet--> Waiting --whole keyframe--> Flowing --packet missing--> Gap --filled--> Flowing
///                      ^                                                     |
///                      +--------------- deadline, overflow ------------------+
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No packet yet. Next: `Waiting`.
    Start,
    /// Until a keyframe is whole. Next: `Flowing`.
    Waiting { request_at: MediaTime },
    /// Next: `Gap`, `Waiting`.
    Flowing,
    /// `missing` has been so since `since`. Next: `Flowing`, `Waiting`.
    Gap { missing: u64, since: MediaTime },
}

#[derive(Debug)]
struct Packet {
    codec: VideoCodec,
    payload: Bytes,
    info: PayloadInfo,
    timestamp: u32,
    marker: bool,
    arrival: MediaTime,
}

impl Default for FrameAssembler {
    fn default() -> Self {
        Self::new()
    }
}

impl FrameAssembler {
    /// An assembler that waits for a keyframe.
    pub fn new() -> Self {
        Self {
            gap_deadline: DEFAULT_GAP_DEADLINE,
            packets: BTreeMap::new(),
            buffered_bytes: 0,
            keyframe_packets: 0,
            highest: None,
            next: 0,
            next_starts_picture: false,
            stray: None,
            unit: BytesMut::new(),
            state: State::Start,
            stats: AssemblerStats::default(),
        }
    }

    /// How long a missing packet is waited for, at most 1.2 s. A keyframe instead costs a round trip
    /// too, and a large picture: several round trips are well waited.
    pub fn set_gap_deadline(&mut self, deadline: Duration) {
        self.gap_deadline = deadline.min(MAX_GAP_DEADLINE);
    }

    /// Counters.
    pub fn stats(&self) -> AssemblerStats {
        self.stats
    }

    /// Takes a packet in any order; then drain [`Self::poll`].
    pub fn push(&mut self, packet: ReceivedRtp, now: MediaTime) {
        let Some((codec, info)) =
            packet.codec.and_then(|codec| Some((codec, inspect(codec, &packet.payload)?)))
        else {
            self.stats.malformed += 1;
            return;
        };
        let Some(sequence) = self.extend_sequence(packet.sequence) else { return };
        self.stats.packets += 1;
        if self.state == State::Start {
            self.next = sequence.saturating_sub(REORDER_AT_START);
            self.state = State::Waiting { request_at: now + self.gap_deadline };
        }
        if sequence < self.next {
            self.stats.late += 1;
            return;
        }
        if self.packets.contains_key(&sequence) {
            self.stats.duplicates += 1;
            return;
        }
        self.buffered_bytes += packet.payload.len();
        self.keyframe_packets += usize::from(info.keyframe);
        self.packets.insert(
            sequence,
            Packet {
                codec,
                payload: packet.payload,
                info,
                timestamp: packet.timestamp,
                marker: packet.marker,
                arrival: packet.arrival,
            },
        );
        if self.packets.len() > MAX_PACKETS || self.buffered_bytes > MAX_BYTES {
            if !matches!(self.state, State::Waiting { .. }) {
                self.give_up(now);
            }
            while self.packets.len() > MAX_PACKETS / 2 || self.buffered_bytes > MAX_BYTES / 2 {
                let Some((&oldest, _)) = self.packets.first_key_value() else { break };
                self.drop_below(oldest + 1);
                self.next_starts_picture = false;
            }
        }
    }

    /// The next picture or request; call until `None` after each [`Self::push`] and at
    /// [`Self::next_deadline`].
    pub fn poll(&mut self, now: MediaTime) -> Option<AssemblerOutput> {
        loop {
            match self.state {
                State::Start => return None,
                State::Waiting { request_at } => {
                    if let Some((first, last)) = self.find_keyframe() {
                        self.state = State::Flowing;
                        self.drop_below(first);
                        if let Some(frame) = self.take_frame(first, last, now) {
                            return Some(AssemblerOutput::Frame(frame));
                        }
                        continue;
                    }
                    if now < request_at {
                        return None;
                    }
                    // A keyframe on its way gets the time that a retransmission would need.
                    if let Some(newest) = self.newest_keyframe_arrival()
                        && newest + self.gap_deadline > now
                    {
                        self.state = State::Waiting { request_at: newest + self.gap_deadline };
                        return None;
                    }
                    self.state = State::Waiting { request_at: now + KEYFRAME_RETRY };
                    self.stats.keyframe_requests += 1;
                    return Some(AssemblerOutput::NeedKeyframe);
                }
                State::Flowing | State::Gap { .. } => match self.frame_at(self.next) {
                    Run::Complete { last } => {
                        self.state = State::Flowing;
                        if let Some(frame) = self.take_frame(self.next, last, now) {
                            return Some(AssemblerOutput::Frame(frame));
                        }
                    }
                    Run::Open => {
                        self.state = State::Flowing;
                        return None;
                    }
                    Run::Missing(missing) => {
                        if let Some((first, _)) = self.find_keyframe() {
                            self.stats.gaps_given_up += 1;
                            self.state = State::Flowing;
                            self.drop_below(first);
                            self.next_starts_picture = true;
                            continue;
                        }
                        let since = match self.state {
                            State::Gap { missing: m, since } if m == missing => since,
                            _ => self
                                .packets
                                .range(missing..)
                                .map(|(_, p)| p.arrival)
                                .min()
                                .unwrap_or(now),
                        };
                        self.state = State::Gap { missing, since };
                        let after = self.packets.range(missing..).next().map(|(&s, _)| s);
                        let outage = after.is_some_and(|after| after - missing > MAX_HOLE);
                        if now < since + self.gap_deadline && !outage {
                            return None;
                        }
                        self.stats.gaps_given_up += 1;
                        self.give_up(now);
                    }
                },
            }
        }
    }

    /// When [`Self::poll`] has to be called even if no packet comes. Valid after it returned `None`.
    pub fn next_deadline(&self) -> Option<MediaTime> {
        match self.state {
            State::Start | State::Flowing => None,
            State::Waiting { request_at } => Some(request_at),
            State::Gap { since, .. } => Some(since + self.gap_deadline),
        }
    }

    /// The decoder could not use the last picture: nothing but a keyframe helps. The next
    /// [`Self::poll`] asks for one.
    pub fn wait_for_keyframe(&mut self, now: MediaTime) {
        if !matches!(self.state, State::Start | State::Waiting { .. }) {
            self.give_up(now);
        }
    }

    fn give_up(&mut self, now: MediaTime) {
        self.state = State::Waiting { request_at: now };
    }

    /// First and last packet of the earliest whole keyframe at or after `next`.
    fn find_keyframe(&self) -> Option<(u64, u64)> {
        if self.keyframe_packets == 0 {
            return None;
        }
        let mut passed = 0;
        for (&sequence, packet) in &self.packets {
            if !packet.info.keyframe || sequence < passed {
                continue;
            }
            if let Some(first) = self.picture_start(sequence, packet.timestamp)
                && let Run::Complete { last } = self.frame_at(first)
            {
                // An SPS makes a packet a candidate; only an IDR slice makes a keyframe.
                if self.packets.range(first..=last).any(|(_, p)| p.info.idr) {
                    return Some((first, last));
                }
                passed = last + 1;
            }
        }
        None
    }

    /// First packet of the picture that `sequence` belongs to, if it is certain.
    fn picture_start(&self, sequence: u64, timestamp: u32) -> Option<u64> {
        let mut first = sequence;
        let certain = loop {
            if first == self.next {
                break self.next_starts_picture;
            }
            match self.packets.get(&(first - 1)) {
                Some(p) if p.timestamp == timestamp && !p.marker => first -= 1,
                previous => break previous.is_some(),
            }
        };
        if certain {
            return Some(first);
        }
        // What comes before is unknown, but an SPS or AUD only stands at the start.
        self.packets.range(first..=sequence).find(|(_, p)| p.info.leads_picture).map(|(&s, _)| s)
    }

    /// Follows the picture that starts at `first`.
    fn frame_at(&self, first: u64) -> Run {
        let mut timestamp = None;
        for (expected, (&sequence, packet)) in (first..).zip(self.packets.range(first..)) {
            if sequence != expected {
                return Run::Missing(expected);
            }
            if !packet.info.empty {
                match timestamp {
                    None => timestamp = Some(packet.timestamp),
                    // The marker is missing, but the next picture has begun.
                    Some(t) if t != packet.timestamp => {
                        return Run::Complete { last: sequence - 1 };
                    }
                    Some(_) => {}
                }
            }
            if packet.marker {
                return Run::Complete { last: sequence };
            }
        }
        Run::Open
    }

    /// Takes the packets `first..=last` out and makes a picture of them. `None`: there was none in
    /// them (padding only), or its pieces did not fit together and a keyframe is needed.
    fn take_frame(&mut self, first: u64, last: u64, now: MediaTime) -> Option<AssembledFrame> {
        let run = self.packets.range(first..=last).map(|(_, p)| p).filter(|p| !p.info.empty);
        let Some(codec) = run.clone().next().map(|p| p.codec) else {
            self.drop_below(last + 1);
            return None;
        };
        let one_codec = run.clone().all(|p| p.codec == codec);
        let unit = one_codec
            .then(|| assemble(codec, run.clone().map(|p| &p.payload[..]), &mut self.unit))
            .flatten();
        let rtp_timestamp = run.clone().next().map(|p| p.timestamp);
        let first_arrival = run.clone().map(|p| p.arrival).min();
        let last_arrival = run.map(|p| p.arrival).max();
        self.drop_below(last + 1);
        self.next_starts_picture = true;
        let Some(unit) = unit else {
            self.stats.malformed += 1;
            self.give_up(now);
            return None;
        };
        if unit.data.is_empty() {
            return None;
        }
        self.stats.frames += 1;
        self.stats.keyframes += u64::from(unit.keyframe);
        Some(AssembledFrame {
            codec,
            data: unit.data,
            keyframe: unit.keyframe,
            rtp_timestamp: rtp_timestamp?,
            first_arrival: first_arrival?,
            last_arrival: last_arrival?,
            first_sequence: first as u16,
            last_sequence: last as u16,
        })
    }

    /// Arrival of the latest packet that belongs to a keyframe not yet whole.
    fn newest_keyframe_arrival(&self) -> Option<MediaTime> {
        if self.keyframe_packets == 0 {
            return None;
        }
        let timestamp = self.packets.values().rev().find(|p| p.info.keyframe)?.timestamp;
        self.packets.values().filter(|p| p.timestamp == timestamp).map(|p| p.arrival).max()
    }

    fn drop_below(&mut self, sequence: u64) {
        while let Some(entry) = self.packets.first_entry()
            && *entry.key() < sequence
        {
            let packet = entry.remove();
            self.buffered_bytes -= packet.payload.len();
            self.keyframe_packets -= usize::from(packet.info.keyframe);
        }
        self.next = self.next.max(sequence);
    }

    /// RFC 3550 §A.1 without its probation: unwraps the 16 bits around the highest number seen. Two
    /// packets in a row far off mean that the sender began anew.
    fn extend_sequence(&mut self, sequence: u16) -> Option<u64> {
        let Some(highest) = self.highest else {
            let extended = EXTENDED_ORIGIN + u64::from(sequence);
            self.highest = Some(extended);
            return Some(extended);
        };
        let delta = i64::from(sequence.wrapping_sub(highest as u16) as i16);
        if (-MAX_MISORDER..=MAX_DROPOUT).contains(&delta) {
            self.stray = None;
            let extended = highest.checked_add_signed(delta)?;
            self.highest = Some(highest.max(extended));
            return Some(extended);
        }
        if self.stray.replace(sequence) != Some(sequence.wrapping_sub(1)) {
            self.stats.late += 1;
            return None;
        }
        let stats = AssemblerStats { restarts: self.stats.restarts + 1, ..self.stats };
        *self = Self { gap_deadline: self.gap_deadline, stats, ..Self::new() };
        self.extend_sequence(sequence)
    }
}

/// How far a picture is there.
enum Run {
    /// Up to its last packet.
    Complete { last: u64 },
    /// Nothing missing, but the end has not come.
    Open,
    /// This packet is missing and later ones are there.
    Missing(u64),
}

/// Before the round trip is known.
const DEFAULT_GAP_DEADLINE: Duration = Duration::from_millis(300);
/// A picture later than that is of no use in a conversation.
const MAX_GAP_DEADLINE: Duration = Duration::from_millis(1200);
/// A hole of more packets is an outage: nobody asks for all of them again.
const MAX_HOLE: u64 = 100;
/// Between keyframe requests while no keyframe arrives.
const KEYFRAME_RETRY: Duration = Duration::from_millis(500);
/// About 1.2 MB of full packets: a second at 10 Mbps.
const MAX_PACKETS: usize = 1024;
const MAX_BYTES: usize = 4 << 20;
/// RFC 3550 §A.1.
const MAX_DROPOUT: i64 = 3000;
/// More than RFC 3550's 100: a retransmission may come half a second late.
const MAX_MISORDER: i64 = 1000;
/// So that unwrapping below the first number stays positive.
const EXTENDED_ORIGIN: u64 = 1 << 16;
/// Packets before the first one seen that may still come.
const REORDER_AT_START: u64 = 64;

#[cfg(test)]
mod tests;
