//! How a model is to be run.

use super::LoadError;
use crate::gpu::Abilities;
use crate::kernels::Numbers;
use crate::model::{CacheType, Config, DECODE_SPLIT_TOKENS, Demand};
use crate::plan::Choice;

/// Where nobody says otherwise: long enough for chats, and little memory for small models.
const CONTEXT_TOKENS: u32 = 4096;

/// A workgroup attends to a split of the context, and WebGPU has so many of them in one direction.
const CONTEXT_TOKENS_MAX: u32 = DECODE_SPLIT_TOKENS * 65_535;

/// Tokens that are read at once on a card: enough that its products are bound by arithmetic.
const BATCH_TOKENS: u32 = 128;

/// On an adapter that computes on the CPU more only delays the first token of others.
const BATCH_TOKENS_SOFTWARE: u32 = 32;

/// The most that may be asked for: beyond it scratch grows and nothing gets faster.
const BATCH_TOKENS_MAX: u32 = 1024;

/// Sessions of one model in a page or a program; each has keys and values of its own.
const SESSIONS_MAX: u32 = 64;

/// How a model is to be run. What is not said follows from the model and the adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Tokens that a session can hold, up to what the model was trained for.
    pub context_tokens: Option<u32>,
    /// Sessions at the same time.
    pub sessions: u32,
    /// Tokens of a prompt that are read at once.
    pub batch_tokens: Option<u32>,
    /// Tokens of a step whose logits can be had at once.
    pub logit_rows: u32,
    /// How keys and values are kept.
    pub cache: CacheType,
    /// How products are computed. Where nobody says: of whole numbers natively where the adapter computes on the CPU, which
    /// reads prompts a third faster there (docs/benchmarks.md), and of floats elsewhere, unless a tuning run has found
    /// whole numbers to be much faster.
    pub numbers: Option<Numbers>,
    /// Bytes that the model may take in all, where that is known.
    pub room_bytes: Option<u64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            context_tokens: None,
            sessions: 1,
            batch_tokens: None,
            logit_rows: 1,
            cache: CacheType::F16,
            numbers: None,
            room_bytes: None,
        }
    }
}

impl Settings {
    /// What they mean for a model on an adapter.
    pub fn demand(&self, config: &Config, abilities: &Abilities) -> Result<Demand, LoadError> {
        let context_tokens = self.context_tokens.unwrap_or(CONTEXT_TOKENS);
        if context_tokens == 0 {
            return Err(LoadError::Settings("a context holds at least one token"));
        }
        if self.sessions == 0 || self.sessions > SESSIONS_MAX {
            return Err(LoadError::Settings("there can be 1 to 64 sessions"));
        }
        let batch_tokens = self.batch_tokens.unwrap_or(if abilities.is_software {
            BATCH_TOKENS_SOFTWARE
        } else {
            BATCH_TOKENS
        });
        if batch_tokens == 0 || batch_tokens > BATCH_TOKENS_MAX {
            return Err(LoadError::Settings("a batch has 1 to 1,024 tokens"));
        }
        if self.logit_rows == 0 || self.logit_rows > batch_tokens {
            return Err(LoadError::Settings(
                "logits are made for at least one token and at most those of a batch",
            ));
        }
        let context_tokens = context_tokens
            .min(config.context_tokens)
            .min(CONTEXT_TOKENS_MAX);
        Ok(Demand {
            context_tokens,
            sessions: self.sessions,
            batch_tokens: batch_tokens.min(context_tokens),
            logit_rows: self.logit_rows.min(context_tokens),
            cache: self.cache,
            has_packed: Choice::new(abilities, self.numbers).may_be_packed(),
        })
    }
}
