//! The `rig` program against a relay of straw: what it says, when it comes back, how it ends.

#[cfg(test)]
mod failing;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod operating;
#[cfg(test)]
mod relay;
#[cfg(test)]
mod rig;

use nix::sys::signal::Signal;
use protocol::chat::ResponseFormat;
use protocol::{
    AnswerHash, ErrorCode, Failure, FinishReason, JobId, NodeClass, NodeToRelay, RelayToNode,
};
use relay::Relay;
use rig::{
    KEY, adopt, announced, assign, assign_with, exit_code, job_id, log_file, request, rig, signal,
};
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
async fn an_answer_goes_on_over_three_relays_without_a_byte_lost_or_doubled() {
    let relay = Relay::bind().await;
    let log = log_file("back");
    let child = rig(&relay, &log).spawn().expect("rig starts");
    let mut connection = relay.accept(Some(KEY)).await;
    connection.message().await;
    connection.welcome().await;
    let asked = request("Tell me about the sea.", 300);
    // It pauses at its window, or a quick rig would be done before the third relay.
    assign_with(&mut connection, 1, asked.clone(), 100).await;
    connection.first_token(1).await;

    for alias in [11, 12, 13] {
        let record = connection.cut();
        connection = relay.accept(Some(KEY)).await;
        let announcements = announced(&mut connection).await;
        let [
            NodeToRelay::Announce {
                job,
                attempt: 1,
                ticket,
                from,
                offset,
                ..
            },
        ] = &announcements[..]
        else {
            panic!("expected one announcement, got {announcements:?}");
        };
        assert_eq!((*job, ticket.as_str()), (job_id(1), "ticket 1"));
        assert!(*from <= record.offset && record.offset <= *offset);
        adopt(&mut connection, 1, alias, record).await;
        connection.next_frame(alias).await;
        // What is acknowledged need not be kept, and the next announcement begins behind it.
        connection.acknowledge(alias, false).await;
    }
    connection.acknowledges = true;
    let answer = connection.follow(13).await;
    assert_eq!(answer.tokens, 300);

    assign(&mut connection, 2, asked).await;
    let unbroken = connection.follow(2).await;
    assert_eq!(answer.text, unbroken.text);
    signal(&child, Signal::SIGTERM);
    assert_eq!(exit_code(child).await, Some(0));
    std::fs::remove_file(log).expect("removed");
}

#[tokio::test]
async fn a_fenced_job_and_one_that_does_not_agree_leave_their_slots() {
    let relay = Relay::bind().await;
    let log = log_file("fence");
    let child = rig(&relay, &log).spawn().expect("rig starts");
    let mut connection = relay.accept(Some(KEY)).await;
    connection.message().await;
    connection.welcome().await;
    for alias in [1, 2] {
        assign(
            &mut connection,
            alias,
            request("Tell me about the sea.", 400),
        )
        .await;
        connection.first_token(alias).await;
    }
    drop(connection);
    let mut connection = relay.accept(Some(KEY)).await;
    assert_eq!(announced(&mut connection).await.len(), 2);
    connection
        .send(&RelayToNode::Fence {
            job: job_id(1),
            attempt: 1,
            failure: Failure::new(ErrorCode::UnknownJob, "nobody wants it"),
        })
        .await;
    let message = RelayToNode::Adopt {
        job: job_id(2),
        attempt: 1,
        alias: 12,
        lease_ms: 10_000,
        window_bytes: 64 << 10,
        offset: 1,
        tokens: 1,
        hash: AnswerHash::of(b"\0"),
    };
    connection.send(&message).await;
    assert_eq!(connection.failed(12).await.code, ErrorCode::UnknownJob);
    for alias in [3, 4] {
        assign(
            &mut connection,
            alias,
            request("Tell me about the sun.", 400),
        )
        .await;
        connection.first_token(alias).await;
    }
    signal(&child, Signal::SIGKILL);
    assert_eq!(exit_code(child).await, None);
    std::fs::remove_file(log).expect("removed");
}

#[tokio::test]
async fn a_job_pauses_at_its_window_and_goes_on_when_it_is_acknowledged() {
    let relay = Relay::bind().await;
    let log = log_file("window");
    let child = rig(&relay, &log).spawn().expect("rig starts");
    let mut connection = relay.accept(Some(KEY)).await;
    connection.message().await;
    connection.welcome().await;
    let asked = request("Tell me about the sea.", 200);
    assign_with(&mut connection, 1, asked.clone(), 100).await;
    connection.first_token(1).await;
    // The other job is not held up by the paused one, and shows how much time it had.
    assign(&mut connection, 2, asked.clone()).await;
    let mut paused = connection.take_record();
    let unbroken = connection.follow_beside(2, 1, &mut paused).await;
    assert!((100..150).contains(&paused.offset), "{paused:?}");
    assert_eq!(unbroken.tokens, 200);
    connection.go_on(paused);
    connection.acknowledges = true;
    connection.acknowledge(1, false).await;
    assert_eq!(connection.follow(1).await.tokens, 200);
    signal(&child, Signal::SIGTERM);
    assert_eq!(exit_code(child).await, Some(0));
    std::fs::remove_file(log).expect("removed");
}

#[tokio::test]
async fn a_node_that_drains_hands_over_what_its_lost_relay_did_not_get_and_a_second_signal_ends_it()
{
    let relay = Relay::bind().await;
    let log = log_file("signals");
    let child = rig(&relay, &log).spawn().expect("rig starts");
    let mut connection = relay.accept(Some(KEY)).await;
    connection.message().await;
    connection.welcome().await;
    assign(&mut connection, 1, request("Tell me about the sea.", 400)).await;
    connection.first_token(1).await;
    let record = connection.cut();
    signal(&child, Signal::SIGTERM);
    let mut connection = relay.accept(Some(KEY)).await;
    assert_eq!(announced(&mut connection).await.len(), 1);
    connection.draining().await;
    adopt(&mut connection, 1, 11, record).await;
    connection.next_frame(11).await;
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
async fn a_model_that_cannot_be_loaded_ends_the_rig_before_it_serves() {
    let relay = Relay::bind().await;
    let log = log_file("model");
    let mut command = rig(&relay, &log);
    command.args(["--model-file", "/nonexistent.gguf"]);
    let child = command.spawn().expect("rig starts");
    relay.admit().await;
    assert_eq!(exit_code(child).await, Some(1));
    let text = std::fs::read_to_string(&log).expect("the log");
    assert!(text.contains("/nonexistent.gguf cannot be read"), "{text}");
    assert!(!relay.was_asked().await);
    std::fs::remove_file(log).expect("removed");
}
