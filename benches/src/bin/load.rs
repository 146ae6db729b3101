//! Users under a clock: prints one line of JSON.

use std::io::Write as _;

use anyhow::Result;
use benches::load::Load;
use clap::Parser;

#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    load: Load,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let run = Arguments::parse().load.run().await?;
    writeln!(std::io::stdout(), "{}", run.figures())?;
    Ok(())
}
