//! RTP and RTCP through our interceptors while we send.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| visavis_rtc::fuzzing::media_path(input));
