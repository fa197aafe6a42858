//! Redundant audio data (RED, RFC 2198): a packet carries copies of earlier ones, so that a loss
//! costs the wait for a later packet instead of a gap in the sound.
//!
//! Sans-IO and without state of the network: [`RedEncoder`] makes payloads, [`parse`] takes remote
//! ones apart. Which copies are worth their bits is decided in [`crate::audio::protection`].

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};

/// Which earlier packets a packet carries, by their distance in packets (1 is the one before).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Redundancy(u16);

impl Redundancy {
    /// No copies.
    pub const NONE: Self = Self(0);

    /// Copies of the packets this far back; distances that are not within 1 to
    /// [`MAX_DISTANCE`] are left out.
    pub const fn of(distances: &[u8]) -> Self {
        let (mut bits, mut n) = (0, 0);
        while n < distances.len() {
            let distance = distances[n];
            if distance >= 1 && distance as usize <= MAX_DISTANCE {
                bits |= 1 << (distance - 1);
            }
            n += 1;
        }
        Self(bits)
    }

    /// As a bit set: bit 0 is distance 1.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// From [`Self::bits`].
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// Whether there are no copies.
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Copies a packet.
    pub const fn depth(self) -> usize {
        self.0.count_ones() as usize
    }

    /// The farthest one; 0 without copies.
    pub const fn reach(self) -> usize {
        (u16::BITS - self.0.leading_zeros()) as usize
    }

    /// Distances from the farthest to the nearest, the order of blocks in a packet.
    fn distances(self) -> impl Iterator<Item = usize> {
        (1..=MAX_DISTANCE).rev().filter(move |d| self.0 >> (d - 1) & 1 == 1)
    }
}

/// Makes RED payloads of the packets of one stream.
#[derive(Debug, Default)]
pub struct RedEncoder {
    /// The last packets, the newest at the end.
    sent: VecDeque<(u32, Bytes)>,
    buffer: BytesMut,
}

impl RedEncoder {
    /// Takes the next packet of the stream. Returns the payload with copies of earlier ones in it,
    /// or `None` if there are none to carry and the packet is to be sent as it is.
    ///
    /// Left out are copies beyond what the header can say (16383 ticks back, 1023 bytes, RFC 2198
    /// §3), silence, and what would make the payload longer than [`MAX_PAYLOAD_BYTES`].
    pub fn encode(
        &mut self,
        timestamp: u32,
        payload: &Bytes,
        payload_type: u8,
        redundancy: Redundancy,
    ) -> Option<Bytes> {
        let mut room = MAX_PAYLOAD_BYTES.saturating_sub(PRIMARY_HEADER_BYTES + payload.len());
        // The nearest copies are the ones that are waited for the shortest: they get room first.
        let mut kept = 0u16;
        for distance in (1..=MAX_DISTANCE).filter(|d| redundancy.0 >> (d - 1) & 1 == 1) {
            let Some((at, copy)) = self.at_distance(distance) else { break };
            let offset = timestamp.wrapping_sub(*at);
            let bytes = HEADER_BYTES + copy.len();
            if (1..=MAX_TIMESTAMP_OFFSET).contains(&offset)
                && (MIN_COPY_BYTES..=MAX_BLOCK_BYTES).contains(&copy.len())
                && bytes <= room
            {
                room -= bytes;
                kept |= 1 << (distance - 1);
            }
        }
        let kept = Redundancy(kept);
        let encoded = (!kept.is_none()).then(|| self.write(timestamp, payload, payload_type, kept));
        if self.sent.len() == MAX_DISTANCE {
            self.sent.pop_front();
        }
        self.sent.push_back((timestamp, payload.clone()));
        encoded
    }

    fn at_distance(&self, distance: usize) -> Option<&(u32, Bytes)> {
        self.sent.get(self.sent.len().checked_sub(distance)?)
    }

    fn write(
        &mut self,
        timestamp: u32,
        payload: &Bytes,
        payload_type: u8,
        kept: Redundancy,
    ) -> Bytes {
        let mut buffer = std::mem::take(&mut self.buffer);
        // One allocation serves many packets: those sent give their part back.
        buffer.reserve(MAX_PAYLOAD_BYTES + payload.len());
        for (at, copy) in kept.distances().filter_map(|d| self.at_distance(d)) {
            let offset = timestamp.wrapping_sub(*at);
            let length = u32::try_from(copy.len()).unwrap_or(0);
            buffer.put_u32(1 << 31 | u32::from(payload_type & 0x7f) << 24 | offset << 10 | length);
        }
        buffer.put_u8(payload_type & 0x7f);
        for (_, copy) in kept.distances().filter_map(|d| self.at_distance(d)) {
            buffer.put_slice(copy);
        }
        buffer.put_slice(payload);
        let encoded = buffer.split().freeze();
        self.buffer = buffer;
        encoded
    }
}

/// One block of a RED payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedBlock {
    /// Payload type of what is inside.
    pub payload_type: u8,
    /// How much older than the packet it is, in ticks of the RTP clock; 0 for the packet's own.
    pub timestamp_offset: u32,
    /// Its payload; may be empty.
    pub payload: Bytes,
}

/// Takes a RED payload apart: hands every block to `each`, the oldest copies as they come and the
/// packet's own at the end. Returns whether it was well-formed; if not, nothing was handed out.
pub fn parse(payload: &Bytes, mut each: impl FnMut(RedBlock)) -> bool {
    let (mut headers, mut copies_bytes, mut at) = (0usize, 0usize, 0usize);
    let primary_type = loop {
        match payload.get(at) {
            None => return false,
            Some(first) if first & 0x80 == 0 => {
                at += PRIMARY_HEADER_BYTES;
                break first & 0x7f;
            }
            Some(_) => {
                let Some(header) = header_at(payload, at) else { return false };
                copies_bytes += (header & 0x3ff) as usize;
                headers += 1;
                at += HEADER_BYTES;
                if headers > MAX_BLOCKS {
                    return false;
                }
            }
        }
    };
    if payload.len() < at + copies_bytes {
        return false;
    }
    for n in 0..headers {
        let Some(header) = header_at(payload, n * HEADER_BYTES) else { return false };
        let length = (header & 0x3ff) as usize;
        each(RedBlock {
            payload_type: (header >> 24 & 0x7f) as u8,
            timestamp_offset: header >> 10 & MAX_TIMESTAMP_OFFSET,
            payload: payload.slice(at..at + length),
        });
        at += length;
    }
    each(RedBlock {
        payload_type: primary_type,
        timestamp_offset: 0,
        payload: payload.slice(at..),
    });
    true
}

fn header_at(payload: &[u8], at: usize) -> Option<u32> {
    let bytes = payload.get(at..at + HEADER_BYTES)?;
    Some(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

/// The farthest packet that is kept: 320 ms of 20 ms packets, just within the 14 bits of the
/// timestamp offset.
pub const MAX_DISTANCE: usize = 16;
/// Longest payload made here; with all headers it stays below 1200 bytes.
pub const MAX_PAYLOAD_BYTES: usize = 1100;
/// 14 bits (RFC 2198 §3): 341 ms at 48 kHz.
const MAX_TIMESTAMP_OFFSET: u32 = (1 << 14) - 1;
/// 10 bits (RFC 2198 §3).
const MAX_BLOCK_BYTES: usize = (1 << 10) - 1;
/// Shorter Opus packets only say that silence follows.
const MIN_COPY_BYTES: usize = 3;
const HEADER_BYTES: usize = 4;
const PRIMARY_HEADER_BYTES: usize = 1;
/// As libwebrtc's `red_payload_splitter.cc` has it.
const MAX_BLOCKS: usize = 32;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;

    fn blocks(payload: &Bytes) -> Vec<RedBlock> {
        let mut blocks = Vec::new();
        assert!(parse(payload, |b| blocks.push(b)));
        blocks
    }

    fn packet(n: u8) -> Bytes {
        Bytes::from(vec![n; 40 + usize::from(n)])
    }

    #[test]
    fn a_packet_carries_the_ones_asked_for() {
        let mut encoder = RedEncoder::default();
        let redundancy = Redundancy::of(&[1, 3]);
        for n in 0..3u8 {
            let timestamp = (u32::MAX - 960).wrapping_add(u32::from(n) * 960);
            encoder.encode(timestamp, &packet(n), 111, redundancy);
        }
        let timestamp = (u32::MAX - 960).wrapping_add(3 * 960);
        let encoded = encoder.encode(timestamp, &packet(3), 111, redundancy).unwrap();
        let expected = [(3 * 960, 0), (960, 2), (0, 3)].map(|(timestamp_offset, n)| RedBlock {
            payload_type: 111,
            timestamp_offset,
            payload: packet(n),
        });
        assert_eq!(blocks(&encoded), expected);
    }

    #[test]
    fn the_wire_format_is_that_of_rfc_2198() {
        let mut encoder = RedEncoder::default();
        encoder.encode(0, &Bytes::from_static(b"abc"), 111, Redundancy::NONE);
        let encoded =
            encoder.encode(960, &Bytes::from_static(b"de"), 111, Redundancy::of(&[1])).unwrap();
        // F=1, PT 111, offset 960 << 10 | length 3; then F=0, PT 111.
        assert_eq!(&encoded[..], [0xef, 0x0f, 0x00, 0x03, 0x6f, b'a', b'b', b'c', b'd', b'e']);
    }

    #[test]
    fn nothing_to_carry_is_no_red_packet() {
        let mut encoder = RedEncoder::default();
        assert_eq!(encoder.encode(0, &packet(0), 111, Redundancy::of(&[1])), None);
        assert_eq!(encoder.encode(960, &packet(1), 111, Redundancy::NONE), None);
        // After 400 ms of silence the offset no longer fits.
        assert_eq!(encoder.encode(960 * 21, &packet(2), 111, Redundancy::of(&[1])), None);
        // Silence itself is not worth a copy.
        encoder.encode(960 * 22, &Bytes::from_static(&[8]), 111, Redundancy::NONE);
        assert_eq!(encoder.encode(960 * 23, &packet(3), 111, Redundancy::of(&[1])), None);
    }

    #[test]
    fn the_payload_stays_within_one_datagram() {
        let mut encoder = RedEncoder::default();
        let long = Bytes::from(vec![1; 300]);
        let mut most = 0;
        for n in 0..20 {
            if let Some(red) = encoder.encode(n * 960, &long, 111, Redundancy::from_bits(u16::MAX))
            {
                most = most.max(red.len());
            }
        }
        assert!((900..=MAX_PAYLOAD_BYTES).contains(&most), "{most}");
    }

    #[test]
    fn cut_off_payloads_are_refused() {
        let mut encoder = RedEncoder::default();
        encoder.encode(0, &packet(0), 111, Redundancy::NONE);
        let whole = encoder.encode(960, &packet(1), 111, Redundancy::of(&[1])).unwrap();
        for length in 0..5 + 40 {
            let mut count = 0;
            assert!(!parse(&whole.slice(..length), |_| count += 1), "{length}");
            assert_eq!(count, 0);
        }
    }

    proptest! {
        #[test]
        fn any_payload_is_survived(payload: Vec<u8>) {
            let payload = Bytes::from(payload);
            let mut bytes = 0;
            let well_formed = parse(&payload, |b| bytes += b.payload.len());
            prop_assert!(bytes <= payload.len());
            prop_assert!(well_formed || bytes == 0);
        }

        #[test]
        fn what_is_encoded_is_parsed(
            sizes in proptest::collection::vec(0usize..400, 1..40),
            bits: u16,
            start: u32,
        ) {
            let mut encoder = RedEncoder::default();
            let packets: Vec<Bytes> =
                sizes.iter().enumerate().map(|(n, &s)| Bytes::from(vec![n as u8; s])).collect();
            for (n, packet) in packets.iter().enumerate() {
                let timestamp = start.wrapping_add(n as u32 * 960);
                let red = encoder.encode(timestamp, packet, 111, Redundancy::from_bits(bits));
                let Some(red) = red else { continue };
                prop_assert!(red.len() <= MAX_PAYLOAD_BYTES);
                for block in blocks(&red) {
                    let distance = (block.timestamp_offset / 960) as usize;
                    prop_assert_eq!(&block.payload, &packets[n - distance]);
                    prop_assert!(distance == 0 || bits >> (distance - 1) & 1 == 1);
                }
            }
        }
    }
}
