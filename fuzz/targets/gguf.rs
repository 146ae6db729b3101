//! Headers of GGUF files: in pieces they are what they are whole; every tensor lies inside of the file, alone; and what
//! a header means for a model is said without a panic.

#![no_main]

use libfuzzer_sys::fuzz_target;
use webgpu_engine::gguf::{GgufError, Header, Parser, Progress, read};
use webgpu_engine::model::{CacheType, Config, Demand, MemoryNeed};

/// Sizes of pieces, one after the other.
const PIECES: [usize; 5] = [1, 7, 2, 31, 4];

fn in_pieces(mut bytes: &[u8], file_bytes: Option<u64>) -> Result<Header, GgufError> {
    let mut parser = Parser::new(file_bytes);
    for size in PIECES.into_iter().cycle() {
        let (piece, rest) = bytes.split_at(size.min(bytes.len()));
        if let Progress::Whole { header, .. } = parser.push(piece)? {
            return Ok(*header);
        }
        if rest.is_empty() {
            break;
        }
        bytes = rest;
    }
    Err(GgufError::Truncated)
}

/// Whether a lenient parser makes the same of it, where it may not let more pass.
fn check_lenient(strict: &Result<Header, GgufError>, lenient: Result<Progress, GgufError>) {
    let lenient = match lenient {
        Ok(Progress::Whole { header, .. }) => Ok(*header),
        Ok(Progress::More) => Err(GgufError::Truncated),
        Err(error) => Err(error),
    };
    if matches!(
        strict,
        Err(GgufError::TensorType { .. } | GgufError::Alignment { .. })
    ) {
        return;
    }
    assert!(lenient == *strict || format!("{lenient:?}") == format!("{strict:?}"));
}

fuzz_target!(|input: (bool, bool, bool, &[u8])| {
    let (is_whole, is_known, has_packed, bytes) = input;
    // Most inputs would fail at the magic and the counts.
    let bytes = if is_whole {
        bytes.to_vec()
    } else {
        let counts = [bytes.first(), bytes.get(1)].map(|count| u64::from(*count.unwrap_or(&0)));
        let mut file = b"GGUF\x03\0\0\0".to_vec();
        file.extend(counts[0].to_le_bytes());
        file.extend(counts[1].to_le_bytes());
        file.extend(bytes.get(2..).unwrap_or_default());
        file
    };
    let file_bytes = is_known.then_some(bytes.len() as u64 + 4096);
    let header = read(&bytes, file_bytes);
    let pieces = in_pieces(&bytes, file_bytes);
    // What is no number equals nothing, not even itself; in letters it does.
    assert!(pieces == header || format!("{pieces:?}") == format!("{header:?}"));
    check_lenient(&header, Parser::new(file_bytes).lenient().push(&bytes));
    let Ok(header) = header else {
        return;
    };
    assert!(header.data_offset.is_multiple_of(header.alignment));
    let mut end = header.data_offset;
    for tensor in header.tensors() {
        let range = header.range(tensor);
        assert!(end <= range.start && range.start < range.end);
        assert_eq!(header.tensor(&tensor.name), Some(tensor));
        end = range.end;
    }
    assert!(file_bytes.is_none_or(|bytes| end <= bytes));
    if let Ok(config) = Config::read(&header) {
        let demand = Demand {
            context_tokens: u32::MAX,
            sessions: u32::MAX,
            batch_tokens: u32::MAX,
            logit_rows: u32::MAX,
            cache: CacheType::F32,
            has_packed,
        };
        let need = MemoryNeed::of(&config, &header, &demand);
        assert!(need.total() >= need.weights);
    }
});
