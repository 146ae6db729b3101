//! The flags that say which model, and where models lie.

use std::path::PathBuf;

use clap::Args;
use model_files::{Named, named};

use super::parse_name;

/// Which model.
#[derive(Debug, Clone, Args)]
pub struct ModelFlags {
    /// What to run: the id of a catalog entry, which is fetched; the path or the https:// address of a GGUF file
    /// (`#sha256=…` behind it is checked); or `auto`, the best catalog entry that fits this machine.
    #[arg(long, env = "HELIOGRAPH_MODEL", value_name = "ID|PATH|URL|auto", value_parser = parse_model)]
    pub model: Named,

    /// A GGUF file to run instead of the one that the catalog names.
    #[arg(long, env = "HELIOGRAPH_MODEL_FILE", value_name = "PATH")]
    pub model_file: Option<PathBuf>,

    /// The catalog id under which the model is offered, where --model is a path or an address.
    #[arg(long, env = "HELIOGRAPH_OFFER_AS", value_name = "ID", value_parser = parse_name)]
    pub offer_as: Option<String>,

    /// What the file at --model's address must hash to.
    #[arg(long, env = "HELIOGRAPH_SHA256", value_name = "DIGITS", value_parser = parse_sha256)]
    pub sha256: Option<String>,

    /// Where they lie.
    #[command(flatten)]
    pub cache: CacheFlags,
}

/// Where models are listed and kept.
#[derive(Debug, Clone, Args)]
pub struct CacheFlags {
    /// A catalog.toml to use instead of the one of this build.
    #[arg(long, env = "HELIOGRAPH_CATALOG", value_name = "PATH")]
    pub catalog: Option<PathBuf>,

    /// Where fetched models are kept; rigs may share it [default: ~/.cache/heliograph/models].
    #[arg(long, env = "HELIOGRAPH_CACHE", value_name = "PATH")]
    pub cache: Option<PathBuf>,
}

fn parse_model(text: &str) -> Result<Named, String> {
    let named = Named::parse(text).map_err(|error| error.to_string())?;
    if let Named::Entry(id) = &named {
        parse_name(id)?;
    }
    Ok(named)
}

fn parse_sha256(text: &str) -> Result<String, String> {
    named::sha256(text).map_err(|error| error.to_string())
}
