//! How many bytes a step reads, by what its dispatches are: the bound of decode is how fast these stream.

use super::Work;
use crate::kernels::{Attend, Product, Step, TILE_TOKENS};

/// Bytes that dispatches read. What one dispatch reads several times from a buffer counts once where caches hold it (the
/// states of a token), and each time where they do not (weights, keys and values).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reads {
    /// Of matrices and vectors of the model.
    pub weights: u64,
    /// Keys and values.
    pub kept: u64,
    /// What dispatches tell each other: states, splits, logits.
    pub between: u64,
}

impl Reads {
    /// All together.
    #[must_use]
    pub const fn total(self) -> u64 {
        self.weights
            .saturating_add(self.kept)
            .saturating_add(self.between)
    }

    /// Both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            weights: self.weights.saturating_add(other.weights),
            kept: self.kept.saturating_add(other.kept),
            between: self.between.saturating_add(other.between),
        }
    }
}

impl Work {
    /// What it reads in a step.
    pub(super) fn reads(&self, step: &Step) -> Reads {
        let tokens = step.tokens;
        let words = |tokens: u32, width: u32| u64::from(tokens) * u64::from(width) * 4;
        match self {
            Self::Embed(embed) => Reads {
                weights: u64::from(tokens) * row_bytes(embed.kind, embed.width),
                between: words(tokens, 1),
                ..Reads::default()
            },
            Self::AddNorm(norm) => Reads {
                weights: words(1 + u32::from(norm.has_post_norm), norm.width),
                between: words(tokens * (1 + u32::from(norm.has_addend)), norm.width),
                ..Reads::default()
            },
            Self::Product(product, variant) => of_product(product, variant.columns, tokens),
            Self::Output(product, variant) => {
                of_product(product, variant.columns, step.output_tokens)
            }
            Self::Tiled(product) => of_product(product, TILE_TOKENS, tokens),
            Self::Pack(pack) => Reads {
                between: words(tokens, pack.inputs),
                ..Reads::default()
            },
            Self::RopeKeep(keep) => Reads {
                weights: u64::from(keep.has_head_norms) * words(2, keep.head_size),
                between: words(tokens, (keep.heads + 2 * keep.kv_heads) * keep.head_size)
                    + words(tokens, keep.rope_dimensions),
                ..Reads::default()
            },
            Self::Attend(attend) => Reads {
                kept: kept(attend, step),
                between: words(tokens, attend.heads * attend.head_size),
                ..Reads::default()
            },
            Self::Merge(attend) => {
                let partials = attend.splits(step.position, tokens) * (attend.head_size + 4);
                Reads {
                    between: words(tokens, attend.heads * partials),
                    ..Reads::default()
                }
            }
        }
    }
}

/// A matrix is read once for as many tokens as a thread or a tile has.
fn of_product(product: &Product, columns: u32, tokens: u32) -> Reads {
    let matrices = product.matrices.iter();
    let once =
        matrices.map(|matrix| u64::from(matrix.rows) * row_bytes(matrix.kind, product.inputs));
    let rows = product.matrices.iter().map(|matrix| u64::from(matrix.rows));
    let bias = u64::from(product.has_bias) * 4 * rows.sum::<u64>();
    Reads {
        weights: once.sum::<u64>() * u64::from(tokens.div_ceil(columns.max(1))) + bias,
        between: u64::from(tokens) * u64::from(product.inputs) * 4,
        ..Reads::default()
    }
}

/// Keys and values that the tokens of a step see, for each group of heads that reads them.
fn kept(attend: &Attend, step: &Step) -> u64 {
    let [groups, ..] = attend.groups(step.position, step.tokens);
    let seen = (1..=step.tokens).map(|token| {
        let seen = step.position.saturating_add(token);
        u64::from(attend.window.map_or(seen, |window| window.min(seen)))
    });
    seen.sum::<u64>() * 2 * u64::from(groups) * u64::from(attend.head_size) * attend.cache.bytes()
}

fn row_bytes(kind: crate::quant::QuantType, weights: u32) -> u64 {
    let bytes = usize::try_from(weights).ok().and_then(|it| kind.bytes(it));
    u64::try_from(bytes.unwrap_or(0)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{Embed, Matrix, Tokens, Variant};
    use crate::model::CacheType;
    use crate::quant::QuantType;

    fn step(position: u32, tokens: u32) -> Step {
        Step {
            position,
            tokens,
            output_tokens: 1,
            ..Step::default()
        }
    }

    #[test]
    fn matrices_are_read_once_for_the_tokens_of_a_thread() {
        let product = Product {
            label: String::new(),
            matrices: vec![
                Matrix {
                    kind: QuantType::Q8_0,
                    rows: 10
                };
                2
            ],
            inputs: 64,
            has_bias: true,
            gated: None,
            soft_cap: None,
            output_first: 0,
            output_stride: 20,
            tokens: Tokens::All,
        };
        let variant = Variant {
            columns: 4,
            ..Variant::PLAIN
        };
        let reads = |work: Work, tokens| work.reads(&step(0, tokens));
        let all = reads(Work::Product(product.clone(), variant), 5);
        assert_eq!(all.weights, 2 * (20 * 68) + 80);
        assert_eq!(all.between, 5 * 256);
        let last = reads(Work::Output(product, variant), 5);
        assert_eq!((last.weights, last.between), (20 * 68 + 80, 256));
        let embed = Embed {
            label: String::new(),
            kind: QuantType::Q4_1,
            rows: 1000,
            first_row: 0,
            width: 64,
            scale: 1.0,
        };
        assert_eq!(reads(Work::Embed(embed), 3).weights, 3 * 40);
    }

    #[test]
    fn keys_and_values_are_read_as_far_as_they_are_seen() {
        let attend = Attend {
            label: String::new(),
            heads: 6,
            kv_heads: 2,
            head_size: 64,
            scale: 1.0,
            soft_cap: None,
            window: None,
            kept_tokens: 1000,
            cache: CacheType::F16,
            split_tokens: 128,
            batch_tokens: 1,
            is_software: false,
        };
        let kept = |attend: &Attend, step: Step| Work::Attend(attend.clone()).reads(&step).kept;
        let token = 2 * 2 * 64 * 2;
        assert_eq!(kept(&attend, step(99, 1)), 100 * token);
        assert_eq!(kept(&attend, step(99, 2)), 201 * token);
        let window = Attend {
            window: Some(50),
            ..attend
        };
        assert_eq!(kept(&window, step(99, 1)), 50 * token);
        assert_eq!(kept(&window, step(9, 1)), 10 * token);
    }
}
