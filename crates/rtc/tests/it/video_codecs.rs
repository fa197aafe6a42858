//! Which video codecs two peers agree on, and that each is sent and received.
#![allow(clippy::unwrap_used)]

use visavis_media::VideoCodec::{self, Av1, H264, Vp8, Vp9};
use visavis_rtc::{Description, PeerEvent, SendOutcome, VideoCodecs};

use crate::common::{Side, negotiate, picture_of, side, side_with, within};

fn list(codecs: &[VideoCodec]) -> VideoCodecs {
    codecs.iter().copied().collect()
}

async fn connected(a: &Side, b: &Side) {
    tokio::join!(a.until_connected(b), b.until_connected(a));
}

/// Sends pictures of one codec until one arrives whole.
pub(crate) async fn flows(from: &Side, to: &Side, codec: VideoCodec) {
    let frame = picture_of(codec, from.clock, 3000);
    assert_eq!(from.peer.video_sender().send(&frame), SendOutcome::Sent, "{codec}");
    let packets = to.next_picture().await;
    assert!(packets.len() >= 3 && packets.iter().all(|p| p.codec == Some(codec)), "{packets:?}");
    assert!(packets.windows(2).all(|p| p[1].sequence == p[0].sequence.wrapping_add(1)));
}

/// What the last event says that tells the codecs in common; candidates go to `other` meanwhile.
async fn told(side: &Side, other: &Side) -> Option<VideoCodecs> {
    let mut last = None;
    let mut events = side.events.lock().await;
    while let Ok(event) = events.try_recv() {
        match event {
            PeerEvent::VideoCodecs(codecs) => last = Some(codecs),
            PeerEvent::LocalCandidate(candidate) => {
                let _ = other.peer.add_candidate(candidate).await;
            }
            _ => {}
        }
    }
    last
}

/// The payload types of the video section.
fn video_line(description: &Description) -> String {
    description.sdp.lines().find(|line| line.starts_with("m=video")).unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_codec_changes_from_one_picture_to_the_next() {
    let (a, b) = (side().await, side_with(&[Vp8, H264, Vp9, Av1]).await);
    negotiate(&a, &b, false).await;
    connected(&a, &b).await;
    // Each in the order of the other one.
    assert_eq!(a.peer.video_sender().codecs(), list(&[Vp8, H264, Vp9, Av1]));
    assert_eq!(b.peer.video_sender().codecs(), list(&[Av1, Vp9, H264, Vp8]));
    let mut expected = None;
    for codec in [Av1, Vp9, H264, Vp8, H264, Vp9, Av1] {
        flows(&b, &a, codec).await;
        let frame = picture_of(codec, a.clock, 3000);
        assert_eq!(a.peer.video_sender().send(&frame), SendOutcome::Sent);
        for packet in b.next_picture().await {
            assert_eq!(packet.codec, Some(codec));
            assert_eq!(packet.sequence, expected.unwrap_or(packet.sequence));
            expected = Some(packet.sequence.wrapping_add(1));
        }
    }
    let stats = b.peer.stats().await;
    assert_eq!(
        (stats.inbound_video.codec, stats.outbound_video.codec),
        (Some("video/AV1"), Some("video/AV1"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_one_of_them_codes_is_not_sent() {
    for theirs in [[Vp8], [H264], [Vp9], [Av1]] {
        for we_offer in [true, false] {
            let (a, b) = (side().await, side_with(&theirs).await);
            if we_offer {
                negotiate(&a, &b, false).await;
            } else {
                negotiate(&b, &a, false).await;
            }
            connected(&a, &b).await;
            assert_eq!(a.peer.video_sender().codecs(), list(&theirs));
            flows(&a, &b, theirs[0]).await;
            flows(&b, &a, theirs[0]).await;
            let other = if theirs == [Vp8] { H264 } else { Vp8 };
            let frame = picture_of(other, a.clock, 100);
            assert_eq!(a.peer.video_sender().send(&frame), SendOutcome::NotReceiving);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_codecs_in_common_are_told_once() {
    let (a, b) = (side_with(&[H264, Vp8]).await, side_with(&[Vp8, Av1, H264]).await);
    negotiate(&a, &b, false).await;
    assert_eq!(told(&a, &b).await, Some(list(&[Vp8, H264])));
    assert_eq!(told(&b, &a).await, Some(list(&[H264, Vp8])));
    // Their events may have been taken above.
    for side in [&a, &b] {
        let connected = async {
            while !side.peer.video_sender().is_receiving() {
                tokio::task::yield_now().await;
            }
        };
        within("connection", connected).await;
    }
    negotiate(&b, &a, false).await;
    assert_eq!((told(&a, &b).await, told(&b, &a).await), (None, None));
    flows(&a, &b, Vp8).await;
    flows(&b, &a, H264).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn descriptions_have_the_codecs_in_our_order() {
    let (a, b) = (side_with(&[Vp9, H264]).await, side_with(&[H264, Vp9]).await);
    let offer = a.peer.create_offer(false).await.unwrap();
    assert!(video_line(&offer).ends_with(" 98 99 102 103 112 113 114 115"), "{}", offer.sdp);
    for wanted in ["a=rtcp-fb:98 goog-remb", "a=rtcp-fb:98 transport-cc", "a=fmtp:99 apt=98"] {
        assert!(offer.sdp.lines().any(|line| line == wanted), "{wanted}: {}", offer.sdp);
    }
    b.peer.set_remote(offer).await.unwrap();
    let answer = b.peer.create_answer().await.unwrap();
    assert!(video_line(&answer).ends_with(" 102 103 112 113 114 115 98 99"), "{}", answer.sdp);
}

/// Numbers of a peer that puts them otherwise, for all its codecs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_with_other_numbers_is_answered_with_them() {
    let (a, b) = (side().await, side_with(&[Vp8, H264]).await);
    let mut offer = a.peer.create_offer(false).await.unwrap();
    offer.sdp = renumbered(&offer.sdp);
    b.peer.set_remote(offer).await.unwrap();
    let answer = b.peer.create_answer().await.unwrap();
    assert!(video_line(&answer).contains(" 120 121 "), "{}", answer.sdp);
    assert!(answer.sdp.contains("a=rtpmap:120 VP8/90000\r\n"), "{}", answer.sdp);
}

/// VP8 as 120 and 121 instead of 96 and 97.
fn renumbered(sdp: &str) -> String {
    let mut sdp = sdp.to_owned();
    for (from, to) in [("96", "120"), ("97", "121")] {
        for (before, after) in [(" ", " "), (" ", "\r\n"), (":", " "), ("apt=", "\r\n")] {
            sdp = sdp.replace(&format!("{before}{from}{after}"), &format!("{before}{to}{after}"));
        }
    }
    sdp
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_of_each_codec_survive_a_renegotiation() {
    let (a, b) = (side().await, side().await);
    negotiate(&a, &b, false).await;
    connected(&a, &b).await;
    for codec in VideoCodec::ALL {
        flows(&a, &b, codec).await;
        negotiate(&b, &a, false).await;
        within("pictures", flows(&a, &b, codec)).await;
    }
}
