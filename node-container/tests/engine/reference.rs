//! The CPU reference of `webgpu-engine` against llama.cpp, logit by logit, on the same weights in 32 bits.
//!
//! llama.cpp rounds activations to 8 bits where weights are quantised, so files of quantised weights are written once
//! more as 32-bit floats, and llama.cpp reads those.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::num::NonZeroU32;
use std::ops::ControlFlow;
use std::path::Path;

use gguf_writer::seeded::family::{Family, Small};
use gguf_writer::{GgufWriter, Value};
use node_container::engine::llama::truth::with_truth;
use sampling::log_sum;
use webgpu_engine::gguf::{self, Header, Numbers, Scalar};
use webgpu_engine::model::{CacheType, Config};
use webgpu_engine::quant::QuantType;
use webgpu_engine::reference::Model;
use webgpu_engine::tokenizer::{Encoding, Tokenizer, Vocabulary};

use crate::model::{found, model_file};
use crate::tokenizer::GEMMA;

/// How near two engines are.
#[derive(Debug, Default)]
struct Agreement {
    positions: usize,
    /// Positions where both find the same token likeliest.
    same: usize,
    /// Sum of the Kullback-Leibler divergences, in nats.
    divergence: f64,
    /// The largest difference of two log-probabilities among tokens with more than a thousandth.
    furthest: f64,
    /// The largest distance of two rows of logits, by the length of llama.cpp's.
    distance: f64,
}

impl Agreement {
    fn add(&mut self, truth: &[f32], found: &[f32]) {
        assert_eq!(truth.len(), found.len());
        let likeliest = |row: &[f32]| (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b]));
        let (truth_sum, found_sum) = (log_sum(truth), log_sum(found));
        for (one, other) in truth.iter().zip(found) {
            let (one, other) = (f64::from(*one) - truth_sum, f64::from(*other) - found_sum);
            self.divergence += one.exp() * (one - other);
            if one > -6.9 {
                self.furthest = self.furthest.max((one - other).abs());
            }
        }
        let squares = |row: &mut dyn Iterator<Item = f32>| -> f64 {
            row.map(|number| f64::from(number).powi(2)).sum()
        };
        let between = squares(&mut truth.iter().zip(found).map(|(one, other)| one - other));
        let distance = (between / squares(&mut truth.iter().copied())).sqrt();
        self.distance = self.distance.max(distance);
        self.positions += 1;
        self.same += usize::from(likeliest(truth) == likeliest(found));
    }

    #[expect(clippy::cast_precision_loss, reason = "some dozens")]
    fn mean_divergence(&self) -> f64 {
        self.divergence / self.positions as f64
    }
}

/// Both engines read the tokens: ours the file, llama.cpp the file of floats.
fn compare(ours: &Path, floats: &Path, tokens: &[u32]) -> Agreement {
    let model = load(ours);
    let width = usize::try_from(model.config().vocabulary).unwrap();
    let mut session = model.session(CacheType::F32);
    // Rows of logits are long: some are made at a time.
    let mut pieces = tokens.chunks(64);
    let mut rows = std::collections::VecDeque::new();
    let mut next = || {
        if rows.is_empty() {
            let read = session.read(pieces.next().unwrap()).unwrap();
            rows.extend(read.chunks_exact(width).map(<[f32]>::to_vec));
        }
        rows.pop_front().unwrap()
    };
    let mut agreement = Agreement::default();
    let room = NonZeroU32::new(1024).unwrap();
    let read = with_truth(floats, room, 1, |truth| {
        truth.logits(tokens, |row| {
            agreement.add(row, &next());
            ControlFlow::Continue(())
        })
    });
    read.unwrap().unwrap();
    assert_eq!(agreement.positions, tokens.len());
    agreement
}

fn header(file: &mut File) -> Header {
    let mut bytes = Vec::new();
    file.take(40 << 20).read_to_end(&mut bytes).unwrap();
    gguf::read(&bytes, None).unwrap()
}

fn load(path: &Path) -> Model {
    let mut file = File::open(path).unwrap();
    let header = header(&mut file);
    let config = Config::read(&header).unwrap();
    Model::load(config, &header, |range| {
        read_range(&mut file, range.start, range.end)
    })
    .unwrap()
}

fn read_range(file: &mut File, start: u64, end: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(end - start).unwrap()];
    file.seek(SeekFrom::Start(start))?;
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// The same model with all weights as 32-bit floats.
fn write_floats(from: &Path, to: &Path) {
    let mut file = File::open(from).unwrap();
    let header = header(&mut file);
    let mut writer = GgufWriter::default();
    for key in header.metadata.keys() {
        let value = header.metadata.value(key).unwrap();
        writer.set(key, copied(value));
    }
    for tensor in header.tensors() {
        let range = header.range(tensor);
        let bytes = read_range(&mut file, range.start, range.end).unwrap();
        let kind = QuantType::of(tensor.kind).unwrap();
        let mut floats = vec![0.0; usize::try_from(tensor.dimensions.weights()).unwrap()];
        kind.decode(&bytes, &mut floats).unwrap();
        let shape = tensor.dimensions.as_slice();
        writer.tensor(&tensor.name, shape, floats).unwrap();
    }
    std::fs::write(to, writer.to_bytes()).unwrap();
}

fn copied(value: &gguf::Value) -> Value {
    match value {
        gguf::Value::Scalar(scalar) => match *scalar {
            Scalar::Unsigned(number) => Value::U32(number.try_into().unwrap()),
            Scalar::Signed(number) => Value::I32(number.try_into().unwrap()),
            Scalar::Float(_) => Value::F32(scalar.float().unwrap()),
            Scalar::Bool(flag) => Value::Bool(flag),
        },
        gguf::Value::Text(bytes) => Value::Text(String::from_utf8(bytes.clone()).unwrap()),
        gguf::Value::Numbers(numbers) => copied_numbers(numbers),
        gguf::Value::Texts(texts) => {
            let texts = texts.iter().map(|text| String::from_utf8(text.to_vec()));
            Value::Texts(texts.map(Result::unwrap).collect())
        }
    }
}

fn copied_numbers(numbers: &Numbers) -> Value {
    let all = || numbers.iter();
    match all().next() {
        Some(Scalar::Float(_)) => Value::F32s(all().map(|it| it.float().unwrap()).collect()),
        Some(Scalar::Bool(_)) => Value::Bools(all().map(|it| it.flag().unwrap()).collect()),
        Some(Scalar::Unsigned(_) | Scalar::Signed(_)) | None => {
            let integers = all().map(|it| it.signed().unwrap().try_into().unwrap());
            Value::I32s(integers.collect())
        }
    }
}

/// Prose, a program, other scripts.
const TEXT: &str = "The lighthouse keeper wrote down the weather every evening: wind, clouds, and the height of the waves. \
    fn main() { println!(\"{}\", 6 * 7); } Die Straße führt zum Meer. 海は静かです。 In 1969, two people walked on the Moon.";

fn tokens(file: &Path) -> Vec<u32> {
    let header = header(&mut File::open(file).unwrap());
    let vocabulary = Vocabulary::from_metadata(&header.metadata).unwrap();
    let encoding = Encoding {
        add_special: true,
        parse_special: false,
    };
    let tokenizer = Tokenizer::new(&vocabulary).unwrap();
    tokenizer.encode(TEXT, encoding).unwrap()
}

/// A folder of this test alone, which is gone afterwards.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("heliograph-reference-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// The text again and again, up to so many tokens.
fn compare_published(name: &str, file: &Path, positions: usize) -> Agreement {
    let folder = Folder::new(name);
    let floats = folder.0.join("floats.gguf");
    write_floats(file, &floats);
    let text = tokens(file);
    let long: Vec<u32> = text.iter().copied().cycle().take(positions).collect();
    compare(file, &floats, &long)
}

#[test]
fn logits_of_a_llama_are_those_of_llama_cpp() {
    let agreement = compare_published("smollm2", &model_file(), 76);
    assert_eq!(agreement.same, agreement.positions, "{agreement:?}");
    assert!(agreement.mean_divergence() < 1e-9, "{agreement:?}");
}

#[test]
fn logits_of_a_gemma_are_those_of_llama_cpp() {
    let file = found("HELIOGRAPH_GEMMA_FILE", GEMMA);
    // Beyond the window of 512 tokens.
    let agreement = compare_published("gemma", &file, 560);
    assert_eq!(agreement.same, agreement.positions, "{agreement:?}");
    // llama.cpp looks its GELU up in a table of 16-bit floats.
    assert!(agreement.mean_divergence() < 1e-5, "{agreement:?}");
}

/// What is changed about a small model.
type Change = fn(&mut GgufWriter);

/// Rotary scaling of the kind `YaRN`, and a context that it stretches.
fn stretch(writer: &mut GgufWriter) {
    let key = |name: &str| format!("llama.rope.scaling.{name}");
    writer.set(&key("type"), Value::Text("yarn".to_owned()));
    writer.set(&key("factor"), Value::F32(4.0));
    writer.set(&key("original_context_length"), Value::U32(200));
}

fn stretch_evenly(writer: &mut GgufWriter) {
    let kind = Value::Text("linear".to_owned());
    writer.set("llama.rope.scaling.type", kind);
    writer.set("llama.rope.scaling.factor", Value::F32(3.0));
}

/// As Llama 3.1 does it.
fn slow_down(writer: &mut GgufWriter) {
    let factors = vec![1.0, 1.0, 1.0, 1.5, 2.5, 4.0, 8.0, 8.0];
    writer.tensor("rope_freqs.weight", &[8], factors).unwrap();
}

fn cap(writer: &mut GgufWriter) {
    writer.set("gemma3.final_logit_softcapping", Value::F32(20.0));
}

#[test]
fn logits_of_small_models_of_every_family_are_those_of_llama_cpp() {
    let folder = Folder::new("families");
    let as_is = |weights: &[f32]| (0, QuantType::F32.encode(weights).unwrap());
    let changes: [(&str, Family, Change); 4] = [
        ("yarn", Family::Llama, stretch),
        ("linear", Family::Llama, stretch_evenly),
        ("factors", Family::Llama, slow_down),
        ("cap", Family::Gemma3, cap),
    ];
    let bare = Family::ALL.map(|family| (family.name(), family, (|_| {}) as Change));
    for (name, family, change) in bare.into_iter().chain(changes) {
        let small = Small {
            family,
            width: 64,
            seed: 11,
        };
        let mut writer = small.write(&as_is).unwrap();
        change(&mut writer);
        let file = folder.0.join(name);
        std::fs::write(&file, writer.to_bytes()).unwrap();
        // Many windows long.
        let tokens: Vec<u32> = TEXT.bytes().map(|byte| u32::from(byte) + 5).collect();
        let agreement = compare(&file, &file, &tokens);
        assert_eq!(agreement.same, agreement.positions, "{name} {agreement:?}");
        let is_gemma = family == Family::Gemma3;
        let bounds = if is_gemma { (1e-6, 1e-3) } else { (1e-8, 1e-5) };
        let found = (agreement.mean_divergence(), agreement.distance);
        assert!(
            found.0 < bounds.0 && found.1 < bounds.1,
            "{name} {agreement:?}"
        );
    }
}
