//! How many media sources (SSRCs) the stack hears of. Sans-IO.
//!
//! rtc-srtp 0.21.1 keeps something for every SSRC in a packet before it looks at the packet's authentication, and
//! forgets none. A remote peer announces its SSRCs in its description and has few others: retransmission, parity,
//! reports without media.

use std::collections::HashSet;

/// The SSRCs of one connection that are let through.
#[derive(Debug, Default)]
pub(crate) struct Ssrcs {
    /// From descriptions of the remote peer.
    announced: HashSet<u32>,
    /// Those that came without being announced.
    others: HashSet<u32>,
}

impl Ssrcs {
    /// A description of the remote peer (RFC 5576 §4.1).
    pub(crate) fn announce(&mut self, sdp: &str) {
        for line in sdp.lines() {
            let ssrc = line.strip_prefix("a=ssrc:").and_then(|rest| rest.split(' ').next());
            if let Some(ssrc) = ssrc.and_then(|ssrc| ssrc.parse().ok())
                && self.announced.len() < MAX_ANNOUNCED
            {
                self.announced.insert(ssrc);
            }
        }
    }

    /// Whether a packet of SRTP or SRTCP is of a source that is known, or one of the first others.
    pub(crate) fn admit(&mut self, packet: &[u8]) -> bool {
        // Packet types of RTCP (RFC 5761 §4); where the SSRC is (RFC 3550 §5.1, §6.4).
        let at = if matches!(packet.get(1), Some(192..=223)) { 4 } else { 8 };
        let Some(ssrc) = packet.get(at..).and_then(<[u8]>::first_chunk) else {
            // The stack refuses what is that short.
            return true;
        };
        let ssrc = u32::from_be_bytes(*ssrc);
        if self.announced.contains(&ssrc) || self.others.contains(&ssrc) {
            return true;
        }
        self.others.len() < MAX_OTHERS && self.others.insert(ssrc)
    }
}

/// Of a call with hundreds of renegotiations that rename every stream.
const MAX_ANNOUNCED: usize = 1024;
/// Ours have two and browsers at most four.
const MAX_OTHERS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn rtp(ssrc: u32) -> Vec<u8> {
        [&[0x80, 96, 0, 1, 0, 0, 0, 0][..], &ssrc.to_be_bytes(), b"payload"].concat()
    }

    fn rtcp(ssrc: u32) -> Vec<u8> {
        [&[0x80, 200, 0, 1][..], &ssrc.to_be_bytes()].concat()
    }

    #[test]
    fn ever_new_media_sources_are_not_passed_and_announced_ones_are() {
        let mut ssrcs = Ssrcs::default();
        ssrcs.announce("v=0\r\na=ssrc:4000000000 cname:x\r\na=ssrc:7\r\na=ssrc:no\r\n");
        let passed = (100..100_000).filter(|ssrc| ssrcs.admit(&rtp(*ssrc))).count();
        assert_eq!(passed, MAX_OTHERS);
        for packet in [rtp(4_000_000_000), rtcp(7), rtp(100), rtcp(100)] {
            assert!(ssrcs.admit(&packet), "{packet:?}");
        }
        for packet in [rtp(99), rtcp(99)] {
            assert!(!ssrcs.admit(&packet), "{packet:?}");
        }
        // A remote peer that names new ones with each description.
        (0..10_000).for_each(|n| ssrcs.announce(&format!("a=ssrc:{n} cname:x\n")));
        assert_eq!(ssrcs.announced.len(), MAX_ANNOUNCED);
    }
}
