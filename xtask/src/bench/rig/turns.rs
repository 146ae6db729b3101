//! The second turn of a long conversation, of which the engine should read only what is new.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::Stage;
use super::engines::rig_bench;

/// Tokens of the conversation's first turn.
const CONVERSATION_TOKENS: u32 = 3000;

/// What was measured. The names are those of `rig bench --turns --json`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub(super) struct Turns {
    /// Tokens of the first turn's prompt.
    pub(super) first_prompt_tokens: u32,
    /// From each turn's question to its first token, in milliseconds.
    pub(super) first_turn_ms: f64,
    pub(super) second_turn_ms: f64,
}

/// One round on one model.
pub(super) fn measure(stage: &Stage<'_>, model: &Path, round: u64) -> Result<Turns> {
    let arguments = [
        ("--turns", CONVERSATION_TOKENS.to_string()),
        ("--seed", (round * 1000).to_string()),
    ];
    let lines = rig_bench(stage, model, &arguments)?;
    let line = lines.first().context("the rig measured nothing")?;
    Ok(Turns::deserialize(line)?)
}
