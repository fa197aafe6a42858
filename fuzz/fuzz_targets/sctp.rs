//! Both ends of an SCTP association, disturbed.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| visavis_rtc::fuzzing::sctp(input));
