//! No text makes the parsers of signaling and of the data channel panic; what parses is written and
//! read again to the same message.
#![no_main]

use libfuzzer_sys::fuzz_target;
use visavis_signaling_protocol::{CallCode, ClientMessage, ControlMessage, RoomCode, ServerMessage};

fuzz_target!(|text: &str| {
    if let Ok(message) = serde_json::from_str::<ServerMessage>(text) {
        let again = serde_json::to_string(&message).expect("a message can be written");
        assert_eq!(serde_json::from_str::<ServerMessage>(&again).ok(), Some(message));
    }
    let _ = ClientMessage::parse(text);
    let _ = serde_json::from_str::<ControlMessage>(text);
    let _ = (text.parse::<RoomCode>(), text.parse::<CallCode>());
});
