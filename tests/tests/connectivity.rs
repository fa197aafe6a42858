//! Calls between different kinds of networks: some of the table in docs/connectivity.md, which
//! `./dev bench connectivity` makes. Needs root for network namespaces; CI has it.
#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::unwrap_used)]

use visavis_tests::link::cannot_test;
use visavis_tests::nat::{Authority, Cell, Kind, Network, SERVER, System, hold};

/// The goal is 2 s; a busy machine may take longer.
const CONNECTED_MS: f64 = 3500.0;

/// Holds a call; it has to take the way that there is, and not too long.
fn call(right: System, kinds: [Kind; 2]) -> anyhow::Result<Cell> {
    let authority = Authority::new(&[], &SERVER)?;
    let network = Network::new(kinds)?;
    let _server = network.serve(&authority, &[])?;
    let cell = hold(&network, &authority, right, &[])
        .map_err(|error| error.context(format!("{} to {} ({right:?})", kinds[0], kinds[1])))?;
    eprintln!("{} to {} ({right:?}): {cell:?}", kinds[0], kinds[1]);
    let direct = kinds[0].direct_with(kinds[1]);
    // On a machine so busy that the relay takes a second to be found TCP is tried.
    assert!(is_over_tcp(kinds, &cell) || cell.is_relayed() != direct, "{kinds:?}: {cell:?}");
    assert!(cell.connected_ms() < CONNECTED_MS, "{kinds:?}: {cell:?}");
    Ok(cell)
}

/// Where somebody has no UDP the other one may be reached so, if it is behind no NAT.
fn is_over_tcp(kinds: [Kind; 2], cell: &Cell) -> bool {
    kinds.iter().any(|kind| !kind.has_udp()) && cell.ends().contains(&"host/tcp")
}

#[test]
fn networks_that_let_each_other_in_need_no_relay() -> anyhow::Result<()> {
    if cannot_test() {
        return Ok(());
    }
    for kinds in [
        [Kind::Open, Kind::Open],
        [Kind::Open, Kind::Symmetric],
        [Kind::Cone, Kind::Cone],
        [Kind::Symmetric, Kind::Cone],
        [Kind::PortRestricted, Kind::PortRestricted],
        [Kind::Ipv6, Kind::Ipv6],
    ] {
        call(System::Ours, kinds)?;
    }
    Ok(())
}

#[test]
fn networks_that_keep_each_other_out_are_relayed() -> anyhow::Result<()> {
    if cannot_test() {
        return Ok(());
    }
    for kinds in [
        [Kind::Symmetric, Kind::Symmetric],
        [Kind::PortRestricted, Kind::Symmetric],
        [Kind::Ipv6, Kind::PortRestricted],
        [Kind::Cone, Kind::Ipv6],
    ] {
        call(System::Ours, kinds)?;
    }
    Ok(())
}

#[test]
fn where_no_udp_gets_out_the_relay_is_reached_over_a_stream() -> anyhow::Result<()> {
    if cannot_test() {
        return Ok(());
    }
    for kinds in [
        [Kind::NoUdp, Kind::Open],
        [Kind::Only443, Kind::Symmetric],
        [Kind::Only443, Kind::Only443],
        [Kind::Ipv6, Kind::NoUdp],
    ] {
        let cell = call(System::Ours, kinds)?;
        for (kind, side) in kinds.iter().zip(&cell.sides) {
            let streamed = ["relay/tcp", "relay/tls"].contains(&side.local.as_str());
            assert!(streamed || kind.has_udp() || is_over_tcp(kinds, &cell), "{kinds:?}: {cell:?}");
        }
    }
    Ok(())
}

#[test]
fn a_page_in_chromium_is_met_directly_where_that_is_possible() -> anyhow::Result<()> {
    if cannot_test() {
        return Ok(());
    }
    for kinds in [
        [Kind::PortRestricted, Kind::Cone],
        [Kind::Cone, Kind::Symmetric],
        [Kind::Ipv6, Kind::Open],
    ] {
        call(System::Chromium, kinds)?;
    }
    Ok(())
}

#[test]
fn a_page_in_chromium_is_met_by_the_relay_otherwise() -> anyhow::Result<()> {
    if cannot_test() {
        return Ok(());
    }
    for kinds in [
        [Kind::Symmetric, Kind::PortRestricted],
        [Kind::Open, Kind::Only443],
        [Kind::Only443, Kind::NoUdp],
        [Kind::NoUdp, Kind::Ipv6],
    ] {
        call(System::Chromium, kinds)?;
    }
    Ok(())
}
