//! One short job before the relay hears of this rig: whether the engine answers at all, and how fast.
//!
//! A rig whose engine is broken thus ends before it has taken anybody's job, however often it is started again.

use std::time::{Duration, Instant};

use protocol::chat::Sampling;
use protocol::{ChatMessage, ChatRequest, EmbedRequest, JobRequest, MeasuredSpeed, Role};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::time::timeout;

use crate::engine::llama::Loaded;
use crate::engine::{Command, EngineEvent, JobKey};

/// The session counts its keys up from 0, and never gets here.
const KEY: JobKey = JobKey(u64::MAX);

/// Enough for a few chunks of prefill; a quarter of a small context.
const PROMPT_WORDS_MAX: u32 = 256;

/// Enough decode steps that the first one does not count for much.
const ANSWER_TOKENS: u32 = 32;

/// What is not over by then is stopped and counts as far as it came: a large model on a slow machine is no fault.
const TEST_TIME_MAX: Duration = Duration::from_secs(20);

/// A step of the slowest engine that anybody would use; beyond it, the engine is stuck.
const STOP_TIME_MAX: Duration = Duration::from_mins(1);

/// Why the engine cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SelfTestError {
    /// The engine refused the job, or broke.
    #[error("the engine failed its self-test: {0}")]
    Failed(String),
    /// The engine's thread is gone.
    #[error("the engine died in its self-test")]
    Died,
    /// Nothing comes of it.
    #[error(
        "the engine did not end its self-test: the device hangs, or is far too slow for this model"
    )]
    Stuck,
}

/// How far the test came.
#[derive(Debug, Default)]
struct Course {
    accepted: Option<Instant>,
    prompt_tokens: u32,
    prefilled: Option<(Instant, u32)>,
    first: Option<Instant>,
    last: Option<Instant>,
    tokens: usize,
}

/// Runs the test. Nothing else may use the engine meanwhile.
pub async fn run(
    commands: &UnboundedSender<Command>,
    events: &mut UnboundedReceiver<EngineEvent>,
    request: JobRequest,
) -> Result<Option<MeasuredSpeed>, SelfTestError> {
    let start = Command::Start {
        key: KEY,
        model: String::new(),
        request: Box::new(request),
        answer: None,
        prefix: None,
    };
    commands.send(start).map_err(|_| SelfTestError::Died)?;
    let mut course = Course::default();
    if let Ok(ended) = timeout(TEST_TIME_MAX, course.follow(events)).await {
        ended?;
    } else {
        commands
            .send(Command::Stop { key: KEY })
            .map_err(|_| SelfTestError::Died)?;
        timeout(STOP_TIME_MAX, course.follow(events))
            .await
            .map_err(|_| SelfTestError::Stuck)??;
    }
    Ok(course.speed())
}

/// What the engine is asked: a chat, or a vector where the model does not chat (which measures nothing).
pub fn request(loaded: &Loaded) -> JobRequest {
    let words = PROMPT_WORDS_MAX.min(loaded.context_tokens / 4);
    let mut content = String::from("Go on with this list of words:");
    for _ in 0..words {
        content.push_str(" river");
    }
    if !loaded.has_chat {
        let inputs = vec![content];
        return EmbedRequest {
            inputs,
            dimensions: None,
        }
        .into();
    }
    ChatRequest {
        messages: vec![ChatMessage::new(Role::User, content)],
        max_tokens: Some(ANSWER_TOKENS),
        sampling: Sampling {
            temperature: Some(0.0),
            ..Sampling::default()
        },
        ..ChatRequest::default()
    }
    .into()
}

impl Course {
    /// Takes in events until the job is over.
    async fn follow(
        &mut self,
        events: &mut UnboundedReceiver<EngineEvent>,
    ) -> Result<(), SelfTestError> {
        loop {
            let event = events.recv().await.ok_or(SelfTestError::Died)?;
            let now = Instant::now();
            match event {
                EngineEvent::Accepted { prompt_tokens, .. } => {
                    self.accepted = Some(now);
                    self.prompt_tokens = prompt_tokens;
                }
                EngineEvent::Progress {
                    prefilled_tokens, ..
                } => self.prefilled = Some((now, prefilled_tokens)),
                EngineEvent::Step(advances) => {
                    self.first.get_or_insert(now);
                    self.last = Some(now);
                    self.tokens += advances
                        .iter()
                        .map(|advance| advance.tokens.len())
                        .sum::<usize>();
                }
                EngineEvent::Failed { failure, .. } => {
                    return Err(SelfTestError::Failed(failure.message));
                }
                EngineEvent::Finished { .. } | EngineEvent::Cancelled { .. } => return Ok(()),
                EngineEvent::Checked { .. } | EngineEvent::Cached(_) => {}
            }
        }
    }

    /// What can be said of the speed; nothing where too little came.
    fn speed(&self) -> Option<MeasuredSpeed> {
        let accepted = self.accepted?;
        let (prefilled_at, prefilled) = match self.first {
            Some(first) => (first, self.prompt_tokens),
            None => self.prefilled?,
        };
        let prefill = rate(prefilled, prefilled_at - accepted)?;
        let (first, last) = (self.first?, self.last?);
        let later = u32::try_from(self.tokens.checked_sub(1)?).ok()?;
        Some(MeasuredSpeed {
            prefill_tokens_per_second: prefill,
            decode_tokens_per_second: rate(later, last - first)?,
        })
    }
}

/// Tokens a second, rounded, but at least 1 where there were any.
fn rate(tokens: u32, time: Duration) -> Option<u32> {
    let seconds = time.as_secs_f64();
    if tokens == 0 || seconds <= 0.0 {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float becomes the nearest integer that there is"
    )]
    let rounded = (f64::from(tokens) / seconds).round() as u32;
    Some(rounded.max(1))
}

#[cfg(test)]
mod tests {
    use protocol::{ErrorCode, Failure};
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;

    #[tokio::test]
    async fn an_engine_that_fails_or_dies_is_not_used() {
        let (commands, mut told) = unbounded_channel();
        let (sender, mut events) = unbounded_channel();
        let failure = Failure::new(ErrorCode::EngineFailed, "device lost");
        sender
            .send(EngineEvent::Failed { key: KEY, failure })
            .unwrap();
        let error = run(&commands, &mut events, JobRequest::Unknown)
            .await
            .unwrap_err();
        assert!(error.to_string().contains("device lost"));
        assert!(matches!(
            told.try_recv(),
            Ok(Command::Start { key: KEY, .. })
        ));
        drop(sender);
        let error = run(&commands, &mut events, JobRequest::Unknown)
            .await
            .unwrap_err();
        assert!(matches!(error, SelfTestError::Died));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_engine_is_stopped_and_a_stuck_one_is_given_up() {
        let (commands, mut told) = unbounded_channel();
        let (_sender, mut events) = unbounded_channel();
        let error = run(&commands, &mut events, JobRequest::Unknown)
            .await
            .unwrap_err();
        assert!(matches!(error, SelfTestError::Stuck));
        assert!(matches!(told.try_recv(), Ok(Command::Start { .. })));
        assert!(matches!(told.try_recv(), Ok(Command::Stop { key: KEY })));
    }

    #[test]
    fn rates_are_whole_and_never_nothing() {
        assert_eq!(rate(100, Duration::from_millis(500)), Some(200));
        assert_eq!(rate(1, Duration::from_secs(50)), Some(1));
        assert_eq!(rate(0, Duration::from_secs(1)), None);
        assert_eq!(rate(5, Duration::ZERO), None);
    }
}
