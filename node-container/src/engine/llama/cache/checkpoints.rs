//! States of sequences at certain places, for models whose caches cannot be cut anywhere: sliding windows forget, and
//! recurrent states have no parts. What such a model does keep whole, its full attention, is not in here.

use std::rc::Rc;

use llama_cpp_2::context::session::SeqState;

/// Memory for all of them. A window of 1,024 tokens has 8 MB to 400 MB, depending on the model.
pub(crate) const CHECKPOINT_BYTES_MAX: usize = 1 << 30;

/// Of one sequence: behind the system prompt, and around the newest turns.
pub(crate) const CHECKPOINTS_MAX: usize = 4;

/// One state.
#[derive(Debug, Clone)]
pub(super) struct Checkpoint {
    pub(super) sequence: i32,
    /// After so many tokens.
    pub(super) tokens: usize,
    pub(super) state: Rc<SeqState>,
}

/// All of them, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    all: Vec<Checkpoint>,
}

impl Checkpoints {
    /// A sequence's state after so many tokens.
    pub(super) fn at(&self, sequence: i32, tokens: usize) -> Option<Rc<SeqState>> {
        let mut found = self
            .all
            .iter()
            .filter(|checkpoint| checkpoint.sequence == sequence && checkpoint.tokens == tokens);
        found.next().map(|checkpoint| Rc::clone(&checkpoint.state))
    }

    /// Whether there is one.
    pub(super) fn has(&self, sequence: i32, tokens: usize) -> bool {
        self.all
            .iter()
            .any(|checkpoint| checkpoint.sequence == sequence && checkpoint.tokens == tokens)
    }

    /// Takes one in, and lets the oldest go where there are too many.
    pub(super) fn add(&mut self, checkpoint: Checkpoint) {
        let sequence = checkpoint.sequence;
        self.all.push(checkpoint);
        let mut of_sequence: Vec<usize> = self
            .all
            .iter()
            .filter(|checkpoint| checkpoint.sequence == sequence)
            .map(|checkpoint| checkpoint.tokens)
            .collect();
        if of_sequence.len() > CHECKPOINTS_MAX {
            of_sequence.sort_unstable();
            // The first one is the system prompt's; the next is the oldest turn's.
            if let Some(oldest) = of_sequence.get(1) {
                self.all.retain(|checkpoint| {
                    checkpoint.sequence != sequence || checkpoint.tokens != *oldest
                });
            }
        }
        while self.bytes() > CHECKPOINT_BYTES_MAX && !self.all.is_empty() {
            self.all.remove(0);
        }
    }

    /// `to` begins like `from`, for so many tokens.
    pub(super) fn share(&mut self, from: i32, to: i32, tokens: usize) {
        let shared: Vec<Checkpoint> = self
            .all
            .iter()
            .filter(|checkpoint| checkpoint.sequence == from && checkpoint.tokens <= tokens)
            .map(|checkpoint| Checkpoint {
                sequence: to,
                ..checkpoint.clone()
            })
            .collect();
        self.all.extend(shared);
    }

    /// A sequence is empty.
    pub(super) fn forget(&mut self, sequence: i32) {
        self.all
            .retain(|checkpoint| checkpoint.sequence != sequence);
    }

    /// All sequences are.
    pub(super) fn clear(&mut self) {
        self.all.clear();
    }

    /// What they occupy; shared states once.
    pub(super) fn bytes(&self) -> usize {
        let mut seen: Vec<*const SeqState> = Vec::new();
        let mut bytes = 0;
        for checkpoint in &self.all {
            let state = Rc::as_ptr(&checkpoint.state);
            if !seen.contains(&state) {
                seen.push(state);
                bytes += checkpoint.state.byte_len();
            }
        }
        bytes
    }
}
