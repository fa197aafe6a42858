//! What peers tell each other to prove who they are; beside a description, or alone.

use serde::{Deserialize, Serialize};

/// 32 bytes as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Bytes32(pub [u8; 32]);

/// Why a text is not 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not 64 hexadecimal digits")]
pub struct Bytes32Error;

/// One peer's part of the proof: the same first four fields in every message of a connection, and the
/// confirmation as soon as the remote peer's part is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ProofMessage {
    /// Whether the sender is a page that a server delivered.
    #[serde(default, skip_serializing_if = "is_false")]
    pub page: bool,
    /// The share for an exchange with the code's secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Bytes32>,
    /// For an exchange with a key that an earlier proof left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyShare>,
    /// Of a sender without a secret: the commitment to a nonce.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commitment: Option<Bytes32>,
    /// The confirmation of the exchange; of a sender without a secret the nonce.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<Bytes32>,
    /// The sender lacks the confirmation and asks for it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub again: bool,
    /// The sender ends the call for want of a proof.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<ProofFailure>,
}

/// A key that both may still have, and the share for an exchange with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyShare {
    /// Names the key.
    pub id: Bytes32,
    /// The share.
    pub share: Bytes32,
}

/// Why there is no proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProofFailure {
    /// The confirmation was wrong: another secret, or somebody in between.
    Mismatch,
    /// One of the two has a secret and the other has none.
    NoSecret,
    /// The code was guessed at too often.
    Spent,
    /// The confirmation did not come.
    Silence,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

impl TryFrom<String> for Bytes32 {
    type Error = Bytes32Error;

    fn try_from(text: String) -> Result<Self, Bytes32Error> {
        let digits = text.as_bytes();
        let mut bytes = [0; 32];
        if digits.len() != 64 {
            return Err(Bytes32Error);
        }
        let digit = |d: u8| match d {
            b'0'..=b'9' => Ok(d - b'0'),
            b'a'..=b'f' => Ok(d - b'a' + 10),
            _ => Err(Bytes32Error),
        };
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

impl From<Bytes32> for String {
    fn from(bytes: Bytes32) -> String {
        bytes.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl std::fmt::Debug for Bytes32 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from(*self)[..8])
    }
}
