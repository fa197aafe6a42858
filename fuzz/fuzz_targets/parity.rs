//! Repair by parity.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| visavis_rtc::fuzzing::parity(input));
