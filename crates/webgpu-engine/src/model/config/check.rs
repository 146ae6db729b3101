//! Whether there is all that a model needs, and whether kernels can compute with its sizes.

use super::Config;
use crate::model::{ModelTensor, Refusal};
use crate::quant::QuantType;
use gguf::Header;

/// Numbers that kernels read at once.
const WIDTH_STEP: u64 = 32;

/// Heads are read in vectors of four numbers, and a workgroup keeps those of several queries.
const HEAD_STEP: u32 = 4;
const HEAD_MAX: u32 = 256;

/// A workgroup turns a head, and WebGPU has so many in one direction.
const HEADS_MAX: u64 = 65_535;

impl Config {
    /// Holds the index of tensors against what the model needs.
    pub(super) fn check(&self, header: &Header) -> Result<(), Refusal> {
        self.check_sizes()?;
        let mut known = 0;
        for tensor in self.tensors() {
            let name = tensor.name();
            let Some(found) = header.tensor(&name) else {
                return Err(Refusal::MissingTensor(name));
            };
            let wanted = self.shape(tensor);
            if !found.dimensions.is(&wanted) {
                return Err(Refusal::TensorShape {
                    name,
                    found: found.dimensions,
                    wanted,
                });
            }
            let can_run = match QuantType::of(found.kind) {
                Some(QuantType::F32) => true,
                Some(_) => tensor.is_matrix(),
                None => false,
            };
            if !can_run {
                return Err(Refusal::TensorType {
                    name,
                    kind: found.kind.name,
                });
            }
            known += 1;
        }
        if known == header.tensors().len() {
            return Ok(());
        }
        let names: std::collections::BTreeSet<String> =
            self.tensors().map(ModelTensor::name).collect();
        let mut others = header.tensors().iter();
        match others.find(|tensor| !names.contains(&tensor.name)) {
            Some(other) => Err(Refusal::UnknownTensor(other.name.clone())),
            None => Ok(()),
        }
    }

    /// What kernels take for granted about sizes.
    fn check_sizes(&self) -> Result<(), Refusal> {
        let is_whole = |width: u64| width.is_multiple_of(WIDTH_STEP);
        if !is_whole(self.embedding.into()) || !is_whole(self.feed_forward.into()) {
            return Err(Refusal::Unsupported(
                "states or a feed-forward layer whose numbers are no multiple of 32",
            ));
        }
        if !is_whole(self.query_width()) {
            return Err(Refusal::Unsupported(
                "queries whose numbers are no multiple of 32",
            ));
        }
        if !self.head_size.is_multiple_of(HEAD_STEP) || self.head_size > HEAD_MAX {
            return Err(Refusal::Unsupported(
                "heads of other sizes than multiples of 4 up to 256",
            ));
        }
        let heads = u64::from(self.heads) + 2 * u64::from(self.kv_heads);
        if heads > HEADS_MAX {
            return Err(Refusal::Unsupported(
                "more heads than a dispatch has workgroups",
            ));
        }
        Ok(())
    }
}
