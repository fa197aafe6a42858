//! No payload makes the RED parser panic; what it hands out lies within the payload, in order, and
//! what our encoder makes of arbitrary packets comes apart into them again.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use visavis_media::red::{self, MAX_PAYLOAD_BYTES, RedEncoder, Redundancy};

fuzz_target!(|data: &[u8]| {
    let payload = Bytes::copy_from_slice(data);
    let mut blocks = Vec::new();
    let well_formed = red::parse(&payload, |block| blocks.push(block));
    assert_eq!(well_formed, !blocks.is_empty());
    if let Some(own) = blocks.last() {
        assert_eq!(own.timestamp_offset, 0);
        assert!(blocks.iter().map(|b| b.payload.len()).sum::<usize>() < payload.len());
    }

    // Each packet: time step, length, copies (two bytes), payload.
    let mut encoder = RedEncoder::default();
    let mut sent: Vec<(u32, Bytes)> = Vec::new();
    let (mut rest, mut timestamp) = (data, 0u32);
    while let [step, length, high, low, tail @ ..] = rest {
        let (packet, next) = tail.split_at(usize::from(*length).min(tail.len()));
        let packet = Bytes::copy_from_slice(packet);
        timestamp = timestamp.wrapping_add(u32::from(*step) * 120);
        let redundancy = Redundancy::from_bits(u16::from_be_bytes([*high, *low]));
        let encoded = encoder.encode(timestamp, &packet, 111, redundancy);
        sent.push((timestamp, packet));
        if let Some(encoded) = encoded {
            assert!(encoded.len() <= MAX_PAYLOAD_BYTES);
            let well_formed = red::parse(&encoded, |block| {
                let at = timestamp.wrapping_sub(block.timestamp_offset);
                assert!(sent.contains(&(at, block.payload)));
            });
            assert!(well_formed);
        }
        rest = next;
    }
});
