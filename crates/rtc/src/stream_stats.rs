//! Counters of one stream each way, with the names of W3C webrtc-stats where it has them, and the
//! reception accounting of RFC 3550.

use std::time::{Duration, Instant};

use rtc::rtcp::reception_report::ReceptionReport;
use serde::Serialize;

use crate::clock::{ntp_middle, to_ntp_short};
use crate::nack::unwrap;

/// What we send of one kind, and what the remote side reports of it
/// (`RTCOutboundRtpStreamStats` and `RTCRemoteInboundRtpStreamStats`).
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct OutboundStats {
    /// MIME type of the codec of the last packet, for video.
    pub codec: Option<&'static str>,
    /// RTP packets sent, retransmissions included.
    pub packets_sent: u64,
    /// Payload bytes sent, retransmissions included.
    pub bytes_sent: u64,
    /// RTP packets sent again.
    pub retransmitted_packets_sent: u64,
    /// Payload bytes sent again.
    pub retransmitted_bytes_sent: u64,
    /// NACK messages received.
    pub nack_count: u64,
    /// Packets those asked for.
    pub nacked_packets: u64,
    /// PLI messages received.
    pub pli_count: u64,
    /// FIR requests received.
    pub fir_count: u64,
    /// Packets the remote side has lost, before retransmission.
    pub remote_packets_lost: Option<i64>,
    /// Share of packets lost in the remote side's last report interval, 0 to 1.
    pub remote_fraction_lost: Option<f64>,
    /// Interarrival jitter at the remote side, seconds.
    pub remote_jitter_s: Option<f64>,
    /// Round trip by the last report block, seconds.
    pub round_trip_time_s: Option<f64>,
    /// Report blocks received about this stream, in receiver and sender reports.
    pub reports_received: u64,
}

/// What we receive of one kind (`RTCInboundRtpStreamStats`).
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct InboundStats {
    /// MIME type of the codec of the last packet, for video.
    pub codec: Option<&'static str>,
    /// RTP packets received, retransmissions not included.
    pub packets_received: u64,
    /// Payload bytes received, retransmissions not included.
    pub bytes_received: u64,
    /// RTX packets received, bandwidth probes included.
    pub retransmitted_packets_received: u64,
    /// Payload bytes in them.
    pub retransmitted_bytes_received: u64,
    /// Packets that parity brought back (`fecPacketsReceived` counts the parity instead).
    pub repaired_packets: u64,
    /// Packets lost on the way, before retransmission (RFC 3550 §6.4.1).
    pub packets_lost: i64,
    /// Interarrival jitter, seconds (RFC 3550 §6.4.1).
    pub jitter_s: f64,
    /// NACK messages sent.
    pub nack_count: u64,
    /// Packets those asked for.
    pub nacked_packets: u64,
    /// PLI messages sent.
    pub pli_count: u64,
    /// FIR requests sent.
    pub fir_count: u64,
    /// Sender reports received.
    pub sender_reports_received: u64,
}

/// Reception accounting of one remote stream for report blocks (RFC 3550 §6.4.1, appendix A.3 and
/// A.8). Retransmissions on RTX have their own SSRC and do not come here, so loss is the loss of
/// the path.
#[derive(Debug)]
pub(crate) struct Reception {
    ssrc: u32,
    clock_rate_hz: f64,
    base: u64,
    highest: u64,
    received: u64,
    expected_at_report: u64,
    received_at_report: u64,
    /// RTP ticks.
    jitter: f64,
    last: Option<(Instant, u32)>,
    last_sender_report: Option<(Instant, u32)>,
}

impl Reception {
    pub(crate) fn new(ssrc: u32, clock_rate_hz: u32) -> Self {
        Self {
            ssrc,
            clock_rate_hz: f64::from(clock_rate_hz),
            base: 0,
            highest: 0,
            received: 0,
            expected_at_report: 0,
            received_at_report: 0,
            jitter: 0.0,
            last: None,
            last_sender_report: None,
        }
    }

    pub(crate) fn ssrc(&self) -> u32 {
        self.ssrc
    }

    pub(crate) fn on_packet(&mut self, now: Instant, sequence: u16, timestamp: u32) {
        if self.received == 0 {
            // One cycle in, so that an earlier packet has a number too.
            self.base = u64::from(sequence) + 0x1_0000;
            self.highest = self.base;
        }
        let unwrapped = unwrap(self.highest, sequence);
        self.base = self.base.min(unwrapped);
        self.highest = self.highest.max(unwrapped);
        self.received += 1;
        if let Some((then, last_timestamp)) = self.last {
            let elapsed = now.saturating_duration_since(then).as_secs_f64() * self.clock_rate_hz;
            #[expect(clippy::cast_possible_wrap, reason = "a signed difference modulo 2^32")]
            let media = f64::from(timestamp.wrapping_sub(last_timestamp) as i32);
            self.jitter += ((elapsed - media).abs() - self.jitter) / 16.0;
        }
        self.last = Some((now, timestamp));
    }

    pub(crate) fn on_sender_report(&mut self, now: Instant, ntp_time: u64) {
        self.last_sender_report = Some((now, ntp_middle(ntp_time)));
    }

    pub(crate) fn packets_lost(&self) -> i64 {
        let expected = if self.received == 0 { 0 } else { self.highest - self.base + 1 };
        i64::try_from(expected).unwrap_or(i64::MAX)
            - i64::try_from(self.received).unwrap_or(i64::MAX)
    }

    pub(crate) fn jitter_s(&self) -> f64 {
        self.jitter / self.clock_rate_hz
    }

    /// The block for the next report; starts a new interval. `None` before the first packet.
    pub(crate) fn report(&mut self, now: Instant) -> Option<ReceptionReport> {
        if self.received == 0 {
            return None;
        }
        let expected = self.highest - self.base + 1;
        let interval_expected = expected.saturating_sub(self.expected_at_report);
        let interval_received = self.received - self.received_at_report;
        self.expected_at_report = expected;
        self.received_at_report = self.received;
        let lost = interval_expected.saturating_sub(interval_received);
        let fraction_lost = (lost * 256).checked_div(interval_expected).unwrap_or(0);
        let (last_sender_report, delay) = match self.last_sender_report {
            Some((at, ntp)) => (ntp, to_ntp_short(now.saturating_duration_since(at))),
            None => (0, 0),
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the extended sequence number is modulo 2^32, jitter is not negative"
        )]
        Some(ReceptionReport {
            ssrc: self.ssrc,
            fraction_lost: fraction_lost.min(255) as u8,
            // 24 bits signed; duplicates may make it negative, which the stack cannot write.
            total_lost: self.packets_lost().clamp(0, 0x7f_ffff) as u32,
            last_sequence_number: (self.highest - 0x1_0000) as u32,
            jitter: self.jitter as u32,
            last_sender_report,
            delay,
        })
    }
}

/// The round trip a report block tells (RFC 3550 §6.4.1); `None` if it answers no report of ours.
pub(crate) fn round_trip(now_ntp: u64, block: &ReceptionReport) -> Option<Duration> {
    if block.last_sender_report == 0 {
        return None;
    }
    let rtt = ntp_middle(now_ntp).wrapping_sub(block.last_sender_report).wrapping_sub(block.delay);
    // Rounding may make it slightly negative; anything large is nonsense.
    match rtt {
        0xffff_0000.. => Some(Duration::ZERO),
        0..0x000a_0000 => Some(crate::clock::from_ntp_short(rtt)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn loss_is_counted_over_a_wrap_and_late_packets_are_forgiven() {
        let start = Instant::now();
        let mut reception = Reception::new(5, 90_000);
        for sequence in [65_534u16, 65_535, 1, 3] {
            reception.on_packet(start, sequence, 0);
        }
        assert_eq!(reception.packets_lost(), 2);
        let block = reception.report(start).unwrap();
        assert_eq!(block.last_sequence_number, 0x1_0003);
        assert_eq!(block.total_lost, 2);
        assert_eq!(block.fraction_lost, 85, "2 of 6, in 256ths");
        reception.on_packet(start, 2, 0);
        reception.on_packet(start, 4, 0);
        let block = reception.report(start).unwrap();
        assert_eq!((block.total_lost, block.fraction_lost), (1, 0));
    }

    #[test]
    fn even_arrivals_have_no_jitter_and_uneven_ones_do() {
        let start = Instant::now();
        let mut even = Reception::new(5, 48_000);
        let mut uneven = Reception::new(5, 48_000);
        for n in 0..100u32 {
            let due = start + Duration::from_millis(u64::from(n) * 20);
            even.on_packet(due, n as u16, (n * 960).wrapping_sub(5000));
            let late = Duration::from_millis(if n % 2 == 0 { 10 } else { 0 });
            uneven.on_packet(due + late, n as u16, n * 960);
        }
        assert!(even.jitter_s() < 1e-6);
        assert!((0.009..0.011).contains(&uneven.jitter_s()), "{}", uneven.jitter_s());
    }

    #[test]
    fn the_round_trip_leaves_out_the_time_the_report_was_held() {
        let clock = crate::MediaClock::default();
        let sent = Instant::now();
        let mut remote = Reception::new(5, 90_000);
        remote.on_packet(sent, 1, 0);
        assert_eq!(round_trip(clock.ntp(sent), &remote.report(sent).unwrap()), None);
        remote.on_sender_report(sent + Duration::from_millis(20), clock.ntp(sent));
        let block = remote.report(sent + Duration::from_millis(520)).unwrap();
        let back = clock.ntp(sent + Duration::from_millis(550));
        let rtt = round_trip(back, &block).unwrap();
        assert!(rtt.as_millis().abs_diff(50) <= 1, "{rtt:?}");
    }
}
