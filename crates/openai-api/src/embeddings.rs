//! What `POST /v1/embeddings` answers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use protocol::Usage;
use serde::Serialize;

use crate::response::json;

/// Gathers vectors, however their text is cut.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Embeddings {
    /// One line for each input: base64 of little-endian 32-bit floats.
    text: String,
}

impl Embeddings {
    /// Takes the next bytes of the answer.
    pub fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// The finished list; `None` where it is not `count` vectors, which is the node's fault.
    pub fn body(&self, model: &str, count: usize, is_base64: bool, usage: Usage) -> Option<String> {
        let lines: Vec<&str> = self.text.strip_suffix('\n')?.split('\n').collect();
        if lines.len() != count {
            return None;
        }
        let data = (0u32..)
            .zip(lines)
            .map(|(index, line)| {
                let bytes = STANDARD.decode(line).ok()?;
                let (floats, rest) = bytes.as_chunks::<4>();
                if floats.is_empty() || !rest.is_empty() {
                    return None;
                }
                let is_number = |float: &[u8; 4]| f32::from_le_bytes(*float).is_finite();
                if !floats.iter().all(is_number) {
                    return None;
                }
                let embedding = if is_base64 {
                    Vector::Base64(line)
                } else {
                    Vector::Floats(
                        floats
                            .iter()
                            .map(|float| f32::from_le_bytes(*float))
                            .collect(),
                    )
                };
                Some(Embedding {
                    object: "embedding",
                    index,
                    embedding,
                })
            })
            .collect::<Option<Vec<_>>>()?;
        Some(json(&List {
            object: "list",
            data,
            model,
            usage: EmbeddingsUsage {
                prompt_tokens: usage.prompt_tokens,
                total_tokens: usage.prompt_tokens,
            },
        }))
    }
}

#[derive(Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<Embedding<'a>>,
    model: &'a str,
    usage: EmbeddingsUsage,
}

#[derive(Serialize)]
#[expect(clippy::struct_field_names, reason = "the names are OpenAI's")]
struct Embedding<'a> {
    object: &'static str,
    index: u32,
    embedding: Vector<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Vector<'a> {
    Base64(&'a str),
    Floats(Vec<f32>),
}

#[derive(Serialize)]
struct EmbeddingsUsage {
    prompt_tokens: u32,
    total_tokens: u32,
}
