//! Small headers of every architecture, as they should be and not.

mod memory;
mod refusals;

use super::*;
use gguf::{Header, TensorType};
use gguf_writer::{GgufWriter, Value};

/// A header under construction, in the shape of one of the architectures.
#[derive(Clone)]
struct Small {
    architecture: &'static str,
    entries: Vec<(String, Value)>,
    /// Name, shape and ggml's number of the type.
    tensors: Vec<(String, Vec<u64>, u32)>,
}

const ARCHITECTURES: [&str; 4] = ["llama", "qwen2", "qwen3", "gemma3"];

/// ggml's numbers.
const F32: u32 = 0;
const Q4_0: u32 = 2;
const Q2_K: u32 = 10;

/// Two layers, four heads of 32 in a width of 64 (but for llama and qwen2, where they share the width), two heads of
/// keys and values, 48 tokens.
fn small(architecture: &'static str) -> Small {
    let has_own_heads = matches!(architecture, "qwen3" | "gemma3");
    let head: u64 = if has_own_heads { 32 } else { 16 };
    let mut small = Small {
        architecture,
        entries: Vec::new(),
        tensors: Vec::new(),
    };
    let text = Value::Text(architecture.to_owned());
    small
        .entries
        .push(("general.architecture".to_owned(), text));
    for (key, value) in [
        ("context_length", 1024),
        ("embedding_length", 64),
        ("block_count", 2),
        ("feed_forward_length", 96),
        ("attention.head_count", 4),
        ("attention.head_count_kv", 2),
        ("vocab_size", 48),
    ] {
        small = small.with(key, Value::U32(value));
    }
    small = small.with("attention.layer_norm_rms_epsilon", Value::F32(1e-5));
    if has_own_heads {
        small = small.with("attention.key_length", Value::U32(32));
        small = small.with("attention.value_length", Value::U32(32));
    }
    small = small.tensor("token_embd.weight", &[64, 48], Q4_0);
    small = small.tensor("output_norm.weight", &[64], F32);
    for layer in 0..2 {
        let mut add = |part: &str, shape: &[u64], kind| {
            small = small
                .clone()
                .tensor(&format!("blk.{layer}.{part}"), shape, kind);
        };
        add("attn_norm.weight", &[64], F32);
        add("attn_q.weight", &[64, 4 * head], Q4_0);
        add("attn_k.weight", &[64, 2 * head], Q4_0);
        add("attn_v.weight", &[64, 2 * head], Q4_0);
        add("attn_output.weight", &[4 * head, 64], Q4_0);
        add("ffn_norm.weight", &[64], F32);
        add("ffn_gate.weight", &[64, 96], Q4_0);
        add("ffn_up.weight", &[64, 96], Q4_0);
        add("ffn_down.weight", &[96, 64], Q4_0);
        if architecture == "qwen2" {
            add("attn_q.bias", &[4 * head], F32);
            add("attn_k.bias", &[2 * head], F32);
            add("attn_v.bias", &[2 * head], F32);
        }
        if has_own_heads {
            add("attn_q_norm.weight", &[head], F32);
            add("attn_k_norm.weight", &[head], F32);
        }
        if architecture == "gemma3" {
            add("post_attention_norm.weight", &[64], F32);
            add("post_ffw_norm.weight", &[64], F32);
        }
    }
    small
}

impl Small {
    /// With this entry of the architecture, in place of any other of its key.
    fn with(self, name: &str, value: Value) -> Self {
        let key = format!("{}.{name}", self.architecture);
        self.with_key(&key, value)
    }

    fn with_key(mut self, key: &str, value: Value) -> Self {
        self.entries.retain(|(other, _)| other != key);
        self.entries.push((key.to_owned(), value));
        self
    }

    fn without(mut self, name: &str) -> Self {
        let key = format!("{}.{name}", self.architecture);
        self.entries.retain(|(other, _)| *other != key);
        self
    }

    /// With this tensor, in place of any other of its name.
    fn tensor(mut self, name: &str, shape: &[u64], kind: u32) -> Self {
        self.tensors.retain(|(other, ..)| other != name);
        self.tensors.push((name.to_owned(), shape.to_vec(), kind));
        self
    }

    fn without_tensor(mut self, name: &str) -> Self {
        self.tensors.retain(|(other, ..)| other != name);
        self
    }

    fn header(&self) -> Header {
        let mut writer = GgufWriter::default();
        for (key, value) in &self.entries {
            writer.set(key, value.clone());
        }
        for (name, shape, kind) in &self.tensors {
            let stored = TensorType::from_id(*kind).expect("a type");
            let weights: u64 = shape.iter().product();
            let bytes = weights / stored.block_weights * stored.block_bytes;
            let bytes = vec![0; usize::try_from(bytes).expect("small")];
            writer.tensor_bytes(name, shape, *kind, bytes);
        }
        let bytes = writer.to_bytes();
        gguf::read(&bytes, Some(bytes.len() as u64)).expect("a header")
    }

    fn read(&self) -> Result<Config, Refusal> {
        Config::read(&self.header())
    }

    fn config(&self) -> Config {
        self.read().expect("can be run")
    }
}

#[test]
fn a_llama_is_read() {
    let config = small("llama").config();
    let expected = Config {
        architecture: Architecture::Llama,
        layers: 2,
        embedding: 64,
        feed_forward: 96,
        heads: 4,
        kv_heads: 2,
        head_size: 16,
        vocabulary: 48,
        context_tokens: 1024,
        norm_epsilon: 1e-5,
        rope: Rope {
            pairs: Pairs::Neighbours,
            dimensions: 16,
            base: 10_000.0,
            window_base: 10_000.0,
            scaling: RopeScaling::None,
            has_factors: false,
        },
        window: None,
        attention_scale: 0.25,
        attention_soft_cap: None,
        final_soft_cap: None,
        embedding_scale: 1.0,
        activation: Activation::Silu,
        has_head_norms: false,
        has_post_norms: false,
        biases: Biases::default(),
        has_tied_output: true,
    };
    assert_eq!(config, expected);
}

#[test]
fn the_families_differ_in_what_they_are_known_for() {
    let [llama, qwen2, qwen3, gemma3] = ARCHITECTURES.map(|name| small(name).config());
    assert!(!llama.biases.query_key_value && qwen2.biases.query_key_value);
    assert_eq!(qwen2.rope.pairs, Pairs::Halves);
    assert!(qwen3.has_head_norms && !qwen3.has_post_norms && !qwen2.has_head_norms);
    assert_eq!(
        (qwen3.head_size, qwen3.query_width(), qwen3.kv_width()),
        (32, 128, 64)
    );
    assert!(gemma3.has_head_norms && gemma3.has_post_norms);
    assert_eq!(gemma3.activation, Activation::Gelu);
    assert_eq!(gemma3.embedding_scale.to_bits(), 8.0f32.to_bits());
    assert_eq!(gemma3.window, None);
}

#[test]
fn gemma_s_window_is_on_five_of_six_layers_or_as_the_file_says() {
    let gemma = small("gemma3").with("attention.sliding_window", Value::U32(512));
    let window = gemma.config().window.expect("a window");
    assert_eq!((window.tokens, window.layers), (512, vec![true, true]));
    let key = "attention.sliding_window_pattern";
    let layers = |value| {
        let config = gemma.clone().with(key, value).config();
        let layers = [config.has_window(0), config.has_window(1)];
        assert!(!config.has_window(2));
        layers
    };
    assert_eq!(layers(Value::U32(2)), [true, false]);
    assert_eq!(layers(Value::Bools(vec![false, true])), [false, true]);
    assert_eq!(layers(Value::I32s(vec![1, 0])), [true, false]);
    assert_eq!(layers(Value::U32(0)), [true, true]);
    let three = gemma.clone().with(key, Value::Bools(vec![true; 3])).read();
    let key = format!("gemma3.{key}");
    assert_eq!(three, Err(Refusal::Impossible(key)));
    let none = gemma.with("attention.sliding_window", Value::U32(0));
    assert_eq!(none.config().window, None);
}

#[test]
fn a_window_that_llama_cpp_does_not_use_is_not_used() {
    let mistral = small("llama").with("attention.sliding_window", Value::U32(4096));
    assert_eq!(mistral.config().window, None);
}

#[test]
fn gemma_s_bases_and_soft_caps_are_the_file_s() {
    let gemma = small("gemma3")
        .with("rope.freq_base", Value::F32(1e6))
        .with("final_logit_softcapping", Value::F32(30.0))
        .with("attn_logit_softcapping", Value::F32(0.0));
    let config = gemma.clone().config();
    assert_eq!((config.rope.base, config.rope.window_base), (1e6, 10_000.0));
    assert_eq!(
        (config.final_soft_cap, config.attention_soft_cap),
        (Some(30.0), None)
    );
    let other = gemma
        .with("rope.freq_base_swa", Value::F32(5e3))
        .with("attn_logit_softcapping", Value::F32(50.0));
    let config = other.config();
    assert_eq!(config.rope.window_base.to_bits(), 5e3f32.to_bits());
    assert_eq!(config.attention_soft_cap, Some(50.0));
}

#[test]
fn rotary_scaling_is_read_as_llama_cpp_reads_it() {
    let with = |kind: &str, factor| {
        small("llama")
            .with("rope.scaling.type", Value::Text(kind.to_owned()))
            .with("rope.scaling.factor", Value::F32(factor))
    };
    let scaling = |small: Small| small.config().rope.scaling;
    assert_eq!(scaling(with("none", 4.0)), RopeScaling::None);
    assert_eq!(scaling(with("linear", 4.0)), RopeScaling::Linear(4.0));
    assert_eq!(scaling(with("linear", 1.0)), RopeScaling::None);
    let old = small("llama").with("rope.scale_linear", Value::F32(2.0));
    assert_eq!(scaling(old), RopeScaling::Linear(2.0));
    let yarn = with("yarn", 4.0).with("rope.scaling.original_context_length", Value::U32(256));
    let expected = RopeScaling::Yarn {
        factor: 4.0,
        original_context: 256,
        beta_fast: 32.0,
        beta_slow: 1.0,
        magnitude: 1.0 + 0.1 * 4.0f32.ln(),
    };
    assert_eq!(scaling(yarn), expected);
    assert_eq!(
        with("longrope", 4.0)
            .read()
            .err()
            .map(|error| error.to_string()),
        Some(
            "the model has rotary scaling of the kind LongRoPE, which this engine does not have"
                .to_owned()
        )
    );
}

#[test]
fn what_some_files_have_is_known_from_their_tensors() {
    let llama = small("llama")
        .tensor("output.weight", &[64, 48], Q4_0)
        .tensor("rope_freqs.weight", &[8], F32)
        .tensor("blk.0.attn_output.bias", &[64], F32)
        .tensor("blk.1.attn_output.bias", &[64], F32);
    let config = llama.config();
    assert!(!config.has_tied_output && config.rope.has_factors);
    assert!(config.biases.attention_output && !config.biases.query_key_value);
    assert_eq!(config.tensors().count(), llama.tensors.len());
}

#[test]
fn the_vocabulary_is_the_tokenizer_s() {
    let tokens = vec!["a".to_owned(); 48];
    let llama = small("llama").with_key("tokenizer.ggml.tokens", Value::Texts(tokens));
    assert_eq!(llama.clone().without("vocab_size").config().vocabulary, 48);
    let more = llama.with("vocab_size", Value::U32(50));
    assert_eq!(more.config().vocabulary, 48);
}

#[test]
fn one_number_for_each_layer_will_do_where_they_are_the_same() {
    let each = |numbers: [i32; 2]| {
        small("llama").with("attention.head_count_kv", Value::I32s(numbers.to_vec()))
    };
    assert_eq!(each([2, 2]).config().kv_heads, 2);
    let different = Refusal::Unsupported("layers of different shapes");
    assert_eq!(each([2, 1]).read(), Err(different));
}

#[test]
fn the_largest_gemma_scales_attention_by_its_width() {
    let mut gemma = small("gemma3").with("block_count", Value::U32(62));
    let layer: Vec<_> = gemma
        .tensors
        .iter()
        .filter(|(name, ..)| name.starts_with("blk.0."))
        .cloned()
        .collect();
    for number in 2..62 {
        for (name, shape, kind) in &layer {
            let name = name.replace("blk.0.", &format!("blk.{number}."));
            gemma.tensors.push((name, shape.clone(), *kind));
        }
    }
    // 64 / 4 = 16, and not the heads' own 32.
    assert_eq!(gemma.config().attention_scale.to_bits(), 0.25f32.to_bits());
    let other = small("gemma3").config().attention_scale;
    assert_eq!(other.to_bits(), (1.0 / 32.0f32.sqrt()).to_bits());
}

#[test]
fn weights_lie_where_the_header_says() {
    let mut writer = GgufWriter::default();
    writer.set("general.architecture", Value::Text("llama".to_owned()));
    writer.tensor("t", &[3, 2], vec![1.0; 6]).expect("fits");
    let bytes = writer.to_bytes();
    let header = gguf::read(&bytes, Some(bytes.len() as u64)).expect("a header");
    let range = header.range(header.tensor("t").expect("is there"));
    let range =
        usize::try_from(range.start).expect("small")..usize::try_from(range.end).expect("small");
    assert_eq!(bytes[range], 1.0f32.to_le_bytes().repeat(6));
}
