//! Relays end to end, coturn and the server's own: every transport, every kind of credential, and
//! what is said of bad ones. Needs root for network namespaces; CI has it.
#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::unwrap_used)]

use std::process::Command;
use std::time::Duration;

use visavis_tests::link::cannot_test;
use visavis_tests::nat::coturn::{self, PASSWORD, PORT, SECRET, TLS_PORT, Users};
use visavis_tests::nat::{Authority, Cell, Kind, Network, SERVER, System, hold};
use visavis_tests::program::{Program, binary};

const LIMIT: Duration = Duration::from_secs(20);

/// Two networks that let UDP out, and what is in the middle.
struct Middle {
    network: Network,
    authority: Authority,
}

impl Middle {
    /// `None` where there can be no namespaces; in CI that is a failure.
    fn new(kinds: [Kind; 2]) -> anyhow::Result<Option<Self>> {
        if cannot_test() {
            return Ok(None);
        }
        let (network, authority) = (Network::new(kinds)?, Authority::new(&[], &SERVER)?);
        Ok(Some(Self { network, authority }))
    }

    fn call(&self, flags: &[&str]) -> anyhow::Result<Cell> {
        let flags = [&["--relay-only"], flags].concat();
        let cell = hold(&self.network, &self.authority, System::Ours, &flags)?;
        eprintln!("{flags:?}: {cell:?}");
        Ok(cell)
    }

    /// What a peer that has only this relay says of it.
    fn problem(&self, relay: &str) -> anyhow::Result<String> {
        let mut command = Command::new(binary("visavis-cli")?);
        command.args(["join", "abc-def-ghj-kmn", "--server", &self.network.url(0), "--json"]);
        command.args(["--relay-only", "--camera", "none", "--ice-server", relay]);
        command.env("SSL_CERT_FILE", self.authority.root());
        let mut start = |side: usize| {
            self.network.peers[side].within(|| Program::start("peer", &mut command))?
        };
        let mut first = start(0)?;
        first.wait_event("waiting", LIMIT)?;
        let mut second = start(1)?;
        let event = first.wait_event("relay-problem", LIMIT)?;
        let words = event["detail"].as_str().unwrap_or_default().to_owned();
        // The next ones find the room empty.
        for peer in [&mut second, &mut first] {
            peer.terminate()?;
            peer.wait_event("summary", LIMIT)?;
        }
        eprintln!("{words}");
        Ok(words)
    }
}

fn assert_reached_by(cell: &Cell, protocols: &[&str]) {
    for side in &cell.sides {
        let relay = side.local.strip_prefix("relay/");
        assert!(relay.is_some_and(|protocol| protocols.contains(&protocol)), "{cell:?}");
    }
}

/// URLs of coturn in the middle, with what they are called in the figures.
fn transports() -> [(&'static str, String); 3] {
    let host = SERVER[0];
    [
        ("udp", format!("turn:{host}:{PORT}?transport=udp")),
        ("tcp", format!("turn:{host}:{PORT}?transport=tcp")),
        ("tls", format!("turns:{host}:{TLS_PORT}?transport=tcp")),
    ]
}

#[test]
fn coturn_relays_for_whom_the_server_gives_credentials() -> anyhow::Result<()> {
    let Some(middle) = Middle::new([Kind::Cone, Kind::Symmetric])? else { return Ok(()) };
    let _coturn = coturn::start(&middle.network, &middle.authority, Users::TimeLimited)?;
    for (protocol, url) in transports() {
        let flags = ["--turn-url", &url, "--turn-secret", SECRET];
        let _server = middle.network.serve(&middle.authority, &flags)?;
        assert_reached_by(&middle.call(&[])?, &[protocol]);
    }
    Ok(())
}

#[test]
fn coturn_relays_for_a_fixed_user() -> anyhow::Result<()> {
    let Some(middle) = Middle::new([Kind::PortRestricted, Kind::Open])? else { return Ok(()) };
    let _coturn = coturn::start(&middle.network, &middle.authority, Users::Static)?;
    let _server = middle.network.serve(&middle.authority, &["--no-relay"])?;
    for (protocol, url) in transports() {
        let relay = format!("{url},visavis,{PASSWORD}");
        assert_reached_by(&middle.call(&["--ice-server", &relay])?, &[protocol]);
    }
    Ok(())
}

#[test]
fn what_is_wrong_with_the_credentials_for_coturn_is_said() -> anyhow::Result<()> {
    let Some(middle) = Middle::new([Kind::Cone, Kind::Cone])? else { return Ok(()) };
    let _coturn = coturn::start(&middle.network, &middle.authority, Users::TimeLimited)?;
    let _server = middle.network.serve(&middle.authority, &["--no-relay"])?;
    for (_, url) in transports() {
        // Of 2001, with the right password for it.
        let expired = middle.problem(&format!("{url},{EXPIRED_USER},{EXPIRED_PASSWORD}"))?;
        let wrong = middle.problem(&format!("{url},4000000000:somebody,{EXPIRED_PASSWORD}"))?;
        // The log names a relay over UDP by its address.
        let name = url.trim_end_matches("?transport=udp");
        for words in [&expired, &wrong] {
            assert!(words.contains(name) && words.contains("(401)"), "{words}");
        }
        assert!(expired.contains("time is over"), "{expired}");
        assert!(wrong.contains("wrong") && !wrong.contains("time"), "{wrong}");
    }
    Ok(())
}

#[test]
fn the_own_relay_is_reached_over_udp_tcp_and_tls() -> anyhow::Result<()> {
    // Over TCP alone and with TLS it is reached alike, and the first to answer is taken.
    for (kind, inspected, protocols) in [
        (Kind::PortRestricted, false, &["udp"][..]),
        (Kind::NoUdp, false, &["tcp", "tls"]),
        (Kind::NoUdp, true, &["tls"]),
    ] {
        let Some(middle) = Middle::new([kind, kind])? else { return Ok(()) };
        if inspected {
            // Nothing that shows itself as STUN (its cookie, RFC 8489 §5) passes.
            for nat in &middle.network.nats {
                nat.nft(
                    "table inet inspection {
                       chain forward {
                         type filter hook forward priority filter - 1;
                         tcp dport 443 @ih,32,32 0x2112a442 drop
                       }
                     }\n",
                )?;
            }
        }
        let _server = middle.network.serve(&middle.authority, &[])?;
        assert_reached_by(&middle.call(&[])?, protocols);
    }
    Ok(())
}

#[test]
fn what_is_wrong_with_the_credentials_for_the_own_relay_is_said() -> anyhow::Result<()> {
    let Some(middle) = Middle::new([Kind::Cone, Kind::Cone])? else { return Ok(()) };
    // Its own credentials are good, so that these are what is refused.
    let _server = middle.network.serve(&middle.authority, &[])?;
    let host = SERVER[0];
    for url in [
        format!("turn:{host}:443?transport=udp"),
        format!("turn:{host}:443?transport=tcp"),
        format!("turns:{host}:443?transport=tcp"),
    ] {
        let foreign = middle.problem(&format!("{url},4000000000:somebody,{EXPIRED_PASSWORD}"))?;
        assert!(foreign.contains("wrong") && !foreign.contains("time"), "{foreign}");
        let expired = middle.problem(&format!("{url},{EXPIRED_USER},{EXPIRED_PASSWORD}"))?;
        assert!(expired.contains("time is over"), "{expired}");
    }
    Ok(())
}

const EXPIRED_USER: &str = "1000000000:test";
/// HMAC-SHA1 of [`EXPIRED_USER`] by [`SECRET`].
const EXPIRED_PASSWORD: &str = "H046R9LcaaddkgiSjHrZTf2q1Jk=";
