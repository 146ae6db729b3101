//! Answers of a published model. The file is large and not part of the repository: where the environment does not name
//! it (`HELIOGRAPH_MODEL_FILE`, as `cargo xtask test` does), or where there is no adapter, nothing is tested.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test, which fails by panicking"
)]

use std::fs::File;
use std::io::Read as _;
use std::sync::Arc;

use chrono::DateTime;
use protocol::{ChatMessage, ChatRequest, FinishReason, Role};
use webgpu_engine::gpu::{Gpu, Wish};
use webgpu_engine::run::{
    Engine, Given, Loader, Session, Settings, TextEnded, TextPrompt, TextRequest,
};

const TOKENS_MAX: u32 = 24;

async fn engine() -> Option<Arc<Engine>> {
    let path = std::env::var_os("HELIOGRAPH_MODEL_FILE")?;
    let opened = Gpu::open(&Wish::default()).await;
    let is_demanded = std::env::var_os("CI").is_some();
    let gpu = if is_demanded {
        opened.expect("an adapter")
    } else {
        opened.ok()?
    };
    let mut file = File::open(path).expect("the file that the environment names");
    let bytes = file.metadata().expect("metadata").len();
    let settings = Settings {
        context_tokens: Some(256),
        ..Settings::default()
    };
    let mut loader = Loader::new(Arc::new(gpu), Some(bytes), settings);
    let mut piece = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut piece).expect("can be read");
        if count == 0 {
            break;
        }
        loader.push(&piece[..count]).await.expect("can be run");
    }
    Some(Arc::new(loader.finish().await.expect("whole")))
}

/// Greedy: the text that is new, and all tokens of the answer.
async fn answer(
    session: &mut Session,
    prompt: &TextPrompt,
    given: Given,
) -> (String, Vec<u32>, Option<TextEnded>) {
    let request = TextRequest {
        given,
        ..TextRequest::greedy(prompt.clone(), TOKENS_MAX)
    };
    let mut answer = session.answer_text(request).await.expect("begins");
    let mut text = String::new();
    while let Some(piece) = answer.next().await.expect("goes on") {
        text.push_str(&piece.text);
    }
    assert!(answer.usage().completion_tokens <= TOKENS_MAX);
    assert_ne!(answer.finish_reason(), Some(FinishReason::ToolCalls));
    (text, answer.tokens().to_vec(), answer.ended())
}

#[test]
fn an_answer_that_goes_on_from_its_text_or_its_tokens_is_the_same_answer() {
    pollster::block_on(async {
        let Some(engine) = engine().await else {
            return;
        };
        let conversation = ChatRequest {
            messages: vec![ChatMessage::new(
                Role::User,
                "Name three large cities in France.",
            )],
            ..ChatRequest::default()
        };
        let prompt = engine.chat_prompt(&conversation, DateTime::UNIX_EPOCH);
        let prompt = prompt.expect("the file's template renders it");
        let shown = engine.tokenizer().decode(prompt.tokens(), true);
        let shown = String::from_utf8(shown).expect("text");
        assert!(shown.ends_with(
            "<|im_start|>user\nName three large cities in France.<|im_end|>\n<|im_start|>assistant\n"
        ));
        let mut session = engine.session().await.expect("fits");
        let (whole, tokens, ended) = answer(&mut session, &prompt, Given::Nothing).await;
        assert!(whole.contains("Paris"), "{whole}");
        assert!(ended.is_some() && tokens.len() > 10);
        session.clear();
        let known = tokens[..9].to_vec();
        let told = engine.tokenizer().decode(&known, false);
        let told = String::from_utf8(told).expect("English");
        let (rest, all, why) = answer(&mut session, &prompt, Given::Tokens(known)).await;
        assert_eq!((told + &rest, &all, why), (whole.clone(), &tokens, ended));
        session.clear();
        // In the middle of a word.
        let cut = whole.find("Paris").expect("it is there") + 2;
        let given = Given::Text(whole[..cut].to_owned());
        let (rest, all, _) = answer(&mut session, &prompt, given).await;
        // The token that reaches beyond the given text counts twice, as its beginning is paid for.
        let count = all.len();
        assert!(count + 1 >= tokens.len(), "{count}");
        assert_eq!(all, tokens[..count]);
        assert!(whole.starts_with(&(whole[..cut].to_owned() + &rest)));
    });
}
