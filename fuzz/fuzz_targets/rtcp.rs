//! Compound RTCP packets, the stack's readers and writers.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| visavis_rtc::fuzzing::rtcp(input));
