//! Our engine in a worker of a headless Chromium.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::speed::{Lengths, median};
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

/// One measurement: what is read, and how long the answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Asked {
    tokens: u32,
    answer_tokens: u32,
    /// Whether it counts.
    counts: bool,
}

impl Lengths {
    /// All measurements in their order: a round for warming up, then as many as are asked for. What follows long contexts
    /// takes minutes on adapters in software, so it is measured once.
    fn asked(&self, rounds: u32) -> Vec<Asked> {
        let mut all = Vec::new();
        for round in 0..=rounds {
            let prompts = self.prompts.iter().map(|tokens| (*tokens, 1));
            let contexts = self.contexts.iter().enumerate();
            let contexts = contexts.filter(|(place, _)| *place == 0 || round == 1);
            let answers = contexts.map(|(_, tokens)| (*tokens, self.answer_tokens + 1));
            all.extend(prompts.chain(answers).map(|(tokens, answer_tokens)| Asked {
                tokens,
                answer_tokens,
                counts: round > 0,
            }));
        }
        all
    }
}

/// Speeds in the shape that `webgpu speed` gives for one sort of kernels, `adapter` and `bytes_per_second` beside them.
pub(super) fn speed(
    stage: &Stage<'_>,
    model: &Model,
    kernels: Kernels,
    tokens: &[u32],
    lengths: &Lengths,
) -> Result<Value> {
    let longest = lengths.contexts.iter().chain(&lengths.prompts).max();
    let longest = longest.context("nothing to measure")? + lengths.answer_tokens + 1;
    let asked = lengths.asked(stage.options.rounds());
    let mut wanted = load(kernels, usize::try_from(longest)?, 1).to_vec();
    for (place, asked) in asked.iter().enumerate() {
        // Every prompt begins with another token, or it would be found in the session's keys and values.
        let prompt = tokens.iter().cycle().skip(place + 1);
        let prompt: Vec<u32> = prompt
            .take(usize::try_from(asked.tokens)?)
            .copied()
            .collect();
        wanted.push(json!({
            "call": "generate",
            "tokens": prompt,
            "tokens_max": asked.answer_tokens,
            "ignores_end": true,
        }));
    }
    wanted.extend([json!({"call": "bandwidth"}), json!({"call": "figures"})]);
    let results = calls(stage, model, &wanted, &stage.folder.join("unused"))?;
    let mut results = results.iter();
    let adapter = adapter(results.next(), kernels)?;
    let loaded = results.next().context("nothing was loaded")?;
    let answered: Vec<(&Asked, &Value)> = asked.iter().zip(results.by_ref()).collect();
    let streamed = results.next().context("no bandwidth")?;
    let figures = results.next().context("no figures")?;
    let streamed = number(streamed, "bytes_per_second")?;
    let of = |tokens: u32, answer_tokens: u32| {
        let wanted = Asked {
            tokens,
            answer_tokens,
            counts: true,
        };
        let found = answered.iter().filter(move |(asked, _)| **asked == wanted);
        found.map(|(_, answer)| *answer)
    };
    let prefill = lengths.prompts.iter().map(|&tokens| {
        let rate = |answer| Ok(f64::from(tokens) * 1000.0 / number(answer, "first_ms")?);
        let rates = of(tokens, 1).map(rate).collect::<Result<_>>()?;
        Ok(json!({"tokens": tokens, "tokens_per_s": median(rates)}))
    });
    let decode = lengths.contexts.iter().map(|&tokens| {
        let answers: Vec<&Value> = of(tokens, lengths.answer_tokens + 1).collect();
        let rate = |answer: &&Value| {
            let ms = number(answer, "ms")? - number(answer, "first_ms")?;
            Ok(f64::from(lengths.answer_tokens) * 1000.0 / ms)
        };
        let rate = median(answers.iter().map(rate).collect::<Result<_>>()?);
        let bytes = number(answers.first().context("no answer")?, "token_bytes")?;
        let share = rate * bytes / streamed;
        Ok(json!({"tokens": tokens, "tokens_per_s": rate, "share_of_bandwidth": share}))
    });
    Ok(json!({
        "kernels": kernels.word(),
        "adapter": adapter,
        "bytes_per_second": streamed,
        "prefill": prefill.collect::<Result<Vec<_>>>()?,
        "decode": decode.collect::<Result<Vec<_>>>()?,
        "heap_bytes_peak": number(figures, "heap_bytes_peak")?,
        "load_ms": number(loaded, "ms")?,
    }))
}

fn number(value: &Value, name: &str) -> Result<f64> {
    let number = value.get(name).and_then(Value::as_f64);
    number.with_context(|| format!("no {name}: {value}"))
}
