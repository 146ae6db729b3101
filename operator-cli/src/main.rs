//! `heliograph`: one command for who runs nodes. Reads the arguments and hands over; what it knows about running rigs is
//! in Docker, as labels, and nowhere else.

mod chat;
mod clean;
mod cli;
mod doctor;
mod down;
mod engine;
#[cfg(test)]
mod fake;
mod gpu;
mod health;
mod image;
mod login;
mod logs;
mod native;
mod plan;
mod progress;
mod ps;
mod rigs;
mod secret;
mod settings;
mod stats;
mod up;
mod update;
mod voice;

use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory as _, Parser as _};

use cli::{Arguments, Command};
use settings::Settings;
use voice::Voice;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return misused(&error),
    };
    let voice = Voice::new(arguments.json);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(run(arguments, voice));
            // A thread that reads the terminal cannot be asked to stop.
            runtime.shutdown_background();
            result
        }
        Err(error) => Err(error.into()),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            voice.error(&error);
            if error.is::<update::Stopped>() {
                ExitCode::from(voice::STOPPED)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// Help and versions are text; what is wrong with the arguments is JSON where that was asked for.
fn misused(error: &clap::Error) -> ExitCode {
    let wants_json = std::env::args_os()
        .skip(1)
        .take_while(|word| word != "--")
        .any(|word| word == "--json");
    if error.use_stderr() && wants_json {
        let text = error.render().to_string();
        let text = text.trim_start_matches("error: ").trim_end();
        Voice::new(true).error(&anyhow::anyhow!(text.to_owned()));
    } else {
        // Standard output or error may be closed; there is nobody to tell then.
        _ = error.print();
    }
    u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
}

async fn run(arguments: Arguments, voice: Voice) -> Result<ExitCode> {
    let settings = || Settings::read(arguments.config.as_deref());
    let done = |()| ExitCode::SUCCESS;
    match arguments.command {
        Command::Up(up) => match up {
            cli::Up::Rig(options) => up::rig(voice, &settings()?, *options).await.map(done),
            cli::Up::Render => up::render(),
        },
        Command::Ps => ps::run(voice).await.map(done),
        Command::Logs(options) => logs::run(voice, &options).await.map(done),
        Command::Stats(options) => stats::run(voice, &options).await.map(done),
        Command::Drain(options) => down::drain(voice, &options).await.map(done),
        Command::Down(options) => down::down(voice, &options).await.map(done),
        Command::Update(options) => Box::pin(update::run(voice, &options)).await,
        Command::Doctor(options) => doctor::run(voice, &settings()?, options).await,
        Command::Chat(options) => chat::run(voice, &settings()?, options).await,
        Command::Completions { shell } => {
            let mut command = Arguments::command();
            clap_complete::generate(shell, &mut command, "heliograph", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
    }
}
