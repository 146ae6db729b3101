//! Whole models on the adapter that is here, against the CPU's reference; sessions and answers.

mod answers;
mod models;
mod tuning;

use std::sync::Arc;

use gguf_writer::seeded::family::Family;

use super::{Engine, LoadError, Loader, Settings};
use crate::gpu::Gpu;
use crate::kernels::Numbers;
use crate::model::CacheType;
use crate::quant::QuantType;
use crate::reference;
use crate::reference::tests::bytes;

/// Loads a file in pieces of a length that fits nothing.
pub(super) fn load(
    gpu: &Arc<Gpu>,
    file: &[u8],
    settings: Settings,
) -> Result<Arc<Engine>, LoadError> {
    pollster::block_on(async {
        let mut loader = Loader::new(Arc::clone(gpu), Some(file.len() as u64), settings);
        for piece in file.chunks(10_007) {
            loader.push(piece).await?;
        }
        Ok(Arc::new(loader.finish().await?))
    })
}

pub(super) fn settings(cache: CacheType, logit_rows: u32) -> Settings {
    Settings {
        cache,
        logit_rows,
        numbers: Some(Numbers::Float),
        batch_tokens: Some(8),
        sessions: 4,
        context_tokens: Some(64),
        ..Settings::default()
    }
}
