//! A whole model: tokens in, logits out.

use std::collections::BTreeMap;
use std::ops::Range;

use super::activation::{add, gated, soft_cap};
use super::attention::Attention;
use super::norm::rms_norm;
use super::product::Matrix;
use super::rope::Turns;
use crate::model::{CacheType, Config, LayerPart, ModelTensor};
use crate::quant::{NotBlocks, QuantType, half_from_float, half_to_float};
use gguf::{Header, TensorInfo};

/// Weights, and how they are computed with.
#[derive(Debug, Clone)]
pub struct Model {
    config: Config,
    matrices: BTreeMap<ModelTensor, Matrix<'static>>,
    vectors: BTreeMap<ModelTensor, Vec<f32>>,
    /// Of layers without a window, and of those with one.
    turns: [Turns; 2],
}

/// What has been read: the keys and values of each layer.
#[derive(Debug, Clone)]
pub struct Session<'m> {
    model: &'m Model,
    cache: CacheType,
    tokens: usize,
    layers: Vec<Layer>,
}

#[derive(Debug, Clone, Default)]
struct Layer {
    keys: Vec<f32>,
    values: Vec<f32>,
}

/// Why there is no model. The header must be the one that the config was read from.
#[derive(Debug, thiserror::Error)]
pub enum LoadError<E> {
    /// Bytes of the file cannot be had.
    #[error("bytes {0:?} of the file cannot be read")]
    Read(Range<u64>, #[source] E),
    /// There are too few of them, or too many.
    #[error("tensor `{0}` does not fit the header")]
    Tensor(String),
    /// They are no whole rows.
    #[error(transparent)]
    NotBlocks(#[from] NotBlocks),
}

/// Why tokens cannot be read. Nothing of them is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The vocabulary has no such token.
    #[error("the vocabulary has no token {0}")]
    UnknownToken(u32),
    /// The model was made for fewer tokens.
    #[error("{0} tokens are more than the context holds")]
    TooLong(usize),
}

impl Model {
    /// Takes the weights out of a file, whose bytes `read` gives.
    pub fn load<E>(
        config: Config,
        header: &Header,
        mut read: impl FnMut(Range<u64>) -> Result<Vec<u8>, E>,
    ) -> Result<Self, LoadError<E>> {
        let mut matrices = BTreeMap::new();
        let mut vectors = BTreeMap::new();
        for tensor in config.tensors() {
            let name = tensor.name();
            let refused = || LoadError::Tensor(name.clone());
            let info = header.tensor(&name).ok_or_else(refused)?;
            let kind = QuantType::of(info.kind).ok_or_else(refused)?;
            let range = header.range(info);
            let bytes = read(range.clone()).map_err(|error| LoadError::Read(range, error))?;
            if u64::try_from(bytes.len()) != Ok(info.bytes) {
                return Err(refused());
            }
            if tensor.is_matrix() {
                let columns = usize::try_from(info.dimensions.row()).map_err(|_| refused())?;
                matrices.insert(tensor, Matrix::new(kind, columns, bytes)?);
            } else {
                let mut numbers = vec![0.0; weights(info).ok_or_else(refused)?];
                kind.decode(&bytes, &mut numbers)?;
                vectors.insert(tensor, numbers);
            }
        }
        let factors = vectors.get(&ModelTensor::RopeFactors).map(Vec::as_slice);
        let turns = [false, true].map(|has_window| Turns::new(&config.rope, has_window, factors));
        Ok(Self {
            config,
            matrices,
            vectors,
            turns,
        })
    }

    /// How it computes.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// A session that has read nothing. Keys and values are rounded as `cache` would keep them.
    pub fn session(&self, cache: CacheType) -> Session<'_> {
        Session {
            model: self,
            cache,
            tokens: 0,
            layers: (0..self.config.layers).map(|_| Layer::default()).collect(),
        }
    }

    /// `W · x`, and the bias added where there is one.
    fn product(&self, matrix: ModelTensor, bias: Option<ModelTensor>, inputs: &[f32]) -> Vec<f32> {
        let matrix = self.matrices.get(&matrix);
        let mut products = matrix.map_or_else(Vec::new, |matrix| matrix.product(inputs));
        if let Some(bias) = bias.and_then(|bias| self.vectors.get(&bias)) {
            add(&mut products, bias);
        }
        products
    }

    /// The norm of this name, or nothing where the model has none such.
    fn norm(&self, tensor: ModelTensor, vectors: &mut [f32]) {
        if let Some(weights) = self.vectors.get(&tensor) {
            rms_norm(vectors, weights, self.config.norm_epsilon);
        }
    }

    /// The embeddings of tokens, scaled.
    fn embed(&self, tokens: &[u32]) -> Result<Vec<f32>, ReadError> {
        let matrix = self.matrices.get(&ModelTensor::TokenEmbedding);
        let mut all = Vec::new();
        for token in tokens {
            let row = usize::try_from(*token).ok();
            let row = row.and_then(|row| matrix?.row(row));
            let row = row.ok_or(ReadError::UnknownToken(*token))?;
            all.extend(
                row.iter()
                    .map(|number| number * self.config.embedding_scale),
            );
        }
        Ok(all)
    }

    /// Gated feed-forward layer with its norms.
    fn feed_forward(&self, layer: u32, mut inputs: Vec<f32>) -> Vec<f32> {
        let part = |part| ModelTensor::Layer(layer, part);
        self.norm(part(LayerPart::FeedForwardNorm), &mut inputs);
        let mut gates = self.product(part(LayerPart::Gate), None, &inputs);
        let ups = self.product(part(LayerPart::Up), None, &inputs);
        gated(self.config.activation, &mut gates, &ups);
        let mut outputs = self.product(part(LayerPart::Down), None, &gates);
        self.norm(part(LayerPart::FeedForwardPostNorm), &mut outputs);
        outputs
    }

    /// The last norm, and a row of logits for each token.
    fn logits(&self, mut states: Vec<f32>) -> Vec<f32> {
        self.norm(ModelTensor::OutputNorm, &mut states);
        let output = if self.config.has_tied_output {
            ModelTensor::TokenEmbedding
        } else {
            ModelTensor::Output
        };
        let mut logits = self.product(output, None, &states);
        if let Some(cap) = self.config.final_soft_cap {
            for logit in &mut logits {
                *logit = soft_cap(*logit, cap);
            }
        }
        logits
    }
}

impl Session<'_> {
    /// Tokens that have been read.
    pub const fn tokens(&self) -> usize {
        self.tokens
    }

    /// Forgets all but the first so many tokens.
    pub fn cut(&mut self, tokens: usize) {
        self.tokens = self.tokens.min(tokens);
        let width = usize::try_from(self.model.config.kv_width()).unwrap_or(usize::MAX);
        let kept = self.tokens.saturating_mul(width);
        for layer in &mut self.layers {
            layer.keys.truncate(kept);
            layer.values.truncate(kept);
        }
    }

    /// Reads tokens; returns a row of logits for each of them, one after another.
    pub fn read(&mut self, tokens: &[u32]) -> Result<Vec<f32>, ReadError> {
        let after = self.tokens.saturating_add(tokens.len());
        if u32::try_from(after).map_or(true, |after| after > self.model.config.context_tokens) {
            return Err(ReadError::TooLong(after));
        }
        let mut states = self.model.embed(tokens)?;
        for layer in 0..self.model.config.layers {
            let attended = self.attention(layer, states.clone());
            add(&mut states, &attended);
            let forwarded = self.model.feed_forward(layer, states.clone());
            add(&mut states, &forwarded);
        }
        self.tokens = after;
        Ok(self.model.logits(states))
    }

    /// Attention of new tokens with its norms. Their keys and values are kept.
    fn attention(&mut self, layer: u32, mut inputs: Vec<f32>) -> Vec<f32> {
        let model = self.model;
        let part = |part| ModelTensor::Layer(layer, part);
        model.norm(part(LayerPart::AttentionNorm), &mut inputs);
        let project = |matrix, bias| model.product(part(matrix), Some(part(bias)), &inputs);
        let mut queries = project(LayerPart::Query, LayerPart::QueryBias);
        let mut keys = project(LayerPart::Key, LayerPart::KeyBias);
        let mut values = project(LayerPart::Value, LayerPart::ValueBias);
        model.norm(part(LayerPart::QueryNorm), &mut queries);
        model.norm(part(LayerPart::KeyNorm), &mut keys);
        let attention = Attention::of(&model.config, layer);
        let Attention {
            heads,
            kv_heads,
            head_size,
            ..
        } = attention;
        self.turn(layer, heads, &mut queries);
        self.turn(layer, kv_heads, &mut keys);
        round(self.cache, &mut keys);
        round(self.cache, &mut values);
        let kept = usize::try_from(layer).ok();
        let Some(kept) = kept.and_then(|layer| self.layers.get_mut(layer)) else {
            return Vec::new();
        };
        kept.keys.extend(keys);
        kept.values.extend(values);
        let mut outputs = Vec::new();
        for (index, queries) in queries.chunks_exact(heads * head_size).enumerate() {
            let seen = (self.tokens + index + 1) * kv_heads * head_size;
            let keys = kept.keys.get(..seen).unwrap_or_default();
            let values = kept.values.get(..seen).unwrap_or_default();
            outputs.extend(attention.attend(queries, keys, values));
        }
        let bias = Some(part(LayerPart::AttentionOutputBias));
        let mut outputs = model.product(part(LayerPart::AttentionOutput), bias, &outputs);
        model.norm(part(LayerPart::AttentionPostNorm), &mut outputs);
        outputs
    }

    /// Turns so many heads of each new token.
    fn turn(&self, layer: u32, heads: usize, vectors: &mut [f32]) {
        let [all, window] = &self.model.turns;
        let turns = if self.model.config.has_window(layer) {
            window
        } else {
            all
        };
        let size = usize::try_from(self.model.config.head_size).unwrap_or(usize::MAX);
        for (head, numbers) in vectors.chunks_exact_mut(size).enumerate() {
            turns.turn(self.tokens + head / heads.max(1), numbers);
        }
    }
}

/// Rounds to what a cache keeps.
fn round(cache: CacheType, numbers: &mut [f32]) {
    match cache {
        CacheType::F32 => {}
        CacheType::F16 => {
            for number in numbers {
                *number = half_to_float(half_from_float(*number));
            }
        }
    }
}

fn weights(info: &TensorInfo) -> Option<usize> {
    usize::try_from(info.dimensions.weights()).ok()
}
