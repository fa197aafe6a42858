//! Kinds of paths and candidates by themselves: no relay and no STUN server stand by. Needs root for network
//! namespaces; CI has it.
#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use visavis_tests::browser::{Browser, KEEP_CONNECTIONS, Page};
use visavis_tests::link::{Namespace, cannot_test};
use visavis_tests::nat::{Authority, Cell, Kind, Network, ROOM, SERVER, System, enter, hold};
use visavis_tests::program::{Program, binary, join, scratch};
use visavis_tests::trace::{is_heard, longest_gap, unix_ms, wait_times};

const LIMIT: Duration = Duration::from_secs(20);
/// How long a call is held, so that it is measured and everybody tells all that they would.
const CALL: Duration = Duration::from_secs(1);
const BROWSER_LIMIT: Duration = Duration::from_secs(40);

/// What a page says once it has all its candidates.
const GATHERED: &str = "visavis.state().states.iceGathering === 'complete'";

/// A call between our peer and another whose server offers neither STUN nor TURN.
fn call_alone(kinds: [Kind; 2], right: System) -> anyhow::Result<Cell> {
    let authority = Authority::new(&[], &SERVER)?;
    let network = Network::new(kinds)?;
    let _server = network.serve(&authority, &["--no-relay"])?;
    let cell = hold(&network, &authority, right, &[])?;
    eprintln!("{kinds:?}: {cell:?}");
    Ok(cell)
}

#[test]
fn whoever_is_behind_a_nat_is_found_by_its_checks_alone() -> anyhow::Result<()> {
    if cannot_test() {
        return Ok(());
    }
    for (kinds, found) in [
        ([Kind::Open, Kind::PortRestricted], 1),
        ([Kind::Open, Kind::Symmetric], 1),
        ([Kind::Symmetric, Kind::Open], 0),
    ] {
        let cell = call_alone(kinds, System::Ours)?;
        assert_eq!(cell.ends()[found], "prflx", "{cell:?}");
        assert_eq!(cell.ends()[1 - found], "host", "{cell:?}");
    }
    Ok(())
}

#[test]
fn two_who_have_ipv6_alone_meet_through_their_firewalls() -> anyhow::Result<()> {
    if cannot_test() {
        return Ok(());
    }
    let cell = call_alone([Kind::Ipv6, Kind::Ipv6], System::Ours)?;
    assert_eq!(cell.ends(), ["host", "host"], "{cell:?}");
    assert!(cell.sides.iter().all(|side| side.ipv6), "{cell:?}");
    Ok(())
}

/// No STUN server is in reach any more when the other one comes.
#[test]
fn who_waits_has_gathered_candidates_before_anybody_comes() -> anyhow::Result<()> {
    if cannot_test() {
        return Ok(());
    }
    let authority = Authority::new(&[], &SERVER)?;
    for waiting in [System::Ours, System::Chromium] {
        let network = Network::new([Kind::Cone, Kind::Cone])?;
        let _server = network.serve(&authority, &[])?;
        let (mut peer, mut browser) = (None, None);
        match waiting {
            System::Ours => {
                peer.insert(enter(&network, &authority, 0, &[])?).wait_event("waiting", LIMIT)?;
                // It does not say when it has gathered.
                std::thread::sleep(CALL);
            }
            System::Chromium => network.peers[0].within(|| {
                let browser = browser.insert(Browser::start_at_home(&authority.home()?, &[])?);
                let page = browser.open(&format!(
                    "{}/r/{ROOM}?camera=test-pattern&microphone=tone&auto=1",
                    network.url(0)
                ))?;
                page.wait_phase("waiting", BROWSER_LIMIT)?;
                page.wait_for(GATHERED, BROWSER_LIMIT).map(drop)
            })??,
        }
        network.nats[0].nft(
            "table inet shut {
               chain forward {
                 type filter hook forward priority filter - 1;
                 udp dport 443 drop
               }
             }\n",
        )?;
        let mut comes = enter(&network, &authority, 1, &[])?;
        comes.wait_event("first-video-frame", LIMIT)?;
        if let Some(peer) = &mut peer {
            peer.wait_event("first-video-frame", LIMIT)?;
        }
        std::thread::sleep(CALL);
        comes.terminate()?;
        let summary = comes.wait_event("summary", LIMIT)?;
        assert_eq!(summary["candidate_pair"]["remote"]["type"], "srflx", "{waiting:?}: {summary}");
    }
    Ok(())
}

/// The open side listens, for the other has only connections of its own.
#[test]
fn where_udp_does_not_get_through_they_meet_over_tcp() -> anyhow::Result<()> {
    if cannot_test() {
        return Ok(());
    }
    for (kinds, right) in [
        ([Kind::Open, Kind::NoUdp], System::Ours),
        ([Kind::NoUdp, Kind::Open], System::Ours),
        ([Kind::Open, Kind::NoUdp], System::Chromium),
    ] {
        let cell = call_alone(kinds, right)?;
        let open = usize::from(kinds[1] == Kind::Open);
        assert_eq!(cell.ends()[open], "host/tcp", "{cell:?}");
        assert_eq!(cell.ends()[1 - open], "prflx/tcp", "{cell:?}");
        // It is the last resort, after a second.
        assert!(cell.connected_ms() > 900.0, "{cell:?}");
    }
    Ok(())
}

/// UDP gets through, and then no more.
#[test]
fn a_call_over_tcp_takes_udp_while_that_gets_through() -> anyhow::Result<()> {
    if cannot_test() {
        return Ok(());
    }
    let (left, right) = (Namespace::new()?, Namespace::new()?);
    left.cable(("eth", "10.88.0.1/24"), &right, ("eth", "10.88.0.2/24"))?;
    let (_server, port) = serve(&left, &["--no-relay"])?;
    let url = format!("http://10.88.0.1:{port}");
    right.nft(WITHOUT_UDP)?;
    let folder = scratch("over-tcp")?;
    let traces = ["left.jsonl", "right.jsonl"].map(|name| folder.join(name));
    let enter = |side: &Namespace, n: usize| {
        let flags = ["--trace", traces[n].to_str().unwrap()];
        side.within(|| join("peer", &url, ROOM, &flags))?
    };
    let mut there = enter(&right, 1)?;
    there.wait_event("waiting", LIMIT)?;
    let mut here = enter(&left, 0)?;
    for side in [&mut here, &mut there] {
        side.wait_event("first-video-frame", LIMIT)?;
    }
    let is_move = |line: &Value| line["event"] == "path";
    // When each side's media goes another way after this.
    let moved = |rules: &str| -> anyhow::Result<(f64, [f64; 2])> {
        let before = unix_ms();
        right.nft(rules)?;
        let first =
            |trace| Ok::<_, anyhow::Error>(wait_times(trace, before, 1, LIMIT, is_move)?[0]);
        Ok((before, [first(&traces[0])?, first(&traces[1])?]))
    };
    let (lifted, to_udp) = moved("delete table inet without_udp")?;
    let (blocked, to_tcp) = moved(WITHOUT_UDP)?;
    for (trace, back) in traces.iter().zip(to_tcp) {
        // A second of sound.
        wait_times(trace, back, 100, LIMIT, is_heard)?;
    }
    here.terminate()?;
    let summary = here.wait_event("summary", LIMIT)?;
    assert_eq!(summary["candidate_pair"]["local"]["protocol"], "tcp", "{summary}");
    for (side, trace) in traces.iter().enumerate() {
        let text = std::fs::read_to_string(trace)?;
        let (taken, left) = (to_udp[side] - lifted, to_tcp[side] - blocked);
        // The longest is that after the block.
        let (gap, _) = longest_gap(&text, lifted, is_heard);
        eprintln!("UDP after {taken:.0} ms, TCP after {left:.0} ms, longest gap {gap:.2} s");
        assert!(taken < 3000.0 && left < 3000.0, "{taken} and {left} ms");
        assert!(gap < 3.0, "{gap} s");
    }
    std::fs::remove_dir_all(folder)?;
    Ok(())
}

/// Starts a server in `namespace` on this address, and gives its port.
fn serve(namespace: &Namespace, flags: &[&str]) -> anyhow::Result<(Program, u16)> {
    let mut command = Command::new(binary("visavis-signaling")?);
    command.args(["--listen", "0.0.0.0:0"]).args(flags);
    let mut server = namespace.within(|| Program::start("visavis-signaling", &mut command))??;
    let port = server.wait_line(LIMIT, |line| {
        let url = line.split_whitespace().find(|word| word.starts_with("http://"))?;
        url.trim_end_matches('/').rsplit_once(':')?.1.parse().ok()
    })?;
    Ok((server, port))
}

const WITHOUT_UDP: &str = "table inet without_udp {
       chain input {
         type filter hook input priority filter;
         meta l4proto udp drop
       }
     }\n";

/// Lets in only what it asked for.
const FIREWALL: &str = "table inet firewall {
       chain input {
         type filter hook input priority filter;
         iifname \"eth\" udp dport != 5353 ct state new drop
       }
     }\n";

/// Ours lets in only what it asked for, so that it has to make the first step, and has nothing but a name.
#[test]
fn a_name_that_a_browser_tells_instead_of_its_address_is_resolved() -> anyhow::Result<()> {
    if cannot_test() {
        return Ok(());
    }
    let (ours, theirs) = (Namespace::new()?, Namespace::new()?);
    ours.cable(("eth", "10.86.0.1/24"), &theirs, ("eth", "10.86.0.2/24"))?;
    ours.ip("route add default via 10.86.0.2")?;
    theirs.ip("route add default via 10.86.0.1")?;
    ours.nft(FIREWALL)?;
    let (_server, port) = serve(&ours, &["--no-relay"])?;
    let url = format!("http://10.86.0.1:{port}");
    let trusted = format!("--unsafely-treat-insecure-origin-as-secure={url}");
    // A page that may use camera and microphone gets to know the machine's addresses.
    let denied = "--use-fake-ui-for-media-stream=deny";
    let link = format!("{url}/r/{ROOM}?camera=test-pattern&microphone=tone&auto=1");
    // Whoever waits tells its candidates with its offer.
    for page_waits in [false, true] {
        let enter = || ours.within(|| join("peer", &url, ROOM, &[]))?;
        let browser = theirs.within(|| Browser::start(&[&trusted, denied]))??;
        browser.before_pages(KEEP_CONNECTIONS)?;
        let (mut peer, page);
        if page_waits {
            page = browser.open(&link)?;
            page.wait_phase("waiting", BROWSER_LIMIT)?;
            page.wait_for(GATHERED, BROWSER_LIMIT)?;
            peer = enter()?;
        } else {
            peer = enter()?;
            peer.wait_event("waiting", LIMIT)?;
            page = browser.open(&link)?;
        }
        peer.wait_event("first-video-frame", BROWSER_LIMIT)?;
        let told = page.run("benchConnections.at(-1).localDescription.sdp")?;
        let told = told.as_str().unwrap_or_default();
        peer.terminate()?;
        let summary = peer.wait_event("summary", LIMIT)?;
        let pair = &summary["candidate_pair"];
        eprintln!("{pair}");
        assert!(told.contains(".local ") && !told.contains("10.86.0.2"), "{told}");
        assert_eq!(pair["remote"]["type"], "host", "{pair}");
    }
    Ok(())
}

/// Passes TCP on from `listener`, and keeps what comes back.
fn eavesdrop(
    listener: TcpListener,
    namespace: Arc<Namespace>,
    to: SocketAddr,
) -> Arc<Mutex<Vec<u8>>> {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let all = heard.clone();
    std::thread::spawn(move || {
        for from in listener.incoming().map_while(Result::ok) {
            let Ok(Ok(there)) = namespace.within(|| TcpStream::connect(to)) else { return };
            let (Ok(mut here), Ok(mut back)) = (from.try_clone(), there.try_clone()) else {
                return;
            };
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut { from }, &mut { there });
            });
            let all = all.clone();
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(length @ 1..) = back.read(&mut buffer) {
                    all.lock().unwrap().extend_from_slice(&buffer[..length]);
                    if here.write_all(&buffer[..length]).is_err() {
                        break;
                    }
                }
                let _ = here.shutdown(Shutdown::Both);
            });
        }
    });
    heard
}

/// The other one lets in only what it asked for, so that it has to make the first step, and has nothing but a name.
#[test]
fn a_name_that_we_tell_instead_of_our_address_is_resolved() -> anyhow::Result<()> {
    if cannot_test() {
        return Ok(());
    }
    let (ours, theirs) = (Namespace::new()?, Arc::new(Namespace::new()?));
    ours.cable(("eth", "10.85.0.1/24"), &theirs, ("eth", "10.85.0.2/24"))?;
    ours.ip("route add default via 10.85.0.2")?;
    theirs.ip("route add default via 10.85.0.1")?;
    theirs.nft(FIREWALL)?;
    let (_server, port) = serve(&theirs, &["--no-relay"])?;
    let server: SocketAddr = format!("10.85.0.2:{port}").parse()?;
    let listener = theirs.within(|| TcpListener::bind("10.85.0.2:0"))??;
    let url = format!("http://{}", listener.local_addr()?);
    let told = eavesdrop(listener, theirs.clone(), server);
    let trusted = format!("--unsafely-treat-insecure-origin-as-secure={url}");
    let browser = theirs.within(|| Browser::start(&[&trusted]))??;
    let link = format!("{url}/r/{ROOM}?camera=test-pattern&microphone=tone&auto=1");
    for (with_page, hider_waits) in [(false, true), (false, false), (true, true), (true, false)] {
        told.lock().unwrap().clear();
        let flags = ["--hide-local-addresses"];
        let hide = || ours.within(|| join("hides", &format!("http://{server}"), ROOM, &flags))?;
        let enter = || -> anyhow::Result<(Option<Program>, Option<Page<'_>>)> {
            if with_page {
                return Ok((None, Some(browser.open(&link)?)));
            }
            Ok((Some(theirs.within(|| join("peer", &url, ROOM, &[]))??), None))
        };
        let (mut hides, (mut peer, page));
        if hider_waits {
            hides = hide()?;
            hides.wait_event("waiting", LIMIT)?;
            (peer, page) = enter()?;
        } else {
            (peer, page) = enter()?;
            if let Some(peer) = &mut peer {
                peer.wait_event("waiting", LIMIT)?;
            }
            if let Some(page) = &page {
                page.wait_phase("waiting", BROWSER_LIMIT)?;
            }
            hides = hide()?;
        }
        hides.wait_event("first-video-frame", BROWSER_LIMIT)?;
        std::thread::sleep(CALL);
        hides.terminate()?;
        let summary = hides.wait_event("summary", LIMIT)?;
        // It knows itself what it does not tell.
        let local = &summary["candidate_pair"]["local"];
        assert!(local.to_string().contains("10.85.0.1:"), "{local}");
        eprintln!("page {with_page}, hider waits {hider_waits}: {}", summary["setup_ms"]);
        if let Some(peer) = &mut peer {
            let summary = peer.wait_event("summary", LIMIT)?;
            assert_eq!(summary["candidate_pair"]["remote"]["type"], "host", "{summary}");
        }
        if let Some(page) = &page {
            page.wait_phase("ended", BROWSER_LIMIT)?;
        }
        let told = String::from_utf8_lossy(&told.lock().unwrap()).into_owned();
        assert!(told.contains(".local ") && !told.contains("10.85.0.1"), "{told}");
    }
    Ok(())
}

/// What the server passes to each of two is written down; the left one uses relays only.
#[test]
fn nothing_that_is_signaled_tells_the_address_of_who_uses_relays_only() -> anyhow::Result<()> {
    if cannot_test() {
        return Ok(());
    }
    let (left, right) = (Namespace::new()?, Namespace::new()?);
    let middle = Arc::new(Namespace::new()?);
    left.cable(("eth", "10.87.1.2/24"), &middle, ("m1", "10.87.1.1/24"))?;
    right.cable(("eth", "10.87.2.2/24"), &middle, ("m2", "10.87.2.1/24"))?;
    left.ip("route add default via 10.87.1.1")?;
    right.ip("route add default via 10.87.2.1")?;
    middle.set("ipv4/ip_forward", "1")?;
    let (_server, port) = serve(&middle, &["--relay-allow-private"])?;
    // TCP to the server takes a detour; UDP, for its relay, does not.
    let mut heard = Vec::new();
    for (device, host) in [("m1", "10.87.1.1"), ("m2", "10.87.2.1")] {
        let listener = middle.within(|| TcpListener::bind((host, 0)))??;
        let detour = listener.local_addr()?.port();
        middle.nft(&format!(
            "table ip detour {{
               chain prerouting {{
                 type nat hook prerouting priority dstnat;
                 iifname \"{device}\" tcp dport {port} redirect to :{detour}
               }}
             }}\n"
        ))?;
        let to = SocketAddr::new(host.parse()?, port);
        heard.push(eavesdrop(listener, middle.clone(), to));
    }
    // Nothing goes straight from one to the other.
    middle.nft(
        "table inet straight {
           chain forward {
             type filter hook forward priority filter;
             ip saddr 10.87.1.2 counter
           }
         }\n",
    )?;
    let mut waits =
        right.within(|| join("right", &format!("http://10.87.2.1:{port}"), ROOM, &[]))??;
    waits.wait_event("waiting", LIMIT)?;
    let url = format!("http://10.87.1.1:{port}");
    let mut hides = left.within(|| join("left", &url, ROOM, &["--relay-only"]))??;
    hides.wait_event("first-video-frame", LIMIT)?;
    waits.wait_event("first-video-frame", LIMIT)?;
    std::thread::sleep(CALL);
    hides.terminate()?;
    let summary = hides.wait_event("summary", LIMIT)?;
    waits.wait_event("summary", LIMIT)?;
    assert_eq!(summary["candidate_pair"]["local"]["type"], "relay", "{summary}");

    let text =
        |heard: &Mutex<Vec<u8>>| String::from_utf8_lossy(&heard.lock().unwrap()).into_owned();
    let [to_left, to_right] = [text(&heard[0]), text(&heard[1])];
    let kinds = |text: &str| {
        ["host", "srflx", "prflx", "relay"].map(|kind| text.matches(&format!("typ {kind}")).count())
    };
    eprintln!(
        "told by the right one: {:?}, by the left one: {:?}",
        kinds(&to_left),
        kinds(&to_right)
    );
    // It is seen where it is told.
    assert!(to_left.contains("10.87.2.2") && kinds(&to_left)[0] > 0, "{to_left}");
    let [host, srflx, prflx, relay] = kinds(&to_right);
    assert!(host + srflx + prflx == 0 && relay > 0, "{to_right}");
    assert!(!to_right.contains("10.87.1.2"), "{to_right}");
    let rules = middle.within(|| Command::new("nft").args(["list", "ruleset"]).output())??;
    let rules = String::from_utf8_lossy(&rules.stdout).into_owned();
    assert!(rules.contains("counter packets 0 bytes 0"), "{rules}");
    Ok(())
}
