//! What leaves a microphone: nothing while it is muted.
#![allow(missing_docs, clippy::unwrap_used)]

use std::time::Duration;

use visavis_tests::program::{Server, expect_within, join};

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn no_packet_of_a_muted_microphone_reaches_the_other_side() -> anyhow::Result<()> {
    let server = Server::start()?;
    let room = "abc-defg-hij";
    let mut listener = join("listener", server.url(), room, &["--size", "320x180"])?;
    listener.wait_event("waiting", LIMIT)?;
    let muted = ["--muted", "--microphone", "tone", "--size", "320x180", "--duration", "6s"];
    let mut muted = join("muted", server.url(), room, &muted)?;
    let (muted, listener) =
        (muted.wait_event("summary", LIMIT)?, listener.wait_event("summary", LIMIT)?);
    // The call was there: its pictures came, and the other direction's sound.
    expect_within(&listener, "video_received.frames_decoded", 30.0..=400.0)?;
    expect_within(&muted, "audio_received.packets", 50.0..=1000.0)?;
    assert!(listener["audio_received"].is_null(), "{listener:#}");
    Ok(())
}
