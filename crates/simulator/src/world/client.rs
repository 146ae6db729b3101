//! A client's machine: a real session, a user who asks and stops, a heartbeat as a page has it.

use std::collections::VecDeque;

use client_session::{ClientSession, Input, Output, Settings};
use protocol::chat::{ChatMessage, ResponseFormat};
use protocol::{ChatRequest, JobRequest, PING, Role};

use crate::network::{ConnId, End, Message};
use crate::observation::Observation;
use crate::scenario::{JobPlan, Scenario, Skew};
use crate::world::wires::ABNORMAL;
use crate::world::{Event, World};
use crate::{Millis, Mode};

/// A client asks for nothing for longer than anything here takes.
const GIVE_UP_MS: Millis = 30 * 60 * 1_000;

/// A machine.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) session: Option<ClientSession>,
    pub(crate) conn: Option<ConnId>,
    pub(crate) is_intruder: bool,
    pub(crate) is_gone: bool,
    pub(crate) is_stalled: bool,
    pub(crate) reads_per_ms: u64,
    pub(crate) parted_until: Millis,
    heartbeat_ms: Millis,
    heard_at: Millis,
    tick_at: Option<Millis>,
    skew: Skew,
    pub(crate) inbox: VecDeque<Event>,
}

impl Client {
    pub(crate) fn all(scenario: &Scenario) -> Vec<Self> {
        let clients = scenario.clients.iter();
        clients
            .map(|plan| Self {
                session: None,
                conn: None,
                is_intruder: plan.is_intruder,
                is_gone: false,
                is_stalled: false,
                reads_per_ms: 0,
                parted_until: 0,
                heartbeat_ms: match scenario.mode {
                    Mode::Quick => 3_000,
                    Mode::Default => 25_000,
                },
                heard_at: 0,
                tick_at: None,
                skew: plan.skew,
                inbox: VecDeque::new(),
            })
            .collect()
    }
}

impl World {
    const fn peer_of_client(&self, client: usize) -> usize {
        self.nodes.len() + client
    }

    /// The page is opened.
    pub(crate) fn client_starts(&mut self, client: usize) {
        let peer = self.peer_of_client(client);
        let machine = &mut self.clients[client];
        if !machine.is_intruder {
            machine.session = Some(ClientSession::new(Settings {
                seed: client as u64 + 1,
                stays: true,
                give_up_ms: GIVE_UP_MS,
            }));
        }
        let conn = self.dial(peer);
        self.clients[client].conn = Some(conn);
        if self.clients[client].is_intruder {
            self.after(1_000, Event::Intrude { client });
        }
    }

    /// The page is closed for good.
    pub(crate) fn client_dies(&mut self, client: usize) {
        let machine = &mut self.clients[client];
        if machine.is_intruder || machine.is_gone {
            return;
        }
        machine.is_gone = true;
        machine.session = None;
        machine.inbox.clear();
        if let Some(conn) = machine.conn.take() {
            self.abandon(conn, false);
        }
        self.trace
            .line(self.now, || format!("client {client} is gone"));
        self.see(&Observation::ClientGoes { client });
    }

    pub(crate) fn user_asks(&mut self, number: usize) {
        let scenario = std::rc::Rc::clone(&self.scenario);
        let plan = &scenario.jobs[number];
        if self.clients[plan.client].is_gone {
            return;
        }
        self.trace.event(self.now, 10, number as u64, &[]);
        self.trace.line(self.now, || {
            format!("client {} asks for {}", plan.client, plan.id)
        });
        self.see(&Observation::UserAsks { job: plan.id });
        let input = Input::Submit {
            job: plan.id,
            model: plan.model.into(),
            request: Box::new(request(plan)),
        };
        self.client_input(plan.client, input);
    }

    pub(crate) fn user_stops(&mut self, number: usize) {
        let plan = &self.scenario.jobs[number];
        let (client, job) = (plan.client, plan.id);
        self.see(&Observation::UserStops { job });
        self.client_input(client, Input::Cancel { job });
    }

    pub(crate) fn client_connected(&mut self, client: usize, conn: ConnId) {
        if self.clients[client].conn != Some(conn) {
            return;
        }
        let machine = &mut self.clients[client];
        machine.heard_at = self.now;
        let beat = machine.heartbeat_ms;
        self.after(beat, Event::Heartbeat { conn });
        self.client_input(client, Input::Connected { key: None });
    }

    /// A page pings, and gives up a line on which nothing comes back.
    pub(crate) fn client_beats(&mut self, conn: ConnId) {
        let client = self.conns[conn.0].peer - self.nodes.len();
        let machine = &self.clients[client];
        if machine.conn != Some(conn) {
            return;
        }
        let beat = machine.heartbeat_ms;
        if self.now > machine.heard_at + 2 * beat {
            self.clients[client].conn = None;
            self.hang_up(conn, End::Peer, 1000);
            self.client_lost(client, ABNORMAL);
            return;
        }
        self.send(conn, End::Relay, Message::Text(PING.into()));
        self.after(beat, Event::Heartbeat { conn });
    }

    pub(crate) fn client_loses(&mut self, client: usize, conn: ConnId, code: u16) {
        if self.clients[client].conn != Some(conn) {
            return;
        }
        self.clients[client].conn = None;
        self.see(&Observation::ClientCut { client, code });
        self.client_lost(client, code);
    }

    fn client_lost(&mut self, client: usize, code: u16) {
        if self.clients[client].is_intruder {
            let peer = self.peer_of_client(client);
            let conn = self.dial(peer);
            self.clients[client].conn = Some(conn);
            return;
        }
        self.client_input(client, Input::Closed { code });
    }

    pub(crate) fn client_hears(&mut self, client: usize, conn: ConnId, message: &Message) {
        if self.clients[client].conn != Some(conn) {
            return;
        }
        self.clients[client].heard_at = self.now;
        let hears = Observation::ClientHears { client, message };
        self.judge.see(self.now, &hears);
        match message {
            Message::Text(text) => self.client_input(client, Input::Text(text)),
            Message::Binary(frame) => self.client_input(client, Input::Binary(frame)),
        }
    }

    fn client_input(&mut self, client: usize, input: Input<'_>) {
        let machine = &mut self.clients[client];
        let now = machine.skew.local(self.now);
        let Some(session) = &mut machine.session else {
            return;
        };
        session.handle_input(now, input);
        while let Some(output) = self.clients[client]
            .session
            .as_mut()
            .and_then(ClientSession::poll_output)
        {
            self.client_acts(client, output);
        }
        self.arm_client(client);
    }

    fn client_acts(&mut self, client: usize, output: Output) {
        match output {
            Output::Connect => {
                if let Some(conn) = self.clients[client].conn.take() {
                    self.hang_up(conn, End::Peer, 1000);
                }
                let conn = self.dial(self.peer_of_client(client));
                self.clients[client].conn = Some(conn);
            }
            Output::Send(text) => {
                if let Some(conn) = self.clients[client].conn {
                    self.send(conn, End::Relay, Message::Text(text));
                }
            }
            Output::Welcomed { .. } => {}
            Output::Refused(failure) => self.see(&Observation::ClientRefused {
                client,
                failure: &failure,
            }),
            Output::Event { job, event } => {
                self.trace
                    .line(self.now, || format!("client {client}: {job} {event:?}"));
                self.see(&Observation::UserHears {
                    client,
                    job,
                    event: &event,
                });
            }
        }
    }

    pub(crate) fn client_ticks(&mut self, client: usize) {
        let machine = &mut self.clients[client];
        let Some(due) = machine.tick_at.take() else {
            return;
        };
        if due > self.now {
            machine.tick_at = Some(due);
            return;
        }
        self.client_input(client, Input::Tick);
    }

    fn arm_client(&mut self, client: usize) {
        let peer = self.peer_of_client(client);
        let machine = &mut self.clients[client];
        let Some(due) = machine
            .session
            .as_ref()
            .and_then(ClientSession::poll_timeout)
        else {
            return;
        };
        let at = machine.skew.world(due).max(self.now);
        if machine.tick_at.is_none_or(|tick_at| at < tick_at) {
            machine.tick_at = Some(at);
            self.at(at, Event::PeerTick { peer });
        }
    }
}

/// What the user asks: its text says nothing, since the fake engine knows the script.
pub(crate) fn request(plan: &JobPlan) -> JobRequest {
    let mut request = ChatRequest {
        messages: vec![ChatMessage {
            role: Role::User,
            content: "Say your script.".into(),
            ..ChatMessage::default()
        }],
        max_tokens: plan.shape.max_tokens,
        top_logprobs: plan.shape.has_logprobs.then_some(1),
        ..ChatRequest::default()
    };
    match plan.need {
        1 => request.sampling.seed = Some(7),
        2 => request.sampling.frequency_penalty = Some(0.5),
        3 => request.response_format = ResponseFormat::JsonObject,
        _ => {}
    }
    request.into()
}
