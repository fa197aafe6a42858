//! The interceptor: every RTP packet of ours passes here on its way out, is kept for
//! retransmission, waits its turn, gets its transport-wide number and is remembered until the other
//! side reports on it. Runs in the driver task.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rtc::interceptor::{AttributedPacket, Packet, TaggedPacket};
use rtc::rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
use rtc::rtcp::receiver_report::ReceiverReport;
use rtc::rtcp::reception_report::ReceptionReport;
use rtc::rtcp::sender_report::SenderReport;
use rtc::rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;
use rtc::rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;
use rtc::rtp;
use rtc::shared::TransportContext;
use rtc::shared::marshal::MarshalSize;

use super::NetworkEstimate;
use super::estimator::{Estimator, Limits};
use super::history::SendHistory;
use super::pacer::{Pacer, Priority};
use super::reports::{Report, ReportEstimator};
use super::retransmit::Retransmitter;
use crate::interceptor::{Queues, Stage};
use crate::session::Session;
use crate::stream_stats::round_trip;
use crate::types::MediaKind;

/// What a packet is sent for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Audio,
    Video,
    Repair,
}

pub(crate) struct CongestionControl {
    session: Arc<Session>,
    limits: Limits,
    estimator: Estimator,
    /// In the estimator's place while no transport-wide feedback comes.
    reports: Option<ReportEstimator>,
    /// When the first packet left.
    first_sent: Option<Instant>,
    history: SendHistory,
    pacer: Pacer<TaggedPacket>,
    retransmitter: Retransmitter,
    /// Further copies of retransmissions and when they are due.
    copies: VecDeque<(Instant, rtp::Packet)>,
    /// What left in the last half second.
    sent: VecDeque<(Instant, u32, Use)>,
    next_tick: Option<Instant>,
}

impl CongestionControl {
    pub(crate) fn new(session: Arc<Session>) -> Self {
        let max_video_bps = max_video_bps(&session);
        let limits = Limits {
            min_bps: MIN_BPS,
            start_bps: START_BPS.min(wire_bps(max_video_bps)),
            max_bps: wire_bps(max_video_bps),
        };
        let estimator = Estimator::new(limits);
        let pacer = Pacer::new(estimator.pacing_bps());
        let retransmitter = Retransmitter::new(session.local.rtx);
        let this = Self {
            session,
            limits,
            estimator,
            reports: None,
            first_sent: None,
            history: SendHistory::new(),
            pacer,
            retransmitter,
            copies: VecDeque::new(),
            sent: VecDeque::new(),
            next_tick: None,
        };
        this.publish(None);
        this
    }

    fn send(&mut self, now: Instant, mut packet: TaggedPacket, queues: &mut Queues) {
        if let Packet::Rtp(rtp) = &mut packet.message.packet {
            let bytes = wire_bytes(rtp);
            if let Some(id) = self.extension() {
                let number = self.history.on_sent(now, bytes).to_be_bytes();
                // Refused only for ids that negotiation cannot give.
                let _ = rtp.header.set_extension(id, Bytes::copy_from_slice(&number));
            }
            let what = match self.session.local.kind(rtp.header.ssrc) {
                Some(MediaKind::Audio) => Use::Audio,
                _ if rtp.header.ssrc == self.session.local.rtx => Use::Repair,
                _ => Use::Video,
            };
            self.first_sent.get_or_insert(now);
            self.sent.push_back((now, bytes, what));
        }
        packet.now = now;
        queues.write.push_back(packet);
    }

    /// Id of the header extension; `None` while the remote peer has not agreed to it.
    fn extension(&self) -> Option<u8> {
        Some(self.session.transport_cc.load(Ordering::Relaxed)).filter(|id| *id != 0)
    }

    fn release(&mut self, now: Instant, queues: &mut Queues) {
        while let Some(packet) = self.pacer.pop(now) {
            self.send(now, packet, queues);
        }
        self.session.set_pacer_queue(self.pacer.queue_time());
    }

    fn enqueue(&mut self, now: Instant, priority: Priority, packet: rtp::Packet) {
        let bytes = wire_bytes(&packet);
        let packet = TaggedPacket {
            now,
            transport: TransportContext::default(),
            message: AttributedPacket::new(Packet::Rtp(packet)),
        };
        self.pacer.push(now, priority, bytes, packet);
    }

    fn nack_in(&mut self, now: Instant, nack: &TransportLayerNack) {
        if nack.media_ssrc != self.session.local.video {
            return;
        }
        let (rtt, loss) = (self.session.rtt(), self.loss_ratio());
        for pair in &nack.nacks {
            let following = (0..16u16).filter(|bit| pair.lost_packets >> bit & 1 == 1);
            let lost = std::iter::once(pair.packet_id)
                .chain(following.map(|bit| pair.packet_id.wrapping_add(bit + 1)));
            for sequence in lost {
                let copies = self.retransmitter.request(now, sequence, rtt, loss);
                for (n, packet) in (0..).zip(copies) {
                    if n == 0 {
                        self.enqueue(now, Priority::Repair, packet);
                    } else {
                        // Apart, so that one burst of losses does not take all.
                        self.copies.push_back((now + n * COPY_SPACING, packet));
                    }
                }
            }
        }
    }

    fn feedback_in(&mut self, now: Instant, feedback: &TransportLayerCc) {
        let results = self.history.on_feedback(feedback);
        if let Some(rtt) = self.session.rtt() {
            self.estimator.set_rtt(rtt);
        }
        self.reports = None;
        let before = self.estimator.state();
        self.estimator.on_feedback(now, &results);
        if self.estimator.state() != before {
            tracing::debug!(
                state = self.estimator.state().as_str(),
                target_kbps = self.estimator.target_bps() / 1000.0,
                queue_ms = self.estimator.queue_ms(),
                "bandwidth estimate"
            );
        }
        self.pacer.set_rate(self.estimator.pacing_bps());
        self.publish(Some(now));
    }

    /// The estimator by reports, if packets have flowed for a while and no transport-wide feedback has come.
    fn without_feedback(&mut self, now: Instant) -> Option<&mut ReportEstimator> {
        let first = self.first_sent?;
        let age = self.estimator.feedback_age(now);
        let age = age.unwrap_or(now.saturating_duration_since(first));
        if self.reports.is_none() && age < FEEDBACK_MISSED {
            return None;
        }
        let (estimator, limits) = (&self.estimator, self.limits);
        let new = || {
            tracing::debug!(
                "no transport-wide feedback: the bandwidth follows receiver reports and REMB"
            );
            ReportEstimator::new(limits, estimator.target_bps())
        };
        Some(self.reports.get_or_insert_with(new))
    }

    fn blocks_in(&mut self, now: Instant, blocks: &[ReceptionReport]) {
        let video = self.session.local.video;
        let Some(block) = blocks.iter().find(|block| block.ssrc == video) else { return };
        let sent_bps = self.sent_bps(|_| true);
        let rtt = round_trip(self.session.clock.ntp(now), block);
        let loss = f64::from(block.fraction_lost) / 256.0;
        if let Some(reports) = self.without_feedback(now) {
            reports.on_report(now, Report { loss, rtt }, sent_bps);
            self.follow_reports(now);
        }
    }

    fn remb_in(&mut self, now: Instant, remb: &ReceiverEstimatedMaximumBitrate) {
        if remb.ssrcs.contains(&self.session.local.video)
            && let Some(reports) = self.without_feedback(now)
        {
            reports.on_remb(f64::from(remb.bitrate));
            self.follow_reports(now);
        }
    }

    fn follow_reports(&mut self, now: Instant) {
        self.pacer.set_rate(self.pacing_bps());
        self.publish(Some(now));
    }

    fn target_bps(&self) -> f64 {
        self.reports
            .as_ref()
            .map_or_else(|| self.estimator.target_bps(), ReportEstimator::target_bps)
    }

    fn pacing_bps(&self) -> f64 {
        self.reports
            .as_ref()
            .map_or_else(|| self.estimator.pacing_bps(), ReportEstimator::pacing_bps)
    }

    fn loss_ratio(&self) -> f64 {
        self.reports
            .as_ref()
            .map_or_else(|| self.estimator.loss_ratio(), ReportEstimator::loss_ratio)
    }

    fn tick(&mut self, now: Instant) {
        self.next_tick = Some(now + TICK);
        while self
            .sent
            .front()
            .is_some_and(|(at, ..)| now.saturating_duration_since(*at) > SENT_WINDOW)
        {
            self.sent.pop_front();
        }
        let sent_bps = self.sent_bps(|_| true);
        self.estimator.on_sent_rate(now, sent_bps);
        self.history.expire(now);
        let parity = self.session.parity_share().min(MAX_PARITY_ON_TOP);
        let max_bps = wire_bps(max_video_bps(&self.session) * (1.0 + parity));
        self.estimator.set_max(max_bps);
        if let Some(reports) = &mut self.reports {
            reports.set_max(max_bps);
        }
        if self.extension().is_some()
            && self.reports.is_none()
            && let Some((bytes, rate)) = self.estimator.poll_probe(now)
        {
            self.probe(now, bytes, rate);
        }
        self.publish(Some(now));
    }

    /// Rate on the wire of what was sent for `which`, over the last half second.
    #[expect(clippy::cast_precision_loss, reason = "bytes of half a second")]
    fn sent_bps(&self, which: impl Fn(Use) -> bool) -> f64 {
        let chosen = self.sent.iter().filter(|(.., what)| which(*what));
        let bytes: u64 = chosen.map(|(_, bytes, _)| u64::from(*bytes)).sum();
        bytes as f64 * 8.0 / SENT_WINDOW.as_secs_f64()
    }

    fn probe(&mut self, now: Instant, bytes: u32, rate_bps: f64) {
        let mut left = i64::from(bytes);
        while left > 0
            && let Some(packet) = self.retransmitter.padding(PROBE_PACKET_BYTES)
        {
            left -= i64::from(wire_bytes(&packet));
            self.enqueue(now, Priority::Padding, packet);
        }
        self.pacer.set_rate(rate_bps.max(self.estimator.pacing_bps()));
    }

    fn publish(&self, now: Option<Instant>) {
        let bps = |rate: f64| visavis_media::Bitrate::from_bps(rate.max(0.0) as u64);
        let queue = match &self.reports {
            Some(reports) => reports.queue(),
            None => {
                Duration::try_from_secs_f64(self.estimator.queue_ms() / 1000.0).unwrap_or_default()
            }
        };
        self.session.set_network(NetworkEstimate {
            target: bps(self.target_bps()),
            audio: bps(self.sent_bps(|what| what == Use::Audio)),
            repair: bps(self.sent_bps(|what| what == Use::Repair)),
            parity: self.session.parity_share(),
            pacing: bps(self.pacing_bps()),
            delivered: self.estimator.delivered_bps().map(bps),
            queue,
            loss: self.loss_ratio(),
            loss_burst: self.estimator.loss_burst(),
            state: self.estimator.state(),
            rtt: self.session.rtt(),
            // Reports come too seldom to tell an outage by them.
            silent: now
                .filter(|_| self.reports.is_none())
                .and_then(|now| self.estimator.feedback_age(now)),
            pacer_queue: self.pacer.queue_time(),
        });
    }
}

impl Stage for CongestionControl {
    fn on_read(&mut self, packet: TaggedPacket, queues: &mut Queues) {
        if let Packet::Rtcp(packets) = &packet.message.packet {
            for rtcp in packets {
                let any = rtcp.as_any();
                if let Some(nack) = any.downcast_ref::<TransportLayerNack>() {
                    self.nack_in(packet.now, nack);
                } else if let Some(feedback) = any.downcast_ref::<TransportLayerCc>() {
                    self.feedback_in(packet.now, feedback);
                } else if let Some(report) = any.downcast_ref::<ReceiverReport>() {
                    self.blocks_in(packet.now, &report.reports);
                } else if let Some(report) = any.downcast_ref::<SenderReport>() {
                    self.blocks_in(packet.now, &report.reports);
                } else if let Some(remb) = any.downcast_ref::<ReceiverEstimatedMaximumBitrate>() {
                    self.remb_in(packet.now, remb);
                }
            }
            self.release(packet.now, queues);
        }
        queues.read.push_back(packet);
    }

    fn on_write(&mut self, packet: TaggedPacket, queues: &mut Queues) {
        let Packet::Rtp(rtp) = &packet.message.packet else {
            queues.write.push_back(packet);
            return;
        };
        let now = packet.now;
        self.next_tick.get_or_insert(now + TICK);
        self.pacer.start(now);
        let priority = match self.session.local.kind(rtp.header.ssrc) {
            Some(MediaKind::Audio) => Priority::Immediate,
            Some(MediaKind::Video) => {
                let rtx = self.session.video_types().sent_rtx(rtp.header.payload_type);
                self.retransmitter.keep(now, rtp, rtx);
                Priority::Media
            }
            None => Priority::Media,
        };
        if let Some(packet) = self.pacer.push(now, priority, wire_bytes(rtp), packet) {
            self.send(now, packet, queues);
        }
        self.release(now, queues);
    }

    fn on_timeout(&mut self, now: Instant, queues: &mut Queues) {
        if self.next_tick.is_some_and(|at| at <= now) {
            self.tick(now);
        }
        // Nearly in order; a few milliseconds more do not matter.
        while self.copies.front().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, packet)) = self.copies.pop_front() {
                self.enqueue(now, Priority::Repair, packet);
            }
        }
        self.release(now, queues);
    }

    fn deadline(&self) -> Option<Instant> {
        let copy = self.copies.front().map(|(at, _)| *at);
        [self.next_tick, self.pacer.deadline(), copy].into_iter().flatten().min()
    }
}

/// Size of a packet as the path sees it: header extension, SRTP tag (AES-GCM, RFC 7714) and the
/// headers of UDP and IPv4 included.
pub(super) fn wire_bytes(rtp: &rtp::Packet) -> u32 {
    // The extension is put in later.
    let header = rtp.header.marshal_size().max(12 + 8);
    u32::try_from(header + rtp.payload.len() + 16 + 28).unwrap_or(u32::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "a bitrate")]
fn max_video_bps(session: &Session) -> f64 {
    session.max_video_bps() as f64
}

/// The most that the wire needs for this much video, audio and headers included.
fn wire_bps(video_bps: f64) -> f64 {
    video_bps * 1.08 + 90_000.0
}

/// Parity may come on top of the ceiling of the video to this share of it; more takes of the video.
const MAX_PARITY_ON_TOP: f64 = 0.5;
/// Audio and a picture now and then.
const MIN_BPS: f64 = 80_000.0;
/// What a call starts with: bursts tell within two round trips whether more goes through.
const START_BPS: f64 = 800_000.0;
/// Longer than reports are ever apart where there are any (libwebrtc: 250 ms at most).
const FEEDBACK_MISSED: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(50);
const SENT_WINDOW: Duration = Duration::from_millis(500);
/// A burst of losses is over by then, mostly.
const COPY_SPACING: Duration = Duration::from_millis(8);
const PROBE_PACKET_BYTES: usize = 1000;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tokio::sync::mpsc;

    use super::*;
    use crate::clock::MediaClock;
    use crate::session::LocalStreams;

    const LOCAL: LocalStreams = LocalStreams { audio: 1, video: 2, rtx: 4, parity: 3 };

    /// A flow of video at the target for `seconds`, about which `rtcp` is what the remote peer sends each half
    /// second; the target then.
    fn target_after(
        seconds: u64,
        extension: u8,
        rtcp: impl Fn(u64) -> Vec<Box<dyn rtc::rtcp::Packet>>,
    ) -> u64 {
        let (events, _receiver) = mpsc::channel(8);
        let session = Session::new(MediaClock::default(), LOCAL, events);
        session.transport_cc.store(extension, Ordering::Relaxed);
        let session = Arc::new(session);
        let mut control = CongestionControl::new(session.clone());
        let (start, mut queues) = (Instant::now(), Queues::default());
        let mut credit = 0.0;
        for ms in 0..seconds * 1000 {
            let now = start + Duration::from_millis(ms);
            credit += session.network().target.as_bps() as f64 / 8000.0;
            let mut header = rtp::Header { version: 2, ssrc: LOCAL.video, ..Default::default() };
            while credit > 1000.0 {
                credit -= 1000.0;
                header.sequence_number = header.sequence_number.wrapping_add(1);
                let payload = Bytes::from_static(&[7; 944]);
                let packet = Packet::Rtp(rtp::Packet { header: header.clone(), payload });
                let transport = TransportContext::default();
                control
                    .on_write(TaggedPacket { now, transport, message: packet.into() }, &mut queues);
            }
            if ms % 500 == 499 {
                let message = AttributedPacket::new(Packet::Rtcp(rtcp(ms)));
                let transport = TransportContext::default();
                control.on_read(TaggedPacket { now, transport, message }, &mut queues);
            }
            if control.deadline().is_some_and(|at| at <= now) {
                control.on_timeout(now, &mut queues);
            }
            queues = Queues::default();
        }
        session.network().target.as_bps()
    }

    fn report(fraction_lost: u8) -> Box<dyn rtc::rtcp::Packet> {
        let block = ReceptionReport { ssrc: LOCAL.video, fraction_lost, ..Default::default() };
        Box::new(ReceiverReport { ssrc: 9, reports: vec![block], ..Default::default() })
    }

    fn remb(kbps: u16) -> Box<dyn rtc::rtcp::Packet> {
        let bitrate = f32::from(kbps) * 1000.0;
        let ssrcs = vec![LOCAL.video];
        Box::new(ReceiverEstimatedMaximumBitrate { sender_ssrc: 9, bitrate, ssrcs })
    }

    #[test]
    fn without_transport_wide_feedback_the_rate_follows_reports_and_remb() {
        // Whether it was negotiated or not.
        for extension in [0, 4] {
            let free = target_after(10, extension, |_| vec![report(0)]);
            assert!(free >= 2_500_000, "{free}");
            let limited = target_after(10, extension, |_| vec![report(0), remb(300)]);
            assert_eq!(limited, 300_000);
            let lossy =
                target_after(4, extension, |ms| vec![report(if ms < 1600 { 120 } else { 0 })]);
            assert!(lossy <= 500_000, "{lossy}");
            assert_eq!(target_after(5, extension, |_| vec![]), 800_000);
        }
    }

    #[test]
    fn reports_beside_transport_wide_feedback_change_nothing() {
        let feedback = || Box::new(TransportLayerCc::default());
        let target = target_after(5, 4, |_| vec![feedback(), report(200), remb(100)]);
        assert!(target >= 800_000, "{target}");
    }
}
