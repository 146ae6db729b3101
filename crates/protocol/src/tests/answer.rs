//! Carried answers and hashes: what is refused, how they are written, what two ends agree on.

use proptest::collection::vec;
use proptest::prelude::*;

use super::strategies::answer;
use crate::limits::{CARRIED_BYTES_MAX, CARRIED_PIECES_MAX, CARRIED_TOKENS_MAX, NAME_BYTES_MAX};
use crate::{Answer, AnswerHash, DeltaKind, Piece, PieceKind, RunningHash, Transcript};

fn piece(kind: PieceKind, bytes: usize, tokens: usize) -> Piece {
    Piece {
        kind,
        text: "x".repeat(bytes),
        tokens: vec![1; tokens],
    }
}

fn of(pieces: Vec<Piece>) -> Answer {
    Answer {
        model: None,
        pieces,
    }
}

#[test]
fn an_answer_is_carried_up_to_its_limits() {
    let text = PieceKind::Text;
    for (good, bad) in [
        (
            vec![piece(text, CARRIED_BYTES_MAX, 0)],
            vec![piece(text, CARRIED_BYTES_MAX, 0), piece(text, 1, 0)],
        ),
        (
            vec![piece(text, 0, CARRIED_TOKENS_MAX)],
            vec![piece(text, 0, CARRIED_TOKENS_MAX), piece(text, 0, 1)],
        ),
        (
            vec![piece(text, 1, 0); CARRIED_PIECES_MAX],
            vec![piece(text, 1, 0); CARRIED_PIECES_MAX + 1],
        ),
        (
            vec![piece(PieceKind::Reasoning, 1, 1)],
            vec![piece(PieceKind::Unknown, 1, 1)],
        ),
    ] {
        assert_eq!(of(good).validate(), Ok(()));
        assert!(of(bad).validate().is_err());
    }
    let named = |bytes| Answer {
        model: Some("m".repeat(bytes)),
        pieces: vec![],
    };
    assert_eq!(named(NAME_BYTES_MAX).validate(), Ok(()));
    assert!(named(NAME_BYTES_MAX + 1).validate().is_err());
}

#[test]
fn an_answer_counts_the_bytes_and_tokens_of_every_piece() {
    let answer = of(vec![
        piece(PieceKind::Text, 3, 1),
        piece(PieceKind::Logprobs, 5, 0),
        piece(PieceKind::Reasoning, 0, 2),
    ]);
    assert_eq!(answer.bytes(), 8);
    assert_eq!(answer.token_count(), 3);
    assert_eq!(of(vec![]).bytes(), 0);
}

#[test]
fn a_hash_is_sha_256_in_lower_case_digits() {
    // From FIPS 180: SHA-256 of "abc".
    let digits = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let hash = AnswerHash::of(b"abc");
    assert_eq!(
        serde_json::to_string(&hash).unwrap(),
        format!("\"{digits}\"")
    );
    assert_eq!(format!("{hash:?}"), format!("AnswerHash({digits})"));
    let read = |text: &str| serde_json::from_value::<AnswerHash>(text.into());
    assert_eq!(read(digits).unwrap(), hash);
    for other in [
        String::new(),
        digits.to_uppercase(),
        format!("{digits}00"),
        digits.replace('b', "g"),
        digits[2..].to_owned(),
        format!(" {digits}"),
        format!("ö{}", &digits[2..]),
    ] {
        let error = read(&other).unwrap_err().to_string();
        assert!(other.is_empty() || !error.contains(&other), "{error}");
    }
    // Digits that had to be unescaped are digits all the same.
    let escaped = format!("\"\\u0062{}\"", &digits[1..]);
    assert_eq!(serde_json::from_str::<AnswerHash>(&escaped).unwrap(), hash);
    assert_eq!(AnswerHash::default(), AnswerHash::of(b""));
    assert_ne!(AnswerHash::default(), hash);
}

#[test]
fn the_kinds_of_a_piece_are_those_of_token_frames() {
    for (kind, word, number) in [
        (PieceKind::Text, "\"text\"", 1),
        (PieceKind::Reasoning, "\"reasoning\"", 2),
        (PieceKind::ToolCall, "\"tool_call\"", 3),
        (PieceKind::Logprobs, "\"logprobs\"", 4),
    ] {
        assert_eq!(serde_json::to_string(&kind).unwrap(), word);
        let delta = kind.delta().unwrap();
        assert_eq!(delta.number(), number);
        assert_eq!(PieceKind::from(delta), kind);
    }
    assert_eq!(PieceKind::from(DeltaKind::Unknown(9)), PieceKind::Unknown);
    assert_eq!(PieceKind::Unknown.delta(), None);
}

proptest! {
    #[test]
    fn an_answer_survives_json(answer in answer()) {
        let text = serde_json::to_string(&answer).unwrap();
        prop_assert_eq!(serde_json::from_str::<Answer>(&text).unwrap(), answer);
    }

    #[test]
    fn a_running_hash_is_the_hash_of_what_it_took_in(parts in vec(vec(any::<u8>(), 0..40), 0..8)) {
        let mut running = RunningHash::default();
        let mut whole = Vec::new();
        prop_assert_eq!(running.hash(), AnswerHash::default());
        for part in &parts {
            running.update(part);
            whole.extend_from_slice(part);
            // Asking does not end it.
            prop_assert_eq!(running.hash(), AnswerHash::of(&whole));
        }
    }

    #[test]
    fn an_answer_that_can_be_carried_has_a_record(answer in answer()) {
        let record = Transcript::of(&answer);
        prop_assert_eq!(record.is_some(), answer.validate().is_ok());
        if let Some(record) = record {
            let joined: String = answer.pieces.iter().map(|piece| piece.text.as_str()).collect();
            prop_assert_eq!(record.hash(record.offset()), Some(AnswerHash::of(joined.as_bytes())));
        }
    }
}
