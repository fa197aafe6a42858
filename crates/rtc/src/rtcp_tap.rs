//! The interceptor next to the wire: it counts every RTP packet both ways, writes sender and
//! receiver reports, reads the remote ones, and passes keyframe requests to the owner. Runs in the
//! driver task.
//!
//! It stands in for the stack's report interceptors for three reasons: those map RTP time to the
//! moment of sending where lip sync needs the moment of capture; they forget nothing once lost,
//! so reordering counts as loss; and report blocks inside sender reports reach nobody.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rtc::interceptor::{Packet, StreamInfo, TaggedPacket};
use rtc::rtcp;
use rtc::rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtcp::receiver_report::ReceiverReport;
use rtc::rtcp::reception_report::ReceptionReport;
use rtc::rtcp::sender_report::SenderReport;
use rtc::rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;
use rtc::rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;
use visavis_media::VideoCodec;

use crate::interceptor::{Queues, Stage};
use crate::receive::RemoteStreams;
use crate::session::{PerKind, Session};
use crate::stream_stats::{Reception, round_trip};
use crate::types::{MediaKind, PeerEvent, SenderReportInfo};

pub(crate) struct RtcpTap {
    session: Arc<Session>,
    remote: RemoteStreams,
    reception: PerKind<Option<Reception>>,
    /// Packets and payload octets sent of each stream, retransmissions not included (RFC 3550).
    sent: PerKind<(u32, u32)>,
    last_fir: Option<(u32, u8)>,
    next_report: Option<Instant>,
}

impl RtcpTap {
    pub(crate) fn new(session: Arc<Session>) -> Self {
        Self {
            session,
            remote: RemoteStreams::default(),
            reception: PerKind::default(),
            sent: PerKind::default(),
            last_fir: None,
            next_report: None,
        }
    }

    fn rtp_in(&mut self, now: Instant, rtp: &rtc::rtp::Packet) {
        let Some(stream) = self.remote.get(rtp.header.ssrc) else { return };
        let bytes = rtp.payload.len() as u64;
        let codec = stream.video(rtp, &self.session.video_types()).map(|v| mime_type(v.codec));
        let mut counters = self.session.counters();
        let stats = counters.inbound.get_mut(stream.kind);
        stats.codec = codec.or(stats.codec);
        if stream.rtx {
            stats.retransmitted_packets_received += 1;
            stats.retransmitted_bytes_received += bytes;
            return;
        }
        stats.packets_received += 1;
        stats.bytes_received += bytes;
        let slot = self.reception.get_mut(stream.kind);
        let reception = match slot {
            Some(reception) if reception.ssrc() == stream.media_ssrc => reception,
            // A new stream of this kind takes the place of the old one.
            _ => slot.insert(Reception::new(stream.media_ssrc, stream.kind.clock_rate_hz())),
        };
        reception.on_packet(now, rtp.header.sequence_number, rtp.header.timestamp);
        stats.packets_lost = reception.packets_lost();
        stats.jitter_s = reception.jitter_s();
    }

    fn rtp_out(&mut self, rtp: &rtc::rtp::Packet) {
        let bytes = rtp.payload.len();
        let retransmitted = rtp.header.ssrc == self.session.local.rtx;
        let kind = match self.session.local.kind(rtp.header.ssrc) {
            Some(kind) => kind,
            None if retransmitted => MediaKind::Video,
            None => return,
        };
        let codec = self.session.video_types().sent_codec(rtp.header.payload_type).map(mime_type);
        let mut counters = self.session.counters();
        let stats = counters.outbound.get_mut(kind);
        if kind == MediaKind::Video {
            stats.codec = codec.or(stats.codec);
        }
        stats.packets_sent += 1;
        stats.bytes_sent += bytes as u64;
        if retransmitted {
            stats.retransmitted_packets_sent += 1;
            stats.retransmitted_bytes_sent += bytes as u64;
        } else {
            let (packets, octets) = self.sent.get_mut(kind);
            *packets = packets.wrapping_add(1);
            *octets = octets.wrapping_add(u32::try_from(bytes).unwrap_or(0));
        }
    }

    fn rtcp_in(&mut self, now: Instant, packet: &dyn rtcp::Packet) {
        let any = packet.as_any();
        let mut counters = self.session.counters();
        counters.rtcp_received += 1;
        counters.feedback_received += u64::from(any.is::<TransportLayerCc>());
        drop(counters);
        if let Some(sr) = any.downcast_ref::<SenderReport>() {
            self.sender_report_in(now, sr);
            self.blocks_in(now, &sr.reports);
        } else if let Some(rr) = any.downcast_ref::<ReceiverReport>() {
            self.blocks_in(now, &rr.reports);
        } else if let Some(nack) = any.downcast_ref::<TransportLayerNack>() {
            if let Some(kind) = self.session.local.kind(nack.media_ssrc) {
                let mut counters = self.session.counters();
                let stats = counters.outbound.get_mut(kind);
                stats.nack_count += 1;
                stats.nacked_packets += nacked_packets(nack);
            }
        } else if let Some(pli) = any.downcast_ref::<PictureLossIndication>() {
            if pli.media_ssrc == self.session.local.video {
                self.session.counters().outbound.video.pli_count += 1;
                self.session.emit(PeerEvent::KeyframeRequested);
            }
        } else if let Some(fir) = any.downcast_ref::<FullIntraRequest>() {
            self.fir_in(fir);
        }
    }

    fn sender_report_in(&mut self, now: Instant, sr: &SenderReport) {
        let Some(stream) = self.remote.get(sr.ssrc).filter(|s| !s.rtx) else { return };
        if let Some(reception) = self.reception.get_mut(stream.kind)
            && reception.ssrc() == sr.ssrc
        {
            reception.on_sender_report(now, sr.ntp_time);
        }
        self.session.counters().inbound.get_mut(stream.kind).sender_reports_received += 1;
        // Whoever has no parity is no peer of ours.
        let is_ours = self.session.parity.load(Ordering::Relaxed);
        let early = if stream.kind == MediaKind::Audio && !is_ours { PACKET_NTP } else { 0 };
        self.session.emit(PeerEvent::SenderReport(SenderReportInfo {
            kind: stream.kind,
            ntp_time: sr.ntp_time.saturating_sub(early),
            rtp_timestamp: sr.rtp_time,
            arrival: self.session.clock.at(now),
        }));
    }

    fn blocks_in(&mut self, now: Instant, blocks: &[ReceptionReport]) {
        for block in blocks {
            let Some(kind) = self.session.local.kind(block.ssrc) else { continue };
            let rtt = round_trip(self.session.clock.ntp(now), block);
            if let Some(rtt) = rtt {
                self.session.set_rtt(rtt);
            }
            let mut counters = self.session.counters();
            let stats = counters.outbound.get_mut(kind);
            stats.reports_received += 1;
            stats.remote_packets_lost = Some(i64::from(sign_extend_24(block.total_lost)));
            stats.remote_fraction_lost = Some(f64::from(block.fraction_lost) / 256.0);
            stats.remote_jitter_s = Some(f64::from(block.jitter) / f64::from(kind.clock_rate_hz()));
            if let Some(rtt) = rtt {
                stats.round_trip_time_s = Some(rtt.as_secs_f64());
            }
        }
    }

    fn fir_in(&mut self, fir: &FullIntraRequest) {
        for entry in &fir.fir {
            // RFC 5104 §4.3.1.2: a repeated number is the same request.
            let id = (fir.sender_ssrc, entry.sequence_number);
            if entry.ssrc == self.session.local.video && self.last_fir != Some(id) {
                self.last_fir = Some(id);
                self.session.counters().outbound.video.fir_count += 1;
                self.session.emit(PeerEvent::KeyframeRequested);
            }
        }
    }

    fn rtcp_out(&mut self, packet: &dyn rtcp::Packet) {
        let any = packet.as_any();
        if let Some(nack) = any.downcast_ref::<TransportLayerNack>() {
            let mut counters = self.session.counters();
            counters.inbound.video.nack_count += 1;
            counters.inbound.video.nacked_packets += nacked_packets(nack);
        } else if any.is::<PictureLossIndication>() {
            self.session.counters().inbound.video.pli_count += 1;
        } else if any.is::<FullIntraRequest>() {
            self.session.counters().inbound.video.fir_count += 1;
        }
    }

    /// One compound packet: a sender report for each stream of ours that flows, the first with the
    /// report blocks; a receiver report if none does.
    fn reports(&mut self, now: Instant) -> Vec<Box<dyn rtcp::Packet>> {
        let mut blocks: Vec<ReceptionReport> = [MediaKind::Audio, MediaKind::Video]
            .into_iter()
            .filter_map(|kind| self.reception.get_mut(kind).as_mut()?.report(now))
            .collect();
        let mut packets: Vec<Box<dyn rtcp::Packet>> = Vec::new();
        for kind in [MediaKind::Audio, MediaKind::Video] {
            let (packet_count, octet_count) = *self.sent.get(kind);
            let Some(anchor) = self.session.anchor(kind).filter(|_| packet_count > 0) else {
                continue;
            };
            let since = self.session.clock.at(now).saturating_since(anchor.time);
            packets.push(Box::new(SenderReport {
                ssrc: self.session.local.ssrc(kind),
                ntp_time: self.session.clock.ntp(now),
                rtp_time: anchor.timestamp.wrapping_add(ticks(since, kind)),
                packet_count,
                octet_count,
                reports: std::mem::take(&mut blocks),
                ..Default::default()
            }));
        }
        if !blocks.is_empty() {
            packets.push(Box::new(ReceiverReport {
                ssrc: self.session.local.video,
                reports: blocks,
                ..Default::default()
            }));
        }
        packets
    }

    fn arm(&mut self, now: Instant) {
        self.next_report.get_or_insert(now + FIRST_REPORT);
    }
}

impl Stage for RtcpTap {
    fn on_read(&mut self, packet: TaggedPacket, queues: &mut Queues) {
        match &packet.message.packet {
            Packet::Rtp(rtp) => {
                self.rtp_in(packet.now, rtp);
                self.arm(packet.now);
            }
            Packet::Rtcp(packets) => {
                for rtcp in packets {
                    self.rtcp_in(packet.now, rtcp.as_ref());
                }
            }
            _ => {}
        }
        queues.read.push_back(packet);
    }

    fn on_write(&mut self, packet: TaggedPacket, queues: &mut Queues) {
        match &packet.message.packet {
            Packet::Rtp(rtp) => {
                self.rtp_out(rtp);
                self.arm(packet.now);
            }
            Packet::Rtcp(packets) => {
                for rtcp in packets {
                    self.rtcp_out(rtcp.as_ref());
                }
            }
            _ => {}
        }
        queues.write.push_back(packet);
    }

    fn on_timeout(&mut self, now: Instant, queues: &mut Queues) {
        if self.next_report.is_some_and(|at| at <= now) {
            self.next_report = Some(now + REPORT_INTERVAL);
            let reports = self.reports(now);
            queues.write_rtcp(now, reports);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.next_report
    }

    fn bind_remote(&mut self, info: &StreamInfo) {
        if let Some(stream) = self.remote.bind(info)
            && stream.kind == MediaKind::Video
        {
            self.session.remote_video_ssrc.store(stream.media_ssrc, Ordering::Relaxed);
        }
    }
}

/// As W3C `RTCCodecStats.mimeType`.
fn mime_type(codec: VideoCodec) -> &'static str {
    match codec {
        VideoCodec::Av1 => "video/AV1",
        VideoCodec::Vp9 => "video/VP9",
        VideoCodec::H264 => "video/H264",
        VideoCodec::Vp8 => "video/VP8",
    }
}

fn nacked_packets(nack: &TransportLayerNack) -> u64 {
    nack.nacks.iter().map(|pair| 1 + u64::from(pair.lost_packets.count_ones())).sum()
}

/// RTP ticks in `duration`, modulo 2^32.
pub(crate) fn ticks(duration: Duration, kind: MediaKind) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "RTP time is modulo 2^32")]
    {
        (duration.as_micros() * u128::from(kind.clock_rate_hz()) / 1_000_000) as u32
    }
}

/// The cumulative loss is a signed number of 24 bits.
fn sign_extend_24(value: u32) -> i32 {
    #[expect(clippy::cast_possible_wrap, reason = "that is the sign extension")]
    {
        ((value << 8) as i32) >> 8
    }
}

/// The first report comes soon, so that round trip and lip sync are known early.
const FIRST_REPORT: Duration = Duration::from_millis(100);
/// Half of the video interval of libwebrtc (`rtcp_sender.cc`, 1 s), so that loss is noticed
/// sooner; at about 100 bytes a report it is under 2 kbit/s.
const REPORT_INTERVAL: Duration = Duration::from_millis(500);

/// 20 ms in units of 2^-32 s. libwebrtc's `ChannelSend` does not know when sound was captured, so
/// `RTCPSender::SetLastRtpTime` takes the time at which a packet leaves; its first sample is older by
/// the packet's length (RFC 7587 §4.2: 20 ms by default).
const PACKET_NTP: u64 = (20 << 32) / 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_may_be_negative() {
        assert_eq!(sign_extend_24(0x00ff_ffff), -1);
        assert_eq!(sign_extend_24(5), 5);
    }

    #[test]
    fn ticks_follow_the_clock_rate() {
        assert_eq!(ticks(Duration::from_millis(20), MediaKind::Audio), 960);
        assert_eq!(ticks(Duration::from_secs(1), MediaKind::Video), 90_000);
    }
}
