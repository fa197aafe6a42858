//! Forward error correction for video: each picture is followed by parity packets over it and the
//! pictures right before it, as many as the loss on the path calls for, so that most pictures are
//! whole at once, and nearly all others with the next picture's parity instead of a round trip later. Between our own peers only: it is used when the other side's description
//! announces it, which browsers' do not. `docs/protocol.md` specifies it.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |   first sequence number       |    blocks     |     index     |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                          parity ...                           |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
//!
//! The parity is over blocks made of the protected packets: two octets with the length of the
//! payload, its highest bit the RTP marker; the payload type; the RTP timestamp; the payload.

mod code;
mod receiver;
mod sender;

pub(crate) use receiver::ParityReceiver;
pub(crate) use sender::ParitySender;

use bytes::Bytes;
use rtc::rtp;

/// `sdp` with the session-level attribute that says that we repair by parity. An attribute and not
/// a payload format, because the stack offers nothing that it does not know; others ignore
/// attributes that they do not know (RFC 8866 §5.13).
pub(crate) fn announce(sdp: &str) -> String {
    let attribute = format!("a={ATTRIBUTE}:{VALUE}\r\n");
    match sdp.find("m=") {
        Some(media) => [&sdp[..media], &attribute, &sdp[media..]].concat(),
        None => sdp.to_owned(),
    }
}

/// Whether the other side's description has it.
pub(crate) fn is_announced(sdp: &str) -> bool {
    sdp.lines().any(|line| {
        let value = line.strip_prefix("a=").and_then(|l| l.strip_prefix(ATTRIBUTE));
        value.and_then(|v| v.strip_prefix(':')).is_some_and(|v| v.trim() == VALUE)
    })
}

const ATTRIBUTE: &str = "x-visavis-parity";
/// One number for both sides: browsers, whose numbers vary, take no part.
pub(crate) const PAYLOAD_TYPE: u8 = 104;
/// Payload type and version; peers with another version use none.
const VALUE: &str = "104/2";

/// What a parity packet protects: `blocks` packets from `first_sequence` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    first_sequence: u16,
    blocks: u8,
    /// Counts up with each parity packet, modulo [`code::MAX_BLOCKS`].
    index: u8,
}

impl Header {
    fn write(self) -> [u8; HEADER_BYTES] {
        let [a, b] = self.first_sequence.to_be_bytes();
        [a, b, self.blocks, self.index]
    }

    /// `None` if it is malformed.
    fn read(payload: &[u8]) -> Option<(Self, &[u8])> {
        let (head, parity) = payload.split_first_chunk::<HEADER_BYTES>()?;
        let header = Self {
            first_sequence: u16::from_be_bytes([head[0], head[1]]),
            blocks: head[2],
            index: head[3],
        };
        let sensible = (1..=code::MAX_BLOCKS).contains(&usize::from(header.blocks))
            && usize::from(header.index) < code::MAX_BLOCKS
            && parity.len() > BLOCK_HEADER_BYTES;
        sensible.then_some((header, parity))
    }

    /// The weight of the packet with this sequence number.
    fn weight(self, sequence: u16) -> u8 {
        code::weight(self.index, sequence.to_be_bytes()[1])
    }
}

/// Adds the block of a protected packet, times `factor`, to a parity block.
fn add_packet(parity: &mut [u8], packet: &rtp::Packet, factor: u8) {
    let length = u16::try_from(packet.payload.len()).unwrap_or(0) & 0x7fff;
    let [a, b] = (length | if packet.header.marker { 0x8000 } else { 0 }).to_be_bytes();
    let [d, e, f, g] = packet.header.timestamp.to_be_bytes();
    code::add_scaled(parity, &[a, b, packet.header.payload_type, d, e, f, g], factor);
    if let Some(rest) = parity.get_mut(BLOCK_HEADER_BYTES..) {
        code::add_scaled(rest, &packet.payload, factor);
    }
}

/// The packet of a repaired block, as far as it is protected; `None` if it makes no sense.
fn read_block(block: &[u8], sequence_number: u16) -> Option<rtp::Packet> {
    let ([a, b, payload_type, timestamp @ ..], rest) =
        block.split_first_chunk::<BLOCK_HEADER_BYTES>()?;
    let length = u16::from_be_bytes([*a, *b]);
    let payload = rest.get(..usize::from(length & 0x7fff)).filter(|p| !p.is_empty())?;
    let header = rtp::Header {
        version: 2,
        marker: length & 0x8000 != 0,
        payload_type: *payload_type,
        timestamp: u32::from_be_bytes(*timestamp),
        sequence_number,
        ..Default::default()
    };
    Some(rtp::Packet { header, payload: Bytes::copy_from_slice(payload) })
}

const HEADER_BYTES: usize = 4;
const BLOCK_HEADER_BYTES: usize = 7;

#[cfg(test)]
mod tests;
