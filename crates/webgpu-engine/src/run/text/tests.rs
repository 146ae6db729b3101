//! Answers as text on small seeded models, whose tokens are bytes and `" t"`.

mod continuing;

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
