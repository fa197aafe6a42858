//! Any sequence of RTP payloads, of one codec and then of another, goes through assembler and decoders without a
//! panic.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use visavis_media::assembler::{AssemblerOutput, FrameAssembler};
use visavis_media::codec::{VideoDecoder, video_decoder};
use visavis_media::{MediaTime, ReceivedRtp, VideoCodec};

fuzz_target!(|data: &[u8]| {
    // The codec to begin with and the one after so many packets.
    let [codecs, change_after, data @ ..] = data else { return };
    let codec = |bits: u8| VideoCodec::ALL[usize::from(bits & 3)];
    let mut assembler = FrameAssembler::new();
    let mut decoder: Option<(VideoCodec, Box<dyn VideoDecoder>)> = None;
    let mut now = MediaTime::default();
    // Each packet: sequence step, flags, length, payload.
    let (mut rest, mut sequence, mut timestamp, mut packets) = (data, 0u16, 0u32, 0usize);
    while let [step, flags, length, tail @ ..] = rest {
        let (payload, next) = tail.split_at(usize::from(*length).min(tail.len()));
        sequence = sequence.wrapping_add(u16::from(*step));
        timestamp = timestamp.wrapping_add(u32::from(flags >> 4) * 3000);
        now = now + std::time::Duration::from_millis(u64::from(flags >> 2 & 3) * 40);
        let changed = packets >= usize::from(*change_after);
        packets += 1;
        let packet = ReceivedRtp {
            codec: Some(codec(if changed { codecs >> 2 } else { *codecs })),
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
                if decoder.as_ref().is_none_or(|(codec, _)| *codec != frame.codec) {
                    decoder = Some((frame.codec, video_decoder(frame.codec)));
                }
                if let Some((_, decoder)) = &mut decoder {
                    let _ = decoder.decode(&frame.data, now);
                }
            }
        }
        rest = next;
    }
});
