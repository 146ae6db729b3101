//! From bytes that arrive in pieces of any size to a header. It waits for one field at a time, says how long that is,
//! and keeps at most the part of it that has come.

use std::borrow::Cow;

use super::index::Index;
use super::limits::{
    ALIGNMENT_DEFAULT, ALIGNMENT_MAX, ALIGNMENT_MIN, DIMENSIONS_MAX, ELEMENTS_MAX, ENTRIES_MAX,
    HEADER_BYTES_MAX, KEY_BYTES_MAX, NAME_BYTES_MAX, TENSORS_MAX, TEXT_BYTES_MAX,
};
use super::metadata::{Metadata, Numbers, ScalarKind, Texts, Value};
use super::{GgufError, Header, TensorType};

/// GGUF's numbers for types that are not of one size.
const TEXT: u32 = 8;
const ARRAY: u32 = 9;

/// What a piece of the file has brought.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// The header goes on in the next piece.
    More,
    /// The header is whole.
    Whole {
        /// Bytes of this piece that belong to the header. What follows is padding, then the weights.
        taken: usize,
        /// What it says.
        header: Box<Header>,
    },
}

/// Reads a header while its bytes arrive.
#[derive(Debug)]
pub struct Parser {
    file_bytes: Option<u64>,
    is_lenient: bool,
    /// Where the field that is awaited begins in the file.
    position: u64,
    field: Field,
    /// How long it is, and what has come of it.
    wanted: usize,
    pub(super) pending: Vec<u8>,
    version: u32,
    entries_left: u64,
    tensors_left: u64,
    /// Of the entry, or the name of the tensor, that is being read.
    key: String,
    metadata: Metadata,
    /// Whether that is all of it, and still here.
    has_metadata: bool,
    index: Index,
}

/// What is awaited.
#[derive(Debug)]
enum Field {
    Magic,
    Counts,
    KeyLength,
    Key,
    ValueType,
    Scalar(ScalarKind),
    TextLength,
    Text,
    ArrayHead,
    Numbers(ScalarKind),
    ElementLength(Texts, u64),
    Element(Texts, u64),
    NameLength,
    Name,
    DimensionCount,
    Tensor,
    Nothing,
}

/// Reads a header that lies in memory as a whole, with at least the beginning of the file behind it.
pub fn read(bytes: &[u8], file_bytes: Option<u64>) -> Result<Header, GgufError> {
    match Parser::new(file_bytes).push(bytes)? {
        Progress::More => Err(GgufError::Truncated),
        Progress::Whole { header, .. } => Ok(*header),
    }
}

impl Parser {
    /// A parser for a file of this many bytes, where that is known. Lengths and tensors are then held against it.
    pub const fn new(file_bytes: Option<u64>) -> Self {
        Self {
            file_bytes,
            is_lenient: false,
            position: 0,
            field: Field::Magic,
            wanted: 4,
            pending: Vec::new(),
            version: 0,
            entries_left: 0,
            tensors_left: 0,
            key: String::new(),
            metadata: Metadata::EMPTY,
            has_metadata: false,
            index: Index::EMPTY,
        }
    }

    /// Takes what llama.cpp may take, instead of refusing the file: tensors of types that ggml does not have, or not
    /// yet, as [`TensorType::unknown`], and alignments below [`ALIGNMENT_MIN`]. For those who want to know of the
    /// tensors but not to read them.
    #[must_use]
    pub const fn lenient(mut self) -> Self {
        self.is_lenient = true;
        self
    }

    /// Keys and values, once all of them have come, also of a file whose tensors are then refused. None before, and
    /// after the whole header, which has them.
    pub const fn metadata(&self) -> Option<&Metadata> {
        if self.has_metadata {
            Some(&self.metadata)
        } else {
            None
        }
    }

    /// Takes the next bytes of the file. After the header, or an error, there is nothing more to take.
    pub fn push(&mut self, piece: &[u8]) -> Result<Progress, GgufError> {
        let result = self.take(piece);
        if result.is_err() {
            self.field = Field::Nothing;
            self.pending = Vec::new();
        }
        result
    }

    fn take(&mut self, piece: &[u8]) -> Result<Progress, GgufError> {
        let mut rest = piece;
        loop {
            if matches!(self.field, Field::Nothing) {
                return Err(GgufError::Over);
            }
            let missing = self.wanted.saturating_sub(self.pending.len());
            let Some((bytes, after)) = rest.split_at_checked(missing) else {
                self.pending.extend_from_slice(rest);
                return Ok(Progress::More);
            };
            rest = after;
            let bytes = if self.pending.is_empty() {
                Cow::Borrowed(bytes)
            } else {
                self.pending.extend_from_slice(bytes);
                Cow::Owned(std::mem::take(&mut self.pending))
            };
            self.position += length(bytes.len());
            if let Some(header) = self.field(bytes)? {
                return Ok(Progress::Whole {
                    taken: piece.len() - rest.len(),
                    header: Box::new(header),
                });
            }
        }
    }

    /// Awaits a field of this length, if there can be one.
    fn want(&mut self, bytes: u64, field: Field) -> Result<(), GgufError> {
        self.room_for(bytes)?;
        self.wanted = usize::try_from(bytes).map_err(|_| GgufError::HeaderTooLong)?;
        self.field = field;
        Ok(())
    }

    /// Whether so many bytes more can belong to the header.
    fn room_for(&self, bytes: u64) -> Result<(), GgufError> {
        let end = self.position.saturating_add(bytes);
        if end > HEADER_BYTES_MAX {
            return Err(GgufError::HeaderTooLong);
        }
        if self.file_bytes.is_some_and(|file| end > file) {
            return Err(GgufError::Truncated);
        }
        Ok(())
    }

    /// Takes the field that was awaited, and says what follows.
    fn field(&mut self, bytes: Cow<'_, [u8]>) -> Result<Option<Header>, GgufError> {
        match std::mem::replace(&mut self.field, Field::Nothing) {
            Field::Magic => {
                if *bytes != *b"GGUF" {
                    return Err(GgufError::NotGguf);
                }
                self.want(20, Field::Counts)?;
            }
            Field::Counts => return self.counts(&bytes),
            Field::KeyLength => {
                let length = limited(&bytes, "a key", KEY_BYTES_MAX)?;
                self.want(length, Field::Key)?;
            }
            Field::Key => {
                self.key = text(&bytes, "a key")?;
                if self.metadata.value(&self.key).is_some() {
                    return Err(GgufError::KeyTwice(std::mem::take(&mut self.key)));
                }
                self.want(4, Field::ValueType)?;
            }
            Field::ValueType => self.value_type(u32_at(&bytes, 0))?,
            Field::Scalar(kind) => {
                let value = kind.read(&bytes).ok_or(GgufError::Truncated)?;
                return self.entry(Value::Scalar(value));
            }
            Field::TextLength => {
                let length = limited(&bytes, "a text", TEXT_BYTES_MAX)?;
                self.want(length, Field::Text)?;
            }
            Field::Text => return self.entry(Value::Text(bytes.into_owned())),
            Field::ArrayHead => return self.array(&bytes),
            Field::Numbers(kind) => {
                let numbers = Numbers::new(kind, bytes.into_owned());
                return self.entry(Value::Numbers(numbers));
            }
            Field::ElementLength(texts, left) => {
                let length = limited(&bytes, "a text", TEXT_BYTES_MAX)?;
                self.want(length, Field::Element(texts, left))?;
            }
            Field::Element(mut texts, left) => {
                texts.push(&bytes);
                return self.elements(texts, left - 1);
            }
            Field::NameLength => {
                let length = limited(&bytes, "a tensor's name", NAME_BYTES_MAX)?;
                self.want(length, Field::Name)?;
            }
            Field::Name => {
                self.key = text(&bytes, "a tensor's name")?;
                self.index.name(&self.key)?;
                self.want(4, Field::DimensionCount)?;
            }
            Field::DimensionCount => {
                let count = u32_at(&bytes, 0);
                if count > DIMENSIONS_MAX {
                    return Err(GgufError::Shape(std::mem::take(&mut self.key)));
                }
                self.want(u64::from(count) * 8 + 12, Field::Tensor)?;
            }
            Field::Tensor => return self.tensor(&bytes),
            Field::Nothing => return Err(GgufError::Over),
        }
        Ok(None)
    }

    fn counts(&mut self, bytes: &[u8]) -> Result<Option<Header>, GgufError> {
        self.version = u32_at(bytes, 0);
        // Version 1 had shorter lengths; nobody writes it any more. Versions 2 and 3 differ in that 3 may be
        // big-endian, in which case the number of the version is seen turned round.
        if self.version != 0 && self.version.trailing_zeros() >= 16 {
            return Err(GgufError::BigEndian);
        }
        if !(2..=3).contains(&self.version) {
            return Err(GgufError::Version(self.version));
        }
        self.tensors_left = count(u64_at(bytes, 4), "tensors", TENSORS_MAX)?;
        self.entries_left = count(u64_at(bytes, 12), "entries", ENTRIES_MAX)?;
        self.next()
    }

    /// The next entry, the next tensor, or the end.
    fn next(&mut self) -> Result<Option<Header>, GgufError> {
        if self.entries_left > 0 {
            self.entries_left -= 1;
            self.want(8, Field::KeyLength)?;
            return Ok(None);
        }
        self.has_metadata = true;
        if self.tensors_left > 0 {
            self.tensors_left -= 1;
            self.want(8, Field::NameLength)?;
            return Ok(None);
        }
        self.finish().map(Some)
    }

    fn value_type(&mut self, kind: u32) -> Result<(), GgufError> {
        match (kind, ScalarKind::from_id(kind)) {
            (_, Some(kind)) => self.want(length(kind.bytes()), Field::Scalar(kind)),
            (TEXT, None) => self.want(8, Field::TextLength),
            (ARRAY, None) => self.want(12, Field::ArrayHead),
            (_, None) => Err(self.unknown_type(kind)),
        }
    }

    fn array(&mut self, bytes: &[u8]) -> Result<Option<Header>, GgufError> {
        let kind = u32_at(bytes, 0);
        let count = count(u64_at(bytes, 4), "elements in an array", ELEMENTS_MAX)?;
        match (kind, ScalarKind::from_id(kind)) {
            (_, Some(kind)) => {
                self.want(count * length(kind.bytes()), Field::Numbers(kind))?;
                Ok(None)
            }
            (TEXT, None) => {
                // Each brings its length at least.
                self.room_for(count * 8)?;
                self.elements(Texts::default(), count)
            }
            (_, None) => Err(self.unknown_type(kind)),
        }
    }

    /// The next text of an array, or the end of it.
    fn elements(&mut self, texts: Texts, left: u64) -> Result<Option<Header>, GgufError> {
        if left == 0 {
            return self.entry(Value::Texts(texts));
        }
        self.want(8, Field::ElementLength(texts, left))?;
        Ok(None)
    }

    fn unknown_type(&mut self, kind: u32) -> GgufError {
        GgufError::ValueType {
            key: std::mem::take(&mut self.key),
            kind,
        }
    }

    /// Keeps a value.
    fn entry(&mut self, value: Value) -> Result<Option<Header>, GgufError> {
        let key = std::mem::take(&mut self.key);
        self.metadata.insert(key, value);
        self.next()
    }

    fn tensor(&mut self, bytes: &[u8]) -> Result<Option<Header>, GgufError> {
        let (dimensions, rest) = bytes.split_at(bytes.len().saturating_sub(12));
        let lengths = dimensions.chunks_exact(8).map(|length| u64_at(length, 0));
        let lengths: Vec<u64> = lengths.collect();
        let name = std::mem::take(&mut self.key);
        let id = u32_at(rest, 0);
        let kind = match TensorType::from_id(id) {
            Some(kind) => kind,
            None if self.is_lenient => TensorType::unknown(id),
            None => return Err(GgufError::TensorType { name, kind: id }),
        };
        self.index.add(name, &lengths, kind, u64_at(rest, 4))?;
        self.next()
    }

    /// Checks what only the whole index shows.
    fn finish(&mut self) -> Result<Header, GgufError> {
        let min = if self.is_lenient { 1 } else { ALIGNMENT_MIN };
        let alignment = match self.metadata.unsigned("general.alignment") {
            Ok(alignment) => alignment.unwrap_or(ALIGNMENT_DEFAULT),
            Err(_) => return Err(GgufError::Alignment { min }),
        };
        if !(min..=ALIGNMENT_MAX).contains(&alignment) || !alignment.is_power_of_two() {
            return Err(GgufError::Alignment { min });
        }
        // The position is below the limit of a header: no overflow.
        let data_offset = self.position.next_multiple_of(alignment);
        let mut index = std::mem::take(&mut self.index);
        index.seal(data_offset, alignment, self.file_bytes)?;
        self.has_metadata = false;
        Ok(Header {
            version: self.version,
            metadata: std::mem::take(&mut self.metadata),
            data_offset,
            alignment,
            index,
        })
    }
}

/// No length here is beyond 64 bits.
fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// A length that a text begins with.
fn limited(bytes: &[u8], what: &'static str, max: u64) -> Result<u64, GgufError> {
    let bytes = u64_at(bytes, 0);
    if bytes > max {
        return Err(GgufError::TooLong { what, bytes, max });
    }
    Ok(bytes)
}

const fn count(count: u64, what: &'static str, max: u64) -> Result<u64, GgufError> {
    if count > max {
        return Err(GgufError::TooMany { what, count, max });
    }
    Ok(count)
}

fn text(bytes: &[u8], what: &'static str) -> Result<String, GgufError> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.is_empty() => Ok(text.to_owned()),
        Ok(_) | Err(_) => Err(GgufError::NotText(what)),
    }
}

/// The number at this place of a field; fields are as long as was asked for.
fn u32_at(bytes: &[u8], place: usize) -> u32 {
    let bytes = bytes.get(place..).and_then(|bytes| bytes.first_chunk());
    u32::from_le_bytes(bytes.copied().unwrap_or_default())
}

/// The same with 64 bits.
fn u64_at(bytes: &[u8], place: usize) -> u64 {
    let bytes = bytes.get(place..).and_then(|bytes| bytes.first_chunk());
    u64::from_le_bytes(bytes.copied().unwrap_or_default())
}
