//! What is negotiated: the audio codec and the video codecs, their feedback and header extensions, and
//! the chain of interceptors. Only what can be decoded is registered, in the order of preference, because a
//! browser sends the first codec it recognises.

use std::sync::Arc;

use rtc::interceptor::{Registry, Slot};
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::media_engine::MediaEngine;
use rtc::rtp_transceiver::rtp_sender::{
    RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters,
    RTCRtpEncodingParameters, RTCRtpHeaderExtensionCapability, RTCRtpRtxParameters, RtpCodecKind,
};
use visavis_media::VideoCodec;

use crate::congestion::{CongestionControl, Feedback, TRANSPORT_CC_URI};
use crate::error::RtcError;
use crate::interceptor::Staged;
use crate::nack::NackGenerator;
use crate::parity::{ParityReceiver, ParitySender};
use crate::payload_types::VideoCodecs;
use crate::receive::{Receiver, RtpCallback};
use crate::rtcp_tap::RtcpTap;
use crate::sdp;
use crate::send::Packetizer;
use crate::session::{LocalStreams, Session};
use crate::types::MediaKind;

/// Opus with RED, `video` with RTX, and the header extensions.
pub(crate) fn media_engine(video: VideoCodecs) -> Result<MediaEngine, RtcError> {
    let mut engine = MediaEngine::default();
    let register = RtcError::stack::<rtc::shared::error::Error>("registering codecs");
    (|| {
        engine.register_codec(
            RTCRtpCodecParameters { rtp_codec: opus(), payload_type: OPUS },
            RtpCodecKind::Audio,
        )?;
        // Redundancy for Opus; how it is preferred is in `prefer_red`.
        engine.register_codec(
            RTCRtpCodecParameters {
                rtp_codec: RTCRtpCodec {
                    mime_type: "audio/red".into(),
                    clock_rate: MediaKind::Audio.clock_rate_hz(),
                    channels: 2,
                    sdp_fmtp_line: format!("{OPUS}/{OPUS}"),
                    ..Default::default()
                },
                payload_type: RED,
            },
            RtpCodecKind::Audio,
        )?;
        let formats = |codec| VIDEO_FORMATS.iter().filter(move |format| format.codec == codec);
        for format in video.iter().flat_map(formats) {
            let media = RTCRtpCodec {
                mime_type: format!("video/{}", format.codec),
                clock_rate: MediaKind::Video.clock_rate_hz(),
                channels: 0,
                sdp_fmtp_line: format.parameters.into(),
                rtcp_feedback: feedback(&VIDEO_FEEDBACK),
            };
            let rtx = RTCRtpCodec {
                mime_type: "video/rtx".into(),
                clock_rate: MediaKind::Video.clock_rate_hz(),
                sdp_fmtp_line: format!("apt={}", format.payload_type),
                ..Default::default()
            };
            for (rtp_codec, payload_type) in [(media, format.payload_type), (rtx, format.rtx)] {
                let parameters = RTCRtpCodecParameters { rtp_codec, payload_type };
                engine.register_codec(parameters, RtpCodecKind::Video)?;
            }
        }
        for uri in [MID_URI, TRANSPORT_CC_URI] {
            for kind in [RtpCodecKind::Audio, RtpCodecKind::Video] {
                let extension = RTCRtpHeaderExtensionCapability { uri: uri.into() };
                engine.register_header_extension(extension, kind, None)?;
            }
        }
        Ok(())
    })()
    .map_err(register)?;
    Ok(engine)
}

/// RFC 7587 §7: two channels in SDP whatever is sent; in-band FEC and DTX are welcome.
fn opus() -> RTCRtpCodec {
    RTCRtpCodec {
        mime_type: "audio/opus".into(),
        clock_rate: MediaKind::Audio.clock_rate_hz(),
        channels: 2,
        sdp_fmtp_line: "minptime=10;useinbandfec=1;usedtx=1".into(),
        rtcp_feedback: feedback(&[("transport-cc", "")]),
    }
}

fn feedback(pairs: &[(&str, &str)]) -> Vec<RTCPFeedback> {
    let make = |(typ, parameter): &(&str, &str)| RTCPFeedback {
        typ: (*typ).into(),
        parameter: (*parameter).into(),
    };
    pairs.iter().map(make).collect()
}

/// `sdp` with RED in front of Opus where it is offered or accepted: libwebrtc sends RED if it is the
/// first codec of the remote description (`SetSendCodecs` in `webrtc_voice_engine.cc`).
/// It is done to what is signaled only: the stack itself works with Opus first.
pub(crate) fn prefer_red(sdp: &str) -> String {
    let red = |line: &str| {
        let (payload_type, name) = line.strip_prefix("a=rtpmap:")?.split_once(' ')?;
        name.to_ascii_lowercase().starts_with("red/48000").then(|| payload_type.to_owned())
    };
    let Some(red) = sdp.lines().find_map(red) else { return sdp.to_owned() };
    let mut out = String::with_capacity(sdp.len());
    for line in sdp.split_inclusive('\n') {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        match fields[..] {
            // m=<media> <port> <proto> <fmt> ... (RFC 8866 §5.14).
            ["m=audio", port, proto, ref formats @ ..] if formats.contains(&red.as_str()) => {
                let others = formats.iter().filter(|f| **f != red);
                out.push_str(&format!("m=audio {port} {proto} {red}"));
                others.for_each(|format| {
                    out.push(' ');
                    out.push_str(format);
                });
                out.push_str(if line.ends_with("\r\n") { "\r\n" } else { "\n" });
            }
            _ => out.push_str(line),
        }
    }
    out
}

/// `sdp` with what is said of Opus beside what the stack negotiates (RFC 7587 §6.1): stereo is welcome, and may come,
/// for whoever sends may switch to music in the middle of a call. Done to what is signaled only, as above.
pub(crate) fn announce_stereo(sdp: &str) -> String {
    let (session, sections) = sdp::split(sdp);
    let mut out = session.to_owned();
    for section in sections {
        let opus = (section.media() == "audio").then(|| section.audio_formats().0).flatten();
        let Some(opus) = opus else {
            out.push_str(section.text);
            continue;
        };
        let line = format!("a=fmtp:{opus} ");
        let stereo = |parameters: &str| {
            let others = parameters.split(';').map(str::trim).filter(|pair| {
                let key = pair.split('=').next().unwrap_or_default();
                !["stereo", "sprop-stereo", ""].contains(&key)
            });
            let all: Vec<&str> = others.chain(["stereo=1", "sprop-stereo=1"]).collect();
            format!("{line}{}\r\n", all.join(";"))
        };
        let has_line = section.text.lines().any(|l| l.starts_with(&line));
        let rtpmap = format!("a=rtpmap:{opus} ");
        for each in section.text.split_inclusive('\n') {
            match each.strip_prefix(&line) {
                Some(parameters) => out.push_str(&stereo(parameters.trim_end())),
                None => out.push_str(each),
            }
            if !has_line && each.starts_with(&rtpmap) && each.ends_with('\n') {
                out.push_str(&stereo(""));
            }
        }
    }
    out
}

/// `sdp` with the payload types of its video in our order of preference: libwebrtc sends the first codec of the
/// remote description that it can, whoever offered. Done to what is signaled only, as above.
pub(crate) fn prefer_video(sdp: &str, codecs: VideoCodecs) -> String {
    let (session, sections) = sdp::split(sdp);
    let mut out = session.to_owned();
    for section in sections {
        let known = section.video_formats();
        if section.media() != "video" || known.is_empty() {
            out.push_str(section.text);
            continue;
        }
        let of = |codec| known.iter().filter(move |format| format.codec == codec);
        let ours = codecs.iter().flat_map(of).flat_map(|f| [Some(f.payload_type), f.rtx]);
        let mut order: Vec<String> = ours.flatten().map(|number| number.to_string()).collect();
        for format in section.formats() {
            if !order.iter().any(|known| known == format) {
                order.push(format.to_owned());
            }
        }
        let order: Vec<&str> = order.iter().map(String::as_str).collect();
        out.push_str(&section.with_formats(&order));
    }
    out
}

/// Formats and their lines of a section that has what we have.
pub(crate) fn section(media: &str, codecs: VideoCodecs) -> String {
    if media == "audio" {
        let opus = opus();
        return format!(
            "{OPUS}\r\na=rtpmap:{OPUS} opus/48000/2\r\na=fmtp:{OPUS} {}\r\n",
            opus.sdp_fmtp_line
        );
    }
    let of = |codec| VIDEO_FORMATS.iter().filter(move |format| format.codec == codec);
    let (mut numbers, mut lines) = (Vec::new(), String::new());
    for VideoFormat { codec, payload_type, rtx, parameters } in codecs.iter().flat_map(of) {
        numbers.extend([payload_type.to_string(), rtx.to_string()]);
        lines.push_str(&format!("a=rtpmap:{payload_type} {codec}/90000\r\n"));
        if !parameters.is_empty() {
            lines.push_str(&format!("a=fmtp:{payload_type} {parameters}\r\n"));
        }
        lines.push_str(&format!("a=rtpmap:{rtx} rtx/90000\r\na=fmtp:{rtx} apt={payload_type}\r\n"));
        for (kind, parameter) in VIDEO_FEEDBACK {
            let feedback = format!("{kind} {parameter}");
            lines.push_str(&format!("a=rtcp-fb:{payload_type} {}\r\n", feedback.trim_end()));
        }
    }
    format!("{}\r\n{lines}", numbers.join(" "))
}

/// The local track of a kind: it stays for the whole call, whatever feeds it. That of video names no codec: the
/// stack would offer that one only.
pub(crate) fn local_track(kind: MediaKind, local: LocalStreams) -> MediaStreamTrack {
    let (track_id, codec_kind, codec, rtx) = match kind {
        MediaKind::Audio => ("audio", RtpCodecKind::Audio, opus(), None),
        MediaKind::Video => {
            let rtx = RTCRtpRtxParameters { ssrc: local.rtx };
            ("video", RtpCodecKind::Video, RTCRtpCodec::default(), Some(rtx))
        }
    };
    MediaStreamTrack::new(
        STREAM_ID.into(),
        track_id.into(),
        track_id.into(),
        codec_kind,
        vec![RTCRtpEncodingParameters {
            rtp_coding_parameters: RTCRtpCodingParameters {
                ssrc: Some(local.ssrc(kind)),
                rtx,
                ..Default::default()
            },
            codec,
            ..Default::default()
        }],
    )
}

/// The interceptors by distance from the wire: reading goes down this list, writing up.
pub(crate) fn interceptors(
    session: &Arc<Session>,
    video: RtpCallback,
    audio: RtpCallback,
    first_sequences: (u16, u16),
) -> Registry {
    let packetizer = Packetizer::new(session.clone(), first_sequences.0, first_sequences.1);
    Registry::new()
        // Next to the wire, so that it counts what others generate; below the pacer's place, as
        // reports need no pacing.
        .with(Slot::from(1_500), Staged::new(RtcpTap::new(session.clone())))
        .with(Slot::Pacer, Staged::new(CongestionControl::new(session.clone())))
        .with(Slot::FecEncoder, Staged::new(ParitySender::new(session.clone())))
        // Both sides estimate their bandwidth from this feedback.
        .with(Slot::TwccReceiver, Staged::new(Feedback::new()))
        // Behind the feedback, which counts parity too; before what asks for lost packets.
        .with(Slot::from(8_400), Staged::new(ParityReceiver::new(session.clone())))
        .with(Slot::from(8_700), Staged::new(NackGenerator::new(session.clone())))
        .with(Slot::from(13_500), Staged::new(Receiver::new(session.clone(), video, audio)))
        .with(Slot::from(14_000), Staged::new(packetizer))
}

/// The stream that ties our audio and video together for the remote side (RFC 8830).
const STREAM_ID: &str = "visavis";

// Dynamic payload types of our offers (RFC 3551 §3); an answer takes over the offer's.
const OPUS: u8 = 111;
/// As libwebrtc's.
const RED: u8 = 63;

/// A payload format of video.
struct VideoFormat {
    codec: VideoCodec,
    payload_type: u8,
    rtx: u8,
    /// Format-specific parameters.
    parameters: &'static str,
}

/// Those of one codec in order of preference. Numbers mostly as libwebrtc's, and none that parity has.
const VIDEO_FORMATS: [VideoFormat; 6] = [
    // AV1 RTP specification §7.2: profile 0, any level.
    VideoFormat { codec: VideoCodec::Av1, payload_type: 45, rtx: 46, parameters: "profile=0" },
    // RFC 9628 §7.
    VideoFormat { codec: VideoCodec::Vp9, payload_type: 98, rtx: 99, parameters: "profile-id=0" },
    // RFC 6184 §8.1: constrained baseline, level 3.1 at least and more where both can. Main is what is sent where
    // both have it, for its CABAC; High is for peers that have nothing else.
    VideoFormat {
        codec: VideoCodec::H264,
        payload_type: 102,
        rtx: 103,
        parameters: "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
    },
    VideoFormat {
        codec: VideoCodec::H264,
        payload_type: 112,
        rtx: 113,
        parameters: "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=4d001f",
    },
    VideoFormat {
        codec: VideoCodec::H264,
        payload_type: 114,
        rtx: 115,
        parameters: "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=64001f",
    },
    VideoFormat { codec: VideoCodec::Vp8, payload_type: 96, rtx: 97, parameters: "" },
];

/// `goog-remb` is for peers without transport-wide feedback.
const VIDEO_FEEDBACK: [(&str, &str); 5] =
    [("goog-remb", ""), ("transport-cc", ""), ("ccm", "fir"), ("nack", ""), ("nack", "pli")];

/// RFC 8843 §15.
pub(crate) const MID_URI: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";

#[cfg(test)]
mod tests {
    use visavis_media::Bitrate;

    use super::*;
    use crate::payload_types;
    use crate::sdp::OpusWishes;

    #[test]
    fn video_is_described_in_our_order_and_keeps_what_it_has() {
        let section = payload_types::tests::ALL;
        let sdp = format!("v=0\r\nm=audio 9 X 96 45\r\n{section}m=application 9 Y z\r\n");
        let codecs: VideoCodecs = [VideoCodec::Vp8, VideoCodec::H264].into_iter().collect();
        let preferred = prefer_video(&sdp, codecs);
        let line = "m=video 9 UDP/TLS/RTP/SAVPF 96 97 102 103 45 46 98 99\r\n";
        assert!(preferred.contains(line), "{preferred}");
        assert_eq!(preferred.len(), sdp.len());
        assert_eq!(prefer_video(&preferred, codecs), preferred);
    }

    #[test]
    fn no_payload_type_is_taken_twice() {
        let video = VIDEO_FORMATS.iter().flat_map(|f| [f.payload_type, f.rtx]);
        let mut all: Vec<u8> = video.chain([OPUS, RED, crate::parity::PAYLOAD_TYPE]).collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
        // RFC 5761 §4: none that looks like RTCP.
        assert!(all.iter().all(|number| !(64..96).contains(number) && *number < 128));
    }

    #[test]
    fn stereo_is_announced_beside_the_other_parameters_of_opus_alone() {
        let sdp = "v=0\r\nm=audio 9 X 63 111\r\na=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\n\
            a=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;stereo=0; useinbandfec=1\r\n\
            m=video 9 X 96\r\na=rtpmap:96 VP8/90000\r\n";
        let expected = sdp.replace(
            "minptime=10;stereo=0; useinbandfec=1",
            "minptime=10;useinbandfec=1;stereo=1;sprop-stereo=1",
        );
        assert_eq!(announce_stereo(sdp), expected);
        assert_eq!(announce_stereo(&expected), expected);
        let (_, sections) = sdp::split(&expected);
        assert_eq!(sections[0].opus_wishes(), OpusWishes { stereo: true, most: None });
        let bare = "m=audio 9 X 96\na=rtpmap:96 opus/48000/2\n";
        assert_eq!(announce_stereo(bare), format!("{bare}a=fmtp:96 stereo=1;sprop-stereo=1\r\n"));
        for without in
            ["", "v=0\r\n", "m=audio 9 X 0\r\na=rtpmap:0 PCMU/8000\r\n", "m=video 9 X 96\r\n"]
        {
            assert_eq!(announce_stereo(without), without);
        }
    }

    #[test]
    fn what_the_remote_peer_wants_of_opus_is_read() {
        let wishes = |parameters: &str| {
            let text =
                format!("m=audio 9 X 96\r\na=rtpmap:96 opus/48000/2\r\na=fmtp:96 {parameters}\r\n");
            sdp::Section { text: &text }.opus_wishes()
        };
        let kbps = |kbps| Some(Bitrate::from_kbps(kbps));
        assert_eq!(wishes("minptime=10"), OpusWishes::default());
        assert_eq!(wishes("stereo=0;sprop-stereo=1"), OpusWishes::default());
        let both = OpusWishes { stereo: true, most: kbps(64) };
        assert_eq!(wishes("stereo=1; maxaveragebitrate=64000"), both);
        // Outside 6 to 510 kbps it is no wish that RFC 7587 knows.
        for nonsense in ["0", "-1", "5999", "510001", "99999999999999999999", "x"] {
            let parameters = format!("maxaveragebitrate={nonsense}");
            assert_eq!(wishes(&parameters), OpusWishes::default(), "{nonsense}");
        }
    }

    #[test]
    fn red_goes_in_front_of_opus_in_the_audio_section_alone() {
        let sdp = "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111 63 9\r\na=rtpmap:111 opus/48000/2\r\n\
                   a=rtpmap:63 red/48000/2\r\nm=video 9 UDP/TLS/RTP/SAVPF 102 63\r\n";
        let preferred = prefer_red(sdp);
        assert!(preferred.contains("m=audio 9 UDP/TLS/RTP/SAVPF 63 111 9\r\n"), "{preferred}");
        assert!(preferred.contains("m=video 9 UDP/TLS/RTP/SAVPF 102 63\r\n"), "{preferred}");
        assert_eq!(preferred.len(), sdp.len());
        let without = "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=rtpmap:111 opus/48000/2\r\n";
        assert_eq!(prefer_red(without), without);
        assert_eq!(prefer_red(&preferred), preferred);
    }
}
