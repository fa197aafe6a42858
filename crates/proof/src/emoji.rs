//! The emoji that two people compare, and their names for reading aloud.

/// One of the 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Emoji {
    /// One code point; the fonts of app and page have it.
    pub symbol: char,
    /// For reading aloud.
    pub name: &'static str,
}

const fn emoji(symbol: char, name: &'static str) -> Emoji {
    Emoji { symbol, name }
}

/// All, by their number: things that everybody knows by sight and names with one word.
pub const EMOJI: [Emoji; 64] = [
    emoji('🐶', "dog"),
    emoji('🐱', "cat"),
    emoji('🦁', "lion"),
    emoji('🐴', "horse"),
    emoji('🐮', "cow"),
    emoji('🐷', "pig"),
    emoji('🐘', "elephant"),
    emoji('🐰', "rabbit"),
    emoji('🐼', "panda"),
    emoji('🐓', "rooster"),
    emoji('🐧', "penguin"),
    emoji('🐢', "turtle"),
    emoji('🐟', "fish"),
    emoji('🐙', "octopus"),
    emoji('🦋', "butterfly"),
    emoji('🐌', "snail"),
    emoji('🐝', "bee"),
    emoji('🦉', "owl"),
    emoji('🐳', "whale"),
    emoji('🌼', "flower"),
    emoji('🌳', "tree"),
    emoji('🌵', "cactus"),
    emoji('🍄', "mushroom"),
    emoji('🌙', "moon"),
    emoji('⛅', "cloud"),
    emoji('🔥', "fire"),
    emoji('🌈', "rainbow"),
    emoji('⭐', "star"),
    emoji('⛄', "snowman"),
    emoji('☔', "umbrella"),
    emoji('🍌', "banana"),
    emoji('🍎', "apple"),
    emoji('🍓', "strawberry"),
    emoji('🍇', "grapes"),
    emoji('🥕', "carrot"),
    emoji('🌽', "corn"),
    emoji('🍞', "bread"),
    emoji('🧀', "cheese"),
    emoji('🍳', "egg"),
    emoji('🍕', "pizza"),
    emoji('🎂', "cake"),
    emoji('🎩', "hat"),
    emoji('👓', "glasses"),
    emoji('👑', "crown"),
    emoji('👟', "shoe"),
    emoji('🎁', "gift"),
    emoji('🎈', "balloon"),
    emoji('💡', "lamp"),
    emoji('📖', "book"),
    emoji('📎', "paperclip"),
    emoji('🔑', "key"),
    emoji('🔨', "hammer"),
    emoji('📞', "telephone"),
    emoji('🔔', "bell"),
    emoji('⏰', "clock"),
    emoji('🏠', "house"),
    emoji('🚂', "train"),
    emoji('🚲', "bicycle"),
    emoji('🚀', "rocket"),
    emoji('⛵', "boat"),
    emoji('⚓', "anchor"),
    emoji('🎸', "guitar"),
    emoji('🎺', "trumpet"),
    emoji('⚽', "ball"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_two_are_alike() {
        assert_eq!(EMOJI.iter().map(|e| e.symbol).collect::<HashSet<_>>().len(), 64);
        assert_eq!(EMOJI.iter().map(|e| e.name).collect::<HashSet<_>>().len(), 64);
    }
}
