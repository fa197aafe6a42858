//! Proof that the remote peer of a call knows the same secret, and that nobody sits in between.
//!
//! The two peers share a short secret that the signaling server never sees. CPace
//! (draft-irtf-cfrg-cpace, X25519 with SHA-512, symmetric setting) makes a strong key of it that is
//! bound to both DTLS certificates; key confirmation shows each that the other has the same key. Who
//! listens to the exchange or answers in somebody's name can try one secret an exchange, no more. Where
//! there is no secret, seven emoji are derived from a commitment scheme for two people to compare.
//!
//! Pure functions: no I/O, no clock, no random source. Random bytes are passed in and must be used for
//! one exchange only. The formats are specified in docs/protocol.md; `fixtures/` has the test vectors,
//! which `signaling-server/web/proof.js` is checked against too.

mod cpace;
mod derive;
mod elligator;
mod emoji;
mod fingerprint;
mod hash;

pub use cpace::{Exchange, Password};
pub use derive::{Agreement, ContinuityKey, commitment, compared_emoji};
pub use emoji::{EMOJI, Emoji};
pub use fingerprint::fingerprints;

/// How many secrets of a room may be tried before its code is spent.
pub const MAX_GUESSES: u8 = 5;

/// Emoji shown: 7 of 64, 42 bits.
pub const EMOJI_SHOWN: usize = 7;

/// One peer of an exchange, as both peers know it.
#[derive(Debug, Clone, Copy)]
pub struct Party<'a> {
    /// Its session in signaling.
    pub session: &'a str,
    /// Whether its program is a page that a server delivered.
    pub is_page: bool,
    /// The certificate fingerprints of its session description, as [`fingerprints`] returns them.
    pub fingerprints: &'a [String],
}

impl Party<'_> {
    /// CPace's associated data (ADa, ADb) of this party.
    pub fn associated_data(&self) -> Vec<u8> {
        let client: &[u8] = if self.is_page { b"page" } else { b"program" };
        let mut parts = vec![self.session.as_bytes(), client];
        parts.extend(self.fingerprints.iter().map(String::as_bytes));
        hash::lv_cat(&parts)
    }
}

/// CPace's `sid`: the room's name and the sessions of both, in the order of their bytes.
pub fn exchange_id(room: &str, a: &str, b: &str) -> Vec<u8> {
    let (low, high) = if a <= b { (a, b) } else { (b, a) };
    hash::lv_cat(&[room.as_bytes(), low.as_bytes(), high.as_bytes()])
}

/// Block number `counter` of a stream of random bytes that begins with `seed`, for owners that have one
/// seed from the operating system and need many values.
pub fn expand_seed(seed: &[u8; 32], counter: u64) -> [u8; 32] {
    hash::first_32(&hash::sha512(&[&hash::lv_cat(&[
        b"visavis/2 random",
        seed,
        &counter.to_be_bytes(),
    ])]))
}
