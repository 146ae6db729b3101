//! Our engine in a worker of a headless Chromium.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::{Kernels, Model, Stage};
use crate::chromium::run_in_chromium;

/// The longest that a job may take: software adapters are slow.
const SECONDS: u32 = 3 * 3600;

/// Tokens whose logits are made in one step.
const LOGIT_ROWS: u32 = 32;

/// Opens the adapter and loads a model.
fn load(kernels: Kernels, context_tokens: usize, logit_rows: u32) -> [Value; 2] {
    let settings = json!({
        "context_tokens": context_tokens,
        "logit_rows": logit_rows,
        "packed_dot": kernels == Kernels::PackedDot,
    });
    [
        json!({"call": "open"}),
        json!({"call": "load", "url": "/files/model", "settings": settings}),
    ]
}

/// Makes calls with a model; what each gave.
fn calls(stage: &Stage<'_>, model: &Model, calls: &[Value], logits: &Path) -> Result<Vec<Value>> {
    let job = json!({
        "files": {"model": model.gguf},
        "outputs": {"logits": logits},
        "seconds": SECONDS,
        "calls": calls,
    });
    let said = run_in_chromium(stage.places, stage.tools, &job)?;
    let results = said.get("results").and_then(Value::as_array);
    let results = results.context("Chromium told no results")?.iter();
    results
        .map(|called| match (called.get("result"), called.get("error")) {
            (Some(result), _) => Ok(result.clone()),
            (None, error) => bail!("{}", error.unwrap_or(&Value::Null)),
        })
        .collect()
}

/// What the browser calls its adapter.
fn adapter(opened: Option<&Value>, kernels: Kernels) -> Result<String> {
    let opened = opened.context("no adapter")?;
    let has_packed_dot = opened
        .get("features")
        .and_then(Value::as_array)
        .is_some_and(|features| features.iter().any(|feature| feature == "packed dot"));
    if kernels == Kernels::PackedDot && !has_packed_dot {
        bail!("the browser has no packed dot products");
    }
    let name = opened.get("adapter").and_then(Value::as_str);
    Ok(format!("{}, Chromium", name.unwrap_or("unnamed")))
}

/// Writes the logits of all tokens into a file; the adapter's name.
pub(super) fn logits(
    stage: &Stage<'_>,
    model: &Model,
    kernels: Kernels,
    tokens: &[u32],
    to: &Path,
) -> Result<String> {
    let [open, load] = load(kernels, tokens.len(), LOGIT_ROWS);
    let read = json!({"call": "logits", "tokens": tokens, "to": "/outputs/logits"});
    let results = calls(stage, model, &[open, load, read], to)?;
    adapter(results.first(), kernels)
}

/// Lengths that are measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lengths<'a> {
    pub(super) prompts: &'a [u32],
    pub(super) contexts: &'a [u32],
    pub(super) answer_tokens: u32,
}

/// Speeds in the shape that `webgpu speed` gives for one sort of kernels, `adapter` and `bytes_per_second` beside them.
pub(super) fn speed(
    stage: &Stage<'_>,
    model: &Model,
    kernels: Kernels,
    tokens: &[u32],
    lengths: Lengths<'_>,
) -> Result<Value> {
    let longest = lengths.contexts.iter().chain(lengths.prompts).max();
    let longest = longest.context("nothing to measure")? + lengths.answer_tokens + 1;
    let [open, load] = load(kernels, usize::try_from(longest)?, 1);
    let mut wanted = vec![open, load];
    let mut offset = 0;
    for _ in 0..=stage.options.rounds {
        let prompts = lengths.prompts.iter().map(|length| (length, 1));
        let contexts = lengths.contexts.iter();
        let answers = contexts.map(|length| (length, lengths.answer_tokens + 1));
        for (length, tokens_max) in prompts.chain(answers) {
            // Every prompt begins with another token, or it would be found in the session's keys and values.
            offset += 1;
            let prompt: Vec<u32> = (tokens.iter().cycle().skip(offset))
                .take(usize::try_from(*length)?)
                .copied()
                .collect();
            wanted.push(json!({
                "call": "generate", "tokens": prompt, "tokens_max": tokens_max, "ignores_end": true,
            }));
        }
    }
    wanted.push(json!({"call": "bandwidth"}));
    wanted.push(json!({"call": "figures"}));
    let unused = stage.folder.join("unused");
    let results = calls(stage, model, &wanted, &unused)?;
    let number = |value: &Value, name: &str| {
        let number = value.get(name).and_then(Value::as_f64);
        number.with_context(|| format!("no {name}: {value}"))
    };
    let each = lengths.prompts.len() + lengths.contexts.len();
    // Behind those that open and load, and the round for warming up.
    let measured = results.get(2 + each..).unwrap_or_default();
    let rounds = || {
        measured
            .chunks_exact(each)
            .take(usize::try_from(stage.options.rounds).unwrap_or(0))
    };
    let mut prefill = Vec::new();
    for (place, length) in lengths.prompts.iter().enumerate() {
        let found = rounds().filter_map(|round| round.get(place));
        let rates = found.map(|it| Ok(f64::from(*length) * 1000.0 / number(it, "first_ms")?));
        let rate = super::speed::median(rates.collect::<Result<_>>()?);
        prefill.push(json!({"tokens": length, "tokens_per_s": rate}));
    }
    let mut decode = Vec::new();
    for (place, length) in lengths.contexts.iter().enumerate() {
        let found = rounds().filter_map(|round| round.get(lengths.prompts.len() + place));
        let rates = found.map(|it| {
            let ms = number(it, "ms")? - number(it, "first_ms")?;
            Ok(f64::from(lengths.answer_tokens) * 1000.0 / ms)
        });
        let rate = super::speed::median(rates.collect::<Result<_>>()?);
        decode.push(json!({"tokens": length, "tokens_per_s": rate}));
    }
    let last = |back: usize| results.iter().rev().nth(back).unwrap_or(&Value::Null);
    Ok(json!({
        "kernels": kernels.word(),
        "adapter": adapter(results.first(), kernels)?,
        "bytes_per_second": number(last(1), "bytes_per_second")?,
        "prefill": prefill,
        "decode": decode,
        "heap_bytes_peak": number(last(0), "heap_bytes_peak")?,
        "load_ms": results.get(1).and_then(|loaded| loaded.get("ms")),
    }))
}
