//! What llama.cpp made of some texts, for a vocabulary of each family.
//!
//! `node-container/tests/engine/tokenizer/golden.rs` writes these files, each with as much of its vocabulary as its texts
//! can touch; it also says where each vocabulary comes from. Over all of a vocabulary, and texts of more than a
//! megabyte, `tokenizer.rs` beside it compares.

use super::*;
use serde_json::Value;

const FILES: [(&str, &str); 11] = [
    (
        "default",
        include_str!("../../../fixtures/tokenizer/default.json"),
    ),
    (
        "gemma3",
        include_str!("../../../fixtures/tokenizer/gemma3.json"),
    ),
    (
        "gpt-2",
        include_str!("../../../fixtures/tokenizer/gpt-2.json"),
    ),
    (
        "gpt4o",
        include_str!("../../../fixtures/tokenizer/gpt4o.json"),
    ),
    (
        "llama3",
        include_str!("../../../fixtures/tokenizer/llama3.json"),
    ),
    (
        "mistral-v3",
        include_str!("../../../fixtures/tokenizer/mistral-v3.json"),
    ),
    (
        "phi-3",
        include_str!("../../../fixtures/tokenizer/phi-3.json"),
    ),
    (
        "qwen3",
        include_str!("../../../fixtures/tokenizer/qwen3.json"),
    ),
    (
        "qwen35",
        include_str!("../../../fixtures/tokenizer/qwen35.json"),
    ),
    (
        "smollm",
        include_str!("../../../fixtures/tokenizer/smollm.json"),
    ),
    (
        "tekken",
        include_str!("../../../fixtures/tokenizer/tekken.json"),
    ),
];

fn id(value: &Value) -> u32 {
    u32::try_from(value.as_u64().unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(id).collect()
}

/// The part of the vocabulary that the file holds, and the id that each of its tokens has in the whole.
fn vocabulary(golden: &Value) -> (Vocabulary, Vec<u32>) {
    let told = &golden["vocabulary"];
    let tokens = told["tokens"].as_array().unwrap();
    let whole: Vec<u32> = tokens.iter().map(|token| id(&token[0])).collect();
    let own = |name: &str| {
        let number = golden[name].as_u64()?;
        let index = whole.iter().position(|it| u64::from(*it) == number)?;
        u32::try_from(index).ok()
    };
    let text = |name: &str| told[name].as_str().map(str::to_owned);
    let texts = tokens.iter().map(|token| token[1].as_str().unwrap());
    let types = tokens
        .iter()
        .map(|token| token[2].as_i64().unwrap().try_into().unwrap());
    let scores = tokens
        .iter()
        .map(|token| token[3].to_string().parse::<f32>().unwrap());
    let merges = told["merges"].as_array().unwrap().iter();
    let vocabulary = Vocabulary {
        model: text("model").unwrap(),
        pre: text("pre"),
        tokens: texts.collect(),
        types: types.collect(),
        scores: scores.collect(),
        merges: merges.map(|merge| merge.as_str().unwrap()).collect(),
        add_space_prefix: told["add_space_prefix"].as_bool(),
        add_bos: told["add_bos"].as_bool(),
        add_eos: told["add_eos"].as_bool(),
        named: NamedTokens {
            bos: own("bos"),
            eos: own("eos"),
            ..NamedTokens::default()
        },
        model_name: text("model_name").unwrap(),
    };
    (vocabulary, whole)
}

#[test]
fn texts_become_the_ids_that_llama_cpp_gives_them() {
    for (name, file) in FILES {
        let golden: Value = serde_json::from_str(file).unwrap();
        let (vocabulary, whole) = vocabulary(&golden);
        let tokenizer = Tokenizer::new(&vocabulary).unwrap();
        let cases = golden["cases"].as_array().unwrap();
        assert!(cases.len() >= 100, "{name}");
        for case in cases {
            let text = case["text"].as_str().unwrap();
            for (encoding, expected) in [(PLAIN, &case["plain"]), (WHOLE, &case["parsed"])] {
                let tokens = tokenizer.encode(text, encoding).unwrap();
                let tokens: Vec<u32> = tokens.iter().map(|it| whole[*it as usize]).collect();
                assert_eq!(tokens, ids(expected), "{name}, {encoding:?}: {text:?}");
            }
        }
    }
}
