//! The record of an answer: what goes in comes out again, from any point on, up to the limits.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::limits::{CARRIED_BYTES_MAX, CARRIED_PIECES_MAX, CARRIED_TOKENS_MAX, ENTRY_TOKENS_MAX};
use crate::{
    Answer, AnswerHash, DeltaKind, Piece, PieceKind, TokenFrame, TokenFrameWriter, Transcript,
};

/// A delta as a node sends it: whole characters of a known kind.
#[derive(Debug, Clone)]
struct Delta {
    kind: DeltaKind,
    tokens: Vec<u32>,
    text: String,
}

fn delta() -> impl Strategy<Value = Delta> {
    let kind = prop::sample::select(vec![
        DeltaKind::Text,
        DeltaKind::Reasoning,
        DeltaKind::ToolCall,
        DeltaKind::Logprobs,
    ]);
    (kind, vec(any::<u32>(), 0..4), "\\PC{0,6}").prop_map(|(kind, tokens, text)| Delta {
        kind,
        tokens,
        text,
    })
}

fn record(deltas: &[Delta]) -> Transcript {
    let mut record = Transcript::default();
    for delta in deltas {
        push(&mut record, delta.kind, &delta.tokens, &delta.text);
    }
    record
}

fn push(record: &mut Transcript, kind: DeltaKind, tokens: &[u32], text: &str) {
    record.push(kind, tokens.iter().copied(), text.as_bytes());
}

fn owned_runs(
    record: &Transcript,
    offset: u32,
    tokens: u32,
) -> Vec<(DeltaKind, Vec<u8>, Vec<u32>)> {
    record
        .runs_from(offset, tokens)
        .map(|(kind, bytes, tokens)| (kind, bytes.to_vec(), tokens.to_vec()))
        .collect()
}

/// Each byte and each token beyond the two points, with its kind: what a reader must have at the end.
type Flat<T> = Vec<(DeltaKind, T)>;

fn flat(deltas: &[Delta]) -> (Flat<u8>, Flat<u32>) {
    let bytes = deltas
        .iter()
        .flat_map(|delta| delta.text.bytes().map(|byte| (delta.kind, byte)))
        .collect();
    let tokens = deltas
        .iter()
        .flat_map(|delta| delta.tokens.iter().map(|token| (delta.kind, *token)))
        .collect();
    (bytes, tokens)
}

fn flat_from(record: &Transcript, offset: u32, tokens: u32) -> (Flat<u8>, Flat<u32>) {
    let (mut all_bytes, mut all_tokens) = (Vec::new(), Vec::new());
    for (kind, bytes, tokens) in record.runs_from(offset, tokens) {
        assert!(!bytes.is_empty() || !tokens.is_empty(), "an empty run");
        all_bytes.extend(bytes.iter().map(|byte| (kind, *byte)));
        all_tokens.extend(tokens.iter().map(|token| (kind, *token)));
    }
    (all_bytes, all_tokens)
}

proptest! {
    #[test]
    fn what_lies_beyond_any_two_points_comes_back_exactly(
        deltas in vec(delta(), 0..12),
        bytes_at in any::<prop::sample::Index>(),
        tokens_at in any::<prop::sample::Index>(),
    ) {
        let record = record(&deltas);
        let (bytes, tokens) = flat(&deltas);
        prop_assert_eq!(usize::try_from(record.offset()).unwrap(), bytes.len());
        prop_assert_eq!(usize::try_from(record.token_count()).unwrap(), tokens.len());
        // The two points need not belong together: a reader may have a token's id and not its text.
        let (at, token_at) = (bytes_at.index(bytes.len() + 1), tokens_at.index(tokens.len() + 1));
        let (rest, token_rest) =
            flat_from(&record, u32::try_from(at).unwrap(), u32::try_from(token_at).unwrap());
        prop_assert_eq!(&rest[..], &bytes[at..]);
        prop_assert_eq!(&token_rest[..], &tokens[token_at..]);
    }

    #[test]
    fn a_reader_who_is_resent_the_rest_has_the_same_record(
        deltas in vec(delta(), 0..12),
        had in any::<prop::sample::Index>(),
    ) {
        let had = had.index(deltas.len() + 1);
        let whole = record(&deltas);
        let mut reader = record(&deltas[..had]);
        for (kind, bytes, tokens) in whole.runs_from(reader.offset(), reader.token_count()) {
            reader.push(kind, tokens.iter().copied(), bytes);
        }
        prop_assert_eq!(reader.answer(None), whole.answer(None));
        prop_assert_eq!(reader.hash(reader.offset()), whole.hash(whole.offset()));
    }

    #[test]
    fn a_record_survives_being_carried(deltas in vec(delta(), 0..12)) {
        let before = record(&deltas);
        let Some(answer) = before.answer(Some("m")) else {
            prop_assert_eq!((before.offset(), before.token_count()), (0, 0));
            return Ok(());
        };
        prop_assert_eq!(answer.model.as_deref(), Some("m"));
        let after = Transcript::of(&answer).unwrap();
        prop_assert_eq!(owned_runs(&after, 0, 0), owned_runs(&before, 0, 0));
        prop_assert_eq!(after.answer(Some("m")), Some(answer));
    }

    #[test]
    fn a_hash_is_of_the_bytes_before(deltas in vec(delta(), 0..8), at in any::<prop::sample::Index>()) {
        let record = record(&deltas);
        let bytes: Vec<u8> = deltas.iter().flat_map(|delta| delta.text.bytes()).collect();
        let at = at.index(bytes.len() + 1);
        let hash = record.hash(u32::try_from(at).unwrap());
        prop_assert_eq!(hash, Some(AnswerHash::of(&bytes[..at])));
        prop_assert_eq!(record.hash(record.offset() + 1), None);
    }
}

#[test]
fn deltas_of_one_kind_are_one_piece() {
    let mut record = Transcript::default();
    push(&mut record, DeltaKind::Reasoning, &[1], "hm");
    push(&mut record, DeltaKind::Text, &[2], "Red");
    push(&mut record, DeltaKind::Text, &[], "");
    push(&mut record, DeltaKind::Logprobs, &[], "");
    push(&mut record, DeltaKind::Text, &[3, 4], ", blue");
    let expected = Answer {
        model: None,
        pieces: vec![
            Piece {
                kind: PieceKind::Reasoning,
                text: "hm".to_owned(),
                tokens: vec![1],
            },
            Piece {
                kind: PieceKind::Text,
                text: "Red, blue".to_owned(),
                tokens: vec![2, 3, 4],
            },
        ],
    };
    assert_eq!(record.answer(None), Some(expected));
}

#[test]
fn an_entry_of_a_token_frame_is_a_delta() {
    let mut writer = TokenFrameWriter::new();
    assert!(writer.push(7, 0, DeltaKind::Text, &[193, 116], "ö".as_bytes()));
    assert!(writer.push(7, 2, DeltaKind::Text, &[9], b""));
    let frame = writer.finish();
    let mut record = Transcript::default();
    for entry in TokenFrame::decode(&frame).unwrap().entries() {
        record.push_entry(&entry);
    }
    assert_eq!((record.offset(), record.token_count()), (2, 3));
    let runs = owned_runs(&record, 0, 0);
    let expected = (DeltaKind::Text, "ö".as_bytes().to_vec(), vec![193, 116, 9]);
    assert_eq!(runs, [expected]);
    // Nothing is left but the token without text.
    let expected = (DeltaKind::Text, vec![], vec![9]);
    assert_eq!(owned_runs(&record, 2, 2), [expected]);
}

#[test]
fn points_beyond_the_end_leave_nothing() {
    let mut record = Transcript::default();
    push(&mut record, DeltaKind::Text, &[1], "Red");
    assert_eq!(owned_runs(&record, 3, 1), []);
    assert_eq!(owned_runs(&record, u32::MAX, u32::MAX), []);
    assert_eq!(
        owned_runs(&record, u32::MAX, 0),
        [(DeltaKind::Text, vec![], vec![1])]
    );
}

#[test]
fn an_empty_record_has_nothing_to_carry() {
    let record = Transcript::default();
    assert_eq!(record.answer(Some("m")), None);
    assert_eq!(record.hash(0), Some(AnswerHash::default()));
    assert!(record.is_whole());
    let mut touched = Transcript::default();
    push(&mut touched, DeltaKind::Text, &[], "");
    assert_eq!(touched.answer(Some("m")), None);
}

/// Fills a record to a limit, checks that it is whole, goes one further and checks that only the lengths are left.
fn is_dropped_after(mut record: Transcript, one_more: impl FnOnce(&mut Transcript)) {
    assert!(record.is_whole());
    assert!(record.answer(None).is_some());
    let (offset, tokens) = (record.offset(), record.token_count());
    one_more(&mut record);
    assert!(!record.is_whole());
    assert_eq!(record.answer(None), None);
    assert_eq!(record.runs_from(0, 0).count(), 0);
    assert!(record.offset() == 0 || record.hash(record.offset()).is_none());
    let grown = record.offset() + record.token_count() - offset - tokens;
    assert!(grown > 0, "lengths go on");
    push(&mut record, DeltaKind::Text, &[1, 2], "more");
    assert_eq!(
        record.offset() + record.token_count(),
        offset + tokens + grown + 6
    );
    assert!(record.memory_bytes() < 1024, "{}", record.memory_bytes());
}

#[test]
fn beyond_a_limit_only_the_lengths_are_kept() {
    let mut bytes = Transcript::default();
    push(
        &mut bytes,
        DeltaKind::Text,
        &[],
        &"x".repeat(CARRIED_BYTES_MAX),
    );
    is_dropped_after(bytes, |record| push(record, DeltaKind::Text, &[], "x"));

    let mut tokens = Transcript::default();
    for _ in 0..CARRIED_TOKENS_MAX / ENTRY_TOKENS_MAX {
        push(&mut tokens, DeltaKind::Text, &vec![1; ENTRY_TOKENS_MAX], "");
    }
    is_dropped_after(tokens, |record| push(record, DeltaKind::Text, &[1], ""));

    let mut pieces = Transcript::default();
    for at in 0..CARRIED_PIECES_MAX {
        let kind = [DeltaKind::Text, DeltaKind::Logprobs][at % 2];
        push(&mut pieces, kind, &[], "x");
    }
    is_dropped_after(pieces, |record| push(record, DeltaKind::Text, &[], "x"));
}

#[test]
fn a_record_without_text_knows_how_long_it_is_and_no_more() {
    let mut dropped = Transcript::default();
    push(&mut dropped, DeltaKind::Text, &[1, 2], "Red");
    dropped.drop_text();
    for mut record in [dropped, Transcript::without_text(3, 2)] {
        assert_eq!((record.offset(), record.token_count()), (3, 2));
        assert!(!record.is_whole());
        assert_eq!(record.answer(None), None);
        assert_eq!(record.hash(3), None);
        assert_eq!(record.runs_from(0, 0).count(), 0);
        assert_eq!(record.memory_bytes(), 0);
        push(&mut record, DeltaKind::Text, &[3], ", blue");
        assert_eq!((record.offset(), record.token_count()), (9, 3));
        assert_eq!(record.answer(None), None);
    }
}

#[test]
fn a_record_takes_memory_in_proportion_to_the_answer() {
    let mut record = Transcript::default();
    push(&mut record, DeltaKind::Text, &[1; 1000], &"x".repeat(4000));
    assert!(
        (8_000..20_000).contains(&record.memory_bytes()),
        "{}",
        record.memory_bytes()
    );
}

#[test]
fn what_cannot_be_said_in_json_cannot_be_carried_but_can_be_resent() {
    let mut record = Transcript::default();
    record.push(DeltaKind::Text, [1].into_iter(), &[0xc3]);
    assert_eq!(record.answer(None), None);
    assert_eq!(
        owned_runs(&record, 0, 0),
        [(DeltaKind::Text, vec![0xc3], vec![1])]
    );

    let mut record = Transcript::default();
    push(&mut record, DeltaKind::Unknown(9), &[], "?");
    assert_eq!(record.answer(None), None);
    assert_eq!(
        owned_runs(&record, 0, 0),
        [(DeltaKind::Unknown(9), b"?".to_vec(), vec![])]
    );
}

#[test]
fn no_record_is_made_of_an_answer_that_cannot_be_carried() {
    let piece = |kind, bytes| Piece {
        kind,
        text: "x".repeat(bytes),
        tokens: vec![],
    };
    let of = |piece| {
        let answer = Answer {
            model: None,
            pieces: vec![piece],
        };
        Transcript::of(&answer)
    };
    assert!(of(piece(PieceKind::Text, CARRIED_BYTES_MAX)).is_some());
    assert!(of(piece(PieceKind::Text, CARRIED_BYTES_MAX + 1)).is_none());
    assert!(of(piece(PieceKind::Unknown, 1)).is_none());
}
