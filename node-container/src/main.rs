//! `rig`: reads its settings, starts the log and hands over to the shell, or to another task that its first word names.

use std::env::ArgsOs;
use std::ffi::OsString;
use std::iter::{Chain, Once, once};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, FromArgMatches as _};
use node_container::config::Config;
use node_container::operating::doctor;
use node_container::{bench, health, log, logits, models, perplexity, shell};

/// The task's own name, as its help shows it, and its flags.
type Arguments = Chain<Once<OsString>, ArgsOs>;

/// What `rig` does instead of running a node. These are no subcommands of clap's: each reads its own flags and
/// environment only, so that a setting of the node's that is wrong does not keep `rig doctor` from saying so.
struct Task {
    /// The first word.
    word: &'static str,
    /// For `rig --help`; what is for the project's own tests has none.
    about: Option<&'static str>,
    /// Whether it logs; the others' output is their result.
    has_log: bool,
    run: fn(Arguments) -> ExitCode,
}

const TASKS: [Task; 6] = [
    Task {
        word: models::COMMAND,
        about: Some("Lists the catalog's models, and which of them fit this machine"),
        has_log: true,
        run: models::run,
    },
    Task {
        word: doctor::COMMAND,
        about: Some(
            "Looks at GPU, memory, disk, relay and key, and says how to mend what is wrong",
        ),
        has_log: false,
        run: doctor::run,
    },
    Task {
        word: health::COMMAND,
        about: Some("Asks the rig that runs here how it is"),
        has_log: false,
        run: health::run,
    },
    Task {
        word: bench::COMMAND,
        about: Some("Measures how fast a model runs here"),
        has_log: true,
        run: bench::run,
    },
    Task {
        word: perplexity::COMMAND,
        about: None,
        has_log: true,
        run: perplexity::run,
    },
    Task {
        word: logits::COMMAND,
        about: None,
        has_log: true,
        run: logits::run,
    },
];

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let first = arguments.nth(1);
    let is_named = |task: &&Task| first.as_deref().is_some_and(|first| first == task.word);
    let Some(task) = TASKS.iter().find(is_named) else {
        return run_node();
    };
    if task.has_log {
        log::start();
    }
    let name = OsString::from(format!("rig {}", task.word));
    (task.run)(once(name).chain(arguments))
}

fn run_node() -> ExitCode {
    let mut command = Config::command().after_help(tasks());
    match settings(&mut command) {
        Ok(config) => {
            log::start();
            shell::run(&config)
        }
        // Help and the version were asked for.
        Err(told) if !told.use_stderr() => told.exit(),
        Err(wrong) => {
            // Who closes that end does not want to know.
            drop(wrong.print());
            log::start();
            shell::settings_are_wrong(&wrong.to_string())
        }
    }
}

fn settings(command: &mut clap::Command) -> Result<Config, clap::Error> {
    let config = Config::from_arg_matches(&command.try_get_matches_from_mut(std::env::args_os())?)
        .map_err(|error| error.format(command))?;
    match config.check() {
        Ok(()) => Ok(config),
        Err(message) => Err(command.error(ErrorKind::ValueValidation, message)),
    }
}

/// The end of the help text.
fn tasks() -> String {
    let told = TASKS
        .iter()
        .filter_map(|task| Some(format!("\n  rig {:<7} {}", task.word, task.about?)));
    told.fold(
        "What else it does (each has a --help of its own):".to_owned(),
        |text, line| text + &line,
    )
}
