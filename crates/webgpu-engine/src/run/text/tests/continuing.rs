//! Answers that go on where an earlier attempt ended, from its tokens, its text or its pieces.

use super::*;

#[test]
fn who_goes_on_from_tokens_or_from_text_gives_the_same_answer() {
    let Some(engine) = engine(128) else { return };
    pollster::block_on(async {
        let mut session = session(&engine).await;
        let whole = all(&mut session, request(&engine, 40)).await;
        let (text, tokens) = (whole.text(), whole.told());
        assert!(
            tokens.contains(&SPACE_T),
            "cuts are inside of a token, too: {text}"
        );
        for cut in (0..40).step_by(7) {
            let told = String::from_utf8(engine.tokenizer().decode(&tokens[..cut], false));
            let told = told.expect("letters");
            let rest = TextRequest {
                given: Given::Tokens(tokens[..cut].to_vec()),
                ..request(&engine, 40)
            };
            let rest = all(&mut session, rest).await;
            assert_eq!(told + &rest.text(), text, "{cut} tokens");
            assert_eq!(rest.told(), tokens[cut..]);
            assert_eq!(rest.usage.completion_tokens, 40);
            assert_eq!(rest.usage.prompt_tokens, whole.usage.prompt_tokens);
        }
        let inside = text.find(" t").expect("there is one") + 1;
        for cut in [1, 10, inside, text.len() - 1] {
            let rest = TextRequest {
                given: Given::Text(text[..cut].to_owned()),
                ..request(&engine, 40)
            };
            let rest = all(&mut session, rest).await;
            // A token that reaches beyond the given text is a new one, and the client has its beginning as another.
            let count = 40 - usize::from(cut == inside);
            assert_eq!(rest.tokens, tokens[..count], "{cut} bytes");
            let told = engine.tokenizer().decode(&tokens[..count], false);
            let told = String::from_utf8(told).expect("letters");
            assert_eq!(text[..cut].to_owned() + &rest.text(), told);
            assert_eq!(rest.usage.completion_tokens, 40);
        }
    });
}

#[test]
fn text_that_the_model_would_not_have_written_is_kept_to_the_byte() {
    let Some(engine) = engine(128) else { return };
    pollster::block_on(async {
        let mut session = session(&engine).await;
        for given in ["qqqq", "xyzzy ", "q tq t"] {
            let request = TextRequest {
                given: Given::Text(given.to_owned()),
                ..request(&engine, 20)
            };
            let rest = all(&mut session, request).await;
            let bytes = engine.tokenizer().decode(&rest.tokens, false);
            let written = String::from_utf8(bytes).expect("letters");
            assert_eq!(written, given.to_owned() + &rest.text());
        }
    });
}

#[test]
fn log_probabilities_that_a_client_lacks_are_told() {
    let Some(engine) = engine(64) else { return };
    pollster::block_on(async {
        let mut session = session(&engine).await;
        let asked = || TextRequest {
            alternatives: Some(2),
            ..request(&engine, 12)
        };
        let whole = all(&mut session, asked()).await;
        let logprobs: Vec<TokenLogprob> = whole
            .pieces
            .iter()
            .flat_map(|piece| piece.logprobs.clone())
            .collect();
        let ids: Vec<u32> = logprobs.iter().map(|it| it.id).collect();
        assert_eq!(ids, whole.told());
        assert!(
            logprobs
                .iter()
                .all(|it| it.top.len() == 2 && it.candidate.logprob < 0.0)
        );
        // The client has six tokens, and the probabilities of four.
        let tokens = whole.told();
        let bytes = engine.tokenizer().decode(&tokens[..6], false);
        let piece = |kind, text: String, tokens: &[u32]| Piece {
            kind,
            text,
            tokens: tokens.to_vec(),
        };
        let answer = protocol::Answer {
            model: None,
            pieces: vec![
                piece(
                    PieceKind::Text,
                    String::from_utf8(bytes).expect("letters"),
                    &tokens[..6],
                ),
                piece(PieceKind::Logprobs, "[{},{},{},{}]".to_owned(), &[]),
            ],
        };
        let given = Given::Answer {
            answer,
            has_ids: true,
        };
        let rest = all(&mut session, TextRequest { given, ..asked() }).await;
        let told = rest.pieces.iter().flat_map(|piece| piece.logprobs.clone());
        let told: Vec<TokenLogprob> = told.collect();
        assert_eq!(told.len(), 8);
        for (one, other) in told.iter().zip(&logprobs[4..]) {
            assert_eq!(one.id, other.id);
            assert!((one.candidate.logprob - other.candidate.logprob).abs() < 1e-3);
        }
        assert_eq!(rest.told(), tokens[6..]);
    });
}

#[test]
fn what_this_model_cannot_have_given_is_refused() {
    let Some(engine) = engine(64) else { return };
    pollster::block_on(async {
        let mut session = session(&engine).await;
        let call = Piece {
            kind: PieceKind::ToolCall,
            text: "{\"a\"".to_owned(),
            tokens: Vec::new(),
        };
        let answer = protocol::Answer {
            model: None,
            pieces: vec![call],
        };
        let has_ids = false;
        for (given, wanted) in [
            (Given::Answer { answer, has_ids }, None),
            (
                Given::Tokens(vec![u32::MAX]),
                Some(TextError::Run(RunError::UnknownToken(u32::MAX))),
            ),
        ] {
            let request = TextRequest {
                given,
                ..request(&engine, 20)
            };
            let refused = session.answer_text(request).await.map(|_| ());
            match wanted {
                Some(wanted) => assert_eq!(refused, Err(wanted)),
                None => assert!(matches!(refused, Err(TextError::Refused(_))), "{refused:?}"),
            }
        }
    });
}

#[test]
fn more_tokens_than_an_answer_can_carry_are_refused_before_any_is_looked_at() {
    let Some(engine) = engine(64) else { return };
    pollster::block_on(async {
        let mut session = session(&engine).await;
        // One of another model would be refused in other words.
        let tokens = vec![u32::MAX; CARRIED_TOKENS_MAX + 1];
        let given = Given::Tokens(tokens);
        let request = TextRequest {
            given,
            ..request(&engine, 20)
        };
        let refused = session.answer_text(request).await.map(|_| ());
        let why = refused.expect_err("it is too long").to_string();
        assert!(why.contains("65537 tokens were given"), "{why}");
    });
}

#[test]
fn who_goes_on_from_text_and_what_was_said_behind_it_counts_the_tokens_of_both() {
    let Some(engine) = engine(128) else { return };
    pollster::block_on(async {
        let mut session = session(&engine).await;
        let whole = all(&mut session, request(&engine, 40)).await;
        let part = |from: usize, to: usize, has_ids: bool| {
            let tokens = &whole.told()[from..to];
            let text = String::from_utf8(engine.tokenizer().decode(tokens, false));
            Piece {
                kind: PieceKind::Text,
                text: text.expect("letters"),
                tokens: if has_ids { tokens.to_vec() } else { Vec::new() },
            }
        };
        let given = [
            part(0, 10, false),
            part(10, 15, true),
            part(15, 20, true),
            part(20, 24, true),
        ];
        let rest = TextRequest {
            given: Given::of_parts(given, true),
            ..request(&engine, 40)
        };
        let rest = all(&mut session, rest).await;
        assert_eq!(rest.tokens, whole.told());
        assert_eq!(rest.told(), whole.told()[24..]);
        assert_eq!(rest.usage.completion_tokens, 40);
    });
}

#[test]
fn an_end_of_turn_that_was_given_is_among_the_tokens() {
    let Some(engine) = engine(64) else { return };
    pollster::block_on(async {
        let mut session = session(&engine).await;
        let end = (0..FIRST_BYTE).find(|token| engine.tokenizer().is_end(*token));
        let tokens = [FIRST_BYTE + 97, end.expect("there is one")];
        let given = Given::Tokens(tokens.to_vec());
        let over = TextRequest {
            given,
            ..request(&engine, 20)
        };
        let over = all(&mut session, over).await;
        assert_eq!(over.tokens, tokens);
        assert_eq!(over.ended, Some(TextEnded::EndOfText));
    });
}
