//! What an onlooker at the relay's sockets knows: who is there, who tries what, and how far each answer is. Kept from what
//! goes in and out alone, so that it can be held against what the relay says of itself.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use protocol::{
    Alias, ClientToRelay, ErrorCode, JobId, NodeToRelay, RelayToClient, RelayToNode, TokenFrame,
};
use scheduler::{Output, SocketId};

use crate::Millis;
use crate::observation::Observation;
use crate::scenario::{Lie, Scenario};

/// A node's socket.
#[derive(Debug)]
pub(crate) struct NodeView {
    pub(crate) node: usize,
    pub(crate) heard_at: Millis,
    /// Attempts that hold a slot.
    pub(crate) holding: BTreeSet<Alias>,
    /// Announced running attempts that were neither adopted nor fenced.
    pub(crate) announced: BTreeMap<(JobId, u32), bool>,
    /// Announcements that it promised and has yet to make.
    pub(crate) arriving: u32,
}

/// An attempt.
#[derive(Debug, Clone)]
pub(crate) struct AttemptView {
    pub(crate) job: JobId,
    pub(crate) socket: SocketId,
    pub(crate) node: usize,
    pub(crate) model: Option<String>,
    pub(crate) progress_at: Millis,
    pub(crate) is_accepted: bool,
    pub(crate) prefilled: u32,
    pub(crate) offset: u32,
    pub(crate) start: u32,
    /// Told to stop.
    pub(crate) is_stopping: bool,
}

/// A job.
#[derive(Debug, Default, Clone)]
pub(crate) struct JobView {
    /// The relay of this life knows it.
    pub(crate) is_known: bool,
    pub(crate) owner: Option<SocketId>,
    pub(crate) running: Option<Alias>,
    /// The furthest byte that any node's frames that the relay took have brought.
    pub(crate) delivered: u32,
    pub(crate) acknowledged: u32,
    /// A node lied about its bytes or its end.
    pub(crate) has_false_bytes: bool,
    /// A node lied about its tokens.
    pub(crate) has_false_tokens: bool,
    /// Nodes that had it, one for each attempt.
    pub(crate) attempts: BTreeMap<u32, BTreeSet<usize>>,
    /// Models that took part.
    pub(crate) models: BTreeSet<String>,
}

/// All of it.
#[derive(Debug)]
pub(crate) struct Shadow {
    scenario: Rc<Scenario>,
    pub(crate) nodes: BTreeMap<SocketId, NodeView>,
    pub(crate) clients: BTreeMap<SocketId, usize>,
    pub(crate) attempts: BTreeMap<Alias, AttemptView>,
    pub(crate) jobs: BTreeMap<JobId, JobView>,
    node_tickets: Vec<Vec<(JobId, u32, String)>>,
    client_tickets: BTreeMap<JobId, String>,
    left: Option<(SocketId, usize)>,
    /// What a client said that it has as it came back; counts once the relay takes it in.
    resuming: BTreeMap<(SocketId, JobId), u32>,
}

impl Shadow {
    pub(crate) fn new(scenario: Rc<Scenario>) -> Self {
        Self {
            node_tickets: vec![Vec::new(); scenario.nodes.len()],
            scenario,
            nodes: BTreeMap::new(),
            clients: BTreeMap::new(),
            attempts: BTreeMap::new(),
            jobs: BTreeMap::new(),
            client_tickets: BTreeMap::new(),
            left: None,
            resuming: BTreeMap::new(),
        }
    }

    /// Genuine tickets of a node, the oldest first.
    pub(crate) fn node_tickets_of(
        &self,
        node: usize,
    ) -> impl DoubleEndedIterator<Item = &(JobId, u32, String)> {
        self.node_tickets[node].iter()
    }

    pub(crate) fn any_node_ticket(&self) -> Option<String> {
        let mut tickets = self.node_tickets.iter().flatten();
        tickets.next_back().map(|(_, _, ticket)| ticket.clone())
    }

    pub(crate) fn client_ticket(&self, job: JobId) -> Option<String> {
        self.client_tickets.get(&job).cloned()
    }

    /// Running attempts of other nodes, and where their streams stand.
    pub(crate) fn running_elsewhere(&self, node: usize) -> Vec<(Alias, u32)> {
        let attempts = self.attempts.iter();
        attempts
            .filter(|(_, attempt)| attempt.node != node)
            .map(|(alias, attempt)| (*alias, attempt.offset))
            .collect()
    }

    /// Whose socket that was which has just been lost.
    pub(crate) fn left_now(&self, socket: SocketId) -> Option<usize> {
        self.left
            .filter(|(left, _)| *left == socket)
            .map(|(_, client)| client)
    }

    pub(crate) fn job(&self, job: JobId) -> Option<&JobView> {
        self.jobs.get(&job)
    }

    /// Takes in what was seen. The judges see it afterwards, with this brought up to date.
    pub(crate) fn see(&mut self, now: Millis, what: &Observation<'_>) {
        match what {
            Observation::RelayStarts | Observation::RelayDies => self.forget(),
            Observation::ClientJoins { socket, client, .. } => {
                self.clients.insert(*socket, *client);
            }
            Observation::NodeJoins {
                socket,
                node,
                announces,
            } => {
                let view = NodeView {
                    arriving: *announces,
                    node: *node,
                    heard_at: now,
                    holding: BTreeSet::new(),
                    announced: BTreeMap::new(),
                };
                self.nodes.insert(*socket, view);
            }
            Observation::SocketLeaves { socket } => self.socket_leaves(*socket),
            Observation::ClientSaid { socket, message } => self.client_said(*socket, message),
            Observation::NodeSaid { socket, message } => self.node_said(now, *socket, message),
            Observation::NodeTokens { socket, frame } => self.node_tokens(now, *socket, frame),
            Observation::RelaySays(output) => self.relay_says(now, output),
            Observation::UserAsks { job } => {
                self.jobs.entry(*job).or_default();
            }
            _ => {}
        }
    }

    fn forget(&mut self) {
        self.nodes.clear();
        self.clients.clear();
        self.attempts.clear();
        for job in self.jobs.values_mut() {
            job.is_known = false;
            job.owner = None;
            job.running = None;
        }
    }

    fn socket_leaves(&mut self, socket: SocketId) {
        self.left = self.clients.remove(&socket).map(|client| (socket, client));
        for job in self.jobs.values_mut() {
            if job.owner == Some(socket) {
                job.owner = None;
            }
        }
        if self.nodes.remove(&socket).is_some() {
            let gone = self.attempts.iter();
            let gone: Vec<Alias> = gone
                .filter(|(_, attempt)| attempt.socket == socket)
                .map(|(alias, _)| *alias)
                .collect();
            for alias in gone {
                self.end_attempt(alias);
            }
        }
    }

    fn end_attempt(&mut self, alias: Alias) {
        let Some(attempt) = self.attempts.remove(&alias) else {
            return;
        };
        if let Some(node) = self.nodes.get_mut(&attempt.socket) {
            node.holding.remove(&alias);
        }
        if let Some(job) = self.jobs.get_mut(&attempt.job)
            && job.running == Some(alias)
        {
            job.running = None;
        }
    }

    fn client_said(&mut self, socket: SocketId, message: &ClientToRelay) {
        match message {
            ClientToRelay::Acknowledge { job, offset, .. } => {
                if let Some(job) = self.jobs.get_mut(job)
                    && job.owner == Some(socket)
                {
                    job.acknowledged = job.acknowledged.max(*offset);
                }
            }
            // What counts is whether the relay says that it is taken in.
            ClientToRelay::Resume { job, offset, .. } => {
                self.resuming.insert((socket, *job), *offset);
            }
            ClientToRelay::Submit { .. }
            | ClientToRelay::Hello { .. }
            | ClientToRelay::Cancel { .. }
            | ClientToRelay::Ping
            | ClientToRelay::Unknown => {}
        }
    }

    fn node_said(&mut self, now: Millis, socket: SocketId, message: &NodeToRelay) {
        let Some(node) = self.nodes.get_mut(&socket) else {
            return;
        };
        node.heard_at = now;
        match message {
            NodeToRelay::Announce {
                job,
                attempt,
                ended,
                ..
            } => {
                node.arriving = node.arriving.saturating_sub(1);
                node.announced.insert((*job, *attempt), *ended);
            }
            NodeToRelay::Accepted { alias, .. } => {
                if let Some(attempt) = self.attempt_of(socket, *alias) {
                    attempt.progress_at = now;
                    attempt.is_accepted = true;
                }
            }
            NodeToRelay::Progress {
                alias,
                prefilled_tokens,
            } => {
                if let Some(attempt) = self.attempt_of(socket, *alias)
                    && *prefilled_tokens > attempt.prefilled
                {
                    attempt.prefilled = *prefilled_tokens;
                    attempt.progress_at = now;
                }
            }
            NodeToRelay::Completed { alias, .. }
            | NodeToRelay::Failed { alias, .. }
            | NodeToRelay::Cancelled { alias, .. } => {
                if self.attempt_of(socket, *alias).is_some() {
                    self.end_attempt(*alias);
                }
            }
            NodeToRelay::Hello { .. }
            | NodeToRelay::PromptChecked { .. }
            | NodeToRelay::Cached { .. }
            | NodeToRelay::Draining
            | NodeToRelay::Ping
            | NodeToRelay::Unknown => {}
        }
    }

    fn attempt_of(&mut self, socket: SocketId, alias: Alias) -> Option<&mut AttemptView> {
        let attempt = self.attempts.get_mut(&alias);
        attempt.filter(|attempt| attempt.socket == socket)
    }

    fn node_tokens(&mut self, now: Millis, socket: SocketId, frame: &[u8]) {
        if let Some(node) = self.nodes.get_mut(&socket) {
            node.heard_at = now;
        }
        let Ok(frame) = TokenFrame::decode(frame) else {
            return;
        };
        for entry in frame.entries() {
            let Some(attempt) = self.attempt_of(socket, entry.alias) else {
                continue;
            };
            let fits = attempt.is_accepted && entry.offset == attempt.offset;
            if let (true, false, Some(end)) = (fits, attempt.is_stopping, entry.end_offset()) {
                attempt.offset = end;
                attempt.progress_at = now;
                let (id, model) = (attempt.job, attempt.model.clone());
                if let Some(job) = self.jobs.get_mut(&id) {
                    job.delivered = job.delivered.max(end);
                    job.models.extend(model);
                }
            }
        }
    }

    fn relay_says(&mut self, now: Millis, output: &Output) {
        match output {
            Output::ToClient { socket, message } => self.relay_tells_client(*socket, message),
            Output::ToNode { socket, message } => self.relay_tells_node(now, *socket, message),
            Output::CloseClient { socket, .. } | Output::CloseNode { socket, .. } => {
                self.socket_leaves(*socket);
            }
            Output::TokensToClient { .. } => {}
        }
    }

    fn relay_tells_client(&mut self, socket: SocketId, message: &RelayToClient) {
        match message {
            RelayToClient::Submitted { job, ticket } => {
                self.client_tickets.insert(*job, ticket.clone());
                let has = self.resuming.remove(&(socket, *job)).unwrap_or(0);
                let job = self.jobs.entry(*job).or_default();
                job.is_known = true;
                job.owner = Some(socket);
                job.acknowledged = job.acknowledged.max(has);
            }
            RelayToClient::Completed { job, .. } => self.job_ends(*job),
            RelayToClient::Failed { job, failure } => match failure.code {
                // Said to one who has no such job; the job itself may go on.
                ErrorCode::UnknownJob | ErrorCode::DuplicateJob => {}
                _ended => self.job_ends(*job),
            },
            RelayToClient::Welcome { .. }
            | RelayToClient::Queued { .. }
            | RelayToClient::Assigned { .. }
            | RelayToClient::Started { .. }
            | RelayToClient::Refused { .. }
            | RelayToClient::Pong
            | RelayToClient::Unknown => {}
        }
    }

    fn job_ends(&mut self, job: JobId) {
        if let Some(job) = self.jobs.get_mut(&job) {
            job.is_known = false;
            job.running = None;
        }
    }

    fn relay_tells_node(&mut self, now: Millis, socket: SocketId, message: &RelayToNode) {
        match message {
            RelayToNode::Assign {
                job,
                attempt,
                alias,
                model,
                ticket,
                answer,
                ..
            } => {
                let start = answer.as_ref().map_or(0, protocol::Answer::bytes);
                let start = u32::try_from(start).unwrap_or(u32::MAX);
                let model = Some(model.clone());
                let ticket = Some(ticket.clone());
                self.begins(now, socket, *alias, (*job, *attempt), start, model, ticket);
            }
            RelayToNode::Adopt {
                job,
                attempt,
                alias,
                offset,
                ..
            } => {
                let model = self.scenario_model(*job);
                self.begins(now, socket, *alias, (*job, *attempt), *offset, model, None);
            }
            RelayToNode::Fence { job, attempt, .. } => {
                if let Some(node) = self.nodes.get_mut(&socket) {
                    node.announced.remove(&(*job, *attempt));
                }
            }
            RelayToNode::Cancel { alias } => {
                if let Some(attempt) = self.attempts.get_mut(alias) {
                    attempt.is_stopping = true;
                    let job = attempt.job;
                    if let Some(job) = self.jobs.get_mut(&job)
                        && job.running == Some(*alias)
                    {
                        job.running = None;
                    }
                }
            }
            RelayToNode::Welcome { .. }
            | RelayToNode::Merge { .. }
            | RelayToNode::CheckPrompt { .. }
            | RelayToNode::Acknowledge { .. }
            | RelayToNode::Refused { .. }
            | RelayToNode::Pong
            | RelayToNode::Unknown => {}
        }
    }

    /// An adopted attempt's model is not said; which it was does not matter but for who took part.
    fn scenario_model(&self, job: JobId) -> Option<String> {
        self.jobs
            .get(&job)
            .and_then(|job| job.models.iter().next().cloned())
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of two messages")]
    fn begins(
        &mut self,
        now: Millis,
        socket: SocketId,
        alias: Alias,
        (id, number): (JobId, u32),
        start: u32,
        model: Option<String>,
        ticket: Option<String>,
    ) {
        let Some(view) = self.nodes.get_mut(&socket) else {
            return;
        };
        let node = view.node;
        let has_ended = view.announced.remove(&(id, number)).unwrap_or(false);
        if !has_ended {
            view.holding.insert(alias);
        }
        // An adopted attempt leaves its name on the dead socket.
        let job = self.jobs.entry(id).or_default();
        let before = job.running.replace(alias);
        job.attempts.entry(number).or_default().insert(node);
        match self.scenario.nodes[node].lie {
            Some(Lie::Text | Lie::EarlyEnd) => {
                job.has_false_bytes = true;
                job.has_false_tokens = true;
            }
            Some(_) => job.has_false_tokens = true,
            None => {}
        }
        if let Some(before) = before {
            self.end_attempt(before);
        }
        if let Some(ticket) = ticket {
            self.node_tickets[node].push((id, number, ticket));
        }
        let attempt = AttemptView {
            job: id,
            socket,
            node,
            model,
            progress_at: now,
            is_accepted: false,
            prefilled: 0,
            offset: start,
            start,
            is_stopping: false,
        };
        self.attempts.insert(alias, attempt);
        if let Some(job) = self.jobs.get_mut(&id) {
            job.running = Some(alias);
        }
    }
}
