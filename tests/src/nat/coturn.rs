//! coturn (Debian's package) in the middle, set up by the very text of `docs/deploy.md`.

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::{Authority, Network, SERVER};
use crate::document::code;
use crate::program::Program;

/// How users are known to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Users {
    /// By credentials that the signaling server mints with [`SECRET`].
    TimeLimited,
    /// `visavis` alone, with [`PASSWORD`].
    Static,
}

/// As in the document.
pub const SECRET: &str = "THE-SECRET";
/// As in the document.
pub const PASSWORD: &str = "THE-PASSWORD";
/// For UDP and TCP.
pub const PORT: u16 = 3478;
/// For TLS.
pub const TLS_PORT: u16 = 5349;

/// Starts it in the middle of `network`, with the server's certificate of `authority`.
///
/// # Errors
///
/// The document has no configuration, or coturn is missing or does not start.
pub fn start(network: &Network, authority: &Authority, users: Users) -> anyhow::Result<Program> {
    let folder = authority.folder();
    let file = folder.join("turnserver.conf");
    std::fs::write(&file, configuration(users, authority)?)?;
    // It ends with the calling thread, whatever way that ends.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "turnserver"]);
    command.arg("-c").arg(&file).args(["--log-file", "stdout"]);
    // What would otherwise be the machine's, of which there may be one already.
    command.arg("--pidfile").arg(folder.join("turnserver.pid"));
    command.arg("--userdb").arg(folder.join("turndb"));
    let started = network.middle.within(|| Program::start("turnserver", &mut command))?;
    let coturn = started.context("the package is coturn")?;
    let deadline = Instant::now() + Duration::from_secs(10);
    for port in [PORT, TLS_PORT] {
        let address = SocketAddr::new(SERVER[0], port);
        while network.middle.within(|| TcpStream::connect(address).is_err())? {
            if Instant::now() > deadline {
                bail!("coturn does not listen on {address}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(coturn)
}

/// The document's configuration, with the test's certificate.
fn configuration(users: Users, authority: &Authority) -> anyhow::Result<String> {
    let whole = code("deploy.md", "`/etc/turnserver.conf`")?;
    let fixed = code("deploy.md", "For a TURN server with a fixed user")?;
    let mut text = String::new();
    for line in whole.lines() {
        let (name, _) = line.split_once('=').unwrap_or((line, ""));
        let file = |path: PathBuf| format!("{name}={}\n", path.display());
        text += &match (name, users) {
            ("cert", _) => file(authority.certificate()),
            ("pkey", _) => file(authority.key()),
            ("use-auth-secret", Users::Static) => fixed.clone(),
            ("static-auth-secret", Users::Static) => String::new(),
            _ => format!("{line}\n"),
        };
    }
    Ok(text)
}
