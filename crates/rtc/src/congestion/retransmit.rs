//! Packets kept to be sent again (RFC 4588), on request or as padding. Sans-IO.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};
use rtc::rtp;

#[derive(Debug)]
struct Kept {
    at: Instant,
    packet: rtp::Packet,
    /// The payload type of its retransmissions; without one it is not sent again.
    rtx: Option<u8>,
    repeated: u8,
    last_repeat: Option<Instant>,
}

/// The video packets of the last second.
#[derive(Debug)]
pub(crate) struct Retransmitter {
    /// The stream of retransmissions.
    ssrc: u32,
    kept: VecDeque<Kept>,
    next_sequence: u16,
}

impl Retransmitter {
    pub(crate) fn new(ssrc: u32) -> Self {
        Self { ssrc, kept: VecDeque::new(), next_sequence: 0 }
    }

    /// A packet of the media stream leaves for the first time; in order of its sequence numbers. `rtx` is the
    /// payload type that its retransmissions have, if the remote peer takes any.
    pub(crate) fn keep(&mut self, now: Instant, packet: &rtp::Packet, rtx: Option<u8>) {
        let next = self.kept.back().map(|k| k.packet.header.sequence_number.wrapping_add(1));
        if next.is_some_and(|next| next != packet.header.sequence_number) {
            self.kept.clear();
        }
        while self.kept.len() >= MAX_KEPT
            || self.kept.front().is_some_and(|k| now.saturating_duration_since(k.at) > MAX_AGE)
        {
            self.kept.pop_front();
        }
        let packet = packet.clone();
        self.kept.push_back(Kept { at: now, packet, rtx, repeated: 0, last_repeat: None });
    }

    /// The other side misses `sequence`: what to send. A packet that was repeated less than half a
    /// round trip ago is on its way. Where the path loses so much (`loss`, 0 to 1) that the
    /// repeated packet may well be lost too, or was, it is sent several times: a further round trip
    /// costs more than a packet.
    pub(crate) fn request(
        &mut self,
        now: Instant,
        sequence: u16,
        rtt: Option<Duration>,
        loss: f64,
    ) -> Vec<rtp::Packet> {
        let Some(first) = self.kept.front() else { return Vec::new() };
        let index = sequence.wrapping_sub(first.packet.header.sequence_number);
        let Some(kept) = self.kept.get_mut(usize::from(index)) else { return Vec::new() };
        let Some(rtx) = kept.rtx else { return Vec::new() };
        let fresh = rtt.unwrap_or_default() / 2;
        if kept.last_repeat.is_some_and(|at| now < at + fresh) || kept.repeated >= MAX_REPEATS {
            return Vec::new();
        }
        kept.repeated += 1;
        kept.last_repeat = Some(now);
        let lossy = LOSS_STEPS.iter().filter(|step| loss > **step).count();
        let copies = (usize::from(kept.repeated) + lossy).min(MAX_COPIES);
        let original = kept.packet.clone();
        (0..copies).map(|_| self.wrap(rtx, &original)).collect()
    }

    /// A packet of about `bytes` that carries nothing new; `None` if the remote peer takes no retransmissions.
    pub(crate) fn padding(&mut self, bytes: usize) -> Option<rtp::Packet> {
        // The newest that is large enough, as browsers do it: it may even repair something.
        let original =
            self.kept.iter().rev().take(32).find(|k| k.packet.payload.len() >= bytes / 2);
        let kept = original.or(self.kept.back())?;
        let (rtx, original) = (kept.rtx?, kept.packet.clone());
        Some(self.wrap(rtx, &original))
    }

    fn wrap(&mut self, payload_type: u8, original: &rtp::Packet) -> rtp::Packet {
        let mut payload = BytesMut::with_capacity(2 + original.payload.len());
        payload.put_u16(original.header.sequence_number);
        payload.put_slice(&original.payload);
        let header = rtp::Header {
            version: 2,
            ssrc: self.ssrc,
            payload_type,
            sequence_number: self.next_sequence,
            timestamp: original.header.timestamp,
            marker: original.header.marker,
            ..Default::default()
        };
        self.next_sequence = self.next_sequence.wrapping_add(1);
        rtp::Packet { header, payload: payload.freeze() }
    }
}

/// Seconds of pictures are of no use to a conversation.
const MAX_AGE: Duration = Duration::from_millis(1500);
/// 1.5 s at 10 Mbps.
const MAX_KEPT: usize = 2048;
const MAX_REPEATS: u8 = 8;
const MAX_COPIES: usize = 4;
/// Beyond each of these one copy more, so that about one in twenty is lost again.
const LOSS_STEPS: [f64; 2] = [0.06, 0.24];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use bytes::Bytes;

    fn packet(sequence: u16) -> rtp::Packet {
        rtp::Packet {
            header: rtp::Header { version: 2, sequence_number: sequence, ..Default::default() },
            payload: Bytes::from(vec![sequence as u8; 100]),
        }
    }

    fn filled() -> (Retransmitter, Instant) {
        let mut this = Retransmitter::new(9);
        let now = Instant::now();
        for n in 0..20u16 {
            this.keep(now, &packet(65_530u16.wrapping_add(n)), Some(103));
        }
        (this, now)
    }

    #[test]
    fn a_packet_comes_again_with_its_number_in_front() {
        let (mut this, now) = filled();
        let again = this.request(now, 2, None, 0.0);
        assert_eq!(again.len(), 1);
        assert_eq!(again[0].payload[..3], [0, 2, 2]);
        assert_eq!((again[0].header.ssrc, again[0].header.payload_type), (9, 103));
        assert!(this.request(now, 5_000, None, 0.0).is_empty());
    }

    #[test]
    fn what_is_on_its_way_is_not_sent_again_and_what_was_lost_again_is_sent_twice() {
        let (mut this, now) = filled();
        let rtt = Some(Duration::from_millis(50));
        assert_eq!(this.request(now, 65_535, rtt, 0.0).len(), 1);
        assert_eq!(this.request(now + Duration::from_millis(10), 65_535, rtt, 0.0).len(), 0);
        assert_eq!(this.request(now + Duration::from_millis(60), 65_535, rtt, 0.0).len(), 2);
    }

    #[test]
    fn retransmissions_have_the_payload_type_that_belongs_to_the_packets_codec() {
        let (mut this, now) = filled();
        this.keep(now, &packet(14), Some(97));
        this.keep(now, &packet(15), None);
        let payload_type = |again: Vec<rtp::Packet>| again.first().map(|p| p.header.payload_type);
        assert_eq!(payload_type(this.request(now, 13, None, 0.0)), Some(103));
        assert_eq!(payload_type(this.request(now, 14, None, 0.0)), Some(97));
        assert_eq!(payload_type(this.request(now, 15, None, 0.0)), None);
    }

    #[test]
    fn old_packets_are_forgotten() {
        let (mut this, now) = filled();
        this.keep(now + Duration::from_secs(2), &packet(14), Some(103));
        assert!(this.request(now, 3, None, 0.0).is_empty());
        assert_eq!(this.request(now, 14, None, 0.0).len(), 1);
        assert!(this.padding(50).is_some());
    }
}
