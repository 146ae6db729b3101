//! The second turn of a long conversation, of which the engine should read only what is new.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::Stage;
use super::engines::rig_bench;

/// Tokens of the conversation's first turn.
const CONVERSATION_TOKENS: u32 = 3000;

/// Tokens of its answer.
const ANSWER_TOKENS: u32 = 64;

/// What was measured. The names are those of `rig bench --turns --json`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub(super) struct Turns {
    /// Tokens of the first turn's prompt.
    pub(super) first_prompt_tokens: u32,
    /// From each turn's question to its first token, in milliseconds.
    #[serde(rename = "first_token_ms")]
    pub(super) first_turn_ms: f64,
    #[serde(rename = "second_token_ms")]
    pub(super) second_turn_ms: f64,
}

/// A model, and a chat template if it has none of its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Talker<'a> {
    pub(super) name: &'static str,
    pub(super) model: &'a Path,
    pub(super) template: Option<&'a Path>,
}

/// One round on one model.
pub(super) fn measure(stage: &Stage<'_>, talker: Talker<'_>, round: u64) -> Result<Turns> {
    let mut arguments = vec![
        ("--turns", CONVERSATION_TOKENS.to_string()),
        ("--generate", ANSWER_TOKENS.to_string()),
        ("--seed", (round * 1000).to_string()),
    ];
    if let Some(template) = talker.template {
        arguments.push(("--chat-template", template.display().to_string()));
    }
    let lines = rig_bench(stage, talker.model, &arguments)?;
    let line = lines.first().context("the rig measured nothing")?;
    Ok(Turns::deserialize(line)?)
}
