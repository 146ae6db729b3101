//! How long seven chats pause while a long prompt arrives.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::bail;
use serde::Serialize;

use super::asking::Asking;
use super::measure::{ms, quantile, sorted};
use crate::engine::{EngineEvent, JobKey};

/// Chats that stream while the prompt arrives.
pub(super) const STREAMS: u32 = 7;

/// Tokens of each one's prompt.
const PROMPT_TOKENS: u32 = 64;

/// Tokens that each has told before the prompt arrives: enough for a median.
const TOKENS_BEFORE: usize = 64;

/// The chats must go on until the prompt is read, however long that takes.
const TOKENS_MAX: u32 = 4096;

/// What was measured. Times are in milliseconds.
#[derive(Debug, Serialize)]
pub(super) struct Pauses {
    streams: u32,
    /// Tokens of the prompt that arrived.
    arriving_tokens: u32,
    /// From its arrival to its first token.
    arriving_first_token_ms: f64,
    /// Between two tokens of a chat, before: the median, and the longest.
    step_ms_median: f64,
    step_ms_max: f64,
    /// The median once the long prompt is read: its place in the cache makes every step longer.
    step_ms_after: f64,
    /// Prompt tokens of the largest piece that was read beside the chats.
    chunk_tokens: u32,
    /// The longest time that a piece of such a prompt takes while all chats but one pause, less what that one's step
    /// takes.
    chunk_ms: f64,
    /// Between two tokens of a chat while the prompt was read.
    pause_count: u32,
    pause_ms_p50: f64,
    pause_ms_p90: f64,
    pause_ms_p99: f64,
    pause_ms_max: f64,
    /// Two steps and a piece: no pause should be longer.
    bound_ms: f64,
}

/// Room for the chats, in tokens.
pub(super) const fn room() -> u32 {
    PROMPT_TOKENS + TOKENS_MAX
}

/// Gaps between tokens, and when each chat told its last.
#[derive(Debug, Default)]
struct Gaps {
    last: BTreeMap<JobKey, Instant>,
    ms: Vec<f64>,
}

impl Gaps {
    fn note(&mut self, key: JobKey, at: Instant) {
        if let Some(before) = self.last.insert(key, at) {
            self.ms.push(ms(at.duration_since(before)));
        }
    }
}

/// Pieces of a prompt as they were read.
#[derive(Debug, Default)]
struct Pieces {
    /// Each one's tokens, and the time it took in milliseconds.
    read: Vec<(u32, f64)>,
    prefilled: u32,
    last: Option<Instant>,
}

impl Pieces {
    fn note(&mut self, prefilled_tokens: u32, at: Instant) {
        if let Some(last) = self.last.replace(at) {
            let tokens = prefilled_tokens.saturating_sub(self.prefilled);
            self.read.push((tokens, ms(at.duration_since(last))));
        }
        self.prefilled = prefilled_tokens;
    }

    fn largest(&self) -> u32 {
        self.read
            .iter()
            .map(|(tokens, _)| *tokens)
            .max()
            .unwrap_or(0)
    }

    /// What the longest of these pieces took.
    fn longest(&self) -> f64 {
        self.read.iter().map(|(_, ms)| *ms).fold(0.0, f64::max)
    }
}

/// Makes the measurement.
pub(super) async fn measure(asking: &mut Asking, tokens: u32) -> anyhow::Result<Pauses> {
    let mut chats = Vec::new();
    for _ in 0..STREAMS {
        chats.push(asking.request(PROMPT_TOKENS, TOKENS_MAX).await?);
    }
    let arriving = asking.request(tokens, TOKENS_MAX).await?;
    let alone = asking.request(tokens, 1).await?;
    let mut streaming = Vec::new();
    for chat in chats {
        streaming.push(asking.start(chat)?);
    }
    let before = gaps_before(asking).await?;
    let began = Instant::now();
    let arriving = asking.start(arriving)?;
    let (beside, during, first) = until_first_token(asking, arriving, before.last).await?;
    // The steps that follow hold the long prompt too.
    let step_ms_after = gap_of_steps(asking).await?;
    asking.stop(arriving)?;
    until_over(asking, arriving).await?;
    // The same again beside chats that keep their place in the cache, which costs too, but of which only one goes on:
    // so the engine reads the same pieces.
    for key in streaming.iter().skip(1) {
        asking.pause(*key)?;
    }
    let one = gap_of_steps(asking).await?;
    let alone = asking.start(alone)?;
    let (pieces, _, _) = until_first_token(asking, alone, BTreeMap::new()).await?;
    until_over(asking, alone).await?;
    for key in streaming {
        asking.stop(key)?;
        until_over(asking, key).await?;
    }

    let (steps, pauses) = (sorted(&before.ms), sorted(&during.ms));
    let step_ms_median = quantile(&steps, 0.5);
    let chunk_tokens = beside.largest();
    let chunk_ms = pieces.longest() - one;
    Ok(Pauses {
        streams: STREAMS,
        arriving_tokens: beside.prefilled,
        arriving_first_token_ms: ms(first.duration_since(began)),
        step_ms_median,
        step_ms_max: quantile(&steps, 1.0),
        step_ms_after,
        chunk_tokens,
        chunk_ms,
        pause_count: u32::try_from(pauses.len()).unwrap_or(u32::MAX),
        pause_ms_p50: quantile(&pauses, 0.5),
        pause_ms_p90: quantile(&pauses, 0.9),
        pause_ms_p99: quantile(&pauses, 0.99),
        pause_ms_max: quantile(&pauses, 1.0),
        bound_ms: 2.0f64.mul_add(step_ms_median.max(step_ms_after), chunk_ms),
    })
}

/// Waits until every chat has told enough; what lies before all of them stream does not count.
async fn gaps_before(asking: &mut Asking) -> anyhow::Result<Gaps> {
    let mut gaps = Gaps::default();
    let streams = usize::try_from(STREAMS).unwrap_or(usize::MAX);
    while gaps.ms.len() < streams * TOKENS_BEFORE {
        let (event, at) = asking.event().await?;
        if let Some(told) = told(event)? {
            for key in told {
                gaps.note(key, at);
            }
            if gaps.last.len() < streams {
                gaps.ms.clear();
            }
        }
    }
    Ok(gaps)
}

/// What a step of those that go on takes: the median.
async fn gap_of_steps(asking: &mut Asking) -> anyhow::Result<f64> {
    let mut gaps = Gaps::default();
    while gaps.ms.len() < TOKENS_BEFORE {
        let (event, at) = asking.event().await?;
        for key in told(event)?.unwrap_or_default() {
            gaps.note(key, at);
        }
    }
    Ok(quantile(&sorted(&gaps.ms), 0.5))
}

/// Follows everybody until `key` tells its first token.
async fn until_first_token(
    asking: &mut Asking,
    key: JobKey,
    last: BTreeMap<JobKey, Instant>,
) -> anyhow::Result<(Pieces, Gaps, Instant)> {
    let mut pieces = Pieces::default();
    let mut gaps = Gaps {
        last,
        ms: Vec::new(),
    };
    loop {
        let (event, at) = asking.event().await?;
        if let EngineEvent::Progress {
            key: of,
            prefilled_tokens,
        } = &event
            && *of == key
        {
            pieces.note(*prefilled_tokens, at);
        }
        for of in told(event)?.unwrap_or_default() {
            if of == key {
                return Ok((pieces, gaps, at));
            }
            gaps.note(of, at);
        }
    }
}

async fn until_over(asking: &mut Asking, key: JobKey) -> anyhow::Result<()> {
    loop {
        match asking.event().await?.0 {
            EngineEvent::Finished { key: of, .. } | EngineEvent::Cancelled { key: of, .. }
                if of == key =>
            {
                return Ok(());
            }
            EngineEvent::Failed { failure, .. } => bail!("the engine failed: {failure}"),
            EngineEvent::Finished { .. }
            | EngineEvent::Cancelled { .. }
            | EngineEvent::Accepted { .. }
            | EngineEvent::Progress { .. }
            | EngineEvent::Step(_)
            | EngineEvent::Checked { .. }
            | EngineEvent::Cached(_) => {}
        }
    }
}

/// Who advanced, where somebody did.
fn told(event: EngineEvent) -> anyhow::Result<Option<Vec<JobKey>>> {
    match event {
        EngineEvent::Step(advances) => {
            Ok(Some(advances.iter().map(|advance| advance.key).collect()))
        }
        EngineEvent::Failed { failure, .. } => bail!("the engine failed: {failure}"),
        EngineEvent::Accepted { .. }
        | EngineEvent::Progress { .. }
        | EngineEvent::Finished { .. }
        | EngineEvent::Checked { .. }
        | EngineEvent::Cached(_)
        | EngineEvent::Cancelled { .. } => Ok(None),
    }
}
