//! Keys and values of a header, as the file has them.

use std::collections::BTreeMap;

/// A number, or yes or no.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scalar {
    /// Of an unsigned type of 8 to 64 bits.
    Unsigned(u64),
    /// Of a signed type of 8 to 64 bits.
    Signed(i64),
    /// Of a type with a fraction; those of 32 bits are exact here.
    Float(f64),
    /// Yes or no.
    Bool(bool),
}

/// How one of GGUF's types of numbers lies in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ScalarKind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    U64,
    I64,
    F64,
}

/// Several numbers of one type. They are kept as they came, in as many bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbers {
    kind: ScalarKind,
    bytes: Vec<u8>,
}

/// Several texts: the vocabulary and its merges. Bytes, since a token need not be UTF-8.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Texts {
    bytes: Vec<u8>,
    /// Where each ends. A header is shorter than 4 GiB, so 32 bits are enough.
    ends: Vec<u32>,
}

/// A value of metadata.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// One number, or yes or no.
    Scalar(Scalar),
    /// A text. Bytes, since nothing keeps a file from having others than UTF-8 where nobody looks.
    Text(Vec<u8>),
    /// Several numbers.
    Numbers(Numbers),
    /// Several texts.
    Texts(Texts),
}

/// Keys and values.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata(BTreeMap<String, Value>);

/// A value that is not of the type that its key asks for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{key}` of the GGUF file is not {wanted}")]
pub struct WrongType {
    /// Whose value.
    pub key: String,
    /// What it should be.
    pub wanted: &'static str,
}

impl Metadata {
    /// Nothing.
    pub(super) const EMPTY: Self = Self(BTreeMap::new());

    /// The value of a key.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// All keys, in alphabetical order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// A number that counts something. Any type of integer is taken, as long as it is not negative.
    pub fn unsigned(&self, key: &str) -> Result<Option<u64>, WrongType> {
        self.convert(key, "a natural number", |value| scalar(value)?.unsigned())
    }

    /// A number with a fraction.
    pub fn float(&self, key: &str) -> Result<Option<f32>, WrongType> {
        self.convert(key, "a number", |value| scalar(value)?.float())
    }

    /// Yes or no.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, WrongType> {
        self.convert(key, "yes or no", |value| scalar(value)?.flag())
    }

    /// A text.
    pub fn text(&self, key: &str) -> Result<Option<&str>, WrongType> {
        self.convert(key, "a text", |value| match value {
            Value::Text(bytes) => std::str::from_utf8(bytes).ok(),
            Value::Scalar(_) | Value::Numbers(_) | Value::Texts(_) => None,
        })
    }

    /// Several numbers.
    pub fn numbers(&self, key: &str) -> Result<Option<&Numbers>, WrongType> {
        self.convert(key, "a list of numbers", |value| match value {
            Value::Numbers(numbers) => Some(numbers),
            Value::Scalar(_) | Value::Text(_) | Value::Texts(_) => None,
        })
    }

    /// Several texts.
    pub fn texts(&self, key: &str) -> Result<Option<&Texts>, WrongType> {
        self.convert(key, "a list of texts", |value| match value {
            Value::Texts(texts) => Some(texts),
            Value::Scalar(_) | Value::Text(_) | Value::Numbers(_) => None,
        })
    }

    /// Adds a value.
    pub(super) fn insert(&mut self, key: String, value: Value) {
        self.0.insert(key, value);
    }

    fn convert<'m, T>(
        &'m self,
        key: &str,
        wanted: &'static str,
        to: impl Fn(&'m Value) -> Option<T>,
    ) -> Result<Option<T>, WrongType> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        let wrong = || WrongType {
            key: key.to_owned(),
            wanted,
        };
        to(value).map(Some).ok_or_else(wrong)
    }
}

const fn scalar(value: &Value) -> Option<Scalar> {
    match value {
        Value::Scalar(scalar) => Some(*scalar),
        Value::Text(_) | Value::Numbers(_) | Value::Texts(_) => None,
    }
}

impl Scalar {
    /// As a number that counts something.
    pub fn unsigned(self) -> Option<u64> {
        match self {
            Self::Unsigned(number) => Some(number),
            Self::Signed(number) => u64::try_from(number).ok(),
            Self::Float(_) | Self::Bool(_) => None,
        }
    }

    /// As an integer.
    pub fn signed(self) -> Option<i64> {
        match self {
            Self::Unsigned(number) => i64::try_from(number).ok(),
            Self::Signed(number) => Some(number),
            Self::Float(_) | Self::Bool(_) => None,
        }
    }

    /// As a number with a fraction.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "what was 32 bits in the file comes back exactly; models compute in 32 bits in any case"
    )]
    pub const fn float(self) -> Option<f32> {
        match self {
            Self::Float(number) => Some(number as f32),
            Self::Unsigned(_) | Self::Signed(_) | Self::Bool(_) => None,
        }
    }

    /// As yes or no.
    pub const fn flag(self) -> Option<bool> {
        match self {
            Self::Bool(flag) => Some(flag),
            Self::Unsigned(_) | Self::Signed(_) | Self::Float(_) => None,
        }
    }
}

impl ScalarKind {
    /// GGUF's numbers. 8 is a text, 9 an array.
    pub(super) const fn from_id(id: u32) -> Option<Self> {
        Some(match id {
            0 => Self::U8,
            1 => Self::I8,
            2 => Self::U16,
            3 => Self::I16,
            4 => Self::U32,
            5 => Self::I32,
            6 => Self::F32,
            7 => Self::Bool,
            10 => Self::U64,
            11 => Self::I64,
            12 => Self::F64,
            _ => return None,
        })
    }

    /// Bytes that one takes.
    pub(super) const fn bytes(self) -> usize {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    /// The number in so many bytes.
    pub(super) fn read(self, bytes: &[u8]) -> Option<Scalar> {
        Some(match self {
            Self::U8 => Scalar::Unsigned(u8::from_le_bytes(exact(bytes)?).into()),
            Self::I8 => Scalar::Signed(i8::from_le_bytes(exact(bytes)?).into()),
            Self::U16 => Scalar::Unsigned(u16::from_le_bytes(exact(bytes)?).into()),
            Self::I16 => Scalar::Signed(i16::from_le_bytes(exact(bytes)?).into()),
            Self::U32 => Scalar::Unsigned(u32::from_le_bytes(exact(bytes)?).into()),
            Self::I32 => Scalar::Signed(i32::from_le_bytes(exact(bytes)?).into()),
            Self::F32 => Scalar::Float(f32::from_le_bytes(exact(bytes)?).into()),
            // As ggml reads it: whatever is not zero is yes.
            Self::Bool => Scalar::Bool(u8::from_le_bytes(exact(bytes)?) != 0),
            Self::U64 => Scalar::Unsigned(u64::from_le_bytes(exact(bytes)?)),
            Self::I64 => Scalar::Signed(i64::from_le_bytes(exact(bytes)?)),
            Self::F64 => Scalar::Float(f64::from_le_bytes(exact(bytes)?)),
        })
    }
}

fn exact<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.try_into().ok()
}

impl Numbers {
    pub(super) const fn new(kind: ScalarKind, bytes: Vec<u8>) -> Self {
        Self { kind, bytes }
    }

    /// How many.
    pub const fn count(&self) -> usize {
        self.bytes.len() / self.kind.bytes()
    }

    /// One of them.
    pub fn number(&self, index: usize) -> Option<Scalar> {
        let size = self.kind.bytes();
        let start = index.checked_mul(size)?;
        self.kind
            .read(self.bytes.get(start..start.checked_add(size)?)?)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = Scalar> {
        let pieces = self.bytes.chunks_exact(self.kind.bytes());
        pieces.filter_map(|piece| self.kind.read(piece))
    }
}

impl<T: AsRef<[u8]>> FromIterator<T> for Texts {
    fn from_iter<I: IntoIterator<Item = T>>(texts: I) -> Self {
        let mut these = Self::default();
        for text in texts {
            these.push(text.as_ref());
        }
        these
    }
}

impl Texts {
    /// How many.
    pub const fn count(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of all of them.
    pub const fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// One of them.
    pub fn text(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)?;
        let start = match index.checked_sub(1) {
            Some(before) => *self.ends.get(before)?,
            None => 0,
        };
        let range = usize::try_from(start).ok()?..usize::try_from(end).ok()?;
        self.bytes.get(range)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.count()).filter_map(|index| self.text(index))
    }

    /// Adds one; the limit of a header keeps the sum below 4 GiB.
    pub fn push(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        self.ends
            .push(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
    }
}
