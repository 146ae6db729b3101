//! Token frames: one binary message per decode step, with an entry for each job that advanced.
//!
//! ```text
//! frame  = kind u8 (1) · version u8 (1) · entry count u16 · entry*
//! entry  = alias u32 · offset u32 · delta kind u8 · zero u8 · token count u16 · byte count u32 · token id u32* · byte*
//! ```
//! All integers are little-endian. The relay reads the 16-byte entry headers and forwards entries untouched.

use crate::id::Alias;
use crate::limits::{ENTRIES_MAX, ENTRY_BYTES_MAX, ENTRY_TOKENS_MAX, TOKEN_FRAME_BYTES_MAX};

/// First byte of a token frame. Image frames will have a number of their own.
pub const FRAME_KIND_TOKENS: u8 = 1;
/// Second byte: the layout that this module describes.
pub const FRAME_VERSION: u8 = 1;
/// Bytes before the first entry.
pub const FRAME_HEADER_BYTES: usize = 4;
/// Bytes of an entry before its token ids.
pub const ENTRY_HEADER_BYTES: usize = 16;

/// What the bytes of an entry are. Offsets count the bytes of all kinds of one attempt together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeltaKind {
    /// Answer text, whole UTF-8 characters.
    Text,
    /// Reasoning text, whole UTF-8 characters.
    Reasoning,
    /// A piece of a tool call.
    ToolCall,
    /// A JSON array of log-probabilities for the tokens of the entry before.
    Logprobs,
    /// A kind that this version does not know; forwarded, counted.
    Unknown(u8),
}

impl DeltaKind {
    const fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Text,
            2 => Self::Reasoning,
            3 => Self::ToolCall,
            4 => Self::Logprobs,
            other => Self::Unknown(other),
        }
    }

    /// The number on the wire.
    pub const fn number(self) -> u8 {
        match self {
            Self::Text => 1,
            Self::Reasoning => 2,
            Self::ToolCall => 3,
            Self::Logprobs => 4,
            Self::Unknown(number) => number,
        }
    }
}

/// Why bytes are no token frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Over [`TOKEN_FRAME_BYTES_MAX`].
    #[error("token frame of {0} bytes is over the limit of {TOKEN_FRAME_BYTES_MAX}")]
    TooLong(usize),
    /// Not a kind or version that we know.
    #[error("not a token frame of version 1")]
    UnknownKind,
    /// Ends in the middle of a header, an id or the bytes.
    #[error("token frame is truncated")]
    Truncated,
    /// A count over its limit, or a reserved byte that is not zero.
    #[error("token frame has an entry over its limits")]
    OverLimit,
    /// Bytes after the last entry.
    #[error("token frame has trailing bytes")]
    Trailing,
}

/// One job's advance in one frame, borrowed from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Which attempt.
    pub alias: Alias,
    /// Where `bytes` begin in the attempt's stream.
    pub offset: u32,
    /// What the bytes are.
    pub kind: DeltaKind,
    /// The answer.
    pub bytes: &'a [u8],
    /// The entry as it stands in the frame, for forwarding.
    pub raw: &'a [u8],
    tokens: &'a [u8],
}

impl<'a> Entry<'a> {
    /// Ids of the tokens that this entry stands for, in order. A token whose text is held back counts where its text appears.
    pub fn tokens(&self) -> impl Iterator<Item = u32> + use<'a> {
        let (ids, _) = self.tokens.as_chunks::<4>();
        ids.iter().map(|id| u32::from_le_bytes(*id))
    }

    /// How many tokens this entry stands for.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "invariant: the count came from a u16"
    )]
    pub const fn token_count(&self) -> u32 {
        (self.tokens.len() / 4) as u32
    }

    /// Where the stream stands after this entry, if that is a number at all.
    pub fn end_offset(&self) -> Option<u32> {
        self.offset
            .checked_add(u32::try_from(self.bytes.len()).ok()?)
    }
}

/// A checked token frame, borrowed from the message.
#[derive(Debug, Clone, Copy)]
pub struct TokenFrame<'a> {
    rest: &'a [u8],
}

impl<'a> TokenFrame<'a> {
    /// Checks a whole frame; entries can be read afterwards without failing.
    pub fn decode(frame: &'a [u8]) -> Result<Self, FrameError> {
        if frame.len() > TOKEN_FRAME_BYTES_MAX {
            return Err(FrameError::TooLong(frame.len()));
        }
        let (header, entries) = frame
            .split_first_chunk::<FRAME_HEADER_BYTES>()
            .ok_or(FrameError::Truncated)?;
        let [kind, version, count_low, count_high] = *header;
        if kind != FRAME_KIND_TOKENS || version != FRAME_VERSION {
            return Err(FrameError::UnknownKind);
        }
        let count = usize::from(u16::from_le_bytes([count_low, count_high]));
        if count > ENTRIES_MAX {
            return Err(FrameError::OverLimit);
        }
        let mut rest = entries;
        for _ in 0..count {
            (_, rest) = split_entry(rest)?;
        }
        if rest.is_empty() {
            Ok(Self { rest: entries })
        } else {
            Err(FrameError::Trailing)
        }
    }

    /// The entries, in the order in which they were written.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        let mut rest = self.rest;
        std::iter::from_fn(move || {
            let (entry, after) = split_entry(rest).ok()?;
            rest = after;
            Some(entry)
        })
    }
}

fn split_entry(bytes: &[u8]) -> Result<(Entry<'_>, &[u8]), FrameError> {
    let (header, _) = bytes
        .split_first_chunk::<ENTRY_HEADER_BYTES>()
        .ok_or(FrameError::Truncated)?;
    let [
        a0,
        a1,
        a2,
        a3,
        o0,
        o1,
        o2,
        o3,
        kind,
        zero,
        t0,
        t1,
        b0,
        b1,
        b2,
        b3,
    ] = *header;
    let token_count = usize::from(u16::from_le_bytes([t0, t1]));
    let byte_count =
        usize::try_from(u32::from_le_bytes([b0, b1, b2, b3])).map_err(|_| FrameError::OverLimit)?;
    if zero != 0 || token_count > ENTRY_TOKENS_MAX || byte_count > ENTRY_BYTES_MAX {
        return Err(FrameError::OverLimit);
    }
    let body_start = ENTRY_HEADER_BYTES + token_count * 4;
    let (raw, rest) = bytes
        .split_at_checked(body_start + byte_count)
        .ok_or(FrameError::Truncated)?;
    let (head, body) = raw
        .split_at_checked(body_start)
        .ok_or(FrameError::Truncated)?;
    let (_, tokens) = head
        .split_at_checked(ENTRY_HEADER_BYTES)
        .ok_or(FrameError::Truncated)?;
    let entry = Entry {
        alias: u32::from_le_bytes([a0, a1, a2, a3]),
        offset: u32::from_le_bytes([o0, o1, o2, o3]),
        kind: DeltaKind::from_number(kind),
        bytes: body,
        raw,
        tokens,
    };
    Ok((entry, rest))
}

/// Builds token frames.
#[derive(Debug, Default)]
pub struct TokenFrameWriter {
    bytes: Vec<u8>,
    count: u16,
}

impl TokenFrameWriter {
    /// An empty frame.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there is nothing to send.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Appends an entry; `false` (and nothing is written) where it would break a limit: finish this frame, begin another.
    pub fn push(
        &mut self,
        alias: Alias,
        offset: u32,
        kind: DeltaKind,
        tokens: &[u32],
        bytes: &[u8],
    ) -> bool {
        let (Ok(token_count), Ok(byte_count)) =
            (u16::try_from(tokens.len()), u32::try_from(bytes.len()))
        else {
            return false;
        };
        let entry_bytes = ENTRY_HEADER_BYTES + tokens.len() * 4 + bytes.len();
        if tokens.len() > ENTRY_TOKENS_MAX
            || bytes.len() > ENTRY_BYTES_MAX
            || !self.begin_entry(entry_bytes)
        {
            return false;
        }
        self.bytes.extend_from_slice(&alias.to_le_bytes());
        self.bytes.extend_from_slice(&offset.to_le_bytes());
        self.bytes.extend_from_slice(&[kind.number(), 0]);
        self.bytes.extend_from_slice(&token_count.to_le_bytes());
        self.bytes.extend_from_slice(&byte_count.to_le_bytes());
        for token in tokens {
            self.bytes.extend_from_slice(&token.to_le_bytes());
        }
        self.bytes.extend_from_slice(bytes);
        true
    }

    /// Appends an entry as another frame held it; `false` where it would break a limit.
    pub fn push_raw(&mut self, entry: &Entry<'_>) -> bool {
        if !self.begin_entry(entry.raw.len()) {
            return false;
        }
        self.bytes.extend_from_slice(entry.raw);
        true
    }

    fn begin_entry(&mut self, entry_bytes: usize) -> bool {
        if self.bytes.is_empty() {
            self.bytes
                .extend_from_slice(&[FRAME_KIND_TOKENS, FRAME_VERSION, 0, 0]);
        }
        if usize::from(self.count) == ENTRIES_MAX
            || self.bytes.len() + entry_bytes > TOKEN_FRAME_BYTES_MAX
        {
            return false;
        }
        self.count += 1;
        true
    }

    /// The finished frame; the writer is empty again.
    pub fn finish(&mut self) -> Vec<u8> {
        let mut frame = std::mem::take(&mut self.bytes);
        if frame.is_empty() {
            frame.extend_from_slice(&[FRAME_KIND_TOKENS, FRAME_VERSION, 0, 0]);
        }
        if let Some(count) = frame.get_mut(2..4) {
            count.copy_from_slice(&self.count.to_le_bytes());
        }
        self.count = 0;
        frame
    }
}
