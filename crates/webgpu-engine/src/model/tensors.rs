//! The tensors of a model: which there must be, what they are called and how they are shaped.
//!
//! Names and shapes are llama.cpp's (`llama-arch.cpp`, `src/models/`). As everywhere in GGUF, a matrix's first dimension
//! is the length of its rows: what it is multiplied with.

use super::Config;
use gguf::Dimensions;

/// A tensor of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ModelTensor {
    /// A row for each token.
    TokenEmbedding,
    /// What is computed for a part of a layer.
    Layer(u32, LayerPart),
    /// The norm before logits.
    OutputNorm,
    /// A row for each token, where logits are not made by the embeddings.
    Output,
    /// Divisors of rotary turns.
    RopeFactors,
}

/// A tensor of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LayerPart {
    /// The norm before attention.
    AttentionNorm,
    /// Makes queries.
    Query,
    /// Makes keys.
    Key,
    /// Makes values.
    Value,
    /// Added to queries.
    QueryBias,
    /// Added to keys.
    KeyBias,
    /// Added to values.
    ValueBias,
    /// The norm of each head of queries.
    QueryNorm,
    /// The norm of each head of keys.
    KeyNorm,
    /// Makes what attention adds.
    AttentionOutput,
    /// Added to that.
    AttentionOutputBias,
    /// The norm behind attention.
    AttentionPostNorm,
    /// The norm before the feed-forward layer.
    FeedForwardNorm,
    /// Makes what goes through the activation.
    Gate,
    /// Makes what that is multiplied with.
    Up,
    /// Makes what the feed-forward layer adds.
    Down,
    /// The norm behind the feed-forward layer.
    FeedForwardPostNorm,
}

impl LayerPart {
    /// All of them, as they are used.
    pub const ALL: [Self; 17] = [
        Self::AttentionNorm,
        Self::Query,
        Self::Key,
        Self::Value,
        Self::QueryBias,
        Self::KeyBias,
        Self::ValueBias,
        Self::QueryNorm,
        Self::KeyNorm,
        Self::AttentionOutput,
        Self::AttentionOutputBias,
        Self::AttentionPostNorm,
        Self::FeedForwardNorm,
        Self::Gate,
        Self::Up,
        Self::Down,
        Self::FeedForwardPostNorm,
    ];

    /// As files name it, behind the layer.
    const fn name(self) -> &'static str {
        match self {
            Self::AttentionNorm => "attn_norm.weight",
            Self::Query => "attn_q.weight",
            Self::Key => "attn_k.weight",
            Self::Value => "attn_v.weight",
            Self::QueryBias => "attn_q.bias",
            Self::KeyBias => "attn_k.bias",
            Self::ValueBias => "attn_v.bias",
            Self::QueryNorm => "attn_q_norm.weight",
            Self::KeyNorm => "attn_k_norm.weight",
            Self::AttentionOutput => "attn_output.weight",
            Self::AttentionOutputBias => "attn_output.bias",
            Self::AttentionPostNorm => "post_attention_norm.weight",
            Self::FeedForwardNorm => "ffn_norm.weight",
            Self::Gate => "ffn_gate.weight",
            Self::Up => "ffn_up.weight",
            Self::Down => "ffn_down.weight",
            Self::FeedForwardPostNorm => "post_ffw_norm.weight",
        }
    }
}

impl ModelTensor {
    /// As files name it.
    pub fn name(self) -> String {
        match self {
            Self::TokenEmbedding => "token_embd.weight".to_owned(),
            Self::Layer(layer, part) => format!("blk.{layer}.{}", part.name()),
            Self::OutputNorm => "output_norm.weight".to_owned(),
            Self::Output => "output.weight".to_owned(),
            Self::RopeFactors => "rope_freqs.weight".to_owned(),
        }
    }

    /// Whether it is multiplied with, so that it may be of any type. All others are 32-bit floats.
    pub const fn is_matrix(self) -> bool {
        match self {
            Self::TokenEmbedding | Self::Output => true,
            Self::OutputNorm | Self::RopeFactors => false,
            Self::Layer(_, part) => match part {
                LayerPart::Query
                | LayerPart::Key
                | LayerPart::Value
                | LayerPart::AttentionOutput
                | LayerPart::Gate
                | LayerPart::Up
                | LayerPart::Down => true,
                LayerPart::AttentionNorm
                | LayerPart::QueryBias
                | LayerPart::KeyBias
                | LayerPart::ValueBias
                | LayerPart::QueryNorm
                | LayerPart::KeyNorm
                | LayerPart::AttentionOutputBias
                | LayerPart::AttentionPostNorm
                | LayerPart::FeedForwardNorm
                | LayerPart::FeedForwardPostNorm => false,
            },
        }
    }
}

impl Config {
    /// The tensors that the model has, in the order of their use. No others may be in the file.
    pub fn tensors(&self) -> impl Iterator<Item = ModelTensor> {
        let layers = (0..self.layers).flat_map(|layer| {
            let parts = LayerPart::ALL.into_iter();
            parts
                .filter(|part| self.has(*part))
                .map(move |part| ModelTensor::Layer(layer, part))
        });
        let factors = self.rope.has_factors.then_some(ModelTensor::RopeFactors);
        let output = (!self.has_tied_output).then_some(ModelTensor::Output);
        [ModelTensor::TokenEmbedding]
            .into_iter()
            .chain(factors)
            .chain(layers)
            .chain([ModelTensor::OutputNorm])
            .chain(output)
    }

    /// Whether the layers have this part.
    pub const fn has(&self, part: LayerPart) -> bool {
        match part {
            LayerPart::AttentionNorm
            | LayerPart::Query
            | LayerPart::Key
            | LayerPart::Value
            | LayerPart::AttentionOutput
            | LayerPart::FeedForwardNorm
            | LayerPart::Gate
            | LayerPart::Up
            | LayerPart::Down => true,
            LayerPart::QueryBias | LayerPart::KeyBias | LayerPart::ValueBias => {
                self.biases.query_key_value
            }
            LayerPart::AttentionOutputBias => self.biases.attention_output,
            LayerPart::QueryNorm | LayerPart::KeyNorm => self.has_head_norms,
            LayerPart::AttentionPostNorm | LayerPart::FeedForwardPostNorm => self.has_post_norms,
        }
    }

    /// The shape that a tensor must have.
    pub fn shape(&self, tensor: ModelTensor) -> Dimensions {
        let [embedding, vocabulary, hidden, head] = [
            self.embedding,
            self.vocabulary,
            self.feed_forward,
            self.head_size,
        ]
        .map(u64::from);
        let (queries, shared) = (self.query_width(), self.kv_width());
        let matrix = Dimensions::matrix;
        let vector = Dimensions::vector;
        match tensor {
            ModelTensor::TokenEmbedding | ModelTensor::Output => matrix(embedding, vocabulary),
            ModelTensor::OutputNorm => vector(embedding),
            ModelTensor::RopeFactors => vector(u64::from(self.rope.dimensions / 2)),
            ModelTensor::Layer(_, part) => match part {
                LayerPart::AttentionNorm
                | LayerPart::AttentionOutputBias
                | LayerPart::AttentionPostNorm
                | LayerPart::FeedForwardNorm
                | LayerPart::FeedForwardPostNorm => vector(embedding),
                LayerPart::Query => matrix(embedding, queries),
                LayerPart::Key | LayerPart::Value => matrix(embedding, shared),
                LayerPart::QueryBias => vector(queries),
                LayerPart::KeyBias | LayerPart::ValueBias => vector(shared),
                LayerPart::QueryNorm | LayerPart::KeyNorm => vector(head),
                LayerPart::AttentionOutput => matrix(queries, embedding),
                LayerPart::Gate | LayerPart::Up => matrix(embedding, hidden),
                LayerPart::Down => matrix(hidden, embedding),
            },
        }
    }

    /// Numbers of a token's queries.
    pub fn query_width(&self) -> u64 {
        u64::from(self.heads) * u64::from(self.head_size)
    }

    /// Numbers of a token's keys, and of its values.
    pub fn kv_width(&self) -> u64 {
        u64::from(self.kv_heads) * u64::from(self.head_size)
    }
}
