//! One chat message, all the way: client, relay, rig, model, and back, token by token. The test to read first.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test looks for one event among others"
)]

use anyhow::Result;
use client_session::Event;
use protocol::{FinishReason, NodeClass};
use tests::{Client, MODEL, Network, Rig, ask};

#[tokio::test]
async fn a_prompt_travels_to_the_rig_and_its_answer_streams_back() -> Result<()> {
    let network = Network::relay_only().await?;
    let rig = Rig::start(&network, "rig-of-the-test", 2)?;
    network.free_slots(2).await?;
    let mut client = Client::connect(&network).await?;

    let job = client
        .submit(MODEL, ask("Name three primary colours.", 64))
        .await?;

    // A node has it.
    let node = client
        .wait_for("assigned", |_, event| match event {
            Event::Assigned { model, node, class } => {
                assert_eq!(model, MODEL);
                assert_eq!(*class, NodeClass::Rig);
                Some(node.clone())
            }
            other => panic!("{other:?} before assigned"),
        })
        .await?;
    assert_eq!(node, "rig-of-the-test");

    // It has read the prompt, which fits.
    let prompt_tokens = client
        .wait_for("started", |_, event| match event {
            Event::Started {
                prompt_tokens,
                context_tokens,
            } => {
                assert!(prompt_tokens < context_tokens);
                Some(*prompt_tokens)
            }
            other => panic!("{other:?} before started"),
        })
        .await?;

    // The answer grows piece by piece, then it is whole.
    let answer = client.answer(job).await?;
    assert!(answer.pieces >= 5, "{answer:?}");
    assert!(!answer.text.trim().is_empty());
    assert!(matches!(
        answer.finish_reason,
        FinishReason::Stop | FinishReason::Length
    ));
    assert_eq!(answer.usage.prompt_tokens, prompt_tokens);
    assert!(answer.usage.completion_tokens >= 5);
    assert!(answer.usage.completion_tokens <= 64);
    assert!(answer.speed.decode_tokens_per_second > 0.0);

    // One log line per hop carries the job's id, and none its content.
    rig.says(&[&format!("job={job}")]).await?;
    network.free_slots(2).await?;
    assert!(rig.drain().await?.success());
    network.free_slots(0).await?;
    network.end()
}

#[tokio::test]
async fn a_tier_stands_for_a_model_that_serves_it() -> Result<()> {
    let network = Network::with_rig().await?;
    let mut client = Client::connect(&network).await?;
    let answer = client.chat("demo", ask("Say hello.", 8)).await?;
    assert!(!answer.text.is_empty());
    // A conversation goes on in the same connection.
    let again = client.chat("demo", ask("Say hello.", 8)).await?;
    assert_eq!(answer.text, again.text);
    Ok(())
}
