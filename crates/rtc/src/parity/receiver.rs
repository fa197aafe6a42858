//! The receiving half: an interceptor that repairs what it can before retransmissions are asked
//! for. Runs in the driver task.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rtc::interceptor::{Attribute, AttributedPacket, Packet, StreamInfo, TaggedPacket};
use rtc::rtp;

use super::{Header, PAYLOAD_TYPE, accumulate, code, read_block};
use crate::interceptor::{Queues, Stage};
use crate::nack::unwrap;
use crate::receive::{RemoteStream, RemoteStreams};
use crate::session::Session;
use crate::types::MediaKind;

/// Packets and parity of one video stream. Sans-IO.
#[derive(Debug, Default)]
pub(super) struct Repair {
    highest: Option<u64>,
    packets: BTreeMap<u64, rtp::Packet>,
    groups: VecDeque<Group>,
}

#[derive(Debug)]
struct Group {
    first: u64,
    blocks: u8,
    timestamp: u32,
    parity: Vec<(u8, bytes::Bytes)>,
}

impl Repair {
    /// A packet of the video stream, or one that was sent again, is here.
    pub(super) fn on_media(&mut self, packet: &rtp::Packet) -> Vec<rtp::Packet> {
        let sequence = self.place(packet.header.sequence_number);
        self.packets.insert(sequence, packet.clone());
        while self.packets.len() > MAX_PACKETS {
            self.packets.pop_first();
        }
        self.try_groups(|group| {
            (group.first..group.first + u64::from(group.blocks)).contains(&sequence)
        })
    }

    /// A parity packet is here.
    pub(super) fn on_parity(&mut self, packet: &rtp::Packet) -> Vec<rtp::Packet> {
        let Some((header, _)) = Header::read(&packet.payload) else { return Vec::new() };
        let first = self.place(header.first_sequence);
        let same = |g: &Group| g.first == first && g.blocks == header.blocks;
        let parity = (header.index, packet.payload.clone());
        if let Some(group) = self.groups.iter_mut().find(|g| same(g)) {
            if group.parity.iter().all(|(index, _)| *index != header.index) {
                group.parity.push(parity);
            }
        } else {
            if self.groups.len() >= MAX_GROUPS {
                self.groups.pop_front();
            }
            self.groups.push_back(Group {
                first,
                blocks: header.blocks,
                timestamp: packet.header.timestamp,
                parity: vec![parity],
            });
        }
        self.try_groups(same)
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

    fn try_groups(&mut self, which: impl Fn(&Group) -> bool) -> Vec<rtp::Packet> {
        let Some(at) = self.groups.iter().position(which) else { return Vec::new() };
        let group = &self.groups[at];
        let missing: Vec<u8> = (0..group.blocks)
            .filter(|n| !self.packets.contains_key(&(group.first + u64::from(*n))))
            .collect();
        if missing.is_empty() {
            self.groups.remove(at);
            return Vec::new();
        }
        if missing.len() > group.parity.len() {
            return Vec::new();
        }
        let repaired = self.repair(group, &missing);
        self.groups.remove(at);
        for packet in &repaired {
            let sequence = self.place(packet.header.sequence_number);
            self.packets.insert(sequence, packet.clone());
        }
        repaired
    }

    fn repair(&self, group: &Group, missing: &[u8]) -> Vec<rtp::Packet> {
        let reduced = group
            .parity
            .iter()
            .filter_map(|(index, payload)| {
                let mut parity = Header::read(payload)?.1.to_vec();
                for block in (0..group.blocks).filter(|n| !missing.contains(n)) {
                    let packet = self.packets.get(&(group.first + u64::from(block)))?;
                    accumulate(&mut parity, *index, packet, block);
                }
                Some((*index, parity))
            })
            .collect();
        let Some(blocks) = code::solve(missing, reduced) else { return Vec::new() };
        missing
            .iter()
            .zip(blocks)
            .filter_map(|(n, block)| {
                let (marker, payload) = read_block(&block)?;
                #[expect(clippy::cast_possible_truncation, reason = "back to 16 bits")]
                let sequence_number = (group.first + u64::from(*n)) as u16;
                let header = rtp::Header {
                    version: 2,
                    marker,
                    sequence_number,
                    timestamp: group.timestamp,
                    ..Default::default()
                };
                Some(rtp::Packet { header, payload })
            })
            .collect()
    }
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
            && stream.kind == MediaKind::Video
            && let Some(original) = stream.original_sequence(rtp)
        {
            if self.stream.is_none_or(|s| s.media_ssrc != stream.media_ssrc) {
                self.repair = Repair::default();
            }
            self.stream = self.streams.get(stream.media_ssrc);
            let mut media = rtp.clone();
            media.header.sequence_number = original;
            if stream.rtx {
                media.payload = media.payload.slice(2..);
            }
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
            rtp.header.payload_type = stream.payload_type;
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
/// Half a second of pictures.
const MAX_GROUPS: usize = 24;
