//! Every golden file is read and written back as the same JSON value.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::Value;
use visavis_signaling_protocol::{
    ClientMessage, ControlMessage, ErrorCode, IceCandidateInit, SdpType, ServerMessage,
    SignalPayload, limits,
};

/// `(file name without .json, text)` of every golden file in `folder`.
fn golden(folder: &str) -> Vec<(String, String)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(folder);
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn client_messages_survive_reading_and_writing() {
    for (name, text) in golden("client") {
        let message = ClientMessage::parse(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        let written = serde_json::to_string(&message).unwrap();
        assert_eq!(value(&written), value(&text), "{name}");
        assert_eq!(ClientMessage::parse(&written).unwrap(), message, "{name}");
    }
}

#[test]
fn server_messages_survive_reading_and_writing() {
    for (name, text) in golden("server") {
        let message = ServerMessage::parse(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        let written = serde_json::to_string(&message).unwrap();
        assert_eq!(value(&written), value(&text), "{name}");
        assert_eq!(ServerMessage::parse(&written).unwrap(), message, "{name}");
    }
}

#[test]
fn messages_of_the_data_channel_survive_reading_and_writing() {
    for (name, text) in golden("control") {
        let message: ControlMessage =
            serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(serde_json::to_value(message).unwrap(), value(&text), "{name}");
    }
}

fn specification() -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/protocol.md");
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn examples_of_the_specification_are_golden() {
    let golden: Vec<_> = ["client", "server", "control"]
        .into_iter()
        .flat_map(golden)
        .map(|(_, text)| value(&text))
        .collect();
    let text = specification();
    let examples: Vec<_> =
        text.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(examples.len() > 10);
    for example in examples {
        assert!(golden.contains(&value(example)), "no golden file holds {example}");
    }
}

#[test]
fn the_specification_names_every_error_and_the_limits() {
    let text = specification();
    for code in ErrorCode::ALL {
        let row = text.lines().find(|line| line.starts_with(&format!("| `{}` |", code.as_str())));
        let cells: Vec<_> = row.unwrap_or_else(|| panic!("{code:?}")).split('|').collect();
        assert_eq!(cells[3].trim(), if code.is_fatal() { "yes" } else { "no" }, "{code:?}");
        let again = cells[4].trim().starts_with("Connect again");
        assert_eq!(again, code.is_transient(), "{code:?}");
    }
    for words in [
        format!("Size of a message | {} KiB", limits::MAX_MESSAGE_BYTES / 1024),
        format!("{}, and {} at once", limits::MESSAGES_PER_SECOND, limits::MESSAGE_BURST),
        format!("Joins a minute from one address | {} |", limits::JOINS_PER_MINUTE),
        format!("Time until `join` | {} s", limits::JOIN_DEADLINE.as_secs()),
        format!("Silence | {} s", limits::SILENCE_LIMIT.as_secs()),
        format!("A seat left with `mayReturn` | {} s", limits::RETURN_LIMIT.as_secs()),
        format!("ping` every {} s", limits::PING_INTERVAL.as_secs()),
        format!("{}, and {} KiB", limits::BACKLOG_MESSAGES, limits::BACKLOG_BYTES / 1024),
        format!(
            "at one room | {}, each for {} s",
            limits::MAX_KNOCKS,
            limits::KNOCK_LIMIT.as_secs()
        ),
        format!("{}, and one each {} s", limits::KNOCK_BURST, limits::KNOCK_INTERVAL.as_secs()),
        format!("Display name | {} characters", limits::MAX_DISPLAY_NAME_CHARS),
        format!("takes the first {} usable", limits::MAX_ICE_SERVERS),
        format!("the first {} URLs", limits::MAX_ICE_URLS),
        format!("more than {} bytes", limits::MAX_ICE_TEXT_BYTES),
    ] {
        assert!(text.contains(&words), "{words}");
    }
}

#[test]
fn every_type_and_every_error_code_has_a_golden_file() {
    let names = |folder: &str| -> BTreeSet<String> {
        golden(folder).into_iter().map(|(_, text)| value(&text)["type"].to_string()).collect()
    };
    let quoted = |names: &[&str]| names.iter().map(|n| format!("\"{n}\"")).collect::<BTreeSet<_>>();
    assert_eq!(
        names("client"),
        quoted(&["join", "signal", "leave", "lock", "connected", "admit", "ping"])
    );
    assert_eq!(
        names("server"),
        quoted(&[
            "joined",
            "peer-joined",
            "peer-left",
            "signal",
            "lock",
            "knocking",
            "knock",
            "knock-gone",
            "error",
            "pong"
        ])
    );
    let codes: BTreeSet<_> = golden("server")
        .into_iter()
        .filter_map(|(_, text)| match ServerMessage::parse(&text).unwrap() {
            ServerMessage::Error { code, .. } => Some(code.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(codes, ErrorCode::ALL.into_iter().map(ErrorCode::as_str).collect());
}

#[test]
fn codes_are_written_as_they_are_named() {
    for code in ErrorCode::ALL {
        assert_eq!(serde_json::to_value(code).unwrap(), Value::from(code.as_str()));
    }
}

#[test]
fn bad_messages_are_refused_with_their_code() {
    for (name, text) in golden("bad") {
        let code = name.split_once('.').unwrap().1;
        let error = ClientMessage::parse(&text).expect_err(&name);
        assert_eq!(error.code.as_str(), code, "{name}: {error}");
    }
}

#[test]
fn payloads_hold_what_the_dictionaries_say() {
    let text = |name: &str| golden("client").into_iter().find(|(n, _)| n == name).unwrap().1;
    let ClientMessage::Signal { payload: SignalPayload::Description(description, _), .. } =
        ClientMessage::parse(&text("signal-offer")).unwrap()
    else {
        panic!("not a description");
    };
    assert_eq!(description.kind, SdpType::Offer);
    assert!(description.sdp.starts_with("v=0\r\n"));
    let ClientMessage::Signal { payload: SignalPayload::Candidate(candidate), .. } =
        ClientMessage::parse(&text("signal-candidate")).unwrap()
    else {
        panic!("not a candidate");
    };
    assert_eq!(
        candidate,
        IceCandidateInit {
            candidate: "candidate:1 1 udp 2130706431 192.0.2.7 50000 typ host".into(),
            sdp_mid: Some("0".into()),
            sdp_m_line_index: Some(0),
            username_fragment: Some("uF7x".into()),
        }
    );
}

fn list(file: &str) -> Vec<Value> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(file);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn names_are_cleaned_when_they_are_read() {
    for case in list("names.json") {
        let name = case["name"].as_str().unwrap();
        let shown = ServerMessage::clean_display_name(name);
        assert_eq!(shown.as_deref(), case["shown"].as_str(), "{name:?}");
        // What has been cleaned stays as it is.
        let again = shown.as_deref().and_then(ServerMessage::clean_display_name);
        assert_eq!(again, shown, "{name:?}");
        let text = serde_json::json!({
            "type": "peer-joined", "peerId": "a", "session": "b", "displayName": name,
        });
        let ServerMessage::PeerJoined { peer } = ServerMessage::parse(&text.to_string()).unwrap()
        else {
            panic!("not a peer")
        };
        assert_eq!(peer.display_name, shown, "{name:?}");
    }
}

#[test]
fn few_and_sound_ice_servers_are_taken() {
    let joined = golden("server").into_iter().find(|(name, _)| name == "joined").unwrap().1;
    for case in list("ice-servers.json") {
        let mut message = value(&joined);
        message["iceServers"] = case["servers"].clone();
        let ServerMessage::Joined { ice_servers, .. } =
            ServerMessage::parse(&message.to_string()).unwrap()
        else {
            panic!("not joined")
        };
        assert_eq!(serde_json::to_value(ice_servers).unwrap(), case["usable"], "{case}");
    }
}

#[test]
fn null_and_unknown_fields_are_taken_for_absent() {
    // What browsers write: RTCIceCandidate.toJSON() gives null for what it does not know.
    let text = r#"{"type":"signal","to":"a","candidate":{"candidate":"","sdpMid":null,
        "sdpMLineIndex":null,"usernameFragment":null,"foundation":"1"},"future":[1]}"#;
    let ClientMessage::Signal { payload: SignalPayload::Candidate(candidate), .. } =
        ClientMessage::parse(text).unwrap()
    else {
        panic!("not a candidate");
    };
    assert_eq!(candidate.sdp_mid, None);
}

#[test]
fn errors_quote_nothing_of_the_message() {
    for (name, text) in golden("bad") {
        let message = ClientMessage::parse(&text).expect_err(&name).message;
        for secret in ["abc-def", "a94be07c", "192.0.2.7", "v=0"] {
            assert!(!message.contains(secret) || message.contains("such as"), "{name}: {message}");
        }
    }
}
