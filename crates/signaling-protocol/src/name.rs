//! Names from elsewhere, made fit to be shown within our own sentences: people's display names, and
//! what devices call themselves. The page's `cleanName` does the same; `fixtures/names.json` holds both to it.

use unicode_properties::{GeneralCategory, UnicodeGeneralCategory as _};

/// `text` without what could make it look like another name or disturb the words around it. `None` if
/// nothing is left.
///
/// - White space, line separators included, becomes one space; none stays at either end.
/// - Control, format and other invisible characters go: those that turn the direction of writing, those of no
///   width, and private use, which is our own icons in some fonts. What is not assigned yet stays, for it
///   may be an emoji that only the reader's system knows.
/// - Zero-width joiners stay where scripts and emoji need them: between letters from Arabic to Mongolian, and
///   between pictographs. A variation selector stays behind a pictograph.
/// - Marks above and below a letter go beyond four in a row.
/// - What is beyond `max_chars` Unicode scalar values is cut off.
pub fn clean_name(text: &str, max_chars: usize) -> Option<String> {
    let mut clean = String::new();
    let (mut length, mut marks) = (0, 0);
    let mut last = None;
    // A space or joiner, which stays if something follows that it separates or joins.
    let mut between = None;
    for c in text.chars() {
        let is_mark = is_mark(c);
        match (c, last) {
            _ if is_space(c) => {
                between = last.and(Some(' '));
                continue;
            }
            (ZWNJ | ZWJ, _) => {
                between = between.or(last.and(Some(c)));
                continue;
            }
            // Last of all, for both are invisible.
            (TEXT_STYLE | EMOJI_STYLE, Some(last)) if is_pictograph(last) && between.is_none() => {}
            _ if is_invisible(c) => continue,
            (_, None) if is_mark => continue,
            _ if is_mark && (between == Some(' ') || marks == MAX_MARKS) => continue,
            _ => {}
        }
        between = between.filter(|b| *b == ' ' || last.is_some_and(|last| joins(last, *b, c)));
        length += 1 + usize::from(between.is_some());
        if length > max_chars {
            break;
        }
        marks = if is_mark { marks + 1 } else { 0 };
        clean.extend(between.take());
        clean.push(c);
        last = Some(c);
    }
    last.map(|_| clean)
}

/// Marks in a row that stay: more than any script needs. Each goes a little further up or down, dozens
/// of them over the lines around.
const MAX_MARKS: u32 = 4;

const ZWNJ: char = '\u{200c}';
const ZWJ: char = '\u{200d}';
const TEXT_STYLE: char = '\u{fe0e}';
const EMOJI_STYLE: char = '\u{fe0f}';

/// `White_Space` of the Unicode character database.
fn is_space(c: char) -> bool {
    c.is_whitespace()
}

/// What has no shape of its own: `Default_Ignorable_Code_Point` of the Unicode character database, controls,
/// private use, and the Braille pattern without dots.
fn is_invisible(c: char) -> bool {
    use GeneralCategory::{Control, Format, PrivateUse};
    matches!(c.general_category(), Control | Format | PrivateUse)
        || matches!(c,
            '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{2065}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fff8}' | '\u{e0000}'..='\u{e0fff}')
}

/// What is drawn over, under or around the character before it.
fn is_mark(c: char) -> bool {
    use GeneralCategory::{EnclosingMark, NonspacingMark};
    matches!(c.general_category(), NonspacingMark | EnclosingMark)
}

/// Whether a joiner changes how the characters beside it look (RFC 5892 §A.1 and A.2, by blocks and
/// not by letters; Unicode TR #51 for emoji).
fn joins(before: char, joiner: char, after: char) -> bool {
    (is_joining_script(before) && is_joining_script(after))
        || (joiner == ZWJ
            && (is_pictograph(before) || matches!(before, TEXT_STYLE | EMOJI_STYLE))
            && is_pictograph(after))
}

/// Blocks from Arabic to Myanmar, and Khmer and Mongolian.
fn is_joining_script(c: char) -> bool {
    matches!(c, '\u{600}'..='\u{109f}' | '\u{1780}'..='\u{18af}')
}

/// Blocks of symbols and emoji.
fn is_pictograph(c: char) -> bool {
    matches!(c, '\u{2100}'..='\u{2bff}' | '\u{1f000}'..='\u{1faff}')
}
