//! The sending half: an interceptor that sees each picture's packets pass and adds their parity.
//! Runs in the driver task.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rtc::interceptor::{Packet, TaggedPacket};
use rtc::rtp;

use super::{BLOCK_HEADER_BYTES, HEADER_BYTES, Header, PAYLOAD_TYPE, accumulate, code};
use crate::interceptor::{Queues, Stage};
use crate::session::Session;
use crate::types::MediaKind;

pub(crate) struct ParitySender {
    session: Arc<Session>,
    next_sequence: u16,
    /// The packets of the picture that passes now.
    group: Vec<rtp::Packet>,
    protection: Protection,
    /// Parity bytes for each byte of video, smoothed.
    share: f64,
}

impl ParitySender {
    pub(crate) fn new(session: Arc<Session>) -> Self {
        Self {
            session,
            next_sequence: 0,
            group: Vec::new(),
            protection: Protection::default(),
            share: 0.0,
        }
    }

    /// Parity for what is in `group`.
    fn protect(&mut self, packet: &TaggedPacket, queues: &mut Queues) {
        let mut group = std::mem::take(&mut self.group);
        let total: usize = group.iter().map(|p| p.payload.len()).sum();
        let mut parity_total = 0;
        self.protection.follow(packet.now, &self.session);
        // Groups of equal size; a keyframe is several.
        let size = group.len().div_ceil(group.len().div_ceil(MAX_GROUP));
        for part in group.chunks(size.max(1)) {
            let count = self.protection.parity_blocks(part.len());
            let longest = part.iter().map(|p| p.payload.len()).max().unwrap_or(0);
            for index in 0..count {
                let Ok(index) = u8::try_from(index) else { break };
                let payload = parity_payload(part, index, longest);
                parity_total += payload.len();
                let header = rtp::Header {
                    version: 2,
                    payload_type: PAYLOAD_TYPE,
                    ssrc: self.session.local.parity,
                    sequence_number: self.next_sequence,
                    timestamp: part[0].header.timestamp,
                    ..Default::default()
                };
                self.next_sequence = self.next_sequence.wrapping_add(1);
                queues.write.push_back(TaggedPacket {
                    now: packet.now,
                    transport: packet.transport,
                    message: Packet::Rtp(rtp::Packet { header, payload }).into(),
                });
            }
        }
        group.clear();
        self.group = group;
        #[expect(clippy::cast_precision_loss, reason = "bytes of a picture")]
        let share = parity_total as f64 / total.max(1) as f64;
        self.share += SHARE_WEIGHT * (share - self.share);
        self.session.set_parity_share(self.share);
    }
}

fn parity_payload(part: &[rtp::Packet], index: u8, longest: usize) -> bytes::Bytes {
    let mut payload = BytesMut::zeroed(HEADER_BYTES + BLOCK_HEADER_BYTES + longest);
    let header = Header {
        first_sequence: part[0].header.sequence_number,
        blocks: u8::try_from(part.len()).unwrap_or(u8::MAX),
        index,
    };
    let (head, parity) = payload.split_at_mut(HEADER_BYTES);
    head.copy_from_slice(&header.write());
    for (block, packet) in (0..).zip(part) {
        accumulate(parity, index, packet, block);
    }
    payload.freeze()
}

impl Stage for ParitySender {
    fn on_write(&mut self, packet: TaggedPacket, queues: &mut Queues) {
        let wanted = self.session.parity.load(Ordering::Relaxed);
        let Packet::Rtp(rtp) = &packet.message.packet else {
            queues.write.push_back(packet);
            return;
        };
        if !wanted || self.session.local.kind(rtp.header.ssrc) != Some(MediaKind::Video) {
            queues.write.push_back(packet);
            return;
        }
        let rtp = rtp.clone();
        let last = rtp.header.marker;
        if self.group.first().is_some_and(|p| p.header.timestamp != rtp.header.timestamp)
            || self.group.len() >= MAX_PICTURE_PACKETS
        {
            self.group.clear();
        }
        self.group.push(rtp);
        let carrier = TaggedPacket {
            now: packet.now,
            transport: packet.transport,
            message: Packet::Rtcp(Vec::new()).into(),
        };
        queues.write.push_back(packet);
        if last {
            self.protect(&carrier, queues);
        }
    }
}

/// How much parity the path calls for.
#[derive(Debug, Default)]
struct Protection {
    loss: f64,
    burst: f64,
    /// Share of groups that may be left to retransmission: the longer that takes, the fewer.
    residual: f64,
    updated: Option<Instant>,
    /// Parity blocks by number of blocks, computed when needed.
    cache: Vec<Option<usize>>,
}

impl Protection {
    /// Takes the path's loss in: up at once, down over seconds.
    fn follow(&mut self, now: Instant, session: &Session) {
        let since = self.updated.map_or(UPDATE, |at| now.saturating_duration_since(at));
        if since < UPDATE {
            return;
        }
        self.updated = Some(now);
        let network = session.network();
        let weight = (since.as_secs_f64() / FORGET_S).min(1.0);
        let decayed = self.loss + weight * (network.loss - self.loss);
        let loss = decayed.max(network.loss);
        let worthwhile = network.rtt.is_none_or(|rtt| rtt > SHORT_RTT) && loss > LEAST_LOSS;
        let loss = if worthwhile { loss } else { loss.min(LEAST_LOSS) };
        if (loss - self.loss).abs() > 0.1 * self.loss
            || (network.loss_burst - self.burst).abs() > 0.3
        {
            self.cache.clear();
            self.burst = network.loss_burst;
        }
        self.loss = loss;
        let rtt = network.rtt.unwrap_or(NEAR_RTT).max(NEAR_RTT);
        self.residual = (RESIDUAL * NEAR_RTT.as_secs_f64() / rtt.as_secs_f64()).max(LEAST_RESIDUAL);
    }

    fn parity_blocks(&mut self, blocks: usize) -> usize {
        if self.loss <= LEAST_LOSS {
            return 0;
        }
        if self.cache.len() <= blocks {
            self.cache.resize(blocks + 1, None);
        }
        if let Some(known) = self.cache[blocks] {
            return known;
        }
        let most = (blocks * 5 / 4).max(2).min(code::MAX_BLOCKS - 1);
        let count =
            code::parity_blocks(blocks, self.loss, self.burst.min(6.0), self.residual, most);
        self.cache[blocks] = Some(count);
        count
    }
}

/// Packets protected together: a picture of 5 Mbps at 30 fps has 18.
const MAX_GROUP: usize = 40;
const MAX_PICTURE_PACKETS: usize = 1024;
/// Pictures that parity may leave to retransmission on a round trip of [`NEAR_RTT`].
const RESIDUAL: f64 = 0.04;
const LEAST_RESIDUAL: f64 = 0.015;
const NEAR_RTT: Duration = Duration::from_millis(50);
/// Below this loss retransmission costs less.
const LEAST_LOSS: f64 = 0.008;
/// On round trips this short retransmission is as quick.
const SHORT_RTT: Duration = Duration::from_millis(15);
const UPDATE: Duration = Duration::from_millis(100);
const FORGET_S: f64 = 4.0;
const SHARE_WEIGHT: f64 = 0.1;
