//! RTP packets, the stack's reader and writer.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| visavis_rtc::fuzzing::rtp(input));
