//! A headless peer in a call with the real page in real Chromium.

use std::time::Duration;

use anyhow::Context;
use visavis_tests::browser::{Browser, KEEP_CONNECTIONS, Page};
use visavis_tests::program::{Program, Server, expect_within, join};

const LIMIT: Duration = Duration::from_secs(30);
const ROOM: &str = "abc-dek-ghj-kmn";
const DIAGNOSTIC: &str = "camera=test-pattern&microphone=tone&auto=1";

/// The peer waits in the room, the page comes.
fn call<'b>(
    server: &Server,
    browser: &'b Browser,
    flags: &[&str],
) -> anyhow::Result<(Program, Page<'b>)> {
    let mut peer = join("peer", server.url(), ROOM, flags)?;
    peer.wait_event("waiting", LIMIT)?;
    let page = browser.open(&format!("{}/r/{ROOM}?{DIAGNOSTIC}", server.url()))?;
    page.wait_phase("connected", LIMIT)?;
    peer.wait_event("first-video-frame", LIMIT)?;
    Ok((peer, page))
}

/// The peer's bars of 75 % have their colours on the page.
fn expect_colours_on(page: &Page<'_>) -> anyhow::Result<()> {
    const LOOK: &str = "(() => {
        const video = document.getElementById('remote');
        const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
        const context = canvas.getContext('2d');
        context.drawImage(video, 0, 0);
        const want = [[191,191,191],[191,191,0],[0,191,191],[0,191,0],[191,0,191],[191,0,0],[0,0,191]];
        const off = want.map((rgb, i) => {
            const x = Math.floor(canvas.width * (i + 0.5) / 7);
            const seen = context.getImageData(x, Math.floor(canvas.height * 0.15), 1, 1).data;
            return Math.max(...rgb.map((c, k) => Math.abs(c - seen[k])));
        });
        // A ball may be over one of the bars.
        return off.sort((a, b) => a - b)[5];
    })() < 14";
    page.wait_for(LOOK, LIMIT).context("the colours are wrong")?;
    Ok(())
}

#[test]
fn page_and_headless_peer_see_and_hear_each_other() -> anyhow::Result<()> {
    let server = Server::start()?;
    let browser = Browser::start(&[])?;
    let (mut peer, page) = call(&server, &browser, &["--size", "640x360"])?;
    page.wait_for_peer(LIMIT)?;
    expect_colours_on(&page)?;
    page.click("#leave")?;
    let summary = peer.wait_event("summary", LIMIT)?;
    assert_eq!(summary["end_reason"], "remote-hangup");
    assert_eq!(summary["video_received"]["codec"], "H264");
    // The page's own strip and tone arrived, read from decoded pictures and samples.
    expect_within(&summary, "video_received.latency_ms.p50", 0.0..=1000.0)?;
    expect_within(&summary, "video_received.decode_errors", 0.0..=0.0)?;
    expect_within(&summary, "audio_received.tone_hz", 435.0..=445.0)?;
    // The page sends redundant copies (RED), because our description prefers them.
    expect_within(&summary, "audio_received.red_copies", 10.0..=1e6)?;
    expect_within(&summary, "video_sent.frames", 5.0..=2000.0)?;
    Ok(())
}

#[test]
fn page_that_enters_first_is_called_too_and_hears_the_hangup() -> anyhow::Result<()> {
    let server = Server::start()?;
    let browser = Browser::start(&[])?;
    let page = browser.open(&format!("{}/r/{ROOM}?{DIAGNOSTIC}", server.url()))?;
    page.wait_phase("waiting", LIMIT)?;
    let mut peer = join("peer", server.url(), ROOM, &["--size", "640x360"])?;
    peer.wait_event("first-video-frame", LIMIT)?;
    page.wait_for_peer(LIMIT)?;
    peer.terminate()?;
    assert_eq!(peer.wait_event("summary", LIMIT)?["end_reason"], "local-hangup");
    page.wait_phase("ended", LIMIT)?;
    page.wait_for("document.body.innerText.includes('The other side hung up')", LIMIT)?;
    Ok(())
}

#[test]
fn every_codec_goes_both_ways_whoever_waits() -> anyhow::Result<()> {
    let server = Server::start()?;
    let browser = Browser::start(&[])?;
    for (codec, page_waits) in [("vp8", true), ("vp9", false), ("av1", true), ("av1", false)] {
        let flags = ["--size", "640x360", "--video-codecs", codec];
        let (mut peer, page) = if page_waits {
            let page = browser.open(&format!("{}/r/{ROOM}?{DIAGNOSTIC}", server.url()))?;
            page.wait_phase("waiting", LIMIT)?;
            (join("peer", server.url(), ROOM, &flags)?, page)
        } else {
            call(&server, &browser, &flags)?
        };
        page.wait_for_peer(LIMIT).with_context(|| codec.to_owned())?;
        page.click("#leave")?;
        let summary = peer.wait_event("summary", LIMIT)?;
        for way in ["video_sent", "video_received"] {
            assert_eq!(summary[way]["codec"], codec.to_uppercase(), "{way}");
        }
        expect_within(&summary, "video_received.decode_errors", 0.0..=0.0)?;
        expect_within(&summary, "video_received.latency_ms.p50", 0.0..=1000.0)?;
    }
    Ok(())
}

#[test]
fn a_page_shows_main_profile_on_a_narrow_line() -> anyhow::Result<()> {
    const LINE: &str = "(async () => {
        const report = await benchConnections.at(-1).getStats();
        const video = [...report.values()].find((s) => s.type === 'inbound-rtp' && s.kind === 'video');
        return report.get(video.codecId).sdpFmtpLine;
    })()";
    const FRAMES: &str =
        "document.getElementById('remote').getVideoPlaybackQuality().totalVideoFrames";
    let server = Server::start()?;
    let browser = Browser::start(&[])?;
    browser.before_pages(KEEP_CONNECTIONS)?;
    let flags = ["--size", "640x360", "--video-codecs", "h264", "--max-bitrate", "250000"];
    let (mut peer, page) = call(&server, &browser, &flags)?;
    let line = page.run_async(LINE)?;
    assert!(line.as_str().is_some_and(|line| line.contains("=4d001f")), "{line}");
    // CABAC comes five seconds into the call.
    page.wait_for(&format!("{FRAMES} > 240"), LIMIT)?;
    page.wait_for_peer(LIMIT)?;
    expect_colours_on(&page)?;
    peer.terminate()?;
    let summary = peer.wait_event("summary", LIMIT)?;
    assert_eq!(summary["video_sent"]["coding"], "CABAC");
    expect_within(&summary, "video_sent.keyframes", 1.0..=4.0)?;
    Ok(())
}

/// The narrow line is what the browser's statistics say of it; what follows is real.
#[test]
fn a_page_changes_its_codec_with_the_line() -> anyhow::Result<()> {
    const TELL: &str = "{
        const getStats = RTCPeerConnection.prototype.getStats;
        RTCPeerConnection.prototype.getStats = async function () {
            const told = (s) => (s.type === 'candidate-pair' ? { ...s, availableOutgoingBitrate: window.pathBps } : s);
            return new Map([...(await getStats.call(this))].map(([id, s]) => [id, told(s)]));
        };
        window.pathBps = 200_000;
    }";
    let server = Server::start()?;
    let browser = Browser::start(&[])?;
    browser.before_pages(TELL)?;
    let (mut peer, page) = call(&server, &browser, &["--size", "640x360"])?;
    for (bps, codec) in [(200_000, "AV1"), (5_000_000, "H264")] {
        page.run(&format!("window.pathBps = {bps}"))?;
        page.wait_for(&format!("visavis.state().stats?.videoSent?.codec === '{codec}'"), LIMIT)?;
        page.wait_for_peer(LIMIT)?;
    }
    page.click("#leave")?;
    let summary = peer.wait_event("summary", LIMIT)?;
    expect_within(&summary, "video_received.decode_errors", 0.0..=0.0)?;
    expect_within(&summary, "video_received.freeze_ms", 0.0..=1000.0)?;
    Ok(())
}

/// As a browser that lacks the others.
#[test]
fn a_page_that_has_one_codec_only_gets_that() -> anyhow::Result<()> {
    const ONE: &str = "{
        const capabilities = RTCRtpReceiver.getCapabilities.bind(RTCRtpReceiver);
        RTCRtpReceiver.getCapabilities = (kind) => {
            const all = capabilities(kind);
            const isOne = ({ mimeType }) => /video.(CODEC|rtx)$/i.test(mimeType);
            return kind === 'video' ? { ...all, codecs: all.codecs.filter(isOne) } : all;
        };
    }";
    let server = Server::start()?;
    for (codec, page_waits) in [("AV1", false), ("VP8", true), ("VP9", false)] {
        let browser = Browser::start(&[])?;
        browser.before_pages(KEEP_CONNECTIONS)?;
        browser.before_pages(&ONE.replace("CODEC", codec))?;
        let flags = ["--size", "640x360"];
        let (mut peer, page) = if page_waits {
            let page = browser.open(&format!("{}/r/{ROOM}?{DIAGNOSTIC}", server.url()))?;
            page.wait_phase("waiting", LIMIT)?;
            (join("peer", server.url(), ROOM, &flags)?, page)
        } else {
            call(&server, &browser, &flags).with_context(|| codec.to_owned())?
        };
        page.wait_for_peer(LIMIT).with_context(|| codec.to_owned())?;
        page.click("#leave")?;
        let summary = peer.wait_event("summary", LIMIT)?;
        assert_eq!(summary["video_sent"]["codec"], codec);
        // libwebrtc itself sends with the first codec of an offer, whatever its answer says.
        let received = if page_waits { codec } else { "H264" };
        assert_eq!(summary["video_received"]["codec"], received);
    }
    Ok(())
}

#[test]
fn reload_of_the_page_brings_the_call_back() -> anyhow::Result<()> {
    let server = Server::start()?;
    let browser = Browser::start(&[])?;
    let (mut peer, page) = call(&server, &browser, &["--size", "640x360"])?;
    page.reload()?;
    peer.wait_event("reconnecting", LIMIT)?;
    peer.wait_event("connected", LIMIT)?;
    page.wait_phase("connected", LIMIT)?;
    page.wait_for_peer(LIMIT)?;
    peer.terminate()?;
    let summary = peer.wait_event("summary", LIMIT)?;
    expect_within(&summary, "video_received.frames_decoded", 5.0..=5000.0)?;
    Ok(())
}

#[test]
fn call_with_a_page_survives_server_restart() -> anyhow::Result<()> {
    let mut server = Server::start()?;
    let browser = Browser::start(&[])?;
    let (mut peer, page) = call(&server, &browser, &["--size", "640x360"])?;
    page.wait_for_peer(LIMIT)?;
    server.restart()?;
    page.wait_for_peer(LIMIT)?;
    // The hang-up travels over the new server.
    page.click("#leave")?;
    let summary = peer.wait_event("summary", LIMIT)?;
    assert_eq!(summary["end_reason"], "remote-hangup");
    Ok(())
}

/// A page of somebody else's would share its screen beside the camera. Nobody looks at it, so it is not sent.
#[test]
fn a_page_may_add_a_screen_take_it_away_and_restart_ice_mid_call() -> anyhow::Result<()> {
    const ADD: &str = "(() => {
        const canvas = document.createElement('canvas');
        const context = canvas.getContext('2d');
        setInterval(() => {
            context.fillStyle = `hsl(${performance.now() % 360} 80% 50%)`;
            context.fillRect(0, 0, canvas.width, canvas.height);
        }, 50);
        const [track] = canvas.captureStream(20).getVideoTracks();
        window.screenShare = benchConnections.at(-1).addTransceiver(track, { direction: 'sendonly' });
    })()";
    let server = Server::start()?;
    // Whoever waits offers first, and has the other role in DTLS.
    for peer_waits in [true, false] {
        let browser = Browser::start(&[])?;
        browser.before_pages(KEEP_CONNECTIONS)?;
        let peer_flags = ["--size", "640x360"];
        let (mut peer, page) = if peer_waits {
            call(&server, &browser, &peer_flags)?
        } else {
            let page = browser.open(&format!("{}/r/{ROOM}?{DIAGNOSTIC}", server.url()))?;
            page.wait_phase("waiting", LIMIT)?;
            (join("peer", server.url(), ROOM, &peer_flags)?, page)
        };
        page.wait_for_peer(LIMIT)?;
        let is_stable = "benchConnections.at(-1).signalingState === 'stable'";
        page.run(ADD)?;
        page.wait_for(&format!("screenShare.mid !== null && {is_stable}"), LIMIT)?;
        assert_eq!(page.run("screenShare.currentDirection")?, "inactive");
        page.wait_for_peer(LIMIT)?;
        page.run("screenShare.stop()")?;
        page.wait_for(&format!("screenShare.mid === null && {is_stable}"), LIMIT)?;
        page.wait_for_peer(LIMIT)?;
        let generation = "benchConnections.at(-1).currentLocalDescription.sdp.match(/ufrag:.*/)[0]";
        page.run(&format!("window.before = {generation}"))?;
        page.run("benchConnections.at(-1).restartIce()")?;
        page.wait_for(&format!("{generation} !== before && {is_stable}"), LIMIT)?;
        page.wait_for_peer(LIMIT)?;
        page.click("#leave")?;
        let summary = peer.wait_event("summary", LIMIT)?;
        assert_eq!(summary["end_reason"], "remote-hangup");
        expect_within(&summary, "video_received.decode_errors", 0.0..=0.0)?;
        expect_within(&summary, "video_received.freeze_ms", 0.0..=1500.0)?;
    }
    Ok(())
}

/// The stack loses a message that comes together with the end of the SCTP handshake.
#[test]
fn what_is_sent_is_known_even_if_the_first_message_gets_lost() -> anyhow::Result<()> {
    const LOSE: &str = "{
        const make = RTCPeerConnection.prototype.createDataChannel;
        RTCPeerConnection.prototype.createDataChannel = function (...options) {
            const channel = make.apply(this, options);
            const lose = (event) => {
                event.stopImmediatePropagation();
                window.lost = JSON.parse(event.data).type;
            };
            channel.addEventListener('message', lose, { once: true });
            return channel;
        };
    }";
    const KNOWN: &str = "window.lost === 'media-state' && visavis.state().remoteMedia?.camera";
    let server = Server::start()?;
    let browser = Browser::start(&[])?;
    browser.before_pages(LOSE)?;
    let (mut peer, page) = call(&server, &browser, &["--size", "640x360"])?;
    page.wait_for(KNOWN, LIMIT)?;
    page.click("#leave")?;
    peer.wait_event("summary", LIMIT)?;

    let url = format!("{}/r/abc-dep-ghj-kmn?{DIAGNOSTIC}", server.url());
    page.goto(&url)?;
    let other = browser.open(&url)?;
    for (page, known) in [(&page, KNOWN), (&other, "visavis.state().remoteMedia?.camera")] {
        page.wait_phase("connected", LIMIT)?;
        page.wait_for(known, LIMIT)?;
    }
    Ok(())
}

/// A duplicated tab, or a window that the page opens, has the seat of the first one.
#[test]
fn the_same_person_in_another_window_takes_the_call_over() -> anyhow::Result<()> {
    let server = Server::start()?;
    let browser = Browser::start(&[])?;
    let (mut peer, page) = call(&server, &browser, &["--size", "320x180"])?;
    page.wait_for_peer(LIMIT)?;
    page.run("void (window.other = window.open(location.href))")?;
    page.wait_phase("ended", LIMIT)?;
    assert_eq!(page.run("visavis.state().endReason")?, "replaced");
    page.wait_for("other.visavis?.state().phase === 'connected'", LIMIT)?;
    page.wait_for("other.visavis.readTimeCode()", LIMIT)?;
    page.run("other.document.getElementById('leave').click()")?;
    let summary = peer.wait_event("summary", LIMIT)?;
    assert_eq!(summary["end_reason"], "remote-hangup");
    Ok(())
}
