//! Code that stands in the documents, to be tried as it stands.

use std::path::Path;

use anyhow::Context;

/// The first code block behind these words in a file of `docs/`.
///
/// # Errors
///
/// There is none.
pub fn code(file: &str, words: &str) -> anyhow::Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(file);
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("{} cannot be read", path.display()))?;
    let block = block_after(&text, words);
    block.map(str::to_owned).with_context(|| format!("{file} has no code behind: {words}"))
}

fn block_after<'d>(document: &'d str, words: &str) -> Option<&'d str> {
    let after = &document[document.find(words)? + words.len()..];
    let (_, begun) = after.split_once("```")?;
    let (_, content) = begun.split_once('\n')?;
    content.split_once("```").map(|(content, _)| content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_found_by_the_words_before_it() {
        let text = "```\na\n```\nSo:\n```ini\nb\nc\n```\n";
        assert_eq!(block_after(text, "So:"), Some("b\nc\n"));
        assert_eq!(block_after(text, "Thus:"), None);
    }
}
