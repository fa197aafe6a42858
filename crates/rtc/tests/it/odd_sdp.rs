//! Descriptions that are legal, or nearly, and unlike a browser's usual ones: the call goes on with what is left.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use visavis_media::VideoCodec::{Av1, H264, Vp8};
use visavis_rtc::{Description, PeerEvent, SdpKind, SendOutcome, VideoCodecs};

use crate::common::{Side, negotiate, picture_of, side, side_with, sound};
use crate::video_codecs::flows;

/// `a` offers and `b` answers, what each says changed on the way.
async fn negotiate_changed(
    a: &Side,
    b: &Side,
    change_offer: impl Fn(&str) -> String,
    change_answer: impl Fn(&str) -> String,
) -> Description {
    let mut offer = a.peer.create_offer(false).await.unwrap();
    offer.sdp = change_offer(&offer.sdp);
    b.peer.set_remote(offer).await.unwrap();
    let mut answer = b.peer.create_answer().await.unwrap();
    let told = answer.clone();
    answer.sdp = change_answer(&answer.sdp);
    a.peer.set_remote(answer).await.unwrap();
    told
}

async fn connected(a: &Side, b: &Side) {
    tokio::join!(a.until_connected(b), b.until_connected(a));
}

/// Sound and messages go both ways.
async fn sound_and_messages(a: &Side, b: &Side) {
    for (from, to) in [(a, b), (b, a)] {
        assert_eq!(from.peer.audio_sender().send(&sound(7, from.clock.now())), SendOutcome::Sent);
        to.next_audio().await;
        message(from, to).await;
    }
}

/// Sends messages until one arrives: one that comes before the other end's channel is open is lost.
async fn message(from: &Side, to: &Side) {
    let send = async {
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        loop {
            tick.tick().await;
            let _ = from.peer.send_message("here");
        }
    };
    let arrives =
        to.until("message", from, |event| matches!(event, PeerEvent::Message(_)).then_some(()));
    tokio::select! {
        () = send => {}
        () = arrives => {}
    }
}

async fn no_video(side: &Side, other: &Side) {
    let none = |event: &PeerEvent| match event {
        PeerEvent::VideoCodecs(codecs) => Some(codecs.is_empty()),
        _ => None,
    };
    assert!(side.until("codecs", other, none).await);
    let sender = side.peer.video_sender();
    assert!(!sender.is_receiving());
    assert_eq!(sender.codecs(), VideoCodecs::default());
    for codec in [H264, Vp8] {
        let frame = picture_of(codec, side.clock, 100);
        assert_eq!(sender.send(&frame), SendOutcome::NotReceiving);
    }
}

fn sections(sdp: &str) -> Vec<String> {
    sdp.split("\r\nm=").skip(1).map(|section| format!("m={section}\r\n")).collect()
}

fn same(sdp: &str) -> String {
    sdp.to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_common_codec_the_call_goes_on_with_sound() {
    for (ours, theirs) in [([H264], [Vp8]), ([Vp8], [Av1])] {
        let (a, b) = (side_with(&ours).await, side_with(&theirs).await);
        let answer = negotiate_changed(&a, &b, same, same).await;
        assert!(sections(&answer.sdp)[1].starts_with("m=video 0 "), "{}", answer.sdp);
        no_video(&a, &b).await;
        no_video(&b, &a).await;
        connected(&a, &b).await;
        sound_and_messages(&a, &b).await;
        // Nor does a renegotiation by either side end it.
        for (from, to) in [(&a, &b), (&b, &a), (&a, &b)] {
            negotiate(from, to, false).await;
            sound_and_messages(&a, &b).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terse_rejection_of_video_leaves_the_sound() {
    for terse in [
        "m=video 0 UDP/TLS/RTP/SAVPF 102\r\na=mid:1\r\na=inactive\r\n",
        "m=video 0 UDP/TLS/RTP/SAVPF 0\r\n",
    ] {
        let (a, b) = (side().await, side().await);
        let change = |sdp: &str| sdp.replace(&sections(sdp)[1], terse);
        negotiate_changed(&a, &b, same, change).await;
        no_video(&a, &b).await;
        connected(&a, &b).await;
        sound_and_messages(&a, &b).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_odd_candidate_is_left_out_and_the_description_used() {
    let (a, b) = (side().await, side().await);
    let odd = "\r\na=candidate:9 1 udp 2122260223 host.example.com 50000 typ host\r\na=candidate:x\r\n\
        a=candidate:9 1 sctp 1 192.0.2.1 5 typ host\r\na=mid:1\r\n";
    let change = |sdp: &str| sdp.replacen("\r\na=mid:1\r\n", odd, 1);
    negotiate_changed(&a, &b, change, change).await;
    connected(&a, &b).await;
    flows(&a, &b, Vp8).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_hash_functions_name_may_be_in_capitals() {
    let (a, b) = (side().await, side().await);
    let change = |sdp: &str| {
        let sdp = sdp.replace("a=fingerprint:sha-256", "a=fingerprint:SHA-256");
        let line = |line: &str| match line.strip_prefix("a=fingerprint:SHA-256 ") {
            Some(bytes) => format!("a=fingerprint:SHA-256 {}", bytes.to_ascii_lowercase()),
            None => line.to_owned(),
        };
        sdp.split_inclusive('\n').map(line).collect()
    };
    negotiate_changed(&a, &b, change, change).await;
    connected(&a, &b).await;
    sound_and_messages(&a, &b).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sections_that_nobody_knows_are_rejected_and_the_call_goes_on() {
    let (a, b) = (side().await, side().await);
    let odd = "m=text 9 RTP/SAVPF 98\r\na=mid:t\r\nm=image 9 udptl t38\r\na=mid:i\r\n\
        m=foo 9 TCP/X y\r\na=mid:f\r\nm=application 9 UDP/TLS/RTP/SAVPF 99\r\na=mid:g\r\na=rtpmap:99 x/90000\r\n";
    let with_odd = |sdp: &str| {
        let sdp = sdp.replacen("a=group:BUNDLE ", "a=group:BUNDLE t i f g ", 1);
        sdp.replacen("m=video", &format!("{odd}m=video"), 1)
    };
    // What `a` knows nothing of is taken out of the answer again.
    let without = |sdp: &str| {
        let known = |s: &String| !s.contains(" 0 ");
        let head = sdp.split("m=").next().unwrap().to_owned();
        head + &sections(sdp)
            .into_iter()
            .filter(known)
            .collect::<String>()
            .replace("\r\n\r\n", "\r\n")
    };
    let answer = negotiate_changed(&a, &b, with_odd, without).await;
    let firsts: Vec<String> =
        sections(&answer.sdp).iter().map(|s| s.lines().next().unwrap().to_owned()).collect();
    assert_eq!(
        firsts[1..5],
        [
            "m=text 0 RTP/SAVPF 98",
            "m=image 0 udptl t38",
            "m=foo 0 TCP/X y",
            "m=application 0 UDP/TLS/RTP/SAVPF 99"
        ]
    );
    assert!(answer.sdp.contains("a=group:BUNDLE 0 1 2\r\n"), "{}", answer.sdp);
    connected(&a, &b).await;
    flows(&a, &b, Vp8).await;
    sound_and_messages(&a, &b).await;
    // Later offers keep the places.
    let offer = b.peer.create_offer(false).await.unwrap();
    assert_eq!(sections(&offer.sdp).len(), 7);
    assert!(sections(&offer.sdp)[2].starts_with("m=image 0 "), "{}", offer.sdp);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_of_a_data_channel_alone_is_answered() {
    let (a, b) = (side().await, side().await);
    let mut offer = a.peer.create_offer(false).await.unwrap();
    let all = sections(&offer.sdp);
    offer.sdp =
        offer.sdp.replace(&all[0], "").replace(&all[1], "").replace("BUNDLE 0 1 2", "BUNDLE 2");
    b.peer.set_remote(offer).await.unwrap();
    let answer = b.peer.create_answer().await.unwrap();
    assert_eq!(sections(&answer.sdp).len(), 1, "{}", answer.sdp);
    no_video(&b, &a).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_rejects_everything_but_the_channel_ends_no_call() {
    let (a, b) = (side().await, side().await);
    let change = |sdp: &str| {
        let all = sections(sdp);
        sdp.replace(&all[0], "m=audio 0 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n")
            .replace(&all[1], "m=video 0 UDP/TLS/RTP/SAVPF 96\r\na=mid:1\r\n")
    };
    negotiate_changed(&a, &b, same, change).await;
    no_video(&a, &b).await;
    assert!(!a.peer.audio_sender().is_receiving());
    connected(&a, &b).await;
    message(&a, &b).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_inactive_renegotiation_does_not_stop_video_for_good() {
    let (a, b) = (side().await, side().await);
    negotiate(&a, &b, false).await;
    connected(&a, &b).await;
    flows(&a, &b, Vp8).await;
    let inactive = |sdp: &str| {
        let (head, video) = sdp.split_at(sdp.find("m=video").unwrap());
        format!("{head}{}", video.replacen("a=sendrecv", "a=inactive", 1))
    };
    let answer = negotiate_changed(&a, &b, inactive, same).await;
    assert!(sections(&answer.sdp)[1].contains("a=inactive\r\n"), "{}", answer.sdp);
    assert!(!b.peer.video_sender().is_receiving());
    negotiate(&a, &b, false).await;
    flows(&b, &a, Vp8).await;
    flows(&a, &b, H264).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn text_that_is_no_description_is_still_an_error() {
    let a = side().await;
    for sdp in ["hello", "v=1\r\n", "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n"] {
        let description = Description { kind: SdpKind::Offer, sdp: sdp.into() };
        assert!(a.peer.set_remote(description).await.is_err(), "{sdp}");
        let _ = a.peer.rollback().await;
    }
}
