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
fn javascript_ends_calls_and_waits_as_native_peers_do() -> anyhow::Result<()> {
    let server = Server::start()?;
    let browser = Browser::start(&[])?;
    let page = browser.open(server.url())?;
    for module in ["rules", "words"] {
        let import =
            format!("import('/{module}.js').then((it) => {{ globalThis.{module} = it; }})");
        page.run_async(&import)?;
    }
    let fixture: Value =
        serde_json::from_str(include_str!("../../crates/call/fixtures/rules.json"))?;
    assert_eq!(page.run("rules.TIMES_MS")?, fixture["timesMs"]);
    let mut codes: Vec<Value> = fixture["endCodes"].as_array().cloned().unwrap_or_default();
    for (refusal, code) in fixture["endOfRefusal"].as_object().context("no refusals")? {
        let end = page.run(&format!("rules.endOfRefusal({})", json!(refusal)))?;
        assert_eq!(end, *code, "{refusal}");
        codes.push(end);
    }
    // Each has words of its own. What was not proven is said by its detail.
    for code in codes {
        let words = page.run(&format!("words.endWords({code}, 'silence')"))?;
        let is_fallback = words == json!({ "title": "The call is over", "text": "" });
        assert!(!is_fallback, "{code}");
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
fn javascript_reads_codes_as_rust_does() -> anyhow::Result<()> {
    let server = Server::start()?;
    let browser = Browser::start(&[])?;
    let page = browser.open(server.url())?;
    page.run_async("import('/protocol.js').then((module) => { globalThis.protocol = module; })")?;

    let forms: BTreeMap<String, Value> =
        serde_json::from_str(include_str!("../../crates/signaling-protocol/fixtures/codes.json"))?;
    for (text, code) in forms {
        let read = page.run(&format!(
            "(() => {{
               const code = protocol.parseCode({});
               return code && protocol.formatCode(code);
             }})()",
            json!(text)
        ))?;
        assert_eq!(read, code, "{text:?}");
    }
    // While it is typed, and pasted with words around it.
    for (typed, shown) in [
        ("a", "a"),
        ("abc", "abc"),
        ("abcd", "abc-d"),
        ("ABC-DEFGh", "abc-def-gh"),
        ("abc-def-ghj-kmnp", "abc-def-ghj-kmn"),
        ("https://example.org/r/abc-def#ghj-kmn see you", "abc-def-ghj-kmn"),
    ] {
        let formatted = page.run(&format!("protocol.formatTyped({})", json!(typed)))?;
        assert_eq!(formatted, json!(shown), "{typed}");
    }
    let fresh =
        page.run("Array.from({ length: 200 }, () => protocol.formatCode(protocol.randomCode()))")?;
    let fresh: Vec<String> = serde_json::from_value(fresh)?;
    let distinct: std::collections::HashSet<_> = fresh.iter().collect();
    assert_eq!(distinct.len(), 200);
    assert!(fresh.iter().all(|code| code.len() == 15 && !code.contains(['i', 'l', 'o'])));
    Ok(())
}

/// What the page's `proof.js` makes of `crates/proof/fixtures`: the names of vectors that do not hold.
const CHECK_PROOF: &str = r#"
  const [p, draft, ours] = [await import("/proof.js"), DRAFT, OURS];
  const bad = [];
  const hex = p.fromHex;
  const check = (name, is, ought) => {
    const text = (v) => (v instanceof Uint8Array ? p.toHex(v) : JSON.stringify(v));
    if (text(is) !== (typeof ought === "string" ? ought : JSON.stringify(ought))) bad.push(name);
  };
  const v = draft.exchange;
  check("generator", p.generator(hex(v.PRS), hex(v.CI), hex(v.sid)), v.g);
  check("Ya", p.x25519(hex(v.ya), hex(v.g)), v.Ya);
  const half = { scalar: hex(v.ya), share: hex(v.Ya), sid: hex(v.sid) };
  check("ISK", p.intermediateKey(half, hex(v.ADa), hex(v.ADb), hex(v.Yb)), v.ISK_SY);
  for (const { u, q } of draft.lowOrder.points) {
    const scalar = hex(draft.lowOrder.scalar);
    check(`u ${u}`, p.x25519(scalar, hex(u)), q);
    const isk = p.intermediateKey({ ...half, scalar }, hex("61"), hex("62"), hex(u));
    check(`refusal ${u}`, isk === null, /^0*$/.test(q));
  }
  for (const c of ours.exchanges) {
    const [kind, password] = c.code ? ["code", c.code] : ["key", hex(c.key)];
    for (const [a, b, A, B] of [[c.a, c.b, "A", "B"], [c.b, c.a, "B", "A"]]) {
      const name = (what) => `${c.name}: ${what} at ${A}`;
      const sid = p.exchangeId(c.room, a.session, b.session);
      check(name("id"), sid, c.exchangeId);
      check(name("data"), p.associatedData(a), c[`associatedData${A}`]);
      const exchange = p.startExchange(kind, password, sid, hex(a.scalar));
      check(name("share"), exchange.share, c[`share${A}`]);
      const agreed = p.finishExchange(exchange, a, b, hex(c[`share${B}`]));
      check(name("confirmation"), agreed.confirm, c[`confirm${A}`]);
      check(name("verification"), agreed.verify(hex(c[`confirm${B}`])), true);
      check(name("refusal"), agreed.verify(hex(c[`confirm${A}`])), false);
      check(name("key"), agreed.key, c.continuityKey);
      check(name("key's id"), p.keyId(agreed.key), c.keyId);
      check(name("emoji"), agreed.emoji, c.emoji);
      check(name("echo"), p.finishExchange(exchange, a, b, exchange.share), null);
    }
  }
  const { a, b, ...c } = ours.compared;
  const sid = p.exchangeId(c.room, a.session, b.session);
  check("commitment", p.commitment(sid, a, hex(a.nonce)), c.commitmentA);
  check("compared", p.comparedEmoji(sid, [b, hex(b.nonce)], [a, hex(a.nonce)]), c.emoji);
  const begun = performance.now();
  for (let i = 0; i < 10; i += 1) {
    const half = p.startExchange("code", "ghjkmn", sid, p.randomBytes(32));
    p.finishExchange(half, a, b, hex(ours.exchanges[0].shareB));
  }
  const sdp = "v=0\r\na=fingerprint:SHA-256 ab:0C\r\nm=audio 9 x\r\na=fingerprint:sha-256 AB:0c\r\n";
  check("fingerprints", p.fingerprints(sdp), ["sha-256 AB:0C"]);
  const hidden = "a=fingerprint:sha-256 CD\r\ns=-\ra=fingerprint:sha-256 AB\r\n";
  check("hidden fingerprint", p.fingerprints(hidden), null);
  check("bad fingerprint", p.fingerprints("a=fingerprint:sha-256 AB:GG\r\n"), null);
  return { bad, exchangeMs: (performance.now() - begun) / 10, emoji: p.EMOJI };
"#;

#[test]
fn javascript_proves_as_rust_does() -> anyhow::Result<()> {
    let server = Server::start()?;
    let browser = Browser::start(&[])?;
    let page = browser.open(server.url())?;
    let script = CHECK_PROOF
        .replace("DRAFT", include_str!("../../crates/proof/fixtures/cpace-draft.json"))
        .replace("OURS", include_str!("../../crates/proof/fixtures/exchanges.json"));
    let result = page.run_async(&format!("(async () => {{ {script} }})()"))?;
    assert_eq!(result["bad"], json!([]));
    println!("one exchange takes {} ms", result["exchangeMs"]);
    let names: Vec<_> = visavis_proof::EMOJI.iter().map(|e| json!([e.symbol, e.name])).collect();
    assert_eq!(result["emoji"], Value::from(names));
    Ok(())
}
