//! The buffers beside the weights: those that all sessions compute in, and what each session keeps. Their lengths are
//! what [`crate::model::MemoryNeed`] adds up.

use crate::gpu::{Gpu, GpuError};
use crate::kernels::{STEP_BYTES, Sampling, SamplingBuffer};
use crate::model::{Config, Demand, Lengths, kept_bytes};

/// What is computed in. One step runs at a time, so all sessions share it.
#[derive(Debug)]
pub struct Scratch {
    /// What goes on from layer to layer.
    pub states: wgpu::Buffer,
    /// It behind a norm.
    pub normed: wgpu::Buffer,
    /// Queries, keys and values.
    pub qkv: wgpu::Buffer,
    /// Attention's splits.
    pub partials: wgpu::Buffer,
    /// What attention makes.
    pub attended: wgpu::Buffer,
    /// What is to be added to the states.
    pub addend: wgpu::Buffer,
    /// Inside of the feed-forward layer.
    pub gated: wgpu::Buffer,
    /// The states behind a norm, and the inside of the feed-forward layer, in 8 bits, where products may be of whole
    /// numbers.
    pub packed: Option<[wgpu::Buffer; 2]>,
    /// Logits of as many tokens as are wanted at once.
    pub logits: wgpu::Buffer,
    /// What the stages of sampling tell each other.
    pub sampling: wgpu::Buffer,
    /// Cosine and sine for each token and pair, of layers without and with a window.
    pub turns: [wgpu::Buffer; 2],
    /// The parameters of the step.
    pub step: wgpu::Buffer,
}

/// What a session keeps.
#[derive(Debug)]
pub struct Kept {
    /// Keys and values of each layer.
    pub layers: Vec<[wgpu::Buffer; 2]>,
    /// The tokens of the step; a draw writes the next one here.
    pub ids: wgpu::Buffer,
    /// How often each token was drawn in the answer.
    pub counts: wgpu::Buffer,
    /// What is added to the logit of each token.
    pub biases: wgpu::Buffer,
    /// Which tokens may be drawn.
    pub mask: wgpu::Buffer,
    /// What was drawn last.
    pub results: wgpu::Buffer,
}

impl Scratch {
    /// For a model and what it is to be used for.
    pub fn new(gpu: &Gpu, config: &Config, demand: &Demand) -> Result<Self, GpuError> {
        let lengths = Lengths::of(config, demand);
        let words = |label: &str, words: u64| gpu.storage(label, words.saturating_mul(4));
        Ok(Self {
            packed: if demand.has_packed {
                Some([
                    words("normed, packed", lengths.packed_states)?,
                    words("gated, packed", lengths.packed_gated)?,
                ])
            } else {
                None
            },
            states: words("states", lengths.states)?,
            normed: words("normed", lengths.states)?,
            qkv: words("queries, keys, values", lengths.qkv)?,
            partials: words("splits", lengths.partials)?,
            attended: words("attended", lengths.queries)?,
            addend: words("addend", lengths.states)?,
            gated: words("gated", lengths.gated)?,
            logits: words("logits", lengths.logits)?,
            sampling: words("sampling", lengths.sampling_scratch)?,
            turns: [
                words("turns", lengths.turns)?,
                words("turns of windows", lengths.window_turns)?,
            ],
            step: gpu.uniform("step", STEP_BYTES)?,
        })
    }
}

impl Kept {
    /// For one session.
    pub fn new(gpu: &Gpu, config: &Config, demand: &Demand) -> Result<Self, GpuError> {
        let layers = (0..config.layers).map(|layer| {
            let bytes = kept_bytes(config, layer, demand);
            Ok([
                gpu.storage(&format!("keys {layer}"), bytes)?,
                gpu.storage(&format!("values {layer}"), bytes)?,
            ])
        });
        let tokens = Lengths::of(config, demand).tokens;
        let sampling = Sampling {
            vocabulary: config.vocabulary,
        };
        let words = |label: &str, buffer| gpu.storage(label, sampling.buffer_words(buffer) * 4);
        Ok(Self {
            layers: layers.collect::<Result<_, GpuError>>()?,
            ids: gpu.storage("ids", tokens * 4)?,
            counts: words("counts", SamplingBuffer::Counts)?,
            biases: words("biases", SamplingBuffer::Biases)?,
            mask: words("mask", SamplingBuffer::Mask)?,
            results: words("results", SamplingBuffer::Results)?,
        })
    }
}

impl Drop for Scratch {
    /// See [`super::Weights`].
    fn drop(&mut self) {
        let buffers = [
            &self.states,
            &self.normed,
            &self.qkv,
            &self.partials,
            &self.attended,
            &self.addend,
            &self.gated,
            &self.logits,
            &self.sampling,
            &self.step,
        ];
        let packed = self.packed.iter().flatten();
        let buffers = buffers.into_iter().chain(&self.turns).chain(packed);
        buffers.for_each(wgpu::Buffer::destroy);
    }
}

impl Drop for Kept {
    /// See [`super::Weights`].
    fn drop(&mut self) {
        let buffers = [
            &self.ids,
            &self.counts,
            &self.biases,
            &self.mask,
            &self.results,
        ];
        let layers = self.layers.iter().flatten();
        buffers
            .into_iter()
            .chain(layers)
            .for_each(wgpu::Buffer::destroy);
    }
}
