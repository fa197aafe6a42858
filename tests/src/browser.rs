//! Drives a real browser: Chromium by ChromeDriver, or Firefox by WebDriver BiDi. Blocking, like the rest of
//! this package; each [`Browser`] has its own profile, and takes every process it started along when
//! it is dropped.

mod chromium;
mod firefox;

use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;

use chromium::Chromium;
use firefox::Firefox;

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

/// Which browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrowserKind {
    /// Chromium.
    Chromium,
    /// Firefox. Debian's has no H.264.
    Firefox,
}

/// What drives one browser. Windows go by its own names.
trait Driver {
    /// A window for another page.
    fn open_window(&self) -> anyhow::Result<String>;
    fn load(&self, window: &str, url: &str) -> anyhow::Result<()>;
    fn reload(&self, window: &str) -> anyhow::Result<()>;
    /// Value of an expression.
    fn run(&self, window: &str, expression: &str) -> anyhow::Result<Value>;
    /// What the promise that is the value of an expression resolves to.
    fn run_async(&self, window: &str, expression: &str) -> anyhow::Result<Value>;
    fn click(&self, window: &str, selector: &str) -> anyhow::Result<()>;
    fn press(&self, window: &str, key: char) -> anyhow::Result<()>;
    fn before_pages(&self, script: &str) -> anyhow::Result<()>;
    fn console(&self) -> anyhow::Result<Vec<String>>;
    fn process(&self) -> &BrowserProcess;
}

/// A browser with any number of windows.
pub struct Browser {
    driver: Box<dyn Driver>,
}

impl Browser {
    /// Starts a Chromium. `extra_flags` are its own; one that is given twice counts as the last says.
    ///
    /// # Errors
    ///
    /// Chromium or ChromeDriver is missing (`./dev deps` installs them) or does not start.
    pub fn start(extra_flags: &[&str]) -> anyhow::Result<Self> {
        Ok(Self { driver: Box::new(Chromium::start(extra_flags, None)?) })
    }

    /// The same with another home folder, where Chromium looks for certificate authorities to trust
    /// besides its own (`.pki/nssdb`).
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub fn start_at_home(home: &Path, extra_flags: &[&str]) -> anyhow::Result<Self> {
        Ok(Self { driver: Box::new(Chromium::start(extra_flags, Some(home))?) })
    }

    /// Starts one of that kind, with nothing out of the ordinary.
    ///
    /// # Errors
    ///
    /// It is missing (`./dev deps all` installs it) or does not start.
    pub fn start_kind(kind: BrowserKind) -> anyhow::Result<Self> {
        match kind {
            BrowserKind::Chromium => Self::start(&[]),
            BrowserKind::Firefox => Ok(Self { driver: Box::new(Firefox::start()?) }),
        }
    }

    /// Runs `script` before the scripts of every page that is loaded from now on (in Chromium: by the first
    /// window).
    ///
    /// # Errors
    ///
    /// The browser is gone.
    pub fn before_pages(&self, script: &str) -> anyhow::Result<()> {
        self.driver.before_pages(script)
    }

    /// CPU time that the processes of this browser have used so far, seconds.
    ///
    /// # Errors
    ///
    /// There is no `/proc`.
    pub fn cpu_s(&self) -> anyhow::Result<f64> {
        self.driver.process().cpu_s()
    }

    /// Opens `url` in a window of its own.
    ///
    /// # Errors
    ///
    /// It cannot be loaded.
    pub fn open(&self, url: &str) -> anyhow::Result<Page<'_>> {
        let page = Page { browser: self, window: self.driver.open_window()? };
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
        self.driver.console()
    }
}

/// One window.
pub struct Page<'b> {
    browser: &'b Browser,
    window: String,
}

impl Page<'_> {
    fn driver(&self) -> &dyn Driver {
        self.browser.driver.as_ref()
    }

    /// Loads another address here.
    ///
    /// # Errors
    ///
    /// It cannot be loaded.
    pub fn goto(&self, url: &str) -> anyhow::Result<()> {
        self.driver().load(&self.window, url)
    }

    /// As the reload button.
    ///
    /// # Errors
    ///
    /// It cannot be loaded.
    pub fn reload(&self) -> anyhow::Result<()> {
        self.driver().reload(&self.window)
    }

    /// The value of a JavaScript expression.
    ///
    /// # Errors
    ///
    /// It throws.
    pub fn run(&self, expression: &str) -> anyhow::Result<Value> {
        self.driver().run(&self.window, expression)
    }

    /// What the promise that a JavaScript expression makes resolves to, at most a minute later.
    ///
    /// # Errors
    ///
    /// It throws or is rejected.
    pub fn run_async(&self, expression: &str) -> anyhow::Result<Value> {
        self.driver().run_async(&self.window, expression)
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

    /// Waits until the page shows the remote peer's moving time code, from this machine's clock, and hears its tone.
    ///
    /// # Errors
    ///
    /// As [`Self::wait_for`].
    pub fn wait_for_peer(&self, limit: Duration) -> anyhow::Result<()> {
        let first = self.wait_for("visavis.readTimeCode()", limit).context("no time code")?;
        self.wait_for(&format!("((visavis.readTimeCode() ?? {first}) - {first} | 0) > 300"), limit)
            .context("the picture stands still")?;
        self.wait_for("Math.abs((Date.now() - (visavis.readTimeCode() ?? 0)) | 0) < 1000", limit)?;
        self.wait_for("Math.abs((visavis.remoteTone() ?? 0) - 440) < 5", limit)
            .context("no tone")?;
        Ok(())
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
        self.driver().click(&self.window, selector)
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
        self.driver().press(&self.window, key.into())
    }
}

/// The first process of a browser or of its driver, with a process group and a profile folder of its own.
struct BrowserProcess {
    child: Child,
    profile: PathBuf,
}

impl BrowserProcess {
    /// A folder for a fresh profile.
    fn new_profile(name: &str) -> PathBuf {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        std::env::temp_dir().join(format!("visavis-{name}-{}-{number}", std::process::id()))
    }

    fn cpu_s(&self) -> anyhow::Result<f64> {
        let group = self.child.id();
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
}

impl Drop for BrowserProcess {
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
