#![allow(clippy::unwrap_used)]

use std::io::Cursor;

use proptest::prelude::*;
use rtc::sdp::description::session::SessionDescription;
use visavis_media::VideoCodec::{self, H264, Vp8};

use super::*;

const SESSION: &str = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n";
const ICE: &str = "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789abcdefghijkl\r\n";
const AUDIO: &str =
    "m=audio 9 UDP/TLS/RTP/SAVPF 111 9\r\na=mid:0\r\na=sendrecv\r\na=rtpmap:111 opus/48000/2\r\n";
const VIDEO: &str = "m=video 9 UDP/TLS/RTP/SAVPF 96 102\r\na=mid:1\r\na=sendrecv\r\na=rtpmap:96 VP8/90000\r\n\
    a=rtpmap:102 H264/90000\r\na=fmtp:102 packetization-mode=1;profile-level-id=42e01f\r\n";
const CHANNEL: &str =
    "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:2\r\na=sctp-port:5000\r\n";

fn codecs(all: &[VideoCodec]) -> VideoCodecs {
    all.iter().copied().collect()
}

/// What the stack gets of an offer.
fn offer(sections: &mut Sections, text: &str) -> String {
    let stack = sections.remote(text, SdpKind::Offer, "", codecs(&[Vp8, H264]));
    SessionDescription::unmarshal(&mut Cursor::new(stack.as_bytes())).unwrap();
    stack
}

fn media(sdp: &str) -> Vec<&str> {
    sdp.lines().filter(|line| line.starts_with("m=")).collect()
}

#[test]
fn sections_that_nobody_knows_are_rejected_in_their_place() {
    let odd = "m=text 9 RTP/AVP 98\r\na=mid:t\r\nm=foo 9 X/Y z\r\na=mid:f\r\ny=1\r\n";
    let second = CHANNEL.replace("mid:2", "mid:3");
    let sdp =
        format!("{SESSION}a=group:BUNDLE 0 t f 1 2 3\r\n{AUDIO}{odd}{VIDEO}{CHANNEL}{second}");
    let mut sections = Sections::default();
    let stack = offer(&mut sections, &sdp);
    let kinds: Vec<&str> = media(&stack).iter().map(|m| m.split(' ').next().unwrap()).collect();
    assert_eq!(kinds, ["m=audio", "m=text", "m=text", "m=video", "m=application", "m=text"]);
    // The stack's answer passes over them.
    let answer = format!("{SESSION}a=group:BUNDLE 0 1 2\r\n{AUDIO}{VIDEO}{CHANNEL}");
    let told = sections.local(&answer, SdpKind::Answer);
    let expected = [
        "m=audio 9 UDP/TLS/RTP/SAVPF 111 9",
        "m=text 0 RTP/AVP 98",
        "m=foo 0 X/Y z",
        "m=video 9 UDP/TLS/RTP/SAVPF 96 102",
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
        "m=application 0 UDP/DTLS/SCTP webrtc-datachannel",
    ];
    assert_eq!(media(&told), expected);
    assert!(told.contains("a=group:BUNDLE 0 1 2\r\n") && told.contains("a=mid:f\r\n"), "{told}");
    // Also in an offer of ours, and in the answer to that.
    let again = sections.local(&answer, SdpKind::Offer);
    assert_eq!(media(&again), expected);
    let stack = sections.remote(&told, SdpKind::Answer, &again, codecs(&[Vp8]));
    assert_eq!(media(&stack)[1], "m=text 0 UDP/TLS/RTP/SAVPF 0");
    assert_eq!(media(&sections.local(&answer, SdpKind::Offer)), expected);
}

#[test]
fn video_without_a_common_codec_is_rejected_and_may_come_later() {
    let theirs =
        "m=video 9 UDP/TLS/RTP/SAVPF 45\r\na=mid:1\r\na=sendrecv\r\na=rtpmap:45 AV1/90000\r\n";
    let sdp = |video: &str| format!("{SESSION}a=group:BUNDLE 0 1\r\n{AUDIO}{video}");
    let mut sections = Sections::default();
    let stack = offer(&mut sections, &sdp(theirs));
    assert!(stack.contains("a=rtpmap:96 VP8/90000\r\n") && !stack.contains("AV1"), "{stack}");
    let told = sections.local(&sdp(VIDEO), SdpKind::Answer);
    assert!(told.ends_with(
        "m=video 0 UDP/TLS/RTP/SAVPF 45\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\na=inactive\r\n"
    ));
    assert!(told.contains("a=group:BUNDLE 0\r\n"), "{told}");
    // Not offered again by us, but taken when the remote peer has one.
    assert_eq!(
        media(&sections.local(&sdp(VIDEO), SdpKind::Offer))[1],
        "m=video 0 UDP/TLS/RTP/SAVPF 45"
    );
    offer(&mut sections, &sdp(VIDEO));
    assert_eq!(sections.local(&sdp(VIDEO), SdpKind::Answer), sdp(VIDEO));
}

#[test]
fn a_terse_rejection_in_an_answer_leaves_the_stack_its_codecs() {
    let local = format!("{SESSION}{AUDIO}{VIDEO}{CHANNEL}");
    for terse in [
        "m=video 0 UDP/TLS/RTP/SAVPF 102\r\na=mid:1\r\na=inactive\r\n",
        "m=video 0 RTP/AVP 0\r\n",
        "m=video 0 UDP/TLS/RTP/SAVPF 96\r\na=mid:1\r\na=rtpmap:96 VP8/90000\r\n",
        "m=video 9 UDP/TLS/RTP/SAVPF 35\r\na=mid:1\r\na=rtpmap:35 H265/90000\r\n",
    ] {
        let mut sections = Sections::default();
        sections.local(&local, SdpKind::Offer);
        let answer = format!("{SESSION}{AUDIO}{terse}{CHANNEL}");
        let stack = sections.remote(&answer, SdpKind::Answer, &local, codecs(&[Vp8, H264]));
        SessionDescription::unmarshal(&mut Cursor::new(stack.as_bytes())).unwrap();
        assert!(
            stack.contains("a=mid:1\r\na=sendrecv\r\n") && stack.contains("102 H264"),
            "{stack}"
        );
        let (_, again) = sections
            .local(&local, SdpKind::Offer)
            .rsplit_once("m=video")
            .map(|(a, b)| (a.len(), b.to_owned()))
            .unwrap();
        assert!(again.starts_with(" 0 "), "{again}");
    }
}

#[test]
fn a_rejected_data_channel_starts_none() {
    let local = format!("{SESSION}{AUDIO}{CHANNEL}");
    let mut sections = Sections::default();
    sections.local(&local, SdpKind::Offer);
    let answer = local.replace("m=application 9", "m=application 0");
    let stack = sections.remote(&answer, SdpKind::Answer, &local, codecs(&[Vp8]));
    assert!(!stack.contains("webrtc-datachannel"), "{stack}");
}

#[test]
fn the_stack_gets_formats_that_it_reads_and_that_are_ours() {
    let audio = "m=audio 9 UDP/TLS/RTP/SAVPF 111 9 0\r\na=mid:0\r\na=rtpmap:111 opus/48000/2\r\n";
    let video = "m=video 9 UDP/TLS/RTP/SAVPF 45 96 97 102\r\na=mid:1\r\na=rtpmap:96 vp8/90000\r\n\
        a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\na=rtpmap:102 H264/90000\r\n\
        a=fmtp:102 profile-level-id=42e01f; packetization-mode=1\r\na=rtcp-fb:* nack pli\r\n\
        a=rtcp-fb:102 transport-cc\r\na=extmap:3 http://x y\r\na=extmap:x\r\nb=AS:x\r\nz=\r\n\
        a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\na=rtpmap:45 AV1/90000\r\n";
    let stack = offer(
        &mut Sections::default(),
        &format!("{SESSION}b=X:\r\na=group:LS 0 1\r\n{audio}{video}"),
    );
    assert_eq!(
        media(&stack),
        ["m=audio 9 UDP/TLS/RTP/SAVPF 111", "m=video 9 UDP/TLS/RTP/SAVPF 96 97 102"]
    );
    for line in [
        "a=rtpmap:96 VP8/90000",
        "a=fmtp:102 profile-level-id=42e01f;packetization-mode=1",
        "a=rtcp-fb:96 nack pli",
        "a=rtcp-fb:102 nack pli",
        "a=rtcp-fb:102 transport-cc",
        "a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid",
        "a=sendrecv",
    ] {
        assert!(stack.lines().any(|l| l == line), "{line}: {stack}");
    }
    for no in ["extmap:3", "extmap:x", "b=", "z=", "AV1", "rtcp-fb:*", "group:LS"] {
        assert!(!stack.contains(no), "{no}: {stack}");
    }
}

#[test]
fn fingerprints_have_one_form_and_the_verified_hash_is_preferred() {
    let lines = "a=fingerprint:sha-1 00:11\r\na=fingerprint:SHA-256  ab:0C\r\n";
    let sdp = format!("{SESSION}a=fingerprint:sha-256 AB:0c\r\n{AUDIO}{lines}");
    let stack = offer(&mut Sections::default(), &sdp);
    assert_eq!(stack.matches("a=fingerprint:sha-256 AB:0C\r\n").count(), 2, "{stack}");
    assert!(!stack.contains("sha-1 "), "{stack}");
    let only = format!("{SESSION}{AUDIO}a=fingerprint:SHA-512 00:11\r\n");
    assert!(offer(&mut Sections::default(), &only).contains("a=fingerprint:sha-512 00:11\r\n"));
}

#[test]
fn an_answer_with_other_numbers_has_ours_for_the_stack() {
    let local = format!(
        "{SESSION}{}",
        crate::payload_types::tests::ALL.replace("\r\na=rtpmap:45", "\r\na=mid:1\r\na=rtpmap:45")
    );
    let answer = format!(
        "{SESSION}m=video 9 UDP/TLS/RTP/SAVPF 120 121 45\r\na=mid:1\r\na=rtpmap:120 VP8/90000\r\n\
         a=rtpmap:121 rtx/90000\r\na=fmtp:121 apt=120\r\na=rtcp-fb:120 nack\r\na=rtpmap:45 H264/90000\r\n\
         a=fmtp:45 packetization-mode=1;profile-level-id=42e01f\r\n"
    );
    let stack = Sections::default().remote(&answer, SdpKind::Answer, &local, codecs(&[Vp8, H264]));
    assert_eq!(media(&stack), ["m=video 9 UDP/TLS/RTP/SAVPF 96 97 102"]);
    for line in [
        "a=rtpmap:96 VP8/90000",
        "a=fmtp:97 apt=96",
        "a=rtcp-fb:96 nack",
        "a=rtpmap:102 H264/90000",
    ] {
        assert!(stack.lines().any(|l| l == line), "{line}: {stack}");
    }
}

#[test]
fn an_inactive_offer_is_answered_so_and_does_not_stop_the_stream() {
    let sdp = format!("{SESSION}{AUDIO}{}", VIDEO.replace("sendrecv", "inactive"));
    let mut sections = Sections::default();
    let stack = offer(&mut sections, &sdp);
    assert!(!stack.contains("inactive"), "{stack}");
    let ours = format!("{SESSION}{AUDIO}{VIDEO}");
    assert_eq!(sections.local(&ours, SdpKind::Answer), sdp);
    assert_eq!(sections.local(&ours, SdpKind::Offer), ours);
}

#[test]
fn a_rejected_section_before_one_that_is_used_leaves_that_to_the_stack() {
    let rejected = VIDEO.replace("video 9", "video 0").replace("mid:1", "mid:7");
    let sdp = format!("{SESSION}{rejected}{AUDIO}{ICE}{VIDEO}");
    let mut sections = Sections::default();
    let stack = offer(&mut sections, &sdp);
    let kinds: Vec<&str> = media(&stack).iter().map(|m| m.split(' ').next().unwrap()).collect();
    assert_eq!(kinds, ["m=text", "m=audio", "m=video"]);
}

proptest! {
    #[test]
    fn any_text_is_survived(
        lines in prop::collection::vec(prop::sample::select(vec![
            "v=0", "m=", "m=video", "m=video 0 x", "m=video 9 UDP/TLS/RTP/SAVPF 96 97 102", "m=audio 9 x 111",
            "a=mid:", "a=mid:1", "a=rtpmap:96 VP8/90000", "a=rtpmap:97 rtx/90000", "a=fmtp:97 apt=96",
            "a=fmtp:97 apt=97", "a=rtpmap:111 opus/48000/2", "a=group:BUNDLE 1 1", "a=inactive", "a=bundle-only",
            "a=fingerprint:", "a=extmap:", "a=rtcp-fb:* nack", "m=application 9 x webrtc-datachannel", "é", "",
        ]), 0..24),
        answer: bool,
    ) {
        let text: String = lines.iter().flat_map(|line| [*line, "\n"]).collect();
        let kind = if answer { SdpKind::Answer } else { SdpKind::Offer };
        let mut sections = Sections::default();
        let stack = sections.remote(&text, kind, &text, codecs(&[Vp8, H264]));
        let count = |sdp: &str| sdp::split(sdp).1.len();
        prop_assert_eq!(count(&stack), count(&text));
        sections.local(&stack, kind);
    }
}
