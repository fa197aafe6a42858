//! What is inside of SRTP: packets through all of our interceptors, as the stack hands them over.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rtc::interceptor::{
    AttributedPacket, Interceptor, Packet, RTPHeaderExtension, StreamInfo, TaggedPacket,
};
use rtc::sansio::Protocol;
use rtc::shared::TransportContext;
use rtc::shared::marshal::Unmarshal;
use tokio::sync::mpsc;
use visavis_media::VideoCodec;

use super::{pause, steps};
use crate::clock::MediaClock;
use crate::codecs;
use crate::congestion::TRANSPORT_CC_URI;
use crate::interceptor::Staged;
use crate::parity::ParityReceiver;
use crate::payload_types::sent_types;
use crate::sdp::Section;
use crate::session::{AudioTypes, LocalStreams, Session};

fn session() -> Arc<Session> {
    let (events, _) = mpsc::channel(8);
    let local = LocalStreams { audio: OUR_AUDIO, video: OUR_VIDEO, rtx: 24, parity: 23 };
    let session = Session::new(MediaClock::default(), local, events);
    session.parity.store(true, Ordering::Relaxed);
    let types = (Some(111), Some(63));
    session.set_audio_types(Some(AudioTypes {
        sent: types,
        received: types,
        ..AudioTypes::default()
    }));
    session.transport_cc.store(4, Ordering::Relaxed);
    let section = Section { text: VIDEO_SECTION };
    let mut types = session.video_types();
    types.settle(Some(section));
    let number = |codec| MEDIA_TYPES.into_iter().find(|(_, c)| *c == codec).map(|(n, _)| n);
    types.set_sent(&sent_types(section, section, number));
    drop(types);
    Arc::new(session)
}

fn stream(ssrc: u32, rtx: Option<u32>, mime_type: &str, payload_type: u8) -> StreamInfo {
    StreamInfo {
        ssrc,
        ssrc_rtx: rtx,
        payload_type,
        payload_type_rtx: rtx.map(|_| payload_type + 1),
        mime_type: mime_type.into(),
        clock_rate: if rtx.is_some() { 90_000 } else { 48_000 },
        rtp_header_extensions: vec![RTPHeaderExtension {
            uri: TRANSPORT_CC_URI.into(),
            id: TRANSPORT_CC,
        }],
        ..Default::default()
    }
}

/// What both sides send and receive.
const VIDEO_SECTION: &str = "m=video 9 UDP/TLS/RTP/SAVPF 102 103 96 97 98 99 45 46\r\n\
    a=rtpmap:102 H264/90000\r\na=rtpmap:103 rtx/90000\r\na=fmtp:103 apt=102\r\n\
    a=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n\
    a=rtpmap:98 VP9/90000\r\na=rtpmap:99 rtx/90000\r\na=fmtp:99 apt=98\r\n\
    a=rtpmap:45 AV1/90000\r\na=rtpmap:46 rtx/90000\r\na=fmtp:46 apt=45\r\n";
const MEDIA_TYPES: [(u8, VideoCodec); 4] =
    [(102, VideoCodec::H264), (96, VideoCodec::Vp8), (98, VideoCodec::Vp9), (45, VideoCodec::Av1)];
const OUR_AUDIO: u32 = 21;
const OUR_VIDEO: u32 = 22;
const VIDEO: u32 = 1;
const VIDEO_RTX: u32 = 2;
const AUDIO: u32 = 3;
const TRANSPORT_CC: u16 = 4;

fn tagged(now: Instant, packet: Packet) -> TaggedPacket {
    TaggedPacket {
        now,
        transport: TransportContext::default(),
        message: AttributedPacket::new(packet),
    }
}

/// A decrypted datagram, RTP or RTCP (RFC 5761 §4).
fn decrypted(bytes: &[u8]) -> Option<Packet> {
    let mut buffer = Bytes::copy_from_slice(bytes);
    if matches!(bytes.get(1), Some(192..=223)) {
        let packets = rtc::rtcp::packet::unmarshal(&mut buffer).ok()?;
        (!packets.is_empty()).then_some(Packet::Rtcp(packets))
    } else {
        rtc::rtp::Packet::unmarshal(&mut buffer).ok().map(Packet::Rtp)
    }
}

/// Packets of a peer through our interceptors while we send to it: receiving, repair, requests for what is
/// lost, reports both ways, congestion control.
pub fn media_path(input: &[u8]) {
    let session = session();
    let ignore: crate::receive::RtpCallback = Arc::new(|_| {});
    let registry = codecs::interceptors(&session, ignore.clone(), ignore, (1000, 2000));
    let mut chain = registry.build();
    chain.bind_local_stream(&stream(OUR_AUDIO, None, "audio/opus", 111));
    chain.bind_local_stream(&stream(OUR_VIDEO, Some(24), "video/H264", 102));
    chain.bind_remote_stream(&stream(AUDIO, None, "audio/opus", 111));
    chain.bind_remote_stream(&stream(VIDEO, Some(VIDEO_RTX), "video/H264", 102));
    let mut now = Instant::now();
    let mut timestamp = 0;
    for step in steps(input) {
        match step.action & 7 {
            // A frame of ours, so that there is something to report on and to ask for.
            0 => {
                let video = step.action & 8 != 0;
                timestamp += 3000;
                let header = rtc::rtp::Header {
                    version: 2,
                    ssrc: if video { OUR_VIDEO } else { OUR_AUDIO },
                    payload_type: if video {
                        MEDIA_TYPES[usize::from(step.action >> 4 & 3)].0
                    } else {
                        111
                    },
                    timestamp,
                    marker: true,
                    ..Default::default()
                };
                let payload = Bytes::copy_from_slice(step.bytes);
                let frame = rtc::rtp::Packet { header, payload };
                let _ = chain.handle_write(tagged(now, Packet::Rtp(frame)));
            }
            1 => now += pause(step, Duration::from_millis(4)),
            _ => {
                if let Some(packet) = decrypted(step.bytes) {
                    let _ = chain.handle_read(tagged(now, packet));
                }
            }
        }
        while chain.poll_read().is_some() {}
        while chain.poll_write().is_some() {}
        if chain.poll_timeout().is_some_and(|at| at <= now) {
            let _ = chain.handle_timeout(now);
        }
        while chain.poll_write().is_some() {}
    }
}

/// Media and parity packets of a video stream through the half that repairs. What the input says: number
/// (16 bits), then the payload.
pub fn parity(input: &[u8]) {
    let mut receiver = Staged::new(ParityReceiver::new(session()));
    receiver.bind_remote_stream(&stream(VIDEO, Some(VIDEO_RTX), "video/H264", 102));
    let now = Instant::now();
    for step in steps(input) {
        let Some(([high, low], payload)) = step.bytes.split_first_chunk() else { continue };
        let (number, _) = MEDIA_TYPES[usize::from(step.action >> 4 & 3)];
        let (ssrc, payload_type) = match step.action & 3 {
            0 | 1 => (VIDEO, number),
            2 => (VIDEO_RTX, number + 1),
            _ => (23, crate::parity::PAYLOAD_TYPE),
        };
        let header = rtc::rtp::Header {
            version: 2,
            ssrc,
            payload_type,
            sequence_number: u16::from_be_bytes([*high, *low]),
            marker: step.action & 4 != 0,
            ..Default::default()
        };
        let payload = Bytes::copy_from_slice(payload);
        let packet = Packet::Rtp(rtc::rtp::Packet { header, payload });
        let _ = receiver.handle_read(tagged(now, packet));
        let mut repaired = 0;
        while receiver.poll_read().is_some() {
            repaired += 1;
        }
        // Every equation that is open gives one packet at most.
        assert!(repaired <= 1 + 65, "{repaired} packets");
    }
}
