//! VP8 frames one after another through one decoder: each is survived.
#![no_main]

use libfuzzer_sys::fuzz_target;
use visavis_media::VideoCodec;

fuzz_target!(|input: &[u8]| visavis_fuzz::decode_video(VideoCodec::Vp8, input));
