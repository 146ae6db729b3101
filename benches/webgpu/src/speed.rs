//! Speed: prompts and answers under a clock, and what a token costs in counts that hold on any adapter.
//!
//! Every round goes round all kernels, so that whatever else the machine does meets all alike; medians count.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use pollster::block_on;
use serde::Serialize;
use webgpu_engine::gpu::{Counts, Gpu, bandwidth};
use webgpu_engine::model::{Config, ModelTensor};
use webgpu_engine::run::{Request, Session, Settings};

use crate::file::GgufFile;
use crate::native::{Native, check_packed_dot, name, open};
use crate::{Kernels, print, read_json};

/// Tokens of the shorter and of the longer answer whose counts are compared: what both cost alike is no token's.
const COUNTED_TOKENS: [u32; 2] = [9, 25];

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The model, a GGUF file
    #[arg(long)]
    model: PathBuf,
    /// What prompts are cut from, a JSON array
    #[arg(long)]
    tokens: PathBuf,
    /// Which of our kernels
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["f32", "packed-dot"])]
    kernels: Vec<Kernels>,
    /// Lengths of prompts
    #[arg(long, value_delimiter = ',', default_values_t = [128, 512])]
    prompts: Vec<u32>,
    /// Lengths of what an answer follows: short, and long; all but the first are measured once
    #[arg(long, value_delimiter = ',', default_values_t = [128, 1536])]
    contexts: Vec<u32>,
    /// Length of an answer
    #[arg(long, default_value_t = 64)]
    answer_tokens: u32,
    /// How often everything is run, after once for warming up
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

/// What came of it.
#[derive(Debug, Serialize)]
struct Figures {
    adapter: String,
    bytes_per_second: f64,
    kernels: Vec<OfKernels>,
}

#[derive(Debug, Serialize)]
struct OfKernels {
    kernels: Kernels,
    prefill: Vec<Rate>,
    decode: Vec<Rate>,
    counters: Counters,
}

/// Tokens per second behind, or for, so many tokens.
#[derive(Debug, Serialize)]
struct Rate {
    tokens: u32,
    tokens_per_s: f64,
    /// Of what the adapter can stream; of answers only.
    #[serde(skip_serializing_if = "Option::is_none")]
    share_of_bandwidth: Option<f64>,
}

/// What a token of an answer costs.
#[derive(Debug, Serialize)]
struct Counters {
    layers: u32,
    /// By the plan.
    dispatches_per_layer: f64,
    /// All, as counted: also those before the first layer and behind the last, and those that draw.
    dispatches: f64,
    passes: f64,
    submits: f64,
    read_backs: f64,
    created: f64,
    bytes_written: f64,
    /// By the plan, at the longest context.
    bytes_read: u64,
    /// Weights that a token needs, and keys and values that it sees.
    bytes_needed: u64,
    bytes_ratio: f64,
}

/// One engine and what was measured of it.
struct Measured {
    kernels: Kernels,
    native: Native,
    prefill: Vec<Vec<f64>>,
    decode: Vec<Vec<f64>>,
}

/// Measures, and prints one line of JSON.
pub(crate) fn run(options: &Options) -> Result<()> {
    let tokens: Vec<u32> = read_json(&options.tokens)?;
    let gpu = open()?;
    let longest = options.contexts.iter().chain(&options.prompts).max();
    let answer = COUNTED_TOKENS
        .into_iter()
        .fold(options.answer_tokens, u32::max);
    let context = longest.context("nothing to measure")? + answer + 1;
    let mut all = Vec::new();
    for &kernels in &options.kernels {
        all.push(Measured::load(&gpu, options, kernels, context)?);
    }
    let clock = Instant::now();
    let mut bytes_per_second = 0.0_f64;
    for round in 0..=options.rounds {
        let streamed = block_on(bandwidth(&gpu, || clock.elapsed().as_secs_f64()))?;
        bytes_per_second = bytes_per_second.max(streamed.bytes_per_second);
        for measured in &mut all {
            measured.round(options, &tokens, round)?;
        }
    }
    let kernels = all
        .iter_mut()
        .map(|measured| measured.figures(options, &tokens, bytes_per_second))
        .collect::<Result<_>>()?;
    print(&Figures {
        adapter: name(&gpu),
        bytes_per_second,
        kernels,
    })
}

impl Measured {
    fn load(gpu: &Arc<Gpu>, options: &Options, kernels: Kernels, context: u32) -> Result<Self> {
        if kernels == Kernels::PackedDot {
            check_packed_dot(gpu)?;
        }
        let settings = Settings {
            context_tokens: Some(context),
            numbers: Some(kernels.numbers()?),
            ..Settings::default()
        };
        Ok(Self {
            kernels,
            native: Native::load(gpu, &options.model, settings)?,
            prefill: vec![Vec::new(); options.prompts.len()],
            decode: vec![Vec::new(); options.contexts.len()],
        })
    }

    /// Measures everything once; round 0 is for warming up. What follows long contexts takes minutes on adapters in
    /// software, so it is measured once.
    fn round(&mut self, options: &Options, tokens: &[u32], round: u32) -> Result<()> {
        let session = &mut self.native.session;
        for (&length, rates) in options.prompts.iter().zip(&mut self.prefill) {
            let (first, _) = timed(session, prompt(tokens, length)?, 1)?;
            if round > 0 {
                rates.push(f64::from(length) / first);
            }
        }
        for (place, &length) in options.contexts.iter().enumerate() {
            if place > 0 && round != 1 {
                continue;
            }
            let answer = options.answer_tokens;
            let (first, last) = timed(session, prompt(tokens, length)?, answer + 1)?;
            if let Some(rates) = self.decode.get_mut(place).filter(|_| round > 0) {
                rates.push(f64::from(answer) / (last - first));
            }
        }
        Ok(())
    }

    fn figures(
        &mut self,
        options: &Options,
        tokens: &[u32],
        bytes_per_second: f64,
    ) -> Result<OfKernels> {
        let session = &self.native.session;
        let rates = |lengths: &[u32], rates: &[Vec<f64>], has_share: bool| {
            let all = lengths.iter().zip(rates);
            all.map(|(&tokens, rates)| {
                let tokens_per_s = median(rates);
                // In the middle of the answer.
                let bytes = session.decode_reads(tokens + options.answer_tokens / 2);
                let share = tokens_per_s * float(bytes.total()) / bytes_per_second;
                Rate {
                    tokens,
                    tokens_per_s,
                    share_of_bandwidth: has_share.then_some(share),
                }
            })
            .collect()
        };
        Ok(OfKernels {
            kernels: self.kernels,
            prefill: rates(&options.prompts, &self.prefill, false),
            decode: rates(&options.contexts, &self.decode, true),
            counters: self.counters(options, tokens)?,
        })
    }

    fn counters(&mut self, options: &Options, tokens: &[u32]) -> Result<Counters> {
        let session = &mut self.native.session;
        let [short, long] = COUNTED_TOKENS;
        let length = *options.contexts.first().context("no context")?;
        let prompt = prompt(tokens, length)?;
        let mut counted = |count: u32| -> Result<Counts> {
            let before = session.engine().gpu().counters().read();
            timed(session, prompt, count)?;
            Ok(session.engine().gpu().counters().read().since(before))
        };
        let more = counted(short)?;
        let most = counted(long)?;
        let each = |of: fn(&Counts) -> u64| {
            (float(of(&most)) - float(of(&more))) / f64::from(long - short)
        };
        let layers = session.engine().config().layers;
        let of_layers = float(u64::try_from(session.layer_dispatches())?);
        let position = options.contexts.iter().copied().max().unwrap_or(length);
        let bytes_read = session.decode_reads(position).total();
        let bytes_needed = needed(session, weight_bytes(&options.model)?, position);
        Ok(Counters {
            layers,
            dispatches_per_layer: of_layers / f64::from(layers),
            dispatches: each(|it| it.dispatches),
            passes: each(|it| it.passes),
            submits: each(|it| it.submits),
            read_backs: each(|it| it.read_backs),
            created: each(|it| it.created),
            bytes_written: each(|it| it.bytes_written),
            bytes_read,
            bytes_needed,
            bytes_ratio: float(bytes_read) / float(bytes_needed),
        })
    }
}

/// The first so many tokens.
fn prompt(tokens: &[u32], length: u32) -> Result<&[u32]> {
    let prompt = tokens.get(..usize::try_from(length)?);
    prompt.with_context(|| format!("there are only {} tokens", tokens.len()))
}

/// Answers in a session that has read nothing; seconds until the first token, and until the last.
fn timed(session: &mut Session, prompt: &[u32], answer_tokens: u32) -> Result<(f64, f64)> {
    session.clear();
    let request = Request {
        ignores_end: true,
        ..Request::greedy(prompt.to_vec(), answer_tokens)
    };
    let start = Instant::now();
    let (mut first, mut count) = (0.0, 0u32);
    block_on(async {
        let mut answer = session.answer(request, None).await?;
        while answer.next().await?.is_some() {
            if count == 0 {
                first = start.elapsed().as_secs_f64();
            }
            count += 1;
        }
        anyhow::Ok(())
    })?;
    let last = start.elapsed().as_secs_f64();
    ensure!(
        count == answer_tokens,
        "the answer has {count} tokens instead of {answer_tokens}"
    );
    Ok((first, last))
}

/// What a token cannot do without: the weights (of embeddings that are no output only its own row, which is nothing
/// beside them), and the keys and values that it sees.
fn needed(session: &Session, weight_bytes: u64, position: u32) -> u64 {
    let (config, demand) = (session.engine().config(), session.engine().demand());
    let seen = |layer| match &config.window {
        Some(window) if config.has_window(layer) => window.tokens.min(position + 1),
        Some(_) | None => position + 1,
    };
    let seen: u64 = (0..config.layers).map(|layer| u64::from(seen(layer))).sum();
    weight_bytes + 2 * seen * config.kv_width() * demand.cache.bytes()
}

/// Bytes of the weights that every token needs.
fn weight_bytes(model: &Path) -> Result<u64> {
    let header = GgufFile::open(model)?.header;
    let all = header.tensors().iter().map(|tensor| tensor.bytes);
    let is_tied = Config::read(&header)?.has_tied_output;
    let embedding = header.tensor(&ModelTensor::TokenEmbedding.name());
    let unread = embedding.filter(|_| !is_tied).map_or(0, |it| it.bytes);
    Ok(all.sum::<u64>() - unread)
}

fn median(rates: &[f64]) -> f64 {
    let mut rates = rates.to_vec();
    rates.sort_by(f64::total_cmp);
    let at = |place: usize| rates.get(place).copied().unwrap_or(f64::NAN);
    f64::midpoint(at(rates.len().saturating_sub(1) / 2), at(rates.len() / 2))
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2⁵³")]
const fn float(count: u64) -> f64 {
    count as f64
}
