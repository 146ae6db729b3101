//! Rates of several chats at once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::bail;
use nix::time::{ClockId, clock_gettime};
use protocol::ChatRequest;
use serde::Serialize;

use super::Prompts;
use super::asking::Asking;
use crate::engine::{EngineEvent, JobKey};

/// What is to be measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) streams: u32,
    pub(super) prompts: Prompts,
    pub(super) prompt_tokens: u32,
    pub(super) generate: u32,
    pub(super) stagger_ms: u32,
}

/// What was measured.
#[derive(Debug, Serialize)]
pub(super) struct Measured {
    streams: u32,
    prompts: Prompts,
    stagger_ms: u32,
    /// Tokens of one prompt, the first.
    prompt_tokens: u32,
    /// Tokens of all answers.
    generated_tokens: u32,
    /// All prompts' tokens, over the time from the first question to the last first token.
    prompt_tokens_per_s: f64,
    /// Tokens of all answers without each one's first, over the time from the first first token to the last token.
    generate_tokens_per_s: f64,
    /// Tokens of all answers over the time from the first question to the last token.
    total_tokens_per_s: f64,
    /// From each question to its first token, in the order of the questions.
    first_token_ms: Vec<f64>,
    first_token_ms_median: f64,
    first_token_ms_max: f64,
    /// From the first question to the last token.
    wall_ms: f64,
    /// The computing time of all threads in it: on a busy machine it says more than the time that went by.
    cpu_ms: f64,
}

/// One chat as it goes.
#[derive(Debug)]
struct Stream {
    asked: Instant,
    prompt_tokens: u32,
    first: Option<Instant>,
    last: Instant,
    tokens: u32,
    is_over: bool,
}

/// Makes one measurement.
pub(super) async fn measure(asking: &mut Asking, plan: Plan) -> anyhow::Result<Measured> {
    let mut requests = Vec::new();
    for _ in 0..plan.streams {
        let same: Option<ChatRequest> = requests
            .first()
            .filter(|_| plan.prompts == Prompts::Same)
            .cloned();
        requests.push(match same {
            Some(request) => request,
            None => asking.request(plan.prompt_tokens, plan.generate).await?,
        });
    }
    let mut streams: BTreeMap<JobKey, Stream> = BTreeMap::new();
    let cpu_began = cpu_time();
    let began = Instant::now();
    let mut due = began;
    for request in requests {
        // Events go on while the next chat is awaited.
        while let Some(left) = due.checked_duration_since(Instant::now()) {
            match tokio::time::timeout(left, asking.event()).await {
                Ok(told) => {
                    let (event, at) = told?;
                    note(&mut streams, event, at)?;
                }
                Err(_) => break,
            }
        }
        let asked = Instant::now();
        let key = asking.start(request)?;
        let stream = Stream {
            asked,
            prompt_tokens: 0,
            first: None,
            last: asked,
            tokens: 0,
            is_over: false,
        };
        streams.insert(key, stream);
        due += Duration::from_millis(u64::from(plan.stagger_ms));
    }
    while streams.values().any(|stream| !stream.is_over) {
        let (event, at) = asking.event().await?;
        note(&mut streams, event, at)?;
    }
    let cpu = cpu_time().saturating_sub(cpu_began);
    let streams: Vec<Stream> = streams.into_values().collect();
    Ok(summary(plan, began, cpu, &streams))
}

fn note(
    streams: &mut BTreeMap<JobKey, Stream>,
    event: EngineEvent,
    at: Instant,
) -> anyhow::Result<()> {
    match event {
        EngineEvent::Accepted {
            key, prompt_tokens, ..
        } => {
            if let Some(stream) = streams.get_mut(&key) {
                stream.prompt_tokens = prompt_tokens;
            }
        }
        EngineEvent::Step(advances) => {
            for advance in advances {
                if let Some(stream) = streams.get_mut(&advance.key) {
                    stream.first.get_or_insert(at);
                    stream.last = at;
                    stream.tokens += u32::try_from(advance.tokens.len()).unwrap_or(0);
                }
            }
        }
        EngineEvent::Finished { key, .. } => {
            if let Some(stream) = streams.get_mut(&key) {
                stream.is_over = true;
            }
        }
        EngineEvent::Failed { failure, .. } => bail!("the engine failed: {failure}"),
        EngineEvent::Progress { .. }
        | EngineEvent::Checked { .. }
        | EngineEvent::Cached(_)
        | EngineEvent::Cancelled { .. } => {}
    }
    Ok(())
}

fn summary(plan: Plan, began: Instant, cpu: Duration, streams: &[Stream]) -> Measured {
    let firsts = || streams.iter().filter_map(|stream| stream.first);
    let first = firsts().min().unwrap_or(began);
    let last_first = firsts().max().unwrap_or(began);
    let last = streams
        .iter()
        .map(|stream| stream.last)
        .max()
        .unwrap_or(began);
    let generated: u32 = streams.iter().map(|stream| stream.tokens).sum();
    let prompts: u32 = streams.iter().map(|stream| stream.prompt_tokens).sum();
    let waits: Vec<f64> = streams
        .iter()
        .map(|stream| {
            stream
                .first
                .map_or(0.0, |first| ms(first.duration_since(stream.asked)))
        })
        .collect();
    let sorted = sorted(&waits);
    Measured {
        streams: plan.streams,
        prompts: plan.prompts,
        stagger_ms: plan.stagger_ms,
        prompt_tokens: streams.first().map_or(0, |stream| stream.prompt_tokens),
        generated_tokens: generated,
        prompt_tokens_per_s: rate(prompts, last_first.duration_since(began)),
        generate_tokens_per_s: rate(
            generated.saturating_sub(plan.streams),
            last.duration_since(first),
        ),
        total_tokens_per_s: rate(generated, last.duration_since(began)),
        first_token_ms_median: quantile(&sorted, 0.5),
        first_token_ms_max: quantile(&sorted, 1.0),
        first_token_ms: waits,
        wall_ms: ms(last.duration_since(began)),
        cpu_ms: ms(cpu),
    }
}

/// The computing time that this process has used; nothing where the system does not tell.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// Milliseconds, to the hundredth.
pub(super) fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e5).round() / 100.0
}

fn rate(count: u32, time: Duration) -> f64 {
    let seconds = time.as_secs_f64();
    if seconds > 0.0 {
        (f64::from(count) / seconds * 10.0).round() / 10.0
    } else {
        0.0
    }
}

/// Lowest first.
pub(super) fn sorted(values: &[f64]) -> Vec<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values
}

/// The value below which this share of `sorted` lies (nearest rank); 0 where there is none.
pub(super) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let mut rank = 1.0;
    let mut count = 0.0;
    for _ in sorted {
        count += 1.0;
    }
    let wanted = (share * count).ceil();
    for value in sorted {
        if rank >= wanted {
            return *value;
        }
        rank += 1.0;
    }
    0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_one_of_the_values() {
        let values = sorted(&[4.0, 1.0, 3.0, 2.0]);
        assert_eq!(quantile(&values, 0.0).to_bits(), 1f64.to_bits());
        assert_eq!(quantile(&values, 0.5).to_bits(), 2f64.to_bits());
        assert_eq!(quantile(&values, 0.51).to_bits(), 3f64.to_bits());
        assert_eq!(quantile(&values, 1.0).to_bits(), 4f64.to_bits());
        assert_eq!(quantile(&[], 0.5).to_bits(), 0f64.to_bits());
    }

    #[test]
    fn rates_count_from_the_first_question() {
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        let stream = |asked, first, last| Stream {
            asked: at(asked),
            prompt_tokens: 100,
            first: Some(at(first)),
            last: at(last),
            tokens: 11,
            is_over: true,
        };
        let plan = Plan {
            streams: 2,
            prompts: Prompts::Different,
            prompt_tokens: 100,
            generate: 11,
            stagger_ms: 50,
        };
        let measured = summary(
            plan,
            began,
            Duration::ZERO,
            &[stream(0, 100, 1100), stream(50, 250, 600)],
        );
        assert_eq!(measured.generated_tokens, 22);
        assert_eq!(measured.prompt_tokens_per_s.to_bits(), 800f64.to_bits());
        assert_eq!(measured.generate_tokens_per_s.to_bits(), 20f64.to_bits());
        assert_eq!(measured.total_tokens_per_s.to_bits(), 20f64.to_bits());
        assert_eq!(measured.first_token_ms, [100.0, 200.0]);
        assert_eq!(measured.first_token_ms_max.to_bits(), 200f64.to_bits());
    }
}
