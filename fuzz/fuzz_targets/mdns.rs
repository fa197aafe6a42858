//! The stack's multicast DNS.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| visavis_rtc::fuzzing::mdns(input));
