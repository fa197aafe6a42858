//! What is derived from an exchange: confirmations, the key for later ones, emoji.

use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use crate::hash::{first_32, lv_cat, mac, sha512};
use crate::{EMOJI_SHOWN, Party};

/// What both parties have after an exchange with the same password.
pub struct Agreement {
    own_confirmation: [u8; 32],
    remote_confirmation: [u8; 32],
    key: ContinuityKey,
    emoji: [u8; EMOJI_SHOWN],
}

impl Agreement {
    /// From the draft's ISK; `own` and `remote` are `lv_cat(Y, AD)` of each.
    pub(crate) fn new(sid: &[u8], isk: &[u8; 64], own: &[u8], remote: &[u8]) -> Self {
        // Section "Key confirmation" of the draft.
        let mut mac_key = sha512(&[b"CPaceMac", sid, isk]);
        let agreement = Self {
            own_confirmation: mac(&mac_key, own),
            remote_confirmation: mac(&mac_key, remote),
            key: ContinuityKey(first_32(&sha512(&[&lv_cat(&[b"visavis/2 continuity", isk])]))),
            emoji: to_emoji(&sha512(&[&lv_cat(&[b"visavis/2 emoji", isk])])),
        };
        mac_key.zeroize();
        agreement
    }

    /// What shows the remote peer that we have the same key. Giving it away lets the receiver check one
    /// guess at the password.
    pub fn confirmation(&self) -> [u8; 32] {
        self.own_confirmation
    }

    /// Whether the remote peer has the same key.
    pub fn verify(&self, confirmation: &[u8; 32]) -> bool {
        self.remote_confirmation.ct_eq(confirmation).into()
    }

    /// The key with which the same two prove themselves later, without another guess at the code.
    pub fn continuity_key(&self) -> &ContinuityKey {
        &self.key
    }

    /// Numbers of seven emoji, the same on both sides.
    pub fn emoji(&self) -> [u8; EMOJI_SHOWN] {
        self.emoji
    }
}

impl std::fmt::Debug for Agreement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Agreement(…)")
    }
}

/// A secret that two peers keep after a proof by the code. Never shown; overwritten when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct ContinuityKey([u8; 32]);

impl ContinuityKey {
    /// As it was kept.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// For keeping it.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Names the key without telling it: peers with the same one find out so.
    pub fn id(&self) -> [u8; 32] {
        first_32(&sha512(&[&lv_cat(&[b"visavis/2 key id", &self.0])]))
    }
}

impl Drop for ContinuityKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl std::fmt::Debug for ContinuityKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ContinuityKey(…)")
    }
}

/// What a party without a secret says first: it fixes its `nonce` (32 uniform random bytes) without telling
/// it. The nonce is told once the other's commitment is there, so that nobody chooses theirs to suit.
pub fn commitment(sid: &[u8], party: &Party<'_>, nonce: &[u8; 32]) -> [u8; 32] {
    let data = party.associated_data();
    first_32(&sha512(&[&lv_cat(&[b"visavis/2 commitment", sid, &data, nonce])]))
}

/// Numbers of seven emoji for two parties without a secret to compare, the same on both sides.
pub fn compared_emoji(
    sid: &[u8],
    a: (&Party<'_>, &[u8; 32]),
    b: (&Party<'_>, &[u8; 32]),
) -> [u8; EMOJI_SHOWN] {
    let mut halves = [a, b].map(|(party, nonce)| lv_cat(&[&party.associated_data(), nonce]));
    halves.sort();
    let [low, high] = &halves;
    to_emoji(&sha512(&[&lv_cat(&[b"visavis/2 compared emoji", sid, low, high])]))
}

/// The low six bits of each of the first bytes.
fn to_emoji(hash: &[u8; 64]) -> [u8; EMOJI_SHOWN] {
    std::array::from_fn(|i| hash[i] & 0x3f)
}
