//! Any sequence of RTP payloads, plain or redundant (RED), goes through the jitter buffer without a panic.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use visavis_media::jitter::JitterBuffer;
use visavis_media::red;
use visavis_media::{MediaTime, PlayoutBlock, ReceivedRtp};

fuzz_target!(|data: &[u8]| {
    let Ok(mut jitter) = JitterBuffer::new() else { return };
    let mut now = MediaTime::default();
    let (mut rest, mut sequence, mut timestamp) = (data, 0u16, 0u32);
    while let [step, flags, length, tail @ ..] = rest {
        let (payload, next) = tail.split_at(usize::from(*length).min(tail.len()));
        sequence = sequence.wrapping_add(u16::from(*step));
        timestamp = timestamp.wrapping_add(u32::from(flags >> 4) * 480);
        now = now + std::time::Duration::from_millis(u64::from(flags >> 2 & 3) * 10);
        let payload = Bytes::copy_from_slice(payload);
        let mut push = |payload: Bytes, timestamp, retransmitted| {
            jitter.push(&ReceivedRtp {
                codec: None,
                sequence,
                timestamp,
                marker: flags & 1 != 0,
                payload,
                arrival: now,
                retransmitted,
            });
        };
        if flags & 2 != 0 {
            red::parse(&payload, |block| {
                let offset = block.timestamp_offset;
                push(block.payload, timestamp.wrapping_sub(offset), offset != 0);
            });
        } else {
            push(payload, timestamp, false);
        }
        jitter.pull_into(now, &mut PlayoutBlock::SILENCE.clone());
        rest = next;
    }
});
