//! What is known and what is forced, with a vocabulary of a few tokens.

use super::*;
use crate::detokenise::Detokeniser;
use crate::family::Syntax;
use crate::parse::CallIds;
use proptest::prelude::*;
use protocol::ChatRequest;
use protocol::answer::Piece;
use protocol::chat::{Tool, begin_tool_call};

/// Ids: 0 ends the turn, 1 to 26 are letters, then some longer ones, then halves of a crab.
fn vocabulary() -> Vocabulary {
    let mut pieces: Vec<Vec<u8>> = vec![Vec::new()];
    pieces.extend((b'a'..=b'z').map(|letter| vec![letter]));
    for longer in ["the", "hello", " "] {
        pieces.push(longer.as_bytes().to_vec());
    }
    let crab = "🦀".as_bytes();
    pieces.push(crab[..2].to_vec());
    pieces.push(crab[2..].to_vec());
    pieces.into_iter().collect()
}

const END: u32 = 0;
const THE: u32 = 27;
const HELLO: u32 = 28;
const CRAB: [u32; 2] = [30, 31];

/// Letter by letter.
fn spell(text: &str) -> Vec<u32> {
    text.bytes()
        .map(|byte| {
            if byte == b' ' {
                29
            } else {
                u32::from(byte - b'a') + 1
            }
        })
        .collect()
}

fn piece(kind: PieceKind, text: &str, tokens: &[u32]) -> Piece {
    Piece {
        kind,
        text: text.to_owned(),
        tokens: tokens.to_vec(),
    }
}

fn request() -> ChatRequest {
    ChatRequest {
        tools: vec![Tool {
            name: "add".to_owned(),
            description: None,
            parameters: None,
        }],
        ..ChatRequest::default()
    }
}

/// An answer to a request that offers a tool to a model of this family.
fn fresh(template: &str) -> Answer {
    let syntax = Syntax::detect(template, |_| false);
    Answer::new(&[], Parser::new(syntax, &request(), ""), 0)
}

fn plain() -> Answer {
    let syntax = Syntax::detect("", |_| false);
    let parser = Parser::new(syntax, &ChatRequest::default(), "");
    Answer::new(&[], parser, 0)
}

fn text_of(parts: &[Part]) -> String {
    parts.iter().map(|part| part.text.as_str()).collect()
}

fn given_of(pieces: Vec<Piece>, has_ids: bool, has_logprobs: bool) -> Given {
    let vocabulary = vocabulary();
    let tongue = Tongue {
        vocabulary: &vocabulary,
        is_end: &|token| token == END,
        tokenise: &|parts| spell(&text_of(parts)),
        fresh: &plain(),
    };
    let answer = protocol::Answer {
        model: None,
        pieces,
    };
    Given::of(&answer, has_ids, has_logprobs, &tongue).expect("valid")
}

fn of_text(text: &str, tokens: &[u32], has_ids: bool) -> Given {
    given_of(vec![piece(PieceKind::Text, text, tokens)], has_ids, false)
}

#[test]
fn ids_that_write_the_text_are_all_known() {
    let given = of_text("thea", &[THE, 1], true);
    assert_eq!(given.known, [THE, 1]);
    assert!(given.forced.is_over());
    assert_eq!(given.told_tokens, 2);
}

#[test]
fn a_token_that_was_told_in_part_is_forced_and_still_to_be_counted() {
    let mut given = of_text("ah", &[1], true);
    assert_eq!(given.known, [1]);
    assert_eq!(given.forced.bytes, b"h");
    assert_eq!(given.told_tokens, 1);
    assert!(given.forced.is_covered_by(b"hello"));
    assert!(!given.forced.is_covered_by(b"x"));
    assert!(!given.forced.take(HELLO, b"hello"));
    assert!(given.forced.is_over());
}

#[test]
fn ids_whose_text_was_held_back_are_known() {
    let given = of_text("ah", &[1, HELLO], true);
    assert_eq!(given.known, [1, HELLO]);
    assert!(given.forced.is_over());
}

#[test]
fn without_ids_the_open_end_is_forced() {
    // "th" could have been the beginning of "the".
    let mut given = of_text("ath", &[1, 2], false);
    assert_eq!(given.known, [1]);
    assert_eq!(given.forced.bytes, b"th");
    assert_eq!(given.forced.path().collect::<Vec<_>>(), spell("th"));
    // They count as what the client was told.
    assert_eq!(given.told_tokens, 2);
    assert!(given.forced.take(20, b"t"));
    assert!(given.forced.take(8, b"h"));
    assert!(!given.forced.take(5, b"e"));
}

#[test]
fn text_that_came_without_ids_counts_as_the_tokens_it_takes_here() {
    assert_eq!(of_text("abc", &[], false).told_tokens, 3);
    assert_eq!(of_text("abc", &[], true).told_tokens, 3);
    assert_eq!(of_text("abc", &[9], false).told_tokens, 1);
}

#[test]
fn ids_are_known_up_to_the_first_that_disagrees() {
    for wrong in [2, 4000, END] {
        let given = of_text("abab", &[1, 2, wrong, 2], true);
        assert_eq!(given.known, [1, 2, 1]);
        assert_eq!(given.forced.bytes, b"b");
        assert_eq!(given.told_tokens, 4);
    }
}

#[test]
fn half_a_character_is_known_only_beyond_the_text() {
    let given = of_text("a", &[1, CRAB[0]], true);
    assert_eq!(given.known, [1, CRAB[0]]);
    let vocabulary = vocabulary();
    let tongue = Tongue {
        vocabulary: &vocabulary,
        is_end: &|token| token == END,
        tokenise: &|_| Vec::new(),
        fresh: &plain(),
    };
    let answer = protocol::Answer {
        model: None,
        pieces: vec![piece(PieceKind::Text, "a🦀", &[1, CRAB[0]])],
    };
    let given = Given::of(&answer, true, false, &tongue).expect("valid");
    assert_eq!(given.known, [1]);
    assert_eq!(given.forced.bytes, "🦀".as_bytes());
    assert_eq!(given.forced.next(&vocabulary), Some(CRAB[0]));
}

#[test]
fn an_end_of_turn_is_known_where_the_text_ends() {
    assert_eq!(of_text("ab", &[1, 2, END], true).known, [1, 2, END]);
    // Half a character that the end replaced.
    assert_eq!(
        of_text("a\u{fffd}", &[1, CRAB[0], END], true).known,
        [1, CRAB[0], END]
    );
}

#[test]
fn tokens_without_their_probabilities_are_taken_again() {
    let pieces = |logprobs| {
        vec![
            piece(PieceKind::Text, "ab", &[1, 2]),
            piece(PieceKind::Logprobs, logprobs, &[]),
            piece(PieceKind::Text, "c", &[3]),
        ]
    };
    let given = given_of(pieces(r#"[{"id":1}][{"id":2}]"#), true, true);
    assert_eq!(
        (given.known.as_slice(), given.replayed.len()),
        (&[1, 2][..], 1)
    );
    let given = given_of(pieces(r#"[{"id":1}]"#), true, true);
    assert_eq!(
        (given.known.as_slice(), given.replayed.len()),
        (&[1][..], 2)
    );
    let given = given_of(pieces("[{"), true, true);
    assert_eq!((given.known.len(), given.replayed.len()), (3, 0));
    // Nobody asked for them.
    let given = given_of(pieces(r#"[{"id":1}]"#), true, false);
    assert_eq!((given.known.len(), given.replayed.len()), (3, 0));
}

/// Every character is a token of its own number, and the turn ends with number 0.
fn by_characters(template: &str, pieces: Vec<Piece>, has_logprobs: bool) -> Result<Given, Failure> {
    let vocabulary: Vocabulary = (0u8..128)
        .map(|byte| if byte == 0 { vec![] } else { vec![byte] })
        .collect();
    let tongue = Tongue {
        vocabulary: &vocabulary,
        is_end: &|token| token == END,
        tokenise: &|parts| text_of(parts).bytes().map(u32::from).collect(),
        fresh: &fresh(template),
    };
    let answer = protocol::Answer {
        model: None,
        pieces,
    };
    Given::of(&answer, true, has_logprobs, &tongue)
}

fn characters(text: &str) -> Vec<u32> {
    text.bytes().map(u32::from).collect()
}

const RAW: &str = "<think>hm</think>\nSo. <tool_call>{\"name\":\"add\",\"arguments\":{\"a\":1}}\n</tool_call>\nOk";

/// What was told of the first tokens of `RAW`.
fn told(count: usize) -> Vec<Piece> {
    let mut answer = fresh("<tool_call> <think>");
    let mut pieces: Vec<Piece> = Vec::new();
    for token in &characters(RAW)[..count] {
        let byte = [u8::try_from(*token).expect("ASCII")];
        answer.push(Drawn {
            token: *token,
            piece: &byte,
            logprob: None,
            is_told: false,
        });
        let mut advances = Vec::new();
        answer.advance(&mut advances);
        for advance in advances {
            pieces.push(piece(advance.kind.into(), &advance.text, &advance.tokens));
        }
    }
    pieces
}

#[test]
fn ids_lead_to_thoughts_and_calls_again() {
    for count in 0..=RAW.len() {
        let pieces = told(count);
        let bytes: usize = pieces.iter().map(|piece| piece.text.len()).sum();
        let ids: Vec<u32> = pieces
            .iter()
            .flat_map(|piece| piece.tokens.clone())
            .collect();
        let given = by_characters("<tool_call> <think>", pieces, false).expect("fits");
        assert_eq!(given.known, ids, "{count}");
        assert_eq!(given.known, characters(RAW)[..ids.len()]);
        assert!(given.forced.is_over(), "{count}");
        assert_eq!(given.bytes, bytes);
    }
}

#[test]
fn without_ids_an_answer_is_written_back_in_the_models_own_syntax() {
    let written = |template: &str| {
        let mut pieces = told(RAW.len());
        for piece in &mut pieces {
            piece.tokens.clear();
        }
        let given = by_characters(template, pieces, false).expect("fits");
        let known: Vec<u8> = given
            .known
            .iter()
            .map(|token| u8::try_from(*token).expect("ASCII"))
            .collect();
        let text = String::from_utf8([known, given.forced.bytes].concat()).expect("ASCII");
        (text, given.bytes)
    };
    let (text, bytes) = written("<tool_call> <think>");
    assert_eq!(
        text,
        "<think>\nhm\n</think>\n\nSo.\n<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\":1}}\n</tool_call>\nOk"
    );
    // Another model's, which cannot think.
    let (text, without) = written("[TOOL_CALLS]");
    assert_eq!(
        text,
        "So.\n[TOOL_CALLS][{\"name\": \"add\", \"arguments\": {\"a\":1}}]\nOk"
    );
    assert_eq!(without, bytes - 2);
}

#[test]
fn a_token_that_was_told_in_part_is_forced_in_any_kind() {
    let head = begin_tool_call(&CallIds::of(&request()).id(0), "add");
    let cut = |kind, text: &str| {
        vec![
            piece(PieceKind::Text, "So.", &characters("So.")),
            piece(kind, text, &[]),
        ]
    };
    let given = by_characters(
        "<tool_call>",
        cut(PieceKind::ToolCall, &format!("{head}{{\"a")),
        false,
    )
    .expect("fits");
    // One token less is known: it could have been the beginning of a longer one.
    assert_eq!(
        given.known,
        characters("So.\n<tool_call>\n{\"name\": \"add\", \"arguments\": {\"")
    );
    assert_eq!(given.forced.bytes, b"a");
}

#[test]
fn what_this_model_cannot_have_given_is_refused() {
    for pieces in [
        // Arguments of no call.
        vec![piece(PieceKind::ToolCall, "{\"a\"", &[])],
        // A thought after text.
        vec![
            piece(PieceKind::Text, "a", &[]),
            piece(PieceKind::Reasoning, "b", &[]),
        ],
        // A tool that is not offered.
        vec![piece(
            PieceKind::ToolCall,
            &format!("{}{{", begin_tool_call("x", "sub")),
            &[],
        )],
        // Text that means a call.
        vec![piece(
            PieceKind::Text,
            "<tool_call>{\"name\": \"add\", \"arguments\": {}}",
            &[],
        )],
    ] {
        let failure = by_characters("<tool_call> <think>", pieces, false).expect_err("refused");
        assert_eq!(failure.param.as_deref(), Some("answer"));
    }
}

#[test]
fn probabilities_are_those_of_text() {
    let mut pieces = told(RAW.len());
    // Of "So." and "Ok" the client has those of the first two characters.
    pieces.push(piece(PieceKind::Logprobs, r#"[{"id":1},{"id":2}]"#, &[]));
    let given = by_characters("<tool_call> <think>", pieces, true).expect("fits");
    let place = RAW.find('.').expect("there");
    assert_eq!(given.known, characters(&RAW[..place]));
    assert_eq!(given.replayed, characters(&RAW[place..]));
}

#[test]
fn an_answer_that_had_stopped_and_called_tools_ended_in_calls() {
    let answer = |pieces: &[(PieceKind, &str)]| protocol::Answer {
        model: None,
        pieces: pieces
            .iter()
            .map(|(kind, text)| piece(*kind, text, &[]))
            .collect(),
    };
    let call = (PieceKind::ToolCall, "{}");
    let text = (PieceKind::Text, "Well, that is that.");
    let stops = ["that is".to_owned()];
    for (pieces, wanted) in [
        (&[text][..], FinishReason::Stop),
        (&[call, text], FinishReason::ToolCalls),
        (&[text, call], FinishReason::ToolCalls),
    ] {
        let answer = answer(pieces);
        assert!(has_stop(&answer, &stops));
        assert_eq!(reason(&answer), wanted);
    }
}

proptest! {
    /// Whatever a peer sends: what is known and what is forced write the text, and nothing is forced beyond it.
    #[test]
    fn known_and_forced_write_the_text(
        text in "[a-z 🦀]{0,16}",
        ids in prop::collection::vec(0u32..36, 0..16),
        cut in 0usize..16,
        has_ids: bool,
        has_logprobs: bool,
    ) {
        // Many of them agree with the text for a while.
        let spelled = text.bytes().filter(|byte| byte.is_ascii_lowercase() || *byte == b' ');
        let mut tokens = spell(&String::from_utf8(spelled.collect()).expect("ASCII"));
        tokens.truncate(cut);
        tokens.extend(ids);
        let vocabulary = vocabulary();
        let tongue = Tongue {
            vocabulary: &vocabulary,
            is_end: &|token| token == END,
            tokenise: &|parts| {
                let text = text_of(parts);
                if text.is_ascii() { spell(&text) } else { vec![99] }
            },
            fresh: &plain(),
        };
        let answer = protocol::Answer {
            model: None,
            pieces: vec![piece(PieceKind::Text, &text, &tokens)],
        };
        let given = Given::of(&answer, has_ids, has_logprobs, &tongue).expect("valid");
        let (mut detokeniser, mut written) = (Detokeniser::default(), String::new());
        for token in given.known.iter().chain(&given.replayed) {
            if *token == END {
                detokeniser.finish(&mut written);
            }
            let piece = vocabulary.piece(*token).expect("only what there is");
            detokeniser.push(piece, &mut written);
        }
        detokeniser.push(&given.forced.bytes, &mut written);
        if given.forced.is_over() {
            prop_assert!(written.starts_with(&text), "{written:?}");
        } else {
            prop_assert_eq!(written, text);
        }
        let ends = given.known.iter().filter(|token| **token == END).count();
        prop_assert!(ends <= 1);
        prop_assert_eq!(given.known.contains(&END), given.known.last() == Some(&END));
    }
}
