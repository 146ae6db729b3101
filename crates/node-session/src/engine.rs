//! What the engine says: prompts accepted, decode steps, ends.

use protocol::limits::{ANSWER_BYTES_MAX, ENTRY_BYTES_MAX, ENTRY_TOKENS_MAX};
use protocol::{Alias, ErrorCode, Failure, FinishReason, NodeToRelay, TokenFrameWriter, Usage};

use crate::input::{Advance, EngineEvent};
use crate::job::{Finished, Phase};
use crate::{JobKey, Millis, NodeSession, Output};

/// An answer that its client does not acknowledge is forgotten after this; the relay does about the same.
const FINISHED_KEPT_MS: Millis = 60_000;

/// Answer bytes kept for clients that do not acknowledge, all jobs together; the oldest go first.
const FINISHED_BYTES_MAX: usize = 64 << 20;

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
                if let Some(alias) = self.wanted(key) {
                    self.send(&NodeToRelay::Progress {
                        alias,
                        prefilled_tokens,
                    });
                }
            }
            EngineEvent::Step(advances) => self.step(&advances),
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
            EngineEvent::Checked { check, failure } => {
                if self.is_up() {
                    let failure = failure.map(Failure::bounded);
                    self.send(&NodeToRelay::PromptChecked { check, failure });
                }
            }
            EngineEvent::Cancelled { key, usage } => {
                self.engine_ended(key, |alias| NodeToRelay::Cancelled { alias, usage });
            }
        }
    }

    /// The job's name, if the relay still wants to hear of its progress.
    fn wanted(&mut self, key: JobKey) -> Option<Alias> {
        let alias = self.jobs.get(&key).and_then(|job| match job.phase {
            Phase::Started | Phase::Accepted => job.alias,
            Phase::Waiting(_) | Phase::Stopping => None,
        });
        if alias.is_none() {
            self.ignored += 1;
        }
        alias
    }

    fn accepted(&mut self, key: JobKey, prompt_tokens: u32, context_tokens: u32) {
        let Some(alias) = self.wanted(key) else {
            return;
        };
        if let Some(job) = self.jobs.get_mut(&key) {
            job.phase = Phase::Accepted;
        }
        self.send(&NodeToRelay::Accepted {
            alias,
            prompt_tokens,
            context_tokens,
        });
    }

    /// One decode step becomes one frame, unless it is over a frame's limits.
    fn step(&mut self, advances: &[Advance]) {
        let mut writer = TokenFrameWriter::new();
        for advance in advances {
            if let Err(message) = self.write(&mut writer, advance) {
                self.give_up(advance.key, message);
            }
        }
        self.flush(&mut writer);
    }

    fn write(
        &mut self,
        writer: &mut TokenFrameWriter,
        advance: &Advance,
    ) -> Result<(), &'static str> {
        let Some(alias) = self.wanted(advance.key) else {
            return Ok(());
        };
        for (tokens, bytes) in pieces(advance) {
            let Some(job) = self.jobs.get_mut(&advance.key) else {
                return Ok(());
            };
            let Phase::Accepted = job.phase else {
                return Err("the engine answered before it accepted the prompt");
            };
            let start = job.offset;
            let end = u32::try_from(bytes.len())
                .ok()
                .and_then(|bytes| start.checked_add(bytes))
                .filter(|end| *end <= ANSWER_BYTES_MAX)
                .ok_or("the answer is longer than an answer may be")?;
            job.offset = end;
            job.buffer.push(end, advance.kind, tokens, bytes);
            if !writer.push(alias, start, advance.kind, tokens, bytes) {
                self.flush(writer);
                if !writer.push(alias, start, advance.kind, tokens, bytes) {
                    return Err("the engine's step does not fit a frame");
                }
            }
        }
        Ok(())
    }

    fn flush(&mut self, writer: &mut TokenFrameWriter) {
        if !writer.is_empty() {
            self.sent_at = self.now;
            self.outputs.push_back(Output::SendBinary(writer.finish()));
        }
    }

    /// The job cannot go on: the relay hears so at once, the engine is stopped.
    fn give_up(&mut self, key: JobKey, message: &str) {
        let Some(job) = self.jobs.get_mut(&key) else {
            return;
        };
        job.phase = Phase::Stopping;
        job.buffer = crate::buffer::ResendBuffer::default();
        self.outputs.push_back(Output::Stop { key });
        if let Some(alias) = job.alias.take() {
            self.aliases.remove(&alias);
            let failure = Failure::new(ErrorCode::EngineFailed, message);
            self.send(&NodeToRelay::Failed { alias, failure });
        }
    }

    fn engine_finished(&mut self, key: JobKey, finish_reason: FinishReason, usage: Usage) {
        match self.jobs.get(&key).map(|job| &job.phase) {
            Some(Phase::Accepted) => {}
            Some(Phase::Stopping) => {
                // It was done before it heard that it should stop.
                self.engine_ended(key, |alias| NodeToRelay::Cancelled { alias, usage });
                return;
            }
            Some(Phase::Started) => {
                let message = "the engine finished before it accepted the prompt";
                let failure = Failure::new(ErrorCode::EngineFailed, message);
                self.engine_ended(key, |alias| NodeToRelay::Failed { alias, failure });
                return;
            }
            Some(Phase::Waiting(_)) | None => {
                self.ignored += 1;
                return;
            }
        }
        let Some(job) = self.forget_job(key) else {
            return;
        };
        if let Some(alias) = job.alias {
            self.send(&NodeToRelay::Completed {
                alias,
                offset: job.offset,
                finish_reason,
                usage,
            });
            if job.offset > 0 && !job.buffer.is_empty() {
                let until = self.now.saturating_add(FINISHED_KEPT_MS);
                let finished = Finished {
                    buffer: job.buffer,
                    until,
                };
                self.finished.insert(alias, finished);
                self.trim_finished();
            }
        }
        self.place_is_free();
    }

    fn engine_ended(&mut self, key: JobKey, message: impl FnOnce(Alias) -> NodeToRelay) {
        if self.jobs.get(&key).is_none_or(|job| !job.is_in_engine()) {
            self.ignored += 1;
            return;
        }
        if let Some(alias) = self.forget_job(key).and_then(|job| job.alias) {
            self.send(&message(alias));
        }
        self.place_is_free();
    }

    fn place_is_free(&mut self) {
        self.start_waiting();
        self.end_if_drained();
    }

    fn trim_finished(&mut self) {
        let mut bytes: usize = self.finished.values().map(|kept| kept.buffer.bytes()).sum();
        while bytes > FINISHED_BYTES_MAX {
            let oldest = self.finished.iter().min_by_key(|(_, kept)| kept.until);
            let Some((&alias, _)) = oldest else { return };
            if let Some(dropped) = self.finished.remove(&alias) {
                bytes -= dropped.buffer.bytes();
            }
        }
    }

    pub(crate) fn tick_finished(&mut self) {
        let now = self.now;
        self.finished.retain(|_, kept| now < kept.until);
    }
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
