//! Functions against values made by hand; small seeded models of every family.

mod functions;
mod models;

use gguf_writer::seeded::family::{Family, Small};

use super::{Model, Session};
use crate::model::{CacheType, Config};
use crate::quant::QuantType;

const TEXT: &str = "Only what has been read counts.";

/// A token for each byte behind the marks.
fn tokens() -> Vec<u32> {
    TEXT.bytes().map(|byte| u32::from(byte) + 5).collect()
}

/// The file of a small seeded model whose matrices are of this type.
pub(crate) fn bytes(family: Family, kind: QuantType) -> Vec<u8> {
    let small = Small {
        family,
        width: if kind.quant().block_weights > 64 {
            256
        } else {
            64
        },
        seed: 7,
    };
    let encode = |weights: &[f32]| {
        let blocks = kind.encode(weights).expect("whole blocks");
        (kind.quant().ggml_id, blocks)
    };
    small.write(&encode).expect("fits").to_bytes()
}

/// The model of a file, with another config than the file's.
fn load_as(bytes: &[u8], change: impl FnOnce(&mut Config)) -> Model {
    let header = gguf::read(bytes, Some(bytes.len() as u64)).expect("a header");
    let mut config = Config::read(&header).expect("can be run");
    change(&mut config);
    let loaded = Model::load(config, &header, |range| {
        let [start, end] = [range.start, range.end].map(|at| usize::try_from(at).expect("small"));
        bytes.get(start..end).map(<[u8]>::to_vec).ok_or(())
    });
    loaded.expect("whole")
}

/// The model of a file.
pub(crate) fn load(bytes: &[u8]) -> Model {
    load_as(bytes, |_| {})
}

fn model(family: Family) -> Model {
    load(&bytes(family, QuantType::F32))
}

fn logits(session: &mut Session<'_>, tokens: &[u32]) -> Vec<f32> {
    session.read(tokens).expect("within the context")
}

/// The last row of logits behind these tokens.
fn last(model: &Model, tokens: &[u32]) -> Vec<f32> {
    let logits = logits(&mut model.session(CacheType::F32), tokens);
    logits[logits.len() - model.config().vocabulary as usize..].to_vec()
}

/// How far apart two rows are, by the spread of the first.
fn distance(one: &[f32], other: &[f32]) -> f32 {
    assert_eq!(one.len(), other.len());
    let squares = |numbers: &mut dyn Iterator<Item = f32>| numbers.map(|it| it * it).sum::<f32>();
    let between = squares(&mut one.iter().zip(other).map(|(a, b)| a - b));
    (between / squares(&mut one.iter().copied())).sqrt()
}
