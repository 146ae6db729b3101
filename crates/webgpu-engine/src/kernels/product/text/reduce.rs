//! How the sums of a row's threads become one.

use std::fmt::Write as _;

use super::Text;
use crate::kernels::product::THREADS;

impl Text<'_> {
    /// The memory that they go through, where they do.
    pub(super) fn shared(&self) -> String {
        if !self.needs_memory() {
            return String::new();
        }
        let words = self.sum_count() * THREADS;
        format!("var<workgroup> shared_sums: array<f32, {words}>;\n\n")
    }

    /// The names of a thread's sums.
    fn sum_names(&self) -> Vec<String> {
        let of = |name: &'static str| {
            let rows = 0..self.variant.rows;
            rows.flat_map(move |row| {
                let columns = 0..self.variant.columns;
                columns.map(move |column| format!("{name}.of_{row}_{column}"))
            })
        };
        let second = self.product.gated.map(|_| of("second"));
        of("sums").chain(second.into_iter().flatten()).collect()
    }

    /// Whether sums go through shared memory.
    const fn needs_memory(&self) -> bool {
        self.variant.lanes > self.subgroup
    }

    /// Makes one sum of those of a row's threads: the upper half of them is added to the lower half until one remains.
    pub(super) fn reduce(&self) -> String {
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
