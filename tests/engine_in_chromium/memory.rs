//! Models go to the device as their bytes arrive: the wasm module never holds one.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use gguf_writer::seeded::family::{Family, Small};
use serde_json::{Value, json};
use tests::{Called, run_in_chromium};

/// The most that the wasm module may ever have had.
const HEAP_BYTES_MAX: u64 = 64 << 20;

/// How far what was created on the device may be from what was said before, in hundredths.
const ESTIMATE_PERCENT: u64 = 10;

/// A file that goes with the test.
struct Seeded(PathBuf);

impl Seeded {
    /// A model of more than 250 MB: weights of two layers in 32 bits.
    fn write() -> Result<Self> {
        let small = Small {
            family: Family::Llama,
            width: 2112,
            seed: 5,
        };
        let floats = |weights: &[f32]| {
            let bytes = weights.iter().flat_map(|weight| weight.to_le_bytes());
            (0, bytes.collect())
        };
        let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("seeded-250.gguf");
        std::fs::write(&file, small.write(&floats)?.to_bytes())?;
        Ok(Self(file))
    }
}

impl Drop for Seeded {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

/// Opens the adapter and loads a file with these settings: what came of that, and of asking for figures then.
async fn loaded(file: &str, settings: &Value, meanwhile: &Value) -> Result<[Called; 2]> {
    let called = run_in_chromium(&json!({"files": {"model": file}, "calls": [
        {"call": "open"},
        {"call": "load", "url": "/files/model", "settings": settings, "meanwhile": meanwhile},
        {"call": "figures"},
    ]}))
    .await?;
    let [_, loaded, figures] = called.as_slice() else {
        bail!("three calls were made: {called:?}");
    };
    Ok([loaded.clone(), figures.clone()])
}

fn expect_little_memory(called: &Called, file_bytes: u64) -> Result<()> {
    let loaded = called.result()?;
    let last = called
        .events
        .last()
        .context("nothing was told of the bytes")?;
    assert!(last["bytes"].as_u64() > Some(file_bytes * 9 / 10), "{last}");
    let heap = loaded["heap_bytes_peak"].as_u64().context("no heap")?;
    assert!(
        heap < HEAP_BYTES_MAX,
        "the module's memory grew to {heap} bytes"
    );
    let need: u64 = loaded["need_bytes"]
        .as_array()
        .context("no estimate")?
        .iter()
        .filter_map(Value::as_u64)
        .sum();
    let created = loaded["bytes_created"].as_u64().context("no bytes")?;
    assert!(
        created.abs_diff(need) * 100 <= created * ESTIMATE_PERCENT,
        "estimated {need} bytes, created {created}"
    );
    Ok(())
}

#[tokio::test]
async fn a_model_of_250_mb_is_loaded_with_less_than_64_mb_of_wasm_memory() -> Result<()> {
    let seeded = Seeded::write()?;
    let bytes = std::fs::metadata(&seeded.0)?.len();
    assert!(bytes > 250_000_000, "{bytes}");
    let file = seeded.0.display().to_string();
    let [called, _] = loaded(&file, &json!({"context_tokens": 512}), &json!([])).await?;
    expect_little_memory(&called, bytes)
}

#[tokio::test]
async fn so_is_a_published_one_with_a_large_vocabulary() -> Result<()> {
    let file =
        std::env::var("HELIOGRAPH_GEMMA_FILE").context("HELIOGRAPH_GEMMA_FILE is not set")?;
    let bytes = std::fs::metadata(&file)?.len();
    let [called, _] = loaded(&file, &json!({"context_tokens": 512}), &json!([])).await?;
    expect_little_memory(&called, bytes)
}

#[tokio::test]
async fn a_model_beyond_the_memory_that_it_may_take_is_refused_before_its_weights_with_the_numbers()
-> Result<()> {
    let file =
        std::env::var("HELIOGRAPH_MODEL_FILE").context("HELIOGRAPH_MODEL_FILE is not set")?;
    let [called, figures] = loaded(&file, &json!({"room_bytes": 50_000_000}), &json!([])).await?;
    let refused = called.error.as_ref().context("it was loaded")?;
    assert!(
        refused.message.contains("the model needs") && refused.message.contains("50000000"),
        "{refused:?}"
    );
    let figures = figures.result()?;
    assert_eq!(figures["bytes_written"], 0, "{figures}");
    Ok(())
}

#[tokio::test]
async fn loading_can_be_cancelled_on_the_way() -> Result<()> {
    let file =
        std::env::var("HELIOGRAPH_MODEL_FILE").context("HELIOGRAPH_MODEL_FILE is not set")?;
    let bytes = std::fs::metadata(&file)?.len();
    let cancel = json!([{"when": {"bytes": 20_000_000}, "call": "cancel"}]);
    let [called, figures] = loaded(&file, &json!({}), &cancel).await?;
    let why = called.error.as_ref().context("it was loaded")?;
    assert_eq!(why.name, "AbortError", "{why:?}");
    let written = figures.result()?["bytes_written"].as_u64();
    assert!(written < Some(bytes / 2), "{written:?} of {bytes}");
    Ok(())
}
