//! Calls that only the server's own relay can carry. Needs root for network namespaces; CI has it.
#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::unwrap_used)]

use std::time::Duration;

use serde_json::Value;
use visavis_tests::link::{Namespace, cannot_test};
use visavis_tests::program::{Server, join};

const LIMIT: Duration = Duration::from_secs(20);

/// Two machines that reach a server and not each other.
struct Network {
    _server: Server,
    left: Namespace,
    right: Namespace,
    urls: [String; 2],
    /// Lives as long as what runs in it.
    _middle: Namespace,
}

impl Network {
    /// `None` where there can be no namespaces; in CI that is a failure. `rules` are nft's, for
    /// what comes to the server.
    fn start(rules: &str) -> anyhow::Result<Option<Self>> {
        if cannot_test() {
            return Ok(None);
        }
        let (left, middle, right) = (Namespace::new()?, Namespace::new()?, Namespace::new()?);
        left.cable(("eth", "10.82.1.2/24"), &middle, ("m1", "10.82.1.1/24"))?;
        right.cable(("eth", "10.82.2.2/24"), &middle, ("m2", "10.82.2.1/24"))?;
        left.ip("route add default via 10.82.1.1")?;
        right.ip("route add default via 10.82.2.1")?;
        middle.set("ipv4/ip_forward", "0")?;
        middle.nft(rules)?;
        let server = middle.within(|| Server::listen("0.0.0.0:0"))??;
        let port = server.address().rsplit_once(':').unwrap().1.to_owned();
        let urls = ["10.82.1.1", "10.82.2.1"].map(|host| format!("http://{host}:{port}"));
        Ok(Some(Self { _server: server, left, right, urls, _middle: middle }))
    }

    /// The summary of the left one.
    fn call(&mut self, flags: &[&str]) -> anyhow::Result<Value> {
        let [left_url, right_url] = &self.urls;
        let room = "abc-def-ghj-kmn";
        let mut right = self.right.within(|| join("right", right_url, room, flags))??;
        right.wait_event("waiting", LIMIT)?;
        let mut left = self.left.within(|| join("left", left_url, room, flags))??;
        left.wait_event("first-video-frame", LIMIT)?;
        std::thread::sleep(Duration::from_secs(3));
        left.terminate()?;
        let summary = left.wait_event("summary", LIMIT)?;
        right.wait_event("summary", LIMIT)?;
        eprintln!("{} {}", summary["candidate_pair"], summary["setup_ms"]);
        Ok(summary)
    }
}

fn assert_relayed(summary: &Value) {
    assert_eq!(summary["candidate_pair"]["local"]["type"], "relay", "{summary}");
    let frames = summary["video_received"]["frames_decoded"].as_u64().unwrap_or(0);
    assert!(frames > 40, "{summary}");
    let setup = &summary["setup_ms"];
    let connected = setup["ice_connected"].as_f64().zip(setup["remote_peer"].as_f64());
    // 2 s is the goal.
    assert!(connected.is_some_and(|(ice, peer)| ice - peer < 3000.0), "{setup}");
}

#[test]
fn who_reach_the_server_alone_are_relayed_over_udp() -> anyhow::Result<()> {
    let Some(mut network) = Network::start("")? else { return Ok(()) };
    assert_relayed(&network.call(&[])?);
    Ok(())
}

#[test]
fn where_udp_is_blocked_they_are_relayed_over_tcp() -> anyhow::Result<()> {
    let rules = "table inet filter {\n  chain input {\n    type filter hook input priority 0;\n    \
                 meta l4proto udp drop\n  }\n}\n";
    let Some(mut network) = Network::start(rules)? else { return Ok(()) };
    let summary = network.call(&[])?;
    assert_relayed(&summary);
    assert_eq!(summary["candidate_pair"]["local"]["relay_protocol"], "tcp", "{summary}");
    Ok(())
}
