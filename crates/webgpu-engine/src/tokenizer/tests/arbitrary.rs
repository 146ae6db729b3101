//! Arbitrary texts and vocabularies: nothing panics, nothing is lost, and the effort grows with the text and no faster.

use super::*;
use proptest::prelude::*;
use special::{Piece, Specials};

/// llama.cpp's way of setting special tokens apart (`tokenizer_st_partition`): the longest first, through all of the
/// text each.
fn set_apart<'a>(text: &'a str, specials: &[(u32, &str)]) -> Vec<Piece<'a>> {
    let mut pieces = vec![Piece::Text(text)];
    let mut specials = specials.to_vec();
    specials.sort_by_key(|(token, text)| (std::cmp::Reverse(text.len()), *token));
    for (token, special) in specials {
        let cut = |piece| match piece {
            Piece::Token(_) => vec![piece],
            Piece::Text(text) => {
                let between = text.split(special).map(Piece::Text);
                let mut pieces: Vec<_> = between.flat_map(|it| [Piece::Token(token), it]).collect();
                pieces.remove(0);
                pieces
            }
        };
        pieces = pieces.into_iter().flat_map(cut).collect();
    }
    pieces.retain(|piece| *piece != Piece::Text(""));
    pieces
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[ab <>\n\u{2581}é😀]{0,40}",
        "(<s>|</s>|<0x0A>|[ab] ){0,9}"
    ]
}

fn merges() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("[abcĠÃ©Ċ]{1,3} [abcĠÃ©Ċ]{1,3}", 1..12)
}

/// Anything at all, most of it nonsense.
fn vocabulary() -> impl Strategy<Value = Vocabulary> {
    let token = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..6),
        "[ab <>▁]{0,4}|<0x[0-9A-G]{0,3}>?|</s>|<\\|end\\|>".prop_map(String::into_bytes)
    ];
    let tokens = prop::collection::btree_set(token, 0..40);
    let pre = prop::sample::select(vec![
        "default",
        "gpt-2",
        "smollm",
        "llama-bpe",
        "qwen2",
        "tekken",
    ]);
    let ids = prop::collection::vec(prop::option::of(0u32..50), 11);
    (
        prop::bool::ANY,
        pre,
        tokens,
        prop::collection::vec(-1i32..9, 40),
        prop::collection::vec(any::<f32>(), 40),
        prop::collection::vec("[ab▁é]{1,3} [ab▁é]{0,3}", 1..9),
        ids,
        any::<[Option<bool>; 3]>(),
    )
        .prop_map(
            |(bpe, pre, tokens, types, scores, merges, ids, flags)| Vocabulary {
                model: if bpe { "gpt2" } else { "llama" }.to_owned(),
                pre: Some(pre.to_owned()),
                tokens: tokens.iter().collect(),
                types,
                scores,
                merges: merges.iter().collect(),
                add_space_prefix: flags[0],
                add_bos: flags[1],
                add_eos: flags[2],
                named: NamedTokens {
                    bos: ids[0],
                    eos: ids[1],
                    eot: ids[2],
                    eom: ids[3],
                    unknown: ids[4],
                    fim_pre: ids[5],
                    fim_suf: ids[6],
                    fim_mid: ids[7],
                    fim_pad: ids[8],
                    fim_rep: ids[9],
                    fim_sep: ids[10],
                },
                model_name: "phi-3".to_owned(),
            },
        )
}

proptest! {
    #[test]
    fn bytes_come_back_as_they_went(text in text(), merges in merges(), pre in 0usize..6) {
        let pre = ["default", "gpt-2", "smollm", "llama-bpe", "qwen2", "tekken"][pre];
        let merges: Vec<_> = merges.iter().map(String::as_str).collect();
        let parts = |merge: &&str| merge.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let specials: Vec<String> = merges.iter().flat_map(parts).filter(|it| it.chars().count() > 1).collect();
        let mut vocabulary = byte_level(pre, &merges, &[("<s>", 3)]);
        vocabulary.add_bos = Some(false);
        // What merges are made of must be tokens, or their bytes would be lost, here as in llama.cpp.
        for special in specials {
            if !vocabulary.tokens.iter().any(|it| it == special.as_bytes()) {
                vocabulary.tokens.push(special.as_bytes());
                vocabulary.types.push(1);
            }
        }
        let tokenizer = Tokenizer::new(&vocabulary).unwrap();
        for encoding in [PLAIN, PARSED] {
            let tokens = tokenizer.encode(&text, encoding).unwrap();
            prop_assert_eq!(String::from_utf8(tokenizer.decode(&tokens, true)).unwrap(), text.clone());
        }
    }

    #[test]
    fn any_vocabulary_is_refused_or_works(vocabulary in vocabulary(), texts in prop::collection::vec(text(), 4)) {
        if let Ok(tokenizer) = Tokenizer::new(&vocabulary) {
            for text in &texts {
                for encoding in [PLAIN, PARSED, WHOLE] {
                    let tokens = tokenizer.encode(text, encoding).unwrap();
                    prop_assert!(tokens.iter().all(|token| *token < tokenizer.tokens()));
                    tokenizer.decode(&tokens, true);
                    tokenizer.decode(&tokens, false);
                }
            }
        }
    }

    #[test]
    fn special_tokens_are_set_apart_as_by_going_through_the_text_for_each(
        text in "[ab]{0,40}",
        specials in prop::collection::btree_set("[ab]{2,6}", 1..9),
    ) {
        let specials: Vec<_> = specials.iter().map(|it| (it.as_str(), 4)).collect();
        let vocabulary = byte_level("gpt-2", &["x y"], &specials);
        let tokenizer = Tokenizer::new(&vocabulary).unwrap();
        let mut pieces = Vec::new();
        tokenizer
            .user_defined
            .cut(&text, |piece| pieces.push(piece));
        let numbered: Vec<_> = (257..).zip(specials.iter().map(|(text, _)| *text)).collect();
        prop_assert_eq!(pieces, set_apart(&text, &numbered));
    }
}

#[test]
fn the_effort_grows_with_the_text_and_no_faster() {
    let merges = [
        "a a",
        "aa aa",
        "aaaa aaaa",
        "Ġ Ġ",
        "ĠĠ ĠĠ",
        "Ċ Ċ",
        "1 1",
        "é é",
    ];
    let spm = scored(&[
        ("▁", -1.0),
        ("▁▁", -2.0),
        ("▁▁▁▁", -3.0),
        ("a", -1.0),
        ("aa", -2.0),
        ("aaa", -2.5),
    ]);
    let specials = [("aaaaaaab", 4), ("aaaaab", 4), ("\n\n\n", 4), ("\n\n", 4)];
    let vocabularies = ["default", "gpt-2", "smollm", "llama-bpe", "qwen2", "tekken"]
        .map(|pre| byte_level(pre, &merges, &specials));
    for vocabulary in vocabularies.iter().chain([&spm]) {
        let tokenizer = Tokenizer::new(vocabulary).unwrap();
        for piece in [
            "a", " ", "\n", "1", "é", "É", "A", "aaaa ", "\u{301}", "😀", "\u{2581}",
        ] {
            let text = piece.repeat(10_000 / piece.len());
            let (_, steps) = tokenizer.encode_counting(&text, PARSED).unwrap();
            assert!(
                steps <= 24 * text.len(),
                "{:?} {piece:?}: {steps} steps",
                vocabulary.pre
            );
        }
    }
}

#[test]
fn a_text_of_special_tokens_proposes_each_place_a_few_times_only() {
    let texts: Vec<String> = (1..=31).map(|count| "\n".repeat(count)).collect();
    let specials: Vec<_> = texts.iter().map(|text| (text.as_str(), 4)).collect();
    let tokenizer = Tokenizer::new(&byte_level("gpt-2", &["a b"], &specials)).unwrap();
    let specials: &Specials = &tokenizer.user_defined;
    let text = "\n".repeat(31 * 1000 + 7);
    let mut found = Vec::new();
    let steps = specials.cut(&text, |piece| found.push(piece));
    assert!(steps <= 2 * text.len(), "{steps} proposals");
    let (last, whole) = found.split_last().unwrap();
    assert!(whole.len() == 1000 && whole.iter().all(|it| *it == Piece::Token(257 + 30)));
    assert_eq!(*last, Piece::Token(257 + 6));
}
