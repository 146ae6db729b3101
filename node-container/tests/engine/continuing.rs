//! Answers that another attempt began: they go on at that very byte, as if nothing had happened.

mod hostile;
mod kinds;
mod likelihood;
mod pausing;

use protocol::answer::{Piece, PieceKind};
use protocol::chat::{LogitBias, Sampling};
use protocol::{Answer, ChatRequest, DeltaKind, FinishReason, Transcript};

use crate::endless;
use crate::harness::{MODEL, Rig, Told, ask, greedy};

/// What a client has after the first `count` deltas.
pub(crate) fn first(told: &Told, count: usize) -> Option<Answer> {
    let mut transcript = Transcript::default();
    for advance in &told.advances[..count] {
        let tokens = advance.tokens.iter().copied();
        transcript.push(advance.kind, tokens, &advance.bytes);
    }
    transcript.answer(Some(MODEL))
}

/// The same as another model would leave it: its ids mean nothing here.
fn foreign(answer: Option<Answer>) -> Option<Answer> {
    answer.map(|answer| Answer {
        model: Some("another".to_owned()),
        ..answer
    })
}

/// Text that comes without ids.
fn text(text: &str) -> Answer {
    Answer {
        model: None,
        pieces: vec![Piece {
            kind: PieceKind::Text,
            text: text.to_owned(),
            tokens: Vec::new(),
        }],
    }
}

fn given_text(answer: Option<&Answer>) -> String {
    answer.map_or(String::new(), |answer| {
        answer
            .pieces
            .iter()
            .filter(|piece| piece.kind != PieceKind::Logprobs)
            .map(|piece| piece.text.as_str())
            .collect()
    })
}

/// Asks for an answer, cuts it after each delta, and goes on from the ids.
fn goes_on_from_ids(rig: &mut Rig, request: &ChatRequest) -> Told {
    let whole = rig.ask(request.clone());
    let cuts = 0..=whole.advances.len();
    goes_on(rig, request, &whole, cuts, |count| first(&whole, count));
    whole
}

/// The same from the text alone.
fn goes_on_from_text(rig: &mut Rig, request: &ChatRequest, whole: &Told) {
    let cuts = (1..whole.advances.len()).step_by(2);
    goes_on(rig, request, whole, cuts, |count| {
        foreign(first(whole, count))
    });
}

/// Every continuation has to fit and to count right. Nearly all have to be the same as the unbroken answer: reading
/// tokens together and one by one gives slightly different numbers, which now and then make another token likelier.
fn goes_on(
    rig: &mut Rig,
    request: &ChatRequest,
    whole: &Told,
    cuts: impl Iterator<Item = usize> + Clone,
    beginning: impl Fn(usize) -> Option<Answer>,
) {
    let (_, unbroken) = whole.finished();
    let mut others = Vec::new();
    for count in cuts.clone() {
        let answer = beginning(count);
        let given = given_text(answer.as_ref());
        let tokens = answer.as_ref().map_or(0, Answer::token_count);
        let rest = rig.go_on(request, answer);
        let (reason, usage) = rest.finished();
        assert_eq!(usage.prompt_tokens, unbroken.prompt_tokens);
        let counted = usize::try_from(usage.completion_tokens).expect("few");
        assert_eq!(counted, tokens + rest.tokens.len(), "cut after {count}");
        if let Some(most) = request.max_tokens {
            assert!(usage.completion_tokens <= most);
            let is_full = usage.completion_tokens == most;
            assert!(is_full || reason == FinishReason::Stop);
        }
        let told = format!("{given}{}", rest.text);
        if told == whole.text {
            assert_eq!(reason, whole.finished().0);
        } else {
            others.push((count, told));
        }
    }
    assert!(
        others.len() * 6 <= cuts.count(),
        "{:?}, but cut after: {others:#?}",
        whole.text
    );
}

#[test]
fn the_likeliest_answer_goes_on_from_any_token() {
    let mut rig = Rig::new(1, 512);
    let request = ChatRequest {
        max_tokens: Some(24),
        ..greedy("Tell me a story about a lighthouse.")
    };
    let whole = goes_on_from_ids(&mut rig, &request);
    goes_on_from_text(&mut rig, &request, &whole);
}

#[test]
fn a_seeded_answer_goes_on_from_any_token() {
    let mut rig = Rig::new(1, 512);
    let request = ChatRequest {
        sampling: Sampling {
            temperature: Some(1.0),
            seed: Some(7),
            ..Sampling::default()
        },
        max_tokens: Some(24),
        ..ask("Invent a name for a ship and tell its story.")
    };
    let whole = goes_on_from_ids(&mut rig, &request);
    goes_on_from_text(&mut rig, &request, &whole);
}

#[test]
fn penalties_see_what_was_given() {
    let mut rig = Rig::new(1, 512);
    let mut request = endless("Repeat the word yes fifty times.");
    request.max_tokens = Some(24);
    request.sampling.frequency_penalty = Some(0.4);
    request.sampling.presence_penalty = Some(0.4);
    let whole = goes_on_from_ids(&mut rig, &request);
    goes_on_from_text(&mut rig, &request, &whole);
}

#[test]
fn an_answer_that_ends_by_itself_ends_there_again() {
    let mut rig = Rig::new(1, 512);
    let request = greedy("What is 2+2?");
    let whole = goes_on_from_ids(&mut rig, &request);
    assert_eq!(whole.finished().0, FinishReason::Stop);
    // Only the word that it ended was lost.
    let rest = rig.go_on(&request, first(&whole, whole.advances.len()));
    assert_eq!(rest.advances, []);
    assert_eq!(rest.finished(), whole.finished());
    // All text, but not the end of turn: the model says it again.
    let rest = rig.go_on(&request, text(&whole.text));
    assert_eq!((rest.text.as_str(), rest.tokens.len()), ("", 1));
    assert_eq!(rest.finished().0, FinishReason::Stop);
}

#[test]
fn max_tokens_counts_what_was_given() {
    let mut rig = Rig::new(1, 512);
    let request = ChatRequest {
        max_tokens: Some(12),
        ..endless("Tell me a long story.")
    };
    let whole = goes_on_from_ids(&mut rig, &request);
    assert_eq!(whole.finished().1.completion_tokens, 12);
    // Nothing is left of it, also where the ids mean nothing here.
    let rest = rig.go_on(&request, foreign(first(&whole, whole.advances.len())));
    assert_eq!(rest.advances, []);
    assert_eq!(rest.finished(), whole.finished());
    // Without ids the tokens that this model would need for it count.
    let rest = rig.go_on(&request, text(&whole.text));
    assert_eq!(rest.finished().0, FinishReason::Length);
    assert!(rest.tokens.len() <= 1, "{:?}", rest.tokens);
}

#[test]
fn text_may_end_anywhere() {
    let mut rig = Rig::new(1, 512);
    let request = ChatRequest {
        max_tokens: Some(16),
        ..greedy("Tell me a story about a lighthouse.")
    };
    let whole = rig.ask(request.clone());
    let (mut others, mut cuts) = (Vec::new(), 0);
    for (cut, _) in whole.text.char_indices().skip(1) {
        let rest = rig.go_on(&request, text(&whole.text[..cut]));
        let told = format!("{}{}", &whole.text[..cut], rest.text);
        cuts += 1;
        // A word that is cut may take one token more.
        if !whole.text.starts_with(&told) && !told.starts_with(&whole.text) {
            others.push((cut, told));
        }
    }
    assert!(
        others.len() * 6 <= cuts,
        "{:?}, but cut at: {others:#?}",
        whole.text
    );
}

#[test]
fn a_stop_string_over_the_seam_is_honoured() {
    let mut rig = Rig::new(1, 512);
    let free = ChatRequest {
        max_tokens: Some(30),
        ..endless("What is the capital of France?")
    };
    let unbroken = rig.ask(free.clone());
    for seam in [1, 4, 7, 9] {
        let before: String = unbroken.pieces[..seam].concat();
        let after = &unbroken.pieces[seam];
        let stop: String = before
            .chars()
            .rev()
            .take(3)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .chain(after.chars().take(2))
            .collect();
        let request = ChatRequest {
            stop: vec![stop.clone()],
            ..free.clone()
        };
        let expected = unbroken.text.find(&stop).expect("it is there");
        // The client has the beginning of the stop string, from a node that holds nothing back.
        let rest = rig.go_on(&request, first(&unbroken, seam));
        assert_eq!(rest.text, "", "stop {stop:?}");
        assert_eq!(rest.finished().0, FinishReason::Stop);
        let rest = rig.go_on(&request, text(&before));
        assert_eq!(rest.text, "", "stop {stop:?}");
        assert_eq!(rest.finished().0, FinishReason::Stop);
        // And from one that does.
        let whole = goes_on_from_ids(&mut rig, &request);
        assert_eq!(whole.text, unbroken.text[..expected]);
    }
}

#[test]
fn what_was_held_back_for_a_stop_string_comes_when_it_is_none() {
    let mut rig = Rig::new(1, 512);
    let mut request = ChatRequest {
        max_tokens: Some(30),
        ..endless("What is the capital of France?")
    };
    let free = rig.ask(request.clone());
    // The last letter of many tokens could begin a stop string, and never does.
    request.stop = free
        .pieces
        .iter()
        .filter(|piece| piece.chars().count() > 2)
        .filter_map(|piece| piece.chars().last())
        .take(12)
        .map(|letter| format!("{letter}\u{1}"))
        .collect();
    let whole = goes_on_from_ids(&mut rig, &request);
    assert_eq!(whole.text, free.text);
    assert_ne!(whole.pieces, free.pieces, "something was held back");
    goes_on_from_text(&mut rig, &request, &whole);
}

#[test]
fn log_probabilities_go_on_too() {
    let mut rig = Rig::new(1, 512);
    let request = ChatRequest {
        top_logprobs: Some(2),
        max_tokens: Some(12),
        ..greedy("Name three primary colours.")
    };
    let whole = goes_on_from_ids(&mut rig, &request);
    for count in 1..whole.advances.len() {
        let given = whole.advances[..count]
            .iter()
            .filter(|advance| advance.kind == DeltaKind::Logprobs)
            .count();
        let rest = rig.go_on(&request, first(&whole, count));
        let ids = |told: &[serde_json::Value]| -> Vec<_> {
            told.iter().map(|entry| entry["id"].clone()).collect()
        };
        assert_eq!(
            ids(&rest.logprobs),
            ids(&whole.logprobs[given..]),
            "cut after {count}"
        );
    }
}

#[test]
fn the_ids_of_a_biased_token_are_kept() {
    let mut rig = Rig::new(1, 512);
    let mut request = endless("Tell me about bread.");
    request.max_tokens = Some(20);
    let free = rig.ask(request.clone());
    let last = *free.tokens.last().expect("tokens");
    request.sampling.logit_bias.push(LogitBias {
        token: last,
        bias: -100.0,
    });
    // It was given before, so it stays; it is only not drawn again.
    let rest = rig.go_on(
        &ChatRequest {
            max_tokens: Some(30),
            ..request
        },
        first(&free, free.advances.len()),
    );
    assert!(!rest.tokens.contains(&last));
    assert_eq!(rest.finished().1.completion_tokens, 30);
}
