//! AV1 temporal units to RTP payloads (AV1 RTP specification §4): no layers. OBUs go without their sizes, which
//! those of the elements replace.

use bytes::{BufMut, Bytes, BytesMut};
use visavis_media::obu::{HAS_SIZE_FIELD, Obu, SEQUENCE_HEADER, is_wanted, leb128, leb128_len};

use super::equal_size;

/// Splits a temporal unit. A sequence header in it means that a new coded video sequence starts. What receivers
/// ignore is left out. None if it is not OBUs with sizes.
pub(super) fn payloads(mut unit: &[u8], max_len: usize) -> Vec<Bytes> {
    let mut obus = Vec::new();
    while !unit.is_empty() {
        let Some(obu) = Obu::take(&mut unit) else { return Vec::new() };
        if is_wanted(obu.kind) {
            obus.push(obu);
        }
    }
    let total: usize = obus.iter().map(|obu| len(obu) + leb128_len(len(obu))).sum();
    // The last element has no size if there are few.
    let spared = obus.last().filter(|_| obus.len() <= MAX_COUNT).map_or(0, |o| leb128_len(len(o)));
    let capacity = equal_size(total - spared, max_len - 1) + 1;

    let mut payloads = Vec::with_capacity(total / capacity + 1);
    let mut packet = Packet::default();
    for obu in &obus {
        let mut sent = 0;
        while sent < len(obu) {
            let piece = (len(obu) - sent).min(packet.room(capacity));
            if piece == 0 {
                payloads.push(packet.finish());
                packet = Packet { continues: sent > 0, ..Packet::default() };
                continue;
            }
            packet.push(obu, sent, sent + piece);
            sent += piece;
        }
    }
    if !packet.elements.is_empty() {
        payloads.push(packet.finish());
    }
    if obus.iter().any(|obu| obu.kind == SEQUENCE_HEADER)
        && let Some(first) = payloads.first_mut()
    {
        first[0] |= STARTS_SEQUENCE;
    }
    payloads.into_iter().map(BytesMut::freeze).collect()
}

/// Of an OBU without its size.
fn len(obu: &Obu<'_>) -> usize {
    obu.header.len() + obu.payload.len()
}

/// One under way.
#[derive(Default)]
struct Packet<'a> {
    /// OBUs, each from one byte to another, as if without size.
    elements: Vec<(&'a Obu<'a>, usize, usize)>,
    /// Bytes of the elements, each with its size.
    sized_len: usize,
    /// The first one began in an earlier packet.
    continues: bool,
    /// The last one ends in a later packet.
    goes_on: bool,
}

impl<'a> Packet<'a> {
    /// Bytes that one element more may have.
    fn room(&self, capacity: usize) -> usize {
        let room = capacity.saturating_sub(1 + self.sized_len);
        let size_len = if self.elements.len() < MAX_COUNT { 0 } else { leb128_len(room) };
        room.saturating_sub(size_len)
    }

    fn push(&mut self, obu: &'a Obu<'a>, from: usize, to: usize) {
        self.elements.push((obu, from, to));
        self.sized_len += leb128_len(to - from) + to - from;
        self.goes_on = to < len(obu);
    }

    fn finish(self) -> BytesMut {
        let count = self.elements.len();
        let counted = count <= MAX_COUNT;
        let mut payload = BytesMut::with_capacity(1 + self.sized_len);
        payload.put_u8(
            if self.continues { CONTINUES } else { 0 }
                | if self.goes_on { GOES_ON } else { 0 }
                | if counted { (count as u8) << 4 } else { 0 },
        );
        for (index, (obu, from, to)) in self.elements.into_iter().enumerate() {
            if !(counted && index + 1 == count) {
                payload.extend(leb128(to - from));
            }
            let header_len = obu.header.len();
            for (at, &byte) in obu.header.iter().enumerate().take(to).skip(from) {
                payload.put_u8(if at == 0 { byte & !HAS_SIZE_FIELD } else { byte });
            }
            let in_payload = |at: usize| at.saturating_sub(header_len);
            payload.put_slice(&obu.payload[in_payload(from)..in_payload(to)]);
        }
        payload
    }
}

// AV1 RTP specification §4.4.
const CONTINUES: u8 = 0x80;
const GOES_ON: u8 = 0x40;
const STARTS_SEQUENCE: u8 = 0x08;
/// More elements cannot be counted: each has a size then.
const MAX_COUNT: usize = 3;
