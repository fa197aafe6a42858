//! The sending half: an interceptor that sees each picture's packets pass and adds their parity.
//! Runs in the driver task.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rtc::interceptor::{Packet, TaggedPacket};
use rtc::rtp;
use rtc::shared::TransportContext;

use super::{BLOCK_HEADER_BYTES, HEADER_BYTES, Header, PAYLOAD_TYPE, add_packet, code};
use crate::interceptor::{Queues, Stage};
use crate::session::Session;
use crate::types::MediaKind;

pub(crate) struct ParitySender {
    session: Arc<Session>,
    next_sequence: u16,
    window: Window,
    protection: Protection,
    /// Parity bytes for each byte of video, smoothed.
    share: f64,
}

impl ParitySender {
    pub(crate) fn new(session: Arc<Session>) -> Self {
        Self {
            session,
            next_sequence: 0,
            window: Window::default(),
            protection: Protection::default(),
            share: 0.0,
        }
    }

    /// Parity for the packets since the last.
    fn protect(&mut self, now: Instant, transport: TransportContext, queues: &mut Queues) {
        self.protection.follow(now, &self.session);
        let fresh = std::mem::take(&mut self.window.fresh);
        let mut parity_bytes = 0;
        for _ in 0..self.protection.parity_blocks(fresh) {
            let Some(rtp) = self.window.parity(self.session.local.parity, self.next_sequence)
            else {
                break;
            };
            self.next_sequence = self.next_sequence.wrapping_add(1);
            parity_bytes += rtp.payload.len();
            let message = Packet::Rtp(rtp).into();
            queues.write.push_back(TaggedPacket { now, transport, message });
        }
        let video_bytes: usize =
            self.window.packets.iter().rev().take(fresh).map(|p| p.payload.len()).sum();
        #[expect(clippy::cast_precision_loss, reason = "bytes of a picture")]
        let share = parity_bytes as f64 / video_bytes.max(1) as f64;
        self.share += SHARE_WEIGHT * (share - self.share);
        self.session.set_parity_share(self.share);
    }
}

impl Stage for ParitySender {
    fn on_write(&mut self, packet: TaggedPacket, queues: &mut Queues) {
        let video = match &packet.message.packet {
            Packet::Rtp(rtp)
                if self.session.local.kind(rtp.header.ssrc) == Some(MediaKind::Video) =>
            {
                self.session.parity.load(Ordering::Relaxed).then(|| rtp.clone())
            }
            _ => None,
        };
        let (now, transport) = (packet.now, packet.transport);
        queues.write.push_back(packet);
        let Some(rtp) = video else { return };
        let last = rtp.header.marker;
        self.window.push(rtp);
        if last || self.window.fresh >= MAX_GROUP {
            self.protect(now, transport, queues);
        }
    }
}

/// The packets that the next parity protects.
#[derive(Debug, Default)]
pub(super) struct Window {
    packets: VecDeque<rtp::Packet>,
    /// How many of them no parity has followed yet.
    fresh: usize,
}

impl Window {
    pub(super) fn push(&mut self, packet: rtp::Packet) {
        let expected = self.packets.back().map(|p| p.header.sequence_number.wrapping_add(1));
        if expected.is_some_and(|expected| expected != packet.header.sequence_number) {
            self.packets.clear();
            self.fresh = 0;
        }
        self.packets.push_back(packet);
        self.fresh += 1;
        while self.packets.len() > code::MAX_BLOCKS || self.pictures() > MAX_PICTURES {
            self.packets.pop_front();
        }
    }

    fn pictures(&self) -> usize {
        let marked = self.packets.iter().filter(|p| p.header.marker).count();
        marked + usize::from(self.packets.back().is_some_and(|p| !p.header.marker))
    }

    /// `None` if there is nothing to protect.
    pub(super) fn parity(&self, ssrc: u32, sequence_number: u16) -> Option<rtp::Packet> {
        let (first, last) = (self.packets.front()?, self.packets.back()?);
        let header = Header {
            first_sequence: first.header.sequence_number,
            blocks: u8::try_from(self.packets.len()).ok()?,
            index: sequence_number.to_be_bytes()[1] & 127,
        };
        let longest = self.packets.iter().map(|p| p.payload.len()).max()?;
        let mut payload = BytesMut::zeroed(HEADER_BYTES + BLOCK_HEADER_BYTES + longest);
        let (head, parity) = payload.split_at_mut(HEADER_BYTES);
        head.copy_from_slice(&header.write());
        for packet in &self.packets {
            add_packet(parity, packet, header.weight(packet.header.sequence_number));
        }
        let header = rtp::Header {
            version: 2,
            payload_type: PAYLOAD_TYPE,
            ssrc,
            sequence_number,
            timestamp: last.header.timestamp,
            ..Default::default()
        };
        Some(rtp::Packet { header, payload: payload.freeze() })
    }
}

/// How much parity the path calls for.
#[derive(Debug, Default)]
struct Protection {
    loss: f64,
    burst: f64,
    updated: Option<Instant>,
    /// Whether the remote peer has reported what arrives.
    is_reported: bool,
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
        if network.delivered.is_none() {
            // Nothing was reported yet, and the first frame is the one that is waited for.
            (self.loss, self.burst) = (ASSUMED_LOSS, 1.0);
            return;
        }
        if !std::mem::replace(&mut self.is_reported, true) {
            (self.loss, self.burst) = (network.loss, network.loss_burst);
            self.cache.clear();
        }
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
        let most = blocks.max(2);
        let count = code::parity_blocks(blocks, self.loss, self.burst.min(6.0), RESIDUAL, most);
        self.cache[blocks] = Some(count);
        count
    }
}

/// Packets that parity follows at the latest: a picture of 5 Mbps at 30 fps has 18.
const MAX_GROUP: usize = 40;
/// What the parity of one picture could not repair, that of the next two can. More pictures bring next
/// to nothing (`docs/decisions/0007-loss-recovery.md`) and cost time to add up.
const MAX_PICTURES: usize = 3;
/// Pictures that may have to wait for the next one's parity.
const RESIDUAL: f64 = 0.06;
/// Below this loss retransmission costs less.
const LEAST_LOSS: f64 = 0.008;
/// One packet of parity for the five of a first frame.
const ASSUMED_LOSS: f64 = 0.08;
/// On round trips this short retransmission is as quick.
const SHORT_RTT: Duration = Duration::from_millis(15);
const UPDATE: Duration = Duration::from_millis(100);
const FORGET_S: f64 = 4.0;
const SHARE_WEIGHT: f64 = 0.1;
