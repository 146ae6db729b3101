//! The record of an answer, as the relay and a client keep it while the job is not over.

use crate::answer::{Answer, AnswerHash, Piece, PieceKind};
use crate::frame::{DeltaKind, Entry};
use crate::limits::{CARRIED_BYTES_MAX, CARRIED_PIECES_MAX, CARRIED_TOKENS_MAX};

/// Where a run of one kind ends.
#[derive(Debug, Clone, Copy)]
struct Run {
    kind: DeltaKind,
    bytes_end: usize,
    tokens_end: usize,
}

/// An answer so far. Beyond the limits of what can be carried it is dropped, and only its length is known.
#[derive(Debug, Clone, Default)]
pub struct Transcript {
    runs: Vec<Run>,
    bytes: Vec<u8>,
    tokens: Vec<u32>,
    offset: u32,
    token_count: u32,
    is_dropped: bool,
}

impl Transcript {
    /// The record of a carried answer; `None` where it is over the limits or has an unknown kind.
    pub fn of(answer: &Answer) -> Option<Self> {
        answer.validate().ok()?;
        let mut transcript = Self::default();
        for piece in &answer.pieces {
            let tokens = piece.tokens.iter().copied();
            transcript.push(piece.kind.delta()?, tokens, piece.text.as_bytes());
        }
        (!transcript.is_dropped).then_some(transcript)
    }

    /// The record of an answer of which only the length is known.
    pub fn without_text(offset: u32, token_count: u32) -> Self {
        Self {
            offset,
            token_count,
            is_dropped: true,
            ..Self::default()
        }
    }

    /// Drops the text: only the length stays known, and the answer cannot be continued elsewhere.
    pub fn drop_text(&mut self) {
        self.is_dropped = true;
        (self.runs, self.bytes, self.tokens) = (Vec::new(), Vec::new(), Vec::new());
    }

    /// Appends a delta.
    pub fn push(&mut self, kind: DeltaKind, tokens: impl Iterator<Item = u32>, bytes: &[u8]) {
        let held = self.tokens.len();
        self.tokens.extend(tokens);
        let added = u32::try_from(self.tokens.len() - held).unwrap_or(u32::MAX);
        self.token_count = self.token_count.saturating_add(added);
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.offset = self.offset.saturating_add(length);
        if self.is_dropped {
            self.tokens.clear();
            return;
        }
        if added == 0 && bytes.is_empty() {
            // An empty run would count towards the limit, and part two runs of one kind.
            return;
        }
        self.bytes.extend_from_slice(bytes);
        let (bytes_end, tokens_end) = (self.bytes.len(), self.tokens.len());
        match self.runs.last_mut() {
            Some(run) if run.kind == kind => {
                run.bytes_end = bytes_end;
                run.tokens_end = tokens_end;
            }
            Some(_) | None => self.runs.push(Run {
                kind,
                bytes_end,
                tokens_end,
            }),
        }
        if bytes_end > CARRIED_BYTES_MAX
            || tokens_end > CARRIED_TOKENS_MAX
            || self.runs.len() > CARRIED_PIECES_MAX
        {
            self.is_dropped = true;
            (self.runs, self.bytes, self.tokens) = (Vec::new(), Vec::new(), Vec::new());
        }
    }

    /// Appends an entry of a token frame.
    pub fn push_entry(&mut self, entry: &Entry<'_>) {
        self.push(entry.kind, entry.tokens(), entry.bytes);
    }

    /// Bytes of the answer.
    pub const fn offset(&self) -> u32 {
        self.offset
    }

    /// Tokens of the answer.
    pub const fn token_count(&self) -> u32 {
        self.token_count
    }

    /// Whether the text is still here, and not only its length.
    pub const fn is_whole(&self) -> bool {
        !self.is_dropped
    }

    /// Memory that the record takes, about.
    pub const fn memory_bytes(&self) -> usize {
        self.bytes.capacity()
            + self.tokens.capacity() * size_of::<u32>()
            + self.runs.capacity() * size_of::<Run>()
    }

    /// The hash of the first `offset` bytes; `None` where they are not here.
    pub fn hash(&self, offset: u32) -> Option<AnswerHash> {
        let bytes = self.bytes.get(..usize::try_from(offset).ok()?)?;
        Some(AnswerHash::of(bytes))
    }

    /// The answer for a control frame; `None` where there is nothing, or nothing that can be carried.
    pub fn answer(&self, model: Option<&str>) -> Option<Answer> {
        if self.runs.is_empty() {
            return None;
        }
        let mut pieces = Vec::with_capacity(self.runs.len());
        for (kind, bytes, tokens) in self.runs_from(0, 0) {
            pieces.push(Piece {
                kind: PieceKind::from(kind),
                // A node that cuts characters apart breaks its promise; its answer cannot be carried.
                text: String::from_utf8(bytes.to_vec()).ok()?,
                tokens: tokens.to_vec(),
            });
        }
        let answer = Answer {
            model: model.map(str::to_owned),
            pieces,
        };
        answer.validate().ok().map(|()| answer)
    }

    /// What lies beyond the first `offset` bytes and `tokens` tokens, run by run.
    pub fn runs_from(
        &self,
        offset: u32,
        tokens: u32,
    ) -> impl Iterator<Item = (DeltaKind, &[u8], &[u32])> {
        let mut bytes_at = usize::try_from(offset).unwrap_or(usize::MAX);
        let mut tokens_at = usize::try_from(tokens).unwrap_or(usize::MAX);
        self.runs.iter().filter_map(move |run| {
            let bytes = self.bytes.get(bytes_at..run.bytes_end).unwrap_or_default();
            let tokens = self
                .tokens
                .get(tokens_at..run.tokens_end)
                .unwrap_or_default();
            bytes_at = bytes_at.max(run.bytes_end);
            tokens_at = tokens_at.max(run.tokens_end);
            (!bytes.is_empty() || !tokens.is_empty()).then_some((run.kind, bytes, tokens))
        })
    }
}
