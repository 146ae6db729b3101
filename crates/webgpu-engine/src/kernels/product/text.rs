//! The text of a product's kernel. Accumulators have names: what is indexed would lie in slow memory.

mod reduce;

use std::fmt::Write as _;

use super::{
    Abilities, Access, LOAD_WEIGHTS, Numbers, Product, Reduce, Tokens, Variant, binding, step,
};
use crate::kernels::packed;
use crate::model::Activation;
use crate::quant::{QuantType, WEIGHTS_WGSL};

/// How 32 weights are multiplied with 32 numbers of a state.
pub(in crate::kernels) struct Inner {
    /// What the states are an array of.
    pub(in crate::kernels) element: &'static str,
    /// Declares `Weights` (what `load` gives), `Inputs` (32 numbers of a state), `Sum`, `fn inputs_at(place: u32) ->
    /// Inputs` (the numbers from `32 * place` on), `fn multiply(weights: Weights, state: Inputs) -> Sum` and
    /// `fn total(sum: Sum) -> f32`.
    pub(in crate::kernels) wgsl: String,
    /// Which functions give weights.
    pub(in crate::kernels) load: Load,
}

/// The functions that give weights of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::kernels) enum Load {
    /// As floats: `load32_NAME`.
    Floats,
    /// As whole numbers with scales: `packed32_NAME`.
    Integers,
}

impl Inner {
    fn of(product: &Product, numbers: Numbers) -> Self {
        match numbers {
            Numbers::Float => Self {
                element: "vec4<f32>",
                wgsl: format!("{WEIGHTS_WGSL}{}", include_str!("float.wgsl")),
                load: Load::Floats,
            },
            Numbers::PackedDot => packed::inner(&product.matrices),
        }
    }

    /// The function for a buffer of this name.
    fn load_wgsl(&self, kind: QuantType, name: &str, weights: u64) -> String {
        match self.load {
            Load::Floats => kind.load_wgsl(name, weights),
            Load::Integers => kind.packed_wgsl(name, weights).unwrap_or_default(),
        }
    }

    /// What it is called, before the name of the buffer.
    const fn load(&self) -> &'static str {
        match self.load {
            Load::Floats => "load32",
            Load::Integers => "packed32",
        }
    }
}

/// What is written.
pub(in crate::kernels) struct Text<'p> {
    product: &'p Product,
    variant: Variant,
    inner: Inner,
    /// Below so many threads sums are made by operations of subgroups.
    subgroup: u32,
}

impl<'p> Text<'p> {
    pub(in crate::kernels) fn new(
        product: &'p Product,
        variant: Variant,
        abilities: &Abilities,
    ) -> Self {
        let subgroup = match variant.reduce {
            Reduce::Subgroups if abilities.has_subgroups => abilities.subgroup_threads,
            Reduce::Subgroups | Reduce::Memory => 1,
        };
        Self {
            product,
            variant,
            inner: Inner::of(product, variant.numbers),
            subgroup: subgroup.min(variant.lanes),
        }
    }

    pub(super) fn wgsl(&self) -> String {
        // naga has them without a word and refuses the word; browsers want it.
        let enable = if self.subgroup > 1 && cfg!(target_family = "wasm") {
            "enable subgroups;
"
        } else {
            ""
        };
        [
            enable.to_owned(),
            self.bindings(),
            self.inner.wgsl.clone(),
            self.tokens(),
            self.sums(),
            self.finish(),
            self.main(),
        ]
        .concat()
    }

    /// Names of matrices' buffers.
    fn names(&self) -> Vec<String> {
        (0..self.product.matrices.len())
            .map(|index| format!("matrix_{index}"))
            .collect()
    }

    /// Groups of 32 weights in a row.
    const fn blocks(&self) -> u32 {
        self.product.inputs / LOAD_WEIGHTS
    }

    pub(in crate::kernels) fn bindings(&self) -> String {
        let mut text = binding(0, Access::Read, "inputs", self.inner.element);
        let mut next = 1;
        for (matrix, name) in self.product.matrices.iter().zip(self.names()) {
            text += &binding(next, Access::Read, &name, matrix.kind.element());
            next += 1;
        }
        if self.product.has_bias {
            text += &binding(next, Access::Read, "bias", "f32");
            next += 1;
        }
        text += &binding(next, Access::Write, "outputs", "f32");
        text += &step(next + 1);
        text
    }

    /// Where states are read. Behind the last token the last one is read again.
    pub(in crate::kernels) fn tokens(&self) -> String {
        let (first, count) = match self.product.tokens {
            Tokens::All => ("0u", "step.tokens"),
            Tokens::Output => ("step.output_first", "step.output_tokens"),
        };
        format!(
            "fn tokens() -> u32 {{
    return {count};
}}

fn place_of(token: u32) -> u32 {{
    return ({first} + min(token, tokens() - 1u)) * {}u;
}}

",
            self.blocks()
        )
    }

    /// For each column a text.
    fn columns(&self, text: impl Fn(u32) -> String) -> String {
        (0..self.variant.columns).map(text).collect()
    }

    /// For each row of a thread and each column a text.
    fn cells(&self, text: impl Fn(u32, u32) -> String) -> String {
        let rows = 0..self.variant.rows;
        rows.map(|row| self.columns(|column| text(row, column)))
            .collect()
    }

    /// The sums of a thread for its rows of each matrix. Behind the last row the last one is read again.
    fn sums(&self) -> String {
        let mut text = format!(
            "struct Sums {{
{}}}

",
            self.cells(|row, column| format!("    of_{row}_{column}: f32,\n"))
        );
        text += &self.loads();
        for (matrix, name) in self.product.matrices.iter().zip(self.names()) {
            let (blocks, last) = (self.blocks(), matrix.rows.saturating_sub(1));
            let load = self.inner.load();
            let rows = |text: &dyn Fn(u32) -> String| -> String {
                (0..self.variant.rows).map(text).collect()
            };
            let lines = [
                rows(&|row| {
                    format!("    let first_{row} = min(row + {row}u, {last}u) * {blocks}u;\n")
                }),
                self.columns(|column| {
                    format!("    let place_{column} = place_of(token + {column}u);\n")
                }),
                self.cells(|row, column| format!("    var sum_{row}_{column} = Sum();\n")),
                rows(&|row| {
                    format!("        let weights_{row} = {load}_{name}(first_{row} + block);\n")
                }),
                self.columns(|column| {
                    let state =
                        format!("        let state_{column} = inputs_at(place_{column} + block);\n");
                    let sums = rows(&|row| {
                        format!(
                            "        sum_{row}_{column} += multiply(weights_{row}, state_{column});\n"
                        )
                    });
                    state + &sums
                }),
                self.cells(|row, column| format!("total(sum_{row}_{column}), ")),
            ];
            let [firsts, places, accumulators, weights, products, totals] = lines;
            let _infallible = write!(
                text,
                "
fn sums_{name}(row: u32, lane: u32, token: u32) -> Sums {{
{firsts}{places}{accumulators}    for (var block = lane; block < {blocks}u; block += {lanes}u) {{
{weights}{products}    }}
    return Sums({totals});
}}

",
                lanes = self.variant.lanes,
            );
        }
        text
    }

    /// The functions that give weights of the matrices.
    pub(in crate::kernels) fn loads(&self) -> String {
        let matrices = self.product.matrices.iter().zip(self.names());
        let loads = matrices.map(|(matrix, name)| {
            let weights = u64::from(matrix.rows) * u64::from(self.product.inputs);
            self.inner.load_wgsl(matrix.kind, &name, weights)
        });
        loads.collect()
    }

    /// What becomes of a sum, and where it is written.
    pub(in crate::kernels) fn finish(&self) -> String {
        let product = self.product;
        let second = product.gated.map_or("", |_| ", second: f32");
        let rows = product.matrices.first().map_or(0, |matrix| matrix.rows);
        let bias = |name: &str, row: &str| {
            if product.has_bias {
                format!("{name} + bias[{}u + {row}]", product.output_first)
            } else {
                name.to_owned()
            }
        };
        let gate = bias("sum", "row");
        let number = match product.gated {
            None => gate,
            Some(activation) => format!(
                "{}({gate}) * ({})",
                match activation {
                    Activation::Silu => "silu",
                    Activation::Gelu => "gelu",
                },
                bias("second", &format!("row + {rows}u"))
            ),
        };
        let number = match product.soft_cap {
            None => number,
            Some(cap) => format!("{cap:?}f * tanh(clamp(({number}) / {cap:?}f, -10.0, 10.0))"),
        };
        let activation = match product.gated {
            None => "",
            Some(Activation::Silu) => include_str!("silu.wgsl"),
            Some(Activation::Gelu) => include_str!("gelu.wgsl"),
        };
        format!(
            "{activation}fn finish(token: u32, row: u32, sum: f32{second}) {{
    if (token < tokens()) {{
        outputs[token * {}u + {}u + row] = {number};
    }}
}}

",
            product.output_stride, product.output_first
        )
    }

    /// How many sums a thread has.
    fn sum_count(&self) -> u32 {
        let matrices = if self.product.gated.is_some() { 2 } else { 1 };
        self.variant.rows * self.variant.columns * matrices
    }

    fn main(&self) -> String {
        let (variant, product) = (self.variant, self.product);
        let [wide, high] = product.grid(variant);
        let place = if high > 1 {
            format!("group.x + group.y * {wide}u")
        } else {
            "group.x".to_owned()
        };
        let last = product.firsts(variant).last().copied().unwrap_or(0);
        let results = (0..variant.rows).map(|row| {
            let numbers = self.columns(|column| {
                let second = match product.gated {
                    Some(_) => format!(", second.of_{row}_{column}"),
                    None => String::new(),
                };
                format!(
                    "        finish(token + {column}u, output + {row}u, sums.of_{row}_{column}{second});\n"
                )
            });
            format!("    if (lane == 0u && {row}u < rows) {{\n{numbers}    }}\n")
        });
        let results: String = results.collect();
        format!(
            "{shared}@compute @workgroup_size({threads})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {{
    let place = {place};
    let token = group.z * {columns}u;
    if (place >= {last}u || token >= tokens()) {{
        return;
    }}
    let lane = thread % {lanes}u;
    let of_group = thread / {lanes}u;
{rows}{reduce}{results}}}
",
            shared = self.shared(),
            threads = variant.threads(),
            columns = variant.columns,
            lanes = variant.lanes,
            rows = self.rows(),
            reduce = self.reduce(),
        )
    }

    /// Which rows a thread has (`rows` of them from `output` on), and their sums. All threads of a workgroup are of one
    /// matrix.
    fn rows(&self) -> String {
        let product = self.product;
        let of_thread = format!(
            "{}u + of_group * {}u",
            self.variant.group_rows(),
            self.variant.rows
        );
        let names = self.names();
        let left = |rows: u32| format!("{rows}u - min(row, {rows}u)");
        let first_rows = product.matrices.first().map_or(0, |matrix| matrix.rows);
        if product.gated.is_some() || product.matrices.len() < 2 {
            let mut text = format!(
                "    let row = place * {of_thread};
    let output = row;
    let rows = {};
",
                left(first_rows)
            );
            for (kind, name) in ["sums", "second"].iter().zip(&names) {
                let _infallible = writeln!(text, "    var {kind} = sums_{name}(row, lane, token);");
            }
            return text;
        }
        let mut text = "    var sums = Sums();
    var output = 0u;
    var rows = 0u;
"
        .to_owned();
        let firsts = product.firsts(self.variant);
        let mut before = 0;
        let ranges = firsts.iter().zip(firsts.iter().skip(1));
        for ((matrix, name), (first, end)) in product.matrices.iter().zip(&names).zip(ranges) {
            let _infallible = write!(
                text,
                "    if (place >= {first}u && place < {end}u) {{
        let row = (place - {first}u) * {of_thread};
        sums = sums_{name}(row, lane, token);
        output = row + {before}u;
        rows = {};
    }}
",
                left(matrix.rows)
            );
            before += matrix.rows;
        }
        text
    }
}
