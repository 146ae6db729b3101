//! `rig`: reads its settings, starts the log and hands over to the shell.

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};
use node_container::config::Config;
use node_container::{log, shell};

fn main() -> ExitCode {
    let config = Config::parse();
    if let Err(message) = config.check() {
        Config::command()
            .error(ErrorKind::ValueValidation, message)
            .exit();
    }
    log::start();
    shell::run(&config)
}
