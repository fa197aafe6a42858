//! Candidate lines: ours, and for what we let through the stack's parser.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| visavis_rtc::fuzzing::candidate(input));
