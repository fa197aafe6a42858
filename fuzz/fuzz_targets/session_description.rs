//! No text makes the stack's parser of session descriptions panic; what it takes can be written, and
//! is taken again.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use rtc_sdp::description::session::SessionDescription;

fuzz_target!(|text: &str| {
    if let Ok(description) = SessionDescription::unmarshal(&mut Cursor::new(text.as_bytes())) {
        let again = description.marshal();
        assert!(SessionDescription::unmarshal(&mut Cursor::new(again.as_bytes())).is_ok(), "{again}");
    }
});
