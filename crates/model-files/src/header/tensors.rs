//! Which tensors of a GGUF file numbers are multiplied with: their types and dimensions. A processor may keep these a
//! second time, in an order that suits it.

use std::collections::BTreeMap;

use gguf::TensorInfo;

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

/// Counts the matrices of a file. `is_encoder`: no logits are made.
pub(super) fn matrices(tensors: &[TensorInfo], is_encoder: bool) -> Matrices {
    let mut matrices = Matrices::new();
    let mut embedding = None;
    let mut has_output = is_encoder;
    for tensor in tensors {
        let name = tensor.name.as_str();
        let (columns, rows, depth) = match *tensor.dimensions.as_slice() {
            [columns, rows] => (columns, rows, 1),
            [columns, rows, depth] | [columns, rows, depth, 1] => (columns, rows, depth),
            _ => continue,
        };
        let is_looked_up = LOOKED_UP.iter().any(|start| name.starts_with(start));
        if is_looked_up || !name.ends_with(".weight") {
            continue;
        }
        let matrix = Matrix {
            kind: tensor.kind.id,
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
    matrices
}
