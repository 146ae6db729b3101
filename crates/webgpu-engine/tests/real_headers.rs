//! The headers of two published models. The files are large and not part of the repository: where the environment does
//! not name them (`HELIOGRAPH_MODEL_FILE`, `HELIOGRAPH_GEMMA_FILE`, as `cargo xtask test` does), nothing is tested.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test, which fails by panicking"
)]

use std::fs::File;
use std::io::Read as _;

use webgpu_engine::gguf::{Header, Parser, Progress};
use webgpu_engine::model::{
    Activation, Architecture, CacheType, Config, Demand, MemoryNeed, Pairs, RopeScaling,
};

/// The header of the file that a variable names, read in pieces of a size that fits nothing.
fn header(variable: &str) -> Option<(Header, u64)> {
    let path = std::env::var_os(variable)?;
    let mut file = File::open(path).expect("the file that the environment names");
    let bytes = file.metadata().expect("metadata").len();
    let mut parser = Parser::new(Some(bytes));
    let mut piece = vec![0; 12_347];
    loop {
        let count = file.read(&mut piece).expect("can be read");
        match parser.push(&piece[..count]).expect("a header") {
            Progress::More => assert!(count > 0, "the file ends in its header"),
            Progress::Whole { header, .. } => return Some((*header, bytes)),
        }
    }
}

const DEMAND: Demand = Demand {
    has_packed: false,
    context_tokens: 2048,
    sessions: 1,
    batch_tokens: 256,
    logit_rows: 1,
    cache: CacheType::F16,
};

#[test]
fn smollm2_135m_can_be_run() {
    let Some((header, bytes)) = header("HELIOGRAPH_MODEL_FILE") else {
        return;
    };
    assert_eq!(
        (header.tensors().len(), header.data_offset),
        (272, 1_785_664)
    );
    assert_eq!(header.file_bytes(), bytes);
    let config = Config::read(&header).expect("can be run");
    assert_eq!(config.architecture, Architecture::Llama);
    let sizes = [config.layers, config.embedding, config.feed_forward];
    assert_eq!(sizes, [30, 576, 1536]);
    let heads = [config.heads, config.kv_heads, config.head_size];
    assert_eq!(heads, [9, 3, 64]);
    assert_eq!((config.vocabulary, config.context_tokens), (49_152, 8192));
    assert_eq!(config.norm_epsilon.to_bits(), 1e-5f32.to_bits());
    assert_eq!(config.rope.base.to_bits(), 100_000f32.to_bits());
    assert_eq!(
        (config.rope.pairs, config.rope.dimensions),
        (Pairs::Neighbours, 64)
    );
    assert!(config.has_tied_output && config.window.is_none());
    assert_eq!(config.attention_scale.to_bits(), 0.125f32.to_bits());
    let tokens = header
        .metadata
        .texts("tokenizer.ggml.tokens")
        .expect("texts")
        .expect("tokens");
    assert_eq!(tokens.text(1), Some(b"<|im_start|>".as_slice()));
    let need = MemoryNeed::of(&config, &header, &DEMAND);
    assert_eq!(need.weights, 96_576_768);
    assert_eq!(need.cache, 2 * 30 * 3 * 64 * 2 * 2048);
}

#[test]
fn gemma_3_270m_can_be_run() {
    let Some((header, bytes)) = header("HELIOGRAPH_GEMMA_FILE") else {
        return;
    };
    assert_eq!(
        (header.tensors().len(), header.data_offset),
        (236, 6_525_120)
    );
    assert_eq!(header.file_bytes(), bytes);
    let config = Config::read(&header).expect("can be run");
    assert_eq!(config.architecture, Architecture::Gemma3);
    let sizes = [config.layers, config.embedding, config.feed_forward];
    assert_eq!(sizes, [18, 640, 2048]);
    let heads = [config.heads, config.kv_heads, config.head_size];
    assert_eq!(heads, [4, 1, 256]);
    assert_eq!(
        (config.vocabulary, config.context_tokens),
        (262_144, 32_768)
    );
    assert_eq!(config.norm_epsilon.to_bits(), 1e-6f32.to_bits());
    assert_eq!((config.rope.base, config.rope.window_base), (1e6, 1e4));
    assert_eq!(
        (config.rope.pairs, config.rope.scaling),
        (Pairs::Halves, RopeScaling::None)
    );
    let window = config.window.as_ref().expect("a window");
    assert_eq!(window.tokens, 512);
    let all: Vec<usize> = (0..18).filter(|layer| !window.layers[*layer]).collect();
    assert_eq!(all, [5, 11, 17]);
    assert!(config.has_head_norms && config.has_post_norms && config.has_tied_output);
    assert_eq!(
        (config.activation, config.final_soft_cap),
        (Activation::Gelu, None)
    );
    assert_eq!(config.embedding_scale.to_bits(), 640f32.sqrt().to_bits());
    assert_eq!(config.attention_scale.to_bits(), 0.0625f32.to_bits());
    let need = MemoryNeed::of(&config, &header, &DEMAND);
    assert_eq!(need.cache, 2 * 256 * 2 * (3 * 2048 + 15 * 768));
}
