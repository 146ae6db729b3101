//! `rig`: reads its settings, starts the log and hands over to the shell.

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};
use node_container::config::Config;
use node_container::operating::doctor;
use node_container::{bench, health, log, models, perplexity, shell};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).peekable();
    if arguments
        .next_if(|first| first == perplexity::COMMAND)
        .is_some()
    {
        log::start();
        return perplexity::run(arguments);
    }
    if arguments.next_if(|first| first == bench::COMMAND).is_some() {
        log::start();
        return bench::run(arguments);
    }
    if arguments
        .next_if(|first| first == health::COMMAND)
        .is_some()
    {
        return health::run(arguments);
    }
    if arguments
        .next_if(|first| first == models::COMMAND)
        .is_some()
    {
        log::start();
        return models::run(arguments);
    }
    if arguments
        .next_if(|first| first == doctor::COMMAND)
        .is_some()
    {
        return doctor::run(arguments);
    }
    let config = Config::parse();
    if let Err(message) = config.check() {
        Config::command()
            .error(ErrorKind::ValueValidation, message)
            .exit();
    }
    log::start();
    shell::run(&config)
}
