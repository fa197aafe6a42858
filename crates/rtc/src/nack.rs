//! Asking for lost video packets again (RFC 4585 §6.2.1), with retransmissions understood
//! (RFC 4588): a packet that comes back on the RTX stream fills its gap, and nothing is asked for
//! more often than once a round trip. Runs in the driver task.
//!
//! The stack's own generator never looks into RTX packets and asks on every tick until it gives
//! up: 1900 requests for 3384 packets at 3 % loss, where one for each loss would have been 97.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rtc::interceptor::{Attribute, Packet, StreamInfo, TaggedPacket};
use rtc::rtcp::transport_feedbacks::transport_layer_nack::{
    TransportLayerNack, nack_pairs_from_sequence_numbers,
};
use visavis_media::depacketize::inspect;

use crate::interceptor::{Queues, Stage};
use crate::receive::RemoteStreams;
use crate::session::Session;

/// The gaps of one stream, sans-IO.
#[derive(Debug, Clone, Default)]
pub(crate) struct GapTracker {
    /// Highest sequence number seen, unwrapped; `None` before the first packet.
    highest: Option<u64>,
    missing: BTreeMap<u64, Gap>,
    /// Round trip as measured by first requests being answered.
    measured_rtt: Option<Duration>,
    /// How late packets come that were not lost but overtaken.
    lateness: Duration,
    /// The first packet seen, as long as the stream's first is not known to have come.
    first_seen: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Gap {
    since: Instant,
    requests: u8,
    last_request: Option<Instant>,
}

impl GapTracker {
    /// A packet arrived: as itself, or as a retransmission that carries `sequence` inside.
    pub(crate) fn on_packet(&mut self, now: Instant, sequence: u16, retransmitted: bool) {
        let Some(highest) = self.highest else {
            // Start one cycle in, so that a packet from before the first one has a number.
            self.highest = Some(u64::from(sequence) + 0x1_0000);
            return;
        };
        let unwrapped = unwrap(highest, sequence);
        if unwrapped <= highest {
            if let Some(gap) = self.missing.remove(&unwrapped) {
                self.filled(now, gap, retransmitted);
            }
            return;
        }
        if unwrapped - highest > MAX_GAP {
            // An outage, or a new start of the stream: a keyframe is quicker than all of that.
            self.missing.clear();
        } else {
            for lost in highest + 1..unwrapped {
                self.missing.insert(lost, Gap { since: now, requests: 0, last_request: None });
            }
            while self.missing.len() > MAX_MISSING {
                self.missing.pop_first();
            }
        }
        self.highest = Some(unwrapped);
    }

    /// The stream's first packet that came is in the middle of a picture: those before it were lost.
    pub(crate) fn begins_within(&mut self, now: Instant) {
        let Some(first) = self.highest else { return };
        self.first_seen = Some(first);
        // Not all of them need exist.
        let requests = MAX_REQUESTS - MAX_REQUESTS_BEFORE_FIRST;
        for lost in first - MAX_BEFORE_FIRST..first {
            self.missing.insert(lost, Gap { since: now, requests, last_request: None });
        }
    }

    /// With this packet a picture begins.
    pub(crate) fn picture_begins(&mut self, sequence: u16) {
        if let Some(first) = self.first_seen.take() {
            let begin = unwrap(first, sequence);
            // The first picture's, or another one, by which that is of no use any more.
            self.missing.retain(|lost, _| *lost >= begin || *lost > first);
        }
    }

    /// The sequence numbers to ask for at `now`; forgets what is too old to be of use.
    /// `rtt` is the round trip known from elsewhere, if any.
    pub(crate) fn due(&mut self, now: Instant, rtt: Option<Duration>) -> Vec<u16> {
        let retry = self.retry_interval(rtt);
        self.missing.retain(|_, gap| {
            now.saturating_duration_since(gap.since) < MAX_AGE && gap.requests < MAX_REQUESTS
                || gap.last_request.is_some_and(|at| now < at + retry)
        });
        let wait = self.lateness.max(REORDER_WAIT);
        let mut due = Vec::new();
        for (sequence, gap) in &mut self.missing {
            if gap.next_request(retry, wait).is_some_and(|at| at <= now) {
                gap.requests += 1;
                gap.last_request = Some(now);
                #[expect(clippy::cast_possible_truncation, reason = "back to 16 bits")]
                due.push(*sequence as u16);
            }
        }
        due
    }

    /// When [`GapTracker::due`] is worth calling next.
    pub(crate) fn deadline(&self, rtt: Option<Duration>) -> Option<Instant> {
        let retry = self.retry_interval(rtt);
        let wait = self.lateness.max(REORDER_WAIT);
        self.missing.values().filter_map(|gap| gap.next_request(retry, wait)).min()
    }

    /// Parity brought `sequence` back: there is nothing to ask for, and nothing to learn from.
    pub(crate) fn on_repaired(&mut self, now: Instant, sequence: u16) {
        let place = self.highest.map(|highest| unwrap(highest, sequence));
        if place.is_none_or(|place| self.missing.remove(&place).is_none()) {
            // The last packets of a picture: nothing later has shown their gap yet.
            self.on_packet(now, sequence, false);
        }
    }

    fn filled(&mut self, now: Instant, gap: Gap, retransmitted: bool) {
        if !retransmitted {
            let late = now.saturating_duration_since(gap.since) * 5 / 4;
            if late <= MAX_REORDER_WAIT {
                self.lateness = self.lateness.max(late);
            }
            return;
        }
        self.lateness = self.lateness * 15 / 16;
        if gap.requests == 1
            && let Some(asked) = gap.last_request
        {
            self.learn_rtt(now.saturating_duration_since(asked));
        }
    }

    fn learn_rtt(&mut self, sample: Duration) {
        // Smoothed as TCP does it (RFC 6298 §2, alpha 1/8).
        self.measured_rtt = Some(match self.measured_rtt {
            Some(rtt) => (rtt * 7 + sample) / 8,
            None => sample,
        });
    }

    fn retry_interval(&self, rtt: Option<Duration>) -> Duration {
        let rtt = match (rtt, self.measured_rtt) {
            // What was measured on retransmissions includes the sender's own delay; a slow one of
            // late must not slow down all that follow.
            (Some(reported), Some(measured)) => measured.clamp(reported, reported * 3 / 2),
            (Some(known), None) | (None, Some(known)) => known,
            (None, None) => DEFAULT_RTT,
        };
        (rtt + rtt / 4).clamp(MIN_RETRY, MAX_RETRY)
    }
}

impl Gap {
    /// `None` when all requests are used up.
    fn next_request(&self, retry: Duration, wait: Duration) -> Option<Instant> {
        (self.requests < MAX_REQUESTS).then(|| match self.last_request {
            None => self.since + wait,
            Some(at) => at + retry,
        })
    }
}

/// Extends a 16-bit sequence number to the value nearest to `reference`.
pub(crate) fn unwrap(reference: u64, sequence: u16) -> u64 {
    #[expect(clippy::cast_possible_truncation, reason = "compared modulo 2^16")]
    let delta = sequence.wrapping_sub(reference as u16);
    if delta < 0x8000 {
        reference + u64::from(delta)
    } else {
        reference.saturating_sub(u64::from(delta.wrapping_neg()))
    }
}

/// The interceptor: one [`GapTracker`] for the remote video.
pub(crate) struct NackGenerator {
    session: Arc<Session>,
    streams: RemoteStreams,
    gaps: GapTracker,
    /// The stream `gaps` speaks of.
    media_ssrc: Option<u32>,
}

impl NackGenerator {
    pub(crate) fn new(session: Arc<Session>) -> Self {
        Self {
            session,
            streams: RemoteStreams::default(),
            gaps: GapTracker::default(),
            media_ssrc: None,
        }
    }
}

impl Stage for NackGenerator {
    fn on_read(&mut self, packet: TaggedPacket, queues: &mut Queues) {
        if let Packet::Rtp(rtp) = &packet.message.packet
            && let Some(stream) = self.streams.get(rtp.header.ssrc)
            && let Some(video) = stream.video(rtp, &self.session.video_types())
        {
            if self.media_ssrc != Some(stream.media_ssrc) {
                self.media_ssrc = Some(stream.media_ssrc);
                self.gaps = GapTracker::default();
            }
            if packet.message.attributes.iter().any(|a| matches!(a, Attribute::RecoveredByFec)) {
                self.gaps.on_repaired(packet.now, video.sequence);
            } else {
                let first = self.gaps.highest.is_none();
                self.gaps.on_packet(packet.now, video.sequence, stream.rtx);
                if (first || self.gaps.first_seen.is_some())
                    && let Some(info) =
                        inspect(video.codec, rtp.payload.get(video.offset..).unwrap_or_default())
                {
                    if info.leads_picture {
                        self.gaps.picture_begins(video.sequence);
                    } else if first && !info.empty {
                        self.gaps.begins_within(packet.now);
                    }
                }
            }
        }
        queues.read.push_back(packet);
    }

    fn on_timeout(&mut self, now: Instant, queues: &mut Queues) {
        let Some(media_ssrc) = self.media_ssrc else { return };
        let due = self.gaps.due(now, self.session.rtt());
        if due.is_empty() {
            return;
        }
        let nack = TransportLayerNack {
            sender_ssrc: self.session.local.video,
            media_ssrc,
            nacks: nack_pairs_from_sequence_numbers(&due),
        };
        queues.write_rtcp(now, vec![Box::new(nack)]);
    }

    fn deadline(&self) -> Option<Instant> {
        self.gaps.deadline(self.session.rtt())
    }

    fn bind_remote(&mut self, info: &StreamInfo) {
        self.streams.bind(info);
    }
}

/// How long a gap may be mere reordering before it is asked for. A paced sender leaves the packets
/// of a picture within a few milliseconds; libwebrtc waits 0 to 20 ms (`nack_requester.cc`). More where
/// packets were seen to come late.
const MAX_REORDER_WAIT: Duration = Duration::from_millis(40);
const REORDER_WAIT: Duration = Duration::from_millis(4);
/// Round trip assumed until one is known (libwebrtc `nack_requester.cc`, `kDefaultRtt`).
const DEFAULT_RTT: Duration = Duration::from_millis(100);
/// Bounds of the time between two requests for one packet.
const MIN_RETRY: Duration = Duration::from_millis(20);
const MAX_RETRY: Duration = Duration::from_millis(500);
/// Requests for one packet (libwebrtc `nack_requester.cc`, `kMaxNackRetries`).
const MAX_REQUESTS: u8 = 10;
/// A picture this late is of no use to a conversation; the assembler has asked for a keyframe.
const MAX_AGE: Duration = Duration::from_secs(1);
/// Gaps kept at once: more than a keyframe of packets is not repaired packet by packet.
const MAX_MISSING: usize = 256;
/// Packets asked for before the first one that came: a first picture has about five.
const MAX_BEFORE_FIRST: u64 = 8;
const MAX_REQUESTS_BEFORE_FIRST: u8 = 3;
/// A jump beyond this is not loss: four times the longest likely burst of losses.
const MAX_GAP: u64 = 100;

#[cfg(test)]
#[path = "nack_tests.rs"]
mod tests;
