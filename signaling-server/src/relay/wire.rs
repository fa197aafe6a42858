//! TURN on the wire: the frames of a stream, and the messages that carry data. Pure.

use std::net::SocketAddr;

use turn_types::attribute::{Data, XorPeerAddress};
use turn_types::message::DATA;
use turn_types::stun::message::{Message, MessageWriteVec};
use turn_types::stun::prelude::{MessageWrite, MessageWriteExt};

/// The longest datagram taken from a peer and the longest message from a client, bytes. Media and
/// data channels keep below a path's MTU, so that this is generous.
pub(crate) const MAX_BYTES: usize = 4096;
/// RFC 8489 §5.
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const STUN_HEADER_BYTES: usize = 20;
/// Number and length before the data of a ChannelData message (RFC 8656 §12.4).
pub(crate) const CHANNEL_HEADER_BYTES: usize = 4;

/// Whether a stream that begins with this byte carries STUN (RFC 7983 §7). A TLS handshake begins
/// with 22, HTTP with a letter.
pub(crate) fn begins_stun(first: u8) -> bool {
    first <= 3
}

/// A stream that is no TURN, or one with messages that are too long.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Length of the message at the begin of a stream, with its padding (RFC 8656 §12.5); `None` until
/// all of it is there.
pub(crate) fn frame_bytes(stream: &[u8]) -> Result<Option<usize>, Malformed> {
    let Some(&[first, _, high, low]) = stream.first_chunk() else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let bytes = match first >> 6 {
        0 if length % 4 != 0 => return Err(Malformed),
        0 => {
            if stream.get(4..8).is_some_and(|cookie| cookie != MAGIC_COOKIE) {
                return Err(Malformed);
            }
            STUN_HEADER_BYTES + length
        }
        1 => (CHANNEL_HEADER_BYTES + length).next_multiple_of(4),
        _ => return Err(Malformed),
    };
    if bytes > MAX_BYTES {
        return Err(Malformed);
    }
    Ok((stream.len() >= bytes).then_some(bytes))
}

/// Number and data of a ChannelData message, which may be padded.
pub(crate) fn parse_channel_data(message: &[u8]) -> Option<(u16, &[u8])> {
    let (&[n1, n0, high, low], rest) = message.split_first_chunk()?;
    let length = usize::from(u16::from_be_bytes([high, low]));
    Some((u16::from_be_bytes([n1, n0]), rest.get(..length)?))
}

/// A ChannelData message. `data` is at most [`MAX_BYTES`] long.
pub(crate) fn channel_data(number: u16, data: &[u8], padded: bool) -> Vec<u8> {
    let bytes = CHANNEL_HEADER_BYTES + data.len();
    let mut message = Vec::with_capacity(bytes.next_multiple_of(4));
    message.extend(number.to_be_bytes());
    message.extend((data.len() as u16).to_be_bytes());
    message.extend(data);
    if padded {
        message.resize(bytes.next_multiple_of(4), 0);
    }
    message
}

/// A Data indication (RFC 8656 §11.4). `data` is at most [`MAX_BYTES`] long.
pub(crate) fn data_indication(peer: SocketAddr, data: &[u8]) -> Vec<u8> {
    let size = STUN_HEADER_BYTES + 24 + CHANNEL_HEADER_BYTES + data.len().next_multiple_of(4);
    let mut message = Message::builder_indication(DATA, MessageWriteVec::with_capacity(size));
    let peer = XorPeerAddress::new(peer, message.transaction_id());
    // Cannot fail: both fit, each is there once.
    let _ = message.add_attribute(&peer);
    let _ = message.add_attribute(&Data::new(data));
    message.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_tells_turn_from_tls_and_http() {
        assert!(begins_stun(0x00) && begins_stun(0x01));
        for other in [0x16, b'G', b'P', b'\r', 4, 0x40, 0x80, 0xff] {
            assert!(!begins_stun(other), "{other:#x}");
        }
    }

    #[test]
    fn a_stream_is_cut_into_messages() {
        let stun = [&[0, 1, 0, 4][..], &MAGIC_COOKIE, &[0; 16]].concat();
        for shorter in 0..stun.len() {
            assert_eq!(frame_bytes(&stun[..shorter]), Ok(None));
        }
        assert_eq!(frame_bytes(&[&stun[..], &[1, 2, 3]].concat()), Ok(Some(24)));
        let channel = channel_data(0x4001, b"hello", true);
        assert_eq!(channel.len(), 12);
        assert_eq!(frame_bytes(&channel), Ok(Some(12)));
        assert_eq!(frame_bytes(&channel[..11]), Ok(None), "its padding is still to come");
        assert_eq!(parse_channel_data(&channel), Some((0x4001, &b"hello"[..])));
        assert_eq!(channel_data(0x4001, b"hello", false).len(), 9);
        assert_eq!(parse_channel_data(&[0x40, 0, 0, 9, 1]), None);
    }

    #[test]
    fn what_is_no_turn_is_not_waited_for() {
        for bytes in [
            &b"GET / HTTP/1.1"[..3],
            &[0x80, 0, 0, 0],
            &[0xff; 20],
            &[0, 1, 0, 3],
            &[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x43],
            &[0, 1, 0xff, 0xfc],
            &[0x40, 0, 0x10, 0],
        ] {
            let outcome = frame_bytes(bytes);
            assert!(bytes.len() < 4 || outcome == Err(Malformed), "{bytes:?}: {outcome:?}");
        }
    }
}
