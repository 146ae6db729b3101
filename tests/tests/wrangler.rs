//! Cloudflare's own tool, with the same `wrangler.toml`: a dry run of the deployment, and a chat under `wrangler dev`.

use anyhow::{Context, Result, ensure};
use tests::{Traces, run, xtask};

/// The most that the Worker may weigh, gzipped.
const GZIP_KIB_MAX: f64 = 1_024.0;

#[tokio::test]
async fn a_dry_run_of_the_deployment_succeeds_and_the_worker_is_light() -> Result<()> {
    let output = tempfile_folder()?;
    let mut command = xtask(&["wrangler", "deploy", "--dry-run", "--outdir"])?;
    let result = run(command.arg(&output)).await?;
    result.expect_success("wrangler deploy --dry-run")?;
    let text = format!("{}\n{}", result.stdout, result.stderr);
    let gzip = text
        .split_once("gzip: ")
        .and_then(|(_, rest)| rest.split_once(" KiB"))
        .with_context(|| format!("no size in\n{text}"))?
        .0;
    let kib: f64 = gzip.trim().parse()?;
    ensure!(kib <= GZIP_KIB_MAX, "{kib} KiB gzipped");
    // Both bindings that the relay needs are in what would be deployed.
    assert!(text.contains("POOL"), "{text}");
    assert!(text.contains("ASSETS"), "{text}");
    std::fs::remove_dir_all(&output)?;
    Ok(())
}

#[tokio::test]
async fn the_demo_runs_under_wrangler_dev_too() -> Result<()> {
    let traces = Traces::new()?;
    let mut command = xtask(&["demo", "--port", "0", "--via", "wrangler", "--prompt"])?;
    command.arg("Say hello.");
    let output = run(traces.mark(&mut command)).await?;
    output.expect_success("demo --via wrangler --prompt")?;
    assert!(output.stdout.trim().len() > 1, "{output:?}");
    traces.expect_none_left()
}

fn tempfile_folder() -> Result<std::path::PathBuf> {
    let folder = std::env::temp_dir().join(format!("heliograph-dry-run-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}
