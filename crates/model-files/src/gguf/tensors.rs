//! Which tensors a GGUF file holds: their types and dimensions, which stand behind the metadata. Of interest are those
//! that numbers are multiplied with, since a processor may keep these a second time, in an order that suits it.

use std::collections::BTreeMap;
use std::io::Read;

use super::{GgufError, Source};

/// Tensors of a file; the largest known models have some two thousand.
pub(super) const TENSORS_MAX: u64 = 1 << 16;

/// Dimensions of a tensor, as ggml has them.
const DIMENSIONS_MAX: u32 = 4;

/// Makes embeddings of tokens, and where there is no [`OUTPUT`] is multiplied with as well.
const TOKEN_EMBEDDING: &str = "token_embd.weight";

/// Makes logits.
const OUTPUT: &str = "output.weight";

/// Matrices of which rows are looked up.
const LOOKED_UP: [&str; 3] = ["position_embd", "token_types", "per_layer_token_embd"];

/// Experts, of which a router chooses some.
const EXPERTS: &str = "_exps.";

/// A tensor that numbers are multiplied with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Matrix {
    /// ggml's number of its type, which need not be one that ggml knows.
    pub kind: u32,
    /// Numbers of one row.
    pub columns: u64,
    /// Rows.
    pub rows: u64,
    /// How many of these it is.
    pub depth: u64,
    /// Whether only some of them are used for each token.
    pub is_routed: bool,
}

/// How often there is a matrix like this.
pub type Matrices = BTreeMap<Matrix, u64>;

/// Reads the list of tensors, which has so many entries. `is_encoder`: no logits are made.
pub(super) fn read<R: Read>(
    source: &mut Source<R>,
    tensors: u64,
    is_encoder: bool,
) -> Result<Matrices, GgufError> {
    let mut matrices = Matrices::new();
    let mut embedding = None;
    let mut has_output = is_encoder;
    for _ in 0..tensors {
        let name = source.text()?.unwrap_or_default();
        let count = u32::from_le_bytes(source.bytes()?);
        if count > DIMENSIONS_MAX {
            return Err(GgufError::Damaged);
        }
        let mut dimensions = [1; DIMENSIONS_MAX as usize];
        for dimension in dimensions.iter_mut().take(count as usize) {
            *dimension = u64::from_le_bytes(source.bytes()?);
        }
        let kind = u32::from_le_bytes(source.bytes()?);
        let _offset = u64::from_le_bytes(source.bytes()?);
        let [columns, rows, depth, more] = dimensions;
        let is_looked_up = LOOKED_UP.iter().any(|start| name.starts_with(start));
        if count < 2 || more != 1 || is_looked_up || !name.ends_with(".weight") {
            continue;
        }
        let matrix = Matrix {
            kind,
            columns,
            rows,
            depth,
            is_routed: name.contains(EXPERTS),
        };
        if name == TOKEN_EMBEDDING {
            embedding = Some(matrix);
        } else {
            has_output |= name == OUTPUT;
            *matrices.entry(matrix).or_default() += 1;
        }
    }
    if let Some(embedding) = embedding.filter(|_| !has_output) {
        *matrices.entry(embedding).or_default() += 1;
    }
    Ok(matrices)
}
