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
use fantoccini::actions::{InputSource as _, KeyAction, KeyActions};
use fantoccini::wd::{TimeoutConfiguration, WebDriverCompatibleCommand, WindowHandle};
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

pub use fantoccini::key::Key;

/// How often a condition in a page is looked at.
const POLL: Duration = Duration::from_millis(50);
/// Longest a script may take, [`Page::run_async`] included.
const SCRIPT_LIMIT: Duration = Duration::from_secs(60);
const START_LIMIT: Duration = Duration::from_secs(30);

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
    client: Client,
    /// The window that the next command goes to, and whether the first one is still unused.
    focus: RefCell<Focus>,
    runtime: Runtime,
    // Dropped after the client: ends ChromeDriver and Chromium.
    _driver: Driver,
}

struct Focus {
    window: WindowHandle,
    first_is_free: bool,
}

impl Browser {
    /// Starts one. `extra_flags` are Chromium's; one that is given twice counts as the last says.
    ///
    /// # Errors
    ///
    /// Chromium or ChromeDriver is missing (`./dev deps` installs them) or does not start.
    pub fn start(extra_flags: &[&str]) -> anyhow::Result<Self> {
        let driver = Driver::start()?;
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
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let url = format!("http://127.0.0.1:{}", driver.port);
        let (client, window) = runtime.block_on(async {
            let mut builder = ClientBuilder::new(HttpConnector::new());
            builder.capabilities(capabilities.as_object().cloned().unwrap_or_default());
            let client = tokio::time::timeout(START_LIMIT, builder.connect(&url))
                .await
                .context("Chromium does not start")??;
            let mut limits = TimeoutConfiguration::default();
            limits.set_script(Some(SCRIPT_LIMIT));
            client.update_timeouts(limits).await?;
            let window = client.window().await?;
            anyhow::Ok((client, window))
        })?;
        let focus = RefCell::new(Focus { window, first_is_free: true });
        Ok(Self { client, focus, runtime, _driver: driver })
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
            self.runtime.block_on(self.client.new_window(false))?.handle
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
        let entries = self.runtime.block_on(self.client.issue_cmd(GetBrowserLog))?;
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
    window: WindowHandle,
}

impl Page<'_> {
    /// The WebDriver client, turned to this window.
    fn client(&self) -> anyhow::Result<&Client> {
        let browser = self.browser;
        let mut focus = browser.focus.borrow_mut();
        if focus.window != self.window {
            browser.runtime.block_on(browser.client.switch_to_window(self.window.clone()))?;
            focus.window = self.window.clone();
        }
        Ok(&browser.client)
    }

    /// Loads another address here.
    ///
    /// # Errors
    ///
    /// It cannot be loaded.
    pub fn goto(&self, url: &str) -> anyhow::Result<()> {
        Ok(self.browser.runtime.block_on(self.client()?.goto(url))?)
    }

    /// As the reload button.
    ///
    /// # Errors
    ///
    /// It cannot be loaded.
    pub fn reload(&self) -> anyhow::Result<()> {
        Ok(self.browser.runtime.block_on(self.client()?.refresh())?)
    }

    /// The value of a JavaScript expression.
    ///
    /// # Errors
    ///
    /// It throws.
    pub fn run(&self, expression: &str) -> anyhow::Result<Value> {
        let script = format!("return ({expression});");
        Ok(self.browser.runtime.block_on(self.client()?.execute(&script, Vec::new()))?)
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
        let client = self.client()?;
        match self.browser.runtime.block_on(client.execute_async(&script, Vec::new()))? {
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
        let client = self.client()?;
        self.browser.runtime.block_on(async {
            client.find(Locator::Css(selector)).await?.click().await?;
            Ok(())
        })
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
        let value = key.into();
        let keys = KeyActions::new("keyboard".to_owned())
            .then(KeyAction::Down { value })
            .then(KeyAction::Up { value });
        Ok(self.browser.runtime.block_on(self.client()?.perform_actions(keys))?)
    }

    /// Writes a PNG of the window's content.
    ///
    /// # Errors
    ///
    /// It cannot be taken or written.
    pub fn screenshot(&self, path: &Path) -> anyhow::Result<()> {
        let png = self.browser.runtime.block_on(self.client()?.screenshot())?;
        std::fs::write(path, png).with_context(|| path.display().to_string())
    }
}

/// A ChromeDriver process with a process group and a profile folder of its own.
struct Driver {
    child: Child,
    port: u16,
    profile: PathBuf,
}

impl Driver {
    fn start() -> anyhow::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("visavis-chromium-{}-{number}", std::process::id());
        let mut child = Command::new("chromedriver")
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

/// ChromeDriver's `POST /session/ID/se/log`, which the WebDriver standard has no word for.
#[derive(Debug)]
struct GetBrowserLog;

impl WebDriverCompatibleCommand for GetBrowserLog {
    fn endpoint(
        &self,
        base_url: &url::Url,
        session_id: Option<&str>,
    ) -> Result<url::Url, url::ParseError> {
        base_url.join(&format!("session/{}/se/log", session_id.unwrap_or_default()))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(json!({ "type": "browser" }).to_string()))
    }
}
