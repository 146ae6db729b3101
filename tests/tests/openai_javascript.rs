//! The official `openai` package for JavaScript, unmodified, against the demo. The cases are in `js/openai_suite.mjs`.

use anyhow::Result;
use tests::{MODEL, Network, Tools, run};

#[tokio::test]
async fn the_official_javascript_package_works_unmodified() -> Result<()> {
    let network = Network::with_rig().await?;
    let mut command = Tools::find()?.node("js/openai_suite.mjs");
    command
        .env("HELIOGRAPH_BASE_URL", &network.ready.relay)
        .env("HELIOGRAPH_API_KEY", &network.ready.api_key)
        .env("HELIOGRAPH_MODEL", MODEL);
    run(&mut command)
        .await?
        .expect_success("openai_suite.mjs")?;
    // Whatever the suite asked for has ended.
    network.free_slots(2).await
}
