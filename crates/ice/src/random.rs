//! Where randomness comes from: the caller.

use std::fmt;

/// A source of random bytes.
///
/// Credentials, the tie-breaker and transaction identifiers come from it, so outside of tests it has to be
/// cryptographically secure (RFC 8489 §5, RFC 8445 §5.3).
pub trait RandomSource: Send {
    /// Fills the whole slice.
    fn fill(&mut self, bytes: &mut [u8]);
}

impl<F: FnMut(&mut [u8]) + Send> RandomSource for F {
    fn fill(&mut self, bytes: &mut [u8]) {
        self(bytes);
    }
}

/// The source with what is drawn from it.
pub(crate) struct Random(pub(crate) Box<dyn RandomSource>);

impl Random {
    pub(crate) fn u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_ne_bytes(bytes)
    }

    /// 96 bits for a STUN transaction (RFC 8489 §5).
    pub(crate) fn transaction(&mut self) -> u128 {
        let mut bytes = [0; 16];
        self.0.fill(&mut bytes[4..]);
        u128::from_be_bytes(bytes)
    }

    /// Random characters of the ICE alphabet (RFC 8839 §5.4), of 6 bits each.
    pub(crate) fn ice_chars(&mut self, count: usize) -> String {
        const ALPHABET: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut bytes = vec![0; count];
        self.0.fill(&mut bytes);
        bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 64)])).collect()
    }
}

impl fmt::Debug for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Random")
    }
}
