//! Prompts of common words for measurements. `cargo xtask bench rig` compiles this very file too, so that every engine is
//! asked the same; nothing but the standard library may be used here.

/// Common words, each of which most vocabularies have as one token.
const WORDS: [&str; 32] = [
    "time", "people", "water", "work", "place", "house", "light", "world", "school", "story",
    "night", "city", "family", "river", "music", "book", "paper", "money", "road", "morning",
    "summer", "winter", "table", "garden", "window", "letter", "village", "question", "answer",
    "number", "market", "doctor",
];

/// So many words behind a number, which also chooses them. Prompts are told apart by their first words, so that nothing
/// but the template is the same.
pub(super) fn question(words: u32, number: u64) -> String {
    let mut content = format!("{number}:");
    let mut state = number;
    for _ in 0..words {
        // Knuth's 64-bit linear congruential generator; its upper bits are random enough for words.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let index = usize::try_from(state >> 59).unwrap_or(0);
        content.push(' ');
        content.push_str(WORDS.get(index).copied().unwrap_or("time"));
    }
    content
}
