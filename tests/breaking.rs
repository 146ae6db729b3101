//! Parts that die in mid-answer, a few times each; `cargo xtask soak` does the same at length. Real rigs with the real
//! model; users come by WebSocket and with the official `openai` package. What each user ends up with is compared, byte
//! for byte, with what the rigs log of what they produced.

use anyhow::{Context, Result, ensure};
use tests::soak::{case_named, run};

/// Different moments on every run would make a failure hard to see again.
const SEED: u64 = 7;

async fn a_few_times(name: &str, kills: u32) -> Result<()> {
    let case = case_named(name).context("no such case")?;
    let report = run(case, kills, SEED, |_| ()).await?;
    ensure!(report.faults.is_empty(), "{}", report.text());
    ensure!(report.kills == kills, "{}", report.text());
    Ok(())
}

#[tokio::test]
async fn the_text_is_not_doubled_when_a_rig_is_killed_in_mid_answer() -> Result<()> {
    a_few_times("rig-killed", 2).await
}

#[tokio::test]
async fn a_rig_that_is_stopped_loses_its_job_and_is_fenced_when_it_goes_on() -> Result<()> {
    a_few_times("rig-stopped", 2).await
}

#[tokio::test]
async fn an_answer_outlives_the_relay() -> Result<()> {
    a_few_times("relay-killed", 2).await
}

#[tokio::test]
async fn an_answer_outlives_its_clients_connection() -> Result<()> {
    a_few_times("client-cut", 2).await
}

#[tokio::test]
async fn the_openai_package_sees_every_byte_once_though_the_pool_dies() -> Result<()> {
    a_few_times("pool-aborted", 2).await
}

#[tokio::test]
async fn an_answer_outlives_its_rig_and_the_relay_together() -> Result<()> {
    a_few_times("both-killed", 2).await
}

#[tokio::test]
async fn the_openai_package_sees_every_byte_once_though_rig_and_pool_die_together() -> Result<()> {
    a_few_times("rig-and-pool", 2).await
}

#[tokio::test]
async fn json_that_another_rig_goes_on_with_fits_its_schema() -> Result<()> {
    a_few_times("schema", 2).await
}

#[tokio::test]
async fn a_stop_string_is_honoured_across_two_rigs() -> Result<()> {
    a_few_times("stop", 2).await
}

#[tokio::test]
async fn characters_of_many_tokens_stay_whole_across_two_rigs() -> Result<()> {
    a_few_times("emoji", 2).await
}
