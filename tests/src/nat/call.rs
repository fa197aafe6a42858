//! One call between two networks, and what it tells: the path and the times.

use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Authority, Network};
use crate::browser::{Browser, Page};
use crate::program::{Program, binary};

/// Long enough for anything that is not broken.
const LIMIT: Duration = Duration::from_secs(20);
/// Browsers start slowly on a busy machine.
const BROWSER_LIMIT: Duration = Duration::from_secs(40);
/// How long the call lasts once both see each other: a better path may be found meanwhile.
const CALL: Duration = Duration::from_millis(1500);
/// The room of all these calls.
pub const ROOM: &str = "abc-def-ghj-kmn";

/// Whose peer it is on the right; on the left it is always ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum System {
    /// `visavis-cli`.
    Ours,
    /// The page in Chromium, which hides its own addresses as `.local` names.
    Chromium,
}

/// What one side saw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// Its end of the path at the end of the call: `host`, `srflx`, `prflx`, `relay/udp`,
    /// `relay/tcp` or `relay/tls`, the latter by how the relay is reached.
    pub local: String,
    /// The other end as this side knows it.
    pub remote: String,
    /// Whether the path is IPv6.
    pub ipv6: bool,
    /// From when it knew of the other side until ICE and DTLS were through.
    pub connected_ms: f64,
    /// And until it showed the first picture.
    pub picture_ms: f64,
}

/// What one call did, left and right.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// Both sides.
    pub sides: [Side; 2],
}

impl Cell {
    /// Both ends of the path: a relayed one by how its side reaches the relay, others by what they
    /// are to the other side.
    pub fn ends(&self) -> [&str; 2] {
        let [left, right] = &self.sides;
        [(left, right), (right, left)].map(|(own, other)| {
            if own.local.starts_with("relay") { own.local.as_str() } else { other.remote.as_str() }
        })
    }

    /// Whether a relay carries it.
    pub fn is_relayed(&self) -> bool {
        self.sides.iter().any(|side| side.local.starts_with("relay"))
    }

    /// The slower side's time until it was connected.
    pub fn connected_ms(&self) -> f64 {
        self.sides[0].connected_ms.max(self.sides[1].connected_ms)
    }

    /// The slower side's time until its first picture.
    pub fn picture_ms(&self) -> f64 {
        self.sides[0].picture_ms.max(self.sides[1].picture_ms)
    }
}

/// Holds a call over `network`, whose server is running: the left side waits, the right one comes.
/// `flags` are for our peers.
///
/// # Errors
///
/// They do not see each other.
pub fn hold(
    network: &Network,
    authority: &Authority,
    right: System,
    flags: &[&str],
) -> anyhow::Result<Cell> {
    let mut left = enter(network, authority, 0, flags)?;
    left.wait_event("waiting", LIMIT)?;
    match right {
        System::Ours => {
            let mut right = enter(network, authority, 1, flags)?;
            right.wait_event("first-video-frame", LIMIT)?;
            left.wait_event("first-video-frame", LIMIT)?;
            std::thread::sleep(CALL);
            right.terminate()?;
            let sides = [summary(&mut left)?, summary(&mut right)?];
            Ok(Cell { sides })
        }
        System::Chromium => {
            let browser = network.peers[1]
                .within(|| Browser::start_at_home(&authority.home()?, &[]))?
                .context("Chromium does not start")?;
            let right = network.peers[1].within(|| chromium(network, &browser, &mut left))??;
            left.terminate()?;
            Ok(Cell { sides: [summary(&mut left)?, right] })
        }
    }
}

/// Our peer on that side of `network` enters the room of all these calls.
///
/// # Errors
///
/// It does not start.
pub fn enter(
    network: &Network,
    authority: &Authority,
    side: usize,
    flags: &[&str],
) -> anyhow::Result<Program> {
    let mut command = Command::new(binary("visavis-cli")?);
    command.args(["join", ROOM, "--server", &network.url(side), "--json"]);
    command.args(["--size", "640x360"]).args(flags);
    command.env("SSL_CERT_FILE", authority.root());
    let name = ["left", "right"][side];
    network.peers[side].within(|| Program::start(name, &mut command))?
}

fn summary(peer: &mut Program) -> anyhow::Result<Side> {
    let summary = peer.wait_event("summary", LIMIT)?;
    let setup = &summary["setup_ms"];
    let since_known = |name: &str| -> anyhow::Result<f64> {
        let time = setup[name].as_f64().zip(setup["remote_peer"].as_f64());
        time.map(|(at, known)| at - known).with_context(|| format!("no {name} in {setup}"))
    };
    let pair = &summary["candidate_pair"];
    Ok(Side {
        local: end(&pair["local"]),
        remote: end(&pair["remote"]),
        ipv6: pair["remote"]["address"].as_str().is_some_and(|address| address.starts_with('[')),
        connected_ms: since_known("dtls_connected")?,
        picture_ms: since_known("first_video_frame")?,
    })
}

/// The kind of a candidate, and how its side reaches the relay, or that it is one of TCP.
fn end(candidate: &Value) -> String {
    let kind = candidate["type"].as_str().unwrap_or("?");
    let tcp = candidate["protocol"].as_str().filter(|protocol| *protocol != "udp");
    match candidate["relay_protocol"].as_str().or(tcp) {
        Some(protocol) => format!("{kind}/{protocol}"),
        None => kind.to_owned(),
    }
}

/// Notes when the peer connection was made, when it was connected and when a picture was shown.
const WATCH: &str = "
  window.natTimes = {};
  window.natConnections = [];
  window.RTCPeerConnection = class extends RTCPeerConnection {
    constructor(...all) {
      super(...all);
      natConnections.push(this);
      natTimes.made ??= performance.now();
      this.addEventListener('connectionstatechange', () => {
        if (this.connectionState === 'connected') natTimes.connected ??= performance.now();
      });
    }
  };
  document.addEventListener('DOMContentLoaded', () => {
    document.getElementById('remote')?.requestVideoFrameCallback(
      () => natTimes.picture ??= performance.now());
  });";

/// The selected pair: both ends, and the times.
const LOOK: &str = "(async () => {
  const report = await natConnections.at(-1).getStats();
  const transport = [...report.values()].find((s) => s.type === 'transport');
  const pair = report.get(transport.selectedCandidatePairId);
  const end = (id) => {
    const { candidateType: type, relayProtocol: relay_protocol, protocol, address } = report.get(id);
    return { type, relay_protocol, protocol, address };
  };
  return { local: end(pair.localCandidateId), remote: end(pair.remoteCandidateId), times: natTimes };
})()";

fn chromium(network: &Network, browser: &Browser, left: &mut Program) -> anyhow::Result<Side> {
    browser.before_pages(WATCH)?;
    let link = format!("{}/r/{ROOM}?camera=test-pattern&microphone=tone&auto=1", network.url(1));
    let page: Page = browser.open(&link)?;
    page.wait_for("natTimes.picture", BROWSER_LIMIT).context("the page sees nothing")?;
    left.wait_event("first-video-frame", LIMIT)?;
    std::thread::sleep(CALL);
    let seen = page.run_async(LOOK)?;
    let since_made = |name: &str| -> anyhow::Result<f64> {
        let time = seen["times"][name].as_f64().zip(seen["times"]["made"].as_f64());
        time.map(|(at, made)| at - made).with_context(|| format!("no {name} in {seen}"))
    };
    Ok(Side {
        local: end(&seen["local"]),
        remote: end(&seen["remote"]),
        ipv6: seen["remote"]["address"].as_str().is_some_and(|address| address.contains(':')),
        connected_ms: since_made("connected")?,
        picture_ms: since_made("picture")?,
    })
}
