//! A pool without sockets: named peers, a clock that the test moves, and all that was said to whom.

use std::collections::{BTreeMap, BTreeSet};

use protocol::{
    Alias, AnswerHash, Capabilities, ChatMessage, ChatRequest, ClientToRelay, CloseCode, DeltaKind,
    ErrorCode, FinishReason, JobId, ModelOffer, NodeClass, NodeToRelay, RelayToClient, RelayToNode,
    Role, TokenFrame, TokenFrameWriter, Transcript, Usage,
};

use crate::groups::Standing;
use crate::job::Job;
use crate::models::ModelIndex;
use crate::placement::{Need, NeedSet};
use crate::registry::Node;
use crate::timers::Timer;
use crate::{
    Config, Counters, Input, Millis, ModelEntry, NodeHello, Output, Scheduler, Secret, SocketId,
    TierEntry,
};

pub(super) const MODEL: &str = "small";
pub(super) const OTHER: &str = "other";
pub(super) const TIER: &str = "light";
pub(super) const CONTEXT: u32 = 8_192;
pub(super) const BYTES: usize = 1_000;

/// Everything said on one socket since the test last looked.
#[derive(Debug, Default)]
struct Line {
    to_client: Vec<RelayToClient>,
    to_node: Vec<RelayToNode>,
    frames: Vec<Vec<u8>>,
}

pub(super) struct World {
    pub(super) scheduler: Scheduler,
    pub(super) now: Millis,
    pub(super) closed: Vec<(SocketId, CloseCode)>,
    /// The latest ticket of each job.
    pub(super) tickets: BTreeMap<JobId, String>,
    /// The ticket of each attempt.
    pub(super) node_tickets: BTreeMap<(JobId, u32), String>,
    open: BTreeMap<SocketId, Line>,
    is_checked: bool,
}

pub(super) fn config() -> Config {
    let model = |id: &str| ModelEntry {
        id: id.into(),
        class: NodeClass::Rig,
        context_tokens: CONTEXT,
    };
    Config {
        models: vec![model(MODEL), model(OTHER)],
        tiers: vec![TierEntry {
            id: TIER.into(),
            models: vec![MODEL.into(), OTHER.into()],
        }],
        grace_ms: 5_000,
        secrets: vec![Secret([9; 32])],
        ..Config::default()
    }
}

pub(super) fn job(number: u8) -> JobId {
    JobId::from_random([number; 16])
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

pub(super) fn offer(model: &str) -> ModelOffer {
    ModelOffer {
        model: model.into(),
        runtime: "llama.cpp".into(),
        context_tokens: 4_096,
        capabilities: Capabilities {
            continuation: true,
            ..Capabilities::default()
        },
        measured: None,
    }
}

pub(super) fn hello(slots: u32, models: Vec<ModelOffer>) -> NodeHello {
    NodeHello {
        name: "rig-1".into(),
        class: NodeClass::Rig,
        software: "test 1".into(),
        slots,
        models,
        announces: 0,
    }
}

pub(super) fn frame(entries: &[(Alias, u32, &[u32], &str)]) -> Vec<u8> {
    let mut writer = TokenFrameWriter::new();
    for (alias, offset, tokens, text) in entries {
        assert!(writer.push(*alias, *offset, DeltaKind::Text, tokens, text.as_bytes()));
    }
    writer.finish()
}

pub(super) const fn usage(completion_tokens: u32) -> Usage {
    Usage {
        prompt_tokens: 7,
        completion_tokens,
        cached_tokens: 0,
    }
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(config())
    }

    pub(super) fn with(config: Config) -> Self {
        Self {
            scheduler: Scheduler::new(config, [1; 32], 1_000),
            now: 1_000,
            closed: Vec::new(),
            tickets: BTreeMap::new(),
            node_tickets: BTreeMap::new(),
            open: BTreeMap::new(),
            is_checked: true,
        }
    }

    /// Without a look at every invariant after every input, for thousands of jobs.
    pub(super) fn unchecked(config: Config) -> Self {
        Self {
            is_checked: false,
            ..Self::with(config)
        }
    }

    pub(super) fn counters(&self) -> Counters {
        *self.scheduler.counters()
    }

    pub(super) fn input(&mut self, input: Input<'_>) {
        match &input {
            Input::ClientJoined { socket, .. }
            | Input::ClientRestored { socket, .. }
            | Input::NodeJoined { socket, .. }
            | Input::NodeRestored { socket, .. } => {
                self.open.insert(*socket, Line::default());
            }
            Input::ClientLeft { socket } | Input::NodeLeft { socket } => {
                self.open.remove(socket);
            }
            Input::ClientSaid { .. }
            | Input::NodeSaid { .. }
            | Input::NodeTokens { .. }
            | Input::Heard { .. }
            | Input::Tick => {}
        }
        self.scheduler.handle_input(self.now, input);
        while let Some(output) = self.scheduler.poll_output() {
            self.take(output);
        }
        if self.is_checked {
            self.check();
        }
    }

    fn take(&mut self, output: Output) {
        match output {
            Output::ToClient {
                socket,
                message: RelayToClient::Submitted { job, ticket },
            } => {
                self.line(socket);
                self.tickets.insert(job, ticket);
            }
            Output::ToClient { socket, message } => self.line(socket).to_client.push(message),
            Output::TokensToClient { socket, frame } => self.line(socket).frames.push(frame),
            Output::ToNode { socket, message } => {
                if let RelayToNode::Assign {
                    job,
                    attempt,
                    ticket,
                    ..
                } = &message
                {
                    let named = (*job, *attempt);
                    self.node_tickets.insert(named, ticket.clone());
                }
                self.line(socket).to_node.push(message);
            }
            Output::CloseClient { socket, code, .. } | Output::CloseNode { socket, code, .. } => {
                self.line(socket);
                // What was said before the close arrives before it.
                self.closed.push((socket, code));
                self.open.remove(&socket);
            }
        }
    }

    fn line(&mut self, socket: SocketId) -> &mut Line {
        self.open
            .get_mut(&socket)
            .expect("nothing is said on a socket that is not open")
    }

    pub(super) fn is_open(&self, socket: SocketId) -> bool {
        self.open.contains_key(&socket)
    }

    pub(super) fn client(&mut self, number: u32) -> SocketId {
        self.client_of(number, "local")
    }

    pub(super) fn client_of(&mut self, number: u32, account: &str) -> SocketId {
        let socket = SocketId(number);
        self.input(Input::ClientJoined {
            socket,
            account: account.into(),
        });
        self.told(socket);
        socket
    }

    pub(super) fn node(&mut self, number: u32, slots: u32) -> SocketId {
        self.node_with(number, hello(slots, vec![offer(MODEL)]))
    }

    pub(super) fn node_with(&mut self, number: u32, hello: NodeHello) -> SocketId {
        let socket = SocketId(number);
        self.input(Input::NodeJoined {
            socket,
            account: "local".into(),
            hello,
        });
        socket
    }

    pub(super) fn says(&mut self, socket: SocketId, message: ClientToRelay) {
        self.input(Input::ClientSaid {
            socket,
            message,
            bytes: BYTES,
        });
    }

    pub(super) fn submit(&mut self, socket: SocketId, number: u8) {
        self.submit_to(socket, number, MODEL, request());
    }

    pub(super) fn submit_to(
        &mut self,
        socket: SocketId,
        number: u8,
        model: &str,
        request: ChatRequest,
    ) {
        self.says(
            socket,
            ClientToRelay::Submit {
                job: job(number),
                model: model.into(),
                request: request.into(),
            },
        );
    }

    pub(super) fn node_says(&mut self, socket: SocketId, message: NodeToRelay) {
        self.input(Input::NodeSaid { socket, message });
    }

    pub(super) fn accept(&mut self, socket: SocketId, alias: Alias) {
        self.node_says(
            socket,
            NodeToRelay::Accepted {
                alias,
                prompt_tokens: 7,
                context_tokens: 4_096,
            },
        );
    }

    pub(super) fn tokens(&mut self, socket: SocketId, entries: &[(Alias, u32, &[u32], &str)]) {
        self.input(Input::NodeTokens {
            socket,
            frame: &frame(entries),
        });
    }

    pub(super) fn complete(&mut self, socket: SocketId, alias: Alias, offset: u32, tokens: u32) {
        self.node_says(
            socket,
            NodeToRelay::Completed {
                alias,
                offset,
                finish_reason: FinishReason::Stop,
                usage: usage(tokens),
            },
        );
    }

    /// The client has the end of a job too.
    pub(super) fn has_whole(&mut self, socket: SocketId, number: u8, offset: u32) {
        self.says(
            socket,
            ClientToRelay::Acknowledge {
                job: job(number),
                offset,
                whole: true,
            },
        );
    }

    pub(super) fn cancelled(&mut self, socket: SocketId, alias: Alias) {
        self.node_says(
            socket,
            NodeToRelay::Cancelled {
                alias,
                usage: usage(0),
            },
        );
    }

    /// Accepts, says "hi" with one token, and completes.
    pub(super) fn answer(&mut self, socket: SocketId, alias: Alias) {
        self.accept(socket, alias);
        self.tokens(socket, &[(alias, 0, &[5], "hi")]);
        self.complete(socket, alias, 2, 1);
    }

    /// A client takes a job up again; it has this text, of as many tokens.
    pub(super) fn resume(&mut self, socket: SocketId, number: u8, text: &str, tokens: &[u32]) {
        let ticket = self.tickets.get(&job(number)).cloned().unwrap_or_default();
        self.resume_with(socket, number, ticket, text, tokens);
    }

    pub(super) fn resume_with(
        &mut self,
        socket: SocketId,
        number: u8,
        ticket: String,
        text: &str,
        tokens: &[u32],
    ) {
        let mut transcript = Transcript::default();
        if !text.is_empty() || !tokens.is_empty() {
            transcript.push(DeltaKind::Text, tokens.iter().copied(), text.as_bytes());
        }
        self.says(
            socket,
            ClientToRelay::Resume {
                job: job(number),
                ticket,
                attempt: 1,
                offset: transcript.offset(),
                tokens: transcript.token_count(),
                hash: transcript.hash(transcript.offset()).unwrap(),
                model: MODEL.into(),
                request: request().into(),
                answer: transcript.answer(Some(MODEL)),
            },
        );
    }

    /// A node has an answer of an earlier connection: these bytes in all, those before `from` released.
    pub(super) fn announce(
        &mut self,
        socket: SocketId,
        (number, attempt): (u8, u32),
        (from, text): (u32, &str),
        ended: bool,
    ) {
        let named = (job(number), attempt);
        let ticket = self.node_tickets.get(&named).cloned().unwrap_or_default();
        let released = text.get(..from as usize).unwrap_or_default();
        self.node_says(
            socket,
            NodeToRelay::Announce {
                job: job(number),
                attempt,
                ticket,
                from,
                hash: AnswerHash::of(released.as_bytes()),
                offset: u32::try_from(text.len()).unwrap(),
                ended,
            },
        );
    }

    /// The relay loses its memory; tickets are still good.
    pub(super) fn restart(&mut self) {
        self.restart_with(config());
    }

    pub(super) fn restart_with(&mut self, config: Config) {
        self.scheduler = Scheduler::new(config, [2; 32], self.now);
        self.open.clear();
        self.closed.clear();
    }

    /// Moves the clock, ticking where the scheduler wants it.
    pub(super) fn advance(&mut self, ms: Millis) {
        let end = self.now + ms;
        while let Some(due) = self.scheduler.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.input(Input::Tick);
        }
        self.now = end;
    }

    /// What a client was told since the last look.
    pub(super) fn told(&mut self, socket: SocketId) -> Vec<RelayToClient> {
        self.open
            .get_mut(&socket)
            .map(|line| std::mem::take(&mut line.to_client))
            .unwrap_or_default()
    }

    /// What a node was told since the last look.
    pub(super) fn ordered(&mut self, socket: SocketId) -> Vec<RelayToNode> {
        self.open
            .get_mut(&socket)
            .map(|line| std::mem::take(&mut line.to_node))
            .unwrap_or_default()
    }

    pub(super) fn frames(&mut self, socket: SocketId) -> Vec<Vec<u8>> {
        self.open
            .get_mut(&socket)
            .map(|line| std::mem::take(&mut line.frames))
            .unwrap_or_default()
    }

    /// The text in the frames that a client got since the last look.
    pub(super) fn text(&mut self, socket: SocketId) -> String {
        let frames = self.frames(socket);
        frames
            .iter()
            .flat_map(|frame| TokenFrame::decode(frame).unwrap().entries())
            .map(|entry| String::from_utf8(entry.bytes.to_vec()).unwrap())
            .collect()
    }

    /// Jobs that a node was given since the last look; other orders are forgotten.
    pub(super) fn assigned(&mut self, socket: SocketId) -> Vec<(JobId, Alias)> {
        self.ordered(socket)
            .into_iter()
            .filter_map(|message| {
                let RelayToNode::Assign { job, alias, .. } = message else {
                    return None;
                };
                Some((job, alias))
            })
            .collect()
    }

    /// The only job that a node was given since the last look.
    pub(super) fn only_assigned(&mut self, socket: SocketId) -> Alias {
        let assigned = self.assigned(socket);
        assert_eq!(assigned.len(), 1, "{assigned:?}");
        assigned[0].1
    }

    /// The failures that a client was told since the last look.
    pub(super) fn failures(&mut self, socket: SocketId) -> Vec<(JobId, ErrorCode)> {
        self.told(socket)
            .into_iter()
            .filter_map(|message| {
                let RelayToClient::Failed { job, failure } = message else {
                    return None;
                };
                Some((job, failure.code))
            })
            .collect()
    }

    /// The places that a client was told since the last look.
    pub(super) fn places(&mut self, socket: SocketId) -> Vec<(JobId, u32, u32)> {
        self.told(socket)
            .into_iter()
            .filter_map(|message| {
                let RelayToClient::Queued {
                    job,
                    position,
                    nodes,
                    ..
                } = message
                else {
                    return None;
                };
                Some((job, position, nodes))
            })
            .collect()
    }

    /// Whether nothing is left of any job.
    pub(super) fn is_clean(&self) -> bool {
        let s = &self.scheduler;
        s.jobs.is_empty()
            && s.attempts.is_empty()
            && s.finished.is_empty()
            && s.content_bytes == 0
            && s.finished_bytes == 0
            && !s.is_busy()
    }

    /// Every invariant of the scheduler.
    fn check(&self) {
        let s = &self.scheduler;
        self.check_nodes();
        self.check_timers();
        let content: usize = s
            .jobs
            .values()
            .map(|job| job.bytes + job.transcript_bytes)
            .sum();
        let finished = s.finished.values().map(|kept| kept.transcript_bytes);
        assert_eq!(finished.sum::<usize>(), s.finished_bytes, "finished bytes");
        assert_eq!(s.finished.len(), s.finished_order.len());
        assert!(
            s.finished_bytes == 0
                || s.content_bytes + s.finished_bytes <= s.config.content_bytes_max
        );
        let reserved: usize = s.clients.values().map(|client| client.reserved).sum();
        assert_eq!(content + reserved, s.content_bytes, "content bytes");
        let waiting = s.jobs.values().filter(|job| is_waiting(job)).count();
        assert_eq!(waiting, s.waiting, "jobs that wait");
        for (index, model) in s.models.iter() {
            assert_eq!(model.next_ready(), None, "work conservation");
            let order = model.queue.order(NeedSet::ALL);
            let queued: BTreeSet<JobId> = order.map(|(_, id)| id).collect();
            let stands = |job: &Job| is_waiting(job) && job.choices.contains(&index);
            let expected = s.jobs.iter().filter(|(_, job)| stands(job));
            let expected: BTreeSet<JobId> = expected.map(|(id, _)| *id).collect();
            assert_eq!(queued, expected, "lines");
        }
        self.check_work_conservation();
        self.check_places();
        for (id, job) in &s.jobs {
            if let Some(alias) = job.alias {
                assert_eq!(s.attempts[&alias].job, Some(*id), "job and attempt");
            }
            if let Some(owner) = job.owner {
                assert!(s.clients[&owner].jobs.contains(id), "job and client");
            }
        }
        let owned: usize = s.clients.values().map(|client| client.jobs.len()).sum();
        let with_owner = s.jobs.values().filter(|job| job.owner.is_some()).count();
        assert_eq!(owned, with_owner);
        let unacknowledged: usize = s.clients.values().map(|c| c.finished.len()).sum();
        let owned = s.finished.values().filter(|f| f.owner.is_some()).count();
        assert_eq!(unacknowledged, owned);
        let c = s.counters();
        let ended = c.completed + c.failed + c.cancelled;
        assert_eq!(
            c.submitted + c.rebuilt,
            ended + s.jobs.len() as u64,
            "every job ends once"
        );
    }

    /// Who is near the head of all its lines knows its place; who does not know it will be told.
    fn check_places(&self) {
        let s = &self.scheduler;
        for job in s.jobs.values().filter(|job| is_waiting(job)) {
            let rank = |place: crate::job::Place| (place.model, place.position, place.has_nodes);
            let is_told = job.told.map(rank) == s.place_of(job).map(rank);
            let is_near = job.choices.iter().all(|choice| {
                let ahead = s.those_ahead(*choice, job.need);
                let position = s.models[*choice].queue.place(job.ticket, ahead);
                position as usize <= s.config.places_told_at_once
            });
            assert!(
                job.told.is_some() && (is_told || !is_near),
                "places {:?} {:?}",
                job.told,
                s.place_of(job)
            );
            let mut tails = job.choices.iter().map(|model| Timer::Places(*model));
            assert!(
                is_told || tails.any(|tail| s.timers.at(tail).is_some()),
                "tails"
            );
        }
    }

    /// By the nodes alone, whatever the queues and sets say: no node has a free slot for a job that waits.
    fn check_work_conservation(&self) {
        let s = &self.scheduler;
        for job in s.jobs.values().filter(|job| is_waiting(job)) {
            assert!(!job.choices.is_empty());
            for node in s.nodes.values() {
                let can = |choice: &ModelIndex| self.could_take(node, *choice, job.need);
                assert!(!job.choices.iter().any(can), "work conservation");
            }
        }
    }

    /// Whether a node does such work at all; suspects do where nobody else does.
    fn does(node: &Node, model: ModelIndex, need: Need) -> bool {
        let offer = node.offers.get(model);
        !node.draining
            && node.arriving == 0
            && offer.is_some_and(|offer| need.is_within(Need::met_by(offer.capabilities)))
    }

    fn could_take(&self, node: &Node, model: ModelIndex, need: Need) -> bool {
        let s = &self.scheduler;
        let trust = |node: &Node| s.karma.trust(node.karma, s.now, &s.config);
        let is_trusted = |node: &Node| trust(node).standing != Standing::Suspect;
        let mut others = s.nodes.values();
        let is_wanted = is_trusted(node)
            || !others.any(|other| Self::does(other, model, need) && is_trusted(other));
        let has_none = node.slots.free() == node.slots.total();
        let is_free = node.slots.free() > 0 && (has_none || !trust(node).is_single);
        Self::does(node, model, need) && is_wanted && is_free
    }

    /// Everything that must end by itself has a timer, and nothing else has.
    fn check_timers(&self) {
        let s = &self.scheduler;
        let orphans = s.jobs.iter().filter(|(_, job)| job.owner.is_none());
        let mut expected: Vec<Timer> = s
            .attempts
            .keys()
            .map(|alias| Timer::Attempt(*alias))
            .collect();
        expected.extend(orphans.map(|(id, _)| Timer::Grace(*id)));
        expected.extend(s.finished.keys().map(|id| Timer::Finished(*id)));
        expected.extend(s.announced.keys().map(|id| Timer::Announced(*id)));
        let held = s.jobs.iter().filter(|(_, job)| job.is_held);
        expected.extend(held.map(|(id, _)| Timer::Held(*id)));
        let begun = s.jobs.iter();
        let begun = begun.filter(|(_, job)| is_waiting(job) && job.has_begun());
        expected.extend(begun.map(|(id, _)| Timer::Stranded(*id)));
        let slow = s.jobs.iter().filter(|(_, job)| job.slow.is_some());
        expected.extend(slow.map(|(id, _)| Timer::SlowReader(*id)));
        let clients = s.clients.iter();
        let watched = clients.filter(|(_, client)| client.has_heartbeat);
        let peers = s.nodes.keys().chain(watched.map(|(socket, _)| socket));
        expected.extend(peers.map(|peer| Timer::Silence(*peer)));
        let trust = |node: &Node| s.karma.trust(node.karma, s.now, &s.config);
        let nodes = s.nodes.iter();
        let held = nodes.filter(|(_, node)| trust(node).until.is_some());
        expected.extend(held.map(|(socket, _)| Timer::Quarantine(*socket)));
        expected.sort_unstable();
        let is_tail = |timer: &Timer| matches!(timer, Timer::Places(_));
        let (tails, others): (Vec<Timer>, Vec<Timer>) = s.timers.subjects().partition(is_tail);
        assert_eq!(others, expected, "timers");
        for (index, model) in s.models.iter() {
            let is_told = model.queue.len() > 0;
            assert!(is_told || !tails.contains(&Timer::Places(index)));
        }
    }

    fn check_nodes(&self) {
        let s = &self.scheduler;
        for (socket, node) in &s.nodes {
            let held = u32::try_from(node.attempts.len()).unwrap();
            let slotless = node
                .attempts
                .iter()
                .filter(|alias| s.attempts[alias].slot.is_none());
            let slotless = u32::try_from(slotless.count()).unwrap();
            let kept = s.announced.values().filter(|kept| kept.node == *socket);
            let kept = u32::try_from(kept.filter(|kept| kept.slot.is_some()).count()).unwrap();
            assert_eq!(
                held - slotless + kept + node.slots.free(),
                node.slots.total(),
                "slots"
            );
            for alias in &node.attempts {
                assert_eq!(s.attempts[alias].node, *socket);
            }
        }
        let held: usize = s.nodes.values().map(|node| node.attempts.len()).sum();
        assert_eq!(held, s.attempts.len(), "attempts are on nodes");
        for (index, model) in s.models.iter() {
            for need in needs() {
                let mut nodes = s.nodes.values();
                let any = nodes.clone().any(|node| Self::does(node, index, need));
                let free = nodes.any(|node| self.could_take(node, index, need));
                assert_eq!(model.can(need), any, "who offers it");
                assert_eq!(model.is_free(need), free, "who is free");
            }
        }
    }
}

/// Every combination of grammar and log-probabilities, begun or not.
fn needs() -> impl Iterator<Item = Need> {
    [(false, false), (true, false), (false, true), (true, true)]
        .into_iter()
        .map(|(grammar, logprobs)| {
            Need::met_by(Capabilities {
                grammar,
                logprobs,
                ..Capabilities::default()
            })
        })
        .flat_map(|need| [need, need.with_continuation()])
}

fn is_waiting(job: &Job) -> bool {
    job.alias.is_none() && !job.is_held
}
