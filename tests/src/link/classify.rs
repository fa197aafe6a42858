//! What an IP packet is, as far as an observer on the way can tell.

use serde::Serialize;

/// What a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StreamKind {
    /// RTP of another payload type than the audio ones: video, its retransmissions and padding.
    Video,
    /// RTP of one of `AUDIO_PAYLOAD_TYPES`.
    Audio,
    /// SRTCP.
    Rtcp,
    /// Any other UDP: STUN, DTLS, data channels.
    OtherUdp,
    /// TCP, ICMP and whatever else: not impaired.
    Exempt,
}

/// Opus, RED around Opus, comfort noise, DTMF: as Chromium offers them and our peers accept them.
const AUDIO_PAYLOAD_TYPES: [u8; 6] = [111, 63, 13, 110, 126, 9];

/// What can be read of a packet.
pub(crate) struct Class {
    pub(crate) kind: StreamKind,
    /// UDP ports, source and destination.
    pub(crate) ports: (u16, u16),
    /// Of RTP: what is behind the header, without the authentication tag.
    pub(crate) payload_bytes: usize,
}

/// AEAD_AES_128_GCM, which both systems negotiate (RFC 7714 §12).
const TAG_BYTES: usize = 16;

/// Looks at an IPv4 packet; everything else is exempt.
pub(crate) fn classify(packet: &[u8]) -> Class {
    const UDP: u8 = 17;
    const MDNS: u16 = 5353;
    let exempt = Class { kind: StreamKind::Exempt, ports: (0, 0), payload_bytes: 0 };
    let Some(&first) = packet.first() else { return exempt };
    let header = usize::from(first & 0x0f) * 4;
    if first >> 4 != 4 || packet.get(9) != Some(&UDP) {
        return exempt;
    }
    let word = |at: usize| Some(u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?]));
    let (Some(from), Some(to)) = (word(header), word(header + 2)) else { return exempt };
    let payload = packet.get(header + 8..).unwrap_or_default();
    let kind = match payload {
        // A browser's questions to name servers begin with a random number.
        _ if [from, to].iter().any(|port| *port < 1024 || *port == MDNS) => StreamKind::OtherUdp,
        // RFC 7983 §7: 128 to 191 is RTP and RTCP; RFC 5761 §4: the second byte tells which.
        [128..=191, 192..=223, ..] => StreamKind::Rtcp,
        [128..=191, second, ..] if AUDIO_PAYLOAD_TYPES.contains(&(second & 0x7f)) => {
            StreamKind::Audio
        }
        [128..=191, _, ..] => StreamKind::Video,
        _ => StreamKind::OtherUdp,
    };
    Class { kind, ports: (from, to), payload_bytes: rtp_payload_bytes(payload).unwrap_or(0) }
}

/// RFC 3550 §5.1 and §5.3.1: the header with its sources and its extension.
fn rtp_payload_bytes(packet: &[u8]) -> Option<usize> {
    let first = *packet.first()?;
    let mut header = 12 + 4 * usize::from(first & 0x0f);
    if first & 0x10 != 0 {
        let words = [*packet.get(header + 2)?, *packet.get(header + 3)?];
        header += 4 + 4 * usize::from(u16::from_be_bytes(words));
    }
    packet.len().checked_sub(header + TAG_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn udp(payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        packet.extend([0x10, 0x00, 0x20, 0x00, 0, 0, 0, 0]);
        packet.extend(payload);
        packet
    }

    #[test]
    fn streams_are_told_apart_by_their_first_bytes() {
        let kind = |payload: &[u8]| classify(&udp(payload)).kind;
        assert_eq!(kind(&[0x80, 102, 0, 0]), StreamKind::Video);
        assert_eq!(kind(&[0x90, 0x80 | 103]), StreamKind::Video);
        assert_eq!(kind(&[0x90, 111]), StreamKind::Audio);
        assert_eq!(kind(&[0x81, 200]), StreamKind::Rtcp);
        assert_eq!(kind(&[22, 254]), StreamKind::OtherUdp, "DTLS");
        assert_eq!(kind(&[0, 1]), StreamKind::OtherUdp, "STUN");
        assert_eq!(classify(&udp(&[0])).ports, (0x1000, 0x2000));
        let mut dns = udp(&[0x80, 102, 1, 0]);
        dns[22..24].copy_from_slice(&53u16.to_be_bytes());
        assert_eq!(classify(&dns).kind, StreamKind::OtherUdp);
        let mut tcp = udp(&[0x80, 102]);
        tcp[9] = 6;
        assert_eq!(classify(&tcp).kind, StreamKind::Exempt);
        let mut rtp = vec![0x90; 12];
        // One word of extension, 100 bytes of payload, the tag.
        rtp.extend([0xbe, 0xde, 0, 1, 0, 0, 0, 0]);
        rtp.extend([0; 100 + TAG_BYTES]);
        rtp[0] = 0x90;
        assert_eq!(classify(&udp(&rtp)).payload_bytes, 100);
        for length in 0..30 {
            // No length is too short to be looked at.
            classify(&udp(&[0x80])[..length.min(29)]);
        }
    }
}
