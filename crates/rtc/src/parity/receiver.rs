//! The receiving half: an interceptor that repairs what it can before retransmissions are asked
//! for. Runs in the driver task.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rtc::interceptor::{Attribute, AttributedPacket, Packet, StreamInfo, TaggedPacket};
use rtc::rtp;

use super::code::Equations;
use super::{Header, PAYLOAD_TYPE, add_packet, read_block};
use crate::interceptor::{Queues, Stage};
use crate::nack::unwrap;
use crate::receive::{RemoteStream, RemoteStreams};
use crate::session::Session;

/// Packets and parity of one video stream. Sans-IO.
#[derive(Debug, Default)]
pub(super) struct Repair {
    highest: Option<u64>,
    packets: BTreeMap<u64, rtp::Packet>,
    equations: Equations,
}

impl Repair {
    /// A packet of the video stream, or one that was sent again, is here. Gives those that it helped
    /// to repair.
    pub(super) fn on_media(&mut self, packet: &rtp::Packet) -> Vec<rtp::Packet> {
        let sequence = self.place(packet.header.sequence_number);
        self.learn(sequence, packet);
        self.solve()
    }

    /// A parity packet is here. Gives what it repaired.
    pub(super) fn on_parity(&mut self, packet: &rtp::Packet) -> Vec<rtp::Packet> {
        let Some((header, parity)) = Header::read(&packet.payload) else { return Vec::new() };
        let first = self.place(header.first_sequence);
        let sequences = (first..).take(usize::from(header.blocks));
        let weight = |sequence| header.weight(wrap(sequence));
        let unknowns: BTreeMap<_, _> = sequences
            .clone()
            .filter(|sequence| !self.packets.contains_key(sequence))
            .map(|sequence| (sequence, weight(sequence)))
            .collect();
        if unknowns.is_empty() {
            return Vec::new();
        }
        let mut sum = parity.to_vec();
        for sequence in sequences {
            if let Some(known) = self.packets.get(&sequence) {
                add_packet(&mut sum, known, weight(sequence));
            }
        }
        self.equations.add(unknowns, sum);
        self.solve()
    }

    fn place(&mut self, sequence: u16) -> u64 {
        let Some(highest) = self.highest else {
            let first = u64::from(sequence) + 0x1_0000;
            self.highest = Some(first);
            return first;
        };
        let unwrapped = unwrap(highest, sequence);
        self.highest = Some(highest.max(unwrapped));
        unwrapped
    }

    fn learn(&mut self, sequence: u64, packet: &rtp::Packet) {
        if self.packets.insert(sequence, packet.clone()).is_none() {
            self.equations.on_block(sequence, |sum, factor| add_packet(sum, packet, factor));
        }
        while self.packets.len() > MAX_PACKETS {
            self.packets.pop_first();
        }
    }

    fn solve(&mut self) -> Vec<rtp::Packet> {
        let oldest = self.highest.unwrap_or(0).saturating_sub(MAX_AGE);
        self.equations.forget(oldest, MAX_EQUATIONS);
        let mut repaired = Vec::new();
        while let Some((sequence, block)) = self.equations.pop_solved() {
            if let Some(packet) = read_block(&block, wrap(sequence)) {
                self.learn(sequence, &packet);
                repaired.push(packet);
            }
        }
        repaired
    }
}

#[expect(clippy::cast_possible_truncation, reason = "back to 16 bits")]
fn wrap(sequence: u64) -> u16 {
    sequence as u16
}

pub(crate) struct ParityReceiver {
    session: Arc<Session>,
    streams: RemoteStreams,
    repair: Repair,
    /// The stream `repair` speaks of.
    stream: Option<RemoteStream>,
}

impl ParityReceiver {
    pub(crate) fn new(session: Arc<Session>) -> Self {
        Self { session, streams: RemoteStreams::default(), repair: Repair::default(), stream: None }
    }
}

impl Stage for ParityReceiver {
    fn on_read(&mut self, packet: TaggedPacket, queues: &mut Queues) {
        let Packet::Rtp(rtp) = &packet.message.packet else {
            queues.read.push_back(packet);
            return;
        };
        if !self.session.parity.load(Ordering::Relaxed) {
            queues.read.push_back(packet);
            return;
        }
        let (now, transport) = (packet.now, packet.transport);
        let repaired = if rtp.header.payload_type == PAYLOAD_TYPE {
            self.repair.on_parity(rtp)
        } else if let Some(stream) = self.streams.get(rtp.header.ssrc)
            && let Some(video) = stream.video(rtp, &self.session.video_types())
        {
            if self.stream.is_none_or(|s| s.media_ssrc != stream.media_ssrc) {
                self.repair = Repair::default();
            }
            self.stream = self.streams.get(stream.media_ssrc);
            let mut media = rtp.clone();
            media.header.sequence_number = video.sequence;
            media.header.payload_type = video.payload_type;
            media.payload = media.payload.slice(video.offset..);
            let repaired = self.repair.on_media(&media);
            queues.read.push_back(packet);
            repaired
        } else {
            queues.read.push_back(packet);
            return;
        };
        let Some(stream) = self.stream else { return };
        for mut rtp in repaired {
            rtp.header.ssrc = stream.media_ssrc;
            if stream.video(&rtp, &self.session.video_types()).is_none() {
                continue;
            }
            self.session.counters().inbound.video.repaired_packets += 1;
            queues.read.push_back(TaggedPacket {
                now,
                transport,
                message: AttributedPacket::new(Packet::Rtp(rtp)).with(Attribute::RecoveredByFec),
            });
        }
    }

    fn bind_remote(&mut self, info: &StreamInfo) {
        self.streams.bind(info);
    }
}

/// Two seconds at 2.5 Mbps.
const MAX_PACKETS: usize = 512;
/// Packets after which a missing one is no longer worth solving for.
const MAX_AGE: u64 = 256;
/// More than bursts of losses ever leave open, few enough that hostile parity costs little.
const MAX_EQUATIONS: usize = 64;
