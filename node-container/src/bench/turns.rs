//! How long the first two answers of a conversation take to begin: the second turn finds the first one in the cache.

use std::time::Instant;

use anyhow::{Context as _, bail};
use protocol::{ChatMessage, ChatRequest, DeltaKind, Role, Usage};
use serde::Serialize;

use super::asking::Asking;
use crate::engine::EngineEvent;

/// The second question, and what a template writes around two more messages, in tokens; generously.
const SECOND_TURN_TOKENS: u32 = 64;

/// Room in the context beyond the first question: two answers and the second question.
pub(super) const fn room(generate: u32) -> u32 {
    generate + SECOND_TURN_TOKENS
}

/// What was measured.
#[derive(Debug, Serialize)]
pub(super) struct Measured {
    first_prompt_tokens: u32,
    first_cached_tokens: u32,
    /// From the first question to its answer's first token.
    first_token_ms: f64,
    second_prompt_tokens: u32,
    second_cached_tokens: u32,
    /// From the second question to its answer's first token.
    second_token_ms: f64,
    /// The second over the first.
    ratio: f64,
}

/// One answer.
struct Turn {
    text: String,
    usage: Usage,
    first_token_ms: f64,
}

/// Makes one measurement.
pub(super) async fn measure(
    asking: &mut Asking,
    tokens: u32,
    generate: u32,
) -> anyhow::Result<Measured> {
    let mut request = asking.request(tokens, generate).await?;
    // A request that names a seed takes nothing from the cache.
    request.sampling.seed = None;
    let first = turn(asking, request.clone()).await?;
    request.messages.extend([
        ChatMessage::new(Role::Assistant, first.text),
        ChatMessage::new(Role::User, "And why is that so?"),
    ]);
    let second = turn(asking, request).await?;
    Ok(Measured {
        first_prompt_tokens: first.usage.prompt_tokens,
        first_cached_tokens: first.usage.cached_tokens,
        first_token_ms: first.first_token_ms,
        second_prompt_tokens: second.usage.prompt_tokens,
        second_cached_tokens: second.usage.cached_tokens,
        second_token_ms: second.first_token_ms,
        ratio: second.first_token_ms / first.first_token_ms,
    })
}

async fn turn(asking: &mut Asking, request: ChatRequest) -> anyhow::Result<Turn> {
    let asked = Instant::now();
    let key = asking.start(request)?;
    let (mut text, mut first_token_ms) = (String::new(), None);
    loop {
        let (event, at) = asking.event().await?;
        match event {
            EngineEvent::Step(advances) => {
                first_token_ms.get_or_insert_with(|| (at - asked).as_secs_f64() * 1e3);
                for advance in advances
                    .iter()
                    .filter(|advance| advance.kind == DeltaKind::Text)
                {
                    text.push_str(&String::from_utf8_lossy(&advance.bytes));
                }
            }
            EngineEvent::Finished { key: of, usage, .. } if of == key => {
                return Ok(Turn {
                    text,
                    usage,
                    first_token_ms: first_token_ms.context("an answer without a token")?,
                });
            }
            EngineEvent::Failed { failure, .. } => bail!("the engine failed: {failure}"),
            EngineEvent::Accepted { .. }
            | EngineEvent::Progress { .. }
            | EngineEvent::Finished { .. }
            | EngineEvent::Checked { .. }
            | EngineEvent::Cached(_)
            | EngineEvent::Cancelled { .. } => {}
        }
    }
}
