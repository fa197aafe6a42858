//! The real desktop program in a real window, in a call with Chromium through its own server.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use visavis_tests::browser::Browser;
use visavis_tests::program::{Program, Server, binary, join, scratch};
use visavis_tests::screen::Screen;

const LIMIT: Duration = Duration::from_secs(30);
const ROOM: &str = "abc-dek-ghj-kmn";

/// A port that was free a moment ago.
fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn wait_listening(port: u16) -> anyhow::Result<()> {
    let deadline = Instant::now() + LIMIT;
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        if Instant::now() > deadline {
            bail!("the app's server does not listen");
        }
        std::thread::yield_now();
    }
    Ok(())
}

#[test]
fn app_and_browser_see_each_other_through_the_apps_own_server() -> anyhow::Result<()> {
    let folder = scratch("desktop")?;
    let screen = Screen::start(&folder)?;
    let port = free_port()?;
    let mut command = screen.command(&binary("visavis")?);
    command.args([ROOM, "--join", "--listen", &format!("127.0.0.1:{port}")]);
    command.args(["--camera", "test-pattern", "--microphone", "tone", "--speaker", "none"]);
    let mut app = Program::start("visavis", &mut command)?;
    wait_listening(port)?;
    // Alone, it shows the code to pass on.
    screen.wait_text(LIMIT, |text| text.to_lowercase().contains(ROOM))?;

    let browser = Browser::start(&[])?;
    let query = "camera=test-pattern&microphone=tone&auto=1";
    let page = browser.open(&format!("http://127.0.0.1:{port}/r/{ROOM}?{query}"))?;
    page.wait_phase("connected", LIMIT)?;

    // The page sees the app's moving picture and hears its tone.
    let first = page.wait_for("visavis.readTimeCode()", LIMIT).context("no time code")?;
    page.wait_for(&format!("((visavis.readTimeCode() ?? {first}) - {first} | 0) > 300"), LIMIT)?;
    page.wait_for("Math.abs((visavis.remoteTone() ?? 0) - 440) < 5", LIMIT)?;

    // The window shows the page's: many colours, in motion. The middle has no controls over it.
    let middle = (240, 180, 700, 360);
    let deadline = Instant::now() + LIMIT;
    loop {
        let (before, after) = (screen.shot(middle)?, screen.shot(middle)?);
        if before.colours() >= 5 && before.difference(&after) > 0.005 {
            break;
        }
        if Instant::now() > deadline {
            bail!("{} colours, {} changed", before.colours(), before.difference(&after));
        }
    }

    // The debug panel tells of a connected pair.
    screen.point(640, 400)?;
    screen.focus("Visavis")?;
    screen.press("i")?;
    screen.wait_text(LIMIT, |text| {
        let text = text.to_lowercase();
        text.contains("connected") && (text.contains("nominated") || text.contains("selected"))
    })?;
    drop(browser);
    app.kill()?;
    std::fs::remove_dir_all(folder)?;
    Ok(())
}

#[test]
fn an_app_that_was_killed_offers_its_call_again_and_comes_back_without_knocking()
-> anyhow::Result<()> {
    let folder = scratch("killed-app")?;
    let screen = Screen::start(&folder)?;
    let server = Server::start()?;
    // It lets nobody in.
    let mut inside = join("inside", server.url(), ROOM, &["--size", "320x180"])?;
    inside.wait_event("waiting", LIMIT)?;
    let app = |flags: &[&str]| -> anyhow::Result<Program> {
        let mut command = screen.command(&binary("visavis")?);
        command.args(["--camera", "test-pattern", "--microphone", "tone", "--speaker", "none"]);
        Program::start("visavis", command.args(flags))
    };
    let call = [ROOM, "--server", server.url(), "--join"];
    let mut first = app(&call)?;
    inside.wait_event("first-video-frame", LIMIT)?;
    let deadline = Instant::now() + LIMIT;
    while !folder.join("config/visavis/seat.json").exists() {
        ensure!(Instant::now() < deadline, "nothing is kept");
        std::thread::yield_now();
    }
    first.kill()?;
    let mut lobby = app(&[])?;
    screen.wait_text(LIMIT, |text| text.contains("was interrupted"))?;
    lobby.kill()?;
    let mut again = app(&call)?;
    inside.wait_event("connected", LIMIT)?;
    again.kill()?;
    std::fs::remove_dir_all(folder)?;
    Ok(())
}
