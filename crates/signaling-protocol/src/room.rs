//! Room codes: three groups of letters, 3-4-3.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Letters of fresh codes: no `i`, `l`, `o`, which look like others. 23^10 codes, 45 bits.
const ALPHABET: &[u8; 23] = b"abcdefghjkmnpqrstuvwxyz";
const LETTERS: usize = 10;

/// The code that two people share: ten letters, written `abc-defg-hij`.
///
/// Parsing ignores case, dashes and white space, and takes a whole link (`…/r/abc-defg-hij`).
/// `Debug` hides the code, for it is all one needs to enter the room.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RoomCode([u8; LETTERS]);

/// Why a text is not a room code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a room code is ten letters, such as abc-defg-hij")]
pub struct RoomCodeError;

impl RoomCode {
    /// A fresh code, each letter uniform over the alphabet.
    ///
    /// Panics only if the operating system has no random source.
    pub fn random() -> Self {
        let mut letters = [0u8; LETTERS];
        let mut filled = 0;
        while filled < LETTERS {
            let mut bytes = [0u8; 32];
            getrandom::fill(&mut bytes).expect("the operating system has a random source");
            // Rejection keeps the distribution uniform: 253 is the largest multiple of 23 in a byte.
            for byte in bytes.into_iter().filter(|b| *b < 253) {
                if filled < LETTERS {
                    letters[filled] = ALPHABET[usize::from(byte) % ALPHABET.len()];
                    filled += 1;
                }
            }
        }
        Self(letters)
    }
}

impl FromStr for RoomCode {
    type Err = RoomCodeError;

    fn from_str(text: &str) -> Result<Self, RoomCodeError> {
        let text = match text.rfind("/r/") {
            Some(at) => text[at + 3..].split(['?', '#', '/']).next().unwrap_or(""),
            None => text,
        };
        let mut letters = [0u8; LETTERS];
        let mut filled = 0;
        for c in text.chars().filter(|c| *c != '-' && !c.is_whitespace()) {
            if filled == LETTERS || !c.is_ascii_alphabetic() {
                return Err(RoomCodeError);
            }
            letters[filled] = c.to_ascii_lowercase() as u8;
            filled += 1;
        }
        if filled == LETTERS { Ok(Self(letters)) } else { Err(RoomCodeError) }
    }
}

impl fmt::Display for RoomCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, letter) in self.0.iter().enumerate() {
            if i == 3 || i == 7 {
                f.write_str("-")?;
            }
            write!(f, "{}", char::from(*letter))?;
        }
        Ok(())
    }
}

impl fmt::Debug for RoomCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RoomCode(…)")
    }
}

impl TryFrom<String> for RoomCode {
    type Error = RoomCodeError;

    fn try_from(text: String) -> Result<Self, RoomCodeError> {
        text.parse()
    }
}

impl From<RoomCode> for String {
    fn from(code: RoomCode) -> String {
        code.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_read_in_every_form_that_people_write_it() {
        for text in [
            "abc-defg-hij",
            "ABCDEFGHIJ",
            " abc defg hij ",
            "https://example.org/r/abc-defg-hij",
            "http://127.0.0.1:8080/r/AbcDefgHij?x=1#y",
        ] {
            let code: RoomCode = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(code.to_string(), "abc-defg-hij");
        }
        for text in ["", "abc-defg-hi", "abc-defg-hijk", "abc-defg-hi1", "äbc-defg-hij", "x/r/"] {
            assert_eq!(text.parse::<RoomCode>(), Err(RoomCodeError), "{text}");
        }
    }

    #[test]
    fn fresh_codes_differ_and_have_no_look_alikes() {
        let codes: std::collections::HashSet<_> =
            (0..1000).map(|_| RoomCode::random().to_string()).collect();
        assert_eq!(codes.len(), 1000);
        assert!(codes.iter().all(|c| !c.contains(['i', 'l', 'o']) && c.len() == 12));
    }
}
