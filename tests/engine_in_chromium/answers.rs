//! A published model answers in Chromium as it does natively, also across the loss of the device.

use std::sync::Arc;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tests::{Called, leave_out, run_in_chromium};
use webgpu_engine::gpu::{Gpu, GpuError, Wish};
use webgpu_engine::kernels::Numbers;
use webgpu_engine::run::{Engine, Loader, Request, Settings};
use webgpu_engine::tokenizer::Encoding;

use crate::list;

const PROMPT: &str =
    "<|im_start|>user\nName three rivers of Europe.<|im_end|>\n<|im_start|>assistant\n";

/// What SmolLM2-135M says to it, computed with floats, the likeliest token each time: "1. Danube River: The largest river in Europe, …".
const ANSWER: [u32; 24] = [
    33, 30, 37939, 3992, 42, 378, 3995, 4626, 281, 1910, 28, 23252, 281, 260, 4290, 8504, 282,
    14171, 284, 12819, 618, 260, 2601, 6427,
];

/// Enough for prompt and answer.
const CONTEXT_TOKENS: u32 = 128;

/// A piece of the file, as a browser's network brings them.
const PIECE_BYTES: usize = 64 << 10;

pub(crate) fn model() -> Result<String> {
    std::env::var("HELIOGRAPH_MODEL_FILE").context("HELIOGRAPH_MODEL_FILE is not set")
}

pub(crate) fn load() -> Value {
    let settings = json!({"context_tokens": CONTEXT_TOKENS, "packed_dot": false});
    json!({"call": "load", "url": "/files/model", "settings": settings})
}

fn generate() -> Value {
    json!({"call": "generate", "prompt": PROMPT, "special": true, "tokens_max": ANSWER.len()})
}

pub(crate) async fn calls(calls: &[Value]) -> Result<Vec<Called>> {
    run_in_chromium(&json!({"files": {"model": model()?}, "calls": calls})).await
}

fn tokens(answered: &Value) -> Vec<u32> {
    let ids = list(&answered["tokens"]).iter().filter_map(Value::as_u64);
    ids.filter_map(|id| id.try_into().ok()).collect()
}

#[tokio::test]
async fn a_published_model_answers_in_chromium_as_it_does_natively() -> Result<()> {
    let called = calls(&[json!({"call": "open"}), load(), generate()]).await?;
    let answered = called[2].result()?;
    assert_eq!(tokens(answered), ANSWER, "{}", answered["text"]);
    assert_eq!(answered["ended"], "tokens_max");
    // Each token came by itself, and their texts make the answer.
    let texts: String = called[2]
        .events
        .iter()
        .filter_map(|event| event["text"].as_str())
        .collect();
    assert_eq!(called[2].events.len(), ANSWER.len());
    assert_eq!(answered["text"], *texts);
    Ok(())
}

#[tokio::test]
async fn a_load_in_mid_answer_is_refused_and_one_behind_it_takes_the_models_place() -> Result<()> {
    let mut disturbed = generate();
    disturbed["meanwhile"] = json!([{"when": {"tokens": 4}, "call": load()}]);
    disturbed["alternatives"] = json!(2);
    let open = json!({"call": "open"});
    let called = calls(&[open, load(), disturbed, load(), generate()]).await?;
    let refused = &called[2].meanwhile[0];
    let why = refused.error.as_ref().context("it was loaded")?;
    assert!(why.message.contains("an answer is under way"), "{why:?}");
    assert_eq!(tokens(called[2].result()?), ANSWER);
    for event in &called[2].events {
        // The likeliest token was taken.
        assert_eq!(list(&event["alternatives"]).len(), 2, "{event}");
        assert_eq!(event["alternatives"][0][0], event["token"], "{event}");
        assert_eq!(event["alternatives"][0][1], event["log_probability"]);
    }
    called[3].result()?;
    assert_eq!(tokens(called[4].result()?), ANSWER);
    Ok(())
}

#[test]
fn and_natively_it_says_the_same() -> Result<()> {
    pollster::block_on(async {
        let Some(engine) = load_natively().await? else {
            return Ok(());
        };
        let encoding = Encoding {
            add_special: true,
            parse_special: true,
        };
        let prompt = engine.tokenizer().encode(PROMPT, encoding)?;
        let request = Request::greedy(prompt, ANSWER.len().try_into()?);
        let mut session = engine.session().await?;
        let mut answer = session.answer(request, None).await?;
        while answer.next().await?.is_some() {}
        assert_eq!(answer.drawn(), ANSWER);
        Ok(())
    })
}

/// The model of [`load`] on the adapter that there is natively; where there is none, the test is left out.
pub(crate) async fn load_natively() -> Result<Option<Arc<Engine>>> {
    let gpu = match Gpu::open(&Wish::default()).await {
        Ok(gpu) => gpu,
        Err(error @ GpuError::NoAdapter(_)) => return leave_out(&error.to_string()).map(|()| None),
        Err(error) => return Err(error.into()),
    };
    let settings = Settings {
        context_tokens: Some(CONTEXT_TOKENS),
        numbers: Some(Numbers::Float),
        ..Settings::default()
    };
    let file = std::fs::read(model()?)?;
    let mut loader = Loader::new(Arc::new(gpu), None, settings);
    for piece in file.chunks(PIECE_BYTES) {
        loader.push(piece).await?;
    }
    Ok(Some(Arc::new(loader.finish().await?)))
}

#[tokio::test]
async fn a_device_lost_in_mid_answer_is_told_at_once_and_the_answer_goes_on_with_another()
-> Result<()> {
    let open = json!({"call": "open"});
    let mut lost = generate();
    lost["meanwhile"] = json!([{"when": {"tokens": 8}, "call": {"call": "destroy"}}]);
    let bandwidth = json!({"call": "bandwidth"});
    let first = calls(&[open.clone(), load(), lost, load(), bandwidth]).await?;
    let why = first[2]
        .error
        .as_ref()
        .context("the device was lost, and nobody said so")?;
    assert_eq!(why.name, "LostError", "{why:?}");
    for also in &first[3..] {
        let why = also.error.as_ref().context("the device is gone")?;
        assert_eq!(why.name, "LostError", "{why:?}");
    }
    let said = &first[2].events;
    let given: Vec<_> = said.iter().map(|event| event["token"].clone()).collect();
    // The step that was under way, and the one ahead of it.
    assert!((8..=10).contains(&given.len()), "{given:?}");
    let mut rest = generate();
    rest["given"] = json!(given);
    let second = calls(&[open, load(), rest]).await?;
    let mut answer: Vec<u32> = given
        .iter()
        .filter_map(Value::as_u64)
        .filter_map(|id| id.try_into().ok())
        .collect();
    answer.extend(tokens(second[2].result()?));
    assert_eq!(answer, ANSWER);
    Ok(())
}
