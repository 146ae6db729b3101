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

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use catalog::{Catalog, Model};
use model_files::need::{Need, Use, need};
use model_files::{FetchError, FileUrl, Named, Reporter, Settings, Wanted, fetch, gguf};
use protocol::limits::NODE_SLOTS_MAX;

use crate::config::{CacheFlags, Config};
use crate::engine::llama::{CacheType, spare_sequences};
use crate::engine::tuning::PROMPT_BATCH_MAX;
pub use choice::Candidate;
pub use listing::{COMMAND, run};
pub use memory::Memory;

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
}

impl Room {
    fn of(config: &Config) -> Self {
        Self {
            slots: config.slots,
            context_tokens: config.context,
            cached_conversations: config.cached_conversations(),
            prompt_batch: config.batch,
            cache_type: config.cache_type,
        }
    }

    /// How a model with a context of at most so many tokens is run, with or without a picture encoder: the same numbers
    /// as the engine's own context has (`engine/llama/context.rs`).
    pub fn how(self, context_max: u32, has_projector: bool) -> Use {
        let batch_tokens = if has_projector {
            NODE_SLOTS_MAX + PROMPT_BATCH_MAX
        } else {
            self.slots + self.prompt_batch.unwrap_or(PROMPT_BATCH_MAX)
        };
        Use {
            context_tokens: self
                .context_tokens
                .unwrap_or(CONTEXT_TOKENS_DEFAULT)
                .min(context_max),
            slots: self.slots,
            sequences: self.slots + spare_sequences(self.slots, self.cached_conversations),
            batch_tokens,
            block_bytes: match self.cache_type {
                CacheType::F16 => 64,
                CacheType::Q8 => 34,
            },
            is_window_full: false,
        }
    }
}

/// Decides what to run, fetches what is missing, and says what it needs.
pub async fn choose(config: &Config) -> anyhow::Result<Chosen> {
    let memory = memory::read()?;
    let mut chosen = chosen(config, &memory).await?;
    if config.projector.is_some() {
        chosen.projector.clone_from(&config.projector);
    }
    tell_need(config, &chosen, &memory);
    Ok(chosen)
}

async fn chosen(config: &Config, memory: &Memory) -> anyhow::Result<Chosen> {
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
            Ok(local(id, &from_url(config, url).await?))
        }
        (Named::Entry(id), None) => {
            let catalog = catalog(&flags.cache)?;
            let Some(model) = catalog.model(id) else {
                let ids: Vec<&str> = catalog.models().iter().map(|model| &model.id[..]).collect();
                bail!(
                    "the catalog has no model {id}; it has {}. Another file: --model PATH or URL, with --offer-as",
                    ids.join(", ")
                );
            };
            let mut chosen = from_catalog(config, model).await?;
            chosen.id = offered(id);
            Ok(chosen)
        }
        (Named::Auto, None) => {
            let catalog = catalog(&flags.cache)?;
            let candidates = choice::candidates(&catalog, Room::of(config));
            for line in choice::table(&candidates, memory) {
                tracing::info!("{line}");
            }
            let best = choice::best(&candidates, memory).context(
                "no model of the catalog fits this machine: fewer --slots or a shorter --context need less",
            )?;
            tracing::info!(model = best.id, "chosen");
            let model = catalog.model(&best.id).context("it was there just now")?;
            from_catalog(config, model).await
        }
    }
}

async fn from_catalog(config: &Config, model: &Model) -> anyhow::Result<Chosen> {
    let weights = model.weights().with_context(|| {
        format!(
            "the catalog names no file for {}: bring your own with --model-file",
            model.id
        )
    })?;
    let weights = get(config, &Wanted::of_catalog(weights)).await?;
    // The operator's own goes before the catalog's.
    let wanted = model.projector().filter(|_| config.projector.is_none());
    let projector = match wanted {
        Some(file) => Some(get(config, &Wanted::of_catalog(file)).await?),
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

async fn from_url(config: &Config, url: &FileUrl) -> anyhow::Result<PathBuf> {
    let wanted = Wanted::of_url(url, config.models.sha256.as_deref());
    if wanted.sha256.is_none() {
        tracing::warn!(
            "nothing tells whether that file is the one you mean: add #sha256=… or --sha256"
        );
    }
    get(config, &wanted).await
}

async fn get(config: &Config, wanted: &Wanted) -> anyhow::Result<PathBuf> {
    let settings = Settings::new(cache(&config.models.cache)?);
    let mut reporter = Reporter::new(&wanted.name);
    let fetched: Result<PathBuf, FetchError> =
        fetch(wanted, &settings, &mut |progress| reporter.tell(&progress)).await;
    Ok(fetched?)
}

/// Reckons what local files need. None where the header cannot be read: the loader says better what is wrong.
pub fn need_of_files(weights: &Path, projector: Option<&Path>, room: Room) -> Option<(Need, Use)> {
    let bytes = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
    let header = gguf::read(File::open(weights).ok()?).ok()?;
    let how = room.how(header.context_tokens, projector.is_some());
    let need = need(
        &header.shape,
        bytes(weights),
        projector.map_or(0, bytes),
        &how,
    );
    Some((need, how))
}

/// Says before loading what the model will need here, and warns where that is more than there is.
fn tell_need(config: &Config, chosen: &Chosen, memory: &Memory) {
    let projector = chosen.projector.as_deref();
    let Some((need, how)) = need_of_files(&chosen.weights, projector, Room::of(config)) else {
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
            "{} needs about {} MiB, and {} MiB are free: fewer --slots or a shorter --context need less",
            chosen.id,
            need.total() >> 20,
            memory.free >> 20
        );
    }
}

#[cfg(test)]
mod tests;
