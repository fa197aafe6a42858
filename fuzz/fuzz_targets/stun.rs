//! STUN and TURN messages: everything of ours and of the stack that reads them.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| visavis_rtc::fuzzing::stun(input));
