//! Finds llama.cpp's backends, loads the model and starts the engine's thread.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use chat_format::family::Syntax;
use chat_format::template::{ChatTemplate, SpecialTokens, TemplateError};
use llama_cpp_2::llama_backend::{LlamaBackend, load_backends, load_backends_from_path};
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token_type::LlamaTokenAttr;
use llama_cpp_2::{LlamaBackendDevice, LlamaBackendDeviceType};
use tokio::sync::mpsc::{
    UnboundedReceiver, UnboundedSender, WeakUnboundedSender, unbounded_channel,
};

use super::cache::{Cache, spare_sequences};
use super::looking;
use super::reader::{Done, Reader, Task};
use super::slot::Slot;
use super::vectors::{self, Router};
use super::{BATCH_TOKENS_MAX, LlamaEngine, context};
use crate::engine::embed::Pooling;
use crate::engine::tuning::{self, PromptBatch, Tuned};
use crate::engine::vision::{Projector, VisionError};
use crate::engine::vocabulary::Vocabulary;
use crate::engine::{Command, EngineEvent, run};

/// A context that fits most cards; models trained for less get what they were trained for.
const CONTEXT_TOKENS_DEFAULT: u32 = 8192;

/// C++ code on the reader's thread recurses over schemas that clients send.
const READER_STACK_BYTES: usize = 16 << 20;

/// What to load.
#[derive(Debug, Clone)]
pub struct LlamaOptions {
    /// A GGUF file.
    pub model_file: PathBuf,
    /// Jobs at once.
    pub slots: u32,
    /// Tokens per slot; without it, 8192 or what the model was trained for, whichever is less.
    pub context_tokens: Option<u32>,
    /// Threads that compute; without it, found by a short run ([`tuning`]).
    pub threads: Option<u32>,
    /// Prompt tokens per step at most; without it, found by a short run.
    pub prompt_batch: Option<u32>,
    /// How the cache holds its numbers.
    pub cache_type: CacheType,
    /// Finished conversations that stay in the cache, so that follow-ups are quick; 0 keeps none.
    pub cached_conversations: u32,
    /// What lets the model see, a GGUF file.
    pub projector_file: Option<PathBuf>,
    /// A Jinja template to use instead of the model file's own.
    pub chat_template: Option<String>,
    /// How to make vectors of texts, for models that do not say so themselves.
    pub embeddings: Option<Pooling>,
}

impl LlamaOptions {
    /// One slot and one thread; keeps nothing of what is finished.
    pub const fn new(model_file: PathBuf) -> Self {
        Self {
            model_file,
            slots: 1,
            context_tokens: None,
            threads: Some(1),
            prompt_batch: Some(tuning::PROMPT_BATCH_MAX / 2),
            cache_type: CacheType::F16,
            cached_conversations: 0,
            projector_file: None,
            chat_template: None,
            embeddings: None,
        }
    }
}

/// How the cache of a context holds its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum CacheType {
    /// 16 bits each.
    F16,
    /// 8 bits and a scale for each 32: about half the memory, a little less exact.
    #[value(name = "q8_0")]
    Q8,
}

/// What was loaded.
#[expect(
    clippy::struct_excessive_bools,
    reason = "abilities come in any combination"
)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Tokens per slot.
    pub context_tokens: u32,
    /// Weights, in bytes.
    pub model_bytes: u64,
    /// Devices that llama.cpp computes on.
    pub devices: Vec<String>,
    /// Whether it can be talked to.
    pub has_chat: bool,
    /// Whether pictures can be shown to it.
    pub has_vision: bool,
    /// Whether its tool calls are understood.
    pub has_tools: bool,
    /// Whether it makes vectors of texts.
    pub has_embeddings: bool,
    /// Threads, and how prompts are read: set, or found at start.
    pub tuned: Tuned,
}

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No such file, or no rights.
    #[error("the model file {path} cannot be read: {error}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// Something else than a model.
    #[error("{0} is not a GGUF file: llama.cpp loads models in that format only")]
    NotGguf(PathBuf),
    /// llama.cpp's compute libraries are missing.
    #[error(
        "llama.cpp found nothing to compute with: its backend libraries (libggml-cpu-*.so) must lie in the folder `backends` beside this program"
    )]
    NoBackend,
    /// llama.cpp would not start.
    #[error("llama.cpp did not start: {0}")]
    Backend(String),
    /// llama.cpp refused the file.
    #[error(
        "llama.cpp could not load {path}: {error}; the file is damaged, its architecture is unknown, or memory is short (RUST_LOG=debug tells what llama.cpp says)"
    )]
    Model {
        /// Which file.
        path: PathBuf,
        /// What llama.cpp says.
        error: String,
    },
    /// More context than the model can use.
    #[error("the model was trained for a context of {trained} tokens, but {asked} were asked for")]
    ContextTooLong {
        /// The model's limit.
        trained: u32,
        /// The configured number.
        asked: u32,
    },
    /// The cache could not be made.
    #[error(
        "llama.cpp could not make {slots} slots of {context_tokens} tokens: {error}; use fewer slots or a shorter context"
    )]
    Context {
        /// The configured number.
        slots: u32,
        /// Tokens per slot.
        context_tokens: u32,
        /// What llama.cpp says.
        error: String,
    },
    /// The chat template is missing or beyond us.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// Pictures could not be shown to it.
    #[error(transparent)]
    Vision(#[from] VisionError),
    /// The operating system gave no thread.
    #[error("the engine's thread did not start: {0}")]
    Thread(String),
}

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

/// How the model makes vectors of texts, if it does.
fn pooling(model: &LlamaModel, options: &LlamaOptions) -> Option<Pooling> {
    options.embeddings.or_else(|| {
        let architecture = model.meta_val_str("general.architecture").ok()?;
        let number = model.meta_val_str(&format!("{architecture}.pooling_type"));
        Pooling::of_number(&number.ok()?)
    })
}

/// Whether nobody can talk to the model.
fn makes_vectors_only(model: &LlamaModel, options: &LlamaOptions) -> bool {
    pooling(model, options).is_some()
        && options.chat_template.is_none()
        && model.meta_val_str("tokenizer.chat_template").is_err()
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

/// What llama.cpp computes on.
fn device_names() -> Vec<String> {
    llama_cpp_2::list_llama_ggml_backend_devices()
        .into_iter()
        .map(|device| device.description)
        .collect()
}

/// What lets the model see, where there is such a file.
pub(super) fn projector<'m>(
    model: &'m LlamaModel,
    options: &LlamaOptions,
    threads: u32,
) -> Result<Option<Projector<'m>>, LoadError> {
    let Some(path) = &options.projector_file else {
        return Ok(None);
    };
    check_magic(path)?;
    let projector = Projector::load(path, model, threads, BATCH_TOKENS_MAX)?;
    Ok(Some(projector))
}

/// Lets the engine look again when the reader is gone.
pub(super) struct WakeAtEnd<'w>(pub(super) &'w WeakUnboundedSender<Command>);

impl Drop for WakeAtEnd<'_> {
    fn drop(&mut self) {
        if let Some(engine) = self.0.upgrade() {
            // Fails where the loop has ended already.
            drop(engine.send(Command::Wake));
        }
    }
}

pub(super) fn chat_template(
    model: &LlamaModel,
    options: &LlamaOptions,
) -> Result<ChatTemplate, TemplateError> {
    let given = options.chat_template.clone();
    let source = given.or_else(|| model.meta_val_str("tokenizer.chat_template").ok());
    let special = special_tokens(model, source.as_deref().unwrap_or_default());
    ChatTemplate::new(source, special)
}

pub(super) fn load_model(options: &LlamaOptions) -> Result<LlamaModel, LoadError> {
    load_model_as(options, &LlamaModelParams::default())
}

fn load_model_as(
    options: &LlamaOptions,
    params: &LlamaModelParams,
) -> Result<LlamaModel, LoadError> {
    let path = &options.model_file;
    check_magic(path)?;
    let backend = backend()?;
    LlamaModel::load_from_file(backend, path, params).map_err(|error| LoadError::Model {
        path: path.clone(),
        error: error.to_string(),
    })
}

/// Lends a model's vocabulary to `work`, without its weights.
pub fn with_vocabulary<T>(
    options: &LlamaOptions,
    work: impl FnOnce(&LlamaModel) -> T,
) -> Result<T, LoadError> {
    load_model_as(options, &LlamaModelParams::default().with_vocab_only(true))
        .map(|model| work(&model))
}

/// llama.cpp says little about files that it cannot read.
fn check_magic(path: &Path) -> Result<(), LoadError> {
    let mut magic = [0; 4];
    std::fs::File::open(path)
        .and_then(|mut file| file.read_exact(&mut magic))
        .map_err(|error| {
            if error.kind() == std::io::ErrorKind::UnexpectedEof {
                LoadError::NotGguf(path.to_owned())
            } else {
                LoadError::Unreadable {
                    path: path.to_owned(),
                    error,
                }
            }
        })?;
    if &magic == b"GGUF" {
        Ok(())
    } else {
        Err(LoadError::NotGguf(path.to_owned()))
    }
}

/// llama.cpp's process-wide state, made at first use and kept.
pub(super) fn backend() -> Result<&'static LlamaBackend, LoadError> {
    static BACKEND: OnceLock<Result<LlamaBackend, String>> = OnceLock::new();
    let backend = BACKEND.get_or_init(|| {
        llama_cpp_2::send_logs_to_tracing(llama_cpp_2::LogOptions::default());
        load_compute_libraries();
        add_packed_weights();
        LlamaBackend::init().map_err(|error| error.to_string())
    });
    match backend {
        Err(error) => Err(LoadError::Backend(error.clone())),
        Ok(_) if llama_cpp_2::list_llama_ggml_backend_devices().is_empty() => {
            Err(LoadError::NoBackend)
        }
        Ok(backend) => Ok(backend),
    }
}

/// What llama.cpp can compute on here, with the memory of each.
pub fn devices() -> Result<Vec<LlamaBackendDevice>, LoadError> {
    backend()?;
    Ok(llama_cpp_2::list_llama_ggml_backend_devices())
}

/// See [`packed`](crate::engine::packed). `HELIOGRAPH_PACKED=0` leaves llama.cpp as it is, to compare.
fn add_packed_weights() {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    if std::env::var_os("HELIOGRAPH_PACKED").is_none_or(|value| value != "0") {
        let is_added = crate::engine::packed::add();
        tracing::debug!(is_added, "packed weights");
    }
}

/// One library per kind of processor; llama.cpp picks the best that runs here. An image has them beside the program,
/// a build tree where they were built.
fn load_compute_libraries() {
    let beside = std::env::current_exe()
        .ok()
        .and_then(|program| Some(program.parent()?.join("backends")))
        .filter(|folder| folder.is_dir() && folder.to_str().is_some());
    match beside {
        Some(folder) => load_backends_from_path(&folder),
        None => load_backends(),
    }
}

/// Sequences for what the prefix cache holds.
pub(super) fn spares(options: &LlamaOptions) -> u32 {
    spare_sequences(options.slots, options.cached_conversations)
}

impl<'m> LlamaEngine<'m> {
    fn new(
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
            has_read_beside: false,
            prompts: Vec::new(),
            admitted: 0,
            reading: Vec::new(),
            reader,
            done,
            slots,
            events: cache.first_words().into_iter().collect(),
            cache,
            failures: 0,
            is_reader_gone: false,
        })
    }
}

/// Whether something else than the processor computes.
fn has_accelerator() -> bool {
    llama_cpp_2::list_llama_ggml_backend_devices()
        .iter()
        .any(|device| match device.device_type {
            LlamaBackendDeviceType::Gpu | LlamaBackendDeviceType::IntegratedGpu => true,
            LlamaBackendDeviceType::Cpu
            | LlamaBackendDeviceType::Accelerator
            | LlamaBackendDeviceType::Unknown => false,
        })
}

pub(super) fn context_tokens(model: &LlamaModel, options: &LlamaOptions) -> Result<u32, LoadError> {
    let trained = model.n_ctx_train();
    match options.context_tokens {
        None => Ok(CONTEXT_TOKENS_DEFAULT.min(trained)),
        Some(asked) if asked > trained => Err(LoadError::ContextTooLong { trained, asked }),
        Some(asked) => Ok(asked),
    }
}

/// What the model writes beside plain text, by its template and its vocabulary.
pub(super) fn syntax(model: &LlamaModel, template: &ChatTemplate) -> Syntax {
    let vocab = model.vocab();
    let syntax = Syntax::detect(template.source(), |spelling| {
        vocab.tokenize(spelling.as_bytes(), false, true).len() == 1
    });
    if template.abilities().tools {
        syntax.of_showing_tools()
    } else {
        syntax
    }
}

/// What each token writes: control tokens nothing, but for the markers of the model's syntax.
pub(super) fn vocabulary(model: &LlamaModel, syntax: &Syntax) -> Vocabulary {
    let vocab = model.vocab();
    let markers = syntax.markers();
    vocab
        .tokens()
        .map(|token| {
            let is_marker = vocab.is_control(token)
                && markers
                    .iter()
                    .any(|marker| vocab.token_to_piece(token, true, None) == marker.as_bytes());
            vocab.token_to_piece(token, is_marker, None)
        })
        .collect()
}

fn special_tokens(model: &LlamaModel, template: &str) -> SpecialTokens {
    let vocab = model.vocab();
    let text = |token: LlamaToken| {
        // llama.cpp writes -1 for a token that the vocabulary lacks.
        (token.0 >= 0)
            .then(|| vocab.text(token))
            .flatten()
            .map(|text| text.to_string_lossy().into_owned())
            .unwrap_or_default()
    };
    SpecialTokens {
        bos: text(vocab.bos()),
        eos: text(vocab.eos()),
        control: vocab
            .tokens()
            .filter_map(|token| {
                let text = text(token);
                // Some models have markers like `<tool_call>` as ordinary tokens with a meaning.
                let is_marker = || {
                    text.starts_with(['<', '['])
                        && template.contains(&text)
                        && vocab.attr(token).contains(LlamaTokenAttr::UserDefined)
                };
                (!text.is_empty() && (vocab.is_control(token) || is_marker())).then_some(text)
            })
            .collect(),
    }
}
