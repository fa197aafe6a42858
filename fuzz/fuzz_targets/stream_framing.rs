//! Datagrams on streams: RFC 4571 and TURN.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| visavis_rtc::fuzzing::stream_framing(input));
