//! A client's brain: submits jobs, puts what comes back in order, acknowledges, cancels. Shared by the chat page and the
//! Worker's HTTP front. Sans-IO: the caller owns the socket and the clock.
//!
//! ```text
//! user's wish ─┐                      ┌─▶ Output::Send   text for the socket
//! socket text ─┼─▶ handle_input(now) ─┤
//! socket bytes ┘                      └─▶ Output::Event  what happened to a job
//! ```
//!
//! Invariant: after every [`ClientSession::handle_input`], drain [`ClientSession::poll_output`] until `None`. The deltas of
//! one job, joined, are its answer: in order, no byte twice.

mod job;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use protocol::limits::RELAY_FRAME_BYTES_MAX;
use protocol::{
    Alias, ChatRequest, ClientToRelay, DeltaKind, Failure, FinishReason, JobId, NodeClass,
    RelayToClient, Speed, TokenFrame, Usage, decode, encode,
};

use crate::job::Job;

/// Milliseconds of the caller's monotonic clock.
pub type Millis = u64;

/// What happens to a session.
#[derive(Debug)]
pub enum Input<'a> {
    /// The socket is open. A key is said first where the upgrade request could not carry it.
    Connected {
        /// An API key, `hg-…`.
        key: Option<String>,
    },
    /// A text message came.
    Text(&'a str),
    /// A binary message came.
    Binary(&'a [u8]),
    /// The socket ended; its unfinished jobs are interrupted.
    Closed,
    /// The user asks.
    Submit {
        /// 128 random bits.
        job: JobId,
        /// A model or tier id.
        model: String,
        /// What to answer.
        request: Box<ChatRequest>,
    },
    /// The user stops a job.
    Cancel {
        /// Which.
        job: JobId,
    },
}

/// What the caller has to do.
#[derive(Debug, PartialEq)]
pub enum Output {
    /// Send this text.
    Send(String),
    /// The relay knows this client; it may submit.
    Welcomed {
        /// Who the relay takes it for.
        account: String,
    },
    /// The relay did not understand a frame that names no job.
    Refused(Failure),
    /// Something happened to a job.
    Event {
        /// Which.
        job: JobId,
        /// What.
        event: Event,
    },
}

/// What happened to a job. `Completed`, `Failed` and `Interrupted` are last.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// It waits.
    Queued {
        /// The model it waits for.
        model: String,
        /// Place in line, 1 is next.
        position: u32,
        /// Nodes that offer the model.
        nodes: u32,
    },
    /// A node has it.
    Assigned {
        /// The model that answers.
        model: String,
        /// The node's public name.
        node: String,
        /// What kind of node it is.
        class: NodeClass,
    },
    /// The prompt fits; the answer follows.
    Started {
        /// The rendered prompt's length.
        prompt_tokens: u32,
        /// What the node has room for.
        context_tokens: u32,
    },
    /// The answer grew.
    Delta {
        /// What the text is.
        kind: DeltaKind,
        /// What came.
        text: String,
        /// Tokens that it stands for.
        token_count: u32,
    },
    /// The answer is whole.
    Completed {
        /// Why it ended.
        finish_reason: FinishReason,
        /// What it cost.
        usage: Usage,
        /// How fast it came.
        speed: Speed,
    },
    /// It broke or was refused.
    Failed(Failure),
    /// The connection ended, or the stream had a gap.
    Interrupted,
}

/// One connection's worth of jobs.
#[derive(Debug, Default)]
pub struct ClientSession {
    jobs: BTreeMap<JobId, Job>,
    aliases: BTreeMap<Alias, JobId>,
    outputs: VecDeque<Output>,
    ignored: u64,
}

impl ClientSession {
    /// A session without jobs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes one input. Drain [`Self::poll_output`] afterwards.
    pub fn handle_input(&mut self, now: Millis, input: Input<'_>) {
        match input {
            Input::Connected { key } => {
                if key.is_some() {
                    self.send(&ClientToRelay::Hello { key });
                }
            }
            Input::Text(text) => self.handle_text(now, text),
            Input::Binary(frame) => self.handle_tokens(now, frame),
            Input::Closed => self.interrupt_all(),
            Input::Submit {
                job,
                model,
                request,
            } => {
                self.jobs.insert(job, Job::default());
                self.send(&ClientToRelay::Submit {
                    job,
                    model,
                    request: *request,
                });
            }
            Input::Cancel { job } => {
                if self.jobs.contains_key(&job) {
                    self.send(&ClientToRelay::Cancel { job });
                }
            }
        }
    }

    /// The next thing to do, if any.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Whether a job is under way.
    pub fn is_busy(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// Frames that were not understood or named no job of ours.
    pub const fn ignored(&self) -> u64 {
        self.ignored
    }

    fn send(&mut self, message: &ClientToRelay) {
        self.outputs.push_back(Output::Send(encode(message)));
    }

    fn tell(&mut self, job: JobId, event: Event) {
        if self.jobs.contains_key(&job) {
            self.outputs.push_back(Output::Event { job, event });
        } else {
            self.ignored += 1;
        }
    }

    fn finish(&mut self, job: JobId, event: Event) {
        self.tell(job, event);
        if let Some(alias) = self.jobs.remove(&job).and_then(|job| job.alias) {
            self.aliases.remove(&alias);
        }
    }

    fn interrupt_all(&mut self) {
        let jobs: Vec<JobId> = self.jobs.keys().copied().collect();
        for job in jobs {
            self.finish(job, Event::Interrupted);
        }
    }

    fn handle_text(&mut self, now: Millis, text: &str) {
        match decode::<RelayToClient>(text, RELAY_FRAME_BYTES_MAX) {
            Ok(message) => self.handle_message(now, message),
            Err(_) => self.ignored += 1,
        }
    }

    fn handle_message(&mut self, now: Millis, message: RelayToClient) {
        match message {
            RelayToClient::Welcome { account } => {
                self.outputs.push_back(Output::Welcomed { account });
            }
            RelayToClient::Queued {
                job,
                model,
                position,
                nodes,
            } => {
                self.tell(
                    job,
                    Event::Queued {
                        model,
                        position,
                        nodes,
                    },
                );
            }
            RelayToClient::Assigned {
                job,
                alias,
                model,
                node,
                class,
                attempt: _,
            } => {
                self.assign(job, alias);
                self.tell(job, Event::Assigned { model, node, class });
            }
            RelayToClient::Started {
                job,
                prompt_tokens,
                context_tokens,
            } => {
                self.tell(
                    job,
                    Event::Started {
                        prompt_tokens,
                        context_tokens,
                    },
                );
            }
            RelayToClient::Completed {
                job,
                offset,
                finish_reason,
                usage,
                speed,
            } => {
                self.complete(
                    now,
                    job,
                    offset,
                    Event::Completed {
                        finish_reason,
                        usage,
                        speed,
                    },
                );
            }
            RelayToClient::Failed { job, failure } => {
                self.finish(job, Event::Failed(failure.bounded()));
            }
            RelayToClient::Refused { failure } => {
                self.outputs.push_back(Output::Refused(failure.bounded()));
            }
            RelayToClient::Pong => {}
            RelayToClient::Unknown => self.ignored += 1,
        }
    }

    fn assign(&mut self, id: JobId, alias: Alias) {
        if let Some(job) = self.jobs.get_mut(&id) {
            if let Some(old) = job.alias.replace(alias) {
                self.aliases.remove(&old);
            }
            self.aliases.insert(alias, id);
        }
    }

    fn complete(&mut self, now: Millis, id: JobId, offset: u32, event: Event) {
        let Some(job) = self.jobs.get_mut(&id) else {
            self.ignored += 1;
            return;
        };
        if job.received == offset {
            if let Some(offset) = job.acknowledge_all(now) {
                self.send(&ClientToRelay::Acknowledge { job: id, offset });
            }
            self.finish(id, event);
        } else {
            // Bytes are missing: an answer with a hole is no answer.
            self.finish(id, Event::Interrupted);
        }
    }

    fn handle_tokens(&mut self, now: Millis, frame: &[u8]) {
        let Ok(frame) = TokenFrame::decode(frame) else {
            self.ignored += 1;
            return;
        };
        for entry in frame.entries() {
            let Some((&id, job)) = self
                .aliases
                .get(&entry.alias)
                .and_then(|id| Some((id, self.jobs.get_mut(id)?)))
            else {
                self.ignored += 1;
                continue;
            };
            let Some(fresh) = job.accept(&entry) else {
                self.finish(id, Event::Interrupted);
                continue;
            };
            let acknowledge = job.acknowledge_now_and_then(now);
            // A node promises whole characters; one that lies yields replacement characters, not an error here.
            let text = String::from_utf8_lossy(fresh).into_owned();
            let (kind, token_count) = (entry.kind, entry.token_count());
            self.tell(
                id,
                Event::Delta {
                    kind,
                    text,
                    token_count,
                },
            );
            if let Some(offset) = acknowledge {
                self.send(&ClientToRelay::Acknowledge { job: id, offset });
            }
        }
    }
}
