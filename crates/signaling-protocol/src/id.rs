//! Opaque identifiers, parsed at the edge.

use serde::{Deserialize, Serialize};

/// Longest identifier accepted from the wire, bytes.
const MAX_ID_BYTES: usize = 64;

/// Why a string is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an identifier is 1 to {MAX_ID_BYTES} ASCII letters, digits, dashes or underscores")]
pub struct IdError;

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// A fresh one from the system's random source.
            pub fn random() -> Self {
                Self(random_hex::<$bytes>())
            }

            /// The identifier as it stands on the wire.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                let well_formed = (1..=MAX_ID_BYTES).contains(&text.len())
                    && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
                if well_formed { Ok(Self(text)) } else { Err(IdError) }
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }
    };
}

id_type!(
    /// A seat in a room, chosen by the server; stays the same across a resume.
    PeerId, 8
);
id_type!(
    /// One life of a peer connection, chosen by the client. A peer that returns with the same
    /// session still holds its call; one that returns with another (a reloaded page) needs a new one.
    SessionId, 16
);
id_type!(
    /// The secret by which a client takes its own seat back.
    ResumeToken, 24
);

impl SessionId {
    /// From random bytes of the caller's, for sessions that must be repeatable.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(bytes[..16].iter().map(|b| format!("{b:02x}")).collect())
    }
}

impl std::fmt::Debug for PeerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PeerId({})", self.0)
    }
}

impl std::fmt::Debug for SessionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SessionId({})", self.0)
    }
}

/// Never shows the secret.
impl std::fmt::Debug for ResumeToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ResumeToken(…)")
    }
}

/// `N` random bytes as lower-case hexadecimal.
///
/// Panics only if the operating system has no random source, without which no call can be
/// encrypted either.
fn random_hex<const N: usize>() -> String {
    let mut bytes = [0u8; N];
    getrandom::fill(&mut bytes).expect("the operating system has a random source");
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
