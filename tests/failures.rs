//! Failures that other networks have, each a named test with real processes. That text is not doubled when a node dies is
//! in `breaking.rs`; those that need no process are in the scheduler's own tests.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test looks for one thing among others"
)]

use anyhow::{Context, Result, bail, ensure};
use client_session::Event;
use protocol::{
    Alias, DeltaKind, ErrorCode, Failure, FinishReason, JobId, NodeToRelay, RelayToNode,
};
use serde_json::{Value, json};
use tests::{Client, Line, MODEL, Network, OTHER_MODEL, RawNode, Rig, ask, endless, until};

/// Long enough for a loaded machine, short enough to be waited for.
const LEASE_MS: &str = "1500";

/// Reads a job's events until this much of its answer is there.
async fn text_of(client: &mut Client, job: JobId, bytes: usize) -> Result<String> {
    let mut text = String::new();
    while text.len() < bytes {
        match client.next().await? {
            (
                of,
                Event::Delta {
                    kind: DeltaKind::Text,
                    text: piece,
                    ..
                },
            ) if of == job => {
                text.push_str(&piece);
            }
            (of, Event::Failed(failure)) if of == job => bail!("{failure:?}"),
            _ => {}
        }
    }
    Ok(text)
}

#[tokio::test]
async fn a_job_whose_node_died_runs_again_as_soon_as_a_slot_is_free() -> Result<()> {
    let network = Network::relay_only().await?;
    let mut first = RawNode::join_as(&network, "first", OTHER_MODEL, 0).await?;
    let mut client = Client::connect(&network).await?;
    let broken = client
        .submit(OTHER_MODEL, ask("Tell a story.", 100))
        .await?;
    let (_, alias) = first.assigned().await?;
    first.accept(alias).await?;
    first.tokens(alias, 0, "Once ").await?;
    text_of(&mut client, broken, 5).await?;

    // The only other node is busy, and somebody waits for it already.
    let mut second = RawNode::join_as(&network, "second", OTHER_MODEL, 0).await?;
    let other = client.submit(OTHER_MODEL, ask("Say hello.", 10)).await?;
    let (of, busy) = second.assigned().await?;
    ensure!(of == other);
    second.accept(busy).await?;
    let waiting = client.submit(OTHER_MODEL, ask("Say goodbye.", 10)).await?;
    client
        .wait_for("a place", |of, event| {
            (of == waiting && matches!(event, Event::Queued { .. })).then_some(())
        })
        .await?;
    drop(first);
    client
        .wait_for("the head of the queue", |of, event| match event {
            Event::Queued { position: 1, .. } if of == broken => Some(()),
            _ => None,
        })
        .await?;

    // The slot is free: nothing else has to happen for the job to run, before the one that waited, from where it was.
    second.tokens(busy, 0, "Hello.").await?;
    second.complete(busy, 6, 1).await?;
    let again = second.assignment().await?;
    ensure!(again.job == broken, "the line was jumped");
    ensure!(again.attempt == 2);
    ensure!(again.answer.as_ref().map(protocol::Answer::bytes) == Some(5));
    second.accept(again.alias).await?;
    second.tokens(again.alias, 5, "upon a time").await?;
    second.complete(again.alias, 16, 2).await?;
    ensure!(text_of(&mut client, broken, 11).await? == "upon a time");
    let next = second.assignment().await?;
    ensure!(next.job == waiting);
    Ok(())
}

#[tokio::test]
async fn a_node_whose_lease_lapsed_is_told_before_another_gets_its_job() -> Result<()> {
    let network = Network::start(&["--rigs", "0", "--lease-ms", LEASE_MS]).await?;
    let mut slow = RawNode::join_as(&network, "slow", OTHER_MODEL, 0).await?;
    let mut client = Client::connect(&network).await?;
    let job = client
        .submit(OTHER_MODEL, ask("Tell a story.", 100))
        .await?;
    let lost = slow.assignment().await?;
    slow.accept(lost.alias).await?;
    slow.tokens(lost.alias, 0, "Once ").await?;
    let mut text = text_of(&mut client, job, 5).await?;
    let mut next = RawNode::join_as(&network, "next", OTHER_MODEL, 0).await?;
    // Now it says nothing for longer than its lease. It is told …
    slow.socket
        .wait_for("cancel", |message: &RelayToNode| match message {
            RelayToNode::Cancel { alias } if *alias == lost.alias => Some(()),
            _ => None,
        })
        .await?;
    // … and the job goes on elsewhere.
    let current = next.assignment().await?;
    ensure!((current.job, current.attempt) == (job, lost.attempt + 1));
    ensure!(current.alias != lost.alias);
    next.accept(current.alias).await?;
    next.tokens(current.alias, 5, "upon ").await?;
    text.push_str(&text_of(&mut client, job, 5).await?);
    // It wakes up and goes on as if nothing had been: nobody hears of it.
    slow.tokens(lost.alias, 5, "WRONG").await?;
    slow.complete(lost.alias, 10, 2).await?;
    next.tokens(current.alias, 10, "a time").await?;
    next.complete(current.alias, 16, 3).await?;
    let end = client.answer(job).await?;
    text.push_str(&end.text);
    ensure!(text == "Once upon a time", "{text}");
    ensure!(end.finish_reason == FinishReason::Stop);
    Ok(())
}

/// A node that breaks every answer after a piece of it, as often as it gets one. Says how often.
async fn breaks_everything(mut node: RawNode) -> Result<u32> {
    let mut offset = 0;
    for attempts in 1.. {
        let Ok(assignment) = node.assignment().await else {
            return Ok(attempts);
        };
        if assignment.attempt == 1 {
            node.accept(assignment.alias).await?;
            node.tokens(assignment.alias, offset, "Once ").await?;
            offset += 5;
        }
        let failure = Failure::new(ErrorCode::EngineFailed, "out of memory");
        let alias: Alias = assignment.alias;
        node.socket
            .say(&NodeToRelay::Failed { alias, failure })
            .await?;
    }
    Ok(0)
}

#[tokio::test]
async fn an_answer_that_breaks_never_ends_with_a_reason_to_stop() -> Result<()> {
    let network = Network::relay_only().await?;
    let node = RawNode::join_as(&network, "broken", OTHER_MODEL, 0).await?;
    let breaking = tokio::spawn(breaks_everything(node));
    let body = json!({
        "model": OTHER_MODEL,
        "stream": true,
        "messages": [{"role": "user", "content": "Tell a story."}],
    });
    let api = network.api()?;
    let mut stream = api.stream(&body).await?;
    let mut text = String::new();
    let error = loop {
        let event = stream.next().await?.context("[DONE] without an error")?;
        if let Some(error) = event.get("error") {
            break error.clone();
        }
        let reason = event.pointer("/choices/0/finish_reason");
        ensure!(reason.is_none_or(Value::is_null), "{event}");
        if let Some(piece) = event
            .pointer("/choices/0/delta/content")
            .and_then(Value::as_str)
        {
            text.push_str(piece);
        }
    };
    ensure!(error.get("code").is_some_and(Value::is_string), "{error}");
    ensure!(text == "Once ", "{text}");
    // Nothing follows an error, not even `[DONE]`.
    ensure!(
        stream.next().await.is_err(),
        "the stream went on after its error"
    );
    breaking.abort();
    Ok(())
}

#[tokio::test]
async fn a_half_open_connection_leaves_no_ghost_behind() -> Result<()> {
    let network = Network::relay_only().await?;
    let line = Line::start(&network).await?;
    let rig = Rig::start_at(&network, &line.url, "rig", 1)?;
    network.free_slots(1).await?;
    let mut client = Client::connect(&network).await?;
    let whole = client.chat(MODEL, endless("Tell a story.", 200)).await?;
    let job = client.submit(MODEL, endless("Tell a story.", 200)).await?;
    let mut text = text_of(&mut client, job, 20).await?;
    // The rig's end is gone, the relay's end stays open and silent.
    line.leave_half_open();
    // The rig comes back and goes on with the answer, though the relay has not noticed anything.
    let rest = client.answer(job).await?;
    text.push_str(&rest.text);
    ensure!(text == whole.text, "{text}");
    ensure!(rest.finish_reason == FinishReason::Length);
    // Nobody is given to the ghost, which goes by itself.
    let answer = client.chat(MODEL, ask("Say hello.", 8)).await?;
    ensure!(!answer.text.is_empty());
    until("the ghost is gone", || async {
        let model = network.api()?.model(MODEL).await?;
        Ok((model.get("slots") == Some(&json!(1))).then_some(()))
    })
    .await?;
    drop(rig);
    Ok(())
}

#[tokio::test]
async fn an_idle_rig_behind_a_half_open_connection_is_counted_once_and_keeps_serving() -> Result<()>
{
    let network = Network::relay_only().await?;
    let line = Line::start(&network).await?;
    let rig = Rig::start_at(&network, &line.url, "rig", 1)?;
    network.free_slots(1).await?;
    line.leave_half_open();
    rig.says(&["lost"]).await?;
    let mut client = Client::connect(&network).await?;
    for _ in 0..3 {
        let answer = client.chat(MODEL, ask("Say hello.", 8)).await?;
        ensure!(!answer.text.is_empty());
    }
    until("the ghost is gone", || async {
        let model = network.api()?.model(MODEL).await?;
        Ok((model.get("slots") == Some(&json!(1))).then_some(()))
    })
    .await
}
