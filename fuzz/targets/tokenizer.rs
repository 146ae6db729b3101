//! Vocabularies and texts: what is refused is refused, and with the rest every text becomes tokens of the vocabulary and
//! bytes again. A vocabulary that has all bytes loses none.

#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use webgpu_engine::tokenizer::{Encoding, NamedTokens, Tokenizer, Vocabulary};

const PRES: [&str; 8] = [
    "default",
    "gpt-2",
    "smollm",
    "llama-bpe",
    "qwen2",
    "qwen35",
    "tekken",
    "gpt-4o",
];

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    is_scored: bool,
    pre: u8,
    tokens: Vec<(&'a [u8], i8, f32)>,
    merges: Vec<(&'a str, &'a str)>,
    flags: [Option<bool>; 3],
    ids: [Option<u8>; 5],
    is_phi: bool,
    text: &'a str,
}

const ENCODINGS: [Encoding; 3] = [
    Encoding {
        add_special: false,
        parse_special: false,
    },
    Encoding {
        add_special: false,
        parse_special: true,
    },
    Encoding {
        add_special: true,
        parse_special: true,
    },
];

/// As it came.
fn any(input: &Input<'_>) -> Vocabulary {
    let id = |index: usize| input.ids[index].map(u32::from);
    Vocabulary {
        model: if input.is_scored { "llama" } else { "gpt2" }.to_owned(),
        pre: Some(PRES[usize::from(input.pre) % PRES.len()].to_owned()),
        tokens: input.tokens.iter().map(|token| token.0).collect(),
        types: input.tokens.iter().map(|token| token.1.into()).collect(),
        scores: input.tokens.iter().map(|token| token.2).collect(),
        merges: input
            .merges
            .iter()
            .map(|(left, right)| format!("{left} {right}"))
            .collect(),
        add_space_prefix: input.flags[0],
        add_bos: input.flags[1],
        add_eos: input.flags[2],
        named: NamedTokens {
            bos: id(0),
            eos: id(1),
            eot: id(2),
            unknown: id(3),
            fim_pad: id(4),
            ..NamedTokens::default()
        },
        model_name: if input.is_phi { "phi-3" } else { "" }.to_owned(),
    }
}

/// Byte-level, with all bytes, and with every text that a merge reads or makes.
fn whole(input: &Input<'_>) -> Vocabulary {
    let mut tokens: Vec<String> = (0x21..=0x7Eu32)
        .chain(0xA1..=0xAC)
        .chain(0xAE..=0xFF)
        .chain(0x100..=0x143)
        .filter_map(char::from_u32)
        .map(String::from)
        .collect();
    let mut merges = Vec::new();
    for (left, right) in &input.merges {
        if left.is_empty() || right.is_empty() || left.contains(' ') {
            continue;
        }
        merges.push(format!("{left} {right}"));
        for text in [
            (*left).to_owned(),
            (*right).to_owned(),
            format!("{left}{right}"),
        ] {
            if !tokens.contains(&text) {
                tokens.push(text);
            }
        }
    }
    merges.push("a b".to_owned());
    Vocabulary {
        merges: merges.iter().collect(),
        types: vec![1; tokens.len()],
        tokens: tokens.iter().collect(),
        scores: Vec::new(),
        model: "gpt2".to_owned(),
        add_bos: Some(false),
        add_eos: Some(false),
        model_name: String::new(),
        ..any(input)
    }
}

fuzz_target!(|input: Input<'_>| {
    if let Ok(tokenizer) = Tokenizer::new(&any(&input)) {
        for encoding in ENCODINGS {
            let tokens = tokenizer
                .encode(input.text, encoding)
                .expect("texts are short here");
            assert!(tokens.iter().all(|token| *token < tokenizer.tokens()));
            tokenizer.decode(&tokens, true);
            tokenizer.decode(&tokens, false);
        }
    }
    if let Ok(tokenizer) = Tokenizer::new(&whole(&input)) {
        for encoding in ENCODINGS {
            let tokens = tokenizer
                .encode(input.text, encoding)
                .expect("texts are short here");
            assert_eq!(tokenizer.decode(&tokens, true), input.text.as_bytes());
        }
    }
});
