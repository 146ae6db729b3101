//! Our engine on this machine's adapter.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use pollster::block_on;
use webgpu_engine::gpu::{Gpu, Wish};
use webgpu_engine::run::{Loader, Session, Settings};

use crate::engine::{Engine, Visit};
use crate::file::PIECE_BYTES;

/// A model on the adapter.
#[derive(Debug)]
pub(crate) struct Native {
    /// Its only session.
    pub(crate) session: Session,
}

/// Opens the adapter that Vulkan's loader finds, or Metal's.
pub(crate) fn open() -> Result<Arc<Gpu>> {
    Ok(Arc::new(block_on(Gpu::open(&Wish::default()))?))
}

/// The adapter and its driver.
pub(crate) fn name(gpu: &Gpu) -> String {
    let abilities = gpu.abilities();
    format!("{}, {}", abilities.adapter, abilities.driver)
}

impl Native {
    /// Loads a model, a piece of the file at a time.
    pub(crate) fn load(gpu: &Arc<Gpu>, path: &Path, settings: Settings) -> Result<Self> {
        let mut file = File::open(path).with_context(|| path.display().to_string())?;
        let bytes = file.metadata()?.len();
        let mut loader = Loader::new(Arc::clone(gpu), Some(bytes), settings);
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let count = file.read(&mut piece)?;
            let Some(come) = piece.get(..count).filter(|come| !come.is_empty()) else {
                break;
            };
            block_on(loader.push(come))?;
        }
        let engine = Arc::new(block_on(loader.finish())?);
        let session = block_on(engine.session())?;
        Ok(Self { session })
    }
}

impl Engine for Native {
    fn adapter(&self) -> String {
        name(self.session.engine().gpu())
    }

    fn logits(&mut self, tokens: &[u32], visit: &mut Visit<'_>) -> Result<()> {
        let mut outcome = Ok(());
        let read = self.session.logits(tokens, |row| {
            if outcome.is_ok() {
                outcome = visit(row);
            }
        });
        block_on(read)?;
        outcome
    }
}

/// Refuses packed dot products where the adapter's language has none: floats would be measured in their name.
pub(crate) fn check_packed_dot(gpu: &Gpu) -> Result<()> {
    if !gpu.abilities().has_packed_dot {
        bail!("{} has no packed dot products", name(gpu));
    }
    Ok(())
}
