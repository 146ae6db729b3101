//! Products for many tokens at once, on real GPUs: what a workgroup reads and decodes serves 64 rows and 64 tokens.
//!
//! Weights and states go in steps of 32 columns through memory that the workgroup shares (16 KiB, which every device
//! has), and from there into sums of 8 rows × 4 tokens a thread:
//!
//! ```text
//! thread 0..64    decodes a row's 32 weights ─▶ weight_tile ─┐
//! thread 64..128  reads a token's 32 numbers ─▶ state_tile  ─┴▶ thread: rows 8·i + thread%8, tokens 16·j + thread/8
//! ```
//!
//! The same [`Product`] with the same bindings as by its other kernels, and the same results but for the order of sums.
//! What lies in shared memory can have 16 bits ([`Tile::Halves`]): half as much is moved there, which is what bounds the
//! inner loop, while products and sums still have 32. Where that is faster is for a tuning run to tell. Not where inputs
//! may be beyond what 16 bits hold.
//!
//! Of gated matrices a workgroup has 32 rows each. Not for software adapters, where barriers cost ten times what they
//! save.

use std::fmt::Write as _;

use super::product::text::Text;
use super::product::{self, Product, Variant, grid};
use crate::gpu::{Abilities, Source};
use crate::quant::{LOAD_WEIGHTS, WEIGHTS_WGSL};

/// Rows of a workgroup: of one matrix, or half of them of each of two that are gated.
const TILE_ROWS: u32 = 64;

/// Tokens of a workgroup.
pub const TILE_TOKENS: u32 = 64;

/// Threads of a workgroup: as many as rows and tokens.
const THREADS: u32 = 128;

/// Rows of a thread.
const ROWS: u32 = 8;

/// Tokens of a thread.
const COLUMNS: u32 = 4;

/// Rows between two of a thread.
const ROW_STRIDE: u32 = TILE_ROWS / ROWS;

/// Tokens between two of a thread.
const TOKEN_STRIDE: u32 = TILE_TOKENS / COLUMNS;

/// What weights and states are in the memory that a workgroup shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tile {
    /// 32-bit floats.
    #[default]
    Floats,
    /// 16-bit floats. Only with [`Abilities::has_half`]; without it they are [`Tile::Floats`].
    Halves,
}

impl Tile {
    /// What begins a text that has such tiles.
    const fn wgsl(self) -> &'static str {
        match self {
            Self::Floats => {
                "alias Quad = vec4<f32>;

fn quad_of(numbers: vec4<f32>) -> Quad {
    return numbers;
}

"
            }
            // What is beyond the largest number of 16 bits would become an infinity, and sums of those no number.
            Self::Halves => {
                "alias Quad = vec4<f16>;

fn quad_of(numbers: vec4<f32>) -> Quad {
    return Quad(clamp(numbers, vec4<f32>(-65504.0), vec4<f32>(65504.0)));
}

"
            }
        }
    }
}

impl Product {
    /// The kernel for many tokens. It multiplies floats, whatever the device can do besides.
    pub fn tiled_source(&self, tile: Tile, abilities: &Abilities) -> Source {
        let tile = match tile {
            Tile::Halves if abilities.has_half => Tile::Halves,
            Tile::Floats | Tile::Halves => Tile::Floats,
        };
        Source {
            label: format!("{}, tiled", self.label),
            wgsl: wgsl(self, tile, abilities),
            storage: self.storage(),
        }
    }

    /// How many workgroups so many tokens take.
    pub fn tiled_groups(&self, tokens: u32) -> [u32; 3] {
        let [wide, high] = grid(tiles(self).last().copied().unwrap_or(0));
        [wide, high, tokens.div_ceil(TILE_TOKENS)]
    }
}

/// Rows of each matrix in a workgroup.
const fn tile_rows(product: &Product) -> u32 {
    if product.gated.is_some() {
        TILE_ROWS / 2
    } else {
        TILE_ROWS
    }
}

/// The tile of rows that each matrix begins with, and how many there are. Gated matrices have theirs in common.
fn tiles(product: &Product) -> Vec<u32> {
    let count = if product.gated.is_some() {
        1
    } else {
        usize::MAX
    };
    let mut firsts = vec![0];
    let mut sum = 0;
    for matrix in product.matrices.iter().take(count) {
        sum += matrix.rows.div_ceil(tile_rows(product));
        firsts.push(sum);
    }
    firsts
}

fn wgsl(product: &Product, tile: Tile, abilities: &Abilities) -> String {
    let text = Text::new(product, Variant::PLAIN, abilities);
    let enable = match tile {
        Tile::Floats => "",
        Tile::Halves => "enable f16;\n",
    };
    [
        enable.to_owned(),
        text.bindings(),
        tile.wgsl().to_owned(),
        WEIGHTS_WGSL.to_owned(),
        text.tokens(),
        include_str!("tiled/tile.wgsl").to_owned(),
        text.loads(),
        place(product),
        put_row(product),
        text.finish(),
        main(product),
    ]
    .concat()
}

/// Which matrix a workgroup has, its first row there, and what is before that in the output.
fn place(product: &Product) -> String {
    let tile = tile_rows(product);
    let firsts = tiles(product);
    let mut text = "struct Place {
    matrix: u32,
    row: u32,
    rows: u32,
    before: u32,
}

fn place_of_tile(tile: u32) -> Place {
"
    .to_owned();
    let mut before = 0;
    let ranges = firsts.iter().zip(firsts.iter().skip(1));
    for (index, (matrix, (first, end))) in product.matrices.iter().zip(ranges).enumerate() {
        let rows = matrix.rows;
        let _infallible = write!(
            text,
            "    if (tile < {end}u) {{
        return Place({index}u, (tile - {first}u) * {tile}u, {rows}u, {before}u);
    }}
"
        );
        before += rows;
    }
    text + "    return Place(0u, 0u, 0u, 0u);
}

"
}

/// A row of the tile from the buffer of its matrix. Behind the last row the last one is read again.
fn put_row(product: &Product) -> String {
    let blocks = product.inputs / LOAD_WEIGHTS;
    let mut text = "fn put_row(place: Place, tile_row: u32, block: u32) {
"
    .to_owned();
    let half = tile_rows(product);
    for (index, matrix) in product.matrices.iter().enumerate() {
        let (mine, row) = match product.gated {
            Some(_) => (format!("tile_row / {half}u"), format!("tile_row % {half}u")),
            None => ("place.matrix".to_owned(), "tile_row".to_owned()),
        };
        let _infallible = write!(
            text,
            "    if ({mine} == {index}u) {{
        let row = min(place.row + {row}, {last}u);
        put_weights(tile_row, load32_matrix_{index}(row * {blocks}u + block));
    }}
",
            last = matrix.rows.saturating_sub(1),
        );
    }
    text + "}

"
}

/// What a line becomes for each of a thread's rows.
fn rows(line: impl Fn(u32) -> String) -> String {
    (0..ROWS).map(line).collect()
}

/// What a line becomes for each of a thread's tokens.
fn columns(line: impl Fn(u32) -> String) -> String {
    (0..COLUMNS).map(line).collect()
}

fn main(product: &Product) -> String {
    let blocks = product.inputs / LOAD_WEIGHTS;
    let [wide, high, _] = product.tiled_groups(1);
    let tile = if high > 1 {
        format!("group.x + group.y * {wide}u")
    } else {
        "group.x".to_owned()
    };
    let last = tiles(product).last().copied().unwrap_or(0);
    let sums = rows(|row| columns(|column| format!("    var sum_{row}_{column} = 0.0;\n")));
    let weights = rows(|row| {
        let at = row * ROW_STRIDE;
        format!("            let weights_{row} = weight_tile[row_at + {at}u];\n")
    });
    let states = columns(|column| {
        let at = column * TOKEN_STRIDE;
        format!("            let state_{column} = state_tile[token_at + {at}u];\n")
    });
    let products = rows(|row| {
        columns(|column| {
            let sum = format!("sum_{row}_{column}");
            format!("            {sum} = add_dot({sum}, weights_{row}, state_{column});\n")
        })
    });
    format!(
        "@compute @workgroup_size({THREADS})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {{
    let tile = {tile};
    let token = group.z * {TILE_TOKENS}u;
    if (tile >= {last}u || token >= tokens()) {{
        return;
    }}
    let place = place_of_tile(tile);
    let row_lane = thread % {ROW_STRIDE}u;
    let token_lane = thread / {ROW_STRIDE}u;
    let loaded = thread % {TILE_TOKENS}u;
    let state = place_of(token + loaded);
{sums}    for (var block = 0u; block < {blocks}u; block += 1u) {{
        if (thread < {TILE_ROWS}u) {{
            put_row(place, loaded, block);
        }} else {{
            put_state(loaded, state + block);
        }}
        workgroupBarrier();
        for (var quad = 0u; quad < 8u; quad += 1u) {{
            let row_at = quad * {TILE_ROWS}u + row_lane;
            let token_at = quad * {TILE_TOKENS}u + token_lane;
{weights}{states}{products}        }}
        workgroupBarrier();
    }}
{results}}}
",
        results = results(product),
    )
}

/// Each sum to its place; of gated matrices the lower half of a thread's rows is with the upper half.
fn results(product: &Product) -> String {
    let count = if product.gated.is_some() {
        ROWS / 2
    } else {
        ROWS
    };
    let mut text = String::new();
    for row in 0..count {
        let lines = columns(|column| {
            let second = match product.gated {
                Some(_) => format!(", sum_{}_{column}", row + count),
                None => String::new(),
            };
            let token = column * TOKEN_STRIDE;
            format!(
                "        finish(token + token_lane + {token}u, place.before + row_{row}, sum_{row}_{column}{second});\n"
            )
        });
        let _infallible = write!(
            text,
            "    let row_{row} = place.row + row_lane + {}u;
    if (row_{row} < place.rows) {{
{lines}    }}
",
            row * ROW_STRIDE
        );
    }
    text
}

/// Each type, and each thing that a product can do besides, to be compiled by tests; with halves only the last, since what
/// reads a type is the same.
pub(super) fn every() -> Vec<Source> {
    let abilities = super::all_abilities();
    let products = product::samples();
    let source = |tile| {
        let abilities = &abilities;
        move |product: &Product| product.tiled_source(tile, abilities)
    };
    let floats = products.iter().map(source(Tile::Floats));
    let halves = products.iter().rev().take(4).map(source(Tile::Halves));
    floats.chain(halves).collect()
}

#[cfg(test)]
mod tests;
