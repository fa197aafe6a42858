//! Firefox by WebDriver BiDi (<https://w3c.github.io/webdriver-bidi/>), which it speaks by itself: JSON over one
//! WebSocket. Commands are answered by their number; what it reports in between is kept.

use std::cell::RefCell;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc::sync_channel;

use anyhow::{Context, anyhow, bail};
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use super::{BrowserProcess, Driver, SCRIPT_LIMIT, START_LIMIT};
use crate::pulse::PulseServer;

/// What Debian and others call the program.
const NAMES: &[&str] = &["firefox-esr", "firefox"];

/// Of its sound server.
const SPEAKER: &str = "speaker";

/// Devices are Firefox's fakes and granted, sound plays unasked, calls within the machine work without a
/// network; nothing leaves the machine (what the remote protocol asks for is switched by itself).
const PREFERENCES: &str = r#"
user_pref("media.navigator.streams.fake", true);
user_pref("media.navigator.permission.disabled", true);
user_pref("media.peerconnection.ice.loopback", true);
user_pref("media.autoplay.default", 0);
user_pref("media.autoplay.blocking_policy", 0);
user_pref("media.gmp-manager.updateEnabled", false);
user_pref("network.proxy.type", 0);
user_pref("app.normandy.enabled", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("services.settings.server", "data:,");
"#;

pub(super) struct Firefox {
    connection: RefCell<Connection>,
    // Ends Firefox.
    process: BrowserProcess,
    /// Without a speaker its audio contexts never start.
    _sound: PulseServer,
}

struct Connection {
    socket: WebSocket<TcpStream>,
    last_command: u64,
    console: Vec<String>,
    /// The window that is there from the start, until a page takes it.
    first_window: Option<String>,
}

impl Firefox {
    pub(super) fn start() -> anyhow::Result<Self> {
        let profile = BrowserProcess::new_profile("firefox");
        std::fs::create_dir_all(&profile)?;
        std::fs::write(profile.join("user.js"), PREFERENCES)?;
        let name = profile.file_name().unwrap_or_default().to_string_lossy();
        let sound = PulseServer::start(&name, &[(SPEAKER, 48_000)])?;
        let spawn = |name: &&str| {
            let mut command = Command::new(name);
            sound
                .environment(&mut command, SPEAKER, &format!("{SPEAKER}_mic"))
                .args(["--headless", "--no-remote", "--remote-debugging-port=0", "--profile"])
                .arg(&profile)
                .arg("about:blank")
                .env("HOME", &profile)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .process_group(0)
                .spawn()
                .ok()
        };
        let mut child = NAMES
            .iter()
            .find_map(spawn)
            .context("firefox-esr does not start; ./dev deps all installs it")?;
        let stderr = child.stderr.take();
        let process = BrowserProcess { child, profile };
        let (found, address) = sync_channel(1);
        let lines = BufReader::new(stderr.context("no standard error")?).lines();
        std::thread::spawn(move || {
            // To the end: nobody reading would block it.
            for line in lines.map_while(Result::ok) {
                if let Some((_, address)) = line.split_once("BiDi listening on ws://") {
                    let _ = found.try_send(address.trim().to_owned());
                }
            }
        });
        let address = address.recv_timeout(START_LIMIT).context("Firefox names no port")?;
        let stream = TcpStream::connect(&address)?;
        stream.set_read_timeout(Some(SCRIPT_LIMIT + START_LIMIT))?;
        let (socket, _) = tungstenite::client(format!("ws://{address}/session"), stream)
            .map_err(|error| anyhow!("Firefox refuses: {error}"))?;
        let connection =
            Connection { socket, last_command: 0, console: Vec::new(), first_window: None };
        let firefox = Self { connection: RefCell::new(connection), process, _sound: sound };
        firefox.command("session.new", json!({ "capabilities": {} }))?;
        firefox.command("session.subscribe", json!({ "events": ["log.entryAdded"] }))?;
        let tree = firefox.command("browsingContext.getTree", json!({}))?;
        let first = tree["contexts"][0]["context"].as_str().map(str::to_owned);
        firefox.connection.borrow_mut().first_window = first;
        Ok(firefox)
    }

    fn command(&self, method: &str, params: Value) -> anyhow::Result<Value> {
        self.connection.borrow_mut().command(method, params)
    }
}

impl Connection {
    fn command(&mut self, method: &str, params: Value) -> anyhow::Result<Value> {
        self.last_command += 1;
        let id = self.last_command;
        let text = json!({ "id": id, "method": method, "params": params }).to_string();
        self.socket.send(Message::text(text))?;
        loop {
            let Message::Text(text) = self.socket.read().with_context(|| method.to_owned())? else {
                continue;
            };
            let mut message: Value = serde_json::from_str(&text)?;
            if message["method"] == "log.entryAdded" {
                self.console.push(console_line(&message["params"]));
            } else if message["id"] == id {
                if message["type"] == "error" {
                    bail!("{method}: {} {}", message["error"], message["message"]);
                }
                return Ok(message["result"].take());
            }
        }
    }
}

/// As ChromeDriver has it.
fn console_line(entry: &Value) -> String {
    let level = match entry["level"].as_str() {
        Some("error") => "SEVERE",
        Some("warn") => "WARNING",
        _ => "INFO",
    };
    format!("{level} {}", entry["text"].as_str().unwrap_or_default())
}

impl Driver for Firefox {
    fn open_window(&self) -> anyhow::Result<String> {
        if let Some(first) = self.connection.borrow_mut().first_window.take() {
            return Ok(first);
        }
        let opened = self.command("browsingContext.create", json!({ "type": "window" }))?;
        Ok(opened["context"].as_str().context("no window")?.to_owned())
    }

    fn load(&self, window: &str, url: &str) -> anyhow::Result<()> {
        let params = json!({ "context": window, "url": url, "wait": "complete" });
        self.command("browsingContext.navigate", params).map(drop)
    }

    fn reload(&self, window: &str) -> anyhow::Result<()> {
        let params = json!({ "context": window, "wait": "complete" });
        self.command("browsingContext.reload", params).map(drop)
    }

    fn run(&self, window: &str, expression: &str) -> anyhow::Result<Value> {
        // BiDi writes values in a way of its own; JSON comes as it is from Chromium.
        let json = format!("(async () => JSON.stringify(await ({expression})) ?? 'null')()");
        let params = json!({
            "expression": json,
            "target": { "context": window },
            "awaitPromise": true,
        });
        let evaluated = self.command("script.evaluate", params)?;
        match evaluated["result"]["value"].as_str() {
            Some(text) if evaluated["type"] == "success" => Ok(serde_json::from_str(text)?),
            _ => Err(anyhow!("{expression}: {}", evaluated["exceptionDetails"]["text"])),
        }
    }

    fn run_async(&self, window: &str, expression: &str) -> anyhow::Result<Value> {
        self.run(window, expression)
    }

    fn click(&self, window: &str, selector: &str) -> anyhow::Result<()> {
        let locator = json!({ "type": "css", "value": selector });
        let found = self.command(
            "browsingContext.locateNodes",
            json!({ "context": window, "locator": locator, "maxNodeCount": 1 }),
        )?;
        let element =
            json!({ "sharedId": found["nodes"][0]["sharedId"].as_str().context("no element")? });
        let look = format!(
            "document.querySelector({}).scrollIntoView({{ block: 'nearest', behavior: 'instant' }})",
            json!(selector)
        );
        self.run(window, &look)?;
        let origin = json!({ "type": "element", "element": element });
        let actions = json!([{ "type": "pointer", "id": "mouse", "actions": [
            { "type": "pointerMove", "x": 0, "y": 0, "origin": origin },
            { "type": "pointerDown", "button": 0 },
            { "type": "pointerUp", "button": 0 },
        ] }]);
        self.command("input.performActions", json!({ "context": window, "actions": actions }))
            .map(drop)
    }

    fn press(&self, window: &str, key: char) -> anyhow::Result<()> {
        let actions = json!([{ "type": "key", "id": "keyboard", "actions": [
            { "type": "keyDown", "value": key }, { "type": "keyUp", "value": key },
        ] }]);
        self.command("input.performActions", json!({ "context": window, "actions": actions }))
            .map(drop)
    }

    fn before_pages(&self, script: &str) -> anyhow::Result<()> {
        let function = format!("() => {{ {script} }}");
        self.command("script.addPreloadScript", json!({ "functionDeclaration": function }))
            .map(drop)
    }

    fn console(&self) -> anyhow::Result<Vec<String>> {
        // What it has to report comes before the answer to this.
        self.command("session.status", json!({}))?;
        Ok(std::mem::take(&mut self.connection.borrow_mut().console))
    }

    fn process(&self) -> &BrowserProcess {
        &self.process
    }
}
