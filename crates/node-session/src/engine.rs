//! What the engine says: prompts accepted, decode steps, ends.

use protocol::limits::{CACHED_PREFIXES_MAX, ENTRY_BYTES_MAX, ENTRY_TOKENS_MAX};
use protocol::{Alias, ErrorCode, Failure, FinishReason, NodeToRelay, Usage};

use crate::input::{Advance, EngineEvent};
use crate::job::{Ended, Job, Phase};
use crate::{JobKey, Millis, NodeSession, Output};

/// A whole answer that its client does not acknowledge is forgotten after this; the relay does about the same.
pub(crate) const ENDED_KEPT_MS: Millis = 60_000;

/// Memory for whole answers that clients have not acknowledged, all together; the oldest go first.
const ENDED_BYTES_MAX: usize = 32 << 20;

/// How many such answers are kept.
const ENDED_JOBS_MAX: usize = 256;

/// What an engine may add to a full window: steps that were under way when it was told to pause.
const OVERRUN_BYTES_MAX: u32 = 1 << 20;

impl NodeSession {
    pub(crate) fn engine_said(&mut self, event: EngineEvent) {
        match event {
            EngineEvent::Accepted {
                key,
                prompt_tokens,
                context_tokens,
            } => self.accepted(key, prompt_tokens, context_tokens),
            EngineEvent::Progress {
                key,
                prefilled_tokens,
            } => {
                if !self.is_going_on(key) {
                    self.ignored += 1;
                } else if let Some(alias) = self.alias(key) {
                    self.send_progress(alias, prefilled_tokens);
                }
            }
            EngineEvent::Step(advances) => {
                for advance in &advances {
                    self.advance(advance);
                }
            }
            EngineEvent::Finished {
                key,
                finish_reason,
                usage,
            } => self.engine_finished(key, finish_reason, usage),
            EngineEvent::Failed { key, failure } => {
                self.engine_ended(key, |alias| NodeToRelay::Failed {
                    alias,
                    failure: failure.bounded(),
                });
            }
            EngineEvent::Cached(mut prefixes) => {
                prefixes.truncate(CACHED_PREFIXES_MAX);
                self.cached = Some(prefixes);
                if self.is_up() {
                    self.tell_cached();
                }
            }
            EngineEvent::Checked { check, failure } => self.checked(check, failure),
            EngineEvent::Cancelled { key, usage } => {
                self.engine_ended(key, |alias| NodeToRelay::Cancelled { alias, usage });
            }
        }
    }

    /// Whether the engine is to go on with the job.
    fn is_going_on(&self, key: JobKey) -> bool {
        self.jobs.get(&key).is_some_and(|job| match job.phase {
            Phase::Started | Phase::Accepted { .. } => true,
            Phase::Waiting(_) | Phase::Stopping | Phase::Ended(_) => false,
        })
    }

    fn alias(&self, key: JobKey) -> Option<Alias> {
        self.jobs.get(&key).and_then(|job| job.alias)
    }

    fn accepted(&mut self, key: JobKey, prompt_tokens: u32, context_tokens: u32) {
        if !self.is_going_on(key) {
            self.ignored += 1;
            return;
        }
        if let Some(job) = self.jobs.get_mut(&key) {
            job.phase = Phase::Accepted {
                prompt_tokens,
                context_tokens,
            };
        }
        self.say_accepted(key);
    }

    /// Tells the relay that the prompt is read, where it is.
    pub(crate) fn say_accepted(&mut self, key: JobKey) {
        let Some(job) = self.jobs.get(&key) else {
            return;
        };
        if let Some(((prompt_tokens, context_tokens), alias)) = job.accepted().zip(job.alias) {
            let message = NodeToRelay::Accepted {
                alias,
                prompt_tokens,
                context_tokens,
            };
            self.send_about(key, &message);
        }
    }

    /// Keeps what the engine said, whether there is a connection or not.
    fn advance(&mut self, advance: &Advance) {
        let key = advance.key;
        if !self.is_going_on(key) {
            self.ignored += 1;
            return;
        }
        let Some(job) = self.jobs.get_mut(&key) else {
            return;
        };
        if let Err(message) = take(job, advance) {
            self.give_up(key, message);
            return;
        }
        if job.alias.is_some() && job.stream.has_unsent() {
            self.mark_unsent(key);
        }
        self.pause_or_go_on(key);
    }

    /// Pauses the engine for a client that does not keep up, or that is gone, and lets it go on when it does.
    pub(crate) fn pause_or_go_on(&mut self, key: JobKey) {
        let Some(job) = self.jobs.get_mut(&key) else {
            return;
        };
        let is_full = job.stream.unacknowledged() >= job.window_bytes;
        match job.phase {
            Phase::Started | Phase::Accepted { .. } if is_full != job.is_paused => {
                job.is_paused = is_full;
                self.outputs.push_back(if is_full {
                    Output::Pause { key }
                } else {
                    Output::Unpause { key }
                });
            }
            Phase::Started
            | Phase::Accepted { .. }
            | Phase::Waiting(_)
            | Phase::Stopping
            | Phase::Ended(_) => {}
        }
    }

    /// The job cannot go on: the relay hears so at once, the engine is stopped.
    fn give_up(&mut self, key: JobKey, message: &str) {
        self.part_with(key, Failure::new(ErrorCode::EngineFailed, message));
    }

    /// What has no end yet goes to other nodes, with all that the engine has said of it by now.
    pub(crate) fn hand_back(&mut self) {
        self.drain();
        let unfinished = self.jobs.iter().filter(|(_, job)| match job.phase {
            Phase::Waiting(_) | Phase::Started | Phase::Accepted { .. } => true,
            Phase::Stopping | Phase::Ended(_) => false,
        });
        let unfinished: Vec<JobKey> = unfinished.map(|(key, _)| *key).collect();
        for key in unfinished {
            let message = "this node ends; another can go on with it";
            self.part_with(key, Failure::new(ErrorCode::Draining, message));
        }
    }

    fn part_with(&mut self, key: JobKey, failure: Failure) {
        if let Some(alias) = self.alias(key) {
            self.send_about(key, &NodeToRelay::Failed { alias, failure });
        }
        self.drop_job(key);
    }

    fn engine_finished(&mut self, key: JobKey, finish_reason: FinishReason, usage: Usage) {
        let Some(job) = self.jobs.get_mut(&key) else {
            self.ignored += 1;
            return;
        };
        match job.phase {
            Phase::Accepted {
                prompt_tokens,
                context_tokens,
            } => {
                job.phase = Phase::Ended(Ended {
                    prompt_tokens,
                    context_tokens,
                    finish_reason,
                    usage,
                    at: self.now,
                });
                job.drop_at = Some(self.now.saturating_add(ENDED_KEPT_MS));
                self.say_completed(key);
                self.trim_ended();
                self.start_waiting();
            }
            Phase::Stopping => {
                // It was done before it heard that it should stop.
                self.engine_ended(key, |alias| NodeToRelay::Cancelled { alias, usage });
            }
            Phase::Started => {
                let message = "the engine finished before it accepted the prompt";
                let failure = Failure::new(ErrorCode::EngineFailed, message);
                self.engine_ended(key, |alias| NodeToRelay::Failed { alias, failure });
            }
            Phase::Waiting(_) | Phase::Ended(_) => self.ignored += 1,
        }
    }

    /// Tells the relay that the answer is whole, where it is.
    pub(crate) fn say_completed(&mut self, key: JobKey) {
        let Some(job) = self.jobs.get(&key) else {
            return;
        };
        if let Some((ended, alias)) = job.ended().zip(job.alias) {
            let message = NodeToRelay::Completed {
                alias,
                offset: job.stream.end().offset,
                finish_reason: ended.finish_reason,
                usage: ended.usage,
            };
            self.send_about(key, &message);
        }
    }

    /// An attempt that ended without an answer is forgotten; without a connection nobody hears of it.
    fn engine_ended(&mut self, key: JobKey, message: impl FnOnce(Alias) -> NodeToRelay) {
        if self.jobs.get(&key).is_none_or(|job| !job.is_in_engine()) {
            self.ignored += 1;
            return;
        }
        if let Some(alias) = self.alias(key) {
            self.send_about(key, &message(alias));
        }
        self.forget_job(key);
        self.start_waiting();
    }

    fn trim_ended(&mut self) {
        let ended = |(key, job): (&JobKey, &Job)| job.ended().map(|ended| (ended.at, *key));
        loop {
            let (mut count, mut bytes) = (0, 0);
            for job in self.jobs.values().filter(|job| job.ended().is_some()) {
                count += 1;
                bytes += job.stream.memory_bytes();
            }
            let oldest = self.jobs.iter().filter_map(ended).min();
            match oldest.filter(|_| count > ENDED_JOBS_MAX || bytes > ENDED_BYTES_MAX) {
                Some((_, key)) => self.forget_job(key),
                None => return,
            }
        }
    }
}

fn take(job: &mut Job, advance: &Advance) -> Result<(), &'static str> {
    let Phase::Accepted { .. } = job.phase else {
        return Err("the engine answered before it accepted the prompt");
    };
    for (tokens, bytes) in pieces(advance) {
        job.stream.push(advance.kind, tokens, bytes)?;
    }
    if job.stream.unacknowledged() > job.window_bytes.saturating_add(OVERRUN_BYTES_MAX) {
        return Err("the engine does not pause");
    }
    Ok(())
}

/// Cuts an advance into what fits an entry. Cuts lie between characters; tokens go with the first piece that has room.
fn pieces(advance: &Advance) -> impl Iterator<Item = (&[u32], &[u8])> {
    let (mut tokens, mut bytes) = (advance.tokens.as_slice(), advance.bytes.as_slice());
    std::iter::from_fn(move || {
        if tokens.is_empty() && bytes.is_empty() {
            return None;
        }
        let (tokens_now, tokens_later) = tokens.split_at(tokens.len().min(ENTRY_TOKENS_MAX));
        let (bytes_now, bytes_later) = bytes.split_at(character_cut(bytes));
        (tokens, bytes) = (tokens_later, bytes_later);
        Some((tokens_now, bytes_now))
    })
}

/// The longest prefix within an entry's limit that ends between characters.
fn character_cut(bytes: &[u8]) -> usize {
    if bytes.len() <= ENTRY_BYTES_MAX {
        return bytes.len();
    }
    let is_inside = |cut: &usize| bytes.get(*cut).is_some_and(|byte| byte & 0xC0 == 0x80);
    (ENTRY_BYTES_MAX - 3..=ENTRY_BYTES_MAX)
        .rev()
        .find(|cut| !is_inside(cut))
        .unwrap_or(ENTRY_BYTES_MAX)
}
