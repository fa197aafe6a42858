//! Permissions that a relay refuses. The stack asks for one for each address of the other side, private
//! ones among them, and asks again at every tick of its checks; and while it waits for an answer it
//! names the address in every refresh of the others, which the relay then refuses altogether. So a
//! relay is asked once, and what it forbade (403) is answered here after that. Sans-IO.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use super::refusals::{attribute, error_code, stun_header, xor_address};

/// What a socket asked relays for, and what they forbade.
#[derive(Debug, Default)]
pub(crate) struct Permissions {
    asked: VecDeque<([u8; 12], SocketAddr, IpAddr)>,
    forbidden: Vec<(SocketAddr, IpAddr)>,
}

impl Permissions {
    /// A datagram is sent to `relay`; gives the relay's answer if it is known and nothing need go
    /// out.
    pub(crate) fn on_send(&mut self, relay: SocketAddr, datagram: &[u8]) -> Option<Vec<u8>> {
        let (CREATE_PERMISSION, transaction) = stun_header(datagram)? else { return None };
        let peer = peer(datagram)?;
        if self.forbidden.contains(&(relay, peer)) {
            return Some(forbidden(transaction));
        }
        if self.asked.len() >= MAX_KNOWN {
            self.asked.pop_front();
        }
        self.asked.push_back((transaction, relay, peer));
        None
    }

    /// A datagram came.
    pub(crate) fn on_receive(&mut self, datagram: &[u8]) {
        let Some((kind, transaction)) = stun_header(datagram) else { return };
        if !matches!(kind, PERMISSION_SUCCESS | PERMISSION_ERROR) {
            return;
        }
        let Some(at) = self.asked.iter().position(|(asked, ..)| *asked == transaction) else {
            return;
        };
        let Some((_, relay, peer)) = self.asked.remove(at) else { return };
        let code = attribute(datagram, ERROR_CODE).and_then(error_code).map(|(code, _)| code);
        if kind == PERMISSION_ERROR && code == Some(FORBIDDEN) && self.forbidden.len() < MAX_KNOWN {
            self.forbidden.push((relay, peer));
        }
    }
}

/// The peer that a request names, if it is one alone.
fn peer(datagram: &[u8]) -> Option<IpAddr> {
    let length = attribute(datagram, XOR_PEER_ADDRESS)?.len() + 4;
    // Any other attribute of the kind would follow the first, for the stack writes them so.
    let after = 20 + length;
    if datagram.get(after..after + 2) == Some(&XOR_PEER_ADDRESS.to_be_bytes()[..]) {
        return None;
    }
    xor_address(datagram, XOR_PEER_ADDRESS).map(|peer| peer.ip())
}

/// The answer of a relay that forbids.
fn forbidden(transaction: [u8; 12]) -> Vec<u8> {
    let mut message = PERMISSION_ERROR.to_be_bytes().to_vec();
    message.extend([0, 8, 0x21, 0x12, 0xa4, 0x42]);
    message.extend(transaction);
    message.extend(ERROR_CODE.to_be_bytes());
    message.extend([0, 4, 0, 0, 4, 3]);
    message
}

/// RFC 8656 §17, §18.
const CREATE_PERMISSION: u16 = 0x0008;
const PERMISSION_SUCCESS: u16 = 0x0108;
const PERMISSION_ERROR: u16 = 0x0118;
const XOR_PEER_ADDRESS: u16 = 0x0012;
const ERROR_CODE: u16 = 0x0009;
const FORBIDDEN: u16 = 403;
const MAX_KNOWN: usize = 128;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(transaction: u8, peers: &[[u8; 4]]) -> Vec<u8> {
        let mut message = CREATE_PERMISSION.to_be_bytes().to_vec();
        message.extend(((peers.len() * 12) as u16).to_be_bytes());
        message.extend([0x21, 0x12, 0xa4, 0x42]);
        message.extend([transaction; 12]);
        for peer in peers {
            message.extend(XOR_PEER_ADDRESS.to_be_bytes());
            message.extend([0, 8, 0, 1, 0, 0]);
            message.extend(peer.iter().zip([0x21, 0x12, 0xa4, 0x42]).map(|(a, b)| a ^ b));
        }
        message
    }

    #[test]
    fn what_a_relay_forbids_is_asked_for_once() {
        let relay: SocketAddr = "198.51.100.1:3478".parse().unwrap();
        let (private, public) = ([10, 0, 0, 1], [203, 0, 113, 1]);
        let mut permissions = Permissions::default();
        assert_eq!(permissions.on_send(relay, &request(1, &[private])), None);
        assert_eq!(permissions.on_send(relay, &request(2, &[public])), None);
        permissions.on_receive(&forbidden([1; 12]));
        let answer = permissions.on_send(relay, &request(3, &[private])).unwrap();
        assert_eq!(stun_header(&answer), Some((PERMISSION_ERROR, [3; 12])));
        assert_eq!(error_code(attribute(&answer, ERROR_CODE).unwrap()).unwrap().0, 403);
        // Others, another relay, and refreshes of several go out.
        assert_eq!(permissions.on_send(relay, &request(4, &[public])), None);
        let other: SocketAddr = "198.51.100.2:3478".parse().unwrap();
        assert_eq!(permissions.on_send(other, &request(5, &[private])), None);
        assert_eq!(permissions.on_send(relay, &request(6, &[private, public])), None);
    }

    #[test]
    fn a_stale_nonce_forbids_nothing() {
        let relay: SocketAddr = "198.51.100.1:3478".parse().unwrap();
        let mut permissions = Permissions::default();
        assert_eq!(permissions.on_send(relay, &request(1, &[[10, 0, 0, 1]])), None);
        let mut stale = forbidden([1; 12]);
        let last = stale.len() - 1;
        stale[last] = 38;
        permissions.on_receive(&stale);
        assert_eq!(permissions.on_send(relay, &request(2, &[[10, 0, 0, 1]])), None);
        // Nobody asked.
        permissions.on_receive(&forbidden([9; 12]));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let relay = SocketAddr::from(([192, 0, 2, 1], 1));
            let mut permissions = Permissions::default();
            permissions.on_send(relay, &request(7, &[[10, 0, 0, 1]]));
            let mut message = request(7, &[]);
            message.extend(bytes);
            permissions.on_send(relay, &message);
            message[..2].copy_from_slice(&PERMISSION_ERROR.to_be_bytes());
            permissions.on_receive(&message);
        }
    }
}
