//! Who may depend on whom (docs/architecture.md).
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

#[test]
fn rooms_depend_only_on_the_rooms_below() {
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("visavis", &["visavis-engine", "visavis-signaling"] as &[&str]),
        ("visavis-cli", &["visavis-engine"]),
        (
            "visavis-engine",
            &[
                "visavis-call",
                "visavis-capture",
                "visavis-media",
                "visavis-rtc",
                "visavis-signaling-client",
                "visavis-signaling-protocol",
            ],
        ),
        ("visavis-call", &["visavis-proof", "visavis-signaling-protocol"]),
        ("visavis-signaling-client", &["visavis-signaling-protocol"]),
        ("visavis-signaling", &["visavis-signaling-protocol"]),
        ("visavis-rtc", &["visavis-ice", "visavis-media"]),
        ("visavis-capture", &["visavis-media"]),
        ("visavis-ice", &[]),
        ("visavis-media", &[]),
        ("visavis-media-testing", &["visavis-media"]),
        ("visavis-proof", &[]),
        ("visavis-signaling-protocol", &[]),
    ]);
    let cargo = option_env!("CARGO").unwrap_or("cargo");
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut seen = BTreeSet::new();
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        if name == "visavis-tests" {
            continue;
        }
        let may =
            allowed.get(name).unwrap_or_else(|| panic!("{name} has no place in the layering"));
        seen.insert(name);
        for dependency in package["dependencies"].as_array().unwrap() {
            let (on, dev) = (dependency["name"].as_str().unwrap(), &dependency["kind"] == "dev");
            if on.starts_with("visavis") && !dev {
                assert!(may.contains(&on), "{name} must not depend on {on}");
            }
            // Session, agent and media are sans-IO and know no WebRTC stack, the window never waits.
            let forbidden = match name {
                "visavis-call" | "visavis-ice" | "visavis-media" | "visavis-proof" => {
                    &["tokio", "egui", "webrtc", "rtc"] as &[&str]
                }
                "visavis" => &["tokio", "webrtc", "rtc"],
                "visavis-signaling-protocol" => &["tokio"],
                _ => &[],
            };
            assert!(dev || !forbidden.contains(&on), "{name} must not depend on {on}");
        }
    }
    assert_eq!(seen.len(), allowed.len(), "every room is there");
}
