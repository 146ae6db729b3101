//! What is compared: something that reads tokens and has logits for each of them.

use std::io::Read;

use anyhow::Result;
use webgpu_engine::model::{CacheType, Config};
use webgpu_engine::reference::Model;

use crate::file::GgufFile;
use crate::truth::Rows;

/// Takes a row of logits.
pub(crate) type Visit<'a> = dyn FnMut(&[f32]) -> Result<()> + 'a;

/// An engine with a model.
pub(crate) trait Engine {
    /// What computes, in words.
    fn adapter(&self) -> String;

    /// Reads tokens from the beginning. Gives `visit` a row of logits for each, in their order.
    fn logits(&mut self, tokens: &[u32], visit: &mut Visit<'_>) -> Result<()>;
}

/// Tokens that the CPU reference reads at once.
const REFERENCE_TOKENS: usize = 8;

/// The CPU reference: slow, and no kernel has run. It shows that the comparison itself is right.
#[derive(Debug)]
pub(crate) struct Reference {
    model: Model,
}

impl Reference {
    /// Loads it.
    pub(crate) fn load(file: &mut GgufFile) -> Result<Self> {
        let header = file.header.clone();
        let config = Config::read(&header)?;
        let model = Model::load(config, &header, |range| {
            file.read(range).map_err(std::io::Error::other)
        })?;
        Ok(Self { model })
    }
}

impl Engine for Reference {
    fn adapter(&self) -> String {
        "CPU reference, no kernels".to_owned()
    }

    fn logits(&mut self, tokens: &[u32], visit: &mut Visit<'_>) -> Result<()> {
        let width = usize::try_from(self.model.config().vocabulary)?;
        let mut session = self.model.session(CacheType::F16);
        for tokens in tokens.chunks(REFERENCE_TOKENS) {
            session
                .read(tokens)?
                .chunks_exact(width)
                .try_for_each(&mut *visit)?;
        }
        Ok(())
    }
}

/// Logits that something else has written, a browser.
#[derive(Debug)]
pub(crate) struct Recorded<R>(pub(crate) Rows<R>);

impl<R: Read> Engine for Recorded<R> {
    fn adapter(&self) -> String {
        "a file".to_owned()
    }

    fn logits(&mut self, tokens: &[u32], visit: &mut Visit<'_>) -> Result<()> {
        tokens.iter().try_for_each(|_| visit(self.0.next()?))?;
        self.0.end()
    }
}
