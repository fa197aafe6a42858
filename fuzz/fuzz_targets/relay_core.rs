//! The relay's state machine with authentic clients, strangers and peers.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| visavis_signaling::fuzzing::relay_core(input));
