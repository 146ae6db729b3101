//! Every reason for which a model is not run.

use super::*;

#[test]
fn every_missing_tensor_is_named() {
    for architecture in ARCHITECTURES {
        let whole = small(architecture);
        for (name, ..) in &whole.tensors {
            let without = whole.clone().without_tensor(name);
            let refusal = without.read().expect_err(name);
            // Whether there are biases is known from those of the first queries; without, the others have no place.
            let is_first_bias = name == "blk.0.attn_q.bias";
            let expected = if is_first_bias {
                matches!(refusal, Refusal::UnknownTensor(_))
            } else {
                refusal == Refusal::MissingTensor(name.clone())
            };
            assert!(expected, "{architecture}: {refusal}");
        }
    }
}

#[test]
fn every_tensor_of_another_shape_is_refused() {
    for architecture in ARCHITECTURES {
        let whole = small(architecture);
        for (name, shape, kind) in &whole.tensors {
            let mut longer = shape.clone();
            *longer.last_mut().expect("a dimension") += 32;
            let refusal = whole.clone().tensor(name, &longer, *kind).read();
            let is_shape = |refusal: &Refusal| matches!(refusal, Refusal::TensorShape { name: refused, .. } if refused == name);
            assert!(refusal.as_ref().is_err_and(is_shape), "{name}: {refusal:?}");
        }
    }
    let turned = small("llama").tensor("blk.0.ffn_up.weight", &[96, 64], Q4_0);
    let sentence = "tensor `blk.0.ffn_up.weight` of the GGUF file has the shape [96, 64]; it should be [64, 96]";
    assert_eq!(turned.read().expect_err("is refused").to_string(), sentence);
}

#[test]
fn types_without_a_kernel_are_refused() {
    let llama = small("llama").tensor("token_embd.weight", &[64, 48], 24);
    let sentence =
        "tensor `token_embd.weight` of the GGUF file is of the type I8, which cannot be run";
    assert_eq!(llama.read().expect_err("is refused").to_string(), sentence);
    // Norms are computed with as they are.
    let norm = small("llama").tensor("output_norm.weight", &[64], Q4_0);
    assert!(matches!(norm.read(), Err(Refusal::TensorType { .. })));
    let mut wide = small("llama").with("embedding_length", Value::U32(256));
    wide = wide.tensor("token_embd.weight", &[256, 48], Q2_K);
    let refused = Refusal::TensorType {
        name: "token_embd.weight".to_owned(),
        kind: "Q2_K",
    };
    assert_eq!(wide.read(), Err(refused));
}

#[test]
fn tensors_without_a_place_are_refused() {
    for (architecture, name) in [
        ("llama", "blk.0.ffn_gate.bias"),
        ("llama", "blk.2.attn_norm.weight"),
        ("qwen2", "output.bias"),
        ("qwen3", "rope_freqs.weight"),
        ("gemma3", "dense_2.weight"),
    ] {
        let other = small(architecture).tensor(name, &[8], F32);
        assert_eq!(other.read(), Err(Refusal::UnknownTensor(name.to_owned())));
    }
}

#[test]
fn every_missing_key_is_named() {
    for name in [
        "context_length",
        "embedding_length",
        "block_count",
        "feed_forward_length",
        "attention.head_count",
        "attention.layer_norm_rms_epsilon",
        "vocab_size",
    ] {
        let refusal = small("qwen3").without(name).read();
        assert_eq!(refusal, Err(Refusal::Missing(format!("qwen3.{name}"))));
        let text = Value::Text("8".to_owned());
        let refusal = small("qwen3").with(name, text).read();
        assert!(matches!(refusal, Err(Refusal::WrongType(_))), "{name}");
    }
    let without = Small {
        entries: Vec::new(),
        ..small("llama")
    };
    let missing = Refusal::Missing("general.architecture".to_owned());
    assert_eq!(without.read(), Err(missing));
}

#[test]
fn values_that_cannot_be_meant_are_refused() {
    let most = u32::MAX;
    let numbers = [
        ("block_count", 0, "block_count"),
        ("block_count", 513, "block_count"),
        ("block_count", most, "block_count"),
        ("embedding_length", 0, "embedding_length"),
        ("attention.head_count", 0, "attention.head_count"),
        ("attention.head_count_kv", 0, "attention.head_count_kv"),
        ("attention.head_count_kv", 3, "attention.head_count_kv"),
        ("rope.dimension_count", 18, "rope.dimension_count"),
        ("rope.dimension_count", 15, "rope.dimension_count"),
    ];
    for (name, value, told) in numbers {
        let refusal = small("llama").with(name, Value::U32(value)).read();
        let told = Refusal::Impossible(format!("llama.{told}"));
        assert_eq!(refusal, Err(told), "{name} {value}");
    }
    for (name, value) in [
        ("attention.layer_norm_rms_epsilon", f32::NAN),
        ("attention.layer_norm_rms_epsilon", 0.0),
        ("rope.freq_base", -1.0),
        ("rope.scaling.factor", f32::INFINITY),
    ] {
        let refusal = small("llama").with(name, Value::F32(value)).read();
        let told = Refusal::Impossible(format!("llama.{name}"));
        assert_eq!(refusal, Err(told), "{name} {value}");
    }
    // More heads than there is width, and heads whose sum 32 bits do not hold.
    let many = small("llama").with("attention.head_count", Value::U32(128));
    assert!(matches!(many.read(), Err(Refusal::Impossible(_))));
    let wide = small("qwen3")
        .with("attention.key_length", Value::U32(most))
        .with("attention.value_length", Value::U32(most));
    assert!(matches!(wide.read(), Err(Refusal::Impossible(_))));
}

#[test]
fn what_this_engine_does_not_have_is_told() {
    let unsupported = [
        small("llama").with("expert_count", Value::U32(8)),
        small("llama").with("nextn_predict_layers", Value::U32(1)),
        small("llama").with("attention.causal", Value::Bool(false)),
        small("llama").with("attention.value_length", Value::U32(8)),
        small("qwen2").with("rope.dimension_count", Value::U32(8)),
        small("llama").with("rope.scaling.attn_factor", Value::F32(1.5)),
    ];
    let mut split = small("llama");
    split
        .entries
        .push(("split.count".to_owned(), Value::U32(2)));
    for small in unsupported.into_iter().chain([split]) {
        assert!(matches!(small.read(), Err(Refusal::Unsupported(_))));
    }
    let name = "x".repeat(1000);
    let unknown = small("llama").with_key("general.architecture", Value::Text(name));
    assert_eq!(unknown.read(), Err(Refusal::Architecture("x".repeat(64))));
}

#[test]
fn sizes_that_no_kernel_has_are_refused_before_any_tensor_is_looked_at() {
    for (key, value) in [
        ("embedding_length", 40),
        ("feed_forward_length", 100),
        ("attention.key_length", 30),
        ("attention.key_length", 512),
        ("attention.head_count", 131_072),
    ] {
        let mut small = small("qwen3").with(key, Value::U32(value));
        if key == "attention.key_length" {
            small = small.with("attention.value_length", Value::U32(value));
        }
        let read = small.read();
        assert!(
            matches!(read, Err(Refusal::Unsupported(_))),
            "{key} {value}: {read:?}"
        );
    }
}
