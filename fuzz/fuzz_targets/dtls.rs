//! Both ends of a DTLS handshake as in a call, disturbed.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| visavis_rtc::fuzzing::dtls(input));
