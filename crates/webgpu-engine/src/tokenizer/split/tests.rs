//! Each rule against the regular expression that it stands for, matched by a backtracking engine.

use std::cell::Cell;
use std::sync::LazyLock;

use super::*;
use fancy_regex::Regex;
use proptest::prelude::*;

const CONTRACTIONS: &str = "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])";
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LINES: &str = r"\s*[\r\n]+|\s+(?!\S)|\s+";

/// The expressions of llama.cpp's `llm_tokenizer_bpe`, one a stage. Its `\p{L}` without `a-z` is spelled out.
fn expressions(rules: Rules) -> Vec<String> {
    let upper = r"[\p{L}&&[^a-z]]";
    let lower = r"[\p{L}&&[^A-Z]]";
    let lead = r"[^\r\n\p{L}\p{N}]?";
    match rules {
        Rules::Default => vec![
            r"[\p{P}$+<=>\^~|]+".to_owned(),
            GPT2.to_owned(),
            r"\p{N}+".to_owned(),
            "[0-9][0-9][0-9]".to_owned(),
        ],
        Rules::Gpt2 => vec![GPT2.to_owned()],
        Rules::Smollm => vec![r"\p{N}".to_owned(), GPT2.to_owned()],
        Rules::Llama3 => vec![format!(
            r"{CONTRACTIONS}|{lead}\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{LINES}"
        )],
        Rules::Qwen2 => vec![format!(
            r"{CONTRACTIONS}|{lead}\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{LINES}"
        )],
        Rules::Qwen35 => vec![format!(
            r"{CONTRACTIONS}|{lead}[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{LINES}"
        )],
        Rules::Tekken => vec![format!(
            r"{lead}{upper}*{lower}+|{lead}{upper}+{lower}*|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{LINES}"
        )],
        Rules::Gpt4o => vec![format!(
            r"{lead}{upper}*{lower}+{CONTRACTIONS}?|{lead}{upper}+{lower}*{CONTRACTIONS}?|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{LINES}"
        )],
    }
}

static COMPILED: LazyLock<Vec<(Rules, Vec<Regex>)>> = LazyLock::new(|| {
    let compile = |rules: Rules| {
        let expressions = expressions(rules);
        let compiled = expressions.iter().map(|it| Regex::new(it).unwrap());
        (rules, compiled.collect())
    };
    ALL.map(compile).into()
});

/// Every match is a word, and every gap between two.
fn by_expression<'a>(expression: &Regex, text: &'a str) -> Vec<&'a str> {
    let (mut words, mut from) = (Vec::new(), 0);
    for found in expression.find_iter(text) {
        let found = found.expect("short texts do not exhaust the engine");
        words.extend([&text[from..found.start()], found.as_str()]);
        from = found.end();
    }
    words.push(&text[from..]);
    words.retain(|word| !word.is_empty());
    words
}

fn words(rules: Rules, text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    split(rules, text, &mut Vec::new(), |word| words.push(word));
    words
}

const ALL: [Rules; 8] = [
    Rules::Default,
    Rules::Gpt2,
    Rules::Smollm,
    Rules::Llama3,
    Rules::Qwen2,
    Rules::Qwen35,
    Rules::Tekken,
    Rules::Gpt4o,
];

#[test]
fn words_are_cut_as_each_family_cuts_them() {
    let text = "I'VE 1234 don't\n\n  x=5; HTTPServer/";
    for (rules, expected) in [
        (
            Rules::Llama3,
            "I|'VE| |123|4| don|'t|\n\n| | x|=|5|;| HTTPServer|/",
        ),
        (
            Rules::Qwen2,
            "I|'VE| |1|2|3|4| don|'t|\n\n| | x|=|5|;| HTTPServer|/",
        ),
        (
            Rules::Smollm,
            "I|'|VE| |1|2|3|4| don|'t|\n\n | x|=|5|;| HTTPServer|/",
        ),
        (
            Rules::Tekken,
            "I|'VE| |1|2|3|4| don|'t|\n\n| | x|=|5|;| HTTPServer|/",
        ),
        (
            Rules::Gpt4o,
            "I'VE| |123|4| don't|\n\n| | x|=|5|;| HTTPServer|/",
        ),
    ] {
        assert_eq!(words(rules, text).join("|"), expected, "{rules:?}");
    }
}

#[test]
fn three_digits_are_set_apart_wherever_they_begin() {
    assert_eq!(
        words(Rules::Default, "٣123 1234").join("|"),
        "٣|123| |123|4"
    );
    assert_eq!(words(Rules::Default, "12٣456٣").join("|"), "12٣|456|٣");
}

#[test]
fn a_text_that_means_harm_is_looked_at_a_few_times_only() {
    let hostile = [
        "a", "A", "Éa", "ÉA", "AÉ", " ", "\n", " \n", "\n ", "!\n", "!/", "\r", "1", "12a", "'",
        "'l", "' ", "\u{301}", "e\u{301}", "中", "\u{3000}", "\0", "aA", " a", "  a", "$1",
    ];
    for rules in ALL {
        for piece in hostile {
            for end in ["", "A", "x", "\n", "1"] {
                let text = piece.repeat(2000) + end;
                let characters = text.chars().count();
                let looks = split(rules, &text, &mut Vec::new(), |_| ());
                assert!(
                    looks <= 24 * characters,
                    "{rules:?} {piece:?}: {looks} looks at {characters} characters"
                );
            }
        }
    }
}

#[test]
fn a_stage_does_not_see_beyond_its_word() {
    let glyphs: Vec<Glyph> = "a  1"
        .chars()
        .map(|character| Glyph {
            character,
            class: Class::of(character),
        })
        .collect();
    let looks = Cell::new(0);
    let view = View {
        glyphs: &glyphs,
        looks: &looks,
    };
    assert_eq!(words::gpt2(view, 1), 2);
    assert_eq!(words::gpt2(view.part(0, 3), 1), 3);
}

fn texts() -> impl Strategy<Value = String> {
    let letters = prop::sample::select(
        "aAbZéÉßſKʼªあ中'''sStTrReEvVlLmMdD   0159٣²\n\n\r\t/!$+=^|~«、\u{301}\u{20dd}\u{85}\u{a0}\u{3000}\0\u{1c}\u{200b}\u{e000}😀"
            .chars()
            .collect::<Vec<_>>(),
    );
    prop::collection::vec(letters, 0..40).prop_map(|letters| letters.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn rules_cut_as_their_expressions_do(texts in prop::collection::vec(texts(), 20)) {
        for (rules, expressions) in COMPILED.iter() {
            for text in &texts {
                let expected = expressions.iter().fold(vec![text.as_str()], |words, expression| {
                    words.into_iter().flat_map(|word| by_expression(expression, word)).collect()
                });
                let expected: Vec<_> = expected.into_iter().filter(|word| !word.is_empty()).collect();
                prop_assert_eq!(words(*rules, text), expected, "{:?}", rules);
            }
        }
    }

    #[test]
    fn words_together_are_the_text(text in ".{0,60}") {
        for rules in ALL {
            prop_assert_eq!(words(rules, &text).concat(), text.clone());
        }
    }
}
