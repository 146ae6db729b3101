//! Texts → vectors: an engine of its own, with a context of its own, beside the one that answers.
//!
//! Inputs of all jobs are evaluated together, each in a sequence of its own, as many as a batch holds. An answer is one
//! line for each input, in order. Nothing stays in the cache from one batch to the next.

mod job;
mod router;

use std::collections::VecDeque;

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use protocol::{ErrorCode, Failure, JobRequest};

use super::FAILURES_MAX;
use crate::engine::{Advance, Command, Engine, EngineEvent, JobKey};
use job::{Job, Limits};

pub(super) use router::{Router, spawn};

/// Texts of one batch.
pub(super) const SEQUENCES: u32 = 16;

/// Turns texts into vectors.
#[derive(Debug)]
pub(super) struct Embedder<'m> {
    model: &'m LlamaModel,
    context: LlamaContext<'m>,
    batch: LlamaBatch<'static>,
    limits: Limits,
    /// Whose turn it is comes first.
    jobs: VecDeque<Job>,
    events: VecDeque<EngineEvent>,
    /// Failed steps since the last good one.
    failures: u32,
}

impl<'m> Embedder<'m> {
    /// `context` gives out vectors; texts have at most `input_tokens` tokens, and `jobs` may be there at once.
    pub(super) fn new(
        model: &'m LlamaModel,
        context: LlamaContext<'m>,
        input_tokens: u32,
        jobs: u32,
    ) -> Self {
        let batch_tokens = usize::try_from(context.n_batch()).unwrap_or(1);
        Self {
            model,
            batch: LlamaBatch::new(batch_tokens, 1),
            context,
            limits: Limits {
                input_tokens,
                batch_tokens,
                jobs: usize::try_from(jobs).unwrap_or(usize::MAX),
            },
            jobs: VecDeque::new(),
            events: VecDeque::new(),
            failures: 0,
        }
    }

    fn start(&mut self, key: JobKey, request: &JobRequest, answer: Option<&protocol::Answer>) {
        let job = if self.jobs.len() >= self.limits.jobs {
            let busy = "all slots of this node are busy";
            Err(Failure::new(ErrorCode::EngineFailed, busy))
        } else {
            Job::new(key, self.model, self.limits, request, answer)
        };
        match job {
            Ok(job) => {
                self.events.push_back(EngineEvent::Accepted {
                    key,
                    prompt_tokens: job.prompt_tokens(),
                    context_tokens: self.limits.input_tokens,
                });
                if job.is_done() {
                    self.events.push_back(job.finished());
                } else {
                    self.jobs.push_back(job);
                }
            }
            Err(failure) => self.events.push_back(EngineEvent::Failed { key, failure }),
        }
    }

    fn pause(&mut self, key: JobKey, is_paused: bool) {
        for job in self.jobs.iter_mut().filter(|job| job.key() == key) {
            job.is_paused = is_paused;
        }
    }

    fn stop(&mut self, key: JobKey) {
        let index = self.jobs.iter().position(|job| job.key() == key);
        if let Some(job) = index.and_then(|index| self.jobs.remove(index)) {
            self.events.push_back(EngineEvent::Cancelled {
                key,
                usage: job.usage(),
            });
        }
    }

    /// Fills the batch; for each of its sequences, which job of the line it belongs to.
    fn compose(&mut self) -> Vec<usize> {
        self.batch.clear();
        let mut owners = Vec::new();
        let mut left = self.limits.batch_tokens;
        for (owner, job) in self
            .jobs
            .iter()
            .enumerate()
            .filter(|(_, job)| !job.is_paused)
        {
            for tokens in job.waiting() {
                let sequence = i32::try_from(owners.len()).unwrap_or(i32::MAX);
                let is_full = u32::try_from(sequence).is_ok_and(|count| count >= SEQUENCES);
                if is_full || tokens.len() > left {
                    return owners;
                }
                left -= tokens.len();
                for (place, token) in (0i32..).zip(tokens) {
                    // There is room: the tokens were counted.
                    drop(self.batch.add(*token, place, &[sequence], true));
                }
                owners.push(owner);
            }
        }
        owners
    }

    /// Gives each job its vectors.
    fn harvest(&mut self, owners: &[usize]) {
        let mut advances = Vec::new();
        let mut failed = Vec::new();
        for (sequence, owner) in (0i32..).zip(owners) {
            let Some(job) = self.jobs.get_mut(*owner) else {
                continue;
            };
            let vector = self.context.embeddings_seq_ith(sequence).ok();
            match job.take(vector.unwrap_or_default()) {
                Ok(bytes) => advances.push(Advance {
                    key: job.key(),
                    kind: protocol::DeltaKind::Text,
                    tokens: Vec::new(),
                    bytes,
                }),
                Err(failure) => failed.push((job.key(), failure)),
            }
        }
        if !advances.is_empty() {
            self.events.push_back(EngineEvent::Step(advances));
        }
        for (key, failure) in failed {
            self.fail(key, failure);
        }
        let done = self.jobs.iter().filter(|job| job.is_done());
        self.events.extend(done.map(Job::finished));
        self.jobs.retain(|job| !job.is_done());
        // Whoever waited behind a long list comes first now.
        if self.jobs.len() > 1 {
            self.jobs.rotate_left(1);
        }
    }

    /// Ends a job, once.
    fn fail(&mut self, key: JobKey, failure: Failure) {
        let before = self.jobs.len();
        self.jobs.retain(|job| job.key() != key);
        if self.jobs.len() < before {
            self.events.push_back(EngineEvent::Failed { key, failure });
        }
    }
}

impl Engine for Embedder<'_> {
    fn handle_command(&mut self, command: Command) {
        match command {
            Command::Start {
                key,
                request,
                answer,
                model: _,
                prefix: _,
            } => self.start(key, &request, answer.as_deref()),
            Command::Check { check, request } => {
                let job = Job::new(JobKey(0), self.model, self.limits, &request, None);
                let failure = job.err();
                self.events
                    .push_back(EngineEvent::Checked { check, failure });
            }
            Command::Pause { key } => self.pause(key, true),
            Command::Unpause { key } => self.pause(key, false),
            Command::Stop { key } => self.stop(key),
            Command::Wake | Command::Shutdown => {}
        }
    }

    fn is_idle(&self) -> bool {
        self.jobs.iter().all(|job| job.is_paused)
    }

    fn is_dead(&self) -> bool {
        self.failures >= FAILURES_MAX
    }

    fn step(&mut self) {
        let owners = self.compose();
        if owners.is_empty() {
            return;
        }
        let decoded = self.context.decode(&mut self.batch);
        match decoded {
            Ok(()) => {
                self.failures = 0;
                self.harvest(&owners);
            }
            Err(error) => {
                self.failures += 1;
                tracing::error!(%error, "texts could not be evaluated");
                let keys: Vec<JobKey> = self.jobs.iter().map(Job::key).collect();
                for key in keys {
                    let message = "the node's engine could not go on; try again";
                    self.fail(key, Failure::new(ErrorCode::EngineFailed, message));
                }
            }
        }
        self.context.clear_kv_cache();
    }

    fn poll_event(&mut self) -> Option<EngineEvent> {
        self.events.pop_front()
    }
}
