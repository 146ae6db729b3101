//! Memory that a hostile header takes: little beyond the bytes that have come, whatever they announce.

#![expect(unsafe_code, reason = "an allocator is unsafe by its nature")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use gguf::{GgufError, Parser, Progress, limits};

thread_local! {
    // Each test runs on a thread of its own, and so does what it counts.
    static IN_USE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

fn count(bytes: isize) {
    let in_use = IN_USE.get() + bytes;
    IN_USE.set(in_use);
    PEAK.set(PEAK.get().max(in_use));
}

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What a header came to.
#[derive(Debug)]
struct Outcome {
    /// Bytes that were taken.
    taken: usize,
    /// Bytes of memory that were in use at once.
    peak: usize,
    error: Option<GgufError>,
}

/// Reads a head and then the same bytes again and again, until there is an error, a header, or too much.
fn read(tensors: u64, entries: u64, mut next: impl FnMut(u64, &mut Vec<u8>)) -> Outcome {
    let mut piece = b"GGUF\x03\0\0\0".to_vec();
    piece.extend(tensors.to_le_bytes());
    piece.extend(entries.to_le_bytes());
    piece.reserve(8 << 20);
    let before = IN_USE.get();
    PEAK.set(before);
    let mut parser = Parser::new(None);
    let mut taken = 0;
    let mut error = None;
    for number in 0.. {
        match parser.push(&piece) {
            Ok(Progress::More) => taken += piece.len(),
            Ok(Progress::Whole { .. }) => break,
            Err(reason) => {
                error = Some(reason);
                break;
            }
        }
        assert!(taken as u64 <= limits::HEADER_BYTES_MAX, "no end");
        piece.clear();
        next(number, &mut piece);
        if piece.is_empty() {
            break;
        }
    }
    let peak = (PEAK.get() - before).cast_unsigned();
    Outcome { taken, peak, error }
}

fn text(piece: &mut Vec<u8>, text: &[u8]) {
    piece.extend((text.len() as u64).to_le_bytes());
    piece.extend(text);
}

fn array(piece: &mut Vec<u8>, key: &str, kind: u32, count: u64) {
    text(piece, key.as_bytes());
    piece.extend(9u32.to_le_bytes());
    piece.extend(kind.to_le_bytes());
    piece.extend(count.to_le_bytes());
}

#[test]
fn what_is_only_announced_takes_no_memory() {
    // Numbers, texts, one text, a key: as many and as long as the limits allow, and nothing of them comes.
    let numbers = |number, piece: &mut Vec<u8>| {
        if number == 0 {
            array(piece, "a", 10, limits::ELEMENTS_MAX - 100);
        }
    };
    let texts = |number, piece: &mut Vec<u8>| {
        if number == 0 {
            array(piece, "a", 8, limits::ELEMENTS_MAX - 100);
        }
    };
    let long = |number, piece: &mut Vec<u8>| {
        if number == 0 {
            text(piece, b"a");
            piece.extend(8u32.to_le_bytes());
            piece.extend(limits::TEXT_BYTES_MAX.to_le_bytes());
            piece.extend([0; 10]);
        }
    };
    let most = (limits::TENSORS_MAX, limits::ENTRIES_MAX);
    for outcome in [
        read(most.0, most.1, numbers),
        read(most.0, most.1, texts),
        read(most.0, most.1, long),
    ] {
        assert_eq!(outcome.error, None);
        assert!(outcome.peak < 1000, "{outcome:?}");
    }
}

#[test]
fn headers_without_an_end_are_refused_at_the_limit_of_headers() {
    let long = vec![b'x'; 1 << 20];
    let outcome = read(0, limits::ENTRIES_MAX, |number, piece| {
        text(piece, number.to_string().as_bytes());
        piece.extend(8u32.to_le_bytes());
        text(piece, &long);
    });
    assert_eq!(outcome.error, Some(GgufError::HeaderTooLong));
    assert!(outcome.taken as u64 > limits::HEADER_BYTES_MAX - (2 << 20));
    assert!(outcome.peak < 2 * outcome.taken, "{outcome:?}");
}

#[test]
fn arrays_as_long_as_can_be_take_little_more_than_their_bytes() {
    // Texts of nothing: eight bytes each in the file.
    let empty = read(0, 1, |number, piece| match number {
        0 => array(piece, "a", 8, limits::ELEMENTS_MAX - 100),
        1..=4 => piece.resize(8 << 20, 0),
        _ => {}
    });
    // Numbers of eight bytes, all at once.
    let numbers = read(0, 1, |number, piece| match number {
        0 => array(piece, "a", 10, limits::ELEMENTS_MAX - 100),
        1..=4 => piece.resize(8 << 20, 0),
        _ => {}
    });
    for outcome in [empty, numbers] {
        assert_eq!(outcome.error, None);
        assert!(outcome.taken > 24 << 20);
        assert!(outcome.peak < 2 * outcome.taken, "{outcome:?}");
    }
}

#[test]
fn as_many_tensors_and_entries_as_can_be_take_a_few_megabytes() {
    let tensors = read(limits::TENSORS_MAX, 0, |number, piece| {
        text(piece, format!("{number:x}").as_bytes());
        piece.extend(1u32.to_le_bytes());
        piece.extend(1u64.to_le_bytes());
        piece.extend(0u32.to_le_bytes());
        piece.extend((number * 32).to_le_bytes());
    });
    let entries = read(0, limits::ENTRIES_MAX, |number, piece| {
        text(piece, format!("{number:x}").as_bytes());
        piece.extend(7u32.to_le_bytes());
        piece.push(1);
    });
    assert!(tensors.error.is_none() && entries.error.is_none());
    assert!(tensors.peak < 32 << 20, "{tensors:?}");
    assert!(entries.peak < 2 << 20, "{entries:?}");
}
