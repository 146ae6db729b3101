//! From nothing to an engine that has answered: the model's files, the model, the self-test. A signal ends each of them.

use std::thread::JoinHandle;

use anyhow::Context as _;
use protocol::MeasuredSpeed;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::Signals;
use crate::config::Config;
use crate::engine::llama::{self, LlamaOptions, Loaded, Spawned};
use crate::engine::{Command, EngineEvent};
use crate::models::{self, Chosen};
use crate::operating::board::{Board, State};
use crate::operating::selftest;

/// How far it came.
pub(super) enum Started {
    /// The engine answers.
    Ready(Engine),
    /// The engine failed its self-test, which is logged.
    Broken,
    /// A signal came first. What was begun may still go on, on threads of its own: fetching can be cut short anywhere,
    /// and so can llama.cpp's loading, but only by the process's end.
    Stopped,
}

/// An engine that has answered once.
pub(super) struct Engine {
    /// What it runs.
    pub(super) chosen: Chosen,
    /// What became of that.
    pub(super) loaded: Loaded,
    /// How fast its one answer was.
    pub(super) measured: Option<MeasuredSpeed>,
    /// Tells it what to do.
    pub(super) commands: UnboundedSender<Command>,
    /// What it says.
    pub(super) events: UnboundedReceiver<EngineEvent>,
    /// Its thread.
    pub(super) thread: JoinHandle<()>,
}

/// Starts the engine that these settings want, unless a signal comes first.
pub(super) async fn start(
    config: &Config,
    board: &Board,
    signals: &mut Signals,
) -> anyhow::Result<Started> {
    tokio::select! {
        started = begin(config, board) => started,
        () = signals.next() => {
            tracing::info!(
                "stopped while {}: the relay has not heard of this rig, and what was fetched is kept",
                board.state().word(),
            );
            Ok(Started::Stopped)
        }
    }
}

async fn begin(config: &Config, board: &Board) -> anyhow::Result<Started> {
    let chosen = models::choose(config, board).await?;
    tracing::info!(file = %chosen.weights.display(), "loading the model");
    board.set_state(State::Loading);
    let options = llama_options(config, &chosen)?;
    let (event_sender, mut events) = unbounded_channel();
    let Spawned {
        loaded,
        commands,
        thread,
    } = tokio::task::spawn_blocking(move || llama::spawn(options, event_sender))
        .await
        .context("what loads the model panicked")??;
    say_loaded(&chosen, config, &loaded);
    Ok(match tested(&commands, &mut events, &loaded).await {
        Ok(measured) => Started::Ready(Engine {
            chosen,
            loaded,
            measured,
            commands,
            events,
            thread,
        }),
        Err(error) => {
            tracing::error!("{error}");
            Started::Broken
        }
    })
}

/// What the engine is to load.
fn llama_options(config: &Config, chosen: &Chosen) -> anyhow::Result<LlamaOptions> {
    Ok(LlamaOptions {
        slots: config.slots,
        context_tokens: config.context,
        threads: config.threads,
        prompt_batch: config.batch,
        cache_type: config.cache_type,
        cached_conversations: config.cached_conversations(),
        projector_file: chosen.projector.clone(),
        chat_template: config.read_chat_template()?,
        embeddings: config.embeddings,
        ..LlamaOptions::new(chosen.weights.clone())
    })
}

fn say_loaded(chosen: &Chosen, config: &Config, loaded: &Loaded) {
    tracing::info!(
        model = chosen.id,
        mib = loaded.model_bytes >> 20,
        context = loaded.context_tokens,
        slots = config.slots,
        threads = loaded.tuned.threads,
        prompt_batch = loaded.tuned.prompt_batch.alone,
        prompt_batch_beside = loaded.tuned.prompt_batch.beside,
        devices = loaded.devices.join(", "),
        "model loaded"
    );
}

/// Lets the engine answer once, before anybody depends on it.
async fn tested(
    commands: &UnboundedSender<Command>,
    events: &mut UnboundedReceiver<EngineEvent>,
    loaded: &Loaded,
) -> Result<Option<MeasuredSpeed>, selftest::SelfTestError> {
    let measured = selftest::run(commands, events, selftest::request(loaded)).await?;
    if let Some(speed) = measured {
        tracing::info!(
            prefill = speed.prefill_tokens_per_second,
            decode = speed.decode_tokens_per_second,
            "self-test passed (tokens per second)"
        );
    }
    Ok(measured)
}
