//! Carried answers and hashes: what a record takes in, it gives back, joined.

#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::{Answer, AnswerHash, RunningHash, Transcript};

fuzz_target!(|text: &str| {
    if let Ok(hash) = serde_json::from_str::<AnswerHash>(text) {
        let written = serde_json::to_string(&hash).expect("a hash can be written");
        assert_eq!(
            serde_json::from_str::<AnswerHash>(&written).expect("and read"),
            hash
        );
    }
    let Ok(answer) = serde_json::from_str::<Answer>(text) else {
        return;
    };
    let Some(record) = Transcript::of(&answer) else {
        assert!(answer.validate().is_err());
        return;
    };
    assert_eq!(usize::try_from(record.offset()), Ok(answer.bytes()));
    assert_eq!(
        usize::try_from(record.token_count()),
        Ok(answer.token_count())
    );
    let mut hash = RunningHash::default();
    for piece in &answer.pieces {
        hash.update(piece.text.as_bytes());
    }
    assert_eq!(record.hash(record.offset()), Some(hash.hash()));
    // Joined once, it stays as it is.
    if let Some(joined) = record.answer(answer.model.as_deref()) {
        let again = Transcript::of(&joined).expect("what was carried can be carried on");
        assert_eq!(again.answer(joined.model.as_deref()), Some(joined));
    }
});
