//! Conversations with a published model in Chromium: text of whole characters, as natively; stopped, gone on with,
//! cancelled, and across the loss of the device.

use anyhow::{Context, Result};
use chrono::DateTime;
use protocol::{ChatMessage, ChatRequest, Role};
use serde_json::{Value, json};
use tests::Called;
use webgpu_engine::run::{TextEnded, TextRequest};

use crate::answers::{calls, load, load_natively};
use crate::list;

const QUESTION: &str = "Name three rivers of Europe.";

/// Where answers end.
const STOP: &str = "through the heart";

/// What SmolLM2-135M says before that, computed with floats, the likeliest token each time.
const TEXT: &str = "1. Danube: The largest river in Europe, it flows ";

/// Tokens of a prompt that are read at once, so few that reading the long one takes many steps.
const BATCH_TOKENS: u32 = 8;

fn open() -> Value {
    json!({"call": "open"})
}

fn chat() -> Value {
    let messages = json!([{"role": "user", "content": QUESTION}]);
    json!({"call": "chat", "messages": messages, "stop": [STOP], "tokens_max": 30})
}

/// A call with one more field.
fn with(mut call: Value, field: &str, value: Value) -> Value {
    if let Some(fields) = call.as_object_mut() {
        fields.insert(field.to_owned(), value);
    }
    call
}

/// The same, going on with what there is of the answer.
fn rest(given: &Value) -> Value {
    with(chat(), "given", given.clone())
}

/// A call and what is done once a field of its events is at least this.
fn disturbed(call: Value, field: &str, least: u32, by: &Value) -> Value {
    let meanwhile = json!([{"when": {field: least}, "call": by}]);
    with(call, "meanwhile", meanwhile)
}

/// All texts of a call's events.
fn told(called: &Called) -> String {
    let texts = called.events.iter().map(|event| event["text"].as_str());
    texts.map(Option::unwrap_or_default).collect()
}

/// The name of the error that a call ended with.
fn name_of_error(called: &Called) -> Result<&str> {
    let error = called.error.as_ref().context("it came to its end")?;
    Ok(&error.name)
}

#[tokio::test]
async fn a_conversation_is_answered_in_chromium_with_the_text_that_the_engine_says_natively()
-> Result<()> {
    let mut sure = chat();
    sure["alternatives"] = json!(1);
    let called = calls(&[open(), load(), chat(), sure]).await?;
    for (chat, has_logprobs) in [(&called[2], false), (&called[3], true)] {
        let chatted = chat.result()?;
        assert_eq!(chatted["text"], TEXT);
        assert_eq!(told(chat), TEXT);
        assert_eq!(chatted["ended"], "stop_string");
        // The prompt's length comes first; then each token is told once, those of the stop string too.
        assert_eq!(
            chat.events[0]["prompt_tokens"], chatted["prompt_tokens"],
            "{chatted}"
        );
        let parts = &chat.events[1..];
        assert!(parts.iter().all(|part| part["kind"] == "text"));
        let ids = parts.iter().flat_map(|part| list(&part["ids"]).to_vec());
        let ids: Vec<Value> = ids.collect();
        assert_eq!(chatted["tokens"], json!(ids));
        assert_eq!(chatted["answer_tokens"], ids.len());
        let last = parts.last().context("nothing was said")?;
        assert_eq!(last["tokens"], ids.len());
        let logprobs = parts.iter().map(|part| list(&part["logprobs"]).len());
        assert_eq!(logprobs.sum::<usize>() > 0, has_logprobs);
    }
    Ok(())
}

#[test]
fn and_natively_it_says_the_same() -> Result<()> {
    pollster::block_on(async {
        let Some(engine) = load_natively().await? else {
            return Ok(());
        };
        let conversation = ChatRequest {
            messages: vec![ChatMessage::new(Role::User, QUESTION)],
            ..ChatRequest::default()
        };
        let prompt = engine.chat_prompt(&conversation, DateTime::UNIX_EPOCH)?;
        let request = TextRequest {
            stops: vec![STOP.to_owned()],
            ..TextRequest::greedy(prompt, 30)
        };
        let mut session = engine.session().await?;
        let mut answer = session.answer_text(request).await?;
        let mut text = String::new();
        while let Some(piece) = answer.next().await? {
            text += &piece.text;
        }
        assert_eq!(text, TEXT);
        assert_eq!(answer.ended(), Some(TextEnded::StopString));
        Ok(())
    })
}

#[tokio::test]
async fn a_device_lost_in_mid_chat_is_told_and_the_chat_goes_on_from_what_there_is_of_it()
-> Result<()> {
    let lost = disturbed(chat(), "tokens", 8, &json!({"call": "destroy"}));
    let first = calls(&[open(), load(), lost]).await?;
    assert_eq!(name_of_error(&first[2])?, "LostError");
    let so_far = told(&first[2]);
    assert!(!so_far.is_empty() && so_far.len() < TEXT.len(), "{so_far}");
    // In the middle of a word, as another model may have ended.
    let (text, _) = TEXT.split_at(TEXT.find("iver").context("a river")?);
    let called = calls(&[
        open(),
        load(),
        rest(&json!(first[2].events)),
        rest(&json!(so_far)),
        rest(&json!(text)),
        rest(&json!(TEXT)),
    ])
    .await?;
    for (given, called) in [&so_far, &so_far, text, TEXT].into_iter().zip(&called[2..]) {
        let chatted = called.result()?;
        assert_eq!(given.to_owned() + &told(called), TEXT, "{chatted}");
        assert_eq!(chatted["ended"], "stop_string");
    }
    Ok(())
}

#[tokio::test]
async fn a_chat_can_be_cancelled_while_its_prompt_is_read_and_in_mid_answer() -> Result<()> {
    let mut small = load();
    small["settings"]["context_tokens"] = json!(256);
    small["settings"]["batch_tokens"] = json!(BATCH_TOKENS);
    let mut long = chat();
    let content = format!(
        "{}{QUESTION}",
        "The sky is blue and the sea is deep. ".repeat(12)
    );
    long["messages"] = json!([{"role": "user", "content": content}]);
    long["tokens_max"] = json!(8);
    let unread = disturbed(long.clone(), "prompt_tokens", 1, &json!("cancel"));
    let unsaid = disturbed(long.clone(), "tokens", 3, &json!("cancel"));
    let mut afresh = long.clone();
    afresh["seed"] = json!(1);
    let called = calls(&[open(), small, unread, long.clone(), unsaid, long, afresh]).await?;
    let [_, _, unread, behind, unsaid, again, afresh] = called.as_slice() else {
        panic!("seven calls were made: {called:?}");
    };
    assert_eq!(name_of_error(unread)?, "AbortError");
    let [begun] = unread.events.as_slice() else {
        panic!("its prompt was read: {:?}", unread.events);
    };
    // The next one knows how far it had come.
    let read = behind.result()?["cached_tokens"].as_u64();
    let all = begun["prompt_tokens"].as_u64();
    assert!(
        read > Some(0) && read.map(|read| read + 1) < all,
        "{read:?}"
    );
    assert_eq!(name_of_error(unsaid)?, "AbortError");
    let said = told(unsaid);
    let afresh = afresh.result()?;
    assert_eq!(afresh["cached_tokens"], 0);
    let text = afresh["text"].as_str().context("no text")?;
    assert!(!said.is_empty() && said.len() < text.len(), "{said}");
    assert!(text.starts_with(&said));
    assert_eq!(behind.result()?["text"], text);
    assert_eq!(again.result()?["text"], text);
    Ok(())
}
