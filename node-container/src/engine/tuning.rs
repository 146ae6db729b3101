//! A short run at start that finds how many threads compute fastest here, and how much of a prompt a step may read.
//!
//! What the operator has set is not tried. After [`TIME_MAX`] no other number of threads is tried: a large model on a
//! slow machine gets what was best so far. The run takes longer by what is under way then: of the number that is being
//! tried one step is timed all the same, after one that is not, and at last one piece of a prompt. More threads than
//! free cores are much slower than fewer, since llama.cpp's threads wait for each other by spinning; that shows in the
//! run, on a machine that is busy with other things too.

use std::time::{Duration, Instant};

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::token::LlamaToken;

/// Prompt tokens per step at most: more makes no device that serves a rig any faster.
pub const PROMPT_BATCH_MAX: u32 = 512;

/// Prompt tokens per step at least: below it, most of a step is overhead.
const PROMPT_BATCH_MIN: u32 = 16;

/// After this, nothing new is tried.
const TIME_MAX: Duration = Duration::from_secs(2);

/// Steps that are timed for each number of threads; the median counts.
const STEPS: usize = 5;

/// Fewer threads are taken where they are so little slower: others use this machine too.
const TOLERANCE: f64 = 1.03;

/// A piece of a prompt is as large as keeps answers waiting about so long, by what the run at start measured: a pause
/// that a reader does not notice. It is no bound: while a prompt is read, pieces are halved only where one took twice as
/// long, and doubled where one took half of it, so that their size does not swing with every step.
const BESIDE_MAX: Duration = Duration::from_millis(200);

/// A step takes so long at most, since `Stop` waits for it.
const ALONE_MAX: Duration = Duration::from_millis(800);

/// How prompts are read. Fixed for an engine's life, so that the same request gives the same text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PromptBatch {
    /// Prompt tokens per step while nobody answers.
    pub alone: u32,
    /// Prompt tokens per step beside running answers.
    pub beside: u32,
}

impl PromptBatch {
    /// What an operator has set for `alone`.
    pub fn given(alone: u32) -> Self {
        let alone = alone.clamp(PROMPT_BATCH_MIN, PROMPT_BATCH_MAX);
        Self {
            alone,
            beside: (alone / 4).max(PROMPT_BATCH_MIN),
        }
    }

    /// What suits a machine that takes so long for each token of a prompt. Powers of two, so that small differences
    /// between two starts change nothing.
    fn of(token: Duration) -> Self {
        let most = |time: Duration| {
            let mut tokens = PROMPT_BATCH_MAX;
            while tokens > PROMPT_BATCH_MIN && token * tokens > time {
                tokens /= 2;
            }
            tokens
        };
        Self {
            alone: most(ALONE_MAX),
            beside: most(BESIDE_MAX).min(PROMPT_BATCH_MAX / 2),
        }
    }
}

impl PromptBatch {
    /// How many prompt tokens the next step may read beside answers, after one that read `tokens` took so long. A prompt
    /// gets dearer the longer it is, which the run at start does not see. So a piece keeps answers waiting 400 ms or less,
    /// but for the one that shows that it does not, and for those that cannot be made smaller.
    pub fn after(self, tokens: u32, time: Duration) -> u32 {
        if time > BESIDE_MAX * 2 {
            (tokens / 2).max(PROMPT_BATCH_MIN)
        } else if time < BESIDE_MAX / 2 {
            (tokens * 2).min(self.beside)
        } else {
            tokens
        }
    }
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuned {
    /// Threads that compute.
    pub threads: u32,
    /// How prompts are read.
    pub prompt_batch: PromptBatch,
}

/// What is to be found.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Set by the operator.
    pub threads: Option<u32>,
    /// Set by the operator.
    pub prompt_batch: Option<u32>,
    /// Answers at once, as far as they are many.
    pub rows: u32,
    /// Whether another device than the processor computes.
    pub has_accelerator: bool,
}

/// Makes the run. `context` gives a context for this many threads, with room for [`ROOM`] tokens in as many sequences
/// as there are rows; `None` ends the run.
pub fn tune<'m>(
    wanted: &Wanted,
    mut context: impl FnMut(u32) -> Option<LlamaContext<'m>>,
) -> Tuned {
    let until = Instant::now() + TIME_MAX;
    let cores = cores();
    let usual = wanted.threads.unwrap_or((cores / 2).max(1));
    let mut tuned = Tuned {
        threads: usual,
        prompt_batch: PromptBatch::given(wanted.prompt_batch.unwrap_or(PROMPT_BATCH_MAX / 2)),
    };
    if wanted.threads.is_some() && wanted.prompt_batch.is_some() {
        return tuned;
    }
    let mut best: Option<(u32, Duration, LlamaContext<'m>)> = None;
    for threads in candidates(wanted, usual, cores) {
        if best.is_some() && Instant::now() >= until {
            break;
        }
        let Some(mut context) = context(threads) else {
            break;
        };
        let Some(time) = step_time(&mut context, wanted.rows, until) else {
            break;
        };
        tracing::debug!(threads, ?time, "a decode step");
        if best
            .as_ref()
            .is_none_or(|(fewer, least, _)| is_better((threads, time), (*fewer, *least)))
        {
            best = Some((threads, time, context));
        }
    }
    let Some((threads, _, mut context)) = best else {
        return tuned;
    };
    tuned.threads = threads;
    if wanted.prompt_batch.is_none()
        && let Some(token) = prompt_token_time(&mut context)
    {
        tuned.prompt_batch = PromptBatch::of(token);
    }
    tuned
}

/// Room in a context for [`tune`], in tokens.
pub const ROOM: u32 = 512;

/// Cores that this process may use: affinity and the control group's quota count.
fn cores() -> u32 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u32::try_from(cores).unwrap_or(1)
}

/// Numbers of threads that are tried, the likeliest first.
fn candidates(wanted: &Wanted, usual: u32, cores: u32) -> Vec<u32> {
    if wanted.threads.is_some() || wanted.has_accelerator {
        return vec![usual];
    }
    let mut tried = Vec::new();
    for threads in [usual, cores, cores * 3 / 4, cores / 4, 1] {
        if threads > 0 && !tried.contains(&threads) {
            tried.push(threads);
        }
    }
    tried
}

/// Whether one number of threads is to be taken rather than another.
fn is_better((threads, time): (u32, Duration), (others, others_time): (u32, Duration)) -> bool {
    let (time, others_time) = (time.as_secs_f64(), others_time.as_secs_f64());
    if threads < others {
        time <= others_time * TOLERANCE
    } else {
        time * TOLERANCE < others_time
    }
}

/// What one decode step of several answers takes.
fn step_time(context: &mut LlamaContext<'_>, rows: u32, until: Instant) -> Option<Duration> {
    let rows = i32::try_from(rows).ok()?;
    let mut batch = LlamaBatch::new(usize::try_from(rows).ok()?, 1);
    let mut times = Vec::new();
    // The first one also reads the weights from the disk.
    for place in 0..=i32::try_from(STEPS).ok()? {
        batch.clear();
        for sequence in 0..rows {
            batch
                .add(LlamaToken::new(place), place, &[sequence], true)
                .ok()?;
        }
        let time = timed(context, &mut batch)?;
        if place > 0 {
            times.push(time);
        }
        if Instant::now() >= until && !times.is_empty() {
            break;
        }
    }
    context.clear_kv_cache();
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}

/// What one token of a prompt takes.
fn prompt_token_time(context: &mut LlamaContext<'_>) -> Option<Duration> {
    const TOKENS: u32 = 64;
    let mut batch = LlamaBatch::new(usize::try_from(TOKENS).ok()?, 1);
    let last = i32::try_from(TOKENS).ok()? - 1;
    for place in 0..=last {
        batch
            .add(LlamaToken::new(place), place, &[0], place == last)
            .ok()?;
    }
    let time = timed(context, &mut batch)?;
    Some(time / TOKENS)
}

fn timed(context: &mut LlamaContext<'_>, batch: &mut LlamaBatch<'_>) -> Option<Duration> {
    let began = Instant::now();
    context.decode(batch).ok()?;
    context.synchronize();
    Some(began.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    #[test]
    fn a_slow_machine_reads_less_at_once() {
        let batch = |ms: f64| PromptBatch::of(MILLISECOND.mul_f64(ms));
        let of = |alone, beside| PromptBatch { alone, beside };
        assert_eq!(batch(0.01), of(512, 256));
        assert_eq!(batch(2.0), of(256, 64));
        assert_eq!(batch(2.9), of(256, 64));
        assert_eq!(batch(1000.0), of(16, 16));
    }

    #[test]
    fn pieces_shrink_while_they_are_slow_and_grow_back() {
        let batch = PromptBatch {
            alone: 256,
            beside: 64,
        };
        assert_eq!(batch.after(64, MILLISECOND * 500), 32);
        assert_eq!(batch.after(16, MILLISECOND * 500), 16);
        assert_eq!(batch.after(32, MILLISECOND * 250), 32);
        assert_eq!(batch.after(32, MILLISECOND * 50), 64);
        assert_eq!(batch.after(64, MILLISECOND * 50), 64);
    }

    #[test]
    fn fewer_threads_win_unless_more_are_clearly_faster() {
        assert!(is_better((4, MILLISECOND * 9), (2, MILLISECOND * 10)));
        assert!(!is_better((4, MILLISECOND * 99), (2, MILLISECOND * 100)));
        assert!(is_better((2, MILLISECOND * 100), (4, MILLISECOND * 99)));
        assert!(!is_better((2, MILLISECOND * 100), (4, MILLISECOND * 90)));
    }

    #[test]
    fn what_is_set_is_not_tried() {
        let wanted = |threads, has_accelerator| Wanted {
            threads,
            prompt_batch: None,
            rows: 1,
            has_accelerator,
        };
        assert_eq!(candidates(&wanted(Some(3), false), 3, 8), [3]);
        assert_eq!(candidates(&wanted(None, true), 4, 8), [4]);
        assert_eq!(candidates(&wanted(None, false), 4, 8), [4, 8, 6, 2, 1]);
        assert_eq!(candidates(&wanted(None, false), 1, 1), [1]);
        assert_eq!(candidates(&wanted(None, false), 1, 2), [1, 2]);
    }
}
