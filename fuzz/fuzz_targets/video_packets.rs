//! Any sequence of RTP payloads goes through assembler and decoder without a panic.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use visavis_media::assembler::{AssemblerOutput, FrameAssembler};
use visavis_media::codec::VideoDecoder;
use visavis_media::codec::h264::H264Decoder;
use visavis_media::{MediaTime, ReceivedRtp};

fuzz_target!(|data: &[u8]| {
    let mut assembler = FrameAssembler::new();
    let mut decoder = H264Decoder::new();
    let mut now = MediaTime::default();
    // Each packet: sequence step, flags, length, payload.
    let (mut rest, mut sequence, mut timestamp) = (data, 0u16, 0u32);
    while let [step, flags, length, tail @ ..] = rest {
        let (payload, next) = tail.split_at(usize::from(*length).min(tail.len()));
        sequence = sequence.wrapping_add(u16::from(*step));
        timestamp = timestamp.wrapping_add(u32::from(flags >> 4) * 3000);
        now = now + std::time::Duration::from_millis(u64::from(flags >> 2 & 3) * 40);
        let packet = ReceivedRtp {
            sequence,
            timestamp,
            marker: flags & 1 != 0,
            payload: Bytes::copy_from_slice(payload),
            arrival: now,
            retransmitted: flags & 2 != 0,
        };
        assembler.push(packet, now);
        while let Some(output) = assembler.poll(now) {
            if let AssemblerOutput::Frame(frame) = output {
                let _ = decoder.decode(&frame.data);
            }
        }
        rest = next;
    }
});
