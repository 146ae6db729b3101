//! Headers written by hand: whole, in pieces and damaged; hostile ones beside them.

use super::*;
use proptest::prelude::*;

mod hostile;

/// Writes a header as the format says, or just not.
#[derive(Clone)]
struct Raw {
    version: u32,
    entries: u64,
    body: Vec<u8>,
    tensors: u64,
    list: Vec<u8>,
}

impl Raw {
    fn new() -> Self {
        Self {
            version: 3,
            entries: 0,
            body: Vec::new(),
            tensors: 0,
            list: Vec::new(),
        }
    }

    fn entry(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        self.entries += 1;
        self.body.extend(text(key));
        self.body.extend(kind.to_le_bytes());
        self.body.extend(value);
        self
    }

    fn array(self, key: &str, kind: u32, count: u64, items: &[u8]) -> Self {
        let mut value = kind.to_le_bytes().to_vec();
        value.extend(count.to_le_bytes());
        value.extend(items);
        self.entry(key, 9, &value)
    }

    fn tensor(mut self, name: &str, kind: u32, dimensions: &[u64], offset: u64) -> Self {
        self.tensors += 1;
        self.list.extend(text(name));
        let count = u32::try_from(dimensions.len()).expect("few");
        self.list.extend(count.to_le_bytes());
        for dimension in dimensions {
            self.list.extend(dimension.to_le_bytes());
        }
        self.list.extend(kind.to_le_bytes());
        self.list.extend(offset.to_le_bytes());
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut file = b"GGUF".to_vec();
        file.extend(self.version.to_le_bytes());
        file.extend(self.tensors.to_le_bytes());
        file.extend(self.entries.to_le_bytes());
        file.extend(&self.body);
        file.extend(&self.list);
        file
    }

    fn read(&self) -> Result<Header, GgufError> {
        read(&self.bytes(), None)
    }

    fn refusal(&self) -> GgufError {
        self.read().expect_err("is refused")
    }
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

/// One of everything.
fn small() -> Raw {
    Raw::new()
        .entry("u8", 0, &[200])
        .entry("i8", 1, &(-3i8).to_le_bytes())
        .entry("u16", 2, &60_000u16.to_le_bytes())
        .entry("i16", 3, &(-300i16).to_le_bytes())
        .entry("u32", 4, &7u32.to_le_bytes())
        .entry("i32", 5, &(-7i32).to_le_bytes())
        .entry("f32", 6, &0.1f32.to_le_bytes())
        .entry("bool", 7, &[1])
        .entry("text", 8, &text("é"))
        .entry("u64", 10, &u64::MAX.to_le_bytes())
        .entry("i64", 11, &i64::MIN.to_le_bytes())
        .entry("f64", 12, &0.1f64.to_le_bytes())
        .array("texts", 8, 3, &[text("a"), text(""), text("bc")].concat())
        .array("numbers", 5, 2, &[1, 0, 0, 0, 255, 255, 255, 255])
        .array("none", 4, 0, &[])
        .array("silent", 8, 0, &[])
        .tensor("second", 2, &[32, 2], 64)
        .tensor("first", 0, &[3], 0)
}

/// What a lenient parser makes of it.
fn lenient(raw: &Raw) -> Result<Header, GgufError> {
    match Parser::new(None).lenient().push(&raw.bytes())? {
        Progress::Whole { header, .. } => Ok(*header),
        Progress::More => Err(GgufError::Truncated),
    }
}

/// The same bytes in pieces, and what was made of them.
fn in_pieces<'p>(
    pieces: impl IntoIterator<Item = &'p [u8]>,
    file_bytes: Option<u64>,
) -> Result<Header, GgufError> {
    let mut parser = Parser::new(file_bytes);
    for piece in pieces {
        match parser.push(piece)? {
            Progress::More => {}
            Progress::Whole { header, .. } => return Ok(*header),
        }
    }
    Err(GgufError::Truncated)
}

#[test]
fn every_type_of_value_is_read() {
    let header = small().read().expect("a header");
    let metadata = &header.metadata;
    for (key, number) in [("u8", 200), ("u16", 60_000), ("u32", 7), ("u64", u64::MAX)] {
        assert_eq!(metadata.unsigned(key), Ok(Some(number)), "{key}");
    }
    for (key, number) in [("i8", -3), ("i16", -300), ("i32", -7), ("i64", i64::MIN)] {
        let value = Value::Scalar(Scalar::Signed(number));
        assert_eq!(metadata.value(key), Some(&value));
    }
    assert_eq!(metadata.float("f32"), Ok(Some(0.1)));
    let exact = Value::Scalar(Scalar::Float(0.1));
    assert_eq!(metadata.value("f64"), Some(&exact));
    assert_eq!(metadata.flag("bool"), Ok(Some(true)));
    assert_eq!(metadata.text("text"), Ok(Some("é")));
    let texts = metadata.texts("texts").expect("texts").expect("there");
    let all: Vec<&[u8]> = texts.iter().collect();
    assert_eq!(all, [b"a".as_slice(), b"", b"bc"]);
    assert_eq!(
        (texts.text(2), texts.text(3)),
        (Some(b"bc".as_slice()), None)
    );
    let numbers = metadata
        .numbers("numbers")
        .expect("numbers")
        .expect("there");
    let all: Vec<Option<i64>> = numbers.iter().map(Scalar::signed).collect();
    assert_eq!(all, [Some(1), Some(-1)]);
    assert_eq!((numbers.count(), numbers.number(2)), (2, None));
    assert_eq!(metadata.keys().count(), 16);
}

#[test]
fn a_value_of_another_type_is_told_by_its_key() {
    let header = small().read().expect("a header");
    let metadata = &header.metadata;
    let wrong = metadata.unsigned("i32").expect_err("is negative");
    assert_eq!(
        wrong.to_string(),
        "`i32` of the GGUF file is not a natural number"
    );
    assert!(metadata.text("u8").is_err() && metadata.texts("numbers").is_err());
    assert!(metadata.float("u32").is_err() && metadata.flag("u8").is_err());
    assert!(metadata.numbers("texts").is_err());
    assert_eq!(metadata.unsigned("nothing"), Ok(None));
}

#[test]
fn tensors_are_told_in_the_order_in_which_they_lie() {
    let raw = small();
    let header = raw.read().expect("a header");
    let end = raw.bytes().len() as u64;
    assert_eq!(header.data_offset, end.next_multiple_of(32));
    let names = header.tensors().iter().map(|tensor| tensor.name.as_str());
    assert_eq!(names.collect::<Vec<_>>(), ["first", "second"]);
    let second = header.tensor("second").expect("is there");
    assert_eq!((second.kind.name, second.bytes), ("Q4_0", 36));
    assert_eq!(second.dimensions.as_slice(), [32, 2]);
    let start = header.data_offset + 64;
    assert_eq!(header.range(second), start..start + 36);
    assert_eq!(header.file_bytes(), start + 36);
    assert_eq!(header.tensor("third"), None);
}

#[test]
fn tensors_of_unknown_types_are_told_by_a_lenient_parser() {
    let raw = small().tensor("new", 1000, &[7, 2], 128);
    let unknown = GgufError::TensorType {
        name: "new".to_owned(),
        kind: 1000,
    };
    assert_eq!(raw.refusal(), unknown);
    let header = lenient(&raw).expect("is read");
    let new = header.tensor("new").expect("is there");
    assert_eq!((new.kind.id, new.bytes), (1000, 0));
    assert_eq!(new.dimensions.as_slice(), [7, 2]);
    assert_eq!(header.tensors().len(), 3);
    assert_eq!(lenient(&small()), small().read());
}

#[test]
fn a_single_number_is_a_tensor_without_dimensions() {
    let header = Raw::new().tensor("scale", 0, &[], 0).read();
    let header = header.expect("a header");
    let scale = header.tensor("scale").expect("is there");
    assert_eq!((scale.dimensions.weights(), scale.bytes), (1, 4));
}

#[test]
fn a_header_is_the_same_at_every_split() {
    let mut bytes = small().bytes();
    let end = bytes.len();
    bytes.extend([0; 40]);
    let whole = read(&bytes, None).expect("a header");
    for split in 0..=bytes.len() {
        let (first, second) = bytes.split_at(split);
        let mut parser = Parser::new(None);
        let mut taken = match parser.push(first).expect("is taken") {
            Progress::Whole { taken, header } => {
                assert_eq!(*header, whole);
                assert_eq!(taken, end);
                assert!(split >= end);
                continue;
            }
            Progress::More => split,
        };
        match parser.push(second).expect("is taken") {
            Progress::Whole {
                taken: more,
                header,
            } => {
                assert_eq!(*header, whole);
                taken += more;
            }
            Progress::More => panic!("{split}: not whole"),
        }
        assert_eq!(taken, end);
    }
    assert_eq!(in_pieces(bytes.chunks(1), None), Ok(whole));
}

#[test]
fn a_header_that_ends_early_is_never_whole() {
    let bytes = small().bytes();
    for end in 0..bytes.len() {
        let error = read(&bytes[..end], None);
        assert_eq!(error, Err(GgufError::Truncated), "{end}");
        // With the file's size known it is refused, however early.
        let error = in_pieces(bytes.chunks(1), Some(end as u64));
        assert_eq!(error, Err(GgufError::Truncated), "{end}");
    }
}

#[test]
fn a_parser_that_is_done_takes_nothing_more() {
    let bytes = small().bytes();
    let mut parser = Parser::new(None);
    assert!(matches!(parser.push(&bytes), Ok(Progress::Whole { .. })));
    assert_eq!(parser.push(&bytes), Err(GgufError::Over));
    let mut parser = Parser::new(None);
    assert_eq!(parser.push(b"GGML"), Err(GgufError::NotGguf));
    assert_eq!(parser.push(&bytes), Err(GgufError::Over));
}

#[test]
fn metadata_are_told_as_soon_as_they_are_whole() {
    let raw = small();
    let start = raw.bytes().len() - raw.list.len();
    let mut parser = Parser::new(None);
    assert_eq!(parser.push(&raw.bytes()[..start - 1]), Ok(Progress::More));
    assert_eq!(parser.metadata(), None);
    let last = &raw.bytes()[start - 1..start];
    assert_eq!(parser.push(last), Ok(Progress::More));
    let early = parser.metadata().cloned().expect("metadata");
    let rest = parser.push(&raw.bytes()[start..]).expect("a header");
    let Progress::Whole { header, .. } = rest else {
        panic!("not whole");
    };
    assert_eq!((&early, parser.metadata()), (&header.metadata, None));
    // Also of a file whose tensors are refused, in the index or as a whole.
    for raw in [
        small().tensor("odd", 0, &[0], 128),
        small().tensor("odd", 0, &[1], 1),
    ] {
        let mut parser = Parser::new(None);
        parser.push(&raw.bytes()).expect_err("a fault");
        assert_eq!(parser.metadata(), Some(&header.metadata));
    }
}

#[test]
fn a_fault_is_told_without_the_file_s_own_text() {
    let name = "a secret";
    let names = [
        small().entry("u8", 4, &[0; 4]).refusal(),
        small().entry(name, 99, &[]).refusal(),
        small().tensor("first", 0, &[1], 128).refusal(),
        small().tensor(name, 0, &[0], 128).refusal(),
        small().tensor(name, 4, &[1], 128).refusal(),
        small().tensor(name, 2, &[3], 128).refusal(),
        small().tensor(name, 0, &[1], 129).refusal(),
        small().tensor(name, 0, &[1], 64).refusal(),
        small().tensor(name, 0, &[1], u64::MAX - 31).refusal(),
    ];
    for error in names {
        let told = error.without_names();
        assert_ne!(told, error.to_string());
        assert!(!told.contains(['`', '{']), "{told}");
    }
    let long = Raw::new().entry(&"k".repeat(257), 0, &[1]).refusal();
    assert_eq!(long.without_names(), long.to_string());
}

#[test]
fn the_alignment_is_the_file_s_own() {
    let with = |alignment: u32, offset| {
        Raw::new()
            .tensor("a", 0, &[1], 0)
            .tensor("b", 0, &[1], offset)
            .entry("general.alignment", 4, &alignment.to_le_bytes())
    };
    let header = with(8, 8).read().expect("a header");
    assert_eq!((header.alignment, header.data_offset % 8), (8, 0));
    assert_eq!(
        with(4096, 4096).read().map(|header| header.data_offset),
        Ok(4096)
    );
    for alignment in [0, 4, 24, u32::MAX] {
        assert_eq!(
            with(alignment, 64).refusal(),
            GgufError::Alignment { min: 8 },
            "{alignment}"
        );
    }
    // llama.cpp takes any power of two.
    for alignment in [1, 2, 4] {
        let header = lenient(&with(alignment, 4)).expect("a header");
        assert_eq!(header.alignment, u64::from(alignment));
    }
    for alignment in [0, 3, 4 << 20] {
        let error = lenient(&with(alignment, 64));
        assert_eq!(error, Err(GgufError::Alignment { min: 1 }), "{alignment}");
    }
    let text = Raw::new().entry("general.alignment", 8, &text("32"));
    assert_eq!(text.refusal(), GgufError::Alignment { min: 8 });
}

proptest! {
    #[test]
    fn any_bytes_in_any_pieces_make_the_same_of_it(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cuts in prop::collection::vec(1usize..40, 1..60),
        known in any::<bool>(),
    ) {
        let mut bytes = small().bytes();
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        let file_bytes = known.then_some(bytes.len() as u64 + 100);
        let whole = in_pieces([bytes.as_slice()], file_bytes);
        let mut pieces = Vec::new();
        let mut rest = bytes.as_slice();
        for cut in cuts {
            let (piece, after) = rest.split_at(cut.min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        pieces.push(rest);
        // In letters, since what is no number equals nothing, not even itself.
        let pieces = format!("{:?}", in_pieces(pieces, file_bytes));
        prop_assert_eq!(pieces, format!("{whole:?}"));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut file = b"GGUF\x03\0\0\0".to_vec();
        file.extend(bytes);
        let _either = read(&file, None);
    }
}
