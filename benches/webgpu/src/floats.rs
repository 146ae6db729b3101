//! The same model with its weights as 32-bit floats: llama.cpp rounds what it multiplies quantised weights with, so the
//! truth about a quantised model is what it makes of these.
//!
//! Metadata is copied byte by byte; the index and the weights are written anew, a piece at a time.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context as _, Result};
use webgpu_engine::gguf::{Header, TensorInfo};
use webgpu_engine::quant::QuantType;

use crate::file::{GgufFile, PIECE_BYTES};

/// Bytes of a float.
const FLOAT_BYTES: u64 = 4;

/// Writes the file, unless it is there. It gets its name only once it is whole.
pub(crate) fn write(from: &Path, to: &Path) -> Result<()> {
    if to.is_file() {
        return Ok(());
    }
    let mut source = GgufFile::open(from)?;
    let partial = to.with_extension(format!("{}.partial", std::process::id()));
    let file = File::create(&partial).with_context(|| partial.display().to_string())?;
    let mut out = BufWriter::with_capacity(PIECE_BYTES, file);
    let written = write_all(&mut source, &mut out).and_then(|()| Ok(out.flush()?));
    if let Err(error) = written {
        drop(fs::remove_file(&partial));
        return Err(error.context(to.display().to_string()));
    }
    fs::rename(&partial, to).with_context(|| to.display().to_string())
}

fn write_all(source: &mut GgufFile, out: &mut impl Write) -> Result<()> {
    let alignment = source.header.alignment;
    let index = index(&source.header);
    // What stands before the index does not change, and neither does the index's length.
    let metadata = source.header_bytes - u64::try_from(index.len())?;
    out.write_all(&source.read(0..metadata)?)?;
    out.write_all(&index)?;
    pad(out, source.header_bytes, alignment)?;
    for tensor in source.header.tensors().to_vec() {
        write_weights(source, &tensor, out)?;
        pad(out, float_bytes(&tensor), alignment)?;
    }
    Ok(())
}

/// The index with all tensors as floats, one behind the other as they lay before.
fn index(header: &Header) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut offset = 0u64;
    let length = |length: usize| u64::try_from(length).unwrap_or(u64::MAX).to_le_bytes();
    for tensor in header.tensors() {
        bytes.extend(length(tensor.name.len()));
        bytes.extend(tensor.name.as_bytes());
        let dimensions = tensor.dimensions.as_slice();
        let count = u32::try_from(dimensions.len()).unwrap_or(u32::MAX);
        bytes.extend(count.to_le_bytes());
        bytes.extend(dimensions.iter().flat_map(|length| length.to_le_bytes()));
        bytes.extend(QuantType::F32.quant().ggml_id.to_le_bytes());
        bytes.extend(offset.to_le_bytes());
        offset += float_bytes(tensor).next_multiple_of(header.alignment);
    }
    bytes
}

const fn float_bytes(tensor: &TensorInfo) -> u64 {
    tensor.dimensions.weights() * FLOAT_BYTES
}

fn pad(out: &mut impl Write, length: u64, alignment: u64) -> Result<()> {
    let missing = usize::try_from(length.next_multiple_of(alignment) - length)?;
    Ok(out.write_all(&vec![0; missing])?)
}

fn write_weights(source: &mut GgufFile, tensor: &TensorInfo, out: &mut impl Write) -> Result<()> {
    let refused = || format!("tensor {} has a type that is not known", tensor.name);
    let kind = QuantType::of(tensor.kind).with_context(refused)?;
    let (block_bytes, block_weights) = (kind.quant().block_bytes, kind.quant().block_weights);
    let blocks = PIECE_BYTES / block_bytes;
    let range = source.header.range(tensor);
    let mut start = range.start;
    while start < range.end {
        let end = range.end.min(start + u64::try_from(blocks * block_bytes)?);
        let bytes = source.read(start..end)?;
        let mut weights = vec![0.0; bytes.len() / block_bytes * block_weights];
        kind.decode(&bytes, &mut weights)?;
        let floats: Vec<u8> = weights.iter().flat_map(|it| it.to_le_bytes()).collect();
        out.write_all(&floats)?;
        start = end;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use gguf_writer::{GgufWriter, Value};
    use webgpu_engine::gguf;

    use super::*;

    #[test]
    fn weights_become_floats_and_all_else_stays() {
        let folder = std::env::temp_dir().join(format!("heliograph-floats-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (from, to) = (folder.join("from.gguf"), folder.join("to.gguf"));
        let weights: Vec<f32> = (0..64u8).map(|it| f32::from(it) - 31.5).collect();
        let blocks = QuantType::Q4_0.encode(&weights).unwrap();
        let mut expected = vec![0.0; 64];
        QuantType::Q4_0.decode(&blocks, &mut expected).unwrap();
        let mut writer = GgufWriter::default();
        writer.set("general.architecture", Value::Text("llama".to_owned()));
        writer.set(
            "some.words",
            Value::Texts(vec!["a".to_owned(), String::new()]),
        );
        let kind = QuantType::Q4_0.quant().ggml_id;
        writer.tensor_bytes("quantised", &[32, 2], kind, blocks);
        writer.tensor("odd", &[3], vec![1.0, 2.0, 3.0]).unwrap();
        writer.tensor("last", &[1], vec![-7.0]).unwrap();
        fs::write(&from, writer.to_bytes()).unwrap();

        write(&from, &to).unwrap();
        let bytes = fs::read(&to).unwrap();
        let before = gguf::read(&fs::read(&from).unwrap(), None).unwrap();
        let after = gguf::read(&bytes, Some(bytes.len() as u64)).unwrap();
        assert_eq!(before.metadata, after.metadata);
        let floats = |name: &str| -> Vec<f32> {
            let range = after.range(after.tensor(name).unwrap());
            let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
            let words = bytes[range].as_chunks().0.iter();
            words.map(|word| f32::from_le_bytes(*word)).collect()
        };
        assert_eq!(floats("quantised"), expected);
        assert_eq!(floats("odd"), [1.0, 2.0, 3.0]);
        assert_eq!(floats("last"), [-7.0]);
        assert_eq!(
            after.tensor("quantised").unwrap().dimensions.as_slice(),
            [32, 2]
        );
        fs::remove_dir_all(&folder).unwrap();
    }
}
