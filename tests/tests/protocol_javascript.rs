//! The page's JavaScript reads and writes the golden messages exactly as the Rust types do.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use visavis_signaling_protocol::clean_name;
use visavis_tests::browser::Browser;
use visavis_tests::program::Server;

const LIMIT: Duration = Duration::from_secs(20);

/// Name and content of every fixture of a kind, sorted.
fn fixtures(kind: &str) -> anyhow::Result<Vec<(String, String)>> {
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../crates/signaling-protocol/fixtures")
        .join(kind);
    let mut all = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        all.push((format!("{kind}/{name}"), fs::read_to_string(&path)?));
    }
    all.sort();
    ensure!(!all.is_empty(), "no fixtures in {}", folder.display());
    Ok(all)
}

#[test]
fn javascript_agrees_with_every_golden_message() -> anyhow::Result<()> {
    let server = Server::start()?;
    let browser = Browser::start(&[])?;
    let page = browser.open(server.url())?;
    page.wait_for("document.readyState === 'complete'", LIMIT)?;
    page.run_async("import('/protocol.js').then((module) => { globalThis.protocol = module; })")?;

    for (kind, parse) in [
        ("client", "parseClientMessage"),
        ("server", "parseServerMessage"),
        ("control", "parseControlMessage"),
    ] {
        for (name, text) in fixtures(kind)? {
            let back = page
                .run(&format!("protocol.serialize(protocol.{parse}({}))", json!(text)))
                .with_context(|| name.clone())?;
            let back: Value = serde_json::from_str(back.as_str().unwrap_or_default())?;
            let golden: Value = serde_json::from_str(&text)?;
            assert_eq!(back, golden, "{name}");
        }
    }
    for (name, text) in fixtures("bad")? {
        // By its name, so that a slip in the script does not count as a refusal.
        let outcome = page.run(&format!(
            "(() => {{
               try {{ return protocol.parseClientMessage({}); }} catch (error) {{ return error.name; }}
             }})()",
            json!(text)
        ))?;
        assert_eq!(outcome, json!("ProtocolError"), "{name}");
    }
    Ok(())
}

#[test]
fn javascript_cleans_names_and_ice_servers_as_rust_does() -> anyhow::Result<()> {
    let server = Server::start()?;
    let browser = Browser::start(&[])?;
    let page = browser.open(server.url())?;
    page.run_async("import('/protocol.js').then((module) => { globalThis.protocol = module; })")?;

    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/signaling-protocol/fixtures");
    let list = |file: &str| -> anyhow::Result<Vec<Value>> {
        Ok(serde_json::from_str(&fs::read_to_string(folder.join(file))?)?)
    };
    for case in list("names.json")? {
        let message = json!({
            "type": "peer-joined", "peerId": "a", "session": "b", "displayName": case["name"],
        });
        let read =
            format!("protocol.parseServerMessage({}).displayName", json!(message.to_string()));
        assert_eq!(page.run(&format!("{read} ?? null"))?, case["shown"], "{}", case["name"]);
    }
    let joined = fs::read_to_string(folder.join("server/joined.json"))?;
    for case in list("ice-servers.json")? {
        let mut message: Value = serde_json::from_str(&joined)?;
        message["iceServers"] = case["servers"].clone();
        let read = format!("protocol.parseServerMessage({})", json!(message.to_string()));
        let taken = page.run(&format!("JSON.stringify({read}.iceServers)"))?;
        let taken: Value = serde_json::from_str(taken.as_str().unwrap_or_default())?;
        assert_eq!(taken, case["usable"], "{case}");
        // And the browser takes them all.
        page.run(&format!("new RTCPeerConnection({{ iceServers: {read}.iceServers }}).close()"))?;
    }
    Ok(())
}

#[test]
fn every_character_is_cleaned_in_javascript_as_in_rust() -> anyhow::Result<()> {
    let server = Server::start()?;
    let browser = Browser::start(&[])?;
    let page = browser.open(server.url())?;
    page.run_async("import('/protocol.js').then((module) => { globalThis.protocol = module; })")?;
    let around = ["a{}b", "\u{915}{}\u{915}", "\u{1f469}{}\u{1f469}"];
    for around in around {
        let differ = |c: &char| -> Option<String> {
            let text = around.replace("{}", &c.to_string());
            clean_name(&text, 64).filter(|clean| *clean != text)
        };
        let changed: BTreeMap<u32, String> = ('\0'..=char::MAX)
            .filter_map(|c| Some((u32::from(c), differ(&c)?)))
            // 131,072 characters of private use, all alike.
            .filter(|(c, _)| *c < 0xf_0100)
            .collect();
        let theirs = page.run(&format!(
            "(() => {{
               const [before, after] = {}.split('{{}}');
               const changed = [];
               for (let c = 0; c < 0xf0100; c += 1) {{
                 if (c >= 0xd800 && c < 0xe000) continue;
                 const text = before + String.fromCodePoint(c) + after;
                 const clean = protocol.cleanName(text, 64);
                 if (clean !== text) changed.push([c, clean]);
               }}
               return changed;
             }})()",
            json!(around)
        ))?;
        let theirs: BTreeMap<u32, String> =
            serde_json::from_value::<Vec<_>>(theirs)?.into_iter().collect();
        let unequal: Vec<_> = (0..0xf_0100)
            .filter(|c| changed.get(c) != theirs.get(c))
            .map(|c| format!("U+{c:04X}: {:?} and {:?}", changed.get(&c), theirs.get(&c)))
            .take(20)
            .collect();
        assert!(unequal.is_empty(), "{around}: {unequal:?}");
    }
    Ok(())
}

#[test]
fn javascript_reads_room_codes_as_rust_does() -> anyhow::Result<()> {
    let server = Server::start()?;
    let browser = Browser::start(&[])?;
    let page = browser.open(server.url())?;
    page.run_async("import('/protocol.js').then((module) => { globalThis.protocol = module; })")?;

    for text in [
        "abc-defg-hij",
        "ABCDEFGHIJ",
        " abc defg hij ",
        "https://example.org/r/abc-defg-hij",
        "http://127.0.0.1:8080/r/AbcDefgHij?x=1#y",
    ] {
        let code = page.run(&format!("protocol.parseRoomCode({})", json!(text)))?;
        assert_eq!(code, json!("abc-defg-hij"), "{text}");
    }
    for text in ["", "abc-defg-hi", "abc-defg-hijk", "abc-defg-hi1", "äbc-defg-hij", "x/r/"] {
        let code = page.run(&format!("protocol.parseRoomCode({})", json!(text)))?;
        assert_eq!(code, Value::Null, "{text}");
    }
    // While it is typed, and pasted with words around it.
    for (typed, shown) in [
        ("a", "a"),
        ("abc", "abc"),
        ("abcd", "abc-d"),
        ("ABC-DEFGh", "abc-defg-h"),
        ("abc-defg-hijk", "abc-defg-hij"),
        ("https://example.org/r/abc-defg-hij see you", "abc-defg-hij"),
    ] {
        let formatted = page.run(&format!("protocol.formatRoomCode({})", json!(typed)))?;
        assert_eq!(formatted, json!(shown), "{typed}");
    }
    let fresh = page.run("Array.from({ length: 200 }, () => protocol.randomRoomCode())")?;
    let fresh: Vec<String> = serde_json::from_value(fresh)?;
    let distinct: std::collections::HashSet<_> = fresh.iter().collect();
    assert_eq!(distinct.len(), 200);
    assert!(fresh.iter().all(|code| code.len() == 12 && !code.contains(['i', 'l', 'o'])));
    Ok(())
}
