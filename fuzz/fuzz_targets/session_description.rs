//! Session descriptions: what we read and rewrite, the stack's parser, and its negotiation.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| visavis_rtc::fuzzing::session_description(input));
