//! A byte stream as the decoder gets it, in several access units: each is survived, and what comes out has the
//! size that the parameter sets allowed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use visavis_media::MediaTime;
use visavis_media::codec::VideoDecoder;
use visavis_media::codec::h264::H264Decoder;

fuzz_target!(|input: &[u8]| {
    let mut decoder = H264Decoder::new();
    let mut rest = input;
    // Each with its length (16 bits) in front.
    while let [high, low, tail @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(tail.len());
        let (unit, next) = tail.split_at(length);
        let _ = decoder.decode(unit, MediaTime::default());
        rest = next;
    }
});
