//! What is negotiated: one audio and one video codec, their feedback and header extensions, and
//! the chain of interceptors. Only what can be decoded is registered, because a browser sends the
//! first codec it recognises.

use std::sync::Arc;

use rtc::interceptor::{Registry, Slot};
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::media_engine::MediaEngine;
use rtc::rtp_transceiver::rtp_sender::{
    RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters,
    RTCRtpEncodingParameters, RTCRtpHeaderExtensionCapability, RtpCodecKind,
};

use crate::congestion::{CongestionControl, Feedback, TRANSPORT_CC_URI};
use crate::error::RtcError;
use crate::interceptor::Staged;
use crate::nack::NackGenerator;
use crate::parity::{ParityReceiver, ParitySender};
use crate::receive::{Receiver, RtpCallback};
use crate::rtcp_tap::RtcpTap;
use crate::send::Packetizer;
use crate::session::Session;
use crate::types::MediaKind;

/// Opus with RED, H.264 with RTX, and the header extensions.
pub(crate) fn media_engine() -> Result<MediaEngine, RtcError> {
    let mut engine = MediaEngine::default();
    let register = RtcError::stack("registering codecs");
    (|| {
        engine.register_codec(
            RTCRtpCodecParameters { rtp_codec: codec(MediaKind::Audio), payload_type: OPUS },
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
        engine.register_codec(
            RTCRtpCodecParameters { rtp_codec: codec(MediaKind::Video), payload_type: H264 },
            RtpCodecKind::Video,
        )?;
        engine.register_codec(
            RTCRtpCodecParameters {
                rtp_codec: RTCRtpCodec {
                    mime_type: "video/rtx".into(),
                    clock_rate: MediaKind::Video.clock_rate_hz(),
                    sdp_fmtp_line: format!("apt={H264}"),
                    ..Default::default()
                },
                payload_type: H264_RTX,
            },
            RtpCodecKind::Video,
        )?;
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

fn codec(kind: MediaKind) -> RTCRtpCodec {
    let feedback = |pairs: &[(&str, &str)]| {
        let make = |(typ, parameter): &(&str, &str)| RTCPFeedback {
            typ: (*typ).into(),
            parameter: (*parameter).into(),
        };
        pairs.iter().map(make).collect()
    };
    match kind {
        // RFC 7587 §7: two channels in SDP whatever is sent; in-band FEC and DTX are welcome.
        MediaKind::Audio => RTCRtpCodec {
            mime_type: "audio/opus".into(),
            clock_rate: kind.clock_rate_hz(),
            channels: 2,
            sdp_fmtp_line: "minptime=10;useinbandfec=1;usedtx=1".into(),
            rtcp_feedback: feedback(&[("transport-cc", "")]),
        },
        // RFC 6184 §8.1: constrained baseline, level 3.1 at least and more where both can.
        MediaKind::Video => RTCRtpCodec {
            mime_type: "video/H264".into(),
            clock_rate: kind.clock_rate_hz(),
            channels: 0,
            sdp_fmtp_line: "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"
                .into(),
            rtcp_feedback: feedback(&[
                ("transport-cc", ""),
                ("ccm", "fir"),
                ("nack", ""),
                ("nack", "pli"),
            ]),
        },
    }
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

/// The local track of a kind: it stays for the whole call, whatever feeds it.
pub(crate) fn local_track(kind: MediaKind, ssrc: u32) -> MediaStreamTrack {
    let (track_id, codec_kind) = match kind {
        MediaKind::Audio => ("audio", RtpCodecKind::Audio),
        MediaKind::Video => ("video", RtpCodecKind::Video),
    };
    MediaStreamTrack::new(
        STREAM_ID.into(),
        track_id.into(),
        track_id.into(),
        codec_kind,
        vec![RTCRtpEncodingParameters {
            rtp_coding_parameters: RTCRtpCodingParameters {
                ssrc: Some(ssrc),
                ..Default::default()
            },
            codec: codec(kind),
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
    max_video_bps: f64,
) -> Registry {
    let packetizer = Packetizer::new(session.clone(), first_sequences.0, first_sequences.1);
    Registry::new()
        // Next to the wire, so that it counts what others generate; below the pacer's place, as
        // reports need no pacing.
        .with(Slot::from(1_500), Staged::new(RtcpTap::new(session.clone())))
        .with(Slot::Pacer, Staged::new(CongestionControl::new(session.clone(), max_video_bps)))
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
const H264: u8 = 102;
const H264_RTX: u8 = 103;

/// RFC 8843 §15.
const MID_URI: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";

#[cfg(test)]
mod tests {
    use super::*;

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
