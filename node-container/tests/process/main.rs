//! The `rig` program against a relay of straw: what it says, when it comes back, how it ends.

#[cfg(test)]
mod relay;
#[cfg(test)]
mod rig;

use nix::sys::signal::Signal;
use protocol::chat::ResponseFormat;
use protocol::{ErrorCode, FinishReason, JobId, NodeClass, NodeToRelay, RelayToNode};
use relay::Relay;
use rig::{KEY, assign, exit_code, log_file, request, rig, signal};
use serde_json::{Value, json};

/// Written into a prompt; must not turn up in the log.
const MARKER: &str = "zanzibar-quokka";

#[tokio::test]
async fn a_job_streams_and_sigterm_lets_the_running_one_finish() {
    let relay = Relay::bind().await;
    let log = log_file("drain");
    let child = rig(&relay, &log).spawn().expect("rig starts");
    let mut connection = relay.accept(Some(KEY)).await;
    let hello = connection.message().await;
    let NodeToRelay::Hello {
        key,
        class,
        slots,
        models,
        ..
    } = hello
    else {
        panic!("expected hello, got {hello:?}");
    };
    assert_eq!((key, class, slots), (None, NodeClass::Rig, 2));
    assert_eq!(models[0].model, "test-model");
    assert_eq!(models[0].context_tokens, 512);
    assert!(models[0].capabilities.grammar && models[0].capabilities.logprobs);
    connection.welcome().await;

    assign(&mut connection, 1, request(MARKER, 30)).await;
    let first = connection.follow(1).await;
    assert_eq!(first.finish_reason, FinishReason::Length);
    assert_eq!(first.usage.completion_tokens, 30);
    assert_eq!(first.tokens, 30);
    assert!(first.frames >= 10, "{} frames", first.frames);

    assign(&mut connection, 2, request("Tell me about the sea.", 100)).await;
    connection.first_token(2).await;
    signal(&child, Signal::SIGTERM);
    let second = connection.follow(2).await;
    assert_eq!(second.usage.completion_tokens, 100);
    assert!(second.drained);
    assert_eq!(exit_code(child).await, Some(0));

    let text = std::fs::read_to_string(&log).expect("the log");
    assert!(text.contains("ready"), "{text}");
    assert!(
        text.contains(&format!("job={}", JobId::from_random([1; 16]))),
        "{text}"
    );
    for secret in [MARKER, KEY, first.text.as_str(), second.text.as_str()] {
        assert!(!text.contains(secret), "the log holds {secret:?}");
    }
    std::fs::remove_file(log).expect("removed");
}

#[tokio::test]
async fn the_rig_comes_back_and_a_second_signal_ends_it_at_once() {
    let relay = Relay::bind().await;
    let log = log_file("back");
    let child = rig(&relay, &log).spawn().expect("rig starts");
    let mut connection = relay.accept(Some(KEY)).await;
    connection.message().await;
    connection.welcome().await;
    assign(&mut connection, 1, request("Tell me about the sea.", 400)).await;
    connection.first_token(1).await;
    drop(connection);

    let mut connection = relay.accept(Some(KEY)).await;
    assert!(matches!(
        connection.message().await,
        NodeToRelay::Hello { .. }
    ));
    connection.welcome().await;
    // The job of the lost connection was stopped: its slot is free again.
    assign(&mut connection, 2, request("Tell me about the sun.", 400)).await;
    connection.first_token(2).await;
    signal(&child, Signal::SIGINT);
    connection.draining().await;
    signal(&child, Signal::SIGINT);
    assert_eq!(exit_code(child).await, Some(130));
    std::fs::remove_file(log).expect("removed");
}

#[tokio::test]
async fn a_cancel_stops_the_job_and_frees_the_slot() {
    let relay = Relay::bind().await;
    let log = log_file("cancel");
    let child = rig(&relay, &log).spawn().expect("rig starts");
    let mut connection = relay.accept(Some(KEY)).await;
    connection.message().await;
    connection.welcome().await;
    for alias in [1, 2, 3] {
        assign(&mut connection, alias, request("Count to a thousand.", 400)).await;
        connection.first_token(alias).await;
        connection.send(&RelayToNode::Cancel { alias }).await;
        let usage = connection.cancelled(alias).await;
        assert!(usage.completion_tokens < 100, "{usage:?}");
    }
    signal(&child, Signal::SIGTERM);
    assert_eq!(exit_code(child).await, Some(0));
    std::fs::remove_file(log).expect("removed");
}

#[tokio::test]
async fn a_refused_schema_leaves_no_word_in_the_log() {
    let relay = Relay::bind().await;
    let log = log_file("schema");
    let child = rig(&relay, &log).spawn().expect("rig starts");
    let mut connection = relay.accept(Some(KEY)).await;
    connection.message().await;
    connection.welcome().await;
    let marked = json!({"enum": [MARKER]});
    let many = |items: Value| json!({"type": "array", "items": items, "minItems": 900});
    let schemas = [
        json!({"type": "object", "properties": {"default": {"pattern": format!("{MARKER}[0-9]+")}}}),
        json!({"type": "string", "pattern": format!("^{MARKER}\\!$")}),
        json!({"type": "string", "pattern": format!("^[\\.]{MARKER}|*$")}),
        json!({"type": "array", "items": marked, "minItems": 1900, "maxItems": 3000}),
        json!({"type": "object", "properties": {format!("]{MARKER}"): marked}, "additionalProperties": true}),
        json!({"$ref": format!("#/$defs/{MARKER}")}),
    ];
    for (alias, schema) in (1..).zip(schemas) {
        let mut asked = request(MARKER, 5);
        asked.response_format = ResponseFormat::JsonSchema { schema };
        assign(&mut connection, alias, asked).await;
        let failure = connection.failed(alias).await;
        assert_eq!(failure.code, ErrorCode::InvalidRequest, "{failure}");
        assert!(!failure.message.contains(MARKER), "{failure}");
    }
    let mut asked = request(MARKER, 5);
    asked.response_format = ResponseFormat::JsonSchema {
        schema: many(many(many(marked))),
    };
    assign(&mut connection, 20, asked).await;
    connection.follow(20).await;
    signal(&child, Signal::SIGTERM);
    assert_eq!(exit_code(child).await, Some(0));
    let text = std::fs::read_to_string(&log).expect("the log");
    assert!(!text.contains(MARKER), "{text}");
    std::fs::remove_file(log).expect("removed");
}

#[tokio::test]
async fn a_refused_key_ends_the_rig() {
    let relay = Relay::bind().await;
    let log = log_file("refused");
    let child = rig(&relay, &log).spawn().expect("rig starts");
    relay.refuse().await;
    assert_eq!(exit_code(child).await, Some(3));
    std::fs::remove_file(log).expect("removed");
}

#[tokio::test]
async fn a_model_that_cannot_be_loaded_ends_the_rig_before_it_connects() {
    let relay = Relay::bind().await;
    let log = log_file("model");
    let mut command = rig(&relay, &log);
    command.args(["--model-file", "/nonexistent.gguf"]);
    let child = command.spawn().expect("rig starts");
    assert_eq!(exit_code(child).await, Some(1));
    let text = std::fs::read_to_string(&log).expect("the log");
    assert!(text.contains("/nonexistent.gguf cannot be read"), "{text}");
    assert!(!relay.was_asked().await);
    std::fs::remove_file(log).expect("removed");
}
