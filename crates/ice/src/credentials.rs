//! ICE credentials (RFC 8839 §5.4).

use std::fmt;

use crate::error::IceError;
use crate::random::Random;

/// User name fragment and password of one side in one generation. `Debug` does not show the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    ufrag: String,
    password: String,
}

impl Credentials {
    /// Checks both against RFC 8839 §5.4.
    ///
    /// # Errors
    ///
    /// [`IceError::InvalidCredentials`] says which is wrong.
    pub fn new(ufrag: &str, password: &str) -> Result<Self, IceError> {
        let in_alphabet =
            |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/');
        // Some implementations use '-' and '_' in their passwords; the password is never parsed.
        if !(MIN_UFRAG_CHARS..=MAX_CHARS).contains(&ufrag.len()) || !in_alphabet(ufrag) {
            return Err(IceError::InvalidCredentials("user name fragment"));
        }
        if !(MIN_PASSWORD_CHARS..=MAX_CHARS).contains(&password.len())
            || !password.bytes().all(|b| b.is_ascii_graphic())
        {
            return Err(IceError::InvalidCredentials("password"));
        }
        Ok(Self { ufrag: ufrag.to_owned(), password: password.to_owned() })
    }

    pub(crate) fn generate(random: &mut Random) -> Self {
        Self { ufrag: random.ice_chars(UFRAG_CHARS), password: random.ice_chars(PASSWORD_CHARS) }
    }

    /// The user name fragment.
    #[must_use]
    pub fn ufrag(&self) -> &str {
        &self.ufrag
    }

    /// The password.
    #[must_use]
    pub fn password(&self) -> &str {
        &self.password
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("ufrag", &self.ufrag).finish_non_exhaustive()
    }
}

/// RFC 8839 §5.4: 4 to 256 and 22 to 256 characters.
const MIN_UFRAG_CHARS: usize = 4;
const MIN_PASSWORD_CHARS: usize = 22;
const MAX_CHARS: usize = 256;
/// RFC 8445 §5.3 asks for 24 bits at least; 48 also tell the generations of a long call apart.
const UFRAG_CHARS: usize = 8;
/// RFC 8445 §5.3 asks for 128 bits at least; these are 144.
const PASSWORD_CHARS: usize = 24;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn lengths_and_characters_are_checked() {
        let password = "a".repeat(22);
        Credentials::new("abcd", &password).unwrap();
        Credentials::new(&"a+/9".repeat(64), &"p".repeat(256)).unwrap();
        for (ufrag, password) in [
            ("abc", password.as_str()),
            ("ab:d", &password),
            ("ab d", &password),
            (&"a".repeat(257), &password),
            ("abcd", &"a".repeat(21)),
            ("abcd", &"a".repeat(257)),
            ("abcd", "a space is not allowed here"),
        ] {
            assert!(Credentials::new(ufrag, password).is_err(), "{ufrag} {password}");
        }
    }

    #[test]
    fn generated_credentials_are_valid_and_debug_hides_the_password() {
        let mut counter = 0_u8;
        let mut random = Random(Box::new(move |bytes: &mut [u8]| {
            bytes.iter_mut().for_each(|byte| {
                counter = counter.wrapping_add(37);
                *byte = counter;
            });
        }));
        let made = Credentials::generate(&mut random);
        assert_eq!(Credentials::new(made.ufrag(), made.password()), Ok(made.clone()));
        assert!(!format!("{made:?}").contains(made.password()));
    }
}
