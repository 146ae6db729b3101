//! Where the weights lie on the device: matrices in slices of rows that fit a binding, vectors as they are. And the way
//! there: bytes of a tensor come in pieces of any size, and go on block by block.

mod places;

use std::collections::BTreeMap;

use crate::gpu::{Gpu, GpuError};
use crate::model::{Config, LayerPart, ModelTensor};
use crate::quant::{NotBlocks, QuantType};
use places::{cut_alike, offset, owner};

/// Rows of slices are a multiple of this, so that a workgroup's rows never lie in two.
const SLICE_ROWS: u32 = 64;

/// Rows of a matrix that lie in one buffer.
#[derive(Debug)]
pub struct Slice {
    /// The first of them.
    pub first_row: u32,
    /// How many.
    pub rows: u32,
    /// Their blocks; where the type's layout says so, all scales behind all bodies.
    pub buffer: wgpu::Buffer,
    scales_at: u64,
}

/// A matrix on the device.
#[derive(Debug)]
pub struct Tensor {
    /// The type of its weights.
    pub kind: QuantType,
    /// Weights of a row.
    pub columns: u32,
    /// Its rows.
    pub slices: Vec<Slice>,
}

/// All weights of a model.
#[derive(Debug, Default)]
pub struct Weights {
    matrices: BTreeMap<ModelTensor, Tensor>,
    /// The biases of queries, keys and values lie one after another in one buffer, under the name of the queries'.
    vectors: BTreeMap<ModelTensor, wgpu::Buffer>,
    /// Divisors of turns stay with the host, which makes the turns.
    factors: Vec<f32>,
}

/// How one tensor is being brought to the device.
#[derive(Debug)]
pub struct Upload {
    tensor: ModelTensor,
    kind: QuantType,
    /// Blocks that have gone on.
    blocks: u64,
    /// What has come and is less than can go on.
    pending: Vec<u8>,
    bodies: Vec<u8>,
    scales: Vec<u8>,
}

/// Bytes that go on at once: enough that calls do not count, little beside the heap of a page.
const PIECE_BYTES: usize = 1 << 20;

/// What cannot be put on this device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UploadError {
    /// The device has no room or is gone.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// A row alone is larger than a binding.
    #[error(
        "a row of tensor `{name}` has {bytes} bytes, and this adapter lends a kernel at most {most}"
    )]
    RowTooLarge {
        /// Which tensor.
        name: String,
        /// Bytes of a row.
        bytes: u64,
        /// What can be lent.
        most: u64,
    },
    /// The tensor does not fit its header.
    #[error("tensor `{0}` does not fit the header")]
    Tensor(String),
    /// It is no whole number of blocks.
    #[error(transparent)]
    NotBlocks(#[from] NotBlocks),
}

impl Tensor {
    /// The buffers of a matrix, nothing in them yet. All matrices that are used in one kernel row by row must be cut
    /// alike: `kinds` are their types.
    fn new(
        gpu: &Gpu,
        name: &str,
        (kind, kinds): (QuantType, &[QuantType]),
        (columns, rows): (u32, u32),
    ) -> Result<Self, UploadError> {
        let most = gpu.abilities().binding_bytes_max;
        let bytes_of = |kind: QuantType, rows: u32| {
            let weights = u64::from(columns) * u64::from(rows);
            let bytes = kind.gpu_bytes(weights);
            bytes.map_or(u64::MAX, |(bodies, scales)| bodies.saturating_add(scales))
        };
        let fits = |rows: u32| kinds.iter().all(|kind| bytes_of(*kind, rows) <= most);
        let step = if fits(rows) {
            rows
        } else {
            let units = (1..=rows / SLICE_ROWS).rev();
            let mut units = units.map(|unit| unit * SLICE_ROWS);
            units
                .find(|rows| fits(*rows))
                .ok_or_else(|| UploadError::RowTooLarge {
                    name: name.to_owned(),
                    bytes: bytes_of(kind, SLICE_ROWS) / u64::from(SLICE_ROWS),
                    most,
                })?
        };
        let mut slices = Vec::new();
        let mut first_row = 0;
        while first_row < rows {
            let count = step.min(rows - first_row);
            let weights = u64::from(columns) * u64::from(count);
            let (bodies, scales) = kind
                .gpu_bytes(weights)
                .ok_or_else(|| UploadError::Tensor(name.to_owned()))?;
            slices.push(Slice {
                first_row,
                rows: count,
                buffer: gpu.storage(name, bodies + scales)?,
                scales_at: bodies,
            });
            first_row += count;
        }
        Ok(Self {
            kind,
            columns,
            slices,
        })
    }

    /// The slice in which a block lies, and its place there.
    fn place(&self, block: u64) -> Option<(&Slice, u64, u64)> {
        let per_row =
            u64::from(self.columns) / u64::try_from(self.kind.quant().block_weights).ok()?;
        let mut first = 0;
        for slice in &self.slices {
            let blocks = u64::from(slice.rows) * per_row;
            if block < first + blocks {
                return Some((slice, block - first, blocks));
            }
            first += blocks;
        }
        None
    }
}

impl Weights {
    /// Buffers for a model's weights of these types.
    pub fn new(
        gpu: &Gpu,
        config: &Config,
        kind_of: impl Fn(ModelTensor) -> Option<QuantType>,
    ) -> Result<Self, UploadError> {
        let mut weights = Self::default();
        for tensor in config.tensors() {
            let name = tensor.name();
            let refused = || UploadError::Tensor(name.clone());
            let kind = kind_of(tensor).ok_or_else(refused)?;
            let shape = config.shape(tensor);
            let length = |length: u64| u32::try_from(length).map_err(|_| refused());
            if tensor.is_matrix() {
                let kinds: Vec<_> = cut_alike(tensor)
                    .into_iter()
                    .map(|other| kind_of(other).ok_or_else(refused))
                    .collect::<Result<_, _>>()?;
                let size = (length(shape.row())?, length(shape.rows())?);
                let matrix = Tensor::new(gpu, &name, (kind, &kinds), size)?;
                weights.matrices.insert(tensor, matrix);
            } else if let Some(owner) = owner(tensor) {
                let numbers = match tensor {
                    ModelTensor::Layer(_, LayerPart::QueryBias) => {
                        config.query_width() + 2 * config.kv_width()
                    }
                    ModelTensor::Layer(..)
                    | ModelTensor::TokenEmbedding
                    | ModelTensor::Output
                    | ModelTensor::OutputNorm
                    | ModelTensor::RopeFactors => shape.weights(),
                };
                if owner == tensor {
                    let buffer = gpu.storage(&name, numbers.saturating_mul(4))?;
                    weights.vectors.insert(tensor, buffer);
                }
            }
        }
        Ok(weights)
    }

    /// A matrix.
    pub fn matrix(&self, tensor: ModelTensor) -> Option<&Tensor> {
        self.matrices.get(&tensor)
    }

    /// A vector.
    pub fn vector(&self, tensor: ModelTensor) -> Option<&wgpu::Buffer> {
        self.vectors.get(&tensor)
    }

    /// Divisors of turns.
    pub fn factors(&self) -> Option<&[f32]> {
        (!self.factors.is_empty()).then_some(self.factors.as_slice())
    }

    /// Takes a piece of a tensor's bytes.
    pub fn push(
        &self,
        gpu: &Gpu,
        upload: &mut Upload,
        mut bytes: &[u8],
    ) -> Result<(), UploadError> {
        if !upload.tensor.is_matrix() {
            // Vectors have as many numbers as a state at most, which the header has bounded.
            upload.pending.extend_from_slice(bytes);
            return Ok(());
        }
        while !bytes.is_empty() {
            let room = PIECE_BYTES.saturating_sub(upload.pending.len());
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            upload.pending.extend_from_slice(now);
            bytes = later;
            if upload.pending.len() >= PIECE_BYTES {
                self.flush_matrix(gpu, upload, false)?;
            }
        }
        Ok(())
    }

    /// All bytes of the tensor have come.
    pub fn finish(
        &mut self,
        gpu: &Gpu,
        config: &Config,
        mut upload: Upload,
    ) -> Result<(), UploadError> {
        if upload.tensor.is_matrix() {
            return self.flush_matrix(gpu, &mut upload, true);
        }
        self.write_vector(gpu, config, upload)
    }

    fn write_vector(
        &mut self,
        gpu: &Gpu,
        config: &Config,
        upload: Upload,
    ) -> Result<(), UploadError> {
        let pending = upload.pending;
        if upload.tensor == ModelTensor::RopeFactors {
            let words = pending.chunks_exact(4);
            let floats = words.filter_map(|word| Some(f32::from_le_bytes(word.try_into().ok()?)));
            self.factors = floats.collect();
            return Ok(());
        }
        let place = owner(upload.tensor).and_then(|owner| self.vectors.get(&owner));
        let buffer = place.ok_or_else(|| UploadError::Tensor(upload.tensor.name()))?;
        gpu.write(buffer, offset(config, upload.tensor), &pending);
        Ok(())
    }

    /// Sends on whole blocks: an even number of them, or those up to the end of a slice, so that words are whole.
    fn flush_matrix(
        &self,
        gpu: &Gpu,
        upload: &mut Upload,
        is_last: bool,
    ) -> Result<(), UploadError> {
        let refused = || UploadError::Tensor(upload.tensor.name());
        let matrix = self.matrices.get(&upload.tensor).ok_or_else(refused)?;
        let block_bytes = upload.kind.quant().block_bytes;
        let mut taken = 0;
        while let Some(rest) = upload.pending.get(taken..).filter(|rest| !rest.is_empty()) {
            let (slice, at, blocks) = matrix.place(upload.blocks).ok_or_else(refused)?;
            let left = usize::try_from(blocks - at).unwrap_or(usize::MAX);
            let have = rest.len() / block_bytes;
            let now = if have >= left { left } else { have / 2 * 2 };
            if now == 0 {
                break;
            }
            let bytes = rest.get(..now * block_bytes).ok_or_else(refused)?;
            upload.bodies.clear();
            upload.scales.clear();
            upload
                .kind
                .split(bytes, &mut upload.bodies, &mut upload.scales)?;
            let body_bytes = upload.bodies.len() / now;
            for part in [&mut upload.bodies, &mut upload.scales] {
                part.resize(part.len().next_multiple_of(4), 0);
            }
            let body_at = at * u64::try_from(body_bytes).unwrap_or(u64::MAX);
            gpu.write(&slice.buffer, body_at, &upload.bodies);
            if !upload.scales.is_empty() {
                gpu.write(&slice.buffer, slice.scales_at + at * 2, &upload.scales);
            }
            taken += now * block_bytes;
            upload.blocks += u64::try_from(now).unwrap_or(u64::MAX);
        }
        upload.pending.drain(..taken);
        if is_last && !upload.pending.is_empty() {
            return Err(refused());
        }
        Ok(())
    }
}

impl Drop for Weights {
    /// A page's memory on the device comes back when its collector happens to run, unless it is given back.
    fn drop(&mut self) {
        let slices = self.matrices.values().flat_map(|matrix| &matrix.slices);
        let buffers = slices.map(|slice| &slice.buffer);
        buffers
            .chain(self.vectors.values())
            .for_each(wgpu::Buffer::destroy);
    }
}

impl Upload {
    /// Begins a tensor.
    pub const fn new(tensor: ModelTensor, kind: QuantType) -> Self {
        Self {
            tensor,
            kind,
            blocks: 0,
            pending: Vec::new(),
            bodies: Vec::new(),
            scales: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    //! The way of a tensor to the device.

    use gguf_writer::seeded::family::{Family, Small};

    use super::*;

    #[test]
    fn a_vector_longer_than_a_piece_is_taken_to_its_end() {
        let Some(gpu) = crate::gpu::tests::gpu() else {
            return;
        };
        let small = Small {
            family: Family::Llama,
            width: 64,
            seed: 7,
        };
        let encode =
            |weights: &[f32]| (0, weights.iter().flat_map(|it| it.to_le_bytes()).collect());
        let file = small.write(&encode).expect("fits").to_bytes();
        let header = gguf::read(&file, None).expect("a header");
        let config = Config::read(&header).expect("can be run");
        let weights = Weights::new(&gpu, &config, |_| Some(QuantType::F32)).expect("fits");
        let mut upload = Upload::new(ModelTensor::OutputNorm, QuantType::F32);
        let bytes = vec![0; 2 * PIECE_BYTES + 4];
        let taken = weights.push(&gpu, &mut upload, &bytes);
        assert_eq!(taken, Ok(()));
        assert_eq!(upload.pending.len(), bytes.len());
    }
}
