//! Writes GGUF files: the format in which llama.cpp reads models.
//!
//! What it is: a list of metadata and tensors → bytes, version 3, little-endian, tensors of 32-bit floats or of bytes
//! that somebody else has quantised. [`seeded`] makes small weights of known value where no trained ones can be had.
//! [`bert`] converts one kind of embedding model, so that vectors can be compared with those of its publisher.
//! What it is not: a reader or a quantiser.
//!
//! The format is described in `docs/gguf.md` of the ggml project.

pub mod bert;
pub mod seeded;

/// Every tensor's data begins at a multiple of so many bytes; the format's own default.
const ALIGNMENT: usize = 32;

/// GGUF's number for 32-bit floats, of tensors.
const TENSOR_F32: u32 = 0;

/// A value of metadata.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A natural number.
    U32(u32),
    /// An integer.
    I32(i32),
    /// A number.
    F32(f32),
    /// Yes or no.
    Bool(bool),
    /// A text.
    Text(String),
    /// Several integers.
    I32s(Vec<i32>),
    /// Several numbers.
    F32s(Vec<f32>),
    /// Several times yes or no.
    Bools(Vec<bool>),
    /// Several texts.
    Texts(Vec<String>),
}

/// A GGUF file under construction.
#[derive(Debug, Clone, Default)]
pub struct GgufWriter {
    metadata: Vec<(String, Value)>,
    tensors: Vec<Tensor>,
}

#[derive(Debug, Clone)]
struct Tensor {
    name: String,
    /// The dimension that changes quickest comes first, as in ggml.
    shape: Vec<u64>,
    data: Data,
}

#[derive(Debug, Clone)]
enum Data {
    Floats(Vec<f32>),
    /// ggml's number of the type, and what the file will have.
    Bytes(u32, Vec<u8>),
}

/// A tensor whose data does not fill its shape.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("tensor {name} holds {values} values, but its shape has {places} places")]
pub struct ShapeMismatch {
    /// Which tensor.
    pub name: String,
    /// How many values were given.
    pub values: usize,
    /// How many the shape asks for.
    pub places: u64,
}

impl GgufWriter {
    /// Adds a value of metadata. `general.architecture` belongs first.
    pub fn set(&mut self, key: &str, value: Value) {
        self.metadata.push((key.to_owned(), value));
    }

    /// Adds a tensor; the dimension of `shape` that changes quickest comes first.
    pub fn tensor(
        &mut self,
        name: &str,
        shape: &[u64],
        data: Vec<f32>,
    ) -> Result<(), ShapeMismatch> {
        let places = shape.iter().product();
        if u64::try_from(data.len()) != Ok(places) {
            return Err(ShapeMismatch {
                name: name.to_owned(),
                values: data.len(),
                places,
            });
        }
        self.tensors.push(Tensor {
            name: name.to_owned(),
            shape: shape.to_vec(),
            data: Data::Floats(data),
        });
        Ok(())
    }

    /// Adds a tensor of another type, as its bytes lie in the file. `kind` is ggml's number of the type; that the bytes
    /// fill the shape is for the caller to know.
    pub fn tensor_bytes(&mut self, name: &str, shape: &[u64], kind: u32, bytes: Vec<u8>) {
        self.tensors.push(Tensor {
            name: name.to_owned(),
            shape: shape.to_vec(),
            data: Data::Bytes(kind, bytes),
        });
    }

    /// The values of a tensor that was added; none where they were added as bytes.
    pub fn values(&self, name: &str) -> Option<&[f32]> {
        let tensor = self.tensors.iter().find(|tensor| tensor.name == name)?;
        match &tensor.data {
            Data::Floats(values) => Some(values),
            Data::Bytes(..) => None,
        }
    }

    /// The file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3u32.to_le_bytes());
        put_length(&mut bytes, self.tensors.len());
        put_length(&mut bytes, self.metadata.len());
        for (key, value) in &self.metadata {
            put_text(&mut bytes, key);
            value.put(&mut bytes);
        }
        let mut offset = 0;
        for tensor in &self.tensors {
            put_text(&mut bytes, &tensor.name);
            let dimensions = u32::try_from(tensor.shape.len()).unwrap_or(u32::MAX);
            bytes.extend(dimensions.to_le_bytes());
            for length in &tensor.shape {
                bytes.extend(length.to_le_bytes());
            }
            bytes.extend(tensor.data.kind().to_le_bytes());
            put_length(&mut bytes, offset);
            offset = aligned(offset + tensor.data.bytes());
        }
        bytes.resize(aligned(bytes.len()), 0);
        for tensor in &self.tensors {
            match &tensor.data {
                Data::Floats(values) => {
                    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
                }
                Data::Bytes(_, data) => bytes.extend(data),
            }
            bytes.resize(aligned(bytes.len()), 0);
        }
        bytes
    }
}

impl Data {
    /// ggml's number for the type.
    const fn kind(&self) -> u32 {
        match self {
            Self::Floats(_) => TENSOR_F32,
            Self::Bytes(kind, _) => *kind,
        }
    }

    /// How many bytes it takes.
    const fn bytes(&self) -> usize {
        match self {
            Self::Floats(values) => values.len() * size_of::<f32>(),
            Self::Bytes(_, bytes) => bytes.len(),
        }
    }
}

impl Value {
    /// GGUF's number for this type of value.
    const fn number(&self) -> u32 {
        match self {
            Self::U32(_) => 4,
            Self::I32(_) => 5,
            Self::F32(_) => 6,
            Self::Bool(_) => 7,
            Self::Text(_) => 8,
            Self::I32s(_) | Self::F32s(_) | Self::Bools(_) | Self::Texts(_) => 9,
        }
    }

    fn put(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.number().to_le_bytes());
        match self {
            Self::U32(value) => bytes.extend(value.to_le_bytes()),
            Self::I32(value) => bytes.extend(value.to_le_bytes()),
            Self::F32(value) => bytes.extend(value.to_le_bytes()),
            Self::Bool(value) => bytes.push(u8::from(*value)),
            Self::Text(text) => put_text(bytes, text),
            Self::I32s(values) => {
                put_array(bytes, Self::I32(0).number(), values.len());
                bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            }
            Self::F32s(values) => {
                put_array(bytes, Self::F32(0.0).number(), values.len());
                bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            }
            Self::Bools(flags) => {
                put_array(bytes, Self::Bool(false).number(), flags.len());
                bytes.extend(flags.iter().map(|flag| u8::from(*flag)));
            }
            Self::Texts(texts) => {
                put_array(bytes, Self::Text(String::new()).number(), texts.len());
                for text in texts {
                    put_text(bytes, text);
                }
            }
        }
    }
}

fn put_array(bytes: &mut Vec<u8>, number: u32, length: usize) {
    bytes.extend(number.to_le_bytes());
    put_length(bytes, length);
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    put_length(bytes, text.len());
    bytes.extend(text.as_bytes());
}

/// No length here can be beyond 64 bits.
fn put_length(bytes: &mut Vec<u8>, length: usize) {
    bytes.extend(u64::try_from(length).unwrap_or(u64::MAX).to_le_bytes());
}

const fn aligned(length: usize) -> usize {
    length.next_multiple_of(ALIGNMENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_written_byte_by_byte_as_the_format_says() {
        let mut writer = GgufWriter::default();
        writer.set("a", Value::U32(7));
        writer.set("b", Value::Texts(vec!["x".to_owned()]));
        writer.tensor("t", &[2, 1], vec![1.0, -2.0]).expect("fits");
        let expected = [
            "47475546 03000000 0100000000000000 0200000000000000",
            "0100000000000000 61 04000000 07000000",
            "0100000000000000 62 09000000 08000000 0100000000000000 0100000000000000 78",
            "0100000000000000 74 02000000 0200000000000000 0100000000000000 00000000 0000000000000000",
        ]
        .concat()
        .replace(' ', "");
        let hex = hex::encode(writer.to_bytes());
        let head = expected.len().next_multiple_of(ALIGNMENT * 2);
        assert!(hex.starts_with(&expected), "{hex}");
        assert!(hex[expected.len()..head].chars().all(|digit| digit == '0'));
        assert!(hex[head..].starts_with("0000803f000000c0"), "{hex}");
        assert_eq!(hex.len(), head + ALIGNMENT * 2);
    }

    #[test]
    fn tensors_of_bytes_lie_between_others_with_their_own_type() {
        let mut writer = GgufWriter::default();
        writer.set("f", Value::Bools(vec![true, false]));
        writer.tensor_bytes("q", &[32], 8, vec![7; 34]);
        writer.tensor("t", &[1], vec![1.0]).expect("fits");
        assert_eq!(writer.values("q"), None);
        let hex = hex::encode(writer.to_bytes());
        let expected = [
            "0100000000000000 66 09000000 07000000 0200000000000000 01 00",
            "0100000000000000 71 01000000 2000000000000000 08000000 0000000000000000",
            "0100000000000000 74 01000000 0100000000000000 00000000 4000000000000000",
        ];
        let expected = expected.concat().replace(' ', "");
        assert!(hex.contains(&expected), "{hex}");
        let data = format!("{}{}0000803f", "07".repeat(34), "00".repeat(30));
        assert!(hex.contains(&data), "{hex}");
    }

    #[test]
    fn a_tensor_that_does_not_fill_its_shape_is_refused() {
        let mut writer = GgufWriter::default();
        let refused = writer.tensor("t", &[2, 2], vec![0.0; 3]);
        assert_eq!(refused.map_err(|error| error.places), Err(4));
    }
}
