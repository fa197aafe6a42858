//! The stack's ICE agent, with strangers and with a peer that knows the password.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| visavis_rtc::fuzzing::ice_agent(input));
