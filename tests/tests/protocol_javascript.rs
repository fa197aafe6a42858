//! The page's JavaScript reads and writes the golden messages exactly as the Rust types do.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
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
