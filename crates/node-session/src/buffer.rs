//! What a client may not have yet of one answer: kept until it is acknowledged.

use std::collections::VecDeque;

use protocol::DeltaKind;

/// Neighbouring pieces of one kind are joined up to this length: acknowledgements come every few KiB too.
const SEGMENT_BYTES: usize = 4 << 10;

/// A piece of an answer.
#[derive(Debug)]
struct Segment {
    end: u32,
    kind: DeltaKind,
    tokens: Vec<u32>,
    bytes: Vec<u8>,
}

/// The unacknowledged end of an answer, in order.
#[derive(Debug, Default)]
pub(crate) struct ResendBuffer {
    segments: VecDeque<Segment>,
    bytes: usize,
    released: u32,
}

impl ResendBuffer {
    /// Appends what was sent; `end` is the offset after it.
    pub(crate) fn push(&mut self, end: u32, kind: DeltaKind, tokens: &[u32], bytes: &[u8]) {
        if end <= self.released {
            // An end-of-turn token without text, after everything was acknowledged.
            return;
        }
        self.bytes += bytes.len();
        match self.segments.back_mut() {
            Some(last) if last.kind == kind && last.bytes.len() + bytes.len() <= SEGMENT_BYTES => {
                last.end = end;
                last.tokens.extend_from_slice(tokens);
                last.bytes.extend_from_slice(bytes);
            }
            Some(_) | None => self.segments.push_back(Segment {
                end,
                kind,
                tokens: tokens.to_vec(),
                bytes: bytes.to_vec(),
            }),
        }
    }

    /// The client has everything before `offset`.
    pub(crate) fn release(&mut self, offset: u32) {
        self.released = self.released.max(offset);
        while let Some(first) = self.segments.front().filter(|first| first.end <= offset) {
            self.bytes -= first.bytes.len();
            self.segments.pop_front();
        }
    }

    /// Whether the client has everything.
    pub(crate) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Answer bytes held.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }
}
