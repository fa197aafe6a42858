//! From decrypted RTP to the application: RTX and RED are undone and packets are handed over with the time
//! they arrived, before any queue. Runs in the driver task.
//!
//! Handing over here rather than through the stack's remote track avoids its queue of 256 packets,
//! which drops when it is full, and a task switch for every packet.

use std::collections::HashMap;
use std::sync::Arc;

use rtc::interceptor::{Packet, StreamInfo, TaggedPacket};
use visavis_media::{ReceivedRtp, VideoCodec, red};

use crate::interceptor::{Queues, Stage};
use crate::payload_types::{ReceivedType, VideoTypes};
use crate::session::Session;
use crate::types::MediaKind;

/// Takes received packets, those of video that are padding alone with an empty payload; redundant copies of sound (RED) come before their carrier, as
/// retransmitted packets with its number and arrival. Called in the network task: it must return at once.
pub type RtpCallback = Arc<dyn Fn(ReceivedRtp) + Send + Sync>;

/// What an SSRC of the remote side carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RemoteStream {
    pub(crate) kind: MediaKind,
    /// The stream itself, or the one it repairs.
    pub(crate) media_ssrc: u32,
    /// That of its first packet.
    payload_type: u8,
    /// Whether it carries retransmissions (RFC 4588).
    pub(crate) rtx: bool,
}

/// What a packet of the remote video carries, itself or as a retransmission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct VideoPacket {
    pub(crate) codec: VideoCodec,
    /// That of the media stream, as the sequence number.
    pub(crate) payload_type: u8,
    pub(crate) sequence: u16,
    /// Where in the packet the media's payload begins: behind the number (RFC 4588 §4) in a retransmission.
    pub(crate) offset: usize,
}

impl RemoteStream {
    /// `None` for packets that carry no video: empty RTX packets, with which browsers probe for bandwidth, and
    /// payload types that were not negotiated.
    pub(crate) fn video(&self, rtp: &rtc::rtp::Packet, types: &VideoTypes) -> Option<VideoPacket> {
        if self.kind != MediaKind::Video {
            return None;
        }
        let payload_type = rtp.header.payload_type;
        match (types.received(payload_type)?, self.rtx) {
            (ReceivedType::Media(codec), false) => {
                let sequence = rtp.header.sequence_number;
                Some(VideoPacket { codec, payload_type, sequence, offset: 0 })
            }
            (ReceivedType::Rtx(payload_type), true) => {
                let ReceivedType::Media(codec) = types.received(payload_type)? else { return None };
                let sequence = u16::from_be_bytes(*rtp.payload.first_chunk()?);
                Some(VideoPacket { codec, payload_type, sequence, offset: 2 })
            }
            _ => None,
        }
    }
}

/// The remote SSRCs by what the stack says when it binds them.
#[derive(Debug, Default)]
pub(crate) struct RemoteStreams(HashMap<u32, RemoteStream>);

impl RemoteStreams {
    pub(crate) fn get(&self, ssrc: u32) -> Option<RemoteStream> {
        self.0.get(&ssrc).copied()
    }

    /// Takes up a stream. The stack also binds an RTX stream by itself, as if it carried the codec
    /// it repairs; that is ignored, since the media stream already named it.
    pub(crate) fn bind(&mut self, info: &StreamInfo) -> Option<RemoteStream> {
        let known_rtx = self.get(info.ssrc).is_some_and(|s| s.rtx);
        let kind = kind_of(&info.mime_type)?;
        if known_rtx {
            return None;
        }
        // A peer that renames its streams with every offer must not fill memory.
        if self.0.len() >= MAX_STREAMS {
            self.0.retain(|_, s| s.kind != kind);
        }
        let stream = RemoteStream {
            kind,
            media_ssrc: info.ssrc,
            payload_type: info.payload_type,
            rtx: false,
        };
        self.0.insert(info.ssrc, stream);
        if let (Some(ssrc), Some(payload_type)) = (info.ssrc_rtx, info.payload_type_rtx) {
            self.0.insert(ssrc, RemoteStream { payload_type, rtx: true, ..stream });
        }
        Some(stream)
    }
}

/// Audio or video by MIME type; `None` for what is neither.
pub(crate) fn kind_of(mime_type: &str) -> Option<MediaKind> {
    let (kind, _) = mime_type.split_once('/')?;
    if kind.eq_ignore_ascii_case("audio") {
        Some(MediaKind::Audio)
    } else if kind.eq_ignore_ascii_case("video") {
        Some(MediaKind::Video)
    } else {
        None
    }
}

/// The last interceptor on the way in: RTP ends here.
pub(crate) struct Receiver {
    session: Arc<Session>,
    streams: RemoteStreams,
    video: RtpCallback,
    audio: RtpCallback,
}

impl Receiver {
    pub(crate) fn new(session: Arc<Session>, video: RtpCallback, audio: RtpCallback) -> Self {
        Self { session, streams: RemoteStreams::default(), video, audio }
    }
}

impl Receiver {
    /// Sound: Opus as it is, or redundant copies with it (RED).
    fn audio(&self, arrival: visavis_media::MediaTime, rtp: rtc::rtp::Packet, bound: u8) {
        let header = &rtp.header;
        let receive = |payload, timestamp, retransmitted| {
            (self.audio)(ReceivedRtp {
                codec: None,
                sequence: header.sequence_number,
                timestamp,
                marker: header.marker,
                payload,
                arrival,
                retransmitted,
            });
        };
        let (opus, red) = self.session.audio_types().received;
        if red == Some(header.payload_type) {
            let well_formed = red::parse(&rtp.payload, |block| {
                if Some(block.payload_type) == opus && !block.payload.is_empty() {
                    let timestamp = header.timestamp.wrapping_sub(block.timestamp_offset);
                    receive(block.payload, timestamp, block.timestamp_offset != 0);
                }
            });
            if !well_formed {
                tracing::debug!("malformed redundant audio ignored");
            }
        } else if [opus, Some(bound)].contains(&Some(header.payload_type))
            && !rtp.payload.is_empty()
        {
            receive(rtp.payload, header.timestamp, false);
        }
    }
}

impl Stage for Receiver {
    fn on_read(&mut self, packet: TaggedPacket, queues: &mut Queues) {
        let arrival = packet.now;
        let Packet::Rtp(rtp) = packet.message.packet else {
            queues.read.push_back(packet);
            return;
        };
        let Some(stream) = self.streams.get(rtp.header.ssrc) else { return };
        if stream.kind == MediaKind::Audio {
            return self.audio(self.session.clock.at(arrival), rtp, stream.payload_type);
        }
        let video = stream.video(&rtp, &self.session.video_types());
        let Some(video) = video else { return };
        let payload = rtp.payload.slice(video.offset..);
        // On the media stream a packet of padding alone fills the place of its number.
        if payload.is_empty() && stream.rtx {
            return;
        }
        (self.video)(ReceivedRtp {
            codec: Some(video.codec),
            sequence: video.sequence,
            timestamp: rtp.header.timestamp,
            marker: rtp.header.marker,
            payload,
            arrival: self.session.clock.at(arrival),
            retransmitted: stream.rtx,
        });
    }

    fn bind_remote(&mut self, info: &StreamInfo) {
        self.streams.bind(info);
    }
}

/// SSRCs kept: two m-lines, with RTX for one, and room for a change of each.
const MAX_STREAMS: usize = 16;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::payload_types;
    use bytes::Bytes;
    use proptest::prelude::*;

    fn video() -> StreamInfo {
        StreamInfo {
            ssrc: 1,
            ssrc_rtx: Some(2),
            payload_type: 102,
            payload_type_rtx: Some(103),
            mime_type: "video/H264".into(),
            ..Default::default()
        }
    }

    fn rtp(ssrc: u32, payload_type: u8, payload: Vec<u8>) -> rtc::rtp::Packet {
        rtc::rtp::Packet {
            header: rtc::rtp::Header {
                version: 2,
                ssrc,
                payload_type,
                sequence_number: 77,
                ..Default::default()
            },
            payload: Bytes::from(payload),
        }
    }

    #[test]
    fn an_rtx_stream_bound_by_itself_stays_an_rtx_stream() {
        let mut streams = RemoteStreams::default();
        streams.bind(&video());
        let again = StreamInfo { ssrc: 2, payload_type: 103, ssrc_rtx: None, ..video() };
        assert!(streams.bind(&again).is_none());
        assert!(streams.get(2).unwrap().rtx);
        assert_eq!(streams.get(2).unwrap().media_ssrc, 1);
    }

    #[test]
    fn empty_rtx_packets_carry_nothing() {
        let (mut streams, types) = (RemoteStreams::default(), payload_types::tests::all());
        streams.bind(&video());
        let rtx = |packet| streams.get(2).unwrap().video(&packet, &types).map(|v| v.sequence);
        assert_eq!(rtx(rtp(2, 103, vec![])), None);
        assert_eq!(rtx(rtp(2, 103, vec![1])), None);
        assert_eq!(rtx(rtp(2, 103, vec![1, 2])), Some(0x102));
    }

    #[test]
    fn the_payload_type_says_which_codec_it_is_also_in_retransmissions() {
        let (mut streams, types) = (RemoteStreams::default(), payload_types::tests::all());
        streams.bind(&video());
        let of = |ssrc, payload_type| {
            let packet = rtp(ssrc, payload_type, vec![1, 2, 3]);
            streams.get(ssrc).unwrap().video(&packet, &types).map(|v| (v.codec, v.payload_type))
        };
        for (codec, payload_type) in [
            (VideoCodec::Av1, 45),
            (VideoCodec::Vp9, 98),
            (VideoCodec::H264, 102),
            (VideoCodec::Vp8, 96),
        ] {
            assert_eq!(of(1, payload_type), Some((codec, payload_type)));
            assert_eq!(of(2, payload_type + 1), Some((codec, payload_type)));
            // Nothing of the other stream's.
            assert_eq!((of(2, payload_type), of(1, payload_type + 1)), (None, None));
        }
        assert_eq!((of(1, 35), of(2, 36)), (None, None));
    }

    #[test]
    fn a_peer_that_renames_its_streams_fills_no_memory() {
        let mut streams = RemoteStreams::default();
        for ssrc in 0..10_000 {
            streams.bind(&StreamInfo { ssrc: ssrc * 2, ssrc_rtx: Some(ssrc * 2 + 1), ..video() });
        }
        assert!(streams.0.len() <= MAX_STREAMS + 2);
    }

    /// A peer without RTX fills up its rate on the media stream (RFC 3550 §5.1, P bit).
    #[test]
    fn padding_alone_is_handed_on_empty_and_leaves_no_hole() {
        use rtc::shared::marshal::Unmarshal;

        let (events, _receiver) = tokio::sync::mpsc::channel(8);
        let local = crate::session::LocalStreams { audio: 21, video: 22, rtx: 24, parity: 23 };
        let session = Session::new(crate::MediaClock::default(), local, events);
        *session.video_types() = payload_types::tests::all();
        let session = Arc::new(session);
        let (sender, received) = std::sync::mpsc::sync_channel(8);
        let take: RtpCallback = Arc::new(move |rtp| sender.try_send(rtp).unwrap());
        let mut receiver = Receiver::new(session.clone(), take, Arc::new(|_| {}));
        let mut requests = crate::nack::NackGenerator::new(session);
        receiver.bind_remote(&video());
        requests.bind_remote(&video());
        let now = std::time::Instant::now();
        let mut queues = Queues::default();
        for (sequence, padding) in [(1u8, false), (2, true), (3, true), (4, false)] {
            let mut bytes = vec![0x80, 96, 0, sequence, 0, 0, 0, 9, 0, 0, 0, 1];
            if padding {
                bytes[0] |= 0x20;
                bytes.extend([0, 0, 3]);
            } else {
                bytes.extend([0x10, 0, 0, 0]);
            }
            let rtp = rtc::rtp::Packet::unmarshal(&mut Bytes::from(bytes)).unwrap();
            let message = rtc::interceptor::AttributedPacket::new(Packet::Rtp(rtp));
            let packet = TaggedPacket { now, transport: Default::default(), message };
            requests.on_read(packet, &mut queues);
            receiver.on_read(queues.read.pop_front().unwrap(), &mut queues);
        }
        let all: Vec<_> = received.try_iter().map(|r| (r.sequence, r.payload.is_empty())).collect();
        assert_eq!(all, [(1, false), (2, true), (3, true), (4, false)]);
        assert_eq!(requests.deadline(), None, "something is missing");
    }

    proptest! {
        #[test]
        fn any_payload_is_survived(ssrc in 1u32..4, payload_type in 94u8..105, payload: Vec<u8>) {
            let (mut streams, types) = (RemoteStreams::default(), payload_types::tests::all());
            streams.bind(&video());
            if let Some(stream) = streams.get(ssrc) {
                let packet = rtp(ssrc, payload_type, payload);
                if let Some(video) = stream.video(&packet, &types) {
                    prop_assert!(packet.payload.len() >= video.offset);
                }
            }
        }
    }
}
