//! A sentence transformer of the BERT kind (safetensors and `tokenizer.json`, as published) → GGUF, for tests of
//! embeddings against real weights.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{GgufWriter, ShapeMismatch, Value};

/// The shape of a model, which its files do not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bert {
    /// Layers.
    pub layers: u32,
    /// Attention heads.
    pub heads: u32,
    /// Tokens of a text at most.
    pub context_tokens: u32,
}

/// Why files are not converted.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// Something else than JSON of that kind.
    #[error("that is not what it should be: {0}")]
    Json(#[from] serde_json::Error),
    /// The file breaks off, or has no tensor of that name in 32-bit floats.
    #[error("tensor {0} is not there")]
    Tensor(String),
    /// The numbers disagree.
    #[error(transparent)]
    Shape(#[from] ShapeMismatch),
}

#[derive(Debug, Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (usize, usize),
}

#[derive(Debug, Deserialize)]
struct Tokenizer {
    model: WordPiece,
}

#[derive(Debug, Deserialize)]
struct WordPiece {
    vocab: BTreeMap<String, u32>,
}

/// Names in the layers of both formats.
const LAYER: [(&str, &str); 8] = [
    ("attn_q", "attention.self.query"),
    ("attn_k", "attention.self.key"),
    ("attn_v", "attention.self.value"),
    ("attn_output", "attention.output.dense"),
    ("attn_output_norm", "attention.output.LayerNorm"),
    ("ffn_up", "intermediate.dense"),
    ("ffn_down", "output.dense"),
    ("layer_output_norm", "output.LayerNorm"),
];

impl Bert {
    /// all-MiniLM-L6-v2.
    pub const MINILM_L6: Self = Self {
        layers: 6,
        heads: 12,
        context_tokens: 512,
    };

    /// Converts a model whose vectors are means of its tokens' vectors.
    pub fn convert(self, safetensors: &[u8], tokenizer: &str) -> Result<GgufWriter, ConvertError> {
        let tensors = Tensors::new(safetensors)?;
        let mut writer = GgufWriter::default();
        let [width, feed_forward] = ["attention.self.query", "intermediate.dense"].map(|part| {
            let name = format!("encoder.layer.0.{part}.bias");
            let entry = tensors.entries.get(&name);
            let length = entry.and_then(|entry| entry.shape.first().copied());
            length.and_then(|length| u32::try_from(length).ok())
        });
        let missing = || ConvertError::Tensor("encoder.layer.0".to_owned());
        self.metadata(
            &mut writer,
            width.ok_or_else(missing)?,
            feed_forward.ok_or_else(missing)?,
        );
        vocabulary(&mut writer, tokenizer)?;
        for (ours, theirs) in [
            ("token_embd.weight", "word_embeddings.weight"),
            ("position_embd.weight", "position_embeddings.weight"),
            ("token_types.weight", "token_type_embeddings.weight"),
            ("token_embd_norm.weight", "LayerNorm.weight"),
            ("token_embd_norm.bias", "LayerNorm.bias"),
        ] {
            tensors.copy(&mut writer, ours, &format!("embeddings.{theirs}"))?;
        }
        for layer in 0..self.layers {
            for (ours, theirs) in LAYER {
                for part in ["weight", "bias"] {
                    let ours = format!("blk.{layer}.{ours}.{part}");
                    let theirs = format!("encoder.layer.{layer}.{theirs}.{part}");
                    tensors.copy(&mut writer, &ours, &theirs)?;
                }
            }
        }
        Ok(writer)
    }

    fn metadata(self, writer: &mut GgufWriter, width: u32, feed_forward: u32) {
        writer.set("general.architecture", Value::Text("bert".to_owned()));
        for (key, value) in [
            ("context_length", self.context_tokens),
            ("embedding_length", width),
            ("feed_forward_length", feed_forward),
            ("block_count", self.layers),
            ("attention.head_count", self.heads),
            // The mean.
            ("pooling_type", 1),
        ] {
            writer.set(&format!("bert.{key}"), Value::U32(value));
        }
        writer.set("bert.attention.causal", Value::Bool(false));
        let epsilon = Value::F32(1e-12);
        writer.set("bert.attention.layer_norm_epsilon", epsilon);
    }
}

/// Words with llama.cpp's mark before them, and pieces within words without theirs.
fn vocabulary(writer: &mut GgufWriter, tokenizer: &str) -> Result<(), ConvertError> {
    /// GGUF's numbers for kinds of tokens.
    const NORMAL: i32 = 1;
    const CONTROL: i32 = 3;
    let tokenizer: Tokenizer = serde_json::from_str(tokenizer)?;
    let mut vocabulary: Vec<(u32, String)> = tokenizer
        .model
        .vocab
        .into_iter()
        .map(|(text, id)| (id, text))
        .collect();
    vocabulary.sort_unstable();
    let is_control = |text: &str| text.starts_with('[') && text.ends_with(']') && text.len() > 2;
    let kinds = vocabulary
        .iter()
        .map(|(_, text)| if is_control(text) { CONTROL } else { NORMAL });
    let kinds = kinds.collect();
    let texts = vocabulary.into_iter().map(|(_, text)| {
        if is_control(&text) {
            text
        } else if let Some(piece) = text.strip_prefix("##") {
            piece.to_owned()
        } else {
            format!("\u{2581}{text}")
        }
    });
    let texts = texts.collect();
    writer.set("tokenizer.ggml.model", Value::Text("bert".to_owned()));
    writer.set("tokenizer.ggml.token_type_count", Value::U32(2));
    writer.set("tokenizer.ggml.tokens", Value::Texts(texts));
    writer.set("tokenizer.ggml.token_type", Value::I32s(kinds));
    Ok(())
}

/// A safetensors file: the header's length, the header in JSON, the data.
struct Tensors<'f> {
    entries: BTreeMap<String, Entry>,
    data: &'f [u8],
}

impl<'f> Tensors<'f> {
    fn new(file: &'f [u8]) -> Result<Self, ConvertError> {
        let broken = || ConvertError::Tensor("in the header".to_owned());
        let (length, rest) = file.split_first_chunk().ok_or_else(broken)?;
        let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| broken())?;
        let (header, data) = rest.split_at_checked(length).ok_or_else(broken)?;
        let mut header: BTreeMap<String, serde_json::Value> = serde_json::from_slice(header)?;
        header.remove("__metadata__");
        let entries = header
            .into_iter()
            .map(|(name, entry)| Ok((name, serde_json::from_value(entry)?)))
            .collect::<Result<_, serde_json::Error>>()?;
        Ok(Self { entries, data })
    }

    fn copy(&self, writer: &mut GgufWriter, ours: &str, theirs: &str) -> Result<(), ConvertError> {
        let missing = || ConvertError::Tensor(theirs.to_owned());
        let entry = self.entries.get(theirs).ok_or_else(missing)?;
        let (start, end) = entry.data_offsets;
        let bytes = self.data.get(start..end).ok_or_else(missing)?;
        let (floats, rest) = bytes.as_chunks::<4>();
        if entry.dtype != "F32" || !rest.is_empty() {
            return Err(missing());
        }
        // The dimension that changes quickest comes last there.
        let shape: Vec<u64> = entry.shape.iter().rev().copied().collect();
        let values = floats.iter().map(|float| f32::from_le_bytes(*float));
        writer.tensor(ours, &shape, values.collect())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_breaks_off_or_lies_is_refused() {
        let file = |length: u64, header: &str, data: &[u8]| {
            [&length.to_le_bytes()[..], header.as_bytes(), data].concat()
        };
        let header = r#"{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
        let length = header.len() as u64;
        let copy = |file: &[u8]| Tensors::new(file)?.copy(&mut GgufWriter::default(), "t", "t");
        assert!(copy(&file(length, header, &[0; 8])).is_ok());
        assert!(copy(&file(length, header, &[0; 7])).is_err());
        assert!(copy(&file(length + 9, header, &[])).is_err());
        assert!(copy(&file(u64::MAX, header, &[])).is_err());
        assert!(copy(&[]).is_err());
        let half = header.replace("F32", "F16");
        assert!(copy(&file(length, &half, &[0; 8])).is_err());
    }

    #[test]
    fn words_and_pieces_are_written_as_llama_cpp_reads_them() {
        let mut writer = GgufWriter::default();
        let tokenizer = r###"{"model":{"vocab":{"[CLS]":0,"a":1,"##b":2,"[":3}}}"###;
        vocabulary(&mut writer, tokenizer).expect("readable");
        let value = |key: &str| {
            let mut metadata = writer.metadata.iter();
            metadata
                .find(|(name, _)| name == key)
                .map(|(_, value)| value)
        };
        let texts = ["[CLS]", "\u{2581}a", "b", "\u{2581}["].map(str::to_owned);
        assert_eq!(
            value("tokenizer.ggml.tokens"),
            Some(&Value::Texts(texts.to_vec()))
        );
        assert_eq!(
            value("tokenizer.ggml.token_type"),
            Some(&Value::I32s(vec![3, 1, 1, 1]))
        );
    }
}
