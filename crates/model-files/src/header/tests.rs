//! Headers written by hand; the real ones are compared with llama.cpp in the rig's tests.

use super::*;
use proptest::prelude::*;

/// Writes a header as the format says.
#[derive(Clone, Default)]
struct Writer {
    entries: u64,
    body: Vec<u8>,
    tensors: u64,
    list: Vec<u8>,
}

impl Writer {
    fn entry(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        self.entries += 1;
        self.body.extend(text(key));
        self.body.extend(kind.to_le_bytes());
        self.body.extend(value);
        self
    }

    fn number(self, key: &str, number: u32) -> Self {
        self.entry(key, 4, &number.to_le_bytes())
    }

    fn array(self, key: &str, kind: u32, count: u64, items: &[u8]) -> Self {
        let mut value = kind.to_le_bytes().to_vec();
        value.extend(count.to_le_bytes());
        value.extend(items);
        self.entry(key, 9, &value)
    }

    fn tensor(mut self, name: &str, kind: u32, dimensions: &[u64]) -> Self {
        self.tensors += 1;
        self.list.extend(text(name));
        self.list
            .extend(u32::try_from(dimensions.len()).unwrap().to_le_bytes());
        for dimension in dimensions {
            self.list.extend(dimension.to_le_bytes());
        }
        self.list.extend(kind.to_le_bytes());
        // Further apart than any of these is long.
        self.list.extend(((self.tensors - 1) << 20).to_le_bytes());
        self
    }

    fn finish(self) -> Vec<u8> {
        let mut file = b"GGUF".to_vec();
        file.extend(3u32.to_le_bytes());
        file.extend(self.tensors.to_le_bytes());
        file.extend(self.entries.to_le_bytes());
        file.extend(self.body);
        file.extend(self.list);
        file
    }
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

fn plain(architecture: &str) -> Writer {
    let tokens: Vec<u8> = ["a", "b", "c"].into_iter().flat_map(text).collect();
    let key = |name: &str| format!("{architecture}.{name}");
    Writer::default()
        .entry("general.architecture", 8, &text(architecture))
        .number(&key("block_count"), 12)
        .number(&key("attention.head_count"), 8)
        .number(&key("embedding_length"), 512)
        .number(&key("context_length"), 2048)
        .entry(&key("rope.freq_base"), 6, &1.0f32.to_le_bytes())
        .array("tokenizer.ggml.tokens", 8, 3, &tokens)
        .tensor("token_embd.weight", 8, &[512, 3])
        .tensor("blk.0.attn_norm.weight", 0, &[512])
        .tensor("blk.0.attn_q.weight", 3, &[512, 512])
        .tensor("blk.1.attn_q.weight", 3, &[512, 512])
}

const fn matrix(kind: u32, columns: u64, rows: u64) -> Matrix {
    Matrix {
        kind,
        columns,
        rows,
        depth: 1,
        is_routed: false,
    }
}

#[test]
fn a_plain_header_gives_the_shape() {
    let header = read(&plain("llama").finish()[..]).expect("a header");
    assert_eq!(header.context_tokens, 2048);
    let shape = Shape {
        layers: 12,
        kv_heads: 8,
        key_size: 64,
        value_size: 64,
        embedding: 512,
        vocabulary: 3,
        window: None,
    };
    assert_eq!(header.shape, shape);
}

#[test]
fn heads_sizes_and_windows_are_read_where_the_file_says_them() {
    let heads: Vec<u8> = [2u32, 4, 2]
        .into_iter()
        .flat_map(u32::to_le_bytes)
        .collect();
    let file = plain("gemma3")
        .array("gemma3.attention.head_count_kv", 4, 3, &heads)
        .number("gemma3.attention.key_length", 256)
        .number("gemma3.attention.value_length", 128)
        .number("gemma3.attention.sliding_window", 512)
        .finish();
    let shape = read(&file[..]).expect("a header").shape;
    assert_eq!(
        (shape.kv_heads, shape.key_size, shape.value_size),
        (4, 256, 128)
    );
    let window = Window {
        tokens: 512,
        layers: 10,
    };
    assert_eq!(shape.window, Some(window));

    let flags = [1u8, 1, 0, 1];
    let file = plain("gemma3n")
        .number("gemma3n.attention.sliding_window", 512)
        .array("gemma3n.attention.sliding_window_pattern", 7, 4, &flags)
        .finish();
    let window = read(&file[..]).expect("a header").shape.window;
    assert_eq!(window.map(|window| window.layers), Some(3));

    // What is no flag says nothing: it is as the architecture has it.
    let odd = [
        (1, vec![1u8, 0, 255]),
        (6, [1f32; 3].map(f32::to_le_bytes).concat()),
    ];
    for (kind, flags) in odd {
        for (architecture, expected) in [("gemma2", Some(6)), ("gemma3n", None)] {
            let file = plain(architecture)
                .number(&format!("{architecture}.attention.sliding_window"), 512)
                .array(
                    &format!("{architecture}.attention.sliding_window_pattern"),
                    kind,
                    3,
                    &flags,
                )
                .finish();
            let window = read(&file[..]).expect("a header").shape.window;
            assert_eq!(window.map(|window| window.layers), expected, "{kind}");
        }
    }

    let file = plain("phi3")
        .number("phi3.attention.sliding_window", 512)
        .finish();
    assert_eq!(read(&file[..]).expect("a header").shape.window, None);
}

#[test]
fn what_is_no_header_is_said_to_be_none() {
    assert!(matches!(
        read(&b"PK\x03\x04 and more"[..]),
        Err(HeaderError::Gguf(gguf::GgufError::NotGguf))
    ));
    let whole = plain("llama").finish();
    for length in 0..whole.len() {
        assert!(read(&whole[..length]).is_err(), "{length}");
    }
    let mut long = whole.clone();
    long[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(matches!(read(&long[..]), Err(HeaderError::Gguf(_))));
    let mut long = whole.clone();
    long[16..24].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(matches!(read(&long[..]), Err(HeaderError::Gguf(_))));
    let file = Writer::default()
        .entry("general.architecture", 8, &text("llama"))
        .finish();
    let Err(HeaderError::Missing(key)) = read(&file[..]) else {
        panic!("a key is missing");
    };
    assert_eq!(key, "llama.block_count");
    let told = HeaderError::Missing(key).without_names();
    assert!(!told.contains("llama"), "{told}");
}

#[test]
fn a_header_may_have_more_pieces_than_one() {
    let long = "x".repeat(700_000);
    let mut writer = plain("llama");
    for number in 0..5 {
        writer = writer.entry(&format!("note.{number}"), 8, &text(&long));
    }
    let file = writer.number("llama.attention.key_length", 96).finish();
    let header = read(&file[..]).expect("a header");
    assert_eq!(header.shape.key_size, 96);
    assert_eq!(header.matrices.values().sum::<u64>(), 3);
    let cut = read(&file[..3_000_000]);
    assert!(matches!(
        cut,
        Err(HeaderError::Gguf(gguf::GgufError::Truncated))
    ));
}

#[test]
fn a_type_of_weights_that_nobody_knows_yet_is_counted_like_any_other() {
    let file = plain("llama").tensor("blk.2.attn_q.weight", 1000, &[500, 3]);
    let header = read(&file.finish()[..]).expect("a header");
    assert_eq!(header.matrices.get(&matrix(1000, 500, 3)), Some(&1));
    assert_eq!(header.matrices.values().sum::<u64>(), 4);
}

#[test]
fn what_numbers_are_multiplied_with_is_counted_by_type_and_size() {
    let header = read(&plain("llama").finish()[..]).expect("a header");
    // Without an output of its own, the embedding is multiplied with too.
    let layers = (matrix(3, 512, 512), 2);
    let embedding = (matrix(8, 512, 3), 1);
    assert_eq!(header.matrices, Matrices::from([layers, embedding]));

    let file = plain("llama")
        .tensor("output.weight", 14, &[512, 3])
        .tensor("blk.0.ffn_up_exps.weight", 12, &[512, 64, 8])
        .tensor("blk.0.attn_q.bias", 0, &[512, 2])
        .tensor("per_layer_token_embd.weight", 8, &[512, 3])
        .finish();
    let routed = Matrix {
        depth: 8,
        is_routed: true,
        ..matrix(12, 512, 64)
    };
    let expected = [layers, (matrix(14, 512, 3), 1), (routed, 1)];
    let header = read(&file[..]).expect("a header");
    assert_eq!(header.matrices, Matrices::from(expected));

    let encoder = plain("bert").entry("bert.attention.causal", 7, &[0]);
    let header = read(&encoder.finish()[..]).expect("a header");
    assert_eq!(header.matrices, Matrices::from([layers]));

    let file = plain("llama").tensor("blk.0.odd.weight", 0, &[1; 5]);
    assert!(matches!(
        read(&file.finish()[..]),
        Err(HeaderError::Gguf(gguf::GgufError::Shape(_)))
    ));
}

#[test]
fn a_header_tells_what_the_model_can_do() {
    let header = read(&plain("llama").finish()[..]).expect("a header");
    let Header {
        has_template,
        has_pooling,
        is_encoder,
        has_states,
        ..
    } = header;
    assert!(!has_template && !has_pooling && !is_encoder && !has_states);
    let file = plain("bert")
        .entry(TEMPLATE, 8, &text(&"{{ messages }}".repeat(100)))
        .number("bert.pooling_type", 2)
        .entry("bert.attention.causal", 7, &[0])
        .number("bert.ssm.state_size", 16);
    let header = read(&file.finish()[..]).expect("a header");
    assert!(
        header.has_template && header.has_pooling && header.is_encoder && header.has_states,
        "{header:?}"
    );
    let none = plain("bert").number("bert.pooling_type", 0).finish();
    assert!(!read(&none[..]).expect("a header").has_pooling);
}

#[test]
fn an_encoder_of_a_known_kind_tells_its_shape() {
    let clip = |kind: &str| {
        Writer::default()
            .entry("general.architecture", 8, &text("clip"))
            .entry("clip.projector_type", 8, &text(kind))
            .number("clip.vision.image_size", 336)
            .number("clip.vision.patch_size", 14)
            .number("clip.vision.embedding_length", 1024)
            .number("clip.vision.feed_forward_length", 4096)
            .number("clip.vision.projection_dim", 2048)
    };
    let shape = Encoder {
        image_side: 336,
        patch_side: 14,
        width: 1024,
        feed_forward: 4096,
        projection: 2048,
    };
    let read = |kind: &str| read_encoder(&clip(kind).finish()[..]).expect("a header");
    assert_eq!(read("mlp"), Some(shape));
    let pooled = Encoder {
        projection: 0,
        ..shape
    };
    assert_eq!(read("gemma3"), Some(pooled));
    assert_eq!(read("qwen2vl_merger"), None);
    assert_eq!(
        read_encoder(&plain("llama").finish()[..]).expect("a header"),
        None
    );
    assert!(read_encoder(&b"PK"[..]).is_err());
    // A fault among the tensors, or none of them, takes nothing of it.
    let odd = clip("mlp").tensor("v.odd", 0, &[0]).finish();
    assert_eq!(read_encoder(&odd[..]).expect("metadata"), Some(shape));
    let cut = &odd[..odd.len() - 30];
    assert_eq!(read_encoder(cut).expect("metadata"), Some(shape));
    let whole = clip("mlp").finish();
    assert!(read_encoder(&whole[..whole.len() - 1]).is_err());
}

proptest! {
    #[test]
    fn damaged_headers_never_panic(at in 0usize..700, byte: u8) {
        let mut file = plain("llama").finish();
        if let Some(place) = file.get_mut(at) {
            *place = byte;
        }
        drop(read(&file[..]));
    }
}
