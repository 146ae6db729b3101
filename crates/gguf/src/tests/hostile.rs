//! What is refused, and after how few bytes: no more than those that say what is wrong.

use super::*;

#[test]
fn other_formats_versions_and_byte_orders_are_refused() {
    assert_eq!(read(b"PK\x03\x04", None), Err(GgufError::NotGguf));
    let with = |version| Raw { version, ..small() };
    assert_eq!(with(2).read().map(|header| header.version), Ok(2));
    for version in [0, 1, 4] {
        assert_eq!(with(version).refusal(), GgufError::Version(version));
    }
    assert_eq!(with(3u32.swap_bytes()).refusal(), GgufError::BigEndian);
}

#[test]
fn gigantic_counts_are_refused_when_they_are_read() {
    let huge = u64::MAX;
    let counts = [
        Raw {
            tensors: limits::TENSORS_MAX + 1,
            ..Raw::new()
        },
        Raw {
            entries: limits::ENTRIES_MAX + 1,
            ..Raw::new()
        },
        Raw {
            tensors: huge,
            entries: huge,
            ..Raw::new()
        },
        Raw::new().array("a", 0, limits::ELEMENTS_MAX + 1, &[]),
        Raw::new().array("a", 8, huge, &[]),
    ];
    for raw in counts {
        assert!(
            matches!(raw.refusal(), GgufError::TooMany { .. }),
            "{raw:?}",
            raw = raw.body
        );
    }
    // Four million numbers of 64 bits fit no header, …
    let numbers = Raw::new().array("a", 10, limits::ELEMENTS_MAX, &[]);
    let twice = numbers.array("b", 10, limits::ELEMENTS_MAX, &[]);
    assert_eq!(twice.refusal(), GgufError::HeaderTooLong);
    // … and two million texts no file of 100 bytes.
    let texts = Raw::new().array("a", 8, limits::ELEMENTS_MAX / 2, &[]);
    assert_eq!(read(&texts.bytes(), Some(100)), Err(GgufError::Truncated));
}

#[test]
fn gigantic_lengths_are_refused_when_they_are_read() {
    let mut key = Raw {
        entries: 1,
        ..Raw::new()
    };
    key.body.extend(u64::MAX.to_le_bytes());
    let long = Raw::new().entry("a", 8, &(limits::TEXT_BYTES_MAX + 1).to_le_bytes());
    let element = Raw::new().array("a", 8, 1, &u64::MAX.to_le_bytes());
    let name = Raw::new().tensor(&"n".repeat(64), 0, &[1], 0);
    for raw in [key, long, element, name] {
        assert!(matches!(raw.refusal(), GgufError::TooLong { .. }));
    }
}

#[test]
fn nothing_is_allocated_for_what_has_not_come() {
    let raw = Raw::new().array("a", 10, limits::ELEMENTS_MAX / 2, &[0; 100]);
    let mut parser = Parser::new(None);
    assert_eq!(parser.push(&raw.bytes()), Ok(Progress::More));
    assert!(parser.pending.capacity() < 1000);
}

#[test]
fn names_that_are_none_or_come_twice_are_refused() {
    let number = 1u32.to_le_bytes();
    let twice = Raw::new().entry("a", 4, &number).entry("a", 4, &number);
    assert_eq!(twice.refusal(), GgufError::KeyTwice("a".to_owned()));
    let empty = Raw::new().entry("", 4, &number);
    assert_eq!(empty.refusal(), GgufError::NotText("a key"));
    let mut broken = Raw {
        entries: 1,
        ..Raw::new()
    };
    broken.body.extend([1, 0, 0, 0, 0, 0, 0, 0, 0xff]);
    assert_eq!(broken.refusal(), GgufError::NotText("a key"));
    let twice = Raw::new().tensor("t", 0, &[8], 0).tensor("t", 0, &[8], 32);
    assert_eq!(twice.refusal(), GgufError::TensorTwice("t".to_owned()));
}

#[test]
fn unknown_types_are_refused() {
    let value = |kind, key: &str| GgufError::ValueType {
        key: key.to_owned(),
        kind,
    };
    assert_eq!(Raw::new().entry("a", 13, &[]).refusal(), value(13, "a"));
    assert_eq!(Raw::new().array("a", 9, 1, &[]).refusal(), value(9, "a"));
    let name = || "t".to_owned();
    for kind in [4, 31, 43, u32::MAX] {
        let unknown = Raw::new().tensor("t", kind, &[32], 0);
        assert_eq!(
            unknown.refusal(),
            GgufError::TensorType { name: name(), kind }
        );
    }
}

#[test]
fn impossible_tensors_are_refused() {
    let shape = GgufError::Shape("t".to_owned());
    let impossible: [&[u64]; 4] = [&[0], &[1; 5], &[1 << 63, 2], &[u64::MAX, 1]];
    for dimensions in impossible {
        let raw = Raw::new().tensor("t", 0, dimensions, 0);
        assert_eq!(raw.refusal(), shape, "{dimensions:?}");
    }
    let partial = Raw::new().tensor("t", 2, &[33], 0);
    assert!(matches!(partial.refusal(), GgufError::PartialBlock { .. }));
    let misaligned = Raw::new().tensor("t", 0, &[1], 16);
    assert!(matches!(misaligned.refusal(), GgufError::Misaligned { .. }));
    let outside = GgufError::OutsideFile("t".to_owned());
    let behind = Raw::new().tensor("t", 0, &[8], u64::MAX - 31);
    assert_eq!(behind.refusal(), outside);
    let fits = Raw::new().tensor("t", 0, &[8], 64);
    let file_bytes = fits.read().expect("a header").file_bytes();
    assert!(read(&fits.bytes(), Some(file_bytes)).is_ok());
    assert_eq!(read(&fits.bytes(), Some(file_bytes - 1)), Err(outside));
}

#[test]
fn tensors_that_share_a_byte_are_refused() {
    let two = |offset| {
        Raw::new()
            .tensor("b", 0, &[8], offset)
            .tensor("a", 0, &[9], 0)
    };
    assert!(two(64).read().is_ok());
    let overlap = GgufError::Overlap {
        first: "a".to_owned(),
        second: "b".to_owned(),
    };
    assert_eq!(two(32).refusal(), overlap);
    assert!(matches!(two(0).refusal(), GgufError::Overlap { .. }));
}

/// What a file is refused for, and how many of its bytes that took.
fn refused_after(bytes: &[u8], file_bytes: Option<u64>) -> (usize, GgufError) {
    let mut parser = Parser::new(file_bytes);
    for (before, byte) in bytes.iter().enumerate() {
        match parser.push(std::slice::from_ref(byte)) {
            Ok(Progress::More) => {}
            Ok(Progress::Whole { .. }) => panic!("is a header"),
            Err(error) => return (before + 1, error),
        }
    }
    panic!("is not refused");
}

/// Magic, version, two counts.
const HEAD: usize = 24;
/// The length of a key of one letter, and the key.
const KEY: usize = 8 + 1;

#[test]
fn a_file_is_refused_at_the_number_that_is_wrong() {
    let huge = u64::MAX.to_le_bytes();
    let counts = Raw {
        tensors: u64::MAX,
        ..small()
    };
    let key = Raw {
        entries: 1,
        body: huge.to_vec(),
        ..Raw::new()
    };
    let name = Raw {
        tensors: 1,
        list: huge.to_vec(),
        ..Raw::new()
    };
    let dimensions = Raw {
        tensors: 1,
        list: [text("t").as_slice(), &u32::MAX.to_le_bytes()].concat(),
        ..Raw::new()
    };
    let wide = u64::MAX / 2;
    for (raw, bytes) in [
        (counts, HEAD),
        (key, HEAD + 8),
        (Raw::new().entry("a", 8, &huge), HEAD + KEY + 4 + 8),
        (Raw::new().entry("a", 13, &[]), HEAD + KEY + 4),
        (Raw::new().array("a", 8, u64::MAX, &[]), HEAD + KEY + 4 + 12),
        (Raw::new().array("a", 0, u64::MAX, &[]), HEAD + KEY + 4 + 12),
        (Raw::new().array("a", 8, 1, &huge), HEAD + KEY + 4 + 12 + 8),
        (name, HEAD + 8),
        (dimensions, HEAD + KEY + 4),
        // Dimensions whose product has more than 64 bits, and sizes that have them.
        (
            Raw::new().tensor("t", 0, &[1 << 32, 1 << 32], 0),
            HEAD + KEY + 4 + 16 + 12,
        ),
        (
            Raw::new().tensor("t", 0, &[wide, 1], 0),
            HEAD + KEY + 4 + 16 + 12,
        ),
    ] {
        let mut file = raw.bytes();
        // Whatever comes behind is not looked at.
        file.extend([0; 100]);
        let (taken, error) = refused_after(&file, None);
        assert_eq!(taken, bytes, "{error}");
    }
}

#[test]
fn arrays_in_arrays_are_refused_at_the_first_however_deep_they_go() {
    // Each is one array of one element, which is such an array again.
    let mut nested = Vec::new();
    for _ in 0..10_000 {
        nested.extend(9u32.to_le_bytes());
        nested.extend(1u64.to_le_bytes());
    }
    let raw = Raw::new().array("a", 9, 1, &nested);
    let unknown = GgufError::ValueType {
        key: "a".to_owned(),
        kind: 9,
    };
    let expected = (HEAD + KEY + 4 + 12, unknown);
    assert_eq!(refused_after(&raw.bytes(), None), expected);
}

#[test]
fn a_name_that_comes_twice_is_refused_before_what_it_names() {
    let long = text(&"x".repeat(10_000));
    let once = Raw::new().entry("a", 8, &long);
    let before = once.bytes().len();
    let twice = once.entry("a", 8, &long);
    let expected = (before + KEY, GgufError::KeyTwice("a".to_owned()));
    assert_eq!(refused_after(&twice.bytes(), None), expected);

    let once = Raw::new().tensor("t", 0, &[8], 0);
    let before = once.bytes().len();
    let twice = once.tensor("t", 0, &[8], 0);
    let expected = (before + KEY, GgufError::TensorTwice("t".to_owned()));
    assert_eq!(refused_after(&twice.bytes(), None), expected);
}

#[test]
fn what_a_file_of_known_size_cannot_hold_is_refused_where_it_is_announced() {
    let array = Raw::new().array("a", 10, 1 << 20, &[0; 100]);
    let texts = Raw::new().array("a", 8, 1 << 20, &[0; 100]);
    let long = Raw::new().entry(
        "a",
        8,
        &[&(1u64 << 20).to_le_bytes()[..], &[0; 100]].concat(),
    );
    for (raw, bytes) in [
        (array, HEAD + KEY + 4 + 12),
        (texts, HEAD + KEY + 4 + 12),
        (long, HEAD + KEY + 4 + 8),
    ] {
        let refused = refused_after(&raw.bytes(), Some(1 << 20));
        assert_eq!(refused, (bytes, GgufError::Truncated));
    }
    // Without a size the limits of a header hold: three arrays of 16 MiB are more than it may have.
    let mut raw = Raw::new().array("a", 10, 1 << 21, &vec![0; 16 << 20]);
    raw = raw.array("b", 10, 1 << 21, &[]);
    let end = raw.bytes().len();
    let mut parser = Parser::new(None);
    let bytes = raw.bytes();
    assert_eq!(parser.push(&bytes[..end - 1]), Ok(Progress::More));
    assert_eq!(
        parser.push(&bytes[end - 1..]),
        Err(GgufError::HeaderTooLong)
    );
}

#[test]
fn tensors_in_a_chain_of_overlaps_are_refused_with_the_header() {
    // Each begins inside of the one before.
    let mut raw = Raw::new();
    for place in 0..1000u64 {
        raw = raw.tensor(&format!("t{place}"), 0, &[9], place * 32);
    }
    let bytes = raw.bytes();
    let (taken, error) = refused_after(&bytes, None);
    assert_eq!(taken, bytes.len());
    let overlap = GgufError::Overlap {
        first: "t0".to_owned(),
        second: "t1".to_owned(),
    };
    assert_eq!(error, overlap);
}
