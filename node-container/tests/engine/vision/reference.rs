//! CLIP with `LLaVA`'s projector, in plain loops of 64-bit floats: independent of llama.cpp, and slow.

use gguf_writer::GgufWriter;
use gguf_writer::seeded::Projector;

type Rows = Vec<Vec<f64>>;

/// Weights by name.
struct Weights<'w>(&'w GgufWriter);

impl Weights<'_> {
    fn get(&self, name: &str) -> Vec<f64> {
        let values = self.0.values(name).expect("the tensor is there");
        values.iter().copied().map(f64::from).collect()
    }

    fn linear(&self, name: &str, rows: &Rows) -> Rows {
        let (weight, bias) = (
            self.get(&format!("{name}.weight")),
            self.get(&format!("{name}.bias")),
        );
        let width = weight.len() / bias.len();
        let product = |row: &Vec<f64>, column: usize| -> f64 {
            let weights = &weight[column * width..(column + 1) * width];
            row.iter().zip(weights).map(|(a, b)| a * b).sum()
        };
        rows.iter()
            .map(|row| {
                (0..bias.len())
                    .map(|column| product(row, column) + bias[column])
                    .collect()
            })
            .collect()
    }

    fn norm(&self, name: &str, rows: &Rows) -> Rows {
        let (weight, bias) = (
            self.get(&format!("{name}.weight")),
            self.get(&format!("{name}.bias")),
        );
        rows.iter()
            .map(|row| {
                let count = number(row.len());
                let mean = row.iter().sum::<f64>() / count;
                let variance = row.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
                let scale = (variance + f64::from(Projector::NORM_EPSILON)).sqrt();
                row.iter()
                    .zip(weight.iter().zip(&bias))
                    .map(|(value, (weight, bias))| (value - mean) / scale * weight + bias)
                    .collect()
            })
            .collect()
    }

    /// One output per patch, patches line by line.
    fn patches(&self, shape: &Projector, rgb: &[u8]) -> Rows {
        let kernel = self.get("v.patch_embd.weight");
        let places = self.get("v.position_embd.weight");
        let side = shape.patch_side as usize;
        let (width, line) = (shape.width as usize, shape.image_side as usize);
        let patches = line / side;
        let colour = |x: usize, y: usize, channel: usize| {
            let value = f64::from(rgb[(y * line + x) * 3 + channel]) / 255.0;
            (value - f64::from(Projector::MEAN)) / f64::from(Projector::DEVIATION)
        };
        let mut rows = Vec::new();
        for patch in 0..patches * patches {
            let (left, top) = (patch % patches * side, patch / patches * side);
            let row = (0..width).map(|output| {
                let mut sum = places[patch * width + output];
                for channel in 0..3 {
                    for y in 0..side {
                        for x in 0..side {
                            let index = ((output * 3 + channel) * side + y) * side + x;
                            sum += kernel[index] * colour(left + x, top + y, channel);
                        }
                    }
                }
                sum
            });
            rows.push(row.collect());
        }
        rows
    }

    fn attention(&self, layer: u32, heads: usize, rows: &Rows) -> Rows {
        let part = |part: &str| self.linear(&format!("v.blk.{layer}.{part}"), rows);
        let (queries, keys, values) = (part("attn_q"), part("attn_k"), part("attn_v"));
        let size = queries[0].len() / heads;
        let mut mixed = vec![Vec::new(); rows.len()];
        for head in 0..heads {
            let range = head * size..(head + 1) * size;
            for (row, query) in mixed.iter_mut().zip(&queries) {
                let score = |key: &Vec<f64>| {
                    let pairs = query[range.clone()].iter().zip(&key[range.clone()]);
                    pairs.map(|(a, b)| a * b).sum::<f64>() / number(size).sqrt()
                };
                let weights: Vec<f64> = keys.iter().map(|key| score(key).exp()).collect();
                let total: f64 = weights.iter().sum();
                for number in range.clone() {
                    let sum = values.iter().zip(&weights).map(|(row, w)| row[number] * w);
                    row.push(sum.sum::<f64>() / total);
                }
            }
        }
        self.linear(&format!("v.blk.{layer}.attn_out"), &mixed)
    }
}

fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).expect("small"))
}

fn sum(left: &Rows, right: &Rows) -> Rows {
    let pairs = left.iter().zip(right);
    pairs
        .map(|(left, right)| left.iter().zip(right).map(|(a, b)| a + b).collect())
        .collect()
}

/// The usual approximation of GELU, by the hyperbolic tangent.
fn gelu(rows: Rows) -> Rows {
    let one = |x: f64| {
        let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
        0.5 * x * (1.0 + inner.tanh())
    };
    rows.into_iter()
        .map(|row| row.into_iter().map(one).collect())
        .collect()
}

/// What a picture of just the encoder's size must become.
pub(super) fn encode(shape: &Projector, weights: &GgufWriter, rgb: &[u8]) -> Vec<f64> {
    let weights = Weights(weights);
    let mut rows = weights.norm("v.pre_ln", &weights.patches(shape, rgb));
    // LLaVA looks at what comes out of the last layer but one.
    for layer in 0..shape.layers - 1 {
        let normed = weights.norm(&format!("v.blk.{layer}.ln1"), &rows);
        rows = sum(
            &rows,
            &weights.attention(layer, shape.heads as usize, &normed),
        );
        let normed = weights.norm(&format!("v.blk.{layer}.ln2"), &rows);
        let hidden = gelu(weights.linear(&format!("v.blk.{layer}.ffn_up"), &normed));
        rows = sum(
            &rows,
            &weights.linear(&format!("v.blk.{layer}.ffn_down"), &hidden),
        );
    }
    let rows = weights.norm("v.post_ln", &rows);
    let hidden = gelu(weights.linear("mm.0", &rows));
    weights.linear("mm.2", &hidden).concat()
}
