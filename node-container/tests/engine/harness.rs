//! A real engine with the real model, and ways to ask it.

use std::thread::JoinHandle;

use crate::model::model_file;
use node_container::engine::llama::{LlamaOptions, Loaded, Spawned, spawn};
use node_container::engine::{Advance, Command, EngineEvent, JobKey};
use protocol::chat::Sampling;
use protocol::{
    Answer, ChatMessage, ChatRequest, DeltaKind, Failure, FinishReason, JobRequest, PrefixHash,
    Role, Usage,
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// The catalog id under which the model is asked for here.
pub(crate) const MODEL: &str = "smol";

/// A question that no test asks by itself.
const SETTLED: u32 = u32::MAX;

/// A whole answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Told {
    pub(crate) text: String,
    pub(crate) tokens: Vec<u32>,
    /// Text of each advance.
    pub(crate) pieces: Vec<String>,
    pub(crate) logprobs: Vec<serde_json::Value>,
    /// As a client gets it.
    pub(crate) advances: Vec<Advance>,
    pub(crate) ending: Ending,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Ending {
    Finished(FinishReason, Usage),
    Failed(Failure),
    Cancelled(Usage),
}

impl Told {
    pub(crate) fn finished(&self) -> (FinishReason, Usage) {
        let Ending::Finished(reason, usage) = &self.ending else {
            panic!("not finished: {:?}", self.ending);
        };
        (*reason, *usage)
    }

    pub(crate) fn failed(&self) -> &Failure {
        let Ending::Failed(failure) = &self.ending else {
            panic!("not failed: {:?}", self.ending);
        };
        failure
    }
}

pub(crate) struct Rig {
    pub(crate) loaded: Loaded,
    commands: UnboundedSender<Command>,
    events: UnboundedReceiver<EngineEvent>,
    thread: Option<JoinHandle<()>>,
    next_key: u64,
    /// In how many steps the prompt was read of the job that was followed last.
    pub(crate) read_steps: usize,
}

impl Rig {
    /// Keeps nothing of what is finished, so that every job reads its whole prompt.
    pub(crate) fn new(slots: u32, context_tokens: u32) -> Self {
        Self::with(LlamaOptions {
            slots,
            context_tokens: Some(context_tokens),
            ..LlamaOptions::new(model_file())
        })
    }

    pub(crate) fn with(options: LlamaOptions) -> Self {
        let (event_sender, events) = unbounded_channel();
        let Spawned {
            loaded,
            commands,
            thread,
        } = spawn(options, event_sender).expect("the model loads");
        Self {
            loaded,
            commands,
            events,
            thread: Some(thread),
            next_key: 1,
            read_steps: 0,
        }
    }

    pub(crate) fn start(&mut self, request: ChatRequest) -> JobKey {
        self.start_from(request, None)
    }

    /// Starts an answer of which the client has a part.
    pub(crate) fn start_from(&mut self, request: ChatRequest, answer: Option<Answer>) -> JobKey {
        self.start_as(request.into(), answer, None)
    }

    /// Starts a conversation that the relay gave a name.
    pub(crate) fn start_named(&mut self, request: ChatRequest, name: PrefixHash) -> JobKey {
        self.start_as(request.into(), None, Some(name))
    }

    /// Starts a job of any kind.
    pub(crate) fn start_request(&mut self, request: JobRequest, answer: Option<Answer>) -> JobKey {
        self.start_as(request, answer, None)
    }

    fn start_as(
        &mut self,
        request: JobRequest,
        answer: Option<Answer>,
        prefix: Option<PrefixHash>,
    ) -> JobKey {
        let key = JobKey(self.next_key);
        self.next_key += 1;
        self.send(Command::Start {
            key,
            model: MODEL.to_owned(),
            request: Box::new(request),
            answer: answer.map(Box::new),
            prefix,
        });
        key
    }

    pub(crate) fn send(&self, command: Command) {
        self.commands.send(command).expect("the engine listens");
    }

    pub(crate) fn event(&mut self) -> EngineEvent {
        self.events.blocking_recv().expect("the engine lives")
    }

    /// What is told until the engine has handled everything that was sent before.
    pub(crate) fn settle(&mut self) -> Vec<EngineEvent> {
        // Commands are handled in order, and the reader takes jobs before questions: so this is answered last.
        self.send(Command::Check {
            check: SETTLED,
            request: Box::new(ask("Hi").into()),
        });
        let mut told = Vec::new();
        loop {
            let event = self.event();
            if matches!(event, EngineEvent::Checked { check: SETTLED, .. }) {
                return told;
            }
            told.push(event);
        }
    }

    /// Follows one job to its end; events of other jobs are dropped.
    pub(crate) fn follow(&mut self, key: JobKey) -> Told {
        let mut told = Told {
            text: String::new(),
            tokens: Vec::new(),
            pieces: Vec::new(),
            logprobs: Vec::new(),
            advances: Vec::new(),
            ending: Ending::Finished(FinishReason::Unknown, Usage::default()),
        };
        self.read_steps = 0;
        loop {
            match self.event() {
                EngineEvent::Progress { key: of, .. } if of == key => self.read_steps += 1,
                EngineEvent::Step(advances) => {
                    for advance in advances.iter().filter(|advance| advance.key == key) {
                        told.take(advance);
                    }
                }
                EngineEvent::Finished {
                    key: of,
                    finish_reason,
                    usage,
                } if of == key => {
                    told.ending = Ending::Finished(finish_reason, usage);
                    return told;
                }
                EngineEvent::Failed { key: of, failure } if of == key => {
                    told.ending = Ending::Failed(failure);
                    return told;
                }
                EngineEvent::Cancelled { key: of, usage } if of == key => {
                    told.ending = Ending::Cancelled(usage);
                    return told;
                }
                EngineEvent::Accepted { .. }
                | EngineEvent::Progress { .. }
                | EngineEvent::Checked { .. }
                | EngineEvent::Cached(_)
                | EngineEvent::Finished { .. }
                | EngineEvent::Failed { .. }
                | EngineEvent::Cancelled { .. } => {}
            }
        }
    }

    pub(crate) fn ask(&mut self, request: ChatRequest) -> Told {
        let key = self.start(request);
        let told = self.follow(key);
        if let Ending::Finished(_, usage) = told.ending {
            let count = u32::try_from(told.tokens.len());
            assert_eq!(count, Ok(usage.completion_tokens), "told and counted");
        }
        told
    }

    /// Goes on with an answer.
    pub(crate) fn go_on(
        &mut self,
        request: &ChatRequest,
        answer: impl Into<Option<Answer>>,
    ) -> Told {
        let key = self.start_from(request.clone(), answer.into());
        self.follow(key)
    }

    /// The rendered prompt's length.
    pub(crate) fn prompt_tokens(&mut self, content: &str) -> u32 {
        let told = self.ask(ChatRequest {
            max_tokens: Some(1),
            ..greedy(content)
        });
        told.finished().1.prompt_tokens
    }
}

impl Told {
    fn take(&mut self, advance: &Advance) {
        let text = std::str::from_utf8(&advance.bytes).expect("whole characters, always");
        self.advances.push(advance.clone());
        self.tokens.extend(&advance.tokens);
        match advance.kind {
            DeltaKind::Text | DeltaKind::Reasoning | DeltaKind::ToolCall => {
                self.text.push_str(text);
                self.pieces.push(text.to_owned());
            }
            DeltaKind::Logprobs => {
                let entries: Vec<serde_json::Value> =
                    serde_json::from_str(text).expect("a JSON array");
                self.logprobs.extend(entries);
            }
            DeltaKind::Unknown(_) => panic!("unexpected kind {:?}", advance.kind),
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        drop(self.commands.send(Command::Shutdown));
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking());
        }
    }
}

/// The text of a job in what was told, if there is any word of it.
pub(crate) fn text_of(told: &[EngineEvent], key: JobKey) -> Option<String> {
    let steps = told.iter().filter_map(|event| match event {
        EngineEvent::Step(advances) => Some(advances),
        EngineEvent::Accepted { .. }
        | EngineEvent::Progress { .. }
        | EngineEvent::Checked { .. }
        | EngineEvent::Cached(_)
        | EngineEvent::Finished { .. }
        | EngineEvent::Failed { .. }
        | EngineEvent::Cancelled { .. } => None,
    });
    let advances = steps.flatten().filter(|advance| advance.key == key);
    advances
        .map(|advance| std::str::from_utf8(&advance.bytes).expect("text"))
        .fold(None, |text, more| Some(text.unwrap_or_default() + more))
}

pub(crate) fn ask(content: &str) -> ChatRequest {
    ChatRequest {
        messages: vec![ChatMessage {
            role: Role::User,
            content: content.to_owned(),
            ..ChatMessage::default()
        }],
        ..ChatRequest::default()
    }
}

/// Always the likeliest token.
pub(crate) fn greedy(content: &str) -> ChatRequest {
    ChatRequest {
        sampling: Sampling {
            temperature: Some(0.0),
            ..Sampling::default()
        },
        ..ask(content)
    }
}
