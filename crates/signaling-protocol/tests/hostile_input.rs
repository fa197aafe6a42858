//! Whatever arrives, parsing ends with a message or an error, never with a panic.

use proptest::prelude::*;
use serde_json::{Map, Value};
use visavis_signaling_protocol::{
    CallCode, ClientMessage, ErrorCode, PeerId, ResumeToken, RoomCode, ServerMessage, SessionId,
};

fn parse_all(text: &str) {
    if let Err(error) = ClientMessage::parse(text) {
        assert!(matches!(
            error.code,
            ErrorCode::BadJson
                | ErrorCode::BadMessage
                | ErrorCode::BadRoomCode
                | ErrorCode::UnsupportedVersion
        ));
    }
    let _ = ServerMessage::parse(text);
    let _ = text.parse::<RoomCode>();
    let _ = text.parse::<CallCode>();
    let _ = PeerId::try_from(text.to_owned());
    let _ = SessionId::try_from(text.to_owned());
    let _ = ResumeToken::try_from(text.to_owned());
    if let Some(name) = ServerMessage::clean_display_name(text) {
        assert!(!name.is_empty() && name.chars().count() <= 64);
        assert!(!name.chars().any(char::is_control));
        assert_eq!(ServerMessage::clean_display_name(&name), Some(name));
    }
}

/// Words of the protocol and some that are not.
fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "type",
            "join",
            "signal",
            "leave",
            "ping",
            "joined",
            "peer-joined",
            "peer-left",
            "error",
            "pong",
            "protocolVersion",
            "room",
            "abc-def",
            "displayName",
            "resumeToken",
            "session",
            "received",
            "to",
            "from",
            "description",
            "candidate",
            "sdp",
            "offer",
            "answer",
            "sdpMid",
            "sdpMLineIndex",
            "usernameFragment",
            "peerId",
            "peers",
            "polite",
            "iceServers",
            "urls",
            "username",
            "credential",
            "resumed",
            "code",
            "reason",
            "left",
            "room-full",
            "message",
        ])
        .prop_map(str::to_owned),
        ".*",
    ]
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        Just(Value::from(1)),
        word().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((word(), inner), 0..8)
                .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

proptest! {
    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        parse_all(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn any_json(value in json()) {
        parse_all(&value.to_string());
    }

    #[test]
    fn any_fields_of_a_known_message(
        kind in prop::sample::select(vec!["join", "signal", "leave", "ping", "joined", "error"]),
        fields in prop::collection::vec((word(), json()), 0..8),
    ) {
        let mut object: Map<String, Value> = fields.into_iter().collect();
        object.insert("type".into(), kind.into());
        parse_all(&Value::Object(object).to_string());
    }

    #[test]
    fn codes_survive_being_written_and_read(letters in "([a-zA-Z]{6}){1,2}") {
        let code: CallCode = letters.parse().map_err(|e| TestCaseError::fail(format!("{e}")))?;
        prop_assert_eq!(format!("h{}", code.link_path()).parse::<CallCode>(), Ok(code.clone()));
        prop_assert_eq!(code.to_string().parse::<CallCode>(), Ok(code));
    }
}

#[test]
fn deep_nesting_is_refused_not_followed() {
    let text = "[".repeat(60_000);
    parse_all(&text);
    parse_all(&format!("{{\"type\":\"join\",\"protocolVersion\":{text}"));
}
