//! DCEP and data-channel messages.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| visavis_rtc::fuzzing::data_channel(input));
