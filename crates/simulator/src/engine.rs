//! A fake engine: it says scripts, one token a step to every job in it, and keeps count of its slots.
//!
//! Fake, and named so: what is real in the simulator are the brains. It behaves as `node_session` asks of an engine, and it
//! can be told to hang, to break and to say what it should not.

use std::collections::BTreeMap;
use std::rc::Rc;

use node_session::{Advance, EngineEvent, JobKey};
use protocol::{Answer, ErrorCode, Failure, Usage};

use crate::script::Script;

/// Prompt tokens read in one step.
const PREFILL_TOKENS_PER_STEP: u32 = 256;

/// Tokens that a fake prompt and its answer may have together.
pub(crate) const CONTEXT_TOKENS: u32 = 16_384;

/// A job in the engine.
#[derive(Debug)]
struct Running {
    script: Rc<Script>,
    model: String,
    /// The next piece.
    at: usize,
    /// Where this engine's own stream stands.
    offset: u32,
    tokens: u32,
    prefilled: u32,
    is_accepted: bool,
    is_paused: bool,
    is_stopping: bool,
}

/// How an engine misbehaves; a broken one, or a planted bug.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Defects {
    /// Says other bytes than the script's.
    pub(crate) says_other_text: bool,
    /// Begins a continued answer again from its first byte.
    pub(crate) restarts_continued: bool,
}

/// The engine of one node.
#[derive(Debug)]
pub(crate) struct FakeEngine {
    jobs: BTreeMap<JobKey, Running>,
    pub(crate) defects: Defects,
    /// Breaks the next job that would advance.
    pub(crate) breaks_next: bool,
}

/// Why an engine does not like what it is given.
pub(crate) type Complaint = String;

impl FakeEngine {
    /// An empty engine.
    pub(crate) fn new(defects: Defects) -> Self {
        Self {
            jobs: BTreeMap::new(),
            defects,
            breaks_next: false,
        }
    }

    /// Takes a job in. A carried answer that is not the script's is complained about: the relay may hand on only what its
    /// client has.
    pub(crate) fn start(
        &mut self,
        key: JobKey,
        model: String,
        script: Rc<Script>,
        answer: Option<&Answer>,
    ) -> Result<(), Complaint> {
        let mut running = Running {
            at: 0,
            offset: 0,
            tokens: 0,
            prefilled: 0,
            is_accepted: false,
            is_paused: false,
            is_stopping: false,
            script,
            model,
        };
        let mut complaint = None;
        if let Some(answer) = answer.filter(|_| !self.defects.restarts_continued) {
            (running.at, complaint) = running.script.resume(&running.model, answer);
            running.offset = u32::try_from(answer.bytes()).unwrap_or(u32::MAX);
            running.tokens = u32::try_from(answer.token_count()).unwrap_or(u32::MAX);
        }
        self.jobs.insert(key, running);
        complaint.map_or(Ok(()), Err)
    }

    pub(crate) fn stop(&mut self, key: JobKey) {
        if let Some(job) = self.jobs.get_mut(&key) {
            job.is_stopping = true;
        }
    }

    pub(crate) fn pause(&mut self, key: JobKey, is_paused: bool) {
        if let Some(job) = self.jobs.get_mut(&key) {
            job.is_paused = is_paused;
        }
    }

    /// Jobs in it.
    pub(crate) fn load(&self) -> usize {
        self.jobs.len()
    }

    /// Whether a step would do anything.
    pub(crate) fn has_work(&self) -> bool {
        self.jobs
            .values()
            .any(|job| !job.is_paused || job.is_stopping)
    }

    /// What a prompt check says: nothing here is ever too long.
    pub(crate) fn check(check: u32) -> EngineEvent {
        EngineEvent::Checked {
            check,
            failure: None,
        }
    }

    /// One decode step.
    pub(crate) fn step(&mut self) -> Vec<EngineEvent> {
        let (mut before, mut advances, mut after) = (Vec::new(), Vec::new(), Vec::new());
        let mut ended = Vec::new();
        for (&key, job) in &mut self.jobs {
            if job.is_stopping {
                let usage = job.usage();
                before.push(EngineEvent::Cancelled { key, usage });
                ended.push(key);
            } else if job.is_paused {
                // It keeps its place.
            } else if std::mem::take(&mut self.breaks_next) {
                let failure = Failure::new(ErrorCode::EngineFailed, "the fake engine broke");
                before.push(EngineEvent::Failed { key, failure });
                ended.push(key);
            } else if !job.is_accepted {
                let event = job.read_prompt(key);
                if let EngineEvent::Failed { .. } = event {
                    ended.push(key);
                }
                before.push(event);
            } else {
                job.say(key, self.defects, &mut advances);
                if job.at >= job.script.pieces.len() {
                    after.push(EngineEvent::Finished {
                        key,
                        finish_reason: job.script.finish_reason,
                        usage: job.usage(),
                    });
                    ended.push(key);
                }
            }
        }
        for key in ended {
            self.jobs.remove(&key);
        }
        if !advances.is_empty() {
            before.push(EngineEvent::Step(advances));
        }
        before.append(&mut after);
        before
    }
}

impl Running {
    fn usage(&self) -> Usage {
        Usage {
            prompt_tokens: self.script.prompt_tokens,
            completion_tokens: self.tokens,
            cached_tokens: 0,
        }
    }

    fn read_prompt(&mut self, key: JobKey) -> EngineEvent {
        let prompt_tokens = self.script.prompt_tokens;
        if prompt_tokens >= CONTEXT_TOKENS {
            let sentence = "the fake prompt is longer than the fake context";
            let failure = Failure::new(ErrorCode::ContextLengthExceeded, sentence);
            return EngineEvent::Failed { key, failure };
        }
        self.prefilled += PREFILL_TOKENS_PER_STEP;
        if self.prefilled < prompt_tokens {
            return EngineEvent::Progress {
                key,
                prefilled_tokens: self.prefilled,
            };
        }
        self.is_accepted = true;
        EngineEvent::Accepted {
            key,
            prompt_tokens,
            context_tokens: CONTEXT_TOKENS,
        }
    }

    /// Says pieces up to and with the next token, and what is no token behind it.
    fn say(&mut self, key: JobKey, defects: Defects, advances: &mut Vec<Advance>) {
        let mut has_token = false;
        while let Some(piece) = self.script.pieces.get(self.at).copied() {
            if piece.is_token && has_token {
                return;
            }
            has_token |= piece.is_token;
            let (tokens, bytes) = self.next_piece(piece.end, piece.is_token, defects);
            if !tokens.is_empty() || !bytes.is_empty() {
                advances.push(Advance {
                    key,
                    kind: piece.kind,
                    tokens,
                    bytes,
                });
            }
            self.at += 1;
        }
    }

    fn next_piece(&mut self, end: u32, is_token: bool, defects: Defects) -> (Vec<u32>, Vec<u8>) {
        // Another model's attempt may have stopped inside of this piece.
        let mut bytes = self
            .script
            .range(self.offset, end)
            .unwrap_or_default()
            .to_vec();
        self.offset = self.offset.max(end);
        if defects.says_other_text {
            bytes.fill(b'!');
        }
        if !is_token {
            return (Vec::new(), bytes);
        }
        self.tokens += 1;
        (vec![self.script.token_id(&self.model, self.at)], bytes)
    }
}
