//! Stopping: the node is told, ends within one decode step, and its slot is free. Watched on the node's own line.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a test looks for one thing among others, and says no by panicking"
)]

use anyhow::Result;
use client_session::Event;
use protocol::{ErrorCode, NodeToRelay, RelayToNode};
use serde_json::{Value, json};
use tests::{Client, MODEL, Network, Passed, Rig, Tap, ask, endless, until, within};

/// Frames that may still pass after the relay's word: one that was being sent, one of the step under way, and one
/// that a loaded machine had already begun before the rig's network thread got its turn.
const FRAMES_AFTER_CANCEL_MAX: usize = 3;

/// Fields are dropped in this order: the rig goes before the network that checks that nobody is left.
struct Scene {
    _rig: Rig,
    tap: Tap,
    network: Network,
}

/// A relay and one rig with a tap on its line.
async fn scene(slots: u32) -> Result<Scene> {
    let network = Network::relay_only().await?;
    let tap = Tap::start(&network).await?;
    let rig = Rig::start_at(&network, &tap.url, "rig", slots)?;
    network.free_slots(u64::from(slots)).await?;
    Ok(Scene {
        _rig: rig,
        tap,
        network,
    })
}

const fn is_tokens(passed: &Passed) -> bool {
    matches!(passed, Passed::Tokens(_))
}

const fn is_cancel(passed: &Passed) -> bool {
    matches!(passed, Passed::ToNode(RelayToNode::Cancel { .. }))
}

const fn is_cancelled(passed: &Passed) -> bool {
    matches!(passed, Passed::FromNode(NodeToRelay::Cancelled { .. }))
}

impl Scene {
    /// Waits until the one job that runs has been stopped, and checks how. Nothing may pass for it afterwards.
    async fn expect_stopped(&self, from: usize) -> Result<()> {
        let cancel = self.tap.position("cancel", from, is_cancel).await?;
        let cancelled = self.tap.position("cancelled", cancel, is_cancelled).await?;
        // The slot is free, and a new job gets it at once.
        self.network.free_slots(1).await?;
        let mut client = Client::connect(&self.network).await?;
        let job = client.submit(MODEL, ask("Say hello.", 4)).await?;
        client
            .wait_for("assigned without waiting", |of, event| match event {
                Event::Assigned { .. } if of == job => Some(()),
                other => panic!("{other:?} before assigned"),
            })
            .await?;
        client.answer(job).await?;

        let passed = self.tap.passed();
        let Passed::FromNode(NodeToRelay::Cancelled { alias, usage }) = &passed[cancelled] else {
            panic!("{:?}", passed[cancelled]);
        };
        assert_eq!(
            passed[cancel],
            Passed::ToNode(RelayToNode::Cancel { alias: *alias })
        );
        let frames_of = |range: &[Passed]| -> Vec<u32> {
            range
                .iter()
                .filter_map(|passed| match passed {
                    Passed::Tokens(entries) => Some(entries),
                    Passed::ToNode(_) | Passed::FromNode(_) => None,
                })
                .flatten()
                .filter(|(of, _)| of == alias)
                .map(|(_, tokens)| *tokens)
                .collect()
        };
        let late = frames_of(&passed[cancel..cancelled]);
        assert!(
            late.len() <= FRAMES_AFTER_CANCEL_MAX,
            "{late:?} after cancel"
        );
        assert!(frames_of(&passed[cancelled..]).is_empty());
        // What it cost is what was sent, and what the step that the word interrupted may have held back.
        let sent: u32 = frames_of(&passed).iter().sum();
        assert!(usage.completion_tokens >= sent, "{usage:?}, sent {sent}");
        assert!(
            usage.completion_tokens <= sent + 2,
            "{usage:?}, sent {sent}"
        );
        assert!(sent < 2_000, "it was stopped, it did not end: {sent}");
        Ok(())
    }
}

fn body(stream: bool) -> Value {
    json!({
        "model": MODEL,
        "stream": stream,
        "temperature": 0,
        "max_tokens": 4000,
        "logit_bias": {"0": -100, "2": -100},
        "messages": [{"role": "user", "content": "Tell a very long story."}],
    })
}

#[tokio::test]
async fn cancel_stops_the_node_within_a_step_and_frees_the_slot() -> Result<()> {
    let scene = scene(1).await?;
    let mut client = Client::connect(&scene.network).await?;
    let job = client
        .submit(MODEL, endless("Tell a story.", 4_000))
        .await?;
    client
        .wait_for("text", |_, event| {
            matches!(event, Event::Delta { .. }).then_some(())
        })
        .await?;
    client.cancel(job).await?;
    let failure = loop {
        match client.next().await? {
            (of, Event::Failed(failure)) if of == job => break failure,
            (_, Event::Delta { .. }) => {}
            (_, other) => panic!("{other:?} after cancel"),
        }
    };
    assert_eq!(failure.code, ErrorCode::Cancelled);
    scene.expect_stopped(0).await
}

#[tokio::test]
async fn cancelling_a_waiting_job_takes_it_out_of_the_queue() -> Result<()> {
    let scene = scene(1).await?;
    let mut client = Client::connect(&scene.network).await?;
    let running = client
        .submit(MODEL, endless("Tell a story.", 4_000))
        .await?;
    let second = client.submit(MODEL, ask("Say hello.", 4)).await?;
    let third = client.submit(MODEL, ask("Say hello.", 4)).await?;
    let place = |wanted: u32| {
        move |of, event: &Event| match event {
            Event::Queued { position, .. } if of == third && *position == wanted => Some(()),
            _ => None,
        }
    };
    client.wait_for("second in line", place(2)).await?;
    client.cancel(second).await?;
    // Whoever stands behind moves up and is told; that of the cancelled job is its last word.
    let mut cancelled = false;
    let mut moved = false;
    while !(cancelled && moved) {
        match client.next().await? {
            (of, Event::Failed(failure)) if of == second => {
                assert_eq!(failure.code, ErrorCode::Cancelled);
                cancelled = true;
            }
            (of, Event::Queued { position: 1, .. }) if of == third => moved = true,
            (_, Event::Failed(failure)) => panic!("{failure:?}"),
            _ => {}
        }
    }
    client.cancel(running).await?;
    // The line moves on to the third.
    loop {
        match client.next().await? {
            (of, Event::Completed { .. }) if of == third => break,
            (of, Event::Failed(failure)) => {
                assert_eq!((of, failure.code), (running, ErrorCode::Cancelled));
            }
            _ => {}
        }
    }
    scene.network.free_slots(1).await
}

#[tokio::test]
async fn aborting_a_streamed_http_request_stops_the_node() -> Result<()> {
    let scene = scene(1).await?;
    let mut stream = scene.network.api()?.stream(&body(true)).await?;
    for _ in 0..3 {
        assert!(stream.text().await?.is_some());
    }
    drop(stream);
    scene.expect_stopped(0).await
}

#[tokio::test]
async fn aborting_a_whole_http_request_stops_the_node() -> Result<()> {
    let scene = scene(1).await?;
    let request = scene.network.api()?.chat(&body(false));
    let request = tokio::spawn(async move { request.send().await.map(drop) });
    scene.tap.position("tokens", 0, is_tokens).await?;
    request.abort();
    scene.expect_stopped(0).await
}

#[tokio::test]
async fn aborting_an_http_request_that_waits_takes_it_out_of_the_queue() -> Result<()> {
    let scene = scene(1).await?;
    let mut client = Client::connect(&scene.network).await?;
    let running = client
        .submit(MODEL, endless("Tell a story.", 8_000))
        .await?;
    let queued = async |wanted: u64| {
        until(&format!("{wanted} waiting"), || async {
            let model = scene.network.api()?.model(MODEL).await?;
            Ok((model["queued"] == wanted).then_some(()))
        })
        .await
    };
    for stream in [true, false] {
        let request = scene.network.api()?.chat(&body(stream));
        let request = tokio::spawn(async move { request.send().await.map(drop) });
        queued(1).await?;
        request.abort();
        queued(0).await?;
    }
    client.cancel(running).await?;
    scene.network.free_slots(1).await?;
    // Neither reached the node.
    let assigned = |passed: &&Passed| matches!(passed, Passed::ToNode(RelayToNode::Assign { .. }));
    assert_eq!(scene.tap.passed().iter().filter(assigned).count(), 1);
    Ok(())
}

#[tokio::test]
async fn any_other_end_of_the_socket_starts_a_grace_period_and_then_stops_the_node() -> Result<()> {
    let scene = scene(1).await?;
    let mut client = Client::connect(&scene.network).await?;
    client
        .submit(MODEL, endless("Tell a story.", 4_000))
        .await?;
    client
        .wait_for("text", |_, event| {
            matches!(event, Event::Delta { .. }).then_some(())
        })
        .await?;
    drop(client);
    let gone = scene.tap.passed().len();
    // The job goes on without its client for a while …
    let mut from = gone;
    for _ in 0..20 {
        from = scene
            .tap
            .position("the job goes on", from, is_tokens)
            .await?
            + 1;
    }
    assert!(!scene.tap.passed()[..from].iter().any(is_cancel));
    // … and then no longer.
    within("the grace period's end", scene.expect_stopped(gone)).await
}
