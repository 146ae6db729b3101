//! `simulate`: the whole network in one thread, on virtual time. The simulator is a program of its own crate, always
//! optimized; what it takes is told by `cargo xtask simulate --help`.

use anyhow::{Result, bail};

use crate::artefacts::cargo_with;
use crate::clones::claim;
use crate::places::Places;
use crate::process::{guarded, run_openly};

/// Builds the simulator and runs it with these arguments.
pub(crate) fn run(places: &Places, arguments: &[String]) -> Result<()> {
    let claimed = claim(places)?;
    run_openly(cargo_with(places, "build").args(["--quiet", "--release", "-p", "simulator"]))?;
    drop(claimed);
    let program = places.target.join("release/simulator");
    if run_openly(guarded(&program).args(arguments)).is_err() {
        bail!("not everything held; it is written above");
    }
    Ok(())
}
