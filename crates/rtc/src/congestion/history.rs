//! Which packets left when, and what the remote side says of them: transport-wide feedback
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01) matched with what was sent. Sans-IO.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rtc::interceptor::convert_twcc;
use rtc::rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;

use crate::nack::unwrap;

/// What became of one packet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct PacketResult {
    /// When it left.
    pub(crate) sent: Instant,
    /// Its size on the wire, IP and UDP headers included.
    pub(crate) bytes: u32,
    /// When it arrived, microseconds on the receiver's clock; `None` if it is lost.
    pub(crate) arrival_us: Option<i64>,
    /// An earlier report called it lost: it came out of order.
    pub(crate) was_missing: bool,
}

#[derive(Debug, Clone, Copy)]
struct Sent {
    at: Instant,
    bytes: u32,
    reported: Reported,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reported {
    No,
    /// Said to be missing; a later report may still tell of its arrival.
    Missing,
    Arrived,
}

/// The packets of the last seconds by transport-wide sequence number.
#[derive(Debug)]
pub(crate) struct SendHistory {
    packets: VecDeque<Sent>,
    /// Unwrapped number of the first in `packets`.
    first: u64,
    /// Unwraps the 24-bit reference time.
    last_reference: Option<i64>,
}

impl SendHistory {
    pub(crate) fn new() -> Self {
        // One cycle in, so that unwrapping never goes below zero.
        Self { packets: VecDeque::new(), first: 0x1_0000, last_reference: None }
    }

    /// A packet leaves; returns its transport-wide sequence number.
    pub(crate) fn on_sent(&mut self, now: Instant, bytes: u32) -> u16 {
        if self.packets.len() >= KEPT {
            self.forget_first();
        }
        let sequence = self.first + self.packets.len() as u64;
        self.packets.push_back(Sent { at: now, bytes, reported: Reported::No });
        #[expect(clippy::cast_possible_truncation, reason = "the wire has 16 bits")]
        {
            sequence as u16
        }
    }

    fn forget_first(&mut self) {
        if self.packets.pop_front().is_some() {
            self.first += 1;
        }
    }

    /// Takes a report in. Each packet is in the results once as lost at most and once as arrived at
    /// most; packets that only arrive out of order are not called lost for good.
    pub(crate) fn on_feedback(&mut self, feedback: &TransportLayerCc) -> Vec<PacketResult> {
        let reference = self.unwrap_reference(feedback.reference_time);
        // The conversion counts from the report's own reference; ours does not wrap.
        let wrapped_us = i64::from(feedback.reference_time) * REFERENCE_TICK_US;
        let offset_us = reference * REFERENCE_TICK_US - wrapped_us;
        let newest = self.first + self.packets.len() as u64;
        let mut results = Vec::new();
        for acknowledgement in convert_twcc(feedback).into_iter().take(KEPT) {
            let sequence = unwrap(newest, acknowledgement.sequence_number);
            let Some(index) = sequence.checked_sub(self.first) else { continue };
            let sent = usize::try_from(index).ok().and_then(|i| self.packets.get_mut(i));
            let Some(sent) = sent.filter(|s| s.reported != Reported::Arrived) else { continue };
            let was_missing = sent.reported == Reported::Missing;
            let result = |arrival_us| PacketResult {
                sent: sent.at,
                bytes: sent.bytes,
                arrival_us,
                was_missing,
            };
            if !acknowledgement.arrived {
                if sent.reported == Reported::No {
                    results.push(result(None));
                    sent.reported = Reported::Missing;
                }
            } else if let Some(arrival) = acknowledgement.arrival {
                let us = i64::try_from(arrival.as_micros()).unwrap_or(i64::MAX / 2);
                results.push(result(Some(us + offset_us)));
                sent.reported = Reported::Arrived;
            }
        }
        results
    }

    /// Forgets what is too old to be reported on.
    pub(crate) fn expire(&mut self, now: Instant) {
        while self.packets.front().is_some_and(|s| now.saturating_duration_since(s.at) > MAX_AGE) {
            self.forget_first();
        }
    }

    fn unwrap_reference(&mut self, reference: u32) -> i64 {
        let reference = i64::from(reference & 0x00ff_ffff);
        let unwrapped = match self.last_reference {
            None => reference,
            Some(last) => {
                let delta = (reference - last).rem_euclid(1 << 24);
                last + if delta < 1 << 23 { delta } else { delta - (1 << 24) }
            }
        };
        self.last_reference = Some(unwrapped.max(self.last_reference.unwrap_or(unwrapped)));
        unwrapped
    }
}

/// A reference tick is 64 ms (draft-holmer §3.1).
const REFERENCE_TICK_US: i64 = 64_000;
/// Packets kept: eight seconds at 10 Mbps; below half of the sequence numbers there are.
const KEPT: usize = 8192;
/// A report this late is of no use.
const MAX_AGE: Duration = Duration::from_secs(10);
