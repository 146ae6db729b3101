//! From a model to the dispatches of a step.

mod products;

use products::Products;

use super::dispatch::Work;
use super::{Choice, Dispatch, Kept, Phase, Scratch, Tensor, Weights};
use crate::gpu::{Gpu, GpuError, Source};
use crate::kernels::{AddNorm, Attend, Embed, Pack, RopeKeep};
use crate::model::{
    Config, DECODE_SPLIT_TOKENS, Demand, LayerPart, ModelTensor, kept_tokens, prefill_split_tokens,
};

impl Phase {
    /// The steps of up to so many tokens.
    pub async fn build(
        gpu: &Gpu,
        (config, demand, weights): (&Config, &Demand, &Weights),
        buffers: (&Scratch, &Kept),
        choice: (&Choice, u32),
    ) -> Result<Self, GpuError> {
        let builder = Builder::new(gpu, config, demand, weights, buffers, choice);
        builder.phase().await
    }
}

/// Makes a phase for steps of up to so many tokens.
pub(super) struct Builder<'p> {
    gpu: &'p Gpu,
    config: &'p Config,
    demand: &'p Demand,
    weights: &'p Weights,
    scratch: &'p Scratch,
    kept: &'p Kept,
    choice: &'p Choice,
    batch: u32,
    dispatches: Vec<Dispatch>,
}

impl<'p> Builder<'p> {
    pub(super) const fn new(
        gpu: &'p Gpu,
        config: &'p Config,
        demand: &'p Demand,
        weights: &'p Weights,
        (scratch, kept): (&'p Scratch, &'p Kept),
        (choice, batch): (&'p Choice, u32),
    ) -> Self {
        Self {
            gpu,
            config,
            demand,
            weights,
            scratch,
            kept,
            choice,
            batch,
            dispatches: Vec::new(),
        }
    }

    pub(super) async fn phase(mut self) -> Result<Phase, GpuError> {
        self.embed().await?;
        let first = ModelTensor::Layer(0, LayerPart::AttentionNorm);
        self.add_norm("first norm", None, first).await?;
        let before = self.dispatches.len();
        for layer in 0..self.config.layers {
            self.attention(layer).await?;
            self.feed_forward(layer).await?;
        }
        let of_layers = self.dispatches.len() - before;
        self.output().await?;
        Ok(Phase {
            dispatches: self.dispatches,
            of_layers,
        })
    }

    async fn embed(&mut self) -> Result<(), GpuError> {
        let tensor = self.matrix(ModelTensor::TokenEmbedding)?;
        for slice in &tensor.slices {
            let embed = Embed {
                label: "embed".to_owned(),
                kind: tensor.kind,
                rows: slice.rows,
                first_row: slice.first_row,
                width: self.config.embedding,
                scale: self.config.embedding_scale,
            };
            let source = embed.source(self.gpu.abilities());
            let storage = [&self.kept.ids, &slice.buffer, &self.scratch.states];
            self.push(&source, &storage, Work::Embed(embed)).await?;
        }
        Ok(())
    }

    /// Adds what the last product made, if anything, and norms the states with the weights of `norm`.
    async fn add_norm(
        &mut self,
        label: &str,
        post: Option<(bool, ModelTensor)>,
        norm: ModelTensor,
    ) -> Result<(), GpuError> {
        let post_norm = post.filter(|(has, _)| *has).map(|(_, tensor)| tensor);
        let work = AddNorm {
            label: label.to_owned(),
            width: self.config.embedding,
            epsilon: self.config.norm_epsilon,
            has_addend: post.is_some(),
            has_post_norm: post_norm.is_some(),
            is_packed: self.choice.is_packed(),
        };
        let mut storage = vec![&self.scratch.states];
        if post.is_some() {
            storage.push(&self.scratch.addend);
        }
        if let Some(tensor) = post_norm {
            storage.push(self.vector(tensor)?);
        }
        storage.push(self.vector(norm)?);
        storage.push(&self.scratch.normed);
        if let Some([normed, _]) = self.packed() {
            storage.push(normed);
        }
        let source = work.source(self.gpu.abilities());
        self.push(&source, &storage, Work::AddNorm(work)).await
    }

    async fn attention(&mut self, layer: u32) -> Result<(), GpuError> {
        let part = |part| ModelTensor::Layer(layer, part);
        let matrices = [LayerPart::Query, LayerPart::Key, LayerPart::Value].map(part);
        let has_bias = self.config.has(LayerPart::QueryBias);
        let bias = has_bias.then_some(part(LayerPart::QueryBias));
        let product = Products {
            label: "query, key, value",
            matrices: &matrices,
            inputs: self.normed(),
            outputs: &self.scratch.qkv,
            bias,
            gated: false,
            is_output: false,
            is_tame: true,
        };
        self.products(product).await?;
        self.rope_keep(layer).await?;
        self.attend(layer).await?;
        let has_bias = self.config.has(LayerPart::AttentionOutputBias);
        let product = Products {
            label: "attention output",
            matrices: &[part(LayerPart::AttentionOutput)],
            inputs: (&self.scratch.attended, None),
            outputs: &self.scratch.addend,
            bias: has_bias.then_some(part(LayerPart::AttentionOutputBias)),
            gated: false,
            is_output: false,
            is_tame: true,
        };
        self.products(product).await?;
        let post = (
            self.config.has_post_norms,
            part(LayerPart::AttentionPostNorm),
        );
        self.add_norm(
            "attention added",
            Some(post),
            part(LayerPart::FeedForwardNorm),
        )
        .await
    }

    async fn feed_forward(&mut self, layer: u32) -> Result<(), GpuError> {
        let part = |part| ModelTensor::Layer(layer, part);
        let product = Products {
            label: "gate, up",
            matrices: &[part(LayerPart::Gate), part(LayerPart::Up)],
            inputs: self.normed(),
            outputs: &self.scratch.gated,
            bias: None,
            gated: true,
            is_output: false,
            is_tame: true,
        };
        self.products(product).await?;
        self.pack_gated().await?;
        let packed = self.packed().map(|[_, gated]| gated);
        let product = Products {
            label: "down",
            matrices: &[part(LayerPart::Down)],
            inputs: (&self.scratch.gated, packed),
            outputs: &self.scratch.addend,
            bias: None,
            gated: false,
            is_output: false,
            is_tame: false,
        };
        self.products(product).await?;
        let post = (
            self.config.has_post_norms,
            part(LayerPart::FeedForwardPostNorm),
        );
        let next = if layer + 1 < self.config.layers {
            ModelTensor::Layer(layer + 1, LayerPart::AttentionNorm)
        } else {
            ModelTensor::OutputNorm
        };
        self.add_norm("feed-forward added", Some(post), next).await
    }

    /// The states behind a norm.
    fn normed(&self) -> (&'p wgpu::Buffer, Option<&'p wgpu::Buffer>) {
        let packed = self.packed().map(|[normed, _]| normed);
        (&self.scratch.normed, packed)
    }

    /// Activations in 8 bits, where products are of whole numbers: the states behind a norm, and the inside of the
    /// feed-forward layer.
    fn packed(&self) -> Option<&'p [wgpu::Buffer; 2]> {
        let packed = self.scratch.packed.as_ref();
        packed.filter(|_| self.choice.is_packed())
    }

    /// Packs the inside of the feed-forward layer, unless products read floats.
    async fn pack_gated(&mut self) -> Result<(), GpuError> {
        let Some([_, gated]) = self.packed() else {
            return Ok(());
        };
        if self.choice.is_tiled(self.batch) {
            return Ok(());
        }
        let pack = Pack {
            label: "pack".to_owned(),
            inputs: self.config.feed_forward,
        };
        let storage = [&self.scratch.gated, gated];
        self.push(&pack.source(), &storage, Work::Pack(pack)).await
    }

    async fn output(&mut self) -> Result<(), GpuError> {
        let matrix = if self.config.has_tied_output {
            ModelTensor::TokenEmbedding
        } else {
            ModelTensor::Output
        };
        let product = Products {
            label: "logits",
            matrices: &[matrix],
            // As floats in any case: of all products, rounding this one changes most which token is likeliest.
            inputs: (&self.scratch.normed, None),
            outputs: &self.scratch.logits,
            bias: None,
            gated: false,
            is_output: true,
            is_tame: true,
        };
        self.products(product).await
    }

    async fn rope_keep(&mut self, layer: u32) -> Result<(), GpuError> {
        let config = self.config;
        let work = RopeKeep {
            label: "turn and keep".to_owned(),
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_size: config.head_size,
            rope_dimensions: config.rope.dimensions,
            pairs: config.rope.pairs,
            has_head_norms: config.has_head_norms,
            epsilon: config.norm_epsilon,
            kept_tokens: kept_tokens(config, layer, self.demand),
            cache: self.demand.cache,
        };
        let [turns, window_turns] = &self.scratch.turns;
        let turns = if config.has_window(layer) {
            window_turns
        } else {
            turns
        };
        let [keys, values] = self.kept_of(layer)?;
        let mut storage = vec![&self.scratch.qkv];
        if config.has_head_norms {
            storage.push(self.vector(ModelTensor::Layer(layer, LayerPart::QueryNorm))?);
            storage.push(self.vector(ModelTensor::Layer(layer, LayerPart::KeyNorm))?);
        }
        storage.extend([turns, keys, values]);
        let source = work.source(self.gpu.abilities());
        self.push(&source, &storage, Work::RopeKeep(work)).await
    }

    async fn attend(&mut self, layer: u32) -> Result<(), GpuError> {
        let work = self.attention_of(layer);
        let [keys, values] = self.kept_of(layer)?;
        let storage = [&self.scratch.qkv, keys, values, &self.scratch.partials];
        let source = work.source();
        self.push(&source, &storage, Work::Attend(work.clone()))
            .await?;
        let storage = [&self.scratch.partials, &self.scratch.attended];
        let source = work.merge_source();
        self.push(&source, &storage, Work::Merge(work)).await
    }

    /// The attention of a layer.
    fn attention_of(&self, layer: u32) -> Attend {
        let (config, demand) = (self.config, self.demand);
        let window = config.window.as_ref().filter(|_| config.has_window(layer));
        Attend {
            label: "attend".to_owned(),
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_size: config.head_size,
            scale: config.attention_scale,
            soft_cap: config.attention_soft_cap,
            window: window.map(|window| window.tokens),
            kept_tokens: kept_tokens(config, layer, demand),
            cache: demand.cache,
            batch_tokens: self.batch,
            split_tokens: if self.batch == 1 {
                DECODE_SPLIT_TOKENS
            } else {
                prefill_split_tokens(demand)
            },
            is_software: self.gpu.abilities().is_software,
        }
    }

    async fn push(
        &mut self,
        source: &Source,
        storage: &[&wgpu::Buffer],
        work: Work,
    ) -> Result<(), GpuError> {
        let program = self.gpu.program(source).await?;
        let bound = self.gpu.bind(&program, storage, &self.scratch.step)?;
        self.dispatches.push(Dispatch { bound, work });
        Ok(())
    }

    fn matrix(&self, tensor: ModelTensor) -> Result<&'p Tensor, GpuError> {
        self.weights.matrix(tensor).ok_or_else(|| missing(tensor))
    }

    fn vector(&self, tensor: ModelTensor) -> Result<&'p wgpu::Buffer, GpuError> {
        self.weights.vector(tensor).ok_or_else(|| missing(tensor))
    }

    fn kept_of(&self, layer: u32) -> Result<&'p [wgpu::Buffer; 2], GpuError> {
        let index = usize::try_from(layer).ok();
        let kept = index.and_then(|index| self.kept.layers.get(index));
        kept.ok_or_else(|| missing(ModelTensor::Layer(layer, LayerPart::Key)))
    }
}

fn missing(tensor: ModelTensor) -> GpuError {
    GpuError::Refused(format!("tensor `{}` is not loaded", tensor.name()))
}
