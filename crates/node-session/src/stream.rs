//! A job's answer as this node knows it: where it stands, what was sent, and the bytes that its client may not have yet.
//!
//! ```text
//! 0 ........ base ............ sent ........... end
//!   hashed,  │  kept: marks,    │  not yet in a │
//!   released │  tokens, bytes   │  frame        │
//! ```
//! Offsets and tokens count over the whole job: an attempt that goes on with a carried answer begins where that ends.

use std::collections::VecDeque;

use protocol::limits::{ANSWER_BYTES_MAX, CARRIED_TOKENS_MAX, ENTRY_BYTES_MAX, ENTRY_TOKENS_MAX};
use protocol::{Answer, AnswerHash, DeltaKind, RunningHash};

/// A place in an answer. Tokens without text make several places of one offset, so both count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    /// Bytes before it.
    pub(crate) offset: u32,
    /// Tokens before it.
    pub(crate) tokens: u32,
}

/// Where a delta of the engine ends. Marks are never joined: an end that was sent is found again when it is resent.
#[derive(Debug, Clone, Copy)]
struct Mark {
    end: Position,
    kind: DeltaKind,
}

/// Neighbouring deltas of one kind, to be written as one entry.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    pub(crate) offset: u32,
    pub(crate) kind: DeltaKind,
    pub(crate) tokens: &'a [u32],
    pub(crate) bytes: &'a [u8],
    pub(crate) end: Position,
}

/// One answer, from its unacknowledged part on.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    marks: VecDeque<Mark>,
    tokens: Vec<u32>,
    bytes: Vec<u8>,
    /// Everything before is released.
    base: Position,
    /// Of the bytes before `base`.
    hash: RunningHash,
    acknowledged: u32,
    sent: Position,
    end: Position,
}

impl Stream {
    /// A stream that goes on where a carried answer ends.
    pub(crate) fn after(answer: Option<&Answer>) -> Self {
        let mut stream = Self::default();
        let Some(answer) = answer else { return stream };
        for piece in &answer.pieces {
            stream.hash.update(piece.text.as_bytes());
        }
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let start = Position {
            offset: number(answer.bytes()),
            tokens: number(answer.token_count()),
        };
        stream.acknowledged = start.offset;
        (stream.base, stream.sent, stream.end) = (start, start, start);
        stream
    }

    /// Appends a delta of the engine, which fits an entry.
    pub(crate) fn push(
        &mut self,
        kind: DeltaKind,
        tokens: &[u32],
        bytes: &[u8],
    ) -> Result<(), &'static str> {
        let sum = |start: u32, more: usize| start.checked_add(u32::try_from(more).ok()?);
        let end = sum(self.end.offset, bytes.len())
            .filter(|offset| *offset <= ANSWER_BYTES_MAX)
            .zip(sum(self.end.tokens, tokens.len()))
            .ok_or("the answer is longer than an answer may be")?;
        if self.tokens.len() + tokens.len() > CARRIED_TOKENS_MAX {
            // The window counts bytes only; these would not be bounded by it.
            return Err("the engine makes too many tokens without text");
        }
        self.end = Position {
            offset: end.0,
            tokens: end.1,
        };
        self.marks.push_back(Mark {
            end: self.end,
            kind,
        });
        self.tokens.extend_from_slice(tokens);
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Where the answer stands.
    pub(crate) const fn end(&self) -> Position {
        self.end
    }

    /// The first byte that is still here, and the hash of those before it.
    pub(crate) fn released(&self) -> (u32, AnswerHash) {
        (self.base.offset, self.hash.hash())
    }

    /// Bytes that the client has not acknowledged.
    pub(crate) const fn unacknowledged(&self) -> u32 {
        self.end.offset.saturating_sub(self.acknowledged)
    }

    /// Answer bytes held.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Memory held, about.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.bytes.len()
            + self.tokens.len() * size_of::<u32>()
            + self.marks.len() * size_of::<Mark>()
    }

    /// The client has everything before `offset`; `false` where it cannot.
    ///
    /// What is not wholly there is kept, and so are tokens without text right behind: nothing tells whether they came.
    pub(crate) fn acknowledge(&mut self, offset: u32) -> bool {
        if offset > self.sent.offset {
            return false;
        }
        self.acknowledged = self.acknowledged.max(offset);
        self.release(|start, end| {
            end.offset < offset || (end.offset == offset && start.offset < offset)
        });
        true
    }

    /// The hash of the first `offset` bytes; `None` where they are released in part, or were never made.
    pub(crate) fn hash(&self, offset: u32) -> Option<AnswerHash> {
        let kept = offset.checked_sub(self.base.offset)?;
        let kept = self.bytes.get(..usize::try_from(kept).ok()?)?;
        let mut running = self.hash.clone();
        running.update(kept);
        Some(running.hash())
    }

    /// Whether the answer can go on at `position`: it is still here, and the bytes before have this hash.
    pub(crate) fn agrees(&self, position: Position, hash: AnswerHash) -> bool {
        position.tokens <= self.end.tokens && self.hash(position.offset) == Some(hash)
    }

    /// Begins to send again from `position`, everything before being acknowledged.
    pub(crate) fn resume(&mut self, position: Position) {
        self.acknowledged = self.acknowledged.max(position.offset);
        self.release(|_, end| end <= position);
        self.sent = position.max(self.base).min(self.end);
    }

    /// Whether something waits to be sent.
    pub(crate) fn has_unsent(&self) -> bool {
        self.sent < self.end
    }

    /// What to send next; joined with what follows where one entry can hold it.
    pub(crate) fn unsent(&self) -> Option<Run<'_>> {
        let first = self.marks.partition_point(|mark| mark.end <= self.sent);
        let kind = self.marks.get(first)?.kind;
        let start = self.sent.offset.max(self.base.offset);
        let tokens_start = self.sent.tokens.max(self.base.tokens);
        let mut end = None;
        for mark in self.marks.range(first..) {
            let bytes = mark.end.offset.saturating_sub(start);
            let tokens = mark.end.tokens.saturating_sub(tokens_start);
            let fits = is_at_most(bytes, ENTRY_BYTES_MAX) && is_at_most(tokens, ENTRY_TOKENS_MAX);
            // Log-probabilities are one JSON array for each entry.
            let joins = end.is_none() || (mark.kind == kind && kind != DeltaKind::Logprobs);
            if !joins || !fits {
                break;
            }
            end = Some(mark.end);
        }
        let end = end?;
        Some(Run {
            offset: start,
            kind,
            tokens: slice(&self.tokens, self.base.tokens, tokens_start, end.tokens),
            bytes: slice(&self.bytes, self.base.offset, start, end.offset),
            end,
        })
    }

    /// Everything before `end` is in a frame.
    pub(crate) fn mark_sent(&mut self, end: Position) {
        self.sent = self.sent.max(end);
    }

    fn release(&mut self, is_there: impl Fn(Position, Position) -> bool) {
        let old = self.base;
        while let Some(mark) = self.marks.front() {
            if !is_there(self.base, mark.end) {
                break;
            }
            self.base = mark.end;
            self.marks.pop_front();
        }
        let count = |new: u32, old: u32| usize::try_from(new - old).unwrap_or(usize::MAX);
        let bytes = count(self.base.offset, old.offset).min(self.bytes.len());
        let tokens = count(self.base.tokens, old.tokens).min(self.tokens.len());
        self.hash
            .update(self.bytes.get(..bytes).unwrap_or_default());
        self.bytes.drain(..bytes);
        self.tokens.drain(..tokens);
        self.sent = self.sent.max(self.base);
    }
}

fn is_at_most(count: u32, most: usize) -> bool {
    usize::try_from(count).is_ok_and(|count| count <= most)
}

/// The part from `start` to `end` of what begins at `base`.
fn slice<T>(all: &[T], base: u32, start: u32, end: u32) -> &[T] {
    let index = |at: u32| usize::try_from(at.saturating_sub(base)).unwrap_or(usize::MAX);
    all.get(index(start)..index(end)).unwrap_or_default()
}
