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

/// Tokens of it, the one with the space before it among them.
const STOP_TOKENS: usize = 3;

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
    assert_eq!(called.len(), 4);
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
        let logprobs = parts
            .iter()
            .flat_map(|part| list(&part["logprobs"]).to_vec());
        let sure: Vec<Value> = logprobs.map(|entry| entry["id"].clone()).collect();
        // The tokens of a stop string have none.
        let textual = ids.len().checked_sub(STOP_TOKENS).context("it is short")?;
        let expected = if has_logprobs { &ids[..textual] } else { &[] };
        assert_eq!(sure, expected);
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
    // In the middle of a word, as another model may have ended.
    let cut =
        |word: &str| Ok::<_, anyhow::Error>(TEXT.split_at(TEXT.find(word).context("no cut")?).0);
    let (text, begun) = (cut("iver")?, cut("nube")?);
    let lost = |call| disturbed(call, "tokens", 1, &json!({"call": "destroy"}));
    let (afresh, behind) = (lost(chat()), lost(rest(&json!(begun))));
    let first = calls(&[open(), load(), afresh, open(), load(), behind]).await?;
    assert_eq!(first.len(), 6);
    let mut attempts = Vec::new();
    for (called, given) in [(&first[2], ""), (&first[5], begun)] {
        assert_eq!(name_of_error(called)?, "LostError");
        let new = told(called);
        let so_far = given.to_owned() + &new;
        assert!(!new.is_empty() && so_far.len() < TEXT.len(), "{so_far}");
        attempts.push(so_far);
    }
    let [so_far, behind] = attempts.as_slice() else {
        panic!("two were lost");
    };
    // Lost once more: what there is of it came in two attempts.
    let again = lost(rest(&json!(first[2].events)));
    let second = calls(&[open(), load(), again]).await?;
    assert_eq!(name_of_error(&second[2])?, "LostError");
    let twice = so_far.to_owned() + &told(&second[2]);
    assert!(
        so_far.len() < twice.len() && twice.len() < TEXT.len(),
        "{twice}"
    );
    let events = [first[2].events.clone(), second[2].events.clone()].concat();
    let mut behind_text = vec![json!({"text": begun})];
    behind_text.extend_from_slice(&first[5].events);
    let givens = [
        (so_far.as_str(), json!(first[2].events)),
        (so_far, json!(so_far)),
        (text, json!(text)),
        (TEXT, json!(TEXT)),
        (&twice, json!(events)),
        (behind, json!(behind_text)),
    ];
    let mut wanted = vec![open(), load()];
    wanted.extend(givens.iter().map(|(_, given)| rest(given)));
    let called = calls(&wanted).await?;
    assert_eq!(called.len(), wanted.len());
    for ((given, _), called) in givens.iter().zip(&called[2..]) {
        let chatted = called.result()?;
        assert_eq!((*given).to_owned() + &told(called), TEXT, "{chatted}");
        assert_eq!(chatted["ended"], "stop_string");
    }
    // From the events of both attempts each token is told once.
    let all = [events, called[6].events.clone()].concat();
    let ids = all.iter().flat_map(|event| list(&event["ids"]).to_vec());
    let chatted = called[6].result()?;
    assert_eq!(chatted["tokens"], json!(ids.collect::<Vec<Value>>()));
    // Those of the text are counted, too.
    let chatted = called[7].result()?;
    let count = chatted["answer_tokens"].as_u64();
    assert!(
        count >= Some(list(&chatted["tokens"]).len().try_into()?),
        "{chatted}"
    );
    Ok(())
}

#[tokio::test]
async fn a_chat_can_be_cancelled_while_its_prompt_is_read_and_in_mid_answer() -> Result<()> {
    let mut small = load();
    small["settings"]["context_tokens"] = json!(512);
    small["settings"]["batch_tokens"] = json!(BATCH_TOKENS);
    let content = format!(
        "{}{QUESTION}",
        "The sky is blue and the sea is deep. ".repeat(12)
    );
    let mut short = chat();
    short["messages"] = json!([{"role": "user", "content": content}]);
    short["stop"] = json!([]);
    short["tokens_max"] = json!(8);
    // So long that it is not over before the page hears of its first token, and is heard.
    let long = with(short.clone(), "tokens_max", json!(60));
    let unread = disturbed(long.clone(), "prompt_tokens", 1, &json!("cancel"));
    let unsaid = disturbed(long, "tokens", 1, &json!("cancel"));
    let seeded = with(short.clone(), "seed", json!(1));
    let wanted = [
        open(),
        small,
        unread,
        short.clone(),
        unsaid,
        short,
        seeded.clone(),
        seeded,
    ];
    let called = calls(&wanted).await?;
    let [_, _, unread, behind, unsaid, again, afresh, twin] = called.as_slice() else {
        panic!("eight calls were made: {called:?}");
    };
    assert_eq!(name_of_error(unread)?, "AbortError");
    let [begun] = unread.events.as_slice() else {
        panic!("its prompt was read: {:?}", unread.events);
    };
    let all = begun["prompt_tokens"].as_u64().context("not told")?;
    assert_eq!(name_of_error(unsaid)?, "AbortError");
    assert!(!told(unsaid).is_empty());
    let mut cached = Vec::new();
    for chat in [behind, again, afresh, twin] {
        let chatted = chat.result()?;
        assert_eq!(chatted["ended"], "tokens_max", "{chatted}");
        assert_eq!(chatted["answer_tokens"], 8, "{chatted}");
        cached.push(chatted["cached_tokens"].as_u64().context("not told")?);
    }
    // The first one knows how far the cancelled reading had come, the next one has the whole prompt but for its last
    // token, and a seed reads all of it again.
    assert!(cached[0] > 0 && cached[0] + 1 < all, "{cached:?} of {all}");
    assert_eq!(cached[1..], [all - 1, 0, 0]);
    // What is kept was read in other pieces, which can change last digits: only those that read alike say the same.
    assert_eq!(afresh.result()?["text"], twin.result()?["text"]);
    Ok(())
}

#[tokio::test]
async fn a_chat_that_cannot_be_is_refused_unread_and_the_next_one_is_answered() -> Result<()> {
    let both = with(chat(), "prompt", json!("Once upon"));
    let cold = with(chat(), "temperature", json!(-1));
    let disturbed = disturbed(chat(), "tokens", 1, &chat());
    let called = calls(&[open(), load(), both, cold, chat(), disturbed]).await?;
    let [_, _, both, cold, behind, disturbed] = called.as_slice() else {
        panic!("six calls were made: {called:?}");
    };
    for (refused, why) in [(both, "not both"), (cold, "a temperature")] {
        let error = refused.error.as_ref().context("it was answered")?;
        assert!(error.message.contains(why), "{error:?}");
        assert!(refused.events.is_empty(), "{:?}", refused.events);
    }
    assert_eq!(behind.result()?["text"], TEXT);
    // One at a time; who was first comes to the end.
    let [busy] = disturbed.meanwhile.as_slice() else {
        panic!("there was another chat: {disturbed:?}");
    };
    let error = busy.error.as_ref().context("it was answered")?;
    assert!(
        error.message.contains("an answer is under way"),
        "{error:?}"
    );
    assert_eq!(disturbed.result()?["ended"], "stop_string");
    assert_eq!(told(disturbed), TEXT);
    Ok(())
}
