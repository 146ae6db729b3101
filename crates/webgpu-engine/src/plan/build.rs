//! From a model to the dispatches of a step.

use super::dispatch::Work;
use super::{Choice, Dispatch, Kept, Reads, Scratch, Shape, Tensor, Weights};
use crate::gpu::{Gpu, GpuError, Recorder, Source};
use crate::kernels::{
    AddNorm, Attend, Embed, Matrix, Numbers, Pack, Product, RopeKeep, Step, Tokens, Variant,
};
use crate::model::{
    Config, DECODE_SPLIT_TOKENS, Demand, LayerPart, ModelTensor, kept_tokens, prefill_split_tokens,
};

/// The dispatches of one kind of step, in their order.
#[derive(Debug)]
pub struct Phase {
    dispatches: Vec<Dispatch>,
    /// How many of them are the layers'.
    of_layers: usize,
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

impl Phase {
    /// The steps of single tokens.
    pub async fn decode(
        gpu: &Gpu,
        (config, demand, weights): (&Config, &Demand, &Weights),
        buffers: (&Scratch, &Kept),
        choice: &Choice,
    ) -> Result<Self, GpuError> {
        let builder = Builder::new(gpu, config, demand, weights, buffers, (choice, 1));
        builder.phase().await
    }

    /// The shapes of its products, each once.
    pub fn shapes(&self) -> Vec<Shape> {
        let shapes = self.dispatches.iter().filter_map(|it| it.work.shape());
        let mut shapes: Vec<Shape> = shapes.collect();
        shapes.sort_unstable();
        shapes.dedup();
        shapes
    }

    /// Records the products of one shape alone.
    pub fn record_shape(&self, recorder: &mut Recorder<'_>, step: &Step, shape: &Shape) {
        for dispatch in &self.dispatches {
            if dispatch.work.shape().as_ref() == Some(shape) {
                dispatch.record(recorder, step);
            }
        }
    }

    /// Records all of it.
    pub fn record(&self, recorder: &mut Recorder<'_>, step: &Step) {
        for dispatch in &self.dispatches {
            dispatch.record(recorder, step);
        }
    }

    /// How many there are.
    pub const fn dispatches(&self) -> usize {
        self.dispatches.len()
    }

    /// How many of them are the layers'.
    pub const fn dispatches_of_layers(&self) -> usize {
        self.of_layers
    }

    /// What a step of this kind reads.
    pub fn reads(&self, step: &Step) -> Reads {
        let works = self.dispatches.iter().map(|it| it.work.reads(step));
        works.fold(Reads::default(), Reads::and)
    }
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
        if let Some([normed, _]) = &self.scratch.packed {
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
        };
        self.products(product).await?;
        self.pack_gated().await?;
        let packed = self.scratch.packed.as_ref().map(|[_, gated]| gated);
        let product = Products {
            label: "down",
            matrices: &[part(LayerPart::Down)],
            inputs: (&self.scratch.gated, packed),
            outputs: &self.scratch.addend,
            bias: None,
            gated: false,
            is_output: false,
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
        let packed = self.scratch.packed.as_ref();
        (&self.scratch.normed, packed.map(|[normed, _]| normed))
    }

    /// Packs the inside of the feed-forward layer, unless products read floats.
    async fn pack_gated(&mut self) -> Result<(), GpuError> {
        let Some([_, gated]) = &self.scratch.packed else {
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
        let work = attend(self.config, self.demand, layer, self.batch);
        let [keys, values] = self.kept_of(layer)?;
        let storage = [&self.scratch.qkv, keys, values, &self.scratch.partials];
        let source = work.source(self.gpu.abilities());
        self.push(&source, &storage, Work::Attend(work.clone()))
            .await?;
        let storage = [&self.scratch.partials, &self.scratch.attended];
        let source = work.merge_source();
        self.push(&source, &storage, Work::Merge(work)).await
    }

    /// One dispatch where every matrix lies in one buffer, otherwise one for each slice.
    async fn products(&mut self, wanted: Products<'_>) -> Result<(), GpuError> {
        let tensors = wanted.matrices.iter();
        let tensors = tensors.map(|matrix| self.matrix(*matrix));
        let tensors = tensors.collect::<Result<Vec<_>, _>>()?;
        let stride = if wanted.gated { 1 } else { tensors.len() };
        let stride = tensors.iter().take(stride).map(|tensor| rows(tensor)).sum();
        let is_whole = tensors.iter().all(|tensor| tensor.slices.len() == 1);
        if wanted.gated || is_whole {
            let slices = tensors.first().map_or(0, |tensor| tensor.slices.len());
            for slice in 0..slices {
                self.product(&wanted, &tensors, (slice, stride, None))
                    .await?;
            }
            return Ok(());
        }
        let mut first = 0;
        for tensor in &tensors {
            for slice in 0..tensor.slices.len() {
                self.product(&wanted, &[tensor], (slice, stride, Some(first)))
                    .await?;
            }
            first += rows(tensor);
        }
        Ok(())
    }

    /// One dispatch of a product: of each matrix the slice of this number. `first` is the output's row of the matrix
    /// where it is alone of several.
    async fn product(
        &mut self,
        wanted: &Products<'_>,
        tensors: &[&'p Tensor],
        (slice, stride, first): (usize, u32, Option<u32>),
    ) -> Result<(), GpuError> {
        let slices: Vec<_> = tensors
            .iter()
            .filter_map(|tensor| Some((tensor.kind, tensor.slices.get(slice)?)))
            .collect();
        let first_row = slices.first().map_or(0, |(_, slice)| slice.first_row);
        let product = Product {
            label: wanted.label.to_owned(),
            matrices: slices
                .iter()
                .map(|(kind, slice)| Matrix {
                    kind: *kind,
                    rows: slice.rows,
                })
                .collect(),
            inputs: tensors.first().map_or(0, |tensor| tensor.columns),
            has_bias: wanted.bias.is_some(),
            gated: wanted.gated.then_some(self.config.activation),
            soft_cap: self.config.final_soft_cap.filter(|_| wanted.is_output),
            output_first: first.unwrap_or(0) + first_row,
            output_stride: stride,
            tokens: if wanted.is_output {
                Tokens::Output
            } else {
                Tokens::All
            },
        };
        let (work, source, inputs) = self.kernel_of(product, wanted);
        let mut storage = vec![inputs];
        storage.extend(slices.iter().map(|(_, slice)| &slice.buffer));
        if let Some(bias) = wanted.bias {
            storage.push(self.vector(bias)?);
        }
        storage.push(wanted.outputs);
        self.push(&source, &storage, work).await
    }

    /// The kernel that computes a product, and the inputs that it reads.
    fn kernel_of<'a>(
        &self,
        product: Product,
        wanted: &Products<'a>,
    ) -> (Work, Source, &'a wgpu::Buffer) {
        let abilities = self.gpu.abilities();
        let (floats, packed) = wanted.inputs;
        if !wanted.is_output && self.choice.is_tiled(self.batch) {
            let source = product.tiled_source(abilities);
            return (Work::Tiled(product), source, floats);
        }
        let tokens = if wanted.is_output {
            self.batch.min(self.demand.logit_rows)
        } else {
            self.batch
        };
        let variant = Variant {
            numbers: match packed {
                Some(_) => Numbers::PackedDot,
                None => Numbers::Float,
            },
            ..self.choice.variant(&product, tokens)
        };
        let source = product.source(variant, abilities);
        let work = if wanted.is_output {
            Work::Output(product, variant)
        } else {
            Work::Product(product, variant)
        };
        (work, source, packed.unwrap_or(floats))
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

/// A product as the plan wants it.
struct Products<'a> {
    label: &'static str,
    matrices: &'a [ModelTensor],
    /// As floats, and in 8 bits where they were packed.
    inputs: (&'a wgpu::Buffer, Option<&'a wgpu::Buffer>),
    outputs: &'a wgpu::Buffer,
    bias: Option<ModelTensor>,
    gated: bool,
    is_output: bool,
}

/// The attention of a layer in steps of up to so many tokens.
pub(super) fn attend(config: &Config, demand: &Demand, layer: u32, batch: u32) -> Attend {
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
        batch_tokens: batch,
        split_tokens: if batch == 1 {
            DECODE_SPLIT_TOKENS
        } else {
            prefill_split_tokens(demand)
        },
    }
}

fn rows(tensor: &Tensor) -> u32 {
    tensor.slices.iter().map(|slice| slice.rows).sum()
}

fn missing(tensor: ModelTensor) -> GpuError {
    GpuError::Refused(format!("tensor `{}` is not loaded", tensor.name()))
}
