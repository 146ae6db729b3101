//! What a model can do beside text, through the whole network: pictures, and vectors.
//!
//! The projector has small seeded weights, not trained ones. What the model says of a picture means nothing; that the
//! picture reaches it, and what it costs, can be seen all the same.

use std::io::Cursor;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gguf_writer::seeded::Projector;
use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use reqwest::Method;
use serde_json::{Value, json};
use tests::{Api, MODEL, Network, Rig};

/// A catalog entry that may see; the demo's has no eyes.
const SEEING_MODEL: &str = "atlas-vision-27b";

const SHAPE: Projector = Projector::SMOLLM2;

/// A picture as a data URL.
fn picture(colour: [u8; 3], format: ImageFormat) -> Result<String> {
    let image = RgbImage::from_fn(SHAPE.image_side, SHAPE.image_side, |x, y| {
        if (x / 8 + y / 8) % 2 == 0 {
            Rgb(colour)
        } else {
            Rgb([90; 3])
        }
    });
    let mut bytes = Cursor::new(Vec::new());
    DynamicImage::from(image).write_to(&mut bytes, format)?;
    let data = STANDARD.encode(bytes.into_inner());
    Ok(format!("data:{};base64,{data}", format.to_mime_type()))
}

/// A question about pictures, in `OpenAI`'s form.
fn about(pictures: &[&str]) -> Value {
    let text = json!({"type": "text", "text": "What is this?"});
    let pictures = pictures
        .iter()
        .map(|url| json!({"type": "image_url", "image_url": {"url": url}}));
    json!({
        "model": SEEING_MODEL,
        "messages": [{"role": "user", "content": pictures.chain([text]).collect::<Vec<_>>()}],
        "max_tokens": 2,
        "temperature": 0,
        "logprobs": true,
        "top_logprobs": 5,
    })
}

/// What the model thinks comes next, and the prompt's tokens.
async fn seen(api: &Api, pictures: &[&str]) -> Result<(Value, u64)> {
    let answer = api.answer(&about(pictures)).await?;
    let logprobs = answer.pointer("/choices/0/logprobs/content");
    let prompt_tokens = answer.pointer("/usage/prompt_tokens");
    Ok((
        logprobs.cloned().context("no log-probabilities")?,
        prompt_tokens.and_then(Value::as_u64).context("no usage")?,
    ))
}

#[tokio::test]
async fn a_picture_travels_to_the_rig_that_sees() -> Result<()> {
    let network = Network::relay_only().await?;
    let projector = Path::new(env!("CARGO_TARGET_TMPDIR")).join("abilities-projector.gguf");
    std::fs::write(&projector, SHAPE.write(7)?.to_bytes())?;
    let relay = network.socket_url();
    // Without a cache every prompt is read from its start, in the same steps: equal prompts then give equal numbers.
    let few = [
        "--slots",
        "2",
        "--context",
        "512",
        "--cached-conversations",
        "0",
    ];
    let _blind = Rig::start_with(&network, &relay, "blind", SEEING_MODEL, &few)?;
    network.free_slots_of(SEEING_MODEL, 2).await?;

    // Nobody can look at it: said at once, not when the patience ends.
    let api = network.api()?;
    let red = picture([220, 20, 30], ImageFormat::Png)?;
    let (status, refused) = api.outcome(api.chat(&about(&[&red]))).await?;
    ensure!(status != 200, "{refused}");
    assert_eq!(
        refused["error"]["code"], "unsupported_parameter",
        "{refused}"
    );
    let message = refused["error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("sees pictures"), "{refused}");

    let projector = projector.display().to_string();
    let eyes = [&few[..], &["--projector", &projector]].concat();
    let _seeing = Rig::start_with(&network, &relay, "seeing", SEEING_MODEL, &eyes)?;
    network.free_slots_of(SEEING_MODEL, 4).await?;

    let blue = picture([10, 30, 240], ImageFormat::Png)?;
    let (of_none, tokens_of_none) = seen(&api, &[]).await?;
    let (of_red, tokens_of_red) = seen(&api, &[&red]).await?;
    let (of_both, tokens_of_both) = seen(&api, &[&red, &blue]).await?;
    assert_ne!(of_red, of_none);
    assert_ne!(of_red, of_both);
    assert_ne!(of_red, seen(&api, &[&blue]).await?.0);
    assert_eq!(of_red, seen(&api, &[&red]).await?.0, "the same picture");
    let lossless = picture([220, 20, 30], ImageFormat::WebP)?;
    assert_eq!(of_red, seen(&api, &[&lossless]).await?.0, "the same pixels");
    let tokens = u64::from(SHAPE.tokens());
    assert!(tokens_of_red >= tokens_of_none + tokens);
    assert_eq!(tokens_of_both, tokens_of_red + tokens);

    let (status, refused) = api
        .outcome(api.chat(&about(&["data:image/png;base64,bm8gcGljdHVyZQ=="])))
        .await?;
    assert_eq!(status, 400, "{refused}");
    let message = refused["error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("image 1"), "{refused}");
    Ok(())
}

/// The vectors of these texts.
async fn vectors(api: &Api, body: Value) -> Result<(Vec<Vec<f32>>, Value)> {
    let request = api.request(Method::POST, "/v1/embeddings").json(&body);
    let (status, answer) = api.outcome(request).await?;
    ensure!(status == 200, "status {status}: {answer}");
    let data = answer.get("data").and_then(Value::as_array);
    let vector = |entry: &Value| {
        let vector = entry.get("embedding").context("no embedding")?;
        let Some(text) = vector.as_str() else {
            return Ok(serde_json::from_value::<Vec<f32>>(vector.clone())?);
        };
        let bytes = STANDARD.decode(text)?;
        let (floats, _) = bytes.as_chunks::<4>();
        Ok(floats
            .iter()
            .map(|four| f32::from_le_bytes(*four))
            .collect())
    };
    let vectors = data.context("no data")?.iter().map(vector);
    let usage = answer.get("usage").context("no usage")?;
    Ok((vectors.collect::<Result<_>>()?, usage.clone()))
}

#[tokio::test]
async fn texts_become_vectors_on_the_rig_that_makes_them() -> Result<()> {
    let network = Network::relay_only().await?;
    let relay = network.socket_url();
    let arguments = ["--slots", "2", "--context", "512", "--embeddings", "mean"];
    let _rig = Rig::start_with(&network, &relay, "rig", MODEL, &arguments)?;
    network.free_slots(2).await?;
    let api = network.api()?;
    let texts = ["a lamp on a hill", "bread and butter", "a lamp on a hill"];
    let (numbers, usage) = vectors(&api, json!({"model": MODEL, "input": texts})).await?;
    assert_eq!(numbers.len(), 3);
    assert_eq!(numbers[0], numbers[2]);
    assert_ne!(numbers[0], numbers[1]);
    assert!(usage["prompt_tokens"].as_u64() > Some(8), "{usage}");
    // As the official packages ask for them.
    let body = json!({"model": MODEL, "input": texts, "encoding_format": "base64"});
    assert_eq!(vectors(&api, body).await?.0, numbers);
    let body = json!({"model": MODEL, "input": texts[0], "dimensions": 64});
    let (short, _) = vectors(&api, body).await?;
    assert_eq!(short[0].len(), 64);
    let length: f32 = short[0].iter().map(|value| value * value).sum();
    assert!((length - 1.0).abs() < 1e-3, "{length}");
    // The same rig still chats.
    let chat = json!({"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4});
    let answer = api.answer(&chat).await?;
    assert_eq!(answer["usage"]["completion_tokens"], 4, "{answer}");
    Ok(())
}
