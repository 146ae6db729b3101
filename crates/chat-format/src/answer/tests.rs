//! What is told of tokens, and when.

use super::*;
use crate::family::Syntax;
use crate::logprobs::Candidate;
use proptest::prelude::*;
use protocol::ChatRequest;
use protocol::chat::Tool;

fn drawn(token: u32, piece: &[u8], logprob: Option<TokenLogprob>) -> Drawn<'_> {
    Drawn {
        token,
        piece,
        logprob,
        is_told: false,
    }
}

fn parser() -> Parser {
    let request = ChatRequest {
        tools: vec![Tool {
            name: "add".to_owned(),
            description: None,
            parameters: None,
        }],
        ..ChatRequest::default()
    };
    Parser::new(
        Syntax::detect("<tool_call> <think>", |_| false),
        &request,
        "",
    )
}

fn tooled(given_bytes: usize) -> Answer {
    Answer::new(&[], parser(), given_bytes)
}

fn continued(stops: &[String], given_bytes: usize) -> Answer {
    let syntax = Syntax::detect("", |_| false);
    let parser = Parser::new(syntax, &ChatRequest::default(), "");
    Answer::new(stops, parser, given_bytes)
}

fn plain(stops: &[String]) -> Answer {
    continued(stops, 0)
}

fn logprob(id: u32) -> TokenLogprob {
    TokenLogprob {
        id,
        candidate: Candidate {
            token: "a".to_owned(),
            logprob: -0.5,
            bytes: vec![97],
        },
        top: Vec::new(),
    }
}

fn given(token: u32, piece: &[u8]) -> Drawn<'_> {
    Drawn {
        is_told: true,
        ..drawn(token, piece, None)
    }
}

fn told(answer: &mut Answer) -> (Vec<u32>, String) {
    let mut advances = Vec::new();
    answer.advance(&mut advances);
    let tokens = advances.iter().flat_map(|a| a.tokens.clone()).collect();
    let text = advances.iter().map(|a| a.text.as_str()).collect();
    (tokens, text)
}

#[test]
fn a_token_counts_where_its_character_appears() {
    let mut answer = plain(&[]);
    let crab = "🦀".as_bytes();
    assert!(!answer.push(drawn(10, &crab[..2], None)));
    assert_eq!(told(&mut answer), (vec![], String::new()));
    assert!(!answer.push(drawn(11, &crab[2..], None)));
    assert_eq!(told(&mut answer), (vec![10, 11], "🦀".to_owned()));
}

#[test]
fn held_back_tokens_count_when_they_turn_out_to_be_text() {
    let mut answer = plain(&["END".to_owned()]);
    assert!(!answer.push(drawn(1, b"x E", None)));
    assert_eq!(told(&mut answer), (vec![], "x ".to_owned()));
    assert!(!answer.push(drawn(2, b"N", None)));
    assert!(!answer.push(drawn(3, b"TER", None)));
    assert_eq!(told(&mut answer), (vec![1, 2, 3], "ENTER".to_owned()));
}

#[test]
fn the_tokens_of_a_stop_string_count_without_text() {
    let mut answer = plain(&["END".to_owned()]);
    assert!(!answer.push(drawn(1, b"a", None)));
    assert!(!answer.push(drawn(2, b"E", None)));
    assert!(answer.push(drawn(3, b"ND b", None)));
    assert_eq!(told(&mut answer), (vec![1, 2, 3], "a".to_owned()));
}

#[test]
fn the_end_of_turn_token_counts_in_the_last_advance() {
    let mut answer = plain(&["!!".to_owned()]);
    assert!(!answer.push(drawn(1, b"a!", None)));
    assert_eq!(told(&mut answer), (vec![], "a".to_owned()));
    answer.finish(Some(2));
    assert_eq!(told(&mut answer), (vec![1, 2], "!".to_owned()));
}

#[test]
fn log_probabilities_follow_their_tokens() {
    let mut answer = plain(&[]);
    answer.push(drawn(1, b"a", Some(logprob(1))));
    let mut advances = Vec::new();
    answer.advance(&mut advances);
    assert_eq!(advances.len(), 2);
    assert_eq!(advances[1].kind, DeltaKind::Logprobs);
    assert_eq!(
        advances[1].text,
        r#"[{"id":1,"token":"a","logprob":-0.5,"bytes":[97],"top":[]}]"#
    );
}

#[test]
fn what_the_client_has_is_not_told_again() {
    let mut answer = continued(&[], 3);
    assert!(!answer.push(given(1, b"ab")));
    assert!(!answer.push(drawn(2, b"cde", None)));
    assert_eq!(told(&mut answer), (vec![2], "de".to_owned()));
}

#[test]
fn a_stop_string_over_the_seam_never_shows() {
    let mut answer = continued(&["END".to_owned()], 2);
    // The client has "x ", and the token's other half was held back.
    assert!(!answer.push(given(1, b"x E")));
    assert_eq!(told(&mut answer), (vec![], String::new()));
    assert!(answer.push(drawn(2, b"ND.", None)));
    assert_eq!(told(&mut answer), (vec![2], String::new()));
}

#[test]
fn what_was_held_back_before_the_seam_is_told_when_it_is_text() {
    let mut answer = continued(&["END".to_owned()], 2);
    assert!(!answer.push(given(1, b"x E")));
    assert!(!answer.push(drawn(2, b"at", None)));
    assert_eq!(told(&mut answer), (vec![2], "Eat".to_owned()));
}

#[test]
fn half_of_a_given_character_is_not_replaced() {
    let crab = "🦀".as_bytes();
    let mut answer = continued(&[], crab.len());
    assert!(!answer.push(drawn(1, &crab[..2], None)));
    answer.finish(None);
    assert_eq!(told(&mut answer), (vec![1], String::new()));
}

#[test]
fn markers_are_told_as_tokens_and_not_as_text() {
    let mut answer = tooled(0);
    for (token, piece) in (1..).zip(["<think>", "hm", "</think>", "\n\n", "Yes", "."]) {
        assert!(!answer.push(drawn(token, piece.as_bytes(), Some(logprob(token)))));
    }
    answer.finish(Some(7));
    let mut advances = Vec::new();
    answer.advance(&mut advances);
    let told: Vec<_> = advances
        .iter()
        .map(|a| (a.kind, a.tokens.clone(), a.text.clone()))
        .collect();
    assert_eq!(
        told[..2],
        [
            (DeltaKind::Reasoning, vec![1, 2, 3], "hm".to_owned()),
            (DeltaKind::Text, vec![4, 5, 6, 7], "Yes.".to_owned()),
        ]
    );
    assert_eq!(told[2].0, DeltaKind::Logprobs);
    // Those of the text only.
    let ids: Vec<_> = told[2]
        .2
        .match_indices("\"id\":")
        .map(|(at, _)| &told[2].2[at + 5..at + 6])
        .collect();
    assert_eq!(ids, ["5", "6"]);
    assert_eq!(answer.reason(), FinishReason::Stop);
}

#[test]
fn a_call_is_told_with_all_its_tokens() {
    let mut answer = tooled(0);
    let pieces = [
        "So",
        ".\n",
        "<tool_call>",
        "{\"name\": ",
        "\"add\", \"arg",
        "uments\": ",
        "{",
        "}",
        "}",
        "</tool_call>",
    ];
    let mut kinds = Vec::new();
    for (token, piece) in (1..).zip(pieces) {
        answer.push(drawn(token, piece.as_bytes(), None));
        let mut advances = Vec::new();
        answer.advance(&mut advances);
        kinds.extend(advances.iter().map(|a| (a.kind, a.tokens.clone())));
    }
    assert_eq!(
        kinds,
        [
            (DeltaKind::Text, vec![1]),
            (DeltaKind::Text, vec![]),
            (DeltaKind::ToolCall, vec![2, 3, 4, 5]),
            (DeltaKind::ToolCall, vec![6]),
            (DeltaKind::ToolCall, vec![7]),
            (DeltaKind::ToolCall, vec![8]),
            (DeltaKind::ToolCall, vec![9]),
            (DeltaKind::Text, vec![10]),
        ]
    );
    assert_eq!(answer.reason(), FinishReason::ToolCalls);
}

#[test]
fn stop_strings_are_looked_for_in_text_only() {
    let mut answer = Answer::new(
        &["hm".to_owned(), "add".to_owned(), "xy".to_owned()],
        parser(),
        0,
    );
    let raw = "<think>hm</think>x<tool_call>{\"name\": \"add\", \"arguments\": {}}</tool_call>y";
    assert!(!answer.push(drawn(1, raw.as_bytes(), None)));
    assert!(!answer.push(drawn(2, b" and", None)));
    assert!(answer.push(drawn(3, b" xyz", None)));
    let (tokens, text) = told(&mut answer);
    assert_eq!(tokens, [1, 2, 3]);
    assert!(text.ends_with("y and "), "{text}");
}

#[test]
fn what_the_client_has_is_left_out_whatever_it_is() {
    let raw = "<think>hm</think>x<tool_call>{\"name\": \"add\", \"arguments\": {}}</tool_call>y";
    let mut answer = tooled(0);
    answer.push(drawn(1, raw.as_bytes(), None));
    let (_, all) = told(&mut answer);
    for cut in 0..=all.len() {
        let mut answer = tooled(cut);
        answer.push(drawn(1, raw.as_bytes(), None));
        assert_eq!(told(&mut answer).1, all[cut..]);
    }
}

proptest! {
    #[test]
    fn whatever_was_given_the_whole_is_the_same(
        text in "[ab\u{e9}]{0,30}",
        stop in "[ab\u{e9}]{1,3}",
        cut in 0usize..30,
        size in 1usize..4,
    ) {
        let whole = |given_bytes: usize, given_tokens: usize| {
            let stops = [stop.clone()];
            let mut answer = continued(&stops, given_bytes);
            let mut stopped = false;
            for (token, piece) in (0u32..).zip(text.as_bytes().chunks(size)) {
                let is_told = (token as usize) < given_tokens;
                stopped = answer.push(Drawn { is_told, ..drawn(token, piece, None) });
                if stopped {
                    break;
                }
            }
            if !stopped {
                answer.finish(None);
            }
            told(&mut answer)
        };
        let (tokens, all) = whole(0, 0);
        let cut = (0..=cut.min(all.len())).rev().find(|cut| all.is_char_boundary(*cut)).unwrap_or(0);
        let count = (cut / size).min(tokens.len());
        prop_assert_eq!(whole(cut, count), (tokens[count..].to_vec(), all[cut..].to_owned()));
    }

    #[test]
    fn every_token_is_told_once_and_in_order(
        pieces in prop::collection::vec(prop::collection::vec(prop::sample::select(b"ab\xc3\xa9\xf0\x9f\xa6\x80".as_slice()), 0..4), 0..40),
        stop in "[ab]{1,3}",
    ) {
        let mut answer = plain(&[stop]);
        let (mut tokens, mut count) = (Vec::new(), 0);
        let mut stopped = false;
        for piece in &pieces {
            stopped = answer.push(drawn(count, piece, None));
            count += 1;
            tokens.extend(told(&mut answer).0);
            if stopped {
                break;
            }
        }
        if !stopped {
            answer.finish(None);
            tokens.extend(told(&mut answer).0);
        }
        prop_assert_eq!(tokens, (0..count).collect::<Vec<_>>());
    }
}
