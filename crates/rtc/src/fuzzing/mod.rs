//! Entry points of the fuzz targets (`fuzz/`), for parsers that nothing outside of this crate calls:
//! each takes arbitrary bytes and must return. Compiled for `cargo fuzz` and for tests only.

mod datagrams;
mod media;
mod protocols;
mod text;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rtc::shared::{TaggedBytesMut, TransportContext, TransportProtocol};

pub use datagrams::{data_channel, dtls, dtls_guarded, ice_agent, sctp, turn_client};
pub use media::{media_path, parity};
pub use protocols::{mdns, rtcp, rtp, srtp, stream_framing, stun};
pub use text::{candidate, session_description};

/// One step of a fuzz input that is a sequence of steps: a byte that says what to do, the length of
/// the bytes that follow (16 bits, big-endian), and those.
#[derive(Debug, Clone, Copy)]
struct Step<'a> {
    action: u8,
    bytes: &'a [u8],
}

/// The steps of an input. What is cut short at its end is taken as it is.
fn steps(mut input: &[u8]) -> impl Iterator<Item = Step<'_>> {
    std::iter::from_fn(move || {
        let ([action, high, low], rest) = input.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (bytes, rest) = rest.split_at(length.min(rest.len()));
        input = rest;
        Some(Step { action: *action, bytes })
    })
    // An input of empty steps says nothing and takes long.
    .take(MAX_STEPS)
}

const MAX_STEPS: usize = 512;

/// Our address and two others.
const LOCAL: ([u8; 4], u16) = ([192, 0, 2, 1], 1000);
const REMOTE: ([u8; 4], u16) = ([192, 0, 2, 2], 2000);
const STRANGER: ([u8; 4], u16) = ([192, 0, 2, 3], 3000);

/// A datagram that came from there.
fn received(now: Instant, from: impl Into<SocketAddr>, bytes: &[u8]) -> TaggedBytesMut {
    let transport = TransportContext {
        local_addr: LOCAL.into(),
        peer_addr: from.into(),
        transport_protocol: TransportProtocol::UDP,
        ecn: None,
    };
    TaggedBytesMut { now, transport, message: bytes.into() }
}

/// As long as a step says: its first byte in units of `unit`.
fn pause(step: Step<'_>, unit: Duration) -> Duration {
    unit * u32::from(step.bytes.first().copied().unwrap_or(1))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Every seed, and with it everything that ever failed, goes through its target.
    #[test]
    fn the_seeds_of_the_fuzz_targets_are_survived() {
        type Target = (&'static str, fn(&[u8]));
        let targets: [Target; 16] = [
            ("candidate", candidate),
            ("data_channel", data_channel),
            ("dtls", dtls),
            ("dtls_guarded", dtls_guarded),
            ("ice_agent", ice_agent),
            ("mdns", mdns),
            ("media_path", media_path),
            ("parity", parity),
            ("rtcp", rtcp),
            ("rtp", rtp),
            ("sctp", sctp),
            ("session_description", session_description),
            ("srtp", srtp),
            ("stream_framing", stream_framing),
            ("stun", stun),
            ("turn_client", turn_client),
        ];
        for (name, target) in targets {
            let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds");
            // The same conversations.
            let name = name.trim_end_matches("_guarded");
            let files = std::fs::read_dir(std::path::Path::new(seeds).join(name)).unwrap();
            for file in files {
                target(&std::fs::read(file.unwrap().path()).unwrap());
            }
        }
    }
}
