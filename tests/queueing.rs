//! Slots and the queue: who runs at once, who waits, what a waiting user is told.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test looks for one event among others"
)]

use anyhow::Result;
use client_session::Event;
use futures_util::future::try_join;
use protocol::{ErrorCode, FinishReason, JobId};
use tests::{Client, MODEL, Network, OTHER_MODEL, Passed, Rig, Tap, ask, endless};

/// Tokens of the jobs that are watched to their end.
const TOKENS: u32 = 48;

#[tokio::test]
async fn two_chats_interleave_on_one_node_and_a_third_waits_for_a_slot() -> Result<()> {
    let network = Network::relay_only().await?;
    let tap = Tap::start(&network).await?;
    let _rig = Rig::start_at(&network, &tap.url, "rig", 2)?;
    network.free_slots(2).await?;
    let mut client = Client::connect(&network).await?;

    let short = client
        .submit(MODEL, endless("Tell a story.", TOKENS))
        .await?;
    let long = client
        .submit(MODEL, endless("Count upwards.", 4_000))
        .await?;
    let third = client
        .submit(MODEL, endless("Tell a joke.", TOKENS))
        .await?;

    // The third is told its place while the others run.
    let place = client
        .wait_for("the third job's place", |job, event| match event {
            Event::Queued {
                model,
                position,
                nodes,
                ..
            } if job == third => Some((model.clone(), *position, *nodes)),
            _ => None,
        })
        .await?;
    assert_eq!(place, (MODEL.to_owned(), 1, 1));

    // It runs as soon as the first has made room, while the second goes on.
    let mut order = Vec::new();
    client
        .wait_for("the third job's end", |job, event| {
            match event {
                Event::Assigned { .. } if job == third => order.push("third assigned"),
                Event::Completed {
                    finish_reason,
                    usage,
                    ..
                } => {
                    assert_eq!(*finish_reason, FinishReason::Length);
                    assert_eq!(usage.completion_tokens, TOKENS);
                    order.push(if job == short {
                        "short done"
                    } else {
                        "third done"
                    });
                }
                _ => {}
            }
            (job == third && matches!(event, Event::Completed { .. })).then_some(())
        })
        .await?;
    assert_eq!(order, ["short done", "third assigned", "third done"]);
    client.cancel(long).await?;

    // The node decoded both in the same steps: whole chats did not follow one another.
    let shared = tap
        .passed()
        .iter()
        .filter(|passed| matches!(passed, Passed::Tokens(entries) if entries.len() == 2))
        .count();
    assert!(shared >= 10, "{shared} steps were shared");
    network.free_slots(2).await
}

#[tokio::test]
async fn two_clients_see_their_answers_grow_at_the_same_time() -> Result<()> {
    let network = Network::with_rig().await?;
    let mut one = Client::connect(&network).await?;
    let mut two = Client::connect(&network).await?;
    let first = one.submit(MODEL, endless("Tell a story.", 200)).await?;
    let second = two.submit(MODEL, endless("Count upwards.", 200)).await?;
    // Each has text before either is done.
    let grown = |of: JobId| {
        move |job: JobId, event: &Event| {
            assert!(!matches!(event, Event::Completed { .. }));
            (job == of && matches!(event, Event::Delta { .. })).then_some(())
        }
    };
    try_join(
        one.wait_for("text for the first", grown(first)),
        two.wait_for("text for the second", grown(second)),
    )
    .await?;
    let (first, second) = try_join(one.answer(first), two.answer(second)).await?;
    assert_eq!(first.usage.completion_tokens, 200);
    assert_eq!(second.usage.completion_tokens, 200);
    assert_ne!(first.text, second.text);
    Ok(())
}

#[tokio::test]
async fn without_a_node_the_user_waits_with_a_place_until_a_rig_joins() -> Result<()> {
    let network = Network::relay_only().await?;
    let mut client = Client::connect(&network).await?;
    let first = client.submit(MODEL, ask("Say hello.", 8)).await?;
    let second = client.submit(MODEL, ask("Say goodbye.", 8)).await?;
    for (job, place) in [(first, 1), (second, 2)] {
        let told = client
            .wait_for("a place", |of, event| match event {
                Event::Queued {
                    position, nodes, ..
                } if of == job => Some((*position, *nodes)),
                _ => None,
            })
            .await?;
        assert_eq!(told, (place, 0));
    }
    // An HTTP client waits in the same line; its headers have not gone out yet.
    let body = serde_json::json!({
        "model": MODEL,
        "max_tokens": 8,
        "messages": [{"role": "user", "content": "Say hello."}],
    });
    let api = network.api()?;
    let http = tokio::spawn(async move { api.answer(&body).await });
    tests::until("three waiting jobs", || async {
        let model = network.api()?.model(MODEL).await?;
        Ok((model["queued"] == 3).then_some(()))
    })
    .await?;

    let _rig = Rig::start(&network, "late", 1)?;
    let mut done = Vec::new();
    client
        .wait_for("both answers", |job, event| {
            if matches!(event, Event::Completed { .. }) {
                done.push(job);
            }
            (done.len() == 2).then_some(())
        })
        .await?;
    // One slot, first come first served.
    assert_eq!(done, [first, second]);
    let answer = http.await??;
    assert_eq!(answer["choices"][0]["message"]["role"], "assistant");
    network.free_slots(1).await
}

#[tokio::test]
async fn what_nothing_can_serve_is_refused_at_once() -> Result<()> {
    let network = Network::with_rig().await?;
    let mut client = Client::connect(&network).await?;
    let refusal = |of: JobId| {
        move |job: JobId, event: &Event| match event {
            Event::Failed(failure) if job == of => Some(failure.clone()),
            other => panic!("{other:?} instead of a refusal"),
        }
    };
    let job = client.submit("gpt-unknown", ask("Hello?", 8)).await?;
    let failure = client.wait_for("a refusal", refusal(job)).await?;
    assert_eq!(failure.code, ErrorCode::UnknownModel);
    assert_eq!(failure.param.as_deref(), Some("model"));

    // Longer than the context that the catalog promises: no node could ever take it.
    let long = "word ".repeat(9_000);
    let job = client.submit(MODEL, ask(&long, 8)).await?;
    let failure = client
        .wait_for("a refusal for length", |of, event| match event {
            Event::Failed(failure) if of == job => Some(failure.clone()),
            Event::Started { .. } | Event::Delta { .. } | Event::Completed { .. } => {
                panic!("{event:?}")
            }
            _ => None,
        })
        .await?;
    assert_eq!(failure.code, ErrorCode::ContextLengthExceeded);

    // A model of the catalog that no node offers now is another matter: a node may join.
    let job = client.submit(OTHER_MODEL, ask("Hello?", 8)).await?;
    client
        .wait_for("a place", |of, event| {
            (of == job && matches!(event, Event::Queued { nodes: 0, .. })).then_some(())
        })
        .await?;
    client.cancel(job).await
}
