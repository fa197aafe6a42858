//! Codes: the room's name, which the server knows, and a secret, which it never does.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

/// Letters of fresh codes: no `i`, `l`, `o`, which look like others. 23^6 for each half, 27 bits.
const ALPHABET: &[u8; 23] = b"abcdefghjkmnpqrstuvwxyz";
/// Letters of each half.
const LETTERS: usize = 6;

type Letters = [u8; LETTERS];

/// The name of a room: six letters, written `abc-def`. All that the server learns of a code.
///
/// `Debug` hides it, for it is all one needs to enter the room.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RoomCode(Letters);

/// The secret half of a code: six letters. Never sent to the server and never logged; `Debug` hides it,
/// and it is overwritten when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Letters);

/// What two people share: twelve letters, written `abc-def-ghj-kmn`, or the room's name alone.
///
/// Parsing ignores case, white space and dashes of every kind, and takes a whole link
/// (`…/r/abc-def#ghj-kmn`).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CallCode {
    /// The room.
    pub room: RoomCode,
    /// `None` for the room's name alone: a call without proof.
    pub secret: Option<Secret>,
}

/// Why a text is not a code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a code is twelve letters, such as abc-def-ghj-kmn")]
pub struct CallCodeError;

/// Why a text is not the name of a room.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the name of a room is six letters, such as abc-def")]
pub struct RoomCodeError;

impl RoomCode {
    /// A fresh name, each letter uniform over the alphabet.
    ///
    /// Panics only if the operating system has no random source.
    pub fn random() -> Self {
        Self(random_letters())
    }
}

impl Secret {
    /// Six lower-case letters, for the proof.
    pub fn letters(&self) -> &str {
        // Made of ASCII letters only.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// As people write it: `ghj-kmn`.
    pub fn grouped(&self) -> String {
        grouped(&self.0)
    }
}

impl CallCode {
    /// A fresh code with a secret.
    ///
    /// Panics only if the operating system has no random source.
    pub fn random() -> Self {
        Self { room: RoomCode::random(), secret: Some(Secret(random_letters())) }
    }

    /// What follows the server's address in a link: the secret in the fragment, which browsers do
    /// not send.
    pub fn link_path(&self) -> String {
        let fragment = self.secret.as_ref().map(|secret| format!("#{}", secret.grouped()));
        format!("/r/{}{}", self.room, fragment.unwrap_or_default())
    }
}

impl FromStr for RoomCode {
    type Err = RoomCodeError;

    fn from_str(text: &str) -> Result<Self, RoomCodeError> {
        match text.parse() {
            Ok(CallCode { room, secret: None }) => Ok(room),
            _ => Err(RoomCodeError),
        }
    }
}

impl FromStr for CallCode {
    type Err = CallCodeError;

    fn from_str(text: &str) -> Result<Self, CallCodeError> {
        let mut letters = match text.rfind("/r/") {
            Some(at) => link_letters(&text[at + 3..]),
            None => {
                read_letters(text.trim_matches(|c: char| c.is_whitespace() || is_punctuation(c)))
            }
        }
        .ok_or(CallCodeError)?;
        let half = |letters: &[u8]| Letters::try_from(letters).ok();
        let code = match letters.len() {
            LETTERS => half(&letters).map(|room| Self { room: RoomCode(room), secret: None }),
            12 => half(&letters[..LETTERS])
                .zip(half(&letters[LETTERS..]))
                .map(|(room, secret)| Self { room: RoomCode(room), secret: Some(Secret(secret)) }),
            _ => None,
        };
        letters.zeroize();
        code.ok_or(CallCodeError)
    }
}

/// The letters behind `/r/`: the room's, then those of the fragment.
fn link_letters(tail: &str) -> Option<Vec<u8>> {
    let tail = percent_decoded(tail);
    let tail = tail.split_whitespace().next().unwrap_or("");
    let tail = tail.trim_end_matches(is_punctuation);
    let (path, fragment) = tail.split_once('#').unwrap_or((tail, ""));
    let path = path.split(['?', '/']).next().unwrap_or("");
    let mut letters = read_letters(path)?;
    if !matches!(letters.len(), LETTERS | 12) {
        return None;
    }
    letters.extend(read_letters(fragment)?);
    Some(letters)
}

/// All letters of a text of letters and separators.
fn read_letters(text: &str) -> Option<Vec<u8>> {
    let mut letters = Vec::with_capacity(2 * LETTERS);
    for c in text.chars().filter(|c| !is_separator(*c)) {
        if !c.is_ascii_alphabetic() || letters.len() == 2 * LETTERS {
            return None;
        }
        letters.push(c.to_ascii_lowercase() as u8);
    }
    Some(letters)
}

/// White space, what keyboards and word processors make of a dash, characters without a width, and the
/// mark between the halves of a link's end.
fn is_separator(c: char) -> bool {
    c.is_whitespace()
        || matches!(
            c,
            '-' | '#' | '_' | '\u{ad}' | '\u{2010}'..='\u{2015}' | '\u{2043}' | '\u{2212}' | '\u{fe58}'
                | '\u{fe63}' | '\u{ff0d}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}'
        )
}

/// What sentences and quotations put around a code.
fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation() || matches!(c, '«' | '»' | '‘'..='‟' | '…' | '。' | '、')
}

/// RFC 3986 §2.1; what is no escape stays as it is.
fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let digit = |i: usize| bytes.get(i).and_then(|b| char::from(*b).to_digit(16));
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(16 * high + low).unwrap_or_default());
                at += 3;
            }
            _ => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn random_letters() -> Letters {
    let mut letters = [0; LETTERS];
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
    letters
}

fn grouped(letters: &Letters) -> String {
    let letters = letters.map(char::from);
    letters[..3].iter().chain(['-'].iter()).chain(&letters[3..]).collect()
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Display for RoomCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&grouped(&self.0))
    }
}

/// With the secret, for the two people.
impl fmt::Display for CallCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.room)?;
        match &self.secret {
            Some(secret) => write!(f, "-{}", secret.grouped()),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for RoomCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RoomCode(…)")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl fmt::Debug for CallCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallCode(…)")
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

impl TryFrom<String> for CallCode {
    type Error = CallCodeError;

    fn try_from(text: String) -> Result<Self, CallCodeError> {
        text.parse()
    }
}

impl From<CallCode> for String {
    fn from(code: CallCode) -> String {
        code.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Also read by the page's tests.
    const FORMS: &str = include_str!("../fixtures/codes.json");

    #[test]
    fn code_is_read_in_every_form_that_people_write_it() {
        let forms: serde_json::Value = serde_json::from_str(FORMS).unwrap_or_default();
        for (text, code) in forms.as_object().into_iter().flatten() {
            let read = text.parse::<CallCode>().ok().map(|code| code.to_string());
            assert_eq!(read.as_deref(), code.as_str(), "{text:?}");
        }
        assert!(forms.as_object().is_some_and(|forms| forms.len() > 30));
    }

    #[test]
    fn a_whole_code_is_no_name_of_a_room_and_its_secret_is_hidden() {
        assert_eq!("abc-def-ghj-kmn".parse::<RoomCode>(), Err(RoomCodeError));
        let code = CallCode::random();
        let shown = format!("{code:?} {:?} {:?}", code.room, code.secret);
        assert_eq!(shown, "CallCode(…) RoomCode(…) Some(Secret(…))");
        assert_eq!(format!("https://host{}", code.link_path()).parse(), Ok(code));
    }

    #[test]
    fn fresh_codes_differ_and_have_no_look_alikes() {
        let codes: std::collections::HashSet<_> =
            (0..1000).map(|_| CallCode::random().to_string()).collect();
        assert_eq!(codes.len(), 1000);
        assert!(codes.iter().all(|c| !c.contains(['i', 'l', 'o']) && c.len() == 15));
    }
}
