//! Pictures between decode steps: embeddings cannot go into a batch of tokens, so they go into batches of their own.
//!
//! At most one piece of one picture goes before each step: that of the oldest prompt that has come to a picture. It counts
//! as a piece of a prompt: what it takes is not there for text any more, so running answers wait no longer for pictures
//! than for text.
//!
//! The one exception is a picture that cannot be cut ([`NextPiece::Whole`]). It may take more than a step's tokens, and
//! keeps answers waiting for as long as all of it takes; nothing else is read in that step. It waits until its prompt is
//! the oldest, so that others get on between such pictures.

use protocol::{ErrorCode, Failure};

use super::sharing::{self, Prompt};
use super::{EngineEvent, LlamaEngine};
use crate::engine::vision::{DecodeFault, NextPiece, Projector};

/// The cache is in an unknown state.
#[derive(Debug)]
pub(super) struct CacheBroken;

/// What is looked at before a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Glance {
    /// In which place of the engine the job's slot is.
    place: usize,
    /// Index of the first token in its prompt.
    index: usize,
    tokens: usize,
}

impl LlamaEngine<'_> {
    /// Puts a piece of a picture into the cache, where a job has come to one and some of the step's `tokens` are its. Says
    /// how many it took.
    pub(super) fn look(&mut self, tokens: usize) -> Result<usize, CacheBroken> {
        let Some(projector) = self.projector else {
            return Ok(0);
        };
        let Some(glance) = self.choose_glance(projector, tokens) else {
            return Ok(0);
        };
        let mut seen = self.glance(projector, glance, glance.tokens);
        if seen == Err(DecodeFault::NoRoom) {
            // What is kept goes before a job does.
            let all = usize::try_from(self.context.n_ctx()).unwrap_or(usize::MAX);
            seen = self.glance(projector, glance, all);
        }
        match seen {
            // That pictures go says nothing of tokens: only a whole step ends a row of failures.
            Ok(()) => Ok(glance.tokens),
            Err(DecodeFault::Broken) => Err(CacheBroken),
            Err(fault @ (DecodeFault::NoRoom | DecodeFault::Refused)) => {
                tracing::error!(?fault, "a picture could not be decoded");
                self.fail_one(glance.place);
                Ok(0)
            }
        }
    }

    fn choose_glance(&mut self, projector: &Projector<'_>, tokens: usize) -> Option<Glance> {
        let looking = (0usize..).zip(&self.slots).filter_map(|(place, slot)| {
            let slot = slot.as_ref()?;
            let index = slot.looks_at()?;
            let is_ready = !self.cache.is_following(place);
            is_ready.then_some((slot.number(), place, index, slot.unread()))
        });
        let (number, place, index, unread) = looking.min()?;
        let slot = self.slots.get(place)?.as_ref()?;
        let next = slot.view().next_piece(projector, index)?;
        self.find_prompts();
        let (NextPiece::UpTo(readable) | NextPiece::Whole(readable)) = next;
        self.prompts.push(Prompt {
            place,
            number,
            unread,
            readable,
            share: 0,
        });
        let tokens = take(next, number, tokens, &mut self.prompts);
        (tokens > 0).then_some(Glance {
            place,
            index,
            tokens,
        })
    }

    /// Decodes once, with room made for so many tokens.
    fn glance(
        &mut self,
        projector: &Projector<'_>,
        glance: Glance,
        room: usize,
    ) -> Result<(), DecodeFault> {
        let Glance {
            place,
            index,
            tokens,
        } = glance;
        self.make_room(room);
        let sequence = i32::try_from(place).map_err(|_| DecodeFault::Refused)?;
        let slot = self.slots.get_mut(place).and_then(Option::as_mut);
        let slot = slot.ok_or(DecodeFault::Refused)?;
        #[cfg(test)]
        tests::planted(slot.key())?;
        let view = slot.view();
        view.decode(projector, &mut self.context, index, tokens, sequence)?;
        self.events.push_back(EngineEvent::Progress {
            key: slot.key(),
            prefilled_tokens: slot.note_seen(tokens),
        });
        Ok(())
    }

    /// One job cannot go on; what is in the cache of the others is as it was.
    fn fail_one(&mut self, place: usize) {
        let Some(mut slot) = self.slots.get_mut(place).and_then(Option::take) else {
            return;
        };
        self.events.push_back(EngineEvent::Failed {
            key: slot.key(),
            failure: Failure::new(
                ErrorCode::EngineFailed,
                "the node could not show an image to the model; try again",
            ),
        });
        // Nothing is kept of it.
        slot.start_over();
        self.keep(place, &slot);
    }
}

/// How many tokens of a picture are decoded before a step that may read `tokens`. The prompt that it belongs to, with
/// this number, is one of `prompts`.
fn take(next: NextPiece, number: u64, tokens: usize, prompts: &mut [Prompt]) -> usize {
    sharing::divide(tokens, prompts);
    let share = prompts.iter().find(|prompt| prompt.number == number);
    let share = share.map_or(0, |prompt| prompt.share);
    match next {
        NextPiece::UpTo(most) => share.min(most),
        NextPiece::Whole(all) => {
            let is_oldest = prompts.iter().all(|prompt| prompt.number >= number);
            if share >= all || is_oldest { all } else { 0 }
        }
    }
}

#[cfg(test)]
mod tests;
