//! Chromium by ChromeDriver (W3C WebDriver).

use std::cell::RefCell;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, anyhow, bail};
use serde_json::{Value, json};

use super::{BrowserProcess, Driver, SCRIPT_LIMIT, START_LIMIT};

/// The name by which WebDriver hands out elements (W3C WebDriver §12).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Devices are Chromium's fakes and granted; nothing is throttled because it is not looked at;
/// nothing leaves the machine.
const FLAGS: &[&str] = &[
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--window-size=1280,800",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
];

pub(super) struct Chromium {
    /// `http://127.0.0.1:PORT/session/ID`.
    session: String,
    agent: ureq::Agent,
    /// The window that the next command goes to, and whether the first one is still unused.
    focus: RefCell<Focus>,
    // Dropped last: ends ChromeDriver and Chromium.
    process: BrowserProcess,
}

struct Focus {
    window: String,
    first_is_free: bool,
}

impl Chromium {
    pub(super) fn start(extra_flags: &[&str], home: Option<&Path>) -> anyhow::Result<Self> {
        let (process, port) = start_driver(home)?;
        let mut flags: Vec<String> = FLAGS.iter().map(|&flag| flag.to_owned()).collect();
        flags.push(format!("--user-data-dir={}", process.profile.display()));
        // ChromeDriver drops all but one of a repeated flag, and not the same one as Chromium.
        for &extra in extra_flags {
            let name = extra.split('=').next().unwrap_or(extra);
            flags.retain(|flag| flag.split('=').next() != Some(name));
            flags.push(extra.to_owned());
        }
        let capabilities = json!({
            "goog:chromeOptions": { "args": flags },
            "goog:loggingPrefs": { "browser": "ALL" },
        });
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .timeout_global(Some(SCRIPT_LIMIT + START_LIMIT))
            .http_status_as_error(false)
            .build()
            .into();
        let url = format!("http://127.0.0.1:{}/session", port);
        let wanted = json!({ "capabilities": { "alwaysMatch": capabilities } });
        let started = answer(agent.post(&url).send_json(wanted)?)?;
        let id = started["sessionId"].as_str().context("no session")?;
        let session = format!("{url}/{id}");
        let mut chromium = Self {
            session,
            agent,
            focus: RefCell::new(Focus { window: String::new(), first_is_free: true }),
            process,
        };
        let limit_ms = u64::try_from(SCRIPT_LIMIT.as_millis())?;
        chromium.post("timeouts", &json!({ "script": limit_ms }))?;
        let window = chromium.get("window")?;
        chromium.focus.get_mut().window = window.as_str().context("no window")?.to_owned();
        Ok(chromium)
    }

    fn post(&self, command: &str, body: &Value) -> anyhow::Result<Value> {
        answer(self.agent.post(format!("{}/{command}", self.session)).send_json(body)?)
    }

    fn get(&self, command: &str) -> anyhow::Result<Value> {
        answer(self.agent.get(format!("{}/{command}", self.session)).call()?)
    }

    /// Turns to a window.
    fn focus(&self, window: &str) -> anyhow::Result<&Self> {
        let mut focus = self.focus.borrow_mut();
        if focus.window != window {
            self.post("window", &json!({ "handle": window }))?;
            window.clone_into(&mut focus.window);
        }
        Ok(self)
    }
}

impl Driver for Chromium {
    fn open_window(&self) -> anyhow::Result<String> {
        if std::mem::take(&mut self.focus.borrow_mut().first_is_free) {
            return Ok(self.focus.borrow().window.clone());
        }
        let opened = self.post("window/new", &json!({ "type": "window" }))?;
        Ok(opened["handle"].as_str().context("no window")?.to_owned())
    }

    fn load(&self, window: &str, url: &str) -> anyhow::Result<()> {
        self.focus(window)?.post("url", &json!({ "url": url })).map(drop)
    }

    fn reload(&self, window: &str) -> anyhow::Result<()> {
        self.focus(window)?.post("refresh", &json!({})).map(drop)
    }

    fn run(&self, window: &str, expression: &str) -> anyhow::Result<Value> {
        let script = format!("return ({expression});");
        self.focus(window)?.post("execute/sync", &json!({ "script": script, "args": [] }))
    }

    fn run_async(&self, window: &str, expression: &str) -> anyhow::Result<Value> {
        let script = format!(
            "const done = arguments[arguments.length - 1];
             (async () => ({expression}))().then(
               (value) => done([value ?? null]), (error) => done(String(error)));"
        );
        let body = json!({ "script": script, "args": [] });
        match self.focus(window)?.post("execute/async", &body)? {
            Value::Array(mut value) if value.len() == 1 => Ok(value.remove(0)),
            error => Err(anyhow!("{expression}: {error}")),
        }
    }

    fn click(&self, window: &str, selector: &str) -> anyhow::Result<()> {
        self.focus(window)?;
        let found = self.post("element", &json!({ "using": "css selector", "value": selector }))?;
        let id = found[ELEMENT].as_str().context("no element")?;
        self.post(&format!("element/{id}/click"), &json!({})).map(drop)
    }

    fn press(&self, window: &str, key: char) -> anyhow::Result<()> {
        let actions = json!([{ "type": "key", "id": "keyboard", "actions": [
            { "type": "keyDown", "value": key }, { "type": "keyUp", "value": key },
        ] }]);
        self.focus(window)?.post("actions", &json!({ "actions": actions })).map(drop)
    }

    fn before_pages(&self, script: &str) -> anyhow::Result<()> {
        // ChromeDriver's own; the WebDriver standard has no word for it.
        let body = json!({
            "cmd": "Page.addScriptToEvaluateOnNewDocument",
            "params": { "source": script },
        });
        self.post("goog/cdp/execute", &body).map(drop)
    }

    fn console(&self) -> anyhow::Result<Vec<String>> {
        // ChromeDriver's own; the WebDriver standard has no word for it.
        let entries = self.post("se/log", &json!({ "type": "browser" }))?;
        let line = |entry: &Value| {
            let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
            format!("{} {}", text("level"), text("message"))
        };
        Ok(entries.as_array().map(|all| all.iter().map(line).collect()).unwrap_or_default())
    }

    fn process(&self) -> &BrowserProcess {
        &self.process
    }
}

/// The value of a WebDriver response, or its error.
fn answer(mut response: ureq::http::Response<ureq::Body>) -> anyhow::Result<Value> {
    let mut body: Value = response.body_mut().with_config().limit(64 << 20).read_json()?;
    let value = body["value"].take();
    match value["error"].as_str() {
        Some(error) if !response.status().is_success() => {
            bail!("{error}: {}", value["message"].as_str().unwrap_or_default())
        }
        _ => Ok(value),
    }
}

/// Starts ChromeDriver; the port that it listens on.
fn start_driver(home: Option<&Path>) -> anyhow::Result<(BrowserProcess, u16)> {
    let mut command = Command::new("chromedriver");
    if let Some(home) = home {
        command.env("HOME", home);
    }
    let mut child = command
        .arg("--port=0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .context("chromedriver does not start; ./dev deps installs it")?;
    let stdout = child.stdout.take();
    let process = BrowserProcess { child, profile: BrowserProcess::new_profile("chromium") };
    let mut lines = BufReader::new(stdout.context("no standard output")?).lines();
    let port = lines
        .by_ref()
        .map_while(Result::ok)
        .filter_map(|line| line.split_once("on port ")?.1.trim_end_matches('.').parse().ok())
        // First it repeats the port that it was asked for.
        .find(|port| *port != 0)
        .context("chromedriver names no port")?;
    // It goes on to write; nobody reading would block it in the end.
    std::thread::spawn(move || lines.for_each(drop));
    Ok((process, port))
}
