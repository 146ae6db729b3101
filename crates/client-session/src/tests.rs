//! Behaviour of a client session, by sentence.

mod cuts;
mod orders;
mod returns;

use protocol::{
    ChatMessage, ChatRequest, ClientToRelay, DeltaKind, FinishReason, JobId, NodeClass,
    RelayToClient, Role, Speed, TokenFrameWriter, Usage, decode, encode,
};

use crate::{ClientSession, Event, Input, Millis, Output, Settings};

const JOB: JobId = JobId::from_random([7; 16]);
const ALIAS: u32 = 9;

fn settings() -> Settings {
    Settings {
        seed: 1,
        stays: false,
        give_up_ms: 60_000,
    }
}

/// A session and what it has said so far.
struct Stage {
    session: ClientSession,
    now: Millis,
    sent: Vec<ClientToRelay>,
    events: Vec<Event>,
    connects: u32,
}

impl Stage {
    /// Connected and welcomed.
    fn new() -> Self {
        Self::with(settings())
    }

    fn with(settings: Settings) -> Self {
        let mut stage = Self {
            session: ClientSession::new(settings),
            now: 0,
            sent: Vec::new(),
            events: Vec::new(),
            connects: 0,
        };
        stage.connected();
        stage
    }

    /// With a job under way.
    fn started() -> Self {
        let mut stage = Self::new();
        stage.submit();
        stage.submitted();
        stage.assigned(0);
        stage.forget();
        stage
    }

    fn input(&mut self, input: Input<'_>) {
        self.session.handle_input(self.now, input);
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Connect => self.connects += 1,
                Output::Send(text) => self.sent.push(decode(&text, usize::MAX).unwrap()),
                Output::Event { event, .. } => self.events.push(event),
                Output::Welcomed { .. } | Output::Refused(_) => {}
            }
        }
    }

    fn say(&mut self, message: &RelayToClient) {
        self.input(Input::Text(&encode(message)));
    }

    fn connected(&mut self) {
        self.input(Input::Connected { key: None });
        self.say(&RelayToClient::Welcome {
            account: "a".into(),
        });
    }

    fn submit(&mut self) {
        let message = ChatMessage {
            role: Role::User,
            content: "Hi".into(),
            ..ChatMessage::default()
        };
        self.input(Input::Submit {
            job: JOB,
            model: "demo".into(),
            request: Box::new(
                ChatRequest {
                    messages: vec![message],
                    ..ChatRequest::default()
                }
                .into(),
            ),
        });
    }

    fn submitted(&mut self) {
        self.say(&RelayToClient::Submitted {
            job: JOB,
            ticket: "t".into(),
        });
    }

    fn assigned(&mut self, offset: u32) {
        self.say(&assigned(1, ALIAS, offset));
    }

    fn tokens(&mut self, alias: u32, offset: u32, text: &str) {
        let mut writer = TokenFrameWriter::new();
        assert!(writer.push(alias, offset, DeltaKind::Text, &[1], text.as_bytes()));
        self.input(Input::Binary(&writer.finish()));
    }

    fn lost(&mut self) {
        self.input(Input::Closed { code: 1006 });
    }

    /// Lets time pass until the session wants something.
    fn pass(&mut self) {
        self.now = self.session.poll_timeout().unwrap();
        self.input(Input::Tick);
    }

    fn forget(&mut self) {
        self.sent.clear();
        self.events.clear();
        self.connects = 0;
    }

    fn text(&self) -> String {
        text_of(&self.events)
    }
}

fn text_of(events: &[Event]) -> String {
    let texts = events.iter().filter_map(|event| match event {
        Event::Delta { text, .. } => Some(text.as_str()),
        Event::Queued { .. }
        | Event::Assigned { .. }
        | Event::Started { .. }
        | Event::Reconnecting
        | Event::Completed { .. }
        | Event::Failed(_)
        | Event::Interrupted => None,
    });
    texts.collect()
}

fn counted(events: &[Event]) -> u32 {
    let counts = events.iter().map(|event| {
        if let Event::Delta { token_count, .. } = event {
            *token_count
        } else {
            0
        }
    });
    counts.sum()
}

fn assigned(attempt: u32, alias: u32, offset: u32) -> RelayToClient {
    RelayToClient::Assigned {
        job: JOB,
        attempt,
        alias,
        model: "m".into(),
        node: "n".into(),
        class: NodeClass::Rig,
        offset,
    }
}

fn completed(offset: u32) -> RelayToClient {
    RelayToClient::Completed {
        job: JOB,
        offset,
        finish_reason: FinishReason::Stop,
        usage: Usage::default(),
        speed: Speed::default(),
    }
}
