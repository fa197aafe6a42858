//! docs/deploy.md, tried as it stands; coturn is in `relay_servers.rs`.
#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::unwrap_used)]

use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use visavis_tests::document::code;
use visavis_tests::nat::Authority;
use visavis_tests::program::{Program, binary, scratch};

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn a_call_comes_about_through_nginx() -> anyhow::Result<()> {
    let authority = Authority::new(&["localhost"], &[])?;
    let folder = authority.folder();
    let flags = code("deploy.md", "\"max-age=15552000\" always;\n}\n```\n")?;
    assert!(flags.contains("--trust-proxy 127.0.0.1"), "{flags}");
    let mut command = Command::new(binary("visavis-signaling")?);
    command.args(["--listen", "127.0.0.1:0", "--trust-proxy", "127.0.0.1"]);
    command.args(["--relay-listen", "127.0.0.1:0"]);
    let mut server = Program::start("visavis-signaling", &mut command)?;
    let address = server.wait_line(LIMIT, |line| {
        line.strip_prefix("Visavis signaling server on ").map(str::to_owned)
    })?;

    let location = code("deploy.md", "For nginx:")?.replace("127.0.0.1:8080", &address);
    assert!(location.contains(&address), "{location}");
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let file = folder.join("nginx.conf");
    let text = format!(
        "daemon off;
         master_process off;
         pid {folder}/nginx.pid;
         error_log stderr;
         events {{}}
         http {{
           access_log off;
           client_body_temp_path {folder}/body;
           proxy_temp_path {folder}/proxy;
           fastcgi_temp_path {folder}/fastcgi;
           uwsgi_temp_path {folder}/uwsgi;
           scgi_temp_path {folder}/scgi;
           server {{
             listen 127.0.0.1:{port} ssl;
             ssl_certificate {certificate};
             ssl_certificate_key {key};
             {location}
           }}
         }}\n",
        folder = folder.display(),
        certificate = authority.certificate().display(),
        key = authority.key().display(),
    );
    std::fs::write(&file, text)?;
    // It ends with the test, whatever way that ends.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "nginx"]).arg("-p").arg(folder).arg("-c").arg(&file);
    let _nginx = Program::start("nginx", &mut command).context("the package is nginx-light")?;
    let deadline = std::time::Instant::now() + LIMIT;
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        anyhow::ensure!(std::time::Instant::now() < deadline, "nginx does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }

    let join = |name: &str| {
        let mut command = Command::new(binary("visavis-cli")?);
        let url = format!("https://localhost:{port}");
        command.args(["join", "abc-def-ghj-kmn", "--server", &url, "--json", "--size", "640x360"]);
        Program::start(name, command.env("SSL_CERT_FILE", authority.root()))
    };
    let mut first = join("first")?;
    first.wait_event("waiting", LIMIT)?;
    let mut second = join("second")?;
    for peer in [&mut first, &mut second] {
        peer.wait_event("first-video-frame", LIMIT)?;
    }
    second.terminate()?;
    assert_eq!(first.wait_event("summary", LIMIT)?["end_reason"], "remote-hangup");
    Ok(())
}

#[test]
fn systemd_accepts_the_unit() -> anyhow::Result<()> {
    let installed = "/usr/local/bin/visavis-signaling";
    let unit = code("deploy.md", "`/etc/systemd/system/visavis-signaling.service`")?;
    assert!(unit.contains(installed), "{unit}");
    let program = binary("visavis-signaling")?.canonicalize()?;
    let folder = scratch("unit")?;
    let file = folder.join("visavis-signaling.service");
    std::fs::write(&file, unit.replace(installed, &program.display().to_string()))?;
    let output = Command::new("systemd-analyze")
        .arg("verify")
        .arg(&file)
        .output()
        .context("systemd-analyze cannot be run; the package is systemd")?;
    let words = String::from_utf8_lossy(&output.stderr);
    std::fs::remove_dir_all(&folder)?;
    // It tells of other units of the machine, too.
    let ours: Vec<_> = words.lines().filter(|line| line.contains("visavis")).collect();
    assert!(output.status.success() && ours.is_empty(), "{words}");
    Ok(())
}
