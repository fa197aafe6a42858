//! Calls that only the server's own relay can carry. Needs root for network namespaces; CI has it.
#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use visavis_tests::attack::{send_to_each, udp_sockets, volley};
use visavis_tests::link::{Namespace, cannot_test};
use visavis_tests::program::{Server, join, scratch};
use visavis_tests::trace::{is_picture, unix_ms, wait_times};

const LIMIT: Duration = Duration::from_secs(20);
/// So many are shown before a call ends.
const FRAMES: usize = 75;
/// Calls so far, each of which has a folder.
static CALLS: AtomicU32 = AtomicU32::new(0);

/// Two machines that reach a server and not each other.
struct Network {
    server: Server,
    left: Namespace,
    right: Namespace,
    urls: [String; 2],
    middle: Namespace,
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
        Ok(Some(Self { server, left, right, urls, middle }))
    }

    /// The summary of the left one. Something is done `meanwhile`, after the first frame.
    fn call(
        &mut self,
        flags: &[&str],
        meanwhile: impl FnOnce(&Self) -> anyhow::Result<()>,
    ) -> anyhow::Result<Value> {
        let [left_url, right_url] = &self.urls;
        let room = "abc-def-ghj-kmn";
        let mut right = self.right.within(|| join("right", right_url, room, flags))??;
        right.wait_event("waiting", LIMIT)?;
        let folder = scratch(&format!("relayed-call-{}", CALLS.fetch_add(1, Ordering::Relaxed)))?;
        let trace = folder.join("trace.jsonl");
        let flags = [flags, &["--trace", trace.to_str().unwrap()]].concat();
        let mut left = self.left.within(|| join("left", left_url, room, &flags))??;
        left.wait_event("first-video-frame", LIMIT)?;
        meanwhile(self)?;
        wait_times(&trace, unix_ms(), FRAMES, LIMIT, is_picture)?;
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
    assert_relayed(&network.call(&[], |_| Ok(()))?);
    Ok(())
}

#[test]
fn where_udp_is_blocked_they_are_relayed_over_tcp() -> anyhow::Result<()> {
    let rules = "table inet filter {\n  chain input {\n    type filter hook input priority 0;\n    \
                 meta l4proto udp drop\n  }\n}\n";
    let Some(mut network) = Network::start(rules)? else { return Ok(()) };
    let summary = network.call(&[], |_| Ok(()))?;
    assert_relayed(&summary);
    assert_eq!(summary["candidate_pair"]["local"]["relay_protocol"], "tcp", "{summary}");
    Ok(())
}

/// Somebody else at the same relay, whose address is one that both have permitted, for it is the other one's relayed
/// address, too.
#[test]
fn a_stranger_at_the_same_relay_does_not_disturb_a_call() -> anyhow::Result<()> {
    let Some(mut network) = Network::start("")? else { return Ok(()) };
    let alone = network.call(&[], |_| Ok(()))?;
    let attacked = network.call(&[], |network| {
        // They are bound to no address of their own.
        let ports = udp_sockets(network.server.id())?;
        let relayed: Vec<SocketAddr> =
            ports.iter().map(|at| SocketAddr::from(([10, 82, 1, 1], at.port()))).collect();
        network.middle.within(|| send_to_each(&relayed, &volley()))?
    })?;
    assert_relayed(&attacked);
    let figure = |summary: &Value, path: &str| {
        path.split('.').fold(summary, |v, name| &v[name]).as_f64().unwrap_or(f64::NAN)
    };
    let refused = figure(&attacked, "refused_datagrams");
    assert!(refused > 1000.0, "the attack did not get through the relay: {attacked:#}");
    for none in ["video_received.freeze_count", "video_received.decode_errors"] {
        assert_eq!(figure(&attacked, none), figure(&alone, none), "{none}: {attacked:#}");
    }
    let more = figure(&attacked, "max_rss_bytes") - figure(&alone, "max_rss_bytes");
    eprintln!("{refused} datagrams refused, {:.1} MB more", more / 1e6);
    assert!(more < 20e6, "{more} bytes more");
    Ok(())
}
