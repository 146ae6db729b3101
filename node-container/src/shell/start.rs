//! From nothing to an engine that has answered: the model's files, the model, the self-test. A signal ends each of them.

use std::thread::JoinHandle;

use std::time::Duration;

use anyhow::Context as _;
use protocol::{CloseCode, MeasuredSpeed};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

use super::failure::Failure;
use super::socket::{self, Socket};
use super::{Signals, marker::Marker};
use crate::config::{Config, GpuNeed, OnFailure};
use crate::engine::llama::{self, LlamaOptions, Loaded, Spawned};
use crate::engine::{Command, EngineEvent};
use crate::models::{self, Chosen};
use crate::operating::board::{Board, State};
use crate::operating::{machine, selftest};

/// How long the relay may take to say whether it takes the key, before anything is fetched or loaded. One that is slower, or
/// not there, is asked again once the model is loaded.
const ASK_TIME_MAX: Duration = Duration::from_secs(5);

/// How long a rig waits that died in mid-work. Docker starts it again at once, and what killed it (a card that was lost, the
/// memory of the machine) is mostly still as it was; a card's driver takes seconds to reset it.
const AFTER_DEATH: Duration = Duration::from_mins(1);

/// So many deaths in a row, none of them of a rig that had been ready, are no accident: mostly the model is too large for
/// this machine's memory, or a driver dies of it.
const DEATHS_MAX: u32 = 3;

/// The pause after so many. A load reads up to tens of gigabytes, in minutes: one in a quarter of an hour leaves the machine
/// to others for most of it. It doubles with each further death.
const DEATHS_PAUSE: Duration = Duration::from_mins(15);

/// The longest of these pauses: six loads a day, and a rig that somebody has mended without starting it anew serves the
/// same day.
const DEATHS_PAUSE_MAX: Duration = Duration::from_hours(4);

/// How far it came.
pub(super) enum Started {
    /// The engine answers.
    Ready(Engine),
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
    marker: Option<&Marker>,
) -> Result<Started, Failure> {
    let deaths = marker.and_then(Marker::deaths);
    tokio::select! {
        started = begin(config, board, deaths) => started,
        () = signals.next() => {
            tracing::info!(
                "stopped while {}: this rig has not served, and what was fetched is kept",
                board.state().word(),
            );
            Ok(Started::Stopped)
        }
    }
}

/// Marks that a rig runs here. Only where it is started again at once.
pub(super) fn mark(config: &Config) -> Option<Marker> {
    if config.failing.on_failure == OnFailure::End {
        return None;
    }
    let cache = models::cache(&config.models.cache);
    let begun = cache.and_then(|cache| Ok(super::marker::begin(&cache, &config.name)?));
    match begun {
        Ok(marker) => Some(marker),
        Err(error) => {
            tracing::warn!(
                "a crash will not be seen at the next start: no file in the cache can be written and locked ({error:#})"
            );
            None
        }
    }
}

async fn begin(config: &Config, board: &Board, deaths: Option<u32>) -> Result<Started, Failure> {
    if let Some(deaths) = deaths {
        wait_after(deaths, board).await;
    }
    if config.failing.gpu == GpuNeed::Required {
        need_card().await?;
    }
    ask_relay(config).await?;
    load(config, board)
        .await
        .unwrap_or_else(|error| Err(Failure::start(&error)))
}

/// Lets some time pass after so many deaths in a row of rigs that never were ready; none where the last one had been.
async fn wait_after(deaths: u32, board: &Board) {
    let Some(pause) = pause_after(deaths) else {
        let seconds = AFTER_DEATH.as_secs();
        let why = format!(
            "the rig before this one died in mid-work (a lost card, the machine's memory, a power cut; its log may say more); \
             it loads again after {seconds} s"
        );
        board.set_waiting(&why);
        tracing::warn!("{why}");
        tokio::time::sleep(AFTER_DEATH).await;
        board.set_state(State::Fetching);
        return;
    };
    let minutes = pause.as_secs() / 60;
    let why = format!(
        "it died {deaths} times in a row before it was ready, mostly for want of memory (a container's state then says \
         OOMKilled, the kernel's log out of memory) or of a driver's fault: choose a smaller model, fewer --slots or a \
         shorter --context, and start it anew; by itself it loads again after {minutes} min"
    );
    board.set_broken(&why);
    tracing::error!("broken: {why}");
    tokio::time::sleep(pause).await;
    board.begin_anew();
}

/// The long pause after so many deaths; none where they are few.
fn pause_after(deaths: u32) -> Option<Duration> {
    let doublings = deaths.checked_sub(DEATHS_MAX)?.min(16);
    let pause = DEATHS_PAUSE.saturating_mul(1 << doublings);
    Some(pause.min(DEATHS_PAUSE_MAX))
}

/// A rig that shall have a card, and has none, must not run a hundred times slower in silence.
async fn need_card() -> Result<(), Failure> {
    // Drivers take a while to wake up.
    let devices = tokio::task::spawn_blocking(llama::devices).await;
    let devices = devices.map_err(|error| Failure::start(&error.into()))?;
    let devices = devices.map_err(|error| Failure::start(&error.into()))?;
    if devices.iter().any(machine::is_gpu) {
        Ok(())
    } else {
        Err(Failure::no_card())
    }
}

/// Whether the relay takes this key, before gigabytes are fetched for it. Nothing is registered: it says so before a node
/// says anything.
async fn ask_relay(config: &Config) -> Result<(), Failure> {
    let asked = timeout(
        ASK_TIME_MAX,
        socket::dial(config.relay.clone(), config.key.clone()),
    );
    let error = match asked.await {
        Ok(Ok(socket)) => {
            Socket::close(socket, CloseCode::GoingAway.number()).await;
            return Ok(());
        }
        Ok(Err(error)) => error,
        Err(_) => {
            tracing::warn!(relay = %config.relay, "it has not answered yet; loading meanwhile");
            return Ok(());
        }
    };
    if error.code == Some(CloseCode::Unauthorized.number()) {
        return Err(Failure::refused(format!(
            "the relay refuses this node's key ({}): give it one of this relay's node keys, whole",
            error.why
        )));
    }
    tracing::warn!(relay = %config.relay, why = error.why, "no connection yet; loading meanwhile");
    Ok(())
}

/// The inner error is the engine's: it failed its self-test.
async fn load(config: &Config, board: &Board) -> anyhow::Result<Result<Started, Failure>> {
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
        Ok(measured) => Ok(Started::Ready(Engine {
            chosen,
            loaded,
            measured,
            commands,
            events,
            thread,
        })),
        Err(error) => Err(Failure::engine(error.to_string())),
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
        break_while: config.failing.break_while.clone(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_deaths_are_an_accident_and_more_make_pauses_that_grow_to_a_limit() {
        let minutes = |deaths| pause_after(deaths).map(|pause| pause.as_secs() / 60);
        assert_eq!([0, 2].map(minutes), [None, None]);
        assert_eq!([3, 4, 6].map(minutes), [Some(15), Some(30), Some(120)]);
        assert_eq!([7, 8, u32::MAX].map(minutes), [Some(240); 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rig_that_dies_again_and_again_is_broken_for_a_while_and_then_tries_again() {
        let board = Board::default();
        let began = tokio::time::Instant::now();
        let seen = async {
            tokio::time::sleep(DEATHS_PAUSE / 2).await;
            board.says()
        };
        let ((), seen) = tokio::join!(wait_after(DEATHS_MAX, &board), seen);
        assert!(seen.starts_with("broken: it died 3 times"), "{seen}");
        assert_eq!(began.elapsed(), DEATHS_PAUSE);
        assert_eq!(board.says(), "fetching");
        board.set_state(State::Loading);
        assert_eq!(board.says(), "loading");
    }
}
