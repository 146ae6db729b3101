//! Which model this rig runs: what the operator names becomes files on this machine, and what they need is told.
//!
//! ```text
//! --model auto ─▶ choice.rs (catalog × memory.rs) ─┐
//! --model ID   ─▶ catalog ─────────────────────────┼─▶ model_files::fetch ─▶ Chosen
//! --model URL  ────────────────────────────────────┘
//! --model PATH, --model-file ──────────────────────────────────────────────▶ Chosen
//! ```

mod choice;
mod listing;
mod memory;
mod room_flags;

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use catalog::{Catalog, Model};
use model_files::need::{Kept, Need, Use, Vectors, Weights, need};
use model_files::{FetchError, FileUrl, Named, Reporter, Settings, Wanted, fetch, header};
use protocol::limits::NODE_SLOTS_MAX;

use crate::config::{CacheFlags, Config};
use crate::engine::llama::{
    CHECKPOINT_BYTES_MAX, CHECKPOINTS_MAX, CacheType, backend, spare_sequences, vector_batch_tokens,
};
use crate::engine::reordered::{Orders, reordered};
use crate::engine::tuning::PROMPT_BATCH_MAX;
use crate::engine::vision::KEPT_BYTES_MAX;
use crate::operating::board::{Board, Watch};
pub use choice::Candidate;
pub use listing::{COMMAND, run};
pub use memory::Memory;
pub(crate) use memory::read as read_memory;
pub(crate) use room_flags::RoomFlags;

/// What the network offers, unless the operator names another file.
const CATALOG: &str = include_str!("../../catalog.toml");

/// A context that fits most cards; the loader's default.
const CONTEXT_TOKENS_DEFAULT: u32 = 8192;

/// The model that this rig runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// The catalog id under which it is offered.
    pub id: String,
    /// The weights.
    pub weights: PathBuf,
    /// What turns pictures into tokens, for models that see.
    pub projector: Option<PathBuf>,
}

/// Reads the catalog.
pub fn catalog(flags: &CacheFlags) -> anyhow::Result<Catalog> {
    let Some(path) = &flags.catalog else {
        return Catalog::parse(CATALOG).context("the catalog of this build");
    };
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("the catalog {} cannot be read", path.display()))?;
    Catalog::parse(&text).with_context(|| path.display().to_string())
}

/// The cache folder.
pub fn cache(flags: &CacheFlags) -> anyhow::Result<PathBuf> {
    flags
        .cache
        .clone()
        .or_else(model_files::default_cache)
        .context("there is no place for a cache of models: HOME is not set; use --cache")
}

/// What decides how much room the rig's cache and its batches take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Jobs at once.
    pub slots: u32,
    /// Tokens per slot, where the operator says.
    pub context_tokens: Option<u32>,
    /// Finished conversations that are kept.
    pub cached_conversations: u32,
    /// Prompt tokens per step, where the operator says; else the rig finds out later, and the most counts.
    pub prompt_batch: Option<u32>,
    /// What the cache holds.
    pub cache_type: CacheType,
    /// Whether the operator wants vectors of texts as well.
    pub has_vectors: bool,
    /// Whether the operator gives a chat template.
    pub has_template: bool,
    /// In which orders weights are kept a second time.
    pub orders: Orders,
}

/// What decides beside the room how a model is run.
#[expect(
    clippy::struct_excessive_bools,
    reason = "abilities come in any combination"
)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Traits {
    /// The longest context.
    context_max: u32,
    vocabulary: u32,
    has_projector: bool,
    /// Whether it can be talked to.
    has_template: bool,
    /// Whether it says itself how vectors are made.
    has_pooling: bool,
    is_encoder: bool,
    has_states: bool,
}

impl Room {
    fn of(config: &Config, memory: &Memory) -> Self {
        Self {
            slots: config.slots,
            context_tokens: config.context,
            cached_conversations: config.cached_conversations(),
            prompt_batch: config.batch,
            cache_type: config.cache_type,
            has_vectors: config.embeddings.is_some(),
            has_template: config.chat_template.is_some(),
            orders: memory.orders(),
        }
    }

    /// How a model is run: the same numbers as the engine's own contexts have (`engine/llama/context.rs`).
    fn how(self, model: Traits) -> Use {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let spares = spare_sequences(self.slots, self.cached_conversations);
        let batch_tokens = if model.has_projector {
            NODE_SLOTS_MAX + PROMPT_BATCH_MAX
        } else {
            self.slots + self.prompt_batch.unwrap_or(PROMPT_BATCH_MAX)
        };
        Use {
            context_tokens: self
                .context_tokens
                .unwrap_or(CONTEXT_TOKENS_DEFAULT)
                .min(model.context_max),
            slots: self.slots,
            sequences: self.slots + spares,
            batch_tokens,
            block_bytes: match self.cache_type {
                CacheType::F16 => 64,
                CacheType::Q8 => 34,
            },
            is_window_full: false,
            vectors: self.vectors(model),
            kept: Kept {
                // Nothing is saved of what nobody keeps.
                checkpoints: if spares > 0 {
                    count(CHECKPOINTS_MAX)
                } else {
                    0
                },
                checkpoint_bytes_max: CHECKPOINT_BYTES_MAX as u64,
                has_states: model.has_states && spares > 0,
                picture_bytes_max: KEPT_BYTES_MAX as u64,
            },
        }
    }

    fn vectors(self, model: Traits) -> Option<Vectors> {
        if !self.has_vectors && !model.has_pooling {
            return None;
        }
        let (_, batch_tokens) =
            vector_batch_tokens(self.context_tokens, model.context_max, model.vocabulary);
        Some(Vectors {
            batch_tokens,
            is_alone: !self.has_template && !model.has_template,
            is_encoder: model.is_encoder,
        })
    }
}

/// Decides what to run, fetches what is missing, which shows on the board, and says what it needs.
pub async fn choose(config: &Config, board: &Board) -> anyhow::Result<Chosen> {
    let memory = memory::read()?;
    let mut chosen = chosen(config, &memory, board).await?;
    if config.projector.is_some() {
        chosen.projector.clone_from(&config.projector);
    }
    tell_need(config, &chosen, &memory);
    Ok(chosen)
}

async fn chosen(config: &Config, memory: &Memory, board: &Board) -> anyhow::Result<Chosen> {
    let flags = &config.models;
    let offered = |id: &str| flags.offer_as.clone().unwrap_or_else(|| id.to_owned());
    let local = |id: String, weights: &Path| Chosen {
        id,
        weights: weights.to_owned(),
        projector: None,
    };
    let named = flags
        .offer_as
        .clone()
        .context("say with --offer-as under which catalog id this file is offered");
    match (&flags.model, &flags.model_file) {
        (Named::Entry(id), Some(file)) => Ok(local(offered(id), file)),
        (Named::Auto | Named::Url(_) | Named::Path(_), Some(file)) => Ok(local(
            named.context("--model-file: the file is given, its id is not")?,
            file,
        )),
        (Named::Path(path), None) => Ok(local(named?, path)),
        (Named::Url(url), None) => {
            let id = named?;
            Ok(local(id, &from_url(config, url, board).await?))
        }
        (Named::Entry(id), None) => {
            let catalog = catalog(&flags.cache)?;
            let Some(model) = catalog.model(id).filter(|model| choice::is_for_rigs(model)) else {
                let ours = catalog
                    .models()
                    .iter()
                    .filter(|model| choice::is_for_rigs(model));
                let ids: Vec<&str> = ours.map(|model| &model.id[..]).collect();
                bail!(
                    "the catalog has no model {id} for rigs; it has {}. Another file: --model PATH or URL, with --offer-as",
                    ids.join(", ")
                );
            };
            let mut chosen = from_catalog(config, model, board).await?;
            chosen.id = offered(id);
            Ok(chosen)
        }
        (Named::Auto, None) => {
            let catalog = catalog(&flags.cache)?;
            let room = Room::of(config, memory);
            let candidates = candidates(&catalog, &cache(&flags.cache)?, room);
            for line in choice::table(&candidates, memory) {
                tracing::info!("{line}");
            }
            let best = choice::best(&candidates, memory).context(
                "no model of the catalog fits this machine: fewer --slots or a shorter --context need less",
            )?;
            tracing::info!(model = best.id, "chosen");
            let model = catalog.model(&best.id).context("it was there just now")?;
            from_catalog(config, model, board).await
        }
    }
}

async fn from_catalog(config: &Config, model: &Model, board: &Board) -> anyhow::Result<Chosen> {
    let weights = model.weights().with_context(|| {
        format!(
            "the catalog names no file for {}: bring your own with --model-file",
            model.id
        )
    })?;
    let weights = get(config, &Wanted::of_catalog(weights), board).await?;
    // The operator's own goes before the catalog's.
    let wanted = model.projector().filter(|_| config.projector.is_none());
    let projector = match wanted {
        Some(file) => Some(get(config, &Wanted::of_catalog(file), board).await?),
        None => None,
    };
    if let Some(attribution) = &model.licence.attribution {
        tracing::info!(licence = model.licence.name.as_str(), "{attribution}");
    }
    Ok(Chosen {
        id: model.id.clone(),
        weights,
        projector,
    })
}

async fn from_url(config: &Config, url: &FileUrl, board: &Board) -> anyhow::Result<PathBuf> {
    let wanted = Wanted::of_url(url, config.models.sha256.as_deref());
    if wanted.sha256.is_none() {
        tracing::warn!(
            "nothing tells whether that file is the one you mean: add #sha256=… or --sha256"
        );
    }
    get(config, &wanted, board).await
}

async fn get(config: &Config, wanted: &Wanted, board: &Board) -> anyhow::Result<PathBuf> {
    let settings = Settings::new(cache(&config.models.cache)?);
    let mut reporter = Reporter::new(&wanted.name);
    let mut watch = Watch::new(board, &wanted.name);
    let mut tell = |progress| {
        reporter.tell(&progress);
        watch.tell(&progress);
    };
    let fetched: Result<PathBuf, FetchError> = fetch(wanted, &settings, &mut tell).await;
    Ok(fetched?)
}

/// Reckons what local files need. None where the header cannot be read, which is warned of: a broken file is then
/// refused by the loader, but one that only is beyond a limit of ours loads.
pub fn need_of_files(weights: &Path, projector: Option<&Path>, room: Room) -> Option<(Need, Use)> {
    let bytes = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
    let header = header::read(File::open(weights).ok()?)
        .inspect_err(|error| {
            let why = error.without_names();
            tracing::warn!(%why, "what the model needs is not reckoned");
        })
        .ok()?;
    let how = room.how(Traits {
        context_max: header.context_tokens,
        vocabulary: header.shape.vocabulary,
        has_projector: projector.is_some(),
        has_template: header.has_template,
        has_pooling: header.has_pooling,
        is_encoder: header.is_encoder,
        has_states: header.has_states,
    });
    let weights = Weights {
        file: bytes(weights),
        reordered: reordered(backend().ok()?, &header.matrices, room.orders),
        reordered_max: 0,
        projector: projector.map_or(0, bytes),
        encoder: projector
            .filter(|_| room.orders != Orders::None)
            .and_then(|path| {
                let encoder = header::read_encoder(File::open(path).ok()?);
                let encoder = encoder.inspect_err(|error| {
                    let why = error.without_names();
                    tracing::warn!(%why, "what a picture needs is not reckoned");
                });
                encoder.ok()?
            }),
    };
    Some((need(&header.shape, weights, &how), how))
}

/// The catalog's models that a rig can run. What is in the cache says itself what it needs.
fn candidates(catalog: &Catalog, cache: &Path, room: Room) -> Vec<Candidate> {
    let mut candidates = choice::candidates(catalog, room);
    for candidate in &mut candidates {
        let Some(model) = catalog.model(&candidate.id) else {
            continue;
        };
        let path = |file: &catalog::File| {
            let wanted = Wanted::of_catalog(file);
            cache.join(wanted.folder()).join(&wanted.name)
        };
        candidate.is_cached = model.files.iter().all(|file| path(file).is_file());
        let Some(weights) = model.weights().filter(|_| candidate.is_cached) else {
            continue;
        };
        let projector = model.projector().map(path);
        if let Some((need, how)) = need_of_files(&path(weights), projector.as_deref(), room) {
            candidate.need = need;
            candidate.how = how;
        }
    }
    candidates
}

/// Says before loading what the model will need here, and warns where that is more than there is.
fn tell_need(config: &Config, chosen: &Chosen, memory: &Memory) {
    let projector = chosen.projector.as_deref();
    let Some((need, how)) = need_of_files(&chosen.weights, projector, Room::of(config, memory))
    else {
        return;
    };
    let candidate = Candidate {
        id: chosen.id.clone(),
        need,
        how,
        is_cached: true,
    };
    if !matches!(config.models.model, Named::Auto) {
        for line in choice::table(std::slice::from_ref(&candidate), memory) {
            tracing::info!("{line}");
        }
    }
    if !memory.fits(&need) {
        tracing::warn!(
            "{} needs up to {} MiB, and {} MiB are free: fewer --slots or a shorter --context need less",
            chosen.id,
            memory.needed(&need).saturating_add(memory.later_max(&need)) >> 20,
            memory.free >> 20
        );
    }
}

#[cfg(test)]
mod tests;
