//! What people type into the code field: a code that formats itself, or a whole link.
//! Pure functions.

use visavis_engine::CallCode;

/// Letters of a code.
const LETTERS: usize = 12;

/// The server and code of a link `[http(s)://]HOST[:PORT]/r/ROOM#SECRET`. Without a scheme, this computer
/// and bare addresses are taken as http, everything else as https.
pub(crate) fn parse_link(text: &str) -> Option<(String, CallCode)> {
    let text = text.trim();
    let at = text.rfind("/r/")?;
    let code = text.parse().ok()?;
    let base = &text[..at];
    let lower = base.to_ascii_lowercase();
    let host = lower.strip_prefix("https://").or_else(|| lower.strip_prefix("http://"));
    match host {
        Some(host) if is_host(host) => Some((base.to_owned(), code)),
        None if is_host(&lower) && !lower.contains("://") => {
            let local = lower.starts_with("localhost")
                || lower.starts_with('[')
                || lower.chars().all(|c| c.is_ascii_digit() || c == '.' || c == ':');
            Some((format!("{}{base}", if local { "http://" } else { "https://" }), code))
        }
        _ => None,
    }
}

fn is_host(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c == '/' || c == '@')
}

/// The field's text after an edit, and where the caret goes (both counted in characters).
/// Codes become lower case and get their dashes; what looks like a link stays as it is.
pub(crate) fn format(text: &str, caret: usize) -> (String, usize) {
    if text.contains(['/', ':', '.']) {
        // A link typed by hand was formatted as a code until its colon came.
        return match text.strip_prefix("htt-p") {
            Some(rest) => (format!("http{rest}"), caret.saturating_sub(1)),
            None => (text.to_owned(), caret),
        };
    }
    let is_letter = |c: &char| c.is_ascii_alphabetic();
    let before = text.chars().take(caret).filter(is_letter).count().min(LETTERS);
    let mut out = String::with_capacity(LETTERS + 3);
    for (i, c) in text.chars().filter(is_letter).take(LETTERS).enumerate() {
        if i % 3 == 0 && i > 0 {
            out.push('-');
        }
        out.push(c.to_ascii_lowercase());
    }
    let dashes = before.saturating_sub(1) / 3;
    (out, before + dashes)
}

/// What the field holds, read as far as it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Nothing yet.
    Empty,
    /// Not a whole code, and what is missing, as a sentence.
    Incomplete(String),
    /// A code, and its server if it was a link.
    Code(CallCode, Option<String>),
}

/// Reads the field.
pub(crate) fn read(text: &str) -> Entry {
    let text = text.trim();
    if text.is_empty() {
        return Entry::Empty;
    }
    if let Some((server, code)) = parse_link(text) {
        return Entry::Code(code, Some(server));
    }
    if text.contains(['/', ':', '.']) {
        return Entry::Incomplete(
            "This is not the whole link of a call. It ends such as /r/abc-def#ghj-kmn.".into(),
        );
    }
    if let Ok(code) = text.parse() {
        return Entry::Code(code, None);
    }
    let missing = LETTERS.saturating_sub(text.chars().filter(char::is_ascii_alphabetic).count());
    let letters = if missing == 1 { "letter" } else { "letters" };
    Entry::Incomplete(format!("A code has twelve letters; {missing} {letters} to go."))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn type_in(letters: &str) -> String {
        letters.chars().fold(String::new(), |mut text, c| {
            text.push(c);
            format(&text, text.chars().count()).0
        })
    }

    #[test]
    fn code_gets_its_dashes_while_it_is_typed() {
        assert_eq!(type_in("KFWMTRZPQDXYZab"), "kfw-mtr-zpq-dxy");
        assert_eq!(format("kfwm", 4), ("kfw-m".into(), 5));
        assert_eq!(format("kfw-", 4), ("kfw".into(), 3));
        assert_eq!(format("kfw mtr zpq dxy", 15), ("kfw-mtr-zpq-dxy".into(), 15));
        assert_eq!(format("kfw–mtr—zpq−dxy", 15), ("kfw-mtr-zpq-dxy".into(), 15));
    }

    #[test]
    fn caret_stays_behind_its_letter() {
        // An "x" was typed after the first letter of kfw-mtr-z.
        assert_eq!(format("kxfw-mtr-z", 2), ("kxf-wmt-rz".into(), 2));
        // The dash was deleted from behind: the letters stay.
        assert_eq!(format("kfwmtr-z", 3), ("kfw-mtr-z".into(), 3));
    }

    #[test]
    fn whole_link_is_taken() {
        let link = "https://meet.example/r/abc-def?x=1#ghj-kmn";
        assert_eq!(format(link, 3), (link.into(), 3));
        for (text, server) in [
            (link, "https://meet.example"),
            ("meet.example/r/abcdef#ghjkmn", "https://meet.example"),
            ("192.168.1.7:8080/r/abc-def#ghj-kmn", "http://192.168.1.7:8080"),
            ("localhost:8080/r/abc-def-ghj-kmn", "http://localhost:8080"),
        ] {
            let code = "abc-def-ghj-kmn".parse().unwrap();
            assert_eq!(read(text), Entry::Code(code, Some(server.into())), "{text}");
        }
        for text in [
            "ftp://x/r/abc-def#ghj-kmn",
            "https:///r/abc-def#ghj-kmn",
            "http://a b/r/abcdef",
            "a/r/abc#d",
        ] {
            assert!(matches!(read(text), Entry::Incomplete(_)), "{text}");
        }
    }

    #[test]
    fn link_typed_by_hand_loses_the_dash_it_got_as_a_code() {
        let text = type_in("http://localhost:8080/r/abc-def#ghj-kmn");
        let Entry::Code(code, Some(server)) = read(&text) else { panic!("{text}") };
        assert_eq!(
            (code.to_string().as_str(), server.as_str()),
            ("abc-def-ghj-kmn", "http://localhost:8080")
        );
    }

    #[test]
    fn missing_letters_are_counted_and_the_first_half_is_a_code() {
        assert_eq!(read("  "), Entry::Empty);
        assert_eq!(
            read("kfw-mtr-zpq-dx"),
            Entry::Incomplete("A code has twelve letters; 1 letter to go.".into())
        );
        assert!(matches!(read("kfw-mtr"), Entry::Code(code, None) if code.secret.is_none()));
    }
}
