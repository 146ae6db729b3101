//! The engine for WebGPU in a worker of a real Chromium: the same kernels, the same answers, little memory.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tests::run_in_chromium;

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
    for kernel in list(&compiled["refused"]) {
        eprintln!(
            "{}: {}",
            kernel["label"],
            kernel["message"].as_str().unwrap_or_default()
        );
    }
    let (refused, all) = (
        list(&compiled["refused"]).len(),
        list(&compiled["labels"]).len(),
    );
    ensure!(
        refused == 0,
        "Chromium refuses {refused} of {all} kernels; see above"
    );
    Ok(())
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[tokio::test]
async fn every_kernel_compiles_in_chromium_within_the_default_limits() -> Result<()> {
    let called = run_in_chromium(&json!({"calls": [{"call": "compile"}]})).await?;
    expect_none_refused(called[0].result()?)?;
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
