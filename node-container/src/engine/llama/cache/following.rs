//! Jobs that want to read the same at the same time: one reads, the others wait for it.

use super::state::Follow;
use crate::engine::llama::LlamaEngine;

/// A job waits for another one's reading if it saves at least so much of its own.
const FOLLOWED_TOKENS_MIN: usize = 64;

impl LlamaEngine<'_> {
    /// Jobs that waited for another one's reading, and need not any more, share what it has read.
    pub(in crate::engine::llama) fn stop_following(&mut self) {
        for index in 0..self.slots.len() {
            let seat = self.cache.seats.get(index);
            let Some(follow) = seat.and_then(|seat| seat.follows) else {
                continue;
            };
            let leader = self.slots.get(follow.leader).and_then(Option::as_ref);
            let is_reading = leader.is_some_and(|leader| {
                leader.key() == follow.key
                    && !leader.is_paused()
                    && leader.is_reading()
                    && leader.prefilled() < follow.tokens
            });
            if is_reading {
                continue;
            }
            if let Some(seat) = self.cache.seat(index) {
                seat.follows = None;
            }
            self.reuse(index);
            self.plan_checkpoints(index);
        }
    }

    /// Finds another job that is about to read the same beginning.
    pub(super) fn follow(&mut self, index: usize) {
        let Some(slot) = self.slots.get(index).and_then(Option::as_ref) else {
            return;
        };
        if !slot.may_reuse() {
            return;
        }
        let least = slot.prefilled() + FOLLOWED_TOKENS_MIN;
        let wanted = slot.context();
        let leaders = self.slots.iter().enumerate().filter_map(|(leader, other)| {
            let other = other
                .as_ref()
                .filter(|other| other.is_reading() && !other.is_paused())?;
            let same = other
                .context()
                .iter()
                .zip(wanted)
                .take_while(|(left, right)| left == right);
            let tokens = same.count().min(wanted.len().saturating_sub(1));
            (leader != index && tokens >= least && tokens > other.prefilled()).then_some(Follow {
                leader,
                key: other.key(),
                tokens,
            })
        });
        let found = leaders.reduce(|best, other| {
            if other.tokens > best.tokens {
                other
            } else {
                best
            }
        });
        if let Some(follow) = found {
            if let Some(seat) = self.cache.seat(index) {
                seat.follows = Some(follow);
            }
            self.plan_stop(follow.leader, follow.tokens);
        }
    }
}
