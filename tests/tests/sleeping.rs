//! An idle pool sleeps: the runtime drops the object and keeps its sockets. Nobody may notice.
//!
//! Silence is what is tested here, so these tests wait for time: longer than the 10 s after which the runtime drops an
//! object without a timer. How long exactly does not matter to what they check.

use std::time::Duration;

use anyhow::Result;
use client_session::Event;
use tests::{Client, MODEL, Network, Rig, ask};

/// Longer than any object without a timer lives.
const SILENCE: Duration = Duration::from_secs(14);

#[tokio::test]
async fn a_job_that_waits_in_silence_is_still_there_when_a_rig_joins() -> Result<()> {
    let network = Network::relay_only().await?;
    let mut client = Client::connect(&network).await?;
    let job = client.submit(MODEL, ask("Say hello.", 8)).await?;
    client
        .wait_for("a place", |_, event| {
            matches!(event, Event::Queued { .. }).then_some(())
        })
        .await?;
    tokio::time::sleep(SILENCE).await;
    let _rig = Rig::start(&network, "late", 1)?;
    assert!(!client.answer(job).await?.text.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_client_and_a_rig_that_were_silent_for_long_still_chat() -> Result<()> {
    let network = Network::with_rig().await?;
    network.free_slots(2).await?;
    let mut client = Client::connect(&network).await?;
    tokio::time::sleep(SILENCE).await;
    let job = client.submit(MODEL, ask("Say hello.", 8)).await?;
    assert!(!client.answer(job).await?.text.is_empty());
    Ok(())
}
