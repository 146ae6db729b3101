//! An idle pool sleeps: the runtime drops the object and keeps its sockets. Nobody may notice.
//!
//! Silence is what is tested here, so these tests wait for time: longer than the 10 s after which the runtime drops an
//! object without a timer. How long exactly does not matter to what they check.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test looks for one thing among others"
)]

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use client_session::Event;
use protocol::{ClientToRelay, JobId, RelayToClient};
use tests::{Client, Incoming, MODEL, Network, RawSocket, Rig, ask};

/// Longer than any object without a timer lives.
const SILENCE: Duration = Duration::from_secs(14);

/// Longer than the timer for the rig's `hello` (5 s) and any object without one after it.
const EVICTION: Duration = Duration::from_secs(24);

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

#[tokio::test]
async fn a_pool_with_a_hundred_silent_sockets_is_evicted_and_wakes_with_all_of_them() -> Result<()>
{
    const SOCKETS: u8 = 100;
    let network = Network::with_faults().await?;
    let _rig = Rig::start(&network, "silent", 2)?;
    network.free_slots(2).await?;
    let mut sockets = Vec::new();
    for _ in 0..SOCKETS {
        sockets.push(RawSocket::client(&network).await?);
    }
    let before = network.pool_since().await?;
    tokio::time::sleep(EVICTION).await;
    // The first word after the silence comes by one of the old sockets: no request may wake the pool for it.
    for (number, socket) in (0..SOCKETS).zip(&mut sockets) {
        let job = JobId::from_random([number; 16]);
        if number % 33 == 0 {
            socket.submit(job, MODEL, ask("Say hello.", 4)).await?;
            completed(socket, job).await?;
        } else {
            // Answered by the pool, which knows this socket's account: a stranger would be closed.
            socket.say(&ClientToRelay::Cancel { job }).await?;
        }
    }
    ensure!(
        before != network.pool_since().await?,
        "the pool did not sleep"
    );
    let model = network.api()?.model(MODEL).await?;
    ensure!(model.get("slots").context("no slots")? == 2, "{model}");
    for socket in &mut sockets {
        socket.text(protocol::PING).await?;
        loop {
            match socket.next().await? {
                Incoming::Closed(code) => bail!("closed with {code}"),
                Incoming::Text(text) if text == protocol::PONG => break,
                Incoming::Text(_) | Incoming::Binary(_) => {}
            }
        }
    }
    Ok(())
}

async fn completed(socket: &mut RawSocket, job: JobId) -> Result<()> {
    let failure = socket
        .wait_for(
            "the end of an answer",
            |message: &RelayToClient| match message {
                RelayToClient::Completed { job: of, .. } if *of == job => Some(None),
                RelayToClient::Failed { job: of, failure } if *of == job => {
                    Some(Some(failure.clone()))
                }
                _ => None,
            },
        )
        .await?;
    match failure {
        None => Ok(()),
        Some(failure) => bail!("{failure:?}"),
    }
}
