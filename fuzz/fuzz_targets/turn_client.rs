//! The stack's TURN client, with its relay and with strangers.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| visavis_rtc::fuzzing::turn_client(input));
