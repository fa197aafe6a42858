//! The entry point of the fuzz target `relay_core`: messages of clients, authentic ones among them, datagrams of
//! peers and time through the state machine. Compiled for `cargo fuzz` and for tests only.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use turn_types::message::{ALLOCATE, CHANNEL_BIND, CREATE_PERMISSION, REFRESH};
use turn_types::stun::attribute::{AttributeType, Nonce, RawAttribute, Realm, Username};
use turn_types::stun::message::{
    IntegrityAlgorithm, LongTermKeyCredentials, Message, MessageWriteVec,
};
use turn_types::stun::prelude::{MessageWrite, MessageWriteExt};

use super::RelayLimits;
use super::auth::{Auth, REALM};
use super::core::{Action, Client, ClientId, Core, Now};
use super::policy::PeerPolicy;
use super::wire;
use crate::ice;

const RELAY: [u8; 4] = [192, 0, 2, 100];
/// Steps of one input; what is longer only takes time.
const MAX_STEPS: usize = 512;

/// Takes an input of steps: what to do, the length of the bytes that follow (16 bits, big-endian), those.
///
/// # Panics
///
/// If an answer could not be parsed, or the state exceeds its limits.
pub fn relay_core(mut input: &[u8]) {
    let mut now = Now { instant: Instant::now(), wall: Duration::from_secs(1_767_222_000) };
    let Ok(auth) = Auth::new() else { return };
    let user = format!("{}:ada", now.wall.as_secs() + 3600);
    let password = ice::password(auth.secret(), &user);
    let limits = RelayLimits { allocations: 4, allocations_per_user: 3, ..RelayLimits::default() };
    let policy = PeerPolicy { allow_private: false, own: vec![RELAY.into()] };
    let mut core: Core<u16> = Core::new(now.instant, auth, limits, policy, vec![RELAY.into()]);
    let mut next_port = 50_000;
    for _ in 0..MAX_STEPS {
        let Some(([action, high, low], rest)) = input.split_first_chunk() else { return };
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (bytes, rest) = rest.split_at(length);
        input = rest;
        let address = SocketAddr::from(([198, 51, 100, 1 + (action >> 6)], 4000));
        let id = match action & 0x20 {
            0 => ClientId::Datagrams(address),
            _ => ClientId::Stream(u64::from(action >> 6)),
        };
        let client = Client { id, address };
        let message = match action & 7 {
            // As it is; on a stream what is cut out of it.
            0 => match (id, wire::frame_bytes(bytes)) {
                (ClientId::Stream(_), Ok(Some(whole))) => Some(bytes[..whole].to_vec()),
                (ClientId::Stream(_), _) => None,
                _ => Some(bytes.to_vec()),
            },
            1 | 2 => request(&core, now, client, bytes, (&user, &password)),
            3 => {
                let time = Duration::from_secs(u64::from(bytes.first().copied().unwrap_or(1)));
                now = Now { instant: now.instant + time, wall: now.wall + time };
                core.tick(now.instant);
                None
            }
            4 => {
                let port = 50_000 + u16::from(action >> 4 & 1) + 1;
                let peer = SocketAddr::from(([1, 1, 1, 1], 4000));
                let action = core.peer_sent(now, (RELAY, port).into(), peer, bytes);
                check(&action, bytes);
                None
            }
            5 => {
                core.close(id);
                None
            }
            _ => Some(bytes.to_vec()),
        };
        if let Some(message) = message {
            let action = core.client_sent(now, client, &message, &mut |_| {
                next_port += 1;
                Some((next_port, SocketAddr::from((RELAY, next_port))))
            });
            check(&action, &message);
        }
        assert!(core.allocation_count() <= 4);
    }
}

/// A request as the holder of the credentials writes it: method, then attributes as they are on the wire.
fn request(
    core: &Core<u16>,
    now: Now,
    client: Client,
    bytes: &[u8],
    (user, password): (&str, &str),
) -> Option<Vec<u8>> {
    let (method, mut attributes) = bytes.split_first()?;
    let method = [ALLOCATE, REFRESH, CREATE_PERMISSION, CHANNEL_BIND][usize::from(method & 3)];
    let mut message = Message::builder_request(method, MessageWriteVec::new());
    while let Some(([t1, t2, l1, l2], rest)) = attributes.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes([*l1, *l2])).min(rest.len());
        let kind = AttributeType::new(u16::from_be_bytes([*t1, *t2]));
        // Those that sign come last, and the writer refuses them here.
        if ![0x0008, 0x001c, 0x8028].contains(&kind.value()) {
            message.add_attribute(&RawAttribute::new(kind, &rest[..length])).ok()?;
        }
        attributes = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    message.add_attribute(&Username::new(user).ok()?).ok()?;
    message.add_attribute(&Realm::new(REALM).ok()?).ok()?;
    message.add_attribute(&Nonce::new(&core.auth.nonce(client.address, now.wall)).ok()?).ok()?;
    let key = LongTermKeyCredentials::new(user.to_owned(), password.to_owned(), REALM.to_owned());
    message.add_message_integrity(&key.into(), IntegrityAlgorithm::Sha1).ok()?;
    Some(message.finish())
}

/// What is sent is well-formed and made of what came.
fn check(action: &Action<u16>, message: &[u8]) {
    match action {
        Action::Nothing => {}
        Action::Answer(answer) => assert!(Message::from_bytes(answer).is_ok()),
        Action::ToPeer { data, .. } => assert!(message.get(data.clone()).is_some()),
        Action::ToClient { message: told, .. } => {
            assert!(told.len() <= message.len() + 64, "no more than came");
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    /// Every seed, and with it everything that ever failed.
    #[test]
    fn the_seeds_of_the_fuzz_target_are_survived() {
        let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/seeds/relay_core");
        for file in std::fs::read_dir(seeds).unwrap() {
            super::relay_core(&std::fs::read(file.unwrap().path()).unwrap());
        }
    }
}
