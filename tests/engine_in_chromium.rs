//! The engine for WebGPU in a worker of a real Chromium: the same kernels, the same answers, little memory.

use anyhow::Result;
use serde_json::{Value, json};
use tests::run_in_chromium;

/// A kernel of one line.
fn kernel(label: &str, line: &str) -> Value {
    let wgsl = format!(
        "@group(0) @binding(0) var<storage, read_write> to: array<f32>;\n\
         @group(0) @binding(1) var<uniform> step: vec4<u32>;\n\
         @compute @workgroup_size(4) fn main(@builtin(local_invocation_index) i: u32) {{ {line} }}"
    );
    json!({"label": label, "wgsl": wgsl, "writes": [true]})
}

#[tokio::test]
async fn a_kernel_that_only_chromium_refuses_is_told_with_its_label_and_the_compilers_words()
-> Result<()> {
    let kernels = [
        kernel("fine", "to[i] = f32(step.x);"),
        // Below the smallest finite number of 32 bits by less than a rounding, which naga rounds.
        kernel("too low", "to[i] = -3.4028235e38 + f32(step.x);"),
    ];
    let job = json!({"calls": [{"call": "open"}, {"call": "compile", "kernels": kernels}]});
    let called = run_in_chromium(&job).await?;
    let compiled = called[1].result()?;
    assert_eq!(compiled["count"], 2);
    let refused = compiled["refused"].as_array().map(Vec::as_slice);
    let Some([refused]) = refused else {
        panic!("one is refused: {compiled}");
    };
    assert_eq!(refused["label"], "too low");
    let message = refused["message"].as_str().unwrap_or_default();
    assert!(
        message.contains("cannot be represented as 'f32'"),
        "{message}"
    );
    Ok(())
}

#[tokio::test]
async fn a_device_that_was_given_up_says_so_and_another_can_be_opened() -> Result<()> {
    let calls =
        ["open", "destroy", "bandwidth", "open", "figures"].map(|call| json!({"call": call}));
    let called = run_in_chromium(&json!({"calls": calls})).await?;
    let lost = called[2].error.as_ref().map(|error| error.message.as_str());
    assert_eq!(lost, Some("the device was lost: it was given up"));
    assert!(
        called[3..].iter().all(|called| called.error.is_none()),
        "{called:?}"
    );
    Ok(())
}
