//! Answers as text on small seeded models, whose tokens are bytes and `" t"`.

use chrono::DateTime;
use gguf_writer::Value;
use gguf_writer::seeded::family::{Family, Small};
use protocol::answer::{Piece, PieceKind};
use protocol::{ChatMessage, ChatRequest, FinishReason, Role};

use super::*;
use crate::gpu::tests::gpu;
use crate::model::CacheType;
use crate::quant::QuantType;
use crate::run::tests::{load, settings};
use crate::run::{Engine, Request, Session, Settings};

const TEMPLATE: &str = "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// The token of a byte; control tokens and marks come before.
const FIRST_BYTE: u32 = 5;
/// From here on bytes begin characters of several bytes.
const TWO_BYTES: u32 = FIRST_BYTE + 0xc2;
/// `" t"`, which is what the tokenizer makes of it.
const SPACE_T: u32 = FIRST_BYTE + 256;

fn engine(context: u32) -> Option<Arc<Engine>> {
    let gpu = Arc::new(gpu()?);
    let small = Small {
        family: Family::Llama,
        width: 64,
        seed: 7,
    };
    let kind = QuantType::Q8_0;
    let encode = |weights: &[f32]| {
        let blocks = kind.encode(weights).expect("whole blocks");
        (kind.quant().ggml_id, blocks)
    };
    let mut writer = small.write(&encode).expect("fits");
    writer.set("tokenizer.chat_template", Value::Text(TEMPLATE.to_owned()));
    let settings = Settings {
        context_tokens: Some(context),
        ..settings(CacheType::F32, 1)
    };
    Some(load(&gpu, &writer.to_bytes(), settings).expect("can be run"))
}

/// Lower-case words that begin with a t: each text can be written in one way only.
fn words() -> Rules {
    let is_letter = |token: &u32| (FIRST_BYTE + 97..FIRST_BYTE + 123).contains(token);
    let others = (0..SPACE_T).filter(|token| !is_letter(token));
    Rules {
        temperature: 1.5,
        biases: others
            .map(|token| (token, -1e4))
            .chain([(SPACE_T, 2.0)])
            .collect(),
        ..Rules::default()
    }
}

fn request(engine: &Engine, tokens_max: u32) -> TextRequest {
    TextRequest {
        rules: words(),
        seed: Seed::Wanted(11),
        ..TextRequest::greedy(engine.text_prompt("Once upon").expect("fits"), tokens_max)
    }
}

struct Whole {
    pieces: Vec<TextPiece>,
    ended: Option<TextEnded>,
    reason: Option<FinishReason>,
    usage: protocol::Usage,
    /// As the model reads them.
    tokens: Vec<u32>,
}

impl Whole {
    fn text(&self) -> String {
        self.pieces
            .iter()
            .map(|piece| piece.text.as_str())
            .collect()
    }

    fn told(&self) -> Vec<u32> {
        let tokens = self.pieces.iter().map(|piece| piece.tokens.as_slice());
        tokens.collect::<Vec<_>>().concat()
    }
}

async fn all(session: &mut Session, request: TextRequest) -> Whole {
    let mut answer = session.answer_text(request).await.expect("begins");
    let mut pieces = Vec::new();
    while let Some(piece) = answer.next().await.expect("goes on") {
        pieces.push(piece);
    }
    Whole {
        pieces,
        ended: answer.ended(),
        reason: answer.finish_reason(),
        usage: answer.usage(),
        tokens: answer.tokens().to_vec(),
    }
}

async fn session(engine: &Arc<Engine>) -> Session {
    engine.session().await.expect("fits")
}

#[test]
fn pieces_join_to_what_the_tokens_write_and_are_whole_characters() {
    let Some(engine) = engine(128) else { return };
    pollster::block_on(async {
        let mut session = session(&engine).await;
        for seed in 0..3 {
            let rules = Rules {
                temperature: 2.0,
                // As many halves of characters as can be, and no end of the turn.
                biases: (0..=SPACE_T)
                    .map(|token| match token {
                        0..3 => (token, -1e4),
                        3..TWO_BYTES => (token, 0.0),
                        _ => (token, 3.0),
                    })
                    .collect(),
                ..Rules::default()
            };
            let text = TextRequest {
                rules: rules.clone(),
                seed: Seed::Wanted(seed),
                ..request(&engine, 60)
            };
            let tokens = Request {
                rules,
                seed,
                ..Request::greedy(text.prompt.tokens().to_vec(), 60)
            };
            let whole = all(&mut session, text).await;
            let mut drawn = session.answer(tokens, None).await.expect("begins");
            while drawn.next().await.expect("goes on").is_some() {}
            assert_eq!(whole.told(), drawn.drawn());
            let bytes = engine.tokenizer().decode(drawn.drawn(), false);
            assert_eq!(whole.text(), String::from_utf8_lossy(&bytes));
            assert_eq!(whole.ended, Some(TextEnded::TokensMax));
            assert_eq!(whole.reason, Some(FinishReason::Length));
            assert_eq!(whole.usage.completion_tokens, 60);
        }
    });
}

#[test]
fn a_stop_string_never_shows_and_costs_its_tokens() {
    let Some(engine) = engine(128) else { return };
    pollster::block_on(async {
        let mut session = session(&engine).await;
        let whole = all(&mut session, request(&engine, 60)).await;
        let text = whole.text();
        let stop = text[20..24].to_owned();
        let wanted = &text[..text.find(&stop).expect("it is a part")];
        let stopped = TextRequest {
            stops: vec!["QQQ".to_owned(), stop.clone()],
            ..request(&engine, 60)
        };
        let answer = all(&mut session, stopped).await;
        assert_eq!(answer.text(), wanted);
        assert_eq!(answer.ended, Some(TextEnded::StopString));
        assert_eq!(answer.reason, Some(FinishReason::Stop));
        let bytes = engine.tokenizer().decode(&answer.told(), false);
        let written = String::from_utf8(bytes).expect("letters");
        assert!(written.starts_with(&format!("{wanted}{stop}")));
        assert_eq!(answer.usage.completion_tokens as usize, answer.told().len());
        // What the client has of it had stopped.
        let over = TextRequest {
            given: Given::Tokens(answer.tokens),
            stops: vec![stop.clone()],
            ..request(&engine, 60)
        };
        let over = all(&mut session, over).await;
        assert_eq!(
            (over.text().as_str(), over.ended),
            ("", Some(TextEnded::StopString))
        );
        let long = TextRequest {
            stops: vec![String::new()],
            ..request(&engine, 60)
        };
        let refused = session.answer_text(long).await.map(|_| ());
        assert!(matches!(refused, Err(TextError::Refused(_))), "{refused:?}");
    });
}

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
fn the_context_holds_prompt_and_answer_and_refuses_a_prompt_without_room() {
    let Some(engine) = engine(16) else { return };
    pollster::block_on(async {
        let mut session = session(&engine).await;
        let answer = all(&mut session, request(&engine, 40)).await;
        // "Once upon" has nine bytes.
        assert_eq!(answer.tokens.len(), 16 - 9);
        assert_eq!(answer.ended, Some(TextEnded::ContextFull));
        assert_eq!(answer.reason, Some(FinishReason::Length));
        let full = TextRequest {
            given: Given::Tokens(answer.tokens),
            ..request(&engine, 40)
        };
        let full = all(&mut session, full).await;
        assert_eq!(
            (full.told().len(), full.ended),
            (0, Some(TextEnded::ContextFull))
        );
        let long = TextPrompt::of_tokens(vec![100; 16]);
        let refused = session
            .answer_text(TextRequest::greedy(long, 1))
            .await
            .map(|_| ());
        let (tokens, context) = (16, 16);
        assert_eq!(
            refused,
            Err(RunError::ContextFull { tokens, context }.into())
        );
        let huge = engine.text_prompt(&"a".repeat(1000)).map(|_| ());
        assert!(
            matches!(huge, Err(TextError::TooLong { bytes: 1000, .. })),
            "{huge:?}"
        );
    });
}

#[test]
fn a_wanted_seed_reads_everything_again_and_another_only_what_is_new() {
    let Some(engine) = engine(64) else { return };
    pollster::block_on(async {
        let mut session = session(&engine).await;
        let first = all(&mut session, request(&engine, 20)).await;
        let second = all(&mut session, request(&engine, 20)).await;
        assert_eq!(first.told(), second.told());
        assert_eq!(second.usage.cached_tokens, 0);
        let any = TextRequest {
            seed: Seed::Any(12),
            ..request(&engine, 20)
        };
        let other = all(&mut session, any).await;
        assert_ne!(other.told(), first.told());
        assert_eq!(other.usage.cached_tokens, other.usage.prompt_tokens - 1);
    });
}

#[test]
fn a_cancelled_answer_ends_and_its_session_goes_on() {
    let Some(engine) = engine(64) else { return };
    pollster::block_on(async {
        let mut session = session(&engine).await;
        let whole = all(&mut session, request(&engine, 20)).await;
        let begun = session.answer_text(request(&engine, 20)).await;
        let mut answer = begun.expect("begins");
        let canceller = answer.canceller();
        for _ in 0..3 {
            assert!(answer.next().await.expect("goes on").is_some());
        }
        canceller.cancel();
        assert_eq!(answer.next().await, Ok(None));
        assert_eq!(answer.ended(), Some(TextEnded::Cancelled));
        assert_eq!(answer.finish_reason(), None);
        let given = Given::Tokens(answer.tokens().to_vec());
        drop(answer);
        let rest = TextRequest {
            given,
            ..request(&engine, 20)
        };
        let rest = all(&mut session, rest).await;
        assert_eq!(rest.told(), whole.told()[3..]);
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
fn a_conversation_is_read_in_the_words_of_the_files_template() {
    let Some(engine) = engine(128) else { return };
    let conversation = |content: &str| ChatRequest {
        messages: vec![ChatMessage::new(Role::User, content)],
        ..ChatRequest::default()
    };
    let tokens = |content: &str| {
        let prompt = engine.chat_prompt(&conversation(content), DateTime::UNIX_EPOCH);
        prompt.expect("renders").tokens().to_vec()
    };
    let plain = tokens("Hi");
    let shown = engine.tokenizer().decode(&plain, true);
    assert_eq!(
        String::from_utf8(shown).expect("text"),
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    );
    let controls = |tokens: &[u32]| tokens.iter().filter(|id| **id < 3).count();
    assert_eq!(controls(&plain), 3);
    // What a user spells is none.
    assert_eq!(controls(&tokens("Hi<|im_end|>")), 3);
    assert!(engine.chat_template().is_ok());
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
fn a_refused_request_with_a_seed_takes_nothing_from_the_session() {
    let Some(engine) = engine(64) else { return };
    pollster::block_on(async {
        let mut session = session(&engine).await;
        let _ = all(&mut session, request(&engine, 20)).await;
        let kept = session.history().to_vec();
        assert!(kept.len() > 20);
        let cold = Rules {
            temperature: -1.0,
            ..words()
        };
        let wrong = [
            TextRequest {
                rules: cold,
                ..request(&engine, 20)
            },
            TextRequest {
                shared: 0,
                ..request(&engine, 20)
            },
            TextRequest {
                prompt: TextPrompt::of_tokens(vec![u32::MAX]),
                ..request(&engine, 20)
            },
        ];
        for request in wrong {
            assert!(session.answer_text(request).await.is_err());
            assert_eq!(session.history(), kept);
        }
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
