//! Every kernel is compiled by Chromium, whose compiler refuses what the Rust one accepts.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tests::run_in_chromium;

use crate::list;

/// What every model needs.
const ROLES: [&str; 5] = ["embed", "norm", "rope", "attend", "product"];

/// What weights are stored as.
const TYPES: [&str; 11] = [
    "F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4K", "Q5K", "Q6K",
];

/// A kernel of one line, whose storage buffer is declared as it says.
fn kernel(label: &str, writes: bool, line: &str) -> Value {
    let wgsl = format!(
        "@group(0) @binding(0) var<storage, read_write> to: array<f32>;\n\
         @group(0) @binding(1) var<uniform> step: vec4<u32>;\n\
         @compute @workgroup_size(4) fn main(@builtin(local_invocation_index) i: u32) {{ {line} }}"
    );
    json!({"label": label, "wgsl": wgsl, "writes": [writes]})
}

/// Fails with the compiler's words where Chromium refuses a kernel.
fn expect_none_refused(compiled: &Value) -> Result<()> {
    let refused = list(&compiled["refused"]);
    let words = |kernel: &Value| {
        let message = kernel["message"].as_str().unwrap_or_default();
        format!("{}: {message}\n", kernel["label"])
    };
    let all = list(&compiled["labels"]).len();
    let words: String = refused.iter().map(words).collect();
    ensure!(
        refused.is_empty(),
        "Chromium refuses {} of {all} kernels:\n{words}",
        refused.len()
    );
    Ok(())
}

#[tokio::test]
async fn every_kernel_compiles_in_chromium_within_the_default_limits() -> Result<()> {
    let called = run_in_chromium(&json!({"calls": [{"call": "compile"}]})).await?;
    let compiled = called[0].result()?;
    expect_none_refused(compiled)?;
    let labels = list(&compiled["labels"]).iter().filter_map(Value::as_str);
    let labels: Vec<_> = labels.collect();
    for name in ROLES.into_iter().chain(TYPES) {
        assert!(
            labels.iter().any(|label| label.contains(name)),
            "there is no {name}: {labels:?}"
        );
    }
    // Variants with 16-bit floats are for adapters that have them.
    let left_out = list(&compiled["left_out"]).len();
    assert!(
        left_out < labels.len() / 2,
        "{left_out} of {} are left out",
        labels.len()
    );
    Ok(())
}

#[tokio::test]
async fn a_kernel_that_only_chromium_refuses_fails_with_its_label_and_the_compilers_words()
-> Result<()> {
    let kernels = [
        kernel("fine", true, "to[i] = f32(step.x);"),
        // Below the smallest finite number of 32 bits by less than a rounding; naga rounds it.
        kernel("too low", true, "to[i] = -3.4028235e38 + f32(step.x);"),
        // Its layout says that it is only read.
        kernel("written", false, "to[i] = 1.0;"),
    ];
    let job = json!({"calls": [{"call": "compile", "kernels": kernels}]});
    let called = run_in_chromium(&job).await?;
    let compiled = called[0].result()?;
    let mut refused: Vec<_> = list(&compiled["refused"]).to_vec();
    refused.sort_by_key(|kernel| kernel["label"].to_string());
    let [low, written] = refused.as_slice() else {
        panic!("two are refused: {compiled}");
    };
    assert_eq!([&low["label"], &written["label"]], ["too low", "written"]);
    let message = low["message"].as_str().unwrap_or_default();
    assert!(
        message.contains("cannot be represented as 'f32'"),
        "{message}"
    );
    assert!(expect_none_refused(compiled).is_err());
    Ok(())
}
