//! Which RTP payload type means which video codec, each way. Descriptions say it, and it is looked up for each packet.

use visavis_media::VideoCodec;

use crate::sdp::{Section, VideoFormat};

/// Video codecs in an order of preference, each once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VideoCodecs([Option<VideoCodec>; COUNT]);

impl VideoCodecs {
    /// From the most to the least preferred.
    pub fn iter(self) -> impl Iterator<Item = VideoCodec> {
        self.0.into_iter().flatten()
    }

    /// The most preferred.
    pub fn first(self) -> Option<VideoCodec> {
        self.iter().next()
    }

    /// Whether it is among them.
    pub fn contains(self, codec: VideoCodec) -> bool {
        self.0.contains(&Some(codec))
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.first().is_none()
    }
}

impl FromIterator<VideoCodec> for VideoCodecs {
    fn from_iter<I: IntoIterator<Item = VideoCodec>>(codecs: I) -> Self {
        let mut all = Self::default();
        for codec in codecs {
            if !all.contains(codec)
                && let Some(free) = all.0.iter_mut().find(|slot| slot.is_none())
            {
                *free = Some(codec);
            }
        }
        all
    }
}

/// How a codec of ours is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SentType {
    pub(crate) codec: VideoCodec,
    /// What the stack's sender takes the codec's frames with: numbers of its own first negotiation.
    pub(crate) carrier: u8,
    /// The remote peer's number.
    pub(crate) payload_type: u8,
    /// The remote peer's number for its retransmissions.
    pub(crate) rtx: Option<u8>,
    /// Whether it may be coded with CABAC (H.264).
    pub(crate) cabac: bool,
}

/// What a received payload type means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReceivedType {
    Media(VideoCodec),
    /// Retransmissions of packets with this payload type.
    Rtx(u8),
}

/// All of a connection.
#[derive(Debug, Clone)]
pub(crate) struct VideoTypes {
    /// In the remote peer's order of preference.
    sent: [Option<SentType>; COUNT],
    received: [Option<ReceivedType>; 128],
}

impl Default for VideoTypes {
    fn default() -> Self {
        Self { sent: [None; COUNT], received: [None; 128] }
    }
}

impl VideoTypes {
    /// What can be sent now; nothing if the remote peer does not receive.
    pub(crate) fn codecs(&self) -> VideoCodecs {
        self.sent.iter().flatten().map(|sent| sent.codec).collect()
    }

    pub(crate) fn sent(&self, codec: VideoCodec) -> Option<SentType> {
        self.sent.into_iter().flatten().find(|sent| sent.codec == codec)
    }

    /// By the number that the stack knows.
    pub(crate) fn sent_by_carrier(&self, carrier: u8) -> Option<SentType> {
        self.sent.into_iter().flatten().find(|sent| sent.carrier == carrier)
    }

    pub(crate) fn sent_codec(&self, payload_type: u8) -> Option<VideoCodec> {
        let sent = self.sent.iter().flatten().find(|sent| sent.payload_type == payload_type);
        sent.map(|sent| sent.codec)
    }

    /// The payload type of retransmissions of packets that are sent with `payload_type`.
    pub(crate) fn sent_rtx(&self, payload_type: u8) -> Option<u8> {
        self.sent.iter().flatten().find(|sent| sent.payload_type == payload_type)?.rtx
    }

    /// What a packet of the remote video stream, or of its retransmissions, carries.
    pub(crate) fn received(&self, payload_type: u8) -> Option<ReceivedType> {
        *self.received.get(usize::from(payload_type))?
    }

    pub(crate) fn set_sent(&mut self, types: &[SentType]) {
        self.sent = [None; COUNT];
        self.sent.iter_mut().zip(types).for_each(|(slot, sent)| *slot = Some(*sent));
    }

    /// Our offer went out: from now on the remote peer may send what it says, besides what was agreed on before.
    pub(crate) fn offer(&mut self, section: Section<'_>) {
        for format in section.video_formats() {
            let mut set = |payload_type: u8, received| {
                if let Some(slot) = self.received.get_mut(usize::from(payload_type)) {
                    *slot = Some(received);
                }
            };
            set(format.payload_type, ReceivedType::Media(format.codec));
            if let Some(rtx) = format.rtx {
                set(rtx, ReceivedType::Rtx(format.payload_type));
            }
        }
    }

    /// Negotiation is complete: what our description says is received, and nothing else.
    pub(crate) fn settle(&mut self, section: Option<Section<'_>>) {
        self.received = [None; 128];
        if let Some(section) = section {
            self.offer(section);
        }
    }
}

/// How each common codec is sent, in the order of the remote description's section; `carriers` are the payload types
/// that the stack's sender takes for a codec.
pub(crate) fn sent_types(
    local: Section<'_>,
    remote: Section<'_>,
    carrier: impl Fn(VideoCodec) -> Option<u8>,
) -> Vec<SentType> {
    let (ours, theirs) = (local.video_formats(), remote.video_formats());
    let order: VideoCodecs = theirs.iter().map(|format| format.codec).collect();
    let sent = |codec| {
        let theirs = || theirs.iter().filter(move |format| format.codec == codec);
        let common = || theirs().filter(|format| ours.iter().any(|ours| ours.is_same(format)));
        let exact = common().find(|format| format.has_cabac()).or_else(|| common().next());
        let cabac = exact.is_some_and(VideoFormat::has_cabac);
        // The stack's matching takes another profile of H.264 where there is nothing better.
        let similar = || theirs().next().filter(|_| ours.iter().any(|ours| ours.codec == codec));
        let format = exact.or_else(similar)?;
        let (payload_type, rtx) = (format.payload_type, format.rtx);
        Some(SentType { codec, carrier: carrier(codec)?, payload_type, rtx, cabac })
    };
    order.iter().filter_map(sent).collect()
}

const COUNT: usize = VideoCodec::ALL.len();

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Every codec with its retransmissions, as our offers have them.
    pub(crate) const ALL: &str = "m=video 9 UDP/TLS/RTP/SAVPF 45 46 98 99 102 103 96 97\r\n\
        a=rtpmap:45 AV1/90000\r\na=fmtp:45 profile=0\r\na=rtpmap:46 rtx/90000\r\na=fmtp:46 apt=45\r\n\
        a=rtpmap:98 VP9/90000\r\na=fmtp:98 profile-id=0\r\na=rtpmap:99 rtx/90000\r\na=fmtp:99 apt=98\r\n\
        a=rtpmap:102 H264/90000\r\na=fmtp:102 packetization-mode=1;profile-level-id=42e01f\r\n\
        a=rtpmap:103 rtx/90000\r\na=fmtp:103 apt=102\r\n\
        a=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n";

    /// Both ways as in [`ALL`].
    pub(crate) fn all() -> VideoTypes {
        let section = Section { text: ALL };
        let mut types = VideoTypes::default();
        types.settle(Some(section));
        let carrier = |codec| {
            section.video_formats().iter().find(|f| f.codec == codec).map(|f| f.payload_type)
        };
        types.set_sent(&sent_types(section, section, carrier));
        types
    }

    #[test]
    fn the_remote_peer_says_with_which_numbers_and_in_which_order_we_send() {
        let remote = "m=video 9 UDP/TLS/RTP/SAVPF 100 101 120 121 45 35\r\n\
            a=rtpmap:100 VP8/90000\r\na=rtpmap:101 rtx/90000\r\na=fmtp:101 apt=100\r\n\
            a=rtpmap:120 H264/90000\r\na=fmtp:120 packetization-mode=0;profile-level-id=42e01f\r\n\
            a=rtpmap:121 H264/90000\r\na=fmtp:121 packetization-mode=1;profile-level-id=42e034\r\n\
            a=rtpmap:45 AV1/90000\r\na=fmtp:45 profile=1\r\na=rtpmap:35 H265/90000\r\n";
        let sent =
            sent_types(Section { text: ALL }, Section { text: remote }, |codec| match codec {
                VideoCodec::Vp8 => Some(96),
                VideoCodec::H264 => Some(102),
                _ => None,
            });
        let expected = [
            SentType {
                codec: VideoCodec::Vp8,
                carrier: 96,
                payload_type: 100,
                rtx: Some(101),
                cabac: false,
            },
            SentType {
                codec: VideoCodec::H264,
                carrier: 102,
                payload_type: 121,
                rtx: None,
                cabac: false,
            },
        ];
        assert_eq!(sent, expected);
    }

    #[test]
    fn main_profile_is_sent_where_both_have_it() {
        let format = |number: u8, profile: &str| {
            format!(
                "a=rtpmap:{number} H264/90000\r\n\
                 a=fmtp:{number} packetization-mode=1;profile-level-id={profile}\r\n"
            )
        };
        let section = |profiles: &[(u8, &str)]| {
            let line = profiles.iter().map(|(number, _)| format!(" {number}")).collect::<String>();
            let formats = profiles.iter().map(|(n, p)| format(*n, p)).collect::<String>();
            format!("m=video 9 UDP/TLS/RTP/SAVPF{line}\r\n{formats}")
        };
        let ours = section(&[(102, "42e01f"), (112, "4d001f")]);
        let sent = |remote: &[(u8, &str)]| {
            let remote = section(remote);
            let types =
                sent_types(Section { text: &ours }, Section { text: &remote }, |_| Some(102));
            (types[0].payload_type, types[0].cabac)
        };
        assert_eq!(sent(&[(97, "42e01f"), (98, "4D0028"), (99, "64001f")]), (98, true));
        assert_eq!(sent(&[(97, "42001f"), (98, "42e01f")]), (98, false));
        // Another profile than ours is sent constrained baseline.
        assert_eq!(sent(&[(97, "64001f")]), (97, false));
    }

    #[test]
    fn what_was_agreed_on_is_received_until_an_offer_is_answered() {
        let mut types = all();
        let fewer = "m=video 9 UDP/TLS/RTP/SAVPF 110\r\na=rtpmap:110 VP8/90000\r\n";
        types.offer(Section { text: fewer });
        assert_eq!(types.received(110), Some(ReceivedType::Media(VideoCodec::Vp8)));
        assert_eq!(types.received(103), Some(ReceivedType::Rtx(102)));
        types.settle(Some(Section { text: fewer }));
        assert_eq!(types.received(110), Some(ReceivedType::Media(VideoCodec::Vp8)));
        assert_eq!(
            (types.received(103), types.received(102), types.received(255)),
            (None, None, None)
        );
        types.settle(None);
        assert_eq!(types.received(110), None);
    }

    #[test]
    fn a_list_holds_each_codec_once() {
        use VideoCodec::{H264, Vp8};
        let codecs: VideoCodecs = [Vp8, H264, Vp8].into_iter().collect();
        assert_eq!(codecs.iter().collect::<Vec<_>>(), [Vp8, H264]);
        assert!(codecs.contains(H264) && !codecs.contains(VideoCodec::Av1));
        assert_eq!((codecs.first(), VideoCodecs::default().is_empty()), (Some(Vp8), true));
    }
}
