//! The flags that say what becomes of a rig that cannot go on.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// What [`OnFailure`] is called in the environment. Read by hand where the flags cannot be.
pub const ON_FAILURE: &str = "HELIOGRAPH_ON_FAILURE";

/// What becomes of a rig that cannot go on.
#[derive(Debug, Clone, Args)]
pub struct FailureFlags {
    /// What to do where it cannot go on.
    #[arg(
        long,
        env = ON_FAILURE,
        value_name = "WHAT",
        value_enum,
        default_value = "end"
    )]
    pub on_failure: OnFailure,

    /// Whether it may run without a graphics card.
    #[arg(
        long,
        env = "HELIOGRAPH_GPU",
        value_name = "WHETHER",
        value_enum,
        default_value = "auto"
    )]
    pub gpu: GpuNeed,

    /// For tests: while there is a file at this path, no step of the engine's succeeds, as after a card's loss.
    #[arg(long, hide = true, value_name = "PATH")]
    pub break_while: Option<PathBuf>,
}

/// What a rig does that cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnFailure {
    /// It ends, with a code that says why; for whoever starts it by hand, or has something that decides by the code.
    End,
    /// It stays and says why on /healthz: until it is stopped where only a person can mend it, for a quarter of an hour
    /// where its relay refuses it, else for five minutes.
    /// For whatever starts it again at once, as Docker does.
    Stay,
}

impl OnFailure {
    /// What the environment says, whatever else is wrong with the settings.
    pub fn of_environment() -> Self {
        match std::env::var(ON_FAILURE) {
            Ok(word) if word.trim() == "stay" => Self::Stay,
            Ok(_) | Err(_) => Self::End,
        }
    }
}

/// Whether a rig needs a graphics card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GpuNeed {
    /// It takes what there is.
    Auto,
    /// Without one it does not run.
    Required,
}
