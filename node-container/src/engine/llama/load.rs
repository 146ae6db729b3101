//! Loads the model and starts the engine's thread, and those beside it.

pub(super) mod backend;
pub(super) mod file;
pub(super) mod language;
pub(super) mod options;
pub(super) mod outcome;

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use tokio::sync::mpsc::{
    UnboundedReceiver, UnboundedSender, WeakUnboundedSender, unbounded_channel,
};

use self::backend::{device_names, has_accelerator};
use self::file::{load_model, projector};
use self::language::{chat_template, makes_vectors_only, pooling, syntax, vocabulary};
use self::options::{context_tokens, spares};
use super::cache::Cache;
use super::looking;
use super::reader::{Done, Reader, Task};
use super::slot::Slot;
use super::vectors::{self, Router};
use super::wake::WakeAtEnd;
use super::{BATCH_TOKENS_MAX, LlamaEngine, context};
use crate::engine::embed::Pooling;
use crate::engine::tuning::{self, PromptBatch, Tuned};
use crate::engine::{Command, EngineEvent, run};
use chat_format::vocabulary::Vocabulary;

pub use self::backend::devices;
pub use self::file::with_vocabulary;
pub use self::options::{CacheType, LlamaOptions};
pub use self::outcome::{LoadError, Loaded};

/// C++ code on the reader's thread recurses over schemas that clients send.
const READER_STACK_BYTES: usize = 16 << 20;

/// A running engine.
#[derive(Debug)]
pub struct Spawned {
    /// What was loaded.
    pub loaded: Loaded,
    /// Tells it what to do. When the last sender is gone, the engine ends.
    pub commands: UnboundedSender<Command>,
    /// Ends after [`Command::Shutdown`], or when nobody listens to its events.
    pub thread: JoinHandle<()>,
}

/// Loads the model on a new thread and returns once it can answer.
pub fn spawn(
    options: LlamaOptions,
    events: UnboundedSender<EngineEvent>,
) -> Result<Spawned, LoadError> {
    let (commands, received) = unbounded_channel();
    let wake = commands.downgrade();
    let (tell_loaded, loaded) = channel();
    let thread = std::thread::Builder::new()
        .name("engine".to_owned())
        .spawn(move || {
            if let Err(error) = live(&options, received, &wake, &events, &tell_loaded) {
                // The receiver waits for just this.
                drop(tell_loaded.send(Err(error)));
            }
        })
        .map_err(|error| LoadError::Thread(error.to_string()))?;
    let loaded = loaded
        .recv()
        .unwrap_or_else(|_| Err(LoadError::Thread("it died while loading".to_owned())))?;
    Ok(Spawned {
        loaded,
        commands,
        thread,
    })
}

/// The engine thread's whole life.
fn live(
    options: &LlamaOptions,
    mut commands: UnboundedReceiver<Command>,
    wake: &WeakUnboundedSender<Command>,
    events: &UnboundedSender<EngineEvent>,
    tell_loaded: &Sender<Result<Loaded, LoadError>>,
) -> Result<(), LoadError> {
    let model = load_model(options)?;
    if makes_vectors_only(&model, options) {
        return live_for_vectors(&model, options, commands, events, tell_loaded);
    }
    let template = chat_template(&model, options)?;
    let context_tokens = context_tokens(&model, options)?;
    let (to_reader, tasks) = channel();
    let (to_engine, done) = channel();
    let syntax = syntax(&model, &template);
    let vocabulary = vocabulary(&model, &syntax);
    let tuned = context::tune(&model, options, has_accelerator());
    let projector = projector(&model, options, tuned.threads)?;
    let mut engine = LlamaEngine::new(
        &model,
        &vocabulary,
        options,
        (context_tokens, tuned),
        (to_reader, done),
    )?;
    engine.projector = projector.as_ref();
    let embedder = match pooling(&model, options) {
        None => None,
        Some(pooling) => Some(context::embedder(&model, options, pooling, tuned.threads)?.0),
    };
    let loaded = Loaded {
        context_tokens,
        model_bytes: model.size(),
        devices: device_names(),
        has_chat: true,
        has_vision: projector.is_some(),
        has_tools: syntax.can_call(),
        has_embeddings: embedder.is_some(),
        tuned,
    };
    let reader = Reader::new(
        &model,
        &vocabulary,
        (template, syntax),
        context_tokens,
        projector.as_ref(),
    );
    std::thread::scope(|scope| {
        let eye = match &projector {
            None => None,
            Some(projector) => Some(looking::spawn(scope, projector, to_engine.clone(), wake)?),
        };
        let reading = std::thread::Builder::new()
            .name("reader".to_owned())
            .stack_size(READER_STACK_BYTES)
            .spawn_scoped(scope, move || {
                // Dropped in reverse, in a panic too: the engine wakes up and finds the channel closed.
                let _wake = WakeAtEnd(wake);
                let to_engine = to_engine;
                reader.run(&tasks, &to_engine, eye.as_ref(), wake);
            })
            .map_err(|error| LoadError::Thread(error.to_string()))?;
        let vectors = match embedder {
            None => None,
            Some(embedder) => Some(vectors::spawn(scope, embedder, events.clone(), wake)?),
        };
        if tell_loaded.send(Ok(loaded)).is_ok() {
            serve(engine, vectors, &mut commands, events);
        } else {
            // Ends the reader.
            drop(engine);
        }
        if reading.join().is_err() {
            tracing::error!("the thread that reads prompts panicked");
        }
        Ok(())
    })
}

/// Drives the engine, or both of them, to the end, which is the reader's end too.
fn serve(
    mut engine: LlamaEngine<'_>,
    vectors: Option<UnboundedSender<Command>>,
    commands: &mut UnboundedReceiver<Command>,
    events: &UnboundedSender<EngineEvent>,
) {
    match vectors {
        None => run(&mut engine, commands, events),
        Some(vectors) => {
            let mut router = Router {
                chat: engine,
                vectors,
            };
            run(&mut router, commands, events);
        }
    }
}

/// The engine thread's whole life, where the model only makes vectors.
fn live_for_vectors(
    model: &LlamaModel,
    options: &LlamaOptions,
    mut commands: UnboundedReceiver<Command>,
    events: &UnboundedSender<EngineEvent>,
    tell_loaded: &Sender<Result<Loaded, LoadError>>,
) -> Result<(), LoadError> {
    let threads = options.threads.unwrap_or_else(|| {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        u32::try_from(cores / 2).unwrap_or(1).max(1)
    });
    let pooling = pooling(model, options).unwrap_or(Pooling::Mean);
    let (mut embedder, input_tokens) = context::embedder(model, options, pooling, threads)?;
    let loaded = Loaded {
        context_tokens: input_tokens,
        model_bytes: model.size(),
        devices: device_names(),
        has_chat: false,
        has_vision: false,
        has_tools: false,
        has_embeddings: true,
        tuned: Tuned {
            threads,
            prompt_batch: PromptBatch::given(tuning::PROMPT_BATCH_MAX),
        },
    };
    if tell_loaded.send(Ok(loaded)).is_ok() {
        run(&mut embedder, &mut commands, events);
    }
    Ok(())
}

impl<'m> LlamaEngine<'m> {
    /// Makes the context and tries it once.
    pub(super) fn new(
        model: &'m LlamaModel,
        vocabulary: &'m Vocabulary,
        options: &LlamaOptions,
        (context_tokens, tuned): (u32, Tuned),
        (reader, done): (Sender<Task>, Receiver<Done>),
    ) -> Result<Self, LoadError> {
        let failed = |error: String| LoadError::Context {
            slots: options.slots,
            context_tokens,
            error,
        };
        let mut batch_tokens = options.slots + tuned.prompt_batch.alone;
        if options.projector_file.is_some() {
            // A picture is read in one piece.
            batch_tokens = u32::try_from(BATCH_TOKENS_MAX).unwrap_or(u32::MAX);
        }
        let mut context =
            context::engine_context(model, options, context_tokens, batch_tokens, tuned.threads)?;
        let mut batch = LlamaBatch::new(usize::try_from(batch_tokens).unwrap_or(1), 1);
        // One step now finds out whether this machine can compute the model at all, and makes the first answer quick.
        batch
            .add(LlamaToken::new(0), 0, &[0], true)
            .map_err(|error| failed(error.to_string()))?;
        context
            .decode(&mut batch)
            .map_err(|error| failed(error.to_string()))?;
        let slots: Vec<Option<Slot>> = (0..options.slots).map(|_| None).collect();
        let cache = Cache::new(model, &context, slots.len(), spares(options));
        context.clear_kv_cache();

        Ok(Self {
            model,
            vocabulary,
            projector: None,
            context,
            batch,
            context_tokens,
            prompt_batch: tuned.prompt_batch,
            beside: tuned.prompt_batch.beside,
            prompts: Vec::new(),
            admitted: 0,
            reading: Vec::new(),
            reader,
            done,
            slots,
            events: cache.first_words().into_iter().collect(),
            cache,
            failures: 0,
            break_while: options.break_while.clone(),
            is_reader_gone: false,
        })
    }
}
