//! A session with a clock that the test moves, and all that it wanted done.

use protocol::limits::NODE_FRAME_BYTES_MAX;
use protocol::{
    Alias, AnswerHash, Capabilities, ChatMessage, ChatRequest, DeltaKind, ErrorCode, Failure,
    FinishReason, JobId, ModelOffer, NodeClass, NodeToRelay, RelayToNode, Role, TokenFrame, Usage,
    decode, encode,
};

use crate::{Advance, Config, EngineEvent, Input, JobKey, Millis, NodeSession, Output};

pub(super) const WINDOW_BYTES: u32 = 64 << 10;

pub(super) const MODEL: &str = "small";

/// Alias, offset, tokens, text.
pub(super) type OwnedEntry = (Alias, u32, Vec<u32>, String);

pub(super) struct Stage {
    pub(super) session: NodeSession,
    pub(super) now: Millis,
    /// What it said to the relay since the test last looked.
    pub(super) said: Vec<NodeToRelay>,
    pub(super) frames: Vec<Vec<u8>>,
    /// "message" or "frame" for each of both.
    pub(super) order: Vec<&'static str>,
    /// What else it wanted since the test last looked.
    pub(super) wanted: Vec<Output>,
    /// Jobs in the engine; never more than the slots.
    pub(super) engine: Vec<JobKey>,
    slots: usize,
}

pub(super) fn config(slots: u32) -> Config {
    Config {
        name: "rig-1".into(),
        class: NodeClass::Rig,
        software: "test 1".into(),
        slots,
        models: vec![ModelOffer {
            model: MODEL.into(),
            runtime: "llama.cpp".into(),
            context_tokens: 4_096,
            capabilities: Capabilities::default(),
            measured: None,
        }],
        key: Some("hgn-secret".into()),
        backoff_ms_min: Config::BACKOFF_MS_MIN,
        backoff_ms_max: Config::BACKOFF_MS_MAX,
        machine: None,
    }
}

pub(super) fn request() -> ChatRequest {
    ChatRequest {
        messages: vec![ChatMessage {
            role: Role::User,
            content: "Name three primary colours.".into(),
            ..ChatMessage::default()
        }],
        ..ChatRequest::default()
    }
}

pub(super) fn assign(alias: Alias) -> RelayToNode {
    RelayToNode::Assign {
        job: job_id(alias),
        attempt: 1,
        alias,
        model: MODEL.into(),
        lease_ms: 30_000,
        window_bytes: WINDOW_BYTES,
        ticket: format!("ticket {alias}"),
        request: request().into(),
        answer: None,
        prefix: None,
    }
}

/// The job that [`assign`] names first under this alias.
pub(super) fn job_id(alias: Alias) -> JobId {
    JobId::from_random([alias.to_be_bytes(); 4].concat().try_into().unwrap())
}

/// Goes on with the job that was assigned as `first`, where the client has `text` of it.
pub(super) fn adopt(first: Alias, alias: Alias, text: &str, tokens: u32) -> RelayToNode {
    RelayToNode::Adopt {
        job: job_id(first),
        attempt: 1,
        alias,
        lease_ms: 30_000,
        window_bytes: WINDOW_BYTES,
        offset: u32::try_from(text.len()).unwrap(),
        tokens,
        hash: AnswerHash::of(text.as_bytes()),
    }
}

pub(super) fn fence(first: Alias) -> RelayToNode {
    RelayToNode::Fence {
        job: job_id(first),
        attempt: 1,
        failure: Failure::new(ErrorCode::UnknownJob, "nobody wants it"),
    }
}

pub(super) fn acknowledge(alias: Alias, offset: u32) -> RelayToNode {
    RelayToNode::Acknowledge {
        alias,
        offset,
        whole: false,
    }
}

pub(super) fn acknowledge_whole(alias: Alias, offset: u32) -> RelayToNode {
    RelayToNode::Acknowledge {
        alias,
        offset,
        whole: true,
    }
}

pub(super) fn advance(key: JobKey, tokens: &[u32], text: &str) -> Advance {
    Advance {
        key,
        kind: DeltaKind::Text,
        tokens: tokens.to_vec(),
        bytes: text.as_bytes().to_vec(),
    }
}

pub(super) const USAGE: Usage = Usage {
    prompt_tokens: 7,
    completion_tokens: 1,
    cached_tokens: 0,
};

impl Stage {
    pub(super) fn new(slots: u32) -> Self {
        Self::with(config(slots), 3)
    }

    pub(super) fn with(config: Config, seed: u8) -> Self {
        let slots = usize::try_from(config.slots).unwrap();
        let mut stage = Self {
            session: NodeSession::new(config, [seed; 32]),
            now: 1_000,
            said: Vec::new(),
            frames: Vec::new(),
            order: Vec::new(),
            wanted: Vec::new(),
            engine: Vec::new(),
            slots,
        };
        stage.drain_outputs();
        stage
    }

    /// Connected and welcomed, nothing left to look at.
    pub(super) fn up(slots: u32) -> Self {
        let mut stage = Self::new(slots);
        stage.welcome();
        stage
    }

    pub(super) fn welcome(&mut self) {
        self.input(Input::Connected);
        self.hears(&RelayToNode::Welcome {
            node: "n".into(),
            heartbeat_ms: 15_000,
        });
        self.said.clear();
        self.wanted.clear();
    }

    /// The connection ends and the next one is open, as far as the welcome; what was said is left to look at.
    pub(super) fn fall_and_return(&mut self) {
        self.input(Input::Closed { code: None });
        self.come_back();
    }

    pub(super) fn come_back(&mut self) {
        while self.wanted.pop() != Some(Output::Connect) {
            self.wait_for_timeout();
        }
        self.said.clear();
        self.input(Input::Connected);
        self.hears(&RelayToNode::Welcome {
            node: "n".into(),
            heartbeat_ms: 15_000,
        });
        self.wanted.pop();
    }

    pub(super) fn input(&mut self, input: Input<'_>) {
        if let Input::Engine(event) = &input {
            let ended = match event {
                EngineEvent::Finished { key, .. }
                | EngineEvent::Failed { key, .. }
                | EngineEvent::Cancelled { key, .. } => Some(*key),
                EngineEvent::Accepted { .. }
                | EngineEvent::Progress { .. }
                | EngineEvent::Checked { .. }
                | EngineEvent::Cached(_)
                | EngineEvent::Step(_) => None,
            };
            self.engine.retain(|key| Some(*key) != ended);
        }
        self.session.handle_input(self.now, input);
        self.drain_outputs();
    }

    fn drain_outputs(&mut self) {
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Send(text) => {
                    self.order.push("message");
                    self.said.push(decode(&text, NODE_FRAME_BYTES_MAX).unwrap());
                }
                Output::SendBinary(frame) => {
                    self.order.push("frame");
                    TokenFrame::decode(&frame).unwrap();
                    self.frames.push(frame);
                }
                Output::Start { key, .. } => {
                    self.engine.push(key);
                    assert!(self.engine.len() <= self.slots, "more jobs than slots");
                    self.wanted.push(output);
                }
                Output::Connect
                | Output::Check { .. }
                | Output::Pause { .. }
                | Output::Unpause { .. }
                | Output::Stop { .. }
                | Output::CloseSocket { .. }
                | Output::Welcomed { .. }
                | Output::Refused(_)
                | Output::Exit(_) => self.wanted.push(output),
            }
        }
    }

    pub(super) fn hears(&mut self, message: &RelayToNode) {
        self.input(Input::Text(&encode(message)));
    }

    pub(super) fn engine(&mut self, event: EngineEvent) {
        self.input(Input::Engine(event));
    }

    /// Assigns a job and says which key it started under.
    pub(super) fn start(&mut self, alias: Alias) -> JobKey {
        self.start_with(alias, |_, _| {})
    }

    /// Assigns a job whose attempt and window are changed.
    pub(super) fn start_with(
        &mut self,
        alias: Alias,
        change: impl FnOnce(&mut u32, &mut u32),
    ) -> JobKey {
        let mut message = assign(alias);
        if let RelayToNode::Assign {
            attempt,
            window_bytes,
            ..
        } = &mut message
        {
            change(attempt, window_bytes);
        }
        self.hears(&message);
        let Some(Output::Start { key, .. }) = self.wanted.pop() else {
            panic!("nothing started")
        };
        key
    }

    /// The number under which the engine was asked about a prompt.
    pub(super) fn checked(&mut self) -> u32 {
        match self.wanted.pop() {
            Some(Output::Check { check, .. }) => check,
            other => panic!("no question but {other:?}"),
        }
    }

    pub(super) fn accept(&mut self, key: JobKey) {
        self.engine(EngineEvent::Accepted {
            key,
            prompt_tokens: 7,
            context_tokens: 4_096,
        });
    }

    pub(super) fn step(&mut self, advances: Vec<Advance>) {
        self.engine(EngineEvent::Step(advances));
    }

    pub(super) fn finish(&mut self, key: JobKey) {
        self.engine(EngineEvent::Finished {
            key,
            finish_reason: FinishReason::Stop,
            usage: USAGE,
        });
    }

    pub(super) fn stopped(&mut self, key: JobKey) {
        self.engine(EngineEvent::Cancelled { key, usage: USAGE });
    }

    /// Moves the clock, ticking where the session wants it.
    pub(super) fn wait(&mut self, ms: Millis) {
        let end = self.now + ms;
        while let Some(due) = self.session.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.input(Input::Tick);
        }
        self.now = end;
    }

    /// Moves the clock to the next moment at which the session wants a tick, and ticks.
    pub(super) fn wait_for_timeout(&mut self) -> Millis {
        let before = self.now;
        self.now = self.session.poll_timeout().unwrap();
        self.input(Input::Tick);
        self.now - before
    }

    pub(super) fn said(&mut self) -> Vec<NodeToRelay> {
        std::mem::take(&mut self.said)
    }

    pub(super) fn wanted(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.wanted)
    }

    /// The entries sent since the last look, frame by frame.
    pub(super) fn entries(&mut self) -> Vec<Vec<OwnedEntry>> {
        std::mem::take(&mut self.frames)
            .iter()
            .map(|frame| {
                TokenFrame::decode(frame)
                    .unwrap()
                    .entries()
                    .map(|entry| {
                        let text = String::from_utf8(entry.bytes.to_vec()).unwrap();
                        (entry.alias, entry.offset, entry.tokens().collect(), text)
                    })
                    .collect()
            })
            .collect()
    }
}
