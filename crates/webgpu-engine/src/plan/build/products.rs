//! Products of a step: one dispatch where every matrix lies in one buffer, otherwise one for each slice; by the kernel that
//! the adapter runs best.

use super::Builder;
use crate::gpu::{GpuError, Source};
use crate::kernels::{Matrix, Numbers, Product, Tile, Tokens, Variant};
use crate::model::ModelTensor;
use crate::plan::Tensor;
use crate::plan::dispatch::Work;

/// A product as the plan wants it.
pub(super) struct Products<'a> {
    pub(super) label: &'static str,
    pub(super) matrices: &'a [ModelTensor],
    /// As floats, and in 8 bits where they were packed.
    pub(super) inputs: (&'a wgpu::Buffer, Option<&'a wgpu::Buffer>),
    pub(super) outputs: &'a wgpu::Buffer,
    pub(super) bias: Option<ModelTensor>,
    pub(super) gated: bool,
    pub(super) is_output: bool,
    /// Whether its inputs are of a size that 16 bits hold: behind a norm, or averages. Others grow with the model.
    pub(super) is_tame: bool,
}

impl<'p> Builder<'p> {
    /// One dispatch where every matrix lies in one buffer, otherwise one for each slice.
    pub(super) async fn products(&mut self, wanted: Products<'_>) -> Result<(), GpuError> {
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
            let tile = if wanted.is_tame {
                self.choice.tile
            } else {
                Tile::Floats
            };
            let source = product.tiled_source(tile, abilities);
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
}

fn rows(tensor: &Tensor) -> u32 {
    tensor.slices.iter().map(|slice| slice.rows).sum()
}
