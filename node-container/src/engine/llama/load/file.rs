//! Model files → models.

use std::io::Read as _;
use std::path::Path;

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;

use super::backend::backend;
use super::options::LlamaOptions;
use super::outcome::LoadError;
use crate::engine::llama::BATCH_TOKENS_MAX;
use crate::engine::vision::Projector;

/// The model, with its weights.
pub(in crate::engine::llama) fn load_model(
    options: &LlamaOptions,
) -> Result<LlamaModel, LoadError> {
    load_model_as(options, &LlamaModelParams::default())
}

fn load_model_as(
    options: &LlamaOptions,
    params: &LlamaModelParams,
) -> Result<LlamaModel, LoadError> {
    let path = &options.model_file;
    check_magic(path)?;
    let backend = backend()?;
    LlamaModel::load_from_file(backend, path, params).map_err(|error| LoadError::Model {
        path: path.clone(),
        error: error.to_string(),
    })
}

/// Lends a model's vocabulary to `work`, without its weights.
pub fn with_vocabulary<T>(
    options: &LlamaOptions,
    work: impl FnOnce(&LlamaModel) -> T,
) -> Result<T, LoadError> {
    load_model_as(options, &LlamaModelParams::default().with_vocab_only(true))
        .map(|model| work(&model))
}

/// llama.cpp says little about files that it cannot read.
fn check_magic(path: &Path) -> Result<(), LoadError> {
    let mut magic = [0; 4];
    std::fs::File::open(path)
        .and_then(|mut file| file.read_exact(&mut magic))
        .map_err(|error| {
            if error.kind() == std::io::ErrorKind::UnexpectedEof {
                LoadError::NotGguf(path.to_owned())
            } else {
                LoadError::Unreadable {
                    path: path.to_owned(),
                    error,
                }
            }
        })?;
    if &magic == b"GGUF" {
        Ok(())
    } else {
        Err(LoadError::NotGguf(path.to_owned()))
    }
}

/// What lets the model see, where there is such a file.
pub(in crate::engine::llama) fn projector<'m>(
    model: &'m LlamaModel,
    options: &LlamaOptions,
    threads: u32,
) -> Result<Option<Projector<'m>>, LoadError> {
    let Some(path) = &options.projector_file else {
        return Ok(None);
    };
    check_magic(path)?;
    let projector = Projector::load(path, model, threads, BATCH_TOKENS_MAX)?;
    Ok(Some(projector))
}
