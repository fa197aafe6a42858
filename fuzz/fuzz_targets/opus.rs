//! Opus packets through one decoder as the jitter buffer uses it: decoded, with their in-band FEC, lost.
#![no_main]

use libfuzzer_sys::fuzz_target;
use visavis_media::codec::opus::{
    MAX_PACKET_SAMPLES, OpusDecoder, has_fec, is_dtx, packet_samples,
};

fuzz_target!(|input: &[u8]| {
    let Ok(mut decoder) = OpusDecoder::new() else { return };
    let (mut rest, mut samples) = (input, Vec::new());
    // Each with what is done with it and its length (11 bits).
    while let [high, low, tail @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high & 7, *low])).min(tail.len());
        let (packet, next) = tail.split_at(length);
        samples.clear();
        let known = packet_samples(packet);
        let _ = (has_fec(packet), is_dtx(packet));
        let decoded = match high >> 6 {
            0 | 1 => decoder.decode(packet, &mut samples),
            2 => decoder.decode_fec(packet, known.unwrap_or(960), &mut samples),
            _ => decoder.conceal(usize::from(*low) * 120, &mut samples),
        };
        assert!(samples.len() <= MAX_PACKET_SAMPLES);
        assert!(decoded.is_err() || samples.iter().all(|sample| sample.is_finite()));
        rest = next;
    }
});
