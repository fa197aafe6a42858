//! Runs the workspace's programs and reads their JSON lines. Everything started here ends with its
//! owner, and every wait has a deadline.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use nix::sys::signal::Signal;
use serde_json::Value;

/// Where the build put a program. Tests run from `target/PROFILE/deps`, programs from above it.
///
/// # Errors
///
/// The program has not been built.
pub fn binary(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    own.ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name).with_extension(std::env::consts::EXE_EXTENSION))
        .find(|path| path.exists())
        .with_context(|| format!("{name} is missing: cargo build --workspace --bins"))
}

/// A folder for files that a test writes, emptied at each start.
///
/// # Errors
///
/// It cannot be made.
pub fn scratch(test: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::temp_dir().join(format!("visavis-{test}-{}", std::process::id()));
    if path.exists() {
        std::fs::remove_dir_all(&path)?;
    }
    std::fs::create_dir_all(&path)?;
    Ok(path)
}

/// A child process whose standard output is read line by line.
pub struct Program {
    name: String,
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Program {
    /// Starts `command`; its standard error goes to the test's.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub fn start(name: &str, command: &mut Command) -> anyhow::Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{name} does not start"))?;
        let stdout = child.stdout.take().context("no standard output")?;
        let (send, lines) = sync_channel(10_000);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { name: name.to_owned(), child, lines, seen: Vec::new() })
    }

    /// Waits for a line that `pick` makes something of.
    ///
    /// # Errors
    ///
    /// None came in time; says what came.
    pub fn wait_line<T>(
        &mut self,
        limit: Duration,
        mut pick: impl FnMut(&str) -> Option<T>,
    ) -> anyhow::Result<T> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    let picked = pick(&line);
                    self.seen.push(line);
                    if let Some(picked) = picked {
                        return Ok(picked);
                    }
                }
                Err(why) => {
                    let why = match why {
                        RecvTimeoutError::Timeout => format!("nothing within {limit:?}"),
                        RecvTimeoutError::Disconnected => "it ended".to_owned(),
                    };
                    return Err(anyhow!(
                        "{}: {why}; it said:\n{}",
                        self.name,
                        self.seen.join("\n")
                    ));
                }
            }
        }
    }

    /// Waits for the JSON line with this `event`.
    ///
    /// # Errors
    ///
    /// As [`Self::wait_line`].
    pub fn wait_event(&mut self, event: &str, limit: Duration) -> anyhow::Result<Value> {
        self.wait_line(limit, |line| {
            let value: Value = serde_json::from_str(line).ok()?;
            (value["event"] == event).then_some(value)
        })
        .with_context(|| format!("waiting for {event}"))
    }

    /// The number of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end (SIGTERM).
    ///
    /// # Errors
    ///
    /// The process is gone already.
    pub fn terminate(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGTERM)
    }

    /// Stops it, as a machine does that goes to sleep (SIGSTOP).
    ///
    /// # Errors
    ///
    /// The process is gone already.
    pub fn stop(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Lets it go on (SIGCONT).
    ///
    /// # Errors
    ///
    /// The process is gone already.
    pub fn go_on(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = i32::try_from(self.child.id())?;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal)?;
        Ok(())
    }

    /// Ends it without giving it a chance to say so (SIGKILL).
    ///
    /// # Errors
    ///
    /// It cannot be waited for.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits for its end; whether it succeeded.
    ///
    /// # Errors
    ///
    /// It still runs after `limit`.
    pub fn wait_end(&mut self, limit: Duration) -> anyhow::Result<bool> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.success());
            }
            if Instant::now() > deadline {
                bail!("{} still runs after {limit:?}", self.name);
            }
            // The output ends when the process does.
            let _ = self.wait_line(Duration::from_millis(50), |_| None::<()>);
            std::thread::yield_now();
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A signaling server in a process of its own.
pub struct Server {
    program: Program,
    url: String,
}

impl Server {
    /// Starts one on a free port of the loopback interface.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub fn start() -> anyhow::Result<Self> {
        Self::listen("127.0.0.1:0")
    }

    /// Starts one there.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub fn listen(address: &str) -> anyhow::Result<Self> {
        Self::listen_with(address, &[])
    }

    /// Starts one there, with more flags.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub fn listen_with(address: &str, flags: &[&str]) -> anyhow::Result<Self> {
        let mut command = Command::new(binary("visavis-signaling")?);
        command.args(["--listen", address]).args(flags);
        let mut program = Program::start("visavis-signaling", &mut command)?;
        let url = program.wait_line(Duration::from_secs(10), |line| {
            let at = line.find("http://")?;
            let url = line[at..].split_whitespace().next()?;
            Some(url.trim_end_matches('/').to_owned())
        })?;
        Ok(Self { program, url })
    }

    /// The number of its process.
    pub fn id(&self) -> u32 {
        self.program.id()
    }

    /// `http://ADDRESS:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// `ADDRESS:PORT`.
    pub fn address(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// Kills it, and starts another on the same port after a while.
    ///
    /// # Errors
    ///
    /// It does not die or start.
    pub fn kill_for(&mut self, time: Duration) -> anyhow::Result<()> {
        self.kill()?;
        std::thread::sleep(time);
        self.start_again()
    }

    /// Kills it.
    ///
    /// # Errors
    ///
    /// It does not die.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.program.kill()
    }

    /// Starts another on the same port; it remembers nothing.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub fn start_again(&mut self) -> anyhow::Result<()> {
        let address = self.address().to_owned();
        *self = Self::listen(&address)?;
        Ok(())
    }

    /// Ends it and starts another on the same port.
    ///
    /// # Errors
    ///
    /// It does not end or start.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.restart_with(&[])
    }

    /// The same, with flags for the other one.
    ///
    /// # Errors
    ///
    /// It does not end or start.
    pub fn restart_with(&mut self, flags: &[&str]) -> anyhow::Result<()> {
        self.program.terminate()?;
        self.program.wait_end(Duration::from_secs(5))?;
        *self = Self::listen_with(self.address(), flags)?;
        Ok(())
    }
}

/// Starts `visavis-cli join ROOM --server … --json` with more flags. Pictures do not grow beyond 1280x720, so that figures can
/// be compared.
///
/// # Errors
///
/// It does not start.
pub fn join(name: &str, server: &str, room: &str, flags: &[&str]) -> anyhow::Result<Program> {
    let mut command = Command::new(binary("visavis-cli")?);
    command
        .args(["join", room, "--server", server, "--json", "--max-size", "1280x720"])
        .args(flags);
    Program::start(name, &mut command)
}

/// Fails unless `value` at `path` (dots between names) is a number within `range`.
///
/// # Errors
///
/// It is not.
pub fn expect_within(
    value: &Value,
    path: &str,
    range: std::ops::RangeInclusive<f64>,
) -> anyhow::Result<()> {
    let found = path.split('.').fold(value, |v, name| &v[name]);
    match found.as_f64() {
        Some(number) if range.contains(&number) => Ok(()),
        _ => Err(anyhow!("{path} is {found}, wanted {range:?}, in {value:#}")),
    }
}

/// Whether a file is there and not empty.
pub fn has_content(path: &Path) -> bool {
    path.metadata().is_ok_and(|m| m.len() > 0)
}
