//! What people type into the code field: a code that formats itself, or a whole link.
//! Pure functions.

use visavis_engine::RoomCode;

/// Letters of a code.
const LETTERS: usize = 10;

/// The server and room of a link `[http(s)://]HOST[:PORT]/r/CODE`. Without a scheme, this computer
/// and bare addresses are taken as http, everything else as https.
pub(crate) fn parse_link(text: &str) -> Option<(String, RoomCode)> {
    let text = text.trim();
    let at = text.rfind("/r/")?;
    let room = text.parse().ok()?;
    let base = &text[..at];
    let lower = base.to_ascii_lowercase();
    let host = lower.strip_prefix("https://").or_else(|| lower.strip_prefix("http://"));
    match host {
        Some(host) if is_host(host) => Some((base.to_owned(), room)),
        None if is_host(&lower) && !lower.contains("://") => {
            let local = lower.starts_with("localhost")
                || lower.starts_with('[')
                || lower.chars().all(|c| c.is_ascii_digit() || c == '.' || c == ':');
            Some((format!("{}{base}", if local { "http://" } else { "https://" }), room))
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
    let mut out = String::with_capacity(LETTERS + 2);
    for (i, c) in text.chars().filter(is_letter).take(LETTERS).enumerate() {
        if i == 3 || i == 7 {
            out.push('-');
        }
        out.push(c.to_ascii_lowercase());
    }
    let dashes = usize::from(before > 3) + usize::from(before > 7);
    (out, before + dashes)
}

/// What the field holds, read as far as it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Nothing yet.
    Empty,
    /// Not a whole code, and what is missing, as a sentence.
    Incomplete(String),
    /// A room, and its server if it was a link.
    Room(RoomCode, Option<String>),
}

/// Reads the field.
pub(crate) fn read(text: &str) -> Entry {
    let text = text.trim();
    if text.is_empty() {
        return Entry::Empty;
    }
    if let Some((server, room)) = parse_link(text) {
        return Entry::Room(room, Some(server));
    }
    if text.contains(['/', ':', '.']) {
        return Entry::Incomplete(
            "This is not a room's link. It ends with /r/ and the code, such as /r/abc-defg-hij."
                .into(),
        );
    }
    if let Ok(room) = text.parse() {
        return Entry::Room(room, None);
    }
    let missing = LETTERS.saturating_sub(text.chars().filter(char::is_ascii_alphabetic).count());
    let letters = if missing == 1 { "letter" } else { "letters" };
    Entry::Incomplete(format!("A room code has ten letters; {missing} {letters} to go."))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn code_gets_its_dashes_while_it_is_typed() {
        let mut text = String::new();
        for c in "KFWMTRZPQDxyz".chars() {
            text.push(c);
            text = format(&text, text.chars().count()).0;
        }
        assert_eq!(text, "kfw-mtrz-pqd");
        assert_eq!(format("kfwm", 4), ("kfw-m".into(), 5));
        assert_eq!(format("kfw-", 4), ("kfw".into(), 3));
        assert_eq!(format("kfw mtrz pqd", 12), ("kfw-mtrz-pqd".into(), 12));
    }

    #[test]
    fn caret_stays_behind_its_letter() {
        // An "x" was typed after the first letter of kfw-mtrz.
        assert_eq!(format("kxfw-mtrz", 2), ("kxf-wmtr-z".into(), 2));
        // The dash was deleted from behind: the letters stay.
        assert_eq!(format("kfwmtrz", 3), ("kfw-mtrz".into(), 3));
    }

    #[test]
    fn whole_link_is_taken() {
        let link = "https://meet.example/r/abc-defg-hij?x=1";
        assert_eq!(format(link, 3), (link.into(), 3));
        for (text, server) in [
            (link, "https://meet.example"),
            ("meet.example/r/abcdefghij", "https://meet.example"),
            ("192.168.1.7:8080/r/abc-defg-hij", "http://192.168.1.7:8080"),
            ("localhost:8080/r/abc-defg-hij", "http://localhost:8080"),
        ] {
            let room = "abc-defg-hij".parse().unwrap();
            assert_eq!(read(text), Entry::Room(room, Some(server.into())), "{text}");
        }
        for text in ["ftp://x/r/abc-defg-hij", "https:///r/abc-defg-hij", "http://a b/r/abcdefghij"]
        {
            assert!(matches!(read(text), Entry::Incomplete(_)), "{text}");
        }
    }

    #[test]
    fn link_typed_by_hand_loses_the_dash_it_got_as_a_code() {
        let mut text = String::new();
        for c in "http://localhost:8080/r/abc-defg-hij".chars() {
            text.push(c);
            text = format(&text, text.chars().count()).0;
        }
        assert!(
            matches!(read(&text), Entry::Room(_, Some(server)) if server == "http://localhost:8080")
        );
    }

    #[test]
    fn missing_letters_are_counted() {
        assert_eq!(read("  "), Entry::Empty);
        assert_eq!(
            read("kfw-mtrz-pq"),
            Entry::Incomplete("A room code has ten letters; 1 letter to go.".into())
        );
    }
}
