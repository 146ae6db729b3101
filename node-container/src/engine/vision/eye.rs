//! Looks at the pictures of prompts: keeps what it saw, for the next turn shows the same pictures again.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Projector, View};

/// Embeddings that are kept: about fifty pictures of large models.
pub(crate) const KEPT_BYTES_MAX: usize = 256 << 20;

/// A projector with a memory. Lives on a thread of its own.
#[derive(Debug)]
pub struct Eye<'p> {
    projector: &'p Projector<'p>,
    /// The last used one comes last.
    kept: VecDeque<([u8; 32], Arc<[f32]>)>,
    kept_bytes_max: usize,
}

impl<'p> Eye<'p> {
    /// One that has seen nothing.
    pub const fn new(projector: &'p Projector<'p>) -> Self {
        Self {
            projector,
            kept: VecDeque::new(),
            kept_bytes_max: KEPT_BYTES_MAX,
        }
    }

    /// Encodes what is in view; `false` where something could not be, or where `is_wanted` said no before the next one.
    pub fn look(&mut self, view: &mut View, is_wanted: impl Fn() -> bool) -> bool {
        for shown in &mut view.pieces {
            if !is_wanted() {
                return false;
            }
            let name = shown.piece.name;
            let embeddings = self
                .remembered(&name)
                .or_else(|| self.projector.encode(&shown.piece).map(Arc::from));
            let Some(embeddings) = embeddings else {
                return false;
            };
            self.keep(name, Arc::clone(&embeddings));
            shown.embeddings = Some(embeddings);
        }
        true
    }

    fn remembered(&mut self, name: &[u8; 32]) -> Option<Arc<[f32]>> {
        let index = self.kept.iter().position(|(of, _)| of == name)?;
        self.kept.remove(index).map(|(_, embeddings)| embeddings)
    }

    fn keep(&mut self, name: [u8; 32], embeddings: Arc<[f32]>) {
        self.kept.push_back((name, embeddings));
        let bytes = |(_, embeddings): &([u8; 32], Arc<[f32]>)| size_of_val::<[f32]>(embeddings);
        while self.kept.iter().map(bytes).sum::<usize>() > self.kept_bytes_max {
            self.kept.pop_front();
        }
    }
}
