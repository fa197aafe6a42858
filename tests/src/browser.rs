//! Drives a real Chromium by ChromeDriver. Blocking, like the rest of this package; each
//! [`Browser`] has its own profile, and takes every process it started along when it is dropped.

use std::cell::RefCell;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use serde_json::{Value, json};

/// Keeps the peer connections of the page within reach, for [`Browser::before_pages`]: `benchConnections`.
pub const KEEP_CONNECTIONS: &str = "
  window.benchConnections = [];
  window.RTCPeerConnection = class extends RTCPeerConnection {
    constructor(...all) { super(...all); window.benchConnections.push(this); }
  };";

/// How often a condition in a page is looked at.
const POLL: Duration = Duration::from_millis(50);
/// Longest a script may take, [`Page::run_async`] included.
const SCRIPT_LIMIT: Duration = Duration::from_secs(60);
const START_LIMIT: Duration = Duration::from_secs(30);
/// The name by which WebDriver hands out elements (W3C WebDriver §12).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Keys without a character, as WebDriver writes them (W3C WebDriver §17.4.2).
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "named as on the keyboard")]
pub enum Key {
    Tab = 0xe004,
    Enter = 0xe007,
    Space = 0xe00d,
}

impl From<Key> for char {
    fn from(key: Key) -> Self {
        Self::from_u32(key as u32).unwrap_or(Self::REPLACEMENT_CHARACTER)
    }
}

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

/// A Chromium with any number of windows.
pub struct Browser {
    /// `http://127.0.0.1:PORT/session/ID`.
    session: String,
    agent: ureq::Agent,
    /// The window that the next command goes to, and whether the first one is still unused.
    focus: RefCell<Focus>,
    // Dropped last: ends ChromeDriver and Chromium.
    driver: Driver,
}

struct Focus {
    window: String,
    first_is_free: bool,
}

impl Browser {
    /// Starts one. `extra_flags` are Chromium's; one that is given twice counts as the last says.
    ///
    /// # Errors
    ///
    /// Chromium or ChromeDriver is missing (`./dev deps` installs them) or does not start.
    pub fn start(extra_flags: &[&str]) -> anyhow::Result<Self> {
        Self::start_with(extra_flags, None)
    }

    /// The same with another home folder, where Chromium looks for certificate authorities to trust
    /// besides its own (`.pki/nssdb`).
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub fn start_at_home(home: &Path, extra_flags: &[&str]) -> anyhow::Result<Self> {
        Self::start_with(extra_flags, Some(home))
    }

    fn start_with(extra_flags: &[&str], home: Option<&Path>) -> anyhow::Result<Self> {
        let driver = Driver::start(home)?;
        let mut flags: Vec<String> = FLAGS.iter().map(|&flag| flag.to_owned()).collect();
        flags.push(format!("--user-data-dir={}", driver.profile.display()));
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
        let url = format!("http://127.0.0.1:{}/session", driver.port);
        let wanted = json!({ "capabilities": { "alwaysMatch": capabilities } });
        let started = answer(agent.post(&url).send_json(wanted)?)?;
        let id = started["sessionId"].as_str().context("no session")?;
        let session = format!("{url}/{id}");
        let mut browser = Self {
            session,
            agent,
            focus: RefCell::new(Focus { window: String::new(), first_is_free: true }),
            driver,
        };
        let limit_ms = u64::try_from(SCRIPT_LIMIT.as_millis())?;
        browser.post("timeouts", &json!({ "script": limit_ms }))?;
        let window = browser.get("window")?;
        browser.focus.get_mut().window = window.as_str().context("no window")?.to_owned();
        Ok(browser)
    }

    fn post(&self, command: &str, body: &Value) -> anyhow::Result<Value> {
        answer(self.agent.post(format!("{}/{command}", self.session)).send_json(body)?)
    }

    fn get(&self, command: &str) -> anyhow::Result<Value> {
        answer(self.agent.get(format!("{}/{command}", self.session)).call()?)
    }

    /// Runs `script` in the first window before the scripts of every page that it loads from now on.
    ///
    /// # Errors
    ///
    /// The browser is gone.
    pub fn before_pages(&self, script: &str) -> anyhow::Result<()> {
        // ChromeDriver's own; the WebDriver standard has no word for it.
        let body = json!({
            "cmd": "Page.addScriptToEvaluateOnNewDocument",
            "params": { "source": script },
        });
        self.post("goog/cdp/execute", &body).map(drop)
    }

    /// CPU time that the processes of this browser have used so far, seconds.
    ///
    /// # Errors
    ///
    /// There is no `/proc`.
    pub fn cpu_s(&self) -> anyhow::Result<f64> {
        let group = self.driver.child.id();
        let mut ticks = 0u64;
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
            // proc(5): field 5 is the process group, 14 and 15 the time, 100 ticks a second; behind
            // the name, which may hold anything, the third is the first.
            let Some((_, tail)) = stat.rsplit_once(')') else { continue };
            let fields: Vec<&str> = tail.split_whitespace().collect();
            let number = |n: usize| fields.get(n - 3).and_then(|f| f.parse::<u64>().ok());
            if number(5) == Some(u64::from(group)) {
                ticks += number(14).unwrap_or(0) + number(15).unwrap_or(0);
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "seconds of a benchmark")]
        Ok(ticks as f64 / 100.0)
    }

    /// Opens `url` in a window of its own.
    ///
    /// # Errors
    ///
    /// It cannot be loaded.
    pub fn open(&self, url: &str) -> anyhow::Result<Page<'_>> {
        let window = if std::mem::take(&mut self.focus.borrow_mut().first_is_free) {
            self.focus.borrow().window.clone()
        } else {
            let opened = self.post("window/new", &json!({ "type": "window" }))?;
            opened["handle"].as_str().context("no window")?.to_owned()
        };
        let page = Page { browser: self, window };
        page.goto(url)?;
        Ok(page)
    }

    /// What has been written to the consoles of all windows since the last call, as
    /// `LEVEL message`; violations of the Content-Security-Policy and uncaught errors are `SEVERE`.
    ///
    /// # Errors
    ///
    /// The browser is gone.
    pub fn console(&self) -> anyhow::Result<Vec<String>> {
        // ChromeDriver's own; the WebDriver standard has no word for it.
        let entries = self.post("se/log", &json!({ "type": "browser" }))?;
        let line = |entry: &Value| {
            let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
            format!("{} {}", text("level"), text("message"))
        };
        Ok(entries.as_array().map(|all| all.iter().map(line).collect()).unwrap_or_default())
    }
}

/// One window.
pub struct Page<'b> {
    browser: &'b Browser,
    window: String,
}

impl Page<'_> {
    /// The browser, turned to this window.
    fn browser(&self) -> anyhow::Result<&Browser> {
        let browser = self.browser;
        let mut focus = browser.focus.borrow_mut();
        if focus.window != self.window {
            browser.post("window", &json!({ "handle": self.window }))?;
            focus.window.clone_from(&self.window);
        }
        Ok(browser)
    }

    /// Loads another address here.
    ///
    /// # Errors
    ///
    /// It cannot be loaded.
    pub fn goto(&self, url: &str) -> anyhow::Result<()> {
        self.browser()?.post("url", &json!({ "url": url })).map(drop)
    }

    /// As the reload button.
    ///
    /// # Errors
    ///
    /// It cannot be loaded.
    pub fn reload(&self) -> anyhow::Result<()> {
        self.browser()?.post("refresh", &json!({})).map(drop)
    }

    /// The value of a JavaScript expression.
    ///
    /// # Errors
    ///
    /// It throws.
    pub fn run(&self, expression: &str) -> anyhow::Result<Value> {
        let script = format!("return ({expression});");
        self.browser()?.post("execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// What the promise that a JavaScript expression makes resolves to, at most a minute later.
    ///
    /// # Errors
    ///
    /// It throws or is rejected.
    pub fn run_async(&self, expression: &str) -> anyhow::Result<Value> {
        let script = format!(
            "const done = arguments[arguments.length - 1];
             (async () => ({expression}))().then(
               (value) => done([value ?? null]), (error) => done(String(error)));"
        );
        let body = json!({ "script": script, "args": [] });
        match self.browser()?.post("execute/async", &body)? {
            Value::Array(mut value) if value.len() == 1 => Ok(value.remove(0)),
            error => Err(anyhow!("{expression}: {error}")),
        }
    }

    /// Waits until a JavaScript expression is true as JavaScript sees it; its value.
    ///
    /// # Errors
    ///
    /// It is not within `limit`; the error holds its last value, the page's state and console.
    pub fn wait_for(&self, expression: &str, limit: Duration) -> anyhow::Result<Value> {
        let deadline = Instant::now() + limit;
        loop {
            // A page that is being loaded has no `visavis` yet, hence errors count as "not yet".
            let last =
                self.run(&format!("(() => {{ const v = ({expression}); return v || null; }})()"));
            if let Ok(value) = &last
                && !value.is_null()
            {
                return Ok(value.clone());
            }
            if Instant::now() > deadline {
                let now = self.run(expression);
                let state = self.run("window.visavis?.state()").unwrap_or_default();
                let console = self.browser.console().unwrap_or_default().join("\n");
                bail!(
                    "{expression} is {now:?} after {limit:?}\nstate: {state:#}\nconsole:\n{console}"
                );
            }
            std::thread::sleep(POLL);
        }
    }

    /// Waits for the page's call to be in that phase.
    ///
    /// # Errors
    ///
    /// As [`Self::wait_for`].
    pub fn wait_phase(&self, phase: &str, limit: Duration) -> anyhow::Result<()> {
        self.wait_for(&format!("visavis.state().phase === {phase:?}"), limit).map(drop)
    }

    /// Clicks on the element, as a person would.
    ///
    /// # Errors
    ///
    /// There is none, or it cannot be clicked on.
    pub fn click(&self, selector: &str) -> anyhow::Result<()> {
        let browser = self.browser()?;
        let found =
            browser.post("element", &json!({ "using": "css selector", "value": selector }))?;
        let id = found[ELEMENT].as_str().context("no element")?;
        browser.post(&format!("element/{id}/click"), &json!({})).map(drop)
    }

    /// Types into whatever has the focus.
    ///
    /// # Errors
    ///
    /// The window is gone.
    pub fn type_text(&self, text: &str) -> anyhow::Result<()> {
        text.chars().try_for_each(|letter| self.press(letter))
    }

    /// Presses and releases a key: a character or a [`Key`].
    ///
    /// # Errors
    ///
    /// The window is gone.
    pub fn press(&self, key: impl Into<char>) -> anyhow::Result<()> {
        let key: char = key.into();
        let actions = json!([{ "type": "key", "id": "keyboard", "actions": [
            { "type": "keyDown", "value": key }, { "type": "keyUp", "value": key },
        ] }]);
        self.browser()?.post("actions", &json!({ "actions": actions })).map(drop)
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

/// A ChromeDriver process with a process group and a profile folder of its own.
struct Driver {
    child: Child,
    port: u16,
    profile: PathBuf,
}

impl Driver {
    fn start(home: Option<&Path>) -> anyhow::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("visavis-chromium-{}-{number}", std::process::id());
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
        let mut driver = Self { child, port: 0, profile: std::env::temp_dir().join(name) };
        let mut lines = BufReader::new(stdout.context("no standard output")?).lines();
        driver.port = lines
            .by_ref()
            .map_while(Result::ok)
            .filter_map(|line| line.split_once("on port ")?.1.trim_end_matches('.').parse().ok())
            // First it repeats the port that it was asked for.
            .find(|port| *port != 0)
            .context("chromedriver names no port")?;
        // It goes on to write; nobody reading would block it in the end.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(driver)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        use nix::sys::signal::{Signal, killpg};
        if let Ok(group) = i32::try_from(self.child.id()) {
            // An error means that all have ended by themselves.
            let _ = killpg(nix::unistd::Pid::from_raw(group), Signal::SIGKILL);
        }
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.profile);
    }
}
