//! `heliograph`: one command for who runs nodes. Reads the arguments and hands over; what it knows about running rigs is
//! in Docker, as labels, and nowhere else.

mod chat;
mod cli;
mod doctor;
mod down;
mod engine;
mod gpu;
mod health;
mod image;
mod logs;
mod native;
mod plan;
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
    let arguments = Arguments::parse();
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
            ExitCode::FAILURE
        }
    }
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
        Command::Update(options) => Box::pin(update::run(voice, &options)).await.map(done),
        Command::Doctor(options) => doctor::run(voice, &settings()?, options).await,
        Command::Chat(options) => chat::run(voice, &settings()?, options).await.map(done),
        Command::Completions { shell } => {
            let mut command = Arguments::command();
            clap_complete::generate(shell, &mut command, "heliograph", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
    }
}
