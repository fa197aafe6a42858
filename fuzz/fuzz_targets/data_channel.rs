//! DCEP and data-channel messages.
#![no_main]

libfuzzer_sys::fuzz_target!(init: visavis_fuzz::tell_panics(), |input: &[u8]| {
    visavis_fuzz::contained(visavis_rtc::fuzzing::data_channel, input);
});
