//! `cargo xtask demo`: one command, and nothing left behind however it ends.

use anyhow::Result;
use tests::{Client, MODEL, Network, Traces, ask, run, xtask};

#[tokio::test]
async fn a_prompt_on_the_command_line_prints_an_answer_and_leaves_no_process() -> Result<()> {
    let traces = Traces::new()?;
    let mut command = xtask(&["demo", "--port", "0", "--prompt"])?;
    command.arg("Name three primary colours.");
    let output = run(traces.mark(&mut command)).await?;
    output.expect_success("demo --prompt")?;
    // The answer and nothing else; progress goes to standard error.
    assert!(output.stdout.trim().len() > 10, "{output:?}");
    assert!(!output.stdout.contains("127.0.0.1"), "{output:?}");
    traces.expect_none_left()
}

#[tokio::test]
async fn several_rigs_serve_and_a_signal_ends_everything() -> Result<()> {
    let network = Network::start(&["--rigs", "2", "--slots", "1"]).await?;
    network.free_slots(2).await?;
    let names: Vec<&str> = network.ready.pids.keys().map(String::as_str).collect();
    assert_eq!(names, ["relay", "rig-1", "rig-2"]);
    let mut client = Client::connect(&network).await?;
    client.chat(MODEL, ask("Say hello.", 8)).await?;
    let folders = [network.ready.persist.clone(), network.ready.logs.clone()];
    network.end()?;
    // What the run wrote went with it.
    assert!(folders.iter().all(|folder| !folder.exists()));
    Ok(())
}

#[tokio::test]
async fn killing_the_command_leaves_no_process_either() -> Result<()> {
    let network = Network::with_rig().await?;
    let run_folder = network
        .ready
        .logs
        .parent()
        .map(std::path::Path::to_path_buf);
    network.kill()?;
    // Nobody was left to remove it; the next run would.
    if let Some(folder) = run_folder.filter(|folder| folder.exists()) {
        std::fs::remove_dir_all(folder)?;
    }
    Ok(())
}

#[tokio::test]
async fn an_unusable_port_is_said_and_nothing_is_left() -> Result<()> {
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port().to_string();
    let traces = Traces::new()?;
    let output = run(traces.mark(&mut xtask(&["demo", "--port", &port])?)).await?;
    assert!(!output.status.success());
    assert!(output.stderr.contains(&port), "{output:?}");
    traces.expect_none_left()
}
