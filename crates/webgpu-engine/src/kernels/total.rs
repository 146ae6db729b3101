//! Parts of the texts of several kernels: their bindings, and the sum over the threads of a workgroup.

use super::Step;
use crate::gpu::Access;

/// How many threads a workgroup has, and the function `total(thread, value)` for them. All of them must call it.
///
/// On devices that compute on the CPU barriers cost more than threads gain: one thread does the work there.
pub(super) fn total(threads: u32) -> String {
    if threads <= 1 {
        return "const THREADS: u32 = 1u;\nfn total(thread: u32, value: f32) -> f32 { return value; }\n"
            .to_owned();
    }
    let root = threads.isqrt();
    format!(
        "const THREADS: u32 = {threads}u;
const ROOT: u32 = {root}u;
var<workgroup> terms: array<f32, THREADS>;
var<workgroup> term_sums: array<f32, ROOT>;
// In two steps of as many terms each, for two barriers instead of one for each halving.
fn total(thread: u32, value: f32) -> f32 {{
    terms[thread] = value;
    workgroupBarrier();
    if (thread < ROOT) {{
        var sum = 0.0;
        for (var i = 0u; i < ROOT; i++) {{
            sum += terms[thread + i * ROOT];
        }}
        term_sums[thread] = sum;
    }}
    workgroupBarrier();
    var sum = 0.0;
    for (var i = 0u; i < ROOT; i++) {{
        sum += term_sums[i];
    }}
    return sum;
}}
"
    )
}

/// The bindings of a kernel: names with their types in order, written or only read, and the step behind them.
pub(super) fn bindings(storage: &[(&str, &str, Access)]) -> (String, Vec<Access>) {
    let lines = (0u32..)
        .zip(storage)
        .map(|(binding, (name, kind, access))| {
            let access = match access {
                Access::Read => "read",
                Access::Write => "read_write",
            };
            format!("@group(0) @binding({binding}) var<storage, {access}> {name}: array<{kind}>;\n")
        });
    let step = format!(
        "{}@group(0) @binding({}) var<uniform> step: Step;\n",
        Step::WGSL,
        storage.len()
    );
    let text = lines.chain([step]).collect();
    (text, storage.iter().map(|(_, _, access)| *access).collect())
}
