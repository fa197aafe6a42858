//! SRTP and SRTCP, authentic and not.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| visavis_rtc::fuzzing::srtp(input));
