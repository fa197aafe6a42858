//! Both ends of a DTLS handshake behind the filter in front of the stack, disturbed.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| visavis_rtc::fuzzing::dtls_guarded(input));
