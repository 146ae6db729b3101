//! The text of a product's kernel. Accumulators have names: what is indexed would lie in slow memory.

use std::fmt::Write as _;

use super::{
    Abilities, Access, LOAD_WEIGHTS, Numbers, Product, Reduce, THREADS, Tokens, Variant, binding,
    step,
};
use crate::kernels::packed;
use crate::model::Activation;
use crate::quant::{QuantType, WEIGHTS_WGSL};

/// How 32 weights are multiplied with 32 numbers of a state.
pub(in crate::kernels) struct Inner {
    /// What the states are an array of.
    pub(in crate::kernels) element: &'static str,
    /// Declares `Weights` (what `load` gives), `Sum`, `fn multiply(weights: Weights, place: u32) -> Sum` (with the
    /// 32 numbers from `32 * place` on) and `fn total(sum: Sum) -> f32`.
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

    /// The sums of a thread for one row of each matrix.
    fn sums(&self) -> String {
        let mut text = format!(
            "struct Sums {{
{}}}

",
            self.columns(|column| format!("    of_{column}: f32,\n"))
        );
        text += &self.loads();
        for name in self.names() {
            let lines = [
                self.columns(|column| {
                    format!("    let place_{column} = place_of(token + {column}u);\n")
                }),
                self.columns(|column| format!("    var sum_{column} = Sum();\n")),
                self.columns(|column| {
                    format!("        sum_{column} += multiply(weights, place_{column} + block);\n")
                }),
                self.columns(|column| format!("total(sum_{column}), ")),
            ];
            let [places, accumulators, products, totals] = lines;
            let _infallible = write!(
                text,
                "
fn sums_{name}(row: u32, lane: u32, token: u32) -> Sums {{
{places}{accumulators}    for (var block = lane; block < {blocks}u; block += {lanes}u) {{
        let weights = {load}_{name}(row * {blocks}u + block);
{products}    }}
    return Sums({totals});
}}

",
                blocks = self.blocks(),
                lanes = self.variant.lanes,
                load = self.inner.load(),
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
                format!("{name} + bias[{row}]")
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
        self.variant.columns * if self.product.gated.is_some() { 2 } else { 1 }
    }

    /// The names of a thread's sums.
    fn sum_names(&self) -> Vec<String> {
        let of = |name: &'static str| {
            (0..self.variant.columns).map(move |column| format!("{name}.of_{column}"))
        };
        let second = self.product.gated.map(|_| of("second"));
        of("sums").chain(second.into_iter().flatten()).collect()
    }

    fn main(&self) -> String {
        let (variant, product) = (self.variant, self.product);
        let [wide, high] = product.grid(variant);
        let place = if high > 1 {
            format!("group.x + group.y * {wide}u")
        } else {
            "group.x".to_owned()
        };
        let shared = if self.needs_memory() {
            format!(
                "var<workgroup> shared_sums: array<f32, {}>;

",
                self.sum_count() * THREADS
            )
        } else {
            String::new()
        };
        let last = product.firsts(variant).last().copied().unwrap_or(0);
        let results = self.columns(|column| {
            let second = match product.gated {
                Some(_) => format!(", second.of_{column}"),
                None => String::new(),
            };
            format!("        finish(token + {column}u, output, sums.of_{column}{second});\n")
        });
        format!(
            "{shared}@compute @workgroup_size({THREADS})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {{
    let place = {place};
    let token = group.z * {columns}u;
    if (place >= {last}u || token >= tokens()) {{
        return;
    }}
    let lane = thread % {lanes}u;
    let of_group = thread / {lanes}u;
{rows}{reduce}    if (lane == 0u && is_row) {{
{results}    }}
}}
",
            columns = variant.columns,
            lanes = variant.lanes,
            rows = self.rows(),
            reduce = self.reduce(),
        )
    }

    /// Which row a thread has, and its sums. All threads of a workgroup are of one matrix. Behind the last row the last
    /// one is read again.
    fn rows(&self) -> String {
        let product = self.product;
        let rows_of_group = THREADS / self.variant.lanes;
        let sums = |name: &str| format!("sums_{name}(min(row, {{last}}u), lane, token)");
        let names = self.names();
        let first_rows = product.matrices.first().map_or(0, |matrix| matrix.rows);
        if product.gated.is_some() || product.matrices.len() < 2 {
            let mut text = format!(
                "    let row = place * {rows_of_group}u + of_group;
    let output = row;
    let is_row = row < {first_rows}u;
"
            );
            for (kind, name) in ["sums", "second"].iter().zip(&names) {
                let sums = sums(name).replace("{last}", &(first_rows - 1).to_string());
                let _infallible = writeln!(text, "    var {kind} = {sums};");
            }
            return text;
        }
        let mut text = "    var sums = Sums();
    var output = 0u;
    var is_row = false;
"
        .to_owned();
        let firsts = product.firsts(self.variant);
        let mut before = 0;
        let ranges = firsts.iter().zip(firsts.iter().skip(1));
        for ((matrix, name), (first, end)) in product.matrices.iter().zip(&names).zip(ranges) {
            let rows = matrix.rows;
            let sums = sums(name).replace("{last}", &(rows - 1).to_string());
            let _infallible = write!(
                text,
                "    if (place >= {first}u && place < {end}u) {{
        let row = (place - {first}u) * {rows_of_group}u + of_group;
        sums = {sums};
        output = row + {before}u;
        is_row = row < {rows}u;
    }}
"
            );
            before += rows;
        }
        text
    }

    /// Whether sums go through shared memory.
    const fn needs_memory(&self) -> bool {
        self.variant.lanes > self.subgroup
    }

    /// Makes one sum of those of a row's threads: the upper half of them is added to the lower half until one remains.
    fn reduce(&self) -> String {
        let names = self.sum_names();
        let mut text = String::new();
        let mut offset = self.variant.lanes / 2;
        let at = |index: usize, offset: u32| {
            let first = index * THREADS as usize + offset as usize;
            format!("shared_sums[thread + {first}u]")
        };
        let each = |line: &dyn Fn(usize, &String) -> String| -> String {
            let lines = names.iter().enumerate();
            lines.map(|(index, name)| line(index, name)).collect()
        };
        if self.needs_memory() {
            text += &each(&|index, name| format!("    {} = {name};\n", at(index, 0)));
        }
        while offset >= self.subgroup && offset > 0 {
            let sums =
                each(&|index, _| format!("        {} += {};\n", at(index, 0), at(index, offset)));
            let _infallible = write!(
                text,
                "    workgroupBarrier();
    if (lane < {offset}u) {{
{sums}    }}
"
            );
            offset /= 2;
        }
        if self.needs_memory() {
            text += &each(&|index, name| format!("    {name} = {};\n", at(index, 0)));
        }
        while offset > 0 {
            text +=
                &each(&|_, name| format!("    {name} += subgroupShuffleXor({name}, {offset}u);\n"));
            offset /= 2;
        }
        text
    }
}
