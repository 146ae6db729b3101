//! The conversation and the answer under way: a pure reducer.
//!
//! [`State::apply`] takes what happened and returns what to do; it touches no browser, so all of it is tested natively.
//!
//! ```text
//! person ──Action──▶ State::apply ──Effect──▶ connection, storage
//! relay  ──Action──▶      │
//!                         └─▶ messages, each with a revision: views redraw what changed
//! ```

mod answer;
mod history;
mod sending;
#[cfg(test)]
mod tests;

pub use answer::{Answer, Body, Message, MessageId, Meta, Phase, Trouble};

use client_session::Event;
use protocol::{ChatRequest, DeltaKind, JobId};

use self::sending::request;

/// What happened.
#[derive(Debug, Clone)]
pub enum Action {
    /// The person asks something new.
    Ask {
        /// What.
        text: String,
        /// Names the answer's job.
        job: JobId,
    },
    /// The person wants another answer; everything after the question goes.
    AskAgain {
        /// The question, or its answer.
        message: MessageId,
        /// Names the answer's job.
        job: JobId,
    },
    /// The person asks differently; everything after the question goes.
    Rewrite {
        /// The question.
        message: MessageId,
        /// How it reads now.
        text: String,
        /// Names the answer's job.
        job: JobId,
    },
    /// The person has read enough.
    Stop,
    /// The person starts over.
    NewChat,
    /// The person did not mean to.
    UndoNewChat,
    /// The person picks who answers from now on.
    ChooseTier(String),
    /// The relay takes jobs.
    Welcomed,
    /// The relay takes no jobs for now.
    Disconnected,
    /// A job moved on.
    Progress {
        /// Which.
        job: JobId,
        /// How.
        event: Event,
    },
}

/// What to do about it.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Send a job to the relay.
    Submit {
        /// Which.
        job: JobId,
        /// The tier's id.
        model: String,
        /// What to answer.
        request: Box<ChatRequest>,
    },
    /// Tell the relay to stop a job.
    Cancel(JobId),
    /// The conversation is worth storing now.
    Save,
}

/// Everything the page knows about its conversation.
#[derive(Debug, Clone, Default)]
pub struct State {
    messages: Vec<Message>,
    discarded: Vec<Message>,
    next_id: u64,
    running: Option<Running>,
    tier: Option<String>,
    connected: bool,
}

/// The answer under way. One at a time.
#[derive(Debug, Clone, Copy)]
struct Running {
    job: JobId,
    message: MessageId,
}

impl State {
    /// A conversation as it was stored; an answer that was under way then is not any more.
    pub fn restore(messages: Vec<Message>, tier: Option<String>) -> Self {
        let mut state = Self {
            next_id: messages.last().map_or(0, |last| last.id.0 + 1),
            messages,
            tier,
            ..Self::default()
        };
        for message in &mut state.messages {
            if let Body::Assistant(answer) = &mut message.body
                && !answer.phase.is_final()
            {
                answer.phase = Phase::Failed(Trouble::Reloaded);
            }
        }
        state
    }

    /// The conversation, oldest first.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// One message of it.
    pub fn message(&self, id: MessageId) -> Option<&Message> {
        let index = self.messages.binary_search_by_key(&id, |m| m.id).ok()?;
        self.messages.get(index)
    }

    /// The last question.
    pub fn last_question(&self) -> Option<MessageId> {
        let last = self.messages.iter().rev().find(|m| m.is_question());
        last.map(|m| m.id)
    }

    /// The answer under way.
    pub fn running(&self) -> Option<MessageId> {
        self.running.map(|running| running.message)
    }

    /// Who answers.
    pub fn tier(&self) -> Option<&str> {
        self.tier.as_deref()
    }

    /// Whether the last `NewChat` can be undone.
    pub fn can_undo(&self) -> bool {
        self.messages.is_empty() && !self.discarded.is_empty()
    }

    /// Takes in what happened.
    pub fn apply(&mut self, action: Action) -> Vec<Effect> {
        match action {
            Action::Ask { text, job } => {
                let mut effects = self.stop();
                self.push(Body::User(text));
                effects.extend(self.answer(job));
                effects
            }
            Action::AskAgain { message, job } => self.ask_from(message, None, job),
            Action::Rewrite { message, text, job } => self.ask_from(message, Some(text), job),
            Action::Stop => self.stop(),
            Action::NewChat => {
                let mut effects = self.stop();
                if !self.messages.is_empty() {
                    self.discarded = std::mem::take(&mut self.messages);
                }
                effects.push(Effect::Save);
                effects
            }
            Action::UndoNewChat => {
                if self.can_undo() {
                    self.messages = std::mem::take(&mut self.discarded);
                }
                vec![Effect::Save]
            }
            Action::ChooseTier(tier) => {
                self.tier = Some(tier);
                if self.connected {
                    self.submit_unsent()
                } else {
                    Vec::new()
                }
            }
            Action::Welcomed => {
                self.connected = true;
                self.submit_unsent()
            }
            Action::Disconnected => {
                self.connected = false;
                Vec::new()
            }
            Action::Progress { job, event } => self.progress(job, event),
        }
    }

    fn push(&mut self, body: Body) -> MessageId {
        let id = MessageId(self.next_id);
        self.next_id += 1;
        self.discarded.clear();
        self.messages.push(Message {
            id,
            revision: 0,
            body,
        });
        id
    }

    fn ask_from(&mut self, id: MessageId, text: Option<String>, job: JobId) -> Vec<Effect> {
        let Some(question) = self
            .messages
            .iter()
            .rposition(|m| m.id <= id && m.is_question())
        else {
            return Vec::new();
        };
        let mut effects = self.stop();
        self.messages.truncate(question + 1);
        if let (Some(text), Some(message)) = (text, self.messages.last_mut()) {
            message.body = Body::User(text);
            message.revision += 1;
        }
        effects.extend(self.answer(job));
        effects
    }

    /// Asks for an answer to the conversation as it stands.
    fn answer(&mut self, job: JobId) -> Vec<Effect> {
        let message = self.push(Body::Assistant(Answer::new()));
        self.running = Some(Running { job, message });
        let mut effects = Vec::new();
        if self.connected {
            effects = self.submit_unsent();
        }
        effects.push(Effect::Save);
        effects
    }

    fn submit_unsent(&mut self) -> Vec<Effect> {
        let Some(running) = self.running else {
            return Vec::new();
        };
        let unsent = self
            .running_answer()
            .is_some_and(|answer| answer.phase == Phase::Unsent);
        // Until the tiers are known there is nobody to name; `ChooseTier` will come.
        let (true, Some(tier)) = (unsent, self.tier.clone()) else {
            return Vec::new();
        };
        let request = match request(running.job, &tier, &self.messages) {
            Ok(request) => request,
            Err(failure) => return self.end(Phase::Failed(Trouble::Failure(failure))),
        };
        if let Some(answer) = self.running_answer_mut() {
            answer.tier = Some(tier.clone());
        }
        self.set_phase(Phase::Sent);
        vec![Effect::Submit {
            job: running.job,
            model: tier,
            request,
        }]
    }

    fn stop(&mut self) -> Vec<Effect> {
        let Some(running) = self.running else {
            return Vec::new();
        };
        let sent = self
            .running_answer()
            .is_some_and(|answer| answer.phase != Phase::Unsent);
        let mut effects = self.end(Phase::Stopped);
        if sent {
            effects.insert(0, Effect::Cancel(running.job));
        }
        effects
    }

    fn progress(&mut self, job: JobId, event: Event) -> Vec<Effect> {
        // What still comes for a stopped job is of no interest.
        if self.running.is_none_or(|running| running.job != job) {
            return Vec::new();
        }
        match event {
            Event::Queued {
                model,
                position,
                nodes,
                wait,
            } => self.set_phase(Phase::Queued {
                model,
                position,
                nodes,
                wait,
            }),
            Event::Assigned { model, node, .. } => {
                if let Some(answer) = self.running_answer_mut() {
                    answer.model = Some(model);
                    answer.node = Some(node);
                }
                self.set_phase(Phase::Reading);
            }
            Event::Started { .. } => {}
            Event::Reconnecting => self.set_phase(Phase::Reconnecting),
            Event::Delta { kind, text, .. } => self.grow(kind, &text),
            Event::Completed {
                finish_reason,
                usage,
                speed,
            } => {
                return self.end(Phase::Done(Meta {
                    finish_reason,
                    completion_tokens: usage.completion_tokens,
                    tokens_per_second: speed.decode_tokens_per_second,
                    first_token_ms: speed.first_token_ms,
                }));
            }
            Event::Failed(failure) => {
                return self.end(Phase::Failed(Trouble::Failure(failure)));
            }
            Event::Interrupted => return self.end(Phase::Failed(Trouble::Interrupted)),
        }
        Vec::new()
    }

    /// A piece of the answer. Calls of tools are none of this page's, which offers none.
    fn grow(&mut self, kind: DeltaKind, text: &str) {
        let Some(answer) = self.running_answer_mut().filter(|_| !text.is_empty()) else {
            return;
        };
        let phase = match kind {
            DeltaKind::Text => {
                answer.text.push_str(text);
                Phase::Streaming
            }
            DeltaKind::Reasoning => {
                answer.thoughts.push_str(text);
                Phase::Thinking
            }
            DeltaKind::ToolCall | DeltaKind::Logprobs | DeltaKind::Unknown(_) => return,
        };
        self.set_phase(phase);
    }

    fn end(&mut self, phase: Phase) -> Vec<Effect> {
        self.set_phase(phase);
        self.running = None;
        vec![Effect::Save]
    }

    fn set_phase(&mut self, phase: Phase) {
        let Some(running) = self.running else { return };
        if let Some(message) = self.messages.iter_mut().rfind(|m| m.id == running.message)
            && let Body::Assistant(answer) = &mut message.body
        {
            answer.phase = phase;
            message.revision += 1;
        }
    }

    fn running_answer(&self) -> Option<&Answer> {
        self.message(self.running()?)?.answer()
    }

    fn running_answer_mut(&mut self) -> Option<&mut Answer> {
        let id = self.running()?;
        let message = self.messages.iter_mut().rfind(|m| m.id == id)?;
        match &mut message.body {
            Body::Assistant(answer) => Some(answer),
            Body::User(_) => None,
        }
    }
}
