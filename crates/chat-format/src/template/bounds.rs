//! How much text a template may make. minijinja counts a template's steps, not what each of them makes: a few lines
//! that double something would take all memory there is.
//!
//! What is not counted is what `~`, `+`, `*` and `join` put together: minijinja asks nobody there, and bounds one `*` by
//! 100 MB.

use std::io;

use minijinja::{Error, ErrorKind, State};

/// What one rendering may cost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Steps of the engine.
    pub(super) steps: u64,
    /// Bytes of the rendered conversation, and of any value that is shown or replaced in.
    pub(super) prompt_bytes: usize,
}

impl Bounds {
    /// For a small conversation, when a model is loaded: real templates take some thousand steps, and the longest
    /// instructions in one are some ten thousand bytes.
    pub(super) const TRIAL: Self = Self {
        steps: 200_000,
        prompt_bytes: 1 << 20,
    };

    /// In a job. The largest request (4,096 messages) with 128 tools takes real templates less than a tenth of the
    /// steps; an endless loop ends after about a second. The bytes are four times the longest frame that brings a
    /// conversation, whose contents honest templates write once.
    pub(super) const JOB: Self = Self {
        steps: 20_000_000,
        prompt_bytes: 16 << 20,
    };

    /// Counts bytes that are about to be made: what is written, and what is replaced in. All together they may be four
    /// times a prompt, since what macros and `{% set %}` blocks write is written again by whoever uses it.
    pub(super) fn count(self, state: &mut State<'_, '_>, bytes: usize) -> Result<(), Error> {
        let made = state.get_or_insert_extension(Made(0));
        made.0 = made.0.saturating_add(bytes);
        if made.0 > 4 * self.prompt_bytes {
            return Err(too_long());
        }
        Ok(())
    }
}

/// Marks an error that is about this.
const TOO_LONG: &str = "made too much text";

/// Bytes that a rendering has made.
struct Made(usize);

/// What is said where a text is beyond its bound.
pub(super) fn too_long() -> Error {
    Error::new(ErrorKind::InvalidOperation, TOO_LONG)
}

/// Whether an error is about this.
pub(super) fn is_too_long(error: &Error) -> bool {
    error.kind() == ErrorKind::WriteFailure || error.detail() == Some(TOO_LONG)
}

/// Bytes of a text in which each `old` became a `new`.
pub(super) fn replaced_bytes(text: &str, old: &str, new: &str) -> usize {
    let count = if old.is_empty() {
        text.len() + 1
    } else {
        text.matches(old).count()
    };
    text.len().saturating_add(count.saturating_mul(new.len()))
}

/// Keeps what a template writes, up to a bound.
#[derive(Debug)]
pub(super) struct Prompt {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl Prompt {
    pub(super) const fn new(bounds: Bounds) -> Self {
        Self {
            bytes: Vec::new(),
            bytes_max: bounds.prompt_bytes,
        }
    }

    pub(super) fn into_text(self) -> Result<String, Error> {
        String::from_utf8(self.bytes)
            .map_err(|_| Error::new(ErrorKind::InvalidOperation, "what was written is no text"))
    }
}

impl io::Write for Prompt {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.bytes_max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
