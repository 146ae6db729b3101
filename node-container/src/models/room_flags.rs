//! The flags that decide how much memory a rig takes, for those who reckon it without running one.

use std::path::PathBuf;

use clap::Args;
use protocol::limits::NODE_SLOTS_MAX;

use super::{Memory, Room};
use crate::config::{CONTEXT_TOKENS_MIN, cached_conversations};
use crate::engine::embed::Pooling;
use crate::engine::llama::CacheType;

/// As for `rig`, and from the same variables.
#[derive(Debug, Clone, Args)]
pub(crate) struct RoomFlags {
    /// Jobs at once.
    #[arg(long, env = "HELIOGRAPH_SLOTS", value_name = "COUNT", default_value_t = 2,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(NODE_SLOTS_MAX)))]
    slots: u32,
    /// Tokens of prompt and answer together, for each slot.
    #[arg(long, env = "HELIOGRAPH_CONTEXT", value_name = "TOKENS",
        value_parser = clap::value_parser!(u32).range(i64::from(CONTEXT_TOKENS_MIN)..))]
    context: Option<u32>,
    /// Finished conversations that stay in the cache.
    #[arg(long, env = "HELIOGRAPH_CACHED_CONVERSATIONS", value_name = "COUNT",
        value_parser = clap::value_parser!(u32).range(0..=i64::from(NODE_SLOTS_MAX)))]
    cached_conversations: Option<u32>,
    /// Prompt tokens per step.
    #[arg(long, env = "HELIOGRAPH_BATCH", value_name = "TOKENS")]
    batch: Option<u32>,
    /// What the cache holds.
    #[arg(
        long,
        env = "HELIOGRAPH_CACHE_TYPE",
        value_name = "TYPE",
        value_enum,
        default_value = "f16"
    )]
    cache_type: CacheType,
    /// Whether embeddings of texts are made as well, and how.
    #[arg(
        long,
        env = "HELIOGRAPH_EMBEDDINGS",
        value_name = "POOLING",
        value_enum
    )]
    embeddings: Option<Pooling>,
    /// A chat template in place of the model's own.
    #[arg(long, env = "HELIOGRAPH_CHAT_TEMPLATE", value_name = "PATH")]
    chat_template: Option<PathBuf>,
}

impl RoomFlags {
    /// The room that a rig with these flags takes in this memory.
    pub(crate) fn room(&self, memory: &Memory) -> Room {
        Room {
            slots: self.slots,
            context_tokens: self.context,
            cached_conversations: cached_conversations(self.cached_conversations, self.slots),
            prompt_batch: self.batch,
            cache_type: self.cache_type,
            has_vectors: self.embeddings.is_some(),
            has_template: self.chat_template.is_some(),
            orders: memory.orders(),
        }
    }
}
