//! Whole models on the adapter that is here, against the CPU's reference; sessions and answers.

mod answers;
mod models;

use std::sync::Arc;

use gguf_writer::seeded::family::{Family, Small};

use super::{Engine, LoadError, Loader, Settings};
use crate::gguf;
use crate::gpu::Gpu;
use crate::kernels::Numbers;
use crate::model::{CacheType, Config};
use crate::quant::QuantType;
use crate::reference;

/// The file of a small seeded model whose matrices are of this type.
fn file(family: Family, kind: QuantType) -> Vec<u8> {
    let small = Small {
        family,
        width: if kind.quant().block_weights > 64 {
            256
        } else {
            64
        },
        seed: 7,
    };
    let encode = |weights: &[f32]| {
        let blocks = kind.encode(weights).expect("whole blocks");
        (kind.quant().ggml_id, blocks)
    };
    small.write(&encode).expect("fits").to_bytes()
}

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

/// The same model on the CPU.
fn on_cpu(file: &[u8]) -> reference::Model {
    let header = gguf::read(file, Some(file.len() as u64)).expect("a header");
    let config = Config::read(&header).expect("can be run");
    let loaded = reference::Model::load(config, &header, |range| {
        let [start, end] = [range.start, range.end].map(|at| usize::try_from(at).expect("small"));
        file.get(start..end).map(<[u8]>::to_vec).ok_or(())
    });
    loaded.expect("whole")
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
