//! What of the stack's datagrams is media or DTLS, wrapped for a TURN server or not.

use crate::turn::stun_attribute;

/// Whether a datagram with this first byte is DTLS, RTP or RTCP (RFC 7983 §7).
pub(crate) fn is_payload(first: u8) -> bool {
    matches!(first, 20..=63 | 128..=191)
}

/// Whether this is DTLS, of a handshake perhaps.
pub(crate) fn is_dtls(datagram: &[u8]) -> bool {
    matches!(datagram.first(), Some(20..=63))
}

/// Whether this is a check of the other side.
pub(super) fn is_request(datagram: &[u8]) -> bool {
    datagram.starts_with(&[0, 1])
}

/// Whether this asks a relay for an address (RFC 8656 §7.1).
pub(super) fn is_allocate(datagram: &[u8]) -> bool {
    datagram.starts_with(&[0, 3])
}

/// Whether this is the answer to a check of ours, or to a STUN server's.
pub(super) fn is_success(datagram: &[u8]) -> bool {
    datagram.starts_with(&[1, 1])
}

/// The media or DTLS in a datagram, out of its ChannelData or Send or Data indication if it has one.
pub(super) fn payload(datagram: &[u8]) -> Option<&[u8]> {
    let inner = match datagram.first()? {
        first if is_payload(*first) => datagram,
        // ChannelData (RFC 8656 §12.4): number, length, data, perhaps padding.
        64..=79 => {
            let ([_, _, a, b], data) = datagram.split_first_chunk::<4>()?;
            data.get(..usize::from(u16::from_be_bytes([*a, *b])))?
        }
        0 if matches!(datagram.get(1), Some(&(SEND_INDICATION | DATA_INDICATION))) => {
            stun_attribute(datagram, DATA)?
        }
        _ => return None,
    };
    inner.first().copied().is_some_and(is_payload).then_some(inner)
}

/// A connectivity check in a datagram, with what names its receiver if that is behind a relay.
pub(super) fn check(datagram: &[u8]) -> Option<(&[u8], &[u8])> {
    let (peer, inner) = match datagram.first()? {
        64..=79 => datagram.split_at_checked(4).map(|(header, data)| (&header[..2], data))?,
        0 if datagram.get(1) == Some(&SEND_INDICATION) => {
            (stun_attribute(datagram, XOR_PEER_ADDRESS)?, stun_attribute(datagram, DATA)?)
        }
        _ => (&[][..], datagram),
    };
    // Those to a STUN server are not signed.
    let signed = || stun_attribute(inner, MESSAGE_INTEGRITY).is_some();
    (inner.starts_with(&[0, 1]) && signed()).then_some((peer, inner))
}

/// RFC 8656 §17, §18.
const SEND_INDICATION: u8 = 0x16;
const DATA_INDICATION: u8 = 0x17;
const XOR_PEER_ADDRESS: u16 = 0x0012;
const DATA: u16 = 0x0013;
const MESSAGE_INTEGRITY: u16 = 0x0008;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn media_is_found_bare_in_channel_data_and_in_indications() {
        let media = [128, 1, 2, 3, 4];
        assert_eq!(payload(&media), Some(&media[..]));
        let channel = [0x40, 0, 0, 5, 128, 1, 2, 3, 4, 0, 0, 0];
        assert_eq!(payload(&channel), Some(&media[..]));
        let mut indication = vec![0, 0x16, 0, 12, 0x21, 0x12, 0xa4, 0x42];
        indication.extend([7; 12]);
        indication.extend([0, 0x13, 0, 5, 128, 1, 2, 3, 4, 0, 0, 0]);
        assert_eq!(payload(&indication), Some(&media[..]));
    }

    #[test]
    fn checks_stay_where_the_stack_sends_them() {
        let mut check = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
        check.extend([7; 12]);
        assert_eq!(payload(&check), None);
        let mut channel = vec![0x40, 0, 0, 20];
        channel.extend(&check);
        assert_eq!(payload(&channel), None);
        // A request to the relay, and one cut short.
        assert_eq!(payload(&[0, 8, 0, 0]), None);
        assert_eq!(payload(&[0x40, 0, 0, 9, 128]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = payload(&bytes);
        }
    }
}
