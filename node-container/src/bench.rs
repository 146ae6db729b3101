//! `rig bench`: how fast this engine is, measured through the very commands and events that jobs use.
//!
//! Each line out is one measurement, as JSON with `--json`. A measurement starts `--streams` chats, all at once or
//! `--stagger-ms` apart, each with a prompt of `--prompt-tokens` and an answer of exactly `--generate` tokens. With
//! `--arriving-tokens` a long prompt arrives while seven chats stream, and what is measured is their pauses. With
//! `--turns` a conversation goes on, and what is measured is how long its first two answers take to begin.

mod asking;
mod measure;
mod pauses;
mod turns;
mod words;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use serde::Serialize;

use crate::config::CACHED_CONVERSATIONS_MIN;
use crate::engine::llama::{CacheType, LlamaOptions};
use asking::Asking;

/// The word that selects this instead of running a node.
pub const COMMAND: &str = "bench";

/// What a chat template adds to a prompt, generously; for the context's size only.
const TEMPLATE_TOKENS: u32 = 64;

/// Measures the engine.
#[derive(Debug, Clone, Parser)]
#[command(name = "rig bench")]
pub(crate) struct Options {
    /// The model, a GGUF file.
    #[arg(long, env = "HELIOGRAPH_MODEL_FILE", value_name = "PATH")]
    model_file: PathBuf,

    /// Threads that compute [default: chosen at start].
    #[arg(long, value_name = "COUNT")]
    threads: Option<u32>,

    /// Prompt tokens per step at most [default: chosen at start].
    #[arg(long, value_name = "TOKENS")]
    batch: Option<u32>,

    /// How the cache holds its numbers.
    #[arg(long, value_enum, default_value = "f16")]
    cache_type: CacheType,

    /// Chats at once; one measurement for each number.
    #[arg(long, value_name = "COUNT,…", value_delimiter = ',', default_value = "1,4,8",
        value_parser = clap::value_parser!(u32).range(1..=256))]
    streams: Vec<u32>,

    /// Whether chats at once ask the same.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "different")]
    prompts: Vec<Prompts>,

    /// The length of each prompt.
    #[arg(long, value_name = "TOKENS", default_value_t = 128)]
    prompt_tokens: u32,

    /// The length of each answer.
    #[arg(long, value_name = "TOKENS", default_value_t = 128)]
    generate: u32,

    /// Each chat begins so much after the one before.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 0)]
    stagger_ms: u32,

    /// Instead of these: a prompt of this length arrives while seven chats stream.
    #[arg(long, value_name = "TOKENS")]
    arriving_tokens: Option<u32>,

    /// Instead of these: a conversation that begins with a question of this length, and its second turn.
    #[arg(long, value_name = "TOKENS", conflicts_with = "arriving_tokens")]
    turns: Option<u32>,

    /// A Jinja chat template to use instead of the model file's own.
    #[arg(long, value_name = "PATH")]
    chat_template: Option<PathBuf>,

    /// How often each measurement is made.
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    runs: u32,

    /// 0 takes the likeliest token.
    #[arg(long, default_value_t = 0.8)]
    temperature: f32,

    /// Chats at once for which the engine has room [default: the most that are measured].
    #[arg(long, value_name = "COUNT")]
    slots: Option<u32>,

    /// Prompts begin with this number, so that no two runs ask the same.
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// One JSON object per line.
    #[arg(long)]
    json: bool,
}

/// What chats that run at once have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Prompts {
    /// The model's template only.
    Different,
    /// The whole prompt.
    Same,
}

/// Runs with these arguments, the first of which is its name.
pub fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let options = Options::parse_from(arguments);
    match try_run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn try_run(options: &Options) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let most = options.streams.iter().copied().max().unwrap_or(1);
    let (streams, longest) = match (options.arriving_tokens, options.turns) {
        (Some(tokens), _) => (pauses::STREAMS + 1, tokens.max(pauses::room())),
        (None, Some(tokens)) => (1, tokens + turns::room(options.generate)),
        (None, None) => (most, options.prompt_tokens),
    };
    let slots = options.slots.unwrap_or(streams).max(streams);
    let chat_template = options.chat_template.as_ref();
    let mut asking = Asking::begin(
        LlamaOptions {
            slots,
            // As a node has it.
            cached_conversations: if options.arriving_tokens.is_some() {
                // What is over would take part in the steps that are measured.
                0
            } else {
                slots.max(CACHED_CONVERSATIONS_MIN)
            },
            context_tokens: Some(longest + options.generate + TEMPLATE_TOKENS),
            threads: options.threads,
            prompt_batch: options.batch,
            cache_type: options.cache_type,
            chat_template: chat_template.map(std::fs::read_to_string).transpose()?,
            ..LlamaOptions::new(options.model_file.clone())
        },
        options.temperature,
        options.seed,
    )?;
    runtime.block_on(async {
        for run in 0..options.runs {
            if let Some(tokens) = options.turns {
                let measured = turns::measure(&mut asking, tokens, options.generate).await?;
                write(options, run, &measured)?;
                continue;
            }
            if let Some(tokens) = options.arriving_tokens {
                let measured = pauses::measure(&mut asking, tokens).await?;
                write(options, run, &measured)?;
                continue;
            }
            for streams in &options.streams {
                for prompts in &options.prompts {
                    let plan = measure::Plan {
                        streams: *streams,
                        prompts: *prompts,
                        prompt_tokens: options.prompt_tokens,
                        generate: options.generate,
                        stagger_ms: options.stagger_ms,
                    };
                    let measured = measure::measure(&mut asking, plan).await?;
                    write(options, run, &measured)?;
                }
            }
        }
        anyhow::Ok(())
    })?;
    asking.end();
    Ok(())
}

/// One measurement, beside which run it is.
#[derive(Debug, Serialize)]
struct Line<'m, M> {
    run: u32,
    #[serde(flatten)]
    measured: &'m M,
}

fn write<M: Serialize>(options: &Options, run: u32, measured: &M) -> anyhow::Result<()> {
    let line = serde_json::to_value(Line { run, measured })?;
    let mut out = std::io::stdout().lock();
    if options.json {
        writeln!(out, "{line}")?;
    } else {
        for (name, value) in line.as_object().into_iter().flatten() {
            write!(out, "{name} {value}  ")?;
        }
        writeln!(out)?;
    }
    out.flush()?;
    Ok(())
}
